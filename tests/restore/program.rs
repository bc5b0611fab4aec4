//! The program, run in a directory of its own.

use crate::common;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory that also is this host's memory of journals.
pub struct Dir(tempfile::TempDir);

impl Deref for Dir {
    type Target = Path;
    fn deref(&self) -> &Path {
        self.0.path()
    }
}

impl Dir {
    /// With nothing in it.
    pub fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With a volume or disk of `testdata/` in it.
    pub fn with(name: &str) -> Self {
        let new = Self(tempfile::tempdir().unwrap());
        new.volume(name);
        new
    }

    /// One more.
    pub fn volume(&self, name: &str) -> PathBuf {
        let to = self.join(format!("{name}.img"));
        fs::write(&to, common::testdata(name)).unwrap();
        to
    }
}

pub fn ntbak() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ntbak"))
}

/// Runs it and expects an exit code.
pub fn expect(dir: &Path, code: i32, args: &[&str]) -> Output {
    let mut c = ntbak();
    c.env("XDG_STATE_HOME", dir.join("state"));
    let out = c.current_dir(dir).args(args).output().unwrap();
    assert_eq!(
        out.status.code(),
        Some(code),
        "{args:?}\nstdout: {}\nstderr: {}",
        text(&out.stdout),
        text(&out.stderr)
    );
    out
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Each line as JSON.
pub fn rows(bytes: &[u8]) -> Vec<serde_json::Value> {
    let lines = std::str::from_utf8(bytes).unwrap().lines();
    lines.map(|l| serde_json::from_str(l).unwrap()).collect()
}
