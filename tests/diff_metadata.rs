//! `diff` names every kind of metadata that differs, and nothing else.

mod common;

use common::edit::{attribute, edit, number, stream_at};
use ntbak::device::{Rearranged, SharedSource};
use ntbak::observe::Silent;
use ntbak::ops::diff::{Aspects, Change, DiffOptions, diff};
use ntbak::volume::rework::{Wish, plan, survey};
use ntbak::volume::{Tree, Volume};
use std::sync::Arc;

type Found = Vec<(String, Change, Aspects)>;

fn compare(old: SharedSource, new: SharedSource, options: DiffOptions) -> Found {
    let (found, unreadable) = compare_damaged(old, new, options);
    assert_eq!(unreadable, 0, "{found:?}");
    found
}

/// Where some of it cannot be read: how much that is, too.
fn compare_damaged(old: SharedSource, new: SharedSource, options: DiffOptions) -> (Found, u64) {
    let (old, new) = (Volume::open(old).unwrap(), Volume::open(new).unwrap());
    let mut found = Vec::new();
    let s = diff(&Tree::new(&old), &Tree::new(&new), options, &Silent, |d| {
        let path = String::from_utf8(d.path.clone()).unwrap();
        found.push((path, d.change, d.aspects));
        Ok(())
    })
    .unwrap();
    assert!(s.same > 0, "{s:?}");
    (found, s.unreadable)
}

/// Compares both ways; what is other in the paths of the first way.
fn changed(a: &[u8], b: &[u8]) -> Found {
    let shared = |x: &[u8]| common::Memory::shared(x.to_vec());
    let there = compare(shared(a), shared(b), DiffOptions::default());
    let back = compare(shared(b), shared(a), DiffOptions::default());
    assert_eq!(there.len(), back.len(), "{there:?} {back:?}");
    let quick = DiffOptions {
        quick: true,
        ..DiffOptions::default()
    };
    assert_eq!(there, compare(shared(a), shared(b), quick));
    there
}

/// Turns a bit of byte `at` of the resident value of an attribute.
fn turn(bytes: &mut [u8], path: &str, type_code: u32, at: usize) {
    let n = number(bytes, path);
    edit(bytes, n, |record| {
        let a = attribute(record, type_code);
        assert_eq!(record[a + 8], 0, "not resident");
        let len = u32::from_le_bytes(record[a + 0x10..a + 0x14].try_into().unwrap());
        assert!(at < len as usize, "byte {at} of {len}");
        let value = usize::from(u16::from_le_bytes([record[a + 0x14], record[a + 0x15]]));
        record[a + value + at] ^= 1;
    });
}

fn only(path: &str, aspects: Aspects) -> Found {
    vec![(path.to_owned(), Change::Changed, aspects)]
}

#[test]
fn one_byte_of_each_kind() {
    let none = Aspects::default();
    let times = Aspects {
        times: true,
        ..none
    };
    let attributes = Aspects {
        attributes: true,
        ..none
    };
    let reparse = Aspects {
        reparse: true,
        ..none
    };
    let object_id = Aspects {
        object_id: true,
        ..none
    };
    let ea = Aspects { ea: true, ..none };
    let sound = common::testdata("links");
    assert!(changed(&sound, &sound).is_empty());
    for (path, type_code, at, aspects) in [
        ("/with-ea.txt", 0x10, 0, times),
        ("/with-ea.txt", 0x10, 8, times),
        ("/with-ea.txt", 0x10, 16, times),
        ("/with-ea.txt", 0x10, 24, none),
        ("/with-ea.txt", 0x10, 32, attributes),
        ("/with-ea.txt", 0xe0, 20, ea),
        ("/with-ea.txt", 0xd0, 2, ea),
        ("/junction", 0xc0, 20, reparse),
        ("/junction", 0xc0, 0, reparse),
        ("/third-party tag", 0xc0, 10, reparse),
        ("/cloud file", 0xc0, 100, reparse),
        ("/with-object-id.txt", 0x40, 3, object_id),
        ("/with-birth-ids.txt", 0x40, 60, object_id),
        ("/dir-with-object-id", 0x40, 15, object_id),
    ] {
        let mut other = sound.clone();
        turn(&mut other, path, type_code, at);
        let expected = match aspects == none {
            true => Vec::new(),
            false => only(path, aspects),
        };
        assert_eq!(
            changed(&sound, &other),
            expected,
            "{type_code:#x}, byte {at}"
        );
    }
    let mut other = sound.clone();
    turn(&mut other, "/with-ea.txt", 0x10, 24);
    let shared = |x: &[u8]| common::Memory::shared(x.to_vec());
    let options = DiffOptions {
        accessed: true,
        ..DiffOptions::default()
    };
    let accessed = Aspects {
        accessed: true,
        ..none
    };
    assert_eq!(
        compare(shared(&sound), shared(&other), options),
        only("/with-ea.txt", accessed)
    );
    // In clusters.
    let mut other = sound.clone();
    let (at, _) = stream_at(&other, number(&other, "/with-big-ea.txt"), 0xe0, b"");
    other[at + 3000] ^= 1;
    assert_eq!(changed(&sound, &other), only("/with-big-ea.txt", ea));
}

/// With the files of NTFS, which have ids where a driver gives descriptors to
/// others in their records; but for those whose content is edited.
fn with_system(a: &[u8], b: &[u8]) -> Found {
    let shared = |x: &[u8]| common::Memory::shared(x.to_vec());
    let options = DiffOptions {
        system: true,
        ..DiffOptions::default()
    };
    let mut found = compare(shared(a), shared(b), options);
    found.retain(|f| !f.0.starts_with("/$Secure:") && !f.0.starts_with("/$MFT"));
    found
}

#[test]
fn descriptors_count_and_not_their_ids() {
    let sound = common::testdata("links");
    let name = b"$\0S\0D\0S\0";
    let (at, _) = stream_at(&sound, 9, 0x80, name);
    let word = |b: &[u8], at: usize| u32::from_le_bytes(b[at..at + 4].try_into().unwrap());
    // A byte of the first descriptor: every file with its id.
    let mut other = sound.clone();
    let first = word(&sound, at + 4);
    other[at + 20 + 8] ^= 1;
    let found = with_system(&sound, &other);
    let volume = Volume::open(common::Memory::shared(sound.clone())).unwrap();
    let mut files = 0;
    ntbak::volume::Listing::scan(
        &volume,
        Tree::new(&volume).upcase(),
        ntbak::units::RecordNo(5),
        Default::default(),
        &Silent,
    )
    .unwrap()
    .for_each(|row| {
        let counts = row.stream.is_none() && !row.name.starts_with(b"$MFT");
        files += usize::from(counts && row.node.security_id == first);
    });
    assert!(files > 0);
    assert_eq!(found.len(), files, "{found:?}");
    let security = Aspects {
        security: true,
        ..Aspects::default()
    };
    assert!(found.iter().all(|f| f.2 == security), "{found:?}");

    // The ids of all descriptors are others, in $SDS and in the files alike.
    let mut other = sound.clone();
    let mut entry = at;
    let mut ids = Vec::new();
    while word(&sound, entry + 16) != 0 {
        ids.push(word(&sound, entry + 4));
        other[entry + 6] ^= 1;
        entry = at + (entry - at + word(&sound, entry + 16) as usize).next_multiple_of(16);
    }
    let (mut edited, mut seen) = (0, 0);
    for n in 0..volume.mft().record_count {
        let Ok(record) = volume.record(ntbak::units::RecordNo(n)) else {
            continue;
        };
        let view = record.view();
        let has = |a: ntbak::volume::Attribute<'_>| {
            a.type_code == 0x10
                && (a.resident()).is_some_and(|v| v.len() >= 72 && ids.contains(&word(v, 52)))
        };
        if view.in_use() && view.attributes().flatten().any(has) {
            edit(&mut other, n, |r| {
                let a = attribute(r, 0x10);
                let value = usize::from(u16::from_le_bytes([r[a + 0x14], r[a + 0x15]]));
                r[a + value + 54] ^= 1;
            });
            edited += 1;
            // An id that $SDS does not have.
            let path = Tree::new(&volume)
                .path_of(ntbak::units::RecordNo(n))
                .unwrap();
            let path = String::from_utf8(path).unwrap();
            let mut lost = sound.clone();
            edit(&mut lost, n, |r| {
                let a = attribute(r, 0x10);
                let value = usize::from(u16::from_le_bytes([r[a + 0x14], r[a + 0x15]]));
                r[a + value + 54] ^= 1;
            });
            // Of $MFT and its mirror nothing is counted.
            if n > 1 {
                assert_eq!(with_system(&sound, &lost), only(&path, security));
                seen += 1;
            }
        }
    }
    assert!(edited > 0 && seen > 0, "{edited}, {seen}");
    assert_eq!(with_system(&sound, &other), []);
}

#[test]
fn descriptors_in_their_copy_and_in_neither() {
    let sound = common::testdata("links");
    let (at, _) = stream_at(&sound, 9, 0x80, b"$\0S\0D\0S\0");
    let copy = at + (256 << 10);
    assert_eq!(sound[at..at + 64], sound[copy..copy + 64], "the copy");
    // The first entry tells another place: what is behind it cannot be found there.
    let mut first = sound.clone();
    first[at + 9] ^= 1;
    assert_eq!(with_system(&sound, &first), []);
    let mut both = first;
    both[copy + 9] ^= 1;
    let shared = |x: &[u8]| common::Memory::shared(x.to_vec());
    let options = DiffOptions {
        system: true,
        ..DiffOptions::default()
    };
    let (mut found, unreadable) = compare_damaged(shared(&sound), shared(&both), options);
    found.retain(|f| f.0 != "/$Secure:$SDS");
    let lost = Aspects {
        unreadable: true,
        ..Aspects::default()
    };
    assert!(unreadable > 0);
    assert_eq!(found.len() as u64, unreadable);
    assert!(found.iter().all(|f| f.2 == lost), "{found:?}");
    // Not a word of it where nothing else was damaged: the same files are the same
    // again as soon as one of the copies is whole.
    let mut second = sound.clone();
    second[copy + 9] ^= 1;
    assert_eq!(with_system(&sound, &second), []);
}

/// The value of an attribute lies in clusters behind the end of the volume.
#[test]
fn a_value_that_cannot_be_read_is_no_difference() {
    let sound = common::testdata("links");
    let mut other = sound.clone();
    let n = number(&other, "/with-big-ea.txt");
    edit(&mut other, n, |r| {
        let a = attribute(r, 0xe0);
        assert_eq!(r[a + 8], 1, "in clusters");
        let pairs = a + usize::from(u16::from_le_bytes([r[a + 0x20], r[a + 0x21]]));
        let (len, lcn) = (usize::from(r[pairs] & 15), usize::from(r[pairs] >> 4));
        r[pairs + len + lcn] = 0x7f;
    });
    let shared = |x: &[u8]| common::Memory::shared(x.to_vec());
    let lost = Aspects {
        unreadable: true,
        ..Aspects::default()
    };
    for (a, b) in [(&sound, &other), (&other, &sound)] {
        let (found, unreadable) = compare_damaged(shared(a), shared(b), DiffOptions::default());
        assert_eq!(found, only("/with-big-ea.txt", lost));
        assert_eq!(unreadable, 1);
    }
}

#[test]
fn descriptors_of_old_volumes() {
    let sound = common::testdata("ntfs-1-2");
    assert!(changed(&sound, &sound).is_empty());
    let volume = Volume::open(common::Memory::shared(sound.clone())).unwrap();
    let record = (24..volume.mft().record_count).find(|n| {
        volume.record(ntbak::units::RecordNo(*n)).is_ok_and(|r| {
            let view = r.view();
            let own = |a: ntbak::volume::Attribute<'_>| a.type_code == 0x50;
            view.in_use() && view.attributes().flatten().any(own)
        })
    });
    let n = record.unwrap();
    let path = Tree::new(&volume)
        .path_of(ntbak::units::RecordNo(n))
        .unwrap();
    let path = String::from_utf8(path).unwrap();
    let mut other = sound.clone();
    turn(&mut other, &path, 0x50, 8);
    let security = Aspects {
        security: true,
        ..Aspects::default()
    };
    assert_eq!(changed(&sound, &other), only(&path, security));
}

#[test]
fn names_of_one_file() {
    let sound = common::testdata("links");
    // One name of three is another: that name is gone and came, and the other
    // two paths have another set of names.
    let mut other = sound.clone();
    let n = number(&other, "/one/first name.txt");
    edit(&mut other, n, |r| {
        let name: Vec<u8> = "second".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let at = r.windows(name.len()).position(|w| w == name).unwrap();
        r[at] = b'S' + 1;
    });
    let found = changed(&sound, &other);
    let links: Vec<_> = found
        .iter()
        .filter(|f| f.2.links)
        .map(|f| &f.0[..])
        .collect();
    assert_eq!(
        links,
        [
            "/one/first name.txt",
            "/one/third name in the same directory.txt",
            "/two/Tecond name.txt"
        ]
    );
    for (path, change, aspects) in &found {
        let rest = Aspects {
            links: false,
            name: false,
            ..*aspects
        };
        assert_eq!(
            (*change, rest),
            (Change::Changed, Aspects::default()),
            "{path}"
        );
    }
    // The third name becomes a short one: it is no link any more.
    let mut other = sound.clone();
    edit(&mut other, n, |r| {
        let name: Vec<u8> = "third".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let at = r.windows(name.len()).position(|w| w == name).unwrap();
        r[at - 1] = 2;
    });
    let found = changed(&sound, &other);
    let first = found.iter().find(|f| f.0 == "/one/first name.txt").unwrap();
    let expected = Aspects {
        links: true,
        short_name: true,
        ..Aspects::default()
    };
    assert_eq!(first.2, expected);
}

#[test]
fn keys_of_encrypted_files() {
    let sound = common::testdata("efs");
    let volume = Volume::open(common::Memory::shared(sound.clone())).unwrap();
    let mut seen = 0;
    for n in 24..volume.mft().record_count {
        let Ok(record) = volume.record(ntbak::units::RecordNo(n)) else {
            continue;
        };
        let view = record.view();
        let efs = view.attributes().flatten().find(|a| a.type_code == 0x100);
        let Some(a) = efs.filter(|_| view.in_use()) else {
            continue;
        };
        let path = Tree::new(&volume)
            .path_of(ntbak::units::RecordNo(n))
            .unwrap();
        let path = String::from_utf8(path).unwrap();
        let mut other = sound.clone();
        if a.resident().is_some() {
            turn(&mut other, &path, 0x100, 5);
        } else {
            let (at, _) = stream_at(&other, n, 0x100, b"$\0E\0F\0S\0");
            other[at + 5] ^= 1;
        }
        let efs = Aspects {
            efs: true,
            ..Aspects::default()
        };
        assert_eq!(changed(&sound, &other), only(&path, efs));
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn what_is_moved_is_the_same() {
    for name in ["links", "efs", "ntfs-1-2", "names"] {
        let whole = common::Memory::shared(common::testdata(name));
        let old = Volume::open(whole.clone()).unwrap();
        let survey = survey(&old, &Silent).unwrap();
        for (new_bytes, defragment) in [(Some(survey.smallest().unwrap()), false), (None, true)] {
            let wish = Wish {
                new_bytes,
                defragment,
                ..Wish::default()
            };
            let plan = plan(&survey, &wish, &Silent).unwrap();
            let new: SharedSource = Arc::new(Rearranged::new(whole.clone(), Arc::new(plan)));
            let options = DiffOptions {
                accessed: true,
                ..DiffOptions::default()
            };
            assert_eq!(compare(whole.clone(), new, options), [], "{name}, {wish:?}");
        }
    }
}
