//! Opening a volume: the boot sector or its copy behind the last cluster, then
//! the MFT or its mirror. Every fallback is said.

use super::attr::{VOLUME_INFORMATION, VOLUME_NAME, u16_at};
use super::boot::{BOOT_LEN, Geometry, parse_boot};
use super::extents::{ExtentMap, Medium};
use super::file::{FileRecords, Record};
use super::finding::Finding;
use super::mft::{self, Mft};
use crate::device::SharedSource;
use crate::error::{Error, ErrorKind, Result};
use crate::units::{Lcn, RecordNo};
use serde::{Deserialize, Serialize};

/// What `$Volume` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeInfo {
    /// Label.
    pub label: String,
    /// Version of NTFS: 3.1 since Windows XP, 3.0 Windows 2000, 1.2 Windows NT 4.
    pub version: (u8, u8),
    /// Flags as stored; see [`super::health()`].
    pub flags: u16,
}

/// An NTFS volume, opened. Shared by threads; it never changes.
#[derive(Clone)]
pub struct Volume {
    medium: Medium,
    mft: Mft,
    info: Option<VolumeInfo>,
    notes: Vec<Finding>,
}

impl Volume {
    /// Opens the volume that fills `source`.
    pub fn open(source: SharedSource) -> Result<Self> {
        let name = source.name().to_owned();
        Self::open_unnamed(source).map_err(|e| e.of(name))
    }

    fn open_unnamed(source: SharedSource) -> Result<Self> {
        let mut notes = Vec::new();
        let mut candidates = Vec::new();
        let primary = read_boot(&source, 0);
        if let Err(e) = &primary
            && e.kind() == ErrorKind::Unsupported
        {
            return primary.map(|_| unreachable!("it is an error"));
        }
        let reason = match primary {
            Ok(geometry) => match attempt(&source, geometry, geometry.mft_lcn, &mut notes) {
                Ok((medium, mft)) => return Ok(Self::finish(medium, mft, notes)),
                Err(e) => {
                    candidates.push((geometry, 0));
                    e
                }
            },
            Err(e) => e,
        };
        let places = backup_places(&source, candidates.first().map(|c| &c.0));
        for at in places {
            let Ok(geometry) = read_boot(&source, at) else {
                continue;
            };
            if candidates.iter().any(|(g, _)| *g == geometry) {
                continue;
            }
            candidates.push((geometry, at));
            notes.clear();
            if let Ok((medium, mft)) = attempt(&source, geometry, geometry.mft_lcn, &mut notes) {
                let what = format!("The backup boot sector at byte {at:#x} is used");
                notes.insert(0, Finding::survived("boot-sector", &what, &reason));
                return Ok(Self::finish(medium, mft, notes));
            }
        }
        for (geometry, at) in candidates {
            notes.clear();
            let mirror = geometry.mftmirr_lcn;
            if let Ok((medium, mft)) = attempt(&source, geometry, mirror, &mut notes) {
                if at != 0 {
                    let what = format!("The backup boot sector at byte {at:#x} is used");
                    notes.insert(0, Finding::survived("boot-sector", &what, &reason));
                }
                let what = "File record 0 is read from $MFTMirr";
                notes.insert(0, Finding::survived("mft-mirror", what, &reason));
                return Ok(Self::finish(medium, mft, notes));
            }
        }
        Err(reason
            .hint("No boot sector led to a sound file record 0, neither in $MFT nor in $MFTMirr"))
    }

    fn finish(medium: Medium, mft: Mft, mut notes: Vec<Finding>) -> Self {
        let (have, want) = (medium.source.len(), medium.geometry.volume_bytes());
        let backup = want + u64::from(medium.geometry.sector_size);
        if have < want {
            let message = format!("The source ends early: found {have} bytes, expected {want}");
            notes.push(Finding::new("source-short", message).at(have));
        } else if have < backup {
            let message = format!(
                "The source ends before the backup boot sector: found {have} bytes, expected {backup}"
            );
            notes.push(Finding::new("no-backup-boot-sector", message).at(have));
        }
        let mut volume = Self {
            medium,
            mft,
            info: None,
            notes,
        };
        match volume.read_info() {
            Ok(info) => volume.info = Some(info),
            Err(e) => {
                let what = "Label, version and flags of the volume are unknown";
                volume
                    .notes
                    .push(Finding::survived("volume-record", what, &e));
            }
        }
        volume
    }

    fn read_info(&self) -> Result<VolumeInfo> {
        let record = self.record(RecordNo(3))?;
        let mut info = VolumeInfo::default();
        let mut found = false;
        for a in record.view().attributes().flatten() {
            match (a.type_code, a.resident()) {
                (VOLUME_NAME, Some(v)) => {
                    let units = v.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b));
                    info.label = char::decode_utf16(units)
                        .map(|c| c.unwrap_or('\u{fffd}'))
                        .collect();
                }
                (VOLUME_INFORMATION, Some(v)) if v.len() >= 12 => {
                    info.version = (v[8], v[9]);
                    info.flags = u16_at(v, 10);
                    found = true;
                }
                _ => {}
            }
        }
        match found {
            true => Ok(info),
            false => Err(
                Error::damaged("Found no $VOLUME_INFORMATION in file record 3").at(record.offset()),
            ),
        }
    }

    /// The source it lies on.
    pub fn source(&self) -> &SharedSource {
        &self.medium.source
    }

    /// Its geometry.
    pub fn geometry(&self) -> &Geometry {
        &self.medium.geometry
    }

    /// Where its file records lie.
    pub fn mft(&self) -> &Mft {
        &self.mft
    }

    /// Label, version and flags, unless file record 3 is damaged.
    pub fn info(&self) -> Option<&VolumeInfo> {
        self.info.as_ref()
    }

    /// The fallbacks that opening it took.
    pub fn notes(&self) -> &[Finding] {
        &self.notes
    }

    pub(crate) fn medium(&self) -> &Medium {
        &self.medium
    }

    /// Clusters that lie wholly or partly on the source.
    pub fn clusters_on_source(&self) -> u64 {
        let g = self.geometry();
        let there = self.source().len().div_ceil(u64::from(g.cluster_size));
        there.min(g.total_clusters)
    }

    /// Cluster numbers that sets of this volume hold: all of a volume, but of
    /// one that claims to be far larger than its source only a bounded part.
    pub fn cluster_limit(&self) -> u64 {
        let there = self.clusters_on_source();
        self.geometry().total_clusters.min(there.max(1 << 28))
    }

    /// Reads bytes of the volume; what lies behind the end of the source is unreadable.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.medium.read(offset, buf)
    }

    /// Reads bytes of a stream through its extents; holes are zeros.
    pub fn read_extents(&self, map: &ExtentMap, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.medium.read_map(map, offset, buf)
    }

    /// Byte position of a record's first byte, if it lies in the MFT.
    pub fn record_offset(&self, n: RecordNo) -> Option<u64> {
        if n.0 >= self.mft.record_count {
            return None;
        }
        mft::record_offset(&self.medium, &self.mft.extents, n)
    }

    /// The bytes of a record as they lie on the disk, fixups not applied.
    pub fn raw_record(&self, n: RecordNo) -> Result<Box<[u8]>> {
        self.check_number(n)?;
        mft::raw_record(&self.medium, &self.mft.extents, n)
    }

    /// A record with fixups applied. Damaged ones among the first few are taken
    /// from `$MFTMirr`.
    pub fn record(&self, n: RecordNo) -> Result<Record> {
        let at = self.check_number(n)?;
        mft::load_through(&self.medium, &self.mft.extents, n, at)
            .or_else(|e| self.mirror_record(n).ok_or(e))
    }

    /// The copy of a record in `$MFTMirr`, if it has one and it is sound.
    pub(crate) fn mirror_record(&self, n: RecordNo) -> Option<Record> {
        let g = self.geometry();
        let copies = (g.cluster_size / g.record_size).max(4);
        if n.0 >= u64::from(copies) {
            return None;
        }
        let at = g.cluster_offset(g.mftmirr_lcn)? + n.0 * u64::from(g.record_size);
        Record::load(&self.medium, n, at).ok()
    }

    fn check_number(&self, n: RecordNo) -> Result<u64> {
        self.record_offset(n).ok_or_else(|| {
            Error::not_found(format!(
                "Found no file record {n}, expected a number below {}",
                self.mft.record_count
            ))
        })
    }

    /// A base record with the extension records that its attribute list names.
    /// What cannot be read or does not belong to it is left out and noted.
    pub fn file(&self, n: RecordNo) -> Result<FileRecords> {
        let mut file = FileRecords::new(&self.medium, self.record(n)?);
        file.settle(|n| self.record(n));
        Ok(file)
    }
}

fn read_boot(source: &SharedSource, at: u64) -> Result<Geometry> {
    let mut sector = [0; BOOT_LEN];
    match at.checked_add(BOOT_LEN as u64) {
        Some(end) if end <= source.len() => source.read_at(at, &mut sector)?,
        _ => {
            return Err(Error::damaged(format!(
                "Found {} bytes, expected a boot sector",
                source.len()
            )));
        }
    }
    parse_boot(&sector, at)
}

fn attempt(
    source: &SharedSource,
    geometry: Geometry,
    lcn: Lcn,
    notes: &mut Vec<Finding>,
) -> Result<(Medium, Mft)> {
    let medium = Medium {
        source: source.clone(),
        geometry,
    };
    let mft = Mft::read(&medium, lcn, notes)?;
    Ok((medium, mft))
}

/// Where a copy of the boot sector may lie: behind the volume as the boot sector
/// counts it, and in the last sector of the source.
fn backup_places(source: &SharedSource, primary: Option<&Geometry>) -> Vec<u64> {
    let end = source.len();
    let mut places: Vec<u64> = primary.map(|g| g.volume_bytes()).into_iter().collect();
    for size in [
        u64::from(source.sector_size()).max(256),
        512,
        1024,
        2048,
        4096,
        256,
    ] {
        // Also where a sector or two behind the volume were left over.
        for back in 1..=2 {
            if let Some(at) = (end - end % size).checked_sub(size * back) {
                places.push(at);
            }
        }
    }
    let mut seen = std::collections::HashSet::from([0]);
    places.retain(|&at| seen.insert(at));
    places
}
