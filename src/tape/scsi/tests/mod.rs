//! Against a small tape of two characters, one as the standard wants it and
//! one as Debian's tgt is, and against scripted answers.

use crate::tape::drive::{Drive, Position, Read, Room, Written};
use crate::tape::memory::{Cartridge, MemoryDrive};
mod fake;

use super::position::Form;
use super::*;
use crate::scsi::double::{Double, Reply};
use crate::scsi::{Sense, Status};
use fake::{Character, Fake, no_sense, sense};
use proptest::prelude::*;
use std::sync::{Arc, Mutex};

fn fake(character: Character) -> (Arc<Double>, Arc<Mutex<Fake>>) {
    let tape = Arc::new(Mutex::new(Fake {
        character,
        objects: Vec::new(),
        at: 0,
        block_len: 512,
        buffered: false,
        prevented: false,
    }));
    let double = Double::with_max_transfer("tape", 1 << 20);
    let inside = tape.clone();
    double.answer(move |sent| Some(inside.lock().unwrap().answer(sent)));
    (double, tape)
}

fn drive(double: &Arc<Double>) -> ScsiDrive {
    ScsiDrive::open(Unit::new(double.clone())).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Rewind,
    Locate(u64),
    End,
    Space(i64),
    Read(usize),
    Write(usize, usize),
    Marks(u32),
    /// The drive is reset: 29h with the next command.
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Rewind),
        (0u64..24).prop_map(Step::Locate),
        Just(Step::End),
        (-4i64..5).prop_map(Step::Space),
        (0usize..12_000).prop_map(Step::Read),
        (0usize..20_000, 700usize..9_000).prop_map(|(n, b)| Step::Write(n, b)),
        (0u32..3).prop_map(Step::Marks),
        Just(Step::Reset),
    ]
}

/// What a step gives that does not depend on who answers.
fn take(d: &mut dyn Drive, step: &Step) -> Result<String, ErrorKind> {
    let said = match *step {
        Step::Rewind | Step::Reset => d.rewind().map(|()| String::new()),
        Step::Locate(n) => d.locate(n).map(|()| String::new()),
        Step::End => d.end_of_data().map(|()| String::new()),
        Step::Space(n) => d.space_filemarks(n).map(|()| String::new()),
        Step::Read(n) => {
            let mut buf = vec![0; n];
            d.read(&mut buf).map(|r| match r {
                Read::Block(n) => format!("{n} {:x?}", blake3::hash(&buf[..n])),
                other => format!("{other:?}"),
            })
        }
        Step::Write(n, block) => {
            let data: Vec<u8> = (0..n).map(|i| (i * 7 + n) as u8).collect();
            d.write(&data, block).map(|w| format!("{w:?}"))
        }
        Step::Marks(n) => d.write_filemarks(n).map(|w| format!("{w:?}")),
    };
    said.map_err(|e| e.kind())
}

fn same_as_memory(character: Character, steps: &[Step]) -> Result<(), TestCaseError> {
    let (double, tape) = fake(character);
    let cartridge = Cartridge::default();
    let mut memory = MemoryDrive::new(cartridge.clone());
    let mut scsi = drive(&double);
    for step in steps {
        if matches!(step, Step::Reset) {
            let once = Reply::check(sense(SenseKey::UnitAttention, 0x29, 0));
            double.expect(&[op::REWIND, 0, 0, 0, 0, 0], once);
        }
        let (a, b) = (take(&mut memory, step), take(&mut scsi, step));
        prop_assert_eq!(a, b, "{:?}", step);
        let (a, b) = (memory.position().unwrap(), scsi.position().unwrap());
        prop_assert_eq!((a.object, a.bop), (b.object, b.bop), "{:?}", step);
        if let Some(file) = b.file {
            prop_assert_eq!(a.file, Some(file));
        }
    }
    prop_assert!(cartridge.objects() == tape.lock().unwrap().objects);
    double.finish();
    drop(scsi);
    prop_assert!(!tape.lock().unwrap().prevented, "the cartridge is let go");
    Ok(())
}

proptest! {
    #[test]
    fn any_steps_end_as_in_memory(
        which in 0usize..4,
        steps in prop::collection::vec(step(), 0..30),
    ) {
        let all = [Character::Standard, Character::Old, Character::NoLocate, Character::Tgt];
        same_as_memory(all[which], &steps)?;
    }

    #[test]
    fn any_position_data_is_taken(b in prop::collection::vec(any::<u8>(), 0..40)) {
        for form in [Form::Long, Form::Extended, Form::Short, Form::Blind] {
            if let Some(p) = form.parse(&b) {
                prop_assert_eq!(p.bop, p.object == 0);
            }
        }
    }

    #[test]
    fn any_attributes_are_walked(b in prop::collection::vec(any::<u8>(), 0..60), id in 0u16..4) {
        let _ = status::find_attribute(&b, id);
    }

    #[test]
    fn any_sense_ends_a_command(
        code in 0u8..16, asc in prop::sample::select(vec![0u8, 0x28, 0x29, 0x3a, 0x3b, 0x0c, 0x11]),
        ascq in 0u8..8, bits in 0u8..16, info in prop::option::of(any::<i64>()), write in any::<bool>(),
    ) {
        let (double, _) = fake(Character::Standard);
        let mut d = drive(&double);
        d.rewind().unwrap();
        let mut s = sense(SenseKey::of(code), asc, ascq);
        (s.filemark, s.eom, s.ili, s.deferred) =
            (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0, bits & 8 != 0);
        s.information = info;
        let cdb: [u8; 6] = match write {
            true => [op::WRITE_6, 0, 0, 0x20, 0, 0],
            false => [op::READ_6, 0, 0, 0x20, 0, 0],
        };
        double.always(&cdb, Reply::check(s));
        let mut buf = [0; 8192];
        if write {
            if let Ok(w) = d.write(&buf, 8192) {
                prop_assert!(w.taken <= 8192);
            }
        } else if let Ok(Read::Block(n)) = d.read(&mut buf) {
            prop_assert!(n <= 8192);
        }
        // Whatever it was, it is over after a rewind.
        d.rewind().unwrap();
        prop_assert_eq!(d.position().unwrap().object, 0);
    }
}

fn write_one(d: &mut ScsiDrive) -> Result<Written> {
    d.write(&[7; 4096], 4096)
}

const WRITE_4096: [u8; 6] = [op::WRITE_6, 0, 0, 0x10, 0, 0];

/// A drive that stands at the beginning, about to answer a write so.
fn about_to_say(s: Sense) -> (Arc<Double>, ScsiDrive) {
    let (double, _) = fake(Character::Standard);
    let mut d = drive(&double);
    d.rewind().unwrap();
    double.expect(&WRITE_4096, Reply::check(s));
    (double, d)
}

#[test]
fn early_warning_takes_the_block_and_stays_until_the_tape_moves() {
    for ascq in [2, 0, 7] {
        let mut s = no_sense(ascq);
        s.eom = true;
        let (_double, mut d) = about_to_say(s);
        let room = Room::EarlyWarning;
        let taken = 4096;
        assert_eq!(write_one(&mut d).unwrap(), Written { taken, room });
        assert_eq!(write_one(&mut d).unwrap(), Written { taken, room });
        assert!(d.position().unwrap().early_warning);
        d.locate(0).unwrap();
        let room = Room::Plenty;
        assert_eq!(write_one(&mut d).unwrap(), Written { taken, room });
    }
}

#[test]
fn the_end_of_the_medium_takes_nothing() {
    let mut full = sense(SenseKey::VolumeOverflow, 0, 2);
    full.eom = true;
    // The form that an emulator gives.
    let mut odd = no_sense(2).with_information(4096);
    odd.eom = true;
    for s in [full, odd] {
        let (_double, mut d) = about_to_say(s);
        let room = Room::Full;
        assert_eq!(write_one(&mut d).unwrap(), Written { taken: 0, room });
        assert_eq!(d.position().unwrap().object, 0);
    }
}

#[test]
fn a_deferred_error_is_about_what_was_written_before() {
    let mut s = sense(SenseKey::MediumError, 0x0c, 0);
    s.deferred = true;
    let (_double, mut d) = about_to_say(s);
    let e = write_one(&mut d).unwrap_err();
    assert!(e.message().contains("earlier"), "{e}");
    // Nothing goes on until somebody has looked where the tape stands.
    assert_eq!(write_one(&mut d).unwrap_err().kind(), ErrorKind::Scsi);
    d.locate(0).unwrap();
    write_one(&mut d).unwrap();
    // A recovered one: the write was not looked at, and is sent again.
    let mut s = sense(SenseKey::RecoveredError, 0x17, 0);
    s.deferred = true;
    let (double, mut d) = about_to_say(s);
    assert_eq!(write_one(&mut d).unwrap().taken, 4096);
    double.finish();
    assert_eq!(d.position().unwrap().object, 1);
}

#[test]
fn another_cartridge_is_noticed() {
    let s = sense(SenseKey::UnitAttention, 0x28, 0);
    let (_double, mut d) = about_to_say(s);
    let e = write_one(&mut d).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Scsi);
    for _ in 0..2 {
        assert!(write_one(&mut d).is_err());
        assert!(d.locate(0).is_err() && d.position().is_err() && d.end_of_data().is_err());
        assert!(d.read(&mut [0; 4096]).is_err() && d.write_filemarks(1).is_err());
    }
    d.load().unwrap();
    assert_eq!(d.position().unwrap().object, 0);
    write_one(&mut d).unwrap();
}

#[test]
fn a_cartridge_that_is_changed_behind_another_user_of_the_unit_is_noticed() {
    let (double, _) = fake(Character::Standard);
    let unit = Unit::new(double.clone());
    let mut d = ScsiDrive::open(unit.clone()).unwrap();
    d.rewind().unwrap();
    double.expect(
        &[0; 6],
        Reply::check(sense(SenseKey::UnitAttention, 0x28, 0)),
    );
    unit.test_ready().unwrap();
    assert!(d.read(&mut [0; 4096]).is_err());
    d.rewind().unwrap();
    assert_eq!(d.read(&mut [0; 4096]).unwrap(), Read::EndOfData);
}

#[test]
fn after_a_reset_the_mode_is_set_again_and_the_place_is_asked_for() {
    let (double, tape) = fake(Character::Standard);
    let mut d = drive(&double);
    d.rewind().unwrap();
    d.write(&[1; 100], 50).unwrap();
    {
        let mut t = tape.lock().unwrap();
        (t.at, t.block_len, t.buffered) = (0, 512, false);
    }
    double.expect(
        &[op::WRITE_6, 0, 0, 0, 50, 0],
        Reply::check(sense(SenseKey::UnitAttention, 0x29, 0)),
    );
    assert!(d.write(&[1; 50], 50).is_err());
    assert!(
        d.write(&[1; 50], 50).is_err(),
        "it would overwrite the first"
    );
    d.end_of_data().unwrap();
    d.write(&[2; 50], 50).unwrap();
    assert_eq!(tape.lock().unwrap().objects.len(), 3);
}

#[test]
fn a_broken_connection_leaves_the_place_unknown() {
    let (double, _) = fake(Character::Standard);
    let mut d = drive(&double);
    d.rewind().unwrap();
    double.expect(&WRITE_4096, Reply::broken());
    assert_eq!(write_one(&mut d).unwrap_err().kind(), ErrorKind::Io);
    assert!(write_one(&mut d).is_err());
    d.locate(0).unwrap();
    write_one(&mut d).unwrap();
}

#[test]
fn an_empty_drive_says_so() {
    let (double, _) = fake(Character::Standard);
    let none = Reply::check(sense(SenseKey::NotReady, 0x3a, 0));
    double.always(&[0; 6], none.clone());
    double.always(&[op::LOAD_UNLOAD, 0, 0, 0, 1, 0], none);
    let mut d = drive(&double);
    assert_eq!(d.info().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(d.load().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(d.unload().unwrap_err().kind(), ErrorKind::NotFound);
    let told = status(&Unit::new(double)).unwrap();
    assert_eq!(told.not_ready.as_deref(), Some("no cartridge"));
}

#[test]
fn a_write_protected_cartridge_and_a_bad_block_have_their_kind() {
    let (_double, mut d) = about_to_say(sense(SenseKey::DataProtect, 0x27, 0));
    assert_eq!(write_one(&mut d).unwrap_err().kind(), ErrorKind::Refused);
    let (double, _) = fake(Character::Standard);
    let mut d = drive(&double);
    d.rewind().unwrap();
    double.expect(
        &[op::READ_6, 0, 0, 0x10, 0, 0],
        Reply::check(sense(SenseKey::MediumError, 0x11, 0)),
    );
    let e = d.read(&mut [0; 4096]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unreadable);
    assert!(d.read(&mut [0; 4096]).is_err());
}

#[test]
fn a_disk_is_no_tape_drive() {
    let double = Double::new("disk");
    double.always(
        &[op::INQUIRY, 0, 0, 0, 96, 0],
        Reply::data([[0, 0, 5, 2, 31].as_slice(), &[b' '; 31]].concat()),
    );
    let e = ScsiDrive::open(Unit::new(double)).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Usage);
}

#[test]
fn a_reservation_conflict_is_refused_and_a_reservation_is_given_back() {
    let (double, _) = fake(Character::Standard);
    let mut d = drive(&double);
    assert!(!d.reserve().unwrap());
    double.expect(
        &[op::RESERVE_6, 0, 0, 0, 0, 0],
        Reply::status(Status::ReservationConflict),
    );
    assert_eq!(d.reserve().unwrap_err().kind(), ErrorKind::Refused);
    double.expect(&[op::RESERVE_6, 0, 0, 0, 0, 0], Reply::good());
    assert!(d.reserve().unwrap());
    drop(d);
    assert_eq!(double.sent().last().unwrap().cdb[0], op::RELEASE_6);
}

#[test]
fn blocks_that_do_not_fit_are_refused_before_they_are_sent() {
    let (double, _) = fake(Character::Standard);
    let mut d = drive(&double);
    d.rewind().unwrap();
    assert_eq!(d.info().unwrap().max_block, 1 << 20);
    let e = d.write(&[0; 10], (1 << 20) + 1).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Usage);
    assert!(d.write(&[0; 10], 0).is_err());
    assert!(d.write_filemarks(u32::MAX).is_err());
}

#[test]
fn room_alerts_and_the_cartridge_are_told_without_moving_it() {
    let (double, tape) = fake(Character::Standard);
    let mut log = [0x4d, 0, 0x40 | 0x31, 0, 0, 0, 0, 0x40, 0, 0];
    double.always(
        &log,
        Reply::data([
            0x31, 0, 0, 16, 0, 1, 0xc0, 4, 0, 0, 0, 100, 0, 3, 0xc0, 4, 0, 0, 0, 200,
        ]),
    );
    log[2] = 0x40 | 0x2e;
    double.always(
        &log,
        Reply::data([0x2e, 0, 0, 10, 0, 19, 0xc0, 1, 0, 0, 20, 0xc0, 1, 1]),
    );
    let mut attribute = [0; 16];
    attribute[0] = op::READ_ATTRIBUTE;
    (attribute[8], attribute[9], attribute[12]) = (0x08, 0x06, 0x10);
    let mut reply = vec![0, 0, 0, 37, 8, 6, 1, 0, 32];
    reply.extend(b"A00001L8                        ");
    double.always(&attribute, Reply::data(reply));
    tape.lock().unwrap().objects = vec![None; 3];
    tape.lock().unwrap().at = 2;
    let told = status(&Unit::new(double.clone())).unwrap();
    let capacity = told.capacity.unwrap();
    assert_eq!(
        (capacity.remaining, capacity.maximum),
        (100 << 20, 200 << 20)
    );
    let flags: Vec<u16> = told.alerts.iter().map(|a| a.flag).collect();
    assert_eq!(flags, [20]);
    assert_eq!(told.cartridge.unwrap().barcode.as_deref(), Some("A00001L8"));
    assert_eq!(told.position.unwrap().object, 2);
    assert_eq!(told.block_bytes, Some(512));
    let t = tape.lock().unwrap();
    assert_eq!((t.at, t.block_len, t.prevented), (2, 512, false));
}

#[test]
fn room_is_found_in_the_memory_of_the_cartridge_too() {
    let (double, _) = fake(Character::Standard);
    for (id, n) in [(0u8, 5u8), (1, 9)] {
        let mut cdb = [0; 16];
        (cdb[0], cdb[9], cdb[12]) = (op::READ_ATTRIBUTE, id, 0x10);
        double.always(
            &cdb,
            Reply::data([0, 0, 0, 13, 0, id, 0x80, 0, 8, 0, 0, 0, 0, 0, 0, 0, n]),
        );
    }
    let room = drive(&double).capacity().unwrap().unwrap();
    assert_eq!((room.remaining, room.maximum), (5 << 20, 9 << 20));
    let (double, _) = fake(Character::Tgt);
    assert_eq!(drive(&double).capacity().unwrap(), None);
}

#[test]
fn positions_that_contradict_themselves_are_not_believed() {
    // Zeros without BOP: what tgt answers.
    assert_eq!(
        Form::Long.parse(&[[0x20].as_slice(), &[0; 31]].concat()),
        None
    );
    let mut b = [0; 32];
    b[15] = 7;
    b[23] = 3;
    let p = Form::Long.parse(&b).unwrap();
    assert_eq!((p.object, p.file), (7, Some(3)));
    b[0] = 0x08;
    assert_eq!(Form::Long.parse(&b).unwrap().file, None);
    b[0] = 0x04;
    assert_eq!(Form::Long.parse(&b), None);
    // BOP at block 1, as mhvtl has it.
    let mut b = [0; 20];
    (b[0], b[7]) = (0x90, 1);
    let p: Position = Form::Short.parse(&b).unwrap();
    assert!(!p.bop && p.object == 1);
}
