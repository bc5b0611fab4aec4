//! What is known about an NTFS volume, in text and as a row. The same for a
//! plan, a volume that is looked at, and the report inside an archive.

use super::text::{bytes, count, safe, table};
use crate::archive::Region;
use crate::ops::image::SkippedFile;
use crate::units::human_bytes;
use crate::volume::health::{BackupBoot, Health, Hibernation};
use crate::volume::logfile::LogState;
use crate::volume::usage::{RangeList, UsageReport};
use crate::volume::{Finding, Geometry};
use serde::Serialize;
use std::fmt::Write;

/// Ranges, records and files that a list for people names.
const SHOWN: usize = 8;

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

    /// For people; `long` adds the table of attribute types and longer lists.
    pub fn text(&self, long: bool) -> String {
        let mut out = String::new();
        let mut put = |name: &str, value: String| {
            let _ = writeln!(out, "  {name:<13}{value}");
        };
        let s = &self.shape;
        let known = |v: &Option<String>| v.as_deref().map_or("unknown".into(), safe);
        put(
            "NTFS",
            format!("version {}, serial {}", known(&s.version), known(&s.serial)),
        );
        if let Some(label) = s.label.as_deref().filter(|l| !l.is_empty()) {
            put("Label", safe(label));
        }
        let cluster = u64::from(s.cluster_bytes.unwrap_or(0));
        let size = |n: u64| human_bytes(n.saturating_mul(cluster));
        let u = self.usage;
        let sectors = s
            .sector_bytes
            .map_or(String::new(), |n| format!("sectors of {n}, "));
        put(
            "Geometry",
            format!(
                "{sectors}{} clusters of {cluster} bytes, file records of {}",
                u.total_clusters,
                s.record_bytes.unwrap_or(0)
            ),
        );
        put(
            "Clusters",
            format!(
                "{} used in $Bitmap ({}), {} named by file records ({}), {} kept ({})",
                u.bitmap_clusters,
                size(u.bitmap_clusters),
                u.owned_clusters,
                size(u.owned_clusters),
                u.kept_clusters,
                size(u.kept_clusters)
            ),
        );
        let r = &u.records;
        put(
            "File records",
            format!(
                "{}: {} in use, {} free, {} damaged; {}, {}, {}",
                r.total,
                r.in_use,
                r.free,
                r.bad,
                count(r.files, "file"),
                plural(r.directories, "directory", "directories"),
                count(r.extensions, "extension record"),
            ),
        );
        put(
            "Resident",
            format!(
                "{} in file records, holding {}",
                count(self.resident.attributes, "attribute"),
                bytes(self.resident.bytes)
            ),
        );
        put(
            "Non-resident",
            format!(
                "{} in clusters, holding {}, {} allocated in {}",
                count(self.non_resident.attributes, "attribute"),
                bytes(self.non_resident.bytes),
                human_bytes(self.non_resident.allocated_bytes.unwrap_or(0)),
                count(self.non_resident.extents.unwrap_or(0), "extent")
            ),
        );
        for fact in health(self.health) {
            put(fact.0, fact.1);
        }
        if long {
            out += &self.types();
        }
        out += &self.differences(cluster, if long { 1000 } else { SHOWN });
        for n in self.notes.iter().chain(&u.notes) {
            let _ = writeln!(out, "  Note         {}", safe(&n.to_string()));
        }
        for f in self.skipped {
            let _ = writeln!(out, "  Left out     {}, {}", safe(&f.path), bytes(f.bytes));
        }
        out
    }

    fn types(&self) -> String {
        let head = [
            "type",
            "resident",
            "bytes",
            "non-resident",
            "bytes",
            "allocated",
            "extents",
        ];
        let mut rows = vec![head.map(String::from).to_vec()];
        rows.extend(self.usage.classified.iter().map(|t| {
            let numbers = [
                t.resident,
                t.resident_bytes,
                t.non_resident,
                t.data_bytes,
                t.allocated_bytes,
                t.extents,
            ];
            let mut row = vec![t.name().to_string()];
            row.extend(numbers.map(|n| n.to_string()));
            row
        }));
        format!(
            "  Attributes by type:\n{}",
            table(&rows, &[1, 2, 3, 4, 5, 6])
        )
    }

    fn differences(&self, cluster: u64, most: usize) -> String {
        let mut out = String::new();
        let u = self.usage;
        let d = &u.differences;
        if d.is_empty() {
            out += "  Differences  none: $Bitmap and the file records say the same\n";
        }
        ranges(
            &mut out,
            "used in $Bitmap, named by no file; kept",
            &d.used_unowned,
            cluster,
            most,
        );
        ranges(
            &mut out,
            "named by a file, free in $Bitmap; kept",
            &d.owned_free,
            cluster,
            most,
        );
        ranges(
            &mut out,
            "named by more than one file; kept",
            &d.owned_twice,
            cluster,
            most,
        );
        ranges(
            &mut out,
            "named by a file, outside the volume",
            &d.outside,
            0,
            most,
        );
        for (what, list) in [
            ("damaged record", &u.bad_records),
            ("damaged attribute", &u.bad_attributes),
        ] {
            if list.count > 0 {
                let _ = writeln!(out, "  Damage       {}", count(list.count, what));
            }
            for b in list.list.iter().take(most) {
                let at = b
                    .offset
                    .map_or(String::new(), |o| format!(", at byte {o:#x}"));
                let _ = writeln!(out, "    record {}: {}{at}", b.record, safe(&b.why));
            }
        }
        if u.unmarked.count > 0 {
            let _ = writeln!(
                out,
                "  Differences  {} in use, free in $MFT::$BITMAP",
                count(u.unmarked.count, "file record")
            );
        }
        out
    }

    /// True when something on the volume is not as NTFS wants it.
    pub fn has_faults(&self) -> bool {
        let u = self.usage;
        !u.differences.is_empty()
            || u.bad_records.count + u.bad_attributes.count + u.unmarked.count > 0
    }

    /// What a backup of this state should be told about, each on its own.
    pub fn cautions(&self) -> Vec<(&'static str, String)> {
        let mut out = Vec::new();
        let p = self.partition;
        let mut say = |code, text: String| out.push((code, format!("Partition {p}: {text}")));
        let h = self.health;
        if h.dirty == Some(true) {
            say(
                "dirty",
                "the dirty flag is set: Windows wants to check this volume".into(),
            );
        }
        if let Hibernation::Active { signature } = &h.hibernation {
            say(
                "hibernated",
                format!(
                    "Windows is hibernated on it (hiberfil.sys begins with {}): part of its \
                     state is in memory only",
                    safe(signature)
                ),
            );
        }
        if h.log == LogState::NotClean {
            say(
                "log",
                "$LogFile was not left clean: Windows will replay it".into(),
            );
        }
        if let Some(n) = h.bad_clusters.filter(|&n| n > 0) {
            say(
                "bad-clusters",
                format!("NTFS has marked {} as bad", count(n, "cluster")),
            );
        }
        if let BackupBoot::Wrong { why } = &h.backup_boot {
            say(
                "backup-boot",
                format!("the copy of the boot sector is not usable: {}", safe(why)),
            );
        }
        let u = self.usage;
        if u.bad_records.count > 0 {
            say(
                "bad-record",
                format!(
                    "{}; what $Bitmap calls used is kept all the same",
                    count(u.bad_records.count, "damaged file record")
                ),
            );
        }
        if u.bad_attributes.count > 0 {
            say(
                "bad-attribute",
                count(u.bad_attributes.count, "damaged attribute"),
            );
        }
        let d = &u.differences;
        for (code, list, what) in [
            (
                "used-unowned",
                &d.used_unowned,
                "used in $Bitmap and named by no file",
            ),
            (
                "owned-free",
                &d.owned_free,
                "named by a file and free in $Bitmap",
            ),
            ("owned-twice", &d.owned_twice, "named by more than one file"),
            (
                "outside",
                &d.outside,
                "named by a file and outside the volume",
            ),
        ] {
            if list.ranges > 0 {
                say(code, format!("{} {what}", count(list.clusters, "cluster")));
            }
        }
        out
    }
}

fn plural(n: u64, one: &str, many: &str) -> String {
    if n == 1 {
        format!("1 {one}")
    } else {
        format!("{n} {many}")
    }
}

fn health(h: &Health) -> Vec<(&'static str, String)> {
    let dirty = match h.dirty {
        None => "unknown: $Volume is damaged".into(),
        Some(true) => "set: Windows wants to check this volume".to_string(),
        Some(false) => "not set".into(),
    };
    let hibernation = match &h.hibernation {
        Hibernation::Absent => "there is no hiberfil.sys".into(),
        Hibernation::Inactive => "not hibernated".to_string(),
        Hibernation::Active { signature } => {
            format!("hibernated: hiberfil.sys begins with {}", safe(signature))
        }
        Hibernation::Unknown { why } => format!("unknown: {}", safe(why)),
    };
    let log = match &h.log {
        LogState::Clean => "left clean".to_string(),
        LogState::NotClean => "not left clean: Windows will replay it".into(),
        LogState::Reset => "reset by a driver that keeps no log".into(),
        LogState::Unknown { why } => format!("unknown: {}", safe(why)),
    };
    let backup = match &h.backup_boot {
        BackupBoot::Same => "same as the first".to_string(),
        BackupBoot::BehindEnd => "not there: the source ends before it".into(),
        BackupBoot::Wrong { why } => format!("not usable: {}", safe(why)),
    };
    let mut out = vec![("Dirty flag", dirty)];
    if h.flag_names.iter().any(|n| n != "dirty") {
        out.push(("Flags", h.flag_names.join(", ")));
    }
    out.push(("Hibernation", hibernation));
    out.push(("$LogFile", log));
    out.push((
        "Bad clusters",
        h.bad_clusters
            .map_or("unknown: $BadClus is damaged".into(), |n| n.to_string()),
    ));
    out.push(("Boot copy", backup));
    out
}

fn ranges(out: &mut String, what: &str, list: &RangeList, cluster: u64, most: usize) {
    if list.ranges == 0 {
        return;
    }
    let _ = writeln!(
        out,
        "  Differences  {} in {} {what}",
        count(list.clusters, "cluster"),
        count(list.ranges, "range")
    );
    for r in list.list.iter().take(most) {
        let place = match cluster {
            0 => String::new(),
            _ => format!(", at byte {:#x}", r.first.saturating_mul(cluster)),
        };
        let owner = r.record.map_or(String::new(), |n| format!(", record {n}"));
        let _ = writeln!(
            out,
            "    cluster {}, {}{place}{owner}",
            r.first,
            count(r.clusters, "cluster")
        );
    }
    if list.ranges as usize > most {
        let _ = writeln!(
            out,
            "    and {} more",
            list.ranges as usize - most.min(list.list.len())
        );
    }
}
