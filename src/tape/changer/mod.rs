//! A medium changer: what its elements hold, and moving cartridges between them.

mod elements;
mod library;
#[cfg(test)]
mod tests;

pub use elements::{Element, ElementKind};
pub use library::{Library, LibraryOptions};

use crate::error::{Error, Result};
use crate::scsi::unit::LONG;
use crate::scsi::{Data, Failure, Unit, device_type, op};

/// Most bytes of a report of elements: more than 65,535 elements are there.
const MOST: usize = 8 << 20;
/// Bytes asked for first.
const FIRST: usize = 64 << 10;

/// A medium changer.
#[derive(Clone)]
pub struct Changer {
    unit: Unit,
    /// Address of the robot; 0 lets the changer choose.
    robot: u16,
}

impl Changer {
    /// The changer behind a unit.
    pub fn open(unit: Unit) -> Result<Self> {
        let kind = unit.inquiry()?.device_type;
        if kind != device_type::CHANGER {
            return Err(Error::usage(format!(
                "This is a {}, expected a medium changer",
                device_type::name(kind)
            ))
            .of(unit.name()));
        }
        // Element address assignment; a changer without it has one robot.
        let robot = unit
            .mode_sense(0x1d, 0)
            .ok()
            .and_then(|m| {
                let page = m.page(0x1d, 0)?;
                Some(u16::from_be_bytes([*page.get(2)?, *page.get(3)?]))
            })
            .unwrap_or(0);
        Ok(Self { unit, robot })
    }

    /// What to call it in a message.
    pub fn name(&self) -> &str {
        self.unit.name()
    }

    /// All its elements.
    pub fn elements(&self) -> Result<Vec<Element>> {
        // Older changers know neither identifiers (DVCID) nor volume tags.
        let mut refused = None;
        for (tags, ids) in [(true, true), (true, false), (false, false)] {
            match self.status(tags, ids) {
                Ok(report) => return elements::parse(&report).map_err(|e| e.of(self.name())),
                Err(e) if Failure::sense_behind(&e).is_some_and(|s| s.is_not_supported()) => {
                    refused = Some(e);
                }
                Err(e) => return Err(e),
            }
        }
        Err(refused.unwrap_or_else(|| Error::unsupported("READ ELEMENT STATUS is refused")))
    }

    fn status(&self, tags: bool, ids: bool) -> Result<Vec<u8>> {
        let mut len = FIRST;
        loop {
            let n = (len as u32).to_be_bytes();
            let cdb = [
                op::READ_ELEMENT_STATUS,
                u8::from(tags) << 4,
                0,
                0,
                0xff,
                0xff,
                u8::from(ids),
                n[1],
                n[2],
                n[3],
                0,
                0,
            ];
            let mut report = vec![0; len];
            let done = self
                .unit
                .run("READ ELEMENT STATUS", &cdb, Data::In(&mut report), LONG)?;
            report.truncate(done.transferred);
            let whole = elements::whole_len(&report).map_err(|e| e.of(self.name()))?;
            if whole <= report.len() || len == MOST {
                return Ok(report);
            }
            len = whole.min(MOST);
        }
    }

    /// Moves a cartridge from one element to another.
    pub fn move_medium(&self, from: u16, to: u16) -> Result<()> {
        let (r, f, t) = (
            self.robot.to_be_bytes(),
            from.to_be_bytes(),
            to.to_be_bytes(),
        );
        let cdb = [
            op::MOVE_MEDIUM,
            0,
            r[0],
            r[1],
            f[0],
            f[1],
            t[0],
            t[1],
            0,
            0,
            0,
            0,
        ];
        self.unit
            .run_plain(&format!("MOVE MEDIUM from {from} to {to}"), &cdb, LONG)
    }
}
