//! Parameter lists of EXTENDED COPY (LID1) read from their bytes, as a copy
//! manager does it. Written from the tables of the standard, apart from the
//! encoder, so that each checks the other. Nothing here is executed: what a list
//! asks of its units is judged when its turn comes.

mod cscd;
mod segment;
mod shape;

pub use cscd::{Cscd, CscdId, Designator, Parameters};
pub use segment::{Body, Segment};

use crate::copy::limits::Limits;
use crate::scsi::{Sense, SenseKey};
use std::ops::Range;

/// Bytes of the header.
pub const HEADER: usize = 16;

/// Most bytes of one read or write of a tape, whatever a list says: a WRITE(6)
/// has 24 bits for it.
const MOST_TRANSFER: u64 = 0xff_ffff;

/// LIST ID USAGE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListIdUsage {
    /// 00b: the id is valid, held data is kept.
    Hold,
    /// 10b: the id is valid, held data may be discarded.
    Discard,
    /// 11b: no id.
    None,
}

/// A parameter list in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// LIST IDENTIFIER.
    pub id: u8,
    /// What the id is for.
    pub usage: ListIdUsage,
    /// STR: disks may be read out of order.
    pub sequential_striped: bool,
    /// PRIORITY, 0 is the highest.
    pub priority: u8,
    /// CSCD descriptors; their place is their id.
    pub cscds: Vec<Cscd>,
    /// Segment descriptors in order.
    pub segments: Vec<Segment>,
    /// Where in the list the inline data is.
    pub inline: Range<usize>,
}

impl List {
    /// The CSCD descriptor of an id, if the list has it.
    pub fn cscd(&self, id: u16) -> Option<&Cscd> {
        self.cscds.get(usize::from(id))
    }
}

/// Where in the parameter data a mistake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// SD: `byte` counts from the segment descriptor, not from the list.
    pub in_segment: bool,
    /// FIELD POINTER.
    pub byte: u16,
    /// BIT POINTER, when one bit or field of bits is meant.
    pub bit: Option<u8>,
}

impl Field {
    /// A byte of the list. One that a field pointer cannot reach gives none.
    pub fn at(byte: usize) -> Option<Self> {
        Some(Self {
            in_segment: false,
            byte: u16::try_from(byte).ok()?,
            bit: None,
        })
    }

    /// A byte of the segment descriptor that fails.
    pub fn in_segment(byte: u16) -> Option<Self> {
        Some(Self {
            in_segment: true,
            byte,
            bit: None,
        })
    }

    /// Names the most significant bit of the field.
    pub fn bit(self, bit: u8) -> Self {
        Self {
            bit: Some(bit & 7),
            ..self
        }
    }

    /// The sense-key specific bytes, SKSV set.
    pub fn bytes(self) -> [u8; 3] {
        let mut first = 0x80 | (u8::from(self.in_segment) << 5);
        if let Some(bit) = self.bit {
            first |= 0x08 | bit;
        }
        let [high, low] = self.byte.to_be_bytes();
        [first, high, low]
    }
}

/// Why a list is refused before its first segment: ILLEGAL REQUEST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// ASC and ASCQ.
    pub code: u16,
    /// Where.
    pub field: Option<Field>,
}

impl Refusal {
    /// 1Ah/00h PARAMETER LIST LENGTH ERROR.
    pub const LENGTH: u16 = 0x1a00;
    /// 26h/00h INVALID FIELD IN PARAMETER LIST.
    pub const FIELD: u16 = 0x2600;
    /// 26h/06h TOO MANY TARGET DESCRIPTORS.
    pub const MANY_CSCDS: u16 = 0x2606;
    /// 26h/07h UNSUPPORTED TARGET DESCRIPTOR TYPE CODE.
    pub const CSCD_TYPE: u16 = 0x2607;
    /// 26h/08h TOO MANY SEGMENT DESCRIPTORS.
    pub const MANY_SEGMENTS: u16 = 0x2608;
    /// 26h/09h UNSUPPORTED SEGMENT DESCRIPTOR TYPE CODE.
    pub const SEGMENT_TYPE: u16 = 0x2609;
    /// 26h/0Bh INLINE DATA LENGTH EXCEEDED.
    pub const INLINE: u16 = 0x260b;

    fn new(code: u16, field: Option<Field>) -> Self {
        Self { code, field }
    }

    /// As sense data.
    pub fn sense(self) -> Sense {
        let [asc, ascq] = self.code.to_be_bytes();
        let mut sense = Sense::new(SenseKey::IllegalRequest, asc, ascq);
        sense.sense_key_specific = self.field.map(Field::bytes);
        sense
    }
}

/// Reads a parameter list. The whole list is judged before anything of it is
/// done; the first mistake in the order of SPC is the one that is told.
pub fn parse(list: &[u8], rules: &Limits) -> Result<List, Refusal> {
    let length = || Refusal::new(Refusal::LENGTH, None);
    let header = list.get(..HEADER).ok_or_else(length)?;
    let id = u8_at(header, 0);
    let flags = u8_at(header, 1);
    let usage = match flags >> 3 & 3 {
        0 => ListIdUsage::Hold,
        2 => ListIdUsage::Discard,
        3 if !rules.no_list_id => {
            return Err(field_bit(1, 4));
        }
        3 if id != 0 => return Err(Refusal::new(Refusal::FIELD, Field::at(0))),
        3 => ListIdUsage::None,
        _ => return Err(field_bit(1, 4)),
    };
    let cscd_bytes = usize::from(u16_at(header, 2));
    let segment_bytes = u32_at(header, 8) as usize;
    let inline_bytes = u32_at(header, 12) as usize;
    if (cscd_bytes as u64).saturating_add(segment_bytes as u64) > rules.list_bytes {
        return Err(length());
    }
    if inline_bytes as u64 > rules.inline_bytes {
        return Err(Refusal::new(Refusal::INLINE, Field::at(12)));
    }
    let cscd_end = HEADER.saturating_add(cscd_bytes);
    let segment_end = cscd_end.saturating_add(segment_bytes);
    let inline_end = segment_end.saturating_add(inline_bytes);
    if inline_end > list.len() {
        return Err(length());
    }
    let cscds = cscd::all(list, HEADER..cscd_end, rules)?;
    let segments = segment::all(list, cscd_end..segment_end, rules)?;
    let list = List {
        id,
        usage,
        sequential_striped: flags & 0x20 != 0,
        priority: flags & 7,
        cscds,
        segments,
        inline: segment_end..inline_end,
    };
    together(&list, rules)?;
    Ok(list)
}

/// What only the list as a whole shows.
fn together(list: &List, rules: &Limits) -> Result<(), Refusal> {
    for segment in &list.segments {
        if segment.hold && list.usage == ListIdUsage::None {
            return Err(Refusal::new(Refusal::FIELD, Field::at(segment.at)));
        }
        for (id, transfer, byte) in segment.transfers() {
            let Some(cscd) = list.cscd(id) else { continue };
            let Some(bytes) = cscd.transfer_bytes(transfer) else {
                continue;
            };
            let most = match rules.stream_transfer {
                0 => MOST_TRANSFER,
                limit => limit.min(MOST_TRANSFER),
            };
            if bytes == 0 || bytes > most {
                let field = Field::at(segment.at.saturating_add(byte));
                return Err(Refusal::new(Refusal::FIELD, field));
            }
        }
    }
    Ok(())
}

fn field_bit(byte: usize, bit: u8) -> Refusal {
    Refusal::new(Refusal::FIELD, Field::at(byte).map(|f| f.bit(bit)))
}

// Numbers of a slice whose length has been checked; zero beyond its end.

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let end = at.saturating_add(len);
    bytes
        .get(at..end)
        .unwrap_or(&[])
        .iter()
        .fold(0, |n, b| n << 8 | u64::from(*b))
}

fn u8_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    number(bytes, at, 2) as u16
}

fn u24_at(bytes: &[u8], at: usize) -> u32 {
    number(bytes, at, 3) as u32
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    number(bytes, at, 4) as u32
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    number(bytes, at, 8)
}

#[cfg(test)]
pub(crate) mod tests;
