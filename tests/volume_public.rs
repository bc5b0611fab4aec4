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
        let Some((_, usage)) = open(name, part) else {
            continue;
        };
        let r = &usage.report;
        println!("{name}: {}", serde_json::to_string(r).unwrap());
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
