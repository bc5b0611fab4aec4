//! Values on the command line: sizes, numbers of partitions, lists.

use crate::ops::image::{HashKind, Skip};
use crate::units::parse_size;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A sector size: a power of two from 512 to 65536, `4K` too.
pub fn sector_size(text: &str) -> Result<u32, String> {
    parse_size(text)
        .and_then(|n| u32::try_from(n).ok())
        .filter(|n| n.is_power_of_two() && (512..=65536).contains(n))
        .ok_or_else(|| "expected a power of two from 512 to 65536".into())
}

/// A number of threads.
pub fn threads(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|n| (1..=1024).contains(n))
        .ok_or_else(|| "expected a number from 1 to 1024".into())
}

/// A file to leave out.
pub fn skip(text: &str) -> Result<Skip, String> {
    Skip::parse(text).ok_or_else(|| "expected pagefile, hiberfil, swapfile or vss".into())
}

/// A digest.
pub fn hash(text: &str) -> Result<HashKind, String> {
    HashKind::parse(text).ok_or_else(|| "expected sha256 or md5".into())
}

/// The number of a partition, `2` or `p2`.
pub fn partition(text: &str) -> Result<u16, String> {
    text.strip_prefix('p')
        .unwrap_or(text)
        .parse()
        .ok()
        .filter(|&n| n != 0 && n != u16::MAX)
        .ok_or_else(|| "expected the number of a partition, such as 2".into())
}

/// A number of bytes: `4096`, `64K`, `1.5G`.
pub fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "expected a size, such as 4096, 64K or 1.5G".into())
}

/// A path from the root, as far as its directories exist.
pub fn absolute(path: &Path) -> PathBuf {
    if let Ok(full) = path.canonicalize() {
        return full;
    }
    match (parent(path).canonicalize(), path.file_name()) {
        (Ok(dir), Some(name)) => dir.join(name),
        _ => std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()),
    }
}

/// True for a path in `/dev` itself, where device nodes are. Another file
/// system that is mounted below, such as `/dev/shm`, is a place for files.
pub fn is_for_devices(path: &Path) -> bool {
    let dir = parent(path);
    let full = absolute(dir);
    let on = |p: &Path| std::fs::metadata(p).ok().map(|m| m.dev());
    full.starts_with("/dev") && (on(dir).is_none() || on(dir) == on(Path::new("/dev")))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(d) if !d.as_os_str().is_empty() => d,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_devices_is_known() {
        for path in ["/dev/nothing", "/dev/null", "/dev/none/x", "/dev/../dev/x"] {
            assert!(is_for_devices(Path::new(path)), "{path}");
        }
        assert!(!is_for_devices(Path::new("x")) && !is_for_devices(Path::new("/tmp/dev/x")));
        assert_eq!(
            absolute(Path::new("/tmp/../tmp/x")),
            absolute(Path::new("/tmp/x"))
        );
    }

    #[test]
    fn values_are_read_or_refused() {
        assert_eq!(sector_size("4K"), Ok(4096));
        assert!(sector_size("1000").is_err() && sector_size("128K").is_err());
        assert_eq!(partition("p2"), Ok(2));
        assert!(partition("0").is_err() && partition("x").is_err());
        assert_eq!(threads("8"), Ok(8));
        assert!(threads("0").is_err());
        assert_eq!(skip("vss"), Ok(Skip::Vss));
        assert!(skip("all").is_err() && hash("sha1").is_err());
    }
}

/// Who moves the data between disk and tape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum MoverChoice {
    /// The copy manager if there is one that can, else this machine
    #[default]
    Auto,
    /// The copy manager, or nobody
    CopyManager,
    /// This machine
    Host,
}

/// Bytes of a tape block.
pub fn block(text: &str) -> Result<u32, String> {
    let n = size(text)?;
    u32::try_from(n)
        .ok()
        .filter(|n| *n > 0 && n.is_multiple_of(4096) && *n <= crate::tape::MAX_BLOCK)
        .ok_or_else(|| {
            format!(
                "expected a multiple of 4096 up to {}",
                crate::tape::MAX_BLOCK
            )
        })
}
