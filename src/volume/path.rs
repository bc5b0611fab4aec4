//! Paths as people write them: `pN:/dir/file:stream:$TYPE`.
//!
//! `/` separates; the escapes of [`super::names::Escaped`] are understood, so
//! a path that was printed can be given back. `pN:` names a partition. Behind
//! the file come the name of an attribute (empty for the unnamed one) and its
//! type, `$DATA` when it is left out: `/f:ads`, `/f::$REPARSE_POINT`.

use super::attr;
use super::names::{to_utf16, unescape};
use crate::error::{Error, Result};

/// A path, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumePath {
    /// The partition it names, from 1 on.
    pub partition: Option<u32>,
    /// The names on the way, WTF-8.
    pub names: Vec<Vec<u8>>,
    /// The other reading of the last name when it has a colon: a file (an
    /// empty name means the directory before) and an attribute of it.
    pub stream: Option<(Vec<u8>, StreamName)>,
}

/// An attribute of a file: its type and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamName {
    /// Type code; 0x80 for a stream.
    pub type_code: u32,
    /// Name, WTF-8; empty for the unnamed one.
    pub name: Vec<u8>,
}

impl VolumePath {
    /// Takes a path apart. The bytes are WTF-8, as
    /// [`std::ffi::OsStr::as_encoded_bytes`] gives them.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let (partition, rest) = split_partition(text);
        let mut names = Vec::new();
        let mut stream = None;
        for part in rest.split(|&b| b == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => {
                    names.pop();
                    stream = None;
                }
                _ => {
                    names.push(unescape(part));
                    stream = split_stream(part);
                }
            }
        }
        if let Some(bad) = names.iter().find(|n| to_utf16(n).is_none()) {
            let shown = super::names::Escaped(bad);
            return Err(
                Error::usage(format!("`{shown}` is not a name that NTFS could hold"))
                    .hint("Names are UTF-8 here"),
            );
        }
        Ok(Self {
            partition,
            names,
            stream,
        })
    }
}

/// `p2:/dir` gives partition 2 and `/dir`; without a partition all is path.
fn split_partition(text: &[u8]) -> (Option<u32>, &[u8]) {
    let split = || {
        let rest = text.strip_prefix(b"p")?;
        let n = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let tail = rest[n..].strip_prefix(b":")?;
        let number = std::str::from_utf8(&rest[..n]).ok()?.parse().ok()?;
        (number > 0 && (tail.is_empty() || tail[0] == b'/')).then_some((number, tail))
    };
    match split() {
        Some((n, tail)) => (Some(n), tail),
        None => (None, text),
    }
}

/// Splits `file:stream:$TYPE`. `None` when there is no colon or the type is
/// not one.
fn split_stream(name: &[u8]) -> Option<(Vec<u8>, StreamName)> {
    let colon = name.iter().position(|&b| b == b':')?;
    let (file, rest) = (&name[..colon], &name[colon + 1..]);
    let (stream, type_code) = match rest.iter().rposition(|&b| b == b':') {
        None => (rest, attr::DATA),
        Some(i) => (&rest[..i], type_code(&rest[i + 1..])?),
    };
    let stream = StreamName {
        type_code,
        name: unescape(stream),
    };
    Some((unescape(file), stream))
}

/// The code of `$DATA` and the like; also `0x80`.
fn type_code(name: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(name).ok()?;
    if let Some(hex) = text.strip_prefix("0x") {
        return u32::from_str_radix(hex, 16).ok();
    }
    (1..=16u32)
        .map(|i| i * 0x10)
        .find(|&c| attr::type_name(c).is_some_and(|n| n.eq_ignore_ascii_case(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn takes_paths_apart() {
        let p = |t: &str| VolumePath::parse(t.as_bytes()).unwrap();
        let names = |t: &str| {
            let n = p(t).names.into_iter();
            n.map(|n| String::from_utf8(n).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(p("p12:/a").partition, Some(12));
        assert_eq!(p("p0:/a").partition, None);
        assert_eq!(p("p1:x/a").partition, None);
        assert_eq!(
            p("p2:"),
            VolumePath {
                partition: Some(2),
                names: vec![],
                stream: None,
            }
        );
        assert_eq!(names("//a/./b/../c/"), ["a", "c"]);
        assert_eq!(names(r"/a\u{a}b"), ["a\nb"]);
        assert!(VolumePath::parse(b"/\xff").is_err());
    }

    #[test]
    fn takes_streams_off() {
        let s = |t: &'static str| {
            split_stream(t.as_bytes()).map(|(f, s)| {
                let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
                (text(&f), text(&s.name), s.type_code)
            })
        };
        let is = |a: &str, b: &str, c| Some((a.to_owned(), b.to_owned(), c));
        assert_eq!(s("f:x"), is("f", "x", 0x80));
        assert_eq!(s("f::$REPARSE_POINT"), is("f", "", 0xc0));
        assert_eq!(
            s(":$TXF_DATA:$LOGGED_UTILITY_STREAM"),
            is("", "$TXF_DATA", 0x100)
        );
        assert_eq!(s("f:x:$data"), is("f", "x", 0x80));
        assert_eq!(s("f:x:$NONE"), None);
        assert_eq!(s("plain"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = (VolumePath::parse(&bytes), split_stream(&bytes));
        }
    }
}
