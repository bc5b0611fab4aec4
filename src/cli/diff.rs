//! `diff`: what is other in a second volume, disk or archive.

use super::console::Console;
use super::exit::{Exit, TABLE};
use super::tapes::TapeOptions;
use super::text::{bytes, count};
use super::values;
use super::view::{Opening, caution_unsure};
use crate::error::{Error, Result};
use crate::ops::diff::{Aspects, Change, DiffOptions, DiffSummary, Difference, diff};
use crate::ops::view::{Partition, View};
use crate::volume::Tree;
use crate::volume::names::Escaped;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Compare the files of two volumes, disks or archives
///
/// Each may be an image, a device or an archive. Content is compared too, and
/// attributes, times, security descriptors, hard links, short names, reparse
/// points, object ids, extended attributes and encryption keys. A line
/// begins with + (only in the second), - (only in the first), M (changed) or
/// R (renamed). Exit code 4 means that there are differences.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  ntbak diff monday.ntbak friday.ntbak
  ntbak diff backup.ntbak /dev/sdb1
  ntbak diff --quick backup.ntbak disk.img --partition 2

{TABLE}"))]
pub struct DiffArgs {
    /// First image file, block device or archive
    a: PathBuf,
    /// Second image file, block device or archive
    b: PathBuf,
    /// Only this partition of both
    #[arg(long, value_name = "N", value_parser = values::partition)]
    partition: Option<u16>,
    /// Metadata only; do not read content
    #[arg(long)]
    quick: bool,
    /// Compare the time of the last access too
    #[arg(long)]
    accessed: bool,
    /// The files of NTFS itself too
    #[arg(long)]
    system: bool,
    #[command(flatten)]
    opening: Opening,
    #[command(flatten)]
    tapes: TapeOptions,
}

#[derive(Serialize)]
struct Row<'a> {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_path: Option<String>,
    change: Change,
    aspects: &'a Aspects,
    old_size: Option<u64>,
    new_size: Option<u64>,
}

/// Compares.
pub fn run(args: &DiffArgs, console: &Console) -> Result<Exit> {
    let a = args.opening.open(&args.a, &args.tapes, console)?;
    let b = args.opening.open(&args.b, &args.tapes, console)?;
    let pairs = pairs(args, &a, &b)?;
    let several = pairs.len() > 1 || args.partition.is_some();
    let mut total = DiffSummary::default();
    for (p, q) in &pairs {
        let prefix = if several {
            format!("p{}:", q.number)
        } else {
            String::new()
        };
        let (old, new) = (p.volume()?, q.volume()?);
        let options = DiffOptions {
            quick: args.quick,
            accessed: args.accessed,
            system: args.system,
        };
        let s = diff(&Tree::new(&old), &Tree::new(&new), options, console, |d| {
            tell(d, &prefix, console)
        })?;
        total.added += s.added;
        total.removed += s.removed;
        total.changed += s.changed;
        total.same += s.same;
        total.compared += s.compared;
        total.unreadable += s.unreadable;
        total.damaged += s.damaged;
    }
    caution_unsure(&a, console);
    caution_unsure(&b, console);
    if total.unreadable + total.damaged > 0 {
        console.caution(
            "not-compared",
            &format!(
                "{} could not be read, {} damaged: nothing is said about them",
                count(total.unreadable, "file"),
                count(total.damaged, "record")
            ),
        );
    }
    if console.json() {
        console.row("summary", &total)?;
    } else {
        console.note_line(&format!(
            "{} added, {} removed, {} changed, {} the same; {} compared",
            total.added,
            total.removed,
            total.changed,
            total.same,
            bytes(total.compared)
        ));
    }
    Ok(match () {
        _ if total.added + total.removed + total.changed > 0 => Exit::Mismatch,
        _ if total.unreadable + total.damaged > 0 => Exit::Gaps,
        _ => Exit::Done,
    })
}

fn tell(d: &Difference, prefix: &str, console: &Console) -> Result<()> {
    let shown = |p: &[u8]| format!("{prefix}{}", Escaped(p));
    if console.json() {
        return console.row(
            "difference",
            &Row {
                path: shown(&d.path),
                old_path: d.old_path.as_deref().map(shown),
                change: d.change,
                aspects: &d.aspects,
                old_size: d.old_size,
                new_size: d.new_size,
            },
        );
    }
    let line = match (d.change, &d.old_path) {
        (Change::Added, _) => format!("+ {}\n", shown(&d.path)),
        (Change::Removed, _) => format!("- {}\n", shown(&d.path)),
        (Change::Changed, Some(old)) => {
            format!(
                "R {} -> {}{}\n",
                shown(old),
                shown(&d.path),
                aspects(&d.aspects)
            )
        }
        (Change::Changed, None) => format!("M {}{}\n", shown(&d.path), aspects(&d.aspects)),
    };
    console.put(line.as_bytes())
}

fn aspects(a: &Aspects) -> String {
    let all = [
        (a.content, "content"),
        (a.size, "size"),
        (a.times, "times"),
        (a.accessed, "last access"),
        (a.attributes, "attributes"),
        (a.kind, "kind"),
        (a.security, "security descriptor"),
        (a.links, "hard links"),
        (a.short_name, "short name"),
        (a.reparse, "reparse point"),
        (a.object_id, "object id"),
        (a.ea, "extended attributes"),
        (a.efs, "encryption keys"),
        (a.unreadable, "unreadable"),
    ];
    let list: Vec<&str> = all.iter().filter(|x| x.0).map(|x| x.1).collect();
    if list.is_empty() {
        String::new()
    } else {
        format!("  ({})", list.join(", "))
    }
}

/// Which partition is compared with which.
fn pairs<'v>(
    args: &DiffArgs,
    a: &'v View,
    b: &'v View,
) -> Result<Vec<(&'v Partition, &'v Partition)>> {
    if args.partition.is_some() {
        return Ok(vec![(
            a.partition(args.partition)?,
            b.partition(args.partition)?,
        )]);
    }
    let ntfs = |v: &'v View| {
        v.partitions
            .iter()
            .filter(|p| p.is_ntfs)
            .collect::<Vec<_>>()
    };
    let (one, two) = (ntfs(a), ntfs(b));
    if one.len() <= 1 && two.len() <= 1 {
        return Ok(vec![(a.partition(None)?, b.partition(None)?)]);
    }
    let numbers = |v: &[&Partition]| v.iter().map(|p| p.number).collect::<Vec<_>>();
    if numbers(&one) != numbers(&two) {
        return Err(Error::usage("They do not have the same NTFS partitions")
            .of(b.source.name())
            .hint("say which partition to compare with --partition"));
    }
    Ok(one.into_iter().zip(two).collect())
}
