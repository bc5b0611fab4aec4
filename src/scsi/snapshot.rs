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
        0x02,
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
    if describe(unit, id)?.is_none() {
        return Ok(false);
    }
    let cdb = cdb(DELETE, id, 0);
    unit.run_plain("Deleting a snapshot", &cdb, LONG)?;
    Ok(true)
}
