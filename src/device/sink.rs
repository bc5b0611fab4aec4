//! Targets: a regular file, a block device, and memory for tests.

use super::guard::System;
use super::{RangeSet, Sink, posix};
use crate::error::{Error, ErrorKind, Result};
use crate::units::ByteRange;
use rustix::fs::{
    Advice, FallocateFlags, FlockOperation, OFlags, fallocate, flock, ioctl_blksszget,
};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

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
    file: File,
    len: u64,
    sector_size: u32,
    target: PathBuf,
    partial: PathBuf,
    force: bool,
    name: String,
    written: Mutex<RangeSet>,
    synced: AtomicBool,
    finished: AtomicBool,
}

impl FileSink {
    /// Makes the partial file, `len` bytes long, all of it a hole.
    pub fn create(target: &Path, len: u64, options: FileSinkOptions) -> Result<Self> {
        let name = target.display().to_string();
        // Through a link, so that finishing replaces the file and not the link.
        let target = target
            .canonicalize()
            .unwrap_or_else(|_| target.to_path_buf());
        match std::fs::metadata(&target) {
            Ok(m) if !m.is_file() => {
                return Err(Error::usage("The target exists and is not a regular file").of(name));
            }
            Ok(_) if !options.force => {
                return Err(Error::refused("The target exists")
                    .of(name)
                    .hint("choose another name, or replace it with --force"));
            }
            _ => {}
        }
        let mut partial = target.clone().into_os_string();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
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
                    .hint("delete it if nothing writes it any more, or replace it with --force")
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
            file,
            len,
            sector_size: options.sector_size,
            target,
            partial,
            force: options.force,
            name,
            written: Mutex::default(),
            synced: AtomicBool::new(false),
            finished: AtomicBool::new(false),
        })
    }

    /// The name it has until it is finished.
    pub fn partial_path(&self) -> &Path {
        &self.partial
    }

    /// Makes everything durable and gives the file its name.
    pub fn finish(&self) -> Result<()> {
        self.sync()?;
        if self.finished.load(Ordering::SeqCst) {
            return Ok(());
        }
        // Without force the name must still be free: a hard link fails when it
        // is not, a rename would replace silently. File systems without hard
        // links get the rename after a look.
        let named = if self.force {
            std::fs::rename(&self.partial, &self.target)
        } else {
            match std::fs::hard_link(&self.partial, &self.target) {
                Ok(()) => std::fs::remove_file(&self.partial),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(e),
                Err(_) if self.target.exists() => Err(io::ErrorKind::AlreadyExists.into()),
                Err(_) => std::fs::rename(&self.partial, &self.target),
            }
        };
        named.map_err(|e| {
            Error::io("Cannot give the finished file its name", e)
                .of(&*self.name)
                .hint(format!(
                    "everything is written in {}",
                    self.partial.display()
                ))
        })?;
        self.finished.store(true, Ordering::SeqCst);
        sync_directory(&self.target)
            .map_err(|e| Error::io("Cannot make the new name durable", e).of(&*self.name))
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
        self.len
    }
    fn sector_size(&self) -> u32 {
        self.sector_size
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        posix::check_range(&self.name, self.len, offset, data.len(), "write")?;
        self.synced.store(false, Ordering::SeqCst);
        lock(&self.written).insert(ByteRange {
            start: offset,
            end: offset + data.len() as u64,
        });
        posix::write_all(&self.file, &self.name, offset, data)
    }
    fn zero_at(&self, offset: u64, len: u64) -> Result<()> {
        let range = checked(&self.name, self.len, offset, len)?;
        // What was never written is a hole already.
        let dirty = lock(&self.written).within(range);
        for r in dirty {
            self.synced.store(false, Ordering::SeqCst);
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            if fallocate(&self.file, hole, r.start, r.len()).is_ok() {
                lock(&self.written).remove(r);
            } else {
                posix::write_zeros(&self.file, &self.name, r.start, r.len())?;
            }
        }
        Ok(())
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        posix::check_range(&self.name, self.len, offset, buf.len(), "read")?;
        posix::read_exact(&self.file, &self.name, offset, buf)
    }
    /// Also drops the file from the cache: what is read afterwards comes from
    /// the medium as far as the system lets us say so.
    fn sync(&self) -> Result<()> {
        sync_and_drop(&self.file, &self.name, &self.synced)
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn is_fresh(&self) -> bool {
        true
    }
}

fn checked(name: &str, size: u64, offset: u64, len: u64) -> Result<ByteRange> {
    ByteRange::new(offset, len)
        .filter(|r| r.end <= size)
        .ok_or_else(|| {
            Error::damaged(format!(
                "A range of {len} bytes reaches behind the end ({size} bytes)"
            ))
            .of(name)
            .at(offset)
        })
}

fn sync_and_drop(file: &File, name: &str, synced: &AtomicBool) -> Result<()> {
    if !synced.swap(true, Ordering::SeqCst) {
        file.sync_all().map_err(|e| {
            synced.store(false, Ordering::SeqCst);
            Error::io("Cannot make the written bytes durable", e)
                .of(name)
                .hint("what was written may be lost; check the target's medium")
        })?;
        posix::advise(file, 0, 0, Advice::DontNeed);
    }
    Ok(())
}

/// A block device as a target, opened so that nobody else may hold it.
pub struct BlockSink {
    file: File,
    len: u64,
    sector_size: u32,
    name: String,
    synced: AtomicBool,
}

impl BlockSink {
    /// Opens for writing a device that is not in use (mounted, swap, part of
    /// another device); anything else is refused.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let is_block = std::fs::metadata(path)
            .map_err(|e| Error::io("Cannot look at the target", e).of(&*name))?
            .file_type()
            .is_block_device();
        if !is_block {
            return Err(Error::usage("Not a block device").of(name));
        }
        System::read()?.check_target(path)?;
        // On a block device this flag means: fail if somebody holds it.
        let mut file = File::options()
            .read(true)
            .write(true)
            .custom_flags(OFlags::EXCL.bits() as i32)
            .open(path)
            .map_err(|e| match e.kind() {
                io::ErrorKind::ResourceBusy => Error::new(
                    ErrorKind::Refused,
                    "The kernel says that the target is in use",
                )
                .of(&*name)
                .hint("unmount it and stop what is built on it first"),
                _ => Error::io("Cannot open the target for writing", e).of(&*name),
            })?;
        let len = file
            .seek(SeekFrom::End(0))
            .map_err(|e| Error::io("Cannot find out the size of the target", e).of(&*name))?;
        let sector_size = ioctl_blksszget(&file)
            .ok()
            .filter(|s| s.is_power_of_two() && (512..=65536).contains(s))
            .unwrap_or(512);
        Ok(Self {
            file,
            len,
            sector_size,
            name,
            synced: AtomicBool::new(false),
        })
    }
}

impl Sink for BlockSink {
    fn len(&self) -> u64 {
        self.len
    }
    fn sector_size(&self) -> u32 {
        self.sector_size
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        posix::check_range(&self.name, self.len, offset, data.len(), "write")?;
        self.synced.store(false, Ordering::SeqCst);
        posix::write_all(&self.file, &self.name, offset, data)
    }
    /// Asks the device to unmap or zero the whole sectors inside the range, and
    /// writes zeros where it cannot.
    fn zero_at(&self, offset: u64, len: u64) -> Result<()> {
        let range = checked(&self.name, self.len, offset, len)?;
        self.synced.store(false, Ordering::SeqCst);
        // The kernel wants whole sectors; whole pages keep its cache coherent.
        let unit = u64::from(self.sector_size).max(4096);
        let inner = ByteRange {
            start: range.start.div_ceil(unit) * unit,
            end: range.end / unit * unit,
        };
        let zeros = |start, end| posix::write_zeros(&self.file, &self.name, start, end - start);
        if inner.is_empty() {
            return zeros(range.start, range.end);
        }
        // Both calls promise that the range reads as zeros afterwards; the
        // first also gives the room back.
        let done = [FallocateFlags::PUNCH_HOLE, FallocateFlags::ZERO_RANGE]
            .into_iter()
            .any(|how| {
                let how = how | FallocateFlags::KEEP_SIZE;
                fallocate(&self.file, how, inner.start, inner.len()).is_ok()
            });
        if !done {
            return zeros(range.start, range.end);
        }
        zeros(range.start, inner.start)?;
        zeros(inner.end, range.end)
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        posix::check_range(&self.name, self.len, offset, buf.len(), "read")?;
        posix::read_exact(&self.file, &self.name, offset, buf)
    }
    /// Also drops the device from the cache: what is read afterwards comes from
    /// the medium as far as the system lets us say so.
    fn sync(&self) -> Result<()> {
        sync_and_drop(&self.file, &self.name, &self.synced)
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn is_fresh(&self) -> bool {
        false
    }
}

/// A target in memory, for tests.
pub struct MemorySink {
    data: RwLock<Vec<u8>>,
    sector_size: u32,
    fresh: bool,
}

impl MemorySink {
    /// `len` zeros, fresh.
    pub fn new(len: usize, sector_size: u32) -> Self {
        Self {
            data: RwLock::new(vec![0; len]),
            sector_size,
            fresh: true,
        }
    }

    /// A target that already holds something, like a used disk.
    pub fn used(data: Vec<u8>, sector_size: u32) -> Self {
        Self {
            data: RwLock::new(data),
            sector_size,
            fresh: false,
        }
    }

    /// What it holds now.
    pub fn bytes(&self) -> Vec<u8> {
        self.data
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn with(&self, offset: u64, len: u64, f: impl FnOnce(&mut [u8])) -> Result<()> {
        let mut data = self.data.write().unwrap_or_else(PoisonError::into_inner);
        let r = checked("memory", data.len() as u64, offset, len)?;
        f(&mut data[r.start as usize..r.end as usize]);
        Ok(())
    }
}

impl Sink for MemorySink {
    fn len(&self) -> u64 {
        self.data
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len() as u64
    }
    fn sector_size(&self) -> u32 {
        self.sector_size
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.with(offset, data.len() as u64, |d| d.copy_from_slice(data))
    }
    fn zero_at(&self, offset: u64, len: u64) -> Result<()> {
        self.with(offset, len, |d| d.fill(0))
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.with(offset, buf.len() as u64, |d| buf.copy_from_slice(d))
    }
    fn sync(&self) -> Result<()> {
        Ok(())
    }
    fn name(&self) -> &str {
        "memory"
    }
    fn is_fresh(&self) -> bool {
        self.fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

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

    #[test]
    fn memory_targets() {
        let s = MemorySink::used(vec![5; 10], 512);
        assert!(!s.is_fresh());
        s.zero_at(2, 3).unwrap();
        s.write_at(9, &[1]).unwrap();
        assert_eq!(s.bytes(), [5, 5, 0, 0, 0, 5, 5, 5, 5, 1]);
        assert!(s.write_at(9, &[1, 1]).is_err());
        let mut b = [0; 2];
        s.read_at(8, &mut b).unwrap();
        assert_eq!(b, [5, 1]);
        s.sync().unwrap();
        assert_eq!(MemorySink::new(4, 512).bytes(), [0; 4]);
    }
}
