//! The server: it listens, keeps the list of sessions, and ends in good order.

use super::lun::{Nexus, Units};
use super::session::{Session, serve};
use crate::error::{Error, Result};
use crate::iscsi::Traffic;
use crate::iscsi::chap::Credentials;
use crate::iscsi::negotiate::Wish;
use crate::iscsi::wire::{Counters, lock};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How a target is served.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Address and port to listen on; port 0 takes a free one.
    pub listen: String,
    /// Target name.
    pub name: String,
    /// What an initiator must know; none: everyone may come.
    pub chap: Option<Credentials>,
    /// With which we prove ourselves to an initiator that asks.
    pub mutual: Option<Credentials>,
    /// What we would like to agree on.
    pub wish: Wish,
    /// Bounds.
    pub limits: Limits,
}

impl ServerConfig {
    /// A target of a name, on an address.
    pub fn new(listen: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            listen: listen.into(),
            name: name.into(),
            chap: None,
            mutual: None,
            wish: Wish {
                max_burst: 4 << 20,
                ..Wish::default()
            },
            limits: Limits::default(),
        }
    }
}

/// Bounds of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once, those that are still logging in included.
    pub connections: usize,
    /// Commands of a session outstanding at once.
    pub queue_depth: u32,
    /// Ordinary commands of a session executed at once.
    pub workers: usize,
    /// Bytes that one command may bring.
    pub max_transfer: usize,
    /// Bytes that all outstanding commands of a session may bring.
    pub max_buffered: usize,
    /// For logging in.
    pub login_timeout: Duration,
    /// Silence after which an initiator is asked for a sign of life; as much
    /// silence again ends its session.
    pub keepalive: Duration,
    /// How long running commands may take to end when the server does.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            queue_depth: 128,
            workers: 8,
            max_transfer: 32 << 20,
            max_buffered: 128 << 20,
            login_timeout: Duration::from_secs(15),
            keepalive: Duration::from_secs(30),
            grace: Duration::from_secs(30),
        }
    }
}

/// What the server and its sessions share.
pub(crate) struct Shared {
    pub config: ServerConfig,
    pub units: Arc<dyn Units>,
    pub stopping: AtomicBool,
    pub counters: Arc<Counters>,
    sessions: Mutex<Vec<Arc<Session>>>,
    ended: Condvar,
    connections: AtomicUsize,
}

impl Shared {
    /// Takes a session into the list, with a handle of its own. One of the same
    /// initiator and session id ends first.
    pub fn enter(
        &self,
        initiator: &str,
        isid: [u8; 6],
        make: impl FnOnce(Nexus) -> Session,
    ) -> Option<Arc<Session>> {
        let mut list = lock(&self.sessions);
        let until = Instant::now() + self.config.limits.login_timeout;
        loop {
            let old = list
                .iter()
                .find(|s| s.is_of(initiator, isid))
                .map(Arc::clone);
            let Some(old) = old else { break };
            old.end();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stopping.load(Ordering::Relaxed) {
                return None;
            }
            list = match self.ended.wait_timeout(list, left) {
                Ok((l, _)) => l,
                Err(e) => e.into_inner().0,
            };
        }
        let tsih = (1..=u16::MAX).find(|n| list.iter().all(|s| s.tsih() != *n))?;
        let session = Arc::new(make(Nexus {
            initiator: initiator.into(),
            isid,
            tsih,
        }));
        list.push(Arc::clone(&session));
        Some(session)
    }

    /// Takes a session out of the list.
    pub fn leave(&self, session: &Arc<Session>) {
        lock(&self.sessions).retain(|s| !Arc::ptr_eq(s, session));
        self.ended.notify_all();
    }

    /// The sessions of now.
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        lock(&self.sessions).clone()
    }

    /// True when there is a session with this handle.
    pub fn knows(&self, tsih: u16) -> bool {
        lock(&self.sessions).iter().any(|s| s.tsih() == tsih)
    }
}

/// A target that is being served.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Begins to listen.
    pub fn start(config: ServerConfig, units: Arc<dyn Units>) -> Result<Self> {
        let listener = Self::bind(&config)?;
        Self::start_on(listener, config, units)
    }

    /// Takes the port, so that nothing is prepared for one that cannot be had.
    pub fn bind(config: &ServerConfig) -> Result<TcpListener> {
        TcpListener::bind(&config.listen).map_err(|e| match e.kind() {
            // What is no address at all.
            io::ErrorKind::InvalidInput => Error::usage(format!(
                "Found {:?}, expected an address and a port such as 127.0.0.1:3260",
                config.listen
            )),
            _ => Error::io(format!("Cannot listen on {}", config.listen), e)
                .hint("another program may have the port; --listen takes another one"),
        })
    }

    /// Begins to take connections there.
    pub fn start_on(
        listener: TcpListener,
        config: ServerConfig,
        units: Arc<dyn Units>,
    ) -> Result<Self> {
        let address = listener
            .local_addr()
            .map_err(|e| Error::io(format!("Cannot listen on {}", config.listen), e))?;
        let shared = Arc::new(Shared {
            config,
            units,
            stopping: AtomicBool::new(false),
            counters: Arc::default(),
            sessions: Mutex::default(),
            ended: Condvar::new(),
            connections: AtomicUsize::new(0),
        });
        let of_thread = Arc::clone(&shared);
        let accepting = std::thread::Builder::new()
            .name("iscsi-accept".into())
            .spawn(move || accept(&listener, &of_thread))
            .map_err(|e| Error::io("Cannot start a thread", e))?;
        Ok(Self {
            shared,
            address,
            accepting: Some(accepting),
        })
    }

    /// Where it listens: the port is the real one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sessions in full feature phase.
    pub fn sessions(&self) -> usize {
        self.shared.sessions().len()
    }

    /// What went over all connections: `data_in` came from initiators, `data_out`
    /// went to them. What a copy manager moves is not there.
    pub fn traffic(&self) -> Traffic {
        self.shared.counters.snapshot()
    }

    /// Ends: no new connection is taken, running commands end, what is cached is
    /// written.
    pub fn shutdown(mut self) -> Result<()> {
        self.stop();
        self.shared.units.flush()
    }

    fn stop(&mut self) {
        let Some(accepting) = self.accepting.take() else {
            return;
        };
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Whoever waits in accept wakes up by a connection.
        let mut own = self.address;
        if own.ip().is_unspecified() {
            own.set_ip(match own {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        if TcpStream::connect_timeout(&own, Duration::from_secs(5)).is_ok() {
            let _ = accepting.join();
        }
        for s in self.shared.sessions() {
            s.finish();
        }
        let until = Instant::now() + self.shared.config.limits.grace + Duration::from_secs(5);
        let mut list = lock(&self.shared.sessions);
        while !list.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            list = match self.shared.ended.wait_timeout(list, left) {
                Ok((l, _)) => l,
                Err(e) => e.into_inner().0,
            };
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let taken = listener.accept();
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok((stream, _)) = taken else {
            // Out of file handles, or a connection that is gone already.
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        let place = Place::take(shared);
        if shared.connections.load(Ordering::SeqCst) > shared.config.limits.connections {
            continue;
        }
        // Without a thread the connection is closed.
        let _ = std::thread::Builder::new()
            .name("iscsi-session".into())
            .spawn(move || serve(stream, &place.0));
    }
}

/// A connection's place among those allowed.
struct Place(Arc<Shared>);

impl Place {
    fn take(shared: &Arc<Shared>) -> Self {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}
