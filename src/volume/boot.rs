//! The boot sector: what tells the geometry of the volume.
//!
//! Field places and meanings: the NTFS documentation of the Linux-NTFS project
//! ("$Boot") and Microsoft's "How NTFS Works".

use crate::error::{Error, Result};
use crate::units::Lcn;
use binread::{BinRead, BinReaderExt, io::Cursor};

/// Bytes of a boot sector that carry meaning, whatever the sector size.
pub const BOOT_LEN: usize = 512;

/// The boot sector as it lies on the disk.
#[derive(BinRead, Clone, Debug)]
#[br(little)]
pub struct BootSector {
    /// 0x000: jump over the fields.
    pub jump: [u8; 3],
    /// 0x003: `NTFS` and four blanks.
    pub oem_id: [u8; 8],
    /// 0x00b: bytes per sector.
    pub bytes_per_sector: u16,
    /// 0x00d: sectors per cluster up to 0x80; above, 2 to the power of its negative.
    pub sectors_per_cluster: u8,
    /// 0x00e: fields of FAT, zero here; 0x015 is the media byte.
    pub fat_fields: [u8; 26],
    /// 0x028: sectors of the volume, without the backup boot sector behind them.
    pub total_sectors: u64,
    /// 0x030: first cluster of `$MFT`.
    pub mft_lcn: u64,
    /// 0x038: first cluster of `$MFTMirr`.
    pub mftmirr_lcn: u64,
    /// 0x040: clusters per file record; negative: 2 to the power of its negative, in bytes.
    pub clusters_per_record: i8,
    /// 0x041: unused.
    pub unused_41: [u8; 3],
    /// 0x044: clusters per index block, coded as the one before.
    pub clusters_per_index_record: i8,
    /// 0x045: unused.
    pub unused_45: [u8; 3],
    /// 0x048: serial number of the volume.
    pub serial: u64,
    /// 0x050: checksum, not used by anybody.
    pub checksum: u32,
    /// 0x054: boot code.
    pub boot_code: [u8; 426],
    /// 0x1fe: 0xaa55. Volumes without it exist and are read by Windows.
    pub end_mark: u16,
}

/// The geometry of a volume, in plain units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Geometry {
    /// Bytes per sector: 256 to 4096.
    pub sector_size: u32,
    /// Bytes per cluster: 512 to 2 MiB.
    pub cluster_size: u32,
    /// Bytes per file record: 512 to 64 KiB.
    pub record_size: u32,
    /// Bytes per index block: 512 to 64 KiB.
    pub index_record_size: u32,
    /// Sectors of the volume, without the backup boot sector.
    pub total_sectors: u64,
    /// Whole clusters of the volume.
    pub total_clusters: u64,
    /// First cluster of `$MFT`. Not checked: may lie outside.
    pub mft_lcn: Lcn,
    /// First cluster of `$MFTMirr`. Not checked: may lie outside.
    pub mftmirr_lcn: Lcn,
    /// Serial number of the volume.
    pub serial: u64,
}

impl Geometry {
    /// Bytes of the volume, without the backup boot sector.
    pub const fn volume_bytes(&self) -> u64 {
        self.total_sectors * self.sector_size as u64
    }

    /// Byte position of a cluster, or `None` when it is outside the volume.
    #[inline]
    pub const fn cluster_offset(&self, lcn: Lcn) -> Option<u64> {
        if lcn.0 < self.total_clusters {
            Some(lcn.0 * self.cluster_size as u64)
        } else {
            None
        }
    }
}

/// Reads the geometry from a boot sector that lies at byte `at` of the source.
pub fn parse_boot(bytes: &[u8], at: u64) -> Result<Geometry> {
    if bytes.len() < BOOT_LEN {
        return Err(Error::damaged(format!(
            "Found {} bytes of a boot sector, expected {BOOT_LEN}",
            bytes.len()
        ))
        .at(at));
    }
    foreign(bytes, at)?;
    let b: BootSector = Cursor::new(&bytes[..BOOT_LEN])
        .read_le()
        .map_err(|e| Error::damaged(format!("Boot sector: {e:?}")).at(at))?;

    let bad = |field: u64, what: &str, found: String, expected: &str| {
        Error::damaged(format!(
            "Found {found} as {what} in the boot sector, expected {expected}"
        ))
        .at(at.saturating_add(field))
    };

    let sector = u32::from(b.bytes_per_sector);
    if !sector.is_power_of_two() || !(256..=4096).contains(&sector) {
        return Err(bad(
            0x0b,
            "bytes per sector",
            sector.to_string(),
            "256 to 4096",
        ));
    }
    let cluster = cluster_size(sector, b.sectors_per_cluster).ok_or_else(|| {
        let found = format!("{:#04x}", b.sectors_per_cluster);
        let expected = "a power of two making 512 bytes to 2 MiB";
        bad(0x0d, "sectors per cluster", found, expected)
    })?;
    let record = record_size(cluster, b.clusters_per_record).ok_or_else(|| {
        let found = b.clusters_per_record.to_string();
        bad(
            0x40,
            "clusters per file record",
            found,
            "512 bytes to 64 KiB",
        )
    })?;
    let index = record_size(cluster, b.clusters_per_index_record).ok_or_else(|| {
        let found = b.clusters_per_index_record.to_string();
        bad(
            0x44,
            "clusters per index block",
            found,
            "512 bytes to 64 KiB",
        )
    })?;
    let per_cluster = u64::from(cluster / sector);
    let total_clusters = b.total_sectors / per_cluster;
    let fits = b.total_sectors.checked_mul(u64::from(sector));
    if total_clusters == 0 || fits.is_none_or(|bytes| bytes > i64::MAX as u64) {
        let found = format!("{:#x}", b.total_sectors);
        let expected = "at least one cluster and fewer than 2^63 bytes";
        return Err(bad(0x28, "number of sectors", found, expected));
    }
    Ok(Geometry {
        sector_size: sector,
        cluster_size: cluster,
        record_size: record,
        index_record_size: index,
        total_sectors: b.total_sectors,
        total_clusters,
        mft_lcn: Lcn(b.mft_lcn),
        mftmirr_lcn: Lcn(b.mftmirr_lcn),
        serial: b.serial,
    })
}

/// Names what else it is, when it is not NTFS.
fn foreign(bytes: &[u8], at: u64) -> Result<()> {
    let oem = &bytes[3..11];
    if oem == b"NTFS    " {
        return Ok(());
    }
    let other = match oem {
        b"-FVE-FS-" => {
            return Err(Error::unsupported(
                "The volume is encrypted by BitLocker (boot sector names -FVE-FS-)",
            )
            .at(at)
            .hint("Unlock it first and read the unlocked volume"));
        }
        b"EXFAT   " => Some("exFAT"),
        _ if oem.starts_with(b"ReFS") => Some("ReFS"),
        _ if &bytes[0x52..0x57] == b"FAT32" => Some("FAT32"),
        _ if &bytes[0x36..0x39] == b"FAT" => Some("FAT"),
        _ => None,
    };
    Err(match other {
        Some(name) => {
            Error::unsupported(format!("The volume is {name}, not NTFS")).at(at.saturating_add(3))
        }
        None => {
            let found: String = oem.iter().map(|b| format!("{b:02x}")).collect();
            Error::damaged(format!(
                "Found {found} as name of the file system in the boot sector, expected NTFS"
            ))
            .at(at.saturating_add(3))
        }
    })
}

fn cluster_size(sector: u32, code: u8) -> Option<u32> {
    let per_cluster = match code {
        0..=0x80 => u32::from(code),
        _ => 1u32.checked_shl(256 - u32::from(code))?,
    };
    let size = sector.checked_mul(per_cluster)?;
    (size.is_power_of_two() && (512..=2 << 20).contains(&size)).then_some(size)
}

fn record_size(cluster: u32, code: i8) -> Option<u32> {
    let size = if code < 0 {
        1u32.checked_shl(u32::from(code.unsigned_abs()))?
    } else {
        cluster.checked_mul(code as u32)?
    };
    (size.is_power_of_two() && (512..=64 << 10).contains(&size)).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    fn sound() -> Vec<u8> {
        let mut b = vec![0u8; 512];
        b[3..11].copy_from_slice(b"NTFS    ");
        b[0x0b..0x0d].copy_from_slice(&512u16.to_le_bytes());
        b[0x0d] = 8;
        b[0x28..0x30].copy_from_slice(&20479u64.to_le_bytes());
        b[0x30..0x38].copy_from_slice(&853u64.to_le_bytes());
        b[0x38..0x40].copy_from_slice(&2u64.to_le_bytes());
        b[0x40] = 0xf6;
        b[0x44] = 1;
        b[0x48..0x50].copy_from_slice(&0x1234u64.to_le_bytes());
        b[0x1fe..].copy_from_slice(&[0x55, 0xaa]);
        b
    }

    #[test]
    fn every_field_from_its_place() {
        let g = parse_boot(&sound(), 0).unwrap();
        let want = Geometry {
            sector_size: 512,
            cluster_size: 4096,
            record_size: 1024,
            index_record_size: 4096,
            total_sectors: 20479,
            total_clusters: 2559,
            mft_lcn: Lcn(853),
            mftmirr_lcn: Lcn(2),
            serial: 0x1234,
        };
        assert_eq!(g, want);
    }

    #[test]
    fn every_legal_cluster_size() {
        for (sector, code, want) in [
            (256, 2, 512),
            (512, 1, 512),
            (512, 0x80, 65536),
            (512, 0xf8, 128 << 10),
            (512, 0xf4, 2 << 20),
            (4096, 1, 4096),
            (4096, 0xf7, 2 << 20),
        ] {
            assert_eq!(cluster_size(sector, code), Some(want), "{sector} {code:#x}");
        }
        for (sector, code) in [
            (512, 0),
            (512, 3),
            (512, 0x81),
            (512, 0xf3),
            (256, 1),
            (4096, 0xf4),
        ] {
            assert_eq!(cluster_size(sector, code), None, "{sector} {code:#x}");
        }
        assert_eq!(record_size(4096, -10), Some(1024));
        assert_eq!(record_size(4096, -12), Some(4096));
        assert_eq!(record_size(512, 2), Some(1024));
        for code in [0, -128, -8, -17, 127] {
            assert_eq!(record_size(4096, code), None, "{code}");
        }
    }

    #[test]
    fn names_what_it_is_instead() {
        let mut b = sound();
        b[3..11].copy_from_slice(b"-FVE-FS-");
        let e = parse_boot(&b, 0).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.message().contains("BitLocker"));
        b[3..11].copy_from_slice(b"EXFAT   ");
        assert!(parse_boot(&b, 0).unwrap_err().message().contains("exFAT"));
        let e = parse_boot(&[0; 512], 0x200).unwrap_err();
        assert_eq!((e.kind(), e.offset()), (ErrorKind::Damaged, Some(0x203)));
    }

    proptest! {
        #[test]
        fn hostile_fields_never_panic(tail in prop::collection::vec(any::<u8>(), 501)) {
            let mut b = sound();
            b[11..].copy_from_slice(&tail);
            let _ = parse_boot(&b, u64::MAX);
        }
    }
}
