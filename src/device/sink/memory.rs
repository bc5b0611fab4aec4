//! A target in memory, for tests.

use super::checked;
use crate::device::Sink;
use crate::error::Result;
use std::sync::{PoisonError, RwLock};

/// A target in memory, for tests.
pub struct MemorySink {
    data: RwLock<Vec<u8>>,
    sector_size: u32,
    fresh: bool,
}

impl MemorySink {
    /// `len` zeros, fresh.
    pub fn new(len: usize, sector_size: u32) -> Self {
        Self {
            data: RwLock::new(vec![0; len]),
            sector_size,
            fresh: true,
        }
    }

    /// A target that already holds something, like a used disk.
    pub fn used(data: Vec<u8>, sector_size: u32) -> Self {
        Self {
            data: RwLock::new(data),
            sector_size,
            fresh: false,
        }
    }

    /// What it holds now.
    pub fn bytes(&self) -> Vec<u8> {
        self.data
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn with(&self, offset: u64, len: u64, f: impl FnOnce(&mut [u8])) -> Result<()> {
        let mut data = self.data.write().unwrap_or_else(PoisonError::into_inner);
        let r = checked("memory", data.len() as u64, offset, len)?;
        f(&mut data[r.start as usize..r.end as usize]);
        Ok(())
    }
}

impl Sink for MemorySink {
    fn len(&self) -> u64 {
        self.data
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len() as u64
    }
    fn sector_size(&self) -> u32 {
        self.sector_size
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.with(offset, data.len() as u64, |d| d.copy_from_slice(data))
    }
    fn zero_at(&self, offset: u64, len: u64) -> Result<()> {
        self.with(offset, len, |d| d.fill(0))
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.with(offset, buf.len() as u64, |d| buf.copy_from_slice(d))
    }
    fn sync(&self) -> Result<()> {
        Ok(())
    }
    fn name(&self) -> &str {
        "memory"
    }
    fn is_fresh(&self) -> bool {
        self.fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_targets() {
        let s = MemorySink::used(vec![5; 10], 512);
        assert!(!s.is_fresh());
        s.zero_at(2, 3).unwrap();
        s.write_at(9, &[1]).unwrap();
        assert_eq!(s.bytes(), [5, 5, 0, 0, 0, 5, 5, 5, 5, 1]);
        assert!(s.write_at(9, &[1, 1]).is_err());
        let mut b = [0; 2];
        s.read_at(8, &mut b).unwrap();
        assert_eq!(b, [5, 1]);
        s.sync().unwrap();
        assert_eq!(MemorySink::new(4, 512).bytes(), [0; 4]);
    }
}
