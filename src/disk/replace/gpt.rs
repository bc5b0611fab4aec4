//! The GUID partition table, written anew: the bytes of the old one with other
//! places in them. Fields as in the UEFI specification, chapter 5.

use super::mbr::{SIGNATURE, chs};
use super::plan::Patch;
use super::read_sector;
use crate::device::Source;
use crate::disk::gpt::{Attempt, Gpt};
use crate::disk::guid::Guid;
use crate::disk::{GptHeader, Layout, Side};
use crate::error::{Error, Result};
use crate::units::{ByteRange, Lba};

/// A GUID partition table in memory.
pub(super) struct OldGpt {
    /// The header's bytes, as many as its CRC covers.
    header: Vec<u8>,
    /// The array of entries, padded to whole sectors.
    array: Vec<u8>,
    /// Bytes of the array that its CRC covers.
    array_len: usize,
    entry_size: usize,
    /// Where the array of the primary table begins, in sectors.
    entries_at: u64,
    /// First byte for partitions.
    pub low: u64,
    /// The first sector of the disk.
    mbr: Vec<u8>,
    /// Where the copy was.
    pub backup: Vec<ByteRange>,
    size: u64,
}

/// What changes in an entry.
pub(super) struct Change {
    /// Its number.
    pub number: u32,
    /// Where it goes, in bytes.
    pub new: ByteRange,
    /// Its new GUID.
    pub id: Option<Guid>,
    /// Its new type.
    pub kind: Option<Guid>,
}

impl OldGpt {
    /// Reads what `layout` was found in, by the primary table or by its copy.
    pub fn read(disk: &dyn Source, layout: &Layout) -> Result<Self> {
        let size = u64::from(layout.sector_size);
        let last = Lba((layout.length / size).saturating_sub(1));
        let mut other = last;
        let mut found = None;
        match Gpt::read(disk, layout.sector_size, Lba(1), Side::Primary)? {
            Attempt::Found(g) if g.entries_sound => found = Some((Lba(1), g)),
            Attempt::Found(g) => other = g.header.alternate,
            Attempt::Wrong(_, at) if at.0 > 1 => other = at,
            _ => {}
        }
        for at in [other, last] {
            if found.is_none()
                && let Attempt::Found(g) = Gpt::read(disk, layout.sector_size, at, Side::Backup)?
                && g.entries_sound
            {
                found = Some((at, g));
            }
        }
        let Some((at, gpt)) = found else {
            return Err(Error::damaged("There is no sound GPT any more"));
        };
        let h = gpt.header;
        for p in &layout.partitions {
            if !gpt.entries.iter().any(|e| {
                e.number == p.number
                    && e.first.0.checked_mul(size) == Some(p.start)
                    && (e.last.0 - e.first.0 + 1).checked_mul(size) == Some(p.declared)
            }) {
                return Err(Error::damaged(format!(
                    "The GPT says something else of partition {} than the layout",
                    p.number
                )));
            }
        }
        if gpt.entries.len() != layout.partitions.len() {
            return Err(Error::damaged(format!(
                "The GPT has {} partitions, the layout {}",
                gpt.entries.len(),
                layout.partitions.len()
            )));
        }
        let sector = read_sector(disk, at.0 * size, layout.sector_size)?;
        let header_len = u32::from_le_bytes([sector[12], sector[13], sector[14], sector[15]]);
        // Both were checked when the header was read.
        let array_len = h.entry_count as usize * h.entry_size as usize;
        let mut array = vec![0; array_len];
        disk.read_at(h.entries_at.0 * size, &mut array)?;
        array.resize(array_len.next_multiple_of(size as usize), 0);
        let sectors = array.len() as u64 / size;
        let entries_at = match gpt.side {
            Side::Primary => h.entries_at.0,
            Side::Backup => 2,
        };
        if entries_at < 2 || entries_at + sectors > h.first_usable.0 {
            return Err(Error::unsupported(format!(
                "The entries of the GPT do not lie between its header and its first partition (sector {}); such a disk is restored as it was only, to one of the same length",
                h.first_usable
            )));
        }
        let backup = match gpt.side {
            Side::Primary => backup(disk, layout, &h, sectors)?,
            Side::Backup => vec![at.0..at.0 + 1, h.entries_at.0..h.entries_at.0 + sectors],
        };
        let backup = (backup.into_iter())
            .map(|r| ByteRange {
                start: r.start.saturating_mul(size).min(layout.length),
                end: r.end.saturating_mul(size).min(layout.length),
            })
            .collect();
        Ok(Self {
            header: sector[..(header_len as usize).min(sector.len())].to_vec(),
            array,
            array_len,
            entry_size: h.entry_size as usize,
            entries_at,
            low: h.first_usable.0.saturating_mul(size),
            mbr: read_sector(disk, 0, layout.sector_size)?,
            backup,
            size,
        })
    }

    /// A new one with 128 entries, none of them used.
    pub fn fresh(size: u32, disk_id: Guid) -> Self {
        let bytes = u64::from(size);
        let mut header = vec![0; 92];
        header[..8].copy_from_slice(b"EFI PART");
        header[8..12].copy_from_slice(&0x1_0000u32.to_le_bytes());
        header[12..16].copy_from_slice(&92u32.to_le_bytes());
        header[0x38..0x48].copy_from_slice(&disk_id.0);
        header[0x50..0x54].copy_from_slice(&128u32.to_le_bytes());
        header[0x54..0x58].copy_from_slice(&128u32.to_le_bytes());
        let array = vec![0; (128 * 128usize).next_multiple_of(size as usize)];
        let low = 2 * bytes + array.len() as u64;
        header[0x28..0x30].copy_from_slice(&(low / bytes).to_le_bytes());
        Self {
            header,
            array_len: 128 * 128,
            array,
            entry_size: 128,
            entries_at: 2,
            low,
            mbr: vec![0; size as usize],
            backup: Vec::new(),
            size: bytes,
        }
    }

    /// Fills in the first entry of a fresh one.
    pub fn describe(&mut self, kind: Guid, id: Guid, attributes: u64, name: &str) {
        let e = &mut self.array[..128];
        e[..16].copy_from_slice(&kind.0);
        e[16..32].copy_from_slice(&id.0);
        e[48..56].copy_from_slice(&attributes.to_le_bytes());
        for (at, unit) in e[56..128].chunks_exact_mut(2).zip(name.encode_utf16()) {
            at.copy_from_slice(&unit.to_le_bytes());
        }
    }

    /// Bytes at the end of a disk that the copy takes.
    pub fn tail(&self) -> u64 {
        self.array.len() as u64 + self.size
    }

    /// First byte behind the room for partitions, on a disk of `len` bytes.
    pub fn high(&self, len: u64) -> u64 {
        (len / self.size * self.size).saturating_sub(self.tail())
    }

    /// The whole table for a disk of `len` bytes; the second value says that
    /// there was no protective boot record.
    pub fn write(
        &self,
        len: u64,
        changes: &[Change],
        disk_id: Option<Guid>,
    ) -> Result<(Vec<Patch>, bool)> {
        let size = self.size;
        let mut array = self.array.clone();
        for c in changes {
            let at = (c.number as usize - 1) * self.entry_size;
            let e = &mut array[at..at + self.entry_size];
            e[32..40].copy_from_slice(&(c.new.start / size).to_le_bytes());
            e[40..48].copy_from_slice(&(c.new.end / size - 1).to_le_bytes());
            if let Some(kind) = c.kind {
                e[..16].copy_from_slice(&kind.0);
            }
            if let Some(id) = c.id {
                e[16..32].copy_from_slice(&id.0);
            }
        }
        let total = len / size;
        let sectors = array.len() as u64 / size;
        let last = total - 1;
        let mut primary = vec![0; size as usize];
        primary[..self.header.len()].copy_from_slice(&self.header);
        let word =
            |h: &mut [u8], at: usize, v: u64| h[at..at + 8].copy_from_slice(&v.to_le_bytes());
        word(&mut primary, 0x30, last - sectors - 1);
        if let Some(id) = disk_id {
            primary[0x38..0x48].copy_from_slice(&id.0);
        }
        let crc = crc32fast::hash(&array[..self.array_len]);
        primary[0x58..0x5c].copy_from_slice(&crc.to_le_bytes());
        let mut copy = primary.clone();
        for (h, at, other, entries) in [
            (&mut primary, 1, last, self.entries_at),
            (&mut copy, last, 1, last - sectors),
        ] {
            word(h, 0x18, at);
            word(h, 0x20, other);
            word(h, 0x48, entries);
            h[0x10..0x14].fill(0);
            let crc = crc32fast::hash(&h[..self.header.len()]);
            h[0x10..0x14].copy_from_slice(&crc.to_le_bytes());
        }
        let (mbr, lacking) = self.protective(total);
        let patch = |sector: u64, bytes: Vec<u8>| Patch {
            offset: sector * size,
            bytes,
        };
        Ok((
            vec![
                patch(0, mbr),
                patch(1, primary),
                patch(self.entries_at, array.clone()),
                patch(last - sectors, array),
                patch(last, copy),
            ],
            lacking,
        ))
    }

    /// The protective boot record: code and signature stay, its entry covers
    /// the disk as far as 32 bits go.
    fn protective(&self, total: u64) -> (Vec<u8>, bool) {
        let mut s = self.mbr.clone();
        let slot = (0..4).find(|i| s[0x1be + 16 * i + 4] == 0xee);
        let lacking = slot.is_none();
        if lacking {
            s[SIGNATURE + 6..512].fill(0);
        }
        s[510..512].copy_from_slice(&[0x55, 0xaa]);
        let e = &mut s[0x1be + 16 * slot.unwrap_or(0)..][..16];
        let sectors = u32::try_from(total - 1).unwrap_or(u32::MAX);
        let end = match chs(total - 1) {
            [254, 0xff, 0xff] => [0xff; 3],
            there => there,
        };
        e[1..4].copy_from_slice(&[0, 2, 0]);
        e[4] = 0xee;
        e[5..8].copy_from_slice(&end);
        e[8..12].copy_from_slice(&1u32.to_le_bytes());
        e[12..].copy_from_slice(&sectors.to_le_bytes());
        (s, lacking)
    }
}

/// The sectors of the copy of a primary table.
fn backup(
    disk: &dyn Source,
    layout: &Layout,
    h: &GptHeader,
    sectors: u64,
) -> Result<Vec<std::ops::Range<u64>>> {
    let at = h.alternate.0;
    if at <= 1 || at >= layout.length / u64::from(layout.sector_size) {
        return Ok(Vec::new());
    }
    let entries = match Gpt::read(disk, layout.sector_size, h.alternate, Side::Backup)? {
        Attempt::Found(b) => b.header.entries_at.0,
        Attempt::Wrong(..) => at.saturating_sub(sectors),
        Attempt::Absent => return Ok(Vec::new()),
    };
    Ok(vec![at..at + 1, entries..entries.saturating_add(sectors)])
}
