//! `$MFT`: found through its own record 0, which says where all records lie.

use super::attr::{BITMAP, DATA};
use super::extents::{ExtentMap, Medium, Spot};
use super::file::{FileRecords, FileStream, Joined, Record};
use super::finding::Finding;
use crate::error::{Error, ErrorKind, Result};
use crate::units::{Extent, Lcn, Place, RecordNo};

/// Where the file records lie.
#[derive(Clone, Debug)]
pub struct Mft {
    /// `$MFT::$DATA`: continuous from VCN 0, without holes, inside the volume.
    pub extents: ExtentMap,
    /// Bytes of the stream, at most those that have clusters.
    pub size: u64,
    /// Bytes behind which no record was ever written.
    pub initialized: u64,
    /// Whole records in `size`.
    pub record_count: u64,
    /// `$MFT::$BITMAP`: which records are in use.
    pub bitmap: MftBitmap,
}

/// `$MFT::$BITMAP`.
#[derive(Clone, Debug)]
pub enum MftBitmap {
    /// There is none that could be read.
    Missing,
    /// In the record.
    Resident(Vec<u8>),
    /// In clusters.
    NonResident {
        /// Its extents.
        extents: ExtentMap,
        /// Its bytes.
        size: u64,
    },
}

impl Mft {
    /// Finds the MFT through the copy of record 0 at cluster `lcn`.
    pub(crate) fn read(medium: &Medium, lcn: Lcn, notes: &mut Vec<Finding>) -> Result<Self> {
        let g = &medium.geometry;
        let at = g.cluster_offset(lcn).ok_or_else(|| {
            Error::damaged(format!(
                "Found cluster {:#x} as place of the MFT, expected one below {:#x}",
                lcn.0, g.total_clusters
            ))
        })?;
        let base = Record::load(medium, RecordNo(0), at)?;
        if !base.view().in_use() || base.view().base().is_some() {
            return Err(Error::damaged("File record 0 is not a base record in use").at(at));
        }
        let mut file = FileRecords::new(medium, base);
        let mut found = Vec::new();
        let mut map = data_map(&file, medium, at, &mut found)?;
        loop {
            let come = file.fetch(|n| {
                let at = record_offset(medium, &map, n).filter(|_| n.0 != 0);
                let at = at.ok_or_else(|| outside(n, map.end().0 * u64::from(g.cluster_size)))?;
                load_through(medium, &map, n, at)
            });
            if come == 0 {
                break;
            }
            found.clear();
            map = data_map(&file, medium, at, &mut found)?;
        }
        file.settle(|n| {
            let at = record_offset(medium, &map, n)
                .ok_or_else(|| outside(n, map.end().0 * u64::from(g.cluster_size)))?;
            load_through(medium, &map, n, at)
        });
        notes.append(&mut file.notes);
        notes.append(&mut found);

        let Some(FileStream::NonResident(data)) = file.stream(DATA, &[]) else {
            return Err(Error::damaged("Found no $DATA in file record 0").at(at));
        };
        let (size, initialized) = (data.header().size, data.header().initialized);
        let mapped = map.end().0 * u64::from(g.cluster_size);
        if size > mapped {
            notes.push(
                Finding::new(
                    "mft-short",
                    format!("Found clusters for {mapped} bytes of the MFT, expected {size}"),
                )
                .at(at),
            );
        }
        let size = size.min(mapped);
        Ok(Self {
            record_count: size / u64::from(g.record_size),
            size,
            initialized: initialized.min(size),
            bitmap: bitmap(&file, notes),
            extents: map,
        })
    }
}

fn bitmap(file: &FileRecords, notes: &mut Vec<Finding>) -> MftBitmap {
    match file.stream(BITMAP, &[]) {
        None => {
            let finding = Finding::new("mft-bitmap", "Found no $BITMAP of the MFT");
            notes.push(finding.at(file.base().offset()));
            MftBitmap::Missing
        }
        Some(FileStream::Resident(_, value)) => MftBitmap::Resident(value.to_vec()),
        Some(FileStream::NonResident(joined)) => {
            let size = joined.header().size.min(joined.header().initialized);
            let Joined { map, notes: n, .. } = joined;
            notes.extend(n);
            MftBitmap::NonResident { extents: map, size }
        }
    }
}

/// The sound beginning of `$MFT::$DATA`: up to the first gap, hole, run outside
/// the volume, or run that would make the MFT larger than the volume.
fn data_map(
    file: &FileRecords,
    medium: &Medium,
    at: u64,
    notes: &mut Vec<Finding>,
) -> Result<ExtentMap> {
    let joined = match file.stream(DATA, &[]) {
        Some(FileStream::NonResident(joined)) => joined,
        _ => return Err(Error::damaged("Found no non-resident $DATA in file record 0").at(at)),
    };
    notes.extend(joined.notes);
    let total = medium.geometry.total_clusters;
    let (mut sound, mut next) = (Vec::<Extent>::new(), 0);
    for e in joined.map.as_slice() {
        let inside = match e.place {
            Place::At(lcn) => lcn.0.checked_add(e.len.0).is_some_and(|end| end <= total),
            Place::Hole => false,
        };
        if e.vcn.0 != next || !inside || next + e.len.0 > total {
            let found = match e.place {
                Place::At(lcn) => format!("{} clusters from cluster {lcn} on", e.len),
                Place::Hole => format!("a hole of {} clusters", e.len),
            };
            let message = format!(
                "The MFT is followed up to VCN {next} only: found {found} at VCN {}, expected clusters below {total}",
                e.vcn
            );
            notes.push(Finding::new("mft-runs", message).at(at));
            break;
        }
        next += e.len.0;
        sound.push(*e);
    }
    if sound.is_empty() {
        return Err(Error::damaged("Found no sound run of the MFT in file record 0").at(at));
    }
    Ok(ExtentMap::new(sound))
}

fn outside(n: RecordNo, mapped: u64) -> Error {
    Error::not_found(format!(
        "File record {n} lies outside the known part of the MFT ({mapped} bytes)"
    ))
}

/// Byte position of a record's first byte.
pub(crate) fn record_offset(medium: &Medium, map: &ExtentMap, n: RecordNo) -> Option<u64> {
    let size = u64::from(medium.geometry.record_size);
    let from = n.0.checked_mul(size)?;
    match medium.spot(map, from, size).ok()? {
        (Spot::Byte(at), _) => Some(at),
        (Spot::Hole, _) => None,
    }
}

/// The bytes of a record as they are, wherever its clusters lie.
pub(crate) fn raw_record(medium: &Medium, map: &ExtentMap, n: RecordNo) -> Result<Box<[u8]>> {
    let size = medium.geometry.record_size;
    let mut bytes = vec![0; size as usize].into_boxed_slice();
    let from =
        n.0.checked_mul(u64::from(size))
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("No file record {n}")))?;
    medium.read_map(map, from, &mut bytes)?;
    Ok(bytes)
}

pub(crate) fn load_through(
    medium: &Medium,
    map: &ExtentMap,
    n: RecordNo,
    at: u64,
) -> Result<Record> {
    Record::new(raw_record(medium, map, n)?, n, at)
}
