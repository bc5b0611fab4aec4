//! Going on with an unfinished set: what stands on the cartridges is checked
//! before it counts. `docs/tape.md` section 6.

use super::jobs::{Job, JobKind};
use super::plan::ImagePlan;
use super::resume::{changed, expect, mark, same_plan};
use super::work::Worker;
use crate::archive::{
    BLOCK, Body, DiskInfo, Forward, Found, Head, Header, Kind, Provenance, RunKind, UNVERIFIED,
    Unpacker, Walker, Writer,
};
use crate::copy::{Lead, Piece};
use crate::device::{SharedSource, Source};
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::tape::{Id, SetOptions, SetWriter, TapeSource};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What is not followed by a filemark is compared with the source as far as
/// this many bytes back: more than one command moves.
const COMPARED: u64 = 256 << 20;

/// An unfinished set, ready to go on.
pub struct Resumed {
    /// What has to be written first: the rest of records that are counted.
    pub lead: Lead,
    /// The lead belongs to the file records.
    pub in_mft: bool,
    /// Mft records so far.
    pub mft: u64,
    /// The Chunks of a region before this byte are there.
    covered: HashMap<u16, u64>,
    /// Begun by a copy manager: chunks may have no digest.
    pub unverified: bool,
    /// Bytes taken over.
    pub bytes: u64,
}

impl Resumed {
    /// The job without what is there already; none when nothing is left.
    pub fn left_of(&self, plan: &ImagePlan, mut job: Job) -> Option<Job> {
        let number = plan.regions.get(job.region)?.region.number;
        let Some(&end) = self.covered.get(&number) else {
            return Some(job);
        };
        let JobKind::Cell { .. } = job.kind else {
            return Some(job);
        };
        job.pieces.retain_mut(|p| {
            let cut = end.saturating_sub(p.start).min(p.len);
            p.start += cut;
            p.len -= cut;
            p.len > 0
        });
        (!job.pieces.is_empty()).then_some(job)
    }
}

/// Checks the set that is in the drive against the plan and the source; the
/// writer stands behind what holds, bar the lead. The grid of the plan becomes that of the set.
pub fn take_up(
    plan: &mut ImagePlan,
    tape: TapeSource,
    fresh_id: fn() -> Result<Id>,
    time: u64,
    observer: &dyn Observer,
) -> Result<(Writer<SetWriter>, Resumed)> {
    let done = tape.parts().iter().any(|p| p.closed && !p.continued);
    let tape = Arc::new(tape);
    let source: SharedSource = tape.clone();
    observer.begin("check what is there", Some(source.len()));
    let mut found = check(plan, &source, u64::from(tape.block_bytes()), observer);
    if done {
        found = found.and_then(|_| {
            Err(Error::refused("The backup on the tape is complete")
                .hint("start without --resume to make another one"))
        });
    }
    let found = found.map_err(|e| e.of(tape.name()))?;
    observer.end();
    let set = tape.set();
    let block_bytes = tape.block_bytes();
    drop(source);
    let Some(tape) = Arc::into_inner(tape) else {
        return Err(Error::usage("The tape is still being read"));
    };
    let (drive, media, parts) = tape.into_writer(found.from)?;
    let options = SetOptions {
        set,
        block_bytes,
        label: None,
        fresh_id,
        time,
    };
    let set = SetWriter::resume(drive, media, options, parts, found.from)?;
    let mut writer = found.writer.with_output(set);
    writer.set_block(block_bytes);
    let resumed = Resumed {
        lead: found.lead,
        in_mft: found.in_mft,
        mft: found.mft,
        covered: found.covered,
        unverified: found.unverified,
        bytes: found.from,
    };
    Ok((writer, resumed))
}

struct Checked {
    writer: Writer<()>,
    /// Where the tape goes on: a boundary of blocks.
    from: u64,
    lead: Lead,
    in_mft: bool,
    mft: u64,
    covered: HashMap<u16, u64>,
    unverified: bool,
}

/// A record that is there, perhaps not to its end.
struct Seen {
    header: Header,
    region_start: u64,
}

fn check(
    plan: &mut ImagePlan,
    tape: &SharedSource,
    block: u64,
    observer: &dyn Observer,
) -> Result<Checked> {
    let len = tape.len();
    let mut walker = Walker::new(Forward::new(tape.clone(), 0), 0);
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
    let disk = DiskInfo::parse(&raw)?;
    plan.disk.cell_bytes = disk.cell_bytes;
    if disk != plan.disk {
        return Err(changed("its partitions are not the same"));
    }
    let plan = &*plan;
    let mut writer = Writer::take_up((), head_header.archive_id(), head_json, raw.clone());
    writer.adopt(&head_header);
    writer.adopt(&disk_header);

    let mut records = check_mft(plan, &mut walker, &mut writer, observer)?;
    let mft = records.count;
    let mut covered: HashMap<u16, u64> = HashMap::new();
    // Counted only when they were compared, or are far enough back.
    let mut recent: VecDeque<Seen> = VecDeque::new();
    let mut next = records.next.take();
    loop {
        if observer.cancelled() {
            return Err(Error::interrupted());
        }
        let header = match next.take() {
            Some(h) => h,
            None => match walker.step()? {
                Some(Found::Record(h)) => h,
                _ => break,
            },
        };
        if !matches!(header.kind, Kind::Chunk | Kind::Pad) || header.stream_offset >= len {
            break;
        }
        observer.advance(header.stride());
        let region_start = plan
            .regions
            .iter()
            .find(|r| r.region.number == header.region)
            .map_or(0, |r| r.region.start);
        let partial = header.stream_offset + header.stride() > len;
        // A record that a digest vouches for is made again when it is not whole.
        if partial && (header.kind == Kind::Pad || header.provenance != Provenance::None) {
            break;
        }
        recent.push_back(Seen {
            header,
            region_start,
        });
        while recent
            .front()
            .is_some_and(|s| s.header.stream_offset + s.header.stride() + COMPARED < len)
        {
            if let Some(s) = recent.pop_front() {
                count(plan, &mut writer, &mut covered, &s);
            }
        }
    }
    let kept = recent.len();
    let mut at = len;
    for (n, seen) in recent.iter().enumerate() {
        if !same_bytes(plan, tape, seen, len, observer)? {
            // Everything from here on is made again.
            at = seen.header.stream_offset;
            recent.truncate(n);
            break;
        }
    }
    let whole_len = if recent.len() == kept { len } else { at };
    for s in &recent {
        count(plan, &mut writer, &mut covered, s);
    }
    let end = writer.offset();
    // Inside a record that nobody has seen: the rest of it comes first.
    let from = end.min(whole_len) / block * block;
    let in_mft = recent.is_empty() && covered.is_empty();
    let lead = lead(tape, &recent, from, end, plan.disk.sector_bytes)?;
    Ok(Checked {
        writer,
        from,
        lead,
        in_mft,
        mft,
        covered,
        unverified: head.needs(UNVERIFIED),
    })
}

struct MftRecords {
    count: u64,
    /// The first record that is none of them.
    next: Option<Header>,
}

/// The file records: digests, and the same as the source has now.
fn check_mft(
    plan: &ImagePlan,
    walker: &mut Walker<Forward>,
    writer: &mut Writer<()>,
    observer: &dyn Observer,
) -> Result<MftRecords> {
    let mut unpacker = Unpacker::new()?;
    let (mut stored, mut raw) = (Vec::new(), Vec::new());
    let mut check = Worker::new(
        &plan.reader,
        1,
        u64::from(plan.disk.cell_bytes),
        plan.disk.sector_bytes,
    )?;
    let mut jobs = plan.jobs(false);
    let mut count = 0;
    loop {
        if observer.cancelled() {
            return Err(Error::interrupted());
        }
        let header = match walker.step()? {
            Some(Found::Record(h)) if h.kind == Kind::Mft => h,
            // What fills up behind the last one is written again with it.
            Some(Found::Record(h)) if matches!(h.kind, Kind::Chunk | Kind::Pad) => {
                return Ok(MftRecords {
                    count,
                    next: Some(h),
                });
            }
            _ => return Ok(MftRecords { count, next: None }),
        };
        let whole = walker.payload(&mut stored)? == Body::Whole;
        if !whole || unpacker.unpack(&header, &stored, &mut raw).is_err() {
            return Ok(MftRecords { count, next: None });
        }
        let Some(job) = jobs.next() else {
            return Err(changed("its records are not those of the plan"));
        };
        let region = &plan.regions[job.region].region;
        let JobKind::Mft { first } = job.kind else {
            return Err(changed("its records are not those of the plan"));
        };
        let readable = !header
            .byte_runs()
            .iter()
            .any(|r| r.2 == RunKind::Unreadable);
        if (header.region, header.position) != (region.number, first)
            || (readable && check.digest(region, &job)? != Some(header.digest))
        {
            return Err(changed("its file records are not the same"));
        }
        mark(plan, region.start, &header);
        writer.adopt(&header);
        count += 1;
        observer.advance(header.stride());
    }
}

fn count(plan: &ImagePlan, writer: &mut Writer<()>, covered: &mut HashMap<u16, u64>, s: &Seen) {
    if s.header.kind == Kind::Chunk {
        mark(plan, s.region_start, &s.header);
        if let Some((start, len, _)) = s.header.byte_runs().last() {
            covered.insert(s.header.region, start + len);
        }
    }
    writer.adopt(&s.header);
}

/// Compares what a record holds before `len` with the source. What has a digest
/// is decoded; runs that the source does not give now are left out.
fn same_bytes(
    plan: &ImagePlan,
    tape: &SharedSource,
    seen: &Seen,
    len: u64,
    observer: &dyn Observer,
) -> Result<bool> {
    let h = &seen.header;
    if h.kind != Kind::Chunk {
        return Ok(true);
    }
    let start = h.stream_offset + h.len() as u64;
    if h.provenance != Provenance::None {
        let mut stored = vec![0; h.stored_len as usize];
        tape.read_at(start, &mut stored)?;
        let mut raw = Vec::new();
        return Ok(Unpacker::new()?.unpack(h, &stored, &mut raw).is_ok());
    }
    let mut at = start;
    let (mut there, mut now) = (Vec::new(), Vec::new());
    for (first, bytes, kind) in h.byte_runs() {
        if kind != RunKind::Data {
            continue;
        }
        let mut done = 0;
        while done < bytes && at < len {
            if observer.cancelled() {
                return Err(Error::interrupted());
            }
            let n = (bytes - done).min(len - at).min(1 << 20);
            there.resize(n as usize, 0);
            now.resize(n as usize, 0);
            tape.read_at(at, &mut there)?;
            let bad = plan
                .reader
                .read_at_marked(seen.region_start + first + done, &mut now)?;
            if bad.is_empty() && there != now {
                return Ok(false);
            }
            at += n;
            done += n;
        }
    }
    Ok(true)
}

/// The stream between `from` and the end of the records that are counted, as
/// pieces.
fn lead(
    tape: &SharedSource,
    recent: &VecDeque<Seen>,
    from: u64,
    end: u64,
    sector: u32,
) -> Result<Lead> {
    let sector = u64::from(sector);
    let mut pieces = Vec::new();
    let mut padded = false;
    let first = recent.front().map_or(end, |s| s.header.stream_offset);
    if first > from {
        // What stands before them in the same block is copied from the tape.
        let mut bytes = vec![0; (first - from) as usize];
        tape.read_at(from, &mut bytes)?;
        pieces.push(Piece::Inline(bytes));
    }
    for (n, s) in recent.iter().enumerate() {
        let h = &s.header;
        let end = h.stream_offset + h.stride();
        if end <= from {
            continue;
        }
        let data = h.stream_offset + h.len() as u64;
        if h.provenance != Provenance::None || h.kind != Kind::Chunk {
            // Whole, or it would not be counted.
            let start = h.stream_offset.max(from);
            let mut bytes = vec![0; (end - start) as usize];
            tape.read_at(start, &mut bytes)?;
            pieces.push(Piece::Inline(bytes));
            padded = false;
            continue;
        }
        if h.stream_offset + (h.len() as u64) > from {
            let mut bytes = Vec::new();
            h.encode(&mut bytes);
            let skip = from.saturating_sub(h.stream_offset) as usize;
            pieces.push(Piece::Inline(bytes.split_off(skip)));
        }
        let mut at = data;
        for (start, bytes, kind) in h.byte_runs() {
            if kind != RunKind::Data {
                continue;
            }
            let skip = from.saturating_sub(at).min(bytes);
            if skip < bytes {
                pieces.push(Piece::Extent {
                    lba: (s.region_start + start + skip) / sector,
                    blocks: (bytes - skip) / sector,
                });
            }
            at += bytes;
        }
        let gap = u64::from(h.gap) * BLOCK as u64;
        padded = gap > 0;
        if padded && n + 1 < recent.len() {
            pieces.push(Piece::Inline(vec![0; (end - at.max(from)) as usize]));
            padded = false;
        }
    }
    Ok(Lead { pieces, padded })
}
