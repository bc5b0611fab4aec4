//! The report of READ ELEMENT STATUS.

use crate::error::{Error, Result};

/// Bits of an element descriptor.
const FULL: u8 = 0x01;
const EXCEPT: u8 = 0x04;
/// SVALID, and INVERT beside it.
const SVALID: u8 = 0x80;
/// Bytes of a volume tag.
const TAG: usize = 36;

/// What an element is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementKind {
    /// The robot.
    Robot,
    /// A slot.
    Slot,
    /// Where people put cartridges in and out.
    Mailbox,
    /// A drive.
    Drive,
}

/// An element of a changer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its address.
    pub address: u16,
    /// What it is for.
    pub kind: ElementKind,
    /// True when a cartridge is in it.
    pub full: bool,
    /// True when something is wrong with it: what is told about it may be
    /// wrong too.
    pub exception: bool,
    /// Barcode of the cartridge.
    pub barcode: Option<String>,
    /// Slot that the cartridge came from.
    pub source: Option<u16>,
    /// Of a drive: the designator it has in its own VPD page 83h, or one with its
    /// serial number.
    pub designator: Vec<u8>,
}

fn bad(what: &str) -> Error {
    Error::damaged(format!("READ ELEMENT STATUS {what}"))
}

fn number(b: &[u8], at: usize, n: usize) -> Result<usize> {
    at.checked_add(n)
        .and_then(|end| b.get(at..end))
        .map(|b| b.iter().fold(0, |v, x| v << 8 | usize::from(*x)))
        .ok_or_else(|| bad("gave a report that ends too early"))
}

/// How long the whole report is, by its own header.
pub(super) fn whole_len(report: &[u8]) -> Result<usize> {
    Ok(8 + number(report, 5, 3)?)
}

/// All elements of a report.
pub(super) fn parse(report: &[u8]) -> Result<Vec<Element>> {
    let whole = whole_len(report)?.min(report.len());
    let mut rest = report.get(8..whole).unwrap_or_default();
    let mut out = Vec::new();
    while !rest.is_empty() {
        let (kind, flags) = (number(rest, 0, 1)?, number(rest, 1, 1)?);
        let (one, all) = (number(rest, 2, 2)?, number(rest, 5, 3)?);
        if one < 12 {
            return Err(bad("gave element descriptors shorter than 12 bytes"));
        }
        let page = rest
            .get(8..)
            .and_then(|r| r.get(..all))
            .ok_or_else(|| bad("gave a page that ends too early"))?;
        let kind = match kind {
            1 => Some(ElementKind::Robot),
            2 => Some(ElementKind::Slot),
            3 => Some(ElementKind::Mailbox),
            4 => Some(ElementKind::Drive),
            _ => None,
        };
        for d in page.chunks_exact(one) {
            if let Some(kind) = kind {
                out.push(element(d, kind, flags & 0x80 != 0, flags & 0x40 != 0)?);
            }
        }
        rest = rest.get(8 + all..).unwrap_or_default();
    }
    Ok(out)
}

fn element(d: &[u8], kind: ElementKind, primary: bool, alternate: bool) -> Result<Element> {
    let flags = number(d, 2, 1)? as u8;
    let mut at = 12;
    let mut barcode = None;
    if primary {
        barcode = d.get(at..at + 32).map(text).filter(|t| !t.is_empty());
        at += TAG;
    }
    if alternate {
        at += TAG;
    }
    // Code set, designator type, reserved, length; older changers stop here.
    let designator = match (d.get(at + 3), d.get(at + 4..)) {
        (Some(&n), Some(rest)) => rest.get(..usize::from(n)).unwrap_or(rest).to_vec(),
        _ => Vec::new(),
    };
    Ok(Element {
        address: number(d, 0, 2)? as u16,
        kind,
        full: flags & FULL != 0,
        exception: flags & EXCEPT != 0,
        barcode,
        source: match number(d, 9, 1)? as u8 & SVALID {
            0 => None,
            _ => Some(number(d, 10, 2)? as u16),
        },
        designator,
    })
}

/// Printable characters without the spaces around them.
fn text(b: &[u8]) -> String {
    b.iter()
        .map(|&c| char::from(c))
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .collect::<String>()
        .trim()
        .to_string()
}
