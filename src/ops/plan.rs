//! `plan`: what EXTENDED COPY would have to do for a source, command by command.

use super::image::{ImagePlan, Job, JobKind, Jobs};
use crate::archive::{ArchiveId, CellPlace, ChunkRun, Header, RunKind};
use crate::copy::{Backup, Cell, Command, Geometry, Limits, PlannedRecord, RecordMaker, Run};
use crate::error::{Error, Result};
use serde::Serialize;

/// Bytes of a grid cell when a copy manager moves the data: nothing is
/// compressed, so that a cell costs a header and no more.
pub const CELL_BYTES: u32 = 32 << 20;

/// Filemarks behind the tape file of the chunks.
pub const DATA_FILEMARKS: u32 = 1;

/// The chunks of a plan as cells of the disk.
pub struct Cells<'a> {
    jobs: Jobs<'a>,
    starts: Vec<(u16, u64)>,
    sector: u64,
}

impl<'a> Cells<'a> {
    /// Checks that everything lies on sectors, as a disk has them.
    pub fn new(plan: &'a ImagePlan) -> Result<Self> {
        let sector = u64::from(plan.disk.sector_bytes);
        for r in &plan.regions {
            let odd = |n: u64| !n.is_multiple_of(sector);
            if odd(r.region.start) || odd(r.region.bytes) {
                return Err(Error::unsupported(format!(
                    "Region {} does not lie on sectors of {sector} bytes",
                    r.region.number
                ))
                .of(plan.source.path.clone()));
            }
        }
        Ok(Self {
            jobs: plan.jobs(false),
            starts: plan
                .regions
                .iter()
                .map(|r| (r.region.number, r.region.start / sector))
                .collect(),
            sector,
        })
    }
}

impl Iterator for Cells<'_> {
    type Item = Cell;

    fn next(&mut self) -> Option<Cell> {
        loop {
            let Job {
                region,
                kind,
                pieces,
            } = self.jobs.next()?;
            let (JobKind::Cell { cell, .. }, Some(&(number, start))) =
                (kind, self.starts.get(region))
            else {
                continue;
            };
            let runs = pieces
                .iter()
                .map(|p| Run {
                    lba: start + p.start / self.sector,
                    blocks: p.len / self.sector,
                    kind: p.kind as u8,
                })
                .collect();
            return Some(Cell {
                region: number,
                cell,
                runs,
            });
        }
    }
}

/// Makes the headers of Chunk records whose bytes nobody here sees.
pub struct ChunkHeaders {
    id: ArchiveId,
    sector: u32,
    cell_units: u32,
    starts: Vec<(u16, u64)>,
    first_sequence: u64,
}

impl ChunkHeaders {
    /// For a plan; the first Chunk has this sequence number.
    pub fn new(plan: &ImagePlan, id: ArchiveId, first_sequence: u64) -> Self {
        let sector = plan.disk.sector_bytes;
        Self {
            id,
            sector,
            cell_units: plan.disk.cell_bytes / sector.max(1),
            starts: plan
                .regions
                .iter()
                .map(|r| (r.region.number, r.region.start / u64::from(sector.max(1))))
                .collect(),
            first_sequence,
        }
    }

    /// The header of a planned record.
    pub fn make(&self, r: &PlannedRecord) -> Result<Header> {
        let bad = || {
            Error::damaged(format!(
                "A run of cell {} of region {} does not fit the cell",
                r.cell, r.region
            ))
        };
        let start = self.starts.iter().find(|s| s.0 == r.region).map(|s| s.1);
        let first = r
            .cell
            .checked_mul(u64::from(self.cell_units))
            .and_then(|n| n.checked_add(start?))
            .ok_or_else(bad)?;
        let runs = r
            .runs
            .iter()
            .map(|run| {
                Ok(ChunkRun {
                    start: run
                        .lba
                        .checked_sub(first)
                        .and_then(|n| u32::try_from(n).ok())
                        .ok_or_else(bad)?,
                    units: u32::try_from(run.blocks).map_err(|_| bad())?,
                    kind: match run.kind {
                        0 => RunKind::Data,
                        1 => RunKind::Zero,
                        2 => RunKind::Unreadable,
                        _ => RunKind::Skipped,
                    },
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let place = CellPlace {
            region: r.region,
            cell: r.cell,
            unit: self.sector,
            cell_units: self.cell_units,
            granule: 0,
        };
        let mut h = Header::unseen_chunk(self.id, place, &runs);
        h.sequence = self.first_sequence + r.number;
        h.stream_offset = r.offset;
        h.gap = u32::try_from(r.gap / crate::archive::BLOCK as u64).map_err(|_| bad())?;
        if h.len() as u64 != r.header_len {
            h.longer = u32::try_from(r.header_len).map_err(|_| bad())?;
        }
        Ok(h)
    }
}

impl RecordMaker for ChunkHeaders {
    fn header_len(&self, runs: usize) -> u64 {
        Header::chunk_len(runs)
    }

    fn header(&mut self, record: &PlannedRecord) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.make(record)?.encode(&mut out);
        Ok(out)
    }
}

/// The sum of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// EXTENDED COPY commands.
    pub commands: u64,
    /// Their segments.
    pub segments: u64,
    /// Records of the stream.
    pub records: u64,
    /// Bytes that the copy manager moves from disk to tape.
    pub copied_bytes: u64,
    /// Bytes of record headers, which the host sends along.
    pub header_bytes: u64,
    /// Bytes of all parameter lists: everything the host sends for the data.
    pub list_bytes: u64,
    /// Zero bytes that fill up tape blocks.
    pub pad_bytes: u64,
    /// Tape blocks.
    pub tape_blocks: u64,
    /// Filemarks that the copy manager writes.
    pub filemarks: u64,
    /// Filemarks that the host writes.
    pub host_filemarks: u64,
}

impl Sum {
    /// Counts a command whose parameter list has so many bytes.
    pub fn add(&mut self, c: &Command, list_bytes: u64) {
        if !c.is_for_host() {
            self.commands += 1;
            self.list_bytes += list_bytes;
        }
        let copied: u64 = c.records.iter().map(|r| r.data_len).sum();
        self.segments += c.segments.len() as u64;
        self.records += c.records.len() as u64;
        self.copied_bytes += copied;
        self.header_bytes += c.bytes - copied;
        self.pad_bytes += c.pad;
        self.tape_blocks += c.blocks;
        self.filemarks += u64::from(c.filemarks);
        self.host_filemarks += u64::from(c.host_filemarks);
    }
}

/// The commands that move the chunks of a plan, made one by one. The stream
/// offset of the first is `offset`, its sequence number `first_sequence`.
pub fn backup<'a>(
    plan: &'a ImagePlan,
    id: ArchiveId,
    limits: &Limits,
    geometry: &Geometry,
    offset: u64,
    first_sequence: u64,
) -> Result<Backup<Cells<'a>, ChunkHeaders>> {
    let maker = ChunkHeaders::new(plan, id, first_sequence);
    Ok(Backup::new(Cells::new(plan)?, maker, limits, geometry)?
        .going_on(offset, 0, Default::default())?
        .filemarks(DATA_FILEMARKS))
}
