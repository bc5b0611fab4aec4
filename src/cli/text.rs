//! Words and numbers for people.

use crate::units::human_bytes;
use std::fmt::Write;
use std::time::Duration;

/// Makes a sentence safe for a terminal: one line, no control characters, no
/// marks that turn the direction of writing. Backslashes stay, since names in
/// messages are escaped already.
pub fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match steers(c) {
            true => {
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
            false => out.push(c),
        }
    }
    out
}

fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// `3.4 GiB (3650722201 bytes)`, `12 bytes`.
pub fn bytes(n: u64) -> String {
    match n {
        0..1024 => human_bytes(n),
        _ => format!("{} ({n} bytes)", human_bytes(n)),
    }
}

/// `1 file`, `3 files`.
pub fn count(n: u64, one: &str) -> String {
    match (n, one.strip_suffix('y')) {
        (1, _) => format!("1 {one}"),
        (_, Some(stem)) if !one.ends_with("ey") => format!("{n} {stem}ies"),
        _ => format!("{n} {one}s"),
    }
}

/// `42 s`, `3 min 07 s`, `2 h 05 min`.
pub fn duration(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..10 => format!("{:.1} s", d.as_secs_f64()),
        10..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

/// `a of b` in per cent; 100 when there is nothing to do.
pub fn percent(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 100.0,
        _ => part as f64 / whole as f64 * 100.0,
    }
}

/// Bytes per second, 0 for no time.
pub fn rate(bytes: u64, time: Duration) -> u64 {
    let s = time.as_secs_f64();
    if s > 0.0 {
        (bytes as f64 / s) as u64
    } else {
        0
    }
}

/// Columns padded to the widest entry; the last one is not padded. Columns in
/// `right` are aligned to the right.
pub fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let mut widths = Vec::new();
    for row in rows {
        widths.resize(row.len().max(widths.len()), 0);
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = cell.chars().count().max(*w);
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::from(" ");
        for (i, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[i] - cell.chars().count());
            let (before, behind) = match right.contains(&i) {
                true => (pad.as_str(), ""),
                false => ("", pad.as_str()),
            };
            let _ = write!(line, " {before}{cell}{behind}");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_a_terminal() {
        assert_eq!(safe("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\u{a}");
        assert_eq!(safe("x\u{202e}y"), "x\\u{202e}y");
        assert_eq!(safe("Grüße \\n"), "Grüße \\n");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(1, "entry"), "1 entry");
        assert_eq!(count(0, "entry"), "0 entries");
        assert_eq!(count(2, "file"), "2 files");
        assert_eq!(bytes(2048), "2.0 KiB (2048 bytes)");
        assert_eq!(duration(Duration::from_secs(187)), "3 min 07 s");
        assert_eq!(duration(Duration::from_millis(420)), "0.4 s");
        assert_eq!(rate(100, Duration::ZERO), 0);
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a", "1", "x"], ["bbb", "22", ""]];
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|r| r.iter().map(|c| (*c).into()).collect())
            .collect();
        assert_eq!(table(&rows, &[1]), "  a    1 x\n  bbb 22\n");
    }
}
