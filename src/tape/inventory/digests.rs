//! Digests of records that were computed when a tape was read back.
//!
//! The file, little-endian:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `NTBKDIGS` |
//! | 8 | 4 | version: 1 |
//! | 12 | 4 | CRC-32C of the whole file with this field as zero |
//! | 16 | 16 | set id |
//! | 32 | 8 | number of runs |
//! | 40 | | runs, ascending, which never touch |
//!
//! A run is the sequence number of its first record (8 bytes), how many records
//! follow each other (8 bytes), and the BLAKE3 digest of each (32 bytes).

use super::super::label::Id;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

const MAGIC: &[u8; 8] = b"NTBKDIGS";
const VERSION: u32 = 1;
const HEAD: usize = 40;

/// A BLAKE3 digest.
pub type Digest = [u8; 32];

/// Digests of the records of a set, by sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    set: Id,
    /// Runs by their first sequence number; they never touch.
    runs: BTreeMap<u64, Vec<Digest>>,
}

impl Digests {
    /// None yet.
    pub fn new(set: Id) -> Self {
        Self {
            set,
            runs: BTreeMap::new(),
        }
    }

    /// The set they belong to.
    pub fn set(&self) -> Id {
        self.set
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.runs.values().map(|r| r.len() as u64).sum()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The digest of a record.
    pub fn get(&self, sequence: u64) -> Option<&Digest> {
        let (first, run) = self.runs.range(..=sequence).next_back()?;
        run.get(usize::try_from(sequence - first).ok()?)
    }

    /// Adds the digest of a record, or replaces it.
    pub fn insert(&mut self, sequence: u64, digest: Digest) {
        let before = self.runs.range_mut(..=sequence).next_back();
        let first = match before {
            Some((first, run)) => match usize::try_from(sequence - first) {
                Ok(i) if i < run.len() => {
                    if let Some(place) = run.get_mut(i) {
                        *place = digest;
                    }
                    return;
                }
                Ok(i) if i == run.len() => {
                    run.push(digest);
                    *first
                }
                _ => {
                    self.runs.insert(sequence, vec![digest]);
                    sequence
                }
            },
            None => {
                self.runs.insert(sequence, vec![digest]);
                sequence
            }
        };
        // It may have closed the gap to the next run.
        let next = sequence.checked_add(1).and_then(|n| self.runs.remove(&n));
        if let (Some(next), Some(run)) = (next, self.runs.get_mut(&first)) {
            run.extend(next);
        }
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Digest)> {
        self.runs.iter().flat_map(|(first, run)| {
            run.iter()
                .enumerate()
                .map(move |(i, d)| (first + i as u64, d))
        })
    }

    /// Takes those of another, which are newer.
    pub fn merge(&mut self, newer: &Self) -> Result<()> {
        if newer.set != self.set {
            return Err(Error::usage("Digests of two sets do not belong together"));
        }
        if self.is_empty() {
            self.runs = newer.runs.clone();
            return Ok(());
        }
        for (sequence, digest) in newer.iter() {
            self.insert(sequence, *digest);
        }
        Ok(())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let runs = self.runs.len();
        let records: usize = self.runs.values().map(Vec::len).sum();
        let mut out = Vec::with_capacity(HEAD + 16 * runs + 32 * records);
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend([0; 4]);
        out.extend(self.set.0);
        out.extend((runs as u64).to_le_bytes());
        for (first, run) in &self.runs {
            out.extend(first.to_le_bytes());
            out.extend((run.len() as u64).to_le_bytes());
            out.extend(run.as_flattened());
        }
        let crc = crc32c::crc32c(&out).to_le_bytes();
        if let Some(place) = out.get_mut(12..16) {
            place.copy_from_slice(&crc);
        }
        out
    }

    pub(super) fn decode(set: Id, b: &[u8]) -> Result<Self> {
        let bad = |what: &str| {
            Error::damaged(format!("Stored digests {what}"))
                .hint("remove the file; `ntbak verify` of the tape computes them again")
        };
        let short = || bad("end too early");
        let (magic, rest) = b.split_first_chunk::<8>().ok_or_else(short)?;
        let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let (stated, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        if magic != MAGIC {
            return Err(bad("do not begin as they should"));
        }
        if u32::from_le_bytes(*version) != VERSION {
            return Err(Error::unsupported(format!(
                "Stored digests have version {}, this program reads {VERSION}",
                u32::from_le_bytes(*version)
            ))
            .hint("use a newer ntbak"));
        }
        let front = crc32c::crc32c_append(crc32c::crc32c(b.get(..12).unwrap_or(b)), &[0; 4]);
        if crc32c::crc32c_append(front, rest) != u32::from_le_bytes(*stated) {
            return Err(bad("do not have the CRC-32C they state"));
        }
        let (id, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
        if *id != set.0 {
            return Err(bad("belong to another set"));
        }
        let (runs, mut rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let mut out = Self::new(set);
        let mut end = None;
        for _ in 0..u64::from_le_bytes(*runs) {
            // Each turn takes at least 16 bytes of what is there.
            let (first, r) = rest.split_first_chunk::<8>().ok_or_else(short)?;
            let (count, r) = r.split_first_chunk::<8>().ok_or_else(short)?;
            let first = u64::from_le_bytes(*first);
            let bytes = u64::from_le_bytes(*count)
                .checked_mul(32)
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(short)?;
            let list = r.get(..bytes).ok_or_else(short)?;
            rest = r.get(bytes..).unwrap_or_default();
            let run = list.as_chunks::<32>().0.to_vec();
            let last = first.checked_add(run.len() as u64);
            if run.is_empty() || end.is_some_and(|e| first <= e) || last.is_none() {
                return Err(bad("have runs that do not ascend"));
            }
            end = last;
            out.runs.insert(first, run);
        }
        match rest {
            [] => Ok(out),
            _ => Err(bad("have more bytes than they state")),
        }
    }
}
