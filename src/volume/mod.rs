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
//! | [`health`](mod@health), [`logfile`] | was the volume left clean |
//! | [`mft`] | where the file records lie |
//! | [`open`] | opening a volume, with its fallbacks |
//! | [`scan`] | a parallel look at every record |
//! | [`bitmap`] | `$Bitmap` and the bitmap of the MFT |
//! | [`owners`](mod@owners) | whose clusters are these |
//! | [`used`], [`usage`] | which clusters a backup must keep |
//! | [`stream`] | the logical content of an attribute |
//! | [`lznt1`] | LZNT1 |
//! | [`names`] | names: UTF-16, WTF-8, the form for people, `$FILE_NAME` |
//! | [`upcase`] | `$UpCase`: which names are the same |
//! | [`times`] | NTFS time |
//! | [`reparse`] | reparse points |
//! | [`index`] | directory indexes |
//! | [`path`], [`tree`] | paths: looking them up, listing a directory |
//! | [`listing`] | all files of a volume by path |
//! | [`security`] | the descriptors that `$Secure` keeps |
//! | [`rework`] | a volume made smaller, larger or laid out anew |
//! | [`check`](mod@check) | does the file system agree with itself |
//! | [`fault`], [`finding`] | what is wrong with a structure, and with the volume |

pub mod attr;
pub mod attrlist;
pub mod bitmap;
pub mod boot;
pub mod check;
pub mod digest;
pub mod extents;
pub mod fault;
pub mod file;
pub mod finding;
pub mod health;
pub mod index;
pub mod listing;
pub mod logfile;
pub mod lznt1;
pub mod mft;
pub mod names;
pub mod open;
pub mod owners;
pub mod path;
pub mod record;
pub mod reparse;
pub mod rework;
pub mod runs;
pub mod scan;
pub mod security;
pub mod stream;
pub mod times;
pub mod tree;
pub mod upcase;
pub mod usage;
pub mod used;

pub use attr::{AttrFlags, Attribute, Form};
pub use boot::Geometry;
pub use check::{Check, check};
pub use extents::ExtentMap;
pub use fault::{Fault, FaultKind};
pub use file::{FileRecords, FileStream, Joined, Record};
pub use finding::Finding;
pub use health::{Health, health};
pub use listing::Listing;
pub use mft::Mft;
pub use open::{Volume, VolumeInfo};
pub use owners::{Owner, owners};
pub use path::VolumePath;
pub use record::RecordView;
pub use scan::{BadWhy, Scanned};
pub use stream::{Piece, Stream};
pub use tree::Tree;
pub use usage::{Usage, UsageReport};
pub use used::analyse;
