//! Floor 2: the EXTENDED COPY planner: a pure function of extents and limits.
//! `docs/copy.md` is its definition.

pub mod limits;
pub mod profile;

pub use limits::{HeaderWay, Limits, Refusal, Used};
pub use profile::Profile;
