//! Reparse points: what stands at a name instead of a plain file.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | tag |
//! | 4 | 2 | length of the data |
//! | 6 | 2 | reserved |
//! | 8 | 16 | owner's GUID, only when bit 31 of the tag is clear |
//! | 8 or 24 | n | data |

use super::names::push_wtf8;

/// Junctions and volume mount points.
pub const MOUNT_POINT: u32 = 0xa000_0003;
/// Symbolic links of Windows.
pub const SYMLINK: u32 = 0xa000_000c;
/// Symbolic links of the Windows Subsystem for Linux.
pub const LX_SYMLINK: u32 = 0xa000_001d;
/// Files compressed by the Windows overlay filter.
pub const WOF: u32 = 0x8000_0017;
/// Links of store applications.
pub const APP_EXEC_LINK: u32 = 0x8000_001b;
/// Deduplicated files.
pub const DEDUP: u32 = 0x8000_0013;

/// What a reparse point says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reparse {
    /// Whose it is.
    pub tag: u32,
    /// What it means.
    pub target: Target,
}

/// The decoded data of a reparse point. Text is WTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A junction or mount point: substitute name and print name.
    Junction {
        /// The path the system follows, such as `\??\C:\dir`.
        substitute: Vec<u8>,
        /// The path people are shown; may be empty.
        print: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// The path the system follows.
        substitute: Vec<u8>,
        /// The path people are shown; may be empty.
        print: Vec<u8>,
        /// The path starts at the link's own directory.
        relative: bool,
    },
    /// A symbolic link of the Windows Subsystem for Linux: bytes, UTF-8 as a rule.
    LxSymlink(Vec<u8>),
    /// The content is packed in the stream `WofCompressedData`.
    Wof {
        /// 1: a WIM image, 2: a single file.
        provider: u32,
        /// For a single file 0: XPRESS4K, 1: LZX, 2: XPRESS8K, 3: XPRESS16K.
        algorithm: u32,
    },
    /// A store application's command: package, entry point, program, type.
    AppExecLink(Vec<Vec<u8>>),
    /// A socket, FIFO or device of the Windows Subsystem for Linux.
    Special,
    /// Known by its tag only.
    Opaque,
    /// The data breaks the rules of its tag.
    Damaged,
}

impl Reparse {
    /// Decodes the value of a `$REPARSE_POINT` attribute. `None` when there
    /// is not even a tag.
    pub fn parse(value: &[u8]) -> Option<Reparse> {
        let tag = u32::from_le_bytes(value.get(..4)?.try_into().ok()?);
        let len = value.get(4..6).map_or(0, |b| u16_at(b, 0));
        let body = if tag & 0x8000_0000 != 0 { 8 } else { 24 };
        let data = value.get(body..).unwrap_or_default();
        let target = match data.get(..len) {
            None => Target::Damaged,
            Some(data) => decode(tag, data).unwrap_or(Target::Damaged),
        };
        Some(Reparse { tag, target })
    }

    /// A short word for the tag, or `None` for one without a known name.
    pub fn tag_name(&self) -> Option<&'static str> {
        tag_name(self.tag)
    }

    /// Where it leads, as a path for people: the print name, else the
    /// substitute name without its `\??\`.
    pub fn path(&self) -> Option<&[u8]> {
        match &self.target {
            Target::Junction { substitute, print }
            | Target::Symlink {
                substitute, print, ..
            } => Some(if print.is_empty() {
                substitute
                    .strip_prefix(br"\??\")
                    .unwrap_or(substitute.as_slice())
            } else {
                print
            }),
            Target::LxSymlink(path) => Some(path),
            Target::AppExecLink(parts) => parts.get(2).map(Vec::as_slice),
            _ => None,
        }
    }
}

/// A short word for a tag.
pub fn tag_name(tag: u32) -> Option<&'static str> {
    // Cloud files come as a family of sixteen tags: 0x9000_X01a.
    if tag & 0xffff_0fff == 0x9000_001a {
        return Some("cloud");
    }
    if tag & 0xffff_0fff == 0x9000_0018 {
        return Some("wci");
    }
    Some(match tag {
        MOUNT_POINT => "junction",
        SYMLINK => "symlink",
        LX_SYMLINK => "lx-symlink",
        WOF => "wof",
        DEDUP => "dedup",
        APP_EXEC_LINK => "app-exec-link",
        0x8000_0005 => "drive-extender",
        0xc000_0004 => "hsm",
        0x8000_0006 => "hsm2",
        0x8000_0007 => "sis",
        0x8000_0008 => "wim",
        0x8000_0009 => "csv",
        0x8000_000a => "dfs",
        0x8000_0012 => "dfsr",
        0x8000_0014 => "nfs",
        0x8000_0015 => "file-placeholder",
        0x8000_0016 => "dfm",
        0xa000_0019 => "global-reparse",
        0xa000_001f => "wci-tombstone",
        0x8000_0020 => "unhandled",
        0x8000_0021 => "onedrive",
        0x8000_001e => "storage-sync",
        0x9000_001c => "projfs",
        0xa000_0022 => "projfs-tombstone",
        0x8000_0023 => "af-unix",
        0x8000_0024 => "lx-fifo",
        0x8000_0025 => "lx-chr",
        0x8000_0026 => "lx-blk",
        0xa000_0027 => "wci-link",
        _ => return None,
    })
}

fn decode(tag: u32, d: &[u8]) -> Option<Target> {
    Some(match tag {
        MOUNT_POINT => Target::Junction {
            substitute: text(d, 8, 0)?,
            print: text(d, 8, 4)?,
        },
        SYMLINK => Target::Symlink {
            substitute: text(d, 12, 0)?,
            print: text(d, 12, 4)?,
            relative: u32_at(d, 8)? & 1 != 0,
        },
        LX_SYMLINK => Target::LxSymlink(d.get(4..)?.to_vec()),
        WOF => {
            let provider = u32_at(d, 4)?;
            Target::Wof {
                provider,
                algorithm: if provider == 2 { u32_at(d, 12)? } else { 0 },
            }
        }
        APP_EXEC_LINK => {
            let units = d.get(4..)?.as_chunks::<2>().0;
            let parts = units.split(|u| *u == [0, 0]).take(8);
            let parts = parts.map(|u| {
                let mut out = Vec::new();
                push_wtf8(u.as_flattened(), &mut out);
                out
            });
            Target::AppExecLink(parts.filter(|p| !p.is_empty()).collect())
        }
        0x8000_0023..=0x8000_0026 => Target::Special,
        _ => Target::Opaque,
    })
}

/// The name whose offset and length stand at `field`, in the text that
/// begins at `base`.
fn text(d: &[u8], base: usize, field: usize) -> Option<Vec<u8>> {
    if d.len() < base {
        return None;
    }
    let from = base + u16_at(d, field);
    let bytes = d.get(from..from + u16_at(d, field + 2))?;
    let mut out = Vec::with_capacity(bytes.len());
    push_wtf8(bytes, &mut out);
    Some(out)
}

fn u16_at(d: &[u8], at: usize) -> usize {
    d.get(at..at + 2)
        .map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]])))
}

fn u32_at(d: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(d.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wide(s: &str) -> Vec<u8> {
        s.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    fn point(tag: u32, data: &[u8]) -> Vec<u8> {
        let mut v = tag.to_le_bytes().to_vec();
        v.extend((data.len() as u32).to_le_bytes());
        v.extend(data);
        v
    }

    #[test]
    fn a_junction_and_a_symlink() {
        let (sub, print) = (wide(r"\??\C:\a"), wide(r"C:\a"));
        let mut d = Vec::new();
        for n in [0, sub.len(), sub.len(), print.len()] {
            d.extend((n as u16).to_le_bytes());
        }
        let mut sym = d.clone();
        sym.extend(1u32.to_le_bytes());
        for v in [&mut d, &mut sym] {
            v.extend(&sub);
            v.extend(&print);
        }
        let r = Reparse::parse(&point(MOUNT_POINT, &d)).unwrap();
        assert_eq!(r.path(), Some(&br"C:\a"[..]));
        assert_eq!(r.tag_name(), Some("junction"));
        let r = Reparse::parse(&point(SYMLINK, &sym)).unwrap();
        assert!(matches!(&r.target, Target::Symlink { relative: true, .. }));
        assert_eq!(r.path(), Some(&br"C:\a"[..]));
    }

    #[test]
    fn the_others() {
        let r = Reparse::parse(&point(LX_SYMLINK, b"\x02\0\0\0../x")).unwrap();
        assert_eq!(r.path(), Some(&b"../x"[..]));
        let d = wide("\u{3}\0pkg\0entry\0C:\\p.exe\0");
        let r = Reparse::parse(&point(APP_EXEC_LINK, &d)).unwrap();
        assert_eq!(r.path(), Some(&br"C:\p.exe"[..]));
        assert_eq!(tag_name(0x9000_701a), Some("cloud"));
        assert_eq!(
            Reparse::parse(&point(0x1234, &[0; 30])).unwrap().tag_name(),
            None
        );
        let cut = &point(MOUNT_POINT, &[0; 8])[..10];
        assert_eq!(Reparse::parse(cut).unwrap().target, Target::Damaged);
        assert_eq!(Reparse::parse(&[1, 2]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(tag in prop_oneof![
            Just(MOUNT_POINT), Just(SYMLINK), Just(WOF), Just(APP_EXEC_LINK), any::<u32>()],
            data in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..80)) {
            if let Some(r) = Reparse::parse(&point(tag, &data)) {
                let _ = (r.path(), r.tag_name());
            }
            let _ = Reparse::parse(&data);
        }
    }
}
