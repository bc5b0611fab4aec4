//! What lies in caches above a source is written before it is watched: a device
//! looks quiet while the file system on it is dirty.

use super::{loops_over, node};
use crate::device::guard::{Stack, StorageId, System, Usage};
use crate::error::{Error, Result};
use rustix::io::Errno;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The caches above a source. What is mounted and attached there is looked at
/// anew whenever they are flushed.
#[derive(Default)]
pub struct Caches(Option<PathBuf>);

/// Uppermost first.
#[derive(Default)]
struct Above {
    /// Mounted file systems.
    mounts: Vec<PathBuf>,
    /// Devices stacked on it, and itself: file or device.
    nodes: Vec<PathBuf>,
}

impl Caches {
    /// Nothing is known of any.
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of this machine that are above a file or a device.
    pub fn of(path: &Path) -> Self {
        Self(Some(path.into()))
    }

    /// Writes what is in them.
    pub fn flush(&self) -> Result<()> {
        match &self.0 {
            Some(path) => Above::of(path)?.flush(),
            None => Ok(()),
        }
    }
}

impl Above {
    fn of(path: &Path) -> Result<Self> {
        let system = System::read()?;
        let Some(id) = system.storage(path) else {
            return Ok(Self::default());
        };
        let mounts = system.usage(id).into_iter().filter_map(|u| match u {
            Usage::Mounted { at, writable, .. } => writable.then_some(at),
            _ => None,
        });
        let stack = Stack::new("/sys");
        // What is stacked on loop devices over this one is found by name only.
        let resolve = |p: &Path| match system.storage(p)? {
            StorageId::Block(d) => Some(d),
            StorageId::File { .. } => None,
        };
        // All loop devices over one file, each with a cache of its own.
        let lowest = match id {
            StorageId::Block(d) => {
                let disk = stack.parent(d).unwrap_or(d);
                let file = stack.backing_file(disk).filter(|f| f.is_file());
                let mut all = file.map_or_else(Vec::new, |f| loops_over(&stack, &f));
                all.retain(|l| *l != disk);
                all.push(d);
                all
            }
            StorageId::File { .. } => loops_over(&stack, path),
        };
        let mut nodes = Vec::new();
        // What is below has caches of its own, which others write to.
        if let StorageId::Block(d) = id {
            let below = stack.below(d, &resolve).into_iter();
            nodes.extend(below.filter(|b| *b != d).filter_map(|b| node(&stack, b)));
        }
        for d in lowest {
            let above = stack.above(d, &resolve).into_iter();
            nodes.extend(above.filter(|a| *a != d).filter_map(|a| node(&stack, a)));
            nodes.extend(node(&stack, d));
        }
        nodes.push(path.to_path_buf());
        Ok(Self {
            mounts: mounts.collect(),
            nodes,
        })
    }

    fn flush(&self) -> Result<()> {
        for at in &self.mounts {
            // Unmounted meanwhile: then it was written.
            let Ok(dir) = File::open(at) else { continue };
            done(rustix::fs::syncfs(&dir), at)?;
        }
        for path in &self.nodes {
            let file = match File::open(path) {
                Ok(f) => f,
                Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                    return Err(Error::io(
                        "Cannot have what waits in the cache above the source written",
                        e,
                    )
                    .of(path.display().to_string())
                    .hint("run it as root, or do not wait: --quiet 0"));
                }
                // It went away: then it was written.
                Err(_) => continue,
            };
            done(rustix::fs::fsync(&file), path)?;
        }
        Ok(())
    }
}

/// What cannot be flushed has nothing to write.
fn done(result: rustix::io::Result<()>, path: &Path) -> Result<()> {
    match result {
        Err(Errno::INVAL | Errno::ROFS | Errno::NOSYS | Errno::NOMEDIUM | Errno::NXIO) | Ok(()) => {
            Ok(())
        }
        Err(e) => Err(Error::io(
            "Cannot write what waits in the cache above the source",
            e.into(),
        )
        .of(path.display().to_string())),
    }
}
