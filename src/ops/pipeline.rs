//! Work in parallel, results in order, memory bounded: the shape of `image`,
//! `restore` and `verify`.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard};

struct Shared<R> {
    /// Number of the next item to be taken.
    taken: u64,
    /// Number of the next result to be delivered.
    delivered: u64,
    /// Results that wait for their turn.
    ready: BTreeMap<u64, R>,
    /// No more items come.
    ended: bool,
    failed: Option<Error>,
    workers: usize,
}

/// Takes items one after the other from `next` (called by one thread at a
/// time), works on them in `threads` threads, and hands the results to
/// `deliver` in the order of the items, on the calling thread. At most
/// `window` items are between `next` and `deliver`. The first error ends it.
pub fn ordered<I, S, R>(
    threads: usize,
    window: usize,
    next: impl FnMut() -> Result<Option<I>> + Send,
    start: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S, I) -> Result<R> + Sync,
    mut deliver: impl FnMut(R) -> Result<()>,
) -> Result<()>
where
    R: Send,
{
    let threads = threads.max(1);
    let window = window.max(threads) as u64;
    let shared = Mutex::new(Shared {
        taken: 0,
        delivered: 0,
        ready: BTreeMap::new(),
        ended: false,
        failed: None,
        workers: threads,
    });
    let (room, result) = (Condvar::new(), Condvar::new());
    let items = Mutex::new(next);
    let lock = || -> MutexGuard<'_, Shared<R>> { shared.lock().unwrap_or_else(|e| e.into_inner()) };

    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // Counts the worker out on every way, also when it panics.
                struct Leave<'a, R>(&'a Mutex<Shared<R>>, &'a Condvar, &'a Condvar);
                impl<R> Drop for Leave<'_, R> {
                    fn drop(&mut self) {
                        let mut s = self.0.lock().unwrap_or_else(|e| e.into_inner());
                        s.workers -= 1;
                        if std::thread::panicking() {
                            s.ended = true;
                        }
                        self.1.notify_all();
                        self.2.notify_all();
                    }
                }
                let _leave = Leave(&shared, &room, &result);
                let fail = |e: Error| {
                    let mut s = lock();
                    s.failed.get_or_insert(e);
                    s.ended = true;
                    room.notify_all();
                    result.notify_all();
                };
                let mut state = match start() {
                    Ok(s) => s,
                    Err(e) => return fail(e),
                };
                loop {
                    let (number, item) = {
                        let mut items = items.lock().unwrap_or_else(|e| e.into_inner());
                        let mut s = lock();
                        while !s.ended && s.taken >= s.delivered + window {
                            s = room.wait(s).unwrap_or_else(|e| e.into_inner());
                        }
                        if s.ended {
                            return;
                        }
                        drop(s);
                        match items() {
                            Ok(Some(item)) => {
                                let mut s = lock();
                                s.taken += 1;
                                (s.taken - 1, item)
                            }
                            Ok(None) => {
                                lock().ended = true;
                                room.notify_all();
                                return;
                            }
                            Err(e) => return fail(e),
                        }
                    };
                    match work(&mut state, item) {
                        Ok(r) => {
                            let mut s = lock();
                            s.ready.insert(number, r);
                            if number == s.delivered {
                                result.notify_all();
                            }
                        }
                        Err(e) => return fail(e),
                    }
                }
            });
        }
        loop {
            let r = {
                let mut s = lock();
                loop {
                    if let Some(e) = s.failed.take() {
                        return Err(e);
                    }
                    let turn = s.delivered;
                    if let Some(r) = s.ready.remove(&turn) {
                        break Some(r);
                    }
                    if s.workers == 0 {
                        break None;
                    }
                    s = result.wait(s).unwrap_or_else(|e| e.into_inner());
                }
            };
            let Some(r) = r else { return Ok(()) };
            let outcome = deliver(r);
            let mut s = lock();
            s.delivered += 1;
            if let Err(e) = outcome {
                s.ended = true;
                room.notify_all();
                return Err(e);
            }
            room.notify_all();
        }
    })
}

/// How many workers to use when nobody says.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order_and_the_window() {
        let mut n = 0;
        let mut got = Vec::new();
        ordered(
            4,
            6,
            || {
                n += 1;
                Ok((n <= 500).then_some(n))
            },
            || Ok(()),
            |(), i| {
                std::thread::sleep(std::time::Duration::from_micros((i * 7919) % 50));
                Ok(i)
            },
            |i| {
                got.push(i);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(got, (1..=500).collect::<Vec<u64>>());
    }

    #[test]
    fn the_first_error_ends_it() {
        for place in 0..3 {
            let fail = |here: usize, i: u64| {
                if here == place && i == 50 {
                    Err(Error::usage("x"))
                } else {
                    Ok(())
                }
            };
            let mut n = 0;
            let r = ordered(
                3,
                5,
                || {
                    n += 1;
                    fail(0, n).map(|()| Some(n))
                },
                || Ok(()),
                |(), i| fail(1, i).map(|()| i),
                |i| fail(2, i),
            );
            assert_eq!(r.unwrap_err().message(), "x", "place {place}");
        }
    }
}
