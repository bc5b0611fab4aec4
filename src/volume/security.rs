//! The security descriptors that `$Secure` keeps for all files, by their ids.
//!
//! `$SDS` goes by pairs of blocks of 256 KiB: the second block of a pair is the
//! copy of the first. An entry never crosses the end of its block; each begins at
//! a multiple of 16 (its header: `check::security`). Behind the last entry of a
//! block are zeros. (Linux-NTFS documentation, "$Secure".)

use super::attr::{DATA, u32_at, u64_at};
use super::digest::digest_bytes;
use super::listing::short;
use super::open::Volume;
use super::stream::Stream;
use crate::error::Result;
use crate::units::RecordNo;
use std::collections::HashMap;

const SECURE: RecordNo = RecordNo(9);
const SDS: &[u8] = b"$\0S\0D\0S\0";
const BLOCK: u64 = 256 << 10;
const HEADER: usize = 20;
/// Descriptors that are kept; NTFS has far fewer.
const MOST: usize = 1 << 20;
/// Bytes of `$SDS` that are read.
const MOST_BYTES: u64 = 1 << 30;

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
    }

    /// Takes the entries of a block whose first byte is the stream's byte
    /// `start`; false when it ends in something that is none.
    fn entries(&mut self, block: &[u8], start: u64) -> bool {
        let mut at = 0;
        while let Some(h) = block.get(at..at + HEADER) {
            let (id, place, size) = (u32_at(h, 4), u64_at(h, 8), u32_at(h, 16) as usize);
            if size == 0 && id == 0 {
                return true;
            }
            let whole = at.checked_add(size).filter(|_| size >= HEADER);
            let Some(entry) = whole.and_then(|end| block.get(at..end)) else {
                return false;
            };
            if place != start + at as u64 {
                return false;
            }
            if self.digests.len() < MOST {
                let digest = short(digest_bytes(&entry[HEADER..]));
                self.digests.entry(id).or_insert(digest);
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
