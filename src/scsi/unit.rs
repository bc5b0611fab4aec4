//! A logical unit: its transport, with patience and with errors in words.

use super::op;
use super::{Command, Completion, Data, Failure, Status, Transport};
use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// For commands that only ask.
pub const SHORT: Duration = Duration::from_secs(60);
/// For commands that move data.
pub const DATA: Duration = Duration::from_secs(120);
/// For motion of a tape, and for copies.
pub const LONG: Duration = Duration::from_secs(6 * 3600);

/// Unit attentions taken in a row before the command is given up. A unit may
/// have several waiting.
const ATTENTIONS: u32 = 10;
/// First pause when a unit is busy; it doubles up to [`PAUSE_MOST`].
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MOST: Duration = Duration::from_secs(1);

/// What unit attentions have told so far. Compare two to learn what happened
/// in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// 28h: the medium may be another one.
    pub medium: u64,
    /// 29h: switched on or reset, or a nexus lost.
    pub resets: u64,
    /// Those of them with which a cache may have been lost: 29h/00h to 04h.
    pub restarts: u64,
    /// 2Ah/03h to 05h: reservations or registrations are gone.
    pub reservations: u64,
    /// All others.
    pub others: u64,
}

#[derive(Default)]
struct Seen {
    medium: AtomicU64,
    resets: AtomicU64,
    restarts: AtomicU64,
    reservations: AtomicU64,
    others: AtomicU64,
    data_in: AtomicU64,
    data_out: AtomicU64,
}

/// A logical unit. Clones share the way to it.
///
/// A command that met UNIT ATTENTION, BUSY or TASK SET FULL was not executed;
/// it is sent again, a bounded number of times. Where that would be wrong (a
/// write to a tape that a reset rewound), use [`Unit::careful`].
#[derive(Clone)]
pub struct Unit {
    transport: Arc<dyn Transport>,
    seen: Arc<Seen>,
    careful: bool,
    patience: Duration,
}

impl Unit {
    /// The unit behind a transport.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self {
            transport,
            seen: Arc::default(),
            careful: false,
            patience: Duration::from_secs(30),
        }
    }

    /// The same unit; a changed medium, a reset or a lost reservation ends
    /// the command with an error instead of being passed over.
    pub fn careful(&self) -> Self {
        Self {
            careful: true,
            ..self.clone()
        }
    }

    /// The same unit with another limit to how long BUSY is waited out.
    pub fn patient_for(&self, patience: Duration) -> Self {
        Self {
            patience,
            ..self.clone()
        }
    }

    /// What to call it in a message.
    pub fn name(&self) -> &str {
        self.transport.name()
    }

    /// Most bytes that one command may move.
    pub fn max_transfer(&self) -> usize {
        self.transport.max_transfer()
    }

    /// Its number at its target, as REPORT LUNS gives it, where that is known.
    pub fn lun(&self) -> Option<u64> {
        self.transport.lun()
    }

    /// The way to it.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    /// What unit attentions have told so far.
    pub fn changes(&self) -> Changes {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Changes {
            medium: get(&self.seen.medium),
            resets: get(&self.seen.resets),
            restarts: get(&self.seen.restarts),
            reservations: get(&self.seen.reservations),
            others: get(&self.seen.others),
        }
    }

    /// Bytes of data that came from the unit and went to it, by this way to it.
    pub fn moved(&self) -> (u64, u64) {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        (get(&self.seen.data_in), get(&self.seen.data_out))
    }

    /// Sends a command until it was looked at. Any status may come back; an
    /// error is the transport's.
    pub fn send(&self, cdb: &[u8], data: Data<'_>, timeout: Duration) -> Result<Completion> {
        let mut data = data;
        let (mut attentions, mut pause) = (0, PAUSE);
        let give_up = Instant::now() + self.patience;
        loop {
            let completion = self.transport.execute(Command {
                cdb,
                data: again(&mut data),
                timeout,
            })?;
            let count = match &data {
                Data::In(_) => &self.seen.data_in,
                _ => &self.seen.data_out,
            };
            count.fetch_add(completion.transferred as u64, Ordering::Relaxed);
            match completion.status {
                Status::Busy | Status::TaskSetFull if Instant::now() + pause < give_up => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(PAUSE_MOST);
                }
                Status::CheckCondition => match &completion.sense {
                    Some(s) if s.is_unit_attention() => {
                        let matters = self.attention(s);
                        attentions += 1;
                        if attentions > ATTENTIONS || self.careful && matters {
                            return Ok(completion);
                        }
                    }
                    _ => return Ok(completion),
                },
                _ => return Ok(completion),
            }
        }
    }

    /// Counts a unit attention. True when it takes away what a careful caller
    /// relies on.
    fn attention(&self, s: &super::Sense) -> bool {
        let (count, matters) = match (s.asc, s.ascq) {
            (0x28, _) => (&self.seen.medium, true),
            (0x29, _) => (&self.seen.resets, true),
            (0x2a, 0x03..=0x05) => (&self.seen.reservations, true),
            _ => (&self.seen.others, false),
        };
        count.fetch_add(1, Ordering::Relaxed);
        if matches!((s.asc, s.ascq), (0x29, 0..=0x04)) {
            self.seen.restarts.fetch_add(1, Ordering::Relaxed);
        }
        matters
    }

    /// Sends a command that has to succeed. RECOVERED ERROR is success. `what`
    /// names it in the error: "INQUIRY".
    pub fn run(
        &self,
        what: &str,
        cdb: &[u8],
        data: Data<'_>,
        timeout: Duration,
    ) -> Result<Completion> {
        let completion = self.send(cdb, data, timeout)?;
        match succeeded(&completion) {
            true => Ok(completion),
            false => Err(self.failed(what, &completion)),
        }
    }

    /// The error that a completion makes.
    pub fn failed(&self, what: &str, completion: &Completion) -> Error {
        Failure::of(completion).error(self.name(), format!("{what} failed"))
    }

    /// A command without data.
    pub fn run_plain(&self, what: &str, cdb: &[u8], timeout: Duration) -> Result<()> {
        self.run(what, cdb, Data::None, timeout).map(|_| ())
    }

    /// A command that reads at most `len` bytes; as many as came.
    pub fn read_in(&self, what: &str, cdb: &[u8], len: usize) -> Result<Vec<u8>> {
        let mut buf = vec![0; len];
        let done = self.run(what, cdb, Data::In(&mut buf), SHORT)?;
        buf.truncate(done.transferred);
        Ok(buf)
    }

    /// A command that takes all of `data`.
    pub fn write_out(&self, what: &str, cdb: &[u8], data: &[u8], timeout: Duration) -> Result<()> {
        let data = match data {
            [] => Data::None,
            _ => Data::Out(data),
        };
        self.run(what, cdb, data, timeout).map(|_| ())
    }

    /// TEST UNIT READY, once.
    pub fn test_ready(&self) -> Result<()> {
        self.run_plain(
            "TEST UNIT READY",
            &[op::TEST_UNIT_READY, 0, 0, 0, 0, 0],
            SHORT,
        )
    }

    /// Waits while the unit says that it is becoming ready, at most so long.
    pub fn wait_ready(&self, most: Duration) -> Result<()> {
        let end = Instant::now() + most;
        let mut pause = PAUSE;
        loop {
            let e = match self.test_ready() {
                Ok(()) => return Ok(()),
                Err(e) => e,
            };
            let soon = Failure::sense_behind(&e).is_some_and(|s| s.is_becoming_ready());
            if !soon || Instant::now() + pause > end {
                return Err(e);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MOST);
        }
    }
}

/// True for GOOD, CONDITION MET, and CHECK CONDITION with RECOVERED ERROR about
/// this command.
pub fn succeeded(c: &Completion) -> bool {
    match (c.status, &c.sense) {
        (Status::Good | Status::ConditionMet, _) => true,
        (Status::CheckCondition, Some(s)) => {
            s.key == super::SenseKey::RecoveredError && !s.deferred
        }
        _ => false,
    }
}

/// The same data for another attempt.
fn again<'a>(data: &'a mut Data<'_>) -> Data<'a> {
    match data {
        Data::None => Data::None,
        Data::In(b) => Data::In(b),
        Data::Out(b) => Data::Out(b),
    }
}

/// A reply that has to have `N` bytes at `at`.
pub(super) fn field<const N: usize>(
    unit: &Unit,
    what: &str,
    reply: &[u8],
    at: usize,
) -> Result<[u8; N]> {
    at.checked_add(N)
        .and_then(|end| reply.get(at..end))
        .and_then(|b| b.try_into().ok())
        .ok_or_else(|| {
            let found = reply.len();
            Error::damaged(format!(
                "{what} gave {found} bytes, expected {} at least",
                at + N
            ))
            .of(unit.name())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::scsi::double::{Double, Reply};
    use crate::scsi::{Sense, SenseKey};

    fn attention(asc: u8) -> Reply {
        Reply::check(Sense::new(SenseKey::UnitAttention, asc, 0))
    }
    const TUR: [u8; 6] = [0; 6];

    #[test]
    fn unit_attentions_are_passed_over_and_counted() {
        let double = Double::new("u");
        for r in [attention(0x29), attention(0x28), Reply::good()] {
            double.expect(&TUR, r);
        }
        let unit = Unit::new(double.clone());
        unit.test_ready().unwrap();
        let seen = unit.changes();
        assert_eq!((seen.resets, seen.medium, seen.others), (1, 1, 0));
        double.finish();
    }

    #[test]
    fn a_careful_caller_is_told_and_nothing_is_sent_again() {
        let double = Double::new("u");
        double.expect(&TUR, attention(0x2a));
        double.expect(&TUR, attention(0x29));
        let unit = Unit::new(double.clone());
        let e = unit.careful().test_ready().unwrap_err();
        assert!(Failure::sense_behind(&e).unwrap().is_reset());
        assert_eq!(
            e.to_string(),
            "u: TEST UNIT READY failed: UNIT ATTENTION, switched on, or reset (6/29/00)"
        );
        double.finish();
    }

    #[test]
    fn endless_attention_and_endless_busy_end() {
        let double = Double::new("u");
        double.always(&TUR, attention(0x29));
        let e = Unit::new(double).test_ready().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Scsi);
        let double = Double::new("u");
        double.always(&TUR, Reply::status(Status::Busy));
        let unit = Unit::new(double).patient_for(Duration::from_millis(40));
        let e = unit.test_ready().unwrap_err();
        assert!(e.to_string().ends_with("BUSY"), "{e}");
    }

    #[test]
    fn refusals_have_their_kind() {
        let double = Double::new("u");
        double.expect(&TUR, Reply::status(Status::ReservationConflict));
        double.expect(
            &TUR,
            Reply::check(Sense::new(SenseKey::DataProtect, 0x27, 0)),
        );
        double.expect(
            &TUR,
            Reply::check(Sense::new(SenseKey::RecoveredError, 0x17, 0)),
        );
        let unit = Unit::new(double);
        for _ in 0..2 {
            let e = unit.test_ready().unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Refused);
            assert!(e.advice().is_some());
        }
        unit.test_ready().unwrap();
    }
}
