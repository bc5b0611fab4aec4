//! What of a restore by a copy manager its journal knows.

use super::Job;
use crate::copy::Wanted;
use crate::device::Sink;
use crate::error::Result;
use crate::ops::restore::{Entry, Journal};
use std::time::{Duration, Instant};

/// A journal and what it does not know yet.
pub struct Kept<'a> {
    journal: &'a mut Journal,
    /// Commands come in the order of the stream: what comes last does not.
    pub on: bool,
    /// First byte of the stream that is missing, where the journal does not know.
    reached: Option<u64>,
    bytes: u64,
    last: Instant,
    every: (u64, Duration),
}

impl<'a> Kept<'a> {
    pub fn new(journal: &'a mut Journal) -> Self {
        Self {
            every: journal.due(),
            journal,
            on: false,
            reached: None,
            bytes: 0,
            last: Instant::now(),
        }
    }

    /// Makes durable what was moved and notes it.
    pub fn note(&mut self, target: &dyn Sink) -> Result<()> {
        if let Some(offset) = self.reached.take() {
            target.sync()?;
            self.journal.append(Entry::Copied { offset })?;
        }
        (self.bytes, self.last) = (0, Instant::now());
        Ok(())
    }

    /// What comes last is about to be written. The target has been made durable.
    pub fn finishing(&mut self) -> Result<()> {
        self.journal.append(Entry::Finishing)
    }
}

impl Job<'_> {
    /// These pieces are on the target, and everything before them.
    pub(super) fn reached(&mut self, pieces: &[Wanted]) -> Result<()> {
        let Some(kept) = self.kept.as_mut().filter(|k| k.on) else {
            return Ok(());
        };
        let Some(end) = pieces.iter().map(|p| p.offset + p.bytes).max() else {
            return Ok(());
        };
        // A run that goes on looks again for what was lost.
        if !self.summary.lost.is_empty() {
            return Ok(());
        }
        kept.reached = Some(end);
        kept.bytes += pieces.iter().map(|p| p.bytes).sum::<u64>();
        if kept.bytes >= kept.every.0 || kept.last.elapsed() >= kept.every.1 {
            kept.note(self.target)?;
        }
        Ok(())
    }
}
