//! `extract`: files and directories of a view, onto this host.

use super::console::Console;
use super::exit::{Exit, TABLE};
use super::ls::{pick, record};
use super::text::{bytes, count, duration, safe};
use super::view::{ViewArgs, caution_unsure};
use crate::error::{Error, Result};
use crate::ops::extract::{
    ExtractOptions, ExtractSummary, extract, extract_deleted, extract_record,
};
use crate::volume::{Tree, VolumePath};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;

/// Copy files and directories out of a volume, a disk or an archive
///
/// Nothing is written outside of the target directory. A file gets its name when
/// it is complete; named streams become files NAME:STREAM beside it. With / come
/// also files that have lost their directory, below `<orphan N-S>`, and files without
/// a name, as `<no name mft N>`.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  ntbak extract backup.ntbak /Users/a -C restored
  ntbak extract backup.ntbak p2:/boot.ini p3:/data -C restored
  ntbak extract /dev/sdb1 --deleted /Users -C found

{TABLE}"))]
pub struct ExtractArgs {
    #[command(flatten)]
    view: ViewArgs,
    /// What to copy
    #[arg(required_unless_present_any = ["mft", "deleted"], value_name = "PATH")]
    paths: Vec<OsString>,
    /// The file of this file record, also a deleted one, pN: in front if need be
    #[arg(long, value_name = "N", conflicts_with_all = ["paths", "deleted"])]
    mft: Option<String>,
    /// Deleted files at or below PATH whose records still have a name
    #[arg(long)]
    deleted: bool,
    /// Directory to copy to; it must exist
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
    /// Make symbolic links of links and junctions
    #[arg(long)]
    links: bool,
    /// Leave named streams out
    #[arg(long)]
    no_streams: bool,
    /// Write zeros for what cannot be read, instead of leaving the file out
    #[arg(long)]
    zero_unreadable: bool,
}

#[derive(Serialize)]
struct SummaryRow<'a> {
    directory: String,
    #[serde(flatten)]
    summary: &'a ExtractSummary,
    seconds: f64,
}

/// Copies.
pub fn run(args: &ExtractArgs, console: &Console) -> Result<Exit> {
    let view = args.view.open(console)?;
    let mut by_partition: BTreeMap<Option<u32>, Vec<VolumePath>> = BTreeMap::new();
    for text in &args.paths {
        let path = VolumePath::parse(text.as_encoded_bytes())?;
        by_partition.entry(path.partition).or_default().push(path);
    }
    if args.deleted && args.paths.is_empty() {
        by_partition.insert(None, vec![VolumePath::default()]);
    }
    let by_record = args.mft.as_deref().map(record).transpose()?;
    if let Some((number, _)) = by_record {
        by_partition.insert(number, Vec::new());
    }
    if !args.directory.is_dir() {
        return Err(Error::usage("There is no such directory to copy to")
            .of(args.directory.display().to_string())
            .hint("make it first, or name another one with -C"));
    }
    let options = ExtractOptions {
        force: args.force,
        links: args.links,
        zero_unreadable: args.zero_unreadable,
        streams: !args.no_streams,
    };
    let started = Instant::now();
    let mut total = ExtractSummary::default();
    for (number, paths) in by_partition {
        let partition = pick(&view, number)?;
        let volume = partition.volume()?;
        let tree = Tree::new(&volume);
        let to = &args.directory;
        let s = match by_record {
            Some((_, n)) => extract_record(&tree, n, to, options, console),
            None if args.deleted => extract_deleted(&tree, &paths, to, options, console),
            None => extract(&tree, &paths, to, options, console),
        };
        let s = s.map_err(|e| e.of(partition.source.name()))?;
        total.files += s.files;
        total.dirs += s.dirs;
        total.streams += s.streams;
        total.hard_links += s.hard_links;
        total.bytes += s.bytes;
        total.warnings += s.warnings;
        total.skipped += s.skipped;
        total.zeroed += s.zeroed;
        total.damaged += s.damaged;
    }
    let time = started.elapsed();
    caution_unsure(&view, console);
    if console.json() {
        let row = SummaryRow {
            directory: args.directory.display().to_string(),
            summary: &total,
            seconds: time.as_secs_f64(),
        };
        console.tell("summary", &row);
    }
    let dirs = if total.dirs == 1 {
        "directory"
    } else {
        "directories"
    };
    let mut text = format!(
        "Written to {}: {}, {} {dirs}, {}, {}, {} in {}\n",
        safe(&args.directory.display().to_string()),
        count(total.files, "file"),
        total.dirs,
        count(total.streams, "stream"),
        count(total.hard_links, "hard link"),
        bytes(total.bytes),
        duration(time)
    );
    if total.zeroed > 0 {
        text += &format!("Unreadable: {} are zeros\n", bytes(total.zeroed));
    }
    if total.skipped > 0 {
        text += &format!(
            "Left out: {}, see the warnings\n",
            count(total.skipped, "item")
        );
    }
    if total.damaged > 0 {
        text += &format!(
            "Damaged: {} of the volume, names may be missing\n",
            count(total.damaged, "structure")
        );
    }
    console.say(&text);
    Ok(if total.skipped + total.zeroed + total.damaged > 0 {
        Exit::Gaps
    } else {
        Exit::Done
    })
}
