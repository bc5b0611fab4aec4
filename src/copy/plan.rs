//! A planned command: a stretch of the stream, the segments that move it, and
//! what stands on the tape afterwards.

use super::encode::{Body, Cscd, List, ListId, Segment};
use super::fill::Caps;
use super::limits::{HeaderWay, Limits, Used, cscd};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Bytes that one command moves at most, when the copy manager sets no limit:
/// what has to be written again after a failure, and half of what is kept free
/// on a cartridge.
pub const COMMAND_BYTES: u64 = 256 << 20;

/// Place of the disk in the CSCD list of every command.
pub const DISK: u16 = 0;
/// Place of the tape.
pub const TAPE: u16 = 1;

/// What the plan is made for, beside the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    /// T: bytes of a tape block.
    pub tape_block: u64,
    /// Logical block length of the disk.
    pub disk_block: u64,
    /// Bytes that a command moves at most; the copy manager may want less.
    pub command_bytes: u64,
}

impl Geometry {
    /// With [`COMMAND_BYTES`].
    pub fn new(tape_block: u64, disk_block: u64) -> Self {
        Self {
            tape_block,
            disk_block,
            command_bytes: COMMAND_BYTES,
        }
    }

    pub(super) fn check(&self, limits: &Limits) -> Result<()> {
        limits.check_block(self.tape_block)?;
        let (t, b) = (self.tape_block, self.disk_block);
        if b < 512 || !b.is_power_of_two() || !t.is_multiple_of(b) {
            return Err(Error::unsupported(format!(
                "Disk blocks of {b} bytes do not fit tape blocks of {t}"
            )));
        }
        Ok(())
    }

    /// Bytes of which every record header must be a multiple, so that all
    /// segments lie as the copy manager wants them.
    pub fn header_unit(&self, limits: &Limits) -> u64 {
        let way = match limits.header_way() {
            Some(HeaderWay::Inline) => limits.inline_unit(),
            _ => limits.data_unit(),
        };
        way.max(512).max(self.disk_block)
    }
}

/// A piece of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Piece {
    /// Bytes that the host gives.
    Inline(#[serde(with = "super::hex")] Vec<u8>),
    /// Blocks of the disk.
    Extent {
        /// First block.
        lba: u64,
        /// Number of blocks.
        blocks: u64,
    },
}

impl Piece {
    /// Bytes of the stream.
    pub fn bytes(&self, disk_block: u64) -> u64 {
        match self {
            Piece::Inline(data) => data.len() as u64,
            Piece::Extent { blocks, .. } => blocks.saturating_mul(disk_block),
        }
    }

    /// The first `at` bytes and the rest; none where it cannot be cut there.
    pub(super) fn cut(&self, at: u64, disk_block: u64) -> Option<(Piece, Piece)> {
        match self {
            Piece::Inline(data) => {
                let at = usize::try_from(at).ok()?;
                let (a, b) = data.split_at_checked(at)?;
                Some((Piece::Inline(a.to_vec()), Piece::Inline(b.to_vec())))
            }
            Piece::Extent { lba, blocks } => {
                let n = at / disk_block;
                (at.is_multiple_of(disk_block) && n <= *blocks).then(|| {
                    (
                        Piece::Extent {
                            lba: *lba,
                            blocks: n,
                        },
                        Piece::Extent {
                            lba: lba.saturating_add(n),
                            blocks: blocks - n,
                        },
                    )
                })
            }
        }
    }
}

/// A run of a cell, in disk blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// First block.
    pub lba: u64,
    /// Number of blocks.
    pub blocks: u64,
    /// Run kind of the stream: 0 has its bytes in the record, the others none.
    pub kind: u8,
}

impl Run {
    /// Run kind of what is moved.
    pub const DATA: u8 = 0;

    /// True when its bytes are moved.
    pub fn is_data(&self) -> bool {
        self.kind == Self::DATA
    }
}

/// A record as it will stand in the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedRecord {
    /// How many records the plan has before it.
    pub number: u64,
    /// Region.
    pub region: u16,
    /// Cell number.
    pub cell: u64,
    /// Runs, ascending.
    pub runs: Vec<Run>,
    /// Stream offset of the header.
    pub offset: u64,
    /// Bytes of the header, padding included.
    pub header_len: u64,
    /// Bytes of the payload.
    pub data_len: u64,
    /// Zero bytes behind the record.
    pub gap: u64,
}

/// One EXTENDED COPY command of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Stream offset it begins at, a multiple of T.
    pub offset: u64,
    /// Bytes of the stream it writes, padding not counted.
    pub bytes: u64,
    /// Zero bytes that the copy manager adds to fill the last tape block.
    pub pad: u64,
    /// Tape blocks it writes.
    pub blocks: u64,
    /// Filemarks that its last segment writes.
    pub filemarks: u32,
    /// Filemarks that the host has to write behind it.
    pub host_filemarks: u32,
    /// Segments, in their order.
    pub segments: Vec<Segment>,
    /// Inline data.
    #[serde(with = "super::hex")]
    pub inline: Vec<u8>,
    /// The records in it.
    pub records: Vec<PlannedRecord>,
    /// The same stretch as pieces: what the host writes when it has to.
    pub pieces: Vec<Piece>,
}

impl Command {
    /// A command for these pieces, which must fit.
    pub(super) fn assemble(
        offset: u64,
        pieces: Vec<Piece>,
        records: Vec<PlannedRecord>,
        caps: &Caps,
    ) -> Result<Self> {
        let (mut segments, inline, bytes) = caps.segments(&pieces)?;
        if let Some(last) = segments.last_mut() {
            last.cat = false;
        }
        let blocks = bytes.div_ceil(caps.tape_block);
        Ok(Self {
            offset,
            bytes,
            pad: blocks * caps.tape_block - bytes,
            blocks,
            filemarks: 0,
            host_filemarks: 0,
            segments,
            inline,
            records,
            pieces,
        })
    }

    /// Adds filemarks, where there is room for their segment.
    pub(super) fn add_filemarks(&mut self, count: u32, limits: &Limits) -> bool {
        let used = self.used();
        let segment = Segment {
            cat: false,
            source: 0,
            destination: TAPE,
            body: Body::Filemarks {
                immediate: false,
                count,
            },
        };
        let fits = limits.has(segment.body.code())
            && used.segments < limits.segments
            && used.list_bytes + segment.body.len() <= limits.list_bytes;
        if fits {
            self.segments.push(segment);
            self.filemarks = count;
        }
        fits
    }

    /// Stream offset behind it, a multiple of T.
    pub fn end(&self) -> u64 {
        self.offset + self.bytes + self.pad
    }

    /// True when the copy manager has nothing to do in it.
    pub fn is_for_host(&self) -> bool {
        self.segments.is_empty()
    }

    /// How much of the limits it uses.
    pub fn used(&self) -> Used {
        used(&self.segments, &self.inline, self.bytes)
    }

    /// Its parameter list, `cscds` being disk and tape.
    pub fn parameter_list(&self, id: u8, cscds: &[Cscd; 2]) -> Result<Vec<u8>> {
        List {
            usage: ListId::Hold,
            cscds,
            segments: &self.segments,
            inline: &self.inline,
        }
        .encode(id)
    }

    /// What of it lies behind stream offset `from`, as pieces: how a copy that
    /// broke off goes on. `from` is a multiple of T inside the command.
    pub fn rest(&self, from: u64, disk_block: u64) -> Result<Vec<Piece>> {
        let mut skip = from
            .checked_sub(self.offset)
            .filter(|&n| n <= self.bytes + self.pad)
            .ok_or_else(|| Error::usage(format!("Stream offset {from} is not in the command")))?;
        let mut rest = Vec::new();
        for p in &self.pieces {
            let n = p.bytes(disk_block);
            if skip >= n {
                skip -= n;
            } else if skip == 0 {
                rest.push(p.clone());
            } else {
                let (_, tail) = p.cut(skip, disk_block).ok_or_else(|| {
                    Error::usage(format!(
                        "Stream offset {from} lies inside a block of the disk"
                    ))
                })?;
                rest.push(tail);
                skip = 0;
            }
        }
        Ok(rest)
    }
}

pub(super) fn used(segments: &[Segment], inline: &[u8], bytes: u64) -> Used {
    Used {
        segments: u32::try_from(segments.len()).unwrap_or(u32::MAX),
        list_bytes: u64::from(2 * cscd::BYTES) + segments.iter().map(|s| s.body.len()).sum::<u64>(),
        inline_bytes: inline.len() as u64,
        bytes,
    }
}
