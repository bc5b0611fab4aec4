//! A disk's table for another disk: where its partitions go on a larger or
//! smaller one, and which bytes have to be written for that. Nothing is written
//! here: [`arrange`], [`fresh()`] and [`into()`] give a plan.
//!
//! The old disk is read in its tables, in gaps that are dropped, and in the
//! boot sectors of volumes that move. It may be an archive.

mod fresh;
mod gpt;
mod into;
mod mbr;
mod old;
mod place;
mod plan;
mod volumes;

pub use fresh::{NewPartition, fresh};
pub use into::into;
pub use plan::{
    Arrangement, Dropped, Holds, Ids, NewId, Patch, Placed, Remark, Room, Smallest, TableWish,
    VolumePatch,
};
pub use volumes::{ToldStart, tell_start};

#[cfg(test)]
mod tests;

use self::gpt::Change;
use self::old::{Old, Table};
use self::place::Frame;
use crate::device::{RangeSet, Source};
use crate::disk::{Guid, Layout, PartitionType, TableKind, guid, read_some};
use crate::error::{Error, Result};
use crate::units::{ByteRange, human_bytes};
use std::collections::BTreeMap;

/// Most bytes of dropped gaps that are looked at for data.
const LOOK: u64 = 64 << 20;

/// Notes of a layout with which its partitions cannot be laid anew: what they
/// are about would be lost or wrong.
const OBSTACLES: [&str; 10] = [
    "bad-entry",
    "cut-off",
    "dynamic-disk",
    "gpt-entries",
    "gpt-lost",
    "hybrid-mbr",
    "logical-chain",
    "many-partitions",
    "out-of-table",
    "overlap",
];

/// One whole sector of the old disk. Fails where it cannot be read.
fn read_sector(disk: &dyn Source, at: u64, size: u32) -> Result<Vec<u8>> {
    let mut s = vec![0; size as usize];
    disk.read_at(at, &mut s)?;
    Ok(s)
}

fn obstacle(layout: &Layout) -> Option<Error> {
    let note = (layout.notes.iter()).find(|n| OBSTACLES.contains(&n.code))?;
    Some(Error::unsupported(format!(
        "{}; such a disk is restored as it was only, to one of the same length",
        note.message
    )))
}

/// How small the disk can be. Partitions without a room stay as large as they
/// are and may move.
pub fn measure(layout: &Layout, disk: &dyn Source, rooms: &[Room]) -> Result<Smallest> {
    check_rooms(layout, rooms)?;
    if obstacle(layout).is_some() {
        return Ok(Smallest {
            unchanged: layout.length,
            possible: layout.length,
        });
    }
    Old::read(layout, disk, rooms)?.smallest()
}

fn check_rooms(layout: &Layout, rooms: &[Room]) -> Result<()> {
    rooms
        .iter()
        .try_for_each(|r| layout.partition(r.number).map(drop))
}

/// Plans the partitions of `layout`, found on `disk`, for a disk of `new_len`
/// bytes.
///
/// A partition keeps its place and its size while everything fits. Otherwise
/// gaps are given up, then partitions shrink, those most that can give most.
/// Fails with [`Refused`](crate::error::ErrorKind::Refused) where `new_len` is
/// too small or sectors have another size, with
/// [`Unsupported`](crate::error::ErrorKind::Unsupported) for tables that are
/// not understood well enough to be changed.
pub fn arrange(
    layout: &Layout,
    disk: &dyn Source,
    rooms: &[Room],
    new_len: u64,
    wish: &TableWish,
) -> Result<Arrangement> {
    check_rooms(layout, rooms)?;
    check_sectors(layout.sector_size, wish.sector_size)?;
    let same = new_len == layout.length && wish.ids == Ids::Keep;
    if same && !rooms.iter().any(|r| r.grow) {
        return unchanged(layout, measure(layout, disk, rooms)?);
    }
    if let Some(e) = obstacle(layout) {
        return Err(e);
    }
    let old = Old::read(layout, disk, rooms)?;
    let smallest = old.smallest()?;
    let high = old.high(new_len);
    let frame = Frame {
        low: old.low,
        high,
        sector: u64::from(layout.sector_size),
    };
    let placed = match new_len < smallest.possible {
        true => None,
        false => place::place(&old.units, frame),
    };
    let Some((spots, shrinks)) = placed else {
        return Err(too_small(new_len, smallest.possible));
    };
    let places: BTreeMap<u32, (ByteRange, ByteRange)> = (old.units.iter().zip(&old.numbers))
        .zip(spots)
        .map(|((u, &number), (start, len))| {
            let old = ByteRange {
                start: u.start,
                end: u.start + u.keep,
            };
            let end = start + len;
            (number, (old, ByteRange { start, end }))
        })
        .collect();
    if same && places.values().all(|(old, new)| old == new) {
        let mut out = unchanged(layout, smallest)?;
        out.note(
            "no-room",
            "There is no room that a partition could grow into",
        );
        return Ok(out);
    }
    let mut out = empty(layout, smallest, new_len);
    if shrinks && rooms.iter().any(|r| r.grow) {
        out.note(
            "no-room",
            "Partitions have to shrink for this disk, so none can grow",
        );
    }
    tables(layout, &old, &places, high, wish, &mut out)?;
    volumes(layout, disk, &old, &places, &mut out)?;
    outside(layout, disk, &old, &mut out)?;
    Ok(out)
}

fn check_sectors(old: u32, new: u32) -> Result<()> {
    if old == new {
        return Ok(());
    }
    Err(Error::refused(format!(
        "The target has sectors of {new} bytes, the source had {old}"
    ))
    .hint("file systems and partition tables count in sectors: use a target with the same sector size"))
}

fn too_small(has: u64, needed: u64) -> Error {
    Error::refused(format!(
        "The target is too small: it has {has} bytes ({}), {needed} bytes ({}) are needed",
        human_bytes(has),
        human_bytes(needed)
    ))
}

fn mbr_limit(lost: u64) -> String {
    format!(
        "A master boot record counts 2^32 sectors: the last {} of the disk cannot be used",
        human_bytes(lost)
    )
}

fn empty(layout: &Layout, smallest: Smallest, new_length: u64) -> Arrangement {
    Arrangement {
        table: layout.table,
        sector_size: layout.sector_size,
        old_length: layout.length,
        new_length,
        smallest,
        partitions: Vec::new(),
        kept: Vec::new(),
        dropped: Vec::new(),
        zeroed: Vec::new(),
        table_patches: Vec::new(),
        volume_patches: Vec::new(),
        new_ids: Vec::new(),
        notes: Vec::new(),
    }
}

fn unchanged(layout: &Layout, smallest: Smallest) -> Result<Arrangement> {
    let mut out = empty(layout, smallest, layout.length);
    out.kept.clone_from(&layout.gaps);
    out.partitions = (layout.partitions.iter())
        .map(|p| Placed {
            number: p.number,
            old: p.range(),
            new: p.range(),
            hidden_sectors: None,
        })
        .collect();
    Ok(out)
}

/// A GUID at random, version 4.
fn random_guid() -> Result<Guid> {
    let mut b = crate::random::bytes::<16>()?;
    b[7] = b[7] & 0x0f | 0x40;
    b[8] = b[8] & 0x3f | 0x80;
    Ok(Guid(b))
}

/// A disk signature at random; 0 means that there is none.
fn random_signature() -> Result<[u8; 4]> {
    loop {
        let s = crate::random::bytes::<4>()?;
        if s != [0; 4] {
            return Ok(s);
        }
    }
}

fn text(signature: [u8; 4]) -> String {
    format!("{:08x}", u32::from_le_bytes(signature))
}

/// The bytes of the new table.
fn tables(
    layout: &Layout,
    old: &Old,
    places: &BTreeMap<u32, (ByteRange, ByteRange)>,
    high: u64,
    wish: &TableWish,
    out: &mut Arrangement,
) -> Result<()> {
    let new = wish.ids == Ids::New;
    match &old.table {
        Table::None => {}
        Table::Mbr(t) => {
            let signature = new.then(random_signature).transpose()?;
            if let Some(s) = signature {
                out.new_ids.push(NewId {
                    partition: None,
                    old: layout.disk_id.clone(),
                    new: text(s),
                });
            }
            let at = |n: u32| places.get(&n).copied().unwrap_or((NOWHERE, NOWHERE));
            let container = old.container(places, high);
            let size = u64::from(layout.sector_size);
            out.table_patches = t.write(size, &at, container, signature);
            if high < out.new_length / size * size {
                out.note("mbr-limit", mbr_limit(out.new_length - high));
            }
        }
        Table::Gpt(t) => {
            let mut changes = Vec::new();
            for p in &layout.partitions {
                let id = new.then(random_guid).transpose()?;
                if let Some(id) = id {
                    out.new_ids.push(NewId {
                        partition: Some(p.number),
                        old: p.id.map(|i| i.to_string()),
                        new: id.to_string(),
                    });
                }
                changes.push(Change {
                    number: p.number,
                    new: places[&p.number].1,
                    id,
                    kind: None,
                });
            }
            let id = new.then(random_guid).transpose()?;
            if let Some(id) = id {
                let change = NewId {
                    partition: None,
                    old: layout.disk_id.clone(),
                    new: id.to_string(),
                };
                out.new_ids.insert(0, change);
            }
            let (patches, lacking) = t.write(out.new_length, &changes, id)?;
            out.table_patches = patches;
            if lacking {
                out.note(
                    "no-protective-mbr",
                    "There was no protective boot record; there will be one",
                );
            }
        }
    }
    Ok(())
}

const NOWHERE: ByteRange = ByteRange { start: 0, end: 0 };

/// What volumes are told, and who they are.
fn volumes(
    layout: &Layout,
    disk: &dyn Source,
    old: &Old,
    places: &BTreeMap<u32, (ByteRange, ByteRange)>,
    out: &mut Arrangement,
) -> Result<()> {
    for p in &layout.partitions {
        let (was, is) = places[&p.number];
        let told = volumes::tell(
            disk,
            &volumes::Moved {
                number: p.number,
                content: p.content,
                old: was,
                at: was.start,
                new: is,
                records: old.records(p.number, is.start),
                size: layout.sector_size,
            },
        )?;
        if told.placed.moved() && p.kind == PartitionType::Gpt(guid::BIOS_BOOT) {
            out.note(
                "bios-boot-moved",
                format!(
                    "Partition {} holds a boot loader that the boot record finds by its sector: install it anew (grub-install)",
                    p.number
                ),
            );
        }
        if let Some(problem) = told.problem {
            out.note("place-not-told", problem);
        }
        out.partitions.push(told.placed);
        out.volume_patches.extend(told.patches);
    }
    Ok(())
}

/// What stays, goes, and is cleared outside of all partitions.
fn outside(layout: &Layout, disk: &dyn Source, old: &Old, out: &mut Arrangement) -> Result<()> {
    let all = ByteRange {
        start: 0,
        end: out.new_length,
    };
    let mut taken: RangeSet = out.partitions.iter().map(|p| p.new).collect();
    out.table_patches
        .iter()
        .for_each(|p| taken.insert(p.range()));
    let free: RangeSet = taken.without(all).into_iter().collect();
    let mut cleared: RangeSet = old.stale(&out.table_patches).into_iter().collect();
    let size = u64::from(layout.sector_size);
    if layout.table == TableKind::Mbr && out.new_length != out.old_length {
        // The disk may have had a GPT: its copy is not found there any more.
        let end = out.new_length / size * size;
        let start = end.saturating_sub(33 * size).max(out.old_length.min(end));
        cleared.insert(ByteRange { start, end });
    }
    let mut stays = RangeSet::new();
    for gap in &layout.gaps {
        for part in free.within(*gap) {
            cleared
                .without(part)
                .into_iter()
                .for_each(|r| stays.insert(r));
        }
    }
    out.kept = stays.iter().collect();
    out.zeroed = (cleared.iter()).flat_map(|r| free.within(r)).collect();
    // The new table at the front is where the old one was.
    let mut known = stays;
    let front = out.table_patches.iter().map(Patch::range);
    (front.filter(|r| r.start < old.low)).for_each(|r| known.insert(r));
    old.tables().into_iter().for_each(|r| known.insert(r));
    let mut left = LOOK;
    for gap in &layout.gaps {
        for range in known.without(*gap) {
            let holds = look(disk, range, &mut left)?;
            out.dropped.push(Dropped { range, holds });
        }
    }
    for d in out.dropped.clone() {
        let (len, at) = (d.range.len(), d.range.start);
        match d.holds {
            Holds::Zeros => {}
            Holds::Data => out.note(
                "dropped",
                format!("{len} bytes from byte {at:#x} on, outside of all partitions, are not only zeros and are not kept"),
            ),
            Holds::Unknown => out.note(
                "dropped-unseen",
                format!("{len} bytes from byte {at:#x} on, outside of all partitions, are not kept; what they hold was not looked at"),
            ),
        }
    }
    Ok(())
}

/// Looks whether there is something in a range.
fn look(disk: &dyn Source, range: ByteRange, left: &mut u64) -> Result<Holds> {
    let mut at = range.start;
    while at < range.end {
        let n = (range.end - at).min(1 << 20);
        if *left < n {
            return Ok(Holds::Unknown);
        }
        *left -= n;
        match read_some(disk, at, n as usize)? {
            Some(b) if b.iter().all(|&x| x == 0) => at += n,
            Some(_) => return Ok(Holds::Data),
            None => return Ok(Holds::Unknown),
        }
    }
    Ok(Holds::Zeros)
}
