//! A segment descriptor as the residue model sees it.

use super::{Body, Cscd, List, Segment};
use crate::copy::residue::{Amount, Shape, Side};

impl Segment {
    /// Its shape between two sides, as [`List::sides`] gives them.
    pub fn shape(&self, source: Option<Side>, destination: Option<Side>) -> Shape {
        let block = |side: Option<Side>| side.map_or(0, |s| s.block);
        let amount = match &self.body {
            Body::BlockToStream { blocks, .. } => {
                Amount::Process(u64::from(*blocks) * block(source))
            }
            Body::StreamToBlock { blocks, .. } => {
                Amount::Write(u64::from(*blocks) * block(destination))
            }
            Body::BlockToBlock { blocks, .. } if self.dc => {
                Amount::Write(u64::from(*blocks) * block(destination))
            }
            Body::BlockToBlock { blocks, .. } => {
                Amount::Process(u64::from(*blocks) * block(source))
            }
            Body::StreamToStream { bytes, .. } | Body::Discard { bytes, .. } => {
                Amount::Process((*bytes).into())
            }
            Body::Inline { bytes, .. } => Amount::Append((*bytes).into()),
            Body::Embedded { data, .. } => Amount::Append(data.len() as u64),
            Body::RangeToStream { bytes, .. } => Amount::Extract((*bytes).into()),
            Body::StreamToRange { bytes, .. } => Amount::Write((*bytes).into()),
            Body::RangeToRange { bytes, .. } => Amount::Range((*bytes).into()),
            Body::Verify { .. }
            | Body::Filemarks { .. }
            | Body::Space { .. }
            | Body::Locate { .. }
            | Body::RegisterKey { .. } => Amount::Nothing,
        };
        Shape {
            amount,
            source,
            destination,
            cat: self.cat,
            hold: self.hold,
        }
    }

    /// STREAM DEVICE TRANSFER LENGTH for its source and its destination; 0
    /// where it has none.
    pub fn transfer(&self) -> (u32, u32) {
        match self.body {
            Body::BlockToStream { transfer, .. }
            | Body::Inline { transfer, .. }
            | Body::Embedded { transfer, .. }
            | Body::RangeToStream { transfer, .. } => (0, transfer),
            Body::StreamToBlock { transfer, .. }
            | Body::Discard { transfer, .. }
            | Body::StreamToRange { transfer, .. } => (transfer, 0),
            Body::StreamToStream {
                source_transfer,
                destination_transfer,
                ..
            } => (source_transfer, destination_transfer),
            _ => (0, 0),
        }
    }

    /// Byte of the descriptor at which the count of what it moves is.
    pub fn count_field(&self) -> u16 {
        match self.body {
            Body::BlockToStream { .. } | Body::StreamToBlock { .. } => 14,
            Body::BlockToBlock { .. } => 10,
            Body::StreamToStream { .. } | Body::Inline { .. } => 16,
            Body::Embedded { .. }
            | Body::Discard { .. }
            | Body::RangeToStream { .. }
            | Body::StreamToRange { .. } => 12,
            _ => 8,
        }
    }
}

impl List {
    /// What a segment reads from and writes to, one read or write each:
    /// `disk_block` gives the block length of the disk with a CSCD id.
    pub fn sides(
        &self,
        segment: &Segment,
        disk_block: impl Fn(u16) -> Option<u32>,
    ) -> (Option<Side>, Option<Side>) {
        let (source, destination) = segment.ends();
        let transfer = segment.transfer();
        let side = |id: Option<u16>, transfer: u32| {
            let cscd: &Cscd = self.cscd(id?)?;
            let block = match cscd.transfer_bytes(transfer) {
                Some(bytes) => bytes,
                None => disk_block(id?)?.into(),
            };
            Some(Side {
                block,
                pad: cscd.pad(),
            })
        };
        (side(source, transfer.0), side(destination, transfer.1))
    }
}
