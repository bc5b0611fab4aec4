//! Reading blocks. The words in front of and behind each are compared with the
//! index, so that neither a stale index nor a changed file gives wrong data.

use super::Cartridge;
use super::word::Object;
use crate::error::{Error, ErrorKind, Result};
use rustix::io::{Errno, preadv};
use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;

/// Most slices of one vectored call.
pub(super) const MAX_SLICES: usize = 1024;

/// What reading an object gave. Except at the end of data, the position is
/// behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// A block of so many bytes; the buffer has as many of them as it holds.
    Block(u32),
    /// A filemark.
    Filemark,
    /// Nothing is there.
    EndOfData,
}

/// Blocks of one length in the file: the data of block *i* begins at
/// `offset + i * stride`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Where the data of the first block begins.
    pub offset: u64,
    /// Bytes of each block.
    pub block: u32,
    /// Blocks.
    pub count: u64,
    /// From the data of one block to that of the next.
    pub stride: u64,
}

impl Cartridge {
    /// Reads the object at the position. A block that its maker could not read
    /// soundly, or whose words do not fit, is an error, and is passed over.
    pub fn read_block(&mut self, buf: &mut [u8]) -> Result<Got> {
        let Some(found) = self.runs.at(self.position.object) else {
            return Ok(Got::EndOfData);
        };
        self.position.object += 1;
        match found.object {
            Object::Filemark => {
                self.position.file += 1;
                Ok(Got::Filemark)
            }
            Object::BadBlock(_) => Err(Error::new(
                ErrorKind::Unreadable,
                "The block is marked as read with an error",
            )
            .of(&*self.name)
            .at(found.offset)),
            Object::Block(len) => {
                if let Some(whole) = buf.get_mut(..len as usize) {
                    self.read_run(found.offset, len, whole)?;
                } else {
                    self.check_words(found.offset, len, 1)?;
                    self.read_all(found.offset + 4, &mut [IoSliceMut::new(buf)])?;
                }
                Ok(Got::Block(len))
            }
        }
    }

    /// Reads blocks of exactly this length, as many as the buffer holds and
    /// come in a row here; gives their number. None when something else is at
    /// the position, which [`Cartridge::read_block`] then tells.
    pub fn read_blocks(&mut self, len: u32, buf: &mut [u8]) -> Result<usize> {
        let Some(found) = self.runs.at(self.position.object) else {
            return Ok(0);
        };
        if found.object != Object::Block(len) || len == 0 {
            return Ok(0);
        }
        let room = buf.len() / len as usize;
        let n = usize::try_from(found.left).unwrap_or(usize::MAX).min(room);
        if let Some(whole) = buf.get_mut(..n * len as usize)
            && n > 0
        {
            self.read_run(found.offset, len, whole)?;
        }
        self.position.object += n as u64;
        Ok(n)
    }

    /// The blocks in a row at the position, at most `most`, with their words
    /// checked; moves behind them. For who copies from the file by itself.
    pub fn take_stretch(&mut self, most: u64) -> Result<Option<Stretch>> {
        let Some(found) = self.runs.at(self.position.object) else {
            return Ok(None);
        };
        let Object::Block(len) = found.object else {
            return Ok(None);
        };
        let count = found.left.min(most);
        self.check_words(found.offset, len, count)?;
        self.position.object += count;
        Ok(Some(Stretch {
            offset: found.offset + 4,
            block: len,
            count,
            stride: found.object.stride(),
        }))
    }

    /// The `.tap` file, to read a [`Stretch`] from.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Reads blocks of `len` bytes whose first word is at `offset`.
    fn read_run(&self, offset: u64, len: u32, data: &mut [u8]) -> Result<()> {
        let pad = (len & 1) as usize;
        let blocks = data.len() / len as usize;
        // The first word, then one piece behind each block: padding, its
        // second word, and the first word of the next.
        let mut words = vec![0; 4 + blocks * (pad + 8)];
        words.truncate(words.len() - 4);
        let (first, rest) = words.split_at_mut(4);
        let mut slices = Vec::with_capacity(1 + 2 * blocks);
        slices.push(IoSliceMut::new(first));
        for (block, behind) in data
            .chunks_exact_mut(len as usize)
            .zip(rest.chunks_mut(pad + 8))
        {
            slices.push(IoSliceMut::new(block));
            slices.push(IoSliceMut::new(behind));
        }
        self.read_all(offset, &mut slices)?;
        drop(slices);
        let (first, rest) = words.split_at(4);
        let word = len.to_le_bytes();
        let sound = first == word
            && rest
                .chunks(pad + 8)
                .all(|c| c.get(pad..).is_some_and(|w| w.chunks(4).all(|w| w == word)));
        match sound {
            true => Ok(()),
            false => Err(self.words_differ(offset)),
        }
    }

    /// Compares the words around blocks without reading their data.
    fn check_words(&self, offset: u64, len: u32, count: u64) -> Result<()> {
        let stride = Object::Block(len).stride();
        let word = len.to_le_bytes();
        let mut b = [0; 8];
        let mut at = offset;
        self.read_all(at, &mut [IoSliceMut::new(&mut b[..4])])?;
        if b[..4] != word {
            return Err(self.words_differ(at));
        }
        for i in 1..=count {
            at += stride;
            let both = if i == count { 4 } else { 8 };
            if let Some(part) = b.get_mut(..both) {
                self.read_all(at - 4, &mut [IoSliceMut::new(part)])?;
                if part.chunks(4).any(|w| w != word) {
                    return Err(self.words_differ(at - 4));
                }
            }
        }
        Ok(())
    }

    fn words_differ(&self, at: u64) -> Error {
        Error::damaged("The words around a block are not those of the index")
            .of(&*self.name)
            .at(at)
            .hint("somebody else wrote to the file: take the cartridge out and put it in again")
    }

    fn read_all(&self, mut at: u64, mut slices: &mut [IoSliceMut<'_>]) -> Result<()> {
        let fail =
            |at, e: std::io::Error| Error::io("Cannot read a block", e).of(&*self.name).at(at);
        IoSliceMut::advance_slices(&mut slices, 0);
        if let [one] = slices {
            return self.file.read_exact_at(one, at).map_err(|e| fail(at, e));
        }
        while !slices.is_empty() {
            let n = slices.len().min(MAX_SLICES);
            let Some(some) = slices.get_mut(..n) else {
                break;
            };
            match preadv(&self.file, some, at) {
                Ok(0) => return Err(fail(at, std::io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => {
                    at += n as u64;
                    IoSliceMut::advance_slices(&mut slices, n);
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(fail(at, e.into())),
            }
        }
        Ok(())
    }
}
