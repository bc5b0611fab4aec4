//! A block device as a target.

use super::Opened;
use crate::device::Sink;
use crate::device::block::disk_facts;
use crate::device::guard::{DevNo, Stack, System};
use crate::error::{Error, Result};
use crate::units::ByteRange;
use rustix::fs::{FallocateFlags, OFlags, ioctl_blksszget, major, minor};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// A block device as a target, opened so that nobody else may hold it.
pub struct BlockSink {
    opened: Opened,
    device: DevNo,
}

impl BlockSink {
    /// Opens for writing a device that is not in use (mounted, swap, part of
    /// another device); anything else is refused.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let is_block = std::fs::metadata(path)
            .map_err(|e| Error::io("Cannot look at the target", e).of(&*name))?
            .file_type()
            .is_block_device();
        if !is_block {
            return Err(Error::usage("Not a block device").of(name));
        }
        System::read()?.check_target(path)?;
        // On a block device this flag means: fail if somebody holds it.
        let mut file = File::options()
            .read(true)
            .write(true)
            .custom_flags(OFlags::EXCL.bits() as i32)
            .open(path)
            .map_err(|e| match e.kind() {
                io::ErrorKind::ResourceBusy => {
                    Error::refused("The kernel says that the target is in use")
                        .of(&*name)
                        .hint("unmount it and stop what is built on it first")
                }
                _ => Error::io("Cannot open the target for writing", e).of(&*name),
            })?;
        let len = file
            .seek(SeekFrom::End(0))
            .map_err(|e| Error::io("Cannot find out the size of the target", e).of(&*name))?;
        let sector_size = ioctl_blksszget(&file)
            .ok()
            .filter(|s| s.is_power_of_two() && (512..=65536).contains(s))
            .unwrap_or(512);
        let device = file
            .metadata()
            .map(|m| (major(m.rdev()), minor(m.rdev())))
            .map_err(|e| Error::io("Cannot look at the target", e).of(&*name))?;
        Ok(Self {
            opened: Opened::new(file, len, sector_size, name),
            device,
        })
    }

    /// By what it is known again: the serial number of the disk, with the
    /// partition of it that this is.
    pub fn serial(&self) -> Option<String> {
        let facts = disk_facts(Path::new("/sys"), self.device);
        let serial = facts.serial?;
        Some(match facts.partition {
            Some(n) => format!("{serial} partition {n}"),
            None => serial,
        })
    }

    /// The first byte of a partition on its disk; none for a device that is no
    /// partition.
    pub fn partition_start(&self) -> Option<u64> {
        disk_facts(Path::new("/sys"), self.device).partition?;
        Some(Stack::new("/sys").window(self.device).0)
    }
}

impl Sink for BlockSink {
    fn len(&self) -> u64 {
        self.opened.len
    }
    fn sector_size(&self) -> u32 {
        self.opened.sector_size
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.opened.touch(offset, data.len())?;
        self.opened.write(offset, data)
    }
    /// Asks the device to unmap or zero the whole sectors inside the range, and
    /// writes zeros where it cannot.
    fn zero_at(&self, offset: u64, len: u64) -> Result<()> {
        let range = self.opened.range(offset, len)?;
        // The kernel wants whole sectors; whole pages keep its cache coherent.
        let unit = u64::from(self.opened.sector_size).max(4096);
        let inner = ByteRange {
            start: range.start.div_ceil(unit) * unit,
            end: range.end / unit * unit,
        };
        let zeros = |start, end| self.opened.write_zeros(ByteRange { start, end });
        if inner.is_empty() {
            return zeros(range.start, range.end);
        }
        // Both calls promise that the range reads as zeros afterwards; the
        // first also gives the room back.
        let done = [FallocateFlags::PUNCH_HOLE, FallocateFlags::ZERO_RANGE]
            .into_iter()
            .any(|how| self.opened.zeroed_by(how, inner));
        if !done {
            return zeros(range.start, range.end);
        }
        zeros(range.start, inner.start)?;
        zeros(inner.end, range.end)
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.opened.read(offset, buf)
    }
    fn sync(&self) -> Result<()> {
        self.opened.sync()
    }
    fn name(&self) -> &str {
        &self.opened.name
    }
    fn is_fresh(&self) -> bool {
        false
    }
}
