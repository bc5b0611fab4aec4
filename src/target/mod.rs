//! Floor 3: an iSCSI target with disk, tape and changer units, and a copy
//! manager that moves data between them.

mod lun;
mod server;
mod session;

pub use lun::{Nexus, Reply, Request, Units};
pub use server::{Limits, Server, ServerConfig};
