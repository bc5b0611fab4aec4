//! From the path of a disk or tape to the node that takes command blocks.

use crate::error::{Error, Result};
use rustix::fs::{major, minor};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

const TAPE_MAJOR: u32 = 9;
const GENERIC_MAJOR: u32 = 21;
const CHANGER_MAJOR: u32 = 86;

/// What kind of node a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Block(u32, u32),
    Character(u32, u32),
    Other,
}

impl Kind {
    pub(super) fn of(path: &Path) -> Result<Self> {
        let name = || path.display().to_string();
        let meta = fs::metadata(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::not_found("There is no such device").of(name()),
            _ => Error::io("Cannot look at the device", e).of(name()),
        })?;
        let (kind, device) = (meta.file_type(), meta.rdev());
        Ok(match () {
            () if kind.is_block_device() => Kind::Block(major(device), minor(device)),
            () if kind.is_char_device() => Kind::Character(major(device), minor(device)),
            () => Kind::Other,
        })
    }
}

/// Where commands go, and what else the kernel has of the same unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Takes SG_IO.
    pub open: PathBuf,
    /// The disk, if the kernel has it as one.
    pub block: Option<PathBuf>,
    /// Its number at the target, as REPORT LUNS gives it.
    pub lun: Option<u64>,
}

/// Finds the node. `sys` is `/sys` and `dev` is `/dev`; a test gives its own.
pub(super) fn resolve(path: &Path, kind: Kind, sys: &Path, dev: &Path) -> Result<Node> {
    let name = path.display().to_string();
    let lun = match kind {
        Kind::Block(a, b) => lun(&sys.join(format!("dev/block/{a}:{b}/device"))),
        Kind::Character(a, b) => lun(&sys.join(format!("dev/char/{a}:{b}/device"))),
        Kind::Other => None,
    };
    match kind {
        Kind::Block(a, b) => {
            let place = sys.join(format!("dev/block/{a}:{b}"));
            if place.join("partition").exists() {
                return Err(Error::usage("This is a partition, expected the whole disk")
                    .of(name)
                    .hint("commands go to a disk, they do not know of partitions"));
            }
            let open = first_of(&place.join("device/scsi_generic")).map(|n| dev.join(n));
            Ok(Node {
                open: open.unwrap_or_else(|| path.to_path_buf()),
                block: Some(path.to_path_buf()),
                lun,
            })
        }
        Kind::Character(GENERIC_MAJOR, m) => {
            let place = sys.join(format!("dev/char/{GENERIC_MAJOR}:{m}/device/block"));
            Ok(Node {
                open: path.to_path_buf(),
                block: first_of(&place).map(|n| dev.join(n)),
                lun,
            })
        }
        Kind::Character(TAPE_MAJOR, m) if m & 0x80 == 0 => {
            Err(Error::usage("This tape device rewinds when it is closed")
                .of(name)
                .hint("use the device that does not rewind, /dev/nst0 for /dev/st0"))
        }
        Kind::Character(a @ (TAPE_MAJOR | CHANGER_MAJOR), m) => {
            let place = sys.join(format!("dev/char/{a}:{m}/device/scsi_generic"));
            match first_of(&place) {
                Some(n) => Ok(Node {
                    open: dev.join(n),
                    block: None,
                    lun,
                }),
                None => Err(Error::not_found(
                    "The kernel has no SCSI generic node for this device",
                )
                .of(name)
                .hint("load the module: modprobe sg")),
            }
        }
        Kind::Character(..) | Kind::Other => Err(Error::usage(
            "Found something else, expected a SCSI device: /dev/sgN, /dev/sdX or /dev/nstN",
        )
        .of(name)),
    }
}

/// The kernel names a SCSI device `host:channel:target:unit`, with the four
/// two-byte levels of the unit's number in the reverse order of the wire.
fn lun(device: &Path) -> Option<u64> {
    let place = fs::canonicalize(device).ok()?;
    let parts: Vec<&str> = place.file_name()?.to_str()?.split(':').collect();
    let [host, channel, target, unit] = *parts else {
        return None;
    };
    for n in [host, channel, target] {
        n.parse::<u32>().ok()?;
    }
    let n: u64 = unit.parse().ok()?;
    let [a, b, c, d, e, f, g, h] = n.to_be_bytes();
    Some(u64::from_be_bytes([g, h, e, f, c, d, a, b]))
}

/// The name of the first entry of a directory.
fn first_of(dir: &Path) -> Option<std::ffi::OsString> {
    let entries = fs::read_dir(dir).ok()?;
    entries.filter_map(|e| e.ok()).map(|e| e.file_name()).min()
}

/// Most bytes that the block layer gives to one command, if the kernel says.
pub(super) fn block_limit(block: &Path, sys: &Path) -> Option<usize> {
    let Ok(Kind::Block(a, b)) = Kind::of(block) else {
        return None;
    };
    let file = sys.join(format!("dev/block/{a}:{b}/queue/max_sectors_kb"));
    let kib: usize = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_leads_to_its_generic_node() {
        let dir = tempfile::tempdir().unwrap();
        let (sys, dev) = (dir.path(), Path::new("/dev"));
        for d in [
            "dev/char/9:128/device/scsi_generic/sg3",
            "dev/char/21:3/device",
            "dev/char/21:0/device/block/sda",
            "dev/block/8:0/device/scsi_generic/sg0",
            "dev/block/8:1/partition",
            "dev/block/252:0/device",
        ] {
            fs::create_dir_all(sys.join(d)).unwrap();
        }
        let get = |p: &str, k| resolve(Path::new(p), k, sys, dev);
        let open = |p: &str, k| get(p, k).unwrap().open;
        assert_eq!(open("/dev/nst0", Kind::Character(9, 128)), dev.join("sg3"));
        assert_eq!(open("/dev/sda", Kind::Block(8, 0)), dev.join("sg0"));
        assert_eq!(open("/dev/vda", Kind::Block(252, 0)), dev.join("vda"));
        let generic = get("/dev/sg0", Kind::Character(21, 0)).unwrap();
        assert_eq!(generic.block, Some(dev.join("sda")));
        assert_eq!(get("/dev/sg3", Kind::Character(21, 3)).unwrap().block, None);

        assert_eq!(generic.lun, None);

        let refused = |p: &str, k| get(p, k).unwrap_err();
        let e = refused("/dev/st0", Kind::Character(9, 0));
        assert!(e.advice().unwrap().contains("/dev/nst0"));
        let e = refused("/dev/sda1", Kind::Block(8, 1));
        assert!(e.to_string().contains("partition"), "{e}");
        let e = refused("/dev/nst1", Kind::Character(9, 129));
        assert!(e.advice().unwrap().contains("modprobe sg"));
        assert!(
            refused("/dev/null", Kind::Character(1, 3))
                .to_string()
                .contains("/dev/sgN")
        );
    }

    #[test]
    fn numbers_of_units_are_those_of_the_wire() {
        let dir = tempfile::tempdir().unwrap();
        for (node, unit, wire) in [
            ("21:3", "2:0:0:5", Some(5 << 48)),
            ("21:4", "2:0:0:16684", Some(0x412c << 48)),
            ("21:5", "2:0:0:4295032833", Some(0x0001_0001_0001_0000)),
            ("21:6", "0000:00:1f.2", None),
        ] {
            let device = dir.path().join("devices").join(unit);
            let place = dir.path().join("dev/char").join(node);
            fs::create_dir_all(&device).unwrap();
            fs::create_dir_all(&place).unwrap();
            std::os::unix::fs::symlink(device, place.join("device")).unwrap();
            let minor = node.split(':').nth(1).unwrap().parse().unwrap();
            let path = Path::new("/dev/sg");
            let kind = Kind::Character(GENERIC_MAJOR, minor);
            let found = resolve(path, kind, dir.path(), Path::new("/dev")).unwrap();
            assert_eq!(found.lun, wire, "{unit}");
        }
    }
}
