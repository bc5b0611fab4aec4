//! What all logical units share: identity, unit attentions, reservations, mode
//! and log frames, and the commands that do not depend on the kind.
//!
//! A kind of unit implements [`Device`]; the copy manager [`ThirdPartyCopy`].

mod attention;
mod cdb;
mod command;
mod device;
mod identity;
mod inquiry;
mod log;
mod mode;
mod opcodes;
mod persistent;
mod refusal;
mod reservation;
mod unit;

#[cfg(test)]
mod tests;

pub use attention::{
    Attentions, Code, LUNS_CHANGED, MEDIUM_CHANGED, MODE_CHANGED, REGISTRATIONS_PREEMPTED,
    RESERVATIONS_PREEMPTED, RESERVATIONS_RELEASED, RESET, UNIT_RESET,
};
pub use cdb::{Cdb, be, byte, put, text};
pub use command::{Access, CommandInfo};
pub use device::{Device, ModePage, ThirdPartyCopy};
pub use identity::{Identity, VENDOR};
pub(super) use inquiry::{nobody, report_luns, sense_data};
pub use log::{Counted, Statistics};
pub use persistent::cut;
pub use refusal::{Answer, Refusal, invalid_field, invalid_parameter, list_length, reply};
pub use reservation::{Held, Kind, Port, Registration, Reservations};
pub use unit::{Unit, Watch};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock; what a thread that panicked left behind is used as it is.
pub(super) fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The eight bytes of a logical unit number as one big-endian number:
/// peripheral addressing up to 255, flat above.
pub fn encode_lun(lun: u16) -> u64 {
    let first = match lun {
        0..=255 => lun,
        _ => 0x4000 | (lun & 0x3fff),
    };
    u64::from(first) << 48
}

/// The number in those bytes, if they address a unit of one level.
pub fn decode_lun(field: u64) -> Option<u16> {
    if field << 16 != 0 {
        return None;
    }
    let first = (field >> 48) as u16;
    match first >> 14 {
        0 if first <= 255 => Some(first),
        1 => Some(first & 0x3fff),
        _ => None,
    }
}
