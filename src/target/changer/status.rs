//! READ ELEMENT STATUS.

use super::super::common::{Answer, Cdb, cut, invalid_field, lock, put, text};
use super::{Changer, FIRST_DRIVE, FIRST_SLOT, Inventory, ROBOT};

/// Element types.
const TRANSPORT: u8 = 1;
const STORAGE: u8 = 2;
const DRIVE: u8 = 4;

/// Bits of an element descriptor.
const FULL: u8 = 0x01;
const ACCESS: u8 = 0x08;

/// One element as it is told.
struct Told {
    address: u16,
    flags: u8,
    barcode: Option<String>,
    source: Option<u16>,
    designator: Option<[u8; 16]>,
}

/// READ ELEMENT STATUS.
pub fn read(changer: &Changer, cdb: &Cdb) -> Answer {
    let (tags, kind) = (cdb.bit(1, 0x10), cdb.u8(1) & 0x0f);
    let (start, most) = (cdb.u16(2), usize::from(cdb.u16(4)));
    let (ids, allocation) = (cdb.bit(6, 0x01), u64::from(cdb.u24(7)));
    if kind > DRIVE {
        return Err(invalid_field(1));
    }
    let inventory = lock(&changer.inventory);
    let mut left = most;
    let mut pages = Vec::new();
    let (mut first, mut count) = (None, 0);
    // In the order of their addresses.
    for of in [TRANSPORT, DRIVE, STORAGE] {
        if kind != 0 && kind != of {
            continue;
        }
        let elements: Vec<Told> = told(changer, &inventory, of)
            .into_iter()
            .filter(|t| t.address >= start)
            .take(left)
            .collect();
        let Some(head) = elements.first() else {
            continue;
        };
        first.get_or_insert(head.address);
        left -= elements.len();
        count += elements.len();
        let descriptors: Vec<Vec<u8>> = elements
            .iter()
            .map(|e| descriptor(e, tags, ids && of == DRIVE))
            .collect();
        let one = descriptors.first().map_or(0, Vec::len);
        let mut page = vec![0; 8];
        put(&mut page, 0, 1, of.into());
        put(&mut page, 1, 1, u64::from(tags) << 7);
        put(&mut page, 2, 2, one as u64);
        put(&mut page, 5, 3, (one * descriptors.len()) as u64);
        page.extend(descriptors.concat());
        pages.extend(page);
    }
    let mut d = vec![0; 8];
    put(&mut d, 0, 2, first.unwrap_or(0).into());
    put(&mut d, 2, 2, count as u64);
    put(&mut d, 5, 3, pages.len() as u64);
    d.extend(pages);
    Ok(cut(d, allocation))
}

fn access(full: bool) -> u8 {
    match full {
        true => ACCESS | FULL,
        false => ACCESS,
    }
}

fn told(changer: &Changer, inventory: &Inventory, kind: u8) -> Vec<Told> {
    match kind {
        TRANSPORT => vec![Told {
            address: ROBOT,
            flags: 0,
            barcode: None,
            source: None,
            designator: None,
        }],
        DRIVE => (FIRST_DRIVE..)
            .zip(&changer.bays)
            .zip(&inventory.home)
            .map(|((address, bay), home)| Told {
                address,
                flags: access(bay.drive.is_full()),
                barcode: bay.drive.barcode(),
                source: home.map(|slot| FIRST_SLOT + slot as u16),
                designator: Some(*bay.identity.naa()),
            })
            .collect(),
        _ => (0..inventory.magazine.len())
            .zip(FIRST_SLOT..)
            .map(|(i, address)| {
                let volume = inventory.magazine.at(i);
                Told {
                    address,
                    flags: access(volume.is_some()),
                    barcode: volume.map(|v| v.barcode().to_owned()),
                    source: None,
                    designator: None,
                }
            })
            .collect(),
    }
}

fn descriptor(e: &Told, tags: bool, ids: bool) -> Vec<u8> {
    let mut d = vec![0; 12];
    put(&mut d, 0, 2, e.address.into());
    put(&mut d, 2, 1, e.flags.into());
    if let Some(source) = e.source {
        put(&mut d, 9, 1, 0x80); // SVALID
        put(&mut d, 10, 2, source.into());
    }
    if tags {
        // Primary volume tag: 32 characters, 2 reserved, sequence number 0.
        match &e.barcode {
            Some(b) => d.extend(text(b, 32)),
            None => d.extend([0; 32]),
        }
        d.extend([0; 4]);
    }
    match e.designator.filter(|_| ids) {
        // Binary, NAA.
        Some(naa) => {
            d.extend([1, 3, 0, 16]);
            d.extend(naa);
        }
        None => d.extend([0; 4]),
    }
    d
}
