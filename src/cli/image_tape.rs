//! `image` to tape: who moves the data, and what is told afterwards.

use super::console::Console;
use super::text::{bytes, count, duration, percent, rate, safe};
use super::values::MoverChoice;
use crate::archive::ArchiveId;
use crate::device::SpillSource;
use crate::error::{Error, ErrorKind, Result};
use crate::iscsi::Traffic;
use crate::observe::Silent;
use crate::ops::engine::{Engine, Way};
use crate::ops::image::{ImageOptions, ImagePlan, Mover, TapeSummary, TapeTarget, image_to_tape};
use crate::ops::place::{Places, ReadPlace};
use crate::ops::recall::facts;
use crate::tape::{Drive, Id, Note, ScsiDrive, Wanted};
use crate::units::human_bytes;
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the command line says about the tape.
pub struct TapeChoice {
    pub label: Option<String>,
    pub block_bytes: Option<u32>,
}

/// A backup to tape with what went over the wire.
#[derive(Serialize)]
struct SummaryRow<'a> {
    source: &'a str,
    archive: &'a str,
    state: &'static str,
    #[serde(flatten)]
    summary: &'a TapeSummary,
    kept_bytes: u64,
    host_data_in: u64,
    host_data_out: u64,
    seconds: f64,
    bytes_per_second: u64,
    warnings: u64,
}

/// The engine that will move the data, or why the host does.
pub fn engine(
    places: &mut Places,
    source: &Path,
    plan: &ImagePlan,
    place: &ReadPlace,
    drive: &ScsiDrive,
    mover: MoverChoice,
    console: &Console,
) -> Result<Option<Engine>> {
    if mover == MoverChoice::Host {
        remark(console, Mover::Host, "asked for");
        return Ok(None);
    }
    let sector = place.opened.source.sector_size();
    let found = match &place.unit {
        Some(u) => Engine::find(&u.unit, drive.unit(), sector, Way::Backup),
        None => disk_behind(places, source, place)
            .and_then(|u| Engine::find(&u, drive.unit(), sector, Way::Backup)),
    };
    let found = found.and_then(|e| plan.check_granularity(&e.limits).map(|()| e));
    match found {
        Ok(e) => {
            remark(
                console,
                Mover::CopyManager,
                &format!("the copy manager of {} can", e.name()),
            );
            Ok(Some(e))
        }
        Err(e) if mover == MoverChoice::CopyManager => Err(e),
        Err(e) => {
            remark(console, Mover::Host, &e.to_string());
            Ok(None)
        }
    }
}

#[derive(Serialize)]
struct MoverRow<'a> {
    mover: Mover,
    why: &'a str,
}

/// Says who moves the data, and why.
pub fn remark(console: &Console, mover: Mover, why: &str) {
    if console.json() {
        return console.tell("mover", &MoverRow { mover, why });
    }
    let who = match mover {
        Mover::CopyManager => "by the copy manager",
        Mover::Host => "through this machine",
    };
    console.say(&format!("Data moves {who}: {}\n", safe(why)));
}

/// The unit behind a whole disk of the kernel's.
fn disk_behind(places: &mut Places, source: &Path, place: &ReadPlace) -> Result<crate::scsi::Unit> {
    let whole = place.opened.identity.kind == crate::device::SourceKind::Disk;
    match source.to_str().filter(|_| whole) {
        Some(text) => Ok(places.unit(text)?.unit),
        None => Err(Error::unsupported(
            "The source is no SCSI disk that a copy manager could reach",
        )
        .of(source.display().to_string())),
    }
}

/// Executes the plan.
#[allow(clippy::too_many_arguments)]
pub fn run(
    plan: &mut ImagePlan,
    choice: &TapeChoice,
    mut drive: ScsiDrive,
    engine: Option<Engine>,
    spill: Option<Arc<SpillSource>>,
    places: &Places,
    options: &ImageOptions,
    console: &Console,
) -> Result<TapeSummary> {
    let name = drive.name().to_string();
    let started = Instant::now();
    let mut media = places.media(drive.unit())?;
    let facts = facts(&plan.head(ArchiveId([0; 16])));
    if options.resume {
        // A blank cartridge holds nothing to go on with.
        places.bring_unfinished(&mut drive, &mut *media, &facts.plan)?;
    } else if drive.info().is_err_and(|e| e.kind() == ErrorKind::NotFound) {
        let first = Wanted::Blank {
            set: Id([0; 16]),
            sequence: 1,
        };
        media.change(&mut drive, &first, 0)?;
    }
    let note: Note = {
        // What cannot be remembered is told at the end.
        let (recall, facts) = (places.recall().clone(), facts.clone());
        Box::new(move |parts| recall.record(parts, Some(&facts), false, &Silent))
    };
    let target = TapeTarget {
        media,
        drive: Box::new(drive),
        engine,
        label: choice.label.clone(),
        block_bytes: choice.block_bytes,
        spill,
        note: Some(note),
    };
    let summary = image_to_tape(plan, target, options, console)?;
    let recall = places.recall();
    recall.record(&summary.cartridges, Some(&facts), true, console);
    tell(
        plan,
        &name,
        &summary,
        places.traffic(),
        started.elapsed(),
        console,
    );
    Ok(summary)
}

fn tell(
    plan: &ImagePlan,
    tape: &str,
    s: &TapeSummary,
    wire: Traffic,
    time: Duration,
    console: &Console,
) {
    let kept = plan
        .bytes_to_read(false)
        .saturating_sub(s.image.totals.unreadable_bytes);
    let seen = s.mover == Mover::Host;
    if console.json() {
        let row = SummaryRow {
            source: &plan.source.path,
            archive: tape,
            state: "written",
            summary: s,
            kept_bytes: kept,
            host_data_in: wire.data_in,
            host_data_out: wire.data_out,
            seconds: time.as_secs_f64(),
            bytes_per_second: rate(kept, time),
            warnings: console.warnings(),
        };
        return console.tell("summary", &row);
    }
    let mut t = format!(
        "Written: {}, {} in blocks of {}, {} kept\n",
        safe(tape),
        bytes(s.image.archive_bytes),
        human_bytes(u64::from(s.block_bytes)),
        bytes(kept)
    );
    let _ = writeln!(
        t,
        "  Time         {}, {}/s",
        duration(time),
        human_bytes(rate(kept, time))
    );
    t += &moved(s.copied_bytes, s.commands, wire);
    for p in &s.cartridges {
        let _ = writeln!(
            t,
            "  Cartridge    {} {:?}, {}",
            p.sequence(),
            p.label.name,
            human_bytes(p.end() - p.start())
        );
    }
    let _ = writeln!(t, "  Set          {}", s.image.id);
    let _ = writeln!(t, "  Digest       blake3 {} of the headers", s.image.digest);
    for u in &s.image.unreadable {
        let _ = writeln!(t, "  Unreadable   {}", safe(&u.to_string()));
        for f in u.files.iter().skip(1) {
            let _ = writeln!(t, "               {}", safe(f));
        }
    }
    t += match seen {
        true => "Not verified: the tape was written and not read back\n",
        false => {
            "Not verified: nobody but the copy manager has seen the data; ntbak verify reads it back\n"
        }
    };
    console.say(&t);
}

/// What the copy manager moved, and what passed through this machine.
pub fn moved(copied: u64, commands: u64, wire: Traffic) -> String {
    let through = wire.data_in + wire.data_out;
    let mut t = String::new();
    if commands > 0 {
        let _ = writeln!(
            t,
            "  Copied       {} by the copy manager, in {}",
            bytes(copied),
            count(commands, "command")
        );
    }
    if through > 0 {
        let _ = writeln!(
            t,
            "  Through here {} in, {} out{}",
            bytes(wire.data_in),
            human_bytes(wire.data_out),
            match commands {
                0 => String::new(),
                _ => format!(", {:.2} % of what was copied", percent(through, copied)),
            }
        );
    }
    t
}
