//! What is written differently, in pieces: bytes that were made once and kept,
//! and content that is made again whenever it is asked for.

use crate::device::Scratch;
use crate::error::{Error, Result};
use crate::units::ClusterSet;

/// Longest piece that is given out.
const STEP: u64 = 1 << 20;
/// Bytes kept in memory; more go to a temporary file.
const IN_MEMORY: usize = 32 << 20;

/// Where the bytes of a patch come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// From this place of the scratch on.
    Kept(u64),
    /// The same byte all over.
    Fill(u8),
    /// `$Bitmap` from this byte on.
    Bitmap(u64),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: u64,
    len: u64,
    body: Body,
}

/// Patches by their place in the new volume.
pub(super) struct Patches {
    entries: Vec<Entry>,
    kept: Scratch,
    /// Clusters in use on the new volume, for [`Body::Bitmap`].
    used: ClusterSet,
}

impl Patches {
    /// `used` are the clusters in use on the new volume.
    pub fn new(used: ClusterSet) -> Self {
        Self {
            entries: Vec::new(),
            kept: Scratch::new(IN_MEMORY),
            used,
        }
    }

    /// These bytes, kept.
    pub fn bytes(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let at = self.kept.append(bytes)?;
        let len = bytes.len() as u64;
        if let Some(last) = self.entries.last_mut()
            && last.offset + last.len == offset
            && matches!(last.body, Body::Kept(from) if from + last.len == at)
        {
            last.len += len;
            return Ok(());
        }
        let body = Body::Kept(at);
        self.entries.push(Entry { offset, len, body });
        Ok(())
    }

    /// `len` times the same byte.
    pub fn fill(&mut self, offset: u64, len: u64, byte: u8) {
        let body = Body::Fill(byte);
        if len > 0 {
            self.entries.push(Entry { offset, len, body });
        }
    }

    /// `len` bytes of `$Bitmap` from byte `from` of it on.
    pub fn bitmap(&mut self, offset: u64, len: u64, from: u64) {
        let body = Body::Bitmap(from);
        if len > 0 {
            self.entries.push(Entry { offset, len, body });
        }
    }

    /// Puts them in order, when all are there.
    pub fn finish(&mut self) -> Result<()> {
        self.entries.sort_unstable_by_key(|e| e.offset);
        self.entries.shrink_to_fit();
        for pair in self.entries.windows(2) {
            if pair[0].offset + pair[0].len > pair[1].offset {
                return Err(Error::damaged(format!(
                    "Two files of NTFS share byte {:#x} of the new layout, and both change",
                    pair[1].offset
                ))
                .hint("Restore the volume as it is, or have it repaired first"));
            }
        }
        Ok(())
    }

    /// Bytes that are written differently.
    pub fn total(&self) -> u64 {
        self.entries.iter().map(|e| e.len).sum()
    }

    /// Everything, ascending, in pieces of at most 1 MiB.
    pub fn each(&self, each: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let mut buf = Vec::new();
        for e in &self.entries {
            let mut done = 0;
            while done < e.len {
                let now = STEP.min(e.len - done);
                buf.resize(now as usize, 0);
                self.read(e, done, &mut buf)?;
                each(e.offset + done, &buf)?;
                done += now;
            }
        }
        Ok(())
    }

    /// Lays the patches over `buf`, which holds the new volume from `offset` on.
    pub fn lay_over(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset.saturating_add(buf.len() as u64);
        let first = self.entries.partition_point(|e| e.offset + e.len <= offset);
        for e in self.entries[first..].iter().take_while(|e| e.offset < end) {
            let from = e.offset.max(offset);
            let to = (e.offset + e.len).min(end);
            let part = &mut buf[(from - offset) as usize..(to - offset) as usize];
            self.read(e, from - e.offset, part)?;
        }
        Ok(())
    }

    fn read(&self, e: &Entry, skip: u64, buf: &mut [u8]) -> Result<()> {
        match e.body {
            Body::Kept(at) => self.kept.read_at(at + skip, buf),
            Body::Fill(byte) => {
                buf.fill(byte);
                Ok(())
            }
            Body::Bitmap(from) => {
                bitmap_bytes(&self.used, from + skip, buf);
                Ok(())
            }
        }
    }
}

/// Bytes of `$Bitmap` from byte `from` on. As Windows and mkntfs have it, bits
/// that stand for no cluster are set.
fn bitmap_bytes(used: &ClusterSet, from: u64, buf: &mut [u8]) {
    buf.fill(0);
    let first = from * 8;
    let end = first + buf.len() as u64 * 8;
    let mut set = |range: std::ops::Range<u64>| {
        let mut n = range.start - first;
        let end = range.end - first;
        while n < end {
            let (byte, bit) = ((n / 8) as usize, n % 8);
            if bit == 0 && end - n >= 8 {
                let whole = ((end - n) / 8) as usize;
                buf[byte..byte + whole].fill(0xff);
                n += whole as u64 * 8;
            } else {
                buf[byte] |= 1 << bit;
                n += 1;
            }
        }
    };
    used.runs(first..end).for_each(&mut set);
    let behind = used.limit().clamp(first, end);
    set(behind..end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn overlaps_are_refused() {
        let mut p = Patches::new(ClusterSet::new(1));
        p.fill(10, 5, 1);
        p.bytes(14, &[1]).unwrap();
        assert!(p.finish().is_err());
    }

    proptest! {
        #[test]
        fn all_of_it_and_any_part_agree(
            parts in prop::collection::vec((0u64..9, 1u64..50, 0u8..3), 0..20),
            order in any::<u64>(), from in 0u64..400, len in 0usize..300,
            runs in prop::collection::vec((0u64..90, 1u64..30), 0..6),
        ) {
            let mut used = ClusterSet::new(100);
            for (at, n) in runs { used.insert(at..(at + n).min(100)); }
            let bit = |n: u64| n >= 100 || used.contains(n);
            let mut want = vec![0xee; 1000];
            let mut at = 0;
            let mut todo = Vec::new();
            for (i, (gap, len, kind)) in parts.into_iter().enumerate() {
                at += gap;
                for k in 0..len {
                    want[(at + k) as usize] = match kind {
                        0 => (i as u64 * 7 + k) as u8,
                        1 => 0xff,
                        _ => (0..8).map(|b| u8::from(bit((3 + k) * 8 + b)) << b).sum(),
                    };
                }
                todo.push((at, len, kind, i as u64));
                at += len;
            }
            todo.sort_by_key(|t| t.3.wrapping_mul(order | 1));
            let mut p = Patches::new(used);
            for (at, len, kind, i) in todo {
                match kind {
                    0 => {
                        let b: Vec<u8> = (0..len).map(|k| (i * 7 + k) as u8).collect();
                        p.bytes(at, &b).unwrap();
                    }
                    1 => p.fill(at, len, 0xff),
                    _ => p.bitmap(at, len, 3),
                }
            }
            p.finish().unwrap();
            let mut all = vec![0xee; 1000];
            p.each(&mut |at, b| {
                all[at as usize..at as usize + b.len()].copy_from_slice(b);
                Ok(())
            }).unwrap();
            prop_assert_eq!(&all, &want);
            let mut part = vec![0xee; len];
            p.lay_over(from, &mut part).unwrap();
            prop_assert_eq!(&part[..], &want[from as usize..from as usize + len]);
        }
    }
}
