//! Cases one by one.

use super::*;
use crate::error::ErrorKind;

/// EFI, reserved, C:, recovery, as Windows lays a disk out.
fn windows() -> Disk {
    let d = Disk::sgdisk(
        1024 * MIB,
        &[
            "-n1:1M:+100M",
            "-t1:ef00",
            "-c1:EFI system partition",
            "-n2:0:+16M",
            "-t2:0c01",
            "-n3:0:+700M",
            "-t3:0700",
            "-c3:Basic data partition",
            "-n4:0:+100M",
            "-t4:2700",
            "-A4:set:0",
            "-A4:set:63",
        ],
    );
    d.mark();
    d
}

#[test]
fn a_gpt_on_a_larger_disk() {
    if !here("sgdisk") || !here("sfdisk") {
        return;
    }
    let old = windows();
    let a = old.arranged(&[], 3000 * MIB + 512 * 7, Ids::Keep).unwrap();
    let new = check(&old, &[], &a);
    new.verify();
    assert!(a.partitions.iter().all(|p| p.old == p.new) && a.new_ids.is_empty());
    assert_eq!(old.layout().disk_id, new.layout().disk_id);
    // The old copy is gone.
    assert!(
        new.get(old.len - 33 * 512, 33 * 512)
            .iter()
            .all(|&b| b == 0)
    );
    // C: grows, what lies behind it moves to the end.
    let rooms = [growing(3)];
    let a = old.arranged(&rooms, 3000 * MIB, Ids::Keep).unwrap();
    check(&old, &rooms, &a).verify();
    assert_eq!(
        mib(&a),
        [(1, 1, 100), (2, 101, 16), (3, 117, 2782), (4, 2899, 100)]
    );
    // Two share.
    let rooms = [growing(1), growing(3)];
    let a = old.arranged(&rooms, 3000 * MIB, Ids::New).unwrap();
    check(&old, &rooms, &a).verify();
    assert_eq!(
        mib(&a),
        [(1, 1, 1141), (2, 1142, 16), (3, 1158, 1741), (4, 2899, 100)]
    );
    assert_eq!(a.new_ids.len(), 5);
    // What does not move is a wall.
    let wall = Room {
        movable: false,
        ..room(4, u64::MAX)
    };
    let rooms = [growing(3), wall];
    let a = old.arranged(&rooms, 3000 * MIB, Ids::Keep).unwrap();
    check(&old, &rooms, &a).verify();
    assert!(a.partitions.iter().all(|p| p.old == p.new));
}

#[test]
fn a_gpt_on_a_smaller_disk() {
    if !here("sgdisk") || !here("sfdisk") {
        return;
    }
    let old = windows();
    let rooms = [room(3, 200 * MIB), room(1, 60 * MIB)];
    let small = measure(&old.layout(), &old.source(), &rooms).unwrap();
    assert_eq!(small.unchanged, 917 * MIB + 33 * 512);
    assert_eq!(small.possible, (1 + 60 + 16 + 200 + 100) * MIB + 33 * 512);
    // Free space behind is given up first.
    let a = old.arranged(&rooms, small.unchanged, Ids::Keep).unwrap();
    assert!(a.partitions.iter().all(|p| p.old == p.new));
    check(&old, &rooms, &a).verify();
    // Then C: and the EFI partition give by what they have.
    let a = old.arranged(&rooms, 900 * MIB, Ids::Keep).unwrap();
    check(&old, &rooms, &a).verify();
    let lens: Vec<u64> = a.partitions.iter().map(|p| p.new.len() / MIB).collect();
    assert!(
        lens[0] >= 98 && lens[0] < 100 && lens[1] == 16 && lens[3] == 100,
        "{lens:?}"
    );
    assert!(lens[2] >= 681 && lens[2] < 685, "{lens:?}");
    let e = old
        .arranged(&rooms, small.possible - 1, Ids::Keep)
        .unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Refused);
    assert!(e.to_string().contains(&small.possible.to_string()), "{e}");
    let a = old.arranged(&rooms, small.possible, Ids::Keep).unwrap();
    check(&old, &rooms, &a).verify();
    // What is left out of a room neither shrinks.
    let e = old.arranged(&[], small.possible, Ids::Keep).unwrap_err();
    assert!(e.to_string().contains(&small.unchanged.to_string()), "{e}");
}

#[test]
fn other_sectors_are_refused() {
    if !here("sgdisk") {
        return;
    }
    let old = windows();
    let wish = TableWish {
        sector_size: 4096,
        ids: Ids::Keep,
    };
    let e = arrange(&old.layout(), &old.source(), &[], old.len, &wish).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Refused);
    assert!(
        e.message()
            .contains("sectors of 4096 bytes, the source had 512"),
        "{e}"
    );
    let e = old.arranged(&[room(9, 1)], old.len, Ids::Keep).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
}

#[test]
fn a_broken_copy_or_primary_is_made_good() {
    if !here("sgdisk") || !here("sfdisk") {
        return;
    }
    for at in [512, 1024, 1024 * MIB - 512] {
        let old = windows();
        old.put(at + 40, &[0x55; 8]);
        let a = old.arranged(&[], 1500 * MIB, Ids::Keep).unwrap();
        check(&old, &[], &a).verify();
        // In place nothing is touched.
        assert!(
            old.arranged(&[], old.len, Ids::Keep)
                .unwrap()
                .is_unchanged()
        );
    }
    let old = windows();
    old.put(1024, &[0x55; 8]);
    old.put(1024 * MIB - 33 * 512, &[0x55; 8]);
    let e = old.arranged(&[], 1500 * MIB, Ids::Keep).unwrap_err();
    assert!(e.message().contains("restored as it was only"), "{e}");
}

#[test]
fn hybrid_and_dynamic_disks_stay_as_they_are() {
    if !here("sgdisk") || !here("sfdisk") {
        return;
    }
    let hybrid = Disk::sgdisk(100 * MIB, &["-n1:1M:+20M", "-h1"]);
    let dynamic = Disk::sfdisk(100 * MIB, "label: dos\nstart=63, size=100000, type=42\n");
    for d in [hybrid, dynamic] {
        assert!(d.arranged(&[], d.len, Ids::Keep).unwrap().is_unchanged());
        assert_eq!(
            measure(&d.layout(), &d.source(), &[]).unwrap().possible,
            d.len
        );
        for (len, ids) in [(d.len * 2, Ids::Keep), (d.len, Ids::New)] {
            let e = d.arranged(&[], len, ids).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Unsupported);
            assert!(e.message().contains("restored as it was only"), "{e}");
        }
    }
}

const MBR: &str = "label: dos\nlabel-id: 0x708c8397\n\
    1: start=2048, size=204800, type=7, bootable\n\
    2: start=206848, size=409600, type=f\n\
    5: start=208896, size=102400, type=7\n\
    6: start=315392, size=102400, type=b\n\
    3: start=616448, size=102400, type=27\n";

#[test]
fn a_master_boot_record_with_logical_partitions() {
    if !here("sfdisk") {
        return;
    }
    let old = Disk::sfdisk(400 * MIB, MBR);
    old.put(0, &[0xfa; 440]);
    old.put(512 * 100, b"core.img of a boot loader");
    old.mark();
    // A larger disk: nothing to write.
    let a = old.arranged(&[], 800 * MIB, Ids::Keep).unwrap();
    assert!(a.table_patches.is_empty());
    check(&old, &[], &a).verify();
    // A logical one grows; its container goes with it, the last one moves.
    let rooms = [growing(5)];
    let a = old.arranged(&rooms, 800 * MIB, Ids::New).unwrap();
    let new = check(&old, &rooms, &a);
    new.verify();
    assert_eq!(
        mib(&a),
        [(1, 1, 100), (3, 750, 50), (5, 102, 597), (6, 700, 50)]
    );
    let l = new.layout();
    assert_eq!(l.containers[0].range.start, 101 * MIB);
    assert_eq!(l.containers[0].range.end, 750 * MIB);
    assert_eq!(l.disk_id.as_deref(), Some(&*a.new_ids[0].new));
    assert_eq!(new.get(0, 440), [0xfa; 440]);
    assert_eq!(new.get(512 * 100, 10), b"core.img o");
    // Smaller: the first one gives, everything behind it moves.
    let rooms = [room(1, 20 * MIB)];
    let small = measure(&old.layout(), &old.source(), &rooms).unwrap();
    assert_eq!(small.unchanged, 351 * MIB);
    assert_eq!(small.possible, (21 + 1 + 50 + 1 + 50 + 50) * MIB);
    let a = old.arranged(&rooms, small.possible, Ids::Keep).unwrap();
    let new = check(&old, &rooms, &a);
    new.verify();
    assert_eq!(new.layout().disk_id.as_deref(), Some("708c8397"));
    assert_eq!(
        mib(&a),
        [(1, 1, 20), (3, 123, 50), (5, 22, 50), (6, 73, 50)]
    );
}

#[test]
fn an_empty_extended_partition_moves_too() {
    if !here("sfdisk") {
        return;
    }
    let script = "label: dos\n1: start=2048, size=204800, type=7\n\
        2: start=206848, size=204800, type=5\n3: start=411648, size=20480, type=7\n";
    let old = Disk::sfdisk(300 * MIB, script);
    old.mark();
    let rooms = [room(1, 10 * MIB)];
    let small = measure(&old.layout(), &old.source(), &rooms).unwrap();
    assert_eq!(small.possible, (1 + 10 + 1 + 10) * MIB);
    for len in [small.possible, 150 * MIB, 211 * MIB, 280 * MIB] {
        let a = old.arranged(&rooms, len, Ids::Keep).unwrap();
        check(&old, &rooms, &a).verify();
    }
    let rooms = [growing(1)];
    let a = old.arranged(&rooms, 400 * MIB, Ids::Keep).unwrap();
    check(&old, &rooms, &a).verify();
    assert_eq!(mib(&a), [(1, 1, 289), (3, 390, 10)]);
}

#[test]
fn two_tebibytes_are_the_end_of_a_master_boot_record() {
    if !here("sfdisk") {
        return;
    }
    let old = Disk::sfdisk(400 * MIB, MBR);
    old.mark();
    let rooms = [growing(3)];
    let a = old.arranged(&rooms, 3 << 40, Ids::Keep).unwrap();
    let new = check(&old, &rooms, &a);
    new.verify();
    assert_eq!(a.partitions[1].new.end, 2 << 40);
    assert_eq!(codes(&a), ["mbr-limit"], "{:?}", a.dropped);
}

#[test]
fn what_is_dropped_is_said() {
    if !here("sfdisk") {
        return;
    }
    let script =
        "label: dos\n1: start=2048, size=20480, type=7\n2: start=40960, size=20480, type=83\n";
    let old = Disk::sfdisk(50 * MIB, script);
    old.mark();
    old.put(15 * MIB, b"something");
    old.put(40 * MIB, b"something else");
    let a = old.arranged(&[], 31 * MIB, Ids::Keep).unwrap();
    assert_eq!(codes(&a), ["dropped"]);
    assert_eq!(check(&old, &[], &a).get(15 * MIB, 9), b"something");
    let a = old.arranged(&[], 21 * MIB, Ids::Keep).unwrap();
    assert_eq!(codes(&a), ["dropped", "dropped"]);
    assert!(a.dropped.iter().all(|d| d.holds == Holds::Data));
    check(&old, &[], &a).verify();
    let e = old.arranged(&[], 20 * MIB, Ids::Keep).unwrap_err();
    assert!(e.message().contains(&(21 * MIB).to_string()), "{e}");
}

/// Sectors of 4096 bytes need a device; a loop device can be one.
#[test]
fn sectors_of_4096_bytes() {
    let run = |args: &[&str]| {
        let out = Command::new("losetup").args(args).output().ok()?;
        out.status.success().then(|| said(&out).trim().to_owned())
    };
    if !here("sfdisk") {
        return;
    }
    let attach = |d: &Disk| {
        run(&[
            "--sector-size",
            "4096",
            "-f",
            "--show",
            d.path().to_str().unwrap(),
        ])
    };
    for label in ["gpt", "dos"] {
        let old = Disk::new(200 * MIB, 4096);
        let Some(device) = attach(&old) else {
            eprintln!("skipped: there is no loop device with sectors of 4096 bytes");
            return;
        };
        let script = match label {
            "gpt" => "label: gpt\nstart=256, size=10240\nsize=10240\n",
            _ => {
                "label: dos\n1: start=256, size=10240, type=7\n2: start=10496, size=20480, type=5\n5: start=10752, size=5120, type=7\n"
            }
        };
        sfdisk(Path::new(&device), script);
        run(&["-d", &device]).unwrap();
        old.mark();
        let first = old.layout().partitions[0].number;
        let rooms = [Room {
            grow: true,
            ..room(first, 10 * MIB)
        }];
        for len in [60 * MIB, 90 * MIB, 300 * MIB] {
            let a = old.arranged(&rooms, len, Ids::New).unwrap();
            let new = check(&old, &rooms, &a);
            let device = attach(&new).unwrap();
            let out = Command::new("sfdisk")
                .args(["--verify", &device])
                .output()
                .unwrap();
            run(&["-d", &device]).unwrap();
            assert!(said(&out).contains("No errors detected"), "{}", said(&out));
        }
    }
}

#[test]
fn a_bare_volume_ends_elsewhere() {
    let old = Disk::new(10 * MIB, 512);
    old.put(3, b"NTFS    ");
    let l = old.layout();
    assert_eq!(
        (l.table, l.partitions[0].content),
        (TableKind::None, Content::Ntfs)
    );
    let a = old.arranged(&[growing(1)], 20 * MIB, Ids::Keep).unwrap();
    assert_eq!(mib(&a), [(1, 0, 20)]);
    let a = old
        .arranged(&[room(1, 5 * MIB)], 6 * MIB + 700, Ids::New)
        .unwrap();
    assert_eq!(a.partitions[0].new.len(), 6 * MIB + 512);
    assert!(a.table_patches.is_empty() && a.kept.is_empty() && a.new_ids.is_empty());
    let e = old
        .arranged(&[room(1, 5 * MIB)], 5 * MIB - 512, Ids::Keep)
        .unwrap_err();
    assert!(e.message().contains(&(5 * MIB).to_string()), "{e}");
}

#[test]
fn chs_fields() {
    use super::mbr::chs;
    assert_eq!(chs(0), [0, 1, 0]);
    assert_eq!(chs(63), [1, 1, 0]);
    assert_eq!(chs(2048), [32, 33, 0]);
    assert_eq!(chs(300 * 255 * 63), [0, 0x41, 44]);
    assert_eq!(chs(1024 * 255 * 63), [254, 0xff, 0xff]);
}
