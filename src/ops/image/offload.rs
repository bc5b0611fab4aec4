//! The data part of a backup to tape, moved by a copy manager.

use super::jobs::{Job, JobKind};
use super::plan::ImagePlan;
use super::tape::end_file;
use crate::archive::{ArchiveId, BLOCK, CellPlace, ChunkRun, Header, RunKind, Writer};
use crate::copy::{
    Backup, Body, Cell, Command, Geometry, Lead, Limits, Piece, PlannedRecord, RecordMaker, Run,
};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{Observer, warning};
use crate::ops::engine::{Cause, CopyFailure, Engine};
use crate::tape::SetWriter;
use crate::units::ByteRange;
use std::collections::HashMap;

/// How often a command is sent again that was not begun, or whose source reads
/// well when the host tries.
const ATTEMPTS: u32 = 3;

/// What a copy manager did.
#[derive(Default)]
pub struct Copied {
    /// Bytes of extents.
    pub bytes: u64,
    /// Commands that ended well.
    pub commands: u64,
}

/// Makes headers of records that nobody sees the data of.
pub struct Maker {
    id: ArchiveId,
    /// Sequence number of the first record of the plan.
    sequence: u64,
    sector: u64,
    cell: u64,
    /// First byte of each region on the disk.
    bases: HashMap<u16, u64>,
}

impl Maker {
    /// For a plan; its first record has this sequence number.
    pub fn new(plan: &ImagePlan, id: ArchiveId, sequence: u64) -> Self {
        Self {
            id,
            sequence,
            sector: u64::from(plan.disk.sector_bytes),
            cell: u64::from(plan.disk.cell_bytes),
            bases: plan
                .regions
                .iter()
                .map(|r| (r.region.number, r.region.start))
                .collect(),
        }
    }

    fn of(&self, r: &PlannedRecord) -> Result<Header> {
        let odd = || Error::damaged(format!("A run does not fit cell {}", r.cell));
        let base = self.bases.get(&r.region).ok_or_else(odd)? + r.cell * self.cell;
        let runs = r
            .runs
            .iter()
            .map(|run| {
                let at = run.lba.checked_mul(self.sector)?.checked_sub(base)?;
                Some(ChunkRun {
                    start: u32::try_from(at / self.sector).ok()?,
                    units: u32::try_from(run.blocks).ok()?,
                    kind: kind_of(run.kind)?,
                })
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(odd)?;
        let place = CellPlace {
            region: r.region,
            cell: r.cell,
            unit: self.sector as u32,
            cell_units: (self.cell / self.sector) as u32,
            granule: 1,
        };
        let mut h = Header::unseen_chunk(self.id, place, &runs);
        h.sequence = self.sequence + r.number;
        h.stream_offset = r.offset;
        h.gap = u32::try_from(r.gap / BLOCK as u64).map_err(|_| odd())?;
        if r.header_len > h.len() as u64 {
            h.longer = u32::try_from(r.header_len).map_err(|_| odd())?;
        }
        if h.len() as u64 != r.header_len || h.raw_len != r.data_len {
            return Err(odd());
        }
        Ok(h)
    }
}

impl RecordMaker for &Maker {
    fn header_len(&self, runs: usize) -> u64 {
        Header::chunk_len(runs)
    }

    fn header(&mut self, record: &PlannedRecord) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.of(record)?.encode(&mut out);
        Ok(out)
    }
}

fn kind_of(code: u8) -> Option<RunKind> {
    [
        RunKind::Data,
        RunKind::Zero,
        RunKind::Unreadable,
        RunKind::Skipped,
    ]
    .get(usize::from(code))
    .copied()
}

/// Moves what the jobs name behind the present place of the stream, and ends
/// the tape file.
pub fn offload(
    plan: &ImagePlan,
    engine: &mut Engine,
    writer: &mut Writer<SetWriter>,
    lead: Lead,
    jobs: impl Iterator<Item = Job>,
    observer: &dyn Observer,
) -> Result<Copied> {
    let (sequence, _) = writer.next_place();
    // Behind what is on the medium; what is counted beyond it is the lead.
    let offset = writer.output().offset();
    let sector = u64::from(plan.disk.sector_bytes);
    let geometry = Geometry::new(u64::from(writer.output().block_bytes()), sector);
    let maker = Maker::new(plan, writer.id(), sequence);
    let cells = jobs.filter_map(|job| cell_of(plan, sector, &job));
    let backup = Backup::new(cells, &maker, &engine.limits, &geometry)?
        .going_on(offset, 0, lead)?
        .filemarks(1);
    let mut mover = Offload {
        plan,
        engine,
        writer,
        observer,
        maker: &maker,
        geometry,
        copied: Copied::default(),
    };
    mover.all(backup)?;
    Ok(mover.copied)
}

/// What a job is for a copy manager: blocks of the disk. None for file records.
pub fn cell_of(plan: &ImagePlan, sector: u64, job: &Job) -> Option<Cell> {
    let JobKind::Cell { cell, .. } = job.kind else {
        return None;
    };
    let region = &plan.regions.get(job.region)?.region;
    let runs = job
        .pieces
        .iter()
        .map(|p| Run {
            lba: (region.start + p.start) / sector,
            blocks: p.len / sector,
            kind: p.kind as u8,
        })
        .collect();
    Some(Cell {
        region: region.number,
        cell,
        runs,
    })
}

impl ImagePlan {
    /// Refuses a copy manager whose granularity some extent does not keep, such as
    /// the odd sectors in front of a partition: before anything is written.
    pub fn check_granularity(&self, limits: &Limits) -> Result<()> {
        let sector = u64::from(self.disk.sector_bytes);
        let unit = limits.data_unit();
        if unit <= sector {
            return Ok(());
        }
        let cells = self.jobs(false).filter_map(|j| cell_of(self, sector, &j));
        match cells.into_iter().find_map(|c| odd_extent(&c, sector, unit)) {
            None => Ok(()),
            Some((lba, bytes)) => Err(Error::unsupported(format!(
                "The copy manager moves multiples of {unit} bytes only, the extent at LBA {lba} has {bytes}"
            ))
            .hint("let the host move the data: --mover host writes the same tape")),
        }
    }
}

/// The first extent of a cell that is no multiple of `unit`, with its bytes;
/// neighbours are one, as in the commands.
fn odd_extent(cell: &Cell, sector: u64, unit: u64) -> Option<(u64, u64)> {
    let mut found = None;
    let mut extent: Option<(u64, u64)> = None;
    for r in cell.runs.iter().filter(|r| r.kind == Run::DATA) {
        extent = match extent {
            Some((lba, blocks)) if lba + blocks == r.lba => Some((lba, blocks + r.blocks)),
            before => {
                found = found.or(before.filter(|e| !(e.1 * sector).is_multiple_of(unit)));
                Some((r.lba, r.blocks))
            }
        };
    }
    let last = extent.filter(|e| !(e.1 * sector).is_multiple_of(unit));
    found.or(last).map(|(lba, blocks)| (lba, blocks * sector))
}

struct Offload<'a> {
    plan: &'a ImagePlan,
    engine: &'a mut Engine,
    writer: &'a mut Writer<SetWriter>,
    observer: &'a dyn Observer,
    maker: &'a Maker,
    geometry: Geometry,
    copied: Copied,
}

type Plan<'m, I> = Backup<I, &'m Maker>;

impl<'m> Offload<'m> {
    fn all<I: Iterator<Item = Cell>>(&mut self, mut backup: Plan<'m, I>) -> Result<()> {
        let mut next = backup.next().transpose()?;
        let mut attempts = 0;
        while let Some(command) = next.take() {
            if self.observer.cancelled() {
                return Err(Error::interrupted());
            }
            // A filemark alone: perhaps an earlier run wrote it already.
            if command.is_for_host() || command.bytes == 0 {
                end_file(self.writer)?;
                next = backup.next().transpose()?;
                continue;
            }
            let bytes = command.end() - command.offset;
            self.writer.output().make_room(bytes)?;
            // The next command is made while this one runs.
            let mut ahead = None;
            let ended = self.engine.run(
                |id| command.parameter_list(id, self.engine.cscds()),
                command.bytes,
                self.observer,
                || ahead = backup.next(),
            );
            let ahead = ahead.transpose()?;
            let failure = match ended {
                Ok(()) => {
                    self.written(&command)?;
                    (next, attempts) = (ahead, 0);
                    continue;
                }
                Err(f) => f,
            };
            attempts += 1;
            if let Some(a) = ahead {
                backup.replan(a, &self.engine.limits, &self.geometry)?;
            }
            backup = self.recover(backup, command, failure, attempts)?;
            next = backup.next().transpose()?;
        }
        // Not there when the copy manager wrote it.
        self.writer.output().end_file()
    }

    fn written(&mut self, command: &Command) -> Result<()> {
        let bytes = command.end() - command.offset;
        let there = self.writer.output().moved(bytes, command.filemarks)?;
        if there != bytes {
            return Err(Error::new(
                ErrorKind::Scsi,
                format!(
                    "The copy manager said it was done with {bytes} bytes, but the tape has {there}"
                ),
            )
            .of(self.engine.name())
            .at(command.offset));
        }
        self.adopt(command)?;
        if command.host_filemarks > 0 {
            self.writer.output().end_file()?;
        }
        self.copied.commands += 1;
        self.copied.bytes += extent_bytes(&command.pieces, self.geometry.disk_block);
        Ok(())
    }

    fn adopt(&mut self, command: &Command) -> Result<()> {
        for r in &command.records {
            let header = self.maker.of(r)?;
            self.writer.adopt(&header);
            for (start, len, kind) in header.byte_runs() {
                let base = self.maker.bases.get(&r.region).copied().unwrap_or(0);
                if kind == RunKind::Data {
                    self.plan.reader.map().mark_good(ByteRange {
                        start: base + start,
                        end: base + start + len,
                    });
                }
            }
        }
        Ok(())
    }

    /// What is to be done after a command that failed: a plan that goes on.
    fn recover<I: Iterator<Item = Cell>>(
        &mut self,
        mut backup: Plan<'m, I>,
        mut command: Command,
        failure: CopyFailure,
        attempts: u32,
    ) -> Result<Plan<'m, I>> {
        let CopyFailure { error, cause } = failure;
        let error = error.hint(format!(
            "what is on the tape stays; {}",
            self.plan.goes_on()
        ));
        match cause {
            Cause::Refused(what) => {
                let less = self
                    .engine
                    .limits
                    .halved(what, &command.used())
                    .ok_or(error)?;
                self.observer.warn(warning(
                    "copy-limits",
                    format!(
                        "{} takes less in one command than it announced or was planned for; the plan is made again",
                        self.engine.name()
                    ),
                ));
                self.engine.limits = less;
                self.writer.output().go_back()?;
                backup.replan(command, &self.engine.limits, &self.geometry)?;
            }
            Cause::Attention if attempts <= ATTEMPTS => {
                self.writer.output().go_back()?;
                backup.replan(command, &self.engine.limits, &self.geometry)?;
            }
            Cause::Source(segment) if !command.records.is_empty() => {
                let found = self.find_bad(&command, segment)?;
                if !found && attempts > ATTEMPTS {
                    return Err(error);
                }
                self.writer.output().go_back()?;
                for r in &mut command.records {
                    r.runs = self.without_bad(&r.runs);
                }
                backup.replan(command, &self.engine.limits, &self.geometry)?;
            }
            Cause::EarlyWarning => {
                let bytes = command.end() - command.offset;
                let there = self.writer.output().moved(bytes, command.filemarks)?;
                self.writer.output().set_nearly_full();
                // Its headers stand, or will stand on the next cartridge.
                self.adopt(&command)?;
                let from = command.offset + there;
                let pieces = command.rest(from, self.geometry.disk_block)?;
                let done = extent_bytes(&command.pieces, self.geometry.disk_block);
                self.copied.bytes += done - extent_bytes(&pieces, self.geometry.disk_block);
                let number = command.records.last().map_or(0, |r| r.number + 1);
                let marks = command.filemarks + command.host_filemarks;
                let lead = Lead {
                    pieces,
                    padded: command.pad > 0,
                };
                backup = backup.going_on(from, number, lead)?;
                if marks > 0 {
                    backup = backup.filemarks(marks);
                }
            }
            _ => return Err(error),
        }
        Ok(backup)
    }

    /// Reads what the failed segment named, sector by sector where it must be:
    /// true when something cannot be read.
    fn find_bad(&self, command: &Command, segment: Option<u16>) -> Result<bool> {
        let before = self.plan.reader.map().bytes();
        let sector = self.geometry.disk_block;
        for (i, s) in command.segments.iter().enumerate() {
            let Body::BlockToStream { blocks, lba, .. } = s.body else {
                continue;
            };
            if segment.is_some_and(|n| usize::from(n) != i) {
                continue;
            }
            let mut at = lba * sector;
            let end = at + u64::from(blocks) * sector;
            let mut buf = vec![0; (1 << 20).min((end - at) as usize)];
            while at < end {
                let n = (end - at).min(buf.len() as u64) as usize;
                self.plan.reader.read_at_marked(at, &mut buf[..n])?;
                at += n as u64;
            }
        }
        Ok(self.plan.reader.map().bytes() > before)
    }

    fn without_bad(&self, runs: &[Run]) -> Vec<Run> {
        let sector = self.geometry.disk_block;
        let mut out = Vec::with_capacity(runs.len());
        for run in runs {
            let mut at = run.lba;
            let end = run.lba + run.blocks;
            let part = |from, to, kind| Run {
                lba: from,
                blocks: to - from,
                kind,
            };
            if run.is_data() {
                let bad = self.plan.reader.map().within(ByteRange {
                    start: at * sector,
                    end: end * sector,
                });
                for b in bad {
                    let from = (b.start / sector).clamp(at, end);
                    let to = b.end.div_ceil(sector).clamp(from, end);
                    out.push(part(at, from, run.kind));
                    out.push(part(from, to, RunKind::Unreadable as u8));
                    at = to;
                }
            }
            out.push(part(at, end, run.kind));
        }
        out.retain(|r| r.blocks > 0);
        out
    }
}

fn extent_bytes(pieces: &[Piece], disk_block: u64) -> u64 {
    pieces
        .iter()
        .filter(|p| matches!(p, Piece::Extent { .. }))
        .map(|p| p.bytes(disk_block))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_that_are_no_multiples_are_found() {
        let cell = |runs: &[(u64, u64, u8)]| Cell {
            region: 1,
            cell: 0,
            runs: runs
                .iter()
                .map(|&(lba, blocks, kind)| Run { lba, blocks, kind })
                .collect(),
        };
        let odd = |runs: &[(u64, u64, u8)]| odd_extent(&cell(runs), 512, 4096);
        assert_eq!(odd(&[(8, 16, 0), (40, 8, 0)]), None);
        // Neighbours count together, what is not moved not at all.
        assert_eq!(odd(&[(0, 3, 0), (3, 5, 0), (8, 7, 1)]), None);
        assert_eq!(odd(&[(0, 8, 0), (16, 7, 0)]), Some((16, 3584)));
        assert_eq!(odd(&[(1, 7, 0), (16, 8, 0)]), Some((1, 3584)));
    }
}
