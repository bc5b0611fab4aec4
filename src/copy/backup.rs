//! Backup plans: cells become records, records become commands, one command
//! after the other and never more than one in memory.

use super::fill::{Caps, Cost, Extents};
use super::limits::Limits;
use super::plan::{Command, Geometry, Piece, PlannedRecord, Run};
use crate::error::{Error, Result};
use lead::stuck;
use std::collections::VecDeque;

mod lead;

/// A grid cell, or what of it is not planned yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Region.
    pub region: u16,
    /// Cell number.
    pub cell: u64,
    /// Runs, ascending, none over another.
    pub runs: Vec<Run>,
}

/// Makes the headers of records: the stream is not this folder's subject.
pub trait RecordMaker {
    /// Bytes of the header of a record with so many runs; it does not fall with
    /// their number.
    fn header_len(&self, runs: usize) -> u64;

    /// The header, `record.header_len` bytes long. A record that is planned again
    /// comes again, perhaps with other runs.
    fn header(&mut self, record: &PlannedRecord) -> Result<Vec<u8>>;
}

impl<M: RecordMaker + ?Sized> RecordMaker for &mut M {
    fn header_len(&self, runs: usize) -> u64 {
        (**self).header_len(runs)
    }

    fn header(&mut self, record: &PlannedRecord) -> Result<Vec<u8>> {
        (**self).header(record)
    }
}

/// What a copy that broke off has to write first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lead {
    /// The rest of a command, from [`Command::rest`].
    pub pieces: Vec<Piece>,
    /// Zeros fill up to a tape block behind it, as its last record states.
    pub padded: bool,
}

/// The commands of a backup, made one by one.
pub struct Backup<I: Iterator<Item = Cell>, M> {
    cells: I,
    maker: M,
    limits: Limits,
    caps: Caps,
    header_unit: u64,
    offset: u64,
    number: u64,
    lead: VecDeque<Piece>,
    lead_padded: bool,
    pending: VecDeque<Cell>,
    filemarks: u32,
    /// Filemarks that need a command of their own.
    owed: u32,
    over: bool,
}

/// A record on its way into a command.
struct Draft {
    region: u16,
    cell: u64,
    runs: Vec<Run>,
    /// From the start of the command.
    start: u64,
    header_len: u64,
    data_len: u64,
}

impl Draft {
    fn end(&self) -> u64 {
        self.start + self.header_len + self.data_len
    }
}

/// Commands for bare pieces: the stretch ends filled up to a tape block, with
/// so many filemarks behind it.
pub fn pieces(
    pieces: Vec<Piece>,
    limits: &Limits,
    geometry: &Geometry,
    offset: u64,
    filemarks: u32,
) -> Result<Vec<Command>> {
    struct Nobody;
    impl RecordMaker for Nobody {
        fn header_len(&self, _: usize) -> u64 {
            0
        }
        fn header(&mut self, _: &PlannedRecord) -> Result<Vec<u8>> {
            Ok(Vec::new())
        }
    }
    let lead = Lead {
        pieces,
        padded: true,
    };
    Backup::new(std::iter::empty(), Nobody, limits, geometry)?
        .going_on(offset, 0, lead)?
        .filemarks(filemarks)
        .collect()
}

impl<I: Iterator<Item = Cell>, M: RecordMaker> Backup<I, M> {
    /// A plan for these cells, from stream offset 0 on. The cells of a region
    /// ascend.
    pub fn new(cells: I, maker: M, limits: &Limits, geometry: &Geometry) -> Result<Self> {
        Ok(Self {
            cells,
            maker,
            caps: Caps::new(limits, geometry)?,
            header_unit: geometry.header_unit(limits),
            limits: limits.clone(),
            offset: 0,
            number: 0,
            lead: VecDeque::new(),
            lead_padded: false,
            pending: VecDeque::new(),
            filemarks: 0,
            owed: 0,
            over: false,
        })
    }

    /// Begins at another stream offset, a multiple of T, with this record
    /// number; first comes what an earlier run left of a command.
    pub fn going_on(mut self, offset: u64, number: u64, lead: Lead) -> Result<Self> {
        if !offset.is_multiple_of(self.caps.tape_block) {
            return Err(Error::usage(format!(
                "Stream offset {offset} is not a multiple of the tape block of {}",
                self.caps.tape_block
            )));
        }
        self.over = false;
        self.offset = offset;
        self.number = number;
        self.lead = lead.pieces.into();
        self.lead_padded = lead.padded;
        Ok(self)
    }

    /// So many filemarks behind the last command.
    pub fn filemarks(mut self, count: u32) -> Self {
        self.filemarks = count;
        self
    }

    /// Stream offset at which the next command begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Plans everything behind `last`, which was refused or of which nothing
    /// was written, with other limits.
    pub fn replan(&mut self, last: Command, limits: &Limits, geometry: &Geometry) -> Result<()> {
        let lead_len = last.bytes
            - last
                .records
                .iter()
                .map(|r| r.header_len + r.data_len)
                .sum::<u64>();
        let caps = Caps::new(limits, geometry)?;
        if caps.tape_block != self.caps.tape_block || caps.disk_block != self.caps.disk_block {
            return Err(Error::usage(
                "Tape blocks and disk blocks stay what they are",
            ));
        }
        let records = last.records.len() as u64;
        for r in last.records.into_iter().rev() {
            self.put_back(r.region, r.cell, r.runs);
        }
        let mut at = 0;
        let mut lead = Vec::new();
        for p in last.pieces {
            if at >= lead_len {
                break;
            }
            at += p.bytes(caps.disk_block);
            lead.push(p);
        }
        for p in lead.into_iter().rev() {
            self.lead.push_front(p);
        }
        self.offset = last.offset;
        if last.filemarks + last.host_filemarks > 0 {
            self.filemarks = last.filemarks + last.host_filemarks;
        }
        if lead_len > 0 && records == 0 && last.pad > 0 {
            self.lead_padded = true;
        }
        self.number -= records;
        self.owed = 0;
        self.over = false;
        self.header_unit = geometry.header_unit(limits);
        self.limits = limits.clone();
        self.caps = caps;
        Ok(())
    }

    fn put_back(&mut self, region: u16, cell: u64, mut runs: Vec<Run>) {
        match self.pending.front_mut() {
            Some(c) if (c.region, c.cell) == (region, cell) => {
                runs.append(&mut c.runs);
                c.runs = coalesced(runs);
            }
            _ => self.pending.push_front(Cell { region, cell, runs }),
        }
    }

    fn next_cell(&mut self) -> Result<Option<Cell>> {
        if let Some(c) = self.pending.pop_front() {
            return Ok(Some(c));
        }
        for mut c in self.cells.by_ref() {
            let ordered = c.runs.windows(2).all(|w| {
                w[0].lba
                    .checked_add(w[0].blocks)
                    .is_some_and(|e| e <= w[1].lba)
            });
            if !ordered {
                return Err(Error::usage(format!(
                    "The runs of cell {} of region {} do not ascend",
                    c.cell, c.region
                )));
            }
            c.runs = coalesced(c.runs);
            if !c.runs.is_empty() {
                return Ok(Some(c));
            }
        }
        Ok(None)
    }

    fn header_len(&self, runs: usize) -> u64 {
        self.maker
            .header_len(runs)
            .next_multiple_of(self.header_unit)
    }

    /// As many runs of a cell as fit, and what is left of it.
    fn fit(&self, base: Cost, cell: Cell) -> Result<(Vec<Run>, Cost, Option<Cell>)> {
        let (mut taken, mut ext) = (Vec::new(), Extents::default());
        let mut cost = base;
        let Cell {
            region,
            cell,
            mut runs,
        } = cell;
        let mut rest = None;
        for (i, run) in runs.iter().enumerate() {
            let header = self.caps.inline(base, self.header_len(i + 1));
            let more = match run.is_data() {
                true => {
                    self.caps.check_extent(run.lba, run.blocks)?;
                    self.caps.extent(ext, run.blocks)
                }
                false => Some(ext),
            };
            let whole = header
                .zip(more)
                .and_then(|(h, e)| Some((self.caps.extents(h, e)?, e)));
            if let Some((c, e)) = whole {
                taken.push(*run);
                (cost, ext) = (c, e);
                continue;
            }
            rest = Some((i, 0));
            // Part of a long run may fit.
            let before = header.and_then(|h| self.caps.extents(h, ext));
            if let Some(c) = before.filter(|_| run.is_data()) {
                let n = self.caps.room(c).min(run.blocks);
                if let Some(c) = (n > 0)
                    .then(|| self.caps.extent(ext, n))
                    .flatten()
                    .and_then(|e| self.caps.extents(header?, e))
                {
                    taken.push(Run { blocks: n, ..*run });
                    cost = c;
                    rest = Some((i, n));
                }
            }
            break;
        }
        let rest = rest.map(|(i, n)| {
            runs.drain(..i);
            if let Some(first) = runs.first_mut() {
                first.lba += n;
                first.blocks -= n;
            }
            Cell { region, cell, runs }
        });
        Ok((taken, cost, rest))
    }

    /// Cuts the records so that the command ends on a tape block, where a run
    /// is long enough; what was cut off goes back.
    fn trim(&mut self, lead: u64, drafts: &mut Vec<Draft>) {
        let t = self.caps.tape_block;
        let total = drafts.last().map_or(lead, Draft::end);
        let mut end = total / t * t;
        if end == total {
            return;
        }
        while end >= t && end > lead && end >= total / 2 {
            let hit = drafts.iter().position(|d| d.start < end && end <= d.end());
            if let Some((i, (keep, rest))) =
                hit.and_then(|i| Some((i, self.cut(drafts.get(i)?, end)?)))
            {
                for d in drafts.drain(i + 1..).rev().collect::<Vec<_>>() {
                    self.put_back(d.region, d.cell, d.runs);
                }
                if let Some(d) = drafts.last_mut() {
                    let (region, cell) = (d.region, d.cell);
                    d.header_len = self
                        .maker
                        .header_len(keep.len())
                        .next_multiple_of(self.header_unit);
                    d.data_len = end - d.start - d.header_len;
                    d.runs = keep;
                    if !rest.is_empty() {
                        self.put_back(region, cell, rest);
                    }
                }
                return;
            }
            end -= t;
        }
    }

    /// The runs of a record that ends at `end`, and the others.
    fn cut(&self, d: &Draft, end: u64) -> Option<(Vec<Run>, Vec<Run>)> {
        let bytes = |r: &Run| {
            if r.is_data() {
                r.blocks * self.caps.disk_block
            } else {
                0
            }
        };
        let want = end - d.start;
        let mut before: u64 = d.data_len;
        for (k, run) in d.runs.iter().enumerate().rev() {
            let after = before;
            before -= bytes(run);
            let Some(data) = want.checked_sub(self.header_len(k + 1)) else {
                continue;
            };
            let part = data.checked_sub(before);
            let fits = match part {
                Some(n) if run.is_data() => {
                    n > 0 && data <= after && n.is_multiple_of(self.caps.data_unit)
                }
                Some(n) => n == 0,
                None => false,
            };
            let Some(n) = part.filter(|_| fits) else {
                if after + self.header_len(k + 1) < want {
                    return None;
                }
                continue;
            };
            let mut keep = d.runs.get(..=k)?.to_vec();
            let mut rest = d.runs.get(k + 1..)?.to_vec();
            let n = n / self.caps.disk_block;
            if run.is_data() && n < run.blocks {
                keep.last_mut()?.blocks = n;
                rest.insert(
                    0,
                    Run {
                        lba: run.lba + n,
                        blocks: run.blocks - n,
                        kind: run.kind,
                    },
                );
            }
            return Some((keep, rest));
        }
        None
    }

    fn next_command(&mut self) -> Result<Option<Command>> {
        let mut cost = self.caps.empty();
        let mut lead = self.take_lead(&mut cost)?;
        let lead_len = cost.bytes;
        let t = self.caps.tape_block;
        if !self.lead.is_empty() {
            // More lead than fits: its commands end on tape blocks.
            let at = lead_len / t * t;
            if at == 0 {
                return Err(stuck());
            }
            self.cut_lead(&mut lead, lead_len, at)?;
            return self.close(lead, Vec::new()).map(Some);
        }
        let mut drafts: Vec<Draft> = Vec::new();
        let ends_here = self.lead_padded && !lead.is_empty();
        self.lead_padded &= lead.is_empty();
        let mut full = ends_here;
        while !full {
            let Some(cell) = self.next_cell()? else { break };
            let (region, number) = (cell.region, cell.cell);
            let start = cost.bytes;
            let (runs, after, rest) = self.fit(cost, cell)?;
            if let Some(rest) = rest {
                full = true;
                self.put_back(rest.region, rest.cell, rest.runs);
            }
            if runs.is_empty() {
                break;
            }
            let header_len = self.header_len(runs.len());
            drafts.push(Draft {
                region,
                cell: number,
                runs,
                start,
                header_len,
                data_len: after.bytes - start - header_len,
            });
            cost = after;
        }
        if full && !ends_here {
            if drafts.is_empty() && lead.is_empty() {
                return Err(Error::unsupported(
                    "The copy manager takes too little in one command for a record and its header",
                )
                .hint("let the host move the data: --mover host writes the same tape"));
            }
            self.trim(lead_len, &mut drafts);
            let total = drafts.last().map_or(lead_len, Draft::end);
            if drafts.is_empty() && !total.is_multiple_of(t) {
                let at = total / t * t;
                if at == 0 {
                    return Err(stuck());
                }
                self.cut_lead(&mut lead, lead_len, at)?;
            }
        }
        if drafts.is_empty() && lead.is_empty() {
            return Ok(None);
        }
        self.close(lead, drafts).map(Some)
    }

    /// Makes the headers and the command.
    fn close(&mut self, mut pieces: Vec<Piece>, drafts: Vec<Draft>) -> Result<Command> {
        let t = self.caps.tape_block;
        let mut records = Vec::with_capacity(drafts.len());
        let n = drafts.len();
        for (i, d) in drafts.into_iter().enumerate() {
            let end = d.end();
            let record = PlannedRecord {
                number: self.number,
                region: d.region,
                cell: d.cell,
                offset: self.offset + d.start,
                header_len: d.header_len,
                data_len: d.data_len,
                gap: match i + 1 == n {
                    true => end.next_multiple_of(t) - end,
                    false => 0,
                },
                runs: d.runs,
            };
            let header = self.maker.header(&record)?;
            if header.len() as u64 != record.header_len {
                return Err(Error::usage(format!(
                    "A record header has {} bytes, expected {}",
                    header.len(),
                    record.header_len
                )));
            }
            pieces.push(Piece::Inline(header));
            pieces.extend(
                record
                    .runs
                    .iter()
                    .filter(|r| r.is_data())
                    .map(|r| Piece::Extent {
                        lba: r.lba,
                        blocks: r.blocks,
                    }),
            );
            records.push(record);
            self.number += 1;
        }
        let command = Command::assemble(self.offset, pieces, records, &self.caps)?;
        self.offset = command.end();
        Ok(command)
    }

    /// True when nothing is left to plan.
    fn exhausted(&mut self) -> Result<bool> {
        if !self.lead.is_empty() || !self.pending.is_empty() {
            return Ok(false);
        }
        match self.next_cell()? {
            Some(c) => {
                self.pending.push_front(c);
                Ok(false)
            }
            None => Ok(true),
        }
    }

    /// The filemarks behind everything: in the last command, in one of their
    /// own, or by the host.
    fn mark(&mut self, command: &mut Command) {
        let count = std::mem::take(&mut self.filemarks);
        if count == 0 || command.add_filemarks(count, &self.limits) {
            return;
        }
        let code = super::limits::segment::FILEMARKS;
        if self.limits.has(code) && !command.segments.is_empty() {
            self.owed = count;
        } else {
            command.host_filemarks = count;
        }
    }

    fn step(&mut self) -> Result<Option<Command>> {
        if self.owed > 0 {
            self.filemarks = std::mem::take(&mut self.owed);
            return self.only_filemarks().map(Some);
        }
        match self.next_command()? {
            Some(mut c) => {
                if self.exhausted()? {
                    self.mark(&mut c);
                }
                Ok(Some(c))
            }
            None if self.filemarks > 0 => self.only_filemarks().map(Some),
            None => Ok(None),
        }
    }

    fn only_filemarks(&mut self) -> Result<Command> {
        let mut c = Command::assemble(self.offset, Vec::new(), Vec::new(), &self.caps)?;
        self.mark(&mut c);
        Ok(c)
    }
}

impl<I: Iterator<Item = Cell>, M: RecordMaker> Iterator for Backup<I, M> {
    type Item = Result<Command>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let step = self.step();
        self.over = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}

/// Neighbouring runs of one kind as one; empty ones left out.
fn coalesced(runs: Vec<Run>) -> Vec<Run> {
    let mut out: Vec<Run> = Vec::with_capacity(runs.len());
    for r in runs.into_iter().filter(|r| r.blocks > 0) {
        match out.last_mut() {
            Some(p) if p.kind == r.kind && p.lba.checked_add(p.blocks) == Some(r.lba) => {
                p.blocks = p.blocks.saturating_add(r.blocks);
            }
            _ => out.push(r),
        }
    }
    out
}
