//! Floor 0: the field's own units as types. Arithmetic that could leave the
//! range of a `u64` is checked at the edges (parsers), so that the plain
//! operators below only ever see values a volume can have.

mod set;
mod size;

pub use set::{ClusterSet, Runs};
pub use size::{human_bytes, parse_size};

use std::fmt;
use std::ops::Range;

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The bare number.
            #[inline]
            pub const fn get(self) -> u64 {
                self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

unit!(
    /// Logical cluster number: a cluster's place on the volume.
    Lcn
);
unit!(
    /// Virtual cluster number: a cluster's place inside a stream.
    Vcn
);
unit!(
    /// A count of clusters.
    Clusters
);
unit!(
    /// A byte position, from the start of whatever is being read.
    ByteOffset
);
unit!(
    /// A count of bytes.
    ByteLen
);
unit!(
    /// Logical block address: a sector's place on a disk.
    Lba
);
unit!(
    /// Number of a file record in the MFT.
    RecordNo
);

impl ByteOffset {
    /// The position `len` bytes further on, or `None` beyond `u64`.
    #[inline]
    pub const fn checked_add(self, len: u64) -> Option<Self> {
        match self.0.checked_add(len) {
            Some(v) => Some(Self(v)),
            None => None,
        }
    }
}

impl Lcn {
    /// Byte position of this cluster on the volume, or `None` beyond `u64`.
    #[inline]
    pub const fn byte_offset(self, cluster_size: u32) -> Option<ByteOffset> {
        match self.0.checked_mul(cluster_size as u64) {
            Some(v) => Some(ByteOffset(v)),
            None => None,
        }
    }
}

/// A half-open range of bytes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// First byte behind the range.
    pub end: u64,
}

impl ByteRange {
    /// `start..start + len`, or `None` beyond `u64`.
    pub const fn new(start: u64, len: u64) -> Option<Self> {
        match start.checked_add(len) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }
    /// Number of bytes.
    pub const fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
    /// True when it holds no byte.
    pub const fn is_empty(&self) -> bool {
        self.end <= self.start
    }
    /// The bytes both ranges share, if any.
    pub fn intersect(&self, other: &ByteRange) -> Option<ByteRange> {
        let r = ByteRange {
            start: self.start.max(other.start),
            end: self.end.min(other.end),
        };
        (!r.is_empty()).then_some(r)
    }
    /// As a standard range.
    pub const fn range(&self) -> Range<u64> {
        self.start..self.end
    }
}

/// A file reference: record number and the sequence number it was made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileRef {
    /// Record number (48 bits on disk).
    pub record: RecordNo,
    /// Sequence number; 0 means "not checked".
    pub sequence: u16,
}

impl FileRef {
    /// From the 64-bit form used on disk.
    #[inline]
    pub const fn from_raw(raw: u64) -> Self {
        Self {
            record: RecordNo(raw & 0xffff_ffff_ffff),
            sequence: (raw >> 48) as u16,
        }
    }
    /// To the 64-bit form used on disk.
    #[inline]
    pub const fn to_raw(self) -> u64 {
        self.record.0 & 0xffff_ffff_ffff | (self.sequence as u64) << 48
    }
}

impl fmt::Display for FileRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.record.0, self.sequence)
    }
}

/// Where the clusters of an extent lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// On the volume, from this cluster on.
    At(Lcn),
    /// Nowhere: a hole, read as zeros.
    Hole,
}

/// One mapping pair, resolved: `len` clusters of a stream from `vcn` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// First cluster inside the stream.
    pub vcn: Vcn,
    /// Where they lie.
    pub place: Place,
    /// How many clusters; never 0.
    pub len: Clusters,
}

impl Extent {
    /// The clusters on the volume, or `None` for a hole.
    pub fn lcns(&self) -> Option<Range<u64>> {
        match self.place {
            Place::At(lcn) => Some(lcn.0..lcn.0.checked_add(self.len.0)?),
            Place::Hole => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_reference_keeps_both_parts() {
        let r = FileRef::from_raw(0x0007_0000_0001_2345);
        assert_eq!((r.record.0, r.sequence), (0x1_2345, 7));
        assert_eq!(r.to_raw(), 0x0007_0000_0001_2345);
    }

    #[test]
    fn ranges_intersect() {
        let a = ByteRange { start: 10, end: 20 };
        let b = ByteRange { start: 15, end: 40 };
        assert_eq!(a.intersect(&b), Some(ByteRange { start: 15, end: 20 }));
        assert_eq!(a.intersect(&ByteRange { start: 20, end: 21 }), None);
        assert_eq!(ByteRange::new(u64::MAX, 2), None);
    }
}
