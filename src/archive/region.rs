//! A region of an archive, seen as a source: what was kept reads as it was.
//! What was not kept is an error rather than zeros: nobody takes a free or lost
//! cluster for content.

use super::head::Region;
use super::header::RunKind;
use super::reader::{Archive, Decoded};
use crate::device::Source;
use crate::error::{Error, ErrorKind, Result};
use std::sync::Arc;

/// One partition out of an archive.
pub struct RegionView {
    archive: Arc<Archive>,
    region: Region,
    name: String,
    unit: u64,
    cell: u64,
}

impl RegionView {
    /// The region with this number.
    pub fn new(archive: Arc<Archive>, number: u16) -> Result<Self> {
        let disk = archive.disk();
        let region = disk.region(number).cloned().ok_or_else(|| {
            Error::not_found(format!("The archive has no partition {number}"))
                .of(archive.source().name())
                .hint("ntbak info lists the partitions")
        })?;
        let unit = u64::from(disk.sector_bytes);
        let cell = u64::from(disk.cell_bytes);
        let name = format!("{} (partition {number})", archive.source().name());
        Ok(Self {
            archive,
            region,
            name,
            unit,
            cell,
        })
    }

    /// What the archive says about it.
    pub fn region(&self) -> &Region {
        &self.region
    }

    fn copy(
        decoded: &Decoded,
        offset: u64,
        buf: &mut [u8],
        covered: &mut Vec<(u64, u64)>,
    ) -> Result<()> {
        let give = |from: u64, part: &mut [u8]| {
            let from = from as usize;
            part.copy_from_slice(&decoded.bytes[from..from + part.len()]);
            Ok(())
        };
        Self::copy_runs(&decoded.runs, give, offset, buf, covered)
    }

    /// `give` has the bytes of the data runs, one behind the other.
    fn copy_runs(
        runs: &[(u64, u64, RunKind)],
        give: impl Fn(u64, &mut [u8]) -> Result<()>,
        offset: u64,
        buf: &mut [u8],
        covered: &mut Vec<(u64, u64)>,
    ) -> Result<()> {
        let end = offset + buf.len() as u64;
        let mut at = 0;
        for &(start, bytes, kind) in runs {
            let stop = start + bytes;
            let (lo, hi) = (start.max(offset), stop.min(end));
            if lo < hi {
                covered.push((lo, hi));
                match kind {
                    RunKind::Data => {
                        let part = &mut buf[(lo - offset) as usize..(hi - offset) as usize];
                        give(at + (lo - start), part)?;
                    }
                    RunKind::Zero | RunKind::Skipped => {}
                    RunKind::Unreadable => {
                        return Err(Error::new(
                            ErrorKind::Unreadable,
                            format!("{} bytes were unreadable when the backup was made", hi - lo),
                        )
                        .at(lo));
                    }
                }
            }
            if kind == RunKind::Data {
                at += bytes;
            }
        }
        Ok(())
    }
}

impl Source for RegionView {
    fn len(&self) -> u64 {
        self.region.bytes
    }

    fn sector_size(&self) -> u32 {
        self.unit as u32
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset
            .checked_add(buf.len() as u64)
            .filter(|&e| e <= self.region.bytes)
            .ok_or_else(|| {
                Error::damaged(format!(
                    "A read of {} bytes reaches behind the end ({} bytes)",
                    buf.len(),
                    self.region.bytes
                ))
                .of(&*self.name)
                .at(offset)
            })?;
        buf.fill(0);
        if buf.is_empty() {
            return Ok(());
        }
        let number = self.region.number;
        // What Mft records cover; a Chunk is decoded only for the rest.
        let mut covered: Vec<(u64, u64)> = Vec::new();
        let mut last = None;
        for s in self.archive.spans_from(number, offset / self.unit) {
            if s.region != number || s.run.start * self.unit >= end {
                break;
            }
            if last != Some(s.entry) {
                last = Some(s.entry);
                Self::copy(&*self.archive.decode(s.entry)?, offset, buf, &mut covered)
                    .map_err(|e| e.of(&*self.name))?;
            }
        }
        for (from, to) in gaps(&mut covered, offset, end) {
            self.chunks(from, to, offset, buf, &mut covered)?;
        }
        match gaps(&mut covered, offset, end).first() {
            None => Ok(()),
            Some(&(from, to)) => Err(Error::new(
                ErrorKind::Unreadable,
                format!("{} bytes are not in the backup", to - from),
            )
            .of(&*self.name)
            .at(from)
            .hint("they were free when it was made, or a damaged part of the archive held them")),
        }
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl RegionView {
    fn chunks(
        &self,
        from: u64,
        to: u64,
        offset: u64,
        buf: &mut [u8],
        covered: &mut Vec<(u64, u64)>,
    ) -> Result<()> {
        let (number, first, last) = (self.region.number, from / self.cell, (to - 1) / self.cell);
        for &i in self.archive.chunks_from(number, first) {
            let e = &self.archive.index().entries[i as usize];
            if e.region != number || e.position > last {
                break;
            }
            let part = &mut buf[(from - offset) as usize..(to - offset) as usize];
            let done = match self.archive.unseen(i) {
                Some(u) => {
                    let give = |at, part: &mut [u8]| self.archive.read_unseen(&u, at, part);
                    Self::copy_runs(&u.runs, give, from, part, covered)
                }
                None => match self.archive.decode(i) {
                    Ok(d) => Self::copy(&d, from, part, covered),
                    Err(e) if e.kind() == ErrorKind::Unreadable => {
                        let u = self.archive.without_digest(i).ok_or(e)?;
                        let give = |at, part: &mut [u8]| self.archive.read_unseen(&u, at, part);
                        Self::copy_runs(&u.runs, give, from, part, covered)
                    }
                    Err(e) => Err(e),
                },
            };
            done.map_err(|e| e.of(&*self.name))?;
        }
        Ok(())
    }
}

/// The parts of `from..to` that no range of `covered` holds.
fn gaps(covered: &mut [(u64, u64)], from: u64, to: u64) -> Vec<(u64, u64)> {
    covered.sort_unstable();
    let mut out = Vec::new();
    let mut at = from;
    for &(s, e) in covered.iter() {
        if s > at {
            out.push((at, s.min(to)));
        }
        at = at.max(e);
        if at >= to {
            break;
        }
    }
    if at < to {
        out.push((at, to));
    }
    out
}
