//! From a path to a source: what it is, and whether it may be read now.

use super::block::{BlockSource, disk_facts};
use super::guard::{System, Usage, dev_no};
use super::{FileSource, SharedSource};
use crate::error::{Error, Result};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

/// How to open a source.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// Read it although it is mounted writable.
    pub live: bool,
    /// Map a regular file into memory; see [`FileSource::open_mapped`] for
    /// when that is safe. Ignored for devices.
    pub mapped: bool,
    /// Sector size in bytes of an image file (512 when not given). Ignored for
    /// devices, which state their own.
    pub sector_size: Option<u32>,
}

/// What sort of thing a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// A regular file: an image of a disk or a volume.
    File,
    /// A whole block device.
    Disk,
    /// A partition, as the kernel sees it.
    Partition,
}

/// What is known about a source; goes into the archive.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// The path, absolute and free of links where that can be found out.
    pub path: String,
    /// What it is.
    pub kind: SourceKind,
    /// Length in bytes.
    pub size: u64,
    /// Logical sector size in bytes.
    pub sector_size: u32,
    /// Physical sector size in bytes, for devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub physical_sector_size: Option<u32>,
    /// Maker of the disk, if the kernel knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// Model of the disk, if the kernel knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Serial number of the disk, if the kernel knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Major and minor number, for devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<(u32, u32)>,
    /// Partition number, when the source is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
}

impl Identity {
    /// Of something about which no more is known than of a regular file.
    pub fn file(path: impl Into<String>, size: u64, sector_size: u32) -> Self {
        Self {
            path: path.into(),
            kind: SourceKind::File,
            size,
            sector_size,
            physical_sector_size: None,
            vendor: None,
            model: None,
            serial: None,
            device: None,
            partition: None,
        }
    }
}

/// An open source with what is known about it.
pub struct OpenedSource {
    /// Its bytes.
    pub source: SharedSource,
    /// What it is.
    pub identity: Identity,
    /// Who uses it now: mounts and swap areas. With `live` there may be
    /// writable ones, which the caller should mention.
    pub usage: Vec<Usage>,
}

/// Opens a regular file or a block device, read-only. Refuses what is mounted
/// writable unless `live` is set, and everything that is neither.
pub fn open_source(path: &Path, options: OpenOptions) -> Result<OpenedSource> {
    let name = path.display().to_string();
    let meta = std::fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::not_found("There is no such file or device").of(&*name)
        }
        _ => Error::io("Cannot look at the source", e).of(&*name),
    })?;
    let kind = meta.file_type();
    let not_that = |what: &str, hint: &str| {
        Err(Error::usage(format!(
            "This is {what}, not an image file or a block device"
        ))
        .of(&*name)
        .hint(hint))
    };
    if kind.is_dir() {
        return not_that(
            "a directory",
            "give the device that is mounted there; findmnt names it",
        );
    }
    if kind.is_char_device() {
        return not_that(
            "a character device",
            "disks are block devices; lsblk lists them",
        );
    }
    if kind.is_fifo() || kind.is_socket() {
        return not_that(
            "a pipe or a socket",
            "a source is read by position; write it to a file first",
        );
    }
    if let Some(s) = options.sector_size
        && !(s.is_power_of_two() && (512..=65536).contains(&s))
    {
        return Err(Error::usage(format!(
            "Found a sector size of {s} bytes, expected a power of two from 512 to 65536"
        ))
        .of(name));
    }

    let system = System::read()?;
    let usage = system.check_source(path, options.live)?;
    let full = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let mut identity = Identity::file(full.display().to_string(), 0, 512);
    let source: SharedSource = if kind.is_block_device() {
        let s = BlockSource::open(path)?;
        let facts = disk_facts(Path::new("/sys"), s.device());
        identity.kind = match facts.partition {
            Some(_) => SourceKind::Partition,
            None => SourceKind::Disk,
        };
        identity.physical_sector_size = Some(s.physical_sector_size());
        identity.vendor = facts.vendor;
        identity.model = facts.model;
        identity.serial = facts.serial;
        identity.partition = facts.partition;
        identity.device = Some(dev_no(meta.rdev()));
        Arc::new(s)
    } else {
        let sector = options.sector_size.unwrap_or(512);
        Arc::new(match options.mapped {
            true => FileSource::open_mapped(path, sector)?,
            false => FileSource::open(path, sector)?,
        })
    };
    identity.size = source.len();
    identity.sector_size = source.sector_size();
    Ok(OpenedSource {
        source,
        identity,
        usage,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn files_open_and_the_rest_is_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.img");
        std::fs::write(&path, [0; 8192]).unwrap();
        let o = open_source(&path, OpenOptions::default()).unwrap();
        assert_eq!(o.identity.kind, SourceKind::File);
        assert_eq!((o.identity.size, o.identity.sector_size), (8192, 512));
        assert!(o.usage.is_empty());
        let o = OpenOptions {
            sector_size: Some(4096),
            mapped: true,
            ..OpenOptions::default()
        };
        let o = open_source(&path, o).unwrap();
        assert_eq!(o.source.sector_size(), 4096);
        assert!(o.source.as_memory().is_some());

        let refuse = |p: &Path, o: OpenOptions| open_source(p, o).err().unwrap();
        let e = refuse(dir.path(), OpenOptions::default());
        assert!(e.to_string().contains("a directory"), "{e}");
        let e = refuse(Path::new("/dev/null"), OpenOptions::default());
        assert!(e.to_string().contains("a character device"), "{e}");
        let e = refuse(&dir.path().join("none"), OpenOptions::default());
        assert_eq!(e.kind(), ErrorKind::NotFound);
        let odd = OpenOptions {
            sector_size: Some(1000),
            ..OpenOptions::default()
        };
        assert_eq!(refuse(&path, odd).kind(), ErrorKind::Usage);
        let fifo = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        if made.is_ok_and(|s| s.success()) {
            let e = refuse(&fifo, OpenOptions::default());
            assert!(e.to_string().contains("a pipe"), "{e}");
        }
    }
}
