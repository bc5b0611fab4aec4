//! The plan for a replacement disk: another size, another place, another
//! layout of its volumes.

use super::kept::Kept;
use super::plan::{Landing, Patch, RestorePlan, chosen};
use super::views::Views;
use super::volumes::Volumes;
use super::wishes::{
    Decided, Difference, Frame, Onto, Replacement, Size, Smallest, Wishes, bare, check,
};
use crate::archive::{Archive, DiskInfo, Region};
use crate::device::SharedSource;
use crate::disk::replace::{self, Arrangement, Ids, Room, TableWish};
use crate::disk::{Layout, Partition, TableKind, open_layout};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::Observer;
use crate::ops::boot;
use crate::units::human_bytes;
use crate::volume::rework::Wish;
use std::sync::Arc;

pub(super) struct Planner<'a> {
    pub(super) disk: &'a DiskInfo,
    pub(super) view: Arc<Views>,
    pub(super) wishes: &'a Wishes,
    pub(super) before: Option<&'a Decided>,
    pub(super) onto: Option<Onto<'a>>,
    pub(super) volumes: Volumes<'a>,
    pub(super) out: Replacement,
}

/// Plans a restore. `onto`: the disk of [`Frame::Into`]. `before`: what an
/// interrupted run decided.
pub fn replace(
    archive: &Arc<Archive>,
    wishes: &Wishes,
    onto: Option<Onto<'_>>,
    before: Option<&Decided>,
    observer: &dyn Observer,
) -> Result<Replacement> {
    let disk = archive.disk();
    let region = chosen(disk, wishes.partition)?;
    check(disk, region, wishes)?;
    if let Some(Size::Bytes(n)) = wishes.size
        && n < u64::from(disk.sector_bytes)
    {
        return Err(Error::refused(format!(
            "The size asked for is too small: it is {n} bytes, and a sector alone has {}",
            disk.sector_bytes
        ))
        .hint("`--size min` takes the smallest size that is possible"));
    }
    let plan = RestorePlan::new(disk, wishes.partition)?;
    let view = Arc::new(Views::new(archive)?);
    let mut p = Planner {
        disk,
        view: view.clone(),
        wishes,
        before,
        onto,
        volumes: Volumes::new(disk, view, observer),
        out: Replacement::plain(plan),
    };
    let alone = region.or(bare(disk));
    match (alone, wishes.frame, wishes.table) {
        (Some(r), Frame::Into { number }, _) => p.slot(r, number)?,
        (Some(r), _, Some(table)) => p.fresh(r, table)?,
        (Some(r), _, None) => p.volume(r)?,
        (None, ..) => p.whole()?,
    }
    p.out.volumes = p.volumes.rows()?;
    Ok(p.out)
}

pub(super) fn too_small(has: u64, needed: u64, whose: &str) -> Error {
    Error::refused(format!(
        "The target is too small: it has {has} bytes ({}), {needed} bytes ({}) are needed",
        human_bytes(has),
        human_bytes(needed)
    ))
    .hint(whose)
}

impl Planner<'_> {
    pub(super) fn sector(&self) -> u64 {
        u64::from(self.disk.sector_bytes)
    }

    pub(super) fn table_wish(&self) -> TableWish {
        TableWish {
            sector_size: self.disk.sector_bytes,
            ids: match self.wishes.new_ids {
                true => Ids::New,
                false => Ids::Keep,
            },
        }
    }

    pub(super) fn differ(
        &mut self,
        partition: Option<u16>,
        code: &str,
        message: impl Into<String>,
    ) {
        self.out.differences.push(Difference {
            partition,
            code: code.to_string(),
            message: message.into(),
        });
    }

    /// All of a disk with a table.
    fn whole(&mut self) -> Result<()> {
        let w = self.wishes;
        let len = self.disk.bytes;
        let target = match (w.frame, w.size) {
            (_, Some(Size::Same)) | (Frame::File, None) => Some(len),
            (Frame::File, Some(Size::Bytes(n))) => Some(n / self.sector() * self.sector()),
            (Frame::File, Some(Size::Min)) => None,
            (Frame::Device(n), _) => Some(n / self.sector() * self.sector()),
            (Frame::Partition { bytes, .. }, _) => Some(bytes / self.sector() * self.sector()),
            (Frame::Into { .. }, _) => {
                return Err(Error::usage(
                    "The archive is of a whole disk, which does not go into a partition",
                )
                .hint("say which partition with --partition"));
            }
        };
        if target == Some(len) && w.is_plain() {
            return Ok(());
        }
        let copied = Wishes {
            measure: false,
            ..w.clone()
        };
        match self.arranged(target) {
            // It is restored as it is, so this is not in the way.
            Err(e)
                if target == Some(len)
                    && copied.is_plain()
                    && e.kind() != ErrorKind::Interrupted =>
            {
                self.differ(None, "not-measured", format!("Nothing but this size: {e}"));
                Ok(())
            }
            Err(e) if target.is_some_and(|t| t > len) && copied.is_plain() => {
                Err(e.hint("--size same restores it as if the target had the old length"))
            }
            other => other,
        }
    }

    /// The disk with its partitions placed anew; none: as small as can be.
    fn arranged(&mut self, target: Option<u64>) -> Result<()> {
        let (w, len) = (self.wishes, self.disk.bytes);
        let source = self.disk_source()?;
        let layout = self.layout(&source)?;
        let shrinks = target.is_none_or(|t| t < len);
        let look = shrinks || w.measure || w.size == Some(Size::Min);
        let mut rooms = Vec::new();
        for p in &layout.partitions {
            let number = number(p)?;
            let grow = w.grow.contains(&number);
            let is_ntfs = self.volumes.is_ntfs(number);
            let smallest = match is_ntfs && look {
                true => self.volumes.smallest(number)?.relocated.min(p.length),
                false => p.length,
            };
            rooms.push(Room {
                number: p.number,
                smallest,
                grow,
                movable: true,
            });
        }
        if look {
            let s = replace::measure(&layout, &*source, &rooms)?;
            self.out.smallest = Some(Smallest {
                in_place: s.unchanged,
                relocated: s.possible,
            });
        }
        let target = match target {
            Some(t) => t,
            None => self.out.smallest.map_or(len, |s| s.relocated),
        };
        let before = self.before.and_then(|d| d.arrangement.clone());
        let arrangement = match before {
            Some(a) => a,
            None => replace::arrange(&layout, &*source, &rooms, target, &self.table_wish())?,
        };
        if arrangement.new_length != target {
            return Err(other_size());
        }
        self.carry_out(&arrangement, |n| u16::try_from(n).ok())?;
        if !arrangement.is_unchanged() {
            for w in boot::look(&layout, &source)?.warnings(&layout, &arrangement) {
                self.differ(None, "boot", w);
            }
        }
        self.out.decided.arrangement = Some(arrangement);
        Ok(())
    }

    fn disk_source(&self) -> Result<SharedSource> {
        self.view.disk.clone().ok_or_else(|| {
            Error::unsupported("The archive does not hold the partition table of its disk")
                .hint("restore its partitions one by one, with --partition")
        })
    }

    /// The layout of the old disk, every partition of which the archive has.
    fn layout(&self, source: &SharedSource) -> Result<Layout> {
        let layout = open_layout(&**source)?;
        let known = |p: &Partition| {
            let n = u16::try_from(p.number).ok();
            n.and_then(|n| self.disk.region(n))
                .is_some_and(|r| (r.start, r.bytes) == (p.start, p.length))
        };
        let all = layout.partitions.iter().filter(|p| p.length > 0).all(known);
        let count = self.disk.regions.iter().filter(|r| r.number != 0).count();
        let found = layout.partitions.iter().filter(|p| p.length > 0).count();
        if !all || count != found {
            return Err(Error::unsupported(
                "The archive does not hold every partition that its table names, so the disk cannot be laid out anew",
            )
            .hint("restore it in its old size (--size same), or its partitions one by one"));
        }
        Ok(layout)
    }

    /// Landings, patches and zeros of an arrangement. `region`: the region of a
    /// partition of it.
    pub(super) fn carry_out(
        &mut self,
        a: &Arrangement,
        region: impl Fn(u32) -> Option<u16>,
    ) -> Result<()> {
        let mut landings = Vec::new();
        let unchanged = a.is_unchanged();
        if let Some(r) = self.disk.region(0).filter(|_| a.table != TableKind::None) {
            let outside = Landing::plain(r, 0);
            landings.push(match unchanged {
                true => outside,
                false => Landing {
                    bytes: a.new_length,
                    change: Some(Arc::new(Kept::new(a.kept.iter().copied(), a.new_length))),
                    ..outside
                },
            });
        }
        for p in &a.partitions {
            let Some(r) = region(p.number).and_then(|n| self.disk.region(n)) else {
                continue;
            };
            let grown = p.new.len() > r.bytes;
            let wish = Wish {
                new_bytes: (p.new.len() != r.bytes).then_some(p.new.len()),
                grow_file_system: grown && self.wishes.grow.contains(&r.number),
                hidden_sectors: p.hidden_sectors,
                ..Wish::default()
            };
            if p.moved() {
                self.differ(
                    Some(r.number),
                    "partition-moved",
                    format!(
                        "It begins at byte {:#x} of the disk, it was at {:#x}",
                        p.new.start, p.old.start
                    ),
                );
            }
            self.tell_size(r, p.new.len())?;
            let landing = self.land(r, p.new.start, p.new.len(), wish)?;
            landings.push(landing);
        }
        let mut patches = Vec::new();
        for v in &a.volume_patches {
            if let Some(p) = a.partitions.iter().find(|p| p.number == v.number) {
                patches.push(Patch {
                    at: p.new.start + v.patch.offset,
                    bytes: v.patch.bytes.clone(),
                });
            }
        }
        patches.extend(a.table_patches.iter().map(|p| Patch {
            at: p.offset,
            bytes: p.bytes.clone(),
        }));
        for id in &a.new_ids {
            let was = id.old.as_deref().unwrap_or("none");
            let number = id
                .partition
                .and_then(|n| region(n).or(u16::try_from(n).ok()));
            let new = match self.is_drawn_again() {
                true => "a new one",
                false => &id.new,
            };
            let message = format!("Its identity is {new}, it was {was}");
            self.differ(number, "new-id", message);
        }
        for n in &a.notes {
            self.differ(None, &n.code, n.message.clone());
        }
        self.out.plan.regions = landings;
        self.out.plan.patches = patches;
        self.out.plan.zeros.clone_from(&a.zeroed);
        self.out.plan.bytes = a.new_length;
        Ok(())
    }

    /// True where the run that writes will draw other identities than this plan.
    fn is_drawn_again(&self) -> bool {
        self.wishes.measure && self.before.is_none()
    }

    /// Says that a partition has another size.
    pub(super) fn tell_size(&mut self, r: &Region, len: u64) -> Result<()> {
        if len == r.bytes {
            return Ok(());
        }
        let longer = r.bytes.checked_add(self.sector()) == Some(len);
        if longer && self.volumes.with_backup(r.number)? == Some(len) {
            self.differ(
                Some(r.number),
                "backup-boot-sector",
                "It gets the backup boot sector that the source does not have, and is one sector longer",
            );
            return Ok(());
        }
        let message = format!(
            "It has {}, it had {}",
            human_bytes(len),
            human_bytes(r.bytes)
        );
        self.differ(Some(r.number), "partition-resized", message);
        Ok(())
    }

    /// One region at its new place.
    pub(super) fn land(
        &mut self,
        r: &Region,
        base: u64,
        len: u64,
        mut wish: Wish,
    ) -> Result<Landing> {
        let plain = Landing {
            bytes: len,
            ..Landing::plain(r, base)
        };
        if !self.volumes.is_ntfs(r.number) {
            let known = !matches!(r.content.as_str(), "empty" | "unknown" | "unreadable");
            if self.wishes.new_ids && known {
                self.differ(
                    Some(r.number),
                    "id-stays",
                    format!(
                        "What identifies the volume in it ({}) stays as it was: only NTFS gets a new serial number",
                        r.content
                    ),
                );
            }
            return match len < r.bytes {
                true => Err(too_small(
                    len,
                    r.bytes,
                    &format!(
                        "partition {} holds {}, which cannot be made smaller",
                        r.number, r.content
                    ),
                )),
                false => Ok(plain),
            };
        }
        wish.defragment = self.wishes.defragment;
        if self.wishes.new_ids {
            let known = self.before.and_then(|d| d.serials.get(&r.number)).copied();
            let serial = match known {
                Some(s) => s,
                None => u64::from_le_bytes(crate::random::bytes::<8>()?),
            };
            self.out.decided.serials.insert(r.number, serial);
            wish.new_serial = Some(serial);
            let was = r.serial.as_deref().unwrap_or("unknown");
            let new = match self.is_drawn_again() {
                true => "a new one".into(),
                false => format!("{serial:016X}"),
            };
            self.differ(
                Some(r.number),
                "new-serial",
                format!("The volume's serial number is {new}, it was {was}"),
            );
        }
        if wish == Wish::default() {
            return Ok(plain);
        }
        let change = self.volumes.plan(r.number, &wish)?;
        for c in &change.report().changes {
            self.differ(Some(r.number), &c.code, c.message.clone());
        }
        Ok(Landing {
            bytes: len,
            change: Some(change),
            ..plain
        })
    }
}

pub(super) fn other_size() -> Error {
    Error::refused("The interrupted restore was of something else: its target had another size")
        .hint("give what it was begun with, or start again without --resume")
}

fn number(p: &Partition) -> Result<u16> {
    u16::try_from(p.number)
        .map_err(|_| Error::unsupported(format!("There is a partition {}", p.number)))
}
