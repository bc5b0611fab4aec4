//! `$I30`: the index of a directory, a B-tree of `$FILE_NAME` values sorted
//! by [`UpCase`]. The root lies in `$INDEX_ROOT`, the blocks in
//! `$INDEX_ALLOCATION`.
//!
//! | `$INDEX_ROOT` | block | size | field |
//! |---|---|---|---|
//! | | 0 | 4 | `INDX` |
//! | | 4, 6 | 2, 2 | update sequence: offset, count |
//! | | 16 | 8 | the block's own number (VCN) |
//! | 0 | | 4 | type of the indexed attribute: 0x30 |
//! | 4 | | 4 | collation: 1 |
//! | 8 | | 4 | bytes of a block |
//! | 16 | 24 | 4 | first entry, from this field |
//! | 20 | 28 | 4 | end of the entries, from the field before |
//!
//! | entry | size | field |
//! |---|---|---|
//! | 0 | 8 | file reference |
//! | 8 | 2 | length of the entry |
//! | 10 | 2 | length of the key |
//! | 12 | 2 | flags: 1 has a child block, 2 last of its node |
//! | 16 | n | key: a `$FILE_NAME` value |
//! | end - 8 | 8 | VCN of the child block, whose keys sort before this one |

use super::names::FileName;
use super::upcase::UpCase;
use crate::error::{Error, Result};
use crate::units::FileRef;
use std::cmp::Ordering;
use std::collections::HashSet;

/// Deeper than any index can be: each level at least doubles the entries.
const MAX_DEPTH: u32 = 40;
const STRIDE: usize = 512;

/// Reads bytes of `$INDEX_ALLOCATION` from an offset on.
pub type ReadBlocks<'a> = &'a dyn Fn(u64, &mut [u8]) -> Result<()>;

/// A directory's index, opened.
pub struct DirIndex<'a> {
    root: &'a [u8],
    block_size: usize,
    /// Bytes per VCN of a child: a cluster, or 512 where a block is smaller.
    vcn_unit: u64,
    read: Option<ReadBlocks<'a>>,
}

/// An entry of a directory's index.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The file it names.
    pub file: FileRef,
    /// The name, and copies of size and times that may be old.
    pub name: FileName<'a>,
}

impl<'a> DirIndex<'a> {
    /// From the value of `$INDEX_ROOT`, the cluster size in bytes, and the
    /// reader of `$INDEX_ALLOCATION` if there is one.
    pub fn open(root: &'a [u8], cluster_size: u32, read: Option<ReadBlocks<'a>>) -> Result<Self> {
        let (Some(kind), Some(size)) = (u32_at(root, 0), u32_at(root, 8)) else {
            return Err(Error::damaged("An index root is shorter than its header"));
        };
        if kind != 0x30 {
            return Err(Error::damaged(format!(
                "Found an index of attribute {kind:#x} in a directory, expected 0x30"
            )));
        }
        if !size.is_power_of_two() || !(512..=1 << 20).contains(&size) {
            return Err(Error::damaged(format!(
                "Found an index block size of {size} bytes, expected a power of two from 512"
            )));
        }
        let unit = if size >= cluster_size {
            cluster_size
        } else {
            512
        };
        Ok(Self {
            root,
            block_size: size as usize,
            vcn_unit: u64::from(unit),
            read,
        })
    }

    /// Visits every entry in order. Damaged blocks are passed over; the first
    /// damage is returned at the end, so that what was visited can be kept.
    pub fn walk(&self, mut visit: impl FnMut(Entry<'_>)) -> Result<()> {
        self.visit(&mut |_| Ordering::Equal, &mut visit)
    }

    /// Visits the entries whose name equals `name` (UTF-16) in upper case:
    /// one as a rule, more in a directory where case matters.
    pub fn find(
        &self,
        name: &[u16],
        upcase: &UpCase,
        mut visit: impl FnMut(Entry<'_>),
    ) -> Result<()> {
        let units = |b: &[u8]| -> Vec<u16> {
            let units = b.as_chunks::<2>().0.iter();
            units.map(|&u| u16::from_le_bytes(u)).collect()
        };
        self.visit(
            &mut |f| upcase.compare(units(f.name), name.iter().copied()),
            &mut visit,
        )
    }

    fn visit(
        &self,
        order: &mut dyn FnMut(&FileName<'_>) -> Ordering,
        visit: &mut dyn FnMut(Entry<'_>),
    ) -> Result<()> {
        let mut walk = Walk {
            index: self,
            order,
            visit,
            seen: HashSet::new(),
            damage: None,
        };
        walk.node(self.root, 16, 0);
        walk.damage.map_or(Ok(()), Err)
    }

    fn block(&self, vcn: u64) -> Result<Vec<u8>> {
        let read = self
            .read
            .ok_or_else(|| Error::damaged("An index has child blocks but no place for them"))?;
        let offset = vcn.checked_mul(self.vcn_unit).ok_or_else(|| {
            Error::damaged(format!("Found index block {vcn:#x}, beyond any size"))
        })?;
        let mut block = vec![0; self.block_size];
        read(offset, &mut block)?;
        unprotect(&mut block, vcn)?;
        Ok(block)
    }
}

/// Checks the block's header, and puts back the last two bytes of each sector.
fn unprotect(block: &mut [u8], vcn: u64) -> Result<()> {
    let bad = |what: &str| Err(Error::damaged(format!("{what} in index block {vcn}")));
    if !block.starts_with(b"INDX") {
        return bad("Found no INDX signature");
    }
    let own = u64_at(block, 16);
    if own != Some(vcn) {
        return bad(&format!("Found the number {}", own.unwrap_or(u64::MAX)));
    }
    let (Some(at), Some(count)) = (u16_at(block, 4), u16_at(block, 6)) else {
        return bad("Found no update sequence");
    };
    let sectors = block.len() / STRIDE;
    let end = at + 2 * (sectors + 1);
    if count != sectors + 1 || at < 24 || end > STRIDE - 2 && end > block.len().min(4096) {
        return bad("Found an impossible update sequence");
    }
    let Some(sequence) = block.get(at..end).map(<[u8]>::to_vec) else {
        return bad("Found an update sequence behind the end");
    };
    for (i, saved) in sequence[2..].as_chunks::<2>().0.iter().enumerate() {
        let tail = &mut block[(i + 1) * STRIDE - 2..(i + 1) * STRIDE];
        if tail != &sequence[..2] {
            return bad("Found a torn write (update sequence differs)");
        }
        tail.copy_from_slice(saved);
    }
    Ok(())
}

struct Walk<'w, 'a> {
    index: &'w DirIndex<'a>,
    order: &'w mut dyn FnMut(&FileName<'_>) -> Ordering,
    visit: &'w mut dyn FnMut(Entry<'_>),
    seen: HashSet<u64>,
    damage: Option<Error>,
}

impl Walk<'_, '_> {
    fn hurt(&mut self, e: Error) {
        self.damage.get_or_insert(e);
    }

    fn child(&mut self, vcn: u64, depth: u32) {
        if depth > MAX_DEPTH || !self.seen.insert(vcn) {
            return self.hurt(Error::damaged(format!(
                "An index refers to block {vcn} more than once"
            )));
        }
        match self.index.block(vcn) {
            Ok(block) => self.node(&block, 24, depth),
            Err(e) => self.hurt(e),
        }
    }

    fn node(&mut self, node: &[u8], header: usize, depth: u32) {
        let (Some(first), Some(end)) = (u32_at(node, header), u32_at(node, header + 4)) else {
            return self.hurt(Error::damaged("An index node is shorter than its header"));
        };
        let Some(mut rest) = node.get(header..).and_then(|n| {
            let end = (end as usize).min(n.len());
            n.get(first as usize..end)
        }) else {
            return self.hurt(Error::damaged(
                "The entries of an index node lie outside it",
            ));
        };
        loop {
            let Some((entry, next)) = split_entry(rest) else {
                return self.hurt(Error::damaged("Found a damaged entry in an index node"));
            };
            rest = next;
            let name = match (entry.last, FileName::parse(entry.key)) {
                (true, _) => None,
                (false, Some(name)) => Some(name),
                (false, None) => {
                    self.hurt(Error::damaged("Found a damaged name in an index node"));
                    if let Some(vcn) = entry.child {
                        self.child(vcn, depth + 1);
                    }
                    continue;
                }
            };
            let order = name.as_ref().map_or(Ordering::Greater, |n| (self.order)(n));
            if let Some(vcn) = entry.child.filter(|_| order != Ordering::Less) {
                self.child(vcn, depth + 1);
            }
            match name {
                Some(name) if order == Ordering::Equal => (self.visit)(Entry {
                    file: entry.file,
                    name,
                }),
                _ if order == Ordering::Greater => return,
                _ => {}
            }
        }
    }
}

struct RawEntry<'a> {
    file: FileRef,
    key: &'a [u8],
    child: Option<u64>,
    last: bool,
}

fn split_entry(rest: &[u8]) -> Option<(RawEntry<'_>, &[u8])> {
    let len = u16_at(rest, 8)?;
    let flags = u16_at(rest, 12)?;
    if len < 16 || len > rest.len() {
        return None;
    }
    let (entry, next) = rest.split_at(len);
    let (has_child, last) = (flags & 1 != 0, flags & 2 != 0);
    let body_end = if has_child { len.checked_sub(8)? } else { len };
    let key = if last {
        &[][..]
    } else {
        entry.get(16..body_end)?.get(..u16_at(entry, 10)?)?
    };
    let child = match has_child {
        true => Some(u64_at(entry, body_end.max(16))?),
        false => None,
    };
    let file = FileRef::from_raw(u64_at(entry, 0)?);
    let entry = RawEntry {
        file,
        key,
        child,
        last,
    };
    Some((entry, next))
}

fn u16_at(b: &[u8], at: usize) -> Option<usize> {
    let b = b.get(at..at.checked_add(2)?)?;
    Some(usize::from(u16::from_le_bytes([b[0], b[1]])))
}

fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(b.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(b.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(name: &str) -> Vec<u8> {
        let mut v = vec![0; 66];
        v[64] = name.encode_utf16().count() as u8;
        v[65] = 1;
        v.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
        v
    }

    fn entry(file: u64, key: &[u8], child: Option<u64>, last: bool) -> Vec<u8> {
        let mut e = file.to_le_bytes().to_vec();
        let len = (16 + key.len()).next_multiple_of(8) + 8 * usize::from(child.is_some());
        e.extend((len as u16).to_le_bytes());
        e.extend((key.len() as u16).to_le_bytes());
        e.extend((u16::from(child.is_some()) | u16::from(last) << 1).to_le_bytes());
        e.extend([0, 0]);
        e.extend(key);
        e.resize(len, 0);
        if let Some(c) = child {
            e[len - 8..].copy_from_slice(&c.to_le_bytes());
        }
        e
    }

    fn header(entries: &[u8], first: u32) -> Vec<u8> {
        let mut h = first.to_le_bytes().to_vec();
        h.extend((first + entries.len() as u32).to_le_bytes());
        h.resize(first as usize, 0);
        h.extend(entries);
        h
    }

    fn root(entries: &[u8]) -> Vec<u8> {
        let mut r = vec![0x30, 0, 0, 0, 1, 0, 0, 0, 0, 16, 0, 0, 1, 0, 0, 0];
        r.extend(header(entries, 16));
        r
    }

    fn block(vcn: u64, entries: &[u8]) -> Vec<u8> {
        sized_block(4096, vcn, entries)
    }

    fn sized_block(size: usize, vcn: u64, entries: &[u8]) -> Vec<u8> {
        let words = size / 512 + 1;
        let mut b = b"INDX\x28\0".to_vec();
        b.extend((words as u16).to_le_bytes());
        b.resize(24, 0);
        b[16..24].copy_from_slice(&vcn.to_le_bytes());
        b.extend(header(entries, (16 + 2 * words).next_multiple_of(8) as u32));
        assert!(b.len() <= size);
        b.resize(size, 0);
        b[40..42].copy_from_slice(&[7, 7]);
        for i in 0..words - 1 {
            let end = (i + 1) * 512;
            let saved = [b[end - 2], b[end - 1]];
            b[42 + 2 * i..44 + 2 * i].copy_from_slice(&saved);
            b[end - 2..end].copy_from_slice(&[7, 7]);
        }
        b
    }

    /// Root: m(9) with children 0 before and 1 behind.
    fn sample() -> (Vec<u8>, Vec<u8>) {
        let rt = [
            entry(9, &key("m"), Some(0), false),
            entry(0, &[], Some(1), true),
        ];
        let left = [
            entry(1, &key("A"), None, false),
            entry(2, &key("a"), None, false),
            entry(3, &key("bee"), None, false),
            entry(0, &[], None, true),
        ];
        let right = [
            entry(4, &key("Zoë"), None, false),
            entry(0, &[], None, true),
        ];
        let blocks = [block(0, &left.concat()), block(1, &right.concat())];
        (root(&rt.concat()), blocks.concat())
    }

    fn reader(blocks: &[u8]) -> impl Fn(u64, &mut [u8]) -> Result<()> + '_ {
        |at, buf| {
            let from = blocks.get(at as usize..).and_then(|b| b.get(..buf.len()));
            buf.copy_from_slice(from.ok_or_else(|| Error::damaged("behind the end"))?);
            Ok(())
        }
    }

    #[test]
    fn walks_and_finds() {
        let (rt, blocks) = sample();
        let read = reader(&blocks);
        let index = DirIndex::open(&rt, 4096, Some(&read)).unwrap();
        let mut order = vec![];
        index.walk(|e| order.push(e.file.record.0)).unwrap();
        assert_eq!(order, [1, 2, 3, 9, 4]);
        for (name, want) in [
            ("a", vec![1, 2]),
            ("BEE", vec![3]),
            ("M", vec![9]),
            ("zOË", vec![4]),
            ("no", vec![]),
        ] {
            let name: Vec<u16> = name.encode_utf16().collect();
            let mut got = vec![];
            let up = UpCase::standard();
            index
                .find(&name, &up, |e| got.push(e.file.record.0))
                .unwrap();
            assert_eq!(got, want);
        }
    }

    #[test]
    fn blocks_of_every_size_filled_to_the_end() {
        let up = UpCase::standard();
        for size in (9..=16).map(|n| 1usize << n) {
            // Names of 255 characters where two of them fit.
            let len = if size < 2048 { 40 } else { 255 };
            let name = |n: usize| format!("{n:04}{}", "x".repeat(len - 4));
            let mut entries = Vec::new();
            let mut count = 0;
            let room = size - (40 + 2 * (size / 512 + 1)).next_multiple_of(8) - 16;
            loop {
                let e = entry(count as u64, &key(&name(count)), None, false);
                if entries.len() + e.len() > room {
                    break;
                }
                entries.extend(e);
                count += 1;
            }
            assert!(count >= 2, "{size}");
            entries.extend(entry(0, &[], None, true));
            for cluster in [512, 4096, 65536] {
                let vcn = 3 * size / if size >= cluster { cluster } else { 512 };
                let mut rt = root(&entry(0, &[], Some(vcn as u64), true));
                rt[8..12].copy_from_slice(&(size as u32).to_le_bytes());
                let mut blocks = vec![0; 3 * size];
                blocks.extend(sized_block(size, vcn as u64, &entries));
                let read = reader(&blocks);
                let index = DirIndex::open(&rt, cluster as u32, Some(&read)).unwrap();
                let mut seen = vec![];
                index.walk(|e| seen.push(e.file.record.0 as usize)).unwrap();
                assert!(seen.into_iter().eq(0..count), "{size} {cluster}");
                for n in [0, count / 2, count - 1] {
                    let wide: Vec<u16> = name(n).encode_utf16().collect();
                    let mut got = vec![];
                    index
                        .find(&wide, &up, |e| got.push(e.file.record.0))
                        .unwrap();
                    assert_eq!(got, [n as u64], "{size} {cluster}");
                }
            }
        }
    }

    #[test]
    fn a_torn_block_costs_only_itself() {
        let (rt, mut blocks) = sample();
        blocks[1022] ^= 1;
        let read = reader(&blocks);
        let index = DirIndex::open(&rt, 4096, Some(&read)).unwrap();
        let mut order = vec![];
        let e = index.walk(|e| order.push(e.file.record.0)).unwrap_err();
        assert!(e.message().contains("torn"), "{e}");
        assert_eq!(order, [9, 4]);
    }

    #[test]
    fn a_loop_ends() {
        let rt = root(&entry(0, &[], Some(0), true));
        let blocks = block(0, &entry(0, &[], Some(0), true));
        let read = reader(&blocks);
        let index = DirIndex::open(&rt, 4096, Some(&read)).unwrap();
        assert!(index.walk(|_| ()).is_err());
    }

    #[test]
    fn blocks_smaller_than_a_cluster_count_in_sectors() {
        let rt = root(&entry(0, &[], Some(8), true));
        let mut blocks = vec![0; 4096];
        blocks.extend(block(
            8,
            &[entry(5, &key("x"), None, false), entry(0, &[], None, true)].concat(),
        ));
        let read = reader(&blocks);
        let index = DirIndex::open(&rt, 65536, Some(&read)).unwrap();
        let mut n = 0;
        index.walk(|e| n += e.file.record.0).unwrap();
        assert_eq!(n, 5);
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(
            edits in prop::collection::vec((0usize..8192, any::<u8>()), 0..30),
            root_edits in prop::collection::vec((0usize..150, any::<u8>()), 0..4),
            mend in any::<bool>(),
        ) {
            let (mut rt, mut blocks) = sample();
            for (at, b) in edits {
                if !mend || at % 512 < 510 {
                    blocks[at] = b;
                }
            }
            for (at, b) in root_edits {
                if let Some(x) = rt.get_mut(at) {
                    *x = b;
                }
            }
            let read = reader(&blocks);
            if let Ok(index) = DirIndex::open(&rt, 4096, Some(&read)) {
                let mut n = 0;
                let _ = index.walk(|_| n += 1);
                prop_assert!(n < 1000);
                let _ = index.find(&[97], &UpCase::standard(), |_| ());
            }
        }
    }
}
