//! Executes a worked-out list. Bytes go from buffer to device in the pieces they
//! were read in; several tape blocks are written and read at once.

use super::device::{CopyDisk, CopyTape};
use super::fail::{Failed, Stop, check, refused};
use super::held::Held;
use super::program::Step;
use super::progress::Progress;
use super::reader::{Part, Reader};
use super::resolve::{Found, Resolved};
use super::rope::{Buffer, Piece, Pool, Rope};
use super::tape::{Ahead, Pending};
use crate::copy::parse::{Body, List, Segment};
use crate::copy::residue::End;
use crate::scsi::{Failure, SenseKey, Status};
use crate::target::common::Access;
use crate::target::lun::Nexus;
use crate::target::profile::{SegmentFault, What};
use std::sync::Arc;

/// Zero bytes for padding.
const ZEROS: usize = 64 * 1024;
/// Disk writes are gathered up to this.
const GATHER: u64 = 512 << 10;

/// Everything that one copy needs.
pub struct Engine<'a> {
    /// The list.
    pub list: &'a List,
    /// Its bytes, for inline and embedded data.
    pub bytes: Arc<Buffer>,
    /// Units of its CSCDs.
    pub units: &'a [Resolved],
    /// Its segments, worked out.
    pub steps: &'a [Step],
    /// Who sent it: its reservations count.
    pub nexus: &'a Nexus,
    /// What others see.
    pub progress: &'a Progress,
    /// True when it has to end at once.
    pub stopped: &'a (dyn Fn() -> bool + Sync),
    /// Buffers.
    pub pool: Arc<Pool>,
    /// What is to go wrong.
    pub fault: Option<&'a SegmentFault>,
    /// Disk extents.
    pub reader: Reader<'a>,
    /// Held data.
    pub held: Held,
    pub(super) source: Rope,
    pub(super) destination: Rope,
    pub(super) pending: Pending,
    pub(super) ahead: Ahead,
    /// Bytes written, by segment.
    pub(super) written: Vec<u64>,
}

/// What [`Engine::new`] is given.
pub struct Given<'a> {
    /// See [`Engine`].
    pub list: &'a List,
    /// See [`Engine`].
    pub bytes: Arc<Buffer>,
    /// See [`Engine`].
    pub units: &'a [Resolved],
    /// See [`Engine`].
    pub steps: &'a [Step],
    /// See [`Engine`].
    pub nexus: &'a Nexus,
    /// See [`Engine`].
    pub progress: &'a Progress,
    /// See [`Engine`].
    pub stopped: &'a (dyn Fn() -> bool + Sync),
    /// See [`Engine`].
    pub pool: Arc<Pool>,
    /// See [`Engine`].
    pub fault: Option<&'a SegmentFault>,
    /// Most held bytes.
    pub held: u64,
}

impl<'a> Engine<'a> {
    /// Ready to run.
    pub fn new(g: Given<'a>, reader: Reader<'a>) -> Self {
        Self {
            list: g.list,
            bytes: g.bytes,
            units: g.units,
            steps: g.steps,
            nexus: g.nexus,
            progress: g.progress,
            stopped: g.stopped,
            pool: g.pool,
            fault: g.fault,
            reader,
            held: Held::new(g.held),
            source: Rope::default(),
            destination: Rope::default(),
            pending: Pending::default(),
            ahead: Ahead::default(),
            written: vec![0; g.steps.len()],
        }
    }

    /// Runs all segments. Whatever happens, what was written before is on its
    /// device, and a tape stands behind what was used of it.
    pub fn run(&mut self) -> Result<(), Stop> {
        let mut end = Ok(());
        for k in 0..self.steps.len() {
            end = self.segment(k);
            if end.is_err() {
                break;
            }
        }
        // A write that was waiting fails before what came after it.
        let flushed = self.flush();
        let unread = self.unread();
        let end = match (flushed, end, unread) {
            (Err(f), _, _) => Err(f),
            (Ok(()), Err(e), _) => Err(e),
            (Ok(()), Ok(()), u) => u,
        };
        end.map_err(|stop| self.with_residual(stop))
    }

    fn with_residual(&self, stop: Stop) -> Stop {
        let Stop::Failed(mut f) = stop else {
            return stop;
        };
        let written = self.written.get(f.segment).copied().unwrap_or(0);
        if let Some(step) = self.steps.get(f.segment).filter(|_| written > 0) {
            let fixed = step.write != u64::from(step.destination_block);
            let tape = self
                .unit(step.destination)
                .is_some_and(|u| u.tape().is_some());
            let unit = match tape && !fixed {
                true => 1,
                false => u64::from(step.destination_block.max(1)),
            };
            f.residual = Some(step.out().saturating_sub(written) / unit);
        }
        self.progress.segment(f.segment);
        Stop::Failed(f)
    }

    pub(super) fn unit(&self, id: Option<usize>) -> Option<&'a Found> {
        self.units.get(id?)?.as_ref().ok()
    }

    fn alive(&self) -> Result<(), Stop> {
        if self.progress.aborted() {
            return Err(Stop::Aborted);
        }
        match (self.stopped)() {
            true => Err(Stop::Cancelled),
            false => Ok(()),
        }
    }

    fn segment(&mut self, k: usize) -> Result<(), Stop> {
        self.alive()?;
        let (Some(step), Some(segment)) = (self.steps.get(k), self.list.segments.get(k)) else {
            return Ok(());
        };
        self.progress.segment(k);
        if let Some(p) = step.problem {
            return Err(Failed::problem(k, p));
        }
        self.allowed(k, step, segment)?;
        self.fault_at_once(k, step)?;
        match &segment.body {
            Body::Verify { ready } => self.verify(k, step, *ready),
            Body::RegisterKey { key, action_key } => self.register(k, step, *key, *action_key),
            Body::Filemarks { immediate, count } => {
                let (immediate, count) = (*immediate, *count);
                self.move_tape(k, step, |t| t.filemarks(count, immediate))
            }
            Body::Space { code, count } => {
                let (code, count) = (*code, *count);
                self.move_tape(k, step, |t| t.space(code, count))
            }
            Body::Locate { object } => {
                let object = u64::from(*object);
                self.move_tape(k, step, |t| t.locate(object))
            }
            body => self.data(k, step, segment, body),
        }
    }

    /// Reservations and write protection stop the copy manager as they stop who
    /// sent the copy.
    fn allowed(&mut self, k: usize, step: &Step, segment: &Segment) -> Result<(), Stop> {
        if matches!(segment.body, Body::RegisterKey { .. } | Body::Verify { .. }) {
            return Ok(());
        }
        if let Some(u) = self.unit(step.source)
            && let Err(r) = u.0.may(self.nexus, Access::Read)
        {
            return Err(Failed::source(k, refused(r)));
        }
        if let Some(u) = self.unit(step.destination) {
            let moves = matches!(segment.body, Body::Space { .. } | Body::Locate { .. });
            let access = if moves { Access::Read } else { Access::Write };
            let may = u.0.may(self.nexus, access).and_then(|()| match moves {
                true => Ok(()),
                false => u.0.writable(),
            });
            if let Err(r) = may {
                return Err(Failed::destination(k, refused(r)));
            }
        }
        Ok(())
    }

    fn fault_at_once(&self, k: usize, step: &Step) -> Result<(), Stop> {
        let Some(fault) = self.fault.filter(|f| f.segment == k) else {
            return Ok(());
        };
        match fault.what {
            What::Attention => {
                let f = check(SenseKey::UnitAttention, 0x29, 0x00);
                Err(match step.source {
                    Some(_) => Failed::source(k, f),
                    None => Failed::destination(k, f),
                })
            }
            // Segments that move no data fail as a whole.
            _ if step.out() == 0 && step.effects.read == 0 => Err(self.fault_stop(k, fault.what)),
            _ => Ok(()),
        }
    }

    pub(super) fn fault_stop(&self, k: usize, what: What) -> Stop {
        let status = |status| {
            Box::new(Failure {
                status,
                sense: None,
            })
        };
        match what {
            What::Source => Failed::source(k, check(SenseKey::MediumError, 0x11, 0x00)),
            What::Attention => Failed::source(k, check(SenseKey::UnitAttention, 0x29, 0x00)),
            What::Destination => Failed::destination(k, check(SenseKey::MediumError, 0x0c, 0x00)),
            What::Busy => Failed::destination(k, status(Status::Busy)),
            What::Reserved => Failed::destination(k, status(Status::ReservationConflict)),
            What::EarlyWarning => {
                let mut f = check(SenseKey::NoSense, 0x00, 0x02);
                if let Some(s) = f.sense.as_mut() {
                    s.eom = true;
                    s.information = Some(0);
                }
                Failed::destination(k, f)
            }
        }
    }

    /// The fault of this segment if it hits its writes, and the bytes before it.
    pub(super) fn write_fault(&self, k: usize) -> Option<(u64, What)> {
        let f = self.fault.filter(|f| f.segment == k)?;
        let writes = !matches!(f.what, What::Source | What::Attention);
        writes.then_some((f.at, f.what))
    }

    fn verify(&mut self, k: usize, step: &Step, ready: bool) -> Result<(), Stop> {
        let Some(unit) = self.unit(step.source) else {
            return Ok(());
        };
        if !ready {
            return Ok(());
        }
        self.flush()?;
        let device = unit.0.device();
        device.ready().map_err(|sense| {
            let f = Failure {
                status: Status::CheckCondition,
                sense: Some(sense),
            };
            Failed::source(k, Box::new(f))
        })
    }

    /// PERSISTENT RESERVE OUT, REGISTER, for the nexus that sent the copy.
    fn register(&mut self, k: usize, step: &Step, key: u64, action: u64) -> Result<(), Stop> {
        let Some(unit) = self.unit(step.destination) else {
            return Ok(());
        };
        self.flush()?;
        let f = super::register::register(&unit.0, self.nexus, key, action);
        f.map_err(|f| Failed::destination(k, f))
    }

    fn move_tape(
        &mut self,
        k: usize,
        step: &Step,
        act: impl FnOnce(&dyn CopyTape) -> Result<(), Box<Failure>>,
    ) -> Result<(), Stop> {
        self.flush()?;
        self.unread()?;
        match self.unit(step.destination).and_then(|u| u.tape()) {
            Some(tape) => act(tape).map_err(|f| Failed::destination(k, f)),
            None => Ok(()),
        }
    }

    fn data(&mut self, k: usize, step: &Step, segment: &Segment, body: &Body) -> Result<(), Stop> {
        let given = match body {
            Body::Inline { offset, bytes, .. } => {
                let start = self.list.inline.start.saturating_add(*offset as usize);
                Some(start..start.saturating_add(*bytes as usize))
            }
            Body::Embedded { data, .. } => Some(data.clone()),
            _ => None,
        };
        if let Some(range) = given {
            self.destination.push(Piece::new(self.bytes.clone(), range));
        }
        let e = &step.effects;
        let mut to_read = e.read;
        let mut to_process = e.processed;
        let mut out = Out {
            left: e.written,
            at: step.to,
            ranges: matches!(body, Body::RangeToRange { .. } | Body::StreamToRange { .. }),
        };
        let to_nowhere = step.destination.is_none();
        loop {
            let moved = self.source.take(to_process);
            to_process -= moved.len();
            if segment.hold {
                self.held.extend(&moved);
            }
            if !to_nowhere {
                self.destination.append(moved);
            }
            let last = to_read == 0;
            if last && e.pad > 0 {
                self.pad(e.pad);
                out.left = out.left.saturating_add(e.pad);
            }
            self.write(k, step, &mut out, last)?;
            if last {
                break;
            }
            self.alive()?;
            match self.read(k, step, to_read) {
                Ok(rope) => {
                    to_read = to_read.saturating_sub(rope.len());
                    self.source.append(rope);
                }
                Err(stop) => {
                    // What came before is written, as far as it is whole.
                    self.write(k, step, &mut out, true)?;
                    return Err(stop);
                }
            }
        }
        self.source.take(e.dropped_source);
        self.destination.take(e.dropped_destination);
        match e.end {
            End::Inexact => Err(Failed::problem(
                k,
                super::program::Problem {
                    code: 0x260a,
                    field: None,
                },
            )),
            End::Kept | End::Settled => Ok(()),
        }
    }

    fn pad(&mut self, mut bytes: u64) {
        let zeros = Arc::new(Buffer::of(vec![0; bytes.min(ZEROS as u64) as usize]));
        while bytes > 0 && !zeros.is_empty() {
            let n = bytes.min(zeros.len() as u64);
            self.destination
                .push(Piece::new(zeros.clone(), 0..n as usize));
            bytes -= n;
        }
    }

    fn read(&mut self, k: usize, step: &Step, most: u64) -> Result<Rope, Stop> {
        let Some(unit) = self.unit(step.source) else {
            return Err(lost(k));
        };
        if unit.tape().is_some() {
            return self.read_tape(k, step, most);
        }
        match self.reader.next(k) {
            Some(Part::Data(piece)) => {
                let blocks = piece.len() as u64 / u64::from(step.source_block.max(1));
                unit.0.statistics().read(blocks);
                let mut rope = Rope::default();
                rope.push(piece);
                Ok(rope)
            }
            Some(Part::Failed(f)) => Err(Failed::source(k, f)),
            None => Err(lost(k)),
        }
    }

    /// Writes what is whole of the destination queue, as far as the segment goes.
    fn write(&mut self, k: usize, step: &Step, out: &mut Out, last: bool) -> Result<(), Stop> {
        let Some(unit) = self.unit(step.destination) else {
            return Ok(());
        };
        if unit.tape().is_some() {
            let whole = self.destination.len() / step.write * step.write;
            let n = whole.min(out.left);
            out.left -= n;
            let rope = self.destination.take(n);
            return self.write_tape(k, step, rope);
        }
        let Some(disk) = unit.disk() else {
            return Ok(());
        };
        let block = u64::from(disk.block().max(1));
        let mut n = self.destination.len().min(out.left);
        if !last && n < GATHER {
            return Ok(());
        }
        // Ranges are whole up to the end of a block, and at their own end.
        if !(out.ranges && last) {
            let behind = (out.at + n) / block * block;
            n = behind.saturating_sub(out.at);
        }
        let mut stop = None;
        if let Some((at, what)) = self.write_fault(k) {
            let done = self.written.get(k).copied().unwrap_or(0);
            let before = at.saturating_sub(done) / block * block;
            if before < n {
                n = n.min(before);
                stop = Some(self.fault_stop(k, what));
            }
        }
        let rope = self.destination.take(n);
        out.left -= n;
        let start = out.at;
        out.at += n;
        if n > 0 {
            unit.0.statistics().writing();
        }
        let written = put(disk, start, &rope);
        let done = match &written {
            Ok(()) => n,
            Err((good, _)) => (*good as u64).min(n),
        };
        unit.0.statistics().came(done / block);
        self.count(k, done);
        match (written, stop) {
            (Err((_, f)), _) => Err(Failed::destination(k, f)),
            (Ok(()), Some(stop)) => Err(stop),
            (Ok(()), None) => Ok(()),
        }
    }

    pub(super) fn count(&mut self, k: usize, bytes: u64) {
        if let Some(w) = self.written.get_mut(k) {
            *w += bytes;
        }
        self.progress.wrote(bytes);
    }
}

/// What a segment still has to write.
struct Out {
    left: u64,
    /// Next byte on a disk.
    at: u64,
    ranges: bool,
}

/// The reader of disk extents went away; it does so only with the engine.
fn lost(k: usize) -> Stop {
    Failed::source(k, check(SenseKey::AbortedCommand, 0x44, 0x00))
}

/// Writes bytes to a disk from any byte on: edge blocks are read, changed and
/// written.
fn put(disk: &dyn CopyDisk, start: u64, rope: &Rope) -> Result<(), (usize, Box<Failure>)> {
    let block = u64::from(disk.block().max(1));
    let mut rope = rope.clone();
    let mut at = start;
    let mut done = 0;
    while rope.len() > 0 {
        let skip = at % block;
        if skip == 0 && rope.len() >= block {
            let n = rope.len() / block * block;
            let whole = rope.take(n);
            let mut slices = whole.slices();
            disk.write(at / block, &mut slices)
                .map_err(|(good, f)| (done + good, f))?;
            at += n;
            done += n as usize;
            continue;
        }
        let part = rope.take(block - skip);
        let mut edge = vec![0; block as usize];
        disk.read(at / block, &mut edge)
            .map_err(|(_, f)| (done, f))?;
        let bytes = part.iter().flatten();
        for (to, from) in edge.iter_mut().skip(skip as usize).zip(bytes) {
            *to = *from;
        }
        let mut slices = [std::io::IoSlice::new(&edge)];
        disk.write(at / block, &mut slices)
            .map_err(|(_, f)| (done, f))?;
        at += part.len();
        done += part.len() as usize;
    }
    Ok(())
}
