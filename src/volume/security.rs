//! The security descriptors that `$Secure` keeps for all files, by their ids.
//!
//! | `$SDS` entry | size | field |
//! |---|---|---|
//! | 0 | 4 | hash of the descriptor |
//! | 4 | 4 | security id |
//! | 8 | 8 | place of this entry in `$SDS` |
//! | 16 | 4 | bytes of the entry with this header |
//! | 20 | n | the descriptor |
//!
//! It goes by pairs of blocks of 256 KiB: the second block of a pair is the copy of
//! the first. An entry never crosses the end of its block; each begins at a multiple
//! of 16. Behind the last entry of a block are zeros. (Linux-NTFS documentation,
//! "$Secure".)

use super::attr::{DATA, u32_at, u64_at};
use super::digest::digest_bytes;
use super::listing::short;
use super::open::Volume;
use super::stream::Stream;
use crate::error::Result;
use crate::units::RecordNo;
use std::collections::HashMap;

/// File number of `$Secure`.
pub(super) const SECURE: RecordNo = RecordNo(9);
/// `$SDS`.
pub(super) const SDS: &[u8] = b"$\0S\0D\0S\0";
/// A block, and so the distance of an entry's copy.
pub(super) const BLOCK: u64 = 256 << 10;
/// Bytes of an entry before its descriptor.
pub(super) const HEADER: usize = 20;
/// Descriptors that are looked at; NTFS has far fewer.
pub(super) const MOST: usize = 1 << 20;
/// Bytes of `$SDS` that are read.
const MOST_BYTES: u64 = 1 << 30;

/// Header of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Header {
    pub id: u32,
    pub hash: u32,
    /// Place of the entry, also in the copy.
    pub offset: u64,
    /// Bytes with this header.
    pub size: u32,
}

impl Header {
    /// That of an entry which begins here.
    pub fn of(b: &[u8]) -> Option<Self> {
        let b = b.first_chunk::<HEADER>()?;
        Some(Self {
            hash: u32_at(b, 0),
            id: u32_at(b, 4),
            offset: u64_at(b, 8),
            size: u32_at(b, 16),
        })
    }
}

/// What is known of the descriptor of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descriptor {
    /// Digest of its bytes.
    Known(u64),
    /// `$SDS` does not have this id.
    Missing,
    /// A part of `$SDS` cannot be read, and the id is in no other.
    Unreadable,
}

/// The descriptors of a volume.
#[derive(Debug, Default)]
pub struct Descriptors {
    digests: HashMap<u32, u64>,
    partial: bool,
}

impl Descriptors {
    /// Reads `$Secure:$SDS`. What cannot be read is unknown; NTFS before 3.0 has none.
    pub fn read(volume: &Volume) -> Self {
        let mut all = Self::default();
        if volume.info().is_some_and(|i| i.version.0 < 3) {
            return all;
        }
        match stream(volume) {
            Ok(Some(sds)) => all.walk(&sds),
            Ok(None) => {}
            Err(_) => all.partial = true,
        }
        all
    }

    /// The descriptor of an id.
    pub fn get(&self, id: u32) -> Descriptor {
        match self.digests.get(&id) {
            Some(d) => Descriptor::Known(*d),
            None if self.partial => Descriptor::Unreadable,
            None => Descriptor::Missing,
        }
    }

    fn walk(&mut self, sds: &Stream) {
        let end = sds.initialized().min(MOST_BYTES);
        self.partial |= sds.initialized() > MOST_BYTES;
        let mut block = vec![0; BLOCK as usize];
        let mut at = 0;
        while at < end && self.digests.len() < MOST {
            let first = sds.read_at(at, &mut block);
            let good = first.as_ref().is_ok_and(|&n| self.entries(&block[..n], at));
            if !good {
                // Entries that are sound in either are taken.
                let copy = sds.read_at(at + BLOCK, &mut block);
                self.partial |= !copy.is_ok_and(|n| n > 0 && self.entries(&block[..n], at));
            }
            at += 2 * BLOCK;
        }
        self.partial |= self.digests.len() >= MOST;
    }

    /// Takes the entries of a block whose first byte is the stream's byte
    /// `start`; false when it ends in something that is none.
    fn entries(&mut self, block: &[u8], start: u64) -> bool {
        let mut at = 0;
        while let Some(h) = block.get(at..).and_then(Header::of) {
            let size = h.size as usize;
            if size == 0 && h.id == 0 {
                return true;
            }
            let whole = at.checked_add(size).filter(|_| size >= HEADER);
            let Some(entry) = whole.and_then(|end| block.get(at..end)) else {
                return false;
            };
            if h.offset != start + at as u64 {
                return false;
            }
            if self.digests.len() < MOST {
                let digest = short(digest_bytes(&entry[HEADER..]));
                self.digests.entry(h.id).or_insert(digest);
            }
            at = (at + size).next_multiple_of(16);
        }
        true
    }
}

fn stream(volume: &Volume) -> Result<Option<Stream>> {
    let file = volume.file(SECURE)?;
    Stream::open(volume, &file, DATA, SDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The entries as NTFS lays them out, with the digests that are expected.
    fn block(start: u64, descriptors: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (id, d) in descriptors {
            block.resize(block.len().next_multiple_of(16), 0);
            let at = start + block.len() as u64;
            block.extend([0; 4]);
            block.extend(id.to_le_bytes());
            block.extend(at.to_le_bytes());
            block.extend((HEADER as u32 + d.len() as u32).to_le_bytes());
            block.extend(d);
        }
        block
    }

    fn descriptors() -> impl Strategy<Value = Vec<(u32, Vec<u8>)>> {
        let one = (1..u32::MAX, prop::collection::vec(any::<u8>(), 0..200));
        prop::collection::vec(one, 0..20)
    }

    proptest! {
        #[test]
        fn entries_come_back(list in descriptors(), pairs in 0..9u64, zeros in 0..64usize) {
            let start = pairs * 2 * BLOCK;
            let mut bytes = block(start, &list);
            bytes.resize(bytes.len() + zeros, 0);
            let mut all = Descriptors::default();
            prop_assert!(all.entries(&bytes, start));
            for (id, _) in &list {
                // Of two with one id the first counts.
                let first = &list.iter().find(|d| d.0 == *id).unwrap().1;
                prop_assert_eq!(all.get(*id), Descriptor::Known(short(digest_bytes(first))));
            }
            prop_assert_eq!(all.get(0), Descriptor::Missing);
        }

        #[test]
        fn an_entry_that_is_none_ends_the_block(list in descriptors(), which: prop::sample::Index, field in 0..2usize) {
            prop_assume!(!list.is_empty());
            let mut bytes = block(0, &list);
            let n = which.index(list.len());
            let at = block(0, &list[..n]).len().next_multiple_of(16);
            // Another place, or a size that no entry has.
            match field {
                0 => bytes[at + 8] ^= 1,
                _ => bytes[at + 16..at + 20].copy_from_slice(&19u32.to_le_bytes()),
            }
            let mut all = Descriptors::default();
            prop_assert!(!all.entries(&bytes, 0));
            for (id, _) in &list[n..] {
                if list[..n].iter().all(|d| d.0 != *id) {
                    prop_assert_eq!(all.get(*id), Descriptor::Missing);
                }
            }
        }

        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), start: u32) {
            Descriptors::default().entries(&bytes, start.into());
        }
    }
}
