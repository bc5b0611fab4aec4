//! Moving without data: LOCATE and SPACE.

use super::word::Object;
use super::{Cartridge, Position};

/// How a movement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// As asked.
    Done,
    /// Spacing over blocks met a filemark and stands beyond it; so many were
    /// left to do.
    Filemark(u64),
    /// At the end of data; so many were left to do.
    EndOfData(u64),
    /// At the beginning; so many were left to do.
    Beginning(u64),
}

impl Cartridge {
    fn go(&mut self, object: u64) {
        self.position = Position {
            object,
            file: self.runs.marks_before(object),
        };
    }

    /// To the beginning.
    pub fn rewind(&mut self) {
        self.go(0);
    }

    /// To the end of data.
    pub fn to_end(&mut self) {
        self.go(self.runs.objects());
    }

    /// To an object, or to the end of data when there is no such one.
    pub fn locate(&mut self, object: u64) -> Moved {
        let end = self.runs.objects();
        self.go(object.min(end));
        match object.checked_sub(end) {
            None | Some(0) => Moved::Done,
            Some(n) => Moved::EndOfData(n),
        }
    }

    /// To the beginning of a tape file: behind so many filemarks.
    pub fn locate_file(&mut self, file: u64) -> Moved {
        let Some(mark) = file.checked_sub(1) else {
            self.rewind();
            return Moved::Done;
        };
        match self.runs.filemark(mark) {
            Some(object) => {
                self.go(object + 1);
                Moved::Done
            }
            None => {
                let left = file - self.runs.marks();
                self.to_end();
                Moved::EndOfData(left)
            }
        }
    }

    /// Over blocks, forwards or (negative) backwards. A filemark ends it, with
    /// the position on its other side.
    pub fn space_blocks(&mut self, count: i64) -> Moved {
        let here = self.position;
        let n = count.unsigned_abs();
        if count >= 0 {
            let mark = self.runs.filemark(here.file);
            let limit = mark.unwrap_or(self.runs.objects());
            let there = limit - here.object;
            if n <= there {
                self.go(here.object + n);
                return Moved::Done;
            }
            let left = n - there;
            if mark.is_some() {
                self.go(limit + 1);
                Moved::Filemark(left)
            } else {
                self.to_end();
                Moved::EndOfData(left)
            }
        } else {
            // The last filemark in front, if any.
            let mark = here.file.checked_sub(1).and_then(|m| self.runs.filemark(m));
            let there = here.object - mark.map_or(0, |m| m + 1);
            if n <= there {
                self.go(here.object - n);
                return Moved::Done;
            }
            let left = n - there;
            match mark {
                Some(m) => {
                    self.go(m);
                    Moved::Filemark(left)
                }
                None => {
                    self.rewind();
                    Moved::Beginning(left)
                }
            }
        }
    }

    /// Over filemarks: forwards to behind the last one, backwards to in front
    /// of it.
    pub fn space_filemarks(&mut self, count: i64) -> Moved {
        let here = self.position.file;
        let n = count.unsigned_abs();
        if n == 0 {
            return Moved::Done;
        }
        if count > 0 {
            let target = here.checked_add(n);
            match target.and_then(|t| self.runs.filemark(t - 1)) {
                Some(object) => {
                    self.go(object + 1);
                    Moved::Done
                }
                None => {
                    let left = n - (self.runs.marks() - here);
                    self.to_end();
                    Moved::EndOfData(left)
                }
            }
        } else {
            match here.checked_sub(n).and_then(|m| self.runs.filemark(m)) {
                Some(object) => {
                    self.go(object);
                    Moved::Done
                }
                None => {
                    self.rewind();
                    Moved::Beginning(n - here)
                }
            }
        }
    }

    /// To the next (or, negative, previous) place where so many filemarks
    /// follow each other: behind (in front of) the last of them.
    pub fn space_sequential_filemarks(&mut self, count: i64) -> Moved {
        let n = count.unsigned_abs();
        let here = self.position.object;
        if n == 0 {
            return Moved::Done;
        }
        if count > 0 {
            match self.runs.filemarks_together(here, n) {
                Some(first) => {
                    self.go(first + n);
                    Moved::Done
                }
                None => {
                    self.to_end();
                    Moved::EndOfData(n)
                }
            }
        } else {
            match self.runs.filemarks_together_before(here, n) {
                Some(end) => {
                    self.go(end - n);
                    Moved::Done
                }
                None => {
                    self.rewind();
                    Moved::Beginning(n)
                }
            }
        }
    }

    /// The object at the position, and how many like it are there in a row; none
    /// at the end of data.
    pub fn here(&self) -> Option<(Object, u64)> {
        self.runs
            .at(self.position.object)
            .map(|f| (f.object, f.left))
    }
}
