//! Floor 2: NTFS. What is on the disk is read here and nowhere else; all of it
//! is hostile input.
//!
//! | file | subject |
//! |---|---|
//! | [`boot`] | boot sector: geometry of the volume |
//! | [`record`] | file record: fixups, header, its attributes |
//! | [`attr`] | attribute header |
//! | [`runs`] | mapping pairs |
//! | [`fault`] | what is wrong with a structure, and where |

pub mod attr;
pub mod boot;
pub mod fault;
pub mod record;
pub mod runs;

pub use attr::{AttrFlags, Attribute, Form};
pub use boot::Geometry;
pub use fault::{Fault, FaultKind};
pub use record::RecordView;
