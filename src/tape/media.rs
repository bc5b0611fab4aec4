//! Who brings the cartridges.

use super::drive::Drive;
use super::label::Id;
use crate::error::{Error, Result};

/// The cartridge that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A blank one, to go on with this set.
    Blank {
        /// The set; zero when it has no id yet.
        set: Id,
        /// Number that the cartridge will have in it.
        sequence: u32,
    },
    /// One of a set that exists.
    Part {
        /// The set.
        set: Id,
        /// Its number.
        sequence: u32,
        /// Its name, where that is known.
        name: Option<String>,
    },
    /// The next one of a set that is not finished; it may never have been begun.
    Next {
        /// The set.
        set: Id,
        /// Its number.
        sequence: u32,
    },
}

impl Wanted {
    /// What to do when it is not there.
    pub fn advice(&self) -> &'static str {
        match self {
            Wanted::Blank { set: Id(id), .. } if *id != [0; 16] => {
                "put it in and run the command with --resume, at a terminal or with a changer"
            }
            _ => "put it in and run the command again, or name a changer",
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wanted::Blank { set: Id(id), .. } if *id == [0; 16] => f.write_str("a blank cartridge"),
            Wanted::Blank { set, sequence } => {
                write!(f, "a blank cartridge, to be number {sequence} of set {set}")
            }
            Wanted::Part {
                set,
                sequence,
                name,
            } => {
                write!(f, "cartridge {sequence} of set {set}")?;
                match name {
                    Some(n) if !n.is_empty() => write!(f, " ({n:?})"),
                    _ => Ok(()),
                }
            }
            Wanted::Next { set, sequence } => write!(
                f,
                "cartridge {sequence} of set {set}, or cartridge {} again if there is none yet,",
                sequence.saturating_sub(1)
            ),
        }
    }
}

/// Changes cartridges: a library, or somebody who is asked.
pub trait Media: Send {
    /// Puts a cartridge that may be the wanted one into the drive. It is asked
    /// again, with a greater `attempt`, when it was the wrong one.
    fn change(&mut self, drive: &mut dyn Drive, wanted: &Wanted, attempt: u32) -> Result<()>;

    /// False when it is in vain to ask.
    fn can_change(&self) -> bool {
        true
    }
}

/// Nobody: what is in the drive has to do.
pub struct NoChange;

impl Media for NoChange {
    fn change(&mut self, drive: &mut dyn Drive, wanted: &Wanted, _: u32) -> Result<()> {
        Err(Error::not_found(format!("The drive needs {wanted}"))
            .of(drive.name())
            .hint(wanted.advice()))
    }

    fn can_change(&self) -> bool {
        false
    }
}
