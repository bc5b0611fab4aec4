//! Volumes made smaller, larger and defragmented: read back as a source before
//! anything is written, then as a file by ntfs-3g's tools.

#[path = "../common/mod.rs"]
mod common;
mod compare;
mod damage;
mod hold;
mod mutate;
mod tools;

use compare::Tally;
use ntbak::device::{Rearranged, Rearrangement, SharedSource};
use ntbak::error::ErrorKind;
use ntbak::observe::Silent;
use ntbak::units::ByteRange;
use ntbak::volume::Volume;
use ntbak::volume::rework::{How, ReworkReport, Survey, Wish, plan, survey};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Partitions of the test disks and public disks: the image, where it begins,
/// its bytes, and what its paths begin with in the golden list.
type Part = (&'static str, Option<(u64, u64)>, Option<&'static str>);
const PARTS: &[Part] = &[
    ("disk-mbr", Some((63 * 512, 0)), Some("p1:")),
    ("disk-gpt", Some((1 << 20, 0)), Some("p1:")),
    ("quick", Some((1 << 20, 0)), Some("p1:")),
];

/// Volumes of `testdata/` that are not sound on purpose.
const UNSOUND: [&str; 2] = ["damage-base", "huge"];

fn surveyed(source: &SharedSource) -> (Volume, Survey) {
    let volume = Volume::open(source.clone()).unwrap();
    let s = survey(&volume, &Silent).unwrap();
    (volume, s)
}

/// The volumes of `testdata/`, whole disks left out.
fn volumes() -> Vec<(String, SharedSource)> {
    let mut all = Vec::new();
    for name in common::testdata_names() {
        if UNSOUND.contains(&&*name) || name.starts_with("disk-") || name == "quick" {
            continue;
        }
        all.push((
            name.clone(),
            common::Memory::shared(common::testdata(&name)),
        ));
    }
    all
}

fn wishes(len: u64, s: &Survey) -> Vec<(&'static str, Wish)> {
    let smallest = s.smallest().unwrap();
    let at = |bytes: u64, defragment: bool| Wish {
        new_bytes: Some(bytes),
        defragment,
        grow_file_system: true,
        ..Wish::default()
    };
    let defragment = Wish {
        defragment: true,
        ..Wish::default()
    };
    vec![
        ("larger", at(len + len / 2, false)),
        ("larger, defragmented", at(len + len / 2, true)),
        ("smallest", at(smallest, false)),
        ("smallest, defragmented", at(smallest, true)),
        ("in between", at((smallest + len) / 2, false)),
        ("smallest in place", at(s.smallest_in_place(), false)),
        ("defragmented", defragment),
    ]
}

/// Both directions over all of it, in uneven steps: inverse of each other, in
/// order, everything covered.
fn inverse(what: &str, r: &dyn Rearrangement, old_len: u64) {
    let new_len = r.new_len();
    let mut kept = 0;
    let mut at = 0;
    while at < old_len {
        let end = (at + 1_000_003).min(old_len);
        let mut here = at;
        let mut pieces = Vec::new();
        r.forward(ByteRange { start: at, end }, &mut |to, len| {
            assert!(len > 0);
            if let Some(to) = to {
                pieces.push((here, to, len));
            }
            here += len;
            Ok(())
        })
        .unwrap();
        assert_eq!(here, end, "{what}");
        for (from, to, len) in pieces {
            kept += len;
            assert!(to + len <= new_len, "{what}");
            let mut back = from;
            let range = ByteRange {
                start: to,
                end: to + len,
            };
            r.backward(range, &mut |origin, n| {
                assert_eq!(origin, Some(back), "{what}: {from} {to}");
                back += n;
                Ok(())
            })
            .unwrap();
            assert_eq!(back, from + len, "{what}");
        }
        at = end;
    }
    let mut come = 0;
    let mut sum = 0;
    let whole = ByteRange {
        start: 0,
        end: new_len,
    };
    r.backward(whole, &mut |from, len| {
        come += if from.is_some() { len } else { 0 };
        sum += len;
        Ok(())
    })
    .unwrap();
    assert_eq!((come, sum), (kept, new_len), "{what}");
    let mut last = 0;
    r.patches(&mut |at, bytes| {
        assert!(
            at >= last && !bytes.is_empty() && bytes.len() <= 1 << 20,
            "{what}"
        );
        last = at + bytes.len() as u64;
        assert!(last <= new_len, "{what}");
        Ok(())
    })
    .unwrap();
}

/// Plans, checks, and gives the new volume.
fn reworked(
    what: &str,
    source: &SharedSource,
    s: &Survey,
    wish: &Wish,
) -> (SharedSource, ReworkReport) {
    let r = plan(s, wish, &Silent).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    let report = r.report().clone();
    if let Some(bytes) = wish.new_bytes {
        assert_eq!(report.new_bytes, bytes - bytes % 512, "{what}");
    }
    let r = Arc::new(r);
    if r.new_len() < 1 << 26 {
        inverse(what, &*r, source.len());
    }
    (Arc::new(Rearranged::new(source.clone(), r)), report)
}

fn defragmented(what: &str, new: &Volume, report: &ReworkReport) {
    if report.how == How::Anew {
        let broken = compare::broken_streams(new);
        assert!(
            broken <= report.streams_in_pieces,
            "{what}: {broken} streams in pieces"
        );
    }
}

/// One step below the smallest size: refused, with the number.
fn refused(what: &str, s: &Survey, sector: u64) {
    let smallest = s.smallest().unwrap();
    for less in [sector, smallest / 3, smallest - sector] {
        for defragment in [false, true] {
            let wish = Wish {
                new_bytes: Some(smallest - less),
                defragment,
                ..Wish::default()
            };
            let e = plan(s, &wish, &Silent)
                .err()
                .unwrap_or_else(|| panic!("{what}: not refused"));
            assert_eq!(e.kind(), ErrorKind::Refused, "{what}: {e:?}");
            assert!(e.message().contains(&smallest.to_string()), "{what}: {e:?}");
        }
    }
}

#[test]
fn every_volume_in_every_way() {
    let mut tally = Tally::default();
    for (name, source) in volumes() {
        let (old, s) = surveyed(&source);
        refused(&name, &s, u64::from(old.geometry().sector_size));
        for (kind, wish) in wishes(source.len(), &s) {
            let what = format!("{name}, {kind}");
            let (new, report) = reworked(&what, &source, &s, &wish);
            let new = Volume::open(new).unwrap_or_else(|e| panic!("{what}: {e:?}"));
            assert!(new.notes().is_empty(), "{what}: {:?}", new.notes());
            let stores: Vec<u64> = report
                .changes
                .iter()
                .filter(|c| c.code == "shadow-storage-dropped")
                .flat_map(|_| common_stores(&old))
                .collect();
            let mut loose = stores.clone();
            loose.extend(asleep(&old));
            compare::same(&what, &old, &new, &loose);
            compare::consistent(&what, &old, &new);
            compare::sound(&what, &old, &new);
            if wish.defragment {
                defragmented(&what, &new, &report);
            }
            tally.add(format!("{:?}", report.how));
        }
    }
    eprintln!("{:?}", tally.0);
    assert!(tally.0["InPlace"] > 20 && tally.0["Relocated"] > 10 && tally.0["Anew"] > 20);
}

/// Records in `System Volume Information`, and that directory.
fn common_stores(volume: &Volume) -> Vec<u64> {
    let tree = ntbak::volume::Tree::new(volume);
    let path = ntbak::volume::VolumePath::parse(b"/System Volume Information").unwrap();
    let Ok(found) = tree.lookup(&path) else {
        return Vec::new();
    };
    let list = tree.list(found.file.record).unwrap();
    let files = list.entries.iter().map(|e| e.file.record.0);
    files.chain([found.file.record.0]).collect()
}

/// `hiberfil.sys` of a sleeping Windows.
fn asleep(volume: &Volume) -> Option<u64> {
    let tree = ntbak::volume::Tree::new(volume);
    let path = ntbak::volume::VolumePath::parse(b"/hiberfil.sys").unwrap();
    Some(tree.lookup(&path).ok()?.file.record.0)
}

fn dump(source: &SharedSource, to: &Path) {
    let file = std::fs::File::create(to).unwrap();
    file.set_len(source.len()).unwrap();
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    while at < source.len() {
        let now = (source.len() - at).min(1 << 20) as usize;
        source.read_at(at, &mut buf[..now]).unwrap();
        if buf[..now].iter().any(|&b| b != 0) {
            file.write_all_at(&buf[..now], at).unwrap();
        }
        at += now as u64;
    }
}

#[test]
fn other_tools_agree() {
    let mount = common::mount::can_mount();
    let dir = tempfile::tempdir().unwrap();
    let (mut mounted, mut read) = (0, 0);
    for (name, source) in volumes() {
        let (old, s) = surveyed(&source);
        let dirty = old.info().is_some_and(|i| i.flags & 1 != 0);
        for (kind, wish) in wishes(source.len(), &s) {
            if !matches!(kind, "larger" | "smallest" | "defragmented") {
                continue;
            }
            let what = format!("{name}, {kind}");
            let (new, _) = reworked(&what, &source, &s, &wish);
            let file = dir.path().join("volume.img");
            dump(&new, &file);
            tools::judge(&what, &file, dirty);
            let Some(list) = common::image_list(&name).filter(|_| mount) else {
                continue;
            };
            match common::mount::Mount::new(&file, dir.path().join("m")) {
                Ok(m) => {
                    mounted += 1;
                    read += tools::golden(&what, &list, None, &m);
                }
                Err(e) => eprintln!("{what}: ntfs-3g does not mount it: {e}"),
            }
        }
    }
    eprintln!("ntfs-3g mounted {mounted} volumes and read {read} files");
    assert!(!mount || mounted > 40 && read > 5000, "{mounted} {read}");
}

#[test]
fn any_size_is_right_or_refused() {
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for name in ["sparse", "attrlist", "mft-attrlist", "lznt1-512", "vdl"] {
        let source = common::Memory::shared(common::testdata(name));
        let (old, s) = surveyed(&source);
        let smallest = s.smallest().unwrap();
        for _ in 0..12 {
            let bytes = next() % (source.len() * 3 / 2);
            let wish = Wish {
                new_bytes: Some(bytes),
                grow_file_system: next() % 2 == 0,
                defragment: next() % 3 == 0,
                hidden_sectors: Some(2048),
                new_serial: Some(next()),
            };
            let what = format!("{name}, {wish:?}");
            match plan(&s, &wish, &Silent) {
                Err(e) => {
                    assert!(bytes < smallest, "{what}: {e:?}");
                    assert!(e.message().contains(&smallest.to_string()), "{what}: {e:?}");
                }
                Ok(_) => {
                    assert!(bytes - bytes % 512 >= smallest, "{what}");
                    let (new, _) = reworked(&what, &source, &s, &wish);
                    let mut boot = [0; 512];
                    new.read_at(0, &mut boot).unwrap();
                    let mut copy = [0; 512];
                    new.read_at(new.len() - 512, &mut copy).unwrap();
                    assert!(boot == copy, "{what}");
                    assert_eq!(boot[0x1c..0x20], 2048u32.to_le_bytes(), "{what}");
                    let new = Volume::open(new).unwrap();
                    assert_eq!(Some(new.geometry().serial), wish.new_serial, "{what}");
                    compare::same(&what, &old, &new, &[]);
                    compare::consistent(&what, &old, &new);
                }
            }
        }
    }
}

#[test]
fn public_volumes() {
    let mut tally = Tally::default();
    let mut volumes: Vec<(&str, Option<(u64, u64)>)> = vec![
        ("v01", Some((65536, 0))),
        ("v02", Some((65536, 0))),
        ("v03", Some((65536, 0))),
        ("v04", Some((65536, 0))),
        ("v10", Some((65536, 0))),
        ("v11", Some((1_048_576, 2_147_483_648))),
        ("v11", Some((2_148_532_224, 0))),
    ];
    volumes.extend(["v05", "v06", "v07", "v08", "v09", "v12", "v13", "v15"].map(|v| (v, None)));
    volumes.extend(["c01", "c02", "c03", "c04", "c05", "c06", "c07"].map(|v| (v, None)));
    for (name, at) in volumes {
        let Some(image) = common::image(name) else {
            continue;
        };
        let whole = common::PlainFile::open(&image);
        let source = match at {
            None => whole,
            Some((start, len)) => {
                let volume =
                    Volume::open(common::part(whole.clone(), start, whole.len() - start)).unwrap();
                let g = volume.geometry();
                let own = g.volume_bytes() + u64::from(g.sector_size);
                let _ = len;
                common::part(whole.clone(), start, own.min(whole.len() - start))
            }
        };
        let (old, s) = surveyed(&source);
        let damaged = name.starts_with('c');
        let loose: Vec<u64> = common_stores(&old)
            .into_iter()
            .chain(asleep(&old))
            .collect();
        for (kind, wish) in wishes(source.len(), &s) {
            if source.len() > 1 << 31 && kind.contains("larger") && kind != "larger" {
                continue;
            }
            let what = format!("{name}, {kind}");
            if damaged && let Err(e) = plan(&s, &wish, &Silent) {
                let right = matches!(e.kind(), ErrorKind::Refused | ErrorKind::Unsupported);
                assert!(right, "{what}: {e:?}");
                eprintln!("{what}: {e}");
                tally.add("refused");
                continue;
            }
            let (new, report) = reworked(&what, &source, &s, &wish);
            let new = Volume::open(new).unwrap_or_else(|e| panic!("{what}: {e:?}"));
            compare::same(&what, &old, &new, &loose);
            compare::consistent(&what, &old, &new);
            if !damaged {
                compare::sound(&what, &old, &new);
            }
            // Streams of damaged records stay as they are.
            if wish.defragment && !damaged {
                defragmented(&what, &new, &report);
            }
            tally.add(format!("{:?}", report.how));
        }
    }
    eprintln!("{:?}", tally.0);
}

#[test]
fn partitions_of_disks() {
    for &(name, at, _) in PARTS {
        let whole = common::Memory::shared(common::testdata(name));
        let (start, _) = at.unwrap();
        let volume = Volume::open(common::part(whole.clone(), start, whole.len() - start)).unwrap();
        let g = volume.geometry();
        let source = common::part(
            whole.clone(),
            start,
            g.volume_bytes() + u64::from(g.sector_size),
        );
        let (old, s) = surveyed(&source);
        for (kind, wish) in wishes(source.len(), &s) {
            let what = format!("{name}, {kind}");
            let (new, _) = reworked(&what, &source, &s, &wish);
            let new = Volume::open(new).unwrap();
            compare::same(&what, &old, &new, &[]);
            compare::consistent(&what, &old, &new);
        }
    }
}

/// Volumes that `scripts/make-random-volume.sh` makes, nearly full: at any size
/// right or refused. `NTBAK_REWORK_SEEDS=A-B` asks for more than one of them.
#[test]
fn random_volumes() {
    if !common::mount::can_mount() {
        return;
    }
    let seeds = std::env::var("NTBAK_REWORK_SEEDS").unwrap_or_else(|_| "1-1".into());
    let (first, last) = seeds.split_once('-').unwrap();
    let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/make-random-volume.sh");
    let dir = tempfile::tempdir().unwrap();
    let mut tally = Tally::default();
    let mut read = 0;
    for seed in first..=last {
        let image = dir.path().join("random.img");
        let mib = 6 + seed % 11;
        let made = std::process::Command::new(&script)
            .args([seed.to_string(), mib.to_string()])
            .arg(&image)
            .status()
            .unwrap();
        assert!(made.success(), "seed {seed}");
        let source = common::PlainFile::open(&image);
        let (old, s) = surveyed(&source);
        let smallest = s.smallest().unwrap();
        refused(&format!("seed {seed}"), &s, 512);
        let mut all = wishes(source.len(), &s);
        let mut number = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for _ in 0..4 {
            number = number.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let span = source.len() - smallest + source.len() / 4;
            all.push((
                "at random",
                Wish {
                    new_bytes: Some(smallest + (number >> 16) % span),
                    grow_file_system: true,
                    defragment: number >> 40 & 1 == 1,
                    ..Wish::default()
                },
            ));
        }
        // On a full volume ntfs-3g loses clusters and gives some away twice.
        let whole = compare::differences(&old) == [0; 4];
        let before = common::mount::Mount::new(&image, dir.path().join("old")).unwrap();
        for (kind, wish) in all {
            let what = format!("seed {seed}, {kind}, {wish:?}");
            let (new, report) = reworked(&what, &source, &s, &wish);
            let file = dir.path().join("new.img");
            dump(&new, &file);
            let new = Volume::open(new).unwrap();
            compare::same(&what, &old, &new, &[]);
            compare::consistent(&what, &old, &new);
            compare::sound(&what, &old, &new);
            if wish.defragment && whole {
                defragmented(&what, &new, &report);
            }
            match whole {
                true => tools::judge(&what, &file, false),
                false => tally.add("of a volume that was not sound"),
            }
            let after = common::mount::Mount::new(&file, dir.path().join("new")).unwrap();
            read += tools::same_tree(&what, &before.0, &after.0);
            tally.add(format!("{:?}", report.how));
        }
    }
    eprintln!("{:?}; ntfs-3g read {read} files", tally.0);
    assert!(read > 100, "{read}");
}
