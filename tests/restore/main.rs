//! `restore` beyond the plain copy: volumes laid out anew, going on after an
//! interruption, replacement disks.

#[path = "../common/mod.rs"]
mod common;

mod executor;
mod resume;
mod toy;
