//! `extract`: files and directories of a volume as files of the host.
//!
//! A file is written under a name of its own and gets its name when it is
//! complete. Named streams become files `NAME:STREAM` beside it, hard links
//! stay links, holes stay holes. Links of the volume become small files
//! `NAME.reparse` with the raw reparse point unless symbolic links are asked
//! for. The files of NTFS itself are left out below a directory. Names that an
//! index lacks are found by the parent links. Deleted files come when they are
//! asked for. The time of creation cannot be set on Linux.

mod deleted;
mod host;

pub use deleted::extract_deleted;

use crate::error::{Error, ErrorKind, Result};
use crate::observe::{Observer, warning};
use crate::units::{FileRef, RecordNo};
use crate::volume::attr::{DATA, REPARSE_POINT, STANDARD_INFORMATION};
use crate::volume::file::FileRecords;
use crate::volume::names::{Space, wtf8};
use crate::volume::path::VolumePath;
use crate::volume::reparse::{self, Reparse, Target};
use crate::volume::stream::{Piece, Stream};
use crate::volume::times::Times;
use crate::volume::tree::{DirEntry, Found, ROOT, Tree};
use host::{Host, Refused, host_name, set_times, shown};
use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Directories inside each other: each holds a file descriptor.
const MAX_DEPTH: usize = 400;
/// A reparse point is at most 16 KiB.
const MAX_REPARSE: u64 = 64 << 10;

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

/// A directory that was made: itself, its name here, and the times it gets.
type Made = (OwnedFd, Vec<u8>, Option<Times>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A name in a directory: its file must still be there.
    InUse,
    /// A file record, whatever its state.
    Any,
    /// The place of files whose directory is gone.
    Orphan,
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
    /// Files with several names: where the first one was written.
    links: HashMap<u64, Vec<Vec<u8>>>,
    /// The same for their named streams.
    stream_links: HashMap<(u64, Vec<u8>), Vec<Vec<u8>>>,
    /// The file at hand is deleted.
    gone: bool,
    /// Said that clusters of deleted files may have been used again.
    gone_said: bool,
}

/// A directory that is being filled.
struct Level {
    fd: OwnedFd,
    entries: std::vec::IntoIter<Item>,
    path: Vec<u8>,
    times: Option<Times>,
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
        Ok(Self {
            tree,
            options,
            observer,
            host: Host::open(target, options.force)?,
            summary: ExtractSummary::default(),
            dirs: HashSet::new(),
            links: HashMap::new(),
            stream_links: HashMap::new(),
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

    /// A file, or a directory with everything below it.
    fn walk(&mut self, first: Item, path: Vec<u8>, root: OwnedFd) -> Result<()> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        let parent_path = path.iter().rposition(|&b| b == b'/').map_or(0, |i| i);
        let mut levels = vec![Level {
            fd: root,
            entries: vec![first].into_iter(),
            path: path[..parent_path].to_vec(),
            times: None,
        }];
        while let Some(level) = levels.last_mut() {
            if self.observer.cancelled() {
                return Err(Error::interrupted());
            }
            let Some(item) = level.entries.next() else {
                if let Some(times) = &level.times {
                    set_times(&level.fd, times);
                }
                levels.pop();
                names.pop();
                continue;
            };
            // NTFS's own files come only when they are named.
            let file = item.entry.file;
            let own = file.record.0 < 24 && file.record != ROOT && item.kind == Kind::InUse;
            if own && !names.is_empty() {
                continue;
            }
            let path = [&level.path[..], b"/", &item.entry.name].concat();
            let place = Place {
                dir: &level.fd,
                names: &names,
            };
            let depth = names.len();
            let Some((fd, name, times)) = self.entry(&item, &path, &place, depth)? else {
                continue;
            };
            let Some(entries) = self.children(&item, &path)? else {
                continue;
            };
            let path = if path == b"/" { Vec::new() } else { path };
            names.extend((!name.is_empty()).then_some(name));
            // The root stands at the target itself.
            if names.len() == depth {
                names.push(b".".to_vec());
            }
            levels.push(Level {
                fd,
                entries: entries.into_iter(),
                path,
                times,
            });
        }
        Ok(())
    }

    /// What stands in a directory; `None` when nobody can tell.
    fn children(&mut self, item: &Item, path: &[u8]) -> Result<Option<Vec<Item>>> {
        let dir = item.entry.file;
        let item_of = |entry: &DirEntry| Item {
            entry: entry.clone(),
            kind: Kind::InUse,
        };
        if item.kind == Kind::Orphan {
            return match self.tree.list_orphan(dir) {
                Ok(list) => Ok(Some(list.iter().map(item_of).collect())),
                Err(e) => self.skip("index", path, &e.to_string()).map(|()| None),
            };
        }
        let (list, lacking) = match self.tree.list_all(dir) {
            Ok(found) => found,
            Err(e) => return self.skip("index", path, &e.to_string()).map(|()| None),
        };
        if let Some(damage) = &list.damage {
            self.warn("index", damage.to_string());
        }
        if lacking > 0 {
            let what = format!(
                "{}: the index of the directory lacks {lacking} of its names, the file records have them",
                shown(path)
            );
            self.warn("index", what);
        }
        let mut all: Vec<Item> = list.entries.iter().map(item_of).collect();
        if dir.record == ROOT {
            for file in self.tree.orphans().unwrap_or_default() {
                let name = format!("<orphan {file}>").into_bytes();
                let entry = DirEntry {
                    name,
                    ..named(file.record, &[])
                };
                all.push(Item {
                    entry: DirEntry { file, ..entry },
                    kind: Kind::Orphan,
                });
            }
        }
        Ok(Some(all))
    }

    /// Writes one file; for a directory gives what is needed to fill it.
    fn entry(
        &mut self,
        item: &Item,
        path: &[u8],
        place: &Place<'_>,
        depth: usize,
    ) -> Result<Option<Made>> {
        let entry = &item.entry;
        self.gone = false;
        if item.kind == Kind::Orphan {
            if depth > 0 && self.tree.is_dir(entry.file) && self.dirs.contains(&entry.file.record.0)
            {
                return Ok(None);
            }
            if self.tree.is_dir(entry.file) {
                self.dirs.insert(entry.file.record.0);
            }
            let what = "the directory is gone, its files are written below this name";
            self.warn("orphan", format!("{}: {what}", shown(path)));
            return Ok(self
                .directory(entry, path, place)?
                .map(|(fd, name)| (fd, name, None)));
        }
        let file = match self.tree.volume().file(entry.file.record) {
            Ok(f) => f,
            Err(e) => return self.skip("bad-record", path, &e.to_string()).map(|()| None),
        };
        let view = file.base().view();
        let other = entry.file.sequence != 0 && view.sequence() != entry.file.sequence;
        if item.kind == Kind::InUse && (other || !view.in_use()) {
            let why = match other {
                true => "its file record belongs to another file now",
                false => "the file is deleted; --deleted or --mft extracts it",
            };
            return self.skip("bad-record", path, why).map(|()| None);
        }
        self.gone = !view.in_use();
        let point = match self.reparse_point(&file, path)? {
            Some((point, raw)) => {
                if self.is_link(&point, &raw, entry, path, place)? {
                    self.named_streams(&file, &entry.name, path, place)?;
                    return Ok(None);
                }
                Some(point)
            }
            None => None,
        };
        if !view.is_directory() {
            self.file(&file, point.as_ref(), entry, path, place)?;
            return Ok(None);
        }
        if self.gone {
            let why = "it is a deleted directory; --deleted with its path extracts its files";
            return self.skip("deleted", path, why).map(|()| None);
        }
        if depth >= MAX_DEPTH || !self.dirs.insert(entry.file.record.0) {
            let why = "the directory is inside itself, or too deep";
            return self.skip("loop", path, why).map(|()| None);
        }
        self.incomplete(&file, path)?;
        self.named_streams(&file, &entry.name, path, place)?;
        Ok(self
            .directory(entry, path, place)?
            .map(|(fd, name)| (fd, name, times_of(&file))))
    }

    /// Makes a directory.
    fn directory(
        &mut self,
        entry: &DirEntry,
        path: &[u8],
        place: &Place<'_>,
    ) -> Result<Option<(OwnedFd, Vec<u8>)>> {
        self.summary.dirs += 1;
        if entry.name.is_empty() {
            return Ok(Some((self.dup_root()?, Vec::new())));
        }
        let mut name = self.name(&entry.name, path);
        let mut made = self.host.dir(place.dir, &name);
        if matches!(made, Err(Refused::Ours)) {
            name = self.other_name(&name, entry.file.record, path);
            made = self.host.dir(place.dir, &name);
        }
        match made {
            Ok(fd) => Ok(Some((fd, name))),
            Err(e) => self.refused(e, path).map(|()| None),
        }
    }

    /// Counts a file whose records are damaged: a stream may be missing.
    fn incomplete(&mut self, file: &FileRecords, path: &[u8]) -> Result<()> {
        if let Some(why) = damage_of(file) {
            self.summary.skipped += 1;
            let what = "a part of it may be missing";
            self.warn("bad-record", format!("{}: {what}: {why}", shown(path)));
        }
        Ok(())
    }

    /// The reparse point of a file and its raw bytes.
    fn reparse_point(
        &mut self,
        file: &FileRecords,
        path: &[u8],
    ) -> Result<Option<(Reparse, Vec<u8>)>> {
        let opened = Stream::open(self.tree.volume(), file, REPARSE_POINT, &[]);
        let raw = opened.and_then(|s| s.map(|s| s.read_all(MAX_REPARSE)).transpose());
        match raw {
            Ok(None) => Ok(None),
            Ok(Some(raw)) => Ok(Reparse::parse(&raw).map(|p| (p, raw))),
            Err(e) => {
                self.warn("reparse", format!("{}: {e}", shown(path)));
                Ok(None)
            }
        }
    }

    /// Writes what stands for a reparse point; true when there is nothing
    /// more to write.
    fn is_link(
        &mut self,
        point: &Reparse,
        raw: &[u8],
        entry: &DirEntry,
        path: &[u8],
        place: &Place<'_>,
    ) -> Result<bool> {
        let link = matches!(
            point.target,
            Target::Junction { .. } | Target::Symlink { .. } | Target::LxSymlink(_)
        );
        if link
            && self.options.links
            && let Some(target) = host_target(point)
        {
            let name = self.name(&entry.name, path);
            match self.host.symlink(&target, place.dir, &name) {
                Ok(()) => self.summary.files += 1,
                Err(e) => self.refused(e, path)?,
            }
            return Ok(true);
        }
        let what = point.tag_name().unwrap_or("unknown");
        let message = format!(
            "{}: a reparse point ({what}, {:#010x}); its raw bytes are in the file with .reparse behind its name",
            shown(path),
            point.tag
        );
        self.warn("reparse", message);
        let name = [&entry.name[..], b".reparse"].concat();
        let source = self.tree.volume().source().clone();
        let geometry = *self.tree.volume().geometry();
        let stream = Stream::resident(source, geometry, Default::default(), raw);
        self.stream(&stream, place, &name, path, None)?;
        Ok(link)
    }

    fn file(
        &mut self,
        file: &FileRecords,
        point: Option<&Reparse>,
        entry: &DirEntry,
        path: &[u8],
        place: &Place<'_>,
    ) -> Result<()> {
        let record = entry.file.record;
        self.named_streams(file, &entry.name, path, place)?;
        if let Some(first) = self.links.get(&record.0) {
            let first = first.clone();
            let name = self.name(&entry.name, path);
            match self.host.link(&first, place.dir, &name) {
                Ok(()) => {
                    self.summary.hard_links += 1;
                    return Ok(());
                }
                Err(Refused::Host(e)) => {
                    let why = format!("{}: {e}; a copy is written instead", shown(path));
                    self.warn("hard-link", why);
                }
                Err(e) => return self.refused(e, path),
            }
        }
        let stream = match Stream::open(self.tree.volume(), file, DATA, &[]) {
            Ok(Some(s)) => s,
            Ok(None) => match damage_of(file) {
                Some(why) => {
                    let why = format!("its content is not found: {why}");
                    return self.skip("bad-record", path, &why);
                }
                // There is none: one of NTFS's own files.
                None => {
                    let source = self.tree.volume().source().clone();
                    let geometry = *self.tree.volume().geometry();
                    Stream::resident(source, geometry, Default::default(), &[])
                }
            },
            Err(e) => return self.skip("unreadable", path, &e.to_string()),
        };
        if let Some(what) = point.and_then(|p| elsewhere(p, &stream)) {
            let end = "written as NTFS stores it, without that content";
            self.warn("elsewhere", format!("{}: {what}: {end}", shown(path)));
        }
        self.incomplete(file, path)?;
        let times = times_of(file);
        let Some(name) = self.stream(&stream, place, &entry.name, path, times.as_ref())? else {
            return Ok(());
        };
        self.summary.files += 1;
        if crate::volume::tree::names_of(file).len() > 1 {
            self.links.insert(record.0, place.below(name));
        }
        Ok(())
    }

    fn named_streams(
        &mut self,
        file: &FileRecords,
        base: &[u8],
        path: &[u8],
        place: &Place<'_>,
    ) -> Result<()> {
        if !self.options.streams {
            return Ok(());
        }
        let mut seen = HashSet::new();
        let times = times_of(file);
        let record = file.base().number().0;
        let several = crate::volume::tree::names_of(file).len() > 1;
        for (_, a) in file.attributes() {
            if a.type_code != DATA || a.name.is_empty() || !seen.insert(a.name.to_vec()) {
                continue;
            }
            let stream = wtf8(a.name);
            let whole = [path, b":", &stream].concat();
            let name = [base, b":", &stream].concat();
            let key = (record, stream);
            if let Some(first) = self.stream_links.get(&key) {
                let first = first.clone();
                let link = self.name(&name, &whole);
                match self.host.link(&first, place.dir, &link) {
                    Ok(()) => continue,
                    Err(Refused::Host(e)) => {
                        let why = format!("{}: {e}; a copy is written instead", shown(&whole));
                        self.warn("hard-link", why);
                    }
                    Err(e) => {
                        self.refused(e, &whole)?;
                        continue;
                    }
                }
            }
            match Stream::open(self.tree.volume(), file, DATA, a.name) {
                // What no cluster holds is only a size: `$BadClus:$Bad`.
                Ok(Some(s)) if record == 8 && s.initialized() == 0 => {}
                Ok(Some(s)) => {
                    let done = self.stream(&s, place, &name, &whole, times.as_ref())?;
                    self.summary.streams += u64::from(done.is_some());
                    if let Some(name) = done.filter(|_| several) {
                        self.stream_links.insert(key, place.below(name));
                    }
                }
                Ok(None) => {}
                Err(e) => self.skip("unreadable", &whole, &e.to_string())?,
            }
        }
        Ok(())
    }

    /// Writes a stream; the name it got, or `None` when it was left out.
    fn stream(
        &mut self,
        stream: &Stream,
        place: &Place<'_>,
        name: &[u8],
        path: &[u8],
        times: Option<&Times>,
    ) -> Result<Option<Vec<u8>>> {
        if stream.flags().encrypted() && !stream.is_resident() {
            let what = "encrypted by EFS: the encrypted bytes are written, without the key ($EFS), which is not in the file, they cannot be read";
            self.warn("encrypted", format!("{}: {what}", shown(path)));
        }
        if self.gone && !self.gone_said && !stream.is_resident() {
            self.gone_said = true;
            let what = "deleted: its clusters may have been used again since, and then hold what another file wrote; so may those of other deleted files";
            self.warn("deleted", format!("{}: {what}", shown(path)));
        }
        let mut name = self.name(name, path);
        let pending = match self.host.begin(place.dir) {
            Ok(p) => p,
            Err(e) => return self.refused(e, path).map(|()| None),
        };
        let mut at = 0;
        let mut zeroed = 0;
        let (zero, observer) = (self.options.zero_unreadable, self.observer);
        let mut host_error = None;
        let copied = stream.copy(|piece| {
            if observer.cancelled() {
                return Err(Error::interrupted());
            }
            at += match piece {
                Piece::Data(data) => {
                    if let Err(e) = pending.write_at(data, at) {
                        host_error = Some(e);
                        return Err(Error::interrupted());
                    }
                    data.len() as u64
                }
                Piece::Zero(n) => n,
                Piece::Unreadable(n, _) if zero => {
                    zeroed += n;
                    n
                }
                Piece::Unreadable(_, e) => return Err(e),
            };
            Ok(())
        });
        if let Some(e) = host_error {
            return self.refused(e, path).map(|()| None);
        }
        match copied {
            Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
            Err(e) => {
                drop(pending);
                return self.skip("unreadable", path, &e.to_string()).map(|()| None);
            }
            Ok(()) => {}
        }
        if let Err(e) = pending.set_len(stream.len()) {
            return self.refused(e, path).map(|()| None);
        }
        if let Some(times) = times.filter(|t| **t != Times::default()) {
            pending.set_times(times);
        }
        // Two names of the volume may be one name here.
        if self.host.taken(place.dir, &name) {
            name = self.other_name(&name, RecordNo(self.summary.files), path);
        }
        if let Err(e) = self.host.finish(pending, &name) {
            return self.refused(e, path).map(|()| None);
        }
        if zeroed > 0 {
            self.summary.zeroed += zeroed;
            let what = format!("{zeroed} bytes cannot be read and are zeros now");
            self.warn("unreadable", format!("{}: {what}", shown(path)));
        }
        self.summary.bytes += stream.len();
        self.observer.advance(stream.len());
        Ok(Some(name))
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

/// What is wrong with the records of a file.
fn damage_of(file: &FileRecords) -> Option<String> {
    if let Some(note) = file.notes.first() {
        return Some(note.to_string());
    }
    std::iter::once(file.base())
        .chain(file.extensions())
        .find_map(|r| {
            let fault = r.view().attributes().find_map(std::result::Result::err)?;
            Some(format!("file record {}: {fault}", r.number()))
        })
}

/// Why the content of a file with this reparse point is not here.
fn elsewhere(point: &Reparse, stream: &Stream) -> Option<&'static str> {
    let empty = !stream.is_empty() && stream.allocated() == 0 && !stream.is_resident();
    match point.tag {
        reparse::WOF => Some("its content is packed by the Windows overlay filter (WOF)"),
        reparse::DEDUP => Some("its content is in the store of Data Deduplication"),
        _ if point.tag_name() == Some("cloud") && empty => Some("its content is in the cloud only"),
        _ => None,
    }
}

/// A link's target in the host's way of writing.
fn host_target(point: &Reparse) -> Option<Vec<u8>> {
    let path = point.path()?;
    let text = match point.target {
        Target::LxSymlink(_) => path.to_vec(),
        _ => path
            .iter()
            .map(|&b| if b == b'\\' { b'/' } else { b })
            .collect(),
    };
    (!text.is_empty() && !text.contains(&0)).then_some(text)
}

fn times_of(file: &FileRecords) -> Option<Times> {
    let (_, a) = file
        .attributes()
        .find(|(_, a)| a.type_code == STANDARD_INFORMATION)?;
    Times::parse(a.resident()?)
}
