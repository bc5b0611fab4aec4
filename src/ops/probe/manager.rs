//! A copy manager: its limits, and which units it reaches.

use super::{Known, UnitFacts, no, said, sentence};
use crate::copy::limits::segment;
use crate::copy::{Body, Cscd, Limits, List, ListId, Segment};
use crate::error::{Error, Result};
use crate::ops::unit::copy_limits;
use crate::scsi::unit::SHORT;
use crate::scsi::{Failure, Unit, device_type};
use serde::Serialize;

/// A copy manager.
#[derive(Clone, Debug, Serialize)]
pub struct Manager {
    /// The unit that commands are sent to.
    pub unit: String,
    /// Its place among the units that were given.
    pub index: usize,
    /// What it announces.
    pub limits: Option<Limits>,
    /// Why it is of no use.
    pub refused: Option<String>,
    /// Commands that VPD page 8Fh lists, as operation code and service action.
    pub commands: Vec<(u8, u8)>,
    /// Which units it reaches.
    pub legs: Vec<Leg>,
}

/// Whether a copy manager reaches a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leg {
    /// The unit.
    pub unit: String,
    /// Segment 07h, or a copy of nothing, ended well. Missing when neither is offered.
    pub reached: Option<bool>,
    /// What the copy manager said.
    pub why: Option<String>,
}

impl Manager {
    pub(super) fn limits(&self) -> Result<&Limits> {
        match (&self.limits, &self.refused) {
            (Some(l), _) => Ok(l),
            (None, Some(why)) => no(why.clone()),
            (None, None) => no("the copy manager does not tell its limits"),
        }
    }

    /// Fails when it was tried and is not so.
    pub(super) fn reaches(&self, unit: &UnitFacts) -> Result<()> {
        let leg = self.legs.iter().find(|l| l.unit == unit.name);
        match leg {
            Some(Leg {
                reached: Some(false),
                why,
                ..
            }) => {
                let why = why.as_deref().unwrap_or("no reason given");
                no(format!(
                    "the copy manager does not take the {}: {why}",
                    unit.device
                ))
            }
            _ => Ok(()),
        }
    }
}

/// Asks a unit for its copy manager; none when it has none.
pub(super) fn ask(index: usize, through: &Known, all: &[Known]) -> Result<Option<Manager>> {
    let page = through.page.as_ref();
    let mut manager = Manager {
        unit: through.facts.name.clone(),
        index,
        limits: None,
        refused: None,
        commands: page.map_or_else(Vec::new, |p| {
            p.commands
                .iter()
                .flat_map(|(o, actions)| actions.iter().map(|a| (*o, *a)))
                .collect()
        }),
        legs: Vec::new(),
    };
    match copy_limits(&through.unit) {
        Ok(Some(limits)) => {
            manager.legs = legs(&through.unit, &limits, all)?;
            manager.limits = Some(limits);
        }
        Ok(None) if through.facts.third_party_copy || page.is_some() => {
            manager.refused = Some("the copy manager does not tell its limits".into());
        }
        Ok(None) => return Ok(None),
        // What a unit says is a finding; a broken connection is not.
        Err(e) if Failure::behind(&e).is_none() && e.kind() == crate::error::ErrorKind::Io => {
            return Err(e);
        }
        Err(e) => manager.refused = Some(said(&e)),
    }
    Ok(Some(manager))
}

/// What a copy manager is told of a unit; none of what is neither disk nor tape.
fn cscd(k: &Known, limits: &Limits) -> Option<Result<Cscd>> {
    let address = k.address(limits);
    match (k.identity.inquiry.device_type, k.capacity) {
        (device_type::DISK, Some(c)) => Some(address.map(|a| Cscd::disk(a, c.block_len))),
        (device_type::TAPE, _) => Some(address.map(Cscd::tape)),
        _ => None,
    }
}

fn legs(manager: &Unit, limits: &Limits, all: &[Known]) -> Result<Vec<Leg>> {
    let mut out = Vec::new();
    let mut id = 0;
    for k in all.iter().filter(|k| k.facts.not_ready.is_none()) {
        let Some(cscd) = cscd(k, limits) else {
            continue;
        };
        let tried = match &cscd {
            Ok(c) if limits.has(segment::VERIFY) => Some(verify(manager, c, &mut id)),
            Ok(c) => nothing(manager, limits, k, c, all, &mut id),
            Err(e) => Some(no(sentence(e))),
        };
        let (reached, why) = match tried {
            None => (None, None),
            Some(Ok(())) => (Some(true), None),
            Some(Err(e)) if Failure::behind(&e).is_some() || cscd.is_err() => {
                (Some(false), Some(said(&e)))
            }
            Some(Err(e)) => return Err(e),
        };
        out.push(Leg {
            unit: k.facts.name.clone(),
            reached,
            why,
        });
    }
    Ok(out)
}

fn send(manager: &Unit, cscds: &[Cscd], segments: &[Segment], id: &mut u8) -> Result<()> {
    *id = id.checked_add(1).unwrap_or(1);
    let list = List {
        usage: ListId::Discard,
        cscds,
        segments,
        inline: &[],
    };
    manager.extended_copy(&list.encode(*id)?, SHORT)
}

/// Segment 07h with TEST UNIT READY, and without where that is refused.
fn verify(manager: &Unit, cscd: &Cscd, id: &mut u8) -> Result<()> {
    let segment = |ready| Segment {
        cat: false,
        source: 0,
        destination: 0,
        body: Body::Verify { ready },
    };
    let cscds = std::slice::from_ref(cscd);
    match send(manager, cscds, &[segment(true)], id) {
        Err(e) if is_26_00(&e) => send(manager, cscds, &[segment(false)], id),
        r => r,
    }
}

fn is_26_00(e: &Error) -> bool {
    Failure::sense_behind(e).is_some_and(|s| s.code() == 0x2600)
}

/// Where 07h is not offered: a copy of no blocks between this unit and another
/// one, which the standard allows and which moves nothing.
fn nothing(
    manager: &Unit,
    limits: &Limits,
    k: &Known,
    cscd_of_k: &Cscd,
    all: &[Known],
    id: &mut u8,
) -> Option<Result<()>> {
    let is_disk = k.is(device_type::DISK);
    let partner = match is_disk {
        true => device_type::TAPE,
        false => device_type::DISK,
    };
    let other = all
        .iter()
        .filter(|o| o.is(partner) && o.facts.not_ready.is_none())
        .find_map(|o| cscd(o, limits)?.ok())?;
    let (disk, tape) = match is_disk {
        true => (cscd_of_k.clone(), other),
        false => (other, cscd_of_k.clone()),
    };
    let transfer = u32::try_from(limits.choose_block().ok()?).ok()?;
    limits.has(segment::BLOCK_TO_STREAM).then(|| {
        let segment = Segment {
            cat: false,
            source: 0,
            destination: 1,
            body: Body::BlockToStream {
                hold: false,
                transfer,
                blocks: 0,
                lba: 0,
            },
        };
        send(manager, &[disk, tape], &[segment], id)
    })
}
