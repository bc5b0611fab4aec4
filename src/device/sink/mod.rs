//! Targets: a regular file, a block device, and memory for tests.

mod block;
mod file;
mod memory;

pub use block::BlockSink;
pub use file::{FileSink, FileSinkOptions};
pub use memory::MemorySink;

use super::posix;
use crate::error::{Error, Result};
use crate::units::ByteRange;
use rustix::fs::Advice;
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

/// Makes everything durable once, then drops it from the cache.
fn sync_and_drop(file: &File, name: &str, synced: &AtomicBool) -> Result<()> {
    if !synced.swap(true, Ordering::SeqCst) {
        file.sync_all().map_err(|e| {
            synced.store(false, Ordering::SeqCst);
            Error::io("Cannot make the written bytes durable", e)
                .of(name)
                .hint("what was written may be lost; check the target's medium")
        })?;
        posix::advise(file, 0, 0, Advice::DontNeed);
    }
    Ok(())
}
