//! The methods that the copy manager uses.

use super::*;
use crate::scsi::SenseKey;
use crate::tape::cartridge::Piece;
use std::fs::File;
use std::io::IoSlice;

fn drive(capacity: u64) -> (TapeDrive, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let c = Cartridge::create(&dir.path().join("a.tap"), capacity, "A").unwrap();
    (TapeDrive::new(Some(c)).unwrap(), dir)
}

#[test]
fn blocks_there_and_back() {
    let (d, dir) = drive(1 << 20);
    let data: Vec<u8> = (0..4096).map(|i| (i / 7) as u8).collect();
    let done = d.write_blocks(
        1024,
        &[IoSlice::new(&data[..1500]), IoSlice::new(&data[1500..])],
    );
    assert_eq!((done.count, done.sense), (4, None));
    let path = dir.path().join("source");
    std::fs::write(&path, &data).unwrap();
    let file = File::open(&path).unwrap();
    let copied = d.append(
        1024,
        &[
            Piece::File {
                file: &file,
                offset: 100,
                len: 2000,
            },
            Piece::Zeros(48),
        ],
    );
    assert_eq!((copied.done.count, copied.done.sense), (2, None));
    assert_eq!(d.write_filemarks(1, false).count, 1);
    let here = d.position().unwrap();
    assert_eq!((here.object, here.file), (7, 1));
    d.locate(0).unwrap();
    let mut buf = vec![0; 10 * 1024];
    let done = d.read_blocks(1024, &mut buf);
    assert_eq!((done.count, done.sense), (6, None));
    assert_eq!(buf[..4096], data);
    assert_eq!(buf[4096..6096], data[100..2100]);
    assert_eq!(d.position().unwrap().object, 6, "in front of the filemark");
    let done = d.read_blocks(1024, &mut buf);
    assert!(done.count == 0 && done.sense.unwrap().is_filemark());
    let done = d.read_block(&mut buf[..10]);
    assert!(done.sense.unwrap().is_end_of_data());
    d.space(0, -1).unwrap_err();
    d.space(0, -1).unwrap();
    let done = d.read_blocks(512, &mut buf);
    let sense = done.sense.unwrap();
    assert_eq!(
        (done.count, sense.ili, sense.information),
        (0, true, Some(-512))
    );
    assert!(d.locate(99).unwrap_err().is_end_of_data());
    assert!(d.space(9, 1).is_err());
}

#[test]
fn copies_stop_behind_the_block_that_is_warned_of() {
    let (d, _dir) = drive(32_000);
    let data = vec![1; 40_000];
    let done = d.write_blocks(1000, &[IoSlice::new(&data)]);
    assert_eq!(done.count, 32);
    assert!(done.sense.unwrap().is_early_warning());
    assert!(d.position().unwrap().early_warning);
    let done = d.write_blocks(1000, &[IoSlice::new(&data)]);
    let sense = done.sense.unwrap();
    assert_eq!((done.count, sense.key), (0, SenseKey::VolumeOverflow));
    assert_eq!(sense.information, Some(1000));
    d.locate(29).unwrap();
    let copied = d.append(500, &[Piece::Zeros(5000)]);
    assert_eq!(copied.done.count, 5);
    assert!(copied.done.sense.unwrap().is_early_warning());
    let copied = d.append(500, &[Piece::Zeros(5000)]);
    assert_eq!(copied.done.count, 1, "one by one behind the warning");
}

#[test]
fn empty_and_protected_drives_say_so() {
    let d = TapeDrive::new(None).unwrap();
    assert!(!d.is_full() && d.eject().unwrap().is_none());
    let none = |s: Option<Sense>| s.unwrap().is_no_medium();
    assert!(none(d.write_blocks(1, &[IoSlice::new(&[1])]).sense));
    assert!(none(d.append(1, &[Piece::Zeros(1)]).done.sense));
    assert!(none(d.read_blocks(1, &mut [0]).sense));
    assert!(none(d.read_block(&mut [0]).sense));
    assert!(none(d.write_filemarks(1, true).sense));
    assert!(none(d.position().err()) && none(d.locate(0).err()));
    assert!(none(d.space(0, 1).err()) && none(d.with_cartridge(|_| ()).err()));
    let (d, _dir) = drive(1 << 20);
    d.with_cartridge(|c| c.change_facts(|f| f.write_protected = true))
        .unwrap()
        .unwrap();
    let done = d.write_blocks(1, &[IoSlice::new(&[1])]);
    assert!(done.count == 0 && done.sense.unwrap().is_write_protected());
    assert!(
        d.write_filemarks(1, true)
            .sense
            .unwrap()
            .is_write_protected()
    );
}
