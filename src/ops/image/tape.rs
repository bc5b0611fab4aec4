//! `image` to tape: the layout of `docs/tape.md`, whoever moves the data.

use super::jobs::{Job, JobKind};
use super::offload::{Copied, offload};
use super::plan::ImagePlan;
use super::work::Worker;
use super::{ImageOptions, ImageSummary, new_id};
use crate::archive::{BufferPool, CHUNK_RUNS, GAP, UNVERIFIED, Writer};
use crate::device::SpillSource;
use crate::error::{Error, Result};
use crate::observe::{Observer, warning};
use crate::ops::engine::Engine;
use crate::ops::pipeline;
use crate::ops::report::Report;
use crate::tape::{Drive, Id, Media, PartMap, SetOptions, SetWriter};
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
    mut target: TapeTarget,
    options: &ImageOptions,
    observer: &dyn Observer,
) -> Result<TapeSummary> {
    if !options.hash.is_empty() && target.engine.is_some() {
        return Err(
            Error::usage("Digests of the whole source need every byte in this machine")
                .hint("leave --hash out, or choose --mover host"),
        );
    }
    let block_bytes = choose_block(&mut target)?;
    let started = crate::ops::now();
    let id = new_id()?;
    let mut head = plan.head(id);
    head.requires.extend([GAP, CHUNK_RUNS].map(String::from));
    if target.engine.is_some() {
        head.requires.push(UNVERIFIED.into());
        plan.disk.cell_bytes = plan.disk.cell_bytes.max(OFFLOADED_CELL);
    }
    let set = SetWriter::begin(
        target.drive,
        target.media,
        SetOptions {
            set: Id(id.0),
            block_bytes,
            label: target.label,
            fresh_id: || new_id().map(|i| Id(i.0)),
            time: seconds(),
        },
    )?;
    let mut writer = Writer::create(set, id, &head, &plan.disk)?;
    writer.set_block(block_bytes);
    let mut jobs = plan.jobs(false).peekable();
    observer.begin("copy", Some(plan.bytes_to_read(false)));
    let mft = std::iter::from_fn(|| jobs.next_if(|j| matches!(j.kind, JobKind::Mft { .. })));
    records(plan, options, observer, &mut writer, mft)?;
    end_file(&mut writer)?;
    if let Some(s) = &target.spill {
        s.stop();
    }
    let mut copied = Copied::default();
    match &mut target.engine {
        None => records(plan, options, observer, &mut writer, jobs)?,
        Some(engine) => copied = offload(plan, engine, &mut writer, jobs, observer)?,
    }
    end_file(&mut writer)?;
    observer.end();
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
            resumed_bytes: 0,
            verified: false,
        },
        mover: match target.engine {
            Some(_) => Mover::CopyManager,
            None => Mover::Host,
        },
        block_bytes,
        copied_bytes: copied.bytes,
        commands: copied.commands,
        cartridges,
    })
}

fn choose_block(target: &mut TapeTarget) -> Result<u32> {
    let most = target.drive.info()?.max_block;
    let fit = match &target.engine {
        Some(e) => u32::try_from(e.limits.choose_block()?).unwrap_or(BLOCK_BYTES),
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
            false => Ok(jobs.find(|j| !j.pieces.is_empty())),
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
