//! EXTENDED COPY(LID1) and RECEIVE COPY RESULTS: what goes with them, and what
//! comes back. Parameter lists are made elsewhere; here they are bytes.

use super::inquiry::{array, vpd_body};
use super::unit::{SHORT, Unit, field};
use super::{Data, Sense, Status, op};
use crate::error::{Error, Result};
use std::time::Duration;

/// Room for every answer about copies. One engine wants at least 54 bytes.
const ROOM: u32 = 4096;

fn u16_at(b: &[u8], at: usize) -> u16 {
    array(b, at).map_or(0, u16::from_be_bytes)
}
fn u32_at(b: &[u8], at: usize) -> u32 {
    array(b, at).map_or(0, u32::from_be_bytes)
}
fn u8_at(b: &[u8], at: usize) -> u8 {
    b.get(at).copied().unwrap_or(0)
}

/// Operating parameters (84h/03h): the limits of a copy manager.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatingParameters {
    /// SNLID: takes commands without a list id.
    pub no_list_id: bool,
    /// Most CSCD descriptors.
    pub max_cscds: u16,
    /// Most segment descriptors.
    pub max_segments: u16,
    /// Most bytes of CSCD and segment descriptors together, inline data apart.
    pub max_list_len: u32,
    /// Most bytes that a segment writes; 0 is no limit.
    pub max_segment_len: u32,
    /// Most bytes of inline data in a command.
    pub max_inline_len: u32,
    /// Most bytes held for RECEIVE DATA.
    pub held_data_limit: u32,
    /// Most bytes of one read or write of a stream device; 0 is no limit.
    pub max_stream_transfer: u32,
    /// Copies at a time, of all kinds.
    pub total_concurrent: u16,
    /// Copies at a time with a list id.
    pub max_concurrent: u8,
    /// Segments are multiples of 2 to this power.
    pub data_granularity: u8,
    /// The same of inline data.
    pub inline_granularity: u8,
    /// The same of held data.
    pub held_granularity: u8,
    /// Segment and CSCD types that are implemented.
    pub codes: Vec<u8>,
}

impl OperatingParameters {
    /// From the bytes of the reply; none when they end before the limits do.
    pub fn parse(b: &[u8]) -> Option<Self> {
        let b = available(b);
        let _: [u8; 40] = array(b, 0)?;
        let count = usize::from(u8_at(b, 43));
        let codes = b.get(44..).unwrap_or_default();
        Some(Self {
            no_list_id: u8_at(b, 4) & 1 != 0,
            max_cscds: u16_at(b, 8),
            max_segments: u16_at(b, 10),
            max_list_len: u32_at(b, 12),
            max_segment_len: u32_at(b, 16),
            max_inline_len: u32_at(b, 20),
            held_data_limit: u32_at(b, 24),
            max_stream_transfer: u32_at(b, 28),
            total_concurrent: u16_at(b, 34),
            max_concurrent: u8_at(b, 36),
            data_granularity: u8_at(b, 37),
            inline_granularity: u8_at(b, 38),
            held_granularity: u8_at(b, 39),
            codes: codes.get(..count).unwrap_or(codes).to_vec(),
        })
    }

    /// True when the code of a segment or CSCD descriptor is listed.
    pub fn has(&self, code: u8) -> bool {
        self.codes.contains(&code)
    }
}

/// As much as AVAILABLE DATA says, or as came: the field counts what follows it,
/// and some units count one byte too many.
fn available(b: &[u8]) -> &[u8] {
    let stated = 4usize.saturating_add(u32_at(b, 0) as usize);
    b.get(..stated).unwrap_or(b)
}

/// Where a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyState {
    /// It runs.
    Running,
    /// It ended well.
    Done,
    /// It ended with an error.
    Failed,
    /// Something the standard does not name.
    Other(u8),
}

/// COPY STATUS(LID1) (84h/00h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyStatus {
    /// Where it is.
    pub state: CopyState,
    /// Held data was thrown away.
    pub held_data_lost: bool,
    /// Segments processed, the present one included.
    pub segments: u16,
    /// Bytes written in order; none when it is counted in blocks.
    pub bytes: Option<u64>,
}

impl CopyStatus {
    /// From the bytes of the reply.
    pub fn parse(b: &[u8]) -> Option<Self> {
        let b: &[u8; 12] = b.first_chunk()?;
        let count = u64::from(u32_at(b, 8));
        Some(Self {
            state: match b[4] & 0x7f {
                0 => CopyState::Running,
                1 => CopyState::Done,
                2 => CopyState::Failed,
                n => CopyState::Other(n),
            },
            held_data_lost: b[4] & 0x80 != 0,
            segments: u16_at(b, 5),
            bytes: match b[7] {
                unit @ 0..=6 => count.checked_shl(10 * u32::from(unit)),
                _ => None,
            }
            .filter(|n| b[7] == 0 || n >> (10 * u32::from(b[7])) == count),
        })
    }
}

/// FAILED SEGMENT DETAILS(LID1) (84h/04h).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedSegment {
    /// Status that the EXTENDED COPY ended with.
    pub status: Status,
    /// Its sense data.
    pub sense: Option<Sense>,
}

impl FailedSegment {
    /// From the bytes of the reply; none when the unit has no such details.
    pub fn parse(b: &[u8]) -> Option<Self> {
        let b = available(b);
        let status = Status::of(*b.get(56)?);
        let sense = b.get(60..).unwrap_or_default();
        let len = usize::from(u16_at(b, 58));
        Some(Self {
            status,
            sense: Sense::decode(sense.get(..len).unwrap_or(sense)),
        })
    }
}

/// VPD page 8Fh: what a copy manager announces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThirdPartyCopy {
    /// Operation codes and their service actions (0001h).
    pub commands: Vec<(u8, Vec<u8>)>,
    /// Segment and CSCD types (0008h).
    pub descriptors: Vec<u8>,
    /// Special CSCD ids (000Ch).
    pub cscd_ids: Vec<u16>,
    /// Parameter data limits (0004h).
    pub parameters: Option<ParameterLimits>,
    /// General limits (8001h).
    pub general: Option<GeneralLimits>,
    /// Most bytes of one transfer of a stream device (9101h).
    pub max_stream_transfer: Option<u32>,
    /// Most bytes held, and the power of two they come in (C001h).
    pub held_data: Option<(u32, u8)>,
    /// Types of all descriptors on the page, in order.
    pub kinds: Vec<u16>,
}

/// What a parameter list may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterLimits {
    /// Most CSCD descriptors.
    pub max_cscds: u16,
    /// Most segment descriptors.
    pub max_segments: u16,
    /// Most bytes of both.
    pub max_list_len: u32,
    /// Most bytes of inline data.
    pub max_inline_len: u32,
}

/// What copies may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneralLimits {
    /// Copies at a time.
    pub total_concurrent: u32,
    /// Copies at a time with a list id.
    pub max_concurrent: u32,
    /// Most bytes that a segment writes.
    pub max_segment_len: u32,
    /// Segments are multiples of 2 to this power.
    pub data_granularity: u8,
    /// The same of inline data.
    pub inline_granularity: u8,
}

impl ThirdPartyCopy {
    /// From a page with its header. Ends at the first descriptor that does not
    /// fit; what is unknown is only listed in `kinds`.
    pub fn parse(page: &[u8]) -> Self {
        let mut out = Self::default();
        let mut rest = vpd_body(page);
        while let Some((head, behind)) = rest.split_first_chunk::<4>() {
            let kind = u16_at(head, 0);
            let len = usize::from(u16_at(head, 2));
            let Some(end) = 4usize.checked_add(len).filter(|e| *e <= rest.len()) else {
                break;
            };
            // Offsets count from the first byte of the descriptor.
            let d = rest.get(..end).unwrap_or_default();
            rest = behind.get(len..).unwrap_or_default();
            out.kinds.push(kind);
            match kind {
                0x0001 => out.commands = commands(d),
                0x0004 if d.len() >= 20 => {
                    out.parameters = Some(ParameterLimits {
                        max_cscds: u16_at(d, 8),
                        max_segments: u16_at(d, 10),
                        max_list_len: u32_at(d, 12),
                        max_inline_len: u32_at(d, 16),
                    });
                }
                0x0008 => {
                    let list = d.get(5..).unwrap_or_default();
                    let n = usize::from(u8_at(d, 4));
                    out.descriptors = list.get(..n).unwrap_or(list).to_vec();
                }
                0x000c => {
                    let list = d.get(6..).unwrap_or_default();
                    let list = list.get(..u16_at(d, 4).into()).unwrap_or(list);
                    let (ids, _) = list.as_chunks::<2>();
                    out.cscd_ids = ids.iter().map(|i| u16::from_be_bytes(*i)).collect();
                }
                0x8001 if d.len() >= 18 => {
                    out.general = Some(GeneralLimits {
                        total_concurrent: u32_at(d, 4),
                        max_concurrent: u32_at(d, 8),
                        max_segment_len: u32_at(d, 12),
                        data_granularity: u8_at(d, 16),
                        inline_granularity: u8_at(d, 17),
                    });
                }
                0x9101 if d.len() >= 8 => out.max_stream_transfer = Some(u32_at(d, 4)),
                0xc001 if d.len() >= 9 => out.held_data = Some((u32_at(d, 4), u8_at(d, 8))),
                _ => {}
            }
        }
        out
    }

    /// True when a command with this service action is listed.
    pub fn has_command(&self, opcode: u8, action: u8) -> bool {
        self.commands
            .iter()
            .any(|(o, a)| *o == opcode && a.contains(&action))
    }
}

fn commands(d: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let list = d.get(5..).unwrap_or_default();
    let mut list = list.get(..u8_at(d, 4).into()).unwrap_or(list);
    let mut out = Vec::new();
    while let Some(([opcode, n], behind)) = list.split_first_chunk::<2>() {
        let n = usize::from(*n).min(behind.len());
        let (actions, rest) = behind.split_at(n);
        out.push((*opcode, actions.to_vec()));
        list = rest;
    }
    out
}

fn receive(action: u8, list_id: u8, room: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = op::RECEIVE_COPY_RESULTS;
    cdb[1] = action;
    cdb[2] = list_id;
    cdb[10..14].copy_from_slice(&room.to_be_bytes());
    cdb
}

impl Unit {
    /// EXTENDED COPY(LID1) with a whole parameter list; returns when the copy has
    /// ended. What the copy manager says about a failure is behind the error.
    ///
    /// Where a tape takes part, send it by [`Unit::careful`]: a reset of the drive
    /// moves the tape.
    pub fn extended_copy(&self, list: &[u8], timeout: Duration) -> Result<()> {
        let len = u32::try_from(list.len())
            .ok()
            .filter(|_| list.len() <= self.max_transfer())
            .ok_or_else(|| {
                Error::usage(format!(
                    "Found a parameter list of {} bytes, expected at most {}",
                    list.len(),
                    self.max_transfer()
                ))
                .of(self.name())
            })?;
        let mut cdb = [0; 16];
        cdb[0] = op::EXTENDED_COPY;
        cdb[10..14].copy_from_slice(&len.to_be_bytes());
        self.write_out("EXTENDED COPY", &cdb, list, timeout)
    }

    /// Asks the copy manager to give up a copy (83h/1Ch).
    pub fn abort_copy(&self, list_id: u32) -> Result<()> {
        let mut cdb = [0; 16];
        cdb[0] = op::EXTENDED_COPY;
        cdb[1] = 0x1c;
        cdb[2..6].copy_from_slice(&list_id.to_be_bytes());
        self.run_plain("COPY OPERATION ABORT", &cdb, SHORT)
    }

    /// Where a copy is. After its end this can be asked once.
    pub fn copy_status(&self, list_id: u8) -> Result<CopyStatus> {
        let what = "COPY STATUS";
        let b = self.read_in(what, &receive(0x00, list_id, ROOM), ROOM as usize)?;
        let _: [u8; 12] = field(self, what, &b, 0)?;
        CopyStatus::parse(&b)
            .ok_or_else(|| Error::damaged("COPY STATUS gave nothing").of(self.name()))
    }

    /// Held data of a copy that has ended, at most `room` bytes.
    pub fn held_data(&self, list_id: u8, room: u32) -> Result<Vec<u8>> {
        let what = "RECEIVE DATA";
        let cdb = receive(0x01, list_id, room.saturating_add(4));
        let b = self.read_in(what, &cdb, (room as usize).saturating_add(4))?;
        let _: [u8; 4] = field(self, what, &b, 0)?;
        Ok(available(&b).get(4..).unwrap_or_default().to_vec())
    }

    /// The limits of the copy manager.
    pub fn operating_parameters(&self) -> Result<OperatingParameters> {
        let what = "RECEIVE COPY RESULTS (operating parameters)";
        let b = self.read_in(what, &receive(0x03, 0, ROOM), ROOM as usize)?;
        OperatingParameters::parse(&b).ok_or_else(|| {
            let found = b.len();
            Error::damaged(format!("{what} gave {found} bytes, expected 44 at least"))
                .of(self.name())
        })
    }

    /// Why a copy failed, if the copy manager still knows.
    pub fn failed_segment(&self, list_id: u8) -> Result<Option<FailedSegment>> {
        let what = "FAILED SEGMENT DETAILS";
        let b = self.read_in(what, &receive(0x04, list_id, ROOM), ROOM as usize)?;
        Ok(FailedSegment::parse(&b))
    }

    /// VPD page 8Fh, if there is one.
    pub fn third_party_copy(&self) -> Result<Option<ThirdPartyCopy>> {
        Ok(self.vpd_if_there(0x8f)?.map(|p| ThirdPartyCopy::parse(&p)))
    }

    /// True when the unit speaks the dialect of T10/99-143r1: its limits are in
    /// mode page 0Eh, and it does not know the operating parameters.
    pub fn speaks_old_copy_dialect(&self) -> Result<bool> {
        let mut buf = [0; 255];
        let cdb = [op::MODE_SENSE_6, 0x08, 0x0e, 0, 255, 0];
        let done = self.send(&cdb, Data::In(&mut buf), SHORT)?;
        let reply = buf.get(..done.transferred).unwrap_or_default();
        let page = 4 + usize::from(u8_at(reply, 3));
        Ok(super::unit::succeeded(&done) && u8_at(reply, page) & 0x3f == 0x0e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scsi::SenseKey;
    use crate::scsi::double::{Double, Reply};
    use proptest::prelude::*;

    /// What the Linux target answers.
    fn linux() -> Vec<u8> {
        let mut b = vec![0u8; 46];
        b[..20].copy_from_slice(&[
            0, 0, 0, 0x2a, 1, 0, 0, 0, 0, 2, 0, 1, 0, 0, 4, 0, 0x10, 0, 0, 0,
        ]);
        b[35..].copy_from_slice(&[1, 1, 9, 9, 9, 0, 0, 0, 2, 2, 0xe4]);
        b
    }

    #[test]
    fn operating_parameters_of_the_linux_target() {
        let double = Double::new("u");
        double.expect(&receive(3, 0, 4096), Reply::data(linux()));
        let p = Unit::new(double).operating_parameters().unwrap();
        let want = OperatingParameters {
            no_list_id: true,
            max_cscds: 2,
            max_segments: 1,
            max_list_len: 1024,
            max_segment_len: 268_435_456,
            total_concurrent: 1,
            max_concurrent: 1,
            data_granularity: 9,
            inline_granularity: 9,
            held_granularity: 9,
            codes: vec![2, 0xe4],
            ..OperatingParameters::default()
        };
        assert_eq!(p, want);
        assert!(p.has(0xe4) && !p.has(0));
        // More codes announced than sent.
        let mut more = linux();
        more[43] = 200;
        assert_eq!(OperatingParameters::parse(&more).unwrap().codes, [2, 0xe4]);
        assert_eq!(OperatingParameters::parse(&linux()[..39]), None);
    }

    #[test]
    fn status_counts_in_many_units() {
        let mut b = [0, 0, 0, 8, 0x80, 0, 3, 2, 0, 0, 0, 5];
        let s = CopyStatus::parse(&b).unwrap();
        assert_eq!(
            (s.state, s.segments, s.bytes),
            (CopyState::Running, 3, Some(5 << 20))
        );
        assert!(s.held_data_lost);
        b[7] = 0xf1;
        assert_eq!(CopyStatus::parse(&b).unwrap().bytes, None);
        (b[7], b[8]) = (6, 0xff);
        assert_eq!(CopyStatus::parse(&b).unwrap().bytes, None);
        assert_eq!(CopyStatus::parse(&b[..11]), None);
    }

    #[test]
    fn failed_segment_with_a_length_that_is_one_too_large() {
        let sense = Sense::copy_aborted(0x0d, 1, 4).encode_fixed();
        let mut b = vec![0; 60];
        b[3] = (57 + sense.len()) as u8;
        b[56] = 2;
        b[59] = sense.len() as u8;
        b.extend(&sense);
        let f = FailedSegment::parse(&b).unwrap();
        assert_eq!(f.status, Status::CheckCondition);
        assert_eq!(f.sense.unwrap().segment(), Some(4));
        assert_eq!(FailedSegment::parse(&[0; 4]), None);
    }

    #[test]
    fn page_8f_with_all_its_parts() {
        let mut p = vec![0, 0x8f, 0, 0];
        p.extend([0, 1, 0, 12, 10, 0x83, 2, 0, 0x1c, 0x84, 4, 0, 1, 3, 4, 0]);
        p.extend([0, 4, 0, 16, 0, 0, 0, 0, 0, 64, 4, 0, 0, 1, 0, 0, 0, 1, 0, 0]);
        p.extend([0, 8, 0, 4, 3, 0, 1, 0xe4]);
        p.extend([0, 0x0c, 0, 4, 0, 2, 0xff, 0xff]);
        p.extend([0x91, 1, 0, 4, 0, 0x7f, 0xff, 0xff]);
        p.extend([0xc0, 1, 0, 8, 0, 1, 0, 0, 2, 0, 0, 0]);
        let len = p.len() - 4;
        p[3] = len as u8;
        let t = ThirdPartyCopy::parse(&p);
        assert!(t.has_command(0x83, 0x1c) && t.has_command(0x84, 4));
        assert!(!t.has_command(0x83, 1));
        assert_eq!(t.descriptors, [0, 1, 0xe4]);
        assert_eq!(t.cscd_ids, [0xffff]);
        assert_eq!(t.parameters.unwrap().max_segments, 1024);
        assert_eq!(t.max_stream_transfer, Some(0x7f_ffff));
        assert_eq!(t.held_data, Some((65536, 2)));
        assert_eq!(t.kinds, [1, 4, 8, 0x0c, 0x9101, 0xc001]);
    }

    #[test]
    fn a_copy_goes_out_and_its_failure_is_kept() {
        let mut cdb = [0; 16];
        cdb[0] = 0x83;
        cdb[13] = 5;
        let double = Double::new("u");
        double.expect(&cdb, Reply::check(Sense::copy_aborted(0x26, 0x0a, 7)));
        let unit = Unit::new(double.clone());
        let e = unit.extended_copy(&[1, 2, 3, 4, 5], SHORT).unwrap_err();
        let sense = crate::scsi::Failure::sense_behind(&e).unwrap();
        assert_eq!(
            (sense.key, sense.segment()),
            (SenseKey::CopyAborted, Some(7))
        );
        assert_eq!(double.sent()[0].out, [1, 2, 3, 4, 5]);
        assert!(unit.extended_copy(&vec![0; 1 << 20], SHORT).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(b in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = (OperatingParameters::parse(&b), CopyStatus::parse(&b));
            let _ = (FailedSegment::parse(&b), ThirdPartyCopy::parse(&b));
        }
    }
}
