//! One partition into a partition of another disk.

use super::fresh::{NewPartition, gpt_type, mbr_type};
use super::gpt::{Change, OldGpt};
use super::mbr::OldMbr;
use super::plan::{Arrangement, Smallest, TableWish};
use super::volumes::{Moved, tell};
use super::{check_sectors, empty, obstacle, too_small};
use crate::device::Source;
use crate::disk::{Layout, PartitionType, TableKind};
use crate::error::Result;
use crate::units::ByteRange;

/// Plans that a partition takes the place of partition `number` of the disk
/// with the layout `target`. It is as large as it was, or as the room there
/// where that is smaller or it shall grow. Of the other disk only the type of
/// that partition changes, where it is another one; its identities stay.
///
/// In this plan [`Arrangement::kept`] is empty: whatever it does not name is
/// not touched.
pub fn into(
    target: &Layout,
    disk: &dyn Source,
    number: u32,
    part: &NewPartition<'_>,
    wish: &TableWish,
) -> Result<Arrangement> {
    let (p, slot) = (part.partition, target.partition(number)?);
    check_sectors(part.volume.sector_size(), wish.sector_size)?;
    if target.table != TableKind::None {
        check_sectors(part.volume.sector_size(), target.sector_size)?;
    }
    let smallest = part.room.smallest.min(p.length);
    if slot.length < smallest {
        return Err(too_small(slot.length, smallest));
    }
    let len = match part.room.grow {
        true => slot.length,
        false => slot.length.min(p.length),
    };
    let new = ByteRange {
        start: slot.start,
        end: slot.start + len,
    };
    let told = tell(
        part.volume,
        &Moved {
            number,
            content: p.content,
            old: p.range(),
            at: 0,
            new,
            records: None,
            size: wish.sector_size,
        },
    )?;
    let needed = Smallest {
        unchanged: slot.start.saturating_add(p.length),
        possible: slot.start.saturating_add(smallest),
    };
    let mut out = empty(target, needed, target.length);
    out.old_length = p.range().end;
    out.partitions.push(told.placed);
    out.volume_patches = told.patches;
    if let Some(problem) = told.problem {
        out.note("place-not-told", problem);
    }
    let kind = match target.table {
        TableKind::None => return Ok(out),
        TableKind::Gpt => PartitionType::Gpt(gpt_type(p)),
        TableKind::Mbr => PartitionType::Mbr(mbr_type(p)),
    };
    if kind == slot.kind {
        return Ok(out);
    }
    if let Some(e) = obstacle(target) {
        out.note(
            "type-stays",
            format!(
                "The type of partition {number} stays what it is: {}",
                e.message()
            ),
        );
        return Ok(out);
    }
    out.note(
        "type-changes",
        format!(
            "The type of partition {number} becomes {}, it was {}",
            kind.id().unwrap_or_default(),
            slot.kind.id().unwrap_or_default()
        ),
    );
    out.table_patches = match kind {
        PartitionType::Gpt(kind) => {
            let change = Change {
                number,
                new: slot.range(),
                id: None,
                kind: Some(kind),
            };
            OldGpt::read(disk, target)?
                .write(target.length, &[change], None)?
                .0
        }
        PartitionType::Mbr(kind) => OldMbr::read(disk, target)?.with_type(number, kind),
        PartitionType::Whole => Vec::new(),
    };
    Ok(out)
}
