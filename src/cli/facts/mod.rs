//! What is known about an NTFS volume, in text and as a row. The same for a
//! plan, a volume that is looked at, and the report inside an archive.

mod cautions;
mod text;

use super::text::{bytes, safe};
use crate::archive::Region;
use crate::ops::image::SkippedFile;
use crate::ops::view::Partition;
use crate::volume::health::Health;
use crate::volume::usage::UsageReport;
use crate::volume::{Finding, Geometry};
use serde::Serialize;
use std::fmt::Write;

/// A partition row: what the table and a first look say.
#[derive(Debug, Serialize)]
pub struct PartitionRow<'a> {
    /// Number; 0 is what lies outside all partitions.
    pub partition: u16,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub bytes: u64,
    /// What was recognised.
    pub content: &'a str,
    /// Name in the table.
    pub name: Option<&'a str>,
    /// Type in the table.
    pub partition_type: Option<&'a str>,
}

/// What a volume is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Shape {
    /// Bytes of a sector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sector_bytes: Option<u32>,
    /// Bytes of a cluster.
    pub cluster_bytes: Option<u32>,
    /// Bytes of a file record.
    pub record_bytes: Option<u32>,
    /// Serial number, hex.
    pub serial: Option<String>,
    /// Label.
    pub label: Option<String>,
    /// Version of NTFS.
    pub version: Option<String>,
}

/// Everything about a volume.
#[derive(Debug, Serialize)]
pub struct Facts<'a> {
    /// Number of the partition.
    pub partition: u16,
    #[serde(flatten)]
    shape: Shape,
    resident: Stored,
    non_resident: Stored,
    usage: &'a UsageReport,
    health: &'a Health,
    notes: &'a [Finding],
    skipped: &'a [SkippedFile],
}

/// Attributes that are stored in one way.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Stored {
    attributes: u64,
    /// Bytes of their values or streams.
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    allocated_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extents: Option<u64>,
}

impl<'a> PartitionRow<'a> {
    /// Of a region of an archive or plan.
    pub fn of(r: &'a Region) -> Self {
        Self {
            partition: r.number,
            start: r.start,
            bytes: r.bytes,
            content: &r.content,
            name: r.name.as_deref(),
            partition_type: r.type_code.as_deref(),
        }
    }

    /// Of a partition that is looked at.
    pub fn of_partition(p: &'a Partition) -> Self {
        Self {
            partition: p.number,
            start: p.start,
            bytes: p.bytes,
            content: &p.content,
            name: p.name.as_deref(),
            partition_type: p.type_code.as_deref(),
        }
    }

    /// One line.
    pub fn line(&self) -> String {
        if self.partition == 0 {
            return "Outside the partitions: tables, boot code, gaps\n".into();
        }
        let mut s = format!(
            "Partition {}: {}, {} at {:#x}",
            self.partition,
            safe(self.content),
            bytes(self.bytes),
            self.start
        );
        if let Some(n) = self.name.filter(|n| !n.is_empty()) {
            let _ = write!(s, ", named \"{}\"", safe(n));
        }
        if let Some(t) = self.partition_type {
            let _ = write!(s, ", type {}", safe(t));
        }
        s.push('\n');
        s
    }
}

impl Shape {
    /// As an archive has it.
    pub fn of_region(r: &Region) -> Self {
        Self {
            sector_bytes: None,
            cluster_bytes: r.cluster_bytes,
            record_bytes: r.record_bytes,
            serial: r.serial.clone(),
            label: r.label.clone(),
            version: r.version.clone(),
        }
    }

    /// Of an open volume.
    pub fn of_volume(v: &crate::volume::Volume) -> Self {
        let g: &Geometry = v.geometry();
        Self {
            sector_bytes: Some(g.sector_size),
            cluster_bytes: Some(g.cluster_size),
            record_bytes: Some(g.record_size),
            serial: Some(format!("{:016X}", g.serial)),
            label: v.info().map(|i| i.label.clone()),
            version: v.info().map(|i| format!("{}.{}", i.version.0, i.version.1)),
        }
    }
}

impl<'a> Facts<'a> {
    /// Joins what was found out.
    pub fn new(
        partition: u16,
        shape: Shape,
        usage: &'a UsageReport,
        health: &'a Health,
        notes: &'a [Finding],
        skipped: &'a [SkippedFile],
    ) -> Self {
        let (mut resident, mut non_resident) = (Stored::default(), Stored::default());
        let (mut allocated, mut extents) = (0u64, 0u64);
        for t in &usage.classified {
            resident.attributes += t.resident;
            resident.bytes = resident.bytes.saturating_add(t.resident_bytes);
            non_resident.attributes += t.non_resident;
            non_resident.bytes = non_resident.bytes.saturating_add(t.data_bytes);
            allocated = allocated.saturating_add(t.allocated_bytes);
            extents += t.extents;
        }
        non_resident.allocated_bytes = Some(allocated);
        non_resident.extents = Some(extents);
        Self {
            partition,
            shape,
            resident,
            non_resident,
            usage,
            health,
            notes,
            skipped,
        }
    }

    /// True when something on the volume is not as NTFS wants it. That the
    /// source ends before the copy of the boot sector is no damage.
    pub fn has_faults(&self) -> bool {
        let u = self.usage;
        let told = |n: &Finding| n.code != "no-backup-boot-sector";
        !u.differences.is_empty()
            || self.notes.iter().any(told)
            || u.bad_records.count + u.bad_attributes.count + u.unmarked.count > 0
    }
}
