//! Floor 2: whole disks. Which partition table there is, what each partition
//! holds, and what lies outside of all of them.
//!
//! [`open_layout`] is the way in; [`Layout`] is the answer. Nothing here fails
//! because a table is wrong: what it claims is checked against the medium, and
//! each difference becomes a note.

mod find;
mod gpt;
mod guid;
mod layout;
mod mbr;
mod recognise;
pub mod replace;

pub use find::{LayoutOptions, open_layout, open_layout_with};
pub use gpt::{Gpt, GptEntry, GptHeader, Side};
pub use guid::Guid;
pub use layout::{Container, Layout, Note, Partition, PartitionType, TableKind};
pub use mbr::{Mbr, MbrEntry};
pub use recognise::{Content, recognise};

use crate::device::Source;
use crate::error::{ErrorKind, Result};

/// Reads what there is of `len` bytes from `offset` on: shorter at the end of
/// the source, `None` where the medium is unreadable.
fn read_some(source: &dyn Source, offset: u64, len: usize) -> Result<Option<Vec<u8>>> {
    let left = source.len().saturating_sub(offset);
    let mut buf = vec![0; len.min(usize::try_from(left).unwrap_or(usize::MAX))];
    if buf.is_empty() {
        return Ok(Some(buf));
    }
    match source.read_at(offset, &mut buf) {
        Ok(()) => Ok(Some(buf)),
        Err(e) if e.kind() == ErrorKind::Unreadable => Ok(None),
        Err(e) => Err(e),
    }
}
