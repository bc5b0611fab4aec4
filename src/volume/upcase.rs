//! `$UpCase`: the volume's own table of upper-case letters, 65,536 UTF-16
//! units. It decides which names are the same and how directories are sorted.

use super::names;
use std::cmp::Ordering;
use std::sync::{Arc, OnceLock};

/// Bytes of the table on disk.
pub const TABLE_BYTES: usize = 131_072;

/// The upper-case letter of every UTF-16 unit.
#[derive(Clone)]
pub struct UpCase(Arc<[u16]>);

impl UpCase {
    /// From the content of `$UpCase`. `None` when it has another size than
    /// 131,072 bytes or does not even know the basic Latin letters: then the
    /// caller says so and uses [`UpCase::standard`].
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != TABLE_BYTES {
            return None;
        }
        let units = bytes.as_chunks::<2>().0.iter();
        let table: Arc<[u16]> = units.map(|&u| u16::from_le_bytes(u)).collect();
        let sound = |c: u8| table[usize::from(c)] == u16::from(c.to_ascii_uppercase());
        (0..0x80).all(sound).then_some(Self(table))
    }

    /// The table Windows has written since Vista.
    pub fn standard() -> Self {
        static TABLE: OnceLock<UpCase> = OnceLock::new();
        TABLE
            .get_or_init(|| Self((0..=u16::MAX).map(standard_upper).collect()))
            .clone()
    }

    /// The upper-case letter of a UTF-16 unit.
    #[inline]
    pub fn upper(&self, unit: u16) -> u16 {
        self.0[usize::from(unit)]
    }

    /// Compares two names (UTF-16) as if in upper case.
    pub fn compare(
        &self,
        a: impl IntoIterator<Item = u16>,
        b: impl IntoIterator<Item = u16>,
    ) -> Ordering {
        let a = a.into_iter().map(|u| self.upper(u));
        a.cmp(b.into_iter().map(|u| self.upper(u)))
    }

    /// Compares two WTF-8 names in the order of directories: in upper case
    /// first, then as they are.
    pub fn compare_wtf8(&self, a: &[u8], b: &[u8]) -> Ordering {
        let same = a
            .iter()
            .zip(b)
            .take_while(|(x, y)| x == y && **x < 0x80)
            .count();
        let (ra, rb) = (&a[same..], &b[same..]);
        if ra.is_ascii() && rb.is_ascii() {
            let up = |s: &[u8]| {
                s.iter()
                    .map(|&c| c.to_ascii_uppercase())
                    .collect::<Vec<_>>()
            };
            let first = |s: &[u8]| s.first().map(|c| c.to_ascii_uppercase());
            return match first(ra).cmp(&first(rb)) {
                Ordering::Equal => up(ra).cmp(&up(rb)).then_with(|| ra.cmp(rb)),
                o => o,
            };
        }
        match (names::to_utf16(ra), names::to_utf16(rb)) {
            (Some(x), Some(y)) => self
                .compare(x.iter().copied(), y.iter().copied())
                .then_with(|| x.cmp(&y)),
            _ => ra.cmp(rb),
        }
    }

    /// The first four UTF-16 units of a WTF-8 name in upper case, as a number
    /// that sorts as [`UpCase::compare_wtf8`] does as far as it reaches.
    #[inline]
    pub fn sort_key(&self, name: &[u8]) -> u64 {
        let head = &name[..name.len().min(4)];
        if head.is_ascii() {
            let mut key = 0;
            for i in 0..4 {
                let c = head.get(i).map_or(0, |c| c.to_ascii_uppercase());
                key = key << 16 | u64::from(c);
            }
            return key;
        }
        let mut end = name.len().min(16);
        while end > 0 && end < name.len() && name[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        let units = names::to_utf16(&name[..end]).unwrap_or_default();
        (0..4).fold(0, |key, i| {
            key << 16 | u64::from(units.get(i).map_or(0, |&u| self.upper(u)))
        })
    }
}

/// Unicode's one-to-one upper case, without the letters that Windows leaves
/// alone: those with a foreign or older partner, and those that came later.
fn standard_upper(unit: u16) -> u16 {
    match unit {
        0x00b5
        | 0x0131
        | 0x017f
        | 0x01c5
        | 0x01c8
        | 0x01cb
        | 0x01f2
        | 0x019b
        | 0x023f..=0x0240
        | 0x0252
        | 0x025c
        | 0x0261
        | 0x0264..=0x0266
        | 0x026a
        | 0x026c
        | 0x0282
        | 0x0287
        | 0x029d..=0x029e
        | 0x0345
        | 0x03c2
        | 0x03d0..=0x03d1
        | 0x03d5..=0x03d6
        | 0x03f0..=0x03f1
        | 0x03f3
        | 0x03f5
        | 0x0525..=0x052f
        | 0x10d0..=0x10ff
        | 0x13f8..=0x13fd
        | 0x1c80..=0x1c8f
        | 0x1d8e
        | 0x1e9b
        | 0x1fbe
        | 0x2c5f
        | 0x2cec..=0x2cf3
        | 0x2d27..=0x2d2d
        | 0xa661
        | 0xa699..=0xa69b
        | 0xa78d..=0xabff => unit,
        0x1f80..=0x1f87 | 0x1f90..=0x1f97 | 0x1fa0..=0x1fa7 => unit + 8,
        0x1fb3 | 0x1fc3 | 0x1ff3 => unit + 9,
        _ => {
            let Some(c) = char::from_u32(u32::from(unit)) else {
                return unit;
            };
            let mut up = c.to_uppercase();
            match (up.next(), up.next()) {
                (Some(u), None) => u16::try_from(u32::from(u)).unwrap_or(unit),
                _ => unit,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(t: &UpCase) -> Vec<u8> {
        t.0.iter().flat_map(|u| u.to_le_bytes()).collect()
    }

    #[test]
    fn the_standard_table_is_the_one_of_windows() {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(bytes(&UpCase::standard()));
        let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        // `$UpCase` of every volume made since Vista.
        assert_eq!(
            hex,
            "41c26bc7a12bdaeb26025c93118697c7e3ef81ee048b00fe5cce2a472e0e0742"
        );
    }

    #[test]
    fn a_damaged_table_is_not_taken() {
        let good = bytes(&UpCase::standard());
        assert!(UpCase::parse(&good).is_some());
        assert!(UpCase::parse(&good[2..]).is_none());
        assert!(UpCase::parse(&vec![0; TABLE_BYTES]).is_none());
    }

    proptest! {
        #[test]
        fn the_short_cuts_agree_with_the_rule(a in "[a-cA-C_ä]{0,7}|.{0,6}", b in "[a-cA-C_Ä]{0,7}|.{0,6}") {
            let t = UpCase::standard();
            let rule = t.compare(a.encode_utf16(), b.encode_utf16())
                .then_with(|| a.encode_utf16().cmp(b.encode_utf16()));
            prop_assert_eq!(t.compare_wtf8(a.as_bytes(), b.as_bytes()), rule);
            let keys = t.sort_key(a.as_bytes()).cmp(&t.sort_key(b.as_bytes()));
            prop_assert!(keys == Ordering::Equal || keys == rule);
        }
    }
}
