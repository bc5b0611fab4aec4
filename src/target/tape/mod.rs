//! The tape unit: a drive of SSC with a virtual cartridge in it.
//!
//! Commands come through [`Device`](super::common::Device); the copy manager
//! moves blocks by the methods of `direct.rs`, which keep the same rules. Both end
//! in the functions of `state.rs` and the cartridge.

mod attribute;
mod command;
mod direct;
mod log;
mod medium;
mod mode;
mod motion;
mod state;
mod transfer;

#[cfg(test)]
mod tests;

pub use direct::{Copied, Done, TapePosition};
pub use medium::MAX_TRANSFER;

use super::common::{Attentions, MEDIUM_CHANGED, lock};
use crate::error::Result;
use crate::scsi::Sense;
use crate::tape::cartridge::Cartridge;
use state::State;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// A tape drive.
pub struct TapeDrive {
    state: Mutex<State>,
    attentions: OnceLock<Arc<Attentions>>,
}

impl TapeDrive {
    /// A drive, with a cartridge in it that is ready, or empty.
    pub fn new(cartridge: Option<Cartridge>) -> Result<Self> {
        let drive = Self {
            state: Mutex::default(),
            attentions: OnceLock::new(),
        };
        if let Some(c) = cartridge {
            drive.insert(c)?;
        }
        Ok(drive)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Puts a cartridge in, makes it ready, and tells every nexus. What was in
    /// the drive must have been taken out.
    pub fn insert(&self, mut cartridge: Cartridge) -> Result<()> {
        if !cartridge.is_write_protected() {
            cartridge.change_facts(|f| f.load_count = f.load_count.saturating_add(1))?;
        }
        self.state().insert(cartridge);
        if let Some(a) = self.attentions.get() {
            a.raise(MEDIUM_CHANGED, |_| true);
        }
        Ok(())
    }

    /// Takes the cartridge out, unloading it first if need be. None when there is
    /// none; an error when a nexus prevents removal, or what was written cannot
    /// be made durable (then it stays).
    pub fn eject(&self) -> std::result::Result<Option<Cartridge>, Sense> {
        let mut s = self.state();
        s.unload()?;
        Ok(s.take())
    }

    /// True when a cartridge is in the drive, ready or not.
    pub fn is_full(&self) -> bool {
        self.state().barcode().is_some()
    }

    /// Volume tag of the cartridge in the drive.
    pub fn barcode(&self) -> Option<String> {
        self.state().barcode()
    }

    /// Path of the cartridge in the drive.
    pub fn path(&self) -> Option<std::path::PathBuf> {
        self.state().path()
    }
}
