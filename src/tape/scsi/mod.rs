//! A tape drive behind a logical unit.
//!
//! | file | subject |
//! |---|---|
//! | `position` | READ POSITION in its three forms |
//! | `motion` | REWIND, LOCATE, SPACE |
//! | `transfer` | READ, WRITE, WRITE FILEMARKS |
//! | `blind` | drives that cannot tell where they stand: counting |
//! | `status` | what a drive tells about itself without being moved |
//! | `alert` | TapeAlert flags in words |
//!
//! Every command that counts on the present place of the cartridge is sent
//! *carefully*: when somebody changed the cartridge or reset the drive it is
//! not sent again, and nothing goes on until the place is known anew.

mod alert;
mod blind;
mod motion;
mod position;
mod status;
#[cfg(test)]
mod tests;
mod transfer;

pub use alert::{Severity, TapeAlert};
pub use status::{CartridgeTag, DrivePosition, DriveStatus, status};

use super::drive::{Capacity, Drive, DriveInfo, Position, Read, Written};
use crate::error::{Error, ErrorKind, Result};
use crate::scsi::unit::{LONG, SHORT, succeeded};
use crate::scsi::{Changes, Completion, Data, Failure, SenseKey, Unit, device_type, op};
use blind::Blind;
use position::Form;
use std::time::Duration;

/// How long a drive may take to thread a cartridge.
const LOADING: Duration = Duration::from_secs(600);
/// Longest block that READ(6) and WRITE(6) can name.
const LONGEST: u32 = 0xff_ffff;

/// What is known about where the cartridge stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Where the last command left it.
    Known,
    /// The drive was reset, or a command ended badly.
    Lost,
    /// It may be another cartridge.
    Changed,
}

/// How an object is gone to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Locate16,
    Locate10,
    Walk,
}

/// A tape drive behind a logical unit, in variable-block mode.
pub struct ScsiDrive {
    unit: Unit,
    model: String,
    serial: Option<String>,
    max_block: u32,
    /// Unit attentions that were taken into account.
    seen: Changes,
    /// Mode parameters are as they should be.
    ready: bool,
    place: Place,
    /// How positions are told; none until a cartridge was there to ask about.
    form: Option<Form>,
    way: Way,
    blind: Blind,
    /// Early warning was met behind the present place.
    near_end: bool,
    /// The cartridge is held in the drive.
    held: bool,
    reserved: bool,
}

impl ScsiDrive {
    /// The drive behind a unit, with a cartridge or without one.
    pub fn open(unit: Unit) -> Result<Self> {
        let inquiry = unit.inquiry()?;
        if inquiry.device_type != device_type::TAPE {
            return Err(Error::usage(format!(
                "This is a {}, expected a tape drive",
                device_type::name(inquiry.device_type)
            ))
            .of(unit.name())
            .hint("`ntbak probe` tells what a unit is"));
        }
        Ok(Self {
            model: format!("{} {}", inquiry.vendor, inquiry.product)
                .trim()
                .to_owned(),
            serial: unit.serial()?,
            max_block: 0,
            seen: unit.changes(),
            ready: false,
            place: Place::Lost,
            form: None,
            way: Way::Locate16,
            blind: Blind::default(),
            near_end: false,
            held: false,
            reserved: false,
            unit,
        })
    }

    /// The unit behind it.
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    /// True when the drive cannot say where it stands: no copy manager can be
    /// followed on it.
    pub fn is_blind(&mut self) -> Result<bool> {
        self.prepare()?;
        Ok(self.form == Some(Form::Blind))
    }

    /// Keeps other hosts away (RESERVE(6)) until the drive is let go. False
    /// where the drive does not know reservations. A copy manager that comes
    /// by its own port is kept away as well.
    pub fn reserve(&mut self) -> Result<bool> {
        let done = self.unit.run_plain("RESERVE", &plain(op::RESERVE_6), SHORT);
        self.reserved = unless_refused(done)?.is_some();
        Ok(self.reserved)
    }

    fn error(&self, kind: ErrorKind, what: impl Into<String>) -> Error {
        Error::new(kind, what).of(self.unit.name())
    }

    /// Takes into account what unit attentions told since the last command.
    fn notice(&mut self) {
        let now = self.unit.changes();
        if now == self.seen {
            return;
        }
        if now.medium != self.seen.medium {
            self.place = Place::Changed;
        } else if now.resets != self.seen.resets && self.place == Place::Known {
            self.place = Place::Lost;
        }
        // A reset, another cartridge or another host may have changed the mode.
        self.ready = false;
        self.seen = now;
    }

    /// Sends a command. With `careful` a changed cartridge or a reset ends it.
    fn send(
        &mut self,
        careful: bool,
        cdb: &[u8],
        data: Data<'_>,
        timeout: Duration,
    ) -> Result<Completion> {
        let done = match careful {
            true => self.unit.careful().send(cdb, data, timeout),
            false => self.unit.send(cdb, data, timeout),
        };
        self.notice();
        if done.is_err() {
            // Nobody knows whether it was executed.
            self.lose();
        }
        done
    }

    fn lose(&mut self) {
        if self.place == Place::Known {
            self.place = Place::Lost;
        }
    }

    /// The error of a command that ended badly, and what it means for us.
    fn failed(&mut self, what: &str, done: &Completion) -> Error {
        let failure = Failure::of(done);
        let e = match &done.sense {
            Some(s) if s.is_no_medium() => {
                self.place = Place::Changed;
                self.ready = false;
                return no_cartridge(self.unit.name()).caused_by(failure);
            }
            Some(s) if s.deferred => self
                .error(
                    ErrorKind::Scsi,
                    "What was written earlier did not reach the medium",
                )
                .hint("nothing behind the last filemark is safe; go on from there with --resume")
                .caused_by(failure),
            _ => failure.error(self.unit.name(), format!("{what} failed")),
        };
        let key = done.sense.as_ref().map(|s| s.key);
        if matches!(
            key,
            None | Some(
                SenseKey::MediumError
                    | SenseKey::HardwareError
                    | SenseKey::AbortedCommand
                    | SenseKey::NotReady
            )
        ) || done.sense.as_ref().is_some_and(|s| s.deferred)
        {
            self.lose();
        }
        e
    }

    /// Fails unless the present place is known.
    fn placed(&self) -> Result<()> {
        match self.place {
            Place::Known => Ok(()),
            Place::Changed => Err(self.changed()),
            Place::Lost => Err(self
                .error(
                    ErrorKind::Scsi,
                    "The cartridge stands somewhere unknown since the drive was reset or failed",
                )
                .hint("begin again; an unfinished backup goes on with --resume")),
        }
    }

    fn changed(&self) -> Error {
        self.error(
            ErrorKind::Scsi,
            "The cartridge may be another one than before",
        )
        .hint("somebody took it out or put it in; begin again with the right one")
    }

    /// Waits for the cartridge and puts the drive into the mode that all
    /// commands here expect.
    fn prepare(&mut self) -> Result<()> {
        self.notice();
        if self.ready {
            return Ok(());
        }
        // What was told about times before this drive was used is no news.
        let first = self.form.is_none();
        self.unit.wait_ready(LOADING).map_err(|e| self.absent(e))?;
        self.limits()?;
        self.variable()?;
        let hold = self.unit.run_plain("PREVENT MEDIUM REMOVAL", &HOLD, SHORT);
        self.held = unless_refused(hold)?.is_some();
        self.notice();
        if first {
            self.find_form()?;
            self.notice();
        }
        self.ready = true;
        Ok(())
    }

    /// No cartridge is an error of its own.
    fn absent(&self, e: Error) -> Error {
        match Failure::sense_behind(&e) {
            Some(s) if s.is_no_medium() => {
                let cause = Failure::behind(&e).cloned();
                let absent = no_cartridge(self.unit.name());
                match cause {
                    Some(c) => absent.caused_by(c),
                    None => absent,
                }
            }
            _ => e,
        }
    }

    fn limits(&mut self) -> Result<()> {
        let what = "READ BLOCK LIMITS";
        let reply = self.unit.read_in(what, &plain(op::READ_BLOCK_LIMITS), 6);
        let most = match unless_refused(reply)?.as_deref() {
            Some([_, a, b, c, ..]) => u32::from_be_bytes([0, *a, *b, *c]),
            _ => 0,
        };
        // 0: no limit but that of the commands.
        let most = if most == 0 { LONGEST } else { most };
        let way = u32::try_from(self.unit.max_transfer()).unwrap_or(u32::MAX);
        self.max_block = most.min(way).min(LONGEST);
        Ok(())
    }

    /// Block length 0, buffered mode on.
    fn variable(&mut self) -> Result<()> {
        let Some(mut mode) = mode(&self.unit)? else {
            return Ok(());
        };
        let buffered = mode.device_specific & 0x70 != 0;
        let fixed = mode.block_len().filter(|&n| n != 0);
        if fixed.is_none() && buffered {
            return Ok(());
        }
        mode.medium_type = 0;
        mode.pages.clear();
        mode.device_specific = mode.device_specific & 0x0f | 0x10;
        if let Some([_, blocks @ .., _, a, b, c]) = &mut mode.block_descriptor {
            blocks.fill(0);
            (*a, *b, *c) = (0, 0, 0);
        }
        match (unless_refused(self.unit.mode_select(&mode))?, fixed) {
            (None, Some(n)) => Err(self
                .error(
                    ErrorKind::Unsupported,
                    format!("The drive insists on blocks of {n} bytes, expected variable blocks"),
                )
                .hint("set it to variable blocks by its own means")),
            _ => Ok(()),
        }
    }
}

impl Drive for ScsiDrive {
    fn name(&self) -> &str {
        self.unit.name()
    }

    fn info(&mut self) -> Result<DriveInfo> {
        self.prepare()?;
        Ok(DriveInfo {
            model: self.model.clone(),
            serial: self.serial.clone(),
            max_block: self.max_block,
            write_protected: mode(&self.unit)?.is_some_and(|m| m.write_protected()),
        })
    }

    fn capacity(&mut self) -> Result<Option<Capacity>> {
        self.prepare()?;
        status::capacity(&self.unit)
    }

    fn rewind(&mut self) -> Result<()> {
        self.prepare()?;
        self.rewind_now()
    }

    fn locate(&mut self, object: u64) -> Result<()> {
        self.prepare()?;
        self.go_to(object)
    }

    fn end_of_data(&mut self) -> Result<()> {
        self.prepare()?;
        self.space_to_end()
    }

    fn space_filemarks(&mut self, count: i64) -> Result<()> {
        self.prepare()?;
        self.over_filemarks(count)
    }

    fn position(&mut self) -> Result<Position> {
        self.prepare()?;
        self.where_it_stands()
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<Read> {
        self.prepare()?;
        self.read_block(buf)
    }

    fn write(&mut self, data: &[u8], block: usize) -> Result<Written> {
        self.prepare()?;
        self.write_blocks(data, block)
    }

    fn write_filemarks(&mut self, count: u32) -> Result<Written> {
        self.prepare()?;
        self.write_marks(count)
    }

    fn load(&mut self) -> Result<()> {
        if let Err(e) = self.unit.wait_ready(LOADING) {
            match Failure::sense_behind(&e).map(|s| s.key) {
                Some(SenseKey::NotReady) => {}
                _ => return Err(e),
            }
            let load = [op::LOAD_UNLOAD, 0, 0, 0, 1, 0];
            let done = self.unit.run_plain("LOAD", &load, LONG);
            unless_refused(done).map_err(|e| self.absent(e))?;
        }
        self.ready = false;
        self.prepare()?;
        self.rewind_now()
    }

    fn unload(&mut self) -> Result<()> {
        self.let_go();
        let unload = plain(op::LOAD_UNLOAD);
        // A drive without a cartridge may take the command all the same.
        self.unit.test_ready().map_err(|e| self.absent(e))?;
        let done = self.send(false, &unload, Data::None, LONG)?;
        if !succeeded(&done) {
            return Err(self.failed("UNLOAD", &done));
        }
        self.place = Place::Changed;
        self.ready = false;
        Ok(())
    }
}

impl ScsiDrive {
    fn let_go(&mut self) {
        if std::mem::take(&mut self.held) {
            let allow = plain(op::PREVENT_ALLOW_MEDIUM_REMOVAL);
            let _ = self.unit.run_plain("ALLOW MEDIUM REMOVAL", &allow, LET_GO);
        }
    }
}

/// Giving up what is held is no reason to wait long.
const LET_GO: Duration = Duration::from_secs(10);
const HOLD: [u8; 6] = [op::PREVENT_ALLOW_MEDIUM_REMOVAL, 0, 0, 0, 1, 0];

impl Drop for ScsiDrive {
    fn drop(&mut self) {
        self.let_go();
        if self.reserved {
            let _ = self
                .unit
                .run_plain("RELEASE", &plain(op::RELEASE_6), LET_GO);
        }
    }
}

fn no_cartridge(name: &str) -> Error {
    Error::not_found("There is no cartridge in the drive")
        .of(name)
        .hint("put one in")
}

/// A command block of 6 bytes without parameters.
fn plain(code: u8) -> [u8; 6] {
    [code, 0, 0, 0, 0, 0]
}

/// None when the unit said that it does not do this.
fn unless_refused<T>(r: Result<T>) -> Result<Option<T>> {
    match r {
        Ok(v) => Ok(Some(v)),
        Err(e) => match Failure::sense_behind(&e) {
            Some(s) if s.is_not_supported() => Ok(None),
            _ => Err(e),
        },
    }
}

/// Mode parameters without pages, or with all where the drive insists; none
/// when it has none.
fn mode(unit: &Unit) -> Result<Option<crate::scsi::ModeData>> {
    match unless_refused(unit.mode_sense(0, 0))? {
        Some(m) => Ok(Some(m)),
        None => unless_refused(unit.mode_sense(0x3f, 0)),
    }
}
