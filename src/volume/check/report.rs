//! What a check of a volume found: every kind of issue counted, the first of
//! each kind listed.

use crate::error::{Error, ErrorKind};
use crate::units::RecordNo;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Issues of one code that a report lists; the counts go on.
pub const ISSUE_CAP: usize = 1000;

/// How much an issue matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The structures contradict each other.
    Error,
    /// Something could not be read, so it was not checked.
    Gap,
    /// Worth knowing; a sound volume may be so.
    Note,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $text:literal $severity:ident,)*) => {
        /// What sort of issue it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Code] = &[$(Code::$name),*];

            /// The word for scripts, the same as in JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// How much it matters.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }
        }
    };
}

codes! {
    /// The first boot sector is damaged, or its geometry is not the one in use.
    BootSector "boot-sector" Error,
    /// The copy of the boot sector is not the same.
    BootCopy "boot-copy" Error,
    /// The source ends before the copy of the boot sector.
    BootCopyMissing "boot-copy-missing" Note,
    /// The source ends before the volume does.
    SourceShort "source-short" Error,
    /// `$Volume` does not tell label, version and flags.
    VolumeRecord "volume-record" Error,
    /// A flag of the volume is set: Windows will check it, or was doing something.
    VolumeFlags "volume-flags" Note,
    /// `$LogFile` is not empty, or its state cannot be told.
    Log "log" Note,
    /// `$MFTMirr` is not the same as the first file records.
    Mirror "mirror" Error,
    /// `$UpCase` cannot be used.
    UpCase "upcase" Error,
    /// The extents of `$MFT` are damaged, or it is longer than they are.
    MftExtents "mft-extents" Error,
    /// A file record that cannot be used.
    Record "record" Error,
    /// A field in the header of a file record.
    RecordHeader "record-header" Error,
    /// A damaged attribute.
    Attribute "attribute" Error,
    /// An attribute that must be there is missing, or one is there twice.
    Attributes "attributes" Error,
    /// A record in use that `$MFT:$BITMAP` calls free.
    MftBitmapFree "mft-bitmap-free" Error,
    /// A record not in use that `$MFT:$BITMAP` calls used.
    MftBitmapUsed "mft-bitmap-used" Error,
    /// An attribute list that cannot be followed, or does not match the attributes.
    AttributeList "attribute-list" Error,
    /// An extension record that its base record does not name.
    Extension "extension" Error,
    /// Mapping pairs that do not cover the VCNs of their attribute.
    MappingPairs "mapping-pairs" Error,
    /// Sizes that contradict each other or the clusters.
    Sizes "sizes" Error,
    /// Clusters outside the volume.
    Outside "outside" Error,
    /// Clusters that two files own.
    OwnedTwice "owned-twice" Error,
    /// Clusters of a file that `$Bitmap` calls free.
    OwnedFree "owned-free" Error,
    /// Clusters that `$Bitmap` calls used and nobody owns.
    UsedUnowned "used-unowned" Error,
    /// `$Bitmap` is too short or damaged.
    Bitmap "bitmap" Error,
    /// Bits of `$Bitmap` behind the last cluster that are not set.
    BitmapTail "bitmap-tail" Note,
    /// `$BadClus:$Bad` does not span the volume.
    BadClusters "bad-clusters" Error,
    /// A directory without its index, or an index without a directory.
    IndexMissing "index-missing" Error,
    /// A node of an index is damaged.
    IndexNode "index-node" Error,
    /// Entries of an index that are not in order.
    IndexOrder "index-order" Error,
    /// The bitmap of an index does not mark exactly its blocks.
    IndexBitmap "index-bitmap" Error,
    /// An index entry whose file does not exist or has no such name.
    IndexEntry "index-entry" Error,
    /// A name that its directory does not have.
    NameNotIndexed "name-not-indexed" Error,
    /// A name that no rule allows.
    Name "name" Error,
    /// The link count is not the number of names.
    LinkCount "link-count" Error,
    /// A DOS name without a long one, or several of them.
    DosName "dos-name" Error,
    /// A directory from which no way leads to the root.
    Parent "parent" Error,
    /// `$SDS`, `$SII` and `$SDH` do not say the same.
    Security "security" Error,
    /// A file with a security id that `$SII` does not have.
    SecurityId "security-id" Error,
    /// `$ObjId:$O` and the object ids of the files differ.
    ObjectId "object-id" Error,
    /// `$Reparse:$R` and the reparse points of the files differ.
    Reparse "reparse" Error,
    /// Names differ in more places than were looked at.
    More "more" Error,
    /// Something could not be read.
    Unreadable "unreadable" Gap,
    /// Indexes or lists name the same blocks so often that the check ended early.
    Budget "budget" Gap,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    /// Its sort.
    pub code: Code,
    /// How much it matters.
    pub severity: Severity,
    /// The sentence: what, found, expected.
    pub message: String,
    /// The file record it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub record: Option<RecordNo>,
    /// Absolute byte position on the volume, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offset: Option<u64>,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.offset {
            Some(o) => write!(f, ", at byte {o:#x}"),
            None => Ok(()),
        }
    }
}

/// What a check came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// File records in use.
    pub records: u64,
    /// Directories.
    pub directories: u64,
    /// Names in all directories.
    pub names: u64,
    /// Index blocks that were read.
    pub index_blocks: u64,
    /// Clusters that files own.
    pub owned_clusters: u64,
    /// Security descriptors that were checked.
    pub security_descriptors: u64,
    /// How many issues of each sort.
    pub counts: BTreeMap<Code, u64>,
    /// The first [`ISSUE_CAP`] of each sort.
    #[serde(skip)]
    pub issues: Vec<Issue>,
}

impl Check {
    /// Issues of one severity, listed or not.
    pub fn count(&self, severity: Severity) -> u64 {
        let of = self.counts.iter().filter(|(c, _)| c.severity() == severity);
        of.map(|(_, n)| n).sum()
    }

    /// True when nothing contradicts anything and everything could be read.
    /// Notes do not count.
    pub fn is_consistent(&self) -> bool {
        self.count(Severity::Error) + self.count(Severity::Gap) == 0
    }
}

/// Issues as they come up, capped.
#[derive(Debug, Default)]
pub(super) struct Issues {
    pub counts: BTreeMap<Code, u64>,
    pub list: Vec<Issue>,
    listed: BTreeMap<Code, usize>,
}

impl Issues {
    /// Adds one; its sentence is made only while there is room.
    pub fn push(
        &mut self,
        code: Code,
        record: Option<RecordNo>,
        offset: Option<u64>,
        message: impl FnOnce() -> String,
    ) {
        self.many(code, 1, record, offset, message);
    }

    /// Adds one that stands for several.
    pub fn many(
        &mut self,
        code: Code,
        n: u64,
        record: Option<RecordNo>,
        offset: Option<u64>,
        message: impl FnOnce() -> String,
    ) {
        let count = self.counts.entry(code).or_default();
        *count = count.saturating_add(n);
        self.keep(code, || Issue {
            code,
            severity: code.severity(),
            message: message(),
            record,
            offset,
        });
    }

    fn keep(&mut self, code: Code, issue: impl FnOnce() -> Issue) {
        let listed = self.listed.entry(code).or_default();
        if *listed < ISSUE_CAP {
            *listed += 1;
            self.list.push(issue());
        }
    }

    /// From an error: what could not be read is a gap, what is damaged is `code`.
    pub fn failed(&mut self, code: Code, record: Option<RecordNo>, what: &str, e: &Error) {
        let code = match e.kind() {
            ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Unsupported => code,
            _ => Code::Unreadable,
        };
        self.push(code, record, e.offset(), || {
            format!("{what}: {}", e.message())
        });
    }

    pub fn append(&mut self, other: Issues) {
        for (code, n) in other.counts {
            let count = self.counts.entry(code).or_default();
            *count = count.saturating_add(n);
        }
        for issue in other.list {
            self.keep(issue.code, || issue);
        }
    }
}
