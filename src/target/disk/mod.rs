//! Disk units: SBC over a regular file or a block device.

mod aside;
mod backing;
mod change;
mod commands;
mod pages;
mod report;
mod snapshot;
mod transfer;

#[cfg(test)]
mod tests;

pub use backing::Backing;
pub use snapshot::MOST as MOST_SNAPSHOTS;

use aside::Snapshots;

use super::common::{
    Answer, Cdb, CommandInfo, Device, ModePage, Refusal, Unit, Watch, invalid_parameter,
};
use super::lun::Request;
use crate::error::{Error, Result};
use crate::scsi::{Sense, SenseKey};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

/// How a disk unit is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// Bytes of a logical block: 512 or 4096.
    pub block_size: u32,
    /// Bytes of a physical block: what the storage writes in one piece. None:
    /// 4096, or the logical block when that is larger.
    pub physical: Option<u32>,
    /// Refuse every write.
    pub read_only: bool,
    /// Blocks that cannot be read, from the first of them on: for tests of what
    /// reads the disk.
    pub bad: Option<(u64, u64)>,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self {
            block_size: 512,
            physical: None,
            read_only: false,
            bad: None,
        }
    }
}

/// A disk.
pub struct DiskUnit {
    backing: Backing,
    block_size: u32,
    /// Logical blocks per physical block, as a power of two.
    exponent: u8,
    blocks: u64,
    bad: Option<(u64, u64)>,
    /// The write cache is on: writes are durable after SYNCHRONIZE CACHE.
    cache: AtomicBool,
    /// Commands that read and then write are alone, and so is the moment at which
    /// a snapshot is taken. Inside are the snapshots that whoever writes has to
    /// ask, so that nothing can be written without them.
    order: RwLock<Snapshots>,
    options: DiskOptions,
    /// All snapshots of it.
    taken: Mutex<Vec<snapshot::Taken>>,
    /// It is a snapshot itself.
    snapshot: bool,
}

/// Largest transfer of one command, in bytes.
pub const MAX_TRANSFER: u32 = 32 << 20;

impl DiskUnit {
    /// Over a file or block device.
    pub fn open(path: &Path, options: DiskOptions) -> Result<Self> {
        let backing = Backing::open(path, !options.read_only)?;
        Self::new(backing, options).map_err(|e| e.of(path.display().to_string()))
    }

    fn new(backing: Backing, options: DiskOptions) -> Result<Self> {
        let block_size = options.block_size;
        if !matches!(block_size, 512 | 4096) {
            return Err(Error::usage(format!(
                "Found blocks of {block_size} bytes, expected 512 or 4096"
            )));
        }
        let physical = options.physical.unwrap_or(4096.max(block_size));
        let ratio = physical / block_size;
        if !ratio.is_power_of_two() || !physical.is_multiple_of(block_size) || physical > 65536 {
            return Err(Error::usage(format!(
                "Found physical blocks of {physical} bytes, expected {block_size} times a power of two, at most 65536"
            )));
        }
        let blocks = backing.bytes() / u64::from(block_size);
        if blocks == 0 {
            return Err(Error::usage(format!(
                "Found {} bytes, expected at least one block of {block_size}",
                backing.bytes()
            ))
            .hint("make a sparse file of the wanted size first: truncate -s 10G FILE"));
        }
        Ok(Self {
            backing,
            block_size,
            exponent: ratio.trailing_zeros() as u8,
            blocks,
            bad: options.bad,
            cache: AtomicBool::new(true),
            order: RwLock::default(),
            options,
            taken: Mutex::default(),
            snapshot: false,
        })
    }

    /// Bytes of a logical block.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Number of logical blocks.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Reads whole blocks from `lba` on.
    pub fn read_blocks(&self, lba: u64, buf: &mut [u8]) -> Result<(), Refusal> {
        self.range(lba, self.count(buf.len()))?;
        let _shared = self.shared();
        self.read_raw(lba, buf)
    }

    /// Writes whole blocks from `lba` on.
    pub fn write_blocks(&self, lba: u64, data: &[u8]) -> Result<(), Refusal> {
        self.range(lba, self.count(data.len()))?;
        let shared = self.shared();
        self.write_raw(&shared, lba, data)?;
        drop(shared);
        self.settle(false)
    }

    /// Makes everything written durable.
    pub fn sync(&self) -> Result<(), Refusal> {
        self.backing.sync().map_err(|e| write_error(0, &e))
    }

    /// Held by who reads or writes beside others.
    fn shared(&self) -> RwLockReadGuard<'_, Snapshots> {
        self.order.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks of so many bytes; a broken one counts.
    fn count(&self, bytes: usize) -> u64 {
        (bytes as u64).div_ceil(self.block_size.into())
    }

    /// LOGICAL BLOCK ADDRESS OUT OF RANGE unless the disk has these blocks.
    fn range(&self, lba: u64, count: u64) -> Result<(), Refusal> {
        match lba.checked_add(count) {
            Some(end) if end <= self.blocks => Ok(()),
            _ => Err(Refusal::sense(SenseKey::IllegalRequest, 0x21, 0x00)),
        }
    }

    fn offset(&self, lba: u64) -> u64 {
        lba.saturating_mul(self.block_size.into())
    }

    /// The first of these blocks that is to be unreadable.
    fn first_bad(&self, lba: u64, count: u64) -> Option<u64> {
        let (from, n) = self.bad?;
        let first = lba.max(from);
        let end = lba.saturating_add(count).min(from.saturating_add(n));
        (first < end).then_some(first)
    }

    fn read_raw(&self, lba: u64, buf: &mut [u8]) -> Result<(), Refusal> {
        if let Some(at) = self.first_bad(lba, self.count(buf.len())) {
            return Err(with_lba(SenseKey::MediumError, (0x11, 0x00), at));
        }
        let Err(first) = self.backing.read(self.offset(lba), buf) else {
            return Ok(());
        };
        // Find the block that cannot be read.
        for (n, block) in buf.chunks_mut(self.block_size as usize).enumerate() {
            let at = lba.saturating_add(n as u64);
            if let Err(e) = self.backing.read(self.offset(at), block) {
                self.whole()?;
                return Err(read_error(at, &e));
            }
        }
        // It could be read after all.
        drop(first);
        Ok(())
    }

    /// LOGICAL UNIT FAILURE for a snapshot that is lost or deleted.
    fn whole(&self) -> Result<(), Refusal> {
        match self.backing.over() {
            true => Err(Refusal::sense(SenseKey::HardwareError, 0x3e, 0x01)),
            false => Ok(()),
        }
    }

    fn write_raw(&self, kept: &Snapshots, lba: u64, data: &[u8]) -> Result<(), Refusal> {
        kept.before_change(self.offset(lba), data.len() as u64, &|| true);
        self.backing
            .write(self.offset(lba), data)
            .map_err(|e| write_error(lba, &e))
    }

    /// Makes durable what was written, when the command (FUA) or the mode page
    /// asks for it.
    fn settle(&self, now: bool) -> Result<(), Refusal> {
        match now || !self.cache.load(Ordering::Relaxed) {
            true => self.sync(),
            false => Ok(()),
        }
    }

    fn zero_blocks(
        &self,
        kept: &Snapshots,
        lba: u64,
        count: u64,
        free: bool,
        watch: &Watch<'_>,
    ) -> Result<(), Refusal> {
        let (at, len) = (self.offset(lba), self.offset(count));
        if !kept.before_change(at, len, &|| !watch.stopped()) {
            return watch.go_on();
        }
        self.backing
            .zero(at, len, free, &|| !watch.stopped())
            .map_err(|e| write_error(lba, &e))?;
        watch.go_on()
    }
}

fn with_lba(key: SenseKey, code: (u8, u8), lba: u64) -> Refusal {
    let mut s = Sense::new(key, code.0, code.1);
    s.information = i64::try_from(lba).ok();
    s.into()
}

fn read_error(lba: u64, _: &io::Error) -> Refusal {
    with_lba(SenseKey::MediumError, (0x11, 0x00), lba)
}

fn write_error(lba: u64, e: &io::Error) -> Refusal {
    match e.kind() {
        // SPACE ALLOCATION FAILED WRITE PROTECT
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Refusal::sense(SenseKey::DataProtect, 0x27, 0x07)
        }
        _ => with_lba(SenseKey::MediumError, (0x0c, 0x00), lba),
    }
}

impl Device for DiskUnit {
    fn peripheral_type(&self) -> u8 {
        0x00
    }

    fn product(&self) -> &str {
        match self.snapshot {
            true => "DISK SNAPSHOT",
            false => "VIRTUAL DISK",
        }
    }

    fn removable(&self) -> bool {
        false
    }

    fn versions(&self) -> &[u16] {
        &[0x04c0] // SBC-3
    }

    fn commands(&self) -> &[CommandInfo] {
        commands::of(self)
    }

    fn execute(&self, unit: &Unit, cdb: &Cdb, request: &Request<'_>) -> Answer {
        commands::execute(self, unit, cdb, request)
    }

    fn ready(&self) -> Result<(), Sense> {
        match self.backing.over() {
            true => Err(Sense::new(SenseKey::HardwareError, 0x3e, 0x01)),
            false => Ok(()),
        }
    }

    fn write_protected(&self) -> bool {
        !self.backing.writable()
    }

    fn vpd_pages(&self) -> &[u8] {
        &[0xb0, 0xb1, 0xb2]
    }

    fn vpd(&self, _unit: &Unit, page: u8) -> Option<Vec<u8>> {
        pages::vpd(self, page)
    }

    fn mode_pages(&self) -> Vec<ModePage> {
        pages::mode(self)
    }

    fn set_mode_page(&self, page: u8, _subpage: u8, body: &[u8]) -> Result<(), Refusal> {
        pages::set_mode(self, page, body)
    }

    fn mode_header(&self) -> u8 {
        0x10 // DPOFUA
    }

    fn block_descriptor(&self, long: bool) -> Vec<u8> {
        pages::block_descriptor(self, long)
    }

    fn select_header(&self, _: u8, descriptor: Option<&[u8]>, _: bool) -> Result<(), Refusal> {
        // The device-specific byte is reserved; the size of blocks stays as it is.
        match descriptor {
            Some(d) if !pages::same_descriptor(self, d) => Err(invalid_parameter(4)),
            _ => Ok(()),
        }
    }

    fn reset(&self) {
        self.cache.store(true, Ordering::Relaxed);
    }

    fn copy_disk(&self) -> Option<&dyn crate::target::copy::CopyDisk> {
        Some(self)
    }

    fn flush(&self) -> Result<()> {
        if !self.backing.writable() {
            return Ok(());
        }
        self.backing
            .sync()
            .map_err(|e| Error::io("Cannot write out what the disk unit holds", e))
    }
}
