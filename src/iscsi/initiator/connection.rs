//! One connection: the thread that reads it, and the tasks it serves.

use super::login::LoggedIn;
use crate::error::{Error, ErrorKind, Result};
use crate::iscsi::negotiate::Params;
use crate::iscsi::pdu::*;
use crate::iscsi::wire::{Broken, Counters, Receiver, Sender, Stamp, lock};
use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long an answer to task management or logout may take.
const MANAGE: Duration = Duration::from_secs(15);

/// What happens to a task.
pub enum Event {
    /// The next bytes of its data.
    Data(Vec<u8>),
    /// The target wants these bytes.
    Wanted {
        ttt: u32,
        lun: u64,
        from: usize,
        len: usize,
    },
    /// It ended.
    Done(Ended),
    /// The answer to task management, logout or a ping.
    Answer(u8),
    /// The target did not take it.
    Rejected(u8),
    /// The connection is lost.
    Lost(Arc<str>),
}

/// How a command ended.
pub struct Ended {
    pub response: u8,
    pub status: u8,
    /// Bytes not moved of those expected.
    pub missing: usize,
    pub sense: Vec<u8>,
}

struct Slot {
    to: mpsc::Sender<Event>,
    /// Bytes it may still receive, and send by R2T, in order.
    received: usize,
    most_in: usize,
    sent: usize,
    most_out: usize,
}

/// Is `a` before `b` in serial number arithmetic?
pub fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// Numbers that go into every unit.
pub struct Numbers {
    pub cmd_sn: u32,
    exp_stat_sn: Arc<AtomicU32>,
}

impl Stamp for Numbers {
    fn stamp(&mut self, bhs: &mut Bhs) {
        if bhs.opcode() != DataOut::OPCODE && bhs.opcode() != Snack::OPCODE {
            bhs.set_u32(24, self.cmd_sn);
            if !bhs.immediate() {
                self.cmd_sn = self.cmd_sn.wrapping_add(1);
            }
        }
        bhs.set_u32(28, self.exp_stat_sn.load(Ordering::Relaxed));
    }
}

struct Flow {
    max_cmd_sn: u32,
    next_itt: u32,
    slots: HashMap<u32, Slot>,
    lost: Option<Arc<str>>,
    /// The target asked us to log out.
    leaving: bool,
}

/// A connection in full feature phase.
pub struct Connection {
    pub sender: Sender<Numbers>,
    pub params: Params,
    flow: Mutex<Flow>,
    changed: Condvar,
    exp_stat_sn: Arc<AtomicU32>,
    pub counters: Arc<Counters>,
    keepalive: Duration,
}

/// A task's place in the table; leaving scope gives it up.
pub struct Task<'a> {
    pub itt: u32,
    pub events: mpsc::Receiver<Event>,
    connection: &'a Connection,
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        let mut flow = lock(&self.connection.flow);
        flow.slots.remove(&self.itt);
        let leave = flow.leaving && flow.slots.is_empty() && flow.lost.is_none();
        drop(flow);
        if leave {
            self.connection.post_logout();
        }
        self.connection.changed.notify_all();
    }
}

impl Connection {
    /// Begins to serve a connection.
    pub fn start(
        l: LoggedIn,
        counters: Arc<Counters>,
        keepalive: Duration,
    ) -> Result<(Arc<Self>, JoinHandle<()>)> {
        let exp_stat_sn = Arc::new(AtomicU32::new(l.exp_stat_sn));
        let numbers = Numbers {
            cmd_sn: l.cmd_sn,
            exp_stat_sn: Arc::clone(&exp_stat_sn),
        };
        let c = Arc::new(Self {
            sender: Sender::new(l.stream, l.params.digests, numbers, Arc::clone(&counters)),
            params: l.params,
            flow: Mutex::new(Flow {
                max_cmd_sn: l.max_cmd_sn,
                next_itt: 0x10,
                slots: HashMap::new(),
                lost: None,
                leaving: false,
            }),
            changed: Condvar::new(),
            exp_stat_sn,
            counters,
            keepalive,
        });
        let reader = Arc::clone(&c);
        let receiver = l.receiver;
        let thread = std::thread::Builder::new()
            .name("iscsi-reader".into())
            .spawn(move || reader.read(receiver))
            .map_err(|e| Error::io("Cannot start a thread", e))?;
        Ok((c, thread))
    }

    /// Why it is lost, if it is.
    pub fn lost(&self) -> Option<Arc<str>> {
        lock(&self.flow).lost.clone()
    }

    /// Waits until a connection that the target wants to end has ended; true if
    /// it is lost then.
    pub fn gone(&self) -> bool {
        let mut flow = lock(&self.flow);
        let until = Instant::now() + MANAGE;
        while flow.leaving && flow.lost.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(flow);
                self.fail("the target asked for a logout and did not end it");
                return true;
            }
            flow = match self.changed.wait_timeout(flow, left) {
                Ok((f, _)) => f,
                Err(e) => e.into_inner().0,
            };
        }
        flow.lost.is_some()
    }

    /// Ends it; every task hears of it.
    pub fn fail(&self, why: &str) {
        let mut flow = lock(&self.flow);
        if flow.lost.is_none() {
            let why: Arc<str> = why.into();
            for slot in flow.slots.values() {
                let _ = slot.to.send(Event::Lost(Arc::clone(&why)));
            }
            flow.lost = Some(why);
        }
        drop(flow);
        self.sender.close();
        self.changed.notify_all();
    }

    /// A place for a task that may receive and send so many bytes.
    pub fn task(&self, most_in: usize, most_out: usize, sent: usize) -> Result<Task<'_>, Arc<str>> {
        let (to, events) = mpsc::channel();
        let mut flow = lock(&self.flow);
        if let Some(why) = &flow.lost {
            return Err(Arc::clone(why));
        }
        while flow.next_itt == NO_TAG || flow.slots.contains_key(&flow.next_itt) {
            flow.next_itt = flow.next_itt.wrapping_add(1);
        }
        let itt = flow.next_itt;
        flow.next_itt = itt.wrapping_add(1);
        flow.slots.insert(
            itt,
            Slot {
                to,
                received: 0,
                most_in,
                sent,
                most_out,
            },
        );
        Ok(Task {
            itt,
            events,
            connection: self,
        })
    }

    /// Writes a command, with what goes with it, when the target takes another
    /// one. False: the deadline passed before.
    pub fn submit(&self, units: &mut [(Bhs, &[u8])], deadline: Instant) -> io::Result<bool> {
        loop {
            let written = self.sender.with(|out, s| {
                let full = before(lock(&self.flow).max_cmd_sn, out.stamp.cmd_sn);
                (!full).then(|| s.write(out, units))
            });
            if let Some(result) = written {
                return result.map(|()| true);
            }
            let seen = lock(&self.flow);
            if seen.lost.is_some() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            // The window may have opened since it was looked at: wake up soon.
            let _ = self
                .changed
                .wait_timeout(seen, left.min(Duration::from_millis(50)));
        }
    }

    /// Task management; the answer's code.
    pub fn manage(&self, function: Function, lun: u64, task: Option<u32>) -> Result<u8> {
        let slot = self.task(0, 0, 0).map_err(|why| gone(&why))?;
        let request = TaskManagement {
            immediate: true,
            last: true,
            function,
            lun,
            itt: slot.itt,
            referenced: task.unwrap_or(NO_TAG),
            ..Default::default()
        };
        self.sender
            .send(&mut [(request.encode(), &[])])
            .map_err(|e| gone(&e.to_string()))?;
        self.answer(&slot, "task management", MANAGE)
    }

    /// A ping.
    pub fn ping(&self, timeout: Duration) -> Result<()> {
        let slot = self.task(0, 0, 0).map_err(|why| gone(&why))?;
        let ping = NopOut {
            immediate: true,
            last: true,
            itt: slot.itt,
            ttt: NO_TAG,
            ..Default::default()
        };
        self.sender
            .send(&mut [(ping.encode(), &[])])
            .map_err(|e| gone(&e.to_string()))?;
        self.answer(&slot, "a ping", timeout).map(|_| ())
    }

    /// Ends the session in good order.
    pub fn logout(&self) -> Result<()> {
        let slot = self.task(0, 0, 0).map_err(|why| gone(&why))?;
        let request = LogoutRequest {
            immediate: true,
            last: true,
            itt: slot.itt,
            ..Default::default()
        };
        self.sender
            .send(&mut [(request.encode(), &[])])
            .map_err(|e| gone(&e.to_string()))?;
        let answer = self.answer(&slot, "a logout", MANAGE);
        self.fail("we logged out");
        answer.map(|_| ())
    }

    fn post_logout(&self) {
        let request = LogoutRequest {
            immediate: true,
            last: true,
            itt: 1,
            ..Default::default()
        };
        self.sender.post(Pdu::new(request.encode(), Vec::new()));
    }

    fn answer(&self, slot: &Task<'_>, to: &str, timeout: Duration) -> Result<u8> {
        match slot.events.recv_timeout(timeout) {
            Ok(Event::Answer(code)) => Ok(code),
            Ok(Event::Lost(why)) => Err(gone(&why)),
            Ok(Event::Rejected(code)) => Err(Error::new(
                ErrorKind::Scsi,
                format!("The target rejected {to} with reason {code:#04x}"),
            )),
            Ok(_) => Err(Error::new(
                ErrorKind::Scsi,
                format!("The target answered {to} as if it were a command"),
            )),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                let what = format!("the target did not answer {to}");
                self.fail(&what);
                Err(gone(&what))
            }
        }
    }

    /// The reading thread.
    fn read(&self, mut receiver: Receiver<TcpStream>) {
        let mut heard = Instant::now();
        let mut asked = false;
        let why = loop {
            let mut tick = || {
                self.sender.deliver();
                let silence = heard.elapsed();
                if silence > 2 * self.keepalive {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the target gives no sign of life",
                    ));
                }
                if silence > self.keepalive && !asked {
                    asked = true;
                    let ping = NopOut {
                        immediate: true,
                        last: true,
                        itt: 2,
                        ttt: NO_TAG,
                        ..Default::default()
                    };
                    self.sender.post(Pdu::new(ping.encode(), Vec::new()));
                }
                Ok(())
            };
            let unit = receiver.unit(&mut tick);
            heard = Instant::now();
            asked = false;
            match unit {
                Ok(unit) => {
                    if let Err(why) = self.route(unit) {
                        break why;
                    }
                }
                Err(Broken::Closed) => break "the target closed it".to_string(),
                Err(e) => break e.to_string(),
            }
        };
        self.fail(&why);
    }

    /// Gives a unit to the task it is for. An error ends the connection.
    fn route(&self, unit: Pdu) -> Result<(), String> {
        let Pdu { bhs, data, .. } = unit;
        let opcode = bhs.opcode();
        // Where a status number counts, the next one is expected.
        let counts = match opcode {
            R2t::OPCODE => false,
            DataIn::OPCODE => DataIn::decode(&bhs).with_status,
            NopIn::OPCODE => bhs.itt() != NO_TAG,
            _ => true,
        };
        if counts {
            let next = bhs.u32_at(24).wrapping_add(1);
            if before(self.exp_stat_sn.load(Ordering::Relaxed), next) {
                self.exp_stat_sn.store(next, Ordering::Relaxed);
            }
        }
        if opcode == DataIn::OPCODE {
            Counters::add(&self.counters.data_in, data.len());
        }
        let mut guard = lock(&self.flow);
        let flow = &mut *guard;
        // A Data-In without status leaves the window fields valid too.
        let max = bhs.u32_at(32);
        if before(flow.max_cmd_sn, max) {
            flow.max_cmd_sn = max;
            self.changed.notify_all();
        }
        let slot = flow.slots.get_mut(&bhs.itt());
        match opcode {
            DataIn::OPCODE => {
                let d = DataIn::decode(&bhs);
                // A task that was given up: its data has no place any more.
                let Some(slot) = slot else { return Ok(()) };
                let end = slot.received + data.len();
                if !data.is_empty() && d.offset as usize != slot.received || end > slot.most_in {
                    return Err(format!(
                        "data came for bytes {} to {} of a command, expected were {} to {} at most",
                        d.offset,
                        d.offset as usize + data.len(),
                        slot.received,
                        slot.most_in
                    ));
                }
                slot.received = end;
                if !data.is_empty() {
                    let _ = slot.to.send(Event::Data(data));
                }
                if d.with_status {
                    let _ = slot.to.send(Event::Done(Ended {
                        response: 0,
                        status: d.status,
                        missing: if d.underflow { d.residual as usize } else { 0 },
                        sense: Vec::new(),
                    }));
                }
            }
            ScsiResponse::OPCODE => {
                let r = ScsiResponse::decode(&bhs);
                let len = data.first_chunk().map_or(0, |l| u16::from_be_bytes(*l));
                let sense = data.get(2..).unwrap_or_default();
                let sense = sense.get(..usize::from(len)).unwrap_or(sense);
                if let Some(slot) = slot {
                    let _ = slot.to.send(Event::Done(Ended {
                        response: r.response,
                        status: r.status,
                        missing: if r.underflow { r.residual as usize } else { 0 },
                        sense: sense.to_vec(),
                    }));
                }
            }
            R2t::OPCODE => {
                let r = R2t::decode(&bhs);
                let Some(slot) = slot else { return Ok(()) };
                let (from, len) = (r.offset as usize, r.length as usize);
                if from != slot.sent || len == 0 || len > slot.most_out.saturating_sub(from) {
                    return Err(format!(
                        "the target wants bytes {from} to {} of a command, expected were {} to {} at most",
                        from.saturating_add(len),
                        slot.sent,
                        slot.most_out
                    ));
                }
                slot.sent = from + len;
                let _ = slot.to.send(Event::Wanted {
                    ttt: r.ttt,
                    lun: r.lun,
                    from,
                    len,
                });
            }
            TaskManagementResponse::OPCODE | LogoutResponse::OPCODE => {
                // Both have the code in the same place.
                let code = TaskManagementResponse::decode(&bhs).response;
                match slot {
                    Some(slot) => drop(slot.to.send(Event::Answer(code))),
                    None if opcode == LogoutResponse::OPCODE => {
                        return Err("the target asked for a logout".into());
                    }
                    None => {}
                }
            }
            NopIn::OPCODE => {
                let n = NopIn::decode(&bhs);
                if let Some(slot) = slot {
                    let _ = slot.to.send(Event::Answer(0));
                }
                drop(guard);
                if n.ttt != NO_TAG {
                    if self.sender.posted() > 64 {
                        return Err("the target asks for signs of life without end".into());
                    }
                    let answer = NopOut {
                        immediate: true,
                        last: true,
                        lun: n.lun,
                        itt: NO_TAG,
                        ttt: n.ttt,
                        ..Default::default()
                    };
                    self.sender.post(Pdu::new(answer.encode(), Vec::new()));
                }
            }
            Reject::OPCODE => {
                let reason = Reject::decode(&bhs).reason;
                let mut refused = Bhs([0; BHS]);
                match data.first_chunk::<BHS>() {
                    Some(h) => refused.0 = *h,
                    None => return Err(format!("a unit was rejected with reason {reason:#04x}")),
                }
                match flow.slots.get(&refused.itt()) {
                    Some(slot) => drop(slot.to.send(Event::Rejected(reason))),
                    None => {
                        return Err(format!(
                            "{} was rejected with reason {reason:#04x}",
                            name_of(refused.opcode())
                        ));
                    }
                }
            }
            AsyncMessage::OPCODE => match AsyncMessage::decode(&bhs).event {
                1 => {
                    flow.leaving = true;
                    let idle = flow.slots.is_empty();
                    drop(guard);
                    if idle {
                        self.post_logout();
                    }
                }
                2 | 3 => return Err("the target ends the connection".into()),
                _ => {}
            },
            _ => return Err(format!("a unit with operation code {opcode:#04x} came")),
        }
        Ok(())
    }
}

/// The error for what cannot be done because the connection is lost.
pub fn gone(why: &str) -> Error {
    Error::new(
        ErrorKind::Scsi,
        format!("The connection to the target is lost: {why}"),
    )
}
