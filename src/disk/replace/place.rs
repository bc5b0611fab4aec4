//! Where partitions go: sizes and starts, nothing but numbers.
//!
//! Partitions keep their order. Each may start at its old place or at a multiple
//! of 1 MiB; those are its candidates. Taking the earliest candidates from the
//! front says how little room is enough, taking the latest from the end says
//! who need not move.

/// Alignment of what moves, in bytes.
pub(super) const ALIGN: u64 = 1 << 20;
/// Steps between "nothing shrinks" and "everything is as small as it may be".
const STEPS: u64 = 1 << 32;

/// Something that takes room on the disk, in the order of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// Old first byte.
    pub start: u64,
    /// Bytes in front that belong to it: an extended boot record.
    pub lead: u64,
    /// Bytes it has.
    pub keep: u64,
    /// Bytes it can be made to.
    pub smallest: u64,
    /// Takes the room that is left.
    pub grow: bool,
    /// Stays where it is.
    pub fixed: bool,
}

/// The room there is, in bytes of the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// Nothing lies in front of this.
    pub low: u64,
    /// Nothing lies behind this.
    pub high: u64,
    /// Bytes per sector.
    pub sector: u64,
}

/// Where one goes: first byte and bytes.
pub(super) type Spot = (u64, u64);

const fn down(at: u64) -> u64 {
    at / ALIGN * ALIGN
}

const fn up(at: u64) -> Option<u64> {
    at.checked_next_multiple_of(ALIGN)
}

impl Unit {
    /// The first candidate that leaves everything in front of `at` alone.
    fn first_from(&self, at: u64) -> Option<u64> {
        let least = at.checked_add(self.lead)?;
        let kept = (self.start >= least).then_some(self.start);
        if self.fixed {
            return kept;
        }
        match (kept, up(least)) {
            (Some(k), Some(u)) => Some(k.min(u)),
            (k, u) => k.or(u),
        }
    }

    /// The last candidate with which `len` bytes end at `limit` at most.
    fn last_to(&self, limit: u64, len: u64) -> Option<u64> {
        let most = limit.checked_sub(len)?;
        let kept = (self.start <= most).then_some(self.start);
        match self.fixed {
            true => kept,
            false => Some(kept.unwrap_or(0).max(down(most))),
        }
    }
}

/// Packed to the front: the starts and the first byte behind the last.
/// `None` where something that does not move is in the way.
fn earliest(units: &[Unit], lens: &[u64], low: u64) -> Option<(Vec<u64>, u64)> {
    let mut at = low;
    let mut starts = Vec::with_capacity(units.len());
    for (u, &len) in units.iter().zip(lens) {
        let start = u.first_from(at)?;
        starts.push(start);
        at = start.checked_add(len)?;
    }
    Some((starts, at))
}

/// The first byte behind the last, with everything as small and as far in
/// front as it can be.
pub(super) fn least_end(units: &[Unit], low: u64) -> Option<u64> {
    let lens: Vec<u64> = units.iter().map(|u| u.smallest).collect();
    earliest(units, &lens, low).map(|(_, end)| end)
}

/// Places everything; `None` where it does not fit. The second value says
/// whether something had to shrink.
pub(super) fn place(units: &[Unit], frame: Frame) -> Option<(Vec<Spot>, bool)> {
    let mut lens: Vec<u64> = units.iter().map(|u| u.keep).collect();
    let fits =
        |lens: &[u64]| earliest(units, lens, frame.low).is_some_and(|(_, end)| end <= frame.high);
    let shrinks = !fits(&lens);
    if shrinks {
        let at = |step: u64| -> Vec<u64> { units.iter().map(|u| shrunk(u, step, frame)).collect() };
        if !fits(&at(STEPS)) {
            return None;
        }
        let (mut no, mut yes) = (0, STEPS);
        while yes - no > 1 {
            let mid = no + (yes - no) / 2;
            match fits(&at(mid)) {
                true => yes = mid,
                false => no = mid,
            }
        }
        lens = at(yes);
    }
    let starts = settle(units, &lens, frame)?;
    let mut spots: Vec<Spot> = starts.into_iter().zip(lens).collect();
    if shrinks {
        give_back(units, &mut spots, frame);
    } else {
        grow(units, &mut spots, frame);
    }
    Some((spots, shrinks))
}

/// Bytes of a unit that gives `step` of [`STEPS`] of what it can give.
fn shrunk(u: &Unit, step: u64, frame: Frame) -> u64 {
    let spare = u128::from(u.keep - u.smallest);
    let given = (spare * u128::from(step)).div_ceil(u128::from(STEPS)) as u64;
    let len = u.keep - given;
    (len / frame.sector * frame.sector).max(u.smallest)
}

/// Everything at its old place that can be, the rest packed to the front.
fn settle(units: &[Unit], lens: &[u64], frame: Frame) -> Option<Vec<u64>> {
    let mut latest = vec![0; units.len()];
    let mut limit = frame.high;
    for (i, u) in units.iter().enumerate().rev() {
        latest[i] = u.last_to(limit, lens[i])?;
        limit = latest[i].checked_sub(u.lead)?;
    }
    let mut at = frame.low;
    let mut starts = Vec::with_capacity(units.len());
    for (i, u) in units.iter().enumerate() {
        let stays = u.start <= latest[i] && u.start.checked_sub(u.lead)? >= at;
        let start = match stays {
            true => u.start,
            false => u.first_from(at)?,
        };
        if start > latest[i] {
            return None;
        }
        starts.push(start);
        at = start.checked_add(lens[i])?;
    }
    Some(starts)
}

/// Where the room behind a unit ends.
fn limit(units: &[Unit], spots: &[Spot], i: usize, frame: Frame) -> u64 {
    match spots.get(i + 1) {
        Some(next) => next.0 - units[i + 1].lead,
        None => frame.high,
    }
}

/// What alignment left behind those that shrank is theirs.
fn give_back(units: &[Unit], spots: &mut [Spot], frame: Frame) {
    for i in 0..units.len() {
        let (start, len) = spots[i];
        if len < units[i].keep {
            let room = limit(units, spots, i, frame).saturating_sub(start) / frame.sector;
            spots[i].1 = (room * frame.sector).clamp(len, units[i].keep);
        }
    }
}

/// Lets those that shall grow have what is left; between two that do not move
/// they share equally.
fn grow(units: &[Unit], spots: &mut [Spot], frame: Frame) {
    let mut from = 0;
    while from < units.len() {
        let to = (from + 1..units.len())
            .find(|&i| units[i].fixed)
            .unwrap_or(units.len());
        let high = limit(units, spots, to - 1, frame);
        if let Some(first) = (from..to).find(|&i| units[i].grow) {
            let (u, s) = (&units[first..to], &mut spots[first..to]);
            let (mut yes, mut no) = (0, high / ALIGN + 1);
            let mut best = None;
            while no - yes > 1 {
                let mid = yes + (no - yes) / 2;
                match grown(u, s, mid * ALIGN).filter(|g| end(g) <= high) {
                    Some(g) => (yes, best) = (mid, Some(g)),
                    None => no = mid,
                }
            }
            if let Some(g) = best {
                s.copy_from_slice(&g);
            }
        }
        from = to;
    }
}

fn end(spots: &[Spot]) -> u64 {
    spots.last().map_or(0, |s| s.0.saturating_add(s.1))
}

/// The first one stays and the others follow, each that grows with `more`
/// bytes, ending on a boundary.
fn grown(units: &[Unit], spots: &[Spot], more: u64) -> Option<Vec<Spot>> {
    let mut at: Option<u64> = None;
    let mut out = Vec::with_capacity(units.len());
    for (u, s) in units.iter().zip(spots) {
        let start = match at {
            None => s.0,
            Some(at) => u.first_from(at)?,
        };
        let len = match u.grow {
            true => down(start.checked_add(s.1)?.checked_add(more)?)
                .saturating_sub(start)
                .max(s.1),
            false => s.1,
        };
        at = Some(start.checked_add(len)?);
        out.push((start, len));
    }
    Some(out)
}
