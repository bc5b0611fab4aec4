//! Real block devices (loop devices over files; needs root and losetup) and a
//! regular file whose medium fails (needs nbdkit, nbdfuse and FUSE). Says that it
//! is skipped elsewhere.

mod common;

use ntbak::device::{RescueMap, Status};
use ntbak::volume::{FileStream, Tree, Volume, VolumePath, attr};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A loop device; detached when it goes.
struct Loop(String);

impl Loop {
    fn new(file: &Path, args: &[&str]) -> Option<Self> {
        let out = Command::new("losetup")
            .args(["--find", "--show"])
            .args(args)
            .arg(file)
            .output();
        match out {
            Ok(o) if o.status.success() => {
                Some(Self(String::from_utf8(o.stdout).unwrap().trim().to_owned()))
            }
            _ => {
                eprintln!("skipped: no loop device to be had here");
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// Ends the program after two minutes: a FUSE mount whose server hangs would
/// hold it for good.
fn ntbak(args: &[&str]) -> (Option<i32>, String, String) {
    let out = Command::new("timeout")
        .args(["--kill-after=5", "120", env!("CARGO_BIN_EXE_ntbak")])
        .args(args)
        .output()
        .unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

fn write(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(format!("{name}.img"));
    fs::write(&path, common::testdata(name)).unwrap();
    path
}

#[test]
fn from_device_to_device() {
    for (name, sector) in [("disk-mbr", "512"), ("disk-gpt-4kn", "4096")] {
        let dir = tempfile::tempdir().unwrap();
        let image = write(dir.path(), name);
        let before = fs::read(&image).unwrap();
        let target = dir.path().join("target");
        fs::write(&target, vec![0xEE; before.len()]).unwrap();
        let (Some(source), Some(sink)) = (
            Loop::new(&image, &["--sector-size", sector]),
            Loop::new(&target, &["--sector-size", sector]),
        ) else {
            return;
        };
        let archive = dir.path().join("a.ntbak").display().to_string();
        let (code, _, err) = ntbak(&["image", &source.0, &archive, "--verify"]);
        assert_eq!(code, Some(0), "{err}");
        assert!(
            fs::read(&image).unwrap() == before,
            "the source was changed"
        );
        // Without --yes nothing happens.
        let (code, out, err) = ntbak(&["restore", &archive, &sink.0]);
        assert_eq!(code, Some(5), "{out}{err}");
        assert!(err.contains("--yes"), "{err}");
        let (code, _, err) = ntbak(&["restore", &archive, &sink.0, "--yes", "--verify"]);
        assert_eq!(code, Some(0), "{err}");
        for device in [&source.0, &sink.0] {
            let (code, out, err) = ntbak(&["verify", &archive, "--against", device]);
            assert_eq!(code, Some(0), "{out}{err}");
        }
        drop((source, sink));
        // Tables and gaps: the beginning, up to the first partition, and the end.
        let after = fs::read(&target).unwrap();
        assert!(after[..32256] == before[..32256]);
        let end = before.len() - 512;
        assert!(after[end..] == before[end..]);
    }
}

#[test]
fn sectors_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let image = write(dir.path(), "attrlist");
    let Some(device) = Loop::new(&image, &["--read-only"]) else {
        return;
    };
    // The device keeps its length; behind the end of its file are I/O errors.
    let cut = fs::metadata(&image).unwrap().len() / 2;
    File::options()
        .write(true)
        .open(&image)
        .unwrap()
        .set_len(cut)
        .unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (archive, map) = (at("a.ntbak"), at("map"));
    let (code, out, err) = ntbak(&[
        "image",
        &device.0,
        &archive,
        "--map",
        &map,
        "--retries",
        "0",
    ]);
    assert_eq!(code, Some(3), "{out}{err}");
    assert!(
        err.contains("unreadable") || out.contains("nreadable"),
        "{out}{err}"
    );
    assert!(
        format!("{out}{err}").contains("/dir/"),
        "no file is named: {out}{err}"
    );
    if let Ok(o) = Command::new("ddrescuelog")
        .args(["--show-status", &map])
        .output()
    {
        assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
    }
    // The archive is sound, and says what it does not have.
    let (code, out, err) = ntbak(&["verify", &archive]);
    assert_eq!(code, Some(3), "{out}{err}");
    assert!(out.contains("every digest matches"), "{out}{err}");
    let (code, out, err) = ntbak(&["restore", &archive, &at("r.img")]);
    assert_eq!(code, Some(3), "{out}{err}");
}

#[test]
fn mounted_writable_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let image = write(dir.path(), "lznt1-4k");
    let Some(device) = Loop::new(&image, &[]) else {
        return;
    };
    let at = dir.path().join("m");
    fs::create_dir(&at).unwrap();
    let mounted = Command::new("ntfs-3g")
        .arg(&device.0)
        .arg(&at)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !mounted.is_ok_and(|s| s.success()) {
        eprintln!("skipped: ntfs-3g does not mount here");
        return;
    }
    let archive = dir.path().join("a.ntbak").display().to_string();
    let refused = ntbak(&["image", &device.0, &archive]);
    let live = ntbak(&["image", &device.0, &archive, "--live"]);
    let target = ntbak(&["restore", &archive, &device.0, "--yes"]);
    let info = ntbak(&["info", &archive]);
    for _ in 0..50 {
        if Command::new("umount")
            .arg(&at)
            .status()
            .is_ok_and(|s| s.success())
        {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(refused.0, Some(5), "{}", refused.2);
    assert!(
        refused.2.contains("mounted writable") && refused.2.contains("--live"),
        "{}",
        refused.2
    );
    assert_eq!(live.0, Some(0), "{}", live.2);
    assert_eq!(target.0, Some(5), "{}", target.2);
    assert!(info.1.contains("live"), "{}", info.1);
}

/// A mounted file some of whose sectors give EIO; unmounted when it goes.
struct Failing {
    server: Child,
    mount: PathBuf,
}

impl Failing {
    /// Serves `image` as `disk.img` in `mount`; `map` is a ddrescue map, what it
    /// does not call finished cannot be read.
    fn new(image: &Path, map: &Path, mount: &Path) -> Option<Self> {
        fs::create_dir(mount).unwrap();
        let server = Command::new("nbdfuse")
            .arg("--readonly")
            .arg(mount.join("disk.img"))
            .args(["--command", "nbdkit", "-s", "--exit-with-parent"])
            .args(["--filter=ddrescue", "file"])
            .arg(image)
            .arg(format!("ddrescue-mapfile={}", map.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(server) = server else {
            eprintln!("skipped: nbdfuse is not there");
            return None;
        };
        let mut out = Self {
            server,
            mount: mount.to_path_buf(),
        };
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if mount.join("disk.img").exists() {
                return Some(out);
            }
            if out.server.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        eprintln!("skipped: nbdkit or FUSE does not work here");
        None
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        for tool in ["fusermount3", "umount"] {
            let mut c = Command::new(tool);
            if tool == "fusermount3" {
                c.arg("-u");
            }
            let done = c.arg(&self.mount).stderr(Stdio::null()).status();
            if done.is_ok_and(|s| s.success()) {
                break;
            }
        }
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end && matches!(self.server.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// One bad sector of the medium costs 512 bytes of an image file on it, not a
/// page of the cache; and nothing that reads the file dies of it.
#[test]
fn bad_sectors_below_a_regular_file() {
    let dir = tempfile::tempdir().unwrap();
    let image = write(dir.path(), "cluster-16k");
    let bytes = fs::read(&image).unwrap();
    let volume = Volume::open(common::Memory::shared(bytes.clone())).unwrap();
    let path = VolumePath::parse(b"/dir/three.bin").unwrap();
    let record = Tree::new(&volume).lookup(&path).unwrap().file.record;
    let start = match volume.file(record).unwrap().stream(attr::DATA, &[]) {
        Some(FileStream::NonResident(data)) => {
            data.map.as_slice()[0].lcns().unwrap().start * (16 << 10)
        }
        _ => panic!("resident"),
    };
    let bad = [(start + 512, 512), (start + 5 * 512, 1024)];
    let (mut at, mut text) = (0, "0 + 1\n".to_owned());
    for (from, len) in bad {
        text += &format!("{at:#x} {:#x} +\n{from:#x} {len:#x} -\n", from - at);
        at = from + len;
    }
    text += &format!("{at:#x} {:#x} +\n", bytes.len() as u64 - at);
    let faults = dir.path().join("faults");
    fs::write(&faults, text).unwrap();
    let Some(disk) = Failing::new(&image, &faults, &dir.path().join("m")) else {
        return;
    };
    let file = disk.mount.join("disk.img").display().to_string();
    let out = dir.path().join("a.ntbak").display().to_string();
    let map = dir.path().join("map");
    let map_text = map.display().to_string();
    let (code, text, err) = ntbak(&["image", &file, &out, "--map", &map_text]);
    assert_eq!(code, Some(3), "{text}{err}");
    assert!(err.contains("/dir/three.bin"), "{text}{err}");
    let found = RescueMap::parse(&fs::read_to_string(&map).unwrap()).unwrap();
    let lost: Vec<_> = found
        .blocks
        .iter()
        .filter(|b| !matches!(b.status, Status::Finished | Status::NonTried))
        .map(|b| (b.range.start, b.range.len(), b.status))
        .collect();
    assert_eq!(lost, bad.map(|(from, len)| (from, len, Status::Bad)));

    // The other readers of the file say what is wrong; none is ended by it.
    for (args, want) in [
        (&["verify", &out, "--against", &file][..], 3),
        (&["cat", &file, "/dir/three.bin"], 1),
        (&["cat", &out, "/dir/three.bin"], 1),
        (&["info", &file], 0),
    ] {
        let (code, _, err) = ntbak(args);
        assert_eq!(code, Some(want), "{args:?}: {err}");
    }
    let (code, text, err) = ntbak(&["cat", &file, "/small.txt"]);
    assert_eq!((code, &*text), (Some(0), "resident"), "{err}");
}
