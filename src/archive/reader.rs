//! An archive with random access: opened by its index, or by walking the
//! records where the end is missing or damaged.

mod unseen;

use super::decode::{ReadBack, Unpacker};
use super::head::{DiskInfo, Head, UNVERIFIED};
use super::header::{BLOCK, Codec, Header, Kind, MAX_DATA_BYTES, RunKind, Totals};
use super::index::{Index, MftSpan};
use super::walk::{Forward, Found, Walker};
use crate::device::{HoledSource, SharedSource};
use crate::error::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use unseen::Unseen;

/// Decoded payloads kept for the next read.
const CACHED: usize = 12;

/// A decoded record.
pub struct Decoded {
    /// `(first byte inside the region, bytes, kind)`, as in the header.
    pub runs: Vec<(u64, u64, RunKind)>,
    /// Bytes of the data runs.
    pub bytes: Vec<u8>,
}

/// An opened archive.
pub struct Archive {
    source: SharedSource,
    head: Head,
    disk: DiskInfo,
    index: Index,
    /// Entries of Chunk records by region and cell.
    chunks: Vec<u32>,
    /// Runs of Mft records by region and place, with their bytes' entry.
    spans: Vec<MftSpan>,
    totals: Option<(Totals, [u8; 32])>,
    notes: Vec<String>,
    cache: Mutex<Vec<(u32, Arc<Decoded>)>>,
    /// Records that are damaged, with what is wrong: not tried again.
    damaged: Mutex<HashMap<u32, (String, u64)>>,
    read_back: Option<ReadBack>,
    /// Records that were looked at, with where the data of those stands that
    /// can be read in part.
    unseen: Mutex<HashMap<u32, Option<Arc<Unseen>>>>,
    unsure: AtomicBool,
}

impl Archive {
    /// True when the source is, or was, an archive: its first record or its
    /// last block says so.
    pub fn recognise(source: &SharedSource) -> bool {
        let mut block = [0; BLOCK];
        let len = source.len();
        let looks = |at: u64, block: &mut [u8; BLOCK]| {
            source.read_at(at, block).is_ok() && block.starts_with(b"NTBK")
        };
        len >= BLOCK as u64 && (looks(0, &mut block) || looks(len - BLOCK as u64, &mut block))
    }

    /// Opens an archive. A damaged or missing end is not an error here: what
    /// was wrong stands in [`Archive::notes`], and [`Archive::is_complete`]
    /// tells whether the stream has its Tail.
    pub fn open(source: SharedSource) -> Result<Archive> {
        let name = source.name().to_string();
        Self::open_inner(source).map_err(|e| e.of(name))
    }

    fn open_inner(source: SharedSource) -> Result<Archive> {
        let mut notes = Vec::new();
        let tail = read_header(&source, source.len().saturating_sub(BLOCK as u64))
            .ok()
            .filter(|h| h.kind == Kind::Tail)
            .and_then(|h| Some((h.totals()?, h.digest, h.id)));
        let mut found = None;
        match tail {
            None => notes.push("The archive has no end (Tail record): it is not complete".into()),
            Some((t, _, id)) => {
                for at in t.index {
                    match read_plain(&source, at, Kind::Index, id)
                        .and_then(|b| Index::decode(&b, source.len()))
                    {
                        Ok(i) => {
                            found = Some(i);
                            break;
                        }
                        Err(e) => notes.push(format!("Index record: {e}")),
                    }
                }
            }
        }
        let (head, disk, index) = match found {
            Some(f) => f,
            None => rebuild(&source, &mut notes)?,
        };
        let totals = tail.filter(|_| source.is_finished());
        if tail.is_some() && totals.is_none() {
            notes.push(
                "The filemarks that close the tape are missing: the backup was not finished".into(),
            );
        }
        let head = Head::parse(&head)?;
        let disk = DiskInfo::parse(&disk)?;
        for name in head.unknown_optional() {
            notes.push(format!(
                "The archive has the optional capability \"{name}\", ignored"
            ));
        }
        let mut chunks: Vec<u32> = (0..index.entries.len() as u32)
            .filter(|&i| !index.entries[i as usize].mft)
            .collect();
        let key = |i: u32| {
            let e = &index.entries[i as usize];
            (e.region, e.position)
        };
        if !chunks.is_sorted_by_key(|&i| key(i)) {
            chunks.sort_by_key(|&i| key(i));
        }
        let mut spans = index.spans.clone();
        spans.sort_by_key(|s| (s.region, s.run.start));
        Ok(Archive {
            source,
            head,
            disk,
            index,
            chunks,
            spans,
            totals: totals.map(|(t, d, _)| (t, d)),
            notes,
            cache: Mutex::new(Vec::new()),
            damaged: Mutex::default(),
            read_back: None,
            unseen: Mutex::default(),
            unsure: AtomicBool::new(false),
        })
    }

    /// Records without a digest are checked against these when they are read.
    pub fn with_read_back(mut self, digests: Option<ReadBack>) -> Self {
        self.read_back = digests;
        self
    }

    /// True when some data may have no digest: a copy manager moved it.
    pub fn has_unseen(&self) -> bool {
        self.head.needs(UNVERIFIED)
    }

    /// What the backup is.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The regions of its source.
    pub fn disk(&self) -> &DiskInfo {
        &self.disk
    }

    /// Where everything stands.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The file or device it is read from.
    pub fn source(&self) -> &SharedSource {
        &self.source
    }

    /// True when the stream has its Tail, and its medium was closed behind it.
    pub fn is_complete(&self) -> bool {
        self.totals.is_some()
    }

    /// Totals and digest from the Tail.
    pub fn totals(&self) -> Option<&(Totals, [u8; 32])> {
        self.totals.as_ref()
    }

    /// What was wrong with the stream when it was opened.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The JSON of Report.
    pub fn report(&self) -> Result<Vec<u8>> {
        let (totals, _) = self.totals.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::Incomplete,
                "An archive without its end has no report",
            )
            .of(self.source.name())
        })?;
        let id = self.id()?;
        read_plain(&self.source, totals.report, Kind::Report, id)
            .map_err(|e| e.of(self.source.name()))
    }

    fn id(&self) -> Result<[u8; 16]> {
        let mut id = [0; 16];
        let hex = self.head.id.as_bytes();
        let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
        let ok = hex.len() == 32
            && (0..16).all(|i| match (digit(hex[2 * i]), digit(hex[2 * i + 1])) {
                (Some(a), Some(b)) => {
                    id[i] = a << 4 | b;
                    true
                }
                _ => false,
            });
        if ok {
            Ok(id)
        } else {
            Err(Error::damaged("Head has no archive id of 32 hex digits"))
        }
    }

    /// Entries of the Chunks of a region, from cell `from` on.
    pub(super) fn chunks_from(&self, region: u16, from: u64) -> &[u32] {
        let at = self.chunks.partition_point(|&i| {
            let e = &self.index.entries[i as usize];
            (e.region, e.position) < (region, from)
        });
        &self.chunks[at..]
    }

    /// Runs of Mft records of a region that may reach into `unit` or behind.
    pub(super) fn spans_from(&self, region: u16, unit: u64) -> &[MftSpan] {
        let at = self.spans.partition_point(|s| {
            (s.region, s.run.start + u64::from(s.run.units)) <= (region, unit)
        });
        &self.spans[at..]
    }

    /// Reads, checks and decodes the record of an entry.
    pub fn decode(&self, entry: u32) -> Result<Arc<Decoded>> {
        {
            let mut cache = lock(&self.cache);
            if let Some(i) = cache.iter().position(|(e, _)| *e == entry) {
                let hit = cache.remove(i);
                let decoded = hit.1.clone();
                cache.push(hit);
                return Ok(decoded);
            }
        }
        let known = lock(&self.damaged).get(&entry).cloned();
        if let Some((what, at)) = known {
            return Err(Error::damaged(what).of(self.source.name()).at(at));
        }
        let decoded = self.read_entry(entry).map_err(|e| {
            if e.kind() == ErrorKind::Damaged {
                let at = e
                    .offset()
                    .unwrap_or(self.index.entries[entry as usize].offset);
                lock(&self.damaged).insert(entry, (e.message().to_string(), at));
            }
            e.of(self.source.name())
        })?;
        let decoded = Arc::new(decoded);
        let mut cache = lock(&self.cache);
        if cache.len() >= CACHED {
            cache.remove(0);
        }
        cache.push((entry, decoded.clone()));
        Ok(decoded)
    }

    fn read_entry(&self, entry: u32) -> Result<Decoded> {
        let e = self.index.entries[entry as usize];
        let len = u64::from(e.blocks) * BLOCK as u64;
        if len > 2 * MAX_DATA_BYTES || e.offset + len > self.source.len() {
            return Err(Error::damaged("Index points to a record that is not there").at(e.offset));
        }
        let mut owned = Vec::new();
        let bytes = match self.source.as_memory() {
            Some(all) => &all[e.offset as usize..(e.offset + len) as usize],
            None => {
                owned.resize(len as usize, 0);
                self.source.read_at(e.offset, &mut owned)?;
                &owned[..]
            }
        };
        let header = Header::decode(bytes, e.offset)?;
        let kind = if e.mft { Kind::Mft } else { Kind::Chunk };
        if header.kind != kind
            || header.region != e.region
            || header.position != e.position
            || header.total_len() != len
            || header.id != self.id()?
        {
            return Err(
                Error::damaged("Index points to another record than it names").at(e.offset),
            );
        }
        let stored = &bytes[header.len()..header.len() + header.stored_len as usize];
        let mut out = Vec::new();
        Unpacker::new()?
            .with_read_back(self.read_back.clone())
            .unpack(&header, stored, &mut out)?;
        Ok(Decoded {
            runs: header.byte_runs(),
            bytes: out,
        })
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|e| e.into_inner())
}

/// Reads a header at `at`.
fn read_header(source: &SharedSource, at: u64) -> Result<Header> {
    if at
        .checked_add(BLOCK as u64)
        .is_none_or(|e| e > source.len())
    {
        return Err(Error::damaged("Record header lies behind the end of the archive").at(at));
    }
    let mut bytes = vec![0; BLOCK];
    source.read_at(at, &mut bytes)?;
    if let Some(len) = Header::peek_len(&bytes)
        && len > BLOCK
        && at + len as u64 <= source.len()
    {
        bytes.resize(len, 0);
        source.read_at(at, &mut bytes)?;
    }
    Header::decode(&bytes, at)
}

/// Reads the record of JSON or index bytes at `at`.
fn read_plain(source: &SharedSource, at: u64, kind: Kind, id: [u8; 16]) -> Result<Vec<u8>> {
    let header = read_header(source, at)?;
    if header.kind != kind || header.id != id {
        return Err(Error::damaged(format!(
            "Found a {} record, expected {}",
            header.kind.name(),
            kind.name()
        ))
        .at(at));
    }
    let start = at + header.len() as u64;
    if header.stored_len > source.len().saturating_sub(start) {
        return Err(Error::damaged(format!("{} record is cut off", kind.name())).at(at));
    }
    let mut stored = vec![0; header.stored_len as usize];
    source.read_at(start, &mut stored)?;
    let mut out = Vec::new();
    debug_assert!(matches!(header.codec, Codec::Stored | Codec::Zstd));
    Unpacker::new()?.unpack(&header, &stored, &mut out)?;
    Ok(out)
}

/// Head, Disk and index from the records themselves.
fn rebuild(source: &SharedSource, notes: &mut Vec<String>) -> Result<(Vec<u8>, Vec<u8>, Index)> {
    notes.push("The index is rebuilt from the records".into());
    let (holed, _) = HoledSource::around(source.clone());
    let mut walker = Walker::new(Forward::new(holed, 0), 0);
    let (mut head, mut disk) = (None, None);
    let mut copy = None;
    let mut index = Index::default();
    let mut unpacker = Unpacker::new()?;
    let (mut stored, mut raw) = (Vec::new(), Vec::new());
    loop {
        let at = walker.position();
        match walker.step()? {
            None => break,
            Some(Found::Lost {
                from,
                to,
                records,
                why,
            }) => {
                notes.push(format!(
                    "{why}: {} bytes at {from:#x}, {records} records",
                    to - from
                ));
            }
            Some(Found::Record(h)) => match h.kind {
                Kind::Head | Kind::Disk | Kind::Index => {
                    walker.payload(&mut stored)?;
                    if unpacker.unpack(&h, &stored, &mut raw).is_err() {
                        notes.push(format!("The {} record is damaged", h.kind.name()));
                        continue;
                    }
                    match h.kind {
                        Kind::Head => {
                            if let (Ok(h), true) = (Head::parse(&raw), index.entries.is_empty()) {
                                index = Index::of(&h);
                            }
                            head = Some(raw.clone());
                        }
                        Kind::Disk => disk = Some(raw.clone()),
                        _ => {
                            copy = Index::decode(&raw, source.len())
                                .ok()
                                .map(|(h, d, _)| (h, d))
                        }
                    }
                }
                Kind::Mft | Kind::Chunk => {
                    // Where it really stands, should bytes be missing before it.
                    let mut here = h;
                    let end = walker.position();
                    here.stream_offset = if end >= here.len() as u64 {
                        end - here.len() as u64
                    } else {
                        at
                    };
                    if here.stream_offset + here.total_len() <= source.len() {
                        index.push(&here);
                    } else {
                        notes.push(format!(
                            "The last record is cut off at {:#x}",
                            here.stream_offset
                        ));
                    }
                }
                _ => {}
            },
        }
    }
    let (copy_head, copy_disk) = copy.map_or((None, None), |(h, d)| (Some(h), Some(d)));
    match (head.or(copy_head), disk.or(copy_disk)) {
        (Some(h), Some(d)) => Ok((h, d, index)),
        _ if walker.archive_id().is_none() => Err(Error::damaged(
            "This is not an ntbak archive: no record was found in it",
        )),
        _ => Err(Error::damaged(
            "The archive's Head and Disk records and all their copies are lost",
        )
        .hint("nothing tells where the remaining records belong")),
    }
}
