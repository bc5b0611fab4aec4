//! CSCD descriptors: which logical units a list speaks of.

use super::{Field, Refusal, number, u8_at, u16_at, u24_at, u64_at};
use crate::copy::limits::Limits;
use std::ops::Range;

/// Bytes of a descriptor; EAh and EBh have two of them.
pub const CSCD: usize = 32;

/// A CSCD descriptor in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cscd {
    /// Its first byte in the list.
    pub at: usize,
    /// Which unit.
    pub id: CscdId,
    /// NUL: no unit at all; what would need one ends as unreachable.
    pub null: bool,
    /// PERIPHERAL DEVICE TYPE.
    pub peripheral_type: u8,
    /// RELATIVE INITIATOR PORT IDENTIFIER, 0 is any.
    pub initiator_port: u16,
    /// What its type of device adds.
    pub parameters: Parameters,
}

/// How a descriptor names its unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CscdId {
    /// E4h: a designator of its VPD page 83h.
    Designator(Designator),
    /// E0h: the name of a port, and a logical unit number.
    Port {
        /// LOGICAL UNIT NUMBER, eight bytes as in REPORT LUNS.
        lun: u64,
        /// N_PORT_NAME.
        name: u64,
    },
}

/// A designator as in VPD page 83h.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Designator {
    /// CODE SET.
    pub code_set: u8,
    /// ASSOCIATION: 0 is the logical unit, 1 a target port.
    pub association: u8,
    /// DESIGNATOR TYPE.
    pub kind: u8,
    /// The designator, at most 20 bytes.
    pub value: Vec<u8>,
}

/// Bytes 28 to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameters {
    /// A device of blocks.
    Block {
        /// PAD.
        pad: bool,
        /// DISK BLOCK LENGTH; 0: ask the unit.
        block: u32,
    },
    /// A tape.
    Stream {
        /// PAD.
        pad: bool,
        /// STREAM BLOCK LENGTH with FIXED; none is variable.
        fixed: Option<u32>,
    },
    /// A processor.
    Processor {
        /// PAD.
        pad: bool,
    },
    /// A type that no segment reads or writes.
    Other,
}

impl Cscd {
    /// PAD.
    pub fn pad(&self) -> bool {
        match self.parameters {
            Parameters::Block { pad, .. }
            | Parameters::Stream { pad, .. }
            | Parameters::Processor { pad } => pad,
            Parameters::Other => false,
        }
    }

    /// True for the types of devices that have blocks.
    pub fn is_block(&self) -> bool {
        matches!(self.parameters, Parameters::Block { .. })
    }

    /// True for a tape.
    pub fn is_stream(&self) -> bool {
        matches!(self.parameters, Parameters::Stream { .. })
    }

    /// Bytes of one tape block when a segment states this STREAM DEVICE TRANSFER
    /// LENGTH: the length itself, or STREAM BLOCK LENGTH with FIXED.
    pub fn tape_block(&self, transfer: u32) -> Option<u32> {
        match self.parameters {
            Parameters::Stream { fixed, .. } => Some(fixed.unwrap_or(transfer)),
            _ => None,
        }
    }

    /// Bytes of one read or write when a segment states this STREAM DEVICE
    /// TRANSFER LENGTH; none when this is no tape.
    pub fn transfer_bytes(&self, transfer: u32) -> Option<u64> {
        match self.parameters {
            Parameters::Stream { fixed: None, .. } => Some(transfer.into()),
            Parameters::Stream {
                fixed: Some(block), ..
            } => Some(u64::from(block) * u64::from(transfer)),
            _ => None,
        }
    }
}

/// Reads all descriptors of `range`.
pub(super) fn all(list: &[u8], range: Range<usize>, rules: &Limits) -> Result<Vec<Cscd>, Refusal> {
    let mut places = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let long = matches!(u8_at(list, at), 0xea | 0xeb);
        let len = if long { 2 * CSCD } else { CSCD };
        if at.saturating_add(len) > range.end {
            return Err(Refusal::new(Refusal::LENGTH, None));
        }
        // One more than is allowed is enough to know.
        if places.len() as u64 >= u64::from(rules.cscds) {
            return Err(Refusal::new(Refusal::MANY_CSCDS, Field::at(2)));
        }
        places.push(at..at + len);
        at += len;
    }
    places.into_iter().map(|p| one(list, p, rules)).collect()
}

fn one(list: &[u8], place: Range<usize>, rules: &Limits) -> Result<Cscd, Refusal> {
    let at = place.start;
    let d = list.get(place).unwrap_or(&[]);
    let wrong = |byte: usize| Refusal::new(Refusal::FIELD, Field::at(at + byte));
    let code = u8_at(d, 0);
    let id = match code {
        0xe4 if rules.has(code) => {
            let len = usize::from(u8_at(d, 7));
            if len > 20 {
                return Err(wrong(7));
            }
            CscdId::Designator(Designator {
                code_set: u8_at(d, 4) & 0xf,
                association: u8_at(d, 5) >> 4 & 3,
                kind: u8_at(d, 5) & 0xf,
                value: d.get(8..8 + len).unwrap_or(&[]).to_vec(),
            })
        }
        0xe0 if rules.has(code) => {
            // Types of logical unit id other than 00b are proxies we have none of.
            if u8_at(d, 1) >> 6 != 0 {
                let field = Field::at(at + 1).map(|f| f.bit(7));
                return Err(Refusal::new(Refusal::FIELD, field));
            }
            CscdId::Port {
                lun: u64_at(d, 4),
                name: u64_at(d, 12),
            }
        }
        _ => return Err(Refusal::new(Refusal::CSCD_TYPE, Field::at(at))),
    };
    let peripheral_type = u8_at(d, 1) & 0x1f;
    let pad = u8_at(d, 28) & 4 != 0;
    let block = u24_at(d, 29);
    let parameters = match peripheral_type {
        0x00 | 0x04 | 0x05 | 0x07 | 0x0e => Parameters::Block { pad, block },
        0x01 => match (u8_at(d, 28) & 1 != 0, block) {
            (false, 0) => Parameters::Stream { pad, fixed: None },
            (true, 1..) => Parameters::Stream {
                pad,
                fixed: Some(block),
            },
            _ => return Err(wrong(29)),
        },
        0x03 => Parameters::Processor { pad },
        _ => Parameters::Other,
    };
    Ok(Cscd {
        at,
        id,
        null: u8_at(d, 1) & 0x20 != 0,
        peripheral_type,
        initiator_port: u16_at(d, 2),
        parameters,
    })
}

impl Designator {
    /// Reads one designator of VPD page 83h: its four header bytes and its value.
    /// Gives it and its length there.
    pub fn read(page: &[u8]) -> Option<(Self, usize)> {
        let len = usize::from(*page.get(3)?);
        let value = page.get(4..4 + len)?.to_vec();
        let kind = number(page, 1, 1) as u8;
        let designator = Self {
            code_set: u8_at(page, 0) & 0xf,
            association: kind >> 4 & 3,
            kind: kind & 0xf,
            value,
        };
        Some((designator, 4 + len))
    }
}
