//! The second try at what the page cache could not read: past the cache, whole
//! sectors at a time. The cache works in pages, so one bad 512-byte sector
//! would take its seven good neighbours with it.

use super::posix;
use crate::error::Result;
use rustix::fs::{AtFlags, OFlags, StatxFlags, statx};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Largest piece read in one go, in bytes.
const PIECE: usize = 256 * 1024;
/// Memory alignment that every device accepts for such reads, in bytes; also
/// the coarsest grid tried when nobody says which one a file needs.
const MEMORY_ALIGN: usize = 4096;

/// Reads of one file or device past the page cache. Opened at the first read
/// that fails: a sound medium never sees it.
pub(super) struct Direct {
    path: PathBuf,
    /// Device and inode of what is being read: the path may lead elsewhere by
    /// the time it is opened again.
    same: (u64, u64),
    opened: OnceLock<Option<File>>,
    /// Offsets and lengths are multiples of this many bytes.
    grid: AtomicUsize,
}

impl Direct {
    /// For `file`, which was opened from `path`. `grid` is the smallest unit
    /// such reads may have: the sector of a device, 512 for a regular file.
    pub fn new(path: &Path, file: &File, grid: u32) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Self {
            path: path.to_path_buf(),
            same: (meta.dev(), meta.ino()),
            opened: OnceLock::new(),
            grid: AtomicUsize::new(grid as usize),
        })
    }

    /// After a read through the cache failed with `first`: fills `buf` past
    /// the cache, or fails in our words. Where a file system has no such reads,
    /// the first failure stands, and with it the cache's unit of loss: a page.
    pub fn again(&self, name: &str, offset: u64, buf: &mut [u8], first: io::Error) -> Result<()> {
        let len = buf.len();
        if posix::is_medium_error(&first)
            && let Some(file) = self.file()
        {
            match self.read(file, offset, buf) {
                Ok(()) => return Ok(()),
                Err(e) if is_refusal(&e) => {}
                Err(e) => return Err(posix::read_error(name, offset, len, e)),
            }
        }
        Err(posix::read_error(name, offset, len, first))
    }

    pub fn file(&self) -> Option<&File> {
        self.opened.get_or_init(|| self.open()).as_ref()
    }

    fn open(&self) -> Option<File> {
        let file = File::options()
            .read(true)
            .custom_flags(OFlags::DIRECT.bits() as i32)
            .open(&self.path)
            .ok()?;
        let meta = file.metadata().ok()?;
        if (meta.dev(), meta.ino()) != self.same {
            return None;
        }
        // Since Linux 6.1 and on some file systems only; elsewhere it is tried.
        if let Ok(s) = statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)
            && s.stx_mask & StatxFlags::DIOALIGN.bits() != 0
        {
            let unit = s.stx_dio_offset_align as usize;
            if !unit.is_power_of_two() || unit > PIECE || s.stx_dio_mem_align > MEMORY_ALIGN as u32
            {
                return None;
            }
            self.grid.fetch_max(unit, Ordering::Relaxed);
        }
        Some(file)
    }

    /// Fills `buf`; goes over to the coarser grid when the finer is refused.
    pub fn read(&self, file: &File, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let grid = self.grid.load(Ordering::Relaxed);
        match read_on(file, grid, offset, buf) {
            Err(e) if is_refusal(&e) && grid < MEMORY_ALIGN => {
                read_on(file, MEMORY_ALIGN, offset, buf)?;
                self.grid.fetch_max(MEMORY_ALIGN, Ordering::Relaxed);
                Ok(())
            }
            other => other,
        }
    }
}

/// True when the system does not do such a read at all.
fn is_refusal(e: &io::Error) -> bool {
    [Errno::INVAL, Errno::OPNOTSUPP]
        .iter()
        .any(|n| e.raw_os_error() == Some(n.raw_os_error()))
}

fn read_on(file: &File, grid: usize, offset: u64, buf: &mut [u8]) -> io::Result<()> {
    let unit = grid as u64;
    let end = offset + buf.len() as u64;
    let span = (end.div_ceil(unit) * unit - offset / unit * unit).min(PIECE as u64) as usize;
    let mut bounce = vec![0u8; span + MEMORY_ALIGN];
    let skip = bounce.as_ptr().align_offset(MEMORY_ALIGN);
    let bounce = &mut bounce[skip..skip + span];
    let mut at = offset;
    while at < end {
        let from = at / unit * unit;
        let want = (end.div_ceil(unit) * unit - from).min(span as u64) as usize;
        let got = match file.read_at(&mut bounce[..want], from) {
            Ok(n) => from + n as u64,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let stop = got.min(end);
        // A short read ends with the file, or before a bad sector; what is
        // less than a unit is asked for again, and no progress is the end.
        if stop <= at {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buf[(at - offset) as usize..(stop - offset) as usize]
            .copy_from_slice(&bounce[(at - from) as usize..(stop - from) as usize]);
        at = stop;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// `read_on` of a file that this system lets be read so, by either grid.
    #[test]
    fn any_range_of_a_file_on_any_grid() {
        // Beside the build, not in /tmp: that may be a tmpfs.
        let path = std::env::current_exe().unwrap();
        let dir = tempfile::tempdir_in(path.parent().unwrap()).unwrap();
        let path = dir.path().join("a.img");
        let data: Vec<u8> = (0..1_000_003u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &data).unwrap();
        let file = File::open(&path).unwrap();
        file.sync_all().unwrap();
        let d = Direct::new(&path, &file, 512).unwrap();
        let Some(direct) = d.file() else {
            eprintln!("skipped: no reads past the cache here");
            return;
        };
        for grid in [4096, 65536] {
            for (at, len) in [(0, 10), (511, 2), (4095, 300_000), (999_990, 13), (7, 0)] {
                let mut buf = vec![0xEE; len];
                read_on(direct, grid, at, &mut buf).unwrap();
                assert!(buf == data[at as usize..][..len], "{len} bytes at {at}");
            }
            let e = read_on(direct, grid, 999_990, &mut [0; 14]).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::UnexpectedEof);
        }
        let mut buf = [0; 700];
        d.read(direct, 999, &mut buf).unwrap();
        assert_eq!(buf, data[999..1699]);

        // A failed read is tried again; one that failed otherwise is not.
        let eio = || io::Error::from_raw_os_error(Errno::IO.raw_os_error());
        d.again("a", 5, &mut buf, eio()).unwrap();
        assert_eq!(buf, data[5..705]);
        let e = d.again("a", 5, &mut buf, io::ErrorKind::OutOfMemory.into());
        assert_eq!(e.unwrap_err().kind(), ErrorKind::Io);
        // Another file under the same name is not read instead.
        let d = Direct::new(&path, &file, 512).unwrap();
        std::fs::rename(&path, dir.path().join("b.img")).unwrap();
        std::fs::write(&path, &data).unwrap();
        assert!(d.file().is_none());
        let e = d.again("a", 5, &mut buf, eio()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unreadable);
    }
}
