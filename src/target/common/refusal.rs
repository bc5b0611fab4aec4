//! How a command is refused.

use super::super::lun::Reply;
use crate::scsi::{Sense, SenseKey, Status};

/// An answer other than GOOD, small enough to be handed up with `?`.
#[derive(Clone, Debug)]
pub struct Refusal(Box<Reply>);

/// What a command gives.
pub type Answer = Result<Reply, Refusal>;

impl Refusal {
    /// CHECK CONDITION with plain sense data.
    pub fn sense(key: SenseKey, asc: u8, ascq: u8) -> Self {
        Sense::new(key, asc, ascq).into()
    }

    /// Any other status.
    pub fn status(status: Status) -> Self {
        Self(Box::new(Reply::status(status)))
    }

    /// As a reply.
    pub fn into_reply(self) -> Reply {
        *self.0
    }

    /// Its sense data, if it is a CHECK CONDITION.
    pub fn as_sense(&self) -> Option<&Sense> {
        self.0.sense.as_ref()
    }

    /// States what the command block asks for.
    pub fn wanting(mut self, bytes: u64) -> Self {
        self.0.wanted = Some(bytes);
        self
    }
}

impl From<Sense> for Refusal {
    fn from(s: Sense) -> Self {
        Self(Box::new(Reply::check(s)))
    }
}

/// The reply, whichever way the command ended.
pub fn reply(answer: Answer) -> Reply {
    answer.unwrap_or_else(Refusal::into_reply)
}

/// INVALID FIELD IN CDB, pointing at a byte of the command block.
pub fn invalid_field(at: u16) -> Refusal {
    pointed(0x24, 0xc0, at)
}

/// INVALID FIELD IN PARAMETER LIST, pointing at a byte of the list.
pub fn invalid_parameter(at: usize) -> Refusal {
    pointed(0x26, 0x80, u16::try_from(at).unwrap_or(u16::MAX))
}

/// PARAMETER LIST LENGTH ERROR.
pub fn list_length() -> Refusal {
    Refusal::sense(SenseKey::IllegalRequest, 0x1a, 0x00)
}

fn pointed(asc: u8, flags: u8, at: u16) -> Refusal {
    let mut s = Sense::new(SenseKey::IllegalRequest, asc, 0x00);
    let [hi, lo] = at.to_be_bytes();
    s.sense_key_specific = Some([flags, hi, lo]);
    s.into()
}
