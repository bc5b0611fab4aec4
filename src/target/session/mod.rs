//! A session from its first byte to its last: login, then commands until the
//! connection ends. One thread reads, workers execute, whoever has something to
//! say writes.

mod data_out;
mod login;
mod manage;
mod receive;
mod reply;
mod task;

use super::lun::{Nexus, Request};
use super::server::Shared;
use super::{Reply, Units};
use crate::iscsi::negotiate::Params;
use crate::iscsi::pdu::*;
use crate::iscsi::text::MOST_TEXT;
use crate::iscsi::wire::{Digests, Receiver, Sender, Stamp, lock};
use crate::scsi::{Sense, SenseKey};
use login::{Bare, Login, refuse, response, status};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use task::{Aborted, State, Task, Tasks};

/// How long a thread waits for work before it looks up.
const NAP: Duration = Duration::from_secs(1);

/// Which command numbers are taken.
#[derive(Debug)]
struct Window {
    expected: u32,
    outstanding: u32,
    depth: u32,
}

impl Window {
    fn max(&self) -> u32 {
        let room = self.depth.saturating_sub(self.outstanding);
        self.expected.wrapping_add(room).wrapping_sub(1)
    }
}

/// Numbers that go into what is sent.
struct Numbers {
    stat_sn: u32,
    window: Arc<Mutex<Window>>,
}

impl Stamp for Numbers {
    fn stamp(&mut self, bhs: &mut Bhs) {
        let counts = match bhs.opcode() {
            DataIn::OPCODE => DataIn::decode(bhs).with_status,
            R2t::OPCODE => false,
            NopIn::OPCODE => bhs.itt() != NO_TAG,
            _ => true,
        };
        if counts || bhs.opcode() != DataIn::OPCODE {
            bhs.set_u32(24, self.stat_sn);
        }
        if counts {
            self.stat_sn = self.stat_sn.wrapping_add(1);
        }
        let w = lock(&self.window);
        bhs.set_u32(28, w.expected);
        bhs.set_u32(32, w.max());
    }
}

/// A session in full feature phase.
pub(crate) struct Session {
    shared: Arc<Shared>,
    nexus: Nexus,
    discovery: bool,
    params: Params,
    /// Longest data segment the initiator takes; it may change its mind.
    max_send: AtomicUsize,
    sender: Sender<Numbers>,
    window: Arc<Mutex<Window>>,
    tasks: Mutex<Tasks>,
    /// Work may be there.
    work: Condvar,
    /// A task, or a worker, has ended.
    ended: Condvar,
    workers: AtomicUsize,
    managing: AtomicUsize,
}

impl Session {
    pub fn tsih(&self) -> u16 {
        self.nexus.tsih
    }

    /// Is it the session of this initiator and session id?
    pub fn is_of(&self, initiator: &str, isid: [u8; 6]) -> bool {
        self.nexus.isid == isid && &*self.nexus.initiator == initiator
    }

    /// Ends it at once: what runs is asked to stop.
    pub fn end(&self) {
        for e in &lock(&self.tasks).list {
            e.task.cancel.store(true, Ordering::Relaxed);
        }
        self.sender.close();
    }

    /// Takes no further command; what runs may end. The initiator is told.
    pub fn finish(&self) {
        let goodbye = AsyncMessage {
            last: true,
            itt: NO_TAG,
            event: 3,
            parameter2: 1,
            ..Default::default()
        };
        self.sender.post(Pdu::new(goodbye.encode(), Vec::new()));
        self.sender.stop_reading();
    }

    fn units(&self) -> &dyn Units {
        &*self.shared.units
    }

    /// Lets workers see what may run now; there are enough of them.
    fn dispatch(self: &Arc<Self>, tasks: &MutexGuard<'_, Tasks>) {
        if tasks.runnable(self.shared.config.limits.workers).is_none() {
            return;
        }
        if tasks.idle > 0 {
            self.work.notify_one();
            return;
        }
        // What may run apart from the ordinary commands has a thread of its own;
        // the window bounds how many there are.
        let most =
            self.shared.config.limits.workers + self.shared.config.limits.queue_depth as usize;
        if self.workers.load(Ordering::SeqCst) < most {
            self.workers.fetch_add(1, Ordering::SeqCst);
            let session = Arc::clone(self);
            let started = std::thread::Builder::new()
                .name("iscsi-worker".into())
                .spawn(move || session.work());
            if started.is_err() {
                self.workers.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// A worker's life.
    fn work(self: Arc<Self>) {
        let workers = self.shared.config.limits.workers;
        let mut tasks = lock(&self.tasks);
        let mut naps = 0;
        loop {
            if let Some(at) = tasks.runnable(workers) {
                naps = 0;
                let Some(entry) = tasks.list.get_mut(at) else {
                    break;
                };
                entry.state = State::Running;
                let (task, data) = (Arc::clone(&entry.task), std::mem::take(&mut entry.data));
                // There may be more than this one.
                self.dispatch(&tasks);
                drop(tasks);
                let reply = self.execute(&task, &data);
                drop(data);
                self.done(&task, reply);
                tasks = lock(&self.tasks);
                continue;
            }
            if tasks.stopping && tasks.list.is_empty() || naps > 30 {
                break;
            }
            tasks.idle += 1;
            let (t, timeout) = match self.work.wait_timeout(tasks, NAP) {
                Ok((t, r)) => (t, r.timed_out()),
                Err(e) => (e.into_inner().0, true),
            };
            tasks = t;
            tasks.idle -= 1;
            naps += usize::from(timeout);
        }
        self.workers.fetch_sub(1, Ordering::SeqCst);
        drop(tasks);
        self.ended.notify_all();
    }

    fn execute(&self, task: &Task, data: &[u8]) -> Reply {
        let request = Request {
            nexus: &self.nexus,
            cdb: &task.cdb,
            data_out: data,
            expected_out: task.expected_out,
            expected_in: task.expected_in,
            cancel: &task.cancel,
        };
        // A fault in a unit costs its command, not the target.
        catch_unwind(AssertUnwindSafe(|| {
            self.units().execute(task.lun, &request)
        }))
        .unwrap_or_else(|_| Reply::check(Sense::new(SenseKey::HardwareError, 0x44, 0)))
    }

    /// A worker has executed a task.
    fn done(self: &Arc<Self>, task: &Arc<Task>, reply: Reply) {
        let mut tasks = lock(&self.tasks);
        let at = tasks.list.iter().position(|e| Arc::ptr_eq(&e.task, task));
        let aborted = match at {
            Some(at) => tasks.list.remove(at).aborted,
            None => Some(Aborted::BySelf),
        };
        self.release(task);
        self.dispatch(&tasks);
        drop(tasks);
        self.ended.notify_all();
        match aborted {
            None => reply::send(self, task, reply),
            Some(Aborted::ByOther) => reply::aborted(self, task),
            Some(Aborted::BySelf) => {}
        }
    }

    /// The window opens by one.
    fn release(&self, task: &Task) {
        if !task.immediate {
            let mut w = lock(&self.window);
            w.outstanding = w.outstanding.saturating_sub(1);
        }
    }

    /// Aborts tasks of the session; those that do not run are gone at once. Gives
    /// those that run.
    fn abort(self: &Arc<Self>, by: Aborted, which: &dyn Fn(&Task) -> bool) -> Vec<Arc<Task>> {
        let mut running = Vec::new();
        let mut gone = Vec::new();
        let mut tasks = lock(&self.tasks);
        tasks.list.retain_mut(|e| {
            if !which(&e.task) {
                return true;
            }
            e.task.cancel.store(true, Ordering::Relaxed);
            if e.state == State::Running {
                e.aborted.get_or_insert(by);
                running.push(Arc::clone(&e.task));
                return true;
            }
            gone.push(Arc::clone(&e.task));
            false
        });
        for t in &gone {
            self.release(t);
        }
        self.dispatch(&tasks);
        drop(tasks);
        if by == Aborted::ByOther {
            for t in &gone {
                reply::aborted(self, t);
            }
        }
        self.ended.notify_all();
        running
    }

    /// Waits until none of these tasks runs any more.
    fn await_end(&self, running: &[Arc<Task>]) {
        let mut tasks = lock(&self.tasks);
        while tasks
            .list
            .iter()
            .any(|e| running.iter().any(|r| Arc::ptr_eq(r, &e.task)))
        {
            tasks = match self.ended.wait_timeout(tasks, NAP) {
                Ok((t, _)) => t,
                Err(e) => e.into_inner().0,
            };
        }
    }

    /// The connection has ended: waits for what runs, and gives up the rest. When
    /// the server ends, what was taken is executed.
    fn close(self: &Arc<Self>) {
        let limits = &self.shared.config.limits;
        let orderly = self.shared.stopping.load(Ordering::SeqCst);
        let mut until = Instant::now() + limits.grace;
        let mut tasks = lock(&self.tasks);
        tasks.stopping = true;
        tasks.list.retain(|e| match e.state {
            State::Receiving => false,
            State::Ready => orderly,
            State::Running => true,
        });
        let cancel = |t: &Tasks| {
            for e in &t.list {
                e.task.cancel.store(true, Ordering::Relaxed);
            }
        };
        if !orderly {
            cancel(&tasks);
        }
        self.dispatch(&tasks);
        while !tasks.list.is_empty() || self.workers.load(Ordering::SeqCst) > 0 {
            self.work.notify_all();
            if Instant::now() > until {
                tasks.list.retain(|e| e.state == State::Running);
                cancel(&tasks);
                until = Instant::now() + NAP;
            }
            tasks = match self.ended.wait_timeout(tasks, NAP) {
                Ok((t, _)) => t,
                Err(e) => e.into_inner().0,
            };
        }
    }
}

/// Serves a connection from login to end.
pub(crate) fn serve(stream: TcpStream, shared: &Arc<Shared>) {
    // A connection whose options cannot be set is gone already.
    let _ = serve_connection(stream, shared);
}

fn serve_connection(stream: TcpStream, shared: &Arc<Shared>) -> std::io::Result<()> {
    let limits = &shared.config.limits;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(NAP))?;
    stream.set_write_timeout(Some(limits.keepalive * 2))?;
    let local = stream.local_addr()?;
    let counters = Arc::clone(&shared.counters);
    let mut receiver = Receiver::new(stream.try_clone()?, MOST_TEXT, Arc::clone(&counters));
    let bare = Sender::new(
        stream.try_clone()?,
        Digests::default(),
        Bare,
        Arc::clone(&counters),
    );
    let deadline = Instant::now() + limits.login_timeout;
    let mut tick = || {
        if Instant::now() > deadline || shared.stopping.load(Ordering::Relaxed) {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        Ok(())
    };
    let knows = |tsih| shared.knows(tsih);
    let login = Login::new(&shared.config, &knows);
    let Some(agreed) = login.run(&mut receiver, &bare, &mut tick) else {
        bare.close();
        return Ok(());
    };

    let window = Arc::new(Mutex::new(Window {
        expected: agreed.last.cmd_sn,
        outstanding: 0,
        depth: limits.queue_depth.max(1),
    }));
    let numbers = Numbers {
        stat_sn: agreed.stat_sn.wrapping_add(1),
        window: Arc::clone(&window),
    };
    let sender = Sender::new(stream, agreed.params.digests, numbers, counters);
    let session = shared.enter(&agreed.initiator, agreed.last.isid, |nexus| Session {
        shared: Arc::clone(shared),
        nexus,
        discovery: agreed.discovery,
        max_send: AtomicUsize::new(agreed.params.max_send),
        params: agreed.params.clone(),
        sender,
        window,
        tasks: Mutex::default(),
        work: Condvar::new(),
        ended: Condvar::new(),
        workers: AtomicUsize::new(0),
        managing: AtomicUsize::new(0),
    });
    let Some(session) = session else {
        refuse(&bare, &agreed.last, agreed.stat_sn, status::NO_ROOM);
        bare.close();
        return Ok(());
    };
    if !session.discovery {
        session.units().nexus_began(&session.nexus);
    }
    let mut head = response(&agreed.last, true, agreed.stat_sn, session.tsih(), 0);
    head.max_cmd_sn = lock(&session.window).max();
    if bare
        .send(&mut [(head.encode(), &agreed.answers.encode())])
        .is_ok()
    {
        receiver.digests = agreed.params.digests;
        receiver.limit = agreed.params.max_recv;
        receive::run(&session, &mut receiver, local);
    }
    session.close();
    session.sender.deliver();
    session.sender.close();
    if !session.discovery {
        session.units().nexus_lost(&session.nexus);
    }
    shared.leave(&session);
    Ok(())
}
