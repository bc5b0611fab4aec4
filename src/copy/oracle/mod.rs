//! Executes parameter lists on disks and tapes in memory, byte by byte and one
//! block at a time: slow, plain, and what the planner's lists and the copy manager
//! of `ntbak target` are compared with. Not part of the program.

mod devices;
mod run;

pub use devices::{Device, Disk, Fault, Object, Tape};
pub use run::{Failed, Model, Outcome};

#[cfg(test)]
mod tests;
