//! Vital product data, mode pages and the block descriptor of disks.

use super::{DiskUnit, MAX_TRANSFER};
use crate::target::common::{ModePage, Refusal, be, byte, invalid_parameter, put};
use std::sync::atomic::Ordering;

/// Most blocks of one COMPARE AND WRITE.
pub const MAX_COMPARE: u8 = 255;
/// Most blocks of one UNMAP, all descriptors together.
pub const MAX_UNMAP: u32 = 1 << 20;
/// Most descriptors of one UNMAP.
pub const MAX_UNMAP_DESCRIPTORS: u32 = 256;
/// Most blocks of one WRITE SAME.
pub const MAX_WRITE_SAME: u64 = 1 << 22;

const CACHING: u8 = 0x08;
const WCE: u8 = 0x04;

impl DiskUnit {
    /// Most blocks of one transfer.
    pub(super) fn max_blocks(&self) -> u32 {
        MAX_TRANSFER / self.block_size
    }

    fn grain_blocks(&self) -> u64 {
        (self.backing.grain() / u64::from(self.block_size)).max(1)
    }
}

pub fn vpd(disk: &DiskUnit, page: u8) -> Option<Vec<u8>> {
    let mut b = vec![0; 60];
    // Offsets are those of the page, whose header is not in `b`.
    let mut field = |at: usize, n: usize, v: u64| put(&mut b, at - 4, n, v);
    match page {
        0xb0 => {
            let physical = 1 << disk.exponent;
            field(5, 1, MAX_COMPARE.into());
            field(6, 2, physical.max(disk.grain_blocks()));
            field(8, 4, disk.max_blocks().into());
            field(12, 4, u64::from(disk.max_blocks() / 32).max(1));
            field(20, 4, MAX_UNMAP.into());
            field(24, 4, MAX_UNMAP_DESCRIPTORS.into());
            field(28, 4, disk.grain_blocks());
            field(32, 4, 1 << 31); // UGAVALID, alignment 0
            field(36, 8, MAX_WRITE_SAME);
        }
        0xb1 => {
            field(4, 2, 1); // not rotating
        }
        0xb2 => {
            field(5, 1, 0xe4); // LBPU LBPWS LBPWS10, LBPRZ 001b
            field(6, 1, 0x02); // thin
            b.truncate(4);
        }
        _ => return None,
    }
    Some(b)
}

pub fn mode(disk: &DiskUnit) -> Vec<ModePage> {
    let caching = |wce: bool| {
        let mut b = vec![0; 18];
        put(&mut b, 0, 1, if wce { WCE.into() } else { 0 });
        b
    };
    let mut recovery = vec![0; 10];
    put(&mut recovery, 0, 1, 0xc0); // AWRE ARRE
    vec![
        ModePage::fixed(0x01, recovery),
        ModePage {
            page: CACHING,
            subpage: 0,
            current: caching(disk.cache.load(Ordering::Relaxed)),
            changeable: caching(true),
            default: caching(true),
        },
    ]
}

pub fn set_mode(disk: &DiskUnit, page: u8, body: &[u8]) -> Result<(), Refusal> {
    if page != CACHING {
        return Err(invalid_parameter(0));
    }
    let on = byte(body, 0) & WCE != 0;
    if !on {
        disk.sync()?;
    }
    disk.cache.store(on, Ordering::Relaxed);
    Ok(())
}

pub fn block_descriptor(disk: &DiskUnit, long: bool) -> Vec<u8> {
    let mut d = vec![0; if long { 16 } else { 8 }];
    if long {
        put(&mut d, 0, 8, disk.blocks);
        put(&mut d, 12, 4, disk.block_size.into());
    } else {
        put(&mut d, 0, 4, disk.blocks.min(u32::MAX.into()));
        put(&mut d, 5, 3, disk.block_size.into());
    }
    d
}

/// True when a descriptor of MODE SELECT asks for no change: the same size of
/// blocks, and all of them (or zero, which means the same).
pub fn same_descriptor(disk: &DiskUnit, d: &[u8]) -> bool {
    let (blocks, all, size) = match d.len() {
        16 => (be(d, 0, 8), disk.blocks, be(d, 12, 4)),
        _ => (be(d, 0, 4), disk.blocks.min(u32::MAX.into()), be(d, 5, 3)),
    };
    (blocks == 0 || blocks == all) && size == u64::from(disk.block_size)
}
