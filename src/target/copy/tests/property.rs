//! Random lists on the copy manager and on the oracle give the same: devices,
//! held data, counts and failures.

use super::memory::*;
use crate::copy::oracle::{Device as Model, Disk, Object, Tape};
use crate::copy::oracle::{Model as Oracle, Outcome};
use crate::copy::parse::{Field, parse};
use crate::copy::profile;
use crate::scsi::{Forwarded, Sense, Status};
use proptest::prelude::*;

/// A segment from random numbers. CSCDs 0 to 3 are disks (two units, twice), 4
/// to 7 tapes in the same way; 8 does not exist.
#[derive(Clone, Debug)]
struct Draw {
    kind: u8,
    cat: bool,
    dc: bool,
    from: u16,
    to: u16,
    stl: u32,
    small: u16,
    large: u32,
    lba: u16,
    offset: u16,
}

fn draw() -> impl Strategy<Value = Draw> {
    let stl = prop_oneof![
        Just(2048u32),
        Just(2048),
        Just(2048),
        Just(1000),
        Just(4096)
    ];
    let ids = (0u16..4, 0u16..4);
    let place = (0u16..120, prop_oneof![Just(0u16), 0u16..1500]);
    (
        0u8..24,
        prop::bool::weighted(0.75),
        any::<bool>(),
        ids,
        stl,
        0u16..24,
        0u32..9000,
        place,
    )
        .prop_map(
            |(kind, cat, dc, (from, to), stl, small, large, (lba, offset))| Draw {
                kind,
                cat,
                dc,
                from,
                to,
                stl,
                small,
                large,
                lba,
                offset,
            },
        )
}

fn segment(d: &Draw) -> Vec<u8> {
    let (df, dt, tf, tt) = (d.from, d.to, d.from + 4, d.to + 4);
    let lba = u64::from(d.lba);
    let range = |code: u8, from: u16, to: u16| {
        let head = [d.stl.to_be_bytes(), d.large.to_be_bytes()].concat();
        let place = [&lba.to_be_bytes()[..], &[0, 0], &d.offset.to_be_bytes()].concat();
        seg(code, d.cat, from, to, &[&head, &place])
    };
    match d.kind {
        0..=2 => stream(0, d.cat, df, tt, d.stl, d.small, lba),
        3 | 4 => stream(1, d.cat, tf, dt, d.stl, d.small, lba),
        5 => blocks(
            2,
            u8::from(d.cat) | u8::from(d.dc) << 1,
            df,
            dt,
            d.small,
            lba,
            100,
        ),
        6 => seg(
            3,
            d.cat,
            tf,
            tt,
            &[
                &d.stl.to_be_bytes(),
                &2048u32.to_be_bytes(),
                &d.large.to_be_bytes(),
            ],
        ),
        7 => inline(d.cat, tt, d.stl, u32::from(d.small) * 4, d.large % 500),
        8 => {
            let n = d.small;
            let data: Vec<u8> = (0..n.next_multiple_of(4)).map(|i| i as u8).collect();
            let mut s = seg(
                5,
                d.cat,
                0,
                tt,
                &[&d.stl.to_be_bytes(), &n.to_be_bytes(), &[0, 0], &data],
            );
            s[1] = d.cat.into();
            s
        }
        9 => discard(6, d.cat, tf, d.stl, d.large),
        10 => discard(15, d.cat, tf, d.stl, d.large),
        11 => range(8, df, tt),
        12 => range(9, tf, dt),
        13 => {
            let (n, o) = (d.large.to_be_bytes(), d.offset.to_be_bytes());
            let body = [
                &n[..],
                &lba.to_be_bytes(),
                &90u64.to_be_bytes(),
                &o,
                &[0, 100],
            ]
            .concat();
            seg(10, d.cat, df, dt, &[&body])
        }
        14 => stream(0x0b, d.cat, df, tt, d.stl, d.small, lba),
        15 => stream(0x0c, d.cat, tf, dt, d.stl, d.small, lba),
        16 => blocks(
            0x0d,
            u8::from(d.cat) | u8::from(d.dc) << 1,
            df,
            dt,
            d.small,
            lba,
            100,
        ),
        17 => motion(0x10, tt, u32::from(d.small % 3)),
        18 => motion(
            0x11,
            tt,
            u32::from(d.small % 4) << 24 | (u32::from(d.lba % 5).wrapping_sub(2) & 0xff_ffff),
        ),
        19 | 20 => motion(0x12, tt, u32::from(d.small % 9)),
        21 => seg(7, false, df, 0, &[&[1, 0, 0, 0]]),
        // What is for a tape sent to a disk, and a CSCD that is not there.
        22 => motion(0x10, dt, 1),
        _ => stream(0, d.cat, df, 8, d.stl, d.small, lba),
    }
}

fn filled(block: u32, blocks: u64, seed: u8) -> Disk {
    let mut d = Disk::new(block, blocks);
    d.fill(0, &super::pattern(blocks as usize * block as usize, seed));
    d
}

fn faults(f: &Option<Forwarded>) -> Option<(u8, u16)> {
    let s = Sense::decode(&f.as_ref()?.sense)?;
    Some((s.key as u8, s.code()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn lists_do_what_the_model_says(
        draws in prop::collection::vec(draw(), 1..10),
        pads in prop::collection::vec(any::<bool>(), 8),
        tape in prop::collection::vec(prop_oneof![Just(2048usize), Just(2048), Just(2048), Just(2048), Just(0), Just(1000)], 0..12),
        position in 0usize..12,
        bad in prop::option::weighted(0.2, 0u64..140),
        usage in prop_oneof![Just(0u8), Just(2)],
        fixed in any::<bool>(),
    ) {
        let objects: Vec<Object> = tape.iter().enumerate().map(|(i, n)| match n {
            0 => Object::Mark,
            n => Object::Block(super::pattern(*n, i as u8)),
        }).collect();
        let position = position.min(objects.len());
        let mut first = filled(512, 150, 1);
        first.bad.extend(bad);
        let devices = vec![
            Memory::disk(first.clone()),
            Memory::disk(filled(1024, 150, 2)),
            Memory::tape(Tape { objects: objects.clone(), position }),
            Memory::tape(Tape::default()),
        ];
        let b = Bench::new("full-spc", devices);
        let n = b.session(1);
        let mut cscds: Vec<Vec<u8>> = (0..8).map(|i| {
            let lun = i / 4 * 2 + i % 2;
            b.cscd(lun, pads[i], [512, 1024, 0, 0][lun])
        }).collect();
        if fixed {
            // Several blocks of 2 bytes in one transfer.
            cscds[7][28] |= 1;
            cscds[7][31] = 2;
        }
        let segments: Vec<Vec<u8>> = draws.iter().map(segment).collect();
        let bytes = list(7, usage, &cscds, &segments, &super::pattern(200, 9));

        let limits = profile::find("full-spc").unwrap().enforced.clone();
        let parsed = parse(&bytes, &limits);
        let reply = b.copy(&n, &bytes);
        let Ok(parsed) = parsed else {
            prop_assert_eq!(parsed.unwrap_err().sense(), reply.sense.unwrap());
            return Ok(());
        };
        let mut oracle = Oracle {
            devices: vec![
                (parsed.cscds[0].id.clone(), Model::Disk(first)),
                (parsed.cscds[1].id.clone(), Model::Disk(filled(1024, 150, 2))),
                (parsed.cscds[4].id.clone(), Model::Tape(Tape { objects, position })),
                (parsed.cscds[5].id.clone(), Model::Tape(Tape::default())),
            ],
            limits,
        };
        let out: Outcome = oracle.execute(&bytes, &parsed);
        match &out.failed {
            None => prop_assert_eq!(reply.status, Status::Good, "{:?}", reply.sense),
            Some(f) => {
                let s = reply.sense.as_ref().unwrap();
                prop_assert_eq!(
                    (s.command_specific as usize, s.code(), s.sense_key_specific),
                    (f.segment, f.code, f.field.map(Field::bytes))
                );
                prop_assert_eq!((faults(&s.source), faults(&s.destination)), (f.source, f.destination));
            }
        }
        for (i, (_, device)) in oracle.devices.iter().enumerate() {
            match device {
                Model::Disk(d) => prop_assert!(*d == b.devices[i].disk_now(), "disk {}", i),
                Model::Tape(t) => {
                    let now = b.devices[i].tape_now();
                    prop_assert_eq!((t.shape(), t.position), (now.shape(), now.position));
                    prop_assert!(*t == now, "tape {}", i);
                }
            }
        }
        let status = b.results(&n, 0, 7, 12).data_in;
        let discarded = status[4] & 0x80 != 0;
        let written = u32::from_be_bytes([status[8], status[9], status[10], status[11]]);
        prop_assert_eq!((discarded, u64::from(written)), (out.discarded, out.written));
        prop_assert_eq!(&b.results(&n, 1, 7, 100_000).data_in[4..], &out.held[..]);
    }
}
