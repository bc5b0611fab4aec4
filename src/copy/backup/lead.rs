//! What comes before the records of a plan: the rest of a command that broke off.

use super::{Backup, Cell, RecordMaker};
use crate::copy::fill::{Cost, Extents};
use crate::copy::plan::Piece;
use crate::error::{Error, Result};

impl<I: Iterator<Item = Cell>, M: RecordMaker> Backup<I, M> {
    /// As much of the lead as fits.
    pub(super) fn take_lead(&mut self, cost: &mut Cost) -> Result<Vec<Piece>> {
        let mut taken = Vec::new();
        while let Some(p) = self.lead.pop_front() {
            let bytes = p.bytes(self.caps.disk_block);
            let room = match &p {
                Piece::Inline(_) => {
                    if !bytes.is_multiple_of(self.caps.inline_unit) {
                        return Err(Error::unsupported(format!(
                            "The copy manager takes multiples of {} bytes from the host, not {bytes}",
                            self.caps.inline_unit
                        )));
                    }
                    self.caps.inline_room(*cost, bytes)
                }
                Piece::Extent { lba, blocks } => {
                    self.caps.check_extent(*lba, *blocks)?;
                    self.caps
                        .room(*cost)
                        .saturating_mul(self.caps.disk_block)
                        .min(bytes)
                }
            };
            let (now, later) = match room {
                0 if bytes > 0 => (None, Some(p)),
                _ => {
                    let (a, b) = p.cut(room, self.caps.disk_block).ok_or_else(stuck)?;
                    (Some(a), (room < bytes).then_some(b))
                }
            };
            if let Some(p) = now {
                let grown = match &p {
                    Piece::Inline(d) => self.caps.inline(*cost, d.len() as u64),
                    Piece::Extent { blocks, .. } => self
                        .caps
                        .extent(Extents::default(), *blocks)
                        .and_then(|e| self.caps.extents(*cost, e)),
                };
                *cost = grown.ok_or_else(stuck)?;
                taken.push(p);
            }
            if let Some(p) = later {
                self.lead.push_front(p);
                break;
            }
        }
        Ok(taken)
    }

    /// Cuts the lead to `at` bytes; the rest goes back.
    pub(super) fn cut_lead(
        &mut self,
        taken: &mut Vec<Piece>,
        mut total: u64,
        at: u64,
    ) -> Result<()> {
        while total > at {
            let Some(p) = taken.pop() else { break };
            let n = p.bytes(self.caps.disk_block);
            if total - n >= at {
                self.lead.push_front(p);
                total -= n;
                continue;
            }
            let (a, b) = p
                .cut(n - (total - at), self.caps.disk_block)
                .ok_or_else(stuck)?;
            taken.push(a);
            self.lead.push_front(b);
            total = at;
        }
        Ok(())
    }
}

/// The limits are too small for a stretch that has no gap in it.
pub(super) fn stuck() -> Error {
    Error::unsupported("What is left of a record cannot be cut into commands for this copy manager")
        .hint("let the host move the data: --mover host writes the same tape")
}
