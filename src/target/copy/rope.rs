//! Bytes on their way, as pieces of shared buffers: nothing is copied between a
//! read and a write.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Buffers that are used again.
#[derive(Default)]
pub struct Pool(Mutex<Vec<Vec<u8>>>);

/// Most buffers kept.
const KEPT: usize = 16;

impl Pool {
    fn all(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer of exactly this length, its content undefined.
    pub fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let mut all = self.all();
        // The last one given back is the most likely to be in a cache.
        let found = all.iter().rposition(|b| b.len() == len);
        let bytes = found.map(|i| all.remove(i));
        drop(all);
        Buffer {
            bytes: bytes.unwrap_or_else(|| vec![0; len]),
            pool: Some(self.clone()),
        }
    }
}

/// A buffer; goes back to its pool when nobody uses it any more.
pub struct Buffer {
    bytes: Vec<u8>,
    pool: Option<Arc<Pool>>,
}

impl Buffer {
    /// Bytes that came from elsewhere.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self { bytes, pool: None }
    }

    /// To fill it.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            let mut all = pool.all();
            if all.len() >= KEPT {
                all.remove(0);
            }
            all.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// A part of a buffer.
#[derive(Clone)]
pub struct Piece {
    buffer: Arc<Buffer>,
    range: Range<usize>,
}

impl Piece {
    /// Part of a buffer; what lies outside is cut off.
    pub fn new(buffer: Arc<Buffer>, range: Range<usize>) -> Self {
        let end = range.end.min(buffer.len());
        Self {
            range: range.start.min(end)..end,
            buffer,
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.range.clone()).unwrap_or(&[])
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.range.len()
    }
}

/// A queue of bytes.
#[derive(Clone, Default)]
pub struct Rope {
    pieces: VecDeque<Piece>,
    len: u64,
}

impl Rope {
    /// Number of bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Number of pieces.
    pub fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.len = 0;
    }

    /// Appends a piece, to the last one if it continues it.
    pub fn push(&mut self, piece: Piece) {
        if piece.len() == 0 {
            return;
        }
        self.len += piece.len() as u64;
        if let Some(last) = self.pieces.back_mut()
            && Arc::ptr_eq(&last.buffer, &piece.buffer)
            && last.range.end == piece.range.start
        {
            last.range.end = piece.range.end;
            return;
        }
        self.pieces.push_back(piece);
    }

    /// Appends all of another.
    pub fn append(&mut self, other: Rope) {
        for piece in other.pieces {
            self.push(piece);
        }
    }

    /// Takes the first bytes out, at most as many as there are.
    pub fn take(&mut self, n: u64) -> Rope {
        let mut out = Rope::default();
        let mut left = n.min(self.len);
        self.len -= left;
        while left > 0 {
            let Some(mut piece) = self.pieces.pop_front() else {
                break;
            };
            let len = piece.len() as u64;
            if len > left {
                let cut = piece.range.start + left as usize;
                let rest = Piece {
                    buffer: piece.buffer.clone(),
                    range: cut..piece.range.end,
                };
                self.pieces.push_front(rest);
                piece.range.end = cut;
            }
            left -= len.min(left);
            out.push(piece);
        }
        out
    }

    /// The bytes as slices for a vectored write.
    pub fn slices(&self) -> Vec<IoSlice<'_>> {
        self.pieces
            .iter()
            .map(|p| IoSlice::new(p.bytes()))
            .collect()
    }

    /// The bytes, piece by piece.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.pieces.iter().map(Piece::bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_their_order() {
        let pool = Arc::new(Pool::default());
        let mut buffer = pool.take(100);
        for (i, b) in buffer.bytes_mut().iter_mut().enumerate() {
            *b = i as u8;
        }
        let buffer = Arc::new(buffer);
        let mut rope = Rope::default();
        rope.push(Piece::new(buffer.clone(), 0..40));
        rope.push(Piece::new(buffer.clone(), 40..50));
        rope.push(Piece::new(buffer.clone(), 60..200));
        assert_eq!((rope.len(), rope.pieces()), (90, 2));
        let first = rope.take(55);
        assert_eq!((first.len(), rope.len()), (55, 35));
        let got: Vec<u8> = first.iter().chain(rope.iter()).flatten().copied().collect();
        let expected: Vec<u8> = (0..50).chain(60..100).collect();
        assert_eq!(got, expected);
        assert_eq!(rope.take(99).len(), 35);
        assert_eq!(rope.len(), 0);
        drop((rope, first, buffer));
        assert_eq!(pool.all().len(), 1);
    }
}
