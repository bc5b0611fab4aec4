//! What the copy manager asks of disks and tapes. Reservations and write
//! protection it looks at by itself; these methods only move data.

use crate::scsi::Failure;
use std::io::IoSlice;

/// A disk that can be copied from and to.
pub trait CopyDisk: Send + Sync {
    /// Bytes of a block.
    fn block(&self) -> u32;

    /// Number of blocks.
    fn blocks(&self) -> u64;

    /// Reads whole blocks. A failure comes with the bytes in front of it that
    /// are good.
    fn read(&self, lba: u64, buf: &mut [u8]) -> Result<(), (usize, Box<Failure>)>;

    /// Writes whole blocks, wherever one slice ends.
    fn write(&self, lba: u64, data: &mut [IoSlice<'_>]) -> Result<(), (usize, Box<Failure>)>;
}

/// A tape that can be copied from and to. Each method is one or more commands
/// of a tape drive, with their sense data and the position they leave.
pub trait CopyTape: Send + Sync {
    /// True when commands with FIXED move blocks of this length: the host has set
    /// it by MODE SELECT, which a copy manager does not send.
    fn takes_fixed(&self, block: u32) -> bool;

    /// Reads blocks of exactly this length, at least one and as many as `buf`
    /// holds and follow each other here; gives their number. When the first is
    /// something else, fails as READ without SILI does.
    fn read(&self, block: u32, buf: &mut [u8]) -> Result<usize, Box<Failure>>;

    /// Writes blocks of this length, wherever one slice ends. Gives the number
    /// that is on the tape, and why it stopped: also at early warning, with the
    /// block that met it written.
    fn write(&self, block: u32, data: &[IoSlice<'_>]) -> (usize, Option<Box<Failure>>);

    /// WRITE FILEMARKS.
    fn filemarks(&self, count: u32, immediate: bool) -> Result<(), Box<Failure>>;

    /// SPACE.
    fn space(&self, code: u8, count: i32) -> Result<(), Box<Failure>>;

    /// LOCATE in the current partition.
    fn locate(&self, object: u64) -> Result<(), Box<Failure>>;

    /// Steps back over blocks that were read ahead and not used.
    fn unread(&self, blocks: u64) -> Result<(), Box<Failure>>;
}
