//! Restore plans: wanted pieces of the stream become commands that read a tape
//! forward and write a disk.

use super::encode::{Body, Cscd, List, ListId, Segment};
use super::limits::{Limits, MAX_BLOCKS, Used, cscd, segment};
use super::plan::{DISK, Geometry, TAPE, used};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::iter::Peekable;

/// Gaps of up to so many tape blocks are read rather than skipped: a drive that
/// stops and positions costs seconds, reading them hundredths.
pub const READ_OVER: u64 = 16;

/// A piece of the stream and its place on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Stream offset.
    pub offset: u64,
    /// Bytes, whole disk blocks.
    pub bytes: u64,
    /// First block of the disk.
    pub lba: u64,
}

impl Wanted {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes)
    }

    /// The first `n` bytes and the rest.
    fn split(self, n: u64, disk_block: u64) -> (Wanted, Option<Wanted>) {
        let rest = (n < self.bytes).then(|| Wanted {
            offset: self.offset + n,
            bytes: self.bytes - n,
            lba: self.lba + n / disk_block,
        });
        (Wanted { bytes: n, ..self }, rest)
    }
}

/// A tape file with blocks of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapeFile {
    /// Object number of its first block.
    pub first_object: u64,
    /// Stream offset of its first byte.
    pub offset: u64,
    /// Bytes of the stream in it: whole tape blocks.
    pub bytes: u64,
}

/// A command of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreCommand {
    /// The host moves these pieces: the copy manager cannot.
    pub by_host: bool,
    /// Object number that the host has to locate before it.
    pub locate: Option<u64>,
    /// Object number of the first block it reads.
    pub object: u64,
    /// Tape blocks it reads.
    pub blocks: u64,
    /// Object number at which the tape stands afterwards.
    pub end_object: u64,
    /// Bytes it writes to the disk.
    pub bytes: u64,
    /// Segments, in their order.
    pub segments: Vec<Segment>,
    /// What it restores: what the host reads when it has to.
    pub pieces: Vec<Wanted>,
}

impl RestoreCommand {
    /// True when the copy manager itself goes to [`RestoreCommand::object`] first.
    pub fn begins_with_locate(&self) -> bool {
        let first = self.segments.first();
        first.is_some_and(|s| matches!(s.body, Body::Locate { .. }))
    }

    /// How much of the limits it uses.
    pub fn used(&self) -> Used {
        used(&self.segments, &[], self.bytes)
    }

    /// Its parameter list, `cscds` being disk and tape.
    pub fn parameter_list(&self, id: u8, cscds: &[Cscd; 2]) -> Result<Vec<u8>> {
        List {
            usage: ListId::Hold,
            cscds,
            segments: &self.segments,
            inline: &[],
        }
        .encode(id)
    }
}

/// The commands that restore wanted pieces from one cartridge, made one by one.
/// What lies on other cartridges is passed over.
pub struct Restore<I: Iterator<Item = Wanted>> {
    pieces: Peekable<I>,
    files: Vec<TapeFile>,
    next: Option<Wanted>,
    limits: Limits,
    geometry: Geometry,
    read_over: u64,
    per_copy: u64,
    per_skip: u64,
    command_blocks: u64,
    unit: u64,
    position: Option<u64>,
    at: u64,
    over: bool,
}

/// A command on its way.
struct Draft {
    command: RestoreCommand,
    /// The tape file being read.
    file: TapeFile,
    /// Stream offset up to which data was processed.
    at: u64,
    /// Stream offset up to which blocks were read.
    read: u64,
    list_bytes: u64,
}

/// How far a draft was: getting to a part is undone when nothing of it fits.
#[derive(Clone, Copy)]
struct Mark {
    segments: usize,
    blocks: u64,
    file: TapeFile,
    at: u64,
    read: u64,
    list_bytes: u64,
}

impl Draft {
    fn mark(&self) -> Mark {
        Mark {
            segments: self.command.segments.len(),
            blocks: self.command.blocks,
            file: self.file,
            at: self.at,
            read: self.read,
            list_bytes: self.list_bytes,
        }
    }

    fn back_to(&mut self, m: Mark) {
        self.command.segments.truncate(m.segments);
        self.command.blocks = m.blocks;
        (self.file, self.at, self.read) = (m.file, m.at, m.read);
        self.list_bytes = m.list_bytes;
    }
}

impl<I: Iterator<Item = Wanted>> Restore<I> {
    /// A plan for pieces that ascend by offset, from tape files that ascend.
    pub fn new(
        pieces: impl IntoIterator<Item = Wanted, IntoIter = I>,
        files: Vec<TapeFile>,
        limits: &Limits,
        geometry: &Geometry,
    ) -> Result<Self> {
        geometry.check(limits)?;
        limits.check_restore(geometry.disk_block)?;
        let t = geometry.tape_block;
        let sound = files
            .windows(2)
            .all(|w| w[0].offset.saturating_add(w[0].bytes) <= w[1].offset)
            && files.iter().all(|f| {
                f.offset.checked_add(f.bytes).is_some()
                    && f.bytes.is_multiple_of(t)
                    && f.first_object.checked_add(f.bytes / t).is_some()
            });
        if !sound {
            return Err(Error::damaged(format!(
                "The files of the tape do not hold ascending whole blocks of {t} bytes"
            )));
        }
        let unit = limits.data_unit().max(geometry.disk_block);
        let floor = |n: u64| n / unit * unit;
        let segment_bytes = match limits.segment_bytes {
            0 => u64::from(u32::MAX),
            n => n.min(u64::from(u32::MAX)),
        };
        let command = match limits.command_bytes {
            0 => geometry.command_bytes,
            n => n.min(geometry.command_bytes),
        };
        Ok(Self {
            pieces: pieces.into_iter().peekable(),
            files,
            next: None,
            limits: limits.clone(),
            geometry: *geometry,
            read_over: READ_OVER * t,
            per_copy: floor(segment_bytes.min(MAX_BLOCKS * geometry.disk_block)),
            per_skip: floor(segment_bytes),
            command_blocks: (command / t).max(1),
            unit,
            position: None,
            at: 0,
            over: false,
        })
    }

    /// Gaps of up to so many bytes are read rather than skipped.
    pub fn reading_over(mut self, bytes: u64) -> Self {
        self.read_over = bytes;
        self
    }

    /// Plans `last` again, of which nothing was written, and everything behind
    /// it, with other limits. Call it with the latest command only.
    pub fn replan(&mut self, last: RestoreCommand, limits: &Limits) -> Result<()>
    where
        I: From<Vec<Wanted>>,
    {
        let mut all = last.pieces;
        all.extend(self.next.take());
        all.extend(self.pieces.by_ref());
        let mut again = Self::new(I::from(all), self.files.clone(), limits, &self.geometry)?;
        again.read_over = self.read_over;
        *self = again;
        Ok(())
    }

    /// The next piece on this cartridge, inside one tape file.
    fn next_part(&mut self) -> Result<Option<(Wanted, TapeFile)>> {
        let b = self.geometry.disk_block;
        loop {
            let mut w = match self.next.take() {
                Some(w) => w,
                None => match self.pieces.next() {
                    Some(w) => w,
                    None => return Ok(None),
                },
            };
            // Neighbours become one piece.
            while let Some(n) = self.pieces.peek() {
                if n.offset != w.end() || Some(n.lba) != w.lba.checked_add(w.bytes / b) {
                    break;
                }
                w.bytes = w.bytes.saturating_add(n.bytes);
                self.pieces.next();
            }
            if w.offset < self.at
                || w.offset.checked_add(w.bytes).is_none()
                || !w.bytes.is_multiple_of(b)
                || w.lba.checked_add(w.bytes / b).is_none()
            {
                return Err(Error::usage(format!(
                    "A piece of {} bytes does not ascend in whole blocks of {b}",
                    w.bytes
                ))
                .at(w.offset));
            }
            if w.bytes == 0 {
                continue;
            }
            let Some(file) = self
                .files
                .iter()
                .copied()
                .find(|f| w.offset < f.offset + f.bytes)
            else {
                self.at = w.end();
                continue;
            };
            if w.end() <= file.offset {
                self.at = w.end();
                continue;
            }
            let from = file.offset.saturating_sub(w.offset);
            let to = (file.offset + file.bytes - w.offset).min(w.bytes);
            if !from.is_multiple_of(b) || !to.is_multiple_of(b) {
                return Err(Error::unsupported(format!(
                    "A block of {b} bytes lies on two cartridges or in two tape files"
                ))
                .at(w.offset)
                .hint("restore to a disk with blocks as the source had them"));
            }
            let (head, rest) = w.split(to, b);
            self.next = rest;
            let part = match from {
                0 => head,
                _ => match head.split(from, b).1 {
                    Some(p) => p,
                    None => continue,
                },
            };
            self.at = part.offset;
            return Ok(Some((part, file)));
        }
    }

    /// Gives back what of a part was not planned.
    fn give_back(&mut self, part: Wanted) {
        let b = self.geometry.disk_block;
        self.next = Some(match self.next.take() {
            Some(n) if n.offset == part.end() && n.lba == part.lba + part.bytes / b => Wanted {
                bytes: part.bytes + n.bytes,
                ..part
            },
            _ => part,
        });
        self.at = part.offset;
    }

    fn object(&self, file: &TapeFile, offset: u64) -> u64 {
        file.first_object + (offset - file.offset) / self.geometry.tape_block
    }

    fn has_room(&self, d: &Draft, bodies: &[u64]) -> bool {
        d.command.segments.len() as u64 + bodies.len() as u64 <= u64::from(self.limits.segments)
            && d.list_bytes + bodies.iter().sum::<u64>() <= self.limits.list_bytes
    }

    /// Stream offset up to which the command may read.
    fn reach(&self, d: &Draft) -> u64 {
        let left = self.command_blocks.saturating_sub(d.command.blocks);
        d.read
            .saturating_add(left.saturating_mul(self.geometry.tape_block))
            .min(d.file.offset + d.file.bytes)
    }

    fn push(&self, d: &mut Draft, cat: bool, source: u16, destination: u16, body: Body) {
        d.list_bytes += body.len();
        d.command.segments.push(Segment {
            cat,
            source,
            destination,
            body,
        });
    }

    /// Counts the blocks that are read so that data up to `at` is processed.
    fn advance(&self, d: &mut Draft, at: u64) {
        let t = self.geometry.tape_block;
        d.at = at;
        if at > d.read {
            let end = d.file.offset + (at - d.file.offset).div_ceil(t) * t;
            d.command.blocks += (end - d.read) / t;
            d.read = end;
        }
    }

    /// Begins reading at a part, in a new or a running command. False when
    /// there is no room.
    fn begin(&self, d: &mut Draft, part: &Wanted, file: TapeFile, fresh: bool) -> bool {
        let t = self.geometry.tape_block;
        let skip = (part.offset - file.offset) % t;
        let object = self.object(&file, part.offset);
        let here = fresh && self.position == Some(object);
        let moves: &[u64] = if skip > 0 { &[16, 24] } else { &[24] };
        let id = u32::try_from(object).ok();
        let by_segment = id.filter(|_| self.limits.has(segment::LOCATE)).filter(|_| {
            let mut all = vec![12];
            all.extend(moves);
            self.has_room(d, &all)
        });
        match (here, by_segment, fresh) {
            (true, _, _) => {}
            (_, Some(object), _) => self.push(d, false, 0, TAPE, Body::Locate { object }),
            (_, None, true) => d.command.locate = Some(object),
            (_, None, false) => return false,
        }
        if !self.has_room(d, moves) || d.command.blocks >= self.command_blocks {
            return false;
        }
        let start = part.offset - skip;
        (d.file, d.at, d.read) = (file, start, start);
        if skip > 0 {
            self.skip(d, skip);
        }
        true
    }

    fn skip(&self, d: &mut Draft, bytes: u64) {
        let transfer = self.geometry.tape_block as u32;
        let body = Body::Discard {
            hold: false,
            transfer,
            bytes: bytes as u32,
        };
        self.push(d, true, TAPE, 0, body);
        self.advance(d, d.at + bytes);
    }

    /// Copies as much of a part as there is room for; the bytes done.
    fn copy(&self, d: &mut Draft, part: &Wanted) -> u64 {
        let b = self.geometry.disk_block;
        let mut done = 0;
        while done < part.bytes && self.has_room(d, &[24]) {
            let room = self.reach(d).saturating_sub(d.at) / self.unit * self.unit;
            let n = (part.bytes - done).min(self.per_copy).min(room);
            let Some(blocks) = u16::try_from(n / b).ok().filter(|&n| n > 0) else {
                break;
            };
            let body = Body::StreamToBlock {
                hold: false,
                transfer: self.geometry.tape_block as u32,
                blocks,
                lba: part.lba + done / b,
            };
            self.push(d, true, TAPE, DISK, body);
            self.advance(d, d.at + n);
            done += n;
        }
        if done > 0 {
            d.command.bytes += done;
            d.command.pieces.push(part.split(done, b).0);
        }
        done
    }

    /// Gets from the end of one part to the next inside a command.
    fn cross(&self, d: &mut Draft, part: &Wanted, file: TapeFile) -> bool {
        let gap = part.offset - d.at;
        if file == d.file && gap == 0 {
            return true;
        }
        let near = part.offset < d.read || gap <= self.read_over;
        if file == d.file && near && gap <= self.per_skip {
            let fits = self.has_room(d, &[16, 24]) && part.offset < self.reach(d);
            if fits {
                self.skip(d, gap);
            }
            return fits;
        }
        // Residue must be gone before the tape is moved: locate keeps it. The
        // last copy drops it with CAT 0, the tape having PAD.
        let last = d.command.segments.len().checked_sub(1);
        if !self.begin(d, part, file, false) {
            return false;
        }
        if let Some(s) = last.and_then(|i| d.command.segments.get_mut(i)) {
            s.cat = false;
        }
        true
    }

    fn step(&mut self) -> Result<Option<RestoreCommand>> {
        let Some((part, file)) = self.next_part()? else {
            return Ok(None);
        };
        let object = self.object(&file, part.offset);
        let mut d = Draft {
            command: RestoreCommand {
                by_host: false,
                locate: None,
                object,
                blocks: 0,
                end_object: object,
                bytes: 0,
                segments: Vec::new(),
                pieces: Vec::new(),
            },
            file,
            at: part.offset,
            read: part.offset,
            list_bytes: u64::from(2 * cscd::BYTES),
        };
        if !self.is_aligned(&part, &file) {
            return Ok(Some(self.by_host(d.command, part, &file)));
        }
        if !self.begin(&mut d, &part, file, true) {
            return Err(too_little());
        }
        let mut part = part;
        let mut before = None;
        loop {
            let done = self.copy(&mut d, &part);
            if done == 0 {
                match before {
                    Some(b) => d.back_to(b),
                    None => return Err(too_little()),
                }
            }
            if done < part.bytes {
                let (_, rest) = part.split(done, self.geometry.disk_block);
                rest.into_iter().for_each(|r| self.give_back(r));
                break;
            }
            self.at = part.end();
            match self.next_part()? {
                None => break,
                Some((next, next_file)) => {
                    before = Some(d.mark());
                    let fits =
                        self.is_aligned(&next, &next_file) && self.cross(&mut d, &next, next_file);
                    if !fits {
                        before.take().into_iter().for_each(|b| d.back_to(b));
                        self.give_back(next);
                        break;
                    }
                    part = next;
                }
            }
        }
        match d.command.segments.last_mut() {
            Some(last) => last.cat = false,
            None => return Err(too_little()),
        }
        d.command.end_object = self.object(&d.file, d.read);
        self.position = Some(d.command.end_object);
        Ok(Some(d.command))
    }

    fn is_aligned(&self, part: &Wanted, file: &TapeFile) -> bool {
        (part.offset - file.offset).is_multiple_of(self.limits.data_unit())
            && part.bytes.is_multiple_of(self.unit)
    }

    /// What no segment of this copy manager can move.
    fn by_host(&mut self, mut c: RestoreCommand, part: Wanted, file: &TapeFile) -> RestoreCommand {
        let t = self.geometry.tape_block;
        c.by_host = true;
        c.locate = Some(c.object).filter(|_| self.position != Some(c.object));
        c.end_object = file.first_object + (part.end() - file.offset).div_ceil(t);
        c.blocks = c.end_object - c.object;
        c.bytes = part.bytes;
        c.pieces.push(part);
        self.at = part.end();
        self.position = Some(c.end_object);
        c
    }
}

impl<I: Iterator<Item = Wanted>> Iterator for Restore<I> {
    type Item = Result<RestoreCommand>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let step = self.step();
        self.over = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}

fn too_little() -> Error {
    Error::unsupported("The copy manager takes too little in one command for a restore")
        .hint("let the host move the data: --mover host reads the same tape")
}
