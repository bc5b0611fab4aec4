//! A changer that brings the cartridges of a drive.

use super::Changer;
use super::elements::{Element, ElementKind};
use crate::error::{Error, ErrorKind, Result};
use crate::scsi::Unit;
use crate::tape::{Drive, Label, LabelKind, Media, Wanted, nothing_behind_label, read_label};
use std::collections::{BTreeMap, BTreeSet};

/// Barcodes of cleaning cartridges begin so.
const CLEANING: &str = "CLN";
/// Rank of the cartridge that was in the drive.
const LAST: u8 = u8::MAX;

/// What is known beforehand.
#[derive(Clone, Debug, Default)]
pub struct LibraryOptions {
    /// Address of the drive's element, when the changer does not tell.
    pub drive: Option<u16>,
    /// Labels of cartridges that hold a set, as they are remembered.
    pub holds: Vec<Label>,
    /// Names of cartridges that are remembered as blank.
    pub blank: Vec<String>,
}

/// Brings cartridges to a drive by a changer. A cartridge is looked at before it is
/// handed over: one that holds something is never given as a blank one.
pub struct Library {
    changer: Changer,
    /// Address of the drive.
    drive: u16,
    holds: Vec<Label>,
    blank: Vec<String>,
    /// What was found on the cartridges, by barcode or by slot.
    looked: BTreeMap<Key, Holds>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Barcode(String),
    Slot(u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Holds {
    /// Nothing, or a label without a set.
    Nothing,
    /// This label.
    Part(Label),
    /// Something that is not to be touched.
    Other,
}

impl Library {
    /// The cartridges of `changer` for the drive behind `unit`.
    pub fn new(changer: Changer, unit: &Unit, options: LibraryOptions) -> Result<Self> {
        let all = changer.elements()?;
        let drive = match options.drive {
            Some(address) => all
                .iter()
                .find(|e| e.address == address && e.kind == ElementKind::Drive)
                .map(|e| e.address)
                .ok_or_else(|| {
                    Error::not_found(format!("There is no drive at element {address}"))
                        .of(changer.name())
                        .hint(drives(&all))
                })?,
            None => find_drive(&all, unit)?.ok_or_else(|| {
                Error::not_found("The changer does not say which of its drives this is")
                    .of(changer.name())
                    .hint(format!("--changer-drive says it; {}", drives(&all)))
            })?,
        };
        Ok(Self {
            changer,
            drive,
            holds: options.holds,
            blank: options.blank,
            looked: BTreeMap::new(),
        })
    }

    /// Address of the drive's element.
    pub fn drive(&self) -> u16 {
        self.drive
    }

    /// Puts the cartridge in the drive away, to its slot or a free one. Gives
    /// what is called by its key, so that it is not fetched again at once.
    fn put_away(&self, all: &[Element]) -> Result<Option<Key>> {
        let Some(bay) = all.iter().find(|e| e.address == self.drive && e.full) else {
            return Ok(None);
        };
        let free = |e: &&Element| e.kind == ElementKind::Slot && !e.full;
        let slot = bay
            .source
            .and_then(|s| all.iter().filter(free).find(|e| e.address == s))
            .or_else(|| all.iter().find(free))
            .ok_or_else(|| {
                Error::refused("No slot is free for the cartridge in the drive")
                    .of(self.changer.name())
                    .hint("take a cartridge out of the library")
            })?;
        self.changer.move_medium(bay.address, slot.address)?;
        Ok(Some(key(bay.barcode.as_deref(), slot.address)))
    }

    /// What is known about a cartridge: it was looked at, or is remembered by
    /// its name, which often is its barcode.
    fn known(&self, e: &Element) -> Option<Holds> {
        if let Some(h) = self.looked.get(&key(e.barcode.as_deref(), e.address)) {
            return Some(h.clone());
        }
        let barcode = e.barcode.as_deref()?;
        if let Some(l) = self.holds.iter().find(|l| is_name(barcode, &l.name)) {
            return Some(Holds::Part(l.clone()));
        }
        let blank = self.blank.iter().any(|n| is_name(barcode, n));
        blank.then_some(Holds::Nothing)
    }

    /// How promising a cartridge is, best first; none: it is not worth a look.
    fn rank(&self, e: &Element, wanted: &Wanted) -> Option<u8> {
        let known = self.known(e);
        let barcode = e.barcode.as_deref().unwrap_or_default();
        match wanted {
            Wanted::Blank { .. } => match known {
                Some(Holds::Nothing) => Some(0),
                None => Some(1),
                Some(_) => None,
            },
            Wanted::Part { name, .. } => match known {
                Some(Holds::Part(l)) if is_wanted(&l, wanted) => Some(0),
                _ if name.as_deref().is_some_and(|n| is_name(barcode, n)) => Some(1),
                None => Some(2),
                // Memory may be of another time.
                Some(_) if !self.was_looked_at(e) => Some(3),
                Some(_) => None,
            },
            // It was blank before it was begun. Those of other sets stay where
            // they are: most often there is none.
            Wanted::Next { .. } => match known {
                Some(Holds::Part(l)) if is_wanted(&l, wanted) => Some(0),
                Some(Holds::Nothing) if !self.was_looked_at(e) => Some(1),
                None => Some(2),
                Some(_) => None,
            },
        }
    }

    fn was_looked_at(&self, e: &Element) -> bool {
        self.looked
            .contains_key(&key(e.barcode.as_deref(), e.address))
    }
}

impl Media for Library {
    fn change(&mut self, drive: &mut dyn Drive, wanted: &Wanted, attempt: u32) -> Result<()> {
        let mut tried = BTreeSet::new();
        // Hardly the wanted one; after another attempt surely not.
        let out = self.put_away(&self.changer.elements()?)?;
        if let Some(k) = &out {
            self.looked.remove(k);
        }
        loop {
            let all = self.changer.elements()?;
            let mut candidates: Vec<(u8, &Element)> = all
                .iter()
                .filter(|e| matches!(e.kind, ElementKind::Slot | ElementKind::Mailbox))
                .filter(|e| e.full)
                .filter(|e| {
                    !e.barcode
                        .as_deref()
                        .is_some_and(|b| b.starts_with(CLEANING))
                })
                .filter_map(|e| {
                    let k = key(e.barcode.as_deref(), e.address);
                    let rank = self.rank(e, wanted)?;
                    match out.as_ref() == Some(&k) {
                        _ if tried.contains(&k) => None,
                        true if attempt > 0 => None,
                        true => Some((LAST, e)),
                        false => Some((rank, e)),
                    }
                })
                .collect();
            candidates.sort_by(|(r, a), (s, b)| {
                (r, a.kind == ElementKind::Mailbox, &a.barcode, a.address).cmp(&(
                    s,
                    b.kind == ElementKind::Mailbox,
                    &b.barcode,
                    b.address,
                ))
            });
            let Some((_, next)) = candidates.first() else {
                return Err(Error::not_found(format!(
                    "The library lacks {wanted} ({} cartridges were looked at)",
                    tried.len()
                ))
                .of(self.changer.name())
                .hint(wanted.advice()));
            };
            let k = key(next.barcode.as_deref(), next.address);
            tried.insert(k.clone());
            match self.changer.move_medium(next.address, self.drive) {
                Ok(()) => {}
                // The drive does not take this one.
                Err(e) if is_medium_error(&e) => {
                    self.looked.insert(k, Holds::Other);
                    continue;
                }
                Err(e) => return Err(e),
            }
            let found = look(drive)?;
            let fits = match (&found, wanted) {
                (Holds::Nothing, Wanted::Blank { .. }) => !drive.info()?.write_protected,
                (Holds::Part(l), _) => is_wanted(l, wanted),
                _ => false,
            };
            if fits {
                // A blank one will not be blank for long.
                self.looked.remove(&k);
                return Ok(());
            }
            self.looked.insert(k, found);
            // A drive that could not read it may have nothing to unload.
            let _ = drive.unload();
            self.put_away(&self.changer.elements()?)?;
        }
    }
}

/// What is on the cartridge that just came into the drive.
fn look(drive: &mut dyn Drive) -> Result<Holds> {
    if let Err(e) = drive.load() {
        return match e.kind() {
            ErrorKind::Interrupted => Err(e),
            // It is not one for this drive.
            _ => Ok(Holds::Other),
        };
    }
    Ok(match read_label(drive) {
        Ok(Some(l)) if l.kind == LabelKind::Label && l.part.is_some() => Holds::Part(l),
        Ok(Some(l)) if l.kind == LabelKind::Label => {
            match nothing_behind_label(drive).unwrap_or(false) {
                true => Holds::Nothing,
                false => Holds::Other,
            }
        }
        Ok(None) => match is_empty(drive)? {
            true => Holds::Nothing,
            false => Holds::Other,
        },
        Ok(Some(_)) | Err(_) => Holds::Other,
    })
}

fn is_empty(drive: &mut dyn Drive) -> Result<bool> {
    drive.rewind()?;
    drive.end_of_data()?;
    let at = drive.position()?;
    Ok(at.bop || at.object == 0)
}

fn is_wanted(label: &Label, wanted: &Wanted) -> bool {
    match (label.part, wanted) {
        (Some(p), Wanted::Part { set, sequence, .. } | Wanted::Next { set, sequence }) => {
            p.set == *set && p.sequence == *sequence
        }
        _ => false,
    }
}

/// A name is a barcode with or without the two characters of the medium type.
fn is_name(barcode: &str, name: &str) -> bool {
    !name.is_empty()
        && barcode
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.len() == 2)
}

fn key(barcode: Option<&str>, slot: u16) -> Key {
    match barcode {
        Some(b) => Key::Barcode(b.into()),
        None => Key::Slot(slot),
    }
}

fn is_medium_error(e: &Error) -> bool {
    crate::scsi::Failure::sense_behind(e).is_some_and(|s| s.asc == 0x30)
}

/// The element of the drive behind `unit`: by its designator, by its serial
/// number, or because there is only one.
fn find_drive(all: &[Element], unit: &Unit) -> Result<Option<u16>> {
    let drives: Vec<&Element> = all
        .iter()
        .filter(|e| e.kind == ElementKind::Drive)
        .collect();
    let own = unit.designators().unwrap_or_default();
    let by_designator = drives
        .iter()
        .find(|d| !d.designator.is_empty() && own.iter().any(|o| o.value == d.designator));
    if let Some(d) = by_designator {
        return Ok(Some(d.address));
    }
    let serial = unit.serial().ok().flatten().filter(|s| !s.is_empty());
    let by_serial = serial.and_then(|s| {
        drives
            .iter()
            .find(|d| String::from_utf8_lossy(&d.designator).contains(&s))
    });
    Ok(match (by_serial, drives.as_slice()) {
        (Some(d), _) => Some(d.address),
        (None, [only]) => Some(only.address),
        _ => None,
    })
}

fn drives(all: &[Element]) -> String {
    let list: Vec<String> = all
        .iter()
        .filter(|e| e.kind == ElementKind::Drive)
        .map(|e| e.address.to_string())
        .collect();
    match list.is_empty() {
        true => "it has no drives".into(),
        false => format!("its drives are at elements {}", list.join(", ")),
    }
}
