//! What a file holds: its streams, its reparse point, its further names.

use super::host::{Refused, shown};
use super::{Job, Place};
use crate::error::{Error, ErrorKind, Result};
use crate::units::RecordNo;
use crate::volume::attr::{DATA, REPARSE_POINT, STANDARD_INFORMATION};
use crate::volume::file::FileRecords;
use crate::volume::names::wtf8;
use crate::volume::reparse::{self, Reparse, Target};
use crate::volume::stream::{Piece, Stream};
use crate::volume::times::Times;
use crate::volume::tree::{DirEntry, names_of};
use std::collections::HashSet;

/// A reparse point is at most 16 KiB.
const MAX_REPARSE: u64 = 64 << 10;

impl Job<'_, '_> {
    /// Warns of a file whose records are damaged: a stream may be missing.
    pub(super) fn incomplete(&mut self, file: &FileRecords, path: &[u8]) -> bool {
        let why = damage_of(file);
        if let Some(why) = &why {
            let what = "a part of it may be missing";
            self.warn("bad-record", format!("{}: {what}: {why}", shown(path)));
        }
        why.is_some()
    }

    /// The reparse point of a file and its raw bytes.
    pub(super) fn reparse_point(
        &mut self,
        file: &FileRecords,
        path: &[u8],
    ) -> Result<Option<(Reparse, Vec<u8>)>> {
        let opened = Stream::open(self.tree.volume(), file, REPARSE_POINT, &[]);
        let raw = opened.and_then(|s| s.map(|s| s.read_all(MAX_REPARSE)).transpose());
        match raw {
            Ok(None) => Ok(None),
            Ok(Some(raw)) => Ok(Reparse::parse(&raw).map(|p| (p, raw))),
            Err(e) => {
                self.warn("reparse", format!("{}: {e}", shown(path)));
                Ok(None)
            }
        }
    }

    /// Writes what stands for a reparse point; true when there is nothing
    /// more to write.
    pub(super) fn is_link(
        &mut self,
        point: &Reparse,
        raw: &[u8],
        entry: &DirEntry,
        path: &[u8],
        place: &Place<'_>,
    ) -> Result<bool> {
        let link = matches!(
            point.target,
            Target::Junction { .. } | Target::Symlink { .. } | Target::LxSymlink(_)
        );
        if link
            && self.options.links
            && let Some(target) = host_target(point)
        {
            let name = self.name(&entry.name, path);
            match self.host.symlink(&target, place.dir, &name) {
                Ok(()) => self.summary.files += 1,
                Err(e) => self.refused(e, path)?,
            }
            return Ok(true);
        }
        let what = point.tag_name().unwrap_or("unknown");
        let message = format!(
            "{}: a reparse point ({what}, {:#010x}); its raw bytes are in the file with .reparse behind its name",
            shown(path),
            point.tag
        );
        self.warn("reparse", message);
        let name = [&entry.name[..], b".reparse"].concat();
        let source = self.tree.volume().source().clone();
        let geometry = *self.tree.volume().geometry();
        let stream = Stream::resident(source, geometry, Default::default(), raw);
        self.stream(&stream, place, &name, path, None)?;
        Ok(link)
    }

    pub(super) fn file(
        &mut self,
        file: &FileRecords,
        point: Option<&Reparse>,
        entry: &DirEntry,
        path: &[u8],
        place: &Place<'_>,
    ) -> Result<()> {
        let record = entry.file.record;
        self.named_streams(file, &entry.name, path, place)?;
        if let Some(first) = self.links.get(&record.0) {
            let first = first.clone();
            let name = self.name(&entry.name, path);
            match self.host.link(&first, place.dir, &name) {
                Ok(()) => {
                    self.summary.hard_links += 1;
                    return Ok(());
                }
                Err(Refused::Host(e)) => {
                    let why = format!("{}: {e}; a copy is written instead", shown(path));
                    self.warn("hard-link", why);
                }
                Err(e) => return self.refused(e, path),
            }
        }
        let stream = match Stream::open(self.tree.volume(), file, DATA, &[]) {
            Ok(Some(s)) => s,
            Ok(None) => match damage_of(file) {
                Some(why) => {
                    let why = format!("its content is not found: {why}");
                    return self.skip("bad-record", path, &why);
                }
                // There is none: one of NTFS's own files.
                None => {
                    let source = self.tree.volume().source().clone();
                    let geometry = *self.tree.volume().geometry();
                    Stream::resident(source, geometry, Default::default(), &[])
                }
            },
            Err(e) => return self.skip("unreadable", path, &e.to_string()),
        };
        if let Some(what) = point.and_then(|p| elsewhere(p, &stream)) {
            let end = "written as NTFS stores it, without that content";
            self.warn("elsewhere", format!("{}: {what}: {end}", shown(path)));
        }
        let incomplete = self.incomplete(file, path);
        let times = times_of(file);
        let Some(name) = self.stream(&stream, place, &entry.name, path, times.as_ref())? else {
            return Ok(());
        };
        self.summary.files += 1;
        self.summary.skipped += u64::from(incomplete);
        if names_of(file).len() > 1 {
            self.links.insert(record.0, place.below(name));
        }
        Ok(())
    }

    pub(super) fn named_streams(
        &mut self,
        file: &FileRecords,
        base: &[u8],
        path: &[u8],
        place: &Place<'_>,
    ) -> Result<()> {
        if !self.options.streams {
            return Ok(());
        }
        let mut seen = HashSet::new();
        let times = times_of(file);
        let record = file.base().number().0;
        let several = names_of(file).len() > 1;
        for (_, a) in file.attributes() {
            if a.type_code != DATA || a.name.is_empty() || !seen.insert(a.name.to_vec()) {
                continue;
            }
            let stream = wtf8(a.name);
            let whole = [path, b":", &stream].concat();
            let name = [base, b":", &stream].concat();
            let key = (record, stream);
            if let Some(first) = self.stream_links.get(&key) {
                let first = first.clone();
                let link = self.name(&name, &whole);
                match self.host.link(&first, place.dir, &link) {
                    Ok(()) => continue,
                    Err(Refused::Host(e)) => {
                        let why = format!("{}: {e}; a copy is written instead", shown(&whole));
                        self.warn("hard-link", why);
                    }
                    Err(e) => {
                        self.refused(e, &whole)?;
                        continue;
                    }
                }
            }
            match Stream::open(self.tree.volume(), file, DATA, a.name) {
                // What no cluster holds is only a size: `$BadClus:$Bad`.
                Ok(Some(s)) if record == 8 && s.initialized() == 0 => {}
                Ok(Some(s)) => {
                    let done = self.stream(&s, place, &name, &whole, times.as_ref())?;
                    self.summary.streams += u64::from(done.is_some());
                    if let Some(name) = done.filter(|_| several) {
                        self.stream_links.insert(key, place.below(name));
                    }
                }
                Ok(None) => {}
                Err(e) => self.skip("unreadable", &whole, &e.to_string())?,
            }
        }
        Ok(())
    }

    /// Writes a stream; the name it got, or `None` when it was left out.
    pub(super) fn stream(
        &mut self,
        stream: &Stream,
        place: &Place<'_>,
        name: &[u8],
        path: &[u8],
        times: Option<&Times>,
    ) -> Result<Option<Vec<u8>>> {
        if stream.flags().encrypted() && !stream.is_resident() {
            let what = "encrypted by EFS: the encrypted bytes are written, without the key ($EFS), which is not in the file, they cannot be read";
            self.warn("encrypted", format!("{}: {what}", shown(path)));
        }
        if self.gone && !self.gone_said && !stream.is_resident() {
            self.gone_said = true;
            let what = "deleted: its clusters may have been used again since, and then hold what another file wrote; so may those of other deleted files";
            self.warn("deleted", format!("{}: {what}", shown(path)));
        }
        let mut name = self.name(name, path);
        let pending = match self.host.begin(place.dir) {
            Ok(p) => p,
            Err(e) => return self.refused(e, path).map(|()| None),
        };
        let mut at = 0;
        let mut zeroed = 0;
        let (zero, observer) = (self.options.zero_unreadable, self.observer);
        let mut host_error = None;
        let copied = stream.copy(|piece| {
            if observer.cancelled() {
                return Err(Error::interrupted());
            }
            at += match piece {
                Piece::Data(data) => {
                    if let Err(e) = pending.write_at(data, at) {
                        host_error = Some(e);
                        return Err(Error::interrupted());
                    }
                    data.len() as u64
                }
                Piece::Zero(n) => n,
                Piece::Unreadable(n, _) if zero => {
                    zeroed += n;
                    n
                }
                Piece::Unreadable(_, e) => return Err(e),
            };
            Ok(())
        });
        if let Some(e) = host_error {
            return self.refused(e, path).map(|()| None);
        }
        match copied {
            Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
            Err(e) => {
                drop(pending);
                return self.skip("unreadable", path, &e.to_string()).map(|()| None);
            }
            Ok(()) => {}
        }
        if let Err(e) = pending.set_len(stream.len()) {
            return self.refused(e, path).map(|()| None);
        }
        if let Some(times) = times.filter(|t| **t != Times::default()) {
            pending.set_times(times);
        }
        // Two names of the volume may be one name here.
        if self.host.taken(place.dir, &name) {
            name = self.other_name(&name, RecordNo(self.summary.files), path);
        }
        if let Err(e) = self.host.finish(pending, &name) {
            return self.refused(e, path).map(|()| None);
        }
        if zeroed > 0 {
            self.summary.zeroed += zeroed;
            let what = format!("{zeroed} bytes cannot be read and are zeros now");
            self.warn("unreadable", format!("{}: {what}", shown(path)));
        }
        self.summary.bytes += stream.len();
        self.observer.advance(stream.len());
        Ok(Some(name))
    }
}

/// What is wrong with the records of a file.
fn damage_of(file: &FileRecords) -> Option<String> {
    if let Some(note) = file.notes.first() {
        return Some(note.to_string());
    }
    std::iter::once(file.base())
        .chain(file.extensions())
        .find_map(|r| {
            let fault = r.view().attributes().find_map(std::result::Result::err)?;
            Some(format!("file record {}: {fault}", r.number()))
        })
}

/// Why the content of a file with this reparse point is not here.
fn elsewhere(point: &Reparse, stream: &Stream) -> Option<&'static str> {
    let empty = !stream.is_empty() && stream.allocated() == 0 && !stream.is_resident();
    match point.tag {
        reparse::WOF => Some("its content is packed by the Windows overlay filter (WOF)"),
        reparse::DEDUP => Some("its content is in the store of Data Deduplication"),
        _ if point.tag_name() == Some("cloud") && empty => Some("its content is in the cloud only"),
        _ => None,
    }
}

/// A link's target in the host's way of writing.
fn host_target(point: &Reparse) -> Option<Vec<u8>> {
    let path = point.path()?;
    let text = match point.target {
        Target::LxSymlink(_) => path.to_vec(),
        _ => path
            .iter()
            .map(|&b| if b == b'\\' { b'/' } else { b })
            .collect(),
    };
    (!text.is_empty() && !text.contains(&0)).then_some(text)
}

pub(super) fn times_of(file: &FileRecords) -> Option<Times> {
    let (_, a) = file
        .attributes()
        .find(|(_, a)| a.type_code == STANDARD_INFORMATION)?;
    Times::parse(a.resident()?)
}
