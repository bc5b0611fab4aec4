//! Segment descriptors: what a list asks for, step by step.

use super::{Field, Refusal, u8_at, u16_at, u24_at, u32_at, u64_at};
use crate::copy::limits::Limits;
use std::ops::Range;

/// A segment descriptor in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its first byte in the list.
    pub at: usize,
    /// Type code.
    pub code: u8,
    /// CAT.
    pub cat: bool,
    /// DC; means something for 02h and 0Dh only.
    pub dc: bool,
    /// True for the types that also hold data for the application client.
    pub hold: bool,
    /// Source CSCD id; reserved where the type has none.
    pub source: u16,
    /// Destination CSCD id; reserved where the type has none.
    pub destination: u16,
    /// What its type adds.
    pub body: Body,
}

/// What a segment does, by type. `transfer` is STREAM DEVICE TRANSFER LENGTH.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Body {
    /// 00h, 0Bh.
    BlockToStream {
        transfer: u32,
        blocks: u16,
        lba: u64,
    },
    /// 01h, 0Ch.
    StreamToBlock {
        transfer: u32,
        blocks: u16,
        lba: u64,
    },
    /// 02h, 0Dh.
    BlockToBlock {
        blocks: u16,
        source_lba: u64,
        destination_lba: u64,
    },
    /// 03h, 0Eh.
    StreamToStream {
        source_transfer: u32,
        destination_transfer: u32,
        bytes: u32,
    },
    /// 04h: `offset` counts from the start of the inline data.
    Inline {
        transfer: u32,
        offset: u32,
        bytes: u32,
    },
    /// 05h: `data` is a range of the list.
    Embedded { transfer: u32, data: Range<usize> },
    /// 06h, 0Fh.
    Discard { transfer: u32, bytes: u32 },
    /// 07h.
    Verify { ready: bool },
    /// 08h.
    RangeToStream {
        transfer: u32,
        bytes: u32,
        lba: u64,
        offset: u16,
    },
    /// 09h.
    StreamToRange {
        transfer: u32,
        bytes: u32,
        lba: u64,
        offset: u16,
    },
    /// 0Ah.
    RangeToRange {
        bytes: u32,
        source_lba: u64,
        destination_lba: u64,
        source_offset: u16,
        destination_offset: u16,
    },
    /// 10h.
    Filemarks { immediate: bool, count: u32 },
    /// 11h: the count is signed.
    Space { code: u8, count: i32 },
    /// 12h.
    Locate { object: u32 },
    /// 14h.
    RegisterKey { key: u64, action_key: u64 },
}

/// DESCRIPTOR LENGTH of the types that have one length.
fn length_of(code: u8) -> Option<u16> {
    Some(match code {
        0x00 | 0x01 | 0x0b | 0x0c => 0x14,
        0x02 | 0x0d => 0x18,
        0x03 | 0x04 | 0x0e => 0x10,
        0x06 | 0x0f => 0x0c,
        0x07 | 0x10 | 0x11 | 0x12 => 0x08,
        0x08 | 0x09 => 0x18,
        0x0a => 0x1c,
        0x14 => 0x18,
        _ => return None,
    })
}

/// Reads all descriptors of `range`.
pub(super) fn all(
    list: &[u8],
    range: Range<usize>,
    rules: &Limits,
) -> Result<Vec<Segment>, Refusal> {
    let mut count = 0u32;
    let mut at = range.start;
    while at < range.end {
        count += 1;
        if count > rules.segments {
            return Err(Refusal::new(Refusal::MANY_SEGMENTS, Field::at(8)));
        }
        at = at.saturating_add(4 + usize::from(u16_at(list, at + 2)));
    }
    let mut out = Vec::with_capacity(count as usize);
    let mut at = range.start;
    while at < range.end {
        let left = list.get(at..range.end).unwrap_or(&[]);
        let (segment, len) = one(left, at, rules)?;
        out.push(segment);
        at = at.saturating_add(len);
    }
    Ok(out)
}

fn one(left: &[u8], at: usize, rules: &Limits) -> Result<(Segment, usize), Refusal> {
    let wrong = |byte: usize| Refusal::new(Refusal::FIELD, Field::at(at + byte));
    let code = u8_at(left, 0);
    let fixed = length_of(code);
    if !rules.has(code) || !(fixed.is_some() || code == 0x05) {
        return Err(Refusal::new(Refusal::SEGMENT_TYPE, Field::at(at)));
    }
    let stated = u16_at(left, 2);
    let total = 4 + usize::from(stated);
    if left.len() < 4 {
        return Err(Refusal::new(Refusal::LENGTH, None));
    }
    match fixed {
        Some(len) if len != stated => return Err(wrong(2)),
        None if stated < 12 || !stated.is_multiple_of(4) => return Err(wrong(2)),
        _ => {}
    }
    let d = left
        .get(..total)
        .ok_or(Refusal::new(Refusal::LENGTH, None))?;
    let transfer = u24_at(d, 9);
    let body = match code {
        0x00 | 0x0b => Body::BlockToStream {
            transfer,
            blocks: u16_at(d, 14),
            lba: u64_at(d, 16),
        },
        0x01 | 0x0c => Body::StreamToBlock {
            transfer,
            blocks: u16_at(d, 14),
            lba: u64_at(d, 16),
        },
        0x02 | 0x0d => Body::BlockToBlock {
            blocks: u16_at(d, 10),
            source_lba: u64_at(d, 12),
            destination_lba: u64_at(d, 20),
        },
        0x03 | 0x0e => Body::StreamToStream {
            source_transfer: transfer,
            destination_transfer: u24_at(d, 13),
            bytes: u32_at(d, 16),
        },
        0x04 => {
            let offset = u32_at(d, 12);
            if !offset.is_multiple_of(4) {
                return Err(wrong(12));
            }
            Body::Inline {
                transfer,
                offset,
                bytes: u32_at(d, 16),
            }
        }
        0x05 => {
            let bytes = u16_at(d, 12);
            if bytes > stated - 12 {
                return Err(wrong(12));
            }
            let start = at + 16;
            Body::Embedded {
                transfer,
                data: start..start + usize::from(bytes),
            }
        }
        0x06 | 0x0f => Body::Discard {
            transfer,
            bytes: u32_at(d, 12),
        },
        0x07 => Body::Verify {
            ready: u8_at(d, 8) & 1 != 0,
        },
        0x08 => Body::RangeToStream {
            transfer,
            bytes: u32_at(d, 12),
            lba: u64_at(d, 16),
            offset: u16_at(d, 26),
        },
        0x09 => Body::StreamToRange {
            transfer,
            bytes: u32_at(d, 12),
            lba: u64_at(d, 16),
            offset: u16_at(d, 26),
        },
        0x0a => Body::RangeToRange {
            bytes: u32_at(d, 8),
            source_lba: u64_at(d, 12),
            destination_lba: u64_at(d, 20),
            source_offset: u16_at(d, 28),
            destination_offset: u16_at(d, 30),
        },
        0x10 => {
            // Setmarks (WSMK) are obsolete and nothing has them.
            if u8_at(d, 8) & 2 != 0 {
                let field = Field::at(at + 8).map(|f| f.bit(1));
                return Err(Refusal::new(Refusal::FIELD, field));
            }
            Body::Filemarks {
                immediate: u8_at(d, 8) & 1 != 0,
                count: u24_at(d, 9),
            }
        }
        0x11 => {
            let code = u8_at(d, 8) & 0xf;
            if code > 3 {
                let field = Field::at(at + 8).map(|f| f.bit(3));
                return Err(Refusal::new(Refusal::FIELD, field));
            }
            Body::Space {
                code,
                count: signed24(u24_at(d, 9)),
            }
        }
        0x12 => Body::Locate {
            object: u32_at(d, 8),
        },
        _ => Body::RegisterKey {
            key: u64_at(d, 8),
            action_key: u64_at(d, 16),
        },
    };
    let segment = Segment {
        at,
        code,
        cat: u8_at(d, 1) & 1 != 0,
        dc: u8_at(d, 1) & 2 != 0,
        hold: matches!(code, 0x0b..=0x0f),
        source: u16_at(d, 4),
        destination: u16_at(d, 6),
        body,
    };
    Ok((segment, total))
}

fn signed24(n: u32) -> i32 {
    ((n << 8) as i32) >> 8
}

impl Segment {
    /// CSCD ids of its source and destination, where its type has them.
    pub fn ends(&self) -> (Option<u16>, Option<u16>) {
        match self.body {
            Body::Inline { .. } | Body::Embedded { .. } => (None, Some(self.destination)),
            Body::Discard { .. } | Body::Verify { .. } => (Some(self.source), None),
            Body::Filemarks { .. }
            | Body::Space { .. }
            | Body::Locate { .. }
            | Body::RegisterKey { .. } => (None, Some(self.destination)),
            _ => (Some(self.source), Some(self.destination)),
        }
    }

    /// Each STREAM DEVICE TRANSFER LENGTH that moves bytes: the CSCD id it
    /// belongs to, its value, and its place in the descriptor.
    pub(super) fn transfers(&self) -> impl Iterator<Item = (u16, u32, usize)> {
        let (first, second) = match self.body {
            Body::BlockToStream { transfer, .. }
            | Body::Inline { transfer, .. }
            | Body::Embedded { transfer, .. }
            | Body::RangeToStream { transfer, .. } => (Some((self.destination, transfer, 9)), None),
            Body::StreamToBlock { transfer, .. }
            | Body::Discard { transfer, .. }
            | Body::StreamToRange { transfer, .. } => (Some((self.source, transfer, 9)), None),
            Body::StreamToStream {
                source_transfer,
                destination_transfer,
                ..
            } => (
                Some((self.source, source_transfer, 9)),
                Some((self.destination, destination_transfer, 13)),
            ),
            _ => (None, None),
        };
        first.into_iter().chain(second)
    }
}
