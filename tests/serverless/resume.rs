//! A restore by a copy manager that was stopped goes on where it was.

use crate::own;
use crate::rig::{Ended, Lab, signal};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

/// The journal of the only restore that this folder knows.
fn journal(lab: &Lab) -> Option<PathBuf> {
    let mut all = fs::read_dir(lab.file("state/ntbak/restore")).ok()?;
    all.find_map(|e| Some(e.ok()?.path()).filter(|p| p.extension().is_some_and(|x| x == "journal")))
}

fn says(lab: &Lab, what: &str) -> bool {
    let text = journal(lab).and_then(|p| fs::read_to_string(p).ok());
    text.is_some_and(|t| t.contains(what))
}

fn restore(lab: &Lab, code: i32, more: &[&str]) -> Ended {
    let args = ["restore", lab.tape(), lab.new_disk(), "--yes", "--json"];
    lab.expect(code, &[&args[..], more].concat())
}

/// Stopped by a signal after some commands; the journal then says how far it came.
fn stopped(lab: &Lab, more: &[&str]) {
    let mut after = Duration::from_millis(60);
    for _ in 0..100 {
        let args = ["restore", lab.tape(), lab.new_disk(), "--yes", "-q"];
        let run = lab.start(&[&args[..], more].concat());
        while journal(lab).is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(after);
        signal(&run.child, "INT");
        let e = run.end();
        match e.code {
            Some(130) if says(lab, "copied") => return,
            // Too early, too late.
            Some(130) => after += after / 4,
            Some(0) => after = after * 2 / 3,
            _ => panic!("{:?}: {}", e.code, e.said()),
        }
        if let Some(j) = journal(lab) {
            fs::remove_file(j).unwrap();
        }
    }
    panic!("it was never stopped in the middle");
}

#[test]
fn a_stopped_restore_goes_on_by_the_copy_manager() {
    let source = own("quick");
    let mut lab = Lab::with(&source, "tiny");
    lab.image(0);
    let whole = restore(&lab, 0, &[]).summary();
    let number = |s: &serde_json::Value, k: &str| s[k].as_u64().unwrap();
    for more in [&[][..], &["--zero-free", "--new-ids"]] {
        lab.stop();
        lab.wipe();
        lab.serve("tiny", "size=64G");
        stopped(&lab, more);
        // It does not look like a restored disk.
        let e = lab.run(&["info", lab.new_disk(), "--json"]);
        assert!(!e.said().contains("ntfs"), "{}", e.said());
        let back = restore(&lab, 0, &[&["--resume", "--verify"], more].concat()).summary();
        assert_eq!(back["state"], "verified", "{back}");
        let (now, before) = (
            number(&back, "copied_bytes"),
            number(&back, "resumed_bytes"),
        );
        assert!(before > 0 && now > 0, "{back}");
        assert!(now < number(&whole, "copied_bytes"), "{back}");
        assert!(journal(&lab).is_none());
        if more.is_empty() {
            lab.assert_same("resumed");
        }
    }
    // There is none any more; and one with other wishes is not gone on with.
    restore(&lab, 1, &["--resume"]);
    stopped(&lab, &[]);
    restore(&lab, 5, &["--resume", "--zero-free"]);
    // Somebody wrote the disk meanwhile.
    let disk = fs::File::options()
        .write(true)
        .open(lab.new_file())
        .unwrap();
    disk.write_all_at(b"mine", 3).unwrap();
    let e = restore(&lab, 5, &["--resume"]);
    assert!(e.said().contains("has changed since"), "{}", e.said());
    disk.write_all_at(&[0; 4], 3).unwrap();
    // By the host it begins again, and says who moves the data.
    let back = restore(&lab, 0, &["--resume", "--mover", "host", "--verify"]);
    assert_eq!(back.summary()["state"], "verified");
    lab.assert_same("resumed by the host");
}

/// The run ended while the first sectors were written.
#[test]
fn what_comes_last_is_written_again() {
    let source = own("disk-mbr");
    let lab = Lab::with(&source, "full-ntbak");
    lab.image(0);
    let kept = lab.file("kept");
    for _ in 0..50 {
        let args = ["restore", lab.tape(), lab.new_disk(), "--yes", "-q"];
        let mut run = lab.start(&args);
        while run.child.try_wait().unwrap().is_none() {
            // Another name of the journal: it goes on to its last line.
            if journal(&lab).is_some_and(|j| fs::hard_link(j, &kept).is_ok()) {
                break;
            }
        }
        assert_eq!(run.end().code, Some(0));
        if kept.exists() {
            break;
        }
    }
    lab.assert_same("restored");
    let text = fs::read_to_string(&kept).unwrap();
    assert!(text.contains("finishing"), "{text}");
    // Its name comes from the unit's serial number: that of a run that is stopped.
    let disk = fs::File::options()
        .write(true)
        .open(lab.new_file())
        .unwrap();
    let named = {
        let args = ["restore", lab.tape(), lab.new_disk(), "--yes", "-q"];
        let run = lab.start(&args);
        let mut found = None;
        while found.is_none() {
            found = journal(&lab);
        }
        run.end();
        found.unwrap()
    };
    let again = |first: Option<&[u8]>| {
        fs::copy(&kept, &named).unwrap();
        if let Some(bytes) = first {
            disk.write_all_at(bytes, 0).unwrap();
        }
    };
    // Nothing of the first sector is there yet.
    again(Some(&[0; 512]));
    restore(&lab, 0, &["--resume", "--verify"]);
    lab.assert_same("first sector missing");
    // All of it is.
    again(None);
    restore(&lab, 0, &["--resume"]);
    lab.assert_same("first sector there");
    // Something else is.
    again(Some(&[0x5a; 512]));
    let e = restore(&lab, 5, &["--resume"]);
    assert!(e.said().contains("has changed since"), "{}", e.said());
}
