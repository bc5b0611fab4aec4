use super::*;
use crate::error::ErrorKind;
use crate::scsi::double::{Double, Reply};
use crate::scsi::{Sense, SenseKey};
use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::process::Command;

/// A sysfs with one disk, one partition of it, and a stacked device on that.
fn sysfs() -> tempfile::TempDir {
    let t = tempfile::tempdir().unwrap();
    let root = t.path();
    for (name, no) in [
        ("sda", "8:0"),
        ("sda/sda1", "8:1"),
        ("dm-0", "252:0"),
        ("dm-1", "252:1"),
    ] {
        let dir = root.join("devices").join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::create_dir_all(root.join("dev/block")).unwrap();
        symlink(&dir, root.join("dev/block").join(no)).unwrap();
        fs::write(dir.join("dev"), no).unwrap();
        stat(&dir, 10, 0);
    }
    fs::write(root.join("devices/sda/sda1/partition"), "1").unwrap();
    for (upper, lower) in [("dm-1", "dm-0"), ("dm-0", "sda/sda1")] {
        let dir = root.join("devices").join(upper).join("slaves");
        fs::create_dir_all(&dir).unwrap();
        let to = root.join("devices").join(lower);
        symlink(&to, dir.join(to.file_name().unwrap())).unwrap();
    }
    t
}

/// The seventeen numbers of a kernel of today.
fn stat(dir: &Path, writes: u64, in_flight: u64) {
    let line = format!(
        "  5 1 80 3 {writes} 4 {} 9 {in_flight} 20 30 2 0 16 1 7 1\n",
        writes * 8
    );
    fs::write(dir.join("stat"), line).unwrap();
    fs::write(
        dir.join("inflight"),
        format!("       4        {in_flight}\n"),
    )
    .unwrap();
}

#[test]
fn the_kernels_count() {
    let t = sysfs();
    let dir = t.path().join("devices/sda/sda1");
    let mut c = BlockCount::new(t.path(), (8, 1)).unwrap();
    // Ten writes and two discards; reads on their way do not count.
    assert_eq!((c.writes().unwrap(), c.in_flight().unwrap()), (12, 0));
    stat(&dir, 11, 3);
    assert_eq!((c.writes().unwrap(), c.in_flight().unwrap()), (13, 3));
    assert_eq!(c.name(), "the kernel's count of sda1");
    // A flush of the device's cache is counted as a write without data.
    let text = fs::read_to_string(dir.join("stat")).unwrap();
    fs::write(dir.join("stat"), text.replace(" 11 4 88 ", " 14 4 88 ")).unwrap();
    assert_eq!(c.writes().unwrap(), 13);
    fs::write(dir.join("stat"), text.replace(" 11 4 88 ", " 15 4 96 ")).unwrap();
    assert_eq!(c.writes().unwrap(), 14);
    // An old kernel: no discards, no file of its own for what is on its way.
    fs::write(dir.join("stat"), "5 1 80 3 9 4 72 9 2 20 30").unwrap();
    fs::remove_file(dir.join("inflight")).unwrap();
    assert_eq!((c.writes().unwrap(), c.in_flight().unwrap()), (6, 2));
    fs::write(dir.join("stat"), "5 1 x").unwrap();
    assert_eq!(c.writes().unwrap_err().kind(), ErrorKind::Damaged);
    fs::remove_file(dir.join("stat")).unwrap();
    assert_eq!(c.writes().unwrap_err().kind(), ErrorKind::NotFound);
    let e = BlockCount::new(t.path(), (9, 9)).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::NotFound);
}

#[test]
fn another_medium_is_another_device() {
    let t = sysfs();
    let disk = t.path().join("devices/sda");
    fs::write(disk.join("diskseq"), "7\n").unwrap();
    let mut both = [(8, 0), (8, 1)].map(|d| BlockCount::new(t.path(), d).unwrap());
    assert!(both.iter_mut().all(|c| c.writes().is_ok()));
    fs::write(disk.join("diskseq"), "8\n").unwrap();
    for c in &mut both {
        let e = c.writes().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound);
        assert!(e.to_string().contains("another one came"), "{e}");
    }
}

#[test]
fn writes_beside_the_partitions() {
    let t = sysfs();
    let disk = t.path().join("devices/sda");
    let part = disk.join("sda1");
    let set = |dir: &Path, requests: u64, sectors: u64| {
        let line = format!("5 1 80 3 {requests} 4 {sectors} 9 0 20 30 2 0 16 1 7 1\n");
        fs::write(dir.join("stat"), line).unwrap();
    };
    set(&disk, 30, 300);
    set(&part, 10, 100);
    let mut c = DirectCount::new(t.path(), (8, 0)).unwrap();
    assert_eq!(c.writes().unwrap(), 0);
    // Through the partition: both have it.
    set(&disk, 35, 340);
    set(&part, 15, 140);
    assert_eq!(c.writes().unwrap(), 0);
    // The partition's came in between the two looks: less than before, and back.
    set(&part, 16, 148);
    assert_eq!(c.writes().unwrap(), 0);
    set(&disk, 36, 348);
    assert_eq!(c.writes().unwrap(), 0);
    set(&disk, 38, 364);
    assert_eq!(c.writes().unwrap(), 2);
    // A flush has no data.
    set(&disk, 39, 364);
    assert_eq!(c.writes().unwrap(), 2);
    // Another table.
    fs::create_dir(disk.join("sda2")).unwrap();
    fs::write(disk.join("sda2/partition"), "2").unwrap();
    set(&disk.join("sda2"), 0, 0);
    assert_eq!(c.writes().unwrap(), 3);
}

#[test]
fn loop_devices_come_and_go() {
    let t = sysfs();
    let file = t.path().join("disk.img");
    fs::write(&file, [0; 512]).unwrap();
    let attach = |n: u32, writes: u64| {
        let dir = t.path().join(format!("devices/loop{n}"));
        fs::create_dir_all(dir.join("loop")).unwrap();
        let _ = symlink(&dir, t.path().join(format!("dev/block/7:{n}")));
        fs::write(dir.join("dev"), format!("7:{n}")).unwrap();
        fs::write(dir.join("loop/backing_file"), file.to_str().unwrap()).unwrap();
        stat(&dir, writes, 0);
        dir
    };
    let first = attach(1, 10);
    let mut c = LoopCount::new(t.path(), &file, Some((7, 0))).unwrap();
    assert_eq!(c.writes().unwrap(), 0);
    stat(&first, 12, 0);
    assert_eq!(c.writes().unwrap(), 2);
    // The one that is left out, and one that comes.
    attach(0, 5);
    assert_eq!(c.writes().unwrap(), 2);
    let second = attach(2, 500);
    stat(&second, 500, 1);
    assert_eq!((c.writes().unwrap(), c.in_flight().unwrap()), (3, 1));
    stat(&second, 501, 0);
    assert_eq!(c.writes().unwrap(), 4);
    // What it counted stays when it goes.
    fs::remove_dir_all(second.join("loop")).unwrap();
    assert_eq!(c.writes().unwrap(), 4);
    attach(2, 0);
    assert_eq!(c.writes().unwrap(), 5);
    assert!(c.name().contains("disk.img"));
    fs::remove_dir_all(second.join("loop")).unwrap();
    fs::remove_dir_all(first.join("loop")).unwrap();
    assert_eq!((c.writes().unwrap(), c.name()), (5, String::new()));
}

#[test]
fn a_kernel_that_does_not_count_is_no_quiet_device() {
    let t = sysfs();
    fs::create_dir(t.path().join("devices/sda/queue")).unwrap();
    fs::write(t.path().join("devices/sda/queue/iostats"), "0\n").unwrap();
    for dev in [(8, 0), (8, 1)] {
        let e = BlockCount::new(t.path(), dev).err().unwrap();
        assert!(e.to_string().contains("iostats"), "{e}");
    }
}

#[test]
fn members_below_a_stacked_device_count() {
    let t = sysfs();
    let stack = Stack::new(t.path());
    let below = members_below(&stack, (252, 1));
    assert_eq!(below, BTreeSet::from([(252, 0), (8, 1)]));
    assert!(members_below(&stack, (8, 0)).is_empty());
    let mut c = Counters::of_device(
        t.path(),
        &stack,
        (252, 1),
        Path::new("none"),
        Caches::none(),
    )
    .unwrap();
    let before = c.sample().unwrap();
    assert_eq!((before.own.len(), before.members.len()), (1, 2));
    // A resync writes below only.
    stat(&t.path().join("devices/sda/sda1"), 15, 1);
    let now = c.sample().unwrap();
    assert_eq!(
        (now.own_since(&before), now.since(&before), now.in_flight),
        (0, 5, 1)
    );
    assert_eq!(c.name(), "the kernel's count of dm-1, 2 members below");
}

#[test]
fn changes_to_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.img");
    fs::write(&path, [0; 8192]).unwrap();
    let mut c = FileCount::new(&path).unwrap();
    assert_eq!(c.writes().unwrap(), 0);
    fs::read(&path).unwrap();
    assert_eq!(c.writes().unwrap(), 0, "reading is no change");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"x", 4096).unwrap();
    let one = c.writes().unwrap();
    assert!(one >= 1);
    assert_eq!(c.writes().unwrap(), one);
    // Without inotify the times tell.
    c.events = None;
    file.write_all_at(b"y", 4096).unwrap();
    file.set_len(9000).unwrap();
    let two = c.writes().unwrap();
    assert_eq!(two, one + 1);
    fs::rename(&path, dir.path().join("b.img")).unwrap();
    assert_eq!(c.writes().unwrap_err().kind(), ErrorKind::NotFound);
    fs::write(&path, [0; 9000]).unwrap();
    assert_eq!(c.writes().unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_units_own_count_or_a_sentence() {
    let cdb = [0x4d, 0, 0x59, 0, 0, 0, 0, 0x40, 0, 0];
    let page = |writes: u64| {
        let mut page = vec![0x19, 0, 0, 68, 0, 1, 3, 64];
        for n in [4, writes, 9, 9, 0, 0, 0, 0] {
            page.extend(n.to_be_bytes());
        }
        Reply::data(page)
    };
    let inquiry = |product: &str| {
        let mut inq = vec![0x00, 0x00, 6, 2, 31, 0x08, 0, 0];
        inq.extend(format!("NTBAK   {product:<16}0001").bytes());
        Reply::data(inq)
    };
    let ask = [0x12, 0, 0, 0, 96, 0];
    let double = Double::new("u");
    let no = || Reply::check(Sense::invalid_field_in_cdb(2, None));
    for p in [0x80, 0x83] {
        double.always(&[0x12, 1, p, 0x10, 0, 0], no());
    }
    double.expect(&cdb, page(7));
    double.expect(&ask, inquiry("DISK"));
    for n in [8, 3] {
        double.expect(&cdb, page(n));
    }
    // Reached anew: what happened meanwhile was not seen, so it counts as a write.
    let reset = || Reply::check(Sense::new(SenseKey::UnitAttention, 0x29, 0));
    double.expect(&cdb, reset());
    double.expect(&cdb, page(3));
    double.expect(&ask, inquiry("DISK"));
    double.expect(&cdb, page(3));
    // Another unit answers.
    double.expect(&cdb, reset());
    double.expect(&cdb, page(3));
    double.expect(&ask, inquiry("OTHER DISK"));
    let mut c = Counters::of_unit(Unit::new(double)).unwrap();
    let four = [(); 4].map(|()| c.sample().unwrap().own);
    assert_eq!(four, [[8], [3], [4], [4]]);
    let e = c.sample().unwrap_err();
    assert!(e.to_string().contains("Another unit answers"), "{e}");
    let double = Double::new("u");
    let no = Sense::new(SenseKey::IllegalRequest, 0x24, 0);
    double.expect(&cdb, Reply::check(no));
    let e = Counters::of_unit(Unit::new(double)).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("19h"), "{e}");
}

struct Loop(String);

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

/// A real loop device: writes through it are seen on it and on its file, those
/// that wait in the cache are seen after a flush.
#[test]
fn a_real_loop_device_and_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.img");
    fs::File::create(&path).unwrap().set_len(4 << 20).unwrap();
    let made = Command::new("losetup")
        .args(["--find", "--show"])
        .arg(&path)
        .output();
    let Some(out) = made.ok().filter(|o| o.status.success()) else {
        eprintln!("skipped: no loop device to be had (needs root)");
        return;
    };
    let dev = Loop(String::from_utf8(out.stdout).unwrap().trim().into());
    let mut both = [
        Counters::of_path(Path::new(&dev.0)).unwrap(),
        Counters::of_path(&path).unwrap(),
    ];
    let mut before: Vec<Sample> = Vec::new();
    for c in &mut both {
        c.flush().unwrap();
        before.push(c.sample().unwrap());
    }
    for (c, b) in both.iter_mut().zip(&before) {
        assert_eq!(c.sample().unwrap().since(b), 0);
    }
    // Into the cache of the device only.
    let writer = fs::OpenOptions::new().write(true).open(&dev.0).unwrap();
    writer.write_all_at(&[7; 4096], 1 << 20).unwrap();
    for (c, b) in both.iter_mut().zip(&before) {
        c.flush().unwrap();
        assert!(c.sample().unwrap().own_since(b) > 0, "{}", c.name());
    }
}
