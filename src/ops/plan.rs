//! `plan`: what EXTENDED COPY has to do for a source, command by command.

use super::image::{ImagePlan, Maker, OFFLOADED_CELL, cell_of};
use crate::archive::ArchiveId;
use crate::copy::{Backup, Cell, Command, Geometry, Limits};
use crate::error::Result;
use serde::Serialize;

/// The sum of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// EXTENDED COPY commands.
    pub commands: u64,
    /// Their segments.
    pub segments: u64,
    /// Records of the stream.
    pub records: u64,
    /// Bytes that the copy manager moves from disk to tape.
    pub copied_bytes: u64,
    /// Bytes of record headers, which the host sends along.
    pub header_bytes: u64,
    /// Bytes of all parameter lists: everything the host sends for the data.
    pub list_bytes: u64,
    /// Zero bytes that fill up tape blocks.
    pub pad_bytes: u64,
    /// Tape blocks.
    pub tape_blocks: u64,
    /// Filemarks that the copy manager writes.
    pub filemarks: u64,
    /// Filemarks that the host writes.
    pub host_filemarks: u64,
}

impl Sum {
    /// Counts a command whose parameter list has so many bytes.
    pub fn add(&mut self, c: &Command, list_bytes: u64) {
        if !c.is_for_host() {
            self.commands += 1;
            self.list_bytes += list_bytes;
        }
        let copied: u64 = c.records.iter().map(|r| r.data_len).sum();
        self.segments += c.segments.len() as u64;
        self.records += c.records.len() as u64;
        self.copied_bytes += copied;
        self.header_bytes += c.bytes - copied;
        self.pad_bytes += c.pad;
        self.tape_blocks += c.blocks;
        self.filemarks += u64::from(c.filemarks);
        self.host_filemarks += u64::from(c.host_filemarks);
    }
}

/// The commands of a plan and how they are told.
pub struct TapePlan {
    plan: ImagePlan,
    maker: Maker,
    /// The copy manager's.
    pub limits: Limits,
    /// Blocks of the tape and of the disk.
    pub geometry: Geometry,
}

impl TapePlan {
    /// For tape blocks of `block` bytes, or as the copy manager likes them. The
    /// place in the stream counts from the first Chunk: how long the records before
    /// it are is known when they are written.
    pub fn new(mut plan: ImagePlan, limits: &Limits, block: Option<u64>) -> Result<Self> {
        let sector = u64::from(plan.disk.sector_bytes);
        limits.check_backup(sector)?;
        plan.check_granularity(limits)?;
        let block = match block {
            Some(n) => n,
            None => limits.choose_block_within(plan.tape_block())?,
        };
        plan.disk.cell_bytes = plan.disk.cell_bytes.max(OFFLOADED_CELL);
        let new = Self {
            maker: Maker::new(&plan, ArchiveId([0; 16]), 0),
            geometry: Geometry::new(block, sector),
            limits: limits.clone(),
            plan,
        };
        // What does not fit at all is told before anything is printed.
        Backup::new(
            std::iter::empty::<Cell>(),
            &new.maker,
            &new.limits,
            &new.geometry,
        )?;
        Ok(new)
    }

    /// The commands, made one by one.
    pub fn commands(&self) -> Result<impl Iterator<Item = Result<Command>> + '_> {
        let sector = u64::from(self.plan.disk.sector_bytes);
        let cells = self
            .plan
            .jobs(false)
            .filter_map(move |job| cell_of(&self.plan, sector, &job));
        Ok(Backup::new(cells, &self.maker, &self.limits, &self.geometry)?.filemarks(1))
    }

    /// Bytes of file records, which the host reads and writes.
    pub fn host_bytes(&self) -> u64 {
        self.plan.regions.iter().map(|r| r.keep.mft_bytes()).sum()
    }

    /// What is planned for.
    pub fn source(&self) -> &ImagePlan {
        &self.plan
    }
}
