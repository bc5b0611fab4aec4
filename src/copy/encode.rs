//! Parameter lists of EXTENDED COPY(LID1), byte by byte: header, CSCD
//! descriptors, segment descriptors, inline data. Everything is big-endian.

use super::limits::{MAX_EMBEDDED, cscd, segment};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How a copy manager finds a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Address {
    /// E4h: a designator of its VPD page 83h, associated with the unit.
    Identification {
        /// CODE SET: 1 binary, 2 ASCII, 3 UTF-8.
        code_set: u8,
        /// DESIGNATOR TYPE: 1 T10 vendor, 2 EUI-64, 3 NAA, 8 SCSI name.
        kind: u8,
        /// Designator, at most 20 bytes.
        designator: Vec<u8>,
    },
    /// E0h: name of a Fibre Channel port and the number of the unit there.
    FcName {
        /// Logical unit number, as the eight bytes that REPORT LUNS gives.
        lun: u64,
        /// N_Port_Name.
        name: u64,
    },
}

impl Address {
    /// An NAA designator.
    pub fn naa(designator: &[u8]) -> Self {
        Self::Identification {
            code_set: 1,
            kind: 3,
            designator: designator.to_vec(),
        }
    }

    /// Code of its descriptor.
    pub fn code(&self) -> u8 {
        match self {
            Self::Identification { .. } => cscd::IDENTIFICATION,
            Self::FcName { .. } => cscd::FC_NAME,
        }
    }
}

/// What kind of unit it is, with its device-type specific parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// Peripheral device type 00h.
    Disk {
        /// DISK BLOCK LENGTH.
        block: u32,
    },
    /// Peripheral device type 01h, in variable mode.
    Tape,
}

/// A copy source and copy destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cscd {
    /// How it is found.
    pub address: Address,
    /// What it is.
    pub device: Device,
    /// PAD.
    pub pad: bool,
}

impl Cscd {
    /// A disk, without PAD: the residue model of `docs/copy.md` wants it so.
    pub fn disk(address: Address, block: u32) -> Self {
        Self {
            address,
            device: Device::Disk { block },
            pad: false,
        }
    }

    /// A tape, with PAD.
    pub fn tape(address: Address) -> Self {
        Self {
            address,
            device: Device::Tape,
            pad: true,
        }
    }
}

/// A segment descriptor. `source` and `destination` are places in the list of
/// CSCDs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// CAT: residue stays for the next segment.
    pub cat: bool,
    /// Source CSCD; 0 where the type has none.
    pub source: u16,
    /// Destination CSCD; 0 where the type has none.
    pub destination: u16,
    /// What is to be done.
    pub body: Body,
}

/// What a segment does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// 00h, 0Bh when held.
    BlockToStream {
        /// Keep a copy for the host.
        hold: bool,
        /// STREAM DEVICE TRANSFER LENGTH.
        transfer: u32,
        /// BLOCK DEVICE NUMBER OF BLOCKS.
        blocks: u16,
        /// First block.
        lba: u64,
    },
    /// 01h, 0Ch when held.
    StreamToBlock {
        /// Keep a copy for the host.
        hold: bool,
        /// STREAM DEVICE TRANSFER LENGTH.
        transfer: u32,
        /// Blocks to write.
        blocks: u16,
        /// First block.
        lba: u64,
    },
    /// 02h, 0Dh when held.
    BlockToBlock {
        /// Keep a copy for the host.
        hold: bool,
        /// DC: `blocks` counts those of the destination.
        count_destination: bool,
        /// Blocks.
        blocks: u16,
        /// First block of the source.
        from: u64,
        /// First block of the destination.
        to: u64,
    },
    /// 03h, 0Eh when held.
    StreamToStream {
        /// Keep a copy for the host.
        hold: bool,
        /// STREAM DEVICE TRANSFER LENGTH of the source.
        from_transfer: u32,
        /// STREAM DEVICE TRANSFER LENGTH of the destination.
        to_transfer: u32,
        /// Bytes.
        bytes: u32,
    },
    /// 04h.
    Inline {
        /// STREAM DEVICE TRANSFER LENGTH.
        transfer: u32,
        /// Place in the inline data, a multiple of 4.
        offset: u32,
        /// Bytes.
        bytes: u32,
    },
    /// 05h.
    Embedded {
        /// STREAM DEVICE TRANSFER LENGTH.
        transfer: u32,
        /// The data.
        #[serde(with = "super::hex")]
        data: Vec<u8>,
    },
    /// 06h, 0Fh when held.
    Discard {
        /// Keep a copy for the host.
        hold: bool,
        /// STREAM DEVICE TRANSFER LENGTH.
        transfer: u32,
        /// Bytes.
        bytes: u32,
    },
    /// 07h; the unit is `source`.
    Verify {
        /// TUR: with TEST UNIT READY.
        ready: bool,
    },
    /// 08h.
    OffsetToStream {
        /// STREAM DEVICE TRANSFER LENGTH.
        transfer: u32,
        /// Bytes.
        bytes: u32,
        /// First block.
        lba: u64,
        /// Byte inside it.
        offset: u16,
    },
    /// 09h.
    StreamToOffset {
        /// STREAM DEVICE TRANSFER LENGTH.
        transfer: u32,
        /// Bytes.
        bytes: u32,
        /// First block.
        lba: u64,
        /// Byte inside it.
        offset: u16,
    },
    /// 0Ah.
    OffsetToOffset {
        /// Bytes.
        bytes: u32,
        /// First block of the source.
        from: u64,
        /// First block of the destination.
        to: u64,
        /// Byte inside the first source block.
        from_offset: u16,
        /// Byte inside the first destination block.
        to_offset: u16,
    },
    /// 10h.
    Filemarks {
        /// W_IMMED: do not wait until they are on the medium.
        immediate: bool,
        /// How many; 24 bits.
        count: u32,
    },
    /// 11h.
    Space {
        /// CODE as in SPACE(6).
        code: u8,
        /// How many, forward or backward; 24 bits.
        count: i32,
    },
    /// 12h.
    Locate {
        /// Logical object identifier.
        object: u32,
    },
    /// 14h.
    RegisterKey {
        /// RESERVATION KEY.
        key: u64,
        /// SERVICE ACTION RESERVATION KEY.
        service_action_key: u64,
    },
}

impl Body {
    /// Type code of the descriptor.
    pub fn code(&self) -> u8 {
        use segment::*;
        match self {
            Body::BlockToStream { hold, .. } => {
                [BLOCK_TO_STREAM, BLOCK_TO_STREAM_HOLD][usize::from(*hold)]
            }
            Body::StreamToBlock { hold, .. } => {
                [STREAM_TO_BLOCK, STREAM_TO_BLOCK_HOLD][usize::from(*hold)]
            }
            Body::BlockToBlock { hold, .. } => {
                [BLOCK_TO_BLOCK, BLOCK_TO_BLOCK_HOLD][usize::from(*hold)]
            }
            Body::StreamToStream { hold, .. } => {
                [STREAM_TO_STREAM, STREAM_TO_STREAM_HOLD][usize::from(*hold)]
            }
            Body::Inline { .. } => INLINE_TO_STREAM,
            Body::Embedded { .. } => EMBEDDED_TO_STREAM,
            Body::Discard { hold, .. } => [STREAM_TO_DISCARD, STREAM_TO_HOLD][usize::from(*hold)],
            Body::Verify { .. } => VERIFY,
            Body::OffsetToStream { .. } => OFFSET_TO_STREAM,
            Body::StreamToOffset { .. } => STREAM_TO_OFFSET,
            Body::OffsetToOffset { .. } => OFFSET_TO_OFFSET,
            Body::Filemarks { .. } => FILEMARKS,
            Body::Space { .. } => SPACE,
            Body::Locate { .. } => LOCATE,
            Body::RegisterKey { .. } => REGISTER_KEY,
        }
    }

    /// Bytes of the descriptor, embedded data included.
    pub fn len(&self) -> u64 {
        match self {
            Body::BlockToStream { .. } | Body::StreamToBlock { .. } => 24,
            Body::BlockToBlock { .. } => 28,
            Body::StreamToStream { .. } | Body::Inline { .. } => 20,
            Body::Embedded { data, .. } => embedded_len(data.len() as u64),
            Body::Discard { .. } => 16,
            Body::OffsetToStream { .. } | Body::StreamToOffset { .. } => 28,
            Body::OffsetToOffset { .. } => 32,
            Body::RegisterKey { .. } => 28,
            Body::Verify { .. }
            | Body::Filemarks { .. }
            | Body::Space { .. }
            | Body::Locate { .. } => 12,
        }
    }

    /// Never: a descriptor has at least its header.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// Bytes of a 05h descriptor with so much data.
pub fn embedded_len(data: u64) -> u64 {
    16 + data.div_ceil(4) * 4
}

/// LIST ID USAGE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListId {
    /// 00b: the identifier is valid, held data is kept.
    #[default]
    Hold,
    /// 10b: valid, held data may go (NRCR of SPC-2).
    Discard,
    /// 11b: there is no identifier.
    None,
}

/// Everything of a parameter list except its identifier.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// LIST ID USAGE.
    pub usage: ListId,
    /// Units.
    pub cscds: &'a [Cscd],
    /// Segments.
    pub segments: &'a [Segment],
    /// Inline data.
    pub inline: &'a [u8],
}

/// Ordinary commands count as priority 1, and so does a copy.
const PRIORITY: u8 = 1;

impl List<'_> {
    /// The parameter list with this identifier (ignored without one).
    pub fn encode(&self, id: u8) -> Result<Vec<u8>> {
        let cscds = self.cscds.len() as u64 * u64::from(cscd::BYTES);
        let segments: u64 = self.segments.iter().map(|s| s.body.len()).sum();
        let (Ok(cscd_len), Ok(segment_len), Ok(inline_len)) = (
            u16::try_from(cscds),
            u32::try_from(segments),
            u32::try_from(self.inline.len()),
        ) else {
            return Err(Error::usage(
                "A parameter list is longer than its fields can say",
            ));
        };
        let mut out = Vec::with_capacity(16 + (cscds + segments) as usize + self.inline.len());
        let (id, usage) = match self.usage {
            ListId::Hold => (id, 0u8),
            ListId::Discard => (id, 0b10),
            ListId::None => (0, 0b11),
        };
        out.extend([id, usage << 3 | PRIORITY]);
        out.extend(cscd_len.to_be_bytes());
        out.extend([0; 4]);
        out.extend(segment_len.to_be_bytes());
        out.extend(inline_len.to_be_bytes());
        for c in self.cscds {
            put_cscd(c, &mut out)?;
        }
        for s in self.segments {
            put_segment(s, &mut out)?;
        }
        out.extend(self.inline);
        Ok(out)
    }
}

/// The command block of EXTENDED COPY(LID1) for a parameter list of so many
/// bytes.
pub fn command_block(list_len: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = crate::scsi::op::EXTENDED_COPY;
    cdb[10..14].copy_from_slice(&list_len.to_be_bytes());
    cdb
}

fn put_cscd(c: &Cscd, out: &mut Vec<u8>) -> Result<()> {
    let at = out.len();
    let (pdt, specific) = match c.device {
        Device::Disk { block } => (0x00, block),
        Device::Tape => (0x01, 0),
    };
    out.extend([c.address.code(), pdt, 0, 0]);
    match &c.address {
        Address::Identification {
            code_set,
            kind,
            designator,
        } => {
            if designator.len() > 20 {
                return Err(Error::unsupported(format!(
                    "A designator has {} bytes, an identification descriptor takes 20",
                    designator.len()
                )));
            }
            out.extend([code_set & 0xf, kind & 0xf, 0, designator.len() as u8]);
            out.extend(designator);
        }
        Address::FcName { lun, name } => {
            out.extend(lun.to_be_bytes());
            out.extend(name.to_be_bytes());
        }
    }
    out.resize(at + 28, 0);
    out.push(u8::from(c.pad) << 2);
    put24(specific, out)
}

fn put24(n: u32, out: &mut Vec<u8>) -> Result<()> {
    let [high, rest @ ..] = n.to_be_bytes();
    if high != 0 {
        return Err(Error::usage(format!("{n} does not fit a field of 24 bits")));
    }
    out.extend(rest);
    Ok(())
}

fn put_segment(s: &Segment, out: &mut Vec<u8>) -> Result<()> {
    let at = out.len();
    let dc = matches!(
        s.body,
        Body::BlockToBlock {
            count_destination: true,
            ..
        }
    );
    let length = u16::try_from(s.body.len() - 4).map_err(|_| too_much_embedded())?;
    out.extend([s.body.code(), u8::from(dc) << 1 | u8::from(s.cat)]);
    out.extend(length.to_be_bytes());
    out.extend(s.source.to_be_bytes());
    out.extend(s.destination.to_be_bytes());
    match &s.body {
        Body::BlockToStream {
            transfer,
            blocks,
            lba,
            ..
        }
        | Body::StreamToBlock {
            transfer,
            blocks,
            lba,
            ..
        } => {
            put_transfer(*transfer, out)?;
            out.extend([0; 2]);
            out.extend(blocks.to_be_bytes());
            out.extend(lba.to_be_bytes());
        }
        Body::BlockToBlock {
            blocks, from, to, ..
        } => {
            out.extend([0; 2]);
            out.extend(blocks.to_be_bytes());
            out.extend(from.to_be_bytes());
            out.extend(to.to_be_bytes());
        }
        Body::StreamToStream {
            from_transfer,
            to_transfer,
            bytes,
            ..
        } => {
            put_transfer(*from_transfer, out)?;
            put_transfer(*to_transfer, out)?;
            out.extend(bytes.to_be_bytes());
        }
        Body::Inline {
            transfer,
            offset,
            bytes,
        } => {
            put_transfer(*transfer, out)?;
            out.extend(offset.to_be_bytes());
            out.extend(bytes.to_be_bytes());
        }
        Body::Embedded { transfer, data } => {
            put_transfer(*transfer, out)?;
            let n = u16::try_from(data.len())
                .ok()
                .filter(|&n| u64::from(n) <= MAX_EMBEDDED);
            out.extend(n.ok_or_else(too_much_embedded)?.to_be_bytes());
            out.extend([0; 2]);
            out.extend(data);
            out.resize(at + s.body.len() as usize, 0);
        }
        Body::Discard {
            transfer, bytes, ..
        } => {
            put_transfer(*transfer, out)?;
            out.extend(bytes.to_be_bytes());
        }
        Body::Verify { ready } => out.extend([u8::from(*ready), 0, 0, 0]),
        Body::OffsetToStream {
            transfer,
            bytes,
            lba,
            offset,
        }
        | Body::StreamToOffset {
            transfer,
            bytes,
            lba,
            offset,
        } => {
            put_transfer(*transfer, out)?;
            out.extend(bytes.to_be_bytes());
            out.extend(lba.to_be_bytes());
            out.extend([0; 2]);
            out.extend(offset.to_be_bytes());
        }
        Body::OffsetToOffset {
            bytes,
            from,
            to,
            from_offset,
            to_offset,
        } => {
            out.extend(bytes.to_be_bytes());
            out.extend(from.to_be_bytes());
            out.extend(to.to_be_bytes());
            out.extend(from_offset.to_be_bytes());
            out.extend(to_offset.to_be_bytes());
        }
        Body::Filemarks { immediate, count } => {
            out.push(u8::from(*immediate));
            put24(*count, out)?;
        }
        Body::Space { code, count } => {
            if !(-0x80_0000..0x80_0000).contains(count) {
                return Err(Error::usage(format!(
                    "{count} does not fit a signed field of 24 bits"
                )));
            }
            out.push(code & 0xf);
            put24(*count as u32 & 0xff_ffff, out)?;
        }
        Body::Locate { object } => out.extend(object.to_be_bytes()),
        Body::RegisterKey {
            key,
            service_action_key,
        } => {
            out.extend(key.to_be_bytes());
            out.extend(service_action_key.to_be_bytes());
            out.extend([0; 4]);
        }
    }
    debug_assert_eq!(out.len() - at, s.body.len() as usize);
    Ok(())
}

fn put_transfer(n: u32, out: &mut Vec<u8>) -> Result<()> {
    out.push(0);
    put24(n, out)
}

fn too_much_embedded() -> Error {
    Error::usage(format!(
        "Embedded data of a segment has more than {MAX_EMBEDDED} bytes"
    ))
}

#[cfg(test)]
mod tests;
