//! The consistency check: sound volumes are clean, every damage has its name,
//! what cannot be read is a gap, and no input keeps it busy for ever.

mod common;

use common::edit::{attribute, edit, number, protected, stream_at};
use common::{Memory, part, testdata, testdata_names, testdata_text, volume_source};
use ntbak::device::{SharedSource, Source};
use ntbak::disk::open_layout;
use ntbak::error::Result;
use ntbak::observe::Silent;
use ntbak::units::RecordNo;
use ntbak::volume::check::{Check, Code, ISSUE_CAP, Severity, check_source};
use ntbak::volume::{Volume, attr};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

fn check(bytes: Vec<u8>) -> Check {
    check_source(Memory::shared(bytes), &Silent).unwrap()
}

/// The codes of everything but notes.
fn codes(check: &Check) -> BTreeSet<&'static str> {
    let all = check.counts.keys();
    let real = all.filter(|c| c.severity() != Severity::Note);
    real.map(|c| c.as_str()).collect()
}

fn clean(name: &str, source: SharedSource) -> Check {
    let result = check_source(source, &Silent).unwrap();
    assert!(result.is_consistent(), "{name}: {:#?}", result.issues);
    assert!(
        result.records > 20 && result.names > 10,
        "{name}: {result:?}"
    );
    result
}

/// A disk with sectors of 4096 bytes.
struct Large(SharedSource);

impl Source for Large {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn sector_size(&self) -> u32 {
        4096
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.0.read_at(offset, buf)
    }
    fn name(&self) -> &str {
        self.0.name()
    }
}

#[test]
fn every_volume_that_ntfs_3g_made_is_clean() {
    let mut volumes = 0;
    for name in testdata_names() {
        if name.starts_with("foreign") {
            continue;
        }
        let mut source = Memory::shared(testdata(&name));
        if name.ends_with("4kn") {
            source = Arc::new(Large(source));
        }
        for p in open_layout(&*source).unwrap().partitions {
            if p.content.is_ntfs() {
                clean(&name, part(source.clone(), p.start, p.length));
                volumes += 1;
            }
        }
    }
    assert!(volumes > 25, "{volumes}");
    let huge = check_source(common::Sparse::testdata("huge"), &Silent).unwrap();
    assert!(huge.count(Severity::Gap) == 0, "{:#?}", huge.issues);
}

#[test]
fn every_volume_that_windows_made_is_clean() {
    let all: [(&str, Option<(u64, u64)>); 15] = [
        ("v01", Some((65536, 265289728))),
        ("v02", Some((65536, 1070596096))),
        ("v03", Some((65536, 1070596096))),
        ("v04", Some((65536, 30408704))),
        ("v05", None),
        ("v06", None),
        ("v07", None),
        ("v08", None),
        ("v09", None),
        ("v10", Some((65536, 3145728))),
        ("v11", Some((1048576, 2147483648))),
        ("v11", Some((2148532224, 3218079744))),
        ("v12", None),
        ("v13", None),
        ("v15", None),
    ];
    for (name, at) in all {
        let Some(source) = volume_source(name, at) else {
            continue;
        };
        let result = clean(name, source);
        let short = ["v05", "v07", "v08"].contains(&name);
        let missing = result.counts.contains_key(&Code::BootCopyMissing);
        assert_eq!(missing, short, "{name}");
        assert!(result.security_descriptors > 1, "{name}");
    }
}

#[test]
fn each_damaged_public_volume_shows_its_damage() {
    let has = |name: &str, code: Code, record: u64| {
        let source = volume_source(name, None)?;
        let result = check_source(source, &Silent).unwrap();
        let found = result.issues.iter();
        let hit = found.filter(|i| i.code == code && i.record.is_none_or(|r| r.0 == record));
        assert!(hit.count() > 0, "{name}: {:#?}", result.issues);
        assert!(!result.is_consistent());
        Some(result)
    };
    has("c01", Code::Record, 0);
    if let Some(c) = has("c02", Code::BootSector, 0) {
        assert_eq!(codes(&c), BTreeSet::from(["boot-sector"]));
    }
    for record in [66, 67, 73] {
        has("c03", Code::Attribute, record);
    }
    if let Some(c) = has("c04", Code::MftBitmapFree, 65) {
        assert_eq!(codes(&c), BTreeSet::from(["mft-bitmap-free"]));
    }
    has("c05", Code::Extension, 107);
    // Record 107 is the directory; its list names an index root that is not there.
    if let Some(c) = has("c06", Code::AttributeList, 107) {
        assert!(!codes(&c).contains("owned-twice"));
    }
    has("c07", Code::Record, 165);
    has("c07", Code::Record, 1325);
    has("c07", Code::OwnedFree, 28);
    has("c07", Code::OwnedTwice, 28);
}

/// What each patch of `damaged.tsv` must be called; others may come with it.
const DAMAGED: [(&str, &[&str]); 53] = [
    ("boot-zeroed", &["boot-sector"]),
    ("boot-backup-zeroed", &["boot-copy"]),
    ("boot-cluster-zero", &["boot-sector"]),
    ("boot-record-size-huge", &["boot-sector"]),
    ("boot-sectors-too-many", &["boot-sector"]),
    ("boot-mft-outside", &["boot-sector"]),
    ("mft0-garbled", &["mirror", "record"]),
    ("mft0-torn", &["mirror", "record"]),
    ("mirror-garbled", &["mirror"]),
    ("record-torn", &["record", "index-entry"]),
    ("record-baad", &["record", "index-entry"]),
    ("record-zeroed", &["mft-bitmap-used", "index-entry"]),
    ("record-used-size-huge", &["record", "index-entry"]),
    ("record-attrs-outside", &["record", "index-entry"]),
    ("fixup-array-outside", &["record", "index-entry"]),
    ("index-block-garbled", &["index-node", "name-not-indexed"]),
    ("index-block-torn", &["index-node", "name-not-indexed"]),
    (
        "index-entry-length-zero",
        &["index-node", "name-not-indexed"],
    ),
    ("index-child-loop", &["index-node", "name-not-indexed"]),
    ("runs-outside", &["outside", "used-unowned"]),
    ("runs-end-outside", &["outside"]),
    ("runs-negative", &["attribute", "used-unowned"]),
    ("runs-zero-length", &["attribute", "used-unowned"]),
    ("runs-huge", &["attribute", "used-unowned"]),
    ("runs-bad-header", &["attribute", "used-unowned"]),
    ("runs-unterminated", &["attribute"]),
    ("runs-too-short", &["sizes", "used-unowned"]),
    ("extent-shared", &["owned-twice", "used-unowned"]),
    ("bitmap-used-as-free", &["owned-free"]),
    ("bitmap-free-as-used", &["used-unowned"]),
    ("attr-length-zero", &["attribute"]),
    ("attr-length-huge", &["attribute"]),
    ("attr-length-odd", &["attribute"]),
    ("attr-value-outside", &["attribute"]),
    ("attr-name-outside", &["attribute"]),
    ("size-above-allocated", &["sizes"]),
    ("size-negative", &["sizes"]),
    ("valid-above-size", &["sizes"]),
    ("vcn-backwards", &["attribute"]),
    ("compression-unit-huge", &["sizes"]),
    ("attrlist-self", &["attribute-list", "extension"]),
    ("attrlist-names-itself", &["attribute-list"]),
    ("attrlist-wrong-sequence", &["attribute-list", "extension"]),
    ("attrlist-outside", &["attribute-list", "extension"]),
    ("attrlist-length-zero", &["attribute-list", "extension"]),
    ("extension-of-itself", &["attribute-list", "extension"]),
    (
        "parent-loop",
        &["parent", "name-not-indexed", "index-entry"],
    ),
    ("parent-itself", &["parent"]),
    ("parent-is-file", &["name-not-indexed", "index-entry"]),
    ("parent-stale", &["name-not-indexed", "index-entry"]),
    ("name-length-zero", &["name"]),
    ("name-with-slash", &["name", "name-not-indexed"]),
    ("mft-bitmap-cleared", &["mft-bitmap-free"]),
];

#[test]
fn every_generated_damage_has_its_name() {
    let base = testdata("damage-base");
    let mut all: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for line in testdata_text("damaged.tsv").split('\n').skip(1) {
        let f: Vec<&str> = line.split('\t').collect();
        let [name, "damage-base", at, hex, _] = f[..] else {
            continue;
        };
        let bytes = all.entry(name.to_owned()).or_insert_with(|| base.clone());
        let at: usize = at.parse().unwrap();
        for (i, pair) in hex.as_bytes().chunks(2).enumerate() {
            let pair = std::str::from_utf8(pair).unwrap();
            bytes[at + i] = u8::from_str_radix(pair, 16).unwrap();
        }
    }
    assert!(all.len() > DAMAGED.len(), "{}", all.len());
    for (name, bytes) in all {
        let Ok(result) = check_source(Memory::shared(bytes), &Silent) else {
            assert_eq!(name, "boot-both-zeroed");
            continue;
        };
        let found = codes(&result);
        match DAMAGED.iter().find(|d| d.0 == name) {
            Some((_, want)) => {
                let missed: Vec<_> = want.iter().filter(|w| !found.contains(**w)).collect();
                assert!(
                    missed.is_empty(),
                    "{name}: {missed:?} in {:#?}",
                    result.issues
                );
            }
            // The content of a file is not the file system.
            None if name == "lznt1-garbled" => assert!(found.is_empty(), "{found:?}"),
            None => assert!(!found.is_empty(), "{name}"),
        }
    }
}

const I30: &[u8] = b"$\0I\x003\x000\0";

/// Exactly this is found, and once.
fn only(bytes: Vec<u8>, code: Code, record: Option<u64>) {
    let result = check(bytes);
    assert_eq!(
        codes(&result),
        BTreeSet::from([code.as_str()]),
        "{:#?}",
        result.issues
    );
    let issue = result.issues.iter().find(|i| i.code == code).unwrap();
    if record.is_some() {
        assert_eq!(issue.record.map(|n| n.0), record, "{issue:?}");
    }
}

#[test]
fn one_change_is_found_and_named() {
    let base = testdata("damage-base");
    let alpha = number(&base, "/alpha.bin");
    let gamma = number(&base, "/gamma.txt");
    let tree = number(&base, "/tree");
    let (bitmap, _) = stream_at(&base, 6, attr::DATA, &[]);
    let (_, first) = stream_at(&base, alpha, attr::DATA, &[]);

    // A bit of $Bitmap, either way.
    let mut b = base.clone();
    b[bitmap + first as usize / 8] ^= 1 << (first % 8);
    only(b, Code::OwnedFree, Some(alpha));
    let mut b = base.clone();
    let free = (0..2000)
        .rev()
        .find(|n| b[bitmap + n / 8] >> (n % 8) & 1 == 0)
        .unwrap();
    b[bitmap + free / 8] |= 1 << (free % 8);
    only(b, Code::UsedUnowned, None);

    // Two records of the mirror change places.
    let mut b = base.clone();
    let (mirror, _) = stream_at(&b, 1, attr::DATA, &[]);
    let (one, two) = b[mirror + 1024..mirror + 3072].split_at_mut(1024);
    one.swap_with_slice(two);
    only(b, Code::Mirror, Some(1));

    // The link count, the sequence number, the record's own number.
    let mut b = base.clone();
    edit(&mut b, gamma, |r| r[0x12] += 1);
    only(b, Code::LinkCount, Some(gamma));
    let mut b = base.clone();
    edit(&mut b, gamma, |r| r[0x10] += 1);
    let found = codes(&check(b));
    assert_eq!(found, BTreeSet::from(["index-entry", "name-not-indexed"]));
    let mut b = base.clone();
    edit(&mut b, gamma, |r| r[0x2c] += 1);
    only(b, Code::RecordHeader, Some(gamma));
    let mut b = base.clone();
    edit(&mut b, gamma, |r| r[0x28] = 0x01);
    only(b, Code::RecordHeader, Some(gamma));

    // Sizes that do not fit the clusters; the highest VCN.
    let mut b = base.clone();
    edit(&mut b, alpha, |r| {
        let a = attribute(r, attr::DATA);
        r[a + 0x29] ^= 0x10;
    });
    only(b, Code::Sizes, Some(alpha));
    let mut b = base.clone();
    edit(&mut b, alpha, |r| {
        let a = attribute(r, attr::DATA);
        r[a + 0x18] += 1;
    });
    only(b, Code::MappingPairs, Some(alpha));

    // A name in the record alone; a DOS name without a long one.
    let mut b = base.clone();
    edit(&mut b, gamma, |r| {
        let a = attribute(r, attr::FILE_NAME);
        r[a + 0x18 + 66] = b'x';
    });
    let found = codes(&check(b));
    assert_eq!(found, BTreeSet::from(["index-entry", "name-not-indexed"]));
    let mut b = base.clone();
    edit(&mut b, gamma, |r| {
        let a = attribute(r, attr::FILE_NAME);
        r[a + 0x18 + 65] = 2;
    });
    assert!(codes(&check(b)).contains("dos-name"));

    // An index entry that leads to another file; a key out of order.
    let (index, _) = stream_at(&base, tree, attr::INDEX_ALLOCATION, I30);
    let first_entry = |r: &[u8]| 24 + u32::from_le_bytes(r[24..28].try_into().unwrap()) as usize;
    let mut b = base.clone();
    protected(&mut b[index..index + 4096], |r| {
        let e = first_entry(r);
        r[e] ^= 1;
    });
    let found = codes(&check(b));
    assert_eq!(found, BTreeSet::from(["index-entry", "name-not-indexed"]));
    let mut b = base.clone();
    protected(&mut b[index..index + 4096], |r| {
        let e = first_entry(r);
        r[e + 16 + 66] = b'z';
    });
    assert!(codes(&check(b)).contains("index-order"));
    // The bitmap of the index.
    let mut b = base.clone();
    edit(&mut b, tree, |r| {
        let a = attribute(r, attr::BITMAP);
        r[a + 0x18] = 0xff;
    });
    // A bitmap of another name or form would make this test blind.
    only(b, Code::IndexBitmap, Some(tree));

    // $BadClus, $UpCase, $MFT:$BITMAP, security ids.
    let mut b = base.clone();
    let (upcase, _) = stream_at(&b, 10, attr::DATA, &[]);
    b[upcase + 2 * usize::from(b'a')] = b'b';
    assert!(codes(&check(b)).contains("upcase"));
    let mut b = base.clone();
    let (marks, _) = stream_at(&b, 0, attr::BITMAP, &[]);
    b[marks + gamma as usize / 8] ^= 1 << (gamma % 8);
    only(b, Code::MftBitmapFree, Some(gamma));
}

#[test]
fn a_change_in_the_view_indexes_of_a_windows_volume_is_named() {
    let Some(source) = volume_source("v06", None) else {
        return;
    };
    let mut base = vec![0; source.len() as usize];
    source.read_at(0, &mut base).unwrap();
    let (sds, _) = stream_at(&base, 9, attr::DATA, b"$\0S\0D\0S\0");
    for at in [sds + 40, sds + 4] {
        let mut b = base.clone();
        b[at] ^= 1;
        only(b, Code::Security, Some(9));
    }
    let mut b = base.clone();
    edit(&mut b, 35, |r| {
        let a = attribute(r, attr::STANDARD_INFORMATION);
        r[a + 0x18 + 0x35] ^= 0x70;
    });
    only(b, Code::SecurityId, Some(35));
    // An object id that $O does not know, a reparse tag that $R does not know.
    let mut b = base.clone();
    edit(&mut b, 35, |r| {
        let a = attribute(r, attr::OBJECT_ID);
        r[a + 0x18] ^= 1;
    });
    only(b, Code::ObjectId, Some(35));
    let mut b = base;
    edit(&mut b, 40, |r| {
        let a = attribute(r, attr::REPARSE_POINT);
        r[a + 0x18] ^= 1;
    });
    only(b, Code::Reparse, Some(40));
}

#[test]
fn what_cannot_be_read_is_a_gap_and_no_error() {
    let base = testdata("damage-base");
    let volume = Volume::open(Memory::shared(base.clone())).unwrap();
    let gamma = number(&base, "/gamma.txt");
    let tree = number(&base, "/tree");
    let record = volume.record_offset(RecordNo(gamma)).unwrap();
    let (block, _) = stream_at(&base, tree, attr::INDEX_ALLOCATION, I30);
    let (bitmap, _) = stream_at(&base, 6, attr::DATA, &[]);
    let copy = volume.geometry().volume_bytes();
    for (at, len) in [
        (record, 512),
        (block as u64, 512),
        (bitmap as u64, 512),
        (copy, 512),
    ] {
        let broken = Memory {
            bytes: base.clone(),
            broken: std::iter::once(at..at + len).collect(),
            mapped: false,
        };
        let result = check_source(Arc::new(broken), &Silent).unwrap();
        assert_eq!(
            codes(&result),
            BTreeSet::from(["unreadable"]),
            "{:#?}",
            result.issues
        );
        assert_eq!(result.count(Severity::Error), 0);
        assert!(!result.is_consistent());
    }
}

/// A small generator: the same damage every time.
struct Random(u64);
impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

#[test]
fn noise_in_the_metadata_never_panics_and_ends() {
    for (name, seed) in [("damage-base", 7), ("index-4k", 8), ("mft-attrlist", 9)] {
        let base = testdata(name);
        let volume = Volume::open(Memory::shared(base.clone())).unwrap();
        let size = u64::from(volume.geometry().record_size);
        let mut random = Random(seed);
        let mut hits = 0;
        for round in 0..40 {
            let mut bytes = base.clone();
            for _ in 0..1 + round % 8 {
                let n = RecordNo(random.below(volume.mft().record_count));
                let at = volume.record_offset(n).unwrap() + random.below(size);
                bytes[at as usize] = random.below(256) as u8;
            }
            if let Ok(result) = check_source(Memory::shared(bytes), &Silent) {
                hits += u32::from(!result.is_consistent());
                for n in result.counts.keys() {
                    let listed = result.issues.iter().filter(|i| i.code == *n).count();
                    assert!(listed <= ISSUE_CAP);
                }
            }
        }
        assert!(hits > 5, "{name}: only {hits} of 40 were noticed");
    }
}

fn ntbak(args: &[&str]) -> (i32, Vec<serde_json::Value>) {
    let out = Command::new(env!("CARGO_BIN_EXE_ntbak"))
        .args(args)
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let rows = text.lines().map(|l| serde_json::from_str(l).unwrap());
    (out.status.code().unwrap(), rows.collect())
}

#[test]
fn the_verb_tells_people_scripts_and_the_shell() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let base = testdata("damage-base");
    let alpha = number(&base, "/alpha.bin");
    let mut bad = base.clone();
    edit(&mut bad, alpha, |r| r[0x12] += 1);
    std::fs::write(path("good.img"), &base).unwrap();
    std::fs::write(path("bad.img"), &bad).unwrap();
    for (image, exit, state) in [("good", 0, "consistent"), ("bad", 4, "inconsistent")] {
        let (image, archive) = (
            path(&format!("{image}.img")),
            path(&format!("{image}.ntbak")),
        );
        assert_eq!(ntbak(&["image", &image, &archive, "--json"]).0, 0);
        for view in [&image, &archive] {
            let (code, rows) = ntbak(&["verify", "--volume", view, "--json"]);
            assert_eq!(code, exit, "{rows:?}");
            let of = |kind: &str| {
                rows.iter()
                    .filter(|r| r["type"] == kind)
                    .collect::<Vec<_>>()
            };
            let last = rows.last().unwrap();
            assert_eq!(
                (&last["type"], &last["state"]),
                (&"summary".into(), &state.into())
            );
            assert_eq!(of("check").len(), 1);
            let found: Vec<_> = of("issue").iter().map(|i| i["code"].clone()).collect();
            assert_eq!(
                found,
                if exit == 0 {
                    vec![]
                } else {
                    vec![serde_json::json!("link-count")]
                }
            );
        }
    }
    let (code, _) = ntbak(&[
        "verify",
        "--volume",
        &path("good.img"),
        "--against",
        "x",
        "--json",
    ]);
    assert_eq!(code, 2);
}

/// ntfsresize counts clusters as we do; it exits with 0 where they agree.
fn resize_agrees(image: &Path) -> Option<bool> {
    let out = Command::new("ntfsresize")
        .args(["--info", "--force"])
        .arg(image)
        .output();
    match out {
        Ok(out) => Some(out.status.success()),
        Err(_) => {
            eprintln!("skipped: ntfsresize is not there");
            None
        }
    }
}

#[test]
fn ntfsresize_sees_the_same_clusters() {
    let folder = tempfile::tempdir().unwrap();
    let base = testdata("damage-base");
    let alpha = number(&base, "/alpha.bin");
    let beta = number(&base, "/beta.bin");
    let (bitmap, _) = stream_at(&base, 6, attr::DATA, &[]);
    let (_, first) = stream_at(&base, alpha, attr::DATA, &[]);
    let mut freed = base.clone();
    freed[bitmap + first as usize / 8] ^= 1 << (first % 8);
    let mut marked = base.clone();
    let free = (0..2000)
        .rev()
        .find(|n| marked[bitmap + n / 8] >> (n % 8) & 1 == 0);
    let free = free.unwrap();
    marked[bitmap + free / 8] |= 1 << (free % 8);
    let mut shared = base.clone();
    let mut pairs = Vec::new();
    edit(&mut shared, alpha, |r| {
        let a = attribute(r, attr::DATA);
        pairs = r[a + 0x40..a + 0x48].to_vec();
    });
    edit(&mut shared, beta, |r| {
        let a = attribute(r, attr::DATA);
        r[a + 0x40..a + 0x48].copy_from_slice(&pairs);
    });
    for (name, bytes) in [
        ("base", base),
        ("freed", freed),
        ("marked", marked),
        ("shared", shared),
    ] {
        let image = folder.path().join(name);
        std::fs::write(&image, &bytes).unwrap();
        let Some(theirs) = resize_agrees(&image) else {
            return;
        };
        let ours = check(bytes);
        let clusters = [Code::OwnedFree, Code::UsedUnowned, Code::OwnedTwice];
        let agrees = clusters.iter().all(|c| !ours.counts.contains_key(c));
        assert_eq!(agrees, theirs, "{name}: {:#?}", ours.issues);
    }
}
