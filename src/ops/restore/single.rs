//! The plan for one volume: alone, with a new table around it, or in the place of
//! another one.

use super::plan::Patch;
use super::replace::{Planner, other_size, too_small};
use super::wishes::{Frame, Size, Smallest};
use crate::archive::Region;
use crate::device::SharedSource;
use crate::disk::replace::{self, Arrangement, NewId, NewPartition, Placed, Room};
use crate::disk::{Layout, Partition, TableKind, open_layout};
use crate::error::{Error, ErrorKind, Result};
use crate::ops::boot;
use crate::volume::rework::Wish;

impl Planner<'_> {
    /// One volume, alone.
    pub(super) fn volume(&mut self, r: &Region) -> Result<()> {
        let w = self.wishes;
        let sector = self.sector();
        let is_ntfs = self.volumes.is_ntfs(r.number);
        if is_ntfs && (w.measure || w.size == Some(Size::Min)) {
            self.out.smallest = Some(self.volumes.smallest(r.number)?);
        } else if w.measure || w.size == Some(Size::Min) {
            self.out.smallest = Some(Smallest {
                in_place: r.bytes,
                relocated: r.bytes,
            });
        }
        let grow = w.grow.contains(&r.number);
        let room = match w.frame {
            Frame::File | Frame::Into { .. } => None,
            Frame::Device(n) | Frame::Partition { bytes: n, .. } => Some(n / sector * sector),
        };
        let len = match (w.size, room) {
            (Some(Size::Same), _) | (None, None) => r.bytes,
            (Some(Size::Bytes(n)), _) => n / sector * sector,
            (Some(Size::Min), _) => self.out.smallest.map_or(r.bytes, |s| s.relocated),
            (None, Some(n)) if grow || n < r.bytes => n,
            (None, Some(n)) => self.with_backup(r, n)?,
        };
        if is_ntfs && len < r.bytes && !self.volumes.is_rigid(r.number)? {
            let needed = self.volumes.smallest(r.number)?.relocated;
            if len < needed {
                return Err(too_small(
                    len,
                    needed,
                    "that is what the data of the volume needs after everything that can move has moved",
                ));
            }
        }
        let mut patches = Vec::new();
        let hidden = match w.frame {
            Frame::Partition { start, .. } if is_ntfs => self.hidden(r, start / sector)?,
            Frame::Partition { start, .. } => {
                patches = self.tell_start(r, start)?;
                None
            }
            _ => None,
        };
        let wish = Wish {
            new_bytes: (len != r.bytes).then_some(len),
            // A size that was asked for is the volume's.
            grow_file_system: grow || (w.frame == Frame::File && len > r.bytes),
            hidden_sectors: hidden,
            ..Wish::default()
        };
        self.tell_size(r, len)?;
        if let Some(n) = hidden {
            self.tell_hidden(r, n);
        }
        let landing = self.land(r, 0, len, wish)?;
        self.out.plan.bytes = landing.bytes;
        self.out.plan.regions = vec![landing];
        self.out.plan.patches = patches;
        Ok(())
    }

    /// Length of a volume that keeps its size on a device with so much room: its
    /// backup boot sector, if the source ends before it, is written there.
    fn with_backup(&mut self, r: &Region, room: u64) -> Result<u64> {
        if room == r.bytes || self.volumes.lacks_backup(r.number)?.is_none() {
            return Ok(r.bytes);
        }
        let len = self.volumes.with_backup(r.number)?.filter(|&l| l <= room);
        if len.is_none() {
            self.differ(
                Some(r.number),
                "no-backup-boot-sector",
                "It has no backup boot sector, as on the source, and none can be written behind it",
            );
        }
        Ok(len.unwrap_or(r.bytes))
    }

    fn tell_hidden(&mut self, r: &Region, sectors: u32) {
        let message = format!("Its boot sector says that {sectors} sectors stand before it");
        self.differ(Some(r.number), "hidden-sectors", message);
    }

    /// What tells a volume other than NTFS that it begins at this byte of a disk.
    fn tell_start(&mut self, r: &Region, start: u64) -> Result<Vec<Patch>> {
        let part = match self.partition(r) {
            // Nothing tells what it holds.
            Err(e) if e.kind() == ErrorKind::Unsupported => return Ok(Vec::new()),
            part => part?,
        };
        let told = replace::tell_start(&*part.source, &part.partition, start)?;
        if let Some(n) = told.hidden_sectors {
            self.tell_hidden(r, n);
        } else if !told.patches.is_empty() {
            let message = format!("Its boot regions say that it begins at byte {start:#x}");
            self.differ(Some(r.number), "hidden-sectors", message);
        }
        if let Some(problem) = told.problem {
            self.differ(Some(r.number), "place-not-told", problem);
        }
        let patches = told.patches.into_iter();
        Ok(patches
            .map(|p| Patch {
                at: p.offset,
                bytes: p.bytes,
            })
            .collect())
    }

    /// Sectors before the partition, where the boot sector tells another number.
    fn hidden(&self, r: &Region, sectors: u64) -> Result<Option<u32>> {
        let Ok(wanted) = u32::try_from(sectors) else {
            return Ok(None);
        };
        let mut boot = vec![0; self.disk.sector_bytes as usize];
        if let Some(s) = self.view.partition(r.number) {
            s.read_at(0, &mut boot)?;
        }
        let told = boot.get(0x1c..0x20).and_then(|b| b.try_into().ok());
        Ok((told.map(u32::from_le_bytes) != Some(wanted)).then_some(wanted))
    }

    /// A partition as a table has it, its bytes, and how small it can be.
    fn partition(&mut self, r: &Region) -> Result<Part> {
        let source = self.view.partition(r.number).ok_or_else(|| {
            Error::not_found(format!("The archive has no partition {}", r.number))
        })?;
        let layout = match &self.view.disk {
            Some(d) => open_layout(&**d).ok(),
            None => None,
        };
        let listed = layout
            .as_ref()
            .and_then(|l| l.partition(r.number.into()).ok())
            .filter(|p| (p.start, p.length) == (r.start, r.bytes))
            .cloned();
        let is_listed = listed.is_some();
        let mut partition = match listed {
            Some(p) => p,
            // All that is known is what it holds.
            None => {
                let whole = open_layout(&*source)?.partitions.into_iter().next();
                let found = whole.ok_or_else(|| {
                    Error::unsupported(
                        "Nothing tells what the partition is, so no table can name it",
                    )
                })?;
                Partition {
                    number: r.number.into(),
                    start: r.start,
                    length: r.bytes,
                    declared: r.bytes,
                    ..found
                }
            }
        };
        let smallest = match self.volumes.is_ntfs(r.number) {
            true => self.volumes.smallest(r.number)?.relocated.min(r.bytes),
            false => r.bytes,
        };
        if let Some(len) = self.volumes.with_backup(r.number)? {
            // Where there is room for it.
            partition.length = partition.length.max(len);
        }
        let layout = layout.filter(|_| is_listed);
        let grow = self.wishes.grow.contains(&r.number);
        Ok(Part {
            partition,
            source,
            layout,
            room: Room {
                number: 1,
                smallest,
                grow,
                movable: true,
            },
        })
    }

    /// One volume into a partition of another disk.
    pub(super) fn slot(&mut self, r: &Region, number: u16) -> Result<()> {
        let Some(onto) = self.onto.take() else {
            return Err(Error::usage(
                "The disk that the partition is on is not known",
            ));
        };
        if onto.layout.table == TableKind::None {
            return Err(Error::not_found("The target has no partition table")
                .hint("--table gpt makes one on a bare disk"));
        }
        let part = self.partition(r)?;
        let wish = self.table_wish();
        let a = match self.before.and_then(|d| d.arrangement.clone()) {
            // The type of the partition may be the new one already.
            Some(a) => a,
            None => replace::into(onto.layout, onto.disk, number.into(), &part.as_new(), &wish)?,
        };
        let slot = onto.layout.partition(number.into())?;
        let same = |p: &Placed| p.number == slot.number && p.new.start == slot.start;
        if a.new_length != onto.layout.length || !a.partitions.iter().all(same) {
            return Err(other_size());
        }
        let own = r.number;
        self.carry_out(&a, |_| Some(own))?;
        let mut seen = a.clone();
        if part.disk_id() != onto.layout.disk_id.as_deref() {
            let new = onto.layout.disk_id.clone().unwrap_or("another".into());
            seen.new_ids.push(NewId {
                partition: None,
                old: None,
                new,
            });
        }
        if part.partition.id != slot.id {
            let new = slot.id.map_or("another".into(), |i| i.to_string());
            seen.new_ids.push(NewId {
                partition: Some(number.into()),
                old: None,
                new,
            });
        }
        self.warn(&part, &seen)?;
        self.out.decided.arrangement = Some(a);
        // Nothing of the rest of the disk is touched.
        let plan = &mut self.out.plan;
        plan.whole = false;
        plan.regions.retain(|l| l.region.number == own);
        let ends = plan.regions.iter().map(|l| l.range().end);
        let patches = plan.patches.iter().map(|p| p.range().end);
        plan.bytes = ends.chain(patches).max().unwrap_or(0);
        if self.wishes.measure {
            self.out.smallest = Some(match self.volumes.is_ntfs(own) {
                true => self.volumes.smallest(own)?,
                false => Smallest {
                    in_place: r.bytes,
                    relocated: r.bytes,
                },
            });
        }
        Ok(())
    }

    /// One volume onto a bare disk with a new table.
    pub(super) fn fresh(&mut self, r: &Region, table: TableKind) -> Result<()> {
        let w = self.wishes;
        let wish = self.table_wish();
        let known = self.partition(r)?;
        let part = known.as_new();
        let ample = r.bytes.saturating_add(64 << 20);
        let sizes = replace::fresh(table, &part, ample, &wish)?.smallest;
        self.out.smallest = Some(Smallest {
            in_place: sizes.unchanged,
            relocated: sizes.possible,
        });
        let sector = self.sector();
        let target = match (w.frame, w.size) {
            (Frame::Device(n), _) => n / sector * sector,
            (_, Some(Size::Bytes(n))) => n / sector * sector,
            (_, Some(Size::Min)) => sizes.possible,
            _ => sizes.unchanged,
        };
        let a = match self.before.and_then(|d| d.arrangement.clone()) {
            Some(a) => a,
            None => replace::fresh(table, &part, target, &wish)?,
        };
        if a.new_length != target || a.table != table {
            return Err(other_size());
        }
        let number = r.number;
        self.carry_out(&a, |_| Some(number))?;
        // What lies outside is the new disk's own.
        self.out.plan.regions.retain(|l| l.region.number == number);
        self.warn(&known, &a)?;
        self.out.decided.arrangement = Some(a);
        Ok(())
    }

    /// Says what of a partition that goes to another disk will not boot there.
    fn warn(&mut self, part: &Part, a: &Arrangement) -> Result<()> {
        let warnings = match (&part.layout, &self.view.disk) {
            (Some(layout), Some(disk)) if layout.table != TableKind::None => {
                let number = part.partition.number;
                boot::look_at(layout, disk, Some(number))?.warnings(layout, a)
            }
            // The archive does not hold the disk that it was on.
            _ => {
                let layout = open_layout(&*part.source)?;
                boot::look(&layout, &part.source)?.unknown()
            }
        };
        for w in warnings {
            self.differ(None, "boot", w);
        }
        Ok(())
    }
}

/// A partition on its way to another disk.
struct Part {
    partition: Partition,
    source: SharedSource,
    /// The disk that it was on, where the archive has that.
    layout: Option<Layout>,
    room: Room,
}

impl Part {
    fn as_new(&self) -> NewPartition<'_> {
        NewPartition {
            partition: &self.partition,
            volume: &*self.source,
            disk_id: self.disk_id(),
            room: self.room,
        }
    }

    fn disk_id(&self) -> Option<&str> {
        self.layout.as_ref()?.disk_id.as_deref()
    }
}
