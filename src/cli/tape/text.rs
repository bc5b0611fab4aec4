//! Texts of `tape`.

use crate::cli::text::{bytes, count, safe, table};
use crate::ops::tape::{Contents, Labelled, SetPartFound};
use crate::tape::{DriveStatus, Label, PartMap, SetFacts, SetRecord, Severity};
use crate::volume::times::NtTime;
use std::fmt::Write;

fn line(out: &mut String, name: &str, value: &str) {
    let _ = writeln!(out, "  {name:<13}{}", safe(value));
}

fn time(unix: u64) -> String {
    let mut text = Vec::new();
    let t = i64::try_from(unix)
        .ok()
        .and_then(|s| NtTime::from_unix(s, 0));
    match t {
        Some(t) => t.push_to(&mut text),
        None => return unix.to_string(),
    }
    String::from_utf8(text).unwrap_or_default()
}

/// What was labelled.
pub fn labelled(done: &Labelled) -> String {
    let l = &done.label;
    let mut out = format!(
        "Cartridge \"{}\" is labelled, and read back\n",
        safe(&l.name)
    );
    line(&mut out, "Id", &l.cartridge.to_string());
    if let Some(held) = &done.held {
        line(&mut out, "Before", &format!("the cartridge {held}"));
    }
    out
}

/// What a drive says.
pub fn status(s: &DriveStatus) -> String {
    let mut out = format!("{}\n", safe(&s.model));
    if let Some(serial) = &s.serial {
        line(&mut out, "Serial", serial);
    }
    line(&mut out, "Firmware", &s.revision);
    match (&s.not_ready, &s.cartridge) {
        (Some(why), _) => line(&mut out, "Cartridge", &format!("not ready: {why}")),
        (None, None) => line(&mut out, "Cartridge", "loaded"),
        (None, Some(tag)) => {
            let known = [
                ("bar code", &tag.barcode),
                ("text", &tag.text),
                ("serial", &tag.serial),
                ("maker", &tag.maker),
            ];
            let told: Vec<String> = known
                .iter()
                .filter_map(|(name, v)| Some(format!("{name} {}", v.as_ref()?)))
                .collect();
            line(
                &mut out,
                "Cartridge",
                &format!("loaded: {}", told.join(", ")),
            );
        }
    }
    if s.not_ready.is_none() {
        let protected = match s.write_protected {
            Some(true) => "protected",
            Some(false) => "allowed",
            None => "not told",
        };
        line(&mut out, "Writing", protected);
        let place = match &s.position {
            None => "the drive does not tell".into(),
            Some(p) => {
                let mut t = format!("object {}", p.object);
                if let Some(f) = p.file {
                    let _ = write!(t, ", {} before it", count(f, "filemark"));
                }
                if p.early_warning {
                    t += ", near the end of the medium";
                }
                t
            }
        };
        line(&mut out, "Position", &place);
        let room = match &s.capacity {
            None => "the drive does not tell".into(),
            Some(c) => format!("{} left of {}", bytes(c.remaining), bytes(c.maximum)),
        };
        line(&mut out, "Room", &room);
    }
    for a in &s.alerts {
        let how = match a.severity {
            Severity::Information => "note",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        };
        line(
            &mut out,
            "TapeAlert",
            &format!("{} ({how}): {}", a.flag, a.meaning),
        );
    }
    if s.alerts.is_empty() {
        line(&mut out, "TapeAlert", "none");
    }
    out
}

/// What a cartridge holds.
pub fn contents(c: &Contents, drive: &str) -> String {
    match c {
        Contents::Nothing => format!("{}: nothing was ever written on it\n", safe(drive)),
        Contents::Foreign { first_block } => format!(
            "{}: not a cartridge of this program, it begins with {}\n",
            safe(drive),
            safe(first_block)
        ),
        Contents::Blank { label } => blank(label),
        Contents::Set(s) => part(s),
    }
}

/// A blank cartridge.
pub fn blank(l: &Label) -> String {
    let mut out = format!("Cartridge \"{}\": blank\n", safe(&l.name));
    line(&mut out, "Id", &l.cartridge.to_string());
    line(&mut out, "Labelled", &time(l.time));
    out
}

fn part(s: &SetPartFound) -> String {
    let m = &s.map;
    let mut out = format!(
        "Cartridge \"{}\": number {} of a set\n",
        safe(&m.label.name),
        m.sequence()
    );
    line(&mut out, "Id", &m.label.cartridge.to_string());
    if let Some(set) = m.set() {
        line(&mut out, "Set", &set.to_string());
    }
    facts(&mut out, s.facts.as_ref());
    line(&mut out, "Labelled", &time(m.label.time));
    line(&mut out, "Blocks", &bytes(m.block_bytes().into()));
    line(
        &mut out,
        "State",
        match s.complete {
            None => "goes on with the next cartridge",
            Some(true) => "complete: the set ends here",
            Some(false) => "unfinished",
        },
    );
    out += &files(m);
    out
}

fn facts(out: &mut String, f: Option<&SetFacts>) {
    let Some(f) = f else { return };
    line(
        out,
        "Source",
        &format!("{}, {}", f.source, bytes(f.source_bytes)),
    );
    let about: Vec<&str> = [&f.model, &f.serial]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    if !about.is_empty() {
        line(out, "Device", &about.join(", "));
    }
    line(out, "Made", &format!("{} by {}", f.created, f.program));
}

fn files(m: &PartMap) -> String {
    let mut rows = vec![
        ["File", "Object", "Blocks", "Stream offset", ""]
            .map(String::from)
            .to_vec(),
    ];
    for (i, f) in m.files.iter().enumerate() {
        rows.push(vec![
            (i + 1).to_string(),
            f.first_object.to_string(),
            f.blocks.to_string(),
            format!("{:#x}", f.stream_offset),
            if f.ended { "" } else { "no filemark behind it" }.into(),
        ]);
    }
    table(&rows, &[0, 1, 2, 3])
}

/// A set of the inventory.
pub fn set(s: &SetRecord, digests: u64) -> String {
    let mut out = format!("Set {}\n", s.set);
    facts(&mut out, s.facts.as_ref());
    line(&mut out, "Stream", &bytes(s.stream_bytes()));
    let missing = s.missing();
    let state = match (s.complete, missing.as_slice()) {
        (Some(true), []) => "complete".into(),
        (Some(false), _) => "unfinished".into(),
        (None, []) => "not known whether it ends".into(),
        (_, missing) => {
            let numbers: Vec<String> = missing.iter().map(u32::to_string).collect();
            format!("cartridge {} not seen yet", numbers.join(", "))
        }
    };
    line(&mut out, "State", &state);
    if digests > 0 {
        line(&mut out, "Read back", &count(digests, "record"));
    }
    for (n, p) in &s.parts {
        line(
            &mut out,
            &format!("Cartridge {n}"),
            &format!("\"{}\", id {}", p.label.name, p.label.cartridge),
        );
    }
    out
}
