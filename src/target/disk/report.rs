//! What a disk tells: capacity, which blocks have storage, defects.

use super::DiskUnit;
use crate::target::common::{Answer, Cdb, cut, put};
use crate::target::lun::Reply;

/// Most descriptors of one GET LBA STATUS.
const MOST_RUNS: usize = 256;

pub fn capacity_10(disk: &DiskUnit) -> Answer {
    let mut d = vec![0; 8];
    let last = (disk.blocks - 1).min(u32::MAX.into());
    put(&mut d, 0, 4, last);
    put(&mut d, 4, 4, disk.block_size.into());
    Ok(Reply::data(d))
}

pub fn capacity_16(disk: &DiskUnit, cdb: &Cdb) -> Answer {
    let mut d = vec![0; 32];
    put(&mut d, 0, 8, disk.blocks - 1);
    put(&mut d, 8, 4, disk.block_size.into());
    put(&mut d, 13, 1, disk.exponent.into());
    put(&mut d, 14, 1, 0xc0); // LBPME LBPRZ
    Ok(cut(d, cdb.u32(10).into()))
}

/// GET LBA STATUS: runs of mapped and deallocated blocks. A block with any
/// storage is mapped.
pub fn lba_status(disk: &DiskUnit, cdb: &Cdb) -> Answer {
    let (mut lba, room) = (cdb.u64(2), cdb.u32(10) as usize);
    disk.range(lba, 1)?;
    let size = u64::from(disk.block_size);
    let mut runs: Vec<(u64, u64, bool)> = Vec::new();
    let most = (room.saturating_sub(8) / 16).clamp(1, MOST_RUNS);
    while lba < disk.blocks {
        let (mapped, end) = disk.backing.mapped(disk.offset(lba));
        let end = match mapped {
            true => end.div_ceil(size),
            // A block that begins in a hole and ends in data is mapped.
            false => (end / size).min(disk.blocks),
        };
        let (mapped, end) = match end > lba {
            true => (mapped, end.min(disk.blocks)),
            false => (true, lba + 1),
        };
        let n = (end - lba).min(u32::MAX.into());
        let full = runs.len() == most;
        match runs.last_mut() {
            Some((_, len, m)) if *m == mapped && *len + n <= u32::MAX.into() => *len += n,
            _ if full => break,
            _ => runs.push((lba, n, mapped)),
        }
        lba += n;
    }
    let mut d = vec![0; 8];
    put(&mut d, 0, 4, 4 + 16 * runs.len() as u64);
    for (lba, n, mapped) in runs {
        let mut r = [0; 16];
        put(&mut r, 0, 8, lba);
        put(&mut r, 8, 4, n);
        put(&mut r, 12, 1, u64::from(!mapped));
        d.extend_from_slice(&r);
    }
    Ok(cut(d, room as u64))
}

/// READ DEFECT DATA(10): the lists asked for are there, and empty.
pub fn defects_10(cdb: &Cdb) -> Answer {
    Ok(cut(vec![0, cdb.u8(2) & 0x1f, 0, 0], cdb.u16(7).into()))
}

/// READ DEFECT DATA(12).
pub fn defects_12(cdb: &Cdb) -> Answer {
    let d = vec![0, cdb.u8(1) & 0x1f, 0, 0, 0, 0, 0, 0];
    Ok(cut(d, cdb.u32(6).into()))
}
