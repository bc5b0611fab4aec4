mod files;
mod memory;
mod property;

use crate::copy::oracle::{Disk, Tape};
use crate::scsi::{Sense, SenseKey, Status};
use crate::target::lun::{Nexus, Reply, Units};
use memory::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const T: u32 = 65_536;

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u8).wrapping_mul(29) ^ (i >> 8) as u8 ^ seed | 1)
        .collect()
}

/// LUN 0 a full disk, LUN 1 a tape, LUN 2 an empty disk.
fn bench(profile: &str) -> (Bench, Nexus) {
    let mut disk = Disk::new(512, 16_384);
    disk.fill(0, &pattern(16_384 * 512, 5));
    let b = Bench::new(
        profile,
        vec![
            Memory::disk(disk),
            Memory::tape(Tape::default()),
            Memory::disk(Disk::new(512, 16_384)),
        ],
    );
    let n = b.session(1);
    (b, n)
}

fn cscds(b: &Bench) -> Vec<Vec<u8>> {
    vec![
        b.cscd(0, false, 512),
        b.cscd(1, true, 0),
        b.cscd(2, false, 512),
    ]
}

fn sense(r: &Reply) -> &Sense {
    assert_eq!(r.status, Status::CheckCondition, "{r:?}");
    r.sense.as_ref().unwrap()
}

/// Key, code, segment, and the three bytes of the field pointer.
fn told(r: &Reply) -> (SenseKey, u16, u64, Option<[u8; 3]>) {
    let s = sense(r);
    (s.key, s.code(), s.command_specific, s.sense_key_specific)
}

fn backup(b: &Bench, id: u8) -> Vec<u8> {
    list(
        id,
        0,
        &cscds(b),
        &[
            inline(true, 1, T, 0, 512),
            stream(0, true, 0, 1, T, 8192, 0),
            stream(0, true, 0, 1, T, 3, 9000),
            stream(0, false, 0, 1, T, 1000, 12_000),
            motion(0x10, 1, 1),
        ],
        &[7; 512],
    )
}

fn expected() -> Vec<u8> {
    let disk = pattern(16_384 * 512, 5);
    let mut out = vec![7; 512];
    for (lba, n) in [(0, 8192), (9000, 3), (12_000, 1000)] {
        out.extend(&disk[lba * 512..(lba + n) * 512]);
    }
    out.resize(out.len().next_multiple_of(T as usize), 0);
    out
}

#[test]
fn backup_and_restore() {
    let (b, n) = bench("full-ntbak");
    assert_eq!(b.copy(&n, &backup(&b, 1)).status, Status::Good);
    let tape = b.devices[1].tape_now();
    assert!(tape.stream(0) == expected());
    assert_eq!(tape.shape().last(), Some(&0));
    let r = b.results(&n, 0, 1, 100);
    let bytes = expected().len() as u32;
    let mut status = vec![0, 0, 0, 8, 1, 0, 5, 0];
    status.extend(bytes.to_be_bytes());
    assert_eq!(r.data_in, status);
    // Fetched once, it is gone.
    assert_eq!(sense(&b.results(&n, 0, 1, 100)).code(), 0x2400);

    let l = list(
        2,
        0,
        &[b.cscd(2, false, 512), b.cscd(1, true, 0)],
        &[
            motion(0x12, 1, 0),
            discard(0x0f, true, 1, T, 512),
            stream(1, true, 1, 0, T, 8192, 0),
            stream(1, true, 1, 0, T, 3, 9000),
            stream(1, false, 1, 0, T, 1000, 12_000),
        ],
        &[],
    );
    assert_eq!(b.copy(&n, &l).status, Status::Good);
    let disk = b.devices[2].disk_now();
    let from = b.devices[0].disk_now();
    for (lba, blocks) in [(0, 8192), (9000, 3), (12_000, 1000)] {
        assert!(disk.bytes(lba, blocks * 512) == from.bytes(lba, blocks * 512));
    }
    assert_eq!(disk.data.len(), 8192 + 3 + 1000);
    let held = b.results(&n, 1, 2, 1000).data_in;
    assert_eq!((&held[..4], &held[4..]), (&[0, 0, 2, 0][..], &[7; 512][..]));
    assert_eq!(sense(&b.results(&n, 1, 2, 1000)).code(), 0x2400);
    assert_eq!(b.results(&n, 4, 2, 1000).data_in, [0; 4]);
    // Writes of the copy manager are counted where an initiator would see them.
    assert_eq!(b.set.units()[2].statistics().counted().blocks_written, 9195);
    assert_eq!(b.set.units()[1].statistics().counted().blocks_written, 72);
}

#[test]
fn refusals_before_the_first_segment() {
    let (b, n) = bench("full-ntbak");
    let good = backup(&b, 1);
    assert_eq!(b.send(&n, 0, &copy_cdb(0), &[]).status, Status::Good);
    assert_eq!(sense(&b.send(&n, 0, &copy_cdb(300), &good)).code(), 0x1a00);
    let mut l = good.clone();
    l[16] = 0xe0;
    assert_eq!(
        told(&b.copy(&n, &l)),
        (SenseKey::IllegalRequest, 0x2607, 0, Some([0x80, 0, 16]))
    );
    l = good.clone();
    l[16 + 96] = 0x03;
    assert_eq!(
        told(&b.copy(&n, &l)),
        (SenseKey::IllegalRequest, 0x2609, 0, Some([0x80, 0, 112]))
    );
    // LID4 is not there, nor are its results.
    let mut cdb = copy_cdb(0);
    cdb[1] = 1;
    assert_eq!(sense(&b.send(&n, 0, &cdb, &[])).code(), 0x2400);
    assert_eq!(sense(&b.results(&n, 5, 1, 100)).code(), 0x2400);
    assert_eq!(b.devices[1].tape_now().objects.len(), 0);
    let many = vec![b.cscd(0, false, 512); 65];
    let r = b.copy(&n, &list(1, 0, &many, &[], &[]));
    assert_eq!(told(&r).1, 0x2606);
    let many = vec![motion(0x10, 1, 0); 1025];
    assert_eq!(
        told(&b.copy(&n, &list(1, 0, &cscds(&b), &many, &[]))).1,
        0x2608
    );
    let embedded = seg(5, true, 0, 1, &[&[0; 65_528]]);
    assert_eq!(
        told(&b.copy(
            &n,
            &list(1, 0, &cscds(&b), &[embedded.clone(), embedded], &[])
        ))
        .1,
        0x1a00
    );
}

#[test]
fn failures_name_segment_and_side() {
    let (b, n) = bench("full-ntbak");
    b.devices[0]
        .disk
        .as_ref()
        .unwrap()
        .lock()
        .unwrap()
        .bad
        .insert(300);
    let r = b.copy(&n, &backup(&b, 9));
    let s = sense(&r);
    assert_eq!(
        (s.key, s.code(), s.command_specific),
        (SenseKey::CopyAborted, 0x0d01, 1)
    );
    let source = Sense::decode(&s.source.as_ref().unwrap().sense).unwrap();
    assert_eq!((source.key, source.code()), (SenseKey::MediumError, 0x1100));
    // Whole blocks in front of it are on the tape; the residual says what is not.
    let whole = (512 + 300 * 512) / u64::from(T);
    assert_eq!(b.devices[1].tape_now().objects.len() as u64, whole);
    assert_eq!(
        s.information,
        Some(8192 * 512 / i64::from(T) * i64::from(T) - whole as i64 * i64::from(T))
    );
    let d = b.results(&n, 4, 9, 1000).data_in;
    assert_eq!(
        u32::from_be_bytes([d[0], d[1], d[2], d[3]]) as usize + 4,
        d.len()
    );
    assert_eq!(d[56], 2);
    let told = Sense::decode(&d[60..]).unwrap();
    assert_eq!(
        (told.key, told.command_specific),
        (SenseKey::CopyAborted, 1)
    );
    assert_eq!(b.results(&n, 0, 9, 12).data_in[4], 2);

    // Early warning: the block that met it is written, and the command fails.
    let (b, n) = bench("full-ntbak");
    b.devices[1].early.store(3, Ordering::Relaxed);
    let r = b.copy(&n, &backup(&b, 9));
    let s = sense(&r);
    let d = Sense::decode(&s.destination.as_ref().unwrap().sense).unwrap();
    assert!(d.eom && d.key == SenseKey::NoSense);
    assert_eq!(b.devices[1].tape_now().objects.len(), 3);
}

#[test]
fn what_stands_in_the_way_of_a_unit() {
    let (b, n) = bench("full-ntbak");
    // Write protection of the destination.
    b.devices[1].protected.store(true, Ordering::Relaxed);
    let r = b.copy(&n, &backup(&b, 1));
    let d = sense(&r).destination.clone().unwrap();
    assert_eq!(Sense::decode(&d.sense).unwrap().code(), 0x2700);
    b.devices[1].protected.store(false, Ordering::Relaxed);
    // Somebody else's reservation, of destination and source.
    let other = b.session(2);
    for (lun, source) in [(1, false), (0, true)] {
        let reserve = [0x16, 0, 0, 0, 0, 0];
        assert_eq!(b.send(&other, lun, &reserve, &[]).status, Status::Good);
        let l = backup(&b, 2);
        let r = b.send(&n, 2, &copy_cdb(l.len()), &l);
        let s = sense(&r);
        let f = if source { &s.source } else { &s.destination };
        assert_eq!(
            f.as_ref().unwrap().status,
            Status::ReservationConflict.code()
        );
        b.send(&other, lun, &[0x17, 0, 0, 0, 0, 0], &[]);
    }
    // A pending unit attention of the session is not the copy's business.
    b.set.units()[1].attentions().raise((0x28, 0), |x| *x == n);
    assert_eq!(b.copy(&n, &backup(&b, 3)).status, Status::Good);
    assert_eq!(sense(&b.send(&n, 1, &[0; 6], &[])).code(), 0x2800);
    // 07h says whether a unit is ready when it is asked to.
    b.devices[2].slow.store(9999, Ordering::Relaxed);
    let verify = |tur: u8| {
        list(
            4,
            0,
            &cscds(&b),
            &[seg(7, false, 2, 0, &[&[tur, 0, 0, 0]])],
            &[],
        )
    };
    assert_eq!(b.copy(&n, &verify(0)).status, Status::Good);
    assert_eq!(sense(&b.copy(&n, &verify(1))).code(), 0x0d01);
    // Asked by TEST UNIT READY, a reserved unit is one that cannot be used.
    b.devices[2].slow.store(0, Ordering::Relaxed);
    b.send(&other, 2, &[0x16, 0, 0, 0, 0, 0], &[]);
    assert_eq!(b.copy(&n, &verify(0)).status, Status::Good);
    let r = b.copy(&n, &verify(1));
    let f = sense(&r).source.clone().unwrap();
    assert_eq!(f.status, Status::ReservationConflict.code());
}

#[test]
fn keys_are_registered_for_the_session() {
    let (b, n) = bench("full-ntbak");
    let other = b.session(2);
    let key = |old: u64, new: u64| [old.to_be_bytes(), new.to_be_bytes()].concat();
    let register = seg(0x14, false, 0, 1, &[&key(0, 77), &[0; 4]]);
    assert_eq!(
        b.copy(
            &n,
            &list(1, 0, &cscds(&b), std::slice::from_ref(&register), &[])
        )
        .status,
        Status::Good
    );
    let keys = b
        .send(&other, 1, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0], &[])
        .data_in;
    assert_eq!(keys[8..16], 77u64.to_be_bytes());
    // Another one with the wrong old key conflicts.
    let r = b.copy(&n, &list(1, 0, &cscds(&b), &[register], &[]));
    assert_eq!(sense(&r).destination.as_ref().unwrap().status, 0x18);
}

#[test]
fn list_ids() {
    let (b, n) = bench("full-ntbak");
    b.devices[0].slow.store(60, Ordering::Relaxed);
    let b = Arc::new(b);
    let l = backup(&b, 5);
    std::thread::scope(|s| {
        let copy = s.spawn(|| b.copy(&n, &l));
        let status = || b.results(&n, 0, 5, 12);
        while status().status != Status::Good {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(status().data_in[4] & 0x7f, 0);
        // In use: by a second command, and for what comes only at the end.
        assert_eq!(sense(&b.copy(&n, &l)).code(), 0x0016);
        assert_eq!(sense(&b.results(&n, 1, 5, 100)).code(), 0x2400);
        // The same id of another session is another copy.
        let other = b.session(2);
        assert_eq!(sense(&b.results(&other, 0, 5, 12)).code(), 0x2400);
        let mut abort = [0; 16];
        (abort[0], abort[1], abort[5]) = (0x83, 0x1c, 5);
        assert_eq!(sense(&b.send(&other, 0, &abort, &[])).code(), 0x2400);
        assert_eq!(b.send(&n, 0, &abort, &[]).status, Status::Good);
        let r = copy.join().unwrap();
        assert_eq!(
            (sense(&r).key, sense(&r).code()),
            (SenseKey::CopyAborted, 0x2f02)
        );
    });
    // No id: only where it is allowed.
    b.devices[0].slow.store(0, Ordering::Relaxed);
    let l = list(0, 3, &cscds(&b), &[motion(0x10, 1, 1)], &[]);
    assert_eq!(told(&b.copy(&n, &l)).3, Some([0x8c, 0, 1]));
    // A session that ends takes its results along.
    assert_eq!(b.copy(&n, &backup(&b, 6)).status, Status::Good);
    b.set.nexus_lost(&n);
    let n = b.session(1);
    assert_eq!(sense(&b.results(&n, 0, 6, 12)).code(), 0x2400);
}

#[test]
fn task_management_ends_a_copy() {
    let (b, n) = bench("full-ntbak");
    b.devices[0].slow.store(30, Ordering::Relaxed);
    let cancel = AtomicBool::new(false);
    let l = backup(&b, 5);
    std::thread::scope(|s| {
        let copy = s.spawn(|| b.send_with(&n, 0, &copy_cdb(l.len()), &l, &cancel));
        std::thread::sleep(Duration::from_millis(20));
        cancel.store(true, Ordering::Relaxed);
        assert_eq!(copy.join().unwrap().status, Status::TaskAborted);
    });
    assert!(b.devices[1].tape_now().objects.len() < 70);
}

#[test]
fn results_are_bounded() {
    let (b, n) = bench("full-ntbak");
    for id in 0..=40 {
        let l = list(id, 0, &cscds(&b), &[motion(0x10, 1, 1)], &[]);
        assert_eq!(b.copy(&n, &l).status, Status::Good);
    }
    assert_eq!(sense(&b.results(&n, 0, 3, 12)).code(), 0x2400);
    assert_eq!(b.results(&n, 0, 40, 12).status, Status::Good);
}

#[test]
fn held_data_keeps_the_newest() {
    let (b, n) = bench("full-ntbak");
    let l = list(
        1,
        0,
        &cscds(&b),
        &[stream(0x0b, false, 0, 1, T, 256, 0)],
        &[],
    );
    assert_eq!(b.copy(&n, &l).status, Status::Good);
    assert_eq!(b.results(&n, 0, 1, 12).data_in[4], 0x81);
    let held = b.results(&n, 1, 1, 70_000).data_in;
    assert!(held[4..] == pattern(16_384 * 512, 5)[65_536..131_072]);
    // Asking for nothing throws it away.
    assert_eq!(b.copy(&n, &l).status, Status::Good);
    assert!(b.results(&n, 1, 1, 0).data_in.is_empty());
    assert_eq!(sense(&b.results(&n, 1, 1, 100)).code(), 0x2400);
}

#[test]
fn injected_faults() {
    let fails = |fault: &str| {
        let (b, n) = bench(&format!("full-ntbak,{fault}"));
        let r = b.copy(&n, &backup(&b, 1));
        let objects = b.devices[1].tape_now().objects.len();
        // Once only: the next copy is well.
        let again = b.copy(&n, &backup(&b, 2)).status;
        let s = sense(&r).clone();
        let of = |f: &Option<crate::scsi::Forwarded>| {
            f.as_ref()
                .map(|f| (f.status, Sense::decode(&f.sense).map(|s| (s.key, s.code()))))
        };
        (
            s.command_specific,
            objects,
            of(&s.source),
            of(&s.destination),
            again,
        )
    };
    let medium = Some((2, Some((SenseKey::MediumError, 0x1100))));
    assert_eq!(
        fails("fail=segment:1@131072:source"),
        (1, 2, medium, None, Status::Good)
    );
    let medium = Some((2, Some((SenseKey::MediumError, 0x0c00))));
    assert_eq!(
        fails("fail=segment:1@131072:tape"),
        (1, 2, None, medium, Status::Good)
    );
    let warning = Some((2, Some((SenseKey::NoSense, 0x0002))));
    assert_eq!(
        fails("fail=segment:1@131072:early-warning"),
        (1, 3, None, warning, Status::Good)
    );
    let attention = Some((2, Some((SenseKey::UnitAttention, 0x2900))));
    assert_eq!(
        fails("fail=segment:2@0:attention"),
        (2, 64, attention, None, Status::Good)
    );
    assert_eq!(
        fails("fail=segment:4@0:busy"),
        (4, 72, None, Some((8, None)), Status::Good)
    );
    assert_eq!(fails("fail=segment:3@65536:reserved").3, Some((0x18, None)));

    let (b, n) = bench("full-ntbak,busy=1,attention=1,lost-id=1,discard-held=1,late-status=40");
    assert_eq!(b.copy(&n, &backup(&b, 1)).status, Status::Busy);
    assert_eq!(sense(&b.copy(&n, &backup(&b, 1))).code(), 0x2900);
    assert_eq!(b.copy(&n, &backup(&b, 1)).status, Status::Good);
    assert_eq!(sense(&b.results(&n, 0, 1, 12)).code(), 0x2400);
    assert_eq!(b.copy(&n, &backup(&b, 1)).status, Status::Good);
    assert_eq!(b.results(&n, 0, 1, 12).data_in[4], 0);
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(b.results(&n, 0, 1, 12).data_in[4], 1);
}

#[test]
fn source_fault_of_a_tape() {
    let (b, n) = bench("full-ntbak,fail=command:2/segment:1@131072:source");
    assert_eq!(b.copy(&n, &backup(&b, 1)).status, Status::Good);
    let l = list(
        2,
        0,
        &cscds(&b),
        &[motion(0x12, 1, 0), stream(1, false, 1, 2, T, 1024, 0)],
        &[],
    );
    let s = sense(&b.copy(&n, &l)).clone();
    assert_eq!((s.command_specific, s.code()), (1, 0x0d01));
    assert_eq!(b.devices[1].tape_now().position, 2);
    assert!(b.devices[2].disk_now().bytes(0, 2 * T as usize) == expected()[..2 * T as usize]);
    assert_eq!(b.devices[2].disk_now().data.len(), 256);
}

#[test]
fn profiles_offer_what_they_say() {
    // E0h: port name and number, and no page.
    let (b, n) = bench("xp-dbe");
    let e0 = |lun: u64, kind: u8, pad: u8, block: u32| {
        let mut d = vec![0xe0, kind, 0, 0];
        d.extend((lun << 48).to_be_bytes());
        d.extend(super::port_name("iqn.test:target").to_be_bytes());
        d.resize(28, 0);
        d.extend(block.to_be_bytes());
        d[28] = pad;
        d
    };
    let l = list(
        1,
        0,
        &[e0(0, 0, 0, 512), e0(1, 1, 4, 0)],
        &[stream(0, false, 0, 1, T, 100, 8)],
        &[],
    );
    assert_eq!(b.copy(&n, &l).status, Status::Good);
    assert_eq!(b.devices[1].tape_now().shape(), [T as usize]);
    assert_eq!(sense(&b.results(&n, 1, 1, 100)).code(), 0x2400);
    let inquiry = |b: &Bench, page: u8| b.send(&n, 0, &[0x12, 1, page, 1, 0, 0], &[]);
    assert!(!inquiry(&b, 0).data_in.contains(&0x8f));

    let (b, _) = bench("full-ntbak");
    assert!(inquiry(&b, 0).data_in.contains(&0x8f));
    assert!(inquiry(&b, 0x8f).data_in.len() > 100);
    let p = b.results(&n, 3, 0, 1024).data_in;
    assert_eq!(p.len(), 44 + usize::from(p[43]));
    assert!(!p[44..].contains(&3) && !p[44..].contains(&0xe0));
}

#[test]
fn limits_of_a_profile_are_kept() {
    let (b, n) = bench("tiny");
    let two = &cscds(&b)[..2];
    let t = 32_768;
    let copy = |segments: &[Vec<u8>]| told(&b.copy(&n, &list(1, 0, two, segments, &[])));
    let whole = |cat| stream(0, cat, 0, 1, t, 128, 0);
    // 65,536 bytes in a segment, 131,072 in a command, 32,768 in a tape block.
    let far = stream(0, false, 0, 1, t, 129, 0);
    assert_eq!(
        copy(&[far]),
        (SenseKey::CopyAborted, 0x2600, 0, Some([0xa0, 0, 14]))
    );
    let l = list(1, 0, two, &[whole(true), whole(false)], &[]);
    assert_eq!(b.copy(&n, &l).status, Status::Good);
    let large = stream(0, false, 0, 1, T, 128, 0);
    assert_eq!(
        copy(&[large]),
        (SenseKey::IllegalRequest, 0x2600, 0, Some([0x80, 0, 89]))
    );
    let third = vec![whole(true); 3];
    assert_eq!(copy(&third).1, 0x2608);
    assert_eq!(
        told(&b.copy(&n, &list(1, 0, &cscds(&b), &[], &[]))).1,
        0x2606
    );
    let data = list(1, 0, two, &[], &[0; 516]);
    assert_eq!(
        told(&b.copy(&n, &data)),
        (SenseKey::IllegalRequest, 0x260b, 0, Some([0x80, 0, 12]))
    );
    // Inline data in units of 512 bytes.
    let odd = list(1, 0, two, &[inline(false, 1, t, 0, 100)], &[0; 100]);
    assert_eq!(
        told(&b.copy(&n, &odd)),
        (SenseKey::CopyAborted, 0x260d, 0, Some([0xa0, 0, 16]))
    );
    assert_eq!(
        told(&b.copy(&n, &list(1, 0, two, &[discard(15, true, 1, t, 512)], &[]))).1,
        0x2609
    );
}

#[test]
fn two_sessions_at_once() {
    let (b, n) = bench("full-ntbak");
    let m = b.session(2);
    let l = backup(&b, 1);
    std::thread::scope(|s| {
        for who in [&n, &m] {
            let (b, l) = (&b, &l);
            s.spawn(move || assert_eq!(b.copy(who, l).status, Status::Good));
        }
    });
    // One behind the other, whichever came first.
    let tape = b.devices[1].tape_now();
    let one = expected().len() / T as usize;
    assert_eq!(tape.objects.len(), 2 * (one + 1));
    assert!(tape.stream(0) == expected() && tape.stream(one + 1) == expected());
}
