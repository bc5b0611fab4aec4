//! Deleted files: what the file records of a volume still say of them.

use super::host::{Refused, shown};
use super::{ExtractOptions, ExtractSummary, Item, Job, Kind, MAX_DEPTH, Place, named};
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::units::RecordNo;
use crate::volume::listing::{Deleted, Listing, Row};
use crate::volume::names::to_utf16;
use crate::volume::path::VolumePath;
use crate::volume::tree::{DirEntry, ROOT, Tree};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Extracts the deleted files at or below each path whose records still have
/// a name, each into the directory that it stood in.
pub fn extract_deleted(
    tree: &Tree<'_>,
    paths: &[VolumePath],
    target: &Path,
    options: ExtractOptions,
    observer: &dyn Observer,
) -> Result<ExtractSummary> {
    let total = tree.volume().mft().record_count;
    observer.begin("list", Some(total));
    let listing = Listing::scan(tree.volume(), tree.upcase(), ROOT, Deleted::Only, observer);
    observer.end();
    let listing = listing?;
    let wide = |n: &[u8]| to_utf16(n).unwrap_or_default();
    let same =
        |(a, b): (&Vec<u8>, &&[u8])| a == b || tree.upcase().compare(wide(a), wide(b)).is_eq();
    let below = |p: &VolumePath, names: &[&[u8]]| {
        p.names.len() <= names.len() && p.names.iter().zip(names).all(same)
    };
    let first = |row: &Row<'_>| {
        let names = names(row)?;
        paths.iter().position(|p| below(p, &names))
    };
    let mut found = vec![false; paths.len()];
    listing.for_each(|row| {
        if let Some(i) = first(row) {
            found[i] = true;
        }
    });
    for (path, found) in paths.iter().zip(found) {
        if !found && !path.names.is_empty() {
            let shown = shown(&path.names.join(&b'/'));
            return Err(Error::not_found(format!(
                "Found no deleted file at or below /{shown}"
            )));
        }
    }
    let mut job = Job::new(tree, target, options, observer)?;
    let root = job.dup_root()?;
    observer.begin("extract", None);
    let mut result = Ok(());
    for (i, path) in paths.iter().enumerate() {
        let mut chain = Chain::default();
        let cut = path.names.len().saturating_sub(1);
        // Not collected: paths may be long.
        listing.for_each(|row| {
            if result.is_ok()
                && first(row) == Some(i)
                && let Some(names) = names(row)
            {
                result = job.deleted(row, &names[cut..], &root, &mut chain);
            }
        });
    }
    observer.end();
    result.map(|()| job.summary)
}

/// The names of a row on the way from the root; `None` for what is no file.
fn names<'a>(row: &Row<'a>) -> Option<Vec<&'a [u8]>> {
    if row.stream.is_some() || row.name.is_empty() {
        return None;
    }
    let dirs = row.dir.split(|&b| b == b'/').filter(|n| !n.is_empty());
    Some(dirs.chain([row.name]).collect())
}

/// The directories down to the file at hand: their names on the volume and
/// here.
#[derive(Default)]
struct Chain {
    names: Vec<Vec<u8>>,
    host: Vec<Vec<u8>>,
    made: Vec<OwnedFd>,
}

impl Job<'_, '_> {
    /// A deleted file or directory; those of a directory come behind each
    /// other.
    fn deleted(
        &mut self,
        row: &Row<'_>,
        names: &[&[u8]],
        root: &OwnedFd,
        chain: &mut Chain,
    ) -> Result<()> {
        if self.observer.cancelled() {
            return Err(Error::interrupted());
        }
        let path = row.path();
        let record = RecordNo(row.node.record.into());
        let dirs = names.len() - usize::from(!row.node.is_dir());
        if dirs > MAX_DEPTH {
            return self.skip("loop", &path, "it is too deep");
        }
        let (wanted, rest) = names.split_at(dirs);
        let same = wanted.iter().zip(&chain.names);
        let same = same.take_while(|(a, b)| *a == b).count();
        chain.names.truncate(same);
        chain.host.truncate(same);
        chain.made.truncate(same);
        for name in &wanted[same..] {
            let parent = chain.made.last().unwrap_or(root);
            let mut host = self.name(name, &path);
            let mut fd = self.host.dir(parent, &host);
            if matches!(fd, Err(Refused::Ours)) {
                host = self.other_name(&host, record, &path);
                fd = self.host.dir(parent, &host);
            }
            match fd {
                Ok(fd) => chain.made.push(fd),
                Err(e) => return self.refused(e, &path),
            }
            chain.host.push(host);
            chain.names.push(name.to_vec());
            self.summary.dirs += 1;
        }
        let Some(name) = rest.first() else {
            return Ok(());
        };
        let place = Place {
            dir: chain.made.last().unwrap_or(root),
            names: &chain.host,
        };
        let entry = DirEntry {
            name: name.to_vec(),
            ..named(record, &path)
        };
        let item = Item {
            entry,
            kind: Kind::Any,
        };
        self.entry(&item, &path, &place, dirs).map(|_| ())
    }
}
