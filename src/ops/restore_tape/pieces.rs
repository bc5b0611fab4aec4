//! Pieces of records on the target, and parts of them.

use crate::archive::RunKind;
use crate::copy::Wanted;
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

/// What of the pieces lies between two bytes of the stream, in whole blocks of the
/// disk that begin there.
pub fn cut(wanted: &[Wanted], from: u64, to: u64, unit: u64) -> Vec<Wanted> {
    let part = |w: &Wanted| {
        let up = |n: u64| n.min(w.bytes).next_multiple_of(unit).min(w.bytes);
        let start = up(from.saturating_sub(w.offset));
        let end = up(to.saturating_sub(w.offset));
        (start < end).then(|| Wanted {
            offset: w.offset + start,
            bytes: end - start,
            lba: w.lba + start / unit,
        })
    };
    wanted.iter().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_make_the_whole(
            lens in prop::collection::vec((0u64..3000, 1u64..40), 0..8),
            cuts in (0u64..60_000, 0u64..60_000),
        ) {
            let (mut wanted, mut offset) = (Vec::new(), 0);
            for (i, (gap, blocks)) in lens.into_iter().enumerate() {
                offset += gap;
                wanted.push(Wanted { offset, bytes: blocks * 512, lba: i as u64 * 100 });
                offset += blocks * 512;
            }
            let (a, b) = (cuts.0.min(cuts.1), cuts.0.max(cuts.1));
            let blocks = |w: &[Wanted]| -> Vec<(u64, u64)> {
                let of = |w: &Wanted| {
                    let w = *w;
                    (0..w.bytes / 512).map(move |n| (w.offset + n * 512, w.lba + n))
                };
                w.iter().flat_map(of).collect()
            };
            let parts = [(0, a), (a, b), (b, u64::MAX)].map(|(s, e)| cut(&wanted, s, e, 512));
            prop_assert_eq!(blocks(&parts.concat()), blocks(&wanted));
            prop_assert!(parts[1].iter().all(|w| w.offset >= a));
        }
    }
}
