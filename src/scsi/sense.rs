//! Sense data: what a unit says beside CHECK CONDITION.

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
    /// COMMAND-SPECIFIC INFORMATION (64 bits in the descriptor format).
    pub command_specific: u64,
    /// Sense-key specific bytes, when SKSV.
    pub sense_key_specific: Option<[u8; 3]>,
    /// COPY ABORTED: status and sense that the source unit gave.
    pub source: Option<Forwarded>,
    /// COPY ABORTED: the same of the destination.
    pub destination: Option<Forwarded>,
    /// The bytes as they came; empty when made here.
    pub raw: Vec<u8>,
}

/// Status and sense of a command that a copy manager sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// SCSI status byte.
    pub status: u8,
    /// Sense data, unmodified; may be empty.
    pub sense: Vec<u8>,
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
            raw: Vec::new(),
        }
    }

    /// ASC and ASCQ as one number.
    pub fn code(&self) -> u16 {
        u16::from(self.asc) << 8 | u16::from(self.ascq)
    }
}
