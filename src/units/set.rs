//! A set of cluster numbers, kept in pages so that its memory follows what is
//! mixed, not how large the volume is: 65,536 clusters that are all in or all
//! out cost one word.

use std::ops::Range;

const PAGE_BITS: u32 = 16;
const PAGE: u64 = 1 << PAGE_BITS;
const WORDS: usize = (PAGE / 64) as usize;

#[derive(Clone)]
enum Page {
    None,
    All,
    Some(Box<[u64; WORDS]>),
}

/// A set of `u64` numbers below a fixed limit.
#[derive(Clone)]
pub struct ClusterSet {
    limit: u64,
    pages: Vec<Page>,
}

impl ClusterSet {
    /// An empty set that may hold numbers below `limit`.
    pub fn new(limit: u64) -> Self {
        let pages = limit.div_ceil(PAGE) as usize;
        Self {
            limit,
            pages: vec![Page::None; pages],
        }
    }

    /// Numbers at or above this are never in the set.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// True when `n` is in the set.
    #[inline]
    pub fn contains(&self, n: u64) -> bool {
        if n >= self.limit {
            return false;
        }
        match &self.pages[(n >> PAGE_BITS) as usize] {
            Page::None => false,
            Page::All => true,
            Page::Some(w) => {
                let i = n & (PAGE - 1);
                w[(i >> 6) as usize] >> (i & 63) & 1 == 1
            }
        }
    }

    /// Adds a range; what lies at or above the limit is left out. Returns how
    /// many of its numbers were in the set before.
    pub fn insert(&mut self, range: Range<u64>) -> u64 {
        self.each_page(range, |page, lo, hi| match page {
            Page::All => (hi - lo) as u64,
            Page::None if hi - lo == PAGE as usize => {
                *page = Page::All;
                0
            }
            _ => {
                let w = page.words();
                let mut had = 0;
                masks(lo, hi, |i, m| {
                    had += u64::from((w[i] & m).count_ones());
                    w[i] |= m;
                });
                if had == 0 || lo == 0 || hi == PAGE as usize {
                    page.settle();
                }
                had
            }
        })
    }

    /// Takes a range out. Returns how many of its numbers were in the set.
    pub fn remove(&mut self, range: Range<u64>) -> u64 {
        self.each_page(range, |page, lo, hi| match page {
            Page::None => 0,
            Page::All if hi - lo == PAGE as usize => {
                *page = Page::None;
                PAGE
            }
            _ => {
                let w = page.words();
                let mut had = 0;
                masks(lo, hi, |i, m| {
                    had += u64::from((w[i] & m).count_ones());
                    w[i] &= !m;
                });
                page.settle();
                had
            }
        })
    }

    /// Sets the numbers from `first` on from a bitmap, least significant bit
    /// first (as `$Bitmap` has them). `first` is a multiple of 64.
    pub fn load_bitmap(&mut self, first: u64, bits: &[u8]) {
        debug_assert_eq!(first % 64, 0);
        let mut n = first;
        let mut rest = bits;
        while !rest.is_empty() && n < self.limit {
            let in_page = (n & (PAGE - 1)) as usize;
            let take = rest.len().min((PAGE as usize - in_page) / 8);
            let (now, later) = rest.split_at(take);
            rest = later;
            let at = n;
            n += take as u64 * 8;
            if now.iter().all(|&b| b == 0) {
                continue;
            }
            let page = &mut self.pages[(at >> PAGE_BITS) as usize];
            if matches!(page, Page::All) {
                continue;
            }
            let w = page.words();
            for (k, eight) in now.chunks(8).enumerate() {
                let mut b = [0; 8];
                b[..eight.len()].copy_from_slice(eight);
                w[in_page / 64 + k] |= u64::from_le_bytes(b);
            }
            page.settle();
        }
        // Bits behind the limit have no meaning.
        let end = self.pages.len() as u64 * PAGE;
        if n > self.limit && self.limit < end {
            let (limit, last) = (self.limit, self.pages.len() - 1);
            let page = &mut self.pages[last];
            let w = page.words();
            masks((limit & (PAGE - 1)) as usize, PAGE as usize, |i, m| {
                w[i] &= !m
            });
            page.settle();
        }
    }

    /// Adds every number of `other` that is below this set's limit.
    pub fn union(&mut self, other: &ClusterSet) {
        if other.limit > self.limit {
            for r in other.runs(0..self.limit) {
                self.insert(r);
            }
            return;
        }
        for (i, (mine, theirs)) in self.pages.iter_mut().zip(&other.pages).enumerate() {
            match theirs {
                Page::None => {}
                // A last page that is full may be shorter over there.
                Page::All if (i as u64 + 1) * PAGE <= other.limit => *mine = Page::All,
                Page::All => {
                    let w = mine.words();
                    masks(0, (other.limit - i as u64 * PAGE) as usize, |k, m| {
                        w[k] |= m
                    });
                    mine.settle();
                }
                Page::Some(t) if !matches!(mine, Page::All) => {
                    let w = mine.words();
                    w.iter_mut().zip(t.iter()).for_each(|(a, b)| *a |= b);
                    mine.settle();
                }
                Page::Some(_) => {}
            }
        }
    }

    /// The numbers that are in this set and not in `other`.
    pub fn without(&self, other: &ClusterSet) -> ClusterSet {
        let mut left = ClusterSet::new(self.limit);
        for (i, mine) in self.pages.iter().enumerate() {
            left.pages[i] = match (mine, other.pages.get(i).unwrap_or(&Page::None)) {
                (Page::None, _) | (_, Page::All) if (i as u64 + 1) * PAGE <= other.limit => {
                    Page::None
                }
                (Page::None, _) => Page::None,
                (mine, Page::None) => mine.clone(),
                (mine, _) => {
                    // Also a last page that is full over there, but shorter than ours.
                    let mut page = mine.clone();
                    let first = i as u64 * PAGE;
                    let w = page.words();
                    for r in other.runs(first..first + PAGE) {
                        masks(
                            (r.start - first) as usize,
                            (r.end - first) as usize,
                            |k, m| w[k] &= !m,
                        );
                    }
                    page.settle();
                    page
                }
            };
        }
        left
    }

    /// How many numbers are in the set.
    pub fn count(&self) -> u64 {
        let last = self.pages.len().saturating_sub(1);
        self.pages
            .iter()
            .enumerate()
            .map(|(i, p)| match p {
                Page::None => 0,
                Page::All if i == last => self.limit - (last as u64 * PAGE),
                Page::All => PAGE,
                Page::Some(w) => w.iter().map(|w| u64::from(w.count_ones())).sum(),
            })
            .sum()
    }

    /// How many numbers of `range` are in the set.
    pub fn count_in(&self, range: Range<u64>) -> u64 {
        self.runs(range).map(|r| r.end - r.start).sum()
    }

    /// The longest runs of neighbours inside `range`, in order.
    pub fn runs(&self, range: Range<u64>) -> Runs<'_> {
        Runs {
            set: self,
            at: range.start,
            end: range.end.min(self.limit),
        }
    }

    /// First number at or behind `from` whose membership is `wanted`, else `end`.
    fn find(&self, from: u64, end: u64, wanted: bool) -> u64 {
        let mut n = from;
        while n < end {
            let page_end = ((n >> PAGE_BITS) + 1) << PAGE_BITS;
            match &self.pages[(n >> PAGE_BITS) as usize] {
                Page::None if wanted => n = page_end,
                Page::All if !wanted => n = page_end,
                Page::None | Page::All => return n,
                Page::Some(w) => {
                    let mut i = ((n & (PAGE - 1)) >> 6) as usize;
                    let mut skip = n & 63;
                    while i < WORDS {
                        let word = if wanted { w[i] } else { !w[i] } >> skip << skip;
                        if word != 0 {
                            let base = (n >> PAGE_BITS) << PAGE_BITS;
                            let hit = base + i as u64 * 64 + u64::from(word.trailing_zeros());
                            return hit.min(end);
                        }
                        skip = 0;
                        i += 1;
                    }
                    n = page_end;
                }
            }
        }
        end
    }

    fn each_page(
        &mut self,
        range: Range<u64>,
        mut f: impl FnMut(&mut Page, usize, usize) -> u64,
    ) -> u64 {
        let end = range.end.min(self.limit);
        let mut n = range.start;
        let mut sum = 0;
        while n < end {
            let page = (n >> PAGE_BITS) as usize;
            let page_start = (n >> PAGE_BITS) << PAGE_BITS;
            let lo = (n - page_start) as usize;
            let hi = (end - page_start).min(PAGE) as usize;
            sum += f(&mut self.pages[page], lo, hi);
            n = page_start + hi as u64;
        }
        sum
    }
}

impl Page {
    fn words(&mut self) -> &mut [u64; WORDS] {
        match self {
            Page::None => *self = Page::Some(Box::new([0; WORDS])),
            Page::All => *self = Page::Some(Box::new([u64::MAX; WORDS])),
            Page::Some(_) => {}
        }
        match self {
            Page::Some(w) => w,
            Page::None | Page::All => unreachable!("made a bitmap above"),
        }
    }

    /// Back to one word when every bit is the same.
    fn settle(&mut self) {
        if let Page::Some(w) = self {
            let first = w[0];
            if (first == 0 || first == u64::MAX) && w.iter().all(|&x| x == first) {
                *self = if first == 0 { Page::None } else { Page::All };
            }
        }
    }
}

fn masks(lo: usize, hi: usize, mut f: impl FnMut(usize, u64)) {
    let mut n = lo;
    while n < hi {
        let i = n >> 6;
        let from = n & 63;
        let to = (hi - (i << 6)).min(64);
        let m = (u64::MAX << from) & (u64::MAX >> (64 - to));
        f(i, m);
        n = (i + 1) << 6;
    }
}

/// Iterator of [`ClusterSet::runs`].
pub struct Runs<'a> {
    set: &'a ClusterSet,
    at: u64,
    end: u64,
}

impl Iterator for Runs<'_> {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        let start = self.set.find(self.at, self.end, true);
        if start >= self.end {
            self.at = self.end;
            return None;
        }
        let stop = self.set.find(start, self.end, false);
        self.at = stop;
        Some(start..stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_plain_set(
            limit in 1u64..200_000,
            steps in prop::collection::vec((any::<bool>(), 0u64..210_000, 0u64..70_000), 0..12),
            window in (0u64..210_000, 0u64..210_000),
        ) {
            let mut set = ClusterSet::new(limit);
            let mut plain = BTreeSet::new();
            for (add, from, len) in steps {
                let r = from..from + len;
                let had = plain.range(r.clone()).count() as u64;
                if add {
                    prop_assert_eq!(set.insert(r.clone()), had);
                    plain.extend(r.filter(|&n| n < limit));
                } else {
                    prop_assert_eq!(set.remove(r.clone()), had);
                    plain.retain(|n| !r.contains(n));
                }
            }
            prop_assert_eq!(set.count(), plain.len() as u64);
            let w = window.0.min(window.1)..window.0.max(window.1);
            let got: Vec<u64> = set.runs(w.clone()).flatten().collect();
            let want: Vec<u64> = plain.range(w).copied().collect();
            prop_assert_eq!(got, want);
        }

        #[test]
        fn loads_a_bitmap(limit in 1u64..140_000, bytes in prop::collection::vec(
            prop_oneof![Just(0u8), Just(255u8), any::<u8>()], 0..20_000)) {
            let mut set = ClusterSet::new(limit);
            set.load_bitmap(0, &bytes);
            let want: Vec<u64> = (0..limit.min(bytes.len() as u64 * 8))
                .filter(|n| bytes[(n / 8) as usize] >> (n % 8) & 1 == 1).collect();
            prop_assert_eq!(set.count(), want.len() as u64);
            let got: Vec<u64> = set.runs(0..u64::MAX).flatten().collect();
            prop_assert_eq!(got, want);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn union_and_difference(
            limits in (1u64..200_000, 1u64..200_000),
            a in prop::collection::vec((0u64..210_000, 0u64..70_000), 0..8),
            b in prop::collection::vec((0u64..210_000, 0u64..70_000), 0..8),
        ) {
            let make = |limit, runs: Vec<(u64, u64)>| {
                let mut set = ClusterSet::new(limit);
                let mut plain = BTreeSet::new();
                for (from, len) in runs {
                    set.insert(from..from + len);
                    plain.extend((from..from + len).filter(|&n| n < limit));
                }
                (set, plain)
            };
            let ((mut a, plain_a), (b, plain_b)) = (make(limits.0, a), make(limits.1, b));
            let left: Vec<u64> = a.without(&b).runs(0..u64::MAX).flatten().collect();
            prop_assert_eq!(left, plain_a.difference(&plain_b).copied().collect::<Vec<_>>());
            a.union(&b);
            let both: Vec<u64> = a.runs(0..u64::MAX).flatten().collect();
            let want: Vec<u64> = plain_a.union(&plain_b).copied().filter(|&n| n < limits.0).collect();
            prop_assert_eq!(a.count(), want.len() as u64);
            prop_assert_eq!(both, want);
        }
    }

    #[test]
    fn a_huge_uniform_set_is_small() {
        let mut set = ClusterSet::new(1 << 36);
        set.insert(0..1 << 36);
        set.remove(5..6);
        assert_eq!(set.count(), (1 << 36) - 1);
        assert_eq!(set.runs(0..u64::MAX).count(), 2);
    }
}
