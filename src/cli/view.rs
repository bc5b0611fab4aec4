//! The argument of every reading verb: a volume, a disk or an archive.

use super::console::Console;
use super::tapes::{TapeOptions, caution_unseen};
use super::values;
use crate::device::OpenOptions;
use crate::error::Result;
use crate::ops::place::Places;
use crate::ops::view::View;
use clap::Args;
use std::path::{Path, PathBuf};

/// How to open what is read.
#[derive(Clone, Copy, Debug, Args)]
pub struct Opening {
    /// Read it although it is mounted writable and may change meanwhile
    #[arg(long)]
    pub live: bool,
    /// Sector size of an image file in bytes, when it is not 512
    #[arg(long, value_name = "BYTES", value_parser = values::sector_size)]
    pub sector_size: Option<u32>,
}

/// A volume, a disk or an archive.
#[derive(Clone, Debug, Args)]
pub struct ViewArgs {
    /// Image file, block device or archive
    #[arg(value_name = "VIEW")]
    pub view: PathBuf,
    #[command(flatten)]
    pub opening: Opening,
    #[command(flatten)]
    pub tapes: TapeOptions,
}

impl Opening {
    /// For a job that reads all of it, or that meets bad sectors.
    pub fn options(&self) -> OpenOptions {
        OpenOptions {
            live: self.live,
            mapped: false,
            sector_size: self.sector_size,
        }
    }

    /// Opens a path and says what was noticed.
    pub fn open(&self, path: &Path, tapes: &TapeOptions, console: &Console) -> Result<View> {
        let view = self.open_in(&mut tapes.places(), path, console)?;
        if view.seen.as_ref().is_some_and(|s| s.never_checked) {
            caution_unseen(console);
        }
        Ok(view)
    }

    /// The same for a verb that says itself what was checked.
    pub fn open_in(&self, places: &mut Places, path: &Path, console: &Console) -> Result<View> {
        let view = View::open_in(places, path, self.options(), console)?;
        for note in &view.notes {
            console.caution("view", note);
        }
        Ok(view)
    }
}

/// Says that data was read which could not be compared with its digest.
pub fn caution_unsure(view: &View, console: &Console) {
    if view.archive.as_ref().is_some_and(|a| a.is_unsure()) {
        console.caution(
            "unsure",
            "A block of the tape cannot be read: what stands in the same record was read, but its digest could not be compared",
        );
    }
}

impl ViewArgs {
    /// See [`Opening::open`].
    pub fn open(&self, console: &Console) -> Result<View> {
        self.opening.open(&self.view, &self.tapes, console)
    }
}
