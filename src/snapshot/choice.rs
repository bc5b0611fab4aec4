//! Which way to a snapshot: as the user wishes, or the first that can.

use super::provider::{Name, Provider, Subject};
use super::record::Record;
use super::runner::{Runner, System};
use super::{btrfs, command, dm, lvm, none, qmp, reflink, target, zfs};
use crate::error::{Error, Result};
use crate::observe::CancelFlag;
use crate::scsi::Unit;
use serde_json::Value;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// A way to a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The first that can.
    Auto,
    /// None is taken.
    None,
    /// A file that shares the image file's blocks.
    Reflink,
    /// A snapshot of the subvolume.
    Btrfs,
    /// A snapshot of the logical volume.
    Lvm,
    /// Device-mapper by itself.
    Dm,
    /// A snapshot of the volume of a pool.
    Zfs,
    /// QEMU, by its machine protocol.
    Qmp,
    /// `ntbak target`.
    Target,
    /// A program of the user's.
    Command(PathBuf),
}

impl FromStr for Choice {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        Ok(match text {
            "auto" => Self::Auto,
            "none" => Self::None,
            reflink::KIND => Self::Reflink,
            btrfs::KIND => Self::Btrfs,
            lvm::KIND => Self::Lvm,
            dm::KIND => Self::Dm,
            zfs::KIND => Self::Zfs,
            qmp::KIND => Self::Qmp,
            target::KIND => Self::Target,
            other => match other.strip_prefix("command:") {
                Some(p) if !p.is_empty() => Self::Command(p.into()),
                _ => {
                    return Err(
                        "expected auto, none, reflink, btrfs, lvm, dm, zfs, qmp, target or command:PROGRAM".into(),
                    );
                }
            },
        })
    }
}

/// What the user says about snapshots.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Where files that belong to a snapshot go.
    pub dir: Option<PathBuf>,
    /// Room for changes, in bytes.
    pub size: Option<u64>,
    /// QEMU's socket.
    pub qmp: Option<PathBuf>,
    /// Tells of an interrupt: programs that may be ended then are.
    pub cancel: Option<Arc<CancelFlag>>,
}

/// A provider that can, with what it prepared. `Auto` tries those that fit the source.
pub fn provider(
    choice: &Choice,
    subject: &Subject,
    wishes: &Wishes,
    name: &Name,
) -> Result<(Box<dyn Provider>, Value)> {
    if let Some(p) = &subject.path
        && *choice != Choice::None
        && p.to_str().is_none()
    {
        return Err(Error::refused(
            "No snapshot is taken of a source whose path is not UTF-8, since it could not be recorded",
        )
        .of(&*subject.text)
        .hint("give it another name"));
    }
    if *choice != Choice::Auto {
        let mut p = make(choice, subject, wishes)?;
        let data = p.prepare(name)?;
        return Ok((p, data));
    }
    let mut why = Vec::new();
    for choice in fitting(subject, wishes) {
        let tried =
            make(&choice, subject, wishes).and_then(|mut p| p.prepare(name).map(|d| (p, d)));
        match tried {
            Ok(found) => return Ok(found),
            Err(e) => why.push(e.message().to_string()),
        }
    }
    let why = match why.is_empty() {
        true => "nothing that is known here takes one of this kind of source".into(),
        false => why.join("; "),
    };
    Err(
        Error::refused(format!("No snapshot can be taken of the source: {why}"))
            .of(&*subject.text)
            .hint("take one by a program of yours (--snapshot command:PROGRAM), or read the source as it is (--snapshot none)"),
    )
}

/// Those that a source may have, and that need nothing the user did not say. Device-mapper
/// by itself is not among them: it changes the table of the device.
fn fitting(subject: &Subject, wishes: &Wishes) -> Vec<Choice> {
    if subject.unit.is_some() {
        return vec![Choice::Target];
    }
    if dm::is_lvm(subject) {
        return vec![Choice::Lvm];
    }
    if dm::is_zvol(subject) {
        return vec![Choice::Zfs];
    }
    let mut all = Vec::new();
    if wishes.qmp.is_some() {
        all.push(Choice::Qmp);
    }
    all.push(Choice::Reflink);
    all
}

fn make(choice: &Choice, subject: &Subject, wishes: &Wishes) -> Result<Box<dyn Provider>> {
    let (s, w) = (Some(subject.clone()), wishes.clone());
    let runner: Arc<dyn Runner> = Arc::new(System::new(w.cancel));
    Ok(match choice {
        Choice::Auto | Choice::None => Box::new(none::None::new(subject.clone())),
        Choice::Reflink => Box::new(reflink::Reflink::new(s, w.dir, runner)),
        Choice::Btrfs => Box::new(btrfs::Btrfs::new(s, runner)),
        Choice::Lvm => Box::new(lvm::Lvm::new(s, w.size, runner)),
        Choice::Dm => Box::new(dm::Dm::new(s, w.dir, w.size, runner)),
        Choice::Zfs => Box::new(zfs::Zfs::new(s, runner)),
        Choice::Qmp => Box::new(qmp::Qmp::new(s, w.qmp, w.dir)),
        Choice::Target => Box::new(target::Target::new(subject.clone())?),
        Choice::Command(p) => Box::new(command::Program::new(p.clone(), s, runner)),
    })
}

/// The provider of a recorded snapshot, to delete it. `unit` opens a logical unit.
pub fn provider_again(
    record: &Record,
    unit: &mut dyn FnMut(&str) -> Result<Unit>,
) -> Result<Box<dyn Provider>> {
    let runner: Arc<dyn Runner> = Arc::new(System::default());
    Ok(match &*record.provider {
        reflink::KIND => Box::new(reflink::Reflink::again(record.name.clone(), runner)),
        btrfs::KIND => Box::new(btrfs::Btrfs::again(record.name.clone(), runner)),
        lvm::KIND => Box::new(lvm::Lvm::new(None, None, runner)),
        dm::KIND => Box::new(dm::Dm::new(None, None, None, runner)),
        zfs::KIND => Box::new(zfs::Zfs::new(None, runner)),
        qmp::KIND => Box::new(qmp::Qmp::new(None, None, None)),
        target::KIND => Box::new(target::Target::again(unit(&target::source_of(
            &record.data,
        )?)?)),
        command::KIND => Box::new(command::Program::new(PathBuf::new(), None, runner)),
        other => {
            return Err(Error::unsupported(format!(
                "The snapshot is of a kind that this version does not know: {other}"
            ))
            .of(record.name.to_string()));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_by_name() {
        for name in [
            "auto", "none", "reflink", "btrfs", "lvm", "dm", "zfs", "qmp", "target",
        ] {
            name.parse::<Choice>().unwrap();
        }
        let c: Choice = "command:/opt/snap".parse().unwrap();
        assert_eq!(c, Choice::Command("/opt/snap".into()));
        assert!("command:".parse::<Choice>().is_err() && "vss".parse::<Choice>().is_err());
    }

    #[test]
    fn no_way_is_refused_with_reasons() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.img");
        std::fs::write(&path, [0; 512]).unwrap();
        let subject = Subject::of_path(&path).unwrap();
        let name = Name::new().unwrap();
        for choice in ["lvm", "dm", "target", "qmp", "command:/no/such/program"] {
            let e = provider(
                &choice.parse().unwrap(),
                &subject,
                &Wishes::default(),
                &name,
            )
            .err()
            .unwrap();
            assert_eq!(e.kind(), crate::error::ErrorKind::Refused, "{choice}: {e}");
            assert!(e.advice().is_some());
        }
    }
}
