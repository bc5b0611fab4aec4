//! Results of copies, kept for each nexus until they are fetched (84h).

use super::held::Held;
use super::progress::Progress;
use crate::scsi::{Sense, Status};
use crate::target::lun::Nexus;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Finished copies kept for one nexus; the oldest makes room.
const KEPT: usize = 32;

/// What is left of a copy.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Status and sense data it ended with.
    pub status: Status,
    /// Sense data, if it failed.
    pub sense: Option<Sense>,
    /// Its counters.
    pub progress: Arc<Progress>,
    /// True when held data is missing.
    pub discarded: bool,
    /// Held data; none once it was fetched.
    held: Option<Vec<u8>>,
    /// COPY STATUS was not fetched yet.
    status_left: bool,
    /// FAILED SEGMENT DETAILS were not fetched yet.
    details_left: bool,
    /// COPY STATUS says "in progress" until then.
    visible: Instant,
    order: u64,
}

#[derive(Debug)]
enum Entry {
    Running(Arc<Progress>),
    Finished(Box<Finished>),
}

#[derive(Debug, Default)]
struct All {
    entries: BTreeMap<Nexus, BTreeMap<u8, Entry>>,
    order: u64,
}

/// The results of all copies.
#[derive(Debug, Default)]
pub struct Results(Mutex<All>);

/// Units of TRANSFER COUNT: bytes, then powers of 1024.
fn counted(bytes: u64) -> (u8, u32) {
    let mut n = bytes;
    let mut unit = 0;
    while u32::try_from(n).is_err() {
        n >>= 10;
        unit += 1;
    }
    (unit, n as u32)
}

impl Results {
    fn all(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy begins. False when its id is in use; what a finished one left
    /// under the id is dropped.
    pub fn begin(&self, nexus: &Nexus, id: u8, progress: Arc<Progress>) -> bool {
        let mut all = self.all();
        let mine = all.entries.entry(nexus.clone()).or_default();
        if let Some(Entry::Running(_)) = mine.get(&id) {
            return false;
        }
        mine.insert(id, Entry::Running(progress));
        true
    }

    /// A copy ended.
    pub fn end(&self, nexus: &Nexus, id: u8, mut finished: Finished) {
        let mut all = self.all();
        all.order += 1;
        finished.order = all.order;
        let Some(mine) = all.entries.get_mut(nexus) else {
            return;
        };
        mine.insert(id, Entry::Finished(Box::new(finished)));
        let mut old: Vec<(u64, u8)> = mine
            .iter()
            .filter_map(|(id, e)| match e {
                Entry::Finished(f) => Some((f.order, *id)),
                Entry::Running(_) => None,
            })
            .collect();
        old.sort_unstable();
        let many = old.len().saturating_sub(KEPT);
        for (_, id) in old.into_iter().take(many) {
            mine.remove(&id);
        }
    }

    /// Forgets a copy.
    pub fn forget(&self, nexus: &Nexus, id: u8) {
        if let Some(mine) = self.all().entries.get_mut(nexus) {
            mine.remove(&id);
        }
    }

    /// A session ended: its finished copies are forgotten. What runs goes on.
    pub fn nexus_lost(&self, nexus: &Nexus) {
        self.all().entries.remove(nexus);
    }

    /// A unit was reset: copies that use it end, results about it are gone.
    pub fn reset(&self, lun: u16) {
        for mine in self.all().entries.values_mut() {
            mine.retain(|_, e| match e {
                Entry::Running(p) => {
                    if p.uses(lun) {
                        p.abort();
                    }
                    true
                }
                Entry::Finished(f) => !f.progress.uses(lun),
            });
        }
    }

    /// A copy that runs.
    pub fn running(&self, nexus: &Nexus, id: u8) -> Option<Arc<Progress>> {
        match self.all().entries.get(nexus)?.get(&id)? {
            Entry::Running(p) => Some(p.clone()),
            Entry::Finished(_) => None,
        }
    }

    fn with<T>(&self, nexus: &Nexus, id: u8, f: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let mut all = self.all();
        let mine = all.entries.get_mut(nexus)?;
        let entry = mine.get_mut(&id)?;
        let out = f(entry);
        if let Entry::Finished(f) = entry
            && !f.status_left
            && !f.details_left
            && f.held.is_none()
        {
            mine.remove(&id);
        }
        Some(out)
    }

    /// 84h/00h COPY STATUS. Reading it after the end discards it.
    pub fn status(&self, nexus: &Nexus, id: u8) -> Option<Vec<u8>> {
        self.with(nexus, id, |entry| {
            let (state, progress) = match entry {
                Entry::Running(p) => (0x00, p.clone()),
                Entry::Finished(f) if Instant::now() < f.visible => (0x00, f.progress.clone()),
                Entry::Finished(f) if !f.status_left => return None,
                Entry::Finished(f) => {
                    f.status_left = false;
                    let good = f.status == Status::Good;
                    let state = if good { 0x01 } else { 0x02 };
                    (state | u8::from(f.discarded) << 7, f.progress.clone())
                }
            };
            let (unit, count) = counted(progress.bytes());
            let mut out = vec![0, 0, 0, 8, state];
            out.extend(progress.segments().to_be_bytes());
            out.push(unit);
            out.extend(count.to_be_bytes());
            Some(out)
        })
        .flatten()
    }

    /// 84h/01h RECEIVE DATA. Held data is gone when all of it was fetched, or
    /// none was asked for.
    pub fn data(&self, nexus: &Nexus, id: u8, allocation: u64) -> Option<Vec<u8>> {
        self.with(nexus, id, |entry| {
            let Entry::Finished(f) = entry else {
                return None;
            };
            let held = f.held.as_deref()?;
            let mut out = (held.len() as u32).to_be_bytes().to_vec();
            out.extend(held);
            if allocation == 0 || allocation >= out.len() as u64 {
                f.held = None;
            }
            Some(out)
        })
        .flatten()
    }

    /// 84h/04h FAILED SEGMENT DETAILS. Reading them discards them.
    pub fn details(&self, nexus: &Nexus, id: u8) -> Option<Vec<u8>> {
        self.with(nexus, id, |entry| {
            let Entry::Finished(f) = entry else {
                return None;
            };
            if !f.details_left {
                return None;
            }
            f.details_left = false;
            let Some(sense) = f.sense.as_ref().map(Sense::encode_fixed) else {
                return Some(vec![0; 4]);
            };
            let mut out = vec![0; 60];
            let available = (56 + sense.len()) as u32;
            out.splice(0..4, available.to_be_bytes());
            out.splice(56..57, [f.status.code()]);
            out.splice(58..60, (sense.len() as u16).to_be_bytes());
            out.extend(sense);
            Some(out)
        })
        .flatten()
    }
}

impl Finished {
    /// What a copy left. `visible` is when COPY STATUS may say so.
    pub fn new(
        status: Status,
        sense: Option<Sense>,
        progress: Arc<Progress>,
        held: Held,
        visible: Instant,
    ) -> Self {
        Self {
            status,
            sense,
            progress,
            discarded: held.discarded(),
            held: Some(held.into_bytes()),
            status_left: true,
            details_left: true,
            visible,
            order: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfer_counts_fit() {
        assert_eq!(counted(0), (0, 0));
        assert_eq!(counted(u32::MAX.into()), (0, u32::MAX));
        assert_eq!(counted(1 << 32), (1, 1 << 22));
        assert_eq!(counted(u64::MAX).0, 4);
    }
}
