//! Where the executor puts things.

use crate::toy::{Shuffle, archive, content, open, options};
use ntbak::device::MemorySink;
use ntbak::observe::Silent;
use ntbak::ops::restore::{Patch, RestoreOptions, restore};
use ntbak::units::ByteRange;
use std::sync::Arc;

const BLOCK: u64 = 64 << 10;

#[test]
fn a_volume_laid_out_anew_is_what_its_view_shows() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(6 << 20);
    let path = archive(dir.path(), &bytes);
    let blocks = (bytes.len() as u64) / BLOCK;
    for (seed, keep) in [(1, blocks), (2, blocks / 2), (3, 20), (4, blocks - 1)] {
        let change = Arc::new(Shuffle::shrink(blocks, keep, BLOCK, seed));
        let want = change.wanted(&bytes);
        let used: Vec<u8> = (0..want.len()).map(|i| i as u8 | 1).collect();
        for (sink, zero_free) in [
            (MemorySink::new(want.len(), 512), false),
            (MemorySink::used(used.clone(), 512), false),
            (MemorySink::used(used, 512), true),
        ] {
            let (reader, mut plan) = open(&path);
            plan.regions[0].bytes = want.len() as u64;
            plan.regions[0].change = Some(change.clone());
            plan.bytes = want.len() as u64;
            let how = RestoreOptions {
                zero_free,
                ..options(true)
            };
            let s = restore(reader, &plan, &sink, &how, &Silent).unwrap();
            assert!(s.complete && s.verified, "{keep}: {:?}", s.mismatches);
            let got = sink.bytes();
            let bad = got.iter().zip(&want).position(|(a, b)| a != b);
            assert!(bad.is_none(), "{keep}: differs at {bad:?}");
        }
    }
}

/// The same with a place of its own: what lies around it is not touched, but
/// for the table and what is to be zero.
#[test]
fn beside_the_landing_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(2 << 20);
    let path = archive(dir.path(), &bytes);
    let blocks = (bytes.len() as u64) / BLOCK;
    let change = Arc::new(Shuffle::shrink(blocks, 20, BLOCK, 9));
    let part = change.wanted(&bytes);
    let base = 1 << 20;
    let len = base + part.len() + (1 << 20);
    let (reader, mut plan) = open(&path);
    plan.regions[0].bytes = part.len() as u64;
    plan.regions[0].base = base as u64;
    plan.regions[0].change = Some(change);
    plan.bytes = len as u64;
    plan.whole = false;
    // The second lies over the volume's own, in part.
    plan.patches = vec![
        Patch {
            at: 0,
            bytes: vec![0xaa; 1024],
        },
        Patch {
            at: base as u64 + 256,
            bytes: vec![0xab; 600],
        },
    ];
    plan.zeros = vec![ByteRange {
        start: len as u64 - 4096,
        end: len as u64,
    }];
    let sink = MemorySink::used(vec![0x55; len], 512);
    let how = RestoreOptions {
        zero_free: true,
        ..options(true)
    };
    let s = restore(reader, &plan, &sink, &how, &Silent).unwrap();
    assert!(s.verified, "{:?}", s.mismatches);
    let mut want = vec![0x55; len];
    want[base..base + part.len()].copy_from_slice(&part);
    want[..1024].fill(0xaa);
    want[base + 256..base + 856].fill(0xab);
    want[len - 4096..].fill(0);
    let bad = sink.bytes().iter().zip(&want).position(|(a, b)| a != b);
    assert!(bad.is_none(), "differs at {bad:?}");
}

/// Something writes in between: reading back finds it, in what was moved and in
/// what was patched.
#[test]
fn reading_back_sees_moved_pieces_and_patches() {
    use ntbak::device::Sink;
    use ntbak::error::Result;
    struct Bad(MemorySink, u64);
    impl Sink for Bad {
        fn len(&self) -> u64 {
            self.0.len()
        }
        fn sector_size(&self) -> u32 {
            512
        }
        fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
            let mut data = data.to_vec();
            if let Some(i) = self.1.checked_sub(offset)
                && let Some(b) = data.get_mut(i as usize)
            {
                *b ^= 1;
            }
            self.0.write_at(offset, &data)
        }
        fn zero_at(&self, offset: u64, len: u64) -> Result<()> {
            self.0.zero_at(offset, len)
        }
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
            self.0.read_at(offset, buf)
        }
        fn sync(&self) -> Result<()> {
            Ok(())
        }
        fn name(&self) -> &str {
            "bad"
        }
        fn is_fresh(&self) -> bool {
            true
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(2 << 20);
    let path = archive(dir.path(), &bytes);
    let change = Arc::new(Shuffle::shrink((bytes.len() as u64) / BLOCK, 20, BLOCK, 5));
    // Data, the volume's first sector, a patch inside, a sector of the table.
    for bad in [5000, 100, BLOCK + 3 * BLOCK + 700, 20 * BLOCK - 5] {
        let (reader, mut plan) = open(&path);
        plan.regions[0].bytes = 20 * BLOCK;
        plan.regions[0].change = Some(change.clone());
        plan.bytes = 20 * BLOCK;
        plan.patches = vec![Patch {
            at: 20 * BLOCK - 10,
            bytes: vec![3; 10],
        }];
        let sink = Bad(MemorySink::new(20 * BLOCK as usize, 512), bad);
        let s = restore(reader, &plan, &sink, &options(true), &Silent).unwrap();
        let seen = s.mismatches.iter().any(|m| m.range().contains(&bad));
        assert!(!s.verified && seen, "{bad}: {:?}", s.mismatches);
    }
}
