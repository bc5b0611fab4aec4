//! Floor 2: holding a source still.
//!
//! | file | subject |
//! |---|---|
//! | `quiet` | the wait, as a function over a clock and a counter |
//! | `counter` | who counts writes: kernel, unit, file |

pub mod counter;
pub mod quiet;
