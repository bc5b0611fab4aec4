//! Floor 2: holding a source still. Waiting until nobody writes to it, and taking a
//! snapshot of it (`docs/snapshot.md`).
//!
//! | file | subject |
//! |---|---|
//! | `quiet` | the wait, as a function over a clock and a counter |
//! | `counter` | who counts writes: kernel, unit, file |
//! | `provider` | what every way to a snapshot can do |
//! | `none`, `reflink`, `btrfs`, `lvm`, `dm`, `zfs`, `qmp`, `target`, `command` | the ways |
//! | `runner` | programs of others, with bounds |
//! | `record` | what is remembered of a snapshot until it is deleted |
//! | `held` | a snapshot that is deleted whatever happens |

mod btrfs;
mod choice;
mod command;
pub mod counter;
mod dm;
mod held;
mod lvm;
mod none;
pub mod provider;
mod qmp;
pub mod quiet;
mod record;
mod reflink;
pub mod runner;
mod target;
mod zfs;

pub use choice::{Choice, Wishes, provider, provider_again};
pub use held::{Held, Watch};
pub use provider::{Made, Name, Provider, Stray, Subject};
pub use record::{Entry, Record, Records};
pub use target::data_of as target_data;
