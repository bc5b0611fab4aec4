//! Making records: zero detection, digest, compression. Runs on any thread.

use super::header::{ChunkRun, Codec, Kind, MftRun, NO_REGION, Provenance, RunKind};
use crate::error::{Error, Result};
use std::sync::{Arc, Mutex};

/// A record without its place in the stream.
pub struct Packed {
    /// What it is.
    pub kind: Kind,
    pub(super) codec: Codec,
    pub(super) provenance: Provenance,
    /// Region it belongs to.
    pub region: u16,
    /// Cell or first file record.
    pub position: u64,
    pub(super) unit: u32,
    pub(super) cell: u32,
    pub(super) extension: Vec<u8>,
    /// Blocks of zeros behind it.
    pub(super) gap: u32,
    /// Bytes before compression.
    pub raw_len: u64,
    pub(super) digest: [u8; 32],
    /// What goes into the stream.
    pub payload: Vec<u8>,
}

impl Packed {
    /// BLAKE3 of the payload before compression.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

/// Samples taken before a large payload is given to the compressor.
const SAMPLES: usize = 8;
const SAMPLE: usize = 4096;

/// Payload buffers that were written and can be filled again: fresh memory for
/// each record costs as much as compressing it quickly.
#[derive(Clone, Default)]
pub struct BufferPool(Arc<Mutex<Vec<Vec<u8>>>>);

impl BufferPool {
    /// Gives a buffer back.
    pub fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.0
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .push(buffer);
    }

    fn take(&self) -> Vec<u8> {
        self.0
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .pop()
            .unwrap_or_default()
    }
}

/// Packs records; one for each thread, since it keeps a compressor.
pub struct Packer {
    pool: BufferPool,
    zstd: zstd::bulk::Compressor<'static>,
    probe: zstd::bulk::Compressor<'static>,
    sample: Vec<u8>,
}

/// Where a chunk belongs.
#[derive(Clone, Copy, Debug)]
pub struct CellPlace {
    /// Region.
    pub region: u16,
    /// Cell number.
    pub cell: u64,
    /// Bytes of a unit.
    pub unit: u32,
    /// Units of a cell.
    pub cell_units: u32,
    /// Zeros are left out in pieces of this many units.
    pub granule: u32,
}

impl Packer {
    /// A packer for this zstd level.
    pub fn new(level: i32) -> Result<Self> {
        let make = |l| {
            zstd::bulk::Compressor::new(l)
                .map_err(|e| Error::io(format!("Cannot start zstd at level {l}"), e))
        };
        let mut zstd = make(level)?;
        // BLAKE3 over the decoded bytes is the check; a second one costs time.
        zstd.include_checksum(false)
            .map_err(|e| Error::io("Cannot set up zstd", e))?;
        Ok(Self {
            pool: BufferPool::default(),
            zstd,
            probe: make(1)?,
            sample: vec![0; SAMPLE * 2],
        })
    }

    /// Takes buffers from this pool from now on.
    pub fn with_pool(mut self, pool: BufferPool) -> Self {
        self.pool = pool;
        self
    }

    /// A record of JSON or of index bytes.
    pub fn plain(&mut self, kind: Kind, raw: &[u8], compress: bool) -> Result<Packed> {
        let place = CellPlace {
            region: NO_REGION,
            cell: 0,
            unit: 0,
            cell_units: 0,
            granule: 0,
        };
        self.pack(kind, place, Vec::new(), &mut raw.to_vec(), compress)
    }

    /// A Chunk. `raw` holds the bytes of the data runs, one after the other;
    /// zero granules among them become zero runs. It comes back with other
    /// content, to be filled again.
    pub fn chunk(
        &mut self,
        place: CellPlace,
        runs: &[ChunkRun],
        raw: &mut Vec<u8>,
    ) -> Result<Packed> {
        let runs = split_zeros(place, runs, raw);
        let mut extension = Vec::with_capacity(runs.len() * 8);
        runs.iter().for_each(|r| r.encode(&mut extension));
        self.pack(Kind::Chunk, place, extension, raw, true)
    }

    /// An Mft record: `raw` holds the bytes of the data runs, and comes back
    /// with other content.
    pub fn mft(
        &mut self,
        region: u16,
        first_record: u64,
        unit: u32,
        runs: &[MftRun],
        raw: &mut Vec<u8>,
    ) -> Result<Packed> {
        let mut extension = Vec::with_capacity(runs.len() * 16);
        runs.iter().for_each(|r| r.encode(&mut extension));
        let place = CellPlace {
            region,
            cell: first_record,
            unit,
            cell_units: 0,
            granule: 0,
        };
        self.pack(Kind::Mft, place, extension, raw, true)
    }

    fn pack(
        &mut self,
        kind: Kind,
        place: CellPlace,
        extension: Vec<u8>,
        raw: &mut Vec<u8>,
        compress: bool,
    ) -> Result<Packed> {
        let (raw_len, digest) = (raw.len() as u64, *blake3::hash(raw).as_bytes());
        let mut payload = self.pool.take();
        let mut codec = Codec::Stored;
        if compress && !raw.is_empty() && !self.looks_incompressible(raw) {
            payload.reserve(zstd::zstd_safe::compress_bound(raw.len()));
            let fail = |e| Error::io("zstd failed to compress a record", e);
            self.zstd
                .compress_to_buffer(&raw[..], &mut payload)
                .map_err(fail)?;
            // Less than one part in 64 is not worth decoding for.
            if payload.len() + raw.len() / 64 < raw.len() {
                codec = Codec::Zstd;
            }
        }
        if codec == Codec::Stored {
            std::mem::swap(raw, &mut payload);
        }
        Ok(Packed {
            kind,
            codec,
            provenance: Provenance::Source,
            region: place.region,
            position: place.cell,
            unit: place.unit,
            cell: place.cell_units,
            extension,
            gap: 0,
            raw_len,
            digest,
            payload,
        })
    }

    fn looks_incompressible(&mut self, raw: &[u8]) -> bool {
        if raw.len() < SAMPLES * SAMPLE * 2 {
            return false;
        }
        let step = (raw.len() - SAMPLE) / (SAMPLES - 1);
        (0..SAMPLES).all(|i| {
            let part = &raw[i * step..i * step + SAMPLE];
            match self.probe.compress_to_buffer(part, &mut self.sample[..]) {
                Ok(n) => n >= SAMPLE - SAMPLE / 64,
                Err(_) => false,
            }
        })
    }
}

/// Takes the zero granules out of `raw` and says so in the runs.
fn split_zeros(place: CellPlace, runs: &[ChunkRun], raw: &mut Vec<u8>) -> Vec<ChunkRun> {
    let unit = place.unit as usize;
    let mut out: Vec<ChunkRun> = Vec::with_capacity(runs.len());
    let (mut from, mut to) = (0, 0);
    for run in runs {
        if run.kind != RunKind::Data {
            push(&mut out, *run);
            continue;
        }
        let mut at = 0;
        while at < run.units {
            let n = place.granule.max(1).min(run.units - at);
            let bytes = n as usize * unit;
            let zero = is_zero(&raw[from..from + bytes]);
            if !zero {
                if from != to {
                    raw.copy_within(from..from + bytes, to);
                }
                to += bytes;
            }
            from += bytes;
            let kind = if zero { RunKind::Zero } else { RunKind::Data };
            push(
                &mut out,
                ChunkRun {
                    start: run.start + at,
                    units: n,
                    kind,
                },
            );
            at += n;
        }
    }
    raw.truncate(to);
    out
}

fn push(runs: &mut Vec<ChunkRun>, run: ChunkRun) {
    if let Some(last) = runs.last_mut()
        && last.kind == run.kind
        && last.start + last.units == run.start
    {
        last.units += run.units;
        return;
    }
    runs.push(run);
}

/// True when every byte is zero; quick to say no.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (head, rest) = bytes.split_at(bytes.len().min(64));
    head.iter().fold(0, |a, b| a | b) == 0
        && rest
            .chunks(1024)
            .all(|c| c.iter().fold(0, |a, b| a | b) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: CellPlace = CellPlace {
        region: 1,
        cell: 0,
        unit: 512,
        cell_units: 2048,
        granule: 8,
    };

    #[test]
    fn zero_granules_leave_the_payload() {
        let mut raw = vec![1u8; 4096 * 4];
        raw[4096..8192].fill(0);
        let runs = [ChunkRun {
            start: 16,
            units: 32,
            kind: RunKind::Data,
        }];
        let out = split_zeros(PLACE, &runs, &mut raw);
        let got: Vec<_> = out.iter().map(|r| (r.start, r.units, r.kind)).collect();
        assert_eq!(
            got,
            [
                (16, 8, RunKind::Data),
                (24, 8, RunKind::Zero),
                (32, 16, RunKind::Data)
            ]
        );
        assert_eq!(raw, vec![1u8; 4096 * 3]);
    }

    #[test]
    fn incompressible_payloads_are_stored() {
        let mut p = Packer::new(3).unwrap();
        let mut noise = vec![0u8; 1 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        assert!(p.looks_incompressible(&noise));
        let codec = |p: &mut Packer, raw: &[u8]| {
            let packed = p.plain(Kind::Report, raw, true).unwrap();
            assert_eq!(packed.raw_len, raw.len() as u64);
            packed.codec
        };
        assert_eq!(codec(&mut p, &noise), Codec::Stored);
        // One compressible corner is enough to be given to the compressor.
        noise[..300_000].fill(7);
        assert!(!p.looks_incompressible(&noise));
        assert_eq!(codec(&mut p, &noise), Codec::Zstd);
    }
}
