//! Where the sums of names do not agree: a second look at the files of those
//! buckets, this time with names, says which and why.

use super::claims::{BUCKETS, Claim, KINDS, Kind, Side, Tally};
use super::report::{Code, Issues};
use super::table::{Table, is_unread, no_directory, wrong};
use super::{Context, scan};
use crate::error::Result;
use crate::observe::Observer;
use crate::units::{FileRef, RecordNo};
use crate::volume::names::{Escaped, wtf8};
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

/// Claims that are kept for a comparison one by one.
const MOST_CLAIMS: u64 = 50_000;

/// A claim of its own. The order puts the two sides of a pair together.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    kind: Kind,
    child: FileRef,
    parent: FileRef,
    space: u8,
    body: Box<[u8]>,
    side: Side,
}

pub(super) fn explain(
    first: &Context<'_>,
    table: &Table,
    differing: &[(usize, u64)],
    broken: &HashMap<RecordNo, bool>,
    issues: &mut Issues,
    observer: &dyn Observer,
) -> Result<()> {
    let mut chosen = vec![false; BUCKETS * KINDS.len()];
    let (mut room, mut left) = (MOST_CLAIMS, 0);
    for (bucket, claims) in differing {
        match room.checked_sub(*claims) {
            Some(rest) => {
                room = rest;
                chosen[*bucket] = true;
            }
            None => left += 1,
        }
    }
    let kept = Mutex::new(Vec::new());
    let keep = |c: Claim<'_>| {
        if !chosen[Tally::bucket(c.kind, c.child)] {
            return;
        }
        let mut all = kept.lock().unwrap_or_else(|e| e.into_inner());
        // More than were counted: the source changes meanwhile.
        if all.len() < 2 * MOST_CLAIMS as usize {
            all.push(Kept {
                kind: c.kind,
                child: c.child,
                parent: c.parent,
                space: c.space,
                body: c.body.into(),
                side: c.side,
            });
        }
    };
    let cx = Context::new(first.volume, first.upcase, &keep);
    observer.begin("Comparing names", Some(first.volume.mft().record_count));
    let scanned = scan(&cx, observer, |_| Ok(()));
    observer.end();
    scanned?;
    let mut all = kept.into_inner().unwrap_or_else(|e| e.into_inner());
    all.sort_unstable();
    let mut lost: BTreeMap<RecordNo, u64> = BTreeMap::new();
    for same in all.chunk_by(|a, b| {
        (a.kind, a.child, a.parent, a.space, &a.body)
            == (b.kind, b.child, b.parent, b.space, &b.body)
    }) {
        let records = same.iter().filter(|k| k.side == Side::Record).count();
        let (k, indexes) = (&same[0], same.len() - records);
        // Nothing is known about what could not be read.
        if is_unread(table, k.child) || is_unread(table, k.parent) {
            continue;
        }
        if k.kind == Kind::Name && indexes == 0 && broken.contains_key(&k.parent.record) {
            *lost.entry(k.parent.record).or_default() += records as u64;
        } else if records != indexes {
            tell(table, k, records, indexes, issues);
        }
    }
    for (n, count) in lost {
        let (code, why) = match broken.get(&n) {
            Some(true) => (Code::Unreadable, "unreadable"),
            _ => (Code::NameNotIndexed, "damaged"),
        };
        issues.many(code, count, Some(n), None, || {
            format!(
                "{count} names of files in directory {n} are not reached through its {why} index"
            )
        });
    }
    if left > 0 {
        issues.many(Code::More, left, None, None, || {
            format!(
                "Names differ in more places, in at least {left} files, which were not looked at"
            )
        });
    }
    Ok(())
}

fn tell(table: &Table, k: &Kept, records: usize, indexes: usize, issues: &mut Issues) {
    let child = k.child;
    let target = wrong(table, child);
    match (k.kind, records < indexes) {
        (Kind::Name, true) => issues.push(Code::IndexEntry, Some(k.parent.record), None, || {
            let name = wtf8(&k.body);
            let why = match (target, records) {
                (Some(why), _) => why,
                (None, 0) => "that file has no such name there".to_owned(),
                (None, _) => "it stands there more than once".to_owned(),
            };
            format!(
                "Directory {} has an entry \"{}\" for file {child}, but {why}",
                k.parent.record,
                Escaped(&name)
            )
        }),
        (Kind::Name, false) => {
            issues.push(Code::NameNotIndexed, Some(child.record), None, || {
                let name = wtf8(&k.body);
                let why = no_directory(table, k.parent)
                    .unwrap_or_else(|| "the index there has no such entry".to_owned());
                format!(
                    "File {} has the name \"{}\" in directory {}, but {why}",
                    child.record,
                    Escaped(&name),
                    k.parent
                )
            });
        }
        (kind, more) => {
            let (code, what, index) = match kind {
                Kind::ObjectId => (Code::ObjectId, "object id", "$ObjId:$O"),
                _ => (Code::Reparse, "reparse point", "$Reparse:$R"),
            };
            issues.push(code, Some(child.record), None, || match (more, target) {
                (true, Some(why)) => {
                    format!("{index} has an entry for the {what} of file {child}, but {why}")
                }
                (true, None) => {
                    format!("{index} has an entry for file {child}, which has no such {what}")
                }
                (false, _) => format!("{index} has no entry for the {what} of file {child}"),
            });
        }
    }
}
