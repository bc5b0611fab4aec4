//! What the scan of used clusters found, as issues: extents against `$Bitmap`,
//! clusters with two owners, damaged records and attributes.

use super::report::{Code, Issues};
use crate::error::Result;
use crate::observe::Observer;
use crate::units::RecordNo;
use crate::volume::BadWhy;
use crate::volume::open::Volume;
use crate::volume::owners::owners;
use crate::volume::usage::{LIST_CAP, NO_RECORD, RangeList, Usage};

/// Ranges with two owners whose owners are looked up.
const NAMED_RANGES: usize = 100;

pub(super) fn check(
    volume: &Volume,
    usage: &Usage,
    issues: &mut Issues,
    observer: &dyn Observer,
) -> Result<()> {
    let r = &usage.report;
    for note in &r.notes {
        if note.code == "bitmap" || note.code == "mft-bitmap" {
            // What was found too short is an error, what could not be read a gap.
            let code = match note.message.starts_with("Found") {
                true => Code::Bitmap,
                false => Code::Unreadable,
            };
            issues.push(code, None, note.offset, || note.message.clone());
        }
    }
    let unreadable = BadWhy::Unreadable.to_string();
    for bad in &r.bad_records.list {
        // Those have their own code, or are met by the scan of files.
        if bad.why != NO_RECORD && bad.why != unreadable {
            issues.push(Code::Record, Some(bad.record), bad.offset, || {
                format!("File record {} cannot be used: {}", bad.record, bad.why)
            });
        }
    }
    beyond(Code::Record, r.bad_records.count, issues);
    for bad in &r.bad_attributes.list {
        issues.push(Code::Attribute, Some(bad.record), bad.offset, || {
            format!("Attribute of file record {}: {}", bad.record, bad.why)
        });
    }
    beyond(Code::Attribute, r.bad_attributes.count, issues);
    for n in &r.unmarked.list {
        issues.push(
            Code::MftBitmapFree,
            Some(*n),
            volume.record_offset(*n),
            || format!("File record {n} is in use, but the bitmap of the MFT calls it free"),
        );
    }
    beyond(Code::MftBitmapFree, r.unmarked.count, issues);

    let d = &r.differences;
    let who = |r: Option<RecordNo>| r.map_or(String::new(), |n| format!(" of file {n}"));
    let mut tell = |code, list: &RangeList, what: &dyn Fn(Option<RecordNo>) -> String| {
        for range in &list.list {
            let at = volume
                .geometry()
                .cluster_offset(crate::units::Lcn(range.first));
            issues.push(code, range.record, at, || {
                let (first, n) = (range.first, range.clusters);
                format!("{n} clusters from {first} on {}", what(range.record))
            });
        }
        beyond(code, list.ranges, issues);
    };
    tell(Code::OwnedFree, &d.owned_free, &|r| {
        format!("{} are free in $Bitmap", who(r).trim_start())
    });
    // They may be those of records that nobody could read.
    let unowned = match r.bad_records.list.iter().any(|b| b.why == unreadable) {
        true => Code::Unreadable,
        false => Code::UsedUnowned,
    };
    tell(unowned, &d.used_unowned, &|_| {
        "are used in $Bitmap, but no file that can be read owns them".to_owned()
    });
    tell(Code::Outside, &d.outside, &|r| {
        format!("{} lie outside the volume", who(r).trim_start())
    });
    owned_twice(volume, &d.owned_twice, issues, observer)
}

/// Adds what a list of the report did not keep.
fn beyond(code: Code, count: u64, issues: &mut Issues) {
    if let Some(more) = count.checked_sub(LIST_CAP as u64).filter(|n| *n > 0) {
        *issues.counts.entry(code).or_default() += more;
    }
}

/// Names both owners of the first ranges.
fn owned_twice(
    volume: &Volume,
    list: &RangeList,
    issues: &mut Issues,
    observer: &dyn Observer,
) -> Result<()> {
    let first = list.list.iter().take(NAMED_RANGES);
    let ranges: Vec<_> = first.map(|r| r.first..r.first + r.clusters).collect();
    let mut others = Vec::new();
    if !ranges.is_empty() {
        others = owners(volume, &ranges, observer)?;
    }
    let cluster = u64::from(volume.geometry().cluster_size);
    for (i, range) in list.list.iter().enumerate() {
        let at = range.first.checked_mul(cluster);
        issues.push(Code::OwnedTwice, range.record, at, || {
            let mut files: Vec<String> = Vec::new();
            if i < NAMED_RANGES {
                let both = others.iter().filter(|o| Some(o.record) != range.record);
                files.extend(both.map(|o| o.record.to_string()));
                files.dedup();
                files.truncate(8);
            }
            let (first, n) = (range.first, range.clusters);
            let file = range.record.unwrap_or_default();
            match files.is_empty() {
                true => format!("{n} clusters from {first} on of file {file} have another owner"),
                false => format!(
                    "{n} clusters from {first} on of file {file} are among those of file {} too",
                    files.join(", ")
                ),
            }
        });
    }
    beyond(Code::OwnedTwice, list.ranges, issues);
    Ok(())
}
