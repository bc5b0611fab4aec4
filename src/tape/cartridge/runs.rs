//! Where objects stand, in memory: runs of like objects without gaps.

use super::word::Object;
use crate::error::{Error, Result};

/// Most runs of a cartridge: 160 MiB of memory.
pub(super) const MAX_RUNS: usize = 4 << 20;

/// Most filemarks of a cartridge. They take no capacity, so this bounds them.
pub(super) const MAX_FILEMARKS: u64 = 1 << 20;

/// Like objects, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Offset of the first one in the file.
    pub offset: u64,
    /// Number of the first object.
    pub first: u64,
    /// Objects.
    pub count: u64,
    /// Filemarks in front of the run.
    pub marks: u64,
    /// Data bytes in front of the run.
    pub bytes: u64,
    /// What each one is.
    pub object: Object,
}

impl Run {
    /// Filemarks up to the end of the run.
    fn marks_behind(&self) -> u64 {
        match self.object {
            Object::Filemark => self.marks + self.count,
            _ => self.marks,
        }
    }

    fn bytes_behind(&self) -> u64 {
        self.bytes + self.count * u64::from(self.object.data_len())
    }

    /// Offset behind the last one.
    pub fn end(&self) -> u64 {
        self.offset + self.count * self.object.stride()
    }
}

/// One object found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub object: Object,
    pub offset: u64,
    /// Like objects from this one to the end of its run.
    pub left: u64,
    /// Filemarks in front.
    pub marks: u64,
    /// Data bytes in front.
    pub bytes: u64,
}

/// All objects of a cartridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs(Vec<Run>);

impl Runs {
    pub fn as_slice(&self) -> &[Run] {
        &self.0
    }

    /// Objects.
    pub fn objects(&self) -> u64 {
        self.0.last().map_or(0, |r| r.first + r.count)
    }

    /// Filemarks.
    pub fn marks(&self) -> u64 {
        self.0.last().map_or(0, Run::marks_behind)
    }

    /// Data bytes.
    pub fn bytes(&self) -> u64 {
        self.0.last().map_or(0, Run::bytes_behind)
    }

    /// Offset behind the last object.
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, Run::end)
    }

    /// True when another run of blocks can be added.
    pub fn has_room(&self) -> bool {
        self.0.len() < MAX_RUNS
    }

    /// Adds `count` objects that stand at `offset`.
    pub fn push(&mut self, offset: u64, object: Object, count: u64) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        let overflow = || Error::damaged("More objects than a cartridge can hold");
        let bytes = count
            .checked_mul(object.stride())
            .and_then(|b| offset.checked_add(b));
        if bytes.is_none_or(|end| end > i64::MAX as u64) {
            return Err(overflow());
        }
        if object == Object::Filemark && self.marks() + count > MAX_FILEMARKS {
            return Err(Error::damaged(format!(
                "More than {MAX_FILEMARKS} filemarks, which no cartridge has"
            ))
            .hint("the file is not a tape image in SIMH form: zeros are filemarks there"));
        }
        if let Some(last) = self.0.last_mut()
            && last.object == object
            && last.end() == offset
        {
            last.count += count;
            return Ok(());
        }
        if !self.has_room() {
            return Err(Error::unsupported(format!(
                "The length of blocks changes more than {MAX_RUNS} times"
            )));
        }
        if offset < self.end() {
            return Err(Error::damaged("Objects overlap"));
        }
        let run = Run {
            offset,
            first: self.objects(),
            count,
            marks: self.marks(),
            bytes: self.bytes(),
            object,
        };
        self.0.push(run);
        Ok(())
    }

    /// The object of this number, none behind the last one.
    pub fn at(&self, number: u64) -> Option<Found> {
        let i = self.0.partition_point(|r| r.first + r.count <= number);
        let r = self.0.get(i)?;
        let n = number - r.first;
        Some(Found {
            object: r.object,
            offset: r.offset + n * r.object.stride(),
            left: r.count - n,
            marks: match r.object {
                Object::Filemark => r.marks + n,
                _ => r.marks,
            },
            bytes: r.bytes + n * u64::from(r.object.data_len()),
        })
    }

    /// Filemarks in front of the object of this number (or of the end).
    pub fn marks_before(&self, number: u64) -> u64 {
        self.at(number).map_or(self.marks(), |f| f.marks)
    }

    /// Data bytes in front of the object of this number (or of the end).
    pub fn bytes_before(&self, number: u64) -> u64 {
        self.at(number).map_or(self.bytes(), |f| f.bytes)
    }

    /// Number of the object that is filemark `mark`, counted from 0.
    pub fn filemark(&self, mark: u64) -> Option<u64> {
        let i = self.0.partition_point(|r| r.marks_behind() <= mark);
        let r = self.0.get(i)?;
        Some(r.first + (mark - r.marks))
    }

    /// First run of at least `count` filemarks without a block between them, at
    /// or behind object `from`: number of its first filemark there.
    pub fn filemarks_together(&self, from: u64, count: u64) -> Option<u64> {
        let i = self.0.partition_point(|r| r.first + r.count <= from);
        // Marks with an erase gap between them are two runs, but together.
        let (mut begin, mut have) = (0, 0);
        for r in self.0.get(i..)? {
            if r.object != Object::Filemark {
                have = 0;
                continue;
            }
            if have == 0 {
                begin = r.first.max(from);
            }
            have += r.first + r.count - r.first.max(from);
            if have >= count {
                return Some(begin);
            }
        }
        None
    }

    /// As [`Runs::filemarks_together`], backwards from in front of object
    /// `until`: number of the object behind its last filemark there.
    pub fn filemarks_together_before(&self, until: u64, count: u64) -> Option<u64> {
        let i = self.0.partition_point(|r| r.first < until);
        let (mut end, mut have) = (0, 0);
        for r in self.0.get(..i)?.iter().rev() {
            if r.object != Object::Filemark {
                have = 0;
                continue;
            }
            let stop = (r.first + r.count).min(until);
            if have == 0 {
                end = stop;
            }
            have += stop - r.first;
            if have >= count {
                return Some(end);
            }
        }
        None
    }

    /// Forgets object `number` and everything behind it.
    pub fn truncate(&mut self, number: u64) {
        let keep = self.0.partition_point(|r| r.first < number);
        self.0.truncate(keep);
        if let Some(last) = self.0.last_mut() {
            last.count = last.count.min(number - last.first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Runs {
        let mut r = Runs::default();
        r.push(0, Object::Block(10), 3).unwrap(); // 0 1 2
        r.push(54, Object::Filemark, 2).unwrap(); // 3 4
        r.push(62, Object::Block(7), 1).unwrap(); // 5
        r.push(78, Object::Filemark, 1).unwrap(); // 6
        r
    }

    #[test]
    fn sums_and_places() {
        let r = sample();
        assert_eq!((r.objects(), r.marks(), r.bytes(), r.end()), (7, 3, 37, 82));
        let f = r.at(2).unwrap();
        assert_eq!((f.offset, f.left, f.bytes, f.marks), (36, 1, 20, 0));
        assert_eq!(r.at(4).unwrap().marks, 1);
        assert_eq!(r.at(7), None);
        assert_eq!(r.filemark(0), Some(3));
        assert_eq!(r.filemark(1), Some(4));
        assert_eq!(r.filemark(2), Some(6));
        assert_eq!(r.filemark(3), None);
        assert_eq!(r.filemarks_together(0, 2), Some(3));
        assert_eq!(r.filemarks_together(4, 2), None);
        assert_eq!(r.filemarks_together(4, 1), Some(4));
        assert_eq!(r.filemarks_together_before(7, 1), Some(7));
        assert_eq!(r.filemarks_together_before(7, 2), Some(5));
        assert_eq!(r.filemarks_together_before(4, 2), None);
    }

    #[test]
    fn like_objects_are_one_run() {
        let mut r = Runs::default();
        for i in 0..1000 {
            r.push(i * 18, Object::Block(10), 1).unwrap();
        }
        assert_eq!(r.as_slice().len(), 1);
        r.truncate(500);
        assert_eq!((r.objects(), r.end()), (500, 9000));
        r.truncate(0);
        assert_eq!(r, Runs::default());
    }

    #[test]
    fn impossible_objects_are_refused() {
        let mut r = sample();
        assert!(r.push(10, Object::Filemark, 1).is_err());
        assert!(r.push(82, Object::Block(10), u64::MAX).is_err());
        assert!(r.push(82, Object::Filemark, MAX_FILEMARKS).is_err());
        assert!(r.push(u64::MAX - 3, Object::Filemark, 1).is_err());
    }
}
