//! The attribute header. Read by hand, not by `binread`: a scan reads tens of
//! millions of them. [`AttrHeader`] documents the form on the disk, and a test
//! holds the two against each other.

use super::fault::{Fault, FaultKind};
use super::runs::RunIter;
use crate::units::Vcn;
use binread::BinRead;

/// What can be wrong with an attribute; its offset counts from the record's first byte.
pub type AttrFault = Fault;

/// `$STANDARD_INFORMATION`: times, DOS flags, security id, USN.
pub const STANDARD_INFORMATION: u32 = 0x10;
/// `$ATTRIBUTE_LIST`: where the attributes of a file with several records lie.
pub const ATTRIBUTE_LIST: u32 = 0x20;
/// `$FILE_NAME`: one name in one directory.
pub const FILE_NAME: u32 = 0x30;
/// `$OBJECT_ID` (before NTFS 3.0: `$VOLUME_VERSION`).
pub const OBJECT_ID: u32 = 0x40;
/// `$SECURITY_DESCRIPTOR`: used by NTFS before 3.0 and by a few system files.
pub const SECURITY_DESCRIPTOR: u32 = 0x50;
/// `$VOLUME_NAME`: the label.
pub const VOLUME_NAME: u32 = 0x60;
/// `$VOLUME_INFORMATION`: version and flags.
pub const VOLUME_INFORMATION: u32 = 0x70;
/// `$DATA`: a stream.
pub const DATA: u32 = 0x80;
/// `$INDEX_ROOT`: root of an index.
pub const INDEX_ROOT: u32 = 0x90;
/// `$INDEX_ALLOCATION`: blocks of an index.
pub const INDEX_ALLOCATION: u32 = 0xa0;
/// `$BITMAP`: which blocks of an index, or records of the MFT, are in use.
pub const BITMAP: u32 = 0xb0;
/// `$REPARSE_POINT`.
pub const REPARSE_POINT: u32 = 0xc0;
/// `$EA_INFORMATION`.
pub const EA_INFORMATION: u32 = 0xd0;
/// `$EA`: extended attributes.
pub const EA: u32 = 0xe0;
/// `$LOGGED_UTILITY_STREAM`: EFS and transactions.
pub const LOGGED_UTILITY_STREAM: u32 = 0x100;
/// The mark behind the last attribute.
pub const END: u32 = 0xffff_ffff;

/// The name of an attribute type, with its dollar, or `None`.
pub const fn type_name(type_code: u32) -> Option<&'static str> {
    Some(match type_code {
        STANDARD_INFORMATION => "$STANDARD_INFORMATION",
        ATTRIBUTE_LIST => "$ATTRIBUTE_LIST",
        FILE_NAME => "$FILE_NAME",
        OBJECT_ID => "$OBJECT_ID",
        SECURITY_DESCRIPTOR => "$SECURITY_DESCRIPTOR",
        VOLUME_NAME => "$VOLUME_NAME",
        VOLUME_INFORMATION => "$VOLUME_INFORMATION",
        DATA => "$DATA",
        INDEX_ROOT => "$INDEX_ROOT",
        INDEX_ALLOCATION => "$INDEX_ALLOCATION",
        BITMAP => "$BITMAP",
        REPARSE_POINT => "$REPARSE_POINT",
        EA_INFORMATION => "$EA_INFORMATION",
        EA => "$EA",
        0xf0 => "$PROPERTY_SET",
        LOGGED_UTILITY_STREAM => "$LOGGED_UTILITY_STREAM",
        _ => return None,
    })
}

/// The fields that every attribute begins with, as they lie on the disk.
#[derive(BinRead, Clone, Debug)]
#[br(little)]
pub struct AttrHeader {
    /// 0x00: type.
    pub type_code: u32,
    /// 0x04: bytes of the attribute with its header; a multiple of 8.
    pub length: u32,
    /// 0x08: 0 resident, 1 non-resident.
    pub non_resident: u8,
    /// 0x09: UTF-16 units of the name.
    pub name_length: u8,
    /// 0x0a: place of the name, bytes from the start of the attribute.
    pub name_offset: u16,
    /// 0x0c: [`AttrFlags`].
    pub flags: u16,
    /// 0x0e: number, unique inside one record.
    pub id: u16,
}

/// What follows in a resident attribute.
#[derive(BinRead, Clone, Debug)]
#[br(little)]
pub struct ResidentHeader {
    /// 0x10: bytes of the value.
    pub value_length: u32,
    /// 0x14: place of the value, bytes from the start of the attribute.
    pub value_offset: u16,
    /// 0x16: 1 when an index refers to it.
    pub indexed: u8,
    /// 0x17: unused.
    pub unused_17: u8,
}

/// What follows in a non-resident attribute.
#[derive(BinRead, Clone, Debug)]
#[br(little)]
pub struct NonResidentHeader {
    /// 0x10: first VCN that the mapping pairs describe.
    pub lowest_vcn: u64,
    /// 0x18: last VCN that they describe; -1 for an empty stream.
    pub highest_vcn: u64,
    /// 0x20: place of the mapping pairs, bytes from the start of the attribute.
    pub mapping_pairs_offset: u16,
    /// 0x22: clusters of a compression unit, as a power of two; 0: none.
    pub compression_unit: u8,
    /// 0x23: unused.
    pub unused_23: [u8; 5],
    /// 0x28: bytes of the stream's clusters, holes counted. The sizes stand only in
    /// the piece whose lowest VCN is 0.
    pub allocated: u64,
    /// 0x30: bytes of the stream.
    pub size: u64,
    /// 0x38: bytes behind which the stream reads as zeros.
    pub initialized: u64,
    // 0x40: bytes of the clusters without holes, only when compressed or sparse.
}

/// The flags of an attribute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AttrFlags(pub u16);

impl AttrFlags {
    /// Compressed (LZNT1 is method 1 of the low byte).
    pub const fn compressed(self) -> bool {
        self.0 & 0x00ff != 0
    }
    /// Encrypted by EFS.
    pub const fn encrypted(self) -> bool {
        self.0 & 0x4000 != 0
    }
    /// Sparse.
    pub const fn sparse(self) -> bool {
        self.0 & 0x8000 != 0
    }
}

/// Where the value of an attribute is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form<'a> {
    /// In the record.
    Resident {
        /// The value.
        value: &'a [u8],
    },
    /// In clusters.
    NonResident(NonResident<'a>),
}

/// What the header of a non-resident attribute says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonResident<'a> {
    /// First VCN that the mapping pairs describe.
    pub lowest_vcn: Vcn,
    /// Last VCN that they describe; `u64::MAX` with lowest 0 for an empty stream.
    pub highest_vcn: Vcn,
    /// Bytes of the stream's clusters, holes counted; valid where lowest is 0.
    pub allocated: u64,
    /// Bytes of the stream; valid where lowest is 0.
    pub size: u64,
    /// Bytes behind which the stream reads as zeros; valid where lowest is 0.
    pub initialized: u64,
    /// Bytes of the clusters without holes, when compressed or sparse.
    pub compressed_total: Option<u64>,
    /// Clusters of a compression unit as a power of two; 0: none.
    pub compression_unit: u8,
    /// Where the clusters lie, coded; see [`super::runs`].
    pub mapping_pairs: &'a [u8],
}

impl<'a> NonResident<'a> {
    /// The runs, decoded one by one.
    #[inline]
    pub fn runs(&self) -> RunIter<'a> {
        RunIter::new(self.mapping_pairs, self.lowest_vcn)
    }

    /// VCN behind the last one that this piece describes.
    #[inline]
    pub const fn end_vcn(&self) -> Vcn {
        Vcn(self.highest_vcn.0.wrapping_add(1))
    }
}

/// One attribute of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its type.
    pub type_code: u32,
    /// Its number, unique inside one record.
    pub id: u16,
    /// Its flags.
    pub flags: AttrFlags,
    /// Its name, as UTF-16 little-endian bytes; empty for the unnamed one.
    pub name: &'a [u8],
    /// Where its value is.
    pub form: Form<'a>,
    /// Place of the header, bytes from the start of the record.
    pub offset: u32,
    /// Bytes of the attribute with its header.
    pub length: u32,
}

impl<'a> Attribute<'a> {
    /// The value, when it is resident.
    #[inline]
    pub const fn resident(&self) -> Option<&'a [u8]> {
        match self.form {
            Form::Resident { value } => Some(value),
            Form::NonResident(_) => None,
        }
    }

    /// The header, when it is non-resident.
    #[inline]
    pub const fn non_resident(&self) -> Option<&NonResident<'a>> {
        match &self.form {
            Form::Resident { .. } => None,
            Form::NonResident(n) => Some(n),
        }
    }
}

#[inline(always)]
pub(crate) fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}
#[inline(always)]
pub(crate) fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(b[at..at + 4].try_into().expect("four bytes"))
}
#[inline(always)]
pub(crate) fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(b[at..at + 8].try_into().expect("eight bytes"))
}

/// Smallest attribute: the header and the part for a resident value.
pub(crate) const MIN_ATTR: usize = 0x18;

/// Reads the attribute that `a` holds from its first to its last byte (at least
/// [`MIN_ATTR`]); `offset` is its place in the record.
#[inline]
pub(crate) fn parse_attribute(a: &[u8], offset: usize) -> Result<Attribute<'_>, AttrFault> {
    debug_assert!(a.len() >= MIN_ATTR);
    let flags = AttrFlags(u16_at(a, 0x0c));
    let bad = |kind, at: usize, found: usize, expected: usize| {
        Err(Fault::new(kind, offset + at, found as u64, expected as u64))
    };
    let name_units = usize::from(a[9]);
    let name: &[u8] = if name_units == 0 {
        &[]
    } else {
        let from = usize::from(u16_at(a, 0x0a));
        match a.get(from..from + 2 * name_units) {
            Some(name) => name,
            None => return bad(FaultKind::AttrName, 0x0a, from + 2 * name_units, a.len()),
        }
    };
    let form = match a[8] {
        0 => {
            let (from, len) = (usize::from(u16_at(a, 0x14)), u32_at(a, 0x10) as usize);
            match from.checked_add(len).and_then(|end| a.get(from..end)) {
                Some(value) => Form::Resident { value },
                None => {
                    return bad(
                        FaultKind::AttrValue,
                        0x10,
                        from.saturating_add(len),
                        a.len(),
                    );
                }
            }
        }
        1 => {
            let Some(h) = a.get(..0x40) else {
                return bad(FaultKind::AttrLength, 4, a.len(), 0x40);
            };
            let from = usize::from(u16_at(h, 0x20));
            let mapping_pairs = match a.get(from..) {
                Some(pairs) if from >= 0x40 => pairs,
                _ => return bad(FaultKind::MappingPairs, 0x20, from, a.len()),
            };
            let (lowest, highest) = (u64_at(h, 0x10), u64_at(h, 0x18));
            let behind = highest.wrapping_add(1);
            if behind < lowest || behind > i64::MAX as u64 {
                let fault = Fault::new(FaultKind::VcnRange, offset + 0x18, highest, lowest);
                return Err(fault);
            }
            let has_total = lowest == 0 && from >= 0x48 && flags.0 & 0x80ff != 0;
            Form::NonResident(NonResident {
                lowest_vcn: Vcn(lowest),
                highest_vcn: Vcn(highest),
                allocated: u64_at(h, 0x28),
                size: u64_at(h, 0x30),
                initialized: u64_at(h, 0x38),
                compressed_total: has_total.then(|| u64_at(a, 0x40)),
                compression_unit: h[0x22],
                mapping_pairs,
            })
        }
        other => return bad(FaultKind::AttrForm, 8, usize::from(other), 1),
    };
    Ok(Attribute {
        type_code: u32_at(a, 0),
        id: u16_at(a, 0x0e),
        flags,
        name,
        form,
        offset: offset as u32,
        length: a.len() as u32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use binread::{BinReaderExt, io::Cursor};
    use proptest::prelude::*;

    proptest! {
        /// The documented form and the fast reader see the same fields.
        #[test]
        fn agrees_with_the_documented_form(mut a in prop::collection::vec(any::<u8>(), 0x50..0x90),
                                           non_resident in any::<bool>(), plain in any::<bool>()) {
            a[8] = u8::from(non_resident);
            if plain {
                a[9] = 0;
                if non_resident {
                    a[0x10..0x22].fill(0);
                    a[0x20] = 0x48;
                } else {
                    a[0x10..0x16].copy_from_slice(&[4, 0, 0, 0, 0x18, 0]);
                }
            }
            let mut c = Cursor::new(&a[..]);
            let head: AttrHeader = c.read_le().unwrap();
            let Ok(got) = parse_attribute(&a, 0x38) else {
                prop_assert!(!plain);
                return Ok(());
            };
            prop_assert_eq!(got.type_code, head.type_code);
            prop_assert_eq!(got.id, head.id);
            prop_assert_eq!(got.flags.0, head.flags);
            prop_assert_eq!(got.name.len(), 2 * usize::from(head.name_length));
            match got.form {
                Form::Resident { value } => {
                    let r: ResidentHeader = c.read_le().unwrap();
                    let from = usize::from(r.value_offset);
                    prop_assert_eq!(value, &a[from..from + r.value_length as usize]);
                }
                Form::NonResident(n) => {
                    let h: NonResidentHeader = c.read_le().unwrap();
                    prop_assert_eq!(n.lowest_vcn.0, h.lowest_vcn);
                    prop_assert_eq!(n.highest_vcn.0, h.highest_vcn);
                    prop_assert_eq!((n.allocated, n.size, n.initialized), (h.allocated, h.size, h.initialized));
                    prop_assert_eq!(n.compression_unit, h.compression_unit);
                    prop_assert_eq!(n.mapping_pairs, &a[usize::from(h.mapping_pairs_offset)..]);
                }
            }
        }
    }

    #[test]
    fn flags() {
        assert!(AttrFlags(1).compressed() && !AttrFlags(0x4000).compressed());
        assert!(AttrFlags(0x4000).encrypted() && AttrFlags(0x8000).sparse());
    }
}
