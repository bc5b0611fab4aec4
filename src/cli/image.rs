//! `image`: arguments, plan, summary.

use super::console::Console;
use super::exit::{Exit, TABLE};
use super::facts::{Facts, PartitionRow, Shape};
use super::image_tape::{self, TapeChoice};
use super::still::{self, StillArgs};
use super::tapes::TapeOptions;
use super::text::{bytes, count, duration, percent, rate, safe};
use super::values::{self, MoverChoice};
use super::view::Opening;
use crate::archive::partial_path;
use crate::device::guard::System;
use crate::device::{RescueOptions, SharedSource, SpillSource};
use crate::error::{Error, Result};
use crate::ops::image::{
    DEFAULT_LEVEL, Destination, HashKind, ImageOptions, ImagePlan, ImageSummary, PlanOptions, Skip,
    image, plan,
};
use crate::ops::pipeline::default_threads;
use crate::ops::place::{Places, ReadPlace};
use crate::ops::still::{Still, hold_still};
use crate::tape::ScsiDrive;
use crate::units::human_bytes;
use clap::Args;
use serde::Serialize;
use std::fmt::Write;
use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Back up a volume or a disk into an archive
///
/// Of an NTFS volume the clusters in use are kept: what $Bitmap calls used and
/// what a file record names. Everything else of a disk is kept sector by sector.
/// The archive is DEST.partial until it is complete.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  ntbak image /dev/sdb1 backup.ntbak
  ntbak image /dev/sdb backup.ntbak --verify --hash sha256
  ntbak image /dev/sdb1 - | ssh host 'cat > backup.ntbak'
  ntbak image /dev/sdb1 backup.ntbak --dry-run
  ntbak image /dev/vg/win backup.ntbak --snapshot lvm --quiet 3s --quiet-timeout 80s

{TABLE}"))]
pub struct ImageArgs {
    /// Block device or image file to read; it is never written
    source: PathBuf,
    /// Archive to make, or - for standard output
    dest: PathBuf,
    /// Replace an existing archive
    #[arg(long)]
    force: bool,
    /// Go on with DEST.partial of an interrupted run
    #[arg(long)]
    resume: bool,
    /// Compression level of zstd
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LEVEL,
          value_parser = clap::value_parser!(i32).range(1..=22))]
    level: i32,
    /// Workers; as many as there are processors when not given
    #[arg(long, value_name = "N", value_parser = values::threads)]
    threads: Option<usize>,
    /// Leave out the clusters of these files: pagefile, hiberfil, swapfile, vss
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = values::skip)]
    skip: Vec<Skip>,
    /// Keep free clusters too
    #[arg(long)]
    all_clusters: bool,
    /// Digests of the whole source: sha256, md5; reads free clusters too
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = values::hash)]
    hash: Vec<HashKind>,
    /// Further attempts at a sector that cannot be read
    #[arg(long, value_name = "N", default_value_t = RescueOptions::default().retries)]
    retries: u32,
    /// In a dead area longer than this, give up pieces of 64 KiB whose first and
    /// last sector both fail; without it every sector is tried
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    give_up_after: Option<u64>,
    /// Write a ddrescue map of what was read
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// Read the archive back afterwards and compare every digest
    #[arg(long)]
    verify: bool,
    /// Print the plan and write nothing
    #[arg(long)]
    dry_run: bool,
    /// To tape: who moves the data
    #[arg(long, value_name = "WHO", value_enum, default_value_t)]
    mover: MoverChoice,
    /// To tape: write this name as the label of the cartridge, whatever is on it
    #[arg(long, value_name = "NAME")]
    label: Option<String>,
    /// To tape: bytes of a block, when it is not 256K or what the copy manager takes
    #[arg(long, value_name = "SIZE", value_parser = values::block)]
    block: Option<u32>,
    /// Only this partition
    #[arg(long, value_name = "N", value_parser = values::partition)]
    partition: Option<u16>,
    /// Every sector, without looking at file systems
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    opening: Opening,
    #[command(flatten)]
    tapes: TapeOptions,
    #[command(flatten)]
    still: StillArgs,
}

impl ImageArgs {
    /// True when the archive goes to standard output.
    pub fn to_pipe(&self) -> bool {
        self.dest.as_os_str() == "-" && !self.dry_run
    }

    /// What goes with a tape only, and what does not go with one.
    fn check_tape(&self, tape: bool) -> Result<()> {
        let refuse = |what: &str| Err(Error::usage(what).of(self.dest.display().to_string()));
        match tape {
            false if self.label.is_some() || self.block.is_some() => {
                refuse("--label and --block are for tapes")
            }
            false if self.mover == MoverChoice::CopyManager => {
                refuse("A copy manager writes to a tape, not to a file")
            }
            _ => Ok(()),
        }
    }

    fn check(&self) -> Result<()> {
        if is_unit(&self.dest) {
            return Ok(());
        }
        let pipe = self.dest.as_os_str() == "-";
        if self.to_pipe() && std::io::stdout().is_terminal() {
            return Err(Error::refused("An archive is not for a terminal")
                .hint("redirect standard output to a file or a pipe, or name a file"));
        }
        if pipe && (self.resume || self.verify) {
            return Err(Error::usage("A pipe can be neither resumed nor read back")
                .hint("write to a file, or verify on the receiving side"));
        }
        let files = (!pipe).then(|| [self.dest.clone(), partial_path(&self.dest)]);
        for target in self.map.iter().chain(files.iter().flatten()) {
            if values::is_for_devices(target) {
                // A file there would fill memory, or be a device.
                return Err(Error::refused("A file is not written where devices are")
                    .of(target.display().to_string())
                    .hint("name a file on a mounted disk, or - (standard output)"));
            }
        }
        let system = System::read()?;
        for target in self.map.iter().chain(files.iter().flatten()) {
            system.check_distinct(&self.source, target)?;
        }
        self.check_map(&system, files.as_ref())?;
        let exists = |p: &Path| !pipe && !self.dry_run && p.exists();
        let folder = self.dest.parent().filter(|d| !d.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|d| !pipe && !d.is_dir()) {
            return Err(Error::usage("There is no such folder for the archive")
                .of(folder.display().to_string()));
        }
        if exists(&self.dest) && !self.force {
            return Err(Error::refused("The archive exists already")
                .of(self.dest.display().to_string())
                .hint("choose another name, or --force to replace it"));
        }
        if exists(&self.dest) && !self.dest.is_file() {
            return Err(Error::refused("The destination is not a regular file")
                .of(self.dest.display().to_string())
                .hint("an archive goes to a regular file or to - (standard output)"));
        }
        Ok(())
    }

    /// The map must not replace anything, the archive least of all.
    fn check_map(&self, system: &System, files: Option<&[PathBuf; 2]>) -> Result<()> {
        let Some(map) = &self.map else {
            return Ok(());
        };
        let name = map.display().to_string();
        let full = values::absolute(map);
        for file in files.into_iter().flatten() {
            if values::absolute(file) == full || system.same_storage(file, map) {
                return Err(Error::refused("The map would be written over the archive")
                    .of(name)
                    .hint("choose another name for the map"));
            }
        }
        if map.exists() && !map.is_file() {
            return Err(Error::refused("The map is not a regular file")
                .of(name)
                .hint("name a file to be made"));
        }
        if map.exists() && !self.force {
            return Err(Error::refused("The map exists already")
                .of(name)
                .hint("choose another name, or --force to replace it"));
        }
        Ok(())
    }

    fn plan_options(&self, console: &Console) -> PlanOptions {
        let mut skip = self.skip.clone();
        skip.sort_unstable();
        skip.dedup();
        PlanOptions {
            partition: self.partition,
            skip,
            all_clusters: self.all_clusters,
            raw: self.raw,
            live: self.opening.live,
            hash: self.hashes().iter().map(|h| h.name().into()).collect(),
            rescue: RescueOptions {
                retries: self.retries,
                skip_after: self.give_up_after,
                ..RescueOptions::default()
            },
            cancel: Some(console.cancel_flag()),
        }
    }

    fn image_options(&self) -> ImageOptions {
        ImageOptions {
            level: self.level,
            threads: self.threads.unwrap_or_else(default_threads),
            force: self.force,
            resume: self.resume,
            verify: self.verify,
            hash: self.hashes(),
            map: self.map.clone(),
        }
    }

    fn hashes(&self) -> Vec<HashKind> {
        let mut list = Vec::new();
        for h in &self.hash {
            if !list.contains(h) {
                list.push(*h);
            }
        }
        list
    }
}

/// Holds the source still, makes the backup, and lets go of the source.
pub fn run(args: &ImageArgs, console: &Console) -> Result<Exit> {
    args.check()?;
    args.still.check(args.resume, args.dry_run)?;
    let mut places = args.tapes.places().with_cancel(console.cancel_flag());
    let tape = places.is_tape(&args.dest)?;
    args.check_tape(tape)?;
    if is_unit(&args.dest) && !tape {
        return Err(Error::usage("This is not a tape drive")
            .of(args.dest.display().to_string())
            .hint("an archive goes to a file, to - (standard output) or to a tape"));
    }
    let still = match args.dry_run {
        true => {
            if args.still.is_asked() {
                console.note_line("A dry run does not wait and takes no snapshot");
            }
            Still::without(&args.source)
        }
        false => {
            // What is there of an archive is of another moment than a new snapshot.
            let live = args.opening.live || args.resume;
            let options = args.still.options(live, &args.tapes, console);
            hold_still(&mut places, &args.source, &options, console)?
        }
    };
    still::tell(&still, console);
    let done = backup(args, &still, &mut places, tape, console).map_err(|e| still.reason(e));
    args.still.end(still, &args.tapes, console);
    done
}

/// Plans, tells the plan, executes it, tells what came of it. All that reads the
/// source is closed when this ends.
fn backup(
    args: &ImageArgs,
    still: &Still,
    places: &mut Places,
    tape: bool,
    console: &Console,
) -> Result<Exit> {
    let place = still.open(places, args.opening.options())?;
    let opened = &place.opened;
    for u in opened.usage.iter().filter(|u| u.writes()) {
        console.caution(
            "live",
            &format!("The source may change while it is read: {u}"),
        );
    }
    let spill = match tape {
        true => Some(Arc::new(SpillSource::new(opened.source.clone())?)),
        false => None,
    };
    let source: SharedSource = match &spill {
        Some(s) => s.clone(),
        None => opened.source.clone(),
    };
    let mut options = args.plan_options(console);
    options.live &= still.made().is_none();
    let mut plan = plan(source, &opened.identity, &options, console)?;
    plan.stillness.clone_from(&still.facts);
    plan.pulse = still.pulse();
    let whole = !args.hash.is_empty();
    tell_plan(&plan, whole, args.dry_run, console);
    if args.dry_run {
        console.end_of_dry_run();
        return Ok(Exit::Done);
    }
    if tape {
        return to_tape(args, &mut plan, places, still, &place, spill, console);
    }
    let destination = match args.to_pipe() {
        false => Destination::File(args.dest.clone()),
        true => Destination::Pipe(Box::new(stdout()?)),
    };
    let options = args.image_options();
    let started = Instant::now();
    let summary = image(&plan, destination, &options, console)?;
    tell_summary(args, &plan, &summary, started.elapsed(), console);
    Ok(if summary.unreadable.is_empty() {
        Exit::Done
    } else {
        Exit::Gaps
    })
}

fn to_tape(
    args: &ImageArgs,
    plan: &mut ImagePlan,
    places: &mut Places,
    still: &Still,
    place: &ReadPlace,
    spill: Option<Arc<SpillSource>>,
    console: &Console,
) -> Result<Exit> {
    let dest = args.dest.display().to_string();
    let drive = ScsiDrive::open(places.unit(&dest)?.unit)?;
    let engine = image_tape::engine(
        places,
        still.path(),
        plan,
        place,
        &drive,
        args.mover,
        console,
    )?;
    let choice = TapeChoice {
        label: args.label.clone(),
        block_bytes: args.block,
    };
    let options = args.image_options();
    let summary = image_tape::run(
        plan, &choice, drive, engine, spill, places, &options, console,
    )?;
    Ok(match summary.image.unreadable.is_empty() {
        true => Exit::Done,
        false => Exit::Gaps,
    })
}

/// True for what names a logical unit: it is not looked at as a file.
fn is_unit(path: &Path) -> bool {
    path.to_str().is_some_and(crate::ops::unit::is_unit)
}

/// Standard output without the buffer that splits at line feeds.
fn stdout() -> Result<File> {
    let fd = std::io::stdout().as_fd().try_clone_to_owned();
    fd.map(File::from)
        .map_err(|e| Error::io("Cannot use standard output", e))
}

#[derive(Serialize)]
struct PlanRow<'a> {
    source: &'a str,
    bytes: u64,
    sector_bytes: u32,
    table: crate::archive::TableKind,
    partitions: usize,
    files: u64,
    extents: u64,
    kept_bytes: u64,
    bytes_to_read: u64,
    skipped_bytes: u64,
    options: &'a crate::archive::Options,
    plan: &'a str,
    dry_run: bool,
}

fn tell_plan(plan: &ImagePlan, whole: bool, dry_run: bool, console: &Console) {
    let sum = |f: fn(&crate::ops::image::RegionPlan) -> u64| plan.regions.iter().map(f).sum();
    let row = PlanRow {
        source: &plan.source.path,
        bytes: plan.source.bytes,
        sector_bytes: plan.disk.sector_bytes,
        table: plan.disk.table,
        partitions: plan.regions.iter().filter(|r| r.region.number != 0).count(),
        files: sum(|r| {
            r.ntfs
                .as_ref()
                .map_or(0, |n| n.usage.records.files + n.usage.records.directories)
        }),
        extents: sum(|r| r.keep.extents()),
        kept_bytes: plan.bytes_to_read(false),
        bytes_to_read: plan.bytes_to_read(whole),
        skipped_bytes: sum(|r| r.keep.skipped_bytes()),
        options: &plan.options,
        plan: &plan.digest,
        dry_run,
    };
    let mut text = format!(
        "Source: {}, {}, sectors of {}, {}\n",
        safe(row.source),
        bytes(row.bytes),
        row.sector_bytes,
        match row.table {
            crate::archive::TableKind::None => "no partition table".into(),
            t => format!("{} partition table", format!("{t:?}").to_uppercase()),
        }
    );
    if console.json() {
        console.tell("plan", &row);
    }
    for note in &plan.notes {
        console.caution("source", note);
    }
    for r in &plan.regions {
        let part = PartitionRow::of(&r.region);
        text += &part.line();
        if console.json() {
            console.tell("partition", &part);
        }
        let keep = &r.keep;
        if let Some(n) = &r.ntfs {
            let shape = Shape::of_volume(&n.volume);
            let facts = Facts::new(
                r.region.number,
                shape,
                &n.usage,
                &n.health,
                n.volume.notes(),
                &n.skipped,
            );
            text += &facts.text(console.verbose() > 0);
            if console.json() {
                console.tell("volume", &facts);
            }
            for (code, message) in facts.cautions() {
                console.caution(&code, &message);
            }
        }
        if r.region.number != 0 || keep.data_bytes() > 0 {
            let _ = writeln!(
                text,
                "  To read      {} in {}, {} of it file records",
                bytes(keep.data_bytes()),
                count(keep.extents(), "extent"),
                human_bytes(keep.mft_bytes())
            );
        }
        if keep.skipped_bytes() > 0 {
            let _ = writeln!(
                text,
                "  Left out     {} on request",
                bytes(keep.skipped_bytes())
            );
        }
    }
    let _ = writeln!(
        text,
        "Plan: {}, {}, {} to read of {}{}",
        count(row.partitions as u64, "partition"),
        count(row.files, "file and directory")
            .replace("file and directories", "files and directories"),
        bytes(row.bytes_to_read),
        human_bytes(row.bytes),
        match row.bytes_to_read.checked_sub(row.bytes) {
            None | Some(0) => format!(" ({:.1} %)", percent(row.bytes_to_read, row.bytes)),
            Some(_) => ": file records are read once more for the digest".into(),
        }
    );
    if dry_run {
        text += "Nothing was written: this was a dry run\n";
    }
    console.say(&text);
}

#[derive(Serialize)]
struct SummaryRow<'a> {
    source: &'a str,
    archive: String,
    /// `written` or `verified`: never more than was checked.
    state: &'static str,
    #[serde(flatten)]
    summary: &'a ImageSummary,
    kept_bytes: u64,
    ratio: f64,
    seconds: f64,
    bytes_per_second: u64,
    warnings: u64,
}

fn tell_summary(
    args: &ImageArgs,
    plan: &ImagePlan,
    s: &ImageSummary,
    time: Duration,
    console: &Console,
) {
    let archive = match args.to_pipe() {
        true => "standard output".into(),
        false => args.dest.display().to_string(),
    };
    let kept = plan
        .bytes_to_read(false)
        .saturating_sub(s.totals.unreadable_bytes);
    let read = plan.bytes_to_read(!args.hash.is_empty());
    if console.json() {
        let row = SummaryRow {
            source: &plan.source.path,
            archive,
            state: if s.verified { "verified" } else { "written" },
            summary: s,
            kept_bytes: kept,
            ratio: kept as f64 / s.archive_bytes.max(1) as f64,
            seconds: time.as_secs_f64(),
            bytes_per_second: rate(read, time),
            warnings: console.warnings(),
        };
        return console.tell("summary", &row);
    }
    let mut t = format!(
        "Written: {}, {}, {:.1} % of {} kept\n",
        safe(&archive),
        bytes(s.archive_bytes),
        percent(s.archive_bytes, kept),
        bytes(kept)
    );
    let _ = writeln!(
        t,
        "  Time         {}, {}/s",
        duration(time),
        human_bytes(rate(read, time))
    );
    if s.resumed_bytes > 0 {
        let _ = writeln!(
            t,
            "  Taken over   {} of the earlier run",
            bytes(s.resumed_bytes)
        );
    }
    if s.totals.zero_bytes > 0 {
        let _ = writeln!(
            t,
            "  Zeros        {} hold nothing else",
            bytes(s.totals.zero_bytes)
        );
    }
    if s.totals.skipped_bytes > 0 {
        let _ = writeln!(
            t,
            "  Left out     {} on request",
            bytes(s.totals.skipped_bytes)
        );
    }
    let _ = writeln!(t, "  Archive id   {}", s.id);
    let _ = writeln!(t, "  Digest       blake3 {} of the archive", s.digest);
    for h in &s.hashes {
        let gaps = if s.unreadable.is_empty() {
            ""
        } else {
            ", unreadable bytes as zeros"
        };
        let _ = writeln!(t, "  Source       {} {}{gaps}", h.algorithm, h.hex);
    }
    for u in &s.unreadable {
        let _ = writeln!(t, "  Unreadable   {}", safe(&u.to_string()));
        for f in u.files.iter().skip(1) {
            let _ = writeln!(t, "               {}", safe(f));
        }
    }
    match s.verified {
        true => t += "Verified: the archive was read back and every digest matches\n",
        false => t += "Not verified: the archive was written and not read back\n",
    }
    console.say(&t);
}
