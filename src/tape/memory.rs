//! A drive whose cartridges are memory: for tests and dry runs.

use super::drive::{Capacity, Drive, DriveInfo, Position, Read, Room, Written};
use crate::error::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard};

/// What stands on a cartridge: blocks, and `None` for filemarks.
pub type Objects = Vec<Option<Arc<[u8]>>>;

/// A cartridge, shared with whoever looks at it.
#[derive(Clone, Default)]
pub struct Cartridge(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    objects: Objects,
    used: u64,
    /// Bytes that fit, and how many of them come behind early warning.
    capacity: Option<(u64, u64)>,
    write_protected: bool,
    /// Writes that still succeed; then the drive fails.
    fail_after: Option<u64>,
}

impl Cartridge {
    /// Room for this many bytes, early warning `warning` bytes before the end.
    pub fn with_capacity(bytes: u64, warning: u64) -> Self {
        let c = Self::default();
        c.lock().capacity = Some((bytes, warning));
        c
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Everything on it.
    pub fn objects(&self) -> Objects {
        self.lock().objects.clone()
    }

    /// Replaces what is on it.
    pub fn set_objects(&self, objects: Objects) {
        let mut c = self.lock();
        c.used = bytes_of(&objects);
        c.objects = objects;
    }

    /// Sets the write-protect tab.
    pub fn protect(&self, on: bool) {
        self.lock().write_protected = on;
    }

    /// After this many more blocks and filemarks every write fails.
    pub fn fail_after(&self, writes: Option<u64>) {
        self.lock().fail_after = writes;
    }
}

fn bytes_of(objects: &Objects) -> u64 {
    objects.iter().flatten().map(|b| b.len() as u64).sum()
}

/// A drive that holds one of them, or none.
pub struct MemoryDrive {
    cartridge: Option<Cartridge>,
    at: usize,
    /// LOCATE commands so far.
    pub locates: u64,
    /// Blocks read so far.
    pub reads: u64,
}

impl MemoryDrive {
    /// With a cartridge in it.
    pub fn new(cartridge: Cartridge) -> Self {
        Self {
            cartridge: Some(cartridge),
            at: 0,
            locates: 0,
            reads: 0,
        }
    }

    /// Puts another cartridge in.
    pub fn insert(&mut self, cartridge: Cartridge) {
        self.cartridge = Some(cartridge);
        self.at = 0;
    }

    fn medium(&self) -> Result<Cartridge> {
        self.cartridge
            .clone()
            .ok_or_else(|| Error::not_found("There is no cartridge in the drive").of("memory"))
    }

    fn put(&mut self, object: Option<Arc<[u8]>>) -> Result<Option<Room>> {
        let medium = self.medium()?;
        let mut c = medium.lock();
        if c.write_protected {
            return Err(Error::refused("The cartridge is write-protected").of("memory"));
        }
        if let Some(n) = &mut c.fail_after {
            if *n == 0 {
                return Err(Error::new(ErrorKind::Scsi, "Write failed").of("memory"));
            }
            *n -= 1;
        }
        if self.at < c.objects.len() {
            let gone = c.objects.split_off(self.at);
            c.used -= bytes_of(&gone);
        }
        let len = object.as_ref().map_or(0, |b| b.len() as u64);
        if c.capacity.is_some_and(|(all, _)| c.used + len > all) {
            return Ok(None);
        }
        c.objects.push(object);
        c.used += len;
        self.at += 1;
        let near = c.capacity.is_some_and(|(all, w)| c.used + w > all);
        Ok(Some(match near {
            true => Room::EarlyWarning,
            false => Room::Plenty,
        }))
    }
}

impl Drive for MemoryDrive {
    fn name(&self) -> &str {
        "memory"
    }

    fn info(&mut self) -> Result<DriveInfo> {
        let write_protected = self.medium()?.lock().write_protected;
        Ok(DriveInfo {
            model: "memory".into(),
            serial: None,
            max_block: 8 << 20,
            write_protected,
        })
    }

    fn capacity(&mut self) -> Result<Option<Capacity>> {
        let medium = self.medium()?;
        let c = medium.lock();
        Ok(c.capacity.map(|(maximum, _)| Capacity {
            remaining: maximum.saturating_sub(c.used),
            maximum,
        }))
    }

    fn rewind(&mut self) -> Result<()> {
        self.medium()?;
        self.at = 0;
        Ok(())
    }

    fn locate(&mut self, object: u64) -> Result<()> {
        self.locates += 1;
        let len = self.medium()?.lock().objects.len();
        if object > len as u64 {
            self.at = len;
            return Err(Error::not_found(format!(
                "Object {object} lies behind the end of data at {len}"
            ))
            .of("memory"));
        }
        self.at = object as usize;
        Ok(())
    }

    fn end_of_data(&mut self) -> Result<()> {
        self.at = self.medium()?.lock().objects.len();
        Ok(())
    }

    fn space_filemarks(&mut self, count: i64) -> Result<()> {
        let medium = self.medium()?;
        let c = medium.lock();
        for _ in 0..count.unsigned_abs() {
            let found = match count > 0 {
                true => (self.at..c.objects.len())
                    .find(|&i| c.objects[i].is_none())
                    .map(|i| i + 1),
                false => (0..self.at).rev().find(|&i| c.objects[i].is_none()),
            };
            // A drive runs as far as it can.
            self.at = found.unwrap_or(match count > 0 {
                true => c.objects.len(),
                false => 0,
            });
            if found.is_none() {
                return Err(Error::not_found("There are fewer filemarks than asked").of("memory"));
            }
        }
        Ok(())
    }

    fn position(&mut self) -> Result<Position> {
        let medium = self.medium()?;
        let c = medium.lock();
        let files = c.objects[..self.at].iter().filter(|o| o.is_none()).count();
        Ok(Position {
            object: self.at as u64,
            file: Some(files as u64),
            bop: self.at == 0,
            early_warning: c.capacity.is_some_and(|(all, w)| c.used + w > all),
        })
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<Read> {
        let medium = self.medium()?;
        let c = medium.lock();
        let Some(object) = c.objects.get(self.at) else {
            return Ok(Read::EndOfData);
        };
        self.at += 1;
        let Some(block) = object else {
            return Ok(Read::Filemark);
        };
        self.reads += 1;
        match buf.get_mut(..block.len()) {
            Some(part) => {
                part.copy_from_slice(block);
                Ok(Read::Block(block.len()))
            }
            None => Ok(Read::TooLong(Some(block.len() as u64))),
        }
    }

    fn write(&mut self, data: &[u8], block: usize) -> Result<Written> {
        let mut taken = 0;
        for part in data.chunks(block.max(1)) {
            match self.put(Some(part.into()))? {
                None => {
                    let room = Room::Full;
                    return Ok(Written { taken, room });
                }
                Some(room) => {
                    taken += part.len();
                    if room != Room::Plenty {
                        return Ok(Written { taken, room });
                    }
                }
            }
        }
        let room = Room::Plenty;
        Ok(Written { taken, room })
    }

    fn write_filemarks(&mut self, count: u32) -> Result<Written> {
        let mut room = Room::Plenty;
        for _ in 0..count {
            room = self.put(None)?.unwrap_or(Room::Full);
        }
        let taken = count as usize;
        Ok(Written { taken, room })
    }

    fn load(&mut self) -> Result<()> {
        self.rewind()
    }

    fn unload(&mut self) -> Result<()> {
        self.medium()?;
        self.cartridge = None;
        self.at = 0;
        Ok(())
    }
}
