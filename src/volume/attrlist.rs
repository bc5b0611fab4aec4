//! `$ATTRIBUTE_LIST`: where the attributes of a file with several records lie.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0x00 | 4 | type of the attribute |
//! | 0x04 | 2 | bytes of this entry |
//! | 0x06 | 1 | UTF-16 units of the name |
//! | 0x07 | 1 | place of the name in the entry |
//! | 0x08 | 8 | lowest VCN of the piece |
//! | 0x10 | 8 | file reference of the record that holds it |
//! | 0x18 | 2 | number of the attribute in that record |
//!
//! (Linux-NTFS documentation, "$ATTRIBUTE_LIST".)

use super::attr::{u16_at, u32_at, u64_at};
use super::fault::{Fault, FaultKind};
use crate::units::{FileRef, Vcn};

/// NTFS keeps lists no longer than this.
pub const MAX_LIST: u64 = 256 << 10;
const MIN_ENTRY: usize = 0x1a;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListEntry<'a> {
    /// Type of the attribute.
    pub type_code: u32,
    /// Its name, UTF-16 little-endian bytes.
    pub name: &'a [u8],
    /// First VCN of the piece; 0 for a resident attribute.
    pub lowest_vcn: Vcn,
    /// The record that holds it.
    pub record: FileRef,
    /// Its number in that record.
    pub id: u16,
}

/// The entries of a list; ends after a fault.
#[derive(Clone, Debug)]
pub struct ListEntries<'a> {
    list: &'a [u8],
    at: usize,
}

impl<'a> ListEntries<'a> {
    /// The entries of the value of an attribute list.
    pub fn new(list: &'a [u8]) -> Self {
        Self { list, at: 0 }
    }
}

impl<'a> Iterator for ListEntries<'a> {
    type Item = Result<ListEntry<'a>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let rest = self.list.get(at..).filter(|r| !r.is_empty())?;
        let mut fail = |at: usize, found: usize, expected: usize| {
            self.at = usize::MAX;
            let fault = Fault::new(FaultKind::ListEntry, at, found as u64, expected as u64);
            Some(Err(fault))
        };
        if rest.len() < MIN_ENTRY {
            return fail(at, rest.len(), MIN_ENTRY);
        }
        let len = usize::from(u16_at(rest, 4));
        if len < MIN_ENTRY || len > rest.len() {
            return fail(at + 4, len, rest.len());
        }
        let e = &rest[..len];
        let (from, units) = (usize::from(e[7]), usize::from(e[6]));
        let name: &[u8] = match units {
            0 => &[],
            _ => match e.get(from..from + 2 * units) {
                Some(name) => name,
                None => return fail(at + 6, from + 2 * units, len),
            },
        };
        self.at = at + len;
        Some(Ok(ListEntry {
            type_code: u32_at(e, 0),
            name,
            lowest_vcn: Vcn(u64_at(e, 8)),
            record: FileRef::from_raw(u64_at(e, 0x10)),
            id: u16_at(e, 0x18),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(type_code: u32, vcn: u64, record: u64, name: &[u8]) -> Vec<u8> {
        let len = (MIN_ENTRY + name.len()).next_multiple_of(8);
        let mut e = vec![0; len];
        e[..4].copy_from_slice(&type_code.to_le_bytes());
        e[4..6].copy_from_slice(&(len as u16).to_le_bytes());
        (e[6], e[7]) = ((name.len() / 2) as u8, MIN_ENTRY as u8);
        e[8..16].copy_from_slice(&vcn.to_le_bytes());
        e[0x10..0x18].copy_from_slice(&record.to_le_bytes());
        e[0x18] = 5;
        e[MIN_ENTRY..MIN_ENTRY + name.len()].copy_from_slice(name);
        e
    }

    #[test]
    fn reads_entries_and_stops_at_a_bad_one() {
        let mut list = entry(0x80, 9, 0x0003_0000_0000_002a, b"a\0b\0");
        list.extend(entry(0x30, 0, 7, b""));
        let good = list.len();
        list.extend([0; 40]);
        let all: Vec<_> = ListEntries::new(&list).collect();
        assert_eq!(all.len(), 3);
        let first = all[0].unwrap();
        assert_eq!(
            (first.type_code, first.name, first.id),
            (0x80, &b"a\0b\0"[..], 5)
        );
        assert_eq!(
            (first.lowest_vcn, first.record.to_string()),
            (Vcn(9), "42-3".into())
        );
        assert_eq!(all[2].unwrap_err().offset as usize, good + 4);
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(ListEntries::new(&bytes).count() <= bytes.len() / MIN_ENTRY + 1);
        }
    }
}
