//! Snapshots with a writer that never stops, on real file systems.

use super::*;
use rustix::fs::{FlockOperation, flock};

/// Where the writer writes: a gap of the disk, which the archive keeps whole.
const AT: u64 = 0x1000;

/// The eight bytes of an archive at `AT`, by restoring it.
fn counted(dir: &Path, archive: &str) -> u64 {
    let to = dir.join(format!("{archive}.img"));
    expect(dir, 0, &["restore", archive, arg(&to), "-q", "--force"]);
    let bytes = fs::read(&to).unwrap();
    let sector = &bytes[AT as usize..AT as usize + 4096];
    let n = u64::from_le_bytes(sector[..8].try_into().unwrap());
    // One write, not halves of two.
    assert!(
        n == 0 || sector[8..].iter().all(|b| *b == (n as u8 | 1)),
        "a torn write"
    );
    n
}

/// Everything that bears our kind of name in a directory.
pub fn left(dir: &Path) -> Vec<String> {
    let all = fs::read_dir(dir).unwrap().flatten();
    let names = all.map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|n| n.starts_with("ntbak-")).collect()
}

pub fn recorded(dir: &Path) -> Vec<serde_json::Value> {
    let out = expect(dir, 0, &["snapshot", "list", "--json"]);
    of(&rows(&out.stdout), "snapshot")
        .into_iter()
        .cloned()
        .collect()
}

/// A backup by snapshot while somebody writes all the time.
fn while_written(dir: &Path, image: &Path, way: &[&str]) -> serde_json::Value {
    let writer = Writer::on(image, AT, Duration::from_millis(1));
    while writer.writes() < 3 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let before = writer.writes();
    let args = [
        &[
            "image",
            arg(image),
            "a.ntbak",
            "--quiet",
            "0",
            "--json",
            "--force",
        ][..],
        way,
    ]
    .concat();
    let out = expect(dir, 0, &args);
    let after = writer.writes();
    drop(writer);
    assert!(after > before);
    let n = counted(dir, "a.ntbak");
    assert!((before..=after).contains(&n), "{before} {n} {after}");
    expect(dir, 0, &["verify", "a.ntbak"]);
    of(&rows(&out.stdout), "still")[0].clone()
}

#[test]
fn reflink_on_xfs() {
    let Some(mount) = Mount::of("xfs", &["-q", "-f", "-m", "reflink=1"]) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let image = mount.at.join("disk.img");
    disk(&image);
    for way in ["reflink", "auto"] {
        let still = while_written(dir.path(), &image, &["--snapshot", way]);
        assert_eq!(still["snapshot"]["provider"], "reflink");
        assert!(
            still["snapshot"]["label"]
                .as_str()
                .unwrap()
                .ends_with(".snapshot")
        );
        assert!(still["late_writes"].is_u64(), "{still}");
    }
    assert!(left(&mount.at).is_empty() && recorded(dir.path()).is_empty());
    // It is of one moment: equal to the kept snapshot, though the image went on.
    let writer = Writer::on(&image, AT, Duration::from_millis(1));
    let keep = [
        "image",
        arg(&image),
        "k.ntbak",
        "--snapshot",
        "reflink",
        "--quiet",
        "0",
        "--keep-snapshot",
    ];
    let said = text(&expect(dir.path(), 0, &keep).stdout);
    assert!(said.contains("Snapshot kept: "), "{said}");
    drop(writer);
    let kept = mount.at.join(&left(&mount.at)[0]);
    expect(
        dir.path(),
        0,
        &["verify", "k.ntbak", "--against", arg(&kept)],
    );
    expect(
        dir.path(),
        4,
        &["verify", "k.ntbak", "--against", arg(&image)],
    );
    let all = recorded(dir.path());
    assert_eq!((all.len(), &all[0]["state"]), (1, &"kept".into()));
    expect(
        dir.path(),
        0,
        &["snapshot", "delete", all[0]["name"].as_str().unwrap()],
    );
    assert!(left(&mount.at).is_empty() && recorded(dir.path()).is_empty());
}

/// A folder that was named relative to where the run was; the record leads to it from
/// everywhere. And a run that lives is nobody's stale snapshot.
#[test]
fn a_clone_in_a_folder_of_ones_own() {
    let Some(mount) = Mount::of("xfs", &["-q", "-f", "-m", "reflink=1"]) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    disk(&mount.at.join("disk.img"));
    fs::create_dir(mount.at.join("clones")).unwrap();
    let archive = d.join("a.ntbak");
    let args = [
        "image",
        "disk.img",
        arg(&archive),
        "--snapshot",
        "reflink",
        "--quiet",
        "0",
        "--snapshot-dir",
        "clones",
        "--keep-snapshot",
    ];
    let out = ntbak(d).current_dir(&mount.at).args(args).output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert_eq!(left(&mount.at.join("clones")).len(), 1);
    let all = recorded(d);
    expect(
        d,
        0,
        &["snapshot", "delete", all[0]["name"].as_str().unwrap()],
    );
    assert!(left(&mount.at.join("clones")).is_empty());
    fs::remove_file(&archive).unwrap();
    let missing = [&args[..8], &["none"]].concat();
    let out = ntbak(d)
        .current_dir(&mount.at)
        .args(&missing)
        .output()
        .unwrap();
    assert!(text(&out.stderr).contains("takes a folder that is there"));

    // Held by somebody: a run of another user, say. Free: left of one.
    let stray = mount.at.join("ntbak-00000000000000ff.snapshot");
    fs::write(&stray, "x").unwrap();
    let file = fs::File::open(&stray).unwrap();
    let image = mount.at.join("disk.img");
    let args = [
        "image",
        arg(&image),
        "b.ntbak",
        "--snapshot",
        "reflink",
        "--quiet",
        "0",
        "--force",
    ];
    for held in [true, false] {
        match held {
            true => flock(&file, FlockOperation::LockExclusive).unwrap(),
            false => flock(&file, FlockOperation::Unlock).unwrap(),
        }
        let said = text(&expect(d, 0, &args).stderr);
        assert_eq!(said.contains("that no record here knows"), !held, "{said}");
    }
}

/// Another file came to where the one behind a loop device was: that one is not it.
#[test]
fn the_file_behind_a_loop_device_is_the_one_that_was_attached() {
    let Some(lower) = Mount::of("xfs", &["-q", "-f", "-m", "reflink=1"]) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let image = lower.at.join("disk.img");
    disk(&image);
    let Some(lo) = Loop::over(&image) else { return };
    let args = [
        "image",
        arg(&lo.0),
        "a.ntbak",
        "--snapshot",
        "reflink",
        "--quiet",
        "0",
    ];
    expect(d, 0, &args);
    fs::remove_file(d.join("a.ntbak")).unwrap();
    fs::rename(&image, lower.at.join("away.img")).unwrap();
    // The kernel tells the new name; a mount over it makes that another file.
    let upper = d.join("upper");
    fs::create_dir(&upper).unwrap();
    disk(&upper.join("away.img"));
    let bind = Command::new("mount")
        .arg("--bind")
        .args([&upper, &lower.at])
        .status();
    assert!(bind.unwrap().success());
    let out = ntbak(d).args(args).output().unwrap();
    let unbind = Command::new("umount").arg(&lower.at).status();
    assert!(unbind.unwrap().success());
    assert_eq!(out.status.code(), Some(5), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("is not the file behind the device"));
    nothing_written(&d.join("a.ntbak"));
}

/// A device that is mounted writable: refused without a way to a snapshot, read from
/// one where there is one.
#[test]
fn a_mounted_loop_device_is_read_from_a_clone_of_its_file() {
    let Some(mount) = Mount::of("xfs", &["-q", "-f", "-m", "reflink=1"]) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let image = mount.at.join("ext4.img");
    fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
    assert!(
        Command::new("mkfs.ext4")
            .args(["-q", "-F"])
            .arg(&image)
            .status()
            .unwrap()
            .success()
    );
    let Some(lo) = Loop::over(&image) else { return };
    let at = d.join("inner");
    fs::create_dir(&at).unwrap();
    assert!(
        Command::new("mount")
            .args([&lo.0, &at])
            .status()
            .unwrap()
            .success()
    );
    struct Unmount(PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(&self.0).status();
        }
    }
    let _inner = Unmount(at.clone());
    fs::write(at.join("file"), "flushed before the snapshot").unwrap();
    let args = [
        "image",
        arg(&lo.0),
        "a.ntbak",
        "--raw",
        "--quiet",
        "300ms",
        "--json",
    ];
    let out = expect(d, 0, &args);
    let still = of(&rows(&out.stdout), "still")[0].clone();
    assert_eq!(still["snapshot"]["provider"], "reflink", "{still}");
    let refused = [&args[..], &["--force", "--snapshot", "none"]].concat();
    let out = expect(d, 5, &refused);
    assert!(text(&out.stdout).contains("mounted writable"));
    expect(d, 0, &["restore", "a.ntbak", "b.img", "-q"]);
    let bytes = fs::read(d.join("b.img")).unwrap();
    assert!(
        bytes
            .windows(27)
            .any(|w| w == b"flushed before the snapshot")
    );
    let head = rows(&expect(d, 0, &["info", "a.ntbak", "--json"]).stdout);
    let head = of(&head, "archive")[0]["head"].clone();
    assert_eq!(head["options"]["live"], false);
    assert_eq!(head["source"]["path"], arg(&lo.0));
    assert!(left(&mount.at).is_empty());
}

#[test]
fn btrfs_by_reflink_and_by_subvolume() {
    let Some(mount) = Mount::of("btrfs", &["-q"]) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let sub = mount.at.join("images");
    let made = Command::new("btrfs")
        .args(["subvolume", "create"])
        .arg(&sub)
        .output();
    assert!(made.unwrap().status.success());
    fs::create_dir(sub.join("deep")).unwrap();
    let image = sub.join("deep/disk.img");
    disk(&image);
    for way in ["reflink", "btrfs"] {
        let still = while_written(dir.path(), &image, &["--snapshot", way]);
        assert_eq!(still["snapshot"]["provider"], way);
    }
    assert!(left(&sub).is_empty() && left(&sub.join("deep")).is_empty());
    assert!(left(&mount.at).is_empty() && recorded(dir.path()).is_empty());
    let before = fs::metadata(&image).unwrap().len();
    assert!(before > 0);
    // A file system that is not Btrfs.
    let other = dir.path().join("x.img");
    disk(&other);
    let out = expect(
        dir.path(),
        5,
        &["image", "x.img", "x.ntbak", "--snapshot", "btrfs"],
    );
    assert!(
        text(&out.stderr).contains("No snapshot by btrfs"),
        "{}",
        text(&out.stderr)
    );
    nothing_written(&dir.path().join("x.ntbak"));
}

#[test]
fn deleted_on_errors_and_signals_and_named_after_a_kill() {
    let Some(mount) = Mount::of("xfs", &["-q", "-f", "-m", "reflink=1"]) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let image = mount.at.join("disk.img");
    // Bytes that do not shrink, so that the work takes its time.
    let mut x = 1u64;
    let noise: Vec<u8> = (0..12 << 20)
        .flat_map(|_| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((x >> 33) as u32 | 1).to_le_bytes()
        })
        .collect();
    fs::write(&image, &noise).unwrap();
    // An error: what is no NTFS is refused without --raw, after the snapshot.
    let way = ["--snapshot", "reflink", "--quiet", "0"];
    let out = expect(
        d,
        5,
        &[&["image", arg(&image), "a.ntbak"][..], &way].concat(),
    );
    assert!(
        text(&out.stderr).contains("not NTFS"),
        "{}",
        text(&out.stderr)
    );
    assert!(left(&mount.at).is_empty() && recorded(d).is_empty());
    let slow = [
        &[
            "image",
            arg(&image),
            "a.ntbak",
            "--raw",
            "--level",
            "19",
            "--threads",
            "1",
        ][..],
        &way,
    ]
    .concat();
    for signal in ["INT", "TERM", "HUP", "KILL"] {
        let mut child = ntbak(d)
            .args(&slow)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let partial = d.join("a.ntbak.partial");
        let begun = std::time::Instant::now();
        while fs::metadata(&partial).map_or(0, |m| m.len()) < 1 << 20 {
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "nothing is written"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(
            left(&mount.at).len(),
            1,
            "there is a snapshot while it is read"
        );
        assert_eq!(recorded(d)[0]["state"], "in-use");
        let id = child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", signal, &id])
                .status()
                .unwrap()
                .success()
        );
        let status = child.wait().unwrap();
        fs::remove_file(&partial).unwrap();
        if signal != "KILL" {
            assert_eq!(status.code(), Some(130), "{signal}");
            assert!(
                left(&mount.at).is_empty() && recorded(d).is_empty(),
                "{signal}"
            );
        }
    }
    // The next run names what the killed one left, whatever it does itself.
    let name = recorded(d)[0]["name"].as_str().unwrap().to_string();
    assert_eq!(recorded(d)[0]["state"], "left");
    disk(&d.join("other.img"));
    let out = expect(d, 0, &["image", "other.img", "o.ntbak", "--json"]);
    let rows_ = rows(&out.stdout);
    let warned: Vec<_> = of(&rows_, "warning")
        .into_iter()
        .filter(|w| w["code"] == "stale-snapshot")
        .collect();
    assert_eq!(warned.len(), 1);
    let message = warned[0]["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("`ntbak snapshot delete {name}` removes it")),
        "{message}"
    );
    // Without the record the name itself tells.
    fs::rename(d.join("state"), d.join("state.away")).unwrap();
    let raw = [
        &[
            "image",
            arg(&image),
            "b.ntbak",
            "--raw",
            "--level",
            "1",
            "--json",
        ][..],
        &way,
    ]
    .concat();
    let rows_ = rows(&expect(d, 0, &raw).stdout);
    let warned: Vec<_> = of(&rows_, "warning")
        .into_iter()
        .filter(|w| w["code"] == "stale-snapshot")
        .collect();
    assert!(
        warned[0]["message"]
            .as_str()
            .unwrap()
            .contains(&format!("{name}.snapshot")),
        "{warned:?}"
    );
    fs::remove_dir_all(d.join("state")).unwrap();
    fs::rename(d.join("state.away"), d.join("state")).unwrap();
    expect(d, 0, &["snapshot", "delete", &name]);
    assert!(left(&mount.at).is_empty() && recorded(d).is_empty());
    expect(d, 1, &["snapshot", "delete", &name]);
}

/// A strict wait does not take what slipped in; a writer that never stops makes it
/// give up, with nothing left.
#[test]
fn strict_waits_have_one_deadline() {
    let Some(mount) = Mount::of("xfs", &["-q", "-f", "-m", "reflink=1"]) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let image = mount.at.join("disk.img");
    disk(&image);
    let args = [
        "image",
        arg(&image),
        "a.ntbak",
        "--snapshot",
        "reflink",
        "--quiet-strict",
    ];
    let with =
        |quiet, timeout| [&args[..], &["--quiet", quiet, "--quiet-timeout", timeout]].concat();
    let writer = Writer::on(&image, AT, Duration::from_millis(100));
    expect(dir.path(), 6, &with("400ms", "1500ms"));
    drop(writer);
    nothing_written(&dir.path().join("a.ntbak"));
    assert!(left(&mount.at).is_empty() && recorded(dir.path()).is_empty());
    expect(dir.path(), 0, &with("400ms", "20s"));
}

/// An archive that was begun of a snapshot goes on with that, or not at all.
#[test]
fn another_moment_is_no_resumption() {
    let Some(mount) = Mount::of("xfs", &["-q", "-f", "-m", "reflink=1"]) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let image = mount.at.join("disk.img");
    disk(&image);
    let run = [
        "image",
        arg(&image),
        "a.ntbak",
        "--snapshot",
        "reflink",
        "--quiet",
        "0",
        "--keep-snapshot",
        "--verify",
    ];
    expect(d, 0, &run);
    let kept = mount.at.join(&left(&mount.at)[0]);
    // As an interrupt leaves it: without its end.
    let whole = fs::read(d.join("a.ntbak")).unwrap();
    let partial = d.join("a.ntbak.partial");
    fs::remove_file(d.join("a.ntbak")).unwrap();
    fs::write(&partial, &whole[..whole.len() / 2]).unwrap();
    let out = expect(d, 5, &["image", arg(&image), "a.ntbak", "--resume"]);
    let said = text(&out.stderr);
    assert!(said.contains("is of the snapshot ntbak-"), "{said}");
    assert!(partial.exists());
    expect(d, 0, &["image", arg(&kept), "a.ntbak", "--resume"]);
    expect(d, 0, &["verify", "a.ntbak", "--against", arg(&kept)]);
}
