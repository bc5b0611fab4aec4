//! From stored payload to checked bytes.

use super::header::{Codec, Header, Provenance};
use crate::error::{Error, Result};
use std::io::Read;

/// Decodes payloads; one for each thread, since it keeps a decompressor.
pub struct Unpacker {
    zstd: zstd::bulk::Decompressor<'static>,
}

impl Unpacker {
    /// A fresh one.
    pub fn new() -> Result<Self> {
        zstd::bulk::Decompressor::new()
            .map(|zstd| Self { zstd })
            .map_err(|e| Error::io("Cannot start zstd", e))
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
        if header.provenance != Provenance::None && *blake3::hash(out).as_bytes() != header.digest {
            return Err(bad("does not match its BLAKE3 digest".into()));
        }
        Ok(())
    }
}
