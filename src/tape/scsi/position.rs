//! READ POSITION in its three forms.

use super::super::drive::Position;
use super::{Place, ScsiDrive, unless_refused};
use crate::error::{Error, ErrorKind, Result};
use crate::scsi::{Unit, op};

/// How a drive tells where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// 64-bit object number, and the number of filemarks.
    Long,
    /// 64-bit object number.
    Extended,
    /// 32-bit object number.
    Short,
    /// Not at all.
    Blind,
}

impl Form {
    /// Best first.
    const TOLD: [Form; 3] = [Form::Long, Form::Extended, Form::Short];

    /// Asks. None: the drive does not know where it stands, or not this form.
    pub(super) fn ask(self, unit: &Unit) -> Result<Option<Position>> {
        let (action, len, allocation) = match self {
            Form::Long => (0x06, 32, 0),
            Form::Extended => (0x08, 32, 32),
            Form::Short => (0x00, 20, 0),
            Form::Blind => return Ok(None),
        };
        let cdb = [op::READ_POSITION, action, 0, 0, 0, 0, 0, 0, allocation, 0];
        let reply = unless_refused(unit.read_in("READ POSITION", &cdb, len))?;
        let Some(reply) = reply else { return Ok(None) };
        if reply.len() < len {
            return Err(Error::damaged(format!(
                "READ POSITION gave {} bytes, expected {len}",
                reply.len()
            ))
            .of(unit.name()));
        }
        Ok(self.parse(&reply))
    }

    /// None: unknown.
    pub(super) fn parse(self, b: &[u8]) -> Option<Position> {
        let flags = *b.first()?;
        let n = |at: usize, len: usize| {
            let field = b.get(at..at + len)?;
            Some(field.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
        };
        let (object, file) = match self {
            // LONU; bit 3 (MPU) is about the filemarks alone.
            Form::Long if flags & 0x04 == 0 => (n(8, 8)?, n(16, 8).filter(|_| flags & 0x08 == 0)),
            // LOLU.
            Form::Extended if flags & 0x04 == 0 => (n(8, 8)?, None),
            Form::Short if flags & 0x04 == 0 => (n(4, 4)?, None),
            _ => return None,
        };
        // At the beginning a drive says that it is there. One that does not is
        // one that answers with zeros whatever happens.
        let bop = flags & 0x80 != 0;
        (object != 0 || bop).then_some(Position {
            object,
            file: if object == 0 { Some(0) } else { file },
            bop: object == 0,
            early_warning: flags & 0x41 != 0,
        })
    }
}

impl ScsiDrive {
    /// Finds out how the drive tells where it stands. One that does not know
    /// is rewound, since then it has to.
    pub(super) fn find_form(&mut self) -> Result<()> {
        for rewound in [false, true] {
            if rewound {
                self.rewind_now()?;
            }
            for form in Form::TOLD {
                if form.ask(&self.unit)?.is_some() {
                    self.form = Some(form);
                    self.place = Place::Known;
                    return Ok(());
                }
            }
        }
        self.form = Some(Form::Blind);
        self.blind.rewound();
        Ok(())
    }

    pub(super) fn where_it_stands(&mut self) -> Result<Position> {
        if self.place == Place::Changed {
            return Err(self.changed());
        }
        let form = self.form.unwrap_or(Form::Blind);
        if form == Form::Blind {
            self.placed()?;
            return Ok(Position {
                object: self.blind.at(),
                file: Some(self.blind.files()),
                bop: self.blind.at() == 0,
                early_warning: self.near_end,
            });
        }
        let at = form.ask(&self.unit)?;
        // A changed cartridge is noticed before its position is told.
        self.notice();
        if self.place == Place::Changed {
            return Err(self.changed());
        }
        let mut at = at.ok_or_else(|| {
            self.error(
                ErrorKind::Scsi,
                "The drive does not know where the cartridge stands",
            )
        })?;
        at.early_warning |= self.near_end;
        Ok(at)
    }
}
