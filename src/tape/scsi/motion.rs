//! REWIND, LOCATE, SPACE, and getting there where a drive has no LOCATE.

use super::position::Form;
use super::{Place, ScsiDrive, Way, plain};
use crate::error::{Error, ErrorKind, Result};
use crate::scsi::unit::{LONG, succeeded};
use crate::scsi::{Completion, Data, op};

/// CODE of SPACE.
const FILEMARKS: u8 = 1;
const END: u8 = 3;
/// Counts that fit into SPACE(6).
const NEAR: std::ops::Range<i64> = -0x80_0000..0x80_0000;

impl ScsiDrive {
    /// The drive does not tell where it stands.
    pub(super) fn counts(&self) -> bool {
        self.form == Some(Form::Blind)
    }

    pub(super) fn rewind_now(&mut self) -> Result<()> {
        let done = self.send(false, &plain(op::REWIND), Data::None, LONG)?;
        if !succeeded(&done) {
            return Err(self.failed("REWIND", &done));
        }
        if self.place != Place::Known {
            self.blind.forget();
        }
        self.place = Place::Known;
        self.near_end = false;
        self.blind.rewound();
        Ok(())
    }

    pub(super) fn go_to(&mut self, object: u64) -> Result<()> {
        if self.place == Place::Changed {
            return Err(self.changed());
        }
        self.near_end = false;
        loop {
            let mut cdb = [0; 16];
            let len = match self.way {
                Way::Walk => return self.walk_to(object),
                _ if self.counts() => return self.walk_to(object),
                Way::Locate16 => {
                    cdb[0] = op::LOCATE_16;
                    cdb[4..12].copy_from_slice(&object.to_be_bytes());
                    16
                }
                Way::Locate10 => {
                    let Ok(object) = u32::try_from(object) else {
                        return Err(self.error(
                            ErrorKind::Unsupported,
                            format!("The drive has no LOCATE that reaches object {object}"),
                        ));
                    };
                    cdb[0] = op::LOCATE_10;
                    cdb[3..7].copy_from_slice(&object.to_be_bytes());
                    10
                }
            };
            let cdb = cdb.get(..len).unwrap_or(&cdb);
            let done = self.send(false, cdb, Data::None, LONG)?;
            if self.place == Place::Changed {
                return Err(self.changed());
            }
            if succeeded(&done) {
                self.place = Place::Known;
                return Ok(());
            }
            match &done.sense {
                Some(s) if s.is_unknown_command() => {
                    self.way = match self.way {
                        Way::Locate16 => Way::Locate10,
                        _ => Way::Walk,
                    };
                }
                Some(s) if s.is_end_of_data() || s.is_medium_error() && s.eom => {
                    self.place = Place::Known;
                    return Err(self.behind_end(object));
                }
                _ => return Err(self.failed(&format!("LOCATE to object {object}"), &done)),
            }
        }
    }

    fn behind_end(&self, object: u64) -> Error {
        self.error(
            ErrorKind::NotFound,
            format!("Object {object} lies behind the end of data"),
        )
    }

    pub(super) fn space_to_end(&mut self) -> Result<()> {
        if self.place == Place::Changed {
            return Err(self.changed());
        }
        if self.counts() {
            return self.walk_to_end();
        }
        let done = self.send(false, &space(END, 0), Data::None, LONG)?;
        if self.place == Place::Changed {
            return Err(self.changed());
        }
        let there = done.sense.as_ref().is_some_and(|s| s.is_end_of_data());
        if !succeeded(&done) && !there {
            return Err(self.failed("SPACE to the end of data", &done));
        }
        self.place = Place::Known;
        Ok(())
    }

    pub(super) fn over_filemarks(&mut self, count: i64) -> Result<()> {
        self.placed()?;
        if count == 0 {
            return Ok(());
        }
        self.near_end = false;
        if !self.counts() {
            return match self.space_filemarks_now(count)? {
                true => Ok(()),
                false => Err(self.too_few()),
            };
        }
        match count > 0 {
            true => self.walk_over(count.unsigned_abs()),
            false => match self.blind.back(count.unsigned_abs()) {
                // Not backwards: where such drives end up then is not sure.
                Some(to) => self.walk_to(to),
                None => {
                    self.rewind_now()?;
                    Err(self.too_few())
                }
            },
        }
    }

    fn too_few(&self) -> Error {
        self.error(
            ErrorKind::NotFound,
            "There are fewer filemarks than asked for",
        )
    }

    /// False when the end of data or the beginning came first.
    fn space_filemarks_now(&mut self, count: i64) -> Result<bool> {
        let far;
        let near;
        let cdb: &[u8] = match NEAR.contains(&count) {
            true => {
                near = space(FILEMARKS, count);
                &near
            }
            false => {
                far = space_16(FILEMARKS, count);
                &far
            }
        };
        let done = self.send(true, cdb, Data::None, LONG)?;
        if succeeded(&done) {
            return Ok(true);
        }
        match &done.sense {
            Some(s) if s.is_unit_attention() => Err(self.failed("SPACE over filemarks", &done)),
            Some(_) if ran_out(&done) => Ok(false),
            _ => Err(self.failed("SPACE over filemarks", &done)),
        }
    }

    /// Blind: over so many filemarks, to an object that is known.
    fn hop(&mut self, count: i64, to: u64) -> Result<()> {
        match self.space_filemarks_now(count)? {
            true => {
                self.blind.went(to);
                Ok(())
            }
            false => {
                self.lose();
                Err(self.error(
                    ErrorKind::Damaged,
                    format!("The drive did not find {count} filemarks that it has passed before"),
                ))
            }
        }
    }

    fn walk_to(&mut self, object: u64) -> Result<()> {
        if self.place != Place::Known || object < self.here()? {
            self.rewind_now()?;
        }
        if !self.counts() {
            // It tells where it stands, but has no LOCATE.
            while self.here()? < object {
                if !self.pass()? {
                    return Err(self.behind_end(object));
                }
            }
            return Ok(());
        }
        if let Some((count, to)) = self.blind.marks_until(object) {
            self.hop(count as i64, to)?;
        }
        while self.blind.at() < object {
            if !self.pass()? {
                return Err(self.behind_end(object));
            }
        }
        Ok(())
    }

    pub(super) fn here(&mut self) -> Result<u64> {
        match self.counts() {
            true => Ok(self.blind.at()),
            false => self.where_it_stands().map(|p| p.object),
        }
    }

    fn walk_to_end(&mut self) -> Result<()> {
        if self.place != Place::Known {
            self.rewind_now()?;
        }
        self.walk_to(self.blind.end().unwrap_or(self.blind.seen()))?;
        if self.blind.end().is_none() {
            while self.pass()? {}
        }
        Ok(())
    }

    fn walk_over(&mut self, count: u64) -> Result<()> {
        if let Some(to) = self.blind.ahead(count) {
            return self.hop(i64::try_from(count).unwrap_or(i64::MAX), to);
        }
        let target = self.blind.files().saturating_add(count);
        // What was passed before is known not to have so many.
        let seen = self.blind.seen();
        self.walk_to(seen)?;
        while self.blind.files() < target {
            if !self.pass()? {
                return Err(self.too_few());
            }
        }
        Ok(())
    }
}

/// The end of data or the beginning of the cartridge ended the motion. Some
/// drives say it with EOM alone.
fn ran_out(done: &Completion) -> bool {
    done.sense.as_ref().is_some_and(|s| {
        s.is_end_of_data()
            || s.is_beginning()
            || s.key == crate::scsi::SenseKey::NoSense && s.eom && s.code() == 0
    })
}

fn space(code: u8, count: i64) -> [u8; 6] {
    let [.., a, b, c] = count.to_be_bytes();
    [op::SPACE_6, code, a, b, c, 0]
}

fn space_16(code: u8, count: i64) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = op::SPACE_16;
    cdb[1] = code;
    cdb[4..12].copy_from_slice(&count.to_be_bytes());
    cdb
}
