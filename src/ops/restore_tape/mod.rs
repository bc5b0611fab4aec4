//! Restore from tape by a copy manager: the clusters go from the tape to the
//! disk without passing this machine. What the host wrote (file records,
//! compressed chunks) and the sectors that come last, the host restores.

mod cartridge;
mod last;
mod pieces;
mod progress;

use super::engine::Engine;
use super::restore::{self, Journal, RestoreOptions, RestorePlan, zero_the_rest};
use crate::archive::{Archive, BLOCK, ChunkRun, Entry, Header, RunKind, UNVERIFIED};
use crate::copy::{Geometry, TapeFile, Wanted};
use crate::device::{RangeSet, Sink, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::Observer;
use crate::tape::TapeSource;
use crate::units::{ByteRange, ClusterSet};
use pieces::{Placed, cut, inside, outside};
use progress::Kept;

/// What came of it.
#[derive(Debug, Default, serde::Serialize)]
pub struct OffloadSummary {
    /// Bytes that the copy manager moved.
    pub copied_bytes: u64,
    /// EXTENDED COPY commands.
    pub commands: u64,
    /// Bytes that an interrupted run had moved.
    pub resumed_bytes: u64,
    /// Bytes of data that the host wrote.
    pub host_bytes: u64,
    /// Bytes that are zeros because the source could not be read when the
    /// backup was made.
    pub unreadable_bytes: u64,
    /// Bytes that are zeros because they were left out on request.
    pub skipped_bytes: u64,
    /// Ranges of the target that the tape did not give.
    pub lost: Vec<ByteRange>,
}

/// True when a copy manager can restore this archive: its index says where the
/// clusters are, and a copy manager wrote them, so that they are not compressed.
pub fn can_offload(archive: &Archive) -> bool {
    let raw = archive.head().needs(UNVERIFIED);
    raw && archive.is_complete() && archive.index().chunk_runs.is_some()
}

/// Restores a complete archive from its tape to a target that the engine's
/// copy manager writes. `target` is the same disk, for the host's part. With the
/// journal of an interrupted run it goes on where that was.
#[allow(clippy::too_many_arguments)]
pub fn restore_offloaded(
    archive: &Archive,
    tape: &TapeSource,
    engine: &mut Engine,
    plan: &RestorePlan,
    target: &dyn Sink,
    options: &RestoreOptions,
    mut journal: Option<&mut Journal>,
    observer: &dyn Observer,
) -> Result<OffloadSummary> {
    plan.fits(target)?;
    if !can_offload(archive) {
        return Err(Error::unsupported(
            "The host wrote this tape, compressed, or its index does not say where the clusters are",
        )
        .of(tape.name())
        .hint("--mover host restores it"));
    }
    let held = plan.held_ranges();
    restore::begin(plan, target, journal.as_deref_mut())?;
    let before = journal.as_deref().map(|j| j.progress().clone());
    let before = before.unwrap_or_default();
    let unit = u64::from(plan.sector_bytes);
    let mut patched = RangeSet::new();
    plan.each_patch(&mut |at, bytes| {
        patched.insert(ByteRange {
            start: at,
            end: at + bytes.len() as u64,
        });
        Ok(())
    })?;
    let mut job = Job {
        archive,
        tape,
        plan,
        target,
        late: held.iter().flat_map(|h| patched.without(*h)).collect(),
        held,
        partial: options.partial,
        touched: options
            .zero_free
            .then(|| ClusterSet::new(target.len().div_ceil(unit))),
        summary: OffloadSummary::default(),
        observer,
        kept: journal.map(Kept::new),
    };
    let total = (0..archive.index().entries.len())
        .map(|i| job.data_bytes(i))
        .sum();
    observer.begin("restore", Some(total));
    job.host_part()?;
    job.offloaded_part(engine, false, before.first_missing())?;
    if job.summary.lost.is_empty() || options.partial {
        job.patch(false)?;
        if let Some(touched) = &job.touched {
            zero_the_rest(plan, target, touched, observer)?;
        }
        match before.finishing {
            true => job.last_sectors_again()?,
            false => job.last_sectors(engine)?,
        }
    }
    observer.end();
    target.sync()?;
    Ok(job.summary)
}

struct Job<'a> {
    archive: &'a Archive,
    tape: &'a TapeSource,
    plan: &'a RestorePlan,
    target: &'a dyn Sink,
    /// Written last.
    held: Vec<ByteRange>,
    /// What of that the tape gives: nothing is written over it.
    late: Vec<ByteRange>,
    partial: bool,
    touched: Option<ClusterSet>,
    summary: OffloadSummary,
    observer: &'a dyn Observer,
    kept: Option<Kept<'a>>,
}

impl Job<'_> {
    fn unit(&self) -> u64 {
        u64::from(self.plan.sector_bytes)
    }

    fn entry(&self, i: usize) -> Option<&Entry> {
        self.archive.index().entries.get(i)
    }

    fn runs(&self, i: usize) -> &[ChunkRun] {
        self.archive
            .index()
            .chunk_runs
            .as_ref()
            .map_or(&[], |r| r.of(i))
    }

    fn data_bytes(&self, i: usize) -> u64 {
        let units: u64 = self
            .runs(i)
            .iter()
            .filter(|r| r.kind == RunKind::Data)
            .map(|r| u64::from(r.units))
            .sum();
        units * self.unit()
    }

    /// Stream offset of the data of a Chunk that stands there as it is; none
    /// for one that is compressed, which is always shorter.
    fn stored_at(&self, i: usize) -> Option<u64> {
        let e = self.entry(i).filter(|e| !e.mft)?;
        let data = self.data_bytes(i);
        let all = u64::from(e.blocks) * BLOCK as u64;
        let header = all.checked_sub(data)?;
        (data > 0 && header >= Header::chunk_len(self.runs(i).len())).then_some(e.offset + header)
    }

    /// The runs of a Chunk in pieces.
    fn places(&self, i: usize) -> Result<Vec<Placed>> {
        let Some(e) = self.entry(i) else {
            return Ok(Vec::new());
        };
        let cell = u64::from(self.archive.disk().cell_bytes);
        let unit = self.unit();
        let runs = self.runs(i).iter().map(|r| {
            let start = e
                .position
                .checked_mul(cell)
                .and_then(|c| c.checked_add(u64::from(r.start) * unit));
            (start.unwrap_or(u64::MAX), u64::from(r.units) * unit, r.kind)
        });
        self.pieces(e, runs)
    }

    /// Runs of a record, `(first byte inside the region, bytes, kind)`, as
    /// pieces of the target; none for a region that is not restored.
    fn pieces(
        &self,
        e: &Entry,
        runs: impl IntoIterator<Item = (u64, u64, RunKind)>,
    ) -> Result<Vec<Placed>> {
        let Some(landing) = self.plan.landing(e.region) else {
            return Ok(Vec::new());
        };
        let mut out = Vec::new();
        let mut from = 0;
        for (start, len, kind) in runs {
            let room = landing.region.bytes;
            if start.checked_add(len).is_none_or(|end| end > room) {
                return Err(Error::damaged(format!(
                    "A record names bytes outside partition {}",
                    landing.region.number
                ))
                .of(self.tape.name())
                .at(e.offset));
            }
            landing.place(start, len, &mut |at, len| {
                let data = kind == RunKind::Data;
                if let Some(at) = at {
                    out.push(Placed {
                        at,
                        len,
                        kind,
                        from,
                    });
                }
                from += if data { len } else { 0 };
                Ok(())
            })?;
        }
        Ok(out)
    }

    fn touch(&mut self, at: u64, len: u64) {
        let unit = self.unit();
        if let Some(t) = &mut self.touched {
            t.insert(at / unit..(at + len) / unit);
        }
    }

    /// File records, chunks that are compressed, and zeros.
    fn host_part(&mut self) -> Result<()> {
        for i in 0..self.archive.index().entries.len() {
            if self.observer.cancelled() {
                return Err(Error::interrupted());
            }
            let Some(e) = self.entry(i).copied() else {
                continue;
            };
            if self.plan.landing(e.region).is_none() {
                continue;
            }
            if !e.mft {
                for p in self.places(i)? {
                    self.touch(p.at, p.len);
                    match p.kind {
                        RunKind::Data => continue,
                        RunKind::Unreadable => self.summary.unreadable_bytes += p.len,
                        RunKind::Skipped => self.summary.skipped_bytes += p.len,
                        RunKind::Zero => {}
                    }
                    self.target.zero_at(p.at, p.len)?;
                }
                if self.data_bytes(i) == 0 || self.stored_at(i).is_some() {
                    continue;
                }
            }
            let decoded = match self.archive.decode(i as u32) {
                Ok(d) => d,
                Err(e) if self.partial && is_loss(&e) => {
                    for p in self.places(i)? {
                        if p.kind == RunKind::Data {
                            self.lose(p.at, p.len)?;
                        }
                    }
                    continue;
                }
                Err(e) => return Err(e.hint("--partial restores what is there")),
            };
            for p in self.pieces(&e, decoded.runs.iter().copied())? {
                if e.mft {
                    self.touch(p.at, p.len);
                }
                match p.kind {
                    RunKind::Data => self.write(p.at, p.data(&decoded.bytes)?)?,
                    _ if e.mft => {
                        self.target.zero_at(p.at, p.len)?;
                        self.summary.unreadable_bytes += p.len;
                    }
                    _ => {}
                }
            }
            self.observer
                .advance(if e.mft { 0 } else { self.data_bytes(i) });
        }
        Ok(())
    }

    /// What is written over the restored bytes: what comes `last` of it, or
    /// what comes before that.
    fn patch(&mut self, last: bool) -> Result<()> {
        let plan = self.plan;
        plan.each_patch(&mut |at, bytes| {
            let end = at + bytes.len() as u64;
            let parts = match last {
                false => outside(&self.held, at, end),
                true => inside(&self.held, at, end),
            };
            for (s, e) in parts {
                self.target
                    .write_at(s, &bytes[(s - at) as usize..(e - at) as usize])?;
                self.summary.host_bytes += e - s;
            }
            self.touch(at, bytes.len() as u64);
            Ok(())
        })
    }

    /// Writes, except what comes last.
    fn write(&mut self, at: u64, data: &[u8]) -> Result<()> {
        for (s, e) in outside(&self.held, at, at + data.len() as u64) {
            self.target
                .write_at(s, &data[(s - at) as usize..(e - at) as usize])?;
        }
        self.summary.host_bytes += data.len() as u64;
        Ok(())
    }

    /// Everything that stands on the tape as it is, in the order of the stream:
    /// what comes `last`, or what comes before it.
    fn wanted(&self, last: bool) -> Result<Vec<Wanted>> {
        let unit = self.unit();
        let mut out: Vec<Wanted> = Vec::new();
        for i in 0..self.archive.index().entries.len() {
            let Some(offset) = self.stored_at(i) else {
                continue;
            };
            for p in self.places(i)? {
                if p.kind != RunKind::Data {
                    continue;
                }
                let (at, len) = (p.at, p.len);
                let parts = match last {
                    false => outside(&self.held, at, at + len),
                    true => inside(&self.late, at, at + len),
                };
                for (s, e) in parts {
                    let piece = Wanted {
                        offset: offset + p.from + (s - at),
                        bytes: e - s,
                        lba: s / unit,
                    };
                    match out.last_mut() {
                        Some(l)
                            if l.offset + l.bytes == piece.offset
                                && l.lba + l.bytes / unit == piece.lba =>
                        {
                            l.bytes += piece.bytes;
                        }
                        _ => out.push(piece),
                    }
                }
            }
        }
        Ok(out)
    }

    /// By the copy manager, from a byte of the stream on.
    fn offloaded_part(&mut self, engine: &mut Engine, last: bool, from: u64) -> Result<()> {
        let all = self.wanted(last)?;
        let wanted = cut(&all, from, u64::MAX, self.unit());
        let bytes = |w: &[Wanted]| w.iter().map(|w| w.bytes).sum::<u64>();
        let done = bytes(&all) - bytes(&wanted);
        self.summary.resumed_bytes += done;
        self.observer.advance(done);
        drop(all);
        if let Some(kept) = &mut self.kept {
            kept.on = !last;
        }
        let moved = self.cartridges(engine, &wanted);
        if let Some(kept) = &mut self.kept {
            // What was reached is worth keeping, whatever ended it.
            let noted = kept.note(self.target);
            moved?;
            return noted;
        }
        moved
    }

    fn cartridges(&mut self, engine: &mut Engine, wanted: &[Wanted]) -> Result<()> {
        let geometry = Geometry::new(u64::from(self.tape.block_bytes()), self.unit());
        let mut at = 0;
        while let Some(next) = wanted.get(at) {
            // The part of a piece that lies on an earlier cartridge is done.
            let mut from = next.offset;
            loop {
                let part = self.tape.mount_for(from)?;
                let end = part.end();
                let files: Vec<TapeFile> = part
                    .files
                    .iter()
                    .map(|f| TapeFile {
                        first_object: f.first_object,
                        offset: f.stream_offset,
                        bytes: f.blocks * u64::from(self.tape.block_bytes()),
                    })
                    .collect();
                let to = at + wanted[at..].partition_point(|w| w.offset < end);
                self.cartridge(engine, &wanted[at..to], &files, &geometry)?;
                at = to;
                match wanted.get(to.saturating_sub(1)) {
                    // It goes on on the next cartridge.
                    Some(w) if w.offset + w.bytes > end && to > 0 => {
                        (at, from) = (to - 1, end);
                    }
                    _ => break,
                }
            }
        }
        Ok(())
    }

    fn mft_runs(&self, i: usize) -> Vec<(u64, u64, RunKind)> {
        let unit = self.unit();
        let spans = self.archive.index().spans.iter();
        spans
            .filter(|s| s.entry as usize == i)
            .map(|s| {
                let len = u64::from(s.run.units) * unit;
                (s.run.start.saturating_mul(unit), len, s.run.kind)
            })
            .collect()
    }
}

fn is_loss(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Unreadable | ErrorKind::Damaged)
}
