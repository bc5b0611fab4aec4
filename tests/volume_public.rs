//! The public volumes: opened, scanned, and their clusters counted.

mod common;

use common::{Memory, volume_source};
use ntbak::observe::Silent;
use ntbak::units::RecordNo;
use ntbak::volume::{FileStream, Usage, Volume, analyse, attr};
use std::sync::Arc;

type Part = Option<(u64, u64)>;

/// Name, partition, bits set in `$Bitmap`, clusters; from the README beside them.
const COUNTS: [(&str, Part, u64, u64); 14] = [
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
    ("v12", None, 9191, 3321087),
    ("v13", None, 912, 8191),
    ("v15", None, 970, 2559),
    ("c05", None, 2559, 2559),
];

fn open(name: &str, part: Part) -> Option<(Volume, Usage)> {
    let volume = Volume::open(volume_source(name, part)?).unwrap();
    let usage = analyse(&volume, &Silent).unwrap();
    Some((volume, usage))
}

#[test]
fn bitmap_counts_are_those_of_the_readme() {
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
        assert_eq!(
            r.kept_clusters,
            r.bitmap_clusters + usage.extra.count(),
            "{name}"
        );
        assert_eq!(usage.kept.count(), r.kept_clusters, "{name}");
        let back: ntbak::volume::UsageReport =
            serde_json::from_str(&serde_json::to_string(r).unwrap()).unwrap();
        assert_eq!(&back, r, "{name}");
    }
}

fn runs(volume: &Volume, record: u64, name: &str) -> usize {
    let file = volume.file(RecordNo(record)).unwrap();
    let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    match file.stream(attr::DATA, &name).unwrap() {
        FileStream::NonResident(joined) => joined.map.as_slice().len(),
        FileStream::Resident(..) => 0,
    }
}

#[test]
fn dump() {
    for (name, part) in [
        ("v05", None),
        ("v09", None),
        ("v13", None),
        ("v11", Some((1048576, 2147483648))),
        ("v11", Some((2148532224, 3218079744))),
        ("c01", None),
        ("c02", None),
        ("c03", None),
        ("c04", None),
        ("c05", None),
        ("c06", None),
        ("c07", None),
    ] {
        let Some((volume, usage)) = open(name, part) else {
            continue;
        };
        let mut r = usage.report;
        r.classified.clear();
        println!(
            "{name} {:?} notes {:#?} mft {}",
            volume.info(),
            volume.notes(),
            volume.mft().extents.as_slice().len()
        );
        println!(
            "  {}",
            serde_json::to_string(&r)
                .unwrap()
                .chars()
                .take(2500)
                .collect::<String>()
        );
        let mut n = 0;
        for i in 0..volume.mft().record_count {
            if let Ok(f) = volume.file(RecordNo(i)) {
                if !f.base().view().in_use() {
                    continue;
                }
                for m in &f.notes {
                    n += 1;
                    if n < 10 {
                        println!("  {m}");
                    }
                }
                let mut seen = std::collections::HashSet::new();
                for (_, a) in f.attributes() {
                    if seen.insert((a.type_code, a.name)) {
                        if let Some(FileStream::NonResident(j)) = f.stream(a.type_code, a.name) {
                            for m in &j.notes {
                                n += 1;
                                if n < 10 {
                                    println!("  {m}");
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
