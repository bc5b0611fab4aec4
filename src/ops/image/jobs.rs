//! The plan as a list of jobs: each becomes one record. Made one by one, so
//! that a volume of any size has no list in memory.

use super::keep::{Keep, Piece};
use crate::archive::{Region, RunKind};
use crate::units::ByteRange;

/// Bytes of file records in one Mft record.
const MFT_STEP: u64 = 1 << 20;

/// What one record is made of.
#[derive(Debug)]
pub struct Job {
    /// Place of the region in the plan.
    pub region: usize,
    /// What to make.
    pub kind: JobKind,
    /// Stretches of the region, in the order of the record.
    pub pieces: Vec<Piece>,
}

/// See [`Job`].
#[derive(Debug)]
pub enum JobKind {
    /// File records from this number on.
    Mft {
        /// Number of the first file record.
        first: u64,
    },
    /// A grid cell, or as much of it as belongs to the region.
    Cell {
        /// Cell number.
        cell: u64,
        /// The bytes of the region that this job stands for, kept or not.
        span: ByteRange,
    },
}

/// A region with what is kept of it.
pub struct Kept<'a> {
    /// The region.
    pub region: &'a Region,
    /// What is kept.
    pub keep: &'a Keep,
    /// Bytes of a file record; 0 outside NTFS.
    pub record_bytes: u64,
}

/// The jobs of a plan, in the order of the stream.
pub struct Jobs<'a> {
    regions: Vec<Kept<'a>>,
    cell: u64,
    /// Also the cells of which nothing is kept: someone wants every byte.
    every: bool,
    mft: MftJobs,
    /// Stretches of the source in its order: region and bytes inside it.
    stretches: Vec<(usize, ByteRange)>,
    stretch: usize,
    at: u64,
}

#[derive(Default)]
struct MftJobs {
    region: usize,
    extent: usize,
    /// Bytes of that extent that are done.
    within: u64,
    /// Bytes of the stream that are done.
    done: u64,
}

impl<'a> Jobs<'a> {
    /// `gaps` are the bytes of the disk that belong to region 0.
    pub fn new(regions: Vec<Kept<'a>>, gaps: &[ByteRange], cell: u64, every: bool) -> Self {
        let mut stretches = Vec::new();
        for (i, k) in regions.iter().enumerate() {
            if k.region.number == 0 {
                stretches.extend(gaps.iter().map(|g| (i, *g)));
            } else {
                stretches.push((
                    i,
                    ByteRange {
                        start: 0,
                        end: k.region.bytes,
                    },
                ));
            }
        }
        let start_of = |&(i, r): &(usize, ByteRange)| regions[i].region.start + r.start;
        stretches.sort_by_key(start_of);
        let at = stretches.first().map_or(0, |s| s.1.start);
        Self {
            regions,
            cell,
            every,
            mft: MftJobs::default(),
            stretches,
            stretch: 0,
            at,
        }
    }

    fn next_mft(&mut self) -> Option<Job> {
        let m = &mut self.mft;
        loop {
            let kept = self.regions.get(m.region)?;
            let mut pieces = Vec::new();
            let first = m.done / kept.record_bytes.max(1);
            let mut left = MFT_STEP;
            while let Some(&(start, len)) = kept.keep.mft().get(m.extent) {
                let n = (len - m.within).min(left);
                pieces.push(Piece {
                    start: start + m.within,
                    len: n,
                    kind: RunKind::Data,
                });
                left -= n;
                m.within += n;
                m.done += n;
                if m.within == len {
                    m.extent += 1;
                    m.within = 0;
                }
                if left == 0 {
                    break;
                }
            }
            if !pieces.is_empty() {
                return Some(Job {
                    region: m.region,
                    kind: JobKind::Mft { first },
                    pieces,
                });
            }
            *m = MftJobs {
                region: m.region + 1,
                ..MftJobs::default()
            };
        }
    }

    fn next_cell(&mut self) -> Option<Job> {
        loop {
            let &(region, stretch) = self.stretches.get(self.stretch)?;
            let keep = self.regions[region].keep;
            if !self.every {
                self.at = keep.next_piece(self.at, stretch.end);
            }
            if self.at >= stretch.end {
                self.stretch += 1;
                self.at = self.stretches.get(self.stretch).map_or(0, |s| s.1.start);
                continue;
            }
            let cell = self.at / self.cell;
            let end = ((cell + 1) * self.cell).min(stretch.end);
            let span = ByteRange {
                start: self.at,
                end,
            };
            self.at = end;
            let pieces = keep.pieces(span.start, span.end);
            if self.every || !pieces.is_empty() {
                return Some(Job {
                    region,
                    kind: JobKind::Cell { cell, span },
                    pieces,
                });
            }
        }
    }
}

impl Iterator for Jobs<'_> {
    type Item = Job;

    fn next(&mut self) -> Option<Job> {
        match self.next_mft() {
            Some(job) => Some(job),
            None => self.next_cell(),
        }
    }
}
