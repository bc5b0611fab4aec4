//! A scripted logical unit for tests: says what it was told to say, and notes
//! what it was asked.

use super::{Command, Completion, Data, OutcomeUnknown, Sense, Status, Transport};
use crate::error::{Error, ErrorKind, Result};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a [`Double`] answers.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status.
    pub status: Status,
    /// Sense data.
    pub sense: Option<Sense>,
    /// Data for the initiator.
    pub data: Vec<u8>,
    /// The connection breaks instead.
    pub broken: bool,
}

impl Reply {
    /// GOOD.
    pub fn good() -> Self {
        Self::status(Status::Good)
    }
    /// GOOD with data.
    pub fn data(data: impl Into<Vec<u8>>) -> Self {
        Self {
            data: data.into(),
            ..Self::good()
        }
    }
    /// CHECK CONDITION.
    pub fn check(sense: Sense) -> Self {
        Self {
            sense: Some(sense),
            ..Self::status(Status::CheckCondition)
        }
    }
    /// Any status.
    pub fn status(status: Status) -> Self {
        Self {
            status,
            sense: None,
            data: Vec::new(),
            broken: false,
        }
    }
    /// The transport fails.
    pub fn broken() -> Self {
        Self {
            broken: true,
            ..Self::good()
        }
    }
}

/// A command that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Command block.
    pub cdb: Vec<u8>,
    /// What went to the unit with it.
    pub out: Vec<u8>,
    /// How much could have come back.
    pub room: usize,
}

type Handler = Box<dyn FnMut(&Sent) -> Option<Reply> + Send>;

#[derive(Default)]
struct Script {
    expected: VecDeque<(Vec<u8>, Reply)>,
    always: HashMap<Vec<u8>, Reply>,
    handler: Option<Handler>,
    log: Vec<Sent>,
    aborts: u32,
    lun: Option<u64>,
}

/// A scripted logical unit. A command is answered by the next expected one,
/// which it must equal; else by a standing answer to the same command block;
/// else by the handler; else the transport fails and says which command came.
pub struct Double {
    name: String,
    max_transfer: usize,
    script: Mutex<Script>,
}

impl Double {
    /// Knows nothing yet. Moves 64 KiB at most.
    pub fn new(name: &str) -> Arc<Self> {
        Self::with_max_transfer(name, 64 << 10)
    }

    /// Moves so many bytes at most.
    pub fn with_max_transfer(name: &str, max_transfer: usize) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            max_transfer,
            script: Mutex::default(),
        })
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next command is this one.
    pub fn expect(&self, cdb: &[u8], reply: Reply) -> &Self {
        self.script().expected.push_back((cdb.to_vec(), reply));
        self
    }

    /// This command may come at any time, any number of times.
    pub fn always(&self, cdb: &[u8], reply: Reply) -> &Self {
        self.script().always.insert(cdb.to_vec(), reply);
        self
    }

    /// Asked about all other commands.
    pub fn answer(&self, handler: impl FnMut(&Sent) -> Option<Reply> + Send + 'static) -> &Self {
        self.script().handler = Some(Box::new(handler));
        self
    }

    /// The unit has this number at its target.
    pub fn at_lun(&self, lun: u64) -> &Self {
        self.script().lun = Some(lun);
        self
    }

    /// Everything that came so far.
    pub fn sent(&self) -> Vec<Sent> {
        self.script().log.clone()
    }

    /// How often everything outstanding was aborted.
    pub fn aborts(&self) -> u32 {
        self.script().aborts
    }

    /// Panics when expected commands have not come.
    pub fn finish(&self) {
        let left = &self.script().expected;
        assert!(left.is_empty(), "did not come: {left:02x?}");
    }
}

impl Transport for Double {
    fn execute(&self, command: Command<'_>) -> Result<Completion> {
        let (out, room) = match &command.data {
            Data::None => (Vec::new(), 0),
            Data::In(b) => (Vec::new(), b.len()),
            Data::Out(b) => (b.to_vec(), 0),
        };
        let sent = Sent {
            cdb: command.cdb.to_vec(),
            out,
            room,
        };
        let mut script = self.script();
        script.log.push(sent.clone());
        let expected = match script.expected.front() {
            Some((cdb, _)) if *cdb == sent.cdb => script.expected.pop_front().map(|e| e.1),
            _ => None,
        };
        let reply = expected
            .or_else(|| script.always.get(&sent.cdb).cloned())
            .or_else(|| script.handler.as_mut().and_then(|h| h(&sent)));
        let Some(reply) = reply else {
            let next = script.expected.front().map(|e| &e.0);
            let text = format!("Found command {:02x?}, expected {next:02x?}", sent.cdb);
            return Err(Error::new(ErrorKind::Usage, text).of(&*self.name));
        };
        if reply.broken {
            let e = Error::new(ErrorKind::Io, "The connection broke").of(&*self.name);
            return Err(e.caused_by(OutcomeUnknown("it was cut".into())));
        }
        let transferred = match command.data {
            Data::None => 0,
            Data::Out(b) => b.len(),
            Data::In(b) => {
                let n = b.len().min(reply.data.len());
                b.iter_mut()
                    .zip(&reply.data)
                    .for_each(|(to, from)| *to = *from);
                n
            }
        };
        Ok(Completion {
            status: reply.status,
            sense: reply.sense,
            transferred,
        })
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn max_transfer(&self) -> usize {
        self.max_transfer
    }

    fn lun(&self) -> Option<u64> {
        self.script().lun
    }

    fn abort_all(&self) -> Result<()> {
        self.script().aborts += 1;
        Ok(())
    }
}
