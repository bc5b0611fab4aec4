//! Reading, writing, verifying.

use super::DiskUnit;
use crate::scsi::op::{
    COMPARE_AND_WRITE, PRE_FETCH_10, SYNCHRONIZE_CACHE_10, VERIFY_10, WRITE_SAME_10,
};
use crate::scsi::{Sense, SenseKey};
use crate::target::common::{Answer, Cdb, Refusal, Unit, invalid_field};
use crate::target::lun::{Reply, Request};

/// Bytes read at a time where nothing is handed out.
const PIECE: usize = 1 << 20;

/// Which blocks a command block names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// First block.
    pub lba: u64,
    /// Number of blocks.
    pub count: u64,
}

impl Place {
    /// By the length of the command block.
    pub fn of(cdb: &Cdb) -> Self {
        let (lba, count) = match cdb.opcode() {
            COMPARE_AND_WRITE => (cdb.u64(2), u64::from(cdb.u8(13))),
            PRE_FETCH_10 | SYNCHRONIZE_CACHE_10 | VERIFY_10 | WRITE_SAME_10 => {
                (cdb.u32(2).into(), cdb.u16(7).into())
            }
            _ => match cdb.len() {
                6 => {
                    let n = u64::from(cdb.u8(4));
                    let lba = cdb.u24(1) & 0x1f_ffff;
                    (lba.into(), if n == 0 { 256 } else { n })
                }
                10 => (cdb.u32(2).into(), cdb.u16(7).into()),
                12 => (cdb.u32(2).into(), cdb.u32(6).into()),
                _ => (cdb.u64(2), cdb.u32(10).into()),
            },
        };
        Self { lba, count }
    }
}

/// A command on its way.
pub struct Job<'a> {
    pub disk: &'a DiskUnit,
    pub unit: &'a Unit,
    pub cdb: &'a Cdb,
    pub request: &'a Request<'a>,
    pub place: Place,
}

impl Job<'_> {
    /// RDPROTECT, WRPROTECT, VRPROTECT: there is no protection information.
    pub fn unprotected(&self) -> Result<(), Refusal> {
        match self.cdb.len() > 6 && self.cdb.bit(1, 0xe0) {
            true => Err(invalid_field(1)),
            false => Ok(()),
        }
    }

    /// FUA.
    pub fn now(&self) -> bool {
        self.cdb.len() > 6 && self.cdb.bit(1, 0x08)
    }

    /// Bytes of all the blocks, when there are such blocks and not too many of
    /// them for one transfer.
    pub fn bytes(&self) -> Result<usize, Refusal> {
        self.disk.range(self.place.lba, self.place.count)?;
        if self.place.count > u64::from(self.disk.max_blocks()) {
            return Err(invalid_field(match self.cdb.len() {
                10 => 7,
                12 => 6,
                _ => 10,
            }));
        }
        Ok(self.place.count as usize * self.disk.block_size as usize)
    }

    pub fn read(&self) -> Answer {
        self.unprotected()?;
        let bytes = self.bytes()?;
        if self.now() && self.disk.backing.writable() {
            self.disk.sync()?;
        }
        // No more than the initiator takes.
        let mut data = vec![0; bytes.min(self.request.expected_in)];
        {
            let _shared = self.disk.shared();
            self.disk.read_raw(self.place.lba, &mut data)?;
        }
        self.unit.statistics().read(self.place.count);
        Ok(Reply::data(data).wanting(bytes as u64))
    }

    /// Of the data that came, whole blocks: an initiator that sends less than
    /// the command block says gets what it sent written, and the rest is the
    /// residual.
    fn sent(&self, bytes: usize) -> &[u8] {
        let size = self.disk.block_size as usize;
        let n = self.request.data_out.len().min(bytes) / size * size;
        self.request.data_out.get(..n).unwrap_or_default()
    }

    pub fn write(&self) -> Answer {
        self.unprotected()?;
        let bytes = self.bytes()?;
        let data = self.sent(bytes);
        self.unit.statistics().writing();
        {
            let shared = self.disk.shared();
            self.disk.write_raw(&shared, self.place.lba, data)?;
        }
        let blocks = self.disk.count(data.len());
        self.unit.statistics().came(blocks);
        self.disk.settle(self.now())?;
        Ok(Reply::good().wanting(bytes as u64))
    }

    /// BYTCHK: 0 nothing is compared, 1 every block, 3 one block with all.
    fn byte_check(&self) -> Result<u8, Refusal> {
        match self.cdb.u8(1) >> 1 & 0x03 {
            2 => Err(invalid_field(1)),
            n => Ok(n),
        }
    }

    pub fn write_and_verify(&self) -> Answer {
        self.unprotected()?;
        let check = self.byte_check()?;
        if check == 3 {
            return Err(invalid_field(1));
        }
        let bytes = self.bytes()?;
        let data = self.sent(bytes);
        self.unit.statistics().writing();
        let shared = self.disk.shared();
        self.disk.write_raw(&shared, self.place.lba, data)?;
        self.unit.statistics().came(self.disk.count(data.len()));
        self.disk.settle(true)?;
        match check {
            0 => self.readable(self.disk.count(data.len()))?,
            _ => self.compare(data)?,
        }
        Ok(Reply::good().wanting(bytes as u64))
    }

    pub fn verify(&self) -> Answer {
        self.unprotected()?;
        let check = self.byte_check()?;
        let _shared = self.disk.shared();
        if check == 0 {
            self.disk.range(self.place.lba, self.place.count)?;
            self.readable(self.place.count)?;
            return Ok(Reply::good().wanting(0));
        }
        let bytes = self.bytes()?;
        if bytes == 0 {
            return Ok(Reply::good().wanting(0));
        }
        let size = self.disk.block_size as usize;
        let wanted = if check == 3 { size } else { bytes };
        let data = self.request.data_out.get(..wanted);
        let data = data.ok_or_else(|| invalid_field(1))?;
        match check {
            1 => self.compare(data)?,
            _ => self.compare_each(data)?,
        }
        Ok(Reply::good().wanting(wanted as u64))
    }

    /// Reads and drops.
    fn readable(&self, count: u64) -> Result<(), Refusal> {
        let watch = self.unit.watch(self.request);
        let per = (PIECE / self.disk.block_size as usize) as u64;
        let mut buf = vec![0; PIECE.min(self.disk.offset(count.min(per)) as usize)];
        let mut done = 0;
        while done < count {
            watch.go_on()?;
            let n = (count - done).min(per);
            let piece = buf.get_mut(..self.disk.offset(n) as usize);
            self.disk
                .read_raw(self.place.lba + done, piece.unwrap_or_default())?;
            done += n;
        }
        Ok(())
    }

    /// MISCOMPARE at the first byte that differs.
    pub fn compare(&self, data: &[u8]) -> Result<(), Refusal> {
        let size = self.disk.block_size as usize;
        let mut buf = vec![0; PIECE.min(data.len())];
        for (n, want) in data.chunks(PIECE).enumerate() {
            let found = buf.get_mut(..want.len()).unwrap_or_default();
            let lba = self.place.lba + (n * (PIECE / size)) as u64;
            self.disk.read_raw(lba, found)?;
            differs(want, found, n * PIECE)?;
        }
        Ok(())
    }

    fn compare_each(&self, block: &[u8]) -> Result<(), Refusal> {
        let mut found = vec![0; block.len()];
        for lba in self.place.lba..self.place.lba + self.place.count {
            self.disk.read_raw(lba, &mut found)?;
            differs(block, &found, 0)?;
        }
        Ok(())
    }

    pub fn pre_fetch(&self) -> Answer {
        let count = self.to_end()?;
        let at = self.disk.offset(self.place.lba);
        self.disk.backing.will_need(at, self.disk.offset(count));
        Ok(Reply::good())
    }

    pub fn synchronize(&self) -> Answer {
        self.to_end()?;
        if self.disk.backing.writable() {
            self.disk.sync()?;
        }
        Ok(Reply::good())
    }

    /// The number of blocks where zero means all that follow.
    fn to_end(&self) -> Result<u64, Refusal> {
        self.disk.range(self.place.lba, self.place.count)?;
        Ok(match self.place.count {
            0 => self.disk.blocks - self.place.lba,
            n => n,
        })
    }

    /// START STOP UNIT. There is nothing that turns: stopping writes out what is
    /// cached, unless NO_FLUSH; other hosts go on using the disk.
    pub fn start_stop(&self) -> Answer {
        let (start, eject) = (self.cdb.bit(4, 0x01), self.cdb.bit(4, 0x02));
        let condition = self.cdb.u8(4) >> 4;
        if condition == 0 && eject {
            return Err(invalid_field(4)); // the medium stays where it is
        }
        let flush = !self.cdb.bit(4, 0x04) && (condition != 0 || !start);
        if flush && self.disk.backing.writable() {
            self.disk.sync()?;
        }
        Ok(Reply::good())
    }
}

fn differs(want: &[u8], found: &[u8], base: usize) -> Result<(), Refusal> {
    if want == found {
        return Ok(());
    }
    let at = want.iter().zip(found).position(|(a, b)| a != b);
    let mut s = Sense::new(SenseKey::Miscompare, 0x1d, 0x00);
    s.information = i64::try_from(base + at.unwrap_or(0)).ok();
    Err(s.into())
}
