//! READ, WRITE, WRITE FILEMARKS: one block for each command, SILI 0.

use super::super::drive::{Read, Room, Written};
use super::ScsiDrive;
use crate::error::{Error, ErrorKind, Result};
use crate::scsi::unit::{LONG, succeeded};
use crate::scsi::{Completion, Data, Sense, SenseKey, Status, op};

/// The least that is asked for, whatever a caller's buffer holds: drives refuse
/// transfers below their shortest block.
const LEAST: usize = 4096;
/// A write that was not looked at since a recovered error came first is sent
/// again so often.
const AGAIN: u32 = 4;

/// What became of a write.
enum Fate {
    /// All of it was taken.
    Taken(Room),
    /// So many bytes or filemarks were not; none: nobody knows how many.
    Not(Option<u64>),
    /// It was not looked at; early warning was met by an earlier one.
    Before,
    /// It was not looked at, and may be sent again.
    Again,
}

impl ScsiDrive {
    pub(super) fn read_block(&mut self, buf: &mut [u8]) -> Result<Read> {
        self.placed()?;
        if buf.len() >= LEAST {
            let n = buf.len().min(self.max_block as usize);
            return self.read_whole(buf.get_mut(..n).unwrap_or_default());
        }
        let mut scratch = [0; LEAST];
        Ok(match self.read_whole(&mut scratch)? {
            Read::Block(n) => match (buf.get_mut(..n), scratch.get(..n)) {
                (Some(to), Some(from)) => {
                    to.copy_from_slice(from);
                    Read::Block(n)
                }
                _ => Read::TooLong(Some(n as u64)),
            },
            other => other,
        })
    }

    /// Passes an object without looking at it; false at the end of data.
    pub(super) fn pass(&mut self) -> Result<bool> {
        self.placed()?;
        let (met, _) = self.read_once(&mut [0; LEAST])?;
        Ok(met != Read::EndOfData)
    }

    /// Reads an object. Some targets cut a block short that is not as long as
    /// was asked for, but say how long it is: it is read again, as that.
    fn read_whole(&mut self, buf: &mut [u8]) -> Result<Read> {
        let (met, arrived) = self.read_once(buf)?;
        let Read::Block(n) = met else { return Ok(met) };
        if n <= arrived && n > 0 {
            return Ok(met);
        }
        let block = self.here()?.checked_sub(1);
        if let (Some(block), Some(exact), true) = (block, buf.get_mut(..n), n > 0) {
            self.go_to(block)?;
            if self.read_once(exact)? == (met, n) {
                return Ok(met);
            }
        }
        self.lose();
        Err(self.error(
            ErrorKind::Scsi,
            format!("The drive read a block of {n} bytes, {arrived} of them arrived"),
        ))
    }

    /// What was met, and how many bytes came.
    fn read_once(&mut self, buf: &mut [u8]) -> Result<(Read, usize)> {
        let asked = buf.len();
        let [.., a, b, c] = (asked as u32).to_be_bytes();
        let cdb = [op::READ_6, 0, a, b, c, 0];
        let done = self.send(true, &cdb, Data::In(buf), LONG)?;
        let met = match (&done.sense, succeeded(&done)) {
            (Some(s), _) if s.is_unit_attention() => None,
            (Some(s), _) if s.is_filemark() => Some(Read::Filemark),
            (Some(s), _) if s.is_end_of_data() => Some(Read::EndOfData),
            (Some(s), _) if s.is_wrong_length() => Some(wrong_length(s, asked, done.transferred)),
            (_, true) => Some(Read::Block(done.transferred)),
            // Some drives tell of the end of the medium while reading, too.
            (Some(s), _) if s.is_early_warning() || s.is_programmable_early_warning() => {
                Some(Read::Block(done.transferred))
            }
            _ => None,
        };
        let Some(met) = met else {
            return Err(self.read_failed(&done));
        };
        if self.counts() {
            match met {
                Read::EndOfData => self.blind.met_end(),
                Read::Filemark => self.counted(true)?,
                Read::Block(_) | Read::TooLong(_) => self.counted(false)?,
            }
        }
        Ok((met, done.transferred))
    }

    fn counted(&mut self, mark: bool) -> Result<()> {
        let name = self.unit.name();
        self.blind.passed(mark).map_err(|e| e.of(name))
    }

    fn read_failed(&mut self, done: &Completion) -> Error {
        let medium = done.sense.as_ref().is_some_and(Sense::is_medium_error);
        let e = self.failed("READ", done);
        match medium {
            false => e,
            true => self
                .error(ErrorKind::Unreadable, "The drive cannot read this block")
                .hint("clean the drive, or try the cartridge in another one")
                .caused_by(crate::scsi::Failure::of(done)),
        }
    }

    pub(super) fn write_blocks(&mut self, data: &[u8], block: usize) -> Result<Written> {
        self.placed()?;
        if block == 0 || block > self.max_block as usize {
            return Err(self
                .error(
                    ErrorKind::Usage,
                    format!(
                        "Found blocks of {block} bytes, the drive and the way to it take 1 to {}",
                        self.max_block
                    ),
                )
                .hint("choose shorter blocks"));
        }
        let mut taken = 0;
        for part in data.chunks(block) {
            let [.., a, b, c] = (part.len() as u32).to_be_bytes();
            let cdb = [op::WRITE_6, 0, a, b, c, 0];
            let room = match self.put("WRITE", &cdb, part)? {
                Fate::Taken(room) => {
                    taken += part.len();
                    if self.counts() {
                        self.blind.wrote(1, false);
                    }
                    room
                }
                Fate::Not(_) => Room::Full,
                Fate::Before | Fate::Again => Room::EarlyWarning,
            };
            if room != Room::Plenty {
                return Ok(Written { taken, room });
            }
        }
        let room = Room::Plenty;
        Ok(Written { taken, room })
    }

    pub(super) fn write_marks(&mut self, count: u32) -> Result<Written> {
        self.placed()?;
        if count > super::LONGEST {
            let text = format!("Found {count} filemarks to write, at most 16777215 are possible");
            return Err(self.error(ErrorKind::Usage, text));
        }
        let [.., a, b, c] = count.to_be_bytes();
        let cdb = [op::WRITE_FILEMARKS_6, 0, a, b, c, 0];
        let (taken, room) = match self.put("WRITE FILEMARKS", &cdb, &[])? {
            Fate::Taken(room) => (u64::from(count), room),
            Fate::Not(left) => {
                let left = left.unwrap_or(u64::from(count));
                (u64::from(count).saturating_sub(left), Room::Full)
            }
            Fate::Before | Fate::Again => (0, Room::EarlyWarning),
        };
        if taken > 0 && self.counts() {
            self.blind.wrote(taken, true);
        }
        Ok(Written {
            taken: taken as usize,
            room,
        })
    }

    fn put(&mut self, what: &str, cdb: &[u8], data: &[u8]) -> Result<Fate> {
        for _ in 0..AGAIN {
            let moved = match data {
                [] => Data::None,
                _ => Data::Out(data),
            };
            let done = self.send(true, cdb, moved, LONG)?;
            match self.fate(&done) {
                None => return Err(self.failed(what, &done)),
                Some(Fate::Again) => {}
                Some(fate) => return Ok(fate),
            }
        }
        Err(self.error(
            ErrorKind::Scsi,
            format!("{what} met a recovered error of an earlier command {AGAIN} times in a row"),
        ))
    }

    /// None: it failed.
    fn fate(&mut self, done: &Completion) -> Option<Fate> {
        let near = |this: &mut Self| {
            this.near_end = true;
            Room::EarlyWarning
        };
        let Some(s) = done.sense.as_ref().filter(|_| done.status != Status::Good) else {
            let room = if self.near_end {
                Room::EarlyWarning
            } else {
                Room::Plenty
            };
            return succeeded(done).then_some(Fate::Taken(room));
        };
        let warned = s.is_early_warning() || s.is_programmable_early_warning();
        if s.deferred {
            // It is about earlier blocks; this command was not looked at.
            return match s.key {
                SenseKey::NoSense | SenseKey::RecoveredError if warned => {
                    near(self);
                    Some(Fate::Before)
                }
                SenseKey::RecoveredError => Some(Fate::Again),
                _ => None,
            };
        }
        if s.is_end_of_medium() {
            self.near_end = true;
            let left = s.information.and_then(|n| u64::try_from(n).ok());
            return Some(Fate::Not(left));
        }
        if warned {
            return Some(Fate::Taken(near(self)));
        }
        let room = if self.near_end {
            Room::EarlyWarning
        } else {
            Room::Plenty
        };
        succeeded(done).then_some(Fate::Taken(room))
    }
}

/// INFORMATION is what was asked for minus what the block has.
fn wrong_length(s: &Sense, asked: usize, transferred: usize) -> Read {
    let asked = asked as u64;
    match s.information.unwrap_or(0) {
        0 if (transferred as u64) < asked => Read::Block(transferred),
        0 => Read::TooLong(None),
        n if n > 0 => Read::Block(asked.saturating_sub(n.unsigned_abs()) as usize),
        n => Read::TooLong(Some(asked.saturating_add(n.unsigned_abs()))),
    }
}
