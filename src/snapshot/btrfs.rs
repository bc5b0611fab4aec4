//! Btrfs: a read-only snapshot of the subvolume that an image file lies in.

use super::provider::{Made, Name, Own, Provider, Stray, Subject, cannot, is_held, load, store};
use super::reflink::{file_behind, wanted};
use super::runner::{Call, Runner};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub const KIND: &str = "btrfs";
/// The inode number of a subvolume's root (BTRFS_FIRST_FREE_OBJECTID).
const ROOT: u64 = 256;
const MOST: usize = 100_000;

/// Which part of the file the source is.
type Part = Option<(u64, u64)>;

/// Makes and deletes snapshots of subvolumes.
pub struct Btrfs {
    subject: Option<Subject>,
    runner: Arc<dyn Runner>,
    own: Own,
}

#[derive(Serialize, Deserialize)]
struct Data {
    subvolume: PathBuf,
    snapshot: PathBuf,
    inside: PathBuf,
    #[serde(default)]
    part: Option<(u64, u64)>,
}

impl Btrfs {
    /// Of a source.
    pub fn new(subject: Option<Subject>, runner: Arc<dyn Runner>) -> Self {
        Self {
            subject,
            runner,
            own: Own::default(),
        }
    }

    /// To delete the snapshot of this name.
    pub fn again(name: Name, runner: Arc<dyn Runner>) -> Self {
        Self {
            own: Own::again(name),
            ..Self::new(None, runner)
        }
    }

    fn subvolume(&self) -> Result<(PathBuf, PathBuf, Part)> {
        let subject = wanted(self.subject.as_ref())?;
        let (file, part) = file_behind(subject, KIND, &*self.runner)?;
        let fail = |e| Error::io("Cannot look at the source", e).of(&*subject.text);
        let file = file.canonicalize().map_err(fail)?;
        let dev = file.metadata().map_err(fail)?.dev();
        let not = || cannot(subject, KIND, "the file does not lie on Btrfs");
        let is_btrfs =
            rustix::fs::statfs(&file).is_ok_and(|s| s.f_type as u64 & 0xffff_ffff == 0x9123_683e);
        let root = file
            .ancestors()
            .skip(1)
            .take_while(|d| on(d).is_some_and(|m| m.0 == dev));
        let root = root.filter(|d| on(d).is_some_and(|m| m.1 == ROOT)).last();
        let root = root.filter(|_| is_btrfs).ok_or_else(not)?.to_path_buf();
        let inside = file.strip_prefix(&root).map_err(|_| not())?.to_path_buf();
        Ok((root, inside, part))
    }
}

fn on(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|m| (m.dev(), m.ino()))
}

fn remove(snapshot: &Path) -> Call {
    Call::tool(
        "btrfs",
        [
            "subvolume".as_ref(),
            "delete".as_ref(),
            snapshot.as_os_str(),
        ],
    )
}

impl Provider for Btrfs {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn prepare(&mut self, name: &Name) -> Result<Value> {
        let (subvolume, inside, part) = self.subvolume()?;
        self.runner.output(&Call::tool("btrfs", ["--version"]))?;
        store(&Data {
            snapshot: subvolume.join(name.as_str()),
            subvolume,
            inside,
            part,
        })
    }

    fn create(&mut self, data: &mut Value) -> Result<()> {
        let d: Data = load(data)?;
        let args = ["subvolume", "snapshot", "-r"].map(AsRef::as_ref);
        let paths = [d.subvolume.as_os_str(), d.snapshot.as_os_str()];
        self.runner
            .output(&Call::tool("btrfs", args.into_iter().chain(paths)))?;
        self.own.hold(&d.snapshot);
        Ok(())
    }

    fn describe(&mut self, data: &Value) -> Result<Made> {
        let d: Data = load(data)?;
        Ok(Made {
            place: d.snapshot.join(&d.inside).display().to_string(),
            part: d.part,
            label: d.snapshot.display().to_string(),
            naa: None,
        })
    }

    fn delete(&mut self, data: &Value) -> Result<()> {
        let d: Data = load(data)?;
        let named = d.snapshot.file_name().and_then(|n| n.to_str());
        let named = named.and_then(|n| n.parse::<Name>().ok());
        self.own.let_go(&d.snapshot, named)?;
        match d.snapshot.symlink_metadata() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            _ => self.runner.output(&remove(&d.snapshot)).map(drop),
        }
    }

    fn strays(&mut self) -> Result<Vec<Stray>> {
        let (root, ..) = self.subvolume()?;
        let fail = |e| Error::io("Cannot look for old snapshots", e).of(root.display().to_string());
        let mut out = Vec::new();
        for entry in std::fs::read_dir(&root).map_err(fail)?.take(MOST) {
            let file = entry.map_err(fail)?.file_name();
            let name = file.to_str().and_then(|f| f.parse::<Name>().ok());
            let path = root.join(&file);
            if let Some(name) = name
                && on(&path).is_some_and(|m| m.1 == ROOT)
                && !is_held(&path)
            {
                out.push(Stray {
                    name,
                    remove: remove(&path).line(),
                    label: path.display().to_string(),
                });
            }
        }
        Ok(out)
    }
}
