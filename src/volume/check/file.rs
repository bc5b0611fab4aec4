//! One file: its records, names, streams and indexes, and what it claims
//! of itself and of others.

use super::btree::{self, Entry, Index, Wrong};
use super::claims::{Claim, Kind, Side};
use super::report::{Code, Issues};
use super::streams::{self, Body, Placed};
use super::{Batch, Context};
use crate::units::{FileRef, RecordNo};
use crate::volume::attr::{
    BITMAP, FILE_NAME, INDEX_ALLOCATION, INDEX_ROOT, OBJECT_ID, REPARSE_POINT,
    STANDARD_INFORMATION, u32_at, u64_at,
};
use crate::volume::names::{Escaped, FileName, Space};
use crate::volume::record::RecordView;
use std::sync::atomic::Ordering;

/// `$I30`, UTF-16.
const I30: &[u8] = b"$\0I\x003\x000\0";
/// `$O` and `$R`.
const O: &[u8] = b"$\0O\0";
const R: &[u8] = b"$\0R\0";
/// Records below this are NTFS's own; some have neither name nor times.
pub(super) const FIRST_FILE: RecordNo = RecordNo(24);

/// What the header of a record in use must be, whatever it holds.
pub(super) fn header(cx: &Context<'_>, view: &RecordView<'_>, issues: &mut Issues) {
    let n = view.number();
    let at = |field: u64| cx.volume.record_offset(n).map(|o| o + field);
    let mut wrong = |field: u64, what: String| {
        issues.push(Code::RecordHeader, Some(n), at(field), || {
            format!("File record {n}: found {what}")
        });
    };
    if let Some(stored) = view.stored_number()
        && stored != n.0 as u32
    {
        wrong(0x2c, format!("{stored} as its own number, expected {n}"));
    }
    let size = cx.volume.geometry().record_size;
    let allocated = u32_at(view.bytes(), 0x1c);
    if allocated != size {
        wrong(
            0x1c,
            format!("{allocated} bytes as its length, expected {size}"),
        );
    }
    if view.sequence() == 0 {
        wrong(0x10, "sequence number 0, expected at least 1".to_owned());
    }
    let mut last: Option<u32> = None;
    let mut ids = Vec::with_capacity(16);
    for a in view.attributes().flatten() {
        if last.is_some_and(|l| l > a.type_code) {
            wrong(
                a.offset.into(),
                format!("attribute {:#x} behind one of a higher type", a.type_code),
            );
        }
        last = Some(a.type_code);
        ids.push(a.id);
    }
    let next = view.next_attr_id();
    ids.sort_unstable();
    if ids.windows(2).any(|w| w[0] == w[1]) {
        wrong(0x28, "two attributes with the same number".to_owned());
    }
    // A counter that went round starts again at 0.
    if let Some(most) = ids.last()
        && *most >= next
        && next != 0
    {
        wrong(
            0x28,
            format!("{next} as the next attribute number, expected more than {most}"),
        );
    }
}

/// A base record with all its attributes. `complete`: none of them is missing
/// for a reason that was already said.
pub(super) fn file(
    cx: &Context<'_>,
    view: &RecordView<'_>,
    attributes: &[Placed<'_>],
    complete: bool,
    batch: &mut Batch,
) {
    let n = view.number();
    if complete {
        streams::check(cx.volume, n, attributes, &mut batch.issues);
    }
    let me = view.file_ref();
    let mut standard = false;
    for (_, a) in attributes {
        match (a.type_code, a.resident()) {
            (STANDARD_INFORMATION, Some(v)) => {
                standard = true;
                if let Some(v) = v.first_chunk::<0x48>() {
                    let id = u32_at(v, 0x34);
                    let seen = batch.security_ids.entry(id).or_insert((n, 0));
                    seen.1 += 1;
                }
            }
            (OBJECT_ID, Some(v)) if cx.has_object_ids && v.len() >= 16 => cx.claim(Claim {
                kind: Kind::ObjectId,
                side: Side::Record,
                child: me,
                parent: FileRef::default(),
                space: 0,
                body: &v[..16],
            }),
            (REPARSE_POINT, _) => {
                let body = Body::find(attributes, REPARSE_POINT, a.name);
                let mut tag = [0; 4];
                if body.is_some_and(|b| b.read(cx.volume, 0, &mut tag).is_ok()) {
                    cx.claim(Claim {
                        kind: Kind::Reparse,
                        side: Side::Record,
                        child: me,
                        parent: FileRef::default(),
                        space: 0,
                        body: &tag,
                    });
                }
            }
            _ => {}
        }
    }
    if !standard && complete && n >= FIRST_FILE {
        batch.issues.push(Code::Attributes, Some(n), None, || {
            format!("Found no $STANDARD_INFORMATION in file {n}")
        });
    }
    names(cx, view, attributes, complete, batch);
    indexes(cx, view, attributes, complete, batch);
}

fn names(
    cx: &Context<'_>,
    view: &RecordView<'_>,
    attributes: &[Placed<'_>],
    complete: bool,
    batch: &mut Batch,
) {
    let n = view.number();
    let (mut all, mut dos, mut long) = (0u32, Vec::new(), Vec::new());
    let mut parent: Option<FileRef> = None;
    for (record, a) in attributes.iter().filter(|p| p.1.type_code == FILE_NAME) {
        all += 1;
        let at = cx.volume.record_offset(*record);
        let at = at.map(|o| o + u64::from(a.offset));
        let Some(name) = a.resident().and_then(FileName::parse) else {
            batch.issues.push(Code::Name, Some(n), at, || {
                format!("File {n} has a $FILE_NAME that cannot be read")
            });
            continue;
        };
        let units = name.name.as_chunks::<2>().0;
        if units.is_empty() || units.iter().any(|u| matches!(u, [0 | b'/', 0])) {
            batch.issues.push(Code::Name, Some(n), at, || {
                let shown = name.wtf8();
                format!(
                    "File {n} has the name \"{}\", which is none",
                    Escaped(&shown)
                )
            });
        }
        match name.space {
            Space::Dos => dos.push(name.parent),
            Space::Win32 => long.push(name.parent),
            Space::Posix | Space::Win32AndDos => {}
        }
        if view.is_directory() && parent.is_some_and(|p| p != name.parent) {
            batch.issues.push(Code::Parent, Some(n), at, || {
                format!("Directory {n} has names in two directories")
            });
        }
        parent = parent.or(Some(name.parent));
        cx.claim(Claim {
            kind: Kind::Name,
            side: Side::Record,
            child: view.file_ref(),
            parent: name.parent,
            space: name.space as u8,
            body: name.name,
        });
    }
    if let (true, Some(p)) = (view.is_directory(), parent) {
        batch.parents.push((n, p));
    }
    if !complete {
        return;
    }
    if dos.len() > 1 || dos.iter().any(|p| !long.contains(p)) {
        batch.issues.push(Code::DosName, Some(n), None, || {
            format!(
                "File {n} has {} DOS names, expected at most one, beside a long name in the same directory",
                dos.len()
            )
        });
    }
    if all == 0 && n >= FIRST_FILE {
        batch.issues.push(Code::Attributes, Some(n), None, || {
            format!("Found no $FILE_NAME in file {n}")
        });
    } else if u32::from(view.links()) != all {
        let at = cx.volume.record_offset(n).map(|o| o + 0x12);
        batch.issues.push(Code::LinkCount, Some(n), at, || {
            format!(
                "File {n} has a link count of {}, expected {all} for its names",
                view.links()
            )
        });
    }
}

fn indexes(
    cx: &Context<'_>,
    view: &RecordView<'_>,
    attributes: &[Placed<'_>],
    complete: bool,
    batch: &mut Batch,
) {
    let n = view.number();
    let mut directory = false;
    for (record, a) in attributes.iter().filter(|p| p.1.type_code == INDEX_ROOT) {
        let Some(root) = a.resident() else {
            batch.issues.push(Code::IndexNode, Some(n), None, || {
                format!("The index root of file {n} is not resident")
            });
            continue;
        };
        let Some((kind, collation)) = btree::kind(root) else {
            batch.issues.push(Code::IndexNode, Some(n), None, || {
                format!("The index root of file {n} is shorter than its header")
            });
            continue;
        };
        let is_names = a.name == I30;
        directory |= is_names;
        if is_names != (kind == FILE_NAME) || is_names != (collation == btree::FILE_NAMES) {
            batch.issues.push(Code::IndexNode, Some(n), None, || {
                format!(
                    "{} of file {n} is an index of attribute {kind:#x} with collation {collation:#x}",
                    streams::title(a)
                )
            });
            continue;
        }
        let at = cx.volume.record_offset(*record);
        let at = at.map(|o| o + u64::from(a.offset));
        let index = Index {
            volume: cx.volume,
            upcase: cx.upcase,
            root,
            blocks: Body::find(attributes, INDEX_ALLOCATION, a.name),
            bitmap: Body::find(attributes, BITMAP, a.name),
        };
        let me = view.file_ref();
        let (mut entries, mut strays, mut keys) = (0, 0u64, 0u64);
        let mut each = |e: Entry<'_>| {
            entries += 1;
            if is_names {
                match FileName::parse(e.key) {
                    Some(name) => {
                        strays += u64::from(name.parent != me);
                        cx.claim(Claim {
                            kind: Kind::Name,
                            side: Side::Index,
                            child: FileRef::from_raw(e.head),
                            parent: me,
                            space: name.space as u8,
                            body: name.name,
                        });
                    }
                    None => keys += 1,
                }
            } else {
                view_entry(cx, a.name, collation, &e);
            }
        };
        let (mut damaged, mut unread) = (false, false);
        let issues = &mut batch.issues;
        let mut wrong = |w: Wrong| {
            damaged |= w.code == Code::IndexNode;
            unread |= w.code == Code::Unreadable;
            issues.push(w.code, Some(n), w.offset.or(at), || {
                format!("{} of file {n}: {}", streams::title(a), w.message)
            });
        };
        let blocks = btree::walk(&index, &|bytes| cx.pay(bytes), &mut each, &mut wrong);
        cx.index_blocks.fetch_add(blocks, Ordering::Relaxed);
        if keys > 0 {
            damaged = true;
            batch.issues.many(Code::IndexEntry, keys, Some(n), at, || {
                format!("Directory {n} has {keys} entries whose names cannot be read")
            });
        }
        if strays > 0 {
            batch
                .issues
                .many(Code::IndexEntry, strays, Some(n), at, || {
                    format!(
                        "Directory {n} has {strays} entries that name another directory as parent"
                    )
                });
        }
        if is_names {
            cx.entries.fetch_add(entries, Ordering::Relaxed);
            if damaged || unread {
                cx.broken(n, unread);
            }
        }
    }
    if complete && directory != view.is_directory() {
        cx.broken(n, false);
        batch
            .issues
            .push(Code::IndexMissing, Some(n), None, || match directory {
                true => format!("File {n} has an index of names, but is no directory"),
                false => format!("Directory {n} has no index of names ($INDEX_ROOT $I30)"),
            });
    }
}

/// What the indexes of `$Extend` say of files.
fn view_entry(cx: &Context<'_>, name: &[u8], collation: u32, e: &Entry<'_>) {
    let claim = |kind, child, body: &[u8]| {
        cx.claim(Claim {
            kind,
            side: Side::Index,
            child: FileRef::from_raw(child),
            parent: FileRef::default(),
            space: 0,
            body,
        });
    };
    match (name, collation) {
        (O, btree::NUMBERS) if e.key.len() == 16 && e.data.len() >= 8 => {
            claim(Kind::ObjectId, u64_at(e.data, 0), e.key);
        }
        (R, btree::NUMBERS) if e.key.len() >= 12 => {
            claim(Kind::Reparse, u64_at(e.key, 4), &e.key[..4]);
        }
        _ => {}
    }
}
