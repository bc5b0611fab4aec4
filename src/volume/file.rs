//! A file with all its records: the base record and the extension records that
//! its attribute list names, and its streams joined from their pieces.

use super::attr::{ATTRIBUTE_LIST, Attribute, Form, NonResident};
use super::attrlist::{ListEntries, MAX_LIST};
use super::extents::{ExtentMap, Medium};
use super::finding::Finding;
use super::record::{RecordView, apply_fixups};
use crate::error::{Error, Result};
use crate::units::{Extent, FileRef, RecordNo, Vcn};
use std::collections::HashSet;

/// A file record of its own: read, checked, fixups applied.
#[derive(Clone, Debug)]
pub struct Record {
    bytes: Box<[u8]>,
    number: RecordNo,
    offset: u64,
}

impl Record {
    /// Applies fixups to `bytes`, which were read at byte `offset`, and checks
    /// the header.
    pub fn new(mut bytes: Box<[u8]>, number: RecordNo, offset: u64) -> Result<Self> {
        apply_fixups(&mut bytes)
            .and_then(|()| RecordView::new(&bytes, number).map(|_| ()))
            .map_err(|fault| {
                let e = fault.into_error(offset);
                let at = e.offset().unwrap_or(offset);
                Error::damaged(format!("File record {number}: {}", e.message())).at(at)
            })?;
        Ok(Self {
            bytes,
            number,
            offset,
        })
    }

    pub(crate) fn load(medium: &Medium, number: RecordNo, offset: u64) -> Result<Self> {
        let mut bytes = vec![0; medium.geometry.record_size as usize].into_boxed_slice();
        medium.read(offset, &mut bytes)?;
        Self::new(bytes, number, offset)
    }

    /// Its fields and attributes.
    pub fn view(&self) -> RecordView<'_> {
        RecordView::new(&self.bytes, self.number).expect("checked when it was made")
    }

    /// Its number.
    pub fn number(&self) -> RecordNo {
        self.number
    }

    /// Byte position of its first byte on the volume.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

/// A base record and its extension records.
#[derive(Clone, Debug)]
pub struct FileRecords {
    base: Record,
    extensions: Vec<Record>,
    /// Named by the list, not yet read.
    wanted: Vec<FileRef>,
    /// What was wrong on the way; the file may be incomplete then.
    pub notes: Vec<Finding>,
}

/// A non-resident stream, joined from its pieces.
#[derive(Clone, Debug)]
pub struct Joined<'a> {
    /// The piece with VCN 0, which has the sizes, or the first there is.
    pub first: Attribute<'a>,
    /// All extents of the stream.
    pub map: ExtentMap,
    /// What is wrong: gaps, pieces twice, broken mapping pairs.
    pub notes: Vec<Finding>,
}

impl Joined<'_> {
    /// The header of the first piece.
    pub fn header(&self) -> &NonResident<'_> {
        self.first
            .non_resident()
            .expect("made of non-resident pieces")
    }
}

/// An attribute's value as [`FileRecords::stream`] finds it.
#[derive(Clone, Debug)]
pub enum FileStream<'a> {
    /// In a record.
    Resident(Attribute<'a>, &'a [u8]),
    /// In clusters.
    NonResident(Joined<'a>),
}

impl FileRecords {
    /// Takes a base record and reads its attribute list, not yet the records
    /// that it names: [`FileRecords::fetch`].
    pub(crate) fn new(medium: &Medium, base: Record) -> Self {
        let mut file = Self {
            base,
            extensions: Vec::new(),
            wanted: Vec::new(),
            notes: Vec::new(),
        };
        let list = match file.list_bytes(medium) {
            Ok(Some(list)) => list,
            Ok(None) => return file,
            Err(e) => {
                let what = format!(
                    "The attribute list of file record {} cannot be read, only its base record counts",
                    file.base.number
                );
                file.notes
                    .push(Finding::survived("attribute-list", &what, &e));
                return file;
            }
        };
        let mut seen = HashSet::from([file.base.number]);
        for entry in ListEntries::new(&list) {
            match entry {
                Ok(e) if seen.insert(e.record.record) => file.wanted.push(e.record),
                Ok(_) => {}
                Err(fault) => file.note(
                    "attribute-list",
                    format!("attribute list, byte {:#x}: {fault}", fault.offset),
                ),
            }
        }
        file
    }

    fn note(&mut self, code: &'static str, what: String) {
        let message = format!("File record {}, {what}", self.base.number);
        self.notes
            .push(Finding::new(code, message).at(self.base.offset));
    }

    fn list_bytes(&self, medium: &Medium) -> Result<Option<Vec<u8>>> {
        let Some(list) = self
            .base
            .view()
            .attributes()
            .flatten()
            .find(|a| a.type_code == ATTRIBUTE_LIST)
        else {
            return Ok(None);
        };
        let n = match list.form {
            Form::Resident { value } => return Ok(Some(value.to_vec())),
            Form::NonResident(n) => n,
        };
        if n.size > MAX_LIST {
            return Err(Error::damaged(format!(
                "Found {} bytes of attribute list, expected at most {MAX_LIST}",
                n.size
            ))
            .at(self.base.offset + u64::from(list.offset) + 0x30));
        }
        let extents: Vec<Extent> = n.runs().flatten().collect();
        let mut bytes = vec![0; n.size as usize];
        let initialized = n.initialized.min(n.size) as usize;
        medium.read_map(&ExtentMap::new(extents), 0, &mut bytes[..initialized])?;
        Ok(Some(bytes))
    }

    /// Reads the records that the list names and that were not read yet;
    /// `get` reads one. Returns how many came in; those that did not stay wanted.
    pub(crate) fn fetch(&mut self, get: impl Fn(RecordNo) -> Result<Record>) -> usize {
        let before = self.extensions.len();
        for r in std::mem::take(&mut self.wanted) {
            match get(r.record) {
                Ok(record) => self.take(r, record),
                Err(_) => self.wanted.push(r),
            }
        }
        self.extensions.len() - before
    }

    fn take(&mut self, wanted: FileRef, record: Record) {
        let view = record.view();
        let me = self.base.view().file_ref();
        let mine = view.base().is_some_and(|b| {
            b.record == me.record && (b.sequence == me.sequence || b.sequence == 0)
        });
        if !view.in_use() || !mine {
            let found = match view.base() {
                _ if !view.in_use() => "a free record".to_owned(),
                Some(b) => format!("one of file {b}"),
                None => "a base record".to_owned(),
            };
            let what = format!(
                "attribute list: found {found} as extension record {wanted}, expected one of file {me}"
            );
            self.note("extension-record", what);
            return;
        }
        if wanted.sequence != 0 && view.sequence() != wanted.sequence {
            let what = format!(
                "attribute list: found sequence number {} in extension record {wanted}",
                view.sequence()
            );
            self.note("extension-record", what);
        }
        self.extensions.push(record);
    }

    /// Says which records the list names and nobody could read.
    pub(crate) fn settle(&mut self, get: impl Fn(RecordNo) -> Result<Record>) {
        for r in std::mem::take(&mut self.wanted) {
            match get(r.record) {
                Ok(record) => self.take(r, record),
                Err(e) => {
                    let what = format!(
                        "File record {}: its extension record {r} cannot be read",
                        self.base.number
                    );
                    self.notes
                        .push(Finding::survived("extension-record", &what, &e));
                }
            }
        }
    }

    /// The base record.
    pub fn base(&self) -> &Record {
        &self.base
    }

    /// The extension records, in the order of the list.
    pub fn extensions(&self) -> &[Record] {
        &self.extensions
    }

    /// Every sound attribute of every record, and the record it lies in. Pieces
    /// of one stream come one by one; the list itself is among them.
    pub fn attributes(&self) -> impl Iterator<Item = (RecordNo, Attribute<'_>)> {
        std::iter::once(&self.base)
            .chain(&self.extensions)
            .flat_map(|r| r.view().attributes().flatten().map(|a| (r.number, a)))
    }

    /// The attribute of this type and name (UTF-16 little-endian bytes), its
    /// pieces joined.
    pub fn stream(&self, type_code: u32, name: &[u8]) -> Option<FileStream<'_>> {
        let mut pieces = Vec::new();
        for (_, a) in self.attributes() {
            if a.type_code == type_code && a.name == name {
                match a.form {
                    Form::Resident { value } if pieces.is_empty() => {
                        return Some(FileStream::Resident(a, value));
                    }
                    Form::Resident { .. } => {}
                    Form::NonResident(n) => pieces.push((a, n)),
                }
            }
        }
        pieces.sort_by_key(|(_, n)| n.lowest_vcn);
        let first = pieces.first()?.0;
        let mut notes = Vec::new();
        let mut note = |what: String| {
            let message = format!(
                "File record {}, attribute {type_code:#x}: {what}",
                self.base.number
            );
            notes.push(Finding::new("stream-pieces", message).at(self.base.offset));
        };
        let mut extents = Vec::new();
        let mut next = Vcn(0);
        for (_, n) in &pieces {
            if n.lowest_vcn != next {
                note(format!(
                    "found a piece from VCN {}, expected VCN {next}",
                    n.lowest_vcn
                ));
                if n.lowest_vcn < next {
                    continue;
                }
            }
            let mut end = n.lowest_vcn;
            for run in n.runs() {
                match run {
                    Ok(e) => {
                        end = Vcn(e.vcn.0 + e.len.0);
                        extents.push(e);
                    }
                    Err(fault) => note(format!("mapping pairs, byte {:#x}: {fault}", fault.offset)),
                }
            }
            if end != n.end_vcn() {
                note(format!(
                    "found runs up to VCN {end}, expected up to VCN {}",
                    n.end_vcn()
                ));
            }
            next = end.max(next);
        }
        Some(FileStream::NonResident(Joined {
            first,
            map: ExtentMap::new(extents),
            notes,
        }))
    }
}
