//! A source whose first reads are kept in a file without a name, so that what
//! is read twice comes over the wire once.

use super::{RangeSet, SharedSource, Source};
use crate::error::{Error, Result};
use crate::units::ByteRange;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

/// Keeps what is read until it is told to stop.
pub struct SpillSource {
    inner: SharedSource,
    file: File,
    have: Mutex<RangeSet>,
    keeping: AtomicBool,
}

impl SpillSource {
    /// Keeps in the directory for temporary files.
    pub fn new(inner: SharedSource) -> Result<Self> {
        let dir = std::env::temp_dir();
        let how = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(&dir, how, Mode::RUSR | Mode::WUSR).map_err(|e| {
            Error::io("Cannot make a temporary file", e.into()).of(dir.display().to_string())
        })?;
        Ok(Self {
            inner,
            file: file.into(),
            have: Mutex::default(),
            keeping: AtomicBool::new(true),
        })
    }

    /// Nothing more is kept; what was kept still serves.
    pub fn freeze(&self) {
        self.keeping.store(false, Ordering::SeqCst);
    }

    /// Nothing more is kept, and what was kept is given up.
    pub fn stop(&self) {
        self.keeping.store(false, Ordering::SeqCst);
        *self.lock() = RangeSet::default();
        // Only room is at stake.
        let _ = self.file.set_len(0);
    }

    fn lock(&self) -> MutexGuard<'_, RangeSet> {
        self.have.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Source for SpillSource {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn is_finished(&self) -> bool {
        self.inner.is_finished()
    }

    fn sector_size(&self) -> u32 {
        self.inner.sector_size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let range = ByteRange {
            start: offset,
            end: offset.saturating_add(buf.len() as u64),
        };
        // One reader stops while another keeps: then the wire is asked again.
        if self.lock().within(range) == [range] && self.file.read_exact_at(buf, offset).is_ok() {
            return Ok(());
        }
        self.inner.read_at(offset, buf)?;
        // A full disk costs speed, not the backup.
        if self.keeping.load(Ordering::SeqCst) && self.file.write_all_at(buf, offset).is_ok() {
            let mut have = self.lock();
            if self.keeping.load(Ordering::SeqCst) {
                have.insert(range);
            }
        }
        Ok(())
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn lost_together(&self) -> Option<u64> {
        self.inner.lost_together()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{CountingSource, FileSource};
    use std::io::Write;
    use std::sync::Arc;

    #[test]
    fn what_was_read_is_not_read_again_until_it_stops() {
        let mut f = tempfile::NamedTempFile::new().unwrap();
        let data: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        f.write_all(&data).unwrap();
        let file: SharedSource = Arc::new(FileSource::open(f.path(), 512).unwrap());
        let counting = Arc::new(CountingSource::new(file));
        let spill = SpillSource::new(counting.clone()).unwrap();
        let read = |at: usize, len: usize| {
            let mut buf = vec![0; len];
            spill.read_at(at as u64, &mut buf).unwrap();
            assert!(buf == data[at..at + len]);
        };
        read(0, 10_000);
        read(10_000, 10_000);
        let before = counting.counts().bytes;
        read(5_000, 10_000);
        assert_eq!(counting.counts().bytes, before);
        read(15_000, 10_000);
        assert_eq!(counting.counts().bytes, before + 10_000);
        spill.freeze();
        read(30_000, 1000);
        read(30_000, 1000);
        read(1000, 9000);
        assert_eq!(counting.counts().bytes, before + 12_000);
        spill.stop();
        read(0, 1000);
        assert_eq!(counting.counts().bytes, before + 13_000);
    }
}
