//! Boot sectors of volumes that move, and partitions on bare disks.

use super::*;
use crate::device::{SharedSource, Window};
use std::sync::Arc;

#[test]
fn one_partition_into_another_disk() {
    if !here("sfdisk") || !here("sgdisk") {
        return;
    }
    let Some(v) = format("mkfs.vfat", &["-F", "32", "-h", "2048"], 64 * MIB) else {
        return;
    };
    let old = Disk::sfdisk(70 * MIB, "label: dos\n1: start=2048, size=131072, type=c\n");
    old.put(MIB, &v);
    let (layout, source): (_, SharedSource) = (old.layout(), Arc::new(old.source()));
    let p = layout.partition(1).unwrap();
    let volume = Window::new(source, p.start, p.length, "volume".into()).unwrap();
    let gpt = Disk::sgdisk(200 * MIB, &["-n1:1M:+10M", "-n2:11M:+80M", "-t2:8300"]);
    let dos = Disk::sfdisk(
        200 * MIB,
        "label: dos\n1: start=2048, size=20480, type=7\n2: start=22528, size=200000, type=5\n5: start=24576, size=163840, type=83\n",
    );
    for (target, number) in [(gpt, 2), (dos, 5)] {
        let (before, first) = (target.layout(), target.get(0, 512));
        for grow in [false, true] {
            let part = NewPartition {
                partition: p,
                volume: &volume,
                disk_id: None,
                room: Room {
                    grow,
                    ..room(1, u64::MAX)
                },
            };
            let wish = TableWish {
                sector_size: 512,
                ids: Ids::Keep,
            };
            let a = into(&before, &target.source(), number, &part, &wish).unwrap();
            let said = |a: &Arrangement| {
                let note = a.notes.iter().find(|n| n.code == "type-changes");
                note.map(|n| n.message.clone())
            };
            let (is, was) = match before.table {
                TableKind::Gpt => (
                    "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7",
                    "0fc63daf-8483-4772-8e79-3d69d8477de4",
                ),
                _ => ("0x0c", "0x83"),
            };
            assert_eq!(
                said(&a).map(|s| s.to_lowercase()),
                Some(format!(
                    "the type of partition {number} becomes {is}, it was {was}"
                ))
            );
            let slot = before.partition(number).unwrap();
            let len = if grow { slot.length } else { p.length };
            assert_eq!(
                (a.partitions[0].new.start, a.partitions[0].new.len()),
                (slot.start, len)
            );
            let hidden = u32::try_from(slot.start / 512).unwrap();
            assert_eq!(a.partitions[0].hidden_sectors, Some(hidden));
            assert_eq!(a.volume_patches.len(), 2);
            for t in &a.table_patches {
                target.put(t.offset, &t.bytes);
            }
            target.verify();
            let after = target.layout();
            let kind = match after.table {
                TableKind::Gpt => PartitionType::Gpt(guid::BASIC_DATA),
                _ => PartitionType::Mbr(0x0c),
            };
            assert_eq!(after.partition(number).unwrap().kind, kind);
            assert_eq!(
                (&after.disk_id, target.get(0, 512)),
                (&before.disk_id, first.clone())
            );
            // Now it has the type already.
            let again = into(&after, &target.source(), number, &part, &wish).unwrap();
            assert!(again.table_patches.is_empty() && said(&again).is_none());
            let e = into(&after, &target.source(), 1, &part, &wish).unwrap_err();
            assert!(e.message().contains("too small"), "{e}");
        }
    }
}

fn format(program: &str, args: &[&str], len: u64) -> Option<Vec<u8>> {
    let f = tempfile::NamedTempFile::new().unwrap();
    f.as_file().set_len(len).unwrap();
    let out = Command::new(program).args(args).arg(f.path()).output();
    if !out.is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: {program}");
        return None;
    }
    Some(std::fs::read(f.path()).unwrap())
}

/// p1 of 20 MiB that can shrink to 10, then one with this volume.
fn moved(volume: &[u8], kind: &str) -> (Disk, Arrangement, Disk) {
    let sectors = volume.len() / 512;
    let script = format!(
        "label: dos\n1: start=2048, size=40960, type=7\n2: start=43008, size={sectors}, type={kind}\n"
    );
    let old = Disk::sfdisk(21 * MIB + volume.len() as u64, &script);
    old.put(21 * MIB, volume);
    let rooms = [room(1, 10 * MIB)];
    let a = old.arranged(&rooms, old.len - 10 * MIB, Ids::Keep).unwrap();
    assert_eq!(a.partitions[1].new.start, 11 * MIB);
    let new = old.carried_out(&a);
    // All of it, with what is written differently.
    new.put(11 * MIB, volume);
    for p in &a.volume_patches {
        new.put(11 * MIB + p.patch.offset, &p.patch.bytes);
    }
    new.verify();
    (old, a, new)
}

fn hidden(d: &Disk, at: u64) -> u32 {
    u32::from_le_bytes(d.get(at + 0x1c, 4).try_into().unwrap())
}

#[test]
fn fat_is_told_its_place() {
    if !here("sfdisk") {
        return;
    }
    for (bits, len) in [("12", 2), ("16", 20), ("32", 64)] {
        let Some(v) = format("mkfs.vfat", &["-F", bits, "-h", "43008"], len * MIB) else {
            return;
        };
        let (old, a, new) = moved(&v, "c");
        assert_eq!(a.partitions[1].hidden_sectors, Some(11 * 2048));
        assert_eq!(hidden(&old, 21 * MIB), 43008);
        assert_eq!(hidden(&new, 11 * MIB), 11 * 2048);
        let patches = if bits == "32" { 2 } else { 1 };
        assert_eq!(a.volume_patches.len(), patches);
        if bits == "32" {
            assert_eq!(new.get(11 * MIB, 512), new.get(11 * MIB + 6 * 512, 512));
        }
        // The rest is as it was, and fsck.vfat has nothing to say.
        let mut got = new.get(11 * MIB, v.len() as u64);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &got).unwrap();
        if let Ok(out) = Command::new("fsck.vfat")
            .arg("-n")
            .arg(file.path())
            .output()
        {
            assert!(out.status.success(), "{}", said(&out));
        }
        for at in [0x1c, 6 * 512 + 0x1c].into_iter().take(patches) {
            got[at..at + 4].copy_from_slice(&v[at..at + 4]);
        }
        assert!(got == v);
    }
}

#[test]
fn exfat_is_told_its_place_and_its_checksum_is_right() {
    if !here("sfdisk") {
        return;
    }
    let Some(mut v) = format("mkfs.exfat", &[], 16 * MIB) else {
        return;
    };
    // A file has no place; give it one, as on a partition.
    for at in [0, 12 * 512] {
        v[at + 0x40..at + 0x48].copy_from_slice(&43008u64.to_le_bytes());
    }
    let (_, a, new) = moved(&v, "7");
    assert_eq!(a.volume_patches.len(), 2);
    let got = new.get(11 * MIB, v.len() as u64);
    assert_eq!(got[0x40..0x48], (11 * 2048u64).to_le_bytes());
    assert_eq!(got[..12 * 512], got[12 * 512..24 * 512]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &got).unwrap();
    let out = Command::new("fsck.exfat")
        .arg("-n")
        .arg(file.path())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", said(&out));
}

#[test]
fn ntfs_is_left_to_whoever_moves_it() {
    if !here("sfdisk") {
        return;
    }
    let mut v = vec![0; 2 << 20];
    v[3..11].copy_from_slice(b"NTFS    ");
    v[0x1c..0x20].copy_from_slice(&43008u32.to_le_bytes());
    let (_, a, _) = moved(&v, "7");
    assert_eq!(a.partitions[1].hidden_sectors, Some(11 * 2048));
    assert!(a.volume_patches.is_empty());
}

#[test]
fn a_logical_volume_goes_on_counting_from_its_record() {
    if !here("sfdisk") {
        return;
    }
    let script = "label: dos\n1: start=2048, size=40960, type=7\n\
        2: start=43008, size=20480, type=5\n5: start=43071, size=8192, type=7\n";
    for (was, is) in [(63, 63), (43071, 12 * 2048), (0, 12 * 2048)] {
        let old = Disk::sfdisk(40 * MIB, script);
        old.put(43071 * 512 + 3, b"NTFS    ");
        old.put(43071 * 512 + 0x1c, &u32::to_le_bytes(was));
        let rooms = [room(1, 10 * MIB)];
        let a = old.arranged(&rooms, 16 * MIB, Ids::Keep).unwrap();
        assert_eq!(mib(&a), [(1, 1, 10), (5, 12, 4)]);
        let told = a.partitions[1].hidden_sectors;
        assert_eq!(told, (was != is).then_some(is));
        let new = old.carried_out(&a);
        new.verify();
        let l = new.layout();
        assert_eq!(l.containers[0].range.start, 12 * MIB - 63 * 512);
    }
}

#[test]
fn one_partition_onto_a_bare_disk() {
    if !here("sfdisk") || !here("sgdisk") {
        return;
    }
    let Some(v) = format("mkfs.vfat", &["-F", "32", "-h", "206848"], 64 * MIB) else {
        return;
    };
    let gpt = Disk::sgdisk(
        300 * MIB,
        &[
            "-n1:1M:+10M",
            "-n2:101M:+64M",
            "-t2:ef00",
            "-c2:Grüße",
            "-A2:set:2",
        ],
    );
    let dos = Disk::sfdisk(
        300 * MIB,
        "label: dos\n1: start=206848, size=131072, type=c, bootable\n",
    );
    for (old, number) in [(gpt, 2), (dos, 1)] {
        old.put(101 * MIB, &v);
        let (layout, source): (_, SharedSource) = (old.layout(), Arc::new(old.source()));
        let p = layout.partition(number).unwrap();
        let volume = Window::new(source, p.start, p.length, "volume".into()).unwrap();
        for table in [TableKind::Gpt, TableKind::Mbr] {
            for (ids, grow, len) in [
                (Ids::Keep, false, 66 * MIB),
                (Ids::New, true, 500 * MIB),
                (Ids::Keep, false, 500 * MIB),
            ] {
                let part = NewPartition {
                    partition: p,
                    volume: &volume,
                    disk_id: layout.disk_id.as_deref(),
                    room: Room {
                        grow,
                        ..room(number, u64::MAX)
                    },
                };
                let wish = TableWish {
                    sector_size: 512,
                    ids,
                };
                let a = fresh(table, &part, len, &wish).unwrap();
                let new = old.carried_out(&a);
                new.verify();
                let l = new.layout();
                assert!(l.notes.is_empty(), "{:?}", l.notes);
                let n = &l.partitions[0];
                assert_eq!((l.table, n.number, n.start), (table, 1, MIB));
                assert_eq!(
                    n.length,
                    if grow {
                        a.partitions[0].new.len()
                    } else {
                        64 * MIB
                    }
                );
                assert!(!grow || n.length >= 498 * MIB);
                assert_eq!(n.content, Content::Fat32);
                assert_eq!(hidden(&new, MIB), 2048);
                match (layout.table, table) {
                    (TableKind::Gpt, TableKind::Gpt) => {
                        assert_eq!((n.kind, &n.name, n.attributes), (p.kind, &p.name, 4));
                        assert_eq!(l.disk_id == layout.disk_id, ids == Ids::Keep);
                        assert_eq!(n.id == p.id, ids == Ids::Keep);
                    }
                    (TableKind::Mbr, TableKind::Mbr) => {
                        assert_eq!((n.kind, n.bootable), (p.kind, true));
                        assert_eq!(l.disk_id == layout.disk_id, ids == Ids::Keep);
                    }
                    (TableKind::Gpt, _) => assert_eq!(n.kind, PartitionType::Mbr(0xef)),
                    _ => assert_eq!(n.kind, PartitionType::Gpt(guid::BASIC_DATA)),
                }
            }
            let part = NewPartition {
                partition: p,
                volume: &volume,
                disk_id: None,
                room: room(number, 70 * MIB),
            };
            let wish = TableWish {
                sector_size: 512,
                ids: Ids::Keep,
            };
            let e = fresh(table, &part, 60 * MIB, &wish).unwrap_err();
            assert!(e.message().contains("too small"), "{e}");
            let wish = TableWish {
                sector_size: 4096,
                ..wish
            };
            let e = fresh(table, &part, 600 * MIB, &wish).unwrap_err();
            assert!(e.message().contains("sectors of 4096"), "{e}");
        }
    }
}
