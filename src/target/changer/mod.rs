//! A small medium changer of SMC: a robot, the tape drives of the target, and a
//! folder of cartridges as its storage slots.
//!
//! A move is over when the command ends, so the robot never holds anything. A
//! cartridge that is taken from a drive is unloaded by the changer first, as
//! libraries do, unless a host prevents its removal.

mod command;
mod magazine;
mod status;

#[cfg(test)]
mod tests;

pub use magazine::{MOST_SLOTS, MagazineOptions};

use super::common::{Identity, Refusal, lock};
use super::tape::TapeDrive;
use crate::error::{Error, Result};
use crate::scsi::SenseKey;
use crate::tape::cartridge::Cartridge;
use magazine::{Magazine, Volume};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Address of the robot, and the first ones of drives and slots.
const ROBOT: u16 = 0x0001;
const FIRST_DRIVE: u16 = 0x0100;
const FIRST_SLOT: u16 = 0x0400;

/// Most drives that addresses are kept for.
const MOST_DRIVES: usize = 64;

/// An element, by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Robot,
    Drive(usize),
    Slot(usize),
}

/// A drive that the changer serves.
struct Bay {
    drive: Arc<TapeDrive>,
    /// Who the drive is: the same designator that a copy names it by.
    identity: Identity,
}

/// What is where.
struct Inventory {
    magazine: Magazine,
    /// For each drive the slot that its cartridge came from.
    home: Vec<Option<usize>>,
}

/// A medium changer.
pub struct Changer {
    bays: Vec<Bay>,
    inventory: Mutex<Inventory>,
}

impl Changer {
    /// A changer with the cartridges of a folder, for these drives.
    pub fn open(
        folder: &Path,
        options: MagazineOptions,
        drives: Vec<(Arc<TapeDrive>, Identity)>,
    ) -> Result<Self> {
        if drives.len() > MOST_DRIVES {
            return Err(Error::usage(format!(
                "Found {} drives, expected at most {MOST_DRIVES} for a changer",
                drives.len()
            )));
        }
        let mut magazine = Magazine::open(folder, options)?;
        // A cartridge of the folder that is in a drive already is not in its slot.
        let home = drives
            .iter()
            .map(|(d, _)| d.path().and_then(|p| magazine.taken(&p)))
            .collect();
        let bays = drives
            .into_iter()
            .map(|(drive, identity)| Bay { drive, identity })
            .collect();
        Ok(Self {
            bays,
            inventory: Mutex::new(Inventory { magazine, home }),
        })
    }

    fn slots(&self) -> usize {
        lock(&self.inventory).magazine.len()
    }

    fn element(&self, address: u16) -> Result<Element, Refusal> {
        let index = |first: u16, n: usize| {
            let i = usize::from(address.checked_sub(first)?);
            (i < n).then_some(i)
        };
        if address == ROBOT {
            Ok(Element::Robot)
        } else if let Some(i) = index(FIRST_SLOT, self.slots()) {
            Ok(Element::Slot(i))
        } else if let Some(i) = index(FIRST_DRIVE, self.bays.len()) {
            Ok(Element::Drive(i))
        } else {
            // INVALID ELEMENT ADDRESS
            Err(Refusal::sense(SenseKey::IllegalRequest, 0x21, 0x01))
        }
    }

    fn bay(&self, i: usize) -> Result<&Bay, Refusal> {
        self.bays
            .get(i)
            .ok_or_else(|| Refusal::sense(SenseKey::IllegalRequest, 0x21, 0x01))
    }

    /// Moves a cartridge from one element to another.
    fn move_medium(&self, from: Element, to: Element) -> Result<(), Refusal> {
        let mut inventory = lock(&self.inventory);
        let Inventory { magazine, home } = &mut *inventory;
        let full = |e: Element| match e {
            Element::Robot => false,
            Element::Drive(i) => self.bays.get(i).is_some_and(|b| b.drive.is_full()),
            Element::Slot(i) => magazine.at(i).is_some(),
        };
        if !full(from) {
            // MEDIUM SOURCE ELEMENT EMPTY
            return Err(Refusal::sense(SenseKey::IllegalRequest, 0x3b, 0x0e));
        }
        if from == to {
            return Ok(());
        }
        if full(to) || to == Element::Robot {
            // MEDIUM DESTINATION ELEMENT FULL
            return Err(Refusal::sense(SenseKey::IllegalRequest, 0x3b, 0x0d));
        }
        let (volume, slot) = match from {
            Element::Robot => return Ok(()),
            Element::Slot(i) => match magazine.take(i) {
                Some(v) => (v, Some(i)),
                None => return Ok(()),
            },
            Element::Drive(i) => {
                let Some(c) = self.bay(i)?.drive.eject()? else {
                    return Ok(());
                };
                let volume = Volume::of(&c);
                // Its lock goes with it; everything is on the medium already.
                drop(c);
                (volume, home.get_mut(i).and_then(Option::take))
            }
        };
        match to {
            Element::Robot => {}
            Element::Slot(i) => magazine.put(i, volume),
            Element::Drive(i) => {
                if let Err(refused) = load(&self.bay(i)?.drive, &volume) {
                    // Back to where it came from.
                    match from {
                        Element::Slot(s) => magazine.put(s, volume),
                        Element::Drive(d) => {
                            load(&self.bay(d)?.drive, &volume)?;
                            if let Some(h) = home.get_mut(d) {
                                *h = slot;
                            }
                        }
                        Element::Robot => {}
                    }
                    return Err(refused);
                }
                if let Some(h) = home.get_mut(i) {
                    *h = slot;
                }
            }
        }
        Ok(())
    }
}

/// Puts a cartridge into an empty drive: for writing if its file allows that.
fn load(drive: &TapeDrive, volume: &Volume) -> Result<(), Refusal> {
    Cartridge::open(volume.path(), true)
        .or_else(|e| match volume.is_read_only() {
            true => Cartridge::open(volume.path(), false),
            false => Err(e),
        })
        .and_then(|c| drive.insert(c))
        // INCOMPATIBLE MEDIUM INSTALLED
        .map_err(|_| Refusal::sense(SenseKey::MediumError, 0x30, 0x00))
}
