//! `verify`: is the archive what was written, and does a device still hold it?

use super::stream::{Outcome, StreamReader};
use crate::archive::{Forward, Header, Provenance, ReadBack, RunKind};
use crate::device::{HoledSource, SharedSource, Source};
use crate::error::Result;
use crate::observe::Observer;
use crate::tape::{Digests, Id};
use crate::units::ByteRange;
use std::sync::{Arc, Mutex, MutexGuard};

/// How to verify.
pub struct VerifyOptions {
    /// Workers.
    pub threads: usize,
}

/// What a check came to.
pub struct Checked {
    /// Of the stream.
    pub outcome: Outcome,
    /// Digests of what had none and is not among the known ones: they can be
    /// known from now on.
    pub fresh: Digests,
    /// The comparison, where there is something to compare with.
    pub comparison: Option<Comparison>,
}

/// Reads the archive through and checks every digest it has.
pub fn verify(
    archive: SharedSource,
    options: &VerifyOptions,
    observer: &dyn Observer,
) -> Result<Outcome> {
    let none = Arc::new(Digests::new(Id([0; 16])));
    Ok(check::<fn(u16) -> Option<u64>>(archive, &none, None, options, observer)?.outcome)
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
    let none = Arc::new(Digests::new(Id([0; 16])));
    let checked = check(archive, &none, Some((device, base)), options, observer)?;
    Ok((checked.outcome, checked.comparison.unwrap_or_default()))
}

/// Reads the archive through. Digests are compared where there are any, in the
/// archive or among the known ones, and computed where there are none. What is
/// kept is compared with a device, if there is one; see [`compare`].
pub fn check<B: Fn(u16) -> Option<u64> + Sync>(
    archive: SharedSource,
    known: &Arc<Digests>,
    against: Option<(&dyn Source, B)>,
    options: &VerifyOptions,
    observer: &dyn Observer,
) -> Result<Checked> {
    let task = match against {
        None => "verify",
        Some(_) => "compare",
    };
    observer.begin(task, Some(archive.len()));
    let name = archive.name().to_string();
    let fresh = Mutex::new(Digests::new(known.set()));
    let result = Mutex::new(Comparison::default());
    let finished = archive.is_finished();
    let (archive, holes) = HoledSource::around(archive);
    let mut reader = StreamReader::new(Forward::new(archive, 0))
        .with_holes(holes)
        .with_read_back(Some(lookup(known)));
    reader.begin().map_err(|e| e.of(&*name))?;
    let mut outcome = reader
        .run(options.threads, observer, |header, raw, whole| {
            if whole
                && header.provenance == Provenance::None
                && known.get(header.sequence).is_none()
            {
                let digest = *blake3::hash(raw).as_bytes();
                lock(&fresh).insert(header.sequence, digest);
            }
            match &against {
                Some((device, base)) => match base(header.region) {
                    Some(base) => compare_record(header, raw, base, *device, &result),
                    None => Ok(()),
                },
                None => Ok(()),
            }
        })
        .map_err(|e| e.of(&*name))?;
    observer.end();
    if !finished {
        outcome.totals = None;
    }
    let comparison = against.is_some().then(|| {
        let mut c = result.into_inner().unwrap_or_else(|e| e.into_inner());
        join(&mut c.differing);
        join(&mut c.unreadable);
        c
    });
    Ok(Checked {
        outcome,
        fresh: fresh.into_inner().unwrap_or_else(|e| e.into_inner()),
        comparison,
    })
}

/// Known digests, as readers ask for them.
pub fn lookup(known: &Arc<Digests>) -> ReadBack {
    let known = known.clone();
    Arc::new(move |sequence| known.get(sequence).copied())
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|e| e.into_inner())
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
    let mut r = lock(result);
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
