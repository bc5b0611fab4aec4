//! Two witnesses for the same thing: a file record has a name, an object id or
//! a reparse point, and an index has an entry for it. What each says is put
//! into sums of keyed hashes by file; where all sums are zero both say the
//! same. So a million files take no more memory than ten.

use crate::units::FileRef;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// What is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// A name in a directory.
    Name,
    /// An object id, in `$ObjId:$O`.
    ObjectId,
    /// A reparse point, in `$Reparse:$R`.
    Reparse,
}

pub(super) const KINDS: [Kind; 3] = [Kind::Name, Kind::ObjectId, Kind::Reparse];

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Record,
    Index,
}

/// One claim about a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim<'a> {
    pub kind: Kind,
    pub side: Side,
    /// The file.
    pub child: FileRef,
    /// Of a name: the directory.
    pub parent: FileRef,
    /// Of a name: its name space.
    pub space: u8,
    /// The name in UTF-16, the object id, or the reparse tag.
    pub body: &'a [u8],
}

/// Buckets of each kind.
pub(super) const BUCKETS: usize = 1 << 16;

#[derive(Default)]
struct Bucket {
    sum: AtomicU64,
    /// Claims of records minus those of indexes.
    balance: AtomicI64,
    /// Claims of both.
    claims: AtomicU64,
}

/// The sums.
pub(super) struct Tally {
    hasher: RandomState,
    buckets: Vec<Bucket>,
}

impl Tally {
    pub fn new() -> Self {
        let mut buckets = Vec::new();
        buckets.resize_with(BUCKETS * KINDS.len(), Bucket::default);
        Self {
            hasher: RandomState::new(),
            buckets,
        }
    }

    /// The bucket of all claims of this kind about a file.
    pub fn bucket(kind: Kind, child: FileRef) -> usize {
        let n = child.record.0;
        kind as usize * BUCKETS + ((n ^ n >> 16 ^ n >> 32) as usize & (BUCKETS - 1))
    }

    pub fn add(&self, c: &Claim<'_>) {
        let mut h = self.hasher.build_hasher();
        c.child.hash(&mut h);
        c.parent.hash(&mut h);
        c.space.hash(&mut h);
        c.body.hash(&mut h);
        let hash = h.finish();
        let b = &self.buckets[Self::bucket(c.kind, c.child)];
        let (hash, one) = match c.side {
            Side::Record => (hash, 1),
            Side::Index => (hash.wrapping_neg(), -1),
        };
        b.sum.fetch_add(hash, Ordering::Relaxed);
        b.balance.fetch_add(one, Ordering::Relaxed);
        b.claims.fetch_add(1, Ordering::Relaxed);
    }

    /// The buckets in which the sides differ, and how many claims each has.
    pub fn differing(&self) -> Vec<(usize, u64)> {
        let get = |b: &Bucket| {
            let same = b.sum.load(Ordering::Relaxed) == 0 && b.balance.load(Ordering::Relaxed) == 0;
            (!same).then(|| b.claims.load(Ordering::Relaxed))
        };
        let all = self.buckets.iter().enumerate();
        all.filter_map(|(i, b)| Some((i, get(b)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::RecordNo;
    use proptest::prelude::*;

    fn claim(side: Side, n: u64, body: &[u8]) -> Claim<'_> {
        Claim {
            kind: Kind::Name,
            side,
            child: FileRef {
                record: RecordNo(n),
                sequence: 1,
            },
            parent: FileRef::default(),
            space: 1,
            body,
        }
    }

    proptest! {
        #[test]
        fn sums_are_zero_only_when_both_say_the_same(
            names in prop::collection::vec((0u64..50, "[ab]{0,2}"), 1..60),
            lost in any::<prop::sample::Index>(),
        ) {
            let tally = Tally::new();
            for (n, name) in &names {
                tally.add(&claim(Side::Record, *n, name.as_bytes()));
            }
            for (n, name) in names.iter().rev() {
                tally.add(&claim(Side::Index, *n, name.as_bytes()));
            }
            prop_assert!(tally.differing().is_empty());
            let (n, name) = &names[lost.index(names.len())];
            tally.add(&claim(Side::Record, *n, name.as_bytes()));
            tally.add(&claim(Side::Index, *n, b"another"));
            let c = claim(Side::Index, *n, b"");
            let found: Vec<usize> = tally.differing().iter().map(|d| d.0).collect();
            prop_assert_eq!(found, [Tally::bucket(Kind::Name, c.child)]);
        }
    }
}
