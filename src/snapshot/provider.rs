//! What every way to a snapshot can do, and the words that all of them use.

use crate::device::guard::{DevNo, device_at};
use crate::error::{Error, Result};
use crate::scsi::Unit;
use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr;

const PREFIX: &str = "ntbak-";
const DIGITS: usize = 16;

/// The name of a snapshot: `ntbak-` and 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// A new one.
    pub fn new() -> Result<Self> {
        // Zero is what others say who say nothing.
        Ok(Self::of(u64::from_be_bytes(crate::random::bytes()?).max(1)))
    }

    /// The name with these digits.
    pub fn of(number: u64) -> Self {
        Self(format!("{PREFIX}{number:016x}"))
    }

    /// Its digits as a number.
    pub fn number(&self) -> u64 {
        let digits = self.0.strip_prefix(PREFIX).unwrap_or_default();
        u64::from_str_radix(digits, 16).unwrap_or_default()
    }

    /// As a user may write it, also without `ntbak-`.
    pub fn from_user(text: &str) -> std::result::Result<Self, String> {
        match text.starts_with(PREFIX) {
            true => text.parse(),
            false => format!("{PREFIX}{text}").parse(),
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let good = text.strip_prefix(PREFIX).is_some_and(|digits| {
            let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            digits.len() == DIGITS && digits.bytes().all(hex)
        });
        match good {
            true => Ok(Self(text.into())),
            false => Err(format!(
                "expected the name of a snapshot, {PREFIX} and {DIGITS} hexadecimal digits"
            )),
        }
    }
}

impl TryFrom<String> for Name {
    type Error = String;
    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(n: Name) -> Self {
        n.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a snapshot is taken of.
#[derive(Clone)]
pub struct Subject {
    /// As the user wrote it.
    pub text: String,
    /// The file or block device, free of links.
    pub path: Option<PathBuf>,
    /// Numbers of the block device, if it is one.
    pub device: Option<DevNo>,
    /// The logical unit, if it is one that was named as such.
    pub unit: Option<Unit>,
}

impl Subject {
    /// A file or a block device.
    pub fn of_path(path: &Path) -> Result<Self> {
        let text = path.display().to_string();
        let fail = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::not_found("There is no such file or device").of(&*text)
            }
            _ => Error::io("Cannot look at the source", e).of(&*text),
        };
        let full = path.canonicalize().map_err(fail)?;
        Ok(Self {
            text,
            device: device_at(&full),
            path: Some(full),
            unit: None,
        })
    }

    /// A logical unit.
    pub fn of_unit(text: &str, unit: Unit) -> Self {
        Self {
            text: text.into(),
            path: None,
            device: None,
            unit: Some(unit),
        }
    }

    /// Its path, or why this provider cannot.
    pub fn path(&self, provider: &str) -> Result<&Path> {
        self.path.as_deref().ok_or_else(|| {
            cannot(
                self,
                provider,
                "the source is a logical unit, not a file or a block device of this machine",
            )
        })
    }
}

/// Why a provider cannot take a snapshot of this source.
pub fn cannot(subject: &Subject, provider: &str, why: &str) -> Error {
    Error::refused(format!("No snapshot by {provider}: {why}"))
        .of(&*subject.text)
        .hint("choose another way with --snapshot, or none")
}

/// The folder of `--snapshot-dir`, free of links: what deletes the snapshot may run
/// somewhere else.
pub(super) fn folder(dir: &Path) -> Result<PathBuf> {
    let fail = |e| Error::io("Cannot keep files of a snapshot there", e);
    let full = dir.canonicalize().map_err(fail);
    let full = full.and_then(|d| match d.is_dir() {
        true => Ok(d),
        false => Err(fail(std::io::ErrorKind::NotADirectory.into())),
    });
    full.map_err(|e| {
        e.of(dir.display().to_string())
            .hint("--snapshot-dir takes a folder that is there")
    })
}

/// What a provider has of a snapshot that lies in a file system.
#[derive(Default)]
pub(super) struct Own {
    /// The only one that it deletes; any of ours when it made it itself.
    pub name: Option<Name>,
    /// Held as long as the run is at work, so that others see that it lives.
    held: Option<File>,
}

impl Own {
    /// To delete the snapshot of this name.
    pub fn again(name: Name) -> Self {
        Self {
            name: Some(name),
            held: None,
        }
    }

    /// Holds what was made.
    pub fn hold(&mut self, path: &Path) {
        let file = File::open(path).ok();
        let lock = |f: &File| flock(f, FlockOperation::NonBlockingLockExclusive).is_ok();
        self.held = file.filter(lock);
    }

    /// Lets go of it, to delete it: refused unless it bears a name of ours, and the one
    /// that was asked for.
    pub fn let_go(&mut self, path: &Path, named: Option<Name>) -> Result<()> {
        self.held = None;
        match named.is_some_and(|n| self.name.as_ref().is_none_or(|own| *own == n)) {
            true => Ok(()),
            false => {
                Err(Error::refused("This is not the name of a snapshot")
                    .of(path.display().to_string()))
            }
        }
    }
}

/// True when a run holds it.
pub(super) fn is_held(path: &Path) -> bool {
    let shared = FlockOperation::NonBlockingLockShared;
    File::open(path).is_ok_and(|f| flock(&f, shared) == Err(rustix::io::Errno::WOULDBLOCK))
}

/// Where a snapshot is read, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// A file, a block device, or a logical unit.
    pub place: String,
    /// The part of it that the source is: first byte and length; all of it when
    /// not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<(u64, u64)>,
    /// What its provider calls it: a path, `vg/lv`, `pool/volume@name`.
    pub label: String,
    /// NAA designator of a logical unit, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub naa: Option<String>,
}

/// A snapshot that bears our kind of name, and no record of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// Its name.
    pub name: Name,
    /// What its provider calls it.
    pub label: String,
    /// The command that removes it.
    pub remove: String,
}

/// A way to a snapshot. What is needed to delete it is in `data`, which is kept
/// in a file before anything is made; all names in it follow from [`Name`].
pub trait Provider: Send {
    /// Its name on the command line.
    fn kind(&self) -> &'static str;

    /// Looks whether it can, and changes nothing. Gives what will be needed to
    /// delete the snapshot.
    fn prepare(&mut self, name: &Name) -> Result<Value>;

    /// Takes the snapshot. What it learns thereby goes into `data`. When it
    /// fails, nothing is left that [`Provider::delete`] would not remove.
    fn create(&mut self, data: &mut Value) -> Result<()>;

    /// Where it is read; waits until it can be.
    fn describe(&mut self, data: &Value) -> Result<Made>;

    /// Fails when the snapshot is no longer what it was.
    fn check(&mut self, _data: &Value) -> Result<()> {
        Ok(())
    }

    /// Deletes it, and what is left of one that was half made. That it is gone
    /// already is no error.
    fn delete(&mut self, data: &Value) -> Result<()>;

    /// Snapshots of the same source, or beside it, that bear our kind of name and
    /// are not known to belong to a run that lives.
    fn strays(&mut self) -> Result<Vec<Stray>> {
        Ok(Vec::new())
    }
}

/// A provider's own data as JSON.
pub(super) fn store<T: Serialize>(data: &T) -> Result<Value> {
    serde_json::to_value(data)
        .map_err(|e| Error::damaged("Cannot write what is known of a snapshot").caused_by(e))
}

/// And back.
pub(super) fn load<T: DeserializeOwned>(data: &Value) -> Result<T> {
    T::deserialize(data).map_err(|e| {
        Error::damaged("What is known of a snapshot is not what its provider wrote").caused_by(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let n = Name::new().unwrap();
        assert_eq!(n.as_str().len(), 22);
        assert_eq!(n.as_str().parse(), Ok(n.clone()));
        assert_eq!(Name::from_user(n.as_str()), Ok(n.clone()));
        // What somebody else calls so is not ours.
        assert!(n.as_str()[6..].parse::<Name>().is_err());
        assert_eq!(Name::from_user(&n.as_str()[6..]), Ok(n.clone()));
        assert_eq!(Name::of(n.number()), n);
        for bad in [
            "",
            "ntbak-",
            "ntbak-0123456789abcdeF",
            "../../etc/passwd",
            "ntbak-0123456789abcdef0",
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
            assert!(Name::from_user(bad).is_err(), "{bad}");
            assert!(serde_json::from_value::<Name>(bad.into()).is_err());
        }
    }
}
