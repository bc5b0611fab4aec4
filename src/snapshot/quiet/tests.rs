use super::*;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const MS: fn(u64) -> Duration = Duration::from_millis;

/// Time that passes only when somebody sleeps.
#[derive(Clone, Default)]
struct Fake(Arc<AtomicU64>);

impl Fake {
    fn ms(&self) -> u64 {
        self.0.load(SeqCst)
    }
}

impl Clock for Fake {
    fn now(&self) -> Duration {
        MS(self.ms())
    }
    fn sleep(&self, time: Duration) {
        // Every system sleeps a little longer than it was asked to.
        self.0.fetch_add(time.as_millis() as u64, SeqCst);
    }
}

/// Writes at given times, in ms.
#[derive(Default)]
struct Script {
    clock: Fake,
    writes: Vec<u64>,
    /// Writes that only a flush brings out.
    cached: Vec<u64>,
    flushed: u64,
    in_flight: std::ops::Range<u64>,
    /// From then on the counter begins anew.
    reset: Option<u64>,
    gone: Option<u64>,
    /// A sample takes so long.
    cost: u64,
    samples: u64,
}

impl Counter for Script {
    fn sample(&mut self) -> Result<Sample> {
        self.samples += 1;
        let now = self.clock.ms();
        self.clock.sleep(MS(self.cost));
        if self.gone.is_some_and(|g| g <= now) {
            return Err(Error::not_found("The device went away"));
        }
        let from = self.reset.filter(|r| *r <= now);
        let count = self
            .writes
            .iter()
            .filter(|w| **w <= now && from.is_none_or(|f| **w >= f));
        let base = if from.is_some() { 0 } else { 1000 };
        Ok(Sample {
            own: vec![base + count.count() as u64 + self.flushed],
            members: vec![7],
            in_flight: u64::from(self.in_flight.contains(&now)),
        })
    }
    fn flush(&mut self) -> Result<()> {
        let now = self.clock.ms();
        let before = self.cached.len();
        self.cached.retain(|w| *w > now);
        self.flushed += (before - self.cached.len()) as u64;
        Ok(())
    }
    fn name(&self) -> String {
        "a script".into()
    }
}

const USUAL: Patience = Patience {
    quiet: Duration::from_secs(3),
    timeout: Duration::from_secs(80),
    poll: POLL,
};

/// The moment of success in ms with the writes seen, or the error.
fn run(mut script: Script, patience: Patience) -> Result<(u64, u64)> {
    let clock = script.clock.clone();
    let started = clock.now();
    let q = wait(
        &patience,
        started,
        Seen::default(),
        &clock,
        &mut script,
        &mut |w| {
            assert_eq!(w.wanted, patience.quiet);
            assert!(w.left > Duration::ZERO);
            Ok(())
        },
    )?;
    assert_eq!(q.waited, clock.now() - started);
    assert!(q.quiet >= patience.quiet);
    Ok((clock.ms(), q.seen.writes))
}

fn writes(at: impl IntoIterator<Item = u64>) -> Script {
    Script {
        writes: at.into_iter().collect(),
        ..Script::default()
    }
}

fn every(step: u64, until: u64) -> Vec<u64> {
    (1..)
        .map(|n| n * step)
        .take_while(|t| *t <= until)
        .collect()
}

#[test]
fn an_idle_source_takes_one_period() {
    assert_eq!(run(writes([]), USUAL).unwrap(), (3000, 0));
}

#[test]
fn no_period_no_wait() {
    let none = Patience {
        quiet: Duration::ZERO,
        ..USUAL
    };
    let mut s = writes(every(10, 90_000));
    let clock = s.clock.clone();
    wait(
        &none,
        clock.now(),
        Seen::default(),
        &clock,
        &mut s,
        &mut |_| Ok(()),
    )
    .unwrap();
    assert_eq!((clock.ms(), s.samples), (0, 1));
}

#[test]
fn a_write_at_the_last_millisecond_begins_the_period_anew() {
    assert_eq!(run(writes([2999]), USUAL).unwrap(), (6000, 1));
    // Seen by the very look that would have ended it.
    assert_eq!(run(writes([3000]), USUAL).unwrap(), (6000, 1));
    assert_eq!(run(writes([3001]), USUAL).unwrap(), (3000, 0));
}

#[test]
fn pauses_that_are_too_short_end_in_the_timeout() {
    let e = run(writes(every(2000, 100_000)), USUAL).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotQuiet);
    assert_eq!(
        e.to_string(),
        "The source was not quiet for 3.0 s within 80.0 s: 40 writes were seen, the last one 0.0 s before the end"
    );
    let e = run(
        writes([78_000]),
        Patience {
            quiet: MS(79_000),
            ..USUAL
        },
    )
    .unwrap_err();
    assert!(
        e.to_string()
            .ends_with(": 1 write was seen, the last one 2.0 s before the end"),
        "{e}"
    );
}

#[test]
fn pauses_of_four_seconds_are_enough() {
    let (at, n) = run(writes(every(4000, 100_000)), USUAL).unwrap();
    assert_eq!((at, n), (3000, 0));
    // Even when writes were dense before.
    let dense = every(100, 10_000).into_iter().chain([14_000, 18_000]);
    assert_eq!(run(writes(dense), USUAL).unwrap().0, 13_000);
}

#[test]
fn the_deadline_wins_over_a_window_that_would_end_later() {
    // 77 s is the last moment at which a window may begin.
    let until = |last| writes(every(1000, last));
    assert_eq!(run(until(77_000), USUAL).unwrap().0, 80_000);
    let mut late = every(1000, 77_000);
    late.push(77_001);
    let e = run(writes(late), USUAL).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotQuiet, "{e}");
    // And it fails at the deadline, not before and not after.
    let s = until(79_000);
    let clock = s.clock.clone();
    assert!(run(s, USUAL).is_err());
    assert_eq!(clock.ms(), 80_000);
}

#[test]
fn a_write_that_falls_on_the_deadline_counts() {
    let mut at = every(1000, 77_000);
    at.push(80_000);
    assert!(run(writes(at), USUAL).is_err());
}

#[test]
fn a_counter_that_goes_back_says_nothing_any_more() {
    let s = Script {
        reset: Some(1500),
        ..writes([100, 200])
    };
    let e = run(s, USUAL).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io);
    assert!(e.to_string().contains("went back from 1002 to 0"), "{e}");
}

#[test]
fn a_device_that_is_gone_ends_the_wait() {
    for gone in [0, 1, 2999, 3000] {
        let s = Script {
            gone: Some(gone),
            ..writes([])
        };
        let e = run(s, USUAL).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound, "{gone}");
    }
    // Members that come or go are the same.
    let (a, b) = (
        Sample {
            own: vec![1],
            members: vec![2, 3],
            in_flight: 0,
        },
        Sample {
            own: vec![1],
            members: vec![2],
            in_flight: 0,
        },
    );
    assert!(a.check_since(&b).is_err() && b.check_since(&a).is_err() && a.check_since(&a).is_ok());
}

#[test]
fn writes_on_their_way_are_not_quiet() {
    let s = Script {
        in_flight: 0..90_000,
        ..writes([])
    };
    let e = run(s, USUAL).unwrap_err();
    assert!(
        e.to_string()
            .ends_with("no write was completed, but some were on their way"),
        "{e}"
    );
    let s = Script {
        in_flight: 0..1000,
        ..writes([])
    };
    assert_eq!(run(s, USUAL).unwrap(), (3800, 0));
}

#[test]
fn what_waits_in_a_cache_was_written_too() {
    // Before the wait: the first flush brings it out, and it is no write of the wait.
    let s = Script {
        cached: vec![0],
        ..writes([])
    };
    assert_eq!(run(s, USUAL).unwrap(), (3000, 0));
    // Meanwhile: the flush at the end of the window does, and it begins anew.
    let s = Script {
        cached: vec![1500],
        ..writes([])
    };
    assert_eq!(run(s, USUAL).unwrap(), (6000, 1));
}

#[test]
fn the_observer_may_end_it() {
    let mut s = writes([]);
    let clock = s.clock.clone();
    let mut n = 0;
    let e = wait(
        &USUAL,
        clock.now(),
        Seen::default(),
        &clock,
        &mut s,
        &mut |_| {
            n += 1;
            if n == 3 {
                Err(Error::interrupted())
            } else {
                Ok(())
            }
        },
    );
    assert_eq!(e.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(clock.ms(), 400);
}

#[test]
fn a_repeated_wait_has_the_same_deadline() {
    let mut s = writes(every(1000, 70_000));
    let clock = s.clock.clone();
    clock.sleep(MS(75_000));
    let before = Seen {
        writes: 70,
        last: Some(MS(0)),
    };
    let q = wait(&USUAL, Duration::ZERO, before, &clock, &mut s, &mut |_| {
        Ok(())
    })
    .unwrap();
    assert_eq!(
        (clock.ms(), q.seen.writes, q.waited),
        (78_000, 70, MS(78_000))
    );
    clock.sleep(MS(1000));
    let e = wait(&USUAL, Duration::ZERO, before, &clock, &mut s, &mut |_| {
        Ok(())
    })
    .unwrap_err();
    assert!(e.to_string().contains("70 writes"), "{e}");
    assert_eq!(clock.ms(), 80_000);
}

proptest! {
    /// Success means that nothing was written in the window; failure that there
    /// was no window, except one that is shorter than period and two looks.
    #[test]
    fn success_and_failure_are_both_true(
        at in prop::collection::vec(0u64..12_000, 0..40),
        quiet in 1u64..3000,
        timeout in 3000u64..10_000,
        poll in 1u64..400,
        cost in 0u64..50,
    ) {
        let mut at = at;
        at.sort_unstable();
        let patience = Patience { quiet: MS(quiet), timeout: MS(timeout), poll: MS(poll) };
        let s = Script { cost, ..writes(at.clone()) };
        let clock = s.clock.clone();
        let mut last_begun = 0;
        let mut s = s;
        let r = wait(&patience, Duration::ZERO, Seen::default(), &clock, &mut s, &mut |_| {
            last_begun = clock.ms();
            Ok(())
        });
        let end = clock.ms();
        match r {
            Ok(q) => {
                let window = (end - 2 * cost - quiet)..=(end - 2 * cost);
                prop_assert!(!at.iter().any(|w| *w > *window.start() && window.contains(w)), "{at:?} {end}");
                prop_assert!(q.quiet >= MS(quiet));
            }
            Err(e) => {
                prop_assert_eq!(e.kind(), ErrorKind::NotQuiet);
                prop_assert!(end >= timeout);
                let mut edges = vec![0];
                edges.extend(at.iter().copied().filter(|w| *w < timeout));
                edges.push(timeout);
                let longest = edges.windows(2).map(|p| p[1] - p[0]).max().unwrap_or(0);
                prop_assert!(longest < quiet + poll + 3 * cost + 1, "{longest} {at:?}");
            }
        }
    }
}
