//! `ntbak`: NTFS-aware, image-level backup.
//!
//! The floors of the house, lowest first; a module uses its own floor's leaves
//! and lower floors, never a higher one:
//!
//! | floor | modules | what |
//! |---|---|---|
//! | 4 | [`cli`], `main` | words for people, exit codes |
//! | 3 | [`ops`] | whole jobs, one file per verb |
//! | 2 | [`volume`], [`disk`], [`archive`] | one subject each |
//! | 1 | [`device`] | bytes in and out |
//! | 0 | [`units`], [`error`], [`observe`] | words that everyone uses |

pub mod archive;
pub mod cli;
pub mod device;
pub mod disk;
pub mod error;
pub mod observe;
pub mod ops;
pub mod units;
pub mod volume;
