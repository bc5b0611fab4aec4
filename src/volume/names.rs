//! Names. NTFS keeps them as UTF-16 that nobody checks; here they are WTF-8
//! (UTF-8 in which a lone surrogate takes the three bytes it would have), so
//! that every name survives both ways. [`Escaped`] is the form for people:
//! one line, no control characters, and [`unescape`] reads it back.

use super::times::Times;
use crate::units::FileRef;
use std::fmt;

/// Appends UTF-16 (little-endian bytes; an odd last byte is left out) as WTF-8.
#[inline]
pub fn push_wtf8(utf16: &[u8], out: &mut Vec<u8>) {
    let units = utf16.as_chunks::<2>().0;
    out.reserve(units.len());
    let ascii = units
        .iter()
        .take_while(|u| u[1] == 0 && u[0] < 0x80)
        .count();
    out.extend(units[..ascii].iter().map(|u| u[0]));
    if ascii < units.len() {
        push_wide(&units[ascii..], out);
    }
}

#[inline(never)]
fn push_wide(units: &[[u8; 2]], out: &mut Vec<u8>) {
    for c in char::decode_utf16(units.iter().map(|&u| u16::from_le_bytes(u))) {
        match c {
            Ok(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(e) => {
                let u = e.unpaired_surrogate();
                out.extend_from_slice(&[
                    0xe0 | (u >> 12) as u8,
                    0x80 | (u >> 6 & 0x3f) as u8,
                    0x80 | (u & 0x3f) as u8,
                ]);
            }
        }
    }
}

/// UTF-16 (little-endian bytes) as WTF-8.
pub fn wtf8(utf16: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    push_wtf8(utf16, &mut out);
    out
}

/// The next code point of WTF-8 and how many bytes it takes; `None` at the
/// end or where the bytes are not WTF-8.
fn next_point(bytes: &[u8]) -> Option<(u32, usize)> {
    let first = *bytes.first()?;
    let tail = |n: usize| -> Option<u32> {
        let mut v = 0;
        for &b in bytes.get(1..=n)? {
            if b & 0xc0 != 0x80 {
                return None;
            }
            v = v << 6 | u32::from(b & 0x3f);
        }
        Some(v)
    };
    let first32 = u32::from(first);
    let (v, n, least) = match first {
        0..=0x7f => (first32, 1, 0),
        0xc2..=0xdf => ((first32 & 0x1f) << 6 | tail(1)?, 2, 0x80),
        0xe0..=0xef => ((first32 & 0x0f) << 12 | tail(2)?, 3, 0x800),
        0xf0..=0xf4 => ((first32 & 0x07) << 18 | tail(3)?, 4, 0x1_0000),
        _ => return None,
    };
    (v >= least && v <= 0x10_ffff).then_some((v, n))
}

/// WTF-8 as UTF-16 units; `None` when the bytes are not WTF-8.
pub fn to_utf16(wtf8: &[u8]) -> Option<Vec<u16>> {
    let mut out = Vec::with_capacity(wtf8.len());
    let mut at = 0;
    while at < wtf8.len() {
        let (v, n) = next_point(&wtf8[at..])?;
        match u16::try_from(v) {
            Ok(u) => out.push(u),
            Err(_) => out.extend_from_slice(char::from_u32(v)?.encode_utf16(&mut [0; 2])),
        }
        at += n;
    }
    Some(out)
}

/// Shows WTF-8 bytes so that one name is one line and nothing in it steers a
/// terminal: `\n`, `\r`, `\t`, `\\`; other ASCII control characters and bytes
/// that are no WTF-8 as `\x..`; line and direction marks and lone surrogates
/// as `\u{…}`.
pub struct Escaped<'a>(pub &'a [u8]);

fn must_escape(v: u32) -> bool {
    matches!(v,
        0..=0x1f | 0x5c | 0x7f..=0x9f | 0x61c | 0x200e | 0x200f | 0x2028..=0x202e
        | 0x2066..=0x2069 | 0xd800..=0xdfff | 0xfeff)
}

/// True when [`Escaped`] would change nothing.
#[inline]
pub fn is_plain(wtf8: &[u8]) -> bool {
    let quick = |b: u8| (0x20..0x7f).contains(&b) && b != b'\\';
    wtf8.iter().all(|&b| quick(b)) || is_plain_slow(wtf8)
}

#[inline(never)]
fn is_plain_slow(bytes: &[u8]) -> bool {
    let mut at = 0;
    while at < bytes.len() {
        match next_point(&bytes[at..]) {
            Some((v, n)) if !must_escape(v) => at += n,
            _ => return false,
        }
    }
    true
}

/// Appends the form of [`Escaped`].
#[inline]
pub fn push_escaped(wtf8: &[u8], out: &mut Vec<u8>) {
    if is_plain(wtf8) {
        out.extend_from_slice(wtf8);
    } else {
        out.extend_from_slice(Escaped(wtf8).to_string().as_bytes());
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        let mut at = 0;
        while at < self.0.len() {
            match next_point(&self.0[at..]) {
                Some((v, n)) => {
                    match (v, char::from_u32(v)) {
                        (_, Some(c)) if !must_escape(v) => f.write_char(c)?,
                        (0x5c, _) => f.write_str("\\\\")?,
                        (0x0a, _) => f.write_str("\\n")?,
                        (0x0d, _) => f.write_str("\\r")?,
                        (0x09, _) => f.write_str("\\t")?,
                        (0..0x80, _) => write!(f, "\\x{v:02x}")?,
                        _ => write!(f, "\\u{{{v:x}}}")?,
                    }
                    at += n;
                }
                None => {
                    write!(f, "\\x{:02x}", self.0[at])?;
                    at += 1;
                }
            }
        }
        Ok(())
    }
}

/// Appends names on a path: as [`push_escaped`], and a colon as `\x3a`, since a
/// plain colon begins a stream.
#[inline]
pub fn push_escaped_path(wtf8: &[u8], out: &mut Vec<u8>) {
    let mut parts = wtf8.split(|&b| b == b':');
    push_escaped(parts.next().unwrap_or_default(), out);
    for part in parts {
        out.extend_from_slice(b"\\x3a");
        push_escaped(part, out);
    }
}

/// Reads the form of [`Escaped`] back. A `\` that begins none of its escapes
/// stands for itself.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&b, tail)) = rest.split_first() {
        match (b == b'\\').then(|| escape_at(tail, &mut out)).flatten() {
            Some(used) => rest = &tail[used..],
            None => {
                out.push(b);
                rest = tail;
            }
        }
    }
    out
}

/// Decodes what follows a backslash; how many bytes it took.
fn escape_at(tail: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    match tail {
        [b'\\', ..] => {
            out.push(b'\\');
            Some(1)
        }
        [b'n', ..] => {
            out.push(b'\n');
            Some(1)
        }
        [b'r', ..] => {
            out.push(b'\r');
            Some(1)
        }
        [b't', ..] => {
            out.push(b'\t');
            Some(1)
        }
        [b'x', hex @ ..] => {
            out.push(u8::try_from(hex_value(hex.get(..2)?)?).ok()?);
            Some(3)
        }
        [b'u', b'{', hex @ ..] => {
            let n = hex.iter().take(7).position(|&b| b == b'}')?;
            let v = hex_value(&hex[..n])?;
            match u16::try_from(v) {
                Ok(u) => push_wtf8(&u.to_le_bytes(), out),
                Err(_) => {
                    let c = char::from_u32(v)?;
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
            Some(n + 3)
        }
        _ => None,
    }
}

fn hex_value(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits
        .iter()
        .try_fold(0u32, |v, &b| Some(v << 4 | char::from(b).to_digit(16)?))
}

/// In which name space a `$FILE_NAME` lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Any character but NUL and `/`; case matters.
    Posix,
    /// A long name of Windows.
    Win32,
    /// The short 8.3 name beside a [`Space::Win32`] one: not a link of its own.
    Dos,
    /// A long name that is its own short name.
    Win32AndDos,
}

/// A `$FILE_NAME` attribute, as records and directory indexes hold it.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 8 | reference of the parent directory |
/// | 8 | 32 | four times |
/// | 40 | 8 | allocated size, bytes |
/// | 48 | 8 | size, bytes |
/// | 56 | 4 | attribute flags |
/// | 60 | 4 | size of `$EA`, or reparse tag |
/// | 64 | 1 | length of the name, UTF-16 units |
/// | 65 | 1 | name space |
/// | 66 | n | name |
#[derive(Clone, Copy, Debug)]
pub struct FileName<'a> {
    /// The directory the name stands in.
    pub parent: FileRef,
    /// Times; in a file record often old.
    pub times: Times,
    /// Allocated bytes; in a file record often old.
    pub allocated: u64,
    /// Size in bytes; in a file record often old.
    pub size: u64,
    /// Attribute flags (`FILE_ATTRIBUTE_…`, and bit 28 for a directory).
    pub flags: u32,
    /// The reparse tag, when the flags say it is a reparse point.
    pub tag: u32,
    /// Its name space.
    pub space: Space,
    /// The name, UTF-16 little-endian bytes.
    pub name: &'a [u8],
}

impl<'a> FileName<'a> {
    /// From the attribute's value; `None` when it is too short or its name
    /// space does not exist.
    pub fn parse(value: &'a [u8]) -> Option<FileName<'a>> {
        let head = value.first_chunk::<66>()?;
        let u64_at = |i: usize| u64::from_le_bytes(head[i..i + 8].try_into().unwrap_or_default());
        let u32_at = |i: usize| u32::from_le_bytes(head[i..i + 4].try_into().unwrap_or_default());
        Some(FileName {
            parent: FileRef::from_raw(u64_at(0)),
            times: Times::parse(&head[8..40])?,
            allocated: u64_at(40),
            size: u64_at(48),
            flags: u32_at(56),
            tag: u32_at(60),
            space: match head[65] {
                0 => Space::Posix,
                1 => Space::Win32,
                2 => Space::Dos,
                3 => Space::Win32AndDos,
                _ => return None,
            },
            name: value.get(66..66 + 2 * usize::from(head[64]))?,
        })
    }

    /// The name as WTF-8.
    pub fn wtf8(&self) -> Vec<u8> {
        wtf8(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_what_would_break_a_line() {
        let shown = |b: &[u8]| Escaped(b).to_string();
        assert_eq!(shown("Bücher.txt".as_bytes()), "Bücher.txt");
        assert_eq!(shown(b"a\nb\x1b[31m\\"), r"a\nb\x1b[31m\\");
        assert_eq!(shown("a\u{202e}txt".as_bytes()), r"a\u{202e}txt");
        assert_eq!(shown(b"\xff\xc0\xaf"), r"\xff\xc0\xaf");
        assert_eq!(shown(&wtf8(&[0x3d, 0xd8, b'x', 0])), r"\u{d83d}x");
        assert_eq!(unescape(br"C:\dir\x"), br"C:\dir\x");
        let mut out = Vec::new();
        push_escaped_path(b"/a:b", &mut out);
        assert_eq!(out, br"/a\x3ab");
        assert!(is_plain("Bücher".as_bytes()) && !is_plain(b"a\tb"));
    }

    proptest! {
        #[test]
        fn every_name_survives(units in prop::collection::vec(prop_oneof![
            any::<u16>(), 0u16..0x80, 0xd7f0u16..0xe010], 0..40)) {
            let bytes: Vec<u8> = units.iter().flat_map(|u| u.to_le_bytes()).collect();
            let name = wtf8(&bytes);
            prop_assert_eq!(to_utf16(&name), Some(units));
            let mut shown = Vec::new();
            push_escaped(&name, &mut shown);
            prop_assert!(std::str::from_utf8(&shown).is_ok());
            prop_assert!(!shown.iter().any(|&b| b < 0x20));
            prop_assert_eq!(is_plain(&name), shown == name);
            prop_assert_eq!(unescape(&shown), name);
        }

        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = (to_utf16(&bytes), Escaped(&bytes).to_string(), is_plain(&bytes));
            let _ = (unescape(&bytes), FileName::parse(&bytes));
            let mut shown = Vec::new();
            push_escaped(&bytes, &mut shown);
            prop_assert_eq!(unescape(&shown), bytes);
        }
    }
}
