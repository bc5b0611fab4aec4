//! A copy manager: found, asked what it can do, and put to work.

use super::unit;
use crate::copy::{Cscd, Limits, Refusal};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::Observer;
use crate::scsi::{Failure, Forwarded, Sense, SenseKey, Status, Unit};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// A copy of a command's size takes minutes at most; a library that first has
/// to calibrate a drive, longer.
const TIMEOUT: Duration = Duration::from_secs(4 * 3600);
/// How often COPY STATUS is asked.
const POLL: Duration = Duration::from_millis(500);

/// A copy manager that moves data between one disk and one tape.
pub struct Engine {
    manager: Unit,
    cscds: [Cscd; 2],
    /// What it takes, as far as it has shown.
    pub limits: Limits,
    next_id: AtomicU8,
}

/// Which way data is to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Disk to tape.
    Backup,
    /// Tape to disk.
    Restore,
}

/// Why a copy failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was not begun: more was asked than the copy manager takes.
    Refused(Refusal),
    /// A unit had something to tell first, such as a reset, or was busy.
    Attention,
    /// The source could not be read, in this segment if known.
    Source(Option<u16>),
    /// The tape is nearly full; what was written is good.
    EarlyWarning,
    /// Anything else.
    Other,
}

/// A copy that failed.
#[derive(Debug)]
pub struct CopyFailure {
    /// The sentence.
    pub error: Error,
    /// What to do about it.
    pub cause: Cause,
}

impl CopyFailure {
    /// True when a unit said that its medium was changed.
    pub fn medium_changed(&self) -> bool {
        Failure::sense_behind(&self.error).is_some_and(|s| {
            let all = [Some(s.clone()), s.of_source(), s.of_destination()];
            all.into_iter().flatten().any(|s| s.is_medium_changed())
        })
    }
}

impl From<Error> for CopyFailure {
    fn from(error: Error) -> Self {
        let cause = Failure::sense_behind(&error).map_or(Cause::Other, cause_of);
        Self { error, cause }
    }
}

/// BUSY or TASK SET FULL of a unit that took part.
fn is_busy(f: &Forwarded) -> bool {
    matches!(Status::of(f.status), Status::Busy | Status::TaskSetFull)
}

fn cause_of(s: &Sense) -> Cause {
    match s.key {
        SenseKey::UnitAttention => Cause::Attention,
        SenseKey::CopyAborted => {
            let tape = s.of_destination();
            if tape
                .as_ref()
                .is_some_and(|t| t.is_early_warning() || t.is_end_of_medium())
            {
                Cause::EarlyWarning
            } else if let Some(r) = Refusal::of(s.code()) {
                Cause::Refused(r)
            } else if s
                .of_source()
                .is_some_and(|d| d.is_medium_error() || d.key == SenseKey::HardwareError)
            {
                Cause::Source(s.segment())
            } else if [s.of_source(), tape].iter().flatten().any(Sense::is_reset)
                || [&s.source, &s.destination]
                    .into_iter()
                    .flatten()
                    .any(is_busy)
            {
                Cause::Attention
            } else {
                Cause::Other
            }
        }
        _ => Refusal::of(s.code()).map_or(Cause::Other, Cause::Refused),
    }
}

impl Engine {
    /// Looks for a copy manager at the tape, then at the disk. The error says
    /// of each why it cannot.
    pub fn find(disk: &Unit, tape: &Unit, disk_block: u32, way: Way) -> Result<Engine> {
        let known = [disk.designators()?, tape.designators()?];
        let cscds = |limits: &Limits| -> Result<[Cscd; 2]> {
            let [of_disk, of_tape] = &known;
            Ok([
                Cscd::disk(unit::address(disk, of_disk, limits)?, disk_block),
                Cscd::tape(unit::address(tape, of_tape, limits)?),
            ])
        };
        let mut reasons = Vec::new();
        for manager in [tape, disk] {
            match Self::at(manager, cscds, disk_block, way) {
                Ok(engine) => return Ok(engine),
                Err(e) => reasons.push(format!("{}: {}", manager.name(), e.message())),
            }
        }
        Err(Error::unsupported(format!(
            "No copy manager can copy {} ({})",
            match way {
                Way::Backup => "from the disk to the tape",
                Way::Restore => "from the tape to the disk",
            },
            reasons.join("; ")
        ))
        .hint("--mover host moves the data through this machine; the tape is the same"))
    }

    fn at(
        manager: &Unit,
        cscds: impl Fn(&Limits) -> Result<[Cscd; 2]>,
        disk_block: u32,
        way: Way,
    ) -> Result<Engine> {
        let limits = unit::copy_limits(manager)?
            .ok_or_else(|| Error::unsupported("it has no copy manager"))?;
        match way {
            Way::Backup => limits.check_backup(u64::from(disk_block))?,
            Way::Restore => limits.check_restore(u64::from(disk_block))?,
        }
        Ok(Engine {
            manager: manager.careful(),
            cscds: cscds(&limits)?,
            limits,
            next_id: AtomicU8::new(1),
        })
    }

    /// Disk and tape, as every command names them.
    pub fn cscds(&self) -> &[Cscd; 2] {
        &self.cscds
    }

    /// The unit that the commands go to.
    pub fn name(&self) -> &str {
        self.manager.name()
    }

    /// Sends a command and waits for its end. `meanwhile` is called once when
    /// it was sent; what was written so far is told to the observer, all of
    /// `bytes` when it ended well.
    pub fn run(
        &self,
        list: impl Fn(u8) -> Result<Vec<u8>>,
        bytes: u64,
        observer: &dyn Observer,
        meanwhile: impl FnOnce(),
    ) -> std::result::Result<(), CopyFailure> {
        // 0 is left to those who use no list ids.
        let id = self
            .next_id
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                Some(if n == 255 { 1 } else { n + 1 })
            })
            .unwrap_or(1);
        let list = list(id)?;
        let mut told = 0;
        let ended = std::thread::scope(|s| {
            let (tx, rx) = channel();
            let manager = &self.manager;
            s.spawn(move || tx.send(manager.extended_copy(&list, TIMEOUT)));
            meanwhile();
            let mut aborted = false;
            loop {
                match rx.recv_timeout(POLL) {
                    Ok(end) => return end,
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(
                            Error::new(ErrorKind::Scsi, "The copy was given up").of(self.name())
                        );
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                }
                if observer.cancelled() && !aborted {
                    aborted = true;
                    // Where this is not known, the copy runs to its end.
                    if self.manager.abort_copy(u32::from(id)).is_err() {
                        let _ = self.manager.transport().abort_all();
                    }
                }
                if let Ok(status) = self.manager.copy_status(id)
                    && let Some(written) = status.bytes
                {
                    let now = written.min(bytes);
                    observer.advance(now.saturating_sub(told));
                    told = told.max(now);
                }
            }
        });
        match ended {
            Ok(()) => {
                observer.advance(bytes - told);
                Ok(())
            }
            Err(_) if observer.cancelled() => Err(Error::interrupted().into()),
            Err(e) => Err(e.into()),
        }
    }
}
