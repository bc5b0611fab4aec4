//! Down the directories, one at a time: what stands in each, what is left out,
//! and the directories here.

use super::content::times_of;
use super::host::{Refused, set_times, shown};
use super::{Item, Job, Kind, MAX_DEPTH, Place, named};
use crate::error::{Error, Result};
use crate::units::FileRef;
use crate::volume::times::Times;
use crate::volume::tree::{DirEntry, ROOT, nameless, names_of};
use std::os::fd::OwnedFd;

/// What waits in `Job::late` at most, bytes of paths.
const MAX_LATE: usize = 64 << 20;

/// A directory that was made: itself, its name here, and the times it gets.
type Made = (OwnedFd, Vec<u8>, Option<Times>);

/// A directory that is being filled.
struct Level {
    fd: OwnedFd,
    /// The directory on the volume; `None` when its entries were chosen.
    dir: Option<FileRef>,
    entries: std::vec::IntoIter<Item>,
    path: Vec<u8>,
    times: Option<Times>,
}

/// A name whose directory says that it stands elsewhere: used when nothing
/// else leads there.
pub(super) struct Late {
    entry: DirEntry,
    /// Of the directory that has the name.
    path: Vec<u8>,
    names: Vec<Vec<u8>>,
    times: Option<Times>,
}

impl Late {
    fn bytes(&self) -> usize {
        let names: usize = self.names.iter().map(|n| n.len() + 24).sum();
        self.path.len() + names + self.entry.name.len() + 100
    }
}

impl Job<'_, '_> {
    /// A file, or a directory with everything below it.
    pub(super) fn walk(&mut self, first: Item, path: Vec<u8>, root: OwnedFd) -> Result<()> {
        let parent_path = path.iter().rposition(|&b| b == b'/').map_or(0, |i| i);
        let level = Level {
            fd: root,
            dir: None,
            entries: vec![first].into_iter(),
            path: path[..parent_path].to_vec(),
            times: None,
        };
        self.descend(level, Vec::new())?;
        while let Some(late) = self.late.pop() {
            self.late_bytes -= late.bytes();
            self.late(late)?;
        }
        if self.nameless > 0 {
            let n = std::mem::take(&mut self.nameless);
            let what = "each stands below the root as <no name mft N>, N its file record";
            self.warn(
                "nameless",
                format!("Files in use without a name: {n}, {what}"),
            );
        }
        Ok(())
    }

    /// Enters a directory by a name that its own record does not know, unless
    /// it was found where the record says.
    fn late(&mut self, late: Late) -> Result<()> {
        let record = late.entry.file.record;
        let path = [&late.path[..], b"/", &late.entry.name].concat();
        if self.dirs.contains(&record.0) {
            let own = self.tree.path_of(record).unwrap_or_default();
            let what = "the index is wrong: by its file record the directory is";
            let message = format!("{}: {what} {}, extracted once", shown(&path), shown(&own));
            self.warn("index", message);
            return Ok(());
        }
        let fd = match self.host.open_dir(&late.names) {
            Ok(fd) => fd,
            Err(e) => return self.refused(e, &path),
        };
        let item = Item {
            entry: late.entry,
            kind: Kind::InUse,
        };
        let level = Level {
            fd,
            dir: None,
            entries: vec![item].into_iter(),
            path: late.path,
            times: late.times,
        };
        self.descend(level, late.names)
    }

    /// What is in `first`, with everything below it; `names` lead there.
    fn descend(&mut self, first: Level, mut names: Vec<Vec<u8>>) -> Result<()> {
        let mut levels = vec![first];
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
            if let Some(dir) = level.dir
                && item.kind == Kind::InUse
                && self.late_bytes < MAX_LATE
                && self.is_strange(dir, &item.entry)
            {
                let late = Late {
                    entry: item.entry,
                    path: level.path.clone(),
                    names: names.clone(),
                    times: level.times,
                };
                self.late_bytes += late.bytes();
                self.late.push(late);
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
                dir: Some(item.entry.file),
                entries: entries.into_iter(),
                path,
                times,
            });
        }
        Ok(())
    }

    /// A directory in use that says that it stands elsewhere. One has a single
    /// place: entered here, it would be missing there.
    fn is_strange(&self, dir: FileRef, entry: &DirEntry) -> bool {
        if !self.tree.is_dir(entry.file) {
            return false;
        }
        let Ok(file) = self.tree.volume().file(entry.file.record) else {
            return false;
        };
        self.tree.is_elsewhere(&file, dir, &entry.name)
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
            self.summary.damaged += 1;
            self.warn("index", damage.to_string());
            self.damaged_records();
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
            match self.lost() {
                Ok(mut lost) => all.append(&mut lost),
                Err(e) => {
                    let why = format!("files without a directory are not found: {e}");
                    self.skip("orphan", path, &why)?;
                }
            }
        }
        Ok(Some(all))
    }

    /// What damaged file records held cannot be found by parent links.
    fn damaged_records(&mut self) {
        if std::mem::replace(&mut self.records_said, true) {
            return;
        }
        let n = self.tree.damaged_records().unwrap_or_default();
        if n > 0 {
            self.summary.damaged += n;
            let what = "files that only they know are not found";
            self.warn("bad-record", format!("Damaged file records: {n}, {what}"));
        }
    }

    /// What no directory leads to: it comes with the root, as it is listed.
    fn lost(&self) -> Result<Vec<Item>> {
        let item = |file: FileRef, name: String, kind| Item {
            entry: DirEntry {
                file,
                name: name.into_bytes(),
                ..named(file.record, &[])
            },
            kind,
        };
        let unnamed = self.tree.nameless()?.into_iter();
        // NTFS keeps the records before for itself.
        let unnamed = unnamed.filter(|f| f.record.0 >= 24);
        let mut all: Vec<Item> = unnamed
            .map(|f| item(f, nameless(f.record), Kind::Nameless))
            .collect();
        for file in self.tree.orphans()? {
            all.push(item(file, format!("<orphan {file}>"), Kind::Orphan));
        }
        Ok(all)
    }

    /// Writes one file; for a directory gives what is needed to fill it.
    pub(super) fn entry(
        &mut self,
        item: &Item,
        path: &[u8],
        place: &Place<'_>,
        depth: usize,
    ) -> Result<Option<Made>> {
        let entry = &item.entry;
        self.gone = false;
        if item.kind == Kind::Nameless {
            let record = entry.file.record.0;
            if self.known.contains(&record) || self.dirs.contains(&record) {
                return Ok(None);
            }
            self.nameless += 1;
        }
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
            Err(e) => return self.lost_record(&e.to_string(), entry, path, place),
        };
        let view = file.base().view();
        if item.kind == Kind::InUse && names_of(&file).is_empty() {
            self.known.insert(entry.file.record.0);
        }
        let other = entry.file.sequence != 0 && view.sequence() != entry.file.sequence;
        if item.kind == Kind::InUse && (other || !view.in_use()) {
            let why = match other {
                true => "its file record belongs to another file now",
                false => "the file is deleted; --deleted or --mft extracts it",
            };
            return self.lost_record(why, entry, path, place);
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
        if !view.is_directory() && entry.file.record != ROOT {
            self.file(&file, point.as_ref(), entry, path, place)?;
            return Ok(None);
        }
        if self.gone {
            let why = "it is a deleted directory; --deleted with its path extracts its files";
            return self.skip("deleted", path, why).map(|()| None);
        }
        if depth >= MAX_DEPTH || !self.dirs.insert(entry.file.record.0) {
            let why = "the directory is too deep, inside itself, or has another name";
            return self.skip("loop", path, why).map(|()| None);
        }
        self.summary.skipped += u64::from(self.incomplete(&file, path));
        self.named_streams(&file, &entry.name, path, place)?;
        Ok(self
            .directory(entry, path, place)?
            .map(|(fd, name)| (fd, name, times_of(&file))))
    }

    /// A file is lost with its record, but the root stays a directory: other
    /// records say what stands in it.
    fn lost_record(
        &mut self,
        why: &str,
        entry: &DirEntry,
        path: &[u8],
        place: &Place<'_>,
    ) -> Result<Option<Made>> {
        if entry.file.record != ROOT || !self.dirs.insert(ROOT.0) {
            return self.skip("bad-record", path, why).map(|()| None);
        }
        self.summary.skipped += 1;
        let what = "the times and streams of the root are left out";
        self.warn("bad-record", format!("{why}; {what}"));
        let made = self.directory(entry, path, place)?;
        Ok(made.map(|(fd, name)| (fd, name, None)))
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
}
