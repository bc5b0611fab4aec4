//! Real block devices: loop devices over files. Needs root and losetup; says that
//! it is skipped elsewhere.

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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

fn ntbak(args: &[&str]) -> (Option<i32>, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_ntbak"))
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
