//! The journal of a restore: what of the stream is durably on the target, so
//! that an interrupted run can go on. `docs/journal.md` defines the form.

use super::wishes::Decided;
use crate::error::{Error, Result};
use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const NO_FIRST: &str = "does not begin with a sound line";
/// Version of the form.
const VERSION: u32 = 1;
/// Longest journal that is read.
const MOST_BYTES: u64 = 256 << 20;
/// Longest line.
const MOST_LINE: u64 = 4 << 20;
/// Bytes after which the target is made durable, and an entry made of it.
const BYTES: u64 = 256 << 20;
/// Time after which it is.
const TIME: Duration = Duration::from_secs(5);
/// Damaged records that are remembered; behind more of them nothing counts as done.
pub const MOST_DAMAGED: usize = 4096;

/// What a restore is: all of it must be the same when it goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Archive id in hex.
    pub archive: String,
    /// Digest of the plan.
    pub plan: String,
    /// The target.
    pub target: TargetId,
    /// What was decided at random: it may differ, the journal's counts.
    #[serde(default)]
    pub decided: Decided,
}

/// By what a target is known again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetId {
    /// Path or URL.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// Logical sector size in bytes.
    pub sector_bytes: u32,
    /// Serial number, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Inode of a file that is made: it gets another name in the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
}

impl Subject {
    /// Refuses another archive, before anything that was decided for this one
    /// is taken for that.
    pub fn is_of(&self, archive: &str) -> Result<()> {
        match self.archive == archive {
            true => Ok(()),
            false => Err(other(&format!(
                "its archive is {}, this one is {archive}",
                self.archive
            ))),
        }
    }
}

impl TargetId {
    /// A device with a serial number may have got another name since.
    fn is(&self, other: &TargetId) -> bool {
        let same = match (&self.serial, &other.serial) {
            (Some(a), Some(b)) => a == b,
            (None, None) => self.name == other.name,
            _ => false,
        };
        same && (self.bytes, self.sector_bytes) == (other.bytes, other.sector_bytes)
    }
}

#[derive(Serialize, Deserialize)]
struct First {
    ntbak_journal: u32,
    subject: Subject,
}

/// What the other lines say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The target is about to be written. BLAKE3 in hex of each range that
    /// comes last, as it was found.
    Begun {
        /// One for each range.
        first_sectors: Vec<String>,
    },
    /// Everything up to a record is on the target.
    Done {
        /// Sequence number of that record.
        sequence: u64,
        /// First byte of the stream behind it.
        offset: u64,
        /// Stream offsets of records before it that were damaged, and are not
        /// in an earlier entry.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        damaged: Vec<u64>,
    },
    /// Of what a copy manager moves, everything before this byte of the stream
    /// is on the target, and all that this machine writes besides.
    Copied {
        /// First byte of the stream that is not.
        offset: u64,
    },
    /// Everything is on the target; what comes last is being written.
    Finishing,
}

/// What a journal knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Digests of the ranges that come last, as they were found.
    pub first_sectors: Option<Vec<String>>,
    /// Sequence number of the last record of which everything is there.
    pub sequence: Option<u64>,
    /// First byte of the stream behind it.
    pub offset: u64,
    /// Stream offsets of damaged records before it.
    pub damaged: Vec<u64>,
    /// First byte of the stream that a copy manager has still to move.
    pub copied: u64,
    /// What comes last may be there.
    pub finishing: bool,
}

impl Progress {
    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Begun { first_sectors } => self.first_sectors = Some(first_sectors),
            Entry::Done {
                sequence,
                offset,
                damaged,
            } => {
                self.sequence = Some(sequence);
                self.offset = offset;
                self.damaged.extend(damaged);
            }
            Entry::Copied { offset } => self.copied = offset,
            Entry::Finishing => self.finishing = true,
        }
    }

    /// True when more than what comes last may be on the target.
    pub fn has_data(&self) -> bool {
        self.sequence.is_some() || self.copied > 0
    }

    /// First byte of the stream that is missing, whoever moves it.
    pub fn first_missing(&self) -> u64 {
        match self.damaged.is_empty() {
            true => self.copied.max(self.offset),
            false => self.copied,
        }
    }
}

/// A journal, held by this run alone.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    progress: Progress,
    every: (u64, Duration),
}

impl Journal {
    /// A new one; what was there is replaced.
    pub fn create(path: &Path, subject: &Subject) -> Result<Self> {
        let mut how = OpenOptions::new();
        how.create(true).truncate(false);
        let mut new = Self::open(path, &mut how)?;
        let first = First {
            ntbak_journal: VERSION,
            subject: subject.clone(),
        };
        new.file
            .set_len(0)
            .and_then(|()| new.file.seek(SeekFrom::Start(0)))
            .map_err(|e| new.failed(e))?;
        new.put(&first)?;
        let dir = match path.parent() {
            Some(d) if !d.as_os_str().is_empty() => d,
            _ => Path::new("."),
        };
        File::open(dir)
            .and_then(|d| d.sync_all())
            .map_err(|e| new.failed(e))?;
        Ok(new)
    }

    /// What an interrupted run was about.
    pub fn subject(path: &Path) -> Result<Subject> {
        let old = Self::open_old(path)?;
        let mut reader = BufReader::new(&old.file);
        let first = line::<First>(&mut reader).map_err(|e| old.failed(e))?;
        let (first, _) = first.ok_or_else(|| old.damaged(NO_FIRST))?;
        Ok(first.subject)
    }

    fn open_old(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(
                Error::not_found("There is no journal of an interrupted restore")
                    .of(path.display().to_string())
                    .hint("start without --resume"),
            );
        }
        Self::open(path, &mut OpenOptions::new())
    }

    /// The one of an interrupted run, if it is about the same.
    pub fn take_up(path: &Path, subject: &Subject) -> Result<Self> {
        let mut old = Self::open_old(path)?;
        let len = old.file.metadata().map_err(|e| old.failed(e))?.len();
        if len > MOST_BYTES {
            return Err(old.damaged(&format!("has {len} bytes, at most {MOST_BYTES} are read")));
        }
        let mut reader = BufReader::new(old.file.try_clone().map_err(|e| old.failed(e))?);
        let (first, mut end) = match line::<First>(&mut reader).map_err(|e| old.failed(e))? {
            Some(l) => l,
            None => return Err(old.damaged(NO_FIRST)),
        };
        if first.ntbak_journal != VERSION {
            return Err(old.damaged(&format!(
                "has version {}, this program reads {VERSION}",
                first.ntbak_journal
            )));
        }
        same(&first.subject, subject).map_err(|e| e.of(path.display().to_string()))?;
        // What stands behind a line that is not whole was never relied on.
        while let Some((entry, bytes)) = line(&mut reader).map_err(|e| old.failed(e))? {
            end += bytes;
            old.progress.add(entry);
        }
        drop(reader);
        old.file
            .set_len(end)
            .and_then(|()| old.file.seek(SeekFrom::Start(end)))
            .map_err(|e| old.failed(e))?;
        Ok(old)
    }

    fn open(path: &Path, how: &mut OpenOptions) -> Result<Self> {
        let name = path.display().to_string();
        let fail = |e| Error::io("Cannot open the journal", e).of(&*name);
        let file = how
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(path)
            .map_err(fail)?;
        if !file.metadata().map_err(fail)?.is_file() {
            return Err(Error::usage("The journal is not a regular file").of(name));
        }
        if !locked(&file) {
            return Err(Error::refused("Another run keeps this journal now").of(name));
        }
        Ok(Self {
            file,
            path: path.to_path_buf(),
            progress: Progress::default(),
            every: (BYTES, TIME),
        })
    }

    /// With an entry after so many bytes, or so much time.
    pub fn every(mut self, bytes: u64, time: Duration) -> Self {
        self.every = (bytes, time);
        self
    }

    /// When an entry is due.
    pub fn due(&self) -> (u64, Duration) {
        self.every
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is on the target.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Appends an entry and makes it durable.
    pub fn append(&mut self, entry: Entry) -> Result<()> {
        self.put(&entry)?;
        self.progress.add(entry);
        Ok(())
    }

    fn put<T: Serialize>(&mut self, value: &T) -> Result<()> {
        let json = serde_json::to_string(value)
            .map_err(|e| Error::damaged("Cannot write an entry as JSON").caused_by(e))?;
        let line = format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes()));
        self.file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(|e| self.failed(e))
    }

    /// The restore is whole: the journal goes.
    pub fn remove(self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(|e| self.failed(e))
    }

    fn failed(&self, e: std::io::Error) -> Error {
        Error::io("Cannot keep the journal of the restore", e)
            .of(self.path.display().to_string())
            .hint("name another file with --journal")
    }

    fn damaged(&self, what: &str) -> Error {
        Error::damaged(format!("The journal {what}"))
            .of(self.path.display().to_string())
            .hint("start again without --resume")
    }
}

/// A line and its length; none at the end and where it is not sound.
fn line<T: for<'a> Deserialize<'a>>(from: &mut impl BufRead) -> std::io::Result<Option<(T, u64)>> {
    let mut bytes = Vec::new();
    from.by_ref()
        .take(MOST_LINE)
        .read_until(b'\n', &mut bytes)?;
    let parse = || {
        let text = std::str::from_utf8(&bytes).ok()?.strip_suffix('\n')?;
        let (crc, json) = text.split_at_checked(8)?;
        let json = json.strip_prefix(' ')?;
        let stated = u32::from_str_radix(crc, 16).ok()?;
        if stated != crc32c::crc32c(json.as_bytes()) {
            return None;
        }
        serde_json::from_str(json).ok()
    };
    Ok(parse().map(|v| (v, bytes.len() as u64)))
}

fn same(was: &Subject, is: &Subject) -> Result<()> {
    was.is_of(&is.archive)?;
    if !was.target.is(&is.target) {
        return Err(other(&format!("its target was {}", was.target.name)));
    }
    if was.plan != is.plan {
        return Err(other("its plan was another one"));
    }
    Ok(())
}

fn other(what: &str) -> Error {
    Error::refused(format!(
        "The interrupted restore was of something else: {what}"
    ))
    .hint("give what it was begun with, or start again without --resume")
}

/// Locks the file of a journal. A process that is just being started may hold a
/// copy of a descriptor that was closed, until its own program begins.
fn locked(file: &File) -> bool {
    (0..20).any(|i| {
        if i > 0 {
            std::thread::sleep(Duration::from_millis(50));
        }
        flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
    })
}
