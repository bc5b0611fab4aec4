use super::*;
use crate::copy::limits::Limits;
use crate::copy::parse::tests::{BACKUP, RESTORE, hex, rules};
use crate::copy::parse::{CscdId, Field, parse};
use crate::copy::residue::Residue;

const T: usize = 65_536;

/// The devices of the worked example; the disk is large and nearly empty.
fn devices() -> Model {
    let list = parse(&hex(BACKUP), &rules()).unwrap();
    let mut disk = Disk::new(512, 1 << 34);
    for (lba, blocks, seed) in EXTENTS {
        disk.fill(lba, &pattern(blocks * 512, seed));
    }
    Model {
        devices: vec![
            (list.cscds[0].id.clone(), Device::Disk(disk)),
            (list.cscds[1].id.clone(), Device::Tape(Tape::default())),
        ],
        limits: Limits {
            held_bytes: 65_536,
            ..rules()
        },
    }
}

const EXTENTS: [(u64, usize, u8); 3] = [(0x1000, 256, 1), (0x24680, 40, 2), (0x1_2345_6780, 72, 3)];

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u8).wrapping_mul(31) ^ (i >> 8) as u8 ^ seed | 1)
        .collect()
}

impl Model {
    fn run(&mut self, bytes: &[u8]) -> Outcome {
        let list = parse(bytes, &rules()).unwrap();
        self.execute(bytes, &list)
    }
    fn tape_here(&self) -> &Tape {
        self.devices
            .iter()
            .find_map(|(_, d)| match d {
                Device::Tape(t) => Some(t),
                Device::Disk(_) => None,
            })
            .unwrap()
    }
    fn disk_here(&mut self) -> &mut Disk {
        self.devices
            .iter_mut()
            .find_map(|(_, d)| match d {
                Device::Disk(d) => Some(d),
                Device::Tape(_) => None,
            })
            .unwrap()
    }
}

fn stream() -> Vec<u8> {
    let mut s = hex(BACKUP)[184..248].to_vec();
    for (_, blocks, seed) in EXTENTS {
        s.extend(pattern(blocks * 512, seed));
    }
    s.resize(3 * T, 0);
    s
}

fn backed_up() -> Model {
    let mut m = devices();
    let out = m.run(&hex(BACKUP));
    assert_eq!(
        out,
        Outcome {
            written: 3 * T as u64,
            ..Outcome::default()
        }
    );
    m
}

#[test]
fn backup_gives_the_stream() {
    let m = backed_up();
    assert_eq!(m.tape_here().shape(), [T, T, T, 0]);
    assert!(m.tape_here().stream(0) == stream());
}

#[test]
fn full_restore_gives_the_extents_and_the_header() {
    let mut m = backed_up();
    let before = m.disk_here().clone();
    m.disk_here().data.clear();
    let out = m.run(&hex(RESTORE));
    assert_eq!((out.failed, out.lost), (None, Residue::default()));
    assert_eq!(out.held, &stream()[..64]);
    assert!(*m.disk_here() == before);
}

#[test]
fn one_extent_alone() {
    let mut m = backed_up();
    m.disk_here().data.clear();
    let text = "12 00 00 08 00 00 00 01 00 00 00 02
        06 01 00 0c 00 01 00 00 00 01 00 00 00 00 50 40
        01 00 00 14 00 01 00 00 00 01 00 00 00 00 00 48 00 00 00 01 23 45 67 80";
    let list = crate::copy::parse::tests::list(&hex(text), &[]);
    let out = m.run(&list);
    assert_eq!((out.failed, out.lost), (None, Residue::default()));
    assert!(m.disk_here().bytes(0x1_2345_6780, 72 * 512) == pattern(72 * 512, 3));
    assert_eq!(m.disk_here().data.len(), 72);
}

/// Plans that look right and are not, as the reference lists them.
#[test]
fn wrong_plans() {
    // Filemark behind CAT 1: the mark stands in front of the data.
    let mut l = hex(BACKUP);
    l[0x95] = 1;
    let tail = l.drain(0xac..0xb8).collect::<Vec<u8>>();
    let flush = hex("00 00 00 14 00 00 00 01 00 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00");
    l.splice(0xac..0xac, tail.iter().chain(&flush).copied());
    l[11] += 24;
    let mut m = devices();
    let out = m.run(&l);
    assert_eq!(out.failed, None);
    assert_eq!(m.tape_here().shape(), [T, T, 0, T]);

    // CAT 1 last: GOOD, and the end is lost.
    let mut l = hex(BACKUP);
    l[0x95] = 1;
    let mut m = devices();
    let out = m.run(&l);
    assert_eq!((out.failed, out.lost.destination), (None, 57_408));
    assert_eq!(m.tape_here().shape(), [T, T, 0]);

    // PAD 0 on both sides.
    let mut l = hex(BACKUP);
    l[0x4c] = 0;
    let out = devices().run(&l);
    let f = out.failed.unwrap();
    assert_eq!((f.segment, f.code), (3, 0x260a));

    // PAD on the disk instead of the tape: GOOD, and the end is lost.
    let mut l = hex(BACKUP);
    (l[0x2c], l[0x4c]) = (4, 0);
    let mut m = devices();
    let out = m.run(&l);
    assert_eq!((out.failed, out.lost), (None, Residue::default()));
    assert_eq!(m.tape_here().shape(), [T, T, 0]);

    // Zero blocks with CAT 0 flush rightly.
    let mut l = hex(BACKUP);
    l[0x95] = 1;
    l.splice(0xac..0xac, flush);
    l[11] += 24;
    let mut m = devices();
    assert_eq!(m.run(&l).failed, None);
    assert!(m.tape_here().stream(0) == stream());

    // Another transfer length meets blocks of another length.
    let mut m = backed_up();
    let mut l = hex(RESTORE);
    l[0x65..0x68].copy_from_slice(&[0, 0x80, 0]);
    let f = m.run(&l).failed.unwrap();
    assert_eq!((f.segment, f.code, f.source), (1, 0x0d01, Some((0, 0))));

    // Reading into the filemark.
    let mut m = backed_up();
    let mut l = hex(RESTORE);
    l[0xab] = 0xff;
    let f = m.run(&l).failed.unwrap();
    assert_eq!((f.segment, f.code, f.source), (4, 0x0d01, Some((0, 1))));
}

#[test]
fn what_fails_fails_at_its_segment() {
    let fail = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut l = hex(BACKUP);
        change(&mut l);
        let f = devices().run(&l).failed.unwrap();
        (f.segment, f.code, f.field)
    };
    // A CSCD id that is not in the list, in segment 1.
    assert_eq!(fail(&|l| l[0x6b] = 9), (1, 0x0804, Field::in_segment(6)));
    // No such unit; a null unit; a tape that is said to be a disk.
    assert_eq!(fail(&|l| l[0x3f] = 9), (0, 0x0804, Field::at(0x30)));
    assert_eq!(fail(&|l| l[0x11] = 0x20), (1, 0x0804, Field::at(0x10)));
    assert_eq!(fail(&|l| l[0x31] = 0), (0, 0x0d03, Field::at(0x30)));
    // Disk as destination of a mark; inline data beyond its end; an LBA too far.
    assert_eq!(fail(&|l| l[0xb3] = 0), (4, 0x260c, Field::in_segment(6)));
    assert_eq!(fail(&|l| l[0x5f] = 4), (0, 0x260b, Field::in_segment(12)));
    assert_eq!(fail(&|l| l[0xa4] = 1), (3, 0x0d02, Field::in_segment(16)));
    // A block length that is not the disk's.
    assert_eq!(fail(&|l| l[0x2e] = 4), (1, 0x2600, Field::at(0x10 + 29)));

    let mut m = devices();
    m.limits.data_granularity = 13;
    let f = m.run(&hex(BACKUP)).failed.unwrap();
    assert_eq!(
        (f.segment, f.code, f.field),
        (2, 0x260d, Field::in_segment(14))
    );
    let mut m = devices();
    m.limits.segment_bytes = 65_536;
    let f = m.run(&hex(BACKUP)).failed.unwrap();
    assert_eq!(
        (f.segment, f.code, f.field),
        (1, 0x2600, Field::in_segment(14))
    );
    let mut m = devices();
    m.disk_here().bad.insert(0x1000 + 140);
    let out = m.run(&hex(BACKUP));
    let f = out.failed.unwrap();
    assert_eq!(
        (f.segment, f.code, f.source),
        (1, 0x0d01, Some((3, 0x1100)))
    );
    assert_eq!((m.tape_here().shape(), out.written), (vec![T], T as u64));
    assert!(matches!(m.devices[0].0, CscdId::Designator(_)));
}
