//! What a kind of unit adds to what all units share.

use super::command::CommandInfo;
use super::refusal::{Answer, Refusal};
use super::{Attentions, Cdb, Unit};
use crate::error::Result;
use crate::scsi::Sense;
use crate::target::copy::{CopyDisk, CopyTape};
use crate::target::lun::{Nexus, Reply, Request};
use std::any::Any;
use std::path::Path;
use std::sync::Arc;

/// A disk, a tape drive or a medium changer behind a [`Unit`]. The unit answers
/// everything that does not depend on the kind, and asks here for the rest.
pub trait Device: Any + Send + Sync {
    /// Peripheral device type: 00h disk, 01h tape, 08h changer.
    fn peripheral_type(&self) -> u8;

    /// Product identification of INQUIRY, at most 16 characters.
    fn product(&self) -> &str;

    /// True when the medium can be taken out.
    fn removable(&self) -> bool;

    /// Version descriptors of its command standards (SBC-3: 04C0h).
    fn versions(&self) -> &[u16];

    /// The commands that [`execute`](Self::execute) knows.
    fn commands(&self) -> &[CommandInfo];

    /// One of its commands. Unit attentions, reservations and write protection
    /// are already looked at.
    fn execute(&self, unit: &Unit, cdb: &Cdb, request: &Request<'_>) -> Answer;

    /// TEST UNIT READY: what is in the way.
    fn ready(&self) -> Result<(), Sense>;

    /// True when the medium may not be written.
    fn write_protected(&self) -> bool;

    /// Vital product data pages of its own, beside 00h 80h 83h 86h 8Fh.
    fn vpd_pages(&self) -> &[u8] {
        &[]
    }

    /// Content of one of them, without the four bytes of its header.
    fn vpd(&self, _unit: &Unit, _page: u8) -> Option<Vec<u8>> {
        None
    }

    /// Mode pages of its own, beside 02h 0Ah 1Ch.
    fn mode_pages(&self) -> Vec<ModePage> {
        Vec::new()
    }

    /// Takes new content of a mode page of its own; only changeable bits differ.
    fn set_mode_page(&self, _page: u8, _subpage: u8, _body: &[u8]) -> Result<(), Refusal> {
        Ok(())
    }

    /// Device-specific byte of the mode parameter header, without WP.
    fn mode_header(&self) -> u8 {
        0
    }

    /// Block descriptor; `long` asks for the form of 16 bytes. May be empty.
    fn block_descriptor(&self, _long: bool) -> Vec<u8> {
        Vec::new()
    }

    /// MODE SELECT: the device-specific byte and the block descriptor. `apply`
    /// is false in a first round that only looks whether it would do.
    fn select_header(
        &self,
        specific: u8,
        descriptor: Option<&[u8]>,
        apply: bool,
    ) -> Result<(), Refusal>;

    /// Log pages of its own, beside 00h and 19h.
    fn log_pages(&self) -> &[u8] {
        &[]
    }

    /// Parameters of one of them, each with its header of four bytes.
    fn log_page(&self, _unit: &Unit, _page: u8) -> Option<Vec<u8>> {
        None
    }

    /// Told once where unit attentions of this unit go, for those that a medium
    /// causes.
    fn installed(&self, _attentions: &Arc<Attentions>) {}

    /// For the copy manager, when it is a disk.
    fn copy_disk(&self) -> Option<&dyn CopyDisk> {
        None
    }

    /// For the copy manager, when it is a tape.
    fn copy_tape(&self) -> Option<&dyn CopyTape> {
        None
    }

    /// Where persistent reservations are kept that have to survive the end of the
    /// target. None: that is not offered.
    fn reservation_file(&self) -> Option<&Path> {
        None
    }

    /// A session ended: what belongs to its nexus is given up.
    fn nexus_lost(&self, _nexus: &Nexus) {}

    /// LOGICAL UNIT RESET.
    fn reset(&self) {}

    /// Writes out what is cached.
    fn flush(&self) -> Result<()>;
}

/// A mode page. The bodies have no header and are equally long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModePage {
    /// Page code.
    pub page: u8,
    /// Subpage code; zero for a page in the short form.
    pub subpage: u8,
    /// Present values.
    pub current: Vec<u8>,
    /// Bits that MODE SELECT may change.
    pub changeable: Vec<u8>,
    /// Values after a reset.
    pub default: Vec<u8>,
}

impl ModePage {
    /// A page that nobody can change.
    pub fn fixed(page: u8, body: Vec<u8>) -> Self {
        Self {
            page,
            subpage: 0,
            changeable: vec![0; body.len()],
            default: body.clone(),
            current: body,
        }
    }
}

/// The copy manager that stands behind all units: operation codes 83h and 84h.
pub trait ThirdPartyCopy: Send + Sync {
    /// Its commands.
    fn commands(&self) -> &[CommandInfo];

    /// Content of VPD page 8Fh without the four bytes of its header, or none if
    /// it does not announce itself there.
    fn vpd(&self, unit: &Unit) -> Option<Vec<u8>>;

    /// Mode pages of its own, which every unit then has.
    fn mode_pages(&self) -> Vec<ModePage> {
        Vec::new()
    }

    /// A command that came to `unit`. `units` are those that the session may
    /// see, and the only ones that may be copied from and to.
    fn execute(&self, units: &[Arc<Unit>], unit: &Unit, request: &Request<'_>) -> Reply;

    /// A session ended.
    fn nexus_lost(&self, nexus: &Nexus);

    /// A unit was reset.
    fn reset(&self, unit: &Unit);
}
