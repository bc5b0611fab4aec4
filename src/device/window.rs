//! A part of a source, seen as a source: a partition of a disk.

use super::{SharedSource, Source};
use crate::error::{Error, Result};

/// `len` bytes of another source from `start` on.
pub struct Window {
    inner: SharedSource,
    start: u64,
    len: u64,
    name: String,
}

impl Window {
    /// The bytes `start..start + len` of `inner`; they must lie inside it.
    pub fn new(inner: SharedSource, start: u64, len: u64, name: String) -> Result<Self> {
        match start.checked_add(len) {
            Some(end) if end <= inner.len() => Ok(Self {
                inner,
                start,
                len,
                name,
            }),
            _ => Err(Error::damaged(format!(
                "A part of {len} bytes reaches behind the end of the source ({} bytes)",
                inner.len()
            ))
            .of(name)
            .at(start)),
        }
    }

    /// Where the window begins inside the whole.
    pub fn start(&self) -> u64 {
        self.start
    }
}

impl Source for Window {
    fn len(&self) -> u64 {
        self.len
    }
    fn sector_size(&self) -> u32 {
        self.inner.sector_size()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        match offset.checked_add(buf.len() as u64) {
            Some(end) if end <= self.len => self.inner.read_at(self.start + offset, buf),
            _ => Err(Error::damaged(format!(
                "A read of {} bytes reaches behind the end ({} bytes)",
                buf.len(),
                self.len
            ))
            .of(&*self.name)
            .at(offset)),
        }
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn as_memory(&self) -> Option<&[u8]> {
        let all = self.inner.as_memory()?;
        all.get(self.start as usize..(self.start + self.len) as usize)
    }
    fn will_need(&self, offset: u64, len: u64) {
        let len = len.min(self.len.saturating_sub(offset));
        self.inner.will_need(self.start + offset, len);
    }
}
