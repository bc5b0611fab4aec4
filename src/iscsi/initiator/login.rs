//! Logging in: security, then operational negotiation, then full feature phase.

use super::Options;
use crate::error::{Error, ErrorKind, Result};
use crate::iscsi::chap::{Algorithm, Challenge, Credentials, from_binary, to_hex};
use crate::iscsi::negotiate::{Params, Wish, accept, offer};
use crate::iscsi::pdu::{Bhs, Header, LoginRequest, LoginResponse, Stages};
use crate::iscsi::text::{MOST_TEXT, Pairs};
use crate::iscsi::url::{Url, place_of};
use crate::iscsi::wire::{Broken, Counters, Digests, Receiver, Sender, Stamp};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Exchanges after which a login is given up.
const MOST_EXCHANGES: usize = 32;

/// A connection in full feature phase.
pub struct LoggedIn {
    pub stream: TcpStream,
    pub receiver: Receiver<TcpStream>,
    pub params: Params,
    /// Number of the next command, and the highest one taken.
    pub cmd_sn: u32,
    pub max_cmd_sn: u32,
    /// Number of the next status.
    pub exp_stat_sn: u32,
}

/// What a login is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Normal,
    Discovery,
}

/// A login that did not work.
pub struct Failed {
    pub error: Error,
    /// Trying again later may help.
    pub temporary: bool,
    /// The target took our CHAP response for wrong.
    disproved: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            error,
            temporary: false,
            disproved: false,
        }
    }
}

struct Bare;

impl Stamp for Bare {
    fn stamp(&mut self, _: &mut Bhs) {}
}

/// Connects and logs in, and follows a target that sends us elsewhere.
pub fn login(
    url: &Url,
    options: &Options,
    isid: [u8; 6],
    purpose: Purpose,
    counters: &Arc<Counters>,
) -> Result<LoggedIn, Failed> {
    let (mut host, mut port) = (url.host.clone(), url.port);
    let mut algorithms = Algorithm::OFFER;
    for _ in 0..5 {
        let deadline = Instant::now() + options.login_timeout;
        let stream = connect(&host, port, options.login_timeout)?;
        let mut attempt = Attempt::new(stream, url, options, isid, purpose, counters, deadline)?;
        attempt.algorithms = algorithms;
        match attempt.run() {
            Ok(Step::In { response, params }) => return Ok(attempt.done(&response, params)),
            Ok(Step::Elsewhere(place)) => (host, port) = place_of(&place)?,
            // Code 7 was SHA-1 before it was SHA-256, and is in tgt.
            Err(f) if f.disproved && attempt.algorithm == Some(Algorithm::Sha256) => {
                algorithms = Algorithm::Md5.code();
            }
            Err(f) => return Err(f),
        }
    }
    Err(Error::new(
        ErrorKind::Scsi,
        "The target sends us from one address to the next",
    )
    .into())
}

fn connect(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, Failed> {
    let failed = |e: std::io::Error| Failed {
        error: Error::io(format!("Cannot connect to {host} port {port}"), e)
            .hint("is the target running, and the port right?"),
        temporary: true,
        disproved: false,
    };
    let mut last = None;
    for address in (host, port).to_socket_addrs().map_err(failed)? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(s) => {
                s.set_nodelay(true).map_err(failed)?;
                s.set_read_timeout(Some(Duration::from_secs(1)))
                    .map_err(failed)?;
                s.set_write_timeout(Some(Duration::from_secs(60)))
                    .map_err(failed)?;
                return Ok(s);
            }
            Err(e) => last = Some(e),
        }
    }
    Err(failed(last.unwrap_or_else(|| {
        std::io::Error::new(std::io::ErrorKind::NotFound, "no address")
    })))
}

struct Attempt<'a> {
    url: &'a Url,
    wish: Wish,
    name: &'a str,
    purpose: Purpose,
    isid: [u8; 6],
    deadline: Instant,
    stream: TcpStream,
    receiver: Receiver<TcpStream>,
    sender: Sender<Bare>,
    exp_stat_sn: u32,
    algorithms: &'static str,
    /// What the target picked.
    algorithm: Option<Algorithm>,
}

enum Step {
    In {
        response: LoginResponse,
        params: Params,
    },
    Elsewhere(String),
}

impl<'a> Attempt<'a> {
    fn new(
        stream: TcpStream,
        url: &'a Url,
        options: &'a Options,
        isid: [u8; 6],
        purpose: Purpose,
        counters: &Arc<Counters>,
        deadline: Instant,
    ) -> Result<Self, Failed> {
        let clone = || {
            stream
                .try_clone()
                .map_err(|e| Error::io("Cannot share the connection", e))
        };
        let mut wish = options.wish.clone();
        if let Some(c) = url.header_digest {
            wish.header_digest = c;
        }
        if let Some(c) = url.data_digest {
            wish.data_digest = c;
        }
        Ok(Self {
            url,
            wish,
            name: &options.initiator_name,
            purpose,
            isid,
            deadline,
            receiver: Receiver::new(clone()?, MOST_TEXT, Arc::clone(counters)),
            sender: Sender::new(clone()?, Digests::default(), Bare, Arc::clone(counters)),
            stream,
            exp_stat_sn: 0,
            algorithms: Algorithm::OFFER,
            algorithm: None,
        })
    }

    fn run(&mut self) -> Result<Step, Failed> {
        let mut first = Pairs::new().with("InitiatorName", self.name).with(
            "SessionType",
            match self.purpose {
                Purpose::Normal => "Normal",
                Purpose::Discovery => "Discovery",
            },
        );
        if self.purpose == Purpose::Normal {
            first.push("TargetName", &*self.url.target);
        }
        first.push(
            "AuthMethod",
            if self.url.credentials.is_some() {
                "CHAP"
            } else {
                "None"
            },
        );

        let transit = self.url.credentials.is_none();
        let mut stage = (Stages::SECURITY, Stages::OPERATIONAL);
        let (mut r, mut answers) = match self.exchange(stage, transit, &first)? {
            Ok(x) => x,
            Err(place) => return Ok(Step::Elsewhere(place)),
        };
        match answers.get("AuthMethod") {
            Some("CHAP") => {
                let Some(own) = self.url.credentials.clone() else {
                    return Err(auth("The target wants CHAP").into());
                };
                match self.chap(&own, stage)? {
                    Ok(x) => (r, answers) = x,
                    Err(place) => return Ok(Step::Elsewhere(place)),
                }
            }
            Some("None") | None if self.url.target_credentials.is_some() => {
                return Err(auth("The target does not prove itself by CHAP").into());
            }
            Some("None") | None => {}
            Some(other) => {
                return Err(auth(&format!("The target answers AuthMethod={other}")).into());
            }
        }
        // A target may want another round before it leaves the stage.
        let mut rounds = 0;
        while !r.transit {
            rounds += 1;
            if rounds > MOST_EXCHANGES {
                return Err(endless().into());
            }
            match self.exchange(stage, true, &Pairs::new())? {
                Ok(x) => (r, answers) = x,
                Err(place) => return Ok(Step::Elsewhere(place)),
            }
        }

        let mut params = Params::default();
        if r.stages.next() == Stages::FULL {
            accept(&mut params, &self.wish, &answers)?;
            return Ok(Step::In {
                response: r,
                params,
            });
        }
        stage = (Stages::OPERATIONAL, Stages::FULL);
        let mut offered = offer(&self.wish, self.purpose == Purpose::Discovery);
        for _ in 0..MOST_EXCHANGES {
            match self.exchange(stage, true, &offered)? {
                Ok(x) => (r, answers) = x,
                Err(place) => return Ok(Step::Elsewhere(place)),
            }
            accept(&mut params, &self.wish, &answers)?;
            if r.transit {
                return Ok(Step::In {
                    response: r,
                    params,
                });
            }
            offered = Pairs::new();
        }
        Err(endless().into())
    }

    /// The two rounds of CHAP; the response to the second may leave the stage.
    #[allow(clippy::type_complexity)]
    fn chap(
        &mut self,
        own: &Credentials,
        stage: (u8, u8),
    ) -> Result<Result<(LoginResponse, Pairs), String>, Failed> {
        let ask = Pairs::new().with("CHAP_A", self.algorithms);
        let (_, a) = match self.exchange(stage, false, &ask)? {
            Ok(x) => x,
            Err(place) => return Ok(Err(place)),
        };
        let need = |key: &str| {
            a.get(key)
                .ok_or_else(|| auth(&format!("The target sent no {key}")))
        };
        let algorithm = Algorithm::pick(need("CHAP_A")?).ok_or_else(|| {
            auth("The target wants a CHAP digest that is neither MD5 nor SHA-256")
        })?;
        self.algorithm = Some(algorithm);
        let id: u8 = need("CHAP_I")?
            .parse()
            .map_err(|_| auth("The target sent a CHAP identifier above 255"))?;
        let challenge = from_binary(need("CHAP_C")?)?;
        let response = algorithm.response(id, &own.secret, &challenge);
        let mut say = Pairs::new()
            .with("CHAP_N", &*own.user)
            .with("CHAP_R", to_hex(&response));
        let mut ours = None;
        if let Some(target) = &self.url.target_credentials {
            let c = Challenge::new(algorithm)?;
            say.push("CHAP_I", c.id.to_string());
            say.push("CHAP_C", to_hex(&c.bytes));
            ours = Some((c, target.clone()));
        }
        let (r, answers) = match self.exchange(stage, true, &say)? {
            Ok(x) => x,
            Err(place) => return Ok(Err(place)),
        };
        if let Some((c, target)) = ours {
            let name = answers.get("CHAP_N").unwrap_or_default();
            let proof = answers.get("CHAP_R").unwrap_or_default();
            // A target that hands our own challenge back has proven nothing.
            if name != target.user
                || challenge == c.bytes
                || !c.met_by(&target.secret, &from_binary(proof)?)
            {
                return Err(auth("The target does not know its CHAP name and secret").into());
            }
        }
        Ok(Ok((r, answers)))
    }

    /// One request, in as many units as it needs, and the response to it. The
    /// inner error is another address.
    #[allow(clippy::type_complexity)]
    fn exchange(
        &mut self,
        (current, next): (u8, u8),
        transit: bool,
        pairs: &Pairs,
    ) -> Result<Result<(LoginResponse, Pairs), String>, Failed> {
        let text = pairs.encode();
        let mut parts: Vec<&[u8]> = text.chunks(8192).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let count = parts.len();
        let mut whole = Vec::new();
        let mut sent = 0;
        for _ in 0..MOST_EXCHANGES {
            let more = sent + 1 < count;
            let request = LoginRequest {
                immediate: true,
                transit: transit && !more,
                more,
                stages: Stages::of(current, if transit && !more { next } else { 0 }),
                isid: self.isid,
                itt: 1,
                cmd_sn: 1,
                exp_stat_sn: self.exp_stat_sn,
                ..Default::default()
            };
            let part = parts.get(sent).copied().unwrap_or_default();
            sent += 1;
            self.sender
                .send(&mut [(request.encode(), part)])
                .map_err(|e| self.broken(Broken::Io(e)))?;
            let r = self.response(&mut whole)?;
            if r.status >> 8 == 1 {
                let a = Pairs::decode(&whole)?;
                let place = a.get("TargetAddress").unwrap_or_default();
                let place = place.split(',').next().unwrap_or_default();
                return Ok(Err(place.to_string()));
            }
            if r.status != 0 {
                return Err(refused(r.status));
            }
            if sent >= count && !r.more {
                let answers = Pairs::decode(&whole)?;
                return Ok(Ok((r, answers)));
            }
            if whole.len() > MOST_TEXT {
                break;
            }
        }
        Err(endless().into())
    }

    fn response(&mut self, text: &mut Vec<u8>) -> Result<LoginResponse, Failed> {
        let deadline = self.deadline;
        let mut tick = || {
            if Instant::now() < deadline {
                Ok(())
            } else {
                Err(std::io::ErrorKind::TimedOut.into())
            }
        };
        let pdu = self.receiver.unit(&mut tick).map_err(|e| self.broken(e))?;
        if pdu.bhs.opcode() != LoginResponse::OPCODE {
            return Err(Error::new(
                ErrorKind::Scsi,
                format!(
                    "The target answers a login with operation code {:#04x}, expected 0x23",
                    pdu.bhs.opcode()
                ),
            )
            .into());
        }
        text.extend_from_slice(&pdu.data);
        let r = LoginResponse::decode(&pdu.bhs);
        self.exp_stat_sn = r.stat_sn.wrapping_add(1);
        Ok(r)
    }

    fn broken(&self, e: Broken) -> Failed {
        Failed {
            error: Error::new(
                ErrorKind::Scsi,
                format!("The connection ended while logging in: {e}"),
            ),
            temporary: true,
            disproved: false,
        }
    }

    fn done(mut self, r: &LoginResponse, params: Params) -> LoggedIn {
        self.receiver.digests = params.digests;
        self.receiver.limit = params.max_recv;
        LoggedIn {
            stream: self.stream,
            receiver: self.receiver,
            params,
            cmd_sn: r.exp_cmd_sn,
            max_cmd_sn: r.max_cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
        }
    }
}

fn auth(what: &str) -> Error {
    Error::refused(what).hint("give the CHAP name and secret: iscsi://user%secret@host/…")
}

fn endless() -> Error {
    Error::new(ErrorKind::Scsi, "The login goes on without end")
}

fn refused(status: u16) -> Failed {
    let (words, hint) = match status {
        0x0201 => (
            "authentication failed",
            Some("check the CHAP name and secret: iscsi://user%secret@host/…"),
        ),
        0x0202 => ("this initiator may not use the target", None),
        0x0203 => (
            "there is no such target",
            Some("iscsi-ls -s lists the targets of an address"),
        ),
        0x0204 => ("the target was removed", None),
        0x0205 => ("the version is not spoken", None),
        0x0206 => ("too many connections", None),
        0x0207 => ("a parameter is missing", None),
        0x0208 => ("it cannot be in this session", None),
        0x0209 => ("this type of session is not offered", None),
        0x020a => ("there is no such session", None),
        0x020b => ("the request is not valid now", None),
        0x0301 => ("the target is not working now", None),
        0x0302 => ("the target has no room for another session", None),
        _ => ("no reason given", None),
    };
    let mut error = Error::new(
        if status == 0x0201 || status == 0x0202 {
            ErrorKind::Refused
        } else if status == 0x0203 {
            ErrorKind::NotFound
        } else {
            ErrorKind::Scsi
        },
        format!("The login was refused with status {status:04x}h: {words}"),
    );
    if let Some(h) = hint {
        error = error.hint(h);
    }
    Failed {
        error,
        temporary: status >> 8 == 3 || status == 0x0206,
        disproved: matches!(status, 0x0200 | 0x0201),
    }
}
