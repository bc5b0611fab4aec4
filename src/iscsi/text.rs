//! Text of login and text units: `key=value` pairs, each ended by a zero byte,
//! which may be spread over several units.

use crate::error::{Error, ErrorKind, Result};

/// Bytes of text in one exchange, over all its units.
pub const MOST_TEXT: usize = 64 << 10;
const MOST_PAIRS: usize = 256;
const MOST_KEY: usize = 63;

/// Pairs, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pair.
    pub fn push(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.push((key.into(), value.into()));
    }

    /// With a pair more.
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.push(key, value);
        self
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// From the whole text of an exchange.
    pub fn decode(text: &[u8]) -> Result<Self> {
        if text.len() > MOST_TEXT {
            return Err(bad(format!(
                "has {} bytes, expected at most {MOST_TEXT}",
                text.len()
            )));
        }
        let mut out = Self::new();
        for part in text.split(|b| *b == 0).filter(|p| !p.is_empty()) {
            let part = std::str::from_utf8(part)
                .map_err(|e| bad(format!("is not UTF-8 behind {} bytes", e.valid_up_to())))?;
            let Some((key, value)) = part.split_once('=') else {
                return Err(bad(format!("has {part:?}, expected key=value")));
            };
            let plain = |c: char| c.is_ascii_alphanumeric() || "-.+@_/:#".contains(c);
            if key.is_empty() || key.len() > MOST_KEY || !key.chars().all(plain) {
                return Err(bad(format!("has the key {key:?}")));
            }
            if out.0.len() == MOST_PAIRS {
                return Err(bad(format!("has more than {MOST_PAIRS} pairs")));
            }
            out.push(key, value);
        }
        Ok(out)
    }

    /// As text.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (k, v) in self.iter() {
            out.extend_from_slice(k.as_bytes());
            out.push(b'=');
            out.extend_from_slice(v.as_bytes());
            out.push(0);
        }
        out
    }
}

fn bad(what: String) -> Error {
    Error::new(ErrorKind::Scsi, format!("The iSCSI text {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pairs_are_separated_by_zero_bytes() {
        let p = Pairs::decode(b"A=1\0InitialR2T=Yes\0X=a=b\0E=\0").unwrap();
        assert_eq!(p.get("InitialR2T"), Some("Yes"));
        assert_eq!(p.get("X"), Some("a=b"));
        assert_eq!(p.get("E"), Some(""));
        assert_eq!(p.get("B"), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [&b"novalue\0"[..], b"=v\0", b"k\xff=v\0", b"a b=c\0"] {
            assert!(Pairs::decode(text).is_err(), "{text:?}");
        }
        assert!(Pairs::decode(&vec![b'a'; MOST_TEXT + 1]).is_err());
        assert!(Pairs::decode(&b"a=b\0".repeat(MOST_PAIRS + 1)).is_err());
    }

    proptest! {
        #[test]
        fn text_comes_back(list in proptest::collection::vec(("[A-Za-z0-9.]{1,20}", "[ -~]{0,40}"), 0..20)) {
            let p = Pairs(list);
            prop_assert_eq!(Pairs::decode(&p.encode()).unwrap(), p);
        }

        #[test]
        fn arbitrary_text_never_panics(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(p) = Pairs::decode(&text) {
                prop_assert_eq!(Pairs::decode(&p.encode()).unwrap(), p);
            }
        }
    }
}
