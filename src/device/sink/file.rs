//! A regular file as a target.

use super::Opened;
use crate::device::{RangeSet, Sink};
use crate::error::{Error, Result};
use crate::units::ByteRange;
use rustix::fs::{FallocateFlags, FlockOperation, flock};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How to make a file target.
#[derive(Clone, Copy, Debug)]
pub struct FileSinkOptions {
    /// Replace an existing file (only at the very end), and a partial one that
    /// an interrupted run left.
    pub force: bool,
    /// Logical sector size in bytes that the image is meant to have.
    pub sector_size: u32,
}

impl Default for FileSinkOptions {
    fn default() -> Self {
        Self {
            force: false,
            sector_size: 512,
        }
    }
}

/// A regular file, made sparse under the name `TARGET.partial`. Only
/// [`FileSink::finish`] gives it its name; what was there before stays until
/// then. Dropped without that, the partial file stays and can be recognised.
pub struct FileSink {
    opened: Opened,
    target: PathBuf,
    partial: PathBuf,
    force: bool,
    written: Mutex<RangeSet>,
    finished: AtomicBool,
}

impl FileSink {
    /// Makes the partial file, `len` bytes long, all of it a hole.
    pub fn create(target: &Path, len: u64, options: FileSinkOptions) -> Result<Self> {
        let name = target.display().to_string();
        let (target, partial) = names(target, options.force)?;
        let partial_name = partial.display().to_string();
        let mut how = File::options();
        how.read(true).write(true);
        match options.force {
            true => how.create(true).truncate(false),
            false => how.create_new(true),
        };
        let file = how.open(&partial).map_err(|e| {
            if e.kind() == io::ErrorKind::AlreadyExists {
                Error::refused("A partial file of an earlier run is in the way")
                    .of(&*partial_name)
                    .hint("go on with it by --resume, or replace it with --force")
            } else {
                Error::io("Cannot create the file", e).of(&*partial_name)
            }
        })?;
        let is_file = file.metadata().is_ok_and(|m| m.is_file());
        if !is_file || flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(
                Error::refused("Another run is writing this partial file now").of(partial_name),
            );
        }
        // Empty first, so that nothing old shows through.
        file.set_len(0)
            .and_then(|()| file.set_len(len))
            .map_err(|e| {
                Error::io(format!("Cannot make the file {len} bytes long"), e)
                    .of(&*partial_name)
                    .hint("the file system of the target may not take files that large")
            })?;
        Ok(Self {
            opened: Opened::new(file, len, options.sector_size, name),
            target,
            partial,
            force: options.force,
            written: Mutex::default(),
            finished: AtomicBool::new(false),
        })
    }

    /// Opens the partial file of an interrupted run to go on with it: it has
    /// this length, and what was never written is still a hole. The run may have
    /// ended just when the file had got its name: it is known by its inode.
    pub fn reopen(
        target: &Path,
        len: u64,
        options: FileSinkOptions,
        inode: Option<u64>,
    ) -> Result<Self> {
        let name = target.display().to_string();
        let is_ours = |path: &Path| {
            let meta = std::fs::metadata(path);
            inode.is_some() && meta.is_ok_and(|m| m.is_file() && Some(m.ino()) == inode)
        };
        let has_name = is_ours(target);
        let (target, partial) = names(target, options.force || has_name)?;
        let (path, finished) = match partial.exists() {
            true if has_name && !is_ours(&partial) => {
                return Err(Error::refused("The restored file has its name already")
                    .of(name)
                    .hint(format!("remove {}", partial.display())));
            }
            true => (&partial, false),
            false if has_name => (&target, true),
            false => {
                return Err(Error::not_found("There is no partial file to go on with")
                    .of(partial.display().to_string())
                    .hint("start without --resume"));
            }
        };
        let path_name = path.display().to_string();
        let mut how = File::options();
        let file = how
            .read(true)
            .write(true)
            .open(path)
            .map_err(|e| Error::io("Cannot open the partial file", e).of(&*path_name))?;
        let meta = file.metadata().ok().filter(|m| m.is_file());
        if meta.is_none() || flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(
                Error::refused("Another run is writing this partial file now").of(path_name),
            );
        }
        let found = meta.map_or(0, |m| m.len());
        if found != len {
            return Err(Error::refused(format!(
                "The partial file has {found} bytes, the restore was to make {len}"
            ))
            .of(path_name)
            .hint("start again without --resume"));
        }
        // Which parts were written is not known any more.
        let all = ByteRange { start: 0, end: len };
        Ok(Self {
            opened: Opened::new(file, len, options.sector_size, name),
            target,
            partial,
            force: options.force,
            written: Mutex::new([all].into_iter().collect()),
            finished: AtomicBool::new(finished),
        })
    }

    /// By what the file is known again under another name.
    pub fn inode(&self) -> Option<u64> {
        self.opened.file.metadata().ok().map(|m| m.ino())
    }

    /// The name it has until it is finished.
    pub fn partial_path(&self) -> &Path {
        &self.partial
    }

    /// Makes everything durable and gives the file its name.
    pub fn finish(&self) -> Result<()> {
        self.sync()?;
        if !self.finished.load(Ordering::SeqCst) {
            self.give_name().map_err(|e| {
                Error::io("Cannot give the finished file its name", e)
                    .of(&*self.opened.name)
                    .hint(format!(
                        "everything is written in {}",
                        self.partial.display()
                    ))
            })?;
            self.finished.store(true, Ordering::SeqCst);
        }
        sync_directory(&self.target)
            .map_err(|e| Error::io("Cannot make the new name durable", e).of(&*self.opened.name))
    }

    /// Without force the name must still be free: a hard link fails when it is
    /// not, a rename would replace silently. File systems without hard links get
    /// the rename after a look.
    fn give_name(&self) -> io::Result<()> {
        let inode_of = |path: &Path| std::fs::metadata(path).ok().map(|m| m.ino());
        let ours = inode_of(&self.partial);
        if ours.is_some() && inode_of(&self.target) == ours {
            // An interrupted run got as far as the link.
            return std::fs::remove_file(&self.partial);
        }
        if self.force {
            return std::fs::rename(&self.partial, &self.target);
        }
        match std::fs::hard_link(&self.partial, &self.target) {
            Ok(()) => std::fs::remove_file(&self.partial),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(e),
            Err(_) if self.target.exists() => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => std::fs::rename(&self.partial, &self.target),
        }
    }

    /// Removes the partial file; the target is as it was before.
    pub fn discard(&self) -> Result<()> {
        if self.finished.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        std::fs::remove_file(&self.partial).map_err(|e| {
            Error::io("Cannot remove the partial file", e).of(self.partial.display().to_string())
        })
    }
}

/// The file that is replaced, and the partial one.
fn names(target: &Path, force: bool) -> Result<(PathBuf, PathBuf)> {
    let name = target.display().to_string();
    // Through a link, so that finishing replaces the file and not the link.
    let target = target
        .canonicalize()
        .unwrap_or_else(|_| target.to_path_buf());
    match std::fs::metadata(&target) {
        Ok(m) if !m.is_file() => {
            return Err(Error::usage("The target exists and is not a regular file").of(name));
        }
        Ok(_) if !force => {
            return Err(Error::refused("The target exists")
                .of(name)
                .hint("choose another name, or replace it with --force"));
        }
        _ => {}
    }
    let mut partial = target.clone().into_os_string();
    partial.push(".partial");
    Ok((target, PathBuf::from(partial)))
}

fn sync_directory(of: &Path) -> io::Result<()> {
    let dir = match of.parent() {
        Some(d) if !d.as_os_str().is_empty() => d,
        _ => Path::new("."),
    };
    File::open(dir)?.sync_all()
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sink for FileSink {
    fn len(&self) -> u64 {
        self.opened.len
    }
    fn sector_size(&self) -> u32 {
        self.opened.sector_size
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let range = self.opened.touch(offset, data.len())?;
        lock(&self.written).insert(range);
        self.opened.write(offset, data)
    }
    fn zero_at(&self, offset: u64, len: u64) -> Result<()> {
        let range = self.opened.range(offset, len)?;
        // What was never written is a hole already.
        let dirty = lock(&self.written).within(range);
        for r in dirty {
            match self.opened.zeroed_by(FallocateFlags::PUNCH_HOLE, r) {
                true => lock(&self.written).remove(r),
                false => self.opened.write_zeros(r)?,
            };
        }
        Ok(())
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.opened.read(offset, buf)
    }
    fn sync(&self) -> Result<()> {
        self.opened.sync()
    }
    fn name(&self) -> &str {
        &self.opened.name
    }
    fn is_fresh(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.img");
        let s = FileSink::create(&path, 1 << 20, FileSinkOptions::default()).unwrap();
        assert!(s.is_fresh() && s.len() == 1 << 20);
        s.write_at(4096, &[7; 8192]).unwrap();
        s.write_at((1 << 20) - 1, &[9]).unwrap();
        s.zero_at(8192, 1 << 18).unwrap();
        assert!(s.write_at((1 << 20) - 1, &[1, 2]).is_err());
        assert!(s.zero_at(1, 1 << 20).is_err());
        assert!(!path.exists());
        let again = FileSink::create(&path, 1, FileSinkOptions::default())
            .err()
            .unwrap();
        assert_eq!(again.kind(), ErrorKind::Refused);
        let force = FileSinkOptions {
            force: true,
            ..FileSinkOptions::default()
        };
        let again = FileSink::create(&path, 1, force).err().unwrap();
        assert!(again.to_string().contains("Another run"), "{again}");
        s.finish().unwrap();
        s.finish().unwrap();
        assert!(!s.partial_path().exists());
        let got = std::fs::read(&path).unwrap();
        assert!(got[4096..8192].iter().all(|&b| b == 7));
        assert_eq!(got.iter().filter(|&&b| b != 0).count(), 4097);
        let blocks = std::fs::metadata(&path).unwrap().blocks();
        assert!(blocks * 512 < 1 << 17, "{blocks} blocks: not sparse");
    }

    #[test]
    fn what_got_its_name_is_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.img");
        let plain = FileSinkOptions::default();
        let s = FileSink::create(&path, 3, plain).unwrap();
        let ours = s.inode();
        s.write_at(0, b"new").unwrap();
        // Stopped between the two steps of giving it its name.
        std::fs::hard_link(s.partial_path(), &path).unwrap();
        drop(s);
        let e = FileSink::reopen(&path, 3, plain, None).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Refused);
        let s = FileSink::reopen(&path, 3, plain, ours).unwrap();
        s.finish().unwrap();
        assert!(!s.partial_path().exists());
        drop(s);
        // Stopped behind them.
        let s = FileSink::reopen(&path, 3, plain, ours).unwrap();
        s.write_at(0, b"New").unwrap();
        s.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"New");
        drop(s);
        let e = FileSink::reopen(&path, 4, plain, ours).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Refused);
        // Another partial file has begun since.
        std::fs::write(dir.path().join("out.img.partial"), "abc").unwrap();
        let e = FileSink::reopen(&path, 3, plain, ours).err().unwrap();
        assert!(e.to_string().contains("name already"), "{e}");
        // Another file took the name.
        std::fs::remove_file(dir.path().join("out.img.partial")).unwrap();
        std::fs::remove_file(&path).unwrap();
        let force = FileSinkOptions {
            force: true,
            ..plain
        };
        std::fs::write(dir.path().join("other"), "old").unwrap();
        std::fs::rename(dir.path().join("other"), &path).unwrap();
        if std::fs::metadata(&path).ok().map(|m| m.ino()) != ours {
            let e = FileSink::reopen(&path, 3, force, ours).err().unwrap();
            assert_eq!(e.kind(), ErrorKind::NotFound);
        }
    }

    #[test]
    fn what_exists_is_kept_until_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.img");
        let force = FileSinkOptions {
            force: true,
            ..FileSinkOptions::default()
        };
        std::fs::write(&path, "old").unwrap();
        let e = FileSink::create(&path, 3, FileSinkOptions::default())
            .err()
            .unwrap();
        assert_eq!(e.kind(), ErrorKind::Refused);
        let s = FileSink::create(&path, 3, force).unwrap();
        s.write_at(0, b"new").unwrap();
        drop(s);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        let s = FileSink::create(&path, 3, force).unwrap();
        let mut buf = [1; 3];
        s.read_at(0, &mut buf).unwrap();
        assert_eq!(buf, [0; 3], "nothing of the earlier run shows through");
        s.write_at(0, b"new").unwrap();
        s.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");

        let other = dir.path().join("b.img");
        let s = FileSink::create(&other, 3, FileSinkOptions::default()).unwrap();
        std::fs::write(&other, "mine").unwrap();
        assert!(s.finish().is_err(), "the name was taken meanwhile");
        assert_eq!(std::fs::read(&other).unwrap(), b"mine");
        s.discard().unwrap();
        assert!(!s.partial_path().exists());
        assert!(FileSink::create(dir.path(), 3, force).is_err());
    }
}
