//! A SCSI unit's own count: log page 19h, general statistics. It has the writes of
//! all hosts and of copy managers.

use super::Count;
use crate::error::{Error, Result};
use crate::scsi::Unit;

/// Asks a unit.
pub struct UnitCount {
    unit: Unit,
}

impl UnitCount {
    /// Fails when the unit keeps no such count.
    pub fn new(unit: Unit) -> Result<Self> {
        let mut me = Self { unit };
        me.writes().map(|_| me)
    }
}

impl Count for UnitCount {
    fn writes(&mut self) -> Result<u64> {
        match self.unit.activity()? {
            Some(a) => Ok(a.writes),
            None => Err(Error::unsupported(
                "The unit does not count writes (log page 19h), so nobody can tell when it is quiet",
            )
            .of(self.unit.name())
            .hint("keep its users from writing and do not wait: --quiet 0")),
        }
    }

    fn name(&self) -> String {
        format!("the count of {} itself", self.unit.name())
    }
}
