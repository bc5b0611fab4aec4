//! The order of copies that use the same tape: as they came. An initiator sends
//! the next command while one runs; it must find the tape behind it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The last ticket given out, and who holds one: its ticket and its tapes.
type Claims = (u64, Vec<(u64, Vec<u16>)>);

/// Copies that run or wait, in their order.
#[derive(Debug, Default)]
pub struct Queue {
    claims: Mutex<Claims>,
    changed: Condvar,
}

/// A place in the queue; given up when it is dropped.
pub struct Place<'a> {
    queue: &'a Queue,
    ticket: u64,
}

impl Queue {
    fn claims(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines up for these tapes; none when so many copies are there already.
    pub fn line_up(&self, tapes: Vec<u16>, most: usize) -> Option<Place<'_>> {
        let mut claims = self.claims();
        if claims.1.len() >= most {
            return None;
        }
        claims.0 += 1;
        let ticket = claims.0;
        claims.1.push((ticket, tapes));
        Some(Place {
            queue: self,
            ticket,
        })
    }
}

impl Place<'_> {
    /// Waits until no earlier copy uses one of our tapes. False when `stopped`
    /// says so before.
    pub fn wait(&self, stopped: impl Fn() -> bool) -> bool {
        let mut claims = self.queue.claims();
        loop {
            let mine = claims.1.iter().find(|c| c.0 == self.ticket);
            let free = mine.is_none_or(|mine| {
                let mut earlier = claims.1.iter().filter(|c| c.0 < self.ticket);
                !earlier.any(|c| c.1.iter().any(|lun| mine.1.contains(lun)))
            });
            if free {
                return true;
            }
            if stopped() {
                return false;
            }
            let wait = Duration::from_millis(20);
            let woken = self.queue.changed.wait_timeout(claims, wait);
            claims = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queue.claims().1.retain(|c| c.0 != self.ticket);
        self.queue.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_a_tape_come_in_their_order() {
        let q = Queue::default();
        let a = q.line_up(vec![1], 4).unwrap();
        let b = q.line_up(vec![2, 1], 4).unwrap();
        let c = q.line_up(vec![], 4).unwrap();
        let d = q.line_up(vec![2], 4).unwrap();
        assert!(q.line_up(vec![], 4).is_none());
        assert!(a.wait(|| true) && c.wait(|| true));
        assert!(!b.wait(|| true) && !d.wait(|| true));
        drop(a);
        assert!(b.wait(|| true) && !d.wait(|| true));
        drop(b);
        assert!(d.wait(|| true));
    }
}
