//! Files of NTFS whose content follows from the layout, and those that must
//! not be believed after it.

use super::map::ClusterMap;
use super::names::{self, Sizes};
use super::patch::Patches;
use super::records::{Unfit, translate_map};
use super::shadow;
use super::survey::Survey;
use crate::error::{Error, Result};
use crate::units::{Lcn, Place, RecordNo};
use crate::volume::attr::DATA;
use crate::volume::extents::ExtentMap;
use crate::volume::file::FileStream;
use crate::volume::health::{HIBERNATION, Hibernation, hibernation};
use crate::volume::logfile::LogState;
use crate::volume::open::Volume;
use crate::volume::tree::{Tree, names_of};
use std::collections::BTreeMap;
use std::ops::Range;

/// Records that every change of the layout writes.
pub(super) const SYSTEM: [(u64, &str); 6] = [
    (0, "$MFT"),
    (1, "$MFTMirr"),
    (2, "$LogFile"),
    (3, "$Volume"),
    (6, "$Bitmap"),
    (8, "$BadClus"),
];
/// Bytes at the start of `hiberfil.sys` that tell whether it is valid.
const HIBERNATION_PAGE: u64 = 4096;

/// Records at the start of `$MFT` that stay together: those of NTFS itself.
const FIRST_RECORDS: u64 = 16;

/// Bytes of `$Bitmap` of so many clusters: whole words of 64 bits, as mkntfs and
/// Windows have it.
pub(super) const fn bitmap_bytes(clusters: u64) -> u64 {
    clusters.div_ceil(64) * 8
}

/// What they are before.
pub(super) struct Special {
    log: Option<(ExtentMap, u64)>,
    mirror: Option<(ExtentMap, u64)>,
    hibernated: Option<ExtentMap>,
    /// Bytes of `$Bitmap`.
    pub bitmap_size: u64,
    /// The log was not clean, and is emptied.
    pub dirty: bool,
}

impl Special {
    pub fn new(volume: &Volume, log: &LogState, touched: bool) -> Result<Self> {
        if !touched {
            return Ok(Self {
                log: None,
                mirror: None,
                hibernated: None,
                bitmap_size: 0,
                dirty: false,
            });
        }
        let stream = |n: u64| -> Result<Option<(ExtentMap, u64)>> {
            let file = volume.file(RecordNo(n))?;
            Ok(match file.stream(DATA, &[]) {
                Some(FileStream::NonResident(joined)) => {
                    let size = joined.header().size;
                    Some((joined.map, size))
                }
                _ => None,
            })
        };
        let Some((_, bitmap_size)) = stream(6)? else {
            return Err(Error::unsupported(
                "Found a $Bitmap in its file record, expected one in clusters",
            )
            .hint("Restore the volume in its old size"));
        };
        Ok(Self {
            log: stream(2)?,
            mirror: stream(1)?,
            hibernated: hibernated(volume)?,
            bitmap_size,
            dirty: !matches!(log, LogState::Clean | LogState::Reset),
        })
    }

    /// True when Windows sleeps on the volume.
    pub fn is_hibernated(&self) -> bool {
        self.hibernated.is_some()
    }

    /// Records that `$MFTMirr` repeats.
    pub fn mirror_records(&self, volume: &Volume) -> u64 {
        let size = u64::from(volume.geometry().record_size);
        match &self.mirror {
            None => 0,
            Some((map, len)) => {
                let there = map.end().0 * u64::from(volume.geometry().cluster_size);
                ((*len).min(there) / size)
                    .min(volume.mft().record_count)
                    .min(1 << 16)
            }
        }
    }

    pub fn mirror_lcn(&self, map: &ClusterMap) -> Result<Option<Lcn>> {
        match &self.mirror {
            None => Ok(None),
            Some((old, _)) => Ok(first_lcn(&translate_map(map, old)?)),
        }
    }

    /// `$Bitmap`, `$LogFile`, `hiberfil.sys`.
    pub fn write(
        &self,
        patches: &mut Patches,
        map: &ClusterMap,
        bitmap: &[Range<u64>],
        bitmap_size: u64,
        cluster: u64,
    ) -> Result<()> {
        let mut from = 0;
        for r in bitmap {
            let len = ((r.end - r.start) * cluster).min(bitmap_size - from);
            patches.bitmap(r.start * cluster, len, from);
            from += len;
        }
        if let Some((old, size)) = &self.log {
            fill(patches, &translate_map(map, old)?, cluster, *size, 0xff);
        }
        if let Some(old) = &self.hibernated {
            let new = translate_map(map, old)?;
            fill(patches, &new, cluster, HIBERNATION_PAGE, 0);
        }
        Ok(())
    }

    /// `$MFTMirr` from the new records; `first` are those that changed.
    pub fn write_mirror(
        &self,
        volume: &Volume,
        patches: &mut Patches,
        map: &ClusterMap,
        first: &BTreeMap<u64, Vec<u8>>,
    ) -> Result<()> {
        let Some((old, _)) = &self.mirror else {
            return Ok(());
        };
        let new = translate_map(map, old)?;
        let g = volume.geometry();
        for n in 0..self.mirror_records(volume) {
            let at = n * u64::from(g.record_size);
            let cluster = u64::from(g.cluster_size);
            match first.get(&n) {
                Some(bytes) => put(patches, &new, cluster, at, bytes)?,
                None => {
                    // What cannot be read keeps its old copy.
                    if let Ok(bytes) = volume.raw_record(RecordNo(n)) {
                        put(patches, &new, cluster, at, &bytes)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Sizes beside names in directories: of `$Bitmap`, and of storage that is dropped.
    pub fn names(
        &self,
        survey: &Survey,
        drop_stores: bool,
        bitmap: &[Range<u64>],
        bitmap_size: u64,
    ) -> BTreeMap<u64, Sizes> {
        let volume = &survey.volume;
        let clusters: u64 = bitmap.iter().map(|r| r.end - r.start).sum();
        let allocated = clusters * u64::from(volume.geometry().cluster_size);
        let mut todo = vec![(6, (allocated, bitmap_size))];
        if drop_stores {
            todo.extend(survey.shadow.iter().map(|&s| (u64::from(s), (0, 0))));
        }
        let mut names: BTreeMap<u64, Sizes> = BTreeMap::new();
        for (base, sizes) in todo {
            // A file without a readable name has no entry to change.
            let Ok(file) = volume.file(RecordNo(base)) else {
                continue;
            };
            for (dir, _) in names_of(&file) {
                names.entry(dir.record.0).or_default().insert(base, sizes);
            }
        }
        names
    }
}

/// Index blocks with other sizes beside names.
pub(super) fn write_names(
    volume: &Volume,
    patches: &mut Patches,
    map: &ClusterMap,
    names: &BTreeMap<u64, Sizes>,
) -> Result<()> {
    let cluster = u64::from(volume.geometry().cluster_size);
    for (&dir, sizes) in names {
        // Names are only repeated there: a damaged directory stays as it is.
        let Ok((old, blocks)) = names::in_blocks(volume, RecordNo(dir), sizes) else {
            continue;
        };
        let Ok(new) = translate_map(map, &old) else {
            continue;
        };
        for (at, bytes) in blocks {
            put(patches, &new, cluster, at, &bytes)?;
        }
    }
    Ok(())
}

/// `$MFTMirr` and the first records of `$MFT` are read from where the boot sector
/// says, without mapping pairs: they must stay in one run. Names the records
/// for which the new layout does not keep that.
pub(super) fn torn_apart(volume: &Volume, map: &ClusterMap) -> Result<Vec<Unfit>> {
    if map.is_still() {
        return Ok(Vec::new());
    }
    let g = volume.geometry();
    let whole = |bytes: u64, old: &ExtentMap| -> Result<bool> {
        let wanted = bytes.div_ceil(u64::from(g.cluster_size));
        let head = |m: &ExtentMap| m.as_slice().first().map_or(0, |e| e.len.0);
        let before = head(old).min(wanted);
        Ok(head(&translate_map(map, old)?) >= before)
    };
    let mut out = Vec::new();
    let record = u64::from(g.record_size);
    if !whole(FIRST_RECORDS * record, &volume.mft().extents)? {
        out.push(Unfit(0));
    }
    let file = volume.file(RecordNo(1))?;
    if let Some(FileStream::NonResident(joined)) = file.stream(DATA, &[])
        && !whole(joined.header().size, &joined.map)?
    {
        out.push(Unfit(1));
    }
    Ok(out)
}

/// Zeros over the place where a volume says that it has shadow copies.
pub(super) fn drop_header(volume: &Volume, patches: &mut Patches) -> Result<bool> {
    let mut there = vec![0; shadow::HEADER_LEN];
    if shadow::HEADER + shadow::HEADER_LEN as u64 > volume.geometry().volume_bytes() {
        return Ok(false);
    }
    let found = match volume.read_at(shadow::HEADER, &mut there) {
        Ok(()) => there[..16] == shadow::ID,
        Err(_) => true,
    };
    if found {
        patches.fill(shadow::HEADER, shadow::HEADER_LEN as u64, 0);
    }
    Ok(found)
}

fn hibernated(volume: &Volume) -> Result<Option<ExtentMap>> {
    if matches!(
        hibernation(volume),
        Hibernation::Absent | Hibernation::Inactive
    ) {
        return Ok(None);
    }
    let tree = Tree::new(volume);
    let Ok(Some(found)) = tree.in_root(HIBERNATION) else {
        return Ok(None);
    };
    Ok(match volume.file(found.file.record)?.stream(DATA, &[]) {
        Some(FileStream::NonResident(joined)) => Some(joined.map),
        _ => None,
    })
}

/// The first cluster of a stream.
pub(super) fn first_lcn(map: &ExtentMap) -> Option<Lcn> {
    match map.as_slice().first()?.place {
        Place::At(lcn) => Some(lcn),
        Place::Hole => None,
    }
}

/// Puts bytes of a stream where its clusters are.
pub(super) fn put(
    patches: &mut Patches,
    map: &ExtentMap,
    cluster: u64,
    mut at: u64,
    mut bytes: &[u8],
) -> Result<()> {
    while !bytes.is_empty() {
        let vcn = at / cluster;
        let found = map.find(crate::units::Vcn(vcn));
        let Some((e, Place::At(lcn))) = found.map(|e| (e, e.place)) else {
            return Err(Error::damaged(format!(
                "The new layout is not sound: VCN {vcn} of a file of NTFS has no cluster"
            )));
        };
        let ahead = vcn - e.vcn.0;
        let within = at % cluster;
        let left = ((e.len.0 - ahead) * cluster - within).min(bytes.len() as u64);
        let (now, later) = bytes.split_at(left as usize);
        patches.bytes((lcn.0 + ahead) * cluster + within, now)?;
        at += left;
        bytes = later;
    }
    Ok(())
}

/// The first `len` bytes of a stream, all the same.
fn fill(patches: &mut Patches, map: &ExtentMap, cluster: u64, len: u64, byte: u8) {
    for e in map.as_slice() {
        let (start, bytes) = (e.vcn.0 * cluster, e.len.0 * cluster);
        if let Place::At(lcn) = e.place
            && start < len
        {
            patches.fill(lcn.0 * cluster, bytes.min(len - start), byte);
        }
    }
}
