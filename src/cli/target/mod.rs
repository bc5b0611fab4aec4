//! `target`: serves disks, tape drives and a changer over iSCSI, with a copy
//! manager behind them, until it is told to end.

mod snapshots;
mod units;

use super::console::Console;
use super::exit::{Exit, TABLE};
use crate::copy::profile::DEFAULT;
use crate::error::{Error, Result};
use crate::iscsi::chap::Credentials;
use crate::tape::cartridge::Cartridge;
use crate::target::changer::Changer;
use crate::target::common::Identity;
use crate::target::disk::Backing;
use crate::target::tape::TapeDrive;
use crate::target::{
    CopyManager, CopyProfile, Device, DiskUnit, Server, ServerConfig, Unit, UnitSet,
};
use crate::units::human_bytes;
use clap::Args;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use units::{Kind, UnitArgs, UnitSpec};

/// Shortest secret that other initiators take, in bytes (RFC 7143).
const SHORTEST_SECRET: usize = 12;

/// Serve disks, tape drives and a medium changer over iSCSI
///
/// A copy manager stands behind them: EXTENDED COPY moves data between them. The units are numbered from LUN 0 in the order of the options. The address
/// of each is printed when it can be used. An interrupt ends the service when
/// everything that was written is on the medium.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  ntbak target --disk system=disk.img --tape drive=cartridge.tap,size=100G
  ntbak target --disk data=/dev/sdb,ro --listen 0.0.0.0 --chap backup:averylongsecret
  ntbak target --disk a=a.img --tape t --changer c=cartridges,slots=4,size=10G
  ntbak target --disk a=a.img --disk b=b.img,block=4096 --listen 127.0.0.1:0 --json
  ntbak target --disk live=/dev/vg/data --snapshot-dir /var/spool/ntbak --tape t=t.tap

{TABLE}"))]
pub struct TargetArgs {
    #[command(flatten)]
    units: UnitArgs,
    /// Address and port; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3260")]
    listen: String,
    /// What an initiator must know to come in; @FILE takes it from a file
    #[arg(long, value_name = "USER:SECRET", value_parser = chap)]
    chap: Option<Credentials>,
    /// iSCSI name of the target
    #[arg(long, value_name = "IQN", value_parser = iscsi_name,
        default_value = "iqn.2026-11.org.ntbak:target")]
    name: String,
    /// Copy manager to impersonate, and what it is to do wrong
    ///
    /// A profile such as full-ntbak, router-spc2 or tiny; behind it faults such as
    /// fail=segment:3@65536:source, busy=1 or late-status=500 (docs/copy.md).
    #[arg(long, value_name = "NAME[,FAULT]", default_value = DEFAULT)]
    profile: String,
    /// Folder for what snapshots of the disks keep
    ///
    /// A snapshot of a disk (docs/copy.md section 7) keeps what the disk no longer has in a file without a name: beside the
    /// disk, or with the temporary files for a block device, when no folder is given. Where the file system of the disk
    /// shares blocks between files, nothing is kept there.
    #[arg(long, value_name = "DIR")]
    snapshot_dir: Option<PathBuf>,
}

fn chap(text: &str) -> Result<Credentials, String> {
    let from_file;
    let text = match text.strip_prefix('@') {
        Some(path) => {
            from_file = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
            from_file.lines().next().unwrap_or_default()
        }
        None => text,
    };
    match text.split_once(':') {
        Some((user, secret)) if !user.is_empty() && secret.len() >= SHORTEST_SECRET => {
            Ok(Credentials {
                user: user.into(),
                secret: secret.into(),
            })
        }
        Some((user, _)) if !user.is_empty() => Err(format!(
            "a secret has at least {SHORTEST_SECRET} characters"
        )),
        _ => Err("expected USER:SECRET".into()),
    }
}

/// Letters in lower case, digits, dot, dash and colon, as RFC 3722 has them.
fn iscsi_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-:".contains(c);
    let kind = ["iqn.", "eui.", "naa."].iter().any(|k| text.starts_with(k));
    match kind && text.len() > 4 && text.len() <= 223 && text.chars().all(fits) {
        true => Ok(text.into()),
        false => Err(
            "expected a name such as iqn.2026-11.org.example:name, in lower case, at most 223 characters"
                .into(),
        ),
    }
}

/// With the port of iSCSI when there is none.
fn with_port(address: &str) -> String {
    let bare = match address.strip_prefix('[') {
        Some(v6) => v6.ends_with(']'),
        None => !address.contains(':'),
    };
    match bare {
        true => format!("{address}:3260"),
        false => address.into(),
    }
}

#[derive(Serialize)]
struct Row<'a> {
    lun: u16,
    kind: &'a str,
    name: &'a str,
    url: &'a str,
    path: String,
    bytes: Option<u64>,
    block_size: Option<u32>,
    read_only: bool,
    naa: String,
}

#[derive(Serialize)]
struct Served<'a> {
    lun: u16,
    name: &'a str,
    read_commands: u64,
    write_commands: u64,
    blocks_read: u64,
    blocks_written: u64,
}

/// Opens everything, serves, and ends in good order.
pub fn run(args: &TargetArgs, console: &Console) -> Result<Exit> {
    let specs = &args.units.0;
    if specs.is_empty() {
        return Err(
            Error::usage("There is no unit to serve").hint("give at least one --disk NAME=FILE")
        );
    }
    let profile = CopyProfile::parse(&args.profile)?;
    let mut config = ServerConfig::new(with_port(&args.listen), &*args.name);
    config.chap.clone_from(&args.chap);
    let listener = Server::bind(&config)?;
    let mut made = Made::default();
    let devices = open(args, &mut made, console)?;
    let copies = Arc::new(CopyManager::new(profile));
    let units = Arc::new(UnitSet::new(&args.name, devices, Some(copies))?);
    if let Some(folder) = &args.snapshot_dir {
        units.roster().keep_in(&checked(folder)?);
    }
    let server = Server::start_on(listener, config, units.clone())?;
    made.keep();
    let announced = announce(args, console, &server, &units);
    // Whoever reads the addresses may leave; the service goes on.
    if let Err(e) = announced
        && !console.reader_left()
        && !console.cancel_flag().is_set()
    {
        server.shutdown()?;
        return Err(e);
    }
    let stop = console.cancel_flag();
    let place = |lun| url(server.address(), &args.name, lun);
    while !stop.is_set() {
        snapshots::tell(console, units.roster(), place);
        std::thread::sleep(Duration::from_millis(50));
    }
    let address = server.address();
    server.shutdown()?;
    snapshots::tell(console, units.roster(), |lun| url(address, &args.name, lun));
    report(console, &units);
    Ok(Exit::Done)
}

/// A folder that files without a name can be made in.
fn checked(folder: &Path) -> Result<PathBuf> {
    let name = folder.display().to_string();
    Backing::unnamed(folder).map_err(|e| {
        Error::io("Cannot keep snapshots there", e)
            .of(&*name)
            .hint("--snapshot-dir takes a folder on a local file system with room")
    })?;
    folder
        .canonicalize()
        .map_err(|e| Error::io("Cannot keep snapshots there", e).of(name))
}

/// New cartridges of drives: a target that cannot begin leaves none.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Made {
    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in &self.0 {
            // It stays when it cannot be removed: an empty cartridge does no harm.
            let _ = Cartridge::remove_empty(path);
        }
    }
}

/// Opens what stands behind the units, in their order. A changer serves all the
/// drives, so it is made when they are there.
fn open(
    args: &TargetArgs,
    made: &mut Made,
    console: &Console,
) -> Result<Vec<(String, Arc<dyn Device>)>> {
    let specs = &args.units.0;
    if specs.iter().filter(|s| s.kind == Kind::Changer).count() > 1 {
        return Err(Error::usage("There are two changers for the same drives")
            .hint("give one --changer only"));
    }
    let mut drives = Vec::new();
    let mut devices: Vec<Option<Arc<dyn Device>>> = Vec::new();
    for spec in specs {
        devices.push(match spec.kind {
            Kind::Disk => {
                let disk = DiskUnit::open(&spec.path, spec.disk()?);
                Some(Arc::new(disk.map_err(|e| spec.about_commas(e))?))
            }
            Kind::Tape => {
                let drive = Arc::new(TapeDrive::new(cartridge(spec, made, console)?)?);
                drives.push((drive.clone(), Identity::new(&args.name, &spec.name)));
                Some(drive)
            }
            Kind::Changer => None,
        });
    }
    let mut out = Vec::new();
    for (spec, device) in specs.iter().zip(devices) {
        let device = match device {
            Some(d) => d,
            None => Arc::new(Changer::open(&spec.path, spec.changer()?, drives.clone())?),
        };
        out.push((spec.name.clone(), device));
    }
    Ok(out)
}

/// The cartridge that is in a drive at first.
fn cartridge(spec: &UnitSpec, made: &mut Made, console: &Console) -> Result<Option<Cartridge>> {
    let (capacity, writable) = spec.tape()?;
    if spec.path.as_os_str().is_empty() {
        return Ok(None);
    }
    let is_new = writable && !spec.path.exists();
    let c = Cartridge::open_or_create(&spec.path, capacity, writable)
        .map_err(|e| spec.about_commas(e))?;
    if is_new {
        made.0.push(spec.path.clone());
    }
    let torn = c.opened().torn;
    if torn != 0 {
        let what = match writable {
            true => "and were cut off",
            false => "and are not served",
        };
        console.caution(
            "torn",
            &format!(
                "{}: The last {torn} bytes were no complete record {what}",
                c.name()
            ),
        );
    }
    Ok(Some(c))
}

fn announce(args: &TargetArgs, console: &Console, server: &Server, units: &UnitSet) -> Result<()> {
    let mut text = String::new();
    for (unit, spec) in units.units().iter().zip(&args.units.0) {
        let url = url(server.address(), &args.name, unit.lun());
        let disk = unit.device_as::<DiskUnit>();
        let bytes = disk.map(|d| d.blocks() * u64::from(d.block_size()));
        let row = Row {
            lun: unit.lun(),
            kind: spec.kind.word(),
            name: &spec.name,
            url: &url,
            path: spec.path.display().to_string(),
            bytes,
            block_size: disk.map(DiskUnit::block_size),
            read_only: unit.protected(),
            naa: unit
                .identity()
                .naa()
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect(),
        };
        if console.json() {
            console.row("unit", &row)?;
        } else {
            let size = bytes.map_or(String::new(), |b| format!(", {}", human_bytes(b)));
            let ro = if row.read_only { ", read-only" } else { "" };
            text.push_str(&format!("{url}  {} {}{size}{ro}\n", row.kind, row.name));
        }
    }
    console.put(text.as_bytes())?;
    console.finish()
}

/// The address of a unit. One that listens everywhere is reached on this machine
/// by its loopback address.
fn url(address: SocketAddr, name: &str, lun: u16) -> String {
    let port = address.port();
    let host = match address {
        SocketAddr::V4(a) if a.ip().is_unspecified() => "127.0.0.1".into(),
        SocketAddr::V6(a) if a.ip().is_unspecified() => "[::1]".into(),
        SocketAddr::V4(a) => a.ip().to_string(),
        SocketAddr::V6(a) => format!("[{}]", a.ip()),
    };
    format!("iscsi://{host}:{port}/{name}/{lun}")
}

fn report(console: &Console, units: &UnitSet) {
    for unit in units.units().iter() {
        let c = unit.statistics().counted();
        let served = Served {
            lun: unit.lun(),
            name: unit.identity().name(),
            read_commands: c.reads,
            write_commands: c.writes,
            blocks_read: c.blocks_read,
            blocks_written: c.blocks_written,
        };
        if console.json() {
            console.tell("served", &served);
        }
        console.note_line(&words(unit, &served));
    }
}

fn words(unit: &Unit, s: &Served<'_>) -> String {
    format!(
        "LUN {} {}: {} blocks read by {} commands, {} written by {}",
        s.lun,
        unit.identity().name(),
        s.blocks_read,
        s.read_commands,
        s.blocks_written,
        s.write_commands
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(with_port("0.0.0.0"), "0.0.0.0:3260");
        assert_eq!(with_port("127.0.0.1:0"), "127.0.0.1:0");
        assert_eq!(with_port("[::1]"), "[::1]:3260");
        assert_eq!(with_port("[::1]:9"), "[::1]:9");
        let at = |a: &str| url(a.parse().unwrap(), "iqn.x", 2);
        assert_eq!(at("0.0.0.0:9"), "iscsi://127.0.0.1:9/iqn.x/2");
        assert_eq!(at("[::1]:9"), "iscsi://[::1]:9/iqn.x/2");
    }

    #[test]
    fn names_and_secrets() {
        assert!(iscsi_name("iqn.2026-11.org.ntbak:a").is_ok());
        for bad in ["", "iqn.", "disk", "iqn.A", "iqn.a b", &"iqn.".repeat(60)] {
            assert!(iscsi_name(bad).is_err(), "{bad}");
        }
        assert!(chap("user:0123456789ab").is_ok());
        for bad in ["user", ":0123456789ab", "user:short", "@/does/not/exist"] {
            assert!(chap(bad).is_err(), "{bad}");
        }
    }
}
