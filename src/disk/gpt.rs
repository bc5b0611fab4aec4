//! The GUID partition table: a header and an array of entries at the start of
//! the disk, and a copy of both at its end. Both parts carry a CRC-32.

use super::guid::Guid;
use super::read_some;
use crate::device::Source;
use crate::error::Result;
use crate::units::Lba;
use binread::{BinRead, BinReaderExt};
use std::io::Cursor;

/// Size of the header's known fields in bytes.
const HEADER_BYTES: usize = 92;
/// Largest array of entries that is read, in bytes: 64 times the usual one.
const MAX_ARRAY: u64 = 1 << 20;

/// The header as stored.
#[derive(BinRead)]
#[br(little)]
struct DiskHeader {
    /// 0x00: `EFI PART`.
    signature: [u8; 8],
    /// 0x08: version, 0x00010000.
    _revision: u32,
    /// 0x0c: bytes that the header's CRC covers.
    header_size: u32,
    /// 0x10: CRC-32 of the header with this field as zero.
    header_crc: u32,
    /// 0x14: zero.
    _reserved: u32,
    /// 0x18: where this header lies, in sectors.
    my_lba: u64,
    /// 0x20: where the other header lies, in sectors.
    alternate_lba: u64,
    /// 0x28: first sector for partitions.
    first_usable: u64,
    /// 0x30: last sector for partitions.
    last_usable: u64,
    /// 0x38: GUID of the disk.
    disk_id: [u8; 16],
    /// 0x48: where the array of entries begins, in sectors.
    entries_lba: u64,
    /// 0x50: number of entries.
    entry_count: u32,
    /// 0x54: bytes per entry.
    entry_size: u32,
    /// 0x58: CRC-32 of the whole array.
    entries_crc: u32,
}

/// An entry as stored, 128 bytes.
#[derive(BinRead)]
#[br(little)]
struct DiskEntry {
    /// 0x00: type; zero when unused.
    kind: [u8; 16],
    /// 0x10: GUID of this partition.
    id: [u8; 16],
    /// 0x20: first sector.
    first: u64,
    /// 0x28: last sector, inclusive.
    last: u64,
    /// 0x30: attribute bits.
    attributes: u64,
    /// 0x38: name in UTF-16.
    name: [u16; 36],
}

/// Which of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// At the start of the disk.
    Primary,
    /// At its end.
    Backup,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GptHeader {
    /// Where the other header lies.
    pub alternate: Lba,
    /// First sector for partitions.
    pub first_usable: Lba,
    /// Last sector for partitions.
    pub last_usable: Lba,
    /// GUID of the disk.
    pub disk_id: Guid,
    /// Where the array of entries begins.
    pub entries_at: Lba,
    /// Number of entries, used or not.
    pub entry_count: u32,
    /// Bytes per entry.
    pub entry_size: u32,
}

/// A used entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GptEntry {
    /// Its number: place in the array, from 1.
    pub number: u32,
    /// Type of the partition.
    pub kind: Guid,
    /// GUID of the partition.
    pub id: Guid,
    /// First sector.
    pub first: Lba,
    /// Last sector, inclusive.
    pub last: Lba,
    /// Attribute bits.
    pub attributes: u64,
    /// Name, up to 36 UTF-16 units.
    pub name: String,
}

/// One of the two tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpt {
    /// Which one.
    pub side: Side,
    /// Its header; the CRC was right.
    pub header: GptHeader,
    /// The used entries.
    pub entries: Vec<GptEntry>,
    /// The CRC of the array was right.
    pub entries_sound: bool,
}

/// What was found where a table should be.
pub(super) enum Attempt {
    /// No signature.
    Absent,
    /// A signature, but this is wrong with it; and where its copy should lie.
    Wrong(String, Lba),
    /// A table whose header is sound.
    Found(Gpt),
}

impl Gpt {
    /// Reads the table whose header lies in sector `at`. `sector_size` in
    /// bytes.
    pub(super) fn read(
        source: &dyn Source,
        sector_size: u32,
        at: Lba,
        side: Side,
    ) -> Result<Attempt> {
        let size = u64::from(sector_size);
        let Some(byte) = at.0.checked_mul(size) else {
            return Ok(Attempt::Absent);
        };
        let Some(sector) = read_some(source, byte, sector_size as usize)? else {
            return Ok(Attempt::Wrong(
                "its header cannot be read".to_owned(),
                Lba(0),
            ));
        };
        let header = match header(&sector, at) {
            Ok(Some(h)) => h,
            Ok(None) => return Ok(Attempt::Absent),
            Err((why, alternate)) => return Ok(Attempt::Wrong(why, alternate)),
        };
        let (header, array_crc) = header;
        let wrong = |why: String| Ok(Attempt::Wrong(why, header.alternate));
        // At most 2^20 by the check of the header.
        let bytes = u64::from(header.entry_count) * u64::from(header.entry_size);
        let array = match header.entries_at.0.checked_mul(size) {
            Some(b) if b.checked_add(bytes).is_some_and(|e| e <= source.len()) => {
                read_some(source, b, bytes as usize)?
            }
            _ => {
                return wrong(format!(
                    "its entries (from sector {}) lie behind the end of the disk",
                    header.entries_at
                ));
            }
        };
        let Some(array) = array else {
            return wrong("its entries cannot be read".to_owned());
        };
        let entries_sound = crc32fast::hash(&array) == array_crc;
        let entries = (1u32..)
            .zip(array.chunks_exact(header.entry_size as usize))
            .filter_map(|(n, raw)| entry(n, raw))
            .collect();
        Ok(Attempt::Found(Gpt {
            side,
            header,
            entries,
            entries_sound,
        }))
    }
}

/// Reads and checks a header; with it the CRC that the array should have.
/// `Ok(None)` without the signature; an error says why and where the other
/// header should be.
fn header(sector: &[u8], at: Lba) -> Result<Option<(GptHeader, u32)>, (String, Lba)> {
    let Ok(h) = Cursor::new(sector).read_le::<DiskHeader>() else {
        return Ok(None);
    };
    if h.signature != *b"EFI PART" {
        return Ok(None);
    }
    let wrong = |why: String| Err((why, Lba(h.alternate_lba)));
    let size = h.header_size as usize;
    if size < HEADER_BYTES || size > sector.len() {
        return wrong(format!(
            "its header size is {size}, expected {HEADER_BYTES} to {}",
            sector.len()
        ));
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(&sector[..0x10]);
    crc.update(&[0; 4]);
    crc.update(&sector[0x14..size]);
    let found = crc.finalize();
    if found != h.header_crc {
        return wrong(format!(
            "its header has the CRC {found:08x}, expected {:08x}",
            h.header_crc
        ));
    }
    if h.my_lba != at.0 {
        return wrong(format!(
            "its header says that it lies in sector {}, but it lies in sector {at}",
            h.my_lba
        ));
    }
    if h.entry_size < 128 || h.entry_size % 8 != 0 || h.entry_size > 4096 {
        return wrong(format!(
            "its entries are {} bytes long, expected 128 to 4096",
            h.entry_size
        ));
    }
    if u64::from(h.entry_count) * u64::from(h.entry_size) > MAX_ARRAY {
        return wrong(format!(
            "it has {} entries of {} bytes, more than {MAX_ARRAY} bytes in all",
            h.entry_count, h.entry_size
        ));
    }
    Ok(Some((
        GptHeader {
            alternate: Lba(h.alternate_lba),
            first_usable: Lba(h.first_usable),
            last_usable: Lba(h.last_usable),
            disk_id: Guid(h.disk_id),
            entries_at: Lba(h.entries_lba),
            entry_count: h.entry_count,
            entry_size: h.entry_size,
        },
        h.entries_crc,
    )))
}

fn entry(number: u32, raw: &[u8]) -> Option<GptEntry> {
    let e: DiskEntry = Cursor::new(raw).read_le().ok()?;
    let kind = Guid(e.kind);
    if kind.is_zero() {
        return None;
    }
    let len = e.name.iter().position(|&u| u == 0).unwrap_or(36);
    Some(GptEntry {
        number,
        kind,
        id: Guid(e.id),
        first: Lba(e.first),
        last: Lba(e.last),
        attributes: e.attributes,
        name: String::from_utf16_lossy(&e.name[..len]),
    })
}

#[cfg(test)]
mod tests {
    use super::super::guid::BASIC_DATA;
    use super::*;
    use crate::device::FaultySource;
    use proptest::prelude::*;

    /// A sector with a header, the array to follow in the next sector.
    fn made(array: &[u8], count: u32, entry_size: u32) -> Vec<u8> {
        let mut s = vec![0; 512];
        s[..8].copy_from_slice(b"EFI PART");
        s[8..12].copy_from_slice(&0x1_0000u32.to_le_bytes());
        s[0x0c..0x10].copy_from_slice(&92u32.to_le_bytes());
        s[0x18..0x20].copy_from_slice(&1u64.to_le_bytes());
        s[0x20..0x28].copy_from_slice(&99u64.to_le_bytes());
        s[0x48..0x50].copy_from_slice(&2u64.to_le_bytes());
        s[0x50..0x54].copy_from_slice(&count.to_le_bytes());
        s[0x54..0x58].copy_from_slice(&entry_size.to_le_bytes());
        s[0x58..0x5c].copy_from_slice(&crc32fast::hash(array).to_le_bytes());
        let crc = crc32fast::hash(&s[..92]);
        s[0x10..0x14].copy_from_slice(&crc.to_le_bytes());
        [vec![0; 512], s, array.to_vec()].concat()
    }

    fn array() -> Vec<u8> {
        let mut a = vec![0; 4 * 128];
        a[128..144].copy_from_slice(&BASIC_DATA.0);
        a[160..168].copy_from_slice(&40u64.to_le_bytes());
        a[168..176].copy_from_slice(&49u64.to_le_bytes());
        a[184] = b'D';
        a[186] = b'\xe9';
        a
    }

    fn read(d: Vec<u8>) -> Attempt {
        Gpt::read(&FaultySource::new(d, 512), 512, Lba(1), Side::Primary).unwrap()
    }

    fn why(d: Vec<u8>) -> String {
        match read(d) {
            Attempt::Wrong(w, other) => {
                assert_eq!(other, Lba(99));
                w
            }
            _ => panic!("taken as sound or absent"),
        }
    }

    #[test]
    fn fields_at_their_offsets() {
        let Attempt::Found(g) = read(made(&array(), 4, 128)) else {
            panic!("not found");
        };
        assert!(g.entries_sound);
        assert_eq!(g.entries.len(), 1);
        let e = &g.entries[0];
        assert_eq!((e.number, e.first, e.last), (2, Lba(40), Lba(49)));
        assert_eq!((e.kind, e.name.as_str()), (BASIC_DATA, "Dé"));
    }

    #[test]
    fn damage_is_named() {
        let good = made(&array(), 4, 128);
        let mut d = good.clone();
        d[512 + 0x30] ^= 1;
        assert!(why(d).contains("CRC"));
        let mut d = good.clone();
        d[512] = 0;
        assert!(matches!(read(d), Attempt::Absent));
        let mut d = good.clone();
        d[1024 + 400] ^= 1;
        assert!(matches!(read(d), Attempt::Found(g) if !g.entries_sound));
        assert!(why(made(&array(), u32::MAX, 128)).contains("4294967295 entries"));
        assert!(why(made(&array(), 4, 64)).contains("64 bytes long"));
        assert!(why(made(&array(), 1000, 128)).contains("behind the end"));
        let mut d = good.clone();
        d[512 + 0x0c..512 + 0x10].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(why(d).contains("header size"));
        let mut moved = good[..512].to_vec();
        moved.extend(&good);
        let s = FaultySource::new(moved, 512);
        let a = Gpt::read(&s, 512, Lba(2), Side::Backup).unwrap();
        assert!(
            matches!(a, Attempt::Wrong(w, _) if w.contains("sector 1, but it lies in sector 2"))
        );
        let s = FaultySource::new(good, 512).with_bad_sectors(2, 1);
        let a = Gpt::read(&s, 512, Lba(1), Side::Primary).unwrap();
        assert!(matches!(a, Attempt::Wrong(w, _) if w.contains("cannot be read")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            noise in prop::collection::vec(any::<u8>(), 0..2048),
            patch in prop::collection::vec((0usize..92, any::<u8>()), 0..6),
            at in any::<u64>(), fix in any::<bool>(),
        ) {
            let s = FaultySource::new(noise.clone(), 512);
            let _ = Gpt::read(&s, 512, Lba(at), Side::Backup).unwrap();
            let _ = Gpt::read(&s, 4096, Lba(at % 5), Side::Backup).unwrap();
            // A header with some fields changed and the CRC put right again.
            let mut d = made(&noise, 4, 128);
            for (i, b) in patch {
                d[512 + i] = b;
            }
            if fix {
                d[512 + 0x10..512 + 0x14].fill(0);
                let size = u32::from_le_bytes(d[524..528].try_into().unwrap()).min(512) as usize;
                let crc = crc32fast::hash(&d[512..512 + size]);
                d[528..532].copy_from_slice(&crc.to_le_bytes());
            }
            let _ = read(d);
        }
    }
}
