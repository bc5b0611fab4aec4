//! All units of a target, as its sessions see them.

use super::common::{
    Cdb, Device, LUNS_CHANGED, Refusal, ThirdPartyCopy, decode_lun, nobody, reply, report_luns,
    sense_data,
};
use super::lun::{Nexus, Reply, Request, Units};
use super::roster::{MOST_UNITS, Roster};
use crate::error::{Error, Result};
use crate::scsi::{Sense, SenseKey, op};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The units of a target, numbered from LUN 0 in the order they were given, and
/// their snapshots.
pub struct UnitSet {
    roster: Arc<Roster>,
}

impl UnitSet {
    /// From named devices. The names are part of the units' identities.
    pub fn new(
        target: &str,
        devices: Vec<(String, Arc<dyn Device>)>,
        third_party: Option<Arc<dyn ThirdPartyCopy>>,
    ) -> Result<Self> {
        if devices.len() > MOST_UNITS.into() {
            return Err(Error::usage(format!(
                "Found {} units, expected at most {MOST_UNITS} in one target",
                devices.len()
            )));
        }
        let mut names = BTreeSet::new();
        if let Some((name, _)) = devices.iter().find(|(n, _)| !names.insert(n.as_str())) {
            return Err(Error::usage(format!("Two units are named {name}"))
                .hint("give each unit a name of its own"));
        }
        let roster = Roster::new(target, &devices, third_party);
        Ok(Self { roster })
    }

    /// The units of now, by their numbers.
    pub fn units(&self) -> super::roster::Units {
        self.roster.units()
    }

    /// Where units come and go.
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// A number without a unit.
    fn missing(&self, request: &Request<'_>) -> Reply {
        let cdb = Cdb::of(request.cdb);
        let not_there = Sense::new(SenseKey::IllegalRequest, 0x25, 0x00);
        reply(match cdb.opcode() {
            op::INQUIRY => nobody(&cdb),
            op::REPORT_LUNS => {
                let units = self.units();
                for u in units.iter() {
                    u.attentions().forget(request.nexus, LUNS_CHANGED);
                }
                report_luns(&units, &cdb)
            }
            op::REQUEST_SENSE => Ok(sense_data(&not_there, &cdb)),
            _ => Err(Refusal::from(not_there)),
        })
    }
}

impl Units for UnitSet {
    fn execute(&self, lun: u64, request: &Request<'_>) -> Reply {
        match decode_lun(lun).and_then(|n| self.roster.unit(n)) {
            Some(u) => u.execute(&self.units(), request),
            None => self.missing(request),
        }
    }

    fn nexus_began(&self, nexus: &Nexus) {
        self.roster.nexus_began(nexus);
    }

    fn nexus_lost(&self, nexus: &Nexus) {
        self.roster.nexus_lost(nexus);
        if let Some(t) = self.roster.third_party() {
            t.nexus_lost(nexus);
        }
    }

    fn reset(&self, lun: Option<u64>, _by: &Nexus) {
        match lun {
            Some(lun) => {
                if let Some(u) = decode_lun(lun).and_then(|n| self.roster.unit(n)) {
                    u.reset();
                }
            }
            None => self.units().iter().for_each(|u| u.reset()),
        }
    }

    fn has(&self, lun: u64) -> bool {
        decode_lun(lun).is_some_and(|n| self.roster.unit(n).is_some())
    }

    fn flush(&self) -> Result<()> {
        // Every unit is written out, whatever the first failure was.
        let units = self.units();
        let results: Vec<Result<()>> = units.iter().map(|u| u.device().flush()).collect();
        results.into_iter().collect()
    }
}
