//! The words between objects of a `.tap` file, and walking along them.

use super::runs::Runs;
use crate::error::{Error, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Longest block: what the 24 bits of READ(6) can name.
pub const MAX_BLOCK: u32 = 0xff_ffff;

const FILEMARK: u32 = 0;
const GAP: u32 = 0xffff_fffe;
const END: u32 = 0xffff_ffff;

/// An object of the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// A filemark.
    Filemark,
    /// A block of so many bytes.
    Block(u32),
    /// A block that its maker could not read soundly.
    BadBlock(u32),
}

impl Object {
    /// The word in front of it (and behind a block).
    pub(super) fn word(self) -> u32 {
        match self {
            Object::Filemark => FILEMARK,
            Object::Block(n) => n,
            Object::BadBlock(n) => n | 0x8000_0000,
        }
    }

    /// From the word in front of it.
    pub(super) fn of(word: u32) -> Option<Self> {
        let len = word & 0x0fff_ffff;
        match word >> 28 {
            0 if len == 0 => Some(Object::Filemark),
            0 if len <= MAX_BLOCK => Some(Object::Block(len)),
            8 if len > 0 && len <= MAX_BLOCK => Some(Object::BadBlock(len)),
            _ => None,
        }
    }

    /// Bytes of data.
    pub(super) fn data_len(self) -> u32 {
        match self {
            Object::Filemark => 0,
            Object::Block(n) | Object::BadBlock(n) => n,
        }
    }

    /// Bytes in the file, words and padding included.
    pub(super) fn stride(self) -> u64 {
        match self {
            Object::Filemark => 4,
            Object::Block(n) | Object::BadBlock(n) => 8 + u64::from(n) + u64::from(n & 1),
        }
    }
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// At the end of the file, or at an end-of-data word.
    Clean,
    /// In front of an incomplete record, which runs to the end of the file.
    Torn,
}

/// Walks from `from` to the end of data, adding objects to `runs`. Gives the
/// offset of the end of data.
pub(super) fn walk(
    file: &File,
    name: &str,
    from: u64,
    file_len: u64,
    runs: &mut Runs,
) -> Result<(u64, Tail)> {
    let mut window = Window::new(file, name, file_len);
    let mut at = from;
    loop {
        if at == file_len {
            return Ok((at, Tail::Clean));
        }
        if file_len - at < 4 {
            return Ok((at, Tail::Torn));
        }
        let word = window.word(at)?;
        match word {
            END => return Ok((at, Tail::Clean)),
            GAP => {
                at += 4;
                continue;
            }
            _ => {}
        }
        let Some(object) = Object::of(word) else {
            return Err(Error::damaged(format!(
                "Found the word {word:08x}, expected a filemark or the length of a block (1 to {MAX_BLOCK})"
            ))
            .of(name)
            .at(at)
            .hint("the file is not a tape image in SIMH form, or it is damaged here"));
        };
        let stride = object.stride();
        let complete = at.checked_add(stride).filter(|end| *end <= file_len);
        if object != Object::Filemark {
            let second = match complete {
                Some(end) => Some(window.word(end - 4)?),
                None => None,
            };
            if second != Some(word) {
                let n = object.data_len();
                let behind = at + 4 + u64::from(n);
                if n & 1 == 1 && behind + 4 <= file_len && window.word(behind)? == word {
                    return Err(Error::damaged(format!(
                        "The block of {n} bytes has no padding byte behind it"
                    ))
                    .of(name)
                    .at(at)
                    .hint("this is the E11 variant of the format; convert it to SIMH form"));
                }
                match complete {
                    Some(end) if end < file_len => {
                        return Err(Error::damaged(format!(
                            "Found the word {:08x} behind a block, expected {word:08x} as in front of it",
                            second.unwrap_or(0)
                        ))
                        .of(name)
                        .at(end - 4)
                        .hint("the file is not a tape image in SIMH form, or it is damaged here"));
                    }
                    _ => return Ok((at, Tail::Torn)),
                }
            }
        }
        runs.push(at, object, 1).map_err(|e| e.of(name).at(at))?;
        at += stride;
    }
}

/// Reads words through a piece of the file: large where words are close to
/// each other, a page where they are far apart.
struct Window<'a> {
    file: &'a File,
    name: &'a str,
    file_len: u64,
    start: u64,
    buf: Vec<u8>,
    /// Bytes asked for next time.
    size: usize,
}

impl<'a> Window<'a> {
    fn new(file: &'a File, name: &'a str, file_len: u64) -> Self {
        Self {
            file,
            name,
            file_len,
            start: 0,
            buf: Vec::new(),
            size: 4096,
        }
    }

    /// The word at `at`, which must end inside the file.
    fn word(&mut self, at: u64) -> Result<u32> {
        if let Some(w) = self.held(at) {
            return Ok(w);
        }
        let end = self.start + self.buf.len() as u64;
        let near = at >= self.start && at < end + 64 * 1024;
        self.size = if near {
            (self.size * 2).min(256 * 1024)
        } else {
            4096
        };
        let len = (self.file_len.saturating_sub(at)).min(self.size as u64) as usize;
        self.buf.resize(len, 0);
        self.start = at;
        self.file.read_exact_at(&mut self.buf, at).map_err(|e| {
            Error::io(format!("Cannot read {len} bytes"), e)
                .of(self.name)
                .at(at)
        })?;
        self.held(at).ok_or_else(|| {
            Error::damaged("The file ends inside a word")
                .of(self.name)
                .at(at)
        })
    }

    fn held(&self, at: u64) -> Option<u32> {
        let i = usize::try_from(at.checked_sub(self.start)?).ok()?;
        let b = self.buf.get(i..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*b))
    }
}
