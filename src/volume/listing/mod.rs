//! A listing of a whole volume straight off its file records: one parallel
//! scan collects compact rows, the tree is put in order once, and rows are
//! formatted in parallel and handed on in order.
//!
//! | file | subject |
//! |---|---|
//! | `rows` | what is kept of a record |
//! | `details` | digests of the attributes that few files have |
//! | `order` | depth first, each directory sorted as NTFS sorts it |

mod details;
mod order;
mod rows;

pub use details::{Detail, Kind, short};
pub use rows::{Data, Node};

use super::bitmap::MarkedRecords;
use super::file::FileRecords;
use super::names::{is_plain, push_escaped, push_escaped_path};
use super::open::Volume;
use super::scan::Scanned;
use super::tree::ROOT;
use super::upcase::UpCase;
use super::usage::{BadList, BadRecord, NO_RECORD};
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::units::RecordNo;
use order::{Order, Path, Step};
use rayon::prelude::*;
use rows::{NamedStream, Part, Table};

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
    /// Set before every directory: where the listing begins.
    top: Vec<u8>,
    /// Records and attributes that could not be understood.
    pub bad: BadList,
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
    /// Where it leads, when it is a link.
    pub target: Option<&'a [u8]>,
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
            push_escaped_path(self.dir, out);
        }
        push_escaped_path(self.name, out);
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
        let show = deleted != Deleted::Hide;
        let make = |first: RecordNo| Part::new(first.0, show);
        Self::collect(volume, upcase, top, deleted, observer, make)
    }

    /// As [`Listing::scan`] of everything in use, and with the details of
    /// [`Listing::take_details`].
    pub fn scan_details(volume: &Volume, upcase: &UpCase, observer: &dyn Observer) -> Result<Self> {
        let make = |first: RecordNo| Part::new(first.0, false).with_details();
        Self::collect(volume, upcase, ROOT, Deleted::Hide, observer, make)
    }

    fn collect(
        volume: &Volume,
        upcase: &UpCase,
        top: RecordNo,
        deleted: Deleted,
        observer: &dyn Observer,
        make: impl Fn(RecordNo) -> Part + Sync,
    ) -> Result<Self> {
        let (parts, mut bad) = scan_parts(volume, make, observer)?;
        let table = Table::new(parts);
        let top = u32::try_from(top.0)
            .map_err(|_| Error::unsupported("A listing ends at file record 2^32"))?;
        let root = table.node(ROOT.0 as u32);
        let sound = root.is_some_and(|n| n.in_use() && n.is_dir());
        if !sound && !bad.list.iter().any(|b| b.record == ROOT) {
            bad.push(|| BadRecord {
                record: ROOT,
                offset: None,
                why: "Found no directory in use, and it is the root".to_owned(),
            });
        }
        for b in &mut bad.list {
            b.offset = b.offset.or_else(|| volume.record_offset(b.record));
        }
        let order = Order::new(&table, upcase, top);
        Ok(Self {
            table,
            order,
            deleted,
            top: Vec::new(),
            bad,
        })
    }

    /// Says at which path (WTF-8) the directory stands that the scan began at.
    pub fn below(mut self, path: &[u8]) -> Self {
        self.top = path.strip_suffix(b"/").unwrap_or(path).to_vec();
        self
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
        path.prefix(&self.top);
        let mut plain = plain_path(&path.text);
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
            plain = plain_path(&path.text);
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
            target: None,
            node,
        };
        if node.tag != 0 {
            row.target = self.table.parts[self.table.part_of(node.record)].target(node.record);
        }
        visit(&row);
        row.target = None;
        if node.has_streams() {
            for (name, data) in self.table.streams_of(node) {
                row.stream = Some((name, data));
                visit(&row);
            }
        }
    }
}

/// The row of one file under one name, and those of its named streams,
/// without a scan. `dir` is the directory's path, from `/` to `/`.
pub fn file_rows(file: &FileRecords, dir: &[u8], name: &[u8], mut visit: impl FnMut(&Row<'_>)) {
    let number = file.base().number();
    let mut part = Part::new(number.0, true);
    part.add(&file.base().view());
    for r in file.extensions() {
        part.add(&r.view());
    }
    let table = Table::alone(part);
    let part = &table.parts[0];
    let Some(node) = part.nodes.first() else {
        return;
    };
    let mut row = Row {
        dir,
        dir_plain: plain_path(dir),
        name,
        stream: None,
        target: part.target(node.record),
        node,
    };
    visit(&row);
    row.target = None;
    for s in &part.streams {
        row.stream = Some((part.text(s.text), &s.data));
        visit(&row);
    }
}

fn plain_path(path: &[u8]) -> bool {
    is_plain(path) && !path.contains(&b':')
}

/// Collects the rows of all records, batch by batch in parallel.
fn scan_parts(
    volume: &Volume,
    make: impl Fn(RecordNo) -> Part + Sync,
    observer: &dyn Observer,
) -> Result<(Vec<Part>, BadList)> {
    let mut parts = Vec::new();
    let mut bad = BadList::default();
    // What cannot be read of it cannot be told.
    let marked = MarkedRecords::read(volume, &mut Vec::new());
    volume.scan(
        observer,
        make,
        |part, scanned| match scanned {
            Scanned::Record(view) | Scanned::Mirror(view) => part.add(&view),
            Scanned::Free(record) if marked.is_used(record) => part.bad.push(|| BadRecord {
                record,
                offset: None,
                why: NO_RECORD.to_owned(),
            }),
            Scanned::Free(_) => {}
            Scanned::Bad {
                number,
                offset,
                why,
            } => part.bad.push(|| BadRecord {
                record: number,
                offset,
                why: why.to_string(),
            }),
        },
        |mut part| {
            bad.append(std::mem::take(&mut part.bad));
            parts.push(part);
            Ok(())
        },
    )?;
    Ok((parts, bad))
}

impl Table {
    /// The named streams of a file; those from other records come last.
    fn streams_of(&self, node: &Node) -> impl Iterator<Item = (&[u8], &Data)> {
        let mine = |s: &NamedStream| s.record == node.record && s.sequence == node.sequence;
        let near = &self.parts[self.part_of(node.record)];
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
