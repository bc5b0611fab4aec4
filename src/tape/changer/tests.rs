//! Reports of elements as changers give them, and what is wrong with some.

use super::elements::parse;
use super::*;
use crate::error::ErrorKind;
use crate::scsi::double::{Double, Reply};
use crate::scsi::{Sense, SenseKey};

const TAG: &[u8] = b"A00001L8                        \0\0\0\0";

/// A page of element descriptors, with its header.
fn page(kind: u8, tags: bool, descriptors: &[Vec<u8>]) -> Vec<u8> {
    let one = descriptors.first().map_or(12, Vec::len);
    let all = descriptors.concat();
    let mut p = vec![kind, u8::from(tags) << 7];
    p.extend((one as u16).to_be_bytes());
    p.extend((all.len() as u32).to_be_bytes());
    p.extend(all);
    p
}

fn report(pages: &[Vec<u8>]) -> Vec<u8> {
    let all = pages.concat();
    let mut r = vec![0, 1, 0, 3];
    r.extend((all.len() as u32).to_be_bytes());
    r.extend(all);
    r
}

fn sample() -> Vec<u8> {
    let mut slot = vec![4, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    slot.extend(TAG);
    slot.extend([0; 4]);
    let mut drive = vec![1, 0, 0x0c, 0, 0, 0, 0, 0, 0, 0x80, 4, 1];
    drive.extend([0; 36]);
    drive.extend([2, 1, 0, 10]);
    drive.extend(b"SERIAL0001");
    report(&[page(2, true, &[slot]), page(4, true, &[drive])])
}

#[test]
fn elements_are_read() {
    let all = parse(&sample()).unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!((all[0].address, all[0].kind), (0x400, ElementKind::Slot));
    assert!(all[0].full && !all[0].exception);
    assert_eq!(all[0].barcode.as_deref(), Some("A00001L8"));
    assert_eq!((all[0].source, all[0].designator.len()), (None, 0));
    assert_eq!((all[1].address, all[1].kind), (0x100, ElementKind::Drive));
    assert!(!all[1].full && all[1].exception && all[1].barcode.is_none());
    assert_eq!(all[1].source, Some(0x401));
    assert_eq!(all[1].designator, b"SERIAL0001");
}

#[test]
fn reports_that_lie_are_errors_or_short() {
    let good = sample();
    for cut in 0..good.len() {
        // Whatever comes out, nothing is read behind the end.
        let _ = parse(&good[..cut]);
    }
    assert!(parse(&good[..7]).is_err() && parse(&good[..30]).is_err());
    for (at, value) in [(10, 0), (11, 3), (13, 0xff), (14, 0xff)] {
        let mut bad = good.clone();
        bad[at] = value;
        if let Err(e) = parse(&bad) {
            assert_eq!(e.kind(), ErrorKind::Damaged);
        }
    }
    let mut none = good.clone();
    none[11] = 0;
    assert!(parse(&none).is_err(), "descriptors of no length");
    for byte in 0..good.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[byte] = value;
            let _ = parse(&bad);
        }
    }
}

fn ask(flags: u8, ids: u8) -> Vec<u8> {
    vec![0xb8, flags, 0, 0, 0xff, 0xff, ids, 1, 0, 0, 0, 0]
}

#[test]
fn old_changers_are_asked_for_less() {
    let double = Double::new("library");
    let refused = || Reply::check(Sense::new(SenseKey::IllegalRequest, 0x24, 0));
    double.expect(&ask(0x10, 1), refused());
    double.expect(&ask(0x10, 0), refused());
    double.expect(&ask(0, 0), Reply::data(report(&[])));
    let changer = Changer {
        unit: Unit::new(double.clone()),
        robot: 1,
    };
    assert_eq!(changer.elements().unwrap(), []);
    double.expect(
        &[0xa5, 0, 0, 1, 4, 0, 1, 0, 0, 0, 0, 0],
        Reply::check(Sense::new(SenseKey::IllegalRequest, 0x3b, 0x0e)),
    );
    let e = changer.move_medium(0x400, 0x100).unwrap_err();
    assert!(
        e.to_string().contains("MOVE MEDIUM from 1024 to 256"),
        "{e}"
    );
    double.finish();
}
