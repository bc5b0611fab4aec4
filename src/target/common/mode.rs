//! MODE SENSE and MODE SELECT, (6) and (10): the frame around the pages, and the
//! pages that every unit has.

use super::cdb::{be, byte, put};
use super::device::ModePage;
use super::persistent::cut;
use super::refusal::{Answer, Refusal, invalid_field, invalid_parameter, list_length};
use super::{Cdb, Unit, attention};
use crate::scsi::SenseKey;
use crate::scsi::op::{MODE_SELECT_6, MODE_SENSE_6};
use crate::target::lun::{Reply, Request};
use std::sync::atomic::Ordering;

const ALL: u8 = 0x3f;
const ALL_SUBPAGES: u8 = 0xff;
/// Control mode page.
const CONTROL: u8 = 0x0a;
/// Bits of the control page that can be changed, as kept in the unit: D_SENSE
/// (byte 2 bit 2) and SWP (byte 4 bit 3).
pub const D_SENSE: u8 = 0x04;
/// See [`D_SENSE`].
pub const SWP: u8 = 0x08;

/// The pages of a unit, in the order of their codes.
fn pages(unit: &Unit) -> Vec<ModePage> {
    let mut all = unit.device().mode_pages();
    all.extend(unit.third_party().map_or_else(Vec::new, |t| t.mode_pages()));
    all.push(ModePage::fixed(0x02, vec![0; 14])); // disconnect-reconnect
    all.push(control(unit.control.load(Ordering::Relaxed)));
    all.push(ModePage::fixed(0x1c, vec![0; 10])); // informational exceptions
    all.sort_by_key(|p| (p.page, p.subpage));
    all
}

fn control(bits: u8) -> ModePage {
    let body = |bits: u8| {
        let mut b = vec![0; 10];
        put(&mut b, 0, 1, (bits & D_SENSE).into());
        put(&mut b, 1, 1, 0x10); // unrestricted reordering
        put(&mut b, 2, 1, (bits & SWP).into());
        b
    };
    let mut changeable = body(D_SENSE | SWP);
    put(&mut changeable, 1, 1, 0);
    ModePage {
        page: CONTROL,
        subpage: 0,
        current: body(bits),
        changeable,
        default: body(0),
    }
}

/// MODE SENSE.
pub fn sense(unit: &Unit, cdb: &Cdb) -> Answer {
    let short = cdb.opcode() == MODE_SENSE_6;
    let (page, subpage) = (cdb.u8(2) & 0x3f, cdb.u8(3));
    let chosen = |p: &ModePage| {
        (page == ALL || p.page == page) && (subpage == ALL_SUBPAGES || p.subpage == subpage)
    };
    let mut body = Vec::new();
    for p in pages(unit).into_iter().filter(chosen) {
        let values = match cdb.u8(2) >> 6 {
            0 => p.current,
            1 => p.changeable,
            2 => p.default,
            // SAVING PARAMETERS NOT SUPPORTED
            _ => return Err(Refusal::sense(SenseKey::IllegalRequest, 0x39, 0x00)),
        };
        match p.subpage {
            0 => body.extend_from_slice(&[p.page, values.len() as u8]),
            s => {
                body.extend_from_slice(&[p.page | 0x40, s]);
                body.extend_from_slice(&(values.len() as u16).to_be_bytes());
            }
        }
        body.extend_from_slice(&values);
    }
    // Page 00h is vendor specific; asking for it gives header and descriptor.
    if body.is_empty() && page != 0 {
        return Err(invalid_field(2));
    }
    let long = !short && cdb.bit(1, 0x10);
    let descriptor = match cdb.bit(1, 0x08) {
        true => Vec::new(),
        false => unit.device().block_descriptor(long),
    };
    let protected = unit.protected();
    let specific = unit.device().mode_header() & 0x7f | u8::from(protected) << 7;
    let mut d = vec![0; if short { 4 } else { 8 }];
    let total = d.len() + descriptor.len() + body.len();
    if short {
        put(&mut d, 0, 1, (total - 1).min(255) as u64);
        put(&mut d, 2, 1, specific.into());
        put(&mut d, 3, 1, descriptor.len() as u64);
    } else {
        put(&mut d, 0, 2, (total - 2) as u64);
        put(&mut d, 3, 1, specific.into());
        put(&mut d, 4, 1, (long && !descriptor.is_empty()).into());
        put(&mut d, 6, 2, descriptor.len() as u64);
    }
    d.extend_from_slice(&descriptor);
    d.extend_from_slice(&body);
    let allocation = match short {
        true => cdb.u8(4).into(),
        false => cdb.u16(7),
    };
    Ok(cut(d, allocation.into()))
}

/// MODE SELECT. Everything is looked at before anything is changed.
pub fn select(unit: &Unit, cdb: &Cdb, request: &Request<'_>) -> Answer {
    let short = cdb.opcode() == MODE_SELECT_6;
    let length = match short {
        true => usize::from(cdb.u8(4)),
        false => usize::from(cdb.u16(7)),
    };
    if cdb.bit(1, 0x01) || !cdb.bit(1, 0x10) {
        return Err(invalid_field(1)); // SP set, or not the page format
    }
    if length == 0 {
        return Ok(Reply::good());
    }
    let list = request.data_out.get(..length).ok_or_else(list_length)?;
    let (head, specific, long, descriptor) = match short {
        true => (4, byte(list, 2), false, be(list, 3, 1)),
        false => (8, byte(list, 3), byte(list, 4) & 1 != 0, be(list, 6, 2)),
    };
    let at = head + descriptor as usize;
    if list.len() < at {
        return Err(list_length());
    }
    let descriptor = list.get(head..at).filter(|d| !d.is_empty());
    if descriptor.is_some_and(|d| d.len() != if long { 16 } else { 8 }) {
        return Err(invalid_parameter(if short { 3 } else { 6 }));
    }
    let changes = changes(unit, list, at)?;
    unit.device()
        .select_header(specific & 0x7f, descriptor, false)?;
    unit.device()
        .select_header(specific & 0x7f, descriptor, true)?;
    for (page, body) in &changes {
        match (page.page, page.subpage) {
            (CONTROL, 0) => {
                let bits = byte(body, 0) & D_SENSE | byte(body, 2) & SWP;
                unit.control.store(bits, Ordering::Relaxed);
            }
            (p, s) => unit.device().set_mode_page(p, s, body)?,
        }
    }
    unit.attentions()
        .raise(attention::MODE_CHANGED, |n| n != request.nexus);
    Ok(Reply::good())
}

/// The pages of a list from `at` on that differ from what is set.
fn changes(unit: &Unit, list: &[u8], mut at: usize) -> Result<Vec<(ModePage, Vec<u8>)>, Refusal> {
    let known = pages(unit);
    let mut out = Vec::new();
    while at < list.len() {
        let first = byte(list, at);
        let (code, subpage, head, n) = match first & 0x40 != 0 {
            false => (first & 0x3f, 0, 2, be(list, at + 1, 1)),
            true => (first & 0x3f, byte(list, at + 1), 4, be(list, at + 2, 2)),
        };
        let page = known
            .iter()
            .find(|p| p.page == code && p.subpage == subpage)
            .ok_or_else(|| invalid_parameter(at))?;
        if n as usize != page.current.len() {
            return Err(invalid_parameter(at + head - 1));
        }
        let body = list
            .get(at + head..at + head + n as usize)
            .ok_or_else(list_length)?;
        let triples = body.iter().zip(&page.current).zip(&page.changeable);
        for (i, ((new, old), may)) in triples.enumerate() {
            if (new ^ old) & !may != 0 {
                return Err(invalid_parameter(at + head + i));
            }
        }
        if body != page.current {
            out.push((page.clone(), body.to_vec()));
        }
        at += head + body.len();
    }
    Ok(out)
}
