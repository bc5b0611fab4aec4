//! `restore` from tape to a SCSI disk by a copy manager.

use super::console::Console;
use super::damage;
use super::exit::Exit;
use super::image_tape::{moved, remark};
use super::restore::target::{Reading, Target, There, before, journal, journal_path};
use super::restore::{RestoreArgs, is_unit, not_without_yes, resumable, tell_plan, wishes};
use super::text::{bytes, duration, rate, safe};
use super::values::MoverChoice;
use crate::archive::{Archive, Forward};
use crate::device::{SharedSource, Sink, Source, SpillSource};
use crate::error::{Error, Result};
use crate::iscsi::Traffic;
use crate::ops::damage::name_files;
use crate::ops::engine::{Engine, Way};
use crate::ops::image::Mover;
use crate::ops::pipeline::default_threads;
use crate::ops::place::Places;
use crate::ops::recall::Seen;
use crate::ops::restore::{self, Frame, Journal, RestoreOptions, RestorePlan, Subject, replace};
use crate::ops::restore_tape::{OffloadSummary, can_offload, restore_offloaded};
use crate::ops::stream::StreamReader;
use crate::ops::verify::{Checked, Comparison, VerifyOptions, check};
use crate::tape::{Digests, TapeSource};
use crate::units::human_bytes;
use serde::Serialize;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Serialize)]
struct SummaryRow<'a> {
    archive: String,
    target: String,
    /// `written` or `verified`: never more than was checked.
    state: &'static str,
    #[serde(flatten)]
    summary: &'a OffloadSummary,
    comparison: Option<&'a Comparison>,
    host_data_in: u64,
    host_data_out: u64,
    seconds: f64,
    bytes_per_second: u64,
    warnings: u64,
}

/// Restores, where a copy manager can. None: the host has to. `spill` keeps what
/// is read of the tape while the plan is made.
pub fn run(
    args: &RestoreArgs,
    places: &mut Places,
    tape: &Arc<TapeSource>,
    archive: &Arc<Archive>,
    seen: &Seen,
    spill: Option<&SpillSource>,
    console: &Console,
) -> Result<Option<Exit>> {
    let forced = args.mover == MoverChoice::CopyManager;
    if args.mover == MoverChoice::Host {
        remark(console, Mover::Host, "asked for");
        return Ok(None);
    }
    if args.into.is_some() {
        let e = Error::usage("Only this machine restores into a partition of a disk");
        if forced {
            return Err(e.hint("leave --mover or --into out"));
        }
        remark(console, Mover::Host, e.message());
        return Ok(None);
    }
    let Some(text) = args.target.to_str().filter(|_| is_unit(&args.target)) else {
        let e = Error::unsupported("The target is no logical unit that a copy manager writes");
        if forced {
            return Err(e.of(args.target.display().to_string()));
        }
        remark(console, Mover::Host, e.message());
        return Ok(None);
    };
    let (disk, unit) = places.disk_to_write(text)?;
    let drive = places.unit(&args.archive.display().to_string())?;
    let found = match can_offload(archive) {
        true => Engine::find(
            &unit.unit,
            &drive.unit,
            Sink::sector_size(&disk),
            Way::Restore,
        ),
        false => Err(Error::unsupported(
            "the host wrote this tape, compressed, or its index does not say where the clusters are",
        )),
    };
    let mut engine = match found {
        Ok(e) => e,
        Err(e) if forced => return Err(e),
        Err(e) => {
            remark(console, Mover::Host, &e.to_string());
            return Ok(None);
        }
    };
    remark(
        console,
        Mover::CopyManager,
        &format!("the copy manager of {} can", engine.name()),
    );
    let there = There::unit(disk, unit.unit.identity()?.serial.clone())?;
    let journal_at = journal_path(args, Some(&there));
    let before = before(args, &journal_at, &archive.head().id)?.map(|b| b.decided);
    let wishes = wishes(args, Frame::Device(there.sink.len()), true);
    let new = replace(archive, &wishes, None, before.as_ref(), console)
        .map_err(|e| e.of(args.archive.display().to_string()))?;
    if let Some(s) = spill {
        s.freeze();
    }
    let plan = &new.plan;
    let sectors = Some(there.sink.sector_size());
    tell_plan(args, &new, archive.head(), sectors, console);
    plan.fits(&*there.sink)?;
    if args.dry_run {
        console.end_of_dry_run();
        return Ok(Some(Exit::Done));
    }
    if !args.yes {
        return Err(not_without_yes(args));
    }
    let options = RestoreOptions {
        threads: args.threads.unwrap_or_else(default_threads),
        zero_free: args.zero_free,
        partial: args.partial,
        verify: args.verify,
    };
    let started = Instant::now();
    let target = Target::There(there);
    let subject = Subject {
        archive: archive.head().id.clone(),
        plan: plan.digest(options.zero_free, &wishes)?,
        target: target.id(),
        decided: new.decided.clone(),
    };
    let mut journal = journal(args, journal_at, &subject, console)?;
    let summary = restore_offloaded(
        archive,
        tape,
        &mut engine,
        plan,
        target.sink(),
        &options,
        journal.as_mut(),
        console,
    )
    .map_err(|e| resumable(e, journal.is_some()))?;
    let checked = match args.verify {
        true => Some(read_back(
            tape.clone(),
            seen,
            target.sink(),
            plan,
            &options,
            console,
        )?),
        false => None,
    };
    if summary.lost.is_empty() || args.partial {
        journal.map_or(Ok(()), Journal::remove)?;
    }
    let mut damage = Vec::new();
    if let Some(c) = checked.as_ref().filter(|c| !c.fresh.is_empty()) {
        places.recall().store(&c.fresh, console);
    }
    let comparison = checked.map(|c| {
        damage = c.outcome.damage;
        c.comparison.unwrap_or_default()
    });
    name_files(archive, &mut damage, console);
    damage::tell(&damage, console);
    tell(
        args,
        &summary,
        comparison.as_ref(),
        damage.is_empty(),
        places.traffic(),
        started.elapsed(),
        console,
    );
    Ok(Some(match () {
        _ if !summary.lost.is_empty() || !damage.is_empty() => Exit::Mismatch,
        _ if comparison.is_some_and(|c| !c.is_equal()) => Exit::Mismatch,
        _ if summary.unreadable_bytes > 0 => Exit::Gaps,
        _ => Exit::Done,
    }))
}

/// Compares the disk with the tape: all of it passes this machine.
fn read_back(
    tape: SharedSource,
    seen: &Seen,
    disk: &dyn Sink,
    plan: &RestorePlan,
    options: &RestoreOptions,
    console: &Console,
) -> Result<Checked> {
    if plan.changes() {
        let mut reader =
            StreamReader::new(Forward::new(tape.clone(), 0)).with_read_back(seen.read_back());
        reader.begin().map_err(|e| e.of(tape.name()))?;
        let (outcome, differing) = restore::read_back(reader, plan, disk, options, console)?;
        return Ok(Checked {
            fresh: Digests::new(seen.digests.set()),
            comparison: Some(Comparison {
                compared_bytes: outcome.checked_bytes
                    + outcome.read_back_bytes
                    + outcome.unverified_bytes,
                differing,
                unreadable: Vec::new(),
            }),
            outcome,
        });
    }
    let base = |region: u16| plan.landing(region).map(|l| l.base);
    let options = VerifyOptions {
        threads: options.threads,
    };
    let disk = Reading(disk);
    let against = Some((&disk as &dyn Source, base));
    check(tape, &seen.digests, against, &options, console)
}

fn tell(
    args: &RestoreArgs,
    s: &OffloadSummary,
    c: Option<&Comparison>,
    sound: bool,
    wire: Traffic,
    time: Duration,
    console: &Console,
) {
    let verified = sound && c.is_some_and(Comparison::is_equal) && s.lost.is_empty();
    let all = s.copied_bytes + s.host_bytes;
    if console.json() {
        let row = SummaryRow {
            archive: args.archive.display().to_string(),
            target: args.target.display().to_string(),
            state: if verified { "verified" } else { "written" },
            summary: s,
            comparison: c,
            host_data_in: wire.data_in,
            host_data_out: wire.data_out,
            seconds: time.as_secs_f64(),
            bytes_per_second: rate(all, time),
            warnings: console.warnings(),
        };
        return console.tell("summary", &row);
    }
    let mut t = format!(
        "Restored: {}, {} in {}, {}/s\n",
        safe(&args.target.display().to_string()),
        bytes(all),
        duration(time),
        human_bytes(rate(all, time))
    );
    t += &moved(s.copied_bytes, s.commands, wire);
    if s.resumed_bytes > 0 {
        let _ = writeln!(
            t,
            "  Taken over   {}, written by an earlier run",
            bytes(s.resumed_bytes)
        );
    }
    if s.unreadable_bytes > 0 {
        let _ = writeln!(
            t,
            "  Unreadable   {} were so when the backup was made; they are zeros",
            bytes(s.unreadable_bytes)
        );
    }
    if s.skipped_bytes > 0 {
        let _ = writeln!(
            t,
            "  Left out     {}, they are zeros",
            bytes(s.skipped_bytes)
        );
    }
    for r in &s.lost {
        let _ = writeln!(
            t,
            "  Lost         {} at {:#x}: the tape did not give them",
            bytes(r.len()),
            r.start
        );
    }
    t += match c {
        Some(_) if !sound => "Not verified: the tape is damaged, see the warnings\n",
        Some(c) if c.is_equal() => "Verified: the disk was compared with the tape and is equal\n",
        Some(_) => "Not verified: the disk differs from the tape\n",
        None => "Not verified: the disk was written and not read back\n",
    };
    console.say(&t);
}
