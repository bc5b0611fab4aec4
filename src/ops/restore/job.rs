//! The executor: each record goes to its place on the target.

use super::journal::Progress;
use super::plan::{Landing, RestorePlan};
use super::written::Written;
use super::{RestoreOptions, lock};
use crate::archive::{Header, Kind, Provenance, RunKind};
use crate::device::{RangeSet, Sink};
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::ops::stream::Damage;
use crate::units::{ByteRange, ClusterSet};
use std::collections::HashSet;
use std::sync::Mutex;

/// Bytes that are patched at a time.
const PATCHED: usize = 1 << 20;

/// A range of the target that is written last, and what goes there.
struct Held {
    range: ByteRange,
    pieces: Vec<(u64, Vec<u8>)>,
}

/// Bytes by what became of them.
#[derive(Default)]
pub struct Counters {
    pub written: u64,
    pub resumed: u64,
    pub unreadable: u64,
    pub skipped: u64,
}

/// What an earlier run has done.
struct Before {
    sequence: u64,
    damaged: HashSet<u64>,
}

impl Before {
    fn wrote(&self, header: &Header) -> bool {
        matches!(header.kind, Kind::Mft | Kind::Chunk)
            && header.sequence <= self.sequence
            && !self.damaged.contains(&header.stream_offset)
    }
}

/// What is written of some bytes.
#[derive(Clone, Copy, PartialEq)]
pub enum Part {
    /// All of them; what comes last is kept back.
    All,
    /// Nothing; only what comes last is kept: the others are there.
    Last,
}

pub struct Job<'a> {
    plan: &'a RestorePlan,
    options: &'a RestoreOptions,
    pub target: &'a dyn Sink,
    /// Written last, so that nothing half-written looks whole.
    held: Mutex<Vec<Held>>,
    pub touched: Option<Mutex<ClusterSet>>,
    /// One writer at a time: the kernel lets no more than one into a file, and
    /// those who wait there burn the processor that could decompress.
    writing: Mutex<()>,
    pub written: Mutex<Written>,
    pub counters: Mutex<Counters>,
    before: Option<Before>,
    /// What is written over the restored bytes.
    patched: RangeSet,
    /// Where that came with the restored bytes: they were written as they will
    /// be, and need not be written twice.
    inlined: Mutex<RangeSet>,
}

impl<'a> Job<'a> {
    pub fn new(
        plan: &'a RestorePlan,
        options: &'a RestoreOptions,
        target: &'a dyn Sink,
        progress: Option<&Progress>,
    ) -> Result<Self> {
        let held = plan.held_ranges().into_iter().map(|range| Held {
            range,
            pieces: Vec::new(),
        });
        let unit = u64::from(plan.sector_bytes);
        let mut patched = RangeSet::new();
        if plan.changes() {
            plan.each_patch(&mut |at, bytes| {
                patched.insert(span(at, bytes.len() as u64));
                Ok(())
            })?;
        }
        Ok(Self {
            plan,
            options,
            target,
            held: Mutex::new(held.collect()),
            touched: options
                .zero_free
                .then(|| Mutex::new(ClusterSet::new(target.len().div_ceil(unit)))),
            writing: Mutex::new(()),
            written: Mutex::default(),
            counters: Mutex::default(),
            before: progress.and_then(|p| {
                Some(Before {
                    sequence: p.sequence?,
                    damaged: p.damaged.iter().copied().collect(),
                })
            }),
            patched,
            inlined: Mutex::default(),
        })
    }

    /// True for a record that an earlier run put on the target, and of which
    /// nothing is needed any more but its header.
    pub fn is_done(&self, header: &Header) -> bool {
        let Some(before) = &self.before else {
            return false;
        };
        if !before.wrote(header) {
            return false;
        }
        let Some(landing) = self.plan.landing(header.region) else {
            return true;
        };
        let bare = header.provenance == Provenance::None && self.options.verify;
        let mut needed = bare;
        for (start, len, kind) in header.byte_runs() {
            if kind != RunKind::Data || needed {
                continue;
            }
            let seen = self.check(header, landing, start, len).and_then(|()| {
                landing.place(start, len, &mut |to, n| {
                    needed |= match to {
                        Some(at) => {
                            let whole = span(at, n);
                            self.is_held(whole) || self.options.verify && self.is_patched(whole)
                        }
                        None => self.options.verify,
                    };
                    Ok(())
                })
            });
            // What is wrong with it is said where it is written.
            needed |= seen.is_err();
        }
        !needed
    }

    fn is_held(&self, r: ByteRange) -> bool {
        let held = lock(&self.held);
        let first = held.partition_point(|h| h.range.end <= r.start);
        held.get(first).is_some_and(|h| h.range.start < r.end)
    }

    fn is_patched(&self, r: ByteRange) -> bool {
        !self.patched.is_empty() && !self.patched.within(r).is_empty()
    }

    fn check(&self, header: &Header, landing: &Landing, start: u64, len: u64) -> Result<()> {
        let region = &landing.region;
        match start.checked_add(len).filter(|&end| end <= region.bytes) {
            Some(_) => Ok(()),
            None => Err(Error::damaged(format!(
                "A record names {len} bytes at {start:#x} of partition {}, which has {} bytes",
                region.number, region.bytes
            ))
            .at(header.stream_offset)),
        }
    }

    /// Writes a record, or without its bytes only counts it: it is there.
    pub fn put(&self, header: &Header, raw: Option<&[u8]>) -> Result<()> {
        let Some(landing) = self.plan.landing(header.region) else {
            return Ok(());
        };
        if header.unit != self.plan.sector_bytes {
            return Err(Error::damaged(format!(
                "A record counts in units of {} bytes, expected sectors of {}",
                header.unit, self.plan.sector_bytes
            ))
            .at(header.stream_offset));
        }
        let unit = u64::from(self.plan.sector_bytes);
        let mut at = 0usize;
        // Where the bytes went, and where they stand in the record.
        let mut pieces: Vec<(u64, u64)> = Vec::new();
        let mut from: Vec<usize> = Vec::new();
        let mut dropped = false;
        let mut c = Counters::default();
        let part = match self.before.as_ref().is_some_and(|b| b.wrote(header)) {
            true => Part::Last,
            false => Part::All,
        };
        let one = (part == Part::All).then(|| lock(&self.writing));
        for (start, len, kind) in header.byte_runs() {
            self.check(header, landing, start, len)?;
            match kind {
                RunKind::Unreadable => c.unreadable += len,
                RunKind::Skipped => c.skipped += len,
                RunKind::Data | RunKind::Zero => {}
            }
            landing.place(start, len, &mut |to, n| {
                let here = at;
                if kind == RunKind::Data {
                    at += n as usize;
                }
                let Some(place) = to else {
                    dropped |= kind == RunKind::Data;
                    return Ok(());
                };
                if kind == RunKind::Data {
                    if let Some(raw) = raw {
                        self.write_as_it_will_be(landing, place, &raw[here..at], part)?;
                    }
                    if self.is_patched(span(place, n)) {
                        lock(&self.inlined).insert(span(place, n));
                    }
                    c.written += n;
                    pieces.push((place, n));
                    from.push(here);
                } else if part == Part::All {
                    self.zero(place, n)?;
                    self.not_inlined(span(place, n));
                }
                if let Some(touched) = &self.touched {
                    lock(touched).insert(place / unit..(place + n).div_ceil(unit));
                }
                Ok(())
            })?;
        }
        drop(one);
        {
            let mut all = lock(&self.counters);
            match part {
                Part::All => all.written += c.written,
                Part::Last => all.resumed += c.written,
            }
            all.unreadable += c.unreadable;
            all.skipped += c.skipped;
        }
        if self.options.verify && !pieces.is_empty() {
            let digest = match (raw, header.provenance) {
                (Some(raw), p) => {
                    let patched = pieces.iter().any(|&(at, n)| self.is_patched(span(at, n)));
                    match dropped || patched {
                        true => self.expected(landing, raw, &pieces, &from)?,
                        // What a copy manager moved has no digest in its header.
                        false if p == Provenance::None => *blake3::hash(raw).as_bytes(),
                        false => header.digest,
                    }
                }
                (None, _) => header.digest,
            };
            lock(&self.written).push(&digest, &pieces);
        }
        Ok(())
    }

    /// The digest of what the pieces will hold in the end.
    fn expected(
        &self,
        landing: &Landing,
        raw: &[u8],
        pieces: &[(u64, u64)],
        from: &[usize],
    ) -> Result<[u8; 32]> {
        let mut hash = blake3::Hasher::new();
        for (&(place, n), &at) in pieces.iter().zip(from) {
            let data = &raw[at..at + n as usize];
            if !self.is_patched(span(place, n)) {
                hash.update(data);
                continue;
            }
            for (i, part) in data.chunks(PATCHED).enumerate() {
                hash.update(&self.patched(landing, place + (i * PATCHED) as u64, part)?);
            }
        }
        Ok(*hash.finalize().as_bytes())
    }

    /// Restored bytes with what is written over them.
    fn patched(&self, landing: &Landing, place: u64, data: &[u8]) -> Result<Vec<u8>> {
        let mut buf = data.to_vec();
        if let Some(change) = &landing.change {
            change.patch_into(place - landing.base, &mut buf)?;
        }
        self.plan.patch_tables_into(place, &mut buf);
        Ok(buf)
    }

    fn write_as_it_will_be(
        &self,
        landing: &Landing,
        place: u64,
        data: &[u8],
        part: Part,
    ) -> Result<()> {
        if !self.is_patched(span(place, data.len() as u64)) {
            return self.write(place, data, part);
        }
        for (i, piece) in data.chunks(PATCHED).enumerate() {
            let at = place + (i * PATCHED) as u64;
            self.write(at, &self.patched(landing, at, piece)?, part)?;
        }
        Ok(())
    }

    /// Writes, but keeps back what is written last.
    fn write(&self, place: u64, data: &[u8], how: Part) -> Result<()> {
        let whole = span(place, data.len() as u64);
        let part = |r: &ByteRange| &data[(r.start - place) as usize..(r.end - place) as usize];
        let mut at = whole.start;
        {
            let mut held = lock(&self.held);
            let first = held.partition_point(|h| h.range.end <= place);
            for h in held[first..].iter_mut() {
                let Some(both) = h.range.intersect(&whole) else {
                    break;
                };
                if at < both.start && how == Part::All {
                    let before = ByteRange {
                        start: at,
                        end: both.start,
                    };
                    self.target.write_at(at, part(&before))?;
                }
                h.pieces.push((both.start, part(&both).to_vec()));
                at = both.end;
            }
        }
        if at < whole.end && how == Part::All {
            self.target.write_at(
                at,
                part(&ByteRange {
                    start: at,
                    end: whole.end,
                }),
            )?;
        }
        Ok(())
    }

    fn zero(&self, place: u64, len: u64) -> Result<()> {
        if self.target.is_fresh() {
            Ok(())
        } else {
            self.target.zero_at(place, len)
        }
    }

    /// Zeros for what a damaged record would have held.
    pub fn zero_lost(&self, damage: &[Damage]) -> Result<()> {
        for d in damage.iter().filter(|d| d.loses_data && !d.doubtful) {
            let Some(landing) = d.region.and_then(|r| self.plan.landing(r)) else {
                continue;
            };
            for r in &d.ranges {
                let end = r.end.min(landing.region.bytes);
                if r.start < end {
                    landing.place(r.start, end - r.start, &mut |to, n| match to {
                        Some(at) => {
                            self.not_inlined(span(at, n));
                            self.target.zero_at(at, n)
                        }
                        None => Ok(()),
                    })?;
                }
            }
        }
        Ok(())
    }

    fn not_inlined(&self, r: ByteRange) {
        if self.is_patched(r) {
            lock(&self.inlined).remove(r);
        }
    }

    /// Writes what is written over the restored bytes and did not come with them.
    pub fn patch(&self, part: Part, observer: &dyn Observer) -> Result<()> {
        let unit = u64::from(self.plan.sector_bytes);
        let inlined = lock(&self.inlined);
        self.plan.each_patch(&mut |at, bytes| {
            if observer.cancelled() {
                return Err(Error::interrupted());
            }
            let whole = span(at, bytes.len() as u64);
            if let Some(touched) = &self.touched {
                lock(touched).insert(at / unit..whole.end.div_ceil(unit));
            }
            if inlined.within(whole).first() == Some(&whole) {
                return Ok(());
            }
            let mut bytes = bytes.to_vec();
            self.plan.patch_tables_into(at, &mut bytes);
            self.write(at, &bytes, part)
        })
    }

    /// What comes last, in the end.
    fn last_bytes(h: &Held) -> Vec<u8> {
        let mut out = vec![0; h.range.len() as usize];
        for (at, bytes) in &h.pieces {
            let from = (at - h.range.start) as usize;
            out[from..from + bytes.len()].copy_from_slice(bytes);
        }
        out
    }

    /// Refuses a target on which what comes last is neither zero nor as it will
    /// be: somebody else has written it since.
    pub fn check_last(&self) -> Result<()> {
        for h in lock(&self.held).iter() {
            let want = Self::last_bytes(h);
            let mut have = vec![0; want.len()];
            self.target.read_at(h.range.start, &mut have)?;
            let sectors = self.plan.sector_bytes as usize;
            let fits = have
                .chunks(sectors)
                .zip(want.chunks(sectors))
                .all(|(a, b)| a == b || crate::archive::is_zero(a));
            if !fits {
                return Err(super::changed(self.target));
            }
        }
        Ok(())
    }

    pub fn release_first_sectors(&self) -> Result<()> {
        // Each is written once: a run that goes on must find it as it will be,
        // or zero.
        let held = lock(&self.held);
        for part in super::plan::in_order(self.plan, &held, |h| h.range) {
            for h in part {
                self.target.write_at(h.range.start, &Self::last_bytes(h))?;
            }
            self.target.sync()?;
        }
        Ok(())
    }

    /// Reads everything back; ranges that are not as they should be.
    pub fn read_back(&self, observer: &dyn Observer) -> Result<Vec<ByteRange>> {
        let mut bad = lock(&self.written).read_back(self.target, self.options.threads, observer)?;
        let mut buf = Vec::new();
        for l in &self.plan.regions {
            let Some(change) = &l.change else { continue };
            change.patches(&mut |at, bytes| {
                if observer.cancelled() {
                    return Err(Error::interrupted());
                }
                let mut want = bytes.to_vec();
                self.plan.patch_tables_into(l.base + at, &mut want);
                self.compare(l.base + at, &want, &mut buf, &mut bad)
            })?;
        }
        for p in &self.plan.patches {
            let mut want = p.bytes.clone();
            self.plan.patch_tables_into(p.at, &mut want);
            self.compare(p.at, &want, &mut buf, &mut bad)?;
        }
        crate::ops::verify::join(&mut bad);
        Ok(bad)
    }

    fn compare(
        &self,
        at: u64,
        want: &[u8],
        buf: &mut Vec<u8>,
        bad: &mut Vec<ByteRange>,
    ) -> Result<()> {
        buf.resize(want.len(), 0);
        self.target.read_at(at, buf)?;
        if buf != want {
            bad.push(span(at, want.len() as u64));
        }
        Ok(())
    }
}

fn span(start: u64, len: u64) -> ByteRange {
    ByteRange {
        start,
        end: start + len,
    }
}
