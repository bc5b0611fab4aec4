//! How small a volume can become.

use super::boot::Shape;
use super::place::{self, Placement, Task};
use super::special::{SYSTEM, bitmap_bytes};
use super::survey::{BAD, Class, Survey};
use crate::error::{Error, Result};
use crate::observe::{Observer, Silent};
use crate::units::{ClusterSet, RecordNo};
use crate::volume::attr::DATA;
use crate::volume::extents::ExtentMap;
use crate::volume::file::FileStream;
use std::collections::BTreeSet;
use std::ops::Range;

/// The smallest size after everything that can move has moved.
#[derive(Clone, Debug)]
pub(super) struct Tight {
    pub clusters: u64,
    /// Records whose clusters stay, because their new mapping pairs would not fit.
    pub extra: BTreeSet<u32>,
}

/// Sizes that are tried before everything stays where it is.
const TRIES: usize = 8;

impl Survey {
    /// Bytes of the smallest volume in which every cluster keeps its place,
    /// with its backup boot sector.
    pub fn smallest_in_place(&self) -> u64 {
        let g = self.volume.geometry();
        let bytes = Shape::bytes_for(g, self.end_in_place());
        bytes.min(Shape::as_it_is(&self.volume))
    }

    /// Bytes of the smallest volume that [`super::plan()`] makes of it, with its
    /// backup boot sector; it refuses every smaller one.
    pub fn smallest(&self) -> Result<u64> {
        let g = self.volume.geometry();
        if self.check_changeable().is_err() {
            return Ok(Shape::as_it_is(&self.volume));
        }
        let tight = self.tight(&Silent)?;
        Ok(Shape::bytes_for(g, tight.clusters).min(Shape::as_it_is(&self.volume)))
    }

    /// Fails when what every change writes cannot be written.
    pub(super) fn check_changeable(&self) -> Result<()> {
        let total = self.volume.geometry().total_clusters;
        for (n, name) in SYSTEM {
            let whole = super::survey::mft_is_whole(&self.volume);
            let sound = self.volume.record(RecordNo(n)).is_ok_and(|r| {
                let view = r.view();
                // A volume that only $MFTMirr opens would not open again.
                let right = view.in_use()
                    && view.base().is_none()
                    && view.stored_number().is_none_or(|s| u64::from(s) == n);
                right && super::survey::can_change(&view, total, whole || n != 0)
            });
            if !sound {
                return Err(Error::unsupported(format!(
                    "File record {n}, {name}, is damaged, so the volume cannot change its size or layout"
                ))
                .hint("Restore it as it is, or have it repaired first"));
            }
        }
        for (n, name, what) in [
            (6, &[][..], "$Bitmap"),
            (8, BAD, "The list of bad clusters"),
        ] {
            let file = self.volume.file(RecordNo(n))?;
            let pieces = file
                .attributes()
                .filter(|(_, a)| a.type_code == DATA && a.name == name);
            let forms: Vec<bool> = pieces.map(|(_, a)| a.resident().is_some()).collect();
            if forms != [false] {
                return Err(Error::unsupported(format!(
                    "{what} is not in one piece of mapping pairs, so the volume cannot change its size or layout"
                ))
                .hint("Restore it as it is"));
            }
        }
        self.check_apart()
    }

    /// Fails when the files whose content follows from the layout are not where a
    /// sound record says, or share clusters: what is written of one would end the other.
    fn check_apart(&self) -> Result<()> {
        let mut seen = ClusterSet::new(self.volume.geometry().total_clusters);
        let mut apart = |map: &ExtentMap| {
            map.as_slice().iter().all(|e| {
                let Some(r) = e.lcns() else { return true };
                let known = self.movable.count_in(r.clone()) + self.pinned.count_in(r.clone());
                let fine = known == r.end - r.start && seen.runs(r.clone()).next().is_none();
                if fine {
                    seen.insert(r);
                }
                fine
            })
        };
        let mut sound = apart(&self.volume.mft().extents);
        for n in [1, 2, 6] {
            if let Some(FileStream::NonResident(joined)) =
                self.volume.file(RecordNo(n))?.stream(DATA, &[])
            {
                sound &= apart(&joined.map);
            }
        }
        match sound {
            true => Ok(()),
            false => Err(Error::unsupported(
                "$MFT, $MFTMirr, $LogFile and $Bitmap are not in clusters of their own, so the volume cannot change its size or layout",
            )
            .hint("Restore it as it is, or have it repaired first")),
        }
    }

    pub(super) fn tight(&self, observer: &dyn Observer) -> Result<&Tight> {
        if let Some(tight) = self.tight.get() {
            return Ok(tight);
        }
        let found = self.find_tight(observer)?;
        Ok(self.tight.get_or_init(|| found))
    }

    fn find_tight(&self, observer: &dyn Observer) -> Result<Tight> {
        let mut extra = BTreeSet::new();
        let end = self.end_in_place();
        let in_place = |extra| Tight {
            clusters: end,
            extra,
        };
        for _ in 0..TRIES {
            let clusters = self.needed(&extra)?;
            if clusters >= end {
                return Ok(in_place(extra));
            }
            let task = self.task(clusters, clusters, true, &extra)?;
            let Some(placed) = place::squeeze(&task, clusters) else {
                return Ok(in_place(extra));
            };
            // Without pinned clusters in between nothing grows: no width of a
            // pair does, so every record has room.
            let between = task.pinned.runs(0..u64::MAX).nth(1).is_some();
            if !between {
                return Ok(Tight { clusters, extra });
            }
            let unfit = super::trial(self, clusters, placed, observer)?;
            if unfit.is_empty() {
                return Ok(Tight { clusters, extra });
            }
            extra.extend(unfit.iter().map(|u| u.0));
        }
        let all = self.pieces.iter().map(|p| p.record).collect();
        Ok(in_place(all))
    }

    /// The fewest clusters that hold everything.
    fn needed(&self, extra: &BTreeSet<u32>) -> Result<u64> {
        let total = self.volume.geometry().total_clusters;
        let mut clusters = 1;
        loop {
            let task = self.task(clusters, clusters, true, extra)?;
            let pinned_end = task.pinned.runs(0..u64::MAX).last().map_or(0, |r| r.end);
            let all = task.pinned.count() + task.movable.count() + task.bitmap_more;
            let now = all.max(pinned_end);
            if now <= clusters || clusters >= total {
                return Ok(clusters);
            }
            clusters = now;
        }
    }

    /// True when the clusters of these records lie below `total`.
    pub(super) fn fits(&self, extra: &BTreeSet<u32>, total: u64) -> bool {
        let pieces = self.pieces.iter().enumerate();
        pieces
            .filter(|(_, p)| extra.contains(&p.record))
            .flat_map(|(i, _)| self.runs_of(i as u32))
            .all(|r| r.lcn + r.len <= total)
    }

    /// What a volume of `total` clusters asks, when `$Bitmap` keeps the clusters
    /// that one of `kept` clusters needs.
    pub(super) fn task(
        &self,
        total: u64,
        kept: u64,
        drop_stores: bool,
        extra: &BTreeSet<u32>,
    ) -> Result<Task> {
        let cluster = u64::from(self.volume.geometry().cluster_size);
        let same = total == self.volume.geometry().total_clusters;
        let mut movable = match drop_stores {
            true => self.movable.without(&self.store_clusters()),
            false => self.movable.clone(),
        };
        let mut pinned = self.pinned.clone();
        for (i, p) in self.pieces.iter().enumerate() {
            if extra.contains(&p.record) && !(drop_stores && self.is_store(p.base)) {
                for r in self.runs_of(i as u32) {
                    for part in movable.runs(r.lcn..r.lcn + r.len).collect::<Vec<_>>() {
                        movable.remove(part.clone());
                        pinned.insert(part);
                    }
                }
            }
        }
        let old = self.bitmap_runs();
        let need = match same {
            true => old.iter().map(|r| r.end - r.start).sum(),
            false => bitmap_bytes(total).div_ceil(cluster),
        };
        let keep = match kept == total {
            true => need,
            false => need.min(bitmap_bytes(kept).div_ceil(cluster)),
        };
        let mut bitmap = Vec::new();
        let mut left = keep;
        for r in old {
            let len = (r.end - r.start).min(left);
            if len > 0 {
                bitmap.push(r.start..r.start + len);
            }
            movable.remove(r.start + len..r.end);
            left -= len;
        }
        let kept = keep - left;
        Ok(Task {
            total,
            pinned,
            movable,
            bitmap,
            bitmap_more: need - kept,
        })
    }

    /// The clusters of `$Bitmap`, by its VCNs.
    fn bitmap_runs(&self) -> Vec<Range<u64>> {
        let pieces = self.pieces.iter().enumerate();
        pieces
            .filter(|(_, p)| p.class == Class::Bitmap)
            .flat_map(|(i, _)| self.runs_of(i as u32))
            .map(|r| r.lcn..r.lcn + r.len)
            .collect()
    }

    /// Everything stays.
    pub(super) fn in_place(&self, total: u64) -> Placement {
        let mut stay = ClusterSet::new(total);
        stay.union(&self.pinned);
        stay.union(&self.movable);
        stay.union(&self.bad);
        Placement {
            moves: Vec::new(),
            stay,
            bitmap: self.bitmap_runs(),
            broken: 0,
        }
    }
}
