//! An archive, read by position: its disk and its partitions.

use crate::archive::{Archive, RegionView};
use crate::device::{SharedSource, SpillSource};
use crate::error::Result;
use crate::ops::whole::WholeDisk;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What of an archive can be read.
pub struct Views {
    /// The disk; none where the archive has one partition of it.
    pub disk: Option<SharedSource>,
    partitions: BTreeMap<u16, SharedSource>,
}

impl Views {
    /// `slow`: what is read once is kept, since the archive is on tape.
    pub fn new(archive: &Arc<Archive>, slow: bool) -> Result<Self> {
        let kept = |s: SharedSource| -> Result<SharedSource> {
            Ok(match slow {
                true => Arc::new(SpillSource::new(s)?),
                false => s,
            })
        };
        let mut partitions = BTreeMap::new();
        for r in archive.disk().regions.iter().filter(|r| r.number != 0) {
            let view = RegionView::new(archive.clone(), r.number)?;
            partitions.insert(r.number, kept(Arc::new(view))?);
        }
        let disk = match WholeDisk::new(archive) {
            Ok(d) => Some(kept(Arc::new(d))?),
            Err(_) => None,
        };
        Ok(Self { disk, partitions })
    }

    /// One partition.
    pub fn partition(&self, number: u16) -> Option<SharedSource> {
        self.partitions.get(&number).cloned()
    }
}
