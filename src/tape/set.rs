//! Writing a set: blocks of the stream, filemarks, labels, and the change to
//! the next cartridge. Layout: `docs/tape.md`.

use super::drive::{Drive, Room};
use super::label::{Id, LABEL_BYTES, Label, LabelKind, SetPart};
use super::media::{Media, Wanted};
use super::part::{PartMap, TapeFile, nothing_behind_label, read_label};
use crate::error::{Error, Result};
use std::io::{self, Write};

/// How often a wrong cartridge may come before the run gives up.
const ATTEMPTS: u32 = 16;
/// Bytes written to the drive at once, in whole blocks.
const BATCH: usize = 4 << 20;

/// What a new set is.
#[derive(Clone, Debug)]
pub struct SetOptions {
    /// Id of the set, which is that of the archive.
    pub set: Id,
    /// Bytes of a stream block.
    pub block_bytes: u32,
    /// Label the first cartridge with this name, whatever is on it.
    pub label: Option<String>,
    /// An id for a cartridge that has none.
    pub fresh_id: fn() -> Result<Id>,
    /// Seconds since 1970.
    pub time: u64,
}

/// Who is told what stands on the cartridges: when one was labelled, or a file or
/// a cartridge has ended.
pub type Note = Box<dyn FnMut(&[PartMap]) + Send>;

/// Writes a set.
pub struct SetWriter {
    drive: Box<dyn Drive>,
    media: Box<dyn Media>,
    options: SetOptions,
    parts: Vec<PartMap>,
    /// Bytes that do not fill a block yet.
    pending: Vec<u8>,
    /// Stream offset of what stands on the medium.
    offset: u64,
    /// Object number behind it.
    object: u64,
    /// Early warning was met: nothing more of the stream goes here.
    nearly_full: bool,
    /// The file that is open has begun on the medium.
    open: bool,
    note: Option<Note>,
}

impl SetWriter {
    /// Takes the cartridge in the drive as the first of a set.
    pub fn begin(
        mut drive: Box<dyn Drive>,
        media: Box<dyn Media>,
        options: SetOptions,
    ) -> Result<Self> {
        let old = first_label(&mut *drive, options.label.is_some())?;
        let mut w = Self {
            drive,
            media,
            options,
            parts: Vec::new(),
            pending: Vec::new(),
            offset: 0,
            object: 0,
            nearly_full: false,
            open: false,
            note: None,
        };
        let name = match (&w.options.label, &old) {
            (Some(name), _) => name.clone(),
            (None, Some(l)) => l.name.clone(),
            (None, None) => String::new(),
        };
        w.label(old, name, 1, None)?;
        Ok(w)
    }

    /// Goes on with an unfinished set at `offset`, a boundary of blocks on the
    /// cartridge in the drive, which is the last one. What stands behind it is
    /// written over. At the end of a cartridge that is closed it is the next
    /// one on which the set goes on.
    pub fn resume(
        mut drive: Box<dyn Drive>,
        media: Box<dyn Media>,
        options: SetOptions,
        mut parts: Vec<PartMap>,
        offset: u64,
    ) -> Result<Self> {
        let block = u64::from(options.block_bytes);
        let wrong = || Error::usage(format!("The set cannot go on at stream offset {offset:#x}"));
        let part = parts.last_mut().ok_or_else(wrong)?;
        if !offset.is_multiple_of(block) || offset < part.start() || offset > part.end() {
            return Err(wrong());
        }
        let full = part.continued && offset == part.end();
        part.files.retain(|f| f.stream_offset < offset);
        (part.closed, part.continued) = (false, false);
        let mut open = false;
        let object = match part.files.last_mut() {
            None => 2,
            Some(f) => {
                let blocks = (offset - f.stream_offset) / block;
                open = blocks < f.blocks || !f.ended;
                f.blocks = blocks;
                f.ended = !open;
                f.first_object + blocks + u64::from(!open)
            }
        };
        drive.locate(object)?;
        let at = drive.position()?.object;
        if at != object {
            return Err(lost(&*drive, object, at));
        }
        Ok(Self {
            drive,
            media,
            options,
            parts,
            pending: Vec::new(),
            offset,
            object,
            nearly_full: full,
            open,
            note: None,
        })
    }

    /// Has somebody told what stands on the cartridges, now and later.
    pub fn note_with(&mut self, note: Option<Note>) {
        self.note = note;
        self.tell();
    }

    fn tell(&mut self) {
        if let Some(note) = &mut self.note {
            note(&self.parts);
        }
    }

    /// Stream offset of what is on the medium.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Object number of the next block.
    pub fn object(&self) -> u64 {
        self.object
    }

    /// Bytes of a block.
    pub fn block_bytes(&self) -> u32 {
        self.options.block_bytes
    }

    /// The drive, for questions.
    pub fn drive(&mut self) -> &mut dyn Drive {
        &mut *self.drive
    }

    /// The cartridges so far; the last one is in the drive.
    pub fn parts(&self) -> &[PartMap] {
        &self.parts
    }

    /// Makes sure that the next `bytes` of the stream, and what closes the
    /// cartridge, fit on it; else goes on with the next cartridge. Nothing may
    /// be pending.
    pub fn make_room(&mut self, bytes: u64) -> Result<()> {
        let closing = 4 * u64::from(self.options.block_bytes);
        let short = self.nearly_full
            || self.drive.capacity()?.is_some_and(|c| {
                c.remaining < 2 * bytes + closing && c.maximum > 2 * bytes + closing
            });
        if short && self.has_blocks() {
            self.next_cartridge()?;
        }
        Ok(())
    }

    fn has_blocks(&self) -> bool {
        self.parts
            .last()
            .is_some_and(|p| p.files.iter().any(|f| f.blocks > 0))
    }

    /// Takes note of blocks and filemarks that a copy manager wrote: asks the
    /// drive where it stands. Returns the bytes of the stream that are there,
    /// which are at most `bytes`; a filemark counts only behind all of them.
    pub fn moved(&mut self, bytes: u64, filemarks: u32) -> Result<u64> {
        let block = u64::from(self.options.block_bytes);
        let at = self.drive.position()?.object;
        let wanted = bytes / block;
        let objects = at
            .checked_sub(self.object)
            .filter(|&n| n <= wanted + u64::from(filemarks))
            .ok_or_else(|| lost(&*self.drive, self.object + wanted, at))?;
        let blocks = objects.min(wanted);
        self.count(blocks);
        if objects > wanted {
            self.object += objects - wanted;
            self.file_ended();
        }
        Ok(blocks * block)
    }

    /// Back to the end of what counts: what a copy that failed wrote behind it
    /// will be written over.
    pub fn go_back(&mut self) -> Result<()> {
        self.drive.locate(self.object)?;
        let at = self.drive.position()?.object;
        match at == self.object {
            true => Ok(()),
            false => Err(lost(&*self.drive, self.object, at)),
        }
    }

    /// Early warning was seen by somebody else.
    pub fn set_nearly_full(&mut self) {
        self.nearly_full = true;
    }

    fn count(&mut self, blocks: u64) {
        let first = self.object;
        let offset = self.offset;
        if let Some(p) = self.parts.last_mut() {
            match p.files.last_mut() {
                Some(f) if self.open => f.blocks += blocks,
                _ if blocks > 0 => p.files.push(TapeFile {
                    first_object: first,
                    blocks,
                    stream_offset: offset,
                    ended: false,
                }),
                _ => {}
            }
        }
        self.open |= blocks > 0;
        self.object += blocks;
        self.offset += blocks * u64::from(self.options.block_bytes);
    }

    fn file_ended(&mut self) {
        if let Some(f) = self.parts.last_mut().and_then(|p| p.files.last_mut()) {
            f.ended = true;
        }
        self.open = false;
        self.tell();
    }

    fn put(&mut self, mut data: &[u8]) -> Result<()> {
        let block = self.options.block_bytes as usize;
        while !data.is_empty() {
            if self.nearly_full && self.has_blocks() {
                self.next_cartridge()?;
            }
            let w = self.drive.write(data, block)?;
            if w.taken > data.len() || !w.taken.is_multiple_of(block) {
                return Err(lost(&*self.drive, self.object, self.object));
            }
            if w.taken == 0 && !self.has_blocks() {
                return Err(Error::refused("Not one block fits on the cartridge")
                    .of(self.drive.name())
                    .hint("use a larger cartridge"));
            }
            self.count((w.taken / block) as u64);
            data = &data[w.taken..];
            self.nearly_full |= w.room != Room::Plenty;
        }
        Ok(())
    }

    fn put_pending(&mut self, all: bool) -> Result<()> {
        let block = self.options.block_bytes as usize;
        let batch = (BATCH / block * block).max(block);
        if !all && self.pending.len() < batch {
            return Ok(());
        }
        let n = self.pending.len() / block * block;
        let rest = self.pending.split_off(n);
        let whole = std::mem::replace(&mut self.pending, rest);
        self.put(&whole)
    }

    /// Ends a tape file: the stream stands at a boundary of blocks. Returns
    /// when everything is on the medium.
    pub fn end_file(&mut self) -> Result<()> {
        self.put_pending(true)?;
        if !self.pending.is_empty() {
            return Err(Error::usage(format!(
                "A tape file would end inside a block, {} bytes behind its start",
                self.pending.len()
            )));
        }
        if self.open {
            self.filemarks(1)?;
            self.file_ended();
        }
        Ok(())
    }

    fn filemarks(&mut self, n: u32) -> Result<()> {
        let w = self.drive.write_filemarks(n)?;
        if w.room == Room::Full || w.taken != n as usize {
            return Err(
                Error::refused("The cartridge is full: a filemark does not fit")
                    .of(self.drive.name())
                    .hint("the drive gives its early warning too late for this block size"),
            );
        }
        self.nearly_full |= w.room != Room::Plenty;
        self.object += u64::from(n);
        Ok(())
    }

    /// Closes the set: its last file and the second filemark.
    pub fn finish(mut self) -> Result<(Vec<PartMap>, Box<dyn Drive>)> {
        self.end_file()?;
        self.filemarks(1)?;
        let at = self.drive.position()?.object;
        if at != self.object {
            return Err(lost(&*self.drive, self.object, at));
        }
        if let Some(p) = self.parts.last_mut() {
            p.closed = true;
        }
        Ok((self.parts, self.drive))
    }

    /// Closes this cartridge as a legal part, and labels the next.
    fn next_cartridge(&mut self) -> Result<()> {
        let first_name = self.parts.first().map(|p| p.label.name.clone());
        let Some(this) = self.parts.last().map(|p| p.label.clone()) else {
            return Err(Error::usage("There is no cartridge to go on from"));
        };
        if self.open {
            self.filemarks(1)?;
            self.file_ended();
        }
        let trailer = Label {
            kind: LabelKind::Trailer,
            part: this.part.map(|p| SetPart {
                stream_offset: self.offset,
                ..p
            }),
            ..this.clone()
        };
        self.drive.write(&trailer.encode()?, LABEL_BYTES)?;
        self.object += 1;
        self.filemarks(2)?;
        if let Some(p) = self.parts.last_mut() {
            (p.closed, p.continued) = (true, true);
        }
        self.tell();
        let sequence = self
            .parts
            .last()
            .map_or(0, PartMap::sequence)
            .saturating_add(1);
        self.drive.unload()?;
        let wanted = Wanted::Blank {
            set: self.options.set,
            sequence,
        };
        for attempt in 0..ATTEMPTS {
            self.media.change(&mut *self.drive, &wanted, attempt)?;
            match self.blank_label(sequence)? {
                Some(old) => {
                    let name = old.as_ref().map_or_else(
                        || numbered(first_name.as_deref().unwrap_or_default(), sequence),
                        |l| l.name.clone(),
                    );
                    return self.label(old, name, sequence, Some(this.cartridge));
                }
                None => self.drive.unload()?,
            }
        }
        Err(Error::refused(format!(
            "The drive needs {wanted}; {ATTEMPTS} others came instead"
        ))
        .of(self.drive.name()))
    }

    /// The label of a cartridge that may be written over without asking: a
    /// blank one, or this very one of an earlier attempt. `Some(None)` has no
    /// label. None: something is on it.
    fn blank_label(&mut self, sequence: u32) -> Result<Option<Option<Label>>> {
        if self.drive.info()?.write_protected {
            return Ok(None);
        }
        if let Ok(Some(l)) = read_label(&mut *self.drive) {
            let free = l.kind == LabelKind::Label
                && match l.part {
                    Some(p) => p.set == self.options.set && p.sequence == sequence,
                    None => matches!(nothing_behind_label(&mut *self.drive), Ok(true)),
                };
            return Ok(free.then_some(Some(l)));
        }
        Ok(is_empty(&mut *self.drive)?.then_some(None))
    }

    fn label(
        &mut self,
        old: Option<Label>,
        name: String,
        sequence: u32,
        previous: Option<Id>,
    ) -> Result<()> {
        let cartridge = match &old {
            Some(l) => l.cartridge,
            None => (self.options.fresh_id)()?,
        };
        let label = Label {
            kind: LabelKind::Label,
            cartridge,
            part: Some(SetPart {
                set: self.options.set,
                sequence,
                block_bytes: self.options.block_bytes,
                stream_offset: self.offset,
                previous,
            }),
            time: self.options.time,
            name,
        };
        self.drive.rewind()?;
        self.drive.write(&label.encode()?, LABEL_BYTES)?;
        self.object = 1;
        self.nearly_full = false;
        self.open = false;
        self.filemarks(1)?;
        self.parts.push(PartMap {
            label,
            files: Vec::new(),
            continued: false,
            closed: false,
        });
        self.tell();
        Ok(())
    }
}

impl Write for SetWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(buf);
        self.put_pending(false).map_err(io::Error::other)?;
        Ok(buf.len())
    }

    /// Whole blocks go to the drive; a part of one waits.
    fn flush(&mut self) -> io::Result<()> {
        self.put_pending(true).map_err(io::Error::other)
    }
}

/// May the cartridge in the drive begin a set? Gives its old label.
fn first_label(drive: &mut dyn Drive, relabel: bool) -> Result<Option<Label>> {
    if drive.info()?.write_protected {
        return Err(Error::refused("The cartridge is write-protected")
            .of(drive.name())
            .hint("open its write-protect tab, or take another one"));
    }
    let name = drive.name().to_string();
    let refuse = |what: String, hint: &str| Err(Error::refused(what).of(&*name).hint(hint));
    let label = match read_label(drive) {
        Ok(l) => l,
        Err(_) if relabel => return Ok(None),
        Err(e) => return Err(e.hint("--label NAME writes a new label over it")),
    };
    match label {
        Some(l) if relabel => Ok(Some(l)),
        Some(l) if l.kind == LabelKind::Label && l.part.is_none() => {
            let hint = "--label NAME writes over it; what it holds is lost then";
            match nothing_behind_label(drive).map_err(|e| e.hint(hint))? {
                true => Ok(Some(l)),
                false => refuse(
                    format!(
                        "The cartridge {:?} has something behind its blank label that is not from this program",
                        l.name
                    ),
                    hint,
                ),
            }
        }
        Some(l) => {
            let what = l.part.map_or_else(String::new, |p| {
                format!(", number {} of set {}", p.sequence, p.set)
            });
            refuse(
                format!("The cartridge {:?} holds a backup{what}", l.name),
                "--label NAME writes over it; what it holds is lost then",
            )
        }
        None if relabel => Ok(None),
        None if is_empty(drive)? => refuse(
            "The cartridge has no label".into(),
            "--label NAME gives it one, or ntbak tape label",
        ),
        None => refuse(
            "The cartridge holds something that is not from this program".into(),
            "--label NAME writes over it; what it holds is lost then",
        ),
    }
}

/// True when nothing at all was written on the cartridge.
fn is_empty(drive: &mut dyn Drive) -> Result<bool> {
    drive.rewind()?;
    drive.end_of_data()?;
    let p = drive.position()?;
    Ok(p.bop || p.object == 0)
}

fn numbered(name: &str, sequence: u32) -> String {
    let tail = format!("-{sequence}");
    let mut name = name.to_string();
    while name.len() + tail.len() > 32 {
        name.pop();
    }
    name + &tail
}

fn lost(drive: &dyn Drive, expected: u64, found: u64) -> Error {
    Error::new(
        crate::error::ErrorKind::Scsi,
        format!("The cartridge stands at object {found}, expected {expected}"),
    )
    .of(drive.name())
    .hint("does somebody else use the drive?")
}
