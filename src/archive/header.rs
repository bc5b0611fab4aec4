//! The record header: disk form (512 bytes and more) and memory form.

mod runs;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};

pub use runs::{ChunkRun, MftRun, RunKind};

/// Records begin at multiples of this many bytes.
pub const BLOCK: usize = 512;
/// Region field of a record that belongs to none.
pub const NO_REGION: u16 = 0xffff;
/// Most bytes an Mft or Chunk payload may have, stored or decoded.
pub const MAX_DATA_BYTES: u64 = 64 << 20;

pub(super) const FIXED: usize = 128;
const MAX_HEADER: usize = 1 << 20;
/// Most blocks of zeros behind a record: the longest tape block.
const MAX_GAP: u32 = (16 << 20) / BLOCK as u32;
const CRC_AT: usize = 124;
const VERSION: u16 = 1;

/// `n` rounded up to a whole block.
pub const fn padded(n: u64) -> u64 {
    n.div_ceil(BLOCK as u64) * BLOCK as u64
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// What this backup is.
    Head = 1,
    /// The regions of the source.
    Disk = 2,
    /// A run of file records.
    Mft = 3,
    /// The kept bytes of a grid cell.
    Chunk = 4,
    /// Fills up.
    Pad = 5,
    /// Where everything stands.
    Index = 6,
    /// What was found.
    Report = 7,
    /// The end.
    Tail = 8,
}

impl Kind {
    const ALL: [(Kind, &'static [u8; 8]); 8] = [
        (Kind::Head, b"NTBKHEAD"),
        (Kind::Disk, b"NTBKDISK"),
        (Kind::Mft, b"NTBK_MFT"),
        (Kind::Chunk, b"NTBKCHNK"),
        (Kind::Pad, b"NTBK_PAD"),
        (Kind::Index, b"NTBKINDX"),
        (Kind::Report, b"NTBKREPT"),
        (Kind::Tail, b"NTBKTAIL"),
    ];

    fn magic(self) -> &'static [u8; 8] {
        Self::ALL[self as usize - 1].1
    }

    fn of(magic: &[u8], code: u8) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(k, m)| *k as u8 == code && m[..] == *magic)
            .map(|(k, _)| *k)
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        [
            "Head", "Disk", "Mft", "Chunk", "Pad", "Index", "Report", "Tail",
        ][self as usize - 1]
    }

    /// Most bytes its payload may have, stored or decoded.
    pub fn max_bytes(self) -> u64 {
        match self {
            Kind::Index => 1 << 30,
            Kind::Head | Kind::Disk => 4 << 20,
            _ => MAX_DATA_BYTES,
        }
    }
}

/// How a payload is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    Stored = 0,
    /// One zstd frame.
    Zstd = 1,
}

/// From what a digest was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Provenance {
    /// There is no digest.
    None = 0,
    /// From the bytes as they came from the source.
    Source = 1,
    /// From the archive, afterwards.
    ReadBack = 2,
}

/// The numbers at the end of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Stream offsets of both Index records.
    pub index: [u64; 2],
    /// Stream offset of Report.
    pub report: u64,
    /// Records before Tail.
    pub records: u64,
    /// Raw bytes of all Mft and Chunk payloads.
    pub raw_bytes: u64,
    /// Stored bytes of all Mft and Chunk payloads.
    pub stored_bytes: u64,
    /// Bytes kept as zero runs.
    pub zero_bytes: u64,
    /// Bytes the source did not give.
    pub unreadable_bytes: u64,
    /// Bytes left out on request.
    pub skipped_bytes: u64,
    /// Bytes of the whole stream; not stored, known once Tail was seen.
    pub end: u64,
}

/// A record header in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the record is.
    pub kind: Kind,
    /// How the payload is stored.
    pub codec: Codec,
    /// Where the digest comes from.
    pub provenance: Provenance,
    /// Region it belongs to, or [`NO_REGION`].
    pub region: u16,
    /// Running number.
    pub sequence: u64,
    /// Where the header stands in the stream.
    pub stream_offset: u64,
    /// Bytes of the decoded payload.
    pub raw_len: u64,
    /// Bytes of the payload in the stream.
    pub stored_len: u64,
    /// Cell number, or number of the first file record.
    pub position: u64,
    /// Archive id.
    pub id: [u8; 16],
    /// BLAKE3.
    pub digest: [u8; 32],
    /// Bytes of one unit.
    pub unit: u32,
    /// Units of one cell.
    pub cell: u32,
    /// Blocks of zeros behind the record, up to a boundary of tape blocks.
    pub gap: u32,
    /// Length of the disk form, where it is longer than what is in it needs;
    /// else 0.
    pub longer: u32,
    /// Runs in disk form, or the totals.
    pub extension: Vec<u8>,
}

impl Header {
    /// The archive it belongs to.
    pub fn archive_id(&self) -> super::ArchiveId {
        super::ArchiveId(self.id)
    }

    /// The header of a Chunk whose bytes a copy manager will move: nobody has
    /// seen them, so there is no digest.
    pub fn unseen_chunk(id: super::ArchiveId, place: super::CellPlace, runs: &[ChunkRun]) -> Self {
        let mut extension = Vec::with_capacity(runs.len() * 8);
        runs.iter().for_each(|r| r.encode(&mut extension));
        let data = runs.iter().filter(|r| r.kind == RunKind::Data);
        let raw_len = data.map(|r| u64::from(r.units)).sum::<u64>() * u64::from(place.unit);
        Self {
            kind: Kind::Chunk,
            codec: Codec::Stored,
            provenance: Provenance::None,
            region: place.region,
            sequence: 0,
            stream_offset: 0,
            raw_len,
            stored_len: raw_len,
            position: place.cell,
            id: id.0,
            digest: [0; 32],
            unit: place.unit,
            cell: place.cell_units,
            gap: 0,
            longer: 0,
            extension,
        }
    }

    /// Length that [`Header::unseen_chunk`] has with this many runs.
    pub const fn chunk_len(runs: usize) -> u64 {
        padded((FIXED + 8 * runs) as u64)
    }

    /// Length of the disk form, padding included.
    pub fn len(&self) -> usize {
        (padded((FIXED + self.extension.len()) as u64) as usize).max(self.longer as usize)
    }

    /// Never: a header has at least one block.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Header and payload with their padding, without the gap behind.
    pub fn total_len(&self) -> u64 {
        self.len() as u64 + padded(self.stored_len)
    }

    /// From this header to the next.
    pub fn stride(&self) -> u64 {
        self.total_len() + u64::from(self.gap) * BLOCK as u64
    }

    /// Appends the disk form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let at = out.len();
        let len = self.len();
        out.resize(at + len, 0);
        let h = &mut out[at..];
        h[0..8].copy_from_slice(self.kind.magic());
        h[8..10].copy_from_slice(&VERSION.to_le_bytes());
        h[10] = self.kind as u8;
        h[11] = self.codec as u8;
        h[12] = self.provenance as u8;
        h[13] = u8::from(self.has_unreadable());
        h[14..16].copy_from_slice(&self.region.to_le_bytes());
        h[16..20].copy_from_slice(&(len as u32).to_le_bytes());
        h[20..24].copy_from_slice(&(self.extension.len() as u32).to_le_bytes());
        for (i, v) in [
            self.sequence,
            self.stream_offset,
            self.raw_len,
            self.stored_len,
            self.position,
        ]
        .into_iter()
        .enumerate()
        {
            h[24 + 8 * i..32 + 8 * i].copy_from_slice(&v.to_le_bytes());
        }
        h[64..80].copy_from_slice(&self.id);
        h[80..112].copy_from_slice(&self.digest);
        h[112..116].copy_from_slice(&self.unit.to_le_bytes());
        h[116..120].copy_from_slice(&self.cell.to_le_bytes());
        h[120..124].copy_from_slice(&self.gap.to_le_bytes());
        h[FIXED..FIXED + self.extension.len()].copy_from_slice(&self.extension);
        let crc = crc32c::crc32c(h);
        h[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    }

    /// How long the header at the start of `block` claims to be, if it looks
    /// like one: what has to be read before [`Header::decode`].
    pub fn peek_len(block: &[u8]) -> Option<usize> {
        if block.len() < BLOCK || !Kind::ALL.iter().any(|(_, m)| m[..] == block[..8]) {
            return None;
        }
        let len = u32_at(block, 16) as usize;
        (len.is_multiple_of(BLOCK) && (BLOCK..=MAX_HEADER).contains(&len)).then_some(len)
    }

    /// Reads the disk form. `bytes` begins with the header and is at least as
    /// long as [`Header::peek_len`] said; `at` is its place for messages.
    pub fn decode(bytes: &[u8], at: u64) -> Result<Header> {
        let bad = |what: String| Error::damaged(what).at(at);
        let len = Self::peek_len(bytes)
            .filter(|&l| l <= bytes.len())
            .ok_or_else(|| bad("Found no record header where one was expected".into()))?;
        let h = &bytes[..len];
        let stated = u32_at(h, CRC_AT);
        let crc = crc32c::crc32c_append(
            crc32c::crc32c_append(crc32c::crc32c(&h[..CRC_AT]), &[0; 4]),
            &h[FIXED..],
        );
        if crc != stated {
            return Err(bad(format!(
                "Record header has CRC-32C {stated:08x}, expected {crc:08x}"
            )));
        }
        let version = u16::from_le_bytes([h[8], h[9]]);
        if version != VERSION {
            return Err(Error::unsupported(format!(
                "Record has format version {version}, this program reads {VERSION}"
            ))
            .at(at)
            .hint("use a newer ntbak"));
        }
        let kind = Kind::of(&h[..8], h[10])
            .ok_or_else(|| bad(format!("Record kind {} does not fit its magic", h[10])))?;
        let codec = match h[11] {
            0 => Codec::Stored,
            1 => Codec::Zstd,
            c => return Err(bad(format!("Record has codec {c}, expected 0 or 1"))),
        };
        let provenance = match h[12] {
            0 => Provenance::None,
            1 => Provenance::Source,
            2 => Provenance::ReadBack,
            p => {
                return Err(bad(format!(
                    "Record has digest provenance {p}, expected 0 to 2"
                )));
            }
        };
        let ext = u32_at(h, 20) as usize;
        if ext > len - FIXED {
            return Err(bad(format!(
                "Header extension has {ext} bytes, room for {}",
                len - FIXED
            )));
        }
        let header = Header {
            kind,
            codec,
            provenance,
            region: u16::from_le_bytes([h[14], h[15]]),
            sequence: u64_at(h, 24),
            stream_offset: u64_at(h, 32),
            raw_len: u64_at(h, 40),
            stored_len: u64_at(h, 48),
            position: u64_at(h, 56),
            id: h[64..80].try_into().unwrap_or_default(),
            digest: h[80..112].try_into().unwrap_or_default(),
            unit: u32_at(h, 112),
            cell: u32_at(h, 116),
            gap: u32_at(h, 120),
            longer: match padded((FIXED + ext) as u64) as usize == len {
                true => 0,
                false => len as u32,
            },
            extension: h[FIXED..FIXED + ext].to_vec(),
        };
        if header.gap > MAX_GAP {
            return Err(bad(format!(
                "{} record states {} blocks of zeros behind it, at most {MAX_GAP} are allowed",
                kind.name(),
                header.gap
            )));
        }
        let max = kind.max_bytes();
        if header.raw_len > max || header.stored_len > max {
            return Err(bad(format!(
                "{} record states {} raw and {} stored bytes, at most {max} are allowed",
                kind.name(),
                header.raw_len,
                header.stored_len
            )));
        }
        // An index is shorter than the headers before it and the two it copies.
        if kind == Kind::Index && header.raw_len > at.saturating_add(16 << 20) {
            return Err(bad(format!(
                "Index record states {} bytes, more than the stream before it can need",
                header.raw_len
            )));
        }
        if codec == Codec::Stored && header.raw_len != header.stored_len {
            return Err(bad(format!(
                "Stored payload has {} bytes, expected {}",
                header.stored_len, header.raw_len
            )));
        }
        header.check_runs().map_err(|e| e.at(at))?;
        Ok(header)
    }

    /// The totals of a Tail.
    pub fn totals(&self) -> Option<Totals> {
        if self.kind != Kind::Tail || self.extension.len() < 72 {
            return None;
        }
        let n = |i: usize| u64_at(&self.extension, 8 * i);
        Some(Totals {
            index: [n(0), n(1)],
            report: n(2),
            records: n(3),
            raw_bytes: n(4),
            stored_bytes: n(5),
            zero_bytes: n(6),
            unreadable_bytes: n(7),
            skipped_bytes: n(8),
            end: self.stream_offset + self.stride(),
        })
    }
}

impl Totals {
    pub(super) fn encode(&self) -> Vec<u8> {
        [
            self.index[0],
            self.index[1],
            self.report,
            self.records,
            self.raw_bytes,
            self.stored_bytes,
            self.zero_bytes,
            self.unreadable_bytes,
            self.skipped_bytes,
        ]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect()
    }
}

pub(super) fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

pub(super) fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from(u32_at(b, at)) | u64::from(u32_at(b, at + 4)) << 32
}
