//! The changer, through commands.

use super::*;
use crate::scsi::Status;
use crate::target::common::Device;
use crate::target::{Nexus, Reply, Request, UnitSet, Units};
use std::fs;
use std::sync::atomic::AtomicBool;

const NAME: &str = "iqn.2026-11.org.example:target";

struct Bench {
    units: UnitSet,
    drives: Vec<Arc<TapeDrive>>,
    me: Nexus,
    dir: tempfile::TempDir,
}

/// Two drives (units 0 and 1), a changer (unit 2) with four slots, three of
/// them full; the first drive holds a cartridge from elsewhere.
fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let shelf = dir.path().join("shelf");
    fs::create_dir(&shelf).unwrap();
    for name in ["A", "B", "C"] {
        Cartridge::create(
            &shelf.join(format!("{name}.tap")),
            1 << 20,
            &format!("{name}00001L8"),
        )
        .unwrap();
    }
    let other = Cartridge::create(&dir.path().join("x.tap"), 1 << 20, "").unwrap();
    let drives = vec![
        Arc::new(TapeDrive::new(Some(other)).unwrap()),
        Arc::new(TapeDrive::new(None).unwrap()),
    ];
    let bays = drives
        .iter()
        .zip(["t0", "t1"])
        .map(|(d, n)| (d.clone(), Identity::new(NAME, n)))
        .collect();
    let options = MagazineOptions {
        slots: Some(4),
        size: None,
    };
    let changer = Arc::new(Changer::open(&shelf, options, bays).unwrap());
    let devices: Vec<(String, Arc<dyn Device>)> = vec![
        ("t0".into(), drives[0].clone()),
        ("t1".into(), drives[1].clone()),
        ("changer".into(), changer),
    ];
    let b = Bench {
        units: UnitSet::new(NAME, devices, None).unwrap(),
        drives,
        me: Nexus {
            initiator: "iqn.2026-11.org.example:host".into(),
            isid: [0; 6],
            tsih: 1,
        },
        dir,
    };
    b.units.nexus_began(&b.me);
    for lun in 0..3 {
        assert_eq!(b.end(lun, "000000000000"), "6/29/00");
    }
    b
}

impl Bench {
    fn send(&self, lun: u64, cdb: &str) -> Reply {
        let cdb: Vec<u8> = (0..cdb.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&cdb[i..i + 2], 16).unwrap())
            .collect();
        let request = Request {
            nexus: &self.me,
            cdb: &cdb,
            data_out: &[],
            expected_out: 0,
            expected_in: 1 << 20,
            cancel: &AtomicBool::new(false),
        };
        self.units.execute(lun << 48, &request)
    }

    fn end(&self, lun: u64, cdb: &str) -> String {
        let r = self.send(lun, cdb);
        match r.sense {
            Some(s) => format!("{:x}/{:02x}/{:02x}", s.key as u8, s.asc, s.ascq),
            None => {
                assert_eq!(r.status, Status::Good);
                "good".into()
            }
        }
    }

    fn move_medium(&self, from: u16, to: u16) -> String {
        self.end(2, &format!("a5000000{from:04x}{to:04x}00000000"))
    }

    /// What is in an element: its tag and the slot that it came from. Read
    /// from the report by its own lengths, as a host does.
    fn inside(&self, address: u16) -> Option<(String, Option<u16>)> {
        let d = self.send(2, "b8100000ffff01ffffff0000").data_in;
        let n = |at: usize, n: usize| {
            d[at..at + n]
                .iter()
                .fold(0, |v, b| v << 8 | usize::from(*b))
        };
        assert_eq!(n(5, 3), d.len() - 8);
        let (mut at, mut seen, mut found) = (8, 0, None);
        while at < d.len() {
            let (one, all, drives) = (n(at + 2, 2), n(at + 5, 3), d[at] == 4);
            assert_eq!(d[at + 1], 0x80);
            for e in (at + 8..at + 8 + all).step_by(one) {
                seen += 1;
                let id = &d[e + 48..e + one];
                match drives {
                    true => assert_eq!((&id[..4], id.len()), (&[1, 3, 0, 16][..], 20)),
                    false => assert_eq!(id, [0; 4]),
                }
                if n(e, 2) == usize::from(address) && d[e + 2] & 1 != 0 {
                    let tag = String::from_utf8_lossy(&d[e + 12..e + 44]);
                    let source = (d[e + 9] & 0x80 != 0).then_some(n(e + 10, 2) as u16);
                    found = Some((tag.trim_end().to_owned(), source));
                }
            }
            at += 8 + all;
        }
        assert_eq!((n(0, 2), n(2, 2), seen), (1, 7, 7));
        found
    }
}

fn tag(t: &str, source: Option<u16>) -> Option<(String, Option<u16>)> {
    Some((t.to_owned(), source))
}

#[test]
fn elements_and_their_contents() {
    let b = bench();
    assert_eq!(b.send(2, "120000006000").data_in[..2], [0x08, 0x80]);
    let page = b.send(2, "1a081d00ff00").data_in;
    assert_eq!(
        page[4..],
        [
            0x1d, 18, 0, 1, 0, 1, 4, 0, 0, 4, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0
        ]
    );
    assert_eq!(b.end(2, "1a083f00ff00"), "good");
    assert_eq!(b.inside(0x0001), None);
    assert_eq!(b.inside(0x0100), tag("X", None));
    assert_eq!(b.inside(0x0101), None);
    assert_eq!(b.inside(0x0401), tag("B00001L8", None));
    assert_eq!(b.inside(0x0403), None);
    // Some of them: two slots from 0401h on; the length is that of the whole.
    let d = b.send(2, "b8020401000200ffffff0000").data_in;
    assert_eq!(
        (d[..4].to_vec(), d.len()),
        (vec![4, 1, 0, 2], 8 + 8 + 2 * 16)
    );
    let cut = b.send(2, "b80204010002000000080000").data_in;
    assert_eq!(cut, d[..8]);
    // None of them.
    assert_eq!(b.send(2, "b8020500000200ffffff0000").data_in, [0; 8]);
    assert_eq!(b.end(2, "b80500000002000000ff0000"), "5/24/00");
    // The drive names itself as its own unit does.
    let d = b.send(2, "b8040101000101ffffff0000").data_in;
    let vpd = b.send(1, "12018300ff00").data_in;
    assert_eq!(d[d.len() - 16..], vpd[8..24]);
}

#[test]
fn cartridges_go_in_and_out() {
    let b = bench();
    assert_eq!(b.end(1, "000000000000"), "2/3a/00");
    assert_eq!(b.move_medium(0x0401, 0x0101), "good");
    assert_eq!(b.inside(0x0401), None);
    assert_eq!(b.inside(0x0101), tag("B00001L8", Some(0x0401)));
    assert_eq!(b.end(1, "000000000000"), "6/28/00");
    assert_eq!(b.end(1, "000000000000"), "good");
    assert_eq!(b.end(1, "100000000100"), "good");
    for (from, to, end) in [
        (0x0403, 0x0101, "5/3b/0e"), // nothing there
        (0x0402, 0x0101, "5/3b/0d"), // full
        (0x0402, 0x0400, "5/3b/0d"),
        (0x0001, 0x0403, "5/3b/0e"),
        (0x0400, 0x0001, "5/3b/0d"),
        (0x0404, 0x0101, "5/21/01"), // no such element
        (0x0400, 0x0102, "5/21/01"),
        (0x0400, 0x0400, "good"),
    ] {
        assert_eq!(b.move_medium(from, to), end, "{from:04x} to {to:04x}");
    }
    assert_eq!(b.end(2, "a50000070401010000000000"), "5/21/01", "one robot");
    assert_eq!(
        b.end(2, "a50000000400040300000100"),
        "5/24/00",
        "no turning over"
    );
    assert_eq!(b.end(2, "2b000001040000000000"), "good");
    // Removal prevented, then allowed; the drive is unloaded by the changer.
    assert_eq!(b.end(1, "1e0000000100"), "good");
    assert_eq!(b.move_medium(0x0101, 0x0403), "5/53/02");
    assert_eq!(b.end(1, "000000000000"), "good");
    assert_eq!(b.end(1, "1e0000000000"), "good");
    assert_eq!(b.move_medium(0x0101, 0x0403), "good");
    assert_eq!(b.end(1, "000000000000"), "2/3a/00");
    assert_eq!(b.inside(0x0403), tag("B00001L8", None));
    // From drive to drive; what was written is there.
    assert_eq!(b.move_medium(0x0100, 0x0101), "good");
    assert_eq!(b.inside(0x0101), tag("X", None));
    assert_eq!(b.move_medium(0x0403, 0x0100), "good");
    assert_eq!(b.drives[0].barcode().as_deref(), Some("B00001L8"));
    assert_eq!(b.end(0, "000000000000"), "6/28/00");
    assert_eq!(b.end(0, "110100000100"), "good");
}

#[test]
fn what_no_drive_takes_stays() {
    let b = bench();
    let bad = b.dir.path().join("shelf/A.tap");
    fs::write(&bad, b"no cartridge at all").unwrap();
    assert_eq!(b.move_medium(0x0400, 0x0101), "3/30/00");
    assert_eq!(b.inside(0x0400), tag("A00001L8", None));
    assert_eq!(b.inside(0x0101), None);
    // In the drive of another program.
    let _held = Cartridge::open(&b.dir.path().join("shelf/C.tap"), true).unwrap();
    assert_eq!(b.move_medium(0x0402, 0x0101), "3/30/00");
    assert_eq!(b.inside(0x0402), tag("C00001L8", None));
}

#[test]
fn the_folder_is_looked_at_again() {
    let b = bench();
    let shelf = b.dir.path().join("shelf");
    assert_eq!(b.move_medium(0x0400, 0x0101), "good");
    fs::remove_file(shelf.join("C.tap")).unwrap();
    for name in ["D", "E"] {
        Cartridge::create(&shelf.join(format!("{name}.tap")), 1 << 20, name).unwrap();
    }
    assert_eq!(b.end(2, "070000000000"), "good");
    assert_eq!(b.inside(0x0400), None, "kept for the one in the drive");
    assert_eq!(b.inside(0x0401), tag("B00001L8", None));
    assert_eq!(b.inside(0x0402), tag("D", None));
    assert_eq!(b.inside(0x0403), tag("E", None));
    fs::remove_dir_all(&shelf).unwrap();
    assert_eq!(b.end(2, "37000000000000000000"), "4/3e/01");
}

#[test]
fn magazines() {
    let dir = tempfile::tempdir().unwrap();
    let open = |slots, size| {
        let drive = Cartridge::open(&dir.path().join("NTB002L1.tap"), true)
            .ok()
            .map(|c| Arc::new(TapeDrive::new(Some(c)).unwrap()))
            .map(|d| vec![(d, Identity::new(NAME, "t"))])
            .unwrap_or_default();
        Changer::open(dir.path(), MagazineOptions { slots, size }, drive)
    };
    assert_eq!(open(None, None).unwrap().slots(), 8);
    assert_eq!(open(Some(3), Some(1 << 20)).unwrap().slots(), 3);
    let c = open(Some(5), None).unwrap();
    let inventory = lock(&c.inventory);
    assert_eq!(inventory.home, [Some(1)]);
    assert!(inventory.magazine.at(1).is_none());
    assert_eq!(inventory.magazine.at(2).unwrap().barcode(), "NTB003L1");
    drop(inventory);
    drop(c);
    for slots in [0, 2, MOST_SLOTS + 1] {
        assert!(open(Some(slots), None).is_err(), "{slots}");
    }
    assert!(Changer::open(&dir.path().join("none"), MagazineOptions::default(), vec![]).is_err());
}
