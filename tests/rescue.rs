//! What a volume still gives when the records and indexes that lead to its
//! files are damaged: `ls`, `ls -R`, `cat`, `extract` tell one story, name the
//! fault, and end with 3.

mod common;

use ntbak::units::RecordNo;
use ntbak::volume::{Tree, Volume, VolumePath};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A change to a volume's bytes.
type Edit = fn(&mut Vec<u8>, usize);

/// Exit code, lines of stdout, stderr.
fn run(dir: &Path, args: &[&str]) -> (i32, Vec<String>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ntbak"));
    let out = command.current_dir(dir).args(args).output().unwrap();
    let lines = String::from_utf8_lossy(&out.stdout);
    (
        out.status.code().unwrap(),
        lines.lines().map(str::to_owned).collect(),
        String::from_utf8_lossy(&out.stderr).into_owned(),
    )
}

/// Everything below a directory, sorted, with the content of files.
fn tree(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(at) = todo.pop() {
        for e in fs::read_dir(at).unwrap().flatten() {
            let is_dir = e.file_type().unwrap().is_dir();
            let content = match is_dir {
                true => Vec::new(),
                false => fs::read(e.path()).unwrap(),
            };
            let name = e.path().strip_prefix(dir).unwrap().display().to_string();
            all.push((name, content));
            if is_dir {
                todo.push(e.path());
            }
        }
    }
    all.sort();
    all
}

fn open(bytes: &[u8]) -> Volume {
    Volume::open(common::Memory::shared(bytes.to_vec())).unwrap()
}

fn record(bytes: &[u8], path: &str) -> RecordNo {
    let path = VolumePath::parse(path.as_bytes()).unwrap();
    Tree::new(&open(bytes)).lookup(&path).unwrap().file.record
}

fn offset(bytes: &[u8], n: u64) -> usize {
    open(bytes).record_offset(RecordNo(n)).unwrap() as usize
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u16_at(bytes, at) | u16_at(bytes, at + 2) << 16
}

/// Edits a record of 1024 bytes with its fixups undone.
fn edit_record(bytes: &mut [u8], at: usize, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut r = bytes[at..at + 1024].to_vec();
    let array = u16_at(&r, 4);
    for i in 0..2 {
        r.copy_within(array + 2 + 2 * i..array + 4 + 2 * i, 512 * i + 510);
    }
    edit(&mut r);
    assert_eq!(r.len(), 1024);
    for i in 0..2 {
        r.copy_within(512 * i + 510..512 * i + 512, array + 2 + 2 * i);
        r.copy_within(array..array + 2, 512 * i + 510);
    }
    bytes[at..at + 1024].copy_from_slice(&r);
}

/// Where the first attribute of a type stands in a record, and its length.
fn attribute(record: &[u8], type_code: usize) -> (usize, usize) {
    let mut at = u16_at(record, 20);
    while u32_at(record, at) != type_code {
        assert_ne!(u32_at(record, at), 0xffff_ffff, "no {type_code:#x}");
        at += u32_at(record, at + 4);
    }
    (at, u32_at(record, at + 4))
}

/// Ways to lose a record.
const FAULTS: [(&str, Edit); 5] = [
    ("signature", |b, at| b[at..at + 4].copy_from_slice(b"JUNK")),
    ("torn", |b, at| b[at + 510] ^= 0x55),
    ("zeros", |b, at| b[at..at + 1024].fill(0)),
    ("free", |b, at| b[at + 22] &= !1),
    ("no directory", |b, at| b[at + 22] &= !2),
];

/// What the sound volume gives.
struct Sound {
    bytes: Vec<u8>,
    ls: Vec<String>,
    deep: Vec<String>,
    files: Vec<(String, Vec<u8>)>,
}

impl Sound {
    fn new(dir: &Path) -> Self {
        let bytes = common::testdata("links");
        fs::write(dir.join("v.img"), &bytes).unwrap();
        fs::create_dir(dir.join("sound")).unwrap();
        let (code, ls, _) = run(dir, &["ls", "v.img"]);
        assert_eq!(code, 0);
        let (code, deep, _) = run(dir, &["ls", "-R", "v.img"]);
        assert_eq!(code, 0);
        let (code, _, told) = run(dir, &["extract", "v.img", "/", "-C", "sound"]);
        assert_eq!(code, 0, "{told}");
        let files = tree(&dir.join("sound"));
        assert!(ls.len() > 20 && deep.len() > ls.len() && files.len() > 20);
        Self {
            bytes,
            ls,
            deep,
            files,
        }
    }

    /// The damaged volume (or archive) gives the same, says why not quite, and
    /// ends with 3.
    fn same(&self, dir: &Path, view: &str, what: &str, named: &str, root: bool) {
        let (code, ls, told) = run(dir, &["ls", view]);
        assert_eq!((code, &ls), (3, &self.ls), "{what}: {told}");
        assert!(told.contains(named), "{what}: {told}");
        let (code, deep, told) = run(dir, &["ls", "-R", view]);
        // What the record of the root itself said is lost with it.
        let lost = usize::from(!root && deep[0] != "/");
        assert_eq!((code, &deep[..]), (3, &self.deep[lost..]), "{what}: {told}");
        assert!(told.contains(named), "{what}: {told}");
        let to = dir.join("out");
        fs::create_dir(&to).unwrap();
        let (code, _, told) = run(dir, &["extract", view, "/", "-C", "out"]);
        assert_eq!(code, 3, "{what}: {told}");
        assert!(told.contains(named), "{what}: {told}");
        assert!(tree(&to) == self.files, "{what}: {told}");
        fs::remove_dir_all(&to).unwrap();
        let (code, lines, told) = run(dir, &["cat", view, "/target dir/inside.txt"]);
        let inside = self.files.iter().find(|f| f.0 == "target dir/inside.txt");
        let want = String::from_utf8_lossy(&inside.unwrap().1);
        assert_eq!(
            (code, lines),
            (0, want.lines().map(str::to_owned).collect())
        );
        assert_eq!(told.is_empty(), !root, "{what}: {told}");
    }
}

#[test]
fn a_volume_without_its_root_record_keeps_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let sound = Sound::new(dir);
    let at = offset(&sound.bytes, 5);
    for (what, edit) in FAULTS {
        let mut bytes = sound.bytes.clone();
        edit(&mut bytes, at);
        fs::write(dir.join("v.img"), &bytes).unwrap();
        sound.same(dir, "v.img", what, "File record 5", false);
    }
    // An archive of such a volume is no worse.
    let (code, _, told) = run(dir, &["image", "-q", "v.img", "v.ntbak"]);
    assert_eq!(code, 0, "{told}");
    sound.same(dir, "v.ntbak", "archive", "File record 5", false);
}

#[test]
fn record_0_is_taken_from_its_mirror() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let sound = Sound::new(dir);
    let at = offset(&sound.bytes, 0);
    for (what, edit) in &FAULTS[..3] {
        let mut bytes = sound.bytes.clone();
        edit(&mut bytes, at);
        fs::write(dir.join("v.img"), &bytes).unwrap();
        sound.same(
            dir,
            "v.img",
            what,
            "File record 0 is read from $MFTMirr",
            true,
        );
    }
}

#[test]
fn another_number_in_the_root_record_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let sound = Sound::new(dir);
    let mut bytes = sound.bytes.clone();
    bytes[offset(&sound.bytes, 5) + 16] = 9;
    fs::write(dir.join("v.img"), &bytes).unwrap();
    assert_eq!(run(dir, &["ls", "v.img"]).1, sound.ls);
    assert_eq!(run(dir, &["ls", "-R", "v.img"]).1, sound.deep);
    fs::create_dir(dir.join("out")).unwrap();
    let (code, _, told) = run(dir, &["extract", "v.img", "/", "-C", "out"]);
    assert_eq!(code, 0, "{told}");
    assert!(tree(&dir.join("out")) == sound.files, "{told}");
}

#[test]
fn a_record_that_is_zeros_counts_as_lost() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let sound = Sound::new(dir);
    let n = record(&sound.bytes, "/with-ea.txt");
    let mut bytes = sound.bytes.clone();
    let at = offset(&bytes, n.0);
    bytes[at..at + 1024].fill(0);
    fs::write(dir.join("v.img"), &bytes).unwrap();
    let named = format!("File record {n}: ");
    for args in [&["ls", "v.img"][..], &["ls", "-R", "v.img"]] {
        let (code, lines, told) = run(dir, args);
        assert_eq!(code, 3, "{told}");
        assert!(told.contains(&named), "{told}");
        assert!(lines.iter().all(|l| !l.contains("with-ea.txt")));
    }
}

#[test]
fn a_short_name_beside_a_long_one_elsewhere_is_no_name() {
    // The only name of this file stands in its first extension record.
    let mut bytes = common::testdata("attrlist");
    let volume = open(&bytes);
    let (file, extension) = (66, 70);
    let sound = volume.file(RecordNo(file)).unwrap();
    assert!(sound.extensions().iter().any(|r| r.number().0 == extension));
    let path = Tree::new(&volume).path_of(RecordNo(file)).unwrap();
    let path = String::from_utf8(path).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("v.img"), &bytes).unwrap();
    let (_, want, _) = run(dir, &["ls", "-R", "-l", "v.img"]);
    assert_eq!(want.iter().filter(|l| l.ends_with(&path)).count(), 1);

    let mut short = Vec::new();
    let at = offset(&bytes, extension);
    edit_record(&mut bytes, at, |r| {
        let (at, len) = attribute(r, 0x30);
        short = r[at..at + len].to_vec();
    });
    let value = u16_at(&short, 20);
    short[value + 65] = 2;
    short[value + 66] = b'~';
    let at = offset(&bytes, file);
    edit_record(&mut bytes, at, |r| {
        let (at, len) = attribute(r, 0x20);
        r.splice(at + len..at + len, short.iter().copied());
        let used = u32_at(r, 0x18) + short.len();
        r[0x18..0x1c].copy_from_slice(&(used as u32).to_le_bytes());
        assert!(used <= 1024);
        r.truncate(1024);
    });
    fs::write(dir.join("v.img"), &bytes).unwrap();
    let (code, got, told) = run(dir, &["ls", "-R", "-l", "v.img"]);
    assert_eq!((code, got), (0, want), "{told}");
    let (_, one, _) = run(dir, &["ls", "--mft", "66", "v.img"]);
    assert_eq!(one, [path]);
}

#[test]
fn an_index_entry_that_is_behind_the_times_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let sound = Sound::new(dir);
    // The record says that the file stands in /two; the index of the root stays.
    let (file, two) = (
        record(&sound.bytes, "/with-ea.txt"),
        record(&sound.bytes, "/two"),
    );
    let sequence = open(&sound.bytes).record(two).unwrap().view().sequence();
    let mut bytes = sound.bytes.clone();
    let at = offset(&bytes, file.0);
    edit_record(&mut bytes, at, |r| {
        let (at, _) = attribute(r, 0x30);
        let value = at + u16_at(r, at + 20);
        r[value..value + 6].copy_from_slice(&two.0.to_le_bytes()[..6]);
        r[value + 6..value + 8].copy_from_slice(&sequence.to_le_bytes());
    });
    fs::write(dir.join("v.img"), &bytes).unwrap();
    let (code, ls, told) = run(dir, &["ls", "v.img"]);
    assert_eq!(code, 3, "{told}");
    let note =
        "/with-ea.txt: left out, the index is wrong: by its file record it is /two/with-ea.txt";
    assert!(told.contains(note), "{told}");
    let (_, deep, _) = run(dir, &["ls", "-R", "v.img"]);
    assert!(deep.iter().any(|l| l == "/two/with-ea.txt"));
    // Both show the same in the root.
    let top = |l: &&String| !l[1..].contains('/') && l.len() > 1 && !l.contains("<no name");
    let names: Vec<&str> = deep.iter().filter(top).map(|l| &l[1..]).collect();
    assert_eq!(ls, names);
}

#[test]
fn a_public_volume_with_such_an_entry() {
    let Some(image) = common::image("c07") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let image = image.to_str().unwrap();
    let (code, ls, told) = run(dir.path(), &["ls", image]);
    assert_eq!(code, 3, "{told}");
    assert!(told.contains("/3: left out, the index is wrong"), "{told}");
    assert!(ls.iter().any(|n| n == "lost+found") && ls.iter().all(|n| n != "3"));
    let (code, deep, _) = run(dir.path(), &["ls", "-R", image]);
    // It has damaged records besides.
    assert!(code == 3 && deep.iter().all(|n| n != "/3"), "{code}");
}
