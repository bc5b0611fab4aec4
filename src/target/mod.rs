//! Floor 3: an iSCSI target with disk, tape and changer units, and a copy
//! manager that moves data between them.

pub mod common;
pub mod disk;
mod lun;
mod server;
mod session;
mod units;

pub use common::{Device, Unit};
pub use disk::{DiskOptions, DiskUnit};
pub use lun::{Nexus, Reply, Request, Units};
pub use server::{Limits, Server, ServerConfig};
pub use units::UnitSet;
