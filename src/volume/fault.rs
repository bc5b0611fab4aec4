//! What is wrong with a stored structure: small and `Copy`, because the hot
//! path makes them; whoever knows the absolute position makes an [`Error`].

use crate::error::Error;
use std::fmt;

/// The rule that the bytes break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The four bytes that every record begins with.
    Signature,
    /// Place of the update sequence array.
    FixupOffset,
    /// Length of the update sequence array.
    FixupCount,
    /// The end of a sector does not carry the update sequence number: torn write.
    FixupMismatch,
    /// Bytes in use of the record.
    UsedLength,
    /// Place of the first attribute.
    FirstAttribute,
    /// No end marker behind the last attribute.
    NoEndMarker,
    /// Length of an attribute.
    AttrLength,
    /// The attribute is neither resident nor non-resident.
    AttrForm,
    /// Name of an attribute.
    AttrName,
    /// Resident value of an attribute.
    AttrValue,
    /// Place of the mapping pairs.
    MappingPairs,
    /// Lowest and highest VCN do not make a range.
    VcnRange,
    /// A mapping pair with impossible field widths.
    RunHeader,
    /// The mapping pairs end inside a pair or without a zero byte.
    RunsEnd,
    /// A run of zero or of more than 2^63 clusters.
    RunLength,
    /// A run whose VCN or LCN leaves the range of numbers.
    RunRange,
    /// An entry of an attribute list.
    ListEntry,
}

impl FaultKind {
    /// The thing that is wrong, in words.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Signature => "record signature",
            Self::FixupOffset => "place of the update sequence array",
            Self::FixupCount => "length of the update sequence array",
            Self::FixupMismatch => "update sequence number at the end of a sector (torn write)",
            Self::UsedLength => "bytes in use of the record",
            Self::FirstAttribute => "place of the first attribute",
            Self::NoEndMarker => "end marker of the attributes",
            Self::AttrLength => "length of the attribute",
            Self::AttrForm => "resident flag of the attribute",
            Self::AttrName => "end of the attribute's name",
            Self::AttrValue => "end of the attribute's value",
            Self::MappingPairs => "place of the mapping pairs",
            Self::VcnRange => "highest VCN of the attribute",
            Self::RunHeader => "field widths of a mapping pair",
            Self::RunsEnd => "end of the mapping pairs",
            Self::RunLength => "length of a run",
            Self::RunRange => "place of a run",
            Self::ListEntry => "length of an attribute list entry",
        }
    }
}

/// One broken rule: which, where inside the structure, what was found there and
/// what would have been right (or the limit that was passed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Fault {
    /// The rule.
    pub kind: FaultKind,
    /// Bytes from the start of the structure that was handed to the parser.
    pub offset: u32,
    /// The value found.
    pub found: u64,
    /// The value, or the limit, expected.
    pub expected: u64,
}

impl Fault {
    pub(crate) const fn new(kind: FaultKind, offset: usize, found: u64, expected: u64) -> Self {
        Self {
            kind,
            offset: offset as u32,
            found,
            expected,
        }
    }

    /// The same fault seen from an enclosing structure, `by` bytes before.
    pub const fn shifted(mut self, by: usize) -> Self {
        self.offset = self.offset.saturating_add(by as u32);
        self
    }

    /// As a public error; `base` is the absolute byte position of the structure.
    pub fn into_error(self, base: u64) -> Error {
        Error::damaged(self.to_string()).at(base.saturating_add(u64::from(self.offset)))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Found {:#x} for the {}, expected {:#x}",
            self.found,
            self.kind.what(),
            self.expected
        )
    }
}

impl std::error::Error for Fault {}
