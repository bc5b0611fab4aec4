//! Going on after an interruption, and what keeps a run from going on.

use crate::toy::{Dying, Shuffle, archive, content, open, options};
use ntbak::archive::{BLOCK, Forward, Found, Kind, Walker};
use ntbak::device::{FileSource, MemorySink, SharedSource, Sink};
use ntbak::error::{ErrorKind, Result};
use ntbak::observe::{Observer, Silent};
use ntbak::ops::restore::{
    Journal, RestoreOptions, RestorePlan, RestoreSummary, Subject, TargetId, restore, restore_with,
};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const PIECE: u64 = 64 << 10;

fn subject(plan: &RestorePlan, archive: &str) -> Subject {
    Subject {
        archive: archive.into(),
        plan: plan.digest(false, &()).unwrap(),
        target: TargetId {
            name: "a dying disk".into(),
            bytes: plan.bytes,
            sector_bytes: 512,
            serial: None,
            inode: None,
        },
        decided: Default::default(),
    }
}

fn shrunk(plan: &mut RestorePlan, change: &Arc<Shuffle>) {
    let len = change.from.len() as u64 * change.block;
    plan.regions[0].bytes = len;
    plan.regions[0].change = Some(change.clone());
    plan.bytes = len;
}

/// A run with a journal that is written as often as can be.
fn run(
    archive: &Path,
    change: Option<&Arc<Shuffle>>,
    sink: &dyn Sink,
    journal: &Path,
    how: &RestoreOptions,
    observer: &dyn Observer,
) -> Result<RestoreSummary> {
    let (reader, mut plan) = open(archive);
    if let Some(c) = change {
        shrunk(&mut plan, c);
    }
    let what = subject(&plan, "1");
    let kept = match journal.exists() {
        true => Journal::take_up(journal, &what)?,
        false => Journal::create(journal, &what)?,
    };
    let mut kept = kept.every(1, Duration::from_millis(1));
    let s = restore_with(reader, &plan, sink, how, Some(&mut kept), observer)?;
    kept.remove()?;
    Ok(s)
}

/// The disk loses power at every stage, again and again.
#[test]
fn whatever_point_it_dies_at_it_ends_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(12 << 20);
    let path = archive(dir.path(), &bytes);
    let blocks = bytes.len() as u64 / PIECE;
    let change = Arc::new(Shuffle::shrink(blocks, blocks / 2, PIECE, 7));
    let journal = dir.path().join("j");
    let mut resumed = 0;
    for (change, fresh) in [
        (None, true),
        (None, false),
        (Some(&change), true),
        (Some(&change), false),
    ] {
        let want = change.map_or_else(|| bytes.clone(), |c| c.wanted(&bytes));
        for step in [3, 40, 111] {
            let start = match fresh {
                true => vec![0; want.len()],
                false => vec![0xee; want.len()],
            };
            let sink = Dying::new(start, fresh);
            let mut died = 0;
            let s = loop {
                // Each life is a little longer, so that an end comes.
                sink.again(step + died * 9, died);
                match run(&path, change, &sink, &journal, &options(true), &Silent) {
                    Ok(s) => break s,
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Io, "{e}"),
                }
                died += 1;
                let first = &sink.bytes()[..512];
                let zero = first.iter().all(|&b| b == 0);
                let old = first.iter().all(|&b| b == 0xee);
                let last = fs::read_to_string(&journal).unwrap().contains("finishing");
                assert!(
                    zero || old || last,
                    "it looks like a disk after {died} deaths"
                );
            };
            assert!(died > 0 && s.complete && s.verified, "{:?}", s.mismatches);
            resumed += s.resumed_bytes;
            let bad = sink.bytes().iter().zip(&want).position(|(a, b)| a != b);
            assert!(bad.is_none(), "step {step}: differs at {bad:?}");
            assert!(!journal.exists());
        }
    }
    assert!(resumed > 0, "nothing was ever taken over");
}

/// Stops after so many records.
struct Stop(AtomicU64);

impl Observer for Stop {
    fn advance(&self, _: u64) {
        let _ = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
    }
    fn cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }
}

fn stopped(path: &Path, sink: &dyn Sink, journal: &Path, after: u64) {
    let stop = Stop(AtomicU64::new(after));
    let e = run(path, None, sink, journal, &options(false), &stop).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Interrupted);
}

#[test]
fn an_interrupted_run_takes_over_what_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(24 << 20);
    let path = archive(dir.path(), &bytes);
    let journal = dir.path().join("j");
    let plain = MemorySink::new(bytes.len(), 512);
    let (reader, plan) = open(&path);
    let whole = restore(reader, &plan, &plain, &options(false), &Silent).unwrap();
    for verify in [false, true] {
        let sink = MemorySink::used(vec![9; bytes.len()], 512);
        stopped(&path, &sink, &journal, 8);
        stopped(&path, &sink, &journal, 14);
        let s = run(&path, None, &sink, &journal, &options(verify), &Silent).unwrap();
        assert!(s.complete && s.verified == verify);
        assert!(s.resumed_bytes > 4 << 20, "{}", s.resumed_bytes);
        assert_eq!(s.written_bytes + s.resumed_bytes, whole.written_bytes);
        assert!(sink.bytes() == bytes);
    }
    // What an earlier run wrote is read back as well.
    let sink = MemorySink::new(bytes.len(), 512);
    stopped(&path, &sink, &journal, 10);
    let at = 2 << 20;
    sink.write_at(at, &[0x77; 512]).unwrap();
    let s = run(&path, None, &sink, &journal, &options(true), &Silent).unwrap();
    assert!(!s.verified && s.mismatches.iter().any(|m| m.range().contains(&at)));
}

/// A record that was damaged before the interruption is damaged after it too.
#[test]
fn damage_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(24 << 20);
    let path = archive(dir.path(), &bytes);
    let source: SharedSource = Arc::new(FileSource::open(&path, 512).unwrap());
    let mut walker = Walker::new(Forward::new(source, 0), 0);
    let mut chunks = Vec::new();
    while let Some(f) = walker.step().unwrap() {
        if let Found::Record(h) = f
            && h.kind == Kind::Chunk
        {
            chunks.push((h.stream_offset, h.len() as u64));
        }
    }
    let mut packed = fs::read(&path).unwrap();
    let (at, header) = chunks[2];
    packed[(at + header) as usize + BLOCK / 2] ^= 1;
    fs::write(&path, packed).unwrap();
    let journal = dir.path().join("j");
    let sink = MemorySink::used(vec![9; bytes.len()], 512);
    stopped(&path, &sink, &journal, 10);
    let text = fs::read_to_string(&journal).unwrap();
    assert!(text.contains(&format!("\"damaged\":[{at}]")), "{text}");
    stopped(&path, &sink, &journal, 14);
    let s = run(&path, None, &sink, &journal, &options(false), &Silent).unwrap();
    assert!(!s.complete);
    let places: Vec<u64> = s.damage.iter().map(|d| d.from).collect();
    assert_eq!(places, [at]);
    assert!(s.resumed_bytes > 0);
    assert!(sink.bytes()[..512].iter().all(|&b| b == 0));
}

#[test]
fn a_journal_of_something_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(16 << 20);
    let path = archive(dir.path(), &bytes);
    let journal = dir.path().join("j");
    let sink = Dying::new(vec![1; bytes.len()], false);
    stopped(&path, &sink, &journal, 8);
    let (_, plan) = open(&path);
    let good = subject(&plan, "1");
    let refused = |s: &Subject, why: &str| {
        let e = Journal::take_up(&journal, s).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Refused);
        assert!(e.message().contains(why), "{e}");
        assert!(e.advice().unwrap().contains("without --resume"), "{e:?}");
    };
    let mut other = good.clone();
    other.archive = "2".into();
    refused(&other, "its archive is 1");
    let mut other = good.clone();
    other.plan = "x".into();
    refused(&other, "its plan");
    let mut other = good.clone();
    other.target.bytes += 512;
    refused(&other, "its target");
    let mut other = good.clone();
    other.target.serial = Some("S".into());
    refused(&other, "its target");
    let none = Journal::take_up(&dir.path().join("none"), &good).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotFound);
    let held = Journal::take_up(&journal, &good).unwrap();
    let e = Journal::take_up(&journal, &good).unwrap_err();
    assert!(e.message().contains("Another run"), "{e}");
    drop(held);
    // Another serial number is another disk, another name of the same is not.
    let mut known = good.clone();
    known.target.serial = Some("S".into());
    drop(Journal::create(&dir.path().join("k"), &known).unwrap());
    known.target.name = "elsewhere".into();
    drop(Journal::take_up(&dir.path().join("k"), &known).unwrap());

    // Somebody has made a file system on it.
    sink.overwrite(3, b"NTFS    ");
    let e = run(&path, None, &sink, &journal, &options(false), &Silent).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Refused);
    assert!(e.message().contains("has changed"), "{e}");
    sink.overwrite(0, &[0; 512]);
    let s = run(&path, None, &sink, &journal, &options(true), &Silent).unwrap();
    assert!(s.verified && sink.bytes() == bytes);
}

/// When even the last sectors may have been written, they are compared.
#[test]
fn a_target_that_changed_at_the_very_end_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(4 << 20);
    let path = archive(dir.path(), &bytes);
    let journal = dir.path().join("j");
    let sink = Dying::new(vec![1; bytes.len()], false);
    run(&path, None, &sink, &journal, &options(false), &Silent).unwrap();
    let writes = sink.writes();
    let sink = Dying::new(vec![1; bytes.len()], false);
    sink.again(writes - 1, 0);
    let e = run(&path, None, &sink, &journal, &options(false), &Silent).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io);
    assert!(fs::read_to_string(&journal).unwrap().contains("finishing"));
    sink.again(u64::MAX, 0);
    let before = sink.bytes();
    sink.overwrite(3, b"NTFS    ");
    let e = run(&path, None, &sink, &journal, &options(false), &Silent).unwrap_err();
    assert!(e.message().contains("has changed"), "{e}");
    sink.overwrite(0, &before[..512]);
    assert!(sink.bytes() == before, "something was written all the same");
    run(&path, None, &sink, &journal, &options(false), &Silent).unwrap();
    assert!(sink.bytes() == bytes);
}

#[test]
fn a_damaged_journal_counts_as_far_as_it_is_sound() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(16 << 20);
    let path = archive(dir.path(), &bytes);
    let journal = dir.path().join("j");
    let (_, plan) = open(&path);
    let what = subject(&plan, "1");
    let sink = MemorySink::used(vec![1; bytes.len()], 512);
    stopped(&path, &sink, &journal, 8);
    let sound = fs::read(&journal).unwrap();
    let half = sink.bytes();
    let last = Journal::take_up(&journal, &what).unwrap();
    assert!(last.progress().sequence.is_some());
    drop(last);
    let lines: Vec<usize> = (0..sound.len()).filter(|&i| sound[i] == b'\n').collect();
    assert!(lines.len() > 2);
    // Cut anywhere, and with any byte changed: refused, or gone on with from
    // where it is sound.
    let mut places: Vec<usize> = (0..sound.len()).step_by(13).collect();
    places.extend(lines.iter().flat_map(|&i| [i, i + 1]));
    for at in places {
        for cut in [true, false] {
            let mut bad = sound.clone();
            match (cut, bad.get_mut(at)) {
                (false, Some(b)) => *b ^= 0x10,
                _ => bad.truncate(at),
            }
            fs::write(&journal, &bad).unwrap();
            match Journal::take_up(&journal, &what) {
                Err(e) => {
                    assert!(at <= lines[0], "byte {at}: {e}");
                    assert_eq!(e.kind(), ErrorKind::Damaged);
                }
                Ok(j) => {
                    assert!(at > lines[0], "byte {at}");
                    let len = fs::metadata(&journal).unwrap().len() as usize;
                    assert!(len <= at || len == bad.len(), "byte {at}: {len}");
                    drop(j);
                }
            }
        }
    }
    for line in &lines[1..] {
        let mut torn = sound[..*line].to_vec();
        torn.truncate(torn.len() - 3);
        fs::write(&journal, torn).unwrap();
        let sink = MemorySink::used(half.clone(), 512);
        let s = run(&path, None, &sink, &journal, &options(true), &Silent).unwrap();
        assert!(s.verified && sink.bytes() == bytes);
    }
}
