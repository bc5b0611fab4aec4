//! The order of a listing: depth first from the root, each directory sorted
//! as NTFS sorts it. Kept as a tape of steps that any piece of can be
//! replayed by itself, so that rows are formatted in parallel.

use super::rows::{Name, Node, Table};
use crate::units::{FileRef, RecordNo};
use crate::volume::upcase::UpCase;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Record number of the root directory.
const ROOT: u32 = 5;
/// Steps of a piece that is replayed by itself.
const PIECE: usize = 4096;
/// Longest path that is made, bytes; NTFS stops at 32,767 characters.
const MAX_PATH: usize = 100_000;

/// A step of the tape.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// A row for a name: part, place in the part.
    Row(u32, u32),
    /// A row for a file without a name.
    Nameless(u32),
    /// What follows is inside the directory of the name (part, place).
    Enter(u32, u32),
    /// What follows is inside a nameless directory.
    EnterNameless(u32),
    /// What follows has lost its directory: place in `lost`.
    EnterLost(u32),
    /// Back to the directory before.
    Leave,
}

/// Where a piece of the tape begins, and the path there.
pub(super) struct Mark {
    pub step: usize,
    pub path: Path,
}

/// The path of the directory that the tape is in, `/` last.
#[derive(Clone)]
pub(super) struct Path {
    pub text: Vec<u8>,
    ends: Vec<u32>,
}

impl Path {
    fn root() -> Self {
        Self {
            text: vec![b'/'],
            ends: Vec::new(),
        }
    }
    /// Moves the path below another directory.
    pub fn prefix(&mut self, top: &[u8]) {
        if !top.is_empty() {
            self.text.splice(0..0, top.iter().copied());
            for end in &mut self.ends {
                *end += top.len() as u32;
            }
        }
    }
    pub fn push(&mut self, name: &[u8]) {
        self.ends.push(self.text.len() as u32);
        self.text.extend_from_slice(name);
        self.text.push(b'/');
    }
    pub fn pop(&mut self) {
        if let Some(end) = self.ends.pop() {
            self.text.truncate(end as usize);
        }
    }
}

/// The tape, with a mark every [`PIECE`] steps.
pub(super) struct Order {
    pub steps: Vec<Step>,
    pub marks: Vec<Mark>,
    pub lost: Vec<FileRef>,
}

/// What stands in a directory, sorted: `start[r]..start[r + 1]` for record r.
struct Children {
    start: Vec<u32>,
    /// Sort key, part, place.
    list: Vec<(u64, u32, u32)>,
}

impl Children {
    fn of(&self, record: u32) -> &[(u64, u32, u32)] {
        let i = record as usize;
        match (self.start.get(i), self.start.get(i + 1)) {
            (Some(&a), Some(&b)) => &self.list[a as usize..b as usize],
            _ => &[],
        }
    }
}

impl Order {
    /// Orders everything below the record `top` (5 for the whole volume, with
    /// what has lost its directory behind the rest).
    pub fn new(table: &Table, upcase: &UpCase, top: u32) -> Self {
        let mut orphans: BTreeMap<(u32, u16), Vec<(u32, u32)>> = BTreeMap::new();
        let children = sort(table, upcase, &mut orphans);
        let mut walk = Walk {
            table,
            children: &children,
            seen: vec![0; (table.end().max(u64::from(ROOT) + 1) / 64 + 1) as usize],
            order: Order {
                steps: Vec::with_capacity(children.list.len() + children.list.len() / 4),
                marks: Vec::new(),
                lost: Vec::new(),
            },
            path: Path::root(),
        };
        if top != ROOT {
            walk.see(top);
            walk.below(top);
            return walk.order;
        }
        if table.node(ROOT).is_some() {
            walk.step(Step::Nameless(ROOT));
        }
        walk.see(ROOT);
        walk.below(ROOT);
        walk.nameless();
        walk.orphans(orphans);
        walk.loops();
        walk.order
    }
}

/// True when `parent` is the directory that `name` means.
fn is_parent(parent: &Node, name: &Name, child_in_use: bool) -> bool {
    let same = parent.sequence == name.parent_sequence || name.parent_sequence == 0;
    // Deleting a directory counts its sequence number up.
    let was = !child_in_use
        && !parent.in_use()
        && parent.sequence == name.parent_sequence.wrapping_add(1);
    parent.is_dir() && (same && (parent.in_use() || !child_in_use) || was)
}

fn sort(
    table: &Table,
    upcase: &UpCase,
    orphans: &mut BTreeMap<(u32, u16), Vec<(u32, u32)>>,
) -> Children {
    // Who stands where, part by part; names whose file is not there are out.
    let homes: Vec<Vec<(u32, u64)>> = table
        .parts
        .par_iter()
        .map(|part| {
            let home = |n: &Name| {
                let Some(node) = table.node(n.record).filter(|f| f.sequence == n.sequence) else {
                    return (u32::MAX, 0);
                };
                match table.node(n.parent) {
                    _ if n.record == ROOT => (u32::MAX, 0),
                    // The root is the root, whatever its record says.
                    found
                        if n.parent == ROOT
                            || found.is_some_and(|p| is_parent(p, n, node.in_use())) =>
                    {
                        (n.parent, upcase.sort_key(part.text(n.text)))
                    }
                    _ => (u32::MAX, 1),
                }
            };
            part.names.iter().map(home).collect()
        })
        .collect();
    // The root has a place also where its record is behind the last sound one.
    let end = table.end().max(u64::from(ROOT) + 1);
    let mut start = vec![0u32; end as usize + 2];
    for &(parent, _) in homes.iter().flatten() {
        if parent != u32::MAX {
            start[parent as usize + 2] += 1;
        }
    }
    for i in 2..start.len() {
        start[i] += start[i - 1];
    }
    let mut list = vec![(0, 0, 0); start[start.len() - 1] as usize];
    for (p, part) in homes.iter().enumerate() {
        for (i, &(parent, key)) in part.iter().enumerate() {
            let id = (p as u32, i as u32);
            if parent != u32::MAX {
                let at = &mut start[parent as usize + 1];
                list[*at as usize] = (key, id.0, id.1);
                *at += 1;
            } else if key == 1 {
                let n = &table.parts[p].names[i];
                orphans
                    .entry((n.parent, n.parent_sequence))
                    .or_default()
                    .push(id);
            }
        }
    }
    drop(homes);
    let mut rest = &mut list[..];
    let mut dirs = Vec::new();
    for w in start.windows(2) {
        let (dir, tail) = rest.split_at_mut((w[1] - w[0]) as usize);
        rest = tail;
        if dir.len() > 1 {
            dirs.push(dir);
        }
    }
    let text = |part: u32, i: u32| {
        let p = &table.parts[part as usize];
        p.text(p.names[i as usize].text)
    };
    let compare = |a: &(u64, u32, u32), b: &(u64, u32, u32)| {
        a.0.cmp(&b.0)
            .then_with(|| upcase.compare_wtf8(text(a.1, a.2), text(b.1, b.2)))
            .then_with(|| (a.1, a.2).cmp(&(b.1, b.2)))
    };
    dirs.into_par_iter().for_each(|dir| match dir.len() {
        0..50_000 => dir.sort_unstable_by(compare),
        _ => dir.par_sort_unstable_by(compare),
    });
    Children { start, list }
}

struct Walk<'a> {
    table: &'a Table,
    children: &'a Children,
    /// A bit per record: its children are on the tape.
    seen: Vec<u64>,
    order: Order,
    path: Path,
}

impl Walk<'_> {
    fn step(&mut self, step: Step) {
        if self.order.steps.len().is_multiple_of(PIECE) {
            self.order.marks.push(Mark {
                step: self.order.steps.len(),
                path: self.path.clone(),
            });
        }
        self.order.steps.push(step);
        match step {
            Step::Enter(part, i) => {
                let p = &self.table.parts[part as usize];
                self.path.push(p.text(p.names[i as usize].text));
            }
            Step::EnterNameless(record) => self.path.push(nameless(record).as_bytes()),
            Step::EnterLost(i) => self.path.push(lost(self.order.lost[i as usize]).as_bytes()),
            Step::Leave => self.path.pop(),
            Step::Row(..) | Step::Nameless(_) => {}
        }
    }

    /// False when it was seen before.
    fn see(&mut self, record: u32) -> bool {
        let Some(word) = self.seen.get_mut((record / 64) as usize) else {
            return false;
        };
        let bit = 1 << (record % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    fn unseen(&self, record: u32) -> bool {
        self.seen
            .get((record / 64) as usize)
            .is_some_and(|w| w >> (record % 64) & 1 == 0)
    }

    /// Everything below a directory.
    fn below(&mut self, record: u32) {
        let children = self.children;
        let mut stack = vec![children.of(record).iter()];
        while let Some(dir) = stack.last_mut() {
            let Some(&(_, part, i)) = dir.next() else {
                stack.pop();
                if !stack.is_empty() {
                    self.step(Step::Leave);
                }
                continue;
            };
            self.step(Step::Row(part, i));
            let file = self.table.parts[part as usize].names[i as usize].record;
            let inside = children.of(file);
            if !inside.is_empty() && self.path.text.len() < MAX_PATH && self.see(file) {
                self.step(Step::Enter(part, i));
                stack.push(inside.iter());
            }
        }
    }

    /// Files in use without any name, and what is inside them.
    fn nameless(&mut self) {
        let table = self.table;
        for node in table.parts.iter().flat_map(|p| &p.nodes) {
            if node.links == 0 && node.record != ROOT {
                self.step(Step::Nameless(node.record));
                if !self.children.of(node.record).is_empty() && self.see(node.record) {
                    self.step(Step::EnterNameless(node.record));
                    self.below(node.record);
                    self.step(Step::Leave);
                }
            }
        }
    }

    /// Names whose directory is gone.
    fn orphans(&mut self, orphans: BTreeMap<(u32, u16), Vec<(u32, u32)>>) {
        for ((record, sequence), names) in orphans {
            let dir = FileRef {
                record: RecordNo(u64::from(record)),
                sequence,
            };
            self.order.lost.push(dir);
            self.step(Step::EnterLost(self.order.lost.len() as u32 - 1));
            for (part, i) in names {
                self.step(Step::Row(part, i));
                let file = self.table.parts[part as usize].names[i as usize].record;
                if !self.children.of(file).is_empty() && self.see(file) {
                    self.step(Step::Enter(part, i));
                    self.below(file);
                    self.step(Step::Leave);
                }
            }
            self.step(Step::Leave);
        }
    }

    /// Directories that are inside themselves, or too deep for a path.
    fn loops(&mut self) {
        let table = self.table;
        for node in table.parts.iter().flat_map(|p| &p.nodes) {
            let inside = self.children.of(node.record);
            if !inside.is_empty() && self.unseen(node.record) && self.see(node.record) {
                self.order.lost.push(node.file());
                self.step(Step::EnterLost(self.order.lost.len() as u32 - 1));
                self.below(node.record);
                self.step(Step::Leave);
            }
        }
    }
}

/// What stands for the name of a file without one.
pub(super) fn nameless(record: u32) -> String {
    super::super::tree::nameless(RecordNo(u64::from(record)))
}

/// What stands for a directory that is gone.
pub(super) fn lost(dir: FileRef) -> String {
    format!("<orphan {dir}>")
}
