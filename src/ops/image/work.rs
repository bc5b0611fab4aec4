//! One job: read, sort out what could not be read, pack.

use super::jobs::{Job, JobKind};
use super::keep::Piece;
use crate::archive::{BufferPool, CellPlace, ChunkRun, MftRun, Packed, Packer, Region, RunKind};
use crate::device::RescueSource;
use crate::error::{Error, Result};
use crate::units::ByteRange;
use std::sync::Arc;

/// What a job came to.
pub struct Done {
    /// The record, if anything is kept.
    pub record: Option<Packed>,
    /// Every byte of the job's span, for digests of the whole.
    pub span: Option<Arc<Vec<u8>>>,
    /// Bytes read.
    pub read: u64,
}

/// A worker: reads and packs.
pub struct Worker<'a> {
    source: &'a RescueSource,
    packer: Packer,
    raw: Vec<u8>,
    cell: u64,
    unit: u32,
}

impl<'a> Worker<'a> {
    /// A worker that packs at this zstd level.
    pub fn new(source: &'a RescueSource, level: i32, cell: u64, unit: u32) -> Result<Self> {
        Ok(Self {
            source,
            packer: Packer::new(level)?,
            raw: Vec::new(),
            cell,
            unit,
        })
    }

    /// Takes its buffers from this pool.
    pub fn with_pool(mut self, pool: BufferPool) -> Self {
        self.packer = self.packer.with_pool(pool);
        self
    }

    /// Does a job. `whole` asks for every byte of its span as well; `pack` is
    /// false when the record is already there.
    pub fn run(&mut self, region: &Region, job: &Job, whole: bool, pack: bool) -> Result<Done> {
        let mut span_bytes = None;
        if let (JobKind::Cell { span, .. }, true) = (&job.kind, whole) {
            let mut all = vec![0; span.len() as usize];
            self.source
                .read_at_marked(region.start + span.start, &mut all)?;
            span_bytes = Some((span.start, all));
        }
        let mut read = span_bytes.as_ref().map_or(0, |(_, b)| b.len() as u64);
        let record = if pack && !job.pieces.is_empty() {
            let pieces = self.gather(region, &job.pieces, &span_bytes)?;
            if span_bytes.is_none() {
                read = job
                    .pieces
                    .iter()
                    .filter(|p| p.kind == RunKind::Data)
                    .map(|p| p.len)
                    .sum();
            }
            Some(self.pack(region, job, &pieces)?)
        } else {
            None
        };
        Ok(Done {
            record,
            span: span_bytes.map(|(_, b)| Arc::new(b)),
            read,
        })
    }

    /// Digest of the record that the job would make now.
    pub fn digest(&mut self, region: &Region, job: &Job) -> Result<Option<[u8; 32]>> {
        Ok(self
            .run(region, job, false, true)?
            .record
            .map(|r| r.digest()))
    }

    /// Fills `raw` with the data pieces; unreadable sectors become pieces.
    fn gather(
        &mut self,
        region: &Region,
        pieces: &[Piece],
        span: &Option<(u64, Vec<u8>)>,
    ) -> Result<Vec<Piece>> {
        let total: u64 = pieces
            .iter()
            .filter(|p| p.kind == RunKind::Data)
            .map(|p| p.len)
            .sum();
        self.raw.clear();
        self.raw.reserve(total as usize);
        let mut out = Vec::with_capacity(pieces.len());
        for p in pieces {
            if p.kind != RunKind::Data {
                out.push(*p);
                continue;
            }
            let at = self.raw.len();
            let abs = ByteRange {
                start: region.start + p.start,
                end: region.start + p.start + p.len,
            };
            let bad = match span {
                Some((start, bytes)) => {
                    let from = (p.start - start) as usize;
                    self.raw
                        .extend_from_slice(&bytes[from..from + p.len as usize]);
                    self.source.map().within(abs)
                }
                None => {
                    self.raw.resize(at + p.len as usize, 0);
                    self.source.read_at_marked(abs.start, &mut self.raw[at..])?
                }
            };
            if bad.is_empty() {
                out.push(*p);
            } else {
                self.cut_out(region, *p, at, &bad, &mut out);
            }
        }
        Ok(out)
    }

    fn cut_out(
        &mut self,
        region: &Region,
        p: Piece,
        at: usize,
        bad: &[ByteRange],
        out: &mut Vec<Piece>,
    ) {
        let old = self.raw.split_off(at);
        let unit = u64::from(self.unit);
        let end = p.start + p.len;
        let mut pos = p.start;
        for b in bad {
            // Whole units, inside this piece.
            let lo = ((b.start - region.start).max(pos) / unit * unit).max(pos);
            let hi = ((b.end - region.start).div_ceil(unit) * unit).min(end);
            if lo >= hi {
                continue;
            }
            if pos < lo {
                out.push(Piece {
                    start: pos,
                    len: lo - pos,
                    kind: RunKind::Data,
                });
                self.raw
                    .extend_from_slice(&old[(pos - p.start) as usize..(lo - p.start) as usize]);
            }
            out.push(Piece {
                start: lo,
                len: hi - lo,
                kind: RunKind::Unreadable,
            });
            pos = hi;
        }
        if pos < end {
            out.push(Piece {
                start: pos,
                len: end - pos,
                kind: RunKind::Data,
            });
            self.raw.extend_from_slice(&old[(pos - p.start) as usize..]);
        }
    }

    fn pack(&mut self, region: &Region, job: &Job, pieces: &[Piece]) -> Result<Packed> {
        let unit = u64::from(self.unit);
        let units = |n: u64| -> Result<u32> {
            u32::try_from(n / unit).map_err(|_| Error::damaged("A run is longer than a cell"))
        };
        match job.kind {
            JobKind::Mft { first } => {
                let runs = pieces
                    .iter()
                    .map(|p| {
                        Ok(MftRun {
                            start: p.start / unit,
                            units: units(p.len)?,
                            kind: p.kind,
                        })
                    })
                    .collect::<Result<Vec<_>>>()?;
                self.packer
                    .mft(region.number, first, self.unit, &runs, &mut self.raw)
            }
            JobKind::Cell { cell, .. } => {
                let base = cell * self.cell;
                let runs = pieces
                    .iter()
                    .map(|p| {
                        Ok(ChunkRun {
                            start: units(p.start - base)?,
                            units: units(p.len)?,
                            kind: p.kind,
                        })
                    })
                    .collect::<Result<Vec<_>>>()?;
                let cluster = region
                    .cluster_bytes
                    .unwrap_or(4096)
                    .clamp(self.unit, 4096.max(self.unit));
                let place = CellPlace {
                    region: region.number,
                    cell,
                    unit: self.unit,
                    cell_units: (self.cell / unit) as u32,
                    granule: cluster / self.unit,
                };
                self.packer.chunk(place, &runs, &mut self.raw)
            }
        }
    }
}
