//! What a cartridge holds, found from the cartridge alone.

use super::reader::{PartReader, met_text};
use crate::archive::{BLOCK, Found, Head, Header, Kind, Unpacker, Walker};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::Observer;
use crate::tape::{Drive, Label, LabelKind, PartMap, Read, SetFacts, scan};
use serde::Serialize;

/// A first block is looked at as far as this.
const FIRST: usize = 64 << 10;

/// What a cartridge holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "holds")]
pub enum Contents {
    /// Nothing was ever written on it.
    Nothing,
    /// A label, and no set.
    Blank {
        /// The label.
        label: Label,
    },
    /// A part of a set.
    Set(Box<SetPartFound>),
    /// Something that is not of this program, or is so no longer.
    Foreign {
        /// What its first block is.
        first_block: String,
    },
}

/// A part of a set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetPartFound {
    /// Label and files.
    pub map: PartMap,
    /// What the set is a backup of; the first cartridge tells.
    pub facts: Option<SetFacts>,
    /// True when the set ends here, as it should; false when it just stops.
    /// None: another cartridge goes on.
    pub complete: Option<bool>,
    /// Of a set that just stops: what a walk through its records found.
    pub walked: Option<Walked>,
}

/// What stands on an unfinished cartridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Walked {
    /// Records that are whole, as far as their headers tell.
    pub records: u64,
    /// Stream offset behind the last of them.
    pub whole_until: u64,
    /// Bytes that belong to no record that can be read.
    pub lost_bytes: u64,
}

/// What the first block of the cartridge says; [`Contents::Set`] is not among
/// the answers, but a label with a set.
pub fn first_block(drive: &mut dyn Drive) -> Result<Result<Label, Contents>> {
    drive.rewind()?;
    let mut block = vec![0; FIRST];
    let foreign = |first_block: String| Err(Contents::Foreign { first_block });
    Ok(match drive.read(&mut block) {
        Ok(Read::EndOfData) => Err(Contents::Nothing),
        Ok(Read::Block(n)) => match Label::decode(block.get(..n).unwrap_or(&block)) {
            Ok(Some(l)) if l.kind == LabelKind::Label => Ok(l),
            Ok(Some(l)) => foreign(format!("the trailer of cartridge {:?}", l.name)),
            Ok(None) => foreign(met_text(Read::Block(n))),
            Err(e) => foreign(format!("a label that cannot be used ({})", e.message())),
        },
        Ok(met) => foreign(met_text(met)),
        Err(e) if e.kind() == ErrorKind::Unreadable => {
            foreign("a block that cannot be read".into())
        }
        Err(e) => return Err(e),
    })
}

/// Finds out what the cartridge in the drive holds. The records of an unfinished
/// one are walked through.
pub fn contents(drive: &mut dyn Drive, observer: &dyn Observer) -> Result<Contents> {
    let label = match first_block(drive)? {
        Ok(l) => l,
        Err(other) => return Ok(other),
    };
    if label.part.is_none() {
        return Ok(Contents::Blank { label });
    }
    let map = scan(drive)?;
    let name = drive.name().to_string();
    set_part(drive, map, observer)
        .map(|s| Contents::Set(Box::new(s)))
        .map_err(|e| e.of(name))
}

fn set_part(drive: &mut dyn Drive, map: PartMap, observer: &dyn Observer) -> Result<SetPartFound> {
    let mut out = SetPartFound {
        facts: facts(drive, &map, observer)?,
        complete: None,
        walked: None,
        map,
    };
    if out.map.continued {
        return Ok(out);
    }
    let whole = out.map.closed && ends(drive, &out.map, observer)?;
    out.complete = Some(whole);
    if !whole {
        let bytes = out.map.end().saturating_sub(out.map.start());
        observer.begin("scan", Some(bytes));
        let walked = walk(drive, &out.map, observer);
        observer.end();
        out.walked = Some(walked?);
    }
    Ok(out)
}

/// The facts of the Head record. None: the stream does not begin here, or its
/// first record is damaged.
fn facts(
    drive: &mut dyn Drive,
    map: &PartMap,
    observer: &dyn Observer,
) -> Result<Option<SetFacts>> {
    if map.start() != 0 || map.end() == 0 {
        return Ok(None);
    }
    let mut walker = Walker::new(PartReader::new(drive, map, observer), 0);
    let head = match walker.step()? {
        Some(Found::Record(h)) if h.kind == Kind::Head && Some(h.id) == map.set().map(|i| i.0) => h,
        _ => return Ok(None),
    };
    let (mut stored, mut json) = (Vec::new(), Vec::new());
    walker.payload(&mut stored)?;
    let read = Unpacker::new()?
        .unpack(&head, &stored, &mut json)
        .and_then(|()| Head::parse(&json));
    Ok(match read {
        Ok(h) => Some(crate::ops::recall::facts(&h)),
        Err(e) if e.kind() == ErrorKind::Unsupported => return Err(e),
        Err(_) => None,
    })
}

/// True when the last block ends with the Tail of this stream.
fn ends(drive: &mut dyn Drive, map: &PartMap, observer: &dyn Observer) -> Result<bool> {
    let Some(at) = map.end().checked_sub(BLOCK as u64) else {
        return Ok(false);
    };
    if at < map.start() {
        return Ok(false);
    }
    let mut reader = PartReader::new(drive, map, observer);
    let block = reader.block_of(at)?;
    let tail = block
        .len()
        .checked_sub(BLOCK)
        .and_then(|n| Header::decode(block.get(n..)?, at).ok());
    Ok(tail.is_some_and(|t| {
        t.kind == Kind::Tail
            && t.totals().is_some()
            && t.stream_offset == at
            && Some(t.id) == map.set().map(|i| i.0)
    }))
}

fn walk(drive: &mut dyn Drive, map: &PartMap, observer: &dyn Observer) -> Result<Walked> {
    let mut out = Walked {
        whole_until: map.start(),
        ..Walked::default()
    };
    let mut walker = Walker::new(PartReader::new(drive, map, observer), map.start());
    while let Some(found) = walker.step().map_err(own_cause)? {
        match found {
            Found::Record(h) => match h.stream_offset.checked_add(h.stride()) {
                Some(end) if end <= map.end() && Some(h.id) == map.set().map(|i| i.0) => {
                    out.records += 1;
                    out.whole_until = end;
                }
                _ => {}
            },
            Found::Lost { from, to, .. } => {
                out.lost_bytes = out.lost_bytes.saturating_add(to.saturating_sub(from));
            }
        }
    }
    Ok(out)
}

/// The drive's own error, which came through a reader.
fn own_cause(e: Error) -> Error {
    let inner = std::error::Error::source(&e)
        .and_then(|s| s.downcast_ref::<std::io::Error>())
        .and_then(std::io::Error::get_ref)
        .and_then(|s| s.downcast_ref::<Error>());
    match inner {
        Some(i) if i.kind() == ErrorKind::Interrupted => Error::interrupted(),
        Some(i) => {
            let mut out = Error::new(i.kind(), i.message());
            if let Some(s) = i.subject() {
                out = out.of(s);
            }
            match i.offset() {
                Some(o) => out.at(o),
                None => out,
            }
        }
        None => e,
    }
}
