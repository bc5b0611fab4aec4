//! Floor 3: whole jobs, one file per verb. Nothing here prints, exits or asks.

pub mod cat;
pub mod ls;
pub mod pipeline;
