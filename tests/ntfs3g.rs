//! The other side: what `restore` wrote is mounted with ntfs-3g, which must read
//! every file of the golden list with the same SHA-256. Needs ntfs-3g and the
//! right to mount; says that it is skipped elsewhere.

mod common;

use common::mount::{Mount, can_mount};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::Command;

fn ntbak(args: &[&str]) {
    let out = Command::new(env!("CARGO_BIN_EXE_ntbak"))
        .args(args)
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "ntbak {}: {err}", args.join(" "));
}

/// Undoes the escapes of the golden lists; `None` for what no Linux name holds.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.extend(c.to_string().into_bytes());
            continue;
        }
        match rest.next()? {
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            '\\' => out.push(b'\\'),
            'x' => {
                let hex: String = rest.by_ref().take(2).collect();
                out.push(u8::from_str_radix(&hex, 16).ok()?);
            }
            _ => return None,
        }
    }
    Some(out)
}

fn check(name: &str) -> Option<usize> {
    let dir = tempfile::tempdir().unwrap();
    let at = |file: &str| dir.path().join(file).display().to_string();
    let (image, archive) = (at("source.img"), at("a.ntbak"));
    fs::write(&image, common::testdata(name)).unwrap();
    ntbak(&["image", &image, &archive, "--quiet"]);
    let list = common::testdata_text(&format!("{name}.tsv"));
    let mut mounted: std::collections::BTreeMap<String, Option<Mount>> = Default::default();
    let (mut read, mut bad) = (0, Vec::new());
    for line in list.split('\n').skip(1).filter(|l| !l.is_empty()) {
        let f: Vec<&str> = line.split('\t').collect();
        let flags: Vec<&str> = f[3].split(',').collect();
        let known = ["attr", "system", "encrypted"];
        if f[2] == "-"
            || flags
                .iter()
                .any(|g| known.contains(g) || g.starts_with("reparse"))
        {
            continue;
        }
        // The driver shows reparse points of links and unknown tags as links.
        let (part, path) = match f[0].strip_prefix('p').and_then(|p| p.split_once(':')) {
            Some((n, path)) if n.parse::<u32>().is_ok() => (n, path),
            _ => ("1", f[0]),
        };
        let Some(bytes) = unescape(path) else {
            continue;
        };
        if path.contains("\\x3a") || path.contains("<no name") {
            continue;
        }
        let mount = mounted.entry(part.to_owned()).or_insert_with(|| {
            let volume = at(&format!("p{part}.img"));
            ntbak(&["restore", &archive, &volume, "--partition", part, "--quiet"]);
            match Mount::new(Path::new(&volume), dir.path().join(format!("m{part}"))) {
                Ok(m) => Some(m),
                Err(e) => {
                    eprintln!("{name}: ntfs-3g does not mount partition {part}: {e}");
                    None
                }
            }
        });
        let mount = mount.as_ref()?;
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
            bad.push(format!("{}: {got}, expected {}", f[0], f[2]));
        }
    }
    eprintln!("{name}: ntfs-3g read {read} files, {} differ", bad.len());
    assert!(bad.is_empty(), "{name}:\n{}", bad.join("\n"));
    Some(read)
}

#[test]
fn restored_volumes_read_the_same() {
    if !can_mount() {
        return;
    }
    let (mut volumes, mut files) = (0, 0);
    for name in common::testdata_names() {
        // Damaged or foreign on purpose, or not mounted by the driver.
        if name == "damage-base" || common::image_list(&name).is_none() {
            continue;
        }
        if let Some(n) = check(&name) {
            volumes += 1;
            files += n;
        }
    }
    assert!(
        volumes >= 22 && files > 3500,
        "{volumes} volumes, {files} files"
    );
}
