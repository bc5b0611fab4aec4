//! Tests of the parent.

use super::*;
use proptest::prelude::*;

fn chunk(runs: &[(u32, u32, u8)]) -> Header {
    let mut extension = Vec::new();
    let (mut at, mut data) = (0, 0);
    for &(gap, units, kind) in runs {
        let kind = RunKind::of(u32::from(kind)).unwrap();
        ChunkRun {
            start: at + gap,
            units,
            kind,
        }
        .encode(&mut extension);
        at += gap + units;
        if kind == RunKind::Data {
            data += u64::from(units) * 512;
        }
    }
    Header {
        kind: Kind::Chunk,
        codec: Codec::Stored,
        provenance: Provenance::Source,
        region: 3,
        sequence: 7,
        stream_offset: 5120,
        raw_len: data,
        stored_len: data,
        position: 99,
        id: [5; 16],
        digest: [6; 32],
        unit: 512,
        cell: 1 << 14,
        gap: runs.len() as u32 % 3,
        longer: 0,
        extension,
    }
}

proptest! {
    #[test]
    fn headers_round_trip(runs in prop::collection::vec((0u32..9, 1u32..9, 0u8..4), 0..300), more in 0u32..9) {
        let mut h = chunk(&runs);
        if more > 0 {
            h.longer = h.len() as u32 + 512 * more;
        }
        let mut bytes = Vec::new();
        h.encode(&mut bytes);
        prop_assert_eq!(bytes.len(), h.len());
        prop_assert_eq!(Header::decode(&bytes, 0).unwrap(), h);
    }

    #[test]
    fn every_flipped_bit_is_seen(bit in 0usize..512 * 8) {
        let mut bytes = Vec::new();
        chunk(&[(1, 2, 0), (0, 5, 1)]).encode(&mut bytes);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Header::decode(&bytes, 0).is_err());
    }

    #[test]
    fn any_bytes_are_refused_or_read(mut bytes in prop::collection::vec(any::<u8>(), 512..1024),
                                     kind in 0usize..8, fix in any::<bool>()) {
        bytes[..8].copy_from_slice(Kind::ALL[kind].1);
        bytes[8..11].copy_from_slice(&[1, 0, kind as u8 + 1]);
        bytes[16..20].copy_from_slice(&512u32.to_le_bytes());
        bytes[11] &= 1;
        bytes[12] &= 1;
        if fix {
            bytes[124..128].fill(0);
            let crc = crc32c::crc32c(&bytes[..512]);
            bytes[124..128].copy_from_slice(&crc.to_le_bytes());
        }
        if let Ok(h) = Header::decode(&bytes, 0) {
            h.byte_runs();
            h.totals();
        }
    }
}
