//! Disks and tapes in memory.

use std::collections::{BTreeMap, BTreeSet};

/// Sense key and code of a command that a device ended with CHECK CONDITION.
pub type Fault = (u8, u16);

/// A device of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Device {
    Disk(Disk),
    Tape(Tape),
}

/// A sparse disk: blocks that were never written read as zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Bytes of a block.
    pub block: u32,
    /// Number of blocks.
    pub blocks: u64,
    /// What was written, by LBA.
    pub data: BTreeMap<u64, Vec<u8>>,
    /// Blocks that cannot be read.
    pub bad: BTreeSet<u64>,
}

impl Disk {
    /// All zeros.
    pub fn new(block: u32, blocks: u64) -> Self {
        Self {
            block,
            blocks,
            data: BTreeMap::new(),
            bad: BTreeSet::new(),
        }
    }

    /// One block.
    pub fn read(&self, lba: u64) -> Result<Vec<u8>, Fault> {
        if lba >= self.blocks {
            return Err((0x5, 0x2100));
        }
        if self.bad.contains(&lba) {
            return Err((0x3, 0x1100));
        }
        let zeros = || vec![0; self.block as usize];
        Ok(self.data.get(&lba).cloned().unwrap_or_else(zeros))
    }

    /// Writes one block. Zeros are forgotten, so that equal disks are equal.
    pub fn write(&mut self, lba: u64, data: Vec<u8>) -> Result<(), Fault> {
        if lba >= self.blocks {
            return Err((0x5, 0x2100));
        }
        if data.iter().all(|b| *b == 0) {
            self.data.remove(&lba);
        } else {
            self.data.insert(lba, data);
        }
        Ok(())
    }

    /// Many blocks at once.
    pub fn fill(&mut self, lba: u64, data: &[u8]) {
        for (i, block) in data.chunks(self.block as usize).enumerate() {
            let mut block = block.to_vec();
            block.resize(self.block as usize, 0);
            let _ = self.write(lba + i as u64, block);
        }
    }

    /// Bytes from the start of a block on.
    pub fn bytes(&self, lba: u64, len: usize) -> Vec<u8> {
        let n = len.div_ceil(self.block as usize) as u64;
        let mut out: Vec<u8> = (lba..lba + n)
            .flat_map(|l| self.read(l).unwrap_or_default())
            .collect();
        out.truncate(len);
        out
    }
}

/// What stands on a tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A block.
    Block(Vec<u8>),
    /// A filemark.
    Mark,
}

/// A tape without end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tape {
    /// Objects from the beginning.
    pub objects: Vec<Object>,
    /// Number of the object that is read or written next.
    pub position: usize,
}

impl Tape {
    /// Reads a block of this length, as without SILI.
    pub fn read(&mut self, len: usize) -> Result<Vec<u8>, Fault> {
        let object = self.objects.get(self.position).cloned();
        match object {
            None => Err((0x8, 0x0005)),
            Some(Object::Mark) => {
                self.position += 1;
                Err((0x0, 0x0001))
            }
            Some(Object::Block(b)) => {
                self.position += 1;
                if b.len() == len {
                    Ok(b)
                } else {
                    Err((0x0, 0x0000))
                }
            }
        }
    }

    /// Writes an object; what stood behind it is gone.
    pub fn write(&mut self, object: Object) {
        self.objects.truncate(self.position);
        self.objects.push(object);
        self.position += 1;
    }

    /// LOCATE.
    pub fn locate(&mut self, object: u64) -> Result<(), Fault> {
        let end = self.objects.len();
        self.position = usize::try_from(object).unwrap_or(end).min(end);
        if object > end as u64 {
            return Err((0x8, 0x0005));
        }
        Ok(())
    }

    /// SPACE: code 0 blocks, 1 filemarks, 2 filemarks in a row, 3 end of data.
    pub fn space(&mut self, code: u8, count: i32) -> Result<(), Fault> {
        if code == 3 {
            self.position = self.objects.len();
            return Ok(());
        }
        let mut left = count.unsigned_abs();
        let mut row = 0;
        while left > 0 {
            let mark = if count > 0 {
                let Some(o) = self.objects.get(self.position) else {
                    return Err((0x8, 0x0005));
                };
                self.position += 1;
                *o == Object::Mark
            } else {
                let Some(o) = self
                    .position
                    .checked_sub(1)
                    .and_then(|p| self.objects.get(p))
                else {
                    return Err((0x0, 0x0004));
                };
                self.position -= 1;
                *o == Object::Mark
            };
            row = if mark { row + 1 } else { 0 };
            match code {
                0 if mark => return Err((0x0, 0x0001)),
                0 => left -= 1,
                1 if mark => left -= 1,
                2 if row == count.unsigned_abs() => left = 0,
                _ => {}
            }
        }
        Ok(())
    }

    /// Lengths of its objects, 0 for a filemark.
    pub fn shape(&self) -> Vec<usize> {
        let len = |o: &Object| match o {
            Object::Block(b) => b.len(),
            Object::Mark => 0,
        };
        self.objects.iter().map(len).collect()
    }

    /// The bytes of its blocks from one object on, up to a filemark.
    pub fn stream(&self, from: usize) -> Vec<u8> {
        self.objects
            .iter()
            .skip(from)
            .map_while(|o| match o {
                Object::Block(b) => Some(b.as_slice()),
                Object::Mark => None,
            })
            .flatten()
            .copied()
            .collect()
    }
}
