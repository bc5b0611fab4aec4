//! The virtual cartridge: a `.tap` file with its index and its memory chip.
//! What stands in the three files is defined in `docs/tape.md` section 7.
//!
//! A [`Cartridge`] has a position like a tape under a head: reading and writing
//! happen there and move it. Objects are blocks and filemarks, counted from 0.

mod facts;
mod index;
mod motion;
mod read;
mod runs;
mod word;
mod write;

#[cfg(test)]
mod damage;
#[cfg(test)]
mod tests;

pub use facts::{Attribute, DEFAULT_CAPACITY, Facts};
pub(crate) use index::{remove, replace};
pub use motion::Moved;
pub use read::{Got, Stretch};
pub use word::{MAX_BLOCK, Object};
pub use write::{Appended, Piece, Room, Wrote};

use crate::error::{Error, ErrorKind, Result};
use runs::Runs;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::path::{Path, PathBuf};
use word::Tail;

/// Bytes that may come behind an index before the next filemark writes it.
const CHECKPOINT: u64 = 64 << 20;

/// Where the medium stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Position {
    /// Blocks and filemarks in front.
    pub object: u64,
    /// Filemarks in front.
    pub file: u64,
}

/// What opening found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Opened {
    /// Bytes of an incomplete record at the end; cut off when opened for
    /// writing.
    pub torn: u64,
    /// The index was missing or did not fit: the whole file was walked.
    pub index_rebuilt: bool,
}

/// A cartridge in a drive.
pub struct Cartridge {
    file: File,
    path: PathBuf,
    name: String,
    runs: Runs,
    position: Position,
    facts: Facts,
    writable: bool,
    opened: Opened,
    /// End of what the index file speaks of; none when there is no such file.
    indexed: Option<u64>,
    /// The file may be longer than the last object.
    loose_end: bool,
}

impl Cartridge {
    /// Makes an empty cartridge of so many bytes and opens it for writing. An
    /// existing file is refused.
    pub fn create(path: &Path, capacity: u64, barcode: &str) -> Result<Self> {
        let name = path.display().to_string();
        if barcode.len() > 32 || !barcode.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            return Err(Error::usage("A barcode has at most 32 ASCII characters").of(name));
        }
        let mut facts = Facts::new(capacity, barcode);
        facts.serial = new_serial()?;
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|e| Error::io("Cannot make the cartridge", e).of(&*name))?;
        drop(file);
        facts.save(&sidecar(path, "json"))?;
        index::remove(&sidecar(path, "idx"))?;
        Self::open(path, true)
    }

    /// Opens a cartridge, for writing too if asked for.
    pub fn open(path: &Path, writable: bool) -> Result<Self> {
        let name = path.display().to_string();
        let fail = |e| Error::io("Cannot open the cartridge", e).of(&*name);
        let file = File::options()
            .read(true)
            .write(writable)
            .open(path)
            .map_err(fail)?;
        let meta = file.metadata().map_err(fail)?;
        if !meta.is_file() {
            return Err(Error::usage("A cartridge is a regular file").of(name));
        }
        let lock = match writable {
            true => FlockOperation::NonBlockingLockExclusive,
            false => FlockOperation::NonBlockingLockShared,
        };
        flock(&file, lock).map_err(|e| {
            Error::new(ErrorKind::Refused, "The cartridge is in another drive")
                .of(&*name)
                .caused_by(std::io::Error::from(e))
                .hint("end the program that has it open")
        })?;
        let known = Facts::load(&sidecar(path, "json"))?;
        let len = meta.len();
        let stored = index::load(&sidecar(path, "idx"), &file, len);
        let indexed = stored.as_ref().map(Runs::end);
        let mut runs = stored.unwrap_or_default();
        let (end, tail) = word::walk(&file, &name, runs.end(), len, &mut runs)?;
        let mut cartridge = Self {
            opened: Opened {
                torn: if tail == Tail::Torn { len - end } else { 0 },
                index_rebuilt: indexed.is_none() && len > 0,
            },
            loose_end: runs.end() != len,
            file,
            path: path.to_owned(),
            name,
            runs,
            position: Position::default(),
            facts: known
                .clone()
                .unwrap_or_else(|| Facts::new(DEFAULT_CAPACITY, "")),
            writable,
            indexed,
        };
        if tail == Tail::Torn {
            cartridge.cut_torn_record(known.is_some())?;
        }
        if writable {
            if cartridge.facts.serial.is_empty() {
                cartridge.facts.serial = new_serial()?;
            }
            cartridge.save_facts()?;
        }
        Ok(cartridge)
    }

    /// Opens the cartridge, or makes it when there is no such file. A size is
    /// that of a new one; an existing one must have it.
    pub fn open_or_create(path: &Path, size: Option<u64>, writable: bool) -> Result<Self> {
        if writable && !path.exists() {
            let barcode = name_tag(path);
            return Self::create(path, size.unwrap_or(DEFAULT_CAPACITY), &barcode);
        }
        let c = Self::open(path, writable)?;
        match size {
            Some(n) if n != c.facts.capacity => Err(Error::usage(format!(
                "The cartridge holds {} bytes, expected {n}",
                c.facts.capacity
            ))
            .of(c.name.clone())
            .hint("a size is for a new cartridge: leave it out, or name another file")),
            _ => Ok(c),
        }
    }

    /// Removes the files of a cartridge on which nothing was written.
    pub fn remove_empty(path: &Path) -> std::io::Result<()> {
        if std::fs::metadata(path)?.len() == 0 {
            std::fs::remove_file(path)?;
            for extension in ["json", "idx"] {
                let beside = sidecar(path, extension);
                if beside.exists() {
                    std::fs::remove_file(beside)?;
                }
            }
        }
        Ok(())
    }

    fn cut_torn_record(&mut self, is_ours: bool) -> Result<()> {
        if !is_ours {
            return Err(Error::new(
                ErrorKind::Incomplete,
                format!("The last {} bytes are no complete record", self.opened.torn),
            )
            .of(self.name.clone())
            .at(self.runs.end())
            .hint("the file is not a tape image in SIMH form, or it was not copied completely"));
        }
        if self.writable {
            self.cut_file(self.runs.end())?;
        }
        Ok(())
    }

    /// Cuts the file, index first.
    fn cut_file(&mut self, end: u64) -> Result<()> {
        if self.indexed.is_some_and(|i| i > end) {
            index::remove(&sidecar(&self.path, "idx"))?;
            self.indexed = None;
        }
        self.file
            .set_len(end)
            .map_err(|e| Error::io("Cannot cut the file", e).of(&*self.name).at(end))?;
        self.loose_end = false;
        Ok(())
    }

    /// Where it stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Where the end of data is.
    pub fn end_of_data(&self) -> Position {
        Position {
            object: self.runs.objects(),
            file: self.runs.marks(),
        }
    }

    /// What opening found.
    pub fn opened(&self) -> Opened {
        self.opened
    }

    /// Capacity, barcode, attributes …
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Changes the facts and stores them. Refused when opened for reading.
    pub fn change_facts(&mut self, change: impl FnOnce(&mut Facts)) -> Result<()> {
        if !self.writable {
            return Err(Error::refused("The cartridge is opened for reading").of(&*self.name));
        }
        change(&mut self.facts);
        self.save_facts()
    }

    fn save_facts(&self) -> Result<()> {
        self.facts.save(&sidecar(&self.path, "json"))
    }

    /// True when nothing may be written: the tab is set, or it was opened for
    /// reading.
    pub fn is_write_protected(&self) -> bool {
        !self.writable || self.facts.write_protected
    }

    /// Data bytes on the whole cartridge.
    pub fn used(&self) -> u64 {
        self.runs.bytes()
    }

    /// Data bytes in front of the position.
    pub fn used_here(&self) -> u64 {
        self.runs.bytes_before(self.position.object)
    }

    /// What stands on the outside: see [`tag`].
    pub fn tag(&self) -> String {
        tag(&self.path, &self.facts)
    }

    /// The `.tap` file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What to call it in a message.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes everything written durable, and the index with it when it is due.
    pub fn sync(&mut self) -> Result<()> {
        if !self.writable {
            return Ok(());
        }
        self.file
            .sync_data()
            .map_err(|e| Error::io("Cannot sync the cartridge", e).of(&*self.name))?;
        if self.runs.end() >= self.indexed.unwrap_or(0) + CHECKPOINT {
            self.checkpoint()?;
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        index::save(&sidecar(&self.path, "idx"), &self.runs)?;
        self.indexed = Some(self.runs.end());
        Ok(())
    }

    /// Sync with the index: before the cartridge leaves the drive. A cartridge
    /// that is dropped without loses nothing but the time to walk it.
    pub fn close(mut self) -> Result<()> {
        self.flush()
    }

    /// Makes everything durable, the index always.
    pub fn flush(&mut self) -> Result<()> {
        self.sync()?;
        if self.writable && self.indexed != Some(self.runs.end()) {
            self.checkpoint()?;
        }
        Ok(())
    }
}

/// The volume tag of a cartridge: its barcode, or where it has none the name of
/// its file.
pub fn tag(path: &Path, facts: &Facts) -> String {
    match facts.barcode.is_empty() {
        true => name_tag(path),
        false => facts.barcode.clone(),
    }
}

/// The name of a file as a barcode.
fn name_tag(path: &Path) -> String {
    path.file_stem()
        .map(|s| s.to_string_lossy().to_uppercase())
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_graphic)
        .take(32)
        .collect()
}

/// `NAME.tap.json` and the like.
fn sidecar(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

/// 16 random hexadecimal digits.
fn new_serial() -> Result<String> {
    Ok(facts::hex(&crate::random::bytes::<8>()?).to_uppercase())
}
