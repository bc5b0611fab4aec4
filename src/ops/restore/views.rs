//! An archive, read by position: its disk and its partitions.

use crate::archive::{Archive, RegionView};
use crate::device::SharedSource;
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
    pub fn new(archive: &Arc<Archive>) -> Result<Self> {
        let mut partitions: BTreeMap<u16, SharedSource> = BTreeMap::new();
        for r in archive.disk().regions.iter().filter(|r| r.number != 0) {
            let view = RegionView::new(archive.clone(), r.number)?;
            partitions.insert(r.number, Arc::new(view));
        }
        let disk: Option<SharedSource> = match WholeDisk::new(archive) {
            Ok(d) => Some(Arc::new(d)),
            Err(_) => None,
        };
        Ok(Self { disk, partitions })
    }

    /// One partition.
    pub fn partition(&self, number: u16) -> Option<SharedSource> {
        self.partitions.get(&number).cloned()
    }
}
