//! One logical unit: what it shares with all others, around the [`Device`] that
//! makes it a disk, a tape drive or a changer.

use super::command::{CommandInfo, find};
use super::device::{Device, ThirdPartyCopy};
use super::log::Statistics;
use super::refusal::{Answer, Refusal, invalid_field, reply};
use super::reservation::{Port, Reservations};
use super::{
    Access, Attentions, Cdb, Identity, LUNS_CHANGED, inquiry, lock, log, mode, opcodes, persistent,
};
use crate::scsi::{SenseKey, Status, op};
use crate::target::lun::{Nexus, Reply, Request};
use crate::target::roster::Roster;
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// A logical unit.
pub struct Unit {
    lun: u16,
    identity: Identity,
    device: Arc<dyn Device>,
    third_party: Option<Arc<dyn ThirdPartyCopy>>,
    roster: Weak<Roster>,
    statistics: Statistics,
    pub(super) attentions: Arc<Attentions>,
    pub(super) reservations: Mutex<Reservations>,
    /// The bits of the control mode page that are set.
    pub(super) control: AtomicU8,
    resets: AtomicU64,
    aborts: Mutex<BTreeMap<Port, u64>>,
}

/// The commands that every unit has.
const COMMON: &[CommandInfo] = {
    use Access::*;
    use CommandInfo as C;
    &[
        C::new(&[0x00, 0, 0, 0, 0, 0x04], Status),
        C::new(&[0x03, 0x01, 0, 0, 0xff, 0x04], Always),
        C::new(&[0x12, 0x01, 0xff, 0xff, 0xff, 0x04], Always),
        C::new(&[0x15, 0x11, 0, 0, 0xff, 0x04], Control),
        C::new(&[0x16, 0x1f, 0, 0, 0, 0x04], Always),
        C::new(&[0x17, 0x1f, 0, 0, 0, 0x04], Always),
        C::new(&[0x1a, 0x08, 0xff, 0xff, 0xff, 0x04], Read),
        C::new(
            &[0x4d, 0x01, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0x04],
            Status,
        ),
        C::new(&[0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04], Control),
        C::new(&[0x56, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0x04], Always),
        C::new(&[0x57, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0x04], Always),
        C::new(&[0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0x04], Read),
        C::action(0, &[0x5e, 0x00, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04], Always),
        C::action(1, &[0x5e, 0x01, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04], Always),
        C::action(2, &[0x5e, 0x02, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04], Always),
        C::action(3, &[0x5e, 0x03, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04], Always),
        C::action(0, &PR_OUT[0], Always),
        C::action(1, &PR_OUT[1], Always),
        C::action(2, &PR_OUT[2], Always),
        C::action(3, &PR_OUT[3], Always),
        C::action(4, &PR_OUT[4], Always),
        C::action(5, &PR_OUT[5], Always),
        C::action(6, &PR_OUT[6], Always),
        C::new(
            &[0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
            Always,
        ),
        C::action(
            0x0c,
            &[
                0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04,
            ],
            Status,
        ),
        C::action(
            0x0d,
            &[0xa3, 0x0d, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
            Status,
        ),
    ]
};

const PR_OUT: [[u8; 10]; 7] = {
    let mut all = [[0x5f, 0, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04]; 7];
    let mut i = 0;
    while i < 7 {
        all[i][1] = i as u8;
        i += 1;
    }
    all
};

impl Unit {
    /// A unit with a name that is its own within the target, which keeps it in
    /// its roster.
    pub fn new(
        lun: u16,
        target: &str,
        name: &str,
        device: Arc<dyn Device>,
        third_party: Option<Arc<dyn ThirdPartyCopy>>,
        roster: Weak<Roster>,
    ) -> Self {
        let attentions = Arc::new(Attentions::default());
        device.installed(&attentions);
        Self {
            lun,
            identity: Identity::new(target, name),
            device,
            third_party,
            roster,
            statistics: Statistics::default(),
            attentions,
            reservations: Mutex::default(),
            control: AtomicU8::new(0),
            resets: AtomicU64::new(0),
            aborts: Mutex::default(),
        }
    }

    /// Its number.
    pub fn lun(&self) -> u16 {
        self.lun
    }

    /// Its names.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What kind of unit it is.
    pub fn device(&self) -> &dyn Device {
        &*self.device
    }

    /// The device as what it is, for who moves data without commands.
    pub fn device_as<T: Device>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.device;
        any.downcast_ref()
    }

    /// The copy manager behind it.
    pub fn third_party(&self) -> Option<&dyn ThirdPartyCopy> {
        self.third_party.as_deref()
    }

    /// The units of its target, while there is one.
    pub fn roster(&self) -> Option<Arc<Roster>> {
        self.roster.upgrade()
    }

    /// What was read and written.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// What nexuses are to be told.
    pub fn attentions(&self) -> &Arc<Attentions> {
        &self.attentions
    }

    /// True when the medium may not be written, for whatever reason.
    pub fn protected(&self) -> bool {
        self.device.write_protected() || self.control.load(Ordering::Relaxed) & mode::SWP != 0
    }

    /// WRITE PROTECTED when the medium may not be written.
    pub fn writable(&self) -> Result<(), Refusal> {
        match self.protected() {
            true => Err(Refusal::sense(SenseKey::DataProtect, 0x27, 0x00)),
            false => Ok(()),
        }
    }

    /// All commands.
    pub fn commands(&self) -> impl Iterator<Item = &CommandInfo> {
        let copies = self.third_party().map_or(&[][..], |t| t.commands());
        COMMON.iter().chain(self.device.commands()).chain(copies)
    }

    /// Executes a command. `units` are those that the session may see.
    pub fn execute(&self, units: &[Arc<Unit>], request: &Request<'_>) -> Reply {
        let mut r = reply(self.route(units, request));
        let descriptor = self.control.load(Ordering::Relaxed) & mode::D_SENSE != 0;
        if let Some(s) = r.sense.as_mut().filter(|_| descriptor) {
            s.raw = s.encode_descriptor().into();
        }
        r
    }

    fn route(&self, units: &[Arc<Unit>], request: &Request<'_>) -> Answer {
        let cdb = &Cdb::of(request.cdb);
        let exempt = [op::INQUIRY, op::REPORT_LUNS, op::REQUEST_SENSE];
        if !exempt.contains(&cdb.opcode())
            && let Some(s) = self.attentions.take(request.nexus)
        {
            return Err(s.into());
        }
        let command = find(self.commands(), cdb)?;
        if cdb.bit(cdb.len() - 1, 0x04) {
            return Err(invalid_field(cdb.len() as u16 - 1)); // NACA
        }
        self.may(request.nexus, command.access)?;
        if command.access == Access::Write {
            self.writable()?;
        }
        match cdb.opcode() {
            op::TEST_UNIT_READY => match self.device.ready() {
                Ok(()) => Ok(Reply::good()),
                Err(s) => Err(s.into()),
            },
            op::REQUEST_SENSE => inquiry::request_sense(self, cdb, request),
            op::INQUIRY => inquiry::inquiry(self, cdb),
            op::REPORT_LUNS => {
                // Who reads the list is not told any more that it changed.
                for u in units {
                    u.attentions.forget(request.nexus, LUNS_CHANGED);
                }
                inquiry::report_luns(units, cdb)
            }
            op::MODE_SENSE_6 | op::MODE_SENSE_10 => mode::sense(self, cdb),
            op::MODE_SELECT_6 | op::MODE_SELECT_10 => mode::select(self, cdb, request),
            op::LOG_SENSE => log::sense(self, cdb),
            op::RESERVE_6 | op::RESERVE_10 => persistent::reserve(self, cdb, request),
            op::RELEASE_6 | op::RELEASE_10 => persistent::release(self, cdb, request),
            op::PERSISTENT_RESERVE_IN => persistent::persistent_in(self, cdb, request),
            op::PERSISTENT_RESERVE_OUT => persistent::persistent_out(self, cdb, request),
            op::MAINTENANCE_IN if cdb.service_action() == 0x0c => opcodes::report(self, cdb),
            op::MAINTENANCE_IN if cdb.service_action() == 0x0d => {
                opcodes::report_task_management(cdb)
            }
            op::EXTENDED_COPY | op::RECEIVE_COPY_RESULTS => match self.third_party() {
                Some(t) => Ok(t.execute(units, self, request)),
                None => self.device.execute(self, cdb, request),
            },
            _ => self.device.execute(self, cdb, request),
        }
    }

    /// A session began.
    pub fn nexus_began(&self, nexus: &Nexus) {
        self.attentions.began(nexus);
    }

    /// A session ended: RESERVE is given up, what is persistent stays.
    pub fn nexus_lost(&self, nexus: &Nexus) {
        self.attentions.lost(nexus);
        let mut r = lock(&self.reservations);
        if r.legacy.as_ref() == Some(nexus) {
            r.legacy = None;
        }
        drop(r);
        self.device.nexus_lost(nexus);
    }

    /// LOGICAL UNIT RESET: running commands end, RESERVE and changed mode
    /// parameters are forgotten, everybody is told.
    pub fn reset(&self) {
        self.resets.fetch_add(1, Ordering::Relaxed);
        lock(&self.reservations).legacy = None;
        self.control.store(0, Ordering::Relaxed);
        self.device.reset();
        if let Some(t) = self.third_party() {
            t.reset(self);
        }
        self.attentions.reset();
    }

    /// Ends the commands of a port (PREEMPT AND ABORT).
    pub(super) fn abort_of(&self, port: &Port) {
        *lock(&self.aborts).entry(port.clone()).or_default() += 1;
    }

    /// Lets a long command notice that it should end.
    pub fn watch<'a>(&'a self, request: &'a Request<'a>) -> Watch<'a> {
        let port = Port::from(request.nexus);
        Watch {
            resets: self.resets.load(Ordering::Relaxed),
            aborts: self.aborts_of(&port),
            unit: self,
            request,
            port,
        }
    }

    fn aborts_of(&self, port: &Port) -> u64 {
        lock(&self.aborts).get(port).copied().unwrap_or(0)
    }
}

/// See [`Unit::watch`].
pub struct Watch<'a> {
    unit: &'a Unit,
    request: &'a Request<'a>,
    port: Port,
    resets: u64,
    aborts: u64,
}

impl Watch<'_> {
    /// True once the command was aborted, its nexus preempted or the unit reset.
    pub fn stopped(&self) -> bool {
        self.request.cancel.load(Ordering::Relaxed)
            || self.unit.resets.load(Ordering::Relaxed) != self.resets
            || self.unit.aborts_of(&self.port) != self.aborts
    }

    /// TASK ABORTED once [`stopped`](Self::stopped).
    pub fn go_on(&self) -> Result<(), Refusal> {
        match self.stopped() {
            true => Err(Refusal::status(Status::TaskAborted)),
            false => Ok(()),
        }
    }
}
