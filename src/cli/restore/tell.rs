//! What `restore` says: the plan and the summary.

use super::RestoreArgs;
use crate::archive::Head;
use crate::cli::console::Console;
use crate::cli::damage;
use crate::cli::facts::PartitionRow;
use crate::cli::text::{bytes, count, duration, rate, safe};
use crate::ops::restore::{Difference, Landing, Replacement, RestoreSummary, Smallest, VolumeRow};
use crate::units::human_bytes;
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

#[derive(Serialize)]
struct PlanRow<'a> {
    archive: String,
    id: &'a str,
    created: &'a str,
    source: &'a str,
    target: String,
    /// Partition of the target that is overwritten.
    into: Option<u16>,
    device: bool,
    partitions: Vec<PartitionRow<'a>>,
    /// Where each was, and what becomes of it.
    places: Vec<PlaceRow>,
    smallest: Option<Smallest>,
    volumes: &'a [VolumeRow],
    differences: &'a [Difference],
    bytes: u64,
    sector_bytes: u32,
    zero_free: bool,
    dry_run: bool,
}

#[derive(Serialize)]
struct PlaceRow {
    partition: u16,
    old_start: u64,
    old_bytes: u64,
    start: u64,
    bytes: u64,
    laid_out_anew: bool,
}

/// `there`: bytes of a sector of a target that is there already.
pub fn tell_plan(
    args: &RestoreArgs,
    new: &Replacement,
    head: &Head,
    there: Option<u32>,
    console: &Console,
) {
    let plan = &new.plan;
    let device = there.is_some();
    let row = PlanRow {
        archive: args.archive.display().to_string(),
        id: &head.id,
        created: &head.created,
        source: &head.source.path,
        target: args.target.display().to_string(),
        into: args.into,
        device,
        partitions: plan
            .regions
            .iter()
            .map(|l| PartitionRow {
                start: l.base,
                bytes: l.bytes,
                ..PartitionRow::of(&l.region)
            })
            .collect(),
        places: plan.regions.iter().map(place).collect(),
        smallest: new.smallest,
        volumes: &new.volumes,
        differences: &new.differences,
        bytes: plan.bytes,
        sector_bytes: there.unwrap_or(plan.sector_bytes),
        zero_free: args.zero_free,
        dry_run: args.dry_run,
    };
    if console.json() {
        return console.tell("plan", &row);
    }
    let mut t = format!(
        "Archive: {}, of {}, made {}\n",
        safe(&row.archive),
        safe(row.source),
        safe(row.created)
    );
    let what = match (device, args.into) {
        (_, Some(m)) => format!("partition {m} of it is overwritten"),
        (true, None) => "a block device that is overwritten".into(),
        (false, None) => "a file".into(),
    };
    let restored = match args.into {
        Some(_) => plan.regions.iter().map(|l| l.bytes).sum(),
        None => row.bytes,
    };
    let _ = writeln!(
        t,
        "Target: {}, {what}, {} to be restored, sectors of {}",
        safe(&row.target),
        bytes(restored),
        row.sector_bytes
    );
    for p in &row.partitions {
        t += &p.line();
    }
    t += &changes(new);
    if args.zero_free {
        t += "What the archive does not hold is overwritten with zeros\n";
    }
    if args.dry_run {
        t += "Nothing was written: this was a dry run\n";
    }
    console.say(&t);
}

fn place(l: &Landing) -> PlaceRow {
    PlaceRow {
        partition: l.region.number,
        old_start: l.region.start,
        old_bytes: l.region.bytes,
        start: l.base,
        bytes: l.bytes,
        laid_out_anew: l.change.is_some(),
    }
}

/// Sizes, what moves, and what will not be the same, in lines.
fn changes(new: &Replacement) -> String {
    let mut t = String::new();
    if let Some(s) = new.smallest {
        let _ = writeln!(
            t,
            "Smallest target: {} in place, {} after relocation",
            bytes(s.in_place),
            bytes(s.relocated)
        );
    }
    for v in &new.volumes {
        let _ = writeln!(
            t,
            "  Partition {}: its volume needs {} in place, {} after relocation",
            v.partition,
            bytes(v.smallest.in_place),
            bytes(v.smallest.relocated)
        );
        if let Some(why) = &v.rigid {
            let _ = writeln!(t, "    It cannot be changed: {}", safe(why));
        }
        if let Some(c) = &v.change {
            let _ = writeln!(
                t,
                "    {} of {} move, {} written differently",
                count(c.clusters_moved, "cluster"),
                c.used_clusters,
                count(c.records_rewritten, "file record")
            );
        }
    }
    if !new.differences.is_empty() {
        t += "What will not be the same:\n";
    }
    for d in &new.differences {
        let who = match d.partition {
            Some(n) => format!("partition {n}"),
            None => "disk".into(),
        };
        let _ = writeln!(t, "  {who}: {}", safe(&d.message));
    }
    t
}

#[derive(Serialize)]
struct SummaryRow<'a> {
    target: String,
    /// `unfinished`, `written` or `verified`: never more than was checked.
    state: &'static str,
    /// Where an unfinished target stands.
    left: Option<String>,
    #[serde(flatten)]
    summary: &'a RestoreSummary,
    seconds: f64,
    bytes_per_second: u64,
    warnings: u64,
}

pub fn tell_summary(
    args: &RestoreArgs,
    s: &RestoreSummary,
    left: Option<&Path>,
    time: Duration,
    console: &Console,
) {
    damage::tell(&s.damage, console);
    for m in &s.mismatches {
        console.caution(
            "mismatch",
            &format!(
                "Target: {} at {:#x} do not read back as written",
                bytes(m.len()),
                m.start
            ),
        );
    }
    if s.unreadable_bytes > 0 {
        console.caution(
            "unreadable",
            &format!(
                "{} could not be read when the backup was made and are zeros now; `ntbak info` names the files",
                bytes(s.unreadable_bytes)
            ),
        );
    }
    if s.totals.is_none() {
        console.caution(
            "incomplete",
            "The archive ends before its end record: it is not complete",
        );
    }
    let whole = s.complete || args.partial;
    if console.json() {
        let row = SummaryRow {
            target: args.target.display().to_string(),
            state: match s.verified {
                _ if !whole => "unfinished",
                true => "verified",
                false => "written",
            },
            left: left.map(|p| p.display().to_string()),
            summary: s,
            seconds: time.as_secs_f64(),
            bytes_per_second: rate(s.written_bytes, time),
            warnings: console.warnings(),
        };
        return console.tell("summary", &row);
    }
    let mut t = format!(
        "{}: {}, {} of data\n",
        if whole { "Written" } else { "Not finished" },
        safe(&left.unwrap_or(&args.target).display().to_string()),
        bytes(s.written_bytes)
    );
    let _ = writeln!(
        t,
        "  Time         {}, {}/s",
        duration(time),
        human_bytes(rate(s.written_bytes, time))
    );
    if s.resumed_bytes > 0 {
        let _ = writeln!(
            t,
            "  Taken over   {}, written by an earlier run",
            bytes(s.resumed_bytes)
        );
    }
    if s.skipped_bytes > 0 {
        let _ = writeln!(
            t,
            "  Left out     {} when the backup was made, zeros now",
            bytes(s.skipped_bytes)
        );
    }
    if let Some(p) = left {
        let _ = writeln!(
            t,
            "Not usable: the archive is damaged, so the result stays {} without its first sectors; --partial finishes it",
            safe(&p.display().to_string())
        );
    } else if !s.complete && !args.partial {
        t += "Not usable: the archive is damaged, so the first sectors were not written; --partial writes them\n";
    }
    match s.verified {
        true => t += "Verified: everything was read back from the target and matches\n",
        false if args.verify => t += "Not verified: see the warnings\n",
        false => t += "Not verified: the target was written and not read back\n",
    }
    console.say(&t);
}
