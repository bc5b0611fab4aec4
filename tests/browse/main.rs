//! `ls`, `cat`, `extract` and `diff` on the public volumes.

#[path = "../common/mod.rs"]
mod common;
mod names;

use ntbak::device::{SharedSource, Source};
use ntbak::error::ErrorKind;
use ntbak::observe::{Observer, Silent, Warning};
use ntbak::ops::cat;
use ntbak::ops::diff::{Change, DiffOptions, diff};
use ntbak::ops::extract::{
    ExtractOptions, ExtractSummary, extract, extract_deleted, extract_record,
};
use ntbak::ops::ls::{LsOptions, LsTarget, ls};
use ntbak::units::RecordNo;
use ntbak::volume::listing::Deleted;
use ntbak::volume::{Tree, Volume, VolumePath};
use sha2::{Digest, Sha256};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

fn open(name: &str, at: Option<u64>) -> Option<Volume> {
    let whole = common::volume_source(name, None)?;
    let source: SharedSource = match at {
        Some(start) => {
            let len = whole.len() - start;
            common::part(whole, start, len)
        }
        None => whole,
    };
    Some(Volume::open(source).unwrap())
}

fn path(text: &str) -> VolumePath {
    VolumePath::parse(text.as_bytes()).unwrap()
}

fn listed(v: &Volume, target: &LsTarget, options: &LsOptions) -> Vec<String> {
    let out = Mutex::new(Vec::new());
    ls(&Tree::new(v), target, options, &Silent, |text| {
        out.lock().unwrap().extend_from_slice(text);
        Ok(())
    })
    .unwrap();
    let text = String::from_utf8(out.into_inner().unwrap()).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn at(text: &str) -> LsTarget {
    LsTarget::Path(path(text))
}

#[test]
fn ls_shows_links_streams_and_deleted_files() {
    let Some(v) = open("v06", None) else { return };
    let short = LsOptions::default();
    assert_eq!(
        listed(&v, &at("/HALF-life"), &short),
        [
            "Gabe Newell.jpg",
            "Gabe Newell.jpg:Zone.Identifier",
            "Half-Life_Cover_Art.jpg",
            "Half-Life_Cover_Art.jpg:Zone.Identifier"
        ]
    );
    let long = LsOptions {
        long: true,
        ..short.clone()
    };
    let lines = listed(&v, &at("/dota2"), &long);
    let junction = lines.iter().find(|l| l.contains("junction")).unwrap();
    assert!(junction.starts_with("dl"), "{junction}");
    assert!(junction.contains("-> "), "{junction}");
    let json = LsOptions {
        json: true,
        recursive: true,
        prefix: "p1:".into(),
        ..short.clone()
    };
    for line in listed(&v, &at("/dota2"), &json) {
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(
            value["path"].as_str().unwrap().starts_with("p1:/dota2/"),
            "{line}"
        );
    }
    let names = listed(&v, &LsTarget::Record(RecordNo(39)), &short);
    assert!(names.contains(&"/valve/gaben.jpg".to_owned()), "{names:?}");
    assert!(
        names.contains(&"/half-life/Gabe Newell.jpg".to_owned()),
        "{names:?}"
    );

    let Some(v) = open("v07", None) else { return };
    let deleted = LsOptions {
        recursive: true,
        deleted: Deleted::Only,
        ..short
    };
    let names = listed(&v, &at("/"), &deleted);
    for want in ["/frag1.dat", "/dir1/dir2/frag3.dat", "/sing1.dat"] {
        assert!(names.iter().any(|n| n == want), "{want} in {names:#?}");
    }
}

#[test]
fn cat_gives_streams_and_says_what_is_missing() {
    let Some(v) = open("v06", None) else { return };
    let tree = Tree::new(&v);
    let read = |text: &str, from, len| {
        let mut out = Vec::new();
        let s = cat::open(&tree, &path(text))?;
        cat::cat(&s, from, len, &Silent, |b| {
            out.extend_from_slice(b);
            Ok(())
        })
        .map(|()| out)
    };
    let zone = read("/VALVE/gaben.jpg:zone.identifier", 0, u64::MAX).unwrap();
    assert_eq!(zone, b"[ZoneTransfer]\r\nZoneId=3\r\n");
    assert_eq!(read("/valve/gaben.jpg", 0, 3).unwrap(), [0xff, 0xd8, 0xff]);
    assert_eq!(
        read("/valve/gaben.jpg:Zone.Identifier:$DATA", 1, 4).unwrap(),
        b"Zone"
    );
    let all = read("/valve/gaben.jpg", 0, u64::MAX).unwrap();
    assert_eq!(
        read("/valve/gaben.jpg", 90000, u64::MAX).unwrap(),
        all[90000..]
    );
    for missing in [
        "/valve/none",
        "/valve",
        "/valve/gaben.jpg:none",
        "/valve/gaben.jpg/x",
    ] {
        let e = read(missing, 0, 1).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound, "{missing}: {e}");
    }
}

#[derive(Default)]
struct Warnings(Mutex<Vec<Warning>>);
impl Observer for Warnings {
    fn warn(&self, w: Warning) {
        self.0.lock().unwrap().push(w);
    }
}

fn take(v: &Volume, what: &str, to: &Path, o: ExtractOptions) -> (ExtractSummary, Vec<Warning>) {
    let seen = Warnings::default();
    let s = extract(&Tree::new(v), &[path(what)], to, o, &seen).unwrap();
    (s, seen.0.into_inner().unwrap())
}

#[test]
fn extract_keeps_links_streams_and_times() {
    let Some(v) = open("v06", None) else { return };
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path();
    let (s, warnings) = take(&v, "/", to, ExtractOptions::default());
    assert_eq!(
        (s.files, s.hard_links, s.skipped),
        (3, 1, 0),
        "{s:?} {warnings:#?}"
    );
    assert!(!to.join("$MFT").exists());
    let (a, b) = (
        to.join("valve/gaben.jpg"),
        to.join("half-life/Gabe Newell.jpg"),
    );
    let (a, b) = (a.metadata().unwrap(), b.metadata().unwrap());
    assert_eq!((a.ino(), a.len()), (b.ino(), 90404));
    assert!(a.mtime() == 1_409_109_170);
    let zone = std::fs::read(to.join("valve/gaben.jpg:Zone.Identifier"));
    let zone =
        zone.or_else(|_| std::fs::read(to.join("half-life/Gabe Newell.jpg:Zone.Identifier")));
    assert_eq!(zone.unwrap(), b"[ZoneTransfer]\r\nZoneId=3\r\n");
    assert_eq!(
        std::fs::read(to.join("dota2/valve.reparse")).unwrap().len(),
        44
    );
    assert!(!to.join("dota2/valve").exists());

    // A second time nothing is replaced, unless that is wanted.
    let (s, _) = take(&v, "/valve", to, ExtractOptions::default());
    assert_eq!((s.files, s.skipped > 0), (0, true));
    let force = ExtractOptions {
        force: true,
        links: true,
        ..ExtractOptions::default()
    };
    let (s, w) = take(&v, "/", to, force);
    assert_eq!((s.skipped, s.hard_links), (0, 1), "{w:#?}");
    assert!(to.join("dota2/valve").is_symlink());
    let left = walk(to);
    assert!(!left.iter().any(|p| p.contains(".partial")), "{left:?}");
}

fn walk(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for e in std::fs::read_dir(dir).unwrap().flatten() {
        all.push(e.path().display().to_string());
        if e.file_type().unwrap().is_dir() {
            all.extend(walk(&e.path()));
        }
    }
    all
}

#[test]
fn extract_does_not_follow_links_of_the_host() {
    let Some(v) = open("v06", None) else { return };
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(out.path(), dir.path().join("valve")).unwrap();
    let victim = out.path().join("victim");
    std::fs::write(&victim, b"mine").unwrap();
    std::fs::create_dir(dir.path().join("half-life")).unwrap();
    std::os::unix::fs::symlink(&victim, dir.path().join("half-life/Gabe Newell.jpg")).unwrap();
    for force in [false, true] {
        let o = ExtractOptions {
            force,
            ..ExtractOptions::default()
        };
        let (s, _) = take(&v, "/", dir.path(), o);
        assert!(s.skipped > 0);
        assert_eq!(std::fs::read(&victim).unwrap(), b"mine");
        assert_eq!(walk(out.path()).len(), 1);
    }
    let meta = dir
        .path()
        .join("half-life/Gabe Newell.jpg")
        .symlink_metadata();
    assert!(meta.unwrap().is_file());
}

#[test]
fn extract_gives_what_is_elsewhere_as_it_is_stored() {
    let Some(v) = open("v05", None) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (s, warnings) = take(&v, "/OneDrive", dir.path(), ExtractOptions::default());
    assert_eq!(s.skipped, 0, "{warnings:#?}");
    assert!(warnings.iter().any(|w| w.code == "elsewhere"));
    let online = dir.path().join("OneDrive/created-online.txt");
    let stored = std::fs::read(online).unwrap();
    assert!(!stored.is_empty() && stored.iter().all(|&b| b == 0));
    assert!(dir.path().join("OneDrive/example.txt").exists());
}

#[test]
fn holes_stay_holes_and_packed_files_unfold() {
    let Some(v) = open("v09", None) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (s, w) = take(&v, "/ones.bin", dir.path(), ExtractOptions::default());
    assert_eq!((s.files, s.skipped), (1, 0), "{w:?}");
    let Some(v) = open("c05", None) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (s, _) = take(&v, "/p0/d2/d21/f56", dir.path(), ExtractOptions::default());
    assert_eq!(s.files, 1);
    let meta = dir.path().join("f56").metadata().unwrap();
    assert_eq!(meta.len(), 2_244_094);
    assert!(meta.blocks() * 512 < meta.len());
}

#[test]
fn diff_says_what_changed() {
    let (Some(a), Some(b)) = (open("v15", None), open("c04", None)) else {
        return;
    };
    let all = |x: &Volume, y: &Volume, o| {
        let mut found = Vec::new();
        let s = diff(&Tree::new(x), &Tree::new(y), o, &Silent, |d| {
            found.push((
                String::from_utf8(d.path.clone()).unwrap(),
                d.change,
                d.aspects,
            ));
            Ok(())
        });
        (s.unwrap(), found)
    };
    let o = DiffOptions::default();
    let (s, found) = all(&a, &a, o);
    assert_eq!((s.added, s.removed, s.changed), (0, 0, 0), "{found:?}");
    assert!(s.same > 0 && s.compared > 0);
    let (s, found) = all(&a, &b, o);
    assert!(s.added > 0, "{s:?}");
    assert!(
        found
            .iter()
            .any(|f| f.0 == "/dir.00/file.0" && f.1 == Change::Added),
        "{found:?}"
    );
    let (s, found) = all(&b, &a, o);
    assert!(
        found
            .iter()
            .any(|f| f.0 == "/dir.00/file.0" && f.1 == Change::Removed),
        "{s:?}"
    );
}

#[test]
fn directories_inside_themselves_are_listed_once() {
    let Some(image) = common::image("v06") else {
        return;
    };
    let mut bytes = std::fs::read(image).unwrap();
    let v = Volume::open(common::Memory::shared(bytes.clone())).unwrap();
    // `/dota2` (35) gets its own child `/dota2/valve` (40) as its parent.
    let record = v.record(RecordNo(35)).unwrap();
    let parent = v.record(RecordNo(40)).unwrap().view().file_ref();
    for a in record.view().attributes().flatten() {
        if a.type_code == 0x30 {
            let at = (record.offset() + u64::from(a.offset)) as usize;
            let value = at + usize::from(u16::from_le_bytes([bytes[at + 0x14], bytes[at + 0x15]]));
            bytes[value..value + 8].copy_from_slice(&parent.to_raw().to_le_bytes());
        }
    }
    let v = Volume::open(common::Memory::shared(bytes)).unwrap();
    let options = LsOptions {
        recursive: true,
        ..LsOptions::default()
    };
    let names = listed(&v, &at("/"), &options);
    let lost: Vec<_> = names
        .iter()
        .filter(|n| n.starts_with("/<orphan "))
        .collect();
    assert_eq!(
        lost,
        [
            "/<orphan 35-1>/Dota_2_Gameplay_Sep_2013.jpg",
            "/<orphan 35-1>/Dota_2_Gameplay_Sep_2013.jpg:Zone.Identifier",
            "/<orphan 35-1>/valve",
            "/<orphan 35-1>/valve/dota2",
        ]
    );
    let tree = Tree::new(&v);
    assert!(
        tree.path_of(RecordNo(38))
            .unwrap()
            .starts_with(b"/<orphan ")
    );
    let found = tree
        .lookup(&path("/<orphan 35-1>/dota_2_gameplay_sep_2013.jpg"))
        .unwrap();
    assert_eq!(found.file.record, RecordNo(38));
}

#[test]
fn a_first_byte_costs_little() {
    let Some(source) = common::volume_source("v12", None) else {
        return;
    };
    let counted = Arc::new(Counted(source, AtomicU64::new(0)));
    let v = Volume::open(counted.clone()).unwrap();
    let tree = Tree::new(&v);
    let s = cat::open(&tree, &path("/System Volume Information/WPSettings.dat")).unwrap();
    assert_eq!(s.read_at(0, &mut [0; 1]).unwrap(), 1);
    let read = counted.1.load(Ordering::Relaxed);
    assert!(read < 64 << 10, "{read} bytes were read");
}

struct Counted(SharedSource, AtomicU64);

impl Source for Counted {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn sector_size(&self) -> u32 {
        512
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> ntbak::error::Result<()> {
        self.1.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.0.read_at(offset, buf)
    }
    fn name(&self) -> &str {
        "counted"
    }
}

#[test]
fn extract_takes_every_name() {
    let v = Volume::open(common::Memory::shared(common::testdata("names"))).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (s, warnings) = take(&v, "/", dir.path(), ExtractOptions::default());
    assert_eq!(s.skipped, 0, "{warnings:#?}");
    assert!(warnings.iter().all(|w| w.code == "name"), "{warnings:#?}");
    let options = LsOptions {
        recursive: true,
        ..LsOptions::default()
    };
    let listed = listed(&v, &at("/"), &options).into_iter();
    let files = listed.filter(|n| !n.starts_with("/$") && !n.starts_with("/<") && n != "/");
    assert_eq!(walk(dir.path()).len(), files.count());
}

#[test]
fn extract_gives_the_bytes_of_the_lists() {
    for name in ["ntfs-1-2", "index-512", "index-4k", "index-64k"] {
        let v = Volume::open(common::Memory::shared(common::testdata(name))).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (s, warnings) = take(&v, "/", dir.path(), ExtractOptions::default());
        assert_eq!((s.skipped, warnings.len()), (0, 0), "{name}: {warnings:#?}");
        let mut files = 0;
        for line in common::image_list(name).unwrap().lines().skip(1) {
            let f: Vec<&str> = line.split('\t').collect();
            if f[2] == "-" || f[3].split(',').any(|g| g == "system") {
                continue;
            }
            let got = std::fs::read(dir.path().join(&f[0][1..])).expect(f[0]);
            let hash = Sha256::digest(&got);
            let hash: String = hash.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hash, f[2], "{name}: {}", f[0]);
            files += 1;
        }
        assert!(files >= 78, "{name}: {files}");
    }
}

#[test]
fn extract_of_links_of_all_kinds() {
    let v = Volume::open(common::Memory::shared(common::testdata("links"))).unwrap();
    for links in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let o = ExtractOptions {
            links,
            ..ExtractOptions::default()
        };
        let (s, warnings) = take(&v, "/", dir.path(), o);
        assert!(s.hard_links > 0 && s.skipped == 0, "{s:?} {warnings:#?}");
        let made = walk(dir.path());
        let made = made.iter().filter(|p| Path::new(p).is_symlink()).count();
        assert_eq!(made > 3, links);
    }
}

#[test]
fn files_without_their_content_count_as_left_out() {
    for (patch, lost) in [
        ("attr-length-zero", "gamma.txt"),
        ("vcn-backwards", "alpha.bin"),
    ] {
        let mut bytes = common::testdata("damage-base");
        for line in common::testdata_text("damaged.tsv").lines().skip(1) {
            let f: Vec<&str> = line.split('\t').collect();
            if f[0] == patch {
                let at: usize = f[2].parse().unwrap();
                for (i, hex) in f[3].as_bytes().chunks(2).enumerate() {
                    let hex = std::str::from_utf8(hex).unwrap();
                    bytes[at + i] = u8::from_str_radix(hex, 16).unwrap();
                }
            }
        }
        let v = Volume::open(common::Memory::shared(bytes)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (s, warnings) = take(&v, "/", dir.path(), ExtractOptions::default());
        assert_eq!(s.skipped, 1, "{patch}: {warnings:#?}");
        assert!(warnings[0].message.contains(lost), "{warnings:#?}");
        assert!(!dir.path().join(lost).exists(), "{patch}");
    }
    // A sound file may have none.
    let v = Volume::open(common::Memory::shared(common::testdata("links"))).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (s, warnings) = take(&v, "/$Secure", dir.path(), ExtractOptions::default());
    assert_eq!((s.files, s.streams, s.skipped), (1, 1, 0), "{warnings:#?}");
}

#[test]
fn extract_brings_deleted_files_back() {
    let v = Volume::open(common::Memory::shared(common::testdata("deleted"))).unwrap();
    let tree = Tree::new(&v);
    let o = ExtractOptions::default();
    let hash = |p: &Path| {
        use sha2::Digest;
        let digest = sha2::Sha256::digest(std::fs::read(p).unwrap());
        digest
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>()
    };
    let dir = tempfile::tempdir().unwrap();
    let seen = Warnings::default();
    let s = extract_deleted(&tree, &[path("/")], dir.path(), o, &seen).unwrap();
    assert_eq!((s.files, s.skipped, s.streams), (5, 0, 1));
    let warnings = seen.0.into_inner().unwrap();
    assert!(warnings.iter().any(|w| w.code == "deleted"), "{warnings:?}");
    for line in common::testdata_text("deleted.gone.tsv").lines().skip(1) {
        let f: Vec<&str> = line.split('\t').collect();
        let made = dir.path().join(&f[0][1..]);
        if f[2] == "-" {
            assert!(made.is_dir(), "{line}");
            continue;
        }
        assert_eq!(hash(&made), f[2], "{line}");
        let n = f[3].strip_prefix("mft=").unwrap().split(',').next();
        let n = RecordNo(n.unwrap().parse().unwrap());
        let one = tempfile::tempdir().unwrap();
        let s = extract_record(&tree, n, one.path(), o, &Silent).unwrap();
        assert_eq!((s.files, s.skipped), (1, 0), "{line}");
        assert_eq!(hash(&one.path().join(made.file_name().unwrap())), f[2]);
    }
    let below = tempfile::tempdir().unwrap();
    let to = below.path();
    extract_deleted(&tree, &[path("/DIR/Inner.txt")], to, o, &Silent).unwrap();
    assert_eq!(walk(to).len(), 1);
    assert!(to.join("inner.txt").is_file());
    let e = extract_deleted(&tree, &[path("/kept.txt")], to, o, &Silent).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    // A record's path, as it is for files in use, says what to do instead.
    let (s, warnings) = take(&v, "/<mft 65>", to, o);
    assert_eq!(s.skipped, 1);
    assert!(warnings[0].message.contains("--deleted"), "{warnings:?}");
    let root = LsOptions {
        deleted: Deleted::Show,
        ..LsOptions::default()
    };
    let names = listed(&v, &at("/"), &root);
    for want in ["dir", "kept.txt", "whole.bin", "whole.bin:stream"] {
        assert!(names.iter().any(|n| n == want), "{want} in {names:?}");
    }
    assert!(!names.iter().any(|n| n.contains("inner")), "{names:?}");
}

#[test]
fn every_name_of_a_file_gets_its_streams() {
    let v = Volume::open(common::Memory::shared(common::testdata("links"))).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (s, _) = take(&v, "/", dir.path(), ExtractOptions::default());
    assert_eq!((s.streams, s.hard_links, s.skipped), (1, 2, 0));
    let meta = |p: &str| dir.path().join(p).metadata().unwrap();
    let first = meta("one/first name.txt:stream");
    assert_eq!(first.nlink(), 3);
    assert_eq!(meta("two/second name.txt:stream").ino(), first.ino());

    // The index of a junction, `$I30`, becomes a stream of that name.
    let Some(image) = common::image("v06") else {
        return;
    };
    let mut bytes = std::fs::read(image).unwrap();
    let v = Volume::open(common::Memory::shared(bytes.clone())).unwrap();
    let record = v.record(RecordNo(40)).unwrap();
    for a in record.view().attributes().flatten() {
        if a.type_code == 0x90 {
            bytes[(record.offset() + u64::from(a.offset)) as usize] = 0x80;
        }
    }
    let v = Volume::open(common::Memory::shared(bytes)).unwrap();
    for links in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let o = ExtractOptions {
            links,
            ..ExtractOptions::default()
        };
        let (s, warnings) = take(&v, "/dota2/valve", dir.path(), o);
        assert_eq!((s.streams, s.skipped), (1, 0), "{warnings:?}");
        assert!(dir.path().join("valve:$I30").is_file());
    }
}
