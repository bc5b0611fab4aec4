//! What stays of the sectors outside of all partitions.

use crate::device::{Piece, RangeSet, Rearrangement};
use crate::error::Result;
use crate::units::ByteRange;

/// Ranges that stay in their places; everything else goes.
pub struct Kept {
    ranges: RangeSet,
    len: u64,
}

impl Kept {
    /// `len`: bytes of the new disk.
    pub fn new(ranges: impl IntoIterator<Item = ByteRange>, len: u64) -> Self {
        Self {
            ranges: ranges.into_iter().collect(),
            len,
        }
    }

    fn pieces(&self, range: ByteRange, piece: Piece<'_>) -> Result<()> {
        let mut at = range.start;
        for r in self.ranges.within(range) {
            if at < r.start {
                piece(None, r.start - at)?;
            }
            piece(Some(r.start), r.len())?;
            at = r.end;
        }
        match at < range.end {
            true => piece(None, range.end - at),
            false => Ok(()),
        }
    }
}

impl Rearrangement for Kept {
    fn new_len(&self) -> u64 {
        self.len
    }
    fn forward(&self, old: ByteRange, piece: Piece<'_>) -> Result<()> {
        self.pieces(old, piece)
    }
    fn backward(&self, new: ByteRange, piece: Piece<'_>) -> Result<()> {
        self.pieces(new, piece)
    }
    fn patches(&self, _: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        Ok(())
    }
    fn patch_into(&self, _: u64, _: &mut [u8]) -> Result<()> {
        Ok(())
    }
}
