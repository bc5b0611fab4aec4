//! The house has floors: a module uses its own floor's leaves and lower floors,
//! never a higher one, and folders of one floor do not know each other.

use std::fs;
use std::path::{Path, PathBuf};

// The first floor has steps: `scsi` stands on `device`, `iscsi` on `scsi`.
const FLOORS: [&[&str]; 7] = [
    &["units", "error", "observe", "random"],
    &["device"],
    &["scsi"],
    &["iscsi"],
    &["volume", "disk", "archive", "tape", "copy", "snapshot"],
    &["ops", "target"],
    &["cli"],
];

fn floor(module: &str) -> usize {
    FLOORS
        .iter()
        .position(|f| f.contains(&module))
        .unwrap_or_else(|| {
            panic!("module {module} has no floor: add it to FLOORS and to src/lib.rs")
        })
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for e in fs::read_dir(dir).unwrap() {
        let path = e.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|x| x == "rs") {
            out.push(path);
        }
    }
}

/// Modules named by `crate::…` in a text, also inside `use crate::{a::…, b::…}`.
fn named(text: &str) -> Vec<String> {
    let word = |s: &str| -> String {
        s.chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect()
    };
    let mut out = Vec::new();
    for part in text.split("crate::").skip(1) {
        if let Some(list) = part.strip_prefix('{') {
            let mut depth = 0;
            let mut item = String::new();
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        out.push(word(item.trim()));
                        item.clear();
                        continue;
                    }
                    _ => {}
                }
                item.push(c);
            }
            out.push(word(item.trim()));
        } else {
            out.push(word(part));
        }
    }
    out.retain(|m| !m.is_empty() && m.chars().all(|c| c.is_lowercase() || c == '_'));
    out
}

#[test]
fn no_upward_arrow() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let (mut bad, mut arrows) = (Vec::new(), 0);
    for path in all {
        let inside = path.strip_prefix(&src).unwrap();
        let first = inside
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap();
        let module = first.strip_suffix(".rs").unwrap_or(first);
        if matches!(module, "lib" | "main") {
            continue;
        }
        let text: String = fs::read_to_string(&path)
            .unwrap()
            .lines()
            .filter(|l| !l.trim_start().starts_with("//"))
            .map(|l| format!("{l}\n"))
            .collect();
        for other in named(&text) {
            if other == module {
                continue;
            }
            arrows += 1;
            let (mine, its) = (floor(module), floor(&other));
            // Floor 0 is one room: its words refer to each other.
            if its > mine || (its == mine && mine != 0) {
                bad.push(format!("{} uses {other}", inside.display()));
            }
        }
    }
    assert!(
        arrows > 100,
        "only {arrows} uses were found: the test has gone blind"
    );
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
