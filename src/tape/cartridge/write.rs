//! Writing. What stood behind the position is gone before the first new byte.

use super::read::MAX_SLICES;
use super::word::Object;
use super::{Cartridge, MAX_BLOCK, runs};
use crate::error::{Error, Result};
use rustix::fs::copy_file_range;
use rustix::io::{Errno, pwritev};
use std::fs::File;
use std::io::IoSlice;
use std::os::unix::fs::FileExt;

/// How writing ended, when the file system did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrote {
    /// Blocks (or filemarks) that are on the medium now.
    pub count: u64,
    /// The next one did not fit: end of medium.
    pub full: bool,
}

/// How much is left behind the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// Enough.
    Plenty,
    /// In the zone that the host asked to be warned of.
    Programmed,
    /// Behind early warning.
    Early,
}

/// A part of what is to be written.
#[derive(Clone, Copy)]
pub enum Piece<'a> {
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// A range of a file, copied without passing through this program where
    /// the system can.
    File {
        /// Opened for reading.
        file: &'a File,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// So many zero bytes.
    Zeros(u64),
}

impl Piece<'_> {
    fn len(&self) -> u64 {
        match self {
            Piece::Bytes(b) => b.len() as u64,
            Piece::File { len, .. } | Piece::Zeros(len) => *len,
        }
    }
}

/// How [`Cartridge::append`] ended.
#[derive(Debug)]
pub struct Appended {
    /// Blocks that are on the medium now, and whether the next one fitted.
    pub wrote: Wrote,
    /// Reading a file failed: number of the piece, offset in it, and why. The
    /// block it was for is not on the medium.
    pub failed: Option<(usize, u64, Error)>,
}

const NOTHING: Wrote = Wrote {
    count: 0,
    full: false,
};

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

impl Cartridge {
    /// What is left, when the host wants a warning `programmed` bytes before
    /// early warning.
    pub fn room(&self, programmed: u64) -> Room {
        let left = self.facts.capacity.saturating_sub(self.used_here());
        if left < self.facts.early_warning {
            Room::Early
        } else if left - self.facts.early_warning < programmed {
            Room::Programmed
        } else {
            Room::Plenty
        }
    }

    /// How many blocks of `len` bytes, one by one, until a write is the first to
    /// end with less room than `than`; 1 when there is less already.
    pub fn blocks_until(&self, than: Room, programmed: u64, len: u32) -> u64 {
        let zone = match than {
            Room::Early => self.facts.early_warning,
            _ => self.facts.early_warning.saturating_add(programmed),
        };
        let left = self.facts.capacity.saturating_sub(self.used_here());
        match left.checked_sub(zone) {
            Some(n) => n / u64::from(len.max(1)) + 1,
            None => 1,
        }
    }

    /// Makes the position the end of data, so that something can be written.
    fn begin_writing(&mut self) -> Result<u64> {
        if self.is_write_protected() {
            return Err(Error::refused("The cartridge is write protected").of(&*self.name));
        }
        let at = self.position.object;
        let offset = self.runs.at(at).map_or(self.runs.end(), |f| f.offset);
        if at < self.runs.objects() || self.loose_end {
            self.cut_file(offset)?;
            self.runs.truncate(at);
            // A gap in front of the position went with the rest.
            let end = self.runs.end();
            if end != offset {
                self.cut_file(end)?;
            }
        }
        Ok(self.runs.end())
    }

    /// Blocks of this length that fit.
    fn fitting(&self, len: u32, wanted: u64) -> u64 {
        let left = self.facts.capacity.saturating_sub(self.runs.bytes());
        match self.runs.has_room() {
            true => wanted.min(left / u64::from(len.max(1))),
            false => 0,
        }
    }

    fn check_length(&self, len: u32, total: u64) -> Result<u64> {
        if len == 0 || len > MAX_BLOCK || !total.is_multiple_of(u64::from(len)) {
            return Err(Error::usage(format!(
                "{total} bytes are no whole number of blocks of {len} bytes"
            ))
            .of(&*self.name));
        }
        Ok(total / u64::from(len))
    }

    /// Writes blocks of `len` bytes; the slices together are a whole number of
    /// them, wherever one slice ends. On an error the blocks that are complete
    /// count, as the position says.
    pub fn write_blocks(&mut self, len: u32, data: &[IoSlice<'_>]) -> Result<Wrote> {
        self.write_some(len, data, u64::MAX)
    }

    /// As [`Cartridge::write_blocks`], the first `most` of them.
    pub fn write_some(&mut self, len: u32, data: &[IoSlice<'_>], most: u64) -> Result<Wrote> {
        let total = data.iter().map(|s| s.len() as u64).sum();
        let wanted = self.check_length(len, total)?.min(most);
        if wanted == 0 {
            return Ok(NOTHING);
        }
        let start = self.begin_writing()?;
        let count = self.fitting(len, wanted);
        let mut words = [0; 9];
        words[1..5].copy_from_slice(&len.to_le_bytes());
        words[5..].copy_from_slice(&len.to_le_bytes());
        // Padding (if odd), second word, and the first word of the next block.
        let between = &words[1 - (len & 1) as usize..];
        let last = &between[..between.len() - 4];
        let mut slices = Vec::with_capacity(data.len() + 2 * count as usize + 1);
        let mut input = data.iter().map(|s| &**s).filter(|s| !s.is_empty());
        let mut rest: &[u8] = &[];
        for i in 0..count {
            if i == 0 {
                slices.push(IoSlice::new(&words[1..5]));
            }
            let mut missing = len as usize;
            while missing > 0 {
                if rest.is_empty() {
                    rest = input.next().unwrap_or(&ZEROS[..1]);
                }
                let (now, later) = rest.split_at(rest.len().min(missing));
                slices.push(IoSlice::new(now));
                missing -= now.len();
                rest = later;
            }
            let behind = if i + 1 == count { last } else { between };
            slices.push(IoSlice::new(behind));
        }
        let result = write_all(&self.file, start, &mut slices);
        self.account(start, len, count, result)?;
        Ok(Wrote {
            count,
            full: count < wanted,
        })
    }

    /// Adds what was written: `Err` has the bytes that were, and why no more.
    fn account(
        &mut self,
        start: u64,
        len: u32,
        count: u64,
        result: Result<(), (u64, std::io::Error)>,
    ) -> Result<()> {
        let object = Object::Block(len);
        let done = match &result {
            Ok(()) => count,
            Err((bytes, _)) => (bytes / object.stride()).min(count),
        };
        self.runs.push(start, object, done)?;
        self.position.object += done;
        match result {
            Ok(()) => Ok(()),
            Err((bytes, e)) => {
                let failed = Error::io("Cannot write a block", e)
                    .of(&*self.name)
                    .at(start + bytes);
                // What is left of an incomplete block is the loose end that
                // the next write, or opening it again, cuts off.
                self.loose_end = true;
                Err(failed)
            }
        }
    }

    /// Writes blocks of `len` bytes from pieces in memory and in files, wherever one
    /// piece ends. What is in a file does not pass through this program where
    /// the system copies between files by itself. The first `most` blocks.
    pub fn append(&mut self, len: u32, pieces: &[Piece<'_>], most: u64) -> Result<Appended> {
        let total = pieces
            .iter()
            .try_fold(0u64, |sum, p| sum.checked_add(p.len()))
            .ok_or_else(|| Error::usage("Pieces of more than 2^64 bytes").of(&*self.name))?;
        let wanted = self.check_length(len, total)?.min(most);
        if wanted == 0 {
            return Ok(Appended {
                wrote: NOTHING,
                failed: None,
            });
        }
        let start = self.begin_writing()?;
        let count = self.fitting(len, wanted);
        let mut out = Blocks {
            tap: &self.file,
            at: start,
            len,
            in_block: 0,
            left: count * u64::from(len),
            buffer: Vec::new(),
        };
        let mut failed = None;
        let mut broken = Ok(());
        for (i, piece) in pieces.iter().enumerate() {
            match out.add(piece) {
                Ok(()) => {}
                Err(Failure::Source(at, e)) => {
                    let e = Error::io("Cannot read what is to be written", e);
                    failed = Some((i, at, e));
                    break;
                }
                Err(Failure::Tape(e)) => {
                    broken = Err((out.at - start, e));
                    break;
                }
            }
        }
        let done = (out.at - start) / Object::Block(len).stride();
        let incomplete = out.in_block > 0;
        if broken.is_ok() {
            self.account(start, len, done, Ok(()))?;
            self.loose_end |= incomplete;
        } else {
            self.account(start, len, count, broken)?;
        }
        Ok(Appended {
            wrote: Wrote {
                count: done,
                full: failed.is_none() && count < wanted,
            },
            failed,
        })
    }

    /// Writes filemarks; when it is not immediate, everything is durable after.
    /// None and not immediate only makes durable what was written before.
    pub fn write_filemarks(&mut self, count: u64, immediate: bool) -> Result<Wrote> {
        let mut done = 0;
        if count > 0 {
            let start = self.begin_writing()?;
            let room = match self.runs.has_room() {
                true => runs::MAX_FILEMARKS.saturating_sub(self.runs.marks()),
                false => 0,
            };
            done = count.min(room);
            let mut at = start;
            let mut left = done * 4;
            while left > 0 {
                let n = left.min(ZEROS.len() as u64);
                if let Err(e) = self.file.write_all_at(&ZEROS[..n as usize], at) {
                    self.loose_end = true;
                    return Err(Error::io("Cannot write filemarks", e)
                        .of(&*self.name)
                        .at(at));
                }
                at += n;
                left -= n;
            }
            self.runs.push(start, Object::Filemark, done)?;
            self.position.object += done;
            self.position.file += done;
        } else if self.is_write_protected() {
            return Ok(Wrote {
                count: 0,
                full: false,
            });
        }
        if !immediate {
            self.sync()?;
        }
        Ok(Wrote {
            count: done,
            full: done < count,
        })
    }

    /// Makes the position the end of data.
    pub fn erase(&mut self) -> Result<()> {
        self.begin_writing()?;
        self.sync()
    }
}

enum Failure {
    /// At this offset of the piece.
    Source(u64, std::io::Error),
    Tape(std::io::Error),
}

/// Cuts a stream into blocks while it is written.
struct Blocks<'a> {
    tap: &'a File,
    at: u64,
    len: u32,
    /// Bytes of the block that are written.
    in_block: u32,
    /// Bytes of the stream that still fit.
    left: u64,
    buffer: Vec<u8>,
}

impl Blocks<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.tap
            .write_all_at(bytes, self.at)
            .map_err(Failure::Tape)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn add(&mut self, piece: &Piece<'_>) -> Result<(), Failure> {
        let total = piece.len().min(self.left);
        let mut done = 0;
        while done < total {
            if self.in_block == 0 {
                self.put(&self.len.to_le_bytes())?;
            }
            let n = (total - done).min(u64::from(self.len - self.in_block));
            match piece {
                Piece::Bytes(b) => {
                    let part = b
                        .get(done as usize..(done + n) as usize)
                        .unwrap_or_default();
                    self.put(part)?;
                }
                Piece::Zeros(_) => {
                    let mut left = n;
                    while left > 0 {
                        let now = left.min(ZEROS.len() as u64);
                        self.put(&ZEROS[..now as usize])?;
                        left -= now;
                    }
                }
                Piece::File { file, offset, .. } => self.copy(file, *offset, done, n)?,
            }
            done += n;
            self.left -= n;
            // A block has at most MAX_BLOCK bytes.
            self.in_block += n as u32;
            if self.in_block == self.len {
                let mut behind = [0; 5];
                behind[1..].copy_from_slice(&self.len.to_le_bytes());
                self.put(&behind[1 - (self.len & 1) as usize..])?;
                self.in_block = 0;
            }
        }
        Ok(())
    }

    fn copy(&mut self, file: &File, base: u64, done: u64, n: u64) -> Result<(), Failure> {
        let mut moved = 0;
        while moved < n {
            let mut from = base.saturating_add(done + moved);
            let mut to = self.at;
            match copy_file_range(
                file,
                Some(&mut from),
                self.tap,
                Some(&mut to),
                (n - moved) as usize,
            ) {
                Ok(k) if k > 0 => {
                    self.at += k as u64;
                    moved += k as u64;
                }
                Err(Errno::INTR) => {}
                // The end of the source, another file system, a device, or an
                // error of either side: reading and writing tell which.
                _ => {
                    let now = (n - moved).min(256 * 1024) as usize;
                    let mut buffer = std::mem::take(&mut self.buffer);
                    buffer.resize(now, 0);
                    file.read_exact_at(&mut buffer, base.saturating_add(done + moved))
                        .map_err(|e| Failure::Source(done + moved, e))?;
                    self.put(&buffer)?;
                    self.buffer = buffer;
                    moved += now as u64;
                }
            }
        }
        Ok(())
    }
}

/// Writes all slices; on an error, how many bytes were written.
fn write_all(
    file: &File,
    start: u64,
    mut slices: &mut [IoSlice<'_>],
) -> Result<(), (u64, std::io::Error)> {
    let mut at = start;
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let n = slices.len().min(MAX_SLICES);
        match pwritev(file, slices.get(..n).unwrap_or_default(), at) {
            Ok(0) => return Err((at - start, std::io::ErrorKind::WriteZero.into())),
            Ok(n) => {
                at += n as u64;
                IoSlice::advance_slices(&mut slices, n);
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err((at - start, e.into())),
        }
    }
    Ok(())
}
