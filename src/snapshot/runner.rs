//! Programs of others: run with bounds on time and output, in a process group of
//! their own, so that an interrupt from the keyboard does not break them in the middle.

use crate::error::{Error, ErrorKind, Result};
use crate::observe::CancelFlag;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most bytes of output that are read.
pub const MOST_OUTPUT: u64 = 1 << 20;
/// Time between two looks at an interrupt.
const LOOK: Duration = Duration::from_millis(50);
/// Time for a program to end by itself when it was asked to.
const GRACE: Duration = Duration::from_secs(10);
/// What a program wrote was read when nothing came for so long after its end.
const SILENCE: Duration = Duration::from_millis(500);
/// Time for a tool of the system.
pub const TOOL_TIME: Duration = Duration::from_secs(120);

/// What to run.
#[derive(Clone, Debug)]
pub struct Call {
    /// Program.
    pub program: OsString,
    /// Arguments.
    pub args: Vec<OsString>,
    /// Additions to the environment.
    pub env: Vec<(&'static str, OsString)>,
    /// Most time it may take.
    pub time: Duration,
    /// An interrupt ends it, too.
    pub stops: bool,
}

impl Call {
    /// A tool of the system, with messages in English.
    pub fn tool<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Self {
        Self {
            program: program.into(),
            args: args.into_iter().map(|a| a.as_ref().into()).collect(),
            env: vec![("LC_ALL", "C".into())],
            time: TOOL_TIME,
            stops: false,
        }
    }

    /// As a line for people.
    pub fn line(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        let words = words.map(|w| w.to_string_lossy());
        words.map(|w| quoted(&w)).collect::<Vec<_>>().join(" ")
    }
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:=@_".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// How it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs programs; a test plays them.
pub trait Runner: Send + Sync {
    /// Runs one to its end.
    fn run(&self, call: &Call) -> Result<Ended>;

    /// True when everything is to end.
    fn cancelled(&self) -> bool {
        false
    }

    /// Lets time pass; false when everything is to end.
    fn pause(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match (self.cancelled(), left.is_zero()) {
                (true, _) => return false,
                (false, true) => return true,
                (false, false) => std::thread::sleep(left.min(LOOK)),
            }
        }
    }

    /// Runs one that has to succeed; gives its output.
    fn output(&self, call: &Call) -> Result<String> {
        let ended = self.run(call)?;
        match ended.code {
            Some(0) => Ok(ended.out),
            _ => Err(failed(call, &ended)),
        }
    }
}

/// The error that a program's failure makes.
pub fn failed(call: &Call, ended: &Ended) -> Error {
    let how = match ended.code {
        Some(c) => format!("ended with status {c}"),
        None => "was ended by a signal".into(),
    };
    let lines = ended.err.lines().chain(ended.out.lines());
    let said = lines.map(str::trim).rfind(|l| !l.is_empty());
    let said: String = said.unwrap_or("without a word").chars().take(300).collect();
    Error::new(ErrorKind::Io, format!("`{}` {how}: {said}", call.line()))
}

/// Really runs them.
#[derive(Default)]
pub struct System {
    cancel: Option<Arc<CancelFlag>>,
}

impl System {
    /// An interrupt is told by the flag.
    pub fn new(cancel: Option<Arc<CancelFlag>>) -> Self {
        Self { cancel }
    }
}

impl Runner for System {
    fn cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(|c| c.is_set())
    }

    fn run(&self, call: &Call) -> Result<Ended> {
        let name = call.program.to_string_lossy().into_owned();
        let mut child = Command::new(&call.program)
            .args(&call.args)
            .envs(call.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => Error::refused("There is no such program here")
                    .of(&*name)
                    .hint("install it, or choose another way with --snapshot"),
                _ => Error::io("Cannot run the program", e).of(&*name),
            })?;
        let out = child.stdout.take().map(reader);
        let err = child.stderr.take().map(reader);
        let asked = || call.stops && self.cancelled();
        let status = wait(&mut child, call.time, &asked);
        // The readers end with the program, unless it left others with its output.
        let text = |r: Option<Reading>| r.map_or_else(Default::default, Reading::take);
        let (out, err) = match &status {
            Ok(Some(_)) => (text(out), text(err)),
            _ => Default::default(),
        };
        // One that came to its end all the same has made something that must be known.
        let whole = matches!(&status, Ok(Some(s)) if s.success());
        if asked() && !whole {
            return Err(Error::interrupted());
        }
        if out.1 {
            return Err(Error::new(
                ErrorKind::Io,
                format!("The program wrote more than {MOST_OUTPUT} bytes"),
            )
            .of(name));
        }
        match status {
            Ok(Some(s)) => Ok(Ended {
                code: s.code(),
                out: out.0,
                err: err.0,
            }),
            Ok(None) => Err(Error::new(
                ErrorKind::Io,
                format!(
                    "The program did not end within {} s and was stopped",
                    call.time.as_secs()
                ),
            )
            .of(name)),
            Err(e) => Err(Error::io("Cannot wait for the program", e).of(name)),
        }
    }
}

/// What was read of a pipe until now.
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    /// There was more than is kept.
    more: bool,
    ended: bool,
    /// All bytes that came.
    came: u64,
}

struct Reading(Arc<Mutex<Gathered>>);

impl Reading {
    /// What the program wrote. Others that it left behind may hold the pipe open:
    /// what they write later is not waited for.
    fn take(self) -> (String, bool) {
        let state = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let end = Instant::now() + GRACE;
        let (mut came, mut since) = (state().came, Instant::now());
        while !state().ended && since.elapsed() < SILENCE && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
            let now = state().came;
            if now != came {
                (came, since) = (now, Instant::now());
            }
            if state().more {
                break;
            }
        }
        let s = state();
        (String::from_utf8_lossy(&s.bytes).into_owned(), s.more)
    }
}

/// Reads all of a pipe, and keeps the beginning.
fn reader(mut pipe: impl Read + Send + 'static) -> Reading {
    let state = Arc::new(Mutex::new(Gathered::default()));
    let to = state.clone();
    std::thread::spawn(move || {
        let mut buf = [0; 8192];
        loop {
            let n = match pipe.read(&mut buf) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Ok(n) => n,
                Err(_) => 0,
            };
            let mut s = to.lock().unwrap_or_else(PoisonError::into_inner);
            s.ended = n == 0;
            s.came += n as u64;
            let room = (MOST_OUTPUT as usize).saturating_sub(s.bytes.len()).min(n);
            s.bytes.extend_from_slice(&buf[..room]);
            s.more |= room < n;
            if s.ended {
                break;
            }
        }
    });
    Reading(state)
}

/// None when it took too long; it is stopped then. So it is when it is asked to
/// end and does not.
fn wait(
    child: &mut Child,
    time: Duration,
    asked: &dyn Fn() -> bool,
) -> std::io::Result<Option<std::process::ExitStatus>> {
    let group = rustix::process::Pid::from_raw(child.id().cast_signed());
    // With whatever it started.
    let send = |signal| {
        if let Some(g) = group {
            let _ = rustix::process::kill_process_group(g, signal);
        }
    };
    let mut end = Instant::now() + time;
    let mut told = false;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(s) = child.try_wait()? {
            return Ok(Some(s));
        }
        if !told && asked() {
            told = true;
            end = end.min(Instant::now() + GRACE);
            send(rustix::process::Signal::TERM);
        }
        if Instant::now() >= end {
            send(rustix::process::Signal::KILL);
            let _ = child.kill();
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// A recorded transcript, played back: calls must come in its order.
///
/// Its form: a line `$ COMMAND`, then the output; a line `! CODE` ends an output
/// of a program that failed, whose text was on standard error.
pub struct Transcript {
    steps: std::sync::Mutex<std::collections::VecDeque<(String, Ended)>>,
}

impl Transcript {
    /// From text. `@NAME@` in it stands for the name of the snapshot.
    pub fn new(text: &str, name: &str) -> Self {
        let mut steps = std::collections::VecDeque::new();
        for block in text.split("$ ").skip(1) {
            let block = block.replace("@NAME@", name);
            let (line, rest) = block.split_once('\n').unwrap_or((&block, ""));
            let ended = match rest.rsplit_once("! ") {
                Some((err, code)) => Ended {
                    code: code.trim().parse().ok(),
                    out: String::new(),
                    err: err.into(),
                },
                None => Ended {
                    code: Some(0),
                    out: rest.into(),
                    err: String::new(),
                },
            };
            steps.push_back((line.trim().into(), ended));
        }
        Self {
            steps: steps.into(),
        }
    }

    /// How many calls did not come.
    pub fn left(&self) -> usize {
        self.steps.lock().map_or(0, |s| s.len())
    }
}

impl Runner for Transcript {
    fn run(&self, call: &Call) -> Result<Ended> {
        let next = self.steps.lock().ok().and_then(|mut s| s.pop_front());
        match next {
            Some((line, ended)) if line == call.line() => Ok(ended),
            Some((line, _)) => Err(Error::usage(format!(
                "Found the call `{}`, expected `{line}`",
                call.line()
            ))),
            None => Err(Error::usage(format!(
                "Found the call `{}`, expected none",
                call.line()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_a_shell() {
        for (word, want) in [
            ("/dev/vg/a-b_c@x", "/dev/vg/a-b_c@x"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's $(x) `y`", "'it'\\''s $(x) `y`'"),
        ] {
            assert_eq!(quoted(word), want);
            let call = Call::tool("sh", ["-c", &format!("printf %s {}", quoted(word))]);
            assert_eq!(System::default().output(&call).unwrap(), word);
        }
    }

    fn sh(script: &str, time: Duration) -> Result<Ended> {
        System::default().run(&Call {
            time,
            ..Call::tool("sh", ["-c", script])
        })
    }

    #[test]
    fn programs_are_run_with_bounds() {
        let long = Duration::from_secs(20);
        let e = sh("echo out; echo err >&2; exit 3", long).unwrap();
        assert_eq!((e.code, &*e.out, &*e.err), (Some(3), "out\n", "err\n"));
        let call = Call::tool("sh", ["-c", "echo a word >&2; exit 3"]);
        let e = System::default().output(&call).unwrap_err();
        assert!(
            e.to_string().ends_with("ended with status 3: a word"),
            "{e}"
        );
        let e = System::default()
            .run(&Call::tool("no-such-program", ["x"]))
            .unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Refused);
        let begun = Instant::now();
        let e = sh("sleep 600 & sleep 600", Duration::from_millis(300)).unwrap_err();
        assert!(e.to_string().contains("did not end"), "{e}");
        assert!(begun.elapsed() < Duration::from_secs(60));
        // A child that was left behind holds the output open.
        let begun = Instant::now();
        let e = sh("sleep 60 & echo '{}'", long).unwrap();
        assert_eq!((e.code, &*e.out), (Some(0), "{}\n"));
        assert!(begun.elapsed() < Duration::from_secs(30));
        let e = sh("head -c 3000000 /dev/zero | tr '\\0' x", long).unwrap_err();
        assert!(e.to_string().contains("more than"), "{e}");
    }

    /// It is asked to end, and may clean up; what does not stop for that goes on.
    #[test]
    fn an_interrupt_ends_what_may_be_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (ready, file) = (dir.path().join("ready"), dir.path().join("cleaned"));
        let flag = Arc::new(CancelFlag::default());
        let system = System::new(Some(flag.clone()));
        let script = format!(
            "trap 'echo > {}; exit 7' TERM; echo > {}; for i in $(seq 600); do sleep 0.1; done",
            file.display(),
            ready.display()
        );
        let call = Call {
            stops: true,
            ..Call::tool("sh", ["-c", &script])
        };
        // Once the program says that it is ready.
        let tell = |flag: Arc<CancelFlag>| {
            let ready = ready.clone();
            std::thread::spawn(move || {
                while !ready.exists() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                flag.cancel();
            })
        };
        let told = tell(flag);
        let e = system.run(&call).unwrap_err();
        told.join().unwrap();
        assert_eq!(e.kind(), ErrorKind::Interrupted);
        assert!(file.exists(), "it was asked, not killed");
        assert!(!system.pause(Duration::from_secs(600)));
        let e = system.run(&Call::tool("sh", ["-c", "sleep 0.2; echo done"]));
        assert_eq!(&*e.unwrap().out, "done\n");
        // One that comes to its end all the same: what it says counts.
        std::fs::remove_file(&ready).unwrap();
        let flag = Arc::new(CancelFlag::default());
        let system = System::new(Some(flag.clone()));
        let script = format!(
            "trap '' TERM; echo > {}; sleep 0.5; echo done",
            ready.display()
        );
        let call = Call {
            stops: true,
            ..Call::tool("sh", ["-c", &script])
        };
        let told = tell(flag);
        assert_eq!(&*system.run(&call).unwrap().out, "done\n");
        told.join().unwrap();
    }

    #[test]
    fn a_transcript_wants_its_order() {
        let t = Transcript::new(
            "$ lvs a\nout\n$ lvremove @NAME@\n  no such\n! 5\n",
            "ntbak-1",
        );
        assert_eq!(t.output(&Call::tool("lvs", ["a"])).unwrap(), "out\n");
        assert!(t.run(&Call::tool("lvs", ["a"])).is_err());
        let t = Transcript::new("$ lvremove @NAME@\n  no such\n! 5\n", "ntbak-1");
        let e = t.run(&Call::tool("lvremove", ["ntbak-1"])).unwrap();
        assert_eq!((e.code, e.err.trim()), (Some(5), "no such"));
        assert_eq!(t.left(), 0);
    }
}
