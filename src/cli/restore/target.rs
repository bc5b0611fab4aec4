//! What `restore` writes to, and where it keeps its journal.

use super::RestoreArgs;
use crate::archive::partial_path;
use crate::cli::console::Console;
use crate::device::{BlockSink, FileSink, FileSinkOptions, Sink};
use crate::error::{Error, ErrorKind, Result};
use crate::ops::place::Places;
use crate::ops::restore::{Journal, Subject, TargetId};
use crate::tape::state_dir;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// A target that is open.
pub enum Target {
    /// A file that is made.
    File(Box<FileSink>),
    /// Something that is there already, and its serial number.
    There(Box<dyn Sink>, Option<String>),
}

impl Target {
    /// A block device, or the disk behind a logical unit.
    pub fn open(args: &RestoreArgs) -> Result<Self> {
        Ok(match args.target.to_str().filter(|_| is_unit(&args.target)) {
            Some(text) => {
                let (disk, unit) = Places::default().disk_to_write(text)?;
                Self::There(Box::new(disk), unit.unit.identity()?.serial.clone())
            }
            None => {
                let device = BlockSink::open(&args.target)?;
                let serial = device.serial();
                Self::There(Box::new(device), serial)
            }
        })
    }

    /// A file of this length; the partial one of an interrupted run with
    /// `--resume`.
    pub fn make(args: &RestoreArgs, len: u64, sector_size: u32) -> Result<Self> {
        let how = FileSinkOptions {
            force: args.force,
            sector_size,
        };
        let made = match args.resume {
            true => FileSink::reopen(&args.target, len, how),
            false => FileSink::create(&args.target, len, how),
        };
        Ok(Self::File(Box::new(made?)))
    }

    /// Where the bytes go.
    pub fn sink(&self) -> &dyn Sink {
        match self {
            Self::File(f) => &**f,
            Self::There(s, _) => &**s,
        }
    }

    fn id(&self, args: &RestoreArgs) -> TargetId {
        let sink = self.sink();
        let (name, serial) = match self {
            Self::File(f) => (f.partial_path().display().to_string(), None),
            Self::There(..) if is_unit(&args.target) => (sink.name().to_string(), self.serial()),
            Self::There(..) => (full(&args.target).display().to_string(), self.serial()),
        };
        TargetId {
            name,
            bytes: sink.len(),
            sector_bytes: sink.sector_size(),
            serial,
        }
    }

    fn serial(&self) -> Option<String> {
        match self {
            Self::File(_) => None,
            Self::There(_, serial) => serial.clone(),
        }
    }

    fn journal_path(&self, args: &RestoreArgs) -> Result<PathBuf> {
        if let Some(path) = &args.journal {
            return Ok(path.clone());
        }
        if let Self::File(f) = self {
            let mut name = f.partial_path().as_os_str().to_owned();
            name.push(".journal");
            return Ok(name.into());
        }
        let dir = state_dir().ok_or_else(|| {
            Error::usage("Neither XDG_STATE_HOME nor HOME says where the journal is to be kept")
                .hint("name a file with --journal")
        })?;
        let dir = dir.join("restore");
        std::fs::create_dir_all(&dir).map_err(|e| {
            Error::io("Cannot make the directory for journals", e)
                .of(dir.display().to_string())
                .hint("name a file with --journal")
        })?;
        let id = self.id(args);
        let name = id.serial.as_ref().unwrap_or(&id.name);
        let plain: String = name
            .chars()
            .map(|c| match c.is_ascii_alphanumeric() {
                true => c,
                false => '-',
            })
            .collect();
        let tail: String = plain.chars().rev().take(80).collect();
        let tail: String = tail.chars().rev().collect();
        let digest = blake3::hash(name.as_bytes()).to_hex();
        let tail = tail.trim_start_matches('-');
        Ok(dir.join(format!("{tail}-{}.journal", &digest[..8])))
    }

    /// The journal for this restore: a new one, or with `--resume` that of the
    /// interrupted run. None where there is no place for one; it is said.
    pub fn journal(
        &self,
        args: &RestoreArgs,
        archive: String,
        plan: String,
        console: &Console,
    ) -> Result<Option<Journal>> {
        let subject = Subject {
            archive,
            plan,
            target: self.id(args),
        };
        let path = self.journal_path(args);
        if args.resume {
            return Journal::take_up(&path?, &subject).map(Some);
        }
        match path.and_then(|p| Journal::create(&p, &subject)) {
            Ok(j) => Ok(Some(j)),
            Err(e) if args.journal.is_some() || e.kind() == ErrorKind::Refused => Err(e),
            Err(e) => {
                console.caution(
                    "journal",
                    &format!("An interrupted restore could not go on: {e}"),
                );
                Ok(None)
            }
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

/// The name that a file target has until it is whole.
pub fn made_as(target: &Path) -> PathBuf {
    partial_path(&full(target))
}
