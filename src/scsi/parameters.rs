//! MODE SENSE and SELECT, LOG SENSE.

use super::inquiry::array;
use super::unit::{SHORT, Unit, field};
use super::{Data, op};
use crate::error::Result;

/// What MODE SENSE gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModeData {
    /// MEDIUM TYPE.
    pub medium_type: u8,
    /// DEVICE-SPECIFIC PARAMETER.
    pub device_specific: u8,
    /// The first block descriptor (8 bytes), if there is one.
    pub block_descriptor: Option<[u8; 8]>,
    /// The pages, in order.
    pub pages: Vec<ModePage>,
}

/// A mode page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModePage {
    /// Its code.
    pub page: u8,
    /// Subpage code; 0 for pages in the short form.
    pub subpage: u8,
    /// What follows its header.
    pub body: Vec<u8>,
}

impl ModeData {
    /// WP: the medium is write protected.
    pub fn write_protected(&self) -> bool {
        self.device_specific & 0x80 != 0
    }

    /// BLOCK LENGTH of the block descriptor; 0 on a tape is variable.
    pub fn block_len(&self) -> Option<u32> {
        let [_, _, _, _, _, a, b, c] = self.block_descriptor?;
        Some(u32::from_be_bytes([0, a, b, c]))
    }

    /// The body of a page.
    pub fn page(&self, page: u8, subpage: u8) -> Option<&[u8]> {
        let found = |p: &&ModePage| p.page == page && p.subpage == subpage;
        self.pages.iter().find(found).map(|p| p.body.as_slice())
    }

    /// From a reply to MODE SENSE(10) (`ten`) or (6). Ends at what does not fit.
    pub fn parse(b: &[u8], ten: bool) -> Option<Self> {
        let (stated, head, descriptors) = match ten {
            true => {
                let h: [u8; 8] = array(b, 0)?;
                let stated = usize::from(u16::from_be_bytes([h[0], h[1]])) + 2;
                (
                    stated,
                    [h[2], h[3]],
                    usize::from(u16::from_be_bytes([h[6], h[7]])),
                )
            }
            false => {
                let h: [u8; 4] = array(b, 0)?;
                (usize::from(h[0]) + 1, [h[1], h[2]], usize::from(h[3]))
            }
        };
        let first = if ten { 8 } else { 4 };
        let b = b.get(..stated).unwrap_or(b);
        let mut pages = Vec::new();
        let mut rest = b.get(first + descriptors..).unwrap_or_default();
        while let Some(code) = rest.first() {
            let (head_len, subpage, len) = match code & 0x40 != 0 {
                true => match array::<4>(rest, 0) {
                    Some([_, s, h, l]) => (4, s, usize::from(u16::from_be_bytes([h, l]))),
                    None => break,
                },
                false => match rest.get(1) {
                    Some(l) => (2, 0, usize::from(*l)),
                    None => break,
                },
            };
            let Some(body) = rest.get(head_len..head_len + len) else {
                break;
            };
            pages.push(ModePage {
                page: code & 0x3f,
                subpage,
                body: body.to_vec(),
            });
            rest = rest.get(head_len + len..).unwrap_or_default();
        }
        Some(Self {
            medium_type: head[0],
            device_specific: head[1],
            block_descriptor: array(b, first).filter(|_| descriptors >= 8),
            pages,
        })
    }

    /// As the parameter list of MODE SELECT(10) (`ten`) or (6). WP is not sent.
    pub fn encode(&self, ten: bool) -> Vec<u8> {
        let device_specific = self.device_specific & 0x7f;
        let descriptor = self
            .block_descriptor
            .as_ref()
            .map_or(&[][..], |d| d.as_slice());
        let len = descriptor.len() as u8;
        let mut out = match ten {
            true => vec![0, 0, self.medium_type, device_specific, 0, 0, 0, len],
            false => vec![0, self.medium_type, device_specific, len],
        };
        out.extend(descriptor);
        for p in &self.pages {
            let len = (p.body.len() as u16).to_be_bytes();
            match p.subpage {
                0 => out.extend([p.page & 0x3f, len[1]]),
                s => out.extend([p.page & 0x3f | 0x40, s, len[0], len[1]]),
            }
            out.extend(&p.body);
        }
        out
    }
}

/// A log parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogParameter {
    /// Its code.
    pub code: u16,
    /// Control byte.
    pub control: u8,
    /// Its value.
    pub value: Vec<u8>,
}

impl LogParameter {
    /// The value as a number, if it has at most 8 bytes.
    pub fn number(&self) -> Option<u64> {
        let fits = (1..=8).contains(&self.value.len());
        fits.then(|| self.value.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    /// All parameters of a page with its header. Ends at what does not fit.
    pub fn parse_all(page: &[u8]) -> Vec<Self> {
        let mut out = Vec::new();
        let mut rest = super::inquiry::vpd_body(page);
        while let Some((head, behind)) = rest.split_first_chunk::<4>() {
            let len = usize::from(head[3]);
            let Some(value) = behind.get(..len) else {
                break;
            };
            rest = behind.get(len..).unwrap_or_default();
            out.push(Self {
                code: u16::from_be_bytes([head[0], head[1]]),
                control: head[2],
                value: value.to_vec(),
            });
        }
        out
    }
}

/// Counters of log page 19h: what every host together did to the unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Read commands.
    pub reads: u64,
    /// Write commands.
    pub writes: u64,
    /// Logical blocks that came in.
    pub blocks_in: u64,
    /// Logical blocks that went out.
    pub blocks_out: u64,
}

impl Activity {
    /// From the value of parameter 0001h.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let at = |n| array(value, n).map(u64::from_be_bytes);
        Some(Self {
            reads: at(0)?,
            writes: at(8)?,
            blocks_in: at(16)?,
            blocks_out: at(24)?,
        })
    }
}

impl Unit {
    /// MODE SENSE, current values, with block descriptor. (10), or (6) where the
    /// unit does not know it.
    pub fn mode_sense(&self, page: u8, subpage: u8) -> Result<ModeData> {
        let cdb = [
            op::MODE_SENSE_10,
            0,
            page & 0x3f,
            subpage,
            0,
            0,
            0,
            0x10,
            0,
            0,
        ];
        let what = "MODE SENSE";
        let data = match self.optional(self.read_in(what, &cdb, 0x1000))? {
            Some(b) => {
                let _: [u8; 8] = field(self, what, &b, 0)?;
                ModeData::parse(&b, true)
            }
            None => {
                let cdb = [op::MODE_SENSE_6, 0, page & 0x3f, subpage, 255, 0];
                let b = self.read_in(what, &cdb, 255)?;
                let _: [u8; 4] = field(self, what, &b, 0)?;
                ModeData::parse(&b, false)
            }
        };
        Ok(data.unwrap_or_default())
    }

    /// MODE SELECT (PF set, not saved). (6) where it fits, since every unit knows
    /// that; else (10).
    pub fn mode_select(&self, data: &ModeData) -> Result<()> {
        let list = data.encode(false);
        match u8::try_from(list.len()) {
            Ok(len) => {
                let cdb = [op::MODE_SELECT_6, 0x10, 0, 0, len, 0];
                self.write_out("MODE SELECT", &cdb, &list, SHORT)
            }
            Err(_) => {
                let list = data.encode(true);
                let [high, low] = (list.len() as u16).to_be_bytes();
                let cdb = [op::MODE_SELECT_10, 0x10, 0, 0, 0, 0, 0, high, low, 0];
                self.write_out("MODE SELECT", &cdb, &list, SHORT)
            }
        }
    }

    /// LOG SENSE, cumulative values of a page.
    pub fn log_sense(&self, page: u8, subpage: u8) -> Result<Vec<LogParameter>> {
        let mut buf = vec![0; 0x4000];
        let cdb = [
            op::LOG_SENSE,
            0,
            0x40 | page & 0x3f,
            subpage,
            0,
            0,
            0,
            0x40,
            0,
            0,
        ];
        let what = format!("LOG SENSE page {page:02X}h");
        let done = self.run(&what, &cdb, Data::In(&mut buf), SHORT)?;
        buf.truncate(done.transferred);
        Ok(LogParameter::parse_all(&buf))
    }

    /// Counters of commands and blocks (page 19h); none when the unit keeps none.
    pub fn activity(&self) -> Result<Option<Activity>> {
        let parameters = self.optional(self.log_sense(0x19, 0))?.unwrap_or_default();
        let first = parameters.iter().find(|p| p.code == 1);
        Ok(first.and_then(|p| Activity::parse(&p.value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scsi::double::{Double, Reply};
    use crate::scsi::{Sense, SenseKey};
    use proptest::prelude::*;

    fn data() -> ModeData {
        ModeData {
            medium_type: 3,
            device_specific: 0x10,
            block_descriptor: Some([0x46, 0, 0, 0, 0, 0, 2, 0]),
            pages: vec![
                ModePage {
                    page: 0x0f,
                    subpage: 0,
                    body: vec![0x80, 1, 2],
                },
                ModePage {
                    page: 0x10,
                    subpage: 1,
                    body: vec![9; 28],
                },
            ],
        }
    }

    #[test]
    fn mode_data_in_both_forms() {
        for ten in [true, false] {
            let mut b = data().encode(ten);
            match ten {
                true => b[1] = b.len() as u8 - 2,
                false => b[0] = b.len() as u8 - 1,
            }
            let back = ModeData::parse(&b, ten).unwrap();
            assert_eq!(back, data());
            assert_eq!(back.block_len(), Some(512));
            assert_eq!(back.page(0x10, 1), Some(&[9; 28][..]));
            assert!(!back.write_protected());
        }
    }

    #[test]
    fn the_short_form_where_the_long_one_is_unknown() {
        let double = Double::new("u");
        let no = Sense::new(SenseKey::IllegalRequest, 0x20, 0);
        double.expect(&[0x5a, 0, 0x3f, 0, 0, 0, 0, 0x10, 0, 0], Reply::check(no));
        double.expect(&[0x1a, 0, 0x3f, 0, 255, 0], Reply::data([3, 0, 0x90, 0]));
        let m = Unit::new(double).mode_sense(0x3f, 0).unwrap();
        assert!(m.write_protected() && m.pages.is_empty() && m.block_len().is_none());
    }

    #[test]
    fn counters_of_page_19() {
        let mut page = vec![0x19, 0, 0, 4 + 64, 0, 1, 3, 64];
        for n in 1u64..=8 {
            page.extend((n << 40).to_be_bytes());
        }
        let double = Double::new("u");
        double.expect(&[0x4d, 0, 0x59, 0, 0, 0, 0, 0x40, 0, 0], Reply::data(page));
        let a = Unit::new(double).activity().unwrap().unwrap();
        assert_eq!(
            (a.reads, a.writes, a.blocks_in, a.blocks_out),
            (1 << 40, 2 << 40, 3 << 40, 4 << 40)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(b in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (ModeData::parse(&b, true), ModeData::parse(&b, false));
            let _ = Activity::parse(&b);
            for p in LogParameter::parse_all(&b) {
                let _ = p.number();
            }
        }
    }
}
