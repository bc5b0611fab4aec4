use super::*;
use crate::error::ErrorKind;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

/// A made-up `/sys`: devices by folder and numbers.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new(devices: &[(&str, &str)]) -> Self {
        let t = tempfile::tempdir().unwrap();
        fs::create_dir_all(t.path().join("dev/block")).unwrap();
        for (path, no) in devices {
            let dir = t.path().join("devices").join(path);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("dev"), format!("{no}\n")).unwrap();
            symlink(
                format!("../../devices/{path}"),
                t.path().join("dev/block").join(no),
            )
            .unwrap();
            if let Some((_, part)) = path.split_once('/') {
                let digits: String = part.chars().filter(char::is_ascii_digit).collect();
                fs::write(dir.join("partition"), digits).unwrap();
            }
        }
        Tree(t)
    }

    /// `upper` is built on `lower`.
    fn stacked(self, upper: &str, lower: &str) -> Self {
        for (at, kind, to) in [(lower, "holders", upper), (upper, "slaves", lower)] {
            let dir = self.0.path().join("devices").join(at).join(kind);
            fs::create_dir_all(&dir).unwrap();
            let name = to.rsplit('/').next().unwrap();
            symlink(self.0.path().join("devices").join(to), dir.join(name)).unwrap();
        }
        self
    }

    fn backed(self, device: &str, file: &str) -> Self {
        let dir = self.0.path().join("devices").join(device).join("loop");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("backing_file"), format!("{file}\n")).unwrap();
        self
    }

    fn window(self, device: &str, offset: u64, limit: u64) -> Self {
        let dir = self.0.path().join("devices").join(device).join("loop");
        fs::write(dir.join("offset"), format!("{offset}\n")).unwrap();
        fs::write(dir.join("sizelimit"), format!("{limit}\n")).unwrap();
        self
    }

    fn system(&self, mounts: &str, swaps: &str, paths: &[(&str, StorageId)]) -> System {
        let paths: HashMap<PathBuf, StorageId> =
            paths.iter().map(|(p, i)| (PathBuf::from(p), *i)).collect();
        System::from_parts(
            self.0.path(),
            mounts,
            &format!("Filename Type\n{swaps}"),
            Box::new(move |p| paths.get(p).copied()),
        )
    }
}

const fn block(major: u32, minor: u32) -> StorageId {
    StorageId::Block((major, minor))
}

const fn file(on: DevNo, inode: u64) -> StorageId {
    StorageId::File { on, inode }
}

fn line(no: &str, at: &str, fs: &str, source: &str, how: &str) -> String {
    format!("1 2 {no} / {at} rw - {fs} {source} {how}\n")
}

/// Two disks: sda with three partitions, the third under dm-0 (an encrypted
/// volume) under dm-1 (a logical volume); loop0 on a file on sda1; sdb.
fn machine() -> Tree {
    Tree::new(&[
        ("sda", "8:0"),
        ("sda/sda1", "8:1"),
        ("sda/sda2", "8:2"),
        ("sda/sda3", "8:3"),
        ("sdb", "8:16"),
        ("sdb/sdb1", "8:17"),
        ("dm-0", "252:0"),
        ("dm-1", "252:1"),
        ("loop0", "7:0"),
        ("loop0/loop0p1", "259:0"),
        ("loop1", "7:1"),
    ])
    .stacked("dm-0", "sda/sda3")
    .stacked("dm-1", "dm-0")
    .backed("loop0", "/data/disk.img")
}

const PATHS: &[(&str, StorageId)] = &[
    ("/dev/sda", block(8, 0)),
    ("/dev/sda1", block(8, 1)),
    ("/dev/sda2", block(8, 2)),
    ("/dev/sda3", block(8, 3)),
    ("/dev/sdb", block(8, 16)),
    ("/dev/sdb1", block(8, 17)),
    ("/dev/mapper/lv", block(252, 1)),
    ("/dev/loop0", block(7, 0)),
    ("/dev/loop0p1", block(259, 0)),
    ("/dev/loop1", block(7, 1)),
    ("/data", file((8, 1), 2)),
    ("/data/disk.img", file((8, 1), 77)),
    ("/data/other.img", file((8, 1), 78)),
    ("/swapfile", file((8, 1), 79)),
    ("/btr", file((0, 44), 256)),
    ("/btr/x.img", file((0, 44), 300)),
];

fn uses(mounts: &str, swaps: &str, path: &str) -> Vec<String> {
    let t = machine();
    let s = t.system(mounts, swaps, PATHS);
    let id = s.storage(Path::new(path)).unwrap();
    s.usage(id).iter().map(ToString::to_string).collect()
}

#[test]
fn a_mounted_partition_is_seen_from_itself_and_its_disk_only() {
    let m = line("8:1", "/data", "ext4", "/dev/sda1", "rw");
    let want = "/dev/sda1 is mounted writable at /data";
    assert_eq!(uses(&m, "", "/dev/sda1"), [want]);
    assert_eq!(uses(&m, "", "/dev/sda")[0], want);
    assert!(uses(&m, "", "/dev/sda2").is_empty());
    assert!(uses(&m, "", "/dev/sdb").is_empty());
}

#[test]
fn stacked_devices_count() {
    let m = line("252:1", "/home", "ext4", "/dev/mapper/lv", "ro");
    let want = "/dev/mapper/lv is mounted read-only at /home";
    for path in ["/dev/sda", "/dev/sda3", "/dev/mapper/lv"] {
        assert_eq!(uses(&m, "", path)[0], want, "{path}");
    }
    assert!(uses("", "", "/dev/sda3").contains(&"dm-1 is built on it".to_owned()));
    assert!(uses(&m, "", "/dev/sda1").is_empty());
}

#[test]
fn an_image_under_a_loop_device_counts() {
    let m = line("259:0", "/mnt", "ntfs3", "/dev/loop0p1", "rw");
    for path in ["/data/disk.img", "/dev/loop0", "/dev/loop0p1"] {
        assert_eq!(
            uses(&m, "", path),
            ["/dev/loop0p1 is mounted writable at /mnt"],
            "{path}"
        );
    }
    assert!(uses(&m, "", "/data/other.img").is_empty());
    // Mounted through FUSE without any device: the table names the image.
    let m = line("0:50", "/mnt", "fuse", "/data/other.img", "rw");
    assert_eq!(uses(&m, "", "/data/other.img").len(), 1);
}

#[test]
fn others_over_the_same_file_or_device_count() {
    let t = machine()
        .backed("loop1", "/data/disk.img")
        .window("loop1", 1 << 20, 1 << 20);
    let check = |m: &str, path: &str, n: usize| {
        let s = t.system(m, "", PATHS);
        let id = s.storage(Path::new(path)).unwrap();
        assert_eq!(s.usage(id).len(), n, "{path}: {:?}", s.usage(id));
        assert_eq!(s.check_source(Path::new(path), false).is_err(), n > 0);
        assert_eq!(s.check_target(Path::new(path)).is_err(), n > 0);
    };
    // The file itself, mounted through FUSE.
    let m = line("0:50", "/mnt", "fuse", "/data/disk.img", "rw");
    for path in ["/dev/loop0", "/dev/loop0p1", "/dev/loop1", "/data/disk.img"] {
        check(&m, path, 1);
    }
    // Another loop device on a part of it.
    let m = line("7:1", "/mnt", "ntfs3", "/dev/loop1", "rw");
    for path in ["/dev/loop0", "/dev/loop1", "/data/disk.img"] {
        check(&m, path, 1);
    }
    // The disk that holds the file, or another file on it, is no user of it.
    let m = line("8:1", "/data", "ext4", "/dev/sda1", "rw");
    check(&m, "/dev/loop0", 0);
    let m = line("0:50", "/mnt", "fuse", "/data/other.img", "rw");
    check(&m, "/dev/loop0", 0);
    // Two parts that do not meet are two volumes.
    let t = machine()
        .backed("loop0", "/data/other.img")
        .backed("loop1", "/data/other.img")
        .window("loop0", 0, 1 << 20)
        .window("loop1", 1 << 20, 0);
    let s = t.system(&line("7:1", "/mnt", "ntfs3", "/dev/loop1", "rw"), "", PATHS);
    assert!(s.usage(block(7, 0)).is_empty());
    assert_eq!(s.usage(block(7, 1)).len(), 1);
    // A loop device over a device that is mounted.
    let t = machine().backed("loop1", "/dev/sda1");
    let s = t.system(&line("8:1", "/data", "ext4", "/dev/sda1", "rw"), "", PATHS);
    assert_eq!(s.usage(block(7, 1)).len(), 1);
    let s = t.system(&line("7:1", "/mnt", "ext4", "/dev/loop1", "rw"), "", PATHS);
    assert!(s.check_source(Path::new("/dev/sda1"), false).is_err());
    assert!(s.check_source(Path::new("/dev/sda2"), false).is_ok());
}

#[test]
fn swap_counts_as_writing() {
    assert_eq!(
        uses("", "/dev/sda2 partition 1 0 -2\n", "/dev/sda")[0],
        "/dev/sda2 is in use as swap"
    );
    assert_eq!(uses("", "/swapfile file 1 0 -2\n", "/swapfile").len(), 1);
    assert!(uses("", "/dev/sda2 partition 1 0 -2\n", "/dev/sdb").is_empty());
}

#[test]
fn a_file_system_over_several_devices_counts_on_each() {
    let t = machine();
    let group = t.0.path().join("fs/btrfs/uuid/devices");
    fs::create_dir_all(&group).unwrap();
    for d in ["sda/sda2", "sdb/sdb1"] {
        let name = d.rsplit('/').next().unwrap();
        symlink(t.0.path().join("devices").join(d), group.join(name)).unwrap();
    }
    let m = line("0:44", "/btr", "btrfs", "/dev/sda2", "rw");
    let s = t.system(&m, "", PATHS);
    for d in [(8, 2), (8, 17), (8, 16)] {
        assert_eq!(s.usage(StorageId::Block(d)).len(), 1, "{d:?}");
    }
    assert!(s.usage(block(8, 1)).is_empty());
    // A file there lies on the device although its numbers do not say so.
    assert!(s.same_storage(Path::new("/btr/x.img"), Path::new("/dev/sda2")));
    assert!(!s.same_storage(Path::new("/btr/x.img"), Path::new("/dev/sda1")));
}

#[test]
fn a_writable_source_is_refused_unless_live() {
    let rw = line("8:1", "/data", "ext4", "/dev/sda1", "rw");
    let ro = line("8:1", "/data", "ext4", "/dev/sda1", "ro");
    let path = Path::new("/dev/sda1");
    let t = machine();
    let s = t.system(&rw, "", PATHS);
    let e = s.check_source(path, false).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Refused);
    assert!(e.to_string().contains("mounted writable at /data"), "{e}");
    assert_eq!(s.check_source(path, true).unwrap().len(), 1);
    assert!(s.check_target(path).is_err());
    let t = machine();
    let s = t.system(&ro, "", PATHS);
    assert_eq!(s.check_source(path, false).unwrap().len(), 1);
    assert!(s.check_target(path).is_err(), "a target must be free");
    assert!(s.check_target(Path::new("/dev/sdb")).is_ok());
    assert!(s.check_target(Path::new("/dev/sda3")).is_err(), "held");
    assert!(s.check_source(Path::new("/dev/sda3"), false).is_ok());
}

#[test]
fn the_same_storage_by_any_name() {
    let t = machine();
    let s = t.system("", "", PATHS);
    let same = |a: &str, b: &str| {
        let r = s.same_storage(Path::new(a), Path::new(b));
        assert_eq!(r, s.same_storage(Path::new(b), Path::new(a)), "{a} {b}");
        r
    };
    for (a, b) in [
        ("/dev/sda", "/dev/sda"),
        ("/dev/sda", "/dev/sda2"),
        ("/dev/mapper/lv", "/dev/sda3"),
        ("/dev/mapper/lv", "/dev/sda"),
        ("/dev/loop0p1", "/data/disk.img"),
        ("/dev/loop0p1", "/dev/sda1"),
        ("/data/disk.img", "/dev/sda"),
        ("/data/new.ntbak", "/dev/sda1"),
        ("/data/disk.img", "/data/disk.img"),
    ] {
        assert!(same(a, b), "{a} and {b}");
    }
    for (a, b) in [
        ("/dev/sda1", "/dev/sda2"),
        ("/dev/sda", "/dev/sdb"),
        ("/dev/mapper/lv", "/dev/sda1"),
        ("/data/disk.img", "/data/other.img"),
        ("/data/new.ntbak", "/data/other.img"),
        ("/data/new.ntbak", "/data/new2.ntbak"),
        ("/data/new.ntbak", "/dev/sda2"),
        ("/dev/loop0", "/data/other.img"),
    ] {
        assert!(!same(a, b), "{a} and {b}");
    }
    let e = s
        .check_distinct(Path::new("/dev/sda"), Path::new("/data/new.ntbak"))
        .unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Refused);
}

#[test]
fn a_circle_in_sysfs_ends() {
    let t = Tree::new(&[("dm-0", "252:0"), ("dm-1", "252:1")])
        .stacked("dm-0", "dm-1")
        .stacked("dm-1", "dm-0");
    let s = t.system("", "", &[]);
    assert_eq!(s.usage(block(252, 0)).len(), 1);
}

/// A loop device of its own, given back at the end.
struct Loop(String);

impl Loop {
    fn over(image: &Path, read_only: bool) -> Option<Self> {
        let mut c = Command::new("losetup");
        c.args(["--find", "--show"]);
        if read_only {
            c.arg("--read-only");
        }
        let out = c.arg(image).output().ok()?;
        if !out.status.success() {
            eprintln!("skipped: no loop device to be had (needs root)");
            return None;
        }
        Some(Loop(String::from_utf8(out.stdout).ok()?.trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn real_devices_and_mounts() {
    use crate::device::{BlockSink, BlockSource, OpenOptions, Sink, Source, open_source};
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("disk.img");
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let Some(dev) = Loop::over(&image, false) else {
        return;
    };
    let path = Path::new(&dev.0);

    // As a target: exclusive, zeroed and written.
    let sink = BlockSink::open(path).unwrap();
    assert!(!sink.is_fresh() && sink.len() == 16 << 20 && sink.sector_size() == 512);
    assert_eq!(
        BlockSink::open(path).err().unwrap().kind(),
        ErrorKind::Refused
    );
    sink.write_at(0, &vec![0xab; 1 << 20]).unwrap();
    sink.zero_at(1000, 500_000).unwrap();
    sink.zero_at(700_000, 10).unwrap();
    sink.sync().unwrap();
    let mut back = vec![1; 1 << 20];
    sink.read_at(0, &mut back).unwrap();
    for (i, b) in back.iter().enumerate() {
        let zero = (1000..501_000).contains(&i) || (700_000..700_010).contains(&i);
        assert_eq!(*b, if zero { 0 } else { 0xab }, "byte {i}");
    }
    drop(sink);

    // As a source.
    let s = BlockSource::open(path).unwrap();
    assert_eq!((s.len(), s.sector_size()), (16 << 20, 512));
    let mut buf = [0; 700];
    s.read_at(999, &mut buf).unwrap();
    assert_eq!((buf[0], buf[1]), (0xab, 0));
    assert!(s.read_at((16 << 20) - 1, &mut buf).is_err());
    let o = open_source(path, OpenOptions::default()).unwrap();
    assert_eq!(o.identity.kind, crate::device::SourceKind::Disk);
    assert_eq!(o.identity.device, Some(s.device()));
    let system = System::read().unwrap();
    assert!(system.same_storage(path, &image));
    assert!(!system.same_storage(path, &dir.path().join("other")));

    // Mounted, then read-only.
    let made = Command::new("mkfs.ext4").args(["-q", &dev.0]).status();
    if !made.is_ok_and(|s| s.success()) {
        eprintln!("skipped: mounting (no mkfs.ext4)");
        return;
    }
    let at = dir.path().join("mnt");
    fs::create_dir(&at).unwrap();
    for (how, refused) in [("rw", true), ("ro", false)] {
        let ok = Command::new("mount")
            .args(["-o", how, &dev.0])
            .arg(&at)
            .status();
        if !ok.is_ok_and(|s| s.success()) {
            eprintln!("skipped: mounting (not permitted)");
            return;
        }
        let mounted = Mounted(at.clone());
        let other = Loop::over(&image, false);
        let other = other.as_ref().map(|l| Path::new(&*l.0));
        for p in [path, &image].into_iter().chain(other) {
            let r = open_source(p, OpenOptions::default());
            assert_eq!(r.is_err(), refused, "{how} {}", p.display());
            if let Err(e) = r {
                assert_eq!(e.kind(), ErrorKind::Refused);
            }
            let live = OpenOptions {
                live: true,
                ..OpenOptions::default()
            };
            assert_eq!(open_source(p, live).unwrap().usage.len(), 1);
            let e = System::read().unwrap().check_target(p).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Refused);
        }
        assert!(BlockSink::open(path).is_err());
        let inside = at.join("archive.ntbak");
        assert!(System::read().unwrap().same_storage(path, &inside));
        assert!(System::read().unwrap().same_storage(&image, &inside));
        drop(mounted);
    }
}
