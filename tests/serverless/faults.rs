//! What goes wrong in the middle: nothing that is not complete looks so, and no
//! byte is ever wrong.

use crate::rig::{Lab, Random, plan_of, signal};
use crate::{long, own};
use std::time::Duration;

/// Sectors that the disk cannot give, in the middle of a file.
#[test]
fn unreadable_sectors_are_recorded_and_the_copy_goes_on() {
    let source = own("quick");
    let plan = plan_of(&source);
    // The data of a file: none of it is read to make the plan.
    let mft = plan.regions.iter().filter_map(|r| r.ntfs.as_ref()).next();
    let volume = &mft.unwrap().volume;
    let base = plan.regions.iter().find(|r| r.ntfs.is_some()).unwrap();
    let cluster = u64::from(volume.geometry().cluster_size);
    let kept = plan.kept_ranges();
    let runs = (24..volume.mft().record_count).flat_map(|n| {
        let file = volume.file(ntbak::units::RecordNo(n)).ok();
        let s = file.and_then(|f| {
            let s = ntbak::volume::Stream::open(volume, &f, 0x80, &[]).ok()?;
            Some(s?.extents().to_vec())
        });
        s.unwrap_or_default()
    });
    let places = runs.filter_map(|e| Some((e.lcns()?.start, e.len.0)));
    let place = places.filter(|&(start, n)| {
        let from = base.region.start + start * cluster;
        let to = from + n * cluster;
        kept.iter().any(|k| k.start <= from && to <= k.end)
    });
    let (start, n) = place.max_by_key(|p| p.1).unwrap();
    let first = base.region.start + (start + n / 2) * cluster + 1024;
    eprintln!("{n} clusters at {start}, bad from byte {first} on");
    let bad = ntbak::units::ByteRange {
        start: first,
        end: first + 3 * 512,
    };
    for profile in ["full-ntbak", "tiny", "noinline", "nofm"] {
        let mut lab = Lab::new(&source);
        lab.disk = format!(",bad={}+3", first / 512);
        lab.serve(profile, "size=64G");
        let e = lab.image(3);
        let summary = e.summary();
        assert_eq!(summary["mover"], "copy-manager", "{profile}");
        let found = summary["unreadable"].as_array().unwrap();
        assert_eq!(found.len(), 1, "{profile}: {summary}");
        assert_eq!(
            found[0]["range"]["start"], bad.start,
            "{profile}: {summary}"
        );
        assert_eq!(found[0]["range"]["end"], bad.end, "{profile}: {summary}");
        assert!(!found[0]["files"].as_array().unwrap().is_empty());
        lab.restore(3);
        // Everything else is right, and there are zeros.
        let mut others = Vec::new();
        for r in &kept {
            for (start, end) in [
                (r.start, r.end.min(bad.start)),
                (r.start.max(bad.end), r.end),
            ] {
                if start < end {
                    others.push(ntbak::units::ByteRange { start, end });
                }
            }
        }
        let new = lab.file("new.img");
        assert_eq!(
            crate::rig::differs(&source, &new, &others),
            None,
            "{profile}"
        );
        let restored = std::fs::read(&new).unwrap();
        let lost = &restored[bad.start as usize..bad.end as usize];
        assert!(lost.iter().all(|&b| b == 0), "{profile}");
        lab.stop();
    }
}

/// A cartridge that is too small, without another one: the part is closed, and
/// nobody takes it for the whole.
#[test]
fn a_cartridge_that_is_too_small() {
    let source = own("quick");
    let kept: u64 = plan_of(&source).kept_ranges().iter().map(|r| r.len()).sum();
    for part in [3, 2] {
        for profile in ["full-ntbak", "tiny", "nofm"] {
            let mut lab = Lab::new(&source);
            lab.serve(profile, &format!("size={}", kept / 4 * part / 4096 * 4096));
            let e = lab.run(&["image", lab.old(), lab.tape(), "--label", "A"]);
            assert_ne!(e.code, Some(0), "{profile} {part}: {}", e.said());
            lab.assert_incomplete(profile);
            lab.stop();
        }
    }
}

/// Early warning in the middle of a command is an end of the part, too.
#[test]
fn early_warning_inside_a_command() {
    let source = own("quick");
    for profile in ["full-ntbak", "tiny"] {
        let what = format!("{profile},fail=command:1/segment:1@300000:early-warning");
        let mut lab = Lab::with(&source, &what);
        let e = lab.run(&["image", lab.old(), lab.tape(), "--label", "A"]);
        if e.code == Some(0) {
            lab.restore(0);
            lab.assert_same(&what);
        } else {
            lab.assert_incomplete(&what);
        }
        lab.stop();
    }
}

/// A signal in the middle of a copy.
#[test]
fn an_interrupt_leaves_nothing_that_looks_complete() {
    let source = big();
    let mut random = Random::seeded(0x51_6e61);
    let points = points();
    let mut hit = 0;
    for _ in 0..points {
        let lab = Lab::with(&source, "tiny");
        let run = lab.start(&["image", lab.old(), lab.tape(), "--label", "A"]);
        std::thread::sleep(Duration::from_millis(20 + random.below(400)));
        signal(&run.child, "INT");
        let e = run.end();
        match e.code {
            Some(0) => lab.expect(0, &["verify", lab.tape(), "--against", &lab.old_file()]),
            Some(130) => {
                hit += 1;
                lab.assert_incomplete("interrupt");
                go_on(&lab, "interrupt");
                continue;
            }
            code => panic!("{code:?} {}", e.said()),
        };
    }
    eprintln!("{hit} of {points} interrupted");
}

/// The target dies: the program says so, and the tape is what it is.
#[test]
fn a_power_cut_of_the_target() {
    let source = big();
    let mut random = Random::seeded(0x7461_7267);
    for _ in 0..points() {
        let mut lab = Lab::with(&source, "tiny");
        let run = lab.start(&["image", lab.old(), lab.tape(), "--label", "A"]);
        std::thread::sleep(Duration::from_millis(20 + random.below(400)));
        lab.kill_target();
        let e = run.end();
        lab.serve("full-ntbak", "size=64G");
        match e.code {
            Some(0) => {
                lab.expect(0, &["verify", lab.tape(), "--against", &lab.old_file()]);
            }
            Some(1) => {
                assert!(e.err.contains("error"), "{}", e.said());
                lab.assert_incomplete("power cut of the target");
                go_on(&lab, "power cut of the target");
            }
            code => panic!("{code:?} {}", e.said()),
        }
        // The cartridge can be used again.
        lab.image(0);
        lab.restore(0);
        lab.assert_same("after a power cut");
    }
}

/// The program dies: the same.
#[test]
fn a_power_cut_of_the_host() {
    let source = big();
    let mut random = Random::seeded(0x686f_7374);
    for _ in 0..points() {
        let mut lab = Lab::with(&source, "tiny");
        let mut run = lab.start(&["image", lab.old(), lab.tape(), "--label", "A"]);
        std::thread::sleep(Duration::from_millis(20 + random.below(400)));
        run.child.kill().unwrap();
        let died = run.end().code.is_none();
        // It may have died behind the last filemark: then all of it is there.
        let whole = lab.run(&["verify", lab.tape()]).code == Some(0);
        if whole {
            lab.expect(0, &["verify", lab.tape(), "--against", &lab.old_file()]);
        } else if died {
            lab.assert_incomplete("power cut of the host");
            go_on(&lab, "power cut of the host");
        }
        lab.wipe();
        lab.image(0);
        let mut run = lab.start(&["restore", lab.tape(), lab.new_disk(), "--yes"]);
        std::thread::sleep(Duration::from_millis(5 + random.below(200)));
        run.child.kill().unwrap();
        let ended = run.end().code;
        if ended.is_none() && lab.difference().is_some() {
            // A disk that is half restored does not look like one.
            let first = std::fs::read(lab.file("new.img")).unwrap();
            assert!(first[..512].iter().all(|&b| b == 0 || b == 0xa5));
        }
        lab.restore(0);
        lab.assert_same("after a power cut of the host");
        lab.stop();
    }
}

/// Goes on with what an interrupted backup left, and restores it: true when
/// there was something to go on with.
fn go_on(lab: &Lab, what: &str) -> bool {
    let e = lab.run(&["image", lab.old(), lab.tape(), "--resume", "--json"]);
    if e.code == Some(0) {
        eprintln!("{what}: {} bytes taken over", e.summary()["resumed_bytes"]);
        lab.wipe();
        lab.restore(0);
        lab.assert_same(what);
        lab.expect(0, &["verify", lab.tape(), "--against", &lab.old_file()]);
        return true;
    }
    // It ended before there was a set on the cartridge, or with all of it.
    let refused = matches!(e.code, Some(1 | 5)) && e.err.contains("error");
    assert!(refused, "{what}: {:?} {}", e.code, e.said());
    eprintln!("{what}: {}", e.err.lines().next().unwrap_or_default());
    false
}

/// How many random points: NTBAK_POINTS says another number.
fn points() -> u32 {
    let asked = std::env::var("NTBAK_POINTS").ok();
    asked
        .and_then(|n| n.parse().ok())
        .unwrap_or(if long() { 12 } else { 3 })
}

/// A volume that takes a while.
fn big() -> std::path::PathBuf {
    crate::common::image("v08-xp-512-ads").unwrap_or_else(|| own("quick"))
}
