//! What is remembered of a snapshot until it is deleted: a JSON file, written before
//! anything is made, and a lock that its run holds. A record whose lock is free is that
//! of a run that was killed, or of a snapshot that was kept.

use super::provider::{Made, Name};
use crate::error::{Error, Result};
use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MOST_BYTES: u64 = 1 << 20;
const MOST_FILES: usize = 10_000;
/// Files without a record that are older are of nobody who is at work.
const LEFT: Duration = Duration::from_secs(60);

/// Where records are.
#[derive(Clone, Debug)]
pub struct Records {
    dir: PathBuf,
    /// As the user named the inventory beside which they are, if at all.
    inventory: Option<PathBuf>,
}

/// What is known of a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this shape.
    pub schema: u32,
    /// Its name.
    pub name: Name,
    /// Who made it.
    pub provider: String,
    /// Of what.
    pub source: String,
    /// When it was begun, RFC 3339.
    pub created: String,
    /// It was to be kept.
    #[serde(default)]
    pub kept: bool,
    /// Where it is read, once that is known.
    #[serde(default)]
    pub made: Option<Made>,
    /// What its provider needs to delete it.
    pub data: Value,
}

/// Records, each with whether its run lives, and what could not be read.
pub type Listed = (Vec<(Record, bool)>, Vec<Error>);

/// A record with the lock of its run.
#[derive(Debug)]
pub struct Entry {
    records: Records,
    name: Name,
    _lock: File,
}

impl Records {
    /// In a directory, which is made when something is recorded.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            inventory: None,
        }
    }

    /// Beside an inventory that the user named.
    pub fn beside(mut self, inventory: Option<&Path>) -> Self {
        self.inventory = inventory.map(Path::to_path_buf);
        self
    }

    /// The command that removes a recorded snapshot.
    pub fn command(&self, name: &Name) -> String {
        match &self.inventory {
            None => format!("ntbak snapshot delete {name}"),
            Some(dir) => format!("ntbak snapshot delete {name} --inventory {dir:?}"),
        }
    }

    fn file(&self, name: &Name) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }

    fn lock_file(&self, name: &Name) -> PathBuf {
        self.dir.join(format!("{name}.lock"))
    }

    fn failed(&self, what: &str, e: io::Error) -> Error {
        Error::io(format!("Cannot {what} the records of snapshots"), e)
            .of(self.dir.display().to_string())
    }

    /// Begins a record.
    pub fn begin(&self, record: &Record) -> Result<Entry> {
        fs::create_dir_all(&self.dir).map_err(|e| self.failed("write", e))?;
        let entry = self.lock(&record.name)?.ok_or_else(|| {
            Error::refused("Another run has a snapshot of this name").of(record.name.to_string())
        })?;
        entry.save(record)?;
        Ok(entry)
    }

    /// Takes the lock of a record; none while its run lives.
    pub fn lock(&self, name: &Name) -> Result<Option<Entry>> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.lock_file(name))
            .map_err(|e| self.failed("lock", e))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Entry {
                records: self.clone(),
                name: name.clone(),
                _lock: file,
            })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(self.failed("lock", e.into())),
        }
    }

    /// All records, and whether the run of each still lives. What cannot be read
    /// costs itself.
    pub fn list(&self) -> Result<Listed> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(e) => e,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
            Err(e) => return Err(self.failed("read", e)),
        };
        let (mut out, mut bad) = (Vec::new(), Vec::new());
        for entry in entries.take(MOST_FILES) {
            let file = entry.map_err(|e| self.failed("read", e))?.file_name();
            let name = file
                .to_str()
                .and_then(|f| f.strip_suffix(".json")?.parse::<Name>().ok());
            let Some(name) = name else {
                self.sweep(&file);
                continue;
            };
            match self.load(&name) {
                Ok(Some(r)) => match self.lock(&name) {
                    Ok(free) => out.push((r, free.is_none())),
                    Err(e) => bad.push(e.of(name.to_string())),
                },
                Ok(None) => {}
                Err(e) => bad.push(e),
            }
        }
        out.sort_by(|a, b| a.0.created.cmp(&b.0.created).then(a.0.name.cmp(&b.0.name)));
        Ok((out, bad))
    }

    /// Removes what a run left that was killed while it wrote a record or removed one.
    fn sweep(&self, file: &OsStr) {
        let name = file.to_str().and_then(|f| {
            let stem = f.strip_suffix(".json.new").or(f.strip_suffix(".lock"));
            stem?.parse::<Name>().ok()
        });
        let old = |m: fs::Metadata| m.modified().ok()?.elapsed().ok();
        let age = fs::symlink_metadata(self.dir.join(file)).ok().and_then(old);
        if let Some(name) = name
            && age.is_some_and(|a| a > LEFT)
            && !self.file(&name).exists()
            && let Ok(Some(entry)) = self.lock(&name)
        {
            // What cannot be removed is tried again next time.
            let _ = entry.remove();
        }
    }

    /// One record, if it is there.
    pub fn load(&self, name: &Name) -> Result<Option<Record>> {
        let path = self.file(name);
        let mut bytes = Vec::new();
        // A pipe there must not be waited for.
        let mut how = OpenOptions::new();
        how.read(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
        match how.open(&path) {
            Ok(f) => f
                .take(MOST_BYTES)
                .read_to_end(&mut bytes)
                .map_err(|e| self.failed("read", e))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.failed("read", e)),
        };
        let odd = || {
            Error::damaged("The record of a snapshot is not what it should be")
                .of(path.display().to_string())
                .hint("remove the file when there is no such snapshot any more")
        };
        let record: Record = serde_json::from_slice(&bytes).map_err(|e| odd().caused_by(e))?;
        match record.name == *name && record.schema == 1 {
            true => Ok(Some(record)),
            false => Err(odd()),
        }
    }
}

impl Entry {
    /// Replaces the record. After a power cut it is the old one or the new one.
    pub fn save(&self, record: &Record) -> Result<()> {
        let path = self.records.file(&self.name);
        let temporary = path.with_extension("json.new");
        let write = || {
            // An address in it may have a secret.
            let mut how = OpenOptions::new();
            how.create(true).truncate(true).write(true).mode(0o600);
            let mut file = how.open(&temporary)?;
            serde_json::to_writer_pretty(&mut file, record)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.records.dir)?.sync_all()
        };
        write().map_err(|e| self.records.failed("write", e))
    }

    /// Forgets the snapshot: it is gone.
    pub fn remove(self) -> Result<()> {
        let record = self.records.file(&self.name);
        for path in [
            record.with_extension("json.new"),
            record,
            self.records.lock_file(&self.name),
        ] {
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(self.records.failed("change", e));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_lives_as_long_as_its_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(dir.path().join("snapshots"));
        assert!(records.list().unwrap().0.is_empty());
        let mut record = Record {
            schema: 1,
            name: Name::new().unwrap(),
            provider: "reflink".into(),
            source: "a.img".into(),
            created: "2026-01-01T00:00:00Z".into(),
            kept: false,
            made: None,
            data: serde_json::json!({ "x": 1 }),
        };
        let entry = records.begin(&record).unwrap();
        assert!(records.begin(&record).is_err(), "it has an owner");
        assert_eq!(records.list().unwrap().0, [(record.clone(), true)]);
        record.kept = true;
        entry.save(&record).unwrap();
        drop(entry);
        assert_eq!(records.list().unwrap().0, [(record.clone(), false)]);
        records
            .lock(&record.name)
            .unwrap()
            .unwrap()
            .remove()
            .unwrap();
        assert!(records.list().unwrap().0.is_empty());
        // What is left of runs that were killed goes in time, and not at once.
        for file in [
            records.lock_file(&record.name),
            records.file(&record.name).with_extension("json.new"),
        ] {
            fs::write(&file, "x").unwrap();
            assert!(records.list().unwrap().0.is_empty() && file.exists());
            let old = std::time::SystemTime::now() - 2 * LEFT;
            let times = fs::FileTimes::new().set_modified(old);
            let open = OpenOptions::new().write(true).open(&file).unwrap();
            open.set_times(times).unwrap();
            assert!(records.list().unwrap().0.is_empty());
            assert!(!file.exists(), "{}", file.display());
        }
        // Damaged ones cost themselves.
        fs::write(records.file(&record.name), "{}").unwrap();
        fs::write(records.dir.join("else.json"), "{}").unwrap();
        let (good, bad) = records.list().unwrap();
        assert_eq!((good.len(), bad.len()), (0, 1));
        // So does one whose lock is no file.
        let second = Record {
            name: Name::new().unwrap(),
            ..record.clone()
        };
        drop(records.begin(&second).unwrap());
        fs::remove_file(records.lock_file(&second.name)).unwrap();
        fs::create_dir(records.lock_file(&second.name)).unwrap();
        let (good, bad) = records.list().unwrap();
        assert_eq!((good.len(), bad.len()), (0, 2));
    }
}
