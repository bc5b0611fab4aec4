//! `restore`: arguments and the run.
//!
//! | file | subject |
//! |---|---|
//! | `target` | what is written to, and the journal |
//! | `tell` | plan and summary |

mod target;
mod tell;

pub(super) use target::is_unit;
pub(super) use tell::tell_plan;

use super::console::Console;
use super::exit::{Exit, TABLE};
use super::restore_tape;
use super::tapes::{TapeOptions, caution_unseen};
use super::values::{self, MoverChoice};
use crate::archive::{Archive, DiskInfo, Forward, Head, Input, Pipe};
use crate::device::OpenOptions;
use crate::device::guard::System;
use crate::error::{Error, ErrorKind, Result};
use crate::ops::damage::name_files;
use crate::ops::pipeline::default_threads;
use crate::ops::restore::{RestoreOptions, RestorePlan, refuse_incomplete, restore_with};
use crate::ops::stream::StreamReader;
use clap::Args;
use std::fs::File;
use std::io::{BufReader, IsTerminal};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use target::{Target, fits_file, is_device, made_as};
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
    let mut reader = StreamReader::new(Forward::new(source, 0)).with_read_back(seen.read_back());
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
            true => plan.fits(Target::open(args)?.sink())?,
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
    let target = match device {
        true => Target::open(args)?,
        false => Target::make(args, plan.bytes, plan.sector_bytes)?,
    };
    plan.fits(target.sink())?;
    let mut journal = target.journal(args, head.id.clone(), plan.digest(options.zero_free)?, console)?;
    let mut summary = restore_with(
        reader,
        &plan,
        target.sink(),
        &options,
        journal.as_mut(),
        console,
    )
    .map_err(|e| match (&journal, e.kind()) {
        (Some(_), ErrorKind::Interrupted) => {
            e.hint("the same command with --resume goes on with it")
        }
        (Some(_), _) => e.hint("when that is mended, the same command with --resume goes on"),
        (None, _) => e,
    })?;
    let whole = summary.complete || args.partial;
    let left = match &target {
        Target::File(f) if whole => {
            f.finish()?;
            None
        }
        Target::File(f) => Some(f.partial_path().to_path_buf()),
        Target::There(..) => None,
    };
    if let Some(j) = journal.take_if(|_| whole) {
        j.remove()?;
    }
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
