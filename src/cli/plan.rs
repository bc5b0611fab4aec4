//! `plan`: the commands of a backup to tape, without sending one.

use super::console::Console;
use super::exit::{Exit, TABLE};
use super::text::{bytes, count, percent, safe};
use super::values;
use super::view::Opening;
use crate::copy::limits::cscd;
use crate::copy::{Address, Body, Command, Cscd, Limits, Segment, digits, profile};
use crate::error::{Error, Result};
use crate::ops::image::{PlanOptions, plan};
use crate::ops::place::Places;
use crate::ops::plan::{Sum, TapePlan};
use crate::ops::unit::copy_limits;
use clap::Args;
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// Print the commands that a copy manager would get for a backup
///
/// Reads the file system of SOURCE, plans every EXTENDED COPY command, and sends
/// none. With --profile no tape drive and no copy manager is needed; without it the
/// copy manager of the tape is asked for its limits. Stream offsets count from
/// the first record that the copy manager writes.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  ntbak plan disk.img --to - --profile router-spc2
  ntbak plan /dev/sdb --to /dev/nst0
  ntbak plan disk.img --to - --profile tiny --hex | less

Profiles: {}

{TABLE}", profile_names()))]
pub struct PlanArgs {
    /// Block device, image file or logical unit to plan for; it is never written
    source: PathBuf,
    /// Tape whose copy manager is asked: iscsi://host/target/lun, /dev/sgN, /dev/nstN;
    /// - for none
    #[arg(long, value_name = "TAPE")]
    to: String,
    /// Plan for this kind of copy manager and ask nobody
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Bytes of a tape block; the largest that suits up to 256K when not given
    #[arg(long, value_name = "BYTES", value_parser = values::size)]
    block: Option<u64>,
    /// Print the parameter list of every command in hexadecimal
    #[arg(long, conflicts_with = "json")]
    hex: bool,
    /// Only this partition
    #[arg(long, value_name = "N", value_parser = values::partition)]
    partition: Option<u16>,
    #[command(flatten)]
    opening: Opening,
}

fn profile_names() -> String {
    let names: Vec<_> = profile::all().iter().map(|p| p.name).collect();
    names.join(", ")
}

/// Plans and tells.
pub fn run(args: &PlanArgs, console: &Console) -> Result<Exit> {
    let mut places = Places::default();
    let (limits, about) = limits(args, &mut places)?;
    let opened = places.open(&args.source, args.opening.options())?.opened;
    let options = PlanOptions {
        partition: args.partition,
        live: args.opening.live,
        cancel: Some(console.cancel_flag()),
        ..PlanOptions::default()
    };
    let plan = TapePlan::new(
        plan(opened.source, &opened.identity, &options, console)?,
        &limits,
        args.block,
    )
    .map_err(by_the_host)?;
    begin(&plan, &about, console)?;
    let units = units(&plan);
    let mut sum = Sum::default();
    for (n, command) in plan.commands()?.enumerate() {
        let command = command?;
        let id = (n % 255 + 1) as u8;
        let list = match command.is_for_host() {
            true => Vec::new(),
            false => command.parameter_list(id, &units)?,
        };
        sum.add(&command, list.len() as u64);
        tell(args.hex, n as u64, &command, &list, console)?;
    }
    end(&plan, &sum, console)?;
    Ok(Exit::Done)
}

/// Here is nothing that the host could move; a backup has that option.
fn by_the_host(e: Error) -> Error {
    match e.advice().is_some_and(|a| a.contains("--mover host")) {
        true => e.advise("the host writes the same tape: `ntbak image` with --mover host"),
        false => e,
    }
}

/// The limits to plan for, and whose they are.
fn limits(args: &PlanArgs, places: &mut Places) -> Result<(Limits, String)> {
    let name = match (&args.profile, args.to.as_str()) {
        (Some(name), _) => name,
        (None, "-") => profile::DEFAULT,
        (None, tape) => {
            let unit = places.unit(tape)?.unit;
            let limits = copy_limits(&unit)?.ok_or_else(|| {
                Error::unsupported("The unit has no copy manager")
                    .of(safe(tape))
                    .hint("--profile NAME plans for a copy manager without asking one")
            })?;
            let usual = 512;
            limits
                .check_backup(usual)
                .map_err(|e| by_the_host(e).of(safe(tape)))?;
            return Ok((limits, unit.name().to_string()));
        }
    };
    let found = profile::find(name).ok_or_else(|| {
        Error::usage(format!("There is no profile {}", safe(name)))
            .hint(format!("profiles are: {}", profile_names()))
    })?;
    found.check_dialect().map_err(by_the_host)?;
    Ok((
        found.announced.clone(),
        format!("{}: {}", found.name, found.about),
    ))
}

/// Stand-ins for the units: their names are the only thing of a list that depends
/// on hardware.
fn units(plan: &TapePlan) -> [Cscd; 2] {
    let block = plan.source().disk.sector_bytes;
    let (disk, tape) = match plan.limits.has(cscd::IDENTIFICATION) {
        true => (
            Address::naa(&[0x30, 0, 0, 0, 0, 0, 0, 1]),
            Address::naa(&[0x30, 0, 0, 0, 0, 0, 0, 2]),
        ),
        false => (
            Address::FcName { lun: 0, name: 1 },
            Address::FcName { lun: 0, name: 2 },
        ),
    };
    [Cscd::disk(disk, block), Cscd::tape(tape)]
}

#[derive(Serialize)]
struct PlanRow<'a> {
    source: &'a str,
    bytes: u64,
    copy_manager: &'a str,
    limits: &'a Limits,
    tape_block: u64,
    disk_block: u64,
    restore: Option<String>,
}

fn begin(plan: &TapePlan, about: &str, console: &Console) -> Result<()> {
    let image = plan.source();
    let disk_block = plan.geometry.disk_block;
    let restore = plan.limits.check_restore(disk_block).err();
    let row = PlanRow {
        source: &image.source.path,
        bytes: image.source.bytes,
        copy_manager: about,
        limits: &plan.limits,
        tape_block: plan.geometry.tape_block,
        disk_block,
        restore: restore.map(|e| e.message().to_string()),
    };
    if console.json() {
        return console.row("plan", &row);
    }
    let mut t = format!(
        "Source: {}, {}\nCopy manager: {}\nTape blocks of {} bytes, disk blocks of {}\n",
        safe(row.source),
        bytes(row.bytes),
        safe(about),
        row.tape_block,
        row.disk_block
    );
    if let Some(why) = &row.restore {
        let _ = writeln!(t, "Restore by the host: {}", safe(why));
    }
    console.put(t.as_bytes())
}

#[derive(Serialize)]
struct CommandRow<'a> {
    number: u64,
    by: &'static str,
    offset: u64,
    bytes: u64,
    pad: u64,
    tape_blocks: u64,
    filemarks: u32,
    host_filemarks: u32,
    inline_bytes: usize,
    segments: &'a [Segment],
    records: &'a [crate::copy::PlannedRecord],
    list: String,
}

fn tell(hex: bool, number: u64, c: &Command, list: &[u8], console: &Console) -> Result<()> {
    if console.json() {
        return console.row(
            "command",
            &CommandRow {
                number,
                by: if c.is_for_host() {
                    "host"
                } else {
                    "copy-manager"
                },
                offset: c.offset,
                bytes: c.bytes,
                pad: c.pad,
                tape_blocks: c.blocks,
                filemarks: c.filemarks,
                host_filemarks: c.host_filemarks,
                inline_bytes: c.inline.len(),
                segments: &c.segments,
                records: &c.records,
                list: digits(list),
            },
        );
    }
    let mut t = format!(
        "\nCommand {number}: stream {:#x}, {}, {}, {}",
        c.offset,
        bytes(c.bytes),
        count(c.segments.len() as u64, "segment"),
        count(c.blocks, "tape block")
    );
    if c.pad > 0 {
        let _ = write!(t, ", filled up by {} bytes", c.pad);
    }
    t.push('\n');
    match hex {
        true => dump(list, &mut t),
        false => c.segments.iter().for_each(|s| segment(s, &mut t)),
    }
    if c.host_filemarks > 0 {
        let _ = writeln!(
            t,
            "  host  {}",
            count(u64::from(c.host_filemarks), "filemark")
        );
    }
    console.put(t.as_bytes())
}

fn segment(s: &Segment, t: &mut String) {
    let cat = if s.cat { "CAT" } else { "" };
    let what = match &s.body {
        Body::BlockToStream { blocks, lba, .. } => format!("disk {lba:#x} + {blocks}"),
        Body::Inline { offset, bytes, .. } => format!("inline {offset:#x} + {bytes}"),
        Body::Embedded { data, .. } => format!("embedded {}", data.len()),
        Body::Filemarks { count: n, .. } => count(u64::from(*n), "filemark"),
        other => format!("{other:?}"),
    };
    let _ = writeln!(t, "  {:02X}h  {cat:<3}  {what}", s.body.code());
}

fn dump(list: &[u8], t: &mut String) {
    for (i, line) in list.chunks(16).enumerate() {
        let _ = write!(t, "  {:04x} ", i * 16);
        for b in line {
            let _ = write!(t, " {b:02x}");
        }
        t.push('\n');
    }
}

#[derive(Serialize)]
struct SummaryRow<'a> {
    #[serde(flatten)]
    sum: &'a Sum,
    /// File records, by the host.
    host_bytes: u64,
    warnings: u64,
}

fn end(plan: &TapePlan, sum: &Sum, console: &Console) -> Result<()> {
    let host_bytes = plan.host_bytes();
    if console.json() {
        return console.row(
            "summary",
            &SummaryRow {
                sum,
                host_bytes,
                warnings: console.warnings(),
            },
        );
    }
    let stream = sum.copied_bytes + sum.header_bytes + sum.pad_bytes;
    let mut t = format!(
        "\n{}, {}, {}\n",
        count(sum.commands, "command"),
        count(sum.segments, "segment"),
        count(sum.records, "record")
    );
    let rows = [
        ("Moved by the copy manager", bytes(sum.copied_bytes)),
        ("Sent with the commands", bytes(sum.list_bytes)),
        ("of it record headers", bytes(sum.header_bytes)),
        (
            "Filled up with zeros",
            format!(
                "{} ({:.2} %)",
                bytes(sum.pad_bytes),
                percent_of(sum.pad_bytes, stream)
            ),
        ),
        (
            "On tape",
            format!("{}, {}", count(sum.tape_blocks, "block"), marks(sum)),
        ),
        ("File records, by the host", bytes(host_bytes)),
    ];
    for (name, value) in rows {
        let _ = writeln!(t, "  {name:<27}{value}");
    }
    console.put(t.as_bytes())
}

fn percent_of(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        percent(part, whole)
    }
}

fn marks(sum: &Sum) -> String {
    match sum.host_filemarks {
        0 => count(sum.filemarks, "filemark"),
        n => format!("{} by the host", count(n, "filemark")),
    }
}
