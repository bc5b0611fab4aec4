//! `restore`: a stream becomes a disk, a volume or a partition again.

use super::pipeline;
use super::stream::{Damage, StreamReader};
use crate::archive::{
    DiskInfo, Head, Header, Input, Provenance, Region, RegionKind, RunKind, TableKind, Totals,
};
use crate::device::Sink;
use crate::error::{Error, ErrorKind, Result};
use crate::observe::Observer;
use crate::units::{ByteRange, ClusterSet, human_bytes};
use std::sync::Mutex;

/// Bytes at the start of a volume other than NTFS that are written last: the
/// superblock of Btrfs, the farthest one, ends here.
const RAW_HELD: u64 = 68 << 10;

/// How to restore.
pub struct RestoreOptions {
    /// Workers.
    pub threads: usize,
    /// Write zeros to everything that the archive does not hold.
    pub zero_free: bool,
    /// Restore what is there of a damaged or incomplete archive.
    pub partial: bool,
    /// Read everything back from the target.
    pub verify: bool,
}

/// What goes where.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RestorePlan {
    /// Regions that are restored, and the first byte of each on the target.
    pub regions: Vec<(Region, u64)>,
    /// Bytes the target must have.
    pub bytes: u64,
    /// Logical sector size in bytes.
    pub sector_bytes: u32,
}

impl RestorePlan {
    /// All of a disk, or one partition of it, which then begins at byte 0. An
    /// archive of a single partition of a disk has nothing else: it is restored
    /// as that partition.
    pub fn new(disk: &DiskInfo, partition: Option<u16>) -> Result<Self> {
        let sector_bytes = disk.sector_bytes;
        let alone = match disk.regions.as_slice() {
            [only] if disk.table != TableKind::None && only.number != 0 => Some(only.number),
            _ => None,
        };
        let partition = partition.or(alone);
        let Some(number) = partition else {
            let regions = disk.regions.iter().map(|r| (r.clone(), r.start)).collect();
            return Ok(Self {
                regions,
                bytes: disk.bytes,
                sector_bytes,
            });
        };
        let region = disk
            .region(number)
            .filter(|r| r.number != 0)
            .ok_or_else(|| {
                let have: Vec<String> = disk
                    .regions
                    .iter()
                    .map(|r| r.number)
                    .filter(|&n| n != 0)
                    .map(|n| n.to_string())
                    .collect();
                Error::not_found(format!("The archive has no partition {number}"))
                    .hint(format!("it has {}", have.join(", ")))
            })?;
        Ok(Self {
            regions: vec![(region.clone(), 0)],
            bytes: region.bytes,
            sector_bytes,
        })
    }

    fn held_back(&self) -> Vec<Held> {
        self.held_ranges()
            .into_iter()
            .map(|range| Held {
                range,
                pieces: Vec::new(),
            })
            .collect()
    }

    /// What is written last, and wiped first on a target that holds something:
    /// the first sectors of the disk and of NTFS volumes; of others as much as
    /// their superblocks may lie in.
    pub(super) fn held_ranges(&self) -> Vec<ByteRange> {
        let unit = u64::from(self.sector_bytes);
        let mut ranges: Vec<ByteRange> = self
            .regions
            .iter()
            .map(|(r, base)| {
                let len = match r.kind {
                    RegionKind::Raw => RAW_HELD.max(unit),
                    RegionKind::Ntfs | RegionKind::Outside => unit,
                };
                ByteRange {
                    start: *base,
                    end: base + len.min(r.bytes),
                }
            })
            .filter(|r| !r.is_empty())
            .collect();
        super::verify::join(&mut ranges);
        ranges
    }

    /// Refuses a target that cannot take it.
    pub fn fits(&self, target: &dyn Sink) -> Result<()> {
        if target.len() < self.bytes {
            return Err(Error::refused(format!(
                "The target is too small: it has {} bytes ({}), {} bytes ({}) are needed",
                target.len(),
                human_bytes(target.len()),
                self.bytes,
                human_bytes(self.bytes)
            ))
            .of(target.name()));
        }
        if target.sector_size() != self.sector_bytes {
            return Err(Error::refused(format!(
                "The target has sectors of {} bytes, the source had {}",
                target.sector_size(),
                self.sector_bytes
            ))
            .of(target.name())
            .hint("file systems and partition tables count in sectors: use a target with the same sector size"));
        }
        Ok(())
    }
}

/// What came of it.
#[derive(Debug, serde::Serialize)]
pub struct RestoreSummary {
    /// Bytes of data written.
    pub written_bytes: u64,
    /// Bytes that are zeros because the source could not be read when the
    /// backup was made.
    pub unreadable_bytes: u64,
    /// Bytes that are zeros because they were left out on request.
    pub skipped_bytes: u64,
    /// Places of the archive that could not be used.
    pub damage: Vec<Damage>,
    /// True when the archive has its end and every digest matched.
    pub complete: bool,
    /// True when everything was read back from the target and matched.
    pub verified: bool,
    /// Ranges of the target that did not read back as written.
    pub mismatches: Vec<ByteRange>,
    /// Totals of the archive.
    pub totals: Option<Totals>,
}

/// What was written, to be read back: digests and runs, packed.
#[derive(Default)]
struct Written {
    list: Vec<u8>,
}

/// A range of the target that is written last, and what goes there.
struct Held {
    range: ByteRange,
    pieces: Vec<(u64, Vec<u8>)>,
}

struct Counters {
    written: u64,
    unreadable: u64,
    skipped: u64,
}

struct Job<'a> {
    plan: &'a RestorePlan,
    options: &'a RestoreOptions,
    target: &'a dyn Sink,
    /// Written last, so that nothing half-written looks whole.
    held: Mutex<Vec<Held>>,
    touched: Option<Mutex<ClusterSet>>,
    /// One writer at a time: the kernel lets no more than one into a file, and
    /// those who wait there burn the processor that could decompress.
    writing: Mutex<()>,
    written: Mutex<Written>,
    counters: Mutex<Counters>,
}

/// Reads the stream to its end and writes it to `target`. The target must have
/// been checked with [`RestorePlan::fits`]. When the archive turns out damaged
/// or incomplete and `partial` is not set, the first sectors of the target are
/// not written, and the summary says so: it must not be taken for a whole one.
pub fn restore<R: Input + Send>(
    reader: StreamReader<R>,
    plan: &RestorePlan,
    target: &dyn Sink,
    options: &RestoreOptions,
    observer: &dyn Observer,
) -> Result<RestoreSummary> {
    plan.fits(target)?;
    let unit = u64::from(plan.sector_bytes);
    let job = Job {
        plan,
        options,
        target,
        held: Mutex::new(plan.held_back()),
        touched: options
            .zero_free
            .then(|| Mutex::new(ClusterSet::new(target.len() / unit))),
        writing: Mutex::new(()),
        written: Mutex::default(),
        counters: Mutex::new(Counters {
            written: 0,
            unreadable: 0,
            skipped: 0,
        }),
    };
    if !target.is_fresh() {
        for h in lock(&job.held).iter() {
            target.zero_at(h.range.start, h.range.len())?;
        }
        target.sync()?;
    }
    observer.begin("restore", None);
    let reader = reader.lenient(options.partial);
    let outcome = reader.run(options.threads + 1, observer, |header, raw, _| {
        job.put(header, raw)
    })?;
    observer.end();
    let damaged = outcome.damage.iter().any(|d| d.loses_data);
    let complete = outcome.totals.is_some() && !damaged;
    if !complete && options.partial && !target.is_fresh() {
        // What is lost must not show what the target held before.
        job.zero_lost(&outcome.damage)?;
    }
    if complete || options.partial {
        job.release_first_sectors()?;
    }
    if let Some(touched) = &job.touched
        && !target.is_fresh()
    {
        zero_the_rest(plan, target, &lock(touched), unit, observer)?;
    }
    target.sync()?;
    let mismatches = match options.verify && (complete || options.partial) {
        true => job.read_back(observer)?,
        false => Vec::new(),
    };
    let counters = job.counters.into_inner().unwrap_or_else(|e| e.into_inner());
    Ok(RestoreSummary {
        written_bytes: counters.written,
        unreadable_bytes: counters.unreadable,
        skipped_bytes: counters.skipped,
        damage: outcome.damage,
        complete,
        verified: options.verify && mismatches.is_empty() && complete,
        mismatches,
        totals: outcome.totals,
    })
}

fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|e| e.into_inner())
}

impl Job<'_> {
    fn put(&self, header: &Header, raw: &[u8]) -> Result<()> {
        let Some((region, base)) = self
            .plan
            .regions
            .iter()
            .find(|(r, _)| r.number == header.region)
        else {
            return Ok(());
        };
        if header.unit != self.plan.sector_bytes {
            return Err(Error::damaged(format!(
                "A record counts in units of {} bytes, expected sectors of {}",
                header.unit, self.plan.sector_bytes
            ))
            .at(header.stream_offset));
        }
        let unit = u64::from(self.plan.sector_bytes);
        let mut at = 0usize;
        let mut runs = Vec::new();
        let one = lock(&self.writing);
        let (mut written, mut unreadable, mut skipped) = (0, 0, 0);
        for (start, len, kind) in header.byte_runs() {
            if start + len > region.bytes {
                return Err(Error::damaged(format!(
                    "A record names bytes {start:#x} to {:#x} of partition {}, which has {} bytes",
                    start + len,
                    region.number,
                    region.bytes
                ))
                .at(header.stream_offset));
            }
            let place = base + start;
            match kind {
                RunKind::Data => {
                    self.write(place, &raw[at..at + len as usize])?;
                    at += len as usize;
                    written += len;
                    runs.push((place, len));
                }
                RunKind::Zero => self.zero(place, len)?,
                RunKind::Unreadable => {
                    self.zero(place, len)?;
                    unreadable += len;
                }
                RunKind::Skipped => {
                    self.zero(place, len)?;
                    skipped += len;
                }
            }
            if let Some(touched) = &self.touched {
                lock(touched).insert(place / unit..(place + len) / unit);
            }
        }
        drop(one);
        {
            let mut c = lock(&self.counters);
            c.written += written;
            c.unreadable += unreadable;
            c.skipped += skipped;
        }
        if self.options.verify && !runs.is_empty() {
            // What a copy manager moved has no digest in its header.
            let digest = match header.provenance {
                Provenance::None => *blake3::hash(raw).as_bytes(),
                _ => header.digest,
            };
            lock(&self.written).push(&digest, &runs);
        }
        Ok(())
    }

    /// Writes, but keeps back what is written last.
    fn write(&self, place: u64, data: &[u8]) -> Result<()> {
        let whole = ByteRange {
            start: place,
            end: place + data.len() as u64,
        };
        let part = |r: &ByteRange| &data[(r.start - place) as usize..(r.end - place) as usize];
        let mut at = whole.start;
        {
            let mut held = lock(&self.held);
            let first = held.partition_point(|h| h.range.end <= place);
            for h in held[first..].iter_mut() {
                let Some(both) = h.range.intersect(&whole) else {
                    break;
                };
                if at < both.start {
                    let before = ByteRange {
                        start: at,
                        end: both.start,
                    };
                    self.target.write_at(at, part(&before))?;
                }
                h.pieces.push((both.start, part(&both).to_vec()));
                at = both.end;
            }
        }
        if at < whole.end {
            self.target.write_at(
                at,
                part(&ByteRange {
                    start: at,
                    end: whole.end,
                }),
            )?;
        }
        Ok(())
    }

    /// Zeros for what a damaged record would have held.
    fn zero_lost(&self, damage: &[Damage]) -> Result<()> {
        for d in damage.iter().filter(|d| d.loses_data && !d.doubtful) {
            let region = self
                .plan
                .regions
                .iter()
                .find(|(r, _)| Some(r.number) == d.region);
            let Some((region, base)) = region else {
                continue;
            };
            for r in &d.ranges {
                let end = r.end.min(region.bytes);
                if r.start < end {
                    self.target.zero_at(base + r.start, end - r.start)?;
                }
            }
        }
        Ok(())
    }

    fn zero(&self, place: u64, len: u64) -> Result<()> {
        if self.target.is_fresh() {
            Ok(())
        } else {
            self.target.zero_at(place, len)
        }
    }

    fn release_first_sectors(&self) -> Result<()> {
        self.target.sync()?;
        for h in lock(&self.held).iter() {
            for (at, bytes) in &h.pieces {
                self.target.write_at(*at, bytes)?;
            }
        }
        Ok(())
    }

    fn read_back(&self, observer: &dyn Observer) -> Result<Vec<ByteRange>> {
        let written = lock(&self.written);
        let mut rest = &written.list[..];
        let mut mismatches = Vec::new();
        observer.begin("read back", Some(lock(&self.counters).written));
        pipeline::ordered(
            self.options.threads,
            self.options.threads * 2 + 2,
            || {
                if observer.cancelled() {
                    return Err(Error::interrupted());
                }
                Ok(Written::pop(&mut rest))
            },
            || Ok(Vec::new()),
            |buf: &mut Vec<u8>, (digest, runs)| {
                let total: u64 = runs.iter().map(|r| r.1).sum();
                buf.resize(total as usize, 0);
                let mut at = 0;
                for &(place, len) in &runs {
                    self.target
                        .read_at(place, &mut buf[at..at + len as usize])?;
                    at += len as usize;
                }
                Ok((
                    total,
                    (*blake3::hash(buf).as_bytes() != digest).then_some(runs),
                ))
            },
            |(total, bad)| {
                observer.advance(total);
                for (start, len) in bad.into_iter().flatten() {
                    mismatches.push(ByteRange {
                        start,
                        end: start + len,
                    });
                }
                Ok(())
            },
        )?;
        observer.end();
        Ok(mismatches)
    }
}

impl Written {
    fn push(&mut self, digest: &[u8; 32], runs: &[(u64, u64)]) {
        self.list
            .extend_from_slice(&(runs.len() as u32).to_le_bytes());
        self.list.extend_from_slice(digest);
        for (start, len) in runs {
            self.list.extend_from_slice(&start.to_le_bytes());
            self.list.extend_from_slice(&(*len as u32).to_le_bytes());
        }
    }

    #[allow(clippy::type_complexity)]
    fn pop(rest: &mut &[u8]) -> Option<([u8; 32], Vec<(u64, u64)>)> {
        let (n, tail) = rest.split_first_chunk::<4>()?;
        let (digest, mut tail) = tail.split_first_chunk::<32>()?;
        let mut runs = Vec::new();
        for _ in 0..u32::from_le_bytes(*n) {
            let (start, t) = tail.split_first_chunk::<8>()?;
            let (len, t) = t.split_first_chunk::<4>()?;
            runs.push((
                u64::from_le_bytes(*start),
                u64::from(u32::from_le_bytes(*len)),
            ));
            tail = t;
        }
        *rest = tail;
        Some((*digest, runs))
    }
}

/// Zeros everything of the restored regions that nothing was written to.
pub(super) fn zero_the_rest(
    plan: &RestorePlan,
    target: &dyn Sink,
    touched: &ClusterSet,
    unit: u64,
    observer: &dyn Observer,
) -> Result<()> {
    let end = plan.bytes / unit;
    let mut at = 0;
    observer.begin(
        "zero free clusters",
        Some((end - touched.count_in(0..end)) * unit),
    );
    for r in touched.runs(0..end).chain(std::iter::once(end..end)) {
        while at < r.start {
            if observer.cancelled() {
                return Err(Error::interrupted());
            }
            let n = (r.start - at).min((64 << 20) / unit);
            target.zero_at(at * unit, n * unit)?;
            observer.advance(n * unit);
            at += n;
        }
        at = r.end;
    }
    observer.end();
    Ok(())
}

/// Refuses an archive that has no end, unless `partial`.
pub fn refuse_incomplete(head: &Head, complete: bool, partial: bool) -> Result<()> {
    if complete || partial {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Incomplete,
        format!(
            "The archive of {} is not complete: it has no end",
            head.source.path
        ),
    )
    .hint("--partial restores what is there"))
}
