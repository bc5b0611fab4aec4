//! The old disk, as far as the new one depends on it.

use super::gpt::OldGpt;
use super::mbr::OldMbr;
use super::place::{ALIGN, Unit, least_end};
use super::plan::{Patch, Room, Smallest};
use crate::device::Source;
use crate::disk::{Layout, TableKind};
use crate::error::{Error, Result};
use crate::units::ByteRange;
use std::collections::BTreeMap;

/// Sectors that the entries of a master boot record can count.
const MBR_SECTORS: u64 = 1 << 32;

/// Its table.
pub(super) enum Table {
    None,
    Mbr(OldMbr),
    Gpt(OldGpt),
}

/// The old disk.
pub(super) struct Old {
    pub table: Table,
    /// Partitions, and an extended one without any, in the order of the disk.
    pub units: Vec<Unit>,
    /// Their numbers.
    pub numbers: Vec<u32>,
    /// Nothing is placed in front of this.
    pub low: u64,
    size: u64,
}

impl Old {
    /// Reads the table again and checks it against the layout.
    pub fn read(layout: &Layout, disk: &dyn Source, rooms: &[Room]) -> Result<Self> {
        let size = u64::from(layout.sector_size);
        let table = match layout.table {
            TableKind::None => Table::None,
            TableKind::Mbr => Table::Mbr(OldMbr::read(disk, layout)?),
            TableKind::Gpt => Table::Gpt(OldGpt::read(disk, layout)?),
        };
        let least = match &table {
            Table::None => 0,
            Table::Mbr(_) => size,
            Table::Gpt(t) => t.low,
        };
        let container = match &table {
            Table::Mbr(t) => t.container.as_ref(),
            _ => None,
        };
        let mut found: Vec<(Unit, u32)> = Vec::new();
        for p in &layout.partitions {
            let room = rooms.iter().find(|r| r.number == p.number);
            let lead = container
                .and_then(|c| c.links.iter().find(|l| l.number == p.number))
                .map_or(0, |l| l.lead);
            // A bare volume may end inside of a sector; what is there stays.
            let keep = p.length;
            let smallest = room.map_or(keep, |r| r.smallest.max(1));
            let smallest = smallest.checked_next_multiple_of(size).unwrap_or(keep);
            if p.start < least || (p.number <= 4 && crosses(container.map(|c| c.range), p.range()))
            {
                return Err(Error::unsupported(format!(
                    "Partition {} lies where the table does; such a disk is restored as it was only, to one of the same length",
                    p.number
                )));
            }
            let unit = Unit {
                start: p.start,
                lead,
                keep,
                smallest: smallest.min(keep),
                grow: room.is_some_and(|r| r.grow),
                fixed: room.is_some_and(|r| !r.movable) || layout.table == TableKind::None,
            };
            found.push((unit, p.number));
        }
        if let Some(c) = container.filter(|c| c.links.is_empty()) {
            let keep = c.range.len();
            let unit = Unit {
                start: c.range.start,
                lead: 0,
                keep,
                smallest: keep.min(ALIGN),
                grow: false,
                fixed: false,
            };
            found.push((unit, c.number));
        }
        found.sort_by_key(|(u, _)| u.start);
        let low = found.first().map_or(least, |(u, _)| u.start - u.lead);
        let (units, numbers) = found.into_iter().unzip();
        Ok(Self {
            table,
            units,
            numbers,
            low,
            size,
        })
    }

    /// First byte behind the room for partitions on a disk of `len` bytes.
    pub fn high(&self, len: u64) -> u64 {
        match &self.table {
            Table::None => len / self.size * self.size,
            Table::Mbr(_) => (len / self.size).min(MBR_SECTORS) * self.size,
            Table::Gpt(t) => t.high(len),
        }
    }

    /// How small the disk can be.
    pub fn smallest(&self) -> Result<Smallest> {
        let tail = match &self.table {
            Table::Gpt(t) => t.tail(),
            _ => 0,
        };
        let with = |end: u64| {
            let whole = end.max(self.low).checked_next_multiple_of(self.size);
            whole.and_then(|e| e.checked_add(tail)).ok_or_else(|| {
                Error::damaged("A partition ends behind the last byte that can be counted")
            })
        };
        let ends = self.units.iter().map(|u| u.start + u.keep);
        let possible = least_end(&self.units, self.low).ok_or_else(|| {
            Error::unsupported("The partitions cannot be placed one behind the other")
        })?;
        Ok(Smallest {
            unchanged: with(ends.max().unwrap_or(0))?,
            possible: with(possible)?,
        })
    }

    /// Where the extended partition goes, if there is one.
    pub fn container(
        &self,
        places: &BTreeMap<u32, (ByteRange, ByteRange)>,
        high: u64,
    ) -> Option<ByteRange> {
        let Table::Mbr(t) = &self.table else {
            return None;
        };
        let c = t.container.as_ref()?;
        let at = |n: u32| places.get(&n).copied().unwrap_or((c.range, c.range));
        // What the partitions before and behind it leave.
        let mut free = ByteRange {
            start: 0,
            end: high,
        };
        for (&n, &(old, new)) in places {
            if n == c.number || c.links.iter().any(|l| l.number == n) {
                continue;
            }
            match old.start < c.range.start {
                true => free.start = free.start.max(new.end),
                false => free.end = free.end.min(new.start),
            }
        }
        Some(c.place(&at, free))
    }

    /// Old and new place of the record of a logical partition that begins at
    /// `start` now.
    pub fn records(&self, number: u32, start: u64) -> Option<(u64, u64)> {
        let Table::Mbr(t) = &self.table else {
            return None;
        };
        let l = (t.container.as_ref()?.links.iter()).find(|l| l.number == number)?;
        Some((l.record, start - l.lead))
    }

    /// Sectors of the old table behind the first partition.
    pub fn tables(&self) -> Vec<ByteRange> {
        match &self.table {
            Table::None => Vec::new(),
            Table::Mbr(t) => (t.container.iter())
                .flat_map(|c| c.records.clone())
                .collect(),
            Table::Gpt(t) => t.backup.clone(),
        }
    }

    /// Those of them that are none any more.
    pub fn stale(&self, patches: &[Patch]) -> Vec<ByteRange> {
        match &self.table {
            // All records are written, or all stay as they are.
            Table::Mbr(_) if !patches.iter().any(|p| p.offset != 0) => Vec::new(),
            _ => self.tables(),
        }
    }
}

/// True when they share bytes.
fn crosses(container: Option<ByteRange>, p: ByteRange) -> bool {
    container.is_some_and(|c| c.intersect(&p).is_some())
}
