//! One volume made smaller, larger or laid out anew: the plan of it, made by
//! reading only. `docs/replacement.md` has the rules.
//!
//! | file | subject |
//! |---|---|
//! | `survey` | what lies where, and what cannot move |
//! | `place`, `space` | where everything goes |
//! | `map` | old clusters to new ones and back |
//! | `surgery`, `records` | file records written differently |
//! | `boot`, `names`, `shadow`, `special` | what else is written differently |
//! | `patch` | all of that, by its place |
//! | `report` | what will have become of the volume |

mod boot;
mod map;
mod names;
mod patch;
mod place;
mod records;
mod report;
mod shadow;
mod smallest;
mod space;
mod special;
mod surgery;
mod survey;
#[cfg(test)]
mod tests;

pub use report::{How, ReworkReport};
pub use survey::{Survey, survey};

use crate::device;
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::units::{ByteRange, ClusterSet};
use boot::Shape;
use map::ClusterMap;
use patch::Patches;
use place::Placement;
use records::{Change, Unfit};
use smallest::Tight;
use std::collections::BTreeSet;

/// Windows numbers clusters with 32 bits.
const MOST_CLUSTERS: u64 = (1 << 32) - 1;

/// What a volume shall become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Bytes of the partition or volume, with the sector for the backup boot
    /// sector; `None`: as it is. A part of a sector at the end is not used.
    pub new_bytes: Option<u64>,
    /// When that is more: the file system takes the room. Else it keeps its size.
    pub grow_file_system: bool,
    /// Sectors before the partition, as the boot sector tells them; `None`: as it is.
    pub hidden_sectors: Option<u32>,
    /// Every stream in one run.
    pub defragment: bool,
    /// Another serial number.
    pub new_serial: Option<u64>,
}

/// A volume laid out anew: a plan, and nothing written yet.
pub struct Rework {
    map: ClusterMap,
    /// Bytes of a cluster.
    cluster: u64,
    old_len: u64,
    new_len: u64,
    /// Nothing moves and the file system keeps its size: every byte stays.
    untouched: bool,
    patches: Patches,
    report: ReworkReport,
}

/// Plans it. Refused (`ErrorKind::Refused`, with the smallest size) when the
/// wish is too small, `ErrorKind::Unsupported` for what is not done.
pub fn plan(survey: &Survey, wish: &Wish, observer: &dyn Observer) -> Result<Rework> {
    let volume = &survey.volume;
    let g = volume.geometry();
    let shape = Shape::of(volume, wish);
    let smaller = shape.clusters < g.total_clusters;
    if shape.sectors < g.total_sectors {
        let smallest = survey.smallest()?;
        if shape.bytes < smallest {
            return Err(place::too_small(shape.bytes, smallest));
        }
    }
    if shape.clusters > g.total_clusters && shape.clusters > MOST_CLUSTERS {
        return Err(Error::refused(format!(
            "Found {} clusters as the new size of the file system, expected at most {MOST_CLUSTERS}, as Windows has it",
            shape.clusters
        ))
        .hint("Let the partition grow without the file system"));
    }
    if shape.clusters > g.total_clusters && survey.outside {
        return Err(Error::unsupported(
            "A file record names clusters behind the end of the volume, which would become part of it",
        )
        .hint("Have the volume repaired first, or restore it in its old size"));
    }
    let resized = shape.sectors != g.total_sectors;
    let cleared = resized || wish.defragment || survey.bad.count() > 0;
    if !cleared {
        let placement = survey.in_place(g.total_clusters);
        return build(
            survey,
            wish,
            shape,
            placement,
            false,
            How::InPlace,
            observer,
        )?
        .map_err(|_| Error::damaged("Records that stay as they are do not fit"));
    }
    survey.check_changeable()?;
    let drop = smaller || wish.defragment;
    let attempt = |placement: Option<Placement>, how: How| match placement {
        None => Ok(Err(Vec::new())),
        Some(p) => build(survey, wish, shape, p, drop, how, observer),
    };
    if wish.defragment {
        let mut extra = BTreeSet::new();
        for _ in 0..6 {
            let task = survey.task(shape.clusters, shape.clusters, drop, &extra)?;
            match attempt(place::anew(survey, &task), How::Anew)? {
                Ok(done) => return Ok(done),
                Err(unfit) if unfit.is_empty() => break,
                Err(unfit) => extra.extend(unfit.iter().map(|u| u.0)),
            }
            if !survey.fits(&extra, shape.clusters) {
                break;
            }
        }
    } else if survey.end_in_place() > shape.clusters {
        let task = survey.task(shape.clusters, shape.clusters, drop, &BTreeSet::new())?;
        let placed = place::relocate(survey, &task, &BTreeSet::new());
        match attempt(placed, How::Relocated)? {
            Ok(done) => return Ok(done),
            Err(unfit) if unfit.is_empty() => {}
            Err(unfit) => {
                let whole = unfit.iter().map(|u| u.0).collect();
                let placed = place::relocate(survey, &task, &whole);
                if let Ok(done) = attempt(placed, How::Relocated)? {
                    return Ok(done);
                }
            }
        }
        if let Ok(done) = attempt(place::anew(survey, &task), How::Anew)? {
            return Ok(done);
        }
    }
    // What always fits.
    if survey.end_in_place() <= shape.clusters {
        let task = survey.task(shape.clusters, shape.clusters, smaller, &BTreeSet::new())?;
        let placed = place::relocate(survey, &task, &BTreeSet::new());
        let done = match placed {
            Some(p) => build(survey, wish, shape, p, smaller, How::InPlace, observer)?,
            None => Err(Vec::new()),
        };
        if let Ok(done) = done {
            return Ok(done);
        }
    }
    let tight = survey.tight(observer)?;
    for limit in [shape.clusters, tight.clusters] {
        let task = survey.task(shape.clusters, limit, true, &tight.extra)?;
        if let Some(p) = place::squeeze(&task, limit)
            && let Ok(done) = build(survey, wish, shape, p, true, How::Squeezed, observer)?
        {
            return Ok(done);
        }
    }
    Err(Error::refused(format!(
        "Found no layout of the volume in {} clusters whose records hold their mapping pairs",
        shape.clusters
    ))
    .hint("Restore it in its old size"))
}

/// Everything that follows from where clusters go. The inner error names
/// records that have no room for their mapping pairs.
fn build(
    survey: &Survey,
    wish: &Wish,
    shape: Shape,
    placement: Placement,
    drop_stores: bool,
    how: How,
    observer: &dyn Observer,
) -> Result<Result<Rework, Vec<Unfit>>> {
    let volume = &survey.volume;
    let g = volume.geometry();
    let cluster = u64::from(g.cluster_size);
    let resized = shape.sectors != g.total_sectors;
    let mut used = ClusterSet::new(shape.clusters);
    used.union(&placement.stay);
    for m in &placement.moves {
        used.insert(m.new..m.new + m.len);
    }
    for r in &placement.bitmap {
        used.insert(r.clone());
    }
    let used_clusters = used.count();
    let map = ClusterMap::new(placement.moves, placement.stay)?;
    let torn = special::torn_apart(volume, &map)?;
    if !torn.is_empty() {
        return Ok(Err(torn));
    }
    let touched = resized || !map.is_still() || survey.bad.count() > 0 || wish.defragment;
    let special = special::Special::new(volume, &survey.log, touched)?;
    let bitmap_size = match resized {
        true => special::bitmap_bytes(shape.clusters),
        false => special.bitmap_size,
    };
    let mut patches = Patches::new(used);
    let mut report = ReworkReport::new(survey, shape, how);
    let mut mft = volume.mft().extents.clone();
    let (mut mft_lcn, mut mirror_lcn) = (g.mft_lcn, g.mftmirr_lcn);
    if touched {
        mft = records::translate_map(&map, &mft)?;
        let names = special.names(survey, drop_stores, &placement.bitmap, bitmap_size);
        let change = Change {
            survey,
            map: &map,
            old_total: g.total_clusters,
            new_total: shape.clusters,
            bitmap: &placement.bitmap,
            bitmap_size,
            drop_stores,
            dirty: special.dirty,
            names: &names,
        };
        let size = u64::from(g.record_size);
        let mirrored = special.mirror_records(volume);
        let mut first = std::collections::BTreeMap::new();
        let outcome = change.write(observer, |n, bytes| {
            if n.0 < mirrored {
                first.insert(n.0, bytes.to_vec());
            }
            special::put(&mut patches, &mft, cluster, n.0 * size, bytes)
        })?;
        if !outcome.unfit.is_empty() {
            return Ok(Err(outcome.unfit));
        }
        special.write(&mut patches, &map, &placement.bitmap, bitmap_size, cluster)?;
        special::write_names(volume, &mut patches, &map, &names)?;
        special.write_mirror(volume, &mut patches, &map, &first)?;
        mft_lcn = special::first_lcn(&mft).unwrap_or(mft_lcn);
        mirror_lcn = special.mirror_lcn(&map)?.unwrap_or(mirror_lcn);
        report.records_rewritten = outcome.rewritten;
        report.records_moved = outcome.files_moved;
    }
    let header = drop_stores && special::drop_header(volume, &mut patches)?;
    let boot = boot::sector(volume, &shape, wish, mft_lcn, mirror_lcn)?;
    patches.bytes(0, &boot[..boot.len().min(shadow::HEADER as usize)])?;
    for at in shape.backups(u64::from(g.sector_size)) {
        patches.bytes(at, &boot[..boot.len().min(g.sector_size as usize)])?;
    }
    patches.finish()?;
    report.used_clusters = used_clusters;
    report.clusters_moved = map.moved_clusters();
    report.streams_in_pieces = placement.broken;
    report.bytes_rewritten = patches.total();
    report.tell(
        survey,
        wish,
        shape,
        &special,
        &map,
        drop_stores,
        header,
        touched,
    );
    let rework = Rework {
        untouched: map.is_still() && !resized,
        map,
        cluster,
        old_len: volume.source().len(),
        new_len: shape.bytes,
        patches,
        report,
    };
    Ok(Ok(rework))
}

/// Records that would have no room in this layout; nothing is kept of it.
fn trial(
    survey: &Survey,
    clusters: u64,
    placed: Placement,
    observer: &dyn Observer,
) -> Result<Vec<Unfit>> {
    let g = survey.volume.geometry();
    let map = ClusterMap::new(placed.moves, placed.stay)?;
    let torn = special::torn_apart(&survey.volume, &map)?;
    if !torn.is_empty() {
        return Ok(torn);
    }
    let names = Default::default();
    let change = Change {
        survey,
        map: &map,
        old_total: g.total_clusters,
        new_total: clusters,
        bitmap: &placed.bitmap,
        bitmap_size: special::bitmap_bytes(clusters),
        drop_stores: true,
        dirty: false,
        names: &names,
    };
    Ok(change.write(observer, |_, _| Ok(()))?.unfit)
}

impl Rework {
    /// What will have become of the volume.
    pub fn report(&self) -> &ReworkReport {
        &self.report
    }

    fn walk(&self, range: ByteRange, forward: bool, piece: device::Piece<'_>) -> Result<()> {
        let (from_len, to_len) = match forward {
            true => (self.old_len, self.new_len),
            false => (self.new_len, self.old_len),
        };
        if range.end > from_len || range.start > range.end {
            return Err(Error::usage(format!(
                "Found bytes {} to {} asked for, expected a part of {from_len}",
                range.start, range.end
            )));
        }
        if self.untouched {
            let kept = range.end.min(to_len).max(range.start);
            if kept > range.start {
                piece(Some(range.start), kept - range.start)?;
            }
            if range.end > kept {
                piece(None, range.end - kept)?;
            }
            return Ok(());
        }
        let c = self.cluster;
        let clusters = range.start / c..range.end.div_ceil(c);
        let mut at = clusters.start * c;
        let mut give = |to: Option<u64>, len: u64| {
            let (first, end) = (at.max(range.start), (at + len * c).min(range.end));
            let skip = first - at;
            at += len * c;
            if end <= first {
                return Ok(());
            }
            // A source may end before the volume that its boot sector claims.
            let kept = match to.map(|to| to * c + skip) {
                Some(to) if forward || to + (end - first) <= to_len => {
                    return piece(Some(to), end - first);
                }
                Some(to) if to < to_len => {
                    piece(Some(to), to_len - to)?;
                    to_len - to
                }
                _ => 0,
            };
            piece(None, end - first - kept)
        };
        match forward {
            true => self.map.forward(clusters, &mut give),
            false => self.map.backward(clusters, &mut give),
        }
    }
}

impl device::Rearrangement for Rework {
    fn new_len(&self) -> u64 {
        self.new_len
    }
    fn forward(&self, old: ByteRange, piece: device::Piece<'_>) -> Result<()> {
        self.walk(old, true, piece)
    }
    fn backward(&self, new: ByteRange, piece: device::Piece<'_>) -> Result<()> {
        self.walk(new, false, piece)
    }
    fn patches(&self, each: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        self.patches.each(each)
    }
    fn patch_into(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.patches.lay_over(offset, buf)
    }
}
