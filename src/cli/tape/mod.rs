//! `tape`: labels, what cartridges hold, what a drive says.

mod text;

use super::console::Console;
use super::exit::{Exit, TABLE};
use super::text::{count, safe};
use crate::error::{Error, Result};
use crate::ops::tape::{Contents, LabelOptions, label, scan};
use crate::ops::unit;
use crate::tape::{Drive, Id, Inventory, ScsiDrive, drive_status};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Label cartridges, list them, find out what they hold, ask the drive
///
/// DRIVE is an iSCSI address (iscsi://host/iqn/lun), a SCSI generic device or a
/// tape device that does not rewind by itself (/dev/sg3, /dev/nst0).
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  ntbak tape label /dev/nst0 --name A00017
  ntbak tape scan iscsi://backup/iqn.2026-11.org.ntbak:target/1
  ntbak tape inventory --json
  ntbak tape status /dev/nst0

{TABLE}"))]
pub struct TapeArgs {
    #[command(subcommand)]
    what: What,
}

/// Where the host keeps what it knows of cartridges.
#[derive(Debug, Args)]
struct Place {
    /// Directory of the inventory [default: $XDG_STATE_HOME/ntbak, or
    /// ~/.local/state/ntbak]
    #[arg(long = "inventory", value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Place {
    fn open(&self) -> Result<Inventory> {
        Inventory::open(self.dir.as_deref())
    }
}

#[derive(Debug, Subcommand)]
enum What {
    /// Give a cartridge a name and an id; one that holds something is refused
    #[command(after_help = format!("\
Example:
  ntbak tape label /dev/nst0 --name A00017

{TABLE}"))]
    Label {
        /// Tape drive
        drive: String,
        /// Name of the cartridge, at most 32 bytes; a bar code fits
        #[arg(long, value_name = "NAME", value_parser = cartridge_name)]
        name: String,
        /// Label it whatever it holds; that is lost then
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        place: Place,
    },
    /// List the sets and cartridges that this host knows
    #[command(after_help = format!("\
Examples:
  ntbak tape inventory
  ntbak tape inventory --forget 0b5d9e7dd1fd4b5a9d1f6a6b6f0b2c11

{TABLE}"))]
    Inventory {
        /// Forget a set; its cartridges are not touched
        #[arg(long, value_name = "SET")]
        forget: Option<Id>,
        #[command(flatten)]
        place: Place,
    },
    /// Find out from the cartridge alone what it holds, and remember it
    #[command(after_help = format!("\
Example:
  ntbak tape scan /dev/nst0

{TABLE}"))]
    Scan {
        /// Tape drive
        drive: String,
        #[command(flatten)]
        place: Place,
    },
    /// Ask a drive what it is and how it is, without moving its cartridge
    #[command(after_help = format!("\
Example:
  ntbak tape status /dev/nst0

{TABLE}"))]
    Status {
        /// Tape drive
        drive: String,
    },
    /// Rewind the cartridge and put it out
    #[command(after_help = format!("\
Example:
  ntbak tape eject /dev/nst0

{TABLE}"))]
    Eject {
        /// Tape drive
        drive: String,
    },
}

fn cartridge_name(text: &str) -> std::result::Result<String, String> {
    match text.len() {
        1..=32 if !text.contains(|c: char| c.is_control()) => Ok(text.into()),
        _ => Err("expected 1 to 32 bytes without control characters".into()),
    }
}

/// Does it.
pub fn run(args: &TapeArgs, console: &Console) -> Result<Exit> {
    match &args.what {
        What::Label {
            drive,
            name,
            force,
            place,
        } => {
            let inventory = place.open()?;
            let mut drive = open(drive)?;
            drive.reserve()?;
            let options = LabelOptions {
                name: name.clone(),
                force: *force,
            };
            let done = label(&mut drive, &inventory, &options)?;
            match console.json() {
                true => console.row("label", &done)?,
                false => console.say(&text::labelled(&done)),
            }
        }
        What::Inventory { forget, place } => inventory(&place.open()?, *forget, console)?,
        What::Scan { drive, place } => {
            let inventory = place.open()?;
            let mut drive = open(drive)?;
            let found = scan(&mut drive, &inventory, console)?;
            tell_contents(&found, drive.name(), console)?;
        }
        What::Status { drive } => {
            let told = drive_status(&unit::open(drive)?)?;
            match console.json() {
                true => console.row("drive", &told)?,
                false => console.put(text::status(&told).as_bytes())?,
            }
        }
        What::Eject { drive } => {
            let mut drive = open(drive)?;
            drive.unload()?;
            console.say(&format!("{}: the cartridge is out", safe(drive.name())));
        }
    }
    if console.json() {
        let row = serde_json::json!({ "warnings": console.warnings() });
        console.row("summary", &row)?;
    }
    Ok(Exit::Done)
}

fn open(drive: &str) -> Result<ScsiDrive> {
    ScsiDrive::open(unit::open(drive)?)
}

fn tell_contents(found: &Contents, drive: &str, console: &Console) -> Result<()> {
    if let Contents::Set(s) = found
        && let (Some(false), Some(w)) = (s.complete, &s.walked)
    {
        console.caution(
            "incomplete",
            &format!(
                "The set has no end on this cartridge: {} whole, up to stream offset {:#x}",
                count(w.records, "record"),
                w.whole_until
            ),
        );
    }
    match console.json() {
        true => console.row("cartridge", found),
        false => console.put(text::contents(found, drive).as_bytes()),
    }
}

fn inventory(inventory: &Inventory, forget: Option<Id>, console: &Console) -> Result<()> {
    if let Some(set) = forget {
        if !inventory.remove(set)? {
            return Err(Error::not_found(format!("Set {set} is not known"))
                .of(inventory.dir().display().to_string())
                .hint("`ntbak tape inventory` lists what is known"));
        }
        console.say(&format!(
            "Set {set} is forgotten; its cartridges are as they were"
        ));
        return Ok(());
    }
    let all = inventory.list()?;
    for e in &all.bad {
        console.caution("inventory", &e.to_string());
    }
    let mut out = String::new();
    for set in &all.sets {
        let digests = inventory.digests(set.set).map_or(0, |d| d.len());
        match console.json() {
            true => console.row(
                "set",
                &serde_json::json!({
                    "set": set.set,
                    "block_bytes": set.block_bytes,
                    "facts": set.facts,
                    "complete": set.complete,
                    "stream_bytes": set.stream_bytes(),
                    "missing": set.missing(),
                    "read_back_digests": digests,
                    "cartridges": set.parts.values().collect::<Vec<_>>(),
                }),
            )?,
            false => out += &text::set(set, digests),
        }
    }
    for label in &all.blank {
        match console.json() {
            true => console.row("blank", label)?,
            false => out += &text::blank(label),
        }
    }
    if out.is_empty() && !console.json() {
        out = format!(
            "Nothing is known yet in {}\n",
            safe(&inventory.dir().display().to_string())
        );
    }
    console.put(out.as_bytes())
}
