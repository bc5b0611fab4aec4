//! Answers to commands: data, status, sense and residual.

use super::Session;
use super::task::Task;
use crate::iscsi::pdu::*;
use crate::iscsi::wire::Counters;
use crate::scsi::{Sense, Status};
use crate::target::Reply;
use std::sync::atomic::Ordering;

/// Data units that are written in one go.
const GROUP: usize = 64;

/// What did not move, or would have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Residual {
    overflow: u32,
    underflow: u32,
}

/// `moved` bytes of `expected`; `wanted` is what the command block asks for.
fn residual(expected: usize, moved: u64, wanted: Option<u64>) -> Residual {
    let expected = expected as u64;
    let over = wanted.unwrap_or(moved).max(moved);
    let cut = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    if over > expected {
        Residual {
            overflow: cut(over - expected),
            underflow: 0,
        }
    } else {
        Residual {
            overflow: 0,
            underflow: cut(expected - moved),
        }
    }
}

/// Sends the answer to a command. Whether it arrives is for the reading thread to
/// find out.
pub fn send(session: &Session, task: &Task, mut reply: Reply) {
    let offered = reply.data_in.len() as u64;
    let good = reply.sense.is_none() && reply.status != Status::CheckCondition;
    let r = if task.expected_out > 0 {
        // A write that was refused says nothing of what moved.
        match (reply.wanted, good) {
            (Some(w), _) => residual(task.expected_out, w, None),
            (None, _) => Residual::default(),
        }
    } else {
        residual(task.expected_in, offered, reply.wanted)
    };
    reply.data_in.truncate(task.expected_in);
    let data = &reply.data_in[..];
    let most = session.max_send.load(Ordering::Relaxed).max(512);
    let burst = session.params.max_burst.max(most);
    let mut units: Vec<(Bhs, &[u8])> = Vec::new();
    let mut offset = 0;
    let mut data_sn = 0;
    while let Some(rest) = data.get(offset..).filter(|r| !r.is_empty()) {
        let in_burst = burst - offset % burst;
        let (part, rest) = rest.split_at(rest.len().min(most).min(in_burst));
        let end = rest.is_empty();
        let with_status = end && good;
        let head = DataIn {
            last: end || (offset + part.len()) % burst == 0,
            with_status,
            overflow: with_status && r.overflow > 0,
            underflow: with_status && r.underflow > 0,
            status: if with_status { reply.status.code() } else { 0 },
            itt: task.itt,
            ttt: NO_TAG,
            data_sn,
            offset: offset as u32,
            residual: if with_status {
                r.overflow.max(r.underflow)
            } else {
                0
            },
            ..Default::default()
        };
        units.push((head.encode(), part));
        offset += part.len();
        data_sn += 1;
    }
    let sense = reply.sense.as_ref().map(sense_segment).unwrap_or_default();
    if !good || data.is_empty() {
        let head = ScsiResponse {
            last: true,
            overflow: r.overflow > 0,
            underflow: r.underflow > 0,
            status: reply.status.code(),
            itt: task.itt,
            exp_data_sn: data_sn,
            residual: r.overflow.max(r.underflow),
            ..Default::default()
        };
        units.push((head.encode(), &sense));
    }
    Counters::add(&session.shared.counters.data_out, data.len());
    for group in units.chunks_mut(GROUP) {
        if session.sender.send(group).is_err() {
            return;
        }
    }
}

/// Answers a command of which another initiator said that it ends. Never waits.
pub fn aborted(session: &Session, task: &Task) {
    let head = ScsiResponse {
        last: true,
        status: Status::TaskAborted.code(),
        itt: task.itt,
        ..Default::default()
    };
    session.sender.post(Pdu::new(head.encode(), Vec::new()));
}

/// Answers a command that was not given to a unit. Never waits.
pub fn refuse(session: &Session, itt: u32, status: Status, sense: Option<&Sense>) {
    let head = ScsiResponse {
        last: true,
        status: status.code(),
        itt,
        ..Default::default()
    };
    let data = sense.map(sense_segment).unwrap_or_default();
    session.sender.post(Pdu::new(head.encode(), data));
}

/// Sense data with its length in front.
fn sense_segment(sense: &Sense) -> Vec<u8> {
    let bytes = if sense.raw.is_empty() {
        sense.encode_fixed()
    } else {
        sense.raw.to_vec()
    };
    let len = bytes.len().min(252);
    let mut out = (len as u16).to_be_bytes().to_vec();
    out.extend(bytes.iter().take(len));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residuals_are_counted_against_what_was_asked() {
        let r = |overflow, underflow| Residual {
            overflow,
            underflow,
        };
        assert_eq!(residual(512, 512, Some(512)), r(0, 0));
        assert_eq!(residual(1024, 512, Some(512)), r(0, 512));
        assert_eq!(residual(512, 1024, Some(1024)), r(512, 0));
        // A short tape block: what was asked is what was expected.
        assert_eq!(residual(32768, 512, None), r(0, 32256));
        assert_eq!(residual(32768, 512, Some(32768)), r(0, 32256));
        assert_eq!(residual(0, 36, None), r(36, 0));
    }

    #[test]
    fn sense_data_has_its_length_in_front() {
        use crate::scsi::SenseKey;
        let s = sense_segment(&Sense::new(SenseKey::IllegalRequest, 0x24, 0));
        assert_eq!(usize::from(s[0]) << 8 | usize::from(s[1]), s.len() - 2);
        assert_eq!(Sense::decode(&s[2..]).unwrap().code(), 0x2400);
    }
}
