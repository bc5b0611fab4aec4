//! From what the user wrote to a logical unit.

use crate::error::{Error, Result};
use crate::iscsi::{Initiator, Options, Traffic, Url, is_url};
use crate::scsi::{SgIo, Unit, device_type};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A logical unit that was opened.
#[derive(Clone)]
pub struct Opened {
    /// The unit.
    pub unit: Unit,
    /// The block device that the kernel has of it.
    pub block: Option<PathBuf>,
    initiator: Option<Initiator>,
}

impl Opened {
    /// What went over its iSCSI session; none for a unit of the kernel's.
    pub fn traffic(&self) -> Option<Traffic> {
        self.initiator.as_ref().map(Initiator::traffic)
    }

    /// Refuses a disk that the kernel uses: mounted, swap, part of another
    /// device.
    pub fn check_unused(&self) -> Result<()> {
        match &self.block {
            Some(b) => crate::device::guard::System::read()?.check_target(b),
            None => Ok(()),
        }
    }

    /// Refuses a disk that something may write to, unless `live`.
    pub fn check_quiet(&self, live: bool) -> Result<()> {
        match &self.block {
            Some(b) => crate::device::guard::System::read()?
                .check_source(b, live)
                .map(drop),
            None => Ok(()),
        }
    }
}

/// Opens units; those of one target share a session, so that they see each other
/// in a copy and what went through the host is counted once.
#[derive(Default)]
pub struct Opener {
    sessions: Vec<(Url, Initiator)>,
}

impl Opener {
    /// Without a session yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens `iscsi://…`, `/dev/sgN`, `/dev/sdX`, `/dev/nstN` or `/dev/schN`.
    pub fn open(&mut self, text: &str) -> Result<Opened> {
        if !is_url(text) {
            let device = SgIo::open(Path::new(text))?;
            let block = device.block_device().map(Path::to_path_buf);
            return Ok(Opened {
                unit: Unit::new(Arc::new(device)),
                block,
                initiator: None,
            });
        }
        let url = Url::parse(text)?;
        let target = Url {
            lun: 0,
            ..url.clone()
        };
        let known = self.sessions.iter().find(|(u, _)| *u == target);
        let initiator = match (known, lun_number(url.lun)) {
            (Some((_, i)), Some(number)) => i.unit(number),
            _ => {
                let initiator = Initiator::open(&url, &Options::default())?;
                self.sessions.push((target, initiator.clone()));
                initiator
            }
        };
        Ok(Opened {
            unit: Unit::new(Arc::new(initiator.clone())),
            block: None,
            initiator: Some(initiator),
        })
    }

    /// What went over all sessions together.
    pub fn traffic(&self) -> Traffic {
        let mut sum = Traffic::default();
        for (_, i) in &self.sessions {
            let t = i.traffic();
            sum.data_in += t.data_in;
            sum.data_out += t.data_out;
            sum.wire_in += t.wire_in;
            sum.wire_out += t.wire_out;
        }
        sum
    }
}

/// Opens one unit.
pub fn open(text: &str) -> Result<Unit> {
    Ok(Opener::new().open(text)?.unit)
}

/// True for what names a logical unit and is not simply a file or a block device:
/// an iSCSI URL, or a character device such as `/dev/sg0` and `/dev/nst0`.
pub fn is_unit(text: &str) -> bool {
    is_url(text) || std::fs::metadata(text).is_ok_and(|m| m.file_type().is_char_device())
}

/// True when the unit is a tape drive.
pub fn is_tape(unit: &Unit) -> Result<bool> {
    let kind = unit.inquiry()?;
    match (kind.qualifier, kind.device_type) {
        (0, t) => Ok(t == device_type::TAPE),
        _ => Err(Error::not_found("There is no such logical unit").of(unit.name())),
    }
}

/// The number in the eight bytes of a logical unit number in its simple forms.
fn lun_number(lun: u64) -> Option<u16> {
    let high = (lun >> 48) as u16;
    let simple = lun & 0xffff_ffff_ffff == 0 && matches!(high >> 14, 0 | 1);
    let number = high & 0x3fff;
    (simple && (high >> 14 == 1 || number < 256)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_names_a_unit() {
        assert!(is_unit("iscsi://127.0.0.1/iqn.a:b/0") && is_unit("/dev/null"));
        assert!(!is_unit("disk.img") && !is_unit("/"));
        let e = open("/dev/null").err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Usage);
        assert_eq!(open("iscsi://").err().unwrap().kind(), ErrorKind::Usage);
    }

    #[test]
    fn numbers_of_units() {
        for n in [0, 1, 255, 256, 16383] {
            assert_eq!(lun_number(crate::iscsi::url::wire_lun(n)), Some(n));
        }
        assert_eq!(lun_number(1), None);
    }
}
