use super::*;
use crate::device::{FaultySource, FileSource};
use crate::disk::open_layout;
use crate::disk::replace::{Ids, Room, TableWish, arrange};
use proptest::prelude::*;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

const MIB: u64 = 1 << 20;

/// A device element as bcdedit's users show it.
fn element(partition: [u8; 16], table: u32, disk: [u8; 16]) -> Vec<u8> {
    let mut e = vec![0; 0x58];
    e[0x10] = 6;
    e[0x18] = 0x48;
    e[0x20..0x30].copy_from_slice(&partition);
    e[0x34..0x38].copy_from_slice(&table.to_le_bytes());
    e[0x38..0x48].copy_from_slice(&disk);
    e
}

fn mbr_element(signature: u32, start: u64) -> Vec<u8> {
    let (mut p, mut d) = ([0; 16], [0; 16]);
    p[..8].copy_from_slice(&start.to_le_bytes());
    d[..4].copy_from_slice(&signature.to_le_bytes());
    element(p, 1, d)
}

/// A hive of one bin with these cells: in use or not, and content.
fn hive(cells: &[(bool, &[u8])]) -> Vec<u8> {
    let mut bin = vec![0; 0x20];
    bin[..4].copy_from_slice(b"hbin");
    for (used, content) in cells {
        let len = (content.len() + 4).next_multiple_of(8) as i32;
        let from = bin.len();
        bin.extend(if *used { -len } else { len }.to_le_bytes());
        bin.extend(*content);
        bin.resize(from + len as usize, 0);
    }
    let rest = (0x1000 - bin.len()) as i32;
    bin.extend(rest.to_le_bytes());
    bin.resize(0x1000, 0);
    bin[8..12].copy_from_slice(&0x1000u32.to_le_bytes());
    let mut out = vec![0; 0x1000];
    out[..4].copy_from_slice(b"regf");
    out.extend(bin);
    out
}

#[test]
fn names_in_a_hive() {
    let old = mbr_element(7, 512);
    let now = mbr_element(0xb3eb_a8f1, 0x15f0_0000);
    let gpt = element([3; 16], 0, [4; 16]);
    let store = hive(&[
        (false, &old),
        (true, &now),
        (true, b"else"),
        (true, &gpt),
        (true, &gpt),
    ]);
    let want = [
        Named::Mbr {
            signature: 0xb3eb_a8f1,
            start: 0x15f0_0000,
        },
        Named::Gpt {
            disk: [4; 16],
            partition: [3; 16],
        },
    ];
    assert_eq!(bcd::names(&store).unwrap(), want);
    assert_eq!(bcd::names(&hive(&[])).unwrap(), []);
    assert!(bcd::names(b"MZ").is_none());
}

proptest! {
    #[test]
    fn any_hive_is_searched_without_panic(
        patches in prop::collection::vec((0usize..0x2000, any::<u8>()), 0..40), cut in 0usize..0x2001,
    ) {
        let now = mbr_element(1, 2);
        let mut h = hive(&[(true, &now), (false, &now), (true, &now)]);
        for (at, b) in patches {
            h[at] = b;
        }
        let _ = bcd::names(&h[..cut]);
    }
}

fn run(program: &str, args: &[&str]) -> bool {
    match Command::new(program).args(args).output() {
        Ok(o) if o.status.success() => true,
        Ok(o) => panic!("{program}: {}", String::from_utf8_lossy(&o.stderr)),
        Err(_) => {
            eprintln!("skipped: {program} is not installed");
            false
        }
    }
}

/// A FAT volume of 64 MiB with a store; made by mkfs.vfat and mtools.
fn fat(store: &[u8], dirs: &[&str]) -> Option<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let (image, file) = (dir.path().join("v"), dir.path().join("BCD"));
    std::fs::File::create(&image)
        .unwrap()
        .set_len(64 * MIB)
        .unwrap();
    std::fs::write(&file, store).unwrap();
    let (i, f) = (image.to_str().unwrap(), file.to_str().unwrap());
    if !run("mkfs.vfat", &["-F", "32", i]) || Command::new("mcopy").arg("-V").output().is_err() {
        eprintln!("skipped: mkfs.vfat or mtools are not installed");
        return None;
    }
    let mut at = "::".to_owned();
    for d in dirs {
        at += &format!("/{d}");
        run("mmd", &["-i", i, &at]);
    }
    run("mcopy", &["-i", i, f, &format!("{at}/BCD")]);
    Some(std::fs::read(image).unwrap())
}

fn opened(path: &Path) -> (SharedSource, Layout) {
    let s: SharedSource = Arc::new(FileSource::open(path, 512).unwrap());
    let l = open_layout(&*s).unwrap();
    (s, l)
}

fn planned(disk: &SharedSource, layout: &Layout, len: u64, ids: Ids, small: u64) -> Arrangement {
    let room = Room {
        number: 1,
        smallest: small,
        grow: false,
        movable: true,
    };
    let wish = TableWish {
        sector_size: 512,
        ids,
    };
    arrange(layout, &**disk, &[room], len, &wish).unwrap()
}

#[test]
fn a_gpt_disk_with_new_ids_does_not_start() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(300 * MIB).unwrap();
    let args = [
        "-n1:1M:+64M",
        "-t1:ef00",
        "-n2:0:+100M",
        file.path().to_str().unwrap(),
    ];
    if !run("sgdisk", &args) {
        return;
    }
    let (_, layout) = opened(file.path());
    let disk_id = Guid::parse(layout.disk_id.as_deref().unwrap()).unwrap();
    let ids: Vec<Guid> = layout.partitions.iter().map(|p| p.id.unwrap()).collect();
    let (a, b) = (
        element(ids[0].0, 0, disk_id.0),
        element(ids[1].0, 0, disk_id.0),
    );
    let foreign = element([9; 16], 0, [8; 16]);
    let store = hive(&[(true, &a), (true, &b), (true, &foreign)]);
    let Some(v) = fat(&store, &["EFI", "MICROSOFT", "boot"]) else {
        return;
    };
    file.as_file().write_all_at(&v, MIB).unwrap();
    let (disk, layout) = opened(file.path());
    let boot = look(&layout, &disk).unwrap();
    assert_eq!(
        (boot.efi.as_slice(), boot.active.as_slice(), boot.boot_code),
        (&[1][..], &[][..], false)
    );
    assert!(boot.unseen.is_empty(), "{:?}", boot.unseen);
    assert_eq!(boot.stores.len(), 1);
    let mut named: Vec<_> = boot.stores[0].names.iter().map(|r| r.partition).collect();
    named.sort_unstable();
    assert_eq!(named, [None, Some(1), Some(2)]);
    let kept = planned(&disk, &layout, 500 * MIB, Ids::Keep, u64::MAX);
    assert_eq!(boot.warnings(&layout, &kept), [""; 0]);
    let new = planned(&disk, &layout, 500 * MIB, Ids::New, u64::MAX);
    let w = boot.warnings(&layout, &new);
    assert_eq!(w.len(), 3, "{w:?}");
    for n in [1, 2] {
        let start = format!(
            "Windows' loader will not find partition {n}: /EFI/Microsoft/Boot/BCD on partition 1"
        );
        assert!(w.iter().any(|w| w.starts_with(&start) && w.ends_with("run bcdboot from a recovery medium")));
    }
    assert!(w[2].contains("EFI system partition 1 by its GUID"), "{w:?}");
}

#[test]
fn a_moved_partition_of_a_master_boot_record_is_not_found() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(300 * MIB).unwrap();
    let store = hive(&[
        (true, &mbr_element(0x708c_8397, 101 * MIB)),
        (true, &mbr_element(0x708c_8397, MIB)),
    ]);
    let Some(v) = fat(&store, &["Boot"]) else {
        return;
    };
    let mut record = vec![0; 512];
    record[..3].copy_from_slice(&[0x33, 0xc0, 0x8e]);
    record[0x1b8..0x1bc].copy_from_slice(&0x708c_8397u32.to_le_bytes());
    record[510..].copy_from_slice(&[0x55, 0xaa]);
    for (i, (start, len)) in [(2048u32, 204_800u32), (206_848, 131_072)]
        .iter()
        .enumerate()
    {
        let e = &mut record[0x1be + 16 * i..][..16];
        (e[0], e[4]) = (0x80 * i as u8, 7);
        e[8..12].copy_from_slice(&start.to_le_bytes());
        e[12..].copy_from_slice(&len.to_le_bytes());
    }
    file.as_file().write_all_at(&record, 0).unwrap();
    file.as_file().write_all_at(&v, 101 * MIB).unwrap();
    let (disk, layout) = opened(file.path());
    let boot = look(&layout, &disk).unwrap();
    assert_eq!((boot.active.as_slice(), boot.boot_code), (&[2][..], true));
    assert_eq!(boot.stores[0].names.len(), 2);
    let plan = |len, ids| boot.warnings(&layout, &planned(&disk, &layout, len, ids, 20 * MIB));
    assert_eq!(plan(500 * MIB, Ids::Keep), [""; 0]);
    let w = plan(100 * MIB, Ids::Keep);
    assert_eq!(w.len(), 1);
    assert!(
        w[0].contains("partition 2: /Boot/BCD on partition 2 names it by disk signature 708c8397 and byte 0x6500000, and it will begin at byte"),
        "{w:?}"
    );
    assert_eq!(plan(500 * MIB, Ids::New).len(), 2);
    // The same with the store on NTFS.
    let dir = tempfile::tempdir().unwrap();
    let (image, mnt) = (dir.path().join("v"), dir.path().join("mnt"));
    std::fs::File::create(&image)
        .unwrap()
        .set_len(64 * MIB)
        .unwrap();
    std::fs::create_dir(&mnt).unwrap();
    if !run("mkntfs", &["-F", "-Q", "-q", image.to_str().unwrap()]) {
        return;
    }
    let mounted = Command::new("ntfs-3g").arg(&image).arg(&mnt).output();
    if !mounted.is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: ntfs-3g cannot mount here");
        return;
    }
    let written = std::fs::create_dir(mnt.join("Boot"))
        .and_then(|()| std::fs::write(mnt.join("Boot/BCD"), &store));
    run("umount", &[mnt.to_str().unwrap()]);
    written.unwrap();
    file.as_file()
        .write_all_at(&std::fs::read(&image).unwrap(), 101 * MIB)
        .unwrap();
    let (disk, layout) = opened(file.path());
    assert!(layout.partitions[1].content.is_ntfs());
    let boot = look(&layout, &disk).unwrap();
    assert!(boot.unseen.is_empty(), "{:?}", boot.unseen);
    assert_eq!(boot.stores[0].names.len(), 2);
}

#[test]
fn a_damaged_fat_is_an_error_and_ends() {
    let Some(good) = fat(b"no hive", &["Boot"]) else {
        return;
    };
    let ask = |d: Vec<u8>| {
        let s: SharedSource = Arc::new(FaultySource::new(d, 512));
        super::fat::read(&s, "Boot/BCD", 1 << 20)
    };
    assert_eq!(ask(good.clone()).unwrap().unwrap(), b"no hive");
    // Every field of the boot sector, the first entries of the table and the
    // first entries of the root directory.
    let fat_at = 32 * 512;
    assert!(ask(good[..fat_at + 512].to_vec()).is_err());
    let root = fat_at + 2 * u32::from_le_bytes(good[0x24..0x28].try_into().unwrap()) as usize * 512;
    let places = (0x0b..0x40)
        .chain(fat_at..fat_at + 24)
        .chain(root..root + 96);
    for (i, at) in places.enumerate() {
        let mut d = good.clone();
        for value in [0, 1, 0x7f, 0xff] {
            d[at] = value;
            if i % 4 == value as usize % 4 || at >= root {
                let _ = ask(d.clone());
            }
        }
    }
    // The directory goes round in a circle.
    let mut d = good.clone();
    for c in 2..200 {
        d[fat_at + 4 * c..fat_at + 4 * c + 4].copy_from_slice(&(c as u32).to_le_bytes());
    }
    let s: SharedSource = Arc::new(FaultySource::new(d, 512));
    let e = super::fat::read(&s, "Boot/Missing", 1 << 20);
    assert!(e.is_err() || e.unwrap().is_none());
}
