//! One volume on another disk: what its boot sectors say, and when it is refused.

use crate::common;
use crate::disks::sound;
use crate::kill::Loop;
use crate::program::{Dir, expect, ntbak, rows, text};
use crate::tables::{archived, opened, wishes};
use crate::toy;
use ntbak::archive::{Archive, Forward};
use ntbak::device::{FileSource, MemorySink, SharedSource, Sink};
use ntbak::disk::{TableKind, open_layout};
use ntbak::error::ErrorKind;
use ntbak::observe::Silent;
use ntbak::ops::restore::{
    Frame, Journal, Replacement, Size, Subject, TargetId, Wishes, replace, restore,
};
use ntbak::ops::stream::StreamReader;
use std::fs;
use std::path::Path;
use std::process::Stdio;
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

/// An image that ends before the backup boot sector, as a volume alone often is.
fn cut(dir: &Path) -> (std::path::PathBuf, Vec<u8>) {
    let mut bytes = common::testdata("links");
    let sectors = u64::from_le_bytes(bytes[0x28..0x30].try_into().unwrap());
    bytes.truncate(sectors as usize * 512);
    (archived(dir, "cut", &bytes), bytes)
}

#[test]
fn a_new_partition_has_room_for_the_backup_boot_sector() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = cut(dir.path());
    let archive = opened(&path);
    for table in [TableKind::Gpt, TableKind::Mbr] {
        for (frame, size) in [
            (Frame::Device(64 << 20), None),
            (Frame::File, None),
            (Frame::File, Some(Size::Bytes(64 << 20))),
        ] {
            let new = plan(
                &archive,
                &Wishes {
                    table: Some(table),
                    size,
                    ..wishes(frame)
                },
            );
            let found = codes(&new);
            assert!(found.contains(&"backup-boot-sector"), "{found:?}");
            assert!(!found.contains(&"no-backup-boot-sector"), "{found:?}");
            let disk = made(&path, &new, new.plan.bytes as usize);
            let layout = open_layout(&*common::Memory::shared(disk.clone())).unwrap();
            let p = &layout.partitions[0];
            assert_eq!(p.length, bytes.len() as u64 + 512);
            let end = (p.start + p.length) as usize;
            assert!(disk[end - 512..end] == disk[1 << 20..][..512]);
            let image = dir.path().join("r.img");
            fs::write(&image, &disk).unwrap();
            sound(&image, 512);
        }
    }
}

#[test]
fn a_larger_device_gets_the_backup_boot_sector_behind_the_volume() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = cut(dir.path());
    let archive = opened(&path);
    let n = bytes.len();
    for room in [n + 512, n + (1 << 20)] {
        let new = plan(&archive, &wishes(Frame::Device(room as u64)));
        assert_eq!(codes(&new), ["backup-boot-sector"]);
        let disk = made(&path, &new, room);
        assert!(disk[n..n + 512] == disk[..512] && disk[..512] == bytes[..512]);
        assert!(disk[n + 512..].iter().all(|&b| b == 0x5a));
        let image = dir.path().join("r.img");
        fs::write(&image, &disk).unwrap();
        let c = expect(dir.path(), 0, &["verify", "--volume", "r.img"]);
        assert!(!text(&c.stdout).contains("Inconsistent"));
    }
    // Without room, and where it shall be as it was, no byte is another.
    for (room, size) in [(n, None), (n + 512, Some(Size::Same))] {
        let new = plan(
            &archive,
            &Wishes {
                size,
                ..wishes(Frame::Device(room as u64))
            },
        );
        assert_eq!(codes(&new), [""; 0]);
        assert_eq!(new.plan.bytes, n as u64);
    }
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

#[test]
fn a_partition_device_that_is_too_small_is_refused_as_any_target() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = common::testdata("links");
    let path = archived(dir.path(), "links", &bytes);
    let archive = opened(&path);
    let measured = plan(
        &archive,
        &Wishes {
            measure: true,
            ..wishes(Frame::File)
        },
    );
    let least = measured.smallest.unwrap().relocated;
    let frame = |bytes| Frame::Partition {
        bytes,
        start: 1 << 20,
    };
    let e = replace(&archive, &wishes(frame(least - 512)), None, None, &Silent)
        .err()
        .unwrap();
    assert_eq!(e.kind(), ErrorKind::Refused);
    let said = format!("The target is too small: it has {} bytes", least - 512);
    assert!(e.message().starts_with(&said), "{e}");
    assert!(e.message().contains(&format!("{least} bytes")), "{e}");
    plan(&archive, &wishes(frame(least)));
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

#[test]
fn the_plan_names_the_sectors_of_the_target() {
    let dir = Dir::with("disk-gpt");
    expect(&dir, 0, &["image", "disk-gpt.img", "a.ntbak", "-q"]);
    let file = dir.join("t");
    fs::File::create(&file).unwrap().set_len(64 << 20).unwrap();
    let Some(device) = Loop::with(&file, &["--sector-size", "4096"]) else {
        return;
    };
    let dry = ["restore", "a.ntbak", &device.0, "--dry-run"];
    let out = expect(&dir, 5, &dry);
    assert!(
        text(&out.stdout).contains("sectors of 4096"),
        "{}",
        text(&out.stdout)
    );
    let out = expect(&dir, 5, &[&dry[..], &["--json"]].concat());
    let all = rows(&out.stdout);
    let plan = all.iter().find(|r| r["type"] == "plan").unwrap();
    assert_eq!(plan["sector_bytes"], 4096);
}

/// From a pipe nothing is laid out anew: what that means is said.
#[test]
fn a_pipe_onto_another_device() {
    let dir = Dir::with("disk-gpt");
    expect(&dir, 0, &["image", "disk-gpt.img", "a.ntbak", "-q"]);
    let len = fs::metadata(dir.join("disk-gpt.img")).unwrap().len();
    let run = |room: u64, args: &[&str]| {
        let file = dir.join("t");
        fs::File::create(&file).unwrap().set_len(room).unwrap();
        let device = Loop::over(&file)?;
        let out = ntbak()
            .current_dir(&*dir)
            .args(["restore", "-", &device.0, "--dry-run"])
            .args(args)
            .stdin(Stdio::from(fs::File::open(dir.join("a.ntbak")).unwrap()))
            .output()
            .unwrap();
        Some((out.status.code(), text(&out.stdout) + &text(&out.stderr)))
    };
    let Some((code, said)) = run(len - (1 << 20), &[]) else {
        return;
    };
    assert_eq!(code, Some(5), "{said}");
    assert!(
        said.contains("too small for an archive from a pipe"),
        "{said}"
    );
    let moved = "the copy of its GPT stays where the old disk ended";
    let (code, said) = run(len + (1 << 20), &[]).unwrap();
    assert!(code == Some(0) && said.contains(moved), "{said}");
    for (room, args) in [(len, &[][..]), (len + (1 << 20), &["--size", "same"])] {
        let (code, said) = run(room, args).unwrap();
        assert!(code == Some(0) && !said.contains(moved), "{said}");
    }
}

/// A target whose medium fails is not the source of a backup.
#[test]
fn a_target_that_cannot_be_read() {
    struct Bad(MemorySink);
    impl Sink for Bad {
        fn len(&self) -> u64 {
            self.0.len()
        }
        fn sector_size(&self) -> u32 {
            512
        }
        fn write_at(&self, offset: u64, data: &[u8]) -> ntbak::error::Result<()> {
            self.0.write_at(offset, data)
        }
        fn zero_at(&self, offset: u64, len: u64) -> ntbak::error::Result<()> {
            self.0.zero_at(offset, len)
        }
        fn read_at(&self, offset: u64, _: &mut [u8]) -> ntbak::error::Result<()> {
            let e = ntbak::error::Error::new(ErrorKind::Unreadable, "Cannot read").at(offset);
            Err(e.hint("a backup goes on without these bytes"))
        }
        fn sync(&self) -> ntbak::error::Result<()> {
            Ok(())
        }
        fn name(&self) -> &str {
            "bad"
        }
        fn is_fresh(&self) -> bool {
            false
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let bytes = common::testdata("links");
    let path = archived(dir.path(), "links", &bytes);
    let how = wishes(Frame::Device(bytes.len() as u64));
    let new = plan(&opened(&path), &how);
    let sink = Bad(MemorySink::used(vec![0; bytes.len()], 512));
    let e = crate::tables::run(&path, &new, &how, &sink, &dir.path().join("j")).unwrap_err();
    assert!(
        e.advice().unwrap().contains("restore to another disk"),
        "{e}"
    );
}

#[test]
fn a_boot_record_on_a_disk_beyond_its_reach_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = archived(dir.path(), "links", &common::testdata("links"));
    let archive = opened(&path);
    for (len, told) in [(3 << 40, true), (1 << 40, false)] {
        let how = Wishes {
            table: Some(TableKind::Mbr),
            ..wishes(Frame::Device(len))
        };
        let new = plan(&archive, &how);
        assert_eq!(codes(&new).contains(&"mbr-limit"), told);
    }
}

/// The plan of a dry run shows no identity that the disk will not get.
#[test]
fn new_identities_are_told_as_they_will_be() {
    let dir = Dir::with("disk-gpt");
    expect(&dir, 0, &["image", "disk-gpt.img", "a.ntbak", "-q"]);
    let told = |args: &[&str]| {
        let all = ["restore", "a.ntbak", "r.img", "--new-ids", "--json"];
        let out = expect(&dir, 0, &[&all[..], args].concat());
        let all = rows(&out.stdout);
        let plan = all.iter().find(|r| r["type"] == "plan").unwrap();
        let told = plan["differences"].as_array().unwrap().clone();
        move |code: &str| -> Vec<String> {
            let some = told.iter().filter(|d| d["code"] == code);
            some.map(|d| d["message"].as_str().unwrap().to_owned())
                .collect()
        }
    };
    let dry = told(&["--dry-run"]);
    for (code, start) in [
        ("new-id", "Its identity is a new one, it was "),
        (
            "new-serial",
            "The volume's serial number is a new one, it was ",
        ),
    ] {
        let all = dry(code);
        assert!(
            !all.is_empty() && all.iter().all(|m| m.starts_with(start)),
            "{all:?}"
        );
    }
    let real = told(&[]);
    let image = common::Memory::shared(fs::read(dir.join("r.img")).unwrap());
    let id = open_layout(&*image).unwrap().disk_id.unwrap();
    assert!(real("new-id").iter().any(|m| m.contains(&id)), "{id}");
}
