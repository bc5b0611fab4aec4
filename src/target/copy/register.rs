//! Segment type 14h: registers a reservation key for who sent the copy, so that
//! the copy may use a unit that is reserved for registrants.

use crate::scsi::{Failure, SenseKey, Status, op};
use crate::target::common::Unit;
use crate::target::lun::{Nexus, Request};
use std::sync::atomic::AtomicBool;

/// PERSISTENT RESERVE OUT, REGISTER. A pending unit attention is for the
/// initiator, not for us: it stays.
pub fn register(unit: &Unit, nexus: &Nexus, key: u64, action: u64) -> Result<(), Box<Failure>> {
    let mut list = [0; 24];
    for (to, n) in list.chunks_mut(8).zip([key, action]) {
        to.copy_from_slice(&n.to_be_bytes());
    }
    let cdb = [op::PERSISTENT_RESERVE_OUT, 0, 0, 0, 0, 0, 0, 0, 24, 0];
    let request = Request {
        nexus,
        cdb: &cdb,
        data_out: &list,
        expected_out: list.len(),
        expected_in: 0,
        cancel: &AtomicBool::new(false),
    };
    let mut pending = Vec::new();
    let reply = loop {
        let reply = unit.execute(&[], &request);
        match &reply.sense {
            Some(s) if s.key == SenseKey::UnitAttention && pending.len() < 16 => {
                pending.push((s.asc, s.ascq));
            }
            _ => break reply,
        }
    };
    for code in pending {
        unit.attentions().raise(code, |n| n == nexus);
    }
    match reply.status {
        Status::Good => Ok(()),
        status => Err(Box::new(Failure {
            status,
            sense: reply.sense,
        })),
    }
}
