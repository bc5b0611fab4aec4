//! An archive of a disk, read as the disk: each byte from the region that has
//! it. What was not kept is an error there, as in the regions themselves.

use crate::archive::{Archive, RegionView, TableKind};
use crate::device::{SharedSource, Source};
use crate::error::{Error, Result};
use crate::units::ByteRange;
use std::sync::Arc;

/// The disk that an archive was made of.
pub struct WholeDisk {
    /// Partitions by place.
    partitions: Vec<(ByteRange, SharedSource)>,
    /// What lies outside of them, in places of the disk.
    outside: Option<SharedSource>,
    len: u64,
    sector_size: u32,
    name: String,
}

impl WholeDisk {
    /// Fails for an archive of a single partition of a disk: the rest of the
    /// disk is not in it.
    pub fn new(archive: &Arc<Archive>) -> Result<Self> {
        let disk = archive.disk();
        let mut partitions: Vec<(ByteRange, SharedSource)> = Vec::new();
        let mut outside = None;
        for r in &disk.regions {
            let view: SharedSource = Arc::new(RegionView::new(archive.clone(), r.number)?);
            match (r.number, ByteRange::new(r.start, r.bytes)) {
                (0, _) => outside = Some(view),
                (_, Some(range)) => partitions.push((range, view)),
                (n, None) => {
                    return Err(Error::damaged(format!(
                        "Region {n} ends behind the last byte that can be counted"
                    ))
                    .of(archive.source().name()));
                }
            }
        }
        if disk.table != TableKind::None && outside.is_none() {
            return Err(Error::unsupported(
                "The archive has one partition of a disk and not its partition table",
            )
            .of(archive.source().name())
            .hint("restore the partition by itself"));
        }
        partitions.sort_by_key(|(r, _)| *r);
        Ok(Self {
            partitions,
            outside,
            len: disk.bytes,
            sector_size: disk.sector_bytes,
            name: archive.source().name().to_owned(),
        })
    }
}

impl Source for WholeDisk {
    fn len(&self) -> u64 {
        self.len
    }

    fn sector_size(&self) -> u32 {
        self.sector_size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        let Some(end) = end.filter(|&e| e <= self.len) else {
            return Err(Error::damaged(format!(
                "A read of {} bytes reaches behind the end ({} bytes)",
                buf.len(),
                self.len
            ))
            .of(&*self.name)
            .at(offset));
        };
        let mut at = offset;
        while at < end {
            let here = self
                .partitions
                .iter()
                .find(|(r, _)| r.range().contains(&at));
            let stop = match here {
                Some((r, _)) => r.end,
                None => {
                    let next = self.partitions.iter().map(|(r, _)| r.start);
                    next.filter(|&s| s > at).min().unwrap_or(end)
                }
            };
            let stop = stop.min(end);
            let part = &mut buf[(at - offset) as usize..(stop - offset) as usize];
            match (here, &self.outside) {
                (Some((r, s)), _) => s.read_at(at - r.start, part)?,
                (None, Some(s)) => s.read_at(at, part)?,
                (None, None) => {
                    return Err(Error::damaged("No region of the archive has these bytes")
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
