//! Cartridges that were damaged: it is said, and nothing worse happens.

use crate::rig::{Lab, Random, plan_of};
use crate::{long, own};
use std::os::unix::fs::FileExt;

/// Commands that read a tape.
fn readers(lab: &Lab) -> Vec<Vec<String>> {
    let out = tempfile::tempdir_in(lab.file(".")).unwrap().keep();
    let to = out.display().to_string();
    let all: &[&[&str]] = &[
        &["verify", lab.tape()],
        &["ls", "-R", lab.tape()],
        &["info", lab.tape()],
        &["cat", lab.tape(), "/$MFT"],
        &["extract", lab.tape(), "/", "-C", &to],
        &["restore", lab.tape(), lab.new_disk(), "--yes"],
        &["restore", lab.tape(), lab.new_disk(), "--yes", "--partial"],
        &["tape", "scan", lab.tape()],
    ];
    let own = |a: &&[&str]| a.iter().map(|s| (*s).to_string()).collect();
    all.iter().map(own).collect()
}

/// None panics, hangs, or ends by a signal.
fn all_end(lab: &Lab, what: &str) -> Vec<Option<i32>> {
    readers(lab)
        .iter()
        .map(|args| {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let e = lab.run(&args);
            let panicked = e.err.contains("panicked") || e.code.is_none_or(|c| c == 101);
            assert!(!panicked, "{what}: {args:?} {:?}\n{}", e.code, e.said());
            e.code
        })
        .collect()
}

#[test]
fn damaged_cartridges_are_said_to_be() {
    let source = own("quick");
    let mut random = Random(0x6861_726d);
    let mut lab = Lab::with(&source, "full-ntbak");
    lab.image(0);
    lab.stop();
    let tap = lab.file("t.tap");
    let sound = std::fs::read(&tap).unwrap();
    let places = if long() { 60 } else { 5 };
    for i in 0..places {
        let mut bad = sound.clone();
        let what = match i % 5 {
            0 => {
                // A sector anywhere.
                let at = random.below(bad.len() as u64) as usize;
                let end = (at + 512).min(bad.len());
                bad[at..end].iter_mut().for_each(|b| *b ^= 0x5a);
                format!("sector at {at}")
            }
            1 => {
                let at = random.below(bad.len() as u64) as usize;
                bad.truncate(at);
                format!("cut at {at}")
            }
            2 => {
                // The end, where index and tail are.
                let at = bad.len() - 1 - random.below(262_144) as usize;
                bad[at] ^= 0xff;
                format!("byte {at} of the end")
            }
            3 => {
                // The beginning, where label, head and file records are.
                let at = random.below(262_144 + 8192) as usize;
                bad[at] ^= 1 << random.below(8);
                format!("bit of byte {at}")
            }
            _ => {
                // A word of a block's frame.
                let at = 4096 + 8 + 4;
                bad[at..at + 4].copy_from_slice(&(random.below(1 << 32) as u32).to_le_bytes());
                "frame".into()
            }
        };
        std::fs::write(&tap, &bad).unwrap();
        let _ = std::fs::remove_file(lab.file("t.tap.idx"));
        match lab.try_serve("full-ntbak", "size=64G") {
            true => {
                let codes = all_end(&lab, &what);
                eprintln!("{what}: {codes:?}");
                lab.stop();
            }
            // What is no cartridge is not served.
            false => eprintln!("{what}: not served"),
        }
        lab.wipe();
    }
}

/// Damage of the data that no digest covers yet is found by a comparison.
#[test]
fn a_changed_byte_of_the_data_is_found_by_a_comparison() {
    let source = own("quick");
    let mut lab = Lab::with(&source, "full-ntbak");
    lab.image(0);
    lab.stop();
    let file = lab.cartridge();
    let len = file.metadata().unwrap().len();
    let mut byte = [0];
    file.read_exact_at(&mut byte, len / 2).unwrap();
    file.write_all_at(&[byte[0] ^ 1], len / 2).unwrap();
    lab.serve("full-ntbak", "size=64G");
    lab.expect(4, &["verify", lab.tape(), "--against", &lab.old_file()]);
}

/// One block of the tape cannot be read: it costs what stands in it, whoever
/// reads, before and after the data was read back once.
#[test]
fn a_bad_tape_block_costs_one_block() {
    let source = own("quick");
    for read_back in [false, true] {
        let mut lab = Lab::with(&source, "full-ntbak");
        lab.image(0);
        if read_back {
            lab.expect(0, &["verify", lab.tape()]);
        }
        let path = "/Pictures/gradient.bmp";
        let whole = lab.expect(0, &["cat", lab.tape(), path]).out;
        lab.stop();
        let block = spoil(&lab, &whole[40_000..40_064]);
        lab.serve("full-ntbak", "size=64G");
        let kept = plan_of(&source).kept_ranges();
        for mover in ["copy-manager", "host"] {
            let what = format!("{mover}, read back: {read_back}");
            lab.wipe();
            let front = [
                "restore",
                lab.tape(),
                lab.new_disk(),
                "--yes",
                "--json",
                "--mover",
                mover,
            ];
            let e = lab.run(&front);
            assert!(matches!(e.code, Some(1 | 4)), "{what}: {:?}", e.code);
            let first = std::fs::read(lab.file("new.img")).unwrap();
            assert!(first[..512].iter().all(|&b| b == 0 || b == 0xa5), "{what}");
            let e = lab.expect(4, &[&front[..], &["--partial"]].concat());
            let (mut zeros, mut others) = (0, 0);
            let new = std::fs::read(lab.file("new.img")).unwrap();
            let old = std::fs::read(&source).unwrap();
            for k in &kept {
                let range = k.start as usize..k.end as usize;
                for (a, b) in old[range.clone()].chunks(512).zip(new[range].chunks(512)) {
                    match a == b {
                        true => {}
                        false if b.iter().all(|&b| b == 0) => zeros += 512,
                        false => others += 512,
                    }
                }
            }
            assert!(
                zeros > 0 && zeros <= block && others == 0,
                "{what}: {zeros} {others}"
            );
            if mover == "copy-manager" {
                let host = e.summary()["host_bytes"].as_u64().unwrap();
                assert!(host < 1 << 20, "{what}: {host} bytes by the host");
            }
        }
        let e = lab.expect(4, &["verify", lab.tape(), "--json"]);
        let damage = e.rows("damage");
        assert_eq!(damage.len(), 1, "{}", e.said());
        assert!(damage[0]["files"].to_string().contains("gradient.bmp"));
        // Its file is not there as a whole, and the others are.
        lab.expect(1, &["cat", lab.tape(), path]);
        let e = lab.expect(0, &["cat", lab.tape(), "/$UpCase"]);
        let file = lab.old_file();
        assert_eq!(e.out, lab.expect(0, &["cat", &file, "/$UpCase"]).out);
        lab.stop();
    }
}

/// Makes the block of the cartridge that holds these bytes one that cannot be
/// read: its bytes.
fn spoil(lab: &Lab, part: &[u8]) -> usize {
    let file = lab.cartridge();
    let all = std::fs::read(lab.file("t.tap")).unwrap();
    let hit = all.windows(part.len()).position(|w| w == part).unwrap();
    let mut at = 0;
    loop {
        let word = u32::from_le_bytes(all[at..at + 4].try_into().unwrap());
        let len = word as usize;
        let behind = if len == 0 {
            at + 4
        } else {
            at + 8 + len + len % 2
        };
        if hit < behind {
            let bad = (word | 0x8000_0000).to_le_bytes();
            file.write_all_at(&bad, at as u64).unwrap();
            file.write_all_at(&bad, behind as u64 - 4).unwrap();
            let _ = std::fs::remove_file(lab.file("t.tap.idx"));
            return len;
        }
        at = behind;
    }
}

/// The power went when the last record was on the tape and the filemarks were not.
#[test]
fn a_tape_without_its_last_filemarks_is_not_finished() {
    let source = own("disk-mbr");
    // Two marks and the end of the medium, four bytes each; the first mark is torn.
    for cut in [5, 8, 9] {
        let mut lab = Lab::with(&source, "full-ntbak");
        lab.image(0);
        lab.stop();
        let mut how = std::fs::File::options();
        let tap = how.write(true).open(lab.file("t.tap")).unwrap();
        tap.set_len(tap.metadata().unwrap().len() - cut).unwrap();
        let _ = std::fs::remove_file(lab.file("t.tap.idx"));
        lab.serve("full-ntbak", "size=64G");
        let fresh = lab.file("nothing-known").display().to_string();
        let of = ["--inventory", &fresh, "--json"];
        let run = |args: &[&str]| lab.run(&[args, &of[..]].concat());
        let scan = run(&["tape", "scan", lab.tape()]);
        assert!(
            scan.said().contains("\"complete\":false"),
            "{cut}: {}",
            scan.said()
        );
        for (code, args) in [
            (5, &["restore", lab.tape(), lab.new_disk(), "--yes"][..]),
            (4, &["verify", lab.tape()]),
        ] {
            let e = run(args);
            assert_eq!(e.code, Some(code), "{cut}: {args:?} {}", e.said());
        }
        assert_eq!(
            run(&["info", lab.tape()]).rows("archive")[0]["complete"],
            false
        );
        // It is closed by going on.
        lab.expect(0, &["image", lab.old(), lab.tape(), "--resume"]);
        lab.expect(0, &["verify", lab.tape(), "--against", lab.old()]);
        lab.restore(0);
        lab.assert_same("closed later");
    }
}
