//! Floor 3: whole jobs, one file per verb. Nothing here prints, exits or asks.

pub mod pipeline;
