//! From clusters to files and back: who owns a range, and which clusters a
//! well-known file has.

use super::image::{Skip, SkippedFile};
use crate::error::Result;
use crate::observe::Observer;
use crate::units::{ByteRange, ClusterSet, RecordNo};
use crate::volume::attr::{self, DATA};
use crate::volume::names::Escaped;
use crate::volume::{FileStream, Tree, Usage, Volume, VolumePath, owners};
use std::ops::Range;

/// Names of the owners of one range that are given in full.
const NAMES: usize = 20;

/// For each of `ranges` (bytes of the volume), who owns it: paths with stream
/// and type. What cannot be found out stays empty.
pub fn files_behind(
    volume: &Volume,
    ranges: &[ByteRange],
    observer: &dyn Observer,
) -> Vec<Vec<String>> {
    let cluster = u64::from(volume.geometry().cluster_size);
    let clusters = |r: &ByteRange| r.start / cluster..r.end.div_ceil(cluster);
    let all: Vec<Range<u64>> = ranges.iter().map(clusters).collect();
    let tree = Tree::new(volume);
    let mut out = vec![Vec::new(); ranges.len()];
    // One scan tells whether anybody owns anything; the few ranges are then told apart.
    let Ok(found) = owners(volume, &all, observer) else {
        return out;
    };
    if found.is_empty() {
        return out;
    }
    for (slot, range) in out.iter_mut().zip(ranges) {
        let wanted = clusters(range);
        for owner in &found {
            if !owns(volume, owner.record, owner.type_code, &owner.name, &wanted) {
                continue;
            }
            if slot.len() == NAMES {
                slot.push("and more".into());
                break;
            }
            slot.push(describe(&tree, owner));
        }
    }
    out
}

/// True when the stream has one of these clusters.
fn owns(
    volume: &Volume,
    record: RecordNo,
    type_code: u32,
    name: &str,
    wanted: &Range<u64>,
) -> bool {
    let Ok(file) = volume.file(record) else {
        return true;
    };
    let utf16: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    match file.stream(type_code, &utf16) {
        Some(FileStream::NonResident(joined)) => joined
            .map
            .as_slice()
            .iter()
            .filter_map(|e| e.lcns())
            .any(|l| l.start < wanted.end && wanted.start < l.end),
        Some(FileStream::Resident(..)) => false,
        // A name that does not survive the way through text.
        None => true,
    }
}

fn describe(tree: &Tree<'_>, owner: &crate::volume::Owner) -> String {
    let path = tree.path_of(owner.record).map_or_else(
        |_| format!("<mft {}>", owner.record),
        |p| Escaped(&p).to_string(),
    );
    let mut text = path;
    if !owner.name.is_empty() && owner.name != "$I30" {
        text.push(':');
        text.push_str(&Escaped(owner.name.as_bytes()).to_string());
    }
    if owner.type_code != DATA {
        let kind = attr::type_name(owner.type_code).unwrap_or("attribute");
        text.push_str(&format!(" ({kind})"));
    }
    if !owner.records.is_empty() {
        let records: Vec<String> = owner
            .records
            .iter()
            .take(8)
            .map(|r| format!("{} to {}", r.start, r.end - 1))
            .collect();
        text.push_str(&format!(" (file records {})", records.join(", ")));
    }
    text
}

/// The clusters of the files in `list`, as far as no other file has them, and
/// what was found of them. Unreadable directories give nothing: then nothing is
/// left out.
pub fn skip_clusters(
    volume: &Volume,
    usage: &Usage,
    list: &[Skip],
) -> Result<(ClusterSet, Vec<SkippedFile>)> {
    let limit = usage.kept.limit();
    let cluster = u64::from(volume.geometry().cluster_size);
    let tree = Tree::new(volume);
    let mut set = ClusterSet::new(limit);
    let mut files = Vec::new();
    for skip in list {
        let paths: Vec<Vec<u8>> = match skip {
            Skip::Pagefile => vec![b"/pagefile.sys".to_vec()],
            Skip::Hiberfil => vec![b"/hiberfil.sys".to_vec()],
            Skip::Swapfile => vec![b"/swapfile.sys".to_vec()],
            Skip::Vss => shadow_files(&tree),
        };
        for path in paths {
            let Ok(parsed) = VolumePath::parse(&path) else {
                continue;
            };
            let Ok(found) = tree.lookup(&parsed) else {
                continue;
            };
            let Ok(file) = volume.file(found.file.record) else {
                continue;
            };
            let Some(FileStream::NonResident(joined)) = file.stream(DATA, &[]) else {
                continue;
            };
            let mut taken = 0;
            for lcns in joined.map.as_slice().iter().filter_map(|e| e.lcns()) {
                let n = lcns.end.min(limit).saturating_sub(lcns.start);
                taken += n - set.insert(lcns).min(n);
            }
            files.push(SkippedFile {
                path: Escaped(&found.path).to_string(),
                bytes: taken * cluster,
            });
        }
    }
    // What two files claim is kept: leaving it out would cost the other one.
    for twice in &usage.report.differences.owned_twice.list {
        set.remove(twice.first..twice.first + twice.clusters);
    }
    if usage.report.differences.owned_twice.ranges as usize
        > usage.report.differences.owned_twice.list.len()
    {
        set = ClusterSet::new(limit);
        files.clear();
    }
    Ok((set, files))
}

/// GUID at the end of the name of every file that holds a shadow copy.
const SHADOW: &[u8] = b"{3808876b-c176-4e48-b7ae-04046e6cc752}";

fn shadow_files(tree: &Tree<'_>) -> Vec<Vec<u8>> {
    let dir = b"/System Volume Information";
    let found = VolumePath::parse(dir).and_then(|p| tree.lookup(&p));
    let Ok(list) = found.and_then(|f| tree.list(f.file.record)) else {
        return Vec::new();
    };
    list.entries
        .iter()
        .filter(|e| {
            let name = e.name.to_ascii_lowercase();
            name.ends_with(SHADOW)
        })
        .map(|e| [&dir[..], b"/", &e.name].concat())
        .collect()
}
