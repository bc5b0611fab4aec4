//! What the copy manager asks of a drive, without command blocks. Sense data is
//! what a command would have ended with; reservations and write protection of the
//! unit are the caller's to look at.

use super::state::{State, moved};
use super::{TapeDrive, motion, transfer};
use crate::error::Error;
use crate::scsi::{Sense, SenseKey};
use crate::tape::cartridge::{Appended, Cartridge, Piece, Room};
use std::io::IoSlice;

/// How far something went, and why no further (or what is to be said all the
/// same: early warning comes with data that was taken).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Blocks or filemarks; bytes where a single block was read.
    pub count: u64,
    /// None stands for GOOD, everything else for CHECK CONDITION.
    pub sense: Option<Sense>,
}

impl Done {
    pub(super) fn nothing(sense: Sense) -> Self {
        Self {
            count: 0,
            sense: Some(sense),
        }
    }
}

/// How [`TapeDrive::append`] ended.
#[derive(Debug)]
pub struct Copied {
    /// Blocks on the medium.
    pub done: Done,
    /// A source file could not be read: number of the piece, offset in it, why.
    pub failed: Option<(usize, u64, Error)>,
}

/// Where a drive stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapePosition {
    /// Blocks and filemarks in front.
    pub object: u64,
    /// Filemarks in front.
    pub file: u64,
    /// At the beginning.
    pub bop: bool,
    /// Behind early warning.
    pub early_warning: bool,
}

impl TapeDrive {
    /// Bytes of the blocks that commands with FIXED move; 0 when there are none.
    pub fn block_length(&self) -> u32 {
        self.state().block_length
    }

    /// Writes blocks of `len` bytes as so many WRITE commands in variable mode, the
    /// first that ends with CHECK CONDITION being the last. `data` is a whole
    /// number of blocks, wherever one slice ends.
    pub fn write_blocks(&self, len: u32, data: &[IoSlice<'_>]) -> Done {
        let s = &mut *self.state();
        let most = s.blocks_to_warning(len);
        transfer::write_blocks(s, len, data, most, len.into())
    }

    /// The same from pieces, of which those in files go from file to file.
    pub fn append(&self, len: u32, pieces: &[Piece<'_>]) -> Copied {
        let s = &mut *self.state();
        let most = s.blocks_to_warning(len);
        let c = match s.writable() {
            Ok(c) => c,
            Err(sense) => {
                return Copied {
                    done: Done::nothing(sense),
                    failed: None,
                };
            }
        };
        let before = c.position().object;
        let result = c.append(len, pieces, most);
        let count = c.position().object.saturating_sub(before);
        let (result, failed) = match result {
            Ok(Appended { wrote, failed }) => (Ok(wrote.full), failed),
            Err(e) => (Err(e), None),
        };
        let wanted = count.saturating_add(1);
        Copied {
            done: transfer::written(s, len, count, wanted, len.into(), result),
            failed,
        }
    }

    /// Reads one block as READ in variable mode with SILI 0 and a length of
    /// `buf` does. `count` is bytes.
    pub fn read_block(&self, buf: &mut [u8]) -> Done {
        let asked = u32::try_from(buf.len()).unwrap_or(u32::MAX);
        transfer::read_one(&mut self.state(), asked, false, buf)
    }

    /// Reads blocks of exactly `len` bytes, as many as `buf` holds and follow each
    /// other here, and stops in front of anything else. When the first is
    /// something else already, that ends as READ with SILI 0 does. `count` is
    /// blocks.
    pub fn read_blocks(&self, len: u32, buf: &mut [u8]) -> Done {
        let s = &mut *self.state();
        let read = s.medium().map(|c| c.read_blocks(len, buf));
        match read {
            Err(sense) => Done::nothing(sense),
            Ok(Err(e)) => Done::nothing(s.read_failed(&e).with_information(len.into())),
            Ok(Ok(0)) => {
                let one = buf.get_mut(..len as usize).unwrap_or_default();
                let done = transfer::read_one(s, len, false, one);
                Done { count: 0, ..done }
            }
            Ok(Ok(n)) => {
                s.counts.read += n as u64 * u64::from(len);
                Done {
                    count: n as u64,
                    sense: None,
                }
            }
        }
    }

    /// WRITE FILEMARKS.
    pub fn write_filemarks(&self, count: u32, immediate: bool) -> Done {
        transfer::filemarks(&mut self.state(), count.into(), immediate)
    }

    /// SPACE by its code: 0 blocks, 1 filemarks, 2 sequential filemarks, 3 end of
    /// data.
    pub fn space(&self, code: u8, count: i64) -> Result<(), Sense> {
        motion::space_by(&mut self.state(), code, count).map_err(|r| {
            r.as_sense()
                .cloned()
                .unwrap_or_else(|| Sense::new(SenseKey::IllegalRequest, 0x24, 0x00))
        })
    }

    /// LOCATE by object number.
    pub fn locate(&self, object: u64) -> Result<(), Sense> {
        moved(self.state().medium()?.locate(object))
    }

    /// READ POSITION.
    pub fn position(&self) -> Result<TapePosition, Sense> {
        let s = &mut *self.state();
        let c = s.medium()?;
        let here = c.position();
        Ok(TapePosition {
            object: here.object,
            file: here.file,
            bop: here.object == 0,
            early_warning: c.room(0) == Room::Early,
        })
    }

    /// Something with the cartridge itself, the drive being held meanwhile.
    pub fn with_cartridge<R>(&self, f: impl FnOnce(&mut Cartridge) -> R) -> Result<R, Sense> {
        let s: &mut State = &mut self.state();
        Ok(f(s.medium()?))
    }
}
