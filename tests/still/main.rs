//! Holding a source still, with real writers: the quiet period on files, loop devices
//! and units, and snapshots by everything that can be had here.

mod command;
#[path = "../common/mod.rs"]
mod common;
mod qmp;
mod quiet;
mod snapshots;
mod target;
mod unseen;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The program, with a state directory of its own.
fn ntbak(dir: &Path) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_ntbak"));
    c.current_dir(dir)
        .env("XDG_STATE_HOME", dir.join("state"))
        .env_remove("CLICOLOR_FORCE");
    c
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs it and expects an exit code.
fn expect(dir: &Path, code: i32, args: &[&str]) -> Output {
    let out = ntbak(dir).args(args).output().unwrap();
    assert_eq!(
        out.status.code(),
        Some(code),
        "{args:?}\nstdout: {}\nstderr: {}",
        text(&out.stdout),
        text(&out.stderr)
    );
    out
}

fn rows(bytes: &[u8]) -> Vec<serde_json::Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

fn of<'a>(rows: &'a [serde_json::Value], kind: &str) -> Vec<&'a serde_json::Value> {
    rows.iter().filter(|r| r["type"] == kind).collect()
}

fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The demonstration disk as a file.
fn disk(path: &Path) {
    fs::write(path, common::testdata("quick")).unwrap();
}

/// Writes one sector behind the last partition again and again, with a pause; every
/// write is another.
struct Writer {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    fn on(path: &Path, at: u64, pause: Duration) -> Self {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (s, c) = (stop.clone(), count.clone());
        let thread = std::thread::spawn(move || {
            while !s.load(Ordering::SeqCst) {
                let n = c.fetch_add(1, Ordering::SeqCst) + 1;
                let mut sector = [0; 4096];
                sector[..8].copy_from_slice(&n.to_le_bytes());
                sector[8..].fill(n as u8 | 1);
                file.write_all_at(&sector, at).unwrap();
                file.sync_data().unwrap();
                let end = std::time::Instant::now() + pause;
                while std::time::Instant::now() < end && !s.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(10).min(pause));
                }
            }
        });
        Self {
            stop,
            count,
            thread: Some(thread),
        }
    }

    fn writes(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

/// A loop device of its own, given back at the end.
struct Loop(PathBuf);

impl Loop {
    fn over(file: &Path) -> Option<Self> {
        let out = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(file)
            .output()
            .ok()?;
        if !out.status.success() {
            eprintln!("skipped: no loop device to be had (needs root)");
            return None;
        }
        Some(Self(text(&out.stdout).trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

/// A mounted file system in a file, unmounted at the end.
struct Mount {
    at: PathBuf,
    _dir: tempfile::TempDir,
}

impl Mount {
    fn of(fs_type: &str, make: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (image, at) = (dir.path().join("fs"), dir.path().join("mnt"));
        fs::create_dir(&at).unwrap();
        fs::File::create(&image)
            .unwrap()
            .set_len(400 << 20)
            .unwrap();
        let made = Command::new(format!("mkfs.{fs_type}"))
            .args(make)
            .arg(&image)
            .output();
        if !made.is_ok_and(|o| o.status.success()) {
            eprintln!("skipped: no mkfs.{fs_type}");
            return None;
        }
        let mounted = Command::new("mount")
            .args(["-o", "loop", "-t", fs_type])
            .args([&image, &at])
            .output();
        if !mounted.is_ok_and(|o| o.status.success()) {
            eprintln!("skipped: {fs_type} cannot be mounted here (needs root)");
            return None;
        }
        Some(Self { at, _dir: dir })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).status();
    }
}

/// Nothing of an archive, whole or partial.
fn nothing_written(archive: &Path) {
    assert!(!archive.exists(), "{}", archive.display());
    let partial = archive.with_extension("ntbak.partial");
    assert!(!partial.exists(), "{}", partial.display());
}
