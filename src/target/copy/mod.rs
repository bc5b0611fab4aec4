//! The copy manager: EXTENDED COPY (LID1) between the units of the target, as
//! `docs/copy.md` sections 1, 5 and 6 define it. A list is parsed, worked out by
//! the residue model, and then executed to the letter.

mod announce;
mod device;
mod engine;
mod fail;
mod held;
mod program;
mod progress;
mod queue;
mod reader;
mod register;
mod resolve;
mod results;
mod rope;
mod tape;
mod units;

#[cfg(test)]
mod tests;

pub use device::{CopyDisk, CopyTape};
pub use resolve::port_name;

use super::common::{
    Access, Cdb, CommandInfo, ModePage, Refusal, ThirdPartyCopy, Unit, cut, invalid_field,
    list_length, reply,
};
use super::lun::{Nexus, Reply, Request};
use super::profile::{CopyProfile, What};
use crate::copy::parse::{self, List, ListIdUsage};
use crate::copy::profile::Dialect;
use crate::scsi::{Failure, Sense, SenseKey, Status, op};
use engine::{Engine, Given};
use fail::{Stop, check};
use held::Held;
use program::Step;
use progress::Progress;
use queue::Queue;
use reader::{Extent, Extents, Reader};
use resolve::Resolved;
use results::{Finished, Results};
use rope::{Buffer, Pool};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

const COPY: u8 = 0x00;
const ABORT: u8 = 0x1c;
const STATUS: u8 = 0x00;
const DATA: u8 = 0x01;
const PARAMETERS: u8 = 0x03;
const DETAILS: u8 = 0x04;

/// How long COPY OPERATION ABORT waits for the end of the copy.
const ABORT_WAIT: Duration = Duration::from_secs(30);
/// Below this many bytes a second thread costs more than it gives.
const WORTH_A_THREAD: u64 = 512 * 1024;

const EXTENDED_COPY: [u8; 16] = [
    0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 4,
];
const OPERATION_ABORT: [u8; 16] = [
    0x83, 0x1c, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4,
];
const RESULTS: [[u8; 16]; 4] = [
    results(STATUS),
    results(DATA),
    results(PARAMETERS),
    results(DETAILS),
];

const fn results(action: u8) -> [u8; 16] {
    [
        0x84, action, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 4,
    ]
}

/// The copy manager behind all units of a target.
pub struct CopyManager {
    profile: CopyProfile,
    commands: Vec<CommandInfo>,
    results: Results,
    queue: Queue,
    pool: Arc<Pool>,
}

/// A copy that may begin.
struct Job<'a> {
    list: List,
    bytes: Arc<Buffer>,
    units: Vec<Resolved>,
    steps: Vec<Step>,
    nexus: &'a Nexus,
    progress: Arc<Progress>,
}

impl CopyManager {
    /// One that impersonates a profile.
    pub fn new(profile: CopyProfile) -> Self {
        let mut commands = vec![CommandInfo::action(COPY, &EXTENDED_COPY, Access::Control)];
        if profile.profile.third_party_page {
            commands.push(CommandInfo::action(ABORT, &OPERATION_ABORT, Access::Status));
        }
        for usage in &RESULTS {
            let [_, action, ..] = *usage;
            if profile.profile.results.contains(&action) {
                commands.push(CommandInfo::action(action, usage, Access::Status));
            }
        }
        Self {
            profile,
            commands,
            results: Results::default(),
            queue: Queue::default(),
            pool: Arc::default(),
        }
    }

    fn extended_copy(&self, units: &[Arc<Unit>], unit: &Unit, request: &Request<'_>) -> Reply {
        let length = Cdb::of(request.cdb).u32(10) as usize;
        if length == 0 {
            return Reply::good();
        }
        let Some(bytes) = request.data_out.get(..length) else {
            return reply(Err(list_length()));
        };
        if self.profile.busy() {
            return Reply::status(Status::Busy);
        }
        if self.profile.attention() {
            return Reply::check(Sense::new(SenseKey::UnitAttention, 0x29, 0x00));
        }
        let limits = &self.profile.profile.enforced;
        let list = match parse::parse(bytes, limits) {
            Ok(list) => list,
            Err(refusal) => return Reply::check(refusal.sense()),
        };
        let resolved: Vec<Resolved> = list
            .cscds
            .iter()
            .map(|c| resolve::resolve(c, units))
            .collect();
        let steps = program::program(&list, &resolved, limits);
        let used = |tapes_only: bool| {
            let mut luns: Vec<u16> = resolved
                .iter()
                .flatten()
                .filter(|u| !tapes_only || u.tape().is_some())
                .map(|u| u.0.lun())
                .collect();
            luns.sort_unstable();
            luns.dedup();
            luns
        };
        let tapes = used(true);
        let progress = Arc::new(Progress::new(used(false)));
        let most = usize::from(limits.concurrent.max(1));
        let Some(place) = self.queue.line_up(tapes, most) else {
            return Reply::status(Status::Busy);
        };
        let id = (list.usage != ListIdUsage::None).then_some(list.id);
        if let Some(id) = id
            && !self.results.begin(request.nexus, id, progress.clone())
        {
            return Reply::check(Sense::new(SenseKey::IllegalRequest, 0x00, 0x16));
        }
        let watch = unit.watch(request);
        let stopped = || watch.stopped();
        let job = Job {
            bytes: Arc::new(Buffer::of(bytes.to_vec())),
            list,
            units: resolved,
            steps,
            nexus: request.nexus,
            progress: progress.clone(),
        };
        let (end, held) = match place.wait(|| stopped() || progress.aborted()) {
            true => self.run(&job, &stopped),
            false if progress.aborted() => (Err(Stop::Aborted), Held::new(0)),
            false => (Err(Stop::Cancelled), Held::new(0)),
        };
        drop(place);
        self.finish(&job, id, end, held)
    }

    fn run(&self, job: &Job<'_>, stopped: &(dyn Fn() -> bool + Sync)) -> (Result<(), Stop>, Held) {
        let limits = &self.profile.profile.enforced;
        let fault = self.profile.arm(job.steps.len());
        let (extents, ahead) = extents(job, fault, &self.pool);
        let given = Given {
            list: &job.list,
            bytes: job.bytes.clone(),
            units: &job.units,
            steps: &job.steps,
            nexus: job.nexus,
            progress: &job.progress,
            stopped,
            pool: self.pool.clone(),
            fault,
            held: match job.list.usage {
                ListIdUsage::None => 0,
                ListIdUsage::Hold | ListIdUsage::Discard => limits.held_bytes,
            },
        };
        if !ahead || extents.bytes() < WORTH_A_THREAD {
            let mut engine = Engine::new(given, Reader::Direct(extents, VecDeque::new()));
            let end = engine.run();
            return (end, engine.held);
        }
        std::thread::scope(|scope| {
            let (to, from) = sync_channel(reader::WAITING);
            scope.spawn(move || extents.send_all(&to));
            let mut engine = Engine::new(given, Reader::Ahead(from, VecDeque::new()));
            let end = engine.run();
            // The reader ends when nobody listens any more.
            (end, engine.held)
        })
    }

    fn finish(
        &self,
        job: &Job<'_>,
        id: Option<u8>,
        end: Result<(), Stop>,
        mut held: Held,
    ) -> Reply {
        let answer = match &end {
            Ok(()) => Reply::good(),
            Err(Stop::Cancelled) => Reply::status(Status::TaskAborted),
            Err(Stop::Aborted) => Reply::check(Sense::new(SenseKey::CopyAborted, 0x2f, 0x02)),
            Err(Stop::Failed(f)) => Reply::check(f.sense()),
        };
        if self.profile.discards_held() {
            held.discard();
        }
        let late = self.profile.late_status();
        if let Some(id) = id {
            let finished = Finished::new(
                answer.status,
                answer.sense.clone(),
                job.progress.clone(),
                held,
                Instant::now() + late,
            );
            match self.profile.loses_id() {
                true => self.results.forget(job.nexus, id),
                false => self.results.end(job.nexus, id, finished),
            }
        }
        job.progress.ended();
        answer
    }

    fn receive(&self, cdb: &Cdb, request: &Request<'_>) -> Reply {
        let (id, allocation) = (cdb.u8(2), u64::from(cdb.u32(10)));
        let nexus = request.nexus;
        let data = match cdb.service_action() {
            STATUS => self.results.status(nexus, id),
            DATA => self.results.data(nexus, id, allocation),
            PARAMETERS => Some(announce::operating_parameters(
                &self.profile.profile.announced,
            )),
            DETAILS => self.results.details(nexus, id),
            _ => return reply(Err(invalid_field(1))),
        };
        match data {
            Some(data) => cut(data, allocation),
            None => reply(Err(invalid_field(2))),
        }
    }

    fn abort(&self, cdb: &Cdb, request: &Request<'_>) -> Reply {
        let id = u8::try_from(cdb.u32(2)).ok();
        let running = id.and_then(|id| self.results.running(request.nexus, id));
        match running {
            Some(copy) => {
                copy.abort();
                match copy.wait(ABORT_WAIT) {
                    true => Reply::good(),
                    false => Reply::status(Status::Busy),
                }
            }
            None => reply(Err(invalid_field(2))),
        }
    }
}

/// Disk extents of a job in the order of its segments, and whether they may be
/// read ahead: not when it writes to a disk that it also reads.
fn extents<'a>(
    job: &'a Job<'_>,
    fault: Option<&super::profile::SegmentFault>,
    pool: &Arc<Pool>,
) -> (Extents<'a>, bool) {
    let found = |id: Option<usize>| job.units.get(id?)?.as_ref().ok();
    let mut list = VecDeque::new();
    let mut ahead = true;
    for (k, step) in job.steps.iter().enumerate() {
        let Some((unit, disk)) = found(step.source).and_then(|u| Some((u, u.disk()?))) else {
            continue;
        };
        ahead &= !job.steps.iter().any(|s| {
            let to = found(s.destination).filter(|u| u.disk().is_some());
            to.is_some_and(|to| to.0.lun() == unit.0.lun())
        });
        let mut len = step.effects.read;
        let mut then: Option<Box<Failure>> = None;
        if let Some(f) = fault.filter(|f| f.segment == k && f.what == What::Source)
            && f.at < len
        {
            let block = u64::from(step.source_block.max(1));
            len = f.at / block * block;
            then = Some(check(SenseKey::MediumError, 0x11, 0x00));
        }
        if len > 0 || then.is_some() {
            list.push_back(Extent {
                step: k,
                disk,
                start: step.from,
                len,
                then,
            });
        }
    }
    (Extents::new(list, pool.clone()), ahead)
}

impl ThirdPartyCopy for CopyManager {
    fn commands(&self) -> &[CommandInfo] {
        &self.commands
    }

    fn vpd(&self, _unit: &Unit) -> Option<Vec<u8>> {
        if !self.profile.profile.third_party_page {
            return None;
        }
        let mut commands: Vec<(u8, Vec<u8>)> = Vec::new();
        for c in &self.commands {
            let action = c.action.unwrap_or(0);
            match commands.last_mut().filter(|l| l.0 == c.opcode()) {
                Some(last) => last.1.push(action),
                None => commands.push((c.opcode(), vec![action])),
            }
        }
        let limits = &self.profile.profile.announced;
        Some(announce::third_party_page(limits, &commands))
    }

    fn mode_pages(&self) -> Vec<ModePage> {
        match self.profile.profile.dialect {
            Dialect::Spc => Vec::new(),
            // Where the draft has its limits. Nobody reads more of it than that
            // it is there.
            Dialect::Draft => vec![ModePage::fixed(0x0e, vec![0; 14])],
        }
    }

    fn execute(&self, units: &[Arc<Unit>], unit: &Unit, request: &Request<'_>) -> Reply {
        let cdb = Cdb::of(request.cdb);
        match (cdb.opcode(), cdb.service_action()) {
            (op::EXTENDED_COPY, COPY) => self.extended_copy(units, unit, request),
            (op::EXTENDED_COPY, ABORT) => self.abort(&cdb, request),
            (op::RECEIVE_COPY_RESULTS, _) => self.receive(&cdb, request),
            _ => Refusal::sense(SenseKey::IllegalRequest, 0x20, 0x00).into_reply(),
        }
    }

    fn nexus_lost(&self, nexus: &Nexus) {
        self.results.nexus_lost(nexus);
    }

    fn reset(&self, unit: &Unit) {
        self.results.reset(unit.lun());
    }
}
