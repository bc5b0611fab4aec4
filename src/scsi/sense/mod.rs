//! Sense data: what a unit says beside CHECK CONDITION.
//!
//! One [`Sense`] in memory for both formats. `wire` turns it into bytes and
//! back, `text` into words; the questions that callers ask are here.

#[cfg(test)]
mod tests;
mod text;
mod wire;

pub use text::{code_text, hex};

/// Sense key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum SenseKey {
    NoSense = 0x0,
    RecoveredError = 0x1,
    NotReady = 0x2,
    MediumError = 0x3,
    HardwareError = 0x4,
    IllegalRequest = 0x5,
    UnitAttention = 0x6,
    DataProtect = 0x7,
    BlankCheck = 0x8,
    VendorSpecific = 0x9,
    CopyAborted = 0xa,
    AbortedCommand = 0xb,
    Reserved = 0xc,
    VolumeOverflow = 0xd,
    Miscompare = 0xe,
    Completed = 0xf,
}

impl SenseKey {
    /// By the low four bits.
    pub fn of(code: u8) -> Self {
        use SenseKey::*;
        [
            NoSense,
            RecoveredError,
            NotReady,
            MediumError,
            HardwareError,
            IllegalRequest,
            UnitAttention,
            DataProtect,
            BlankCheck,
            VendorSpecific,
            CopyAborted,
            AbortedCommand,
            Reserved,
            VolumeOverflow,
            Miscompare,
            Completed,
        ][usize::from(code & 0xf)]
    }
}

/// Sense data in memory, from either format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sense {
    /// Sense key.
    pub key: SenseKey,
    /// Additional sense code.
    pub asc: u8,
    /// Its qualifier.
    pub ascq: u8,
    /// About an earlier command (71h, 73h).
    pub deferred: bool,
    /// FILEMARK.
    pub filemark: bool,
    /// EOM.
    pub eom: bool,
    /// ILI.
    pub ili: bool,
    /// INFORMATION, when VALID; signed as tapes use it.
    pub information: Option<i64>,
    /// COMMAND-SPECIFIC INFORMATION (64 bits in the descriptor format). For
    /// COPY ABORTED the number of the segment, whichever format it came in.
    pub command_specific: u64,
    /// Sense-key specific bytes, when SKSV; the SKSV bit included.
    pub sense_key_specific: Option<[u8; 3]>,
    /// COPY ABORTED: status and sense that the source unit gave.
    pub source: Option<Forwarded>,
    /// COPY ABORTED: the same of the destination.
    pub destination: Option<Forwarded>,
    /// The bytes as they came; empty when made here.
    pub raw: Box<[u8]>,
}

/// Status and sense of a command that a copy manager sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// SCSI status byte.
    pub status: u8,
    /// Sense data, unmodified; may be empty.
    pub sense: Box<[u8]>,
}

impl Sense {
    /// Plain sense with a key and a code.
    pub fn new(key: SenseKey, asc: u8, ascq: u8) -> Self {
        Self {
            key,
            asc,
            ascq,
            deferred: false,
            filemark: false,
            eom: false,
            ili: false,
            information: None,
            command_specific: 0,
            sense_key_specific: None,
            source: None,
            destination: None,
            raw: Box::default(),
        }
    }

    /// 5/24/00 at a byte of the command block, and at a bit of it if one is to
    /// blame.
    pub fn invalid_field_in_cdb(byte: u16, bit: Option<u8>) -> Self {
        Self::new(SenseKey::IllegalRequest, 0x24, 0x00).pointing(true, byte, bit)
    }

    /// 5/26/00 at a byte of the parameter list.
    pub fn invalid_field_in_list(byte: u16, bit: Option<u8>) -> Self {
        Self::new(SenseKey::IllegalRequest, 0x26, 0x00).pointing(false, byte, bit)
    }

    /// COPY ABORTED in a segment, counted from 0.
    pub fn copy_aborted(asc: u8, ascq: u8, segment: u16) -> Self {
        Self {
            command_specific: segment.into(),
            ..Self::new(SenseKey::CopyAborted, asc, ascq)
        }
    }

    /// With the INFORMATION field.
    pub fn with_information(mut self, value: i64) -> Self {
        self.information = Some(value);
        self
    }

    /// With a field pointer into the command block (`cdb`) or the parameters.
    pub fn pointing(mut self, cdb: bool, byte: u16, bit: Option<u8>) -> Self {
        let bits = bit.map_or(0, |b| 0x08 | b & 7);
        self.sense_key_specific = Some(pointer(0x80 | u8::from(cdb) << 6 | bits, byte));
        self
    }

    /// COPY ABORTED with a field pointer that counts from the first byte of the
    /// segment descriptor.
    pub fn pointing_into_segment(mut self, byte: u16) -> Self {
        self.sense_key_specific = Some(pointer(0xa0, byte));
        self
    }

    /// ASC and ASCQ as one number.
    pub fn code(&self) -> u16 {
        u16::from(self.asc) << 8 | u16::from(self.ascq)
    }

    /// True when key and code are these.
    pub fn is(&self, key: SenseKey, asc: u8, ascq: u8) -> bool {
        self.key == key && self.asc == asc && self.ascq == ascq
    }

    /// INFORMATION as a block address: the fixed format has 32 bits, which
    /// [`Sense::information`] holds with a sign.
    pub fn lba(&self) -> Option<u64> {
        let value = self.information?;
        Some(match self.raw.first().map(|c| c & 0x7f) {
            Some(0x70 | 0x71) => u64::from(value as u32),
            _ => value as u64,
        })
    }

    /// The segment a copy failed in, counted from 0.
    pub fn segment(&self) -> Option<u16> {
        (self.key == SenseKey::CopyAborted).then_some(self.command_specific as u16)
    }

    /// Where the field pointer points, if there is one.
    pub fn field(&self) -> Option<Field> {
        let [flags, high, low] = self.sense_key_specific?;
        let copy = self.key == SenseKey::CopyAborted;
        (copy || self.key == SenseKey::IllegalRequest).then_some(Field {
            place: match () {
                () if copy && flags & 0x20 != 0 => FieldPlace::Segment,
                () if !copy && flags & 0x40 != 0 => FieldPlace::Cdb,
                () => FieldPlace::Parameters,
            },
            byte: u16::from_be_bytes([high, low]),
            bit: (flags & 0x08 != 0).then_some(flags & 7),
        })
    }

    /// How far a long job is, of 65,536 parts.
    pub fn progress(&self) -> Option<u16> {
        let [_, high, low] = self.sense_key_specific?;
        matches!(self.key, SenseKey::NotReady | SenseKey::NoSense)
            .then_some(u16::from_be_bytes([high, low]))
    }

    /// UNIT ATTENTION: the command was not looked at.
    pub fn is_unit_attention(&self) -> bool {
        self.key == SenseKey::UnitAttention
    }

    /// 28h: another medium may be there.
    pub fn is_medium_changed(&self) -> bool {
        self.is_unit_attention() && self.asc == 0x28
    }

    /// 29h: the unit was switched on or reset. Reservations, mode parameters
    /// and the tape's position may be others now.
    pub fn is_reset(&self) -> bool {
        self.is_unit_attention() && self.asc == 0x29
    }

    /// MEDIUM ERROR.
    pub fn is_medium_error(&self) -> bool {
        self.key == SenseKey::MediumError
    }

    /// 04h/01h: it will be ready by itself.
    pub fn is_becoming_ready(&self) -> bool {
        self.is(SenseKey::NotReady, 0x04, 0x01)
    }

    /// 3Ah: no medium.
    pub fn is_no_medium(&self) -> bool {
        self.key == SenseKey::NotReady && self.asc == 0x3a
    }

    /// DATA PROTECT.
    pub fn is_write_protected(&self) -> bool {
        self.key == SenseKey::DataProtect
    }

    /// 5/20/00: the unit does not know the command.
    pub fn is_unknown_command(&self) -> bool {
        self.is(SenseKey::IllegalRequest, 0x20, 0x00)
    }

    /// The unit does not do this, or not in this form: the command, a field of
    /// the command block, or one of the parameters.
    pub fn is_not_supported(&self) -> bool {
        self.key == SenseKey::IllegalRequest && matches!(self.asc, 0x20 | 0x24 | 0x26)
    }

    /// A tape came to a filemark.
    pub fn is_filemark(&self) -> bool {
        self.key == SenseKey::NoSense && (self.filemark || self.code() == 0x0001)
    }

    /// A tape block has another length than was asked for.
    pub fn is_wrong_length(&self) -> bool {
        self.ili && matches!(self.key, SenseKey::NoSense | SenseKey::RecoveredError)
    }

    /// A tape came to the end of its data. BLANK CHECK 00h/05h; some units say
    /// NO SENSE 00h/05h, or BLANK CHECK 00h/00h with EOM.
    pub fn is_end_of_data(&self) -> bool {
        match self.key {
            SenseKey::BlankCheck => self.code() == 0x0005 || self.code() == 0 && self.eom,
            SenseKey::NoSense => self.code() == 0x0005,
            _ => false,
        }
    }

    /// Early warning of a tape that is being written: everything was accepted,
    /// but the end of the medium is near. The code should be 00h/02h; some units
    /// give none.
    pub fn is_early_warning(&self) -> bool {
        matches!(self.key, SenseKey::NoSense | SenseKey::RecoveredError)
            && self.eom
            && matches!(self.code(), 0x0000 | 0x0002)
            && self.information.unwrap_or(0) <= 0
    }

    /// The early warning that the host placed itself in front of the other.
    pub fn is_programmable_early_warning(&self) -> bool {
        self.key == SenseKey::NoSense && self.eom && self.code() == 0x0007
    }

    /// The end of a tape that is being written: not everything was accepted.
    /// VOLUME OVERFLOW; some units say NO SENSE and how much was not written.
    pub fn is_end_of_medium(&self) -> bool {
        self.key == SenseKey::VolumeOverflow
            || self.key == SenseKey::NoSense
                && self.eom
                && matches!(self.code(), 0x0000 | 0x0002)
                && self.information.unwrap_or(0) > 0
    }

    /// A tape going backwards came to its beginning.
    pub fn is_beginning(&self) -> bool {
        self.key == SenseKey::NoSense && self.eom && self.code() == 0x0004
    }

    /// 3Bh/00h: nobody knows where the tape stands.
    pub fn is_position_lost(&self) -> bool {
        matches!(self.key, SenseKey::MediumError | SenseKey::HardwareError) && self.asc == 0x3b
    }

    /// The sense data that the destination of a copy gave.
    pub fn of_destination(&self) -> Option<Sense> {
        Sense::decode(&self.destination.as_ref()?.sense)
    }

    /// The sense data that the source of a copy gave.
    pub fn of_source(&self) -> Option<Sense> {
        Sense::decode(&self.source.as_ref()?.sense)
    }
}

/// The field that a unit objects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// What the byte counts from.
    pub place: FieldPlace,
    /// Byte, from 0.
    pub byte: u16,
    /// Bit, where the unit names one.
    pub bit: Option<u8>,
}

/// What a field pointer counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldPlace {
    /// The command block.
    Cdb,
    /// The parameter list.
    Parameters,
    /// The segment descriptor that failed.
    Segment,
}

fn pointer(flags: u8, byte: u16) -> [u8; 3] {
    let [high, low] = byte.to_be_bytes();
    [flags, high, low]
}
