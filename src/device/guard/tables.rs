//! `/proc/self/mountinfo` and `/proc/swaps` as values.

use std::path::PathBuf;

/// One mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Major and minor number of the file system's device; major 0 where it
    /// has none of its own (btrfs, overlay, network, memory).
    pub device: (u32, u32),
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Type of the file system.
    pub fs_type: String,
    /// What was mounted: a device path, an image path, or only a word.
    pub source: String,
    /// True when the file system itself (not only this mount of it) may write.
    pub writable: bool,
}

/// Reads the text of `mountinfo`; lines of another form are left out.
///
/// Form: `36 35 98:0 /root /mnt/point rw,noatime master:1 - ext3 /dev/root rw`,
/// with any number of optional fields before the dash.
pub fn parse_mountinfo(text: &str) -> Vec<Mount> {
    text.lines().filter_map(mount_line).collect()
}

fn mount_line(line: &str) -> Option<Mount> {
    let mut f = line.split(' ');
    let _id = f.next()?;
    let _parent = f.next()?;
    let (major, minor) = f.next()?.split_once(':')?;
    let _root = f.next()?;
    let mount_point = PathBuf::from(unescape(f.next()?));
    let _mount_options = f.next()?;
    let mut f = f.skip_while(|w| *w != "-").skip(1);
    let fs_type = f.next()?.to_owned();
    let source = unescape(f.next()?);
    // A read-only mount of a writable file system does not keep others from
    // writing, so only the file system's own option counts.
    let writable = !f.next()?.split(',').any(|o| o == "ro");
    Some(Mount {
        device: (major.parse().ok()?, minor.parse().ok()?),
        mount_point,
        fs_type,
        source,
        writable,
    })
}

/// Reads the text of `/proc/swaps`: the paths in its first column.
pub fn parse_swaps(text: &str) -> Vec<PathBuf> {
    text.lines()
        .skip(1)
        .filter_map(|l| l.split_ascii_whitespace().next())
        .map(|p| PathBuf::from(unescape(p)))
        .collect()
}

/// `\040` and its like back to bytes.
fn unescape(word: &str) -> String {
    let b = word.as_bytes();
    let mut out = Vec::with_capacity(b.len());
    let mut i = 0;
    while i < b.len() {
        let octal = b
            .get(i + 1..i + 4)
            .filter(|d| b[i] == b'\\' && d.iter().all(|c| (b'0'..=b'7').contains(c)));
        match octal {
            Some(d) => {
                let v = d.iter().fold(0u32, |v, c| v * 8 + u32::from(c - b'0'));
                out.push(v as u8);
                i += 4;
            }
            None => {
                out.push(b[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mount_lines_of_every_form() {
        let m = parse_mountinfo(concat!(
            "22 27 0:21 / /proc rw,relatime - proc proc rw\n",
            "27 1 8:2 / / rw,relatime shared:1 master:2 - ext4 /dev/sda2 rw,discard\n",
            "30 27 8:17 / /mnt/a\\040b ro,relatime shared:9 - fuseblk /dev/sdb1 rw,user_id=0\n",
            "31 27 8:33 / /mnt/c ro - ext4 /dev/sdc1 ro\n",
            "garbage\n1 2 x:y / / rw - a b rw\n1 2 8:1 / /x rw\n",
        ));
        assert_eq!(m.len(), 4);
        assert_eq!(m[1].device, (8, 2));
        assert_eq!(m[2].mount_point, PathBuf::from("/mnt/a b"));
        assert_eq!(m[2].source, "/dev/sdb1");
        assert!(m[2].writable, "only this mount is read-only");
        assert!(!m[3].writable);
    }

    #[test]
    fn swap_lines() {
        let s = parse_swaps(
            "Filename\tType\tSize\tUsed\tPriority\n/dev/sda3 partition 1 0 -2\n/swap\\040file file 1 0 -3\n",
        );
        assert_eq!(s, [PathBuf::from("/dev/sda3"), PathBuf::from("/swap file")]);
        assert!(parse_swaps("").is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(?s).{0,300}", octal in "[\\\\0-9 :/-]{0,200}") {
            for t in [text, octal] {
                let _ = parse_mountinfo(&t);
                let _ = parse_swaps(&t);
            }
        }
    }
}
