//! What to do about an error that brings no advice of its own.

use crate::error::{Error, ErrorKind};
use std::io;

/// The error's own advice, or what helps most often.
pub fn of(e: &Error) -> String {
    if let Some(own) = e.advice().filter(|a| !a.is_empty()) {
        return own.to_string();
    }
    let cause = std::error::Error::source(e)
        .and_then(|s| s.downcast_ref::<io::Error>())
        .map(io::Error::kind);
    match (e.kind(), cause) {
        (_, Some(io::ErrorKind::PermissionDenied)) => {
            "run it as a user who may open that, such as root"
        }
        (_, Some(io::ErrorKind::StorageFull)) => "make room there, then run it again",
        (_, Some(io::ErrorKind::NotFound)) => "check the path",
        (_, Some(io::ErrorKind::NotADirectory)) => "check the path: a folder is expected there",
        (_, Some(io::ErrorKind::IsADirectory)) => "check the path: it leads to a folder",
        (_, Some(io::ErrorKind::BrokenPipe)) => {
            "whoever read the output left before its end: look at that program"
        }
        (ErrorKind::Io, _) => "check the device, its cable and the kernel log (dmesg)",
        (ErrorKind::Unreadable, _) => {
            "the medium fails: image it soon, `ntbak image` goes on around bad sectors"
        }
        (ErrorKind::NotFound, _) => {
            "check the spelling; `ntbak info` and `ntbak ls` show what is there"
        }
        (ErrorKind::Damaged, _) => {
            "`ntbak verify` names what is damaged; `ntbak image --raw` keeps every sector as it is"
        }
        (ErrorKind::Unsupported, _) => "`ntbak image --raw` keeps every sector, whatever it means",
        (ErrorKind::Refused, _) => "nothing was changed; choose another source or target",
        (ErrorKind::Mismatch, _) => "`ntbak verify` names every place that differs",
        (ErrorKind::Incomplete, _) => "finish it with `ntbak image --resume`",
        (ErrorKind::Usage, _) => "`ntbak help` and `ntbak help VERB` tell how it is used",
        (ErrorKind::Scsi, _) => "ntbak probe tells what the unit and the way to it can do",
        (ErrorKind::NotQuiet, _) => {
            "stop what writes, or give other times with --quiet and --quiet-timeout"
        }
        (ErrorKind::Interrupted, _) => "run it again",
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_says_what_to_do() {
        assert_eq!(of(&Error::damaged("x").hint("y")), "y");
        let e = Error::io("x", io::ErrorKind::PermissionDenied.into());
        assert!(of(&e).contains("root"));
        let e = Error::io("x", io::ErrorKind::BrokenPipe.into());
        assert!(!of(&e).contains("cable"));
        assert!(!of(&Error::interrupted()).is_empty());
    }
}
