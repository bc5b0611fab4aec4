//! One partition onto a bare disk, with a table of its own.

use super::gpt::{Change, OldGpt};
use super::mbr::{SIGNATURE, put};
use super::place::{ALIGN, Frame, Unit, place};
use super::plan::{Arrangement, Ids, NewId, Patch, Room, Smallest, TableWish};
use super::volumes::{Moved, tell};
use super::{check_sectors, mbr_limit, random_guid, random_signature, text, too_small};
use crate::device::Source;
use crate::disk::{Content, Guid, Partition, PartitionType, TableKind, guid};
use crate::error::{Error, Result};
use crate::units::ByteRange;

/// The partition that goes onto the new disk, as it was.
#[derive(Clone, Copy)]
pub struct NewPartition<'a> {
    /// Place, type, name, GUID and content.
    pub partition: &'a Partition,
    /// Its bytes: the boot sector is read.
    pub volume: &'a dyn Source,
    /// Identity of its old disk, as its layout has it.
    pub disk_id: Option<&'a str>,
    /// What may be done with it; its number is not looked at.
    pub room: Room,
}

/// Plans a bare disk of `new_len` bytes with one partition, number 1, that
/// begins at 1 MiB. It is as large as it was, smaller down to its room's
/// smallest where the disk wants that, or as large as the disk allows.
///
/// Its old place in the plan is that on its old disk. What is the same on
/// both disks with [`Ids::Keep`]: the disk's identity where the table is of
/// the same kind, and the partition's GUID.
pub fn fresh(
    table: TableKind,
    part: &NewPartition<'_>,
    new_len: u64,
    wish: &TableWish,
) -> Result<Arrangement> {
    let (p, size) = (part.partition, wish.sector_size);
    check_sectors(part.volume.sector_size(), size)?;
    let sector = u64::from(size);
    if !(size.is_power_of_two() && (512..=65536).contains(&size)) || p.length == 0 {
        return Err(Error::usage(format!(
            "Found a partition of {} bytes in sectors of {size}, expected at least one sector of 512 to 65536 bytes",
            p.length
        )));
    }
    let same_kind = matches!(
        (table, p.kind),
        (TableKind::Mbr, PartitionType::Mbr(_)) | (TableKind::Gpt, PartitionType::Gpt(_))
    );
    let old_id = part.disk_id.filter(|_| same_kind && wish.ids == Ids::Keep);
    let mut new_ids = Vec::new();
    let mut maker = match table {
        TableKind::Mbr => Maker::Mbr(match old_id.and_then(|i| u32::from_str_radix(i, 16).ok()) {
            Some(s) => s.to_le_bytes(),
            None => {
                let s = random_signature()?;
                new_ids.push(new_id(None, part.disk_id, text(s)));
                s
            }
        }),
        TableKind::Gpt => {
            let id = match old_id.and_then(Guid::parse) {
                Some(g) => g,
                None => {
                    let g = random_guid()?;
                    new_ids.push(new_id(None, part.disk_id, g.to_string()));
                    g
                }
            };
            Maker::Gpt(OldGpt::fresh(size, id))
        }
        TableKind::None => {
            return Err(Error::usage(
                "A new partition table is a GPT or a master boot record",
            ));
        }
    };
    let keep = p.length.next_multiple_of(sector);
    let unit = Unit {
        start: ALIGN,
        lead: 0,
        keep,
        smallest: (part.room.smallest.clamp(1, keep)).next_multiple_of(sector),
        grow: part.room.grow,
        fixed: true,
    };
    let (high, tail) = match &maker {
        Maker::Mbr(_) => ((new_len / sector).min(1 << 32) * sector, 0),
        Maker::Gpt(t) => (t.high(new_len), t.tail()),
    };
    let smallest = Smallest {
        unchanged: ALIGN.saturating_add(keep).saturating_add(tail),
        possible: ALIGN.saturating_add(unit.smallest).saturating_add(tail),
    };
    let frame = Frame {
        low: ALIGN,
        high,
        sector,
    };
    let Some((spots, _)) = place(&[unit], frame).filter(|_| new_len >= smallest.possible) else {
        return Err(match high < (new_len / sector * sector).saturating_sub(tail) {
            true => Error::refused(
                "The partition does not fit into the 2^32 sectors that a master boot record counts",
            )
            .hint("give it a GPT"),
            false => too_small(new_len, smallest.possible),
        });
    };
    let (start, len) = spots[0];
    let new = ByteRange {
        start,
        end: start + len,
    };
    let told = tell(
        part.volume,
        &Moved {
            number: 1,
            content: p.content,
            old: p.range(),
            at: 0,
            new,
            records: None,
            size,
        },
    )?;
    let table_patches = match &mut maker {
        Maker::Mbr(signature) => vec![record(*signature, p, new, size)],
        Maker::Gpt(t) => {
            let id = match p.id.filter(|i| wish.ids == Ids::Keep && !i.is_zero()) {
                Some(id) => id,
                None => {
                    let id = random_guid()?;
                    let was = p.id.map(|i| i.to_string());
                    new_ids.push(new_id(Some(1), was.as_deref(), id.to_string()));
                    id
                }
            };
            let name = p.name.as_deref().unwrap_or_default();
            t.describe(gpt_type(p), id, p.attributes, name);
            let change = Change {
                number: 1,
                new,
                id: None,
                kind: None,
            };
            t.write(new_len, &[change], None)?.0
        }
    };
    let mut out = Arrangement {
        table,
        sector_size: size,
        old_length: p.range().end,
        new_length: new_len,
        smallest,
        partitions: vec![told.placed],
        kept: Vec::new(),
        dropped: Vec::new(),
        zeroed: Vec::new(),
        table_patches,
        volume_patches: told.patches,
        new_ids,
        notes: Vec::new(),
    };
    let written: crate::device::RangeSet = out.table_patches.iter().map(Patch::range).collect();
    // Loaders and tables of whatever the disk held before.
    let front = ByteRange {
        start: 0,
        end: ALIGN,
    };
    out.zeroed = written.without(front);
    if table == TableKind::Mbr {
        let end = new_len / sector * sector;
        let start = end.saturating_sub(33 * sector).max(new.end).min(end);
        out.zeroed
            .extend(Some(ByteRange { start, end }).filter(|r| !r.is_empty()));
        out.note(
            "no-boot-code",
            "The new boot record has no boot code: a BIOS cannot start from this disk",
        );
        if high < end {
            out.note("mbr-limit", mbr_limit(new_len - high));
        }
    }
    if let Some(problem) = told.problem {
        out.note("place-not-told", problem);
    }
    other_table(p, table, &mut out);
    Ok(out)
}

/// What a table of the other kind does not say as the old one did.
fn other_table(p: &Partition, table: TableKind, out: &mut Arrangement) {
    let kind = match (table, p.kind) {
        (TableKind::Gpt, PartitionType::Mbr(_)) => PartitionType::Gpt(gpt_type(p)),
        (TableKind::Mbr, PartitionType::Gpt(_)) => PartitionType::Mbr(mbr_type(p)),
        _ => return,
    };
    out.note(
        "type-changes",
        format!(
            "The type of the partition becomes {}, it was {}",
            kind.id().unwrap_or_default(),
            p.kind.id().unwrap_or_default()
        ),
    );
    if table == TableKind::Gpt && p.bootable {
        out.note(
            "active-lost",
            "The partition was the active one; a GPT has no such mark and the new disk no boot code, so a BIOS cannot start from it",
        );
    }
    if table == TableKind::Mbr && p.attributes != 0 {
        out.note(
            "attributes-lost",
            format!(
                "The attributes of the partition ({:#018x}) are not kept: a master boot record has no place for them",
                p.attributes
            ),
        );
    }
    if let Some(name) = p
        .name
        .as_deref()
        .filter(|n| table == TableKind::Mbr && !n.is_empty())
    {
        out.note(
            "name-lost",
            format!(
                "The name of the partition ({name}) is not kept: a master boot record has no place for it"
            ),
        );
    }
}

enum Maker {
    Mbr([u8; 4]),
    Gpt(OldGpt),
}

fn new_id(partition: Option<u32>, old: Option<&str>, new: String) -> NewId {
    NewId {
        partition,
        old: old.map(str::to_owned),
        new,
    }
}

fn record(signature: [u8; 4], p: &Partition, new: ByteRange, size: u32) -> Patch {
    let mut s = vec![0; size as usize];
    s[SIGNATURE..SIGNATURE + 4].copy_from_slice(&signature);
    s[510..512].copy_from_slice(&[0x55, 0xaa]);
    s[0x1be] = if p.bootable { 0x80 } else { 0 };
    s[0x1be + 4] = mbr_type(p);
    let size = u64::from(size);
    let (start, count) = ((new.start / size) as u32, (new.len() / size) as u32);
    put(&mut s, 0, start, count, u64::from(start), true);
    Patch {
        offset: 0,
        bytes: s,
    }
}

/// The type in a GPT.
pub(super) fn gpt_type(p: &Partition) -> Guid {
    match p.kind {
        PartitionType::Gpt(g) => g,
        PartitionType::Mbr(0x27) => guid::RECOVERY,
        PartitionType::Mbr(0xef) => guid::EFI_SYSTEM,
        _ => match p.content {
            Content::Ext | Content::Xfs | Content::Btrfs | Content::F2fs => guid::LINUX_DATA,
            Content::Swap => guid::LINUX_SWAP,
            Content::Lvm2 => guid::LINUX_LVM,
            Content::LinuxRaid => guid::LINUX_RAID,
            Content::Luks => guid::LINUX_LUKS,
            Content::HfsPlus => guid::APPLE_HFS,
            Content::Apfs => guid::APPLE_APFS,
            _ => guid::BASIC_DATA,
        },
    }
}

/// The type byte in a master boot record.
pub(super) fn mbr_type(p: &Partition) -> u8 {
    match p.kind {
        PartitionType::Mbr(k) => k,
        PartitionType::Gpt(guid::RECOVERY) => 0x27,
        PartitionType::Gpt(guid::EFI_SYSTEM) => 0xef,
        _ => match p.content {
            Content::Fat12 => 0x01,
            Content::Fat16 => 0x0e,
            Content::Fat32 | Content::BitLockerToGo => 0x0c,
            Content::Swap => 0x82,
            Content::Lvm2 => 0x8e,
            Content::LinuxRaid => 0xfd,
            Content::HfsPlus | Content::Apfs => 0xaf,
            Content::Luks => 0xe8,
            Content::Ext | Content::Xfs | Content::Btrfs | Content::F2fs => 0x83,
            _ => 0x07,
        },
    }
}
