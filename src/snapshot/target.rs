//! `ntbak target`: a point-in-time copy of a disk unit, which the target makes and serves
//! as a unit of its own; so a copy manager can read it.

use super::provider::{Made, Name, Provider, Stray, Subject, cannot, load, store};
use super::reflink::wanted;
use crate::error::{Error, ErrorKind, Result};
use crate::iscsi::Url;
use crate::scsi::Unit;
use crate::scsi::snapshot::{self, UnitSnapshot};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub const KIND: &str = "target";

/// Asks a unit.
pub struct Target {
    subject: Option<Subject>,
    unit: Unit,
}

#[derive(Serialize, Deserialize)]
struct Data {
    /// The disk, as the user wrote it.
    source: String,
    name: Name,
    /// The target's own number for it; unknown until it is made.
    #[serde(default)]
    id: Option<u64>,
}

impl Target {
    /// Of a source that is a unit.
    pub fn new(subject: Subject) -> Result<Self> {
        let unit = subject.unit.clone().ok_or_else(|| {
            cannot(
                &subject,
                KIND,
                "the source is no unit of `ntbak target` (iscsi://…)",
            )
        })?;
        Ok(Self {
            subject: Some(subject),
            unit,
        })
    }

    /// Of a unit whose snapshot is only to be deleted.
    pub fn again(unit: Unit) -> Self {
        Self {
            subject: None,
            unit,
        }
    }

    /// The snapshot: by its number, or by our name when that was never learned.
    fn find(&self, d: &Data) -> Result<Option<UnitSnapshot>> {
        let all = snapshot::list(&self.unit)?;
        Ok(all.into_iter().find(|s| match d.id {
            Some(id) => s.id == id,
            None => s.tag == d.name.number(),
        }))
    }

    fn existing(&self, d: &Data) -> Result<UnitSnapshot> {
        self.find(d)?.ok_or_else(|| {
            Error::not_found("The target has no such snapshot any more").of(d.name.to_string())
        })
    }
}

/// The address of a snapshot's unit: that of the disk with another number.
fn address(disk: &str, s: &UnitSnapshot) -> Result<String> {
    let number = s.number().ok_or_else(|| {
        Error::unsupported("The snapshot's unit has a number that no address can have")
    })?;
    // Around the number stay the user's name and secret, and the options.
    Url::parse(disk)?;
    let (before, last) = disk.rsplit_once('/').unwrap_or((disk, ""));
    let options = last
        .find('?')
        .and_then(|at| last.get(at..))
        .unwrap_or_default();
    Ok(format!("{before}/{number}{options}"))
}

impl Provider for Target {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn prepare(&mut self, name: &Name) -> Result<Value> {
        let subject = wanted(self.subject.as_ref())?;
        if Url::parse(&subject.text).is_err() {
            return Err(cannot(
                subject,
                KIND,
                "the snapshot's unit would not show on this machine",
            )
            .advise("name the disk by its address: iscsi://host/target/lun"));
        }
        if !snapshot::offered(&self.unit)? {
            return Err(cannot(subject, KIND, "the unit makes none"));
        }
        store(&Data {
            source: subject.text.clone(),
            name: name.clone(),
            id: None,
        })
    }

    fn create(&mut self, data: &mut Value) -> Result<()> {
        let mut d: Data = load(data)?;
        let s = snapshot::create(&self.unit, d.name.number())?;
        d.id = Some(s.id);
        *data = store(&d)?;
        Ok(())
    }

    fn describe(&mut self, data: &Value) -> Result<Made> {
        let d: Data = load(data)?;
        let s = self.existing(&d)?;
        Ok(Made {
            place: address(&d.source, &s)?,
            part: None,
            label: format!("{:016x}", s.id),
            naa: Some(s.naa.iter().map(|b| format!("{b:02x}")).collect()),
        })
    }

    fn check(&mut self, data: &Value) -> Result<()> {
        let d: Data = load(data)?;
        match self.existing(&d)?.lost {
            false => Ok(()),
            true => Err(Error::new(
                ErrorKind::Io,
                "The target had no room for what the disk changed, and the snapshot is worth nothing",
            )
            .of(d.name.to_string())
            .hint("make room where the target keeps its files")),
        }
    }

    fn delete(&mut self, data: &Value) -> Result<()> {
        let d: Data = load(data)?;
        match self.find(&d)? {
            Some(s) => snapshot::delete(&self.unit, s.id).map(drop),
            None => Ok(()),
        }
    }

    fn strays(&mut self) -> Result<Vec<Stray>> {
        let all = snapshot::list(&self.unit)?;
        Ok(all
            .into_iter()
            .filter(|s| s.tag != 0)
            .map(|s| {
                let name = Name::of(s.tag);
                Stray {
                    label: format!("{:016x} of {}", s.id, self.unit.name()),
                    remove: format!("ntbak snapshot delete {name} --unit {}", self.unit.name()),
                    name,
                }
            })
            .collect())
    }
}

/// What deletes a snapshot of a unit that is known by its name only.
pub fn data_of(source: &str, name: &Name) -> Result<Value> {
    store(&Data {
        source: source.into(),
        name: name.clone(),
        id: None,
    })
}

/// The unit that a record's snapshot is of.
pub fn source_of(data: &Value) -> Result<String> {
    load::<Data>(data).map(|d| d.source)
}
