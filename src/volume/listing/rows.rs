//! What a listing keeps of a file record: one compact row per file, one per
//! name, one per named stream. Collected in parts of neighbouring
//! records, each by one thread.

use super::details::{Detail, detail};
use crate::units::{FileRef, RecordNo};
use crate::volume::attr::{self, AttrFlags, Attribute, Form};
use crate::volume::names::{self, FileName, Space};
use crate::volume::record::RecordView;
use crate::volume::reparse::Reparse;
use crate::volume::times::Times;
use crate::volume::usage::{BadList, BadRecord};

const NONE: u32 = u32::MAX;
/// Records that a batch holds as a rule.
const BATCH: usize = 1024;

/// A file: what its base record says, joined with its extension records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Node {
    /// Number of the base record.
    pub record: u32,
    /// Sequence number of the base record.
    pub sequence: u16,
    /// Names without DOS ones.
    pub links: u16,
    /// `FILE_ATTRIBUTE_…` from `$STANDARD_INFORMATION`.
    pub attributes: u32,
    /// Tag of its reparse point, 0 without one.
    pub tag: u32,
    /// See the constants.
    bits: u16,
    /// Flags of the unnamed stream.
    pub data_flags: AttrFlags,
    /// Bytes of the unnamed stream.
    pub size: u64,
    /// Bytes of the clusters of the unnamed stream.
    pub allocated: u64,
    /// The four times from `$STANDARD_INFORMATION`.
    pub times: Times,
    /// The id under which `$Secure` has its descriptor; 0 without one.
    pub security_id: u32,
}

const IN_USE: u16 = 1;
const DIRECTORY: u16 = 2;
const DATA: u16 = 4;
const RESIDENT: u16 = 8;
const STREAMS: u16 = 16;
const EA: u16 = 32;
/// Its only name so far is a short DOS name.
const SHORT: u16 = 64;

impl Node {
    /// Not deleted.
    pub const fn in_use(&self) -> bool {
        self.bits & IN_USE != 0
    }
    /// A directory.
    pub const fn is_dir(&self) -> bool {
        self.bits & DIRECTORY != 0
    }
    /// It has an unnamed stream, of [`Node::size`] bytes.
    pub const fn has_data(&self) -> bool {
        self.bits & DATA != 0
    }
    /// The unnamed stream lies in the record.
    pub const fn is_resident(&self) -> bool {
        self.bits & RESIDENT != 0
    }
    /// It has named streams.
    pub const fn has_streams(&self) -> bool {
        self.bits & STREAMS != 0
    }
    /// It has extended attributes.
    pub const fn has_ea(&self) -> bool {
        self.bits & EA != 0
    }
    /// Number and sequence.
    pub const fn file(&self) -> FileRef {
        FileRef {
            record: RecordNo(self.record as u64),
            sequence: self.sequence,
        }
    }

    fn join(&mut self, extra: &Extra) {
        match *extra {
            Extra::Data(d) => {
                self.bits |= DATA | if d.resident { RESIDENT } else { 0 };
                (self.size, self.allocated, self.data_flags) = (d.size, d.allocated, d.flags);
            }
            Extra::Tag(tag) => self.tag = tag,
            Extra::Ea => self.bits |= EA,
            Extra::Names(n) => {
                if n > 0 && self.bits & SHORT != 0 {
                    self.bits &= !SHORT;
                    self.links = 0;
                }
                self.links = self.links.saturating_add(n);
            }
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Text {
    at: u32,
    len: u16,
}

#[derive(Clone, Copy)]
pub(super) struct Name {
    /// The file.
    pub record: u32,
    pub sequence: u16,
    /// The directory.
    pub parent_sequence: u16,
    pub parent: u32,
    pub text: Text,
}

#[derive(Clone, Copy)]
pub(super) struct NamedStream {
    /// The record it stands in.
    pub own: u32,
    /// The file.
    pub record: u32,
    pub sequence: u16,
    pub text: Text,
    pub data: Data,
}

/// Size and kind of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Data {
    /// Bytes.
    pub size: u64,
    /// Bytes of its clusters.
    pub allocated: u64,
    /// Compressed, sparse, encrypted.
    pub flags: AttrFlags,
    /// It lies in the record.
    pub resident: bool,
}

enum Extra {
    Data(Data),
    Tag(u32),
    Ea,
    Names(u16),
}

/// The rows of neighbouring records, as many in each part.
pub struct Part {
    first: u64,
    deleted: bool,
    /// Place in `nodes` by record.
    slots: Vec<u32>,
    pub(super) nodes: Vec<Node>,
    pub(super) names: Vec<Name>,
    pub(super) streams: Vec<NamedStream>,
    /// Where links lead: the record, the path.
    targets: Vec<(u32, Text)>,
    text: Vec<u8>,
    extras: Vec<(FileRef, Extra)>,
    /// Places in `names` of short DOS names whose base record has no other.
    short: Vec<u32>,
    /// `None`: nobody wants them.
    details: Option<Vec<Detail>>,
    /// Records and attributes that could not be understood.
    pub bad: BadList,
}

impl Part {
    /// An empty part for the records from `first` on; `deleted` keeps
    /// deleted records too.
    pub fn new(first: u64, deleted: bool) -> Self {
        Self {
            first,
            deleted,
            slots: Vec::new(),
            nodes: Vec::new(),
            names: Vec::new(),
            streams: Vec::new(),
            targets: Vec::new(),
            text: Vec::new(),
            extras: Vec::new(),
            short: Vec::new(),
            details: None,
            bad: BadList::default(),
        }
    }

    /// Keeps details too.
    pub fn with_details(mut self) -> Self {
        self.details = Some(Vec::new());
        self
    }

    pub(super) fn details(&self) -> &[Detail] {
        self.details.as_deref().unwrap_or_default()
    }

    pub(super) fn take_details(&mut self) -> Vec<Detail> {
        self.details.take().unwrap_or_default()
    }

    /// Adds a record. Records come in order.
    pub fn add(&mut self, view: &RecordView<'_>) {
        let in_use = view.in_use();
        if !in_use && !self.deleted {
            return;
        }
        let own = view.file_ref();
        let base = view.base();
        let file = base.unwrap_or(own);
        let (Ok(record), Ok(own_record)) =
            (u32::try_from(file.record.0), u32::try_from(own.record.0))
        else {
            return self.fault(own.record, "Found a number above 2^32 for a file record");
        };
        if !in_use && base.is_some() {
            return;
        }
        if self.nodes.capacity() == 0 {
            self.nodes.reserve(BATCH);
            self.names.reserve(BATCH);
            self.slots.reserve(BATCH);
            self.text.reserve(BATCH * 20);
        }
        let mut node = Node {
            record,
            sequence: file.sequence,
            bits: if in_use { IN_USE } else { 0 } | if view.is_directory() { DIRECTORY } else { 0 },
            ..Node::default()
        };
        let names = self.names.len();
        let mut dos = None;
        for a in view.attributes() {
            let a = match a {
                Ok(a) => a,
                Err(fault) => {
                    self.fault(own.record, &fault.to_string());
                    continue;
                }
            };
            if let Some(details) = &mut self.details
                && let Some(d) = detail(file, &a)
            {
                details.push(d);
            }
            match a.type_code {
                attr::STANDARD_INFORMATION => {
                    if let Some(s) = a.resident().and_then(standard) {
                        (node.times, node.attributes, node.security_id) = s;
                    }
                }
                attr::FILE_NAME => match a.resident().and_then(FileName::parse) {
                    Some(n) if n.space == Space::Dos => dos = Some(n),
                    Some(n) => self.push_name(&n, &node),
                    None => self.fault(own.record, "Found a $FILE_NAME that is none"),
                },
                attr::DATA => match data_of(&a) {
                    None => {}
                    Some(data) if !a.name.is_empty() => {
                        node.bits |= STREAMS;
                        let text = self.push_text(a.name);
                        self.streams.push(NamedStream {
                            own: own_record,
                            record,
                            sequence: node.sequence,
                            text,
                            data,
                        });
                    }
                    Some(data) => self.keep(base, &mut node, Extra::Data(data)),
                },
                attr::REPARSE_POINT => {
                    let point = a.resident().and_then(Reparse::parse);
                    let tag = point.as_ref().map_or(u32::MAX, |p| p.tag);
                    self.keep(base, &mut node, Extra::Tag(tag));
                    if let Some(path) = point.as_ref().and_then(Reparse::path) {
                        let text = self.push_wtf8(path);
                        self.targets.push((record, text));
                    }
                }
                attr::EA => self.keep(base, &mut node, Extra::Ea),
                _ => {}
            }
        }
        let count = |part: &Self| u16::try_from(part.names.len() - names).unwrap_or(u16::MAX);
        if base.is_some() {
            let extra = Extra::Names(count(self));
            return self.keep(base, &mut node, extra);
        }
        if let Some(n) = dos.filter(|_| self.names.len() == names) {
            self.short.push(names as u32);
            self.push_name(&n, &node);
            node.bits |= SHORT;
        }
        node.links = count(self);
        // Free records that never had a file are not worth a row.
        if !in_use && self.names.len() == names {
            return;
        }
        // Records come in order: at most a batch is filled up here.
        let slot = own.record.0.saturating_sub(self.first) as usize;
        self.slots.resize(slot.max(self.slots.len()), NONE);
        if slot == self.slots.len() {
            self.slots.push(self.nodes.len() as u32);
            self.nodes.push(node);
        }
    }

    #[cold]
    fn fault(&mut self, record: RecordNo, why: &str) {
        self.bad.push(|| BadRecord {
            record,
            offset: None,
            why: why.to_owned(),
        });
    }

    fn keep(&mut self, base: Option<FileRef>, node: &mut Node, extra: Extra) {
        match base {
            None => node.join(&extra),
            Some(file) => self.extras.push((file, extra)),
        }
    }

    fn push_text(&mut self, utf16: &[u8]) -> Text {
        let at = self.text.len();
        names::push_wtf8(utf16, &mut self.text);
        // At most 255 units of 3 bytes; a part holds far less than 4 GiB.
        Text {
            at: at as u32,
            len: (self.text.len() - at) as u16,
        }
    }

    fn push_wtf8(&mut self, bytes: &[u8]) -> Text {
        let at = self.text.len() as u32;
        let len = bytes.len().min(usize::from(u16::MAX));
        self.text.extend_from_slice(&bytes[..len]);
        Text {
            at,
            len: len as u16,
        }
    }

    fn push_name(&mut self, n: &FileName<'_>, node: &Node) {
        let text = self.push_text(n.name);
        self.names.push(Name {
            record: node.record,
            sequence: node.sequence,
            parent_sequence: n.parent.sequence,
            parent: u32::try_from(n.parent.record.0).unwrap_or(u32::MAX),
            text,
        });
    }

    /// Where the link of a record leads, as far as this part knows.
    pub(super) fn target(&self, record: u32) -> Option<&[u8]> {
        let hit = self.targets.iter().find(|t| t.0 == record)?;
        Some(self.text(hit.1))
    }

    pub(super) fn text(&self, t: Text) -> &[u8] {
        &self.text[t.at as usize..][..usize::from(t.len)]
    }
}

/// Times, flags and security id; NTFS before 3.0 has no id.
fn standard(value: &[u8]) -> Option<(Times, u32, u32)> {
    let word = |at: usize| Some(u32::from_le_bytes(*value.get(at..)?.first_chunk()?));
    Some((
        Times::parse(value)?,
        word(32)?,
        word(52).unwrap_or_default(),
    ))
}

/// What the first piece of a `$DATA` says; `None` for the other pieces.
fn data_of(a: &Attribute<'_>) -> Option<Data> {
    match &a.form {
        Form::Resident { value } => Some(Data {
            size: value.len() as u64,
            allocated: 0,
            flags: a.flags,
            resident: true,
        }),
        Form::NonResident(n) if n.lowest_vcn.0 == 0 => Some(Data {
            size: n.size,
            allocated: n.compressed_total.unwrap_or(n.allocated),
            flags: a.flags,
            resident: false,
        }),
        Form::NonResident(_) => None,
    }
}

/// All parts, by record number.
pub(super) struct Table {
    pub parts: Vec<Part>,
    per_part: usize,
    /// Named streams that stand in extension records, by file: file's record,
    /// part, place in the part.
    far: Vec<(u32, u32, u32)>,
}

impl Table {
    /// Joins what the extension records said with their files.
    pub fn new(parts: Vec<Part>) -> Self {
        let mut t = Self {
            per_part: match &parts[..] {
                [_, second, ..] => second.first as usize,
                [only] => only.slots.len().max(1),
                [] => 1,
            },
            parts,
            far: Vec::new(),
        };
        for p in 0..t.parts.len() {
            for (file, extra) in std::mem::take(&mut t.parts[p].extras) {
                if let Some(n) = t.node_mut(file) {
                    n.join(&extra);
                }
            }
            for i in 0..t.parts[p].streams.len() {
                let s = &t.parts[p].streams[i];
                if s.own != s.record {
                    let (own, file) = (s.record, file_ref(s.record, s.sequence));
                    t.far.push((own, p as u32, i as u32));
                    if let Some(n) = t.node_mut(file) {
                        n.bits |= STREAMS;
                    }
                }
            }
        }
        t.far.sort_unstable();
        t.drop_short();
        t
    }

    /// Takes the short names back whose files have turned out to have others.
    fn drop_short(&mut self) {
        for p in 0..self.parts.len() {
            for i in std::mem::take(&mut self.parts[p].short) {
                let record = self.parts[p].names[i as usize].record;
                if self.node(record).is_some_and(|n| n.bits & SHORT == 0) {
                    // No file has this number: the name stands nowhere.
                    self.parts[p].names[i as usize].record = NONE;
                }
            }
        }
    }

    /// One file with all its records.
    pub fn alone(mut part: Part) -> Self {
        for (_, extra) in std::mem::take(&mut part.extras) {
            if let Some(n) = part.nodes.first_mut() {
                n.join(&extra);
            }
        }
        Self {
            per_part: usize::MAX,
            parts: vec![part],
            far: Vec::new(),
        }
    }

    /// Named streams of a file that stand in extension records.
    pub fn far_streams(&self, record: u32) -> &[(u32, u32, u32)] {
        let from = self.far.partition_point(|f| f.0 < record);
        let n = self.far[from..].partition_point(|f| f.0 == record);
        &self.far[from..from + n]
    }

    fn place(&self, record: u32) -> Option<(usize, usize)> {
        let part = self.part_of(record);
        let slots = &self.parts.get(part)?.slots;
        let slot = *slots.get(record as usize % self.per_part)?;
        (slot != NONE).then_some((part, slot as usize))
    }

    /// The part that holds a record.
    pub fn part_of(&self, record: u32) -> usize {
        record as usize / self.per_part
    }

    pub fn node(&self, record: u32) -> Option<&Node> {
        let (part, slot) = self.place(record)?;
        Some(&self.parts[part].nodes[slot])
    }

    fn node_mut(&mut self, file: FileRef) -> Option<&mut Node> {
        let (part, slot) = self.place(u32::try_from(file.record.0).ok()?)?;
        let node = &mut self.parts[part].nodes[slot];
        (node.sequence == file.sequence).then_some(node)
    }

    /// The number behind the highest record.
    pub fn end(&self) -> u64 {
        let last = self.parts.last().map_or(0, |p| p.slots.len());
        (self.parts.len().saturating_sub(1) * self.per_part + last) as u64
    }
}

fn file_ref(record: u32, sequence: u16) -> FileRef {
    FileRef {
        record: RecordNo(u64::from(record)),
        sequence,
    }
}
