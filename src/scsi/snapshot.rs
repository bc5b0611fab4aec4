//! Snapshots that `ntbak target` makes of its disk units (`docs/copy.md` section 7):
//! asked of the disk's unit, each is a unit beside it.

use super::unit::{LONG, Unit, field};
use super::{Data, op};
use crate::error::{Error, Result};
use std::time::{Duration, SystemTime};

const LIST: u8 = 0x00;
const CREATE: u8 = 0x01;
const DELETE: u8 = 0x02;

const HEADER: usize = 8;
const DESCRIPTOR: usize = 72;
/// Room for a list: more snapshots than any disk has.
const ROOM: usize = HEADER + 64 * DESCRIPTOR;

/// What keeps the bytes of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The file system shares blocks between disk and snapshot.
    Reflink,
    /// The target puts aside what the disk changes.
    CopyOnWrite,
    /// Something that this program does not know.
    Other(u8),
}

/// A snapshot of a disk unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitSnapshot {
    /// Number of its unit at the target, as REPORT LUNS gives it.
    pub lun: u64,
    /// Names the snapshot for [`delete`]; never given twice.
    pub id: u64,
    /// NAA designator of its unit, on page 83h there.
    pub naa: [u8; 16],
    /// Size in bytes.
    pub bytes: u64,
    /// When it was made, by the target's clock.
    pub created: SystemTime,
    /// What whoever made it said.
    pub tag: u64,
    /// What keeps its bytes.
    pub method: Method,
    /// It cannot be read any more: the target had no room.
    pub lost: bool,
    /// Bytes of storage that it takes up by itself, as far as that is known.
    pub held: u64,
}

impl UnitSnapshot {
    /// From a descriptor.
    fn parse(d: &[u8; DESCRIPTOR]) -> Self {
        let at = |n: usize| {
            let bytes = d.get(n..n + 8).unwrap_or_default();
            bytes.iter().fold(0, |v, b| v << 8 | u64::from(*b))
        };
        let mut naa = [0; 16];
        for (to, from) in naa.iter_mut().zip(d.iter().skip(16)) {
            *to = *from;
        }
        let since = Duration::from_millis(at(40));
        let [.., method, state, _, _, _, _, _, _] = *d.first_chunk::<64>().unwrap_or(&[0; 64]);
        Self {
            lun: at(0),
            id: at(8),
            naa,
            bytes: at(32),
            // A clock that says what no clock can say says nothing.
            created: SystemTime::UNIX_EPOCH
                .checked_add(since)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            tag: at(48),
            method: match method {
                1 => Method::Reflink,
                2 => Method::CopyOnWrite,
                n => Method::Other(n),
            },
            lost: state & 1 != 0,
            held: at(64),
        }
    }

    /// The number of its unit as people write it, behind the last `/` of an
    /// address; none for a number of several levels.
    pub fn number(&self) -> Option<u16> {
        let first = (self.lun >> 48) as u16;
        match (self.lun << 16, first >> 14) {
            (0, 0) if first <= 255 => Some(first),
            (0, 1) => Some(first & 0x3fff),
            _ => None,
        }
    }
}

/// All of a list, and how many a disk may have.
fn parse(b: &[u8]) -> Option<(Vec<UnitSnapshot>, u16)> {
    let (head, rest) = b.split_first_chunk::<HEADER>()?;
    let [a, b, c, d, most @ .., _, _] = *head;
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    let (all, _) = rest.get(..len)?.as_chunks::<DESCRIPTOR>();
    let all = all.iter().map(UnitSnapshot::parse).collect();
    Some((all, u16::from_be_bytes(most)))
}

fn cdb(action: u8, number: u64, room: usize) -> [u8; 16] {
    let mut c = [0; 16];
    let [code, a, ..] = &mut c;
    (*code, *a) = (op::NTBAK_SNAPSHOT, action);
    for (to, from) in c.iter_mut().skip(2).zip(number.to_be_bytes()) {
        *to = from;
    }
    for (to, from) in c.iter_mut().skip(10).zip((room as u32).to_be_bytes()) {
        *to = from;
    }
    c
}

fn not_understood(unit: &Unit, what: &str) -> Error {
    Error::damaged(format!("{what} gave a list that is shorter than it says")).of(unit.name())
}

/// True when a unit is a disk of `ntbak target` that takes this command. Others are
/// not sent it: the code means something else with other makers.
pub fn offered(unit: &Unit) -> Result<bool> {
    let who = unit.inquiry()?;
    if (who.vendor.as_str(), who.product.as_str()) != ("NTBAK", "VIRTUAL DISK") {
        return Ok(false);
    }
    // REPORT SUPPORTED OPERATION CODES, of this one.
    let ask = [
        op::MAINTENANCE_IN,
        0x0c,
        0x03,
        op::NTBAK_SNAPSHOT,
        0,
        CREATE,
        0,
        0,
        0,
        20,
        0,
        0,
    ];
    let what = "REPORT SUPPORTED OPERATION CODES";
    let told = unit.optional(unit.read_in(what, &ask, 20))?;
    Ok(told.is_some_and(|b| b.get(1).is_some_and(|s| s & 0x07 == 3)))
}

fn expect(unit: &Unit) -> Result<()> {
    match offered(unit)? {
        true => Ok(()),
        false => Err(Error::unsupported("The unit makes no snapshots")
            .of(unit.name())
            .hint("disk units of `ntbak target` do; take another kind of snapshot")),
    }
}

/// Takes a snapshot: everything whose write had ended is in it, and nothing that
/// begins later. `tag` is for whoever finds it in a list.
pub fn create(unit: &Unit, tag: u64) -> Result<UnitSnapshot> {
    expect(unit)?;
    let what = "Taking a snapshot";
    let mut b = [0; HEADER + DESCRIPTOR];
    let cdb = cdb(CREATE, tag, b.len());
    let done = unit.run(what, &cdb, Data::In(&mut b), LONG)?;
    let told = b.get(..done.transferred).and_then(parse);
    told.and_then(|(mut all, _)| all.pop())
        .ok_or_else(|| not_understood(unit, what))
}

/// All snapshots of a unit, oldest first; none of a unit that makes none.
pub fn list(unit: &Unit) -> Result<Vec<UnitSnapshot>> {
    if !offered(unit)? {
        return Ok(Vec::new());
    }
    let what = "Listing snapshots";
    let b = unit.read_in(what, &cdb(LIST, 0, ROOM), ROOM)?;
    let _: [u8; HEADER] = field(unit, what, &b, 0)?;
    let told = parse(&b).ok_or_else(|| not_understood(unit, what))?;
    Ok(told.0)
}

/// One snapshot of a unit as it is now; none when it is gone.
pub fn describe(unit: &Unit, id: u64) -> Result<Option<UnitSnapshot>> {
    Ok(list(unit)?.into_iter().find(|s| s.id == id))
}

/// Deletes a snapshot. False when there is none such any more.
pub fn delete(unit: &Unit, id: u64) -> Result<bool> {
    expect(unit)?;
    let deleted = unit.run_plain("Deleting a snapshot", &cdb(DELETE, id, 0), LONG);
    match deleted {
        Err(_) if describe(unit, id)?.is_none() => Ok(false),
        other => other.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scsi::double::{Double, Reply};
    use crate::scsi::{Sense, SenseKey};
    use proptest::prelude::*;

    fn descriptor(id: u8) -> [u8; DESCRIPTOR] {
        let mut d = [0; DESCRIPTOR];
        d[1] = 3;
        d[15] = id;
        d[16..32].fill(0x6a);
        d[37] = 1; // 64 KiB
        d[46] = 4; // 1024 ms
        d[48] = 9;
        d[56] = 2;
        d[70] = 2;
        d
    }

    fn told(ids: &[u8]) -> Vec<u8> {
        let mut b = vec![0, 0, 0, (ids.len() * DESCRIPTOR) as u8, 0, 8, 0, 0];
        ids.iter().for_each(|id| b.extend(descriptor(*id)));
        b
    }

    /// A unit that says it is one of ours.
    fn ours() -> std::sync::Arc<Double> {
        let double = Double::new("u");
        let mut inquiry = vec![0; 96];
        inquiry[4] = 91;
        inquiry[8..32].copy_from_slice(b"NTBAK   VIRTUAL DISK    ");
        double.always(&[0x12, 0, 0, 0, 96, 0], Reply::data(inquiry));
        let ask = [0xa3, 0x0c, 3, 0xc4, 0, 1, 0, 0, 0, 20, 0, 0];
        double.always(&ask, Reply::data([0, 3, 0, 16]));
        double
    }

    #[test]
    fn made_found_and_deleted() {
        let double = ours();
        let mut c = [0; 16];
        (c[0], c[1], c[9], c[13]) = (0xc4, 1, 0x77, 80);
        double.expect(&c, Reply::data(told(&[5])));
        let unit = Unit::new(double.clone());
        let one = create(&unit, 0x77).unwrap();
        let wanted = UnitSnapshot {
            lun: 3 << 48,
            id: 5,
            naa: [0x6a; 16],
            bytes: 1 << 16,
            created: SystemTime::UNIX_EPOCH + Duration::from_millis(1024),
            tag: 9 << 56,
            method: Method::CopyOnWrite,
            lost: false,
            held: 512,
        };
        assert_eq!((one.number(), one), (Some(3), wanted));
        let list = cdb(LIST, 0, ROOM);
        double.always(&list, Reply::data(told(&[5, 6])));
        assert_eq!(describe(&unit, 6).unwrap().unwrap().id, 6);
        assert_eq!(describe(&unit, 7).unwrap(), None);
        let refused = || Reply::check(Sense::new(SenseKey::IllegalRequest, 0x24, 0));
        double.expect(&cdb(DELETE, 6, 0), Reply::good());
        double.expect(&cdb(DELETE, 7, 0), refused());
        double.expect(&cdb(DELETE, 5, 0), refused());
        assert!(delete(&unit, 6).unwrap());
        assert!(!delete(&unit, 7).unwrap());
        assert!(delete(&unit, 5).is_err());
        double.finish();
    }

    #[test]
    fn other_makers_are_not_asked() {
        let double = Double::new("u");
        let mut inquiry = vec![0; 96];
        inquiry[4] = 91;
        inquiry[8..32].copy_from_slice(b"ACME    VIRTUAL DISK    ");
        double.always(&[0x12, 0, 0, 0, 96, 0], Reply::data(inquiry));
        let unit = Unit::new(double.clone());
        assert!(list(&unit).unwrap().is_empty());
        assert!(create(&unit, 0).unwrap_err().advice().is_some());
        assert!(double.sent().iter().all(|s| s.cdb[0] == 0x12));
        // One of ours that is too old, or a snapshot.
        let double = Double::new("u");
        let mut inquiry = vec![0; 96];
        inquiry[4] = 91;
        inquiry[8..32].copy_from_slice(b"NTBAK   VIRTUAL DISK    ");
        double.always(&[0x12, 0, 0, 0, 96, 0], Reply::data(inquiry));
        let ask = [0xa3, 0x0c, 3, 0xc4, 0, 1, 0, 0, 0, 20, 0, 0];
        double.always(&ask, Reply::data([0, 1, 0, 0]));
        assert!(!offered(&Unit::new(double)).unwrap());
    }

    proptest! {
        #[test]
        fn any_answer_is_understood_or_refused(b in prop::collection::vec(any::<u8>(), 0..300)) {
            let double = ours();
            double.always(&cdb(CREATE, 0, HEADER + DESCRIPTOR), Reply::data(b.clone()));
            double.always(&cdb(LIST, 0, ROOM), Reply::data(b.clone()));
            let unit = Unit::new(double);
            let _ = create(&unit, 0);
            if let Ok(all) = list(&unit) {
                prop_assert!(all.len() * DESCRIPTOR <= b.len());
                prop_assert!(all.iter().all(|s| s.number() <= Some(0x3fff)));
            }
        }
    }
}
