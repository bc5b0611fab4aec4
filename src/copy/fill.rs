//! How much fits into one command: the limits as capacities, and the cost of
//! what was put in so far.

use super::encode::{Body, Segment, embedded_len};
use super::limits::{HeaderWay, Limits, MAX_BLOCKS, MAX_EMBEDDED, cscd};
use super::plan::{DISK, Geometry, Piece, TAPE};
use crate::error::{Error, Result};

/// The limits, in the form in which a command is filled.
#[derive(Clone, Debug)]
pub(super) struct Caps {
    pub tape_block: u64,
    pub disk_block: u64,
    /// Bytes of which an inline piece must be a multiple.
    pub inline_unit: u64,
    /// Bytes of which an extent must be a multiple.
    pub data_unit: u64,
    way: HeaderWay,
    /// Most bytes in one segment of inline or embedded data.
    per_inline: u64,
    /// Most blocks in one segment.
    pub per_extent: u64,
    segments: u64,
    list_bytes: u64,
    inline_bytes: u64,
    command_bytes: u64,
}

/// What a command costs so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// Bytes of the stream.
    pub bytes: u64,
    segments: u64,
    list_bytes: u64,
    inline_bytes: u64,
    /// Bytes of the inline stretch that the last piece belongs to.
    open: u64,
}

/// Extents counted before the header in front of them is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extents {
    pub bytes: u64,
    segments: u64,
}

impl Caps {
    pub fn new(limits: &Limits, g: &Geometry) -> Result<Self> {
        g.check(limits)?;
        limits.check_backup(g.disk_block)?;
        let header = g.header_unit(limits);
        if limits.header_way() == Some(HeaderWay::Inline) && limits.inline_bytes < header {
            return Err(Error::unsupported(format!(
                "The copy manager takes {} bytes of inline data, a record header needs {header}",
                limits.inline_bytes
            ))
            .hint("let the host move the data: --mover host writes the same tape"));
        }
        let list = u64::from(2 * cscd::BYTES) + embedded_len(header);
        if limits.header_way() == Some(HeaderWay::Embedded) && limits.list_bytes < list {
            return Err(Error::unsupported(format!(
                "The copy manager takes lists of {} bytes, a record header needs {list}",
                limits.list_bytes
            ))
            .hint("let the host move the data: --mover host writes the same tape"));
        }
        let t = g.tape_block;
        let way = limits.header_way().unwrap_or(HeaderWay::Inline);
        // With residue a segment writes up to a tape block more than it moves,
        // unless what it moves is at most a whole number of tape blocks.
        let segment = match limits.segment_bytes {
            0 => u64::from(u32::MAX) / t * t,
            n => n / t * t,
        };
        let floor = |n: u64, unit: u64| n / unit * unit;
        let command = match limits.command_bytes {
            0 => g.command_bytes,
            n => n.min(g.command_bytes),
        };
        let inline_unit = match way {
            HeaderWay::Inline => limits.inline_unit(),
            HeaderWay::Embedded => limits.data_unit(),
        };
        let data_unit = limits.data_unit().max(g.disk_block);
        let per_inline = match way {
            HeaderWay::Inline => floor(segment, inline_unit.max(4)),
            HeaderWay::Embedded => floor(segment.min(MAX_EMBEDDED), inline_unit.max(4)),
        };
        // The last segment of a command writes its residue as well.
        let segment = match limits.segment_bytes {
            n if n >= 2 * t => segment - t,
            _ => segment,
        };
        let per_extent = floor(segment.min(MAX_BLOCKS * g.disk_block), data_unit) / g.disk_block;
        Ok(Self {
            tape_block: t,
            disk_block: g.disk_block,
            inline_unit,
            data_unit,
            way,
            per_inline,
            per_extent,
            segments: u64::from(limits.segments),
            list_bytes: limits.list_bytes,
            inline_bytes: limits.inline_bytes,
            command_bytes: floor(command, t).max(t),
        })
    }

    /// Nothing in the command yet.
    pub fn empty(&self) -> Cost {
        Cost {
            list_bytes: u64::from(2 * cscd::BYTES),
            ..Cost::default()
        }
    }

    fn check(&self, c: Cost) -> Option<Cost> {
        (c.segments <= self.segments
            && c.list_bytes <= self.list_bytes
            && c.bytes <= self.command_bytes
            && (self.way == HeaderWay::Embedded || c.inline_bytes <= self.inline_bytes))
            .then_some(c)
    }

    /// Segments and descriptor bytes of an inline stretch.
    fn inline_cost(&self, bytes: u64) -> (u64, u64) {
        let (full, rest) = (bytes / self.per_inline, bytes % self.per_inline);
        let segments = full + u64::from(rest > 0);
        let list = match self.way {
            HeaderWay::Inline => segments * 20,
            HeaderWay::Embedded => {
                full * embedded_len(self.per_inline) + if rest > 0 { embedded_len(rest) } else { 0 }
            }
        };
        (segments, list)
    }

    /// With so many bytes of the host added, if they fit.
    pub fn inline(&self, mut c: Cost, bytes: u64) -> Option<Cost> {
        if bytes == 0 {
            return Some(c);
        }
        let total = c.open.checked_add(bytes)?;
        let (before, after) = (self.inline_cost(c.open), self.inline_cost(total));
        c.segments += after.0 - before.0;
        c.list_bytes += after.1 - before.1;
        if c.open == 0 {
            c.inline_bytes = c.inline_bytes.next_multiple_of(4);
        }
        c.inline_bytes = c.inline_bytes.checked_add(bytes)?;
        c.bytes = c.bytes.checked_add(bytes)?;
        c.open = total;
        self.check(c)
    }

    /// One more extent.
    pub fn extent(&self, mut e: Extents, blocks: u64) -> Option<Extents> {
        e.segments += blocks.div_ceil(self.per_extent);
        e.bytes = e.bytes.checked_add(blocks.checked_mul(self.disk_block)?)?;
        Some(e)
    }

    /// With these extents added, if they fit.
    pub fn extents(&self, mut c: Cost, e: Extents) -> Option<Cost> {
        if e.segments > 0 {
            c.segments += e.segments;
            c.list_bytes = c.list_bytes.checked_add(e.segments.checked_mul(24)?)?;
            c.bytes = c.bytes.checked_add(e.bytes)?;
            c.open = 0;
        }
        self.check(c)
    }

    /// Most blocks of one more extent.
    pub fn room(&self, c: Cost) -> u64 {
        let segments = self
            .segments
            .saturating_sub(c.segments)
            .min(self.list_bytes.saturating_sub(c.list_bytes) / 24);
        let bytes = self.command_bytes.saturating_sub(c.bytes) / self.data_unit * self.data_unit;
        (segments.saturating_mul(self.per_extent)).min(bytes / self.disk_block)
    }

    /// Most bytes of the host, up to `most`, that still fit.
    pub fn inline_room(&self, c: Cost, most: u64) -> u64 {
        let (mut yes, mut no) = (0, most / self.inline_unit + 1);
        while no - yes > 1 {
            let n = yes + (no - yes) / 2;
            match self.inline(c, n * self.inline_unit) {
                Some(_) => yes = n,
                None => no = n,
            }
        }
        yes * self.inline_unit
    }

    /// Refuses an extent that no segment of this copy manager can move.
    pub fn check_extent(&self, lba: u64, blocks: u64) -> Result<()> {
        let bytes = blocks.checked_mul(self.disk_block);
        if blocks == 0 || lba.checked_add(blocks).is_none() || bytes.is_none() {
            return Err(Error::usage(format!(
                "An extent of {blocks} blocks at {lba} is out of range"
            )));
        }
        if bytes.is_some_and(|n| !n.is_multiple_of(self.data_unit)) {
            return Err(Error::unsupported(format!(
                "The copy manager moves multiples of {} bytes only, an extent has {blocks} blocks of {}",
                self.data_unit, self.disk_block
            ))
            .hint("let the host move the data: --mover host writes the same tape"));
        }
        Ok(())
    }

    /// The segments of pieces that were found to fit, all with CAT; inline data
    /// and the bytes of the stream.
    pub fn segments(&self, pieces: &[Piece]) -> Result<(Vec<Segment>, Vec<u8>, u64)> {
        let transfer = u32::try_from(self.tape_block).unwrap_or(u32::MAX);
        let (mut out, mut area, mut bytes) = (Vec::new(), Vec::new(), 0u64);
        let mut open: Vec<u8> = Vec::new();
        for (i, p) in pieces.iter().enumerate() {
            bytes += p.bytes(self.disk_block);
            match p {
                Piece::Inline(data) => {
                    open.extend(data);
                    if !matches!(pieces.get(i + 1), Some(Piece::Inline(_))) {
                        self.put_inline(&std::mem::take(&mut open), transfer, &mut area, &mut out);
                    }
                }
                Piece::Extent { lba, blocks } => {
                    let (mut lba, mut left) = (*lba, *blocks);
                    while left > 0 {
                        let n = left.min(self.per_extent);
                        let count = u16::try_from(n).map_err(|_| {
                            Error::usage(format!("{n} blocks do not fit a segment"))
                        })?;
                        out.push(Segment {
                            cat: true,
                            source: DISK,
                            destination: TAPE,
                            body: Body::BlockToStream {
                                hold: false,
                                transfer,
                                blocks: count,
                                lba,
                            },
                        });
                        (lba, left) = (lba + n, left - n);
                    }
                }
            }
        }
        Ok((out, area, bytes))
    }

    fn put_inline(&self, data: &[u8], transfer: u32, area: &mut Vec<u8>, out: &mut Vec<Segment>) {
        let step = usize::try_from(self.per_inline).unwrap_or(usize::MAX);
        if self.way == HeaderWay::Inline && !data.is_empty() {
            area.resize(area.len().next_multiple_of(4), 0);
        }
        for part in data.chunks(step) {
            let body = match self.way {
                HeaderWay::Inline => {
                    let offset = area.len() as u32;
                    area.extend(part);
                    Body::Inline {
                        transfer,
                        offset,
                        bytes: part.len() as u32,
                    }
                }
                HeaderWay::Embedded => Body::Embedded {
                    transfer,
                    data: part.to_vec(),
                },
            };
            out.push(Segment {
                cat: true,
                source: 0,
                destination: TAPE,
                body,
            });
        }
    }
}
