//! A set of cartridges as a source: positioned reads of the stream.

use super::drive::{Drive, Read};
use super::label::Id;
use super::media::{Media, Wanted};
use super::part::{PartMap, scan};
use crate::device::Source;
use crate::error::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// How often a wrong cartridge may come before the read gives up.
const ATTEMPTS: u32 = 16;
/// Bytes of blocks kept for the next read.
const CACHE: usize = 16 << 20;

/// The stream of a set, read from tape.
pub struct TapeSource {
    name: String,
    set: Id,
    block: u64,
    len: u64,
    state: Mutex<State>,
}

struct State {
    drive: Box<dyn Drive>,
    media: Box<dyn Media>,
    parts: BTreeMap<u32, PartMap>,
    /// The cartridge in the drive.
    mounted: u32,
    /// Where it stands, if that is sure.
    at: Option<u64>,
    /// Blocks by number in the stream, the latest at the end.
    cache: Vec<(u64, Arc<Vec<u8>>)>,
    blocks_read: u64,
}

impl TapeSource {
    /// Opens the set that the cartridge in the drive belongs to. `known` are
    /// its cartridges as the inventory has them; those that are not known are
    /// asked for.
    pub fn open(drive: Box<dyn Drive>, media: Box<dyn Media>, known: Vec<PartMap>) -> Result<Self> {
        Self::find(drive, media, known, false)
    }

    /// Opens a set that a writer will go on with. When its last cartridge says
    /// that another one follows, that one may never have been begun: where
    /// none comes, the stream ends here.
    pub fn open_unfinished(drive: Box<dyn Drive>, media: Box<dyn Media>) -> Result<Self> {
        Self::find(drive, media, Vec::new(), true)
    }

    fn find(
        mut drive: Box<dyn Drive>,
        media: Box<dyn Media>,
        known: Vec<PartMap>,
        unfinished: bool,
    ) -> Result<Self> {
        let here = scan(&mut *drive)?;
        let name = drive.name().to_string();
        let (Some(set), block) = (here.set(), u64::from(here.block_bytes())) else {
            return Err(Error::not_found("The cartridge belongs to no set").of(name));
        };
        let mounted = here.sequence();
        let mut parts: BTreeMap<u32, PartMap> = known
            .into_iter()
            .filter(|p| p.set() == Some(set) && u64::from(p.block_bytes()) == block)
            .map(|p| (p.sequence(), p))
            .collect();
        parts.insert(mounted, here);
        let mut state = State {
            drive,
            media,
            parts,
            mounted,
            at: None,
            cache: Vec::new(),
            blocks_read: 0,
        };
        // The end of the stream is on the last cartridge.
        while let Some((&last, part)) = state.parts.last_key_value() {
            if !part.continued {
                break;
            }
            match unfinished {
                true if !state.try_next(set, last)? => break,
                true => {}
                false => state.mount(set, after(last)?)?,
            }
        }
        let len = state.parts.values().map(PartMap::end).max().unwrap_or(0);
        Ok(Self {
            name,
            set,
            block,
            len,
            state: Mutex::new(state),
        })
    }

    /// The set.
    pub fn set(&self) -> Id {
        self.set
    }

    /// Bytes of a block.
    pub fn block_bytes(&self) -> u32 {
        self.block as u32
    }

    /// The cartridges that are known by now.
    pub fn parts(&self) -> Vec<PartMap> {
        self.lock().parts.values().cloned().collect()
    }

    /// Blocks read from the drive so far.
    pub fn blocks_read(&self) -> u64 {
        self.lock().blocks_read
    }

    /// Lets somebody else use the drive while no block is read. What the
    /// source knew of the position is forgotten.
    pub fn with_drive<R>(&self, f: impl FnOnce(&mut dyn Drive) -> Result<R>) -> Result<R> {
        let mut s = self.lock();
        s.at = None;
        f(&mut *s.drive)
    }

    /// Brings the cartridge that holds a byte of the stream into the drive:
    /// its map.
    pub fn mount_for(&self, offset: u64) -> Result<PartMap> {
        let mut s = self.lock();
        let sequence = s.find(self.set, offset)?;
        s.mount(self.set, sequence)?;
        s.parts
            .get(&sequence)
            .cloned()
            .ok_or_else(|| behind(offset, self.len))
    }

    /// Brings the cartridge in on which a writer goes on at this boundary of
    /// blocks; gives back the drive, who changes its cartridges, and the
    /// cartridges up to this one.
    #[allow(clippy::type_complexity)]
    pub fn into_writer(
        self,
        offset: u64,
    ) -> Result<(Box<dyn Drive>, Box<dyn Media>, Vec<PartMap>)> {
        let mut state = self.state.into_inner().unwrap_or_else(|e| e.into_inner());
        let last = state
            .parts
            .values()
            .find(|p| p.start() <= offset && (offset < p.end() || !p.continued))
            // Closed, and the next one was never begun.
            .or_else(|| {
                let last = state.parts.values().next_back();
                last.filter(|p| p.end() == offset)
            })
            .map(PartMap::sequence)
            .ok_or_else(|| behind(offset, self.len).of(&*self.name))?;
        state.mount(self.set, last)?;
        let parts = state.parts.into_values().filter(|p| p.sequence() <= last);
        Ok((state.drive, state.media, parts.collect()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl State {
    /// Number of the cartridge that holds this byte; brings in those that are
    /// in between as long as that is not known.
    fn find(&mut self, set: Id, offset: u64) -> Result<u32> {
        loop {
            let held = self
                .parts
                .values()
                .find(|p| p.start() <= offset && offset < p.end());
            if let Some(p) = held {
                return Ok(p.sequence());
            }
            let before = self.parts.values().rev().find(|p| p.end() <= offset);
            let next = match before {
                Some(p) if p.continued => after(p.sequence())?,
                Some(_) => return Err(behind(offset, offset)),
                None => {
                    let first = self.parts.keys().next().copied().unwrap_or(1);
                    first.checked_sub(1).filter(|&n| n > 0).ok_or_else(|| {
                        Error::damaged("No cartridge of the set holds this").at(offset)
                    })?
                }
            };
            if self.parts.contains_key(&next) {
                return Err(Error::damaged("No cartridge of the set holds this").at(offset));
            }
            self.mount(set, next)?;
        }
    }

    fn mount(&mut self, set: Id, sequence: u32) -> Result<()> {
        if self.mounted == sequence && self.parts.contains_key(&sequence) {
            return Ok(());
        }
        let wanted = Wanted::Part {
            set,
            sequence,
            name: self.parts.get(&sequence).map(|p| p.label.name.clone()),
        };
        self.fetch(set, &wanted, |n| n == sequence).map(drop)
    }

    /// Brings in the cartridge behind the last one. False: there is none.
    fn try_next(&mut self, set: Id, last: u32) -> Result<bool> {
        if !self.media.can_change() {
            return Ok(false);
        }
        let sequence = after(last)?;
        let wanted = Wanted::Next { set, sequence };
        // Who puts in the last one again says that there is no other.
        match self.fetch(set, &wanted, |n| n == sequence || n == last) {
            Ok(n) => Ok(n == sequence),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Has cartridges changed until one of the set comes that will do: its number.
    fn fetch(&mut self, set: Id, wanted: &Wanted, fits: impl Fn(u32) -> bool) -> Result<u32> {
        (self.mounted, self.at) = (0, None);
        for attempt in 0..ATTEMPTS {
            // What is in the drive goes out; there may be nothing.
            let _ = self.drive.unload();
            self.media.change(&mut *self.drive, wanted, attempt)?;
            let Ok(here) = scan(&mut *self.drive) else {
                continue;
            };
            let sequence = here.sequence();
            if here.set() == Some(set) && fits(sequence) {
                self.mounted = sequence;
                self.parts.insert(sequence, here);
                return Ok(sequence);
            }
        }
        Err(Error::refused(format!(
            "The drive needs {wanted}; {ATTEMPTS} others came instead"
        ))
        .of(self.drive.name()))
    }

    fn block(&mut self, set: Id, number: u64, block: u64) -> Result<Arc<Vec<u8>>> {
        if let Some(i) = self.cache.iter().position(|(n, _)| *n == number) {
            let hit = self.cache.remove(i);
            let data = hit.1.clone();
            self.cache.push(hit);
            return Ok(data);
        }
        let offset = number * block;
        let sequence = self.find(set, offset)?;
        self.mount(set, sequence)?;
        let (object, _) = self
            .parts
            .get(&sequence)
            .and_then(|p| p.object_of(offset))
            .ok_or_else(|| Error::damaged("No cartridge of the set holds this").at(offset))?;
        let data = Arc::new(self.read_object(object, offset, block)?);
        while self.cache.len() >= (CACHE / block as usize).max(2) {
            self.cache.remove(0);
        }
        self.cache.push((number, data.clone()));
        Ok(data)
    }

    fn read_object(&mut self, object: u64, offset: u64, block: u64) -> Result<Vec<u8>> {
        if self.at.take() != Some(object) {
            self.drive.locate(object)?;
        }
        let mut buf = vec![0; block as usize];
        let met = self.drive.read(&mut buf)?;
        self.blocks_read += 1;
        let what = match met {
            Read::Block(n) if n as u64 == block => {
                self.at = Some(object + 1);
                return Ok(buf);
            }
            Read::Block(n) => format!("a block of {n} bytes"),
            Read::TooLong(Some(n)) => format!("a block of {n} bytes"),
            Read::TooLong(None) => "a longer block".into(),
            Read::Filemark => "a filemark".into(),
            Read::EndOfData => "the end of data".into(),
        };
        Err(Error::damaged(format!(
            "Found {what} at object {object} of the cartridge, expected a block of {block} bytes"
        ))
        .of(self.drive.name())
        .at(offset))
    }
}

impl Source for TapeSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn sector_size(&self) -> u32 {
        512
    }

    fn lost_together(&self) -> Option<u64> {
        Some(self.block)
    }

    fn is_finished(&self) -> bool {
        let parts = &self.lock().parts;
        parts.last_key_value().is_none_or(|(_, p)| p.closed)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if offset
            .checked_add(buf.len() as u64)
            .is_none_or(|e| e > self.len)
        {
            return Err(behind(offset, self.len).of(&*self.name));
        }
        let mut state = self.lock();
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let data = state.block(self.set, at / self.block, self.block)?;
            let from = (at % self.block) as usize;
            let n = (data.len() - from).min(buf.len() - done);
            buf[done..done + n].copy_from_slice(&data[from..from + n]);
            done += n;
        }
        Ok(())
    }

    fn name(&self) -> &str {
        &self.name
    }
}

fn after(sequence: u32) -> Result<u32> {
    sequence
        .checked_add(1)
        .ok_or_else(|| Error::damaged("A cartridge states a number that cannot be"))
}

fn behind(offset: u64, len: u64) -> Error {
    Error::new(
        ErrorKind::Damaged,
        format!("A read reaches behind the end of the set ({len} bytes)"),
    )
    .at(offset)
}
