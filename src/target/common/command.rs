//! What a unit knows about its commands: their names, what the bits of the
//! command block mean, and what a reservation says to them.

use super::cdb::{Cdb, byte};
use super::refusal::{Refusal, invalid_field};
use crate::scsi::SenseKey;

/// What a command does, as reservations and write protection see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Always allowed; decides itself (INQUIRY, REQUEST SENSE, PERSISTENT RESERVE).
    Always,
    /// Tells about the unit: stopped by RESERVE of another nexus only.
    Status,
    /// Reads the medium or what belongs to it.
    Read,
    /// Changes the unit, not the medium.
    Control,
    /// Writes the medium.
    Write,
}

/// One command of a unit.
#[derive(Clone, Copy, Debug)]
pub struct CommandInfo {
    /// Service action, for operation codes that have them in byte 1.
    pub action: Option<u8>,
    /// CDB usage data as REPORT SUPPORTED OPERATION CODES gives it: operation
    /// code, then a mask of the bits that are looked at.
    pub usage: &'static [u8],
    /// What it does.
    pub access: Access,
}

impl CommandInfo {
    /// A command without service action.
    pub const fn new(usage: &'static [u8], access: Access) -> Self {
        Self {
            action: None,
            usage,
            access,
        }
    }

    /// A service action.
    pub const fn action(action: u8, usage: &'static [u8], access: Access) -> Self {
        Self {
            action: Some(action),
            usage,
            access,
        }
    }

    /// Operation code.
    pub fn opcode(&self) -> u8 {
        byte(self.usage, 0)
    }
}

/// Finds the entry for a command block. No such operation code is 5/20/00, no
/// such service action 5/24/00.
pub fn find<'a>(
    mut all: impl Iterator<Item = &'a CommandInfo>,
    cdb: &Cdb,
) -> Result<&'a CommandInfo, Refusal> {
    let mut known = false;
    let found = all.find(|c| {
        let op = c.opcode() == cdb.opcode();
        known |= op;
        op && c.action.is_none_or(|a| a == cdb.service_action())
    });
    match found {
        Some(c) => Ok(c),
        None if known => Err(invalid_field(1)),
        None => Err(Refusal::sense(SenseKey::IllegalRequest, 0x20, 0x00)),
    }
}
