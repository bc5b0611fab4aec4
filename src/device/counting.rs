//! A source that counts what is read through it: proof that a job reads only
//! what it needs.

use super::{SharedSource, Source};
use crate::error::Result;
use crate::units::ByteRange;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::RangeSet;

/// What was read so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls of `read_at`.
    pub reads: u64,
    /// Bytes asked for, repeated ones included.
    pub bytes: u64,
    /// Different bytes touched.
    pub distinct: u64,
}

/// Counts reads and remembers which bytes they touched. Offers no memory view,
/// so that nothing passes uncounted.
pub struct CountingSource {
    inner: SharedSource,
    reads: AtomicU64,
    bytes: AtomicU64,
    touched: Mutex<RangeSet>,
}

impl CountingSource {
    /// Counts from nothing.
    pub fn new(inner: SharedSource) -> Self {
        Self {
            inner,
            reads: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            touched: Mutex::default(),
        }
    }

    /// What was read so far.
    pub fn counts(&self) -> Counts {
        Counts {
            reads: self.reads.load(Ordering::SeqCst),
            bytes: self.bytes.load(Ordering::SeqCst),
            distinct: self.touched().bytes(),
        }
    }

    /// Which bytes were read so far.
    pub fn touched(&self) -> RangeSet {
        self.touched
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Source for CountingSource {
    fn len(&self) -> u64 {
        self.inner.len()
    }
    fn sector_size(&self) -> u32 {
        self.inner.sector_size()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(buf.len() as u64, Ordering::SeqCst);
        if let Some(r) = ByteRange::new(offset, buf.len() as u64) {
            self.touched
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(r);
        }
        self.inner.read_at(offset, buf)
    }
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn will_need(&self, offset: u64, len: u64) {
        self.inner.will_need(offset, len);
    }
}

#[cfg(test)]
mod tests {
    use super::super::FaultySource;
    use super::*;
    use std::sync::Arc;

    #[test]
    fn counts_calls_bytes_and_places() {
        let c = CountingSource::new(Arc::new(FaultySource::new(vec![3; 4096], 512)));
        c.read_at(0, &mut [0; 100]).unwrap();
        c.read_at(50, &mut [0; 100]).unwrap();
        let want = Counts {
            reads: 2,
            bytes: 200,
            distinct: 150,
        };
        assert_eq!(c.counts(), want);
        assert!(c.touched().contains(149) && !c.touched().contains(150));
        assert!(c.as_memory().is_none());
    }
}
