//! What files and block devices have in common: positioned reads and writes
//! with errors in our own words.

use crate::error::{Error, ErrorKind, Result};
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;

use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;

/// Fails when `len` bytes from `offset` on reach behind `size`.
pub(super) fn check_range(
    name: &str,
    size: u64,
    offset: u64,
    len: usize,
    what: &str,
) -> Result<()> {
    match offset.checked_add(len as u64) {
        Some(end) if end <= size => Ok(()),
        _ => Err(Error::damaged(format!(
            "A {what} of {len} bytes reaches behind the end ({size} bytes)"
        ))
        .of(name)
        .at(offset)),
    }
}

/// True for the error numbers by which a medium says that it cannot give these
/// bytes: a plain read error, a medium error, a failed integrity check, a
/// failed target, a time-out. Everything else (the device went away, no
/// memory) is not about these bytes.
pub(super) fn is_medium_error(e: &io::Error) -> bool {
    [
        Errno::IO,
        Errno::NODATA,
        Errno::ILSEQ,
        Errno::REMOTEIO,
        Errno::BADMSG,
        Errno::TIMEDOUT,
    ]
    .iter()
    .any(|n| e.raw_os_error() == Some(n.raw_os_error()))
}

/// A failed read in our words.
pub(super) fn read_error(name: &str, offset: u64, len: usize, e: io::Error) -> Error {
    if e.kind() == io::ErrorKind::UnexpectedEof {
        unreadable(name, offset, len, "it ends here now, it was longer")
    } else if is_medium_error(&e) {
        unreadable(name, offset, len, &e.to_string())
    } else {
        Error::io(format!("Cannot read {len} bytes"), e)
            .of(name)
            .at(offset)
    }
}

/// A range that the medium does not give.
pub(super) fn unreadable(name: &str, offset: u64, len: usize, why: &str) -> Error {
    Error::new(
        ErrorKind::Unreadable,
        format!("Cannot read {len} bytes from the medium ({why})"),
    )
    .of(name)
    .at(offset)
    .hint("the medium is damaged or ends early; a backup goes on without these bytes and records them")
}

/// Fills `buf`; a file that ends before that gives `Unreadable`.
pub(super) fn read_exact(file: &File, name: &str, offset: u64, buf: &mut [u8]) -> Result<()> {
    file.read_exact_at(buf, offset)
        .map_err(|e| read_error(name, offset, buf.len(), e))
}

/// Writes all of `data`.
pub(super) fn write_all(file: &File, name: &str, offset: u64, data: &[u8]) -> Result<()> {
    file.write_all_at(data, offset).map_err(|e| {
        let full = e.kind() == io::ErrorKind::StorageFull;
        let e = Error::io(format!("Cannot write {} bytes", data.len()), e)
            .of(name)
            .at(offset);
        if full {
            e.hint("make room on the target, or choose another one")
        } else {
            e
        }
    })
}

/// Writes `len` zeros.
pub(super) fn write_zeros(file: &File, name: &str, offset: u64, len: u64) -> Result<()> {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let mut done = 0;
    while done < len {
        let n = (len - done).min(ZEROS.len() as u64);
        write_all(file, name, offset + done, &ZEROS[..n as usize])?;
        done += n;
    }
    Ok(())
}

/// A hint to the page cache; failure means nothing. `len` 0 is "to the end".
pub(super) fn advise(file: &File, offset: u64, len: u64, advice: Advice) {
    let _ = fadvise(file, offset, NonZeroU64::new(len), advice);
}
