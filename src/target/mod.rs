//! Floor 3: an iSCSI target with disk, tape and changer units, and a copy
//! manager that moves data between them.

pub mod common;
pub mod copy;
mod lun;
mod profile;
mod units;

pub use lun::{Nexus, Reply, Request, Units};
pub use profile::CopyProfile;
pub use units::UnitSet;
