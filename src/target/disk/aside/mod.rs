//! Copy-on-write: what a snapshot still needs of the disk is put aside before it
//! is changed, cell by cell.
//!
//! A writer puts a cell aside, marks it, and only then changes the disk. A reader
//! of the snapshot reads the disk first and looks at the mark afterwards: where
//! there is one, the disk may have been changed already, and the cell is read
//! again from where it was put. So readers never hold up writers.

#[cfg(test)]
mod tests;

use crate::target::common::lock;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex};

/// Bytes of a cell, unless the disk would have too many.
const CELL: u64 = 64 << 10;
/// Most cells of a disk: their marks are kept in memory.
const MOST_CELLS: u64 = 1 << 26;
/// What is read by itself where a cell cannot be read as a whole.
const SECTOR: usize = 512;
/// Most sectors that a snapshot remembers as unreadable.
const MOST_BAD: usize = 1 << 16;
/// Cells whose numbers differ by a multiple of this wait for each other.
const STRIPES: usize = 64;

/// Every cell is there, on the disk or aside.
const WHOLE: u8 = 0;
/// Deleted.
const ENDED: u8 = 1;
/// Something could not be put aside.
const LOST: u8 = 2;

/// Bytes of a cell of a disk.
pub fn cell_bytes(len: u64) -> u64 {
    let mut cell = CELL;
    while len.div_ceil(cell) > MOST_CELLS {
        cell *= 2;
    }
    cell
}

/// Told why a snapshot is lost.
pub type OnLoss = Box<dyn Fn(&io::Error) + Send + Sync>;

/// What one snapshot has of the disk as it was.
pub struct Aside {
    disk: Arc<File>,
    len: u64,
    cell: u64,
    /// Cells at their own offsets; a hole is zeros.
    file: File,
    marks: Box<[AtomicU64]>,
    /// Sectors of marked cells that could not be read, by their first bytes.
    bad: Mutex<BTreeSet<u64>>,
    state: AtomicU8,
    on_loss: OnLoss,
}

impl Aside {
    /// Of a disk of `len` bytes that nobody changes until the snapshot is among
    /// its [`Snapshots`].
    pub fn new(disk: Arc<File>, len: u64, file: File, on_loss: OnLoss) -> Self {
        Self::with_cell(disk, len, cell_bytes(len), file, on_loss)
    }

    /// With cells of another size.
    pub fn with_cell(disk: Arc<File>, len: u64, cell: u64, file: File, on_loss: OnLoss) -> Self {
        let words = len.div_ceil(cell).div_ceil(64) as usize;
        Self {
            disk,
            len,
            cell,
            file,
            marks: (0..words).map(|_| AtomicU64::new(0)).collect(),
            bad: Mutex::default(),
            state: AtomicU8::new(WHOLE),
            on_loss,
        }
    }

    /// Bytes that it holds on its own.
    pub fn held(&self) -> u64 {
        self.file.metadata().map_or(0, |m| m.blocks() * 512)
    }

    /// True once something could not be put aside.
    pub fn lost(&self) -> bool {
        self.state.load(Ordering::SeqCst) == LOST
    }

    /// True once it cannot be read any more.
    pub fn over(&self) -> bool {
        self.state.load(Ordering::SeqCst) != WHOLE
    }

    /// Nothing is put aside any more.
    pub fn end(&self) {
        self.state.store(ENDED, Ordering::SeqCst);
        // Only room is at stake, here and below; readers look at the state when
        // they have read.
        let _ = self.file.set_len(0);
    }

    fn lose(&self, why: &io::Error) {
        let was = self
            .state
            .compare_exchange(WHOLE, LOST, Ordering::SeqCst, Ordering::SeqCst);
        if was.is_ok() {
            let _ = self.file.set_len(0);
            (self.on_loss)(why);
        }
    }

    fn marked(&self, cell: u64) -> bool {
        self.marks
            .get((cell / 64) as usize)
            .is_some_and(|w| w.load(Ordering::SeqCst) >> (cell % 64) & 1 != 0)
    }

    /// True when the disk may change a cell as far as this snapshot goes.
    fn lets_go(&self, cell: u64) -> bool {
        self.marked(cell) || self.over()
    }

    /// Puts a cell aside. Afterwards it is marked, or the snapshot is lost.
    fn put(&self, cell: u64, at: u64, bytes: &[u8], bad: &[u64]) {
        if !bad.is_empty() {
            let mut all = lock(&self.bad);
            all.extend(bad);
            if all.len() > MOST_BAD {
                drop(all);
                return self.lose(&io::Error::other("too many sectors cannot be read"));
            }
        }
        if bytes.iter().any(|b| *b != 0)
            && let Err(e) = self.file.write_all_at(bytes, at)
        {
            return self.lose(&e);
        }
        if let Some(word) = self.marks.get((cell / 64) as usize) {
            word.fetch_or(1 << (cell % 64), Ordering::SeqCst);
        }
    }

    /// Fills `buf` with what was there when the snapshot was made.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let done = self.read_cells(offset, buf);
        fence(Ordering::SeqCst);
        match self.over() {
            true => Err(io::Error::other("the snapshot is gone")),
            false => done,
        }
    }

    fn read_cells(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let (mut at, mut rest) = (offset, buf);
        while !rest.is_empty() {
            let first = at / self.cell;
            let marked = self.marked(first);
            let mut next = first + 1;
            let most = at.saturating_add(rest.len() as u64);
            while next * self.cell < most && self.marked(next) == marked {
                next += 1;
            }
            let n = (next * self.cell).min(most) - at;
            let (now, behind) = rest.split_at_mut(n as usize);
            if marked {
                self.read_aside(at, now)?;
            } else {
                self.disk.read_exact_at(now, at)?;
                // Pairs with the one in `before_change`.
                fence(Ordering::SeqCst);
                for cell in first..next {
                    if self.marked(cell) {
                        let from = (cell * self.cell).max(at);
                        let to = ((cell + 1) * self.cell).min(at + n);
                        let part = now.get_mut((from - at) as usize..(to - at) as usize);
                        self.read_aside(from, part.unwrap_or_default())?;
                    }
                }
            }
            rest = behind;
            at += n;
        }
        Ok(())
    }

    fn read_aside(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = at.saturating_add(buf.len() as u64);
        let from = at.saturating_sub(SECTOR as u64 - 1);
        if lock(&self.bad).range(from..end).next().is_some() {
            return Err(io::Error::other("the disk could not read it"));
        }
        let (mut at, mut rest) = (at, buf);
        while !rest.is_empty() {
            match self.file.read_at(rest, at) {
                // Behind the last cell that is not zeros.
                Ok(0) => {
                    rest.fill(0);
                    break;
                }
                Ok(n) => {
                    at += n as u64;
                    rest = rest.get_mut(n..).unwrap_or_default();
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// The snapshots for which a disk puts aside what it is about to change. Whoever
/// changes the disk holds them shared, whoever adds or removes one exclusively.
pub struct Snapshots {
    all: Vec<Arc<Aside>>,
    stripes: [Mutex<()>; STRIPES],
}

impl Default for Snapshots {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            stripes: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl Snapshots {
    /// Adds one, of the same disk and with cells as large as those of the others.
    pub fn add(&mut self, one: Arc<Aside>) {
        self.all.push(one);
    }

    /// Removes one.
    pub fn remove(&mut self, one: &Arc<Aside>) {
        self.all.retain(|a| !Arc::ptr_eq(a, one));
    }

    /// To be called before bytes of the disk change. False when `go_on` ended it;
    /// then they may not be changed.
    pub fn before_change(&self, offset: u64, len: u64, go_on: &dyn Fn() -> bool) -> bool {
        match self.all.first() {
            Some(first) if len > 0 => self.put_aside(first, offset, len, go_on),
            _ => true,
        }
    }

    fn put_aside(&self, first: &Aside, offset: u64, len: u64, go_on: &dyn Fn() -> bool) -> bool {
        let cell = first.cell;
        let end = offset.saturating_add(len).min(first.len);
        let mut old = Vec::new();
        for c in offset / cell..end.div_ceil(cell) {
            if self.all.iter().all(|a| a.lets_go(c)) {
                continue;
            }
            if !go_on() {
                return false;
            }
            let _one = self
                .stripes
                .get((c % STRIPES as u64) as usize)
                .map(|s| lock(s));
            let missing: Vec<_> = self.all.iter().filter(|a| !a.lets_go(c)).collect();
            if missing.is_empty() {
                continue; // somebody else did it meanwhile
            }
            let at = c * cell;
            old.resize(cell.min(first.len - at) as usize, 0);
            let bad = read_old(&first.disk, at, &mut old);
            for a in missing {
                a.put(c, at, &old, &bad);
            }
        }
        // Marks are seen before what is written behind them.
        fence(Ordering::SeqCst);
        true
    }
}

/// Reads what is about to change: the sectors that cannot be read, by their first
/// bytes.
fn read_old(disk: &File, at: u64, buf: &mut [u8]) -> Vec<u64> {
    if disk.read_exact_at(buf, at).is_ok() {
        return Vec::new();
    }
    let mut bad = Vec::new();
    for (sector, n) in buf.chunks_mut(SECTOR).zip(0..) {
        let from = at + n * SECTOR as u64;
        if disk.read_exact_at(sector, from).is_err() {
            sector.fill(0);
            bad.push(from);
        }
    }
    bad
}
