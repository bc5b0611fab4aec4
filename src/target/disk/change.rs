//! Commands that change blocks otherwise than by writing them: COMPARE AND
//! WRITE, ORWRITE, WRITE SAME, UNMAP.

use super::pages::{MAX_COMPARE, MAX_UNMAP, MAX_UNMAP_DESCRIPTORS, MAX_WRITE_SAME};
use super::transfer::Job;
use crate::scsi::op::WRITE_SAME_16;
use crate::target::common::{Answer, Refusal, be, invalid_field, invalid_parameter, list_length};
use crate::target::lun::Reply;
use std::sync::PoisonError;

/// Bytes of a pattern that are written at a time.
const PIECE: usize = 1 << 20;

/// COMPARE AND WRITE: nobody comes between comparing and writing.
pub fn compare_and_write(job: &Job<'_>) -> Answer {
    job.unprotected()?;
    let n = job.place.count;
    if n > u64::from(MAX_COMPARE) {
        return Err(invalid_field(13));
    }
    let bytes = job.bytes()?;
    let data = job.request.data_out;
    // No blocks, but data for some: a number that did not fit its byte.
    if bytes == 0 && data.len() < 2 * job.disk.block_size as usize {
        return Ok(Reply::good());
    }
    if data.len() != 2 * bytes || job.request.expected_out != 2 * bytes {
        return Err(invalid_field(13));
    }
    let (expected, new) = data.split_at(bytes);
    let order = &job.disk.order;
    job.unit.statistics().writing();
    let alone = order.write().unwrap_or_else(PoisonError::into_inner);
    job.compare(expected)?;
    job.disk.write_raw(&alone, job.place.lba, new)?;
    job.unit.statistics().came(n);
    job.disk.settle(job.now())?;
    Ok(Reply::good().wanting(2 * bytes as u64))
}

/// ORWRITE: sets bits.
pub fn or_write(job: &Job<'_>) -> Answer {
    job.unprotected()?;
    let bytes = job.bytes()?;
    let data = job.request.data_out;
    let data = data.get(..bytes).ok_or_else(|| invalid_field(10))?;
    let order = &job.disk.order;
    job.unit.statistics().writing();
    let alone = order.write().unwrap_or_else(PoisonError::into_inner);
    let mut blocks = vec![0; bytes];
    job.disk.read_raw(job.place.lba, &mut blocks)?;
    for (to, bits) in blocks.iter_mut().zip(data) {
        *to |= bits;
    }
    job.disk.write_raw(&alone, job.place.lba, &blocks)?;
    job.unit.statistics().came(job.place.count);
    job.disk.settle(job.now())?;
    Ok(Reply::good().wanting(bytes as u64))
}

/// WRITE SAME: one block many times, or none (unmapped).
pub fn write_same(job: &Job<'_>) -> Answer {
    job.unprotected()?;
    let long = job.cdb.opcode() == WRITE_SAME_16;
    let none = long && job.cdb.bit(1, 0x01); // NDOB
    // ANCHOR, and the obsolete PBDATA and LBDATA.
    if job.cdb.bit(1, if long { 0x16 } else { 0x17 }) {
        return Err(invalid_field(1));
    }
    // Zero means all that follow.
    let n = match job.place.count {
        0 => job.disk.blocks.saturating_sub(job.place.lba).max(1),
        n => n,
    };
    job.disk.range(job.place.lba, n)?;
    if n > MAX_WRITE_SAME {
        return Err(invalid_field(if long { 10 } else { 7 }));
    }
    let size = job.disk.block_size as usize;
    let wanted = if none { 0 } else { size };
    let block = job.request.data_out;
    if block.len() != wanted || job.request.expected_out != wanted {
        return Err(invalid_field(0));
    }
    job.unit.statistics().writing();
    let shared = job.disk.shared();
    let watch = job.unit.watch(job.request);
    if block.iter().all(|b| *b == 0) {
        let free = job.cdb.bit(1, 0x08);
        job.disk
            .zero_blocks(&shared, job.place.lba, n, free, &watch)?;
    } else {
        let per = (PIECE / size) as u64;
        let pattern = block.repeat(per.min(n) as usize);
        let mut done = 0;
        while done < n {
            watch.go_on()?;
            let piece = pattern.get(..(n - done).min(per) as usize * size);
            job.disk
                .write_raw(&shared, job.place.lba + done, piece.unwrap_or(&pattern))?;
            done += per;
        }
    }
    job.unit.statistics().came(n);
    job.disk.settle(false)?;
    Ok(Reply::good().wanting(wanted as u64))
}

/// UNMAP. All ranges are looked at before the first is unmapped.
pub fn unmap(job: &Job<'_>) -> Answer {
    if job.cdb.bit(1, 0x01) {
        return Err(invalid_field(1)); // ANCHOR
    }
    let length = usize::from(job.cdb.u16(7));
    if length == 0 {
        return Ok(Reply::good());
    }
    let list = job.request.data_out;
    let list = list.get(..length).ok_or_else(list_length)?;
    if list.len() < 8 {
        return Err(list_length());
    }
    let descriptors = (be(list, 2, 2) as usize).min(list.len() - 8) / 16;
    if descriptors > MAX_UNMAP_DESCRIPTORS as usize {
        return Err(invalid_parameter(2));
    }
    let ranges: Vec<(u64, u64)> = (0..descriptors)
        .map(|i| (be(list, 8 + 16 * i, 8), be(list, 16 + 16 * i, 4)))
        .collect();
    for (lba, n) in &ranges {
        job.disk.range(*lba, *n)?;
    }
    let all: u64 = ranges.iter().map(|(_, n)| n).sum();
    if all > MAX_UNMAP.into() {
        return Err(invalid_parameter(16));
    }
    let watch = job.unit.watch(job.request);
    job.unit.statistics().writing();
    let shared = job.disk.shared();
    let unmap = |&(lba, n): &(u64, u64)| -> Result<(), Refusal> {
        job.disk.zero_blocks(&shared, lba, n, true, &watch)
    };
    ranges.iter().try_for_each(unmap)?;
    job.unit.statistics().came(all);
    job.disk.settle(false)?;
    Ok(Reply::good().wanting(length as u64))
}
