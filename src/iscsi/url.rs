//! `iscsi://[user%secret@]host[:port]/iqn/lun`: where a logical unit is.

use super::chap::Credentials;
use super::negotiate::Choice;
use crate::error::{Error, Result};

/// The port that is meant when none is given.
pub const PORT: u16 = 3260;

/// A place of a logical unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Target name.
    pub target: String,
    /// Logical unit number.
    pub lun: u64,
    /// With which we prove who we are.
    pub credentials: Option<Credentials>,
    /// With which the target proves who it is (`?target_user=…&target_password=…`).
    pub target_credentials: Option<Credentials>,
    /// `?header_digest=crc32c` or `none`.
    pub header_digest: Option<Choice>,
    /// `?data_digest=crc32c` or `none`.
    pub data_digest: Option<Choice>,
}

/// True for what looks like such a place, well formed or not.
pub fn is_url(text: &str) -> bool {
    text.get(..8)
        .is_some_and(|s| s.eq_ignore_ascii_case("iscsi://"))
}

impl Url {
    /// From its text.
    pub fn parse(text: &str) -> Result<Self> {
        let rest = text
            .split_at_checked(8)
            .filter(|_| is_url(text))
            .map(|(_, r)| r)
            .ok_or_else(|| bad("does not begin with iscsi://"))?;
        // From the right: a secret may hold any letter, a target name no slash.
        let (rest, last) = rest
            .rsplit_once('/')
            .ok_or_else(|| bad("has no target name"))?;
        let (authority, target) = rest
            .rsplit_once('/')
            .ok_or_else(|| bad("has no target name or no logical unit number"))?;
        let (lun, query) = last.split_once('?').unwrap_or((last, ""));
        let number: u16 = lun
            .parse()
            .ok()
            .filter(|n| *n < 16384 && !lun.starts_with('+'))
            .ok_or_else(|| {
                bad(&format!(
                    "has the logical unit number {lun:?}, expected 0 to 16383"
                ))
            })?;
        if target.is_empty() || target.len() > 223 || target.chars().any(|c| c.is_control()) {
            return Err(bad("has a target name of no or more than 223 letters"));
        }
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((who, place)) => (Some(credentials(who)?), place),
            None => (None, authority),
        };
        let (host, port) = place_of(place)?;
        let mut url = Self {
            host,
            port,
            target: target.to_string(),
            lun: wire_lun(number),
            credentials,
            target_credentials: None,
            header_digest: None,
            data_digest: None,
        };
        url.query(query)?;
        Ok(url)
    }

    fn query(&mut self, query: &str) -> Result<()> {
        let (mut user, mut secret) = (None, None);
        for part in query.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let digest = || match value.to_ascii_lowercase().as_str() {
                "crc32c" => Ok(Some(Choice::Require)),
                "none" => Ok(Some(Choice::Avoid)),
                _ => Err(bad(&format!("has {part:?}, expected crc32c or none"))),
            };
            match key {
                "target_user" => user = Some(value),
                "target_password" => secret = Some(value),
                "header_digest" => self.header_digest = digest()?,
                "data_digest" => self.data_digest = digest()?,
                _ => return Err(bad(&format!("has the unknown option {key:?}"))),
            }
        }
        self.target_credentials = match (user, secret) {
            (Some(u), Some(s)) => Some(Credentials {
                user: u.to_string(),
                secret: s.to_string(),
            }),
            (None, None) => None,
            _ => return Err(bad("has only one of target_user and target_password")),
        };
        if self.target_credentials.is_some() && self.credentials.is_none() {
            return Err(bad("asks the target to prove itself without user%secret@"));
        }
        Ok(())
    }

    /// Host and port, as an address is written.
    pub fn portal(&self) -> String {
        portal(&self.host, self.port)
    }
}

/// Without its secrets.
impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "iscsi://{}/{}/{}",
            self.portal(),
            self.target,
            self.lun >> 48 & 0x3fff
        )
    }
}

impl std::str::FromStr for Url {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Self::parse(s)
    }
}

/// A logical unit number as it goes over the wire: peripheral addressing below
/// 256, flat space addressing above.
pub fn wire_lun(number: u16) -> u64 {
    let word = if number < 256 {
        number
    } else {
        0x4000 | number & 0x3fff
    };
    u64::from(word) << 48
}

/// Host and port as an address is written: IPv6 in brackets.
pub fn portal(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Splits `host[:port]`, `[v6][:port]`.
pub fn place_of(place: &str) -> Result<(String, u16)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner
                .split_once(']')
                .ok_or_else(|| bad("has an address without its closing bracket"))?;
            match rest.strip_prefix(':') {
                Some(p) => (host, Some(p)),
                None if rest.is_empty() => (host, None),
                None => return Err(bad("has letters between bracket and port")),
            }
        }
        None => match place.split_once(':') {
            Some((_, p)) if p.contains(':') => {
                return Err(bad("has an IPv6 address without brackets"));
            }
            Some((h, p)) => (h, Some(p)),
            None => (place, None),
        },
    };
    if host.is_empty() || host.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(bad("has no host"));
    }
    let port = match port {
        None => PORT,
        Some(p) => p
            .parse()
            .ok()
            .filter(|n| *n > 0 && !p.starts_with('+'))
            .ok_or_else(|| bad(&format!("has the port {p:?}, expected 1 to 65535")))?,
    };
    Ok((host.to_string(), port))
}

fn credentials(who: &str) -> Result<Credentials> {
    match who.split_once('%') {
        Some((user, secret)) if !user.is_empty() && !secret.is_empty() => Ok(Credentials {
            user: user.to_string(),
            secret: secret.to_string(),
        }),
        _ => Err(bad("has no user%secret in front of @")),
    }
}

fn bad(what: &str) -> Error {
    Error::usage(format!("The iSCSI address {what}"))
        .hint("write iscsi://[user%secret@]host[:port]/target-name/lun")
}

/// An address without the user's name and secret; other texts as they are.
pub fn without_secret(place: &str) -> String {
    match (place.find("://"), place.rfind('@')) {
        (Some(a), Some(b)) if a < b => format!("{}{}", &place[..a + 3], &place[b + 1..]),
        _ => place.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_parts_are_found() {
        let u = Url::parse("iscsi://127.0.0.1/iqn.2026-11.org.ntbak:target/0").unwrap();
        assert_eq!((u.host.as_str(), u.port, u.lun), ("127.0.0.1", 3260, 0));
        assert_eq!(u.target, "iqn.2026-11.org.ntbak:target");
        assert_eq!(u.credentials, None);

        let u = Url::parse("iscsi://me%p@ss/word%@[fe80::1]:99/iqn.x:y/300").unwrap();
        assert_eq!((u.host.as_str(), u.port), ("fe80::1", 99));
        assert_eq!(u.lun, 0x412c_0000_0000_0000);
        let c = u.credentials.clone().unwrap();
        assert_eq!((c.user.as_str(), c.secret.as_str()), ("me", "p@ss/word%"));
        assert_eq!(u.to_string(), "iscsi://[fe80::1]:99/iqn.x:y/300");
        assert!(!format!("{u:?}").contains("word"));

        let u = Url::parse(
            "iscsi://a%b@h/t/1?target_user=c&target_password=d&header_digest=crc32c&data_digest=none",
        )
        .unwrap();
        assert_eq!(u.target_credentials.unwrap().user, "c");
        assert_eq!(u.header_digest, Some(Choice::Require));
        assert_eq!(u.data_digest, Some(Choice::Avoid));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, what) in [
            ("http://h/t/0", "iscsi://"),
            ("iscsi://h", "no target name"),
            ("iscsi://h/t", "no target name or"),
            ("iscsi://h/t/x", "\"x\""),
            ("iscsi://h/t/16384", "16383"),
            ("iscsi:///t/0", "no host"),
            ("iscsi://h:0/t/0", "port"),
            ("iscsi://::1/t/0", "brackets"),
            ("iscsi://[::1/t/0", "closing bracket"),
            ("iscsi://user@h/t/0", "user%secret"),
            ("iscsi://h/t/0?x=1", "unknown option"),
            ("iscsi://h/t/0?target_user=x", "only one"),
        ] {
            let e = Url::parse(text).unwrap_err().to_string();
            assert!(e.contains(what), "{text}: {e}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(s in ".{0,60}") {
            let _ = Url::parse(&s);
            let _ = Url::parse(&format!("iscsi://{s}"));
        }

        #[test]
        fn addresses_come_back(host in "[a-z0-9.]{1,20}", port in 1u16.., target in "[a-z0-9.:-]{1,40}", lun in 0u16..16384) {
            let text = format!("iscsi://{host}:{port}/{target}/{lun}");
            prop_assert_eq!(Url::parse(&text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn secrets_are_not_told() {
        assert_eq!(without_secret("iscsi://u%s@h/t/0"), "iscsi://h/t/0");
        assert_eq!(without_secret("/a@b"), "/a@b");
    }
}
