//! INQUIRY, REPORT LUNS, REQUEST SENSE.

use super::cdb::{put, text};
use super::identity::VENDOR;
use super::persistent::cut;
use super::refusal::{Answer, invalid_field};
use super::{Cdb, Unit};
use crate::scsi::{Sense, SenseKey};
use crate::target::lun::{Reply, Request};
use std::sync::Arc;

/// SAM-5, SPC-4, iSCSI.
const VERSIONS: [u16; 3] = [0x00a0, 0x0460, 0x0960];

/// INQUIRY with standard data or a vital product data page.
pub fn inquiry(unit: &Unit, cdb: &Cdb) -> Answer {
    let (page, allocation) = (cdb.u8(2), u64::from(cdb.u16(3)));
    let data = match cdb.bit(1, 0x01) {
        false if page != 0 => return Err(invalid_field(2)),
        false => standard(
            unit.device().peripheral_type(),
            unit.device().removable(),
            unit.third_party().is_some(),
            unit.device().product(),
            unit.device().versions(),
        ),
        true => vpd(unit, page).ok_or_else(|| invalid_field(2))?,
    };
    Ok(cut(data, allocation))
}

/// INQUIRY for a number without a unit: peripheral qualifier 3, type 1Fh.
pub fn nobody(cdb: &Cdb) -> Answer {
    if cdb.bit(1, 0x01) || cdb.u8(2) != 0 {
        return Err(invalid_field(2));
    }
    let data = standard(0x7f, false, false, "", &[]);
    Ok(cut(data, cdb.u16(3).into()))
}

fn standard(kind: u8, removable: bool, copies: bool, product: &str, versions: &[u16]) -> Vec<u8> {
    let mut d = vec![0; 96];
    put(&mut d, 0, 1, kind.into());
    put(&mut d, 1, 1, u64::from(removable) << 7);
    put(&mut d, 2, 1, 6); // SPC-4
    put(&mut d, 3, 1, 0x12); // HISUP, format 2
    put(&mut d, 4, 1, 91);
    put(&mut d, 5, 1, u64::from(copies) << 3); // 3PC
    put(&mut d, 7, 1, 0x02); // CMDQUE
    let words = [
        (8, text(VENDOR, 8)),
        (16, text(product, 16)),
        (32, text(env!("CARGO_PKG_VERSION"), 4)),
    ];
    for (at, word) in words {
        for (to, from) in d.iter_mut().skip(at).zip(word) {
            *to = from;
        }
    }
    for (i, v) in VERSIONS.iter().chain(versions).take(8).enumerate() {
        put(&mut d, 58 + 2 * i, 2, (*v).into());
    }
    d
}

fn vpd(unit: &Unit, page: u8) -> Option<Vec<u8>> {
    let copies = || unit.third_party().and_then(|t| t.vpd(unit));
    let body = match page {
        0x00 => {
            let mut pages = vec![0x00, 0x80, 0x83, 0x86];
            pages.extend(copies().map(|_| 0x8f));
            pages.extend_from_slice(unit.device().vpd_pages());
            pages.sort_unstable();
            pages
        }
        0x80 => unit.identity().serial().as_bytes().to_vec(),
        0x83 => unit.identity().designators(),
        0x86 => {
            let mut b = vec![0; 60];
            put(&mut b, 1, 1, 0x07); // HEADSUP, ORDSUP, SIMPSUP
            put(&mut b, 2, 1, 0x01); // V_SUP
            b
        }
        0x8f => copies()?,
        _ if unit.device().vpd_pages().contains(&page) => unit.device().vpd(unit, page)?,
        _ => return None,
    };
    let mut d = vec![unit.device().peripheral_type(), page, 0, 0];
    put(&mut d, 2, 2, body.len() as u64);
    d.extend_from_slice(&body);
    Some(d)
}

/// REPORT LUNS.
pub fn report_luns(units: &[Arc<Unit>], cdb: &Cdb) -> Answer {
    let shown = match cdb.u8(2) {
        0x00 | 0x02 => units,
        0x01 => &[], // well known units only
        _ => return Err(invalid_field(2)),
    };
    let mut d = vec![0; 8];
    put(&mut d, 0, 4, shown.len() as u64 * 8);
    for u in shown {
        d.extend_from_slice(&super::encode_lun(u.lun()).to_be_bytes());
    }
    Ok(cut(d, cdb.u32(6).into()))
}

/// REQUEST SENSE: a unit attention that waits, or what keeps the unit from being
/// ready, or nothing.
pub fn request_sense(unit: &Unit, cdb: &Cdb, request: &Request<'_>) -> Answer {
    let sense = unit
        .attentions()
        .take(request.nexus)
        .or_else(|| unit.device().ready().err())
        .unwrap_or_else(|| Sense::new(SenseKey::NoSense, 0, 0));
    Ok(sense_data(&sense, cdb))
}

/// Sense data as the data of REQUEST SENSE.
pub fn sense_data(sense: &Sense, cdb: &Cdb) -> Reply {
    let data = match cdb.bit(1, 0x01) {
        true => sense.encode_descriptor(),
        false => sense.encode_fixed(),
    };
    cut(data, cdb.u8(4).into())
}
