//! The one writer of results. Whoever reads them may leave at any time.

use crate::error::{Error, Result};
use std::io::{self, BufWriter, Write};

/// Standard output, or standard error while standard output carries data.
pub struct Out {
    to: BufWriter<Box<dyn Write + Send>>,
    broken: Option<io::ErrorKind>,
}

impl Out {
    /// To standard output.
    pub fn stdout() -> Self {
        Self::new(Box::new(io::stdout()))
    }

    /// To standard error.
    pub fn stderr() -> Self {
        Self::new(Box::new(io::stderr()))
    }

    fn new(to: Box<dyn Write + Send>) -> Self {
        Self {
            to: BufWriter::with_capacity(64 << 10, to),
            broken: None,
        }
    }

    /// Writes, or says that nobody takes it any more.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        match self.broken {
            Some(kind) => Err(failed(kind.into())),
            None => self.to.write_all(bytes).map_err(|e| self.broke(e)),
        }
    }

    /// Hands on what is buffered.
    pub fn flush(&mut self) -> Result<()> {
        match self.broken {
            Some(kind) => Err(failed(kind.into())),
            None => self.to.flush().map_err(|e| self.broke(e)),
        }
    }

    /// True when the reader has left: nothing to complain about.
    pub fn reader_left(&self) -> bool {
        self.broken == Some(io::ErrorKind::BrokenPipe)
    }

    fn broke(&mut self, e: io::Error) -> Error {
        self.broken = Some(e.kind());
        failed(e)
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if self.broken.is_none() {
            let _ = self.to.flush();
        }
    }
}

fn failed(e: io::Error) -> Error {
    Error::io("Cannot write the result", e)
        .of("standard output")
        .hint("check what standard output is connected to, and the free space there")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed(io::ErrorKind);
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_leaves_is_no_failure() {
        for (kind, left) in [
            (io::ErrorKind::BrokenPipe, true),
            (io::ErrorKind::StorageFull, false),
        ] {
            let mut out = Out::new(Box::new(Closed(kind)));
            out.put(b"x").unwrap();
            assert!(out.flush().is_err());
            assert!(out.put(b"x").is_err());
            assert_eq!(out.reader_left(), left);
        }
    }
}
