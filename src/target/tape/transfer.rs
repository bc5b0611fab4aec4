//! Commands that move data: READ, WRITE, WRITE FILEMARKS, ERASE.

use super::super::common::{Answer, Cdb, Refusal, Unit, invalid_field};
use super::direct::Done;
use super::medium::MAX_TRANSFER;
use super::state::{State, end_of_data, end_of_medium, filemark, wrong_length};
use crate::scsi::{Sense, SenseKey};
use crate::tape::cartridge::{Got, Object};
use crate::target::Reply;
use std::io::IoSlice;

/// A reply with data, and sense data when there is something to say.
fn answer(data: Vec<u8>, sense: Option<Sense>, wanted: u64) -> Answer {
    let mut r = match sense {
        Some(s) => Reply::check(s),
        None => Reply::good(),
    };
    r.data_in = data;
    Ok(r.wanting(wanted))
}

/// Length of a fixed-block transfer in bytes.
fn fixed_length(s: &State, count: u32) -> Result<u64, Refusal> {
    if s.block_length == 0 {
        return Err(invalid_field(1)); // FIXED, but blocks are variable
    }
    match u64::from(s.block_length) * u64::from(count) {
        n if n > MAX_TRANSFER => Err(invalid_field(2)),
        n => Ok(n),
    }
}

/// READ(6).
pub fn read(s: &mut State, unit: &Unit, cdb: &Cdb) -> Answer {
    let (sili, fixed, length) = (cdb.bit(1, 0x02), cdb.bit(1, 0x01), cdb.u24(2));
    if sili && fixed {
        return Err(invalid_field(1));
    }
    s.medium()?;
    if length == 0 {
        return Ok(Reply::good());
    }
    if fixed {
        let wanted = fixed_length(s, length)?;
        let mut data = Vec::new();
        let done = read_like(s, s.block_length, length.into(), &mut data);
        unit.statistics().read(done.count);
        return answer(data, done.sense, wanted);
    }
    let here = s.medium()?.here().map_or(0, |(o, _)| match o {
        Object::Block(n) => n,
        _ => 0,
    });
    let mut data = vec![0; here.min(length) as usize];
    let silent = match here > length {
        true => sili && s.block_length == 0,
        false => sili,
    };
    let done = read_one(s, length, silent, &mut data);
    data.truncate(done.count as usize);
    unit.statistics().read(u64::from(done.count > 0));
    answer(data, done.sense, length.into())
}

/// Reads one object as a variable-block READ of `asked` bytes does; `count` is
/// bytes in `buf`, which has room for `asked` or for the whole block.
pub fn read_one(s: &mut State, asked: u32, silent: bool, buf: &mut [u8]) -> Done {
    let c = match s.medium() {
        Ok(c) => c,
        Err(sense) => return Done::nothing(sense),
    };
    match c.read_block(buf) {
        Err(e) => {
            let sense = s.read_failed(&e);
            Done::nothing(sense.with_information(asked.into()))
        }
        Ok(Got::Filemark) => Done::nothing(filemark(asked.into())),
        Ok(Got::EndOfData) => Done::nothing(end_of_data(asked.into())),
        Ok(Got::Block(len)) => {
            let count = u64::from(len.min(asked)).min(buf.len() as u64);
            s.counts.read += count;
            let wrong = len != asked && !silent;
            Done {
                count,
                sense: wrong.then(|| wrong_length(i64::from(asked) - i64::from(len))),
            }
        }
    }
}

/// Reads up to `most` blocks of `len` bytes; what else is met ends it and is
/// passed over, as a fixed-block READ does. `count` is blocks.
pub fn read_like(s: &mut State, len: u32, most: u64, data: &mut Vec<u8>) -> Done {
    let mut count = 0;
    while count < most {
        let left = most - count;
        let c = match s.medium() {
            Ok(c) => c,
            Err(sense) => return Done::nothing(sense),
        };
        let Some((Object::Block(n), row)) = c.here() else {
            let mut done = read_one(s, 0, true, &mut []);
            if let Some(sense) = &mut done.sense {
                sense.information = i64::try_from(left).ok();
            }
            return Done { count, ..done };
        };
        if n != len {
            let done = read_one(s, 0, true, &mut []);
            let sense = done.sense.unwrap_or_else(|| wrong_length(0));
            return Done {
                count,
                sense: Some(sense.with_information(i64::try_from(left).unwrap_or(i64::MAX))),
            };
        }
        let row = row.min(left);
        let start = data.len();
        data.resize(start + row as usize * len as usize, 0);
        let part = data.get_mut(start..).unwrap_or_default();
        match c.read_blocks(len, part) {
            Ok(n) => {
                count += n as u64;
                s.counts.read += n as u64 * u64::from(len);
            }
            Err(e) => {
                data.truncate(start);
                let sense = s.read_failed(&e);
                return Done {
                    count,
                    sense: Some(sense.with_information(i64::try_from(left).unwrap_or(i64::MAX))),
                };
            }
        }
    }
    Done { count, sense: None }
}

/// WRITE(6).
pub fn write(s: &mut State, unit: &Unit, cdb: &Cdb, data: &[u8]) -> Answer {
    let (fixed, length) = (cdb.bit(1, 0x01), cdb.u24(2));
    s.writable()?;
    if length == 0 {
        return Ok(Reply::good());
    }
    let (block, bytes) = match fixed {
        true => (s.block_length, fixed_length(s, length)?),
        false => (length, length.into()),
    };
    let data = usize::try_from(bytes)
        .ok()
        .and_then(|n| data.get(..n))
        .ok_or_else(|| invalid_field(2).wanting(bytes))?;
    let unit_of_left = if fixed { 1 } else { u64::from(length) };
    let done = write_blocks(s, block, &[IoSlice::new(data)], u64::MAX, unit_of_left);
    unit.statistics().wrote(done.count);
    answer(Vec::new(), done.sense, bytes)
}

/// Writes blocks; `count` is those on the medium. What is left is told in
/// units of `of_each` a block.
pub fn write_blocks(
    s: &mut State,
    len: u32,
    data: &[IoSlice<'_>],
    most: u64,
    of_each: u64,
) -> Done {
    let total: u64 = data.iter().map(|d| d.len() as u64).sum();
    let wanted = (total / u64::from(len.max(1))).min(most);
    let c = match s.writable() {
        Ok(c) => c,
        Err(sense) => return Done::nothing(sense),
    };
    let before = c.position().object;
    let result = c.write_some(len, data, most).map(|w| w.full);
    let count = c.position().object.saturating_sub(before);
    written(s, len, count, wanted, of_each, result)
}

/// What is to be said after blocks were written; `result` says whether the
/// medium is full.
pub fn written(
    s: &mut State,
    len: u32,
    count: u64,
    wanted: u64,
    of_each: u64,
    result: crate::error::Result<bool>,
) -> Done {
    s.counts.written += count * u64::from(len);
    let left = wanted.saturating_sub(count).saturating_mul(of_each);
    let mut result = result;
    if s.unbuffered && result.is_ok() && count > 0 {
        result = match s.medium() {
            Ok(c) => c.sync().and(result),
            Err(_) => result,
        };
    }
    let sense = match result {
        Err(e) => {
            let sense = s.write_failed(&e);
            Some(sense.with_information(i64::try_from(left).unwrap_or(i64::MAX)))
        }
        Ok(true) => Some(end_of_medium(SenseKey::VolumeOverflow, 0x02, left)),
        Ok(false) if count > 0 => s.warning(),
        Ok(false) => None,
    };
    Done { count, sense }
}

/// WRITE FILEMARKS(6).
pub fn write_filemarks(s: &mut State, unit: &Unit, cdb: &Cdb) -> Answer {
    if cdb.bit(1, 0x02) {
        return Err(invalid_field(1)); // setmarks are no more
    }
    let done = filemarks(s, cdb.u24(2).into(), cdb.bit(1, 0x01));
    unit.statistics().wrote(done.count);
    answer(Vec::new(), done.sense, 0)
}

/// Writes filemarks; see [`Cartridge::write_filemarks`](
/// crate::tape::cartridge::Cartridge::write_filemarks).
pub fn filemarks(s: &mut State, wanted: u64, immediate: bool) -> Done {
    let c = match s.writable() {
        Ok(c) => c,
        Err(sense) => return Done::nothing(sense),
    };
    let before = c.position().object;
    let result = c.write_filemarks(wanted, immediate).map(|w| w.full);
    let count = c.position().object.saturating_sub(before);
    written(s, 0, count, wanted, 1, result)
}

/// ERASE(6): long and short end in the same, an empty rest of the medium.
pub fn erase(s: &mut State) -> Answer {
    match s.writable()?.erase() {
        Ok(()) => Ok(Reply::good()),
        Err(e) => Err(s.write_failed(&e).into()),
    }
}
