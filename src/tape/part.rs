//! What one cartridge holds of a set: found from the cartridge alone, as
//! `docs/tape.md` section 4 says.

use super::drive::{Drive, Read};
use super::label::{Id, LABEL_BYTES, Label, LabelKind};
use crate::error::{Error, Result};

/// More tape files than a backup ever has on a cartridge.
const MAX_FILES: u64 = 64;

/// A tape file with blocks of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TapeFile {
    /// Object number of its first block.
    pub first_object: u64,
    /// Blocks.
    pub blocks: u64,
    /// Stream offset of its first block.
    pub stream_offset: u64,
    /// False when no filemark stands behind it.
    pub ended: bool,
}

/// A cartridge of a set.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PartMap {
    /// Its label.
    pub label: Label,
    /// Its files of the stream, in order.
    pub files: Vec<TapeFile>,
    /// True when another cartridge goes on behind it.
    pub continued: bool,
    /// True when two filemarks close it.
    pub closed: bool,
}

impl PartMap {
    /// Number in the set.
    pub fn sequence(&self) -> u32 {
        self.label.part.map_or(0, |p| p.sequence)
    }

    /// The set.
    pub fn set(&self) -> Option<Id> {
        self.label.part.map(|p| p.set)
    }

    /// Bytes of a block.
    pub fn block_bytes(&self) -> u32 {
        self.label.part.map_or(0, |p| p.block_bytes)
    }

    /// First byte of the stream on it.
    pub fn start(&self) -> u64 {
        self.label.part.map_or(0, |p| p.stream_offset)
    }

    /// First byte of the stream that is no longer on it.
    pub fn end(&self) -> u64 {
        let block = u64::from(self.block_bytes());
        self.files.last().map_or(self.start(), |f| {
            f.stream_offset
                .saturating_add(f.blocks.saturating_mul(block))
        })
    }

    /// The object that holds a byte of the stream, and how many more blocks
    /// follow it without a filemark.
    pub fn object_of(&self, offset: u64) -> Option<(u64, u64)> {
        let block = u64::from(self.block_bytes());
        let n = self.files.partition_point(|f| f.stream_offset <= offset);
        let f = self.files.get(n.checked_sub(1)?)?;
        let i = (offset - f.stream_offset).checked_div(block)?;
        (i < f.blocks).then(|| (f.first_object.saturating_add(i), f.blocks - i - 1))
    }
}

/// Reads the label of the cartridge in the drive, which then stands behind it.
/// None: the cartridge is blank, or holds something else.
pub fn read_label(drive: &mut dyn Drive) -> Result<Option<Label>> {
    drive.rewind()?;
    let mut block = vec![0; LABEL_BYTES];
    match drive.read(&mut block)? {
        Read::Block(n) => {
            Label::decode(block.get(..n).unwrap_or(&block)).map_err(|e| e.of(drive.name()))
        }
        _ => Ok(None),
    }
}

/// True when at most a filemark stands behind the first block of the cartridge:
/// a blank label does not vouch for what somebody wrote behind it.
pub fn nothing_behind_label(drive: &mut dyn Drive) -> Result<bool> {
    drive.rewind()?;
    let mut block = vec![0; LABEL_BYTES];
    drive.read(&mut block)?;
    for may_be_mark in [true, false] {
        match drive.read(&mut block)? {
            Read::EndOfData => return Ok(true),
            Read::Filemark if may_be_mark => {}
            _ => break,
        }
    }
    Ok(false)
}

/// Finds out what the cartridge in the drive holds of a set.
pub fn scan(drive: &mut dyn Drive) -> Result<PartMap> {
    let label = read_label(drive)?
        .filter(|l| l.kind == LabelKind::Label)
        .ok_or_else(|| {
            Error::not_found("The cartridge has no label of this program")
                .of(drive.name())
                .hint("ntbak tape scan tells what is on it")
        })?;
    let Some(part) = label.part else {
        return Err(
            Error::not_found(format!("Cartridge {:?} is blank", label.name)).of(drive.name()),
        );
    };
    let marks = filemarks(drive)?;
    let bad = |what: String| Err(Error::damaged(what).of(drive.name()));
    let (Some(&first), Some(&end)) = (marks.first(), marks.last()) else {
        return bad("The cartridge has no filemark behind its label".into());
    };
    if first != 1 {
        return bad(format!(
            "The first filemark is object {first}, expected 1, right behind the label"
        ));
    }
    // `marks` ends with the end of data.
    let mut files = Vec::new();
    let mut at = part.stream_offset;
    let mut closed = false;
    for (w, pair) in marks.windows(2).enumerate() {
        let (from, to) = (pair[0] + 1, pair[1]);
        let ended = w + 2 < marks.len();
        if from >= to {
            // Two filemarks in a row, or nothing behind the last one.
            closed |= ended;
            continue;
        }
        if closed {
            return bad(format!("Something stands behind the end, at object {from}"));
        }
        files.push(TapeFile {
            first_object: from,
            blocks: to - from,
            stream_offset: at,
            ended,
        });
        at = (to - from)
            .checked_mul(u64::from(part.block_bytes))
            .and_then(|n| at.checked_add(n))
            .ok_or_else(|| Error::damaged("The cartridge holds more than can be"))?;
    }
    debug_assert!(end >= first);
    let mut map = PartMap {
        label,
        files,
        continued: false,
        closed,
    };
    take_trailer(drive, &mut map)?;
    Ok(map)
}

/// A trailer is a file of one short block; it is none of the stream.
fn take_trailer(drive: &mut dyn Drive, map: &mut PartMap) -> Result<()> {
    let Some(last) = map.files.last().filter(|f| f.blocks == 1 && f.ended) else {
        return Ok(());
    };
    drive.locate(last.first_object)?;
    let mut block = vec![0; LABEL_BYTES];
    let trailer = match drive.read(&mut block)? {
        Read::Block(n) => Label::decode(block.get(..n).unwrap_or(&block))?,
        _ => None,
    };
    let (Some(t), Some(own)) = (trailer, map.label.part) else {
        return Ok(());
    };
    let goes_on = last.stream_offset;
    let Some(next) = t
        .part
        .filter(|p| t.kind == LabelKind::Trailer && p.set == own.set && p.sequence == own.sequence)
    else {
        return Err(
            Error::damaged("The trailer belongs to another set or cartridge").of(drive.name()),
        );
    };
    if next.stream_offset != goes_on {
        return Err(Error::damaged(format!(
            "The trailer states that the stream goes on at {:#x}, but the cartridge ends at {goes_on:#x}",
            next.stream_offset
        ))
        .of(drive.name()));
    }
    map.files.pop();
    map.continued = true;
    Ok(())
}

/// Object numbers of all filemarks, and of the end of data as the last.
fn filemarks(drive: &mut dyn Drive) -> Result<Vec<u64>> {
    drive.end_of_data()?;
    let end = drive.position()?;
    let mut out = vec![end.object];
    let many = || {
        Error::damaged(format!(
            "The cartridge has more than {MAX_FILES} tape files, which no backup has"
        ))
    };
    if end.file.is_some_and(|f| f > MAX_FILES) {
        return Err(many().of(drive.name()));
    }
    let mut left = end.file.unwrap_or(MAX_FILES + 1);
    while left > 0 {
        match drive.space_filemarks(-1) {
            Ok(()) => {}
            Err(e) if e.kind() == crate::error::ErrorKind::NotFound => break,
            Err(e) => return Err(e),
        }
        // Strictly less each time: a drive that lies cannot hold us here.
        let at = drive.position()?.object;
        if out.last().is_none_or(|&last| at >= last) {
            return Err(
                Error::damaged("The drive does not go back over filemarks").of(drive.name())
            );
        }
        out.push(at);
        left -= 1;
    }
    if out.len() as u64 > MAX_FILES + 1 {
        return Err(many().of(drive.name()));
    }
    out.reverse();
    Ok(out)
}
