//! `ntbak`: NTFS-aware, image-level backup.
//!
//! The floors of the house, lowest first; a module uses its own floor's leaves
//! and lower floors, never a higher one:
//!
//! | floor | modules | what |
//! |---|---|---|
//! | 4 | [`cli`], `main` | words for people, exit codes |
//! | 3 | [`ops`], [`target`] | whole jobs, one file per verb; the server |
//! | 2 | [`volume`], [`disk`], [`archive`], [`tape`], [`copy`], [`snapshot`] | one subject each |
//! | 1 | [`device`], [`scsi`] on it, [`iscsi`] on that | bytes in and out |
//! | 0 | [`units`], [`error`], [`observe`], [`random`] | words that everyone uses |

pub mod archive;
pub mod cli;
pub mod copy;
pub mod device;
pub mod disk;
pub mod error;
pub mod iscsi;
pub mod observe;
pub mod ops;
pub mod random;
pub mod scsi;
pub mod snapshot;
pub mod tape;
pub mod target;
pub mod units;
pub mod volume;
