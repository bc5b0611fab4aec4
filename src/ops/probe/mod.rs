//! `probe`: what units are, what their copy managers announce, and what they
//! really accept.

mod manager;
#[cfg(test)]
mod tests;
mod trial;

use crate::copy::{Address, Limits};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{Observer, warning};
use crate::ops::unit::address;
use crate::scsi::{
    Capacity, Designator, Failure, Sense, ThirdPartyCopy, Unit, UnitIdentity, device_type, op,
};
use serde::Serialize;
use std::time::Duration;

pub use manager::{Leg, Manager};
pub use trial::Trial;

/// What may be done to find out.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProbeOptions {
    /// Copy one block to the tape and read it back. Needs a cartridge that is
    /// blank, or labelled and empty.
    pub write_test: bool,
    /// Let the copy manager also write that block back to where it was on the
    /// disk.
    pub write_disk: bool,
    /// The cartridge may hold something that will be lost.
    pub overwrite: bool,
}

/// What a unit is.
#[derive(Clone, Debug, Serialize)]
pub struct UnitFacts {
    /// As the user named it.
    pub name: String,
    /// Disk, tape, ...
    pub device: &'static str,
    /// Maker.
    pub vendor: String,
    /// Model.
    pub product: String,
    /// Revision.
    pub revision: String,
    /// Serial number.
    pub serial: Option<String>,
    /// What copy commands call it.
    pub designator: Option<String>,
    /// The name of its port, for copy managers that want it (E0h).
    pub port: Option<String>,
    /// Its number at that port, as the eight bytes of REPORT LUNS.
    pub lun: Option<String>,
    /// INQUIRY version: 4 is SPC-2, 5 SPC-3, 6 SPC-4.
    pub version: u8,
    /// 3PC: it says that it takes copy commands.
    pub third_party_copy: bool,
    /// VPD page 8Fh is there.
    pub third_party_page: bool,
    /// Why it is not ready.
    pub not_ready: Option<String>,
    /// Size of a disk in bytes.
    pub bytes: Option<u64>,
    /// Block length of a disk.
    pub block_bytes: Option<u32>,
    /// Blocks of the disk may be unmapped.
    pub thin: Option<bool>,
    /// Longest block of a tape.
    pub longest_block: Option<u32>,
    /// The medium is write protected.
    pub write_protected: Option<bool>,
}

/// Yes, or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// It can be offloaded.
    pub possible: bool,
    /// Why it cannot.
    pub why: Option<String>,
}

impl Answer {
    fn of(r: Result<()>) -> Self {
        Self {
            possible: r.is_ok(),
            why: r.err().map(|e| sentence(&e)),
        }
    }
}

/// What can be offloaded between a disk and a tape.
#[derive(Clone, Debug, Serialize)]
pub struct Offload {
    /// The disk.
    pub disk: String,
    /// The tape.
    pub tape: String,
    /// The unit whose copy manager does it best; none has one.
    pub manager: Option<String>,
    /// Disk to tape.
    pub backup: Answer,
    /// The whole volume back.
    pub restore: Answer,
    /// Single files back.
    pub files: Answer,
    /// What a test copy showed.
    pub trial: Option<Trial>,
}

/// Everything found out.
#[derive(Clone, Debug, Serialize)]
pub struct Probed {
    /// The units, in the order they were given.
    pub units: Vec<UnitFacts>,
    /// Copy managers among them.
    pub managers: Vec<Manager>,
    /// Every disk with every tape.
    pub offloads: Vec<Offload>,
}

/// A unit with what was learnt of it.
struct Known {
    unit: Unit,
    identity: UnitIdentity,
    capacity: Option<Capacity>,
    page: Option<ThirdPartyCopy>,
    facts: UnitFacts,
}

impl Known {
    fn is(&self, kind: u8) -> bool {
        self.identity.inquiry.device_type == kind
    }
    /// What a copy manager with these limits is to call it.
    fn address(&self, limits: &Limits) -> Result<Address> {
        address(&self.unit, &self.identity.designators, limits)
    }
    /// Refuses what no copy can be made with.
    fn usable(&self) -> Result<()> {
        match &self.facts.not_ready {
            Some(why) => no(format!("the {} is not ready: {why}", self.facts.device)),
            None => Ok(()),
        }
    }
}

fn no<T>(why: impl Into<String>) -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, why))
}

/// An error without the name of what it happened in, which stands beside it.
fn sentence(e: &Error) -> String {
    let mut text = match std::error::Error::source(e) {
        Some(cause) => format!("{}: {cause}", e.message()),
        None => e.message().to_owned(),
    };
    // It goes on behind a colon. Abbreviations stay as they are.
    let mut letters = text.chars();
    let head = (letters.next(), letters.next());
    if let (Some('A'..='Z'), Some(' ' | 'a'..='z')) = head
        && let Some(first) = text.get_mut(..1)
    {
        first.make_ascii_lowercase();
    }
    text
}

/// Looks at the units, and tries what they say. Without a write test nothing is
/// changed.
pub fn probe(units: &[Unit], options: ProbeOptions, observer: &dyn Observer) -> Result<Probed> {
    let mut known = Vec::new();
    observer.begin("units", Some(units.len() as u64));
    for unit in units {
        known.push(look(unit)?);
        observer.advance(1);
    }
    observer.end();
    let mut managers = Vec::new();
    for (i, k) in known.iter().enumerate() {
        if let Some(m) = manager::ask(i, k, &known)? {
            managers.push(m);
        }
    }
    let mut offloads = Vec::new();
    for disk in known.iter().filter(|k| k.is(device_type::DISK)) {
        for tape in known.iter().filter(|k| k.is(device_type::TAPE)) {
            if observer.cancelled() {
                return Err(Error::interrupted());
            }
            let (mut row, best) = best_of(disk, tape, &managers);
            let limits = best.and_then(|m| m.limits.as_ref().map(|l| (m, l)));
            if let Some((m, limits)) = limits
                && options.write_test
                && row.backup.possible
                && let Some(through) = known.get(m.index)
            {
                let tried = trial::run(&through.unit, limits, disk, tape, options)?;
                if let Some(left) = &tried.left_behind {
                    observer.warn(warning("probe", left.clone()));
                }
                tried.correct(&mut row);
                row.trial = Some(tried);
            }
            offloads.push(row);
        }
    }
    Ok(Probed {
        units: known.into_iter().map(|k| k.facts).collect(),
        managers,
        offloads,
    })
}

fn look(unit: &Unit) -> Result<Known> {
    let identity = unit.identity()?;
    let inquiry = &identity.inquiry;
    if inquiry.qualifier != 0 || inquiry.device_type == 0x1f {
        return Err(Error::not_found("There is no such logical unit").of(unit.name()));
    }
    let kind = inquiry.device_type;
    let not_ready = match unit.wait_ready(Duration::from_secs(10)) {
        Ok(()) => None,
        Err(e) => match Failure::behind(&e) {
            Some(f) => Some(f.to_string()),
            None => return Err(e),
        },
    };
    let there = not_ready.is_none();
    let capacity = match kind == device_type::DISK && there {
        true => Some(unit.capacity()?),
        false => None,
    };
    let longest_block = match kind == device_type::TAPE {
        true => longest_block(unit),
        false => None,
    };
    let media = matches!(kind, device_type::DISK | device_type::TAPE) && there;
    let write_protected = match media {
        true => unit.mode_sense(0x3f, 0).ok().map(|m| m.write_protected()),
        false => None,
    };
    let page = unit.third_party_copy()?;
    let facts = UnitFacts {
        name: unit.name().to_owned(),
        device: device_type::name(kind),
        vendor: inquiry.vendor.clone(),
        product: inquiry.product.clone(),
        revision: inquiry.revision.clone(),
        serial: identity.serial.clone(),
        designator: identity.for_cscd().map(|d| d.to_string()),
        port: Designator::port_name(&identity.designators).map(|n| format!("{n:016x}")),
        lun: unit.lun().map(|n| format!("{n:016x}")),
        version: inquiry.version,
        third_party_copy: inquiry.third_party_copy,
        third_party_page: page.is_some(),
        not_ready,
        bytes: capacity.map(|c| c.bytes()),
        block_bytes: capacity.map(|c| c.block_len),
        thin: capacity.map(|c| c.thin),
        longest_block,
        write_protected,
    };
    Ok(Known {
        unit: unit.clone(),
        identity,
        capacity,
        page,
        facts,
    })
}

/// READ BLOCK LIMITS.
fn longest_block(unit: &Unit) -> Option<u32> {
    let b = unit
        .read_in(
            "READ BLOCK LIMITS",
            &[op::READ_BLOCK_LIMITS, 0, 0, 0, 0, 0],
            6,
        )
        .ok()?;
    let [_, x, y, z, ..] = *b else { return None };
    Some(u32::from_be_bytes([0, x, y, z])).filter(|n| *n > 0)
}

/// The manager that can do most for a disk and a tape; of equals that of the tape,
/// then that of the disk, which is the order in which backup and restore ask.
fn best_of<'a>(
    disk: &Known,
    tape: &Known,
    managers: &'a [Manager],
) -> (Offload, Option<&'a Manager>) {
    let rows = managers
        .iter()
        .map(|m| (offload(disk, tape, Some(m)), Some(m)));
    let score = |o: &Offload| {
        [&o.backup, &o.restore, &o.files]
            .iter()
            .filter(|a| a.possible)
            .count()
    };
    let near = |m: Option<&Manager>| match m {
        Some(m) if m.unit == tape.facts.name => 2,
        Some(m) if m.unit == disk.facts.name => 1,
        _ => 0,
    };
    // The first of equals.
    rows.rev()
        .max_by_key(|(o, m)| (score(o), near(*m)))
        .unwrap_or_else(|| (offload(disk, tape, None), None))
}

fn offload(disk: &Known, tape: &Known, manager: Option<&Manager>) -> Offload {
    let block = disk.capacity.map_or(512, |c| c.block_len);
    let both = || {
        disk.usable()?;
        tape.usable()?;
        let Some(m) = manager else {
            return no("none of the units has a copy manager");
        };
        m.reaches(&disk.facts)?;
        m.reaches(&tape.facts)?;
        m.limits()
    };
    let fits = |l: &Limits| {
        let t = l.choose_block()?;
        match tape.facts.longest_block {
            Some(most) if t > u64::from(most) && l.check_block(most.into()).is_err() => {
                no(format!("the tape takes blocks of {most} bytes at most"))
            }
            _ => Ok(()),
        }
    };
    let backup = || {
        let l = both()?;
        l.check_backup(block.into())?;
        fits(l)?;
        match tape.facts.write_protected {
            Some(true) => no("the cartridge is write protected"),
            _ => Ok(()),
        }
    };
    let restore = || {
        let l = both()?;
        l.check_restore(block.into())?;
        match disk.facts.write_protected {
            Some(true) => no("the disk is write protected"),
            _ => Ok(()),
        }
    };
    Offload {
        disk: disk.facts.name.clone(),
        tape: tape.facts.name.clone(),
        manager: manager.map(|m| m.unit.clone()),
        backup: Answer::of(backup()),
        restore: Answer::of(restore()),
        // A file begins inside a tape block: the same segments, with residue.
        files: Answer::of(restore()),
        trial: None,
    }
}

/// What a copy manager said, or what went wrong on the way.
fn said(e: &Error) -> String {
    Failure::sense_behind(e).map_or_else(|| sentence(e), Sense::to_string)
}
