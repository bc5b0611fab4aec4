//! Labelling a cartridge.

use super::contents::{Contents, first_block};
use crate::error::{Error, ErrorKind, Result};
use crate::tape::{
    Drive, Id, Inventory, LABEL_BYTES, Label, LabelKind, Room, nothing_behind_label,
};
use serde::Serialize;

/// How a cartridge is labelled.
#[derive(Clone, Debug)]
pub struct LabelOptions {
    /// Its name.
    pub name: String,
    /// Whatever it holds.
    pub force: bool,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Labelled {
    /// The label, read back from the cartridge.
    pub label: Label,
    /// What was on it before, in words; none: nothing.
    pub held: Option<String>,
}

/// Labels the cartridge in the drive as a blank one and reads the label back.
/// One that holds a set, or something else, is refused without force.
pub fn label(
    drive: &mut dyn Drive,
    inventory: &Inventory,
    options: &LabelOptions,
) -> Result<Labelled> {
    let name = drive.name().to_string();
    if drive.info()?.write_protected {
        return Err(Error::refused("The cartridge is write-protected")
            .of(name)
            .hint("take the write protection off, or use another cartridge"));
    }
    let (old, held, precious) = match first_block(drive)? {
        Ok(l) => {
            let more = l.part.is_none() && !nothing_behind_label(drive)?;
            let precious = l.part.is_some() || more;
            let held = match more {
                true => format!("{:?} has something behind its blank label", l.name),
                false => words(&l, inventory),
            };
            (Some(l.cartridge), Some(held), precious)
        }
        Err(Contents::Foreign { first_block }) => {
            (None, Some(format!("begins with {first_block}")), true)
        }
        Err(_) => (None, None, false),
    };
    if let Some(held) = held.as_ref().filter(|_| precious && !options.force) {
        return Err(Error::refused(format!("The cartridge {held}"))
            .of(name)
            .hint("--force labels it all the same; what it holds is lost then"));
    }
    let label = Label {
        kind: LabelKind::Label,
        cartridge: match old {
            Some(id) => id,
            None => Id(crate::ops::image::new_id()?.0),
        },
        part: None,
        time: std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_secs()),
        name: options.name.clone(),
    };
    let block = label.encode()?;
    drive.rewind()?;
    let wrote = drive.write(&block, LABEL_BYTES)?;
    let mark = drive.write_filemarks(1)?;
    if wrote.taken != LABEL_BYTES || mark.taken != 1 || wrote.room == Room::Full {
        return Err(Error::new(ErrorKind::Scsi, "The cartridge has no room for a label").of(name));
    }
    match first_block(drive)? {
        Ok(back) if back == label => {}
        _ => {
            return Err(Error::new(
                ErrorKind::Mismatch,
                "The label does not read back as it was written",
            )
            .of(name)
            .hint("clean the drive, or use another cartridge"));
        }
    }
    inventory.record_blank(&label)?;
    Ok(Labelled { label, held })
}

/// What a labelled cartridge holds.
fn words(l: &Label, inventory: &Inventory) -> String {
    let Some(part) = l.part else {
        return format!("{:?} is labelled and blank", l.name);
    };
    let known = inventory.set(part.set).ok().flatten().and_then(|s| s.facts);
    let of = known.map_or(String::new(), |f| {
        format!(", a backup of {} made {}", f.source, f.created)
    });
    format!(
        "{:?} holds number {} of set {}{of}",
        l.name, part.sequence, part.set
    )
}
