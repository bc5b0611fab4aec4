//! A command that a unit ended badly, as a cause of an [`Error`].

use super::{Completion, Sense, Status};
use crate::error::{Error, ErrorKind};
use std::fmt;

/// How a unit ended a command that did not succeed. Stands behind every
/// [`Error`] that [`super::Unit`] makes of a status, so that whoever gets the
/// error can still look at the sense data: [`Failure::behind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Status.
    pub status: Status,
    /// Sense data, if the unit gave some.
    pub sense: Option<Sense>,
}

impl Failure {
    /// What a completion says.
    pub fn of(c: &Completion) -> Self {
        Self {
            status: c.status,
            sense: c.sense.clone(),
        }
    }

    /// The failure behind an error, if a unit's status is its cause.
    pub fn behind(e: &Error) -> Option<&Failure> {
        std::error::Error::source(e)?.downcast_ref()
    }

    /// The sense data behind an error.
    pub fn sense_behind(e: &Error) -> Option<&Sense> {
        Self::behind(e)?.sense.as_ref()
    }

    /// The error: `what` is the sentence, such as "Reading 8 blocks failed".
    pub fn error(self, unit: &str, what: impl Into<String>) -> Error {
        let (kind, hint) = self.judge();
        let e = Error::new(kind, what).of(unit);
        let e = match hint {
            Some(h) => e.hint(h),
            None => e,
        };
        e.caused_by(self)
    }

    /// The error of a read that begins at a byte: what the medium cannot give is
    /// [`ErrorKind::Unreadable`].
    pub fn read_error(self, unit: &str, what: impl Into<String>, offset: u64) -> Error {
        let kind = match &self.sense {
            Some(s) if s.is_medium_error() => ErrorKind::Unreadable,
            _ => return self.error(unit, what).at(offset),
        };
        Error::new(kind, what)
            .of(unit)
            .at(offset)
            .hint("the medium is damaged; a backup goes on without these bytes and records them")
            .caused_by(self)
    }

    fn judge(&self) -> (ErrorKind, Option<&'static str>) {
        if self.status == Status::ReservationConflict {
            let hint = "another host has reserved the unit; end its job, or clear its reservation";
            return (ErrorKind::Refused, Some(hint));
        }
        let hint = match &self.sense {
            Some(s) if s.is_write_protected() => {
                let hint = "take the write protection off, or use another medium";
                return (ErrorKind::Refused, Some(hint));
            }
            Some(s) if s.is_no_medium() => Some("load a medium"),
            Some(s) if s.is_becoming_ready() => Some("wait until the unit is ready"),
            Some(s) if s.is_medium_changed() => {
                Some("somebody changed the medium; begin again with the one that is there now")
            }
            Some(s) if s.is_reset() => {
                Some("the unit was reset meanwhile; positions and reservations are gone")
            }
            Some(s) if s.is_unknown_command() => Some("the unit cannot do this"),
            None if matches!(self.status, Status::Busy | Status::TaskSetFull) => {
                Some("the unit is busy; try again later")
            }
            _ => None,
        };
        (ErrorKind::Scsi, hint)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.sense, self.status) {
            (Some(s), _) => write!(f, "{s}"),
            (None, Status::CheckCondition) => {
                f.write_str("CHECK CONDITION without sense data that can be read")
            }
            (None, status) => write!(f, "{status}"),
        }
    }
}

impl std::error::Error for Failure {}
