//! The initiator: a `scsi` transport to one logical unit over TCP. Handles to
//! several units may share a session; commands may come from many threads and are
//! outstanding together. A lost connection is made again; a command that was
//! outstanding is sent again only if sending it twice does no harm.

mod command;
mod connection;
mod discover;
mod login;
mod session;

pub use discover::{FoundTarget, discover};

use super::negotiate::Wish;
use super::pdu::Function;
use super::url::{Url, wire_lun};
use super::wire::Traffic;
use crate::error::{Error, ErrorKind, Result};
use crate::observe::CancelFlag;
use crate::scsi::{Command, Completion, Transport};
use session::Session;
use std::sync::Arc;
use std::time::Duration;

/// How a session is made and kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Our iSCSI name.
    pub initiator_name: String,
    /// What we would like to agree on.
    pub wish: Wish,
    /// For connecting and logging in.
    pub login_timeout: Duration,
    /// Silence after which the target is asked for a sign of life; as much
    /// silence again ends the connection.
    pub keepalive: Duration,
    /// How long a lost connection is tried again.
    pub reconnect_for: Duration,
    /// Once it is set a lost connection is tried only once more, for what has to be
    /// put in order.
    pub cancel: Option<Arc<CancelFlag>>,
    /// Most bytes that one command may move.
    pub max_transfer: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            initiator_name: "iqn.2026-11.org.ntbak:initiator".into(),
            wish: Wish {
                // The most that the field of a unit can say, in whole blocks.
                max_burst: (16 << 20) - 4096,
                ..Wish::default()
            },
            login_timeout: Duration::from_secs(15),
            keepalive: Duration::from_secs(15),
            reconnect_for: Duration::from_secs(30),
            cancel: None,
            max_transfer: 8 << 20,
        }
    }
}

/// A logical unit of an iSCSI target.
#[derive(Clone)]
pub struct Initiator {
    session: Arc<Session>,
    lun: u64,
    name: String,
}

impl Initiator {
    /// Logs in. The number of the unit is not looked at: the first command shows
    /// whether there is one.
    pub fn open(url: &Url, options: &Options) -> Result<Self> {
        Ok(Self {
            session: Session::open(url, options)?,
            lun: url.lun,
            name: url.to_string(),
        })
    }

    /// Another unit of the same target, over the same session.
    pub fn unit(&self, number: u16) -> Self {
        let url = Url {
            lun: wire_lun(number),
            ..self.session.url().clone()
        };
        Self {
            session: Arc::clone(&self.session),
            lun: url.lun,
            name: url.to_string(),
        }
    }

    /// What went over the session, its earlier connections included.
    pub fn traffic(&self) -> Traffic {
        self.session.counters().snapshot()
    }

    /// LOGICAL UNIT RESET.
    pub fn reset_unit(&self) -> Result<()> {
        self.manage(5)
    }

    /// Asks the target for a sign of life.
    pub fn ping(&self, timeout: Duration) -> Result<()> {
        self.session
            .connection()?
            .ping(timeout)
            .map_err(|e| e.of(&*self.name))
    }

    /// Logs out; outstanding commands fail. Later commands log in again.
    pub fn logout(&self) -> Result<()> {
        self.session.logout().map_err(|e| e.of(&*self.name))
    }

    fn manage(&self, function: u8) -> Result<()> {
        let c = self.session.connection().map_err(|e| e.of(&*self.name))?;
        let answer = c.manage(Function(function), self.lun, None);
        match answer.map_err(|e| e.of(&*self.name))? {
            0 => Ok(()),
            2 => Err(Error::not_found("There is no such logical unit").of(&*self.name)),
            n => Err(Error::new(
                ErrorKind::Scsi,
                format!("Task management function {function} got response {n}, expected 0"),
            )
            .of(&*self.name)),
        }
    }
}

impl Transport for Initiator {
    fn execute(&self, mut command: Command<'_>) -> Result<Completion> {
        self.session
            .execute(self.lun, &mut command)
            .map_err(|e| e.of(&*self.name))
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn max_transfer(&self) -> usize {
        self.session.options().max_transfer
    }

    fn lun(&self) -> Option<u64> {
        Some(self.lun)
    }

    fn abort_all(&self) -> Result<()> {
        self.manage(2)
    }
}
