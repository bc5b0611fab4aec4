//! The stream as a whole: written, read by every way, damaged in every place.

use super::*;
use crate::device::{SharedSource, Source};
use crate::error::Result;
use std::sync::Arc;

struct Bytes(Vec<u8>);

impl Source for Bytes {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
    fn sector_size(&self) -> u32 {
        512
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        buf.copy_from_slice(&self.0[offset as usize..offset as usize + buf.len()]);
        Ok(())
    }
    fn name(&self) -> &str {
        "test"
    }
}

fn shared(bytes: &[u8]) -> SharedSource {
    Arc::new(Bytes(bytes.to_vec()))
}

const CELL: usize = 1 << 20;

/// A region of four cells: three with data, one absent; file records in the second.
fn sample() -> (Vec<u8>, Vec<u8>) {
    sample_as(false)
}

/// On tape: blocks of 8 KiB, the last chunk moved by a copy manager.
fn sample_as(tape: bool) -> (Vec<u8>, Vec<u8>) {
    let mut volume = vec![0u8; 4 * CELL];
    let mut noise = blake3::Hasher::new().update(b"archive test").finalize_xof();
    noise.fill(&mut volume[..300_032]);
    volume[CELL..CELL + 200_704]
        .iter_mut()
        .enumerate()
        .for_each(|(i, b)| *b = (i / 700) as u8);
    volume[3 * CELL + 512..3 * CELL + 8192].fill(0x5a);
    let region = Region {
        number: 1,
        start: 0,
        bytes: 4 * CELL as u64,
        kind: RegionKind::Ntfs,
        content: "NTFS".into(),
        name: None,
        type_code: None,
        cluster_bytes: Some(4096),
        record_bytes: Some(1024),
        serial: None,
        label: None,
        version: None,
    };
    let disk = DiskInfo {
        bytes: region.bytes,
        sector_bytes: 512,
        cell_bytes: CELL as u32,
        table: TableKind::None,
        regions: vec![region],
    };
    let id = ArchiveId([7; 16]);
    let head = Head {
        format: 1,
        program: "ntbak test".into(),
        requires: match tape {
            true => ["zstd", GAP, UNVERIFIED, CHUNK_RUNS]
                .map(String::from)
                .to_vec(),
            false => vec!["zstd".into()],
        },
        optional: vec![],
        id: id.hex(),
        parent: None,
        created: "2026-01-01T00:00:00Z".into(),
        source: SourceInfo::default(),
        options: Options::default(),
        plan: String::new(),
        stillness: None,
    };
    let mut w = Writer::create(Vec::new(), id, &head, &disk).unwrap();
    if tape {
        w.set_block(8192);
    }
    let mut p = Packer::new(3).unwrap();
    let mft = [
        MftRun {
            start: 2048 + 200,
            units: 192,
            kind: RunKind::Data,
        },
        MftRun {
            start: 2048,
            units: 200,
            kind: RunKind::Data,
        },
    ];
    let mut raw = volume[CELL + 200 * 512..CELL + 392 * 512].to_vec();
    raw.extend_from_slice(&volume[CELL..CELL + 200 * 512]);
    w.append(p.mft(1, 0, 512, &mft, &mut raw).unwrap()).unwrap();
    let place = |cell| CellPlace {
        region: 1,
        cell,
        unit: 512,
        cell_units: 2048,
        granule: 8,
    };
    let run = |start, units, kind| ChunkRun { start, units, kind };
    let mut raw = volume[..300_032].to_vec();
    let c = p
        .chunk(place(0), &[run(0, 586, RunKind::Data)], &mut raw)
        .unwrap();
    w.append(c).unwrap();
    let c = p
        .chunk(
            place(1),
            &[
                run(500, 8, RunKind::Unreadable),
                run(600, 8, RunKind::Skipped),
            ],
            &mut Vec::new(),
        )
        .unwrap();
    w.append(c).unwrap();
    let mut raw = volume[3 * CELL..3 * CELL + 16384].to_vec();
    if tape {
        w.fill_up(0).unwrap();
        let mut h = Header::unseen_chunk(id, place(3), &[run(0, 32, RunKind::Data)]);
        (h.sequence, h.stream_offset) = w.next_place();
        (h.gap, h.longer) = (12, 2048);
        assert_eq!(h.stride() % 8192, 0);
        let mut bytes = Vec::new();
        h.encode(&mut bytes);
        bytes.extend_from_slice(&raw);
        bytes.resize(h.stride() as usize, 0);
        w.output().extend_from_slice(&bytes);
        w.adopt(&h);
    } else {
        let c = p
            .chunk(place(3), &[run(0, 32, RunKind::Data)], &mut raw)
            .unwrap();
        w.append(c).unwrap();
    }
    let (totals, _, bytes) = w.finish(b"{}").unwrap();
    assert_eq!(
        (totals.unreadable_bytes, totals.skipped_bytes),
        (4096, 4096)
    );
    assert_eq!(totals.zero_bytes, if tape { 0 } else { 8192 });
    (bytes, volume)
}

fn read(view: &RegionView, from: usize, len: usize) -> Result<Vec<u8>> {
    let mut buf = vec![1; len];
    view.read_at(from as u64, &mut buf)?;
    Ok(buf)
}

#[test]
fn reads_as_the_volume_was() {
    let (bytes, volume) = sample();
    // The same with its index, and without its end.
    for cut in [0, 512] {
        let archive = Arc::new(Archive::open(shared(&bytes[..bytes.len() - cut])).unwrap());
        assert_eq!(archive.is_complete(), cut == 0);
        assert_eq!(archive.notes().is_empty(), cut == 0);
        let view = RegionView::new(archive, 1).unwrap();
        for (from, len) in [
            (0, 300_032),
            (299_000, 500),
            (CELL, 5000),
            (CELL + 99_000, 100_000),
            (3 * CELL, 16_384),
            (3 * CELL + 8000, 700),
        ] {
            assert!(
                read(&view, from, len).unwrap() == volume[from..from + len],
                "{from} {len}"
            );
        }
        for (from, len) in [
            (CELL + 500 * 512, 10),
            (299_000, 5000),
            (2 * CELL, 1),
            (CELL - 700, 5000),
        ] {
            let e = read(&view, from, len).unwrap_err();
            assert_eq!(e.kind(), crate::error::ErrorKind::Unreadable);
        }
        assert!(read(&view, 4 * CELL - 10, 20).is_err());
    }
}

/// Everything a forward reader gets out: `(sequence, payload)` of the records
/// that pass every check, and how often something was said to be wrong.
fn walk(bytes: &[u8]) -> (Vec<(u64, Vec<u8>)>, usize, bool) {
    let mut walker = Walker::new(Pipe(bytes), 0);
    let mut unpacker = Unpacker::new().unwrap();
    let (mut good, mut said, mut tail) = (Vec::new(), 0, false);
    let (mut stored, mut raw) = (Vec::new(), Vec::new());
    while let Some(found) = walker.step().unwrap() {
        match found {
            Found::Lost { .. } => said += 1,
            Found::Record(h) => {
                tail |= h.kind == Kind::Tail;
                let body = walker.payload(&mut stored).unwrap();
                said += usize::from(body != Body::Whole);
                if h.kind == Kind::Tail {
                    continue;
                }
                match unpacker.unpack(&h, &stored, &mut raw) {
                    Ok(()) => good.push((h.sequence, raw.clone())),
                    Err(_) => said += 1,
                }
            }
        }
    }
    (good, said, tail)
}

/// The same stream in blocks of a tape, partly moved by a copy manager: read by
/// its index, by walking, and its index is the one that walking gives.
#[test]
fn tape_blocks_and_chunks_nobody_saw() {
    let (bytes, volume) = sample_as(true);
    assert_eq!(bytes.len() % 8192, 0);
    let (good, said, tail) = walk(&bytes);
    assert!(said == 0 && tail && good.len() > 7);
    for cut in [0, 8192] {
        let archive = Arc::new(Archive::open(shared(&bytes[..bytes.len() - cut])).unwrap());
        assert_eq!(archive.is_complete(), cut == 0);
        let runs = archive.index().chunk_runs.as_ref().unwrap();
        let last = archive.index().entries.len() - 1;
        assert_eq!((runs.of(last).len(), runs.of(last)[0].units), (1, 32));
        assert!(runs.of(0).is_empty());
        let view = RegionView::new(archive, 1).unwrap();
        for (from, len) in [(0, 300_032), (3 * CELL + 8000, 700)] {
            assert!(read(&view, from, len).unwrap() == volume[from..from + len]);
        }
    }
    // A gap that is not zero is said.
    let at = good.len();
    let mut dirty = bytes.clone();
    let zero = dirty.len() - 8192 - 512 * 3;
    let mut places: Vec<usize> = Vec::new();
    for i in (0..zero).step_by(512) {
        if dirty[i..i + 512].iter().all(|&b| b == 0) {
            places.push(i);
        }
    }
    let place = *places.last().unwrap();
    dirty[place + 100] = 1;
    let (good, said, _) = walk(&dirty);
    assert!(said > 0 && good.len() >= at - 1);
}

#[test]
fn every_flipped_byte_is_said_and_costs_one_record() {
    let (bytes, _) = sample();
    let (whole, said, tail) = walk(&bytes);
    assert!((whole.len(), said, tail) == (9, 0, true));
    for at in (0..bytes.len())
        .step_by(911)
        .chain(0..1024)
        .chain(bytes.len() - 512..bytes.len())
    {
        let mut hurt = bytes.clone();
        hurt[at] ^= 0x10;
        let (good, said, tail) = walk(&hurt);
        assert!(said > 0 || !tail, "byte {at} unnoticed");
        assert!(good.len() >= 8, "byte {at} cost {} records", 9 - good.len());
        assert!(
            good.iter().all(|g| whole.contains(g)),
            "byte {at}: a wrong payload was believed"
        );
    }
}

#[test]
fn cut_or_torn_out_anywhere_is_said() {
    let (bytes, _) = sample();
    let (whole, ..) = walk(&bytes);
    for at in (0..bytes.len()).step_by(4099) {
        let (good, _, tail) = walk(&bytes[..at]);
        assert!(!tail, "cut at {at} looks complete");
        assert!(good.iter().all(|g| whole.contains(g)));
        let mut torn = bytes.clone();
        torn.drain(at..(at + 1000).min(bytes.len()));
        let (good, said, tail) = walk(&torn);
        assert!(said > 0 || !tail, "torn at {at} unnoticed");
        assert!(good.iter().all(|g| whole.contains(g)));
    }
}

#[test]
fn index_and_head_have_their_copies() {
    let (bytes, volume) = sample();
    let archive = Archive::open(shared(&bytes)).unwrap();
    let (totals, _) = *archive.totals().unwrap();
    let places = [0, 512, totals.index[0] as usize, totals.index[1] as usize];
    for at in places {
        let mut hurt = bytes.clone();
        hurt[at + 200] ^= 1;
        hurt[at + 20] ^= 1;
        let view = RegionView::new(Arc::new(Archive::open(shared(&hurt)).unwrap()), 1).unwrap();
        assert!(read(&view, 0, 4096).unwrap() == volume[..4096]);
    }
    // Both indexes gone: walked. Head gone as well: refused, nothing guessed.
    let mut hurt = bytes.clone();
    totals
        .index
        .iter()
        .for_each(|&i| hurt[i as usize + 30] ^= 1);
    let archive = Archive::open(shared(&hurt)).unwrap();
    assert_eq!(archive.index().entries.len(), 4);
    hurt[30] ^= 1;
    assert!(Archive::open(shared(&hurt)).is_err());
}
