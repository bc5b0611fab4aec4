//! Floor 2: the EXTENDED COPY planner: a pure function of extents and limits.
//! `docs/copy.md` is its definition.

pub mod backup;
pub mod encode;
mod fill;
mod hex;
pub mod limits;
#[doc(hidden)]
pub mod oracle;
pub mod parse;
pub mod plan;
pub mod profile;
pub mod residue;
pub mod restore;

pub use backup::{Backup, Cell, Lead, RecordMaker};
pub use encode::{Address, Body, Cscd, Device, List, ListId, Segment};
pub use hex::digits;
pub use limits::{HeaderWay, Limits, Refusal, Used};
pub use plan::{Command, Geometry, Piece, PlannedRecord, Run};
pub use profile::Profile;
pub use restore::{Restore, RestoreCommand, TapeFile, Wanted};
