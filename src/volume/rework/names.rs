//! Sizes that a directory repeats beside a file's name.

use super::surgery::{protect, put64};
use crate::error::Result;
use crate::units::RecordNo;
use crate::volume::attr::{INDEX_ALLOCATION, INDEX_ROOT, u16_at, u32_at, u64_at};
use crate::volume::extents::ExtentMap;
use crate::volume::file::FileStream;
use crate::volume::open::Volume;
use crate::volume::record::apply_fixups;
use std::collections::BTreeMap;

/// `$I30`, UTF-16.
pub(super) const I30: &[u8] = b"$\0I\x003\x000\x00";
/// Bytes of a directory's blocks that are looked through.
const MOST: u64 = 64 << 20;

/// Allocated bytes and size, by file record.
pub(super) type Sizes = BTreeMap<u64, (u64, u64)>;

/// Index blocks, each with its place in the stream.
pub(super) type Blocks = Vec<(u64, Vec<u8>)>;

/// Puts sizes into the entries of one node, whose header is at `header`.
/// Returns whether anything changed.
fn node(bytes: &mut [u8], header: usize, sizes: &Sizes) -> bool {
    let Some(head) = bytes.get(header..header + 8) else {
        return false;
    };
    let (first, end) = (u32_at(head, 0) as usize, u32_at(head, 4) as usize);
    let end = header.saturating_add(end).min(bytes.len());
    let mut at = header.saturating_add(first);
    let mut changed = false;
    while at + 16 <= end {
        let len = usize::from(u16_at(bytes, at + 8));
        let flags = u16_at(bytes, at + 12);
        if flags & 2 != 0 || len < 16 || at + len > end {
            break;
        }
        let file = u64_at(bytes, at) & 0xffff_ffff_ffff;
        if let Some(&(allocated, size)) = sizes.get(&file)
            && len >= 16 + 0x38
        {
            let before = (u64_at(bytes, at + 16 + 0x28), u64_at(bytes, at + 16 + 0x30));
            changed |= before != (allocated, size);
            put64(bytes, at + 16 + 0x28, allocated);
            put64(bytes, at + 16 + 0x30, size);
        }
        at += len;
    }
    changed
}

/// Puts sizes into the value of an `$INDEX_ROOT`.
pub(super) fn in_root(value: &mut [u8], sizes: &Sizes) -> bool {
    value.len() > 16 && u32_at(value, 0) == 0x30 && node(value, 16, sizes)
}

/// Index blocks of a directory that change, each with its place in the stream,
/// and the extents of that stream. Blocks that are damaged stay as they are.
pub(super) fn in_blocks(
    volume: &Volume,
    directory: RecordNo,
    sizes: &Sizes,
) -> Result<(ExtentMap, Blocks)> {
    let mut out = Vec::new();
    let file = volume.file(directory)?;
    let block = match file.stream(INDEX_ROOT, I30) {
        Some(FileStream::Resident(_, value)) if value.len() > 16 => u32_at(value, 8),
        _ => return Ok((ExtentMap::default(), out)),
    };
    let Some(FileStream::NonResident(joined)) = file.stream(INDEX_ALLOCATION, I30) else {
        return Ok((ExtentMap::default(), out));
    };
    if !block.is_power_of_two() || !(512..=64 << 10).contains(&block) {
        return Ok((joined.map, out));
    }
    let size = joined.header().size.min(MOST);
    let mut buf = vec![0; block as usize];
    let mut at = 0;
    while at + u64::from(block) <= size {
        if volume.read_extents(&joined.map, at, &mut buf).is_ok()
            && buf.starts_with(b"INDX")
            && apply_fixups(&mut buf).is_ok()
            && node(&mut buf, 24, sizes)
        {
            protect(&mut buf);
            out.push((at, buf.clone()));
        }
        at += u64::from(block);
    }
    Ok((joined.map, out))
}
