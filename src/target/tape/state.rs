//! What a drive knows between commands, and the sense data of tape events.

use crate::error::{Error, ErrorKind};
use crate::scsi::{Sense, SenseKey};
use crate::tape::cartridge::{Cartridge, Moved, Room};
use crate::target::Nexus;
use std::collections::BTreeSet;

/// TapeAlert flags that can come up here, by their numbers.
pub(super) mod alert {
    pub const HARD_ERROR: u8 = 3;
    pub const MEDIA: u8 = 4;
    pub const READ_FAILURE: u8 = 5;
    pub const WRITE_FAILURE: u8 = 6;
}

/// What moved since the drive exists.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub written: u64,
    pub read: u64,
    pub write_errors: u64,
    pub read_errors: u64,
}

#[derive(Default)]
pub(super) struct State {
    medium: Option<Cartridge>,
    loaded: bool,
    pub preventing: BTreeSet<Nexus>,
    /// BLOCK LENGTH of the block descriptor; 0 is variable.
    pub block_length: u32,
    /// Buffered mode 0 is asked for: each write waits for the medium.
    pub unbuffered: bool,
    /// Programmable early warning zone in units of 1,000,000 bytes.
    pub warning_zone: u16,
    /// That zone was told of.
    warned: bool,
    pub counts: Counts,
    /// TapeAlert flags that are up: bit n - 1 is flag n.
    pub alerts: u64,
}

impl State {
    pub fn insert(&mut self, cartridge: Cartridge) {
        self.medium = Some(cartridge);
        self.thread();
    }

    pub fn take(&mut self) -> Option<Cartridge> {
        self.loaded = false;
        self.medium.take()
    }

    pub fn barcode(&self) -> Option<String> {
        self.medium.as_ref().map(Cartridge::tag)
    }

    pub fn path(&self) -> Option<std::path::PathBuf> {
        self.medium.as_ref().map(|c| c.path().to_owned())
    }

    /// Makes the cartridge in the drive ready. False when there is none.
    pub fn thread(&mut self) -> bool {
        let Some(c) = &mut self.medium else {
            return false;
        };
        c.rewind();
        self.loaded = true;
        self.warned = false;
        true
    }

    pub fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Everything durable, and not ready any more. The cartridge stays in.
    pub fn unload(&mut self) -> Result<(), Sense> {
        if self.medium.is_some() && !self.preventing.is_empty() {
            // MEDIUM REMOVAL PREVENTED
            return Err(Sense::new(SenseKey::IllegalRequest, 0x53, 0x02));
        }
        if self.loaded
            && let Some(c) = &mut self.medium
        {
            c.rewind();
            if let Err(e) = c.flush() {
                return Err(self.write_failed(&e));
            }
        }
        self.loaded = false;
        Ok(())
    }

    pub fn flush(&mut self) -> crate::error::Result<()> {
        match &mut self.medium {
            Some(c) => c.flush(),
            None => Ok(()),
        }
    }

    /// Mode parameters and what belongs to nexuses as after power on.
    pub fn reset(&mut self) {
        self.preventing.clear();
        self.block_length = 0;
        self.unbuffered = false;
        self.set_warning_zone(0);
    }

    pub fn set_warning_zone(&mut self, megabytes: u16) {
        self.warning_zone = megabytes;
        self.warned = false;
    }

    /// Bytes in front of early warning in which the host wants to be warned.
    pub fn warning_bytes(&self) -> u64 {
        u64::from(self.warning_zone) * 1_000_000
    }

    /// The cartridge, if it is ready.
    pub fn medium(&mut self) -> Result<&mut Cartridge, Sense> {
        match &mut self.medium {
            Some(c) if self.loaded => Ok(c),
            _ => Err(no_medium()),
        }
    }

    /// The same, to look at.
    pub fn loaded(&self) -> Option<&Cartridge> {
        self.medium.as_ref().filter(|_| self.loaded)
    }

    /// The cartridge, if it is ready and may be written.
    pub fn writable(&mut self) -> Result<&mut Cartridge, Sense> {
        let c = self.medium()?;
        match c.is_write_protected() {
            true => Err(Sense::new(SenseKey::DataProtect, 0x27, 0x00)),
            false => Ok(c),
        }
    }

    /// What is to be said after something was written: early warning each time,
    /// the programmable one once.
    pub fn warning(&mut self) -> Option<Sense> {
        let zone = self.warning_bytes();
        match self.loaded()?.room(zone) {
            Room::Plenty => {
                self.warned = false;
                None
            }
            Room::Programmed if self.warned => None,
            Room::Programmed => {
                self.warned = true;
                Some(end_of_medium(SenseKey::NoSense, 0x07, 0))
            }
            Room::Early => Some(end_of_medium(SenseKey::NoSense, 0x02, 0)),
        }
    }

    /// Blocks of `len` bytes, written one by one, of which only the last can
    /// give a warning.
    pub fn blocks_to_warning(&self, len: u32) -> u64 {
        let zone = self.warning_bytes();
        let than = match self.warned || zone == 0 {
            true => Room::Early,
            false => Room::Programmed,
        };
        self.loaded().map_or(1, |c| c.blocks_until(than, zone, len))
    }

    fn alert(&mut self, flag: u8) {
        self.alerts |= 1u64.checked_shl(u32::from(flag) - 1).unwrap_or(0);
    }

    /// A read of the file behind the cartridge failed, or the block is bad.
    pub fn read_failed(&mut self, _why: &Error) -> Sense {
        self.counts.read_errors += 1;
        for flag in [alert::HARD_ERROR, alert::MEDIA, alert::READ_FAILURE] {
            self.alert(flag);
        }
        Sense::new(SenseKey::MediumError, 0x11, 0x00)
    }

    /// A write to the file behind the cartridge failed.
    pub fn write_failed(&mut self, why: &Error) -> Sense {
        if why.kind() == ErrorKind::Refused {
            return Sense::new(SenseKey::DataProtect, 0x27, 0x00);
        }
        self.counts.write_errors += 1;
        for flag in [alert::HARD_ERROR, alert::MEDIA, alert::WRITE_FAILURE] {
            self.alert(flag);
        }
        Sense::new(SenseKey::MediumError, 0x0c, 0x00)
    }
}

/// MEDIUM NOT PRESENT.
pub(super) fn no_medium() -> Sense {
    Sense::new(SenseKey::NotReady, 0x3a, 0x00)
}

fn information(left: u64) -> i64 {
    i64::try_from(left).unwrap_or(i64::MAX)
}

/// EOM with one of its codes (02h end, 07h programmable warning), and how much
/// was not written.
pub(super) fn end_of_medium(key: SenseKey, ascq: u8, left: u64) -> Sense {
    let mut s = Sense::new(key, 0x00, ascq).with_information(information(left));
    s.eom = true;
    s
}

/// A filemark was met; so much was left to do.
pub(super) fn filemark(left: u64) -> Sense {
    let mut s = Sense::new(SenseKey::NoSense, 0x00, 0x01).with_information(information(left));
    s.filemark = true;
    s
}

/// End of data; so much was left to do.
pub(super) fn end_of_data(left: u64) -> Sense {
    Sense::new(SenseKey::BlankCheck, 0x00, 0x05).with_information(information(left))
}

/// A block of another length.
pub(super) fn wrong_length(difference: i64) -> Sense {
    let mut s = Sense::new(SenseKey::NoSense, 0x00, 0x00).with_information(difference);
    s.ili = true;
    s
}

/// How a movement ended.
pub(super) fn moved(how: Moved) -> Result<(), Sense> {
    match how {
        Moved::Done => Ok(()),
        Moved::Filemark(left) => Err(filemark(left)),
        Moved::EndOfData(left) => Err(end_of_data(left)),
        Moved::Beginning(left) => Err(end_of_medium(SenseKey::NoSense, 0x04, left)),
    }
}
