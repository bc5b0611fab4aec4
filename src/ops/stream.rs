//! Reading a whole stream forward with every check, whatever is done with the
//! records: `verify` throws them away, `restore` writes them.

mod holed;

use super::pipeline;
use super::rules::Rules;
use crate::archive::{
    ArchiveId, Body, DiskInfo, Found, Head, Header, Index, Input, Kind, Provenance, ReadBack,
    Totals, UNVERIFIED, Unpacker, Walker,
};
use crate::device::HoledSource;
use crate::error::{Error, ErrorKind, Result};
use crate::observe::Observer;
use crate::units::ByteRange;
use std::sync::Arc;

/// A place of the stream that is not as it was written.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Damage {
    /// First byte in the stream.
    pub from: u64,
    /// First byte behind.
    pub to: u64,
    /// What is wrong.
    pub what: String,
    /// Kind of record, if its header could be read.
    pub record: Option<&'static str>,
    /// Region, if known.
    pub region: Option<u16>,
    /// Bytes of the region that are lost.
    #[serde(skip)]
    pub ranges: Vec<ByteRange>,
    /// True when bytes of the source are lost, not only redundancy.
    pub loses_data: bool,
    /// True when the data does not match its digest and was given to who asked for
    /// all that is there.
    pub doubtful: bool,
    /// Files that are hit, by path; filled in by [`name_files`](super::damage::name_files).
    pub files: Vec<String>,
}

/// What reading the stream came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Numbers of the Tail; `None`: the stream is not complete.
    pub totals: Option<Totals>,
    /// Digest of the stream in hex, if what was read gives the one in Tail.
    pub digest: Option<String>,
    /// Records read.
    pub records: u64,
    /// Bytes of data that matched their digests.
    pub checked_bytes: u64,
    /// Bytes of data that have no digest from the source and matched the one
    /// of when they were read back.
    pub read_back_bytes: u64,
    /// Bytes of data that have no digest: a copy manager moved them, and
    /// nobody has looked at them yet.
    pub unverified_bytes: u64,
    /// Everything that is wrong.
    pub damage: Vec<Damage>,
    /// JSON of Report, if it is sound.
    pub report: Option<Vec<u8>>,
}

impl Outcome {
    /// True when the stream is complete and every byte as it was written.
    pub fn is_sound(&self) -> bool {
        self.totals.is_some() && self.damage.is_empty() && self.digest.is_some()
    }
}

/// A stream that is being read.
pub struct StreamReader<R> {
    walker: Walker<R>,
    chain: blake3::Hasher,
    index: Index,
    outcome: Outcome,
    /// A record that was read too far.
    queued: Option<Item>,
    /// Payloads of Head and Disk, and the latter read.
    head: Option<Vec<u8>>,
    disk: Option<(Vec<u8>, DiskInfo)>,
    rules: Rules,
    read_back: Option<ReadBack>,
    holes: Option<Arc<HoledSource>>,
    lenient: bool,
}

/// What came next in the stream and is through.
pub enum Delivered<'a> {
    /// A sound record, or one that was passed over.
    Record(&'a Header),
    /// Something that is not sound.
    Damage(&'a Damage),
}

enum Item {
    /// A record, and what of its payload could not be read.
    Holed(Header, Vec<u8>, Vec<ByteRange>),
    Record(Header, Vec<u8>, Body),
    /// A record whose payload nobody needs.
    Passed(Header),
    Damage(Damage),
}

enum Checked {
    Fine(Header, Option<Vec<u8>>, Option<Damage>),
    Passed(Header),
    Damage(Damage),
}

impl<R: Input + Send> StreamReader<R> {
    /// From the first byte of a stream on.
    pub fn new(input: R) -> Self {
        Self {
            walker: Walker::new(input, 0),
            chain: blake3::Hasher::new(),
            index: Index::default(),
            outcome: Outcome::default(),
            queued: None,
            head: None,
            disk: None,
            rules: Rules::default(),
            read_back: None,
            holes: None,
            lenient: false,
        }
    }

    /// Records without a digest are checked against these.
    pub fn with_read_back(mut self, digests: Option<ReadBack>) -> Self {
        self.read_back = digests;
        self
    }

    /// The input is this source: what it could not read is damage, and no more.
    pub fn with_holes(mut self, holes: Option<Arc<HoledSource>>) -> Self {
        self.holes = holes;
        self
    }

    /// Data that a copy manager moved is handed on also when it is not what it
    /// was when it was read back. It is damage all the same.
    pub fn lenient(mut self, lenient: bool) -> Self {
        self.lenient = lenient;
        self
    }

    /// Reads Head and Disk. `None` for what is damaged.
    pub fn begin(&mut self) -> Result<(Option<Head>, Option<DiskInfo>)> {
        let mut head = None;
        let mut unpacker = Unpacker::new()?;
        let mut raw = Vec::new();
        while self.disk.is_none()
            && let Some(item) = self.next_item(&|_| false)?
        {
            let (header, stored, body) = match item {
                Item::Damage(d) => {
                    self.outcome.damage.push(d);
                    continue;
                }
                Item::Record(h, s, b) if matches!(h.kind, Kind::Head | Kind::Disk) => (h, s, b),
                Item::Holed(h, s, lost) if matches!(h.kind, Kind::Head | Kind::Disk) => {
                    self.outcome.damage.push(holed::split(&h, &s, &lost).0);
                    continue;
                }
                later => {
                    self.queued = Some(later);
                    break;
                }
            };
            if let Err(d) = check(&mut unpacker, &header, &stored, body, &mut raw) {
                self.outcome.damage.push(*d);
                continue;
            }
            self.outcome.damage.extend(dirt(&header, body));
            if header.kind == Kind::Head {
                let read = Head::parse(&raw)?;
                self.rules.unverified = read.needs(UNVERIFIED);
                self.index = Index::of(&read);
                head = Some(read);
                self.head = Some(std::mem::take(&mut raw));
            } else {
                let disk = DiskInfo::parse(&raw)?;
                self.disk = Some((std::mem::take(&mut raw), disk));
            }
        }
        if self.outcome.records == 0 {
            return Err(Error::new(ErrorKind::Damaged, "This is not an ntbak archive").at(0));
        }
        Ok((head, self.disk.as_ref().map(|d| d.1.clone())))
    }

    /// Id of the archive, once a record was found.
    pub fn archive_id(&self) -> Option<ArchiveId> {
        self.walker.archive_id().map(ArchiveId)
    }

    /// Reads the rest. `each` gets every Mft and Chunk that passed its checks,
    /// in any order, from any thread; and, with `false`, what is left of others.
    pub fn run(
        self,
        threads: usize,
        observer: &dyn Observer,
        each: impl Fn(&Header, &[u8], bool) -> Result<()> + Sync,
    ) -> Result<Outcome> {
        let each = |header: &Header, raw: Option<&[u8]>, whole| match raw {
            Some(raw) => each(header, raw, whole),
            None => Ok(()),
        };
        self.run_past(threads, observer, |_| false, each, |_| Ok(()))
    }

    /// As [`StreamReader::run`]. The payloads of records for which `pass` holds
    /// are not looked at, and `each` does not get them. `through` is told in
    /// the order of the stream what `each` has returned from.
    pub fn run_past(
        mut self,
        threads: usize,
        observer: &dyn Observer,
        pass: impl Fn(&Header) -> bool + Sync,
        each: impl Fn(&Header, Option<&[u8]>, bool) -> Result<()> + Sync,
        mut through: impl FnMut(Delivered<'_>) -> Result<()>,
    ) -> Result<Outcome> {
        // `next_item` and `deliver` both belong to the reader; they meet here.
        let mut outcome = std::mem::take(&mut self.outcome);
        let (mut index, mut tail) = (std::mem::take(&mut self.index), None);
        let mut copies = Vec::new();
        let mut report = None;
        let known = self.read_back.clone();
        let lenient = self.lenient;
        let is_known = |h: &Header| known.as_ref().is_some_and(|f| f(h.sequence).is_some());
        let reader = &mut self;
        pipeline::ordered(
            threads,
            threads * 2 + 2,
            || {
                if observer.cancelled() {
                    return Err(Error::interrupted());
                }
                reader.next_item(&pass)
            },
            || {
                let unpacker = Unpacker::new()?.with_read_back(known.clone());
                Ok((unpacker, Vec::new()))
            },
            |(unpacker, raw), item| match item {
                Item::Damage(d) => Ok(Checked::Damage(d)),
                Item::Passed(header) => {
                    each(&header, None, true)?;
                    Ok(Checked::Passed(header))
                }
                Item::Holed(header, stored, lost) => {
                    let (damage, rest) = holed::split(&header, &stored, &lost);
                    if let Some((header, raw)) = rest {
                        each(&header, Some(&raw), false)?;
                    }
                    Ok(Checked::Damage(damage))
                }
                Item::Record(header, stored, body) => {
                    if let Err(mut d) = check(unpacker, &header, &stored, body, raw) {
                        if lenient && body != Body::Short && holed::is_bare(&header) {
                            d.what += "; it is given as it is";
                            d.doubtful = true;
                            each(&header, Some(&stored), false)?;
                        }
                        return Ok(Checked::Damage(*d));
                    }
                    let keep = match header.kind {
                        Kind::Mft | Kind::Chunk => {
                            each(&header, Some(raw), true)?;
                            None
                        }
                        Kind::Index | Kind::Report => Some(std::mem::take(raw)),
                        _ => None,
                    };
                    let dirt = dirt(&header, body);
                    Ok(Checked::Fine(header, keep, dirt))
                }
            },
            |result| {
                match result {
                    Checked::Damage(d) => {
                        through(Delivered::Damage(&d))?;
                        outcome.damage.push(d);
                    }
                    Checked::Passed(header) => {
                        through(Delivered::Record(&header))?;
                        observer.advance(header.total_len());
                        index.push(&header);
                    }
                    Checked::Fine(header, keep, dirt) => {
                        if let Some(d) = &dirt {
                            through(Delivered::Damage(d))?;
                        }
                        through(Delivered::Record(&header))?;
                        outcome.damage.extend(dirt);
                        observer.advance(header.total_len());
                        match (header.kind, keep) {
                            (Kind::Mft | Kind::Chunk, _) => {
                                match header.provenance {
                                    Provenance::None if is_known(&header) => {
                                        outcome.read_back_bytes += header.raw_len;
                                    }
                                    Provenance::None => outcome.unverified_bytes += header.raw_len,
                                    _ => outcome.checked_bytes += header.raw_len,
                                }
                                index.push(&header);
                            }
                            (Kind::Report, Some(json)) => report = Some(json),
                            (Kind::Index, Some(bytes)) => copies.push((header, bytes)),
                            (Kind::Tail, _) => tail = Some(header),
                            _ => {}
                        }
                    }
                }
                Ok(())
            },
        )?;
        outcome.records = self.outcome.records;
        outcome.report = report;
        self.index = index;
        for (header, bytes) in copies {
            self.compare_index(&header, &bytes, &mut outcome);
        }
        self.compare_tail(tail, &mut outcome);
        outcome.damage.sort_by_key(|d| (d.from, d.to));
        Ok(outcome)
    }

    fn next_item(&mut self, pass: &dyn Fn(&Header) -> bool) -> Result<Option<Item>> {
        if let Some(item) = self.queued.take() {
            return Ok(Some(item));
        }
        match self.walker.step()? {
            None => Ok(None),
            Some(Found::Lost {
                from,
                to,
                records,
                why,
            }) => Ok(Some(Item::Damage(Damage {
                from,
                to,
                what: match records {
                    0 => why,
                    n => format!("{why} ({n} records lost)"),
                },
                record: None,
                region: None,
                ranges: Vec::new(),
                loses_data: true,
                doubtful: false,
                files: Vec::new(),
            }))),
            Some(Found::Record(header)) => {
                if header.kind != Kind::Tail {
                    let mut bytes = Vec::with_capacity(header.len());
                    header.encode(&mut bytes);
                    self.chain.update(&bytes);
                }
                self.outcome.records += 1;
                // The walker goes past a payload that it is not asked for.
                let passed = pass(&header);
                let mut stored = Vec::new();
                let start = self.walker.position();
                let body = match passed {
                    true => Body::Whole,
                    false => self.walker.payload(&mut stored)?,
                };
                let lost = self.holes.as_ref().map_or_else(Vec::new, |h| {
                    h.holes(ByteRange {
                        start,
                        end: start.saturating_add(header.stored_len),
                    })
                });
                let broken = self.disk.as_ref().and_then(|(_, disk)| {
                    self.rules
                        .alone(disk, &header)
                        .or_else(|| self.rules.together(disk, &header))
                });
                Ok(Some(match broken {
                    None if passed => Item::Passed(header),
                    None if !lost.is_empty() => Item::Holed(
                        header,
                        stored,
                        lost.into_iter()
                            .map(|l| ByteRange {
                                start: l.start - start,
                                end: l.end - start,
                            })
                            .collect(),
                    ),
                    None => Item::Record(header, stored, body),
                    Some(what) => Item::Damage(*damage(
                        &header,
                        format!("{} record {what}", header.kind.name()),
                        true,
                    )),
                }))
            }
        }
    }

    fn compare_index(&self, header: &Header, bytes: &[u8], outcome: &mut Outcome) {
        if let (Some(head), Some((disk, _))) = (&self.head, &self.disk)
            && self.index.encode(head, disk) == bytes
        {
            // Every record of data is there: what was lost held none.
            for d in outcome.damage.iter_mut().filter(|d| d.record.is_none()) {
                d.loses_data = false;
            }
            return;
        }
        let (what, loses_data) = match Index::decode(bytes, self.walker.position()) {
            Err(e) => (e.message().to_string(), false),
            Ok((_, _, i))
                if i.entries == self.index.entries
                    && i.spans == self.index.spans
                    && (self.head.is_none() || self.disk.is_none()) =>
            {
                return;
            }
            Ok(_) if outcome.damage.iter().any(|d| d.loses_data) => return,
            Ok(_) => (
                "Index does not describe the records that are there".into(),
                true,
            ),
        };
        let mut d = damage(header, what, false);
        d.loses_data = loses_data;
        outcome.damage.push(*d);
    }

    fn compare_tail(&self, tail: Option<Header>, outcome: &mut Outcome) {
        let Some(tail) = tail else { return };
        outcome.totals = tail.totals();
        let digest = self.chain.finalize();
        if *digest.as_bytes() == tail.digest {
            outcome.digest = Some(digest.to_hex().to_string());
        } else if outcome
            .damage
            .iter()
            .all(|d| d.record.is_some() && !d.loses_data)
        {
            // Nothing that is known to be damaged explains it.
            let what = "The digest in Tail is not that of the records";
            let mut d = damage(&tail, what.into(), false);
            d.loses_data = true;
            outcome.damage.push(*d);
        }
    }
}

/// A damaged record; `lost` when its payload cannot be used.
fn damage(header: &Header, what: String, lost: bool) -> Box<Damage> {
    let data = matches!(header.kind, Kind::Mft | Kind::Chunk);
    let runs = if lost { header.byte_runs() } else { Vec::new() };
    Box::new(Damage {
        from: header.stream_offset,
        to: header.stream_offset + header.total_len(),
        what,
        record: Some(header.kind.name()),
        region: data.then_some(header.region),
        ranges: runs
            .into_iter()
            .map(|(s, n, _)| ByteRange {
                start: s,
                end: s + n,
            })
            .collect(),
        loses_data: data && lost,
        doubtful: false,
        files: Vec::new(),
    })
}

/// What padding that is not zero is: damage that costs nothing.
fn dirt(header: &Header, body: Body) -> Option<Damage> {
    (body == Body::DirtyPadding).then(|| *damage(header, "Padding is not zero".into(), false))
}

fn check(
    unpacker: &mut Unpacker,
    header: &Header,
    stored: &[u8],
    body: Body,
    raw: &mut Vec<u8>,
) -> std::result::Result<(), Box<Damage>> {
    if header.kind == Kind::Tail {
        raw.clear();
        return Ok(());
    }
    match body {
        Body::Short => Err(damage(
            header,
            format!("The stream ends inside a {} record", header.kind.name()),
            true,
        )),
        Body::Whole | Body::DirtyPadding => {
            unpacker
                .unpack(header, stored, raw)
                .map_err(|e| damage(header, e.message().into(), true))?;
            if header.kind == Kind::Pad && raw.iter().any(|&b| b != 0) {
                return Err(damage(header, "Pad record is not zero".into(), false));
            }
            Ok(())
        }
    }
}
