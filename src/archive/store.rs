//! Where a stream goes: a file that gets its name only when it is complete, or
//! a pipe.

use crate::error::{Error, Result};
use rustix::fs::{FlockOperation, OFlags, flock};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Bytes after which the kernel is asked to write back, so that the sync at
/// the end is short.
const FLUSH: u64 = 32 << 20;

/// An archive file in the making: `NAME.partial` until it is committed.
pub struct PartialFile {
    file: File,
    path: PathBuf,
    partial: PathBuf,
    since: u64,
    flusher: Option<(SyncSender<()>, JoinHandle<io::Result<()>>)>,
}

/// The name an unfinished archive has.
pub fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

impl PartialFile {
    /// Creates `path.partial`. An existing `path` or an unfinished archive of
    /// that name is an error unless `force` is set.
    pub fn create(path: &Path, force: bool) -> Result<Self> {
        if !force {
            refuse_existing(path)?;
        }
        let mut how = OpenOptions::new();
        match force {
            true => how.create(true).truncate(false),
            false => how.create_new(true),
        };
        let file = Self::open(path, &mut how).map_err(|e| {
            if e.offset().is_none() && !force && partial_path(path).exists() {
                return Error::refused("An unfinished archive of this name exists")
                    .of(partial_path(path).display().to_string())
                    .hint("--resume goes on with it, --force starts again");
            }
            e
        })?;
        let fail = |e| {
            Error::io("Cannot empty the unfinished archive", e)
                .of(file.partial.display().to_string())
        };
        file.file.set_len(0).map_err(fail)?;
        Ok(file)
    }

    /// Opens `path.partial` for this run alone; never through a link.
    fn open(path: &Path, how: &mut OpenOptions) -> Result<Self> {
        let partial = partial_path(path);
        let name = partial.display().to_string();
        let file = how
            .read(true)
            .write(true)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(&partial)
            .map_err(|e| Error::io("Cannot open the unfinished archive", e).of(&*name))?;
        if !file.metadata().is_ok_and(|m| m.is_file()) {
            return Err(Error::refused("This is not a regular file").of(name));
        }
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Error::refused("Another run is writing this archive now").of(name));
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            partial,
            since: 0,
            flusher: None,
        })
    }

    /// Opens the unfinished archive of `path` to go on with it.
    pub fn reopen(path: &Path, force: bool) -> Result<Self> {
        if !force {
            refuse_existing(path)?;
        }
        if !partial_path(path).exists() {
            return Err(
                Error::not_found("There is no unfinished archive to go on with")
                    .of(partial_path(path).display().to_string())
                    .hint("start without --resume"),
            );
        }
        Self::open(path, &mut OpenOptions::new())
    }

    /// Its present name.
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// Cuts off what stands behind `len` bytes and goes on there.
    pub fn go_on_at(&mut self, len: u64) -> Result<()> {
        use std::io::{Seek, SeekFrom};
        self.file
            .set_len(len)
            .and_then(|()| self.file.seek(SeekFrom::Start(len)))
            .map(|_| ())
            .map_err(|e| {
                Error::io("Cannot cut off the archive", e).of(self.partial.display().to_string())
            })
    }

    /// Makes it durable and gives it its name.
    pub fn commit(mut self) -> Result<()> {
        let flushed = self.stop_flusher();
        let fail =
            |e| Error::io("Cannot finish the archive", e).of(self.path.display().to_string());
        flushed.map_err(fail)?;
        self.file.sync_all().map_err(fail)?;
        std::fs::rename(&self.partial, &self.path).map_err(fail)?;
        let dir = match self.path.parent() {
            Some(p) if !p.as_os_str().is_empty() => p,
            _ => Path::new("."),
        };
        File::open(dir).and_then(|d| d.sync_all()).map_err(fail)
    }

    fn stop_flusher(&mut self) -> io::Result<()> {
        match self.flusher.take() {
            None => Ok(()),
            Some((tx, thread)) => {
                drop(tx);
                thread
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("write-back failed")))
            }
        }
    }

    /// Starts write-back of what was written, without waiting for it.
    fn nudge(&mut self) -> io::Result<()> {
        if self.flusher.is_none() {
            let file = self.file.try_clone()?;
            let (tx, rx) = sync_channel(1);
            // The kernel tells a failed write-back only once: it is kept for `commit`.
            let run = move || {
                while rx.recv().is_ok() {
                    file.sync_data()?;
                }
                Ok(())
            };
            self.flusher = Some((tx, std::thread::spawn(run)));
        }
        if let Some((tx, _)) = &self.flusher
            && let Err(TrySendError::Disconnected(())) = tx.try_send(())
        {
            self.stop_flusher()?;
        }
        Ok(())
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        let _ = self.stop_flusher();
    }
}

impl Write for PartialFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.file.write(buf)?;
        self.since += n as u64;
        if self.since >= FLUSH {
            self.since = 0;
            self.nudge()?;
        }
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn refuse_existing(path: &Path) -> Result<()> {
    if path.exists() {
        return Err(Error::refused("The archive exists already")
            .of(path.display().to_string())
            .hint("choose another name, or --force to replace it"));
    }
    Ok(())
}
