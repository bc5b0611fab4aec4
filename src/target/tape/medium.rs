//! What the drive and its medium can hold.

use super::super::common::{Answer, Cdb, cut, put, text};
use super::state::{State, no_medium};
use crate::tape::cartridge::{DEFAULT_CAPACITY, MAX_BLOCK};
use crate::target::Reply;

/// Density code: one of those that vendors give.
pub(super) const DENSITY: u8 = 0xf0;

/// Most bytes that one fixed-block command may move.
pub const MAX_TRANSFER: u64 = 64 << 20;

/// READ BLOCK LIMITS.
pub fn block_limits(cdb: &Cdb) -> Answer {
    if cdb.bit(1, 0x01) {
        // MAXIMUM LOGICAL OBJECT IDENTIFIER
        let mut d = vec![0; 20];
        put(&mut d, 12, 8, i64::MAX as u64);
        return Ok(Reply::data(d).wanting(20));
    }
    let mut d = vec![0; 6];
    put(&mut d, 1, 3, MAX_BLOCK.into());
    put(&mut d, 4, 2, 1);
    Ok(Reply::data(d).wanting(6))
}

/// REPORT DENSITY SUPPORT: of the drive, or of the medium in it. There is one
/// density.
pub fn densities(s: &State, cdb: &Cdb) -> Answer {
    let capacity = match (cdb.bit(1, 0x01), s.loaded()) {
        (true, None) => return Err(no_medium().into()),
        (_, Some(c)) => c.facts().capacity,
        (false, None) => DEFAULT_CAPACITY,
    };
    let mut list = Vec::new();
    if cdb.bit(1, 0x02) {
        // One medium type, for that density.
        let mut d = vec![0; 56];
        put(&mut d, 2, 2, 52); // length behind this field
        put(&mut d, 4, 1, 1);
        put(&mut d, 5, 1, DENSITY.into());
        put(&mut d, 14, 2, 127); // tenths of a millimetre wide
        list.extend_from_slice(&d);
        for (at, n, word) in [
            (20, 8, "NTBAK"),
            (28, 8, "TAP"),
            (36, 20, "virtual cartridge"),
        ] {
            for (to, from) in list.iter_mut().skip(at).zip(text(word, n)) {
                *to = from;
            }
        }
    } else {
        let mut d = vec![0; 16];
        put(&mut d, 0, 1, DENSITY.into());
        put(&mut d, 1, 1, DENSITY.into());
        put(&mut d, 2, 1, 0xa0); // can be written, default
        put(&mut d, 12, 4, (capacity / 1_000_000).min(u32::MAX.into()));
        put(&mut d, 8, 2, 127);
        list.extend_from_slice(&d);
        for (n, word) in [(8, "NTBAK"), (8, "TAP"), (20, "virtual cartridge")] {
            list.extend_from_slice(&text(word, n));
        }
    }
    let mut d = vec![0; 4];
    put(&mut d, 0, 2, list.len() as u64 + 2);
    d.extend_from_slice(&list);
    Ok(cut(d, cdb.u16(7).into()))
}
