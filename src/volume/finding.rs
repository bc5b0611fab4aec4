//! Something found on the volume that is not as it should be and did not stop
//! the work: it goes into reports, never only into a log.

use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// What was found, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// A short stable word for scripts.
    pub code: Cow<'static, str>,
    /// The sentence: what, found, expected.
    pub message: String,
    /// Absolute byte position on the volume, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offset: Option<u64>,
}

impl Finding {
    /// A finding without a place.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code: Cow::Borrowed(code),
            message: message.into(),
            offset: None,
        }
    }

    /// Gives the place.
    pub fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// From an error that was survived; `what` says what was given up or done instead.
    pub fn survived(code: &'static str, what: &str, error: &Error) -> Self {
        Self {
            code: Cow::Borrowed(code),
            message: format!("{what}: {}", error.message()),
            offset: error.offset(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.offset {
            Some(o) => write!(f, ", at byte {o:#x}"),
            None => Ok(()),
        }
    }
}
