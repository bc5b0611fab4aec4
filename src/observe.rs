//! Floor 0: what happens while a job runs. The library tells an [`Observer`];
//! it never prints, never exits, never asks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Something that went wrong without ending the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// A short stable word for scripts, such as `unreadable` or `bad-record`.
    pub code: &'static str,
    /// The sentence for people.
    pub message: String,
}

/// How far a wait for a quiet period is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// How long it must be quiet.
    pub wanted: Duration,
    /// How long it has been quiet.
    pub quiet: Duration,
    /// Time until the wait is given up.
    pub left: Duration,
    /// Writes that were seen since the wait began.
    pub writes: u64,
}

/// Told what happens. Every method has an empty default.
pub trait Observer: Send + Sync {
    /// A task begins; `total` bytes (or items) if known.
    fn begin(&self, _task: &str, _total: Option<u64>) {}
    /// `n` more bytes (or items) of the current task are done.
    fn advance(&self, _n: u64) {}
    /// The current task ended.
    fn end(&self) {}
    /// A wait for a quiet period goes on; told several times a second, between
    /// [`Observer::begin`] and [`Observer::end`].
    fn waiting(&self, _w: &Waiting) {}
    /// Something went wrong; the job goes on.
    fn warn(&self, _warning: Warning) {}
    /// A detail for whoever asked for more words.
    fn note(&self, _text: &str) {}
    /// True when the job should stop as soon as it safely can.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Sees nothing, says nothing.
pub struct Silent;

impl Observer for Silent {}

/// A flag that a signal handler may set.
#[derive(Debug, Default)]
pub struct CancelFlag(AtomicBool);

impl CancelFlag {
    /// Asks the job to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
    /// True once [`CancelFlag::cancel`] was called.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Shorthand for a warning.
pub fn warning(code: &'static str, message: impl Into<String>) -> Warning {
    Warning {
        code,
        message: message.into(),
    }
}
