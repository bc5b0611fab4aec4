//! Floor 2: tape: cartridges, labels, sets, and the drive that moves them.
//! `docs/tape.md` is the definition of what stands on one.

mod label;

pub use label::{Id, LABEL_BYTES, Label, LabelKind, MAX_BLOCK, SetPart};
mod drive;
mod memory;
mod part;

pub use drive::{Capacity, Drive, DriveInfo, Position, Read, Room, Written};
pub use memory::{Cartridge, MemoryDrive};
pub use part::{PartMap, TapeFile, read_label, scan};

mod scsi;

pub use scsi::{
    CartridgeTag, DrivePosition, DriveStatus, ScsiDrive, Severity, TapeAlert,
    status as drive_status,
};
