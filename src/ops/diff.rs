//! `diff`: what is other in a second volume: two backups, a backup and a live
//! volume, or any two. Names are matched by path; what has another path but is
//! the same file of the same volume counts as renamed. Content is compared by
//! digest unless only metadata is asked for.

use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::units::{FileRef, RecordNo};
use crate::volume::attr::DATA;
use crate::volume::listing::{Deleted, Listing, Row};
use crate::volume::names::to_utf16;
use crate::volume::stream::{Piece, Stream};
use crate::volume::times::Times;
use crate::volume::tree::Tree;
use rayon::prelude::*;
use std::collections::HashMap;

/// Pairs whose content is compared at a time.
const BATCH: usize = 256;
/// Content is digested in blocks of this many bytes; blocks of zeros are not.
const BLOCK: usize = 4096;

/// How to compare.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiffOptions {
    /// Sizes, times and attributes only; content is not read.
    pub quick: bool,
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
    /// Created, modified or changed; the time of the last access does not count.
    pub times: bool,
    /// Attribute flags.
    pub attributes: bool,
    /// Its path: it was renamed or moved.
    pub name: bool,
    /// File or directory, tag or target of a reparse point.
    pub kind: bool,
    /// The content of one side cannot be read; nothing is said about it.
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
    /// Paths in both that differ.
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
    tag: u32,
    target: Option<Vec<u8>>,
    /// Named streams change with their file: times and flags are not theirs.
    own: bool,
}

impl Item {
    fn new(row: &Row<'_>) -> Self {
        let n = row.node;
        Self {
            file: n.file(),
            dir: n.is_dir(),
            stream: row.stream.map(|s| s.0.to_vec()),
            size: match row.stream {
                Some((_, d)) => Some(d.size),
                None => n.has_data().then_some(n.size),
            },
            times: n.times,
            attributes: n.attributes,
            tag: n.tag,
            target: row.target.map(<[u8]>::to_vec),
            own: row.stream.is_none(),
        }
    }

    fn metadata(&self, other: &Item) -> Aspects {
        let times = |t: &Times| (t.created, t.modified, t.changed);
        Aspects {
            size: self.size != other.size,
            content: self.size != other.size,
            times: self.own && times(&self.times) != times(&other.times),
            attributes: self.own && self.attributes != other.attributes,
            kind: self.dir != other.dir || self.tag != other.tag || self.target != other.target,
            ..Aspects::default()
        }
    }

    fn content(&self, tree: &Tree<'_>) -> Result<[u8; 32]> {
        let file = tree.volume().file(self.file.record)?;
        let name = self.stream.as_deref().unwrap_or_default();
        let units = to_utf16(name).unwrap_or_default();
        let name: Vec<u8> = units.iter().flat_map(|u| u.to_le_bytes()).collect();
        let stream = Stream::open(tree.volume(), &file, DATA, &name)?
            .ok_or_else(|| Error::damaged("The stream is gone"))?;
        digest(&stream)
    }
}

/// Compares two volumes; each difference goes to `emit`, sorted by path.
pub fn diff(
    old: &Tree<'_>,
    new: &Tree<'_>,
    options: DiffOptions,
    observer: &dyn Observer,
    mut emit: impl FnMut(&Difference) -> Result<()>,
) -> Result<DiffSummary> {
    let mut summary = DiffSummary::default();
    let mut before = items(old, options, observer, &mut summary)?;
    let after = items(new, options, observer, &mut summary)?;
    let mut found: Vec<Difference> = Vec::new();
    let mut fresh = Vec::new();
    let mut pairs = Vec::new();
    for (path, b) in after {
        match before.remove(&path) {
            Some(a) => pairs.push((path, None, a, b)),
            None => fresh.push((path, b)),
        }
    }
    // The same file of the same volume under another path.
    if old.volume().geometry().serial == new.volume().geometry().serial {
        let key = |i: &Item| (i.file, i.stream.clone());
        let mut gone: HashMap<_, Vec<Vec<u8>>> = HashMap::new();
        for (path, a) in &before {
            gone.entry(key(a)).or_default().push(path.clone());
        }
        fresh.retain(|(path, b)| {
            let Some(was) = gone.get_mut(&key(b)).and_then(Vec::pop) else {
                return true;
            };
            match before.remove(&was) {
                Some(a) => pairs.push((path.clone(), Some(was), a, b.clone())),
                None => return true,
            }
            false
        });
    }
    found.extend(
        fresh
            .into_iter()
            .map(|(path, b)| lone(path, &b, Change::Added)),
    );
    found.extend(
        before
            .into_iter()
            .map(|(path, a)| lone(path, &a, Change::Removed)),
    );

    observer.begin("compare", Some(pairs.len() as u64));
    for batch in pairs.chunks(BATCH) {
        if observer.cancelled() {
            return Err(Error::interrupted());
        }
        let compare = |(path, was, a, b): &(Vec<u8>, Option<Vec<u8>>, Item, Item)| {
            let mut aspects = a.metadata(b);
            aspects.name = was.is_some();
            let mut compared = 0;
            if !options.quick && !aspects.size && a.size.is_some_and(|n| n > 0) {
                match (a.content(old), b.content(new)) {
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
        observer.advance(batch.len() as u64);
    }
    observer.end();
    let up = new.upcase();
    found.sort_by(|a, b| up.compare_wtf8(&a.path, &b.path));
    for d in &found {
        match d.change {
            Change::Added => summary.added += 1,
            Change::Removed => summary.removed += 1,
            Change::Changed => summary.changed += 1,
        }
        summary.unreadable += u64::from(d.aspects.unreadable);
        emit(d)?;
    }
    Ok(summary)
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

fn items(
    tree: &Tree<'_>,
    options: DiffOptions,
    observer: &dyn Observer,
    summary: &mut DiffSummary,
) -> Result<HashMap<Vec<u8>, Item>> {
    observer.begin("list", Some(tree.volume().mft().record_count));
    let listing = Listing::scan(
        tree.volume(),
        tree.upcase(),
        RecordNo(5),
        Deleted::Hide,
        observer,
    )?;
    observer.end();
    summary.damaged += listing.faults;
    let mut all = HashMap::new();
    listing.for_each(|row| {
        let own = row.node.record < 24 && row.node.record != 5;
        if options.system || !own && !row.dir.starts_with(b"/$Extend/") {
            all.insert(row.path(), Item::new(row));
        }
    });
    Ok(all)
}

/// A digest of a stream's logical content that does not depend on where its
/// holes are, and does not read them: size, and each block that is not zero.
pub fn digest(stream: &Stream) -> Result<[u8; 32]> {
    let mut content = Content {
        hash: blake3::Hasher::new(),
        block: [0; BLOCK],
        at: 0,
    };
    content.hash.update(&stream.len().to_le_bytes());
    stream.copy(|piece| match piece {
        Piece::Data(data) => {
            content.data(data);
            Ok(())
        }
        Piece::Zero(n) => {
            content.zeros(n);
            Ok(())
        }
        Piece::Unreadable(_, e) => Err(e),
    })?;
    content.flush((content.at % BLOCK as u64) as usize);
    Ok(*content.hash.finalize().as_bytes())
}

struct Content {
    hash: blake3::Hasher,
    block: [u8; BLOCK],
    at: u64,
}

impl Content {
    fn data(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let from = (self.at % BLOCK as u64) as usize;
            let (now, later) = data.split_at(data.len().min(BLOCK - from));
            self.block[from..from + now.len()].copy_from_slice(now);
            self.at += now.len() as u64;
            data = later;
            if from + now.len() == BLOCK {
                self.flush(BLOCK);
            }
        }
    }

    fn zeros(&mut self, mut n: u64) {
        let from = (self.at % BLOCK as u64) as usize;
        if from > 0 {
            let now = n.min((BLOCK - from) as u64) as usize;
            self.block[from..from + now].fill(0);
            self.at += now as u64;
            n -= now as u64;
            if from + now == BLOCK {
                self.flush(BLOCK);
            } else {
                return;
            }
        }
        self.at += n;
        self.block[..(n % BLOCK as u64) as usize].fill(0);
    }

    /// Takes in the block that ends at `at`, of which `len` bytes are there.
    fn flush(&mut self, len: usize) {
        let block = &self.block[..len];
        if block != &[0; BLOCK][..len] {
            self.hash.update(&(self.at - len as u64).to_le_bytes());
            self.hash.update(block);
        }
    }
}
