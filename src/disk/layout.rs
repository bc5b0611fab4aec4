//! What a source consists of: a bare volume, or a disk with partitions.

use super::guid::{self, Guid};
use super::mbr;
use super::recognise::Content;
use crate::device::{SharedSource, Window};
use crate::error::{Error, Result};
use crate::units::ByteRange;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

/// Which partition table there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    /// None: the source is one volume.
    None,
    /// Master boot record.
    Mbr,
    /// GUID partition table.
    Gpt,
}

/// What a table says that a partition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionType {
    /// No table says anything: the whole source.
    Whole,
    /// Type byte of a master boot record.
    Mbr(u8),
    /// Type of a GUID partition table.
    Gpt(Guid),
}

impl PartitionType {
    /// Its name, if it is a known one.
    pub fn name(self) -> Option<&'static str> {
        match self {
            PartitionType::Whole => Some("whole source"),
            PartitionType::Mbr(kind) => mbr::type_name(kind),
            PartitionType::Gpt(kind) => guid::type_name(kind),
        }
    }

    /// As the table has it: `0x07`, a GUID, or nothing.
    pub fn id(self) -> Option<String> {
        match self {
            PartitionType::Whole => None,
            PartitionType::Mbr(kind) => Some(format!("{kind:#04x}")),
            PartitionType::Gpt(kind) => Some(kind.to_string()),
        }
    }
}

impl Serialize for PartitionType {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut t = s.serialize_struct("PartitionType", 2)?;
        t.serialize_field("id", &self.id())?;
        t.serialize_field("name", &self.name())?;
        t.end()
    }
}

/// One partition, or the whole of a source without a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Its number, as Linux counts: primary ones 1 to 4, logical ones from 5;
    /// the place in the array of a GPT, from 1.
    pub number: u32,
    /// First byte, from the start of the disk.
    pub start: u64,
    /// Bytes that are there: cut at the end of the source.
    pub length: u64,
    /// Bytes that the table claims.
    pub declared: u64,
    /// What the table says it is for.
    #[serde(rename = "type")]
    pub kind: PartitionType,
    /// Its name, in a GPT.
    pub name: Option<String>,
    /// Its own GUID, in a GPT.
    pub id: Option<Guid>,
    /// Marked as bootable, in an MBR.
    pub bootable: bool,
    /// Attribute bits, in a GPT.
    pub attributes: u64,
    /// What it holds, by looking at it.
    pub content: Content,
}

impl Partition {
    /// The bytes it occupies.
    pub const fn range(&self) -> ByteRange {
        ByteRange {
            start: self.start,
            end: self.start.saturating_add(self.length),
        }
    }

    /// The partition as a source of its own.
    pub fn open(&self, disk: &SharedSource) -> Result<Window> {
        let name = match self.kind {
            PartitionType::Whole => disk.name().to_owned(),
            _ => format!("{} partition {}", disk.name(), self.number),
        };
        Window::new(disk.clone(), self.start, self.length, name)
    }
}

/// An extended partition: a container of logical ones, no volume itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Container {
    /// Its number, 1 to 4.
    pub number: u32,
    /// The bytes it occupies, cut at the end of the source.
    pub range: ByteRange,
}

/// Something about a disk that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// A short stable word for scripts.
    pub code: &'static str,
    /// The sentence for people.
    pub message: String,
}

/// What a source consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// Which table there is.
    pub table: TableKind,
    /// Bytes per sector that the table was written for.
    pub sector_size: u32,
    /// Length of the source in bytes.
    pub length: u64,
    /// Identity of the disk: signature of an MBR, GUID of a GPT.
    pub disk_id: Option<String>,
    /// The partitions in the order of their numbers; without a table one that
    /// is the whole source.
    pub partitions: Vec<Partition>,
    /// Extended partitions.
    pub containers: Vec<Container>,
    /// Everything outside of all partitions, in order: table sectors, extended
    /// boot records, alignment, the copy of a GPT.
    pub gaps: Vec<ByteRange>,
    /// What is not as it should be.
    pub notes: Vec<Note>,
}

impl Layout {
    /// The partition with this number.
    pub fn partition(&self, number: u32) -> Result<&Partition> {
        self.partitions
            .iter()
            .find(|p| p.number == number)
            .ok_or_else(|| {
                let have: Vec<String> = self
                    .partitions
                    .iter()
                    .map(|p| p.number.to_string())
                    .collect();
                Error::not_found(format!("There is no partition {number}")).hint(
                    match have.is_empty() {
                        true => "the disk has no partitions".to_owned(),
                        false => format!("there are: {}", have.join(", ")),
                    },
                )
            })
    }

    pub(super) fn note(&mut self, code: &'static str, message: impl Into<String>) {
        self.notes.push(Note {
            code,
            message: message.into(),
        });
    }
}
