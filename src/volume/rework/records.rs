//! The records of the new volume: one parallel look at the old ones, and what
//! has to be written differently.

use super::map::ClusterMap;
use super::names::{self, I30, Sizes};
use super::surgery::{Edit, NoRoom, protect, push_extent_from, put64, rebuild, with_extents};
use super::survey::{self, Class, Survey};
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::units::{Extent, Lcn, Place, RecordNo, Vcn};
use crate::volume::attr::{
    ATTRIBUTE_LIST, Attribute, DATA, FILE_NAME, Form, INDEX_ROOT, NonResident, VOLUME_INFORMATION,
    u16_at,
};
use crate::volume::extents::ExtentMap;
use crate::volume::names::FileName;
use crate::volume::record::{RecordView, apply_fixups};
use crate::volume::scan::Scanned;
use std::collections::BTreeMap;
use std::ops::Range;

/// What changes in the records.
pub(super) struct Change<'s> {
    pub survey: &'s Survey,
    pub map: &'s ClusterMap,
    /// Clusters before and after.
    pub old_total: u64,
    pub new_total: u64,
    /// `$Bitmap`, by its VCNs, and its bytes.
    pub bitmap: &'s [Range<u64>],
    pub bitmap_size: u64,
    /// Shadow-copy storage is emptied.
    pub drop_stores: bool,
    /// `$Volume` is marked dirty.
    pub dirty: bool,
    /// Sizes beside names, by directory.
    pub names: &'s BTreeMap<u64, Sizes>,
}

/// A record that has no room for its new mapping pairs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unfit(pub u32);

/// What became of the records.
#[derive(Default)]
pub(super) struct Outcome {
    pub rewritten: u64,
    pub files_moved: u64,
    pub unfit: Vec<Unfit>,
}

#[derive(Default)]
struct Batch {
    numbers: Vec<u64>,
    bytes: Vec<u8>,
    moved: u64,
    unfit: Vec<Unfit>,
    refused: Option<Error>,
}

impl Change<'_> {
    /// Goes through all records; `put` gets each one that is written
    /// differently, by number, with fixups. Ends early when `put` fails.
    pub fn write(
        &self,
        observer: &dyn Observer,
        mut put: impl FnMut(RecordNo, &[u8]) -> Result<()>,
    ) -> Result<Outcome> {
        let volume = &self.survey.volume;
        let size = volume.geometry().record_size as usize;
        let whole = survey::mft_is_whole(volume);
        let mut outcome = Outcome::default();
        observer.begin("Planning file records", Some(volume.mft().record_count));
        let done = volume.scan(
            observer,
            |_| Batch::default(),
            |batch, scanned| {
                let (view, mirrored) = match scanned {
                    Scanned::Record(view) if view.in_use() => (view, false),
                    Scanned::Mirror(view) => (view, true),
                    _ => return,
                };
                self.one(batch, &view, mirrored, whole);
            },
            |batch| {
                if let Some(e) = batch.refused {
                    return Err(e);
                }
                outcome.unfit.extend(batch.unfit);
                outcome.files_moved += batch.moved;
                outcome.rewritten += batch.numbers.len() as u64;
                for (n, bytes) in batch.numbers.iter().zip(batch.bytes.chunks_exact(size)) {
                    put(RecordNo(*n), bytes)?;
                }
                Ok(())
            },
        );
        observer.end();
        done.map(|()| outcome)
    }

    fn one(&self, batch: &mut Batch, view: &RecordView<'_>, mirrored: bool, whole: bool) {
        if !survey::can_change(view, self.old_total, whole) {
            return;
        }
        if !mirrored && !self.concerns(view) {
            return;
        }
        let base = view.base().map_or(view.number(), |b| b.record).0;
        let mut record = view.bytes().to_vec();
        // A view of shared memory does not have them applied; doing it twice
        // changes nothing.
        let _ = apply_fixups(&mut record);
        let number = view.number();
        let mut moved = false;
        let mut refused = None;
        let result = rebuild(&mut record, number, |a, raw| {
            match self.edit(base, view.is_directory(), a, raw) {
                Ok((edit, went)) => {
                    moved |= went;
                    edit
                }
                Err(e) => {
                    refused.get_or_insert(e);
                    Edit::Keep
                }
            }
        });
        match result {
            _ if refused.is_some() => batch.refused = batch.refused.take().or(refused),
            Err(NoRoom) => batch.unfit.push(Unfit(number.0 as u32)),
            Ok(false) if !mirrored => {}
            Ok(_) => {
                protect(&mut record);
                batch.numbers.push(number.0);
                batch.bytes.extend_from_slice(&record);
                batch.moved += u64::from(moved);
            }
        }
    }

    /// A quick look whether anything in a record may change.
    fn concerns(&self, view: &RecordView<'_>) -> bool {
        let base = view.base().map_or(view.number(), |b| b.record).0;
        if matches!(base, 3 | 6 | 8) {
            return true;
        }
        if self.drop_stores && u32::try_from(base).is_ok_and(|b| self.survey.is_store(b)) {
            return true;
        }
        if self.names.contains_key(&base) {
            return true;
        }
        if self.map.is_still() {
            return false;
        }
        view.attributes().flatten().any(|a| match a.form {
            Form::Resident { .. } => false,
            Form::NonResident(n) => n
                .runs()
                .flatten()
                .any(|e| e.lcns().is_some_and(|lcns| self.map.touches(lcns))),
        })
    }

    /// What becomes of an attribute, and whether its clusters moved.
    fn edit(
        &self,
        base: u64,
        directory: bool,
        a: &Attribute<'_>,
        raw: &[u8],
    ) -> Result<(Edit, bool)> {
        let store = self.drop_stores && u32::try_from(base).is_ok_and(|b| self.survey.is_store(b));
        let n = match a.form {
            Form::NonResident(n) => n,
            Form::Resident { value } => {
                return Ok((self.resident(base, store, a, value, raw), false));
            }
        };
        if store && a.type_code == DATA && a.name.is_empty() {
            return Ok((Edit::Replace(emptied(raw, &n)), false));
        }
        let cluster = u64::from(self.survey.volume.geometry().cluster_size);
        match survey::class(base, directory, a) {
            None => {
                only_piece(&n, "the list of bad clusters")?;
                let hole = [Extent {
                    vcn: Vcn(0),
                    place: Place::Hole,
                    len: crate::units::Clusters(self.new_total),
                }];
                let mut new = with_extents(raw, &hole);
                let bytes = self.new_total * cluster;
                let initialized = match n.initialized == n.size {
                    true => bytes,
                    false => n.initialized.min(bytes),
                };
                sizes(&mut new, bytes, bytes, initialized);
                if n.compressed_total.is_some() {
                    put64(&mut new, 0x40, 0);
                }
                Ok((Edit::Replace(new), false))
            }
            Some(Class::Bitmap) => {
                only_piece(&n, "$Bitmap")?;
                let mut extents = Vec::new();
                for r in self.bitmap {
                    let place = Place::At(Lcn(r.start));
                    super::surgery::push_extent(&mut extents, place, r.end - r.start);
                }
                let clusters: u64 = self.bitmap.iter().map(|r| r.end - r.start).sum();
                let mut new = with_extents(raw, &extents);
                sizes(
                    &mut new,
                    clusters * cluster,
                    self.bitmap_size,
                    self.bitmap_size,
                );
                let moved = new != raw;
                Ok((Edit::Replace(new), moved))
            }
            Some(_) if self.map.is_still() => Ok((Edit::Keep, false)),
            Some(_) => {
                let (extents, moved) = translate(self.map, n.runs().flatten(), n.lowest_vcn)?;
                match moved {
                    true => Ok((Edit::Replace(with_extents(raw, &extents)), true)),
                    false => Ok((Edit::Keep, false)),
                }
            }
        }
    }

    fn resident(
        &self,
        base: u64,
        store: bool,
        a: &Attribute<'_>,
        value: &[u8],
        raw: &[u8],
    ) -> Edit {
        let at = usize::from(u16_at(raw, 0x14));
        let mut new = raw.to_vec();
        match a.type_code {
            VOLUME_INFORMATION if base == 3 && self.dirty && value.len() >= 12 => {
                new[at + 10] |= 1;
            }
            FILE_NAME if value.len() >= 0x38 && FileName::parse(value).is_some() => {
                let Some((allocated, size)) = self.name_sizes(base, store) else {
                    return Edit::Keep;
                };
                put64(&mut new, at + 0x28, allocated);
                put64(&mut new, at + 0x30, size);
            }
            INDEX_ROOT if a.name == I30 => match self.names.get(&base) {
                Some(sizes) if names::in_root(&mut new[at..at + value.len()], sizes) => {}
                _ => return Edit::Keep,
            },
            _ => return Edit::Keep,
        }
        Edit::Replace(new)
    }

    /// Allocated bytes and size as the names of a file repeat them, where they change.
    pub fn name_sizes(&self, base: u64, store: bool) -> Option<(u64, u64)> {
        let cluster = u64::from(self.survey.volume.geometry().cluster_size);
        let clusters: u64 = self.bitmap.iter().map(|r| r.end - r.start).sum();
        match base {
            6 => Some((clusters * cluster, self.bitmap_size)),
            _ if store => Some((0, 0)),
            _ => None,
        }
    }
}

fn only_piece(n: &NonResident<'_>, what: &str) -> Result<()> {
    match n.lowest_vcn.0 {
        0 => Ok(()),
        vcn => Err(Error::unsupported(format!(
            "Found a piece of {what} from VCN {vcn} on in another file record, expected all of it in one"
        ))
        .hint("Restore the volume in its old size, without --defragment")),
    }
}

/// Extents in their new places. Fails when one names clusters that are not kept.
pub(super) fn translate(
    map: &ClusterMap,
    old: impl Iterator<Item = Extent>,
    lowest: Vcn,
) -> Result<(Vec<Extent>, bool)> {
    let mut out = Vec::new();
    let mut moved = false;
    for e in old {
        let Some(lcns) = e.lcns() else {
            push_extent_from(&mut out, e.vcn, Place::Hole, e.len.0);
            continue;
        };
        let mut vcn = e.vcn.0;
        let mut at = lcns.start;
        map.forward(lcns, &mut |to, len| {
            let Some(to) = to else {
                return Err(Error::damaged(format!(
                    "The new layout is not sound: cluster {at} is in use and would be lost"
                )));
            };
            moved |= to != at;
            push_extent_from(&mut out, Vcn(vcn), Place::At(Lcn(to)), len);
            vcn += len;
            at += len;
            Ok(())
        })?;
    }
    debug_assert!(out.first().is_none_or(|e| e.vcn == lowest));
    Ok((out, moved))
}

/// The same for a whole stream.
pub(super) fn translate_map(map: &ClusterMap, old: &ExtentMap) -> Result<ExtentMap> {
    let extents = old.as_slice();
    let lowest = extents.first().map_or(Vcn(0), |e| e.vcn);
    let (new, _) = translate(map, extents.iter().copied(), lowest)?;
    Ok(ExtentMap::new(new))
}

fn sizes(attribute: &mut [u8], allocated: u64, size: u64, initialized: u64) {
    put64(attribute, 0x28, allocated);
    put64(attribute, 0x30, size);
    put64(attribute, 0x38, initialized);
}

/// A non-resident attribute without any cluster.
fn emptied(raw: &[u8], n: &NonResident<'_>) -> Vec<u8> {
    let mut new = with_extents(raw, &[]);
    put64(&mut new, 0x10, 0);
    put64(&mut new, 0x18, u64::MAX);
    sizes(&mut new, 0, 0, 0);
    if n.compressed_total.is_some() {
        put64(&mut new, 0x40, 0);
    }
    new
}

/// True when the file has several records.
pub(super) fn has_list(view: &RecordView<'_>) -> bool {
    view.attributes()
        .flatten()
        .any(|a| a.type_code == ATTRIBUTE_LIST)
}
