//! Changes to a regular file: inotify tells of those made by write calls; times
//! and size of the file change with all others (by the kernel itself, as through a
//! loop device, and through memory maps).

use super::Count;
use crate::error::{Error, ErrorKind, Result};
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use std::fs::{File, Metadata};
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Most events taken at a time; a writer that is faster has made its point.
const MOST_EVENTS: u64 = 100_000;

/// Counts changes to a file. Several changes between two looks may be one.
pub struct FileCount {
    file: File,
    path: PathBuf,
    /// None where the system gives no more watches.
    pub(super) events: Option<OwnedFd>,
    facts: Facts,
    /// Changes of times and size count.
    times: bool,
    count: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Facts {
    id: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Facts {
    fn of(m: &Metadata) -> Self {
        Self {
            id: (m.dev(), m.ino()),
            size: m.size(),
            modified: (m.mtime(), m.mtime_nsec()),
            changed: (m.ctime(), m.ctime_nsec()),
        }
    }
}

impl FileCount {
    /// Watches from now on.
    pub fn new(path: &Path) -> Result<Self> {
        let fail = |e| Error::io("Cannot watch the file", e).of(path.display().to_string());
        let file = File::open(path).map_err(fail)?;
        let facts = Facts::of(&file.metadata().map_err(fail)?);
        Ok(Self {
            events: watch(path).ok(),
            file,
            path: path.to_path_buf(),
            facts,
            times: true,
            count: 0,
        })
    }

    /// Write calls only: the file changes through a loop device, too, whose writes
    /// are counted elsewhere.
    pub fn of_calls(path: &Path) -> Result<Self> {
        Ok(Self {
            times: false,
            ..Self::new(path)?
        })
    }

    fn gone(&self) -> Error {
        Error::new(
            ErrorKind::NotFound,
            "The file was deleted or replaced while it was watched",
        )
        .of(self.path.display().to_string())
        .hint("run it again when the file stays where it is")
    }

    /// Events that have come since the last call.
    fn events(&self) -> Result<u64> {
        let Some(fd) = &self.events else {
            return Ok(0);
        };
        let mut buf = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(fd, &mut buf);
        let mut n = 0;
        while n < MOST_EVENTS {
            match reader.next() {
                Ok(e) if e.events().contains(ReadFlags::IGNORED) => return Err(self.gone()),
                Ok(_) => n += 1,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(e) => {
                    return Err(Error::io("Cannot watch the file", e.into())
                        .of(self.path.display().to_string()));
                }
            }
        }
        Ok(n)
    }
}

fn watch(path: &Path) -> rustix::io::Result<OwnedFd> {
    let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    inotify::add_watch(&fd, path, WatchFlags::MODIFY)?;
    Ok(fd)
}

impl Count for FileCount {
    fn writes(&mut self) -> Result<u64> {
        let told = self.events()?;
        // Stores through a memory map change the times only where the page was
        // written back before. Where that fails the flush before the wait says so.
        let _ = self.file.sync_data();
        let io = |e| Error::io("Cannot look at the file", e).of(self.path.display().to_string());
        let now = self.file.metadata().map_err(io)?;
        let named = std::fs::metadata(&self.path).map(|m| (m.dev(), m.ino()));
        if now.nlink() == 0 || named.ok() != Some(self.facts.id) {
            return Err(self.gone());
        }
        let facts = Facts::of(&now);
        let seen = u64::from(self.times && facts != self.facts);
        self.facts = facts;
        self.count = self.count.saturating_add(told.max(seen));
        Ok(self.count)
    }

    fn name(&self) -> String {
        format!("changes to {}", self.path.display())
    }
}
