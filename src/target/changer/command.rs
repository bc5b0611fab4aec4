//! The changer as a device.

use super::super::common::{
    Access, Answer, Cdb, CommandInfo, Device, ModePage, Refusal, Unit, invalid_field,
    invalid_parameter, lock, put,
};
use super::{Changer, FIRST_DRIVE, FIRST_SLOT, ROBOT, status};
use crate::error::Result;
use crate::scsi::op::{
    INITIALIZE_ELEMENT_STATUS, MOVE_MEDIUM, POSITION_TO_ELEMENT, PREVENT_ALLOW_MEDIUM_REMOVAL,
    READ_ELEMENT_STATUS,
};
use crate::scsi::{Sense, SenseKey};
use crate::target::{Reply, Request};

const INITIALIZE_ELEMENT_STATUS_WITH_RANGE: u8 = 0x37;

const COMMANDS: &[CommandInfo] = {
    use Access::*;
    use CommandInfo as C;
    &[
        C::new(&[0x07, 0, 0, 0, 0, 0x04], Control),
        C::new(&[0x1e, 0, 0, 0, 0x03, 0x04], Control),
        C::new(
            &[0x2b, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x01, 0x04],
            Control,
        ),
        C::new(
            &[0x37, 0x03, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0x04],
            Control,
        ),
        C::new(
            &[
                0xa5, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x01, 0x04,
            ],
            Control,
        ),
        C::new(
            &[
                0xb8, 0x1f, 0xff, 0xff, 0xff, 0xff, 0x03, 0xff, 0xff, 0xff, 0, 0x04,
            ],
            Status,
        ),
    ]
};

impl Changer {
    /// The robot of a command: address 0 is the one there is.
    fn check_robot(&self, address: u16) -> Result<(), Refusal> {
        match address {
            0 | ROBOT => Ok(()),
            _ => Err(Refusal::sense(SenseKey::IllegalRequest, 0x21, 0x01)),
        }
    }

    fn rescan(&self) -> Result<(), Refusal> {
        let mut inventory = lock(&self.inventory);
        let elsewhere: Vec<_> = self.bays.iter().filter_map(|b| b.drive.path()).collect();
        let kept: Vec<usize> = inventory.home.iter().flatten().copied().collect();
        inventory
            .magazine
            .rescan(&elsewhere, &kept)
            // LOGICAL UNIT FAILURE: the folder cannot be listed.
            .map_err(|_| Refusal::sense(SenseKey::HardwareError, 0x3e, 0x01))
    }
}

impl Device for Changer {
    fn peripheral_type(&self) -> u8 {
        0x08
    }

    fn product(&self) -> &str {
        "VIRTUAL CHANGER"
    }

    fn removable(&self) -> bool {
        true
    }

    fn versions(&self) -> &[u16] {
        &[0x0480] // SMC-3
    }

    fn commands(&self) -> &[CommandInfo] {
        COMMANDS
    }

    fn execute(&self, _unit: &Unit, cdb: &Cdb, _request: &Request<'_>) -> Answer {
        match cdb.opcode() {
            INITIALIZE_ELEMENT_STATUS | INITIALIZE_ELEMENT_STATUS_WITH_RANGE => self.rescan()?,
            // There is no door that could be opened.
            PREVENT_ALLOW_MEDIUM_REMOVAL => {}
            POSITION_TO_ELEMENT => {
                self.check_robot(cdb.u16(2))?;
                self.element(cdb.u16(4))?;
                if cdb.bit(8, 0x01) {
                    return Err(invalid_field(8)); // INVERT
                }
            }
            MOVE_MEDIUM => {
                self.check_robot(cdb.u16(2))?;
                let (from, to) = (self.element(cdb.u16(4))?, self.element(cdb.u16(6))?);
                if cdb.bit(10, 0x01) {
                    return Err(invalid_field(10)); // INVERT
                }
                self.move_medium(from, to)?;
            }
            READ_ELEMENT_STATUS => return status::read(self, cdb),
            _ => return Err(Refusal::sense(SenseKey::IllegalRequest, 0x20, 0x00)),
        }
        Ok(Reply::good())
    }

    fn ready(&self) -> Result<(), Sense> {
        Ok(())
    }

    fn write_protected(&self) -> bool {
        false
    }

    fn mode_pages(&self) -> Vec<ModePage> {
        // Element address assignment: first and number of each kind.
        let mut addresses = vec![0; 18];
        let kinds = [
            (ROBOT, 1),
            (FIRST_SLOT, self.slots()),
            (0, 0),
            (FIRST_DRIVE, self.bays.len()),
        ];
        for (i, (first, number)) in kinds.into_iter().enumerate() {
            put(&mut addresses, 4 * i, 2, first.into());
            put(&mut addresses, 4 * i + 2, 2, number as u64);
        }
        // Device capabilities: slots and drives hold cartridges, and each can be
        // moved from and to both.
        let mut can = vec![0; 18];
        put(&mut can, 0, 1, 0x0a);
        put(&mut can, 3, 1, 0x0a);
        put(&mut can, 5, 1, 0x0a);
        vec![
            ModePage::fixed(0x1d, addresses),
            // Transport geometry: nothing is turned over, one robot.
            ModePage::fixed(0x1e, vec![0; 2]),
            ModePage::fixed(0x1f, can),
        ]
    }

    fn select_header(
        &self,
        specific: u8,
        descriptor: Option<&[u8]>,
        _apply: bool,
    ) -> Result<(), Refusal> {
        match specific != 0 || descriptor.is_some() {
            true => Err(invalid_parameter(2)),
            false => Ok(()),
        }
    }

    fn flush(&self) -> Result<()> {
        Ok(()) // drives write out their own cartridges
    }
}
