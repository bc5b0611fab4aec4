//! `verify`: arguments, what was checked, what was found.

use super::console::Console;
use super::damage;
use super::exit::{Exit, TABLE};
use super::facts::{Facts, PartitionRow, Shape};
use super::text::{bytes, count, duration, rate, safe};
use super::values;
use super::view::ViewArgs;
use crate::archive::{Archive, DiskInfo};
use crate::device::SharedSource;
use crate::error::{Error, ErrorKind, Result};
use crate::ops::damage::name_files;
use crate::ops::pipeline::default_threads;
use crate::ops::place::Places;
use crate::ops::second::second_opinion;
use crate::ops::stream::{Damage, Outcome};
use crate::ops::verify::{Checked, Comparison, VerifyOptions, check};
use crate::ops::view::View;
use crate::units::{ByteRange, human_bytes};
use crate::volume::analyse;
use crate::volume::health::health;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Ranges that a list for people names.
const SHOWN: usize = 20;

/// Check an archive, or a volume
///
/// Of an archive every record is read and every digest compared; the files
/// behind damaged records are named. What a copy manager moved has no digest:
/// it is computed and kept in the tape inventory, and compared from then on.
/// Of a volume or disk every file record is read and compared with $Bitmap.
///
/// With --volume the file system itself is checked, also the one inside an
/// archive, whose digests are not compared then: extents and $Bitmap, mirror,
/// attribute lists, sizes, directories and names, security descriptors.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  ntbak verify backup.ntbak
  ntbak verify backup.ntbak --against /dev/sdb1
  ntbak verify /dev/sdb1
  ntbak verify --volume /dev/sdb1
  ntbak verify --volume backup.ntbak --partition 2

{TABLE}"))]
pub struct VerifyArgs {
    #[command(flatten)]
    view: ViewArgs,
    /// Compare every kept cluster with this device or image as well
    #[arg(long, value_name = "SOURCE")]
    against: Option<PathBuf>,
    /// Check the file system on the volume, or inside the archive, for consistency
    #[arg(long, conflicts_with = "against")]
    volume: bool,
    /// SOURCE of --against, --volume or the second opinion is about this partition only
    #[arg(long, value_name = "N", value_parser = values::partition)]
    partition: Option<u16>,
    /// Let another NTFS reader list the files too, and tell where it differs
    #[arg(long)]
    second_opinion: bool,
    /// Workers; as many as there are processors when not given
    #[arg(long, value_name = "N", value_parser = values::threads)]
    threads: Option<usize>,
}

/// Checks what there is to check.
pub fn run(args: &VerifyArgs, console: &Console) -> Result<Exit> {
    let mut places = args.view.tapes.places();
    let view = (args.view.opening).open_in(&mut places, &args.view.view, console)?;
    match &view.archive {
        _ if args.volume => {
            let name = args.view.view.display().to_string();
            second(args, &view, console)?;
            super::check::run(&view, &name, args.partition, console)
        }
        Some(archive) => check_archive(args, &view, archive, &mut places, console),
        None if args.against.is_some() => {
            Err(Error::usage("Only an archive is compared with a source")
                .of(args.view.view.display().to_string())
                .hint("`ntbak diff` compares two volumes"))
        }
        None => check_volumes(args, &view, console),
    }
}

#[derive(Serialize)]
struct SummaryRow<'a> {
    view: String,
    /// `sound`, `read_back`, `compared`, `incomplete` or `damaged`.
    state: &'static str,
    records: u64,
    checked_bytes: u64,
    read_back_bytes: u64,
    unverified_bytes: u64,
    digests_kept: bool,
    digest: Option<&'a str>,
    damage: &'a [Damage],
    compared_with: Option<String>,
    comparison: Option<&'a Comparison>,
    unreadable_bytes: u64,
    seconds: f64,
    warnings: u64,
}

fn check_archive(
    args: &VerifyArgs,
    view: &View,
    archive: &Arc<Archive>,
    places: &mut Places,
    console: &Console,
) -> Result<Exit> {
    let options = VerifyOptions {
        threads: args.threads.unwrap_or_else(default_threads),
    };
    let source = archive.source().clone();
    let known = match &view.seen {
        Some(s) => s.digests.clone(),
        None => places.recall().seen(archive, console).digests,
    };
    let device = match &args.against {
        None => None,
        Some(path) => {
            let opened = places.open(path, args.view.opening.options())?.opened;
            let base = base(archive.disk(), &opened.source, args.partition)?;
            Some((opened.source, base))
        }
    };
    let started = Instant::now();
    let against = device.as_ref().map(|(d, base)| (&**d, base));
    let Checked {
        mut outcome,
        fresh,
        comparison,
    } = check(source, &known, against, &options, console)?;
    let time = started.elapsed();
    let kept = !fresh.is_empty() && places.recall().store(&fresh, console);
    let equal = comparison.as_ref().is_some_and(Comparison::is_equal);
    let state = match (outcome.is_sound(), outcome.totals) {
        (true, _) if outcome.unverified_bytes > 0 && equal => "compared",
        (true, _) if outcome.unverified_bytes > 0 => "read_back",
        (true, _) => "sound",
        (_, None) if outcome.damage.is_empty() => "incomplete",
        _ => "damaged",
    };
    name_files(archive, &mut outcome.damage, console);
    damage::tell(&outcome.damage, console);
    if let Some(c) = &comparison {
        tell_ranges("differs", "differ from the archive", &c.differing, console);
        tell_ranges(
            "unreadable",
            "cannot be read for the comparison",
            &c.unreadable,
            console,
        );
    }
    let unreadable = outcome.totals.map_or(0, |t| t.unreadable_bytes);
    if unreadable > 0 {
        console.caution(
            "unreadable",
            &format!(
                "{} could not be read when the backup was made; `ntbak info` names the files",
                bytes(unreadable)
            ),
        );
    }
    second(args, view, console)?;
    let differs = comparison.as_ref().is_some_and(|c| !c.differing.is_empty());
    let gaps = comparison
        .as_ref()
        .is_some_and(|c| !c.unreadable.is_empty());
    let exit = match () {
        _ if !outcome.is_sound() || differs => Exit::Mismatch,
        _ if gaps || unreadable > 0 => Exit::Gaps,
        _ => Exit::Done,
    };
    if console.json() {
        console.row(
            "summary",
            &SummaryRow {
                view: args.view.view.display().to_string(),
                state,
                records: outcome.records,
                checked_bytes: outcome.checked_bytes,
                read_back_bytes: outcome.read_back_bytes,
                unverified_bytes: outcome.unverified_bytes,
                digests_kept: kept,
                digest: outcome.digest.as_deref(),
                damage: &outcome.damage,
                compared_with: args.against.as_ref().map(|p| p.display().to_string()),
                comparison: comparison.as_ref(),
                unreadable_bytes: unreadable,
                seconds: time.as_secs_f64(),
                warnings: console.warnings(),
            },
        )?;
    } else if exit != Exit::Done || !console.quiet() {
        let speed = human_bytes(rate(archive.source().len(), time));
        let mut text = verdict(&outcome, state, kept);
        text += &format!("  Time         {}, {speed}/s\n", duration(time));
        if let (Some(c), Some(path)) = (&comparison, &args.against) {
            let same = if c.is_equal() {
                "the same"
            } else {
                "not the same"
            };
            text += &format!(
                "Compared with {}: {}, {same}\n",
                safe(&path.display().to_string()),
                bytes(c.compared_bytes)
            );
        }
        console.put(text.as_bytes())?;
    }
    Ok(exit)
}

fn verdict(o: &Outcome, state: &str, kept: bool) -> String {
    let mut checked = format!(
        "{} read, {} checked",
        count(o.records, "record"),
        bytes(o.checked_bytes)
    );
    if o.read_back_bytes > 0 {
        checked += &format!(
            ", {} compared with digests of an earlier read-back",
            bytes(o.read_back_bytes)
        );
    }
    let mut text = match state {
        "sound" => format!("Sound: every digest matches ({checked})\n"),
        "compared" => format!("Compared with the source and equal ({checked})\n"),
        "read_back" => {
            format!("Read back: what has a digest matches it, the rest could be read ({checked})\n")
        }
        "incomplete" => {
            format!("Incomplete: the archive has no end, what is there matches ({checked})\n")
        }
        _ => format!("Damaged: see the warnings ({checked})\n"),
    };
    if o.unverified_bytes > 0 {
        text += &format!(
            "  No digest    {}: read back now, digests {}\n",
            bytes(o.unverified_bytes),
            match kept {
                true => "stored in the inventory",
                false => "could not be stored",
            }
        );
    }
    if let Some(d) = o.digest.as_deref().filter(|_| o.is_sound()) {
        text += &format!("  Digest       blake3 {d}\n");
    }
    text
}

fn tell_ranges(code: &'static str, what: &str, ranges: &[ByteRange], console: &Console) {
    let most = if console.json() { ranges.len() } else { SHOWN };
    for r in ranges.iter().take(most) {
        console.caution(
            code,
            &format!("{} at byte {:#x} {what}", bytes(r.len()), r.start),
        );
    }
    if ranges.len() > most {
        console.caution(
            code,
            &format!(
                "{} more {what}",
                count((ranges.len() - most) as u64, "range")
            ),
        );
    }
}

/// Where each partition of the archive begins on the device.
fn base(
    disk: &DiskInfo,
    device: &SharedSource,
    partition: Option<u16>,
) -> Result<impl Fn(u16) -> Option<u64> + Sync + use<>> {
    let mut starts = Vec::new();
    let len = device.len();
    let only = match partition {
        Some(n) => Some(n),
        None if len >= disk.bytes => None,
        None => {
            let fit = |r: &&crate::archive::Region| r.number != 0 && r.bytes <= len;
            match disk
                .regions
                .iter()
                .filter(fit)
                .collect::<Vec<_>>()
                .as_slice()
            {
                [r] if r.bytes == len || disk.regions.len() == 1 => Some(r.number),
                _ => {
                    return Err(Error::usage(format!(
                        "It has {}, the source of the archive had {}",
                        bytes(len),
                        bytes(disk.bytes)
                    ))
                    .of(device.name())
                    .hint("when it is one partition of that disk, say which with --partition"));
                }
            }
        }
    };
    match only {
        None => starts.extend(disk.regions.iter().map(|r| (r.number, r.start))),
        Some(n) => {
            let region = disk
                .region(n)
                .filter(|r| r.number != 0)
                .ok_or_else(|| Error::not_found(format!("The archive has no partition {n}")))?;
            // A whole disk was given all the same.
            let whole = len >= disk.bytes && len != region.bytes;
            starts.push((n, if whole { region.start } else { 0 }));
        }
    }
    Ok(move |n| starts.iter().find(|s| s.0 == n).map(|s| s.1))
}

fn check_volumes(args: &VerifyArgs, view: &View, console: &Console) -> Result<Exit> {
    let mut faults = false;
    let mut checked = 0u64;
    let mut remarks = Vec::new();
    // A sound result is not told to whoever wants few words.
    let mut held = String::new();
    for p in &view.partitions {
        if args.partition.is_some_and(|n| n != p.number) {
            continue;
        }
        let row = PartitionRow::of_partition(p);
        if console.json() {
            console.row("partition", &row)?;
        } else {
            held += &row.line();
        }
        if !p.is_ntfs && view.partitions.len() > 1 {
            continue;
        }
        let volume = p.volume()?;
        let usage = analyse(&volume, console)?;
        let health = health(&volume);
        crate::observe::Observer::end(console);
        let shape = Shape::of_volume(&volume);
        let facts = Facts::new(p.number, shape, &usage.report, &health, volume.notes(), &[]);
        checked += usage.report.records.total;
        faults |= facts.has_faults();
        remarks.extend(facts.remarks());
        if console.json() {
            console.row("volume", &facts)?;
        } else {
            held += &facts.text(console.verbose() > 0);
        }
        if faults || !console.quiet() {
            console.put(std::mem::take(&mut held).as_bytes())?;
        }
    }
    if checked == 0 {
        view.partition(args.partition)?.volume()?;
    }
    second(args, view, console)?;
    let state = if faults { "damaged" } else { "sound" };
    if console.json() {
        let row = serde_json::json!({
            "view": args.view.view.display().to_string(),
            "state": state,
            "records": checked,
            "remarks": remarks,
            "warnings": console.warnings(),
        });
        console.row("summary", &row)?;
    } else if faults || !console.quiet() {
        let mut text = match faults {
            true => "Damaged: see the differences above\n".to_string(),
            false => format!(
                "File records and $Bitmap agree; {} checked, file contents are not\n",
                count(checked, "file record")
            ),
        };
        for r in &remarks {
            text += &format!("  Besides      {r}\n");
        }
        console.put(text.as_bytes())?;
    }
    Ok(if faults { Exit::Mismatch } else { Exit::Done })
}

/// Tells what another reader says, if that was asked for. It never changes how
/// the run ends.
fn second(args: &VerifyArgs, view: &View, console: &Console) -> Result<()> {
    if !args.second_opinion {
        return Ok(());
    }
    for p in view.partitions.iter().filter(|p| p.is_ntfs) {
        if args.partition.is_some_and(|n| n != p.number) {
            continue;
        }
        let opinion = match p.volume().and_then(|v| second_opinion(&v, console)) {
            Ok(o) => o,
            Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
            Err(e) => {
                console.caution("second-opinion", &format!("Partition {}: {e}", p.number));
                continue;
            }
        };
        if console.json() {
            let row = serde_json::json!({ "partition": p.number, "opinion": opinion });
            console.row("second_opinion", &row)?;
            continue;
        }
        if console.quiet() && opinion.differed == 0 {
            continue;
        }
        let mut text = format!(
            "Second opinion on partition {} ({}): {} compared, {} agree, {} differ, {} not read by it\n",
            p.number,
            opinion.reader,
            count(opinion.records, "file record"),
            opinion.agreed,
            opinion.differed,
            opinion.not_read
        );
        for d in &opinion.differences {
            text += &format!("  {}\n", safe(d));
        }
        console.put(text.as_bytes())?;
    }
    Ok(())
}
