//! A listing of a whole volume straight off its file records: one parallel
//! scan collects compact rows, the tree is put in order once, and rows are
//! formatted in parallel and handed on in order.
//!
//! | file | subject |
//! |---|---|
//! | `rows` | what is kept of a record |
//! | `order` | depth first, each directory sorted as NTFS sorts it |

mod order;
mod rows;

pub use rows::{Data, Node, PART};

use super::names::push_escaped;
use super::open::Volume;
use super::record::{RecordView, apply_fixups};
use super::upcase::UpCase;
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::units::RecordNo;
use order::{Order, Path, Step};
use rayon::prelude::*;
use rows::{NamedStream, Part, Table};

/// Bytes of the MFT that are read at once.
const READ: usize = 256 << 10;

/// What a listing holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deleted {
    /// Files in use only.
    #[default]
    Hide,
    /// Files in use and deleted ones whose record still has a name.
    Show,
    /// Deleted ones only.
    Only,
}

/// A volume's files by path, sorted.
pub struct Listing {
    table: Table,
    order: Order,
    deleted: Deleted,
    /// Records and attributes that could not be understood.
    pub faults: u64,
}

/// A line of a listing: a file under one of its names, or a named stream.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// Path of the directory, WTF-8, from `/` to `/`.
    pub dir: &'a [u8],
    /// `dir` needs no escapes.
    pub dir_plain: bool,
    /// The name, WTF-8; empty for the root directory.
    pub name: &'a [u8],
    /// Name (WTF-8) and size of the stream, when it is a row for one.
    pub stream: Option<(&'a [u8], &'a Data)>,
    /// The file.
    pub node: &'a Node,
}

impl Row<'_> {
    /// Appends the path for people: one line whatever the names hold.
    #[inline]
    pub fn push_path(&self, out: &mut Vec<u8>) {
        if self.dir_plain {
            out.extend_from_slice(self.dir);
        } else {
            push_escaped(self.dir, out);
        }
        push_escaped(self.name, out);
        if let Some((name, _)) = self.stream {
            out.push(b':');
            push_escaped(name, out);
        }
    }

    /// The path as it is, WTF-8.
    pub fn path(&self) -> Vec<u8> {
        let mut p = [self.dir, self.name].concat();
        if let Some((name, _)) = self.stream {
            p.push(b':');
            p.extend_from_slice(name);
        }
        p
    }
}

impl Listing {
    /// Scans the file records of a volume and orders everything below the
    /// directory `top` (record 5 for all).
    pub fn scan(
        volume: &Volume,
        upcase: &UpCase,
        top: RecordNo,
        deleted: Deleted,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let parts = scan_parts(volume, deleted != Deleted::Hide, observer)?;
        let faults = parts.iter().map(|p| p.faults).sum();
        let table = Table::new(parts);
        let top = u32::try_from(top.0)
            .map_err(|_| Error::unsupported("A listing ends at file record 2^32"))?;
        let order = Order::new(&table, upcase, top);
        Ok(Self {
            table,
            order,
            deleted,
            faults,
        })
    }

    /// Formats every row with `format`, in parallel, and hands the text on in
    /// order, in large pieces.
    pub fn write(
        &self,
        format: impl Fn(&Row<'_>, &mut Vec<u8>) + Sync,
        mut out: impl FnMut(&[u8]) -> Result<()> + Send,
    ) -> Result<()> {
        let group = rayon::current_num_threads() * 8;
        let pieces: Vec<usize> = (0..self.order.marks.len()).collect();
        let make = |group: &[usize]| -> Vec<Vec<u8>> {
            let piece = |&i: &usize| {
                let mut text = Vec::with_capacity(512 << 10);
                self.replay(i, &mut |row| format(row, &mut text));
                text
            };
            group.par_iter().map(piece).collect()
        };
        let mut ready: Vec<Vec<u8>> = Vec::new();
        for g in pieces.chunks(group) {
            // The last group is written while the next one is made.
            let (next, wrote) =
                rayon::join(|| make(g), || ready.iter().try_for_each(|text| out(text)));
            wrote?;
            ready = next;
        }
        ready.iter().try_for_each(|text| out(text))
    }

    /// Visits every row in order.
    pub fn for_each(&self, mut visit: impl FnMut(&Row<'_>)) {
        for i in 0..self.order.marks.len() {
            self.replay(i, &mut visit);
        }
    }

    fn replay(&self, piece: usize, visit: &mut dyn FnMut(&Row<'_>)) {
        let from = &self.order.marks[piece];
        let to = self.order.marks.get(piece + 1);
        let to = to.map_or(self.order.steps.len(), |m| m.step);
        let mut path = from.path.clone();
        let mut plain = super::names::is_plain(&path.text);
        for step in &self.order.steps[from.step..to] {
            match *step {
                Step::Row(part, i) => {
                    let part = &self.table.parts[part as usize];
                    let name = &part.names[i as usize];
                    if let Some(node) = self.table.node(name.record) {
                        self.rows(&path, plain, part.text(name.text), node, visit);
                    }
                    continue;
                }
                Step::Nameless(record) => {
                    if let Some(node) = self.table.node(record) {
                        let name = match record {
                            5 => String::new(),
                            _ => order::nameless(record),
                        };
                        self.rows(&path, plain, name.as_bytes(), node, visit);
                    }
                    continue;
                }
                Step::Enter(part, i) => {
                    let part = &self.table.parts[part as usize];
                    path.push(part.text(part.names[i as usize].text));
                }
                Step::EnterNameless(record) => path.push(order::nameless(record).as_bytes()),
                Step::EnterLost(i) => {
                    path.push(order::lost(self.order.lost[i as usize]).as_bytes());
                }
                Step::Leave => path.pop(),
            }
            plain = super::names::is_plain(&path.text);
        }
    }

    fn rows(
        &self,
        dir: &Path,
        dir_plain: bool,
        name: &[u8],
        node: &Node,
        visit: &mut dyn FnMut(&Row<'_>),
    ) {
        if self.deleted == Deleted::Only && node.in_use() {
            return;
        }
        let mut row = Row {
            dir: &dir.text,
            dir_plain,
            name,
            stream: None,
            node,
        };
        visit(&row);
        if node.has_streams() {
            for (name, data) in self.table.streams_of(node) {
                row.stream = Some((name, data));
                visit(&row);
            }
        }
    }
}

/// Collects the rows of all records, part by part in parallel.
fn scan_parts(volume: &Volume, deleted: bool, observer: &dyn Observer) -> Result<Vec<Part>> {
    let mft = volume.mft();
    let size = u64::from(volume.geometry().record_size);
    let end = mft.record_count.min(mft.initialized.div_ceil(size));
    let parts = end.div_ceil(PART);
    (0..parts)
        .into_par_iter()
        .map(|i| {
            if observer.cancelled() {
                return Err(Error::interrupted());
            }
            let first = i * PART;
            let last = (first + PART).min(end);
            let mut part = Part::new(first, (last - first) as usize, deleted);
            let bad = for_each_record(volume, first, last, deleted, |v| part.add(v));
            part.faults += bad;
            observer.advance(last - first);
            Ok(part)
        })
        .collect()
}

/// Visits the records `first..end` that are in use (with `deleted`: also
/// those that are free but sound); returns how many were damaged.
pub(crate) fn for_each_record(
    volume: &Volume,
    first: u64,
    end: u64,
    deleted: bool,
    mut visit: impl FnMut(&RecordView<'_>),
) -> u64 {
    let size = volume.geometry().record_size as usize;
    let per_read = (READ / size).max(1) as u64;
    let map = &volume.mft().extents;
    let mut buf = vec![0; per_read as usize * size];
    let mut bad = 0;
    let mut one = |n: u64, bytes: &mut [u8]| {
        // Bit 0 of the flags is the same before and after fixups.
        let used = bytes[0x16] & 1 != 0;
        if !bytes.starts_with(b"FILE") || !used && !deleted {
            // A mirror may know better about the first few.
            if n < 4
                && let Ok(r) = volume.record(RecordNo(n))
            {
                visit(&r.view());
            } else if bytes.starts_with(b"BAAD") {
                return 1;
            }
            return 0;
        }
        let sound = apply_fixups(bytes).and_then(|()| RecordView::new(bytes, RecordNo(n)));
        match sound {
            Ok(view) => visit(&view),
            Err(_) => match volume.record(RecordNo(n)) {
                Ok(r) if n < 16 => visit(&r.view()),
                _ => return u64::from(used),
            },
        }
        0
    };
    let mut n = first;
    while n < end {
        let count = per_read.min(end - n);
        let bytes = &mut buf[..count as usize * size];
        if volume.read_extents(map, n * size as u64, bytes).is_ok() {
            for (i, r) in bytes.chunks_exact_mut(size).enumerate() {
                bad += one(n + i as u64, r);
            }
        } else {
            for i in n..n + count {
                let bytes = &mut buf[..size];
                match volume.read_extents(map, i * size as u64, bytes) {
                    Ok(()) => bad += one(i, bytes),
                    Err(_) => bad += 1,
                }
            }
        }
        n += count;
    }
    bad
}

impl Table {
    /// The named streams of a file; those from other records come last.
    fn streams_of(&self, node: &Node) -> impl Iterator<Item = (&[u8], &Data)> {
        let mine = |s: &NamedStream| s.record == node.record && s.sequence == node.sequence;
        let here = (u64::from(node.record) / PART) as usize;
        let near = &self.parts[here];
        let from = near.streams.partition_point(|s| s.own < node.record);
        let near_rows = near.streams[from..]
            .iter()
            .take_while(move |s| s.own == node.record)
            .filter(move |s| mine(s))
            .map(move |s| (near.text(s.text), &s.data));
        let far = self.far_streams(node.record).iter();
        let far_rows = far.filter_map(move |&(_, p, i)| {
            let part = &self.parts[p as usize];
            let s = &part.streams[i as usize];
            mine(s).then(|| (part.text(s.text), &s.data))
        });
        near_rows.chain(far_rows)
    }
}
