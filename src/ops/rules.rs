//! What the records of a stream must be among themselves: their headers are
//! sound one by one, but an archive can be forged, or mended by hand.

use crate::archive::{DiskInfo, Header, Kind, Provenance};
use crate::device::RangeSet;
use crate::units::ByteRange;
use std::collections::HashMap;

/// Checks the records of data one after the other, in the order of the stream.
#[derive(Default)]
pub struct Rules {
    /// True when a Chunk may have no digest.
    pub unverified: bool,
    /// First byte behind the last run of the Chunks of a region.
    chunk_end: HashMap<u16, u64>,
    /// Bytes that Mft records hold, by region.
    mft: HashMap<u16, RangeSet>,
}

impl Rules {
    /// What a header alone breaks, given the regions; `None` when nothing.
    pub fn alone(&self, disk: &DiskInfo, header: &Header) -> Option<String> {
        if !matches!(header.kind, Kind::Mft | Kind::Chunk) {
            return None;
        }
        let may_lack = self.unverified && header.kind == Kind::Chunk;
        if header.provenance == Provenance::None && !may_lack {
            return Some("has no digest".into());
        }
        let Some(region) = disk.region(header.region) else {
            return Some(format!(
                "belongs to partition {}, which Disk does not name",
                header.region
            ));
        };
        if header.unit != disk.sector_bytes {
            return Some(format!(
                "counts in units of {} bytes, expected sectors of {}",
                header.unit, disk.sector_bytes
            ));
        }
        let cell = u64::from(header.cell) * u64::from(header.unit);
        if header.kind == Kind::Chunk && cell != u64::from(disk.cell_bytes) {
            return Some(format!(
                "has cells of {cell} bytes, expected {}",
                disk.cell_bytes
            ));
        }
        header
            .byte_runs()
            .iter()
            .find(|(s, n, _)| s + n > region.bytes)
            .map(|(s, n, _)| {
                format!(
                    "names bytes {s:#x} to {:#x} of partition {}, which has {} bytes",
                    s + n,
                    region.number,
                    region.bytes
                )
            })
    }

    /// What a record breaks together with those before it.
    pub fn together(&mut self, disk: &DiskInfo, header: &Header) -> Option<String> {
        disk.region(header.region)?;
        let mft = self.mft.entry(header.region).or_default();
        for (start, len, _) in header.byte_runs() {
            let range = ByteRange {
                start,
                end: start + len,
            };
            let twice = match header.kind {
                Kind::Mft => {
                    let twice = !mft.within(range).is_empty();
                    mft.insert(range);
                    twice
                }
                _ => {
                    let end = self.chunk_end.entry(header.region).or_default();
                    let back = start < *end;
                    *end = range.end;
                    back || !mft.within(range).is_empty()
                }
            };
            if twice {
                return Some(format!(
                    "names bytes {start:#x} to {:#x} of partition {} again, or out of order",
                    start + len,
                    header.region
                ));
            }
        }
        None
    }
}
