//! Reading a damaged medium to the end: what cannot be read is tried again,
//! narrowed down to sectors, read as zeros and recorded; the run goes on.

use super::{MapBlock, Phase, RangeSet, RescueMap, SharedSource, Source, Status, posix};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::CancelFlag;
use crate::units::ByteRange;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How hard to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RescueOptions {
    /// Further attempts at a sector that failed.
    pub retries: u32,
    /// After this many unreadable bytes in one stretch, a dead head or
    /// surface is assumed: from there on each piece of `skip` bytes whose first
    /// and last sector both fail is given up unread, until a sector reads well
    /// again. `None`: try every sector, however long it takes.
    pub skip_after: Option<u64>,
    /// Size of such a piece in bytes.
    pub skip: u64,
}

impl Default for RescueOptions {
    fn default() -> Self {
        Self {
            retries: 1,
            skip_after: Some(1 << 20),
            skip: 64 << 10,
        }
    }
}

#[derive(Default)]
struct Marks {
    good: RangeSet,
    /// Tried sector by sector.
    bad: RangeSet,
    /// Given up without trying each sector.
    skipped: RangeSet,
    /// `bad` and `skipped` together.
    lost: RangeSet,
}

/// Which bytes of a source were read and which could not be. Shared by every
/// thread that reads.
#[derive(Default)]
pub struct BadMap {
    marks: Mutex<Marks>,
}

impl BadMap {
    /// Nothing known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over what an earlier rescue found: its bad and its unread areas
    /// count as unreadable.
    pub fn from_map(map: &RescueMap) -> Self {
        let out = Self::new();
        for MapBlock { range, status } in &map.blocks {
            match status {
                Status::Finished => out.mark_good(*range),
                Status::Bad => out.mark_bad(*range),
                _ => out.mark_skipped(*range),
            }
        }
        out
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records bytes as read, by an earlier run perhaps.
    pub fn mark_good(&self, r: ByteRange) {
        self.marks().good.insert(r);
    }

    /// Records bytes as unreadable.
    pub fn mark_bad(&self, r: ByteRange) {
        let mut m = self.marks();
        m.bad.insert(r);
        m.lost.insert(r);
    }

    /// Records bytes as given up without trying each sector.
    pub fn mark_skipped(&self, r: ByteRange) {
        let mut m = self.marks();
        m.skipped.insert(r);
        m.lost.insert(r);
    }

    /// Everything unreadable, in order.
    pub fn ranges(&self) -> Vec<ByteRange> {
        self.marks().lost.iter().collect()
    }

    /// The unreadable parts of `range`, in order.
    pub fn within(&self, range: ByteRange) -> Vec<ByteRange> {
        self.marks().lost.within(range)
    }

    /// How many bytes are unreadable.
    pub fn bytes(&self) -> u64 {
        self.marks().lost.bytes()
    }

    /// How many of them were given up without trying each sector.
    pub fn skipped_bytes(&self) -> u64 {
        self.marks().skipped.bytes()
    }

    /// True when nothing was unreadable so far.
    pub fn is_empty(&self) -> bool {
        self.marks().lost.is_empty()
    }

    /// Length of the unreadable stretch that ends at `at`.
    fn stretch(&self, at: u64) -> u64 {
        self.marks().lost.ending_at(at).map_or(0, |r| r.len())
    }

    /// As a ddrescue map of a medium of `len` bytes. What no read asked for is
    /// "not tried".
    pub fn to_map(&self, len: u64) -> RescueMap {
        let m = self.marks();
        let mut map = RescueMap {
            current_pos: 0,
            phase: Phase::Finished,
            pass: 1,
            blocks: Vec::new(),
        };
        let all = ByteRange { start: 0, end: len };
        // From the most to the least certain; each takes what is left.
        let mut blocks: Vec<MapBlock> = Vec::new();
        let mut rest = vec![all];
        for (set, status) in [
            (&m.bad, Status::Bad),
            (&m.skipped, Status::NonScraped),
            (&m.good, Status::Finished),
        ] {
            let mut left = Vec::new();
            for r in rest {
                let hit = set.within(r);
                blocks.extend(hit.into_iter().map(|range| MapBlock { range, status }));
                left.extend(set.without(r));
            }
            rest = left;
        }
        blocks.extend(rest.into_iter().map(|range| MapBlock {
            range,
            status: Status::NonTried,
        }));
        blocks.sort_by_key(|b| b.range.start);
        for b in blocks {
            map.push(b.range, b.status);
        }
        if map.bytes(Status::NonTried) > 0 {
            map.phase = Phase::Copying;
        } else if map.bytes(Status::NonScraped) > 0 {
            map.phase = Phase::Scraping;
        }
        map
    }
}

/// A source whose reads do not fail because of bad sectors.
pub struct RescueSource {
    inner: SharedSource,
    len: u64,
    options: RescueOptions,
    map: Arc<BadMap>,
    cancel: Option<Arc<CancelFlag>>,
}

impl RescueSource {
    /// Wraps a source; what is unreadable goes into `map`.
    pub fn new(inner: SharedSource, options: RescueOptions, map: Arc<BadMap>) -> Self {
        Self {
            len: inner.len(),
            inner,
            options,
            map,
            cancel: None,
        }
    }

    /// The length that it should have, in bytes: what a truncated source lacks
    /// up to there is unreadable.
    pub fn with_expected_len(mut self, len: u64) -> Self {
        self.len = self.len.max(len);
        self
    }

    /// Looks at this flag between attempts: a dying disk may need minutes for
    /// one read.
    pub fn with_cancel(mut self, cancel: Arc<CancelFlag>) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// The shared record of what is unreadable.
    pub fn map(&self) -> &Arc<BadMap> {
        &self.map
    }

    /// Fills `buf` from `offset` on, zeros where nothing can be read, and tells
    /// which absolute byte ranges those are (whole sectors, cut to this read).
    /// Fails only for other reasons: the device is gone, the run was stopped.
    pub fn read_at_marked(&self, offset: u64, buf: &mut [u8]) -> Result<Vec<ByteRange>> {
        posix::check_range(self.name(), self.len, offset, buf.len(), "read")?;
        let range = ByteRange {
            start: offset,
            end: offset + buf.len() as u64,
        };
        let present = self.inner.len();
        if range.end > present {
            self.map.mark_bad(ByteRange {
                start: range.start.max(present),
                end: range.end,
            });
        }
        let known: RangeSet = self.map.within(range).into_iter().collect();
        for r in known.iter() {
            part(buf, offset, r).fill(0);
        }
        for r in known.without(range) {
            match self.inner.read_at(r.start, part(buf, offset, r)) {
                Ok(()) => self.map.mark_good(r),
                Err(e) if e.kind() == ErrorKind::Unreadable => self.narrow(r, offset, buf)?,
                Err(e) => return Err(e),
            }
        }
        Ok(self.map.within(range))
    }

    /// Reads the readable parts of a range that failed as a whole.
    fn narrow(&self, range: ByteRange, offset: u64, buf: &mut [u8]) -> Result<()> {
        // Parts still to be read, in order; `true`: known to fail as a whole.
        let mut todo = VecDeque::from([(range, true)]);
        while let Some((r, fails)) = todo.pop_front() {
            let single = self.next_sector(r.start) >= r.end;
            if let (false, Some(limit)) = (single, self.options.skip_after)
                && self.map.stretch(r.start) >= limit
            {
                let piece = r
                    .start
                    .saturating_add(self.options.skip)
                    .max(self.next_sector(r.start));
                if piece < r.end {
                    todo.push_front((ByteRange { start: piece, ..r }, false));
                }
                let r = ByteRange {
                    end: piece.min(r.end),
                    ..r
                };
                self.probe_edges(r, offset, buf, &mut todo)?;
                continue;
            }
            if single {
                if !self.attempt(r, offset, buf, 1 + self.options.retries)? {
                    self.lose(r, offset, buf, false);
                }
                continue;
            }
            if !fails && self.attempt(r, offset, buf, 1)? {
                continue;
            }
            let middle = self.middle(r);
            let (a, b) = (
                ByteRange { end: middle, ..r },
                ByteRange { start: middle, ..r },
            );
            if self.attempt(
                a,
                offset,
                buf,
                if self.is_single(a) {
                    1 + self.options.retries
                } else {
                    1
                },
            )? {
                // Then the fault is in the other half; no need to see it fail.
                todo.push_front((b, true));
            } else if self.is_single(a) {
                self.lose(a, offset, buf, false);
                todo.push_front((b, false));
            } else {
                todo.push_front((b, false));
                todo.push_front((a, true));
            }
        }
        Ok(())
    }

    /// Inside a dead area: reads the first and the last sector of `r`; gives it
    /// up when both fail, leaves the rest to be read normally otherwise.
    fn probe_edges(
        &self,
        r: ByteRange,
        offset: u64,
        buf: &mut [u8],
        todo: &mut VecDeque<(ByteRange, bool)>,
    ) -> Result<()> {
        let second = self.next_sector(r.start).min(r.end);
        let first = ByteRange { end: second, ..r };
        if self.attempt(first, offset, buf, 1)? {
            if second < r.end {
                todo.push_front((ByteRange { start: second, ..r }, false));
            }
            return Ok(());
        }
        let sector = self.sector();
        let last_start = ((r.end - 1) / sector * sector).max(second);
        let last = ByteRange {
            start: last_start,
            ..r
        };
        if last.is_empty() || !self.attempt(last, offset, buf, 1)? {
            self.lose(r, offset, buf, true);
            return Ok(());
        }
        // The end reads again: the inside is worth the time. The first sector
        // is bad; what follows is searched as usual.
        self.lose(first, offset, buf, false);
        let mut at = second;
        while at < last_start {
            // Sector by sector: asking for the stretch again would skip it.
            let s = ByteRange {
                start: at,
                end: self.next_sector(at).min(last_start),
            };
            if !self.attempt(s, offset, buf, 1)? {
                self.lose(s, offset, buf, false);
            }
            at = s.end;
        }
        Ok(())
    }

    /// Tries to read `r` up to `times` times.
    fn attempt(&self, r: ByteRange, offset: u64, buf: &mut [u8], times: u32) -> Result<bool> {
        for _ in 0..times {
            if self.cancel.as_ref().is_some_and(|c| c.is_set()) {
                return Err(Error::interrupted());
            }
            match self.inner.read_at(r.start, part(buf, offset, r)) {
                Ok(()) => {
                    self.map.mark_good(r);
                    return Ok(true);
                }
                Err(e) if e.kind() == ErrorKind::Unreadable => {}
                Err(e) => return Err(e),
            }
        }
        Ok(false)
    }

    /// Records `r` (widened to whole sectors) and zeros its part of `buf`.
    fn lose(&self, r: ByteRange, offset: u64, buf: &mut [u8], skipped: bool) {
        part(buf, offset, r).fill(0);
        let s = self.sector();
        let whole = ByteRange {
            start: r.start / s * s,
            end: self.next_sector(r.end.saturating_sub(1)).min(self.len),
        };
        match skipped {
            true => self.map.mark_skipped(whole),
            false => self.map.mark_bad(whole),
        }
    }

    fn sector(&self) -> u64 {
        u64::from(self.inner.sector_size()).max(1)
    }

    /// Where the sector after the one that holds `at` begins.
    fn next_sector(&self, at: u64) -> u64 {
        (at / self.sector() + 1).saturating_mul(self.sector())
    }

    fn is_single(&self, r: ByteRange) -> bool {
        self.next_sector(r.start) >= r.end
    }

    /// A sector border strictly inside `r`, which spans more than one sector.
    fn middle(&self, r: ByteRange) -> u64 {
        let s = self.sector();
        let m = (r.start + r.len() / 2) / s * s;
        if m > r.start {
            m
        } else {
            self.next_sector(r.start)
        }
    }
}

/// The part of `buf` (which begins at byte `offset`) that holds `r`.
fn part(buf: &mut [u8], offset: u64, r: ByteRange) -> &mut [u8] {
    &mut buf[(r.start - offset) as usize..(r.end - offset) as usize]
}

impl Source for RescueSource {
    fn len(&self) -> u64 {
        self.len
    }
    fn sector_size(&self) -> u32 {
        self.inner.sector_size()
    }
    /// Zeros where nothing can be read; [`RescueSource::map`] knows where.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.read_at_marked(offset, buf).map(|_| ())
    }
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn will_need(&self, offset: u64, len: u64) {
        self.inner.will_need(offset, len);
    }
}

#[cfg(test)]
mod tests;
