//! A source some blocks of which cannot be read: they come as zeros, and which
//! they were is remembered.

use super::{RangeSet, SharedSource, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::units::ByteRange;
use std::sync::{Arc, Mutex, MutexGuard};

/// Reads on where a block is bad.
pub struct HoledSource {
    inner: SharedSource,
    block: u64,
    holes: Mutex<RangeSet>,
}

impl HoledSource {
    /// Around a source that loses whole blocks ([`Source::lost_together`]); any
    /// other is given back as it is.
    pub fn around(inner: SharedSource) -> (SharedSource, Option<Arc<HoledSource>>) {
        let Some(block) = inner.lost_together().filter(|&n| n > 0) else {
            return (inner, None);
        };
        let new = Arc::new(Self {
            inner,
            block,
            holes: Mutex::default(),
        });
        (new.clone(), Some(new))
    }

    /// What of a range could not be read, as far as it was asked for.
    pub fn holes(&self, range: ByteRange) -> Vec<ByteRange> {
        self.lock().within(range)
    }

    fn lock(&self) -> MutexGuard<'_, RangeSet> {
        self.holes.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn by_block(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let n = (self.block - at % self.block).min((buf.len() - done) as u64) as usize;
            let part = &mut buf[done..done + n];
            let range = ByteRange {
                start: at,
                end: at + n as u64,
            };
            // A drive tries for minutes: once is enough.
            let known = self.lock().within(range) == [range];
            if known {
                part.fill(0);
            } else if let Err(e) = self.inner.read_at(at, part) {
                if !is_lost(&e) {
                    return Err(e);
                }
                part.fill(0);
                let start = at / self.block * self.block;
                let end = start.saturating_add(self.block).min(self.inner.len());
                self.lock().insert(ByteRange { start, end });
            }
            done += n;
        }
        Ok(())
    }
}

fn is_lost(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Unreadable | ErrorKind::Damaged)
}

impl Source for HoledSource {
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
        let end = offset.checked_add(buf.len() as u64);
        let inside = end.is_some_and(|e| e <= self.inner.len());
        match self.inner.read_at(offset, buf) {
            Err(e) if inside && is_lost(&e) => self.by_block(offset, buf),
            done => done,
        }
    }

    fn name(&self) -> &str {
        self.inner.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that count up; one block is bad.
    struct Blocks {
        bad: u64,
        block: Option<u64>,
    }

    impl Source for Blocks {
        fn len(&self) -> u64 {
            10_000
        }
        fn sector_size(&self) -> u32 {
            512
        }
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
            let end = offset + buf.len() as u64;
            if end > self.len() {
                return Err(Error::damaged("behind the end"));
            }
            if offset < (self.bad + 1) * 1000 && end > self.bad * 1000 {
                return Err(Error::new(ErrorKind::Unreadable, "bad"));
            }
            for (i, b) in buf.iter_mut().enumerate() {
                *b = ((offset as usize + i) % 251) as u8;
            }
            Ok(())
        }
        fn name(&self) -> &str {
            "blocks"
        }
        fn lost_together(&self) -> Option<u64> {
            self.block
        }
    }

    #[test]
    fn one_bad_block_is_zeros_and_known() {
        let (source, holed) = HoledSource::around(Arc::new(Blocks {
            bad: 3,
            block: Some(1000),
        }));
        let mut buf = vec![9; 4500];
        source.read_at(500, &mut buf).unwrap();
        for (i, &b) in buf.iter().enumerate() {
            let at = 500 + i;
            let want = if at / 1000 == 3 { 0 } else { (at % 251) as u8 };
            assert_eq!(b, want, "{at}");
        }
        let all = ByteRange {
            start: 0,
            end: 10_000,
        };
        let hole = ByteRange {
            start: 3000,
            end: 4000,
        };
        let holed = holed.unwrap();
        assert_eq!(holed.holes(all), [hole]);
        assert!(source.read_at(9_900, &mut [0; 200]).is_err());
        let plain = Blocks {
            bad: 3,
            block: None,
        };
        let (source, holed) = HoledSource::around(Arc::new(plain));
        assert!(holed.is_none() && source.read_at(3000, &mut [0; 10]).is_err());
    }
}
