//! The volumes of `testdata/`: clusters, attribute lists of `$MFT`, sector and
//! cluster sizes, health, and each fault of `damaged.tsv`.

mod common;

use common::{Memory, Sparse, testdata};
use ntbak::device::SharedSource;
use ntbak::error::ErrorKind;
use ntbak::observe::{Observer, Silent};
use ntbak::units::RecordNo;
use ntbak::volume::health::{BackupBoot, Hibernation, MftMirror};
use ntbak::volume::logfile::LogState;
use ntbak::volume::{FileStream, Scanned, Tree, Volume, VolumePath, analyse, attr, health, owners};
use std::collections::BTreeMap;

fn open(name: &str) -> Volume {
    Volume::open(Memory::shared(testdata(name))).expect(name)
}

const SOUND: [&str; 25] = [
    "lznt1-4k",
    "lznt1-512",
    "sparse",
    "vdl",
    "attrlist",
    "mft-attrlist",
    "rec4k-sector4096",
    "rec4k-sector512",
    "cluster-16k",
    "cluster-64k",
    "cluster-256k",
    "cluster-1024k",
    "cluster-2048k",
    "names",
    "bigdir",
    "links",
    "deleted",
    "efs",
    "dirty-hibernated",
    "hibernation-wiped",
    "damage-base",
    "ntfs-1-2",
    "index-512",
    "index-4k",
    "index-64k",
];

#[test]
fn records_name_exactly_the_clusters_of_the_bitmap() {
    for name in SOUND {
        let volume = open(name);
        assert!(volume.notes().is_empty(), "{name}: {:?}", volume.notes());
        let usage = analyse(&volume, &Silent).unwrap();
        let r = &usage.report;
        assert!(r.differences.is_empty(), "{name}: {:?}", r.differences);
        assert_eq!(r.kept_clusters, r.bitmap_clusters, "{name}");
        let faults = r.bad_records.count + r.bad_attributes.count + r.unmarked.count;
        assert_eq!((faults, r.notes.len()), (0, 0), "{name}: {r:?}");
        let h = health(&volume);
        assert_eq!(
            (h.backup_boot, h.mft_mirror),
            (BackupBoot::Same, MftMirror::Same),
            "{name}"
        );
    }
}

#[test]
fn sizes_come_from_the_boot_sector() {
    for (name, sector, cluster, record) in [
        ("rec4k-sector4096", 4096, 4096, 4096),
        ("rec4k-sector512", 512, 4096, 4096),
        ("lznt1-512", 512, 512, 1024),
        ("cluster-16k", 512, 16 << 10, 1024),
        ("cluster-64k", 512, 64 << 10, 1024),
        ("cluster-256k", 512, 256 << 10, 1024),
        ("cluster-1024k", 512, 1 << 20, 1024),
        ("cluster-2048k", 512, 2 << 20, 1024),
    ] {
        let g = *open(name).geometry();
        let got = (g.sector_size, g.cluster_size, g.record_size);
        assert_eq!(got, (sector, cluster, record), "{name}");
    }
}

#[test]
fn the_mft_follows_its_own_attribute_list() {
    let volume = open("mft-attrlist");
    let mft = volume.mft();
    assert_eq!(mft.extents.as_slice().len(), 850);
    assert_eq!(mft.size, mft.extents.real_clusters() * 512);
    let file = volume.file(RecordNo(0)).unwrap();
    let numbers: Vec<u64> = file.extensions().iter().map(|r| r.number().0).collect();
    assert_eq!(numbers, [16, 15, 17, 18], "in the order of the list");
    // Every record is reached, also those that lie in two runs.
    for n in 0..mft.record_count {
        let record = volume.record(RecordNo(n)).unwrap();
        if record.view().in_use() {
            assert_eq!(record.view().stored_number(), Some(n as u32));
        }
    }
}

#[test]
fn fragmented_files_are_whole() {
    let volume = open("attrlist");
    let mut runs = Vec::new();
    for n in 24..volume.mft().record_count {
        let Ok(file) = volume.file(RecordNo(n)) else {
            continue;
        };
        let view = file.base().view();
        if !view.in_use() || view.base().is_some() {
            continue;
        }
        assert!(file.notes.is_empty(), "{:?}", file.notes);
        if let Some(FileStream::NonResident(data)) = file.stream(attr::DATA, &[]) {
            assert!(data.notes.is_empty(), "{:?}", data.notes);
            runs.push((data.map.as_slice().len(), file.extensions().len()));
        }
    }
    assert!(
        runs.iter()
            .any(|&(runs, records)| runs == 5200 && records == 24),
        "{runs:?}"
    );
}

/// Records of Windows NT 4: the update sequence array where later versions
/// have the number, short `$STANDARD_INFORMATION`, a descriptor in each file.
#[test]
fn version_1_2_has_other_records() {
    let volume = open("ntfs-1-2");
    assert_eq!(health(&volume).version, Some((1, 2)));
    let mut files = 0;
    for n in 0..volume.mft().record_count {
        let record = volume.record(RecordNo(n)).unwrap();
        let view = record.view();
        assert_eq!(view.bytes()[4..6], [0x2a, 0], "{n}");
        assert_eq!(view.stored_number(), None);
        if !view.in_use() || (11..16).contains(&n) {
            continue;
        }
        let lengths = |code: u32| {
            let all = view.attributes().map(|a| a.unwrap());
            let mut of = all.filter(move |a| a.type_code == code);
            of.next().and_then(|a| a.resident()).map(<[u8]>::len)
        };
        assert_eq!(lengths(attr::STANDARD_INFORMATION), Some(48), "{n}");
        assert!(lengths(attr::SECURITY_DESCRIPTOR) >= Some(60), "{n}");
        files += 1;
    }
    assert!(files > 80);
    let tree = Tree::new(&volume);
    let path = |p: &str| VolumePath::parse(p.as_bytes()).unwrap();
    let quota = tree.lookup(&path("/$quota")).unwrap();
    assert_eq!((quota.file.record.0, &*quota.path), (9, &b"/$Quota"[..]));
    for gone in ["/$Secure", "/$Extend"] {
        assert!(tree.lookup(&path(gone)).is_err());
    }
    assert!(tree.list(RecordNo(5)).unwrap().damage.is_none());
}

/// Index blocks from 512 bytes to 64 KiB under clusters of 512 bytes, 4 KiB and
/// 64 KiB, each in a tree of three levels. Parent links are spoilt first, so that
/// only the index can find a name.
#[test]
fn index_blocks_of_every_size() {
    const I30: &[u8] = b"$\0I\x003\x000\0";
    let path = |p: &str| VolumePath::parse(p.as_bytes()).unwrap();
    for (name, cluster) in [("index-512", 512), ("index-4k", 4096), ("index-64k", 65536)] {
        let mut bytes = testdata(name);
        let volume = open(name);
        assert_eq!(volume.geometry().cluster_size, cluster);
        for n in 24..volume.mft().record_count {
            let record = volume.record(RecordNo(n)).unwrap();
            for a in record.view().attributes().flatten() {
                if a.type_code == attr::FILE_NAME {
                    let head = a.offset as usize;
                    let value = usize::from(record.view().bytes()[head + 0x14]);
                    let at = record.offset() as usize + head + value;
                    bytes[at..at + 6].copy_from_slice(&[0, 0, 0, 0, 1, 0]);
                }
            }
        }
        let volume = Volume::open(Memory::shared(bytes.clone())).unwrap();
        let tree = Tree::new(&volume);
        for size in (9..=16).map(|n| 1u32 << n) {
            let dir = tree.lookup(&path(&format!("/{size}"))).unwrap().file.record;
            let file = volume.file(dir).unwrap();
            let Some(FileStream::Resident(_, root)) = file.stream(attr::INDEX_ROOT, I30) else {
                panic!("{name}: no index root");
            };
            assert_eq!(root[8..12], size.to_le_bytes(), "{name}");
            let list = tree.list(dir).unwrap();
            assert!(list.damage.is_none(), "{name} {size}: {:?}", list.damage);
            let want: Vec<String> = (0..40).map(|n| format!("entry {n:02}.txt")).collect();
            assert!(
                list.entries
                    .iter()
                    .map(|e| &e.name[..])
                    .eq(want.iter().map(|n| n.as_bytes())),
                "{name} {size}: {:?}",
                list.entries
            );
            for (n, e) in list.entries.iter().enumerate() {
                for p in [
                    format!("/{size}/entry {n:02}.txt"),
                    format!("/{size}/ENTRY {n:02}.TXT"),
                ] {
                    assert_eq!(tree.lookup(&path(&p)).unwrap().file, e.file, "{name} {p}");
                }
            }

            // The counter-test: without the block below the root's end, names are gone.
            let Some(FileStream::NonResident(blocks)) = file.stream(attr::INDEX_ALLOCATION, I30)
            else {
                panic!("{name}: no index blocks");
            };
            let at = blocks.map.as_slice()[0].lcns().unwrap().start * u64::from(cluster);
            let torn = damaged(&bytes, &[(at, b"BAAD".to_vec())]);
            let torn = Volume::open(torn).unwrap();
            let tree = Tree::new(&torn);
            assert!(tree.list(dir).unwrap().damage.is_some(), "{name} {size}");
            assert!(
                tree.lookup(&path(&format!("/{size}/entry 00.txt")))
                    .is_err()
            );
            assert!(tree.lookup(&path(&format!("/{size}/entry 39.txt"))).is_ok());
        }
        // The boot sector has the size of blocks to come; in clusters, or as a power of two.
        for size in (9..=16).map(|n| 1u32 << n) {
            let mut codes = vec![(size.trailing_zeros() as u8).wrapping_neg()];
            if size >= cluster && size / cluster < 128 {
                codes.push((size / cluster) as u8);
            }
            for code in codes {
                let v = Volume::open(damaged(&bytes, &[(0x44, vec![code])])).unwrap();
                assert!(v.notes().is_empty(), "{code:#x}: {:?}", v.notes());
                assert_eq!(v.geometry().index_record_size, size, "{code:#x}");
            }
        }
    }
}

#[test]
fn health_is_told() {
    let h = health(&open("dirty-hibernated"));
    assert_eq!(
        (h.dirty, &*h.flag_names),
        (Some(true), &["dirty".to_owned()][..])
    );
    assert!(matches!(h.hibernation, Hibernation::Active { ref signature } if signature == "hibr"));
    assert_eq!(h.version, Some((3, 1)));
    let h = health(&open("hibernation-wiped"));
    assert_eq!(
        (h.dirty, h.hibernation),
        (Some(false), Hibernation::Inactive)
    );
    let h = health(&open("sparse"));
    assert_eq!(
        (h.hibernation, h.log),
        (Hibernation::Absent, LogState::Reset)
    );
    assert_eq!(h.bad_clusters, Some(0));
    let json = serde_json::to_string(&health(&open("names"))).unwrap();
    assert!(
        json.contains(r#""hibernation":{"state":"absent"}"#),
        "{json}"
    );
}

/// A fault: base image, patches (offset and bytes), what it is meant to do.
type Damage = (String, Vec<(u64, Vec<u8>)>, String);

/// The patches of `damaged.tsv` by name.
fn damages() -> BTreeMap<String, Damage> {
    let mut all: BTreeMap<String, Damage> = BTreeMap::new();
    for line in common::testdata_text("damaged.tsv").lines().skip(1) {
        let f: Vec<&str> = line.split('\t').collect();
        let hex = f[3].as_bytes().chunks(2);
        let bytes = hex.map(|h| u8::from_str_radix(std::str::from_utf8(h).unwrap(), 16).unwrap());
        let entry = all
            .entry(f[0].to_owned())
            .or_insert_with(|| (f[1].to_owned(), Vec::new(), f[4].to_owned()));
        let at = f[2].parse::<u64>().unwrap();
        entry.1.push((at, bytes.collect()));
    }
    all
}

fn damaged(base: &[u8], patches: &[(u64, Vec<u8>)]) -> SharedSource {
    let mut bytes = base.to_vec();
    for (at, patch) in patches {
        bytes[*at as usize..][..patch.len()].copy_from_slice(patch);
    }
    Memory::shared(bytes)
}

/// Bad records, bad attributes, unmarked records; clusters used and unowned,
/// owned and free, owned twice, outside.
type Numbers = ([u64; 3], [u64; 4]);

const SOUND_NUMBERS: Numbers = ([0; 3], [0; 4]);

/// What the analysis says of a fault, where it can see it.
fn expected(name: &str) -> Numbers {
    let attribute = ([0, 1, 0], [0; 4]);
    let alpha_lost = ([0, 1, 0], [20, 0, 0, 0]);
    match name {
        "mft0-garbled"
        | "mft0-torn"
        | "fixup-array-outside"
        | "record-attrs-outside"
        | "record-baad"
        | "record-torn"
        | "record-used-size-huge"
        | "record-zeroed" => ([1, 0, 0], [0; 4]),
        "mft-bitmap-cleared" => ([0, 0, 133], [0; 4]),
        "bitmap-free-as-used" => ([0; 3], [64, 0, 0, 0]),
        "bitmap-used-as-free" => ([0; 3], [0, 20, 0, 0]),
        "extent-shared" => ([0; 3], [20, 0, 20, 0]),
        "runs-end-outside" => ([0; 3], [20, 5, 0, 15]),
        "runs-outside" => ([0; 3], [20, 0, 0, 20]),
        "runs-too-short" => ([0; 3], [15, 0, 0, 0]),
        "runs-negative" => ([0, 1, 0], [20, 0, 10, 0]),
        "runs-unterminated" => ([0, 1, 0], [20, 0, 2, 0]),
        "runs-bad-header" | "runs-zero-length" | "runs-huge" | "vcn-backwards" => alpha_lost,
        _ if name.starts_with("attr-") => attribute,
        _ => SOUND_NUMBERS,
    }
}

#[test]
fn no_damage_costs_a_cluster_and_each_is_told() {
    let base = testdata("damage-base");
    let sound = analyse(&open("damage-base"), &Silent).unwrap();
    for (name, (of, patches, effect)) in damages() {
        assert_eq!(of, "damage-base");
        let volume = match Volume::open(damaged(&base, &patches)) {
            Ok(volume) => volume,
            Err(e) => {
                assert_eq!(name, "boot-both-zeroed", "{e}");
                continue;
            }
        };
        let usage = analyse(&volume, &Silent).unwrap();
        assert_eq!(
            sound.kept.without(&usage.kept).count(),
            0,
            "{name}: {effect}"
        );
        let (r, d) = (&usage.report, &usage.report.differences);
        let numbers = (
            [
                r.bad_records.count,
                r.bad_attributes.count,
                r.unmarked.count,
            ],
            [
                d.used_unowned.clusters,
                d.owned_free.clusters,
                d.owned_twice.clusters,
                d.outside.clusters,
            ],
        );
        assert_eq!(numbers, expected(&name), "{name}: {effect}");
        let noted = !volume.notes().is_empty();
        let fallback = name.starts_with("boot-") && name != "boot-backup-zeroed";
        assert_eq!(
            noted,
            fallback || name.starts_with("mft0-") || name == "mft-size-huge",
            "{name}"
        );
        let h = health(&volume);
        assert_eq!(
            h.backup_boot != BackupBoot::Same,
            fallback || name == "boot-backup-zeroed",
            "{name}: {:?}",
            h.backup_boot
        );
        if name == "mirror-garbled" {
            assert_eq!(h.mft_mirror, MftMirror::Differs { records: vec![0] });
        }
        for n in 0..volume.mft().record_count {
            let Ok(file) = volume.file(RecordNo(n)) else {
                continue;
            };
            let damaged_list = name.starts_with("attrlist-") && name != "attrlist-names-itself";
            if file.base().view().in_use() && !file.notes.is_empty() {
                assert!(
                    damaged_list || name.starts_with("extension-"),
                    "{name}: {:?}",
                    file.notes
                );
            }
        }
    }
}

#[test]
fn clusters_above_2_to_32_count() {
    let volume = Volume::open(Sparse::testdata("huge")).unwrap();
    assert_eq!(volume.geometry().total_clusters, 4_295_032_832);
    let usage = analyse(&volume, &Silent).unwrap();
    let r = &usage.report;
    assert!(r.differences.is_empty(), "{:?}", r.differences);
    assert_eq!(r.bad_records.count + r.bad_attributes.count, 0);
    assert_eq!(r.kept_clusters, r.bitmap_clusters);
    assert!(usage.kept.runs(1 << 32..u64::MAX).next().is_some());
    let high = usage.kept.runs(1 << 32..u64::MAX).next().unwrap();
    let found = owners(&volume, std::slice::from_ref(&high), &Silent).unwrap();
    assert!(!found.is_empty());
}

#[test]
fn bad_clusters_are_told_apart() {
    let mut bytes = testdata("damage-base");
    let sound = open("damage-base");
    let usage = analyse(&sound, &Silent).unwrap();
    // A free range and /alpha.bin's first clusters, by turns, as runs of $BadClus:$Bad.
    let free = (1000..5000)
        .find(|&n| usage.kept.runs(n..n + 5).next().is_none())
        .unwrap();
    let record = sound.record(RecordNo(8)).unwrap();
    let view = record.view();
    let bad = view
        .attributes()
        .flatten()
        .find(|a| a.name.len() == 8)
        .unwrap();
    let pairs = bad.non_resident().unwrap().mapping_pairs;
    assert!(pairs.len() >= 8, "room for a run");
    let at = record.offset() as usize + bad.offset as usize + bad.length as usize - pairs.len();
    let [low, high, ..] = free.to_le_bytes();
    bytes[at..at + 5].copy_from_slice(&[0x21, 5, low, high, 0]);
    let volume = Volume::open(Memory::shared(bytes.clone())).unwrap();
    let usage = analyse(&volume, &Silent).unwrap();
    assert_eq!(
        usage.bad_clusters.runs(0..u64::MAX).collect::<Vec<_>>(),
        vec![free..free + 5]
    );
    assert!(usage.kept.contains(free));
    assert_eq!(usage.report.differences.owned_free.clusters, 5);
    assert_eq!(health(&volume).bad_clusters, Some(5));

    // What a file needs is read, whatever $BadClus says.
    let mft = volume.geometry().mft_lcn.0;
    let [low, high, ..] = mft.to_le_bytes();
    bytes[at..at + 5].copy_from_slice(&[0x21, 5, low, high, 0]);
    let usage = analyse(&Volume::open(Memory::shared(bytes)).unwrap(), &Silent).unwrap();
    assert_eq!(usage.bad_clusters.count(), 0);
    assert_eq!(usage.report.differences.owned_twice.clusters, 5);
}

/// Cancels at once.
struct Hurried;

impl Observer for Hurried {
    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn a_scan_ends_early_and_works_inside_a_small_pool() {
    let volume = open("bigdir");
    let e = analyse(&volume, &Hurried).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Interrupted);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    let numbers = pool.install(|| {
        let mut numbers = Vec::new();
        let sink = |batch: Vec<u64>| {
            numbers.extend(batch);
            Ok(())
        };
        let each = |batch: &mut Vec<u64>, scanned: Scanned<'_>| match scanned {
            Scanned::Record(view) => batch.push(view.number().0),
            Scanned::Free(number) => batch.push(number.0),
            other => panic!("{other:?}"),
        };
        volume.scan(&Silent, |_| Vec::new(), each, sink).unwrap();
        numbers
    });
    assert!(numbers.iter().copied().eq(0..volume.mft().record_count));
    assert!(numbers.len() > 2048, "more than one batch");
}
