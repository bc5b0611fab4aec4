//! The units of the target as the copy manager uses them.

use super::device::{CopyDisk, CopyTape};
use super::fail::{check, refused};
use crate::scsi::{Failure, Sense, SenseKey, Status};
use crate::target::disk::DiskUnit;
use crate::target::tape::{Done, TapeDrive};
use std::borrow::Cow;
use std::io::IoSlice;

impl CopyDisk for DiskUnit {
    fn block(&self) -> u32 {
        self.block_size()
    }

    fn blocks(&self) -> u64 {
        DiskUnit::blocks(self)
    }

    fn read(&self, lba: u64, buf: &mut [u8]) -> Result<(), (usize, Box<Failure>)> {
        let block = u64::from(self.block_size());
        self.read_blocks(lba, buf).map_err(|r| {
            let f = refused(r);
            // INFORMATION of a medium error is the block that cannot be read;
            // what stands in front of it is good.
            let sense = f.sense.as_ref().filter(|s| s.key == SenseKey::MediumError);
            let bad = sense.and_then(|s| u64::try_from(s.information?).ok());
            let good = bad.map_or(0, |bad| bad.saturating_sub(lba).saturating_mul(block));
            (usize::try_from(good).unwrap_or(0).min(buf.len()), f)
        })
    }

    fn write(&self, mut lba: u64, data: &mut [IoSlice<'_>]) -> Result<(), (usize, Box<Failure>)> {
        let block = self.block_size() as usize;
        let mut done = 0;
        // Where blocks cross from one slice into the next they are put together.
        let whole = data.iter().all(|s| s.len() % block == 0);
        let parts: Vec<Cow<'_, [u8]>> = match whole {
            true => data.iter().map(|s| Cow::Borrowed(&**s)).collect(),
            false => vec![Cow::Owned(together(data))],
        };
        for part in parts {
            self.write_blocks(lba, &part)
                .map_err(|r| (done, refused(r)))?;
            done += part.len();
            lba = lba.saturating_add((part.len() / block) as u64);
        }
        Ok(())
    }
}

fn together(data: &[IoSlice<'_>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.iter().map(|s| s.len()).sum());
    data.iter().for_each(|s| out.extend_from_slice(s));
    out
}

fn told(sense: Sense) -> Box<Failure> {
    Box::new(Failure {
        status: Status::CheckCondition,
        sense: Some(sense),
    })
}

fn ended(done: Done) -> Result<(), Box<Failure>> {
    match done.sense {
        Some(sense) => Err(told(sense)),
        None => Ok(()),
    }
}

impl CopyTape for TapeDrive {
    fn takes_fixed(&self, block: u32) -> bool {
        self.block_length() == block
    }

    fn read(&self, block: u32, buf: &mut [u8]) -> Result<usize, Box<Failure>> {
        let done = self.read_blocks(block, buf);
        match (usize::try_from(done.count).unwrap_or(0), done.sense) {
            (0, Some(sense)) => Err(told(sense)),
            (0, None) => Err(check(SenseKey::HardwareError, 0x44, 0x00)),
            (n, _) => Ok(n),
        }
    }

    fn write(&self, block: u32, data: &[IoSlice<'_>]) -> (usize, Option<Box<Failure>>) {
        let done = self.write_blocks(block, data);
        let count = usize::try_from(done.count).unwrap_or(0);
        (count, done.sense.map(told))
    }

    fn filemarks(&self, count: u32, immediate: bool) -> Result<(), Box<Failure>> {
        ended(self.write_filemarks(count, immediate))
    }

    fn space(&self, code: u8, count: i32) -> Result<(), Box<Failure>> {
        TapeDrive::space(self, code, count.into()).map_err(told)
    }

    fn locate(&self, object: u64) -> Result<(), Box<Failure>> {
        TapeDrive::locate(self, object).map_err(told)
    }

    fn unread(&self, blocks: u64) -> Result<(), Box<Failure>> {
        let here = self.position().map_err(told)?.object;
        TapeDrive::locate(self, here.saturating_sub(blocks)).map_err(told)
    }
}
