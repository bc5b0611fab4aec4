//! What may be wished of a restore, and what is known of a plan.

use super::plan::RestorePlan;
use super::volumes::VolumeRow;
use crate::archive::{DiskInfo, Region, RegionKind};
use crate::device::Source;
use crate::disk::replace::Arrangement;
use crate::disk::{Layout, TableKind};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The length that a target is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// That of the source, whatever the target has.
    Same,
    /// The smallest one.
    Min,
    /// Bytes.
    Bytes(u64),
}

/// What is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Frame {
    /// A file of any length.
    File,
    /// A device of so many bytes.
    Device(u64),
    /// The device of a partition.
    Partition {
        /// Bytes.
        bytes: u64,
        /// First byte on its disk.
        start: u64,
    },
    /// A partition of a disk that has others.
    Into {
        /// Its number there.
        number: u16,
    },
}

/// A disk of which one partition is overwritten.
pub struct Onto<'a> {
    /// Its layout.
    pub layout: &'a Layout,
    /// Its bytes.
    pub disk: &'a dyn Source,
}

/// What is wished of a restore.
#[derive(Clone, Debug, Serialize)]
pub struct Wishes {
    /// Only this partition.
    pub partition: Option<u16>,
    /// What is written to.
    pub frame: Frame,
    /// Length of the target.
    pub size: Option<Size>,
    /// Partitions that take the room that is left over.
    pub grow: Vec<u16>,
    /// Every file in one run.
    pub defragment: bool,
    /// A new partition table around one partition.
    pub table: Option<TableKind>,
    /// New identities.
    pub new_ids: bool,
    /// The plan is only looked at: the smallest sizes are found out too.
    pub measure: bool,
}

impl Wishes {
    /// True when nothing is wished that asks for more than copying.
    pub fn is_plain(&self) -> bool {
        let here = matches!(self.size, None | Some(Size::Same));
        let wished = self.defragment || self.new_ids || self.table.is_some() || self.measure;
        here && !wished && self.grow.is_empty()
    }
}

/// What was decided at random: a run that goes on decides the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// The table.
    pub arrangement: Option<Arrangement>,
    /// Serial numbers of volumes, by partition.
    pub serials: BTreeMap<u16, u64>,
}

/// Something that will not be as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The partition; none: the disk.
    pub partition: Option<u16>,
    /// A short stable word for scripts.
    pub code: String,
    /// The sentence for people.
    pub message: String,
}

/// How small a target can be, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Smallest {
    /// With every partition as large as it is, where it is; of a volume with
    /// every cluster where it is.
    pub in_place: u64,
    /// After relocation.
    pub relocated: u64,
}

/// The plan with what is to be known about it.
pub struct Replacement {
    /// What goes where.
    pub plan: RestorePlan,
    /// What cannot be found out again.
    pub decided: Decided,
    /// How small the target can be, where that was found out.
    pub smallest: Option<Smallest>,
    /// NTFS volumes that were looked at.
    pub volumes: Vec<VolumeRow>,
    /// What will not be the same.
    pub differences: Vec<Difference>,
}

impl Replacement {
    /// Bit for bit in place.
    pub fn plain(plan: RestorePlan) -> Self {
        Self {
            plan,
            decided: Decided::default(),
            smallest: None,
            volumes: Vec::new(),
            differences: Vec::new(),
        }
    }
}

/// The volume that a source without a table is.
pub(super) fn bare(disk: &DiskInfo) -> Option<&Region> {
    match disk.regions.as_slice() {
        [only] if disk.table == crate::archive::TableKind::None => Some(only),
        _ => None,
    }
}

/// Refuses what makes no sense.
pub(super) fn check(disk: &DiskInfo, region: Option<&Region>, w: &Wishes) -> Result<()> {
    if w.table.is_some() && region.is_none() && bare(disk).is_none() {
        return Err(
            Error::usage("A new table is for one partition").hint("say which one with --partition")
        );
    }
    if w.table.is_some() && matches!(w.frame, Frame::Partition { .. } | Frame::Into { .. }) {
        return Err(Error::usage(
            "A new table is for a bare disk, not for a partition",
        ));
    }
    if !matches!(w.frame, Frame::File) && !matches!(w.size, None | Some(Size::Same)) {
        return Err(
            Error::usage("--size is for a file: a device has its own size")
                .hint("leave it out, or give --size same for what the source had"),
        );
    }
    for &n in &w.grow {
        let r = disk
            .region(n)
            .filter(|r| r.number != 0 && region.is_none_or(|only| only.number == n))
            .ok_or_else(|| {
                Error::not_found(format!("No partition {n} is restored, so it cannot grow"))
                    .hint("--dry-run without --grow shows the partitions and their numbers")
            })?;
        if r.kind != RegionKind::Ntfs {
            return Err(Error::unsupported(format!(
                "Partition {n} holds {}, and only NTFS volumes can grow",
                r.content
            ))
            .hint(format!("leave --grow {n} out")));
        }
    }
    if w.defragment {
        let mut all = disk.regions.iter();
        let any = match region {
            Some(r) => r.kind == RegionKind::Ntfs,
            None => all.any(|r| r.kind == RegionKind::Ntfs),
        };
        if !any {
            return Err(Error::unsupported(
                "Only NTFS volumes can be defragmented, and none is restored",
            )
            .hint("leave --defragment out"));
        }
    }
    Ok(())
}
