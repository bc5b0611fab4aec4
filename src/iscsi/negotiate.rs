//! What the two ends of a session agree on.

use super::text::Pairs;
use super::wire::Digests;
use crate::error::{Error, ErrorKind, Result};

/// What was agreed. Before a negotiation: the standard's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Digests.
    pub digests: Digests,
    /// Data goes out only after an R2T.
    pub initial_r2t: bool,
    /// A command may carry data.
    pub immediate_data: bool,
    /// Longest data segment the peer takes.
    pub max_send: usize,
    /// Longest data segment we take.
    pub max_recv: usize,
    /// Most bytes of one sequence.
    pub max_burst: usize,
    /// Most bytes without an R2T.
    pub first_burst: usize,
    /// R2Ts of one command outstanding at once.
    pub max_r2t: u32,
    /// Seconds before another login.
    pub time2wait: u16,
    /// Seconds for which tasks are kept.
    pub time2retain: u16,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            digests: Digests::default(),
            initial_r2t: true,
            immediate_data: true,
            max_send: 8192,
            max_recv: 8192,
            max_burst: 262_144,
            first_burst: 65_536,
            max_r2t: 1,
            time2wait: 2,
            time2retain: 20,
        }
    }
}

/// What one end would like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Header digest: none, if possible, or a must.
    pub header_digest: Choice,
    /// Data digest, likewise.
    pub data_digest: Choice,
    /// Insists on an R2T before any data.
    pub initial_r2t: bool,
    /// Lets a command carry data.
    pub immediate_data: bool,
    /// Longest data segment we take.
    pub max_recv: usize,
    /// Most bytes of one sequence.
    pub max_burst: usize,
    /// Most bytes without an R2T.
    pub first_burst: usize,
    /// R2Ts of one command outstanding at once.
    pub max_r2t: u32,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            header_digest: Choice::Avoid,
            data_digest: Choice::Avoid,
            initial_r2t: false,
            immediate_data: true,
            max_recv: 256 << 10,
            max_burst: 1 << 20,
            first_burst: 256 << 10,
            max_r2t: 1,
        }
    }
}

/// How much a digest is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Only when the peer insists.
    #[default]
    Avoid,
    /// When the peer has it.
    Prefer,
    /// Or there is no session.
    Require,
}

impl Choice {
    fn list(self) -> &'static str {
        match self {
            Choice::Avoid => "None,CRC32C",
            Choice::Prefer => "CRC32C,None",
            Choice::Require => "CRC32C",
        }
    }

    /// The answer to a list, if there is one that both take.
    fn answer(self, list: &str) -> Option<&'static str> {
        // The first of the offered values that the answering end supports.
        list.split(',').find_map(|v| match (self, v) {
            (_, "CRC32C") => Some("CRC32C"),
            (Choice::Avoid | Choice::Prefer, "None") => Some("None"),
            _ => None,
        })
    }
}

const SEGMENT: std::ops::RangeInclusive<u64> = 512..=0xff_ffff;

/// What the initiator offers, in order. `discovery` leaves out what has no
/// meaning without SCSI commands.
pub fn offer(wish: &Wish, discovery: bool) -> Pairs {
    let yes = |b: bool| if b { "Yes" } else { "No" };
    let mut p = Pairs::new()
        .with("HeaderDigest", wish.header_digest.list())
        .with("DataDigest", wish.data_digest.list())
        .with("MaxRecvDataSegmentLength", wish.max_recv.to_string())
        .with("DefaultTime2Wait", "2")
        .with("DefaultTime2Retain", "0")
        .with("ErrorRecoveryLevel", "0");
    if !discovery {
        p.push("InitialR2T", yes(wish.initial_r2t));
        p.push("ImmediateData", yes(wish.immediate_data));
        p.push("MaxBurstLength", wish.max_burst.to_string());
        p.push("FirstBurstLength", wish.first_burst.to_string());
        p.push("MaxOutstandingR2T", wish.max_r2t.to_string());
        p.push("MaxConnections", "1");
        p.push("DataPDUInOrder", "Yes");
        p.push("DataSequenceInOrder", "Yes");
    }
    p
}

/// Takes a target's answers to our offer into what was agreed.
pub fn accept(params: &mut Params, wish: &Wish, answers: &Pairs) -> Result<()> {
    params.max_recv = wish.max_recv;
    for (key, value) in answers.iter() {
        if matches!(value, "Reject" | "NotUnderstood" | "Irrelevant") {
            let must = |c: Choice| c == Choice::Require;
            if key == "HeaderDigest" && must(wish.header_digest)
                || key == "DataDigest" && must(wish.data_digest)
            {
                return Err(Error::new(
                    ErrorKind::Scsi,
                    format!("The target answers {key} with {value}, CRC32C is required"),
                ));
            }
            continue;
        }
        match key {
            "HeaderDigest" => params.digests.header = digest(key, value, wish.header_digest)?,
            "DataDigest" => params.digests.data = digest(key, value, wish.data_digest)?,
            "InitialR2T" => params.initial_r2t = boolean(key, value)?,
            "ImmediateData" => params.immediate_data = boolean(key, value)? && wish.immediate_data,
            "MaxRecvDataSegmentLength" => params.max_send = number(key, value, SEGMENT)?,
            "MaxBurstLength" => params.max_burst = number(key, value, SEGMENT)?.min(wish.max_burst),
            "FirstBurstLength" => {
                params.first_burst = number(key, value, SEGMENT)?.min(wish.first_burst);
            }
            "MaxOutstandingR2T" => params.max_r2t = number(key, value, 1..=65535)? as u32,
            "DefaultTime2Wait" => params.time2wait = number(key, value, 0..=3600)? as u16,
            "DefaultTime2Retain" => params.time2retain = number(key, value, 0..=3600)? as u16,
            "ErrorRecoveryLevel" if number(key, value, 0..=2)? != 0 => {
                return Err(wrong(key, value, "0"));
            }
            "DataPDUInOrder" | "DataSequenceInOrder" if !boolean(key, value)? => {
                return Err(wrong(key, value, "Yes"));
            }
            _ => {}
        }
    }
    params.first_burst = params.first_burst.min(params.max_burst);
    Ok(())
}

/// Answers one key of an initiator, and takes the result into what was agreed.
/// None: the key asks for no answer.
pub fn answer(params: &mut Params, wish: &Wish, key: &str, value: &str) -> Result<Option<String>> {
    let yes = |b: bool| Some(if b { "Yes" } else { "No" }.to_string());
    let text = |s: &str| Some(s.to_string());
    Ok(match key {
        "HeaderDigest" | "DataDigest" => {
            let header = key == "HeaderDigest";
            let choice = if header {
                wish.header_digest
            } else {
                wish.data_digest
            };
            let picked = choice.answer(value);
            let on = picked == Some("CRC32C");
            if picked.is_none() && choice == Choice::Require {
                return Err(wrong(key, value, "CRC32C"));
            }
            if header {
                params.digests.header = on;
            } else {
                params.digests.data = on;
            }
            text(picked.unwrap_or("Reject"))
        }
        "InitialR2T" => {
            params.initial_r2t = boolean(key, value)? || wish.initial_r2t;
            yes(params.initial_r2t)
        }
        "ImmediateData" => {
            params.immediate_data = boolean(key, value)? && wish.immediate_data;
            yes(params.immediate_data)
        }
        "MaxRecvDataSegmentLength" => {
            params.max_send = number(key, value, SEGMENT)?;
            params.max_recv = wish.max_recv;
            text(&wish.max_recv.to_string())
        }
        "MaxBurstLength" => {
            params.max_burst = number(key, value, SEGMENT)?.min(wish.max_burst);
            text(&params.max_burst.to_string())
        }
        "FirstBurstLength" => {
            params.first_burst = number(key, value, SEGMENT)?.min(wish.first_burst);
            text(&params.first_burst.to_string())
        }
        "MaxOutstandingR2T" => {
            params.max_r2t = (number(key, value, 1..=65535)? as u32).min(wish.max_r2t);
            text(&params.max_r2t.to_string())
        }
        "MaxConnections" => {
            number(key, value, 1..=65535)?;
            text("1")
        }
        "ErrorRecoveryLevel" => {
            number(key, value, 0..=2)?;
            text("0")
        }
        "DefaultTime2Wait" => {
            params.time2wait = number(key, value, 0..=3600)?.max(2) as u16;
            text(&params.time2wait.to_string())
        }
        "DefaultTime2Retain" => {
            number(key, value, 0..=3600)?;
            params.time2retain = 0;
            text("0")
        }
        "DataPDUInOrder" | "DataSequenceInOrder" => {
            boolean(key, value)?;
            yes(true)
        }
        "OFMarker" | "IFMarker" => {
            boolean(key, value)?;
            yes(false)
        }
        "OFMarkInt" | "IFMarkInt" => text("Irrelevant"),
        "TaskReporting" => text("RFC3720"),
        "iSCSIProtocolLevel" => {
            number(key, value, 0..=31)?;
            text("1")
        }
        // Said, not asked.
        "InitiatorName"
        | "InitiatorAlias"
        | "TargetName"
        | "TargetAlias"
        | "SessionType"
        | "TargetAddress"
        | "TargetPortalGroupTag" => None,
        _ if matches!(value, "NotUnderstood" | "Reject" | "Irrelevant") => None,
        _ => text("NotUnderstood"),
    })
}

fn wrong(key: &str, value: &str, expected: &str) -> Error {
    Error::new(
        ErrorKind::Scsi,
        format!("The iSCSI peer sent {key}={value}, expected {expected}"),
    )
}

fn digest(key: &str, value: &str, wish: Choice) -> Result<bool> {
    match value {
        "CRC32C" => Ok(true),
        "None" if wish != Choice::Require => Ok(false),
        _ => Err(wrong(key, value, wish.list())),
    }
}

fn boolean(key: &str, value: &str) -> Result<bool> {
    match value {
        "Yes" => Ok(true),
        "No" => Ok(false),
        _ => Err(wrong(key, value, "Yes or No")),
    }
}

fn number(key: &str, value: &str, range: std::ops::RangeInclusive<u64>) -> Result<usize> {
    let n = match value
        .strip_prefix("0x")
        .or_else(|| value.strip_prefix("0X"))
    {
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16).ok(),
        None if !value.starts_with('+') => value.parse().ok(),
        _ => None,
    };
    n.filter(|n| range.contains(n))
        .map(|n| n as usize)
        .ok_or_else(|| wrong(key, value, &format!("{} to {}", range.start(), range.end())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Both ends over one exchange.
    fn both(initiator: &Wish, target: &Wish) -> Result<(Params, Params)> {
        let (mut i, mut t) = (Params::default(), Params::default());
        let mut answers = Pairs::new();
        for (k, v) in offer(initiator, false).iter() {
            if let Some(a) = answer(&mut t, target, k, v)? {
                answers.push(k, a);
            }
        }
        t.first_burst = t.first_burst.min(t.max_burst);
        accept(&mut i, initiator, &answers)?;
        Ok((i, t))
    }

    #[test]
    fn digests_follow_the_wishes() {
        let w = |c| Wish {
            header_digest: c,
            data_digest: c,
            ..Wish::default()
        };
        use Choice::*;
        for (i, t, on) in [
            (Avoid, Avoid, false),
            (Prefer, Avoid, true),
            (Require, Avoid, true),
            (Avoid, Require, true),
            (Prefer, Prefer, true),
        ] {
            let (a, b) = both(&w(i), &w(t)).unwrap();
            assert_eq!(a.digests, b.digests);
            assert_eq!(a.digests.header, on, "{i:?} {t:?}");
            assert_eq!(a.digests.data, on, "{i:?} {t:?}");
        }
        let mut p = Params::default();
        assert!(
            accept(
                &mut p,
                &w(Require),
                &Pairs::new().with("DataDigest", "Reject")
            )
            .is_err()
        );
        assert!(
            accept(
                &mut p,
                &w(Require),
                &Pairs::new().with("DataDigest", "None")
            )
            .is_err()
        );
    }

    #[test]
    fn wrong_values_are_refused_and_unknown_keys_answered() {
        let (mut p, w) = (Params::default(), Wish::default());
        for (k, v) in [
            ("MaxBurstLength", "511"),
            ("MaxBurstLength", "16777216"),
            ("FirstBurstLength", "+600"),
            ("InitialR2T", "Maybe"),
            ("MaxRecvDataSegmentLength", "0x"),
            ("MaxOutstandingR2T", "0"),
        ] {
            assert!(answer(&mut p, &w, k, v).is_err(), "{k}={v}");
        }
        assert_eq!(
            answer(&mut p, &w, "X-odd", "1").unwrap().as_deref(),
            Some("NotUnderstood")
        );
        assert_eq!(answer(&mut p, &w, "InitiatorName", "iqn").unwrap(), None);
        assert_eq!(
            answer(&mut p, &w, "MaxBurstLength", "0x1000")
                .unwrap()
                .as_deref(),
            Some("4096")
        );
    }

    fn wish() -> impl Strategy<Value = Wish> {
        (
            any::<(bool, bool)>(),
            512usize..1 << 24,
            512usize..1 << 24,
            512usize..1 << 24,
            1u32..9,
        )
            .prop_map(|((initial_r2t, immediate_data), a, b, c, max_r2t)| Wish {
                initial_r2t,
                immediate_data,
                max_recv: a,
                max_burst: b,
                first_burst: c,
                max_r2t,
                ..Wish::default()
            })
    }

    proptest! {
        #[test]
        fn both_ends_agree(a in wish(), b in wish()) {
            let (i, t) = both(&a, &b).unwrap();
            prop_assert_eq!(i.initial_r2t, t.initial_r2t);
            prop_assert_eq!(i.initial_r2t, a.initial_r2t || b.initial_r2t);
            prop_assert_eq!(i.immediate_data, t.immediate_data);
            prop_assert_eq!(i.max_burst, t.max_burst);
            prop_assert_eq!(i.first_burst, t.first_burst);
            prop_assert!(i.first_burst <= i.max_burst);
            prop_assert_eq!(i.max_r2t, t.max_r2t);
            prop_assert_eq!(i.max_send, t.max_recv);
            prop_assert_eq!(i.max_recv, t.max_send);
        }

        #[test]
        fn arbitrary_values_never_panic(key in "[A-Za-z0-9]{1,30}", value in ".{0,40}") {
            let _ = answer(&mut Params::default(), &Wish::default(), &key, &value);
            for key in ["MaxBurstLength", "HeaderDigest", "InitialR2T", "MaxOutstandingR2T"] {
                let _ = answer(&mut Params::default(), &Wish::default(), key, &value);
                let _ = accept(
                    &mut Params::default(),
                    &Wish::default(),
                    &Pairs::new().with(key, value.clone()),
                );
            }
        }
    }
}
