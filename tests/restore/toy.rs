//! An archive in a directory, a rearrangement that is no file system's, and a
//! target that loses power.

use crate::common;
use ntbak::archive::Forward;
use ntbak::device::{
    FileSource, OpenOptions, Piece, Rearranged, Rearrangement, SharedSource, Sink, Source,
    open_source,
};
use ntbak::error::{Error, Result};
use ntbak::observe::Silent;
use ntbak::ops::image::{Destination, PlanOptions, image, plan};
use ntbak::ops::restore::{RestoreOptions, RestorePlan};
use ntbak::ops::stream::StreamReader;
use ntbak::units::ByteRange;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Bytes that depend on where they are; some blocks are zero.
pub fn content(len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let mut x = 0x2545_f491_4f6c_dd1du64;
    for (i, block) in out.chunks_mut(4096).enumerate() {
        if i % 7 == 3 {
            continue;
        }
        for word in block.chunks_mut(8) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let n = word.len();
            word.copy_from_slice(&x.to_le_bytes()[..n]);
        }
    }
    out
}

/// An archive of all sectors of `bytes`.
pub fn archive(dir: &Path, bytes: &[u8]) -> PathBuf {
    let image_path = dir.join("source.img");
    fs::write(&image_path, bytes).unwrap();
    let opened = open_source(&image_path, OpenOptions::default()).unwrap();
    let options = PlanOptions {
        raw: true,
        ..PlanOptions::default()
    };
    let plan = plan(opened.source, &opened.identity, &options, &Silent).unwrap();
    let to = dir.join("a.ntbak");
    let how = common::image_options();
    image(&plan, Destination::File(to.clone()), &how, &Silent).unwrap();
    to
}

/// A reader at the start of the archive, and the plan of all of it.
pub fn open(archive: &Path) -> (StreamReader<Forward>, RestorePlan) {
    let source: SharedSource = Arc::new(FileSource::open(archive, 512).unwrap());
    let mut reader = StreamReader::new(Forward::new(source, 0));
    let (_, disk) = reader.begin().unwrap();
    let plan = RestorePlan::new(&disk.unwrap(), None).unwrap();
    (reader, plan)
}

pub fn options(verify: bool) -> RestoreOptions {
    RestoreOptions {
        threads: 2,
        zero_free: false,
        partial: false,
        verify,
    }
}

/// Blocks change places, or go, and patches lie over them.
pub struct Shuffle {
    pub block: u64,
    /// For each old block the new one.
    pub to: Vec<Option<u64>>,
    /// For each new block the old one.
    pub from: Vec<Option<u64>>,
    pub patches: Vec<(u64, Vec<u8>)>,
}

impl Shuffle {
    /// The last blocks go where blocks are given up; `keep` blocks are left.
    pub fn shrink(blocks: u64, keep: u64, block: u64, seed: u64) -> Self {
        let mut to: Vec<Option<u64>> = (0..blocks).map(Some).collect();
        let mut x = seed | 1;
        let mut free: Vec<u64> = Vec::new();
        let mut gone = blocks - keep;
        while gone > 0 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let n = 1 + (x >> 33) % (blocks - 1);
            if to[n as usize].take().is_some() {
                gone -= 1;
                if n < keep {
                    free.push(n);
                }
            }
        }
        for n in keep..blocks {
            if to[n as usize].is_some() {
                to[n as usize] = free.pop();
            }
        }
        assert!(free.is_empty());
        let mut from = vec![None; keep as usize];
        for (old, new) in to.iter().enumerate() {
            if let Some(n) = new {
                from[*n as usize] = Some(old as u64);
            }
        }
        let patches = vec![
            (0, vec![0xb0; 512]),
            (block - 512, vec![0xb1; 1024]),
            (3 * block + 512, vec![0xb2; (2 * block) as usize]),
            (keep * block - 512, vec![0xb3; 512]),
        ];
        Self {
            block,
            to,
            from,
            patches,
        }
    }

    fn pieces(&self, map: &[Option<u64>], r: ByteRange, piece: Piece<'_>) -> Result<()> {
        let mut at = r.start;
        while at < r.end {
            let n = (self.block - at % self.block).min(r.end - at);
            let there = map[(at / self.block) as usize];
            piece(there.map(|b| b * self.block + at % self.block), n)?;
            at += n;
        }
        Ok(())
    }

    /// What the new volume holds.
    pub fn wanted(self: &Arc<Self>, old: &[u8]) -> Vec<u8> {
        let source = common::Memory::shared(old.to_vec());
        let new = Rearranged::new(source, self.clone());
        let mut out = vec![0; new.len() as usize];
        new.read_at(0, &mut out).unwrap();
        out
    }
}

impl Rearrangement for Shuffle {
    fn new_len(&self) -> u64 {
        self.from.len() as u64 * self.block
    }
    fn forward(&self, old: ByteRange, piece: Piece<'_>) -> Result<()> {
        self.pieces(&self.to, old, piece)
    }
    fn backward(&self, new: ByteRange, piece: Piece<'_>) -> Result<()> {
        self.pieces(&self.from, new, piece)
    }
    fn patches(&self, each: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        self.patches.iter().try_for_each(|(at, b)| each(*at, b))
    }
    fn patch_into(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset + buf.len() as u64;
        for (at, bytes) in &self.patches {
            let (s, e) = (offset.max(*at), end.min(at + bytes.len() as u64));
            if s < e {
                buf[(s - offset) as usize..(e - offset) as usize]
                    .copy_from_slice(&bytes[(s - at) as usize..(e - at) as usize]);
            }
        }
        Ok(())
    }
}

/// A disk with a cache that loses power after so many writes.
pub struct Dying {
    stable: Mutex<Vec<u8>>,
    cache: Mutex<Vec<(u64, Vec<u8>)>>,
    left: AtomicU64,
    dead: AtomicBool,
    fresh: bool,
}

impl Dying {
    pub fn new(bytes: Vec<u8>, fresh: bool) -> Self {
        Self {
            stable: Mutex::new(bytes),
            cache: Mutex::default(),
            left: AtomicU64::new(u64::MAX),
            dead: AtomicBool::new(false),
            fresh,
        }
    }

    /// Power is back: every other write that was not made durable is lost.
    pub fn again(&self, writes: u64, lose: u64) {
        let mut stable = self.stable.lock().unwrap();
        for (i, (at, bytes)) in self.cache.lock().unwrap().drain(..).enumerate() {
            if (i as u64 + lose).is_multiple_of(2) {
                stable[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
            }
        }
        self.left.store(writes, Ordering::SeqCst);
        self.dead.store(false, Ordering::SeqCst);
    }

    /// How many writes there were in this life.
    pub fn writes(&self) -> u64 {
        u64::MAX - self.left.load(Ordering::SeqCst)
    }

    /// What somebody else does to it.
    pub fn overwrite(&self, at: usize, bytes: &[u8]) {
        self.stable.lock().unwrap()[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.stable.lock().unwrap().clone()
    }

    fn alive(&self) -> Result<()> {
        match self.dead.load(Ordering::SeqCst) {
            true => Err(Error::io("No power", std::io::Error::other("off"))),
            false => Ok(()),
        }
    }
}

impl Sink for Dying {
    fn len(&self) -> u64 {
        self.stable.lock().unwrap().len() as u64
    }
    fn sector_size(&self) -> u32 {
        512
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.alive()?;
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.dead.store(true, Ordering::SeqCst);
        }
        self.alive()?;
        std::thread::sleep(std::time::Duration::from_micros(100));
        self.cache.lock().unwrap().push((offset, data.to_vec()));
        Ok(())
    }
    fn zero_at(&self, offset: u64, len: u64) -> Result<()> {
        self.write_at(offset, &vec![0; len as usize])
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.alive()?;
        self.sync()?;
        let stable = self.stable.lock().unwrap();
        buf.copy_from_slice(&stable[offset as usize..offset as usize + buf.len()]);
        Ok(())
    }
    fn sync(&self) -> Result<()> {
        self.alive()?;
        let mut stable = self.stable.lock().unwrap();
        for (at, bytes) in self.cache.lock().unwrap().drain(..) {
            stable[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
        }
        Ok(())
    }
    fn name(&self) -> &str {
        "a dying disk"
    }
    fn is_fresh(&self) -> bool {
        self.fresh
    }
}
