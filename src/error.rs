//! Floor 0: the one public error. One sentence says what, where (an absolute
//! byte position in hex), what was found and what was expected; a hint says
//! what to do.

use std::fmt;

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is; the command line turns it into an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The operating system refused or failed.
    Io,
    /// A sector or range could not be read from the source.
    Unreadable,
    /// A path, record, partition or file does not exist.
    NotFound,
    /// Stored bytes break the rules of their format.
    Damaged,
    /// Sound, but this program does not do it.
    Unsupported,
    /// Stopped by a safety rule.
    Refused,
    /// A comparison or digest differs.
    Mismatch,
    /// An archive without its end.
    Incomplete,
    /// The request makes no sense.
    Usage,
    /// Stopped by the user.
    Interrupted,
    /// A logical unit or its transport ended a command badly.
    Scsi,
    /// Something wrote to the source until the time for waiting was over.
    NotQuiet,
}

/// The public error of every floor.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    subject: Option<String>,
    offset: Option<u64>,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with its sentence: capital first letter, no full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            subject: None,
            offset: None,
            hint: None,
            source: None,
        }))
    }

    /// An operating-system error with what was being done.
    pub fn io(message: impl Into<String>, source: std::io::Error) -> Self {
        let mut e = Self::new(ErrorKind::Io, message);
        e.0.source = Some(Box::new(source));
        e
    }

    /// Names the file, device or archive it happened in.
    pub fn of(mut self, subject: impl Into<String>) -> Self {
        if self.0.subject.is_none() {
            self.0.subject = Some(subject.into());
        }
        self
    }

    /// Gives the absolute byte position.
    pub fn at(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Says what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint.get_or_insert(hint.into());
        self
    }

    /// What to do, in the place of what was said before.
    pub fn advise(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Keeps the cause.
    pub fn caused_by(mut self, e: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(e));
        self
    }

    /// Its sort.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The absolute byte position, if there is one.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The file, device or archive it happened in, if known.
    pub fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// What to do about it, if there is something.
    pub fn advice(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The bare sentence.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Shorthands for the sorts that parsers use most.
    pub fn damaged(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Damaged, message)
    }
    /// See [`ErrorKind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }
    /// See [`ErrorKind::Unsupported`].
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }
    /// See [`ErrorKind::Refused`].
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }
    /// See [`ErrorKind::Usage`].
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }
    /// The run was stopped by the user.
    pub fn interrupted() -> Self {
        Self::new(ErrorKind::Interrupted, "Interrupted")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(s) = &self.0.subject {
            write!(f, "{s}: ")?;
        }
        f.write_str(&self.0.message)?;
        if let Some(o) = self.0.offset {
            write!(f, ", at byte {o:#x}")?;
        }
        if let Some(s) = &self.0.source {
            write!(f, ": {s}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        match &self.0.hint {
            Some(h) => write!(f, " ({h})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|s| s.as_ref() as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sentence_with_place_and_cause() {
        let e = Error::damaged("Found signature 4241, expected FILE")
            .of("disk.img")
            .at(0x4000)
            .hint("run verify");
        assert_eq!(
            e.to_string(),
            "disk.img: Found signature 4241, expected FILE, at byte 0x4000"
        );
        assert_eq!(e.advice(), Some("run verify"));
    }
}
