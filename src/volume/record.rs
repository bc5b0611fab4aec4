//! The file record: fixups, header, and its attributes one by one.
//!
//! Field places: Linux-NTFS documentation, "FILE Record".

use super::attr::{Attribute, END, MIN_ATTR, parse_attribute, u16_at, u32_at, u64_at};
use super::fault::{Fault, FaultKind};
use crate::units::{FileRef, RecordNo};
use binread::BinRead;

pub use super::attr::AttrFault;

/// What can be wrong with fixups; its offset counts from the record's first byte.
pub type FixupFault = Fault;

/// Bytes protected by one update sequence number, whatever the sector size is.
pub const STRIDE: usize = 512;

/// `FILE`, the signature of a sound file record.
pub const SIGNATURE: [u8; 4] = *b"FILE";
/// `BAAD`, the signature that a driver gives to a record it found torn.
pub const BAAD: [u8; 4] = *b"BAAD";

/// The record header as it lies on the disk.
#[derive(BinRead, Clone, Debug)]
#[br(little)]
pub struct RecordHeader {
    /// 0x00: `FILE`.
    pub signature: [u8; 4],
    /// 0x04: place of the update sequence array, bytes.
    pub usa_offset: u16,
    /// 0x06: its length in 16-bit words: one, and one for each 512 bytes.
    pub usa_count: u16,
    /// 0x08: log sequence number of the last change.
    pub lsn: u64,
    /// 0x10: how often the record was taken into use.
    pub sequence: u16,
    /// 0x12: names of the file.
    pub links: u16,
    /// 0x14: place of the first attribute, bytes.
    pub first_attribute: u16,
    /// 0x16: 1 in use, 2 directory, 4 in `$Extend`, 8 view index.
    pub flags: u16,
    /// 0x18: bytes in use, with the end mark.
    pub used: u32,
    /// 0x1c: bytes of the record.
    pub allocated: u32,
    /// 0x20: base record, or 0 when this is one.
    pub base: u64,
    /// 0x28: the number that the next new attribute will get.
    pub next_attr_id: u16,
    /// 0x2a: unused. In NTFS before 3.1 the update sequence array begins here.
    pub unused_2a: u16,
    /// 0x2c: number of the record (NTFS 3.1).
    pub number: u32,
}

/// Checks that every 512 bytes of a record or index block carry its update
/// sequence number, without changing it. Returns the bytes of the array.
#[inline]
pub(crate) fn check_fixups(record: &[u8]) -> Result<(usize, usize), FixupFault> {
    let bad = |kind, at, found: usize, expected: usize| {
        Err(Fault::new(kind, at, found as u64, expected as u64))
    };
    let blocks = record.len() / STRIDE;
    if blocks == 0 || !record.len().is_multiple_of(STRIDE) {
        return bad(FaultKind::UsedLength, 0, record.len(), STRIDE);
    }
    let from = usize::from(u16_at(record, 4));
    let count = usize::from(u16_at(record, 6));
    if count != blocks + 1 {
        return bad(FaultKind::FixupCount, 6, count, blocks + 1);
    }
    let end = from + 2 * count;
    if from < 8 || from & 1 != 0 || end > STRIDE - 2 {
        return bad(FaultKind::FixupOffset, 4, from, 0x30);
    }
    let number = u16_at(record, from);
    for block in 1..=blocks {
        let at = block * STRIDE - 2;
        let found = u16_at(record, at);
        if found != number {
            return bad(FaultKind::FixupMismatch, at, found.into(), number.into());
        }
    }
    Ok((from, blocks))
}

/// Puts back the last two bytes of every 512, which the update sequence array
/// keeps. A record that does not carry its number everywhere stays unchanged.
/// Serves index blocks (`INDX`) and log pages too: they have the same fields.
#[inline]
pub fn apply_fixups(record: &mut [u8]) -> Result<(), FixupFault> {
    let (from, blocks) = check_fixups(record)?;
    for block in 1..=blocks {
        let (at, saved) = (block * STRIDE - 2, from + 2 * block);
        record[at] = record[saved];
        record[at + 1] = record[saved + 1];
    }
    Ok(())
}

/// A file record whose fixups were applied, seen in place.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    bytes: &'a [u8],
    position: RecordNo,
    first: u16,
    used: u32,
}

/// Bytes of a record header that every version has.
const MIN_HEADER: usize = 0x2a;

impl<'a> RecordView<'a> {
    /// Sees `bytes` (fixed up) as the record at place `position` of the MFT.
    /// Records that are not in use pass too.
    #[inline]
    pub fn new(bytes: &'a [u8], position: RecordNo) -> Result<Self, Fault> {
        let bad = |kind, at, found: u64, expected: u64| Err(Fault::new(kind, at, found, expected));
        if bytes.len() < STRIDE {
            return bad(
                FaultKind::UsedLength,
                0x18,
                bytes.len() as u64,
                STRIDE as u64,
            );
        }
        if bytes[..4] != SIGNATURE {
            let want = u32::from_le_bytes(SIGNATURE);
            return bad(
                FaultKind::Signature,
                0,
                u32_at(bytes, 0).into(),
                want.into(),
            );
        }
        let (first, used) = (u16_at(bytes, 0x14), u32_at(bytes, 0x18));
        if used as usize > bytes.len() || (used as usize) < MIN_HEADER {
            return bad(FaultKind::UsedLength, 0x18, used.into(), bytes.len() as u64);
        }
        if usize::from(first) < MIN_HEADER || u32::from(first) > used {
            return bad(FaultKind::FirstAttribute, 0x14, first.into(), used.into());
        }
        Ok(Self {
            bytes,
            position,
            first,
            used,
        })
    }

    /// The bytes of the record, fixups applied.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its number: the place in the MFT where it was read.
    #[inline]
    pub const fn number(&self) -> RecordNo {
        self.position
    }

    /// The number that it carries itself (NTFS 3.1), low 32 bits only.
    pub fn stored_number(&self) -> Option<u32> {
        (u16_at(self.bytes, 4) >= 0x30).then(|| u32_at(self.bytes, 0x2c))
    }

    /// Log sequence number of its last change.
    pub fn lsn(&self) -> u64 {
        u64_at(self.bytes, 8)
    }

    /// How often it was taken into use.
    #[inline]
    pub fn sequence(&self) -> u16 {
        u16_at(self.bytes, 0x10)
    }

    /// Its number and sequence, as directories refer to it.
    #[inline]
    pub fn file_ref(&self) -> FileRef {
        FileRef {
            record: self.position,
            sequence: self.sequence(),
        }
    }

    /// Number of names.
    #[inline]
    pub fn links(&self) -> u16 {
        u16_at(self.bytes, 0x12)
    }

    /// Flags as stored.
    #[inline]
    pub fn flags(&self) -> u16 {
        u16_at(self.bytes, 0x16)
    }

    /// In use: not deleted.
    #[inline]
    pub fn in_use(&self) -> bool {
        self.flags() & 1 != 0
    }

    /// A directory (it has a file name index).
    #[inline]
    pub fn is_directory(&self) -> bool {
        self.flags() & 2 != 0
    }

    /// The base record, when this is an extension record.
    #[inline]
    pub fn base(&self) -> Option<FileRef> {
        match u64_at(self.bytes, 0x20) {
            0 => None,
            raw => Some(FileRef::from_raw(raw)),
        }
    }

    /// Bytes in use, with the end mark.
    #[inline]
    pub const fn used(&self) -> u32 {
        self.used
    }

    /// The number that the next new attribute will get.
    pub fn next_attr_id(&self) -> u16 {
        u16_at(self.bytes, 0x28)
    }

    /// Its attributes in the order in which they are stored. An attribute whose
    /// fields are wrong gives a fault; when its length is wrong too, it is the last.
    #[inline]
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes {
            record: &self.bytes[..self.used as usize],
            at: usize::from(self.first),
        }
    }
}

/// Iterator of [`RecordView::attributes`].
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    record: &'a [u8],
    /// Beyond the record when done.
    at: usize,
}

impl Attributes<'_> {
    #[cold]
    fn fail<T>(
        &mut self,
        kind: FaultKind,
        at: usize,
        found: u64,
        expected: u64,
    ) -> Option<Result<T, AttrFault>> {
        self.at = usize::MAX;
        Some(Err(Fault::new(kind, at, found, expected)))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, AttrFault>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let rest = self.record.get(at..)?;
        if rest.len() < 4 {
            return self.fail(FaultKind::NoEndMarker, at, rest.len() as u64, 4);
        }
        if u32_at(rest, 0) == END {
            self.at = usize::MAX;
            return None;
        }
        if rest.len() < MIN_ATTR {
            return self.fail(
                FaultKind::NoEndMarker,
                at,
                u32_at(rest, 0).into(),
                END.into(),
            );
        }
        let length = u32_at(rest, 4) as usize;
        if length < MIN_ATTR || length > rest.len() || length & 7 != 0 {
            return self.fail(
                FaultKind::AttrLength,
                at + 4,
                length as u64,
                rest.len() as u64,
            );
        }
        self.at = at + length;
        Some(parse_attribute(&rest[..length], at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use binread::{BinReaderExt, io::Cursor};
    use proptest::prelude::*;

    /// A record with one resident `$DATA` of the given value, fixups not applied.
    fn sample(size: usize, value: &[u8]) -> Vec<u8> {
        let mut r = vec![0u8; size];
        let usa = size / 512 + 1;
        r[..4].copy_from_slice(b"FILE");
        r[4..6].copy_from_slice(&0x30u16.to_le_bytes());
        r[6..8].copy_from_slice(&(usa as u16).to_le_bytes());
        let first = (0x30 + 2 * usa).next_multiple_of(8);
        r[0x10..0x18].copy_from_slice(&[7, 0, 1, 0, first as u8, 0, 3, 0]);
        let len = (0x18 + value.len()).next_multiple_of(8);
        let a = &mut r[first..];
        a[0] = 0x80;
        a[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        a[0x10..0x14].copy_from_slice(&(value.len() as u32).to_le_bytes());
        a[0x14] = 0x18;
        a[0x18..0x18 + value.len()].copy_from_slice(value);
        a[len..len + 4].fill(0xff);
        r[0x18..0x1c].copy_from_slice(&((first + len + 8) as u32).to_le_bytes());
        r[0x1c..0x20].copy_from_slice(&(size as u32).to_le_bytes());
        r[0x2c..0x30].copy_from_slice(&42u32.to_le_bytes());
        r
    }

    /// The inverse of `apply_fixups`, as a driver does before it writes.
    fn protect(r: &mut [u8], number: u16) {
        let from = usize::from(u16_at(r, 4));
        r[from..from + 2].copy_from_slice(&number.to_le_bytes());
        for block in 1..=r.len() / 512 {
            let at = block * 512 - 2;
            r.copy_within(at..at + 2, from + 2 * block);
            r[at..at + 2].copy_from_slice(&number.to_le_bytes());
        }
    }

    #[test]
    fn header_and_attribute_from_their_places() {
        for size in [512, 1024, 4096, 65536 / 8] {
            let r = sample(size, b"hello");
            let v = RecordView::new(&r, RecordNo(42)).unwrap();
            assert_eq!((v.sequence(), v.links()), (7, 1));
            assert!(v.in_use() && v.is_directory() && v.base().is_none());
            assert_eq!(v.stored_number(), Some(42));
            let all: Vec<_> = v.attributes().collect::<Result<_, _>>().unwrap();
            assert_eq!(all.len(), 1);
            assert_eq!(all[0].resident(), Some(&b"hello"[..]));
            let h: RecordHeader = Cursor::new(&r).read_le().unwrap();
            assert_eq!(
                (h.used, h.sequence, h.flags),
                (v.used(), v.sequence(), v.flags())
            );
            assert_eq!((h.number, h.base, h.first_attribute), (42, 0, v.first));
        }
    }

    #[test]
    fn torn_and_miscounted_records_stay_as_they_are() {
        let mut r = sample(1024, &[9; 600]);
        protect(&mut r, 0x0203);
        r[1022] ^= 1;
        let before = r.clone();
        let f = apply_fixups(&mut r).unwrap_err();
        assert_eq!((f.kind, f.offset), (FaultKind::FixupMismatch, 1022));
        assert_eq!(r, before);
        r[6] = 4;
        assert_eq!(
            apply_fixups(&mut r).unwrap_err().kind,
            FaultKind::FixupCount
        );
        r[6] = 3;
        r[4] = 0xff;
        assert_eq!(
            apply_fixups(&mut r).unwrap_err().kind,
            FaultKind::FixupOffset
        );
    }

    #[test]
    fn an_attribute_without_end_mark_is_said() {
        let mut r = sample(1024, b"x");
        let used = u32_at(&r, 0x18) - 8;
        r[0x18..0x1c].copy_from_slice(&used.to_le_bytes());
        let v = RecordView::new(&r, RecordNo(0)).unwrap();
        let all: Vec<_> = v.attributes().collect();
        assert!(all[0].is_ok());
        assert_eq!(all[1].unwrap_err().kind, FaultKind::NoEndMarker);
        assert_eq!(all.len(), 2);
    }

    proptest! {
        #[test]
        fn fixups_round_trip(value in prop::collection::vec(any::<u8>(), 900), number in any::<u16>()) {
            let plain = sample(1024, &value);
            let mut r = plain.clone();
            protect(&mut r, number);
            apply_fixups(&mut r).unwrap();
            r[0x30..0x36].fill(0);
            prop_assert_eq!(r, plain);
        }

        #[test]
        fn any_bytes_end_without_panic(
            mut r in prop::collection::vec(any::<u8>(), 0..1100), shape in any::<bool>(),
            first in 0u16..0x60, used in 0u32..1100) {
            let _ = apply_fixups(&mut r);
            if shape && r.len() >= 1024 {
                r.truncate(1024);
                r[..4].copy_from_slice(b"FILE");
                r[0x14..0x16].copy_from_slice(&first.to_le_bytes());
                r[0x18..0x1c].copy_from_slice(&used.to_le_bytes());
            }
            if let Ok(v) = RecordView::new(&r, RecordNo(1)) {
                let n = v.attributes().count();
                prop_assert!(n <= r.len() / MIN_ATTR + 1);
            }
        }

        #[test]
        fn mutated_records_end_without_panic(
            value in prop::collection::vec(any::<u8>(), 0..600),
            changes in prop::collection::vec((0usize..120, any::<u8>()), 1..6)) {
            let mut r = sample(1024, &value);
            for (at, b) in changes {
                r[at] = b;
            }
            let _ = apply_fixups(&mut r);
            if let Ok(v) = RecordView::new(&r, RecordNo(1)) {
                for a in v.attributes().flatten() {
                    if let Some(n) = a.non_resident() {
                        let _ = n.runs().count();
                    }
                }
            }
        }
    }
}
