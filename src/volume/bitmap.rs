//! `$Bitmap`: which clusters the file system says are in use, and the bitmap of
//! `$MFT`, which says the same of file records. One bit each, least significant
//! first.

use super::attr::DATA;
use super::extents::ExtentMap;
use super::file::FileStream;
use super::finding::Finding;
use super::mft::MftBitmap;
use super::open::Volume;
use crate::error::Result;
use crate::units::{ClusterSet, RecordNo};

const RECORD: RecordNo = RecordNo(6);
const STEP: u64 = 1 << 20;
const SMALL_STEP: u64 = 4096;

/// What `$Bitmap` says of the clusters.
pub struct ClusterBitmap {
    /// In use.
    pub used: ClusterSet,
    /// Nothing is known: that part is missing or cannot be read.
    pub unknown: ClusterSet,
    /// Why.
    pub notes: Vec<Finding>,
}

impl ClusterBitmap {
    /// Reads `$Bitmap`. Never fails: what cannot be read is unknown.
    pub fn read(volume: &Volume) -> Self {
        let limit = volume.cluster_limit();
        let mut bitmap = Self {
            used: ClusterSet::new(limit),
            unknown: ClusterSet::new(limit),
            notes: Vec::new(),
        };
        if let Err(e) = bitmap.load(volume, limit) {
            let what = "$Bitmap cannot be read, every cluster counts as used";
            bitmap.notes.push(Finding::survived("bitmap", what, &e));
            bitmap.unknown.insert(0..limit);
        }
        bitmap
    }

    fn load(&mut self, volume: &Volume, limit: u64) -> Result<()> {
        let file = volume.file(RECORD)?;
        self.notes.extend(file.notes.iter().cloned());
        let missing = || crate::error::Error::damaged("Found no $DATA in file record 6");
        let joined = match file.stream(DATA, &[]).ok_or_else(missing)? {
            FileStream::Resident(_, value) => {
                self.used.load_bitmap(0, value);
                self.short(value.len() as u64, limit);
                return Ok(());
            }
            FileStream::NonResident(joined) => joined,
        };
        self.notes.extend(joined.notes.iter().cloned());
        let (size, written) = (joined.header().size, joined.header().initialized);
        let wanted = limit.div_ceil(8);
        self.short(size, limit);
        let end = size.min(wanted).min(written);
        let mut buffer = vec![0; STEP.min(end) as usize];
        let mut at = 0;
        while at < end {
            let len = STEP.min(end - at);
            if !self.part(volume, &joined.map, at, &mut buffer[..len as usize]) {
                let mut small = at;
                while small < at + len {
                    let step = SMALL_STEP.min(at + len - small);
                    if !self.part(volume, &joined.map, small, &mut buffer[..step as usize]) {
                        self.unknown.insert(small * 8..(small + step) * 8);
                    }
                    small += step;
                }
            }
            at += len;
        }
        let unknown = self.unknown.count();
        if unknown > 0 {
            let message =
                format!("{unknown} clusters count as used: their part of $Bitmap cannot be read");
            self.notes.push(Finding::new("bitmap", message));
        }
        Ok(())
    }

    fn part(&mut self, volume: &Volume, map: &ExtentMap, at: u64, buffer: &mut [u8]) -> bool {
        let read = volume.read_extents(map, at, buffer).is_ok();
        if read {
            self.used.load_bitmap(at * 8, buffer);
        }
        read
    }

    fn short(&mut self, size: u64, limit: u64) {
        let wanted = limit.div_ceil(8);
        if size < wanted {
            let message = format!("Found {size} bytes of $Bitmap, expected at least {wanted}");
            self.notes.push(Finding::new("bitmap", message));
            self.unknown.insert(size * 8..limit);
        }
    }
}

/// What `$MFT::$BITMAP` says of the records.
pub struct MarkedRecords {
    used: ClusterSet,
    /// Nothing is known behind this.
    known: u64,
}

impl MarkedRecords {
    /// Reads it up to the first part that cannot be read, which is noted.
    pub fn read(volume: &Volume, notes: &mut Vec<Finding>) -> Self {
        let count = volume.mft().record_count;
        let mut used = ClusterSet::new(count);
        let known = match &volume.mft().bitmap {
            MftBitmap::Missing => 0,
            MftBitmap::Resident(value) => {
                used.load_bitmap(0, value);
                value.len() as u64 * 8
            }
            MftBitmap::NonResident { extents, size } => {
                let end = count.div_ceil(8).min(*size);
                let mut buffer = vec![0; STEP.min(end) as usize];
                let mut at = 0;
                while at < end {
                    let now = &mut buffer[..STEP.min(end - at) as usize];
                    if let Err(e) = volume.read_extents(extents, at, now) {
                        let what = "The bitmap of the MFT cannot be read";
                        notes.push(Finding::survived("mft-bitmap", what, &e));
                        break;
                    }
                    used.load_bitmap(at * 8, now);
                    at += now.len() as u64;
                }
                at * 8
            }
        };
        Self { used, known }
    }

    /// True when it calls a record used.
    pub fn is_used(&self, record: RecordNo) -> bool {
        self.used.contains(record.0)
    }

    /// True when it calls a record free.
    pub fn is_free(&self, record: RecordNo) -> bool {
        record.0 < self.known && !self.used.contains(record.0)
    }
}
