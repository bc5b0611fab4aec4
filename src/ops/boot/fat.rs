//! Files of a FAT volume, through the `fatfs` crate. It wants to write, and it
//! trusts what it reads; so what it gets refuses writes, counts reads, and is
//! looked at first.

use crate::device::SharedSource;
use crate::error::{Error, Result};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Most reads of one look-up: chains of clusters may go round in circles.
const MAX_READS: u32 = 1 << 20;
/// Bytes that are read at once.
const BLOCK: u64 = 4096;

/// A source as `fatfs` wants it.
struct Medium {
    source: SharedSource,
    at: u64,
    left: u32,
    block: Option<(u64, Vec<u8>)>,
}

fn other(e: impl ToString) -> io::Error {
    io::Error::other(e.to_string())
}

impl Read for Medium {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.left = (self.left.checked_sub(1)).ok_or_else(|| other("it goes round in circles"))?;
        let left = self.source.len().saturating_sub(self.at);
        if buf.is_empty() {
            return Ok(0);
        }
        if left == 0 {
            // To the crate an end would be that of a directory.
            return Err(other(format!("it ends at byte {:#x}", self.source.len())));
        }
        let first = self.at / BLOCK * BLOCK;
        let block = match self.block.take().filter(|(at, _)| *at == first) {
            Some(b) => b,
            None => {
                let mut b = vec![0; BLOCK.min(self.source.len() - first) as usize];
                self.source.read_at(first, &mut b).map_err(other)?;
                (first, b)
            }
        };
        let from = &block.1[(self.at - first) as usize..];
        let n = from.len().min(buf.len());
        buf[..n].copy_from_slice(&from[..n]);
        self.at += n as u64;
        self.block = Some(block);
        Ok(n)
    }
}

impl Write for Medium {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(other("it is opened for reading"))
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Medium {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(n) => Some(n),
            SeekFrom::Current(n) => self.at.checked_add_signed(n),
            SeekFrom::End(n) => self.source.len().checked_add_signed(n),
        };
        self.at = at.ok_or_else(|| other("there is no such place"))?;
        Ok(self.at)
    }
}

/// The content of a file, its path with `/`, at most `limit` bytes; `None`
/// where there is none.
pub(super) fn read(source: &SharedSource, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
    let mut boot = [0; 512];
    source.read_at(0, &mut boot)?;
    if !sound(&boot) {
        return Err(
            Error::damaged("The boot sector of the FAT volume contradicts itself")
                .of(source.name()),
        );
    }
    // Entries may name clusters that do not exist; the crate's sums with them
    // are not all checked.
    let done = catch_unwind(AssertUnwindSafe(|| find(source, path, limit)));
    let done = done.unwrap_or_else(|_| Err(other("its entries contradict each other")));
    match done {
        Ok(content) => Ok(Some(content)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("The FAT volume could not be read", e).of(source.name())),
    }
}

fn find(source: &SharedSource, path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let medium = Medium {
        source: source.clone(),
        at: 0,
        left: MAX_READS,
        block: None,
    };
    let volume = fatfs::FileSystem::new(medium, fatfs::FsOptions::new())?;
    let file = volume.root_dir().open_file(path)?;
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content)?;
    match content.len() as u64 > limit {
        true => Err(other(format!("{path} is longer than {limit} bytes"))),
        false => Ok(content),
    }
}

/// The sums that a boot sector makes possible stay in their ranges.
fn sound(b: &[u8; 512]) -> bool {
    let word = |at: usize| u64::from(u16::from_le_bytes([b[at], b[at + 1]]));
    let long = |at: usize| word(at) | word(at + 2) << 16;
    let or = |short: u64, long: u64| if short == 0 { long } else { short };
    let (sector, cluster) = (word(0x0b), u64::from(b[0x0d]));
    let total = or(word(0x13), long(0x20));
    let fat = or(word(0x16), long(0x24));
    if !(512..=4096).contains(&sector) || cluster == 0 || fat == 0 {
        return false;
    }
    let root = (word(0x11) * 32).div_ceil(sector);
    let data = word(0x0e) + u64::from(b[0x10]) * fat + root;
    let clusters = total.saturating_sub(data) / cluster;
    total > data
        && fat * sector * 8 <= u64::from(u32::MAX)
        && fat * sector * 8 / 32 >= 2
        && clusters < 0x0fff_fff5
        && (word(0x16) != 0 || (2..clusters + 2).contains(&long(0x2c)))
}
