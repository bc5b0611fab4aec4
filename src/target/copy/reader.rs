//! Disk extents of a command, read into a few large buffers: by a thread ahead of
//! the writing where nothing of the command writes to a disk that it reads, else
//! segment by segment.

use super::device::CopyDisk;
use super::rope::{Piece, Pool};
use crate::scsi::Failure;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

/// Bytes of a buffer.
pub const CHUNK: usize = 512 << 10;
/// Buffers that wait between reader and writer.
pub const WAITING: usize = 1;

/// Bytes to read from a disk for a segment.
pub struct Extent<'a> {
    /// The segment.
    pub step: usize,
    /// The disk.
    pub disk: &'a dyn CopyDisk,
    /// First byte.
    pub start: u64,
    /// Number of bytes.
    pub len: u64,
    /// What ends it then; a fault that was asked for.
    pub then: Option<Box<Failure>>,
}

/// What came for a segment.
pub enum Part {
    /// Bytes.
    Data(Piece),
    /// The disk ended a read badly; nothing comes after it.
    Failed(Box<Failure>),
}

/// The parts of one buffer.
pub type Chunk = VecDeque<(usize, Part)>;

/// Reads extents one after the other.
pub struct Extents<'a> {
    list: VecDeque<Extent<'a>>,
    pool: Arc<Pool>,
}

impl<'a> Extents<'a> {
    /// In the order of the segments.
    pub fn new(list: VecDeque<Extent<'a>>, pool: Arc<Pool>) -> Self {
        Self { list, pool }
    }

    /// All bytes to be read.
    pub fn bytes(&self) -> u64 {
        self.list.iter().map(|e| e.len).sum()
    }

    /// The next buffer; of one segment only when `only` names it. None at the
    /// end.
    pub fn chunk(&mut self, only: Option<usize>) -> Option<Chunk> {
        let mine = |e: &Extent<'_>| only.is_none_or(|s| s == e.step);
        let wanted: u64 = self
            .list
            .iter()
            .take_while(|e| mine(e))
            .map(|e| e.len)
            .sum();
        let first = self.list.front().filter(|e| mine(e))?;
        // Edges of ranges that are no whole blocks take more room.
        let edge = first.disk.block() as usize;
        let len = match usize::try_from(wanted) {
            Ok(n) if n.saturating_add(2 * edge) <= CHUNK / 8 => CHUNK / 8,
            _ => CHUNK.max(2 * edge),
        };
        let mut buffer = self.pool.take(len);
        let mut ranges = Vec::new();
        let mut failure = None;
        let mut used = 0;
        while let Some(e) = self.list.front_mut() {
            if only.is_some_and(|s| s != e.step) {
                break;
            }
            let block = e.disk.block().max(1) as usize;
            let room = (len - used) / block * block;
            let skip = (e.start % block as u64) as usize;
            if room <= skip {
                break;
            }
            if e.len > 0 {
                let now = e.len.min((room - skip) as u64) as usize;
                let whole = (skip + now).div_ceil(block) * block;
                let lba = e.start / block as u64;
                let Some(to) = buffer.bytes_mut().get_mut(used..used + whole) else {
                    break;
                };
                let (good, failed) = match e.disk.read(lba, to) {
                    Ok(()) => (now, None),
                    Err((good, f)) => (good.min(whole).saturating_sub(skip).min(now), Some(f)),
                };
                ranges.push((e.step, used + skip..used + skip + good));
                used += whole;
                e.start += now as u64;
                e.len -= now as u64;
                if let Some(f) = failed.filter(|_| good < now) {
                    failure = Some((e.step, f));
                    break;
                }
            }
            if e.len > 0 {
                continue;
            }
            if let Some(f) = e.then.take() {
                failure = Some((e.step, f));
                break;
            }
            self.list.pop_front();
        }
        if failure.is_some() {
            self.list.clear();
        }
        let buffer = Arc::new(buffer);
        let mut chunk: Chunk = ranges
            .into_iter()
            .map(|(step, r)| (step, Part::Data(Piece::new(buffer.clone(), r))))
            .collect();
        chunk.extend(failure.map(|(step, f)| (step, Part::Failed(f))));
        Some(chunk)
    }

    /// Reads everything, for another thread.
    pub fn send_all(mut self, to: &SyncSender<Chunk>) {
        while let Some(chunk) = self.chunk(None) {
            if to.send(chunk).is_err() {
                return;
            }
        }
    }
}

/// Where the engine gets its parts from.
pub enum Reader<'a> {
    /// From a thread that reads ahead.
    Ahead(Receiver<Chunk>, Chunk),
    /// As they are needed.
    Direct(Extents<'a>, Chunk),
}

impl Reader<'_> {
    /// The next part for a segment.
    pub fn next(&mut self, step: usize) -> Option<Part> {
        loop {
            let chunk = match self {
                Reader::Ahead(_, chunk) | Reader::Direct(_, chunk) => chunk,
            };
            match chunk.front() {
                Some((s, _)) if *s == step => return chunk.pop_front().map(|(_, p)| p),
                Some((s, _)) if *s > step => return None,
                Some(_) => {
                    chunk.pop_front();
                    continue;
                }
                None => {}
            }
            match self {
                Reader::Ahead(from, chunk) => *chunk = from.recv().ok()?,
                Reader::Direct(extents, chunk) => *chunk = extents.chunk(Some(step))?,
            }
        }
    }
}
