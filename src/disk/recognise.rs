//! What a volume holds, told from its first bytes (and, for NTFS, from the
//! copy of the boot sector at its end).

use super::guid::Guid;
use super::read_some;
use crate::device::Source;
use crate::error::Result;
use serde::Serialize;

/// How much of the beginning is looked at, in bytes: the furthest mark (of
/// Btrfs) lies just behind 64 KiB.
const HEAD: usize = 68 * 1024;
/// The part of it that is enough for most; over a wire the rest costs more.
const FIRST: usize = 4096;
/// How much of the end is searched for a copy of an NTFS boot sector.
const TAIL: u64 = 64 * 1024;

/// The mark of BitLocker To Go, at byte 424 of a sector that looks like FAT32.
const BITLOCKER_TO_GO: Guid = Guid::of(0x4967_D63B, 0x2E29, 0x4AD8, 0x8399, 0xF6A3_39E3_D001);

/// What a volume holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Content {
    /// NTFS, by its first sector.
    Ntfs,
    /// NTFS whose first sector is gone; the copy at the end is there.
    NtfsByBackup {
        /// Where the copy lies: bytes from the start of the volume.
        boot_at: u64,
    },
    /// Encrypted by BitLocker.
    BitLocker,
    /// Encrypted by BitLocker To Go (removable media).
    BitLockerToGo,
    /// ReFS.
    Refs,
    /// exFAT.
    ExFat,
    /// FAT with 12-bit entries.
    Fat12,
    /// FAT with 16-bit entries.
    Fat16,
    /// FAT with 32-bit entries.
    Fat32,
    /// ext2, ext3 or ext4.
    Ext,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
    /// F2FS.
    F2fs,
    /// A physical volume of LVM2.
    Lvm2,
    /// Encrypted by LUKS.
    Luks,
    /// A member of a Linux software RAID.
    LinuxRaid,
    /// Linux swap.
    Swap,
    /// HFS+ or HFSX.
    HfsPlus,
    /// APFS.
    Apfs,
    /// An optical disc image.
    Iso9660,
    /// Zeros at the beginning and the end.
    Empty,
    /// The beginning cannot be read.
    Unreadable,
    /// Nothing that is known here.
    Unknown,
}

impl Content {
    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Content::Ntfs => "NTFS",
            Content::NtfsByBackup { .. } => "NTFS (first sector damaged)",
            Content::BitLocker => "BitLocker",
            Content::BitLockerToGo => "BitLocker To Go",
            Content::Refs => "ReFS",
            Content::ExFat => "exFAT",
            Content::Fat12 => "FAT12",
            Content::Fat16 => "FAT16",
            Content::Fat32 => "FAT32",
            Content::Ext => "ext2/3/4",
            Content::Xfs => "XFS",
            Content::Btrfs => "Btrfs",
            Content::F2fs => "F2FS",
            Content::Lvm2 => "LVM2 physical volume",
            Content::Luks => "LUKS",
            Content::LinuxRaid => "Linux RAID member",
            Content::Swap => "Linux swap",
            Content::HfsPlus => "HFS+",
            Content::Apfs => "APFS",
            Content::Iso9660 => "ISO 9660",
            Content::Empty => "empty",
            Content::Unreadable => "unreadable",
            Content::Unknown => "unknown",
        }
    }

    /// True for NTFS, by either boot sector.
    pub const fn is_ntfs(self) -> bool {
        matches!(self, Content::Ntfs | Content::NtfsByBackup { .. })
    }

    /// What to do when something that needs NTFS meets this; empty for a sound
    /// NTFS.
    pub const fn way_out(self) -> &'static str {
        match self {
            Content::Ntfs => "",
            Content::NtfsByBackup { .. } => {
                "the copy of the boot sector at the end of the volume is used instead"
            }
            Content::BitLocker | Content::BitLockerToGo => {
                "unlock it first (on Windows manage-bde -off or -unlock, on Linux dislocker or \
                 cryptsetup open --type bitlk) and give the unlocked volume, or store it \
                 encrypted, sector for sector, with --raw"
            }
            Content::Luks => {
                "unlock it first (cryptsetup open) and give the unlocked volume, or store it \
                 encrypted, sector for sector, with --raw"
            }
            Content::Lvm2 => {
                "give the logical volume (lvs lists them), or store it sector for sector with --raw"
            }
            Content::LinuxRaid => {
                "give the assembled array (/dev/md…), or store it sector for sector with --raw"
            }
            Content::Empty => "there is nothing to read; --raw stores it sector for sector",
            Content::Unreadable => {
                "its first sectors cannot be read; try again with retries, or --raw stores what can be read"
            }
            _ => "only NTFS is understood; --raw stores it sector for sector",
        }
    }

    /// True when this was told from the very first sector, which therefore is
    /// no partition table.
    pub(super) const fn owns_first_sector(self) -> bool {
        matches!(
            self,
            Content::Ntfs
                | Content::BitLocker
                | Content::BitLockerToGo
                | Content::Refs
                | Content::ExFat
                | Content::Fat12
                | Content::Fat16
                | Content::Fat32
                | Content::Xfs
                | Content::Luks
        )
    }
}

/// Looks at `len` bytes of a source from `start` on. Fails only when the source
/// fails in a way that is not about these bytes.
pub fn recognise(source: &dyn Source, start: u64, len: u64) -> Result<Content> {
    let len = len.min(source.len().saturating_sub(start));
    let want = HEAD.min(usize::try_from(len).unwrap_or(HEAD));
    let first = read_some(source, start, want.min(FIRST))?;
    if let Some(c) = first.as_deref().and_then(from_first_sector) {
        return Ok(c);
    }
    // In one go, or, where a sector of it is bad, in pieces.
    let head = match read_some(source, start, want)? {
        Some(h) => Some(h),
        None => pieces(source, start, want)?,
    };
    let by_head = head.as_deref().map_or(Content::Unreadable, from_head);
    if !matches!(
        by_head,
        Content::Empty | Content::Unknown | Content::Unreadable
    ) {
        return Ok(by_head);
    }
    if let Some(boot_at) = backup_boot(source, start, len)? {
        return Ok(Content::NtfsByBackup { boot_at });
    }
    if by_head == Content::Empty && len > HEAD as u64 {
        let tail = len.saturating_sub(4096).max(HEAD as u64);
        match read_some(source, start + tail, (len - tail) as usize)? {
            Some(t) if t.iter().any(|&b| b != 0) => return Ok(Content::Unknown),
            _ => {}
        }
    }
    Ok(by_head)
}

/// The head in 4 KiB pieces, unreadable ones as zeros; `None` when the first
/// one is unreadable.
fn pieces(source: &dyn Source, start: u64, want: usize) -> Result<Option<Vec<u8>>> {
    let mut head = vec![0; want];
    for at in (0..want).step_by(4096) {
        let n = 4096.min(want - at);
        match read_some(source, start + at as u64, n)? {
            Some(p) => head[at..at + p.len()].copy_from_slice(&p),
            None if at == 0 => return Ok(None),
            None => {}
        }
    }
    Ok(Some(head))
}

fn le16(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(b.get(at..at + 2)?.try_into().ok()?))
}

fn le32(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(b.get(at..at + 4)?.try_into().ok()?))
}

fn le64(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(b.get(at..at + 8)?.try_into().ok()?))
}

/// Marks in the first sector that leave nothing to ask.
fn from_first_sector(b: &[u8]) -> Option<Content> {
    let has = |at: usize, mark: &[u8]| b.get(at..at + mark.len()) == Some(mark);
    Some(match () {
        _ if has(3, b"NTFS    ") => Content::Ntfs,
        _ if has(3, b"-FVE-FS-") => Content::BitLocker,
        _ if has(424, &BITLOCKER_TO_GO.0) => Content::BitLockerToGo,
        _ if has(3, b"ReFS\0\0\0\0") => Content::Refs,
        _ if has(3, b"EXFAT   ") => Content::ExFat,
        _ if has(0, b"LUKS\xba\xbe") || has(0, b"SKUL\xba\xbe") => Content::Luks,
        _ if has(0, b"XFSB") => Content::Xfs,
        _ if has(32, b"NXSB") => Content::Apfs,
        _ => return None,
    })
}

/// False when a first sector is of none of the kinds that own it.
pub(super) fn may_own(sector: &[u8]) -> bool {
    from_first_sector(sector).is_some() || fat(sector).is_some()
}

/// Tells the content from the first bytes of a volume.
fn from_head(b: &[u8]) -> Content {
    let has = |at: usize, mark: &[u8]| b.get(at..at + mark.len()) == Some(mark);
    if let Some(c) = from_first_sector(b) {
        return c;
    }
    if has(65536 + 64, b"_BHRfS_M") {
        return Content::Btrfs;
    }
    // The label may lie in any of the first four sectors.
    if (0..4).any(|s| has(s * 512, b"LABELONE") && has(s * 512 + 24, b"LVM2 001")) {
        return Content::Lvm2;
    }
    let raid = 0xa92b_4efc_u32.to_le_bytes();
    if has(0, &raid) || has(4096, &raid) {
        return Content::LinuxRaid;
    }
    if le16(b, 1024 + 56) == Some(0xef53) && le32(b, 1024 + 24).is_some_and(|log| log <= 6) {
        return Content::Ext;
    }
    if has(1024, b"H+\0\x04") || has(1024, b"HX\0\x05") {
        return Content::HfsPlus;
    }
    if le32(b, 1024) == Some(0xf2f5_2010) {
        return Content::F2fs;
    }
    // Ten bytes before the end of the first page, whatever its size.
    if [4096, 8192, 16384, 65536]
        .iter()
        .any(|p| has(p - 10, b"SWAPSPACE2"))
    {
        return Content::Swap;
    }
    if let Some(fat) = fat(b) {
        return fat;
    }
    if has(32769, b"CD001") {
        return Content::Iso9660;
    }
    if b.iter().all(|&x| x == 0) {
        return Content::Empty;
    }
    Content::Unknown
}

/// FAT by the fields of its boot sector. Which of the three it is follows from
/// the number of clusters alone.
fn fat(b: &[u8]) -> Option<Content> {
    let bytes_per_sector = u32::from(le16(b, 0x0b)?);
    let sectors_per_cluster = u32::from(*b.get(0x0d)?);
    let reserved = u32::from(le16(b, 0x0e)?);
    let fats = u32::from(*b.get(0x10)?);
    let root_entries = u32::from(le16(b, 0x11)?);
    let total16 = u32::from(le16(b, 0x13)?);
    let media = *b.get(0x15)?;
    let fat16 = u32::from(le16(b, 0x16)?);
    let total32 = le32(b, 0x20)?;
    let fat32 = le32(b, 0x24)?;
    let total = if total16 != 0 { total16 } else { total32 };
    let fat_size = if fat16 != 0 { fat16 } else { fat32 };
    let sound = le16(b, 510)? == 0xaa55
        && matches!(b.first(), Some(0xeb | 0xe9))
        && bytes_per_sector.is_power_of_two()
        && (512..=4096).contains(&bytes_per_sector)
        && sectors_per_cluster.is_power_of_two()
        && reserved > 0
        && (1..=2).contains(&fats)
        && (media == 0xf0 || media >= 0xf8)
        && total > 0
        && fat_size > 0;
    if !sound {
        return None;
    }
    let root = (root_entries * 32).div_ceil(bytes_per_sector);
    let overhead = u64::from(reserved) + u64::from(fats) * u64::from(fat_size) + u64::from(root);
    let clusters = u64::from(total).checked_sub(overhead)? / u64::from(sectors_per_cluster);
    Some(match clusters {
        _ if fat16 == 0 => Content::Fat32,
        0..4085 => Content::Fat12,
        _ => Content::Fat16,
    })
}

/// Looks for the copy of an NTFS boot sector near the end of a volume: it lies
/// in the sector behind the last one that the volume counts. Returns its
/// position from the start of the volume.
fn backup_boot(source: &dyn Source, start: u64, len: u64) -> Result<Option<u64>> {
    let whole = len / 512 * 512;
    let from = whole.saturating_sub(TAIL);
    let mut at = whole;
    let tail = read_some(source, start + from, (whole - from) as usize)?;
    while at > from {
        at -= 512;
        let sector = match &tail {
            Some(t) => t.get((at - from) as usize..(at - from) as usize + 512),
            // Part of it is unreadable: only the usual places, the last
            // sector of 512 or 4096 bytes.
            None if at + 512 == whole || at + 4096 == whole => {
                if let Some(s) = read_some(source, start + at, 512)?
                    && counts_to(&s, at)
                {
                    return Ok(Some(at));
                }
                None
            }
            None if at + 4096 < whole => break,
            None => None,
        };
        if sector.is_some_and(|s| counts_to(s, at)) {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// True for an NTFS boot sector whose volume ends where this sector lies.
fn counts_to(s: &[u8], at: u64) -> bool {
    s.get(3..11) == Some(b"NTFS    ")
        && le16(s, 510) == Some(0xaa55)
        && le64(s, 0x28)
            .zip(le16(s, 0x0b))
            .is_some_and(|(total, bytes)| {
                bytes.is_power_of_two()
                    && (256..=4096).contains(&bytes)
                    && total.checked_mul(u64::from(bytes)) == Some(at)
            })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::FaultySource;
    use proptest::prelude::*;
    use std::process::Command;

    fn look(data: Vec<u8>) -> Content {
        let len = data.len() as u64;
        recognise(&FaultySource::new(data, 512), 0, len).unwrap()
    }

    fn marked(at: usize, mark: &[u8]) -> Vec<u8> {
        let mut d = vec![0; 256 * 1024];
        d[at..at + mark.len()].copy_from_slice(mark);
        d
    }

    #[test]
    fn marks_at_their_places() {
        for (at, mark, want) in [
            (3, &b"NTFS    "[..], Content::Ntfs),
            (3, b"-FVE-FS-", Content::BitLocker),
            (424, &BITLOCKER_TO_GO.0, Content::BitLockerToGo),
            (3, b"ReFS\0\0\0\0", Content::Refs),
            (3, b"EXFAT   ", Content::ExFat),
            (0, b"LUKS\xba\xbe", Content::Luks),
            (0, b"XFSB", Content::Xfs),
            (32, b"NXSB", Content::Apfs),
            (65600, b"_BHRfS_M", Content::Btrfs),
            (1080, b"\x53\xef", Content::Ext),
            (1024, b"H+\0\x04", Content::HfsPlus),
            (4086, b"SWAPSPACE2", Content::Swap),
            (4096, b"\xfc\x4e\x2b\xa9", Content::LinuxRaid),
            (32769, b"CD001", Content::Iso9660),
            (1024, b"\x10\x20\xf5\xf2", Content::F2fs),
            (100, b"\x01", Content::Unknown),
            (256 * 1024 - 1, b"\x01", Content::Unknown),
            (0, b"\0", Content::Empty),
        ] {
            assert_eq!(look(marked(at, mark)), want, "{}", want.name());
        }
        let mut d = marked(512, b"LABELONE");
        d[536..544].copy_from_slice(b"LVM2 001");
        assert_eq!(look(d), Content::Lvm2);
        assert_eq!(look(vec![]), Content::Empty);
        assert!(Content::BitLocker.way_out().contains("dislocker"));
    }

    /// What the real programs make, where they are installed.
    #[test]
    fn file_systems_as_their_programs_make_them() {
        let dir = tempfile::tempdir().unwrap();
        for (program, args, mib, want) in [
            ("mkfs.ntfs", &["-F", "-Q", "-q"][..], 8u64, Content::Ntfs),
            ("mkfs.vfat", &["-F", "12"], 2, Content::Fat12),
            ("mkfs.vfat", &["-F", "16"], 16, Content::Fat16),
            ("mkfs.vfat", &["-F", "32"], 64, Content::Fat32),
            ("mkfs.exfat", &[], 8, Content::ExFat),
            ("mkfs.ext4", &["-q"], 8, Content::Ext),
            ("mkfs.xfs", &["-q"], 400, Content::Xfs),
            ("mkfs.btrfs", &["-q"], 200, Content::Btrfs),
            ("mkswap", &[], 1, Content::Swap),
        ] {
            let path = dir.path().join("v.img");
            let f = std::fs::File::create(&path).unwrap();
            f.set_len(mib << 20).unwrap();
            let out = Command::new(program).args(args).arg(&path).output();
            if !out.is_ok_and(|o| o.status.success()) {
                eprintln!("skipped: {program}");
                continue;
            }
            let s = crate::device::FileSource::open(&path, 512).unwrap();
            assert_eq!(recognise(&s, 0, s.len()).unwrap(), want, "{program}");
        }
    }

    #[test]
    fn ntfs_is_known_by_its_last_sector() {
        let mut d = vec![0; 1 << 20];
        let at = d.len() - 512;
        d[at + 3..at + 11].copy_from_slice(b"NTFS    ");
        d[at + 11..at + 13].copy_from_slice(&512u16.to_le_bytes());
        d[at + 0x28..at + 0x30].copy_from_slice(&(at as u64 / 512).to_le_bytes());
        d[at + 510..].copy_from_slice(&[0x55, 0xaa]);
        let want = Content::NtfsByBackup { boot_at: at as u64 };
        assert_eq!(look(d.clone()), want);
        d[0..512].fill(0x5a);
        assert_eq!(look(d.clone()), want);
        assert!(want.is_ntfs());
        // Followed by a few sectors that the partition has more.
        let mut longer = d.clone();
        longer.extend([0; 4096]);
        assert_eq!(look(longer), want);
        // Unreadable beginning, unreadable part of the end.
        let s = FaultySource::new(d.clone(), 512)
            .with_bad_sectors(0, 8)
            .with_bad_sectors(at as u64 / 512 - 20, 1);
        assert_eq!(recognise(&s, 0, d.len() as u64).unwrap(), want);
        let s = FaultySource::new(d.clone(), 512).with_bad_sectors(0, 2048);
        let got = recognise(&s, 0, d.len() as u64).unwrap();
        assert_eq!(got, Content::Unreadable);
        // A copy of some other volume does not count.
        d[at + 0x28] ^= 1;
        assert_eq!(look(d), Content::Unknown);
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_panic(
            head in prop::collection::vec(any::<u8>(), 0..2048),
            len in 0usize..200_000, start in 0u64..300_000, claim in any::<u64>(),
        ) {
            let mut d = vec![0; len];
            let n = head.len().min(len);
            d[..n].copy_from_slice(&head[..n]);
            if n >= 512 { d[0] = 0xeb; d[510] = 0x55; d[511] = 0xaa; }
            let s = FaultySource::new(d, 512);
            let _ = recognise(&s, 0, claim).unwrap();
            let _ = recognise(&s, start, claim).unwrap();
        }
    }
}
