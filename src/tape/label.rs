//! Label and trailer of a cartridge. Format: `docs/tape.md` section 3.

use crate::error::{Error, Result};

/// Bytes of a label or trailer block.
pub const LABEL_BYTES: usize = 4096;
/// Longest stream block that a label may state.
pub const MAX_BLOCK: u32 = 16 << 20;

const MAGIC: &[u8; 8] = b"NTBKTAPE";
const VERSION: u16 = 1;
const NAME: std::ops::Range<usize> = 88..120;
const CRC_AT: usize = 124;

/// Which of the two it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelKind {
    /// The first block of a cartridge.
    Label,
    /// The last block of a cartridge whose set goes on with another.
    Trailer,
}

/// What a set says about one of its cartridges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SetPart {
    /// Id of the set, which is that of the archive.
    pub set: Id,
    /// Number of the cartridge in the set, from 1.
    pub sequence: u32,
    /// Bytes of a stream block.
    pub block_bytes: u32,
    /// Label: stream offset of the first block behind it. Trailer: where the
    /// next cartridge goes on.
    pub stream_offset: u64,
    /// Cartridge before this one.
    pub previous: Option<Id>,
}

/// 16 random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub [u8; 16]);

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl std::str::FromStr for Id {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let bad = || Error::usage(format!("Found {s:?}, expected an id of 32 hex digits"));
        if s.len() != 32 || !s.is_ascii() {
            return Err(bad());
        }
        let mut id = [0; 16];
        for (i, b) in id.iter_mut().enumerate() {
            *b = u8::from_str_radix(&s[2 * i..2 * i + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(id))
    }
}

impl serde::Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let s = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        s.parse().map_err(serde::de::Error::custom)
    }
}

/// A label or trailer in memory.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Label {
    /// Label or trailer.
    pub kind: LabelKind,
    /// Id of the cartridge.
    pub cartridge: Id,
    /// The set it belongs to; none: blank.
    pub part: Option<SetPart>,
    /// Seconds since 1970, UTC.
    pub time: u64,
    /// Name of the cartridge, at most 32 bytes; a barcode fits.
    pub name: String,
}

impl Label {
    /// The disk form.
    pub fn encode(&self) -> Result<[u8; LABEL_BYTES]> {
        let mut b = [0; LABEL_BYTES];
        b[..8].copy_from_slice(MAGIC);
        b[8..10].copy_from_slice(&VERSION.to_le_bytes());
        b[10] = match self.kind {
            LabelKind::Label => 1,
            LabelKind::Trailer => 2,
        };
        b[16..32].copy_from_slice(&self.cartridge.0);
        if let Some(p) = &self.part {
            b[11] = 1;
            b[12..16].copy_from_slice(&p.block_bytes.to_le_bytes());
            b[32..48].copy_from_slice(&p.set.0);
            b[48..52].copy_from_slice(&p.sequence.to_le_bytes());
            b[56..64].copy_from_slice(&p.stream_offset.to_le_bytes());
            b[72..88].copy_from_slice(&p.previous.map_or([0; 16], |i| i.0));
        }
        b[64..72].copy_from_slice(&self.time.to_le_bytes());
        let name = self.name.as_bytes();
        if name.len() > NAME.len() || name.contains(&0) {
            return Err(Error::usage(format!(
                "Found a cartridge name of {} bytes, expected at most {} without zeros",
                name.len(),
                NAME.len()
            )));
        }
        b[NAME.start..NAME.start + name.len()].copy_from_slice(name);
        let crc = crc32c::crc32c(&b);
        b[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        // What a reader would refuse is never written.
        Self::decode(&b)?.ok_or_else(|| Error::damaged("Label does not read back"))?;
        Ok(b)
    }

    /// Reads the first block of a cartridge, or a trailer. None: it is no
    /// label of this program at all.
    pub fn decode(block: &[u8]) -> Result<Option<Label>> {
        if !block.starts_with(MAGIC) {
            return Ok(None);
        }
        let bad = |what: String| Err(Error::damaged(format!("Cartridge label {what}")));
        let Some(b) = block.first_chunk::<LABEL_BYTES>() else {
            return bad(format!("has {} bytes, expected {LABEL_BYTES}", block.len()));
        };
        if block.len() != LABEL_BYTES {
            return bad(format!("has {} bytes, expected {LABEL_BYTES}", block.len()));
        }
        let stated = u32::from_le_bytes(field(b, CRC_AT));
        let crc = crc32c::crc32c_append(
            crc32c::crc32c_append(crc32c::crc32c(&b[..CRC_AT]), &[0; 4]),
            &b[CRC_AT + 4..],
        );
        if crc != stated {
            return bad(format!("has CRC-32C {stated:08x}, expected {crc:08x}"));
        }
        let version = u16::from_le_bytes(field(b, 8));
        if version != VERSION {
            return Err(Error::unsupported(format!(
                "Cartridge has layout version {version}, this program reads {VERSION}"
            ))
            .hint("use a newer ntbak"));
        }
        let kind = match b[10] {
            1 => LabelKind::Label,
            2 => LabelKind::Trailer,
            k => return bad(format!("has kind {k}, expected 1 or 2")),
        };
        let part = match b[11] {
            0 => None,
            1 => Some(SetPart {
                set: Id(field(b, 32)),
                sequence: u32::from_le_bytes(field(b, 48)),
                block_bytes: u32::from_le_bytes(field(b, 12)),
                stream_offset: u64::from_le_bytes(field(b, 56)),
                previous: Some(Id(field(b, 72))).filter(|i| i.0 != [0; 16]),
            }),
            s => return bad(format!("has state {s}, expected 0 or 1")),
        };
        if let Some(p) = &part {
            let t = p.block_bytes;
            if t < LABEL_BYTES as u32 || t > MAX_BLOCK || !t.is_multiple_of(LABEL_BYTES as u32) {
                return bad(format!(
                    "states blocks of {t} bytes, expected a multiple of 4096"
                ));
            }
            if p.sequence == 0 || !p.stream_offset.is_multiple_of(u64::from(t)) {
                return bad(format!(
                    "states cartridge {} at stream offset {:#x}, which cannot be",
                    p.sequence, p.stream_offset
                ));
            }
        }
        let name = &b[NAME];
        let end = name.iter().position(|&c| c == 0).unwrap_or(name.len());
        let Ok(name) = std::str::from_utf8(&name[..end]) else {
            return bad("has a name that is not UTF-8".into());
        };
        Ok(Some(Label {
            kind,
            cartridge: Id(field(b, 16)),
            part,
            time: u64::from_le_bytes(field(b, 64)),
            name: name.into(),
        }))
    }
}

fn field<const N: usize>(b: &[u8; LABEL_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|i| b[at + i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arb() -> impl Strategy<Value = Label> {
        let part = (
            any::<[u8; 16]>(),
            1u32..,
            1u32..=4096,
            any::<u32>(),
            prop::option::of(prop::array::uniform16(1u8..)),
        )
            .prop_map(|(set, sequence, t, n, previous)| SetPart {
                set: Id(set),
                sequence,
                block_bytes: t * 4096,
                stream_offset: u64::from(n) * u64::from(t) * 4096,
                previous: previous.map(Id),
            });
        (
            any::<bool>(),
            any::<[u8; 16]>(),
            prop::option::of(part),
            any::<u64>(),
            "[ -~]{0,32}",
        )
            .prop_map(|(trailer, id, part, time, name)| Label {
                kind: match trailer {
                    true => LabelKind::Trailer,
                    false => LabelKind::Label,
                },
                cartridge: Id(id),
                part,
                time,
                name,
            })
    }

    proptest! {
        #[test]
        fn round_trip(l in arb()) {
            let b = l.encode().unwrap();
            prop_assert_eq!(Label::decode(&b).unwrap(), Some(l));
        }

        #[test]
        fn every_flipped_bit_is_seen(l in arb(), bit in 0..LABEL_BYTES * 8) {
            let mut b = l.encode().unwrap();
            b[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!matches!(Label::decode(&b), Ok(Some(_))));
        }

        #[test]
        fn any_bytes_are_refused_or_read(mut b in prop::collection::vec(any::<u8>(), 0..5000), fix in any::<bool>()) {
            if fix && b.len() >= 8 {
                b[..8].copy_from_slice(MAGIC);
            }
            let _ = Label::decode(&b);
        }
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        let mut l = Label {
            kind: LabelKind::Label,
            cartridge: Id([1; 16]),
            part: None,
            time: 0,
            name: "x".repeat(33),
        };
        assert!(l.encode().is_err());
        l.name = "a\0b".into();
        assert!(l.encode().is_err());
        assert!(Label::decode(b"something else").unwrap().is_none());
        assert_eq!("00".repeat(16).parse::<Id>().unwrap(), Id([0; 16]));
        assert!("0g".repeat(16).parse::<Id>().is_err());
    }
}
