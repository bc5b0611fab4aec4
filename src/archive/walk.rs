//! Reading a stream forward, record by record, from a file or a pipe, and
//! finding the way again behind damage.

use super::header::{BLOCK, Header, Kind};
use crate::device::SharedSource;
use crate::error::{Error, Result};
use std::io::{self, Read};

/// Something to read forward that may know how to skip.
pub trait Input: Read {
    /// Passes over `n` bytes; returns how many there were.
    fn skip(&mut self, n: u64) -> io::Result<u64> {
        io::copy(&mut Read::take(&mut *self, n), &mut io::sink())
    }
}

/// An input that only reads: a pipe.
pub struct Pipe<R>(pub R);

impl<R: Read> Read for Pipe<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl<R: Read> Input for Pipe<R> {}

/// A source, read forward.
pub struct Forward {
    source: SharedSource,
    at: u64,
}

impl Forward {
    /// From `at` on.
    pub fn new(source: SharedSource, at: u64) -> Self {
        Self { source, at }
    }
}

impl Read for Forward {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = (self.source.len().saturating_sub(self.at)).min(buf.len() as u64) as usize;
        self.source
            .read_at(self.at, &mut buf[..n])
            .map_err(io::Error::other)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Input for Forward {
    fn skip(&mut self, n: u64) -> io::Result<u64> {
        let n = n.min(self.source.len().saturating_sub(self.at));
        self.at += n;
        Ok(n)
    }
}

/// What [`Walker::step`] came upon.
#[derive(Debug)]
pub enum Found {
    /// A record; its payload comes next.
    Record(Header),
    /// Bytes that belong to no readable record.
    Lost {
        /// First lost byte of the stream.
        from: u64,
        /// First byte behind; equal to `from` when nothing stands there.
        to: u64,
        /// How many records are missing, by the sequence numbers around.
        records: u64,
        /// What was wrong there.
        why: String,
    },
}

/// How a payload came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Every byte.
    Whole,
    /// Every byte, but the padding behind it is not zero.
    DirtyPadding,
    /// The stream ended inside it.
    Short,
}

/// Walks a stream.
pub struct Walker<R> {
    input: R,
    /// Position of the next byte that was not handed out.
    at: u64,
    /// Bytes read too far, to be read again first.
    back: Vec<u8>,
    pending: Option<(u64, u64)>,
    queued: Option<Header>,
    id: Option<[u8; 16]>,
    next_sequence: u64,
}

const SEARCH: usize = 256 << 10;

impl<R: Input> Walker<R> {
    /// Begins at a record that stands at `at` in the stream.
    pub fn new(input: R, at: u64) -> Self {
        Self {
            input,
            at,
            back: Vec::new(),
            pending: None,
            queued: None,
            id: None,
            next_sequence: 0,
        }
    }

    /// Id of the archive, once a record was found.
    pub fn archive_id(&self) -> Option<[u8; 16]> {
        self.id
    }

    /// Position in the stream.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The next thing, or `None` at the end. A payload that was not asked for
    /// is passed over.
    pub fn step(&mut self) -> Result<Option<Found>> {
        if let Some(h) = self.queued.take() {
            return Ok(Some(self.accept(h)));
        }
        if let Some((stored, pad)) = self.pending.take() {
            self.skip(stored + pad)?;
        }
        let start = self.at;
        let mut bytes = Vec::new();
        self.fill(&mut bytes, BLOCK)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.len() < BLOCK {
            return Ok(Some(Found::Lost {
                from: start,
                to: self.at,
                records: 0,
                why: "The stream ends inside a record header".into(),
            }));
        }
        let why = match Header::peek_len(&bytes) {
            None => Error::damaged("Found no record header where one was expected"),
            Some(len) => {
                self.fill(&mut bytes, len)?;
                match self.believe(&bytes, start) {
                    Ok(h) if h.sequence > self.next_sequence => {
                        let records = h.sequence - self.next_sequence;
                        self.queued = Some(h);
                        let why = "Records are missing".into();
                        return Ok(Some(Found::Lost {
                            from: start,
                            to: start,
                            records,
                            why,
                        }));
                    }
                    Ok(h) => return Ok(Some(self.accept(h))),
                    Err(e) if e.kind() == crate::error::ErrorKind::Unsupported => return Err(e),
                    Err(e) => e,
                }
            }
        };
        self.unread(&bytes);
        self.search(start, why.message().to_string())
    }

    /// Reads the payload of the record just found into `out` (replaced).
    pub fn payload(&mut self, out: &mut Vec<u8>) -> Result<Body> {
        out.clear();
        let Some((stored, pad)) = self.pending.take() else {
            return Ok(Body::Whole);
        };
        self.fill(out, stored as usize)?;
        let mut padding = Vec::new();
        self.fill(&mut padding, pad as usize)?;
        Ok(
            if (out.len() as u64) < stored || (padding.len() as u64) < pad {
                Body::Short
            } else if padding.iter().any(|&b| b != 0) {
                Body::DirtyPadding
            } else {
                Body::Whole
            },
        )
    }

    fn believe(&self, bytes: &[u8], at: u64) -> Result<Header> {
        let h = Header::decode(bytes, at)?;
        if self.id.is_some_and(|id| id != h.id) {
            return Err(Error::damaged("Record belongs to another archive").at(at));
        }
        if h.sequence < self.next_sequence {
            return Err(Error::damaged(format!(
                "Record has sequence number {}, expected {}",
                h.sequence, self.next_sequence
            ))
            .at(at));
        }
        if self.id.is_none() && h.kind != Kind::Head && h.stream_offset != at {
            return Err(Error::damaged("Record stands in another place than it states").at(at));
        }
        Ok(h)
    }

    fn accept(&mut self, h: Header) -> Found {
        self.id = Some(h.id);
        self.next_sequence = h.sequence + 1;
        self.pending = Some((h.stored_len, h.stride() - h.len() as u64 - h.stored_len));
        Found::Record(h)
    }

    /// Looks for the next believable header behind `start`.
    fn search(&mut self, start: u64, why: String) -> Result<Option<Found>> {
        let mut window = Vec::new();
        let mut from = 1;
        loop {
            let had = window.len();
            self.fill(&mut window, had + SEARCH)?;
            let grown = window.len() > had;
            let base = self.at - window.len() as u64;
            while let Some(hit) = find(&window, from) {
                let len = Header::peek_len(&window[hit..]).unwrap_or(BLOCK);
                if hit + len > window.len() && grown {
                    break;
                }
                let to = base + hit as u64;
                if let Ok(h) = self.believe(&window[hit..], to) {
                    let records = h.sequence - self.next_sequence;
                    self.unread(&window[hit + h.len()..]);
                    self.queued = Some(h);
                    return Ok(Some(Found::Lost {
                        from: start,
                        to,
                        records,
                        why,
                    }));
                }
                from = hit + 1;
            }
            if !grown {
                return Ok(Some(Found::Lost {
                    from: start,
                    to: self.at,
                    records: 0,
                    why,
                }));
            }
            // Keep what a header may begin in: from the hit that needs more, else the end.
            let keep = find(&window, from)
                .unwrap_or(window.len().saturating_sub(3))
                .max(from.min(window.len()));
            window.drain(..keep);
            from = 0;
        }
    }

    fn unread(&mut self, bytes: &[u8]) {
        self.at -= bytes.len() as u64;
        self.back.splice(0..0, bytes.iter().copied());
    }

    /// Reads until `out` has `len` bytes or the input ends.
    fn fill(&mut self, out: &mut Vec<u8>, len: usize) -> Result<()> {
        let want = len.saturating_sub(out.len());
        let reread = want.min(self.back.len());
        out.extend(self.back.drain(..reread));
        self.at += reread as u64;
        let want = want - reread;
        if want > 0 {
            // Memory grows with what really comes, whatever a header claims.
            let at = self.at;
            let n = self
                .input
                .by_ref()
                .take(want as u64)
                .read_to_end_reserving(out, want)
                .map_err(|e| Error::io("Cannot read the archive", e).at(at))?;
            self.at += n as u64;
        }
        Ok(())
    }

    fn skip(&mut self, n: u64) -> Result<()> {
        let reread = n.min(self.back.len() as u64);
        self.back.drain(..reread as usize);
        let more = self
            .input
            .skip(n - reread)
            .map_err(|e| Error::io("Cannot read the archive", e).at(self.at))?;
        self.at += reread + more;
        Ok(())
    }
}

/// `read_to_end` without its small probing reads for the usual record sizes.
trait ReadReserving: Read {
    fn read_to_end_reserving(&mut self, out: &mut Vec<u8>, want: usize) -> io::Result<usize>;
}

impl<R: Read> ReadReserving for io::Take<R> {
    fn read_to_end_reserving(&mut self, out: &mut Vec<u8>, want: usize) -> io::Result<usize> {
        const STEP: usize = 4 << 20;
        let start = out.len();
        while out.len() - start < want {
            let at = out.len();
            let n = (want - (at - start)).min(STEP);
            out.resize(at + n, 0);
            let mut got = 0;
            while got < n {
                match self.read(&mut out[at + got..at + n]) {
                    Ok(0) => {
                        out.truncate(at + got);
                        return Ok(out.len() - start);
                    }
                    Ok(k) => got += k,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => {
                        out.truncate(at + got);
                        return Err(e);
                    }
                }
            }
        }
        Ok(out.len() - start)
    }
}

fn find(window: &[u8], from: usize) -> Option<usize> {
    let rest = window.get(from..)?;
    rest.windows(4).position(|w| w == b"NTBK").map(|i| from + i)
}
