//! A regular file as a source.

use super::direct::Direct;
use super::{Source, posix};
use crate::error::{Error, Result};
use memmap2::Mmap;
use rustix::fs::Advice;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What a regular file may be read by past the cache, at best, in bytes: the
/// disk below is not asked, and may have larger sectors.
const DIRECT_GRID: u32 = 512;

/// A regular file, opened read-only, read by position; mapped if asked for.
///
/// Reads go through the page cache. Where one fails, it is tried again past
/// the cache, where the file system allows that: a bad sector then costs
/// itself only.
pub struct FileSource {
    file: File,
    direct: Direct,
    map: Option<Mmap>,
    len: u64,
    sector_size: u32,
    name: String,
}

impl FileSource {
    /// Opens a regular file. `sector_size` is in bytes; an image file does not
    /// say it, 512 is the usual one.
    pub fn open(path: &Path, sector_size: u32) -> Result<Self> {
        let name = path.display().to_string();
        let fail = |e| Error::io("Cannot open the file", e).of(&*name);
        let file = File::open(path).map_err(fail)?;
        let meta = file.metadata().map_err(fail)?;
        if !meta.is_file() {
            return Err(Error::usage("Not a regular file").of(name));
        }
        Ok(Self {
            len: meta.len(),
            direct: Direct::new(path, &file, DIRECT_GRID).map_err(fail)?,
            file,
            map: None,
            sector_size,
            name,
        })
    }

    /// As [`FileSource::open`], and maps the file so that
    /// [`Source::as_memory`] answers.
    ///
    /// Only for a file that nobody shortens meanwhile and whose medium is
    /// sound: a page that cannot be read, because the file was truncated under
    /// the map or the disk below fails, ends the process with SIGBUS instead of
    /// giving an error. So never through a rescue, and not for a source that is
    /// still in use. A file that somebody writes to meanwhile gives changing
    /// bytes; parsers take their own copy of what they check.
    pub fn open_mapped(path: &Path, sector_size: u32) -> Result<Self> {
        let mut s = Self::open(path, sector_size)?;
        if s.len > 0 && usize::try_from(s.len).is_ok() {
            // SAFETY: the map is private to this value, read-only and of a
            // regular file (checked above). What remains, a file cut or changed
            // by someone else while it is mapped, cannot be excluded by any
            // program; its consequence is documented above and the caller asks
            // for it by choosing this constructor.
            let map = unsafe { Mmap::map(&s.file) }
                .map_err(|e| Error::io("Cannot map the file", e).of(&*s.name))?;
            // The file may have shrunk between the two calls.
            if map.len() as u64 == s.len {
                s.map = Some(map);
            }
        }
        Ok(s)
    }

    /// Says that it will be read front to back: more read-ahead.
    pub fn sequential(&self) {
        posix::advise(&self.file, 0, 0, Advice::Sequential);
    }

    /// Drops what was read from the cache, so that a long backup does not
    /// push everything else out of memory.
    pub fn forget(&self, offset: u64, len: u64) {
        posix::advise(&self.file, offset, len, Advice::DontNeed);
    }
}

impl Source for FileSource {
    fn len(&self) -> u64 {
        self.len
    }
    fn sector_size(&self) -> u32 {
        self.sector_size
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        posix::check_range(&self.name, self.len, offset, buf.len(), "read")?;
        match self.file.read_exact_at(buf, offset) {
            Ok(()) => Ok(()),
            Err(e) => self.direct.again(&self.name, offset, buf, e),
        }
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn as_memory(&self) -> Option<&[u8]> {
        self.map.as_deref()
    }
    fn will_need(&self, offset: u64, len: u64) {
        if len > 0 {
            posix::advise(&self.file, offset, len, Advice::WillNeed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn reads_by_position_mapped_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.img");
        let data: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
        std::fs::write(&path, &data).unwrap();
        for s in [
            FileSource::open(&path, 512).unwrap(),
            FileSource::open_mapped(&path, 4096).unwrap(),
        ] {
            assert_eq!(s.len(), 5000);
            s.sequential();
            s.will_need(0, 5000);
            let mut buf = [0; 100];
            s.read_at(4900, &mut buf).unwrap();
            assert_eq!(buf, data[4900..]);
            s.forget(0, 5000);
            assert!(s.read_at(4901, &mut buf).is_err());
            assert!(s.read_at(u64::MAX - 1, &mut buf).is_err());
            match s.sector_size() {
                512 => assert_eq!(s.as_memory(), None),
                _ => assert_eq!(s.as_memory(), Some(&data[..])),
            }
        }
    }

    #[test]
    fn a_file_that_shrank_is_unreadable_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.img");
        std::fs::write(&path, [1; 4096]).unwrap();
        let s = FileSource::open(&path, 512).unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(1000)
            .unwrap();
        let e = s.read_at(512, &mut [0; 1024]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unreadable);
        assert!(e.to_string().contains("at byte 0x200"), "{e}");
    }

    #[test]
    fn empty_files_and_directories() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty");
        std::fs::write(&path, []).unwrap();
        let s = FileSource::open_mapped(&path, 512).unwrap();
        assert!(s.is_empty() && s.as_memory().is_none());
        assert!(FileSource::open(dir.path(), 512).is_err());
    }
}
