//! Where clusters go. What moves is a list, found by binary search from either
//! side; what stays is a set.

use crate::error::{Error, Result};
use crate::units::ClusterSet;
use std::ops::Range;

/// A run of clusters that changes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub old: u64,
    pub new: u64,
    pub len: u64,
}

/// Old clusters to new ones and back. No cluster has two destinations, none
/// two origins.
pub(super) struct ClusterMap {
    moves: Vec<Move>,
    /// Places in `moves`, by their new cluster.
    by_new: Vec<u32>,
    /// Clusters that keep their number.
    stay: ClusterSet,
}

/// Told one piece after the other: the other side's cluster, or `None`, and how many.
pub(super) type Each<'a> = &'a mut dyn FnMut(Option<u64>, u64) -> Result<()>;

impl ClusterMap {
    /// Checks that the moves, in any order, agree with each other and with what stays.
    pub fn new(mut moves: Vec<Move>, stay: ClusterSet) -> Result<Self> {
        let twice = |what: &str, at: u64| {
            Err(Error::damaged(format!(
                "The new layout is not sound: cluster {at} is {what} twice"
            )))
        };
        if u32::try_from(moves.len()).is_err() {
            return Err(Error::unsupported(format!(
                "Found {} runs to move, expected fewer than 2^32",
                moves.len()
            )));
        }
        moves.sort_unstable_by_key(|m| m.old);
        moves.dedup_by(|b, a| {
            let joins = a.old + a.len == b.old && a.new + a.len == b.new;
            if joins {
                a.len += b.len;
            }
            joins
        });
        moves.shrink_to_fit();
        let mut by_new: Vec<u32> = (0..moves.len() as u32).collect();
        by_new.sort_unstable_by_key(|&i| moves[i as usize].new);
        for pair in moves.windows(2) {
            if pair[0].old + pair[0].len > pair[1].old {
                return twice("moved", pair[1].old);
            }
        }
        for pair in by_new.windows(2) {
            let (a, b) = (&moves[pair[0] as usize], &moves[pair[1] as usize]);
            if a.new + a.len > b.new {
                return twice("a destination", b.new);
            }
        }
        for m in &moves {
            for from in [m.old, m.new] {
                if let Some(r) = stay.runs(from..from + m.len).next() {
                    return twice("used", r.start);
                }
            }
        }
        Ok(Self {
            moves,
            by_new,
            stay,
        })
    }

    /// True when no cluster changes its place.
    pub fn is_still(&self) -> bool {
        self.moves.is_empty()
    }

    pub fn moved_clusters(&self) -> u64 {
        self.moves.iter().map(|m| m.len).sum()
    }

    /// True when one of these clusters moves.
    pub fn touches(&self, old: Range<u64>) -> bool {
        let i = self.moves.partition_point(|m| m.old + m.len <= old.start);
        self.moves.get(i).is_some_and(|m| m.old < old.end)
    }

    /// Where old clusters go.
    pub fn forward(&self, old: Range<u64>, each: Each<'_>) -> Result<()> {
        let first = self.moves.partition_point(|m| m.old + m.len <= old.start);
        let moves = self.moves[first..].iter().map(|m| (m.old, m.new, m.len));
        walk(old, moves, &self.stay, each)
    }

    /// Where the content of new clusters comes from.
    pub fn backward(&self, new: Range<u64>, each: Each<'_>) -> Result<()> {
        let of = |i: &u32| &self.moves[*i as usize];
        let first = (self.by_new).partition_point(|i| of(i).new + of(i).len <= new.start);
        let moves = self.by_new[first..]
            .iter()
            .map(|i| (of(i).new, of(i).old, of(i).len));
        walk(new, moves, &self.stay, each)
    }
}

fn walk(
    range: Range<u64>,
    moves: impl Iterator<Item = (u64, u64, u64)>,
    stay: &ClusterSet,
    each: Each<'_>,
) -> Result<()> {
    let mut at = range.start;
    for (from, to, len) in moves {
        if range.is_empty() || from >= range.end {
            break;
        }
        still(at..from.max(at), stay, each)?;
        let first = from.max(range.start);
        let end = (from + len).min(range.end);
        each(Some(to + (first - from)), end - first)?;
        at = end;
    }
    still(at..range.end, stay, each)
}

/// A part in which nothing moves.
fn still(range: Range<u64>, stay: &ClusterSet, each: Each<'_>) -> Result<()> {
    let mut at = range.start;
    for r in stay.runs(range.clone()) {
        if r.start > at {
            each(None, r.start - at)?;
        }
        each(Some(r.start), r.end - r.start)?;
        at = r.end;
    }
    match at < range.end {
        true => each(None, range.end - at),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pieces(map: &ClusterMap, range: Range<u64>, forward: bool) -> Vec<Option<u64>> {
        let mut out = Vec::new();
        let mut push = |to: Option<u64>, len: u64| {
            assert!(len > 0);
            out.extend((0..len).map(|i| to.map(|t| t + i)));
            Ok(())
        };
        match forward {
            true => map.forward(range, &mut push).unwrap(),
            false => map.backward(range, &mut push).unwrap(),
        }
        out
    }

    #[test]
    fn contradictions_are_refused() {
        let stay = |r: Range<u64>| {
            let mut s = ClusterSet::new(100);
            s.insert(r);
            s
        };
        let m = |old, new, len| Move { old, new, len };
        assert!(ClusterMap::new(vec![m(0, 10, 5), m(4, 20, 2)], stay(0..0)).is_err());
        assert!(ClusterMap::new(vec![m(0, 10, 5), m(8, 14, 2)], stay(0..0)).is_err());
        assert!(ClusterMap::new(vec![m(0, 10, 5)], stay(12..13)).is_err());
        assert!(ClusterMap::new(vec![m(0, 10, 5)], stay(4..5)).is_err());
        let map = ClusterMap::new(vec![m(5, 15, 5), m(0, 10, 5)], stay(20..30)).unwrap();
        assert_eq!((map.moves.len(), map.moved_clusters()), (1, 10));
    }

    proptest! {
        #[test]
        fn there_and_back(
            runs in prop::collection::vec((0u64..6, 1u64..9, any::<bool>()), 0..30),
            seed in any::<u64>(), from in 0u64..150, len in 0u64..150,
        ) {
            // Used runs with gaps; some stay, the others go where there is room, shuffled.
            let mut stay = ClusterSet::new(1000);
            let mut moving = Vec::new();
            let mut at = 0;
            for (gap, len, keeps) in runs {
                at += gap;
                if keeps { stay.insert(at..at + len); } else { moving.push((at, len)); }
                at += len;
            }
            moving.sort_by_key(|(at, _)| (at ^ 0x5a5a).wrapping_mul(seed | 1));
            let mut free = (0..1000).filter(|&c| !stay.contains(c));
            let mut moves = Vec::new();
            for (old, len) in moving {
                for i in 0..len {
                    moves.push(Move { old: old + i, new: free.next().unwrap(), len: 1 });
                }
            }
            let want: std::collections::HashMap<u64, u64> =
                moves.iter().map(|m| (m.old, m.new)).collect();
            let back: std::collections::HashMap<u64, u64> =
                want.iter().map(|(a, b)| (*b, *a)).collect();
            let map = ClusterMap::new(moves, stay.clone()).unwrap();
            let identity = |c: u64| stay.contains(c).then_some(c);
            let range = from..from + len;
            let there: Vec<_> = range.clone()
                .map(|c| want.get(&c).copied().or(identity(c))).collect();
            prop_assert_eq!(pieces(&map, range.clone(), true), there);
            let home: Vec<_> = range.clone()
                .map(|c| back.get(&c).copied().or(identity(c))).collect();
            prop_assert_eq!(pieces(&map, range.clone(), false), home);
            for c in range {
                prop_assert_eq!(map.touches(c..c + 1), want.contains_key(&c));
            }
        }
    }
}
