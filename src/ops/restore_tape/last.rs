//! What comes last: the first sectors of disk and volumes.

use super::Job;
use super::pieces::Placed;
use crate::archive::{RunKind, is_zero};
use crate::device::Source;
use crate::error::Result;
use crate::ops::engine::Engine;
use crate::ops::restore::{changed, in_order};
use crate::units::ByteRange;

impl Job<'_> {
    /// What was kept back, from the tape.
    pub(super) fn last_sectors(&mut self, engine: &mut Engine) -> Result<()> {
        self.target.sync()?;
        if let Some(kept) = &mut self.kept {
            kept.finishing()?;
        }
        // Tables when all else is there.
        let (held, late) = (self.held.clone(), self.late.clone());
        let plan = self.plan;
        let [held, late] = [held, late].map(|r| {
            in_order(plan, &r, |r| *r).map(|part| {
                let mut part: Vec<ByteRange> = part.into_iter().copied().collect();
                part.reverse();
                part
            })
        });
        for (held, late) in held.into_iter().zip(late) {
            (self.held, self.late) = (held, late);
            self.last_part(engine)?;
            self.target.sync()?;
        }
        Ok(())
    }

    fn last_part(&mut self, engine: &mut Engine) -> Result<()> {
        self.offloaded_part(engine, true, 0)?;
        let mut pieces = Vec::new();
        self.late_of_decoded(&mut |at, data| pieces.push((at, data.to_vec())))?;
        for (at, data) in pieces {
            self.target.write_at(at, &data)?;
            self.summary.host_bytes += data.len() as u64;
        }
        self.patch(true)
    }

    /// The same where an interrupted run had begun with it: put together here, as
    /// others may have written the disk since, and then written by this machine.
    pub(super) fn last_sectors_again(&mut self) -> Result<()> {
        let empty = |h: &ByteRange| (*h, vec![0; h.len() as usize]);
        let mut want: Vec<(ByteRange, Vec<u8>)> = self.held.iter().map(empty).collect();
        let mut put = |at: u64, data: &[u8]| {
            let whole = ByteRange {
                start: at,
                end: at + data.len() as u64,
            };
            for (h, bytes) in &mut want {
                if let Some(both) = h.intersect(&whole) {
                    let from = &data[(both.start - at) as usize..(both.end - at) as usize];
                    bytes[(both.start - h.start) as usize..(both.end - h.start) as usize]
                        .copy_from_slice(from);
                }
            }
        };
        for w in self.wanted(true)? {
            let mut data = vec![0; w.bytes as usize];
            self.tape.read_at(w.offset, &mut data)?;
            put(w.lba * self.unit(), &data);
        }
        self.late_of_decoded(&mut put)?;
        self.plan.each_patch(&mut |at, bytes| {
            put(at, bytes);
            Ok(())
        })?;
        let sector = self.plan.sector_bytes as usize;
        for (h, bytes) in &want {
            let mut have = vec![0; bytes.len()];
            self.target.read_at(h.start, &mut have)?;
            let mut both = have.chunks(sector).zip(bytes.chunks(sector));
            if !both.all(|(a, b)| a == b || is_zero(a)) {
                return Err(changed(self.target));
            }
        }
        for part in in_order(self.plan, &want, |w| w.0) {
            for (h, bytes) in part {
                self.target.write_at(h.start, bytes)?;
                self.summary.host_bytes += bytes.len() as u64;
            }
            self.target.sync()?;
        }
        Ok(())
    }

    /// What was kept back of records that only this machine can read.
    fn late_of_decoded(&self, give: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
        for h in &self.late {
            let near = |p: &Placed| p.at < h.end && p.at + p.len > h.start;
            for i in 0..self.archive.index().entries.len() {
                let Some(e) = self.entry(i).filter(|_| self.stored_at(i).is_none()) else {
                    continue;
                };
                let touches = match e.mft {
                    true => self.pieces(e, self.mft_runs(i))?.iter().any(near),
                    false => self.places(i)?.iter().any(near),
                };
                if !touches {
                    continue;
                }
                let decoded = self.archive.decode(i as u32)?;
                for p in self.pieces(e, decoded.runs.iter().copied())? {
                    let run = ByteRange {
                        start: p.at,
                        end: p.at + p.len,
                    };
                    if p.kind == RunKind::Data
                        && let Some(both) = run.intersect(h)
                    {
                        let part =
                            (both.start - run.start) as usize..(both.end - run.start) as usize;
                        give(both.start, &p.data(&decoded.bytes)?[part]);
                    }
                }
            }
        }
        Ok(())
    }
}
