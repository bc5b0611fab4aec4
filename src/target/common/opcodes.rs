//! REPORT SUPPORTED OPERATION CODES and TASK MANAGEMENT FUNCTIONS.

use super::cdb::put;
use super::command::CommandInfo;
use super::persistent::cut;
use super::refusal::{Answer, invalid_field};
use super::{Cdb, Unit};

/// REPORT SUPPORTED OPERATION CODES: all, or one.
pub fn report(unit: &Unit, cdb: &Cdb) -> Answer {
    let (how, opcode, action) = (cdb.u8(2) & 0x07, cdb.u8(3), cdb.u16(4));
    let timeouts = cdb.bit(2, 0x80);
    let same: Vec<&CommandInfo> = unit.commands().filter(|c| c.opcode() == opcode).collect();
    let has_actions = same.iter().any(|c| c.action.is_some());
    let by_action = || {
        same.iter()
            .find(|c| c.action.map(u16::from) == Some(action))
    };
    let data = match how {
        0 => all(unit, timeouts),
        1 if has_actions => return Err(invalid_field(2)),
        1 => one(same.first().copied(), timeouts),
        2 if !has_actions => return Err(invalid_field(2)),
        2 => one(by_action().copied(), timeouts),
        3 if has_actions => one(by_action().copied(), timeouts),
        3 => one(same.first().copied().filter(|_| action == 0), timeouts),
        _ => return Err(invalid_field(2)),
    };
    Ok(cut(data, cdb.u32(6).into()))
}

fn all(unit: &Unit, timeouts: bool) -> Vec<u8> {
    let mut list = Vec::new();
    for c in unit.commands() {
        let mut d = vec![0; 8];
        put(&mut d, 0, 1, c.opcode().into());
        put(&mut d, 2, 2, c.action.unwrap_or(0).into());
        let flags = u64::from(timeouts) << 1 | u64::from(c.action.is_some());
        put(&mut d, 5, 1, flags);
        put(&mut d, 6, 2, c.usage.len() as u64);
        list.extend_from_slice(&d);
        if timeouts {
            list.extend_from_slice(&UNKNOWN_TIMES);
        }
    }
    let mut d = (list.len() as u32).to_be_bytes().to_vec();
    d.extend_from_slice(&list);
    d
}

fn one(command: Option<&CommandInfo>, timeouts: bool) -> Vec<u8> {
    let Some(c) = command else {
        return vec![0, 0x01, 0, 0];
    };
    let mut d = vec![0; 4];
    put(&mut d, 1, 1, u64::from(timeouts) << 7 | 0x03);
    put(&mut d, 2, 2, c.usage.len() as u64);
    d.extend_from_slice(c.usage);
    if timeouts {
        d.extend_from_slice(&UNKNOWN_TIMES);
    }
    d
}

/// Command timeouts descriptor: nothing is known about times.
const UNKNOWN_TIMES: [u8; 12] = [0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS.
pub fn report_task_management(cdb: &Cdb) -> Answer {
    // ATS ATSS CTSS LURS TRS
    let mut d = vec![0xda, 0, 0, 0];
    if cdb.bit(2, 0x80) {
        put(&mut d, 3, 1, 12); // extended form
        d.resize(16, 0);
    }
    Ok(cut(d, cdb.u32(6).into()))
}
