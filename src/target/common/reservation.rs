//! Reservations: who may use a unit. RESERVE/RELEASE of SPC-2 and persistent
//! reservations of SPC-4, as states and rules; the commands are next door.

use super::attention::{self, Code};
use super::command::Access;
use crate::target::lun::Nexus;
use std::sync::Arc;

/// The initiator's end of a nexus. What is persistent belongs to it, not to the
/// session: a session that comes back finds its registration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// iSCSI name of the initiator.
    pub initiator: Arc<str>,
    /// Initiator session id.
    pub isid: [u8; 6],
}

impl From<&Nexus> for Port {
    fn from(n: &Nexus) -> Self {
        Self {
            initiator: n.initiator.clone(),
            isid: n.isid,
        }
    }
}

/// Type of a persistent reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    WriteExclusive = 1,
    ExclusiveAccess = 3,
    WriteExclusiveRegistrantsOnly = 5,
    ExclusiveAccessRegistrantsOnly = 6,
    WriteExclusiveAllRegistrants = 7,
    ExclusiveAccessAllRegistrants = 8,
}

impl Kind {
    /// By its code.
    pub fn of(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::WriteExclusive,
            3 => Self::ExclusiveAccess,
            5 => Self::WriteExclusiveRegistrantsOnly,
            6 => Self::ExclusiveAccessRegistrantsOnly,
            7 => Self::WriteExclusiveAllRegistrants,
            8 => Self::ExclusiveAccessAllRegistrants,
            _ => return None,
        })
    }

    fn lets_read(self) -> bool {
        matches!(
            self,
            Self::WriteExclusive
                | Self::WriteExclusiveRegistrantsOnly
                | Self::WriteExclusiveAllRegistrants
        )
    }

    /// True for the types that let every registrant in.
    pub fn registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    /// True for the types that every registrant holds.
    pub fn all(self) -> bool {
        matches!(
            self,
            Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants
        )
    }
}

/// A registered port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Who.
    pub port: Port,
    /// Reservation key; never zero.
    pub key: u64,
}

/// A persistent reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who made it; all registrants hold the all-registrants types.
    pub port: Port,
    /// Type.
    pub kind: Kind,
}

/// Most ports that one unit registers.
pub const MOST_REGISTRATIONS: usize = 256;

/// What a change of reservations tells other ports.
pub type News = Vec<(Port, Code)>;

/// All reservations of a unit.
#[derive(Clone, Debug, Default)]
pub struct Reservations {
    /// Holder by RESERVE.
    pub legacy: Option<Nexus>,
    /// PRGENERATION.
    pub generation: u32,
    /// Registered ports, in the order they came.
    pub registered: Vec<Registration>,
    /// The persistent reservation.
    pub held: Option<Held>,
    /// APTPL of the last registration: they survive the end of the target.
    pub durable: bool,
}

impl Reservations {
    /// True when no reservation stops this nexus.
    pub fn allow(&self, nexus: &Nexus, access: Access) -> bool {
        if access == Access::Always {
            return true;
        }
        if self.legacy.as_ref().is_some_and(|n| n != nexus) {
            return false;
        }
        let Some(held) = &self.held else { return true };
        let port = Port::from(nexus);
        access == Access::Status
            || self.holds(&port)
            || (held.kind.registrants() && self.key_of(&port).is_some())
            || (access == Access::Read && held.kind.lets_read())
    }

    /// The key of a port, if it is registered.
    pub fn key_of(&self, port: &Port) -> Option<u64> {
        self.registered
            .iter()
            .find(|r| r.port == *port)
            .map(|r| r.key)
    }

    /// True when this port holds the persistent reservation.
    pub fn holds(&self, port: &Port) -> bool {
        self.held
            .as_ref()
            .is_some_and(|h| h.port == *port || (h.kind.all() && self.key_of(port).is_some()))
    }

    /// Registers a port, or changes its key. False when there is no room.
    pub fn register(&mut self, port: &Port, key: u64) -> bool {
        if let Some(r) = self.registered.iter_mut().find(|r| r.port == *port) {
            r.key = key;
        } else if self.registered.len() < MOST_REGISTRATIONS {
            self.registered.push(Registration {
                port: port.clone(),
                key,
            });
        } else {
            return false;
        }
        self.generation = self.generation.wrapping_add(1);
        true
    }

    /// Takes a port's registration away, and its reservation with it.
    pub fn unregister(&mut self, port: &Port) -> News {
        self.registered.retain(|r| r.port != *port);
        self.generation = self.generation.wrapping_add(1);
        match &self.held {
            Some(h) if h.kind.all() => {
                if self.registered.is_empty() {
                    self.held = None;
                }
                Vec::new()
            }
            Some(h) if h.port == *port => self.release(port),
            _ => Vec::new(),
        }
    }

    /// Gives the reservation up.
    pub fn release(&mut self, by: &Port) -> News {
        match self.held.take() {
            Some(h) if h.kind.registrants() => {
                self.tell_others(by, attention::RESERVATIONS_RELEASED)
            }
            _ => Vec::new(),
        }
    }

    /// Gives everything up.
    pub fn clear(&mut self, by: &Port) -> News {
        let news = self.tell_others(by, attention::RESERVATIONS_PREEMPTED);
        self.registered.clear();
        self.held = None;
        self.generation = self.generation.wrapping_add(1);
        news
    }

    /// Takes registrations with `key` (all others, for zero against an
    /// all-registrants reservation) away, and the reservation over when it was
    /// theirs. None when there is none to take.
    pub fn preempt(&mut self, by: &Port, key: u64, kind: Kind) -> Option<News> {
        let all = self.held.as_ref().filter(|h| h.kind.all());
        let takes_over = match &self.held {
            None => false,
            Some(_) if all.is_some() => key == 0,
            Some(h) => self.key_of(&h.port) == Some(key),
        };
        let hit = |r: &Registration| r.key == key || (key == 0 && takes_over);
        if !takes_over && !self.registered.iter().any(hit) {
            return None;
        }
        let mut news = News::new();
        let gone: Vec<Port> = self
            .registered
            .iter()
            .filter(|r| hit(r) && (r.port != *by || !takes_over))
            .map(|r| r.port.clone())
            .filter(|p| p != by)
            .collect();
        self.registered
            .retain(|r| r.port == *by || !gone.contains(&r.port));
        news.extend(
            gone.into_iter()
                .map(|p| (p, attention::REGISTRATIONS_PREEMPTED)),
        );
        if takes_over {
            let before = self.held.replace(Held {
                port: by.clone(),
                kind,
            });
            if before.is_some_and(|h| h.kind != kind && h.kind.registrants()) {
                news.extend(self.tell_others(by, attention::RESERVATIONS_RELEASED));
            }
        } else if self.registered.is_empty() {
            self.held = None;
        }
        self.generation = self.generation.wrapping_add(1);
        Some(news)
    }

    fn tell_others(&self, by: &Port, code: Code) -> News {
        self.registered
            .iter()
            .filter(|r| r.port != *by)
            .map(|r| (r.port.clone(), code))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nexus(n: u8) -> Nexus {
        Nexus {
            initiator: "iqn.example:a".into(),
            isid: [n; 6],
            tsih: n.into(),
        }
    }

    #[test]
    fn every_type_lets_in_whom_it_should() {
        use Access::*;
        let (holder, member, stranger) = (nexus(1), nexus(2), nexus(3));
        for (code, member_reads, member_writes, stranger_reads) in [
            (1, true, false, true),
            (3, false, false, false),
            (5, true, true, true),
            (6, true, true, false),
            (7, true, true, true),
            (8, true, true, false),
        ] {
            let mut r = Reservations::default();
            assert!(r.register(&(&holder).into(), 1));
            assert!(r.register(&(&member).into(), 2));
            r.held = Some(Held {
                port: (&holder).into(),
                kind: Kind::of(code).unwrap(),
            });
            for a in [Always, Status, Read, Control, Write] {
                assert!(r.allow(&holder, a), "{code} {a:?}");
            }
            assert_eq!(r.allow(&member, Read), member_reads, "{code}");
            assert_eq!(r.allow(&member, Write), member_writes, "{code}");
            assert_eq!(r.allow(&stranger, Read), stranger_reads, "{code}");
            assert!(!r.allow(&stranger, Write), "{code}");
            assert!(!r.allow(&stranger, Control), "{code}");
            assert!(r.allow(&stranger, Status));
        }
    }

    #[test]
    fn preempting() {
        let (a, b, c) = (nexus(1), nexus(2), nexus(3));
        let (pa, pb, pc) = (Port::from(&a), Port::from(&b), Port::from(&c));
        let mut r = Reservations::default();
        for (p, k) in [(&pa, 1), (&pb, 2), (&pc, 2)] {
            assert!(r.register(p, k));
        }
        let we = Kind::WriteExclusive;
        r.held = Some(Held {
            port: pa.clone(),
            kind: we,
        });
        assert!(r.preempt(&pa, 9, we).is_none());
        // Not the holder's key: registrations go, the reservation stays.
        let news = r.preempt(&pa, 2, we).unwrap();
        assert_eq!(news.len(), 2);
        assert!(r.holds(&pa));
        // The holder's key: the reservation is taken over.
        assert!(r.register(&pb, 2));
        let news = r.preempt(&pb, 1, Kind::ExclusiveAccess).unwrap();
        assert_eq!(news, [(pa.clone(), attention::REGISTRATIONS_PREEMPTED)]);
        assert!(r.holds(&pb) && r.key_of(&pa).is_none());
        // All registrants, zero: everybody else.
        r.held = Some(Held {
            port: pb.clone(),
            kind: Kind::WriteExclusiveAllRegistrants,
        });
        assert!(r.register(&pc, 7));
        assert_eq!(r.preempt(&pc, 0, we).unwrap().len(), 1);
        assert!(r.holds(&pc) && r.registered.len() == 1);
    }

    #[test]
    fn giving_up_tells_the_registrants() {
        let (pa, pb) = (Port::from(&nexus(1)), Port::from(&nexus(2)));
        for (code, told) in [(1, 0), (5, 1), (7, 0)] {
            let mut r = Reservations::default();
            assert!(r.register(&pa, 1) && r.register(&pb, 2));
            r.held = Some(Held {
                port: pa.clone(),
                kind: Kind::of(code).unwrap(),
            });
            assert_eq!(r.unregister(&pa).len(), told, "{code}");
            assert_eq!(r.held.is_some(), code == 7);
        }
    }
}
