//! Snapshots that the target makes of its disks, as a backup uses them.

use crate::own;
use crate::rig::{Ended, Random, program};
use ntbak::iscsi::{Initiator, Options, Url};
use ntbak::scsi::snapshot::{self, Method, UnitSnapshot};
use ntbak::scsi::{Failure, Reach, Unit};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes that a test writes and reads at a time.
const PIECE: usize = 64 << 10;

/// A target of this test.
struct Served {
    child: Child,
    lines: BufReader<ChildStdout>,
    urls: Vec<String>,
}

impl Served {
    fn start(dir: &Path, units: usize, args: &[&str]) -> Self {
        let mut child = program(dir)
            .args(["target", "--listen", "127.0.0.1:0", "--json"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut served = Self {
            child,
            lines,
            urls: Vec::new(),
        };
        for _ in 0..units {
            let unit = served.row("unit");
            served.urls.push(unit["url"].as_str().unwrap().to_owned());
        }
        served
    }

    /// The next line of a type.
    fn row(&mut self, kind: &str) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "no {kind}");
            let row: Value = serde_json::from_str(&line).unwrap();
            if row["type"] == kind {
                return row;
            }
        }
    }

    fn unit(&self, number: usize) -> Unit {
        open(&self.urls[number])
    }

    /// The address of a snapshot.
    fn url(&self, s: &UnitSnapshot) -> String {
        let (base, _) = self.urls[0].rsplit_once('/').unwrap();
        format!("{base}/{}", s.number().unwrap())
    }

    /// Ends it in good order; what it said since.
    fn end(mut self) -> Vec<Value> {
        crate::rig::signal(&self.child, "TERM");
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
        rest.lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open(url: &str) -> Unit {
    let url = Url::parse(url).unwrap();
    Unit::new(Arc::new(
        Initiator::open(&url, &Options::default()).unwrap(),
    ))
}

fn read(unit: &Unit, at: u64, len: usize) -> ntbak::error::Result<Vec<u8>> {
    let mut buf = vec![0; len];
    unit.read_blocks(Reach::Long, at / 512, 512, &mut buf)?;
    Ok(buf)
}

fn write(unit: &Unit, at: u64, data: &[u8]) {
    unit.write_blocks(Reach::Long, at / 512, 512, data).unwrap();
}

/// All of a unit equals these bytes.
fn assert_holds(unit: &Unit, all: &[u8], what: &str) {
    for (i, piece) in all.chunks(1 << 20).enumerate() {
        let at = (i << 20) as u64;
        assert!(
            read(unit, at, piece.len()).unwrap() == piece,
            "{what}: {at}"
        );
    }
}

fn run(dir: &Path, args: &[&str]) -> Ended {
    let out = program(dir)
        .args(args)
        .args(["--progress", "never"])
        .output()
        .unwrap();
    Ended {
        code: out.status.code(),
        out: out.stdout,
        err: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

/// Names in a folder.
fn names(dir: &Path) -> Vec<String> {
    let all = std::fs::read_dir(dir).unwrap().flatten();
    all.map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}

fn command(args: &[&str]) -> bool {
    let mut c = Command::new(args[0]);
    c.args(&args[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    c.status().is_ok_and(|s| s.success())
}

#[test]
fn a_backup_reads_the_snapshot_while_the_disk_goes_on_being_written() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = dir.path();
    let source = own("quick");
    std::fs::copy(&source, dir.join("d.img")).unwrap();
    let was = std::fs::read(&source).unwrap();
    let disk = "d=d.img";
    let mut served = Served::start(dir, 2, &["--disk", disk, "--tape", "t=t.tap,size=64G"]);
    let unit = served.unit(0);
    let (stop, spoil) = (AtomicBool::new(false), AtomicBool::new(false));
    let (wrote, at_end) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|s| {
        s.spawn(|| {
            // Writes what is there already, until there is a snapshot; then what
            // belongs on no disk.
            let writer = served.unit(0);
            let mut random = Random(77);
            let pieces = (was.len() / PIECE) as u64;
            while !stop.load(Ordering::SeqCst) {
                let at = random.below(pieces) * PIECE as u64;
                match spoil.load(Ordering::SeqCst) {
                    true if random.below(4) == 0 => {
                        writer.write_same_zeros(at / 512, 128, 512, false).unwrap()
                    }
                    true => write(&writer, at, &vec![random.below(256) as u8; PIECE]),
                    false => write(&writer, at, &was[at as usize..][..PIECE]),
                }
                wrote.fetch_add(1, Ordering::SeqCst);
            }
        });
        while wrote.load(Ordering::SeqCst) < 50 {
            std::thread::yield_now();
        }
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let before = unit.activity().unwrap().unwrap();
            let one = snapshot::create(&unit, 0x6e74_6261_6b00_0001).unwrap();
            spoil.store(true, Ordering::SeqCst);
            assert!(unit.activity().unwrap().unwrap().writes >= before.writes);
            let begun = wrote.load(Ordering::SeqCst);
            let copy = open(&served.url(&one));
            assert_holds(&copy, &was, "before the backup");
            let url = served.url(&one);
            let tape = &served.urls[1];
            let made = run(dir, &["image", &url, tape, "--label", "A", "--json"]);
            assert_eq!(made.code, Some(0), "{}", made.said());
            assert_eq!(made.summary()["mover"], "copy-manager");
            assert_holds(&copy, &was, "after the backup");
            at_end.store(wrote.load(Ordering::SeqCst) - begun, Ordering::SeqCst);
            one
        }));
        stop.store(true, Ordering::SeqCst);
        let one = ended.unwrap_or_else(|p| std::panic::resume_unwind(p));
        assert_eq!(snapshot::list(&unit).unwrap().len(), 1);
        let found = snapshot::describe(&unit, one.id).unwrap().unwrap();
        assert_eq!((found.tag, found.lost), (one.tag, false));
        assert_eq!(found.bytes, was.len() as u64);
    });
    eprintln!("{} writes during the backup", at_end.load(Ordering::SeqCst));
    assert!(at_end.load(Ordering::SeqCst) > 0);
    assert!(std::fs::read(dir.join("d.img")).unwrap() != was);
    let against = source.display().to_string();
    let checked = run(dir, &["verify", &served.urls[1], "--against", &against]);
    assert_eq!(checked.code, Some(0), "{}", checked.said());

    let all = snapshot::list(&unit).unwrap();
    assert!(snapshot::delete(&unit, all[0].id).unwrap());
    assert!(!snapshot::delete(&unit, all[0].id).unwrap());
    assert!(snapshot::list(&unit).unwrap().is_empty());
    assert_eq!(unit.report_luns().unwrap().len(), 2);
    let told: Vec<Value> = vec![served.row("snapshot"), served.row("snapshot")];
    assert_eq!(
        (&told[0]["state"], &told[1]["state"]),
        (&"created".into(), &"deleted".into())
    );
    assert_eq!(told[0]["url"], served.url(&all[0]));
    let names = names(dir);
    assert!(
        names
            .iter()
            .all(|n| ["d.img", "t.tap", "t.tap.json", "state"].contains(&n.as_str())),
        "{names:?}"
    );
    served.end();
}

/// A target that was killed leaves nothing behind, and begins again.
#[test]
fn a_killed_target_leaves_no_file() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = dir.path();
    std::fs::create_dir(dir.join("aside")).unwrap();
    File::create(dir.join("d.img"))
        .unwrap()
        .set_len(4 << 20)
        .unwrap();
    let args = ["--disk", "d=d.img", "--snapshot-dir", "aside"];
    let served = Served::start(dir, 1, &args);
    let unit = served.unit(0);
    write(&unit, 0, &[1; PIECE]);
    let one = snapshot::create(&unit, 0).unwrap();
    write(&unit, 0, &[2; PIECE]);
    assert_eq!(
        read(&open(&served.url(&one)), 0, PIECE).unwrap(),
        [1; PIECE]
    );
    drop(served); // as kill -9 does
    assert!(names(&dir.join("aside")).is_empty());
    assert_eq!(names(dir).len(), 2, "{:?}", names(dir));
    let served = Served::start(dir, 1, &args);
    assert!(snapshot::list(&served.unit(0)).unwrap().is_empty());
    assert_eq!(read(&served.unit(0), 0, PIECE).unwrap(), [2; PIECE]);
}

/// Something mounted, or a loop device; undone when it goes.
struct Undo(&'static str, String);

impl Drop for Undo {
    fn drop(&mut self) {
        let args: &[&str] = match self.0 {
            "umount" => &["umount", &self.1],
            _ => &["losetup", "--detach", &self.1],
        };
        if !command(args) {
            eprintln!("{args:?} failed");
        }
    }
}

/// A file system of a kind, mounted.
fn mounted(dir: &Path, kind: &str) -> Option<(PathBuf, Undo)> {
    let (image, at) = (dir.join(format!("{kind}.fs")), dir.join(kind));
    std::fs::create_dir(&at).unwrap();
    let name = at.display().to_string();
    let done = match kind {
        "tmpfs" => command(&["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", &name]),
        _ => {
            File::create(&image).unwrap().set_len(512 << 20).unwrap();
            let file = image.display().to_string();
            command(&[&format!("mkfs.{kind}"), &file])
                && command(&["mount", "-o", "loop", &file, &name])
        }
    };
    if !done {
        eprintln!("skipped: {kind} cannot be made or mounted here");
        return None;
    }
    Some((at, Undo("umount", name)))
}

/// Writes, takes, writes, and compares, with several snapshots at once.
fn round(served: &Served, method: Method, what: &str) {
    let unit = served.unit(0);
    let len = 4 << 20;
    let mut all = Vec::new();
    for n in 1..=3u8 {
        let content: Vec<u8> = (0..len).map(|i| (i / 1000) as u8 ^ n).collect();
        for (i, piece) in content.chunks(1 << 20).enumerate() {
            write(&unit, (i << 20) as u64, piece);
        }
        let one = snapshot::create(&unit, n.into()).unwrap();
        assert_eq!(one.method, method, "{what}");
        all.push((one, content));
    }
    write(&unit, 512, &[0xff; PIECE]);
    for (one, content) in &all {
        assert_holds(&open(&served.url(one)), content, what);
    }
    assert!(snapshot::delete(&unit, all[1].0.id).unwrap());
    write(&unit, 1 << 20, &[0xee; PIECE]);
    for (one, content) in [&all[0], &all[2]] {
        assert_holds(&open(&served.url(one)), content, what);
    }
}

#[test]
fn file_systems_that_share_blocks_do_it_for_us() {
    for kind in ["xfs", "btrfs"] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let Some((at, _undo)) = mounted(dir.path(), kind) else {
            continue;
        };
        File::create(at.join("d.img"))
            .unwrap()
            .set_len(4 << 20)
            .unwrap();
        let served = Served::start(&at, 1, &["--disk", "d=d.img"]);
        round(&served, Method::Reflink, kind);
        drop(served);
        assert_eq!(names(&at), ["d.img"], "{kind}");
    }
}

#[test]
fn a_block_device_is_copied_on_write() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let image = dir.path().join("l.img");
    File::create(&image).unwrap().set_len(4 << 20).unwrap();
    let made = Command::new("losetup")
        .args(["--find", "--show"])
        .arg(&image)
        .output();
    let Ok(made) = made.map_err(drop).and_then(|o| match o.status.success() {
        true => Ok(String::from_utf8(o.stdout).unwrap().trim().to_owned()),
        false => Err(()),
    }) else {
        eprintln!("skipped: no loop device to be had here");
        return;
    };
    let _undo = Undo("losetup", made.clone());
    let disk = format!("d={made}");
    let served = Served::start(dir.path(), 1, &["--disk", &disk, "--snapshot-dir", "."]);
    round(&served, Method::CopyOnWrite, "loop");
}

#[test]
fn without_room_the_snapshot_is_lost_and_the_disk_goes_on() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = dir.path();
    let Some((aside, _undo)) = mounted(dir, "tmpfs") else {
        return;
    };
    let image = dir.join("d.img");
    let was = vec![3; 8 << 20];
    std::fs::write(&image, &was).unwrap();
    let folder = aside.display().to_string();
    let args = ["--disk", "d=d.img", "--snapshot-dir", &folder];
    let mut served = Served::start(dir, 1, &args);
    let unit = served.unit(0);
    let one = snapshot::create(&unit, 5).unwrap();
    if one.method == Method::Reflink {
        eprintln!("skipped: the file system of the tests shares blocks");
        return;
    }
    let copy = open(&served.url(&one));
    write(&unit, 0, &[4; PIECE]);
    assert_eq!(read(&copy, 0, PIECE).unwrap(), [3; PIECE]);
    for at in (0..8u64).map(|n| n << 20) {
        write(&unit, at, &vec![4; 1 << 20]);
    }
    let e = read(&copy, 7 << 20, PIECE).unwrap_err();
    let sense = Failure::sense_behind(&e).unwrap();
    assert_eq!((sense.key as u8, sense.code()), (4, 0x3e01), "{e}");
    assert!(snapshot::describe(&unit, one.id).unwrap().unwrap().lost);
    let warned = loop {
        let row = served.row("warning");
        if row["code"] == "snapshot-lost" {
            break row;
        }
    };
    assert!(
        warned["message"].as_str().unwrap().contains("LUN 0 d"),
        "{warned}"
    );
    let mut now = vec![0; 8 << 20];
    File::open(&image)
        .unwrap()
        .read_exact_at(&mut now, 0)
        .unwrap();
    assert!(now == vec![4; 8 << 20]);
    assert!(snapshot::delete(&unit, one.id).unwrap());
    drop(served);
}
