//! What the sessions ask of a logical unit, and what a unit answers.

use crate::scsi::{Sense, Status};
use std::sync::Arc;

/// An I_T nexus: who a command comes from. Two sessions are two nexuses, also
/// of one initiator.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nexus {
    /// iSCSI name of the initiator.
    pub initiator: Arc<str>,
    /// Initiator session id.
    pub isid: [u8; 6],
    /// Target session handle, unique while the target runs.
    pub tsih: u16,
}

/// A command as it came in.
pub struct Request<'a> {
    /// From whom.
    pub nexus: &'a Nexus,
    /// Command block, 16 bytes or as many as its group has.
    pub cdb: &'a [u8],
    /// Everything that the initiator sent with it.
    pub data_out: &'a [u8],
    /// Bytes the initiator expects to send.
    pub expected_out: usize,
    /// Bytes the initiator takes at most.
    pub expected_in: usize,
    /// Set by task management; a long command looks at it now and then and
    /// ends as aborted.
    pub cancel: &'a std::sync::atomic::AtomicBool,
}

/// The answer to a command.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status.
    pub status: Status,
    /// For CHECK CONDITION.
    pub sense: Option<Sense>,
    /// For the initiator; cut by the session to what it takes.
    pub data_in: Vec<u8>,
    /// Bytes the command block itself asks for, either way: what the residual
    /// is counted against. None: as many as moved.
    pub wanted: Option<u64>,
}

impl Reply {
    /// GOOD without data.
    pub fn good() -> Self {
        Self::data(Vec::new())
    }

    /// GOOD with data.
    pub fn data(data_in: Vec<u8>) -> Self {
        Self {
            status: Status::Good,
            sense: None,
            data_in,
            wanted: None,
        }
    }

    /// CHECK CONDITION.
    pub fn check(sense: Sense) -> Self {
        Self {
            status: Status::CheckCondition,
            sense: Some(sense),
            data_in: Vec::new(),
            wanted: None,
        }
    }

    /// Any other status.
    pub fn status(status: Status) -> Self {
        Self {
            status,
            sense: None,
            data_in: Vec::new(),
            wanted: None,
        }
    }

    /// States what the command block asks for.
    pub fn wanting(mut self, bytes: u64) -> Self {
        self.wanted = Some(bytes);
        self
    }
}

/// Everything a target serves, as the sessions see it.
pub trait Units: Send + Sync {
    /// A command for a logical unit number: the eight bytes of the LUN field as
    /// one big-endian number, here and below. A number without a unit answers
    /// INQUIRY and REPORT LUNS as SPC asks, and everything else with 5/25/00.
    /// Sense data whose `raw` is not empty is already encoded (D_SENSE).
    fn execute(&self, lun: u64, request: &Request<'_>) -> Reply;

    /// A session began: its nexus is new to every unit (29h/00h), or was there
    /// before (29h/07h).
    fn nexus_began(&self, nexus: &Nexus);

    /// A session ended: what belongs to its nexus is given up.
    fn nexus_lost(&self, nexus: &Nexus);

    /// LOGICAL UNIT RESET, or TARGET RESET when `lun` is none.
    fn reset(&self, lun: Option<u64>, by: &Nexus);

    /// True when there is such a unit.
    fn has(&self, lun: u64) -> bool;

    /// Writes out what is cached; called before the target ends.
    fn flush(&self) -> crate::error::Result<()>;
}
