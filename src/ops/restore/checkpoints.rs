//! Checkpoints of a running restore: while others write, one thread makes
//! durable what was written and notes it in the journal.

use super::journal::{Entry, Journal, MOST_DAMAGED};
use crate::device::Sink;
use crate::error::{Error, Result};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How far the records are that were handed to the target, without a gap.
#[derive(Default)]
struct Reached {
    /// Last record and the first byte of the stream behind it.
    point: Option<(u64, u64)>,
    /// Damaged records that no entry names yet.
    damaged: Vec<u64>,
    /// Damaged records so far.
    count: usize,
    /// Bytes since the last checkpoint.
    bytes: u64,
    /// No more comes.
    over: bool,
    failed: Option<Error>,
}

/// Between those who write and the one who notes it.
pub struct Checkpoints<'a> {
    target: &'a dyn Sink,
    journal: Mutex<&'a mut Journal>,
    reached: Mutex<Reached>,
    changed: Condvar,
    bytes: u64,
    time: Duration,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|e| e.into_inner())
}

impl<'a> Checkpoints<'a> {
    /// None was made yet.
    pub fn new(target: &'a dyn Sink, journal: &'a mut Journal) -> Self {
        let count = journal.progress().damaged.len();
        let (bytes, time) = journal.due();
        Self {
            target,
            journal: Mutex::new(journal),
            reached: Mutex::new(Reached {
                count,
                ..Reached::default()
            }),
            changed: Condvar::new(),
            bytes,
            time,
        }
    }

    /// Every record up to `sequence` was handed to the target, or is damaged.
    pub fn reach(&self, sequence: u64, offset: u64, bytes: u64) -> Result<()> {
        let mut r = lock(&self.reached);
        if let Some(e) = r.failed.take() {
            return Err(e);
        }
        r.bytes += bytes;
        if r.count <= MOST_DAMAGED {
            r.point = Some((sequence, offset));
        }
        if r.bytes >= self.bytes {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// The record at this offset of the stream is damaged.
    pub fn damaged(&self, at: u64) {
        let mut r = lock(&self.reached);
        r.count += 1;
        if r.count <= MOST_DAMAGED {
            r.damaged.push(at);
        }
    }

    /// Makes checkpoints until [`Checkpoints::end`].
    pub fn keep(&self) {
        let mut last = Instant::now();
        loop {
            {
                let mut r = lock(&self.reached);
                while !r.over && r.bytes < self.bytes {
                    let Some(left) = self.time.checked_sub(last.elapsed()) else {
                        break;
                    };
                    let (next, _) = self
                        .changed
                        .wait_timeout(r, left)
                        .unwrap_or_else(|e| e.into_inner());
                    r = next;
                }
                if r.over {
                    return;
                }
            }
            if let Err(e) = self.checkpoint() {
                lock(&self.reached).failed.get_or_insert(e);
                return;
            }
            last = Instant::now();
        }
    }

    /// Nothing more is written by records.
    pub fn end(&self) {
        lock(&self.reached).over = true;
        self.changed.notify_all();
    }

    /// Makes durable what was written and notes it.
    pub fn checkpoint(&self) -> Result<()> {
        let (point, damaged) = {
            let mut r = lock(&self.reached);
            r.bytes = 0;
            let Some(point) = r.point.take() else {
                return Ok(());
            };
            (point, std::mem::take(&mut r.damaged))
        };
        // Whatever is written meanwhile belongs to the next one.
        self.target.sync()?;
        lock(&self.journal).append(Entry::Done {
            sequence: point.0,
            offset: point.1,
            damaged,
        })
    }

    /// Notes that what comes last is about to be written. The target has been
    /// made durable.
    pub fn finishing(&self) -> Result<()> {
        lock(&self.journal).append(Entry::Finishing)
    }
}
