//! Which clusters a backup must keep: those that `$Bitmap` calls used and those
//! that a record in use names, whatever the other one says.

use super::attr::{Attribute, Form, NonResident};
use super::bitmap::{ClusterBitmap, MarkedRecords};
use super::fault::{Fault, FaultKind};
use super::open::Volume;
use super::record::RecordView;
use super::scan::Scanned;
use super::usage::{
    BadList, BadRecord, NO_RECORD, RangeList, RecordCounts, RecordList, TypeUse, Usage, UsageReport,
};
use crate::error::Result;
use crate::observe::Observer;
use crate::units::{ClusterSet, Place, RecordNo};

/// Bytes at the start of a volume that are kept whatever anybody says: boot
/// sector and boot code.
const BOOT_AREA: u64 = 8192;
/// `$BadClus`, whose stream `$Bad` has the bad clusters as its runs.
const BAD_CLUSTERS: RecordNo = RecordNo(8);
/// Types are multiples of 16 up to 0x100; place 0 has all others.
const TYPES: usize = 17;

/// Reads `$Bitmap`, scans all records in parallel and joins the two.
pub fn analyse(volume: &Volume, observer: &dyn Observer) -> Result<Usage> {
    let limit = volume.cluster_limit();
    let ClusterBitmap {
        used: mut kept,
        unknown,
        mut notes,
    } = ClusterBitmap::read(volume);
    let bitmap_clusters = kept.count();
    kept.union(&unknown);

    let mut report = UsageReport {
        total_clusters: volume.geometry().total_clusters,
        bitmap_clusters,
        ..UsageReport::default()
    };
    let marked = MarkedRecords::read(volume, &mut report.notes);
    let mut owned = ClusterSet::new(limit);
    let mut bad = ClusterSet::new(limit);
    let mut types = [TypeUse::default(); TYPES];
    observer.begin("Reading file records", Some(volume.mft().record_count));
    let scanned = volume.scan(
        observer,
        |_| Batch::new(volume, limit, &kept, &marked),
        |batch, scanned| batch.take(scanned),
        |batch| {
            for run in &batch.runs {
                let range = run.first..run.first + run.len;
                for twice in owned.runs(range.clone()) {
                    let len = twice.end - twice.start;
                    let list = &mut report.differences.owned_twice;
                    list.push(twice.start, len, Some(run.record));
                }
                owned.insert(range);
            }
            for run in &batch.bad_runs {
                bad.insert(run.first..run.first + run.len);
            }
            for (sum, t) in types.iter_mut().zip(&batch.types) {
                sum.add(t);
            }
            report.records.add(&batch.records);
            report.bad_records.append(batch.bad_records);
            report.bad_attributes.append(batch.bad_attributes);
            report.differences.owned_free.append(batch.owned_free);
            report.differences.outside.append(batch.outside);
            report.unmarked.append(batch.unmarked);
            Ok(())
        },
    );
    observer.end();
    scanned?;

    for twice in bad.without(&bad.without(&owned)).runs(0..limit) {
        let len = twice.end - twice.start;
        let list = &mut report.differences.owned_twice;
        list.push(twice.start, len, Some(BAD_CLUSTERS));
    }
    let bad = bad.without(&owned);
    owned.union(&bad);
    report.owned_clusters = owned.count();
    report.bad_clusters = bad.count();

    let mut unowned = kept.without(&owned).without(&unknown);
    let mut extra = owned.without(&kept);
    // Two owners of the same free clusters listed them twice.
    report.differences.owned_free.clusters = extra.count();
    kept.union(&owned);
    drop(owned);
    let boot = 0..BOOT_AREA.div_ceil(volume.geometry().cluster_size.into());
    unowned.remove(boot.clone());
    for n in boot.start..boot.end.min(limit) {
        if !kept.contains(n) {
            kept.insert(n..n + 1);
            extra.insert(n..n + 1);
        }
    }
    for r in unowned.runs(0..limit) {
        let list = &mut report.differences.used_unowned;
        list.push(r.start, r.end - r.start, None);
    }
    report.kept_clusters = kept.count();
    for (i, t) in types.iter_mut().enumerate() {
        t.type_code = i as u32 * 16;
    }
    let seen = types.iter().filter(|t| t.resident + t.pieces > 0);
    report.classified = seen.copied().collect();
    notes.append(&mut report.notes);
    report.notes = notes;
    Ok(Usage {
        kept,
        extra,
        unowned,
        bad_clusters: bad,
        report,
    })
}

struct Run {
    first: u64,
    len: u64,
    record: RecordNo,
}

/// What one batch of records uses.
struct Batch<'v> {
    volume: &'v Volume,
    cluster_size: u64,
    limit: u64,
    in_bitmap: &'v ClusterSet,
    marked: &'v MarkedRecords,
    runs: Vec<Run>,
    bad_runs: Vec<Run>,
    types: [TypeUse; TYPES],
    records: RecordCounts,
    bad_records: BadList,
    bad_attributes: BadList,
    owned_free: RangeList,
    outside: RangeList,
    unmarked: RecordList,
}

impl<'v> Batch<'v> {
    fn new(
        volume: &'v Volume,
        limit: u64,
        in_bitmap: &'v ClusterSet,
        marked: &'v MarkedRecords,
    ) -> Self {
        Self {
            volume,
            cluster_size: volume.geometry().cluster_size.into(),
            limit,
            in_bitmap,
            marked,
            runs: Vec::with_capacity(1024),
            bad_runs: Vec::new(),
            types: [TypeUse::default(); TYPES],
            records: RecordCounts::default(),
            bad_records: BadList::default(),
            bad_attributes: BadList::default(),
            owned_free: RangeList::default(),
            outside: RangeList::default(),
            unmarked: RecordList::default(),
        }
    }

    fn take(&mut self, scanned: Scanned<'_>) {
        match scanned {
            Scanned::Record(view) if view.in_use() => self.record(&view),
            Scanned::Free(number) if self.marked.is_used(number) => {
                self.records.total += 1;
                self.records.bad += 1;
                self.bad_records.push(|| BadRecord {
                    record: number,
                    offset: self.volume.record_offset(number),
                    why: NO_RECORD.to_owned(),
                });
            }
            Scanned::Record(_) | Scanned::Free(_) => {
                self.records.total += 1;
                self.records.free += 1;
            }
            Scanned::Mirror(view) => {
                for a in view.attributes().flatten() {
                    self.attribute(&view, view.number(), &a);
                }
            }
            Scanned::Bad {
                number,
                offset,
                why,
            } => {
                self.records.total += 1;
                self.records.bad += 1;
                self.bad_records.push(|| BadRecord {
                    record: number,
                    offset,
                    why: why.to_string(),
                });
            }
        }
    }

    fn record(&mut self, view: &RecordView<'_>) {
        self.records.total += 1;
        self.records.in_use += 1;
        if self.marked.is_free(view.number()) {
            self.unmarked.push(view.number());
        }
        let base = view.base();
        match base {
            Some(_) => self.records.extensions += 1,
            None if view.is_directory() => self.records.directories += 1,
            None => self.records.files += 1,
        }
        let owner = base.map_or(view.number(), |b| b.record);
        for a in view.attributes() {
            match a {
                Ok(a) => self.attribute(view, owner, &a),
                Err(fault) => self.bad_attribute(view, fault),
            }
        }
    }

    #[cold]
    fn bad_attribute(&mut self, view: &RecordView<'_>, fault: Fault) {
        self.bad_attributes.push(|| BadRecord {
            record: view.number(),
            offset: (self.volume.record_offset(view.number()))
                .map(|at| at.saturating_add(fault.offset.into())),
            why: fault.to_string(),
        });
    }

    #[inline]
    fn attribute(&mut self, view: &RecordView<'_>, owner: RecordNo, a: &Attribute<'_>) {
        let index = match a.type_code {
            code @ 0x10..=0x100 if code % 16 == 0 => code as usize / 16,
            _ => 0,
        };
        match a.form {
            Form::Resident { value } => {
                let t = &mut self.types[index];
                t.resident += 1;
                t.resident_bytes += value.len() as u64;
            }
            Form::NonResident(n) => self.non_resident(view, owner, a, &n, index),
        }
    }

    fn non_resident(
        &mut self,
        view: &RecordView<'_>,
        owner: RecordNo,
        a: &Attribute<'_>,
        n: &NonResident<'_>,
        index: usize,
    ) {
        // "$Bad", UTF-16.
        let names_bad = owner == BAD_CLUSTERS && a.name == b"$\0B\0a\0d\0";
        let t = &mut self.types[index];
        t.pieces += 1;
        if n.lowest_vcn.0 == 0 {
            t.non_resident += 1;
            t.data_bytes = t.data_bytes.saturating_add(n.size);
        }
        let pairs = a.offset as usize + a.length as usize - n.mapping_pairs.len();
        // No stream has more clusters than the volume; without this limit a few
        // bytes could name all of it hundreds of times.
        let mut budget = self.limit;
        for run in n.runs() {
            let e = match run {
                Ok(e) => e,
                Err(fault) => return self.bad_attribute(view, fault.shifted(pairs)),
            };
            let Place::At(lcn) = e.place else {
                continue;
            };
            if e.len.0 > self.limit {
                let fault = Fault::new(FaultKind::RunLength, pairs, e.len.0, self.limit);
                return self.bad_attribute(view, fault);
            }
            let (first, end) = (lcn.0, lcn.0 + e.len.0);
            let inside = end.min(self.limit);
            if inside < end {
                let from = first.max(self.limit);
                self.outside.push(from, end - from, Some(owner));
            }
            let t = &mut self.types[index];
            t.extents += 1;
            if first >= inside {
                continue;
            }
            let len = inside - first;
            if len > budget {
                let fault = Fault::new(FaultKind::RunLength, pairs, len, budget);
                return self.bad_attribute(view, fault);
            }
            budget -= len;
            t.allocated_bytes = t.allocated_bytes.saturating_add(len * self.cluster_size);
            let mut at = first;
            for used in self.in_bitmap.runs(first..inside) {
                if used.start > at {
                    self.owned_free.push(at, used.start - at, Some(owner));
                }
                at = used.end;
            }
            if at < inside {
                self.owned_free.push(at, inside - at, Some(owner));
            }
            let run = Run {
                first,
                len,
                record: owner,
            };
            match names_bad {
                true => self.bad_runs.push(run),
                false => self.runs.push(run),
            }
        }
    }
}
