//! Going on with an unfinished archive: what is there is checked before it counts.

use super::jobs::JobKind;
use super::plan::ImagePlan;
use super::work::Worker;
use crate::archive::{
    Body, DiskInfo, Forward, Found, Head, Header, Kind, PartialFile, RegionKind, RunKind, Unpacker,
    Walker, Writer,
};
use crate::device::{FileSource, SharedSource};
use crate::error::{Error, Result};
use crate::iscsi::without_secret;
use crate::observe::Observer;
use crate::units::ByteRange;
use std::path::Path;
use std::sync::Arc;

/// Checks the records of an unfinished archive against their digests and the
/// plan, and its file records against the source. Returns a writer that stands
/// behind the last good one, and how many records of data there are.
pub fn take_up(
    plan: &ImagePlan,
    file: PartialFile,
    observer: &dyn Observer,
) -> Result<(Writer<PartialFile>, u64)> {
    let source: SharedSource = Arc::new(FileSource::open(file.partial(), 512)?);
    observer.begin("check what is there", Some(source.len()));
    let mut walker = Walker::new(Forward::new(source, 0), 0);
    let mut unpacker = Unpacker::new()?;
    let (mut stored, mut raw) = (Vec::new(), Vec::new());
    let head_header = expect(&mut walker, Kind::Head)?;
    walker.payload(&mut stored)?;
    unpacker.unpack(&head_header, &stored, &mut raw)?;
    let head_json = raw.clone();
    let head = Head::parse(&head_json)?;
    same_plan(plan, &head)?;
    let disk_header = expect(&mut walker, Kind::Disk)?;
    walker.payload(&mut stored)?;
    unpacker.unpack(&disk_header, &stored, &mut raw)?;
    if DiskInfo::parse(&raw)? != plan.disk {
        return Err(changed("its partitions are not the same"));
    }
    let mut writer = Writer::take_up(file, head_header.archive_id(), head_json, raw.clone());
    writer.adopt(&head_header);
    writer.adopt(&disk_header);

    // Level and threads do not matter: nothing is packed here.
    let mut check = Worker::new(
        &plan.reader,
        1,
        u64::from(plan.disk.cell_bytes),
        plan.disk.sector_bytes,
    )?;
    let mut jobs = plan.jobs(false);
    let mut records = 0;
    loop {
        if observer.cancelled() {
            return Err(Error::interrupted());
        }
        let header = match walker.step() {
            Ok(Some(Found::Record(h))) if matches!(h.kind, Kind::Mft | Kind::Chunk) => h,
            _ => break,
        };
        let whole = walker.payload(&mut stored)? == Body::Whole;
        if !whole || unpacker.unpack(&header, &stored, &mut raw).is_err() {
            break;
        }
        let Some(job) = jobs.next() else { break };
        let region = &plan.regions[job.region].region;
        let (kind, position) = match job.kind {
            JobKind::Mft { first } => (Kind::Mft, first),
            JobKind::Cell { cell, .. } => (Kind::Chunk, cell),
        };
        if (header.kind, header.region, header.position) != (kind, region.number, position) {
            return Err(changed("its records are not those of the plan"));
        }
        mark(plan, region.start, &header);
        // The plan covers which clusters of NTFS are in use, and the file records
        // every change to a file; elsewhere only the bytes themselves tell, and a
        // digest of the whole reads them anyway.
        let by_content =
            kind == Kind::Mft || region.kind != RegionKind::Ntfs || !plan.options.hash.is_empty();
        let readable = !header
            .byte_runs()
            .iter()
            .any(|r| r.2 == RunKind::Unreadable);
        if by_content && readable && check.digest(region, &job)? != Some(header.digest) {
            return Err(changed(&format!(
                "bytes of partition {} are not the same",
                region.number
            )));
        }
        writer.adopt(&header);
        records += 1;
        observer.advance(header.total_len());
    }
    observer.end();
    let end = writer.offset();
    writer.output().go_on_at(end)?;
    Ok((writer, records))
}

pub(super) fn expect(walker: &mut Walker<Forward>, kind: Kind) -> Result<Header> {
    match walker.step()? {
        Some(Found::Record(h)) if h.kind == kind => Ok(h),
        _ => Err(Error::damaged(format!(
            "The unfinished archive does not begin with a sound {} record",
            kind.name()
        ))
        .hint("start again without --resume")),
    }
}

pub(super) fn same_plan(plan: &ImagePlan, head: &Head) -> Result<()> {
    let from_snapshot = of_snapshot(plan, head)?;
    let same = head.source.serial == plan.source.serial || from_snapshot;
    if head.source.bytes != plan.source.bytes || !same {
        return Err(changed("it is another source"));
    }
    if head.options != plan.options {
        return Err(
            Error::usage("The unfinished archive was begun with other options")
                .hint("give the same options, or start again without --resume"),
        );
    }
    if head.plan != plan.digest {
        return Err(changed("other clusters are in use"));
    }
    Ok(())
}

/// What was begun of a snapshot goes on only with that: the original has been written
/// since. True when it is read.
fn of_snapshot(plan: &ImagePlan, head: &Head) -> Result<bool> {
    let taken = head.stillness.as_ref().and_then(|s| s.snapshot.as_ref());
    let Some(taken) = taken else {
        return Ok(false);
    };
    let full = |p: &str| Path::new(p).canonicalize().ok();
    let now = without_secret(&plan.source.path);
    let is = |p: &str| p == now || full(p).is_some_and(|p| Some(p) == full(&now));
    match &taken.place {
        Some(place) if is(place) && !is(&head.source.path) => Ok(true),
        _ => Err(Error::refused(format!(
            "The unfinished archive is of the snapshot {}, and what is read now is of another moment",
            taken.name
        ))
        .hint("start again without --resume; a snapshot that was kept (--keep-snapshot) goes on when it is named as the source")),
    }
}

pub(super) fn changed(how: &str) -> Error {
    Error::refused(format!(
        "The source has changed since the archive was begun: {how}"
    ))
    .hint("start again without --resume")
}

/// What the earlier run read, and what it could not.
pub(super) fn mark(plan: &ImagePlan, base: u64, header: &Header) {
    for (start, len, kind) in header.byte_runs() {
        let range = ByteRange {
            start: base + start,
            end: base + start + len,
        };
        match kind {
            RunKind::Data | RunKind::Zero => plan.reader.map().mark_good(range),
            RunKind::Unreadable => plan.reader.map().mark_bad(range),
            RunKind::Skipped => {}
        }
    }
}
