//! What a volume says about its own place: the hidden sectors of FAT and NTFS
//! (in the BIOS parameter block, byte 0x1c), the partition offset of exFAT
//! (byte 0x40, covered by the checksum of its boot region).

use super::plan::{Patch, Placed, VolumePatch};
use crate::device::Source;
use crate::disk::{Content, Partition, read_some};
use crate::error::Result;
use crate::units::ByteRange;

/// Hidden sectors.
const HIDDEN: usize = 0x1c;
/// Sectors of the boot region of exFAT, the checksum being the twelfth.
const EXFAT_REGION: usize = 12;

/// A partition as a volume is told of it.
pub(super) struct Moved {
    pub number: u32,
    pub content: Content,
    pub old: ByteRange,
    /// Where its first byte is read.
    pub at: u64,
    pub new: ByteRange,
    /// Extended boot records, old and new place, of a logical partition.
    pub records: Option<(u64, u64)>,
    /// Bytes per sector.
    pub size: u32,
}

/// What is found out.
pub(super) struct Told {
    pub placed: Placed,
    pub patches: Vec<VolumePatch>,
    /// What could not be put right.
    pub problem: Option<String>,
}

/// Tells the volume in a partition its new place.
pub(super) fn tell(disk: &dyn Source, m: &Moved) -> Result<Told> {
    let mut told = Told {
        placed: Placed {
            number: m.number,
            old: m.old,
            new: m.new,
            hidden_sectors: None,
        },
        patches: Vec::new(),
        problem: None,
    };
    if m.old.start == m.new.start && m.records.is_none_or(|(old, new)| old == new) {
        return Ok(told);
    }
    put_right(disk, m, &mut told)?;
    Ok(told)
}

/// What the volume of a partition has to be told, whatever it says now: it
/// begins at byte `start` of a disk. `volume`: its bytes. NTFS is told by who
/// writes it, as with [`Placed::hidden_sectors`].
pub fn tell_start(volume: &dyn Source, p: &Partition, start: u64) -> Result<ToldStart> {
    let new = ByteRange {
        start,
        end: start.saturating_add(p.length),
    };
    let mut told = Told {
        placed: Placed {
            number: p.number,
            old: p.range(),
            new,
            hidden_sectors: None,
        },
        patches: Vec::new(),
        problem: None,
    };
    let m = Moved {
        number: p.number,
        content: p.content,
        old: p.range(),
        at: 0,
        new,
        records: None,
        size: volume.sector_size(),
    };
    put_right(volume, &m, &mut told)?;
    Ok(ToldStart {
        hidden_sectors: told.placed.hidden_sectors,
        patches: told.patches.into_iter().map(|p| p.patch).collect(),
        problem: told.problem,
    })
}

/// What a volume is told of its place.
pub struct ToldStart {
    /// Its hidden sectors, where that is another number than before.
    pub hidden_sectors: Option<u32>,
    /// What is written, from the start of the volume.
    pub patches: Vec<Patch>,
    /// What could not be put right.
    pub problem: Option<String>,
}

fn put_right(disk: &dyn Source, m: &Moved, told: &mut Told) -> Result<()> {
    let has_bpb = m.content.is_ntfs()
        || matches!(
            m.content,
            Content::Fat12 | Content::Fat16 | Content::Fat32 | Content::ExFat
        );
    if matches!(m.content, Content::BitLocker | Content::BitLockerToGo) {
        told.problem = Some(format!(
            "Partition {} is encrypted: the place of the volume that is written inside of it stays the old one",
            m.number
        ));
    }
    if !has_bpb {
        return Ok(());
    }
    let Some(first) = sectors(disk, m, 0, 1, m.size as usize)? else {
        told.problem = Some(format!(
            "The boot sector of partition {} cannot be read: the place of the volume in it stays the old one",
            m.number
        ));
        return Ok(());
    };
    if m.content == Content::ExFat {
        return exfat(disk, m, &first, told);
    }
    let was = u32::from_le_bytes([first[0x1c], first[0x1d], first[0x1e], first[0x1f]]);
    let hidden = hidden(m, was);
    if hidden == was {
        return Ok(());
    }
    told.placed.hidden_sectors = Some(hidden);
    if m.content.is_ntfs() {
        return Ok(());
    }
    let mut put = |offset: u64, mut bytes: Vec<u8>| {
        bytes[HIDDEN..HIDDEN + 4].copy_from_slice(&hidden.to_le_bytes());
        told.patches.push(patch(m.number, offset, bytes));
    };
    let backup = usize::from(u16::from_le_bytes([first[0x32], first[0x33]]));
    let bytes = usize::from(u16::from_le_bytes([first[0x0b], first[0x0c]]));
    put(0, first);
    // Sector 0 and 0xffff mean that there is none.
    if m.content == Content::Fat32 && backup != 0 && backup != 0xffff {
        let at = backup * bytes;
        let copy = match at % m.size as usize {
            0 => sectors(disk, m, at, 1, m.size as usize)?,
            _ => None,
        };
        match copy.filter(|c| boots(c)) {
            Some(copy) => put(at as u64, copy),
            None => {
                told.problem = Some(format!(
                    "The copy of the boot sector of partition {} is none, or does not fill sectors: it is left as it is",
                    m.number
                ));
            }
        }
    }
    Ok(())
}

/// True for a sector with the end mark of a boot sector and a jump.
fn boots(s: &[u8]) -> bool {
    matches!(s[0], 0xeb | 0xe9) && s[510..512] == [0x55, 0xaa]
}

/// The new number. Logical volumes count from the start of the disk or from
/// their record; which of the two stays. One that did not fit the old place
/// counts from the start of the disk.
fn hidden(m: &Moved, was: u32) -> u32 {
    let count = |bytes: u64| u32::try_from(bytes / u64::from(m.size)).unwrap_or(0);
    match m.records {
        Some((old, new)) if count(m.old.start - old) == was => count(m.new.start - new),
        _ => count(m.new.start),
    }
}

fn patch(number: u32, offset: u64, bytes: Vec<u8>) -> VolumePatch {
    VolumePatch {
        number,
        patch: Patch { offset, bytes },
    }
}

/// `count` sectors of the partition; `None` where they cannot be read or the
/// partition has less.
fn sectors(
    disk: &dyn Source,
    m: &Moved,
    at: usize,
    count: usize,
    size: usize,
) -> Result<Option<Vec<u8>>> {
    let (at, len) = (at as u64, count * size);
    if at + len as u64 > m.old.len() {
        return Ok(None);
    }
    Ok(read_some(disk, m.at + at, len)?.filter(|b| b.len() == len))
}

/// Both boot regions of exFAT, each with its checksum (exFAT specification,
/// section 3.4: a rotating sum over eleven sectors without the bytes 106, 107
/// and 112).
fn exfat(disk: &dyn Source, m: &Moved, first: &[u8], told: &mut Told) -> Result<()> {
    let shift = usize::from(first[108]);
    let size = m.size as usize;
    // An offset of 0 says that it is to be ignored.
    if first[0x40..0x48] == [0; 8] {
        return Ok(());
    }
    if !(9..=12).contains(&shift) || !(EXFAT_REGION << shift).is_multiple_of(size) {
        told.problem = Some(format!(
            "Partition {} has exFAT with sectors of 2^{shift} bytes: the place that its boot sector names stays the old one",
            m.number
        ));
        return Ok(());
    }
    let bytes = EXFAT_REGION << shift;
    for at in [0, bytes] {
        let region = sectors(disk, m, at, 1, bytes)?;
        let Some(mut r) = region.filter(|r| r[3..11] == *b"EXFAT   ") else {
            told.problem = Some(format!(
                "A boot region of partition {} (exFAT) cannot be read or is none: it stays as it is",
                m.number
            ));
            continue;
        };
        let start = (m.new.start >> shift).to_le_bytes();
        if r[0x40..0x48] == start {
            continue;
        }
        r[0x40..0x48].copy_from_slice(&start);
        let covered = 11 << shift;
        let sum = exfat_sum(&r[..covered]);
        for word in r[covered..].chunks_exact_mut(4) {
            word.copy_from_slice(&sum.to_le_bytes());
        }
        told.patches.push(patch(m.number, at as u64, r));
    }
    Ok(())
}

fn exfat_sum(region: &[u8]) -> u32 {
    region
        .iter()
        .enumerate()
        .fold(0u32, |sum, (i, &b)| match i {
            106 | 107 | 112 => sum,
            _ => sum.rotate_right(1).wrapping_add(u32::from(b)),
        })
}
