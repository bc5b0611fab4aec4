//! Each fault of `damaged.tsv`, in every way.

use crate::common::edit::{number, stream_at};
use crate::common::{Memory, testdata, testdata_text};
use crate::hold::{hold, in_time};
use ntbak::device::{Rearranged, SharedSource};
use ntbak::observe::Silent;
use ntbak::volume::Volume;
use ntbak::volume::check::{Code, check};
use ntbak::volume::rework::{Wish, plan, survey};
use std::collections::BTreeMap;
use std::sync::Arc;

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

/// `$Bitmap` calls clusters of a file free: nothing is put there, they come along, and
/// the new `$Bitmap` has them.
#[test]
fn clusters_of_a_file_that_the_bitmap_calls_free() {
    let mut bytes = testdata("links");
    let n = number(&bytes, "/with-big-ea.txt");
    let (_, lcn) = stream_at(&bytes, n, 0xe0, b"");
    let (bitmap, _) = stream_at(&bytes, 6, 0x80, b"");
    let (byte, bit) = (bitmap + lcn as usize / 8, 1 << (lcn % 8));
    assert_eq!(bytes[byte] & bit, bit, "in use");
    bytes[byte] &= !bit;
    let source = Memory::shared(bytes);
    let found = {
        let source = source.clone();
        in_time("bitmap", move || hold("bitmap", &source))
    };
    assert!(
        found.planned >= 8 && found.codes.contains("bitmap-mended"),
        "{found:?}"
    );
    let old = Volume::open(source.clone()).unwrap();
    let wrong = |v: &Volume| {
        check(v, &Silent)
            .unwrap()
            .counts
            .contains_key(&Code::OwnedFree)
    };
    assert!(wrong(&old));
    let s = survey(&old, &Silent).unwrap();
    for wish in [
        Wish {
            new_bytes: Some(s.smallest().unwrap()),
            ..Wish::default()
        },
        Wish {
            defragment: true,
            ..Wish::default()
        },
    ] {
        let p = plan(&s, &wish, &Silent).unwrap();
        let told: Vec<_> = (p.report().changes.iter())
            .filter(|c| c.code == "bitmap-mended")
            .map(|c| c.message.clone())
            .collect();
        assert!(
            told.len() == 1 && told[0].starts_with("1 clusters"),
            "{told:?}"
        );
        let new: SharedSource = Arc::new(Rearranged::new(source.clone(), Arc::new(p)));
        assert!(!wrong(&Volume::open(new).unwrap()), "{wish:?}");
    }
}
