//! Every fault that `ntbak target` can put in (docs/copy.md section 6) × backup,
//! restore and resume × copy managers. What comes of each is stated beforehand.
//!
//! The cartridges come from a changer, so that early warning has somewhere to go
//! on. `scripts/test-serverless.sh` runs all of it, else a part.

use crate::rig::{Ended, Lab};
use crate::{long, own};

/// How a run ends that meets a fault.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// As if nothing had been.
    Well,
    /// With an error; `--resume`, or a restore again, makes it well.
    Badly,
}
use End::{Badly, Well};

/// A fault, and how backup, restore and resume end.
type Row = (&'static str, [End; 3]);

/// WHAT of a segment, met once and for good.
const WHATS: &[Row] = &[
    // Found to read well by the host, and sent again; the host reads the tape.
    ("source", [Well, Well, Well]),
    ("source*99", [Badly, Well, Badly]),
    ("destination", [Badly, Well, Badly]),
    ("destination*99", [Badly, Well, Badly]),
    ("tape", [Badly, Well, Badly]),
    ("tape*99", [Badly, Well, Badly]),
    // The next cartridge.
    ("early-warning", [Well, Well, Well]),
    ("attention", [Well, Well, Well]),
    ("attention*99", [Badly, Well, Badly]),
    ("busy", [Well, Well, Well]),
    ("busy*99", [Badly, Well, Badly]),
    ("reserved", [Badly, Well, Badly]),
    ("reserved*99", [Badly, Well, Badly]),
];

/// Faults of whole commands.
const COMMANDS: &[Row] = &[
    ("busy=2", [Well, Well, Well]),
    ("busy=99", [Badly, Well, Badly]),
    ("attention=2", [Well, Well, Well]),
    ("attention=99", [Badly, Well, Badly]),
    ("lost-id=3", [Well, Well, Well]),
    ("discard-held=2", [Well, Well, Well]),
    ("late-status=300", [Well, Well, Well]),
];

/// Where a segment fails: command, segment, bytes.
fn places() -> &'static [&'static str] {
    match long() {
        false => &["segment:1@8192"],
        true => &[
            "segment:0@0",
            "segment:1@0",
            "segment:1@8192",
            "command:2/segment:1@4096",
            "command:3/segment:0@0",
        ],
    }
}

fn profiles() -> &'static [&'static str] {
    match long() {
        false => &["full-ntbak", "tiny"],
        true => &[
            "full-ntbak",
            "tiny",
            "noinline",
            "nofm",
            "router-spc2",
            "full-spc",
        ],
    }
}

/// Every fault as the target takes it.
fn faults() -> Vec<(String, [End; 3])> {
    let segments = places().iter().flat_map(|place| {
        WHATS.iter().map(move |&(what, ends)| {
            let (what, times) = what.split_once('*').unwrap_or((what, "1"));
            (format!("fail={place}:{what}*{times}"), ends)
        })
    });
    let whole = COMMANDS.iter().map(|&(f, ends)| (f.to_owned(), ends));
    segments.chain(whole).collect()
}

/// A lab whose cartridges come from a changer.
struct Shelf {
    lab: Lab,
    set: Option<String>,
}

impl Shelf {
    fn new(source: &std::path::Path) -> Self {
        let mut lab = Lab::new(source);
        lab.library = Some("64M".into());
        Self { lab, set: None }
    }

    fn serve(&mut self, profile: &str) {
        self.lab.serve(profile, "");
    }

    fn run(&self, front: &[&str], set: bool) -> Ended {
        let set = self.set.as_deref().filter(|_| set);
        let changer = self.lab.changer(set);
        let all: Vec<&str> = front
            .iter()
            .copied()
            .chain(changer.iter().map(String::as_str))
            .collect();
        self.lab.run(&all)
    }

    fn image(&self, how: &[&str], set: bool) -> Ended {
        let front = ["image", self.lab.old(), self.lab.tape(), "--json"];
        self.run(&[&front[..], how].concat(), set)
    }

    fn restore(&self) -> Ended {
        let front = [
            "restore",
            self.lab.tape(),
            self.lab.new_disk(),
            "--yes",
            "--json",
        ];
        self.run(&front, true)
    }

    /// The set of the cartridge that is in the drive, from its own label.
    fn look(&mut self) {
        let e = self.lab.run(&["tape", "scan", self.lab.tape(), "--json"]);
        let id = e.said();
        let at = id.find("\"set\":\"").map(|i| i + 7);
        self.set = at.and_then(|i| Some(id.get(i..i + 32)?.to_owned()));
    }

    /// There and back without a fault; the disk is the same, and so is the tape.
    fn assert_whole(&self, what: &str) {
        self.lab.wipe();
        let e = self.restore();
        assert_eq!(e.code, Some(0), "{what}: {}", e.said());
        self.lab.assert_same(what);
        let old = self.lab.old_file();
        let e = self.run(&["verify", self.lab.tape(), "--against", &old], true);
        assert_eq!(e.code, Some(0), "{what}: {}", e.said());
    }

    fn assert_incomplete(&self, what: &str) {
        for front in [
            &["verify", self.lab.tape()][..],
            &["restore", self.lab.tape(), self.lab.new_disk(), "--yes"],
        ] {
            let e = self.run(front, true);
            let bad = matches!(e.code, Some(1 | 3 | 4 | 5));
            assert!(bad, "{what}: {front:?}: {:?} {}", e.code, e.said());
        }
    }
}

fn assert_end(what: &str, e: &Ended, end: End) {
    let told = e.rows("error").len();
    let fits = match end {
        Well => e.code == Some(0) && told == 0,
        Badly => matches!(e.code, Some(1 | 5)) && told == 1,
    };
    assert!(fits, "{what}: not {end:?}: {:?} {}", e.code, e.said());
}

/// Backup meets the fault, and goes on without it.
#[test]
fn a_backup_meets_every_fault() {
    let source = own("quick");
    for profile in profiles() {
        for (fault, ends) in faults() {
            let what = format!("backup {profile},{fault}");
            let mut shelf = Shelf::new(&source);
            shelf.serve(&format!("{profile},{fault}"));
            let e = shelf.image(&["--label", "A"], false);
            assert_met(&what, &fault, &e, ends[0]);
            shelf.look();
            if e.code != Some(0) {
                shelf.assert_incomplete(&what);
            }
            shelf.lab.stop();
            shelf.serve(profile);
            if e.code != Some(0) {
                assert!(shelf.set.is_some(), "{what}: no set to go on with");
                let e = shelf.image(&["--resume"], true);
                assert_end(&what, &e, Well);
            }
            shelf.assert_whole(&what);
            shelf.lab.stop();
        }
    }
}

/// A command that is not there cannot fail.
fn assert_met(what: &str, fault: &str, e: &Ended, end: End) {
    let met = !fault.contains("command:") || e.code != Some(0);
    assert_end(what, e, if met { end } else { Well });
}

/// A restore meets the fault: the host takes over where the copy manager fails.
#[test]
fn a_restore_meets_every_fault() {
    let source = own("quick");
    for profile in profiles() {
        let mut shelf = Shelf::new(&source);
        shelf.serve(profile);
        assert_end(profile, &shelf.image(&["--label", "A"], false), Well);
        shelf.look();
        for (fault, ends) in faults() {
            let what = format!("restore {profile},{fault}");
            shelf.lab.stop();
            shelf.lab.wipe();
            shelf.serve(&format!("{profile},{fault}"));
            let e = shelf.restore();
            assert_met(&what, &fault, &e, ends[1]);
            shelf.lab.assert_same(&what);
        }
        shelf.lab.stop();
    }
}

/// A backup that broke off goes on and meets the fault, and goes on once more.
#[test]
fn a_resumed_backup_meets_every_fault() {
    let source = own("quick");
    // The one with many commands has most to go on with.
    let profiles = if long() { profiles() } else { &["tiny"] };
    for profile in profiles {
        for (fault, ends) in faults() {
            let what = format!("resume {profile},{fault}");
            let mut shelf = Shelf::new(&source);
            shelf.serve(&format!("{profile},fail=segment:1@8192:tape"));
            assert_end(&what, &shelf.image(&["--label", "A"], false), Badly);
            shelf.look();
            shelf.lab.stop();
            shelf.serve(&format!("{profile},{fault}"));
            let e = shelf.image(&["--resume"], true);
            assert_met(&what, &fault, &e, ends[2]);
            if e.code != Some(0) {
                shelf.assert_incomplete(&what);
            }
            shelf.lab.stop();
            shelf.serve(profile);
            if e.code != Some(0) {
                assert_end(&what, &shelf.image(&["--resume"], true), Well);
            }
            shelf.assert_whole(&what);
            shelf.lab.stop();
        }
    }
}
