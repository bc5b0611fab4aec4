//! Which unit a CSCD descriptor means. Only the units that the session itself may
//! see are looked at: a copy manager that looks further hands them to whoever
//! knows their names (CVE-2020-28374).

use super::device::{CopyDisk, CopyTape};
use super::program::Problem;
use crate::copy::parse::{Cscd, CscdId, Designator, Field, Parameters};
use crate::target::common::{Unit, decode_lun};
use std::sync::Arc;

/// A unit found for a descriptor, or why none was.
pub type Resolved = Result<Found, Problem>;

/// A unit that a list speaks of.
#[derive(Clone)]
pub struct Found(pub Arc<Unit>);

impl Found {
    /// It as a disk.
    pub fn disk(&self) -> Option<&dyn CopyDisk> {
        self.0.device().copy_disk()
    }

    /// It as a tape.
    pub fn tape(&self) -> Option<&dyn CopyTape> {
        self.0.device().copy_tape()
    }
}

/// Finds the unit of a descriptor.
pub fn resolve(cscd: &Cscd, units: &[Arc<Unit>]) -> Resolved {
    let at = Field::at(cscd.at);
    let unreachable = Problem {
        code: 0x0804,
        field: at,
    };
    if cscd.null {
        return Err(unreachable);
    }
    let unit = units
        .iter()
        .find(|u| names(u, &cscd.id))
        .ok_or(unreachable)?;
    if unit.device().peripheral_type() != cscd.peripheral_type {
        return Err(Problem {
            code: 0x0d03,
            field: at,
        });
    }
    let found = Found(unit.clone());
    if let (Parameters::Block { block, .. }, Some(disk)) = (cscd.parameters, found.disk())
        && block != 0
        && block != disk.block()
    {
        return Err(Problem {
            code: 0x2600,
            field: Field::at(cscd.at.saturating_add(29)),
        });
    }
    Ok(found)
}

fn names(unit: &Unit, id: &CscdId) -> bool {
    match id {
        CscdId::Designator(wanted) => designators(unit).any(|d| d == *wanted),
        CscdId::Port { lun, name } => {
            decode_lun(*lun) == Some(unit.lun()) && *name == port_name(unit.identity().target())
        }
    }
}

/// What VPD page 83h says of a unit.
fn designators(unit: &Unit) -> impl Iterator<Item = Designator> {
    let page = unit.identity().designators();
    let mut at = 0;
    std::iter::from_fn(move || {
        let (designator, len) = Designator::read(page.get(at..)?)?;
        at += len;
        Some(designator)
    })
}

/// The port name of a target for CSCD descriptors of type E0h: an NAA 3h name
/// (locally assigned) made from the iSCSI name, as an FC bridge would have one.
pub fn port_name(target: &str) -> u64 {
    let hash = blake3::hash(target.as_bytes());
    let first = hash
        .as_bytes()
        .iter()
        .take(8)
        .fold(0u64, |n, b| n << 8 | u64::from(*b));
    0x3 << 60 | (first >> 4)
}
