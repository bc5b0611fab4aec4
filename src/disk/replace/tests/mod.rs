//! Disks made and checked by sgdisk and sfdisk.

mod property;
mod tools;
mod volumes;

use super::*;
use crate::device::FileSource;
use crate::disk::open_layout_with;
use crate::disk::{Content, LayoutOptions, Partition};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

pub(super) const MIB: u64 = 1 << 20;

pub(super) fn here(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: {tool} is not installed");
    }
    found
}

/// A disk as a sparse file.
pub(super) struct Disk {
    pub file: tempfile::NamedTempFile,
    pub len: u64,
    pub sector: u32,
}

impl Disk {
    pub fn new(len: u64, sector: u32) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(len).unwrap();
        Self { file, len, sector }
    }

    pub fn file(&self) -> &File {
        self.file.as_file()
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Partitioned by sfdisk; lines as its manual has them.
    pub fn sfdisk(len: u64, script: &str) -> Self {
        let d = Self::new(len, 512);
        sfdisk(d.path(), script);
        d
    }

    pub fn sgdisk(len: u64, args: &[&str]) -> Self {
        let d = Self::new(len, 512);
        let out = Command::new("sgdisk").args(args).arg(d.path()).output();
        let out = out.unwrap();
        assert!(out.status.success(), "{}", said(&out));
        d
    }

    pub fn source(&self) -> FileSource {
        FileSource::open(self.path(), self.sector).unwrap()
    }

    pub fn layout(&self) -> Layout {
        let options = LayoutOptions {
            sector_size: Some(self.sector),
            bare: false,
        };
        open_layout_with(&self.source(), options).unwrap()
    }

    pub fn put(&self, at: u64, bytes: &[u8]) {
        self.file().write_all_at(bytes, at).unwrap();
    }

    pub fn get(&self, at: u64, len: u64) -> Vec<u8> {
        let mut b = vec![0; len as usize];
        self.file().read_exact_at(&mut b, at).unwrap();
        b
    }

    /// Marks the beginning and the end of each partition.
    pub fn mark(&self) {
        for p in self.layout().partitions {
            self.put(p.start + 512, &mark(p.number));
            self.put(p.range().end - 512, &mark(p.number));
        }
    }

    /// As [`arrange`] plans it from the rooms.
    pub fn arranged(&self, rooms: &[Room], len: u64, ids: Ids) -> Result<Arrangement> {
        let wish = TableWish {
            sector_size: self.sector,
            ids,
        };
        arrange(&self.layout(), &self.source(), rooms, len, &wish)
    }

    /// The plan carried out onto a disk that held something else.
    pub fn carried_out(&self, a: &Arrangement) -> Disk {
        let new = Disk::new(a.new_length, self.sector);
        let junk = vec![0xa5; 3 << 20];
        new.put(0, &junk[..junk.len().min(a.new_length as usize)]);
        new.put(
            a.new_length.saturating_sub(MIB),
            &junk[..MIB.min(a.new_length) as usize],
        );
        let copy = |from: u64, to: u64, len: u64, ends: u64| {
            // The ends are enough of what is large: nothing else was written.
            let n = len.min(ends);
            for at in [0, len - n] {
                new.put(to + at, &self.get(from + at, n));
            }
        };
        for r in &a.kept {
            copy(r.start, r.start, r.len(), 6 * MIB);
        }
        for p in &a.partitions {
            copy(
                p.old.start,
                p.new.start,
                p.old.len().min(p.new.len()),
                64 << 10,
            );
        }
        for p in &a.volume_patches {
            let at = a.partitions.iter().find(|x| x.number == p.number).unwrap();
            new.put(at.new.start + p.patch.offset, &p.patch.bytes);
        }
        for r in &a.zeroed {
            new.put(r.start, &vec![0; r.len() as usize]);
        }
        for p in &a.table_patches {
            new.put(p.offset, &p.bytes);
        }
        new
    }

    /// What sfdisk and, for a GPT, sgdisk say to it.
    pub fn verify(&self) {
        let out = Command::new("sfdisk")
            .arg("--verify")
            .arg(self.path())
            .output()
            .unwrap();
        let text = said(&out);
        assert!(
            out.status.success() && text.contains("No errors detected"),
            "{text}"
        );
        if self.layout().table == TableKind::Gpt && here("sgdisk") {
            let out = Command::new("sgdisk")
                .arg("--verify")
                .arg(self.path())
                .output()
                .unwrap();
            let text = said(&out);
            assert!(
                out.status.success() && text.contains("No problems found"),
                "{text}"
            );
            for bad in ["roblem:", "CRC", "orrupt", "verlap"] {
                assert!(!text.contains(bad), "{text}");
            }
        }
    }
}

pub(super) fn said(out: &std::process::Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

pub(super) fn sfdisk(path: &Path, script: &str) {
    let mut child = Command::new("sfdisk")
        .args(["--quiet", "--no-reread", "--no-tell-kernel", "--wipe=never"])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{script}\n{}", said(&out));
}

pub(super) fn mark(number: u32) -> [u8; 16] {
    let mut m = *b"partition ??    ";
    m[10..14].copy_from_slice(&number.to_le_bytes());
    m
}

pub(super) fn room(number: u32, smallest: u64) -> Room {
    Room {
        number,
        smallest,
        grow: false,
        movable: true,
    }
}

pub(super) fn growing(number: u32) -> Room {
    Room {
        grow: true,
        ..room(number, u64::MAX)
    }
}

/// Start and length in MiB of each partition.
pub(super) fn mib(a: &Arrangement) -> Vec<(u32, u64, u64)> {
    a.partitions
        .iter()
        .map(|p| (p.number, p.new.start / MIB, p.new.len() / MIB))
        .collect()
}

pub(super) fn codes(a: &Arrangement) -> Vec<&str> {
    a.notes.iter().map(|n| &*n.code).collect()
}

/// Everything that must be true of a plan and of the disk made by it.
pub(super) fn check(old: &Disk, rooms: &[Room], a: &Arrangement) -> Disk {
    let (was, new) = (old.layout(), old.carried_out(a));
    let is = new.layout();
    let place = |p: &Partition| (p.number, p.start, p.declared);
    let planned: Vec<_> = (a.partitions.iter())
        .map(|p| (p.number, p.new.start, p.new.len()))
        .collect();
    assert_eq!(is.partitions.iter().map(place).collect::<Vec<_>>(), planned);
    assert_eq!((is.table, is.length), (was.table, a.new_length));
    for (o, n) in was.partitions.iter().zip(&is.partitions) {
        let what = |p: &Partition| (p.kind, p.name.clone(), p.bootable, p.attributes);
        assert_eq!(what(o), what(n));
        let new_id = a.new_ids.iter().find(|i| i.partition == Some(o.number));
        match new_id {
            Some(i) => assert_eq!(n.id.unwrap().to_string(), i.new),
            None => assert_eq!(o.id, n.id),
        }
        let smallest = rooms
            .iter()
            .find(|r| r.number == o.number)
            .map_or(o.length, |r| r.smallest);
        assert!(n.length >= smallest.min(o.length), "{o:?} {n:?}");
        assert!(n.start == o.start || n.start.is_multiple_of(MIB));
        if n.length > 1024 {
            assert_eq!(new.get(n.start + 512, 16), mark(o.number));
        }
        if n.length >= o.length {
            assert_eq!(new.get(n.start + o.length - 512, 16), mark(o.number));
        }
    }
    let order = |l: &Layout| {
        let mut v: Vec<_> = l.partitions.iter().map(|p| (p.start, p.number)).collect();
        v.sort_unstable();
        v.into_iter().map(|(_, n)| n).collect::<Vec<_>>()
    };
    assert_eq!(order(&was), order(&is));
    let wrong: Vec<_> = is
        .notes
        .iter()
        .filter(|n| n.code != "sector-size")
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    // Nothing is said twice of a byte.
    let mut all: Vec<ByteRange> = a.partitions.iter().map(|p| p.new).collect();
    all.extend(a.kept.iter().chain(&a.zeroed));
    all.extend(a.table_patches.iter().map(Patch::range));
    all.sort_unstable();
    if !a.is_unchanged() {
        assert!(all.windows(2).all(|w| w[0].end <= w[1].start), "{all:?}");
    }
    assert!(all.last().unwrap().end <= a.new_length);
    let again: Arrangement = serde_json::from_str(&serde_json::to_string(a).unwrap()).unwrap();
    assert_eq!(&again, a);
    new
}
