//! The Challenge Handshake Authentication Protocol, with MD5 and SHA-256. The
//! secret never goes over the wire; it is as safe as it is long.

use crate::error::{Error, ErrorKind, Result};
use crate::random;
use sha2::Digest as _;

const MOST_BINARY: usize = 1024;
/// Bytes of the longest challenge.
const MOST_CHALLENGE: usize = 32;

/// A name and its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Name.
    pub user: String,
    /// Secret.
    pub secret: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}%…", self.user)
    }
}

/// A digest that turns challenge and secret into a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Code 5.
    Md5,
    /// Code 7.
    Sha256,
}

impl Algorithm {
    /// What is offered, the better one first.
    pub const OFFER: &'static str = "7,5";

    /// The first of a list that is known.
    pub fn pick(list: &str) -> Option<Self> {
        list.split(',').find_map(|v| match v {
            "5" => Some(Self::Md5),
            "7" => Some(Self::Sha256),
            _ => None,
        })
    }

    /// Its code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Md5 => "5",
            Self::Sha256 => "7",
        }
    }

    /// Bytes of a challenge.
    fn challenge_len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha256 => 32,
        }
    }

    /// The response to a challenge.
    pub fn response(self, id: u8, secret: &str, challenge: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => {
                let mut h = md5::Md5::new();
                h.update([id]);
                h.update(secret);
                h.update(challenge);
                h.finalize().to_vec()
            }
            Self::Sha256 => {
                let mut h = sha2::Sha256::new();
                h.update([id]);
                h.update(secret);
                h.update(challenge);
                h.finalize().to_vec()
            }
        }
    }
}

/// A challenge that was put to the peer.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// Digest.
    pub algorithm: Algorithm,
    /// Identifier.
    pub id: u8,
    /// Random bytes.
    pub bytes: Vec<u8>,
}

impl Challenge {
    /// A fresh one.
    pub fn new(algorithm: Algorithm) -> Result<Self> {
        let mut bytes = random::bytes::<MOST_CHALLENGE>()?.to_vec();
        bytes.truncate(algorithm.challenge_len());
        let [id] = random::bytes()?;
        Ok(Self {
            algorithm,
            id,
            bytes,
        })
    }

    /// True when a response proves the secret. Takes the same time for every
    /// response of the right length.
    pub fn met_by(&self, secret: &str, response: &[u8]) -> bool {
        let want = self.algorithm.response(self.id, secret, &self.bytes);
        same(&want, response)
    }
}

/// Compares in a time that does not depend on where two values differ.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && std::hint::black_box(a.iter().zip(b).fold(0, |d, (x, y)| d | (x ^ y))) == 0
}

/// Bytes as a binary value.
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut s = String::from("0x");
    for b in bytes {
        let _ = write!(s, "{b:02x}");
    }
    s
}

/// A binary value: hexadecimal or base64, at most 1024 bytes.
pub fn from_binary(value: &str) -> Result<Vec<u8>> {
    let bad = || {
        Error::new(
            ErrorKind::Scsi,
            format!(
                "The iSCSI peer sent a binary value of {} letters, expected 0x… or 0b… of 1 to {MOST_BINARY} bytes",
                value.len()
            ),
        )
    };
    let (kind, digits) = value.split_at_checked(2).ok_or_else(bad)?;
    if digits.is_empty() || digits.len() > 2 * MOST_BINARY {
        return Err(bad());
    }
    let bytes = match kind {
        "0x" | "0X" => hex(digits.as_bytes()),
        "0b" | "0B" => base64(digits.as_bytes()),
        _ => None,
    };
    bytes
        .filter(|b| (1..=MOST_BINARY).contains(&b.len()))
        .ok_or_else(bad)
}

fn hex(digits: &[u8]) -> Option<Vec<u8>> {
    let nibble = |c: &u8| char::from(*c).to_digit(16).map(|d| d as u8);
    let mut out = Vec::with_capacity(digits.len() / 2 + 1);
    let (first, rest) = digits.split_at(digits.len() % 2);
    for c in first {
        out.push(nibble(c)?);
    }
    for pair in rest.chunks_exact(2) {
        let [a, b] = pair else { return None };
        out.push(nibble(a)? << 4 | nibble(b)?);
    }
    Some(out)
}

fn base64(digits: &[u8]) -> Option<Vec<u8>> {
    let digits = digits.strip_suffix(b"=").unwrap_or(digits);
    let digits = digits.strip_suffix(b"=").unwrap_or(digits);
    let (mut acc, mut bits) = (0u32, 0);
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    for c in digits {
        let v = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        acc = acc << 6 & 0xff_ffff | u32::from(v);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((acc >> bits) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn responses_are_those_of_the_digests() {
        // md5 and sha256 of the four bytes 01 'a' 'b' 'c'.
        assert_eq!(
            to_hex(&Algorithm::Md5.response(1, "a", b"bc")),
            to_hex(&<md5::Md5 as md5::Digest>::digest(b"\x01abc"))
        );
        assert_eq!(
            to_hex(&Algorithm::Sha256.response(1, "a", b"bc")),
            to_hex(&sha2::Sha256::digest(b"\x01abc"))
        );
    }

    #[test]
    fn a_challenge_is_met_by_its_secret_only() {
        for a in [Algorithm::Md5, Algorithm::Sha256] {
            let c = Challenge::new(a).unwrap();
            let good = a.response(c.id, "secret", &c.bytes);
            assert!(c.met_by("secret", &good));
            assert!(!c.met_by("Secret", &good));
            assert!(!c.met_by("secret", &good[1..]));
            assert!(!c.met_by("secret", &[]));
        }
        assert_ne!(
            Challenge::new(Algorithm::Md5).unwrap().bytes,
            Challenge::new(Algorithm::Md5).unwrap().bytes
        );
    }

    #[test]
    fn binary_values_have_two_forms() {
        assert_eq!(from_binary("0x00ff10").unwrap(), [0, 255, 16]);
        assert_eq!(from_binary("0xf10").unwrap(), [0xf, 0x10]);
        assert_eq!(from_binary("0baGVsbG8=").unwrap(), b"hello");
        assert_eq!(from_binary("0baGVsbA==").unwrap(), b"hell");
        for bad in ["", "0x", "0xzz", "hello", "0b***", "é"] {
            assert!(from_binary(bad).is_err(), "{bad}");
        }
        assert!(from_binary(&format!("0x{}", "00".repeat(1025))).is_err());
    }

    #[test]
    fn the_first_known_algorithm_is_picked() {
        assert_eq!(Algorithm::pick("8,7,5"), Some(Algorithm::Sha256));
        assert_eq!(Algorithm::pick("5,7"), Some(Algorithm::Md5));
        assert_eq!(Algorithm::pick("6,8"), None);
    }

    proptest! {
        #[test]
        fn binary_values_come_back(b in proptest::collection::vec(any::<u8>(), 1..100)) {
            prop_assert_eq!(from_binary(&to_hex(&b)).unwrap(), b);
        }

        #[test]
        fn arbitrary_values_never_panic(s in ".{0,60}") {
            let _ = from_binary(&s);
            let _ = from_binary(&format!("0b{s}"));
            let _ = from_binary(&format!("0x{s}"));
        }
    }
}
