//! `restore`: arguments and the run.
//!
//! | file | subject |
//! |---|---|
//! | `target` | what is written to, and the journal |
//! | `tell` | plan and summary |
//! | `pipe` | the plan for an archive that is read only once |

mod pipe;
pub(super) mod target;
mod tell;

pub(super) use target::is_unit;
pub(super) use tell::tell_plan;

use super::console::Console;
use super::exit::{Exit, TABLE};
use super::restore_tape;
use super::tapes::{TapeOptions, caution_unseen};
use super::values::{self, MoverChoice};
use crate::archive::{Archive, DiskInfo, Forward, Head, Input, Pipe};
use crate::device::guard::System;
use crate::device::{HoledSource, OpenOptions, SpillSource};
use crate::disk::TableKind;
use crate::error::{Error, ErrorKind, Result};
use crate::ops::damage::name_files;
use crate::ops::pipeline::default_threads;
use crate::ops::restore::{
    Frame, Onto, RestoreOptions, Size, Subject, Wishes, refuse_incomplete, replace, restore_with,
};
use crate::ops::stream::StreamReader;
use clap::Args;
use pipe::as_it_was;
use std::fs::File;
use std::io::{BufReader, IsTerminal};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use target::{Target, There, before, fits_file, is_device, journal, journal_path, made_as};
use tell::tell_summary;

/// Write an archive back to a device or an image file
///
/// A file is made sparse, as TARGET.partial until it is whole. A block device
/// is written only with --yes, after its plan was printed; its first sectors
/// are written last. A run that was interrupted goes on with --resume.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  ntbak restore backup.ntbak disk.img
  ntbak restore backup.ntbak /dev/sdc --yes --verify
  ntbak restore backup.ntbak /dev/sdc2 --partition 2 --yes
  ntbak restore backup.ntbak small.img --size min
  ntbak restore backup.ntbak /dev/sdd --grow 3 --yes
  ntbak restore backup.ntbak /dev/sdd --partition 3 --table gpt --yes
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
    /// Into partition M of the disk or disk image TARGET, which has a table
    #[arg(long, value_name = "M", value_parser = values::partition, conflicts_with = "table")]
    pub(super) into: Option<u16>,
    /// Make a new partition table around one partition, for a bare disk
    #[arg(long, value_name = "KIND", value_enum)]
    pub(super) table: Option<TableChoice>,
    /// Length of a file TARGET, `min` for the smallest one, `same` for that of
    /// the source
    #[arg(long, value_name = "BYTES", value_parser = length)]
    pub(super) size: Option<Size>,
    /// NTFS partition N takes the room that is left over; may be repeated
    #[arg(long, value_name = "N", value_parser = values::partition)]
    pub(super) grow: Vec<u16>,
    /// Lay every file of NTFS volumes out in one run
    #[arg(long)]
    pub(super) defragment: bool,
    /// Give disk, partitions and volumes new identities
    #[arg(long)]
    pub(super) new_ids: bool,
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
    /// Go on with a restore that was interrupted
    #[arg(long)]
    pub(super) resume: bool,
    /// Keep the journal of the restore here [default: beside a file TARGET,
    /// else in $XDG_STATE_HOME/ntbak/restore]
    #[arg(long, value_name = "FILE")]
    pub(super) journal: Option<PathBuf>,
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

/// Kinds of partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum TableChoice {
    /// GUID partition table
    Gpt,
    /// Master boot record
    Mbr,
}

/// A number of bytes, `min` or `same`.
fn length(text: &str) -> std::result::Result<Size, String> {
    match text {
        "min" => Ok(Size::Min),
        "same" => Ok(Size::Same),
        _ => values::size(text)
            .map(Size::Bytes)
            .map_err(|e| format!("{e}, `min` or `same`")),
    }
}

/// What the command line asks for.
pub(super) fn wishes(args: &RestoreArgs, frame: Frame, random: bool) -> Wishes {
    Wishes {
        partition: args.partition,
        frame,
        size: args.size,
        grow: args.grow.clone(),
        defragment: args.defragment,
        table: args.table.map(|t| match t {
            TableChoice::Gpt => TableKind::Gpt,
            TableChoice::Mbr => TableKind::Mbr,
        }),
        new_ids: args.new_ids,
        measure: args.dry_run && random,
    }
}

pub(super) fn not_without_yes(args: &RestoreArgs) -> Error {
    let what = match args.into {
        Some(m) => format!("Everything in partition {m} of the target would be overwritten"),
        None => "Everything on the target would be overwritten".into(),
    };
    Error::refused(what)
        .of(args.target.display().to_string())
        .hint("check that it is the right device, then give --yes")
}

/// The error of a restore that has begun.
pub(super) fn resumable(e: Error, has_journal: bool) -> Error {
    match e.kind() {
        _ if !has_journal => e,
        ErrorKind::Interrupted => e.hint("the same command with --resume goes on with it"),
        _ => e.hint("when that is mended, the same command with --resume goes on"),
    }
}

/// The same error once more.
pub(super) fn again(e: &Error) -> Error {
    Error::new(e.kind(), e.message()).hint(e.advice().unwrap_or_default())
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
    let mut source = place.opened.source.clone();
    // What the plan reads comes from a tape once. Without room it comes twice.
    let spill = match place.tape {
        Some(_) => SpillSource::new(source.clone()).ok().map(Arc::new),
        None => None,
    };
    if let Some(s) = &spill {
        source = s.clone();
    }
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
        && let Some(exit) = restore_tape::run(
            args,
            &mut places,
            tape,
            &archive,
            &seen,
            spill.as_deref(),
            console,
        )?
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
        Some((&archive, spill.as_deref())),
        console,
    )
}

fn go<R: Input + Send>(
    args: &RestoreArgs,
    reader: StreamReader<R>,
    head: &Head,
    disk: &DiskInfo,
    archive: Option<(&Arc<Archive>, Option<&SpillSource>)>,
    console: &Console,
) -> Result<Exit> {
    let unit = is_unit(&args.target);
    let device = is_device(&args.target) || unit;
    if !device && values::is_for_devices(&args.target) && !args.target.exists() {
        // A slip of the pen must not fill the memory behind /dev with an image.
        return Err(Error::not_found("There is no such device")
            .of(args.target.display().to_string())
            .hint("lsblk lists the disks and partitions"));
    }
    let system = System::read()?;
    if !unit {
        system.check_target(&args.target)?;
    }
    if !device {
        system.check_target(&made_as(&args.target))?;
    }
    // What is there is opened as it will be written; nothing is written yet.
    let there = match device || args.into.is_some() {
        true => Some(There::open(args, disk.sector_bytes)?),
        false => None,
    };
    let frame = match &there {
        Some(t) => t.frame(args),
        None => Frame::File,
    };
    let layout = match (&there, args.into) {
        (Some(t), Some(_)) => Some(t.layout()?),
        _ => None,
    };
    let journal_at = journal_path(args, there.as_ref());
    let wishes = wishes(args, frame, archive.is_some());
    let before = before(args, &journal_at, &head.id)?;
    let reading = there.as_ref().map(There::reading);
    let onto = match (&layout, &reading) {
        (Some(layout), Some(disk)) => Some(Onto { layout, disk }),
        _ => None,
    };
    let new = match archive {
        Some((a, _)) => {
            let before = before.as_ref().map(|b| &b.decided);
            replace(a, &wishes, onto, before, console)
        }
        None => as_it_was(disk, &wishes),
    }
    .map_err(|e| e.of(args.archive.display().to_string()))?;
    if let Some((_, Some(spill))) = archive {
        spill.freeze();
    }
    let plan = &new.plan;
    let sectors = there.as_ref().map(|t| t.sink.sector_size());
    tell_plan(args, &new, head, sectors, console);
    if args.dry_run {
        match &there {
            Some(t) => plan.fits(&*t.sink)?,
            // Opening the file of an interrupted run changes nothing.
            None if args.resume => {
                let before = before.as_ref().map(|b| &b.target);
                Target::make(args, plan.bytes, plan.sector_bytes, before)?;
            }
            None => fits_file(args)?,
        }
        console.end_of_dry_run();
        return Ok(Exit::Done);
    }
    if there.is_some() && !args.yes {
        return Err(not_without_yes(args));
    }
    let options = RestoreOptions {
        threads: args.threads.unwrap_or_else(default_threads),
        zero_free: args.zero_free,
        partial: args.partial,
        verify: args.verify,
    };
    let started = Instant::now();
    let target = match there {
        Some(t) => Target::There(t),
        None => {
            let before = before.as_ref().map(|b| &b.target);
            Target::make(args, plan.bytes, plan.sector_bytes, before)?
        }
    };
    plan.fits(target.sink())?;
    let subject = Subject {
        archive: head.id.clone(),
        plan: plan.digest(options.zero_free, &wishes)?,
        target: target.id(),
        decided: new.decided.clone(),
    };
    let mut journal = journal(args, journal_at, &subject, console)?;
    let mut summary = restore_with(
        reader,
        plan,
        target.sink(),
        &options,
        journal.as_mut(),
        console,
    )
    .map_err(|e| resumable(e, journal.is_some()))?;
    let whole = summary.complete || args.partial;
    let left = match &target {
        Target::File(f) if whole => {
            f.finish()?;
            None
        }
        Target::File(f) => Some(f.partial_path().to_path_buf()),
        Target::There(_) => None,
    };
    if let Some(j) = journal.take_if(|_| whole) {
        j.remove()?;
    }
    if let Some((a, _)) = archive {
        name_files(a, &mut summary.damage, console);
    }
    tell_summary(args, &summary, left.as_deref(), started.elapsed(), console);
    Ok(match () {
        _ if !summary.complete || !summary.mismatches.is_empty() => Exit::Mismatch,
        _ if summary.unreadable_bytes > 0 => Exit::Gaps,
        _ => Exit::Done,
    })
}
