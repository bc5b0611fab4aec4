//! A parameter list worked out in advance: what each segment will read and write,
//! up to the first one that cannot be executed. Nothing is touched for it.

use super::resolve::Resolved;
use crate::copy::limits::Limits;
use crate::copy::parse::{Body, Field, List, Segment};
use crate::copy::residue::{Effects, End, Residue, step};

/// Why a segment ends the command, whatever the devices say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// ASC and ASCQ beside COPY ABORTED.
    pub code: u16,
    /// Where.
    pub field: Option<Field>,
}

/// A segment, worked out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it reads from, as an index of the CSCD list.
    pub source: Option<usize>,
    /// What it writes to.
    pub destination: Option<usize>,
    /// Bytes of one block of the source.
    pub source_block: u32,
    /// Bytes of one block of the destination.
    pub destination_block: u32,
    /// Bytes of one write: several blocks where a tape is FIXED.
    pub write: u64,
    /// What it does.
    pub effects: Effects,
    /// First byte read on a disk.
    pub from: u64,
    /// First byte written on a disk.
    pub to: u64,
    /// It fails at once.
    pub problem: Option<Problem>,
}

impl Step {
    /// Bytes written, padding included.
    pub fn out(&self) -> u64 {
        self.effects.written.saturating_add(self.effects.pad)
    }
}

/// Works a list out. The last step may be one that fails.
pub fn program(list: &List, units: &[Resolved], limits: &Limits) -> Vec<Step> {
    let mut steps = Vec::with_capacity(list.segments.len());
    let mut between = Residue::default();
    let mut moved = 0u64;
    for segment in &list.segments {
        let mut step = one(list, units, limits, segment, between);
        let most = limits.command_bytes;
        if most != 0 && moved.saturating_add(step.effects.written) > most {
            step.problem = Some(problem(0x2600, Field::in_segment(segment.count_field())));
        }
        moved = moved.saturating_add(step.out());
        between = step.effects.after;
        let last = step.problem.is_some() || step.effects.end == End::Inexact;
        steps.push(step);
        if last {
            break;
        }
    }
    steps
}

fn problem(code: u16, field: Option<Field>) -> Problem {
    Problem { code, field }
}

fn one(
    list: &List,
    units: &[Resolved],
    limits: &Limits,
    segment: &Segment,
    between: Residue,
) -> Step {
    let nothing = crate::copy::residue::Shape {
        amount: crate::copy::residue::Amount::Nothing,
        source: None,
        destination: None,
        cat: true,
        hold: false,
    };
    let mut out = Step {
        source: None,
        destination: None,
        source_block: 1,
        destination_block: 1,
        write: 1,
        effects: step(between, &nothing),
        from: 0,
        to: 0,
        problem: None,
    };
    if let Err(p) = work_out(list, units, limits, segment, between, &mut out) {
        out.problem = Some(p);
        out.effects = step(between, &nothing);
    }
    out
}

fn work_out(
    list: &List,
    units: &[Resolved],
    limits: &Limits,
    segment: &Segment,
    between: Residue,
    out: &mut Step,
) -> Result<(), Problem> {
    let (source, destination) = segment.ends();
    out.source = source.map(|id| find(units, id, 4)).transpose()?;
    out.destination = destination.map(|id| find(units, id, 6)).transpose()?;
    let (from_tape, to_tape) = kinds(&segment.body);
    kind(list, out.source, from_tape, 4)?;
    kind(list, out.destination, to_tape, 6)?;
    if (from_tape, to_tape) == (Some(true), Some(true)) && same(units, out) {
        // A tape has one position: it cannot be read and written at once.
        return Err(problem(0x260c, Field::in_segment(6)));
    }

    let disk_block = |id: u16| {
        let found = units.get(usize::from(id))?.as_ref().ok()?;
        Some(found.disk()?.block())
    };
    let sides = list.sides(segment, disk_block);
    let (from_transfer, to_transfer) = segment.transfer();
    let block = |id: u16, transfer: u32| {
        let tape = list.cscd(id).and_then(|c| c.tape_block(transfer));
        tape.or_else(|| disk_block(id)).unwrap_or(1).max(1)
    };
    out.source_block = block(segment.source, from_transfer);
    out.destination_block = block(segment.destination, to_transfer);
    out.write = sides.1.map_or(1, |s| s.block).max(1);
    if let Body::Inline { offset, bytes, .. } = segment.body
        && u64::from(offset) + u64::from(bytes) > list.inline.len() as u64
    {
        return Err(problem(0x260b, Field::in_segment(12)));
    }
    let effects = step(between, &segment.shape(sides.0, sides.1));
    measure(segment, &effects, limits)?;
    let (from, to) = places(&segment.body);
    out.from = reach(units, out.source, from, effects.read)?;
    let written = effects.written.saturating_add(effects.pad);
    out.to = reach(units, out.destination, to, written)?;
    out.effects = effects;
    Ok(())
}

/// True when both ends are one unit.
fn same(units: &[Resolved], step: &Step) -> bool {
    let lun = |id: Option<usize>| Some(units.get(id?)?.as_ref().ok()?.0.lun());
    lun(step.source) == lun(step.destination)
}

/// The unit of a CSCD id, or why there is none. `slot` is where the id stands.
fn find(units: &[Resolved], id: u16, slot: u16) -> Result<usize, Problem> {
    match units.get(usize::from(id)) {
        Some(Ok(_)) => Ok(id.into()),
        Some(Err(p)) => Err(*p),
        None => Err(problem(0x0804, Field::in_segment(slot))),
    }
}

/// 26h/0Ch where the type of device is not one the segment is for.
fn kind(list: &List, id: Option<usize>, tape: Option<bool>, slot: u16) -> Result<(), Problem> {
    let cscd = id.and_then(|id| list.cscds.get(id));
    let fits = match (cscd, tape) {
        (Some(c), Some(true)) => c.is_stream(),
        (Some(c), Some(false)) => c.is_block(),
        _ => true,
    };
    match fits {
        true => Ok(()),
        false => Err(problem(0x260c, Field::in_segment(slot))),
    }
}

/// Whether source and destination must be tapes (or disks).
fn kinds(body: &Body) -> (Option<bool>, Option<bool>) {
    match body {
        Body::BlockToStream { .. } | Body::RangeToStream { .. } => (Some(false), Some(true)),
        Body::StreamToBlock { .. } | Body::StreamToRange { .. } => (Some(true), Some(false)),
        Body::BlockToBlock { .. } | Body::RangeToRange { .. } => (Some(false), Some(false)),
        Body::StreamToStream { .. } => (Some(true), Some(true)),
        Body::Discard { .. } => (Some(true), None),
        Body::Verify { .. } | Body::RegisterKey { .. } => (None, None),
        Body::Inline { .. }
        | Body::Embedded { .. }
        | Body::Filemarks { .. }
        | Body::Space { .. }
        | Body::Locate { .. } => (None, Some(true)),
    }
}

/// Granularity and length of a segment.
fn measure(segment: &Segment, e: &Effects, limits: &Limits) -> Result<(), Problem> {
    let field = Field::in_segment(segment.count_field());
    let by_write = match segment.body {
        Body::StreamToBlock { .. } | Body::StreamToRange { .. } => true,
        Body::BlockToBlock { .. } => segment.dc,
        _ => false,
    };
    let moved = match segment.body {
        Body::Inline { .. } | Body::Embedded { .. } => e.appended,
        _ if by_write => e.written,
        _ => e.processed,
    };
    let unit = match segment.body {
        Body::Inline { .. } => limits.inline_unit(),
        _ => limits.data_unit(),
    };
    if !moved.is_multiple_of(unit) {
        return Err(problem(0x260d, field));
    }
    if limits.segment_bytes != 0 && e.written > limits.segment_bytes {
        return Err(problem(0x2600, field));
    }
    Ok(())
}

/// LBA, byte offset behind it, and field, of what is read and written on disks.
type Place = Option<(u64, u16, u16)>;

fn places(body: &Body) -> (Place, Place) {
    match *body {
        Body::BlockToStream { lba, .. } => (Some((lba, 0, 16)), None),
        Body::StreamToBlock { lba, .. } => (None, Some((lba, 0, 16))),
        Body::BlockToBlock {
            source_lba,
            destination_lba,
            ..
        } => (Some((source_lba, 0, 12)), Some((destination_lba, 0, 20))),
        Body::RangeToStream { lba, offset, .. } => (Some((lba, offset, 16)), None),
        Body::StreamToRange { lba, offset, .. } => (None, Some((lba, offset, 16))),
        Body::RangeToRange {
            source_lba,
            destination_lba,
            source_offset,
            destination_offset,
            ..
        } => (
            Some((source_lba, source_offset, 12)),
            Some((destination_lba, destination_offset, 20)),
        ),
        _ => (None, None),
    }
}

/// First byte on the disk, when all bytes are inside it.
fn reach(units: &[Resolved], id: Option<usize>, place: Place, bytes: u64) -> Result<u64, Problem> {
    let (Some(id), Some((lba, offset, field))) = (id, place) else {
        return Ok(0);
    };
    let Some(disk) = units
        .get(id)
        .and_then(|u| u.as_ref().ok())
        .and_then(|u| u.disk())
    else {
        return Ok(0);
    };
    let block = u64::from(disk.block().max(1));
    let blocks = u64::from(offset).saturating_add(bytes).div_ceil(block);
    let inside = lba
        .checked_add(blocks)
        .is_some_and(|end| end <= disk.blocks());
    let first = lba
        .checked_mul(block)
        .and_then(|b| b.checked_add(offset.into()));
    match first.filter(|_| inside) {
        Some(first) => Ok(first),
        None => Err(problem(0x0d02, Field::in_segment(field))),
    }
}
