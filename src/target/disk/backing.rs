//! What a disk unit stands on: a regular file or a block device.

use super::aside::Aside;
use crate::device::guard::System;
use crate::error::{Error, Result};
use rustix::fs::{
    Advice, FallocateFlags, FlockOperation, Mode, OFlags, SeekFrom, fadvise, fallocate,
};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Seek};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

/// Storage of fixed length with positioned reads and writes.
pub struct Backing {
    store: Store,
    /// Folder of a regular file.
    folder: Option<PathBuf>,
    len: u64,
    /// Unit in which holes are made, in bytes.
    grain: u64,
    writable: bool,
}

enum Store {
    /// A file or block device.
    File(Arc<File>),
    /// A snapshot whose bytes stand partly on the disk and partly aside.
    Snapshot(Arc<Aside>),
}

impl Backing {
    /// Opens a file or block device. Writable ones are ours alone: a file is
    /// locked, a device opened exclusively and refused while it is in use.
    pub fn open(path: &Path, writable: bool) -> Result<Self> {
        let name = path.display().to_string();
        let fail = |e| Error::io("Cannot open what the disk unit stands on", e).of(&*name);
        let kind = std::fs::metadata(path).map_err(fail)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(Error::usage("Neither a regular file nor a block device").of(name));
        }
        if writable {
            // Mounted, swap, or below something else: also a file by a loop device.
            System::read()?.check_target(path)?;
        }
        let mut flags = OFlags::CLOEXEC;
        if writable && kind.is_block_device() {
            flags |= OFlags::EXCL;
        }
        let mut file = File::options()
            .read(true)
            .write(writable)
            .custom_flags(flags.bits() as i32)
            .open(path)
            .map_err(
                |e| match e.raw_os_error() == Some(Errno::BUSY.raw_os_error()) {
                    true => busy(&name),
                    false => fail(e),
                },
            )?;
        if kind.is_file() {
            let how = match writable {
                true => FlockOperation::NonBlockingLockExclusive,
                false => FlockOperation::NonBlockingLockShared,
            };
            // Any other failure is a file system without locks: nothing to go by.
            if rustix::fs::flock(&file, how) == Err(Errno::WOULDBLOCK) {
                return Err(busy(&name));
            }
        }
        let len = file.seek(io::SeekFrom::End(0)).map_err(fail)?;
        let grain = file.metadata().map_err(fail)?.blksize();
        let folder = match kind.is_file() {
            true => Some(path.canonicalize().map_err(fail)?),
            false => None,
        };
        Ok(Self {
            store: Store::File(Arc::new(file)),
            folder: folder.and_then(|p| p.parent().map(Path::to_path_buf)),
            len,
            grain: match grain.is_power_of_two() {
                true => grain.clamp(512, 65536),
                false => 4096,
            },
            writable,
        })
    }

    /// The file with everything in it; a snapshot that is put together has none.
    pub(super) fn file(&self) -> Option<&Arc<File>> {
        match &self.store {
            Store::File(f) => Some(f),
            Store::Snapshot(_) => None,
        }
    }

    /// A file without a name in a folder: it is gone when nobody has it open any
    /// more, however the program ended.
    pub fn unnamed(folder: &Path) -> io::Result<File> {
        let how = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        Ok(rustix::fs::open(folder, how, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// Folder of the regular file that this is; none for a device.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// A copy of it that is not written, in a file of the same length.
    pub(super) fn copied(&self, file: File) -> Self {
        self.derived(Store::File(Arc::new(file)))
    }

    /// It as it was.
    pub(super) fn as_it_was(&self, aside: Arc<Aside>) -> Self {
        self.derived(Store::Snapshot(aside))
    }

    fn derived(&self, store: Store) -> Self {
        Self {
            store,
            folder: None,
            len: self.len,
            grain: self.grain,
            writable: false,
        }
    }

    /// True for a snapshot that cannot be read any more.
    pub fn over(&self) -> bool {
        match &self.store {
            Store::File(_) => false,
            Store::Snapshot(a) => a.over(),
        }
    }

    fn written(&self) -> io::Result<&File> {
        match &self.store {
            Store::File(f) => Ok(f),
            Store::Snapshot(_) => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    /// Length in bytes.
    pub fn bytes(&self) -> u64 {
        self.len
    }

    /// Unit of allocation in bytes.
    pub fn grain(&self) -> u64 {
        self.grain
    }

    /// False when it was opened read-only.
    pub fn writable(&self) -> bool {
        self.writable
    }

    /// Fills `buf`.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        match &self.store {
            Store::File(f) => f.read_exact_at(buf, offset),
            Store::Snapshot(a) => a.read(offset, buf),
        }
    }

    /// Writes all of `data`.
    pub fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.written()?.write_all_at(data, offset)
    }

    /// Makes what was written durable.
    pub fn sync(&self) -> io::Result<()> {
        match &self.store {
            Store::File(f) => f.sync_data(),
            Store::Snapshot(_) => Ok(()),
        }
    }

    /// Makes a range read as zeros; `free` gives its space back where that can be
    /// done. Pieces are small enough that `go_on` is asked often.
    pub fn zero(
        &self,
        offset: u64,
        len: u64,
        free: bool,
        go_on: &dyn Fn() -> bool,
    ) -> io::Result<()> {
        let how = match free {
            true => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            false => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
        };
        if len == 0 {
            return Ok(());
        }
        match fallocate(self.written()?, how, offset, len) {
            Ok(()) => return Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NOTTY) => {}
            Err(e) => return Err(e.into()),
        }
        let mut at = offset;
        let end = offset.saturating_add(len);
        while at < end && go_on() {
            let n = (end - at).min(ZEROS.len() as u64);
            self.write(at, ZEROS.get(..n as usize).unwrap_or(&ZEROS))?;
            at += n;
        }
        Ok(())
    }

    /// Says whether the byte at `offset` has storage, and where the run of such
    /// bytes ends. A snapshot that is put together has storage everywhere.
    pub fn mapped(&self, offset: u64) -> (bool, u64) {
        let Store::File(file) = &self.store else {
            return (true, self.len);
        };
        match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            // A file system without holes says so here.
            Ok(data) if data <= offset => {
                let end = rustix::fs::seek(file, SeekFrom::Hole(offset));
                (
                    true,
                    end.unwrap_or(self.len)
                        .clamp(offset + 1, self.len.max(offset + 1)),
                )
            }
            Ok(data) => (false, data.min(self.len)),
            Err(Errno::NXIO) => (false, self.len),
            Err(_) => (true, self.len),
        }
    }

    /// Tells the cache that a range will be read.
    pub fn will_need(&self, offset: u64, len: u64) {
        if let (Store::File(file), Some(len)) = (&self.store, NonZeroU64::new(len)) {
            let _ = fadvise(file, offset, Some(len), Advice::WillNeed);
        }
    }
}

fn busy(name: &str) -> Error {
    Error::refused("Somebody else uses it").of(name).hint(
        "end the other user, or serve it read-only with ,ro; one file may stand behind one writable unit only",
    )
}
