//! INQUIRY and the vital product data pages that say who a unit is.

use super::op;
use super::unit::{Unit, field};
use crate::error::{Error, Result};

/// Room for a vital product data page.
const PAGE: u16 = 4096;

/// Peripheral device types that matter here.
pub mod device_type {
    /// Disk.
    pub const DISK: u8 = 0x00;
    /// Tape.
    pub const TAPE: u8 = 0x01;
    /// Processor.
    pub const PROCESSOR: u8 = 0x03;
    /// Medium changer.
    pub const CHANGER: u8 = 0x08;
    /// Storage array controller.
    pub const CONTROLLER: u8 = 0x0c;

    /// In words.
    pub fn name(code: u8) -> &'static str {
        match code {
            DISK => "disk",
            TAPE => "tape",
            PROCESSOR => "processor",
            0x05 => "CD or DVD",
            CHANGER => "medium changer",
            CONTROLLER => "controller",
            0x0d => "enclosure",
            0x0e => "simplified disk",
            0x11 => "object storage",
            0x14 => "zoned disk",
            0x1e => "well known unit",
            0x1f => "no device",
            _ => "other device",
        }
    }
}

/// Standard INQUIRY data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// Peripheral device type.
    pub device_type: u8,
    /// Peripheral qualifier: 0 is a unit that is there.
    pub qualifier: u8,
    /// The medium can be taken out.
    pub removable: bool,
    /// Version: 4 is SPC-2, 5 SPC-3, 6 SPC-4.
    pub version: u8,
    /// 3PC: the unit takes copy commands.
    pub third_party_copy: bool,
    /// Maker.
    pub vendor: String,
    /// Model.
    pub product: String,
    /// Revision.
    pub revision: String,
}

impl Inquiry {
    /// From the bytes of the reply.
    pub fn parse(b: &[u8]) -> Option<Self> {
        let head: &[u8; 5] = b.first_chunk()?;
        // What lies behind the stated length is not part of the reply.
        let b = b.get(..b.len().min(5 + usize::from(head[4])))?;
        Some(Self {
            device_type: head[0] & 0x1f,
            qualifier: head[0] >> 5,
            removable: head[1] & 0x80 != 0,
            version: head[2],
            third_party_copy: b.get(5).is_some_and(|f| f & 0x08 != 0),
            vendor: text(b, 8, 16),
            product: text(b, 16, 32),
            revision: text(b, 32, 36),
        })
    }
}

/// Printable ASCII of a field, without the spaces around it.
fn text(b: &[u8], from: usize, to: usize) -> String {
    let field = b.get(from..to.min(b.len())).unwrap_or_default();
    printable(field)
}

fn printable(b: &[u8]) -> String {
    let text: String = b
        .iter()
        .take_while(|c| **c != 0)
        .map(|c| match c {
            0x20..=0x7e => char::from(*c),
            _ => '?',
        })
        .collect();
    text.trim().to_owned()
}

/// One designation descriptor of VPD page 83h.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Designator {
    /// CODE SET: 1 binary, 2 ASCII, 3 UTF-8.
    pub code_set: u8,
    /// ASSOCIATION: 0 logical unit, 1 target port, 2 target device.
    pub association: u8,
    /// DESIGNATOR TYPE: 1 T10, 2 EUI-64, 3 NAA, 8 SCSI name.
    pub kind: u8,
    /// The designator itself.
    pub value: Vec<u8>,
}

impl Designator {
    /// NAA.
    pub const NAA: u8 = 3;
    /// EUI-64.
    pub const EUI64: u8 = 2;
    /// T10 vendor id.
    pub const T10: u8 = 1;
    /// Most bytes that an identification CSCD descriptor holds.
    pub const CSCD_MOST: usize = 20;

    /// All descriptors of a page 83h, header included. Ends at the first that
    /// does not fit.
    pub fn parse_all(page: &[u8]) -> Vec<Self> {
        let mut out = Vec::new();
        let mut rest = vpd_body(page);
        while let Some((head, behind)) = rest.split_first_chunk::<4>() {
            let len = usize::from(head[3]);
            let Some(value) = behind.get(..len) else {
                break;
            };
            rest = behind.get(len..).unwrap_or_default();
            out.push(Self {
                code_set: head[0] & 0x0f,
                association: head[1] >> 4 & 0x03,
                kind: head[1] & 0x0f,
                value: value.to_vec(),
            });
        }
        out
    }

    /// The one by which a copy manager is told of the unit: NAA before EUI-64
    /// before T10, the longer before the shorter, of the logical unit itself.
    pub fn for_cscd(all: &[Self]) -> Option<&Self> {
        let rank = |kind| match kind {
            Self::NAA => 3,
            Self::EUI64 => 2,
            Self::T10 => 1,
            _ => 0,
        };
        all.iter()
            .filter(|d| d.association == 0 && rank(d.kind) > 0)
            .filter(|d| (1..=Self::CSCD_MOST).contains(&d.value.len()))
            .max_by_key(|d| (rank(d.kind), d.value.len()))
    }

    /// The name of the port through which the page was read, as Fibre Channel has
    /// names: eight bytes of NAA.
    pub fn port_name(all: &[Self]) -> Option<u64> {
        all.iter()
            .filter(|d| d.association == 1 && d.kind == Self::NAA && d.code_set == 1)
            .find_map(|d| Some(u64::from_be_bytes(d.value.as_slice().try_into().ok()?)))
    }
}

impl std::fmt::Display for Designator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.kind {
            Self::NAA => "naa.",
            Self::EUI64 => "eui.",
            Self::T10 => "t10.",
            _ => "",
        })?;
        match self.code_set {
            2 | 3 => f.write_str(&printable(&self.value)),
            _ => self.value.iter().try_for_each(|b| write!(f, "{b:02x}")),
        }
    }
}

/// What a page holds behind its header, as long as it says.
pub(super) fn vpd_body(page: &[u8]) -> &[u8] {
    match page.split_first_chunk::<4>() {
        Some((h, body)) => {
            let len = usize::from(u16::from_be_bytes([h[2], h[3]]));
            body.get(..len).unwrap_or(body)
        }
        None => &[],
    }
}

/// VPD page B0h of a disk. 0 is "not stated" everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockLimits {
    /// Most blocks of COMPARE AND WRITE.
    pub max_compare_and_write: u8,
    /// Transfers should be multiples of so many blocks.
    pub optimal_granularity: u16,
    /// Most blocks that a command moves.
    pub max_transfer: u32,
    /// Blocks that are moved best.
    pub optimal_transfer: u32,
    /// Most blocks of an UNMAP; all ones: no limit.
    pub max_unmap: u32,
    /// Most descriptors of an UNMAP.
    pub max_unmap_descriptors: u32,
    /// UNMAP works in units of so many blocks.
    pub unmap_granularity: u32,
    /// Most blocks of a WRITE SAME.
    pub max_write_same: u64,
}

impl BlockLimits {
    /// From a page with its header; what is not there is not stated.
    pub fn parse(page: &[u8]) -> Self {
        // Offsets count from the first byte of the page.
        let end = 4 + vpd_body(page).len();
        let page = page.get(..end).unwrap_or(page);
        let u32_at = |at: usize| array::<4>(page, at).map_or(0, u32::from_be_bytes);
        Self {
            max_compare_and_write: page.get(5).copied().unwrap_or(0),
            optimal_granularity: array(page, 6).map_or(0, u16::from_be_bytes),
            max_transfer: u32_at(8),
            optimal_transfer: u32_at(12),
            max_unmap: u32_at(20),
            max_unmap_descriptors: u32_at(24),
            unmap_granularity: u32_at(28),
            max_write_same: array(page, 36).map_or(0, u64::from_be_bytes),
        }
    }
}

/// VPD page B2h: what thin provisioning offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Provisioning {
    /// UNMAP.
    pub unmap: bool,
    /// WRITE SAME(16) with UNMAP.
    pub write_same_16: bool,
    /// WRITE SAME(10) with UNMAP.
    pub write_same_10: bool,
    /// Unmapped blocks read as zeros (LBPRZ).
    pub reads_zeros: bool,
    /// PROVISIONING TYPE: 2 is thin.
    pub kind: u8,
}

impl Provisioning {
    /// From a page with its header.
    pub fn parse(page: &[u8]) -> Self {
        let body = vpd_body(page);
        let flags = body.get(1).copied().unwrap_or(0);
        Self {
            unmap: flags & 0x80 != 0,
            write_same_16: flags & 0x40 != 0,
            write_same_10: flags & 0x20 != 0,
            reads_zeros: flags & 0x04 != 0,
            kind: body.get(2).copied().unwrap_or(0) & 0x07,
        }
    }
}

/// VPD page B1h: what a disk is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Characteristics {
    /// Turns per minute; 1 does not turn, 0 not stated.
    pub rotation: u16,
}

impl Characteristics {
    /// From a page with its header.
    pub fn parse(page: &[u8]) -> Self {
        Self {
            rotation: array(vpd_body(page), 0).map_or(0, u16::from_be_bytes),
        }
    }
}

/// `N` bytes at an offset, if they are there.
pub(super) fn array<const N: usize>(b: &[u8], at: usize) -> Option<[u8; N]> {
    b.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Who a unit is, as far as it tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitIdentity {
    /// Standard INQUIRY data.
    pub inquiry: Inquiry,
    /// VPD page 80h.
    pub serial: Option<String>,
    /// VPD page 83h.
    pub designators: Vec<Designator>,
}

impl UnitIdentity {
    /// The designator for copy commands.
    pub fn for_cscd(&self) -> Option<&Designator> {
        Designator::for_cscd(&self.designators)
    }
}

impl Unit {
    /// INQUIRY.
    pub fn inquiry(&self) -> Result<Inquiry> {
        let reply = self.read_in("INQUIRY", &[op::INQUIRY, 0, 0, 0, 96, 0], 96)?;
        let _: [u8; 36] = field(self, "INQUIRY", &reply, 0)?;
        Inquiry::parse(&reply).ok_or_else(|| Error::damaged("INQUIRY gave nothing").of(self.name()))
    }

    /// A vital product data page with its header; an error also when the unit
    /// does not have it. A reply about another page is an error.
    pub fn vpd(&self, page: u8) -> Result<Vec<u8>> {
        let what = format!("INQUIRY page {page:02X}h");
        let [high, low] = PAGE.to_be_bytes();
        let cdb = [op::INQUIRY, 1, page, high, low, 0];
        let reply = self.read_in(&what, &cdb, PAGE.into())?;
        let head: [u8; 4] = field(self, &what, &reply, 0)?;
        match head[1] == page {
            true => Ok(reply),
            false => {
                Err(Error::damaged(format!("{what} gave page {:02X}h", head[1])).of(self.name()))
            }
        }
    }

    /// The pages of VPD page 00h. None when the unit has no such pages.
    pub fn vpd_pages(&self) -> Result<Vec<u8>> {
        Ok(self
            .optional(self.vpd(0))?
            .map(|p| vpd_body(&p).to_vec())
            .unwrap_or_default())
    }

    /// A page, or none when the unit refuses it.
    pub fn vpd_if_there(&self, page: u8) -> Result<Option<Vec<u8>>> {
        self.optional(self.vpd(page))
    }

    /// None when the unit said that it does not do this.
    pub(super) fn optional<T>(&self, r: Result<T>) -> Result<Option<T>> {
        match r {
            Ok(v) => Ok(Some(v)),
            Err(e) => match super::Failure::sense_behind(&e) {
                Some(s) if s.is_not_supported() => Ok(None),
                _ => Err(e),
            },
        }
    }

    /// VPD page 80h.
    pub fn serial(&self) -> Result<Option<String>> {
        let page = self.vpd_if_there(0x80)?;
        Ok(page
            .map(|p| printable(vpd_body(&p)))
            .filter(|s| !s.is_empty()))
    }

    /// VPD page 83h.
    pub fn designators(&self) -> Result<Vec<Designator>> {
        let page = self.vpd_if_there(0x83)?;
        Ok(page.map(|p| Designator::parse_all(&p)).unwrap_or_default())
    }

    /// VPD page B0h of a disk.
    pub fn block_limits(&self) -> Result<BlockLimits> {
        let page = self.vpd_if_there(0xb0)?;
        Ok(page.map(|p| BlockLimits::parse(&p)).unwrap_or_default())
    }

    /// VPD page B2h of a disk.
    pub fn provisioning(&self) -> Result<Provisioning> {
        let page = self.vpd_if_there(0xb2)?;
        Ok(page.map(|p| Provisioning::parse(&p)).unwrap_or_default())
    }

    /// VPD page B1h of a disk.
    pub fn characteristics(&self) -> Result<Characteristics> {
        let page = self.vpd_if_there(0xb1)?;
        Ok(page.map(|p| Characteristics::parse(&p)).unwrap_or_default())
    }

    /// INQUIRY and pages 80h and 83h.
    pub fn identity(&self) -> Result<UnitIdentity> {
        Ok(UnitIdentity {
            inquiry: self.inquiry()?,
            serial: self.serial()?,
            designators: self.designators()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scsi::Sense;
    use crate::scsi::double::{Double, Reply};
    use proptest::prelude::*;

    fn page(code: u8, body: &[u8]) -> Vec<u8> {
        let mut p = vec![0, code];
        p.extend((body.len() as u16).to_be_bytes());
        p.extend(body);
        p
    }

    #[test]
    fn the_best_designator_for_a_copy() {
        let mut body = vec![0x02, 0x01, 0, 12];
        body.extend(b"VENDOR  abcd");
        body.extend([0x01, 0x02, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
        body.extend([
            0x01, 0x03, 0, 8, 0x50, 1, 0x43, 0x80, 0x12, 0x34, 0x56, 0x78,
        ]);
        // Of the port, not of the unit.
        body.extend([0x61, 0x93, 0, 8, 0x50, 0, 0, 0, 0, 0, 0, 9]);
        let all = Designator::parse_all(&page(0x83, &body));
        assert_eq!(all.len(), 4);
        let best = Designator::for_cscd(&all).unwrap();
        assert_eq!(best.to_string(), "naa.5001438012345678");
        assert_eq!(Designator::port_name(&all), Some(0x5000_0000_0000_0009));
        assert_eq!(Designator::port_name(&all[..3]), None);
        assert_eq!(all[0].to_string(), "t10.VENDOR  abcd");
        // The same, cut off inside the third one.
        let cut = Designator::parse_all(&page(0x83, &body)[..40]);
        assert_eq!(Designator::for_cscd(&cut).unwrap().kind, Designator::EUI64);
    }

    #[test]
    fn identity_of_a_unit_with_and_without_pages() {
        let mut inq = vec![0x01, 0x80, 6, 2, 31, 0x08, 0, 0];
        inq.extend(b"NTBAK   VIRTUAL TAPE    0001");
        let cdb = |page: u8| [0x12, 1, page, 0x10, 0, 0];
        let double = Double::new("u");
        double.always(&[0x12, 0, 0, 0, 96, 0], Reply::data(inq));
        double.always(&cdb(0x80), Reply::data(page(0x80, b" SN1\0")));
        double.always(
            &cdb(0x83),
            Reply::check(Sense::invalid_field_in_cdb(2, None)),
        );
        let id = Unit::new(double).identity().unwrap();
        assert_eq!(id.inquiry.vendor, "NTBAK");
        assert_eq!(id.inquiry.product, "VIRTUAL TAPE");
        assert!(id.inquiry.removable && id.inquiry.third_party_copy);
        assert_eq!(id.serial.as_deref(), Some("SN1"));
        assert!(id.for_cscd().is_none());
    }

    #[test]
    fn a_page_that_was_not_asked_for_is_refused() {
        let double = Double::new("u");
        double.always(
            &[0x12, 1, 0xb0, 0x10, 0, 0],
            Reply::data(page(0, &[0, 0x83])),
        );
        assert!(Unit::new(double).block_limits().is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(b in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (Inquiry::parse(&b), BlockLimits::parse(&b), Provisioning::parse(&b));
            let _ = Characteristics::parse(&b);
            for d in Designator::parse_all(&b) {
                let _ = d.to_string();
            }
        }
    }
}
