//! Records that are there in part: a block of the tape that holds them cannot be
//! read, or is not what it was.

use super::{Damage, damage};
use crate::archive::{CellPlace, ChunkRun, Codec, Header, Kind, Provenance, RunKind};
use crate::units::ByteRange;

/// True for data that stands in the stream as it is, without a digest of when it was
/// read from the source: its parts are of use without the others.
pub fn is_bare(h: &Header) -> bool {
    let data = h.byte_runs().into_iter().filter(|r| r.2 == RunKind::Data);
    h.kind == Kind::Chunk
        && h.codec == Codec::Stored
        && h.provenance == Provenance::None
        && h.unit > 0
        && h.stored_len == h.raw_len
        && data.map(|r| r.1).sum::<u64>() == h.stored_len
}

/// What is lost of a record, and a record of what is left; none where parts are of
/// no use. `lost` counts from the first byte of the payload.
pub fn split(h: &Header, stored: &[u8], lost: &[ByteRange]) -> (Damage, Option<(Header, Vec<u8>)>) {
    let bytes: u64 = lost.iter().map(ByteRange::len).sum();
    let what = |rest: &str| format!("{bytes} bytes cannot be read{rest}");
    if !is_bare(h) || stored.len() as u64 != h.stored_len {
        return (*damage(h, what(""), true), None);
    }
    let unit = u64::from(h.unit);
    let base = h.position.saturating_mul(u64::from(h.cell)) * unit;
    let mut d = *damage(
        h,
        what(", the others have no digest to be compared with"),
        true,
    );
    d.ranges.clear();
    let (mut runs, mut raw) = (Vec::new(), Vec::new());
    let mut at = 0;
    for r in h.chunk_runs() {
        if r.kind != RunKind::Data {
            runs.push(r);
            continue;
        }
        let mut from = 0;
        let mut keep = |from: u64, to: u64| {
            if from < to {
                runs.push(ChunkRun {
                    start: r.start + from as u32,
                    units: (to - from) as u32,
                    kind: r.kind,
                });
                let bytes = (at + from * unit) as usize..(at + to * unit) as usize;
                raw.extend_from_slice(stored.get(bytes).unwrap_or_default());
            }
        };
        let units = u64::from(r.units);
        for l in lost {
            let s = (l.start.saturating_sub(at) / unit).clamp(from, units);
            let e = l.end.saturating_sub(at).div_ceil(unit).clamp(s, units);
            if s == e {
                continue;
            }
            keep(from, s);
            let first = base + u64::from(r.start) * unit;
            d.ranges.push(ByteRange {
                start: first + s * unit,
                end: first + e * unit,
            });
            from = e;
        }
        keep(from, units);
        at += units * unit;
    }
    let place = CellPlace {
        region: h.region,
        cell: h.position,
        unit: h.unit,
        cell_units: h.cell,
        granule: 1,
    };
    let mut rest = Header::unseen_chunk(h.archive_id(), place, &runs);
    (rest.sequence, rest.stream_offset) = (h.sequence, h.stream_offset);
    (d, (!runs.is_empty()).then_some((rest, raw)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::ArchiveId;

    #[test]
    fn what_is_left_and_what_is_lost_make_the_whole() {
        let runs = [
            (10, 4, RunKind::Data),
            (14, 6, RunKind::Zero),
            (30, 8, RunKind::Data),
        ];
        let runs = runs.map(|(start, units, kind)| ChunkRun { start, units, kind });
        let place = CellPlace {
            region: 1,
            cell: 2,
            unit: 512,
            cell_units: 100,
            granule: 1,
        };
        let h = Header::unseen_chunk(ArchiveId([1; 16]), place, &runs);
        let stored: Vec<u8> = (0..12 * 512).map(|i| (i / 512) as u8 + 1).collect();
        for (from, to, units) in [
            (0, 1, &[10][..]),
            (512, 2048 + 700, &[11, 12, 13, 30, 31]),
            (2048, 12 * 512, &[30, 31, 32, 33, 34, 35, 36, 37]),
            (3000, 3001, &[31]),
        ] {
            let (d, rest) = split(
                &h,
                &stored,
                &[ByteRange {
                    start: from,
                    end: to,
                }],
            );
            let (rest, raw) = rest.unwrap();
            assert!(d.loses_data && rest.raw_len == raw.len() as u64);
            let mut seen = [0u8; 100];
            let mut at = 0;
            for r in rest.chunk_runs().filter(|r| r.kind == RunKind::Data) {
                for u in r.start..r.start + r.units {
                    seen[u as usize] = raw[at];
                    at += 512;
                }
            }
            let first = 2 * 100 * 512;
            for u in 0..100u64 {
                let was = match u {
                    10..14 => u as u8 - 9,
                    30..38 => u as u8 - 25,
                    _ => 0,
                };
                let lost = d
                    .ranges
                    .iter()
                    .any(|r| r.start <= first + u * 512 && first + u * 512 < r.end);
                assert_eq!(lost, units.contains(&u), "{from} {u}");
                let want = if lost { 0 } else { was };
                assert_eq!(seen[u as usize], want, "{from} {u}");
            }
        }
    }
}
