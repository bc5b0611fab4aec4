//! Two volumes record by record: nothing but the places of clusters may differ.

use ntbak::observe::Silent;
use ntbak::units::{Place, RecordNo};
use ntbak::volume::attr::{self, Form};
use ntbak::volume::check::{Severity, check};
use ntbak::volume::{FileRecords, FileStream, Piece, Stream, Volume};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Files of which more may differ: `$MFT`, `$MFTMirr`, `$LogFile`, `$Volume`,
/// the root (sizes beside names), `$Bitmap`, `$Boot`, `$BadClus`.
pub const SYSTEM: [u64; 8] = [0, 1, 2, 3, 5, 6, 7, 8];

fn digest(stream: &Stream) -> Result<[u8; 32], String> {
    let mut hash = blake3::Hasher::new();
    let zeros = [0; 4096];
    stream
        .copy(|piece| {
            match piece {
                Piece::Data(b) => drop(hash.update(b)),
                Piece::Zero(mut n) => {
                    while n > 0 {
                        let now = n.min(4096);
                        hash.update(&zeros[..now as usize]);
                        n -= now;
                    }
                }
                Piece::Unreadable(_, e) => return Err(e),
            }
            Ok(())
        })
        .map_err(|e| e.message().to_owned())?;
    Ok(*hash.finalize().as_bytes())
}

/// Where a stream has clusters and where holes, neighbours joined.
fn holes(file: &FileRecords, code: u32, name: &[u8]) -> Vec<(bool, u64)> {
    let Some(FileStream::NonResident(joined)) = file.stream(code, name) else {
        return Vec::new();
    };
    let mut out: Vec<(bool, u64)> = Vec::new();
    for e in joined.map.as_slice() {
        let hole = e.place == Place::Hole;
        match out.last_mut() {
            Some(last) if last.0 == hole => last.1 += e.len.0,
            _ => out.push((hole, e.len.0)),
        }
    }
    out
}

/// Runs of the streams that are not in one run though they might be.
pub fn broken_streams(volume: &Volume) -> u64 {
    let mut broken = 0;
    for n in 0..volume.mft().record_count {
        let Ok(file) = volume.file(RecordNo(n)) else {
            continue;
        };
        let view = file.base().view();
        if !view.in_use() || view.base().is_some() || n == 7 {
            continue;
        }
        let streams: BTreeSet<(u32, Vec<u8>)> = file
            .attributes()
            .map(|(_, a)| (a.type_code, a.name.to_vec()))
            .collect();
        for (code, name) in streams {
            if let Some(FileStream::NonResident(joined)) = file.stream(code, &name) {
                let mut next = None;
                let mut apart = false;
                for e in joined.map.as_slice() {
                    if let Place::At(lcn) = e.place {
                        apart |= next.is_some_and(|n| n != lcn.0);
                        next = Some(lcn.0 + e.len.0);
                    }
                }
                broken += u64::from(apart);
            }
        }
    }
    broken
}

/// Fails where the volumes differ in what must stay. `loose` are base records
/// of which sizes and content may differ.
pub fn same(what: &str, old: &Volume, new: &Volume, loose: &[u64]) {
    assert_eq!(old.mft().record_count, new.mft().record_count, "{what}");
    let mut read = 0;
    for n in 0..old.mft().record_count {
        let number = RecordNo(n);
        let (a, b) = (old.record(number), new.record(number));
        let (a, b) = match (a, b) {
            (Ok(a), Ok(b)) => (a, b),
            (Err(a), Err(b)) => {
                assert_eq!(a.message(), b.message(), "{what}: record {n}");
                continue;
            }
            (a, b) => panic!("{what}: record {n}: {:?} {:?}", a.err(), b.err()),
        };
        let (a, b) = (a.view(), b.view());
        let head = |v: &ntbak::volume::RecordView<'_>| {
            (
                v.in_use(),
                v.flags(),
                v.sequence(),
                v.links(),
                v.lsn(),
                v.base(),
                v.next_attr_id(),
            )
        };
        assert_eq!(head(&a), head(&b), "{what}: record {n}");
        if !a.in_use() {
            continue;
        }
        let base = a.base().map_or(n, |b| b.record.0);
        let free = SYSTEM.contains(&base) || loose.contains(&base);
        let (all, there): (Vec<_>, Vec<_>) = (a.attributes().collect(), b.attributes().collect());
        assert_eq!(all.len(), there.len(), "{what}: record {n}");
        for (x, y) in all.into_iter().zip(there) {
            let (x, y) = match (x, y) {
                (Ok(x), Ok(y)) => (x, y),
                (x, y) => {
                    assert_eq!(x.is_err(), y.is_err(), "{what}: record {n}");
                    continue;
                }
            };
            let key = |a: &attr::Attribute<'_>| (a.type_code, a.id, a.flags, a.name.to_vec());
            assert_eq!(key(&x), key(&y), "{what}: record {n}");
            match (x.form, y.form) {
                (Form::Resident { value: v }, Form::Resident { value: w }) => {
                    assert!(v == w || free, "{what}: record {n}, {:#x}", x.type_code);
                    assert_eq!(v.len(), w.len(), "{what}: record {n}");
                }
                (Form::NonResident(v), Form::NonResident(w)) => {
                    let sizes = |n: &attr::NonResident<'_>| {
                        (
                            n.lowest_vcn,
                            n.highest_vcn,
                            n.allocated,
                            n.size,
                            n.initialized,
                            n.compressed_total,
                            n.compression_unit,
                        )
                    };
                    let may = matches!(base, 6 | 8) || loose.contains(&base);
                    assert!(sizes(&v) == sizes(&w) || may, "{what}: record {n}");
                }
                _ => panic!("{what}: record {n}, {:#x} changed its form", x.type_code),
            }
        }
        if base != n {
            continue;
        }
        let (Ok(f), Ok(g)) = (old.file(number), new.file(number)) else {
            continue;
        };
        assert_eq!(
            f.extensions().len(),
            g.extensions().len(),
            "{what}: record {n}"
        );
        let streams: BTreeSet<(u32, Vec<u8>)> = f
            .attributes()
            .map(|(_, a)| (a.type_code, a.name.to_vec()))
            .collect();
        for (code, name) in streams {
            if free && !(n == 5 && code != attr::INDEX_ALLOCATION && code != attr::INDEX_ROOT) {
                continue;
            }
            assert_eq!(
                holes(&f, code, &name),
                holes(&g, code, &name),
                "{what}: record {n}"
            );
            let open = |v, f| Stream::open(v, f, code, &name).map_err(|e| e.message().to_owned());
            match (open(old, &f), open(new, &g)) {
                (Ok(Some(s)), Ok(Some(t))) => {
                    read += 1;
                    let (s, t) = (digest(&s), digest(&t));
                    // Words about places differ.
                    let same = s == t || s.is_err() && t.is_err();
                    assert!(same, "{what}: record {n}, {code:#x}: {s:?} {t:?}");
                }
                (s, t) => assert_eq!(s.is_err(), t.is_err(), "{what}: record {n}, {code:#x}"),
            }
        }
    }
    assert!(read > 3, "{what}: only {read} streams were compared");
}

fn issues(volume: &Volume) -> BTreeMap<&'static str, (u64, Vec<String>)> {
    let found = check(volume, &Silent).unwrap();
    let mut all: BTreeMap<&'static str, (u64, Vec<String>)> = BTreeMap::new();
    for i in found.issues {
        if i.severity != Severity::Note {
            let entry = all.entry(i.code.as_str()).or_default();
            entry.0 += 1;
            entry.1.push(i.message);
        }
    }
    all
}

/// Our own check finds nothing in the new volume that it did not find in the old one.
pub fn consistent(what: &str, old: &Volume, new: &Volume) {
    let (before, after) = (issues(old), issues(new));
    for (code, (n, messages)) in after {
        let had = before.get(code).map_or(0, |b| b.0);
        assert!(
            n <= had,
            "{what}: {code} {had} times before, now {n}: {messages:#?}"
        );
    }
}

/// Where `$Bitmap` and the records differ: used by nobody, owned but free, owned
/// twice, outside.
pub fn differences(volume: &Volume) -> [u64; 4] {
    let d = ntbak::volume::analyse(volume, &Silent).unwrap();
    let d = d.report.differences;
    [&d.used_unowned, &d.owned_free, &d.owned_twice, &d.outside].map(|l| l.clusters)
}

/// `$Bitmap` is as right as it was, and the copies are right.
pub fn sound(what: &str, old: &Volume, volume: &Volume) {
    let (before, after) = (differences(old), differences(volume));
    let no_more = after.iter().zip(before).all(|(a, b)| *a <= b);
    assert!(no_more, "{what}: {before:?} {after:?}");
    let health = ntbak::volume::health(volume);
    assert_eq!(
        health.mft_mirror,
        ntbak::volume::health::MftMirror::Same,
        "{what}"
    );
    assert_eq!(
        health.log,
        ntbak::volume::logfile::LogState::Reset,
        "{what}"
    );
}

/// Counts by word, for messages at the end of a test.
#[derive(Default)]
pub struct Tally(pub HashMap<String, u64>);

impl Tally {
    pub fn add(&mut self, word: impl Into<String>) {
        *self.0.entry(word.into()).or_default() += 1;
    }
}
