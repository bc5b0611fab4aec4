//! Data held for the application client: the newest, up to a limit.

use super::rope::Rope;
use std::collections::VecDeque;

/// Held data of one command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    bytes: VecDeque<u8>,
    limit: usize,
    discarded: bool,
}

impl Held {
    /// Nothing yet; at most `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self {
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            ..Self::default()
        }
    }

    /// Adds bytes; the oldest make room.
    pub fn extend(&mut self, rope: &Rope) {
        // From the end, no more than can stay.
        let mut keep = self.limit;
        let mut newest = Vec::new();
        for piece in rope.iter().rev() {
            let from = piece.len().saturating_sub(keep);
            self.discarded |= from > 0;
            newest.push(piece.get(from..).unwrap_or(&[]));
            keep = keep.saturating_sub(piece.len());
        }
        let old = self.bytes.len().saturating_sub(keep);
        self.discarded |= old > 0;
        self.bytes.drain(..old);
        for piece in newest.into_iter().rev() {
            self.bytes.extend(piece);
        }
    }

    /// Forgets everything, as when space is short.
    pub fn discard(&mut self) {
        self.discarded |= !self.bytes.is_empty();
        self.bytes.clear();
    }

    /// HDD: something is missing.
    pub fn discarded(&self) -> bool {
        self.discarded
    }

    /// The bytes, oldest first.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes.into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::rope::{Buffer, Piece};
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_newest_stay() {
        let rope = |bytes: &[u8]| {
            let mut r = Rope::default();
            for half in bytes.chunks(2) {
                let len = half.len();
                r.push(Piece::new(Arc::new(Buffer::of(half.to_vec())), 0..len));
            }
            r
        };
        let mut h = Held::new(5);
        h.extend(&rope(b"abc"));
        h.extend(&rope(b"de"));
        assert!(!h.discarded());
        h.extend(&rope(b"fg"));
        assert!(h.discarded());
        assert_eq!(h.clone().into_bytes(), b"cdefg");
        h.extend(&rope(b"0123456789"));
        assert_eq!(h.clone().into_bytes(), b"56789");
        h.discard();
        assert_eq!(h.into_bytes(), b"");
        let mut none = Held::new(0);
        none.extend(&rope(b"a"));
        assert!(none.discarded() && none.into_bytes().is_empty());
    }
}
