//! The facts on a volume, for people.

use super::super::text::{bytes, count, safe, table};
use super::Facts;
use crate::units::human_bytes;
use crate::volume::health::{BackupBoot, Health, Hibernation, MftMirror};
use crate::volume::logfile::LogState;
use crate::volume::usage::RangeList;
use std::fmt::Write;

/// Ranges, records and files that a list names.
const SHOWN: usize = 8;

impl Facts<'_> {
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
}

fn plural(n: u64, one: &str, many: &str) -> String {
    if n == 1 {
        format!("1 {one}")
    } else {
        format!("{n} {many}")
    }
}

/// What `$MFTMirr` is like.
pub(super) fn mirror(m: &MftMirror) -> String {
    match m {
        MftMirror::Same => "same as the first file records".into(),
        MftMirror::Differs { records } => {
            let list: Vec<String> = records.iter().map(u64::to_string).collect();
            format!("not the same as file record {}", list.join(", "))
        }
        MftMirror::Unknown { why } => format!("unknown: {}", safe(why)),
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
        BackupBoot::InUse { why } => {
            format!("in use, because the first is damaged: {}", safe(why))
        }
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
    out.push(("$MFTMirr", mirror(&h.mft_mirror)));
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
