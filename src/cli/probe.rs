//! `probe`: what can be offloaded, and why not.

use super::console::Console;
use super::exit::{Exit, TABLE};
use super::text::{bytes, count, safe, table};
use crate::copy::Limits;
use crate::error::{Error, Result};
use crate::ops::probe::{
    Answer, Manager, Offload, ProbeOptions, Probed, Trial, UnitFacts, probe as find_out,
};
use crate::ops::unit::Opener;
use clap::Args;
use std::fmt::Write;

/// Tell what disks, tapes and their copy managers can do
///
/// A copy manager moves data from disk to tape and back by itself, so that it
/// does not pass through this host. Each unit is identified, each copy manager is
/// asked for its limits and made to verify that it reaches each unit, and a table
/// says whether backup, restore and the restore of single files can be offloaded.
/// Nothing is changed without --write-test.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  ntbak probe iscsi://san/iqn.2026-11.org.ntbak:target/0 iscsi://san/iqn.2026-11.org.ntbak:target/1
  ntbak probe /dev/sdb /dev/nst0
  ntbak probe --write-test /dev/sg1 /dev/sg3

{TABLE}"))]
pub struct ProbeArgs {
    /// Disks, tapes and controllers: iscsi://host/target/lun, /dev/sgN, /dev/sdX, /dev/nstN
    #[arg(required = true, value_name = "DEVICE")]
    devices: Vec<String>,
    /// Copy one disk block to the tape and read it back; needs a blank cartridge
    /// or an empty labelled one, which is left as it was
    #[arg(long)]
    write_test: bool,
    /// With --write-test: let the copy manager write that block back to the disk,
    /// where it came from; the host compares it
    #[arg(long, requires = "write_test")]
    write_disk: bool,
    /// With --write-test: use the cartridge whatever it holds; that is lost
    #[arg(long, requires = "write_test")]
    yes: bool,
}

/// Finds it out and tells it.
pub fn run(args: &ProbeArgs, console: &Console) -> Result<Exit> {
    let mut opener = Opener::new();
    let mut units = Vec::new();
    for device in &args.devices {
        if args.devices.iter().filter(|d| *d == device).count() > 1 {
            return Err(Error::usage("This device is named twice").of(safe(device)));
        }
        let opened = opener.open(device)?;
        if args.write_disk {
            opened.check_unused()?;
        }
        units.push(opened.unit);
    }
    let options = ProbeOptions {
        write_test: args.write_test,
        write_disk: args.write_disk,
        overwrite: args.yes,
    };
    let found = find_out(&units, options, console)?;
    match console.json() {
        true => rows(&found, console)?,
        false => console.put(words(&found).as_bytes())?,
    }
    Ok(Exit::Done)
}

fn rows(found: &Probed, console: &Console) -> Result<()> {
    for u in &found.units {
        console.row("unit", u)?;
    }
    for m in &found.managers {
        console.row("copy_manager", m)?;
    }
    for o in &found.offloads {
        console.row("offload", o)?;
    }
    let row = serde_json::json!({
        "units": found.units.len(),
        "copy_managers": found.managers.len(),
        "backup": found.offloads.iter().any(|o| o.backup.possible),
        "restore": found.offloads.iter().any(|o| o.restore.possible),
        "warnings": console.warnings(),
    });
    console.row("summary", &row)
}

fn words(found: &Probed) -> String {
    let mut t = String::new();
    for u in &found.units {
        unit(&mut t, u);
    }
    for alike in found.managers.chunk_by(same) {
        manager(&mut t, alike);
    }
    offloads(&mut t, &found.offloads);
    t
}

fn line(t: &mut String, name: &str, value: &str) {
    let _ = writeln!(t, "  {name:<16}{}", safe(value));
}

fn unit(t: &mut String, u: &UnitFacts) {
    let model = format!("{} {} {}", u.vendor, u.product, u.revision);
    let _ = writeln!(t, "{}: {}, {}", safe(&u.name), u.device, safe(model.trim()));
    if let Some(s) = &u.serial {
        line(t, "Serial", s);
    }
    line(t, "Designator", u.designator.as_deref().unwrap_or("none"));
    if let (Some(port), Some(lun)) = (&u.port, &u.lun) {
        line(t, "Port and unit", &format!("{port}, {lun}"));
    }
    if let (Some(n), Some(block)) = (u.bytes, u.block_bytes) {
        let thin = if u.thin == Some(true) { ", thin" } else { "" };
        line(
            t,
            "Capacity",
            &format!("{}, blocks of {block}{thin}", bytes(n)),
        );
    }
    if let Some(n) = u.longest_block {
        line(t, "Longest block", &bytes(n.into()));
    }
    if u.write_protected == Some(true) {
        line(t, "Medium", "write protected");
    }
    if let Some(why) = &u.not_ready {
        line(t, "Not ready", why);
    }
    let said = match (u.third_party_copy, u.third_party_page) {
        (true, true) => "announced (3PC, page 8Fh)",
        (true, false) => "announced (3PC)",
        (false, true) => "announced (page 8Fh)",
        (false, false) => "not announced",
    };
    line(t, "Copy manager", said);
    t.push('\n');
}

/// True when the copy managers of two units say the same; often they are one.
fn same(a: &Manager, b: &Manager) -> bool {
    a.limits == b.limits && a.refused == b.refused && a.legs == b.legs
}

fn manager(t: &mut String, alike: &[Manager]) {
    let Some(m) = alike.first() else { return };
    let _ = writeln!(t, "Copy manager of {}", safe(&m.unit));
    for other in alike.iter().skip(1) {
        line(t, "the same of", &other.unit);
    }
    if let Some(why) = &m.refused {
        line(t, "Of no use", why);
    }
    if let Some(l) = &m.limits {
        limits(t, l);
    }
    for leg in &m.legs {
        let text = match (leg.reached, &leg.why) {
            (Some(true), _) => format!("{}: yes", leg.unit),
            (Some(false), Some(why)) => format!("{}: no, {why}", leg.unit),
            (Some(false), None) => format!("{}: no", leg.unit),
            (None, _) => format!("{}: not tried, it offers no way to", leg.unit),
        };
        line(t, "Reaches", &text);
    }
    t.push('\n');
}

fn limits(t: &mut String, l: &Limits) {
    let hex = |codes: &mut dyn Iterator<Item = &u8>| {
        let list: Vec<String> = codes.map(|c| format!("{c:02X}")).collect();
        match list.is_empty() {
            true => "none".to_owned(),
            false => list.join(" "),
        }
    };
    line(
        t,
        "Segment types",
        &hex(&mut l.codes.iter().filter(|c| **c < 0xe0)),
    );
    line(
        t,
        "Unit types",
        &hex(&mut l.codes.iter().filter(|c| **c >= 0xe0)),
    );
    line(t, "Copies", &ways(l));
    let sizes = format!(
        "{}, {}, lists of {} bytes",
        count(l.cscds.into(), "unit"),
        count(l.segments.into(), "segment"),
        l.list_bytes
    );
    line(t, "Of a command", &sizes);
    let no_limit = |n: u64| match n {
        0 => "no limit".to_owned(),
        n => bytes(n),
    };
    line(t, "Of a segment", &no_limit(l.segment_bytes));
    line(t, "Inline data", &bytes(l.inline_bytes));
    line(t, "Held data", &bytes(l.held_bytes));
    line(t, "Of a tape block", &no_limit(l.stream_transfer));
    let units = format!(
        "data {}, inline {}, held {} bytes",
        l.data_unit(),
        l.inline_unit(),
        1u64 << l.held_granularity.min(62)
    );
    line(t, "Granularity", &units);
}

/// From what to what it copies, by the segment types that it lists.
fn ways(l: &Limits) -> String {
    let has = |codes: [u8; 2]| codes.iter().any(|c| l.has(*c));
    let (backup, restore) = (has([0x00, 0x0b]), has([0x01, 0x0c]));
    let disks = has([0x02, 0x0a]);
    match (backup, restore, disks) {
        (false, false, false) => "neither disks nor tapes".into(),
        (false, false, true) => "disk to disk only, no tape".into(),
        _ => {
            let all = [
                (backup, "disk to tape"),
                (restore, "tape to disk"),
                (disks, "disk to disk"),
            ];
            let named: Vec<&str> = all.iter().filter(|(h, _)| *h).map(|(_, n)| *n).collect();
            named.join(", ")
        }
    }
}

fn offloads(t: &mut String, all: &[Offload]) {
    if all.is_empty() {
        t.push_str("There is no pair of a disk and a tape among these devices.\n");
        return;
    }
    let yes = |a: &Answer| if a.possible { "yes" } else { "no" }.to_owned();
    let head = [
        "Disk",
        "Tape",
        "Backup",
        "Restore",
        "Single files",
        "Moved by",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for o in all {
        let by = o
            .manager
            .as_deref()
            .filter(|_| o.backup.possible || o.restore.possible);
        rows.push(vec![
            safe(&o.disk),
            safe(&o.tape),
            yes(&o.backup),
            yes(&o.restore),
            yes(&o.files),
            safe(by.unwrap_or("the host")),
        ]);
    }
    t.push_str("Can be offloaded\n");
    t.push_str(&table(&rows, &[]));
    for o in all {
        for (what, a) in [("Backup", &o.backup), ("Restore", &o.restore)] {
            if let Some(why) = &a.why {
                let _ = writeln!(t, "  {what} of {}: no, {}", safe(&o.disk), safe(why));
            }
        }
        if let Some(tried) = &o.trial {
            trial(t, o, tried);
        }
    }
}

fn trial(t: &mut String, o: &Offload, tried: &Trial) {
    let said = |a: &Answer| match &a.why {
        None => "worked".to_owned(),
        Some(why) => format!("failed ({})", safe(why)),
    };
    let back = match (&tried.from_tape, tried.wrote_disk) {
        (Some(a), true) => format!("back to the disk {}", said(a)),
        (Some(a), false) => format!(
            "back from the tape, without writing to the disk, {}",
            said(a)
        ),
        (None, _) => "the way back was not tried".to_owned(),
    };
    let _ = writeln!(
        t,
        "  Test copy of {}: to the tape {}; {back}",
        safe(&o.disk),
        said(&tried.to_tape)
    );
}

#[cfg(test)]
mod tests {
    use super::ways;
    use crate::copy::profile::find;

    #[test]
    fn segment_types_say_between_what_it_copies() {
        let of = |name: &str| ways(&find(name).unwrap().announced);
        assert_eq!(of("lio"), "disk to disk only, no tape");
        assert_eq!(of("xp-dbe"), "disk to tape, disk to disk");
        assert_eq!(of("nofm"), "disk to tape, tape to disk");
    }
}
