//! Counting for drives that cannot tell where they stand.
//!
//! Everything that passes is counted from the beginning of the cartridge. What
//! was passed once is remembered as far as filemarks go, so that the way there is
//! over filemarks as far as they reach, and only the rest of it is read.

use crate::error::{Error, Result};

/// More filemarks than any cartridge of ours has.
const MOST_MARKS: usize = 1 << 16;
/// More objects than fit on a cartridge: a drive that goes on giving blocks
/// does not hold us for ever.
const MOST_OBJECTS: u64 = 1 << 33;

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Blind {
    at: u64,
    /// Objects before this one were all passed.
    seen: u64,
    /// Object numbers of the filemarks among them, ascending.
    marks: Vec<u64>,
    /// `seen` is the end of data.
    ended: bool,
}

impl Blind {
    /// Objects before the present place.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Filemarks before the present place.
    pub fn files(&self) -> u64 {
        self.before() as u64
    }

    fn before(&self) -> usize {
        self.marks.partition_point(|&m| m < self.at)
    }

    /// Nothing is known any more but that it stands at the beginning.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// At the beginning.
    pub fn rewound(&mut self) {
        self.at = 0;
    }

    /// An object was read.
    pub fn passed(&mut self, mark: bool) -> Result<()> {
        if self.at >= self.seen {
            if mark {
                self.marks.push(self.at);
            }
            self.seen = self.at.saturating_add(1);
        }
        self.at = self.at.saturating_add(1);
        if self.marks.len() > MOST_MARKS || self.at > MOST_OBJECTS {
            return Err(Error::damaged(format!(
                "The cartridge goes on after {} objects and {} filemarks",
                self.at,
                self.marks.len()
            )));
        }
        Ok(())
    }

    /// The end of data is here.
    pub fn met_end(&mut self) {
        self.seen = self.at;
        self.marks.truncate(self.before());
        self.ended = true;
    }

    /// Objects were written; what stood behind is gone.
    pub fn wrote(&mut self, count: u64, mark: bool) {
        self.marks.truncate(self.before());
        if mark {
            self.marks
                .extend((0..count).map(|i| self.at.saturating_add(i)));
        }
        self.at = self.at.saturating_add(count);
        self.seen = self.at;
        self.ended = true;
    }

    /// The end of data, where it is known.
    pub fn end(&self) -> Option<u64> {
        self.ended.then_some(self.seen)
    }

    /// As far as everything was passed.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// How many filemarks lie between here and `object`, which is not before
    /// it, and the place behind the last of them.
    pub fn marks_until(&self, object: u64) -> Option<(u64, u64)> {
        let (from, to) = (self.before(), self.marks.partition_point(|&m| m < object));
        let last = self.marks.get(from..to)?.last()?;
        Some(((to - from) as u64, last + 1))
    }

    /// Where the `n`th filemark behind here (from 1) leads, if it was passed.
    pub fn ahead(&self, n: u64) -> Option<u64> {
        let i = usize::try_from(n).ok()?.checked_sub(1)?;
        Some(self.marks.get(self.before().checked_add(i)?)? + 1)
    }

    /// The place before the `n`th filemark back from here.
    pub fn back(&self, n: u64) -> Option<u64> {
        let i = self.before().checked_sub(usize::try_from(n).ok()?)?;
        self.marks.get(i).copied()
    }

    /// The drive was told to go there.
    pub fn went(&mut self, object: u64) {
        self.at = object;
    }
}
