//! From a path to the file: name by name through the indexes, and by the parent
//! links where those fail.

use super::{DirEntry, Found, ROOT, Tree, entry, is_damage, orphan_in};
use crate::error::{Error, Result};
use crate::units::RecordNo;
use crate::volume::names::{self, Escaped};
use crate::volume::path::{StreamName, VolumePath};
use crate::volume::upcase::UpCase;

impl Tree<'_> {
    /// Follows a path from the root. Upper and lower case are the same unless
    /// a name fits exactly.
    pub fn lookup(&self, path: &VolumePath) -> Result<Found> {
        let mut at = Found {
            file: self.reference(ROOT)?,
            path: Vec::new(),
            stream: None,
        };
        for (i, name) in path.names.iter().enumerate() {
            let last = i + 1 == path.names.len();
            at = match path.stream.as_ref().filter(|_| last) {
                None => self.step(&at, name)?,
                Some((file, stream)) => self.step_stream(&at, name, file, stream)?,
            };
        }
        if at.path.is_empty() {
            at.path.push(b'/');
        }
        Ok(at)
    }

    /// A file in the root as the root's index has it: while that is sound, no
    /// record is read but those on the way.
    pub fn in_root(&self, name: &[u8]) -> Result<Option<Found>> {
        if self.find(ROOT, name)?.is_none() {
            return Ok(None);
        }
        let root = Found {
            file: self.reference(ROOT)?,
            path: Vec::new(),
            stream: None,
        };
        self.step(&root, name).map(Some)
    }

    /// A stream of a file, unless only a file has the whole as its name.
    fn step_stream(
        &self,
        from: &Found,
        whole: &[u8],
        file: &[u8],
        stream: &StreamName,
    ) -> Result<Found> {
        let found = match file.is_empty() {
            true => Ok(from.clone()),
            false => self.step(from, file),
        };
        let has_it = |f: &Found| {
            let records = self.volume.file(f.file.record);
            records.is_ok_and(|r| self.stream_name(&r, stream).is_some())
        };
        match found {
            Ok(f) if !has_it(&f) => self.step(from, whole).or(Ok(Found {
                stream: Some(stream.clone()),
                ..f
            })),
            Ok(f) => Ok(Found {
                stream: Some(stream.clone()),
                ..f
            }),
            Err(e) => self.step(from, whole).or(Err(e)),
        }
    }

    /// One name further.
    fn step(&self, from: &Found, name: &[u8]) -> Result<Found> {
        let found = |file, name: &[u8]| Found {
            file,
            path: [&from.path[..], b"/", name].concat(),
            stream: None,
        };
        if from.path.is_empty() {
            if let Some(n) = number_in(name, "<no name mft ").or_else(|| number_in(name, "<mft ")) {
                return Ok(found(self.reference(RecordNo(n))?, name));
            }
            if let Some(dir) = orphan_in(name) {
                return Ok(found(dir, name));
            }
        }
        let missing = || {
            let path = [&from.path[..], b"/", name].concat();
            Error::not_found(format!("Found no file {}", Escaped(&path)))
        };
        if self.is_orphan(from) {
            let entry = self.pick(&self.by_parent(from.file)?, name);
            let entry = entry.ok_or_else(missing)?;
            return Ok(found(entry.file, &entry.name));
        }
        let entry = self.find(from.file.record, name)?;
        let checked = match &entry {
            Some(e) => self.check(e.file),
            None => Ok(()),
        };
        if entry.is_none() || checked.is_err() {
            // The index lacks it, or leads elsewhere: perhaps the file still
            // says that it is here.
            let linked = self.rescue(from.file.record).unwrap_or_default();
            if let Some(e) = self.pick(&linked, name) {
                return Ok(found(e.file, &e.name));
            }
        }
        let entry = entry.ok_or_else(missing)?;
        checked.map_err(|e| {
            let path = [&from.path[..], b"/", &entry.name].concat();
            Error::damaged(format!("{}: {}", Escaped(&path), e.message()))
        })?;
        Ok(found(entry.file, &entry.name))
    }

    /// The name in a directory; exact case wins.
    fn find(&self, dir: RecordNo, name: &[u8]) -> Result<Option<DirEntry>> {
        let wide = names::to_utf16(name).unwrap_or_default();
        // Latin letters are the same in every table that is not damaged: only
        // other names need the table read.
        let standard = UpCase::standard();
        let table = if name.is_ascii() {
            &standard
        } else {
            self.upcase()
        };
        let mut matches = Vec::new();
        let result = self.with_index(dir, |index| {
            index.find(&wide, table, |e| matches.push(entry(&e)))
        });
        if let Some(hit) = pick_exact(&matches, name) {
            return Ok(Some(hit));
        }
        match result {
            Ok(()) => Ok(None),
            Err(e) if is_damage(&e) => Ok(self.pick(&self.rescue(dir)?, name)),
            Err(e) => Err(e),
        }
    }

    fn pick(&self, entries: &[DirEntry], name: &[u8]) -> Option<DirEntry> {
        let units = |n: &[u8]| names::to_utf16(n).unwrap_or_default();
        let wanted = units(name);
        let same = |e: &&DirEntry| {
            let order = self
                .upcase()
                .compare(units(&e.name), wanted.iter().copied());
            order.is_eq()
        };
        let matches: Vec<_> = entries.iter().filter(same).cloned().collect();
        pick_exact(&matches, name)
    }
}

fn pick_exact(matches: &[DirEntry], name: &[u8]) -> Option<DirEntry> {
    let exact = matches.iter().find(|e| e.name == name);
    exact.or(matches.first()).cloned()
}

fn number_in(name: &[u8], before: &str) -> Option<u64> {
    let text = std::str::from_utf8(name).ok()?;
    text.strip_prefix(before)?.strip_suffix('>')?.parse().ok()
}
