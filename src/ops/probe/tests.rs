//! Against the model that executes copies, as every kind of engine.

use super::*;
use crate::copy::oracle::{Device, Disk, Model, Object, Tape};
use crate::copy::parse::{self, CscdId};
use crate::copy::profile::{self, Dialect, Profile};
use crate::observe::Silent;
use crate::scsi::SenseKey;
use crate::scsi::double::{Double, Reply, Sent};
use crate::tape::{Id, LABEL_BYTES, Label, LabelKind, SetPart};
use std::sync::{Arc, Mutex};

const DISK: [u8; 8] = [0x50, 1, 2, 3, 4, 5, 6, 1];
const TAPE: [u8; 8] = [0x50, 1, 2, 3, 4, 5, 6, 2];
const PORT: [u8; 8] = [0x50, 1, 2, 3, 4, 5, 6, 9];

struct San {
    model: Model,
    profile: &'static Profile,
    /// Forgets what is left of a tape block between segments.
    forgetful: bool,
    /// Cannot reach the tape.
    blocked: bool,
}

fn id(value: [u8; 8]) -> CscdId {
    CscdId::Designator(parse::Designator {
        code_set: 1,
        association: 0,
        kind: 3,
        value: value.to_vec(),
    })
}

/// By the port, for engines that know no other way.
fn port_id(is_tape: bool) -> CscdId {
    CscdId::Port {
        lun: u64::from(is_tape) << 48,
        name: u64::from_be_bytes(PORT),
    }
}

fn illegal(asc: u8) -> Reply {
    Reply::check(Sense::new(SenseKey::IllegalRequest, asc, 0))
}

impl San {
    fn new(name: &str) -> Self {
        let profile = profile::find(name).unwrap();
        let block = if name == "4kn" { 4096 } else { 512 };
        let mut disk = Disk::new(block, 64);
        disk.fill(56, &[0x5a; 8 * 4096][..8 * block as usize]);
        let [disk_id, tape_id] = match profile.enforced.has(0xe4) {
            true => [DISK, TAPE].map(id),
            false => [false, true].map(port_id),
        };
        let devices = vec![
            (disk_id, Device::Disk(disk)),
            (tape_id, Device::Tape(Tape::default())),
        ];
        Self {
            model: Model {
                devices,
                limits: profile.enforced.clone(),
            },
            profile,
            forgetful: false,
            blocked: false,
        }
    }

    fn tape(&mut self) -> &mut Tape {
        match &mut self.model.devices[1].1 {
            Device::Tape(t) => t,
            Device::Disk(_) => unreachable!(),
        }
    }

    fn disk(&mut self) -> &mut Disk {
        match &mut self.model.devices[0].1 {
            Device::Disk(d) => d,
            Device::Tape(_) => unreachable!(),
        }
    }

    fn parameters(&self) -> Vec<u8> {
        let l = &self.profile.announced;
        let mut b = vec![0; 44];
        b[4] = l.no_list_id.into();
        b[8..10].copy_from_slice(&(l.cscds as u16).to_be_bytes());
        b[10..12].copy_from_slice(&(l.segments as u16).to_be_bytes());
        for (at, n) in [
            (12, l.list_bytes),
            (16, l.segment_bytes),
            (20, l.inline_bytes),
            (24, l.held_bytes),
            (28, l.stream_transfer),
        ] {
            b[at..at + 4].copy_from_slice(&(n as u32).to_be_bytes());
        }
        (b[36], b[37]) = (l.concurrent, l.data_granularity);
        (b[38], b[39]) = (l.inline_granularity, l.held_granularity);
        b[43] = l.codes.len() as u8;
        b.extend(&l.codes);
        let len = b.len() as u32 - 4;
        b[..4].copy_from_slice(&len.to_be_bytes());
        b
    }

    fn copy(&mut self, list: &[u8]) -> Reply {
        let mut parsed = match parse::parse(list, &self.profile.enforced) {
            Ok(l) => l,
            Err(r) => return Reply::check(r.sense()),
        };
        if self.blocked && parsed.cscds.iter().any(|c| c.id == id(TAPE)) {
            return Reply::check(Sense::copy_aborted(0x08, 0x04, 0));
        }
        if self.forgetful {
            // Each segment as a command of its own: nothing lives on between.
            let all = std::mem::take(&mut parsed.segments);
            for s in all {
                parsed.segments = vec![s];
                self.model.execute(list, &parsed);
            }
            return Reply::good();
        }
        match self.model.execute(list, &parsed).failed {
            None => Reply::good(),
            Some(f) => {
                let [asc, ascq] = f.code.to_be_bytes();
                Reply::check(Sense::copy_aborted(asc, ascq, f.segment as u16))
            }
        }
    }

    fn answer(&mut self, is_tape: bool, s: &Sent) -> Reply {
        let c = &s.cdb;
        let old = self.profile.dialect != Dialect::Spc;
        match c[0] {
            op::TEST_UNIT_READY | op::REWIND | op::SYNCHRONIZE_CACHE_16 => {
                if c[0] == op::REWIND {
                    self.tape().position = 0;
                }
                Reply::good()
            }
            op::INQUIRY if c[1] == 0 => {
                let mut b = vec![u8::from(is_tape), 0x80, 5, 2, 31, 8, 0, 0];
                b.extend(b"NTBAK   MODEL           0001");
                Reply::data(b)
            }
            op::INQUIRY if c[2] == 0x83 => {
                let mut b = vec![u8::from(is_tape), 0x83, 0, 24, 1, 3, 0, 8];
                b.extend(if is_tape { TAPE } else { DISK });
                b.extend([0x61, 0x93, 0, 8]);
                b.extend(PORT);
                Reply::data(b)
            }
            op::INQUIRY => illegal(0x24),
            op::SERVICE_ACTION_IN_16 => {
                let disk = self.disk();
                let mut b = (disk.blocks - 1).to_be_bytes().to_vec();
                b.extend(disk.block.to_be_bytes());
                b.resize(32, 0);
                Reply::data(b)
            }
            op::MODE_SENSE_10 => Reply::data([0, 6, 0, 0, 0, 0, 0, 0]),
            op::MODE_SENSE_6 if old => Reply::data([5, 0, 0, 0, 0x0e, 0]),
            op::RECEIVE_COPY_RESULTS if old => illegal(0x20),
            op::RECEIVE_COPY_RESULTS if c[1] == 3 => Reply::data(self.parameters()),
            op::EXTENDED_COPY => self.copy(&s.out),
            op::READ_16 => {
                let lba = u64::from_be_bytes(c[2..10].try_into().unwrap());
                Reply::data(self.disk().bytes(lba, s.room))
            }
            op::READ_BLOCK_LIMITS => Reply::data([0, 0x7f, 0xff, 0xff, 0, 1]),
            op::READ_6 => match self.tape().read(s.room) {
                Ok(b) => Reply::data(b),
                Err((key, code)) => {
                    let [asc, ascq] = code.to_be_bytes();
                    let mut sense = Sense::new(SenseKey::of(key), asc, ascq);
                    sense.ili = (key, code) == (0, 0);
                    Reply::check(sense)
                }
            },
            op::LOCATE_10 => {
                let object = u32::from_be_bytes(c[3..7].try_into().unwrap());
                self.tape().locate(object.into()).unwrap();
                Reply::good()
            }
            op::WRITE_FILEMARKS_6 => {
                self.tape().write(Object::Mark);
                Reply::good()
            }
            op::ERASE_6 => {
                let at = self.tape().position;
                self.tape().objects.truncate(at);
                Reply::good()
            }
            _ => illegal(0x20),
        }
    }

    fn units(self) -> ([Unit; 2], Arc<Mutex<San>>) {
        let san = Arc::new(Mutex::new(self));
        let units = [false, true].map(|is_tape| {
            let double = Double::with_max_transfer(if is_tape { "tape" } else { "disk" }, 1 << 20);
            let san = san.clone();
            double.at_lun(u64::from(is_tape) << 48);
            double.answer(move |s| Some(san.lock().unwrap().answer(is_tape, s)));
            Unit::new(double)
        });
        (units, san)
    }
}

fn label(part: Option<SetPart>) -> Object {
    let label = Label {
        kind: LabelKind::Label,
        cartridge: Id([7; 16]),
        part,
        time: 1,
        name: "A1".into(),
    };
    Object::Block(label.encode().unwrap().to_vec())
}

const TEST: ProbeOptions = ProbeOptions {
    write_test: true,
    write_disk: true,
    overwrite: false,
};

#[test]
fn every_engine_gets_the_verdict_it_deserves() {
    for (name, backup, restore, word) in [
        ("full-ntbak", true, true, ""),
        ("router-spc2", true, true, ""),
        ("tiny", true, true, ""),
        ("noinline", true, true, ""),
        ("nofm", true, true, ""),
        ("4kn", true, true, ""),
        ("xp-dbe", true, false, ""),
        ("lio", false, false, "00h"),
        ("scst", false, false, "00h"),
        ("ctl", false, false, "00h"),
        ("atto-143r1", false, false, "99-143r1"),
    ] {
        let (units, san) = San::new(name).units();
        let found = probe(&units, ProbeOptions::default(), &Silent).unwrap();
        let [o] = &found.offloads[..] else { panic!() };
        assert_eq!(
            (o.backup.possible, o.restore.possible),
            (backup, restore),
            "{name}: {o:?}"
        );
        assert_eq!(o.files, o.restore);
        let why = o.backup.why.clone().unwrap_or_default();
        assert!(why.contains(word), "{name}: {why}");
        assert!(san.lock().unwrap().tape().objects.is_empty(), "{name}");
        assert!(serde_json::to_string(&found).is_ok());
    }
}

#[test]
fn the_test_copy_is_right_and_leaves_nothing() {
    for name in [
        "full-ntbak",
        "router-spc2",
        "noinline",
        "nofm",
        "tiny",
        "4kn",
    ] {
        let (units, san) = San::new(name).units();
        let before = san.lock().unwrap().model.devices.clone();
        let found = probe(&units, TEST, &Silent).unwrap();
        let t = found.offloads[0].trial.as_ref().unwrap();
        assert!(
            t.to_tape.possible && t.from_tape.as_ref().is_some_and(|a| a.possible),
            "{name}: {t:?}"
        );
        assert!(t.wrote_disk && t.left_behind.is_none());
        let mut san = san.lock().unwrap();
        san.tape().position = 0;
        assert_eq!(san.model.devices, before, "{name}");
    }
}

#[test]
fn an_engine_without_a_way_back_keeps_its_reason() {
    let (units, _) = San::new("xp-dbe").units();
    let found = probe(&units, TEST, &Silent).unwrap();
    let o = &found.offloads[0];
    let t = o.trial.as_ref().unwrap();
    assert!(
        t.to_tape.possible && t.from_tape.is_none() && !t.wrote_disk,
        "{t:?}"
    );
    let why = o.restore.why.as_deref().unwrap();
    assert!(o.backup.possible && why.contains("01h"), "{o:?}");
    assert!(why.starts_with("the copy manager"), "{why}");
}

#[test]
fn units_without_a_port_name_are_not_for_an_engine_that_wants_it() {
    let (mut units, san) = San::new("xp-dbe").units();
    let nameless = Double::with_max_transfer("tape", 1 << 20);
    nameless.answer(move |s| Some(san.lock().unwrap().answer(true, s)));
    units[1] = Unit::new(nameless);
    let found = probe(&units, ProbeOptions::default(), &Silent).unwrap();
    let why = found.offloads[0].backup.why.as_deref().unwrap();
    assert!(why.contains("E0h"), "{why}");
}

#[test]
fn an_empty_label_stays_and_a_backup_is_not_touched() {
    let (units, san) = San::new("full-ntbak").units();
    let empty = vec![label(None), Object::Mark];
    san.lock().unwrap().tape().objects = empty.clone();
    probe(&units, TEST, &Silent).unwrap();
    assert_eq!(san.lock().unwrap().tape().objects, empty);

    // What somebody else wrote behind an empty label is not ours either.
    let block = |n| Object::Block(vec![1; n]);
    for behind in [
        vec![Object::Mark, block(512)],
        vec![block(LABEL_BYTES)],
        vec![block(7), Object::Mark],
        vec![Object::Mark, Object::Mark],
    ] {
        let held = [vec![label(None)], behind].concat();
        san.lock().unwrap().tape().objects = held.clone();
        let e = probe(&units, TEST, &Silent).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Refused);
        assert_eq!(san.lock().unwrap().tape().objects, held);
        let yes = ProbeOptions {
            overwrite: true,
            ..TEST
        };
        probe(&units, yes, &Silent).unwrap();
        assert_eq!(san.lock().unwrap().tape().objects, empty);
    }

    let part = SetPart {
        set: Id([1; 16]),
        sequence: 1,
        block_bytes: 65536,
        stream_offset: 0,
        previous: None,
    };
    let junk = Object::Block(vec![1; LABEL_BYTES]);
    let long = Object::Block(vec![1; 99_999]);
    for first in [label(Some(part)), junk, long, Object::Mark] {
        let held = vec![first, Object::Mark];
        san.lock().unwrap().tape().objects = held.clone();
        let e = probe(&units, TEST, &Silent).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Refused);
        assert_eq!(san.lock().unwrap().tape().objects, held);
        let yes = ProbeOptions {
            overwrite: true,
            ..TEST
        };
        probe(&units, yes, &Silent).unwrap();
        assert!(san.lock().unwrap().tape().objects.is_empty());
    }
}

#[test]
fn an_engine_that_loses_residue_is_found_out() {
    let mut san = San::new("full-ntbak");
    san.forgetful = true;
    let (units, _) = san.units();
    let found = probe(&units, TEST, &Silent).unwrap();
    let o = &found.offloads[0];
    assert!(!o.backup.possible && !o.restore.possible, "{o:?}");
    let without = ProbeOptions {
        write_test: false,
        ..TEST
    };
    let found = probe(&units, without, &Silent).unwrap();
    assert!(found.offloads[0].backup.possible, "only the test shows it");
}

#[test]
fn a_leg_that_is_cut_is_named() {
    for name in ["router-spc2", "tiny"] {
        let mut san = San::new(name);
        san.blocked = true;
        let (units, _) = san.units();
        let found = probe(&units, ProbeOptions::default(), &Silent).unwrap();
        let why = found.offloads[0].backup.why.clone().unwrap();
        assert!(why.contains("cannot be reached"), "{name}: {why}");
    }
}
