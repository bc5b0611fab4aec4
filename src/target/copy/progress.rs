//! What others see of a copy while it runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A running copy, shared with COPY STATUS and COPY OPERATION ABORT.
#[derive(Debug, Default)]
pub struct Progress {
    segments: AtomicU64,
    bytes: AtomicU64,
    abort: AtomicBool,
    ended: Mutex<bool>,
    end: Condvar,
    /// Units it uses, by number; for resets.
    luns: Vec<u16>,
}

impl Progress {
    /// Of a copy that uses these units.
    pub fn new(luns: Vec<u16>) -> Self {
        Self {
            luns,
            ..Self::default()
        }
    }

    /// True when it uses this unit.
    pub fn uses(&self, lun: u16) -> bool {
        self.luns.contains(&lun)
    }

    /// A segment begins.
    pub fn segment(&self, number: usize) {
        self.segments.store(number as u64 + 1, Ordering::Relaxed);
    }

    /// Bytes were written.
    pub fn wrote(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Segments processed, the current one included.
    pub fn segments(&self) -> u16 {
        u16::try_from(self.segments.load(Ordering::Relaxed)).unwrap_or(u16::MAX)
    }

    /// Bytes written.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Asks it to end.
    pub fn abort(&self) {
        self.abort.store(true, Ordering::Relaxed);
    }

    /// True once it was asked to.
    pub fn aborted(&self) -> bool {
        self.abort.load(Ordering::Relaxed)
    }

    /// It ended.
    pub fn ended(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.end.notify_all();
    }

    /// Waits for its end, at most so long; true when it ended.
    pub fn wait(&self, most: Duration) -> bool {
        let guard = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.end.wait_timeout_while(guard, most, |ended| !*ended);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
