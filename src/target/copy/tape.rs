//! Tape blocks of a copy: gathered before they are written, read ahead where the
//! next segments need them, and given back when they are not used after all.

use super::engine::Engine;
use super::fail::{Failed, Stop, check};
use super::program::Step;
use super::rope::{Piece, Rope};
use crate::scsi::SenseKey;
use crate::target::profile::What;
use std::sync::Arc;

/// Bytes gathered before they are written. As in the reader, what is under way
/// has to stay in the cache of a processor: measured, 4 MiB cost three times the
/// processor time of 512 KiB.
const GATHER: u64 = 512 << 10;
/// Pieces gathered before they are written.
const PIECES: usize = 512;
/// Bytes read at once.
const AT_ONCE: u64 = 512 << 10;

/// Whole blocks that wait to be written to a tape.
#[derive(Default)]
pub struct Pending {
    rope: Rope,
    /// Of which segment how many bytes are.
    marks: Vec<(usize, u64)>,
    unit: Option<usize>,
    block: u32,
}

/// Blocks read and not yet used.
#[derive(Default)]
pub struct Ahead {
    rope: Rope,
    unit: Option<usize>,
    block: u32,
}

impl Engine<'_> {
    /// Adds whole blocks of a segment to what waits, and writes when it is much.
    pub(super) fn write_tape(&mut self, k: usize, step: &Step, rope: Rope) -> Result<(), Stop> {
        let other =
            self.pending.unit != step.destination || self.pending.block != step.destination_block;
        let fault = self.write_fault(k);
        if other || fault.is_some() {
            self.flush()?;
        }
        self.pending.unit = step.destination;
        self.pending.block = step.destination_block;
        if let Some((at, what)) = fault {
            return self.write_until(k, step, rope, at, what);
        }
        if rope.len() > 0 {
            self.pending.marks.push((k, rope.len()));
            self.pending.rope.append(rope);
        }
        match self.pending.rope.len() >= GATHER || self.pending.rope.pieces() >= PIECES {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Writes the blocks in front of a fault, and stops there.
    fn write_until(
        &mut self,
        k: usize,
        step: &Step,
        mut rope: Rope,
        at: u64,
        what: What,
    ) -> Result<(), Stop> {
        let block = u64::from(step.destination_block.max(1));
        let done = self.written.get(k).copied().unwrap_or(0);
        let mut before = at.saturating_sub(done) / block * block;
        if what == What::EarlyWarning {
            before = before.saturating_add(block);
        }
        let all = rope.len();
        let rope = rope.take(before);
        self.pending.marks.push((k, rope.len()));
        self.pending.rope.append(rope);
        self.flush()?;
        let met = before < all || (what == What::EarlyWarning && before == all && all > 0);
        match met {
            true => Err(self.fault_stop(k, what)),
            false => Ok(()),
        }
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self) -> Result<(), Stop> {
        let rope = std::mem::take(&mut self.pending.rope);
        let marks = std::mem::take(&mut self.pending.marks);
        let Some(unit) = self.unit(self.pending.unit).filter(|_| rope.len() > 0) else {
            return Ok(());
        };
        let Some(tape) = unit.tape() else {
            return Ok(());
        };
        let block = self.pending.block.max(1);
        let blocks = rope.len() / u64::from(block);
        let (count, failure) = tape.write(block, &rope.slices());
        let count = (count as u64).min(blocks);
        unit.0.statistics().wrote(count);
        let mut left = count * u64::from(block);
        let mut failing = None;
        for (k, bytes) in &marks {
            let now = left.min(*bytes);
            left -= now;
            self.count(*k, now);
            // The write that reports the end belongs to the last block it wrote,
            // an error to the first it did not.
            let met = match failure.as_ref().and_then(|f| f.sense.as_ref()) {
                Some(s) if s.eom && s.key == SenseKey::NoSense => left == 0,
                _ => now < *bytes,
            };
            if failing.is_none() && met {
                failing = Some(*k);
            }
        }
        let k = failing.or(marks.last().map(|m| m.0)).unwrap_or(0);
        match failure {
            Some(f) => Err(Failed::destination(k, f)),
            None if count < blocks => Err(Failed::destination(
                k,
                check(SenseKey::MediumError, 0x0c, 0x00),
            )),
            None => Ok(()),
        }
    }

    /// Blocks for a segment, at least one.
    pub(super) fn read_tape(&mut self, k: usize, step: &Step, most: u64) -> Result<Rope, Stop> {
        // A stream is read only when all earlier writes are done.
        self.flush()?;
        if self.ahead.unit != step.source || self.ahead.block != step.source_block {
            self.unread()?;
        }
        if self.ahead.rope.len() == 0 {
            self.fill(k, step, most)?;
        }
        let rope = self.ahead.rope.take(most);
        if let Some(fault) = self
            .fault
            .filter(|f| f.segment == k && f.what == What::Source)
        {
            let done = step.effects.read.saturating_sub(most);
            let block = u64::from(step.source_block.max(1));
            if done.saturating_add(rope.len()) > fault.at / block * block {
                // The block that cannot be read is not there.
                self.ahead.rope = rope;
                let before = (fault.at / block * block).saturating_sub(done);
                if before == 0 {
                    return Err(self.fault_stop(k, What::Source));
                }
                return Ok(self.ahead.rope.take(before));
            }
        }
        Ok(rope)
    }

    fn fill(&mut self, k: usize, step: &Step, most: u64) -> Result<(), Stop> {
        let Some(unit) = self.unit(step.source) else {
            return Ok(());
        };
        let Some(tape) = unit.tape() else {
            return Ok(());
        };
        let block = u64::from(step.source_block.max(1));
        let mut wanted = most;
        if self.fault.is_none() {
            let more = self.steps.iter().skip(k + 1).take_while(|s| {
                let moves = s.effects.processed > 0 || s.effects.written > 0;
                s.source == step.source && s.source_block == step.source_block && moves
            });
            for s in more {
                wanted = wanted.saturating_add(s.effects.read);
                if wanted >= AT_ONCE {
                    break;
                }
            }
        }
        let blocks = (wanted.min(AT_ONCE) / block).max(1);
        let len = usize::try_from(blocks * block).unwrap_or(0);
        // Large buffers have one length, so that they are used again.
        let mut buffer = self.pool.take(match len as u64 > AT_ONCE / 8 {
            true => len.max(AT_ONCE as usize),
            false => len,
        });
        let to = buffer.bytes_mut().get_mut(..len).unwrap_or_default();
        let n = tape
            .read(step.source_block, to)
            .map_err(|f| Failed::source(k, f))?;
        let bytes = (n as u64 * block).min(len as u64);
        if bytes == 0 {
            let f = check(SenseKey::HardwareError, 0x44, 0x00);
            return Err(Failed::source(k, f));
        }
        unit.0.statistics().read(n as u64);
        self.ahead = Ahead {
            rope: Rope::default(),
            unit: step.source,
            block: step.source_block,
        };
        let piece = Piece::new(Arc::new(buffer), 0..bytes as usize);
        self.ahead.rope.push(piece);
        Ok(())
    }

    /// Gives back what was read ahead: the tape stands where it would without.
    pub(super) fn unread(&mut self) -> Result<(), Stop> {
        let blocks = self.ahead.rope.len() / u64::from(self.ahead.block.max(1));
        self.ahead.rope.clear();
        let unit = self.ahead.unit.take();
        let unit = self.unit(unit).filter(|_| blocks > 0);
        match unit.and_then(|u| u.tape()) {
            Some(tape) => tape.unread(blocks).map_err(|f| Failed::source(0, f)),
            None => Ok(()),
        }
    }
}
