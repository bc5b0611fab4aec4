//! Free clusters of the new volume, given out run by run.

use crate::units::ClusterSet;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Free runs, by place and by length.
pub(super) struct FreeSpace {
    by_start: BTreeMap<u64, u64>,
    by_len: BTreeSet<(u64, u64)>,
}

impl FreeSpace {
    /// Everything below `total` that is not in `taken`.
    pub fn new(taken: &ClusterSet, total: u64) -> Self {
        let mut space = Self {
            by_start: BTreeMap::new(),
            by_len: BTreeSet::new(),
        };
        let mut at = 0;
        for r in taken.runs(0..total) {
            space.put(at..r.start);
            at = r.end;
        }
        space.put(at..total);
        space
    }

    fn put(&mut self, r: Range<u64>) {
        if r.start < r.end {
            self.by_start.insert(r.start, r.end - r.start);
            self.by_len.insert((r.end - r.start, r.start));
        }
    }

    /// Takes `len` clusters from `start` on, if all are free.
    pub fn take_at(&mut self, start: u64, len: u64) -> bool {
        let Some((&s, &n)) = self.by_start.range(..=start).next_back() else {
            return false;
        };
        if start - s >= n || n - (start - s) < len {
            return false;
        }
        self.by_start.remove(&s);
        self.by_len.remove(&(n, s));
        self.put(s..start);
        self.put(start + len..s + n);
        true
    }

    /// The first free run.
    pub fn first(&self) -> Option<Range<u64>> {
        self.by_start.iter().next().map(|(&s, &n)| s..s + n)
    }

    /// All free runs behind `at`.
    pub fn runs_from(&self, at: u64) -> impl Iterator<Item = Range<u64>> + '_ {
        let runs = self.by_start.iter().map(|(&s, &n)| s..s + n);
        runs.map(move |r| r.start.max(at)..r.end)
            .filter(|r| r.start < r.end)
    }

    /// The free run that begins at or behind `at`.
    pub fn next_from(&self, at: u64) -> Option<Range<u64>> {
        self.by_start.range(at..).next().map(|(&s, &n)| s..s + n)
    }

    /// Takes `len` clusters in one run, from the shortest free run that has them.
    pub fn take_run(&mut self, len: u64) -> Option<u64> {
        let &(_, start) = self.by_len.range((len, 0)..).next()?;
        self.take_at(start, len).then_some(start)
    }

    /// Takes `len` clusters in as few runs as possible; `None`, and nothing
    /// taken, when there are not so many.
    pub fn take(&mut self, len: u64) -> Option<Vec<Range<u64>>> {
        let mut out = Vec::new();
        let mut left = len;
        while left > 0 {
            if let Some(start) = self.take_run(left) {
                out.push(start..start + left);
                break;
            }
            let Some(&(n, start)) = self.by_len.last() else {
                out.into_iter().for_each(|r| self.give(r));
                return None;
            };
            self.take_at(start, n);
            out.push(start..start + n);
            left -= n;
        }
        Some(out)
    }

    /// Gives clusters back.
    pub fn give(&mut self, mut r: Range<u64>) {
        if r.is_empty() {
            return;
        }
        if let Some((&s, &n)) = self.by_start.range(..r.start).next_back()
            && s + n == r.start
        {
            self.by_start.remove(&s);
            self.by_len.remove(&(n, s));
            r.start = s;
        }
        if let Some(&n) = self.by_start.get(&r.end) {
            self.by_start.remove(&r.end);
            self.by_len.remove(&(n, r.end));
            r.end += n;
        }
        self.put(r);
    }
}

/// One run of clusters.
pub(super) fn one_run(start: u64, len: u64) -> Vec<Range<u64>> {
    std::iter::once(start..start + len).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_is_given_twice(
            taken in prop::collection::vec((0u64..200, 1u64..20), 0..12),
            steps in prop::collection::vec((0u8..4, 0u64..220, 1u64..40), 0..60),
        ) {
            let mut set = ClusterSet::new(200);
            for (at, n) in taken { set.insert(at..(at + n).min(200)); }
            let mut used: Vec<bool> = (0..200).map(|c| set.contains(c)).collect();
            let mut space = FreeSpace::new(&set, 200);
            let mut held: Vec<Range<u64>> = Vec::new();
            for (what, at, len) in steps {
                let got = match what {
                    0 => space.take_at(at, len).then(|| one_run(at, len)),
                    1 => space.take_run(len).map(|s| one_run(s, len)),
                    2 => space.take(len),
                    _ => {
                        if let Some(r) = held.pop() {
                            space.give(r.clone());
                            used[r.start as usize..r.end as usize].fill(false);
                        }
                        continue;
                    }
                };
                let free = used.iter().filter(|u| !**u).count() as u64;
                match got {
                    Some(runs) => {
                        prop_assert_eq!(runs.iter().map(|r| r.end - r.start).sum::<u64>(), len);
                        for r in runs {
                            for c in r.clone() {
                                prop_assert!(!used[c as usize]);
                                used[c as usize] = true;
                            }
                            held.push(r);
                        }
                    }
                    None => prop_assert!(what != 2 || free < len),
                }
                let first = used.iter().position(|u| !u).map(|c| c as u64);
                prop_assert_eq!(space.first().map(|r| r.start), first);
            }
        }
    }
}
