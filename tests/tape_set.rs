//! Backups on tape as a user meets them, against `ntbak target`: sets that span
//! cartridges, changed by a changer, and data that nobody has seen being read back.

mod common;

use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// A running target.
struct Target {
    child: Child,
    url: String,
}

impl Target {
    /// Serves these units on a free port.
    fn start(dir: &Path, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ntbak"))
            .current_dir(dir)
            .args(["target", "--listen", "127.0.0.1:0", "--json"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        lines.read_line(&mut line).unwrap();
        let row: Value = serde_json::from_str(&line).unwrap();
        let url = row["url"].as_str().unwrap();
        let url = url.rsplit_once('/').unwrap().0.to_string();
        // It goes on telling; nobody has to listen.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self { child, url }
    }

    fn unit(&self, lun: u32) -> String {
        format!("{}/{lun}", self.url)
    }

    /// Ends it as a service manager would.
    fn end(mut self) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", "TERM", &id]).status();
        assert!(sent.unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the program and expects an exit code.
fn ntbak(dir: &Path, code: i32, args: &[&str]) -> Output {
    let out = Command::new("timeout")
        .args(["120", env!("CARGO_BIN_EXE_ntbak")])
        .current_dir(dir)
        .env("XDG_STATE_HOME", dir.join("state"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(
        out.status.code(),
        Some(code),
        "{args:?}\nstdout: {}\nstderr: {}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    out
}

/// The rows of one type.
fn rows(out: &Output, kind: &str) -> Vec<Value> {
    std::str::from_utf8(&out.stdout)
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .filter(|r: &Value| r["type"] == kind)
        .collect()
}

fn summary(out: &Output) -> Value {
    rows(out, "summary").remove(0)
}

/// Warnings with this code.
fn warned(out: &Output, code: &str) -> usize {
    let all = rows(out, "warning");
    all.iter().filter(|w| w["code"] == code).count()
}

/// Bytes that do not compress.
fn noise(path: &Path, bytes: usize) {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut data = Vec::with_capacity(bytes);
    while data.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend(state.to_le_bytes());
    }
    File::create(path).unwrap().write_all(&data).unwrap();
}

fn empty(path: &Path, bytes: u64) {
    File::create(path).and_then(|f| f.set_len(bytes)).unwrap();
}

/// Units of the library: source, replacement, an empty drive, the changer.
const LIBRARY: [&str; 8] = [
    "--disk",
    "src=src.img,ro",
    "--disk",
    "new=new.img",
    "--tape",
    "t0",
    "--changer",
    "ch=shelf,slots=5,size=5M",
];

/// A set of three cartridges, written and restored with nobody there.
fn spans(mover: &str) {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    noise(&d.join("src.img"), 11 << 20);
    empty(&d.join("new.img"), 11 << 20);
    fs::create_dir(d.join("shelf")).unwrap();
    let mut args = LIBRARY.to_vec();
    args.extend(["--profile", "tiny"]);
    let t = Target::start(d, &args);
    let (src, new, tape, changer) = (t.unit(0), t.unit(1), t.unit(2), t.unit(3));
    let library = ["--changer", &changer, "--json", "--progress", "never"];
    let with = |front: &[&'static str], places: &[&str]| {
        let mut all: Vec<String> = front.iter().map(|s| s.to_string()).collect();
        all.extend(places.iter().chain(&library).map(|s| s.to_string()));
        all
    };
    let run = |code, args: Vec<String>| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        ntbak(d, code, &args)
    };
    // The first slot is occupied: its cartridge is not touched.
    let held = with(&["image", "--raw", "--mover", "host"], &[&src, &tape]);
    let out = run(5, held);
    assert!(
        String::from_utf8_lossy(&out.stdout).contains("no label"),
        "the first cartridge needs a name"
    );
    let out = run(
        0,
        with(
            &[
                "image", "--raw", "--label", "S1", "--block", "32K", "--mover",
            ],
            &[mover, &src, &tape],
        ),
    );
    let done = summary(&out);
    assert_eq!(done["mover"], mover);
    let parts = done["cartridges"].as_array().unwrap();
    assert_eq!(parts.len(), 3, "{parts:?}");
    // A fresh program finds all of it, with and without what is remembered.
    for inventory in ["state/ntbak", "elsewhere"] {
        let out = run(0, with(&["info", "--inventory", inventory], &[&tape]));
        let never = usize::from(mover == "copy-manager");
        assert_eq!(warned(&out, "never-checked"), never);
        empty(&d.join("new.img"), 11 << 20);
        let wiped = run(
            0,
            with(
                &["restore", "--yes", "--inventory", inventory, "--mover"],
                &[mover, &tape, &new],
            ),
        );
        assert!(
            rows(&wiped, "summary")[0]["lost"]
                .as_array()
                .is_none_or(Vec::is_empty)
        );
        assert!(fs::read(d.join("src.img")).unwrap() == fs::read(d.join("new.img")).unwrap());
    }
    // A second set takes the blank cartridges, and then there is none: those of
    // the first set are not touched.
    let first = done["id"].as_str().unwrap();
    ntbak(d, 0, &["tape", "eject", &tape]);
    let second = [
        "image", "--raw", "--label", "S2", "--block", "32K", "--mover",
    ];
    let out = run(1, with(&second, &[mover, &src, &tape]));
    let error = &rows(&out, "error")[0]["message"];
    let words = "The library lacks a blank cartridge, to be number 3";
    assert!(error.as_str().unwrap().starts_with(words), "{error}");
    empty(&d.join("new.img"), 11 << 20);
    let out = run(
        0,
        with(
            &["restore", "--yes", "--mover"],
            &[mover, "--set", first, &tape, &new],
        ),
    );
    assert!(rows(&out, "plan")[0]["id"] == first);
    assert!(fs::read(d.join("src.img")).unwrap() == fs::read(d.join("new.img")).unwrap());
    t.end();
}

#[test]
fn a_set_spans_cartridges_by_the_copy_manager() {
    spans("copy-manager");
}

#[test]
fn a_set_spans_cartridges_by_the_host() {
    spans("host");
}

/// A library that has too few cartridges; later it has more.
fn runs_out(mover: &str) {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    noise(&d.join("src.img"), 11 << 20);
    empty(&d.join("new.img"), 11 << 20);
    fs::create_dir(d.join("shelf")).unwrap();
    let serve = |slots: u32| {
        let mut args: Vec<String> = LIBRARY.iter().map(|s| s.to_string()).collect();
        args.extend(["--profile", "tiny"].map(String::from));
        args[7] = format!("ch=shelf,slots={slots},size=5M");
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Target::start(d, &args)
    };
    let image = |t: &Target, code, more: &[&str]| {
        let front = ["image", "--raw", "--json", "--mover", mover];
        let places = [&*t.unit(0), &t.unit(2), "--changer", &t.unit(3)];
        ntbak(d, code, &[&front[..], more, &places].concat())
    };
    let known = || rows(&ntbak(d, 0, &["tape", "inventory", "--json"]), "set");
    let t = serve(2);
    let out = image(&t, 1, &["--label", "S1", "--block", "32K"]);
    let error = &rows(&out, "error")[0];
    let words = "The library lacks a blank cartridge, to be number 3";
    assert!(error["message"].as_str().unwrap().starts_with(words));
    assert!(error["hint"].as_str().unwrap().contains("--resume"));
    let sets = known();
    assert_eq!(sets.len(), 1);
    assert_eq!(sets[0]["complete"], false, "{:?}", sets[0]);
    // Still none: nothing that is there gets lost, and it stays unfinished.
    let out = image(&t, 1, &["--resume"]);
    let error = &rows(&out, "error")[0]["message"];
    assert!(error.as_str().unwrap().starts_with(words), "{error}");
    t.end();
    // The drive is empty, and nobody says which set it is.
    let t = serve(3);
    let out = image(&t, 0, &["--resume"]);
    let done = summary(&out);
    assert_eq!(done["cartridges"].as_array().unwrap().len(), 3);
    assert_eq!(done["mover"], mover);
    assert!(done["resumed_bytes"].as_u64().unwrap() > 5 << 20);
    let sets = known();
    assert_eq!((sets.len(), &sets[0]["complete"]), (1, &true.into()));
    assert_eq!(sets[0]["set"], done["id"]);
    for inventory in ["state/ntbak", "elsewhere"] {
        empty(&d.join("new.img"), 11 << 20);
        let front = [
            "restore",
            "--yes",
            "--mover",
            mover,
            "--inventory",
            inventory,
        ];
        let places = [&*t.unit(2), &t.unit(1), "--changer", &t.unit(3)];
        ntbak(d, 0, &[&front[..], &places].concat());
        assert!(fs::read(d.join("src.img")).unwrap() == fs::read(d.join("new.img")).unwrap());
    }
    t.end();
}

#[test]
fn a_set_that_ran_out_of_cartridges_is_gone_on_with_by_the_copy_manager() {
    runs_out("copy-manager");
}

#[test]
fn a_set_that_ran_out_of_cartridges_is_gone_on_with_by_the_host() {
    runs_out("host");
}

#[test]
fn a_wrong_cartridge_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    noise(&d.join("src.img"), 6 << 20);
    empty(&d.join("new.img"), 6 << 20);
    fs::create_dir(d.join("shelf")).unwrap();
    let mut args = LIBRARY.to_vec();
    args.extend(["--profile", "tiny"]);
    let t = Target::start(d, &args);
    let (src, new, tape, changer) = (t.unit(0), t.unit(1), t.unit(2), t.unit(3));
    let image = |label: &str| {
        let front = [
            "image", "--raw", "--json", "--block", "32K", "--label", label,
        ];
        let end = [&*src, &tape, "--changer", &changer];
        let out = ntbak(d, 0, &[&front[..], &end].concat());
        assert_eq!(summary(&out)["cartridges"].as_array().unwrap().len(), 2);
        ntbak(d, 0, &["tape", "eject", &tape]);
        summary(&out)["id"].as_str().unwrap().to_string()
    };
    let (one, two) = (image("A"), image("B"));
    // Nobody changes cartridges: the drive holds the end of the second set.
    let restore = |code, more: &[&str]| {
        let front = ["restore", "--json", "--yes", &*tape, &new];
        let out = ntbak(d, code, &[&front[..], more].concat());
        match code {
            0 => String::new(),
            _ => rows(&out, "error")[0]["message"]
                .as_str()
                .unwrap()
                .to_string(),
        }
    };
    ntbak(d, 0, &["info", &tape, "--set", &two, "--changer", &changer]);
    let missing = restore(1, &["--set", &one]);
    assert!(
        missing.starts_with("The drive needs cartridge 2 of set"),
        "{missing}"
    );
    t.end();
    // The first cartridge of the first set is gone; another one has its barcode.
    let shelf = d.join("shelf");
    fs::rename(shelf.join("NTB001L1.tap"), d.join("gone.tap")).unwrap();
    for extension in ["tap", "tap.idx"] {
        let of = |n: u32| shelf.join(format!("NTB00{n}L1.{extension}"));
        let _ = fs::remove_file(of(1));
        fs::copy(of(3), of(1)).unwrap();
    }
    let t = Target::start(d, &args);
    let (tape, new, changer) = (t.unit(2), t.unit(1), t.unit(3));
    let library = ["--set", &one, "--changer", &changer];
    let front = ["restore", "--json", "--yes", &tape, &new];
    let out = ntbak(d, 1, &[&front[..], &library].concat());
    let error = rows(&out, "error")[0]["message"]
        .as_str()
        .unwrap()
        .to_string();
    let words = "The library lacks cartridge 1 of set";
    assert!(error.starts_with(words), "{error}");
    t.end();
}

#[test]
fn what_nobody_has_seen_is_read_back_once_and_compared_then() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    fs::write(d.join("quick.img"), common::testdata("quick")).unwrap();
    let tap = d.join("c.tap");
    let serve = ["--disk", "src=quick.img,ro", "--tape", "t=c.tap,size=1G"];
    let t = Target::start(d, &serve);
    let (src, tape) = (t.unit(0), t.unit(1));
    let front = [
        "image",
        "--json",
        "--label",
        "T1",
        "--mover",
        "copy-manager",
    ];
    ntbak(d, 0, &[&front[..], &[&src, &tape]].concat());
    for verb in [&["info"][..], &["ls"], &["cat"]] {
        let path: &[&str] = if verb == ["cat"] {
            &["/Welcome.txt"]
        } else {
            &[]
        };
        let out = ntbak(d, 0, &[verb, &[&*tape], path].concat());
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(told.matches("never checked").count(), 1, "{verb:?}: {told}");
    }
    // An inventory that cannot be: everything is said, and nothing fails.
    let verify = |code, more: &[&str]| {
        let front = ["verify", "--json", &*tape];
        ntbak(d, code, &[&front[..], more].concat())
    };
    let out = verify(0, &["--inventory", "/proc/none"]);
    let row = summary(&out);
    assert_eq!(
        (warned(&out, "inventory"), &row["digests_kept"]),
        (1, &false.into())
    );
    // Read back, then compared with what was read back.
    let row = summary(&verify(0, &[]));
    let unseen = row["unverified_bytes"].as_u64().unwrap();
    assert!(unseen > 1 << 20);
    assert_eq!(
        (&row["state"], &row["digests_kept"]),
        (&"read_back".into(), &true.into())
    );
    let words = ntbak(d, 0, &["verify", &tape, "--inventory", "other"]);
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(
        words.contains("read back now, digests stored in the inventory"),
        "{words}"
    );
    assert!(!words.contains("every digest matches"), "{words}");
    let row = summary(&verify(0, &[]));
    assert_eq!(
        (&row["state"], &row["unverified_bytes"]),
        (&"sound".into(), &0.into())
    );
    assert_eq!(row["read_back_bytes"], unseen);
    let row = summary(&verify(
        0,
        &["--against", "quick.img", "--inventory", "third"],
    ));
    assert_eq!(row["state"], "compared");
    let out = ntbak(d, 0, &["ls", &tape]);
    assert!(out.stderr.is_empty());
    let sound = ntbak(d, 0, &["cat", &tape, "/Pictures/gradient.bmp"]).stdout;
    t.end();
    // One byte of a file changes on the cartridge.
    let mut all = fs::read(&tap).unwrap();
    let part = &sound[20000..20064];
    let at = all.windows(64).position(|w| w == part).unwrap() + 10;
    all[at] ^= 1;
    let file = File::options().write(true).open(&tap).unwrap();
    file.write_all_at(&all[at..=at], at as u64).unwrap();
    let t = Target::start(d, &serve);
    let tape = t.unit(1);
    let out = ntbak(d, 4, &["verify", "--json", &tape]);
    let damage = &rows(&out, "damage")[0];
    assert_eq!(damage["loses_data"], true);
    assert!(
        damage["files"].to_string().contains("gradient.bmp"),
        "{damage}"
    );
    // So does whoever reads the file; without the digests nobody can.
    let cat = ["cat", &*tape, "/Pictures/gradient.bmp"];
    let out = ntbak(d, 1, &cat);
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        told.contains("does not match the BLAKE3 digest of when it was read back"),
        "{told}"
    );
    let out = ntbak(d, 0, &[&cat[..], &["--inventory", "none"]].concat());
    assert!(out.stdout != sound && out.stdout.len() == sound.len());
    t.end();
}
