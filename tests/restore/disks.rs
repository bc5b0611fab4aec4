//! Replacement disks from end to end: other sizes, other places, other layouts,
//! looked at by other people's tools and by our own `diff`.

use crate::program::{Dir, expect, rows, text};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What a tool says, or none when it is not there.
fn tool(name: &str, args: &[&str]) -> Option<(bool, String)> {
    match Command::new(name).args(args).output() {
        Ok(o) => {
            let said = format!("{}{}", text(&o.stdout), text(&o.stderr));
            Some((o.status.success(), said))
        }
        Err(_) => {
            eprintln!("skipped: there is no {name}");
            None
        }
    }
}

/// The table and every NTFS volume, as others see them. `sectors`: bytes of one.
pub fn sound(image: &Path, sectors: u64) {
    let all = fs::read(image).unwrap();
    let size = sectors as usize;
    let name = image.to_str().unwrap();
    let gpt = all[size..].starts_with(b"EFI PART");
    let mbr = !gpt && all[510..512] == [0x55, 0xaa] && &all[3..7] != b"NTFS";
    // sgdisk takes every file for one of 512-byte sectors.
    if gpt
        && sectors == 512
        && let Some((_, said)) = tool("sgdisk", &["--verify", name])
    {
        assert!(said.contains("No problems found"), "{said}");
    }
    if mbr && let Some((ok, said)) = tool("sfdisk", &["--verify", name]) {
        assert!(ok && said.contains("No errors detected"), "{said}");
    }
    let source = crate::common::Memory::shared(all.clone());
    let options = ntbak::disk::LayoutOptions::default();
    let layout = ntbak::disk::open_layout_with(&*source, options).unwrap();
    let mut seen = 0;
    for p in &layout.partitions {
        if !p.content.is_ntfs() {
            continue;
        }
        seen += 1;
        let part = image.with_extension(format!("p{}", p.number));
        let bytes = &all[p.start as usize..(p.start + p.length) as usize];
        fs::write(&part, bytes).unwrap();
        let path = part.to_str().unwrap();
        let hidden = u32::from_le_bytes(bytes[0x1c..0x20].try_into().unwrap());
        if layout.table != ntbak::disk::TableKind::None && p.start / sectors > 2 {
            assert_eq!(
                u64::from(hidden),
                told(p.start, &layout, sectors),
                "{}",
                p.number
            );
        }
        for (name, args) in [
            (
                "ntfsresize",
                &["--info", "--force", "--no-progress-bar", path][..],
            ),
            ("ntfsfix", &["--no-action", path]),
            ("ntfsinfo", &["--mft", "--force", path]),
        ] {
            if let Some((ok, said)) = tool(name, args) {
                // That is no fault of it: there is nothing left to give.
                let full = said.contains("ERROR: Volume is full");
                assert!(ok || full, "{name} {path}: {said}");
                assert!(full || !said.contains("ERROR"), "{name}: {said}");
            }
        }
        fs::remove_file(part).unwrap();
    }
    assert!(seen > 0, "no NTFS volume is there");
}

/// Sectors that the boot sector of a partition has to name.
fn told(start: u64, layout: &ntbak::disk::Layout, sectors: u64) -> u64 {
    let inside = layout
        .containers
        .iter()
        .any(|c| c.range.range().contains(&start));
    match inside {
        // A logical one counts from its own boot record.
        true => {
            let record = layout
                .gaps
                .iter()
                .filter(|g| g.end == start)
                .map(|g| g.start);
            let from = record.max().unwrap_or(0);
            let near = layout.containers.iter().map(|c| c.range.start);
            let from = near
                .filter(|&s| s >= from && s < start)
                .max()
                .unwrap_or(from);
            (start - from) / sectors
        }
        false => start / sectors,
    }
}

fn same_files(dir: &Dir, a: &str, b: &str) {
    let out = expect(dir, 0, &["diff", a, b]);
    let said = text(&out.stdout) + &text(&out.stderr);
    assert!(said.contains("0 added, 0 removed, 0 changed"), "{said}");
}

fn restore(dir: &Dir, args: &[&str]) {
    let all = [&["restore"], args, &["--verify", "--force", "-q"]].concat();
    expect(dir, 0, &all);
}

#[test]
fn disks_of_other_sizes() {
    for (name, grow) in [
        ("disk-gpt", "1"),
        ("disk-mbr", "1"),
        ("disk-mbr", "5"),
        ("quick", "1"),
    ] {
        let dir = Dir::with(name);
        let image = format!("{name}.img");
        expect(&dir, 0, &["image", &image, "a.ntbak", "-q"]);
        let len = fs::metadata(dir.join(&image)).unwrap().len();
        let half = (len * 3 / 2).to_string();
        for how in [
            &["--size", "min"][..],
            &["--size", &half],
            &["--size", &half, "--grow", grow],
            &["--defragment"],
            &["--size", &half, "--defragment", "--grow", grow, "--new-ids"],
            &["--size", "min", "--new-ids", "--zero-free"],
        ] {
            restore(&dir, &[&["a.ntbak", "r.img"], how].concat());
            sound(&dir.join("r.img"), 512);
            same_files(&dir, &image, "r.img");
            let new = fs::metadata(dir.join("r.img")).unwrap().len();
            match how[1..].first() {
                Some(&"min") => assert!(new < len, "{name}: {new}"),
                Some(x) if **x == half => assert_eq!(new.to_string(), half),
                _ => assert_eq!(new, len),
            }
        }
        // Of the same length it is the same to the bit.
        restore(&dir, &["a.ntbak", "r.img"]);
        let all = ["verify", "a.ntbak", "--against", "r.img", "-q"];
        expect(&dir, 0, &all);
    }
}

#[test]
fn the_plan_names_sizes_and_differences() {
    let dir = Dir::with("disk-gpt");
    expect(&dir, 0, &["image", "disk-gpt.img", "a.ntbak", "-q"]);
    let dry = ["restore", "a.ntbak", "r.img", "--dry-run", "--json"];
    let plan = |extra: &[&str]| {
        let out = expect(&dir, 0, &[&dry[..], extra].concat());
        let all = rows(&out.stdout);
        all.iter().find(|r| r["type"] == "plan").unwrap().clone()
    };
    let p = plan(&[]);
    let (place, least) = (&p["smallest"]["in_place"], &p["smallest"]["relocated"]);
    assert!(least.as_u64().unwrap() < place.as_u64().unwrap());
    assert_eq!(p["differences"].as_array().unwrap().len(), 0, "{p}");
    assert_eq!(p["volumes"].as_array().unwrap().len(), 2);
    let least = least.as_u64().unwrap();

    let p = plan(&["--size", "min", "--new-ids"]);
    assert_eq!(p["bytes"].as_u64(), Some(least));
    let codes: Vec<&str> = p["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["code"].as_str().unwrap())
        .collect();
    for code in [
        "partition-resized",
        "partition-moved",
        "new-id",
        "new-serial",
    ] {
        assert!(codes.contains(&code), "{code}: {codes:?}");
    }
    assert!(
        p["volumes"][0]["change"]["clusters_moved"]
            .as_u64()
            .unwrap()
            > 0
    );
    assert!(!dir.join("r.img").exists() && !dir.join("r.img.partial").exists());

    // One sector less is refused, with the number.
    let less = (least - 512).to_string();
    let out = expect(&dir, 5, &["restore", "a.ntbak", "r.img", "--size", &less]);
    assert!(
        text(&out.stderr).contains(&least.to_string()),
        "{}",
        text(&out.stderr)
    );
    restore(&dir, &["a.ntbak", "r.img", "--size", &least.to_string()]);

    // Less than a sector: what was asked for is told, not what is left of it.
    for (size, extra) in [("0", &[][..]), ("511", &[]), ("100", &["--partition", "1"])] {
        let args = ["restore", "a.ntbak", "s.img", "--size", size];
        let out = expect(&dir, 5, &[&args[..], extra].concat());
        let said = text(&out.stderr);
        let sentence = format!(
            "The size asked for is too small: it is {size} bytes, and a sector alone has 512"
        );
        assert!(said.contains(&sentence), "{said}");
    }
    assert!(!dir.join("s.img").exists());
}

#[test]
fn one_partition_elsewhere() {
    let dir = Dir::with("disk-mbr");
    expect(&dir, 0, &["image", "disk-mbr.img", "a.ntbak", "-q"]);
    for (table, number) in [("gpt", "1"), ("mbr", "1"), ("gpt", "5"), ("mbr", "5")] {
        for how in [
            &[][..],
            &["--size", "min"],
            &["--size", "64M", "--grow", number],
        ] {
            let first = ["a.ntbak", "r.img", "--partition", number, "--table", table];
            restore(&dir, &[&first[..], how].concat());
            sound(&dir.join("r.img"), 512);
            let part = ["a.ntbak", "p.img", "--partition", number];
            restore(&dir, &part);
            same_files(&dir, "p.img", "r.img");
        }
    }
    // Alone, the size is that of the volume.
    for size in ["min", "40M"] {
        restore(
            &dir,
            &["a.ntbak", "r.img", "--partition", "1", "--size", size],
        );
        sound(&dir.join("r.img"), 512);
        restore(&dir, &["a.ntbak", "p.img", "--partition", "1"]);
        same_files(&dir, "p.img", "r.img");
    }
    // Into a partition of another disk: the rest of it stays.
    dir.volume("disk-gpt");
    let before = fs::read(dir.join("disk-gpt.img")).unwrap();
    let into = [
        "restore",
        "a.ntbak",
        "disk-gpt.img",
        "--partition",
        "5",
        "--into",
        "4",
    ];
    let out = expect(&dir, 5, &into);
    assert!(
        text(&out.stderr).contains("partition 4"),
        "{}",
        text(&out.stderr)
    );
    assert!(fs::read(dir.join("disk-gpt.img")).unwrap() == before);
    expect(&dir, 0, &[&into[..], &["--yes", "--verify", "-q"]].concat());
    let after = fs::read(dir.join("disk-gpt.img")).unwrap();
    let (from, to) = (10240 * 512, 16384 * 512);
    assert!(after[..from] == before[..from] && after[to..] == before[to..]);
    assert!(after[from..to] != before[from..to]);
    sound(&dir.join("disk-gpt.img"), 512);
    restore(&dir, &["a.ntbak", "p.img", "--partition", "5"]);
    fs::write(dir.join("part.img"), &after[from..to]).unwrap();
    same_files(&dir, "p.img", "part.img");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let dir = Dir::with("disk-gpt");
    expect(&dir, 0, &["image", "disk-gpt.img", "a.ntbak", "-q"]);
    let refuse = |code: i32, args: &[&str], why: &str| {
        let all = [&["restore", "a.ntbak"], args].concat();
        let said = text(&expect(&dir, code, &all).stderr);
        assert!(said.contains(why), "{args:?}: {said}");
        assert!(!dir.join("r.img").exists() && !dir.join("r.img.partial").exists());
    };
    refuse(1, &["r.img", "--grow", "9"], "partition 9");
    refuse(1, &["r.img", "--grow", "2"], "only NTFS");
    refuse(
        1,
        &["r.img", "--partition", "2", "--defragment"],
        "Only NTFS",
    );
    refuse(2, &["r.img", "--table", "gpt"], "one partition");
    refuse(5, &["r.img", "--size", "1M"], "too small");
    refuse(
        5,
        &["r.img", "--partition", "2", "--size", "512K"],
        "cannot be made smaller",
    );
    refuse(2, &["r.img", "--into", "1", "--table", "gpt"], "--table");
    refuse(1, &["r.img", "--resume"], "--resume");
    refuse(
        1,
        &["disk-gpt.img", "--into", "9", "--partition", "1", "--yes"],
        "partition 9",
    );
    refuse(2, &["disk-gpt.img", "--into", "1", "--yes"], "whole disk");
    // From a pipe nothing is laid out anew.
    let pipe = |args: &[&str]| {
        let input = fs::File::open(dir.join("a.ntbak")).unwrap();
        let mut c = crate::program::ntbak();
        c.current_dir(&*dir)
            .args(["restore", "-", "r.img"])
            .args(args);
        c.stdin(input).output().unwrap()
    };
    let out = pipe(&["--size", "min"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        text(&out.stderr).contains("from a pipe"),
        "{}",
        text(&out.stderr)
    );
    assert_eq!(pipe(&["-q"]).status.code(), Some(0));
}
