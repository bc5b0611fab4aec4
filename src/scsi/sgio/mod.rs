//! Linux SG_IO: commands to a unit that the kernel has.
//!
//! Here are the only calls without a check by the compiler beside the memory
//! map, each with its reason.

mod node;

use super::{Command, Completion, Data, Sense, Status, Transport};
use crate::error::{Error, Result};
use node::Kind;
use rustix::ioctl::{Opcode, Setter, Updater, ioctl};
use std::ffi::c_void;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const SG_IO: Opcode = 0x2285;
const SG_SCSI_RESET: Opcode = 0x2284;
/// Resets the unit, and does not go on to bus and host when that fails.
const RESET_UNIT_ONLY: i32 = 0x101;

const TO_NOWHERE: i32 = -1;
const TO_DEVICE: i32 = -2;
const FROM_DEVICE: i32 = -3;
/// Room for sense data.
const SENSE: usize = 252;
/// Alignment of buffers that every adapter takes.
const PAGE: usize = 4096;
/// Bytes of a transfer that every adapter takes.
const SAFE_TRANSFER: usize = 256 << 10;
const MOST_TRANSFER: usize = 4 << 20;

/// `struct sg_io_hdr`, version 3 of the interface.
#[repr(C)]
struct Header {
    interface_id: i32,
    dxfer_direction: i32,
    cmd_len: u8,
    mx_sb_len: u8,
    iovec_count: u16,
    dxfer_len: u32,
    dxferp: *mut c_void,
    cmdp: *const u8,
    sbp: *mut u8,
    timeout: u32,
    flags: u32,
    pack_id: i32,
    usr_ptr: *mut c_void,
    status: u8,
    masked_status: u8,
    msg_status: u8,
    sb_len_wr: u8,
    host_status: u16,
    driver_status: u16,
    resid: i32,
    duration: u32,
    info: u32,
}

// The kernel copies so many bytes.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Header>() == 88);
#[cfg(target_pointer_width = "32")]
const _: () = assert!(size_of::<Header>() == 64);

/// A unit of the kernel's.
pub struct SgIo {
    file: File,
    name: String,
    block: Option<PathBuf>,
    lun: Option<u64>,
    max_transfer: usize,
}

impl SgIo {
    /// Opens `/dev/sgN`, `/dev/sdX`, `/dev/nstN` or `/dev/schN`. A tape device
    /// that rewinds, and a partition, are refused.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let sys = Path::new("/sys");
        let node = node::resolve(path, Kind::of(path)?, sys, Path::new("/dev"))?;
        let open = |write: bool| {
            File::options()
                .read(true)
                .write(write)
                // Opening must not wait for a medium.
                .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
                .open(&node.open)
        };
        let file = open(true)
            .or_else(|e| match e.raw_os_error() {
                Some(n) if n == rustix::io::Errno::ROFS.raw_os_error() => open(false),
                _ => Err(e),
            })
            .map_err(|e| {
                let denied = e.kind() == std::io::ErrorKind::PermissionDenied;
                let what = format!("Cannot open {} for commands", node.open.display());
                let e = Error::io(what, e).of(&*name);
                match denied {
                    true => e.hint("SCSI commands need root, or membership of the device's group"),
                    false => e,
                }
            })?;
        let limit = node
            .block
            .as_deref()
            .and_then(|b| node::block_limit(b, sys));
        Ok(Self {
            file,
            name,
            block: node.block,
            lun: node.lun,
            max_transfer: limit.map_or(SAFE_TRANSFER, |n| n.clamp(PAGE, MOST_TRANSFER)),
        })
    }

    /// The block device that the kernel has of the same unit.
    pub fn block_device(&self) -> Option<&Path> {
        self.block.as_deref()
    }

    fn failed(&self, what: &str, e: std::io::Error) -> Error {
        Error::io(what, e).of(&*self.name)
    }
}

impl Transport for SgIo {
    fn execute(&self, command: Command<'_>) -> Result<Completion> {
        let Command {
            cdb,
            mut data,
            timeout,
        } = command;
        let (direction, len) = match &data {
            Data::None => (TO_NOWHERE, 0),
            Data::In(b) => (FROM_DEVICE, b.len()),
            Data::Out(b) => (TO_DEVICE, b.len()),
        };
        let (Ok(cmd_len), Ok(dxfer_len)) = (u8::try_from(cdb.len()), u32::try_from(len)) else {
            return Err(Error::usage("Found a command too long for SG_IO").of(&*self.name));
        };
        let mut buffer = Aligned::new(len);
        if let Data::Out(b) = &data {
            buffer.bytes().copy_from_slice(b);
        }
        let mut sense = [0u8; SENSE];
        let mut header = Header {
            interface_id: i32::from(b'S'),
            dxfer_direction: direction,
            cmd_len,
            mx_sb_len: SENSE as u8,
            iovec_count: 0,
            dxfer_len,
            dxferp: match len {
                0 => std::ptr::null_mut(),
                _ => buffer.bytes().as_mut_ptr().cast(),
            },
            cmdp: cdb.as_ptr(),
            sbp: sense.as_mut_ptr(),
            timeout: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
            flags: 0,
            pack_id: 0,
            usr_ptr: std::ptr::null_mut(),
            status: 0,
            masked_status: 0,
            msg_status: 0,
            sb_len_wr: 0,
            host_status: 0,
            driver_status: 0,
            resid: 0,
            duration: 0,
            info: 0,
        };
        let result = {
            let _quiet = NoSignals::begin();
            // SAFETY: SG_IO reads and writes one `sg_io_hdr`, whose layout and
            // size `Header` has.
            let request = unsafe { Updater::<SG_IO, Header>::new(&mut header) };
            // SAFETY: the pointers in the header are to `cdb`, `sense` and
            // `buffer`, which live until the call is over, with the lengths
            // that stand beside them; the kernel writes to the last two only.
            unsafe { ioctl(&self.file, request) }
        };
        result.map_err(|e| {
            let e = self.failed("Cannot send a command to the device", e.into());
            e.hint("it has to be a SCSI device; sending commands may need root")
        })?;
        self.check_ways(&header)?;
        let moved = usize::try_from(i64::from(dxfer_len) - i64::from(header.resid.max(0)));
        let transferred = moved.unwrap_or(0).min(len);
        if let Data::In(b) = &mut data {
            let moved = buffer.bytes().get(..transferred).unwrap_or_default();
            b.iter_mut().zip(moved).for_each(|(to, from)| *to = *from);
        }
        let given = sense.get(..header.sb_len_wr.into()).unwrap_or_default();
        let sense = Sense::decode(given);
        // Some drivers give sense data and forget the status.
        let status = match Status::of(header.status & 0x7e) {
            Status::Good if sense.is_some() => Status::CheckCondition,
            s => s,
        };
        Ok(Completion {
            status,
            sense: sense.filter(|_| status == Status::CheckCondition),
            transferred,
        })
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn max_transfer(&self) -> usize {
        self.max_transfer
    }

    fn lun(&self) -> Option<u64> {
        self.lun
    }

    /// Resets the unit: SG_IO has nothing smaller.
    fn abort_all(&self) -> Result<()> {
        // SAFETY: SG_SCSI_RESET reads one int.
        let request = unsafe { Setter::<SG_SCSI_RESET, i32>::new(RESET_UNIT_ONLY) };
        // SAFETY: as above; the file is open.
        unsafe { ioctl(&self.file, request) }
            .map_err(|e| self.failed("Cannot reset the device", e.into()))
    }
}

impl SgIo {
    /// Fails when the command did not get to the unit and back.
    fn check_ways(&self, h: &Header) -> Result<()> {
        let host = match h.host_status {
            0 => None,
            1 => Some("there is no connection"),
            2 => Some("the bus stayed busy"),
            3 => Some("the command timed out"),
            4 => Some("the target does not answer"),
            5 => Some("the command was aborted"),
            6 => Some("a parity error"),
            8 => Some("the bus was reset"),
            0x0a => Some("the command was refused by the driver"),
            0x0e => Some("the transport is disrupted"),
            0x0f => Some("the transport gave up"),
            0x10 => Some("the target failed for good"),
            0x11 => Some("the reservation is another's"),
            0x13 => Some("the medium failed"),
            _ => Some("the adapter failed"),
        };
        // The high half only suggests what to do; 8 is "there is sense data".
        let driver = h.driver_status & 0x0f;
        // With a status other than GOOD the unit did answer: it says more.
        let answered = h.status & 0x7e != 0 && h.host_status != 3;
        let what = match (host, driver) {
            _ if answered => return Ok(()),
            (None, 0 | 8) => return Ok(()),
            (Some(text), _) => format!("The command got no answer: {text}"),
            (None, 6) => "The command got no answer: it timed out".into(),
            (None, _) => "The command got no answer: the driver failed".into(),
        };
        let (host, driver) = (h.host_status, h.driver_status);
        let what = format!("{what} (host {host:02X}h, driver {driver:02X}h)");
        Err(Error::new(crate::error::ErrorKind::Scsi, what).of(&*self.name))
    }
}

/// A buffer that begins at a page.
struct Aligned {
    bytes: Vec<u8>,
    skip: usize,
    len: usize,
}

impl Aligned {
    fn new(len: usize) -> Self {
        let bytes = match len {
            0 => Vec::new(),
            _ => vec![0; len.saturating_add(PAGE)],
        };
        let skip = match bytes.as_ptr().align_offset(PAGE) {
            n if n < PAGE && len > 0 => n,
            _ => 0,
        };
        Self { bytes, skip, len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        let end = self.skip + self.len;
        self.bytes.get_mut(self.skip..end).unwrap_or_default()
    }
}

/// While it lives no signal is delivered to this thread. The generic driver waits
/// in a way that a signal ends, and the kernel then restarts the call: the
/// command would be sent a second time, and a tape would hold a block twice.
struct NoSignals(libc::sigset_t);

impl NoSignals {
    fn begin() -> Self {
        let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: both pointers are to a set that may be written; `sigfillset`
        // makes the first one valid before it is read, and with valid
        // arguments neither call fails, so the second one is valid after.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::sigemptyset(before.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Self(before.assume_init())
        }
    }
}

impl Drop for NoSignals {
    fn drop(&mut self) {
        // SAFETY: the set is the one that this thread had; the old one is not
        // asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_scsi_device_is_refused_in_words() {
        let e = SgIo::open(Path::new("/dev/null")).err().unwrap();
        assert!(e.to_string().contains("/dev/nstN"), "{e}");
        let e = SgIo::open(Path::new("/dev/there-is-none")).err().unwrap();
        assert_eq!(e.kind(), crate::error::ErrorKind::NotFound);
    }

    #[test]
    fn a_node_that_takes_no_commands_gives_an_error() {
        let file = tempfile::tempfile().unwrap();
        let device = SgIo {
            file,
            name: "file".into(),
            block: None,
            lun: None,
            max_transfer: SAFE_TRANSFER,
        };
        let mut buf = [0; 36];
        let command = Command {
            cdb: &[0x12, 0, 0, 0, 36, 0],
            data: Data::In(&mut buf),
            timeout: std::time::Duration::from_secs(1),
        };
        let e = device.execute(command).unwrap_err();
        assert_eq!(e.kind(), crate::error::ErrorKind::Io);
        assert!(device.abort_all().is_err());
    }

    #[test]
    fn buffers_begin_at_pages() {
        for len in [0, 1, 4096, 70000] {
            let mut a = Aligned::new(len);
            assert_eq!(a.bytes().len(), len);
            assert!(len == 0 || a.bytes().as_ptr().addr().is_multiple_of(PAGE));
        }
    }

    #[test]
    fn signals_wait_only_meanwhile() {
        let blocked = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let line = status
                .lines()
                .find_map(|l| l.strip_prefix("SigBlk:"))
                .unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        let before = blocked();
        {
            let _quiet = NoSignals::begin();
            assert_ne!(blocked() & 0x2, 0, "SIGINT is held back");
        }
        assert_eq!(blocked(), before);
    }
}
