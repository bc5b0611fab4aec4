//! What keeps a job from reading a volume that is being written, and from
//! writing onto anything that is in use or is the source itself.
//!
//! What is seen is this process's own view: its mount table, its `/proc`, its
//! `/sys`. A file system mounted only in another mount namespace is not seen
//! (an exclusively opened target still is refused by the kernel then).

mod stack;
mod tables;

pub use stack::{DevNo, Stack, dev_no, device_at, medium_in, partitions_in};
pub use tables::{Mount, parse_mountinfo, parse_swaps};

use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Storage by its identity, whatever path it was reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageId {
    /// A block device.
    Block(DevNo),
    /// A regular file: the device it lies on (major 0 when that is not a block
    /// device) and its inode number; inode 0 is a file still to be made.
    File {
        /// Device that holds the file.
        on: DevNo,
        /// Inode number on that device.
        inode: u64,
    },
}

/// One present use of a storage.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "use")]
pub enum Usage {
    /// It, a part of it or something stacked on it is mounted.
    Mounted {
        /// Where.
        at: PathBuf,
        /// The device that is mounted (a short name, or an image path).
        device: String,
        /// The file system may be written.
        writable: bool,
    },
    /// It, a part of it or something stacked on it is a swap area.
    Swap {
        /// The swap area.
        path: PathBuf,
    },
    /// Another device is built on it.
    Held {
        /// The short name of that device.
        by: String,
    },
}

impl Usage {
    /// True when it can change the bytes at any time.
    pub fn writes(&self) -> bool {
        match self {
            Usage::Mounted { writable, .. } => *writable,
            Usage::Swap { .. } => true,
            Usage::Held { .. } => false,
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Usage::Mounted {
                at,
                device,
                writable,
            } => {
                let how = if *writable { "writable" } else { "read-only" };
                write!(f, "{device} is mounted {how} at {}", at.display())
            }
            Usage::Swap { path } => write!(f, "{} is in use as swap", path.display()),
            Usage::Held { by } => write!(f, "{by} is built on it"),
        }
    }
}

/// Somewhere.
const ANY: (u64, u64) = (0, u64::MAX);

/// Turns a path into an identity; a test gives its own.
pub type Resolver = Box<dyn Fn(&Path) -> Option<StorageId> + Send + Sync>;

/// A picture of who uses what, taken once.
pub struct System {
    stack: Stack,
    mounts: Vec<Mount>,
    swaps: Vec<PathBuf>,
    resolve: Resolver,
}

impl System {
    /// The running system, now.
    pub fn read() -> Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").map_err(|e| {
            Error::io(
                "Cannot read the table of mounts, so nothing says whether the volume is in use",
                e,
            )
            .of("/proc/self/mountinfo")
        })?;
        let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
        Ok(Self::from_parts("/sys", &mounts, &swaps, Box::new(stat)))
    }

    /// From a sysfs tree, the texts of `mountinfo` and `swaps`, and a way to
    /// look up paths.
    pub fn from_parts(
        sysfs: impl Into<PathBuf>,
        mountinfo: &str,
        swaps: &str,
        resolve: Resolver,
    ) -> Self {
        Self {
            stack: Stack::new(sysfs),
            mounts: parse_mountinfo(mountinfo),
            swaps: parse_swaps(swaps),
            resolve,
        }
    }

    /// The identity of a path. A file that does not exist yet is identified by
    /// the directory it would be made in.
    pub fn storage(&self, path: &Path) -> Option<StorageId> {
        let id = (self.resolve)(path).or_else(|| {
            let dir = match path.parent() {
                Some(d) if !d.as_os_str().is_empty() => d,
                _ => Path::new("."),
            };
            match (self.resolve)(dir)? {
                StorageId::File { on, .. } => Some(StorageId::File { on, inode: 0 }),
                block => Some(block),
            }
        })?;
        match id {
            // A file system that spans devices (btrfs) shows numbers of its
            // own; the mount table knows a device for it.
            StorageId::File { on: (0, m), inode } => {
                let on = self.device_of_mount_over(path).unwrap_or((0, m));
                Some(StorageId::File { on, inode })
            }
            id => Some(id),
        }
    }

    fn device_of_mount_over(&self, path: &Path) -> Option<DevNo> {
        let full = path
            .canonicalize()
            .or_else(|_| path.parent().unwrap_or(Path::new(".")).canonicalize())
            .unwrap_or_else(|_| path.to_path_buf());
        let m = self
            .mounts
            .iter()
            .filter(|m| full.starts_with(&m.mount_point))
            .max_by_key(|m| m.mount_point.components().count())?;
        self.block(Path::new(&m.source))
    }

    fn block(&self, path: &Path) -> Option<DevNo> {
        if !path.is_absolute() {
            return None;
        }
        match (self.resolve)(path)? {
            StorageId::Block(d) => Some(d),
            StorageId::File { .. } => None,
        }
    }

    /// Every device on which the bytes of `id` show: itself, partitions,
    /// stacked devices, loop devices over any of them.
    fn above(&self, id: StorageId) -> BTreeSet<DevNo> {
        let resolve = |p: &Path| self.block(p);
        match id {
            StorageId::Block(d) => self.stack.above(d, &resolve),
            StorageId::File { .. } => self
                .stack
                .loops()
                .into_iter()
                .filter(|(_, f)| (self.resolve)(f) == Some(id))
                .flat_map(|(l, _)| self.stack.above(l, &resolve))
                .collect(),
        }
    }

    /// Every block device that the bytes of `id` lie on, itself included.
    fn below(&self, id: StorageId) -> BTreeSet<DevNo> {
        // A loop device over a file lies on the file's device too.
        let resolve = |p: &Path| match self.storage(p)? {
            StorageId::Block(d) => Some(d),
            StorageId::File { on, .. } => (on.0 != 0).then_some(on),
        };
        match id {
            StorageId::Block(d) => self.stack.below(d, &resolve),
            StorageId::File { on, .. } if on.0 != 0 => self.stack.below(on, &resolve),
            StorageId::File { .. } => BTreeSet::new(),
        }
    }

    /// The files that `id` lies on: itself if it is one, and those behind the
    /// loop devices below it.
    fn files_below(&self, id: StorageId) -> Vec<StorageId> {
        let mut out = Vec::new();
        if let StorageId::File { .. } = id {
            out.push(id);
        }
        for d in self.below(id) {
            if let Some(f) = self.stack.backing_file(d)
                && let Some(f @ StorageId::File { .. }) = self.storage(&f)
            {
                out.push(f);
            }
        }
        out
    }

    /// What the bytes of a device lie on, with the part of it that they are:
    /// its disk, the file or device behind a loop device, and so on down. True
    /// for what is behind a loop device: nothing keeps others from using it.
    fn lower(&self, own: DevNo) -> Vec<(StorageId, (u64, u64), bool)> {
        let mut out = Vec::new();
        let mut seen = BTreeSet::from([own]);
        let mut todo = vec![(own, ANY)];
        while let Some((d, (from, to))) = todo.pop() {
            let (start, end) = self.stack.window(d);
            let part = (
                start.saturating_add(from),
                start.saturating_add(to).min(end),
            );
            let block = StorageId::Block;
            // Of a stacked device it is not known which part it is.
            let slaves = self.stack.slaves(d).into_iter();
            let mut next: Vec<_> = slaves.map(|s| (block(s), ANY, false)).collect();
            next.extend(self.stack.parent(d).map(|p| (block(p), part, false)));
            let behind = self.stack.backing_file(d);
            next.extend(behind.and_then(|f| Some(((self.resolve)(&f)?, part, true))));
            for n in next {
                match n.0 {
                    StorageId::Block(b) if seen.insert(b) => todo.push((b, n.1)),
                    StorageId::Block(_) => continue,
                    StorageId::File { .. } => {}
                }
                out.push(n);
            }
        }
        out
    }

    /// Devices that show bytes of `own` without being built on it: others over
    /// the same file or device. And the files that `own` lies on.
    fn beside(&self, own: DevNo) -> (BTreeSet<DevNo>, Vec<StorageId>) {
        let resolve = |p: &Path| self.block(p);
        let lower = self.lower(own);
        let mut chain = BTreeSet::from([own]);
        chain.extend(lower.iter().filter_map(|l| match l.0 {
            StorageId::Block(d) => Some(d),
            StorageId::File { .. } => None,
        }));
        let loops = self.stack.loops();
        let (mut devices, mut files) = (BTreeSet::new(), Vec::new());
        for (id, (from, to), behind_loop) in lower {
            let mut others: Vec<DevNo> = loops
                .iter()
                .filter(|(_, f)| (self.resolve)(f) == Some(id))
                .map(|(l, _)| *l)
                .collect();
            match id {
                StorageId::Block(d) => {
                    devices.insert(d);
                    if behind_loop {
                        others.extend(self.stack.partitions(d));
                        others.extend(self.stack.holders(d));
                    }
                }
                file => files.push(file),
            }
            others.retain(|o| !chain.contains(o));
            for o in others {
                let (start, end) = self.stack.window(o);
                if start < to && from < end {
                    devices.extend(self.stack.above(o, &resolve));
                }
            }
        }
        (devices, files)
    }

    /// Who uses the storage now.
    pub fn usage(&self, id: StorageId) -> Vec<Usage> {
        let built = self.above(id);
        let (mut devices, files) = match id {
            StorageId::Block(own) => self.beside(own),
            file => (BTreeSet::new(), vec![file]),
        };
        devices.extend(&built);
        let mut out = Vec::new();
        for m in &self.mounts {
            let source = Path::new(&m.source);
            let source_id = source
                .is_absolute()
                .then(|| (self.resolve)(source))
                .flatten();
            let hit = devices.contains(&m.device)
                || match source_id {
                    Some(StorageId::Block(d)) => {
                        devices.contains(&d) || self.same_btrfs(m, d, &devices)
                    }
                    Some(f) => files.contains(&f),
                    None => false,
                };
            if hit {
                let device = match source_id {
                    Some(_) => m.source.clone(),
                    None => self.stack.name(m.device),
                };
                out.push(Usage::Mounted {
                    at: m.mount_point.clone(),
                    device,
                    writable: m.writable,
                });
            }
        }
        for s in &self.swaps {
            let hit = match (self.resolve)(s) {
                Some(StorageId::Block(d)) => devices.contains(&d),
                Some(f) => files.contains(&f),
                None => false,
            };
            if hit {
                out.push(Usage::Swap { path: s.clone() });
            }
        }
        if let StorageId::Block(own) = id {
            let mut parts = BTreeSet::from([own]);
            parts.extend(self.stack.partitions(own));
            for d in built.iter().filter(|d| !parts.contains(d)) {
                if self.stack.parent(own) != Some(*d) {
                    out.push(Usage::Held {
                        by: self.stack.name(*d),
                    });
                }
            }
        }
        out
    }

    /// A btrfs of several devices is listed with one of them.
    fn same_btrfs(&self, m: &Mount, listed: DevNo, devices: &BTreeSet<DevNo>) -> bool {
        m.fs_type == "btrfs"
            && self
                .stack
                .btrfs_groups()
                .iter()
                .any(|g| g.contains(&listed) && g.iter().any(|d| devices.contains(d)))
    }

    /// Refuses a source that something may write to, unless `live`; returns its
    /// present uses.
    pub fn check_source(&self, path: &Path, live: bool) -> Result<Vec<Usage>> {
        let Some(id) = self.storage(path) else {
            return Ok(Vec::new());
        };
        let usage = self.usage(id);
        match usage.iter().find(|u| u.writes()) {
            Some(u) if !live => Err(Error::refused(format!(
                "The source is in use and may change while it is read: {u}"
            ))
            .of(path.display().to_string())
            .hint("unmount it or remount it read-only, or accept a picture that may not be of one moment with --live")),
            _ => Ok(usage),
        }
    }

    /// Refuses a target that is in use in any way.
    pub fn check_target(&self, path: &Path) -> Result<()> {
        let Some(id) = self.storage(path) else {
            return Ok(());
        };
        match self.usage(id).first() {
            Some(u) => Err(Error::refused(format!("The target is in use: {u}"))
                .of(path.display().to_string())
                .hint("unmount it and stop what is built on it first")),
            None => Ok(()),
        }
    }

    /// Refuses a target that is the source, lies on it or contains it.
    pub fn check_distinct(&self, source: &Path, target: &Path) -> Result<()> {
        if self.same_storage(source, target) {
            return Err(Error::refused(format!(
                "The target lies on the same storage as the source {}: writing it would destroy what is read",
                source.display()
            ))
            .of(target.display().to_string())
            .hint("choose a target on another disk"));
        }
        Ok(())
    }

    /// True when both are the same storage or one lies on the other. Two
    /// partitions of one disk are two storages.
    pub fn same_storage(&self, a: &Path, b: &Path) -> bool {
        let (Some(a), Some(b)) = (self.storage(a), self.storage(b)) else {
            return false;
        };
        let existing = !matches!(a, StorageId::File { inode: 0, .. });
        (existing && a == b) || self.lies_on(a, b) || self.lies_on(b, a)
    }

    fn lies_on(&self, upper: StorageId, lower: StorageId) -> bool {
        match lower {
            StorageId::Block(d) => self.below(upper).contains(&d),
            StorageId::File { inode: 0, .. } => false,
            file => self.files_below(upper).contains(&file),
        }
    }
}

/// The identity of a path on the running system.
fn stat(path: &Path) -> Option<StorageId> {
    use rustix::fs::{major, minor};
    let m = std::fs::metadata(path).ok()?;
    Some(if m.file_type().is_block_device() {
        StorageId::Block((major(m.rdev()), minor(m.rdev())))
    } else {
        StorageId::File {
            on: (major(m.dev()), minor(m.dev())),
            inode: m.ino(),
        }
    })
}

#[cfg(test)]
mod tests;
