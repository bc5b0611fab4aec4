//! Damaged places of an archive, as `verify` and `restore` tell them.

use super::console::Console;
use super::text::count;
use crate::ops::stream::Damage;
use std::fmt::Write;

/// Tells each place, with the files that were hit.
pub fn tell(damage: &[Damage], console: &Console) {
    for d in damage {
        if console.json() {
            console.tell("damage", d);
        }
        console.caution("damage", &sentence(d));
    }
}

fn sentence(d: &Damage) -> String {
    let mut s = match d.to.saturating_sub(d.from) {
        0 => format!("Archive, at byte {:#x}: {}", d.from, d.what),
        n => format!(
            "Archive, {} at byte {:#x}: {}",
            count(n, "byte"),
            d.from,
            d.what
        ),
    };
    if let Some(kind) = d.record.filter(|k| !d.what.contains(k)) {
        let _ = write!(s, ", {kind} record");
    }
    if let Some(region) = d.region {
        match region {
            0 => s += " of what lies outside the partitions",
            n => {
                let _ = write!(s, " of partition {n}");
            }
        }
    }
    let _ = match (d.files.as_slice(), d.loses_data) {
        (_, false) => write!(s, "; nothing of the source is lost"),
        ([], true) => write!(s, "; no file is known to be hit"),
        (list, true) => write!(s, "; hit: {}", list.join(", ")),
    };
    s
}
