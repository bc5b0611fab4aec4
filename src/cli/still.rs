//! Options about the quiet period and the snapshot, and what is told of them.

use super::console::Console;
use super::tapes::TapeOptions;
use super::text::{count, safe};
use crate::error::{Error, Result};
use crate::iscsi::without_secret;
use crate::ops::still::{Still, StillOptions, check_times};
use crate::snapshot::{Choice, Records, Wishes};
use crate::tape::Inventory;
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Quiet period and snapshot.
#[derive(Debug, Args)]
#[command(next_help_heading = "Quiet period and snapshot")]
pub struct StillArgs {
    /// Wait until nothing was written for so long, such as 3s or 500ms; 0: do not wait
    /// [default: 3s before a snapshot, else 0]
    #[arg(id = "quiet_period", long = "quiet", value_name = "TIME", value_parser = time,
        allow_hyphen_values = true)]
    quiet: Option<Duration>,
    /// Give up, with exit code 6 and nothing written, when it was not quiet by then
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "80s")]
    quiet_timeout: Duration,
    /// Wait again, within the same time, when a write slipped in before the snapshot
    #[arg(long)]
    quiet_strict: bool,
    /// Read a snapshot instead of the source: auto, none, reflink, btrfs, lvm, dm, zfs,
    /// qmp, target or command:PROGRAM [default: auto for a source that is mounted
    /// writable, else none]
    #[arg(long, value_name = "WAY")]
    snapshot: Option<Choice>,
    /// Do not delete the snapshot afterwards, and name it
    #[arg(long)]
    keep_snapshot: bool,
    /// Room for changes in a snapshot of lvm or dm
    /// [default: a fifth of the source, at least 64M]
    #[arg(long, value_name = "SIZE", value_parser = super::values::size)]
    snapshot_size: Option<u64>,
    /// Directory for files that belong to a snapshot (reflink, dm, qmp)
    /// [default: that of the image file]
    #[arg(long, value_name = "DIR")]
    snapshot_dir: Option<PathBuf>,
    /// Socket of the QEMU that writes the image, for --snapshot qmp
    #[arg(long, value_name = "SOCKET")]
    qmp: Option<PathBuf>,
}

/// A time: `3s`, `500ms`, `1.5s`, `2m`; a bare number is seconds.
pub fn time(text: &str) -> std::result::Result<Duration, String> {
    let wrong = || "expected a time, such as 3s, 500ms, 1.5s or 2m".to_string();
    let at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let scale = match unit {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" | "min" => 60.0,
        _ => return Err(wrong()),
    };
    let seconds: f64 = number.parse().map_err(|_| wrong())?;
    let seconds = seconds * scale;
    match seconds.is_finite() && (0.0..=86_400.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err("expected at most 24 hours".into()),
    }
}

impl StillArgs {
    /// Does the words make sense together?
    pub fn check(&self, resume: bool, dry_run: bool) -> Result<()> {
        let quiet = self.quiet.unwrap_or(crate::ops::still::QUIET);
        let taken = !matches!(self.snapshot, None | Some(Choice::None));
        if self.quiet.is_some() || taken {
            check_times(quiet, self.quiet_timeout)?;
        }
        if self.quiet_strict && quiet.is_zero() {
            return Err(Error::usage(
                "--quiet-strict needs a quiet period to wait for",
            ));
        }
        if resume && taken {
            return Err(Error::usage(
                "A snapshot is of another moment than what is there of the archive",
            )
            .hint("begin anew, or name a snapshot that was kept as the source"));
        }
        if dry_run && self.keep_snapshot {
            return Err(Error::usage(
                "A dry run takes no snapshot that could be kept",
            ));
        }
        Ok(())
    }

    /// For the job.
    pub fn options(&self, live: bool, tapes: &TapeOptions, console: &Console) -> StillOptions {
        StillOptions {
            choice: self.snapshot.clone(),
            quiet: self.quiet,
            timeout: self.quiet_timeout,
            strict: self.quiet_strict,
            wishes: Wishes {
                dir: self.snapshot_dir.clone(),
                size: self.snapshot_size,
                qmp: self.qmp.clone(),
                cancel: Some(console.cancel_flag()),
            },
            keep: self.keep_snapshot,
            live,
            records: records(tapes.inventory.as_deref()),
        }
    }

    /// A dry run waits for nothing and takes nothing.
    pub fn is_asked(&self) -> bool {
        self.quiet.is_some() || self.snapshot.is_some()
    }

    /// Deletes the snapshot, or names what is kept.
    pub fn end(&self, still: Still, tapes: &TapeOptions, console: &Console) {
        let Some(name) = still.name().cloned() else {
            return;
        };
        let (label, place) = match still.made() {
            Some(m) => (m.label.clone(), without_secret(&m.place)),
            None => return,
        };
        let records = records(tapes.inventory.as_deref());
        let command = |does: &str| {
            let line = records.map(|r| format!("; `{}` {does}", r.command(&name)));
            line.unwrap_or_default()
        };
        match still.end(self.keep_snapshot) {
            Ok(()) if self.keep_snapshot => {
                if console.json() {
                    let row = serde_json::json!({
                        "state": "kept", "name": name, "label": label, "place": place,
                    });
                    return console.tell("snapshot", &row);
                }
                console.say(&format!(
                    "Snapshot kept: {} at {}{}\n",
                    safe(&label),
                    safe(&place),
                    command("removes it")
                ));
            }
            Ok(()) => {}
            Err(e) => {
                let advice = e.advice().map_or(String::new(), |a| format!("; {a}"));
                let again = command("tries again");
                console.caution(
                    "snapshot-left",
                    &format!("The snapshot {label} could not be deleted: {e}{advice}{again}"),
                )
            }
        }
    }
}

/// Where snapshots are recorded: beside the tape inventory.
pub fn records(inventory: Option<&Path>) -> Option<Records> {
    let dir = Inventory::open(inventory).ok()?.dir().join("snapshots");
    Some(Records::new(dir).beside(inventory))
}

#[derive(Serialize)]
struct TakenRow<'a> {
    state: &'a str,
    #[serde(flatten)]
    facts: &'a crate::archive::Stillness,
}

/// Says what was done.
pub fn tell(still: &Still, console: &Console) {
    let Some(facts) = &still.facts else { return };
    if console.json() {
        let state = match facts.snapshot {
            Some(_) => "taken",
            None => "none",
        };
        return console.tell("still", &TakenRow { state, facts });
    }
    let mut t = String::new();
    if let (Some(q), Some(w)) = (facts.quiet_ms, facts.waited_ms) {
        let s = |ms: u64| ms as f64 / 1000.0;
        t += &format!("Quiet for {:.1} s, after {:.1} s", s(q), s(w));
        if let Some(n) = facts.writes.filter(|n| *n > 0) {
            t += &format!(" and {}", count(n, "write"));
        }
        t.push('\n');
    }
    if let Some(s) = &facts.snapshot {
        t += &format!("Snapshot by {}: {}\n", s.provider, safe(&s.label));
    }
    console.say(&t);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let ms = |n| Ok(Duration::from_millis(n));
        for (text, want) in [
            ("3s", 3000),
            ("0", 0),
            ("3", 3000),
            ("500ms", 500),
            ("1.5s", 1500),
            ("2m", 120_000),
        ] {
            assert_eq!(time(text), ms(want), "{text}");
        }
        for bad in [
            "", "s", "-3s", "3h", "1e9", "999999", "..s", "3 s", "disk.img",
        ] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
