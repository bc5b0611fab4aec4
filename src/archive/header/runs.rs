//! What of its cell or region a record covers, and how.

use super::{Header, Kind, u32_at, u64_at};
use crate::error::{Error, Result};

/// What a run says about its units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RunKind {
    /// In the payload.
    Data = 0,
    /// All zero.
    Zero = 1,
    /// The source did not give it.
    Unreadable = 2,
    /// Left out on request.
    Skipped = 3,
}

impl RunKind {
    pub(in crate::archive) fn of(code: u32) -> Option<Self> {
        [
            RunKind::Data,
            RunKind::Zero,
            RunKind::Unreadable,
            RunKind::Skipped,
        ]
        .get(code as usize)
        .copied()
    }
}

/// A run of a Chunk: units from the start of its cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRun {
    /// First unit inside the cell.
    pub start: u32,
    /// Number of units, below 2^28.
    pub units: u32,
    /// What they are.
    pub kind: RunKind,
}

/// A run of an Mft record: units from the start of its region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MftRun {
    /// First unit inside the region.
    pub start: u64,
    /// Number of units.
    pub units: u32,
    /// What they are.
    pub kind: RunKind,
}

impl ChunkRun {
    pub(in crate::archive) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.start.to_le_bytes());
        out.extend_from_slice(&(self.units | (self.kind as u32) << 28).to_le_bytes());
    }
}

impl MftRun {
    pub(in crate::archive) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.start.to_le_bytes());
        out.extend_from_slice(&self.units.to_le_bytes());
        out.extend_from_slice(&(self.kind as u32).to_le_bytes());
    }
}

impl Header {
    pub(super) fn has_unreadable(&self) -> bool {
        match self.kind {
            Kind::Chunk => self.chunk_runs().any(|r| r.kind == RunKind::Unreadable),
            Kind::Mft => self.mft_runs().any(|r| r.kind == RunKind::Unreadable),
            _ => false,
        }
    }

    pub(super) fn check_runs(&self) -> Result<()> {
        let bad = |what: String| Err(Error::damaged(what));
        let unit = u64::from(self.unit);
        let mut data = 0u64;
        match self.kind {
            Kind::Chunk => {
                if !self.extension.len().is_multiple_of(8) {
                    return bad("Chunk has half a run".into());
                }
                let (mut end, mut n) = (0u64, 0);
                for r in self.chunk_runs() {
                    n += 1;
                    let stop = u64::from(r.start) + u64::from(r.units);
                    if r.units == 0 || u64::from(r.start) < end || stop > u64::from(self.cell) {
                        return bad(format!(
                            "Chunk run of {} units at {} does not fit a cell of {} units",
                            r.units, r.start, self.cell
                        ));
                    }
                    end = stop;
                    if r.kind == RunKind::Data {
                        data += u64::from(r.units) * unit;
                    }
                }
                if n != self.extension.len() / 8 {
                    return bad("Chunk has a run of an unknown kind".into());
                }
                if (unit * u64::from(self.cell))
                    .checked_mul(self.position.saturating_add(1))
                    .is_none()
                {
                    return bad(format!("Chunk states cell {}, out of range", self.position));
                }
            }
            Kind::Mft => {
                if !self.extension.len().is_multiple_of(16) {
                    return bad("Mft record has half a run".into());
                }
                let mut n = 0;
                for r in self.mft_runs() {
                    n += 1;
                    let end = r.start.checked_add(u64::from(r.units));
                    if r.units == 0 || end.and_then(|e| e.checked_mul(unit)).is_none() {
                        return bad(format!(
                            "Mft run of {} units at {} is out of range",
                            r.units, r.start
                        ));
                    }
                    if r.kind == RunKind::Data {
                        data = data.saturating_add(u64::from(r.units) * unit);
                    }
                }
                if n != self.extension.len() / 16 {
                    return bad("Mft record has a run of an unknown kind".into());
                }
            }
            _ => return Ok(()),
        }
        if unit == 0 || unit > 1 << 16 || !unit.is_power_of_two() {
            return bad(format!(
                "Record states units of {unit} bytes, expected a sector size"
            ));
        }
        if data != self.raw_len {
            return bad(format!(
                "Runs hold {data} bytes, but the payload states {}",
                self.raw_len
            ));
        }
        Ok(())
    }

    /// The runs of a Chunk.
    pub fn chunk_runs(&self) -> impl Iterator<Item = ChunkRun> + '_ {
        self.extension.chunks_exact(8).map_while(|b| {
            let w = u32_at(b, 4);
            Some(ChunkRun {
                start: u32_at(b, 0),
                units: w & 0x0fff_ffff,
                kind: RunKind::of(w >> 28)?,
            })
        })
    }

    /// The runs of an Mft record.
    pub fn mft_runs(&self) -> impl Iterator<Item = MftRun> + '_ {
        self.extension.chunks_exact(16).map_while(|b| {
            Some(MftRun {
                start: u64_at(b, 0),
                units: u32_at(b, 8),
                kind: RunKind::of(u32_at(b, 12))?,
            })
        })
    }

    /// The runs of either, as `(first byte inside the region, bytes, kind)`.
    pub fn byte_runs(&self) -> Vec<(u64, u64, RunKind)> {
        let unit = u64::from(self.unit);
        match self.kind {
            Kind::Chunk => {
                let base = self.position * u64::from(self.cell) * unit;
                self.chunk_runs()
                    .map(|r| {
                        (
                            base + u64::from(r.start) * unit,
                            u64::from(r.units) * unit,
                            r.kind,
                        )
                    })
                    .collect()
            }
            Kind::Mft => self
                .mft_runs()
                .map(|r| (r.start * unit, u64::from(r.units) * unit, r.kind))
                .collect(),
            _ => Vec::new(),
        }
    }
}
