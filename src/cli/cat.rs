//! `cat`: the content of a file or stream, to standard output.

use super::console::Console;
use super::exit::{Exit, TABLE};
use super::ls::{pick, record};
use super::view::{ViewArgs, caution_unsure};
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::ops::cat::{cat, open, open_record};
use crate::ops::opened;
use crate::volume::{Tree, VolumePath};
use clap::Args;
use std::ffi::OsString;
use std::io::{self, Write};

/// Write the content of a file or stream to standard output
///
/// A path is /dir/file, a stream /dir/file:stream, another attribute
/// /dir/file::$REPARSE_POINT. With --json, standard error carries the lines.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  ntbak cat backup.ntbak /Users/a/report.txt
  ntbak cat disk.img p2:/file:stream > stream
  ntbak cat --mft 41 /dev/sdb1 > found

{TABLE}"))]
pub struct CatArgs {
    #[command(flatten)]
    view: ViewArgs,
    /// The file, or stream of it
    #[arg(required_unless_present = "mft")]
    path: Option<OsString>,
    /// The content of this file record, also of a deleted file
    #[arg(long, value_name = "N", conflicts_with = "path")]
    mft: Option<String>,
}

/// Writes it.
pub fn run(args: &CatArgs, console: &Console) -> Result<Exit> {
    let view = args.view.open(console)?;
    let by_record = args.mft.as_deref().map(record).transpose()?;
    let path = match &args.path {
        Some(p) => Some(VolumePath::parse(p.as_encoded_bytes())?),
        None => None,
    };
    let number = match (&by_record, &path) {
        (Some((p, _)), _) => *p,
        (None, Some(p)) => p.partition,
        (None, None) => None,
    };
    let partition = pick(&view, number)?;
    let volume = partition.volume()?;
    opened::tell(&volume, console);
    let tree = Tree::new(&volume);
    let name = partition.source.name();
    let stream = match (by_record, &path) {
        (Some((_, n)), _) => open_record(&tree, n),
        (None, Some(p)) => open(&tree, p),
        (None, None) => Err(Error::usage("There is neither a path nor a record")),
    }
    .map_err(|e| e.of(name))?;
    if stream.flags().encrypted() && !stream.is_resident() {
        let what = "Encrypted by EFS: these are the encrypted bytes, without the key ($EFS, an attribute of its own) and the owner's certificate they cannot be read";
        console.caution("encrypted", what);
    }
    // Not through the buffer of lines: this is data.
    let mut out = io::BufWriter::with_capacity(1 << 20, io::stdout().lock());
    let mut left = false;
    let mut put = |r: io::Result<()>| match r {
        Ok(()) => Ok(()),
        Err(e) => {
            left = e.kind() == io::ErrorKind::BrokenPipe;
            Err(Error::io("Cannot write the content", e).of("standard output"))
        }
    };
    let mut written = 0u64;
    console.begin("cat", Some(stream.len()));
    let copied = cat(&stream, 0, u64::MAX, console, |bytes| {
        written += bytes.len() as u64;
        put(out.write_all(bytes))
    });
    console.end();
    let done = copied
        .map_err(|e| e.of(name))
        .and_then(|()| put(out.flush()));
    match done {
        // Whoever read it has seen enough.
        Err(_) if left => return Ok(Exit::Done),
        r => r?,
    }
    caution_unsure(&view, console);
    if console.json() {
        console.tell("summary", &serde_json::json!({ "bytes": written }));
    }
    Ok(Exit::Done)
}
