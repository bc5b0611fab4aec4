//! What is known of every file record once all were seen: four bytes each, and
//! the parents of directories.

use super::report::{Code, Issues};
use crate::units::{FileRef, RecordNo};
use crate::volume::tree::ROOT;

/// One record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub sequence: u16,
    pub flags: u8,
}

/// In use.
pub(super) const IN_USE: u8 = 1;
/// A directory.
pub(super) const DIRECTORY: u8 = 2;
/// An extension record.
pub(super) const EXTENSION: u8 = 4;
/// Damaged.
pub(super) const BAD: u8 = 8;
/// Damaged because it cannot be read.
pub(super) const UNREAD: u8 = 16;

/// All records by number.
#[derive(Default)]
pub(super) struct Table {
    pub states: Vec<State>,
    /// Directories and their parents, by number.
    pub parents: Vec<(RecordNo, FileRef)>,
}

/// True when the record cannot be read: nothing is known about it.
pub(super) fn is_unread(table: &Table, r: FileRef) -> bool {
    let n = usize::try_from(r.record.0).ok();
    n.and_then(|n| table.states.get(n))
        .is_some_and(|s| s.flags & UNREAD != 0)
}

/// Why a reference leads nowhere.
pub(super) fn wrong(table: &Table, r: FileRef) -> Option<String> {
    let state = usize::try_from(r.record.0)
        .ok()
        .and_then(|n| table.states.get(n));
    let Some(s) = state else {
        return Some(format!("there is no file record {}", r.record));
    };
    match () {
        _ if s.flags & BAD != 0 => Some(format!("file record {} is damaged", r.record)),
        _ if s.flags & IN_USE == 0 => Some(format!("file record {} is not in use", r.record)),
        _ if s.flags & EXTENSION != 0 => {
            Some(format!("file record {} is an extension record", r.record))
        }
        _ if s.sequence != r.sequence => Some(format!(
            "file record {} has sequence number {}",
            r.record, s.sequence
        )),
        _ => None,
    }
}

/// Why a reference is none to a directory.
pub(super) fn no_directory(table: &Table, r: FileRef) -> Option<String> {
    wrong(table, r).or_else(|| {
        let s = table.states.get(r.record.0 as usize)?;
        (s.flags & DIRECTORY == 0).then(|| format!("file record {} is no directory", r.record))
    })
}

/// Follows every directory up to the root.
pub(super) fn follow_parents(table: &Table, issues: &mut Issues) {
    #[derive(Clone, Copy, PartialEq)]
    enum Way {
        Unknown,
        Now,
        Root,
        Lost,
    }
    let all = &table.parents;
    let mut ways = vec![Way::Unknown; all.len()];
    let mut chain = Vec::new();
    for start in 0..all.len() {
        chain.clear();
        let mut at = start;
        let end = loop {
            match ways[at] {
                Way::Now => {
                    let (n, parent) = all[at];
                    issues.push(Code::Parent, Some(n), None, || {
                        format!("Directory {n} is in a circle: its parent {parent} lies below it")
                    });
                    break Way::Lost;
                }
                Way::Unknown => {}
                known => break known,
            }
            let (n, parent) = all[at];
            if n == ROOT {
                if parent.record != ROOT {
                    issues.push(Code::Parent, Some(n), None, || {
                        format!("The root directory has parent {parent}, expected itself")
                    });
                }
                ways[at] = Way::Root;
                break Way::Root;
            }
            ways[at] = Way::Now;
            chain.push(at);
            if is_unread(table, parent) {
                break Way::Lost;
            }
            if let Some(why) = no_directory(table, parent) {
                issues.push(Code::Parent, Some(n), None, || {
                    format!("Directory {n} names {parent} as its parent, but {why}")
                });
                break Way::Lost;
            }
            match all.binary_search_by_key(&parent.record, |p| p.0) {
                Ok(next) => at = next,
                // A directory without a name, which is said of itself.
                Err(_) => break Way::Lost,
            }
        };
        for &i in &chain {
            ways[i] = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(n: u64) -> FileRef {
        FileRef {
            record: RecordNo(n),
            sequence: 1,
        }
    }

    #[test]
    fn circles_and_strays_are_told_once_each() {
        let dir = State {
            sequence: 1,
            flags: IN_USE | DIRECTORY,
        };
        let mut table = Table {
            states: vec![dir; 20],
            parents: Vec::new(),
        };
        table.states[9].flags = IN_USE;
        let ways = [
            (5, 5),
            (6, 5),
            (7, 6),
            (8, 9),
            (10, 11),
            (11, 12),
            (12, 10),
            (13, 11),
            (14, 14),
            (15, 99),
        ];
        table.parents = ways.map(|(n, p)| (RecordNo(n), reference(p))).to_vec();
        let mut issues = Issues::default();
        follow_parents(&table, &mut issues);
        let found: Vec<u64> = issues
            .list
            .iter()
            .map(|i| i.record.unwrap_or_default().0)
            .collect();
        assert_eq!(found, [8, 10, 14, 15], "{:?}", issues.list);
    }
}
