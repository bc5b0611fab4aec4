//! Persistent reservations.

use super::op;
use super::unit::{SHORT, Unit, field};
use crate::error::Result;

/// Service actions of PERSISTENT RESERVE OUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ReserveAction {
    /// Registers, changes or (with key 0) takes back a key.
    Register = 0x00,
    /// Takes the reservation.
    Reserve = 0x01,
    /// Gives it up.
    Release = 0x02,
    /// Removes all registrations.
    Clear = 0x03,
    /// Removes those of another key and takes its reservation.
    Preempt = 0x04,
    /// The same, and aborts its commands.
    PreemptAndAbort = 0x05,
    /// Registers whatever was registered before.
    RegisterAndIgnore = 0x06,
}

/// TYPE of a reservation.
pub mod reserve_type {
    /// Others may read.
    pub const WRITE_EXCLUSIVE: u8 = 1;
    /// Others may neither read nor write.
    pub const EXCLUSIVE_ACCESS: u8 = 3;
    /// Who is registered may write.
    pub const WRITE_EXCLUSIVE_REGISTRANTS: u8 = 5;
    /// Who is registered may read and write.
    pub const EXCLUSIVE_ACCESS_REGISTRANTS: u8 = 6;
}

/// Who holds a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Key of the holder.
    pub key: u64,
    /// TYPE.
    pub kind: u8,
}

const ROOM: u16 = 8192;

impl Unit {
    fn reserve_in(&self, action: u8) -> Result<(u32, Vec<u8>)> {
        let what = "PERSISTENT RESERVE IN";
        let [high, low] = ROOM.to_be_bytes();
        let cdb = [
            op::PERSISTENT_RESERVE_IN,
            action,
            0,
            0,
            0,
            0,
            0,
            high,
            low,
            0,
        ];
        let b = self.read_in(what, &cdb, ROOM.into())?;
        let generation = u32::from_be_bytes(field(self, what, &b, 0)?);
        let len = u32::from_be_bytes(field(self, what, &b, 4)?) as usize;
        let list = b.get(8..).unwrap_or_default();
        Ok((generation, list.get(..len).unwrap_or(list).to_vec()))
    }

    /// READ KEYS: the generation, and the keys that are registered.
    pub fn reservation_keys(&self) -> Result<(u32, Vec<u64>)> {
        let (generation, list) = self.reserve_in(0)?;
        let (keys, _) = list.as_chunks::<8>();
        Ok((
            generation,
            keys.iter().map(|k| u64::from_be_bytes(*k)).collect(),
        ))
    }

    /// READ RESERVATION.
    pub fn reservation(&self) -> Result<Option<Reservation>> {
        let (_, list) = self.reserve_in(1)?;
        Ok(list.first_chunk::<16>().map(|d| Reservation {
            key: u64::from_be_bytes([d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]),
            kind: d[13] & 0x0f,
        }))
    }

    /// PERSISTENT RESERVE OUT. `key` is ours, `other` the service action's.
    pub fn reserve_out(&self, action: ReserveAction, kind: u8, key: u64, other: u64) -> Result<()> {
        let mut list = [0; 24];
        list[..8].copy_from_slice(&key.to_be_bytes());
        list[8..16].copy_from_slice(&other.to_be_bytes());
        let kind = kind & 0x0f;
        let cdb = [
            op::PERSISTENT_RESERVE_OUT,
            action as u8,
            kind,
            0,
            0,
            0,
            0,
            0,
            24,
            0,
        ];
        self.write_out("PERSISTENT RESERVE OUT", &cdb, &list, SHORT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scsi::double::{Double, Reply};

    #[test]
    fn keys_and_the_holder() {
        let cdb = |a: u8| [0x5e, a, 0, 0, 0, 0, 0, 0x20, 0, 0];
        let double = Double::new("u");
        let mut keys = vec![0, 0, 0, 7, 0, 0, 0, 16];
        keys.extend(1u64.to_be_bytes());
        keys.extend(2u64.to_be_bytes());
        double.expect(&cdb(0), Reply::data(keys));
        double.expect(&cdb(1), Reply::data([0; 8]));
        let mut held = vec![0, 0, 0, 7, 0, 0, 0, 16];
        held.extend(9u64.to_be_bytes());
        held.extend([0, 0, 0, 0, 0, 3, 0, 0]);
        double.expect(&cdb(1), Reply::data(held));
        double.expect(&[0x5f, 1, 3, 0, 0, 0, 0, 0, 24, 0], Reply::good());
        let unit = Unit::new(double.clone());
        assert_eq!(unit.reservation_keys().unwrap(), (7, vec![1, 2]));
        assert_eq!(unit.reservation().unwrap(), None);
        let kind = reserve_type::EXCLUSIVE_ACCESS;
        assert_eq!(
            unit.reservation().unwrap(),
            Some(Reservation { key: 9, kind })
        );
        unit.reserve_out(ReserveAction::Reserve, kind, 9, 0)
            .unwrap();
        assert_eq!(double.sent()[3].out[..8], 9u64.to_be_bytes());
    }
}
