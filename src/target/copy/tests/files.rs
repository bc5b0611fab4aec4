//! The copy manager on units over files.

use super::memory::{copy_cdb, discard, inline, list, motion, nexus, stream};
use super::pattern;
use crate::scsi::{Sense, SenseKey, Status};
use crate::tape::cartridge::Cartridge;
use crate::target::common::{Device, ThirdPartyCopy, encode_lun};
use crate::target::copy::CopyManager;
use crate::target::tape::TapeDrive;
use crate::target::{CopyProfile, DiskOptions, DiskUnit, Nexus, Reply, Request, UnitSet, Units};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const T: u32 = 262_144;

struct Files {
    set: UnitSet,
    nexus: Nexus,
}

impl Files {
    /// LUN 0 and 2 disks, LUN 1 a tape.
    fn new(dir: &Path, capacity: u64) -> Self {
        let disk = |name: &str| {
            let d = DiskUnit::open(&dir.join(name), DiskOptions::default()).unwrap();
            (name.to_string(), Arc::new(d) as Arc<dyn Device>)
        };
        let tap = Cartridge::create(&dir.join("one.tap"), capacity, "ONE").unwrap();
        let tape = Arc::new(TapeDrive::new(Some(tap)).unwrap()) as Arc<dyn Device>;
        let manager = Arc::new(CopyManager::new(CopyProfile::default()));
        let units = vec![disk("from"), ("tape".to_string(), tape), disk("to")];
        let set = UnitSet::new(
            "iqn.test:files",
            units,
            Some(manager as Arc<dyn ThirdPartyCopy>),
        );
        let files = Self {
            set: set.unwrap(),
            nexus: nexus(1),
        };
        files.set.nexus_began(&files.nexus);
        for lun in [0, 1, 1, 2] {
            files.send(lun, &[0; 6], &[]);
        }
        files
    }

    fn send(&self, lun: u16, cdb: &[u8], data: &[u8]) -> Reply {
        let request = Request {
            nexus: &self.nexus,
            cdb,
            data_out: data,
            expected_out: data.len(),
            expected_in: 4096,
            cancel: &AtomicBool::new(false),
        };
        self.set.execute(encode_lun(lun), &request)
    }

    fn cscd(&self, lun: usize, pad: bool) -> Vec<u8> {
        let unit = &self.set.units()[lun];
        let kind = unit.device().peripheral_type();
        let mut d = vec![0xe4, kind, 0, 0, 1, 3, 0, 16];
        d.extend(unit.identity().naa());
        d.resize(32, 0);
        d[28] = u8::from(pad) << 2;
        d[30] = if kind == 0 { 2 } else { 0 };
        d
    }

    fn copy(&self, segments: &[Vec<u8>], data: &[u8]) -> Reply {
        let cscds = [0, 1, 2].map(|i| self.cscd(i, i == 1));
        let l = list(1, 0, &cscds, segments, data);
        self.send(0, &copy_cdb(l.len()), &l)
    }
}

fn make(dir: &Path, bytes: usize) {
    std::fs::write(dir.join("from"), pattern(bytes, 3)).unwrap();
    let to = std::fs::File::create(dir.join("to")).unwrap();
    to.set_len(bytes as u64).unwrap();
}

#[test]
fn disk_to_tape_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = 12 << 20;
    make(dir.path(), bytes);
    let f = Files::new(dir.path(), 1 << 30);
    let n = (bytes / 512) as u16;
    let r = f.copy(
        &[
            inline(true, 1, T, 0, 512),
            stream(0, false, 0, 1, T, n, 0),
            motion(0x10, 1, 1),
        ],
        &[9; 512],
    );
    assert_eq!(r.status, Status::Good, "{:?}", r.sense);
    let r = f.copy(
        &[
            motion(0x12, 1, 0),
            discard(0x0f, true, 1, T, 512),
            stream(1, false, 1, 2, T, n, 0),
        ],
        &[],
    );
    assert_eq!(r.status, Status::Good, "{:?}", r.sense);
    f.set.flush().unwrap();
    assert!(std::fs::read(dir.path().join("to")).unwrap() == pattern(bytes, 3));
    // Reading on meets the filemark.
    let r = f.copy(&[stream(1, false, 1, 2, T, 8, 0)], &[]);
    let s = r.sense.unwrap();
    let told = Sense::decode(&s.source.unwrap().sense).unwrap();
    assert!(told.filemark && told.code() == 1);
    // The host reads the same block that the copy manager wrote.
    let read = [0x08, 0, 4, 0, 0, 0];
    f.send(1, &[0x01, 0, 0, 0, 0, 0], &[]);
    let block = f.send(1, &read, &[]).data_in;
    assert_eq!(block.len(), T as usize);
    assert!(block[..512] == [9; 512] && block[512..] == pattern(bytes, 3)[..T as usize - 512]);
}

#[test]
fn early_warning_ends_a_copy_behind_its_block() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), 12 << 20);
    let f = Files::new(dir.path(), 8 << 20);
    let r = f.copy(&[stream(0, false, 0, 1, T, 24_576, 0)], &[]);
    let s = r.sense.unwrap();
    assert_eq!((s.key, s.code()), (SenseKey::CopyAborted, 0x0d01));
    let told = Sense::decode(&s.destination.unwrap().sense).unwrap();
    assert!(told.eom, "{told:?}");
    // READ POSITION says what is on the tape, and the residual agrees.
    let p = f.send(1, &[0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]).data_in;
    let object = u32::from_be_bytes([p[4], p[5], p[6], p[7]]);
    assert!(object > 0 && object <= 32, "{object}");
    assert_eq!(s.information, Some(i64::from((48 - object) * T)));
}

#[test]
fn fixed_blocks_are_those_that_the_host_has_set() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), 1 << 20);
    let f = Files::new(dir.path(), 8 << 20);
    let mut tape = f.cscd(1, true);
    tape[28] |= 1; // FIXED
    tape[30] = 2; // blocks of 512
    let cscds = [f.cscd(0, false), tape, f.cscd(2, false)];
    let run = |segments: &[Vec<u8>]| {
        let l = list(1, 0, &cscds, segments, &[]);
        f.send(0, &copy_cdb(l.len()), &l)
    };
    let there = [stream(0, false, 0, 1, 4, 8, 0)];
    let back = [motion(0x12, 1, 0), stream(1, false, 1, 2, 4, 8, 0)];
    let refused = |r: Reply, source: bool| {
        let s = r.sense.unwrap();
        let told = if source { s.source } else { s.destination };
        assert_eq!(Sense::decode(&told.unwrap().sense).unwrap().code(), 0x2400);
    };
    // WRITE(6) with FIXED is refused while the drive has variable blocks.
    refused(run(&there), false);
    let select = |length: u8| {
        let mode = [0, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, length, 0];
        let r = f.send(1, &[0x15, 0x10, 0, 0, 12, 0], &mode);
        assert_eq!(r.status, Status::Good);
    };
    select(2);
    assert_eq!(run(&there).status, Status::Good);
    assert_eq!(run(&back).status, Status::Good);
    select(4);
    refused(run(&back), true);
    f.set.flush().unwrap();
    let to = std::fs::read(dir.path().join("to")).unwrap();
    assert!(to[..4096] == pattern(1 << 20, 3)[..4096] && to[4096..].iter().all(|b| *b == 0));
}
