//! Changing file records in place: pure functions over their bytes.

use crate::units::{Clusters, Extent, Place, RecordNo, Vcn};
use crate::volume::attr::{Attribute, Form, u16_at};
use crate::volume::fault::{Fault, FaultKind};
use crate::volume::record::{RecordView, STRIDE};
use crate::volume::runs::encode_runs;

/// What became of one attribute.
pub(super) enum Edit {
    /// It stays as it is.
    Keep,
    /// These bytes instead; their length is a multiple of 8.
    Replace(Vec<u8>),
}

/// The record has no room for what it should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

/// Checks everything in a record that changing it relies on: each attribute,
/// each mapping pair, clusters inside the volume.
pub(super) fn examine(view: &RecordView<'_>, total: u64) -> Result<(), Fault> {
    let bytes = view.bytes();
    let sequence_end = usize::from(u16_at(bytes, 4)) + 2 * usize::from(u16_at(bytes, 6));
    let first = usize::from(u16_at(bytes, 0x14));
    if first < sequence_end {
        return Err(Fault::new(
            FaultKind::FirstAttribute,
            0x14,
            first as u64,
            sequence_end as u64,
        ));
    }
    for a in view.attributes() {
        let a = a?;
        if let Form::NonResident(n) = a.form {
            let at = (a.offset + a.length) as usize - n.mapping_pairs.len();
            let raw = &bytes[a.offset as usize..(a.offset + a.length) as usize];
            let name_end = usize::from(u16_at(raw, 0x0a)) + a.name.len();
            if !a.name.is_empty() && name_end > raw.len() - n.mapping_pairs.len() {
                let fault = Fault::new(
                    FaultKind::AttrName,
                    a.offset as usize + 0x0a,
                    name_end as u64,
                    0x40,
                );
                return Err(fault);
            }
            let mut runs = n.runs();
            // No stream has more clusters than the volume.
            let mut budget = total;
            for run in &mut runs {
                let e = run.map_err(|f| f.shifted(at))?;
                if let Place::At(lcn) = e.place {
                    let end = lcn.0.saturating_add(e.len.0);
                    if end > total {
                        return Err(Fault::new(FaultKind::RunRange, at, end, total));
                    }
                    budget = match budget.checked_sub(e.len.0) {
                        Some(left) => left,
                        None => {
                            return Err(Fault::new(FaultKind::RunLength, at, e.len.0, budget));
                        }
                    };
                }
            }
            let end = n.end_vcn();
            if runs.next_vcn() != end {
                let found = runs.next_vcn().0;
                return Err(Fault::new(FaultKind::VcnRange, at, end.0, found));
            }
        }
    }
    Ok(())
}

/// A non-resident attribute with other extents, which begin at the VCN where
/// the old ones did.
pub(super) fn with_extents(raw: &[u8], extents: &[Extent]) -> Vec<u8> {
    let head = usize::from(u16_at(raw, 0x20));
    let mut out = raw[..head.min(raw.len())].to_vec();
    out.extend(encode_runs(extents));
    out.resize(out.len().next_multiple_of(8), 0);
    let len = out.len() as u32;
    out[4..8].copy_from_slice(&len.to_le_bytes());
    if let (Some(first), Some(last)) = (extents.first(), extents.last()) {
        let highest = last.vcn.0 + last.len.0 - 1;
        put64(&mut out, 0x10, first.vcn.0);
        put64(&mut out, 0x18, highest);
    }
    out
}

/// Extents one behind the other from `vcn` on, neighbours joined.
pub(super) fn push_extent(out: &mut Vec<Extent>, place: Place, len: u64) {
    let vcn = out.last().map_or(0, |e| e.vcn.0 + e.len.0);
    push_extent_from(out, Vcn(vcn), place, len);
}

/// The same, where the first begins at `vcn`.
pub(super) fn push_extent_from(out: &mut Vec<Extent>, vcn: Vcn, place: Place, len: u64) {
    if len == 0 {
        return;
    }
    if let Some(last) = out.last_mut() {
        let joins = match (last.place, place) {
            (Place::Hole, Place::Hole) => true,
            (Place::At(a), Place::At(b)) => a.0 + last.len.0 == b.0,
            _ => false,
        };
        if joins {
            last.len.0 += len;
            return;
        }
    }
    let len = Clusters(len);
    out.push(Extent { vcn, place, len });
}

/// Puts a record (fixups applied, [`examine`]d) together anew, `edit` deciding
/// over each attribute and its bytes. The record stays unchanged without room.
pub(super) fn rebuild(
    record: &mut [u8],
    number: RecordNo,
    mut edit: impl FnMut(&Attribute<'_>, &[u8]) -> Edit,
) -> Result<bool, NoRoom> {
    let Ok(view) = RecordView::new(record, number) else {
        return Ok(false);
    };
    let first = usize::from(u16_at(record, 0x14));
    let used = view.used() as usize;
    let mut body = Vec::with_capacity(record.len());
    let mut changed = false;
    let mut end = first;
    for a in view.attributes().flatten() {
        let raw = &record[a.offset as usize..(a.offset + a.length) as usize];
        end = (a.offset + a.length) as usize;
        match edit(&a, raw) {
            Edit::Keep => body.extend_from_slice(raw),
            Edit::Replace(new) => {
                debug_assert_eq!(new.len() % 8, 0);
                changed |= new != raw;
                body.extend_from_slice(&new);
            }
        }
    }
    if !changed {
        return Ok(false);
    }
    // The end mark and what belongs to it.
    body.extend_from_slice(&record[end..used]);
    let new_used = first + body.len();
    if new_used > record.len() {
        return Err(NoRoom);
    }
    record[first..new_used].copy_from_slice(&body);
    if new_used < used {
        record[new_used..used].fill(0);
    }
    record[0x18..0x1c].copy_from_slice(&(new_used as u32).to_le_bytes());
    Ok(true)
}

/// Gives a record or index block its fixups, with the next update sequence
/// number. Its update sequence array was checked when it was read.
pub(super) fn protect(record: &mut [u8]) {
    let from = usize::from(u16_at(record, 4));
    let number = match u16_at(record, from).wrapping_add(1) {
        0 | 0xffff => 1,
        n => n,
    };
    record[from..from + 2].copy_from_slice(&number.to_le_bytes());
    for block in 1..=record.len() / STRIDE {
        let (at, saved) = (block * STRIDE - 2, from + 2 * block);
        record.copy_within(at..at + 2, saved);
        record[at..at + 2].copy_from_slice(&number.to_le_bytes());
    }
}

pub(super) fn put64(bytes: &mut [u8], at: usize, v: u64) {
    bytes[at..at + 8].copy_from_slice(&v.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Lcn;
    use crate::volume::record::apply_fixups;
    use proptest::prelude::*;

    /// A record of 1 KiB with these attributes, protected.
    fn record(attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut r = vec![0u8; 1024];
        r[..4].copy_from_slice(b"FILE");
        r[4] = 0x30;
        r[6] = 3;
        r[0x10] = 1;
        r[0x14] = 0x38;
        r[0x16] = 1;
        r[0x28] = 9;
        let mut at = 0x38;
        for a in attributes {
            r[at..at + a.len()].copy_from_slice(a);
            at += a.len();
        }
        r[at..at + 4].copy_from_slice(&[0xff; 4]);
        r[0x18..0x1c].copy_from_slice(&(at as u32 + 8).to_le_bytes());
        for (i, b) in r[at + 8..].iter_mut().enumerate() {
            *b = i as u8;
        }
        protect(&mut r);
        r
    }

    fn resident(code: u32, id: u8, len: usize) -> Vec<u8> {
        let mut a = vec![id; (0x18 + len).next_multiple_of(8)];
        let whole = a.len() as u32;
        a[..0x18].fill(0);
        a[..4].copy_from_slice(&code.to_le_bytes());
        a[4..8].copy_from_slice(&whole.to_le_bytes());
        a[0x0e] = id;
        a[0x10] = len as u8;
        a[0x14] = 0x18;
        a
    }

    fn streamed(id: u8, name: &[u8], extents: &[Extent]) -> Vec<u8> {
        let mut a = vec![0; (0x40 + name.len()).next_multiple_of(8)];
        a[..4].copy_from_slice(&0x80u32.to_le_bytes());
        (a[8], a[9], a[0x0a], a[0x0e]) = (1, (name.len() / 2) as u8, 0x40, id);
        a[0x40..0x40 + name.len()].copy_from_slice(name);
        a[0x20] = a.len() as u8;
        put64(&mut a, 0x30, 12345);
        with_extents(&a, extents)
    }

    fn extents() -> impl Strategy<Value = Vec<Extent>> {
        prop::collection::vec((prop::option::of(0u64..1 << 40), 1u64..1 << 20), 1..12).prop_map(
            |runs| {
                let mut out = Vec::new();
                for (lcn, len) in runs {
                    push_extent(
                        &mut out,
                        lcn.map_or(Place::Hole, |l| Place::At(Lcn(l))),
                        len,
                    );
                }
                out
            },
        )
    }

    proptest! {
        #[test]
        fn protecting_and_reading_agree(
            len in 1usize..9, bytes in prop::collection::vec(any::<u8>(), 8 * 512),
        ) {
            let mut r = bytes[..len * 512].to_vec();
            r[4..8].copy_from_slice(&[0x30, 0, len as u8 + 1, 0]);
            let want = r.clone();
            protect(&mut r);
            let number = u16_at(&r, 0x30);
            prop_assert!(number != 0 && number != 0xffff);
            prop_assert_ne!(number, u16_at(&want, 0x30));
            apply_fixups(&mut r).unwrap();
            // All but the array itself.
            prop_assert_eq!(&r[..0x30], &want[..0x30]);
            prop_assert_eq!(&r[0x30 + 2 * (len + 1)..], &want[0x30 + 2 * (len + 1)..]);
        }

        #[test]
        fn new_mapping_pairs_and_everything_else_as_it_was(
            old in extents(), new in extents(), name in 0usize..8, before in 0usize..200,
        ) {
            let name: Vec<u8> = (0..name).flat_map(|n| [b'a' + n as u8, 0]).collect();
            let parts = [resident(0x10, 1, 48), resident(0x30, 2, before),
                streamed(3, &name, &old), resident(0x100, 4, 30)];
            let mut r = record(&parts);
            apply_fixups(&mut r).unwrap();
            let was = r.clone();
            let view = RecordView::new(&was, RecordNo(7)).unwrap();
            prop_assert_eq!(examine(&view, 1 << 62), Ok(()));
            let result = rebuild(&mut r, RecordNo(7), |a, raw| match a.form {
                Form::Resident { .. } => Edit::Keep,
                Form::NonResident(_) => Edit::Replace(with_extents(raw, &new)),
            });
            let grown: isize = with_extents(&parts[2], &new).len() as isize - parts[2].len() as isize;
            let used = view.used() as isize + grown;
            match result {
                Err(NoRoom) => {
                    prop_assert!(used > 1024);
                    prop_assert_eq!(r, was);
                }
                Ok(changed) => {
                    prop_assert!(used <= 1024);
                    prop_assert_eq!(changed, old != new);
                    let now = RecordView::new(&r, RecordNo(7)).unwrap();
                    prop_assert_eq!(examine(&now, 1 << 62), Ok(()));
                    prop_assert_eq!(now.used() as isize, used);
                    prop_assert_eq!(now.used() % 8, 0);
                    prop_assert_eq!(now.next_attr_id(), 9);
                    let all: Vec<_> = now.attributes().map(|a| a.unwrap()).collect();
                    prop_assert_eq!(all.iter().map(|a| a.id).collect::<Vec<_>>(), [1, 2, 3, 4]);
                    let n = all[2].non_resident().unwrap();
                    prop_assert_eq!(all[2].name, &name[..]);
                    prop_assert_eq!(n.size, 12345);
                    prop_assert_eq!(n.runs().collect::<Result<Vec<_>, _>>().unwrap(), new.clone());
                    let last = new.last().unwrap();
                    prop_assert_eq!(n.end_vcn(), Vcn(last.vcn.0 + last.len.0));
                    for (a, b) in view.attributes().flatten().zip(&all) {
                        prop_assert_eq!(a.resident(), b.resident());
                    }
                }
            }
        }

        #[test]
        fn pairs_that_move_down_together_never_need_more_bytes(
            runs in prop::collection::vec((1u64..400, 1u64..70_000), 1..30),
            order in any::<u64>(), holes in any::<u32>(),
        ) {
            // Runs with gaps between them, in any order of VCNs; squeezed, the gaps go.
            let (mut at, mut down) = (20, 20);
            let mut places = Vec::new();
            for (gap, len) in runs {
                at += gap;
                places.push((at, down, len));
                at += len;
                down += len;
            }
            places.sort_by_key(|p| p.0.wrapping_mul(order | 1));
            let (mut old, mut new) = (Vec::new(), Vec::new());
            for (i, (a, b, len)) in places.into_iter().enumerate() {
                if holes >> (i % 32) & 1 == 1 {
                    push_extent(&mut old, Place::Hole, 3);
                    push_extent(&mut new, Place::Hole, 3);
                }
                push_extent(&mut old, Place::At(Lcn(a)), len);
                push_extent(&mut new, Place::At(Lcn(b)), len);
            }
            prop_assert!(encode_runs(&new).len() <= encode_runs(&old).len());
        }

        #[test]
        fn any_bytes_end_without_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 1024), first in 0u8..80,
        ) {
            bytes[..4].copy_from_slice(b"FILE");
            bytes[0x14..0x16].copy_from_slice(&[first, 0]);
            bytes[0x18..0x1c].copy_from_slice(&[0, 4, 0, 0]);
            bytes[first as usize + 4..first as usize + 8].copy_from_slice(&[0x60, 0, 0, 0]);
            if let Ok(view) = RecordView::new(&bytes, RecordNo(1)) {
                let _ = examine(&view, 1000);
            }
        }
    }
}
