//! `image` to tape: the layout of `docs/tape.md`, whoever moves the data.

use super::jobs::{Job, JobKind};
use super::offload::{Copied, offload};
use super::plan::ImagePlan;
use super::tape_resume::{Resumed, take_up};
use super::work::Worker;
use super::{ImageOptions, ImageSummary, new_id};
use crate::archive::{BufferPool, CHUNK_RUNS, GAP, UNVERIFIED, Writer};
use crate::copy::{Lead, Piece};
use crate::device::SpillSource;
use crate::error::{Error, Result};
use crate::observe::{Observer, warning};
use crate::ops::engine::Engine;
use crate::ops::pipeline;
use crate::ops::report::Report;
use crate::tape::{Drive, Id, Media, Note, PartMap, SetOptions, SetWriter, TapeSource};
use std::io::Write;
use std::sync::Arc;

/// Bytes of a tape block when nothing asks for less.
pub const BLOCK_BYTES: u32 = 256 << 10;
/// Bytes of a grid cell when a copy manager moves them: as much as one segment
/// descriptor can name.
pub const OFFLOADED_CELL: u32 = 32 << 20;

/// Who moves the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mover {
    /// The copy manager of a SCSI unit.
    CopyManager,
    /// This machine.
    Host,
}

/// A tape to write to.
pub struct TapeTarget {
    /// The drive.
    pub drive: Box<dyn Drive>,
    /// Who changes its cartridges.
    pub media: Box<dyn Media>,
    /// The copy manager that moves the data; none: the host does.
    pub engine: Option<Engine>,
    /// Label the first cartridge with this name, whatever is on it.
    pub label: Option<String>,
    /// Bytes of a tape block.
    pub block_bytes: Option<u32>,
    /// The source, where it keeps what is read until the file records are
    /// written.
    pub spill: Option<Arc<SpillSource>>,
    /// Who is told what stands on the cartridges while the set is unfinished.
    pub note: Option<Note>,
}

/// What came of a backup to tape.
#[derive(Debug, serde::Serialize)]
pub struct TapeSummary {
    /// What came of it, as for a file.
    #[serde(flatten)]
    pub image: ImageSummary,
    /// Who moved the data.
    pub mover: Mover,
    /// Bytes of a tape block.
    pub block_bytes: u32,
    /// Bytes that the copy manager moved.
    pub copied_bytes: u64,
    /// EXTENDED COPY commands.
    pub commands: u64,
    /// The cartridges.
    pub cartridges: Vec<PartMap>,
}

/// Executes a plan; the stream goes to tape.
pub fn image_to_tape(
    plan: &mut ImagePlan,
    target: TapeTarget,
    options: &ImageOptions,
    observer: &dyn Observer,
) -> Result<TapeSummary> {
    if !options.hash.is_empty() && target.engine.is_some() {
        return Err(
            Error::usage("Digests of the whole source need every byte in this machine")
                .hint("leave --hash out, or choose --mover host"),
        );
    }
    let started = crate::ops::now();
    let begun = match options.resume {
        true => go_on(plan, target, observer)?,
        false => begin(plan, target)?,
    };
    let Begun {
        mut writer,
        mut engine,
        spill,
        resumed,
    } = begun;
    let id = writer.id();
    let block_bytes = writer.output().block_bytes();
    let (mut lead, mft, resumed_bytes) = match &resumed {
        Some(r) => (r.lead.clone(), r.mft, r.bytes),
        None => (Lead::default(), 0, 0),
    };
    if resumed.as_ref().is_some_and(|r| r.in_mft) || engine.is_none() {
        put_lead(plan, &mut writer, std::mem::take(&mut lead))?;
    }
    let plan = &*plan;
    let mut jobs = plan
        .jobs(false)
        .skip(usize::try_from(mft).unwrap_or(usize::MAX))
        .peekable();
    observer.begin("copy", Some(plan.bytes_to_read(false)));
    let file_records =
        std::iter::from_fn(|| jobs.next_if(|j| matches!(j.kind, JobKind::Mft { .. })));
    records(plan, options, observer, &mut writer, file_records)?;
    if resumed.as_ref().is_none_or(|r| r.in_mft) {
        end_file(&mut writer)?;
    }
    if let Some(s) = &spill {
        s.stop();
    }
    let jobs = jobs.filter_map(|j| match &resumed {
        Some(r) => r.left_of(plan, j),
        None => Some(j),
    });
    let mut copied = Copied::default();
    match &mut engine {
        None => records(plan, options, observer, &mut writer, jobs)?,
        Some(engine) => copied = offload(plan, engine, &mut writer, lead, jobs, observer)?,
    }
    end_file(&mut writer)?;
    observer.end();
    // Before anything says that the set is complete.
    plan.check_still(true)?;
    let unreadable = plan.unreadable(observer);
    for u in &unreadable {
        observer.warn(warning("unreadable", u.to_string()));
    }
    let report = Report::of_image(plan, started, Vec::new(), unreadable.clone());
    let json = serde_json::to_vec(&report)
        .map_err(|e| Error::damaged("Cannot write the report").caused_by(e))?;
    let (totals, digest, set) = writer.finish(&json)?;
    let (cartridges, _) = set.finish()?;
    if let Some(map) = &options.map {
        plan.write_map(map)?;
    }
    Ok(TapeSummary {
        image: ImageSummary {
            id: id.hex(),
            totals,
            archive_bytes: totals.end,
            digest: digest.iter().map(|b| format!("{b:02x}")).collect(),
            hashes: Vec::new(),
            unreadable,
            resumed_bytes,
            verified: false,
        },
        mover: match engine {
            Some(_) => Mover::CopyManager,
            None => Mover::Host,
        },
        block_bytes,
        copied_bytes: copied.bytes,
        commands: copied.commands,
        cartridges,
    })
}

/// A set that is open for writing.
struct Begun {
    writer: Writer<SetWriter>,
    engine: Option<Engine>,
    spill: Option<Arc<SpillSource>>,
    resumed: Option<Resumed>,
}

/// A new set: label, Head, Disk.
fn begin(plan: &mut ImagePlan, mut target: TapeTarget) -> Result<Begun> {
    let block_bytes = choose_block(plan, &mut target)?;
    let id = new_id()?;
    let mut head = plan.head(id);
    head.requires.extend([GAP, CHUNK_RUNS].map(String::from));
    if target.engine.is_some() {
        head.requires.push(UNVERIFIED.into());
        plan.disk.cell_bytes = plan.disk.cell_bytes.max(OFFLOADED_CELL);
    }
    let mut set = SetWriter::begin(
        target.drive,
        target.media,
        SetOptions {
            set: Id(id.0),
            block_bytes,
            label: target.label,
            fresh_id,
            time: seconds(),
        },
    )?;
    set.note_with(target.note);
    let mut writer = Writer::create(set, id, &head, &plan.disk)?;
    writer.set_block(block_bytes);
    Ok(Begun {
        writer,
        engine: target.engine,
        spill: target.spill,
        resumed: None,
    })
}

/// The set in the drive, as far as it holds.
fn go_on(plan: &mut ImagePlan, target: TapeTarget, observer: &dyn Observer) -> Result<Begun> {
    if target.label.is_some() || target.block_bytes.is_some() {
        return Err(
            Error::usage("An unfinished set has its label and its block length")
                .of(target.drive.name())
                .hint("leave --label and --block out with --resume"),
        );
    }
    let tape = TapeSource::open_unfinished(target.drive, target.media)
        .map_err(|e| e.hint("there is no unfinished backup; start without --resume"))?;
    let mut engine = target.engine;
    if let Some(e) = &engine
        && e.limits.check_block(u64::from(tape.block_bytes())).is_err()
    {
        engine = None;
    }
    let (mut writer, resumed) = take_up(plan, tape, fresh_id, seconds(), observer)?;
    writer.output().note_with(target.note);
    // Without the capability every chunk needs its digest.
    engine = engine.filter(|_| resumed.unverified);
    Ok(Begun {
        writer,
        engine,
        spill: target.spill,
        resumed: Some(resumed),
    })
}

fn fresh_id() -> Result<Id> {
    new_id().map(|i| Id(i.0))
}

/// What an earlier run left of records that are counted, through this machine.
fn put_lead(plan: &ImagePlan, writer: &mut Writer<SetWriter>, lead: Lead) -> Result<()> {
    let sector = u64::from(plan.disk.sector_bytes);
    let block = u64::from(writer.output().block_bytes());
    let fail = |e| Error::io("Cannot write to the tape", e);
    let mut total = 0;
    let mut buf = vec![0; 1 << 20];
    for p in lead.pieces {
        total += p.bytes(sector);
        match p {
            Piece::Inline(bytes) => writer.output().write_all(&bytes).map_err(fail)?,
            Piece::Extent { lba, blocks } => {
                let (mut at, end) = (lba * sector, (lba + blocks) * sector);
                while at < end {
                    let n = (end - at).min(buf.len() as u64) as usize;
                    plan.reader.read_at_marked(at, &mut buf[..n])?;
                    writer.output().write_all(&buf[..n]).map_err(fail)?;
                    at += n as u64;
                }
            }
        }
    }
    if lead.padded {
        let over = total % block;
        let pad = if over == 0 { 0 } else { block - over };
        writer
            .output()
            .write_all(&vec![0; pad as usize])
            .map_err(fail)?;
    }
    Ok(())
}

fn choose_block(plan: &ImagePlan, target: &mut TapeTarget) -> Result<u32> {
    let most = target.drive.info()?.max_block;
    let fit = match &target.engine {
        Some(e) => {
            u32::try_from(e.limits.choose_block_within(plan.tape_block())?).unwrap_or(BLOCK_BYTES)
        }
        None => BLOCK_BYTES,
    };
    let block = target.block_bytes.unwrap_or(fit.min(most / 4096 * 4096));
    if let Some(e) = &target.engine {
        e.limits.check_block(u64::from(block))?;
    }
    if block > most || block == 0 || !block.is_multiple_of(4096) {
        return Err(Error::usage(format!(
            "Found a tape block of {block} bytes, expected a multiple of 4096 up to {most}, which the drive takes"
        ))
        .of(target.drive.name()));
    }
    Ok(block)
}

fn seconds() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

/// The stream reaches a boundary of blocks, and a filemark.
pub(super) fn end_file(writer: &mut Writer<SetWriter>) -> Result<()> {
    writer.fill_up(0)?;
    writer.output().end_file()
}

/// Records that the host makes and writes.
fn records<W: Write>(
    plan: &ImagePlan,
    options: &ImageOptions,
    observer: &dyn Observer,
    writer: &mut Writer<W>,
    jobs: impl Iterator<Item = Job> + Send,
) -> Result<()> {
    let cell = u64::from(plan.disk.cell_bytes);
    let pool = BufferPool::default();
    let mut jobs = jobs;
    pipeline::ordered(
        options.threads,
        options.threads * 2 + 2,
        || match observer.cancelled() {
            true => Err(Error::interrupted()),
            false => plan
                .check_still(false)
                .map(|()| jobs.find(|j| !j.pieces.is_empty())),
        },
        || {
            Worker::new(&plan.reader, options.level, cell, plan.disk.sector_bytes)
                .map(|w| w.with_pool(pool.clone()))
        },
        |worker, job| worker.run(&plan.regions[job.region].region, &job, false, true),
        |done| {
            if let Some(record) = done.record {
                pool.give(writer.append(record)?);
            }
            observer.advance(done.read);
            Ok(())
        },
    )
}
