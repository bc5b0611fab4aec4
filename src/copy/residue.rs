//! The residue model: what one segment of an EXTENDED COPY command reads,
//! processes and writes, as a pure function over lengths. The copy manager
//! executes what it says, the planner predicts with it, and tests run plans on
//! it (`docs/copy.md` section 1).

/// Bytes between a source and a destination: read but not processed, and
/// processed but not written. Empty when a command begins; what is left when it
/// ends is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Residue {
    /// Source residue: read, not yet processed.
    pub source: u64,
    /// Destination residue: processed, not yet written.
    pub destination: u64,
}

impl Residue {
    /// True when nothing is between.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// One end of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// Bytes of one read or write: a disk block, a tape transfer.
    pub block: u64,
    /// PAD of its CSCD descriptor.
    pub pad: bool,
}

/// What a segment asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// No data (07h, 10h, 11h, 12h, 14h): both residues are kept.
    Nothing,
    /// So many bytes are processed, and whole blocks written as far as they
    /// go (00h, 02h with DC 0, 03h, 06h).
    Process(u64),
    /// So many bytes are written, and only what is missing is processed (01h,
    /// 02h with DC 1, 09h).
    Write(u64),
    /// So many bytes are appended to the destination residue; the source
    /// residue is left alone (04h, 05h).
    Append(u64),
    /// A range of bytes, not of blocks, becomes source data, and as many are
    /// processed (08h).
    Extract(u64),
    /// As [`Amount::Extract`], and as many are written to a range of bytes (0Ah).
    Range(u64),
}

/// A segment as the model sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What it asks for.
    pub amount: Amount,
    /// Where bytes come from; none for 04h and 05h.
    pub source: Option<Side>,
    /// Where they go; none for 06h and 0Fh.
    pub destination: Option<Side>,
    /// CAT: residue is kept for the next segment.
    pub cat: bool,
    /// Processed bytes are also held for the application client.
    pub hold: bool,
}

/// How a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Residue, if any, is kept.
    Kept,
    /// Residue was dropped or padded as CAT 0 and the PAD bits say.
    Settled,
    /// COPY ABORTED, 26h/0Ah UNEXPECTED INEXACT SEGMENT. What the effects
    /// say was read and written has been.
    Inexact,
}

/// What a segment does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effects {
    /// Bytes read from the source: whole blocks, except for a range of bytes.
    pub read: u64,
    /// Bytes taken from the source residue.
    pub processed: u64,
    /// Bytes of those that go to held data.
    pub held: u64,
    /// Bytes appended from inline or embedded data.
    pub appended: u64,
    /// Bytes written, padding not counted.
    pub written: u64,
    /// Zero bytes written behind them.
    pub pad: u64,
    /// Bytes of source residue dropped.
    pub dropped_source: u64,
    /// Bytes of destination residue dropped.
    pub dropped_destination: u64,
    /// What is between afterwards.
    pub after: Residue,
    /// How it ends.
    pub end: End,
}

impl Effects {
    fn none(after: Residue) -> Self {
        Self {
            read: 0,
            processed: 0,
            held: 0,
            appended: 0,
            written: 0,
            pad: 0,
            dropped_source: 0,
            dropped_destination: 0,
            after,
            end: End::Kept,
        }
    }
}

/// What `shape` does when `before` is between. Counts of a parameter list are
/// 32 bits times a block length of 24; sums stay inside 64 bits, and saturate
/// should someone ask for more.
pub fn step(before: Residue, shape: &Shape) -> Effects {
    let mut e = Effects::none(before);
    if shape.amount == Amount::Nothing {
        return e;
    }
    let source_block = shape.source.map_or(1, |s| s.block.max(1));
    let destination_block = shape.destination.map_or(1, |s| s.block.max(1));
    let (mut s, mut d) = (before.source, before.destination);

    match shape.amount {
        Amount::Nothing => {}
        Amount::Append(n) => {
            e.appended = n;
            d = d.saturating_add(n);
        }
        Amount::Extract(n) | Amount::Range(n) => {
            e.read = n;
            e.processed = n;
        }
        Amount::Process(n) => e.processed = n,
        Amount::Write(n) => e.processed = n.saturating_sub(d),
    }
    if let Amount::Process(_) | Amount::Write(_) = shape.amount {
        let lacking = e.processed.saturating_sub(s);
        e.read = lacking.div_ceil(source_block).saturating_mul(source_block);
    }
    s = s.saturating_add(e.read).saturating_sub(e.processed);
    if shape.hold {
        e.held = e.processed;
    }
    if shape.destination.is_some() {
        d = d.saturating_add(e.processed);
        e.written = match shape.amount {
            Amount::Write(n) | Amount::Range(n) => n,
            _ => d / destination_block * destination_block,
        };
        d = d.saturating_sub(e.written);
    }
    settle(shape, s, d, destination_block, &mut e);
    e
}

/// The table of CAT and PAD at the end of a segment that moves data.
fn settle(shape: &Shape, s: u64, d: u64, destination_block: u64, e: &mut Effects) {
    e.after = Residue {
        source: s,
        destination: d,
    };
    if shape.cat {
        return;
    }
    // A side that a segment does not have counts as PAD 0.
    let source_pad = shape.source.is_some_and(|x| x.pad);
    let destination_pad = shape.destination.is_some_and(|x| x.pad);
    let exact = matches!(shape.amount, Amount::Write(_) | Amount::Range(_));
    match (source_pad, destination_pad) {
        // What was asked to be written is written: more cannot be padded.
        (_, true) if exact && d > 0 => e.end = End::Inexact,
        (drop_source, true) => {
            if d > 0 {
                e.pad = destination_block - d % destination_block;
                if e.pad == destination_block {
                    e.pad = 0;
                }
                e.written = e.written.saturating_add(d);
                e.after.destination = 0;
            }
            if drop_source {
                e.dropped_source = s;
                e.after.source = 0;
            }
            e.end = End::Settled;
        }
        (true, false) => {
            e.dropped_source = s;
            e.dropped_destination = d;
            e.after = Residue::default();
            e.end = End::Settled;
        }
        (false, false) if e.after.is_empty() => e.end = End::Settled,
        (false, false) => e.end = End::Inexact,
    }
}

#[cfg(test)]
mod tests;
