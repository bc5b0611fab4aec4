//! The stream on one cartridge, read forward.

use crate::archive::Input;
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::tape::{Drive, PartMap, Read as Met};
use std::io::{self, Read};

/// So many blocks are sooner read than passed over: a tape stops and turns for
/// a LOCATE.
const NEAR: u64 = 256;

/// Reads the part of the stream that stands on the cartridge in a drive.
pub(super) struct PartReader<'a> {
    drive: &'a mut dyn Drive,
    map: &'a PartMap,
    observer: &'a dyn Observer,
    at: u64,
    /// Stream offset of the block in `block`, if one is there.
    held: Option<u64>,
    block: Vec<u8>,
    /// Object that the drive reads next, as far as that is known.
    stands: Option<u64>,
}

impl<'a> PartReader<'a> {
    /// From the first byte on that stands on the cartridge.
    pub fn new(drive: &'a mut dyn Drive, map: &'a PartMap, observer: &'a dyn Observer) -> Self {
        Self {
            at: map.start(),
            held: None,
            block: vec![0; map.block_bytes() as usize],
            stands: None,
            drive,
            map,
            observer,
        }
    }

    /// The block that holds a byte of the stream.
    pub fn block_of(&mut self, offset: u64) -> Result<&[u8]> {
        let step = self.block.len() as u64;
        let first = offset - offset.checked_rem(step).unwrap_or(0);
        if self.held != Some(first) {
            self.held = None;
            self.fetch(first)?;
            self.held = Some(first);
        }
        Ok(&self.block)
    }

    fn fetch(&mut self, offset: u64) -> Result<()> {
        if self.observer.cancelled() {
            return Err(Error::interrupted());
        }
        let wrong = |what: String| Err(Error::damaged(what).at(offset));
        let Some((object, _)) = self.map.object_of(offset) else {
            return wrong("This part of the stream is not on the cartridge".into());
        };
        let from = match self.stands.take() {
            Some(at) if at <= object && object - at <= NEAR => at,
            _ => {
                self.drive.locate(object)?;
                object
            }
        };
        // Blocks, and filemarks between files, up to the one that is wanted.
        for i in from..=object {
            match self.drive.read(&mut self.block)? {
                Met::Block(n) if n == self.block.len() => self.observer.advance(n as u64),
                Met::Filemark if i < object => {}
                met => {
                    return wrong(format!(
                        "Found {} at object {i} of the cartridge, expected a block of {} bytes",
                        met_text(met),
                        self.block.len()
                    ));
                }
            }
        }
        self.stands = object.checked_add(1);
        Ok(())
    }
}

/// What a read met, in words.
pub(super) fn met_text(met: Met) -> String {
    match met {
        Met::Block(n) => format!("a block of {n} bytes"),
        Met::TooLong(Some(n)) => format!("a block of {n} bytes"),
        Met::TooLong(None) => "a longer block".into(),
        Met::Filemark => "a filemark".into(),
        Met::EndOfData => "the end of data".into(),
    }
}

impl Read for PartReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.map.end().saturating_sub(self.at);
        let step = self.block.len() as u64;
        if left == 0 || buf.is_empty() || step == 0 {
            return Ok(0);
        }
        let at = self.at;
        let inside = (at % step) as usize;
        let block = self.block_of(at).map_err(io::Error::other)?;
        let from = block.get(inside..).unwrap_or_default();
        let n = from.len().min(buf.len());
        for (to, byte) in buf.iter_mut().zip(from) {
            *to = *byte;
        }
        self.at += n as u64;
        Ok(n)
    }
}

impl Input for PartReader<'_> {
    fn skip(&mut self, n: u64) -> io::Result<u64> {
        let n = n.min(self.map.end().saturating_sub(self.at));
        self.at += n;
        Ok(n)
    }
}
