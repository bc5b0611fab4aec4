//! The public volumes: opened, scanned, their clusters counted, and damaged.

mod common;

use common::{Memory, volume_source};
use ntbak::observe::Silent;
use ntbak::units::RecordNo;
use ntbak::volume::{FileStream, Usage, Volume, analyse, attr, owners};
use std::sync::Arc;

type Part = Option<(u64, u64)>;

/// Name, partition, bits set in `$Bitmap`, clusters; from the README beside them.
const COUNTS: [(&str, Part, u64, u64); 20] = [
    ("v01", Some((65536, 265289728)), 2719, 64767),
    ("v02", Some((65536, 1070596096)), 5003, 261375),
    ("v03", Some((65536, 1070596096)), 20, 510),
    ("v04", Some((65536, 30408704)), 2985, 14847),
    ("v05", None, 2784, 257535),
    ("v06", None, 1510, 5119),
    ("v07", None, 2531, 6016),
    ("v08", None, 9546, 20096),
    ("v09", None, 4071, 10239),
    ("v10", Some((65536, 3145728)), 699, 767),
    ("v11", Some((1048576, 2147483648)), 14697, 524287),
    ("v11", Some((2148532224, 3218079744)), 5708, 785663),
    ("v12", None, 9191, 3321087),
    ("v13", None, 912, 8191),
    ("v15", None, 970, 2559),
    ("c01", None, 970, 2559),
    ("c02", None, 970, 2559),
    ("c04", None, 970, 2559),
    ("c05", None, 2559, 2559),
    ("c06", None, 19905, 4194303),
];

fn open(name: &str, part: Part) -> Option<(Volume, Usage)> {
    let volume = Volume::open(volume_source(name, part)?).unwrap();
    let usage = analyse(&volume, &Silent).unwrap();
    Some((volume, usage))
}

fn note_codes(volume: &Volume) -> Vec<&str> {
    volume.notes().iter().map(|n| &*n.code).collect()
}

#[test]
fn records_name_exactly_the_clusters_of_the_bitmap() {
    for (name, part, used, total) in COUNTS {
        let Some((volume, usage)) = open(name, part) else {
            continue;
        };
        let r = &usage.report;
        assert_eq!(
            (r.bitmap_clusters, r.total_clusters),
            (used, total),
            "{name}"
        );
        assert_eq!((r.owned_clusters, r.kept_clusters), (used, used), "{name}");
        assert!(r.differences.is_empty(), "{name}: {:?}", r.differences);
        assert_eq!(usage.kept.count(), used, "{name}");
        assert_eq!(usage.extra.count() + usage.unowned.count(), 0, "{name}");
        assert_eq!(r.bad_attributes.count, 0, "{name}");
        assert_eq!(r.bad_records.count, u64::from(name == "c01"), "{name}");
        assert_eq!(
            r.unmarked.list,
            if name == "c04" {
                vec![RecordNo(65)]
            } else {
                vec![]
            }
        );
        let info = volume.info().expect(name);
        assert_eq!(info.version, (3, 1), "{name}");
        let short = ["v05", "v07", "v08"].contains(&name);
        assert_eq!(
            note_codes(&volume).contains(&"no-backup-boot-sector"),
            short,
            "{name}"
        );
        let json = serde_json::to_string(r).unwrap();
        let back: ntbak::volume::UsageReport = serde_json::from_str(&json).unwrap();
        assert_eq!(&back, r, "{name}");
    }
}

#[test]
fn damaged_volumes_open_and_say_how() {
    if let Some((v, u)) = open("c01", None) {
        assert_eq!(note_codes(&v), ["mft-mirror"]);
        assert_eq!(u.report.bad_records.list[0].record, RecordNo(0));
        assert!(v.record(RecordNo(0)).is_ok(), "from the mirror");
    }
    if let Some((v, _)) = open("c02", None) {
        assert_eq!(note_codes(&v), ["boot-sector"]);
    }
    if let Some((_, u)) = open("c03", None) {
        let bad: Vec<u64> = u
            .report
            .bad_attributes
            .list
            .iter()
            .map(|b| b.record.0)
            .collect();
        assert_eq!(bad, [66, 67, 73, 73]);
    }
    if let Some((v, _)) = open("c05", None) {
        assert_eq!(v.mft().extents.as_slice().len(), 47);
    }
    if let Some((v, u)) = open("c07", None) {
        // Records named clusters that the wrong repair had called free: all are kept.
        let r = &u.report;
        assert_eq!(r.bitmap_clusters, 17469);
        assert_eq!(r.kept_clusters, 17469 + r.differences.owned_free.clusters);
        assert_eq!(u.extra.count(), r.differences.owned_free.clusters);
        // Extension records 165 and 1325 are torn: said, and the rest is read.
        let file = v.file(RecordNo(28)).unwrap();
        assert_eq!(file.notes.len(), 2, "{:?}", file.notes);
    }
}

#[test]
fn bitlocker_is_named() {
    if let Some(source) = volume_source("v14", None) {
        let Err(e) = Volume::open(source) else {
            panic!("opened a locked volume");
        };
        assert!(e.to_string().contains("BitLocker"), "{e}");
    }
}

#[test]
fn pieces_of_a_stream_are_joined() {
    let Some((v, _)) = open("v09", None) else {
        return;
    };
    let file = v.file(RecordNo(38)).unwrap();
    assert_eq!((file.extensions().len(), file.notes.len()), (2, 0));
    let Some(FileStream::NonResident(data)) = file.stream(attr::DATA, &[]) else {
        panic!("/ones.bin is not resident");
    };
    assert!(data.notes.is_empty(), "{:?}", data.notes);
    assert_eq!(
        (data.map.as_slice().len(), data.header().size),
        (360, 2949120)
    );
    assert!(data.first.flags.compressed());
    assert_eq!(
        data.header().compressed_total,
        Some(data.map.real_clusters() * 1024)
    );

    // Every one of its clusters leads back to it.
    let clusters: Vec<_> = data
        .map
        .as_slice()
        .iter()
        .filter_map(|e| e.lcns())
        .collect();
    let found = owners(&v, &clusters, &Silent).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].record, found[0].type_code),
        (RecordNo(38), attr::DATA)
    );
    assert_eq!(found[0].bytes, data.map.real_clusters() * 1024);

    // A cluster of the MFT names the records in it.
    let first = v.geometry().mft_lcn.0;
    let found = owners(&v, std::slice::from_ref(&(first + 4..first + 6)), &Silent).unwrap();
    let mft = found.iter().find(|o| o.record == RecordNo(0)).unwrap();
    assert_eq!(mft.records, vec![4..6]);
}

fn load(name: &str) -> Option<Vec<u8>> {
    let source = volume_source(name, None)?;
    let mut bytes = vec![0; source.len() as usize];
    source.read_at(0, &mut bytes).unwrap();
    Some(bytes)
}

#[test]
fn unreadable_records_cost_their_names_and_no_cluster() {
    let Some(bytes) = load("v09") else {
        return;
    };
    let whole = Volume::open(Memory::shared(bytes.clone())).unwrap();
    let want = analyse(&whole, &Silent).unwrap();
    let at = |n| whole.record_offset(RecordNo(n)).unwrap();
    // Two in the middle, /ones.bin among them, and one that $MFTMirr keeps.
    let broken = [3u64, 38, 39].map(|n| at(n)..at(n) + 1024).to_vec();
    let source = Arc::new(Memory {
        bytes,
        broken,
        mapped: false,
    });
    let volume = Volume::open(source).unwrap();
    assert_eq!(volume.info().unwrap().label, "Test Volume");
    let usage = analyse(&volume, &Silent).unwrap();
    let bad: Vec<u64> = usage
        .report
        .bad_records
        .list
        .iter()
        .map(|b| b.record.0)
        .collect();
    assert_eq!(bad, [3, 38, 39]);
    assert_eq!(usage.kept.count(), want.kept.count());
    let lost = &usage.report.differences.used_unowned;
    assert_eq!(
        usage.report.owned_clusters + lost.clusters,
        want.report.owned_clusters
    );
    assert!(lost.clusters > 0);
}

#[test]
fn an_unreadable_bitmap_keeps_what_it_hides() {
    let Some(bytes) = load("v15") else {
        return;
    };
    let volume = Volume::open(Memory::shared(bytes.clone())).unwrap();
    let file = volume.file(RecordNo(6)).unwrap();
    let Some(FileStream::NonResident(data)) = file.stream(attr::DATA, &[]) else {
        panic!("$Bitmap is not resident");
    };
    let at = data.map.as_slice()[0].lcns().unwrap().start * 4096;
    let source = Arc::new(Memory {
        bytes,
        broken: std::iter::once(at..at + 512).collect(),
        mapped: true,
    });
    let usage = analyse(&Volume::open(source).unwrap(), &Silent).unwrap();
    assert_eq!(usage.kept.count(), 2559);
    assert!(usage.report.notes.iter().any(|n| n.code == "bitmap"));
    assert!(usage.report.differences.is_empty());
}

#[test]
fn a_boot_sector_lost_with_record_0_is_survived() {
    let Some(mut bytes) = load("v15") else {
        return;
    };
    let mft = Volume::open(Memory::shared(bytes.clone()))
        .unwrap()
        .geometry()
        .mft_lcn
        .0 as usize;
    bytes[..8192].fill(0);
    bytes[mft * 4096..mft * 4096 + 1024].fill(0x5a);
    let volume = Volume::open(Memory::shared(bytes)).unwrap();
    assert_eq!(note_codes(&volume), ["mft-mirror", "boot-sector"]);
    assert_eq!(analyse(&volume, &Silent).unwrap().kept.count(), 970);
}

/// A small generator, so that a failing round can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// Everything that reads a volume, on hostile bytes.
fn walk_all(bytes: Vec<u8>, mapped: bool) {
    let source = Arc::new(Memory {
        bytes,
        broken: Vec::new(),
        mapped,
    });
    let Ok(volume) = Volume::open(source) else {
        return;
    };
    let usage = analyse(&volume, &Silent).unwrap();
    assert!(usage.kept.count() <= volume.geometry().total_clusters);
    assert_eq!(usage.kept.count(), usage.report.kept_clusters);
    let _ = owners(&volume, std::slice::from_ref(&(0..500)), &Silent).unwrap();
    for n in 0..volume.mft().record_count.min(100) {
        let Ok(file) = volume.file(RecordNo(n)) else {
            continue;
        };
        for (_, a) in file.attributes() {
            let _ = file.stream(a.type_code, a.name);
        }
    }
}

#[test]
fn mutated_volumes_never_panic_and_end() {
    for name in ["v15", "v09", "c05"] {
        let Some(sound) = load(name) else {
            continue;
        };
        let volume = Volume::open(Memory::shared(sound.clone())).unwrap();
        // Where a changed byte matters: boot sectors and the first file records.
        let records: Vec<usize> = (0..80)
            .filter_map(|n| volume.record_offset(RecordNo(n)))
            .map(|at| at as usize)
            .collect();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        // NTBAK_ROUNDS asks for a longer run.
        let rounds = std::env::var("NTBAK_ROUNDS")
            .ok()
            .and_then(|r| r.parse().ok());
        for round in 0..rounds.unwrap_or(150) {
            let mut bytes = sound.clone();
            for _ in 0..1 + random.below(12) {
                let at = match random.below(8) {
                    0 => random.below(0x60),
                    1 => bytes.len() - 512 + random.below(0x60),
                    2 => records[random.below(4)] + random.below(0x1c0),
                    _ => records[random.below(records.len())] + random.below(0x200),
                };
                bytes[at] = match random.below(4) {
                    0 => 0,
                    1 => 0xff,
                    2 => bytes[at] ^ 1 << random.below(8),
                    _ => random.below(256) as u8,
                };
            }
            if round % 10 == 0 {
                bytes.truncate(random.below(bytes.len()));
            }
            walk_all(bytes, round % 2 == 0);
        }
    }
}
