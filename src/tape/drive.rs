//! What is asked of a tape drive, whoever answers: a SCSI unit or a double.

use crate::error::Result;

/// Where a cartridge stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Blocks and filemarks before it, from the beginning of the cartridge.
    pub object: u64,
    /// Filemarks before it; none where the drive does not tell.
    pub file: Option<u64>,
    /// At the beginning.
    pub bop: bool,
    /// Behind early warning.
    pub early_warning: bool,
}

/// What a read met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// A block of this many bytes, which are in the buffer.
    Block(usize),
    /// A block longer than the buffer; how long, where the drive tells. The
    /// cartridge stands behind it.
    TooLong(Option<u64>),
    /// A filemark; the cartridge stands behind it.
    Filemark,
    /// The end of what was written.
    EndOfData,
}

/// How much room is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Enough.
    Plenty,
    /// The end is near: little more than the closing of the cartridge fits.
    EarlyWarning,
    /// None.
    Full,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes (or filemarks) that were taken: whole blocks. Less than asked when
    /// early warning came on the way.
    pub taken: usize,
    /// What is left.
    pub room: Room,
}

/// What a drive and its cartridge are.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DriveInfo {
    /// Vendor and product.
    pub model: String,
    /// Serial number.
    pub serial: Option<String>,
    /// Longest block in bytes.
    pub max_block: u32,
    /// True when the cartridge is write-protected.
    pub write_protected: bool,
}

/// Room on the cartridge, where the drive tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Capacity {
    /// Bytes left, without compression.
    pub remaining: u64,
    /// Bytes of the whole cartridge.
    pub maximum: u64,
}

/// A tape drive with a cartridge, in variable-block mode.
pub trait Drive: Send {
    /// What to call it in a message.
    fn name(&self) -> &str;

    /// What it is. Fails with `NotFound` when there is no cartridge in it.
    fn info(&mut self) -> Result<DriveInfo>;

    /// Room on the cartridge.
    fn capacity(&mut self) -> Result<Option<Capacity>>;

    /// To the beginning.
    fn rewind(&mut self) -> Result<()>;

    /// To an object. Behind the end of data it is an error of kind `NotFound`.
    fn locate(&mut self, object: u64) -> Result<()>;

    /// Behind everything that was written.
    fn end_of_data(&mut self) -> Result<()>;

    /// Over filemarks, backwards when negative: the cartridge then stands
    /// before the last one passed, else behind it.
    fn space_filemarks(&mut self, count: i64) -> Result<()>;

    /// Where it stands.
    fn position(&mut self) -> Result<Position>;

    /// The next block.
    fn read(&mut self, buf: &mut [u8]) -> Result<Read>;

    /// Writes `data` in blocks of `block` bytes, the last one perhaps shorter,
    /// and stops behind the block that met early warning. What stood behind the
    /// present place is gone.
    fn write(&mut self, data: &[u8], block: usize) -> Result<Written>;

    /// Writes filemarks and waits until everything is on the medium; with a
    /// count of 0 it only waits.
    fn write_filemarks(&mut self, count: u32) -> Result<Written>;

    /// Makes a cartridge ready for use.
    fn load(&mut self) -> Result<()>;

    /// Rewinds and puts the cartridge out.
    fn unload(&mut self) -> Result<()>;
}
