//! One volume on another disk: what its boot sectors say, and when it is refused.

use crate::common;
use crate::program::{Dir, expect, ntbak, text};
use crate::tables::{opened, wishes};
use crate::toy;
use ntbak::archive::{Archive, Forward};
use ntbak::device::{FileSource, MemorySink, SharedSource};
use ntbak::observe::Silent;
use ntbak::ops::restore::{
    Frame, Journal, Replacement, Size, Subject, TargetId, Wishes, replace, restore,
};
use ntbak::ops::stream::StreamReader;
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn codes(new: &Replacement) -> Vec<&str> {
    new.differences.iter().map(|d| d.code.as_str()).collect()
}

/// Carries a plan out on a used target of this length.
fn made(path: &Path, new: &Replacement, len: usize) -> Vec<u8> {
    let source: SharedSource = Arc::new(FileSource::open(path, 512).unwrap());
    let mut reader = StreamReader::new(Forward::new(source, 0));
    reader.begin().unwrap();
    let sink = MemorySink::used(vec![0x5a; len], 512);
    let s = restore(reader, &new.plan, &sink, &toy::options(true), &Silent).unwrap();
    assert!(s.verified, "{:?}", s.mismatches);
    sink.bytes()
}

fn plan(archive: &Arc<Archive>, wishes: &Wishes) -> Replacement {
    replace(archive, wishes, None, None, &Silent).unwrap()
}

/// Where it begins, in both boot regions.
fn tell_exfat(volume: &mut [u8], sector: u64) {
    for region in [0, 12 * 512] {
        volume[region + 0x40..region + 0x48].copy_from_slice(&sector.to_le_bytes());
        let sum = exfat_sum(&volume[region..region + 11 * 512]).to_le_bytes();
        volume[region + 11 * 512..region + 12 * 512]
            .chunks_mut(4)
            .for_each(|w| w.copy_from_slice(&sum));
    }
}

/// The rotating sum of the exFAT specification, 3.4.
fn exfat_sum(sectors: &[u8]) -> u32 {
    let mut sum = 0u32;
    for (i, &b) in sectors.iter().enumerate() {
        if ![106, 107, 112].contains(&i) {
            sum = sum.rotate_right(1).wrapping_add(b.into());
        }
    }
    sum
}

#[test]
fn fat_and_exfat_are_told_where_the_partition_begins() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["fat12", "fat16", "fat32", "exfat"] {
        let room = |n: &str| {
            let d = dir.path().join(format!("{name}-{n}"));
            fs::create_dir(&d).unwrap();
            d
        };
        let image = dir.path().join("v.img");
        common::Sparse::unpack(&format!("foreign-{name}"), &image);
        let mut bytes = fs::read(&image).unwrap();
        if name == "exfat" {
            // It was made without a disk around it, which says nothing.
            tell_exfat(&mut bytes, 2048);
        }
        let path = toy::archive(&room("a"), &bytes);
        let start = 206_848 * 512;
        let frame = Frame::Partition {
            bytes: bytes.len() as u64 + 4096,
            start,
        };
        let new = plan(&opened(&path), &wishes(frame));
        assert_eq!(codes(&new), ["hidden-sectors"], "{name}");
        let disk = made(&path, &new, bytes.len() + 4096);
        let mut want = bytes.clone();
        if name == "exfat" {
            tell_exfat(&mut want, 206_848);
        } else {
            want[0x1c..0x20].copy_from_slice(&206_848u32.to_le_bytes());
            if name == "fat32" {
                want[6 * 512 + 0x1c..6 * 512 + 0x20].copy_from_slice(&206_848u32.to_le_bytes());
            }
        }
        let bad = disk.iter().zip(&want).position(|(a, b)| a != b);
        assert!(bad.is_none(), "{name}: differs at {bad:x?}");
        // A volume that says so already stays as it is.
        let path = toy::archive(&room("b"), &want);
        let new = plan(&opened(&path), &wishes(frame));
        assert!(new.plan.patches.is_empty() && codes(&new).is_empty());
    }
}

/// What was decided for one archive is not taken for another.
#[test]
fn another_archive_does_not_go_on_with_a_journal() {
    let dir = Dir::with("disk-gpt");
    dir.volume("disk-mbr");
    for name in ["disk-gpt", "disk-mbr"] {
        let image = format!("{name}.img");
        expect(&dir, 0, &["image", &image, &format!("{name}.ntbak"), "-q"]);
    }
    let archive = opened(&dir.join("disk-gpt.ntbak"));
    let how = Wishes {
        size: Some(Size::Min),
        ..wishes(Frame::File)
    };
    let new = plan(&archive, &how);
    let subject = Subject {
        archive: archive.head().id.clone(),
        plan: new.plan.digest(false, &how).unwrap(),
        target: TargetId {
            name: "r.img".into(),
            bytes: new.plan.bytes,
            sector_bytes: 512,
            serial: None,
            inode: None,
        },
        decided: new.decided.clone(),
    };
    drop(Journal::create(&dir.join("j"), &subject).unwrap());
    let args = ["r.img", "--size", "min", "--resume", "--journal", "j"];
    let out = expect(
        &dir,
        5,
        &[&["restore", "disk-mbr.ntbak"], &args[..]].concat(),
    );
    let said = text(&out.stderr);
    let want = format!(
        "The interrupted restore was of something else: its archive is {}",
        archive.head().id
    );
    assert!(said.contains(&want), "{said}");
}
