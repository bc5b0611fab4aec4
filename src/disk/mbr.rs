//! The master boot record: four primary partitions in the first sector, and
//! the chain of extended boot records with the logical ones.

use super::read_some;
use crate::device::Source;
use crate::error::{Error, Result};
use crate::units::Lba;
use binread::{BinRead, BinReaderExt};
use std::collections::BTreeSet;
use std::io::Cursor;

/// Size of the stored record in bytes, whatever the sector size.
pub(super) const MBR_BYTES: usize = 512;
/// Most logical partitions that are followed; the kernel stops there too.
const MAX_LOGICAL: usize = 256;

/// A partition entry as stored, 16 bytes.
#[derive(BinRead, Clone, Copy)]
#[br(little)]
struct DiskEntry {
    /// 0x00: 0x80 when bootable, else 0.
    status: u8,
    /// 0x01: first sector as head, sector, cylinder; not used.
    _first_chs: [u8; 3],
    /// 0x04: type.
    kind: u8,
    /// 0x05: last sector as head, sector, cylinder; not used.
    _last_chs: [u8; 3],
    /// 0x08: first sector, in sectors from a base.
    start: u32,
    /// 0x0c: length in sectors.
    sectors: u32,
}

/// The record as stored, 512 bytes.
#[derive(BinRead)]
#[br(little)]
struct DiskMbr {
    /// 0x000: boot code.
    _code: [u8; 440],
    /// 0x1b8: disk signature of Windows.
    signature: u32,
    /// 0x1bc: usually 0.
    _reserved: u16,
    /// 0x1be: the four entries.
    entries: [DiskEntry; 4],
    /// 0x1fe: 0xaa55.
    magic: u16,
}

/// One entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MbrEntry {
    /// 0x80 when bootable; anything but that and 0 is no valid entry.
    pub status: u8,
    /// Type byte; 0 for an unused entry.
    pub kind: u8,
    /// First sector: from the start of the disk (in a logical partition's
    /// stored entry from its own record; resolved by `chain`).
    pub start: Lba,
    /// Length in sectors.
    pub sectors: u64,
}

impl MbrEntry {
    /// True for an entry that describes something.
    pub const fn is_used(&self) -> bool {
        self.kind != 0 && self.sectors != 0
    }

    /// True for a container of logical partitions.
    pub const fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    /// True for the entry that protects a GPT.
    pub const fn is_protective(&self) -> bool {
        self.kind == 0xee
    }
}

/// A master (or extended) boot record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mbr {
    /// Disk signature of Windows; 0 if none.
    pub signature: u32,
    /// The four entries as stored.
    pub entries: [MbrEntry; 4],
}

impl Mbr {
    /// Reads a record from its first 512 bytes. Fails without the signature
    /// 0xaa55, and when an entry's status is neither 0 nor 0x80: then it is
    /// some other boot sector.
    pub fn parse(sector: &[u8]) -> Result<Self> {
        let disk: DiskMbr = Cursor::new(sector)
            .read_le()
            .map_err(|_| Error::damaged("Found no room for a boot record, expected 512 bytes"))?;
        if disk.magic != 0xaa55 {
            return Err(Error::damaged(format!(
                "Found boot record signature {:#06x}, expected 0xaa55",
                disk.magic
            ))
            .at(0x1fe));
        }
        let mut at = 0x1be;
        for e in &disk.entries {
            if e.status & 0x7f != 0 {
                return Err(Error::damaged(format!(
                    "Found partition status {:#04x}, expected 0 or 0x80",
                    e.status
                ))
                .at(at));
            }
            at += 16;
        }
        Ok(Self {
            signature: disk.signature,
            entries: disk.entries.map(|e| MbrEntry {
                status: e.status,
                kind: e.kind,
                start: Lba(u64::from(e.start)),
                sectors: u64::from(e.sectors),
            }),
        })
    }

    /// True when it protects a GPT.
    pub fn is_protective(&self) -> bool {
        self.entries
            .iter()
            .any(|e| e.is_used() && e.is_protective())
    }

    /// The entries that describe something, with their numbers from 1.
    pub fn used(&self) -> impl Iterator<Item = (u32, &MbrEntry)> {
        (1u32..).zip(&self.entries).filter(|(_, e)| e.is_used())
    }
}

/// A logical partition and where its entry stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Logical {
    /// Sector of the extended boot record.
    pub record: Lba,
    /// Place of the entry in it, from 0.
    pub slot: usize,
    /// The entry, with an absolute position.
    pub entry: MbrEntry,
}

/// A chain of extended boot records.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// Every sector that was read as a record.
    pub records: Vec<Lba>,
    /// The logical partitions in the order of the chain, which is that of
    /// their numbers, from 5.
    pub logical: Vec<Logical>,
}

/// Follows the chain of extended boot records inside `container`. Problems
/// become notes.
pub(super) fn chain(
    source: &dyn Source,
    sector_size: u32,
    container: &MbrEntry,
    notes: &mut Vec<String>,
) -> Result<Chain> {
    let base = container.start.0;
    let end = base + container.sectors;
    let mut out = Chain::default();
    let mut seen = BTreeSet::new();
    let mut at = base;
    loop {
        if !seen.insert(at) {
            notes.push(format!(
                "The chain of logical partitions comes back to sector {at}; it is followed no further"
            ));
            break;
        }
        if seen.len() > MAX_LOGICAL {
            notes.push(format!(
                "The chain of logical partitions has more than {MAX_LOGICAL} links; it is followed no further"
            ));
            break;
        }
        // Both factors are below 2^34: no overflow.
        let byte = at * u64::from(sector_size);
        let record = match read_some(source, byte, MBR_BYTES)? {
            Some(sector) => Mbr::parse(&sector),
            None => Err(Error::damaged("The sector cannot be read")),
        };
        let record = match record {
            Ok(r) => r,
            Err(e) => {
                notes.push(format!(
                    "The chain of logical partitions breaks at sector {at}: {}",
                    e.message()
                ));
                break;
            }
        };
        out.records.push(Lba(at));
        // As the kernel does it: usually the first entry is the partition and
        // the second the link, but some programs swapped them or used more.
        for (i, e) in record.entries.iter().enumerate() {
            if !e.is_used() || e.is_extended() {
                continue;
            }
            let start = at + e.start.0;
            if start + e.sectors > end {
                // Rests of other tables live in the last two entries.
                if i >= 2 {
                    continue;
                }
                notes.push(format!(
                    "The logical partition at sector {start} reaches out of its extended partition (sectors {base} to {end})"
                ));
            }
            out.logical.push(Logical {
                record: Lba(at),
                slot: i,
                entry: MbrEntry {
                    start: Lba(start),
                    ..*e
                },
            });
        }
        match record
            .entries
            .iter()
            .find(|e| e.is_used() && e.is_extended())
        {
            Some(link) => at = base + link.start.0,
            None => break,
        }
    }
    Ok(out)
}

/// What a type byte is called.
pub(super) const fn type_name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        0x01 => "FAT12",
        0x04 | 0x06 | 0x0e => "FAT16",
        0x05 | 0x0f | 0x85 => "extended",
        0x07 => "NTFS, exFAT or HPFS",
        0x0b | 0x0c => "FAT32",
        0x11 | 0x14 | 0x16 | 0x1b | 0x1c | 0x1e => "hidden FAT",
        0x12 => "vendor diagnostics",
        0x17 => "hidden NTFS",
        0x27 => "Windows recovery",
        0x42 => "Windows dynamic disk",
        0x82 => "Linux swap",
        0x83 => "Linux",
        0x8e => "Linux LVM",
        0xa5 => "FreeBSD",
        0xaf => "Apple HFS+",
        0xe8 => "LUKS",
        0xee => "GPT protective",
        0xef => "EFI system",
        0xfb => "VMFS",
        0xfd => "Linux RAID",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::FaultySource;
    use proptest::prelude::*;

    fn put(sector: &mut [u8], slot: usize, kind: u8, start: u32, sectors: u32) {
        let at = 0x1be + slot * 16;
        sector[at + 4] = kind;
        sector[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        sector[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
        sector[510] = 0x55;
        sector[511] = 0xaa;
    }

    #[test]
    fn fields_at_their_offsets() {
        let mut s = vec![0; 512];
        put(&mut s, 0, 7, 2048, 1000);
        put(&mut s, 3, 0xee, 1, u32::MAX);
        s[0x1be] = 0x80;
        s[0x1b8..0x1bc].copy_from_slice(&[0x97, 0x83, 0x8c, 0x70]);
        let m = Mbr::parse(&s).unwrap();
        assert_eq!(m.signature, 0x708c_8397);
        assert!(m.is_protective());
        let used: Vec<_> = m.used().map(|(n, e)| (n, e.start.0, e.sectors)).collect();
        assert_eq!(used, [(1, 2048, 1000), (4, 1, u64::from(u32::MAX))]);
        s[0x1ce] = 0x33;
        let e = Mbr::parse(&s).unwrap_err();
        assert!(
            e.to_string().contains("0x33") && e.offset() == Some(0x1ce),
            "{e}"
        );
        s[511] = 0;
        assert!(Mbr::parse(&s).is_err());
        assert!(Mbr::parse(&s[..511]).is_err());
    }

    fn container() -> MbrEntry {
        MbrEntry {
            status: 0,
            kind: 5,
            start: Lba(10),
            sectors: 90,
        }
    }

    #[test]
    fn the_chain_is_followed_and_ends() {
        let mut d = vec![0; 100 * 512];
        put(&mut d[10 * 512..], 0, 7, 2, 10);
        put(&mut d[10 * 512..], 1, 5, 30, 20);
        put(&mut d[40 * 512..], 0, 0x83, 1, 5);
        let starts = |d: &[u8], notes: &mut Vec<String>| -> Vec<u64> {
            let s = FaultySource::new(d.to_vec(), 512);
            let found = chain(&s, 512, &container(), notes).unwrap();
            assert!(found.records.starts_with(&[Lba(10), Lba(40)]));
            (found.logical.iter().map(|l| l.entry.start.0)).collect()
        };
        let mut notes = Vec::new();
        assert_eq!(starts(&d, &mut notes), [12, 41]);
        assert!(notes.is_empty());
        // Back to the first: a circle.
        put(&mut d[40 * 512..], 1, 5, 0, 20);
        assert_eq!(starts(&d, &mut notes), [12, 41]);
        assert!(notes[0].contains("comes back to sector 10"), "{notes:?}");
        // Out of the container, and a broken link.
        notes.clear();
        put(&mut d[40 * 512..], 0, 0x83, 1, 500);
        put(&mut d[40 * 512..], 1, 5, 80, 1);
        assert_eq!(starts(&d, &mut notes), [12, 41]);
        assert_eq!(notes.len(), 2, "{notes:?}");
    }

    proptest! {
        #[test]
        fn any_chain_ends(
            d in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 512..4096),
            links in prop::collection::vec((0usize..8, 0usize..4, prop_oneof![Just(5u8), Just(7), any::<u8>()], 0u32..8, any::<u32>()), 0..12),
            base in 0u64..9, sectors in any::<u32>(), four_k in any::<bool>(),
        ) {
            let mut d = d;
            let _ = Mbr::parse(&d);
            for (sector, slot, kind, start, len) in links {
                if let Some(s) = d.get_mut(sector * 512..sector * 512 + 512) {
                    s[0x1be..0x1fe].iter_mut().step_by(16).for_each(|b| *b = 0);
                    put(s, slot, kind, start, len);
                }
            }
            let c = MbrEntry { status: 0, kind: 5, start: Lba(base), sectors: u64::from(sectors) };
            let size = if four_k { 4096 } else { 512 };
            let mut notes = Vec::new();
            let _ = chain(&FaultySource::new(d, 512), size, &c, &mut notes).unwrap();
        }
    }
}
