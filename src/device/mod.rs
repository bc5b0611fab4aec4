//! Floor 1: bytes in and out. A [`Source`] gives positioned reads and is never
//! written; a [`Sink`] takes positioned writes.

mod block;
mod counting;
mod direct;
mod faulty;
mod file;
pub mod guard;
mod holes;
mod map;
mod open;
mod posix;
mod ranges;
mod rearrange;
mod rescue;
mod scratch;
mod sink;
mod spill;
mod window;

pub use block::BlockSource;
pub use counting::{CountingSource, Counts};
pub use faulty::{Fault, FaultySource};
pub use file::FileSource;
pub use holes::HoledSource;
pub use map::{MapBlock, Phase, RescueMap, Status};
pub use open::{Identity, OpenOptions, OpenedSource, SourceKind, open_source};
pub use ranges::RangeSet;
pub use rearrange::{Piece, Rearranged, Rearrangement};
pub use rescue::{BadMap, RescueOptions, RescueSource};
pub use scratch::Scratch;
pub use sink::{BlockSink, FileSink, FileSinkOptions, ImageSink, MemorySink};
pub use spill::SpillSource;
pub use window::Window;

use crate::error::Result;
use std::sync::Arc;

/// Positioned reads of a fixed number of bytes. Shared by threads.
pub trait Source: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// True when it holds no byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Logical sector size in bytes, as the device states it (512 if unknown).
    fn sector_size(&self) -> u32;

    /// Fills `buf` from `offset` on, or fails. A range that the medium cannot
    /// give fails with `ErrorKind::Unreadable`; nothing is said then about the
    /// content of `buf`. Reading beyond the end is an error.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// What to call it in a message: a path.
    fn name(&self) -> &str;

    /// The whole content as memory, where that is safe and free of copies.
    fn as_memory(&self) -> Option<&[u8]> {
        None
    }

    /// Tells the cache that a range will be read soon. Only a hint.
    fn will_need(&self, _offset: u64, _len: u64) {}

    /// Bytes of the blocks, counted from offset 0, that can be read only whole: a
    /// bad one is lost as a whole, and does not keep anybody from the next.
    /// None: a bad place ends a job that reads through.
    fn lost_together(&self) -> Option<u64> {
        None
    }

    /// False where the medium says that its writer did not finish: a tape without
    /// the filemarks that close it.
    fn is_finished(&self) -> bool {
        true
    }
}

/// A source that several views share.
pub type SharedSource = Arc<dyn Source>;

/// Positioned writes. Shared by threads.
pub trait Sink: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// True when it holds no byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Logical sector size in bytes.
    fn sector_size(&self) -> u32;

    /// Writes all of `data` at `offset`.
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()>;

    /// Makes a range read as zeros: a hole where the target can, else zeros.
    fn zero_at(&self, offset: u64, len: u64) -> Result<()>;

    /// Reads back what was written.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// Makes everything written durable.
    fn sync(&self) -> Result<()>;

    /// What to call it in a message: a path.
    fn name(&self) -> &str;

    /// True when the target was made empty by us, so that untouched ranges
    /// already read as zeros.
    fn is_fresh(&self) -> bool;
}
