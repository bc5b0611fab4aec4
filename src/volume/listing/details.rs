//! What a comparison wants of a file beside its rows: digests of the attributes
//! that few files have, collected by the same scan.

use super::Listing;
use crate::units::FileRef;
use crate::volume::attr::{self, Attribute, Form};
use crate::volume::digest::digest_bytes;
use crate::volume::names::{FileName, Space};

/// Which attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `$SECURITY_DESCRIPTOR`.
    Security,
    /// A short DOS name.
    ShortName,
    /// `$REPARSE_POINT`.
    Reparse,
    /// `$OBJECT_ID`.
    ObjectId,
    /// `$EA`.
    Ea,
    /// `$EA_INFORMATION`.
    EaInformation,
    /// `$LOGGED_UTILITY_STREAM` with the name `$EFS`.
    Efs,
}

/// The name of the stream that EFS keeps its keys in.
pub const EFS: &[u8] = b"$\0E\0F\0S\0";

impl Kind {
    /// Type and name of the attribute.
    pub const fn attribute(self) -> (u32, &'static [u8]) {
        match self {
            Self::Security => (attr::SECURITY_DESCRIPTOR, b""),
            Self::ShortName => (attr::FILE_NAME, b""),
            Self::Reparse => (attr::REPARSE_POINT, b""),
            Self::ObjectId => (attr::OBJECT_ID, b""),
            Self::Ea => (attr::EA, b""),
            Self::EaInformation => (attr::EA_INFORMATION, b""),
            Self::Efs => (attr::LOGGED_UTILITY_STREAM, EFS),
        }
    }
}

/// One such attribute of a file.
#[derive(Clone, Copy, Debug)]
pub struct Detail {
    /// Number of the base record.
    pub record: u32,
    /// Sequence number of the base record.
    pub sequence: u16,
    /// Which.
    pub kind: Kind,
    /// Digest of the value; `None` when it lies in clusters, which a scan does not read.
    pub digest: Option<u64>,
}

/// The first bytes of a digest.
pub fn short(digest: [u8; 32]) -> u64 {
    u64::from_le_bytes(*digest.first_chunk().expect("32 bytes"))
}

/// What there is to keep of an attribute of this file.
pub(super) fn detail(file: FileRef, a: &Attribute<'_>) -> Option<Detail> {
    let kind = match a.type_code {
        attr::SECURITY_DESCRIPTOR => Kind::Security,
        attr::FILE_NAME => Kind::ShortName,
        attr::REPARSE_POINT => Kind::Reparse,
        attr::OBJECT_ID => Kind::ObjectId,
        attr::EA => Kind::Ea,
        attr::EA_INFORMATION => Kind::EaInformation,
        attr::LOGGED_UTILITY_STREAM if a.name == EFS => Kind::Efs,
        _ => return None,
    };
    let digest = match &a.form {
        Form::Resident { value } if kind == Kind::ShortName => {
            let name = FileName::parse(value).filter(|n| n.space == Space::Dos)?;
            Some(short(digest_bytes(name.name)))
        }
        Form::Resident { value } => Some(short(digest_bytes(value))),
        Form::NonResident(_) if kind == Kind::ShortName => return None,
        Form::NonResident(n) if n.lowest_vcn.0 == 0 => None,
        // The other pieces.
        Form::NonResident(_) => return None,
    };
    Some(Detail {
        record: u32::try_from(file.record.0).ok()?,
        sequence: file.sequence,
        kind,
        digest,
    })
}

impl Listing {
    /// The details of all files, by record; empty unless
    /// [`Listing::scan_details`] made this listing.
    pub fn take_details(&mut self) -> Vec<Detail> {
        let mut all = Vec::with_capacity(self.table.parts.iter().map(|p| p.details().len()).sum());
        for part in &mut self.table.parts {
            all.append(&mut part.take_details());
        }
        all.sort_unstable_by_key(|d| (d.record, d.kind as u8, d.digest));
        all
    }
}
