//! Archives of every released format version stay readable: each is checked, and
//! read against the golden list of the volume it was made of.

mod common;

use ntbak::archive::{Archive, RegionView};
use ntbak::observe::Silent;
use ntbak::ops::verify::{VerifyOptions, verify};
use ntbak::volume::{Tree, Volume, VolumePath};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;

/// Format version, volume, how many rows of its golden list have a digest.
const RELEASED: &[(u32, &str)] = &[(1, "sparse")];

#[test]
fn every_released_version_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/archive");
    let mut files: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let listed: Vec<String> = RELEASED
        .iter()
        .map(|(n, _)| format!("format-{n}.ntbak"))
        .collect();
    assert_eq!(files, listed, "each archive must be listed here");
    for (version, volume) in RELEASED {
        let path = folder.join(format!("format-{version}.ntbak"));
        let source = common::PlainFile::open(&path);
        let outcome = verify(source.clone(), &VerifyOptions { threads: 2 }, &Silent).unwrap();
        assert!(outcome.is_sound(), "{:?}", outcome.damage);
        let archive = Arc::new(Archive::open(source).unwrap());
        assert_eq!(archive.head().format, *version);
        let view = RegionView::new(archive, 1).unwrap();
        let volume_ = Volume::open(Arc::new(view)).unwrap();
        let tree = Tree::new(&volume_);
        let mut read = 0;
        for line in common::testdata_text(&format!("{volume}.tsv"))
            .lines()
            .skip(1)
        {
            let f: Vec<&str> = line.split('\t').collect();
            if f[2] == "-" || f[0].contains("<no name") {
                continue;
            }
            let found = tree
                .lookup(&VolumePath::parse(f[0].as_bytes()).unwrap())
                .unwrap();
            let bytes = tree.open(&found).unwrap().read_all(64 << 20).unwrap();
            let hex: String = Sha256::digest(&bytes)
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            assert_eq!((f[1], f[2]), (&*bytes.len().to_string(), &*hex), "{}", f[0]);
            read += 1;
        }
        assert!(read > 10, "{read} rows");
    }
}
