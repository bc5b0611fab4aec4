//! Commands that move the medium, or say where it stands.

use super::super::common::{Answer, Cdb, Refusal, cut, invalid_field, put};
use super::state::{State, moved, no_medium};
use crate::scsi::SenseKey;
use crate::scsi::op::{LOCATE_10, SPACE_6};
use crate::tape::cartridge::{Moved, Room};
use crate::target::{Nexus, Reply};

/// REWIND.
pub fn rewind(s: &mut State) -> Answer {
    s.medium()?.rewind();
    Ok(Reply::good())
}

/// SPACE(6) and (16).
pub fn space(s: &mut State, cdb: &Cdb) -> Answer {
    let count = match cdb.opcode() == SPACE_6 {
        // 24 bits with their sign.
        true => i64::from((cdb.u24(2) << 8) as i32 >> 8),
        false if cdb.u16(12) != 0 => return Err(invalid_field(12)),
        false => cdb.u64(4) as i64,
    };
    space_by(s, cdb.u8(1) & 0x0f, count)?;
    Ok(Reply::good())
}

/// SPACE by its code: 0 blocks, 1 filemarks, 2 sequential filemarks, 3 end of
/// data.
pub fn space_by(s: &mut State, code: u8, count: i64) -> Result<(), Refusal> {
    let c = s.medium()?;
    let how = match code {
        0 => c.space_blocks(count),
        1 => c.space_filemarks(count),
        2 => c.space_sequential_filemarks(count),
        3 => {
            c.to_end();
            Moved::Done
        }
        _ => return Err(invalid_field(1)),
    };
    Ok(moved(how)?)
}

/// LOCATE(10) and (16).
pub fn locate(s: &mut State, cdb: &Cdb) -> Answer {
    let short = cdb.opcode() == LOCATE_10;
    let (kind, partition_at, id) = match short {
        true => (0, 8, u64::from(cdb.u32(3))),
        false => (cdb.u8(1) >> 3 & 0x03, 3, cdb.u64(4)),
    };
    if !short && cdb.bit(2, 0x01) {
        return Err(invalid_field(2)); // explicit addresses
    }
    let c = s.medium()?;
    if cdb.bit(1, 0x02) && cdb.u8(partition_at) != 0 {
        return Err(invalid_field(partition_at as u16)); // there is one partition
    }
    moved(match kind {
        0 => c.locate(id),
        1 => c.locate_file(id),
        3 => {
            c.to_end();
            Moved::Done
        }
        _ => return Err(invalid_field(1)),
    })?;
    Ok(Reply::good())
}

/// READ POSITION: short, long and extended form.
pub fn read_position(s: &mut State, cdb: &Cdb) -> Answer {
    let zone = s.warning_bytes();
    let c = s.medium()?;
    let (here, room) = (c.position(), c.room(zone));
    let mut flags = 0;
    if here.object == 0 {
        flags |= 0x80; // BOP
    }
    match room {
        Room::Plenty => {}
        Room::Programmed => flags |= 0x01, // BPEW
        Room::Early => flags |= if zone > 0 { 0x41 } else { 0x40 }, // EOP
    }
    let object = here.object;
    Ok(match cdb.service_action() {
        0x00 | 0x01 => {
            let mut d = vec![0; 20];
            if object > u64::from(u32::MAX) {
                flags |= 0x02; // PERR: does not fit
            }
            let shown = object.min(u64::from(u32::MAX));
            put(&mut d, 0, 1, flags);
            put(&mut d, 4, 4, shown);
            put(&mut d, 8, 4, shown);
            Reply::data(d).wanting(20)
        }
        0x06 => {
            let mut d = vec![0; 32];
            put(&mut d, 0, 1, flags);
            put(&mut d, 8, 8, object);
            put(&mut d, 16, 8, here.file);
            Reply::data(d).wanting(32)
        }
        _ => {
            let mut d = vec![0; 32];
            put(&mut d, 0, 1, flags);
            put(&mut d, 2, 2, 0x1c);
            put(&mut d, 8, 8, object);
            put(&mut d, 16, 8, object);
            cut(d, cdb.u16(7).into())
        }
    })
}

/// LOAD UNLOAD. True when a cartridge became ready.
pub fn load_unload(s: &mut State, cdb: &Cdb) -> Result<bool, Refusal> {
    let flags = cdb.u8(4);
    if flags & 0x05 == 0x05 {
        return Err(invalid_field(4)); // LOAD and EOT
    }
    if flags & 0x01 == 0 {
        s.unload()?;
        return Ok(false);
    }
    if s.is_loaded() {
        s.medium()?.rewind();
        return Ok(false);
    }
    match s.thread() {
        true => Ok(true),
        false => Err(no_medium().into()),
    }
}

/// PREVENT ALLOW MEDIUM REMOVAL.
pub fn prevent(s: &mut State, cdb: &Cdb, nexus: &Nexus) -> Answer {
    match cdb.u8(4) & 0x03 {
        0 => s.preventing.remove(nexus),
        1 => s.preventing.insert(nexus.clone()),
        _ => return Err(Refusal::sense(SenseKey::IllegalRequest, 0x24, 0x00)),
    };
    Ok(Reply::good())
}
