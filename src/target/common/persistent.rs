//! The commands that reserve: RESERVE and RELEASE (6) and (10), PERSISTENT
//! RESERVE IN and OUT.

use super::cdb::{be, put};
use super::identity::name_string;
use super::refusal::{Answer, Refusal, invalid_field, invalid_parameter, list_length};
use super::reservation::{Held, Kind, News, Port, Reservations};
use super::{Access, Cdb, Unit, durable, lock};
use crate::scsi::{SenseKey, Status};
use crate::target::lun::{Reply, Request};

fn conflict() -> Refusal {
    Refusal::status(Status::ReservationConflict)
}

/// RESERVE(6) and (10): of the whole unit, for the nexus itself.
pub fn reserve(unit: &Unit, cdb: &Cdb, request: &Request<'_>) -> Answer {
    plain(cdb)?;
    let mut r = lock(&unit.reservations);
    if !r.registered.is_empty() || r.legacy.as_ref().is_some_and(|n| n != request.nexus) {
        return Err(conflict());
    }
    r.legacy = Some(request.nexus.clone());
    Ok(Reply::good())
}

/// RELEASE(6) and (10). One who holds nothing is told GOOD.
pub fn release(unit: &Unit, cdb: &Cdb, request: &Request<'_>) -> Answer {
    plain(cdb)?;
    let mut r = lock(&unit.reservations);
    if !r.registered.is_empty() {
        return Err(conflict());
    }
    if r.legacy.as_ref() == Some(request.nexus) {
        r.legacy = None;
    }
    Ok(Reply::good())
}

/// Neither third parties nor extents.
fn plain(cdb: &Cdb) -> Result<(), Refusal> {
    match cdb.bit(1, 0x1f) {
        true => Err(invalid_field(1)),
        false => Ok(()),
    }
}

/// PERSISTENT RESERVE IN.
pub fn persistent_in(unit: &Unit, cdb: &Cdb, request: &Request<'_>) -> Answer {
    let r = lock(&unit.reservations);
    if r.legacy.as_ref().is_some_and(|n| n != request.nexus) {
        return Err(conflict());
    }
    let data = match cdb.service_action() {
        0x00 => listed(&r, keys(&r)),
        0x01 => listed(&r, reservation(&r)),
        0x02 => capabilities(unit, &r),
        0x03 => listed(&r, full_status(&r)),
        _ => return Err(invalid_field(1)),
    };
    Ok(cut(data, cdb.u16(7).into()))
}

/// At most `allocation` bytes of what there is.
pub fn cut(mut data: Vec<u8>, allocation: u64) -> Reply {
    data.truncate(usize::try_from(allocation).unwrap_or(usize::MAX));
    Reply::data(data)
}

fn listed(r: &Reservations, body: Vec<u8>) -> Vec<u8> {
    let mut v = r.generation.to_be_bytes().to_vec();
    v.extend_from_slice(&(body.len() as u32).to_be_bytes());
    v.extend_from_slice(&body);
    v
}

fn keys(r: &Reservations) -> Vec<u8> {
    let keys = r.registered.iter();
    keys.flat_map(|r| r.key.to_be_bytes()).collect()
}

fn reservation(r: &Reservations) -> Vec<u8> {
    let Some(h) = &r.held else { return Vec::new() };
    let mut v = vec![0; 16];
    // All registrants hold it: no key is the holder's.
    let key = match h.kind.all() {
        true => 0,
        false => r.key_of(&h.port).unwrap_or(0),
    };
    put(&mut v, 0, 8, key);
    put(&mut v, 13, 1, h.kind as u64);
    v
}

fn capabilities(unit: &Unit, r: &Reservations) -> Vec<u8> {
    let kept = unit.device().reservation_file().is_some();
    // ATP_C, PTPL_C; type mask valid, PTPL_A; all six types.
    let (can, does) = (0x04 | u8::from(kept), 0x80 | u8::from(r.durable));
    vec![0, 8, can, does, 0xea, 0x01, 0, 0]
}

fn full_status(r: &Reservations) -> Vec<u8> {
    let mut out = Vec::new();
    for reg in &r.registered {
        let isid: String = reg.port.isid.iter().map(|b| format!("{b:02x}")).collect();
        let name = name_string(&format!("{},i,0x{isid}", reg.port.initiator));
        let mut d = vec![0; 24];
        put(&mut d, 0, 8, reg.key);
        if let Some(h) = r.held.as_ref().filter(|_| r.holds(&reg.port)) {
            put(&mut d, 12, 1, 1);
            put(&mut d, 13, 1, h.kind as u64);
        }
        put(&mut d, 18, 2, 1); // relative target port
        put(&mut d, 20, 4, name.len() as u64 + 4);
        // TransportID: name with session id, iSCSI.
        d.extend_from_slice(&[0x45, 0]);
        d.extend_from_slice(&(name.len() as u16).to_be_bytes());
        d.extend_from_slice(&name);
        out.extend_from_slice(&d);
    }
    out
}

/// PERSISTENT RESERVE OUT.
pub fn persistent_out(unit: &Unit, cdb: &Cdb, request: &Request<'_>) -> Answer {
    let action = cdb.service_action();
    if action > 0x06 {
        return Err(invalid_field(1));
    }
    if cdb.u32(5) != 24 || request.data_out.len() < 24 {
        return Err(list_length());
    }
    let list = request.data_out;
    let (key, new_key, flags) = (be(list, 0, 8), be(list, 8, 8), be(list, 20, 1));
    // SPEC_I_PT is not offered; ALL_TG_PT means the one port. APTPL counts for
    // registrations only.
    let registers = matches!(action, 0x00 | 0x06);
    let lasts = registers && flags & 0x01 != 0;
    let file = unit.device().reservation_file();
    if flags & 0x08 != 0 || (lasts && file.is_none()) {
        return Err(invalid_parameter(20));
    }
    let order = Order {
        port: request.nexus.into(),
        key,
        new_key,
        scope_and_type: cdb.u8(2),
    };
    let mut r = lock(&unit.reservations);
    if r.legacy.is_some() {
        return Err(conflict());
    }
    let before = file.filter(|_| lasts || r.durable).map(|f| (f, r.clone()));
    let news = match action {
        0x00 => order.register(&mut r, false),
        0x06 => order.register(&mut r, true),
        _ if r.key_of(&order.port) != Some(key) => Err(conflict()),
        0x01 => order.reserve(&mut r),
        0x02 => order.release(&mut r),
        0x03 => Ok(r.clear(&order.port)),
        _ => order.preempt(&mut r),
    }?;
    if registers {
        r.durable = lasts;
    }
    if let Some((file, before)) = before
        && durable::save(file, &r).is_err()
    {
        // Nothing is said to last that does not.
        *r = before;
        return Err(Refusal::sense(SenseKey::HardwareError, 0x44, 0x00));
    }
    drop(r);
    for (port, code) in &news {
        if action == 0x05 && *code == super::attention::REGISTRATIONS_PREEMPTED {
            unit.abort_of(port);
        }
        unit.attentions.raise(*code, |n| Port::from(n) == *port);
    }
    Ok(Reply::good())
}

struct Order {
    port: Port,
    key: u64,
    new_key: u64,
    scope_and_type: u8,
}

impl Order {
    fn kind(&self) -> Result<Kind, Refusal> {
        // Only the scope of a logical unit, 0.
        let code = self.scope_and_type;
        (code >> 4 == 0)
            .then(|| Kind::of(code & 0xf))
            .flatten()
            .ok_or_else(|| invalid_field(2))
    }

    fn register(&self, r: &mut Reservations, ignore: bool) -> Result<News, Refusal> {
        let before = r.key_of(&self.port);
        if !ignore && before.unwrap_or(0) != self.key {
            return Err(conflict());
        }
        match (before, self.new_key) {
            (None, 0) => Ok(News::new()),
            (Some(_), 0) => Ok(r.unregister(&self.port)),
            (_, key) if r.register(&self.port, key) => Ok(News::new()),
            // INSUFFICIENT REGISTRATION RESOURCES
            _ => Err(Refusal::sense(SenseKey::IllegalRequest, 0x55, 0x04)),
        }
    }

    fn reserve(&self, r: &mut Reservations) -> Result<News, Refusal> {
        let kind = self.kind()?;
        match &r.held {
            Some(h) if h.kind == kind && r.holds(&self.port) => {}
            Some(_) => return Err(conflict()),
            None => {
                r.held = Some(Held {
                    port: self.port.clone(),
                    kind,
                });
            }
        }
        Ok(News::new())
    }

    fn release(&self, r: &mut Reservations) -> Result<News, Refusal> {
        let kind = self.kind();
        match &r.held {
            Some(h) if r.holds(&self.port) => match kind {
                Ok(k) if k == h.kind => Ok(r.release(&self.port)),
                // INVALID RELEASE OF PERSISTENT RESERVATION
                _ => Err(Refusal::sense(SenseKey::IllegalRequest, 0x26, 0x04)),
            },
            _ => kind.map(|_| News::new()),
        }
    }

    fn preempt(&self, r: &mut Reservations) -> Result<News, Refusal> {
        let kind = self.kind()?;
        let all = r.held.as_ref().is_some_and(|h| h.kind.all());
        if self.new_key == 0 && !all {
            return Err(invalid_parameter(8));
        }
        r.preempt(&self.port, self.new_key, kind)
            .ok_or_else(conflict)
    }
}

impl Unit {
    /// RESERVATION CONFLICT when a reservation stops this nexus. The copy manager
    /// asks it for its own commands as well.
    pub fn may(&self, nexus: &crate::target::Nexus, access: Access) -> Result<(), Refusal> {
        match lock(&self.reservations).allow(nexus, access) {
            true => Ok(()),
            false => Err(conflict()),
        }
    }
}
