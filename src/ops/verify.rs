//! `verify`: is the archive what was written, and does a device still hold it?

use super::stream::{Outcome, StreamReader};
use crate::archive::{Forward, Header, RunKind};
use crate::device::{SharedSource, Source};
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::units::ByteRange;
use std::sync::Mutex;

/// How to verify.
pub struct VerifyOptions {
    /// Workers.
    pub threads: usize,
}

/// Reads the archive through and checks every digest.
pub fn verify(
    archive: SharedSource,
    options: &VerifyOptions,
    observer: &dyn Observer,
) -> Result<Outcome> {
    observer.begin("verify", Some(archive.len()));
    let name = archive.name().to_string();
    let mut reader = StreamReader::new(Forward::new(archive, 0));
    reader.begin().map_err(|e| e.of(&*name))?;
    let outcome = reader
        .run(options.threads, observer, |_, _| Ok(()))
        .map_err(|e| e.of(&*name))?;
    observer.end();
    Ok(outcome)
}

/// What a comparison with a device or image came to.
#[derive(Debug, Default, serde::Serialize)]
pub struct Comparison {
    /// Bytes compared.
    pub compared_bytes: u64,
    /// Ranges of the device that differ.
    pub differing: Vec<ByteRange>,
    /// Ranges of the device that could not be read.
    pub unreadable: Vec<ByteRange>,
}

impl Comparison {
    /// True when everything was read and is the same.
    pub fn is_equal(&self) -> bool {
        self.differing.is_empty() && self.unreadable.is_empty()
    }
}

/// Compares every kept cluster with `device`, while checking the archive.
/// Ranges the source could not give when the backup was made are left out;
/// `base` gives the first byte of a region on the device.
pub fn compare(
    archive: SharedSource,
    device: &dyn Source,
    base: impl Fn(u16) -> Option<u64> + Sync,
    options: &VerifyOptions,
    observer: &dyn Observer,
) -> Result<(Outcome, Comparison)> {
    observer.begin("compare", Some(archive.len()));
    let result = Mutex::new(Comparison::default());
    let mut reader = StreamReader::new(Forward::new(archive, 0));
    reader.begin()?;
    let outcome = reader.run(options.threads, observer, |header, raw| {
        if let Some(base) = base(header.region) {
            compare_record(header, raw, base, device, &result)?;
        }
        Ok(())
    })?;
    observer.end();
    let mut comparison = result.into_inner().unwrap_or_else(|e| e.into_inner());
    join(&mut comparison.differing);
    join(&mut comparison.unreadable);
    Ok((outcome, comparison))
}

fn compare_record(
    header: &Header,
    raw: &[u8],
    base: u64,
    device: &dyn Source,
    result: &Mutex<Comparison>,
) -> Result<()> {
    let unit = header.unit as usize;
    let mut at = 0;
    let mut buf = Vec::new();
    let (mut differing, mut unreadable, mut compared) = (Vec::new(), Vec::new(), 0);
    for (start, len, kind) in header.byte_runs() {
        let want = match kind {
            RunKind::Data => {
                at += len as usize;
                Some(&raw[at - len as usize..at])
            }
            RunKind::Zero => None,
            RunKind::Unreadable | RunKind::Skipped => continue,
        };
        let place = base + start;
        if place + len > device.len() {
            unreadable.push(ByteRange {
                start: place,
                end: place + len,
            });
            continue;
        }
        buf.resize(len as usize, 0);
        match device.read_at(place, &mut buf) {
            Ok(()) => {}
            Err(e) if e.kind() == crate::error::ErrorKind::Unreadable => {
                unreadable.push(ByteRange {
                    start: place,
                    end: place + len,
                });
                continue;
            }
            Err(e) => return Err(e),
        }
        compared += len;
        let equal = match want {
            Some(w) => w == &buf[..],
            None => crate::archive::is_zero(&buf),
        };
        if !equal {
            for (i, part) in buf.chunks(unit).enumerate() {
                let same = match want {
                    Some(w) => w[i * unit..i * unit + part.len()] == *part,
                    None => crate::archive::is_zero(part),
                };
                if !same {
                    let s = place + (i * unit) as u64;
                    differing.push(ByteRange {
                        start: s,
                        end: s + part.len() as u64,
                    });
                }
            }
            join(&mut differing);
        }
    }
    let mut r = result
        .lock()
        .map_err(|_| Error::usage("A worker stopped"))?;
    r.compared_bytes += compared;
    r.differing.extend(differing);
    r.unreadable.extend(unreadable);
    Ok(())
}

/// Sorts ranges and joins neighbours.
pub fn join(ranges: &mut Vec<ByteRange>) {
    ranges.sort();
    let mut out: Vec<ByteRange> = Vec::with_capacity(ranges.len());
    for r in ranges.drain(..) {
        match out.last_mut() {
            Some(l) if l.end >= r.start => l.end = l.end.max(r.end),
            _ => out.push(r),
        }
    }
    *ranges = out;
}
