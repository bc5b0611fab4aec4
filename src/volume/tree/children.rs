//! The parent links of all file records, turned around: what says that it
//! stands in a directory.

use super::{DirEntry, ROOT, means};
use crate::error::Result;
use crate::observe::Silent;
use crate::units::{FileRef, RecordNo};
use crate::volume::attr::FILE_NAME;
use crate::volume::names::{FileName, Space};
use crate::volume::open::Volume;
use crate::volume::record::RecordView;
use crate::volume::scan::Scanned;
use std::collections::{HashMap, HashSet};

/// Names by the directories that they say they stand in.
pub(super) struct Children {
    /// By directory.
    links: Vec<Child>,
    /// The names, WTF-8, end to end.
    text: Vec<u8>,
    /// Directories in use and their sequence numbers.
    dirs: HashMap<u64, u16>,
    /// Files whose base record has no name; their other records may.
    nameless: Vec<FileRef>,
    /// Files with a name outside of the base record.
    named: HashSet<FileRef>,
    /// Records that could not be used.
    damaged: u64,
}

/// A name in [`Children`].
struct Child {
    dir: FileRef,
    file: FileRef,
    at: usize,
    len: u16,
    space: Space,
}

impl Children {
    pub(super) fn scan(volume: &Volume) -> Result<Self> {
        let new = || Self {
            links: Vec::new(),
            text: Vec::new(),
            dirs: HashMap::new(),
            nameless: Vec::new(),
            named: HashSet::new(),
            damaged: 0,
        };
        let mut all = new();
        let collect = |part: &mut Self, scanned: Scanned<'_>| match scanned {
            Scanned::Record(view) if view.in_use() => part.add(&view),
            Scanned::Mirror(view) => {
                // It was met as bad just before.
                part.damaged = part.damaged.saturating_sub(1);
                if view.in_use() {
                    part.add(&view);
                }
            }
            Scanned::Bad { .. } => part.damaged += 1,
            Scanned::Record(_) | Scanned::Free(_) => {}
        };
        volume.scan(
            &Silent,
            |_| new(),
            collect,
            |mut part| {
                let before = all.text.len();
                for link in &mut part.links {
                    link.at += before;
                }
                all.links.append(&mut part.links);
                all.text.append(&mut part.text);
                all.dirs.extend(part.dirs);
                all.nameless.append(&mut part.nameless);
                all.named.extend(part.named);
                all.damaged += part.damaged;
                Ok(())
            },
        )?;
        all.links.sort_by_key(|c| c.dir);
        let named = std::mem::take(&mut all.named);
        all.links
            .retain(|c| c.space != Space::Dos || !named.contains(&c.file));
        all.nameless.retain(|f| !named.contains(f));
        all.nameless.sort();
        Ok(all)
    }

    fn add(&mut self, view: &RecordView<'_>) {
        let file = view.base().unwrap_or_else(|| view.file_ref());
        if view.base().is_none() && view.is_directory() {
            self.dirs.insert(file.record.0, file.sequence);
        }
        let mut dos = None;
        let mut any = false;
        for a in view.attributes().flatten() {
            if a.type_code == FILE_NAME
                && let Some(n) = a.resident().and_then(FileName::parse)
            {
                if n.space == Space::Dos {
                    dos = Some(n);
                    continue;
                }
                any = true;
                self.push(&n, file, view.is_directory());
            }
        }
        if any {
            if view.base().is_some() {
                self.named.insert(file);
            }
            return;
        }
        if view.base().is_none() {
            match dos {
                // Its only name, as far as this record knows.
                Some(n) => self.push(&n, file, view.is_directory()),
                None => self.nameless.push(file),
            }
        }
    }

    fn push(&mut self, n: &FileName<'_>, file: FileRef, is_dir: bool) {
        // The root stands in itself.
        if (is_dir || file.record == ROOT) && n.parent.record == file.record {
            return;
        }
        let name = n.wtf8();
        self.links.push(Child {
            dir: n.parent,
            file,
            at: self.text.len(),
            // 255 characters at most.
            len: name.len() as u16,
            space: n.space,
        });
        self.text.extend_from_slice(&name);
    }

    /// Files in use without a name, sorted.
    pub(super) fn nameless(&self) -> &[FileRef] {
        &self.nameless
    }

    /// Records that could not be used, nor a copy of them.
    pub(super) fn damaged(&self) -> u64 {
        self.damaged
    }

    fn range(&self, dir: RecordNo) -> &[Child] {
        let from = self.links.partition_point(|c| c.dir.record < dir);
        let rest = &self.links[from..];
        &rest[..rest.partition_point(|c| c.dir.record == dir)]
    }

    pub(super) fn of(&self, dir: FileRef) -> Vec<DirEntry> {
        let here = |c: &&Child| means(c.dir, dir);
        let entry = |c: &Child| DirEntry {
            file: c.file,
            name: self.text[c.at..c.at + usize::from(c.len)].to_vec(),
            // A listing has no short names beside long ones.
            space: match c.space {
                Space::Dos => Space::Win32AndDos,
                space => space,
            },
        };
        self.range(dir.record)
            .iter()
            .filter(here)
            .map(entry)
            .collect()
    }

    fn is_dir(&self, dir: FileRef) -> bool {
        let found = self.dirs.get(&dir.record.0);
        dir.record == ROOT || found.is_some_and(|&s| s == dir.sequence || dir.sequence == 0)
    }

    /// What cannot be reached from the root: directories that are gone first,
    /// then one of each circle.
    pub(super) fn orphans(&self) -> Vec<FileRef> {
        let mut seen = HashSet::new();
        let mut todo = Vec::new();
        let reach = |from: FileRef, seen: &mut HashSet<u64>, todo: &mut Vec<FileRef>| {
            todo.push(from);
            while let Some(dir) = todo.pop() {
                for c in self.range(dir.record) {
                    if means(c.dir, dir) && self.is_dir(c.file) && seen.insert(c.file.record.0) {
                        todo.push(c.file);
                    }
                }
            }
        };
        let root = FileRef {
            record: ROOT,
            sequence: self.dirs.get(&ROOT.0).copied().unwrap_or(0),
        };
        seen.insert(ROOT.0);
        reach(root, &mut seen, &mut todo);
        // Their names are their numbers: what is in them has its place.
        for &dir in self.nameless.iter().filter(|&&f| self.is_dir(f)) {
            if seen.insert(dir.record.0) {
                reach(dir, &mut seen, &mut todo);
            }
        }
        let mut found: Vec<FileRef> = Vec::new();
        for gone in [true, false] {
            for c in &self.links {
                let lost = match gone {
                    true => !self.is_dir(c.dir),
                    false => self.is_dir(c.dir) && !seen.contains(&c.dir.record.0),
                };
                if lost && found.last() != Some(&c.dir) {
                    found.push(c.dir);
                    if !gone {
                        seen.insert(c.dir.record.0);
                    }
                    reach(c.dir, &mut seen, &mut todo);
                }
            }
        }
        found
    }
}
