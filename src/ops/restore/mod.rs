//! `restore`: a stream becomes a disk, a volume or a partition again.
//!
//! | file | subject |
//! |---|---|
//! | `plan` | what goes where |
//! | `job` | each record to its place |
//! | `written` | reading back |
//! | `journal`, `checkpoints` | going on after an interruption |
//! | `wishes`, `replace`, `single`, `volumes` | the plan for a replacement disk |
//! | `views`, `kept` | the disk of an archive, and what stays of it outside of partitions |

mod checkpoints;
mod job;
mod journal;
mod kept;
mod plan;
mod replace;
mod single;
mod views;
mod volumes;
mod wishes;
mod written;

pub use journal::{Entry, Journal, Progress, Subject, TargetId};
pub(super) use plan::in_order;
pub use plan::{Landing, Patch, RestorePlan, chosen};
pub use replace::replace;
pub use volumes::VolumeRow;
pub use wishes::{Decided, Difference, Frame, Onto, Replacement, Size, Smallest, Wishes};

use super::stream::{Damage, Delivered, Outcome, StreamReader};
use crate::archive::{Head, Input, Totals};
use crate::device::Sink;
use crate::error::{Error, ErrorKind, Result};
use crate::observe::Observer;
use crate::units::{ByteRange, ClusterSet};
use checkpoints::Checkpoints;
use job::{Job, Part};
use std::sync::{Mutex, MutexGuard};

/// How to restore.
pub struct RestoreOptions {
    /// Workers.
    pub threads: usize,
    /// Write zeros to everything that the archive does not hold.
    pub zero_free: bool,
    /// Restore what is there of a damaged or incomplete archive.
    pub partial: bool,
    /// Read everything back from the target.
    pub verify: bool,
}

/// What came of it.
#[derive(Debug, serde::Serialize)]
pub struct RestoreSummary {
    /// Bytes of data written.
    pub written_bytes: u64,
    /// Bytes of data that an earlier run had written.
    pub resumed_bytes: u64,
    /// Bytes that are zeros because the source could not be read when the
    /// backup was made.
    pub unreadable_bytes: u64,
    /// Bytes that are zeros because they were left out on request.
    pub skipped_bytes: u64,
    /// Places of the archive that could not be used.
    pub damage: Vec<Damage>,
    /// True when the archive has its end and every digest matched.
    pub complete: bool,
    /// True when everything was read back from the target and matched.
    pub verified: bool,
    /// Ranges of the target that did not read back as written.
    pub mismatches: Vec<ByteRange>,
    /// Totals of the archive.
    pub totals: Option<Totals>,
}

/// Reads the stream to its end and writes it to `target`. The target must have
/// been checked with [`RestorePlan::fits`]. When the archive turns out damaged
/// or incomplete and `partial` is not set, the first sectors of the target are
/// not written, and the summary says so: it must not be taken for a whole one.
pub fn restore<R: Input + Send>(
    reader: StreamReader<R>,
    plan: &RestorePlan,
    target: &dyn Sink,
    options: &RestoreOptions,
    observer: &dyn Observer,
) -> Result<RestoreSummary> {
    restore_with(reader, plan, target, options, None, observer)
}

/// As [`restore`], with a journal: a new one, or that of an interrupted run,
/// which is gone on with. It is the caller's to remove when the target is whole.
pub fn restore_with<R: Input + Send>(
    reader: StreamReader<R>,
    plan: &RestorePlan,
    target: &dyn Sink,
    options: &RestoreOptions,
    mut journal: Option<&mut Journal>,
    observer: &dyn Observer,
) -> Result<RestoreSummary> {
    plan.fits(target)?;
    let before = journal.as_ref().map(|j| j.progress().clone());
    let finishing = before.as_ref().is_some_and(|p| p.finishing);
    let (last, offset) = before
        .as_ref()
        .map_or((None, 0), |p| (p.sequence, p.offset));
    begin(plan, target, journal.as_deref_mut())?;
    let job = Job::new(plan, options, target, before.as_ref())?;
    let checkpoints = journal.map(|j| Checkpoints::new(target, j));
    observer.begin("restore", None);
    let outcome = std::thread::scope(|scope| {
        if let Some(c) = &checkpoints {
            scope.spawn(|| c.keep());
        }
        let ended = reader.lenient(options.partial).run_past(
            options.threads + 1,
            observer,
            |header| job.is_done(header),
            |header, raw, _| job.put(header, raw),
            |what| match (&checkpoints, what) {
                (None, _) => Ok(()),
                (Some(c), Delivered::Record(h)) if Some(h.sequence) > last => {
                    c.reach(h.sequence, h.stream_offset + h.stride(), h.raw_len)
                }
                (Some(c), Delivered::Damage(d)) if d.from >= offset => {
                    c.damaged(d.from);
                    Ok(())
                }
                // The journal has it.
                _ => Ok(()),
            },
        );
        if let Some(c) = &checkpoints {
            c.end();
        }
        ended
    });
    let outcome = match outcome {
        Ok(o) => o,
        Err(e) => {
            // What was reached is worth keeping, whatever ended it.
            if let Some(c) = &checkpoints {
                let _ = c.checkpoint();
            }
            return Err(e);
        }
    };
    observer.end();
    let damaged = outcome.damage.iter().any(|d| d.loses_data);
    let complete = outcome.totals.is_some() && !damaged;
    if let Some(c) = &checkpoints {
        c.checkpoint()?;
    }
    let whole = complete || options.partial;
    if whole && finishing {
        job.patch(Part::Last, observer)?;
        job.check_last()?;
    }
    if !complete && options.partial && !target.is_fresh() {
        // What is lost must not show what the target held before.
        job.zero_lost(&outcome.damage)?;
    }
    if whole {
        job.patch(Part::All, observer)?;
    }
    if let Some(touched) = &job.touched
        && !target.is_fresh()
    {
        zero_the_rest(plan, target, &lock(touched), observer)?;
    }
    if whole {
        target.sync()?;
        if let Some(c) = &checkpoints {
            c.finishing()?;
        }
        job.release_first_sectors()?;
    }
    target.sync()?;
    let mismatches = match options.verify && whole {
        true => job.read_back(observer)?,
        false => Vec::new(),
    };
    let counters = job.counters.into_inner().unwrap_or_else(|e| e.into_inner());
    Ok(RestoreSummary {
        written_bytes: counters.written,
        resumed_bytes: counters.resumed,
        unreadable_bytes: counters.unreadable,
        skipped_bytes: counters.skipped,
        damage: outcome.damage,
        complete,
        verified: options.verify && mismatches.is_empty() && complete,
        mismatches,
        totals: outcome.totals,
    })
}

/// Compares a target with the archive that others restored to it as the plan
/// says: what the archive is worth, and the ranges that are not as they should be.
pub fn read_back<R: Input + Send>(
    reader: StreamReader<R>,
    plan: &RestorePlan,
    target: &dyn Sink,
    options: &RestoreOptions,
    observer: &dyn Observer,
) -> Result<(Outcome, Vec<ByteRange>)> {
    let options = RestoreOptions {
        verify: true,
        zero_free: false,
        ..*options
    };
    // To the job all of it is there, so that nothing is written.
    let all = Progress {
        sequence: Some(u64::MAX),
        ..Progress::default()
    };
    let job = Job::new(plan, &options, target, Some(&all))?;
    observer.begin("read the archive", None);
    let outcome = reader.run(options.threads, observer, |header, raw, _| {
        job.put(header, Some(raw))
    })?;
    observer.end();
    let bad = job.read_back(observer)?;
    Ok((outcome, bad))
}

/// Makes a target that holds something look like nothing, or looks whether one
/// that is gone on with is as it was left.
pub(super) fn begin(
    plan: &RestorePlan,
    target: &dyn Sink,
    journal: Option<&mut Journal>,
) -> Result<()> {
    let held = plan.held_ranges();
    let progress = journal.as_ref().map(|j| j.progress().clone());
    let progress = progress.unwrap_or_default();
    let mut found = Vec::new();
    if journal.is_some() {
        for (i, h) in held.iter().enumerate() {
            let mut bytes = vec![0; h.len() as usize];
            target.read_at(h.start, &mut bytes).map_err(unreadable)?;
            let digest = blake3::hash(&bytes).to_hex().to_string();
            let left = match &progress.first_sectors {
                // Looked at when everything else is there.
                _ if progress.finishing => true,
                None => true,
                Some(first) if !progress.has_data() && first.get(i) == Some(&digest) => true,
                Some(_) => crate::archive::is_zero(&bytes),
            };
            if !left {
                return Err(changed(target));
            }
            found.push(digest);
        }
    }
    if let Some(j) = journal
        && progress.first_sectors.is_none()
    {
        j.append(journal::Entry::Begun {
            first_sectors: found,
        })?;
    }
    if target.is_fresh() || progress.finishing {
        return Ok(());
    }
    for h in &held {
        target.zero_at(h.start, h.len())?;
    }
    if !progress.has_data() {
        for z in &plan.zeros {
            target.zero_at(z.start, z.len())?;
        }
        for c in plan.far_copy(target).map_err(unreadable)? {
            target.zero_at(c.start, c.len())?;
        }
    }
    target.sync()
}

/// A target that cannot be read: that of a backup may have gaps, this one not.
fn unreadable(e: Error) -> Error {
    e.advise("what the target holds is looked at before it is written: restore to another disk")
}

pub(super) fn changed(target: &dyn Sink) -> Error {
    Error::refused(
        "The target has changed since the restore was interrupted: its first sectors are not as they were left",
    )
    .of(target.name())
    .hint("start again without --resume")
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|e| e.into_inner())
}

/// Zeros everything of the restored regions that nothing was written to.
pub(super) fn zero_the_rest(
    plan: &RestorePlan,
    target: &dyn Sink,
    touched: &ClusterSet,
    observer: &dyn Observer,
) -> Result<()> {
    let unit = u64::from(plan.sector_bytes);
    let mut parts: Vec<ByteRange> = plan.regions.iter().map(Landing::range).collect();
    super::verify::join(&mut parts);
    let free = |r: &ByteRange| {
        let all = r.start / unit..r.end / unit;
        (all.end - all.start - touched.count_in(all)) * unit
    };
    observer.begin("zero free clusters", Some(parts.iter().map(free).sum()));
    for part in parts {
        let (mut at, end) = (part.start / unit, part.end / unit);
        for r in touched.runs(at..end).chain(std::iter::once(end..end)) {
            while at < r.start {
                if observer.cancelled() {
                    return Err(Error::interrupted());
                }
                let n = (r.start - at).min((64 << 20) / unit);
                target.zero_at(at * unit, n * unit)?;
                observer.advance(n * unit);
                at += n;
            }
            at = r.end;
        }
    }
    observer.end();
    Ok(())
}

/// Refuses an archive that has no end, unless `partial`.
pub fn refuse_incomplete(head: &Head, complete: bool, partial: bool) -> Result<()> {
    if complete || partial {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Incomplete,
        format!(
            "The archive of {} is not complete: it has no end",
            head.source.path
        ),
    )
    .hint("--partial restores what is there"))
}
