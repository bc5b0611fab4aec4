//! What a drive tells about itself and its cartridge without being moved.

use super::super::drive::{Capacity, Position};
use super::alert::TapeAlert;
use super::position::Form;
use super::{ScsiDrive, mode, unless_refused};
use crate::error::Result;
use crate::scsi::{Failure, Unit, op};

/// Room for the attributes of a cartridge's memory.
const ATTRIBUTES: u16 = 4096;
/// Attributes of the medium auxiliary memory.
const REMAINING: u16 = 0x0000;
const MAXIMUM: u16 = 0x0001;
const MAKER: u16 = 0x0400;
const SERIAL: u16 = 0x0401;
const TEXT: u16 = 0x0803;
const BARCODE: u16 = 0x0806;

/// Who a cartridge is, as far as its memory tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CartridgeTag {
    /// Maker.
    pub maker: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Bar code.
    pub barcode: Option<String>,
    /// Text label that a program gave it.
    pub text: Option<String>,
}

/// What a drive tells.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DriveStatus {
    /// Vendor and product.
    pub model: String,
    /// Serial number.
    pub serial: Option<String>,
    /// Revision of its firmware.
    pub revision: String,
    /// Why it is not ready; none: it is, with a cartridge in it.
    pub not_ready: Option<String>,
    /// The cartridge, where its memory can be read.
    pub cartridge: Option<CartridgeTag>,
    /// Write-protected.
    pub write_protected: Option<bool>,
    /// Block length it is set to; 0 is variable.
    pub block_bytes: Option<u32>,
    /// Where the cartridge stands.
    pub position: Option<DrivePosition>,
    /// Room.
    pub capacity: Option<Capacity>,
    /// TapeAlert flags that are set.
    pub alerts: Vec<TapeAlert>,
}

/// [`Position`] as told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DrivePosition {
    /// Objects before it.
    pub object: u64,
    /// Filemarks before it.
    pub file: Option<u64>,
    /// Behind early warning.
    pub early_warning: bool,
}

impl From<Position> for DrivePosition {
    fn from(p: Position) -> Self {
        Self {
            object: p.object,
            file: p.file,
            early_warning: p.early_warning,
        }
    }
}

/// Asks a drive what it is and how it is. Nothing is moved, set or held, so
/// that a job of another host is not disturbed; but a drive that was asked for
/// its TapeAlert flags may take them back.
pub fn status(unit: &Unit) -> Result<DriveStatus> {
    // It has to be a tape drive.
    let drive = ScsiDrive::open(unit.clone())?;
    let mut out = DriveStatus {
        model: drive.model.clone(),
        serial: drive.serial.clone(),
        revision: unit.inquiry()?.revision,
        not_ready: None,
        cartridge: None,
        write_protected: None,
        block_bytes: None,
        position: None,
        capacity: None,
        alerts: alerts(unit)?,
    };
    if let Err(e) = unit.test_ready() {
        let Some(s) = Failure::sense_behind(&e) else {
            return Err(e);
        };
        out.not_ready = Some(match s.is_no_medium() {
            true => "no cartridge".into(),
            false => s.to_string(),
        });
        return Ok(out);
    }
    if let Some(m) = mode(unit)? {
        out.write_protected = Some(m.write_protected());
        out.block_bytes = m.block_len();
    }
    for form in [Form::Long, Form::Extended, Form::Short] {
        out.position = form.ask(unit)?.map(Into::into);
        if out.position.is_some() {
            break;
        }
    }
    out.capacity = capacity(unit)?;
    out.cartridge = tag(unit)?;
    Ok(out)
}

fn alerts(unit: &Unit) -> Result<Vec<TapeAlert>> {
    let page = unless_refused(unit.log_sense(0x2e, 0))?.unwrap_or_default();
    Ok(page
        .iter()
        .filter(|p| p.value.first().is_some_and(|v| v & 1 != 0))
        .filter_map(|p| TapeAlert::of(p.code))
        .collect())
}

/// Log page 31h, or the cartridge's memory; both count in MiB.
pub(super) fn capacity(unit: &Unit) -> Result<Option<Capacity>> {
    let page = unless_refused(unit.log_sense(0x31, 0))?.unwrap_or_default();
    let told = |code| page.iter().find(|p| p.code == code)?.number();
    let made = |remaining: Option<u64>, maximum: Option<u64>| {
        Some(Capacity {
            remaining: remaining?.checked_mul(1 << 20)?,
            maximum: maximum?.checked_mul(1 << 20)?,
        })
    };
    if let Some(c) = made(told(1), told(3)) {
        return Ok(Some(c));
    }
    let read = |id| Ok(attribute(unit, id)?.and_then(|v| number(&v)));
    Ok(made(read(REMAINING)?, read(MAXIMUM)?))
}

fn tag(unit: &Unit) -> Result<Option<CartridgeTag>> {
    let read = |id| Ok(attribute(unit, id)?.and_then(|v| text(&v)));
    let tag = CartridgeTag {
        maker: read(MAKER)?,
        serial: read(SERIAL)?,
        barcode: read(BARCODE)?,
        text: read(TEXT)?,
    };
    Ok((tag != CartridgeTag::default()).then_some(tag))
}

/// READ ATTRIBUTE of partition 0; none where there is none.
fn attribute(unit: &Unit, id: u16) -> Result<Option<Vec<u8>>> {
    let [high, low] = id.to_be_bytes();
    let [more, less] = ATTRIBUTES.to_be_bytes();
    let cdb = [
        op::READ_ATTRIBUTE,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        high,
        low,
        0,
        0,
        more,
        less,
        0,
        0,
    ];
    let reply = unit.read_in("READ ATTRIBUTE", &cdb, ATTRIBUTES.into());
    Ok(unless_refused(reply)?.and_then(|b| find_attribute(&b, id).map(<[u8]>::to_vec)))
}

/// Walks a reply by its records.
pub(super) fn find_attribute(reply: &[u8], id: u16) -> Option<&[u8]> {
    let (len, list) = reply.split_first_chunk::<4>()?;
    let len = u32::from_be_bytes(*len) as usize;
    let mut rest = list.get(..len).unwrap_or(list);
    while let Some((h, behind)) = rest.split_first_chunk::<5>() {
        let len = usize::from(u16::from_be_bytes([h[3], h[4]]));
        let value = behind.get(..len)?;
        if u16::from_be_bytes([h[0], h[1]]) == id {
            return Some(value);
        }
        rest = behind.get(len..)?;
    }
    None
}

fn number(value: &[u8]) -> Option<u64> {
    (1..=8)
        .contains(&value.len())
        .then(|| value.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
}

fn text(value: &[u8]) -> Option<String> {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    let text = String::from_utf8_lossy(value.get(..end)?);
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
