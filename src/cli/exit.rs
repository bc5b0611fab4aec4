//! Exit codes: what a script learns from a run.

use crate::error::ErrorKind;
use std::process::ExitCode;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Everything was done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// Done, but some data was unreadable or damaged and is not in the result.
    Gaps = 3,
    /// A comparison or a digest differs, or a file system contradicts itself.
    Mismatch = 4,
    /// Stopped by a safety rule before anything was changed.
    Refused = 5,
    /// The source was not quiet for long enough; nothing was written.
    NotQuiet = 6,
    /// Stopped by a signal.
    Interrupted = 130,
}

/// The table that every help text ends with.
pub const TABLE: &str = "\
Exit codes:
    0  done
    1  failed
    2  the command line makes no sense
    3  done, but some data was unreadable or damaged and is not in the result
    4  a comparison or a digest differs, or a file system contradicts itself
    5  refused by a safety rule
    6  no quiet period before the timeout; nothing was written
  130  interrupted";

impl Exit {
    /// The code for an error that ended the run.
    pub fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Usage => Self::Usage,
            ErrorKind::Mismatch => Self::Mismatch,
            ErrorKind::Refused | ErrorKind::Incomplete => Self::Refused,
            ErrorKind::NotQuiet => Self::NotQuiet,
            ErrorKind::Interrupted => Self::Interrupted,
            ErrorKind::Io
            | ErrorKind::Unreadable
            | ErrorKind::NotFound
            | ErrorKind::Damaged
            | ErrorKind::Unsupported
            | ErrorKind::Scsi => Self::Failed,
        }
    }

    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(e: Exit) -> Self {
        Self::from(e.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_code() {
        use Exit::*;
        for e in [
            Done,
            Failed,
            Usage,
            Gaps,
            Mismatch,
            Refused,
            NotQuiet,
            Interrupted,
        ] {
            let start = format!("{:>5}  ", e.code());
            assert!(TABLE.lines().any(|l| l.starts_with(&start)), "{e:?}");
        }
        assert_eq!(Exit::of(ErrorKind::Incomplete), Refused);
        assert_eq!(Exit::of(ErrorKind::NotQuiet).code(), 6);
    }
}
