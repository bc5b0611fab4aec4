//! The result of [`super::used::analyse`], in a form that goes into reports.

use super::attr;
use super::finding::Finding;
use crate::units::{ClusterSet, RecordNo};
use serde::{Deserialize, Serialize};

/// Entries that a list in a report keeps; the counts go on.
pub const LIST_CAP: usize = 10_000;

/// A range of clusters and the file it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedRange {
    /// First cluster.
    pub first: u64,
    /// How many clusters.
    pub clusters: u64,
    /// The (base) record of the file that names them, if one does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub record: Option<RecordNo>,
}

/// Ranges of clusters: all counted, the first [`LIST_CAP`] listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeList {
    /// Clusters of all ranges; of overlapping ranges of several owners each counts,
    /// but in [`Differences::owned_free`] once.
    pub clusters: u64,
    /// How many ranges.
    pub ranges: u64,
    /// The first of them.
    pub list: Vec<NamedRange>,
}

impl RangeList {
    /// Adds a range.
    pub fn push(&mut self, first: u64, clusters: u64, record: Option<RecordNo>) {
        self.clusters = self.clusters.saturating_add(clusters);
        self.ranges += 1;
        if self.list.len() < LIST_CAP {
            self.list.push(NamedRange {
                first,
                clusters,
                record,
            });
        }
    }

    /// Adds all ranges of another list.
    pub fn append(&mut self, other: Self) {
        self.clusters = self.clusters.saturating_add(other.clusters);
        self.ranges += other.ranges;
        let room = LIST_CAP.saturating_sub(self.list.len());
        self.list.extend(other.list.into_iter().take(room));
    }
}

/// Where `$Bitmap` and the file records do not say the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differences {
    /// Used in `$Bitmap`, named by no file: kept.
    pub used_unowned: RangeList,
    /// Named by a file, free in `$Bitmap`: kept.
    pub owned_free: RangeList,
    /// Named by this file after another one had named them.
    pub owned_twice: RangeList,
    /// Named by a file, but outside the volume: cannot be kept.
    pub outside: RangeList,
}

impl Differences {
    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.used_unowned.ranges
            + self.owned_free.ranges
            + self.owned_twice.ranges
            + self.outside.ranges
            == 0
    }
}

/// How the attributes of one type store their values. Only records in use count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeUse {
    /// The type; 0 stands for all types that NTFS does not define.
    pub type_code: u32,
    /// Resident attributes.
    pub resident: u64,
    /// Bytes of their values.
    pub resident_bytes: u64,
    /// Non-resident attributes.
    pub non_resident: u64,
    /// Pieces that they are cut into, each with its own header.
    pub pieces: u64,
    /// Bytes of their streams.
    pub data_bytes: u64,
    /// Bytes of the clusters that they name.
    pub allocated_bytes: u64,
    /// Runs that they name, holes left out.
    pub extents: u64,
}

impl TypeUse {
    /// The name of the type.
    pub fn name(&self) -> &'static str {
        attr::type_name(self.type_code).unwrap_or("other")
    }

    pub(crate) fn add(&mut self, o: &Self) {
        self.resident += o.resident;
        self.resident_bytes += o.resident_bytes;
        self.non_resident += o.non_resident;
        self.pieces += o.pieces;
        self.data_bytes = self.data_bytes.saturating_add(o.data_bytes);
        self.allocated_bytes = self.allocated_bytes.saturating_add(o.allocated_bytes);
        self.extents += o.extents;
    }
}

/// How many records of each sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordCounts {
    /// Places for records.
    pub total: u64,
    /// In use: files, directories and extension records.
    pub in_use: u64,
    /// Not in use.
    pub free: u64,
    /// Unreadable or damaged.
    pub bad: u64,
    /// Base records of files, system files counted.
    pub files: u64,
    /// Base records of directories.
    pub directories: u64,
    /// Records that hold further attributes of a file.
    pub extensions: u64,
}

impl RecordCounts {
    pub(crate) fn add(&mut self, o: &Self) {
        self.total += o.total;
        self.in_use += o.in_use;
        self.free += o.free;
        self.bad += o.bad;
        self.files += o.files;
        self.directories += o.directories;
        self.extensions += o.extensions;
    }
}

/// What is wrong with a place for a record that `$MFT::$BITMAP` alone knows.
pub(crate) const NO_RECORD: &str = "Found no record, but the bitmap of the MFT calls it used";

/// A damaged record or attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRecord {
    /// Number of the record.
    pub record: RecordNo,
    /// Byte position on the volume.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offset: Option<u64>,
    /// What is wrong.
    pub why: String,
}

/// Damaged records or attributes: all counted, the first [`LIST_CAP`] listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadList {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub list: Vec<BadRecord>,
}

impl BadList {
    pub(crate) fn push(&mut self, bad: impl FnOnce() -> BadRecord) {
        self.count += 1;
        if self.list.len() < LIST_CAP {
            self.list.push(bad());
        }
    }

    pub(crate) fn append(&mut self, other: Self) {
        self.count += other.count;
        let room = LIST_CAP.saturating_sub(self.list.len());
        self.list.extend(other.list.into_iter().take(room));
    }
}

/// Numbers of records: all counted, the first [`LIST_CAP`] listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordList {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub list: Vec<RecordNo>,
}

impl RecordList {
    pub(crate) fn push(&mut self, record: RecordNo) {
        self.count += 1;
        if self.list.len() < LIST_CAP {
            self.list.push(record);
        }
    }

    pub(crate) fn append(&mut self, other: Self) {
        self.count += other.count;
        let room = LIST_CAP.saturating_sub(self.list.len());
        self.list.extend(other.list.into_iter().take(room));
    }
}

/// What the volume uses, in numbers and short lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageReport {
    /// Clusters of the volume.
    pub total_clusters: u64,
    /// Set in `$Bitmap`.
    pub bitmap_clusters: u64,
    /// Named by file records.
    pub owned_clusters: u64,
    /// To be kept: the union, the boot area, and what `$Bitmap` does not tell.
    pub kept_clusters: u64,
    /// Named by `$BadClus` and by no file.
    pub bad_clusters: u64,
    /// Where `$Bitmap` and the records differ.
    pub differences: Differences,
    /// Every attribute of every record in use, by type.
    pub classified: Vec<TypeUse>,
    /// The records.
    pub records: RecordCounts,
    /// Records that cannot be used. Their clusters are kept through `$Bitmap`.
    pub bad_records: BadList,
    /// Damaged attributes in sound records.
    pub bad_attributes: BadList,
    /// Records in use that `$MFT::$BITMAP` calls free.
    pub unmarked: RecordList,
    /// What else was found.
    pub notes: Vec<Finding>,
}

/// What the volume uses, cluster by cluster. `$Bitmap` itself is `kept` without
/// `extra`; what the records name is `kept` without `unowned`.
pub struct Usage {
    /// To be kept: `$Bitmap`, everything that a record in use names, the boot
    /// area, and everything for which `$Bitmap` cannot be read.
    pub kept: ClusterSet,
    /// Kept, but free in `$Bitmap`.
    pub extra: ClusterSet,
    /// Used in `$Bitmap`, but named by no record.
    pub unowned: ClusterSet,
    /// Named by `$BadClus` and by no file: kept has them, but they must not be read.
    pub bad_clusters: ClusterSet,
    /// The numbers.
    pub report: UsageReport,
}
