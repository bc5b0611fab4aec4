//! Snapshots that earlier runs left: naming them, and removing them.

use super::place::Places;
use crate::error::{Error, Result};
use crate::observe::{Observer, warning};
use crate::snapshot::{Entry, Name, Record, Records};
use serde_json::Value;

/// Names what earlier runs left.
pub(super) fn tell(records: &Records, observer: &dyn Observer) {
    let (all, bad) = match records.list() {
        Ok(l) => l,
        Err(e) => {
            observer.warn(warning("snapshot-record", e.to_string()));
            return;
        }
    };
    for e in bad {
        observer.warn(warning("snapshot-record", e.to_string()));
    }
    for (r, alive) in &all {
        let what = words(r);
        match (alive, r.kept) {
            (true, _) => {}
            (false, true) => observer.note(&format!("{what} was kept")),
            (false, false) => {
                let text = format!(
                    "{what} is left of an earlier run; `{}` removes it",
                    records.command(&r.name)
                );
                observer.warn(warning("stale-snapshot", text));
            }
        }
    }
}

fn words(r: &Record) -> String {
    match &r.made {
        Some(m) => format!(
            "The {} snapshot {} of {} ({})",
            r.provider, m.label, r.source, r.created
        ),
        // The run ended while it waited, or while the snapshot was made.
        None => format!(
            "A {} snapshot of {}, if it was made ({}, {}),",
            r.provider, r.source, r.name, r.created
        ),
    }
}

/// Deletes a recorded snapshot.
pub fn delete(places: &mut Places, records: &Records, name: &Name) -> Result<Record> {
    let (record, entry) = recorded(records, name)?;
    let mut unit = |text: &str| places.unit(text).map(|o| o.unit);
    let gone = |e: Error| {
        let drop = format!(
            "when there is no such snapshot any more, `{} --forget` drops its record",
            records.command(name)
        );
        let advice = match e.advice() {
            Some(own) => format!("{own}; {drop}"),
            None => drop,
        };
        e.advise(advice)
    };
    let mut p = crate::snapshot::provider_again(&record, &mut unit).map_err(gone)?;
    p.delete(&record.data).map_err(gone)?;
    entry.remove()?;
    Ok(record)
}

/// Drops a record, whatever became of its snapshot.
pub fn forget_record(records: &Records, name: &Name) -> Result<Record> {
    let (record, entry) = recorded(records, name)?;
    entry.remove()?;
    Ok(record)
}

/// A record that no run is at work with.
fn recorded(records: &Records, name: &Name) -> Result<(Record, Entry)> {
    let record = records.load(name)?.ok_or_else(|| {
        Error::not_found("No snapshot of this name is recorded")
            .of(name.to_string())
            .hint("`ntbak snapshot list` names those that are")
    })?;
    let entry = records.lock(name)?.ok_or_else(|| {
        Error::refused("The run that made this snapshot is still at work").of(name.to_string())
    })?;
    Ok((record, entry))
}

/// Deletes a snapshot of a target's disk that is not recorded here.
pub fn delete_of_unit(places: &mut Places, unit: &str, name: &Name) -> Result<Record> {
    let data: Value = crate::snapshot::target_data(unit, name)?;
    let record = Record {
        schema: 1,
        name: name.clone(),
        provider: "target".into(),
        source: places.unit(unit)?.unit.name().to_string(),
        created: String::new(),
        kept: false,
        made: None,
        data,
    };
    let mut open = |text: &str| places.unit(text).map(|o| o.unit);
    let mut p = crate::snapshot::provider_again(&record, &mut open)?;
    if !p.strays()?.iter().any(|s| s.name == *name) {
        return Err(Error::not_found("The unit has no snapshot of this name")
            .of(format!("{name} of {}", record.source)));
    }
    p.delete(&record.data)?;
    Ok(record)
}
