//! What ntfs-3g's tools say of a volume in a file.

use crate::common::mount::Mount;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::Command;

fn run(program: &str, args: &[&str], image: &Path) -> Option<(bool, String)> {
    let out = Command::new(program).args(args).arg(image).output();
    let Ok(out) = out else {
        eprintln!("skipped: {program} is not there");
        return None;
    };
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let text = text + &String::from_utf8_lossy(&out.stderr);
    Some((out.status.success(), text))
}

/// ntfsresize counts the clusters of all files against `$Bitmap`; ntfsfix reads
/// the boot sectors, `$MFT` and its mirror; ntfsinfo reads `$Volume` and more.
pub fn judge(what: &str, image: &Path, dirty: bool) {
    if let Some((ok, said)) = run("ntfsresize", &["--info", "--force", "--bad-sectors"], image) {
        let full = said.contains("Volume is full");
        assert!(ok || full, "{what}: ntfsresize: {said}");
        assert!(said.contains("Accounting clusters"), "{what}: {said}");
    }
    if let Some((ok, said)) = run("ntfsfix", &["--no-action"], image) {
        assert!(ok, "{what}: ntfsfix: {said}");
        for good in [
            "$MFT and $MFTMirr completed successfully",
            "alternate boot sector... OK",
        ] {
            assert!(said.contains(good), "{what}: ntfsfix: {said}");
        }
    }
    let force = if dirty { "-fm" } else { "-m" };
    if let Some((ok, said)) = run("ntfsinfo", &[force], image) {
        assert!(ok, "{what}: ntfsinfo: {said}");
    }
}

/// Undoes the escapes of the golden lists; `None` for what no Linux name holds.
fn unescape(text: &str) -> Option<Vec<u8>> {
    if text.contains("\\x3a") || text.contains("<no name") || text.contains("<orphan") {
        return None;
    }
    let out = ntbak::volume::names::unescape(text.as_bytes());
    (!text.contains("\\u{")).then_some(out)
}

/// Reads every file of a golden list through a mount; how many were read.
pub fn golden(what: &str, list: &str, prefix: Option<&str>, mount: &Mount) -> usize {
    let (mut read, mut bad) = (0, Vec::new());
    for line in list.split('\n').skip(1).filter(|l| !l.is_empty()) {
        let f: Vec<&str> = line.split('\t').collect();
        let known = ["attr", "system", "encrypted"];
        let path = match prefix {
            None => f[0],
            Some(p) => match f[0].strip_prefix(p) {
                Some(path) => path,
                None => continue,
            },
        };
        let skip =
            |g: &str| known.contains(&g) || g.starts_with("reparse") || g.starts_with("unreadable");
        // Of a sleeping Windows the first page is zeroed; shadow copies are dropped.
        let dropped = path == "/hiberfil.sys" || path.starts_with("/System Volume Information/");
        if f[2] == "-" || f[3].split(',').any(skip) || dropped {
            continue;
        }
        let Some(bytes) = unescape(path) else {
            continue;
        };
        let full = mount.0.join(OsString::from_vec(bytes[1..].to_vec()));
        // The driver shows Interix links, pipes and devices as what they stand for.
        if fs::symlink_metadata(&full).is_ok_and(|m| !m.is_file()) {
            continue;
        }
        let got = match fs::read(&full) {
            Ok(content) => Sha256::digest(&content)
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect::<String>(),
            Err(e) => e.to_string(),
        };
        read += 1;
        if got != f[2] {
            bad.push(format!("{path}: {got}, expected {}", f[2]));
        }
    }
    assert!(bad.is_empty(), "{what}:\n{}", bad.join("\n"));
    read
}

/// Fails where two mounted trees differ; how many files were read.
pub fn same_tree(what: &str, a: &Path, b: &Path) -> usize {
    let names = |dir: &Path| {
        let mut all: Vec<OsString> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        all.sort();
        all
    };
    let list = names(a);
    assert_eq!(list, names(b), "{what}: {}", a.display());
    let mut read = 0;
    for name in list {
        let (x, y) = (a.join(&name), b.join(&name));
        let kind = fs::symlink_metadata(&x).unwrap().file_type();
        if kind.is_dir() {
            read += same_tree(what, &x, &y);
        } else if kind.is_file() {
            // What the driver cannot read of its own work, it cannot read there either.
            let (p, q) = (fs::read(&x).ok(), fs::read(&y).ok());
            assert!(p == q, "{what}: {} differs", x.display());
            read += usize::from(p.is_some());
        }
    }
    read
}
