//! Reflink: a file that shares the blocks of an image file (`FICLONE`), on XFS, Btrfs,
//! and whatever else has it. Of a loop device the file behind it is taken.

use super::provider::{
    Made, Name, Own, Provider, Stray, Subject, cannot, folder, is_held, load, store,
};
use super::runner::{Call, Runner, quoted};
use crate::device::guard::{Stack, dev_no};
use crate::error::{Error, Result};
use rustix::fs::{Mode, OFlags, ioctl_ficlone};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub const KIND: &str = "reflink";
/// What follows the name in the name of the file.
const EXTENSION: &str = "snapshot";
/// Most entries of a directory that are looked at.
const MOST: usize = 100_000;

/// Clones files.
pub struct Reflink {
    subject: Option<Subject>,
    dir: Option<PathBuf>,
    runner: Arc<dyn Runner>,
    own: Own,
}

/// What is needed to delete it.
#[derive(Serialize, Deserialize)]
struct Data {
    source: PathBuf,
    clone: PathBuf,
    #[serde(default)]
    part: Option<(u64, u64)>,
}

impl Reflink {
    /// Of a source; the clone goes beside it, or into `dir`, which must be on the
    /// same file system.
    pub fn new(subject: Option<Subject>, dir: Option<PathBuf>, runner: Arc<dyn Runner>) -> Self {
        Self {
            subject,
            dir,
            runner,
            own: Own::default(),
        }
    }

    /// To delete the snapshot of this name.
    pub fn again(name: Name, runner: Arc<dyn Runner>) -> Self {
        Self {
            own: Own::again(name),
            ..Self::new(None, None, runner)
        }
    }

    fn subject(&self) -> Result<&Subject> {
        wanted(self.subject.as_ref())
    }

    fn dir(&self, source: &Path) -> Result<PathBuf> {
        match &self.dir {
            Some(d) => folder(d),
            None => Ok(source.parent().unwrap_or(Path::new("/")).to_path_buf()),
        }
    }
}

/// A provider that only deletes was asked to make one.
pub(super) fn wanted(subject: Option<&Subject>) -> Result<&Subject> {
    subject.ok_or_else(|| Error::usage("There is no source to take a snapshot of"))
}

/// The regular file that the bytes of a source lie in, and which part of it they are.
pub(super) fn file_behind(
    subject: &Subject,
    kind: &str,
    runner: &dyn Runner,
) -> Result<(PathBuf, Option<(u64, u64)>)> {
    let path = subject.path(kind)?;
    let Some(dev) = subject.device else {
        return Ok((path.to_path_buf(), None));
    };
    let stack = Stack::new("/sys");
    // A partition of a loop device lies in a part of its part.
    let (lo, (start, end)) = match stack.parent(dev) {
        Some(disk) => (disk, stack.window(dev)),
        None => (dev, (0, u64::MAX)),
    };
    let file = stack.backing_file(lo).filter(|f| f.is_file());
    let file = file.ok_or_else(|| {
        cannot(
            subject,
            kind,
            "the source is no file, nor a loop device on one",
        )
    })?;
    // Another file may have come to the place of the one that was attached.
    if !is_attached(&stack.name(lo), &file, runner)? {
        let why = format!("{} is not the file behind the device", file.display());
        return Err(cannot(subject, kind, &why));
    }
    let (from, to) = stack.window(lo);
    let size = std::fs::metadata(&file)
        .map_err(|e| Error::io("Cannot look at the file behind the device", e))?
        .len();
    let first = from.saturating_add(start);
    let last = from.saturating_add(end).min(to).min(size);
    let len = last.saturating_sub(first) / 512 * 512;
    Ok((file, Some((first, len))))
}

/// Is this the file that a loop device shows? The kernel tells by an ioctl, and
/// `losetup` passes it on.
fn is_attached(device: &str, file: &Path, runner: &dyn Runner) -> Result<bool> {
    let node = format!("/dev/{device}");
    let how = [
        "--list",
        "--noheadings",
        "--output",
        "BACK-INO,BACK-MAJ:MIN",
    ];
    let said = runner.output(&Call::tool("losetup", how.into_iter().chain([&*node])))?;
    let meta = std::fs::metadata(file)
        .map_err(|e| Error::io("Cannot look at the file behind the device", e))?;
    let numbers = dev_no(meta.dev());
    let want = [
        meta.ino().to_string(),
        format!("{}:{}", numbers.0, numbers.1),
    ];
    Ok(said
        .split_ascii_whitespace()
        .eq(want.iter().map(String::as_str)))
}

impl Provider for Reflink {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn prepare(&mut self, name: &Name) -> Result<Value> {
        let subject = self.subject()?;
        let (source, part) = file_behind(subject, KIND, &*self.runner)?;
        let dir = self.dir(&source)?;
        let from = open(&source)?;
        // A file without a name shows whether the file system can.
        let how = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let no = |why: &str, e: rustix::io::Errno| {
            cannot(subject, KIND, why).caused_by(std::io::Error::from(e))
        };
        let to = rustix::fs::open(&dir, how, Mode::RUSR | Mode::WUSR).map_err(|e| match e {
            Errno::OPNOTSUPP => no("the file system has no reflinks there", e),
            _ => no("no file can be made there", e),
        })?;
        ioctl_ficlone(&to, &from).map_err(|e| no("the file system has no reflinks there", e))?;
        store(&Data {
            clone: dir.join(format!("{name}.{EXTENSION}")),
            source,
            part,
        })
    }

    fn create(&mut self, data: &mut Value) -> Result<()> {
        let d: Data = load(data)?;
        let fail =
            |what: &str, e: std::io::Error| Error::io(what, e).of(d.clone.display().to_string());
        let from = open(&d.source)?;
        let to = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&d.clone)
            .map_err(|e| fail("Cannot make the snapshot's file", e))?;
        self.own.hold(&d.clone);
        ioctl_ficlone(&to, &from).map_err(|e| {
            let _ = std::fs::remove_file(&d.clone);
            fail("Cannot clone the source", e.into())
        })
    }

    fn describe(&mut self, data: &Value) -> Result<Made> {
        let d: Data = load(data)?;
        let place = d.clone.display().to_string();
        Ok(Made {
            label: place.clone(),
            place,
            part: d.part,
            naa: None,
        })
    }

    fn delete(&mut self, data: &Value) -> Result<()> {
        let d: Data = load(data)?;
        // Only what bears our kind of name, whatever the record says.
        let file = d.clone.file_name().and_then(|n| n.to_str());
        self.own.let_go(&d.clone, file.and_then(name_of))?;
        match std::fs::remove_file(&d.clone) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                Err(Error::io("Cannot remove the snapshot's file", e)
                    .of(d.clone.display().to_string()))
            }
            _ => Ok(()),
        }
    }

    fn strays(&mut self) -> Result<Vec<Stray>> {
        let (source, _) = file_behind(self.subject()?, KIND, &*self.runner)?;
        let dir = self.dir(&source)?;
        let fail = |e| Error::io("Cannot look for old snapshots", e).of(dir.display().to_string());
        let mut out = Vec::new();
        for entry in std::fs::read_dir(&dir).map_err(fail)?.take(MOST) {
            let file = entry.map_err(fail)?.file_name();
            if let Some(name) = file.to_str().and_then(name_of) {
                let path = dir.join(&file);
                if is_held(&path) {
                    continue;
                }
                let path = path.display().to_string();
                out.push(Stray {
                    name,
                    remove: format!("rm {}", quoted(&path)),
                    label: path,
                });
            }
        }
        Ok(out)
    }
}

fn name_of(file: &str) -> Option<Name> {
    let name = file.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    name.parse().ok()
}

fn open(path: &Path) -> Result<File> {
    File::open(path)
        .map_err(|e| Error::io("Cannot open the source", e).of(path.display().to_string()))
}
