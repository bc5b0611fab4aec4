//! Inventories.

use super::super::label::{LabelKind, SetPart};
use super::super::part::TapeFile;
use super::*;
use crate::error::ErrorKind;
use proptest::prelude::*;

fn id(n: u8) -> Id {
    Id([n; 16])
}

fn part(set: u8, cartridge: u8, sequence: u32, start: u64, continued: bool) -> PartMap {
    let label = Label {
        kind: LabelKind::Label,
        cartridge: id(cartridge),
        part: Some(SetPart {
            set: id(set),
            sequence,
            block_bytes: 4096,
            stream_offset: start,
            previous: None,
        }),
        time: 1,
        name: format!("C{cartridge}"),
    };
    PartMap {
        label,
        files: vec![TapeFile {
            first_object: 2,
            blocks: 3,
            stream_offset: start,
            ended: true,
        }],
        continued,
        closed: true,
    }
}

fn facts() -> SetFacts {
    SetFacts {
        source: "/dev/sdb".into(),
        ..SetFacts::default()
    }
}

fn fresh() -> (tempfile::TempDir, Inventory) {
    let dir = tempfile::tempdir().unwrap();
    let i = Inventory::open(Some(&dir.path().join("a/b"))).unwrap();
    (dir, i)
}

#[test]
fn a_set_grows_cartridge_by_cartridge() {
    let (_dir, i) = fresh();
    assert!(i.list().unwrap().sets.is_empty());
    let second = part(1, 11, 2, 12288, false);
    let s = i.record(&second, None, Some(true)).unwrap();
    assert_eq!((s.missing(), s.complete), (vec![1], Some(true)));
    let first = part(1, 10, 1, 0, true);
    let s = i.record(&first, Some(&facts()), None).unwrap();
    assert_eq!((s.missing(), s.complete), (vec![], Some(true)));
    assert_eq!(s.stream_bytes(), 6 * 4096);
    assert_eq!(i.set(id(1)).unwrap().unwrap(), s);
    assert_eq!(i.of_cartridge(id(11)).unwrap().unwrap().set, id(1));
    assert!(i.of_cartridge(id(12)).unwrap().is_none());
    assert!(i.remove(id(1)).unwrap());
    assert!(!i.remove(id(1)).unwrap());
    assert!(i.set(id(1)).unwrap().is_none());
}

#[test]
fn a_cartridge_is_in_one_set_only() {
    let (_dir, i) = fresh();
    i.record(&part(1, 10, 1, 0, true), Some(&facts()), None)
        .unwrap();
    i.record(&part(1, 11, 2, 12288, false), None, Some(true))
        .unwrap();
    i.store_digests(&Digests::new(id(1))).unwrap();
    // The second one is written again, for another set.
    i.record(&part(2, 11, 1, 0, false), None, Some(true))
        .unwrap();
    assert_eq!(i.set(id(1)).unwrap().unwrap().missing(), [2]);
    assert_eq!(i.of_cartridge(id(11)).unwrap().unwrap().set, id(2));
    // Then both are labelled anew.
    for n in [10, 11] {
        let mut label = part(1, n, 1, 0, false).label;
        label.part = None;
        i.record_blank(&label).unwrap();
    }
    let all = i.list().unwrap();
    assert_eq!((all.sets.len(), all.blank.len()), (0, 2));
    assert!(i.digests(id(1)).unwrap().is_empty());
    // And one holds a set again.
    i.record(&part(3, 10, 1, 0, false), None, None).unwrap();
    assert_eq!(i.list().unwrap().blank.len(), 1);
}

#[test]
fn a_set_that_was_written_again_further_has_no_old_end() {
    let (_dir, i) = fresh();
    i.record(&part(1, 10, 1, 0, false), None, Some(false))
        .unwrap();
    let s = i.record(&part(1, 10, 1, 0, true), None, None).unwrap();
    assert_eq!((s.complete, s.missing()), (None, vec![2]));
}

#[test]
fn damaged_files_cost_themselves_and_are_made_anew() {
    let (_dir, i) = fresh();
    i.record(&part(1, 10, 1, 0, false), None, Some(true))
        .unwrap();
    i.record(&part(2, 20, 1, 0, false), None, Some(true))
        .unwrap();
    let path = i.dir().join(format!("sets/{}.json", id(1)));
    let good = std::fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("\"version\": 1", "\"version\": 2"),
        ("\"blocks\": 3", "\"blocks\": 18446744073709551615"),
        (
            "\"first_object\": 2",
            "\"first_object\": 18446744073709551615",
        ),
        ("\"stream_offset\": 0", "\"stream_offset\": 4095"),
        ("\"sequence\": 1", "\"sequence\": 0"),
        ("\"block_bytes\": 4096", "\"block_bytes\": 0"),
        ("\"1\": {", "\"2\": {"),
        ("{", "["),
    ] {
        let bad = good.replacen(from, to, 9);
        assert_ne!(bad, good, "{from}");
        std::fs::write(&path, bad).unwrap();
        let all = i.list().unwrap();
        assert_eq!((all.sets.len(), all.bad.len()), (1, 1), "{to}");
        assert_eq!(i.set(id(1)).unwrap_err().kind(), ErrorKind::Damaged);
    }
    i.record(&part(1, 10, 1, 0, false), None, Some(true))
        .unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), good);
    let digests = i.dir().join(format!("sets/{}.digests", id(1)));
    std::fs::write(&digests, b"NTBK").unwrap();
    assert!(i.digests(id(1)).is_err());
    let mut d = Digests::new(id(1));
    d.insert(5, [5; 32]);
    i.store_digests(&d).unwrap();
    assert_eq!(i.digests(id(1)).unwrap(), d);
}

#[test]
fn several_runs_may_record_at_once() {
    let (_dir, i) = fresh();
    std::thread::scope(|s| {
        for n in 0..8u8 {
            let i = i.clone();
            s.spawn(move || {
                let mut d = Digests::new(id(1));
                d.insert(n.into(), [n; 32]);
                i.store_digests(&d).unwrap();
                i.record(&part(1, n + 1, n.into(), 0, n < 7), None, None)
            });
        }
    });
    assert_eq!(i.digests(id(1)).unwrap().len(), 8);
}

#[test]
fn nothing_is_made_by_looking() {
    let (dir, i) = fresh();
    i.list().unwrap();
    assert!(i.of_cartridge(id(1)).unwrap().is_none());
    assert!(i.digests(id(1)).unwrap().is_empty() && !i.remove(id(1)).unwrap());
    assert!(!dir.path().join("a").exists());
}

proptest! {
    #[test]
    fn digests_are_a_map(
        entries in prop::collection::vec((prop_oneof![0u64..40, u64::MAX - 3..], any::<u8>()), 0..60),
        more in prop::collection::vec((0u64..40, any::<u8>()), 0..20),
    ) {
        let mut model = std::collections::BTreeMap::new();
        let mut d = Digests::new(id(7));
        for (n, b) in entries {
            // The last number of all is not one that a record can have.
            let n = n.min(u64::MAX - 1);
            d.insert(n, [b; 32]);
            model.insert(n, [b; 32]);
        }
        let mut newer = Digests::new(id(7));
        for (n, b) in more {
            newer.insert(n, [b; 32]);
            model.insert(n, [b; 32]);
        }
        d.merge(&newer).unwrap();
        prop_assert_eq!(d.len(), model.len() as u64);
        prop_assert!(d.iter().map(|(n, x)| (n, *x)).eq(model.clone()));
        for (n, x) in &model {
            prop_assert_eq!(d.get(*n), Some(x));
        }
        prop_assert_eq!(d.get(50), None);
        let b = d.encode();
        prop_assert_eq!(&Digests::decode(id(7), &b).unwrap(), &d);
        prop_assert!(Digests::decode(id(8), &b).is_err());
    }

    #[test]
    fn damaged_digests_are_seen(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>()) {
        let mut d = Digests::new(id(7));
        for n in [0, 1, 2, 9] {
            d.insert(n, [n as u8; 32]);
        }
        let mut b = d.encode();
        let at = at.index(b.len());
        match cut {
            true => b.truncate(at),
            false => b[at] ^= 1 << bit,
        }
        prop_assert!(Digests::decode(id(7), &b).is_err());
    }

    #[test]
    fn any_bytes_are_refused_or_read(runs in any::<u64>(), body in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut b = Digests::new(id(7)).encode();
        b[32..40].copy_from_slice(&runs.to_le_bytes());
        b.extend(body);
        b[12..16].fill(0);
        let crc = crc32c::crc32c(&b).to_le_bytes();
        b[12..16].copy_from_slice(&crc);
        if let Ok(d) = Digests::decode(id(7), &b) {
            prop_assert_eq!(d.encode(), b);
        }
    }
}
