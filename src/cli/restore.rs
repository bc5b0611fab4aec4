//! `restore`: arguments, plan, summary.

use super::console::Console;
use super::damage;
use super::exit::{Exit, TABLE};
use super::facts::PartitionRow;
use super::restore_tape;
use super::tapes::{TapeOptions, caution_unseen};
use super::text::{bytes, duration, rate, safe};
use super::values::{self, MoverChoice};
use crate::archive::{Archive, DiskInfo, Forward, Head, Input, Pipe, partial_path};
use crate::device::guard::System;
use crate::device::{BlockSink, FileSink, FileSinkOptions, HoledSource, OpenOptions, Sink};
use crate::error::{Error, Result};
use crate::ops::damage::name_files;
use crate::ops::pipeline::default_threads;
use crate::ops::place::Places;
use crate::ops::restore::{
    RestoreOptions, RestorePlan, RestoreSummary, refuse_incomplete, restore,
};
use crate::ops::stream::StreamReader;
use crate::units::human_bytes;
use clap::Args;
use serde::Serialize;
use std::fmt::Write;
use std::fs::File;
use std::io::{BufReader, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Write an archive back to a device or an image file
///
/// A file is made sparse, as TARGET.partial until it is whole. A block device
/// is written only with --yes, after its plan was printed; its first sectors
/// are written last.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  ntbak restore backup.ntbak disk.img
  ntbak restore backup.ntbak /dev/sdc --yes --verify
  ntbak restore backup.ntbak /dev/sdc2 --partition 2 --yes
  ssh host 'cat backup.ntbak' | ntbak restore - disk.img

{TABLE}"))]
pub struct RestoreArgs {
    /// Archive to read, or - for standard input
    pub(super) archive: PathBuf,
    /// Block device, or image file to make
    pub(super) target: PathBuf,
    /// Only this partition, to the beginning of TARGET
    #[arg(long, value_name = "N", value_parser = values::partition)]
    pub(super) partition: Option<u16>,
    /// Write zeros to everything that the archive does not hold
    #[arg(long)]
    pub(super) zero_free: bool,
    /// Restore what is there of a damaged or incomplete archive
    #[arg(long)]
    pub(super) partial: bool,
    /// Overwrite the block device TARGET
    #[arg(long)]
    pub(super) yes: bool,
    /// Read everything back from TARGET afterwards and compare it
    #[arg(long)]
    pub(super) verify: bool,
    /// Replace an existing file TARGET
    #[arg(long)]
    pub(super) force: bool,
    /// From tape to a SCSI disk: who moves the data
    #[arg(long, value_name = "WHO", value_enum, default_value_t)]
    pub(super) mover: MoverChoice,
    /// Print the plan and write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Workers; as many as there are processors when not given
    #[arg(long, value_name = "N", value_parser = values::threads)]
    pub(super) threads: Option<usize>,
    #[command(flatten)]
    tapes: TapeOptions,
}

/// Checks everything that can be checked before the target is touched, then
/// writes.
pub fn run(args: &RestoreArgs, console: &Console) -> Result<Exit> {
    if args.archive.as_os_str() == "-" {
        if std::io::stdin().is_terminal() {
            return Err(Error::usage("An archive does not come from a terminal")
                .hint("redirect standard input from a file or a pipe"));
        }
        let fd = std::io::stdin().as_fd().try_clone_to_owned();
        let file = fd.map_err(|e| Error::io("Cannot use standard input", e))?;
        let pipe = Pipe(BufReader::with_capacity(1 << 20, File::from(file)));
        let name = "standard input";
        let mut reader = StreamReader::new(pipe);
        let (head, disk) = reader.begin().map_err(|e| e.of(name))?;
        let (Some(head), Some(disk)) = (head, disk) else {
            return Err(
                Error::damaged("The Head or Disk record of the archive is damaged")
                    .of(name)
                    .hint("save the archive to a file first: its copies stand at the end"),
            );
        };
        return go(args, reader, &head, &disk, None, console);
    }
    let options = OpenOptions {
        live: true,
        ..OpenOptions::default()
    };
    let mut places = args.tapes.places();
    let place = places.open(&args.archive, options)?;
    let source = place.opened.source.clone();
    let archive = Archive::open(source.clone())?;
    let seen = places.recall().seen(&archive, console);
    let archive = Arc::new(archive.with_read_back(seen.read_back()));
    if seen.never_checked {
        caution_unseen(console);
    }
    for note in archive.notes() {
        console.caution("archive", note);
    }
    let system = System::read()?;
    if !is_unit(&args.archive) && !is_unit(&args.target) {
        system.check_distinct(&args.archive, &args.target)?;
        if !is_device(&args.target) {
            system.check_distinct(&args.archive, &made_as(&args.target))?;
        }
    }
    refuse_incomplete(archive.head(), archive.is_complete(), args.partial)
        .map_err(|e| e.of(args.archive.display().to_string()))?;
    if let Some(tape) = &place.tape
        && let Some(exit) = restore_tape::run(args, &mut places, tape, &archive, &seen, console)?
    {
        return Ok(exit);
    }
    let (source, holes) = HoledSource::around(source);
    let mut reader = StreamReader::new(Forward::new(source, 0))
        .with_holes(holes)
        .with_read_back(seen.read_back());
    // Copies replace what is damaged here.
    reader
        .begin()
        .map_err(|e| e.of(args.archive.display().to_string()))?;
    go(
        args,
        reader,
        archive.head(),
        archive.disk(),
        Some(&archive),
        console,
    )
}

fn go<R: Input + Send>(
    args: &RestoreArgs,
    reader: StreamReader<R>,
    head: &Head,
    disk: &DiskInfo,
    archive: Option<&Arc<Archive>>,
    console: &Console,
) -> Result<Exit> {
    let plan = RestorePlan::new(disk, args.partition)
        .map_err(|e| e.of(args.archive.display().to_string()))?;
    let device = is_device(&args.target) || is_unit(&args.target);
    if !device && values::is_for_devices(&args.target) && !args.target.exists() {
        // A slip of the pen must not fill the memory behind /dev with an image.
        return Err(Error::not_found("There is no such device")
            .of(args.target.display().to_string())
            .hint("lsblk lists the disks and partitions"));
    }
    let system = System::read()?;
    if !is_unit(&args.target) {
        system.check_target(&args.target)?;
    }
    if !device {
        system.check_target(&made_as(&args.target))?;
    }
    tell_plan(args, &plan, head, device, console);
    if args.dry_run {
        match device {
            // As the real run opens it; nothing is written.
            true => plan.fits(&*open_device(args)?)?,
            false => fits_file(args)?,
        }
        console.end_of_dry_run();
        return Ok(Exit::Done);
    }
    if device && !args.yes {
        return Err(
            Error::refused("Everything on the target would be overwritten")
                .of(args.target.display().to_string())
                .hint("check that it is the right device, then give --yes"),
        );
    }
    let options = RestoreOptions {
        threads: args.threads.unwrap_or_else(default_threads),
        zero_free: args.zero_free,
        partial: args.partial,
        verify: args.verify,
    };
    let started = Instant::now();
    let (mut summary, left) = if device {
        let sink = open_device(args)?;
        (write(reader, &plan, &*sink, &options, console)?, None)
    } else {
        let how = FileSinkOptions {
            force: args.force,
            sector_size: plan.sector_bytes,
        };
        let sink = FileSink::create(&args.target, plan.bytes, how)?;
        let partial = sink.partial_path().to_path_buf();
        let summary = write(reader, &plan, &sink, &options, console)
            .map_err(|e| e.hint(format!("what was written stays in {}", partial.display())))?;
        match summary.complete || args.partial {
            true => {
                sink.finish()?;
                (summary, None)
            }
            false => (summary, Some(partial)),
        }
    };
    if let Some(a) = archive {
        name_files(a, &mut summary.damage, console);
    }
    tell_summary(args, &summary, left.as_deref(), started.elapsed(), console);
    Ok(match () {
        _ if !summary.complete || !summary.mismatches.is_empty() => Exit::Mismatch,
        _ if summary.unreadable_bytes > 0 => Exit::Gaps,
        _ => Exit::Done,
    })
}

fn write<R: Input + Send>(
    reader: StreamReader<R>,
    plan: &RestorePlan,
    sink: &dyn Sink,
    options: &RestoreOptions,
    console: &Console,
) -> Result<RestoreSummary> {
    restore(reader, plan, sink, options, console)
}

/// Whether a file target may be made, without making it.
fn fits_file(args: &RestoreArgs) -> Result<()> {
    let refused = |words: &str, path: &Path| {
        Err(Error::refused(words)
            .of(path.display().to_string())
            .hint("choose another name, or replace it with --force"))
    };
    let partial = made_as(&args.target);
    match std::fs::metadata(&args.target) {
        Ok(m) if !m.is_file() => Err(Error::usage("The target exists and is not a regular file")
            .of(args.target.display().to_string())),
        Ok(_) if !args.force => refused("The target exists", &args.target),
        _ if partial.exists() && !args.force => {
            refused("A partial file of an earlier run is in the way", &partial)
        }
        _ => Ok(()),
    }
}

/// A block device, or the disk behind a logical unit.
fn open_device(args: &RestoreArgs) -> Result<Box<dyn Sink>> {
    match args.target.to_str().filter(|_| is_unit(&args.target)) {
        Some(text) => Ok(Box::new(Places::default().disk_to_write(text)?.0)),
        None => Ok(Box::new(BlockSink::open(&args.target)?)),
    }
}

/// True for what names a logical unit: it is not looked at as a file.
pub(super) fn is_unit(path: &Path) -> bool {
    path.to_str().is_some_and(crate::ops::unit::is_unit)
}

fn is_device(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.file_type().is_block_device())
}

/// The name that a file target has until it is whole.
fn made_as(target: &Path) -> PathBuf {
    let full = target.canonicalize();
    partial_path(&full.unwrap_or_else(|_| target.to_path_buf()))
}

#[derive(Serialize)]
struct PlanRow<'a> {
    archive: String,
    id: &'a str,
    created: &'a str,
    source: &'a str,
    target: String,
    device: bool,
    partitions: Vec<PartitionRow<'a>>,
    bytes: u64,
    sector_bytes: u32,
    zero_free: bool,
    dry_run: bool,
}

pub(super) fn tell_plan(
    args: &RestoreArgs,
    plan: &RestorePlan,
    head: &Head,
    device: bool,
    console: &Console,
) {
    let row = PlanRow {
        archive: args.archive.display().to_string(),
        id: &head.id,
        created: &head.created,
        source: &head.source.path,
        target: args.target.display().to_string(),
        device,
        partitions: plan
            .regions
            .iter()
            .map(|(r, at)| PartitionRow {
                start: *at,
                ..PartitionRow::of(r)
            })
            .collect(),
        bytes: plan.bytes,
        sector_bytes: plan.sector_bytes,
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
    let _ = writeln!(
        t,
        "Target: {}, {}, {} to be restored, sectors of {}",
        safe(&row.target),
        if device {
            "a block device that is overwritten"
        } else {
            "a file"
        },
        bytes(row.bytes),
        row.sector_bytes
    );
    for p in &row.partitions {
        t += &p.line();
    }
    if args.zero_free {
        t += "What the archive does not hold is overwritten with zeros\n";
    }
    if args.dry_run {
        t += "Nothing was written: this was a dry run\n";
    }
    console.say(&t);
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

fn tell_summary(
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
