//! The master boot record and its chain of extended ones, written anew.

use super::place::ALIGN;
use super::plan::Patch;
use super::read_sector;
use crate::device::Source;
use crate::disk::mbr::{self, MBR_BYTES, Mbr};
use crate::disk::{Layout, Partition};
use crate::error::{Error, Result};
use crate::units::ByteRange;

/// First entry of a record.
const ENTRIES: usize = 0x1be;
/// Disk signature of Windows.
pub(super) const SIGNATURE: usize = 0x1b8;

/// The old table.
pub(super) struct OldMbr {
    sector: Vec<u8>,
    pub container: Option<OldContainer>,
}

/// The old extended partition.
pub(super) struct OldContainer {
    pub number: u32,
    pub range: ByteRange,
    /// Places of all extended boot records.
    pub records: Vec<ByteRange>,
    pub links: Vec<Link>,
}

/// A logical partition.
pub(super) struct Link {
    pub number: u32,
    /// Bytes from its record to itself, as many as are kept.
    pub lead: u64,
    /// Its record.
    sector: Vec<u8>,
    /// Where that lies.
    pub record: u64,
}

/// A range of bytes as sectors.
fn sectors(r: ByteRange, size: u64) -> (u32, u32) {
    // Frames end at 2^32 sectors, and nothing begins at 0.
    ((r.start / size) as u32, (r.len() / size) as u32)
}

/// Head, sector and cylinder as stored, for 255 heads of 63 sectors; the
/// highest there are where the place is farther behind.
pub(super) fn chs(sector: u64) -> [u8; 3] {
    let (track, s) = (sector / 63, (sector % 63) as u8 + 1);
    let (cylinder, head) = (track / 255, (track % 255) as u8);
    match cylinder {
        0..1024 => [head, s | ((cylinder >> 2) & 0xc0) as u8, cylinder as u8],
        _ => [254, 0xff, 0xff],
    }
}

/// Writes an entry: `start` from its base, `first` from the start of the disk.
/// What it has beside stays, and all of it when the numbers are the old ones.
pub(super) fn put(sector: &mut [u8], slot: usize, start: u32, count: u32, first: u64, moved: bool) {
    let e = &mut sector[ENTRIES + 16 * slot..][..16];
    let mut numbers = [0; 8];
    numbers[..4].copy_from_slice(&start.to_le_bytes());
    numbers[4..].copy_from_slice(&count.to_le_bytes());
    if e[8..] == numbers && !moved {
        return;
    }
    e[8..].copy_from_slice(&numbers);
    e[1..4].copy_from_slice(&chs(first));
    e[5..8].copy_from_slice(&chs(first + u64::from(count).saturating_sub(1)));
}

fn no_way(why: &str) -> Error {
    Error::unsupported(format!(
        "{why}; such a disk is restored as it was only, to one of the same length"
    ))
}

impl OldMbr {
    /// Reads what `layout` was found in.
    pub fn read(disk: &dyn Source, layout: &Layout) -> Result<Self> {
        let size = u64::from(layout.sector_size);
        let sector = read_sector(disk, 0, layout.sector_size)?;
        let record = Mbr::parse(&sector)?;
        for p in layout.partitions.iter().filter(|p| p.number <= 4) {
            let e = &record.entries[p.number as usize - 1];
            if e.start.0 * size != p.start || e.sectors * size != p.declared {
                return Err(Error::damaged(format!(
                    "The boot record says something else of partition {} than the layout",
                    p.number
                )));
            }
        }
        if layout.containers.len() > 1 {
            return Err(no_way("There are two extended partitions"));
        }
        let container = match layout.containers.first() {
            None => None,
            Some(c) => {
                let e = &record.entries[c.number as usize - 1];
                let range = c.range;
                if e.start.0 * size != range.start || e.sectors * size != range.len() {
                    return Err(no_way("The extended partition reaches behind the end"));
                }
                let chain = mbr::chain(disk, layout.sector_size, e, &mut Vec::new())?;
                Some(OldContainer::of(disk, layout, c.number, range, &chain)?)
            }
        };
        Ok(Self { sector, container })
    }

    /// The sector in which a partition's entry stands, with another type.
    pub fn with_type(&self, number: u32, kind: u8) -> Vec<Patch> {
        let links = self.container.iter().flat_map(|c| &c.links);
        let (offset, mut bytes, slot) = match number {
            1..=4 => (0, self.sector.clone(), number as usize - 1),
            _ => match links.into_iter().find(|l| l.number == number) {
                Some(l) => (l.record, l.sector.clone(), 0),
                None => return Vec::new(),
            },
        };
        bytes[ENTRIES + 16 * slot + 4] = kind;
        vec![Patch { offset, bytes }]
    }

    /// The whole table for the new places. `at` gives the new place of a
    /// partition or of an empty container by its number.
    pub fn write(
        &self,
        size: u64,
        at: &dyn Fn(u32) -> (ByteRange, ByteRange),
        container: Option<ByteRange>,
        signature: Option<[u8; 4]>,
    ) -> Vec<Patch> {
        let mut out = Vec::new();
        let mut sector = self.sector.clone();
        if let Some(s) = signature {
            sector[SIGNATURE..SIGNATURE + 4].copy_from_slice(&s);
        }
        for slot in 0..4 {
            let number = slot as u32 + 1;
            let e: [u8; 16] = sector[ENTRIES + 16 * slot..][..16]
                .try_into()
                .unwrap_or_default();
            let used = e[4] != 0 && e[12..] != [0; 4];
            let (old, new) = match &self.container {
                Some(c) if c.number == number => (c.range, container.unwrap_or(c.range)),
                _ if used => at(number),
                _ => continue,
            };
            let (start, count) = sectors(new, size);
            put(
                &mut sector,
                slot,
                start,
                count,
                new.start / size,
                old.start != new.start,
            );
        }
        if sector != self.sector {
            out.push(Patch {
                offset: 0,
                bytes: sector,
            });
        }
        if let (Some(c), Some(new)) = (&self.container, container) {
            c.write(size, at, new, &mut out);
        }
        out
    }
}

impl OldContainer {
    fn of(
        disk: &dyn Source,
        layout: &Layout,
        number: u32,
        range: ByteRange,
        chain: &mbr::Chain,
    ) -> Result<Self> {
        let size = u64::from(layout.sector_size);
        let mut links: Vec<Link> = Vec::new();
        let logical: Vec<&Partition> = layout.partitions.iter().filter(|p| p.number > 4).collect();
        if logical.len() != chain.logical.len() {
            return Err(no_way("Not all logical partitions are known"));
        }
        let mut behind = range.start;
        for (p, l) in logical.into_iter().zip(&chain.logical) {
            let record = l.record.0 * size;
            if l.slot != 0 || record < behind || record + size > p.start {
                return Err(no_way(
                    "The records of the logical partitions do not each lie in front of their partition, in its order",
                ));
            }
            let from = match links.is_empty() {
                true => range.start,
                false => record,
            };
            links.push(Link {
                number: p.number,
                lead: (p.start - from).min(ALIGN),
                sector: read_sector(disk, record, layout.sector_size)?,
                record,
            });
            behind = p.range().end;
        }
        if behind > range.end {
            return Err(no_way(
                "A logical partition reaches out of its extended one",
            ));
        }
        let mut records: Vec<ByteRange> = (chain.records.iter())
            .map(|r| ByteRange {
                start: r.0 * size,
                end: (r.0 + 1) * size,
            })
            .collect();
        if records.is_empty() {
            return Err(no_way("The extended partition has no boot record"));
        }
        records.sort_unstable();
        Ok(Self {
            number,
            range,
            records,
            links,
        })
    }

    /// Where it goes. `free`: what its neighbours leave.
    pub fn place(&self, at: &dyn Fn(u32) -> (ByteRange, ByteRange), free: ByteRange) -> ByteRange {
        let (Some(first), Some(last)) = (self.links.first(), self.links.last()) else {
            return at(self.number).1;
        };
        let stays = self.links.iter().all(|l| {
            let (old, new) = at(l.number);
            old == new
        });
        if stays && free.start <= self.range.start && self.range.end <= free.end {
            return self.range;
        }
        ByteRange {
            start: at(first.number).1.start - first.lead,
            end: at(last.number).1.end,
        }
    }

    fn write(
        &self,
        size: u64,
        at: &dyn Fn(u32) -> (ByteRange, ByteRange),
        new: ByteRange,
        out: &mut Vec<Patch>,
    ) {
        if new == self.range && self.links.iter().all(|l| at(l.number).0 == at(l.number).1) {
            return;
        }
        if self.links.is_empty() {
            // Only its end: an empty record does not speak of that.
            if new.start != self.range.start {
                let mut bytes = vec![0; size as usize];
                bytes[MBR_BYTES - 2..MBR_BYTES].copy_from_slice(&[0x55, 0xaa]);
                out.push(Patch {
                    offset: new.start,
                    bytes,
                });
            }
            return;
        }
        let place = |l: &Link| {
            let new = at(l.number).1;
            (new, new.start - l.lead)
        };
        for (i, l) in self.links.iter().enumerate() {
            let (part, record) = place(l);
            let mut bytes = l.sector.clone();
            let rel = ((part.start - record) / size) as u32;
            let count = (part.len() / size) as u32;
            let moved = at(l.number).0.start != part.start;
            put(&mut bytes, 0, rel, count, part.start / size, moved);
            match self.links.get(i + 1).map(place) {
                Some((next, its)) => {
                    let e = ENTRIES + 16;
                    if !matches!(bytes[e + 4], 0x05 | 0x0f | 0x85) {
                        bytes[e..e + 16].fill(0);
                        bytes[e + 4] = 0x05;
                    }
                    let rel = ((its - new.start) / size) as u32;
                    let count = ((next.end - its) / size) as u32;
                    put(&mut bytes, 1, rel, count, its / size, moved);
                }
                None => bytes[ENTRIES + 16..ENTRIES + 32].fill(0),
            }
            bytes[ENTRIES + 32..ENTRIES + 64].fill(0);
            out.push(Patch {
                offset: record,
                bytes,
            });
        }
    }
}
