//! How a copy ends that does not end well.

use super::program::Problem;
use crate::copy::parse::Field;
use crate::scsi::{Failure, Forwarded, Sense, SenseKey, Status};
use crate::target::common::Refusal;

/// Why a copy stopped.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// COPY ABORTED.
    Failed(Box<Failed>),
    /// Task management ended the command.
    Cancelled,
    /// COPY OPERATION ABORT ended it.
    Aborted,
}

/// COPY ABORTED.
#[derive(Clone, Debug, PartialEq)]
pub struct Failed {
    /// The segment, from 0.
    pub segment: usize,
    /// ASC and ASCQ.
    pub code: u16,
    /// Where.
    pub field: Option<Field>,
    /// How the source ended its command.
    pub source: Option<Box<Failure>>,
    /// How the destination ended its command.
    pub destination: Option<Box<Failure>>,
    /// What of the segment was not written, when something was: bytes, or
    /// blocks of the destination.
    pub residual: Option<u64>,
}

impl Failed {
    /// By the segment itself.
    pub fn problem(segment: usize, p: Problem) -> Stop {
        Self::stop(segment, p.code, p.field, None, None)
    }

    /// By the source.
    pub fn source(segment: usize, f: Box<Failure>) -> Stop {
        Self::stop(segment, 0x0d01, None, Some(f), None)
    }

    /// By the destination.
    pub fn destination(segment: usize, f: Box<Failure>) -> Stop {
        Self::stop(segment, 0x0d01, None, None, Some(f))
    }

    fn stop(
        segment: usize,
        code: u16,
        field: Option<Field>,
        source: Option<Box<Failure>>,
        destination: Option<Box<Failure>>,
    ) -> Stop {
        Stop::Failed(Box::new(Self {
            segment,
            code,
            field,
            source,
            destination,
            residual: None,
        }))
    }

    /// As sense data.
    pub fn sense(&self) -> Sense {
        let [asc, ascq] = self.code.to_be_bytes();
        let mut sense = Sense::new(SenseKey::CopyAborted, asc, ascq);
        sense.command_specific = self.segment as u64 & 0xffff;
        sense.information = self.residual.and_then(|r| i64::try_from(r).ok());
        sense.sense_key_specific = self.field.map(Field::bytes);
        sense.source = self.source.as_deref().map(forward);
        sense.destination = self.destination.as_deref().map(forward);
        sense
    }
}

fn forward(f: &Failure) -> Forwarded {
    let sense = match &f.sense {
        Some(s) if s.raw.is_empty() => s.encode_fixed(),
        Some(s) => s.raw.to_vec(),
        None => Vec::new(),
    };
    Forwarded {
        status: f.status.code(),
        sense: sense.into(),
    }
}

/// CHECK CONDITION of a unit.
pub fn check(key: SenseKey, asc: u8, ascq: u8) -> Box<Failure> {
    Box::new(Failure {
        status: Status::CheckCondition,
        sense: Some(Sense::new(key, asc, ascq)),
    })
}

/// How a unit refused one of our commands.
pub fn refused(r: Refusal) -> Box<Failure> {
    let reply = r.into_reply();
    Box::new(Failure {
        status: reply.status,
        sense: reply.sense,
    })
}
