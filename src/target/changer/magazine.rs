//! The storage slots: a folder of cartridges.

use crate::error::{Error, Result};
use crate::tape::cartridge::{Cartridge, Facts, tag};
use std::path::{Path, PathBuf};

/// Most storage slots.
pub const MOST_SLOTS: usize = 1000;

/// How to read a folder of cartridges.
#[derive(Clone, Copy, Debug, Default)]
pub struct MagazineOptions {
    /// Storage slots; otherwise as many as there are cartridges, at least 8.
    pub slots: Option<usize>,
    /// Fill the slots that are left with new cartridges of so many bytes.
    pub size: Option<u64>,
}

/// A cartridge that is not in a drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Volume {
    path: PathBuf,
    barcode: String,
}

impl Volume {
    pub fn of(c: &Cartridge) -> Self {
        Self {
            path: c.path().to_owned(),
            barcode: c.tag(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn barcode(&self) -> &str {
        &self.barcode
    }

    pub fn is_read_only(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|m| m.permissions().readonly())
            || std::fs::File::options()
                .write(true)
                .open(&self.path)
                .is_err_and(|e| e.kind() != std::io::ErrorKind::NotFound)
    }
}

/// The slots.
pub(super) struct Magazine {
    folder: PathBuf,
    slots: Vec<Option<Volume>>,
}

impl Magazine {
    pub fn open(folder: &Path, options: MagazineOptions) -> Result<Self> {
        let name = folder.display().to_string();
        let found = cartridges(folder)?;
        let slots = options.slots.unwrap_or(found.len().max(8));
        if slots == 0 || slots > MOST_SLOTS {
            return Err(
                Error::usage(format!("Found {slots} slots, expected 1 to {MOST_SLOTS}")).of(name),
            );
        }
        if found.len() > slots {
            return Err(Error::usage(format!(
                "The folder holds {} cartridges, and the changer has {slots} slots",
                found.len()
            ))
            .of(name)
            .hint("give it more slots, or move cartridges out of the folder"));
        }
        let mut magazine = Self {
            folder: folder.to_owned(),
            slots: found.into_iter().map(Some).collect(),
        };
        magazine.slots.resize(slots, None);
        if let Some(size) = options.size {
            magazine.fill(size)?;
        }
        Ok(magazine)
    }

    /// New cartridges for the empty slots, named by the first free numbers.
    fn fill(&mut self, size: u64) -> Result<()> {
        let mut number = 0;
        for slot in self.slots.iter_mut().filter(|s| s.is_none()) {
            let (path, barcode) = loop {
                number += 1;
                let barcode = format!("NTB{number:03}L1");
                let path = self.folder.join(format!("{barcode}.tap"));
                if !path.exists() {
                    break (path, barcode);
                }
            };
            Cartridge::create(&path, size, &barcode)?.close()?;
            *slot = Some(Volume { path, barcode });
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn at(&self, i: usize) -> Option<&Volume> {
        self.slots.get(i)?.as_ref()
    }

    pub fn take(&mut self, i: usize) -> Option<Volume> {
        self.slots.get_mut(i)?.take()
    }

    pub fn put(&mut self, i: usize, volume: Volume) {
        if let Some(slot) = self.slots.get_mut(i) {
            *slot = Some(volume);
        }
    }

    /// Empties the slot of a cartridge that is in a drive; which one it was.
    pub fn taken(&mut self, path: &Path) -> Option<usize> {
        let same = |v: &Volume| match (v.path.canonicalize(), path.canonicalize()) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        };
        let i = self
            .slots
            .iter()
            .position(|s| s.as_ref().is_some_and(same))?;
        self.take(i);
        Some(i)
    }

    /// Looks at the folder again: barcodes, cartridges that are gone, and new ones
    /// into empty slots. `elsewhere` are those in drives, `kept` the slots they
    /// go back to.
    pub fn rescan(&mut self, elsewhere: &[PathBuf], kept: &[usize]) -> Result<()> {
        let mut found = cartridges(&self.folder)?;
        found.retain(|v| !elsewhere.contains(&v.path));
        for slot in &mut self.slots {
            if let Some(v) = slot {
                let same = found.iter().position(|f| f.path == v.path);
                *slot = same.map(|i| found.swap_remove(i));
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        let empty = self
            .slots
            .iter_mut()
            .enumerate()
            .filter(|(i, s)| s.is_none() && !kept.contains(i));
        for ((_, slot), volume) in empty.zip(found) {
            *slot = Some(volume);
        }
        Ok(())
    }
}

/// The cartridges of a folder, by name.
fn cartridges(folder: &Path) -> Result<Vec<Volume>> {
    let fail = |e| Error::io("Cannot list the folder", e).of(folder.display().to_string());
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|x| x == "tap") && path.is_file() {
            let barcode = tag(&path, &Facts::of(&path)?);
            out.push(Volume { path, barcode });
            if out.len() > MOST_SLOTS {
                break;
            }
        }
    }
    out.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(out)
}
