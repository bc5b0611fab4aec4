//! Floor 2: the EXTENDED COPY planner: a pure function of extents and limits.
//! `docs/copy.md` is its definition.

pub mod parse;
pub mod residue;
