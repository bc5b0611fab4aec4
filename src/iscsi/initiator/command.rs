//! One command over a session: its data, its end, and what is done when it does
//! not come.

use super::connection::{Connection, Ended, Event, Task, gone};
use super::session::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::iscsi::pdu::*;
use crate::iscsi::wire::Counters;
use crate::scsi::{Command, Completion, Data, OutcomeUnknown, Sense, Status, op};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Instant;

/// Data units that are written in one go, so that other threads come between.
const GROUP: usize = 16;
/// Times a harmless command is sent again after a lost connection.
const MOST_TRIES: usize = 3;

enum Failure {
    /// The connection is lost; true: the command may have been executed.
    Lost(Arc<str>, bool),
    Other(Error),
}

impl Session {
    /// Sends a command and waits for its end.
    pub fn execute(&self, lun: u64, command: &mut Command<'_>) -> Result<Completion> {
        let what = what(command.cdb);
        let mut tries = 0;
        loop {
            let connection = self.connection()?;
            match connection.run(lun, command) {
                Ok(done) => return Ok(done),
                Err(Failure::Other(e)) => return Err(e),
                Err(Failure::Lost(why, sent)) => {
                    tries += 1;
                    if tries < MOST_TRIES && (!sent || repeatable(command.cdb)) {
                        continue;
                    }
                    return Err(match sent {
                        true => Error::new(
                            ErrorKind::Scsi,
                            format!("The connection was lost while {what} was outstanding"),
                        )
                        .caused_by(OutcomeUnknown(why.to_string()))
                        .hint("whether it was executed is not known: look at the position or the content before it is sent again"),
                        false => gone(&why),
                    });
                }
            }
        }
    }
}

impl Connection {
    fn run(&self, lun: u64, command: &mut Command<'_>) -> Result<Completion, Failure> {
        let bad = |what: String| Failure::Other(Error::usage(what));
        let deadline = Instant::now() + command.timeout;
        let (most_in, most_out) = match &command.data {
            Data::None => (0, 0),
            Data::In(b) => (b.len(), 0),
            Data::Out(b) => (0, b.len()),
        };
        let expected = u32::try_from(most_in.max(most_out))
            .map_err(|_| bad("A command moves at most 4 GiB".into()))?;
        let mut cdb = [0; 16];
        cdb.get_mut(..command.cdb.len())
            .filter(|c| !c.is_empty())
            .ok_or_else(|| bad(format!("A command block has {} bytes", command.cdb.len())))?
            .copy_from_slice(command.cdb);

        // What goes out unasked: with the command, and behind it.
        let p = &self.params;
        let out: &[u8] = match &command.data {
            Data::Out(b) => b,
            _ => &[],
        };
        let first = out.len().min(p.first_burst);
        let with = if p.immediate_data {
            first.min(p.max_send)
        } else {
            0
        };
        let unasked = if p.initial_r2t { with } else { first };

        let task = self
            .task(most_in, most_out, unasked)
            .map_err(|why| Failure::Lost(why, false))?;
        let head = ScsiCommand {
            last: unasked == with,
            read: most_in > 0,
            write: most_out > 0,
            flags: Attribute(1),
            lun,
            itt: task.itt,
            expected,
            cdb,
            ..Default::default()
        };
        let (now, later) = out.split_at(unasked).0.split_at(with);
        let mut units = vec![(head.encode(), now)];
        data_units(&mut units, &task, lun, NO_TAG, with, later, p.max_send);
        match self.submit(&mut units, deadline) {
            Ok(true) => Counters::add(&self.counters.data_out, unasked),
            Ok(false) => {
                return Err(Failure::Other(Error::new(
                    ErrorKind::Scsi,
                    format!(
                        "The target takes no further command: {} was not sent within {} s",
                        what(command.cdb),
                        command.timeout.as_secs()
                    ),
                )));
            }
            Err(e) => {
                let why = self.lost().unwrap_or_else(|| e.to_string().into());
                self.fail(&why);
                return Err(Failure::Lost(why, true));
            }
        }
        self.wait(&task, lun, command, deadline)
    }

    fn wait(
        &self,
        task: &Task<'_>,
        lun: u64,
        command: &mut Command<'_>,
        deadline: Instant,
    ) -> Result<Completion, Failure> {
        let mut received = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match task.events.recv_timeout(left) {
                Ok(Event::Data(bytes)) => {
                    if let Data::In(buf) = &mut command.data
                        && let Some(place) = buf.get_mut(received..received + bytes.len())
                    {
                        place.copy_from_slice(&bytes);
                    }
                    received += bytes.len();
                }
                Ok(Event::Wanted {
                    ttt,
                    lun,
                    from,
                    len,
                }) => {
                    let Data::Out(out) = &command.data else {
                        continue;
                    };
                    let bytes = out.get(from..from + len).unwrap_or_default();
                    let mut units = Vec::new();
                    data_units(
                        &mut units,
                        task,
                        lun,
                        ttt,
                        from,
                        bytes,
                        self.params.max_send,
                    );
                    for group in units.chunks_mut(GROUP) {
                        if let Err(e) = self.sender.send(group) {
                            let why = self.lost().unwrap_or_else(|| e.to_string().into());
                            self.fail(&why);
                            return Err(Failure::Lost(why, true));
                        }
                    }
                    Counters::add(&self.counters.data_out, bytes.len());
                }
                Ok(Event::Done(end)) => return completion(command, end, received),
                Ok(Event::Answer(_)) => {}
                Ok(Event::Rejected(reason)) => {
                    return Err(Failure::Other(Error::new(
                        ErrorKind::Scsi,
                        format!(
                            "The target rejected {} with reason {reason:#04x}",
                            what(command.cdb)
                        ),
                    )));
                }
                Ok(Event::Lost(why)) => return Err(Failure::Lost(why, true)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Lost("it was given up".into(), true));
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Failure::Other(self.give_up(task, lun, command)));
                }
            }
        }
    }

    /// ABORT TASK for a command that takes too long.
    fn give_up(&self, task: &Task<'_>, lun: u64, command: &Command<'_>) -> Error {
        let end = match self.manage(Function(1), lun, Some(task.itt)) {
            Ok(0) => "and was aborted".to_string(),
            Ok(1) => "and the target no longer knows it".to_string(),
            Ok(code) => {
                self.fail("a command could not be aborted");
                format!("and ABORT TASK got response {code}")
            }
            Err(e) => format!("and could not be aborted: {}", e.message()),
        };
        Error::new(
            ErrorKind::Scsi,
            format!(
                "{} did not end within {} s {end}",
                what(command.cdb),
                command.timeout.as_secs()
            ),
        )
    }
}

/// Data-Out units for a sequence that begins at a place of the command's data.
fn data_units<'d>(
    units: &mut Vec<(Bhs, &'d [u8])>,
    task: &Task<'_>,
    lun: u64,
    ttt: u32,
    from: usize,
    bytes: &'d [u8],
    most: usize,
) {
    let count = bytes.len().div_ceil(most);
    let mut offset = from;
    for (n, part) in bytes.chunks(most).enumerate() {
        let head = DataOut {
            last: n + 1 == count,
            lun: if ttt == NO_TAG { 0 } else { lun },
            itt: task.itt,
            ttt,
            data_sn: n as u32,
            offset: offset as u32,
            ..Default::default()
        };
        units.push((head.encode(), part));
        offset += part.len();
    }
}

fn completion(command: &Command<'_>, end: Ended, received: usize) -> Result<Completion, Failure> {
    if end.response != 0 {
        return Err(Failure::Other(Error::new(
            ErrorKind::Scsi,
            format!(
                "The target could not complete {}: response {:#04x}",
                what(command.cdb),
                end.response
            ),
        )));
    }
    let status = Status::of(end.status);
    Ok(Completion {
        sense: if status == Status::CheckCondition {
            Sense::decode(&end.sense)
        } else {
            None
        },
        status,
        transferred: match &command.data {
            Data::None => 0,
            Data::In(_) => received,
            Data::Out(b) => b.len().saturating_sub(end.missing),
        },
    })
}

fn what(cdb: &[u8]) -> String {
    format!("command {:02X}h", cdb.first().copied().unwrap_or(0))
}

/// True for a command that changes nothing, so that it may be sent again when
/// nobody knows whether it was executed. READ(6) is not one: on a tape it moves.
fn repeatable(cdb: &[u8]) -> bool {
    let action = cdb.get(1).map_or(0, |b| b & 0x1f);
    match cdb.first() {
        Some(&op::RECEIVE_COPY_RESULTS) => action == 3,
        Some(&op::PERSISTENT_RESERVE_IN | &op::SERVICE_ACTION_IN_16 | &op::MAINTENANCE_IN) => true,
        Some(c) => matches!(
            *c,
            op::TEST_UNIT_READY
                | op::INQUIRY
                | op::READ_BLOCK_LIMITS
                | op::MODE_SENSE_6
                | op::MODE_SENSE_10
                | op::LOG_SENSE
                | op::READ_CAPACITY_10
                | op::READ_10
                | op::READ_12
                | op::READ_16
                | op::READ_POSITION
                | op::REPORT_LUNS
                | op::REPORT_DENSITY_SUPPORT
                | op::READ_ATTRIBUTE
                | op::READ_ELEMENT_STATUS
        ),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_tape_or_writes_is_never_repeated() {
        for c in [
            op::READ_6,
            op::WRITE_6,
            op::WRITE_10,
            op::WRITE_16,
            op::WRITE_FILEMARKS_6,
            op::SPACE_6,
            op::SPACE_16,
            op::LOCATE_10,
            op::LOCATE_16,
            op::EXTENDED_COPY,
            op::ERASE_6,
            op::UNMAP,
            op::MOVE_MEDIUM,
            op::COMPARE_AND_WRITE,
        ] {
            assert!(!repeatable(&[c, 0, 0, 0, 0, 0]), "{c:02x}");
        }
        assert!(repeatable(&[op::READ_16, 0]));
        assert!(repeatable(&[op::RECEIVE_COPY_RESULTS, 3]));
        assert!(!repeatable(&[op::RECEIVE_COPY_RESULTS, 1]));
        assert!(!repeatable(&[]));
    }
}
