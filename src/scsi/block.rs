//! Commands of disks.

use super::unit::{DATA, LONG, Unit, field};
use super::{Data, Failure, op};
use crate::error::{Error, Result};

/// What READ CAPACITY says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Number of blocks.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_len: u32,
    /// Bytes of a block of the medium itself.
    pub physical_block_len: u32,
    /// LBPME: blocks may be unmapped.
    pub thin: bool,
    /// LBPRZ: unmapped blocks read as zeros.
    pub reads_zeros: bool,
}

impl Capacity {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block_len.into())
    }

    fn checked(self, unit: &Unit) -> Result<Self> {
        let sound = self.block_len.is_power_of_two()
            && (512..=1 << 16).contains(&self.block_len)
            && self
                .blocks
                .checked_mul(self.block_len.into())
                .is_some_and(|n| n <= i64::MAX as u64);
        match sound {
            true => Ok(self),
            false => Err(Error::unsupported(format!(
                "Found {} blocks of {} bytes, expected blocks of a power of two from 512 bytes on",
                self.blocks, self.block_len
            ))
            .of(unit.name())),
        }
    }
}

/// How a read or write command addresses blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// 16-byte commands.
    Long,
    /// 10-byte commands: below 2 TiB of 512-byte blocks, 65,535 blocks each.
    Short,
}

impl Reach {
    /// Most blocks that a command can name.
    pub fn max_blocks(self) -> u32 {
        match self {
            Reach::Long => u32::MAX,
            Reach::Short => u16::MAX.into(),
        }
    }

    fn cdb(self, long: u8, short: u8, lba: u64, blocks: u32) -> Cdb {
        let mut cdb = [0; 16];
        match self {
            Reach::Long => {
                cdb[0] = long;
                cdb[2..10].copy_from_slice(&lba.to_be_bytes());
                cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
                Cdb(cdb, 16)
            }
            Reach::Short => {
                cdb[0] = short;
                cdb[2..6].copy_from_slice(&(lba as u32).to_be_bytes());
                cdb[7..9].copy_from_slice(&(blocks as u16).to_be_bytes());
                Cdb(cdb, 10)
            }
        }
    }
}

struct Cdb([u8; 16], usize);

impl Cdb {
    fn bytes(&self) -> &[u8] {
        self.0.get(..self.1).unwrap_or(&self.0)
    }
}

impl Unit {
    /// READ CAPACITY(16), or (10) where the unit does not know it.
    pub fn capacity(&self) -> Result<Capacity> {
        let what = "READ CAPACITY(16)";
        let mut cdb = [0; 16];
        cdb[0] = op::SERVICE_ACTION_IN_16;
        cdb[1] = 0x10;
        cdb[13] = 32;
        let Some(b) = self.optional(self.read_in(what, &cdb, 32))? else {
            return self.capacity_10();
        };
        let last = u64::from_be_bytes(field(self, what, &b, 0)?);
        let block_len = u32::from_be_bytes(field(self, what, &b, 8)?);
        let exponent = u32::from(b.get(13).copied().unwrap_or(0) & 0x0f);
        let flags = b.get(14).copied().unwrap_or(0);
        Capacity {
            blocks: last.saturating_add(1),
            block_len,
            physical_block_len: block_len.checked_mul(1 << exponent).unwrap_or(block_len),
            thin: flags & 0x80 != 0,
            reads_zeros: flags & 0x40 != 0,
        }
        .checked(self)
    }

    fn capacity_10(&self) -> Result<Capacity> {
        let what = "READ CAPACITY(10)";
        let b = self.read_in(what, &[op::READ_CAPACITY_10, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8)?;
        let last = u32::from_be_bytes(field(self, what, &b, 0)?);
        let block_len = u32::from_be_bytes(field(self, what, &b, 4)?);
        if last == u32::MAX {
            return Err(Error::unsupported(
                "The unit has more blocks than READ CAPACITY(10) can say, and no READ CAPACITY(16)",
            )
            .of(self.name()));
        }
        Capacity {
            blocks: u64::from(last) + 1,
            block_len,
            physical_block_len: block_len,
            thin: false,
            reads_zeros: false,
        }
        .checked(self)
    }

    /// Reads whole blocks into all of `buf`, one command. An error that the
    /// medium makes is `Unreadable`, at its byte of the unit.
    pub fn read_blocks(
        &self,
        reach: Reach,
        lba: u64,
        block_len: u32,
        buf: &mut [u8],
    ) -> Result<()> {
        let (len, blocks) = (buf.len(), self.count(block_len, buf.len())?);
        let cdb = reach.cdb(op::READ_16, op::READ_10, lba, blocks);
        let done = self.send(cdb.bytes(), Data::In(buf), DATA)?;
        let at = lba.saturating_mul(block_len.into());
        if !super::unit::succeeded(&done) {
            let what = format!("Reading {blocks} blocks from block {lba} on failed");
            return Err(Failure::of(&done).read_error(self.name(), what, at));
        }
        match done.transferred == len {
            true => Ok(()),
            false => Err(self.short("Reading", len, done.transferred).at(at)),
        }
    }

    /// Writes whole blocks, one command.
    pub fn write_blocks(&self, reach: Reach, lba: u64, block_len: u32, data: &[u8]) -> Result<()> {
        let blocks = self.count(block_len, data.len())?;
        let cdb = reach.cdb(op::WRITE_16, op::WRITE_10, lba, blocks);
        let done = self.send(cdb.bytes(), Data::Out(data), DATA)?;
        let at = lba.saturating_mul(block_len.into());
        if !super::unit::succeeded(&done) {
            let what = format!("Writing {blocks} blocks from block {lba} on failed");
            return Err(Failure::of(&done).error(self.name(), what).at(at));
        }
        match done.transferred == data.len() {
            true => Ok(()),
            false => Err(self.short("Writing", data.len(), done.transferred).at(at)),
        }
    }

    fn count(&self, block_len: u32, bytes: usize) -> Result<u32> {
        u32::try_from(bytes)
            .ok()
            .filter(|b| block_len != 0 && b % block_len == 0)
            .map(|b| b / block_len)
            .ok_or_else(|| {
                Error::usage(format!(
                    "Found {bytes} bytes, expected blocks of {block_len}"
                ))
                .of(self.name())
            })
    }

    fn short(&self, what: &str, asked: usize, moved: usize) -> Error {
        Error::damaged(format!("{what} moved {moved} bytes, expected {asked}")).of(self.name())
    }

    /// SYNCHRONIZE CACHE: everything written is on the medium.
    pub fn synchronize_cache(&self, reach: Reach) -> Result<()> {
        let cdb = reach.cdb(op::SYNCHRONIZE_CACHE_16, op::SYNCHRONIZE_CACHE_10, 0, 0);
        match self.optional(self.run_plain("SYNCHRONIZE CACHE", cdb.bytes(), DATA))? {
            Some(()) => Ok(()),
            // A unit without the command has no cache that it could lose.
            None if reach == Reach::Long => self.synchronize_cache(Reach::Short),
            None => Ok(()),
        }
    }

    /// WRITE SAME(16) of zero blocks; with `unmap` the unit may give them back.
    pub fn write_same_zeros(
        &self,
        lba: u64,
        blocks: u32,
        block_len: u32,
        unmap: bool,
    ) -> Result<()> {
        let mut cdb = Reach::Long.cdb(op::WRITE_SAME_16, 0, lba, blocks);
        cdb.0[1] = if unmap { 0x08 } else { 0 };
        let zeros = vec![0; block_len as usize];
        self.write_out("WRITE SAME", cdb.bytes(), &zeros, LONG)
    }

    /// VERIFY(16) without data: the unit reads the blocks for itself.
    pub fn verify_blocks(&self, lba: u64, blocks: u32) -> Result<()> {
        let cdb = Reach::Long.cdb(op::VERIFY_16, 0, lba, blocks);
        self.run_plain("VERIFY", cdb.bytes(), LONG)
    }

    /// REPORT LUNS: the numbers of the units beside this one, 8 bytes each as the
    /// standard writes them.
    pub fn report_luns(&self) -> Result<Vec<u64>> {
        const ROOM: u32 = 16 << 10;
        let what = "REPORT LUNS";
        let mut cdb = [0; 12];
        cdb[0] = op::REPORT_LUNS;
        cdb[6..10].copy_from_slice(&ROOM.to_be_bytes());
        let b = self.read_in(what, &cdb, ROOM as usize)?;
        let len = u32::from_be_bytes(field(self, what, &b, 0)?) as usize;
        let list = b.get(8..).unwrap_or_default();
        let list = list.get(..len).unwrap_or(list);
        let (luns, _) = list.as_chunks::<8>();
        Ok(luns.iter().map(|l| u64::from_be_bytes(*l)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::scsi::double::{Double, Reply};
    use crate::scsi::{Sense, SenseKey};

    const CAP16: [u8; 16] = [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0];

    #[test]
    fn capacity_in_both_forms() {
        let mut b = [0u8; 32];
        b[..8].copy_from_slice(&0x1_0000_0000u64.to_be_bytes());
        b[8..12].copy_from_slice(&512u32.to_be_bytes());
        b[13] = 3;
        b[14] = 0xc0;
        let double = Double::new("u");
        double.expect(&CAP16, Reply::data(b));
        let c = Unit::new(double).capacity().unwrap();
        assert_eq!((c.blocks, c.physical_block_len), (0x1_0000_0001, 4096));
        assert!(c.thin && c.reads_zeros);

        let double = Double::new("u");
        double.expect(
            &CAP16,
            Reply::check(Sense::new(SenseKey::IllegalRequest, 0x20, 0)),
        );
        double.expect(
            &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            Reply::data([0, 0, 0, 99, 0, 0, 2, 0]),
        );
        assert_eq!(Unit::new(double).capacity().unwrap().bytes(), 51200);

        // A block length that nothing can work with.
        let double = Double::new("u");
        double.expect(&CAP16, Reply::data([0xff; 32]));
        assert_eq!(
            Unit::new(double).capacity().unwrap_err().kind(),
            ErrorKind::Unsupported
        );
    }

    #[test]
    fn read_and_write_commands_byte_for_byte() {
        let double = Double::new("u");
        let read = [0x88, 0, 0, 0, 0, 1, 2, 3, 4, 5, 0, 0, 0, 2, 0, 0];
        double.expect(&read, Reply::data(vec![7; 1024]));
        double.expect(&[0x2a, 0, 2, 3, 4, 5, 0, 0, 1, 0], Reply::good());
        let unit = Unit::new(double.clone());
        let mut buf = [0; 1024];
        unit.read_blocks(Reach::Long, 0x1_0203_0405, 512, &mut buf)
            .unwrap();
        assert_eq!(buf, [7; 1024]);
        unit.write_blocks(Reach::Short, 0x0203_0405, 512, &[9; 512])
            .unwrap();
        assert_eq!(double.sent()[1].out, [9; 512]);
        assert!(unit.write_blocks(Reach::Long, 0, 512, &[0; 100]).is_err());
    }

    #[test]
    fn a_medium_error_is_unreadable_and_a_short_reply_an_error() {
        let cdb = [0x88, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0];
        let double = Double::new("u");
        double.expect(
            &cdb,
            Reply::check(Sense::new(SenseKey::MediumError, 0x11, 0)),
        );
        double.expect(&cdb, Reply::data([1; 100]));
        let unit = Unit::new(double);
        let mut buf = [0; 512];
        let e = unit.read_blocks(Reach::Long, 8, 512, &mut buf).unwrap_err();
        assert_eq!((e.kind(), e.offset()), (ErrorKind::Unreadable, Some(4096)));
        assert!(Failure::sense_behind(&e).unwrap().is_medium_error());
        let e = unit.read_blocks(Reach::Long, 8, 512, &mut buf).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Damaged);
    }

    #[test]
    fn luns_as_many_as_there_are() {
        let mut cdb = [0; 12];
        cdb[0] = 0xa0;
        cdb[8] = 0x40;
        let double = Double::new("u");
        let mut b = vec![0, 0, 0xff, 0xf8, 0, 0, 0, 0];
        b.extend([0; 8]);
        b.extend([0, 1, 0, 0, 0, 0, 0, 0, 9]);
        double.expect(&cdb, Reply::data(b));
        assert_eq!(Unit::new(double).report_luns().unwrap(), [0, 1 << 48]);
    }
}
