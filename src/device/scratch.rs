//! Bytes that one part of a job writes and a later one reads: in memory while
//! they are few, then in a file without a name.

use crate::error::{Error, Result};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes that are written to the file at a time.
const AT_ONCE: usize = 1 << 20;

/// Grows at its end, is read anywhere.
pub struct Scratch {
    /// The last bytes: what the file has not got yet.
    memory: Vec<u8>,
    limit: usize,
    file: Option<File>,
    /// Bytes in the file.
    written: u64,
}

impl Scratch {
    /// Keeps up to `limit` bytes in memory. What does not fit there goes into
    /// the directory for temporary files.
    pub fn new(limit: usize) -> Self {
        Self {
            memory: Vec::new(),
            limit,
            file: None,
            written: 0,
        }
    }

    /// Bytes it holds.
    pub fn len(&self) -> u64 {
        self.written + self.memory.len() as u64
    }

    /// True when it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts `bytes` at its end; returns where that was.
    pub fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.len();
        let most = match self.file {
            Some(_) => self.limit.min(AT_ONCE),
            None => self.limit,
        };
        if self.memory.len() + bytes.len() > most {
            let file = match &self.file {
                Some(file) => file,
                None => self.file.insert(unnamed()?),
            };
            write(file, &self.memory, self.written)?;
            self.written = at;
            self.memory.clear();
            self.memory.shrink_to(AT_ONCE);
            if bytes.len() > self.limit.min(AT_ONCE) {
                write(file, bytes, at)?;
                self.written += bytes.len() as u64;
                return Ok(at);
            }
        }
        self.memory.extend_from_slice(bytes);
        Ok(at)
    }

    /// Fills `buf` from `at` on. Reading behind the end is an error.
    pub fn read_at(&self, at: u64, buf: &mut [u8]) -> Result<()> {
        let end = at.checked_add(buf.len() as u64);
        if end.is_none_or(|e| e > self.len()) {
            return Err(Error::damaged(format!(
                "A read of {} bytes at {at} reaches behind the {} bytes kept",
                buf.len(),
                self.len()
            )));
        }
        let stored = self.written.saturating_sub(at).min(buf.len() as u64) as usize;
        let (old, new) = buf.split_at_mut(stored);
        if let Some(file) = &self.file {
            file.read_exact_at(old, at)
                .map_err(|e| Error::io("Cannot read a temporary file", e))?;
        }
        let from = at.saturating_sub(self.written) as usize;
        new.copy_from_slice(&self.memory[from..from + new.len()]);
        Ok(())
    }
}

fn write(file: &File, bytes: &[u8], at: u64) -> Result<()> {
    file.write_all_at(bytes, at)
        .map_err(|e| Error::io("Cannot write a temporary file", e).of(place()))
}

fn unnamed() -> Result<File> {
    let how = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open(std::env::temp_dir(), how, Mode::RUSR | Mode::WUSR)
        .map(File::from)
        .map_err(|e| Error::io("Cannot make a temporary file", e.into()).of(place()))
}

fn place() -> String {
    std::env::temp_dir().display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_in_memory_and_in_a_file() {
        for limit in [0, 10, 1000] {
            let mut s = Scratch::new(limit);
            let mut all = Vec::new();
            for n in 0..40u8 {
                let part = vec![n; usize::from(n)];
                assert_eq!(s.append(&part).unwrap(), all.len() as u64);
                all.extend(part);
            }
            assert_eq!(s.len(), all.len() as u64);
            for (at, len) in [(0, all.len()), (7, 100), (all.len(), 0)] {
                let mut buf = vec![0xaa; len];
                s.read_at(at as u64, &mut buf).unwrap();
                assert_eq!(buf, all[at..at + len]);
            }
            assert!(s.read_at(all.len() as u64, &mut [0]).is_err());
            assert!(s.read_at(u64::MAX, &mut [0]).is_err());
        }
    }
}
