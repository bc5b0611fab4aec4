//! Cartridges that were damaged: it is said, and nothing worse happens.

use crate::rig::{Lab, Random};
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
