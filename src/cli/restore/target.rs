//! What `restore` writes to, and where it keeps its journal.

use super::{RestoreArgs, again};
use crate::archive::partial_path;
use crate::cli::console::Console;
use crate::device::{BlockSink, FileSink, FileSinkOptions, ImageSink, Sink, Source};
use crate::disk::{Layout, open_layout};
use crate::error::{Error, ErrorKind, Result};
use crate::ops::place::Places;
use crate::ops::restore::{Frame, Journal, Subject, TargetId};
use crate::tape::state_dir;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// A target that is there already.
pub struct There {
    /// Where the bytes go.
    pub sink: Box<dyn Sink>,
    serial: Option<String>,
    /// First byte of a partition on its disk.
    start: Option<u64>,
    name: String,
}

impl There {
    /// A block device, the disk behind a logical unit, or with `--into` an image
    /// file. Nothing is written yet.
    pub fn open(args: &RestoreArgs, sector_size: u32) -> Result<Self> {
        let path = &args.target;
        if let Some(text) = path.to_str().filter(|_| is_unit(path)) {
            let (disk, unit) = Places::default().disk_to_write(text)?;
            return Self::unit(disk, unit.unit.identity()?.serial.clone());
        }
        let name = full(path).display().to_string();
        if !is_device(path) {
            return Ok(Self {
                sink: Box::new(ImageSink::open(path, sector_size)?),
                serial: None,
                start: None,
                name,
            });
        }
        let device = BlockSink::open(path)?;
        Ok(Self {
            serial: device.serial(),
            start: device.partition_start(),
            sink: Box::new(device),
            name,
        })
    }

    /// The disk behind a logical unit.
    pub fn unit(disk: crate::scsi::ScsiDisk, serial: Option<String>) -> Result<Self> {
        Ok(Self {
            name: Sink::name(&disk).to_string(),
            sink: Box::new(disk),
            serial,
            start: None,
        })
    }

    /// What of it is written.
    pub fn frame(&self, args: &RestoreArgs) -> Frame {
        let bytes = self.sink.len();
        match (args.into, self.start) {
            (Some(number), _) => Frame::Into { number },
            (None, Some(start)) => Frame::Partition { bytes, start },
            (None, None) => Frame::Device(bytes),
        }
    }

    /// The layout of the disk that it is.
    pub fn layout(&self) -> Result<Layout> {
        open_layout(&self.reading()).map_err(|e| e.of(self.name.clone()))
    }

    /// Its bytes.
    pub fn reading(&self) -> Reading<'_> {
        Reading(&*self.sink)
    }
}

/// A target that is read.
pub struct Reading<'a>(pub &'a dyn Sink);

impl Source for Reading<'_> {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn sector_size(&self) -> u32 {
        self.0.sector_size()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.0.read_at(offset, buf)
    }
    fn name(&self) -> &str {
        self.0.name()
    }
}

/// A target that is open.
pub enum Target {
    /// A file that is made.
    File(Box<FileSink>),
    /// Something that is there already.
    There(There),
}

impl Target {
    /// A file of this length; that of an interrupted run with `--resume`, which
    /// may have its name already.
    pub fn make(
        args: &RestoreArgs,
        len: u64,
        sector_size: u32,
        before: Option<&TargetId>,
    ) -> Result<Self> {
        let how = FileSinkOptions {
            force: args.force,
            sector_size,
        };
        let made = match args.resume {
            true => FileSink::reopen(&args.target, len, how, before.and_then(|b| b.inode)),
            false => FileSink::create(&args.target, len, how),
        };
        Ok(Self::File(Box::new(made?)))
    }

    /// Where the bytes go.
    pub fn sink(&self) -> &dyn Sink {
        match self {
            Self::File(f) => &**f,
            Self::There(t) => &*t.sink,
        }
    }

    /// By what it is known again.
    pub fn id(&self) -> TargetId {
        let sink = self.sink();
        let (name, serial, inode) = match self {
            Self::File(f) => (in_full(f.partial_path()), None, f.inode()),
            Self::There(t) => (t.name.clone(), t.serial.clone(), None),
        };
        TargetId {
            name,
            bytes: sink.len(),
            sector_bytes: sink.sector_size(),
            serial,
            inode,
        }
    }
}

/// Where the journal is kept: beside a file that is made, else where this host
/// remembers things.
pub fn journal_path(args: &RestoreArgs, there: Option<&There>) -> Result<PathBuf> {
    if let Some(path) = &args.journal {
        return Ok(path.clone());
    }
    let Some(there) = there else {
        let mut name = made_as(&args.target).into_os_string();
        name.push(".journal");
        return Ok(name.into());
    };
    let dir = state_dir().ok_or_else(|| {
        Error::usage("Neither XDG_STATE_HOME nor HOME says where the journal is to be kept")
            .hint("name a file with --journal")
    })?;
    let name = there.serial.as_ref().unwrap_or(&there.name);
    let plain: Vec<char> = name
        .chars()
        .map(|c| match c.is_ascii_alphanumeric() {
            true => c,
            false => '-',
        })
        .collect();
    let tail: String = plain[plain.len().saturating_sub(80)..].iter().collect();
    let digest = blake3::hash(name.as_bytes()).to_hex();
    let file = format!("{}-{}.journal", tail.trim_start_matches('-'), &digest[..8]);
    Ok(dir.join("restore").join(file))
}

/// What the interrupted run was about, if it was about this archive.
pub fn before(
    args: &RestoreArgs,
    path: &Result<PathBuf>,
    archive: &str,
) -> Result<Option<Subject>> {
    if !args.resume {
        return Ok(None);
    }
    let path = path.as_ref().map_err(again)?;
    let before = Journal::subject(path)?;
    (before.is_of(archive)).map_err(|e| e.of(path.display().to_string()))?;
    Ok(Some(before))
}

/// The journal for this restore: a new one, or with `--resume` that of the
/// interrupted run. None where there is no place for one; it is said.
pub fn journal(
    args: &RestoreArgs,
    path: Result<PathBuf>,
    subject: &Subject,
    console: &Console,
) -> Result<Option<Journal>> {
    if args.resume {
        return Journal::take_up(&path?, subject).map(Some);
    }
    let make = |path: PathBuf| {
        if let (None, Some(dir)) = (&args.journal, path.parent()) {
            std::fs::create_dir_all(dir).map_err(|e| {
                Error::io("Cannot make the directory for journals", e).of(dir.display().to_string())
            })?;
        }
        Journal::create(&path, subject)
    };
    match path.and_then(make) {
        Ok(j) => Ok(Some(j)),
        Err(e) if args.journal.is_some() || e.kind() == ErrorKind::Refused => Err(e),
        Err(e) => {
            console.caution(
                "journal",
                &format!("No journal is kept, so an interrupted restore could not go on: {e}"),
            );
            Ok(None)
        }
    }
}

/// Whether a file target may be made, without making it.
pub fn fits_file(args: &RestoreArgs) -> Result<()> {
    let refused = |words: &str, path: &Path, hint: &str| {
        Err(Error::refused(words)
            .of(path.display().to_string())
            .hint(hint))
    };
    let partial = made_as(&args.target);
    match std::fs::metadata(&args.target) {
        Ok(m) if !m.is_file() => Err(Error::usage("The target exists and is not a regular file")
            .of(args.target.display().to_string())),
        Ok(_) if !args.force => refused(
            "The target exists",
            &args.target,
            "choose another name, or replace it with --force",
        ),
        _ if partial.exists() && !args.force && !args.resume => refused(
            "A partial file of an earlier run is in the way",
            &partial,
            "go on with it by --resume, or replace it with --force",
        ),
        _ => Ok(()),
    }
}

/// True for what names a logical unit: it is not looked at as a file.
pub fn is_unit(path: &Path) -> bool {
    path.to_str().is_some_and(crate::ops::unit::is_unit)
}

/// True for a block device.
pub fn is_device(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.file_type().is_block_device())
}

fn full(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// The name of a file that need not be there, whatever the directory of the run.
fn in_full(path: &Path) -> String {
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new(".")).canonicalize();
    match (dir, path.file_name()) {
        (Ok(dir), Some(name)) => dir.join(name).display().to_string(),
        _ => path.display().to_string(),
    }
}

/// The name that a file target has until it is whole.
pub fn made_as(target: &Path) -> PathBuf {
    partial_path(&full(target))
}
