//! Floor 2: tape: cartridges, labels, sets, and the drive that moves them.
//! `docs/tape.md` is the definition of what stands on one.

pub mod cartridge;
pub mod changer;
mod drive;
mod inventory;
mod label;
mod media;
mod memory;
mod part;
mod scsi;
mod set;
mod source;

pub use drive::{Capacity, Drive, DriveInfo, Position, Read, Room, Written};
pub use inventory::{Digests, Inventory, Listing, SetFacts, SetRecord, state_dir};
pub use label::{Id, LABEL_BYTES, Label, LabelKind, MAX_BLOCK, SetPart};
pub use media::{Media, NoChange, Wanted};
pub use memory::{Cartridge, MemoryDrive};
pub use part::{PartMap, TapeFile, nothing_behind_label, read_label, scan};
pub use scsi::{
    CartridgeTag, DrivePosition, DriveStatus, ScsiDrive, Severity, TapeAlert,
    status as drive_status,
};
pub use set::{Note, SetOptions, SetWriter};
pub use source::TapeSource;

#[cfg(test)]
mod tests;
