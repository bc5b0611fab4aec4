//! Floor 2: NTFS. What is on the disk is read here and nowhere else; all of it
//! is hostile input.
//!
//! | file | subject |
//! |---|---|
//! | [`boot`] | boot sector: geometry of the volume |
//! | [`record`] | file record: fixups, header, its attributes |
//! | [`attr`] | attribute header |
//! | [`runs`] | mapping pairs |
//! | [`attrlist`] | attribute list |
//! | [`extents`] | raw clusters of a stream |
//! | [`file`](mod@file) | a file with all its records |
//! | [`logfile`] | was the volume left clean |
//! | [`mft`] | where the file records lie |
//! | [`open`] | opening a volume, with its fallbacks |
//! | [`scan`] | a parallel look at every record |
//! | [`bitmap`] | `$Bitmap` and the bitmap of the MFT |
//! | [`owners`](mod@owners) | whose clusters are these |
//! | [`used`], [`usage`] | which clusters a backup must keep |
//! | [`fault`], [`finding`] | what is wrong with a structure, and with the volume |

pub mod attr;
pub mod attrlist;
pub mod bitmap;
pub mod boot;
pub mod extents;
pub mod fault;
pub mod file;
pub mod finding;
pub mod logfile;
pub mod mft;
pub mod open;
pub mod owners;
pub mod record;
pub mod runs;
pub mod scan;
pub mod usage;
pub mod used;

pub use attr::{AttrFlags, Attribute, Form};
pub use boot::Geometry;
pub use extents::ExtentMap;
pub use fault::{Fault, FaultKind};
pub use file::{FileRecords, FileStream, Joined, Record};
pub use finding::Finding;
pub use mft::Mft;
pub use open::{Volume, VolumeInfo};
pub use owners::{Owner, owners};
pub use record::RecordView;
pub use scan::{BadWhy, Scanned};
pub use usage::{Usage, UsageReport};
pub use used::analyse;
