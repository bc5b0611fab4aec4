use super::super::guid;
use super::*;
use crate::device::{FaultySource, FileSource, SharedSource};
use proptest::prelude::*;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A stored test volume as a sparse temporary file; `None` (and a message)
/// where it is not at hand.
fn stored(path: &str) -> Option<(tempfile::NamedTempFile, FileSource)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join(path);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    }
    let dict = std::fs::read(root.join("testdata/upcase.dict")).unwrap_or_default();
    let input = std::io::BufReader::new(std::fs::File::open(&path).unwrap());
    let mut input = zstd::Decoder::with_dictionary(input, &dict).unwrap();
    let mut out = tempfile::NamedTempFile::new().unwrap();
    let word = |input: &mut dyn Read| {
        let mut b = [0; 8];
        input
            .read_exact(&mut b)
            .ok()
            .map(|()| u64::from_le_bytes(b))
    };
    let f = out.as_file_mut();
    if path.to_string_lossy().ends_with(".sparse.zst") {
        assert_eq!(word(&mut input), Some(u64::from_le_bytes(*b"NTBKSPRS")));
        f.set_len(word(&mut input).unwrap()).unwrap();
        while let Some(at) = word(&mut input) {
            let len = word(&mut input).unwrap();
            f.seek(SeekFrom::Start(at)).unwrap();
            std::io::copy(&mut input.by_ref().take(len), f).unwrap();
        }
    } else {
        let mut piece = vec![0; 1 << 20];
        let mut len = 0;
        loop {
            let n = input.read(&mut piece).unwrap();
            if n == 0 {
                break;
            }
            if piece[..n].iter().any(|&b| b != 0) {
                f.seek(SeekFrom::Start(len)).unwrap();
                f.write_all(&piece[..n]).unwrap();
            }
            len += n as u64;
        }
        f.set_len(len).unwrap();
    }
    let s = FileSource::open(out.path(), 512).unwrap();
    Some((out, s))
}

/// Number, start and length in bytes, content of a partition.
type Part = (u32, u64, u64, Content);

fn parts(l: &Layout) -> Vec<Part> {
    l.partitions
        .iter()
        .map(|p| (p.number, p.start, p.length, p.content))
        .collect()
}

fn codes(l: &Layout) -> Vec<&'static str> {
    l.notes.iter().map(|n| n.code).collect()
}

/// Partitions and gaps together are the whole source, each byte once, unless
/// partitions overlap.
fn check_cover(l: &Layout) {
    let mut all = RangeSet::new();
    let gaps: RangeSet = l.gaps.iter().copied().collect();
    for p in &l.partitions {
        assert!(p.length == 0 || p.start + p.length <= l.length);
        assert!(p.length <= p.declared);
        assert!(gaps.within(p.range()).is_empty());
        all.insert(p.range());
    }
    l.gaps.iter().for_each(|g| all.insert(*g));
    let inside = all.within(ByteRange {
        start: 0,
        end: l.length,
    });
    assert_eq!(inside.iter().map(|r| r.len()).sum::<u64>(), l.length);
}

#[test]
fn public_volumes() {
    let mib = 1u64 << 20;
    let cases: &[(&str, TableKind, &[Part])] = &[
        (
            "v01-win10-mbr-pattern",
            TableKind::Mbr,
            &[(1, 65536, 518_144 * 512, Content::Ntfs)],
        ),
        (
            "v04-win10-2k-clusters-index",
            TableKind::Mbr,
            &[(1, 65536, 29 * mib, Content::Ntfs)],
        ),
        (
            "v10-win10-gpt-5m",
            TableKind::Gpt,
            &[(1, 65536, 3 * mib, Content::Ntfs)],
        ),
        (
            "v11-win10-mbr-2part-vss",
            TableKind::Mbr,
            &[
                (1, mib, 2048 * mib, Content::Ntfs),
                (2, 2049 * mib, 6_285_312 * 512, Content::Ntfs),
            ],
        ),
        (
            "v14-bitlocker-xts128",
            TableKind::None,
            &[(1, 0, 51_032_064, Content::BitLocker)],
        ),
        (
            "c02-boot-wrong-mft-lcn",
            TableKind::None,
            &[(1, 0, 10 * mib, Content::Ntfs)],
        ),
        (
            "v08-xp-512-ads",
            TableKind::None,
            &[(1, 0, 10_289_152, Content::Ntfs)],
        ),
    ];
    for (name, table, want) in cases {
        let Some((_file, s)) = stored(&format!("../shared/volumes/{name}.img.zst")) else {
            continue;
        };
        let l = open_layout(&s).unwrap();
        assert_eq!(l.table, *table, "{name}");
        assert_eq!(parts(&l), *want, "{name}");
        assert!(l.notes.is_empty(), "{name}: {:?}", l.notes);
        assert_eq!(l.sector_size, 512, "{name}");
        check_cover(&l);
        if *name == "v10-win10-gpt-5m" {
            let p = l.partition(1).unwrap();
            assert_eq!(p.name.as_deref(), Some("Basic data partition"));
            assert_eq!(p.kind.name(), Some("Windows basic data"));
            let id = p.id.unwrap().to_string();
            assert_eq!(id, "DB2D17E8-5FA8-42CA-8BF1-39BAC9A3D019");
            assert!(
                l.partition(2)
                    .unwrap_err()
                    .advice()
                    .unwrap()
                    .contains("there are: 1")
            );
        }
    }
}

#[test]
fn own_volumes() {
    let find = |name: &str| stored(&format!("testdata/{name}"));
    let numbers = |l: &Layout| l.partitions.iter().map(|p| p.number).collect::<Vec<_>>();
    let ntfs = |l: &Layout| -> Vec<u32> {
        let ntfs = l.partitions.iter().filter(|p| p.content.is_ntfs());
        ntfs.map(|p| p.number).collect()
    };
    if let Some((_file, s)) = find("disk-mbr.img.zst") {
        let l = open_layout(&s).unwrap();
        assert_eq!((l.table, numbers(&l)), (TableKind::Mbr, vec![1, 2, 5, 6]));
        assert_eq!(ntfs(&l), [1, 5]);
        assert_eq!(l.partitions[0].start, 63 * 512);
        assert!(l.partitions[0].bootable && !l.partitions[1].bootable);
        assert_eq!(l.partitions[1].content, Content::Fat12);
        assert_eq!(l.containers[0].number, 3);
        check_cover(&l);
    }
    if let Some((_file, s)) = find("disk-gpt.img.zst") {
        let l = open_layout(&s).unwrap();
        assert_eq!((l.table, numbers(&l)), (TableKind::Gpt, vec![1, 2, 4]));
        assert_eq!(ntfs(&l), [1, 4]);
        assert!(l.partitions[2].start < l.partitions[1].start);
        assert!(l.notes.is_empty(), "{:?}", l.notes);
        check_cover(&l);
    }
    if let Some((_file, s)) = find("disk-gpt-4kn.img.zst") {
        let l = open_layout(&s).unwrap();
        assert_eq!((l.table, numbers(&l)), (TableKind::Gpt, vec![1, 2]));
        assert_eq!((l.sector_size, ntfs(&l)), (4096, vec![1]));
        assert_eq!(codes(&l), ["sector-size"]);
        check_cover(&l);
    }
    for (name, want) in [
        ("bitlocker-to-go", Content::BitLockerToGo),
        ("bitlocker-vista", Content::BitLocker),
        ("bitlocker", Content::BitLocker),
        ("exfat", Content::ExFat),
        ("ext4", Content::Ext),
        ("fat12", Content::Fat12),
        ("fat16", Content::Fat16),
        ("fat32", Content::Fat32),
        ("random", Content::Unknown),
        ("refs", Content::Refs),
        ("short", Content::Unknown),
        ("zeros", Content::Empty),
    ] {
        if let Some((_file, s)) = find(&format!("foreign-{name}.sparse.zst")) {
            let l = open_layout(&s).unwrap();
            assert_eq!(l.table, TableKind::None, "{name}");
            assert_eq!(l.partitions[0].content, want, "{name}");
        }
    }
}

const NTFS: &[u8] = b"\xeb\x52\x90NTFS    ";

/// A disk with a boot record whose entries are (slot, type, start, sectors).
fn mbr_disk(sectors: usize, entries: &[(usize, u8, u32, u32)]) -> Vec<u8> {
    let mut d = vec![0; sectors * 512];
    put_mbr(&mut d, entries);
    d
}

fn put_mbr(d: &mut [u8], entries: &[(usize, u8, u32, u32)]) {
    for (slot, kind, start, len) in entries {
        let at = 0x1be + slot * 16;
        d[at + 4] = *kind;
        d[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        d[at + 12..at + 16].copy_from_slice(&len.to_le_bytes());
    }
    d[510..512].copy_from_slice(&[0x55, 0xaa]);
}

fn layout(d: &[u8]) -> Layout {
    let l = open_layout(&FaultySource::new(d.to_vec(), 512)).unwrap();
    check_cover(&l);
    l
}

/// A disk with a sound GPT and its copy: entries are (first, last) sectors,
/// used ones numbered from 1.
fn gpt_disk(sectors: usize, size: usize, entries: &[(u64, u64)]) -> Vec<u8> {
    let mut d = vec![0; sectors * size];
    put_mbr(&mut d, &[(0, 0xee, 1, sectors as u32 - 1)]);
    let mut array = vec![0; 128 * 128];
    for (e, (first, last)) in array.chunks_mut(128).zip(entries) {
        e[..16].copy_from_slice(&guid::BASIC_DATA.0);
        e[16] = 1;
        e[32..40].copy_from_slice(&first.to_le_bytes());
        e[40..48].copy_from_slice(&last.to_le_bytes());
    }
    let array_sectors = (array.len() / size) as u64;
    let last = sectors as u64 - 1;
    for (my, other, at) in [(1, last, 2), (last, 1, last - array_sectors)] {
        let mut h = vec![0; 92];
        h[..8].copy_from_slice(b"EFI PART");
        h[8..16].copy_from_slice(&[0, 0, 1, 0, 92, 0, 0, 0]);
        for (o, v) in [
            (24, my),
            (32, other),
            (40, 2 + array_sectors),
            (48, last - array_sectors - 1),
            (72, at),
        ] {
            h[o..o + 8].copy_from_slice(&v.to_le_bytes());
        }
        h[80..84].copy_from_slice(&128u32.to_le_bytes());
        h[84..88].copy_from_slice(&128u32.to_le_bytes());
        h[88..92].copy_from_slice(&crc32fast::hash(&array).to_le_bytes());
        let crc = crc32fast::hash(&h);
        h[16..20].copy_from_slice(&crc.to_le_bytes());
        let my = my as usize * size;
        d[my..my + 92].copy_from_slice(&h);
        let at = at as usize * size;
        d[at..at + array.len()].copy_from_slice(&array);
    }
    d
}

#[test]
fn overlaps_and_ends_are_noted() {
    let l = layout(&mbr_disk(
        1000,
        &[
            (0, 7, 100, 200),
            (1, 7, 250, 100),
            (2, 0x83, 900, 5000),
            (3, 7, 2000, 10),
        ],
    ));
    assert_eq!(codes(&l), ["cut-off", "cut-off", "overlap"]);
    assert_eq!(l.partitions[2].length, 100 * 512);
    assert_eq!(l.partitions[2].declared, 5000 * 512);
    assert_eq!(l.partitions[3].length, 0);
    let gaps: Vec<_> = l
        .gaps
        .iter()
        .map(|g| (g.start / 512, g.end / 512))
        .collect();
    assert_eq!(gaps, [(0, 100), (350, 900)]);
    let json = serde_json::to_value(&l).unwrap();
    assert_eq!(json["partitions"][0]["type"]["id"], "0x07");
    assert_eq!(json["table"], "mbr");
}

#[test]
fn sectors_of_4096_bytes_are_found_out() {
    let mut d = mbr_disk(8000, &[(0, 7, 64, 500), (1, 5, 600, 300)]);
    d[64 * 4096..64 * 4096 + NTFS.len()].copy_from_slice(NTFS);
    put_mbr(&mut d[600 * 4096..], &[(0, 7, 2, 20)]);
    let l = layout(&d);
    assert_eq!(l.sector_size, 4096);
    let want = [
        (1, 64 * 4096, 500 * 4096, Content::Ntfs),
        (5, 602 * 4096, 20 * 4096, Content::Empty),
    ];
    assert_eq!(parts(&l), want);
    assert_eq!(codes(&l), ["sector-size"]);
    let forced = LayoutOptions {
        sector_size: Some(512),
        ..LayoutOptions::default()
    };
    let s = FaultySource::new(d, 512);
    assert_eq!(open_layout_with(&s, forced).unwrap().sector_size, 512);
    let bare = LayoutOptions {
        bare: true,
        ..LayoutOptions::default()
    };
    assert_eq!(open_layout_with(&s, bare).unwrap().table, TableKind::None);
    let odd = LayoutOptions {
        sector_size: Some(1000),
        ..LayoutOptions::default()
    };
    assert!(open_layout_with(&s, odd).is_err());
}

#[test]
fn a_boot_sector_is_no_table_and_a_table_no_boot_sector() {
    // Text of a boot loader where a table would be.
    let mut d = vec![0; 64 * 512];
    d[..NTFS.len()].copy_from_slice(NTFS);
    d[0x1be..0x1fe].fill(b'm');
    d[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(layout(&d).table, TableKind::None);
    // Entries that point at nothing.
    d[0x1be..0x1fe].fill(0);
    put_mbr(&mut d, &[(0, 7, 10, 20)]);
    assert_eq!(layout(&d).table, TableKind::None);
    // The same, pointing at something.
    d[10 * 512..10 * 512 + NTFS.len()].copy_from_slice(NTFS);
    assert_eq!(layout(&d).table, TableKind::Mbr);
    // An initialised disk without partitions; nothing at all; nothing known.
    let l = layout(&mbr_disk(64, &[]));
    assert_eq!((l.table, l.gaps.len()), (TableKind::Mbr, 1));
    let l = layout(&[0; 64 * 512]);
    assert_eq!(
        (l.table, l.partitions[0].content),
        (TableKind::None, Content::Empty)
    );
    assert_eq!(layout(&[7; 700]).partitions[0].content, Content::Unknown);
    assert_eq!(layout(&[]).partitions[0].length, 0);
}

#[test]
fn gpt_with_either_sector_size_and_either_table() {
    for size in [512usize, 4096] {
        let good = gpt_disk(300, size, &[(50, 99), (100, 200)]);
        let l = layout(&good);
        let s = size as u64;
        let want = [
            (1, 50 * s, 50 * s, Content::Empty),
            (2, 100 * s, 101 * s, Content::Empty),
        ];
        let notes = |l: &Layout| -> Vec<&str> {
            codes(l)
                .into_iter()
                .filter(|c| *c != "sector-size")
                .collect()
        };
        assert_eq!((l.table, parts(&l)), (TableKind::Gpt, want.to_vec()));
        assert!(notes(&l).is_empty(), "{:?}", l.notes);
        assert_eq!(l.sector_size as usize, size);

        // Primary header, primary entries, copy, boot record.
        let damage = |at: usize, codes: &[&str]| {
            let mut d = good.clone();
            d[at] ^= 1;
            let l = layout(&d);
            assert_eq!(parts(&l), want, "byte {at}");
            assert_eq!(notes(&l), codes, "byte {at}: {:?}", l.notes);
        };
        damage(size + 60, &["gpt-damaged", "gpt-backup"]);
        damage(size, &["gpt-backup"]);
        damage(2 * size + 3000, &["gpt-backup"]);
        damage(299 * size + 60, &["gpt-copy"]);
        damage(300 * size - 1, &[]);
        damage(511, &["no-protective-mbr"]);

        // The whole beginning lost.
        let mut d = good.clone();
        d[..34 * 512.max(size)].fill(0);
        let l = layout(&d);
        assert_eq!(parts(&l), want);
        assert_eq!(notes(&l), ["gpt-backup", "no-protective-mbr"]);
        // Both lost.
        let mut d = good.clone();
        d[size] = 0;
        d[299 * size] = 0;
        let l = layout(&d);
        assert_eq!(l.table, TableKind::Mbr);
        assert!(notes(&l).contains(&"gpt-lost"));
        // Entries wrong in both.
        let mut d = good.clone();
        let copy = 299 * size - 128 * 128;
        d[2 * size + 3000] ^= 1;
        d[copy + 3000] ^= 1;
        let l = layout(&d);
        assert_eq!(parts(&l), want);
        assert_eq!(notes(&l), ["gpt-entries"]);
        // Truncated, and grown.
        let l = layout(&good[..150 * size]);
        assert_eq!(l.partitions[1].length, 50 * s);
        assert_eq!(notes(&l), ["gpt-copy", "cut-off"]);
        let mut d = good.clone();
        d.resize(400 * size, 0);
        assert_eq!(notes(&layout(&d)), ["gpt-copy-place"]);
        // A grown disk whose primary is damaged: its header still says where.
        d[size + 60] ^= 1;
        assert_eq!(parts(&layout(&d)), want);
        // Unreadable first sectors.
        let s = FaultySource::new(good.clone(), 512).with_bad_sectors(0, 8 + size as u64 / 512);
        let l = open_layout(&s).unwrap();
        assert_eq!((l.table, parts(&l)), (TableKind::Gpt, want.to_vec()));
    }
}

#[test]
fn hybrid_and_stale_tables() {
    let mut d = gpt_disk(300, 512, &[(50, 99), (0, 7), (9, 8), (20, 40)]);
    put_mbr(&mut d, &[(1, 7, 50, 50)]);
    let l = layout(&d);
    assert_eq!(l.table, TableKind::Gpt);
    assert_eq!(
        codes(&l),
        ["hybrid-mbr", "bad-entry", "bad-entry", "out-of-table"]
    );
    put_mbr(&mut d, &[(0, 7, 150, 10)]);
    let l = layout(&d);
    assert_eq!((l.table, codes(&l)), (TableKind::Mbr, vec!["stale-gpt"]));
    // A volume made over a disk that had a GPT: only the copy is left.
    let mut d = gpt_disk(300, 512, &[(50, 99)]);
    d[..40 * 512].fill(0);
    d[..NTFS.len()].copy_from_slice(NTFS);
    assert_eq!(layout(&d).table, TableKind::None);
}

/// The partitions that sfdisk sees and those that we see are the same.
#[test]
fn sfdisk_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("d.img");
    for script in [
        "label: dos\nstart=63,size=1000,type=7,bootable\nstart=2048,size=20000,type=5\nstart=30000,size=100,type=83\nstart=2100,size=500,type=7\nstart=4000,size=600,type=7\nstart=9000,size=1,type=c\n",
        "label: gpt\nstart=2048,size=1000\n5: start=8000,size=100,type=E3C9E316-0B5C-4DB8-817D-F92DF00215AE,name=\"tést\"\n3: start=4000,size=600\n",
    ] {
        std::fs::File::create(&path)
            .unwrap()
            .set_len(20 << 20)
            .unwrap();
        let run = |stdin: Option<&str>, args: &[&str]| -> Option<String> {
            let mut c = Command::new("sfdisk")
                .args(args)
                .arg(&path)
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::null())
                .spawn()
                .ok()?;
            c.stdin
                .take()?
                .write_all(stdin.unwrap_or("").as_bytes())
                .ok()?;
            let out = c.wait_with_output().ok()?;
            out.status
                .success()
                .then(|| String::from_utf8(out.stdout).unwrap())
        };
        let Some(dump) = run(Some(script), &["-q"]).and_then(|_| run(None, &["-d"])) else {
            eprintln!("skipped: sfdisk is not installed");
            return;
        };
        let field = |line: &str, name: &str| -> Option<u64> {
            let (_, rest) = line.split_once(&format!("{name}="))?;
            rest.split(',').next()?.trim().parse().ok()
        };
        let prefix = path.display().to_string();
        let want: Vec<(u64, u64, u64)> = dump
            .lines()
            .filter(|l| l.starts_with(&prefix) && !l.contains("type=5"))
            .map(|l| {
                let number = l[prefix.len()..].split_whitespace().next().unwrap();
                (
                    number.parse().unwrap(),
                    field(l, "start").unwrap() * 512,
                    field(l, "size").unwrap() * 512,
                )
            })
            .collect();
        let l = open_layout(&FileSource::open(&path, 512).unwrap()).unwrap();
        let got: Vec<_> = l
            .partitions
            .iter()
            .map(|p| (u64::from(p.number), p.start, p.declared))
            .collect();
        let mut want = want;
        want.sort_unstable();
        assert_eq!(got, want, "{dump}");
        assert!(l.notes.is_empty(), "{:?}", l.notes);
        check_cover(&l);
    }
}

#[test]
fn a_partition_opens_as_a_source() {
    let mut d = mbr_disk(100, &[(0, 7, 10, 20), (1, 7, 500, 10)]);
    d[10 * 512..10 * 512 + NTFS.len()].copy_from_slice(NTFS);
    let disk: SharedSource = std::sync::Arc::new(FaultySource::new(d, 512));
    let l = open_layout(&*disk).unwrap();
    let w = l.partition(1).unwrap().open(&disk).unwrap();
    assert_eq!((w.len(), w.name()), (20 * 512, "test source partition 1"));
    assert!(l.partition(2).unwrap().open(&disk).is_err());
    assert!(l.partition(3).is_err());
}

proptest! {
    #[test]
    fn any_disk_has_a_layout(
        base in 0usize..4,
        noise in prop::collection::vec((0usize..60_000, any::<u8>()), 0..20),
        table in prop::collection::vec((446usize..512, any::<u8>()), 0..12),
        cut in 0usize..300 * 512,
    ) {
        let mut d = match base {
            0 => gpt_disk(300, 512, &[(50, 99), (100, 200)]),
            1 => mbr_disk(300, &[(0, 7, 10, 20), (1, 5, 40, 100)]),
            2 => mbr_disk(300, &[]),
            _ => vec![0; 300 * 512],
        };
        for (at, b) in noise.into_iter().chain(table) {
            d[at] = b;
        }
        d.truncate(cut);
        layout(&d);
    }

    #[test]
    fn any_entries_have_a_layout(entries in prop::collection::vec((any::<u64>(), any::<u64>()), 0..128)) {
        layout(&gpt_disk(300, 512, &entries));
    }
}
