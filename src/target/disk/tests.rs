//! Disk units by direct calls. What needs sessions is in the conformance script.

use super::*;
use crate::scsi::Status;
use crate::target::common::{be, encode_lun, put};
use crate::target::{Nexus, Reply, UnitSet, Units};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

struct Bench {
    set: UnitSet,
    nexus: Nexus,
    size: usize,
    _file: tempfile::NamedTempFile,
}

impl Bench {
    fn new(len: u64, options: DiskOptions) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(len).unwrap();
        Self::over(file, options).unwrap()
    }

    fn over(file: tempfile::NamedTempFile, options: DiskOptions) -> Result<Self> {
        let disk = DiskUnit::open(file.path(), options)?;
        let devices: Vec<(String, Arc<dyn Device>)> = vec![("d".into(), Arc::new(disk))];
        Ok(Self {
            set: UnitSet::new("iqn.example:t", devices, None)?,
            nexus: Nexus {
                initiator: "iqn.example:i".into(),
                isid: [0; 6],
                tsih: 1,
            },
            size: options.block_size as usize,
            _file: file,
        })
    }

    /// The target ended and was started again.
    fn again(self, options: DiskOptions) -> Self {
        self.try_again(options).unwrap()
    }

    fn try_again(self, options: DiskOptions) -> Result<Self> {
        drop(self.set);
        Self::over(self._file, options)
    }

    fn mib() -> Self {
        Self::new(1 << 20, DiskOptions::default())
    }

    /// From another initiator, or for 0 from this one.
    fn send_as(&self, by: u8, cdb: &[u8], out: &[u8]) -> Reply {
        let mut nexus = self.nexus.clone();
        nexus.isid[5] = by;
        self.set.execute(
            encode_lun(0),
            &Request {
                nexus: &nexus,
                cdb,
                data_out: out,
                expected_out: out.len(),
                expected_in: 0,
                cancel: &AtomicBool::new(false),
            },
        )
    }

    fn send(&self, cdb: &[u8], out: &[u8], take: usize) -> Reply {
        self.set.execute(
            encode_lun(0),
            &Request {
                nexus: &self.nexus,
                cdb,
                data_out: out,
                expected_out: out.len(),
                expected_in: take,
                cancel: &AtomicBool::new(false),
            },
        )
    }

    fn good(&self, cdb: &[u8], out: &[u8]) -> Reply {
        let r = self.send(cdb, out, 1 << 20);
        assert_eq!(r.status, Status::Good, "{cdb:02x?}: {:?}", r.sense);
        r
    }

    /// Sense key, code, information.
    fn bad(&self, cdb: &[u8], out: &[u8]) -> (u8, u16, Option<i64>) {
        let r = self.send(cdb, out, 1 << 20);
        assert_eq!(r.status, Status::CheckCondition, "{cdb:02x?}");
        let s = r.sense.unwrap();
        (s.key as u8, s.code(), s.information)
    }

    fn read(&self, lba: u64, n: u32) -> Vec<u8> {
        let r = self.good(&c16(0x88, 0, lba, n), &[]);
        assert_eq!(r.wanted, Some(u64::from(n) * self.size as u64));
        r.data_in
    }
}

fn c16(op: u8, flags: u8, lba: u64, n: u32) -> [u8; 16] {
    let mut c = [0; 16];
    c[0] = op;
    c[1] = flags;
    put(&mut c, 2, 8, lba);
    put(&mut c, 10, 4, n.into());
    c
}

fn c10(op: u8, flags: u8, lba: u32, n: u16) -> [u8; 10] {
    let mut c = [0; 10];
    c[0] = op;
    c[1] = flags;
    put(&mut c, 2, 4, lba.into());
    put(&mut c, 7, 2, n.into());
    c
}

fn c12(op: u8, flags: u8, lba: u32, n: u32) -> [u8; 12] {
    let mut c = [0; 12];
    c[0] = op;
    c[1] = flags;
    put(&mut c, 2, 4, lba.into());
    put(&mut c, 6, 4, n.into());
    c
}

fn unmap(ranges: &[(u64, u32)]) -> (Vec<u8>, Vec<u8>) {
    let mut list = vec![0; 8 + 16 * ranges.len()];
    let n = list.len() as u64;
    put(&mut list, 0, 2, n - 2);
    put(&mut list, 2, 2, n - 8);
    for (i, (lba, count)) in ranges.iter().enumerate() {
        put(&mut list, 8 + 16 * i, 8, *lba);
        put(&mut list, 16 + 16 * i, 4, (*count).into());
    }
    (c10(0x42, 0, 0, n as u16).to_vec(), list)
}

#[test]
fn every_form_of_reading_and_writing() {
    let b = Bench::mib();
    let block = |v: u8| vec![v; 512];
    b.good(&[0x0a, 0, 0, 5, 1, 0], &block(1));
    b.good(&c10(0x2a, 0, 6, 1), &block(2));
    b.good(&c12(0xaa, 0x08, 7, 1), &block(3));
    b.good(&c16(0x8a, 0x18, 8, 1), &block(4));
    b.good(&c10(0x2e, 2, 9, 1), &block(5));
    b.good(&c12(0xae, 0, 10, 1), &block(6));
    b.good(&c16(0x8e, 2, 11, 1), &block(7));
    let all: Vec<u8> = (1..=7).flat_map(block).collect();
    assert_eq!(b.read(5, 7), all);
    assert_eq!(b.good(&[0x08, 0, 0, 5, 7, 0], &[]).data_in, all);
    assert_eq!(b.good(&c10(0x28, 0x18, 5, 7), &[]).data_in, all);
    assert_eq!(b.good(&c12(0xa8, 0, 5, 7), &[]).data_in, all);
    // READ(6) of none is 256.
    assert_eq!(b.good(&[0x08, 0, 0, 0, 0, 0], &[]).data_in.len(), 256 * 512);
    let counted = b.set.units()[0].statistics().counted();
    assert_eq!((counted.writes, counted.blocks_written), (7, 7));
    assert_eq!((counted.reads, counted.blocks_read), (5, 28 + 256));
    let log = b.good(&[0x4d, 0, 0x59, 0, 0, 0, 0, 1, 0, 0], &[]).data_in;
    assert_eq!((be(&log, 16, 8), be(&log, 24, 8)), (7, 7));
}

#[test]
fn the_end_and_what_is_not_offered() {
    let b = Bench::mib();
    let out_of_range = (5, 0x2100, None);
    for cdb in [
        c16(0x88, 0, 2048, 1),
        c16(0x88, 0, 2049, 0),
        c16(0x88, 0, 2047, 2),
        c16(0x88, 0, u64::MAX, 1),
        c16(0x88, 0, u64::MAX, u32::MAX),
        c16(0x91, 0, 2048, 1),
        c16(0x90, 0, 2000, 49),
        c16(0x93, 0, 2048, 1),
    ] {
        assert_eq!(b.bad(&cdb, &[]), out_of_range, "{cdb:02x?}");
    }
    assert_eq!(b.bad(&c16(0x8f, 0, 2047, 2), &[]), out_of_range);
    assert!(b.good(&c16(0x88, 0, 2048, 0), &[]).data_in.is_empty());
    for cdb in [
        c16(0x88, 0x20, 0, 1),
        c16(0x8a, 0xe0, 0, 1),
        c16(0x8f, 0x04, 0, 1),
        c16(0x93, 0x10, 0, 1),
    ] {
        assert_eq!(b.bad(&cdb, &[0; 512]).1, 0x2400, "{cdb:02x?}");
    }
    // More than one transfer may be.
    let big = Bench::new(1 << 30, DiskOptions::default());
    assert_eq!(big.bad(&c16(0x88, 0, 0, 65537), &[]).1, 0x2400);
}

#[test]
fn an_initiator_that_takes_or_sends_less() {
    let b = Bench::mib();
    b.good(&c16(0x8a, 0, 0, 2), &[9; 1024]);
    let r = b.send(&c16(0x88, 0, 0, 2), &[], 700);
    assert_eq!((r.data_in.len(), r.wanted), (700, Some(1024)));
    // Two blocks named, one and a half sent.
    let r = b.good(&c16(0x8a, 0, 0, 2), &[8; 768]);
    assert_eq!(r.wanted, Some(1024));
    assert_eq!(b.read(0, 2), [[8; 512], [9; 512]].concat());
}

#[test]
fn verifying() {
    let b = Bench::mib();
    let mut data = vec![7; 4096];
    b.good(&c16(0x8a, 0, 100, 8), &data);
    for op in [0x2f, 0xaf, 0x8f] {
        let cdb = |flags| match op {
            0x2f => c10(op, flags, 100, 8).to_vec(),
            0xaf => c12(op, flags, 100, 8).to_vec(),
            _ => c16(op, flags, 100, 8).to_vec(),
        };
        assert_eq!(b.good(&cdb(0x02), &data).wanted, Some(4096));
        assert_eq!(b.good(&cdb(0x06), &data[..512]).wanted, Some(512));
        b.good(&cdb(0x00), &[]);
        data[3000] = 0;
        assert_eq!(b.bad(&cdb(0x02), &data), (0xe, 0x1d00, Some(3000)));
        assert_eq!(b.bad(&cdb(0x06), &data[2560..3072]).2, Some(440));
        data[3000] = 7;
    }
}

#[test]
fn compare_and_write_and_orwrite() {
    let b = Bench::mib();
    let mut c = c16(0x89, 0, 3, 0);
    c[13] = 2;
    b.good(&c, &[vec![0; 1024], vec![0x0f; 1024]].concat());
    assert_eq!(b.read(3, 2), vec![0x0f; 1024]);
    assert_eq!(b.bad(&c, &[0; 2048]), (0xe, 0x1d00, Some(0)));
    assert_eq!(b.read(3, 2), vec![0x0f; 1024]);
    assert_eq!(b.bad(&c, &[0; 1024]).1, 0x2400);
    c[13] = 0;
    b.good(&c, &[]);
    assert_eq!(b.bad(&c, &[0; 1024]).1, 0x2400);
    b.good(&c16(0x8b, 0, 3, 1), &[0xf0; 512]);
    assert_eq!(b.read(3, 2), [[0xff; 512], [0x0f; 512]].concat());
}

#[test]
fn thin_provisioning() {
    let b = Bench::mib();
    b.good(&c16(0x8a, 0, 0, 2048), &vec![0xaa; 1 << 20]);
    let status = |lba, room: u32| {
        let d = b.good(&c16(0x9e, 0x12, lba, room), &[]).data_in;
        assert!(be(&d, 0, 4) as usize + 4 >= d.len());
        let run = |r: &[u8]| (be(r, 0, 8), be(r, 8, 4), r[12]);
        d[8..].chunks_exact(16).map(run).collect::<Vec<_>>()
    };
    assert_eq!(status(0, 24), [(0, 2048, 0)]);
    let (cdb, list) = unmap(&[(256, 256), (1024, 512)]);
    b.good(&cdb, &list);
    assert_eq!(b.read(256, 256), vec![0; 256 * 512]);
    assert_eq!(b.read(255, 1), vec![0xaa; 512]);
    let runs = [
        (100, 156, 0),
        (256, 256, 1),
        (512, 512, 0),
        (1024, 512, 1),
        (1536, 512, 0),
    ];
    assert_eq!(status(100, 4096), runs);
    assert_eq!(status(100, 24), runs[..1]);
    assert_eq!(b.bad(&c16(0x9e, 0x12, 2048, 24), &[]).1, 0x2100);
    // Nothing is unmapped when one range is wrong.
    let (cdb, list) = unmap(&[(0, 8), (2047, 2)]);
    assert_eq!(b.bad(&cdb, &list).1, 0x2100);
    assert_eq!(b.read(0, 8), vec![0xaa; 4096]);
    let (cdb, list) = unmap(&[]);
    b.good(&cdb, &list);
    assert_eq!(b.bad(&c10(0x42, 0, 0, 9), &[0; 8]).1, 0x1a00);
    assert_eq!(b.bad(&c10(0x42, 0, 0, 7), &[0; 8]).1, 0x1a00);
    // Lengths that lie.
    let mut liar = vec![0; 24];
    put(&mut liar, 2, 2, 0xffff);
    put(&mut liar, 16, 4, 8);
    b.good(&c10(0x42, 0, 0, 24), &liar);
    assert_eq!(b.read(0, 8), vec![0; 4096]);
    b.good(&c16(0x93, 0, 0, 2048), &[0x55; 512]);
    assert_eq!(b.read(2000, 48), vec![0x55; 48 * 512]);
    b.good(&c16(0x93, 0x09, 0, 1024), &[]);
    assert_eq!(status(0, 4096), [(0, 1024, 1), (1024, 1024, 0)]);
    b.good(&c10(0x41, 0x08, 1024, 8), &[0x66; 512]);
    assert_eq!(
        b.read(1024, 9),
        [vec![0x66; 4096], vec![0x55; 512]].concat()
    );
    b.good(&c16(0x93, 0, 2040, 0), &[0x77; 512]);
    assert_eq!(
        b.read(2039, 9),
        [vec![0x55; 512], vec![0x77; 4096]].concat()
    );
    assert_eq!(b.bad(&c16(0x93, 0, 2048, 0), &[0; 512]).1, 0x2100);
    let huge = Bench::new(4 << 30, DiskOptions::default());
    assert_eq!(huge.bad(&c16(0x93, 0, 0, 0), &[0; 512]).1, 0x2400);
    assert_eq!(b.bad(&c16(0x93, 0, 0, 1), &[0; 256]).1, 0x2400);
}

#[test]
fn capacity_and_pages() {
    let options = DiskOptions {
        block_size: 4096,
        ..DiskOptions::default()
    };
    let b = Bench::new((1 << 20) + 100, options);
    let d = b.good(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]).data_in;
    assert_eq!((be(&d, 0, 4), be(&d, 4, 4)), (255, 4096));
    let d = b.good(&c16(0x9e, 0x10, 0, 32), &[]).data_in;
    assert_eq!(
        (be(&d, 0, 8), be(&d, 8, 4), d[13], d[14]),
        (255, 4096, 0, 0xc0)
    );
    for (page, len) in [(0xb0, 64), (0xb1, 64), (0xb2, 8)] {
        let d = b.good(&[0x12, 1, page, 1, 0, 0], &[]).data_in;
        assert_eq!((d.len(), be(&d, 2, 2) as usize), (len, len - 4));
    }
    let listed = b.good(&[0x12, 1, 0, 1, 0, 0], &[]).data_in;
    assert_eq!(listed[4..], [0, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2]);
    let d = b.good(&[0x1a, 0, 0x08, 0, 255, 0], &[]).data_in;
    assert_eq!(
        (d[2], d[3], be(&d, 4, 4), be(&d, 9, 3)),
        (0x10, 8, 256, 4096)
    );
    // Turning the write cache off, and trying another block size.
    let mut list = d.clone();
    list[0] = 0;
    list[2] = 0;
    list[14] &= !0x04;
    let n = list.len() as u8;
    b.good(&[0x15, 0x10, 0, 0, n, 0], &list);
    assert_eq!(b.good(&[0x1a, 8, 0x08, 0, 255, 0], &[]).data_in[6], 0);
    b.good(&c16(0x8a, 0, 0, 1), &[1; 4096]);
    list[10] = 2;
    assert_eq!(b.bad(&[0x15, 0x10, 0, 0, n, 0], &list).1, 0x2600);
}

#[test]
fn read_only_refuses_every_write() {
    let options = DiskOptions {
        read_only: true,
        ..DiskOptions::default()
    };
    let b = Bench::new(1 << 20, options);
    let mut caw = c16(0x89, 0, 0, 0);
    caw[13] = 1;
    for cdb in [
        c16(0x8a, 0, 0, 1),
        c16(0x8b, 0, 0, 1),
        c16(0x8e, 0, 0, 1),
        c16(0x93, 0, 0, 1),
        caw,
    ] {
        assert_eq!(b.bad(&cdb, &[0; 512]).1, 0x2700);
    }
    let (cdb, list) = unmap(&[(0, 1)]);
    assert_eq!(b.bad(&cdb, &list).1, 0x2700);
    b.read(0, 1);
    b.good(&c10(0x35, 0, 0, 0), &[]);
    b.set.flush().unwrap();
}

#[test]
fn what_cannot_be_a_disk() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let open = |o| {
        DiskUnit::open(empty.path(), o)
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    assert!(open(DiskOptions::default()).contains("at least one block"));
    let odd = DiskOptions {
        block_size: 520,
        ..DiskOptions::default()
    };
    assert!(open(odd).contains("expected 512 or 4096"));
    let odd = DiskOptions {
        physical: Some(1536),
        ..DiskOptions::default()
    };
    assert!(open(odd).contains("power of two"));
    empty.as_file().set_len(4096).unwrap();
    for bad in [(8, 1), (7, 2), (0, 0), (u64::MAX, 2)] {
        let odd = DiskOptions {
            bad: Some(bad),
            ..DiskOptions::default()
        };
        assert!(open(odd).contains("among the 8"), "{bad:?}");
    }
    let _held = DiskUnit::open(empty.path(), DiskOptions::default()).unwrap();
    assert!(open(DiskOptions::default()).contains("Somebody else"));
    assert!(DiskUnit::open(empty.path().parent().unwrap(), DiskOptions::default()).is_err());
}

#[test]
fn a_file_that_became_shorter_has_bad_blocks() {
    let b = Bench::mib();
    b._file.as_file().set_len(512 * 1000).unwrap();
    assert_eq!(b.bad(&c16(0x88, 0, 990, 20), &[]), (3, 0x1100, Some(1000)));
}

mod hostile {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_command_is_too_strange(
            which in 0..COUNT,
            rest in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], 15),
            out in prop::collection::vec(any::<u8>(), 0..2100),
            take in 0usize..5000,
        ) {
            let b = Bench::mib();
            let usage = commands::COMMANDS[which].usage;
            let mut cdb = rest;
            cdb.insert(0, usage[0]);
            let r = b.send(&cdb, &out, take);
            prop_assert!(r.data_in.len() <= take.max(4096 + 8));
        }
    }

    const COUNT: usize = commands::COMMANDS.len();
}

/// PERSISTENT RESERVE OUT from the bench's initiator, or another one.
fn reserve_out(b: &Bench, by: u8, action: u8, kind: u8, keys: (u64, u64), flags: u8) -> Reply {
    let mut list = [0; 24];
    put(&mut list, 0, 8, keys.0);
    put(&mut list, 8, 8, keys.1);
    put(&mut list, 20, 1, flags.into());
    b.send_as(by, &[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], &list)
}

fn may_write(b: &Bench, by: u8) -> bool {
    let r = b.send_as(by, &c16(0x8a, 0, 0, 1), &[7; 512]);
    match r.status {
        Status::Good => true,
        Status::ReservationConflict => false,
        _ => panic!("{:?}", r.sense),
    }
}

#[test]
fn reservations_survive_when_asked_to() {
    let capabilities = |b: &Bench| b.good(&[0x5e, 2, 0, 0, 0, 0, 0, 0, 8, 0], &[]).data_in;
    let mut b = Bench::mib();
    let kept = std::path::PathBuf::from(format!("{}.pr.json", b._file.path().display()));
    assert_eq!(capabilities(&b)[2..4], [0x05, 0x80]);

    // Without APTPL nothing is written down, and nothing is left.
    assert_eq!(reserve_out(&b, 0, 0, 0, (0, 1), 0).status, Status::Good);
    assert_eq!(reserve_out(&b, 0, 1, 1, (1, 0), 0).status, Status::Good);
    assert!(!may_write(&b, 1) && !kept.exists());
    b = b.again(DiskOptions::default());
    assert!(may_write(&b, 1));

    // With it the reservation is there again; it is that of the port, whatever
    // its session is.
    assert_eq!(reserve_out(&b, 0, 0, 0, (0, 1), 1).status, Status::Good);
    assert_eq!(reserve_out(&b, 0, 1, 1, (1, 0), 0).status, Status::Good);
    assert_eq!(capabilities(&b)[2..4], [0x05, 0x81]);
    b = b.again(DiskOptions::default());
    b.nexus.tsih = 9;
    assert_eq!(capabilities(&b)[2..4], [0x05, 0x81]);
    assert!(may_write(&b, 0) && !may_write(&b, 1));

    // What cannot be written down has not happened.
    std::fs::remove_file(&kept).unwrap();
    std::fs::create_dir(&kept).unwrap();
    let r = reserve_out(&b, 0, 2, 1, (1, 0), 0);
    assert_eq!(r.sense.unwrap().code(), 0x4400);
    assert!(!may_write(&b, 1));
    std::fs::remove_dir(&kept).unwrap();

    // Given up, and given up for good.
    assert_eq!(reserve_out(&b, 0, 2, 1, (1, 0), 0).status, Status::Good);
    assert!(kept.exists());
    assert_eq!(reserve_out(&b, 0, 0, 0, (1, 2), 0).status, Status::Good);
    assert!(!kept.exists());
    assert_eq!(capabilities(&b)[2..4], [0x05, 0x80]);

    // A file that is no such file is told, not passed over.
    std::fs::write(&kept, b"{}").unwrap();
    let e = b.try_again(DiskOptions::default()).err().unwrap();
    assert!(e.to_string().contains("persistent reservations"), "{e}");
    std::fs::remove_file(&kept).unwrap();
}

#[test]
fn a_read_only_disk_keeps_no_reservations() {
    let read_only = DiskOptions {
        read_only: true,
        ..DiskOptions::default()
    };
    let b = Bench::new(1 << 20, read_only);
    let r = reserve_out(&b, 0, 0, 0, (0, 1), 1);
    assert_eq!(r.sense.unwrap().code(), 0x2600);
    let r = b.good(&[0x5e, 2, 0, 0, 0, 0, 0, 0, 8, 0], &[]);
    assert_eq!(r.data_in[2..4], [0x04, 0x80]);
}
