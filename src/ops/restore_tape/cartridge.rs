//! What one cartridge gives: by the copy manager, and by the host where that
//! fails.

use super::pieces::cut;
use super::{Job, is_loss};
use crate::copy::{Geometry, Restore, RestoreCommand, TapeFile, Wanted};
use crate::device::Source;
use crate::error::{Error, ErrorKind, Result};
use crate::ops::engine::{Cause, Engine};
use crate::units::ByteRange;
use std::collections::VecDeque;

/// Bytes that the host moves at a time.
const STEP: u64 = 1 << 20;
/// How often a command is sent again that was not begun.
const ATTEMPTS: u32 = 3;
/// Tape blocks that the host looks through for the one that cannot be read.
const SUSPECTS: u64 = 64;

impl Job<'_> {
    pub(super) fn cartridge(
        &mut self,
        engine: &mut Engine,
        wanted: &[Wanted],
        files: &[TapeFile],
        geometry: &Geometry,
    ) -> Result<()> {
        let mut queue = VecDeque::from([wanted.to_vec()]);
        // The host has looked for bad blocks before this byte of the stream.
        let mut passed = 0;
        while let Some(stretch) = queue.pop_front() {
            if let Some((from, bad)) = self.stretch(engine, &stretch, files, geometry, passed)? {
                let end = self.search(&cut(&stretch, bad, u64::MAX, self.unit()), bad)?;
                passed = end;
                let behind = cut(&stretch, end, u64::MAX, self.unit());
                // How far the command came is not known.
                let before = cut(&stretch, from, bad, self.unit());
                queue.push_front(behind);
                queue.push_front(before);
            }
        }
        Ok(())
    }

    /// All of it by the copy manager; or, once the tape could not be read, the places
    /// in the stream where that command began and where the host has to look.
    fn stretch(
        &mut self,
        engine: &mut Engine,
        wanted: &[Wanted],
        files: &[TapeFile],
        geometry: &Geometry,
        passed: u64,
    ) -> Result<Option<(u64, u64)>> {
        let mut plan: Restore<std::vec::IntoIter<Wanted>> =
            Restore::new(wanted.to_vec(), files.to_vec(), &engine.limits, geometry)?;
        let (mut again, mut attempts) = (None, 0);
        // Object at which the tape stands, where that is sure.
        let mut stands = None;
        while let Some(command) = again
            .take()
            .map_or_else(|| plan.next().transpose(), |c| Ok(Some(c)))?
        {
            if self.observer.cancelled() {
                return Err(Error::interrupted());
            }
            if command.by_host {
                self.by_host(&command.pieces)?;
                self.reached(&command.pieces)?;
                stands = None;
                continue;
            }
            // The plan counts on where the command before it left the tape.
            let locates = command.locate.is_some() || !command.begins_with_locate();
            if locates && stands != Some(command.object) {
                self.tape.with_drive(|d| d.locate(command.object))?;
            }
            let ended = engine.run(
                |id| command.parameter_list(id, engine.cscds()),
                command.bytes,
                self.observer,
                || {},
            );
            stands = None;
            let failure = match ended {
                Ok(()) => {
                    stands = self
                        .tape
                        .with_drive(|d| d.position())
                        .ok()
                        .map(|p| p.object);
                    self.summary.copied_bytes += command.bytes;
                    self.summary.commands += 1;
                    self.reached(&command.pieces)?;
                    attempts = 0;
                    continue;
                }
                Err(f) if f.error.kind() == ErrorKind::Interrupted => return Err(f.error),
                Err(f) => f,
            };
            match failure.cause {
                Cause::Refused(what) => {
                    let less = engine.limits.halved(what, &command.used());
                    engine.limits = less.ok_or(failure.error)?;
                    // Everything from this command on, with less in each.
                    let from = command.pieces.first().map_or(0, |p| p.offset);
                    let rest = cut(wanted, from, u64::MAX, self.unit());
                    plan = Restore::new(rest, files.to_vec(), &engine.limits, geometry)?;
                }
                // Another cartridge may be there: nothing of it is for this disk.
                _ if failure.medium_changed() => return Err(failure.error),
                Cause::Attention if attempts < ATTEMPTS => {
                    attempts += 1;
                    again = Some(command);
                }
                cause => {
                    self.observer.note(&format!("{}", failure.error));
                    if let Cause::Source(_) = cause
                        && let Some(bad) = self.suspect(&command, files, passed)
                    {
                        let from = command.pieces.first().map_or(0, |p| p.offset);
                        return Ok(Some((from, bad)));
                    }
                    // Where the copy manager fails, the host finds out what can be read.
                    self.by_host(&command.pieces)?;
                    self.reached(&command.pieces)?;
                }
            }
        }
        Ok(None)
    }

    /// Where in the stream the host looks for what a command could not read: a
    /// block before the one at which the tape stands now. None when that cannot be.
    fn suspect(&self, command: &RestoreCommand, files: &[TapeFile], passed: u64) -> Option<u64> {
        let at = self.tape.with_drive(|d| d.position()).ok()?.object;
        let block = u64::from(self.tape.block_bytes());
        let file = files.iter().rev().find(|f| f.first_object <= at)?;
        let stands = file.offset + (at - file.first_object).checked_mul(block)?;
        let first = command.pieces.first()?.offset / block * block;
        let last = command.pieces.last()?;
        let bad = stands.saturating_sub(block).max(first);
        (passed <= bad && bad < last.offset + last.bytes).then_some(bad)
    }

    /// Gives these pieces block by block until one cannot be read; returns the place
    /// in the stream behind what was given.
    fn search(&mut self, wanted: &[Wanted], from: u64) -> Result<u64> {
        let block = u64::from(self.tape.block_bytes());
        let lost = self.summary.lost.len();
        let mut at = from;
        for _ in 0..SUSPECTS {
            let end = at + block;
            self.by_host(&cut(wanted, at, end, self.unit()))?;
            at = end;
            if self.summary.lost.len() > lost {
                break;
            }
        }
        Ok(at)
    }

    /// Gives pieces through this machine. A block of the tape that cannot be read
    /// costs what it holds, with `--partial`.
    fn by_host(&mut self, pieces: &[Wanted]) -> Result<()> {
        let unit = self.unit();
        let block = u64::from(self.tape.block_bytes());
        let mut buf = vec![0; STEP as usize];
        for p in pieces {
            let mut done = 0;
            // Up to here one block at a time.
            let mut slow = 0;
            while done < p.bytes {
                let offset = p.offset + done;
                let most = match offset < slow {
                    true => block - offset % block,
                    false => STEP,
                };
                let n = (p.bytes - done).min(most).min(STEP);
                let at = p.lba * unit + done;
                match self.tape.read_at(offset, &mut buf[..n as usize]) {
                    Ok(()) => {
                        self.target.write_at(at, &buf[..n as usize])?;
                        self.summary.host_bytes += n;
                    }
                    Err(e) if self.partial && is_loss(&e) => {
                        let within = offset % block + n <= block;
                        if !within {
                            slow = offset + n;
                            continue;
                        }
                        self.lose(at, n)?;
                    }
                    Err(e) => return Err(e.hint("--partial restores what is there")),
                }
                done += n;
            }
        }
        Ok(())
    }

    pub(super) fn lose(&mut self, at: u64, len: u64) -> Result<()> {
        self.target.zero_at(at, len)?;
        match self.summary.lost.last_mut() {
            Some(l) if l.end == at => l.end += len,
            _ => self.summary.lost.push(ByteRange {
                start: at,
                end: at + len,
            }),
        }
        Ok(())
    }
}
