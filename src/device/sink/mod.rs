//! Targets: a regular file that is made or written in place, a block device,
//! and memory for tests.

mod block;
mod file;
mod image;
mod memory;

pub use block::BlockSink;
pub use file::{FileSink, FileSinkOptions};
pub use image::ImageSink;
pub use memory::MemorySink;

use super::posix;
use crate::error::{Error, Result};
use crate::units::ByteRange;
use rustix::fs::{Advice, FallocateFlags, fallocate};
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};

/// `offset..offset + len`, if it lies inside `size` bytes.
fn checked(name: &str, size: u64, offset: u64, len: u64) -> Result<ByteRange> {
    ByteRange::new(offset, len)
        .filter(|r| r.end <= size)
        .ok_or_else(|| {
            Error::damaged(format!(
                "A range of {len} bytes reaches behind the end ({size} bytes)"
            ))
            .of(name)
            .at(offset)
        })
}

/// What a file and a block device have in common as targets.
struct Opened {
    file: File,
    len: u64,
    sector_size: u32,
    name: String,
    /// Nothing was written since it was made durable.
    synced: AtomicBool,
}

impl Opened {
    fn new(file: File, len: u64, sector_size: u32, name: String) -> Self {
        Self {
            file,
            len,
            sector_size,
            name,
            synced: AtomicBool::new(false),
        }
    }

    fn range(&self, offset: u64, len: u64) -> Result<ByteRange> {
        checked(&self.name, self.len, offset, len)
    }

    /// The range, which is about to be written.
    fn touch(&self, offset: u64, len: usize) -> Result<ByteRange> {
        posix::check_range(&self.name, self.len, offset, len, "write")?;
        Ok(ByteRange {
            start: offset,
            end: offset + len as u64,
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let done = posix::write_all(&self.file, &self.name, offset, data);
        self.dirty();
        done
    }

    /// Said after each change, so that a sync that goes on meanwhile does not
    /// count for it.
    fn dirty(&self) {
        self.synced.store(false, Ordering::SeqCst);
    }

    fn write_zeros(&self, range: ByteRange) -> Result<()> {
        let done = posix::write_zeros(&self.file, &self.name, range.start, range.len());
        self.dirty();
        done
    }

    /// True when the system lets the range read as zeros from now on without
    /// writing them.
    fn zeroed_by(&self, how: FallocateFlags, range: ByteRange) -> bool {
        let how = how | FallocateFlags::KEEP_SIZE;
        let done = fallocate(&self.file, how, range.start, range.len()).is_ok();
        self.dirty();
        done
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        posix::check_range(&self.name, self.len, offset, buf.len(), "read")?;
        posix::read_exact(&self.file, &self.name, offset, buf)
    }

    /// Makes everything durable once, then drops it from the cache: what is
    /// read afterwards comes from the medium as far as the system lets us say so.
    fn sync(&self) -> Result<()> {
        if !self.synced.swap(true, Ordering::SeqCst) {
            self.file.sync_all().map_err(|e| {
                self.synced.store(false, Ordering::SeqCst);
                Error::io("Cannot make the written bytes durable", e)
                    .of(&*self.name)
                    .hint("what was written may be lost; check the target's medium")
            })?;
            posix::advise(&self.file, 0, 0, Advice::DontNeed);
        }
        Ok(())
    }
}
