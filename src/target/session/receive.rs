//! The reading thread of a session in full feature phase. It never waits for the
//! peer to read, and never for a command.

use super::data_out::{Incoming, Next, Take};
use super::task::{Entry, State, Task, class};
use super::{Session, manage, reply};
use crate::iscsi::pdu::*;
use crate::iscsi::text::{MOST_TEXT, Pairs};
use crate::iscsi::url::portal;
use crate::iscsi::wire::{Broken, Counters, Receiver, lock};
use crate::scsi::{Sense, SenseKey, Status, op};
use crate::target::lun::Request;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Answers that wait to be written when the peer does not read.
const MOST_POSTED: usize = 1024;
/// Immediate commands outstanding at once.
const MOST_IMMEDIATE: usize = 32;

mod reason {
    pub const SNACK: u8 = 0x03;
    pub const PROTOCOL: u8 = 0x04;
    pub const NOT_SUPPORTED: u8 = 0x05;
    pub const TOO_MANY_IMMEDIATE: u8 = 0x06;
    pub const IN_PROGRESS: u8 = 0x07;
    pub const INVALID_FIELD: u8 = 0x09;
}

/// The connection ends.
struct End;

struct Reading<'a> {
    session: &'a Arc<Session>,
    local: SocketAddr,
    /// Data of commands that is still coming.
    incoming: HashMap<u32, Incoming>,
    next_ttt: u32,
    /// Which units work in order.
    in_order: HashMap<u64, bool>,
    /// Text that is still coming.
    text: Vec<u8>,
}

/// Reads until the connection ends.
pub fn run(session: &Arc<Session>, receiver: &mut Receiver<TcpStream>, local: SocketAddr) {
    let mut reading = Reading {
        session,
        local,
        incoming: HashMap::new(),
        next_ttt: 1,
        in_order: HashMap::new(),
        text: Vec::new(),
    };
    let mut heard = Instant::now();
    let mut asked = false;
    let keepalive = session.shared.config.limits.keepalive;
    loop {
        let mut tick = || {
            session.sender.deliver();
            let silence = heard.elapsed();
            if silence > 2 * keepalive {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if silence > keepalive && !asked {
                asked = true;
                ask(session);
            }
            Ok(())
        };
        let done = receiver
            .header(&mut tick)
            .and_then(|(bhs, ahs)| reading.unit(receiver, bhs, &ahs, &mut tick));
        heard = Instant::now();
        asked = false;
        if !matches!(done, Ok(Ok(()))) || session.sender.posted() > MOST_POSTED {
            return;
        }
    }
}

/// Asks the initiator for a sign of life.
fn ask(session: &Session) {
    let ping = NopIn {
        last: true,
        itt: NO_TAG,
        ttt: 1,
        ..Default::default()
    };
    session.sender.post(Pdu::new(ping.encode(), Vec::new()));
}

impl Reading<'_> {
    /// Reads the rest of a unit and does what it says.
    fn unit(
        &mut self,
        receiver: &mut Receiver<TcpStream>,
        bhs: Bhs,
        ahs: &[u8],
        tick: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<Result<(), End>, Broken> {
        if bhs.opcode() == DataOut::OPCODE {
            return self.data_out(receiver, &bhs, tick);
        }
        let mut data = Vec::new();
        receiver.data(&bhs, &mut data, tick)?;
        Ok(match bhs.opcode() {
            ScsiCommand::OPCODE => self.command(&bhs, ahs, data),
            NopOut::OPCODE => self.numbered(&bhs, |s| s.nop(&NopOut::decode(&bhs), data)),
            TaskManagement::OPCODE => self.numbered(&bhs, |s| {
                manage::request(s.session, &TaskManagement::decode(&bhs));
                Ok(())
            }),
            TextRequest::OPCODE => {
                self.numbered(&bhs, |s| s.text(&bhs, &TextRequest::decode(&bhs), &data))
            }
            LogoutRequest::OPCODE => {
                self.numbered(&bhs, |s| s.logout(&LogoutRequest::decode(&bhs)))
            }
            Snack::OPCODE => self.reject(&bhs, reason::SNACK),
            LoginRequest::OPCODE => {
                let _ = self.reject(&bhs, reason::PROTOCOL);
                Err(End)
            }
            _ => self.reject(&bhs, reason::NOT_SUPPORTED),
        })
    }

    /// Takes the command number of a request. What lies outside the window is
    /// passed over in silence; a gap cannot be filled on the only connection.
    fn number(&self, bhs: &Bhs) -> Result<bool, End> {
        if bhs.immediate() {
            return Ok(true);
        }
        let cmd_sn = bhs.u32_at(24);
        let mut w = lock(&self.session.window);
        if cmd_sn == w.expected && w.outstanding < w.depth {
            w.expected = w.expected.wrapping_add(1);
            return Ok(true);
        }
        let ahead = cmd_sn.wrapping_sub(w.expected);
        let room = w.max().wrapping_sub(w.expected);
        if (room as i32) >= 0 && ahead <= room {
            return Err(End);
        }
        Ok(false)
    }

    /// For requests that are done with when they were read.
    fn numbered(
        &mut self,
        bhs: &Bhs,
        then: impl FnOnce(&mut Self) -> Result<(), End>,
    ) -> Result<(), End> {
        if self.number(bhs)? {
            then(self)
        } else {
            Ok(())
        }
    }

    fn post(&self, head: Bhs, data: Vec<u8>) {
        self.session.sender.post(Pdu::new(head, data));
    }

    fn reject(&self, bhs: &Bhs, reason: u8) -> Result<(), End> {
        let head = Reject {
            last: true,
            reason,
            itt: NO_TAG,
            ..Default::default()
        };
        self.post(head.encode(), bhs.0.to_vec());
        Ok(())
    }

    fn check(&self, itt: u32, key: SenseKey, asc: u8, ascq: u8) {
        let sense = Sense::new(key, asc, ascq);
        reply::refuse(self.session, itt, Status::CheckCondition, Some(&sense));
    }

    fn command(&mut self, bhs: &Bhs, ahs: &[u8], data: Vec<u8>) -> Result<(), End> {
        let c = ScsiCommand::decode(bhs);
        if self.session.discovery {
            return self.reject(bhs, reason::NOT_SUPPORTED);
        }
        if !self.number(bhs)? {
            return Ok(());
        }
        Counters::add(&self.session.shared.counters.data_in, data.len());
        let limits = &self.session.shared.config.limits;
        let expected = c.expected as usize;
        let (expected_in, expected_out) = match (c.read, c.write) {
            (true, true) => {
                self.check(c.itt, SenseKey::IllegalRequest, 0x24, 0);
                return Ok(());
            }
            (true, false) => (expected, 0),
            (false, true) => (0, expected),
            (false, false) => (0, 0),
        };
        if c.itt == NO_TAG {
            return self.reject(bhs, reason::INVALID_FIELD);
        }
        if expected_out > limits.max_transfer {
            self.check(c.itt, SenseKey::IllegalRequest, 0x24, 0);
            return Ok(());
        }
        let mut cdb = c.cdb.to_vec();
        if let Some(more) = extended_cdb(ahs) {
            cdb.extend_from_slice(more);
        }
        let task = Arc::new(Task {
            itt: c.itt,
            lun: c.lun,
            class: class(&cdb, self.works_in_order(c.lun)),
            cdb,
            attribute: c.flags,
            immediate: c.immediate,
            expected_in,
            expected_out,
            cancel: AtomicBool::new(false),
        });
        let immediate = data.len();
        {
            let mut tasks = lock(&self.session.tasks);
            if tasks.find(c.itt).is_some() {
                drop(tasks);
                return self.reject(bhs, reason::IN_PROGRESS);
            }
            let urgent = tasks.list.iter().filter(|e| e.task.immediate).count();
            if c.immediate && urgent >= MOST_IMMEDIATE {
                drop(tasks);
                return self.reject(bhs, reason::TOO_MANY_IMMEDIATE);
            }
            let full = expected_out > 0
                && !tasks.list.is_empty()
                && tasks.buffered() + expected_out > limits.max_buffered;
            if full || tasks.stopping {
                drop(tasks);
                reply::refuse(self.session, c.itt, Status::TaskSetFull, None);
                return Ok(());
            }
            tasks.list.push(Entry {
                task: Arc::clone(&task),
                state: State::Receiving,
                aborted: None,
                data,
            });
        }
        if !c.immediate {
            lock(&self.session.window).outstanding += 1;
        }
        self.forget_aborted();
        let params = &self.session.params;
        self.incoming.insert(
            c.itt,
            Incoming::new(params, expected_out, immediate, c.last),
        );
        self.proceed(c.itt, c.lun);
        Ok(())
    }

    /// Aborted commands leave their places behind: not more than a few.
    fn forget_aborted(&mut self) {
        if self.incoming.len() > 2 * self.session.shared.config.limits.queue_depth as usize {
            let mut tasks = lock(&self.session.tasks);
            self.incoming.retain(|itt, _| tasks.find(*itt).is_some());
        }
    }

    /// Goes on with a command's data: asks for more, or gives it to the workers.
    fn proceed(&mut self, itt: u32, lun: u64) {
        let Some(incoming) = self.incoming.get_mut(&itt) else {
            return;
        };
        let ttt = &mut self.next_ttt;
        let next = incoming.next(|| {
            *ttt = if *ttt >= NO_TAG - 1 { 1 } else { *ttt + 1 };
            *ttt
        });
        match next {
            Next::More => {}
            Next::Ask(w) => {
                let head = R2t {
                    last: true,
                    lun,
                    itt,
                    ttt: w.ttt,
                    r2t_sn: w.r2t_sn,
                    offset: w.offset as u32,
                    length: w.len as u32,
                    ..Default::default()
                };
                self.post(head.encode(), Vec::new());
            }
            Next::Complete => {
                self.incoming.remove(&itt);
                let mut tasks = lock(&self.session.tasks);
                if let Some(e) = tasks.find(itt) {
                    e.state = State::Ready;
                    self.session.dispatch(&tasks);
                }
            }
            Next::Failed(sense) => {
                self.incoming.remove(&itt);
                let mut tasks = lock(&self.session.tasks);
                let at = tasks
                    .list
                    .iter()
                    .position(|e| e.task.itt == itt && e.state == State::Receiving);
                let Some(at) = at else { return };
                let entry = tasks.list.remove(at);
                self.session.release(&entry.task);
                self.session.dispatch(&tasks);
                drop(tasks);
                reply::refuse(self.session, itt, Status::CheckCondition, Some(&sense));
            }
        }
    }

    fn data_out(
        &mut self,
        receiver: &mut Receiver<TcpStream>,
        bhs: &Bhs,
        tick: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<Result<(), End>, Broken> {
        let d = DataOut::decode(bhs);
        Counters::add(&self.session.shared.counters.data_in, bhs.data_len());
        let take = self
            .incoming
            .get_mut(&d.itt)
            .map(|i| i.unit(&d, bhs.data_len()));
        // The data joins what is there already, without another copy.
        let mut buffer = Vec::new();
        if take == Some(Take::Keep)
            && let Some(e) = lock(&self.session.tasks).find(d.itt)
        {
            if e.data.capacity() == 0 {
                // As far as one sequence goes, at once.
                let burst = self.session.params.max_burst;
                e.data.reserve(e.task.expected_out.min(burst));
            }
            buffer = std::mem::take(&mut e.data);
        }
        receiver.data(bhs, &mut buffer, tick)?;
        match take {
            // Of a command that was aborted, or never taken.
            None => return Ok(Ok(())),
            Some(Take::Reject) => return Ok(self.reject(bhs, reason::INVALID_FIELD)),
            Some(Take::Drop) => {}
            Some(Take::Keep) => {
                let mut tasks = lock(&self.session.tasks);
                match tasks.find(d.itt) {
                    Some(e) => e.data = buffer,
                    None => {
                        drop(tasks);
                        self.incoming.remove(&d.itt);
                        return Ok(Ok(()));
                    }
                }
            }
        }
        let lun = lock(&self.session.tasks).find(d.itt).map(|e| e.task.lun);
        match lun {
            Some(lun) => self.proceed(d.itt, lun),
            None => drop(self.incoming.remove(&d.itt)),
        }
        Ok(Ok(()))
    }

    /// Does a unit work in order? Disks do not; what else there is, does.
    fn works_in_order(&mut self, lun: u64) -> bool {
        if let Some(known) = self.in_order.get(&lun) {
            return *known;
        }
        if !self.session.units().has(lun) {
            return false;
        }
        let cancel = AtomicBool::new(false);
        let inquiry = self.session.units().execute(
            lun,
            &Request {
                nexus: &self.session.nexus,
                cdb: &[op::INQUIRY, 0, 0, 0, 36, 0],
                data_out: &[],
                expected_out: 0,
                expected_in: 36,
                cancel: &cancel,
            },
        );
        let kind = inquiry.data_in.first().map_or(0x1f, |b| b & 0x1f);
        if kind == 0x1f {
            return false; // a snapshot that is gone since
        }
        let disk = kind == 0;
        self.in_order.insert(lun, !disk);
        !disk
    }

    fn nop(&mut self, n: &NopOut, data: Vec<u8>) -> Result<(), End> {
        // Without a tag it answers our own question.
        if n.itt != NO_TAG {
            let head = NopIn {
                last: true,
                itt: n.itt,
                ttt: NO_TAG,
                ..Default::default()
            };
            let most = self.session.max_send.load(Ordering::Relaxed);
            let mut data = data;
            data.truncate(most);
            self.post(head.encode(), data);
        }
        Ok(())
    }

    fn text(&mut self, bhs: &Bhs, t: &TextRequest, data: &[u8]) -> Result<(), End> {
        if t.itt == NO_TAG || self.text.len() + data.len() > MOST_TEXT {
            self.text = Vec::new();
            return self.reject(bhs, reason::PROTOCOL);
        }
        self.text.extend_from_slice(data);
        if t.more || !t.last {
            let head = TextResponse {
                itt: t.itt,
                ttt: 1,
                ..Default::default()
            };
            self.post(head.encode(), Vec::new());
            return Ok(());
        }
        let Ok(pairs) = Pairs::decode(&std::mem::take(&mut self.text)) else {
            return self.reject(bhs, reason::PROTOCOL);
        };
        let mut answers = Pairs::new();
        for (key, value) in pairs.iter() {
            match key {
                "SendTargets" => self.targets(value, &mut answers),
                "MaxRecvDataSegmentLength" => match value.parse() {
                    Ok(n) if (512..1 << 24).contains(&n) => {
                        self.session.max_send.store(n, Ordering::Relaxed);
                    }
                    _ => return self.reject(bhs, reason::PROTOCOL),
                },
                _ => answers.push(key, "Reject"),
            }
        }
        let mut text = answers.encode();
        text.truncate(self.session.max_send.load(Ordering::Relaxed));
        let head = TextResponse {
            last: true,
            itt: t.itt,
            ttt: NO_TAG,
            ..Default::default()
        };
        self.post(head.encode(), text);
        Ok(())
    }

    /// Answers SendTargets with the address by which the initiator came.
    fn targets(&self, which: &str, answers: &mut Pairs) {
        let name = &self.session.shared.config.name;
        let all = which == "All" && self.session.discovery;
        if all || which.is_empty() && !self.session.discovery || which.eq_ignore_ascii_case(name) {
            let ip = self.local.ip().to_canonical();
            answers.push("TargetName", name);
            answers.push(
                "TargetAddress",
                format!("{},1", portal(&ip.to_string(), self.local.port())),
            );
        } else if which == "All" {
            answers.push("SendTargets", "Reject");
        }
    }

    fn logout(&mut self, l: &LogoutRequest) -> Result<(), End> {
        let response = match l.reason.0 {
            0 | 1 => 0,
            // Recovery of a connection: there is none.
            _ => 2,
        };
        let head = LogoutResponse {
            last: true,
            response,
            itt: l.itt,
            ..Default::default()
        };
        if response == 0 {
            // Nothing comes behind it: whatever runs has lost its initiator.
            let _ = self.session.sender.send(&mut [(head.encode(), &[])]);
            return Err(End);
        }
        self.post(head.encode(), Vec::new());
        Ok(())
    }
}
