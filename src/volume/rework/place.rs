//! Where everything goes: the strategies, from the one that moves least to the
//! one that always fits.

use super::map::Move;
use super::space::{FreeSpace, one_run};
use super::survey::{Class, Run, Survey};
use crate::error::Error;
use crate::units::ClusterSet;
use std::collections::BTreeSet;
use std::ops::Range;

/// What a layout has to fulfil.
pub(super) struct Task {
    /// Clusters of the new volume.
    pub total: u64,
    /// Clusters that must stay.
    pub pinned: ClusterSet,
    /// Clusters that may move. Pinned ones are not among them.
    pub movable: ClusterSet,
    /// Clusters that `$Bitmap` keeps, by its VCNs, and how many more it needs.
    pub bitmap: Vec<Range<u64>>,
    pub bitmap_more: u64,
}

/// An answer.
pub(super) struct Placement {
    pub moves: Vec<Move>,
    /// Clusters that keep their place.
    pub stay: ClusterSet,
    /// `$Bitmap`, by its VCNs.
    pub bitmap: Vec<Range<u64>>,
    /// Streams that were to be in one run and are not.
    pub broken: u64,
}

/// The parts of a run that may move.
fn parts<'t>(task: &'t Task, run: &Run) -> impl Iterator<Item = Range<u64>> + 't {
    task.movable.runs(run.lcn..run.lcn + run.len)
}

/// Pieces of one stream, one stream after the other.
fn streams(survey: &Survey, order: &[u32]) -> Vec<Range<u32>> {
    let mut out: Vec<Range<u32>> = Vec::new();
    let key = |i: u32| {
        let p = &survey.pieces[order[i as usize] as usize];
        (p.class, p.base, p.tag)
    };
    for i in 0..order.len() as u32 {
        match out.last_mut() {
            Some(last) if key(last.start) == key(i) => last.end = i + 1,
            _ => out.push(i..i + 1),
        }
    }
    out
}

impl Task {
    fn taken(&self) -> ClusterSet {
        let mut taken = self.pinned.clone();
        taken.union(&self.movable);
        taken
    }

    /// Puts moves together with what stays, and `$Bitmap` behind them.
    fn finish(&self, mut moves: Vec<Move>, mut space: FreeSpace, broken: u64) -> Option<Placement> {
        moves.retain(|m| m.old != m.new);
        let mut stay = self.taken();
        for m in &moves {
            stay.remove(m.old..m.old + m.len);
        }
        moves.sort_unstable_by_key(|m| m.old);
        let mut bitmap = Vec::new();
        for r in &self.bitmap {
            let mut at = r.start;
            while at < r.end {
                let i = moves.partition_point(|m| m.old + m.len <= at);
                let (to, len) = match moves.get(i) {
                    Some(m) if m.old <= at => (m.new + (at - m.old), m.old + m.len - at),
                    Some(m) => (at, m.old - at),
                    None => (at, r.end - at),
                };
                let len = len.min(r.end - at);
                join(&mut bitmap, to..to + len);
                at += len;
            }
        }
        let mut more = self.bitmap_more;
        if let Some(last) = bitmap.last_mut()
            && more > 0
            && space.take_at(last.end, more)
        {
            last.end += more;
            more = 0;
        }
        for r in space.take(more)? {
            join(&mut bitmap, r);
        }
        Some(Placement {
            moves,
            stay,
            bitmap,
            broken,
        })
    }
}

fn join(runs: &mut Vec<Range<u64>>, r: Range<u64>) {
    match runs.last_mut() {
        Some(last) if last.end == r.start => last.end = r.end,
        _ => runs.push(r),
    }
}

/// Only what lies behind the new end moves, each stream's part into one run
/// where there is one; streams in `whole` go there entirely. `None`: no room.
pub(super) fn relocate(survey: &Survey, task: &Task, whole: &BTreeSet<u32>) -> Option<Placement> {
    let order = survey.order();
    let mut space = FreeSpace::new(&task.taken(), task.total);
    let mut todo: Vec<(Class, u64, Vec<Range<u64>>)> = Vec::new();
    for stream in streams(survey, &order) {
        let pieces = &order[stream.start as usize..stream.end as usize];
        let all = pieces
            .iter()
            .any(|&i| whole.contains(&survey.pieces[i as usize].record));
        let runs = pieces.iter().flat_map(|&i| survey.runs_of(i));
        let mut moving = Vec::new();
        for r in runs.flat_map(|r| parts(task, r)) {
            let from = if all {
                r.start
            } else {
                r.start.max(task.total)
            };
            if from < r.end {
                join(&mut moving, from..r.end);
            }
        }
        if all {
            for r in &moving {
                space.give(r.start.min(task.total)..r.end.min(task.total));
            }
        }
        let len = moving.iter().map(|r| r.end - r.start).sum();
        if len > 0 {
            todo.push((survey.pieces[pieces[0] as usize].class, len, moving));
        }
    }
    // The long ones first, while there are long runs; before them those that
    // are read without their mapping pairs.
    todo.sort_by_key(|(class, len, _)| {
        let later = match class {
            Class::Mirror => 0,
            Class::Mft => 1,
            _ => 2,
        };
        (later, std::cmp::Reverse(*len))
    });
    let mut moves = Vec::new();
    for (class, len, moving) in todo {
        let one = match class {
            Class::Mirror => Some(space.take_run(len)?),
            _ => space.take_run(len),
        };
        let there = match one {
            Some(start) => one_run(start, len),
            None => space.take(len)?,
        };
        pair_up(&moving, &there, &mut moves);
    }
    task.finish(moves, space, 0)
}

/// Everything moves down, in the order in which it lies: no distance between
/// two runs grows but at pinned clusters. Only clusters below `limit` are
/// used, but for `$Bitmap`. `None`: no room.
pub(super) fn squeeze(task: &Task, limit: u64) -> Option<Placement> {
    let mut space = FreeSpace::new(&task.pinned, limit.min(task.total));
    let mut moves = Vec::new();
    for r in task.movable.runs(0..u64::MAX) {
        let mut at = r.start;
        while at < r.end {
            let there = space.first()?;
            let len = (there.end - there.start).min(r.end - at);
            space.take_at(there.start, len);
            moves.push(Move {
                old: at,
                new: there.start,
                len,
            });
            at += len;
        }
    }
    for r in FreeSpace::new(&task.pinned, task.total).runs_from(limit) {
        space.give(r);
    }
    task.finish(moves, space, 0)
}

/// Every stream in one run, in the order of the survey, around pinned clusters.
/// `None`: no room.
pub(super) fn anew(survey: &Survey, task: &Task) -> Option<Placement> {
    let order = survey.order();
    let mut space = FreeSpace::new(&task.pinned, task.total);
    // $Bitmap is made anew: its clusters come as new ones.
    let mut moving = Task {
        total: task.total,
        pinned: task.pinned.clone(),
        movable: task.movable.clone(),
        bitmap: Vec::new(),
        bitmap_more: 0,
    };
    let kept = task.bitmap.iter().map(|r| r.end - r.start).sum::<u64>();
    for r in &task.bitmap {
        moving.movable.remove(r.clone());
    }
    // Parts of it that are pinned stay; then it is left as it is.
    let fixed = task
        .bitmap
        .iter()
        .any(|r| task.pinned.count_in(r.clone()) > 0);
    let (mut broken, mut moves, mut bitmap) = (0, Vec::new(), Vec::new());
    let mut at = 0;
    let mut place = |len: u64, space: &mut FreeSpace, broken: &mut u64| {
        let here = space.next_from(at);
        let start = match here {
            Some(r) if r.end - r.start >= len => space.take_at(r.start, len).then_some(r.start),
            _ => None,
        };
        if let Some(start) = start {
            at = start + len;
            return Some(one_run(start, len));
        }
        let there = space.take(len)?;
        *broken += u64::from(there.len() > 1);
        Some(there)
    };
    let mut bitmap_done = fixed;
    for stream in streams(survey, &order) {
        let pieces = &order[stream.start as usize..stream.end as usize];
        let class = survey.pieces[pieces[0] as usize].class;
        if class >= Class::Bitmap && !bitmap_done {
            bitmap = place(kept + task.bitmap_more, &mut space, &mut broken)?;
            bitmap_done = true;
        }
        let runs = pieces.iter().flat_map(|&i| survey.runs_of(i));
        let mut old = Vec::new();
        for r in runs.flat_map(|r| parts(&moving, r)) {
            join(&mut old, r);
        }
        let len = old.iter().map(|r| r.end - r.start).sum();
        if len > 0 {
            let there = place(len, &mut space, &mut broken)?;
            let mut runs = pieces.iter().flat_map(|&i| survey.runs_of(i));
            let fixed = runs.any(|r| task.pinned.runs(r.lcn..r.lcn + r.len).next().is_some());
            broken += u64::from(fixed && there.len() == 1);
            pair_up(&old, &there, &mut moves);
        }
    }
    if !bitmap_done {
        bitmap = place(kept + task.bitmap_more, &mut space, &mut broken)?;
    }
    if fixed {
        // Its movable parts were taken out of what moves: they stay where they are.
        return None;
    }
    let mut done = moving.finish(moves, space, broken)?;
    done.bitmap = bitmap;
    Some(done)
}

/// Old runs onto new ones, both in the order of the stream.
fn pair_up(old: &[Range<u64>], new: &[Range<u64>], moves: &mut Vec<Move>) {
    let mut there = new.iter().cloned();
    let mut to = 0..0;
    for r in old {
        let mut at = r.start;
        while at < r.end {
            if to.is_empty() {
                match there.next() {
                    Some(next) => to = next,
                    None => return,
                }
            }
            let len = (to.end - to.start).min(r.end - at);
            moves.push(Move {
                old: at,
                new: to.start,
                len,
            });
            to.start += len;
            at += len;
        }
    }
}

/// The error for a size that is too small.
pub(super) fn too_small(asked: u64, smallest: u64) -> Error {
    Error::refused(format!(
        "Found {asked} bytes as the new size of the volume, expected at least {smallest}"
    ))
    .hint("That is what its data needs after everything that can move has moved")
}
