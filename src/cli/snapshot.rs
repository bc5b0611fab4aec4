//! `snapshot`: what runs have left, and removing it.

use super::console::Console;
use super::exit::{Exit, TABLE};
use super::still::records;
use super::text::safe;
use crate::error::{Error, Result};
use crate::iscsi::without_secret;
use crate::ops::left::{delete, delete_of_unit, forget_record};
use crate::ops::place::Places;
use crate::snapshot::{Name, Record, Records};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::PathBuf;

/// List and remove snapshots that `image` has kept, or that a killed run has left
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  ntbak snapshot list
  ntbak snapshot delete ntbak-0123456789abcdef

{TABLE}"))]
pub struct SnapshotArgs {
    #[command(subcommand)]
    what: What,
    /// Directory of the tape inventory, beside which snapshots are recorded
    /// [default: $XDG_STATE_HOME/ntbak, or ~/.local/state/ntbak]
    #[arg(long, value_name = "DIR", global = true)]
    inventory: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List those that are recorded
    #[command(after_help = format!("\
Example:
  ntbak snapshot list --json

{TABLE}"))]
    List,
    /// Remove snapshots
    #[command(after_help = format!("\
Examples:
  ntbak snapshot delete ntbak-0123456789abcdef
  ntbak snapshot delete ntbak-0123456789abcdef --unit iscsi://host/target/0

{TABLE}"))]
    Delete {
        /// Their names
        #[arg(required = true, value_name = "NAME", value_parser = Name::from_user)]
        names: Vec<Name>,
        /// Of this disk of `ntbak target`, though they are not recorded here
        #[arg(long, value_name = "UNIT")]
        unit: Option<String>,
        /// Only drop the records: the snapshots are gone for good
        #[arg(long, conflicts_with = "unit")]
        forget: bool,
    },
}

#[derive(Serialize)]
struct Row<'a> {
    /// `in-use`, `kept`, `left`, `deleted` or `forgotten`.
    state: &'a str,
    name: &'a Name,
    provider: &'a str,
    source: &'a str,
    created: &'a str,
    label: Option<&'a str>,
    place: Option<String>,
}

fn tell(r: &Record, state: &str, console: &Console) -> Result<()> {
    let row = Row {
        state,
        name: &r.name,
        provider: &r.provider,
        source: &r.source,
        created: &r.created,
        label: r.made.as_ref().map(|m| &*m.label),
        place: r.made.as_ref().map(|m| without_secret(&m.place)),
    };
    if console.json() {
        return console.row("snapshot", &row);
    }
    let label = row.label.unwrap_or("never finished");
    let line = format!(
        "{}  {state:<8}  {:<8}  {}  {}  {}\n",
        r.name,
        r.provider,
        r.created,
        safe(&r.source),
        safe(label)
    );
    console.put(line.as_bytes())
}

/// Lists or removes.
pub fn run(args: &SnapshotArgs, console: &Console) -> Result<Exit> {
    let records = records(args.inventory.as_deref()).ok_or_else(|| {
        Error::usage("Neither XDG_STATE_HOME nor HOME says where snapshots are recorded")
            .hint("name a directory with --inventory")
    })?;
    let exit = match &args.what {
        What::List => list(&records, console)?,
        What::Delete {
            names,
            unit,
            forget,
        } => {
            let mut places = Places::default();
            // The others go, whatever the first failure was.
            let mut failed = None;
            for name in names {
                let gone = match unit {
                    Some(u) => delete_of_unit(&mut places, u, name),
                    None if *forget => forget_record(&records, name),
                    None => delete(&mut places, &records, name),
                };
                let gone = match gone {
                    Ok(r) => r,
                    Err(e) => {
                        if let Some(before) = failed.replace(e) {
                            console.caution("snapshot-left", &before.to_string());
                        }
                        continue;
                    }
                };
                let state = if *forget { "forgotten" } else { "deleted" };
                tell(&gone, state, console)?;
            }
            if let Some(e) = failed {
                return Err(e);
            }
            Exit::Done
        }
    };
    if console.json() {
        console.row(
            "summary",
            &serde_json::json!({ "warnings": console.warnings() }),
        )?;
    }
    Ok(exit)
}

fn list(records: &Records, console: &Console) -> Result<Exit> {
    let (all, bad) = records.list()?;
    for (r, alive) in &all {
        let state = match (alive, r.kept) {
            (true, _) => "in-use",
            (false, true) => "kept",
            (false, false) => "left",
        };
        tell(r, state, console)?;
    }
    for e in &bad {
        console.caution("snapshot-record", &e.to_string());
    }
    if all.is_empty() && bad.is_empty() && !console.json() {
        console.say("No snapshots are recorded\n");
    }
    Ok(match bad.is_empty() {
        true => Exit::Done,
        false => Exit::Gaps,
    })
}
