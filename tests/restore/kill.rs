//! The program is killed, at whatever point, and goes on.

use crate::program::{Dir, expect, ntbak, text};
use crate::toy;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A loop device over a file; released in the end.
pub struct Loop(pub String);

impl Loop {
    pub fn over(file: &Path) -> Option<Self> {
        Self::with(file, &[])
    }

    /// The same with more arguments.
    pub fn with(file: &Path, more: &[&str]) -> Option<Self> {
        let out = Command::new("losetup")
            .args(["--find", "--show"])
            .args(more)
            .arg(file)
            .output();
        match out {
            Ok(o) if o.status.success() => Some(Self(text(&o.stdout).trim().to_owned())),
            _ => {
                eprintln!("skipped: no loop device to be had (needs root)");
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

/// Starts a restore, kills it by a signal after a while; true when it had ended
/// by itself before that.
fn killed(dir: &Path, args: &[&str], signal: &str, after: Duration) -> bool {
    let mut child = ntbak()
        .current_dir(dir)
        .env("XDG_STATE_HOME", dir.join("state"))
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while begun.elapsed() < after {
        if child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let id = child.id().to_string();
    if child.try_wait().unwrap().is_none() {
        let _ = Command::new("kill").args(["-s", signal, &id]).status();
    }
    let out = child.wait_with_output().unwrap();
    let said = text(&out.stderr);
    if signal == "INT" && out.status.code() == Some(130) && said.contains("Interrupted") {
        let begun = said.contains("--resume") || !said.contains("journal");
        assert!(begun, "{said}");
    }
    assert!(matches!(out.status.code(), None | Some(0 | 130)), "{said}");
    out.status.code() == Some(0)
}

/// Kills it again and again, a little later each time, and lets it end.
fn again_and_again(dir: &Path, args: &[&str], state: &dyn Fn() -> bool) {
    let mut wait = Duration::from_millis(5);
    let mut lives = 0;
    loop {
        // What was killed before its journal was there starts from nothing.
        let more: &[&str] = if state() { &["--resume"] } else { &["--force"] };
        let all = [args, more].concat();
        let signal = if lives % 3 == 2 { "INT" } else { "KILL" };
        if killed(dir, &all, signal, wait) {
            break;
        }
        lives += 1;
        wait = wait * 5 / 4 + Duration::from_millis(7);
    }
    assert!(lives > 0);
}

fn journal_of(dir: &Path, name: &str) -> bool {
    let path = dir.join(format!("{name}.partial.journal"));
    fs::read_to_string(path).is_ok_and(|t| t.contains('\n'))
}

fn any_journal(dir: &Path) -> bool {
    let all = fs::read_dir(dir.join("state/ntbak/restore"));
    all.is_ok_and(|mut d| {
        d.any(|e| fs::read_to_string(e.unwrap().path()).is_ok_and(|t| t.contains('\n')))
    })
}

#[test]
fn a_plain_restore_to_a_file() {
    let dir = Dir::with("quick");
    let bytes = toy::content(32 << 20);
    toy::archive(&dir, &bytes);
    let args = ["restore", "a.ntbak", "r.img", "--verify", "-q"];
    again_and_again(&dir, &args, &|| journal_of(&dir, "r.img"));
    assert!(fs::read(dir.join("r.img")).unwrap() == bytes);
    let left = fs::read_dir(&*dir).unwrap().flatten();
    let left: Vec<_> = left.map(|e| e.file_name()).collect();
    assert!(
        !left.iter().any(|n| n.to_string_lossy().contains("partial")),
        "{left:?}"
    );
}

#[test]
fn a_relocation_ends_as_if_nothing_had_been() {
    let dir = Dir::with("disk-mbr");
    expect(&dir, 0, &["image", "disk-mbr.img", "a.ntbak", "-q"]);
    for how in [
        &["--size", "min"][..],
        &["--size", "min", "--defragment", "--zero-free"],
        &["--partition", "1", "--table", "gpt", "--size", "min"],
    ] {
        let plain = [&["restore", "a.ntbak", "want.img", "--force", "-q"], how].concat();
        expect(&dir, 0, &plain);
        let args = [
            &["restore", "a.ntbak", "r.img", "--force", "--verify", "-q"],
            how,
        ]
        .concat();
        let _ = fs::remove_file(dir.join("r.img"));
        let mut wait = Duration::from_millis(40);
        let mut go_on = false;
        loop {
            let more: &[&str] = if go_on { &["--resume"] } else { &[] };
            if killed(&dir, &[&args[..], more].concat(), "KILL", wait) {
                break;
            }
            go_on = journal_of(&dir, "r.img");
            wait = wait * 9 / 8 + Duration::from_millis(5);
        }
        if !how.contains(&"--table") {
            let want = fs::read(dir.join("want.img")).unwrap();
            assert!(fs::read(dir.join("r.img")).unwrap() == want, "{how:?}");
        }
    }
}

/// Nothing is left to do but to drop the journal: the file has its name.
#[test]
fn an_end_that_only_the_journal_missed() {
    let dir = Dir::with("disk-mbr");
    expect(&dir, 0, &["image", "disk-mbr.img", "a.ntbak", "-q"]);
    let args = ["restore", "a.ntbak", "r.img", "-q"];
    let journal = dir.join("r.img.partial.journal");
    let kept = dir.join("kept");
    for _ in 0..50 {
        let _ = fs::remove_file(dir.join("r.img"));
        let mut child = ntbak().current_dir(&*dir).args(args).spawn().unwrap();
        while child.try_wait().unwrap().is_none() && fs::hard_link(&journal, &kept).is_err() {}
        assert!(child.wait().unwrap().success());
        if kept.exists() {
            break;
        }
    }
    // Both names of one journal: it went on to its last line.
    fs::rename(&kept, &journal).unwrap();
    assert!(fs::read_to_string(&journal).unwrap().contains("finishing"));
    fs::copy(&journal, dir.join("saved")).unwrap();
    let whole = fs::read(dir.join("r.img")).unwrap();
    expect(
        &dir,
        5,
        &["restore", "a.ntbak", "r.img", "--size", "min", "--resume"],
    );
    expect(&dir, 0, &[&args[..], &["--resume", "--dry-run"]].concat());
    expect(&dir, 0, &[&args[..], &["--resume", "--verify"]].concat());
    assert!(fs::read(dir.join("r.img")).unwrap() == whole && !journal.exists());
    // Another file has taken the name: it is not ours.
    fs::rename(dir.join("saved"), &journal).unwrap();
    fs::write(dir.join("other"), &whole).unwrap();
    fs::rename(dir.join("other"), dir.join("r.img")).unwrap();
    expect(&dir, 5, &[&args[..], &["--resume"]].concat());
    let out = expect(&dir, 1, &[&args[..], &["--resume", "--force"]].concat());
    assert!(text(&out.stderr).contains("no partial file"));
    assert!(fs::read(dir.join("r.img")).unwrap() == whole);
}

/// New identities are drawn once, whatever happens in between.
#[test]
fn identities_survive_an_interruption() {
    let dir = Dir::with("disk-gpt");
    expect(&dir, 0, &["image", "disk-gpt.img", "a.ntbak", "-q"]);
    let args = ["restore", "a.ntbak", "r.img", "--new-ids", "-q"];
    // Killed at a point where the journal is there: it is made before the end.
    let mut wait = Duration::from_millis(20);
    while !journal_of(&dir, "r.img") {
        let _ = fs::remove_file(dir.join("r.img"));
        killed(&dir, &[&args[..], &["--force"]].concat(), "KILL", wait);
        wait += Duration::from_millis(10);
        assert!(
            wait < Duration::from_secs(20),
            "it is never caught in the middle"
        );
        if dir.join("r.img").exists() {
            wait = Duration::from_millis(20);
        }
    }
    let text = fs::read_to_string(dir.join("r.img.partial.journal")).unwrap();
    let first = text.lines().next().unwrap();
    let first: serde_json::Value = serde_json::from_str(&first[9..]).unwrap();
    let id = first["subject"]["decided"]["arrangement"]["new_ids"][0]["new"]
        .as_str()
        .unwrap();
    expect(&dir, 0, &[&args[..], &["--resume"]].concat());
    let disk = fs::read(dir.join("r.img")).unwrap();
    let source = crate::common::Memory::shared(disk);
    let layout = ntbak::disk::open_layout(&*source).unwrap();
    assert_eq!(layout.disk_id.as_deref(), Some(id));
}

#[test]
fn a_loop_device_is_taken_up_again() {
    let dir = Dir::with("quick");
    let bytes = toy::content(32 << 20);
    toy::archive(&dir, &bytes);
    fs::write(dir.join("disk"), vec![0x5a; bytes.len()]).unwrap();
    let Some(device) = Loop::over(&dir.join("disk")) else {
        return;
    };
    let args = ["restore", "a.ntbak", &device.0, "--yes", "--verify", "-q"];
    let mut wait = Duration::from_millis(10);
    let mut lives = 0;
    loop {
        let more: &[&str] = if any_journal(&dir) {
            &["--resume"]
        } else {
            &[]
        };
        let signal = if lives % 2 == 1 { "INT" } else { "KILL" };
        if killed(&dir, &[&args[..], more].concat(), signal, wait) {
            break;
        }
        lives += 1;
        wait = wait * 5 / 4 + Duration::from_millis(9);
    }
    assert!(lives > 0 && !any_journal(&dir));
    drop(device);
    assert!(fs::read(dir.join("disk")).unwrap() == bytes);
}
