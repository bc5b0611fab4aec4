//! The tree of directories: looking paths up through their indexes, listing a
//! directory, and the path of a record through its parent links. Where an
//! index is damaged or lacks a name, all file records are asked for their
//! parents, once for the whole volume.

mod children;
mod lookup;

use super::attr::{self, DATA, FILE_NAME, INDEX_ALLOCATION, INDEX_ROOT};
use super::file::{FileRecords, FileStream};
use super::finding::Finding;
use super::index::{DirIndex, Entry};
use super::names::{self, Escaped, FileName, Space};
use super::open::Volume;
use super::path::StreamName;
use super::stream::Stream;
use super::upcase::{TABLE_BYTES, UpCase};
use crate::error::{Error, ErrorKind, Result};
use crate::units::{FileRef, RecordNo};
use children::Children;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// The root directory's record.
pub const ROOT: RecordNo = RecordNo(5);
/// The root directory's sequence number.
const ROOT_SEQUENCE: u16 = 5;
/// `$I30` in UTF-16.
const I30: &[u8] = b"$\0I\x003\x000\0";
/// NTFS paths end at 32,767 characters: no more levels than half of that.
const MAX_LEVELS: usize = 16_384;

/// Looks up and lists. Shared by threads.
pub struct Tree<'v> {
    volume: &'v Volume,
    upcase: OnceLock<(UpCase, Option<Finding>)>,
    parents: Mutex<HashMap<u64, Link>>,
    rescued: Mutex<HashMap<u64, Arc<Vec<DirEntry>>>>,
    children: Mutex<Option<Arc<Children>>>,
}

/// What a record's own name says about its place.
#[derive(Clone)]
enum Link {
    Root,
    Nameless,
    In(FileRef, Arc<[u8]>),
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The file.
    pub file: FileRef,
    /// The name, WTF-8.
    pub name: Vec<u8>,
    /// Its name space; never [`Space::Dos`] in a listing.
    pub space: Space,
}

/// What stands in a directory.
#[derive(Clone, Debug)]
pub struct DirList {
    /// The names, sorted as NTFS sorts them, short DOS names left out.
    pub entries: Arc<Vec<DirEntry>>,
    /// Set when the index was damaged and parent links were followed instead.
    pub damage: Option<Finding>,
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub file: FileRef,
    /// The path as it is on the volume (case, no doubled `/`), WTF-8, without
    /// partition and stream.
    pub path: Vec<u8>,
    /// The attribute that was asked for.
    pub stream: Option<StreamName>,
}

impl<'v> Tree<'v> {
    /// Reads nothing yet.
    pub fn new(volume: &'v Volume) -> Self {
        Self {
            volume,
            upcase: OnceLock::new(),
            parents: Mutex::default(),
            rescued: Mutex::default(),
            children: Mutex::default(),
        }
    }

    /// The volume.
    pub fn volume(&self) -> &'v Volume {
        self.volume
    }

    /// The volume's table of upper-case letters, or the standard one.
    pub fn upcase(&self) -> &UpCase {
        &self.upcase_loaded().0
    }

    /// Why the standard table of upper-case letters is used.
    pub fn upcase_damage(&self) -> Option<&Finding> {
        self.upcase_loaded().1.as_ref()
    }

    fn upcase_loaded(&self) -> &(UpCase, Option<Finding>) {
        self.upcase.get_or_init(|| match load_upcase(self.volume) {
            Ok(table) => (table, None),
            Err(e) => {
                let what = "$UpCase cannot be used, the standard table is taken";
                (
                    UpCase::standard(),
                    Some(Finding::survived("upcase", what, &e)),
                )
            }
        })
    }

    /// What stands in a directory.
    pub fn list(&self, dir: RecordNo) -> Result<DirList> {
        let mut entries = Vec::new();
        let result = self.with_index(dir, |index| {
            index.walk(|e| {
                if e.name.space != Space::Dos && e.file.record != dir {
                    entries.push(entry(&e));
                }
            })
        });
        match result {
            Ok(()) => Ok(DirList {
                entries: Arc::new(entries),
                damage: None,
            }),
            Err(e) if is_damage(&e) => {
                let what = format!(
                    "The index of directory {dir} is damaged, the file records were searched instead"
                );
                Ok(DirList {
                    entries: self.rescue(dir)?,
                    damage: Some(Finding::survived("index", &what, &e)),
                })
            }
            Err(e) => Err(e),
        }
    }

    fn with_index(
        &self,
        dir: RecordNo,
        mut work: impl FnMut(&DirIndex<'_>) -> Result<()>,
    ) -> Result<()> {
        let file = self.volume.file(dir)?;
        let view = file.base().view();
        if dir == ROOT && !(view.is_directory() && view.in_use()) {
            let what = "File record 5 is not marked as a directory in use, and it is the root";
            return Err(Error::damaged(what).at(file.base().offset()));
        }
        if !view.is_directory() {
            let what = format!("File record {dir} is not a directory");
            return Err(Error::not_found(what));
        }
        let Some(FileStream::Resident(_, root)) = file.stream(INDEX_ROOT, I30) else {
            return Err(Error::damaged(format!("Directory {dir} has no index root"))
                .at(file.base().offset()));
        };
        let blocks = Stream::open(self.volume, &file, INDEX_ALLOCATION, I30)?;
        let read = |at: u64, buf: &mut [u8]| match &blocks {
            None => Err(Error::damaged(format!(
                "Directory {dir} has index blocks in its root but no place for them"
            ))),
            Some(s) if s.read_at(at, buf)? == buf.len() => Ok(()),
            Some(s) => Err(Error::damaged(format!(
                "Found an index block at byte {at:#x} of {} bytes",
                s.len()
            ))),
        };
        let cluster = self.volume.geometry().cluster_size;
        work(&DirIndex::open(root, cluster, Some(&read))?)
    }

    /// The children of a directory by the parent links of all records.
    fn rescue(&self, dir: RecordNo) -> Result<Arc<Vec<DirEntry>>> {
        if let Some(known) = lock(&self.rescued).get(&dir.0) {
            return Ok(known.clone());
        }
        let found = Arc::new(self.by_parent(self.reference(dir)?)?);
        lock(&self.rescued).insert(dir.0, found.clone());
        Ok(found)
    }

    /// Names that say they stand in `dir`, sorted.
    fn by_parent(&self, dir: FileRef) -> Result<Vec<DirEntry>> {
        let mut found = self.children()?.of(dir);
        found.retain(|e| self.check(e.file).is_ok());
        let up = self.upcase();
        found.sort_by(|a, b| up.compare_wtf8(&a.name, &b.name));
        Ok(found)
    }

    /// The parent links of all records; read once.
    fn children(&self) -> Result<Arc<Children>> {
        let known = lock(&self.children).clone();
        if let Some(c) = known {
            return Ok(c);
        }
        // Not under the lock: the scan waits for threads that may want it.
        let made = Arc::new(Children::scan(self.volume)?);
        *lock(&self.children) = Some(made.clone());
        Ok(made)
    }

    /// True for the place of files that have lost their directory,
    /// `/<orphan record-sequence>`.
    pub fn is_orphan(&self, found: &Found) -> bool {
        let name = found.path.strip_prefix(b"/").unwrap_or_default();
        found.stream.is_none() && orphan_in(name) == Some(found.file)
    }

    /// What says that it stands in a directory, or in one that is gone.
    pub fn list_orphan(&self, dir: FileRef) -> Result<Vec<DirEntry>> {
        self.by_parent(dir)
    }

    /// What stands in a directory by its index or by the parent links. The
    /// number says how many names the index lacks.
    pub fn list_all(&self, dir: FileRef) -> Result<(DirList, usize)> {
        let mut list = self.list(dir.record)?;
        if list.damage.is_some() {
            return Ok((list, 0));
        }
        let Ok(children) = self.children() else {
            return Ok((list, 0));
        };
        let mut linked = children.of(self.reference(dir.record)?);
        let known: HashSet<(u64, &[u8])> = list
            .entries
            .iter()
            .map(|e| (e.file.record.0, &e.name[..]))
            .collect();
        linked.retain(|e| {
            !known.contains(&(e.file.record.0, &e.name[..])) && self.check(e.file).is_ok()
        });
        drop(known);
        let lacking = linked.len();
        if lacking > 0 {
            let up = self.upcase();
            let entries = Arc::make_mut(&mut list.entries);
            entries.append(&mut linked);
            entries.sort_by(|a, b| up.compare_wtf8(&a.name, &b.name));
        }
        Ok((list, lacking))
    }

    /// Directories that are gone, or inside themselves, and that files say
    /// they stand in.
    pub fn orphans(&self) -> Result<Vec<FileRef>> {
        Ok(self.children()?.orphans())
    }

    /// Files in use that have no name, in the order of their records.
    pub fn nameless(&self) -> Result<Vec<FileRef>> {
        Ok(self.children()?.nameless().to_vec())
    }

    /// Number and sequence of a file. The root's are the same on every volume,
    /// whatever is left of its record.
    fn reference(&self, n: RecordNo) -> Result<FileRef> {
        match self.volume.record(n) {
            Err(e) if n == ROOT && is_damage(&e) => Ok(FileRef {
                record: ROOT,
                sequence: ROOT_SEQUENCE,
            }),
            record => Ok(record?.view().file_ref()),
        }
    }

    /// A directory, in use or not; the root is one whatever its record says.
    pub fn is_directory(&self, n: RecordNo) -> Result<bool> {
        Ok(n == ROOT || self.volume.record(n)?.view().is_directory())
    }

    /// True when the file's own names are all known, and none of them is this
    /// one in this directory: its index is behind the times.
    pub fn is_elsewhere(&self, file: &FileRecords, dir: FileRef, name: &[u8]) -> bool {
        let own = names_of(file);
        let here = |(parent, own): &(FileRef, Vec<u8>)| {
            let same = means(*parent, dir) || parent.record == dir.record && dir.sequence == 0;
            same && own == name
        };
        file.notes.is_empty() && !own.is_empty() && !own.iter().any(here)
    }

    /// How many file records are damaged, when all were looked at.
    pub fn damaged_records(&self) -> Result<u64> {
        Ok(self.children()?.damaged())
    }

    /// The record is in use, and by the file that is meant.
    fn check(&self, file: FileRef) -> Result<()> {
        let record = self.volume.record(file.record)?;
        let view = record.view();
        if !view.in_use() || file.sequence != 0 && view.sequence() != file.sequence {
            return Err(Error::damaged(format!(
                "The directory refers to file {file}, found {}{}",
                view.file_ref(),
                if view.in_use() { "" } else { " (deleted)" }
            ))
            .at(record.offset()));
        }
        Ok(())
    }

    /// The path of a file under its first name, WTF-8. A directory on the way
    /// that is gone stands as `<orphan record-sequence>`, a file without a
    /// name as `<no name mft N>`.
    pub fn path_of(&self, n: RecordNo) -> Result<Vec<u8>> {
        let mut parts: Vec<Arc<[u8]>> = Vec::new();
        let mut at = n;
        let mut seen = HashSet::new();
        loop {
            if !seen.insert(at) || parts.len() > MAX_LEVELS {
                parts.push(
                    format!("<orphan {}>", self.reference(at)?)
                        .into_bytes()
                        .into(),
                );
                break;
            }
            match self.link(at)? {
                Link::Root => break,
                Link::Nameless => {
                    parts.push(nameless(at).into_bytes().into());
                    break;
                }
                Link::In(dir, name) => {
                    parts.push(name);
                    if !self.is_dir(dir) {
                        parts.push(format!("<orphan {dir}>").into_bytes().into());
                        break;
                    }
                    at = dir.record;
                }
            }
        }
        let mut path = Vec::new();
        for part in parts.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(part);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        Ok(path)
    }

    /// The directory is in use, and not by another file.
    pub fn is_dir(&self, dir: FileRef) -> bool {
        let found = self.volume.record(dir.record);
        let sound = found.is_ok_and(|r| {
            let v = r.view();
            let same = v.sequence() == dir.sequence || dir.sequence == 0;
            v.is_directory() && v.in_use() && same
        });
        sound || dir.record == ROOT
    }

    fn link(&self, n: RecordNo) -> Result<Link> {
        if n == ROOT {
            return Ok(Link::Root);
        }
        if let Some(known) = lock(&self.parents).get(&n.0) {
            return Ok(known.clone());
        }
        let file = self.volume.file(n)?;
        let link = match names_of(&file).into_iter().next() {
            Some((parent, name)) => Link::In(parent, name.into()),
            None => Link::Nameless,
        };
        lock(&self.parents).insert(n.0, link.clone());
        Ok(link)
    }

    /// The attribute's name as it is on the volume (UTF-16 little-endian
    /// bytes): exact case wins, else in upper case. `None` when there is none.
    pub fn stream_name(&self, file: &FileRecords, wanted: &StreamName) -> Option<Vec<u8>> {
        let units = names::to_utf16(&wanted.name)?;
        let exact: Vec<u8> = units.iter().flat_map(|u| u.to_le_bytes()).collect();
        let mut close = None;
        for (_, a) in file.attributes() {
            if a.type_code != wanted.type_code {
                continue;
            }
            if a.name == exact {
                return Some(exact);
            }
            let theirs = a.name.as_chunks::<2>().0.iter();
            let theirs = theirs.map(|&u| u16::from_le_bytes(u));
            if a.name.len() == exact.len()
                && close.is_none()
                && self.upcase().compare(theirs, units.iter().copied()).is_eq()
            {
                close = Some(a.name.to_vec());
            }
        }
        close
    }

    /// Opens what a path led to: the attribute it names, else the unnamed stream.
    pub fn open(&self, found: &Found) -> Result<Stream> {
        let file = self.volume.file(found.file.record)?;
        let wanted = found.stream.clone().unwrap_or(StreamName {
            type_code: DATA,
            name: Vec::new(),
        });
        let missing = || {
            let kind = attr::type_name(wanted.type_code).unwrap_or("attribute");
            let what = match (wanted.name.is_empty(), found.stream.is_some()) {
                (true, false) if file.base().view().is_directory() => "is a directory".to_owned(),
                (true, _) => format!("has no {kind}"),
                _ => format!("has no {kind} named {}", Escaped(&wanted.name)),
            };
            Error::not_found(format!("{} {what}", Escaped(&found.path)))
        };
        let name = self.stream_name(&file, &wanted).ok_or_else(missing)?;
        Stream::open(self.volume, &file, wanted.type_code, &name)?.ok_or_else(missing)
    }
}

/// What stands for the name of a file without one.
pub fn nameless(record: RecordNo) -> String {
    format!("<no name mft {record}>")
}

/// A file's names with their directories, short DOS names left out unless
/// there is no other.
pub fn names_of(file: &FileRecords) -> Vec<(FileRef, Vec<u8>)> {
    let mut dos = None;
    let mut found = Vec::new();
    for (_, a) in file.attributes() {
        if a.type_code == FILE_NAME
            && let Some(n) = a.resident().and_then(FileName::parse)
        {
            match n.space {
                Space::Dos => dos = Some((n.parent, n.wtf8())),
                _ => found.push((n.parent, n.wtf8())),
            }
        }
    }
    if found.is_empty() {
        found.extend(dos);
    }
    found
}

/// True when a name's reference to its directory means `dir`. The root is never
/// another file's record, so its sequence number does not matter.
fn means(link: FileRef, dir: FileRef) -> bool {
    let same = link.sequence == dir.sequence || link.sequence == 0;
    link.record == dir.record && (same || dir.record == ROOT)
}

/// True for what parent links can make good.
fn is_damage(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Damaged | ErrorKind::Unreadable)
}

fn load_upcase(volume: &Volume) -> Result<UpCase> {
    let file = volume.file(RecordNo(10))?;
    let stream = Stream::open(volume, &file, DATA, &[])?
        .ok_or_else(|| Error::damaged("File record 10 has no content"))?;
    let bytes = stream.read_all(TABLE_BYTES as u64)?;
    UpCase::parse(&bytes)
        .ok_or_else(|| Error::damaged(format!("Found {} bytes that are no table", bytes.len())))
}

fn entry(e: &Entry<'_>) -> DirEntry {
    DirEntry {
        file: e.file,
        name: e.name.wtf8(),
        space: e.name.space,
    }
}

/// `<orphan record-sequence>`.
fn orphan_in(name: &[u8]) -> Option<FileRef> {
    let text = std::str::from_utf8(name).ok()?;
    let (record, sequence) = text
        .strip_prefix("<orphan ")?
        .strip_suffix('>')?
        .split_once('-')?;
    Some(FileRef {
        record: RecordNo(record.parse().ok()?),
        sequence: sequence.parse().ok()?,
    })
}

/// A cache stays usable when a thread panicked while it held it.
fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    match m.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}
