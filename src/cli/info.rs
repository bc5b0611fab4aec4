//! `info`: what a volume, a disk or an archive is.

use super::console::Console;
use super::exit::{Exit, TABLE};
use super::facts::{Facts, PartitionRow, Shape};
use super::text::{bytes, count, percent, safe};
use super::view::ViewArgs;
use crate::archive::{Archive, Head, Options, Stillness, TableKind};
use crate::error::Result;
use crate::observe::Observer;
use crate::ops::report::Report;
use crate::ops::view::{Partition, View};
use crate::volume::analyse;
use crate::volume::health::health;
use clap::Args;
use serde::Serialize;
use std::fmt::Write;

/// Tell what a volume, a disk or an archive is
///
/// Geometry, label, health, and of every attribute of every file record whether
/// it is resident or not. For an archive: what was backed up, when, and how.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  ntbak info /dev/sdb
  ntbak info backup.ntbak
  ntbak info -v backup.ntbak
  ntbak info --json disk.img | jq 'select(.type == \"volume\")'

{TABLE}"))]
pub struct InfoArgs {
    #[command(flatten)]
    view: ViewArgs,
}

/// Tells it.
pub fn run(args: &InfoArgs, console: &Console) -> Result<Exit> {
    let view = args.view.open(console)?;
    let gaps = match &view.archive {
        Some(archive) => of_archive(&view, archive, console)?,
        None => of_volumes(&view, console)?,
    };
    if console.json() {
        let row = serde_json::json!({ "warnings": console.warnings() });
        console.row("summary", &row)?;
    }
    Ok(if gaps { Exit::Gaps } else { Exit::Done })
}

/// True when something could not be read.
fn of_volumes(view: &View, console: &Console) -> Result<bool> {
    let id = &view.identity;
    if console.json() {
        let row = serde_json::json!({ "identity": id, "table": view.table });
        console.row("source", &row)?;
    } else {
        let mut t = format!(
            "{}: {}, sectors of {}, {}\n",
            safe(&id.path),
            bytes(id.size),
            id.sector_size,
            table(view.table)
        );
        for (name, value) in [
            ("Vendor", &id.vendor),
            ("Model", &id.model),
            ("Serial", &id.serial),
        ] {
            if let Some(v) = value {
                let _ = writeln!(t, "  {name:<13}{}", safe(v));
            }
        }
        console.put(t.as_bytes())?;
    }
    let mut gaps = false;
    for p in &view.partitions {
        partition(p, console)?;
        if p.is_ntfs {
            match of_volume(p, console) {
                Ok(()) => {}
                Err(e)
                    if view.partitions.len() > 1
                        && e.kind() != crate::error::ErrorKind::Interrupted =>
                {
                    gaps = true;
                    console.caution("volume", &e.to_string());
                }
                Err(e) => return Err(e),
            }
        } else if !p.way_out.is_empty() && !console.json() {
            console.put(format!("  Hint         {}\n", p.way_out).as_bytes())?;
        }
    }
    Ok(gaps)
}

fn partition(p: &Partition, console: &Console) -> Result<()> {
    let row = PartitionRow::of_partition(p);
    match console.json() {
        true => console.row("partition", &row),
        false => console.put(row.line().as_bytes()),
    }
}

fn of_volume(p: &Partition, console: &Console) -> Result<()> {
    let volume = p.volume()?;
    let usage = analyse(&volume, console)?;
    let health = health(&volume);
    Observer::end(console);
    let shape = Shape::of_volume(&volume);
    let facts = Facts::new(p.number, shape, &usage.report, &health, volume.notes(), &[]);
    match console.json() {
        true => console.row("volume", &facts),
        false => console.put(facts.text(console.verbose() > 0).as_bytes()),
    }
}

#[derive(Serialize)]
struct ArchiveRow<'a> {
    path: &'a str,
    archive_bytes: u64,
    complete: bool,
    digest: Option<String>,
    head: &'a Head,
    table: TableKind,
    bytes: u64,
    sector_bytes: u32,
    cell_bytes: u32,
    data_records: usize,
    totals: Option<crate::archive::Totals>,
    ratio: Option<f64>,
    started: Option<&'a str>,
    finished: Option<&'a str>,
    hashes: Option<&'a [crate::ops::report::HashValue]>,
    unreadable: Option<&'a [crate::ops::report::UnreadableRange]>,
}

/// True when the backup has gaps, or is not complete.
fn of_archive(view: &View, archive: &Archive, console: &Console) -> Result<bool> {
    let report: Option<Report> = match archive.is_complete() {
        false => None,
        true => match archive.report().map(|json| serde_json::from_slice(&json)) {
            Ok(Ok(r)) => Some(r),
            Ok(Err(e)) => {
                console.caution("report", &format!("The report is not as it should be: {e}"));
                None
            }
            Err(e) => {
                console.caution("report", &e.to_string());
                None
            }
        },
    };
    let (head, disk) = (archive.head(), archive.disk());
    let totals = archive.totals().map(|t| t.0);
    let size = view.identity.size;
    let row = ArchiveRow {
        path: &view.identity.path,
        archive_bytes: size,
        complete: archive.is_complete(),
        digest: archive
            .totals()
            .map(|t| t.1.iter().map(|b| format!("{b:02x}")).collect()),
        head,
        table: disk.table,
        bytes: disk.bytes,
        sector_bytes: disk.sector_bytes,
        cell_bytes: disk.cell_bytes,
        data_records: archive.index().entries.len(),
        totals,
        ratio: totals.map(|t| (t.raw_bytes + t.zero_bytes) as f64 / size.max(1) as f64),
        started: report.as_ref().map(|r| &*r.started),
        finished: report.as_ref().map(|r| &*r.finished),
        hashes: report.as_ref().map(|r| &*r.hashes),
        unreadable: report.as_ref().map(|r| &*r.unreadable),
    };
    match console.json() {
        true => console.row("archive", &row)?,
        false => console.put(archive_text(&row).as_bytes())?,
    }
    for r in &disk.regions {
        let part = PartitionRow::of(r);
        match console.json() {
            true => console.row("partition", &part)?,
            false => console.put(part.line().as_bytes())?,
        }
        let found = report
            .iter()
            .flat_map(|p| &p.regions)
            .find(|p| p.number == r.number);
        if let Some(found) = found
            && let (Some(usage), Some(health)) = (&found.usage, &found.health)
        {
            let shape = Shape::of_region(r);
            let facts = Facts::new(r.number, shape, usage, health, &found.notes, &found.skipped);
            match console.json() {
                true => console.row("volume", &facts)?,
                false => console.put(facts.text(console.verbose() > 0).as_bytes())?,
            }
        }
    }
    if let (Some(r), false) = (&report, console.json()) {
        let mut t = String::new();
        for u in &r.unreadable {
            let _ = writeln!(t, "Unreadable: {}", safe(&u.to_string()));
            for f in u.files.iter().skip(1) {
                let _ = writeln!(t, "               {}", safe(f));
            }
        }
        for n in &r.notes {
            let _ = writeln!(t, "Note: {}", safe(n));
        }
        console.put(t.as_bytes())?;
    }
    Ok(!archive.is_complete() || report.is_none_or(|r| !r.unreadable.is_empty()))
}

fn archive_text(r: &ArchiveRow<'_>) -> String {
    let h = r.head;
    let mut t = format!("{}: archive of {}\n", safe(r.path), bytes(r.archive_bytes));
    let mut put = |name: &str, value: String| {
        let _ = writeln!(t, "  {name:<13}{}", safe(&value));
    };
    put("Id", h.id.clone());
    put(
        "Made",
        format!("{} by {}, format {}", h.created, h.program, h.format),
    );
    if let (Some(a), Some(b)) = (r.started, r.finished) {
        put("Run", format!("{a} to {b}"));
    }
    let s = &h.source;
    put(
        "Source",
        format!(
            "{}, a {}, {}, sectors of {}",
            s.path,
            s.kind,
            bytes(s.bytes),
            s.sector_bytes
        ),
    );
    if let Some(m) = &s.model {
        put("Model", m.clone());
    }
    if let Some(n) = &s.serial {
        put("Serial", n.clone());
    }
    put("Options", options(&h.options));
    if let Some(still) = &h.stillness {
        for line in stillness(still) {
            put("Held still", line);
        }
    }
    put("Table", table(r.table).into());
    match r.totals {
        None => put(
            "State",
            "not complete: it has no end; `image --resume` goes on with it".into(),
        ),
        Some(n) => {
            put(
                "State",
                "complete; `ntbak verify` checks every digest".into(),
            );
            put(
                "Kept",
                format!(
                    "{}, and {} of zeros, in {} records",
                    bytes(n.raw_bytes),
                    bytes(n.zero_bytes),
                    r.data_records
                ),
            );
            put(
                "Stored",
                format!(
                    "{}, {:.1} % of what is kept",
                    bytes(n.stored_bytes),
                    percent(n.stored_bytes, n.raw_bytes)
                ),
            );
            if n.skipped_bytes > 0 {
                put("Left out", format!("{} on request", bytes(n.skipped_bytes)));
            }
            put("Unreadable", bytes(n.unreadable_bytes));
        }
    }
    if let Some(d) = &r.digest {
        put("Digest", format!("blake3 {d} of the archive"));
    }
    for h in r.hashes.unwrap_or_default() {
        put("Source", format!("{} {}", h.algorithm, h.hex));
    }
    t
}

/// The quiet period and the snapshot, a line each.
fn stillness(s: &Stillness) -> Vec<String> {
    let mut lines = Vec::new();
    let seconds = |ms: u64| ms as f64 / 1000.0;
    if let (Some(quiet), Some(waited)) = (s.quiet_ms, s.waited_ms) {
        lines.push(format!(
            "quiet for {:.1} s after {:.1} s and {}",
            seconds(quiet),
            seconds(waited),
            count(s.writes.unwrap_or_default(), "write")
        ));
    }
    if let Some(n) = &s.snapshot {
        lines.push(format!(
            "snapshot by {}, {}: {}",
            n.provider, n.taken, n.label
        ));
    }
    if let Some(n) = s.late_writes.filter(|n| *n > 0) {
        lines.push(format!(
            "{} between the quiet period and the snapshot",
            count(n, "write")
        ));
    }
    lines
}

fn options(o: &Options) -> String {
    let mut list = Vec::new();
    for (on, name) in [
        (o.all_clusters, "--all-clusters"),
        (o.raw, "--raw"),
        (o.live, "--live"),
    ] {
        if on {
            list.push(name.to_string());
        }
    }
    if !o.skip.is_empty() {
        list.push(format!("--skip {}", o.skip.join(",")));
    }
    if let Some(n) = o.partition {
        list.push(format!("--partition {n}"));
    }
    if !o.hash.is_empty() {
        list.push(format!("--hash {}", o.hash.join(",")));
    }
    if list.is_empty() {
        "none".into()
    } else {
        list.join(" ")
    }
}

/// For people.
fn table(t: TableKind) -> &'static str {
    match t {
        TableKind::None => "no partition table",
        TableKind::Mbr => "MBR partition table",
        TableKind::Gpt => "GPT partition table",
    }
}
