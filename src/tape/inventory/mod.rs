//! What this host remembers of cartridges and sets (`docs/tape.md` section 4).
//! A convenience: everything but the digests is found again on the media.
//!
//! | file | content |
//! |---|---|
//! | `sets/ID.json` | a set: what it is a backup of, and its cartridges |
//! | `sets/ID.digests` | digests computed when it was read back |
//! | `blank/ID.json` | a labelled cartridge without a set |
//! | `lock` | held by the run that changes something |

mod digests;
mod files;
mod record;
#[cfg(test)]
mod tests;

pub use digests::Digests;
pub use record::{SetFacts, SetRecord};

use super::label::{Id, Label};
use super::part::PartMap;
use crate::error::{Error, Result};
use files::Folder;
use std::path::{Path, PathBuf};

const SETS: &str = "sets";
const BLANK: &str = "blank";
const JSON: &str = "json";
const DIGESTS: &str = "digests";

/// The inventory of a host.
#[derive(Clone, Debug)]
pub struct Inventory {
    folder: Folder,
}

/// Everything in an inventory.
#[derive(Debug, Default)]
pub struct Listing {
    /// Sets, in the order of their ids.
    pub sets: Vec<SetRecord>,
    /// Cartridges that are labelled and hold no set.
    pub blank: Vec<Label>,
    /// Files that could not be read, or hold something else.
    pub bad: Vec<Error>,
}

impl Inventory {
    /// In a directory, which is made when something is recorded; without one in
    /// `$XDG_STATE_HOME/ntbak`, or `~/.local/state/ntbak`.
    pub fn open(dir: Option<&Path>) -> Result<Self> {
        let dir = match dir {
            Some(d) => d.to_path_buf(),
            None => state_dir().ok_or_else(|| {
                Error::usage("Neither XDG_STATE_HOME nor HOME says where the tape inventory is")
                    .hint("name a directory with --inventory")
            })?,
        };
        Ok(Self {
            folder: Folder::new(dir),
        })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.folder.dir()
    }

    /// Everything in it. A file that is damaged costs itself.
    pub fn list(&self) -> Result<Listing> {
        let mut out = Listing::default();
        for id in self.folder.ids(SETS, JSON)? {
            match self.set(id) {
                Ok(Some(s)) => out.sets.push(s),
                Ok(None) => {}
                Err(e) => out.bad.push(e),
            }
        }
        for id in self.folder.ids(BLANK, JSON)? {
            match self.folder.load_json::<Label>(BLANK, id) {
                Ok(Some(l)) if l.cartridge == id && l.part.is_none() => out.blank.push(l),
                Ok(None) => {}
                Ok(Some(_)) => {
                    out.bad
                        .push(self.folder.damaged(BLANK, id, "is about another cartridge"))
                }
                Err(e) => out.bad.push(e),
            }
        }
        Ok(out)
    }

    /// A set.
    pub fn set(&self, id: Id) -> Result<Option<SetRecord>> {
        let Some(set) = self.folder.load_json::<SetRecord>(SETS, id)? else {
            return Ok(None);
        };
        match set.check(id) {
            Ok(()) => Ok(Some(set)),
            Err(what) => Err(self.folder.damaged(SETS, id, &what)),
        }
    }

    /// The set that a cartridge belongs to.
    pub fn of_cartridge(&self, cartridge: Id) -> Result<Option<SetRecord>> {
        Ok(self
            .list()?
            .sets
            .into_iter()
            .find(|s| s.parts.values().any(|p| p.label.cartridge == cartridge)))
    }

    /// Records what a cartridge holds of its set, in place of whatever was known
    /// of that cartridge. `facts` come from the first cartridge; `complete` from
    /// the last.
    pub fn record(
        &self,
        map: &PartMap,
        facts: Option<&SetFacts>,
        complete: Option<bool>,
    ) -> Result<SetRecord> {
        let id = map.set().ok_or_else(|| {
            Error::usage("A cartridge without a set is recorded by its label alone")
        })?;
        let _lock = self.folder.lock()?;
        self.drop_cartridge(map.label.cartridge, Some(id))?;
        // A file that cannot be read any more is made anew.
        let mut set = self
            .set(id)
            .ok()
            .flatten()
            .unwrap_or_else(|| SetRecord::new(id, map.block_bytes()));
        set.take(map, facts, complete);
        set.check(id)
            .map_err(|what| Error::damaged(format!("Set {id} {what}")))?;
        self.folder.save_json(SETS, id, &set)?;
        Ok(set)
    }

    /// Records a labelled cartridge that holds no set; what it held is gone.
    pub fn record_blank(&self, label: &Label) -> Result<()> {
        let _lock = self.folder.lock()?;
        self.drop_cartridge(label.cartridge, None)?;
        self.folder.save_json(BLANK, label.cartridge, label)
    }

    /// Takes a cartridge out of all sets but one. A set without any is gone.
    fn drop_cartridge(&self, cartridge: Id, but: Option<Id>) -> Result<()> {
        self.folder.remove(BLANK, cartridge, JSON)?;
        for id in self.folder.ids(SETS, JSON)? {
            let Ok(Some(mut set)) = self.set(id) else {
                continue;
            };
            let before = set.parts.len();
            set.parts.retain(|_, p| p.label.cartridge != cartridge);
            if set.parts.len() == before {
                continue;
            }
            match set.parts.is_empty() && but != Some(id) {
                true => self.forget(id)?,
                false => self.folder.save_json(SETS, id, &set)?,
            }
        }
        Ok(())
    }

    /// Digests of a set that were computed when it was read back; empty when
    /// there are none.
    pub fn digests(&self, set: Id) -> Result<Digests> {
        match self.folder.load(SETS, set, DIGESTS)? {
            None => Ok(Digests::new(set)),
            Some(bytes) => {
                Digests::decode(set, &bytes).map_err(|e| e.of(self.folder.name(SETS, set, DIGESTS)))
            }
        }
    }

    /// Adds digests to those of their set.
    pub fn store_digests(&self, digests: &Digests) -> Result<()> {
        let _lock = self.folder.lock()?;
        // Damaged ones are of no use to anybody.
        let mut all = self
            .digests(digests.set())
            .unwrap_or_else(|_| Digests::new(digests.set()));
        all.merge(digests)?;
        self.folder
            .save(SETS, digests.set(), DIGESTS, &all.encode())
    }

    /// Forgets a set. False when it was not known.
    pub fn remove(&self, set: Id) -> Result<bool> {
        if !self.folder.exists(SETS, set, JSON) && !self.folder.exists(SETS, set, DIGESTS) {
            return Ok(false);
        }
        let _lock = self.folder.lock()?;
        self.forget(set)?;
        Ok(true)
    }

    fn forget(&self, set: Id) -> Result<()> {
        self.folder.remove(SETS, set, JSON)?;
        self.folder.remove(SETS, set, DIGESTS)
    }
}

/// Where programs keep what they remember: `$XDG_STATE_HOME/ntbak`, or
/// `~/.local/state/ntbak`.
pub fn state_dir() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from);
    // A relative path is to be taken for none.
    set("XDG_STATE_HOME")
        .filter(|p| p.is_absolute())
        .or_else(|| {
            Some(
                set("HOME")
                    .filter(|p| p.is_absolute())?
                    .join(".local/state"),
            )
        })
        .map(|p| p.join("ntbak"))
}
