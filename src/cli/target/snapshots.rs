//! What happens to snapshots while a target serves, in words and rows.

use crate::cli::console::Console;
use crate::target::roster::{Event, Happened, Roster};
use serde::Serialize;

#[derive(Serialize)]
struct Row<'a> {
    state: &'a str,
    of: u16,
    name: &'a str,
    id: String,
    lun: u16,
    url: &'a str,
    naa: String,
    detail: &'a str,
}

/// Tells what happened since the last time. `url` is the address of a unit.
pub fn tell(console: &Console, roster: &Roster, url: impl Fn(u16) -> String) {
    for event in roster.events() {
        one(console, &event, &url(event.lun));
    }
}

fn one(console: &Console, e: &Event, url: &str) {
    let (state, sentence) = match e.what {
        Happened::Created => ("created", format!("is made at {url} ({})", e.detail)),
        Happened::Deleted => ("deleted", format!("is deleted ({})", e.detail)),
        Happened::Failed => ("failed", format!("could not be made: {}", e.detail)),
        Happened::Lost => (
            "lost",
            format!(
                "at {url} is lost, and reading it fails: what the disk changes could not be put aside: {}",
                e.detail
            ),
        ),
    };
    if console.json() {
        let row = Row {
            state,
            of: e.of,
            name: &e.name,
            id: format!("{:016x}", e.id),
            lun: e.lun,
            url,
            naa: e.naa.iter().map(|b| format!("{b:02x}")).collect(),
            detail: &e.detail,
        };
        console.tell("snapshot", &row);
    }
    let text = format!(
        "Snapshot {:016x} of LUN {} {} {sentence}",
        e.id, e.of, e.name
    );
    match e.what {
        Happened::Created | Happened::Deleted => console.note_line(&text),
        Happened::Failed => console.caution("snapshot-failed", &text),
        Happened::Lost => console.caution("snapshot-lost", &text),
    }
}
