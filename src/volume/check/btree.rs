//! An index as a tree: every node, every entry, the order of the keys and the
//! bitmap of its blocks. Serves directories and view indexes alike.
//!
//! | view index entry | size | field |
//! |---|---|---|
//! | 0, 2 | 2, 2 | place and length of the data |
//! | 8 | 2 | length of the entry |
//! | 10 | 2 | length of the key |
//! | 12 | 2 | flags: 1 has a child block, 2 last of its node |
//! | 16 | n | key |
//!
//! The collation rules are those of `$AttrDef` (Linux-NTFS documentation, "Index").

use super::report::Code;
use super::streams::Body;
use crate::error::{Error, ErrorKind, Result};
use crate::volume::attr::{u16_at, u32_at, u64_at};
use crate::volume::open::Volume;
use crate::volume::record::apply_fixups;
use crate::volume::upcase::UpCase;
use std::cmp::Ordering;
use std::collections::HashSet;

/// Deeper than any index can be.
const MAX_DEPTH: u32 = 40;
/// Largest index block.
const MAX_BLOCK: u32 = 64 << 10;

/// Collation of file names.
pub(super) const FILE_NAMES: u32 = 0x01;
/// Collation of one number.
pub(super) const NUMBER: u32 = 0x10;
/// Collation of security hashes.
pub(super) const SECURITY_HASH: u32 = 0x12;
/// Collation of several numbers.
pub(super) const NUMBERS: u32 = 0x13;

/// An index of one file.
pub(super) struct Index<'a> {
    pub volume: &'a Volume,
    pub upcase: &'a UpCase,
    pub root: &'a [u8],
    pub blocks: Option<Body<'a>>,
    pub bitmap: Option<Body<'a>>,
}

/// An entry.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    /// The eight bytes before its length: a file reference in a directory.
    pub head: u64,
    pub key: &'a [u8],
    /// Of a view index: what stands behind the key.
    pub data: &'a [u8],
}

/// Something wrong with the index.
pub(super) struct Wrong {
    pub code: Code,
    pub offset: Option<u64>,
    pub message: String,
}

/// Type of the indexed attribute and collation, from `$INDEX_ROOT`.
pub(super) fn kind(root: &[u8]) -> Option<(u32, u32)> {
    let head = root.first_chunk::<16>()?;
    Some((u32_at(head, 0), u32_at(head, 4)))
}

/// Walks the whole index. Each entry goes to `each` in order, each damage to
/// `wrong`; returns the blocks that were read. `pay` is asked before a block
/// is read and ends the walk.
pub(super) fn walk(
    index: &Index<'_>,
    pay: &dyn Fn(u64) -> bool,
    each: &mut dyn FnMut(Entry<'_>),
    wrong: &mut dyn FnMut(Wrong),
) -> u64 {
    let Some(head) = index.root.first_chunk::<16>() else {
        wrong(Wrong {
            code: Code::IndexNode,
            offset: None,
            message: "An index root is shorter than its header".to_owned(),
        });
        return 0;
    };
    let (kind, collation, size) = (u32_at(head, 0), u32_at(head, 4), u32_at(head, 8));
    let cluster = index.volume.geometry().cluster_size;
    if !size.is_power_of_two() || !(512..=MAX_BLOCK).contains(&size) {
        wrong(Wrong {
            code: Code::IndexNode,
            offset: None,
            message: format!("Found an index block size of {size} bytes, expected 512 to 65536"),
        });
        return 0;
    }
    let mut walk = Walk {
        index,
        directory: kind == 0x30,
        collation,
        block: size as usize,
        unit: u64::from(if size >= cluster { cluster } else { 512 }),
        seen: HashSet::new(),
        previous: None,
        sound: true,
        poor: false,
        pay,
        each,
        wrong,
    };
    walk.node(index.root, 16, 0, None);
    if !walk.poor {
        walk.bitmap();
    }
    walk.seen.len() as u64
}

struct Walk<'a, 'b> {
    index: &'b Index<'a>,
    directory: bool,
    collation: u32,
    block: usize,
    /// Bytes per VCN of a child.
    unit: u64,
    /// Numbers of the blocks that were visited.
    seen: HashSet<u64>,
    previous: Option<Vec<u8>>,
    sound: bool,
    poor: bool,
    pay: &'b dyn Fn(u64) -> bool,
    each: &'b mut dyn FnMut(Entry<'_>),
    wrong: &'b mut dyn FnMut(Wrong),
}

impl Walk<'_, '_> {
    #[cold]
    fn hurt(&mut self, code: Code, place: Option<u64>, what: String) {
        self.sound &= code == Code::IndexOrder;
        let where_ = match place {
            Some(block) => format!(" in index block {block}"),
            None => " in the index root".to_owned(),
        };
        let offset = place.and_then(|b| self.offset(b));
        (self.wrong)(Wrong {
            code,
            offset,
            message: what + &where_,
        });
    }

    /// Byte position on the volume of a block.
    fn offset(&self, block: u64) -> Option<u64> {
        match &self.index.blocks {
            Some(b) => b.place(self.index.volume, block.checked_mul(self.block as u64)?),
            None => None,
        }
    }

    /// A node whose header begins at `at` of `bytes`; `place` is its block.
    fn node(&mut self, bytes: &[u8], at: usize, depth: u32, place: Option<u64>) {
        let hurt = |me: &mut Self, what: String| me.hurt(Code::IndexNode, place, what);
        let Some(head) = bytes.get(at..at + 16) else {
            return hurt(self, "Found no header of a node".into());
        };
        let (first, used) = (u32_at(head, 0) as usize, u32_at(head, 4) as usize);
        let (room, inner) = (u32_at(head, 8) as usize, head[12] & 1 != 0);
        if first < 16 || first > used || used > room || at + room > bytes.len() {
            return hurt(
                self,
                format!(
                    "Found entries from {first} to {used} of {room} bytes, expected them inside {}",
                    bytes.len() - at
                ),
            );
        }
        let mut rest = &bytes[at + first..at + used];
        loop {
            if rest.len() < 16 {
                return hurt(self, "Found no last entry of a node".into());
            }
            let (len, key_len) = (usize::from(u16_at(rest, 8)), usize::from(u16_at(rest, 10)));
            let flags = u16_at(rest, 12);
            let (has_child, last) = (flags & 1 != 0, flags & 2 != 0);
            let tail = if has_child { 8 } else { 0 };
            if len & 7 != 0 || len < 16 + tail || len > rest.len() {
                return hurt(
                    self,
                    format!(
                        "Found an entry of {len} bytes, expected a multiple of 8 up to {}",
                        rest.len()
                    ),
                );
            }
            let (entry, next) = rest.split_at(len);
            if has_child != inner {
                hurt(
                    self,
                    format!(
                        "Found an entry {} a child in a node that is {}",
                        if has_child { "with" } else { "without" },
                        if inner { "no leaf" } else { "a leaf" }
                    ),
                );
            }
            if has_child {
                self.child(u64_at(entry, len - 8), depth + 1, place);
                if self.poor {
                    return;
                }
            }
            if last {
                if !next.is_empty() {
                    hurt(
                        self,
                        format!("Found {} bytes behind the last entry", next.len()),
                    );
                }
                return;
            }
            rest = next;
            match entry.get(16..16 + key_len) {
                Some(key) if key_len > 0 && 16 + key_len <= len - tail => {
                    self.entry(entry, key, len - tail, place);
                }
                _ => hurt(
                    self,
                    format!("Found a key of {key_len} bytes in an entry of {len}"),
                ),
            }
        }
    }

    fn entry(&mut self, entry: &[u8], key: &[u8], end: usize, place: Option<u64>) {
        let data: &[u8] = if self.directory {
            &[]
        } else {
            let (from, len) = (usize::from(u16_at(entry, 0)), usize::from(u16_at(entry, 2)));
            match entry[..end].get(from..from + len) {
                Some(data) => data,
                None => {
                    let what = format!("Found {len} bytes of data at {from} in an entry of {end}");
                    return self.hurt(Code::IndexNode, place, what);
                }
            }
        };
        let ordered = match &self.previous {
            Some(p) => self.ordered(p, key),
            None => true,
        };
        if !ordered {
            self.hurt(
                Code::IndexOrder,
                place,
                "Found a key that does not sort behind the one before".into(),
            );
        }
        let previous = self.previous.get_or_insert_default();
        previous.clear();
        previous.extend_from_slice(key);
        (self.each)(Entry {
            head: u64_at(entry, 0),
            key,
            data,
        });
    }

    /// Whether `b` may stand behind `a`. Unknown rules allow everything.
    fn ordered(&self, a: &[u8], b: &[u8]) -> bool {
        let numbers = |k: &[u8]| -> Vec<u32> {
            let words = k.as_chunks::<4>().0.iter();
            words.map(|w| u32::from_le_bytes(*w)).collect()
        };
        match self.collation {
            FILE_NAMES => {
                let (Some(a), Some(b)) = (name(a), name(b)) else {
                    return true;
                };
                let units = |n: &[u8]| -> Vec<u16> {
                    let units = n.as_chunks::<2>().0.iter();
                    units.map(|u| u16::from_le_bytes(*u)).collect()
                };
                let (a, b) = (units(a), units(b));
                match self
                    .index
                    .upcase
                    .compare(a.iter().copied(), b.iter().copied())
                {
                    Ordering::Less => true,
                    // Names that differ only in case stand side by side.
                    Ordering::Equal => a != b,
                    Ordering::Greater => false,
                }
            }
            NUMBER | SECURITY_HASH | NUMBERS => numbers(a) < numbers(b),
            _ => true,
        }
    }

    fn child(&mut self, vcn: u64, depth: u32, from: Option<u64>) {
        let size = self.block as u64;
        let at = vcn
            .checked_mul(self.unit)
            .filter(|at| at.is_multiple_of(size));
        let Some(at) = at else {
            let what = format!("Found {vcn} as VCN of a child, expected one where a block begins");
            return self.hurt(Code::IndexNode, from, what);
        };
        let number = at / size;
        if depth > MAX_DEPTH || !self.seen.insert(number) {
            let what = format!("Found block {number} as a child a second time");
            return self.hurt(Code::IndexNode, from, what);
        }
        if !(self.pay)(size) {
            self.poor = true;
            return;
        }
        let mut block = vec![0; self.block];
        if let Err(e) = self.load(at, vcn, &mut block) {
            let code = match e.kind() {
                ErrorKind::Damaged | ErrorKind::NotFound => Code::IndexNode,
                _ => Code::Unreadable,
            };
            return self.hurt(code, Some(number), e.message().to_owned());
        }
        self.node(&block, 24, depth, Some(number));
    }

    fn load(&self, at: u64, vcn: u64, block: &mut [u8]) -> Result<()> {
        let Some(body) = &self.index.blocks else {
            return Err(Error::damaged("Found no $INDEX_ALLOCATION"));
        };
        let end = at.saturating_add(block.len() as u64);
        if end > body.size() {
            let found = body.size();
            return Err(Error::damaged(format!(
                "Found {found} bytes of $INDEX_ALLOCATION, expected at least {end}"
            )));
        }
        body.read(self.index.volume, at, block)?;
        if block[..4] != *b"INDX" {
            return Err(Error::damaged(format!(
                "Found {:02x?} as signature, expected INDX",
                &block[..4]
            )));
        }
        apply_fixups(block).map_err(|f| Error::damaged(f.to_string()))?;
        let own = u64_at(block, 16);
        if own != vcn {
            return Err(Error::damaged(format!(
                "Found VCN {own} in a block, expected {vcn}"
            )));
        }
        Ok(())
    }

    /// Compares the bitmap with the blocks that were visited.
    fn bitmap(&mut self) {
        let Some(blocks) = &self.index.blocks else {
            if let Some(b) = &self.index.bitmap
                && let Ok(bits) = b.read_up_to(self.index.volume, 1 << 16)
                && bits.iter().any(|b| *b != 0)
            {
                self.hurt(
                    Code::IndexBitmap,
                    None,
                    "Found marked blocks in the bitmap of an index without blocks".into(),
                );
            }
            return;
        };
        let Some(bitmap) = &self.index.bitmap else {
            return self.hurt(
                Code::IndexBitmap,
                None,
                "Found no bitmap beside $INDEX_ALLOCATION".into(),
            );
        };
        let there = blocks.mapped(self.index.volume).min(blocks.size()) / self.block as u64;
        // Index blocks are no holes, so their bits are no more than the source has.
        let there = there.min(self.index.volume.source().len() / self.block as u64);
        let wanted = there.div_ceil(8) + 8;
        let bits = match bitmap.read_up_to(self.index.volume, wanted) {
            Ok(bits) => bits,
            Err(e) => {
                let code = match e.kind() {
                    ErrorKind::Damaged => Code::IndexBitmap,
                    _ => Code::Unreadable,
                };
                return self.hurt(code, None, e.message().to_owned());
            }
        };
        let is_set = |n: u64| {
            let byte = usize::try_from(n / 8).ok().and_then(|i| bits.get(i));
            byte.is_some_and(|b| b >> (n % 8) & 1 == 1)
        };
        let unmarked = self.seen.iter().filter(|n| !is_set(**n)).count();
        if unmarked > 0 {
            let what = format!("Found {unmarked} blocks of the tree not marked in its bitmap");
            self.hurt(Code::IndexBitmap, None, what);
        }
        let all = bits.len() as u64 * 8;
        let extra = (0..all).filter(|n| is_set(*n) && !self.seen.contains(n));
        let extra = extra.count();
        // Where the tree is broken, the blocks below are not reached.
        if extra > 0 && self.sound {
            let what = format!("Found {extra} marked blocks that are no part of the tree");
            self.hurt(Code::IndexBitmap, None, what);
        }
    }
}

/// The name in a `$FILE_NAME` key.
fn name(key: &[u8]) -> Option<&[u8]> {
    key.get(66..66 + 2 * usize::from(*key.get(64)?))
}
