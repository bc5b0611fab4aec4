//! From what the user wrote to something that is read or written: a file, a
//! block device, the disk or the tape behind a logical unit.

use super::recall::Recall;
use super::unit::{Opened, Opener, is_tape, is_unit};
use crate::device::{
    Identity, OpenOptions, OpenedSource, SharedSource, Source, SourceKind, open_source,
};
use crate::error::{Error, Result};
use crate::iscsi::Traffic;
use crate::observe::CancelFlag;
use crate::scsi::{ScsiDisk, Unit};
use crate::tape::{Drive, Id, Media, NoChange, PartMap, ScsiDrive, TapeSource, Wanted, read_label};
use std::path::Path;
use std::sync::Arc;

/// Makes whoever changes the cartridges of a drive.
pub type MediaMaker = Box<dyn Fn(&Unit) -> Result<Box<dyn Media>> + Send>;

/// Opens places. Units of one target share a session.
pub struct Places {
    opener: Opener,
    media: MediaMaker,
    recall: Recall,
    /// The set that tapes are opened for; else that of the cartridge in the drive.
    set: Option<Id>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            opener: Opener::new(),
            media: Box::new(|_| Ok(Box::new(NoChange))),
            recall: Recall::default(),
            set: None,
        }
    }
}

/// A place that is read.
pub struct ReadPlace {
    /// Its bytes and what is known about it.
    pub opened: OpenedSource,
    /// The unit, where it is one.
    pub unit: Option<Opened>,
    /// The tape, where it is one.
    pub tape: Option<Arc<TapeSource>>,
}

impl Places {
    /// Once the flag is set, lost connections are not waited for.
    pub fn with_cancel(mut self, cancel: Arc<CancelFlag>) -> Self {
        self.opener = self.opener.with_cancel(cancel);
        self
    }

    /// Cartridges are changed by what this makes.
    pub fn with_media(mut self, media: MediaMaker) -> Self {
        self.media = media;
        self
    }

    /// What is known of sets beforehand, and where more is remembered.
    pub fn with_recall(mut self, recall: Recall) -> Self {
        self.recall = recall;
        self
    }

    /// Tapes are opened for this set.
    pub fn for_set(mut self, set: Option<Id>) -> Self {
        self.set = set;
        self
    }

    /// What this host remembers of tapes.
    pub fn recall(&self) -> &Recall {
        &self.recall
    }

    /// The unit that a text names; block devices are reached by their SCSI unit.
    pub fn unit(&mut self, text: &str) -> Result<Opened> {
        self.opener.open(text)
    }

    /// Who changes the cartridges of a drive.
    pub fn media(&self, drive: &Unit) -> Result<Box<dyn Media>> {
        (self.media)(drive)
    }

    /// Has the set that tapes are opened for in the drive; without one, whatever
    /// is there.
    pub fn bring(&self, drive: &mut dyn Drive, media: &mut dyn Media) -> Result<()> {
        match self.set {
            Some(set) => bring(drive, media, set, &self.recall.parts()),
            None => Ok(()),
        }
    }

    /// Has the set in the drive that is to be gone on with: the one that was
    /// asked for; else what is there; else the only one that is remembered as
    /// unfinished, of the plan with this digest.
    pub fn bring_unfinished(
        &self,
        drive: &mut dyn Drive,
        media: &mut dyn Media,
        plan: &str,
    ) -> Result<()> {
        let there = |d: &mut dyn Drive| matches!(read_label(d), Ok(Some(l)) if l.part.is_some());
        if self.set.is_some() || there(drive) {
            return self.bring(drive, media);
        }
        let sets = self.recall.unfinished(plan);
        match sets.as_slice() {
            [] => Ok(()),
            [only] => bring(drive, media, *only, &self.recall.parts()),
            many => {
                let list: Vec<String> = many.iter().map(Id::to_string).collect();
                Err(
                    Error::usage("Several backups of this source are unfinished")
                        .of(drive.name())
                        .hint(format!("--set says which: {}", list.join(", "))),
                )
            }
        }
    }

    /// What went over all iSCSI sessions.
    pub fn traffic(&self) -> Traffic {
        self.opener.traffic()
    }

    /// True when the text names a tape drive. Files and block devices are not
    /// looked at.
    pub fn is_tape(&mut self, path: &Path) -> Result<bool> {
        match path.to_str().filter(|t| is_unit(t)) {
            Some(text) => is_tape(&self.opener.open(text)?.unit),
            None => Ok(false),
        }
    }

    /// Opens something to read.
    pub fn open(&mut self, path: &Path, options: OpenOptions) -> Result<ReadPlace> {
        let Some(text) = path.to_str().filter(|t| is_unit(t)) else {
            return Ok(ReadPlace {
                opened: open_source(path, options)?,
                unit: None,
                tape: None,
            });
        };
        let unit = self.opener.open(text)?;
        unit.check_quiet(options.live)?;
        if is_tape(&unit.unit)? {
            let mut drive = ScsiDrive::open(unit.unit.clone())?;
            let mut media = self.media(&unit.unit)?;
            let known = self.recall.settled();
            if let Some(set) = self.set {
                bring(&mut drive, &mut *media, set, &self.recall.parts())?;
            }
            let tape = TapeSource::open(Box::new(drive), media, known)?;
            let tape = Arc::new(tape);
            return Ok(ReadPlace {
                opened: OpenedSource {
                    identity: identity(&unit, tape.len(), tape.sector_size())?,
                    source: tape.clone(),
                    usage: Vec::new(),
                },
                unit: Some(unit),
                tape: Some(tape),
            });
        }
        let disk = ScsiDisk::open(unit.unit.clone())?;
        let identity = identity(&unit, Source::len(&disk), Source::sector_size(&disk))?;
        let source: SharedSource = Arc::new(disk);
        Ok(ReadPlace {
            opened: OpenedSource {
                source,
                identity,
                usage: Vec::new(),
            },
            unit: Some(unit),
            tape: None,
        })
    }

    /// Opens a disk unit to write to.
    pub fn disk_to_write(&mut self, text: &str) -> Result<(ScsiDisk, Opened)> {
        let unit = self.opener.open(text)?;
        unit.check_unused()?;
        if is_tape(&unit.unit)? {
            return Err(Error::usage("This is a tape drive, expected a disk")
                .of(unit.unit.name())
                .hint("ntbak image writes backups to tape"));
        }
        Ok((ScsiDisk::open(unit.unit.clone())?, unit))
    }
}

/// How often a wrong cartridge may come.
const ATTEMPTS: u32 = 16;

/// Has a cartridge of the set in the drive: the last that is known, on which
/// its end stands.
fn bring(drive: &mut dyn Drive, media: &mut dyn Media, set: Id, known: &[PartMap]) -> Result<()> {
    let last = (known.iter().filter(|p| p.set() == Some(set))).max_by_key(|p| p.sequence());
    let wanted = Wanted::Part {
        set,
        sequence: last.map_or(1, PartMap::sequence),
        name: last.map(|p| p.label.name.clone()),
    };
    for attempt in 0..ATTEMPTS {
        if let Ok(Some(l)) = read_label(drive)
            && l.part.is_some_and(|p| p.set == set)
        {
            return Ok(());
        }
        // There may be nothing in it.
        let _ = drive.unload();
        media.change(drive, &wanted, attempt)?;
    }
    Err(Error::refused(format!(
        "The drive needs {wanted}; {ATTEMPTS} others came instead"
    ))
    .of(drive.name()))
}

fn identity(unit: &Opened, size: u64, sector_size: u32) -> Result<Identity> {
    let what = unit.unit.identity()?;
    Ok(Identity {
        path: unit.unit.name().to_string(),
        kind: SourceKind::Disk,
        size,
        sector_size,
        physical_sector_size: None,
        vendor: Some(what.inquiry.vendor.clone()).filter(|s| !s.is_empty()),
        model: Some(what.inquiry.product.clone()).filter(|s| !s.is_empty()),
        serial: what.serial.clone(),
        device: None,
        partition: None,
    })
}
