//! `restore` beyond the plain copy: volumes laid out anew, going on after an
//! interruption, replacement disks.

#[path = "../common/mod.rs"]
mod common;

mod boots;
mod disks;
mod executor;
mod kill;
mod program;
mod public;
mod resume;
mod single;
mod tables;
mod toy;
