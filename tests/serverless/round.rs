//! There and back, through every copy manager that can.

use crate::common;
use crate::rig::{Lab, plan_of};
use crate::{long, own};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Copy managers that write tapes, and whether they restore as well.
const PROFILES: &[(&str, bool)] = &[
    ("full-ntbak", true),
    ("tiny", true),
    ("noinline", true),
    ("router-spc2", true),
    ("nofm", true),
];

/// Volumes with their golden lists: public ones where they are, else our own.
fn volumes() -> Vec<(String, PathBuf)> {
    let public: &[&str] = match long() {
        false => &["v08-xp-512-ads", "v06-win7", "v11-win10"],
        true => &[
            "v01", "v02", "v03", "v04", "v05", "v06", "v07", "v08", "v09", "v10", "v11", "v12",
            "v13", "v15", "c01", "c03", "c04", "c05", "c06", "c07",
        ],
    };
    let mut all: Vec<_> = public
        .iter()
        .filter_map(|n| Some(((*n).to_owned(), common::image(n)?)))
        .collect();
    if all.is_empty() || long() {
        let names = ["quick", "disk-mbr", "attrlist"];
        all.extend(names.map(|n| (n.to_owned(), own(n))));
    }
    all
}

/// Bytes of the metadata of a disk's volumes: file records, `$Bitmap`, `$UpCase`.
fn metadata(source: &Path) -> u64 {
    let plan = plan_of(source);
    let volumes = plan.regions.iter().filter_map(|r| r.ntfs.as_ref());
    volumes
        .map(|n| {
            let g = n.volume.geometry();
            let mft: u64 = n
                .volume
                .mft()
                .extents
                .as_slice()
                .iter()
                .map(|e| e.len.0)
                .sum();
            mft * u64::from(g.cluster_size) + g.total_clusters / 8 + (128 << 10)
        })
        .sum()
}

/// What went through the host is little: at most twice the metadata and a
/// thousandth of the data.
fn assert_serverless(what: &str, source: &Path, summary: &serde_json::Value) {
    let number = |k: &str| summary[k].as_u64().unwrap();
    let through = number("host_data_in") + number("host_data_out");
    // A command is no data; the smallest copy manager needs one for each extent.
    let commands = number("commands") * 1024;
    let allowed = 2 * metadata(source) + number("copied_bytes") / 1000 + commands;
    eprintln!("{what}: {through} bytes through the host, {allowed} allowed");
    assert!(through <= allowed, "{what}: {through} > {allowed}");
}

fn round(name: &str, source: &Path, profile: &str, restores: bool) {
    let what = format!("{name} {profile}");
    let mut lab = Lab::with(source, profile);
    let made = lab.image(0).summary();
    assert_eq!(made["mover"], "copy-manager", "{what}");
    assert_serverless(&format!("{what} image"), source, &made);
    let back = lab.restore(0).summary();
    let moved = back["copied_bytes"].as_u64().unwrap_or(0);
    assert_eq!(moved > 0, restores, "{what}: {back}");
    if restores {
        assert_serverless(&format!("{what} restore"), source, &back);
    }
    lab.assert_same(&what);
    for disk in [lab.old_file(), lab.new_file()] {
        let e = lab.expect(0, &["verify", lab.tape(), "--against", &disk, "--json"]);
        assert!(!e.said().is_empty());
    }
    lab.stop();
}

#[test]
fn every_volume_through_every_copy_manager() {
    for (name, source) in volumes() {
        for &(profile, restores) in PROFILES {
            round(&name, &source, profile, restores);
        }
    }
}

/// One that only backs up: the host restores.
#[test]
fn a_copy_manager_that_only_writes_tapes() {
    let (name, source) = volumes().remove(0);
    round(&name, &source, "full-ntbak", true);
    // More than it moves in one command, which nothing announces.
    let source = common::image("v11-win10").unwrap_or(source);
    let lab = Lab::with(&source, "xp-dbe");
    let made = lab.image(0).summary();
    eprintln!("xp-dbe: by {}", made["mover"]);
    let back = lab.restore(0).summary();
    assert_eq!(back["copied_bytes"].as_u64().unwrap_or(0), 0);
    lab.assert_same("xp-dbe");
}

/// Every profile, also those that cannot: then the host does it.
#[test]
fn what_no_copy_manager_can_the_host_does() {
    let source = own("quick");
    for profile in ["lio", "scst", "atto-143r1", "ctl"] {
        let lab = Lab::with(&source, profile);
        let made = lab.image(0).summary();
        assert_eq!(made["mover"], "host", "{profile}");
        lab.restore(0);
        lab.assert_same(profile);
        let args = ["image", lab.old(), lab.tape(), "--label", "B"];
        let forced = [&args[..], &["--mover", "copy-manager"]].concat();
        lab.expect(1, &forced);
    }
}

/// The list of files that another reader made.
fn golden(name: &str) -> String {
    let lists = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/volumes");
    let public = std::fs::read_dir(lists).into_iter().flatten().flatten();
    let found = public.map(|e| e.path()).find(|p| {
        let file = p.file_name().unwrap().to_string_lossy().into_owned();
        file.starts_with(name) && file.ends_with(".golden.tsv")
    });
    match found {
        Some(p) => std::fs::read_to_string(p).unwrap(),
        None => common::testdata_text(&format!("{name}.tsv")),
    }
}

#[test]
fn files_come_from_the_tape() {
    let mut with_files = 0;
    for (name, source) in volumes() {
        // What is listed of a damaged volume is the subject of tests/golden.
        if name.starts_with("c0") {
            continue;
        }
        let mut lab = Lab::with(&source, "full-ntbak");
        lab.image(0);
        // The same list as from the disk.
        let list = |from: &str| lab.expect(0, &["ls", "-R", "-l", from]).out;
        assert_eq!(list(lab.tape()), list(&source.display().to_string()));
        let mut files = Vec::new();
        for line in golden(&name).split_terminator('\n').skip(1) {
            let f: Vec<&str> = line.split('\t').collect();
            let plain = f[2].len() == 64
                && !f[3].contains("attr")
                && !f[0].contains(['<', '$'])
                && f[0].is_ascii();
            if plain && f[1].parse::<u64>().is_ok_and(|n| n < 4 << 20) {
                files.push((f[0].to_owned(), f[2].to_owned()));
            }
        }
        // Some volumes were made for names and links alone.
        if files.is_empty() {
            lab.stop();
            continue;
        }
        with_files += 1;
        let step = if long() { 1 } else { files.len().div_ceil(12) };
        for (path, digest) in files.iter().step_by(step) {
            let e = lab.expect(0, &["cat", lab.tape(), path]);
            let got: String = Sha256::digest(&e.out)
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            assert_eq!(&got, digest, "{name}: {path}");
        }
        std::fs::create_dir(lab.file("out")).unwrap();
        let to = lab.file("out").display().to_string();
        let (path, digest) = files.last().unwrap();
        lab.expect(0, &["extract", lab.tape(), path, "-C", &to]);
        let written = walk(&lab.file("out"));
        let digests: Vec<String> = written
            .iter()
            .map(|p| {
                let d = Sha256::digest(std::fs::read(p).unwrap());
                d.iter().map(|b| format!("{b:02x}")).collect()
            })
            .collect();
        assert!(digests.contains(digest), "{name}: {path}: {written:?}");
        lab.stop();
    }
    assert!(with_files > 0, "no volume has a plain file");
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for e in std::fs::read_dir(dir).unwrap().flatten() {
        match e.file_type().unwrap().is_dir() {
            true => out.extend(walk(&e.path())),
            false => out.push(e.path()),
        }
    }
    out
}

/// One file: the tape is positioned, not read through.
#[test]
fn one_file_reads_few_blocks() {
    let Some(source) = common::image("v11-win10") else {
        return;
    };
    let mut lab = Lab::with(&source, "full-ntbak");
    lab.image(0);
    lab.stop();
    lab.serve("full-ntbak", "size=64G");
    let text = golden("v11-win10");
    let path = text
        .lines()
        .filter_map(|l| l.split_once('\t'))
        .map(|(p, _)| p)
        .rfind(|p| p.is_ascii() && !p.contains(['$', '<']) && p.contains('.'))
        .unwrap();
    std::fs::create_dir(lab.file("one")).unwrap();
    let to = lab.file("one").display().to_string();
    lab.expect(0, &["extract", lab.tape(), path, "-C", &to]);
    let served = lab.stop();
    let read = served
        .iter()
        .find(|r| r["type"] == "served" && r["name"] == "t")
        .and_then(|r| r["blocks_read"].as_u64())
        .unwrap();
    eprintln!("{path}: {read} of 331 blocks read");
    assert!(read <= 12, "{read} blocks");
}

/// A volume of some GB, named by NTBAK_VOLUME.
#[test]
fn a_large_volume() {
    let Some(path) = std::env::var_os("NTBAK_VOLUME").map(PathBuf::from) else {
        eprintln!("skipped: NTBAK_VOLUME names no volume");
        return;
    };
    round("large", &path, "full-ntbak", true);
    let mut lab = Lab::with(&path, "full-ntbak");
    let made = lab.image(0).summary();
    let number = |k: &str| made[k].as_u64().unwrap();
    let through = number("host_data_in") + number("host_data_out");
    let allowed = 2 * metadata(&path) + number("copied_bytes") / 1000;
    assert!(through <= allowed, "{through} > {allowed}");
    lab.stop();
}
