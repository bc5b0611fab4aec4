//! Names that directory indexes and file records disagree about.

use super::*;

#[test]
fn names_that_an_index_lacks_are_found() {
    if let Some(v) = open("c07", None) {
        let tree = Tree::new(&v);
        let name = "/lost+found/FSCK_#3330/1/1/1";
        tree.lookup(&path(name)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (_, warnings) = take(&v, "/", dir.path(), ExtractOptions::default());
        assert!(dir.path().join(&name[1..]).exists(), "{warnings:?}");
        assert!(tree.lookup(&path("/none")).is_err());
    }
    let Some(v) = open("c06", None) else { return };
    let orphan = at("/<orphan 105-1>");
    let names = listed(&v, &orphan, &LsOptions::default());
    assert!(
        names.iter().any(|n| n == "dfeXXXXXXXXXXXXXXXX"),
        "{names:?}"
    );
    let deep = LsOptions {
        recursive: true,
        ..LsOptions::default()
    };
    let all = listed(&v, &orphan, &deep);
    assert!(all.len() >= names.len());
    assert!(all.iter().all(|n| n.starts_with("/<orphan 105-1>/")));
    for what in ["/", "/<orphan 105-1>"] {
        let dir = tempfile::tempdir().unwrap();
        let (s, warnings) = take(&v, what, dir.path(), ExtractOptions::default());
        let made = walk(&dir.path().join("<orphan 105-1>"));
        assert_eq!(made.len(), all.len(), "{what}: {s:?} {warnings:?}");
    }
}

#[test]
fn what_is_named_twice_is_extracted_once() {
    let v = Volume::open(common::Memory::shared(common::testdata("links"))).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let seen = Warnings::default();
    let paths = ["/one", "/ONE/", "/one", "/target dir"].map(path);
    let o = ExtractOptions::default();
    let s = extract(&Tree::new(&v), &paths, dir.path(), o, &seen).unwrap();
    assert_eq!((s.dirs, s.skipped, s.warnings), (2, 0, 0));
}

/// Where the index entry of a name in the root stands.
fn root_entry(bytes: &[u8], file: u64, name: &str) -> usize {
    let wide: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let number = |at: usize| {
        let mut n = [0; 8];
        n[..6].copy_from_slice(&bytes[at..at + 6]);
        u64::from_le_bytes(n)
    };
    let end = bytes.len() - 82 - wide.len();
    let mut all = (0..end).step_by(8).filter(|&at| {
        number(at) == file && number(at + 16) == 5 && bytes[at + 82..].starts_with(&wide)
    });
    let found = all.next().unwrap();
    assert_eq!(all.next(), None);
    found
}

/// Where the first `$FILE_NAME` of a record stands.
fn name_attribute(v: &Volume, n: RecordNo) -> usize {
    let base = v.record(n).unwrap();
    let view = base.view();
    let mut all = view.attributes().flatten();
    let name = all.find(|a| a.type_code == 0x30).unwrap();
    (base.offset() + u64::from(name.offset)) as usize
}

/// What `ls -R` shows without NTFS's own files.
fn listed_files(v: &Volume) -> Vec<String> {
    let options = LsOptions {
        recursive: true,
        ..LsOptions::default()
    };
    let all = listed(v, &at("/"), &options).into_iter();
    let own = (12..16).map(|n| format!("/<no name mft {n}>"));
    let own: Vec<String> = own.chain(["/".to_owned()]).collect();
    let mut all: Vec<String> = all
        .filter(|n| !n.starts_with("/$") && !own.contains(n))
        .collect();
    all.sort();
    all
}

/// The same of what was extracted; raw reparse points stand for their files.
fn extracted_files(dir: &Path) -> Vec<String> {
    let top = dir.to_str().unwrap();
    let name = |p: &String| {
        let name = p.strip_prefix(top).unwrap();
        name.strip_suffix(".reparse").unwrap_or(name).to_owned()
    };
    let mut all: Vec<String> = walk(dir).iter().map(name).collect();
    all.sort();
    all.dedup();
    all
}

#[test]
fn a_directory_comes_where_its_record_says() {
    let mut bytes = common::testdata("links");
    let sound = Volume::open(common::Memory::shared(bytes.clone())).unwrap();
    let tree = Tree::new(&sound);
    let record = |name: &str| tree.lookup(&path(name)).unwrap().file;
    let (one, two) = (record("/one"), record("/two"));
    assert_eq!(one.sequence, two.sequence);
    // The index calls /two "one" as well, and before "two".
    let entry = root_entry(&bytes, one.record.0, "one");
    bytes[entry..entry + 6].copy_from_slice(&two.record.0.to_le_bytes()[..6]);
    let v = Volume::open(common::Memory::shared(bytes.clone())).unwrap();
    let all = listed_files(&sound);
    assert_eq!(listed_files(&v), all);
    let dir = tempfile::tempdir().unwrap();
    let (s, warnings) = take(&v, "/", dir.path(), ExtractOptions::default());
    assert_eq!(extracted_files(dir.path()), all, "{warnings:#?}");
    assert_eq!(s.skipped, 0, "{warnings:#?}");
    let wrong = |w: &&Warning| w.message.starts_with("/one: ") && w.message.contains(" /two,");
    assert_eq!(warnings.iter().filter(wrong).count(), 1, "{warnings:#?}");
    // Below it nothing else leads there: the name is used.
    let dir = tempfile::tempdir().unwrap();
    let (s, _) = take(&v, "/one", dir.path(), ExtractOptions::default());
    assert_eq!((s.dirs, s.skipped), (1, 0));

    // Nothing leads to what was /one when its record has no name either.
    bytes[name_attribute(&sound, one.record)] = 0x40;
    let v = Volume::open(common::Memory::shared(bytes)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (s, warnings) = take(&v, "/", dir.path(), ExtractOptions::default());
    let made = extracted_files(dir.path());
    assert_eq!(made, listed_files(&v), "{warnings:#?}");
    let lost = format!("/<no name mft {}>", one.record);
    assert!(made.iter().any(|n| n.starts_with(&format!("{lost}/"))));
    assert_eq!((made.len(), s.skipped), (all.len(), 0), "{warnings:#?}");
    let told = warnings.iter().filter(|w| w.code == "nameless");
    assert_eq!(told.count(), 1, "{warnings:#?}");
}

#[test]
fn a_name_that_only_an_index_has_is_used_once() {
    let sound = Volume::open(common::Memory::shared(common::testdata("links"))).unwrap();
    let all = listed_files(&sound);
    for name in ["/two", "/with-ea.txt"] {
        let mut bytes = common::testdata("links");
        let file = Tree::new(&sound).lookup(&path(name)).unwrap().file;
        bytes[name_attribute(&sound, file.record)] = 0x40;
        let v = Volume::open(common::Memory::shared(bytes)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (s, warnings) = take(&v, "/", dir.path(), ExtractOptions::default());
        assert_eq!(extracted_files(dir.path()), all, "{warnings:#?}");
        assert_eq!(s.skipped, 0, "{warnings:#?}");
    }
}

#[test]
fn a_short_name_alone_is_a_name() {
    let mut bytes = common::testdata("links");
    let sound = Volume::open(common::Memory::shared(bytes.clone())).unwrap();
    let all = listed_files(&sound);
    let file = Tree::new(&sound)
        .lookup(&path("/with-ea.txt"))
        .unwrap()
        .file;
    let attribute = name_attribute(&sound, file.record);
    let value = attribute + usize::from(bytes[attribute + 20]);
    let entry = root_entry(&bytes, file.record.0, "with-ea.txt");
    for space in [value + 65, entry + 16 + 65] {
        bytes[space] = 2;
    }
    let v = Volume::open(common::Memory::shared(bytes)).unwrap();
    assert_eq!(listed_files(&v), all);
    let dir = tempfile::tempdir().unwrap();
    let (s, warnings) = take(&v, "/", dir.path(), ExtractOptions::default());
    assert_eq!(extracted_files(dir.path()), all, "{warnings:#?}");
    assert_eq!(s.skipped, 0, "{warnings:#?}");
}
