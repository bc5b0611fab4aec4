//! Digests that compare contents wherever their clusters and holes are.

use super::stream::{Piece, Stream};
use crate::error::Result;

/// Content is digested in blocks of this many bytes; blocks of zeros are not.
const BLOCK: usize = 4096;

/// A digest of a stream's logical content that does not depend on where its
/// holes are, and does not read them: size, and each block that is not zero.
pub fn digest(stream: &Stream) -> Result<[u8; 32]> {
    let mut content = Content::new(stream.len());
    stream.copy(|piece| match piece {
        Piece::Data(data) => {
            content.data(data);
            Ok(())
        }
        Piece::Zero(n) => {
            content.zeros(n);
            Ok(())
        }
        Piece::Unreadable(_, e) => Err(e),
    })?;
    Ok(content.finish())
}

/// What [`digest`] says of a stream that holds these bytes.
pub fn digest_bytes(bytes: &[u8]) -> [u8; 32] {
    let mut content = Content::new(bytes.len() as u64);
    content.data(bytes);
    content.finish()
}

struct Content {
    hash: blake3::Hasher,
    block: [u8; BLOCK],
    at: u64,
}

impl Content {
    fn new(len: u64) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(&len.to_le_bytes());
        Self {
            hash,
            block: [0; BLOCK],
            at: 0,
        }
    }

    fn finish(mut self) -> [u8; 32] {
        self.flush((self.at % BLOCK as u64) as usize);
        *self.hash.finalize().as_bytes()
    }

    fn data(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let from = (self.at % BLOCK as u64) as usize;
            let (now, later) = data.split_at(data.len().min(BLOCK - from));
            self.block[from..from + now.len()].copy_from_slice(now);
            self.at += now.len() as u64;
            data = later;
            if from + now.len() == BLOCK {
                self.flush(BLOCK);
            }
        }
    }

    fn zeros(&mut self, mut n: u64) {
        let from = (self.at % BLOCK as u64) as usize;
        if from > 0 {
            let now = n.min((BLOCK - from) as u64) as usize;
            self.block[from..from + now].fill(0);
            self.at += now as u64;
            n -= now as u64;
            if from + now == BLOCK {
                self.flush(BLOCK);
            } else {
                return;
            }
        }
        self.at += n;
        self.block[..(n % BLOCK as u64) as usize].fill(0);
    }

    /// Takes in the block that ends at `at`, of which `len` bytes are there.
    fn flush(&mut self, len: usize) {
        let block = &self.block[..len];
        if block != &[0; BLOCK][..len] {
            self.hash.update(&(self.at - len as u64).to_le_bytes());
            self.hash.update(block);
        }
    }
}
