//! `verify --volume`: what the consistency check says of each volume.

use super::console::Console;
use super::exit::Exit;
use super::facts::PartitionRow;
use super::text::{bytes, count, safe};
use crate::error::Result;
use crate::ops::view::View;
use crate::volume::check::{Check, Issue, Severity, check};
use serde::Serialize;

/// Issues of one sort that people are shown without `-v`.
const SHOWN: usize = 10;

#[derive(Serialize)]
struct CheckRow<'a> {
    partition: u16,
    #[serde(flatten)]
    check: &'a Check,
    errors: u64,
    gaps: u64,
    notes: u64,
}

#[derive(Serialize)]
struct IssueRow<'a> {
    partition: u16,
    #[serde(flatten)]
    issue: &'a Issue,
}

/// Checks the volume in each NTFS partition of a view, or in one of them.
pub fn run(view: &View, name: &str, only: Option<u16>, console: &Console) -> Result<Exit> {
    let (mut checked, mut errors, mut gaps, mut notes) = (0u64, 0, 0, 0);
    for p in &view.partitions {
        if only.is_some_and(|n| n != p.number) || (only.is_none() && !p.is_ntfs) {
            continue;
        }
        let volume = p.volume()?;
        let result = check(&volume, console)?;
        checked += 1;
        let row = CheckRow {
            partition: p.number,
            errors: result.count(Severity::Error),
            gaps: result.count(Severity::Gap),
            notes: result.count(Severity::Note),
            check: &result,
        };
        errors += row.errors;
        gaps += row.gaps;
        notes += row.notes;
        let partition = PartitionRow::of_partition(p);
        if console.json() {
            console.row("partition", &partition)?;
            for issue in &result.issues {
                let partition = p.number;
                console.row("issue", &IssueRow { partition, issue })?;
            }
            console.row("check", &row)?;
        } else if !console.quiet() || !result.is_consistent() {
            let cluster = u64::from(volume.geometry().cluster_size);
            let text = partition.line() + &text(&result, cluster, console.verbose() > 0);
            console.put(text.as_bytes())?;
        }
    }
    if checked == 0 {
        // Says which partitions there are, or what the only one holds.
        view.partition(only)?.volume()?;
    }
    let (state, exit) = match (errors, gaps) {
        (0, 0) => ("consistent", Exit::Done),
        (0, _) => ("incomplete", Exit::Gaps),
        _ => ("inconsistent", Exit::Mismatch),
    };
    if console.json() {
        let row = serde_json::json!({
            "view": name,
            "state": state,
            "volumes": checked,
            "errors": errors,
            "gaps": gaps,
            "notes": notes,
            "warnings": console.warnings(),
        });
        console.row("summary", &row)?;
    } else if !console.quiet() || exit != Exit::Done {
        let text = match exit {
            Exit::Done => {
                "Consistent: the file system agrees with itself; file contents are not checked\n"
                    .to_owned()
            }
            Exit::Gaps => format!(
                "Incomplete: what could be read is consistent, {} could not be checked\n",
                count(gaps, "place")
            ),
            _ => format!("Inconsistent: {}\n", count(errors, "error")),
        };
        console.put(text.as_bytes())?;
    }
    Ok(exit)
}

fn text(check: &Check, cluster: u64, all: bool) -> String {
    let mut text = format!(
        "  Checked      {}, {}, {}, {}, {} of clusters, {}\n",
        count(check.records, "file record"),
        count(check.directories, "directory"),
        count(check.names, "name"),
        count(check.index_blocks, "index block"),
        bytes(check.owned_clusters.saturating_mul(cluster)),
        count(check.security_descriptors, "security descriptor"),
    );
    for sort in check.issues.chunk_by(|a, b| a.code == b.code) {
        let code = sort[0].code;
        let word = match code.severity() {
            Severity::Error => "Error",
            Severity::Gap => "Not read",
            Severity::Note => "Note",
        };
        let most = if all { sort.len() } else { SHOWN };
        for issue in sort.iter().take(most) {
            text += &format!("  {word:<12} {code}: {}\n", safe(&issue.to_string()));
        }
        let total = check.counts.get(&code).copied().unwrap_or(0);
        if total > most.min(sort.len()) as u64 {
            text += &format!("  {word:<12} {code}: {total} altogether\n");
        }
    }
    text
}
