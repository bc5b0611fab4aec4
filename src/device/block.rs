//! A Linux block device as a source.

use super::direct::Direct;
use super::{Source, posix};
use crate::error::{Error, Result};
use rustix::fs::{Advice, ioctl_blkpbszget, ioctl_blksszget, major, minor};
use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A block device (disk, partition, loop, device-mapper), opened read-only.
///
/// Reads go through the page cache. Where one fails, it is tried again past
/// the cache, where a bad sector costs itself only.
pub struct BlockSource {
    file: File,
    direct: Direct,
    len: u64,
    sector_size: u32,
    physical_sector_size: u32,
    device: (u32, u32),
    sysfs: PathBuf,
    name: String,
}

impl BlockSource {
    /// Opens a block device read-only.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let fail = |e: std::io::Error| {
            let denied = e.kind() == std::io::ErrorKind::PermissionDenied;
            let e = Error::io("Cannot open the device", e).of(&*name);
            if denied {
                e.hint("reading a device needs root, or membership of the group that owns it")
            } else {
                e
            }
        };
        let mut file = File::open(path).map_err(fail)?;
        let meta = file.metadata().map_err(fail)?;
        if !meta.file_type().is_block_device() {
            return Err(Error::usage("Not a block device").of(name));
        }
        let len = file.seek(SeekFrom::End(0)).map_err(fail)?;
        let device = (major(meta.rdev()), minor(meta.rdev()));
        let sector_size = ioctl_blksszget(&file)
            .ok()
            .filter(|s| s.is_power_of_two() && (512..=65536).contains(s))
            .unwrap_or(512);
        let physical_sector_size = ioctl_blkpbszget(&file)
            .ok()
            .filter(|s| s.is_power_of_two() && *s >= sector_size)
            .unwrap_or(sector_size);
        Ok(Self {
            direct: Direct::new(path, &file, sector_size).map_err(fail)?,
            file,
            len,
            sector_size,
            physical_sector_size,
            device,
            sysfs: format!("/sys/dev/block/{}:{}", device.0, device.1).into(),
            name,
        })
    }

    /// Major and minor number.
    pub fn device(&self) -> (u32, u32) {
        self.device
    }

    /// Sector size of the medium itself in bytes; the logical one or larger.
    pub fn physical_sector_size(&self) -> u32 {
        self.physical_sector_size
    }

    /// True while the kernel still has the device: an unplugged one is gone
    /// from sysfs, though reading it may only say "input/output error".
    fn still_there(&self) -> bool {
        self.sysfs.exists() || !Path::new("/sys/dev/block").exists()
    }
}

impl Source for BlockSource {
    fn len(&self) -> u64 {
        self.len
    }
    fn sector_size(&self) -> u32 {
        self.sector_size
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        posix::check_range(&self.name, self.len, offset, buf.len(), "read")?;
        let Err(e) = self.file.read_exact_at(buf, offset) else {
            return Ok(());
        };
        let medium = e.kind() == ErrorKind::UnexpectedEof || posix::is_medium_error(&e);
        if medium && !self.still_there() {
            return Err(Error::io("The device went away while it was read", e)
                .of(&*self.name)
                .at(offset)
                .hint("check the cable and the power of the disk, then start again"));
        }
        self.direct.again(&self.name, offset, buf, e)
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn will_need(&self, offset: u64, len: u64) {
        if len > 0 {
            posix::advise(&self.file, offset, len, Advice::WillNeed);
        }
    }
}

/// What sysfs tells about the disk that a device is, or is a partition of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DiskFacts {
    pub vendor: Option<String>,
    pub model: Option<String>,
    pub serial: Option<String>,
    /// Partition number, if it is one.
    pub partition: Option<u32>,
}

/// Reads the facts below `root` (`/sys`; a test gives its own tree).
pub(super) fn disk_facts(root: &Path, device: (u32, u32)) -> DiskFacts {
    let link = root.join(format!("dev/block/{}:{}", device.0, device.1));
    let Ok(dir) = link.canonicalize() else {
        return DiskFacts::default();
    };
    let partition = text(&dir.join("partition")).and_then(|t| t.parse().ok());
    let disk = match (partition, dir.parent()) {
        (Some(_), Some(parent)) => parent.to_path_buf(),
        _ => dir,
    };
    let first = |names: &[&str]| names.iter().find_map(|n| text(&disk.join(n)));
    DiskFacts {
        vendor: first(&["device/vendor"]).filter(|v| !v.starts_with("0x")),
        model: first(&["device/model", "device/name", "dm/name"]),
        serial: first(&["serial", "device/serial"])
            .or_else(|| unit_serial(&disk.join("device/vpd_pg80")))
            .or_else(|| first(&["wwid", "device/wwid", "dm/uuid"])),
        partition,
    }
}

/// A small text file of sysfs, trimmed; `None` when absent or empty.
fn text(path: &Path) -> Option<String> {
    let raw = std::fs::read(path).ok()?;
    clean(&raw)
}

fn clean(raw: &[u8]) -> Option<String> {
    let t: String = String::from_utf8_lossy(raw)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let t = t.trim();
    (!t.is_empty()).then(|| t.to_owned())
}

/// The unit serial number page of SCSI: page code in byte 1, big-endian length
/// in bytes 2 and 3, then ASCII.
fn unit_serial(path: &Path) -> Option<String> {
    let page = std::fs::read(path).ok()?;
    let len = usize::from(u16::from_be_bytes([*page.get(2)?, *page.get(3)?]));
    clean(page.get(4..4 + len)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_a_partition_come_from_its_disk() {
        let t = tempfile::tempdir().unwrap();
        let sda = t.path().join("devices/pci/block/sda");
        std::fs::create_dir_all(sda.join("sda2")).unwrap();
        std::fs::create_dir_all(sda.join("device")).unwrap();
        std::fs::create_dir_all(t.path().join("dev/block")).unwrap();
        std::fs::write(sda.join("device/model"), "SAMPLE DISK     \n").unwrap();
        std::fs::write(sda.join("device/vendor"), "ATA     \n").unwrap();
        std::fs::write(sda.join("device/vpd_pg80"), b"\0\x80\0\x08  AB1234tail").unwrap();
        std::fs::write(sda.join("sda2/partition"), "2\n").unwrap();
        for (n, to) in [("8:0", "sda"), ("8:2", "sda/sda2")] {
            std::os::unix::fs::symlink(
                format!("../../devices/pci/block/{to}"),
                t.path().join("dev/block").join(n),
            )
            .unwrap();
        }
        let f = disk_facts(t.path(), (8, 2));
        assert_eq!(f.model.as_deref(), Some("SAMPLE DISK"));
        assert_eq!(f.vendor.as_deref(), Some("ATA"));
        assert_eq!(f.serial.as_deref(), Some("AB1234"));
        assert_eq!(f.partition, Some(2));
        assert_eq!(disk_facts(t.path(), (8, 0)).partition, None);
        assert_eq!(disk_facts(t.path(), (9, 9)), DiskFacts::default());
    }

    /// A loop device whose file was cut is a device with bad sectors: what lies
    /// behind the cut gives EIO, and through the page cache so does the rest of
    /// the last page.
    #[test]
    fn one_bad_sector_does_not_take_its_page_along() {
        use crate::device::{BadMap, RescueOptions, RescueSource};
        use crate::units::ByteRange;
        use std::process::Command;
        use std::sync::Arc;

        let mut image = tempfile::NamedTempFile::new().unwrap();
        let data: Vec<u8> = (0..1u32 << 20).map(|i| (i % 251) as u8 | 1).collect();
        std::io::Write::write_all(&mut image, &data).unwrap();
        let out = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(image.path())
            .output();
        let dev = match out {
            Ok(o) if o.status.success() => String::from_utf8(o.stdout).unwrap(),
            _ => {
                eprintln!("skipped: no loop device to be had (needs root)");
                return;
            }
        };
        struct Release(String);
        impl Drop for Release {
            fn drop(&mut self) {
                let _ = Command::new("losetup").args(["-d", &self.0]).status();
            }
        }
        let dev = Release(dev.trim().to_owned());
        let s = BlockSource::open(Path::new(&dev.0)).unwrap();
        if let Some(d) = s.direct.file() {
            for (at, len) in [(0, 10), (511, 2), (1000, 600_000), ((1 << 20) - 5, 5)] {
                let mut buf = vec![0; len];
                s.direct.read(d, at as u64, &mut buf).unwrap();
                assert!(buf == data[at..at + len], "{len} bytes at {at}");
            }
        }
        let cut = (512 << 10) + 3 * 512;
        image.as_file().set_len(cut).unwrap();
        posix::advise(&s.file, 0, 0, Advice::DontNeed);
        let whole = s.read_at(0, &mut vec![0; 1 << 20]);
        assert_eq!(
            whole.unwrap_err().kind(),
            crate::error::ErrorKind::Unreadable
        );
        let no_direct = s.direct.file().is_none();
        let rescue = RescueSource::new(
            Arc::new(s),
            RescueOptions::default(),
            Arc::new(BadMap::new()),
        );
        let mut buf = vec![0; 1 << 20];
        let bad = rescue.read_at_marked(0, &mut buf).unwrap();
        if no_direct {
            eprintln!("skipped: this system gives no reads past the cache");
            return;
        }
        let want = ByteRange {
            start: cut,
            end: 1 << 20,
        };
        assert_eq!(bad, [want]);
        let cut = cut as usize;
        assert!(buf[..cut] == data[..cut] && buf[cut..].iter().all(|&b| b == 0));
    }
}
