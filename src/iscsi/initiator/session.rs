//! A session outlives its connections: a lost one is made again.

use super::connection::Connection;
use super::login::{Failed, Purpose, login};
use super::{Options, Url};
use crate::error::Result;
use crate::iscsi::wire::{Counters, lock};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A session with a target.
pub struct Session {
    url: Url,
    options: Options,
    isid: [u8; 6],
    counters: Arc<Counters>,
    line: Mutex<Line>,
}

struct Line {
    connection: Option<(Arc<Connection>, JoinHandle<()>)>,
    /// The last attempts came to nothing: the next one is a single one.
    given_up: bool,
}

impl Session {
    /// Logs in.
    pub fn open(url: &Url, options: &Options) -> Result<Arc<Self>> {
        let session = Arc::new(Self {
            url: url.clone(),
            options: options.clone(),
            isid: new_isid()?,
            counters: Arc::default(),
            line: Mutex::new(Line {
                connection: None,
                given_up: false,
            }),
        });
        let c = session.connect().map_err(|f| f.error.of(url.to_string()))?;
        lock(&session.line).connection = Some(c);
        Ok(session)
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn connect(&self) -> Result<(Arc<Connection>, JoinHandle<()>), Failed> {
        let l = login(
            &self.url,
            &self.options,
            self.isid,
            Purpose::Normal,
            &self.counters,
        )?;
        Ok(Connection::start(
            l,
            Arc::clone(&self.counters),
            self.options.keepalive,
        )?)
    }

    /// The connection; a lost one is made again, for as long as the options say.
    pub fn connection(&self) -> Result<Arc<Connection>> {
        let mut line = lock(&self.line);
        if let Some((c, _)) = &line.connection
            && !c.gone()
        {
            return Ok(Arc::clone(c));
        }
        if let Some((_, thread)) = line.connection.take() {
            let _ = thread.join();
        }
        let until = Instant::now() + self.options.reconnect_for;
        let cancelled = || self.options.cancel.as_ref().is_some_and(|c| c.is_set());
        let mut pause = Duration::from_millis(100);
        loop {
            match self.connect() {
                Ok(c) => {
                    let connection = Arc::clone(&c.0);
                    line.connection = Some(c);
                    line.given_up = false;
                    return Ok(connection);
                }
                Err(f)
                    if !f.temporary
                        || line.given_up
                        || cancelled()
                        || Instant::now() + pause > until =>
                {
                    line.given_up = true;
                    return Err(f.error);
                }
                Err(_) => std::thread::sleep(pause),
            }
            pause = (2 * pause).min(Duration::from_secs(2));
        }
    }

    /// Logs out.
    pub fn logout(&self) -> Result<()> {
        let taken = lock(&self.line).connection.take();
        let Some((c, thread)) = taken else {
            return Ok(());
        };
        let done = match c.lost() {
            None => c.logout(),
            Some(_) => Ok(()),
        };
        c.fail("we logged out");
        let _ = thread.join();
        done
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.logout();
    }
}

/// A session id of the random sort.
pub fn new_isid() -> Result<[u8; 6]> {
    let mut id = crate::random::bytes()?;
    id[0] = 0x80;
    Ok(id)
}
