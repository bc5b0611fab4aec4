//! From what the user wrote to a logical unit.

use crate::copy::limits::cscd;
use crate::copy::{Address, Limits};
use crate::error::{Error, Result};
use crate::iscsi::{Initiator, Options, Traffic, Url, is_url};
use crate::observe::CancelFlag;
use crate::scsi::{Designator, OperatingParameters, SgIo, ThirdPartyCopy, Unit, device_type};
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
    /// Units of the kernel's.
    devices: Vec<Unit>,
    cancel: Option<Arc<CancelFlag>>,
}

impl Opener {
    /// Without a session yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Once the flag is set, lost connections are not waited for.
    pub fn with_cancel(mut self, cancel: Arc<CancelFlag>) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// Opens `iscsi://…`, `/dev/sgN`, `/dev/sdX`, `/dev/nstN` or `/dev/schN`.
    pub fn open(&mut self, text: &str) -> Result<Opened> {
        if !is_url(text) {
            let device = SgIo::open(Path::new(text))?;
            let block = device.block_device().map(Path::to_path_buf);
            let unit = Unit::new(Arc::new(device));
            self.devices.push(unit.clone());
            return Ok(Opened {
                unit,
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
                let options = Options {
                    cancel: self.cancel.clone(),
                    ..Options::default()
                };
                let initiator = Initiator::open(&url, &options)?;
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

    /// What went over all sessions, and to and from the kernel's units, together.
    pub fn traffic(&self) -> Traffic {
        let mut sum = Traffic::default();
        for (_, i) in &self.sessions {
            let t = i.traffic();
            sum.data_in += t.data_in;
            sum.data_out += t.data_out;
            sum.wire_in += t.wire_in;
            sum.wire_out += t.wire_out;
        }
        for unit in &self.devices {
            let (data_in, data_out) = unit.moved();
            sum.data_in += data_in;
            sum.data_out += data_out;
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

/// How a copy manager with these limits is told of a unit whose VPD page 83h holds
/// `all`: by a designator of its own (E4h), else by the name of its port and its
/// number there (E0h).
pub fn address(unit: &Unit, all: &[Designator], limits: &Limits) -> Result<Address> {
    let by_designator = limits.has(cscd::IDENTIFICATION);
    if by_designator && let Some(d) = Designator::for_cscd(all) {
        return Ok(Address::Identification {
            code_set: d.code_set,
            kind: d.kind,
            designator: d.value.clone(),
        });
    }
    if limits.has(cscd::FC_NAME) {
        if let (Some(lun), Some(name)) = (unit.lun(), Designator::port_name(all)) {
            return Ok(Address::FcName { lun, name });
        }
        return Err(Error::unsupported(
            "The copy manager wants the name of the unit's Fibre Channel port (E0h), which the unit does not give",
        )
        .of(unit.name()));
    }
    let text = match by_designator {
        true => "The unit has no designator by which a copy manager could find it",
        false => "The copy manager names units neither by designator (E4h) nor by port (E0h)",
    };
    Err(Error::unsupported(text).of(unit.name()))
}

/// The limits in operating parameters.
pub fn limits(p: &OperatingParameters) -> Limits {
    Limits {
        codes: p.codes.clone(),
        cscds: p.max_cscds.into(),
        segments: p.max_segments.into(),
        list_bytes: p.max_list_len.into(),
        segment_bytes: p.max_segment_len.into(),
        // No field says it.
        command_bytes: 0,
        inline_bytes: p.max_inline_len.into(),
        held_bytes: p.held_data_limit.into(),
        stream_transfer: p.max_stream_transfer.into(),
        data_granularity: p.data_granularity,
        inline_granularity: p.inline_granularity,
        held_granularity: p.held_granularity,
        concurrent: p.max_concurrent,
        total_concurrent: p.total_concurrent,
        no_list_id: p.no_list_id,
    }
}

/// The limits on VPD page 8Fh, for a copy manager that does not give its operating
/// parameters; none when the page does not say enough.
pub fn page_limits(p: &ThirdPartyCopy) -> Option<Limits> {
    let (lists, general) = (p.parameters?, p.general);
    let mut codes = p.descriptors.clone();
    codes.sort_unstable();
    let (held, held_granularity) = p.held_data.unwrap_or_default();
    Some(Limits {
        codes,
        cscds: lists.max_cscds.into(),
        segments: lists.max_segments.into(),
        list_bytes: lists.max_list_len.into(),
        segment_bytes: general.map_or(0, |g| g.max_segment_len.into()),
        command_bytes: 0,
        inline_bytes: lists.max_inline_len.into(),
        held_bytes: held.into(),
        stream_transfer: p.max_stream_transfer.unwrap_or(0).into(),
        data_granularity: general.map_or(0, |g| g.data_granularity),
        inline_granularity: general.map_or(0, |g| g.inline_granularity),
        held_granularity,
        concurrent: general.map_or(1, |g| g.max_concurrent.clamp(1, 255) as u8),
        total_concurrent: general.map_or(0, |g| g.total_concurrent.min(0xffff) as u16),
        no_list_id: false,
    })
}

/// The limits of a unit's copy manager; none when it has none. One that speaks
/// only the dialect of T10/99-143r1 is refused.
pub fn copy_limits(unit: &Unit) -> Result<Option<Limits>> {
    match unit.operating_parameters() {
        Ok(p) => return Ok(Some(limits(&p))),
        Err(e) if !refused(&e) => return Err(e),
        Err(_) => {}
    }
    if let Some(p) = unit.third_party_copy()?
        && let Some(l) = page_limits(&p)
    {
        return Ok(Some(l));
    }
    match unit.speaks_old_copy_dialect()? {
        true => Err(Error::unsupported(
            "The copy manager speaks the dialect of T10/99-143r1 only, which is another language",
        )
        .of(unit.name())
        .hint("switch the device to SPC-2 if it can, or move the data by the host")),
        false => Ok(None),
    }
}

/// True when the unit looked at the command and does not do it.
pub(super) fn refused(e: &Error) -> bool {
    crate::scsi::Failure::sense_behind(e).is_some_and(|s| s.is_not_supported())
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
