//! LOG SENSE, and the counters of page 19h: what was read and written by
//! everybody, other hosts and the copy manager included.

use super::cdb::{be, put};
use super::persistent::cut;
use super::refusal::{Answer, invalid_field};
use super::{Cdb, Unit};
use std::sync::atomic::{AtomicU64, Ordering};

/// General statistics and performance.
const STATISTICS: u8 = 0x19;

/// What a unit did since it exists. Who moves data without a command (the copy
/// manager) counts its reads and writes as commands too.
#[derive(Debug, Default)]
pub struct Statistics {
    reads: AtomicU64,
    writes: AtomicU64,
    blocks_written: AtomicU64,
    blocks_read: AtomicU64,
}

/// The counters at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Read commands.
    pub reads: u64,
    /// Write commands.
    pub writes: u64,
    /// Logical blocks that came in.
    pub blocks_written: u64,
    /// Logical blocks that went out.
    pub blocks_read: u64,
}

impl Statistics {
    /// One read command.
    pub fn read(&self, blocks: u64) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.blocks_read.fetch_add(blocks, Ordering::Relaxed);
    }

    /// One write command (or one that changes the medium without data), all of it.
    pub fn wrote(&self, blocks: u64) {
        self.writing();
        self.came(blocks);
    }

    /// A write command begins. Counted before anything is changed, and its blocks
    /// when that is done: who looks twice sees a command that was under way at
    /// either time.
    pub fn writing(&self) {
        self.writes.fetch_add(1, Ordering::SeqCst);
    }

    /// Blocks that came with it, when they are written.
    pub fn came(&self, blocks: u64) {
        self.blocks_written.fetch_add(blocks, Ordering::SeqCst);
    }

    /// The counters now.
    pub fn counted(&self) -> Counted {
        Counted {
            reads: self.reads.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            blocks_written: self.blocks_written.load(Ordering::Relaxed),
            blocks_read: self.blocks_read.load(Ordering::Relaxed),
        }
    }

    /// Parameter 0001h, general access statistics: eight counters of 8 bytes.
    fn parameter(&self) -> Vec<u8> {
        let c = self.counted();
        let mut p = vec![0; 68];
        put(&mut p, 0, 2, 0x0001);
        put(&mut p, 2, 1, 0x03); // binary list parameter
        put(&mut p, 3, 1, 64);
        let counters = [c.reads, c.writes, c.blocks_written, c.blocks_read];
        for (i, v) in counters.into_iter().enumerate() {
            put(&mut p, 4 + 8 * i, 8, v);
        }
        p
    }
}

/// LOG SENSE.
pub fn sense(unit: &Unit, cdb: &Cdb) -> Answer {
    let (page, subpage) = (cdb.u8(2) & 0x3f, cdb.u8(3));
    if cdb.bit(1, 0x01) {
        return Err(invalid_field(1)); // SP: nothing can be saved
    }
    if subpage != 0 {
        return Err(invalid_field(3));
    }
    let from = cdb.u16(5);
    let body = match page {
        0x00 => {
            let mut pages = vec![0x00, STATISTICS];
            pages.extend_from_slice(unit.device().log_pages());
            pages.sort_unstable();
            pages
        }
        STATISTICS => starting(unit.statistics().parameter(), from),
        p if unit.device().log_pages().contains(&p) => starting(
            unit.device()
                .log_page(unit, p)
                .ok_or_else(|| invalid_field(2))?,
            from,
        ),
        _ => return Err(invalid_field(2)),
    };
    if page != 0 && from != 0 && body.is_empty() {
        return Err(invalid_field(5)); // PARAMETER POINTER behind the last
    }
    let mut d = vec![page, 0, 0, 0];
    put(&mut d, 2, 2, body.len() as u64);
    d.extend_from_slice(&body);
    Ok(cut(d, cdb.u16(7).into()))
}

/// The parameters whose code is at least `from`.
fn starting(all: Vec<u8>, from: u16) -> Vec<u8> {
    let mut at = 0;
    while at < all.len() && be(&all, at, 2) < u64::from(from) {
        at += 4 + be(&all, at + 3, 1) as usize;
    }
    all.get(at..).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_parameter_pointer() {
        let s = Statistics::default();
        s.wrote(8);
        s.wrote(1);
        s.read(5);
        let p = s.parameter();
        assert_eq!(p.len(), 68);
        let at = |i: usize| be(&p, 4 + 8 * i, 8);
        assert_eq!([at(0), at(1), at(2), at(3)], [1, 2, 9, 5]);
        assert_eq!(starting(p.clone(), 1), p);
        assert!(starting(p, 2).is_empty());
    }
}
