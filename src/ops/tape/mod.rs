//! Cartridges and drives: labelling, finding out what a cartridge holds.

mod contents;
mod label;
mod reader;
#[cfg(test)]
mod tests;

pub use contents::{Contents, SetPartFound, Walked, contents, first_block};
pub use label::{LabelOptions, Labelled, label};

use crate::error::Result;
use crate::observe::Observer;
use crate::tape::{Drive, Inventory};

/// Finds out what the cartridge in the drive holds, from the cartridge alone,
/// and has the inventory remember it.
pub fn scan(
    drive: &mut dyn Drive,
    inventory: &Inventory,
    observer: &dyn Observer,
) -> Result<Contents> {
    let found = contents(drive, observer)?;
    match &found {
        Contents::Set(s) => {
            inventory.record(&s.map, s.facts.as_ref(), s.complete)?;
        }
        Contents::Blank { label } => inventory.record_blank(label)?,
        Contents::Nothing | Contents::Foreign { .. } => {}
    }
    Ok(found)
}
