//! The data of a command on its way to the target: with the command, unasked
//! behind it, and in answer to R2Ts. Sequences and units come in order; what does
//! not is an error of the command, and error recovery level 0 knows no second try.

use crate::iscsi::negotiate::Params;
use crate::iscsi::pdu::{DataOut, NO_TAG};
use crate::scsi::{Sense, SenseKey};

/// A request for data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub ttt: u32,
    pub r2t_sn: u32,
    pub offset: usize,
    pub len: usize,
}

/// A sequence that is coming.
#[derive(Clone, Copy, Debug)]
struct Sequence {
    ttt: u32,
    next_sn: u32,
    /// Where it ends at most.
    end: usize,
}

/// What is to be done with a unit's data segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Keep it.
    Keep,
    /// Drop it: the command has failed already.
    Drop,
    /// Drop it, and reject the unit: it belongs to no sequence.
    Reject,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// More units of the sequence.
    More,
    /// An R2T has to go out.
    Ask(Wanted),
    /// Everything is there.
    Complete,
    /// It cannot be had any more.
    Failed(Box<Sense>),
}

/// The data of one command.
#[derive(Debug)]
pub struct Incoming {
    expected: usize,
    have: usize,
    sequence: Option<Sequence>,
    r2t_sn: u32,
    max_burst: usize,
    failed: Option<Box<Sense>>,
}

fn sense(asc: u8, ascq: u8) -> Box<Sense> {
    Box::new(Sense::new(SenseKey::AbortedCommand, asc, ascq))
}

impl Incoming {
    /// For a command that brings so many bytes itself; `last` is its F bit.
    pub fn new(params: &Params, expected: usize, immediate: usize, last: bool) -> Self {
        let mut s = Self {
            expected,
            have: immediate,
            sequence: None,
            r2t_sn: 0,
            max_burst: params.max_burst,
            failed: None,
        };
        if immediate > 0 && !params.immediate_data {
            s.failed = Some(sense(0x0c, 0x0c));
        } else if immediate > expected.min(params.first_burst) {
            s.failed = Some(sense(0x0c, 0x0d));
        } else if !last && !params.initial_r2t {
            s.sequence = Some(Sequence {
                ttt: NO_TAG,
                next_sn: 0,
                end: expected.min(params.first_burst),
            });
        }
        s
    }

    /// What comes next when no sequence is coming.
    pub fn next(&mut self, ttt: impl FnOnce() -> u32) -> Next {
        if self.sequence.is_some() {
            return Next::More;
        }
        if let Some(sense) = self.failed.take() {
            return Next::Failed(sense);
        }
        let left = self.expected.saturating_sub(self.have);
        if left == 0 {
            return Next::Complete;
        }
        let len = left.min(self.max_burst);
        let w = Wanted {
            ttt: ttt(),
            r2t_sn: self.r2t_sn,
            offset: self.have,
            len,
        };
        self.r2t_sn += 1;
        self.sequence = Some(Sequence {
            ttt: w.ttt,
            next_sn: 0,
            end: self.have + len,
        });
        Next::Ask(w)
    }

    /// Judges a unit with so many bytes.
    pub fn unit(&mut self, d: &DataOut, len: usize) -> Take {
        let Some(s) = self.sequence.as_mut().filter(|s| s.ttt == d.ttt) else {
            return Take::Reject;
        };
        let end = self.have + len;
        if self.failed.is_none() {
            if d.data_sn != s.next_sn {
                self.failed = Some(sense(0x47, 0x05));
            } else if d.offset as usize != self.have || end > s.end {
                self.failed = Some(sense(0x0c, 0x0d));
            }
        }
        s.next_sn = s.next_sn.wrapping_add(1);
        if self.failed.is_none() {
            self.have = end;
        }
        if d.last {
            // An R2T is answered in full; unasked data may be less than allowed.
            if self.have < s.end && s.ttt != NO_TAG && self.failed.is_none() {
                self.failed = Some(sense(0x0c, 0x0d));
            }
            self.sequence = None;
        } else if self.failed.is_none() && len == 0 {
            // A sequence of empty units would have no end.
            self.failed = Some(sense(0x47, 0x05));
        }
        match self.failed {
            Some(_) => Take::Drop,
            None => Take::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn params(initial_r2t: bool, immediate_data: bool) -> Params {
        Params {
            initial_r2t,
            immediate_data,
            first_burst: 2048,
            max_burst: 4096,
            ..Params::default()
        }
    }

    fn unit(ttt: u32, sn: u32, offset: usize, last: bool) -> DataOut {
        DataOut {
            last,
            ttt,
            data_sn: sn,
            offset: offset as u32,
            ..Default::default()
        }
    }

    #[test]
    fn a_long_write_is_asked_for_in_bursts() {
        let mut i = Incoming::new(&params(false, true), 10_000, 512, false);
        assert_eq!(i.next(|| 1), Next::More);
        assert_eq!(i.unit(&unit(NO_TAG, 0, 512, true), 1536), Take::Keep);
        let Next::Ask(w) = i.next(|| 7) else { panic!() };
        assert_eq!((w.ttt, w.r2t_sn, w.offset, w.len), (7, 0, 2048, 4096));
        assert_eq!(i.unit(&unit(7, 0, 2048, false), 4000), Take::Keep);
        assert_eq!(i.next(|| 8), Next::More);
        assert_eq!(i.unit(&unit(7, 1, 6048, true), 96), Take::Keep);
        let Next::Ask(w) = i.next(|| 8) else { panic!() };
        assert_eq!((w.r2t_sn, w.offset, w.len), (1, 6144, 3856));
        assert_eq!(i.unit(&unit(8, 0, 6144, true), 3856), Take::Keep);
        assert_eq!(i.next(|| 9), Next::Complete);
    }

    #[test]
    fn what_is_out_of_order_fails_at_the_end_of_its_sequence() {
        let mut i = Incoming::new(&params(true, false), 1024, 0, true);
        assert!(matches!(i.next(|| 1), Next::Ask(_)));
        assert_eq!(i.unit(&unit(1, 1, 0, false), 512), Take::Drop);
        assert_eq!(i.next(|| 2), Next::More);
        assert_eq!(i.unit(&unit(1, 0, 512, true), 512), Take::Drop);
        let Next::Failed(s) = i.next(|| 2) else {
            panic!()
        };
        assert_eq!((s.key, s.code()), (SenseKey::AbortedCommand, 0x4705));
    }

    #[test]
    fn wrong_tags_places_and_lengths_are_noticed() {
        let ask = || {
            let mut i = Incoming::new(&params(true, false), 1024, 0, true);
            assert!(matches!(i.next(|| 5), Next::Ask(_)));
            i
        };
        assert_eq!(ask().unit(&unit(6, 0, 0, true), 1024), Take::Reject);
        assert_eq!(ask().unit(&unit(NO_TAG, 0, 0, true), 1024), Take::Reject);
        for (offset, len) in [(512, 512), (0, 1025), (0, 512)] {
            let mut i = ask();
            assert_eq!(i.unit(&unit(5, 0, offset, true), len), Take::Drop);
            let Next::Failed(s) = i.next(|| 6) else {
                panic!()
            };
            assert_eq!(s.code(), 0x0c0d);
        }
        let mut i = Incoming::new(&params(true, false), 1024, 512, true);
        let Next::Failed(s) = i.next(|| 6) else {
            panic!()
        };
        assert_eq!(s.code(), 0x0c0c);
    }

    proptest! {
        /// Whatever a peer sends, no more is kept than was asked for.
        #[test]
        fn never_more_than_expected(
            expected in 0usize..20_000,
            immediate in 0usize..5000,
            flags: (bool, bool, bool),
            units in proptest::collection::vec((0u32..3, 0u32..3, 0usize..9000, any::<bool>(), 0usize..6000), 0..30),
        ) {
            let mut i = Incoming::new(&params(flags.0, flags.1), expected, immediate, flags.2);
            let mut kept = immediate;
            let mut over = false;
            for (ttt, sn, offset, last, len) in units {
                match i.next(|| 1) {
                    Next::Complete => {
                        prop_assert_eq!(kept, expected);
                        over = true;
                    }
                    Next::Failed(_) => over = true,
                    _ => {}
                }
                if over { break; }
                if i.unit(&unit(ttt, sn, offset, last), len) == Take::Keep {
                    kept += len;
                    prop_assert!(kept <= expected);
                }
            }
        }
    }
}
