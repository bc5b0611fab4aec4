//! What was written, so that it can be read back: digests and where the bytes
//! behind them are, packed.

use crate::device::Sink;
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::ops::pipeline;
use crate::units::ByteRange;

/// Pieces of the target in the order in which a digest was computed over them.
pub type Pieces = Vec<(u64, u64)>;

/// The list.
#[derive(Default)]
pub struct Written {
    list: Vec<u8>,
    bytes: u64,
}

impl Written {
    /// Adds pieces, of less than 4 GiB each, and the digest over all of them.
    pub fn push(&mut self, digest: &[u8; 32], pieces: &[(u64, u64)]) {
        self.list
            .extend_from_slice(&(pieces.len() as u32).to_le_bytes());
        self.list.extend_from_slice(digest);
        for (start, len) in pieces {
            self.list.extend_from_slice(&start.to_le_bytes());
            self.list.extend_from_slice(&(*len as u32).to_le_bytes());
            self.bytes += len;
        }
    }

    fn pop(rest: &mut &[u8]) -> Option<([u8; 32], Pieces)> {
        let (n, tail) = rest.split_first_chunk::<4>()?;
        let (digest, mut tail) = tail.split_first_chunk::<32>()?;
        let mut pieces = Vec::new();
        for _ in 0..u32::from_le_bytes(*n) {
            let (start, t) = tail.split_first_chunk::<8>()?;
            let (len, t) = t.split_first_chunk::<4>()?;
            pieces.push((
                u64::from_le_bytes(*start),
                u64::from(u32::from_le_bytes(*len)),
            ));
            tail = t;
        }
        *rest = tail;
        Some((*digest, pieces))
    }

    /// Reads everything back and gives what does not match its digest.
    pub fn read_back(
        &self,
        target: &dyn Sink,
        threads: usize,
        observer: &dyn Observer,
    ) -> Result<Vec<ByteRange>> {
        let mut rest = &self.list[..];
        let mut mismatches = Vec::new();
        observer.begin("read back", Some(self.bytes));
        pipeline::ordered(
            threads,
            threads * 2 + 2,
            || {
                if observer.cancelled() {
                    return Err(Error::interrupted());
                }
                Ok(Self::pop(&mut rest))
            },
            || Ok(Vec::new()),
            |buf: &mut Vec<u8>, (digest, pieces)| {
                let total: u64 = pieces.iter().map(|r| r.1).sum();
                buf.resize(total as usize, 0);
                let mut at = 0;
                for &(place, len) in &pieces {
                    target.read_at(place, &mut buf[at..at + len as usize])?;
                    at += len as usize;
                }
                let same = *blake3::hash(buf).as_bytes() == digest;
                Ok((total, (!same).then_some(pieces)))
            },
            |(total, bad)| {
                observer.advance(total);
                for (start, len) in bad.into_iter().flatten() {
                    mismatches.push(ByteRange {
                        start,
                        end: start + len,
                    });
                }
                Ok(())
            },
        )?;
        observer.end();
        Ok(mismatches)
    }
}
