//! What damage in an archive costs: parts of the source, and whose they are.

use super::files::files_behind;
use super::stream::Damage;
use super::verify::join;
use crate::archive::{Archive, BLOCK, RegionKind, RegionView};
use crate::observe::Observer;
use crate::units::ByteRange;
use crate::volume::Volume;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A part of the source that a damaged archive does not hold any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LostRange {
    /// Partition.
    pub partition: u16,
    /// Bytes from the beginning of the partition.
    pub range: ByteRange,
    /// False when the damage hides which bytes of the range were kept at all.
    pub exact: bool,
    /// Whose they are, by path.
    pub files: Vec<String>,
}

impl fmt::Display for LostRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = if self.exact { "" } else { "up to " };
        let (n, at, p) = (self.range.len(), self.range.start, self.partition);
        write!(f, "Lost: {about}{n} bytes at {at:#x} of partition {p}: ")?;
        match self.files.as_slice() {
            [] => f.write_str("no file is known to own them"),
            list => f.write_str(&list.join(", ")),
        }
    }
}

/// The ranges that damaged records held, with the files they belong to. Where
/// not even the header of a record is left, the index tells what stood there.
pub fn lost(archive: &Arc<Archive>, damage: &[Damage], observer: &dyn Observer) -> Vec<LostRange> {
    let mut found: BTreeMap<(u16, bool), Vec<ByteRange>> = BTreeMap::new();
    for d in damage.iter().filter(|d| d.loses_data) {
        match d.region {
            Some(region) if !d.ranges.is_empty() => {
                found.entry((region, true)).or_default().extend(&d.ranges);
            }
            _ => by_index(archive, d, &mut found),
        }
    }
    let mut out = Vec::new();
    for ((partition, exact), mut ranges) in found {
        join(&mut ranges);
        let files = owners(archive, partition, &ranges, observer);
        let with = ranges.into_iter().zip(files);
        out.extend(with.map(|(range, files)| LostRange { partition, range, exact, files }));
    }
    out
}

fn by_index(archive: &Archive, d: &Damage, found: &mut BTreeMap<(u16, bool), Vec<ByteRange>>) {
    let disk = archive.disk();
    let (unit, cell) = (u64::from(disk.sector_bytes), u64::from(disk.cell_bytes));
    let index = archive.index();
    for (n, e) in index.entries.iter().enumerate() {
        let end = e.offset.saturating_add(u64::from(e.blocks) * BLOCK as u64);
        if e.offset >= d.to || end <= d.from {
            continue;
        }
        let Some(region) = disk.region(e.region) else { continue };
        let whole = ByteRange { start: 0, end: region.bytes };
        let mut add = |exact, start: Option<u64>, len: Option<u64>| {
            let range = start.zip(len).and_then(|(s, l)| ByteRange::new(s, l));
            if let Some(r) = range.and_then(|r| r.intersect(&whole)) {
                found.entry((e.region, exact)).or_default().push(r);
            }
        };
        if e.mft {
            for s in index.spans.iter().filter(|s| s.entry as usize == n) {
                add(true, s.run.start.checked_mul(unit), Some(u64::from(s.run.units) * unit));
            }
        } else {
            add(false, e.position.checked_mul(cell), Some(cell));
        }
    }
}

/// Paths behind ranges of a partition, read from the archive itself as far as
/// it still can be.
fn owners(
    archive: &Arc<Archive>,
    partition: u16,
    ranges: &[ByteRange],
    observer: &dyn Observer,
) -> Vec<Vec<String>> {
    let nothing = || vec![Vec::new(); ranges.len()];
    let ntfs = archive.disk().region(partition).is_some_and(|r| r.kind == RegionKind::Ntfs);
    if !ntfs {
        return nothing();
    }
    RegionView::new(archive.clone(), partition)
        .and_then(|view| Volume::open(Arc::new(view)))
        .map_or_else(|_| nothing(), |v| files_behind(&v, ranges, observer))
}
