//! Every file of the public volumes against lists made by another reader:
//! same paths, same sizes, same SHA-256 of every stream, and every path leads
//! back to its record. Once straight off the volume, once out of an archive.

mod common;

use ntbak::archive::{Archive, RegionKind, RegionView};
use ntbak::device::{Identity, SharedSource, Source};
use ntbak::disk::{TableKind, open_layout};
use ntbak::observe::Silent;
use ntbak::ops::extract::{ExtractOptions, extract};
use ntbak::ops::image::{Destination, PlanOptions, image, plan};
use ntbak::units::RecordNo;
use ntbak::volume::attr::{self, DATA};
use ntbak::volume::listing::{Deleted, Row};
use ntbak::volume::names::{Escaped, push_escaped_path, wtf8};
use ntbak::volume::{Listing, Piece, Stream, Tree, Volume, VolumePath};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

/// Path, size, digest.
type Rows = BTreeMap<String, (String, String)>;

/// Rows that the other reader does not have, and why they are right.
const MORE: &[(&str, &str)] = &[
    // Record 66, whose damaged attributes it gives up on.
    ("c03-attr-bad-fields", "/dir.00/file.1"),
    // Names that stand in extension records whose file has lost its attribute
    // list; the directories still have them.
    ("c05-corrupt-attrlist", "/p1/d2/f9"),
    ("c05-corrupt-attrlist", "/p1/d2/f9:x1"),
    ("c05-corrupt-attrlist", "/p4/d0/fc"),
    ("c05-corrupt-attrlist", "/p4/d0/fc:x1"),
];

fn golden(text: &str) -> (Rows, Vec<String>) {
    let (mut rows, mut unreadable) = (Rows::new(), Vec::new());
    for line in text.split_terminator('\n').skip(1) {
        let f: Vec<&str> = line.split('\t').collect();
        // The other reader's word for a directory that is gone.
        let path = match f[0].split_once("<broken_reference_0x") {
            None => f[0].to_owned(),
            Some((before, rest)) => {
                let (record, rest) = rest.split_once('#').unwrap();
                let (sequence, rest) = rest.split_once('>').unwrap();
                let record = u64::from_str_radix(record, 16).unwrap();
                format!("{before}<orphan {record}-{sequence}>{rest}")
            }
        };
        // The lists leave marks that steer a terminal as they are.
        let one = |c: char| match c.is_ascii() {
            true => c.to_string(),
            false => Escaped(c.encode_utf8(&mut [0; 4]).as_bytes()).to_string(),
        };
        let path: String = path.chars().map(one).collect();
        if f[3].contains("unreadable:") {
            // `<mft N>` stands there for what has no path because of that.
            unreadable.push(path.replace("<mft ", "/<no name mft "));
        } else {
            rows.insert(path, (f[1].to_owned(), f[2].to_owned()));
        }
    }
    (rows, unreadable)
}

fn digest(stream: &Stream) -> String {
    let zeros = vec![0; 1 << 16];
    let mut hash = Sha256::new();
    let result = stream.copy(|piece| {
        match piece {
            Piece::Data(bytes) => hash.update(bytes),
            Piece::Zero(mut n) => {
                while n > 0 {
                    let now = n.min(zeros.len() as u64);
                    hash.update(&zeros[..now as usize]);
                    n -= now;
                }
            }
            Piece::Unreadable(_, e) => return Err(e),
        }
        Ok(())
    });
    match result {
        Ok(()) => hex(&hash.finalize()),
        Err(e) => format!("unreadable: {e}"),
    }
}

fn read_all(part: Option<u32>, volume: &Volume, rows: &mut Rows) {
    let tree = Tree::new(volume);
    let listing =
        Listing::scan(volume, tree.upcase(), RecordNo(5), Deleted::Hide, &Silent).unwrap();
    let prefix = part.map_or(String::new(), |n| format!("p{n}:"));
    let mut known = HashMap::new();
    let mut seen = Vec::new();
    listing.for_each(|row: &Row<'_>| {
        let mut path = Vec::new();
        row.push_path(&mut path);
        let path = format!("{prefix}{}", String::from_utf8(path).unwrap());
        seen.push((path, row.node.record, row.stream.map(|s| s.0.to_vec())));
    });
    for (path, record, stream) in seen {
        let record = RecordNo(u64::from(record));
        let file = match volume.file(record) {
            Ok(file) => file,
            Err(e) => {
                rows.insert(path, ("-".into(), format!("unreadable: {e}")));
                continue;
            }
        };
        let found = VolumePath::parse(path.as_bytes()).and_then(|p| tree.lookup(&p));
        match &found {
            Ok(f) => assert_eq!(f.file.record, record, "{path} leads to another file"),
            // A wrong repair left directories that do not have their files.
            Err(_) if path.starts_with("/lost+found/") => {}
            Err(e) => panic!("{path} of record {record} is not found: {e:?}"),
        }
        if stream.is_none() {
            let own = tree.path_of(record).unwrap();
            let mut shown = Vec::new();
            push_escaped_path(&own, &mut shown);
            let own = format!("{prefix}{}", String::from_utf8(shown).unwrap());
            let links = ntbak::volume::tree::names_of(&file).len();
            assert!(own == path || links > 1, "{own} is not {path}");
            for (_, a) in file.attributes() {
                let kind = attr::type_name(a.type_code).unwrap_or_default();
                let shown = [
                    "$REPARSE_POINT",
                    "$EA",
                    "$OBJECT_ID",
                    "$LOGGED_UTILITY_STREAM",
                ];
                if shown.contains(&kind) {
                    let name = Escaped(&wtf8(a.name)).to_string();
                    let s = Stream::open(volume, &file, a.type_code, a.name);
                    let s = s.unwrap().unwrap();
                    let row = (s.len().to_string(), digest(&s));
                    rows.insert(format!("{path}:{name}:{kind}"), row);
                }
            }
        }
        let row = known.entry((record, stream.clone())).or_insert_with(|| {
            if stream.is_none() && file.base().view().is_directory() {
                return ("-".into(), "-".into());
            }
            if stream.is_none() && file.stream(DATA, &[]).is_none() {
                return ("-".into(), "-".into());
            }
            let opened = match &found {
                Ok(found) => tree.open(found),
                Err(_) => Stream::open(volume, &file, DATA, &[]).map(|s| s.unwrap()),
            };
            match opened {
                Ok(s) if path.ends_with("/$BadClus:$Bad") => (s.len().to_string(), "-".into()),
                Ok(s) => (s.len().to_string(), digest(&s)),
                Err(e) => ("-".into(), format!("unreadable: {e}")),
            }
        });
        rows.insert(path, row.clone());
    }
}

/// The NTFS partitions of an image: the number in paths (none for a bare
/// volume) and what lies there.
fn partitions(whole: &SharedSource) -> Vec<(Option<u32>, SharedSource)> {
    let layout = open_layout(&**whole).unwrap();
    if layout.table == TableKind::None {
        return vec![(None, whole.clone())];
    }
    let ntfs = layout.partitions.iter().filter(|p| p.content.is_ntfs());
    ntfs.map(|p| {
        (
            Some(p.number),
            Arc::new(p.open(whole).unwrap()) as SharedSource,
        )
    })
    .collect()
}

/// All rows of an image. A volume that does not open must have no list.
fn rows(name: &str, whole: &SharedSource, want: &Rows) -> Rows {
    let mut got = Rows::new();
    for (part, source) in partitions(whole) {
        match Volume::open(source) {
            Ok(volume) => read_all(part, &volume, &mut got),
            Err(e) => assert!(want.is_empty(), "{name}: {e:?}"),
        }
    }
    got
}

/// The same rows out of an archive of the image.
fn archived_rows(name: &str, whole: &SharedSource, want: &Rows) -> Rows {
    let identity = Identity::file(name, whole.len(), whole.sector_size());
    let plan = match plan(whole.clone(), &identity, &PlanOptions::default(), &Silent) {
        Ok(plan) => plan,
        Err(e) => {
            assert!(want.is_empty(), "{name}: {e:?}");
            return Rows::new();
        }
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.ntbak");
    let options = common::image_options();
    image(&plan, Destination::File(path.clone()), &options, &Silent).unwrap();
    let archive = Arc::new(Archive::open(common::PlainFile::open(&path)).unwrap());
    let bare = archive.disk().table == ntbak::archive::TableKind::None;
    let mut got = Rows::new();
    for r in archive
        .disk()
        .regions
        .iter()
        .filter(|r| r.kind == RegionKind::Ntfs)
    {
        let view = RegionView::new(archive.clone(), r.number).unwrap();
        let volume = Volume::open(Arc::new(view)).unwrap();
        read_all((!bare).then_some(u32::from(r.number)), &volume, &mut got);
    }
    got
}

fn compare(name: &str, want: &Rows, unreadable: &[String], got: &Rows) {
    let mut bad = Vec::new();
    for (path, row) in want {
        match got.get(path) {
            None => bad.push(format!("missing {path}")),
            Some(mine) if mine != row => bad.push(format!("{path}: {mine:?}, expected {row:?}")),
            Some(_) => {}
        }
    }
    for (path, row) in got {
        let known = unreadable.contains(path) || MORE.contains(&(name, path));
        if !want.contains_key(path) && !known {
            bad.push(format!("more than expected: {path} {row:?}"));
        }
    }
    eprintln!("{name}: {} rows the same, {} differ", want.len(), bad.len());
    assert!(bad.is_empty(), "{name}:\n{}", bad.join("\n"));
}

fn check(name: &str) {
    let Some(image) = common::image(name) else {
        return;
    };
    let lists = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/volumes");
    let list = |name| std::fs::read_to_string(lists.join(format!("{name}.golden.tsv"))).unwrap();
    let (mut want, unreadable) = golden(&list(name));
    let source = common::PlainFile::open(&image);
    let mut got = rows(name, &source, &want);
    let mut archived = archived_rows(name, &source, &want);
    if name.starts_with("c02") {
        // The list is empty: its reader does not know the backup boot sector.
        // Through it, the volume is that of v15.
        want = golden(&list("v15-win-10m-default")).0;
        for rows in [&mut want, &mut got, &mut archived] {
            rows.remove("/$Boot");
        }
    }
    compare(name, &want, &unreadable, &got);
    compare(name, &want, &unreadable, &archived);
    check_extract(name, &source, &list(name));
}

/// Extracts everything and compares each file that the list has a digest of.
fn check_extract(name: &str, whole: &SharedSource, list: &str) {
    let mut bad = Vec::new();
    for (part, source) in partitions(whole) {
        let Ok(volume) = Volume::open(source) else {
            continue;
        };
        let dir = tempfile::tempdir().unwrap();
        let root = [VolumePath::default()];
        let options = ExtractOptions::default();
        extract(&Tree::new(&volume), &root, dir.path(), options, &Silent).unwrap();
        let prefix = part.map_or(String::new(), |n| format!("p{n}:"));
        let mut compared = 0;
        for line in list.split_terminator('\n').skip(1) {
            let f: Vec<&str> = line.split('\t').collect();
            let left_out = f[3].split(',').any(|w| w == "system" || w == "attr")
                || f[3].contains("unreadable:")
                || f[0].contains("/$Extend/");
            let Some(path) = f[0].strip_prefix(&prefix).filter(|_| f[2] != "-") else {
                continue;
            };
            // Other words for what has lost its directory.
            if left_out || path.starts_with("/<") {
                continue;
            }
            compared += 1;
            match std::fs::read(dir.path().join(&path[1..])) {
                Ok(bytes) if hex(&Sha256::digest(&bytes)) == f[2] => {}
                Ok(_) => bad.push(format!("{path}: other content")),
                Err(e) => bad.push(format!("{path}: {e}")),
            }
        }
        eprintln!("{name}: {compared} files extracted");
    }
    assert!(bad.is_empty(), "{name}:\n{}", bad.join("\n"));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The volumes in `testdata/`.
fn check_own(name: &str, whole: SharedSource) {
    let (mut want, unreadable) = golden(&common::testdata_text(&format!("{name}.tsv")));
    if name == "mft-attrlist" {
        // Extension records of record 0, which the other reader takes for files.
        for n in [15, 17, 18] {
            want.remove(&format!("/<no name mft {n}>"));
        }
    }
    compare(name, &want, &unreadable, &rows(name, &whole, &want));
    compare(
        name,
        &want,
        &unreadable,
        &archived_rows(name, &whole, &want),
    );
}

#[test]
fn own_volumes() {
    for name in common::testdata_names() {
        let bytes = common::testdata(&name);
        let whole = match name.ends_with("4kn") {
            true => Arc::new(Native(common::Memory::shared(bytes))),
            false => common::Memory::shared(bytes),
        };
        check_own(&name, whole);
    }
}

#[test]
fn own_huge_volume() {
    check_own("huge", common::Sparse::testdata("huge"));
}

/// A source with sectors of 4096 bytes.
struct Native(SharedSource);

impl Source for Native {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn sector_size(&self) -> u32 {
        4096
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> ntbak::error::Result<()> {
        self.0.read_at(offset, buf)
    }
    fn name(&self) -> &str {
        "4096-byte sectors"
    }
}

macro_rules! volumes {
    ($($test:ident $name:literal)*) => {
        $(#[test]
        fn $test() {
            check($name);
        })*
    };
}

volumes! {
    c06 "c06-index-root-missing"
    c07 "c07-torn-write-after-fsck"
    v12 "v12-win-13g-empty"
    v11 "v11-win10-mbr-2part-vss"
    c01 "c01-bad-fixup-count"
    c02 "c02-boot-wrong-mft-lcn"
    c03 "c03-attr-bad-fields"
    c04 "c04-mft-bitmap-cleared"
    c05 "c05-corrupt-attrlist"
    v01 "v01-win10-mbr-pattern"
    v02 "v02-win10-lznt1-slack"
    v03 "v03-win10-2m-clusters"
    v04 "v04-win10-2k-clusters-index"
    v05 "v05-win10-onedrive-usn"
    v06 "v06-win7-junction-hardlink-ads"
    v07 "v07-xp-1k-deleted"
    v08 "v08-xp-512-ads"
    v09 "v09-win-1k-lznt1-attrlist-ea"
    v10 "v10-win10-gpt-5m"
    v13 "v13-linux-ntfs3-attrlist"
    v14 "v14-bitlocker-xts128"
    v15 "v15-win-10m-default"
}
