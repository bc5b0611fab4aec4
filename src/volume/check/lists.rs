//! Attribute lists: every entry names an attribute, every attribute is named.

use super::report::{Code, Issues};
use super::streams::{Body, Placed, title};
use crate::error::ErrorKind;
use crate::units::RecordNo;
use crate::volume::attr::ATTRIBUTE_LIST;
use crate::volume::attrlist::{ListEntries, MAX_LIST};
use crate::volume::file::FileRecords;
use crate::volume::open::Volume;
use std::collections::{HashMap, HashSet};

/// Checks the list of a file both ways. Returns the extension records that it
/// names with the right sequence number; `None` when the list cannot be read.
pub(super) fn check(
    volume: &Volume,
    file: &FileRecords,
    attributes: &[Placed<'_>],
    issues: &mut Issues,
) -> Option<Vec<RecordNo>> {
    let base = file.base().number();
    let at = Some(file.base().offset());
    let body = Body::find(attributes, ATTRIBUTE_LIST, &[])?;
    let list = match body.read_up_to(volume, MAX_LIST) {
        Ok(list) => list,
        Err(e) => {
            let what = format!("The attribute list of file record {base} cannot be read");
            issues.failed(Code::AttributeList, Some(base), &what, &e);
            return None;
        }
    };
    let mut problem = |what: String| {
        issues.push(Code::AttributeList, Some(base), at, || {
            format!("Attribute list of file record {base}: {what}")
        });
    };
    // What the records have, by what a list says of it.
    let mut have: HashMap<(RecordNo, u16), (&Placed<'_>, bool)> = attributes
        .iter()
        .filter(|p| p.1.type_code != ATTRIBUTE_LIST)
        .map(|p| ((p.0, p.1.id), (p, false)))
        .collect();
    let sequences: HashMap<RecordNo, u16> = std::iter::once(file.base())
        .chain(file.extensions())
        .map(|r| (r.number(), r.view().sequence()))
        .collect();
    let mut named = Vec::new();
    let mut strangers = HashSet::new();
    let mut last = None;
    for entry in ListEntries::new(&list) {
        let e = match entry {
            Ok(e) => e,
            Err(fault) => {
                problem(format!("byte {:#x}: {fault}", fault.offset));
                break;
            }
        };
        if last.is_some_and(|l| l > e.type_code) {
            problem(format!(
                "found type {:#x} behind {:#x}, expected ascending types",
                e.type_code,
                last.unwrap_or(0)
            ));
        }
        last = Some(e.type_code);
        let what = || format!("the entry for {:#x} in {}", e.type_code, e.record);
        match sequences.get(&e.record.record) {
            None => {
                if strangers.insert(e.record.record)
                    && let Some(why) = stranger(volume, e.record.record)
                {
                    problem(format!("{} names no record of this file: {why}", what()));
                }
                continue;
            }
            Some(s) if *s != e.record.sequence => {
                problem(format!("{} has sequence number {s} there", what()));
                continue;
            }
            Some(_) => {}
        }
        if e.record.record != base && named.last() != Some(&e.record.record) {
            named.push(e.record.record);
        }
        match have.get_mut(&(e.record.record, e.id)) {
            Some((p, seen))
                if p.1.type_code == e.type_code
                    && p.1.name == e.name
                    && p.1
                        .non_resident()
                        .map_or(e.lowest_vcn.0 == 0, |n| n.lowest_vcn == e.lowest_vcn) =>
            {
                if std::mem::replace(seen, true) {
                    problem(format!("{} stands there twice", what()));
                }
            }
            Some((p, _)) => problem(format!(
                "{} from VCN {} on is {} there",
                what(),
                e.lowest_vcn,
                title(&p.1)
            )),
            None => problem(format!("{} names no attribute of that record", what())),
        }
    }
    let mut missing: Vec<_> = have.iter().filter(|(_, v)| !v.1).collect();
    missing.sort_by_key(|(key, _)| **key);
    for ((n, _), (p, _)) in missing {
        problem(format!("{} in record {n} is not named", title(&p.1)));
    }
    named.sort_unstable();
    named.dedup();
    Some(named)
}

/// What a record is that does not belong to the file; `None` when it cannot be
/// read, which is said elsewhere.
fn stranger(volume: &Volume, n: RecordNo) -> Option<String> {
    match volume.record(n) {
        Err(e) if e.kind() == ErrorKind::Unreadable => None,
        Err(e) => Some(e.message().to_owned()),
        Ok(r) => Some(match r.view().base() {
            _ if !r.view().in_use() => "it is not in use".to_owned(),
            Some(b) => format!("it belongs to file {b}"),
            None => "it is a base record".to_owned(),
        }),
    }
}
