//! A block device as a target.

use super::{checked, sync_and_drop};
use crate::device::guard::System;
use crate::device::{Sink, posix};
use crate::error::{Error, Result};
use crate::units::ByteRange;
use rustix::fs::{FallocateFlags, OFlags, fallocate, ioctl_blksszget};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// A block device as a target, opened so that nobody else may hold it.
pub struct BlockSink {
    file: File,
    len: u64,
    sector_size: u32,
    name: String,
    synced: AtomicBool,
}

impl BlockSink {
    /// Opens for writing a device that is not in use (mounted, swap, part of
    /// another device); anything else is refused.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let is_block = std::fs::metadata(path)
            .map_err(|e| Error::io("Cannot look at the target", e).of(&*name))?
            .file_type()
            .is_block_device();
        if !is_block {
            return Err(Error::usage("Not a block device").of(name));
        }
        System::read()?.check_target(path)?;
        // On a block device this flag means: fail if somebody holds it.
        let mut file = File::options()
            .read(true)
            .write(true)
            .custom_flags(OFlags::EXCL.bits() as i32)
            .open(path)
            .map_err(|e| match e.kind() {
                io::ErrorKind::ResourceBusy => {
                    Error::refused("The kernel says that the target is in use")
                        .of(&*name)
                        .hint("unmount it and stop what is built on it first")
                }
                _ => Error::io("Cannot open the target for writing", e).of(&*name),
            })?;
        let len = file
            .seek(SeekFrom::End(0))
            .map_err(|e| Error::io("Cannot find out the size of the target", e).of(&*name))?;
        let sector_size = ioctl_blksszget(&file)
            .ok()
            .filter(|s| s.is_power_of_two() && (512..=65536).contains(s))
            .unwrap_or(512);
        Ok(Self {
            file,
            len,
            sector_size,
            name,
            synced: AtomicBool::new(false),
        })
    }
}

impl Sink for BlockSink {
    fn len(&self) -> u64 {
        self.len
    }
    fn sector_size(&self) -> u32 {
        self.sector_size
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        posix::check_range(&self.name, self.len, offset, data.len(), "write")?;
        self.synced.store(false, Ordering::SeqCst);
        posix::write_all(&self.file, &self.name, offset, data)
    }
    /// Asks the device to unmap or zero the whole sectors inside the range, and
    /// writes zeros where it cannot.
    fn zero_at(&self, offset: u64, len: u64) -> Result<()> {
        let range = checked(&self.name, self.len, offset, len)?;
        self.synced.store(false, Ordering::SeqCst);
        // The kernel wants whole sectors; whole pages keep its cache coherent.
        let unit = u64::from(self.sector_size).max(4096);
        let inner = ByteRange {
            start: range.start.div_ceil(unit) * unit,
            end: range.end / unit * unit,
        };
        let zeros = |start, end| posix::write_zeros(&self.file, &self.name, start, end - start);
        if inner.is_empty() {
            return zeros(range.start, range.end);
        }
        // Both calls promise that the range reads as zeros afterwards; the
        // first also gives the room back.
        let done = [FallocateFlags::PUNCH_HOLE, FallocateFlags::ZERO_RANGE]
            .into_iter()
            .any(|how| {
                let how = how | FallocateFlags::KEEP_SIZE;
                fallocate(&self.file, how, inner.start, inner.len()).is_ok()
            });
        if !done {
            return zeros(range.start, range.end);
        }
        zeros(range.start, inner.start)?;
        zeros(inner.end, range.end)
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        posix::check_range(&self.name, self.len, offset, buf.len(), "read")?;
        posix::read_exact(&self.file, &self.name, offset, buf)
    }
    /// Also drops the device from the cache: what is read afterwards comes from
    /// the medium as far as the system lets us say so.
    fn sync(&self) -> Result<()> {
        sync_and_drop(&self.file, &self.name, &self.synced)
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn is_fresh(&self) -> bool {
        false
    }
}
