//! The tape unit, command block by command block: what SSC says that a tape
//! drive answers. Every step names the command block, the data that goes with it
//! and the whole answer.

use ntbak::scsi::{Sense, Status};
use ntbak::tape::cartridge::Cartridge;
use ntbak::target::common::Device;
use ntbak::target::tape::TapeDrive;
use ntbak::target::{Nexus, Reply, Request, UnitSet, Units};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

struct Bench {
    units: UnitSet,
    drive: Arc<TapeDrive>,
    me: Nexus,
    _dir: tempfile::TempDir,
}

fn nexus(n: u16) -> Nexus {
    Nexus {
        initiator: "iqn.2026-11.org.example:host".into(),
        isid: [0; 6],
        tsih: n,
    }
}

impl Bench {
    /// A drive with an empty cartridge of so many bytes, nothing pending.
    fn new(capacity: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let c = Cartridge::create(&dir.path().join("a.tap"), capacity, "TAPE01L8").unwrap();
        let drive = Arc::new(TapeDrive::new(Some(c)).unwrap());
        let device: Arc<dyn Device> = drive.clone();
        let units = UnitSet::new("iqn.t", vec![("tape".into(), device)], None).unwrap();
        let b = Self {
            units,
            drive,
            me: nexus(1),
            _dir: dir,
        };
        b.units.nexus_began(&b.me);
        assert_eq!(b.end("000000000000"), "6/29/00");
        b
    }

    fn by(&self, who: &Nexus, cdb: &str, out: &[u8]) -> Reply {
        let cdb: Vec<u8> = (0..cdb.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&cdb[i..i + 2], 16).unwrap())
            .collect();
        self.units.execute(
            0,
            &Request {
                nexus: who,
                cdb: &cdb,
                data_out: out,
                expected_out: out.len(),
                expected_in: 1 << 24,
                cancel: &AtomicBool::new(false),
            },
        )
    }

    fn send(&self, cdb: &str, out: &[u8]) -> Reply {
        self.by(&self.me, cdb, out)
    }

    /// How a command without data ends.
    fn end(&self, cdb: &str) -> String {
        ended(&self.send(cdb, &[]))
    }

    /// Object and file number by the long form, short form compared.
    fn at(&self) -> (u64, u64) {
        let long = self.send("34060000000000000000", &[]).data_in;
        let number = |i: usize| u64::from_be_bytes(long[i..i + 8].try_into().unwrap());
        let short = self.send("34000000000000000000", &[]).data_in;
        assert_eq!(short.len(), 20);
        assert_eq!(short[4..8], long[12..16]);
        assert_eq!(short[0] & 0x80 != 0, number(8) == 0, "BOP");
        (number(8), number(16))
    }
}

/// `good`, or key, code, qualifier, flags and INFORMATION.
fn ended(r: &Reply) -> String {
    match (&r.status, &r.sense) {
        (Status::Good, None) => "good".into(),
        (Status::CheckCondition, Some(s)) => {
            // What the initiator sees, in both formats.
            let fixed = Sense::decode(&s.encode_fixed()).unwrap();
            let described = Sense::decode(&s.encode_descriptor()).unwrap();
            // The fixed format has 32 bits for it.
            let small = s.information.filter(|i| i32::try_from(*i).is_ok());
            assert_eq!(fixed.information, small);
            assert_eq!(described.information, s.information);
            let mut t = format!("{:x}/{:02x}/{:02x}", s.key as u8, s.asc, s.ascq);
            for (name, set) in [(" FM", s.filemark), (" EOM", s.eom), (" ILI", s.ili)] {
                if set {
                    t += name;
                }
            }
            if let Some(i) = s.information {
                t += &format!(" {i}");
            }
            t
        }
        (status, _) => format!("{status:?}"),
    }
}

fn pattern(n: usize, seed: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 13 + i / 256 + seed) as u8).collect()
}

/// Three blocks of 512, 777 and 1000 bytes, filemark, 2000, filemark, filemark.
fn filled() -> Bench {
    let b = Bench::new(1 << 20);
    for (cdb, n) in [
        ("0a0000020000", 512),
        ("0a0000030900", 777),
        ("0a000003e800", 1000),
    ] {
        assert_eq!(ended(&b.send(cdb, &pattern(n, 1))), "good");
    }
    assert_eq!(b.end("100000000100"), "good");
    assert_eq!(ended(&b.send("0a000007d000", &pattern(2000, 1))), "good");
    assert_eq!(b.end("100000000200"), "good");
    assert_eq!(b.end("100000000000"), "good");
    assert_eq!(b.at(), (7, 3));
    b
}

/// A start object on the `filled` tape and a command block; its end, data bytes,
/// and the position after.
type Row = (u64, &'static str, &'static str, usize, (u64, u64));

#[test]
fn reading_and_moving() {
    let table: &[Row] = &[
        // READ(6), variable.
        (0, "080000020000", "good", 512, (1, 0)),
        (0, "080000080000", "0/00/00 ILI 1536", 512, (1, 0)),
        (1, "080000020000", "0/00/00 ILI -265", 512, (2, 0)),
        (0, "080200080000", "good", 512, (1, 0)),
        (1, "080200020000", "good", 512, (2, 0)),
        (3, "080000020000", "0/00/01 FM 512", 0, (4, 1)),
        (3, "080200020000", "0/00/01 FM 512", 0, (4, 1)),
        (7, "080000020000", "8/00/05 512", 0, (7, 3)),
        (2, "080000000000", "good", 0, (2, 0)),
        // READ(6), fixed, but there is no fixed length; SILI with it never.
        (0, "080100000100", "5/24/00", 0, (0, 0)),
        (0, "080300000100", "5/24/00", 0, (0, 0)),
        // Backwards is not offered.
        (1, "0f0000020000", "5/20/00", 0, (1, 0)),
        // SPACE(6) over blocks.
        (0, "110000000200", "good", 0, (2, 0)),
        (0, "110000000300", "good", 0, (3, 0)),
        (0, "110000000900", "0/00/01 FM 6", 0, (4, 1)),
        (5, "110000000100", "0/00/01 FM 1", 0, (6, 2)),
        (7, "110000000100", "8/00/05 1", 0, (7, 3)),
        (2, "1100ffffff00", "good", 0, (1, 0)),
        (2, "1100fffffd00", "0/00/04 EOM 1", 0, (0, 0)),
        (5, "1100fffffe00", "0/00/01 FM 1", 0, (3, 0)),
        (3, "110000000000", "good", 0, (3, 0)),
        // Over filemarks.
        (0, "110100000100", "good", 0, (4, 1)),
        (0, "110100000300", "good", 0, (7, 3)),
        (0, "110100000500", "8/00/05 2", 0, (7, 3)),
        (7, "1101ffffff00", "good", 0, (6, 2)),
        (7, "1101fffffd00", "good", 0, (3, 0)),
        (7, "1101fffffb00", "0/00/04 EOM 2", 0, (0, 0)),
        (2, "1101ffffff00", "0/00/04 EOM 1", 0, (0, 0)),
        // Over filemarks that follow each other.
        (0, "110200000200", "good", 0, (7, 3)),
        (0, "110200000300", "8/00/05 3", 0, (7, 3)),
        (7, "1102fffffe00", "good", 0, (5, 1)),
        // To the end of data; other codes.
        (0, "110300000000", "good", 0, (7, 3)),
        (0, "110400000100", "5/24/00", 0, (0, 0)),
        // SPACE(16).
        (0, "91000000000000000000000200000000", "good", 0, (2, 0)),
        (7, "91010000fffffffffffffffe00000000", "good", 0, (5, 1)),
        (0, "91030000000000000000000000000000", "good", 0, (7, 3)),
        (
            0,
            "910000007fffffffffffffff00000000",
            "0/00/01 FM",
            0,
            (4, 1),
        ),
        (0, "91000000000000000000000200010000", "5/24/00", 0, (0, 0)),
        // LOCATE(10) and (16).
        (0, "2b000000000002000000", "good", 0, (2, 0)),
        (0, "2b000000000007000000", "good", 0, (7, 3)),
        (0, "2b000000000008000000", "8/00/05 1", 0, (7, 3)),
        (0, "2b020000000002000100", "5/24/00", 0, (0, 0)),
        (0, "92000000000000000000000500000000", "good", 0, (5, 1)),
        (0, "92080000000000000000000200000000", "good", 0, (6, 2)),
        (0, "92080000000000000000000000000000", "good", 0, (0, 0)),
        (
            0,
            "92080000000000000000000900000000",
            "8/00/05 6",
            0,
            (7, 3),
        ),
        (0, "92180000000000000000000000000000", "good", 0, (7, 3)),
        (0, "92100000000000000000000000000000", "5/24/00", 0, (0, 0)),
        (0, "92020001000000000000000000000000", "5/24/00", 0, (0, 0)),
        (3, "010000000000", "good", 0, (0, 0)),
        // Nothing to change.
        (2, "0a0000000000", "good", 0, (2, 0)),
        (2, "100200000100", "5/24/00", 0, (2, 0)),
        (2, "0b0000ffff00", "5/20/00", 0, (2, 0)),
    ];
    let b = filled();
    for (start, cdb, end, bytes, after) in table {
        assert_eq!(b.end(&format!("2b0000{start:08x}000000")), "good");
        let r = b.send(cdb, &[]);
        let got = ended(&r);
        // A count that no 32 bits hold is not told in the fixed format.
        let got = if cdb.starts_with("910000007f") {
            got[..10].to_owned()
        } else {
            got
        };
        assert_eq!((&*got, r.data_in.len()), (*end, *bytes), "{cdb} at {start}");
        let n = [512, 777, 1000].get(*start as usize).copied().unwrap_or(0);
        assert_eq!(r.data_in, pattern(n, 1)[..*bytes], "{cdb}");
        assert_eq!(b.at(), *after, "{cdb} at {start}");
        if cdb.starts_with("08") && *bytes > 0 {
            assert_eq!(r.wanted, u64::from_str_radix(&cdb[4..10], 16).ok());
        }
    }
}

#[test]
fn fixed_blocks() {
    let b = Bench::new(1 << 20);
    // MODE SELECT(6): 256 bytes a block.
    let list = [0, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 1, 0];
    assert_eq!(ended(&b.send("151000000c00", &list)), "good");
    assert_eq!(b.send("1a001000ff00", &[]).data_in[9..12], [0, 1, 0]);
    assert_eq!(ended(&b.send("0a0100000500", &pattern(1280, 4))), "good");
    assert_eq!(b.end("100000000100"), "good");
    assert_eq!(ended(&b.send("0a0100000200", &pattern(512, 5))), "good");
    assert_eq!(ended(&b.send("0a0000006400", &pattern(100, 6))), "good");
    assert_eq!(b.at(), (9, 1));
    assert_eq!(b.end("010000000000"), "good");
    let r = b.send("080100000300", &[]);
    assert_eq!((ended(&r), r.data_in), ("good".into(), pattern(768, 4)));
    let r = b.send("080100000700", &[]);
    assert_eq!(ended(&r), "0/00/01 FM 5");
    assert_eq!(r.data_in, pattern(1280, 4)[768..]);
    assert_eq!(r.wanted, Some(7 * 256));
    assert_eq!(b.at(), (6, 1));
    let r = b.send("080100000700", &[]);
    assert_eq!(ended(&r), "0/00/00 ILI 5");
    assert_eq!((r.data_in, b.at()), (pattern(512, 5), (9, 1)));
    assert_eq!(b.end("080100000700"), "8/00/05 7");
    assert_eq!(b.end("2b000000000007000000"), "good");
    assert_eq!(b.end("080100000100"), "good");
    assert_eq!(b.end("080300000100"), "5/24/00");
    // Overlength is told when blocks have a length, SILI or not.
    assert_eq!(b.end("2b000000000007000000"), "good");
    assert_eq!(b.end("080200000a00"), "0/00/00 ILI -246");
    // Not with less data than the command block says, not without bound.
    assert_eq!(ended(&b.send("0a0100000500", &pattern(1279, 4))), "5/24/00");
    assert_eq!(b.end("0801ffffff00"), "5/24/00");
    assert_eq!(b.at(), (8, 1));
}

#[test]
fn writing_cuts_off_what_was_behind() {
    let b = filled();
    assert_eq!(b.end("2b000000000001000000"), "good");
    assert_eq!(ended(&b.send("0a0000000a00", &pattern(10, 2))), "good");
    assert_eq!(b.at(), (2, 0));
    assert_eq!(b.end("080000000a00"), "8/00/05 10");
    assert_eq!(b.end("010000000000"), "good");
    assert_eq!(b.end("190000000000"), "good");
    assert_eq!(b.end("110300000000"), "good");
    assert_eq!(b.at(), (0, 0));
}

#[test]
fn early_warning_and_the_end() {
    // 32,000 bytes, early warning 1,000 in front of the end.
    let b = Bench::new(32_000);
    let kilo = pattern(1000, 3);
    for i in 1..=30 {
        assert_eq!(ended(&b.send("0a000003e800", &kilo)), "good", "{i}");
    }
    assert_eq!(ended(&b.send("0a000003e800", &kilo)), "good");
    let r = b.send("0a000001f400", &kilo[..500]);
    assert_eq!(ended(&r), "0/00/02 EOM 0");
    assert_eq!(b.at().0, 32, "it was taken");
    assert_eq!(b.end("100000000100"), "0/00/02 EOM 0");
    assert_eq!(b.end("100000000000"), "good");
    let position = b.send("34000000000000000000", &[]).data_in;
    assert_eq!(position[0] & 0x40, 0x40, "EOP");
    let r = b.send("0a000003e800", &kilo);
    assert_eq!(ended(&r), "d/00/02 EOM 1000");
    assert_eq!(b.at(), (33, 1));
    assert_eq!(
        ended(&b.send("0a000001f400", &kilo[..500])),
        "0/00/02 EOM 0"
    );
    assert_eq!(ended(&b.send("0a0000000100", &kilo[..1])), "d/00/02 EOM 1");
    // Fixed: what fits is written, the rest is told.
    let list = [0, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 3, 0xe8];
    assert_eq!(ended(&b.send("151000000c00", &list)), "good");
    assert_eq!(b.end("2b00000000001d000000"), "good");
    let r = b.send("0a0100000500", &pattern(5000, 3));
    assert_eq!(ended(&r), "d/00/02 EOM 2");
    assert_eq!(b.at(), (32, 0));
}

#[test]
fn programmable_early_warning_comes_once() {
    let b = Bench::new(64_000_000);
    let zone = |n: u8| {
        let mut list = vec![0; 8];
        list.extend([0x50, 0x01, 0, 28]);
        list.extend([0; 28]);
        list[8 + 4 + 3] = n;
        list
    };
    assert_eq!(ended(&b.send("55100000000000002800", &zone(61))), "good");
    let sensed = b.send("5a081001000000004000", &[]).data_in;
    assert_eq!(sensed[8..12], [0x50, 0x01, 0, 28]);
    assert_eq!(sensed[15], 61);
    let mega = pattern(1_000_000, 1);
    let write = |cdb: &str| ended(&b.send(cdb, &mega));
    assert_eq!(write("0a000f424000"), "good");
    assert_eq!(write("0a000f424000"), "0/00/07 EOM 0");
    assert_eq!(b.send("34000000000000000000", &[]).data_in[0], 0x01);
    assert_eq!(write("0a000f424000"), "good");
    // Once more after going back, once more for another zone.
    assert_eq!(b.end("010000000000"), "good");
    assert_eq!(write("0a000f424000"), "good");
    assert_eq!(write("0a000f424000"), "0/00/07 EOM 0");
    assert_eq!(ended(&b.send("55100000000000002800", &zone(60))), "good");
    assert_eq!(write("0a000f424000"), "0/00/07 EOM 0");
}

#[test]
fn loading_and_removal() {
    let b = filled();
    let other = nexus(2);
    b.units.nexus_began(&other);
    assert_eq!(ended(&b.by(&other, "000000000000", &[])), "6/29/00");
    assert_eq!(b.end("1e0000000100"), "good");
    assert_eq!(b.end("1b0000000000"), "5/53/02");
    assert_eq!(ended(&b.by(&other, "1b0000000000", &[])), "5/53/02");
    assert!(b.drive.eject().is_err());
    assert_eq!(b.end("1e0000000000"), "good");
    // Who prevents and goes away prevents no more.
    assert_eq!(ended(&b.by(&other, "1e0000000100", &[])), "good");
    b.units.nexus_lost(&other);
    b.units.nexus_began(&other);
    assert_eq!(ended(&b.by(&other, "000000000000", &[])), "6/29/07");
    assert_eq!(b.end("1b0000000000"), "good");
    for cdb in [
        "000000000000",
        "080000020000",
        "0a0000000000",
        "100000000100",
        "110000000100",
        "2b000000000002000000",
        "34000000000000000000",
        "010000000000",
        "190000000000",
        "8c000000000000000000000003ff0000",
    ] {
        assert_eq!(b.end(cdb), "2/3a/00", "{cdb}");
    }
    // What does not ask for a medium.
    for cdb in [
        "120000006000",
        "050000000000",
        "1a003f00ff00",
        "4d00710000000000ff00",
    ] {
        assert_eq!(b.end(cdb), "good", "{cdb}");
    }
    assert_eq!(b.end("1b0000000000"), "good", "again");
    assert_eq!(b.end("1b0000000500"), "5/24/00");
    assert_eq!(b.end("1b0000000100"), "good");
    assert_eq!(b.end("000000000000"), "good");
    assert_eq!(b.at(), (0, 0));
    assert_eq!(ended(&b.by(&other, "000000000000", &[])), "6/28/00");
    assert_eq!(ended(&b.by(&other, "000000000000", &[])), "good");
    // Taken out and put in again: everybody is told.
    let c = b.drive.eject().unwrap().unwrap();
    assert_eq!(b.end("1b0000000100"), "2/3a/00");
    b.drive.insert(c).unwrap();
    assert_eq!(b.end("000000000000"), "6/28/00");
    assert_eq!(ended(&b.by(&other, "000000000000", &[])), "6/28/00");
    // LOGICAL UNIT RESET allows removal again.
    assert_eq!(b.end("1e0000000100"), "good");
    b.units.reset(Some(0), &other);
    assert_eq!(b.end("000000000000"), "6/29/03");
    assert_eq!(b.end("1b0000000000"), "good");
}

#[test]
fn write_protection() {
    let b = filled();
    let mut c = b.drive.eject().unwrap().unwrap();
    c.change_facts(|f| f.write_protected = true).unwrap();
    b.drive.insert(c).unwrap();
    assert_eq!(b.end("000000000000"), "6/28/00");
    let mode = b.send("1a000000ff00", &[]).data_in;
    assert_eq!((mode.len(), mode[2]), (12, 0x90), "WP, buffered");
    for cdb in ["0a0000000100", "100000000100", "190000000000"] {
        assert_eq!(ended(&b.send(cdb, &[1])), "7/27/00", "{cdb}");
    }
    assert_eq!(b.end("080000020000"), "good");
}

#[test]
fn what_it_says_of_itself() {
    let b = filled();
    let inquiry = b.send("120000006000", &[]).data_in;
    assert_eq!(inquiry[..2], [0x01, 0x80]);
    assert_eq!(
        b.send("12010000ff00", &[]).data_in[4..],
        [0, 0x80, 0x83, 0x86, 0xb0]
    );
    assert_eq!(b.send("1201b000ff00", &[]).data_in, [1, 0xb0, 0, 2, 0, 0]);
    assert_eq!(
        b.send("050000000000", &[]).data_in,
        [0, 0xff, 0xff, 0xff, 0, 1]
    );
    assert_eq!(b.send("050100000000", &[]).data_in.len(), 20);
    let extended = b.send("34080000000000002000", &[]).data_in;
    assert_eq!(
        (extended.len(), extended[3], extended[15], extended[23]),
        (32, 0x1c, 7, 7)
    );
    assert_eq!(b.send("34080000000000001c00", &[]).data_in.len(), 28);
    assert_eq!(b.end("34020000000000000000"), "5/24/00");
    // Mode pages.
    let page = b.send("1a080f00ff00", &[]).data_in;
    assert_eq!((page[4], page[5], page.len()), (0x0f, 14, 4 + 16));
    let page = b.send("5a08100000000000ff00", &[]).data_in;
    assert_eq!((page[8], page[9], page[8 + 8]), (0x10, 14, 0x40));
    // Densities, of the drive and of the medium.
    for cdb in ["44000000000000100000", "44010000000000100000"] {
        let d = b.send(cdb, &[]).data_in;
        assert_eq!((d.len(), d[1], d[4]), (4 + 52, 54, 0xf0));
    }
    assert_eq!(b.send("44020000000000100000", &[]).data_in.len(), 4 + 56);
    // Log pages.
    let log = |page: u8| {
        b.send(
            &format!("4d00{:02x}0000000010000000", 0x40 | page)[..20],
            &[],
        )
        .data_in
    };
    assert_eq!(log(0)[4..], [0, 2, 3, 0x0c, 0x17, 0x19, 0x2e, 0x31]);
    for page in [2, 3, 0x0c, 0x17, 0x2e, 0x31] {
        let d = log(page);
        let mut at = 4;
        while at < d.len() {
            at += 4 + usize::from(d[at + 3]);
        }
        assert_eq!((at, d[0]), (d.len(), page));
        assert_eq!(usize::from(d[2]) << 8 | usize::from(d[3]), d.len() - 4);
    }
    assert_eq!(log(0x2e).len(), 4 + 64 * 5);
    assert_eq!(
        log(0x0c)[8..16],
        4289u64.to_be_bytes(),
        "bytes from the host"
    );
    let capacity = log(0x31);
    assert_eq!(
        (capacity.len(), capacity[5], capacity[11]),
        (36, 1, 0),
        "less than 1 MiB left"
    );
    assert_eq!(capacity[4 + 16 + 7], 1, "1 MiB");
}

#[test]
fn medium_auxiliary_memory() {
    let b = filled();
    let read = |action: u8, first: u16| {
        b.send(
            &format!("8c{action:02x}000000000000{first:04x}00000fff0000"),
            &[],
        )
    };
    let all = read(0, 0).data_in;
    assert_eq!(
        u32::from_be_bytes(all[..4].try_into().unwrap()) as usize,
        all.len() - 4
    );
    assert_eq!(all[4..9], [0, 0, 0x80, 0, 8]);
    let barcode = read(0, 0x0806).data_in;
    assert_eq!(barcode[4..17], *b"\x08\x06\x01\x00\x20TAPE01L8");
    assert_eq!(read(2, 0).data_in, [0, 2, 0, 1]);
    assert_eq!(ended(&read(0, 0x0801)), "5/24/00", "not there yet");
    let mut list = vec![0, 0, 0, 12, 0x08, 0x00, 1, 0, 5];
    list.extend(b"ntbak");
    list.extend([0; 2]);
    assert_eq!(
        ended(&b.send("8d0000000000000000000000000e0000", &list)),
        "5/1a/00",
        "cut off"
    );
    list.truncate(14);
    list[3] = 10;
    assert_eq!(
        ended(&b.send("8d0000000000000000000000000e0000", &list)),
        "good"
    );
    assert_eq!(
        read(0, 0x0800).data_in[4..14],
        *b"\x08\x00\x01\x00\x05ntbak"
    );
    let ids = read(1, 0).data_in;
    assert!(ids[4..].chunks(2).any(|i| i == [8, 0]));
    // Read-only, unknown, wrong format, not ASCII; nothing of a bad list is taken.
    for (id, format, value) in [
        ([0x00, 0x03], 0, &b"12345678"[..]),
        ([0x09, 0x00], 0, b"1"),
        ([0x08, 0x00], 0, b"1"),
        ([0x08, 0x00], 1, b"123456789"),
        ([0x08, 0x02], 1, b"\x01"),
    ] {
        let mut bad = list.clone();
        bad.extend([id[0], id[1], format, 0, value.len() as u8]);
        bad.extend(value);
        bad[3] = bad.len() as u8 - 4;
        bad[10] = b'X';
        let cdb = format!("8d00000000000000000000000{:03x}0000", bad.len());
        let end = ended(&b.send(&cdb, &bad));
        assert!(end.starts_with("5/26/0"), "{end}");
    }
    assert_eq!(
        read(0, 0x0800).data_in[4..14],
        *b"\x08\x00\x01\x00\x05ntbak"
    );
    // It stays with the cartridge.
    let c = b.drive.eject().unwrap().unwrap();
    let path = c.path().to_owned();
    drop(c);
    let again = Cartridge::open(Path::new(&path), false).unwrap();
    assert_eq!(again.facts().attribute(0x0800).unwrap().value, b"ntbak");
}

#[test]
fn reservations_of_others_count() {
    let b = filled();
    let other = nexus(2);
    b.units.nexus_began(&other);
    assert_eq!(ended(&b.by(&other, "000000000000", &[])), "6/29/00");
    assert_eq!(ended(&b.by(&other, "160000000000", &[])), "good");
    for cdb in [
        "080000020000",
        "0a0000000100",
        "010000000000",
        "100000000100",
    ] {
        assert_eq!(b.end(cdb), "ReservationConflict", "{cdb}");
    }
    assert_eq!(ended(&b.by(&other, "170000000000", &[])), "good");
    assert_eq!(b.end("010000000000"), "good");
}
