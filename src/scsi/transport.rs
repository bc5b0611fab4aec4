//! How a command gets to a logical unit and back.

use super::Sense;
use crate::error::Result;
use std::time::Duration;

/// A command block with its data.
pub struct Command<'a> {
    /// 6 to 16 bytes.
    pub cdb: &'a [u8],
    /// What moves with it.
    pub data: Data<'a>,
    /// How long it may take. Copies and tape motion take hours.
    pub timeout: Duration,
}

/// The data of a command.
pub enum Data<'a> {
    /// None moves.
    None,
    /// From the unit into this buffer.
    In(&'a mut [u8]),
    /// To the unit.
    Out(&'a [u8]),
}

/// SCSI status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// 00h.
    Good,
    /// 02h: sense data says why.
    CheckCondition,
    /// 04h.
    ConditionMet,
    /// 08h.
    Busy,
    /// 18h.
    ReservationConflict,
    /// 28h.
    TaskSetFull,
    /// 30h.
    AcaActive,
    /// 40h.
    TaskAborted,
    /// Any other value.
    Other(u8),
}

impl Status {
    /// By its code.
    pub fn of(code: u8) -> Self {
        match code {
            0x00 => Status::Good,
            0x02 => Status::CheckCondition,
            0x04 => Status::ConditionMet,
            0x08 => Status::Busy,
            0x18 => Status::ReservationConflict,
            0x28 => Status::TaskSetFull,
            0x30 => Status::AcaActive,
            0x40 => Status::TaskAborted,
            c => Status::Other(c),
        }
    }

    /// Its code.
    pub fn code(self) -> u8 {
        match self {
            Status::Good => 0x00,
            Status::CheckCondition => 0x02,
            Status::ConditionMet => 0x04,
            Status::Busy => 0x08,
            Status::ReservationConflict => 0x18,
            Status::TaskSetFull => 0x28,
            Status::AcaActive => 0x30,
            Status::TaskAborted => 0x40,
            Status::Other(c) => c,
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Status::Good => "GOOD",
            Status::CheckCondition => "CHECK CONDITION",
            Status::ConditionMet => "CONDITION MET",
            Status::Busy => "BUSY",
            Status::ReservationConflict => "RESERVATION CONFLICT",
            Status::TaskSetFull => "TASK SET FULL",
            Status::AcaActive => "ACA ACTIVE",
            Status::TaskAborted => "TASK ABORTED",
            Status::Other(c) => return write!(f, "status {c:02X}h"),
        })
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Status.
    pub status: Status,
    /// Sense data, when the status is CHECK CONDITION and the unit gave some.
    pub sense: Option<Sense>,
    /// Bytes that moved, either way.
    pub transferred: usize,
}

/// Stands behind the error of a command that was sent and whose end never came:
/// whether it was executed is not known. Holds what became of the connection.
#[derive(Debug)]
pub struct OutcomeUnknown(pub String);

impl OutcomeUnknown {
    /// True when this is the cause of an error.
    pub fn is_behind(e: &crate::error::Error) -> bool {
        std::error::Error::source(e).is_some_and(|s| s.is::<Self>())
    }
}

impl std::fmt::Display for OutcomeUnknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OutcomeUnknown {}

/// A way to one logical unit. Commands may be sent from several threads at
/// once; a transport that can, keeps them outstanding together.
pub trait Transport: Send + Sync {
    /// Sends a command and waits for its end. A status other than GOOD is not
    /// an error here; a broken connection, a timeout or a protocol error is.
    fn execute(&self, command: Command<'_>) -> Result<Completion>;

    /// What to call the unit in a message.
    fn name(&self) -> &str;

    /// Most bytes that one command may move.
    fn max_transfer(&self) -> usize;

    /// The number of the unit at its target, as the eight bytes that REPORT LUNS
    /// gives; none when the way to it does not know.
    fn lun(&self) -> Option<u64> {
        None
    }

    /// Asks the unit to give up everything this transport has outstanding
    /// (ABORT TASK SET or what comes nearest).
    fn abort_all(&self) -> Result<()>;
}
