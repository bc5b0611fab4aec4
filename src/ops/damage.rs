//! Which files a damaged place of an archive has hit.

use super::files::files_behind;
use super::stream::Damage;
use crate::archive::{Archive, BLOCK, RegionKind, RegionView};
use crate::observe::Observer;
use crate::units::{ByteRange, RecordNo};
use crate::volume::names::Escaped;
use crate::volume::tree::ROOT;
use crate::volume::{Tree, Volume};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Directories that are looked through for the names of lost file records.
const MAX_DIRECTORIES: usize = 1 << 20;
/// Names of lost file records that are given.
const MAX_NAMES: usize = 1000;

/// Fills in the files behind each damaged place, by what is left of the
/// archive: the owners of lost clusters, and the names that directories have
/// for lost file records. A place whose record header is gone is found through
/// the index.
pub fn name_files(archive: &Arc<Archive>, damage: &mut [Damage], observer: &dyn Observer) {
    if damage.is_empty() {
        return;
    }
    // Where one digest stands for many files, what is there serves for their
    // names also when it is not what was once read back.
    let plain = match archive.has_unseen() {
        true => Archive::open(archive.source().clone()).ok().map(Arc::new),
        false => None,
    };
    let archive = plain.as_ref().unwrap_or(archive);
    let unit = u64::from(archive.disk().sector_bytes);
    let mut wanted: BTreeMap<u16, Vec<(usize, ByteRange)>> = BTreeMap::new();
    let mut lost_records: BTreeMap<u16, Vec<(usize, ByteRange)>> = BTreeMap::new();
    for (n, d) in damage.iter_mut().enumerate() {
        for (i, e) in archive.index().entries.iter().enumerate() {
            let end = e.offset + u64::from(e.blocks) * BLOCK as u64;
            if end <= d.from || d.to <= e.offset || !d.loses_data {
                continue;
            }
            d.region = Some(e.region);
            d.record = Some(if e.mft { "Mft" } else { "Chunk" });
            if e.mft {
                let spans = archive.index().spans.iter().filter(|s| s.entry == i as u32);
                let bytes: u64 = spans.map(|s| u64::from(s.run.units) * unit).sum();
                let size = archive.disk().region(e.region).and_then(|r| r.record_bytes);
                let count = bytes / u64::from(size.unwrap_or(1024)).max(1);
                let range = ByteRange {
                    start: e.position,
                    end: e.position + count,
                };
                lost_records.entry(e.region).or_default().push((n, range));
            } else if d.ranges.is_empty() {
                let cell = u64::from(archive.disk().cell_bytes);
                let start = e.position.saturating_mul(cell);
                let range = ByteRange {
                    start,
                    end: start.saturating_add(cell),
                };
                wanted.entry(e.region).or_default().push((n, range));
            } else {
                let ranges = d.ranges.iter().map(|r| (n, *r));
                wanted.entry(e.region).or_default().extend(ranges);
            }
        }
    }
    let regions: HashSet<u16> = wanted.keys().chain(lost_records.keys()).copied().collect();
    for number in regions {
        let volume = archive
            .disk()
            .region(number)
            .filter(|r| r.kind == RegionKind::Ntfs)
            .and_then(|_| RegionView::new(archive.clone(), number).ok())
            .and_then(|v| Volume::open(Arc::new(v)).ok());
        if let Some(list) = wanted.get(&number) {
            let named = match &volume {
                Some(v) => {
                    let ranges: Vec<ByteRange> = list.iter().map(|w| w.1).collect();
                    files_behind(v, &ranges, observer)
                }
                None => vec![vec![format!("partition {number}")]; list.len()],
            };
            for ((n, _), files) in list.iter().zip(named) {
                damage[*n].files.extend(files);
            }
        }
        if let Some(list) = lost_records.get(&number) {
            let named = volume
                .as_ref()
                .map_or_else(BTreeMap::new, |v| names_of_lost(v, list));
            for (n, range) in list {
                let what = format!("file records {} to {}", range.start, range.end.max(1) - 1);
                damage[*n].files.push(what);
                damage[*n]
                    .files
                    .extend(named.get(n).cloned().unwrap_or_default());
            }
        }
    }
    for d in damage {
        let mut seen = HashSet::new();
        d.files.retain(|f| seen.insert(f.clone()));
    }
}

/// Names that the directories still have for lost file records.
fn names_of_lost(volume: &Volume, lost: &[(usize, ByteRange)]) -> BTreeMap<usize, Vec<String>> {
    let tree = Tree::new(volume);
    let mut out: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut queue = vec![(ROOT, Vec::new())];
    let mut seen: HashSet<RecordNo> = HashSet::from([ROOT]);
    let mut named = 0;
    while let Some((dir, path)) = queue.pop() {
        let Ok(list) = tree.list(dir) else { continue };
        for e in list.entries.iter() {
            let number = e.file.record;
            let full = [&path[..], b"/", &e.name].concat();
            let hit = lost.iter().filter(|(_, r)| r.range().contains(&number.0));
            let mut is_lost = false;
            for (n, _) in hit {
                is_lost = true;
                if named < MAX_NAMES {
                    named += 1;
                    out.entry(*n).or_default().push(Escaped(&full).to_string());
                }
            }
            if !is_lost
                && seen.len() < MAX_DIRECTORIES
                && volume.record(number).is_ok_and(|r| r.view().is_directory())
                && seen.insert(number)
            {
                queue.push((number, full));
            }
        }
    }
    out
}
