//! What a copy manager can do, as plain numbers: what its operating parameters
//! announce (84h/03h), corrected by what it really accepts.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Segment descriptor type codes.
pub mod segment {
    /// Block device to stream device.
    pub const BLOCK_TO_STREAM: u8 = 0x00;
    /// Stream device to block device.
    pub const STREAM_TO_BLOCK: u8 = 0x01;
    /// Block device to block device.
    pub const BLOCK_TO_BLOCK: u8 = 0x02;
    /// Stream device to stream device.
    pub const STREAM_TO_STREAM: u8 = 0x03;
    /// Inline data to stream device.
    pub const INLINE_TO_STREAM: u8 = 0x04;
    /// Embedded data to stream device.
    pub const EMBEDDED_TO_STREAM: u8 = 0x05;
    /// Stream device to discard.
    pub const STREAM_TO_DISCARD: u8 = 0x06;
    /// Verify a CSCD.
    pub const VERIFY: u8 = 0x07;
    /// Block device with offset to stream device.
    pub const OFFSET_TO_STREAM: u8 = 0x08;
    /// Stream device to block device with offset.
    pub const STREAM_TO_OFFSET: u8 = 0x09;
    /// Block device with offset to block device with offset.
    pub const OFFSET_TO_OFFSET: u8 = 0x0a;
    /// As 00h, and hold a copy for the application client.
    pub const BLOCK_TO_STREAM_HOLD: u8 = 0x0b;
    /// As 01h, and hold a copy.
    pub const STREAM_TO_BLOCK_HOLD: u8 = 0x0c;
    /// As 02h, and hold a copy.
    pub const BLOCK_TO_BLOCK_HOLD: u8 = 0x0d;
    /// As 03h, and hold a copy.
    pub const STREAM_TO_STREAM_HOLD: u8 = 0x0e;
    /// Stream device to held data.
    pub const STREAM_TO_HOLD: u8 = 0x0f;
    /// Write filemarks.
    pub const FILEMARKS: u8 = 0x10;
    /// Space.
    pub const SPACE: u8 = 0x11;
    /// Locate.
    pub const LOCATE: u8 = 0x12;
    /// Register a persistent reservation key.
    pub const REGISTER_KEY: u8 = 0x14;
}

/// CSCD descriptor type codes.
pub mod cscd {
    /// Fibre Channel N_Port_Name and logical unit number.
    pub const FC_NAME: u8 = 0xe0;
    /// Identification descriptor of VPD page 83h.
    pub const IDENTIFICATION: u8 = 0xe4;
    /// Bytes of a descriptor.
    pub const BYTES: u32 = 32;
}

/// Most bytes that one 05h descriptor can carry: its length field has 16 bits.
pub const MAX_EMBEDDED: u64 = 65_520;
/// Most blocks in one segment: the count has 16 bits.
pub const MAX_BLOCKS: u64 = 65_535;
/// Most bytes of one tape block: STREAM DEVICE TRANSFER LENGTH has 24 bits.
pub const MAX_TRANSFER: u64 = 0xff_ffff;

/// The limits of a copy manager. Zero means what it means in the operating
/// parameters: no limit for `segment_bytes`, `command_bytes` and
/// `stream_transfer`, nothing at all for the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Supported segment and CSCD descriptor type codes, ascending.
    pub codes: Vec<u8>,
    /// MAXIMUM CSCD COUNT.
    pub cscds: u32,
    /// MAXIMUM SEGMENT COUNT.
    pub segments: u32,
    /// MAXIMUM DESCRIPTOR LIST LENGTH: CSCDs and segments with embedded data,
    /// without inline data.
    pub list_bytes: u64,
    /// MAXIMUM SEGMENT LENGTH: bytes that one segment may write; 0 no limit.
    pub segment_bytes: u64,
    /// Bytes that one command may move; 0 no limit. No field announces it: a
    /// vendor's manual does.
    pub command_bytes: u64,
    /// MAXIMUM INLINE DATA LENGTH of a command.
    pub inline_bytes: u64,
    /// HELD DATA LIMIT.
    pub held_bytes: u64,
    /// MAXIMUM STREAM DEVICE TRANSFER SIZE; 0 no limit.
    pub stream_transfer: u64,
    /// DATA SEGMENT GRANULARITY, log2 of bytes.
    pub data_granularity: u8,
    /// INLINE DATA GRANULARITY, log2 of bytes.
    pub inline_granularity: u8,
    /// HELD DATA GRANULARITY, log2 of bytes.
    pub held_granularity: u8,
    /// MAXIMUM CONCURRENT COPIES, for copies with a list identifier.
    pub concurrent: u8,
    /// TOTAL CONCURRENT COPIES; 0 where SNLID is 0.
    pub total_concurrent: u16,
    /// SNLID: copies without a list identifier are accepted.
    pub no_list_id: bool,
}

/// What of a list a copy manager refused although it had announced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 26h/08h: too many segment descriptors.
    Segments,
    /// 1Ah/00h: the list is too long.
    ListLength,
    /// 26h/0Bh: too much inline data.
    Inline,
    /// 26h/00h: a field asks for too much. No parameter announces how many bytes
    /// one command may move; this is how an engine with such a limit says it.
    Bytes,
}

impl Refusal {
    /// By additional sense code and qualifier. A refusal for too many CSCDs
    /// (26h/06h) is none of these: two are needed always.
    pub fn of(code: u16) -> Option<Self> {
        match code {
            0x2608 => Some(Self::Segments),
            0x1a00 => Some(Self::ListLength),
            0x260b => Some(Self::Inline),
            0x2600 => Some(Self::Bytes),
            _ => None,
        }
    }
}

/// How much of the limits one command uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Segment descriptors.
    pub segments: u32,
    /// CSCDs and segments.
    pub list_bytes: u64,
    /// Inline data.
    pub inline_bytes: u64,
    /// Bytes that it moves.
    pub bytes: u64,
}

/// Fewest bytes of a command that are tried.
const FEWEST_BYTES: u64 = 64 << 10;

impl Limits {
    /// True when a segment or CSCD descriptor type is supported.
    pub fn has(&self, code: u8) -> bool {
        self.codes.contains(&code)
    }

    /// Bytes of which the data of a segment must be a multiple.
    pub fn data_unit(&self) -> u64 {
        1 << self.data_granularity.min(62)
    }

    /// Bytes of which an inline segment must be a multiple.
    pub fn inline_unit(&self) -> u64 {
        1 << self.inline_granularity.min(62)
    }

    /// How record headers can travel: inline, embedded, or not at all.
    pub fn header_way(&self) -> Option<HeaderWay> {
        let block = 512;
        if self.has(segment::INLINE_TO_STREAM) && self.inline_bytes >= block {
            Some(HeaderWay::Inline)
        } else if self.has(segment::EMBEDDED_TO_STREAM) {
            Some(HeaderWay::Embedded)
        } else {
            None
        }
    }

    /// Smaller limits after a refusal of a command that used `used`, or `None`
    /// when nothing smaller makes sense.
    pub fn halved(&self, on: Refusal, used: &Used) -> Option<Self> {
        let mut less = self.clone();
        match on {
            Refusal::Segments => {
                less.segments = self.segments.min(used.segments) / 2;
                (less.segments >= 1).then_some(less)
            }
            Refusal::ListLength => {
                let fixed = u64::from(2 * cscd::BYTES);
                let segments = self.list_bytes.min(used.list_bytes).saturating_sub(fixed);
                less.list_bytes = fixed + segments / 2;
                (segments / 2 >= 20).then_some(less)
            }
            Refusal::Bytes => {
                let now = match self.command_bytes {
                    0 => used.bytes,
                    most => most.min(used.bytes),
                };
                less.command_bytes = now / 2;
                (less.command_bytes >= FEWEST_BYTES).then_some(less)
            }
            Refusal::Inline => {
                let block = self.inline_unit().max(512);
                less.inline_bytes = self.inline_bytes.min(used.inline_bytes) / 2 / block * block;
                // Without inline data headers may still travel embedded.
                less.header_way().is_some().then_some(less)
            }
        }
    }

    /// Refuses a copy manager that cannot back up to a tape, saying why.
    /// `disk_block` is the logical block length of the disk.
    pub fn check_backup(&self, disk_block: u64) -> Result<()> {
        self.check_cscds()?;
        if !self.has(segment::BLOCK_TO_STREAM) {
            return cannot("does not copy from a disk to a tape (no segment type 00h)");
        }
        if self.header_way().is_none() {
            return cannot("takes no record headers (neither segment type 04h nor 05h)");
        }
        self.check_granularity(disk_block)
    }

    /// Refuses a copy manager that cannot restore from a tape, saying why.
    pub fn check_restore(&self, disk_block: u64) -> Result<()> {
        self.check_cscds()?;
        if !self.has(segment::STREAM_TO_BLOCK) {
            return cannot("does not copy from a tape to a disk (no segment type 01h)");
        }
        if !self.has(segment::STREAM_TO_DISCARD) {
            return cannot("cannot pass over what is not wanted (no segment type 06h)");
        }
        self.check_granularity(disk_block)
    }

    fn check_cscds(&self) -> Result<()> {
        if !self.has(cscd::IDENTIFICATION) && !self.has(cscd::FC_NAME) {
            return cannot("names units neither by identification (E4h) nor by port name (E0h)");
        }
        if self.cscds < 2 {
            return cannot("takes fewer than two units in a command");
        }
        if self.segments == 0 || self.list_bytes < u64::from(2 * cscd::BYTES) + 24 {
            return cannot("takes no list with a segment in it");
        }
        Ok(())
    }

    fn check_granularity(&self, disk_block: u64) -> Result<()> {
        let unit = self.data_unit();
        if unit > disk_block.max(4096) {
            return cannot(&format!(
                "moves multiples of {unit} bytes only, more than a cluster of {} has",
                disk_block.max(4096)
            ));
        }
        Ok(())
    }

    /// Bytes of a tape block that suit this copy manager: 262,144 where it can,
    /// else the largest power of two below, at least 4096.
    pub fn choose_block(&self) -> Result<u64> {
        self.choose_block_within(262_144)
    }

    /// The same for a backup that wants at most so many, a power of two from
    /// 4096 on.
    pub fn choose_block_within(&self, most: u64) -> Result<u64> {
        let mut t = most.clamp(4096, 262_144);
        while t >= 4096 {
            if self.check_block(t).is_ok() {
                return Ok(t);
            }
            t /= 2;
        }
        cannot("takes no tape blocks of 4096 bytes or more")
    }

    /// Refuses a length of tape blocks that does not suit.
    pub fn check_block(&self, t: u64) -> Result<()> {
        let largest = [
            self.stream_transfer,
            self.segment_bytes,
            self.command_bytes,
            MAX_TRANSFER,
        ]
        .into_iter()
        .filter(|&n| n != 0)
        .min()
        .unwrap_or(MAX_TRANSFER);
        if t > largest {
            return cannot(&format!(
                "takes tape blocks of at most {largest} bytes, not {t}"
            ));
        }
        let unit = self.data_unit().max(self.inline_unit()).max(4096);
        if t == 0 || !t.is_multiple_of(unit) {
            return Err(Error::usage(format!(
                "A tape block of {t} bytes is not a multiple of {unit}"
            )));
        }
        Ok(())
    }
}

fn cannot<T>(what: &str) -> Result<T> {
    Err(Error::unsupported(format!("The copy manager {what}"))
        .hint("let the host move the data: --mover host writes the same tape"))
}

/// How the headers of records get into a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeaderWay {
    /// As inline data, by segments of type 04h.
    Inline,
    /// Inside segments of type 05h.
    Embedded,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::profile;

    #[test]
    fn a_refusal_halves_what_was_used() {
        let full = profile::find("full-ntbak").unwrap().announced.clone();
        let used = Used {
            segments: 200,
            list_bytes: 5000,
            inline_bytes: 4096,
            bytes: 1 << 20,
        };
        let less = full.halved(Refusal::Segments, &used).unwrap();
        assert_eq!(less.segments, 100);
        let less = less.halved(Refusal::ListLength, &used).unwrap();
        assert_eq!(less.list_bytes, 64 + (5000 - 64) / 2);
        let less = less.halved(Refusal::Inline, &used).unwrap();
        assert_eq!(less.inline_bytes, 2048);
        let one = Used {
            segments: 1,
            ..used
        };
        assert_eq!(full.halved(Refusal::Segments, &one), None);
        let mut less = full.clone();
        for bytes in [1 << 19, 1 << 18, 1 << 17, 1 << 16] {
            less = less.halved(Refusal::Bytes, &used).unwrap();
            assert_eq!(less.command_bytes, bytes);
        }
        assert_eq!(less.halved(Refusal::Bytes, &used), None);
        assert_eq!(Refusal::of(0x2608), Some(Refusal::Segments));
        assert_eq!(Refusal::of(0x2606), None);
    }

    #[test]
    fn tape_blocks_suit_the_copy_manager() {
        for (name, t) in [
            ("full-ntbak", 262_144),
            ("router-spc2", 262_144),
            ("xp-dbe", 65_536),
            ("tiny", 32_768),
            ("noinline", 65_536),
            ("4kn", 262_144),
        ] {
            let l = &profile::find(name).unwrap().announced;
            assert_eq!(l.choose_block().unwrap(), t, "{name}");
            assert!(l.check_block(t + 512).is_err());
            assert!(l.check_block(0).is_err());
        }
        let tiny = &profile::find("tiny").unwrap().announced;
        assert!(tiny.check_block(65_536).is_err());
    }
}
