//! Where everything that a verb says goes: results to standard output, the
//! rest to standard error, and with `--json` all of it as one stream of lines.

use super::args::Common;
use super::exit::Exit;
use super::hint;
use super::out::Out;
use super::progress::{Progress, Status};
use super::sense;
use super::style::Style;
use super::text::safe;
use crate::error::{Error, Result};
use crate::observe::{CancelFlag, Observer, Waiting, Warning};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

/// Version of the JSON lines: `docs/json.md`.
pub const SCHEMA: u32 = 1;

/// Speaks for a verb.
pub struct Console {
    json: bool,
    quiet: bool,
    verbose: u8,
    /// Standard output carries data.
    taken: bool,
    style: Style,
    out: Mutex<Out>,
    progress: Mutex<Progress>,
    cancel: Arc<CancelFlag>,
    warnings: AtomicU64,
}

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a, T> {
    r#type: &'a str,
    schema: u32,
    #[serde(flatten)]
    body: &'a T,
}

/// An error row.
#[derive(Serialize)]
struct Failure<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sense: Option<String>,
    hint: String,
    exit_code: u8,
}

/// A warning row.
#[derive(Serialize)]
struct Caution<'a> {
    code: &'a str,
    message: &'a str,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|e| e.into_inner())
}

impl Console {
    /// `taken`: standard output carries data, so that words go to standard error.
    pub fn new(common: &Common, taken: bool) -> Self {
        Self {
            json: common.json,
            quiet: common.quiet,
            verbose: common.verbose,
            taken,
            style: Style::of_stderr(),
            out: Mutex::new(if taken { Out::stderr() } else { Out::stdout() }),
            progress: Mutex::new(Progress::new(common.progress, common.quiet, common.json)),
            cancel: Arc::default(),
            warnings: AtomicU64::new(0),
        }
    }

    /// True when every line is JSON.
    pub fn json(&self) -> bool {
        self.json
    }

    /// True when only errors, warnings and rows are told.
    pub fn quiet(&self) -> bool {
        self.quiet && !self.json
    }

    /// How many `-v` there were.
    pub fn verbose(&self) -> u8 {
        self.verbose
    }

    /// Writes a part of the result as it is. Fails when nobody takes it any
    /// more, or when the run was interrupted.
    pub fn put(&self, bytes: &[u8]) -> Result<()> {
        if self.cancel.is_set() {
            return Err(Error::interrupted());
        }
        lock(&self.out).put(bytes)
    }

    /// A row of the result, for scripts.
    pub fn row<T: Serialize>(&self, kind: &str, body: &T) -> Result<()> {
        self.put(&encode(kind, body)?)
    }

    /// As [`Console::row`], in the course of a job that goes on whoever listens.
    pub fn tell<T: Serialize>(&self, kind: &str, body: &T) {
        if let Ok(line) = encode(kind, body) {
            let mut out = lock(&self.out);
            let _ = out.put(&line).and_then(|()| out.flush());
        }
    }

    /// Lines for people about a job; `--quiet` leaves them out.
    pub fn say(&self, text: &str) {
        if self.quiet || self.json {
            return;
        }
        lock(&self.progress).aside(|| {
            let mut out = lock(&self.out);
            let _ = out.put(text.as_bytes());
            if !text.ends_with('\n') {
                let _ = out.put(b"\n");
            }
            let _ = out.flush();
        });
    }

    /// A closing line for people on standard error; `--quiet` leaves it out.
    pub fn note_line(&self, text: &str) {
        if !self.quiet && !self.json {
            self.to_stderr(&safe(text));
        }
    }

    /// Tells an error that ends the run.
    pub fn error(&self, e: &Error) {
        let hint = hint::of(e);
        let sense = sense::of(e).filter(|_| self.verbose > 0);
        if self.json {
            let cause = std::error::Error::source(e).map(ToString::to_string);
            self.tell(
                "error",
                &Failure {
                    message: e.message(),
                    subject: e.subject(),
                    offset: e.offset(),
                    cause,
                    sense: sense.clone(),
                    hint: hint.clone(),
                    exit_code: Exit::of(e.kind()).code(),
                },
            );
            if self.taken {
                return;
            }
        }
        let sense = sense.map_or(String::new(), |s| format!("sense data: {s}\n"));
        let text = format!(
            "{} {}\n{sense}{} {}",
            self.style.error(),
            safe(&e.to_string()),
            self.style.hint(),
            safe(&hint)
        );
        self.to_stderr(&text);
    }

    /// Something that went wrong without ending the run.
    pub fn caution(&self, code: &str, message: &str) {
        self.warnings.fetch_add(1, Ordering::Relaxed);
        if self.json {
            self.tell("warning", &Caution { code, message });
        } else {
            self.to_stderr(&format!("{} {}", self.style.warning(), safe(message)));
        }
    }

    /// The last line of a run that only planned.
    pub fn end_of_dry_run(&self) {
        if self.json {
            let row = serde_json::json!({
                "state": "planned", "dry_run": true, "warnings": self.warnings(),
            });
            self.tell("summary", &row);
        }
    }

    /// How many warnings there were.
    pub fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::Relaxed)
    }

    /// The flag that a signal sets.
    pub fn cancel_flag(&self) -> Arc<CancelFlag> {
        self.cancel.clone()
    }

    /// Asks the job to stop; called when a signal came.
    pub fn stop(&self) {
        self.cancel.cancel();
        if !self.json {
            self.to_stderr("Stopping; a second signal ends at once");
        }
    }

    /// Takes the bar away and hands on what is buffered. Fails when the result
    /// could not be written; a reader that left is no failure.
    pub fn finish(&self) -> Result<()> {
        lock(&self.progress).clear();
        let mut out = lock(&self.out);
        match out.flush() {
            Err(_) if out.reader_left() => Ok(()),
            r => r,
        }
    }

    /// True when the reader of standard output has left.
    pub fn reader_left(&self) -> bool {
        lock(&self.out).reader_left()
    }

    fn to_stderr(&self, text: &str) {
        use std::io::Write;
        lock(&self.progress).aside(|| {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        });
    }

    fn show(&self, status: Option<Status>, json: bool) {
        match status {
            None => {}
            Some(s) if json => self.tell("status", &s),
            Some(s) => self.to_stderr(&safe(&s.line())),
        }
    }
}

/// A line with its newline.
pub fn encode<T: Serialize>(kind: &str, body: &T) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&Line {
        r#type: kind,
        schema: SCHEMA,
        body,
    })
    .map_err(|e| Error::damaged("Cannot write a row as JSON").caused_by(e))?;
    line.push(b'\n');
    Ok(line)
}

impl Observer for Console {
    fn begin(&self, task: &str, total: Option<u64>) {
        let (s, json) = {
            let mut p = lock(&self.progress);
            (p.begin(task, total), p.is_json())
        };
        self.show(s, json);
    }
    fn advance(&self, n: u64) {
        let (s, json) = {
            let mut p = lock(&self.progress);
            (p.advance(n), p.is_json())
        };
        self.show(s, json);
    }
    fn end(&self) {
        let (s, json) = {
            let mut p = lock(&self.progress);
            (p.end(), p.is_json())
        };
        self.show(s, json);
    }
    fn waiting(&self, w: &Waiting) {
        let (s, json) = {
            let mut p = lock(&self.progress);
            (p.waiting(w), p.is_json())
        };
        match s {
            None => {}
            Some(s) if json => self.tell("status", &s),
            Some(s) => self.to_stderr(&s.line()),
        }
    }
    fn warn(&self, warning: Warning) {
        self.caution(warning.code, &warning.message);
    }
    fn note(&self, text: &str) {
        if self.verbose == 0 {
            return;
        }
        if self.json {
            self.tell("note", &serde_json::json!({ "message": text }));
        } else {
            self.to_stderr(&safe(text));
        }
    }
    fn cancelled(&self) -> bool {
        self.cancel.is_set()
    }
}
