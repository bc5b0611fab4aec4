//! Snapshots of a disk unit, each a unit of its own: `docs/copy.md` section 7
//! defines the command.

#[cfg(test)]
mod tests;

use super::aside::Aside;
use super::transfer::Job;
use super::{Backing, DiskUnit};
use crate::random;
use crate::scsi::SenseKey;
use crate::target::common::{Answer, Identity, Refusal, cut, encode_lun, invalid_field, lock, put};
use crate::target::lun::Reply;
use crate::target::roster::{Event, Happened, Roster};
use crate::units::human_bytes;
use rustix::fs::ioctl_ficlone;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

/// Service action: which there are.
pub const LIST: u8 = 0x00;
/// Service action: one more.
pub const CREATE: u8 = 0x01;
/// Service action: one is not needed any more.
pub const DELETE: u8 = 0x02;

/// Most snapshots of a disk.
pub const MOST: usize = 8;

const HEADER: usize = 8;
const DESCRIPTOR: usize = 72;

/// A snapshot that there is.
pub struct Taken {
    id: u64,
    lun: u16,
    naa: [u8; 16],
    bytes: u64,
    /// Milliseconds since 1970, UTC.
    created: u64,
    tag: u64,
    how: How,
}

/// What keeps its bytes.
enum How {
    /// The file system.
    Reflink,
    /// We do.
    Aside(Arc<Aside>),
}

impl How {
    fn words(&self) -> &'static str {
        match self {
            How::Reflink => "the file system shares its blocks",
            How::Aside(_) => "by copy-on-write",
        }
    }
}

impl Taken {
    fn descriptor(&self) -> [u8; DESCRIPTOR] {
        let (method, lost, held) = match &self.how {
            How::Reflink => (1, false, 0),
            How::Aside(a) => (2, a.lost(), a.held()),
        };
        let mut d = [0; DESCRIPTOR];
        put(&mut d, 0, 8, encode_lun(self.lun));
        put(&mut d, 8, 8, self.id);
        for (to, from) in d.iter_mut().skip(16).zip(self.naa) {
            *to = from;
        }
        put(&mut d, 32, 8, self.bytes);
        put(&mut d, 40, 8, self.created);
        put(&mut d, 48, 8, self.tag);
        put(&mut d, 56, 1, method);
        put(&mut d, 57, 1, lost.into());
        put(&mut d, 64, 8, held);
        d
    }

    fn event(&self, job: &Job<'_>, what: Happened, detail: String) -> Event {
        Event {
            what,
            of: job.unit.lun(),
            name: job.unit.identity().name().into(),
            id: self.id,
            lun: self.lun,
            naa: self.naa,
            detail,
        }
    }
}

/// Executes the command.
pub fn execute(job: &Job<'_>) -> Answer {
    match job.cdb.service_action() {
        LIST => Ok(list(job)),
        CREATE => create(job),
        DELETE => delete(job),
        _ => Err(invalid_field(1)),
    }
}

fn described<'a>(all: impl Iterator<Item = &'a Taken>, room: u32) -> Reply {
    let mut d = vec![0; HEADER];
    all.for_each(|t| d.extend_from_slice(&t.descriptor()));
    let len = d.len() - HEADER;
    put(&mut d, 0, 4, len as u64);
    put(&mut d, 4, 2, MOST as u64);
    cut(d, room.into())
}

fn list(job: &Job<'_>) -> Reply {
    described(lock(&job.disk.taken).iter(), job.cdb.u32(10))
}

fn insufficient() -> Refusal {
    Refusal::sense(SenseKey::IllegalRequest, 0x55, 0x03)
}

fn internal() -> Refusal {
    Refusal::sense(SenseKey::HardwareError, 0x44, 0x00)
}

fn create(job: &Job<'_>) -> Answer {
    let room = job.cdb.u32(10);
    // Whoever makes one has to learn which it is.
    if (room as usize) < HEADER + DESCRIPTOR {
        return Err(invalid_field(10));
    }
    let roster = job.unit.roster().ok_or_else(internal)?;
    let mut taken = lock(&job.disk.taken);
    if taken.len() >= MOST {
        return Err(insufficient());
    }
    let id = u64::from_be_bytes(random::bytes().map_err(|_| internal())?);
    let identity = job.unit.identity();
    let name = format!("{}-{id:016x}", identity.name());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut one = Taken {
        id,
        lun: roster.reserve().ok_or_else(insufficient)?,
        naa: *Identity::new(identity.target(), &name).naa(),
        bytes: job.disk.offset(job.disk.blocks),
        created: now.map_or(0, |d| d.as_millis() as u64),
        tag: job.cdb.u64(2),
        how: How::Reflink,
    };
    let (device, how) = match take(job, &roster, &one) {
        Ok(made) => made,
        Err(e) => {
            roster.give_back(one.lun);
            roster.tell(one.event(job, Happened::Failed, e.to_string()));
            return Err(internal());
        }
    };
    one.how = how;
    roster.add(one.lun, &name, Arc::new(device));
    let who = &job.request.nexus.initiator;
    let detail = format!("for {who}, {}", one.how.words());
    roster.tell(one.event(job, Happened::Created, detail));
    taken.push(one);
    Ok(described(taken.last().into_iter(), room))
}

fn delete(job: &Job<'_>) -> Answer {
    let roster = job.unit.roster().ok_or_else(internal)?;
    let mut taken = lock(&job.disk.taken);
    let id = job.cdb.u64(2);
    let at = taken.iter().position(|t| t.id == id);
    let one = taken.remove(at.ok_or_else(|| invalid_field(2))?);
    let who = &job.request.nexus.initiator;
    let mut detail = format!("for {who}");
    if let How::Aside(aside) = &one.how {
        detail.push_str(&format!(", it held {}", human_bytes(aside.held())));
        // Before writers stop to put aside: who still reads it is told.
        aside.end();
        let order = &job.disk.order;
        let mut alone = order.write().unwrap_or_else(PoisonError::into_inner);
        alone.remove(aside);
    }
    roster.remove(one.lun);
    roster.tell(one.event(job, Happened::Deleted, detail));
    Ok(Reply::good())
}

/// Takes it: the moment is when no command that changes the disk is under way.
fn take(job: &Job<'_>, roster: &Arc<Roster>, one: &Taken) -> io::Result<(DiskUnit, How)> {
    let disk = job.disk;
    let made = |backing: Backing| {
        let mut d = DiskUnit::new(backing, disk.options).map_err(io::Error::other)?;
        d.snapshot = true;
        Ok::<_, io::Error>(d)
    };
    let file = disk.backing.file();
    let file = file.ok_or_else(|| io::Error::other("a snapshot has no snapshots"))?;
    let beside = disk.backing.folder();
    if let Some(copy) = beside.and_then(|f| Backing::unnamed(f).ok())
        // Shows whether it can be done, and leaves little to be written out for
        // the one that counts.
        && ioctl_ficlone(&copy, file).is_ok()
    {
        let alone = disk.order.write().unwrap_or_else(PoisonError::into_inner);
        if ioctl_ficlone(&copy, file).is_ok() {
            drop(alone);
            return Ok((made(disk.backing.copied(copy))?, How::Reflink));
        }
    }
    let aside = unnamed(roster.folder(), beside)?;
    let lost = one.event(job, Happened::Lost, String::new());
    let told = Arc::downgrade(roster);
    let on_loss = Box::new(move |e: &io::Error| {
        if let Some(roster) = told.upgrade() {
            let detail = e.to_string();
            roster.tell(Event {
                detail,
                ..lost.clone()
            });
        }
    });
    let aside = Arc::new(Aside::new(
        file.clone(),
        disk.backing.bytes(),
        aside,
        on_loss,
    ));
    let unit = made(disk.backing.as_it_was(aside.clone()))?;
    let mut alone = disk.order.write().unwrap_or_else(PoisonError::into_inner);
    alone.add(aside.clone());
    Ok((unit, How::Aside(aside)))
}

/// A file for what is put aside: where it was asked for; else beside the disk,
/// else with the temporary files.
fn unnamed(folder: Option<PathBuf>, beside: Option<&Path>) -> io::Result<File> {
    let folders = match (folder, beside) {
        (Some(f), _) => vec![f],
        (None, Some(b)) => vec![b.to_owned(), std::env::temp_dir()],
        (None, None) => vec![std::env::temp_dir()],
    };
    let mut failed = None;
    for f in folders {
        match Backing::unnamed(&f) {
            Ok(file) => return Ok(file),
            Err(e) => {
                let why = format!("no file without a name in {}: {e}", f.display());
                failed.get_or_insert(io::Error::new(e.kind(), why));
            }
        }
    }
    Err(failed.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}
