//! `extract`: files and directories of a volume as files of the host.
//!
//! A file is written under a name of its own and gets its name when it is
//! complete. Named streams become files `NAME:STREAM` beside it, hard links
//! stay links, holes stay holes. Links of the volume become small files
//! `NAME.reparse` with the raw reparse point unless symbolic links are asked
//! for. The files of NTFS itself are left out below a directory. Names that an
//! index lacks are found by the parent links; with the root come the files that
//! have lost their directory, and those without a name. Deleted files come when
//! they are asked for. The time of creation cannot be set on Linux.
//!
//! | file | subject |
//! |---|---|
//! | `walk` | down the directories |
//! | `content` | streams, reparse points, hard links |
//! | `deleted` | what is deleted |
//! | `host` | names and files here |

mod content;
mod deleted;
mod host;
mod walk;

pub use deleted::extract_deleted;

use super::opened;
use crate::error::{Error, Result};
use crate::observe::{Observer, warning};
use crate::units::{FileRef, RecordNo};
use crate::volume::names::Space;
use crate::volume::path::VolumePath;
use crate::volume::times::Times;
use crate::volume::tree::{DirEntry, Found, Tree};
use host::{Host, Refused, host_name, shown};
use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::Path;
use walk::Late;

/// Directories inside each other: each holds a file descriptor.
const MAX_DEPTH: usize = 400;

/// How to extract.
#[derive(Clone, Copy, Debug)]
pub struct ExtractOptions {
    /// Replace files that are there.
    pub force: bool,
    /// Make symbolic links of links and junctions.
    pub links: bool,
    /// Write zeros for what cannot be read, instead of leaving the file out.
    pub zero_unreadable: bool,
    /// Named streams too.
    pub streams: bool,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        Self {
            force: false,
            links: false,
            zero_unreadable: false,
            streams: true,
        }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ExtractSummary {
    /// Files written, hard links counted once.
    pub files: u64,
    /// Directories made or entered.
    pub dirs: u64,
    /// Named streams written.
    pub streams: u64,
    /// Further names of files.
    pub hard_links: u64,
    /// Bytes of content, holes counted.
    pub bytes: u64,
    /// Warnings given.
    pub warnings: u64,
    /// Files, streams and directories that were left out. The work is not
    /// complete unless this is 0.
    pub skipped: u64,
    /// Bytes that could not be read and were written as zeros.
    pub zeroed: u64,
    /// Damaged records and indexes of the volume that were worked around: names
    /// may be missing.
    pub damaged: u64,
}

/// Extracts each path into the directory `target`, which must exist. Goes on
/// after what concerns one file only; fails when nothing more can be written.
pub fn extract(
    tree: &Tree<'_>,
    paths: &[VolumePath],
    target: &Path,
    options: ExtractOptions,
    observer: &dyn Observer,
) -> Result<ExtractSummary> {
    let mut found: Vec<Found> = Vec::new();
    for path in paths {
        let f = tree.lookup(path)?;
        // Named twice is wanted once.
        if !found.contains(&f) {
            found.push(f);
        }
    }
    let mut job = Job::new(tree, target, options, observer)?;
    observer.begin("extract", None);
    let result = found.iter().try_for_each(|f| job.path(f));
    observer.end();
    result.map(|()| job.summary)
}

/// Extracts the file or directory of a file record, also a deleted file.
pub fn extract_record(
    tree: &Tree<'_>,
    record: RecordNo,
    target: &Path,
    options: ExtractOptions,
    observer: &dyn Observer,
) -> Result<ExtractSummary> {
    let base = tree.volume().record(record)?.view().base();
    let record = base.map_or(record, |b| b.record);
    let path = tree.path_of(record)?;
    let mut job = Job::new(tree, target, options, observer)?;
    observer.begin("extract", None);
    let item = Item {
        entry: named(record, &path),
        kind: Kind::Any,
    };
    let result = job.dup_root().and_then(|root| job.walk(item, path, root));
    observer.end();
    result.map(|()| job.summary)
}

/// What is to be extracted.
struct Item {
    entry: DirEntry,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A name in a directory: its file must still be there.
    InUse,
    /// A file record, whatever its state.
    Any,
    /// The place of files whose directory is gone.
    Orphan,
    /// A file in use without a name.
    Nameless,
}

/// The entry of a record whose path is known.
fn named(record: RecordNo, path: &[u8]) -> DirEntry {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
    DirEntry {
        file: FileRef {
            record,
            sequence: 0,
        },
        name: name.to_vec(),
        space: Space::Posix,
    }
}

struct Job<'t, 'v> {
    tree: &'t Tree<'v>,
    options: ExtractOptions,
    observer: &'t dyn Observer,
    host: Host,
    summary: ExtractSummary,
    /// Directories that were entered: none is entered twice.
    dirs: HashSet<u64>,
    /// Names of directories whose records do not know them.
    late: Vec<Late>,
    /// Bytes of the paths in `late`.
    late_bytes: usize,
    /// Files without a name for which an index had one.
    known: HashSet<u64>,
    /// Files without a name that came by the number of their record.
    nameless: u64,
    /// Files with several names: where the first one was written.
    links: HashMap<u64, Vec<Vec<u8>>>,
    /// The same for their named streams.
    stream_links: HashMap<(u64, Vec<u8>), Vec<Vec<u8>>>,
    /// Said that file records are damaged.
    records_said: bool,
    /// The file at hand is deleted.
    gone: bool,
    /// Said that clusters of deleted files may have been used again.
    gone_said: bool,
}

/// Where something goes: the directory, its names from the target on.
struct Place<'a> {
    dir: &'a OwnedFd,
    names: &'a [Vec<u8>],
}

impl Place<'_> {
    /// The names down to one in it.
    fn below(&self, name: Vec<u8>) -> Vec<Vec<u8>> {
        let mut whole: Vec<_> = self.names.iter().filter(|n| *n != b".").cloned().collect();
        whole.push(name);
        whole
    }
}

impl<'t, 'v> Job<'t, 'v> {
    fn new(
        tree: &'t Tree<'v>,
        target: &Path,
        options: ExtractOptions,
        observer: &'t dyn Observer,
    ) -> Result<Self> {
        let host = Host::open(target, options.force)?;
        let summary = ExtractSummary {
            damaged: opened::tell(tree.volume(), observer),
            ..ExtractSummary::default()
        };
        Ok(Self {
            tree,
            options,
            observer,
            host,
            summary,
            dirs: HashSet::new(),
            late: Vec::new(),
            late_bytes: 0,
            known: HashSet::new(),
            nameless: 0,
            links: HashMap::new(),
            stream_links: HashMap::new(),
            records_said: false,
            gone: false,
            gone_said: false,
        })
    }

    fn path(&mut self, found: &Found) -> Result<()> {
        let root = self.dup_root()?;
        let place = Place {
            dir: &root,
            names: &[],
        };
        let name = found.path.rsplit(|&b| b == b'/').next().unwrap_or_default();
        if found.stream.is_some() {
            let opened = self.tree.open(found);
            let mut whole = name.to_vec();
            if let Some(s) = &found.stream {
                whole.push(b':');
                whole.extend_from_slice(&s.name);
            }
            let whole_path = [&found.path[..], &whole[name.len()..]].concat();
            let times = Times::default();
            return match opened {
                Ok(s) => self
                    .stream(&s, &place, &whole, &whole_path, Some(&times))
                    .map(|_| ()),
                Err(e) => self.skip("unreadable", &found.path, &e.to_string()),
            };
        }
        let entry = DirEntry {
            file: found.file,
            ..named(found.file.record, &found.path)
        };
        let kind = match self.tree.is_orphan(found) {
            true => Kind::Orphan,
            false => Kind::InUse,
        };
        // Another path may lead into the same directory.
        self.dirs.clear();
        self.walk(Item { entry, kind }, found.path.clone(), root)
    }

    fn dup_root(&self) -> Result<OwnedFd> {
        let fd = self.host.root.try_clone();
        fd.map_err(|e| Error::io("Cannot use the target directory", e))
    }

    fn name(&mut self, name: &[u8], path: &[u8]) -> Vec<u8> {
        let (host, changed) = host_name(name);
        if changed {
            let what = format!("{}: written as {}", shown(path), shown(&host));
            self.warn("name", what);
        }
        host
    }

    fn other_name(&mut self, name: &[u8], n: RecordNo, path: &[u8]) -> Vec<u8> {
        let (other, _) = host_name(&[name, b"%", n.to_string().as_bytes()].concat());
        let what = "its name is taken by another file of the volume";
        let message = format!("{}: {what}, written as {}", shown(path), shown(&other));
        self.warn("name", message);
        other
    }

    fn warn(&mut self, code: &'static str, message: String) {
        self.summary.warnings += 1;
        self.observer.warn(warning(code, message));
    }

    fn skip(&mut self, code: &'static str, path: &[u8], why: &str) -> Result<()> {
        self.summary.skipped += 1;
        self.warn(code, format!("{} is left out: {why}", shown(path)));
        Ok(())
    }

    fn refused(&mut self, why: Refused, path: &[u8]) -> Result<()> {
        match why {
            Refused::Exists | Refused::Ours => {
                let why =
                    "there is something with this name, and it is not replaced without --force";
                self.skip("exists", path, why)
            }
            Refused::Host(e) => self.skip("host", path, &e.to_string()),
            Refused::Fatal(e) => Err(e.of(shown(path))),
        }
    }
}
