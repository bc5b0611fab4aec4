//! The execution itself.

use super::devices::{Device, Fault, Object};
use crate::copy::limits::Limits;
use crate::copy::parse::{Body, Cscd, CscdId, Field, List, Segment};
use crate::copy::residue::{Amount, Effects, End, Residue, step};
use std::collections::VecDeque;

/// Devices and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Devices, each with what a CSCD descriptor names it by.
    pub devices: Vec<(CscdId, Device)>,
    /// Granularity, segment length and held data limit are kept.
    pub limits: Limits,
}

/// What a command did beside changing devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Held data, the newest.
    pub held: Vec<u8>,
    /// True when held data did not fit.
    pub discarded: bool,
    /// Bytes written, padding included.
    pub written: u64,
    /// Bytes that were between when the command ended: lost.
    pub lost: Residue,
    /// COPY ABORTED.
    pub failed: Option<Failed>,
}

/// Why it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The segment.
    pub segment: usize,
    /// ASC and ASCQ beside COPY ABORTED.
    pub code: u16,
    /// Where.
    pub field: Option<Field>,
    /// What the source said.
    pub source: Option<Fault>,
    /// What the destination said.
    pub destination: Option<Fault>,
}

/// Both queues, as bytes.
#[derive(Default)]
struct Between {
    source: VecDeque<u8>,
    destination: VecDeque<u8>,
}

fn take(queue: &mut VecDeque<u8>, n: u64) -> Vec<u8> {
    let n = usize::try_from(n).unwrap_or(usize::MAX).min(queue.len());
    queue.drain(..n).collect()
}

fn failed(code: u16, field: Option<Field>) -> Failed {
    Failed {
        segment: 0,
        code,
        field,
        source: None,
        destination: None,
    }
}

fn source_fault(f: Fault) -> Failed {
    Failed {
        source: Some(f),
        ..failed(0x0d01, None)
    }
}

fn destination_fault(f: Fault) -> Failed {
    Failed {
        destination: Some(f),
        ..failed(0x0d01, None)
    }
}

impl Model {
    /// Executes a list; `bytes` are those it was parsed from.
    pub fn execute(&mut self, bytes: &[u8], list: &List) -> Outcome {
        let mut out = Outcome::default();
        let mut between = Between::default();
        for (i, segment) in list.segments.iter().enumerate() {
            if let Err(f) = self.segment(bytes, list, segment, &mut between, &mut out) {
                out.failed = Some(Failed { segment: i, ..f });
                break;
            }
        }
        out.lost = Residue {
            source: between.source.len() as u64,
            destination: between.destination.len() as u64,
        };
        let limit = usize::try_from(self.limits.held_bytes).unwrap_or(usize::MAX);
        if out.held.len() > limit {
            out.held.drain(..out.held.len() - limit);
            out.discarded = true;
        }
        out
    }

    /// Index of the device of a CSCD id, or why it cannot be used.
    fn find(&self, list: &List, id: u16, slot: u16) -> Result<usize, Failed> {
        let cscd: &Cscd = list
            .cscd(id)
            .ok_or(failed(0x0804, Field::in_segment(slot)))?;
        let at = Field::at(cscd.at);
        if cscd.null {
            return Err(failed(0x0804, at));
        }
        let found = self.devices.iter().position(|(name, _)| *name == cscd.id);
        let i = found.ok_or(failed(0x0804, at))?;
        let kind = match self.devices.get(i) {
            Some((_, Device::Tape(_))) => 1,
            _ => 0,
        };
        if kind != cscd.peripheral_type {
            return Err(failed(0x0d03, at));
        }
        if let (Some((_, Device::Disk(d))), crate::copy::parse::Parameters::Block { block, .. }) =
            (self.devices.get(i), cscd.parameters)
            && block != 0
            && block != d.block
        {
            return Err(failed(0x2600, Field::at(cscd.at + 29)));
        }
        Ok(i)
    }

    fn segment(
        &mut self,
        bytes: &[u8],
        list: &List,
        segment: &Segment,
        between: &mut Between,
        out: &mut Outcome,
    ) -> Result<(), Failed> {
        let (source, destination) = segment.ends();
        let source = source.map(|id| self.find(list, id, 4)).transpose()?;
        let destination = destination.map(|id| self.find(list, id, 6)).transpose()?;
        let tape = |i: Option<usize>| {
            i.and_then(|i| self.devices.get(i))
                .map(|(_, d)| matches!(d, Device::Tape(_)))
        };
        let wanted = kinds(&segment.body);
        for (is, want, slot) in [
            (tape(source), wanted.0, 4),
            (tape(destination), wanted.1, 6),
        ] {
            if is.is_some() && want.is_some() && is != want {
                return Err(failed(0x260c, Field::in_segment(slot)));
            }
        }
        if wanted == (Some(true), Some(true)) && source == destination {
            return Err(failed(0x260c, Field::in_segment(6)));
        }
        if let Some((_, Device::Tape(t))) = destination.and_then(|i| self.devices.get_mut(i)) {
            let moved = match segment.body {
                Body::Filemarks { count, .. } => {
                    (0..count).for_each(|_| t.write(Object::Mark));
                    Ok(())
                }
                Body::Space { code, count } => t.space(code, count),
                Body::Locate { object } => t.locate(object.into()),
                _ => Ok(()),
            };
            moved.map_err(destination_fault)?;
        }
        if segment.shape(None, None).amount == Amount::Nothing {
            return Ok(());
        }
        let sides = list.sides(segment, |id| {
            list.cscd(id)
                .and_then(|c| self.devices.iter().find(|(name, _)| *name == c.id))
                .and_then(|(_, d)| match d {
                    Device::Disk(d) => Some(d.block),
                    Device::Tape(_) => None,
                })
        });
        let given = self.given(bytes, list, segment)?;
        let effects = step(
            Residue {
                source: between.source.len() as u64,
                destination: between.destination.len() as u64,
            },
            &segment.shape(sides.0, sides.1),
        );
        self.measure(segment, &effects)?;
        let most = self.limits.command_bytes;
        if most != 0 && out.written + effects.written > most {
            return Err(failed(0x2600, Field::in_segment(segment.count_field())));
        }
        between.destination.extend(given);
        let block = |s: Option<crate::copy::residue::Side>| s.map_or(1, |s| s.block);
        // With FIXED one transfer is several blocks of the tape.
        let (from_transfer, to_transfer) = segment.transfer();
        let unit = |id: u16, transfer, side| {
            let fixed = list.cscd(id).and_then(|c| c.tape_block(transfer));
            fixed.map_or(block(side), u64::from)
        };
        let from_unit = unit(segment.source, from_transfer, sides.0);
        let to_unit = unit(segment.destination, to_transfer, sides.1);
        let (from, to) = places(&segment.body);
        self.reach(source, from, effects.read)?;
        self.reach(destination, to, effects.written + effects.pad)?;

        let read = self.read(source, from, from_unit, effects.read);
        let (data, fault) = match read {
            Ok(data) => (data, None),
            Err((data, f)) => (data, Some(f)),
        };
        between.source.extend(data);
        let processed = take(&mut between.source, effects.processed);
        if segment.hold {
            out.held.extend(&processed);
        }
        if destination.is_some() {
            between.destination.extend(processed);
            let mut now = effects.written;
            if fault.is_some() {
                // Whole blocks of what came are written before the end.
                let unit = match segment.body {
                    Body::RangeToRange { .. } | Body::StreamToRange { .. } => 1,
                    _ => block(sides.1),
                };
                now = now.min(between.destination.len() as u64 / unit * unit);
            }
            let mut data = take(&mut between.destination, now);
            if fault.is_none() {
                data.extend(std::iter::repeat_n(0, effects.pad as usize));
            }
            let written = self.write(destination, to, to_unit, &data);
            out.written += written.as_ref().map_or_else(|e| e.0, |()| data.len()) as u64;
            written.map_err(|(_, f)| destination_fault(f))?;
        }
        if let Some(f) = fault {
            return Err(source_fault(f));
        }
        take(&mut between.source, effects.dropped_source);
        take(&mut between.destination, effects.dropped_destination);
        match effects.end {
            End::Inexact => Err(failed(0x260a, None)),
            End::Kept | End::Settled => Ok(()),
        }
    }

    /// Bytes of inline or embedded data that a segment brings.
    fn given(&self, bytes: &[u8], list: &List, segment: &Segment) -> Result<Vec<u8>, Failed> {
        match &segment.body {
            Body::Inline {
                offset, bytes: n, ..
            } => {
                let inline = bytes.get(list.inline.clone()).unwrap_or(&[]);
                let (from, n) = (*offset as usize, *n as usize);
                match inline.get(from..from.saturating_add(n)) {
                    Some(data) => Ok(data.to_vec()),
                    None => Err(failed(0x260b, Field::in_segment(12))),
                }
            }
            Body::Embedded { data, .. } => Ok(bytes.get(data.clone()).unwrap_or(&[]).to_vec()),
            _ => Ok(Vec::new()),
        }
    }

    fn measure(&self, segment: &Segment, e: &Effects) -> Result<(), Failed> {
        let field = Field::in_segment(segment.count_field());
        let (moved, unit) = match segment.body {
            Body::Inline { .. } => (e.appended, self.limits.inline_unit()),
            Body::Embedded { .. } => (e.appended, self.limits.data_unit()),
            Body::StreamToBlock { .. } | Body::StreamToRange { .. } => {
                (e.written, self.limits.data_unit())
            }
            Body::BlockToBlock { .. } if segment.dc => (e.written, self.limits.data_unit()),
            _ => (e.processed, self.limits.data_unit()),
        };
        if moved % unit != 0 {
            return Err(failed(0x260d, field));
        }
        if self.limits.segment_bytes != 0 && e.written > self.limits.segment_bytes {
            return Err(failed(0x2600, field));
        }
        Ok(())
    }

    /// A disk must have all the blocks, before the first is touched.
    fn reach(
        &self,
        device: Option<usize>,
        place: Option<(u64, u64, u16)>,
        bytes: u64,
    ) -> Result<(), Failed> {
        let (Some(i), Some((lba, offset, field))) = (device, place) else {
            return Ok(());
        };
        let Some((_, Device::Disk(d))) = self.devices.get(i) else {
            return Ok(());
        };
        let blocks = (offset + bytes).div_ceil(d.block.into());
        if lba.checked_add(blocks).is_none_or(|end| end > d.blocks) {
            return Err(failed(0x0d02, Field::in_segment(field)));
        }
        Ok(())
    }

    #[allow(clippy::type_complexity)]
    fn read(
        &mut self,
        device: Option<usize>,
        place: Option<(u64, u64, u16)>,
        block: u64,
        bytes: u64,
    ) -> Result<Vec<u8>, (Vec<u8>, Fault)> {
        let mut data = Vec::new();
        match device.and_then(|i| self.devices.get_mut(i)) {
            Some((_, Device::Tape(t))) => {
                while (data.len() as u64) < bytes {
                    match t.read(block as usize) {
                        Ok(b) => data.extend(b),
                        Err(f) => return Err((data, f)),
                    }
                }
            }
            Some((_, Device::Disk(d))) => {
                let (mut lba, offset, _) = place.unwrap_or_default();
                lba += offset / block;
                let skip = (offset % block) as usize;
                let whole = skip + bytes as usize;
                while data.len() < whole {
                    match d.read(lba) {
                        Ok(b) => data.extend(b),
                        Err(f) => {
                            data.drain(..skip.min(data.len()));
                            return Err((data, f));
                        }
                    }
                    lba += 1;
                }
                data.drain(..skip);
                data.truncate(bytes as usize);
            }
            None => {}
        }
        Ok(data)
    }

    fn write(
        &mut self,
        device: Option<usize>,
        place: Option<(u64, u64, u16)>,
        block: u64,
        data: &[u8],
    ) -> Result<(), (usize, Fault)> {
        match device.and_then(|i| self.devices.get_mut(i)) {
            Some((_, Device::Tape(t))) => {
                for b in data.chunks(block.max(1) as usize) {
                    t.write(Object::Block(b.to_vec()));
                }
            }
            Some((_, Device::Disk(d))) => {
                let (lba, offset, _) = place.unwrap_or_default();
                let mut done = 0;
                while done < data.len() {
                    let at = offset + done as u64;
                    let (lba, skip) = (lba + at / block, (at % block) as usize);
                    let n = (block as usize - skip).min(data.len() - done);
                    // What is left of a block must be read first.
                    let edge = match n as u64 == block {
                        true => Ok(vec![0; n]),
                        false => d.read(lba),
                    };
                    let mut b = edge.map_err(|f| (done, f))?;
                    let part = data.iter().skip(done).take(n);
                    b.iter_mut()
                        .skip(skip)
                        .zip(part)
                        .for_each(|(to, from)| *to = *from);
                    d.write(lba, b).map_err(|f| (done, f))?;
                    done += n;
                }
            }
            None => {}
        }
        Ok(())
    }
}

/// Whether source and destination must be tapes.
fn kinds(body: &Body) -> (Option<bool>, Option<bool>) {
    match body {
        Body::BlockToStream { .. } | Body::RangeToStream { .. } => (Some(false), Some(true)),
        Body::StreamToBlock { .. } | Body::StreamToRange { .. } => (Some(true), Some(false)),
        Body::BlockToBlock { .. } | Body::RangeToRange { .. } => (Some(false), Some(false)),
        Body::StreamToStream { .. } => (Some(true), Some(true)),
        Body::Discard { .. } => (Some(true), None),
        Body::Verify { .. } | Body::RegisterKey { .. } => (None, None),
        _ => (None, Some(true)),
    }
}

/// LBA, byte offset behind it and field of what is read and written on disks.
#[allow(clippy::type_complexity)]
fn places(body: &Body) -> (Option<(u64, u64, u16)>, Option<(u64, u64, u16)>) {
    match *body {
        Body::BlockToStream { lba, .. } => (Some((lba, 0, 16)), None),
        Body::StreamToBlock { lba, .. } => (None, Some((lba, 0, 16))),
        Body::BlockToBlock {
            source_lba,
            destination_lba,
            ..
        } => (Some((source_lba, 0, 12)), Some((destination_lba, 0, 20))),
        Body::RangeToStream { lba, offset, .. } => (Some((lba, offset.into(), 16)), None),
        Body::StreamToRange { lba, offset, .. } => (None, Some((lba, offset.into(), 16))),
        Body::RangeToRange {
            source_lba,
            destination_lba,
            source_offset,
            destination_offset,
            ..
        } => (
            Some((source_lba, source_offset.into(), 12)),
            Some((destination_lba, destination_offset.into(), 20)),
        ),
        _ => (None, None),
    }
}
