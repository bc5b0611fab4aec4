//! The plan for a replacement disk, as it is shown, kept in a journal and
//! carried out.

use crate::disk::TableKind;
use crate::units::ByteRange;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What may be done with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Its number.
    pub number: u32,
    /// Bytes that its content can be made to; as many as it has for what
    /// cannot shrink. More than it has counts as what it has.
    pub smallest: u64,
    /// It takes the room that is left over.
    pub grow: bool,
    /// It may begin elsewhere.
    pub movable: bool,
}

/// Which identities the new disk has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ids {
    /// The old ones.
    #[default]
    Keep,
    /// New ones, at random: disk signature or GUID, and partition GUIDs.
    New,
}

/// What is wished of the new disk.
#[derive(Clone, Copy, Debug)]
pub struct TableWish {
    /// Its logical sector size in bytes.
    pub sector_size: u32,
    /// Identities.
    pub ids: Ids,
}

/// Where a partition was and where it goes; bytes of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Its number.
    pub number: u32,
    /// On the old disk.
    pub old: ByteRange,
    /// On the new disk.
    pub new: ByteRange,
    /// What the boot sector of its volume must give as hidden sectors (at byte
    /// 0x1c), in sectors, where that is another number than before. FAT and
    /// exFAT are among [`Arrangement::volume_patches`] already.
    pub hidden_sectors: Option<u32>,
}

impl Placed {
    /// True when it begins elsewhere.
    pub const fn moved(&self) -> bool {
        self.old.start != self.new.start
    }
}

/// Bytes that are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// First byte: of the disk, or of the volume.
    pub offset: u64,
    /// Whole sectors.
    #[serde(with = "hex")]
    pub bytes: Vec<u8>,
}

impl Patch {
    /// The bytes it covers.
    pub const fn range(&self) -> ByteRange {
        ByteRange {
            start: self.offset,
            end: self.offset + self.bytes.len() as u64,
        }
    }
}

/// Bytes of a volume that are written instead of those it had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumePatch {
    /// Number of the partition.
    pub number: u32,
    /// From the start of the partition.
    #[serde(flatten)]
    pub patch: Patch,
}

/// What a range holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// Zeros only.
    Zeros,
    /// Something else.
    Data,
    /// It is too long to be looked at, or cannot be read.
    Unknown,
}

/// A range of the old disk outside of all partitions that has no place on the
/// new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Bytes of the old disk.
    pub range: ByteRange,
    /// What is in it.
    pub holds: Holds,
}

/// An identity that is new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewId {
    /// Number of the partition; `None` for the disk.
    pub partition: Option<u32>,
    /// What it was, as a layout writes it.
    pub old: Option<String>,
    /// What it is.
    pub new: String,
}

/// Something that is to be known about a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// A short stable word for scripts.
    pub code: Cow<'static, str>,
    /// The sentence for people.
    pub message: String,
}

/// How small a disk can be, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Smallest {
    /// With every partition as large as it is, where it is.
    pub unchanged: u64,
    /// With every partition as small as its room says, moved where it may be.
    pub possible: u64,
}

/// The new disk.
///
/// To make it: [`kept`](Self::kept) from the old disk to the same place;
/// partitions from `old` to `new`, with
/// [`volume_patches`](Self::volume_patches); zeros into
/// [`zeroed`](Self::zeroed); and last [`table`](Self::table_patches), its first
/// sector at the very end. These ranges do not overlap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrangement {
    /// Which table it has.
    pub table: TableKind,
    /// Bytes per sector.
    pub sector_size: u32,
    /// Bytes of the old disk.
    pub old_length: u64,
    /// Bytes of the new disk.
    pub new_length: u64,
    /// How small it could be.
    pub smallest: Smallest,
    /// The partitions in the order of their numbers.
    pub partitions: Vec<Placed>,
    /// What is outside of all partitions and stays as and where it is.
    pub kept: Vec<ByteRange>,
    /// What is outside of all partitions and is not kept; without the sectors
    /// of the old table.
    pub dropped: Vec<Dropped>,
    /// Where tables were or could be taken for one: must read as zeros.
    pub zeroed: Vec<ByteRange>,
    /// The table, ascending; empty when it stays as it is.
    pub table_patches: Vec<Patch>,
    /// What changes inside of volumes other than NTFS.
    pub volume_patches: Vec<VolumePatch>,
    /// Identities that are new.
    pub new_ids: Vec<NewId>,
    /// What is to be known.
    pub notes: Vec<Remark>,
}

impl Arrangement {
    /// True when nothing is different.
    pub fn is_unchanged(&self) -> bool {
        self.old_length == self.new_length
            && self.table_patches.is_empty()
            && self.volume_patches.is_empty()
            && self.partitions.iter().all(|p| p.old == p.new)
    }

    pub(super) fn note(&mut self, code: &'static str, message: impl Into<String>) {
        self.notes.push(Remark {
            code: code.into(),
            message: message.into(),
        });
    }
}

/// Bytes as hexadecimal digits.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        s.serialize_str(&text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        let digit = |b: u8| char::from(b).to_digit(16);
        let pair = |p: &[u8]| match p {
            [h, l] => Some((digit(*h)? * 16 + digit(*l)?) as u8),
            _ => None,
        };
        (text.as_bytes().chunks(2).map(pair).collect::<Option<_>>())
            .ok_or_else(|| D::Error::custom("expected pairs of hexadecimal digits"))
    }
}
