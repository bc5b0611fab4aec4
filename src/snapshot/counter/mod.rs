//! Who counts the writes to a source: the kernel, the unit itself, or whoever
//! tells of changes to a file.

mod block;
mod file;
mod flush;
mod loops;
mod unit;

pub use block::{BlockCount, DirectCount};
pub use file::FileCount;
pub use flush::Caches;
pub use loops::LoopCount;
pub use unit::UnitCount;

use super::quiet::{Counter, Sample};
use crate::device::guard::{DevNo, Stack, device_at};
use crate::error::{Error, Result};
use crate::scsi::{SgIo, Unit};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most devices below or above a source that are looked at.
const MOST: usize = 256;

/// One who counts writes.
pub trait Count: Send {
    /// Completed writes; a number that only grows.
    fn writes(&mut self) -> Result<u64>;
    /// Writes that are on their way, where that is known.
    fn in_flight(&mut self) -> Result<u64> {
        Ok(0)
    }
    /// For people.
    fn name(&self) -> String;
}

/// Everybody who counts the writes to one source.
pub struct Counters {
    own: Vec<Box<dyn Count>>,
    members: Vec<Box<dyn Count>>,
    caches: Caches,
}

impl Counters {
    /// Of a regular file or a block device.
    pub fn of_path(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        std::fs::metadata(path).map_err(|e| {
            let e = Error::io("Cannot look at the source", e);
            e.of(&*name)
        })?;
        let caches = Caches::of(path);
        let stack = Stack::new("/sys");
        if let Some(dev) = device_at(path) {
            return Self::of_device(Path::new("/sys"), &stack, dev, path, caches);
        }
        let full = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let loops = LoopCount::new(Path::new("/sys"), &full, None)?;
        Ok(Self {
            own: vec![Box::new(FileCount::new(&full)?), Box::new(loops)],
            members: Vec::new(),
            caches,
        })
    }

    fn of_device(
        sysfs: &Path,
        stack: &Stack,
        dev: DevNo,
        path: &Path,
        caches: Caches,
    ) -> Result<Self> {
        let mut own: Vec<Box<dyn Count>> = vec![Box::new(BlockCount::new(sysfs, dev)?)];
        let disk = stack.parent(dev);
        if let Some(disk) = disk {
            own.push(Box::new(DirectCount::new(sysfs, disk)?));
        } else {
            // The unit's own count has the writes of other hosts.
            if let Ok(device) = SgIo::open(path)
                && let Ok(count) = UnitCount::new(Unit::new(Arc::new(device)))
            {
                own.push(Box::new(count));
            }
        }
        let mut members: Vec<Box<dyn Count>> = Vec::new();
        // Loop devices may lie on block devices, and those on files again.
        let mut lowest = disk.unwrap_or(dev);
        let mut part = disk.is_some();
        for _ in 0..MOST {
            let Some(f) = stack.backing_file(lowest) else {
                break;
            };
            if f.is_file() {
                own.push(Box::new(match part {
                    false => FileCount::new(&f)?,
                    true => FileCount::of_calls(&f)?,
                }));
                own.push(Box::new(LoopCount::new(sysfs, &f, Some(lowest))?));
            }
            let Some(below) = device_at(&f) else { break };
            members.push(Box::new(BlockCount::new(sysfs, below)?));
            lowest = stack.parent(below).unwrap_or(below);
            part |= lowest != below;
        }
        for d in members_below(stack, dev) {
            members.push(Box::new(BlockCount::new(sysfs, d)?));
        }
        Ok(Self {
            own,
            members,
            caches,
        })
    }

    /// Of a logical unit that the kernel has no disk of.
    pub fn of_unit(unit: Unit) -> Result<Self> {
        Ok(Self {
            own: vec![Box::new(UnitCount::new(unit)?)],
            members: Vec::new(),
            caches: Caches::none(),
        })
    }
}

impl Counter for Counters {
    fn sample(&mut self) -> Result<Sample> {
        // What is on its way is asked first: a write that is completed in between is
        // seen twice then, and not missed.
        let mut in_flight = 0u64;
        for c in self.own.iter_mut().chain(&mut self.members) {
            in_flight = in_flight.saturating_add(c.in_flight()?);
        }
        let all = |list: &mut Vec<Box<dyn Count>>| -> Result<Vec<u64>> {
            list.iter_mut().map(|c| c.writes()).collect()
        };
        Ok(Sample {
            own: all(&mut self.own)?,
            members: all(&mut self.members)?,
            in_flight,
        })
    }

    fn flush(&mut self) -> Result<()> {
        self.caches.flush()
    }

    fn name(&self) -> String {
        let own = self.own.iter().map(|c| c.name());
        let mut all: Vec<String> = own.filter(|n| !n.is_empty()).collect();
        match self.members.len() {
            0 => {}
            1 => all.push("1 member below".into()),
            n => all.push(format!("{n} members below")),
        }
        all.join(", ")
    }
}

/// The devices that a stacked device is built on, all the way down.
fn members_below(stack: &Stack, dev: DevNo) -> BTreeSet<DevNo> {
    let slaves = |d: DevNo| {
        let mut all = stack.slaves(d);
        // A partition of such a device has no folder of its own for them.
        all.extend(stack.parent(d).into_iter().flat_map(|p| stack.slaves(p)));
        all
    };
    let mut out = BTreeSet::new();
    let mut todo = slaves(dev);
    while let Some(d) = todo.pop() {
        if d != dev && out.len() < MOST && out.insert(d) {
            todo.extend(slaves(d));
        }
    }
    out
}

/// Loop devices whose backing file is this one.
pub(super) fn loops_over(stack: &Stack, file: &Path) -> Vec<DevNo> {
    let id = |p: &Path| std::fs::metadata(p).ok().map(|m| (m.dev(), m.ino()));
    let mine = id(file);
    let all = stack.loops().into_iter();
    all.filter(|(_, f)| mine.is_some() && id(f) == mine)
        .map(|(d, _)| d)
        .take(MOST)
        .collect()
}

/// The node of a device in `/dev`, where there is one.
pub(super) fn node(stack: &Stack, dev: DevNo) -> Option<PathBuf> {
    let paths = [
        PathBuf::from(format!("/dev/block/{}:{}", dev.0, dev.1)),
        Path::new("/dev").join(stack.name(dev)),
    ];
    paths.into_iter().find(|p| device_at(p) == Some(dev))
}

#[cfg(test)]
mod tests;
