//! What lies on what: partitions on disks, device-mapper and RAID devices on
//! those, loop devices on files. Read from sysfs, whose root is a parameter so
//! that a test can give its own tree.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A device by its numbers, major and minor.
pub type DevNo = (u32, u32);

/// Major number of all loop devices (Documentation/admin-guide/devices.txt).
const LOOP: &str = "7:";

/// The two numbers in a `dev_t`.
pub fn dev_no(number: u64) -> DevNo {
    (rustix::fs::major(number), rustix::fs::minor(number))
}

/// The numbers of the block device that a path leads to.
pub fn device_at(path: &Path) -> Option<DevNo> {
    let meta = fs::metadata(path).ok()?;
    let block = meta.file_type().is_block_device();
    block.then(|| dev_no(meta.rdev()))
}

/// How deep devices may be stacked before we stop following; a loop in sysfs
/// ends here too.
const MAX_DEVICES: usize = 1024;

/// The block devices of a running system.
pub struct Stack {
    root: PathBuf,
}

impl Stack {
    /// `root` is `/sys` or a tree that looks like it.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The device's own folder in sysfs.
    pub fn dir(&self, dev: DevNo) -> Option<PathBuf> {
        self.root
            .join(format!("dev/block/{}:{}", dev.0, dev.1))
            .canonicalize()
            .ok()
    }

    /// The kernel's short name, such as `sda1`.
    pub fn name(&self, dev: DevNo) -> String {
        match self.dir(dev).as_deref().and_then(Path::file_name) {
            Some(n) => n.to_string_lossy().into_owned(),
            None => format!("{}:{}", dev.0, dev.1),
        }
    }

    /// The disk that a partition lies on.
    pub fn parent(&self, dev: DevNo) -> Option<DevNo> {
        let dir = self.dir(dev)?;
        dir.join("partition").exists().then_some(())?;
        dev_of(dir.parent()?)
    }

    /// The partitions of a disk.
    pub fn partitions(&self, dev: DevNo) -> Vec<DevNo> {
        let all = self.dir(dev).map_or_else(Vec::new, |d| partitions_in(&d));
        all.iter().filter_map(|c| dev_of(c)).collect()
    }

    /// Devices built on this one (device-mapper, RAID).
    pub fn holders(&self, dev: DevNo) -> Vec<DevNo> {
        self.links(dev, "holders")
    }

    /// Devices that this one is built on.
    pub fn slaves(&self, dev: DevNo) -> Vec<DevNo> {
        self.links(dev, "slaves")
    }

    fn links(&self, dev: DevNo, what: &str) -> Vec<DevNo> {
        self.dir(dev).map_or_else(Vec::new, |d| {
            children(&d.join(what))
                .iter()
                .filter_map(|c| dev_of(c))
                .collect()
        })
    }

    /// The file or device behind a loop device.
    pub fn backing_file(&self, dev: DevNo) -> Option<PathBuf> {
        let text = fs::read_to_string(self.dir(dev)?.join("loop/backing_file")).ok()?;
        let text = text.trim_end_matches('\n');
        Some(PathBuf::from(
            text.strip_suffix(" (deleted)").unwrap_or(text),
        ))
    }

    /// The kernel's number of the medium in a device, another one whenever that
    /// changes (Linux 5.15 and later). Of a partition that of its disk.
    pub fn medium(&self, dev: DevNo) -> Option<u64> {
        medium_in(&self.dir(dev)?)
    }

    /// Where a loop device shows its backing file, or a partition its disk:
    /// first byte and the byte behind the last.
    pub fn window(&self, dev: DevNo) -> (u64, u64) {
        let number = |name: &str| -> Option<u64> {
            let text = fs::read_to_string(self.dir(dev)?.join(name)).ok()?;
            text.trim().parse().ok()
        };
        let (start, len) = match number("partition") {
            Some(_) => (
                number("start").map(|n| n.saturating_mul(512)),
                number("size").map(|n| n.saturating_mul(512)),
            ),
            None => (number("loop/offset"), number("loop/sizelimit")),
        };
        let (start, len) = (start.unwrap_or(0), len.filter(|&n| n > 0));
        (start, len.map_or(u64::MAX, |n| start.saturating_add(n)))
    }

    /// Every loop device in use, with what is behind it.
    pub fn loops(&self) -> Vec<(DevNo, PathBuf)> {
        let is_loop = |d: &&PathBuf| {
            let name = d.file_name().and_then(|n| n.to_str());
            name.is_some_and(|n| n.starts_with(LOOP))
        };
        let mut out: Vec<_> = children(&self.root.join("dev/block"))
            .iter()
            .filter(is_loop)
            .filter_map(|d| {
                let (major, minor) = d.file_name()?.to_str()?.split_once(':')?;
                let dev = (major.parse().ok()?, minor.parse().ok()?);
                Some((dev, self.backing_file(dev)?))
            })
            .collect();
        out.sort();
        out
    }

    /// The member devices of each mounted btrfs: its mount table line names
    /// only one of them.
    pub fn btrfs_groups(&self) -> Vec<Vec<DevNo>> {
        children(&self.root.join("fs/btrfs"))
            .iter()
            .map(|g| {
                children(&g.join("devices"))
                    .iter()
                    .filter_map(|d| dev_of(d))
                    .collect()
            })
            .filter(|g: &Vec<DevNo>| !g.is_empty())
            .collect()
    }

    /// `dev` and everything its bytes lie on, as far as sysfs tells: its disk,
    /// the members of a stacked device. Loop backing files are followed by
    /// `resolve`, which turns a path into a device.
    pub fn below(&self, dev: DevNo, resolve: &dyn Fn(&Path) -> Option<DevNo>) -> BTreeSet<DevNo> {
        walk(dev, |d| {
            let mut next = self.slaves(d);
            next.extend(self.parent(d));
            next.extend(self.backing_file(d).and_then(|f| resolve(&f)));
            next
        })
    }

    /// `dev` and everything that lies on its bytes: its partitions, devices
    /// built on it or on those, loop devices over any of them. For a partition
    /// also what is built on the whole disk.
    pub fn above(&self, dev: DevNo, resolve: &dyn Fn(&Path) -> Option<DevNo>) -> BTreeSet<DevNo> {
        let loops: Vec<(DevNo, DevNo)> = self
            .loops()
            .into_iter()
            .filter_map(|(l, f)| Some((l, resolve(&f)?)))
            .collect();
        let up = |d: DevNo| {
            let mut next = self.partitions(d);
            next.extend(self.holders(d));
            next.extend(loops.iter().filter(|(_, on)| *on == d).map(|(l, _)| *l));
            next
        };
        let mut all = walk(dev, up);
        if let Some(disk) = self.parent(dev) {
            all.insert(disk);
            for h in self.holders(disk) {
                all.extend(walk(h, up));
            }
        }
        all
    }
}

fn walk(from: DevNo, next: impl Fn(DevNo) -> Vec<DevNo>) -> BTreeSet<DevNo> {
    let mut seen = BTreeSet::from([from]);
    let mut todo = vec![from];
    while let Some(d) = todo.pop() {
        for n in next(d) {
            if seen.len() < MAX_DEVICES && seen.insert(n) {
                todo.push(n);
            }
        }
    }
    seen
}

/// [`Stack::medium`] of the device whose folder in sysfs this is.
pub fn medium_in(dir: &Path) -> Option<u64> {
    ["diskseq", "../diskseq"]
        .iter()
        .find_map(|p| fs::read_to_string(dir.join(p)).ok())
        .and_then(|t| t.trim().parse().ok())
}

/// The folders of a disk's partitions, in order.
pub fn partitions_in(disk: &Path) -> Vec<PathBuf> {
    let mut all = children(disk);
    all.retain(|c| c.join("partition").exists());
    all
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut out: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    out.sort();
    out
}

/// The numbers in a device folder's `dev` file.
fn dev_of(dir: &Path) -> Option<DevNo> {
    let text = fs::read_to_string(dir.join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
