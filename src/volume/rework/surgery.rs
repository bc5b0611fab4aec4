//! Changing file records in place: pure functions over their bytes.

use crate::units::{Clusters, Extent, Place, Vcn};
use crate::volume::attr::{Attribute, Form, u16_at, u32_at};
use crate::volume::fault::{Fault, FaultKind};
use crate::volume::record::{RecordView, STRIDE};
use crate::volume::runs::encode_runs;

/// What became of one attribute.
pub(super) enum Edit {
    /// It stays as it is.
    Keep,
    /// These bytes instead; their length is a multiple of 8.
    Replace(Vec<u8>),
    /// It is gone.
    Remove,
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
    view_of: impl FnOnce(&[u8]) -> Option<RecordView<'_>>,
    mut edit: impl FnMut(&Attribute<'_>, &[u8]) -> Edit,
) -> Result<bool, NoRoom> {
    let Some(view) = view_of(record) else {
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
            Edit::Remove => changed = true,
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

/// Bytes that a record has left.
pub(super) fn room(record: &[u8]) -> usize {
    record.len().saturating_sub(u32_at(record, 0x18) as usize)
}

pub(super) fn put64(bytes: &mut [u8], at: usize, v: u64) {
    bytes[at..at + 8].copy_from_slice(&v.to_le_bytes());
}
