//! The search for a partition table: which one it is, for which sector size it
//! was written, and how far the medium agrees with it.

use super::gpt::{Attempt, Gpt, Side};
use super::layout::{Container, Layout, Partition, PartitionType, TableKind};
use super::mbr::{self, MBR_BYTES, Mbr, MbrEntry};
use super::read_some;
use super::recognise::{Content, may_own, recognise};
use crate::device::{RangeSet, Source};
use crate::error::{Error, Result};
use crate::units::{ByteRange, Lba};

/// Most partitions that are looked at; the space of further ones counts as
/// outside of all partitions, so nothing is lost.
const MAX_PARTITIONS: usize = 256;
/// Sector sizes in bytes that a table may have been written for.
const SECTOR_SIZES: [u32; 4] = [512, 4096, 2048, 1024];

/// How to look for a table.
#[derive(Clone, Copy, Debug, Default)]
pub struct LayoutOptions {
    /// Bytes per sector of the table; found out when not given.
    pub sector_size: Option<u32>,
    /// Take the source as one bare volume, whatever it looks like.
    pub bare: bool,
}

/// Finds out what a source consists of.
pub fn open_layout(source: &dyn Source) -> Result<Layout> {
    open_layout_with(source, LayoutOptions::default())
}

/// As [`open_layout`], with some things already known.
pub fn open_layout_with(source: &dyn Source, options: LayoutOptions) -> Result<Layout> {
    if let Some(s) = options.sector_size
        && !(s.is_power_of_two() && (512..=65536).contains(&s))
    {
        return Err(Error::usage(format!(
            "Found a sector size of {s} bytes, expected a power of two from 512 to 65536"
        )));
    }
    let mut sizes = Vec::new();
    match options.sector_size {
        Some(s) => sizes.push(s),
        None => {
            let own = source.sector_size();
            sizes.extend((own.is_power_of_two() && own >= 512).then_some(own));
            sizes.extend(SECTOR_SIZES.iter().filter(|&&s| s != own));
        }
    }
    let mut layout = Layout {
        table: TableKind::None,
        sector_size: sizes[0],
        length: source.len(),
        disk_id: None,
        partitions: Vec::new(),
        containers: Vec::new(),
        gaps: Vec::new(),
        notes: Vec::new(),
    };
    let first = read_some(source, 0, MBR_BYTES)?;
    let record = first.as_deref().and_then(|s| Mbr::parse(s).ok());
    let record = record.as_ref();
    let finder = Finder {
        source,
        sizes: &sizes,
    };
    // Looking at all of it costs the most of the whole search; beside a table
    // with entries only a first sector of two minds needs it.
    let decided = !options.bare
        && record.is_some_and(|r| r.used().next().is_some())
        && !first.as_deref().is_some_and(may_own);
    let whole = match decided {
        true => Content::Unknown,
        false => recognise(source, 0, source.len())?,
    };
    let nothing = matches!(
        whole,
        Content::Empty | Content::Unknown | Content::Unreadable
    );

    // A boot sector of a file system may end like a boot record. It is one
    // only if what its entries point at is something, too.
    let record = match record {
        Some(r) if whole.owns_first_sector() && !finder.points_at_something(r)? => None,
        r => r,
    };
    let may_be_gpt = match record {
        Some(r) => r.is_protective() || r.used().next().is_none(),
        None => nothing,
    };
    if options.bare {
        bare(&mut layout, whole);
    } else if may_be_gpt && finder.gpt(&mut layout, record)? {
        // Filled in.
    } else if let Some(r) = record.filter(|r| r.used().next().is_some() || nothing) {
        if !may_be_gpt && finder.has_primary_gpt()? {
            layout.note(
                "stale-gpt",
                "There is a GPT as well, but the boot record does not protect it; it is ignored",
            );
        }
        finder.mbr(&mut layout, r)?;
    } else {
        bare(&mut layout, whole);
    }
    finish(source, &mut layout)?;
    Ok(layout)
}

fn bare(layout: &mut Layout, content: Content) {
    layout.partitions.push(Partition {
        number: 1,
        start: 0,
        length: layout.length,
        declared: layout.length,
        kind: PartitionType::Whole,
        name: None,
        id: None,
        bootable: false,
        attributes: 0,
        content,
    });
}

/// A search on one source.
struct Finder<'a> {
    source: &'a dyn Source,
    /// Sector sizes to try, the most likely one first.
    sizes: &'a [u32],
}

impl Finder<'_> {
    /// True when something is recognised where an entry says that a partition
    /// begins.
    fn points_at_something(&self, record: &Mbr) -> Result<bool> {
        for &size in self.sizes {
            if self.hits(record, size)? > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How many entries point at something, with this sector size.
    fn hits(&self, record: &Mbr, size: u32) -> Result<u32> {
        let mut n = 0;
        for (_, e) in record.used().filter(|(_, e)| e.start.0 > 0) {
            // Both factors are below 2^33: no overflow.
            let start = e.start.0 * u64::from(size);
            if start >= self.source.len() {
                continue;
            }
            let hit = if e.is_extended() {
                read_some(self.source, start, MBR_BYTES)?.is_some_and(|s| Mbr::parse(&s).is_ok())
            } else {
                let c = recognise(self.source, start, e.sectors * u64::from(size))?;
                !matches!(c, Content::Empty | Content::Unknown | Content::Unreadable)
            };
            n += u32::from(hit);
        }
        Ok(n)
    }

    fn has_primary_gpt(&self) -> Result<bool> {
        for &size in self.sizes {
            if let Attempt::Found(_) = Gpt::read(self.source, size, Lba(1), Side::Primary)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where the copy of a GPT belongs: the last sector.
    fn last(&self, size: u32) -> Lba {
        Lba((self.source.len() / u64::from(size)).saturating_sub(1))
    }

    /// Fills in a GPT, if there is one. The best of: sound primary, sound copy,
    /// primary with wrong entries, copy with wrong entries.
    fn gpt(&self, layout: &mut Layout, record: Option<&Mbr>) -> Result<bool> {
        let mut found: Vec<(u32, Gpt)> = Vec::new();
        let mut wrong: Vec<String> = Vec::new();
        let mut others: Vec<(u32, Lba)> = Vec::new();
        for &size in self.sizes {
            match Gpt::read(self.source, size, Lba(1), Side::Primary)? {
                Attempt::Absent => {}
                Attempt::Wrong(why, other) => {
                    // An unreadable sector says nothing about the other sizes.
                    if other.0 != 0 || size == self.sizes[0] {
                        wrong.push(format!("primary GPT: {why}"));
                    }
                    others.push((size, other));
                }
                Attempt::Found(g) => found.push((size, g)),
            }
        }
        let primary = found.iter().any(|(_, g)| g.entries_sound);
        if !primary {
            others.extend(found.iter().map(|(s, g)| (*s, g.header.alternate)));
            others.extend(self.sizes.iter().map(|&s| (s, self.last(s))));
            others.sort_unstable();
            others.dedup();
            for (size, at) in others.into_iter().filter(|(_, at)| at.0 > 1) {
                match Gpt::read(self.source, size, at, Side::Backup)? {
                    Attempt::Absent => {}
                    Attempt::Wrong(why, _) if at == self.last(size) => {
                        wrong.push(format!("copy of the GPT: {why}"));
                    }
                    Attempt::Wrong(..) => {}
                    Attempt::Found(g) => found.push((size, g)),
                }
            }
        }
        found.sort_by_key(|(_, g)| (!g.entries_sound, g.side == Side::Backup));
        let Some((size, gpt)) = found.into_iter().next() else {
            for w in wrong {
                layout.note(
                    "gpt-damaged",
                    format!("A GPT was found but is not usable: {w}"),
                );
            }
            return Ok(false);
        };
        layout.table = TableKind::Gpt;
        layout.sector_size = size;
        layout.disk_id = Some(gpt.header.disk_id.to_string());
        self.gpt_notes(layout, &gpt, size, record, &wrong)?;
        for e in &gpt.entries {
            if layout.partitions.len() == MAX_PARTITIONS {
                layout.note(
                    "many-partitions",
                    format!("There are more than {MAX_PARTITIONS} partitions; the rest is taken as space outside of them"),
                );
                break;
            }
            if e.first.0 == 0 || e.last < e.first {
                layout.note(
                    "bad-entry",
                    format!(
                        "Partition {} claims the sectors {} to {}, which is no range; it is left out",
                        e.number, e.first, e.last
                    ),
                );
                continue;
            }
            let (lo, hi) = (gpt.header.first_usable, gpt.header.last_usable);
            if e.first < lo || e.last > hi {
                layout.note(
                    "out-of-table",
                    format!(
                        "Partition {} (sectors {} to {}) lies outside of the sectors {lo} to {hi} that the table is for",
                        e.number, e.first, e.last
                    ),
                );
            }
            let sectors = (e.last.0 - e.first.0).saturating_add(1);
            let p = Partition {
                number: e.number,
                start: 0,
                length: 0,
                declared: 0,
                kind: PartitionType::Gpt(e.kind),
                name: (!e.name.is_empty()).then(|| e.name.clone()),
                id: Some(e.id),
                bootable: false,
                attributes: e.attributes,
                content: Content::Unknown,
            };
            self.place(layout, p, e.first, sectors)?;
        }
        Ok(true)
    }

    fn gpt_notes(
        &self,
        layout: &mut Layout,
        gpt: &Gpt,
        size: u32,
        record: Option<&Mbr>,
        wrong: &[String],
    ) -> Result<()> {
        for w in wrong {
            layout.note("gpt-damaged", format!("Damaged {w}"));
        }
        if gpt.side == Side::Backup {
            layout.note(
                "gpt-backup",
                "The copy of the GPT at the end of the disk is used, because the primary one is not usable",
            );
        }
        if !gpt.entries_sound {
            layout.note(
                "gpt-entries",
                "The CRC of the GPT entries is wrong and there is no sound copy; they are used as they are",
            );
        }
        let last = self.last(size);
        if gpt.side == Side::Primary && gpt.entries_sound {
            let other = gpt.header.alternate;
            let problem = match Gpt::read(self.source, size, other, Side::Backup)? {
                Attempt::Found(b) if !b.entries_sound => {
                    Some("its entries have a wrong CRC".into())
                }
                Attempt::Found(b) if b.entries != gpt.entries => {
                    Some("its entries differ from those of the primary one".into())
                }
                Attempt::Found(_) => None,
                Attempt::Wrong(why, _) => Some(why),
                Attempt::Absent if other > last => Some(format!(
                    "it belongs in sector {other}, behind the end of the source"
                )),
                Attempt::Absent => Some(format!("there is none in sector {other}")),
            };
            if let Some(p) = problem {
                layout.note("gpt-copy", format!("The copy of the GPT is not sound: {p}"));
            } else if other != last {
                layout.note(
                    "gpt-copy-place",
                    format!("The copy of the GPT lies in sector {other}, not in the last one ({last}): the disk is larger than its table says"),
                );
            }
        }
        match record {
            None => layout.note(
                "no-protective-mbr",
                "There is a GPT without a protective boot record in the first sector",
            ),
            Some(r) if r.used().any(|(_, e)| !e.is_protective()) => layout.note(
                "hybrid-mbr",
                "The boot record lists partitions beside the GPT (a hybrid); those of the GPT are used",
            ),
            Some(_) => {}
        }
        Ok(())
    }

    /// Fills in the partitions of a boot record.
    fn mbr(&self, layout: &mut Layout, record: &Mbr) -> Result<()> {
        let mut best = (0, self.sizes[0]);
        if self.sizes.len() > 1 {
            let most = record.used().filter(|(_, e)| e.start.0 > 0).count();
            for &size in self.sizes {
                let hits = self.hits(record, size)?;
                if hits > best.0 {
                    best = (hits, size);
                }
                if hits as usize == most {
                    break;
                }
            }
        }
        let size = best.1;
        layout.table = TableKind::Mbr;
        layout.sector_size = size;
        layout.disk_id = (record.signature != 0).then(|| format!("{:08x}", record.signature));
        if record.is_protective() {
            layout.note(
                "gpt-lost",
                "The boot record protects a GPT, but neither the GPT nor its copy is usable; its partitions are not known",
            );
        }
        let mut logical: Vec<MbrEntry> = Vec::new();
        for (number, e) in record.used() {
            if !e.is_extended() {
                self.place(layout, mbr_partition(number, e), e.start, e.sectors)?;
                continue;
            }
            let range = self.clamp(e.start, e.sectors, size);
            layout.containers.push(Container { number, range });
            let mut notes = Vec::new();
            let chain = mbr::chain(self.source, size, e, &mut notes)?;
            logical.extend(chain.logical.iter().map(|l| l.entry));
            for n in notes {
                layout.note("logical-chain", n);
            }
        }
        for (number, e) in (5u32..).zip(&logical).take(MAX_PARTITIONS) {
            self.place(layout, mbr_partition(number, e), e.start, e.sectors)?;
        }
        Ok(())
    }

    fn clamp(&self, first: Lba, sectors: u64, size: u32) -> ByteRange {
        let len = self.source.len();
        let start = first.0.saturating_mul(u64::from(size));
        let end = start.saturating_add(sectors.saturating_mul(u64::from(size)));
        ByteRange {
            start: start.min(len),
            end: end.min(len),
        }
    }

    /// Gives a partition its place, cut at the end of the source, and looks
    /// what it holds.
    fn place(&self, layout: &mut Layout, mut p: Partition, first: Lba, sectors: u64) -> Result<()> {
        let size = layout.sector_size;
        let declared = sectors.saturating_mul(u64::from(size));
        let start = first.0.saturating_mul(u64::from(size));
        let there = self.clamp(first, sectors, size);
        (p.start, p.length, p.declared) = (start, there.len(), declared);
        if there.len() < declared {
            layout.note(
                "cut-off",
                format!(
                    "Partition {} should have {declared} bytes from byte {start:#x} on, but the source ends after {} of them",
                    p.number,
                    there.len()
                ),
            );
        }
        p.content = recognise(self.source, start, p.length)?;
        layout.partitions.push(p);
        Ok(())
    }
}

fn mbr_partition(number: u32, e: &MbrEntry) -> Partition {
    Partition {
        number,
        start: 0,
        length: 0,
        declared: 0,
        kind: PartitionType::Mbr(e.kind),
        name: None,
        id: None,
        bootable: e.status == 0x80,
        attributes: 0,
        content: Content::Unknown,
    }
}

/// Order, gaps, and what can only be said at the end.
fn finish(source: &dyn Source, layout: &mut Layout) -> Result<()> {
    layout.partitions.sort_by_key(|p| p.number);
    if layout.table != TableKind::None && layout.sector_size != source.sector_size() {
        let message = format!(
            "The partition table is written for sectors of {} bytes, the source has sectors of {}",
            layout.sector_size,
            source.sector_size()
        );
        layout.note("sector-size", message);
    }
    let taken: RangeSet = layout.partitions.iter().map(Partition::range).collect();
    layout.gaps = taken.without(ByteRange {
        start: 0,
        end: layout.length,
    });

    let mut by_start: Vec<(ByteRange, u32)> = layout
        .partitions
        .iter()
        .filter(|p| p.length > 0)
        .map(|p| (p.range(), p.number))
        .collect();
    by_start.sort_unstable();
    let mut furthest: Option<(u64, u32)> = None;
    for (r, number) in by_start {
        if let Some((end, other)) = furthest.filter(|(end, _)| *end > r.start) {
            let shared = end.min(r.end) - r.start;
            layout.note(
                "overlap",
                format!(
                    "The partitions {other} and {number} share {shared} bytes from byte {:#x} on",
                    r.start
                ),
            );
        }
        if furthest.is_none_or(|(end, _)| r.end > end) {
            furthest = Some((r.end, number));
        }
    }
    let dynamic = |p: &Partition| {
        matches!(p.kind, PartitionType::Mbr(0x42))
            || p.kind
                .name()
                .is_some_and(|n| n.starts_with("Windows dynamic disk"))
    };
    if layout.partitions.iter().any(dynamic) {
        layout.note(
            "dynamic-disk",
            "This is a dynamic disk of Windows: its volumes are described in a database of its own, which is not read",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
