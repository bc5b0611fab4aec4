//! Floor 3: an iSCSI target with disk, tape and changer units, and a copy
//! manager that moves data between them.

mod lun;

pub use lun::{Nexus, Reply, Request, Units};
