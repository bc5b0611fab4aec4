//! Backup and restore in which the data goes from unit to unit: whole jobs
//! against `ntbak target`, with every kind of copy manager, and with faults.
//!
//! What takes long runs only when `NTBAK_LONG` is set (`scripts/test-serverless.sh`).

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod hostile;
mod matrix;
mod replace;
mod resume;
mod rig;
mod round;
mod snapshot;
mod wire;

use std::path::PathBuf;

/// True when there is time for everything.
fn long() -> bool {
    std::env::var_os("NTBAK_LONG").is_some_and(|v| !v.is_empty())
}

/// A volume of `testdata/` in a file of the directory for temporary files.
fn own(name: &str) -> PathBuf {
    let to = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("own-{name}.img"));
    if !to.exists() {
        let partial = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        std::fs::write(partial.path(), common::testdata(name)).unwrap();
        partial.persist(&to).unwrap();
    }
    to
}
