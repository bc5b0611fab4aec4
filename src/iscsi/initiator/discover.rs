//! Discovery: which targets an address offers.

use super::login::{Purpose, login};
use super::session::new_isid;
use super::{Options, Url};
use crate::error::{Error, ErrorKind, Result};
use crate::iscsi::chap::Credentials;
use crate::iscsi::pdu::{Header, LogoutRequest, NO_TAG, TextRequest, TextResponse};
use crate::iscsi::text::{MOST_TEXT, Pairs};
use crate::iscsi::url::place_of;
use crate::iscsi::wire::{Sender, Stamp};
use std::sync::Arc;
use std::time::Instant;

/// A target that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundTarget {
    /// Its name.
    pub name: String,
    /// Where it is: `host:port,group`.
    pub addresses: Vec<String>,
}

struct Counting(u32, u32);

impl Stamp for Counting {
    fn stamp(&mut self, bhs: &mut crate::iscsi::pdu::Bhs) {
        bhs.set_u32(24, self.0);
        bhs.set_u32(28, self.1);
        if !bhs.immediate() {
            self.0 = self.0.wrapping_add(1);
        }
    }
}

/// Asks a portal (`host[:port]`) for its targets.
pub fn discover(
    place: &str,
    credentials: Option<Credentials>,
    options: &Options,
) -> Result<Vec<FoundTarget>> {
    let (host, port) = place_of(place)?;
    let url = Url {
        host,
        port,
        target: String::new(),
        lun: 0,
        credentials,
        target_credentials: None,
        header_digest: None,
        data_digest: None,
    };
    let mut l = login(
        &url,
        options,
        new_isid()?,
        Purpose::Discovery,
        &Arc::default(),
    )
    .map_err(|f| f.error.of(place))?;
    let sender = Sender::new(
        l.stream,
        l.params.digests,
        Counting(l.cmd_sn, l.exp_stat_sn),
        Arc::default(),
    );
    let deadline = Instant::now() + options.login_timeout;
    let mut tick = || match Instant::now() < deadline {
        true => Ok(()),
        false => Err(std::io::ErrorKind::TimedOut.into()),
    };
    let mut text = Vec::new();
    let (mut ttt, mut lun) = (NO_TAG, 0);
    let mut ask = Pairs::new().with("SendTargets", "All").encode();
    let broken = |e: &dyn std::fmt::Display| {
        Error::new(
            ErrorKind::Scsi,
            format!("The connection ended while targets were listed: {e}"),
        )
        .of(place)
    };
    loop {
        let request = TextRequest {
            immediate: true,
            last: true,
            lun,
            itt: 1,
            ttt,
            ..Default::default()
        };
        sender
            .send(&mut [(request.encode(), &ask)])
            .map_err(|e| broken(&e))?;
        let unit = l.receiver.unit(&mut tick).map_err(|e| broken(&e))?;
        if unit.bhs.opcode() != TextResponse::OPCODE {
            return Err(broken(&format!("{:?} came", unit.bhs)));
        }
        let r = TextResponse::decode(&unit.bhs);
        text.extend_from_slice(&unit.data);
        sender.with(|out, _| out.stamp.1 = r.stat_sn.wrapping_add(1));
        if r.last || r.ttt == NO_TAG || text.len() > MOST_TEXT {
            break;
        }
        (ttt, lun) = (r.ttt, r.lun);
        ask = Vec::new();
    }
    let bye = LogoutRequest {
        immediate: true,
        last: true,
        itt: 2,
        ..Default::default()
    };
    if sender.send(&mut [(bye.encode(), &[])]).is_ok() {
        let _ = l.receiver.unit(&mut tick);
    }
    found(&Pairs::decode(&text).map_err(|e| e.of(place))?).map_err(|e| e.of(place))
}

fn found(pairs: &Pairs) -> Result<Vec<FoundTarget>> {
    let mut out: Vec<FoundTarget> = Vec::new();
    for (key, value) in pairs.iter() {
        match (key, out.last_mut()) {
            ("TargetName", _) => out.push(FoundTarget {
                name: value.to_string(),
                addresses: Vec::new(),
            }),
            ("TargetAddress", Some(t)) => t.addresses.push(value.to_string()),
            ("TargetAddress", None) => {
                return Err(Error::new(
                    ErrorKind::Scsi,
                    "The target list begins with an address, expected a name",
                ));
            }
            _ => {}
        }
    }
    Ok(out)
}
