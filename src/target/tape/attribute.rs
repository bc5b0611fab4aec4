//! Medium auxiliary memory: READ ATTRIBUTE and WRITE ATTRIBUTE.

use super::super::common::{
    Answer, Cdb, Refusal, be, byte, cut, invalid_field, invalid_parameter, list_length, put, text,
};
use super::log::remaining;
use super::medium::DENSITY;
use super::state::State;
use crate::scsi::SenseKey;
use crate::tape::cartridge::{Attribute, Cartridge};
use crate::target::Reply;

const BINARY: u8 = 0;
const ASCII: u8 = 1;
const TEXT: u8 = 2;

const BARCODE: u16 = 0x0806;

/// Attributes that hosts write, with format and longest value.
const OF_HOSTS: &[(u16, u8, usize)] = &[
    (0x0800, ASCII, 8),     // application vendor
    (0x0801, ASCII, 32),    // application name
    (0x0802, ASCII, 8),     // application version
    (0x0803, TEXT, 160),    // user medium text label
    (0x0804, ASCII, 12),    // date and time last written
    (0x0805, BINARY, 1),    // text localization identifier
    (BARCODE, ASCII, 32),   // barcode
    (0x0807, TEXT, 80),     // owning host
    (0x0808, TEXT, 160),    // media pool
    (0x0809, ASCII, 16),    // partition user text label
    (0x080a, BINARY, 1),    // load/unload at partition
    (0x080b, ASCII, 16),    // application format version
    (0x080c, BINARY, 1023), // volume coherency information
    (0x0820, BINARY, 36),   // medium globally unique identifier
    (0x0821, BINARY, 36),   // media pool globally unique identifier
];

fn own(id: u16, format: u8, value: Vec<u8>) -> (bool, Attribute) {
    (true, Attribute { id, format, value })
}

/// All attributes there are, ascending; true with those that hosts cannot write.
fn all(s: &State, c: &Cartridge) -> Vec<(bool, Attribute)> {
    let f = c.facts();
    let number = |id, n: u64| own(id, BINARY, n.to_be_bytes().to_vec());
    let mut v = vec![
        number(0x0000, remaining(c) >> 20),
        number(0x0001, f.capacity >> 20),
        number(0x0002, s.alerts),
        number(0x0003, f.load_count),
        number(0x0004, 1 << 18), // memory left for attributes
        own(0x0006, BINARY, vec![DENSITY]),
        own(0x0400, ASCII, text("NTBAK", 8)),
        own(0x0401, ASCII, text(&f.serial, 32)),
        own(0x0408, BINARY, vec![0]), // data cartridge
    ];
    v.extend(f.attributes.iter().map(|a| (false, a.clone())));
    if !f.barcode.is_empty() {
        let value = text(&f.barcode, 32);
        let barcode = Attribute {
            id: BARCODE,
            format: ASCII,
            value,
        };
        v.push((false, barcode));
    }
    v.sort_by_key(|(_, a)| a.id);
    v.dedup_by_key(|(_, a)| a.id);
    v
}

/// READ ATTRIBUTE: values, lists of attributes, volumes and partitions.
pub fn read(s: &mut State, cdb: &Cdb) -> Answer {
    s.medium()?;
    let allocation = u64::from(cdb.u32(10));
    let action = cdb.service_action();
    let one_of_one = |first| Ok(cut(vec![0, 2, first, 1], allocation));
    match action {
        0x02 => return one_of_one(0), // logical volumes
        0x03 => return one_of_one(0), // partitions
        _ => {}
    }
    if cdb.u8(5) != 0 || cdb.u8(7) != 0 {
        return Err(invalid_field(if cdb.u8(5) != 0 { 5 } else { 7 }));
    }
    let Some(c) = s.loaded() else {
        return Ok(Reply::good());
    };
    let known = all(s, c);
    let mut d = vec![0; 4];
    if action == 0x05 {
        // Those that can be there.
        let mut ids: Vec<u16> = known.iter().map(|(_, a)| a.id).collect();
        ids.extend(OF_HOSTS.iter().map(|(id, ..)| *id));
        ids.sort_unstable();
        ids.dedup();
        d.extend(ids.iter().flat_map(|id| id.to_be_bytes()));
    } else {
        let first = cdb.u16(8);
        if !known.iter().any(|(_, a)| a.id == first) {
            return Err(invalid_field(8));
        }
        for (read_only, a) in known.iter().filter(|(_, a)| a.id >= first) {
            d.extend_from_slice(&a.id.to_be_bytes());
            if action == 0x00 {
                d.push(u8::from(*read_only) << 7 | a.format);
                d.extend_from_slice(&(a.value.len() as u16).to_be_bytes());
                d.extend_from_slice(&a.value);
            }
        }
    }
    let length = d.len() as u64 - 4;
    put(&mut d, 0, 4, length);
    Ok(cut(d, allocation))
}

/// WRITE ATTRIBUTE: all of the list, or nothing.
pub fn write(s: &mut State, cdb: &Cdb, data: &[u8]) -> Answer {
    s.writable()?;
    if cdb.u8(5) != 0 || cdb.u8(7) != 0 {
        return Err(invalid_field(if cdb.u8(5) != 0 { 5 } else { 7 }));
    }
    let length = cdb.u32(10) as usize;
    if length == 0 {
        return Ok(Reply::good());
    }
    let list = data.get(..length).ok_or_else(list_length)?;
    let list = list
        .get(..4 + be(list, 0, 4) as usize)
        .filter(|l| l.len() >= 4)
        .ok_or_else(list_length)?;
    let changes = parse(list)?;
    let c = s.writable()?;
    let mut facts = c.facts().clone();
    for (at, id, format, value) in &changes {
        if *id == BARCODE {
            facts.barcode = String::from_utf8_lossy(value).trim_end().to_owned();
        } else if !facts.set_attribute(*id, *format, value) {
            return Err(invalid_parameter(*at));
        }
    }
    match c.change_facts(|f| *f = facts) {
        Ok(()) => Ok(Reply::good()),
        Err(e) => Err(s.write_failed(&e).into()),
    }
}

/// Offset in the list, id, format, value.
type Change<'a> = (usize, u16, u8, &'a [u8]);

fn parse(list: &[u8]) -> Result<Vec<Change<'_>>, Refusal> {
    let mut out = Vec::new();
    let mut at = 4;
    while at < list.len() {
        let id = be(list, at, 2) as u16;
        let format = byte(list, at + 2) & 0x03;
        let n = be(list, at + 3, 2) as usize;
        let value = list.get(at + 5..at + 5 + n).ok_or_else(list_length)?;
        let known = OF_HOSTS.iter().find(|(known, ..)| *known == id);
        let most = match (known, id) {
            (Some((_, f, _)), _) if *f != format && n > 0 => {
                return Err(invalid_parameter(at + 2));
            }
            (Some((_, _, most)), _) => *most,
            (None, 0x1400..=0x17ff) => 1024, // vendor's, of hosts
            _ => return Err(invalid_parameter(at)),
        };
        if format == 3 || n > most {
            return Err(invalid_parameter(at + 3));
        }
        if format == ASCII && !value.iter().all(|b| (0x20..0x7f).contains(b)) {
            return Err(Refusal::sense(SenseKey::IllegalRequest, 0x26, 0x02));
        }
        out.push((at, id, format, value));
        at += 5 + n;
    }
    Ok(out)
}
