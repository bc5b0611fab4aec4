//! From stored payload to checked bytes.

use super::header::{Codec, Header, Provenance};
use crate::error::{Error, Result};
use std::io::Read;
use std::sync::Arc;

/// Digests of records that have none of their own, by sequence number: what
/// was computed when the archive was read back.
pub type ReadBack = Arc<dyn Fn(u64) -> Option<[u8; 32]> + Send + Sync>;

/// Decodes payloads; one for each thread, since it keeps a decompressor.
pub struct Unpacker {
    zstd: zstd::bulk::Decompressor<'static>,
    read_back: Option<ReadBack>,
}

impl Unpacker {
    /// A fresh one.
    pub fn new() -> Result<Self> {
        zstd::bulk::Decompressor::new()
            .map(|zstd| Self {
                zstd,
                read_back: None,
            })
            .map_err(|e| Error::io("Cannot start zstd", e))
    }

    /// Records without a digest are checked against these.
    pub fn with_read_back(mut self, digests: Option<ReadBack>) -> Self {
        self.read_back = digests;
        self
    }

    /// Decodes `stored` into `out` (replaced) and checks length and digest:
    /// what is in `out` on success is what the writer put in.
    pub fn unpack(&mut self, header: &Header, stored: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let bad = |what: String| {
            Error::damaged(format!("{} record {}", header.kind.name(), what))
                .at(header.stream_offset)
        };
        out.clear();
        if stored.len() as u64 != header.stored_len {
            return Err(bad(format!(
                "has {} payload bytes, expected {}",
                stored.len(),
                header.stored_len
            )));
        }
        match header.codec {
            Codec::Stored => out.extend_from_slice(stored),
            Codec::Zstd if header.raw_len <= super::MAX_DATA_BYTES => {
                out.reserve_exact(header.raw_len as usize);
                self.zstd
                    .decompress_to_buffer(stored, out)
                    .map_err(|e| bad("does not decompress".into()).caused_by(e))?;
            }
            Codec::Zstd => {
                // A long one grows with what really comes out.
                zstd::stream::read::Decoder::with_buffer(stored)
                    .and_then(|d| d.take(header.raw_len + 1).read_to_end(out))
                    .map_err(|e| bad("does not decompress".into()).caused_by(e))?;
            }
        }
        if out.len() as u64 != header.raw_len {
            return Err(bad(format!(
                "decodes to {} bytes, expected {}",
                out.len(),
                header.raw_len
            )));
        }
        let (digest, whose) = match header.provenance {
            Provenance::None => {
                let known = self.read_back.as_ref().and_then(|f| f(header.sequence));
                (known, "the BLAKE3 digest of when it was read back")
            }
            _ => (Some(header.digest), "its BLAKE3 digest"),
        };
        match digest {
            Some(d) if *blake3::hash(out).as_bytes() != d => {
                Err(bad(format!("does not match {whose}")))
            }
            _ => Ok(()),
        }
    }
}
