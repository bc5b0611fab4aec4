//! Separate facts on the state a volume was left in. They are said, never
//! judged here, and finding them out never fails.

use super::attr::DATA;
use super::boot::{BOOT_LEN, Geometry, parse_boot};
use super::file::FileStream;
use super::logfile::LogState;
use super::open::Volume;
use super::tree::Tree;
use crate::error::{Error, Result};
use crate::units::RecordNo;
use serde::{Deserialize, Serialize};

/// `$BadClus`.
const BAD_CLUSTERS: RecordNo = RecordNo(8);
/// `$Bad`, UTF-16.
const BAD: &[u8] = b"$\0B\0a\0d\0";
/// Records that every `$MFTMirr` has.
const MIRRORED: u64 = 4;
/// The volume flags that have names.
const FLAGS: [(u16, &str); 8] = [
    (0x0001, "dirty"),
    (0x0002, "resize-log"),
    (0x0004, "upgrade-on-mount"),
    (0x0008, "mounted-on-nt4"),
    (0x0010, "deleting-usn-journal"),
    (0x0020, "repair-object-ids"),
    (0x4000, "chkdsk-underway"),
    (0x8000, "modified-by-chkdsk"),
];

/// The state a volume was left in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The dirty flag; `None` when `$Volume` is damaged.
    pub dirty: Option<bool>,
    /// The volume flags as stored.
    pub flags: u16,
    /// Their names.
    pub flag_names: Vec<String>,
    /// Version of NTFS.
    pub version: Option<(u8, u8)>,
    /// Whether Windows sleeps on this volume.
    pub hibernation: Hibernation,
    /// Whether the log needs to be replayed.
    pub log: LogState,
    /// Clusters that NTFS found bad; `None` when that list is damaged.
    pub bad_clusters: Option<u64>,
    /// The copy of the boot sector behind the last cluster.
    pub backup_boot: BackupBoot,
    /// The copy of the first records.
    pub mft_mirror: MftMirror,
}

/// What `hiberfil.sys` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Hibernation {
    /// There is no `hiberfil.sys`.
    Absent,
    /// There is one, without a saved session.
    Inactive,
    /// A saved session: its memory has parts of the file system that are not on
    /// the disk (also "fast startup").
    Active {
        /// The first four bytes.
        signature: String,
    },
    /// Cannot be told.
    Unknown {
        /// Why.
        why: String,
    },
}

/// The copy of the boot sector behind the last cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum BackupBoot {
    /// It gives the same geometry.
    Same,
    /// It gives the geometry in use, because the first boot sector does not.
    InUse {
        /// What is wrong with the first.
        why: String,
    },
    /// The source ends before it, as images of a volume without its last sector do.
    BehindEnd,
    /// It is not sound, or differs.
    Wrong {
        /// What is there.
        why: String,
    },
}

/// `$MFTMirr`, the copy of the first four file records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum MftMirror {
    /// Every byte is the same.
    Same,
    /// These records are not the same; either copy may be the damaged one.
    Differs {
        /// Their numbers.
        records: Vec<u64>,
    },
    /// It cannot be compared.
    Unknown {
        /// Why.
        why: String,
    },
}

/// Finds out the state of a volume. Never fails.
pub fn health(volume: &Volume) -> Health {
    let info = volume.info();
    let flags = info.map_or(0, |i| i.flags);
    let named = FLAGS.iter().filter(|(bit, _)| flags & bit != 0);
    let mut flag_names: Vec<String> = named.map(|(_, name)| (*name).to_owned()).collect();
    let unnamed = FLAGS.iter().fold(flags, |rest, (bit, _)| rest & !bit);
    if unnamed != 0 {
        flag_names.push(format!("{unnamed:#06x}"));
    }
    Health {
        dirty: info.map(|i| i.flags & 1 != 0),
        flags,
        flag_names,
        version: info.map(|i| i.version),
        hibernation: hibernation(volume),
        log: LogState::read(volume),
        bad_clusters: bad_clusters(volume),
        backup_boot: backup_boot(volume),
        mft_mirror: mft_mirror(volume)
            .unwrap_or_else(|e| MftMirror::Unknown { why: e.to_string() }),
    }
}

pub(crate) fn hibernation(volume: &Volume) -> Hibernation {
    match signature(volume) {
        Ok(None) => Hibernation::Absent,
        Ok(Some(s)) => match &s.map(|b| b.to_ascii_lowercase()) {
            b"hibr" | b"rstr" => Hibernation::Active {
                signature: String::from_utf8_lossy(&s).into_owned(),
            },
            _ => Hibernation::Inactive,
        },
        Err(e) => Hibernation::Unknown { why: e.to_string() },
    }
}

/// What Windows hibernates into, in the root.
pub(crate) const HIBERNATION: &[u8] = b"hiberfil.sys";

/// The first four bytes of `/hiberfil.sys`, if it exists.
fn signature(volume: &Volume) -> Result<Option<[u8; 4]>> {
    let tree = Tree::new(volume);
    let Some(found) = tree.in_root(HIBERNATION)? else {
        return Ok(None);
    };
    let stream = tree.open(&found)?;
    let mut head = [0; 4];
    stream.read_at(0, &mut head)?;
    Ok(Some(head))
}

fn bad_clusters(volume: &Volume) -> Option<u64> {
    let file = volume.file(BAD_CLUSTERS).ok()?;
    match file.stream(DATA, BAD)? {
        FileStream::NonResident(joined) => Some(joined.map.real_clusters()),
        FileStream::Resident(..) => Some(0),
    }
}

fn backup_boot(volume: &Volume) -> BackupBoot {
    let here = volume.geometry();
    let at = here.volume_bytes();
    let mut sector = [0; BOOT_LEN];
    // The geometry in use may itself come from the copy.
    let first = volume.read_at(0, &mut sector);
    match first.and_then(|()| parse_boot(&sector, 0)) {
        Ok(first) if first == *here => {}
        Ok(first) => {
            let what = different(here, &first);
            return BackupBoot::InUse {
                why: format!("{what} in the first boot sector is wrong"),
            };
        }
        Err(e) => return BackupBoot::InUse { why: e.to_string() },
    }
    if at.saturating_add(BOOT_LEN as u64) > volume.source().len() {
        return BackupBoot::BehindEnd;
    }
    let there = volume.read_at(at, &mut sector);
    match there.and_then(|()| parse_boot(&sector, at)) {
        Ok(there) if there == *here => BackupBoot::Same,
        Ok(there) => BackupBoot::Wrong {
            why: format!(
                "{} differs from the geometry in use",
                different(here, &there)
            ),
        },
        Err(e) => BackupBoot::Wrong { why: e.to_string() },
    }
}

fn mft_mirror(volume: &Volume) -> Result<MftMirror> {
    let g = volume.geometry();
    let start = g.cluster_offset(g.mftmirr_lcn).ok_or_else(|| {
        let found = g.mftmirr_lcn;
        Error::damaged(format!("Found cluster {found} as place of $MFTMirr"))
    })?;
    let mut copy = vec![0; g.record_size as usize];
    let mut records = Vec::new();
    for n in 0..MIRRORED {
        volume.read_at(start + n * u64::from(g.record_size), &mut copy)?;
        if *copy != *volume.raw_record(RecordNo(n))? {
            records.push(n);
        }
    }
    Ok(match records.is_empty() {
        true => MftMirror::Same,
        false => MftMirror::Differs { records },
    })
}

/// The first field of two geometries that is not the same.
fn different(a: &Geometry, b: &Geometry) -> &'static str {
    match () {
        _ if a.sector_size != b.sector_size => "its sector size",
        _ if a.cluster_size != b.cluster_size => "its cluster size",
        _ if a.total_sectors != b.total_sectors => "its number of sectors",
        _ if a.mft_lcn != b.mft_lcn => "its place of the MFT",
        _ if a.mftmirr_lcn != b.mftmirr_lcn => "its place of the MFT mirror",
        _ if a.serial != b.serial => "its serial number",
        _ => "its record size",
    }
}
