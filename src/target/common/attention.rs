//! Unit attentions: what a nexus is told with its next command.

use super::lock;
use crate::scsi::{Sense, SenseKey};
use crate::target::lun::Nexus;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

/// Most that wait for one nexus; the oldest are kept.
const WAITING: usize = 16;

/// Nexuses remembered that are gone; the oldest are forgotten.
const REMEMBERED: usize = 1024;

/// An additional sense code and its qualifier.
pub type Code = (u8, u8);

/// Medium may have changed.
pub const MEDIUM_CHANGED: Code = (0x28, 0x00);
/// Power on, reset, or a nexus that is new.
pub const RESET: Code = (0x29, 0x00);
/// I_T nexus loss: a nexus that was there before, and nothing was reset meanwhile.
pub const NEXUS_LOST: Code = (0x29, 0x07);
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
pub struct Attentions(Mutex<State>);

#[derive(Default)]
struct State {
    here: BTreeMap<Nexus, VecDeque<Code>>,
    /// Sessions that ended and knew of every reset, the latest at the end.
    gone: VecDeque<(Arc<str>, [u8; 6])>,
}

impl Attentions {
    /// A nexus began: a new one is told of a reset, one that was here before
    /// only that it was lost, since the unit kept everything.
    pub fn began(&self, nexus: &Nexus) {
        let mut s = lock(&self.0);
        let port = (nexus.initiator.clone(), nexus.isid);
        let known = s.gone.iter().position(|p| *p == port);
        let code = match known.and_then(|i| s.gone.remove(i)) {
            Some(_) => NEXUS_LOST,
            None => RESET,
        };
        s.here.insert(nexus.clone(), VecDeque::from([code]));
    }

    /// A nexus is gone.
    pub fn lost(&self, nexus: &Nexus) {
        let mut s = lock(&self.0);
        // What it was not told of yet, it has to be told when it comes back.
        let told = |q: VecDeque<Code>| !q.contains(&RESET) && !q.contains(&UNIT_RESET);
        if s.here.remove(nexus).is_some_and(told) {
            if s.gone.len() >= REMEMBERED {
                s.gone.pop_front();
            }
            s.gone.push_back((nexus.initiator.clone(), nexus.isid));
        }
    }

    /// Something for every nexus that `whom` picks; told once, however often it
    /// happened.
    pub fn raise(&self, code: Code, whom: impl Fn(&Nexus) -> bool) {
        for (_, queue) in lock(&self.0).here.iter_mut().filter(|(n, _)| whom(n)) {
            if !queue.contains(&code) && queue.len() < WAITING {
                queue.push_back(code);
            }
        }
    }

    /// A nexus has learnt it elsewhere.
    pub fn forget(&self, nexus: &Nexus, code: Code) {
        if let Some(queue) = lock(&self.0).here.get_mut(nexus) {
            queue.retain(|c| *c != code);
        }
    }

    /// The unit was reset: nothing that came before counts any more.
    pub fn reset(&self) {
        let mut s = lock(&self.0);
        s.gone.clear();
        for queue in s.here.values_mut() {
            *queue = VecDeque::from([UNIT_RESET]);
        }
    }

    /// The next one for a nexus, which then knows.
    pub fn take(&self, nexus: &Nexus) -> Option<Sense> {
        let code = lock(&self.0).here.get_mut(nexus)?.pop_front()?;
        Some(Sense::new(SenseKey::UnitAttention, code.0, code.1))
    }

    /// True when something waits for a nexus.
    pub fn waiting(&self, nexus: &Nexus) -> bool {
        lock(&self.0).here.get(nexus).is_some_and(|q| !q.is_empty())
    }
}
