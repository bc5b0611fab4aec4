//! The boot sector of the new volume, and the size that it tells.

use super::Wish;
use crate::error::{Error, Result};
use crate::units::Lcn;
use crate::volume::boot::{BOOT_LEN, Geometry, parse_boot};
use crate::volume::open::Volume;

/// The new volume in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Bytes, whole sectors, with the place of the backup boot sector.
    pub bytes: u64,
    /// Sectors of the file system, without the backup boot sector.
    pub sectors: u64,
    /// Its clusters.
    pub clusters: u64,
}

impl Shape {
    /// What a wish makes of a volume. It is not judged here whether that fits.
    pub fn of(volume: &Volume, wish: &Wish) -> Self {
        let g = volume.geometry();
        let sector = u64::from(g.sector_size);
        let old = g.volume_bytes();
        let as_is = volume.source().len().max(old);
        let bytes = wish.new_bytes.unwrap_or(as_is);
        let bytes = bytes - bytes % sector;
        let whole = (bytes / sector).saturating_sub(1);
        let per_cluster = u64::from(g.cluster_size / g.sector_size);
        // A sector that is no part of a cluster makes room for the backup boot sector.
        let spare = wish.new_bytes.is_some()
            && bytes < old + sector
            && whole / per_cluster == g.total_clusters;
        let sectors = match () {
            _ if bytes < Self::as_it_is(volume) || spare => whole,
            _ if wish.new_bytes.is_some() && wish.grow_file_system => whole.max(g.total_sectors),
            _ => g.total_sectors,
        };
        Self {
            bytes,
            sectors,
            clusters: sectors / per_cluster,
        }
    }

    /// Bytes of the volume as it is: with its backup boot sector, unless the
    /// source ends before that.
    pub fn as_it_is(volume: &Volume) -> u64 {
        let g = volume.geometry();
        let whole = g.volume_bytes() + u64::from(g.sector_size);
        match volume.source().len() < whole {
            true => g.volume_bytes(),
            false => whole,
        }
    }

    /// Bytes of a volume of so many clusters and its backup boot sector.
    pub fn bytes_for(g: &Geometry, clusters: u64) -> u64 {
        let per_cluster = u64::from(g.cluster_size / g.sector_size);
        (clusters * per_cluster + 1) * u64::from(g.sector_size)
    }

    /// Where copies of the boot sector go: behind the file system, and, where
    /// the partition is longer, into its last sector.
    pub fn backups(&self, sector: u64) -> Vec<u64> {
        let behind = self.sectors * sector;
        let last = self.bytes - sector.min(self.bytes);
        let mut at = vec![behind, last];
        at.retain(|&at| at >= behind && at + sector <= self.bytes);
        at.dedup();
        at
    }
}

/// The first sector as it will be, from the one that opened the volume.
pub(super) fn sector(
    volume: &Volume,
    shape: &Shape,
    wish: &Wish,
    mft: Lcn,
    mirror: Lcn,
) -> Result<Vec<u8>> {
    let g = volume.geometry();
    let mut bytes = vec![0; (g.sector_size as usize).max(BOOT_LEN)];
    let len = volume.source().len();
    let behind = g.volume_bytes();
    let last = len.checked_sub(u64::from(g.sector_size));
    let places = [Some(0), Some(behind), last];
    let found = places.into_iter().flatten().any(|at| {
        at + bytes.len() as u64 <= len
            && volume.read_at(at, &mut bytes).is_ok()
            && parse_boot(&bytes, at).is_ok_and(|b| {
                let same = (b.sector_size, b.cluster_size, b.record_size);
                same == (g.sector_size, g.cluster_size, g.record_size)
                    && b.index_record_size == g.index_record_size
            })
    });
    if !found {
        return Err(Error::damaged("Found no boot sector that tells the geometry in use").at(0));
    }
    bytes.truncate(g.sector_size.max(512) as usize);
    bytes[0x28..0x30].copy_from_slice(&shape.sectors.to_le_bytes());
    bytes[0x30..0x38].copy_from_slice(&mft.0.to_le_bytes());
    bytes[0x38..0x40].copy_from_slice(&mirror.0.to_le_bytes());
    if let Some(hidden) = wish.hidden_sectors {
        bytes[0x1c..0x20].copy_from_slice(&hidden.to_le_bytes());
    }
    if let Some(serial) = wish.new_serial {
        bytes[0x48..0x50].copy_from_slice(&serial.to_le_bytes());
    }
    Ok(bytes)
}
