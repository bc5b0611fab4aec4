//! The commands of a disk: what they are called by, and where they are done.

use super::transfer::Place;
use super::{DiskUnit, change, report, snapshot, transfer};
use crate::scsi::{SenseKey, op};
use crate::target::common::{Access, Answer, Cdb, CommandInfo, Refusal, Unit};
use crate::target::lun::Request;

const F: u8 = 0xff;
const C: u8 = 0x04;

/// How many of them, the last ones, a snapshot does not have.
const OF_ORIGINALS: usize = 3;

/// The commands of a disk.
pub fn of(disk: &DiskUnit) -> &'static [CommandInfo] {
    let n = match disk.snapshot {
        true => COMMANDS.len() - OF_ORIGINALS,
        false => COMMANDS.len(),
    };
    COMMANDS.get(..n).unwrap_or(COMMANDS)
}

/// All commands that disks have beside the common ones.
pub const COMMANDS: &[CommandInfo] = {
    use Access::*;
    const fn n(usage: &'static [u8], access: Access) -> CommandInfo {
        CommandInfo::new(usage, access)
    }
    const fn a(action: u8, usage: &'static [u8], access: Access) -> CommandInfo {
        CommandInfo::action(action, usage, access)
    }
    &[
        n(&[0x08, 0x1f, F, F, F, C], Read),
        n(&[0x0a, 0x1f, F, F, F, C], Write),
        n(&[0x1b, 0x01, 0, 0, 0xf7, C], Control),
        n(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, C], Status),
        n(&[0x28, 0xf8, F, F, F, F, 0, F, F, C], Read),
        n(&[0x2a, 0xf8, F, F, F, F, 0, F, F, C], Write),
        n(&[0x2e, 0xf6, F, F, F, F, 0, F, F, C], Write),
        n(&[0x2f, 0xf6, F, F, F, F, 0, F, F, C], Read),
        n(&[0x34, 0x02, F, F, F, F, 0, F, F, C], Read),
        n(&[0x35, 0x02, F, F, F, F, 0, F, F, C], Control),
        n(&[0x37, 0, 0x1f, 0, 0, 0, 0, F, F, C], Read),
        n(&[0x41, 0xf8, F, F, F, F, 0, F, F, C], Write),
        n(&[0x42, 0x01, 0, 0, 0, 0, 0, F, F, C], Write),
        n(
            &[0x88, 0xf8, F, F, F, F, F, F, F, F, F, F, F, F, 0, C],
            Read,
        ),
        n(
            &[0x89, 0xf8, F, F, F, F, F, F, F, F, 0, 0, 0, F, 0, C],
            Write,
        ),
        n(
            &[0x8a, 0xf8, F, F, F, F, F, F, F, F, F, F, F, F, 0, C],
            Write,
        ),
        n(
            &[0x8b, 0xf8, F, F, F, F, F, F, F, F, F, F, F, F, 0, C],
            Write,
        ),
        n(
            &[0x8e, 0xf6, F, F, F, F, F, F, F, F, F, F, F, F, 0, C],
            Write,
        ),
        n(
            &[0x8f, 0xf6, F, F, F, F, F, F, F, F, F, F, F, F, 0, C],
            Read,
        ),
        n(
            &[0x90, 0x02, F, F, F, F, F, F, F, F, F, F, F, F, 0, C],
            Read,
        ),
        n(
            &[0x91, 0x02, F, F, F, F, F, F, F, F, F, F, F, F, 0, C],
            Control,
        ),
        n(
            &[0x93, 0xf9, F, F, F, F, F, F, F, F, F, F, F, F, 0, C],
            Write,
        ),
        a(
            0x10,
            &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, F, F, F, F, 0, C],
            Status,
        ),
        a(
            0x12,
            &[0x9e, 0x12, F, F, F, F, F, F, F, F, F, F, F, F, 0, C],
            Read,
        ),
        n(&[0xa8, 0xf8, F, F, F, F, F, F, F, F, 0, C], Read),
        n(&[0xaa, 0xf8, F, F, F, F, F, F, F, F, 0, C], Write),
        n(&[0xae, 0xf6, F, F, F, F, F, F, F, F, 0, C], Write),
        n(&[0xaf, 0xf6, F, F, F, F, F, F, F, F, 0, C], Read),
        n(&[0xb7, 0x1f, F, F, F, F, F, F, F, F, 0, C], Read),
        // docs/copy.md section 7.
        a(
            snapshot::LIST,
            &[0xc4, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, F, F, F, F, 0, C],
            Status,
        ),
        a(
            snapshot::CREATE,
            &[0xc4, 0x01, F, F, F, F, F, F, F, F, F, F, F, F, 0, C],
            Control,
        ),
        a(
            snapshot::DELETE,
            &[0xc4, 0x02, F, F, F, F, F, F, F, F, 0, 0, 0, 0, 0, C],
            Control,
        ),
    ]
};

pub fn execute(disk: &DiskUnit, unit: &Unit, cdb: &Cdb, request: &Request<'_>) -> Answer {
    let place = Place::of(cdb);
    let job = transfer::Job {
        disk,
        unit,
        cdb,
        request,
        place,
    };
    match cdb.opcode() {
        op::READ_6 | op::READ_10 | op::READ_12 | op::READ_16 => job.read(),
        op::WRITE_6 | op::WRITE_10 | op::WRITE_12 | op::WRITE_16 => job.write(),
        op::WRITE_AND_VERIFY_10 | op::WRITE_AND_VERIFY_12 | op::WRITE_AND_VERIFY_16 => {
            job.write_and_verify()
        }
        op::VERIFY_10 | op::VERIFY_12 | op::VERIFY_16 => job.verify(),
        op::PRE_FETCH_10 | op::PRE_FETCH_16 => job.pre_fetch(),
        op::SYNCHRONIZE_CACHE_10 | op::SYNCHRONIZE_CACHE_16 => job.synchronize(),
        op::START_STOP_UNIT => job.start_stop(),
        op::COMPARE_AND_WRITE => change::compare_and_write(&job),
        op::ORWRITE_16 => change::or_write(&job),
        op::WRITE_SAME_10 | op::WRITE_SAME_16 => change::write_same(&job),
        op::UNMAP => change::unmap(&job),
        op::READ_CAPACITY_10 => report::capacity_10(disk),
        op::SERVICE_ACTION_IN_16 if cdb.service_action() == 0x10 => report::capacity_16(disk, cdb),
        op::SERVICE_ACTION_IN_16 => report::lba_status(disk, cdb),
        op::READ_DEFECT_DATA_10 => report::defects_10(cdb),
        op::READ_DEFECT_DATA_12 => report::defects_12(cdb),
        op::NTBAK_SNAPSHOT => snapshot::execute(&job),
        _ => Err(Refusal::sense(SenseKey::IllegalRequest, 0x20, 0x00)),
    }
}
