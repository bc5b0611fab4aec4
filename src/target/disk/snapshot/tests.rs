//! The command itself, and units that are snapshots.

use super::*;
use crate::scsi::Status;
use crate::target::common::{Device, be};
use crate::target::{DiskOptions, Nexus, Request, UnitSet, Units};
use proptest::prelude::*;
use std::io::IoSlice;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const BLOCKS: u64 = 1024;
const BLOCK: usize = 512;

struct Bench {
    set: UnitSet,
    file: tempfile::NamedTempFile,
}

fn nexus(n: u8) -> Nexus {
    Nexus {
        initiator: format!("iqn.example:{n}").into(),
        isid: [n; 6],
        tsih: n.into(),
    }
}

impl Bench {
    /// LUN 0 a disk, LUN 1 one that cannot be written.
    fn new() -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(BLOCKS * BLOCK as u64).unwrap();
        let other = tempfile::NamedTempFile::new().unwrap();
        other.as_file().set_len(1 << 20).unwrap();
        let options = DiskOptions::default();
        let disk = DiskUnit::open(file.path(), options).unwrap();
        let read_only = DiskOptions {
            read_only: true,
            ..options
        };
        let second = DiskUnit::open(other.path(), read_only).unwrap();
        let devices: Vec<(String, Arc<dyn Device>)> =
            vec![("d".into(), Arc::new(disk)), ("r".into(), Arc::new(second))];
        let set = UnitSet::new("iqn.example:t", devices, None).unwrap();
        Self { set, file }
    }

    fn send(&self, by: u8, lun: u16, cdb: &[u8], out: &[u8]) -> Reply {
        let request = Request {
            nexus: &nexus(by),
            cdb,
            data_out: out,
            expected_out: out.len(),
            expected_in: 1 << 20,
            cancel: &AtomicBool::new(false),
        };
        self.set.execute(encode_lun(lun), &request)
    }

    fn good(&self, lun: u16, cdb: &[u8], out: &[u8]) -> Vec<u8> {
        let r = self.send(1, lun, cdb, out);
        assert_eq!(r.status, Status::Good, "{cdb:02x?}: {:?}", r.sense);
        r.data_in
    }

    /// Sense key and code.
    fn bad(&self, by: u8, lun: u16, cdb: &[u8], out: &[u8]) -> (u8, u16) {
        let r = self.send(by, lun, cdb, out);
        r.sense.map_or((0, 0), |s| (s.key as u8, s.code()))
    }

    fn write(&self, lba: u64, data: &[u8]) {
        self.good(0, &c16(0x8a, lba, (data.len() / BLOCK) as u32), data);
    }

    fn read(&self, lun: u16, lba: u64, n: u32) -> Vec<u8> {
        self.good(lun, &c16(0x88, lba, n), &[])
    }

    /// Number and id of a new snapshot of LUN 0.
    fn create(&self) -> (u16, u64) {
        let d = self.good(0, &snap(CREATE, 7, 80), &[]);
        // As of a nexus that was there before.
        ((be(&d, 8, 8) >> 48) as u16, be(&d, 16, 8))
    }
}

fn c16(op: u8, lba: u64, n: u32) -> [u8; 16] {
    let mut c = [0; 16];
    c[0] = op;
    put(&mut c, 2, 8, lba);
    put(&mut c, 10, 4, n.into());
    c
}

fn snap(action: u8, number: u64, room: u32) -> [u8; 16] {
    let mut c = c16(0xc4, number, room);
    c[1] = action;
    c
}

const TUR: [u8; 6] = [0; 6];

#[test]
fn byte_by_byte() {
    let b = Bench::new();
    b.write(0, &[1; BLOCK]);
    let d = b.good(0, &snap(CREATE, 0x1122_3344_5566_7788, 4096), &[]);
    assert_eq!((d.len(), be(&d, 0, 4), be(&d, 4, 2)), (80, 72, MOST as u64));
    let one = &d[8..];
    assert_eq!(be(one, 0, 8), 2 << 48);
    let unit = &b.set.units()[2];
    assert_eq!(one[16..32], unit.identity().naa()[..]);
    assert_eq!(be(one, 32, 8), BLOCKS * BLOCK as u64);
    let age = SystemTime::now() - std::time::Duration::from_millis(be(one, 40, 8));
    let age = age.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert!(age.as_secs() < 600, "{age:?}");
    assert_eq!(be(one, 48, 8), 0x1122_3344_5566_7788);
    assert!(matches!(one[56], 1 | 2) && one[57..64] == [0; 7]);
    let id = be(one, 8, 8);
    assert_eq!(unit.identity().name(), format!("d-{id:016x}"));
    b.create();
    let all = b.good(0, &snap(LIST, 0, 4096), &[]);
    assert_eq!((all.len(), be(&all, 0, 4)), (8 + 144, 144));
    assert_eq!(all[8..72], d[8..72]);
    // What is held may be more since.
    assert_eq!(b.good(0, &snap(LIST, 0, 9), &[]), all[..9]);
    assert!(b.good(0, &snap(DELETE, id, 0), &[]).is_empty());
    assert_eq!(b.good(0, &snap(LIST, 0, 4096), &[]).len(), 80);
    assert_eq!(b.good(1, &snap(LIST, 0, 4096), &[]).len(), 8);
    let told: Vec<_> = b.set.roster().events().iter().map(|e| e.what).collect();
    assert_eq!(
        told,
        [Happened::Created, Happened::Created, Happened::Deleted]
    );
}

#[test]
fn what_is_refused() {
    let b = Bench::new();
    assert_eq!(b.bad(1, 0, &snap(3, 0, 80), &[]), (5, 0x2400));
    assert_eq!(b.bad(1, 0, &snap(CREATE, 0, 79), &[]), (5, 0x2400));
    assert_eq!(b.bad(1, 0, &snap(DELETE, 1, 0), &[]), (5, 0x2400));
    let ids: Vec<_> = (0..MOST).map(|_| b.create()).collect();
    assert_eq!(b.bad(1, 0, &snap(CREATE, 0, 80), &[]), (5, 0x5503));
    // A snapshot is read, and has none of its own.
    let (lun, id) = ids[0];
    assert_eq!(b.bad(1, lun, &c16(0x8a, 0, 1), &[0; BLOCK]), (7, 0x2700));
    assert_eq!(b.bad(1, lun, &snap(CREATE, 0, 80), &[]), (5, 0x2000));
    assert_eq!(b.bad(1, 1, &snap(DELETE, id, 0), &[]), (5, 0x2400));
    assert_eq!(
        &b.good(lun, &[0x12, 0, 0, 0, 96, 0], &[])[8..32],
        b"NTBAK   DISK SNAPSHOT   "
    );
    // Of a disk that cannot be written, too.
    assert_eq!(b.bad(1, 1, &snap(CREATE, 0, 80), &[]), (0, 0));
    let ask = |lun| b.good(lun, &[0xa3, 0x0c, 3, 0xc4, 0, 1, 0, 0, 0, 20, 0, 0], &[]);
    assert_eq!((ask(0)[1], ask(lun)[1]), (3, 1));
    // Somebody else's reservation counts, for the original alone.
    b.good(0, &[0x16, 0, 0, 0, 0, 0], &[]);
    for cdb in [snap(LIST, 0, 80), snap(CREATE, 0, 80), snap(DELETE, id, 0)] {
        assert_eq!(b.send(2, 0, &cdb, &[]).status, Status::ReservationConflict);
    }
    assert_eq!(b.bad(2, lun, &c16(0x88, 0, 1), &[]), (0, 0));
}

#[test]
fn everybody_is_told_and_numbers_are_not_used_again_at_once() {
    let b = Bench::new();
    for n in [1, 2] {
        b.set.nexus_began(&nexus(n));
        for lun in [0, 1] {
            assert_eq!(b.bad(n, lun, &TUR, &[]), (6, 0x2900));
        }
    }
    let (lun, id) = b.create();
    assert_eq!(lun, 2);
    for n in [1, 2] {
        assert_eq!(b.bad(n, 0, &TUR, &[]), (6, 0x3f0e));
        assert_eq!(b.bad(n, 0, &TUR, &[]), (0, 0));
        assert_eq!(b.bad(n, lun, &TUR, &[]), (6, 0x2900));
        assert_eq!(b.bad(n, lun, &TUR, &[]), (0, 0));
    }
    // Who asks for the list knows.
    let luns = b
        .send(2, 0, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0], &[])
        .data_in;
    assert_eq!((be(&luns, 0, 4), be(&luns, 24, 8)), (24, 2 << 48));
    assert_eq!(b.bad(2, 1, &TUR, &[]), (0, 0));
    assert_eq!(b.bad(1, 1, &TUR, &[]), (6, 0x3f0e));
    b.good(0, &snap(DELETE, id, 0), &[]);
    assert!(!b.set.has(encode_lun(lun)));
    assert_eq!(b.bad(1, lun, &TUR, &[]), (5, 0x2500));
    assert_eq!(b.bad(2, 1, &TUR, &[]), (6, 0x3f0e));
    // A session that begins now is new to all, and so on.
    b.set.nexus_began(&nexus(3));
    assert_eq!(b.bad(1, 0, &TUR, &[]), (6, 0x3f0e));
    let (again, _) = b.create();
    assert_eq!(again, 3);
    assert_eq!(b.bad(3, again, &TUR, &[]), (6, 0x2900));
}

#[test]
fn numbers_come_round() {
    let b = Bench::new();
    for _ in 2..256 {
        let (_, id) = b.create();
        b.good(0, &snap(DELETE, id, 0), &[]);
    }
    assert_eq!(b.create().0, 2);
    let roster = b.set.roster();
    let free: Vec<_> = std::iter::from_fn(|| roster.reserve()).collect();
    assert_eq!(free.len(), 256 - 3);
    assert_eq!(b.bad(1, 0, &snap(CREATE, 0, 80), &[]), (5, 0x5503));
    roster.give_back(free[9]);
    assert_eq!(b.create().0, free[9]);
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, u64, u8),
    Copied(u64, u64, u8),
    Same(u64, u64, u8),
    Unmap(u64, u64),
    Or(u64, u64, u8),
    Swap(u64, u8),
    Take,
    Delete(usize),
    Look(usize, u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let range = || (0..BLOCKS, 1..300u64).prop_map(|(at, n)| (at, n.min(BLOCKS - at)));
    prop_oneof![
        3 => (range(), any::<u8>()).prop_map(|((a, n), b)| Step::Write(a, n, b)),
        1 => (range(), any::<u8>()).prop_map(|((a, n), b)| Step::Copied(a, n, b)),
        1 => (range(), 0..3u8).prop_map(|((a, n), b)| Step::Same(a, n, b)),
        1 => range().prop_map(|(a, n)| Step::Unmap(a, n)),
        1 => (range(), any::<u8>()).prop_map(|((a, n), b)| Step::Or(a, n.min(4), b)),
        1 => (0..BLOCKS, any::<u8>()).prop_map(|(a, b)| Step::Swap(a, b)),
        2 => Just(Step::Take),
        1 => any::<usize>().prop_map(Step::Delete),
        3 => (any::<usize>(), range()).prop_map(|(i, (a, n))| Step::Look(i, a, n)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_way_to_change_a_disk_leaves_its_snapshots(steps in prop::collection::vec(step(), 1..50)) {
        let b = Bench::new();
        let mut now = vec![0u8; BLOCKS as usize * BLOCK];
        let mut all: Vec<(u16, u64, Vec<u8>)> = Vec::new();
        let bytes = |at: u64, n: u64| at as usize * BLOCK..(at + n) as usize * BLOCK;
        for step in steps {
            let k = all.len().max(1);
            match step {
                Step::Write(at, n, byte) => {
                    now[bytes(at, n)].fill(byte);
                    b.write(at, &now[bytes(at, n)]);
                }
                Step::Copied(at, n, byte) => {
                    now[bytes(at, n)].fill(byte);
                    let units = b.set.units();
                    let disk = units[0].device().copy_disk().unwrap();
                    let (x, y) = now[bytes(at, n)].split_at(n as usize * 100);
                    disk.write(at, &mut [IoSlice::new(x), IoSlice::new(y)]).unwrap();
                }
                Step::Same(at, n, byte) => {
                    now[bytes(at, n)].fill(byte);
                    let block = vec![byte; BLOCK];
                    b.good(0, &c16(0x93, at, n as u32), &block);
                }
                Step::Unmap(at, n) => {
                    now[bytes(at, n)].fill(0);
                    let mut list = vec![0; 24];
                    put(&mut list, 0, 2, 22);
                    put(&mut list, 2, 2, 16);
                    put(&mut list, 8, 8, at);
                    put(&mut list, 16, 4, n);
                    b.good(0, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list);
                }
                Step::Or(at, n, byte) => {
                    now[bytes(at, n)].iter_mut().for_each(|x| *x |= byte);
                    b.good(0, &c16(0x8b, at, n as u32), &vec![byte; n as usize * BLOCK]);
                }
                Step::Swap(at, byte) => {
                    let mut c = c16(0x89, at, 0);
                    c[13] = 1;
                    let old = now[bytes(at, 1)].to_vec();
                    now[bytes(at, 1)].fill(byte);
                    b.good(0, &c, &[&old[..], &now[bytes(at, 1)]].concat());
                }
                Step::Take if all.len() < MOST => {
                    let (lun, id) = b.create();
                    all.push((lun, id, now.clone()));
                }
                Step::Take => {}
                Step::Delete(i) if !all.is_empty() => {
                    let (lun, id, _) = all.remove(i % k);
                    b.good(0, &snap(DELETE, id, 0), &[]);
                    prop_assert!(!b.set.has(encode_lun(lun)));
                }
                Step::Delete(_) => {}
                Step::Look(i, at, n) => if let Some((lun, _, was)) = all.get(i % k) {
                    prop_assert!(b.read(*lun, at, n as u32) == was[bytes(at, n)]);
                }
            }
        }
        for (lun, _, was) in &all {
            prop_assert!(&b.read(*lun, 0, BLOCKS as u32) == was);
        }
        prop_assert!(b.read(0, 0, BLOCKS as u32) == now);
    }
}

/// Each writer writes numbers that grow. A snapshot has every write that had
/// ended before, and none that began after; and it never changes.
#[test]
fn a_snapshot_is_a_point_in_time() {
    const WRITERS: u64 = 3;
    const EACH: u64 = BLOCKS / WRITERS;
    let b = Bench::new();
    let stop = AtomicBool::new(false);
    let counters = || -> Vec<AtomicU64> { (0..WRITERS).map(|_| AtomicU64::new(0)).collect() };
    let (begun, ended) = (counters(), counters());
    let values =
        |all: &[AtomicU64]| -> Vec<u64> { all.iter().map(|n| n.load(Ordering::SeqCst)).collect() };
    // The highest number of each writer.
    let highest = |bytes: &[u8]| -> Vec<u64> {
        let part = bytes.chunks(EACH as usize * BLOCK).take(WRITERS as usize);
        part.map(|p| p.chunks(BLOCK).map(|c| be(c, 0, 8)).max().unwrap())
            .collect()
    };
    std::thread::scope(|s| {
        for w in 0..WRITERS {
            let (b, stop, begun, ended) = (&b, &stop, &begun, &ended);
            s.spawn(move || {
                for n in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let mut block = vec![w as u8; BLOCK];
                    put(&mut block, 0, 8, n);
                    begun[w as usize].store(n, Ordering::SeqCst);
                    let lba = w * EACH + n * 37 % EACH;
                    b.write(lba, &block);
                    ended[w as usize].store(n, Ordering::SeqCst);
                }
            });
        }
        let held: Vec<_> = (0..30)
            .map(|i| {
                let before = values(&ended);
                let (lun, id) = b.create();
                let after = values(&begun);
                let first = b.read(lun, 0, BLOCKS as u32);
                let found = highest(&first);
                for w in 0..WRITERS as usize {
                    let right = before[w]..=after[w];
                    assert!(right.contains(&found[w]), "{} not in {right:?}", found[w]);
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
                assert!(
                    b.read(lun, 0, BLOCKS as u32) == first,
                    "snapshot {i} changed"
                );
                if i % 5 < 4 {
                    b.good(0, &snap(DELETE, id, 0), &[]);
                }
                (i % 5 == 4).then_some((lun, first))
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        for (lun, first) in held.into_iter().flatten() {
            assert!(b.read(lun, 0, BLOCKS as u32) == first);
        }
    });
    let mut end = vec![0; BLOCKS as usize * BLOCK];
    b.file.as_file().read_exact_at(&mut end, 0).unwrap();
    assert_eq!(highest(&end), values(&ended));
}

/// Page 19h as who waits for a quiet moment looks at it: of a command that is under
/// way, it shows the beginning, and later the end.
#[test]
fn a_write_that_is_under_way_shows_in_the_counters() {
    let b = Bench::new();
    let units = b.set.units();
    let disk = units[0].device_as::<DiskUnit>().unwrap();
    let page = || {
        let log = b.good(0, &[0x4d, 0, 0x59, 0, 0, 0, 0, 1, 0, 0], &[]);
        (be(&log, 16, 8), be(&log, 24, 8))
    };
    assert_eq!(page(), (0, 0));
    std::thread::scope(|s| {
        let held = disk.order.write().unwrap();
        s.spawn(|| b.write(3, &[1; 2 * BLOCK]));
        while page() == (0, 0) {
            std::thread::yield_now();
        }
        assert_eq!(page(), (1, 0));
        drop(held);
    });
    assert_eq!(page(), (1, 2));
}
