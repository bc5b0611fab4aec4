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
        }
    }
}

/// Changes cartridges: a library, or somebody who is asked.
pub trait Media: Send {
    /// Puts a cartridge that may be the wanted one into the drive. It is asked
    /// again, with a greater `attempt`, when it was the wrong one.
    fn change(&mut self, drive: &mut dyn Drive, wanted: &Wanted, attempt: u32) -> Result<()>;
}

/// Nobody: what is in the drive has to do.
pub struct NoChange;

impl Media for NoChange {
    fn change(&mut self, drive: &mut dyn Drive, wanted: &Wanted, _: u32) -> Result<()> {
        Err(Error::not_found(format!("The drive needs {wanted}"))
            .of(drive.name())
            .hint("put it in and run the command again, or name a changer"))
    }
}
