//! How far a job is: a bar on a terminal, lines elsewhere, numbers for scripts.

use super::style;
use super::text::{count, duration, percent};
use crate::observe::Waiting;
use crate::units::human_bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// When to show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum When {
    /// When standard error is a terminal
    #[default]
    Auto,
    /// As a bar on a terminal, else as a line now and then
    Always,
    /// Not at all
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Hidden,
    Bar,
    Lines,
    Json,
}

/// The task that counts down.
const WAIT: &str = "quiet period";
/// Time between two lines.
const LINES: Duration = Duration::from_secs(5);
/// Time between two status rows.
const STATUS: Duration = Duration::from_secs(1);

/// What is shown.
pub struct Progress {
    mode: Mode,
    task: Option<Task>,
}

struct Task {
    name: String,
    total: Option<u64>,
    done: u64,
    started: Instant,
    shown: Instant,
    bar: ProgressBar,
}

/// A status row.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// What is being done.
    pub task: String,
    /// `bytes` or `items`.
    pub unit: &'static str,
    /// How many are done.
    pub done: u64,
    /// Of how many, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// How many in a second.
    pub per_second: u64,
    /// Seconds still to go, if that can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
}

/// A status row of a wait for a quiet period.
#[derive(Clone, Debug, Serialize)]
pub struct WaitStatus {
    /// `quiet period`.
    task: &'static str,
    /// `milliseconds`.
    unit: &'static str,
    /// How long it has been quiet.
    done: u64,
    /// How long it must be.
    total: u64,
    /// Seconds until the wait is given up.
    seconds_left: u64,
    /// Writes that were seen.
    writes: u64,
}

impl WaitStatus {
    fn new(w: &Waiting) -> Self {
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Self {
            task: WAIT,
            unit: "milliseconds",
            done: ms(w.quiet),
            total: ms(w.wanted),
            seconds_left: w.left.as_secs() + u64::from(w.left.subsec_nanos() > 0),
            writes: w.writes,
        }
    }

    /// For people: a countdown.
    pub fn line(&self) -> String {
        let s = |ms: u64| ms as f64 / 1000.0;
        format!(
            "Quiet period: {:.1} s of {:.1} s to go, {} so far, giving up in {} s",
            s(self.total.saturating_sub(self.done)),
            s(self.total),
            count(self.writes, "write"),
            self.seconds_left
        )
    }
}

impl Progress {
    /// As the options and the terminal want it.
    pub fn new(when: When, quiet: bool, json: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && style::can_move();
        let mode = match (when, quiet) {
            (_, true) | (When::Never, _) => Mode::Hidden,
            _ if json => Mode::Json,
            _ if terminal => Mode::Bar,
            (When::Always, _) => Mode::Lines,
            (When::Auto, _) => Mode::Hidden,
        };
        Self { mode, task: None }
    }

    /// A task begins.
    pub fn begin(&mut self, name: &str, total: Option<u64>) -> Option<Status> {
        self.clear();
        let bar = match self.mode {
            Mode::Bar => bar(name, total),
            _ => ProgressBar::hidden(),
        };
        let now = Instant::now();
        let name_is_wait = name == WAIT;
        let name = name.to_string();
        self.task = Some(Task {
            name,
            total,
            done: 0,
            started: now,
            shown: now,
            bar,
        });
        match name_is_wait {
            true => None,
            false => self.status(Mode::Json),
        }
    }

    /// More of it is done. A row comes back when it is time for one.
    pub fn advance(&mut self, n: u64) -> Option<Status> {
        let mode = self.mode;
        let task = self.task.as_mut()?;
        task.done = task.done.saturating_add(n);
        match mode {
            Mode::Hidden => return None,
            Mode::Bar => {
                task.bar.inc(n);
                return None;
            }
            Mode::Lines if task.shown.elapsed() < LINES => return None,
            Mode::Json if task.shown.elapsed() < STATUS => return None,
            Mode::Lines | Mode::Json => task.shown = Instant::now(),
        }
        self.status(mode)
    }

    /// A wait goes on. A row comes back when it is time for one.
    pub fn waiting(&mut self, w: &Waiting) -> Option<WaitStatus> {
        let (mode, task) = (self.mode, self.task.as_mut()?);
        let status = WaitStatus::new(w);
        // The first is shown at once: whoever waits should know why.
        let first = task.done == 0;
        match mode {
            Mode::Hidden => return None,
            Mode::Bar => {
                task.bar.set_message(status.line());
                return None;
            }
            Mode::Lines if !first && task.shown.elapsed() < LINES => return None,
            Mode::Json if !first && task.shown.elapsed() < STATUS => return None,
            Mode::Lines | Mode::Json => task.shown = Instant::now(),
        }
        task.done += 1;
        Some(status)
    }

    /// The task is over.
    pub fn end(&mut self) -> Option<Status> {
        let wait = self.task.as_ref().is_some_and(|t| t.name == WAIT);
        let last = match self.mode {
            _ if wait => None,
            Mode::Lines | Mode::Json => self.status(self.mode),
            _ => None,
        };
        self.clear();
        last
    }

    /// True when rows are for scripts.
    pub fn is_json(&self) -> bool {
        self.mode == Mode::Json
    }

    /// Runs something that writes to the terminal while the bar is away.
    pub fn aside<T>(&self, f: impl FnOnce() -> T) -> T {
        match &self.task {
            Some(t) if self.mode == Mode::Bar => t.bar.suspend(f),
            _ => f(),
        }
    }

    /// Takes the bar away.
    pub fn clear(&mut self) {
        if let Some(t) = self.task.take() {
            t.bar.finish_and_clear();
        }
    }

    fn status(&self, only: Mode) -> Option<Status> {
        let t = self.task.as_ref().filter(|_| self.mode == only)?;
        let secs = t.started.elapsed().as_secs_f64();
        let rate = if secs > 0.0 {
            t.done as f64 / secs
        } else {
            0.0
        };
        let left = t
            .total
            .filter(|_| rate > 0.0)
            .map(|n| n.saturating_sub(t.done) as f64 / rate);
        Some(Status {
            task: t.name.clone(),
            unit: if counts_bytes(&t.name) {
                "bytes"
            } else {
                "items"
            },
            done: t.done,
            total: t.total,
            per_second: rate as u64,
            seconds_left: left.map(|s| s.ceil() as u64),
        })
    }
}

impl Status {
    /// For people.
    pub fn line(&self) -> String {
        let n = |v: u64| match self.unit {
            "bytes" => human_bytes(v),
            _ => v.to_string(),
        };
        let mut s = format!("{}: {}", capital(&self.task), n(self.done));
        if let Some(total) = self.total {
            s += &format!(
                " of {} ({:.0} %)",
                n(total),
                percent(self.done.min(total), total)
            );
        }
        s += &format!(", {}/s", n(self.per_second));
        if let Some(left) = self.seconds_left.filter(|&s| s > 0) {
            s += &format!(", {} left", duration(Duration::from_secs(left)));
        }
        s
    }
}

/// Tasks that go through file records count these; all others count bytes.
fn counts_bytes(task: &str) -> bool {
    ![
        "list",
        "second opinion",
        "Reading file records",
        "Looking for owners",
    ]
    .contains(&task)
}

fn capital(s: &str) -> String {
    let mut c = s.chars();
    c.next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(c).collect())
}

fn bar(name: &str, total: Option<u64>) -> ProgressBar {
    let (n, rate) = match counts_bytes(name) {
        true => ("{binary_bytes}", "{binary_bytes_per_sec}"),
        false => ("{human_pos}", "{per_sec}"),
    };
    let of = match (total, counts_bytes(name)) {
        (None, _) => "",
        (_, true) => " of {binary_total_bytes}",
        (_, false) => " of {human_len}",
    };
    let template = match total {
        Some(_) => {
            format!("{{msg}} [{{wide_bar}}] {{percent:>3}} % {n}{of}, {rate}, {{eta}} left")
        }
        None => format!("{{msg}} {{spinner}} {n}, {rate}, {{elapsed}}"),
    };
    // A wait says everything itself.
    let template = match name {
        WAIT => "{spinner} {wide_msg}".into(),
        _ => template,
    };
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(5));
    let style = ProgressStyle::with_template(&template).map_or_else(
        |_| ProgressStyle::default_bar(),
        |s| s.progress_chars("=> "),
    );
    bar.set_style(style);
    bar.set_message(capital(name));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_at_the_beginning_and_at_the_end() {
        let mut p = Progress {
            mode: Mode::Json,
            task: None,
        };
        let first = p.begin("copy", Some(4096)).unwrap();
        assert_eq!(
            (first.unit, first.done, first.total),
            ("bytes", 0, Some(4096))
        );
        assert!(p.advance(1024).is_none());
        assert_eq!(p.end().unwrap().done, 1024);
        assert!(p.end().is_none());
        // A wait has rows of its own.
        assert!(p.begin(WAIT, None).is_none());
        let w = Waiting {
            wanted: Duration::from_secs(3),
            quiet: Duration::from_millis(1200),
            left: Duration::from_millis(60_100),
            writes: 1,
        };
        let row = p.waiting(&w).unwrap();
        assert_eq!(
            row.line(),
            "Quiet period: 1.8 s of 3.0 s to go, 1 write so far, giving up in 61 s"
        );
        assert!(p.waiting(&w).is_none() && p.end().is_none());
        let mut p = Progress {
            mode: Mode::Hidden,
            task: None,
        };
        assert!(p.begin("Reading file records", None).is_none());
        assert!(p.advance(1).is_none() && p.end().is_none());
    }

    #[test]
    fn a_line_has_rate_and_time() {
        let s = Status {
            task: "copy".into(),
            unit: "bytes",
            done: 1 << 20,
            total: Some(4 << 20),
            per_second: 1 << 20,
            seconds_left: Some(3),
        };
        assert_eq!(
            s.line(),
            "Copy: 1.0 MiB of 4.0 MiB (25 %), 1.0 MiB/s, 3.0 s left"
        );
        for task in [
            "list",
            "second opinion",
            "Reading file records",
            "Looking for owners",
        ] {
            assert!(!counts_bytes(task), "{task}");
        }
        for task in ["copy", "verify", "zero free clusters", "read back"] {
            assert!(counts_bytes(task), "{task}");
        }
    }
}
