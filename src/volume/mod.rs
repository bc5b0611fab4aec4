//! Floor 2: NTFS.

pub mod index;
pub mod lznt1;
pub mod names;
pub mod reparse;
pub mod times;
pub mod upcase;
