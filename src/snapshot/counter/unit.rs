//! A SCSI unit's own count: log page 19h, general statistics. It has the writes of
//! all hosts and of copy managers.

use super::Count;
use crate::error::{Error, ErrorKind, Result};
use crate::scsi::{Unit, UnitIdentity};

/// Asks a unit.
pub struct UnitCount {
    unit: Unit,
    /// Its designators: another unit may answer behind a connection made anew.
    identity: UnitIdentity,
    /// Resets and changes of the medium that it told of.
    told: (u64, u64),
    /// Each of those counts as a write: what came in between was not seen.
    more: u64,
}

impl UnitCount {
    /// Fails when the unit keeps no such count.
    pub fn new(unit: Unit) -> Result<Self> {
        count(&unit)?;
        let identity = unit.identity()?;
        let told = changes(&unit);
        Ok(Self {
            unit,
            identity,
            told,
            more: 0,
        })
    }
}

impl Count for UnitCount {
    fn writes(&mut self) -> Result<u64> {
        let n = count(&self.unit)?;
        let told = changes(&self.unit);
        if told != self.told {
            if self.unit.identity()? != self.identity {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    "Another unit answers than when the wait began",
                )
                .of(self.unit.name())
                .hint("run it again, with what is there now"));
            }
            self.told = told;
            self.more += 1;
        }
        Ok(n.saturating_add(self.more))
    }

    fn name(&self) -> String {
        format!("the count of {} itself", self.unit.name())
    }
}

/// Resets and changes of the medium.
fn changes(unit: &Unit) -> (u64, u64) {
    let c = unit.changes();
    (c.resets, c.medium)
}

fn count(unit: &Unit) -> Result<u64> {
    match unit.activity()? {
        Some(a) => Ok(a.writes),
        None => Err(Error::unsupported(
            "The unit does not count writes (log page 19h), so nobody can tell when it is quiet",
        )
        .of(unit.name())
        .hint("keep its users from writing and do not wait: --quiet 0")),
    }
}
