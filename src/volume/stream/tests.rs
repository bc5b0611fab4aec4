//! Tests of the parent.

use super::*;
use crate::device::Source;
use crate::units::{Clusters, Lcn, Vcn};
use proptest::prelude::*;
use std::sync::Arc;

const C: usize = 512;

struct Memory(Vec<u8>);
impl Source for Memory {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
    fn sector_size(&self) -> u32 {
        512
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let from = self.0.get(offset as usize..).unwrap_or_default();
        match from.get(..buf.len()) {
            Some(b) if !b.windows(4).any(|w| w == b"BAD!") => buf.copy_from_slice(b),
            _ => return Err(Error::new(ErrorKind::Unreadable, "bad sector").at(offset)),
        }
        Ok(())
    }
    fn name(&self) -> &str {
        "memory"
    }
}

fn geometry(clusters: u64) -> Geometry {
    Geometry {
        sector_size: 512,
        cluster_size: C as u32,
        record_size: 1024,
        index_record_size: 4096,
        total_sectors: clusters,
        total_clusters: clusters,
        mft_lcn: Lcn(4),
        mftmirr_lcn: Lcn(2),
        serial: 0,
    }
}

fn extent(vcn: u64, place: Place, len: u64) -> Extent {
    Extent {
        vcn: Vcn(vcn),
        place,
        len: Clusters(len),
    }
}

fn open(disk: Vec<u8>, flags: u16, size: u64, init: u64, unit: u8, e: Vec<Extent>) -> Stream {
    let clusters = (disk.len() / C) as u64;
    let sizes = Sizes {
        allocated: 0,
        size,
        initialized: init,
        compression_unit: unit,
    };
    Stream::non_resident(
        Arc::new(Memory(disk)),
        geometry(clusters),
        AttrFlags(flags),
        sizes,
        e,
    )
    .unwrap()
}

fn copied(s: &Stream) -> (Vec<u8>, u64) {
    let (mut out, mut lost) = (Vec::new(), 0);
    s.copy(|p| {
        match p {
            Piece::Data(b) => out.extend_from_slice(b),
            Piece::Zero(n) => out.resize(out.len() + n as usize, 0),
            Piece::Unreadable(n, _) => {
                lost += n;
                out.resize(out.len() + n as usize, 0xee);
            }
        }
        Ok(())
    })
    .unwrap();
    (out, lost)
}

#[test]
fn a_bad_cluster_costs_only_itself() {
    let mut disk = vec![7u8; 8 * C];
    disk[3 * C..3 * C + 4].copy_from_slice(b"BAD!");
    let s = open(
        disk,
        0,
        6 * C as u64 - 10,
        u64::MAX,
        0,
        vec![extent(0, Place::At(Lcn(1)), 6)],
    );
    let (out, lost) = copied(&s);
    assert_eq!((out.len(), lost), (6 * C - 10, C as u64));
    assert!(out[2 * C..3 * C].iter().all(|&b| b == 0xee));
    assert!(s.read_at(2 * C as u64, &mut [0; 600]).is_err());
    assert_eq!(s.read_at(3 * C as u64, &mut [0; 600]).unwrap(), 600);
}

#[test]
fn gaps_and_places_outside_the_volume_are_lost() {
    let e = vec![
        extent(1, Place::At(Lcn(1)), 1),
        extent(2, Place::At(Lcn(u64::MAX >> 2)), 1 << 40),
        extent(2, Place::At(Lcn(1)), 1),
    ];
    let s = open(vec![1; 4 * C], 0, 1 << 50, 1 << 50, 0, e);
    let mut pieces = Vec::new();
    s.copy(|p| {
        pieces.push(match p {
            Piece::Data(b) => (0, b.len() as u64),
            Piece::Zero(n) => (1, n),
            Piece::Unreadable(n, _) => (2, n),
        });
        Ok(())
    })
    .unwrap();
    let c = C as u64;
    let rest = (1 << 50) - (2 + (1 << 40)) * c;
    assert_eq!(pieces, [(2, c), (0, c), (2, c << 40), (2, rest)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Units of 4 clusters that are plain, packed, or holes, cut into runs
    /// anywhere and laid on the disk in any order.
    #[test]
    fn reads_what_was_written(
        units in prop::collection::vec((0u8..3, any::<u8>()), 1..8),
        compressed in any::<bool>(), cut in 1u64..4, back in any::<bool>(),
        tail in 0u64..2048, invalid in 0u64..4096,
        reads in prop::collection::vec((0u64..20_000, 0usize..5000), 1..6),
    ) {
        let unit = 4 * C;
        let mut disk = vec![0xaa; 64 * C];
        let (mut want, mut extents, mut vcn) = (Vec::new(), Vec::new(), 0u64);
        let mut free: Vec<u64> = (8..64).collect();
        if back { free.reverse(); }
        let mut free = free.into_iter();
        for (kind, seed) in units {
            let mut data = vec![0u8; unit];
            let mut stored = 0;
            match kind {
                0 => {}
                1 => data.iter_mut().enumerate().for_each(|(i, b)| {
                    *b = (i as u32).wrapping_mul(2_654_435_761).wrapping_add(u32::from(seed)).to_be_bytes()[1]
                }),
                _ => data.fill(seed),
            }
            if kind > 0 {
                let mut raw = data.clone();
                if kind == 2 && compressed {
                    raw = lznt1::compress(&data);
                    raw.resize(raw.len().next_multiple_of(C), 0x55);
                }
                let mut left = &raw[..];
                while !left.is_empty() {
                    // `cut` clusters to a run at most, each placed anywhere.
                    for _ in 0..cut.min((left.len() / C) as u64) {
                        let lcn = free.next().unwrap();
                        disk[lcn as usize * C..][..C].copy_from_slice(&left[..C]);
                        left = &left[C..];
                        extents.push(extent(vcn + stored, Place::At(Lcn(lcn)), 1));
                        stored += 1;
                    }
                }
            }
            if stored < 4 {
                extents.push(extent(vcn + stored, Place::Hole, 4 - stored));
            }
            vcn += 4;
            want.extend(data);
        }
        want.truncate(want.len() - tail as usize);
        let size = want.len() as u64;
        let init = size.saturating_sub(invalid);
        want[init as usize..].fill(0);
        extents.reverse();
        let flags = if compressed { 1 } else { 0x8000 };
        let s = open(disk, flags, size, init, 2, extents);
        prop_assert_eq!(copied(&s), (want.clone(), 0));
        for (at, len) in reads {
            let mut buf = vec![1; len];
            let n = s.read_at(at, &mut buf).unwrap();
            let end = want.len().min(at as usize + len);
            prop_assert_eq!(&buf[..n], want.get(at as usize..end).unwrap_or_default());
        }
    }

    #[test]
    fn any_extents_end_without_panic(
        list in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), 0u32..64), 0..8),
        flags in prop_oneof![Just(1u16), any::<u16>()], unit in 0u8..12,
        size in any::<u64>(), at in any::<u64>(),
    ) {
        let extents = list.into_iter().map(|(v, l, n, s)| {
            let place = if l & 1 == 0 { Place::Hole } else { Place::At(Lcn((l >> s) & (i64::MAX as u64))) };
            extent((v >> s) & (i64::MAX as u64 >> 1), place, ((n >> s) & (i64::MAX as u64 >> 1)).max(1))
        }).collect();
        let sizes = Sizes { allocated: 0, size, initialized: size, compression_unit: unit };
        let source = Arc::new(Memory(vec![3; 16 * C]));
        if let Ok(s) = Stream::non_resident(source, geometry(16), AttrFlags(flags), sizes, extents) {
            for at in [at, at % (20 * C as u64), size / 2] {
                let _ = s.read_at(at, &mut [0; 700]);
            }
            let mut n = 0;
            let _ = s.copy(|_| {
                n += 1;
                if n > 100 { Err(Error::interrupted()) } else { Ok(()) }
            });
        }
    }
}
