//! Cut, garbled and hostile files.

use super::tests::{contents, pattern};
use super::*;
use std::fs;
use std::io::IoSlice;

/// Blocks of 100, 100, 77 bytes, a filemark, a block of 2, a filemark.
pub(super) fn small(dir: &Path) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    let path = dir.join("small.tap");
    let mut c = Cartridge::create(&path, 1 << 20, "").unwrap();
    let data = pattern(1, 277);
    c.write_blocks(100, &[IoSlice::new(&data[..200])]).unwrap();
    c.write_blocks(77, &[IoSlice::new(&data[200..])]).unwrap();
    c.write_filemarks(1, false).unwrap();
    c.write_blocks(2, &[IoSlice::new(&data[..2])]).unwrap();
    c.write_filemarks(1, false).unwrap();
    c.close().unwrap();
    path
}

#[test]
fn cut_at_every_byte_gives_what_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let path = small(dir.path());
    let whole = fs::read(&path).unwrap();
    let all = contents(&mut Cartridge::open(&path, false).unwrap());
    // Where each object ends.
    let ends = [108, 216, 302, 306, 316, 320];
    assert_eq!(ends[5], whole.len());
    for cut in 0..=whole.len() {
        for index in [false, true] {
            let path = small(&dir.path().join(format!("{cut}{index}")));
            if !index {
                fs::remove_file(sidecar(&path, "idx")).unwrap();
            }
            fs::write(&path, &whole[..cut]).unwrap();
            let complete = ends.iter().filter(|e| **e <= cut).count();
            let end = complete.checked_sub(1).map_or(0, |i| ends[i]);
            let mut c = Cartridge::open(&path, true).unwrap();
            assert_eq!(c.opened().torn, (cut - end) as u64, "cut at {cut}");
            assert_eq!(contents(&mut c), all[..complete]);
            assert_eq!(fs::metadata(&path).unwrap().len(), end as u64);
        }
    }
}

#[test]
fn every_garbled_byte_is_noticed_or_is_data() {
    let dir = tempfile::tempdir().unwrap();
    let path = small(dir.path());
    let whole = fs::read(&path).unwrap();
    let all = contents(&mut Cartridge::open(&path, false).unwrap());
    for i in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[i] ^= 0x50;
        fs::remove_file(sidecar(&path, "idx")).unwrap_or(());
        fs::write(&path, &bytes).unwrap();
        let Ok(mut c) = Cartridge::open(&path, false) else {
            continue;
        };
        // What can still be opened has the same objects, or loses the end.
        c.rewind();
        let mut buf = vec![0; 4096];
        for expected in &all {
            match c.read_block(&mut buf).unwrap() {
                Got::Block(n) => assert_eq!(
                    expected.as_ref().map(Vec::len),
                    Some(n as usize),
                    "byte {i}"
                ),
                Got::Filemark => assert!(expected.is_none(), "byte {i}"),
                Got::EndOfData => {
                    assert!(c.opened().torn > 0 || i >= 302, "byte {i}");
                    break;
                }
            }
        }
    }
}

#[test]
fn an_index_that_lies_gives_no_wrong_data() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tap");
    let mut c = Cartridge::create(&path, 1 << 20, "").unwrap();
    let data = pattern(3, 64 * 600);
    c.write_blocks(64, &[IoSlice::new(&data)]).unwrap();
    c.close().unwrap();
    // A word in the middle, which no sample looks at.
    let mut bytes = fs::read(&path).unwrap();
    bytes[72 * 300] = 60;
    fs::write(&path, &bytes).unwrap();
    let mut c = Cartridge::open(&path, false).unwrap();
    assert!(!c.opened().index_rebuilt);
    c.locate(300);
    assert!(c.read_block(&mut [0; 64]).is_err());
    assert_eq!(c.read_block(&mut [0; 64]).unwrap(), Got::Block(64));
    c.locate(299);
    assert!(c.read_blocks(64, &mut [0; 640]).is_err());
    c.locate(290);
    assert!(c.take_stretch(20).is_err());
    assert_eq!(c.take_stretch(5).unwrap().unwrap().count, 5);
}

#[test]
fn hostile_files_are_named_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tap");
    let w = |v: &[u32]| -> Vec<u8> { v.iter().flat_map(|w| w.to_le_bytes()).collect() };
    for (bytes, said) in [
        (w(&[4, 1, 5, 0]), "00000005"),
        (w(&[0x7000_0004, 1, 0x7000_0004]), "word 70000004"),
        (w(&[0x0100_0000, 1]), "word 01000000"),
        (w(&[0x8000_0000]), "word 80000000"),
        (w(&[0xffff_fffd]), "word fffffffd"),
        (
            [w(&[3]), vec![1, 2, 3], w(&[3, 0])].concat(),
            "padding byte",
        ),
        (w(&[0x00ff_ffff, 1, 2, 3]), "no complete record"),
        (vec![0, 0, 0], "no complete record"),
        (vec![0; 4 * ((1 << 20) + 1)], "filemarks"),
    ] {
        fs::write(&path, &bytes).unwrap();
        let e = Cartridge::open(&path, true).err().unwrap();
        assert!(e.to_string().contains(said), "{e}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "left alone");
    }
    // What other programs write: a bad block, gaps, an end word with rubbish behind.
    fs::write(
        &path,
        w(&[
            0xffff_fffe,
            4,
            7,
            4,
            0xffff_fffe,
            0x8000_0004,
            8,
            0x8000_0004,
            0,
            u32::MAX,
            77,
        ]),
    )
    .unwrap();
    let mut c = Cartridge::open(&path, true).unwrap();
    let mut b = [0; 4];
    assert_eq!(c.read_block(&mut b).unwrap(), Got::Block(4));
    assert_eq!(b, [7, 0, 0, 0]);
    assert_eq!(
        c.read_block(&mut b).unwrap_err().kind(),
        ErrorKind::Unreadable
    );
    assert_eq!(c.read_block(&mut b).unwrap(), Got::Filemark);
    assert_eq!(c.read_block(&mut b).unwrap(), Got::EndOfData);
    c.locate(1);
    c.write_filemarks(1, false).unwrap();
    c.close().unwrap();
    assert_eq!(fs::read(&path).unwrap(), w(&[0xffff_fffe, 4, 7, 4, 0]));
    assert_eq!(
        Cartridge::open(&path, false).unwrap().end_of_data().object,
        2
    );
}
