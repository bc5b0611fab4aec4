//! Device-mapper without LVM: the table of a mapped device is put under a
//! `snapshot-origin`, beside which a `snapshot` with a file for the old contents lies.

use super::provider::{Made, Name, Provider, Stray, Subject, cannot, folder, load, store};
use super::reflink::wanted;
use super::runner::{Call, Runner, failed};
use crate::device::guard::{DevNo, Stack, System};
use crate::error::{Error, ErrorKind, Result};
use crate::units::human_bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub const KIND: &str = "dm";
/// Sectors of 512 bytes in a chunk of the snapshot.
const CHUNK: u64 = 8;
/// Share of the origin's size for old contents when nobody says; at least 64 MiB.
const SHARE: u64 = 5;
const LEAST: u64 = 64 << 20;

/// Calls `dmsetup` and `losetup`.
pub struct Dm {
    subject: Option<Subject>,
    dir: Option<PathBuf>,
    size: Option<u64>,
    runner: Arc<dyn Runner>,
}

#[derive(Serialize, Deserialize)]
struct Data {
    device: String,
    /// As it was, to be put back.
    table: String,
    sectors: u64,
    name: Name,
    store: PathBuf,
    size: u64,
}

impl Data {
    fn real(&self) -> String {
        format!("{}-real", self.name)
    }
}

impl Dm {
    /// Of a source; old contents go into a file in `dir`, `size` bytes of them.
    pub fn new(
        subject: Option<Subject>,
        dir: Option<PathBuf>,
        size: Option<u64>,
        runner: Arc<dyn Runner>,
    ) -> Self {
        Self {
            subject,
            dir,
            size,
            runner,
        }
    }

    fn dmsetup(&self, args: &[&str]) -> Result<String> {
        self.runner.output(&Call::tool("dmsetup", args))
    }

    fn exists(&self, name: &str) -> Result<bool> {
        let call = Call::tool(
            "dmsetup",
            ["info", "--columns", "--noheadings", "-o", "name", name],
        );
        let ended = self.runner.run(&call)?;
        match ended.code {
            Some(0) => Ok(true),
            Some(1) if no_device(&ended.err) || no_device(&ended.out) => Ok(false),
            _ => Err(failed(&call, &ended)),
        }
    }

    fn steps(&self, d: &Data) -> Result<()> {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&d.store)
            .and_then(|f| f.set_len(d.size));
        file.map_err(|e| {
            Error::io("Cannot make the file for old contents", e).of(d.store.display().to_string())
        })?;
        let show = ["--find".as_ref(), "--show".as_ref(), d.store.as_os_str()];
        let lo = self
            .runner
            .output(&Call::tool("losetup", show))?
            .trim()
            .to_string();
        self.dmsetup(&["create", &d.real(), "--table", &d.table])?;
        // By its numbers: a node may come late.
        let numbers = [
            "info",
            "--columns",
            "--noheadings",
            "--separator",
            ":",
            "-o",
            "major,minor",
        ];
        let real = self.dmsetup(&[&numbers[..], &[&d.real()]].concat())?;
        let real = real.trim();
        let sectors = d.sectors;
        let snapshot = format!("0 {sectors} snapshot {real} {lo} N {CHUNK}");
        self.dmsetup(&[
            "create",
            d.name.as_str(),
            "--readonly",
            "--table",
            &snapshot,
        ])?;
        let origin = format!("0 {sectors} snapshot-origin {real}");
        self.dmsetup(&["load", &d.device, "--table", &origin])?;
        // This one call of the kernel's freezes what is mounted on it, waits for writes on
        // their way, and puts the new table in: the snapshot is of this moment.
        self.dmsetup(&["resume", &d.device]).map(drop)
    }
}

impl Provider for Dm {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn prepare(&mut self, name: &Name) -> Result<Value> {
        let subject = wanted(self.subject.as_ref())?;
        let path = subject.path(KIND)?.to_path_buf();
        let no = |why: &str| cannot(subject, KIND, why);
        let device = subject.device.and_then(name_of);
        let device = device.ok_or_else(|| no("the source is no device of device-mapper"))?;
        self.prepare_named(name, &path, &device)
    }

    fn create(&mut self, data: &mut Value) -> Result<()> {
        let d: Data = load(data)?;
        self.steps(&d).map_err(|e| match self.delete(data) {
            Ok(()) => e,
            Err(left) => e.hint(format!("what was begun could not be undone: {left}")),
        })
    }

    fn describe(&mut self, data: &Value) -> Result<Made> {
        let d: Data = load(data)?;
        // Where no udev makes them.
        self.dmsetup(&["mknodes", d.name.as_str()])?;
        Ok(Made {
            place: format!("/dev/mapper/{}", d.name),
            part: None,
            label: d.name.to_string(),
            naa: None,
        })
    }

    fn check(&mut self, data: &Value) -> Result<()> {
        let d: Data = load(data)?;
        let status = self.dmsetup(&["status", d.name.as_str()])?;
        // "0 SECTORS snapshot USED/ALL METADATA", or a word instead of the numbers.
        let used = status.split_ascii_whitespace().nth(3).unwrap_or_default();
        let numbers = used
            .split_once('/')
            .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match numbers {
            Some::<(u64, u64)>((used, all)) if used < all => Ok(()),
            _ => Err(Error::new(
                ErrorKind::Io,
                format!(
                    "The snapshot's room of {} for old contents is full ({used}), and the snapshot is worth nothing",
                    human_bytes(d.size)
                ),
            )
            .of(d.name.to_string())
            .hint("give it more with --snapshot-size, or run when less is written")),
        }
    }

    fn delete(&mut self, data: &Value) -> Result<()> {
        let d: Data = load(data)?;
        let table = self.dmsetup(&["table", &d.device])?;
        // Only what we put there is taken away again.
        if table.contains(" snapshot-origin ") {
            self.dmsetup(&["load", &d.device, "--table", &d.table])?;
            self.dmsetup(&["resume", &d.device])?;
        }
        for name in [d.name.to_string(), d.real()] {
            if self.exists(&name)? {
                self.dmsetup(&["remove", "--retry", &name])?;
            }
        }
        let find = ["--noheadings", "--output", "NAME", "--associated"].map(AsRef::as_ref);
        let call = Call::tool("losetup", find.into_iter().chain([d.store.as_os_str()]));
        let loops = self.runner.output(&call)?;
        for lo in loops
            .lines()
            .map(str::trim)
            .filter(|l| l.starts_with("/dev/loop"))
        {
            self.runner
                .output(&Call::tool("losetup", ["--detach", lo]))?;
        }
        match std::fs::remove_file(&d.store) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("Cannot remove the file for old contents", e)
                    .of(d.store.display().to_string()))
            }
            _ => Ok(()),
        }
    }

    fn strays(&mut self) -> Result<Vec<Stray>> {
        let names = self.dmsetup(&["ls"])?;
        let names = names
            .lines()
            .filter_map(|l| l.split_ascii_whitespace().next());
        Ok(names
            .filter_map(|n| n.parse::<Name>().ok())
            .map(|name| Stray {
                label: name.to_string(),
                remove: format!("ntbak snapshot delete {name}"),
                name,
            })
            .collect())
    }
}

impl Dm {
    fn prepare_named(&self, name: &Name, path: &Path, device: &str) -> Result<Value> {
        let subject = wanted(self.subject.as_ref())?;
        let no = |why: &str| cannot(subject, KIND, why);
        let table = self.dmsetup(&["table", device])?.trim_end().to_string();
        let words: Vec<&str> = table.split_ascii_whitespace().collect();
        let sectors = match &words[..] {
            ["0", n, kind, ..] if table.lines().count() == 1 && !kind.starts_with("snapshot") => {
                n.parse().ok()
            }
            _ => None,
        };
        let sectors: u64 =
            sectors.ok_or_else(|| no("its table has not one line, or has a snapshot already"))?;
        let size = self.size.unwrap_or((sectors * 512 / SHARE).max(LEAST));
        let dir = self.dir.as_ref().ok_or_else(|| {
            no("old contents need a file")
                .advise("name a directory for it on another disk: --snapshot-dir DIR")
        })?;
        let store_at = folder(dir)?.join(format!("{name}.cow"));
        if System::read()?.same_storage(path, &store_at) {
            return Err(
                no("the file for old contents would lie on the source itself")
                    .advise("name a directory on another disk: --snapshot-dir DIR"),
            );
        }
        store(&Data {
            device: device.into(),
            table,
            sectors,
            name: name.clone(),
            store: store_at,
            size,
        })
    }
}

fn no_device(text: &str) -> bool {
    text.contains("No such device") || text.contains("does not exist")
}

/// The name of a mapped device.
pub fn name_of(dev: DevNo) -> Option<String> {
    let path = format!("/sys/dev/block/{}:{}/dm/name", dev.0, dev.1);
    let name = std::fs::read_to_string(path).ok()?;
    Some(name.trim().to_string()).filter(|n| !n.is_empty())
}

/// True for a logical volume of LVM: its tables are LVM's own matter.
pub fn is_lvm(subject: &Subject) -> bool {
    let uuid = subject.device.and_then(|d| {
        std::fs::read_to_string(format!("/sys/dev/block/{}:{}/dm/uuid", d.0, d.1)).ok()
    });
    uuid.is_some_and(|u| u.starts_with("LVM-"))
}

/// True for a volume of ZFS.
pub fn is_zvol(subject: &Subject) -> bool {
    let name = subject.device.map(|d| Stack::new("/sys").name(d));
    name.and_then(|n| n.strip_prefix("zd").map(str::to_string))
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::runner::Transcript;

    #[test]
    fn its_commands_as_they_were_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, [0; 512]).unwrap();
        let name = Name::new().unwrap();
        let text = include_str!("transcripts/dm.txt");
        let store_at = dir.path().join(format!("{name}.cow"));
        let text = text.replace("/tmp/c.cow", store_at.to_str().unwrap());
        let runner = Arc::new(Transcript::new(&text, name.as_str()));
        let subject = Subject::of_path(&path).unwrap();
        // Old contents on the device itself are no help.
        let mut dm = Dm::new(
            Some(subject),
            Some(dir.path().into()),
            Some(32 << 20),
            runner.clone(),
        );
        let mut data = dm
            .prepare_named(&name, Path::new("/dev/null"), "plain")
            .unwrap();
        dm.create(&mut data).unwrap();
        assert_eq!(store_at.metadata().unwrap().len(), 32 << 20);
        let made = dm.describe(&data).unwrap();
        assert_eq!(made.place, format!("/dev/mapper/{name}"));
        dm.check(&data).unwrap();
        dm.check(&data).unwrap();
        let e = dm.check(&data).unwrap_err();
        assert!(
            e.to_string()
                .contains("32.0 MiB for old contents is full (Invalid)"),
            "{e}"
        );
        assert_eq!(dm.strays().unwrap()[0].name, name);
        dm.delete(&data).unwrap();
        assert!(!store_at.exists());
        // Once more: it is gone already.
        dm.delete(&data).unwrap();
        assert_eq!(runner.left(), 0);
    }
}
