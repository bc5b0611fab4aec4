//! Each fault of `damaged.tsv`, in every way.

use crate::common::{Memory, testdata, testdata_text};
use crate::hold::{hold, in_time};
use std::collections::BTreeMap;

#[test]
fn every_fault_is_planned_right_or_refused() {
    let base = testdata("damage-base");
    let mut faults: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for line in testdata_text("damaged.tsv").lines().skip(1) {
        let f: Vec<&str> = line.split('\t').collect();
        assert_eq!(f[1], "damage-base");
        let bytes = faults
            .entry(f[0].to_owned())
            .or_insert_with(|| base.clone());
        let at: usize = f[2].parse().unwrap();
        for (i, hex) in f[3].as_bytes().chunks(2).enumerate() {
            bytes[at + i] = u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap();
        }
    }
    let (mut planned, mut streams) = (0, 0);
    for (name, bytes) in faults {
        let source = Memory::shared(bytes);
        let what = name.clone();
        let found = in_time(&name, move || hold(&what, &source));
        eprintln!("{name}: {found:?}");
        match name.as_str() {
            "boot-both-zeroed" => assert_eq!(found.planned, 0),
            _ => assert!(found.planned >= 4, "{name}: {found:?}"),
        }
        let mended = matches!(name.as_str(), "mft0-garbled" | "mft0-torn");
        assert_eq!(found.codes.contains("records-mended"), mended, "{name}");
        planned += found.planned;
        streams += found.streams;
    }
    eprintln!("{planned} plans, {streams} streams the same");
    assert!(planned > 350 && streams > 10_000, "{planned} {streams}");
}
