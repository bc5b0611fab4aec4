//! The consistency check: does the file system agree with itself?
//!
//! | file | subject |
//! |---|---|
//! | [`report`] | issues, their codes and severities |
//! | `head` | boot sectors, `$MFTMirr`, `$LogFile`, `$Volume`, `$UpCase`, `$BadClus` |
//! | `clusters` | extents against `$Bitmap`, clusters owned twice |
//! | `file` | one file: header, names, link count, indexes |
//! | `lists` | attribute lists, both ways |
//! | `streams` | pieces, mapping pairs and sizes of attributes |
//! | `btree` | an index as a tree |
//! | `claims`, `explain` | names in records against names in indexes |
//! | `table` | references between records, the way to the root |
//! | `security` | `$SDS`, `$SII`, `$SDH`, security ids |
//!
//! Files are checked by the workers of [`Volume::scan`], records against each
//! other after it. Memory: a few bytes per record, two megabytes of sums for
//! names, sets of clusters, and capped lists of issues.

mod btree;
mod claims;
mod clusters;
mod explain;
mod file;
mod head;
mod lists;
pub mod report;
mod security;
mod streams;
mod table;

pub use report::{Check, Code, ISSUE_CAP, Issue, Severity};

use super::attr::{ATTRIBUTE_LIST, DATA};
use super::bitmap::MarkedRecords;
use super::open::Volume;
use super::record::RecordView;
use super::scan::{BadWhy, Scanned};
use super::stream::Stream;
use super::tree::Tree;
use super::upcase::{TABLE_BYTES, UpCase};
use super::used::analyse;
use crate::device::SharedSource;
use crate::error::Result;
use crate::observe::Observer;
use crate::units::{ClusterSet, FileRef, RecordNo};
use claims::{Claim, Tally};
use report::Issues;
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use table::{BAD, DIRECTORY, EXTENSION, IN_USE, State, Table, UNREAD};

const UPCASE: RecordNo = RecordNo(10);

/// Opens the volume on `source` and checks it.
pub fn check_source(source: SharedSource, observer: &dyn Observer) -> Result<Check> {
    check(&Volume::open(source)?, observer)
}

/// Checks a volume. What is found is in the result; an error means that the
/// check was interrupted.
pub fn check(volume: &Volume, observer: &dyn Observer) -> Result<Check> {
    let mut issues = Issues::default();
    let mut result = Check::default();
    head::check(volume, &mut issues);
    let size = u64::from(volume.geometry().record_size);
    if volume.mft().record_count > volume.source().len() / size + 1 {
        let found = volume.mft().record_count;
        issues.push(Code::MftExtents, None, None, || {
            format!("Found {found} file records, more than the source has bytes for")
        });
        return Ok(finish(result, issues));
    }
    let usage = analyse(volume, observer)?;
    result.owned_clusters = usage.report.owned_clusters;
    clusters::check(volume, &usage, &mut issues, observer)?;
    drop(usage);

    let tree = Tree::new(volume);
    let tally = Tally::new();
    let add = |c: Claim<'_>| tally.add(&c);
    let cx = Context::new(volume, tree.upcase(), &add);
    if let Some(damage) = tree.upcase_damage() {
        let code = head::unless_unread(read_upcase(volume), Code::UpCase);
        issues.push(code, Some(UPCASE), damage.offset, || damage.message.clone());
    }
    let mut all = All::default();
    observer.begin("Checking files", Some(volume.mft().record_count));
    let scanned = scan(&cx, observer, |batch| all.take(batch, &mut issues));
    observer.end();
    scanned?;
    result.names = cx.entries.load(Ordering::Relaxed);
    result.index_blocks = cx.index_blocks.load(Ordering::Relaxed);
    let in_use = |s: &&State| s.flags & IN_USE != 0 && s.flags & BAD == 0;
    result.records = all.table.states.iter().filter(in_use).count() as u64;
    let directories = |s: &&State| s.flags & DIRECTORY != 0 && s.flags & EXTENSION == 0;
    let states = all.table.states.iter().filter(in_use);
    result.directories = states.filter(directories).count() as u64;

    all.extensions(&mut issues);
    mft_bitmap(volume, &all.table, &mut issues);
    table::follow_parents(&all.table, &mut issues);
    result.security_descriptors = security::check(&cx, &all.security_ids, &mut issues);
    let differing = tally.differing();
    if !differing.is_empty() {
        let broken = cx.take_broken();
        explain::explain(&cx, &all.table, &differing, &broken, &mut issues, observer)?;
    }
    if cx.spent.load(Ordering::Relaxed) {
        issues.push(Code::Budget, None, None, || {
            "Indexes and attribute lists name the same blocks again and again; the check of them ended early"
                .to_owned()
        });
    }
    Ok(finish(result, issues))
}

fn finish(mut result: Check, issues: Issues) -> Check {
    result.counts = issues.counts;
    result.issues = issues.list;
    result
        .issues
        .sort_by_key(|i| (i.severity, i.code, i.record, i.offset));
    result
}

/// What all workers share.
struct Context<'v> {
    volume: &'v Volume,
    upcase: &'v UpCase,
    sink: &'v (dyn Fn(Claim<'_>) + Sync),
    /// Attribute type 0x40 is `$OBJECT_ID` since NTFS 3.0.
    has_object_ids: bool,
    entries: AtomicU64,
    index_blocks: AtomicU64,
    /// Bytes of indexes and extension records that may still be read.
    budget: AtomicU64,
    spent: AtomicBool,
    /// Directories whose names cannot all be reached; true: they cannot be read.
    broken: Mutex<HashMap<RecordNo, bool>>,
}

impl<'v> Context<'v> {
    fn new(volume: &'v Volume, upcase: &'v UpCase, sink: &'v (dyn Fn(Claim<'_>) + Sync)) -> Self {
        let len = volume.source().len();
        Self {
            volume,
            upcase,
            sink,
            has_object_ids: volume.info().is_none_or(|i| i.version.0 >= 3),
            entries: AtomicU64::new(0),
            index_blocks: AtomicU64::new(0),
            // A sound volume reads each block once.
            budget: AtomicU64::new(len.saturating_mul(2).saturating_add(64 << 20)),
            spent: AtomicBool::new(false),
            broken: Mutex::default(),
        }
    }

    fn claim(&self, c: Claim<'_>) {
        (self.sink)(c);
    }

    /// Takes bytes from the budget; false when there are none left.
    fn pay(&self, bytes: u64) -> bool {
        let take = |left: u64| left.checked_sub(bytes);
        let paid = (self.budget)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok();
        if !paid {
            self.spent.store(true, Ordering::Relaxed);
        }
        paid
    }

    fn broken(&self, directory: RecordNo, unread: bool) {
        let mut all = self.broken.lock().unwrap_or_else(|e| e.into_inner());
        *all.entry(directory).or_default() |= unread;
    }

    fn take_broken(&self) -> HashMap<RecordNo, bool> {
        std::mem::take(&mut *self.broken.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

/// What one batch of records gave.
#[derive(Default)]
struct Batch {
    issues: Issues,
    first: u64,
    states: Vec<State>,
    parents: Vec<(RecordNo, FileRef)>,
    /// Extension records in use, and their base records.
    extensions: Vec<(RecordNo, FileRef)>,
    /// Extension records that a base record names.
    named: Vec<RecordNo>,
    /// Base records whose attribute list cannot be read.
    unlisted: Vec<RecordNo>,
    /// Security ids: the first file that has it, and how many.
    security_ids: HashMap<u32, (RecordNo, u64)>,
}

fn scan(
    cx: &Context<'_>,
    observer: &dyn Observer,
    sink: impl FnMut(Batch) -> Result<()>,
) -> Result<()> {
    let init = |first: RecordNo| Batch {
        first: first.0,
        ..Batch::default()
    };
    cx.volume
        .scan(observer, init, |batch, s| record(cx, batch, s), sink)
}

fn record(cx: &Context<'_>, batch: &mut Batch, scanned: Scanned<'_>) {
    match scanned {
        Scanned::Free(_) => batch.states.push(State::default()),
        Scanned::Bad { number, why, .. } => {
            let unread = why == BadWhy::Unreadable;
            let flags = IN_USE | BAD | if unread { UNREAD } else { 0 };
            batch.states.push(State { sequence: 0, flags });
            // A fault is among those of the used clusters.
            if unread {
                batch.issues.push(
                    Code::Unreadable,
                    Some(number),
                    cx.volume.record_offset(number),
                    || format!("File record {number} cannot be read"),
                );
            }
        }
        Scanned::Mirror(view) => {
            batch.states.pop();
            sound(cx, batch, &view);
        }
        Scanned::Record(view) => sound(cx, batch, &view),
    }
}

fn sound(cx: &Context<'_>, batch: &mut Batch, view: &RecordView<'_>) {
    let n = view.number();
    let mut flags = 0;
    if view.in_use() {
        flags |= IN_USE;
        if view.is_directory() {
            flags |= DIRECTORY;
        }
        if view.base().is_some() {
            flags |= EXTENSION;
        }
    }
    let sequence = view.sequence();
    batch.states.push(State { sequence, flags });
    if !view.in_use() {
        return;
    }
    file::header(cx, view, &mut batch.issues);
    if let Some(base) = view.base() {
        batch.extensions.push((n, base));
        return;
    }
    let mut whole = true;
    let mut attributes = Vec::with_capacity(8);
    for a in view.attributes() {
        match a {
            Ok(a) => attributes.push((n, a)),
            Err(_) => whole = false,
        }
    }
    if attributes.iter().all(|p| p.1.type_code != ATTRIBUTE_LIST) {
        return file::file(cx, view, &attributes, whole, batch);
    }
    if !cx.pay(64 << 10) {
        return;
    }
    match cx.volume.file(n) {
        Ok(all) => {
            let size = u64::from(cx.volume.geometry().record_size);
            cx.pay(size * all.extensions().len() as u64);
            // What they say is said below, by entry.
            whole &= all.notes.is_empty();
            let attributes: Vec<_> = all.attributes().collect();
            let damaged = |r: &super::Record| r.view().attributes().any(|a| a.is_err());
            whole &= !damaged(all.base()) && !all.extensions().iter().any(damaged);
            match lists::check(cx.volume, &all, &attributes, &mut batch.issues) {
                Some(named) => batch.named.extend(named),
                None => batch.unlisted.push(n),
            }
            file::file(cx, view, &attributes, whole, batch);
        }
        Err(e) => {
            let what = format!("File {n} cannot be put together");
            batch.issues.failed(Code::AttributeList, Some(n), &what, &e);
        }
    }
}

/// What all batches gave.
#[derive(Default)]
struct All {
    table: Table,
    extensions: Vec<(RecordNo, FileRef)>,
    named: Vec<RecordNo>,
    unlisted: HashSet<RecordNo>,
    security_ids: HashMap<u32, (RecordNo, u64)>,
}

impl All {
    fn take(&mut self, batch: Batch, issues: &mut Issues) -> Result<()> {
        debug_assert_eq!(self.table.states.len() as u64, batch.first);
        self.table.states.extend(batch.states);
        self.table.parents.extend(batch.parents);
        self.extensions.extend(batch.extensions);
        self.named.extend(batch.named);
        self.unlisted.extend(batch.unlisted);
        for (id, (n, count)) in batch.security_ids {
            self.security_ids.entry(id).or_insert((n, 0)).1 += count;
        }
        issues.append(batch.issues);
        Ok(())
    }

    /// Every extension record must be one that its base record names.
    fn extensions(&mut self, issues: &mut Issues) {
        let mut named = ClusterSet::new(self.table.states.len() as u64);
        for n in &self.named {
            named.insert(n.0..n.0 + 1);
        }
        for (n, base) in &self.extensions {
            if named.contains(n.0)
                || self.unlisted.contains(&base.record)
                || table::is_unread(&self.table, *base)
            {
                continue;
            }
            issues.push(Code::Extension, Some(*n), None, || {
                match table::wrong(&self.table, *base) {
                    Some(why) => format!("Extension record {n} belongs to file {base}, but {why}"),
                    None => format!(
                        "Extension record {n} belongs to file {base}, whose attribute list does not name it"
                    ),
                }
            });
        }
    }
}

fn read_upcase(volume: &Volume) -> Result<()> {
    let file = volume.file(UPCASE)?;
    let table = Stream::open(volume, &file, DATA, &[])?;
    table.map_or(Ok(()), |t| t.read_all(TABLE_BYTES as u64).map(drop))
}

/// Records not in use that the bitmap of the MFT calls used.
fn mft_bitmap(volume: &Volume, table: &Table, issues: &mut Issues) {
    let marked = MarkedRecords::read(volume, &mut Vec::new());
    for (i, s) in table.states.iter().enumerate() {
        let n = RecordNo(i as u64);
        if s.flags & IN_USE == 0 && marked.is_used(n) && n >= file::FIRST_FILE {
            issues.push(
                Code::MftBitmapUsed,
                Some(n),
                volume.record_offset(n),
                || {
                    format!(
                        "File record {n} is not in use, but the bitmap of the MFT calls it used"
                    )
                },
            );
        }
    }
}
