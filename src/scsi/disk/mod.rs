//! A disk's logical unit as a [`Source`] and a [`Sink`].

#[cfg(test)]
mod tests;

use super::inquiry::device_type;
use super::unit::Unit;
use super::{BlockLimits, Capacity, Failure, OutcomeUnknown, Provisioning, Reach};
use super::{SenseKey, Status, UnitIdentity};
use crate::device::{Identity, Sink, Source, SourceKind};
use crate::error::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// How long a unit may say that it is becoming ready.
const READY: Duration = Duration::from_secs(60);
/// Most bytes of one command: several of them outstanding are faster than one.
const PIECE: usize = 1 << 20;
/// Commands outstanding for one large read or write.
const OUTSTANDING: usize = 4;
/// Bytes of one WRITE SAME: the unit may write them all.
const ZEROS: u64 = 64 << 20;
/// Further attempts at a command that was aborted on its way.
const AGAIN: u32 = 3;

/// A disk behind a transport. Shared by threads; reads and writes of any
/// position and length, which whole blocks are made of at the edges.
pub struct ScsiDisk {
    unit: Unit,
    identity: UnitIdentity,
    capacity: Capacity,
    limits: BlockLimits,
    provisioning: Provisioning,
    reach: Reach,
    piece: usize,
    /// Two writes into one block must not undo each other.
    edges: Mutex<()>,
    /// WRITE SAME was refused.
    no_write_same: AtomicBool,
    /// Restarts of the unit that were known when the first write began.
    begun: OnceLock<u64>,
}

impl ScsiDisk {
    /// Looks at the unit; it has to be a disk that is ready.
    pub fn open(unit: Unit) -> Result<Self> {
        let identity = unit.identity()?;
        let kind = identity.inquiry.device_type;
        if !matches!(kind, device_type::DISK | 0x05 | 0x07 | 0x0e) {
            let found = device_type::name(kind);
            return Err(Error::usage(format!("Found a {found}, expected a disk")).of(unit.name()));
        }
        unit.wait_ready(READY)?;
        let capacity = unit.capacity()?;
        let limits = unit.block_limits()?;
        let provisioning = match capacity.thin {
            true => unit.provisioning()?,
            false => Provisioning::default(),
        };
        let block = capacity.block_len as usize;
        let reach = Self::find_reach(&unit, &capacity)?;
        let mut piece = unit.max_transfer().min(PIECE);
        for blocks in [limits.max_transfer, reach.max_blocks()] {
            if blocks > 0 {
                piece = piece.min((blocks as usize).saturating_mul(block));
            }
        }
        piece = piece / block * block;
        if piece == 0 {
            return Err(Error::unsupported(format!(
                "Found a transport of {} bytes a command, expected a block of {block} at least",
                unit.max_transfer()
            ))
            .of(unit.name()));
        }
        Ok(Self {
            unit,
            identity,
            capacity,
            limits,
            provisioning,
            reach,
            piece,
            edges: Mutex::new(()),
            no_write_same: AtomicBool::new(false),
            begun: OnceLock::new(),
        })
    }

    /// 16-byte commands, or 10-byte ones where the unit knows no others.
    fn find_reach(unit: &Unit, capacity: &Capacity) -> Result<Reach> {
        if capacity.blocks == 0 {
            return Ok(Reach::Long);
        }
        let mut block = vec![0; capacity.block_len as usize];
        let tried = unit.read_blocks(Reach::Long, 0, capacity.block_len, &mut block);
        let unknown = matches!(&tried, Err(e) if Failure::sense_behind(e)
            .is_some_and(|s| s.is_unknown_command()));
        match unknown {
            true if capacity.blocks > 1 << 32 => Err(Error::unsupported(
                "The disk is too large for the 10-byte commands, and knows no others",
            )
            .of(unit.name())),
            true => Ok(Reach::Short),
            // What else is wrong, the reader of that block will see.
            false => Ok(Reach::Long),
        }
    }

    /// The unit.
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    /// Who it is.
    pub fn unit_identity(&self) -> &UnitIdentity {
        &self.identity
    }

    /// Its size.
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// What goes into an archive about it.
    pub fn identity(&self) -> Identity {
        let some = |s: &str| (!s.is_empty()).then(|| s.to_owned());
        let name = || self.identity.for_cscd().map(|d| d.to_string());
        Identity {
            path: self.unit.name().to_owned(),
            kind: SourceKind::Disk,
            size: self.capacity.bytes(),
            sector_size: self.capacity.block_len,
            physical_sector_size: Some(self.capacity.physical_block_len),
            vendor: some(&self.identity.inquiry.vendor),
            model: some(&self.identity.inquiry.product),
            serial: self.identity.serial.clone().or_else(name),
            device: None,
            partition: None,
        }
    }

    /// Refuses a unit that is write protected.
    pub fn check_writable(&self) -> Result<()> {
        let mode = self.unit.optional(self.unit.mode_sense(0x3f, 0))?;
        match mode.is_some_and(|m| m.write_protected()) {
            true => Err(Error::refused("The disk is write protected").of(self.unit.name())),
            false => Ok(()),
        }
    }

    fn check(&self, offset: u64, len: u64, what: &str) -> Result<u64> {
        let size = self.capacity.bytes();
        offset
            .checked_add(len)
            .filter(|end| *end <= size)
            .ok_or_else(|| {
                Error::damaged(format!(
                    "A {what} of {len} bytes reaches behind the end ({size} bytes)"
                ))
                .of(self.unit.name())
                .at(offset)
            })
    }

    /// One command, sent again when it was lost on its way. All of them name
    /// their blocks: doing one twice does no harm.
    fn attempt(&self, mut command: impl FnMut() -> Result<()>) -> Result<()> {
        let mut left = AGAIN;
        loop {
            let e = match command() {
                Ok(()) => return Ok(()),
                Err(e) => e,
            };
            let lost = Failure::behind(&e).is_some_and(|f| {
                let aborted = |s: &super::Sense| s.key == SenseKey::AbortedCommand;
                f.status == Status::TaskAborted || f.sense.as_ref().is_some_and(aborted)
            });
            if !(lost || OutcomeUnknown::is_behind(&e)) || left == 0 {
                return Err(e);
            }
            left -= 1;
        }
    }

    /// The same for a command that writes. A unit that was restarted since the
    /// first of them may have lost what it had not put on the medium, however
    /// well it goes now.
    fn attempt_write(&self, command: impl FnMut() -> Result<()>) -> Result<()> {
        let begun = *self.begun.get_or_init(|| self.unit.changes().restarts);
        self.attempt(command)?;
        match self.unit.changes().restarts == begun {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Scsi,
                "The disk was switched on or reset while it was written, and what it had not put on the medium may be lost",
            )
            .of(self.unit.name())
            .hint("begin the whole job again")),
        }
    }

    fn read_piece(&self, lba: u64, buf: &mut [u8]) -> Result<()> {
        let block = self.capacity.block_len;
        self.attempt(|| self.unit.read_blocks(self.reach, lba, block, buf))
    }

    fn write_piece(&self, lba: u64, data: &[u8]) -> Result<()> {
        let block = self.capacity.block_len;
        self.attempt_write(|| self.unit.write_blocks(self.reach, lba, block, data))
    }

    /// Reads whole blocks, several commands outstanding.
    fn read_whole(&self, lba: u64, buf: &mut [u8]) -> Result<()> {
        let step = (self.piece / self.capacity.block_len as usize) as u64;
        let read = |i, buf: &mut [u8]| self.read_piece(lba + i * step, buf);
        outstanding(buf.chunks_mut(self.piece), read)
    }

    fn write_whole(&self, lba: u64, data: &[u8]) -> Result<()> {
        let step = (self.piece / self.capacity.block_len as usize) as u64;
        let write = |i, data: &[u8]| self.write_piece(lba + i * step, data);
        outstanding(data.chunks(self.piece), write)
    }

    /// Cuts a range into a part of a block, whole blocks, and a part of a block.
    fn cut(&self, offset: u64, len: u64) -> Cut {
        let block = u64::from(self.capacity.block_len);
        let skip = offset % block;
        let head = match skip {
            0 => 0,
            _ => len.min(block - skip),
        };
        let tail = (len - head) % block;
        Cut {
            skip: skip as usize,
            head: head as usize,
            whole: len - head - tail,
            tail: tail as usize,
        }
    }

    /// Changes part of a block.
    fn change(&self, lba: u64, skip: usize, data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let _alone = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
        let mut block = vec![0; self.capacity.block_len as usize];
        self.read_piece(lba, &mut block)?;
        block
            .iter_mut()
            .skip(skip)
            .zip(data)
            .for_each(|(to, from)| *to = *from);
        self.write_piece(lba, &block)
    }

    /// Whole blocks to zeros: by a command if the unit takes it.
    fn zero_whole(&self, mut lba: u64, mut blocks: u64) -> Result<()> {
        let block = self.capacity.block_len;
        let unmap = self.provisioning.write_same_16;
        let most = match self.limits.max_write_same {
            0 => u64::MAX,
            n => n,
        }
        .min((ZEROS / u64::from(block)).max(1));
        while blocks > 0 && !self.no_write_same.load(Ordering::Relaxed) {
            let n = blocks.min(most);
            // A unit reads zeros where zeros were written, unmapped or not.
            let done =
                self.attempt_write(|| self.unit.write_same_zeros(lba, n as u32, block, unmap));
            match self.unit.optional(done)? {
                Some(()) => (lba, blocks) = (lba + n, blocks - n),
                None => self.no_write_same.store(true, Ordering::Relaxed),
            }
        }
        let zeros = vec![0; self.piece.min(256 << 10) / block as usize * block as usize];
        let zeros = match zeros.len() {
            0 => vec![0; block as usize],
            _ => zeros,
        };
        let at_once = (zeros.len() / block as usize) as u64;
        while blocks > 0 {
            let n = blocks.min(at_once);
            let len = n as usize * block as usize;
            self.write_piece(lba, zeros.get(..len).unwrap_or(&zeros))?;
            (lba, blocks) = (lba + n, blocks - n);
        }
        Ok(())
    }

    fn read_any(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.check(offset, buf.len() as u64, "read")?;
        let block = u64::from(self.capacity.block_len);
        let cut = self.cut(offset, buf.len() as u64);
        let (head, rest) = buf.split_at_mut(cut.head);
        let (whole, tail) = rest.split_at_mut(cut.whole as usize);
        let edge = |offset: u64, skip: usize, part: &mut [u8]| {
            if part.is_empty() {
                return Ok(());
            }
            let mut bounce = vec![0; block as usize];
            self.read_piece(offset / block, &mut bounce)?;
            part.iter_mut()
                .zip(bounce.iter().skip(skip))
                .for_each(|(to, from)| *to = *from);
            Ok(())
        };
        edge(offset, cut.skip, head)?;
        let offset = offset + cut.head as u64;
        self.read_whole(offset / block, whole)?;
        edge(offset + cut.whole, 0, tail)
    }
}

struct Cut {
    /// Bytes of the first block in front of the range.
    skip: usize,
    head: usize,
    whole: u64,
    tail: usize,
}

/// Does pieces, a few at a time. The error of the first piece that failed.
fn outstanding<T: Send>(
    pieces: impl ExactSizeIterator<Item = T> + Send,
    work: impl Fn(u64, T) -> Result<()> + Sync,
) -> Result<()> {
    let threads = pieces.len().min(OUTSTANDING);
    if threads <= 1 {
        return (0..).zip(pieces).try_for_each(|(i, piece)| work(i, piece));
    }
    let queue = Mutex::new((0u64..).zip(pieces));
    let failed: Mutex<Option<(u64, Error)>> = Mutex::new(None);
    let worker = || {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((i, piece)) = next else { return };
            let Err(e) = work(i, piece) else { continue };
            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            if failed.as_ref().is_none_or(|(first, _)| i < *first) {
                *failed = Some((i, e));
            }
            return;
        }
    };
    std::thread::scope(|s| {
        for _ in 1..threads {
            s.spawn(worker);
        }
        worker();
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, e)) => Err(e),
        None => Ok(()),
    }
}

impl Source for ScsiDisk {
    fn len(&self) -> u64 {
        self.capacity.bytes()
    }
    fn sector_size(&self) -> u32 {
        self.capacity.block_len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.read_any(offset, buf)
    }
    fn name(&self) -> &str {
        self.unit.name()
    }
}

impl Sink for ScsiDisk {
    fn len(&self) -> u64 {
        self.capacity.bytes()
    }
    fn sector_size(&self) -> u32 {
        self.capacity.block_len
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.check(offset, data.len() as u64, "write")?;
        let block = u64::from(self.capacity.block_len);
        let cut = self.cut(offset, data.len() as u64);
        let (head, rest) = data.split_at(cut.head);
        let (whole, tail) = rest.split_at(cut.whole as usize);
        self.change(offset / block, cut.skip, head)?;
        let offset = offset + cut.head as u64;
        self.write_whole(offset / block, whole)?;
        self.change((offset + cut.whole) / block, 0, tail)
    }
    fn zero_at(&self, offset: u64, len: u64) -> Result<()> {
        self.check(offset, len, "zeroing")?;
        let block = u64::from(self.capacity.block_len);
        let cut = self.cut(offset, len);
        self.change(offset / block, cut.skip, &vec![0; cut.head])?;
        let offset = offset + cut.head as u64;
        self.zero_whole(offset / block, cut.whole / block)?;
        self.change((offset + cut.whole) / block, 0, &vec![0; cut.tail])
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.read_any(offset, buf)
    }
    fn sync(&self) -> Result<()> {
        self.attempt_write(|| self.unit.synchronize_cache(self.reach))
    }
    fn name(&self) -> &str {
        self.unit.name()
    }
    fn is_fresh(&self) -> bool {
        false
    }
}
