//! ZFS: a snapshot of a volume and a read-only clone of it, which has a device
//! whatever the volume's `snapdev` says.

use super::provider::{Made, Name, Provider, Stray, Subject, cannot, load, store};
use super::reflink::wanted;
use super::runner::{Call, Ended, Runner, failed, quoted};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const KIND: &str = "zfs";
/// Where volumes have their devices.
const DEVICES: &str = "/dev/zvol";
/// How long the clone's device may take to appear, and how long it may be busy.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

/// Calls `zfs`.
pub struct Zfs {
    subject: Option<Subject>,
    runner: Arc<dyn Runner>,
    devices: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Data {
    volume: String,
    snapshot: String,
    clone: String,
}

impl Zfs {
    /// Of a source.
    pub fn new(subject: Option<Subject>, runner: Arc<dyn Runner>) -> Self {
        Self {
            subject,
            runner,
            devices: DEVICES.into(),
        }
    }

    fn zfs(&self, args: &[&str]) -> Result<String> {
        self.runner.output(&Call::tool("zfs", args))
    }

    /// The device of a volume: its link has `+` for a space.
    fn node(&self, volume: &str) -> PathBuf {
        self.devices.join(volume.replace(' ', "+"))
    }

    fn volume(&self) -> Result<String> {
        let subject = wanted(self.subject.as_ref())?;
        let path = subject.path(KIND)?;
        let all = self.zfs(&["list", "-H", "-t", "volume", "-o", "name"])?;
        let is = |name: &&str| {
            let node = self.node(name);
            !name.is_empty() && node.canonicalize().is_ok_and(|n| n == path)
        };
        let found = all.lines().map(str::trim).find(is).map(str::to_string);
        found.ok_or_else(|| cannot(subject, KIND, "the source is no volume of a pool"))
    }

    /// That it is gone already is no error. It is busy for a moment while udev looks at
    /// a new device.
    fn destroy(&self, what: &str) -> Result<()> {
        let call = Call::tool("zfs", ["destroy", what]);
        let end = Instant::now() + PATIENCE;
        loop {
            let ended = self.runner.run(&call)?;
            let says = |text: &str| ended.err.contains(text);
            let gone = says("does not exist") || says("could not find any snapshots");
            match ended.code {
                Some(0) => return Ok(()),
                _ if gone => return Ok(()),
                _ if says("dataset is busy") && Instant::now() < end => {
                    // Also when everything is to end: this is how it ends.
                    std::thread::sleep(PAUSE);
                }
                _ => {
                    // The reason comes first, then what could be done and names.
                    let first = ended.err.lines().next().unwrap_or_default().to_owned();
                    return Err(failed(
                        &call,
                        &Ended {
                            err: first,
                            ..ended
                        },
                    ));
                }
            }
        }
    }
}

impl Provider for Zfs {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn prepare(&mut self, name: &Name) -> Result<Value> {
        let volume = self.volume()?;
        let pool = volume.split('/').next().unwrap_or_default();
        store(&Data {
            snapshot: format!("{volume}@{name}"),
            clone: format!("{pool}/{name}"),
            volume,
        })
    }

    fn create(&mut self, data: &mut Value) -> Result<()> {
        let d: Data = load(data)?;
        self.zfs(&["snapshot", &d.snapshot])?;
        // A volmode that is not the default would have its device made, removed and made
        // again, and the link with it.
        let clone = ["clone", "-o", "readonly=on", &d.snapshot, &d.clone];
        self.zfs(&clone)
            .map(drop)
            .map_err(|e| match self.destroy(&d.snapshot) {
                Ok(()) => e.hint("the clone needs a place in the pool, and some room"),
                Err(left) => e.hint(format!("the snapshot {} is left: {left}", d.snapshot)),
            })
    }

    fn describe(&mut self, data: &Value) -> Result<Made> {
        let d: Data = load(data)?;
        let node = self.node(&d.clone);
        let end = Instant::now() + PATIENCE;
        while File::open(&node).is_err() {
            if Instant::now() >= end {
                return Err(Error::not_found("The clone of the snapshot has no device")
                    .of(node.display().to_string())
                    .hint("its pool may say so: `zfs get volmode`; `zfs inherit volmode POOL` puts it back"));
            }
            if !self.runner.pause(PAUSE) {
                return Err(Error::interrupted());
            }
        }
        Ok(Made {
            place: node.display().to_string(),
            part: None,
            label: d.snapshot,
            naa: None,
        })
    }

    fn delete(&mut self, data: &Value) -> Result<()> {
        let d: Data = load(data)?;
        self.destroy(&d.clone)?;
        self.destroy(&d.snapshot)
    }

    fn strays(&mut self) -> Result<Vec<Stray>> {
        let volume = self.volume()?;
        let all = self.zfs(&["list", "-H", "-t", "snapshot", "-o", "name", &volume])?;
        let pool = volume.split('/').next().unwrap_or_default();
        let names = all.lines().map(str::trim);
        Ok(names
            .filter_map(|label| {
                let name: Name = label.split_once('@')?.1.parse().ok()?;
                Some(Stray {
                    remove: format!(
                        "zfs destroy {}; zfs destroy {}",
                        quoted(&format!("{pool}/{name}")),
                        quoted(label)
                    ),
                    name,
                    label: label.into(),
                })
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::runner::Transcript;

    #[test]
    fn its_commands_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("zd0");
        std::fs::write(&node, [0; 512]).unwrap();
        let tank = dir.path().join("tank");
        std::fs::create_dir(&tank).unwrap();
        std::os::unix::fs::symlink(&node, tank.join("win")).unwrap();
        let name = Name::new().unwrap();
        std::fs::write(tank.join(name.as_str()), [0; 512]).unwrap();
        let text = include_str!("transcripts/zfs.txt");
        let runner = Arc::new(Transcript::new(text, name.as_str()));
        let mut zfs = Zfs::new(Some(Subject::of_path(&node).unwrap()), runner.clone());
        zfs.devices = dir.path().into();
        let mut data = zfs.prepare(&name).unwrap();
        zfs.create(&mut data).unwrap();
        let made = zfs.describe(&data).unwrap();
        assert_eq!(made.place, tank.join(name.as_str()).display().to_string());
        assert_eq!(made.label, format!("tank/win@{name}"));
        let strays = zfs.strays().unwrap();
        assert_eq!((strays.len(), &strays[0].name), (1, &name));
        zfs.delete(&data).unwrap();
        zfs.delete(&data).unwrap();
        // The clone fails: the snapshot is taken back.
        let e = zfs.create(&mut data).unwrap_err();
        assert!(e.to_string().contains("out of space"), "{e}");
        assert_eq!(runner.left(), 0);
    }
}
