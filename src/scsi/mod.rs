//! Floor 1: command blocks, sense data, and the ways a command gets to a
//! logical unit. `docs/copy.md` and `docs/tape.md` say which commands are used.

pub mod op;
mod sense;
mod transport;

pub use sense::{Field, FieldPlace, Forwarded, Sense, SenseKey, code_text, hex};
pub use transport::{Command, Completion, Data, Status, Transport};
