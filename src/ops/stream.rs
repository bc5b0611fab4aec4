//! Reading a whole stream forward with every check, whatever is done with the
//! records: `verify` throws them away, `restore` writes them.

use super::pipeline;
use crate::archive::{
    Body, DiskInfo, Found, Head, Header, Index, Input, Kind, Totals, Unpacker, Walker,
};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::Observer;
use crate::units::ByteRange;

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
    queued: Option<(Header, Vec<u8>, Body)>,
}

enum Item {
    Record(Header, Vec<u8>, Body),
    Damage(Damage),
}

enum Checked {
    Fine(Header, Option<Vec<u8>>, Option<Damage>),
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
        }
    }

    /// Reads Head and Disk. `None` for what is damaged.
    pub fn begin(&mut self) -> Result<(Option<Head>, Option<DiskInfo>)> {
        let (mut head, mut disk) = (None, None);
        let mut unpacker = Unpacker::new()?;
        let mut raw = Vec::new();
        while let Some(item) = self.next_item()? {
            let (header, stored, body) = match item {
                Item::Damage(d) => {
                    self.outcome.damage.push(d);
                    continue;
                }
                Item::Record(h, s, b) => (h, s, b),
            };
            if !matches!(header.kind, Kind::Head | Kind::Disk) {
                self.queued = Some((header, stored, body));
                break;
            }
            match check(&mut unpacker, &header, &stored, body, &mut raw) {
                Err(d) => self.outcome.damage.push(*d),
                Ok(()) if header.kind == Kind::Head => head = Some(Head::parse(&raw)?),
                Ok(()) => disk = Some(DiskInfo::parse(&raw)?),
            }
            if disk.is_some() {
                break;
            }
        }
        if self.outcome.records == 0 {
            return Err(Error::new(ErrorKind::Damaged, "This is not an ntbak archive").at(0));
        }
        Ok((head, disk))
    }

    /// Reads the rest. `each` gets every Mft and Chunk that passed its checks,
    /// in any order, from any thread.
    pub fn run(
        mut self,
        threads: usize,
        observer: &dyn Observer,
        each: impl Fn(&Header, &[u8]) -> Result<()> + Sync,
    ) -> Result<Outcome> {
        // `next_item` and `deliver` both belong to the reader; they meet here.
        let mut outcome = std::mem::take(&mut self.outcome);
        let (mut index, mut tail) = (Index::default(), None);
        let mut copies = Vec::new();
        let mut report = None;
        let reader = &mut self;
        pipeline::ordered(
            threads,
            threads * 2 + 2,
            || {
                if observer.cancelled() {
                    return Err(Error::interrupted());
                }
                reader.next_item()
            },
            || Ok((Unpacker::new()?, Vec::new())),
            |(unpacker, raw), item| match item {
                Item::Damage(d) => Ok(Checked::Damage(d)),
                Item::Record(header, stored, body) => {
                    if let Err(d) = check(unpacker, &header, &stored, body, raw) {
                        return Ok(Checked::Damage(*d));
                    }
                    let keep = match header.kind {
                        Kind::Mft | Kind::Chunk => {
                            each(&header, raw)?;
                            None
                        }
                        Kind::Index | Kind::Report => Some(std::mem::take(raw)),
                        _ => None,
                    };
                    let dirt = (body == Body::DirtyPadding).then(|| Damage {
                        from: header.stream_offset + header.len() as u64 + header.stored_len,
                        to: header.stream_offset + header.total_len(),
                        what: "Padding is not zero".into(),
                        record: Some(header.kind.name()),
                        region: None,
                        ranges: Vec::new(),
                        loses_data: false,
                        files: Vec::new(),
                    });
                    Ok(Checked::Fine(header, keep, dirt))
                }
            },
            |result| {
                match result {
                    Checked::Damage(d) => outcome.damage.push(d),
                    Checked::Fine(header, keep, dirt) => {
                        outcome.damage.extend(dirt);
                        observer.advance(header.total_len());
                        match (header.kind, keep) {
                            (Kind::Mft | Kind::Chunk, _) => {
                                outcome.checked_bytes += header.raw_len;
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

    fn next_item(&mut self) -> Result<Option<Item>> {
        if let Some((h, s, b)) = self.queued.take() {
            return Ok(Some(Item::Record(h, s, b)));
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
                files: Vec::new(),
            }))),
            Some(Found::Record(header)) => {
                if header.kind != Kind::Tail {
                    let mut bytes = Vec::with_capacity(header.len());
                    header.encode(&mut bytes);
                    self.chain.update(&bytes);
                }
                self.outcome.records += 1;
                let mut stored = Vec::new();
                let body = self.walker.payload(&mut stored)?;
                Ok(Some(Item::Record(header, stored, body)))
            }
        }
    }

    fn compare_index(&self, header: &Header, bytes: &[u8], outcome: &mut Outcome) {
        let clean = outcome.damage.is_empty();
        let what = match Index::decode(bytes, u64::MAX) {
            Err(e) => e.to_string(),
            Ok((_, _, i)) if clean && i != self.index => {
                "Index does not name the records that are there".into()
            }
            Ok(_) => return,
        };
        outcome.damage.push(Damage {
            from: header.stream_offset,
            to: header.stream_offset + header.total_len(),
            what,
            record: Some("Index"),
            region: None,
            ranges: Vec::new(),
            loses_data: false,
            files: Vec::new(),
        });
    }

    fn compare_tail(&self, tail: Option<Header>, outcome: &mut Outcome) {
        let Some(tail) = tail else { return };
        outcome.totals = tail.totals();
        let digest = self.chain.finalize();
        if *digest.as_bytes() == tail.digest {
            outcome.digest = Some(digest.to_hex().to_string());
        } else if outcome.damage.is_empty() {
            outcome.damage.push(Damage {
                from: tail.stream_offset,
                to: tail.stream_offset + tail.total_len(),
                what: "The digest in Tail is not that of the records".into(),
                record: Some("Tail"),
                region: None,
                ranges: Vec::new(),
                loses_data: true,
                files: Vec::new(),
            });
        }
    }
}

fn check(
    unpacker: &mut Unpacker,
    header: &Header,
    stored: &[u8],
    body: Body,
    raw: &mut Vec<u8>,
) -> std::result::Result<(), Box<Damage>> {
    let damage = |what: String, lost: bool| {
        let data = matches!(header.kind, Kind::Mft | Kind::Chunk);
        Box::new(Damage {
            from: header.stream_offset,
            to: header.stream_offset + header.total_len(),
            what,
            record: Some(header.kind.name()),
            region: data.then_some(header.region),
            ranges: match lost {
                true => header
                    .byte_runs()
                    .into_iter()
                    .map(|(start, len, _)| ByteRange {
                        start,
                        end: start + len,
                    })
                    .collect(),
                false => Vec::new(),
            },
            loses_data: data && lost,
            files: Vec::new(),
        })
    };
    if header.kind == Kind::Tail {
        raw.clear();
        return Ok(());
    }
    match body {
        Body::Short => Err(damage(
            format!("The stream ends inside a {} record", header.kind.name()),
            true,
        )),
        Body::Whole | Body::DirtyPadding => {
            unpacker
                .unpack(header, stored, raw)
                .map_err(|e| damage(e.message().into(), true))?;
            if header.kind == Kind::Pad && raw.iter().any(|&b| b != 0) {
                return Err(damage("Pad record is not zero".into(), false));
            }
            Ok(())
        }
    }
}
