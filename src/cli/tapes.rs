//! Options of every verb that may meet a tape: what is remembered of cartridges,
//! and who changes them.

use super::console::Console;
use super::text::safe;
use crate::error::{Error, Result};
use crate::ops::place::{MediaMaker, Places};
use crate::ops::recall::Recall;
use crate::ops::unit;
use crate::tape::changer::{Changer, Library, LibraryOptions};
use crate::tape::{Drive, Id, Media, NoChange, Wanted};
use clap::Args;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

/// What there is to know about tapes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Tapes")]
pub struct TapeOptions {
    /// Directory of the tape inventory [default: $XDG_STATE_HOME/ntbak, or
    /// ~/.local/state/ntbak]
    #[arg(long, value_name = "DIR")]
    pub inventory: Option<PathBuf>,
    /// Backup to read when the drive is empty or holds another one: a set of
    /// `ntbak tape inventory`
    #[arg(long, value_name = "ID")]
    pub set: Option<Id>,
    /// Medium changer that changes the cartridges: iscsi://…, /dev/sgN or /dev/schN
    #[arg(long, value_name = "UNIT")]
    pub changer: Option<String>,
    /// Element of the drive in the changer, when the changer does not say it
    #[arg(long, value_name = "ADDRESS", value_parser = element, requires = "changer")]
    pub changer_drive: Option<u16>,
}

/// A number, decimal or 0x….
fn element(text: &str) -> std::result::Result<u16, String> {
    match text.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16),
        None => text.parse(),
    }
    .map_err(|_| "expected the address of an element, such as 256 or 0x100".into())
}

impl TapeOptions {
    /// Opens places with all this.
    pub fn places(&self) -> Places {
        let recall = Recall::open(self.inventory.as_deref());
        Places::default()
            .with_media(self.media(recall.clone()))
            .with_recall(recall)
            .for_set(self.set)
    }

    fn media(&self, recall: Recall) -> MediaMaker {
        let (changer, drive) = (self.changer.clone(), self.changer_drive);
        Box::new(move |tape| match &changer {
            Some(text) => {
                let options = LibraryOptions {
                    drive,
                    holds: recall.parts().into_iter().map(|p| p.label).collect(),
                    blank: recall.blank_names(),
                };
                let changer = Changer::open(unit::open(text)?)?;
                Ok(Box::new(Library::new(changer, tape, options)?))
            }
            None if std::io::stdin().is_terminal() => Ok(Box::new(Ask)),
            None => Ok(Box::new(NoChange)),
        })
    }
}

/// Says once that nobody has looked at the data of a backup yet.
pub fn caution_unseen(console: &Console) {
    console.caution(
        "never-checked",
        "A copy manager moved the data of this backup and it was never checked since; `ntbak verify` reads it back",
    );
}

/// Whoever sits at the terminal.
struct Ask;

impl Media for Ask {
    fn change(&mut self, drive: &mut dyn Drive, wanted: &Wanted, attempt: u32) -> Result<()> {
        let again = match attempt {
            0 => "",
            _ => "That was another one. ",
        };
        let text = format!(
            "\n{again}Put {} into {} and press Enter ",
            safe(&wanted.to_string()),
            safe(drive.name())
        );
        let mut err = std::io::stderr().lock();
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
        drop(err);
        let mut line = String::new();
        match std::io::stdin().lock().read_line(&mut line) {
            Ok(n) if n > 0 => drive.load(),
            Ok(_) => NoChange.change(drive, wanted, attempt),
            Err(e) => Err(Error::io("Cannot read from the terminal", e)),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn addresses_of_elements() {
        assert_eq!(super::element("0x100"), Ok(256));
        assert_eq!(super::element("256"), Ok(256));
        assert!(super::element("x").is_err() && super::element("65536").is_err());
    }
}
