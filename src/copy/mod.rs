//! Floor 2: the EXTENDED COPY planner: a pure function of extents and limits.
//! `docs/copy.md` is its definition.

pub mod encode;
mod hex;
pub mod limits;
#[doc(hidden)]
pub mod oracle;
pub mod parse;
pub mod profile;
pub mod residue;

pub use encode::{Address, Body, Cscd, Device, List, ListId, Segment};
pub use hex::digits;
pub use limits::{HeaderWay, Limits, Refusal, Used};
pub use profile::Profile;
