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
//! | [`stream`] | the logical content of an attribute |
//! | [`lznt1`] | LZNT1 |
//! | [`names`] | names: UTF-16, WTF-8, the form for people, `$FILE_NAME` |
//! | [`upcase`] | `$UpCase`: which names are the same |
//! | [`times`] | NTFS time |
//! | [`reparse`] | reparse points |
//! | [`index`] | directory indexes |

pub mod attr;
pub mod boot;
pub mod fault;
pub mod index;
pub mod lznt1;
pub mod names;
pub mod record;
pub mod reparse;
pub mod runs;
pub mod stream;
pub mod times;
pub mod upcase;

pub use attr::{AttrFlags, Attribute, Form};
pub use boot::Geometry;
pub use fault::{Fault, FaultKind};
pub use record::RecordView;
pub use stream::{Piece, Stream};
