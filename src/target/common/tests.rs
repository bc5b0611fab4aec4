//! The common part with a device that has nothing of its own.

use super::*;
use crate::error::Result;
use crate::scsi::{Sense, Status};
use crate::target::{Nexus, Reply, Request, UnitSet, Units};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Default)]
struct Toy {
    protected: AtomicBool,
}

impl Device for Toy {
    fn peripheral_type(&self) -> u8 {
        0
    }
    fn product(&self) -> &str {
        "TOY"
    }
    fn removable(&self) -> bool {
        false
    }
    fn versions(&self) -> &[u16] {
        &[]
    }
    fn commands(&self) -> &[CommandInfo] {
        const READ: &[u8] = &[0x28, 0, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 4];
        const WRITE: &[u8] = &[0x2a, 0, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 4];
        const ALL: &[CommandInfo] = &[
            CommandInfo::new(READ, Access::Read),
            CommandInfo::new(WRITE, Access::Write),
        ];
        ALL
    }
    fn execute(&self, unit: &Unit, _: &Cdb, request: &Request<'_>) -> Answer {
        assert!(!unit.watch(request).stopped());
        Ok(Reply::data(vec![7]))
    }
    fn ready(&self) -> Result<(), Sense> {
        Ok(())
    }
    fn write_protected(&self) -> bool {
        self.protected.load(Ordering::Relaxed)
    }
    fn select_header(&self, _: u8, d: Option<&[u8]>, _: bool) -> Result<(), Refusal> {
        d.map_or(Ok(()), |_| Err(invalid_parameter(3)))
    }
    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

struct Bench {
    set: UnitSet,
    toy: Arc<Toy>,
}

fn nexus(n: u8) -> Nexus {
    Nexus {
        initiator: format!("iqn.example:{n}").into(),
        isid: [n; 6],
        tsih: n.into(),
    }
}

impl Bench {
    fn new() -> Self {
        let toy = Arc::new(Toy::default());
        let devices: Vec<(String, Arc<dyn Device>)> =
            vec![("a".into(), toy.clone()), ("b".into(), toy.clone())];
        let set = UnitSet::new("iqn.example:t", devices, None).unwrap();
        Self { set, toy }
    }

    fn send(&self, by: u8, lun: u64, cdb: &[u8], data_out: &[u8]) -> Reply {
        self.set.execute(
            lun,
            &Request {
                nexus: &nexus(by),
                cdb,
                data_out,
                expected_out: data_out.len(),
                expected_in: 4096,
                cancel: &AtomicBool::new(false),
            },
        )
    }

    fn code(&self, by: u8, cdb: &[u8], data_out: &[u8]) -> (Status, u32) {
        let r = self.send(by, 0, cdb, data_out);
        let sense = r
            .sense
            .map_or(0, |s| (s.key as u32) << 16 | u32::from(s.code()));
        (r.status, sense)
    }

    fn good(&self, by: u8, cdb: &[u8], data_out: &[u8]) -> Vec<u8> {
        let r = self.send(by, 0, cdb, data_out);
        assert_eq!(r.status, Status::Good, "{cdb:02x?}: {:?}", r.sense);
        r.data_in
    }
}

const TUR: [u8; 6] = [0; 6];
const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const WRITE: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const CONFLICT: (Status, u32) = (Status::ReservationConflict, 0);
const GOOD: (Status, u32) = (Status::Good, 0);

fn check(key: u32, code: u32) -> (Status, u32) {
    (Status::CheckCondition, key << 16 | code)
}

#[test]
fn a_new_nexus_is_told_once() {
    let b = Bench::new();
    b.set.nexus_began(&nexus(1));
    assert_eq!(b.good(1, &[0x12, 0, 0, 0, 96, 0], &[]).len(), 96);
    assert_eq!(b.code(1, &TUR, &[]), check(6, 0x2900));
    assert_eq!(b.code(1, &TUR, &[]), GOOD);
    b.set.reset(Some(0), &nexus(1));
    // REQUEST SENSE fetches it.
    let sense = b.good(1, &[3, 0, 0, 0, 252, 0], &[]);
    assert_eq!((sense[2] & 0xf, sense[12], sense[13]), (6, 0x29, 3));
    assert_eq!(b.code(1, &TUR, &[]), GOOD);
}

#[test]
fn a_nexus_that_comes_back_is_told_that_it_was_lost() {
    let b = Bench::new();
    let back = || {
        b.set.nexus_lost(&nexus(1));
        b.set.nexus_began(&nexus(1));
    };
    b.set.nexus_began(&nexus(1));
    // It has not been told of the first time yet.
    back();
    assert_eq!(b.code(1, &TUR, &[]), check(6, 0x2900));
    for _ in 0..2 {
        back();
        assert_eq!(b.code(1, &TUR, &[]), check(6, 0x2907));
        assert_eq!(b.code(1, &TUR, &[]), GOOD);
    }
    // Not when the unit was reset while it was away, or before it was told.
    b.set.nexus_lost(&nexus(1));
    b.set.reset(Some(0), &nexus(2));
    b.set.nexus_began(&nexus(1));
    assert_eq!(b.code(1, &TUR, &[]), check(6, 0x2900));
    b.set.reset(Some(0), &nexus(2));
    back();
    assert_eq!(b.code(1, &TUR, &[]), check(6, 0x2900));
    // Another one is new; so is one that came too long ago.
    b.set.nexus_began(&nexus(2));
    assert_eq!(b.code(2, &TUR, &[]), check(6, 0x2900));
    b.set.nexus_lost(&nexus(1));
    for n in 0..1024 {
        let other = crate::target::Nexus {
            initiator: format!("iqn.other:{n}").into(),
            ..nexus(1)
        };
        b.set.nexus_began(&other);
        assert!(b.set.units()[0].attentions().take(&other).is_some());
        b.set.nexus_lost(&other);
    }
    b.set.nexus_began(&nexus(1));
    assert_eq!(b.code(1, &TUR, &[]), check(6, 0x2900));
}

#[test]
fn numbers_without_a_unit() {
    let b = Bench::new();
    let nowhere = encode_lun(2);
    assert!(b.set.has(encode_lun(1)) && !b.set.has(nowhere));
    let r = b.send(1, nowhere, &[0x12, 0, 0, 0, 96, 0], &[]);
    assert_eq!((r.status, r.data_in[0]), (Status::Good, 0x7f));
    let r = b.send(1, nowhere, &TUR, &[]);
    assert_eq!(r.sense.unwrap().code(), 0x2500);
    let r = b.send(1, nowhere, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0], &[]);
    assert_eq!(be(&r.data_in, 0, 4), 16);
    assert_eq!(be(&r.data_in, 16, 8), encode_lun(1));
    for lun in [0, 1, 255, 256, 16383] {
        assert_eq!(decode_lun(encode_lun(lun)), Some(lun));
    }
    // A second level, and a method that is none.
    assert_eq!(decode_lun(1), None);
    assert_eq!(decode_lun(0xc101 << 48), None);
}

#[test]
fn what_is_not_there_is_refused() {
    let b = Bench::new();
    assert_eq!(b.code(1, &[0xd0; 16], &[]), check(5, 0x2000));
    assert_eq!(
        b.code(1, &[0x5e, 9, 0, 0, 0, 0, 0, 0, 8, 0], &[]),
        check(5, 0x2400)
    );
    let mut naca = READ;
    naca[9] = 4;
    assert_eq!(b.code(1, &naca, &[]), check(5, 0x2400));
    assert_eq!(b.code(1, &[0x12, 1, 0xb0, 0, 96, 0], &[]), check(5, 0x2400));
    assert_eq!(b.code(1, &[], &[]), GOOD); // as TEST UNIT READY
}

#[test]
fn write_protection_and_its_software_switch() {
    let b = Bench::new();
    assert_eq!(b.code(1, &WRITE, &[]), GOOD);
    b.toy.protected.store(true, Ordering::Relaxed);
    assert_eq!(b.code(1, &WRITE, &[]), check(7, 0x2700));
    assert_eq!(b.good(1, &[0x1a, 8, 0x3f, 0, 255, 0], &[])[2] & 0x80, 0x80);
    b.toy.protected.store(false, Ordering::Relaxed);
    b.set.nexus_began(&nexus(2));
    assert_eq!(b.code(2, &TUR, &[]), check(6, 0x2900));
    let mut list = b.good(1, &[0x1a, 8, 0x0a, 0, 255, 0], &[]);
    list[0] = 0;
    list[4 + 2] |= 0x04; // D_SENSE
    list[4 + 4] |= 0x08; // SWP
    let select = [0x15, 0x10, 0, 0, list.len() as u8, 0];
    assert_eq!(b.code(1, &select, &list), GOOD);
    assert_eq!(b.code(1, &WRITE, &[]), check(7, 0x2700));
    let r = b.send(1, 0, &WRITE, &[]);
    assert_eq!(r.sense.unwrap().raw[0], 0x72);
    assert_eq!(b.code(2, &READ, &[]), check(6, 0x2a01));
    // Bits that cannot be changed, lists that end early.
    list[4 + 3] ^= 0xff;
    assert_eq!(b.code(1, &select, &list), check(5, 0x2600));
    assert_eq!(b.code(1, &select, &list[..9]), check(5, 0x1a00));
    // (The header alone is a list without pages.)
    for n in (1..list.len() as u8).filter(|n| *n != 4) {
        let r = b.code(1, &[0x15, 0x10, 0, 0, n, 0], &list);
        assert_ne!(r, GOOD, "{n} bytes");
    }
}

#[test]
fn mode_pages_in_every_form() {
    let b = Bench::new();
    let all = b.good(1, &[0x5a, 8, 0x3f, 0xff, 0, 0, 0, 2, 0, 0], &[]);
    assert_eq!(be(&all, 0, 2) as usize, all.len() - 2);
    let mut at = 8;
    let mut codes = Vec::new();
    while at < all.len() {
        codes.push(all[at] & 0x3f);
        at += 2 + usize::from(all[at + 1]);
    }
    assert_eq!((at, codes), (all.len(), vec![0x02, 0x0a, 0x1c]));
    let changeable = b.good(1, &[0x1a, 8, 0x4a, 0, 255, 0], &[]);
    assert_eq!(changeable[4..], [0x0a, 10, 4, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        b.code(1, &[0x1a, 8, 0xca, 0, 255, 0], &[]),
        check(5, 0x3900)
    );
    assert_eq!(
        b.code(1, &[0x1a, 8, 0x05, 0, 255, 0], &[]),
        check(5, 0x2400)
    );
}

#[test]
fn reserve_and_release() {
    let b = Bench::new();
    let (reserve, release) = ([0x16, 0, 0, 0, 0, 0], [0x17, 0, 0, 0, 0, 0]);
    assert_eq!(b.code(1, &reserve, &[]), GOOD);
    assert_eq!(b.code(2, &reserve, &[]), CONFLICT);
    assert_eq!(b.code(2, &TUR, &[]), CONFLICT);
    assert_eq!(b.code(2, &release, &[]), GOOD);
    assert_eq!(b.code(2, &READ, &[]), CONFLICT);
    b.set.nexus_lost(&nexus(1));
    assert_eq!(b.code(2, &READ, &[]), GOOD);
}

fn pr_out(b: &Bench, by: u8, action: u8, kind: u8, key: u64, new: u64) -> (Status, u32) {
    let mut list = vec![0; 24];
    put(&mut list, 0, 8, key);
    put(&mut list, 8, 8, new);
    b.code(by, &[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], &list)
}

#[test]
fn persistent_reservations() {
    let b = Bench::new();
    for n in 1..=3 {
        b.set.nexus_began(&nexus(n));
        assert_eq!(b.code(n, &TUR, &[]), check(6, 0x2900));
    }
    assert_eq!(pr_out(&b, 1, 0, 0, 5, 1), CONFLICT);
    assert_eq!(pr_out(&b, 1, 0, 0, 0, 0x11), GOOD);
    assert_eq!(pr_out(&b, 2, 6, 0, 99, 0x22), GOOD);
    assert_eq!(pr_out(&b, 3, 1, 1, 0, 0), CONFLICT);
    assert_eq!(pr_out(&b, 1, 1, 2, 0x11, 0), check(5, 0x2400));
    assert_eq!(pr_out(&b, 1, 1, 5, 0x11, 0), GOOD);
    assert_eq!(pr_out(&b, 2, 1, 5, 0x22, 0), CONFLICT);
    assert_eq!(pr_out(&b, 1, 2, 6, 0x11, 0), check(5, 0x2604));
    assert_eq!(
        (b.code(2, &WRITE, &[]), b.code(3, &WRITE, &[])),
        (GOOD, CONFLICT)
    );
    assert_eq!(b.code(3, &READ, &[]), GOOD);
    assert_eq!(b.code(3, &[0x16, 0, 0, 0, 0, 0], &[]), CONFLICT);

    let keys = b.good(1, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 255, 0], &[]);
    assert_eq!(
        (
            be(&keys, 0, 4),
            be(&keys, 4, 4),
            be(&keys, 8, 8),
            be(&keys, 16, 8)
        ),
        (2, 16, 0x11, 0x22)
    );
    let held = b.good(3, &[0x5e, 1, 0, 0, 0, 0, 0, 0, 255, 0], &[]);
    assert_eq!((be(&held, 4, 4), be(&held, 8, 8), held[21]), (16, 0x11, 5));
    let full = b.good(3, &[0x5e, 3, 0, 0, 0, 0, 0, 1, 0, 0], &[]);
    assert_eq!((be(&full, 4, 4) as usize, full[20]), (full.len() - 8, 1));
    let id = &full[8 + 24..8 + 24 + be(&full, 28, 4) as usize];
    assert!(id[4..].starts_with(b"iqn.example:1,i,0x010101010101\0"));

    // The session goes and comes back: the registration is still there.
    b.set.nexus_lost(&nexus(2));
    b.set.nexus_began(&nexus(2));
    assert_eq!(b.code(2, &WRITE, &[]), check(6, 0x2907));
    assert_eq!(b.code(2, &WRITE, &[]), GOOD);

    // The holder leaves: registrants are told.
    assert_eq!(pr_out(&b, 1, 0, 0, 0x11, 0), GOOD);
    assert_eq!(b.code(2, &TUR, &[]), check(6, 0x2a04));
    assert_eq!(b.code(3, &WRITE, &[]), GOOD);

    // Preempt, and clear.
    assert_eq!(pr_out(&b, 2, 1, 3, 0x22, 0), GOOD);
    assert_eq!(pr_out(&b, 3, 0, 0, 0, 0x33), GOOD);
    assert_eq!(b.code(3, &READ, &[]), CONFLICT);
    assert_eq!(pr_out(&b, 3, 4, 1, 0x33, 0), check(5, 0x2600));
    assert_eq!(pr_out(&b, 3, 5, 1, 0x33, 0x22), GOOD);
    assert_eq!(b.code(2, &TUR, &[]), check(6, 0x2a05));
    assert_eq!(
        (b.code(2, &READ, &[]), b.code(2, &WRITE, &[])),
        (GOOD, CONFLICT)
    );
    assert_eq!(pr_out(&b, 1, 0, 0, 0, 0x44), GOOD);
    assert_eq!(pr_out(&b, 1, 3, 0, 0x44, 0), GOOD);
    assert_eq!(b.code(3, &TUR, &[]), check(6, 0x2a03));
    assert_eq!(b.code(2, &WRITE, &[]), GOOD);
    // Lists of another length.
    assert_eq!(
        b.code(1, &[0x5f, 0, 0, 0, 0, 0, 0, 0, 23, 0], &[0; 23]),
        check(5, 0x1a00)
    );
}

#[test]
fn supported_operation_codes() {
    let b = Bench::new();
    let report = |how: u8, op: u8, action: u8| {
        b.send(
            1,
            0,
            &[0xa3, 0x0c, how, op, 0, action, 0, 0, 16, 0, 0, 0],
            &[],
        )
    };
    let all = report(0x80, 0, 0).data_in;
    assert_eq!(be(&all, 0, 4) as usize, all.len() - 4);
    let count = all.len() / 20;
    assert_eq!(count, b.set.units()[0].commands().count());
    // Each of them is there when asked for by itself, and nothing else is.
    for c in b.set.units()[0].commands() {
        let r = report(3, c.opcode(), c.action.unwrap_or(0)).data_in;
        assert_eq!((r[1], &r[4..]), (3, c.usage), "{:02x}", c.opcode());
        assert_eq!(c.usage.len(), Cdb::of(c.usage).len());
    }
    assert_eq!(report(1, 0xd0, 0).data_in, [0, 1, 0, 0]);
    assert_eq!(report(1, 0x5e, 0).sense.unwrap().code(), 0x2400);
}

#[test]
fn a_watch_sees_abort_and_reset() {
    let b = Bench::new();
    let (who, cancel) = (nexus(1), AtomicBool::new(false));
    let request = Request {
        nexus: &who,
        cdb: &READ,
        data_out: &[],
        expected_out: 0,
        expected_in: 0,
        cancel: &cancel,
    };
    let unit = &b.set.units()[0];
    let watch = unit.watch(&request);
    assert!(!watch.stopped());
    unit.abort_of(&Port::from(&nexus(2)));
    assert!(!watch.stopped());
    unit.abort_of(&Port::from(&who));
    assert!(watch.stopped());
    let watch = unit.watch(&request);
    b.set.reset(None, &who);
    assert!(watch.stopped());
    let watch = unit.watch(&request);
    cancel.store(true, Ordering::Relaxed);
    assert!(watch.stopped());
}

mod hostile {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_command_block_or_list_is_too_strange(
            cdb in prop::collection::vec(any::<u8>(), 0..20),
            op in prop::sample::select(vec![0x12u8, 0x15, 0x1a, 0x4d, 0x55, 0x5a, 0x5e, 0x5f, 0xa0, 0xa3, 3]),
            data in prop::collection::vec(any::<u8>(), 0..80),
            lun in any::<u64>(),
        ) {
            let b = Bench::new();
            let mut cdb = cdb;
            b.send(1, lun, &cdb, &data);
            if let Some(first) = cdb.first_mut() {
                *first = op;
                b.send(1, 0, &cdb, &data);
            }
        }
    }
}
