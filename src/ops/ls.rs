//! `ls`: what is on a volume, as text or as JSON lines.

use super::opened;
use crate::error::{Error, Result};
use crate::observe::{Observer, warning};
use crate::units::RecordNo;
use crate::volume::Finding;
use crate::volume::listing::{Deleted, Listing, Row, file_rows};
use crate::volume::names::{Escaped, push_escaped, push_escaped_path};
use crate::volume::path::VolumePath;
use crate::volume::reparse::tag_name;
use crate::volume::tree::{DirList, Found, ROOT, Tree};
use std::io::Write;
use std::sync::Arc;

/// Damaged records that are named; all are counted.
const NAMED: usize = 20;

/// What to list, and how.
#[derive(Clone, Debug, Default)]
pub struct LsOptions {
    /// Everything below, not only what stands in the directory.
    pub recursive: bool,
    /// Attributes, sizes, times, links.
    pub long: bool,
    /// A JSON object per line, with all there is to say.
    pub json: bool,
    /// Deleted files too, or only them.
    pub deleted: Deleted,
    /// Set before each path: `p2:` on a disk, else empty.
    pub prefix: String,
}

/// Where to begin.
#[derive(Clone, Debug)]
pub enum LsTarget {
    /// A path.
    Path(VolumePath),
    /// A file record, also a deleted one.
    Record(RecordNo),
}

/// How it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LsSummary {
    /// Directories, records and attributes that were damaged.
    pub damaged: u64,
}

/// Lists; the finished lines go to `out` in large pieces. Damage that only
/// costs names is warned about.
pub fn ls(
    tree: &Tree<'_>,
    target: &LsTarget,
    options: &LsOptions,
    observer: &dyn Observer,
    mut out: impl FnMut(&[u8]) -> Result<()> + Send,
) -> Result<LsSummary> {
    let found = match target {
        LsTarget::Path(path) => tree.lookup(path)?,
        LsTarget::Record(n) => return one(tree, *n, options, &mut out),
    };
    let orphan = tree.is_orphan(&found);
    if !orphan && (found.stream.is_some() || !tree.is_directory(found.file.record)?) {
        return file(tree, &found, options, &mut out);
    }
    if options.recursive || options.deleted != Deleted::Hide {
        return all(tree, &found, options, observer, out);
    }
    let list = match orphan {
        true => DirList {
            entries: Arc::new(tree.list_orphan(found.file)?),
            damage: None,
        },
        false => tree.list(found.file.record)?,
    };
    let mut summary = LsSummary {
        damaged: opened::tell(tree.volume(), observer),
    };
    if let Some(finding) = &list.damage {
        summary.damaged += 1;
        observer.warn(warning("index", finding.to_string()));
    }
    let mut dir = found.path.clone();
    if dir != b"/" {
        dir.push(b'/');
    }
    let mut text = Vec::new();
    for entry in list.entries.iter() {
        if observer.cancelled() {
            return Err(Error::interrupted());
        }
        let (code, why) = match tree.volume().file(entry.file.record) {
            Err(e) => ("bad-record", e.to_string()),
            Ok(file) if file.base().view().sequence() != entry.file.sequence => {
                ("bad-record", "its file is another one now".to_owned())
            }
            Ok(file) if !file.base().view().in_use() => {
                ("bad-record", "its file is deleted".to_owned())
            }
            // `ls -R` goes by the file records: it shows the file there.
            Ok(file) if !orphan && tree.is_elsewhere(&file, found.file, &entry.name) => {
                let own = tree.path_of(entry.file.record);
                let own = own.map_or_else(|e| e.to_string(), |p| Escaped(&p).to_string());
                let what = "left out, the index is wrong: by its file record it is";
                ("index", format!("{what} {own}"))
            }
            Ok(file) => {
                file_rows(&file, &dir, &entry.name, |row| {
                    line(row, options, false, &mut text)
                });
                continue;
            }
        };
        summary.damaged += 1;
        let path = [&dir[..], &entry.name].concat();
        observer.warn(warning(code, format!("{}: {why}", Escaped(&path))));
        if text.len() > 1 << 16 {
            out(&text)?;
            text.clear();
        }
    }
    out(&text)?;
    Ok(summary)
}

fn all(
    tree: &Tree<'_>,
    found: &Found,
    options: &LsOptions,
    observer: &dyn Observer,
    out: impl FnMut(&[u8]) -> Result<()> + Send,
) -> Result<LsSummary> {
    let orphan = tree.is_orphan(found);
    let top = if orphan { ROOT } else { found.file.record };
    let total = tree.volume().mft().record_count;
    observer.begin("list", Some(total));
    let listing = Listing::scan(tree.volume(), tree.upcase(), top, options.deleted, observer);
    observer.end();
    let mut listing = listing?;
    if !orphan {
        listing = listing.below(&found.path);
    }
    // A copy of record 0 was told; the scan has met the damaged one itself.
    let told = opened::tell(tree.volume(), observer);
    let (mut bad, mut damaged) = (listing.bad.list.iter().peekable(), listing.bad.count);
    damaged += match bad.next_if(|b| told > 0 && b.record.0 == 0) {
        Some(_) => told - 1,
        None => told,
    };
    for bad in bad.take(NAMED) {
        let message = format!("File record {}: {}", bad.record, bad.why);
        let finding = Finding {
            offset: bad.offset,
            ..Finding::new("bad-record", message)
        };
        observer.warn(warning("bad-record", finding.to_string()));
    }
    let mut dir = found.path.clone();
    if dir != b"/" {
        dir.push(b'/');
    }
    let deep = options.recursive;
    let row = |row: &Row<'_>, text: &mut Vec<u8>| {
        let here = match deep {
            true => !orphan || row.dir.starts_with(&dir),
            false => {
                // Nameless records in use stand in no directory.
                let nameless = row.node.in_use() && row.name.starts_with(b"<no name mft ");
                row.dir == dir && !row.name.is_empty() && !nameless
            }
        };
        if here {
            line(row, options, deep, text);
        }
    };
    listing.write(row, out)?;
    Ok(LsSummary { damaged })
}

/// A file, or one of its streams, that a path names.
fn file(
    tree: &Tree<'_>,
    found: &Found,
    options: &LsOptions,
    out: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<LsSummary> {
    let records = tree.volume().file(found.file.record)?;
    let cut = found
        .path
        .iter()
        .rposition(|&b| b == b'/')
        .map_or(0, |i| i + 1);
    let (dir, name) = found.path.split_at(cut);
    let wanted = found.stream.as_ref().map(|s| {
        let actual = tree.stream_name(&records, s);
        actual.map(|n| crate::volume::names::wtf8(&n))
    });
    let mut text = Vec::new();
    let mut rows = 0;
    file_rows(&records, dir, name, |row| {
        let shown = match (&wanted, row.stream) {
            (None, _) => true,
            (Some(Some(w)), Some((name, _))) => w == name,
            (Some(Some(w)), None) => w.is_empty(),
            (Some(None), _) => false,
        };
        if shown {
            rows += 1;
            line(row, options, true, &mut text);
        }
    });
    if rows == 0 {
        // Says what is missing.
        tree.open(found)?;
        return Err(
            Error::unsupported("Only streams are listed, not other attributes")
                .hint("`cat` shows the attribute"),
        );
    }
    out(&text)?;
    Ok(LsSummary::default())
}

/// The file of a record, under each of its names.
fn one(
    tree: &Tree<'_>,
    n: RecordNo,
    options: &LsOptions,
    out: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<LsSummary> {
    let mut n = n;
    if let Some(base) = tree.volume().record(n)?.view().base() {
        n = base.record;
    }
    let records = tree.volume().file(n)?;
    let path = tree.path_of(n)?;
    let mut text = Vec::new();
    let cut = path.iter().rposition(|&b| b == b'/').map_or(0, |i| i + 1);
    file_rows(&records, &path[..cut], &path[cut..], |row| {
        line(row, options, true, &mut text)
    });
    for (dir, name) in crate::volume::tree::names_of(&records).into_iter().skip(1) {
        let mut dir = match tree.path_of(dir.record) {
            Ok(path) if path == b"/" => Vec::new(),
            Ok(path) => path,
            Err(_) => format!("/<orphan {dir}>").into_bytes(),
        };
        dir.push(b'/');
        file_rows(&records, &dir, &name, |row| {
            line(row, options, true, &mut text)
        });
    }
    out(&text)?;
    Ok(LsSummary {
        damaged: records.notes.len() as u64,
    })
}

fn line(row: &Row<'_>, options: &LsOptions, whole_path: bool, out: &mut Vec<u8>) {
    if options.json {
        json(row, &options.prefix, out);
    } else if options.long {
        long(row, &options.prefix, whole_path, out);
    } else {
        push_path(row, &options.prefix, whole_path, out);
        out.push(b'\n');
    }
}

#[inline]
fn push_path(row: &Row<'_>, prefix: &str, whole: bool, out: &mut Vec<u8>) {
    if whole {
        out.extend_from_slice(prefix.as_bytes());
        row.push_path(out);
    } else {
        push_escaped_path(row.name, out);
        if let Some((name, _)) = row.stream {
            out.push(b':');
            push_escaped(name, out);
        }
    }
}

/// The letters of `ls -l`: directory, link or other reparse point, read-only,
/// hidden, system, archive, compressed, sparse (p), encrypted, offline,
/// deleted.
fn letters(row: &Row<'_>) -> [u8; 11] {
    let n = row.node;
    let data = match row.stream {
        Some((_, d)) => d.flags,
        None => n.data_flags,
    };
    let attribute = |bit: u32| n.attributes & bit != 0;
    let own = |bit: u32| row.stream.is_none() && attribute(bit);
    let all = [
        (b'd', n.is_dir() && row.stream.is_none()),
        (b'l', n.tag != 0 && row.stream.is_none()),
        (b'r', attribute(1)),
        (b'h', attribute(2)),
        (b's', attribute(4)),
        (b'a', attribute(0x20)),
        (b'c', data.compressed() || own(0x800)),
        (b'p', data.sparse() || own(0x200)),
        (b'e', data.encrypted() || own(0x4000)),
        (b'o', attribute(0x1000) || attribute(0x40_0000)),
        (b'D', !n.in_use()),
    ];
    all.map(|(letter, on)| if on { letter } else { b'-' })
}

/// Size and allocated bytes; `None` for what has no content.
fn sizes(row: &Row<'_>) -> Option<(u64, u64)> {
    match row.stream {
        Some((_, d)) => Some((d.size, d.allocated)),
        None if row.node.has_data() => Some((row.node.size, row.node.allocated)),
        None => None,
    }
}

fn long(row: &Row<'_>, prefix: &str, whole_path: bool, out: &mut Vec<u8>) {
    let n = row.node;
    out.extend_from_slice(&letters(row));
    number(u64::from(n.links), 4, out);
    match sizes(row) {
        Some((size, allocated)) => {
            number(size, 15, out);
            number(allocated, 15, out);
        }
        None => out.extend_from_slice(b"              -              -"),
    }
    out.push(b' ');
    n.times.modified.push_to(out);
    number(u64::from(n.record), 10, out);
    out.push(b'-');
    number(u64::from(n.sequence), 0, out);
    out.push(b' ');
    push_path(row, prefix, whole_path, out);
    if row.stream.is_none() && n.tag != 0 {
        out.extend_from_slice(b" [");
        push_tag(n.tag, out);
        out.push(b']');
        if let Some(target) = row.target {
            out.extend_from_slice(b" -> ");
            // Nobody reads it back: its backslashes stay single.
            for (i, part) in target.split(|&b| b == b'\\').enumerate() {
                out.extend_from_slice(if i > 0 { b"\\" } else { b"" });
                push_escaped(part, out);
            }
        }
    }
    out.push(b'\n');
}

fn push_tag(tag: u32, out: &mut Vec<u8>) {
    match tag_name(tag) {
        Some(name) => out.extend_from_slice(name.as_bytes()),
        // Writing to a vector never fails.
        None => write!(out, "{tag:#010x}").unwrap_or(()),
    }
}

/// A number, right-aligned behind at least one blank (`width` 0: none).
fn number(mut v: u64, width: usize, out: &mut Vec<u8>) {
    let mut digits = [b' '; 32];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (v % 10) as u8;
        v /= 10;
        if v == 0 {
            break;
        }
    }
    let from = match width {
        0 => at,
        w => (at - 1).min(digits.len() - w),
    };
    out.extend_from_slice(&digits[from..]);
}

/// One JSON object and a line feed.
fn json(row: &Row<'_>, prefix: &str, out: &mut Vec<u8>) {
    let n = row.node;
    let kind: &[u8] = match row.stream {
        Some(_) => b"stream",
        None if n.is_dir() => b"dir",
        None => b"file",
    };
    out.extend_from_slice(b"{\"type\":\"entry\",\"schema\":1,\"kind\":\"");
    out.extend_from_slice(kind);
    out.extend_from_slice(b"\",\"path\":\"");
    out.extend_from_slice(prefix.as_bytes());
    push_json(row.dir, out);
    push_json(row.name, out);
    if let Some((name, _)) = row.stream {
        out.push(b':');
        push_json(name, out);
    }
    let field = |name: &str, value: u64, out: &mut Vec<u8>| {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        number(value, 0, out);
    };
    out.push(b'"');
    field("mft", u64::from(n.record), out);
    field("sequence", u64::from(n.sequence), out);
    field("links", u64::from(n.links), out);
    if let Some((size, allocated)) = sizes(row) {
        field("size", size, out);
        field("allocated", allocated, out);
    }
    field("attributes", u64::from(n.attributes), out);
    out.extend_from_slice(b",\"letters\":\"");
    out.extend_from_slice(&letters(row));
    for (name, time) in [
        ("created", n.times.created),
        ("modified", n.times.modified),
        ("changed", n.times.changed),
        ("accessed", n.times.accessed),
    ] {
        out.extend_from_slice(b"\",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":\"");
        time.push_to(out);
    }
    out.push(b'"');
    if n.tag != 0 {
        field("reparse_tag", u64::from(n.tag), out);
        out.extend_from_slice(b",\"reparse\":\"");
        push_tag(n.tag, out);
        out.push(b'"');
    }
    if let Some(target) = row.target {
        out.extend_from_slice(b",\"target\":\"");
        push_json(target, out);
        out.push(b'"');
    }
    if !n.in_use() {
        out.extend_from_slice(b",\"deleted\":true");
    }
    out.extend_from_slice(b"}\n");
}

/// WTF-8 as the inside of a JSON string; lone surrogates as `\ud8xx`, which
/// JSON can say and UTF-8 cannot.
fn push_json(text: &[u8], out: &mut Vec<u8>) {
    if text
        .iter()
        .all(|&b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\')
    {
        return out.extend_from_slice(text);
    }
    match std::str::from_utf8(text) {
        Ok(t) => {
            let quoted = serde_json::to_string(t).unwrap_or_default();
            out.extend_from_slice(&quoted.as_bytes()[1..quoted.len().saturating_sub(1)]);
        }
        Err(_) => {
            for u in crate::volume::names::to_utf16(text).unwrap_or_default() {
                write!(out, "\\u{u:04x}").unwrap_or(());
            }
        }
    }
}
