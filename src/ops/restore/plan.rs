//! What of an archive goes where on the target.

use crate::archive::{DiskInfo, Region, RegionKind, TableKind};
use crate::device::{Piece, Rearrangement, Sink};
use crate::error::{Error, ErrorKind, Result};
use crate::ops::verify::join;
use crate::units::{ByteRange, human_bytes};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// Bytes at the start of a volume other than NTFS that are written last: the
/// superblock of Btrfs, the farthest one, ends here.
const RAW_HELD: u64 = 68 << 10;
/// The largest sectors that a GPT is looked for in, in bytes.
const GPT_SECTOR: u64 = 4096;

/// A region and its place on the target.
#[derive(Clone, Serialize)]
pub struct Landing {
    /// The region, as it was on the source.
    pub region: Region,
    /// Its first byte on the target.
    pub base: u64,
    /// Bytes it has there.
    pub bytes: u64,
    /// How it is laid out anew; none: bit by bit as it was.
    #[serde(skip)]
    pub change: Option<Arc<dyn Rearrangement>>,
}

impl fmt::Debug for Landing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Landing")
            .field("region", &self.region.number)
            .field("base", &self.base)
            .field("bytes", &self.bytes)
            .field("changed", &self.change.is_some())
            .finish()
    }
}

impl Landing {
    /// As it was, from `base` on.
    pub fn plain(region: &Region, base: u64) -> Self {
        Self {
            region: region.clone(),
            base,
            bytes: region.bytes,
            change: None,
        }
    }

    /// Where `len` bytes from the `start`th of the region on go: pieces of the
    /// target in the order of the region; `None`: they are not kept.
    #[inline]
    pub fn place(&self, start: u64, len: u64, piece: Piece<'_>) -> Result<()> {
        let Some(change) = &self.change else {
            return piece(Some(self.base + start), len);
        };
        let old = ByteRange {
            start,
            end: start + len,
        };
        change.forward(old, &mut |to, n| match to {
            None => piece(None, n),
            Some(at) if at.checked_add(n).is_some_and(|end| end <= self.bytes) => {
                piece(Some(self.base + at), n)
            }
            Some(at) => Err(Error::damaged(format!(
                "The plan moves {n} bytes of partition {} to {at:#x}, which has {} bytes then",
                self.region.number, self.bytes
            ))),
        })
    }

    /// Its bytes on the target.
    pub fn range(&self) -> ByteRange {
        ByteRange {
            start: self.base,
            end: self.base + self.bytes,
        }
    }
}

/// Bytes of the target that are written over what the archive has there.
#[derive(Clone, Debug, Serialize)]
pub struct Patch {
    /// First byte on the target.
    pub at: u64,
    /// What goes there.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

impl Patch {
    /// The range it covers.
    pub fn range(&self) -> ByteRange {
        ByteRange {
            start: self.at,
            end: self.at + self.bytes.len() as u64,
        }
    }
}

/// What goes where.
#[derive(Clone, Debug, Serialize)]
pub struct RestorePlan {
    /// Regions that are restored.
    pub regions: Vec<Landing>,
    /// Bytes the target must have.
    pub bytes: u64,
    /// Logical sector size in bytes.
    pub sector_bytes: u32,
    /// Written over everything else, in this order: partition tables.
    pub patches: Vec<Patch>,
    /// Ranges of the target that are made zero before anything is written.
    pub zeros: Vec<ByteRange>,
    /// The whole target is taken: no table that it held may be found any more.
    /// Else it is a disk with other partitions, and its table stays.
    pub whole: bool,
}

impl RestorePlan {
    /// All of a disk, or one partition of it, which then begins at byte 0. An
    /// archive of a single partition of a disk has nothing else: it is restored
    /// as that partition.
    pub fn new(disk: &DiskInfo, partition: Option<u16>) -> Result<Self> {
        let (regions, bytes) = match chosen(disk, partition)? {
            Some(region) => (vec![Landing::plain(region, 0)], region.bytes),
            None => {
                let all = disk.regions.iter();
                (
                    all.map(|r| Landing::plain(r, r.start)).collect(),
                    disk.bytes,
                )
            }
        };
        Ok(Self {
            regions,
            bytes,
            sector_bytes: disk.sector_bytes,
            patches: Vec::new(),
            zeros: Vec::new(),
            whole: true,
        })
    }

    /// Where a region goes; none: it is not restored.
    pub fn landing(&self, region: u16) -> Option<&Landing> {
        self.regions.iter().find(|l| l.region.number == region)
    }

    /// True when something is moved or written differently.
    pub fn changes(&self) -> bool {
        !self.patches.is_empty() || self.regions.iter().any(|l| l.change.is_some())
    }

    /// What is written last, and wiped first on a target that holds something:
    /// where a partition table may be, the first and last sectors of NTFS
    /// volumes, and of others as much as their superblocks may lie in.
    pub fn held_ranges(&self) -> Vec<ByteRange> {
        let unit = u64::from(self.sector_bytes);
        let mut ranges = self.table_ranges();
        for l in &self.regions {
            let len = match l.region.kind {
                RegionKind::Raw => RAW_HELD.max(unit),
                RegionKind::Ntfs | RegionKind::Outside => unit,
            };
            ranges.push(ByteRange {
                start: l.base,
                end: l.base + len.min(l.bytes),
            });
            if l.region.kind == RegionKind::Ntfs {
                // Some drivers take its copy where there is no boot sector.
                ranges.push(ByteRange {
                    start: l.base + (l.bytes / unit).saturating_sub(1) * unit,
                    end: l.base + l.bytes,
                });
            }
        }
        ranges.retain(|r| !r.is_empty());
        join(&mut ranges);
        ranges
    }

    /// Where something is that could be taken for a partition table, with
    /// sectors of 512 bytes or of 4096: a boot record, the header of a GPT, or
    /// that of its copy.
    pub fn table_ranges(&self) -> Vec<ByteRange> {
        if !self.whole {
            return Vec::new();
        }
        let sector = u64::from(self.sector_bytes).max(GPT_SECTOR);
        let first = ByteRange {
            start: 0,
            end: self.bytes.min(2 * sector),
        };
        let last = ByteRange {
            start: (self.bytes / sector).saturating_sub(1) * sector,
            end: self.bytes,
        };
        let mut ranges = vec![first, last];
        ranges.retain(|r| !r.is_empty());
        join(&mut ranges);
        ranges
    }

    /// The copy of a GPT in the last sectors of a target that is longer than
    /// what is restored: sectors of it that hold its header.
    pub fn far_copy(&self, target: &dyn Sink) -> Result<Vec<ByteRange>> {
        let own = u64::from(target.sector_size());
        let mut found = Vec::new();
        for size in [512, GPT_SECTOR] {
            let at = (target.len() / size).saturating_sub(1) * size / own * own;
            if !self.whole || at < self.bytes || at + own > target.len() {
                continue;
            }
            let mut sector = vec![0; own as usize];
            target.read_at(at, &mut sector)?;
            if sector.chunks(512).any(|s| s.starts_with(b"EFI PART")) {
                found.push(ByteRange {
                    start: at,
                    end: at + own,
                });
            }
        }
        Ok(found)
    }

    /// Everything that is written over the restored bytes: first what volumes
    /// change, then the tables. Offsets are those of the target.
    pub fn each_patch(&self, each: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        for l in &self.regions {
            if let Some(change) = &l.change {
                change.patches(&mut |at, bytes| each(l.base + at, bytes))?;
            }
        }
        self.patches.iter().try_for_each(|p| each(p.at, &p.bytes))
    }

    /// Puts the plan's own patches into `buf`, which holds the bytes of the
    /// target from `at` on.
    pub fn patch_tables_into(&self, at: u64, buf: &mut [u8]) {
        let whole = ByteRange {
            start: at,
            end: at + buf.len() as u64,
        };
        for p in &self.patches {
            if let Some(both) = p.range().intersect(&whole) {
                let from = (both.start - p.at) as usize;
                let part = &p.bytes[from..from + both.len() as usize];
                buf[(both.start - at) as usize..(both.end - at) as usize].copy_from_slice(part);
            }
        }
    }

    /// BLAKE3 in hex over everything that decides what is on the target when
    /// it is restored, but for the archive, and over what was asked for.
    pub fn digest(&self, zero_free: bool, wishes: &impl Serialize) -> Result<String> {
        let mut hash = blake3::Hasher::new();
        let json = serde_json::to_vec(&(self, wishes)).map_err(|e| {
            Error::new(ErrorKind::Damaged, "Cannot write the plan as JSON").caused_by(e)
        })?;
        hash.update(&json);
        hash.update(&[u8::from(zero_free)]);
        self.each_patch(&mut |at, bytes| {
            hash.update(&at.to_le_bytes());
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
            Ok(())
        })?;
        Ok(hash.finalize().to_hex().to_string())
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
        self.same_sectors(target.sector_size(), target.name())
    }

    /// Refuses another sector size.
    pub fn same_sectors(&self, target: u32, name: &str) -> Result<()> {
        if target == self.sector_bytes {
            return Ok(());
        }
        Err(Error::refused(format!(
            "The target has sectors of {target} bytes, the source had {}",
            self.sector_bytes
        ))
        .of(name)
        .hint("file systems and partition tables count in sectors: use a target with the same sector size"))
    }
}

/// What is written last in the order in which it is written: first what belongs
/// to volumes, then what is a table, from the end of the disk to its beginning.
pub(crate) fn in_order<'a, T>(
    plan: &RestorePlan,
    held: &'a [T],
    range: impl Fn(&T) -> ByteRange,
) -> [Vec<&'a T>; 2] {
    let tables = plan.table_ranges();
    let is_table = |h: &&T| tables.iter().any(|t| t.intersect(&range(h)).is_some());
    let (last, first) = held.iter().rev().partition(is_table);
    [first, last]
}

/// The partition that is asked for, or the only one of an archive that has
/// nothing else; none: all of the disk.
pub fn chosen(disk: &DiskInfo, partition: Option<u16>) -> Result<Option<&Region>> {
    let alone = match disk.regions.as_slice() {
        [only] if disk.table != TableKind::None && only.number != 0 => Some(only.number),
        _ => None,
    };
    let Some(number) = partition.or(alone) else {
        return Ok(None);
    };
    let region = disk.region(number).filter(|r| r.number != 0);
    region.map(Some).ok_or_else(|| {
        let numbers = disk.regions.iter().map(|r| r.number);
        let have: Vec<String> = numbers.filter(|&n| n != 0).map(|n| n.to_string()).collect();
        Error::not_found(format!("The archive has no partition {number}"))
            .hint(format!("it has {}", have.join(", ")))
    })
}
