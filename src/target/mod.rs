//! Floor 3: an iSCSI target with disk, tape and changer units, and a copy
//! manager that moves data between them.

pub mod changer;
pub mod common;
pub mod copy;
pub mod disk;
mod lun;
mod profile;
pub mod roster;
mod server;
mod session;
pub mod tape;
mod units;

pub use common::{Device, Unit};
pub use copy::CopyManager;
pub use disk::{DiskOptions, DiskUnit};
pub use lun::{Nexus, Reply, Request, Units};
pub use profile::CopyProfile;
pub use server::{Limits, Server, ServerConfig};
pub use units::UnitSet;
