//! Pieces of records on the target, and parts of them.

use crate::archive::RunKind;
use crate::error::{Error, Result};
use crate::units::ByteRange;

/// A piece of a record on the target.
pub struct Placed {
    pub at: u64,
    pub len: u64,
    pub kind: RunKind,
    /// Where its bytes begin among those of the record.
    pub from: u64,
}

impl Placed {
    /// Its bytes.
    pub fn data<'a>(&self, all: &'a [u8]) -> Result<&'a [u8]> {
        let end = self.from.saturating_add(self.len) as usize;
        all.get(self.from as usize..end)
            .ok_or_else(|| Error::damaged("A record is shorter than its runs"))
    }
}

/// The parts of `from..to` that lie in one of the ranges.
pub fn inside(ranges: &[ByteRange], from: u64, to: u64) -> Vec<(u64, u64)> {
    let whole = ByteRange {
        start: from,
        end: to,
    };
    let both = ranges.iter().filter_map(|r| r.intersect(&whole));
    both.map(|b| (b.start, b.end)).collect()
}

/// The parts of `from..to` that lie in none of the ranges, which ascend.
pub fn outside(ranges: &[ByteRange], from: u64, to: u64) -> Vec<(u64, u64)> {
    let mut out = Vec::new();
    let mut at = from;
    for r in ranges {
        if r.end <= at || r.start >= to {
            continue;
        }
        if r.start > at {
            out.push((at, r.start));
        }
        at = r.end;
    }
    if at < to {
        out.push((at, to));
    }
    out
}
