//! Mapping pairs: where the clusters of a non-resident attribute lie.
//!
//! Each pair begins with a byte whose low half is the width of the length and
//! whose high half is the width of the place, both in bytes; the place is the
//! signed distance from the previous run that had one. Width 0 of the place is
//! a hole. A zero byte ends the list. (Linux-NTFS documentation, "Data Runs".)

use super::fault::{Fault, FaultKind};
use crate::units::{Clusters, Extent, Lcn, Place, Vcn};

/// What can be wrong with mapping pairs; its offset counts from their first byte.
pub type RunsFault = Fault;

/// Reads mapping pairs one by one; allocates nothing; ends after a fault.
#[derive(Clone, Debug)]
pub struct RunIter<'a> {
    bytes: &'a [u8],
    at: usize,
    vcn: u64,
    lcn: i64,
    done: bool,
}

impl<'a> RunIter<'a> {
    /// The runs of `bytes`, the first of which begins at `first_vcn`.
    #[inline]
    pub fn new(bytes: &'a [u8], first_vcn: Vcn) -> Self {
        Self {
            bytes,
            at: 0,
            vcn: first_vcn.0,
            lcn: 0,
            done: false,
        }
    }

    /// VCN behind the last run that was read.
    pub fn next_vcn(&self) -> Vcn {
        Vcn(self.vcn)
    }

    #[cold]
    fn fail(
        &mut self,
        kind: FaultKind,
        found: u64,
        expected: u64,
    ) -> Option<Result<Extent, RunsFault>> {
        self.done = true;
        Some(Err(Fault::new(kind, self.at, found, expected)))
    }
}

impl Iterator for RunIter<'_> {
    type Item = Result<Extent, RunsFault>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let rest = &self.bytes[self.at..];
        let Some(&head) = rest.first() else {
            return self.fail(
                FaultKind::RunsEnd,
                self.bytes.len() as u64,
                self.bytes.len() as u64 + 1,
            );
        };
        if head == 0 {
            self.done = true;
            return None;
        }
        let (len_width, lcn_width) = (usize::from(head & 15), usize::from(head >> 4));
        if len_width == 0 || len_width > 8 || lcn_width > 8 {
            return self.fail(FaultKind::RunHeader, u64::from(head), 0x88);
        }
        let width = 1 + len_width + lcn_width;
        if rest.len() < width {
            return self.fail(FaultKind::RunsEnd, rest.len() as u64, width as u64);
        }
        let len = signed(&rest[1..], len_width);
        if len <= 0 {
            return self.fail(FaultKind::RunLength, len as u64, i64::MAX as u64);
        }
        let end = match (len as u64).checked_add(self.vcn) {
            Some(end) if end <= i64::MAX as u64 => end,
            _ => return self.fail(FaultKind::RunRange, self.vcn, i64::MAX as u64),
        };
        let place = if lcn_width == 0 {
            Place::Hole
        } else {
            let step = signed(&rest[1 + len_width..], lcn_width);
            match self.lcn.checked_add(step) {
                Some(lcn) if lcn >= 0 && lcn.checked_add(len).is_some() => {
                    self.lcn = lcn;
                    Place::At(Lcn(lcn as u64))
                }
                Some(lcn) => return self.fail(FaultKind::RunRange, lcn as u64, i64::MAX as u64),
                None => return self.fail(FaultKind::RunRange, step as u64, i64::MAX as u64),
            }
        };
        let extent = Extent {
            vcn: Vcn(self.vcn),
            place,
            len: Clusters(len as u64),
        };
        self.vcn = end;
        self.at += width;
        Some(Ok(extent))
    }
}

/// `width` bytes (1 to 8) as a signed little-endian number.
#[inline]
fn signed(bytes: &[u8], width: usize) -> i64 {
    let raw = match bytes.first_chunk::<8>() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => {
            let mut b = [0u8; 8];
            b[..width].copy_from_slice(&bytes[..width]);
            u64::from_le_bytes(b)
        }
    };
    let shift = 64 - 8 * width as u32;
    ((raw << shift) as i64) >> shift
}

/// Appends the runs of `bytes` to `out`. What stands before a fault is kept.
pub fn decode_runs(bytes: &[u8], first_vcn: Vcn, out: &mut Vec<Extent>) -> Result<(), RunsFault> {
    for run in RunIter::new(bytes, first_vcn) {
        out.push(run?);
    }
    Ok(())
}

/// Writes extents as mapping pairs in the shortest form, with the zero byte.
/// They must follow each other without gaps.
pub fn encode_runs(extents: &[Extent]) -> Vec<u8> {
    let mut out = Vec::with_capacity(extents.len() * 6 + 1);
    let mut base = 0i64;
    for e in extents {
        let head = out.len();
        out.push(0);
        let len_width = push_signed(&mut out, e.len.0 as i64);
        let lcn_width = match e.place {
            Place::Hole => 0,
            Place::At(lcn) => {
                let step = (lcn.0 as i64).wrapping_sub(base);
                base = lcn.0 as i64;
                push_signed(&mut out, step)
            }
        };
        out[head] = lcn_width << 4 | len_width;
    }
    out.push(0);
    out
}

fn push_signed(out: &mut Vec<u8>, v: i64) -> u8 {
    let bits = 65
        - if v < 0 {
            (!v).leading_zeros()
        } else {
            v.leading_zeros()
        };
    let width = bits.div_ceil(8) as usize;
    out.extend_from_slice(&v.to_le_bytes()[..width]);
    width as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(vcn: u64, lcn: u64, len: u64) -> Extent {
        Extent {
            vcn: Vcn(vcn),
            place: Place::At(Lcn(lcn)),
            len: Clusters(len),
        }
    }
    fn hole(vcn: u64, len: u64) -> Extent {
        Extent {
            vcn: Vcn(vcn),
            place: Place::Hole,
            len: Clusters(len),
        }
    }
    fn decode(bytes: &[u8]) -> (Vec<Extent>, Result<(), RunsFault>) {
        let mut out = Vec::new();
        let r = decode_runs(bytes, Vcn(0), &mut out);
        (out, r)
    }

    #[test]
    fn the_example_of_the_documentation() {
        let (runs, r) = decode(&[0x21, 0x18, 0x34, 0x56, 0]);
        assert_eq!((runs, r), (vec![at(0, 0x5634, 0x18)], Ok(())));
    }

    #[test]
    fn a_run_after_a_hole_counts_from_the_last_real_one() {
        let extents = [
            at(0, 100, 4),
            hole(4, 3),
            at(7, 90, 2),
            hole(9, 1),
            at(10, 95, 1),
        ];
        let bytes = encode_runs(&extents);
        assert_eq!(
            bytes,
            [0x11, 4, 100, 0x01, 3, 0x11, 2, 0xf6, 0x01, 1, 0x11, 1, 5, 0]
        );
        assert_eq!(decode(&bytes), (extents.to_vec(), Ok(())));
    }

    #[test]
    fn lengths_are_signed_and_get_a_byte_more_when_they_need_it() {
        let bytes = encode_runs(&[at(0, 1, 0x80)]);
        assert_eq!(bytes, [0x12, 0x80, 0, 1, 0]);
        assert_eq!(
            decode(&[0x11, 0x80, 1, 0]).1.unwrap_err().kind,
            FaultKind::RunLength
        );
    }

    #[test]
    fn each_fault_keeps_what_stood_before_it() {
        use FaultKind::*;
        let cases: [(&[u8], FaultKind); 9] = [
            (&[], RunsEnd),
            (&[0x11, 4], RunsEnd),
            (&[0x11, 0, 5, 0], RunLength),
            (&[0x10, 5, 0], RunHeader),
            (&[0x19, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0], RunHeader),
            (&[0x91, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0], RunHeader),
            (&[0x11, 1, 0x80, 0], RunRange),
            (
                &[0x81, 2, 255, 255, 255, 255, 255, 255, 255, 127, 0],
                RunRange,
            ),
            (&[0x08, 255, 255, 255, 255, 255, 255, 255, 127, 0], RunRange),
        ];
        for (tail, kind) in cases {
            let mut bytes = vec![0x11, 4, 10];
            bytes.extend_from_slice(tail);
            let (runs, r) = decode(&bytes);
            assert_eq!(runs, [at(0, 10, 4)], "{tail:x?}");
            let fault = r.unwrap_err();
            assert_eq!((fault.kind, fault.offset), (kind, 3), "{tail:x?}");
        }
    }

    fn extents() -> impl Strategy<Value = Vec<Extent>> {
        let run = (prop::option::of(0u64..1 << 62), 1u64..1 << 56);
        prop::collection::vec(run, 0..40).prop_map(|runs| {
            let mut vcn = 0;
            let each = runs.into_iter().map(|(lcn, len)| {
                let e = match lcn {
                    Some(lcn) => at(vcn, lcn, len),
                    None => hole(vcn, len),
                };
                vcn += len;
                e
            });
            each.collect()
        })
    }

    proptest! {
        #[test]
        fn round_trip(extents in extents()) {
            prop_assert_eq!(decode(&encode_runs(&extents)), (extents, Ok(())));
        }

        #[test]
        fn any_bytes_end_without_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200), first in any::<u64>()) {
            let mut vcn = first;
            for run in RunIter::new(&bytes, Vcn(first)).flatten() {
                prop_assert_eq!(run.vcn.0, vcn);
                prop_assert!(run.len.0 > 0);
                vcn += run.len.0;
                prop_assert!(vcn <= i64::MAX as u64);
            }
        }
    }
}
