//! Unit attentions: what a nexus is told with its next command.

use super::lock;
use crate::scsi::{Sense, SenseKey};
use crate::target::lun::Nexus;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

/// Most that wait for one nexus; the oldest are kept.
const WAITING: usize = 16;

/// An additional sense code and its qualifier.
pub type Code = (u8, u8);

/// Medium may have changed.
pub const MEDIUM_CHANGED: Code = (0x28, 0x00);
/// Power on, reset, or a nexus that is new.
pub const RESET: Code = (0x29, 0x00);
/// LOGICAL UNIT RESET.
pub const UNIT_RESET: Code = (0x29, 0x03);
/// Mode parameters changed.
pub const MODE_CHANGED: Code = (0x2a, 0x01);
/// Reservations preempted (by CLEAR).
pub const RESERVATIONS_PREEMPTED: Code = (0x2a, 0x03);
/// Reservations released.
pub const RESERVATIONS_RELEASED: Code = (0x2a, 0x04);
/// Registrations preempted.
pub const REGISTRATIONS_PREEMPTED: Code = (0x2a, 0x05);

/// Reported LUNs data has changed.
pub const LUNS_CHANGED: Code = (0x3f, 0x0e);

/// The unit attentions of one unit, by nexus.
#[derive(Default)]
pub struct Attentions(Mutex<BTreeMap<Nexus, VecDeque<Code>>>);

impl Attentions {
    /// A nexus is new.
    pub fn began(&self, nexus: &Nexus) {
        lock(&self.0).insert(nexus.clone(), VecDeque::from([RESET]));
    }

    /// A nexus is gone.
    pub fn lost(&self, nexus: &Nexus) {
        lock(&self.0).remove(nexus);
    }

    /// Something for every nexus that `whom` picks; told once, however often it
    /// happened.
    pub fn raise(&self, code: Code, whom: impl Fn(&Nexus) -> bool) {
        for (_, queue) in lock(&self.0).iter_mut().filter(|(n, _)| whom(n)) {
            if !queue.contains(&code) && queue.len() < WAITING {
                queue.push_back(code);
            }
        }
    }

    /// A nexus has learnt it elsewhere.
    pub fn forget(&self, nexus: &Nexus, code: Code) {
        if let Some(queue) = lock(&self.0).get_mut(nexus) {
            queue.retain(|c| *c != code);
        }
    }

    /// The unit was reset: nothing that came before counts any more.
    pub fn reset(&self) {
        for queue in lock(&self.0).values_mut() {
            *queue = VecDeque::from([UNIT_RESET]);
        }
    }

    /// The next one for a nexus, which then knows.
    pub fn take(&self, nexus: &Nexus) -> Option<Sense> {
        let code = lock(&self.0).get_mut(nexus)?.pop_front()?;
        Some(Sense::new(SenseKey::UnitAttention, code.0, code.1))
    }

    /// True when something waits for a nexus.
    pub fn waiting(&self, nexus: &Nexus) -> bool {
        lock(&self.0).get(nexus).is_some_and(|q| !q.is_empty())
    }
}
