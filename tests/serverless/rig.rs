//! A target in a process of its own, with a disk to back up, a disk to restore
//! to, and a tape; and the program that works on them.

use crate::common::PlainFile;
use ntbak::device::{Identity, SharedSource};
use ntbak::observe::Silent;
use ntbak::ops::image::{ImagePlan, PlanOptions, plan};
use ntbak::units::ByteRange;
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// No run of the program takes longer.
const MOST: Duration = Duration::from_secs(300);
/// What the disk to restore to is full of where something is to be written.
const GARBAGE: u8 = 0xa5;

/// A run of the program that ended.
pub struct Ended {
    /// Exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: String,
}

impl Ended {
    /// Lines of JSON of a type.
    pub fn rows(&self, kind: &str) -> Vec<Value> {
        let all = String::from_utf8_lossy(&self.out);
        let parse = |l: &str| serde_json::from_str::<Value>(l).ok();
        let all = all.lines().chain(self.err.lines()).filter_map(parse);
        all.filter(|v| v["type"] == kind).collect()
    }

    /// The one that ends a run which did something.
    pub fn summary(&self) -> Value {
        self.rows("summary").pop().unwrap_or_default()
    }

    /// Everything it said.
    pub fn said(&self) -> String {
        format!("{}{}", String::from_utf8_lossy(&self.out), self.err)
    }
}

struct Served {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything that a backup and its restore need.
pub struct Lab {
    dir: tempfile::TempDir,
    source: PathBuf,
    /// What else is said of the disk to back up, such as `,bad=8+1`.
    pub disk: String,
    served: Option<Served>,
    urls: Vec<String>,
}

impl Lab {
    /// For this volume or disk; nothing is served yet.
    pub fn new(source: &Path) -> Self {
        let lab = Self {
            dir: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
            source: source.to_owned(),
            disk: String::new(),
            served: None,
            urls: Vec::new(),
        };
        lab.wipe();
        lab
    }

    /// The same with the target, a large cartridge, and this profile.
    pub fn with(source: &Path, profile: &str) -> Self {
        let mut lab = Self::new(source);
        lab.serve(profile, "size=64G");
        lab
    }

    /// Starts the target.
    pub fn serve(&mut self, profile: &str, tape: &str) {
        assert!(self.try_serve(profile, tape), "no target");
    }

    /// Starts the target: false when it refuses.
    pub fn try_serve(&mut self, profile: &str, tape: &str) -> bool {
        let mut child = program(self.dir.path())
            .args(["target", "--listen", "127.0.0.1:0", "--json"])
            .args([
                "--disk",
                &format!("old={},ro{}", self.source.display(), self.disk),
            ])
            .args(["--disk", "new=new.img", "--tape"])
            .arg(format!("t=t.tap,{tape}"))
            .args(["--profile", profile])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        // Warnings may come before the units.
        let url = || loop {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            let row: Value = serde_json::from_str(&line).ok()?;
            if row["type"] == "unit" {
                return Some(row["url"].as_str()?.to_owned());
            }
        };
        let urls: Option<Vec<_>> = std::iter::repeat_with(url).take(3).collect();
        let served = Served { child, lines };
        let Some(urls) = urls else {
            return false;
        };
        self.urls = urls;
        self.served = Some(served);
        true
    }

    /// The disk to back up.
    pub fn old(&self) -> &str {
        &self.urls[0]
    }

    /// The disk to restore to.
    pub fn new_disk(&self) -> &str {
        &self.urls[1]
    }

    /// The drive.
    pub fn tape(&self) -> &str {
        &self.urls[2]
    }

    /// A file of the working directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The file behind the disk to back up.
    pub fn old_file(&self) -> String {
        self.source.display().to_string()
    }

    /// The file behind the disk to restore to.
    pub fn new_file(&self) -> String {
        self.file("new.img").display().to_string()
    }

    /// Ends the target in good order; what each unit did.
    pub fn stop(&mut self) -> Vec<Value> {
        let mut served = self.served.take().unwrap();
        signal(&served.child, "TERM");
        let mut rest = String::new();
        served.lines.read_to_string(&mut rest).unwrap();
        assert!(served.child.wait().unwrap().success());
        let parse = |l: &str| serde_json::from_str::<Value>(l).unwrap();
        rest.lines().map(parse).collect()
    }

    /// Ends it as a power cut does.
    pub fn kill_target(&mut self) {
        drop(self.served.take());
    }

    /// Starts the program.
    pub fn start(&self, args: &[&str]) -> Running {
        let file = tempfile::NamedTempFile::new;
        let (out, err) = (file().unwrap(), file().unwrap());
        let child = program(self.dir.path())
            .args(args)
            .args(["--progress", "never"])
            .stdin(Stdio::null())
            .stdout(out.reopen().unwrap())
            .stderr(err.reopen().unwrap())
            .spawn()
            .unwrap();
        Running {
            child,
            out,
            err,
            what: args.join(" "),
        }
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Ended {
        self.start(args).end()
    }

    /// Runs it and expects an exit code.
    pub fn expect(&self, code: i32, args: &[&str]) -> Ended {
        let e = self.run(args);
        assert_eq!(e.code, Some(code), "{args:?}\n{}", e.said());
        e
    }

    /// Backs up to the tape.
    pub fn image(&self, code: i32) -> Ended {
        self.expect(
            code,
            &["image", self.old(), self.tape(), "--label", "A", "--json"],
        )
    }

    /// Restores from the tape.
    pub fn restore(&self, code: i32) -> Ended {
        self.expect(
            code,
            &["restore", self.tape(), self.new_disk(), "--yes", "--json"],
        )
    }

    /// What of the source is kept, by a plan made from the file itself.
    pub fn plan(&self) -> ImagePlan {
        plan_of(&self.source)
    }

    /// Fills the disk to restore to with what belongs on no disk.
    pub fn wipe(&self) {
        let len = std::fs::metadata(&self.source).unwrap().len();
        let new = File::create(self.dir.path().join("new.img")).unwrap();
        new.set_len(len).unwrap();
        let garbage = vec![GARBAGE; 1 << 20];
        for r in self.plan().kept_ranges() {
            let mut at = r.start;
            while at < r.end {
                let n = (r.end - at).min(garbage.len() as u64);
                new.write_all_at(&garbage[..n as usize], at).unwrap();
                at += n;
            }
        }
    }

    /// First byte that is kept and differs between the two disks, as they lie
    /// in their files.
    pub fn difference(&self) -> Option<u64> {
        let new = self.dir.path().join("new.img");
        differs(&self.source, &new, &self.plan().kept_ranges())
    }

    /// The two disks hold the same.
    pub fn assert_same(&self, what: &str) {
        if let Some(at) = self.difference() {
            panic!("{what}: byte {at:#x} of the restored disk differs");
        }
    }

    /// Changes the cartridge behind the target's back.
    pub fn cartridge(&self) -> File {
        let name = self.dir.path().join("t.tap");
        let file = OpenOptions::new().read(true).write(true).open(name);
        file.unwrap()
    }

    /// A tape that is not complete says so, whoever asks.
    pub fn assert_incomplete(&self, what: &str) {
        for args in [
            &["verify", self.tape()][..],
            &["restore", self.tape(), self.new_disk(), "--yes"],
        ] {
            let e = self.run(args);
            let bad = matches!(e.code, Some(1 | 3 | 4 | 5));
            assert!(
                bad,
                "{what}: {args:?} ended with {:?}\n{}",
                e.code,
                e.said()
            );
        }
    }
}

/// A run of the program that goes on.
pub struct Running {
    pub child: Child,
    out: tempfile::NamedTempFile,
    err: tempfile::NamedTempFile,
    what: String,
}

impl Running {
    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let begun = Instant::now();
        let code = loop {
            if let Some(s) = self.child.try_wait().unwrap() {
                break s.code();
            }
            if begun.elapsed() > MOST {
                let _ = self.child.kill();
                let _ = self.child.wait();
                panic!("{} does not end", self.what);
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Ended {
            code,
            out: std::fs::read(self.out.path()).unwrap(),
            err: String::from_utf8_lossy(&std::fs::read(self.err.path()).unwrap()).into_owned(),
        }
    }
}

/// Sends a signal to one process.
pub fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-s", name, &id]).status();
    assert!(sent.unwrap().success());
}

/// The program, in a folder.
pub fn program(dir: &Path) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_ntbak"));
    c.current_dir(dir).env("XDG_STATE_HOME", dir.join("state"));
    c
}

/// The plan of a volume or disk in a file.
pub fn plan_of(path: &Path) -> ImagePlan {
    let source: SharedSource = PlainFile::open(path);
    let identity = Identity::file("source", source.len(), source.sector_size());
    plan(source, &identity, &PlanOptions::default(), &Silent).unwrap()
}

/// First byte in the ranges that differs between two files.
pub fn differs(a: &Path, b: &Path, ranges: &[ByteRange]) -> Option<u64> {
    let (a, b) = (File::open(a).unwrap(), File::open(b).unwrap());
    let mut first = vec![0; 1 << 20];
    let mut second = first.clone();
    for r in ranges {
        let mut at = r.start;
        while at < r.end {
            let n = (r.end - at).min(first.len() as u64) as usize;
            a.read_exact_at(&mut first[..n], at).unwrap();
            b.read_exact_at(&mut second[..n], at).unwrap();
            if first[..n] != second[..n] {
                let odd = first.iter().zip(&second).position(|(x, y)| x != y);
                return Some(at + odd.unwrap_or(0) as u64);
            }
            at += n as u64;
        }
    }
    None
}

/// The same numbers every time.
pub struct Random(pub u64);

impl Random {
    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n.max(1)
    }
}
