//! `ls`: what stands on a volume.

use super::console::Console;
use super::exit::{Exit, TABLE};
use super::text::count;
use super::view::ViewArgs;
use crate::error::{Error, ErrorKind, Result};
use crate::ops::ls::{LsOptions, LsTarget, ls};
use crate::ops::view::{Partition, View};
use crate::units::RecordNo;
use crate::volume::listing::Deleted;
use crate::volume::{Tree, VolumePath};
use clap::Args;
use std::ffi::OsString;

/// List files of a volume, a disk or an archive
///
/// A path is /dir/file, a stream /dir/file:stream. On a disk with several NTFS
/// partitions pN: goes in front: p2:/dir. Control characters in names are shown
/// as escapes, which are understood in paths too.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  ntbak ls backup.ntbak
  ntbak ls -l backup.ntbak p2:/Users
  ntbak ls -R --deleted /dev/sdb1
  ntbak ls --mft 5 disk.img

{TABLE}"))]
pub struct LsArgs {
    #[command(flatten)]
    view: ViewArgs,
    /// Where to begin; the root directory when not given
    path: Option<OsString>,
    /// Attributes, links, sizes, time of change, file record
    #[arg(short, long)]
    long: bool,
    /// Everything below
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Deleted files too, whose records still have a name
    #[arg(long)]
    deleted: bool,
    /// The file of this file record, pN: in front if need be
    #[arg(long, value_name = "N", conflicts_with_all = ["path", "recursive"])]
    mft: Option<String>,
}

/// Lists.
pub fn run(args: &LsArgs, console: &Console) -> Result<Exit> {
    let view = args.view.open(console)?;
    let (partition, target) = match (&args.mft, &args.path) {
        (Some(text), _) => {
            let (partition, n) = record(text)?;
            (partition, LsTarget::Record(n))
        }
        (None, Some(path)) => {
            let path = VolumePath::parse(path.as_encoded_bytes())?;
            (path.partition, LsTarget::Path(path))
        }
        (None, None) => (None, LsTarget::Path(VolumePath::default())),
    };
    let ntfs: Vec<&Partition> = view.partitions.iter().filter(|p| p.is_ntfs).collect();
    let everything = partition.is_none() && args.path.is_none() && args.mft.is_none();
    let chosen = match everything && args.recursive && ntfs.len() > 1 {
        true => ntfs.clone(),
        false => vec![pick(&view, partition)?],
    };
    let prefixed = partition.is_some() || ntfs.len() > 1;
    let mut damaged = 0;
    let mut failed = false;
    for p in &chosen {
        let options = LsOptions {
            recursive: args.recursive,
            long: args.long,
            json: console.json(),
            deleted: if args.deleted {
                Deleted::Show
            } else {
                Deleted::Hide
            },
            prefix: if prefixed {
                format!("p{}:", p.number)
            } else {
                String::new()
            },
        };
        match one(p, &target, &options, console) {
            Ok(n) => damaged += n,
            // One volume that does not open must not hide the others.
            Err(e) if chosen.len() > 1 && e.kind() == ErrorKind::Damaged => {
                failed = true;
                console.caution("volume", &e.to_string());
            }
            Err(e) => return Err(e),
        }
    }
    if damaged > 0 {
        console.caution(
            "damage",
            &format!(
                "{}: files may be missing from the list",
                count(damaged, "damaged structure")
            ),
        );
    }
    if console.json() {
        let row = serde_json::json!({ "damaged": damaged, "warnings": console.warnings() });
        console.row("summary", &row)?;
    }
    Ok(if damaged > 0 || failed {
        Exit::Gaps
    } else {
        Exit::Done
    })
}

fn one(p: &Partition, target: &LsTarget, options: &LsOptions, console: &Console) -> Result<u64> {
    let volume = p.volume()?;
    let tree = Tree::new(&volume);
    let summary = ls(&tree, target, options, console, |text| console.put(text))
        .map_err(|e| e.of(p.source.name()))?;
    Ok(summary.damaged)
}

/// The partition that a path names, or the only one with NTFS.
pub fn pick(view: &View, number: Option<u32>) -> Result<&Partition> {
    match number.map(u16::try_from) {
        None => view.partition(None),
        Some(Ok(n)) => view.partition(Some(n)),
        Some(Err(_)) => Err(Error::not_found("There is no partition of that number")
            .of(view.source.name())
            .hint("`ntbak info` shows the partitions")),
    }
}

/// `5`, `p2:5`.
pub fn record(text: &str) -> Result<(Option<u32>, RecordNo)> {
    let (partition, n) = match text.strip_prefix('p').and_then(|t| t.split_once(':')) {
        Some((p, n)) => (p.parse().map(Some), n),
        None => (Ok(None), text),
    };
    match (partition, n.parse()) {
        (Ok(p), Ok(n)) => Ok((p, RecordNo(n))),
        _ => Err(Error::usage(format!(
            "Found --mft {text}, expected the number of a file record"
        ))
        .hint("such as --mft 5, or --mft p2:5 on a disk")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_a_number_and_maybe_a_partition() {
        assert_eq!(record("5").unwrap(), (None, RecordNo(5)));
        assert_eq!(record("p2:77").unwrap(), (Some(2), RecordNo(77)));
        for bad in ["", "x", "p:5", "p2:", "2:5", "-1"] {
            assert!(record(bad).is_err(), "{bad}");
        }
    }
}
