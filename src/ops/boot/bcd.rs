//! Windows' boot configuration data: which disks and partitions its device
//! elements name.
//!
//! A store is a registry hive. Its keys are not followed: the cells in use are
//! searched for the one form in which an element names a partition of a disk.
//! That form, at 16 bytes into an element (documented by Microsoft's WMI class
//! `BcdDeviceQualifiedPartitionData` by its fields, by bcdedit's users byte for
//! byte): type 6, flags, length 0x48, 0; at 0x10 of it 16 bytes for the
//! partition (its GUID, or its first byte on the disk and zeros); at 0x20 the
//! kind of medium, 0 for a hard disk; at 0x24 the table, 0 GPT or 1 MBR; at
//! 0x28 the disk (its GUID, or its signature and zeros).

use crate::disk::Guid;
use serde::Serialize;
use std::collections::BTreeSet;

/// Most different names that are reported.
const MAX_NAMES: usize = 256;
/// Where the bins of a hive begin, and how much they are a multiple of.
const BIN: usize = 0x1000;
/// Bytes of the head of a bin.
const BIN_HEAD: usize = 0x20;
/// Bytes of a name.
const NAME: usize = 0x48;

/// How a partition is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case", tag = "table")]
pub enum Named {
    /// By a master boot record.
    Mbr {
        /// Disk signature.
        signature: u32,
        /// First byte of the partition on the disk.
        start: u64,
    },
    /// By a GPT.
    Gpt {
        /// GUID of the disk, as stored.
        #[serde(serialize_with = "guid")]
        disk: [u8; 16],
        /// GUID of the partition, as stored.
        #[serde(serialize_with = "guid")]
        partition: [u8; 16],
    },
}

fn guid<S: serde::Serializer>(g: &[u8; 16], s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&Guid(*g))
}

/// What the device elements of a store name, each once; `None` when this is no
/// hive.
pub fn names(hive: &[u8]) -> Option<Vec<Named>> {
    if hive.get(..4) != Some(b"regf") {
        return None;
    }
    let mut found = BTreeSet::new();
    let mut at = BIN;
    while let Some(bin) = hive.get(at..).filter(|b| b.get(..4) == Some(b"hbin")) {
        let len = le32(bin, 8).unwrap_or(0) as usize;
        if len == 0 || !len.is_multiple_of(BIN) {
            break;
        }
        let bin = &bin[..len.min(bin.len())];
        cells(bin, &mut found);
        at = at.saturating_add(len);
    }
    Some(found.into_iter().take(MAX_NAMES).collect())
}

/// The cells in use of a bin; their length is stored as a negative number.
fn cells(bin: &[u8], found: &mut BTreeSet<Named>) {
    let mut at = BIN_HEAD;
    while let Some(head) = le32(bin, at) {
        let len = head.cast_signed().unsigned_abs() as usize;
        if len < 8 {
            return;
        }
        let end = at.saturating_add(len).min(bin.len());
        if head.cast_signed() < 0 {
            let cell = &bin[at + 4..end];
            for from in (0..cell.len()).step_by(4) {
                if let Some(n) = cell.get(from..from + NAME).and_then(name) {
                    found.insert(n);
                }
            }
        }
        at = end;
    }
}

fn le32(b: &[u8], at: usize) -> Option<u32> {
    let four = b.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

fn name(b: &[u8]) -> Option<Named> {
    if (le32(b, 0)?, le32(b, 8)?, le32(b, 12)?, le32(b, 0x20)?) != (6, NAME as u32, 0, 0) {
        return None;
    }
    let sixteen = |at: usize| -> Option<[u8; 16]> { b.get(at..at + 16)?.try_into().ok() };
    let (partition, disk) = (sixteen(0x10)?, sixteen(0x28)?);
    match le32(b, 0x24)? {
        0 => Some(Named::Gpt { disk, partition }),
        1 if partition[8..] == [0; 8] => Some(Named::Mbr {
            signature: le32(&disk, 0)?,
            start: u64::from_le_bytes(partition[..8].try_into().ok()?),
        }),
        _ => None,
    }
}
