//! Where each Mft and Chunk stands. Format: `docs/format.md` section 5.

use super::head::{CHUNK_RUNS, Head};
use super::header::{BLOCK, ChunkRun, Header, Kind, MftRun, RunKind};
use crate::error::{Error, Result};
use std::collections::HashMap;

/// One record of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Stream offset of its header.
    pub offset: u64,
    /// Cell, or number of the first file record.
    pub position: u64,
    /// Header and payload, in blocks.
    pub blocks: u32,
    /// Region.
    pub region: u16,
    /// True for Mft, false for Chunk.
    pub mft: bool,
}

/// A run of an Mft record, findable by place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MftSpan {
    /// The run.
    pub run: MftRun,
    /// Region.
    pub region: u16,
    /// Number of the entry.
    pub entry: u32,
}

/// All entries of a stream, in its order.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Index {
    /// Records of data.
    pub entries: Vec<Entry>,
    /// Runs of the Mft records, in the order of the entries.
    pub spans: Vec<MftSpan>,
    /// Runs of the Chunk records, in the order of the entries, where the
    /// archive keeps them here (capability `chunk-runs`).
    pub chunk_runs: Option<ChunkRuns>,
}

/// Runs of all Chunk records of an index.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct ChunkRuns {
    runs: Vec<ChunkRun>,
    /// For each entry, how many of `runs` belong to it and those before it.
    ends: Vec<u64>,
}

impl ChunkRuns {
    /// The runs of this entry.
    pub fn of(&self, entry: usize) -> &[ChunkRun] {
        let from = match entry {
            0 => 0,
            n => self.ends.get(n - 1).copied().unwrap_or(0),
        };
        let to = self.ends.get(entry).copied().unwrap_or(from);
        self.runs
            .get(from as usize..to as usize)
            .unwrap_or_default()
    }

    fn end_entry(&mut self) {
        self.ends.push(self.runs.len() as u64);
    }
}

impl Index {
    /// An empty one, as an archive with this head has it.
    pub fn of(head: &Head) -> Self {
        Self {
            chunk_runs: head.needs(CHUNK_RUNS).then(ChunkRuns::default),
            ..Self::default()
        }
    }

    /// Adds a Mft or Chunk record.
    pub fn push(&mut self, h: &Header) {
        let mft = h.kind == Kind::Mft;
        let entry = self.entries.len() as u32;
        self.entries.push(Entry {
            offset: h.stream_offset,
            position: h.position,
            blocks: (h.total_len() / BLOCK as u64) as u32,
            region: h.region,
            mft,
        });
        if let Some(r) = &mut self.chunk_runs {
            if !mft {
                r.runs.extend(h.chunk_runs());
            }
            r.end_entry();
        }
        if mft {
            let spans = h.mft_runs().map(|run| MftSpan {
                run,
                region: h.region,
                entry,
            });
            self.spans.extend(spans);
        }
    }

    /// The decoded payload of an Index record.
    pub fn encode(&self, head: &[u8], disk: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.entries.len() * 6 + head.len() + disk.len() + 64);
        for part in [head, disk] {
            put(&mut out, part.len() as u64);
            out.extend_from_slice(part);
        }
        put(&mut out, self.entries.len() as u64);
        let mut last: HashMap<(u16, bool), u64> = HashMap::new();
        let mut end = 0;
        let mut span = 0;
        for (n, e) in self.entries.iter().enumerate() {
            put(&mut out, u64::from(e.region) * 2 + u64::from(e.mft));
            let before = last.insert((e.region, e.mft), e.position).unwrap_or(0);
            put(&mut out, zigzag(e.position.wrapping_sub(before)));
            put(&mut out, (e.offset - end) / BLOCK as u64);
            put(&mut out, u64::from(e.blocks));
            end = e.offset + u64::from(e.blocks) * BLOCK as u64;
            if e.mft {
                let first = span;
                while self.spans.get(span).is_some_and(|s| s.entry == n as u32) {
                    span += 1;
                }
                put(&mut out, (span - first) as u64);
                let mut at = 0u64;
                for s in &self.spans[first..span] {
                    put(&mut out, zigzag(s.run.start.wrapping_sub(at)));
                    put(&mut out, u64::from(s.run.units));
                    put(&mut out, s.run.kind as u64);
                    at = s.run.start.wrapping_add(u64::from(s.run.units));
                }
            } else if let Some(all) = &self.chunk_runs {
                let runs = all.of(n);
                put(&mut out, runs.len() as u64);
                let mut at = 0;
                for r in runs {
                    put(&mut out, u64::from(r.start - at));
                    put(&mut out, u64::from(r.units) << 2 | r.kind as u64);
                    at = r.start + r.units;
                }
            }
        }
        out
    }

    /// Reads the decoded payload: the copies of Head and Disk, and the entries.
    /// `stream_len` bounds what an entry may claim.
    pub fn decode(bytes: &[u8], stream_len: u64) -> Result<(Vec<u8>, Vec<u8>, Index)> {
        let mut r = Numbers {
            rest: bytes,
            len: bytes.len(),
        };
        let head = r.bytes()?.to_vec();
        let disk = r.bytes()?.to_vec();
        let count = r.number()?;
        if count > stream_len / BLOCK as u64 || count > r.rest.len() as u64 / 4 {
            return Err(r.bad(format!("Index states {count} entries, more than can be")));
        }
        let mut index = Index::default();
        if Head::parse(&head).is_ok_and(|h| h.needs(CHUNK_RUNS)) {
            index.chunk_runs = Some(ChunkRuns::default());
        }
        index.entries.reserve_exact(count as usize);
        let mut last: HashMap<(u16, bool), u64> = HashMap::new();
        let mut end = 0u64;
        for n in 0..count {
            let key = r.number()?;
            let region = u16::try_from(key / 2)
                .map_err(|_| r.bad(format!("Index names region {}", key / 2)))?;
            let mft = key % 2 == 1;
            let before = last.get(&(region, mft)).copied().unwrap_or(0);
            let position = before.wrapping_add(unzigzag(r.number()?));
            last.insert((region, mft), position);
            let gap = r.number()?;
            let blocks = r.number()?;
            let place = gap
                .checked_mul(BLOCK as u64)
                .and_then(|g| end.checked_add(g))
                .filter(|o| {
                    blocks
                        .checked_mul(BLOCK as u64)
                        .and_then(|l| o.checked_add(l))
                        .is_some_and(|e| e <= stream_len)
                });
            let (Some(offset), Ok(blocks)) = (place, u32::try_from(blocks)) else {
                return Err(r.bad(format!(
                    "Index entry {n} points behind the end of the stream"
                )));
            };
            end = offset + u64::from(blocks) * BLOCK as u64;
            index.entries.push(Entry {
                offset,
                position,
                blocks,
                region,
                mft,
            });
            if let Some(all) = &mut index.chunk_runs {
                if !mft {
                    r.chunk_runs(n, blocks, &mut all.runs)?;
                }
                all.end_entry();
            }
            if mft {
                let mut at = 0u64;
                let runs = r.number()?;
                // Each has 16 bytes in the header of its record.
                if runs > u64::from(blocks) * (BLOCK as u64 / 16) {
                    return Err(r.bad(format!("Index entry {n} states {runs} runs")));
                }
                for _ in 0..runs {
                    let start = at.wrapping_add(unzigzag(r.number()?));
                    let units = u32::try_from(r.number()?).ok();
                    let kind = u32::try_from(r.number()?).ok().and_then(RunKind::of);
                    let (Some(units), Some(kind), Some(stop)) = (
                        units,
                        kind,
                        units.and_then(|u| start.checked_add(u64::from(u))),
                    ) else {
                        return Err(r.bad(format!("Index entry {n} has an impossible run")));
                    };
                    at = stop;
                    let run = MftRun { start, units, kind };
                    index.spans.push(MftSpan {
                        run,
                        region,
                        entry: n as u32,
                    });
                }
            }
        }
        if !r.rest.is_empty() {
            return Err(r.bad("Index has bytes behind its last entry".into()));
        }
        Ok((head, disk, index))
    }
}

fn zigzag(d: u64) -> u64 {
    let d = d as i64;
    ((d << 1) ^ (d >> 63)) as u64
}

fn unzigzag(n: u64) -> u64 {
    (n >> 1) ^ (n & 1).wrapping_neg()
}

fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

struct Numbers<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Numbers<'a> {
    fn bad(&self, what: String) -> Error {
        Error::damaged(format!(
            "{what} (byte {} of the index)",
            self.len - self.rest.len()
        ))
    }

    fn number(&mut self) -> Result<u64> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let Some((&b, rest)) = self.rest.split_first() else {
                return Err(self.bad("Index ends inside a number".into()));
            };
            self.rest = rest;
            if shift == 63 && b > 1 {
                break;
            }
            n |= u64::from(b & 0x7f) << shift;
            if b < 0x80 {
                return Ok(n);
            }
        }
        Err(self.bad("Index has a number of more than 64 bits".into()))
    }

    /// The runs of Chunk entry `n`, which has this many blocks.
    fn chunk_runs(&mut self, n: u64, blocks: u32, out: &mut Vec<ChunkRun>) -> Result<()> {
        let count = self.number()?;
        // Each has 8 bytes in the header of its record.
        if count > u64::from(blocks) * (BLOCK as u64 / 8) {
            return Err(self.bad(format!("Index entry {n} states {count} runs")));
        }
        let mut at = 0u32;
        for _ in 0..count {
            let gap = u32::try_from(self.number()?).ok();
            let word = self.number()?;
            let units = u32::try_from(word >> 2)
                .ok()
                .filter(|&u| u > 0 && u < 1 << 28);
            let run = gap
                .and_then(|g| at.checked_add(g))
                .zip(units)
                .zip(RunKind::of((word & 3) as u32))
                .filter(|((s, u), _)| s.checked_add(*u).is_some());
            let Some(((start, units), kind)) = run else {
                return Err(self.bad(format!("Index entry {n} has an impossible run")));
            };
            at = start + units;
            out.push(ChunkRun { start, units, kind });
        }
        Ok(())
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let n = self.number()?;
        if n > self.rest.len() as u64 {
            return Err(self.bad("Index ends inside a part".into()));
        }
        let (part, rest) = self.rest.split_at(n as usize);
        self.rest = rest;
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arb() -> impl Strategy<Value = Index> {
        let run = (0u64..1 << 50, 1u32..5000);
        let entry = (
            0u16..4,
            0u64..1 << 40,
            0u64..5,
            1u32..3000,
            prop::option::of(prop::collection::vec(run, 0..4)),
        );
        prop::collection::vec(entry, 0..50).prop_map(|list| {
            let mut index = Index::default();
            let mut end = 0;
            for (n, (region, position, gap, blocks, runs)) in list.into_iter().enumerate() {
                let offset = end + gap * 512;
                end = offset + u64::from(blocks) * 512;
                let mft = runs.is_some();
                index.entries.push(Entry {
                    offset,
                    position,
                    blocks,
                    region,
                    mft,
                });
                for (start, units) in runs.into_iter().flatten() {
                    let run = MftRun {
                        start,
                        units,
                        kind: RunKind::Data,
                    };
                    index.spans.push(MftSpan {
                        run,
                        region,
                        entry: n as u32,
                    });
                }
            }
            index
        })
    }

    proptest! {
        #[test]
        fn round_trip(index in arb()) {
            let bytes = index.encode(b"head", b"disk");
            let (h, d, back) = Index::decode(&bytes, u64::MAX).unwrap();
            prop_assert_eq!((&h[..], &d[..]), (&b"head"[..], &b"disk"[..]));
            prop_assert_eq!(back, index);
        }

        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Index::decode(&bytes, 1 << 30);
        }

        #[test]
        fn cut_short_is_refused(index in arb(), cut in 0.0f64..1.0) {
            let bytes = index.encode(b"h", b"d");
            let at = (bytes.len() as f64 * cut) as usize;
            prop_assert!(Index::decode(&bytes[..at], u64::MAX).is_err());
        }
    }
}
