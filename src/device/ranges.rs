//! A set of bytes as sorted, separate ranges.

use crate::units::ByteRange;
use std::collections::BTreeMap;

/// A set of byte positions kept as ranges; neighbours are joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// Start to end; separate, not touching, none empty.
    map: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a range.
    pub fn insert(&mut self, range: ByteRange) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        // The one that begins before and reaches into (or up to) it.
        if let Some((&s, &e)) = self.map.range(..=start).next_back()
            && e >= start
        {
            if e >= end {
                return;
            }
            start = s;
        }
        while let Some((&s, &e)) = self.map.range(start..=end).next() {
            end = end.max(e);
            self.map.remove(&s);
        }
        self.map.insert(start, end);
    }

    /// Takes a range out.
    pub fn remove(&mut self, range: ByteRange) {
        if range.is_empty() {
            return;
        }
        for r in self.within(range) {
            let (s, e) = self.holding(r.start).unwrap_or((r.start, r.end));
            self.map.remove(&s);
            if s < r.start {
                self.map.insert(s, r.start);
            }
            if r.end < e {
                self.map.insert(r.end, e);
            }
        }
    }

    fn holding(&self, at: u64) -> Option<(u64, u64)> {
        let (&s, &e) = self.map.range(..=at).next_back()?;
        (e > at).then_some((s, e))
    }

    /// True when this byte is in the set.
    pub fn contains(&self, at: u64) -> bool {
        self.holding(at).is_some()
    }

    /// The range that ends exactly at `at`, or holds the byte before it.
    pub fn ending_at(&self, at: u64) -> Option<ByteRange> {
        let (start, _) = self.holding(at.checked_sub(1)?)?;
        Some(ByteRange { start, end: at })
    }

    /// The parts of `range` that are in the set, in order.
    pub fn within(&self, range: ByteRange) -> Vec<ByteRange> {
        let first = self.holding(range.start).map_or(range.start, |(s, _)| s);
        self.map
            .range(first..range.end.max(first))
            .filter_map(|(&start, &end)| ByteRange { start, end }.intersect(&range))
            .collect()
    }

    /// The parts of `range` that are not in the set, in order.
    pub fn without(&self, range: ByteRange) -> Vec<ByteRange> {
        let mut out = Vec::new();
        let mut at = range.start;
        for r in self.within(range) {
            if r.start > at {
                out.push(ByteRange {
                    start: at,
                    end: r.start,
                });
            }
            at = r.end;
        }
        if at < range.end {
            out.push(ByteRange {
                start: at,
                end: range.end,
            });
        }
        out
    }

    /// All ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = ByteRange> + '_ {
        self.map
            .iter()
            .map(|(&start, &end)| ByteRange { start, end })
    }

    /// How many bytes are in the set.
    pub fn bytes(&self) -> u64 {
        self.iter().map(|r| r.len()).sum()
    }

    /// True when it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}

impl FromIterator<ByteRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = ByteRange>>(ranges: I) -> Self {
        let mut set = Self::new();
        ranges.into_iter().for_each(|r| set.insert(r));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_a_plain_set(
            steps in prop::collection::vec((any::<bool>(), 0u64..300, 0u64..60), 0..40),
            from in 0u64..300, len in 0u64..200,
        ) {
            let mut set = RangeSet::new();
            let mut plain = vec![false; 400];
            for (add, start, len) in steps {
                let r = ByteRange { start, end: start + len };
                if add { set.insert(r) } else { set.remove(r) }
                plain[r.start as usize..r.end as usize].fill(add);
            }
            let window = ByteRange { start: from, end: (from + len).min(400) };
            for i in 0..400 {
                prop_assert_eq!(set.contains(i), plain[i as usize]);
            }
            let mut last = None;
            for r in set.iter() {
                prop_assert!(!r.is_empty());
                prop_assert!(last.is_none_or(|e| e < r.start), "neighbours are joined");
                last = Some(r.end);
            }
            prop_assert_eq!(set.bytes(), plain.iter().filter(|&&b| b).count() as u64);
            let inside: Vec<u64> = set.within(window).iter().flat_map(|r| r.range()).collect();
            let want: Vec<u64> = window.range().filter(|&i| plain[i as usize]).collect();
            prop_assert_eq!(inside, want);
            let outside: Vec<u64> = set.without(window).iter().flat_map(|r| r.range()).collect();
            let want: Vec<u64> = window.range().filter(|&i| !plain[i as usize]).collect();
            prop_assert_eq!(outside, want);
        }
    }
}
