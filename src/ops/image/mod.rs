//! `image`: a source becomes a stream.

mod hash;
mod jobs;
mod keep;
mod offload;
mod plan;
mod resume;
mod tape;
mod tape_resume;
mod work;

pub use hash::HashKind;
pub(super) use offload::{Maker, cell_of};
pub use plan::{ImagePlan, PlanOptions, RegionPlan, Skip, SkippedFile, plan};
pub(super) use tape::OFFLOADED_CELL;
pub use tape::{Mover, TapeSummary, TapeTarget, image_to_tape};

use super::pipeline;
use super::report::{HashValue, Report, UnreadableRange};
use super::verify::{VerifyOptions, verify};
use crate::archive::{ArchiveId, BufferPool, PartialFile, Totals, Writer, partial_path};
use crate::device::{FileSource, SharedSource};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{Observer, warning};
use hash::Hashers;
use jobs::JobKind;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use work::Worker;

/// The zstd level used when nobody says: see `docs/performance.md`.
pub const DEFAULT_LEVEL: i32 = 3;

/// Where the stream goes.
pub enum Destination {
    /// A file, which gets its name when the archive is complete.
    File(PathBuf),
    /// A pipe.
    Pipe(Box<dyn Write + Send>),
}

/// How to write.
pub struct ImageOptions {
    /// zstd level.
    pub level: i32,
    /// Workers.
    pub threads: usize,
    /// Replace an existing archive.
    pub force: bool,
    /// Go on with an unfinished archive.
    pub resume: bool,
    /// Read the archive back and compare its digests.
    pub verify: bool,
    /// Digests of the whole source.
    pub hash: Vec<HashKind>,
    /// Where to write a ddrescue map.
    pub map: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, serde::Serialize)]
pub struct ImageSummary {
    /// Archive id, hex.
    pub id: String,
    /// Numbers of the stream.
    pub totals: Totals,
    /// Bytes of the stream.
    pub archive_bytes: u64,
    /// Digest of the stream, hex.
    pub digest: String,
    /// Digests of the source.
    pub hashes: Vec<HashValue>,
    /// What could not be read, with the files that were hit.
    pub unreadable: Vec<UnreadableRange>,
    /// Bytes taken over from an unfinished archive.
    pub resumed_bytes: u64,
    /// True when the archive was read back and every digest matched.
    pub verified: bool,
}

/// Executes a plan.
pub fn image(
    plan: &ImagePlan,
    destination: Destination,
    options: &ImageOptions,
    observer: &dyn Observer,
) -> Result<ImageSummary> {
    let path = match destination {
        Destination::Pipe(_) if options.resume || options.verify => {
            return Err(Error::usage("A pipe can be neither resumed nor read back")
                .hint("write to a file, or verify on the receiving side"));
        }
        Destination::Pipe(out) => {
            let id = new_id()?;
            let writer = Writer::create(out, id, &plan.head(id), &plan.disk)?;
            return copy(plan, options, observer, writer, 0, |_| Ok(()));
        }
        Destination::File(path) => path,
    };
    let partial = partial_path(&path);
    let (writer, records) = if options.resume {
        let file = PartialFile::reopen(&path, options.force)?;
        resume::take_up(plan, file, observer).map_err(|e| e.of(partial.display().to_string()))?
    } else {
        let file = PartialFile::create(&path, options.force)?;
        let id = new_id()?;
        (Writer::create(file, id, &plan.head(id), &plan.disk)?, 0)
    };
    let mut summary = copy(
        plan,
        options,
        observer,
        writer,
        records,
        PartialFile::commit,
    )
    .map_err(|e| {
        e.hint(format!(
            "what is there stays in {}; {}",
            partial.display(),
            plan.goes_on()
        ))
    })?;
    if options.verify {
        read_back(&path, options, observer, &summary)?;
        summary.verified = true;
    }
    Ok(summary)
}

/// Reads the archive from its medium and compares every digest with what was
/// computed from the source.
fn read_back(
    path: &Path,
    options: &ImageOptions,
    observer: &dyn Observer,
    summary: &ImageSummary,
) -> Result<()> {
    let file = FileSource::open(path, 512)?;
    file.forget(0, 0);
    let source: SharedSource = Arc::new(file);
    let outcome = verify(
        source,
        &VerifyOptions {
            threads: options.threads,
        },
        observer,
    )?;
    if outcome.digest.as_deref() == Some(&*summary.digest) && outcome.is_sound() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Mismatch,
        "The archive does not read back as it was written",
    )
    .of(path.display().to_string())
    .hint("do not trust the medium it lies on; ntbak verify names the damage"))
}

/// Makes the records behind the first `have` and ends the stream.
fn copy<W: Write>(
    plan: &ImagePlan,
    options: &ImageOptions,
    observer: &dyn Observer,
    mut writer: Writer<W>,
    have: u64,
    close: impl FnOnce(W) -> Result<()>,
) -> Result<ImageSummary> {
    let started = super::now();
    let resumed_bytes = if have > 0 { writer.offset() } else { 0 };
    let id = writer.id().hex();
    let whole = !options.hash.is_empty();
    let hashers = Hashers::start(&options.hash);
    let cell = u64::from(plan.disk.cell_bytes);
    let pool = BufferPool::default();
    let mut jobs = plan.jobs(whole);
    let mut records = 0;
    observer.begin("copy", Some(plan.bytes_to_read(whole)));
    pipeline::ordered(
        options.threads,
        options.threads * 2 + 2,
        || {
            if observer.cancelled() {
                return Err(Error::interrupted());
            }
            plan.check_still(false)?;
            Ok(jobs.by_ref().find_map(|job| {
                records += u64::from(!job.pieces.is_empty());
                let pack = records > have;
                (pack || (whole && matches!(job.kind, JobKind::Cell { .. }))).then_some((job, pack))
            }))
        },
        || {
            Worker::new(&plan.reader, options.level, cell, plan.disk.sector_bytes)
                .map(|w| w.with_pool(pool.clone()))
        },
        |worker, (job, pack)| worker.run(&plan.regions[job.region].region, &job, whole, pack),
        |done| {
            if let Some(record) = done.record {
                pool.give(writer.append(record)?);
            }
            if let Some(span) = &done.span {
                hashers.feed(span)?;
            }
            observer.advance(done.read);
            Ok(())
        },
    )?;
    observer.end();
    let hashes: Vec<HashValue> = hashers
        .finish()?
        .into_iter()
        .map(|(kind, hex)| HashValue {
            algorithm: kind.name().into(),
            hex,
        })
        .collect();
    // Before anything says that the archive is complete.
    plan.check_still(true)?;
    let unreadable = plan.unreadable(observer);
    for u in &unreadable {
        observer.warn(warning("unreadable", u.to_string()));
    }
    let report = Report::of_image(plan, started, hashes.clone(), unreadable.clone());
    let json = serde_json::to_vec(&report)
        .map_err(|e| Error::damaged("Cannot write the report").caused_by(e))?;
    let (totals, digest, out) = writer.finish(&json)?;
    close(out)?;
    // Last: whatever becomes of the map, the archive is complete.
    if let Some(map) = &options.map {
        plan.write_map(map)?;
    }
    Ok(ImageSummary {
        id,
        totals,
        archive_bytes: totals.end,
        digest: digest.iter().map(|b| format!("{b:02x}")).collect(),
        hashes,
        unreadable,
        resumed_bytes,
        verified: false,
    })
}

/// Random.
pub(super) fn new_id() -> Result<ArchiveId> {
    crate::random::bytes().map(ArchiveId)
}
