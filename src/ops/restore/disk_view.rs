//! The disk that an archive was made of, as a source: its regions in their
//! places.

use crate::archive::{Archive, RegionView};
use crate::device::{SharedSource, Source, SpillSource};
use crate::error::{Error, ErrorKind, Result};
use crate::units::ByteRange;
use std::sync::Arc;

/// A disk out of an archive. What the archive does not hold cannot be read.
pub struct DiskView {
    /// Partitions by their first byte, with their numbers.
    parts: Vec<(ByteRange, u16, SharedSource)>,
    outside: Option<SharedSource>,
    len: u64,
    sector: u32,
    name: String,
}

impl DiskView {
    /// `slow`: what is read once is kept, since the archive is on tape.
    pub fn new(archive: &Arc<Archive>, slow: bool) -> Result<Self> {
        let disk = archive.disk();
        let (mut parts, mut outside) = (Vec::new(), None);
        for r in &disk.regions {
            let view: SharedSource = Arc::new(RegionView::new(archive.clone(), r.number)?);
            let view: SharedSource = match slow {
                true => Arc::new(SpillSource::new(view)?),
                false => view,
            };
            let range = ByteRange {
                start: r.start,
                end: r.start + r.bytes,
            };
            match r.number {
                0 => outside = Some(view),
                n => parts.push((range, n, view)),
            }
        }
        parts.sort_by_key(|p| p.0);
        Ok(Self {
            parts,
            outside,
            len: disk.bytes,
            sector: disk.sector_bytes,
            name: archive.source().name().to_string(),
        })
    }

    /// One of its partitions.
    pub fn partition(&self, number: u16) -> Option<SharedSource> {
        let mut parts = self.parts.iter();
        parts.find(|p| p.1 == number).map(|p| p.2.clone())
    }
}

impl Source for DiskView {
    fn len(&self) -> u64 {
        self.len
    }

    fn sector_size(&self) -> u32 {
        self.sector
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset
            .checked_add(buf.len() as u64)
            .filter(|&e| e <= self.len)
            .ok_or_else(|| {
                Error::damaged(format!(
                    "A read of {} bytes reaches behind the end ({} bytes)",
                    buf.len(),
                    self.len
                ))
                .of(&*self.name)
                .at(offset)
            })?;
        let mut at = offset;
        while at < end {
            let next = self.parts.partition_point(|p| p.0.end <= at);
            let (stop, from) = match self.parts.get(next) {
                Some((r, _, s)) if r.start <= at => (r.end.min(end), Some((s, r.start))),
                Some((r, ..)) => (r.start.min(end), self.outside.as_ref().map(|s| (s, 0))),
                None => (end, self.outside.as_ref().map(|s| (s, 0))),
            };
            let part = &mut buf[(at - offset) as usize..(stop - offset) as usize];
            match from {
                Some((s, start)) => s.read_at(at - start, part)?,
                None => {
                    let what = "What lies outside of partitions is not in the backup";
                    return Err(Error::new(ErrorKind::Unreadable, what)
                        .of(&*self.name)
                        .at(at));
                }
            }
            at = stop;
        }
        Ok(())
    }

    fn name(&self) -> &str {
        &self.name
    }
}
