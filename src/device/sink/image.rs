//! An image file that exists, as a target: parts of it are written anew.

use super::Opened;
use crate::device::Sink;
use crate::device::guard::System;
use crate::error::{Error, Result};
use rustix::fs::{FallocateFlags, FlockOperation, flock};
use std::fs::File;
use std::path::Path;

/// A disk image that is written in place, by this run alone.
pub struct ImageSink(Opened);

impl ImageSink {
    /// Opens a regular file that nothing uses (a loop device, another run).
    pub fn open(path: &Path, sector_size: u32) -> Result<Self> {
        let name = path.display().to_string();
        let fail = |e| Error::io("Cannot open the target for writing", e).of(&*name);
        System::read()?.check_target(path)?;
        let file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(fail)?;
        let meta = file.metadata().map_err(fail)?;
        if !meta.is_file() {
            return Err(Error::usage("Not a regular file").of(name));
        }
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Error::refused("Another run is writing this file now").of(name));
        }
        Ok(Self(Opened::new(file, meta.len(), sector_size, name)))
    }
}

impl Sink for ImageSink {
    fn len(&self) -> u64 {
        self.0.len
    }
    fn sector_size(&self) -> u32 {
        self.0.sector_size
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.0.touch(offset, data.len())?;
        self.0.write(offset, data)
    }
    fn zero_at(&self, offset: u64, len: u64) -> Result<()> {
        let range = self.0.range(offset, len)?;
        match range.is_empty() || self.0.zeroed_by(FallocateFlags::PUNCH_HOLE, range) {
            true => Ok(()),
            false => self.0.write_zeros(range),
        }
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.0.read(offset, buf)
    }
    fn sync(&self) -> Result<()> {
        self.0.sync()
    }
    fn name(&self) -> &str {
        &self.0.name
    }
    fn is_fresh(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_written_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.img");
        assert!(ImageSink::open(&path, 512).is_err());
        std::fs::write(&path, [7; 1 << 16]).unwrap();
        let s = ImageSink::open(&path, 512).unwrap();
        assert!(ImageSink::open(&path, 512).is_err(), "one run at a time");
        s.write_at(4096, &[9; 512]).unwrap();
        s.zero_at(8192, 4097).unwrap();
        s.sync().unwrap();
        assert!(s.write_at((1 << 16) - 1, &[1, 2]).is_err());
        let mut want = vec![7; 1 << 16];
        want[4096..4608].fill(9);
        want[8192..8192 + 4097].fill(0);
        assert!(std::fs::read(&path).unwrap() == want);
        assert!(ImageSink::open(dir.path(), 512).is_err());
    }
}
