//! An archive of a disk is read as the disk, so that a replacement is planned
//! from either.

mod common;

use ntbak::archive::Archive;
use ntbak::device::{FileSource, OpenOptions, SharedSource, open_source};
use ntbak::disk::open_layout;
use ntbak::disk::replace::{Ids, Room, TableWish, arrange};
use ntbak::error::ErrorKind;
use ntbak::observe::Silent;
use ntbak::ops::boot;
use ntbak::ops::image::{Destination, PlanOptions, image, plan};
use ntbak::ops::whole::WholeDisk;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const MIB: u64 = 1 << 20;

fn archived(disk: &Path, to: &Path, partition: Option<u16>) -> Arc<Archive> {
    let opened = open_source(disk, OpenOptions::default()).unwrap();
    let options = PlanOptions {
        partition,
        ..PlanOptions::default()
    };
    let p = plan(opened.source, &opened.identity, &options, &Silent).unwrap();
    image(
        &p,
        Destination::File(to.to_path_buf()),
        &common::image_options(),
        &Silent,
    )
    .unwrap();
    let source: SharedSource = Arc::new(FileSource::open(to, 512).unwrap());
    Arc::new(Archive::open(source).unwrap())
}

#[test]
fn a_plan_from_the_archive_is_that_from_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = (dir.path().join("disk"), dir.path().join("volume"));
    let file = std::fs::File::create(&disk).unwrap();
    file.set_len(200 * MIB).unwrap();
    let script = "label: dos\nlabel-id: 0x708c8397\n1: start=2048, size=102400, type=7, bootable\n\
        2: start=104448, size=204800, type=5\n5: start=106496, size=131072, type=c\n";
    let child = Command::new("sfdisk")
        .args(["--quiet", "--no-reread"])
        .arg(&disk)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: sfdisk is not installed");
        return;
    };
    (child.stdin.take().unwrap())
        .write_all(script.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
    for (program, args, mib, at) in [
        ("mkntfs", &["-F", "-Q", "-q"][..], 50, MIB),
        ("mkfs.vfat", &["-F", "32", "-h", "2048"], 64, 52 * MIB),
    ] {
        let f = std::fs::File::create(&volume).unwrap();
        f.set_len(mib * MIB).unwrap();
        let out = Command::new(program).args(args).arg(&volume).output();
        if !out.is_ok_and(|o| o.status.success()) {
            eprintln!("skipped: {program}");
            return;
        }
        file.write_all_at(&std::fs::read(&volume).unwrap(), at)
            .unwrap();
    }
    let direct: SharedSource = Arc::new(FileSource::open(&disk, 512).unwrap());
    let archive = archived(&disk, &dir.path().join("all.ntbak"), None);
    let whole: SharedSource = Arc::new(WholeDisk::new(&archive).unwrap());
    assert_eq!((whole.len(), whole.sector_size()), (direct.len(), 512));
    let layout = open_layout(&*direct).unwrap();
    assert_eq!(open_layout(&*whole).unwrap(), layout);
    let rooms = [Room {
        number: 1,
        smallest: 20 * MIB,
        grow: false,
        movable: true,
    }];
    let wish = TableWish {
        sector_size: 512,
        ids: Ids::Keep,
    };
    for len in [300 * MIB, 100 * MIB] {
        let want = arrange(&layout, &*direct, &rooms, len, &wish).unwrap();
        assert_eq!(arrange(&layout, &*whole, &rooms, len, &wish).unwrap(), want);
    }
    let found = boot::look(&layout, &whole).unwrap();
    assert!(found.unseen.is_empty() && found.stores.is_empty());
    assert_eq!(found.active, [1]);
    // Across the border of a partition.
    let (mut a, mut b) = (vec![0; 1 << 16], vec![1; 1 << 16]);
    direct.read_at(MIB - 512, &mut a).unwrap();
    whole.read_at(MIB - 512, &mut b[..1024]).unwrap();
    assert_eq!(a[..1024], b[..1024]);
    assert!(whole.read_at(200 * MIB - 1, &mut b).is_err());
    // One partition alone has no table.
    let one = archived(&disk, &dir.path().join("one.ntbak"), Some(1));
    let e = WholeDisk::new(&one).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
}
