//! The program as a user meets it: exit codes, streams, JSON lines, whole jobs.

mod help;
mod interrupt;
mod jobs;
mod output;
mod refusals;
mod target;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program, with an environment that decides nothing.
fn ntbak() -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_ntbak"));
    for name in ["NO_COLOR", "CLICOLOR_FORCE", "CLICOLOR"] {
        c.env_remove(name);
    }
    c.env("TERM", "xterm");
    c
}

/// Runs it in a directory.
fn run(dir: &Path, args: &[&str]) -> Output {
    ntbak().current_dir(dir).args(args).output().unwrap()
}

/// Runs it and expects an exit code.
fn expect(dir: &Path, code: i32, args: &[&str]) -> Output {
    let out = run(dir, args);
    assert_eq!(
        out.status.code(),
        Some(code),
        "{args:?}\nstdout: {}\nstderr: {}",
        text(&out.stdout),
        text(&out.stderr)
    );
    out
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Each line as JSON, checked for what every line has.
fn rows(bytes: &[u8]) -> Vec<serde_json::Value> {
    let lines = std::str::from_utf8(bytes).unwrap().lines();
    let parse = |l: &str| {
        let v: serde_json::Value = serde_json::from_str(l).unwrap();
        assert!(v["type"].is_string(), "{l}");
        assert_eq!(v["schema"], 1, "{l}");
        v
    };
    lines.map(parse).collect()
}

/// The rows of a type.
fn of<'a>(rows: &'a [serde_json::Value], kind: &str) -> Vec<&'a serde_json::Value> {
    rows.iter().filter(|r| r["type"] == kind).collect()
}

/// A volume of `testdata/`, unpacked into `dir`.
fn volume(dir: &Path, name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let dictionary = fs::read(folder.join("upcase.dict")).unwrap();
    let packed =
        std::io::BufReader::new(File::open(folder.join(format!("{name}.img.zst"))).unwrap());
    let mut from = zstd::Decoder::with_dictionary(packed, &dictionary).unwrap();
    let to = dir.join(format!("{name}.img"));
    std::io::copy(&mut from, &mut File::create(&to).unwrap()).unwrap();
    to
}

/// The demonstration disk in a directory of its own.
fn quick() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    volume(dir.path(), "quick");
    dir
}
