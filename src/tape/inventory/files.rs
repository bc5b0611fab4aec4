//! Files of the inventory: read with bounds, replaced whole or not at all.

use super::super::label::Id;
use crate::error::{Error, ErrorKind, Result};
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Longest file that is read: digests of a billion records.
const MOST_BYTES: u64 = 40 << 30;
/// Longest JSON file.
const MOST_JSON: u64 = 64 << 20;
/// Most files of a folder that are looked at.
const MOST_FILES: usize = 1 << 20;

/// A directory with folders of files that are named by ids.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    dir: PathBuf,
}

/// Nobody else changes the inventory while this lives.
pub(super) struct Lock {
    _file: File,
}

impl Folder {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, folder: &str, id: Id, ext: &str) -> PathBuf {
        self.dir.join(folder).join(format!("{id}.{ext}"))
    }

    /// For messages.
    pub fn name(&self, folder: &str, id: Id, ext: &str) -> String {
        self.path(folder, id, ext).display().to_string()
    }

    pub fn exists(&self, folder: &str, id: Id, ext: &str) -> bool {
        self.path(folder, id, ext).exists()
    }

    /// Makes the directory if need be, and waits for whoever changes it.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.dir.join("lock");
        fs::create_dir_all(&self.dir)
            .and_then(|()| {
                let mut how = OpenOptions::new();
                how.create(true).truncate(false).write(true).open(&path)
            })
            .and_then(|f| {
                flock(&f, FlockOperation::LockExclusive)
                    .map_err(io::Error::from)
                    .map(|()| f)
            })
            .map(|_file| Lock { _file })
            .map_err(|e| self.failed("lock", &path, e))
    }

    fn failed(&self, what: &str, path: &Path, e: io::Error) -> Error {
        Error::io(format!("Cannot {what} the tape inventory"), e)
            .of(path.display().to_string())
            .hint("name another directory with --inventory")
    }

    /// The ids that files of a folder are named by, ascending.
    pub fn ids(&self, folder: &str, ext: &str) -> Result<Vec<Id>> {
        let path = self.dir.join(folder);
        let entries = match fs::read_dir(&path) {
            Ok(e) => e,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(self.failed("read", &path, e)),
        };
        let mut out = Vec::new();
        for entry in entries.take(MOST_FILES) {
            let name = entry
                .map_err(|e| self.failed("read", &path, e))?
                .file_name();
            let id: Option<Id> = name
                .to_str()
                .and_then(|n| n.strip_suffix(ext)?.strip_suffix('.')?.parse().ok());
            out.extend(id);
        }
        out.sort();
        Ok(out)
    }

    /// A file, if it is there.
    pub fn load(&self, folder: &str, id: Id, ext: &str) -> Result<Option<Vec<u8>>> {
        self.load_most(folder, id, ext, MOST_BYTES)
    }

    fn load_most(&self, folder: &str, id: Id, ext: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let path = self.path(folder, id, ext);
        let file = match File::open(&path) {
            Ok(f) => f,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.failed("read", &path, e)),
        };
        let len = file.metadata().map_err(|e| self.failed("read", &path, e))?;
        if !len.is_file() || len.len() > most {
            return Err(self.damaged_file(&path, "is no regular file, or far too long"));
        }
        let mut bytes = Vec::new();
        file.take(most)
            .read_to_end(&mut bytes)
            .map_err(|e| self.failed("read", &path, e))?;
        Ok(Some(bytes))
    }

    /// A JSON file, if it is there.
    pub fn load_json<T: DeserializeOwned>(&self, folder: &str, id: Id) -> Result<Option<T>> {
        let Some(bytes) = self.load_most(folder, id, super::JSON, MOST_JSON)? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            self.damaged(folder, id, "is not the JSON object it should be")
                .caused_by(e)
        })
    }

    pub fn damaged(&self, folder: &str, id: Id, what: &str) -> Error {
        self.damaged_file(&self.path(folder, id, super::JSON), what)
    }

    fn damaged_file(&self, path: &Path, what: &str) -> Error {
        Error::new(
            ErrorKind::Damaged,
            format!("A file of the tape inventory {what}"),
        )
        .of(path.display().to_string())
        .hint("remove it; `ntbak tape scan` makes it anew from the cartridge")
    }

    pub fn save_json<T: Serialize>(&self, folder: &str, id: Id, value: &T) -> Result<()> {
        let mut bytes = serde_json::to_vec_pretty(value)
            .map_err(|e| Error::damaged("Cannot write the tape inventory as JSON").caused_by(e))?;
        bytes.push(b'\n');
        self.save(folder, id, super::JSON, &bytes)
    }

    /// Replaces a file. After a power cut it is the old one or the new one.
    pub fn save(&self, folder: &str, id: Id, ext: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(folder, id, ext);
        let dir = self.dir.join(folder);
        let temporary = path.with_extension(format!("{ext}.new"));
        let write = || {
            fs::create_dir_all(&dir)?;
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&dir)?.sync_all()
        };
        write().map_err(|e| self.failed("write", &path, e))
    }

    pub fn remove(&self, folder: &str, id: Id, ext: &str) -> Result<()> {
        let path = self.path(folder, id, ext);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.failed("change", &path, e)),
            _ => Ok(()),
        }
    }
}
