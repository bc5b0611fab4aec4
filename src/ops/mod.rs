//! Floor 3: whole jobs, one file per verb. Nothing here prints, exits or asks.

pub mod cat;
pub mod diff;
pub mod extract;
pub mod ls;
pub mod pipeline;
