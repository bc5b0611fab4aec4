//! The target's side of a login: security, operational negotiation, and every
//! reason to refuse.

use crate::iscsi::chap::{Algorithm, Challenge, from_binary, to_hex};
use crate::iscsi::negotiate::{Params, answer};
use crate::iscsi::pdu::{Bhs, Header, LoginRequest, LoginResponse, Stages};
use crate::iscsi::text::{MOST_TEXT, Pairs};
use crate::iscsi::wire::{Broken, Receiver, Sender, Stamp, Tick};
use crate::target::server::ServerConfig;
use std::collections::HashSet;
use std::net::TcpStream;

/// Requests after which a login is given up.
const MOST_REQUESTS: usize = 64;

/// Login status: class in the high byte, detail in the low one.
pub mod status {
    pub const INITIATOR_ERROR: u16 = 0x0200;
    pub const AUTHENTICATION: u16 = 0x0201;
    pub const NOT_FOUND: u16 = 0x0203;
    pub const VERSION: u16 = 0x0205;
    pub const TOO_MANY_CONNECTIONS: u16 = 0x0206;
    pub const MISSING: u16 = 0x0207;
    pub const SESSION_TYPE: u16 = 0x0209;
    pub const NO_SESSION: u16 = 0x020a;
    pub const INVALID: u16 = 0x020b;
    pub const TARGET_ERROR: u16 = 0x0300;
    pub const NO_ROOM: u16 = 0x0302;
}

/// Numbers of a connection that is logging in.
pub struct Bare;

impl Stamp for Bare {
    fn stamp(&mut self, _: &mut Bhs) {}
}

/// Who has come, and what was agreed.
pub struct Agreed {
    pub initiator: String,
    pub discovery: bool,
    pub params: Params,
    /// The request that waits for the last response.
    pub last: LoginRequest,
    /// The text of that response.
    pub answers: Pairs,
    /// Number of that response.
    pub stat_sn: u32,
}

#[derive(PartialEq, Eq)]
enum Security {
    /// The method is open.
    Open,
    /// CHAP, and the initiator has yet to name its digests.
    Chap,
    /// The challenge is out.
    Challenged,
    /// Done.
    Passed,
}

pub struct Login<'a> {
    config: &'a ServerConfig,
    knows: &'a dyn Fn(u16) -> bool,
    stage: Option<u8>,
    security: Security,
    challenge: Option<Challenge>,
    initiator: Option<String>,
    discovery: bool,
    params: Params,
    seen: HashSet<String>,
    stat_sn: u32,
}

impl<'a> Login<'a> {
    /// A login that has yet to begin. `knows` tells which sessions there are.
    pub fn new(config: &'a ServerConfig, knows: &'a dyn Fn(u16) -> bool) -> Self {
        Self {
            config,
            knows,
            stage: None,
            security: Security::Open,
            challenge: None,
            initiator: None,
            discovery: false,
            params: Params::default(),
            seen: HashSet::new(),
            stat_sn: 0,
        }
    }

    /// Goes through it, up to the last response, which is the caller's. None: it
    /// was refused, or the connection is gone.
    pub fn run(
        mut self,
        receiver: &mut Receiver<TcpStream>,
        sender: &Sender<Bare>,
        tick: Tick<'_>,
    ) -> Option<Agreed> {
        let mut text = Vec::new();
        for _ in 0..MOST_REQUESTS {
            let (bhs, _) = match receiver.header(tick) {
                Ok(h) => h,
                Err(Broken::TooLong { .. }) => {
                    let r = LoginRequest::default();
                    self.refuse(sender, &r, status::INITIATOR_ERROR);
                    return None;
                }
                Err(_) => return None,
            };
            if bhs.opcode() != LoginRequest::OPCODE {
                return None;
            }
            receiver.data(&bhs, &mut text, tick).ok()?;
            let request = LoginRequest::decode(&bhs);
            if text.len() > MOST_TEXT {
                self.refuse(sender, &request, status::INITIATOR_ERROR);
                return None;
            }
            let pairs = if request.more {
                Some(Pairs::new())
            } else {
                Pairs::decode(&std::mem::take(&mut text)).ok()
            };
            let done = match &pairs {
                Some(pairs) => self.request(&request, pairs),
                None => Err(status::INITIATOR_ERROR),
            };
            match done {
                Err(code) => {
                    self.refuse(sender, &request, code);
                    return None;
                }
                Ok((answers, true)) => {
                    if request.stages.next() == Stages::FULL {
                        return Some(Agreed {
                            initiator: self.initiator?,
                            discovery: self.discovery,
                            params: self.params,
                            last: request,
                            answers,
                            stat_sn: self.stat_sn,
                        });
                    }
                    self.stage = Some(request.stages.next());
                    self.respond(sender, &request, &answers, true)?;
                }
                Ok((answers, false)) => self.respond(sender, &request, &answers, false)?,
            }
        }
        None
    }

    /// Judges a request: the answers, and whether the stage is left.
    fn request(&mut self, r: &LoginRequest, pairs: &Pairs) -> Result<(Pairs, bool), u16> {
        let current = r.stages.current();
        let mut answers = Pairs::new();
        if r.version_min > 0 {
            return Err(status::VERSION);
        }
        if r.transit && (r.more || r.stages.next() <= current || r.stages.next() == 2) {
            return Err(status::INVALID);
        }
        let first = match self.stage {
            None if current <= Stages::OPERATIONAL => {
                self.stage = Some(current);
                true
            }
            Some(s) if s == current => self.initiator.is_none(),
            _ => return Err(status::INVALID),
        };
        if r.more {
            return Ok((answers, false));
        }
        for (key, _) in pairs.iter() {
            if !self.seen.insert(key.to_string()) {
                return Err(status::INITIATOR_ERROR);
            }
        }
        if first {
            self.leading(r, pairs, &mut answers)?;
        }
        match current {
            Stages::SECURITY => self.security(pairs, &mut answers)?,
            _ => {
                // Whoever skips the security stage has proven nothing.
                if self.config.chap.is_some() && self.security != Security::Passed {
                    return Err(status::AUTHENTICATION);
                }
                self.operational(r.transit, pairs, &mut answers)?;
            }
        }
        let leaves =
            r.transit && (current != Stages::SECURITY || self.security == Security::Passed);
        if r.transit && !leaves && self.security == Security::Open {
            // No method was offered: none is needed, or none will do.
            if self.config.chap.is_some() {
                return Err(status::AUTHENTICATION);
            }
            self.security = Security::Passed;
            return Ok((answers, true));
        }
        Ok((answers, leaves))
    }

    /// What only the first request says.
    fn leading(&mut self, r: &LoginRequest, pairs: &Pairs, answers: &mut Pairs) -> Result<(), u16> {
        let name = pairs.get("InitiatorName").ok_or(status::MISSING)?;
        if name.is_empty() || name.len() > 223 {
            return Err(status::INITIATOR_ERROR);
        }
        match pairs.get("SessionType").unwrap_or("Normal") {
            "Normal" => {
                let target = pairs.get("TargetName").ok_or(status::MISSING)?;
                if !target.eq_ignore_ascii_case(&self.config.name) {
                    return Err(status::NOT_FOUND);
                }
                answers.push("TargetPortalGroupTag", "1");
            }
            "Discovery" => self.discovery = true,
            _ => return Err(status::SESSION_TYPE),
        }
        if r.tsih != 0 {
            // Sessions have one connection.
            return Err(if (self.knows)(r.tsih) {
                status::TOO_MANY_CONNECTIONS
            } else {
                status::NO_SESSION
            });
        }
        self.initiator = Some(name.to_string());
        Ok(())
    }

    fn security(&mut self, pairs: &Pairs, answers: &mut Pairs) -> Result<(), u16> {
        if let Some(list) = pairs.get("AuthMethod") {
            let offers = |m: &str| list.split(',').any(|v| v == m);
            if self.config.chap.is_some() && offers("CHAP") {
                self.security = Security::Chap;
                answers.push("AuthMethod", "CHAP");
            } else if self.config.chap.is_none() && offers("None") {
                self.security = Security::Passed;
                answers.push("AuthMethod", "None");
            } else {
                return Err(status::AUTHENTICATION);
            }
        }
        if let Some(list) = pairs.get("CHAP_A") {
            if self.security != Security::Chap {
                return Err(status::INITIATOR_ERROR);
            }
            let algorithm = Algorithm::pick(list).ok_or(status::AUTHENTICATION)?;
            let challenge = Challenge::new(algorithm).map_err(|_| status::TARGET_ERROR)?;
            answers.push("CHAP_A", algorithm.code());
            answers.push("CHAP_I", challenge.id.to_string());
            answers.push("CHAP_C", to_hex(&challenge.bytes));
            self.challenge = Some(challenge);
            self.security = Security::Challenged;
        }
        if let Some(response) = pairs.get("CHAP_R") {
            let (Some(challenge), Some(own)) = (self.challenge.take(), &self.config.chap) else {
                return Err(status::INITIATOR_ERROR);
            };
            let response = from_binary(response).map_err(|_| status::AUTHENTICATION)?;
            let known = pairs.get("CHAP_N") == Some(own.user.as_str());
            // Both are looked at, whichever is wrong.
            if !(challenge.met_by(&own.secret, &response) & known) {
                return Err(status::AUTHENTICATION);
            }
            self.security = Security::Passed;
            if let Some(theirs) = pairs.get("CHAP_C") {
                let mutual = self.config.mutual.as_ref().ok_or(status::AUTHENTICATION)?;
                let theirs = from_binary(theirs).map_err(|_| status::AUTHENTICATION)?;
                let id: u8 = pairs
                    .get("CHAP_I")
                    .and_then(|i| i.parse().ok())
                    .ok_or(status::INITIATOR_ERROR)?;
                // Our own challenge handed back would make us prove it for them.
                if theirs == challenge.bytes {
                    return Err(status::AUTHENTICATION);
                }
                let proof = challenge.algorithm.response(id, &mutual.secret, &theirs);
                answers.push("CHAP_N", &*mutual.user);
                answers.push("CHAP_R", to_hex(&proof));
            }
        }
        Ok(())
    }

    fn operational(&mut self, last: bool, pairs: &Pairs, answers: &mut Pairs) -> Result<(), u16> {
        let declared = "MaxRecvDataSegmentLength";
        for (key, value) in pairs.iter() {
            match answer(&mut self.params, &self.config.wish, key, value) {
                Ok(Some(a)) => answers.push(key, a),
                Ok(None) => {}
                Err(_) => return Err(status::INITIATOR_ERROR),
            }
        }
        if last {
            if !self.seen.contains(declared) {
                answers.push(declared, self.config.wish.max_recv.to_string());
                self.params.max_recv = self.config.wish.max_recv;
            }
            self.params.first_burst = self.params.first_burst.min(self.params.max_burst);
        }
        Ok(())
    }

    fn respond(
        &mut self,
        sender: &Sender<Bare>,
        r: &LoginRequest,
        answers: &Pairs,
        transit: bool,
    ) -> Option<()> {
        let head = response(r, transit, self.stat_sn, 0, 0);
        self.stat_sn = self.stat_sn.wrapping_add(1);
        sender.send(&mut [(head.encode(), &answers.encode())]).ok()
    }

    fn refuse(&mut self, sender: &Sender<Bare>, r: &LoginRequest, code: u16) {
        refuse(sender, r, self.stat_sn, code);
    }
}

/// Refuses a login.
pub fn refuse(sender: &Sender<Bare>, r: &LoginRequest, stat_sn: u32, code: u16) {
    let head = response(r, false, stat_sn, 0, code);
    let _ = sender.send(&mut [(head.encode(), &[])]);
}

/// A response to a request.
pub fn response(
    r: &LoginRequest,
    transit: bool,
    stat_sn: u32,
    tsih: u16,
    status: u16,
) -> LoginResponse {
    LoginResponse {
        transit,
        stages: if transit {
            r.stages
        } else {
            Stages::of(r.stages.current(), 0)
        },
        isid: r.isid,
        tsih,
        itt: r.itt,
        stat_sn,
        exp_cmd_sn: r.cmd_sn,
        max_cmd_sn: r.cmd_sn,
        status,
        ..Default::default()
    }
}
