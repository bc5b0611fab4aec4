//! What a plan says of starting from a partition on another disk.

use crate::program::text;
use crate::tables::{archived, opened, wishes};
use ntbak::disk::TableKind;
use ntbak::observe::Silent;
use ntbak::ops::restore::{Frame, Wishes, replace};
use std::fs;
use std::path::Path;
use std::process::Command;

fn ran(program: &str, args: &[&str]) -> bool {
    match Command::new(program).args(args).output() {
        Ok(o) if o.status.success() => true,
        Ok(o) => panic!("{program}: {}", text(&o.stderr)),
        Err(_) => {
            eprintln!("skipped: there is no {program}");
            false
        }
    }
}

/// A hive with one device element (see `ops::boot`).
fn store(table: u32, disk: &[u8], partition: &[u8]) -> Vec<u8> {
    let mut e = vec![0; 0x58];
    (e[0x10], e[0x18]) = (6, 0x48);
    e[0x20..0x20 + partition.len()].copy_from_slice(partition);
    e[0x34..0x38].copy_from_slice(&table.to_le_bytes());
    e[0x38..0x38 + disk.len()].copy_from_slice(disk);
    let mut hive = vec![0; 0x2000];
    hive[..4].copy_from_slice(b"regf");
    let bin = &mut hive[0x1000..];
    bin[..4].copy_from_slice(b"hbin");
    bin[8..12].copy_from_slice(&0x1000u32.to_le_bytes());
    bin[0x20..0x24].copy_from_slice(&(-0x60i32).to_le_bytes());
    bin[0x24..0x24 + e.len()].copy_from_slice(&e);
    bin[0x80..0x84].copy_from_slice(&(0x1000i32 - 0x80).to_le_bytes());
    hive
}

/// A FAT volume of 40 MiB with a store in a directory.
fn fat(dir: &Path, store: &[u8], dirs: &[&str]) -> Option<Vec<u8>> {
    let (image, file) = (dir.join("fat"), dir.join("BCD"));
    fs::File::create(&image).unwrap().set_len(40 << 20).unwrap();
    fs::write(&file, store).unwrap();
    let i = image.to_str().unwrap();
    if !ran("mkfs.vfat", &["-F", "16", i]) || !ran("mdir", &["-i", i]) {
        return None;
    }
    let mut at = "::".to_owned();
    for d in dirs {
        at += &format!("/{d}");
        ran("mmd", &["-i", i, &at]);
    }
    ran(
        "mcopy",
        &["-i", i, file.to_str().unwrap(), &format!("{at}/BCD")],
    );
    Some(fs::read(image).unwrap())
}

/// What a disk was started by and one partition of it, with a table of its own,
/// is not.
#[test]
fn what_will_not_boot_from_a_partition_elsewhere_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let told = |path: &Path, table, new_ids| {
        let how = Wishes {
            partition: Some(1),
            table: Some(table),
            new_ids,
            ..wishes(Frame::Device(128 << 20))
        };
        let new = replace(&opened(path), &how, None, None, &Silent).unwrap();
        let all = new.differences.iter();
        let said: Vec<String> = all.map(|d| format!("{}: {}", d.code, d.message)).collect();
        said.join("\n")
    };
    // A BIOS' disk: an active partition with the store that names it.
    let Some(v) = fat(
        dir.path(),
        &store(1, &[0x97, 0x83, 0x8c, 0x70], &(1u64 << 20).to_le_bytes()),
        &["Boot"],
    ) else {
        return;
    };
    let mut disk = vec![0; 64 << 20];
    disk[0x1b8..0x1bc].copy_from_slice(&[0x97, 0x83, 0x8c, 0x70]);
    disk[0x1be..0x1ce].copy_from_slice(&[0x80, 0, 0, 0, 0x0e, 0, 0, 0, 0, 8, 0, 0, 0, 0x40, 1, 0]);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[1 << 20..][..v.len()].copy_from_slice(&v);
    let path = archived(dir.path(), "bios", &disk);
    let loader = "boot: Windows' loader will not find partition 1: /Boot/BCD";
    let said = told(&path, TableKind::Gpt, false);
    for want in [loader, "active-lost: ", "type-changes: "] {
        assert!(said.contains(want), "{want}: {said}");
    }
    let said = told(&path, TableKind::Mbr, true);
    assert!(said.contains(loader) && !said.contains("-lost"), "{said}");
    // FAT has an identity that is not given anew.
    assert!(
        said.contains("id-stays: ") && said.contains("(FAT16)"),
        "{said}"
    );
    let said = told(&path, TableKind::Mbr, false);
    assert!(!said.contains("boot: Windows"), "{said}");

    // A disk of UEFI: an EFI system partition with name and attributes.
    let id = [[0x11u8; 16], [0x22; 16]];
    let Some(v) = fat(
        dir.path(),
        &store(0, &id[0], &id[1]),
        &["EFI", "MICROSOFT", "boot"],
    ) else {
        return;
    };
    let image = dir.path().join("efi");
    fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let guid = |n: u8| {
        format!("{n:02x}").repeat(4)
            + &format!(
                "-{0}{0}-{0}{0}-{0}{0}-{1}",
                format!("{n:02x}"),
                format!("{n:02x}").repeat(6)
            )
    };
    let (d, p) = (format!("-U={}", guid(0x11)), format!("-u=1:{}", guid(0x22)));
    let args = [
        "-n=1:1M:+40M",
        "-t=1:ef00",
        "-c=1:ESP here",
        "-A=1:set:63",
        &d,
        &p,
    ];
    if !ran("sgdisk", &[&args[..], &[image.to_str().unwrap()]].concat()) {
        return;
    }
    let mut disk = fs::read(&image).unwrap();
    disk[1 << 20..][..v.len()].copy_from_slice(&v);
    let path = archived(dir.path(), "efi", &disk);
    let loader = "boot: Windows' loader will not find partition 1: /EFI/Microsoft/Boot/BCD";
    let firmware = "boot: A boot entry of the firmware names EFI system partition 1";
    let said = told(&path, TableKind::Mbr, false);
    for want in [
        loader,
        firmware,
        "name-lost: The name of the partition (ESP here)",
        "attributes-lost: The attributes of the partition (0x8000000000000000)",
        "type-changes: ",
    ] {
        assert!(said.contains(want), "{want}: {said}");
    }
    let said = told(&path, TableKind::Gpt, true);
    assert!(said.contains(loader) && said.contains(firmware), "{said}");
    assert!(
        !said.contains("-lost") && !said.contains("type-changes"),
        "{said}"
    );
    let said = told(&path, TableKind::Gpt, false);
    assert!(!said.contains("boot: "), "{said}");
}
