//! All units of a target, as its sessions see them.

use super::common::{
    Cdb, Device, Refusal, ThirdPartyCopy, Unit, decode_lun, nobody, reply, report_luns, sense_data,
};
use super::lun::{Nexus, Reply, Request, Units};
use crate::error::{Error, Result};
use crate::scsi::{Sense, SenseKey, op};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most units of a target: what flat addressing reaches, and nobody needs.
const MOST_UNITS: usize = 256;

/// The units of a target, numbered from LUN 0 in the order they were given.
pub struct UnitSet {
    units: Vec<Arc<Unit>>,
    third_party: Option<Arc<dyn ThirdPartyCopy>>,
}

impl UnitSet {
    /// From named devices. The names are part of the units' identities.
    pub fn new(
        target: &str,
        devices: Vec<(String, Arc<dyn Device>)>,
        third_party: Option<Arc<dyn ThirdPartyCopy>>,
    ) -> Result<Self> {
        if devices.len() > MOST_UNITS {
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
        let units = devices
            .iter()
            .zip(0..)
            .map(|((name, device), lun)| {
                Unit::new(lun, target, name, device.clone(), third_party.clone()).map(Arc::new)
            })
            .collect::<Result<_>>()?;
        Ok(Self { units, third_party })
    }

    /// The units, by their numbers.
    pub fn units(&self) -> &[Arc<Unit>] {
        &self.units
    }

    fn unit(&self, lun: u64) -> Option<&Arc<Unit>> {
        self.units.get(usize::from(decode_lun(lun)?))
    }

    /// A number without a unit.
    fn missing(&self, request: &Request<'_>) -> Reply {
        let cdb = Cdb::of(request.cdb);
        let not_there = Sense::new(SenseKey::IllegalRequest, 0x25, 0x00);
        reply(match cdb.opcode() {
            op::INQUIRY => nobody(&cdb),
            op::REPORT_LUNS => report_luns(&self.units, &cdb),
            op::REQUEST_SENSE => Ok(sense_data(&not_there, &cdb)),
            _ => Err(Refusal::from(not_there)),
        })
    }
}

impl Units for UnitSet {
    fn execute(&self, lun: u64, request: &Request<'_>) -> Reply {
        match self.unit(lun) {
            Some(u) => u.execute(&self.units, request),
            None => self.missing(request),
        }
    }

    fn nexus_began(&self, nexus: &Nexus) {
        for u in &self.units {
            u.nexus_began(nexus);
        }
    }

    fn nexus_lost(&self, nexus: &Nexus) {
        for u in &self.units {
            u.nexus_lost(nexus);
        }
        if let Some(t) = &self.third_party {
            t.nexus_lost(nexus);
        }
    }

    fn reset(&self, lun: Option<u64>, _by: &Nexus) {
        match lun {
            Some(lun) => {
                if let Some(u) = self.unit(lun) {
                    u.reset();
                }
            }
            None => self.units.iter().for_each(|u| u.reset()),
        }
    }

    fn has(&self, lun: u64) -> bool {
        self.unit(lun).is_some()
    }

    fn flush(&self) -> Result<()> {
        // Every unit is written out, whatever the first failure was.
        let results: Vec<Result<()>> = self.units.iter().map(|u| u.device().flush()).collect();
        results.into_iter().collect()
    }
}
