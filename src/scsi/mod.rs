//! Floor 1: command blocks, sense data, and the ways a command gets to a
//! logical unit. `docs/copy.md` and `docs/tape.md` say which commands are used.
//!
//! | file | subject |
//! |---|---|
//! | `transport`, `op` | what a command is |
//! | `sense`, `failure` | how it may end |
//! | `unit` | a unit: patience, retries, errors in words |
//! | the others | commands of one subject each, as methods of [`Unit`] |
//! | `disk` | a disk's unit as source and sink |
//! | `double` | a scripted unit for tests |

mod block;
mod disk;
pub mod double;
mod failure;
mod inquiry;
pub mod op;
mod parameters;
mod reserve;
mod sense;
mod sgio;
pub mod snapshot;
mod third_party;
mod transport;
pub mod unit;

pub use block::{Capacity, Reach};
pub use disk::ScsiDisk;
pub use failure::Failure;
pub use inquiry::{
    BlockLimits, Characteristics, Designator, Inquiry, Provisioning, UnitIdentity, device_type,
};
pub use parameters::{Activity, LogParameter, ModeData, ModePage};
pub use reserve::{Reservation, ReserveAction, reserve_type};
pub use sense::{Field, FieldPlace, Forwarded, Sense, SenseKey, code_text, hex};
pub use sgio::SgIo;
pub use third_party::{
    CopyState, CopyStatus, FailedSegment, GeneralLimits, OperatingParameters, ParameterLimits,
    ThirdPartyCopy,
};
pub use transport::{Command, Completion, Data, OutcomeUnknown, Status, Transport};
pub use unit::{Changes, Unit};
