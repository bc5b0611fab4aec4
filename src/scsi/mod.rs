//! Floor 1: command blocks, sense data, and the ways a command gets to a
//! logical unit. `docs/copy.md` and `docs/tape.md` say which commands are used.
//!
//! | file | subject |
//! |---|---|
//! | `transport`, `op` | what a command is |
//! | `sense`, `failure` | how it may end |
//! | `unit` | a unit: patience, retries, errors in words |
//! | the others | commands of one subject each, as methods of [`Unit`] |
//! | `double` | a scripted unit for tests |

pub mod double;
mod failure;
pub mod op;
mod sense;
mod transport;
pub mod unit;

pub use failure::Failure;
pub use sense::{Field, FieldPlace, Forwarded, Sense, SenseKey, code_text, hex};
pub use transport::{Command, Completion, Data, Status, Transport};
pub use unit::{Changes, Unit};
