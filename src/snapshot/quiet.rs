//! The quiet period: waiting until nothing was written for a while.
//!
//! One function over a clock and a counter, both given from outside.

use crate::error::{Error, ErrorKind, Result};
use crate::observe::Waiting;
use std::time::{Duration, Instant};

/// Time between two looks at the counter.
pub const POLL: Duration = Duration::from_millis(200);

/// A clock that never goes back.
pub trait Clock {
    /// Time since some moment in the past.
    fn now(&self) -> Duration;
    /// Lets time pass.
    fn sleep(&self, time: Duration);
}

/// The system's monotonic clock, from when it was made.
pub struct Monotonic(Instant);

impl Default for Monotonic {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for Monotonic {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// What a counter shows at a moment. Numbers only grow, and a counter always
/// gives the same number of them in the same order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Writes to the source that were completed, as each of those who see them
    /// counts them.
    pub own: Vec<u64>,
    /// Writes to the members below a stacked device, which others write too.
    pub members: Vec<u64>,
    /// Writes that were begun and are not completed.
    pub in_flight: u64,
}

impl Sample {
    /// Writes to the source since an earlier sample. Several who count see the
    /// same writes: the largest number counts.
    pub fn own_since(&self, earlier: &Self) -> u64 {
        grown(&self.own, &earlier.own)
    }

    /// The same with the members.
    pub fn since(&self, earlier: &Self) -> u64 {
        self.own_since(earlier)
            .max(grown(&self.members, &earlier.members))
    }

    /// Fails when a number is smaller than it was.
    fn check_since(&self, earlier: &Self) -> Result<()> {
        let same =
            self.own.len() == earlier.own.len() && self.members.len() == earlier.members.len();
        let now = self.own.iter().chain(&self.members);
        let before = earlier.own.iter().chain(&earlier.members);
        let back = now.zip(before).find(|(n, b)| n < b);
        match (same, back) {
            (true, None) => Ok(()),
            (_, Some((n, b))) => Err(Error::new(
                ErrorKind::Io,
                format!(
                    "A write counter went back from {b} to {n}: the device was reset or is another one, so nothing says whether it was quiet"
                ),
            )),
            (false, None) => Err(Error::new(
                ErrorKind::Io,
                "The devices below the source are not the same any more, so nothing says whether it was quiet",
            )),
        }
    }
}

fn grown(now: &[u64], before: &[u64]) -> u64 {
    let each = now.iter().zip(before).map(|(n, b)| n.saturating_sub(*b));
    each.max().unwrap_or(0)
}

/// Counts what is written to a source, by whomever.
pub trait Counter: Send {
    /// The numbers now. Fails when the device is gone.
    fn sample(&mut self) -> Result<Sample>;
    /// Has what waits in caches above the source written to it.
    fn flush(&mut self) -> Result<()>;
    /// Where it counts, for people: "the kernel's count of sda1".
    fn name(&self) -> String;
}

/// How to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// So long nothing may be written. Zero: it is not waited at all.
    pub quiet: Duration,
    /// So long is waited at most.
    pub timeout: Duration,
    /// Time between two looks.
    pub poll: Duration,
}

/// What an earlier wait saw, when a wait is repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Writes.
    pub writes: u64,
    /// When the last one was seen.
    pub last: Option<Duration>,
}

/// The source was quiet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// What the counter showed when the wait was over.
    pub last: Sample,
    /// Writes seen meanwhile, and in the waits before.
    pub seen: Seen,
    /// How long it was quiet at the end.
    pub quiet: Duration,
    /// How long that took.
    pub waited: Duration,
}

/// Waits until the source was quiet for as long as is wanted, at most until
/// `patience.timeout` after `started`. A window counts when it ends by then; else
/// the deadline wins. Caches above are flushed before the wait and once more at the
/// end of a window: what was only in a cache was written, too.
///
/// `told` is called after each look; its error ends the wait.
pub fn wait(
    patience: &Patience,
    started: Duration,
    before: Seen,
    clock: &dyn Clock,
    counter: &mut dyn Counter,
    told: &mut dyn FnMut(&Waiting) -> Result<()>,
) -> Result<Quiet> {
    counter.flush()?;
    let first = counter.sample()?;
    let deadline = started.saturating_add(patience.timeout);
    let mut state = State {
        since: clock.now(),
        last: first.clone(),
        first,
        last_write: before.last,
        in_flight: false,
        before: before.writes,
    };
    if patience.quiet.is_zero() {
        return Ok(state.quiet(clock.now(), started));
    }
    state.in_flight = state.last.in_flight > 0;
    loop {
        // The sample takes time: what it shows was so until some moment between
        // these two, and each is used where it errs on the safe side.
        let begun = clock.now();
        let moved = state.look(clock, counter)?;
        let end = state.since.saturating_add(patience.quiet);
        if !moved && begun >= end && end <= deadline {
            counter.flush()?;
            if !state.look(clock, counter)? {
                return Ok(state.quiet(begun, started));
            }
        }
        let now = clock.now();
        if now >= deadline {
            // What is in caches was written, too. It fails anyway.
            if counter.flush().is_ok() {
                let _ = state.look(clock, counter);
            }
            return Err(state.too_late(now, started, patience));
        }
        told(&Waiting {
            wanted: patience.quiet,
            quiet: now.saturating_sub(state.since),
            left: deadline - now,
            writes: before.writes + state.writes(),
        })?;
        let end = state.since.saturating_add(patience.quiet);
        let next = end.min(deadline).saturating_sub(now);
        clock.sleep(next.min(patience.poll));
    }
}

struct State {
    first: Sample,
    last: Sample,
    /// Nothing was written since then.
    since: Duration,
    last_write: Option<Duration>,
    in_flight: bool,
    before: u64,
}

impl State {
    /// True when something was written since the last look, or is being written.
    fn look(&mut self, clock: &dyn Clock, counter: &mut dyn Counter) -> Result<bool> {
        let s = counter.sample()?;
        s.check_since(&self.last)?;
        let after = clock.now();
        let wrote = s.since(&self.last) > 0;
        let moved = wrote || s.in_flight > 0;
        if wrote {
            self.last_write = Some(after);
        }
        if moved {
            self.since = after;
            self.in_flight |= s.in_flight > 0;
        }
        self.last = s;
        Ok(moved)
    }

    fn writes(&self) -> u64 {
        self.last.since(&self.first)
    }

    fn quiet(&self, now: Duration, started: Duration) -> Quiet {
        Quiet {
            last: self.last.clone(),
            seen: Seen {
                writes: self.before + self.writes(),
                last: self.last_write,
            },
            quiet: now.saturating_sub(self.since),
            waited: now.saturating_sub(started),
        }
    }

    fn too_late(&self, now: Duration, started: Duration, patience: &Patience) -> Error {
        let n = self.before + self.writes();
        let s = |d: Duration| format!("{:.1} s", d.as_secs_f64());
        let seen = match (n, self.last_write) {
            (0, _) if self.in_flight => "no write was completed, but some were on their way".into(),
            // The first look fell into the last stretch before the deadline.
            (0, _) => "no write was seen".into(),
            (n, last) => {
                let when = last.map_or(started, |l| l);
                let writes = if n == 1 { "write was" } else { "writes were" };
                format!(
                    "{n} {writes} seen, the last one {} before the end",
                    s(now.saturating_sub(when))
                )
            }
        };
        Error::new(
            ErrorKind::NotQuiet,
            format!(
                "The source was not quiet for {} within {}: {seen}",
                s(patience.quiet),
                s(patience.timeout)
            ),
        )
    }
}

#[cfg(test)]
mod tests;
