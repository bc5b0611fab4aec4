//! Whatever a path names, seen as volumes: an image, a device, an archive.

use super::place::Places;
use super::recall::{Recall, Seen};
use crate::archive::{Archive, RegionKind, RegionView, TableKind};
use crate::device::{Identity, OpenOptions, SharedSource, Window};
use crate::disk::{TableKind as Table, open_layout};
use crate::error::{Error, Result};
use crate::observe::{Observer, Silent};
use crate::volume::Volume;
use std::path::Path;
use std::sync::Arc;

/// An opened path.
pub struct View {
    /// What it is.
    pub identity: Identity,
    /// The bytes themselves.
    pub source: SharedSource,
    /// The archive, if it is one.
    pub archive: Option<Arc<Archive>>,
    /// What is known about the data of an archive.
    pub seen: Option<Seen>,
    /// Partition table of the disk, or of the disk the archive was made of.
    pub table: TableKind,
    /// Partitions, or the one volume as number 1; an archive's region 0 is left out.
    pub partitions: Vec<Partition>,
    /// What was noticed on the way.
    pub notes: Vec<String>,
}

/// A partition of a view.
pub struct Partition {
    /// Its number.
    pub number: u16,
    /// First byte on the disk.
    pub start: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// What was recognised in it.
    pub content: String,
    /// True when it can be opened as NTFS.
    pub is_ntfs: bool,
    /// What to do about a volume that is not NTFS.
    pub way_out: String,
    /// Name in the partition table.
    pub name: Option<String>,
    /// Type in the partition table.
    pub type_code: Option<String>,
    /// Its bytes.
    pub source: SharedSource,
}

impl Partition {
    /// Opens the NTFS volume in it.
    pub fn volume(&self) -> Result<Volume> {
        if !self.is_ntfs {
            return Err(Error::refused(format!(
                "Partition {} holds {}, not NTFS",
                self.number, self.content
            ))
            .of(self.source.name())
            .hint(self.way_out.clone()));
        }
        Volume::open(self.source.clone())
    }
}

impl View {
    /// Opens a path for reading. `mapped` maps a regular file into memory:
    /// quicker, and only for media that are not failing.
    pub fn open(path: &Path, options: OpenOptions) -> Result<View> {
        Self::open_in(&mut Places::default(), path, options, &Silent)
    }

    /// As [`View::open`]; units, tapes and what is remembered of them come
    /// from `places`.
    pub fn open_in(
        places: &mut Places,
        path: &Path,
        options: OpenOptions,
        observer: &dyn Observer,
    ) -> Result<View> {
        let opened = places.open(path, options)?.opened;
        if Archive::recognise(&opened.source) {
            Self::of_archive(opened.source, opened.identity, places.recall(), observer)
        } else {
            Self::of_disk(opened.source, opened.identity)
        }
    }

    fn of_archive(
        source: SharedSource,
        identity: Identity,
        recall: &Recall,
        observer: &dyn Observer,
    ) -> Result<View> {
        let archive = Archive::open(source.clone())?;
        let seen = recall.seen(&archive, observer);
        let archive = Arc::new(archive.with_read_back(seen.read_back()));
        let mut partitions = Vec::new();
        for r in archive.disk().regions.iter().filter(|r| r.number != 0) {
            let view = RegionView::new(archive.clone(), r.number)?;
            partitions.push(Partition {
                number: r.number,
                start: r.start,
                bytes: r.bytes,
                content: r.content.clone(),
                is_ntfs: r.kind == RegionKind::Ntfs || r.content == "NTFS",
                way_out: "restore the partition to look at it".into(),
                name: r.name.clone(),
                type_code: r.type_code.clone(),
                source: Arc::new(view),
            });
        }
        Ok(View {
            identity,
            source,
            table: archive.disk().table,
            notes: archive.notes().to_vec(),
            partitions,
            archive: Some(archive),
            seen: Some(seen),
        })
    }

    fn of_disk(source: SharedSource, identity: Identity) -> Result<View> {
        let layout = open_layout(&*source)?;
        let bare = layout.table == Table::None;
        let mut partitions = Vec::new();
        for p in layout.partitions.iter().filter(|p| p.length > 0 || bare) {
            let name = match bare {
                true => source.name().to_string(),
                false => format!("{} partition {}", source.name(), p.number),
            };
            partitions.push(Partition {
                number: u16::try_from(p.number).unwrap_or(u16::MAX),
                start: p.start,
                bytes: p.length,
                content: p.content.name().into(),
                is_ntfs: p.content.is_ntfs(),
                way_out: p.content.way_out().into(),
                name: p.name.clone(),
                type_code: p.kind.id(),
                source: Arc::new(Window::new(source.clone(), p.start, p.length, name)?),
            });
        }
        Ok(View {
            identity,
            source,
            archive: None,
            seen: None,
            table: match layout.table {
                Table::None => TableKind::None,
                Table::Mbr => TableKind::Mbr,
                Table::Gpt => TableKind::Gpt,
            },
            notes: layout.notes.iter().map(|n| n.message.clone()).collect(),
            partitions,
        })
    }

    /// The partition with this number, or the only one that holds NTFS.
    pub fn partition(&self, number: Option<u16>) -> Result<&Partition> {
        let numbers = || {
            let all: Vec<String> = self
                .partitions
                .iter()
                .map(|p| format!("p{}: {}", p.number, p.content))
                .collect();
            all.join(", ")
        };
        if let Some(n) = number {
            return self
                .partitions
                .iter()
                .find(|p| p.number == n)
                .ok_or_else(|| {
                    Error::not_found(format!("There is no partition {n}"))
                        .of(self.source.name())
                        .hint(format!("there are {}", numbers()))
                });
        }
        let mut ntfs = self.partitions.iter().filter(|p| p.is_ntfs);
        match (ntfs.next(), ntfs.next(), self.partitions.as_slice()) {
            (Some(p), None, _) => Ok(p),
            (None, _, [only]) => Ok(only),
            (None, ..) => Err(Error::not_found("There is no NTFS partition")
                .of(self.source.name())
                .hint(format!("there are {}", numbers()))),
            (Some(_), Some(_), _) => Err(Error::usage("There are several NTFS partitions")
                .of(self.source.name())
                .hint(format!(
                    "put pN: in front of the path; there are {}",
                    numbers()
                ))),
        }
    }
}
