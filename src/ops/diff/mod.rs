//! `diff`: what is other in a second volume: two backups, a backup and a live
//! volume, or any two. Names are matched by path; what has another path but is
//! the same file of the same volume counts as renamed. Content is compared by
//! digest unless only metadata is asked for.
//!
//! Security is compared by the bytes of the descriptors: other ids for the same
//! descriptor are no difference.
//!
//! | file | subject |
//! |---|---|
//! | `facts` | descriptor, names, and the attributes that few files have |

mod facts;

use super::opened;
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::units::{FileRef, RecordNo};
use crate::volume::attr::DATA;
pub use crate::volume::digest::digest;
use crate::volume::listing::{Listing, Row};
use crate::volume::names::to_utf16;
use crate::volume::stream::Stream;
use crate::volume::times::{NtTime, Times};
use crate::volume::tree::Tree;
use facts::{Facts, FileFacts};
use rayon::prelude::*;
use std::collections::HashMap;

/// Pairs whose content is compared at a time.
const BATCH: usize = 256;

/// How to compare.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiffOptions {
    /// Metadata only; content is not read.
    pub quick: bool,
    /// The time of the last access too.
    pub accessed: bool,
    /// The files of NTFS itself too.
    pub system: bool,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Only in the second volume.
    Added,
    /// Only in the first volume.
    Removed,
    /// In both.
    Changed,
}

/// In what it changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Aspects {
    /// The bytes.
    pub content: bool,
    /// The size.
    pub size: bool,
    /// Created, modified or changed.
    pub times: bool,
    /// The time of the last access; only when that is asked for.
    pub accessed: bool,
    /// Attribute flags.
    pub attributes: bool,
    /// Its path: it was renamed or moved.
    pub name: bool,
    /// File or directory.
    pub kind: bool,
    /// The bytes of its security descriptor.
    pub security: bool,
    /// The set of its names: hard links that came, went or moved.
    pub links: bool,
    /// The short DOS names.
    pub short_name: bool,
    /// Tag or data of the reparse point.
    pub reparse: bool,
    /// The object id, with the birth ids.
    pub object_id: bool,
    /// The extended attributes.
    pub ea: bool,
    /// The keys of an encrypted file.
    pub efs: bool,
    /// Content or metadata of one side cannot be read; nothing is said about it.
    pub unreadable: bool,
}

/// A difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The path, WTF-8; in the second volume if it is there.
    pub path: Vec<u8>,
    /// Its path in the first volume when that is another one.
    pub old_path: Option<Vec<u8>>,
    /// What happened.
    pub change: Change,
    /// In what it changed.
    pub aspects: Aspects,
    /// Size in the first volume.
    pub old_size: Option<u64>,
    /// Size in the second volume.
    pub new_size: Option<u64>,
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DiffSummary {
    /// Paths only in the second volume.
    pub added: u64,
    /// Paths only in the first volume.
    pub removed: u64,
    /// Paths in both that differ; not those of which nothing can be said.
    pub changed: u64,
    /// Paths in both without a difference.
    pub same: u64,
    /// Bytes of content that were compared.
    pub compared: u64,
    /// Paths whose content could not be read on one side.
    pub unreadable: u64,
    /// Damaged records on both sides: what they held is not compared.
    pub damaged: u64,
}

#[derive(Clone, PartialEq)]
struct Item {
    file: FileRef,
    dir: bool,
    stream: Option<Vec<u8>>,
    size: Option<u64>,
    times: Times,
    attributes: u32,
    facts: FileFacts,
    /// Named streams change with their file: times and flags are not theirs.
    own: bool,
}

impl Item {
    fn new(row: &Row<'_>, facts: &Facts, options: DiffOptions) -> Self {
        let n = row.node;
        Self {
            file: n.file(),
            dir: n.is_dir(),
            stream: row.stream.map(|s| s.0.to_vec()),
            size: match row.stream {
                Some((_, d)) => Some(d.size),
                None => n.has_data().then_some(n.size),
            },
            times: Times {
                accessed: match options.accessed {
                    true => n.times.accessed,
                    false => NtTime::default(),
                },
                ..n.times
            },
            attributes: n.attributes,
            facts: match row.stream {
                Some(_) => FileFacts::default(),
                None => facts.of(n),
            },
            own: row.stream.is_none(),
        }
    }

    fn metadata(&self, other: &Item) -> Aspects {
        let times = |t: &Times| (t.created, t.modified, t.changed);
        let (f, g) = (&self.facts, &other.facts);
        let lost = f.unreadable.or(g.unreadable);
        Aspects {
            size: self.size != other.size,
            content: self.size != other.size,
            times: self.own && times(&self.times) != times(&other.times),
            attributes: self.own && self.attributes != other.attributes,
            accessed: self.own && self.times.accessed != other.times.accessed,
            kind: self.dir != other.dir,
            security: !lost.security && f.security != g.security,
            links: f.links != g.links,
            short_name: f.short_name != g.short_name,
            reparse: !lost.reparse && f.reparse != g.reparse,
            object_id: !lost.object_id && f.object_id != g.object_id,
            ea: !lost.ea && f.ea != g.ea,
            efs: !lost.efs && f.efs != g.efs,
            unreadable: lost.any(),
            ..Aspects::default()
        }
    }

    /// Digest of what [`Item::metadata`] compares.
    fn metadata_key(&self) -> u64 {
        let mut hash = blake3::Hasher::new();
        let size = self.size.map_or([0; 9], |n| {
            let mut b = [1; 9];
            b[1..].copy_from_slice(&n.to_le_bytes());
            b
        });
        hash.update(&size);
        if self.own {
            let t = &self.times;
            for t in [t.created, t.modified, t.changed, t.accessed] {
                hash.update(&t.0.to_le_bytes());
            }
            hash.update(&self.attributes.to_le_bytes());
        }
        hash.update(&[self.dir.into()]);
        self.facts.hash(&mut hash);
        let mut key = [0; 8];
        hash.finalize_xof().fill(&mut key);
        u64::from_le_bytes(key)
    }

    /// Digest of the stream of this name that the file record of `tree` has.
    fn content(&self, tree: &Tree<'_>, record: RecordNo) -> Result<[u8; 32]> {
        let file = tree.volume().file(record)?;
        let name = self.stream.as_deref().unwrap_or_default();
        let units = to_utf16(name).unwrap_or_default();
        let name: Vec<u8> = units.iter().flat_map(|u| u.to_le_bytes()).collect();
        let stream = Stream::open(tree.volume(), &file, DATA, &name)?
            .ok_or_else(|| Error::damaged("The stream is gone"))?;
        digest(&stream)
    }
}

/// A row of the first volume, as small as can be: a million files must fit
/// beside the listing of the second volume.
struct Known {
    /// Digest of the path.
    path: u128,
    /// Digest of everything that [`Item::metadata`] compares.
    metadata: u64,
    record: u32,
    /// Found in the second volume.
    met: bool,
}

/// A path that is in both volumes and whose content is to be compared.
struct Pair {
    path: Vec<u8>,
    old: RecordNo,
    new: Item,
}

/// Compares two volumes; each difference goes to `emit`, sorted by path. Memory
/// follows the larger of the two and the number of differences.
pub fn diff(
    old: &Tree<'_>,
    new: &Tree<'_>,
    options: DiffOptions,
    observer: &dyn Observer,
    mut emit: impl FnMut(&Difference) -> Result<()>,
) -> Result<DiffSummary> {
    let mut summary = DiffSummary::default();
    let mut known = Vec::new();
    summary.damaged += rows(old, options, observer, |row, facts| {
        known.push(Known {
            path: path_key(row),
            metadata: Item::new(row, facts, options).metadata_key(),
            record: row.node.record,
            met: false,
        });
        Ok(())
    })?;
    known.sort_unstable_by_key(|k| k.path);

    let mut fresh: Vec<(Vec<u8>, Item)> = Vec::new();
    // In both, and other by their metadata: the first side is read again below.
    let mut other: HashMap<u128, Item> = HashMap::new();
    let mut found: Vec<Difference> = Vec::new();
    let mut batch: Vec<Pair> = Vec::new();
    summary.damaged += rows(new, options, observer, |row, facts| {
        let key = path_key(row);
        let item = Item::new(row, facts, options);
        let Ok(i) = known.binary_search_by_key(&key, |k| k.path) else {
            fresh.push((row.path(), item));
            return Ok(());
        };
        known[i].met = true;
        // What cannot be read is said below, also when neither side can be.
        if known[i].metadata != item.metadata_key() || item.facts.unreadable.any() {
            other.insert(key, item);
            return Ok(());
        }
        if options.quick || item.size.is_none_or(|n| n == 0) {
            summary.same += 1;
            return Ok(());
        }
        batch.push(Pair {
            path: row.path(),
            old: RecordNo(known[i].record.into()),
            new: item,
        });
        if batch.len() == BATCH {
            compare_batch(old, new, &mut batch, &mut summary, &mut found, observer)?;
        }
        Ok(())
    })?;
    compare_batch(old, new, &mut batch, &mut summary, &mut found, observer)?;

    // What the first volume has alone, or other than the second one.
    let mut gone: Vec<(Vec<u8>, Item)> = Vec::new();
    if !other.is_empty() || known.iter().any(|k| !k.met) {
        let mut changed = Vec::new();
        rows(old, options, observer, |row, facts| {
            let key = path_key(row);
            match known.binary_search_by_key(&key, |k| k.path) {
                Ok(i) if known[i].met => {
                    if let Some(b) = other.remove(&key) {
                        changed.push((row.path(), None, Item::new(row, facts, options), b));
                    }
                }
                _ => gone.push((row.path(), Item::new(row, facts, options))),
            }
            Ok(())
        })?;
        drop(known);
        if old.volume().geometry().serial == new.volume().geometry().serial {
            renamed(&mut gone, &mut fresh, &mut changed);
        }
        compare_changed(
            old,
            new,
            changed,
            options,
            &mut summary,
            &mut found,
            observer,
        )?;
    }
    found.extend(
        fresh
            .into_iter()
            .map(|(path, b)| lone(path, &b, Change::Added)),
    );
    found.extend(
        gone.into_iter()
            .map(|(path, a)| lone(path, &a, Change::Removed)),
    );

    let up = new.upcase();
    found.sort_by(|a, b| up.compare_wtf8(&a.path, &b.path));
    for d in &found {
        match d.change {
            Change::Added => summary.added += 1,
            Change::Removed => summary.removed += 1,
            // Nothing is known to differ.
            Change::Changed
                if d.aspects
                    == Aspects {
                        unreadable: true,
                        ..Aspects::default()
                    } => {}
            Change::Changed => summary.changed += 1,
        }
        summary.unreadable += u64::from(d.aspects.unreadable);
        emit(d)?;
    }
    Ok(summary)
}

/// Two paths, two items: the old path when it is another one.
type Both = (Vec<u8>, Option<Vec<u8>>, Item, Item);

/// Takes out of `gone` and `fresh` what is the same file under another path.
fn renamed(
    gone: &mut Vec<(Vec<u8>, Item)>,
    fresh: &mut Vec<(Vec<u8>, Item)>,
    changed: &mut Vec<Both>,
) {
    let key = |i: &Item| (i.file, i.stream.clone());
    let mut by_file: HashMap<_, Vec<usize>> = HashMap::new();
    for (i, (_, a)) in gone.iter().enumerate() {
        by_file.entry(key(a)).or_default().push(i);
    }
    let mut taken = vec![false; gone.len()];
    fresh.retain(|(path, b)| {
        let Some(i) = by_file.get_mut(&key(b)).and_then(Vec::pop) else {
            return true;
        };
        taken[i] = true;
        let (was, a) = gone[i].clone();
        changed.push((path.clone(), Some(was), a, b.clone()));
        false
    });
    let mut taken = taken.into_iter();
    gone.retain(|_| !taken.next().unwrap_or(false));
}

/// Compares the content of pairs whose metadata is the same.
fn compare_batch(
    old: &Tree<'_>,
    new: &Tree<'_>,
    batch: &mut Vec<Pair>,
    summary: &mut DiffSummary,
    found: &mut Vec<Difference>,
    observer: &dyn Observer,
) -> Result<()> {
    if observer.cancelled() {
        return Err(Error::interrupted());
    }
    let compare = |p: &Pair| match (
        p.new.content(old, p.old),
        p.new.content(new, p.new.file.record),
    ) {
        (Ok(x), Ok(y)) => Some(x == y),
        _ => None,
    };
    let results: Vec<Option<bool>> = batch.par_iter().map(compare).collect();
    for (pair, result) in batch.drain(..).zip(results) {
        let size = pair.new.size;
        if result.is_some() {
            summary.compared += size.unwrap_or(0);
        }
        if result == Some(true) {
            summary.same += 1;
            continue;
        }
        found.push(Difference {
            path: pair.path,
            old_path: None,
            change: Change::Changed,
            aspects: Aspects {
                content: result == Some(false),
                unreadable: result.is_none(),
                ..Aspects::default()
            },
            old_size: size,
            new_size: size,
        });
    }
    Ok(())
}

/// Compares pairs that differ in metadata or path.
fn compare_changed(
    old: &Tree<'_>,
    new: &Tree<'_>,
    changed: Vec<Both>,
    options: DiffOptions,
    summary: &mut DiffSummary,
    found: &mut Vec<Difference>,
    observer: &dyn Observer,
) -> Result<()> {
    for batch in changed.chunks(BATCH) {
        if observer.cancelled() {
            return Err(Error::interrupted());
        }
        let compare = |(path, was, a, b): &Both| {
            let mut aspects = a.metadata(b);
            aspects.name = was.is_some();
            let mut compared = 0;
            if !options.quick && !aspects.size && a.size.is_some_and(|n| n > 0) {
                match (a.content(old, a.file.record), b.content(new, b.file.record)) {
                    (Ok(x), Ok(y)) => {
                        aspects.content = x != y;
                        compared = a.size.unwrap_or(0);
                    }
                    _ => aspects.unreadable = true,
                }
            }
            let difference = (aspects != Aspects::default()).then(|| Difference {
                path: path.clone(),
                old_path: was.clone(),
                change: Change::Changed,
                aspects,
                old_size: a.size,
                new_size: b.size,
            });
            (difference, compared)
        };
        let results: Vec<_> = batch.par_iter().map(compare).collect();
        for (difference, compared) in results {
            summary.compared += compared;
            match difference {
                Some(d) => found.push(d),
                None => summary.same += 1,
            }
        }
    }
    Ok(())
}

fn lone(path: Vec<u8>, item: &Item, change: Change) -> Difference {
    let (old_size, new_size) = match change {
        Change::Removed => (item.size, None),
        _ => (None, item.size),
    };
    Difference {
        path,
        old_path: None,
        change,
        aspects: Aspects::default(),
        old_size,
        new_size,
    }
}

/// Every row of a volume that counts; returns how many records were damaged.
fn rows(
    tree: &Tree<'_>,
    options: DiffOptions,
    observer: &dyn Observer,
    mut each: impl FnMut(&Row<'_>, &Facts) -> Result<()>,
) -> Result<u64> {
    let told = opened::tell(tree.volume(), observer);
    observer.begin("list", Some(tree.volume().mft().record_count));
    let mut listing = Listing::scan_details(tree.volume(), tree.upcase(), observer)?;
    observer.end();
    let facts = Facts::new(tree.volume(), &mut listing, observer)?;
    let mut result = Ok(());
    listing.for_each(|row| {
        let own = row.node.record < 24 && row.node.record != 5;
        if result.is_ok() && (options.system || !own && !row.dir.starts_with(b"/$Extend/")) {
            result = each(row, &facts);
        }
    });
    result.map(|()| listing.bad.count.max(told))
}

fn path_key(row: &Row<'_>) -> u128 {
    let mut hash = blake3::Hasher::new();
    hash.update(row.dir).update(row.name);
    if let Some((name, _)) = row.stream {
        hash.update(b":").update(name);
    }
    let mut key = [0; 16];
    hash.finalize_xof().fill(&mut key);
    u128::from_le_bytes(key)
}
