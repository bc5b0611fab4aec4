//! Which units a target has now: those it was started with, and the snapshots
//! that come and go; and what happened to these, for who serves them.

use super::common::{Device, LUNS_CHANGED, ThirdPartyCopy, Unit, lock};
use super::lun::Nexus;
use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

/// Most units of a target: what peripheral addressing reaches.
pub const MOST_UNITS: u16 = 256;
/// Events kept for who does not fetch them; the newest are dropped.
const MOST_EVENTS: usize = 1000;

/// The units at a moment, by their numbers.
pub type Units = Arc<[Arc<Unit>]>;

/// The list of units.
pub struct Roster {
    target: String,
    third_party: Option<Arc<dyn ThirdPartyCopy>>,
    units: RwLock<Units>,
    present: Mutex<Present>,
    folder: Mutex<Option<PathBuf>>,
    events: Mutex<VecDeque<Event>>,
    me: Weak<Self>,
}

/// Who is there; held while a unit comes or goes, so that each of them is told
/// by every unit once.
#[derive(Default)]
struct Present {
    nexuses: BTreeSet<Nexus>,
    /// Numbers of units that will come.
    reserved: BTreeSet<u16>,
    /// Number that the next unit gets if it is free.
    next: u16,
}

/// Something that happened to a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub what: Happened,
    /// Number of the unit that it is a snapshot of.
    pub of: u16,
    /// Name of that unit.
    pub name: String,
    /// Number that names the snapshot.
    pub id: u64,
    /// Its own unit's number.
    pub lun: u16,
    /// Its NAA designator.
    pub naa: [u8; 16],
    /// What was done, or why, in words.
    pub detail: String,
}

/// See [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It was made.
    Created,
    /// It could not be made.
    Failed,
    /// It cannot be read any more: something could not be put aside.
    Lost,
    /// It is gone.
    Deleted,
}

impl Roster {
    /// Of a target with these units, numbered from 0 in their order.
    pub(super) fn new(
        target: &str,
        devices: &[(String, Arc<dyn Device>)],
        third_party: Option<Arc<dyn ThirdPartyCopy>>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| {
            let units: Units = devices
                .iter()
                .zip(0..)
                .map(|((name, device), lun)| {
                    let copies = third_party.clone();
                    let unit = Unit::new(lun, target, name, device.clone(), copies, me.clone());
                    Arc::new(unit)
                })
                .collect();
            Self {
                target: target.into(),
                third_party,
                present: Mutex::new(Present {
                    nexuses: BTreeSet::new(),
                    reserved: BTreeSet::new(),
                    next: units.len() as u16,
                }),
                units: RwLock::new(units),
                folder: Mutex::default(),
                events: Mutex::default(),
                me: me.clone(),
            }
        })
    }

    /// The units of now.
    pub fn units(&self) -> Units {
        self.units
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The unit with a number.
    pub fn unit(&self, lun: u16) -> Option<Arc<Unit>> {
        let units = self.units.read().unwrap_or_else(PoisonError::into_inner);
        let at = units.binary_search_by_key(&lun, |u| u.lun()).ok()?;
        units.get(at).cloned()
    }

    /// The copy manager behind the units.
    pub(super) fn third_party(&self) -> Option<&dyn ThirdPartyCopy> {
        self.third_party.as_deref()
    }

    /// The next free number, for a unit that [`add`](Self::add) brings or
    /// [`give_back`](Self::give_back) does not; none when there are too many.
    pub fn reserve(&self) -> Option<u16> {
        let mut present = lock(&self.present);
        let units = self.units();
        let free = |n: &u16| {
            units.binary_search_by_key(n, |u| u.lun()).is_err() && !present.reserved.contains(n)
        };
        let lun = (present.next..MOST_UNITS)
            .chain(0..present.next)
            .find(free)?;
        present.reserved.insert(lun);
        present.next = (lun + 1) % MOST_UNITS;
        Some(lun)
    }

    /// A reserved number is not needed.
    pub fn give_back(&self, lun: u16) {
        lock(&self.present).reserved.remove(&lun);
    }

    /// One more unit, with a reserved number. Whoever is there finds it new
    /// (29h/00h), and is told by the disks that the list changed (3Fh/0Eh).
    pub fn add(&self, lun: u16, name: &str, device: Arc<dyn Device>) -> Arc<Unit> {
        let mut present = lock(&self.present);
        let old = self.units();
        present.reserved.remove(&lun);
        let copies = self.third_party.clone();
        let unit = Unit::new(lun, &self.target, name, device, copies, self.me.clone());
        let unit = Arc::new(unit);
        for nexus in &present.nexuses {
            unit.nexus_began(nexus);
        }
        let mut new = old.to_vec();
        new.push(unit.clone());
        new.sort_by_key(|u| u.lun());
        self.put(new.into());
        changed(&old);
        unit
    }

    /// A unit is gone: there is nobody at its number from now on.
    pub fn remove(&self, lun: u16) {
        let _present = lock(&self.present);
        let mut units = self.units().to_vec();
        units.retain(|u| u.lun() != lun);
        changed(&units);
        self.put(units.into());
    }

    fn put(&self, units: Units) {
        *self.units.write().unwrap_or_else(PoisonError::into_inner) = units;
    }

    pub(super) fn nexus_began(&self, nexus: &Nexus) {
        let mut present = lock(&self.present);
        present.nexuses.insert(nexus.clone());
        self.units().iter().for_each(|u| u.nexus_began(nexus));
    }

    pub(super) fn nexus_lost(&self, nexus: &Nexus) {
        let mut present = lock(&self.present);
        present.nexuses.remove(nexus);
        self.units().iter().for_each(|u| u.nexus_lost(nexus));
    }

    /// Where snapshots keep what the disk no longer has; none: beside the disk.
    pub fn keep_in(&self, folder: &Path) {
        *lock(&self.folder) = Some(folder.into());
    }

    /// See [`keep_in`](Self::keep_in).
    pub fn folder(&self) -> Option<PathBuf> {
        lock(&self.folder).clone()
    }

    /// Notes what happened.
    pub fn tell(&self, event: Event) {
        let mut events = lock(&self.events);
        if events.len() < MOST_EVENTS {
            events.push_back(event);
        }
    }

    /// What happened since the last time, oldest first.
    pub fn events(&self) -> Vec<Event> {
        lock(&self.events).drain(..).collect()
    }
}

/// Tells everybody that the list of units changed. The disks do: a drive or a
/// changer would end somebody's command for it.
fn changed(units: &[Arc<Unit>]) {
    for u in units.iter().filter(|u| u.device().peripheral_type() == 0) {
        u.attentions().raise(LUNS_CHANGED, |_| true);
    }
}
