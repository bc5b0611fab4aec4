//! Floor 2: the stream. `docs/format.md` is its definition.

mod decode;
mod head;
mod header;
mod index;
mod pack;
mod reader;
mod region;
mod store;
mod walk;
mod writer;

pub use decode::{ReadBack, Unpacker};
pub use head::{
    CHUNK_RUNS, DiskInfo, GAP, Head, Options, Region, RegionKind, SnapshotInfo, SourceInfo,
    Stillness, TableKind, UNVERIFIED,
};
pub use header::{
    BLOCK, ChunkRun, Codec, Header, Kind, MAX_DATA_BYTES, MftRun, NO_REGION, Provenance, RunKind,
    Totals, padded,
};
pub use index::{Entry, Index, MftSpan};
pub use pack::{BufferPool, CellPlace, Packed, Packer, is_zero};
pub use reader::Archive;
pub use region::RegionView;
pub use store::{PartialFile, partial_path};
pub use walk::{Body, Forward, Found, Input, Pipe, Walker};
pub use writer::{ArchiveId, Writer};

#[cfg(test)]
mod tests;
