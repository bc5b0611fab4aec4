//! What stands at known places: boot sectors, `$MFTMirr`, `$LogFile`,
//! `$Volume`, the ends of `$Bitmap` and `$BadClus`.

use super::report::{Code, Issues};
use crate::error::{ErrorKind, Result};
use crate::units::{Extent, Place, RecordNo};
use crate::volume::attr::DATA;
use crate::volume::boot::BOOT_LEN;
use crate::volume::file::FileStream;
use crate::volume::health::{BackupBoot, health};
use crate::volume::logfile::LogState;
use crate::volume::open::Volume;

const MIRROR: RecordNo = RecordNo(1);
const VOLUME: RecordNo = RecordNo(3);
const BITMAP: RecordNo = RecordNo(6);
const BAD_CLUSTERS: RecordNo = RecordNo(8);
const BAD: &[u8] = b"$\0B\0a\0d\0";
/// Records that are mirrored. With large clusters `$MFTMirr` is longer, but
/// Windows keeps no more than these the same.
const MIRRORED: u64 = 4;
/// Set on most volumes of current versions of Windows.
const COMMON_FLAG: u16 = 0x0080;

pub(super) fn check(volume: &Volume, issues: &mut Issues) {
    for note in volume.notes() {
        let code = match &*note.code {
            "boot-sector" => unless_unread(volume.read_at(0, &mut [0; BOOT_LEN]), Code::BootSector),
            "mft-mirror" => unless_unread(volume.raw_record(RecordNo(0)).map(drop), Code::Record),
            "source-short" => Code::SourceShort,
            "volume-record" => unless_unread(volume.record(VOLUME).map(drop), Code::VolumeRecord),
            "mft-short" | "mft-runs" => Code::MftExtents,
            "mft-bitmap" => Code::Bitmap,
            // Said where the file is checked, or below.
            _ => continue,
        };
        issues.push(code, None, note.offset, || note.message.clone());
    }
    let health = health(volume);
    boot(volume, &health.backup_boot, issues);
    if health.flags & !COMMON_FLAG != 0 {
        issues.push(Code::VolumeFlags, Some(VOLUME), None, || {
            format!("The volume has flags set: {}", health.flag_names.join(", "))
        });
    }
    match &health.log {
        LogState::Clean | LogState::Reset => {}
        LogState::NotClean => issues.push(Code::Log, Some(RecordNo(2)), None, || {
            "$LogFile was not left clean: Windows will replay it".to_owned()
        }),
        LogState::Unknown { why } => {
            issues.push(Code::Log, Some(RecordNo(2)), None, || why.clone());
        }
    }
    let mut run = |what: &str, record, code, done: Result<()>| {
        if let Err(e) = done {
            issues.failed(code, Some(record), what, &e);
        }
    };
    let mut found = Issues::default();
    let what = "$MFTMirr cannot be compared";
    run(what, MIRROR, Code::Mirror, mirror(volume, &mut found));
    let what = "The end of $Bitmap cannot be checked";
    run(what, BITMAP, Code::Bitmap, bitmap(volume, &mut found));
    let what = "The bad clusters cannot be checked";
    run(
        what,
        BAD_CLUSTERS,
        Code::BadClusters,
        bad_clusters(volume, &mut found),
    );
    issues.append(found);
}

/// `code`, or that something could not be read, when that is why.
pub(super) fn unless_unread(read: Result<()>, code: Code) -> Code {
    match read {
        Err(e) if !matches!(e.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => Code::Unreadable,
        _ => code,
    }
}

fn boot(volume: &Volume, copy: &BackupBoot, issues: &mut Issues) {
    let g = volume.geometry();
    let at = g.volume_bytes();
    let mut both = [[0; BOOT_LEN]; 2];
    let [first, second] = &mut both;
    match copy {
        BackupBoot::BehindEnd => issues.push(Code::BootCopyMissing, None, Some(at), || {
            "The source ends before the copy of the boot sector".to_owned()
        }),
        // Said by the note of the fallback, where there was one.
        BackupBoot::InUse { why } => {
            if volume.notes().iter().all(|n| n.code != "boot-sector") {
                issues.push(Code::BootSector, None, Some(0), || why.clone());
            }
        }
        BackupBoot::Wrong { why } => match volume.read_at(at, second) {
            Err(e) if e.kind() != ErrorKind::Damaged => {
                issues.failed(Code::BootCopy, None, "The copy of the boot sector", &e);
            }
            _ => issues.push(Code::BootCopy, None, Some(at), || {
                format!("The copy of the boot sector: {why}")
            }),
        },
        BackupBoot::Same => {
            if volume
                .read_at(0, first)
                .and(volume.read_at(at, second))
                .is_ok()
                && first != second
            {
                issues.push(Code::BootCopy, None, Some(at), || {
                    "The copy of the boot sector has other bytes than the first".to_owned()
                });
            }
        }
    }
    let place = volume.mft().extents.as_slice().first().map(|e| e.place);
    if place != Some(Place::At(g.mft_lcn)) {
        issues.push(Code::BootSector, None, Some(0x30), || {
            format!(
                "Found cluster {} as place of $MFT in the boot sector, its record says otherwise",
                g.mft_lcn
            )
        });
    }
}

fn mirror(volume: &Volume, issues: &mut Issues) -> Result<()> {
    let g = volume.geometry();
    let size = u64::from(g.record_size);
    let file = volume.file(MIRROR)?;
    let mut lcn = None;
    if let Some(FileStream::NonResident(joined)) = file.stream(DATA, &[]) {
        lcn = joined.map.as_slice().first().map(|e: &Extent| e.place);
    }
    if lcn != Some(Place::At(g.mftmirr_lcn)) {
        issues.push(Code::BootSector, Some(MIRROR), Some(0x38), || {
            format!(
                "Found cluster {} as place of $MFTMirr in the boot sector, its record says otherwise",
                g.mftmirr_lcn
            )
        });
    }
    let start = g.cluster_offset(g.mftmirr_lcn).ok_or_else(|| {
        crate::error::Error::damaged(format!(
            "Found cluster {} as place of $MFTMirr, expected one below {}",
            g.mftmirr_lcn, g.total_clusters
        ))
    })?;
    let mut copy = vec![0; size as usize];
    for n in (0..MIRRORED.min(volume.mft().record_count)).map(RecordNo) {
        let at = start + n.0 * size;
        volume.read_at(at, &mut copy)?;
        if *copy != *volume.raw_record(n)? {
            issues.push(Code::Mirror, Some(n), Some(at), || {
                format!("File record {n} and its copy in $MFTMirr are not the same")
            });
        }
    }
    Ok(())
}

/// The bits behind the last cluster, which are no clusters: set, as a rule.
fn bitmap(volume: &Volume, issues: &mut Issues) -> Result<()> {
    let file = volume.file(BITMAP)?;
    let Some(FileStream::NonResident(joined)) = file.stream(DATA, &[]) else {
        return Ok(());
    };
    let total = volume.geometry().total_clusters;
    let (from, end) = (
        total / 8,
        (total.div_ceil(64) * 8).min(joined.header().size),
    );
    if total.is_multiple_of(64) || end <= from {
        return Ok(());
    }
    let mut bytes = vec![0; (end - from) as usize];
    volume.read_extents(&joined.map, from, &mut bytes)?;
    let clear = (total..end * 8)
        .filter(|n| bytes[(n / 8 - from) as usize] >> (n % 8) & 1 == 0)
        .count();
    if clear > 0 {
        issues.push(Code::BitmapTail, Some(BITMAP), None, || {
            format!("{clear} bits of $Bitmap behind the last cluster are not set")
        });
    }
    Ok(())
}

fn bad_clusters(volume: &Volume, issues: &mut Issues) -> Result<()> {
    let file = volume.file(BAD_CLUSTERS)?;
    let total = volume.geometry().total_clusters;
    let end = match file.stream(DATA, BAD) {
        Some(FileStream::NonResident(joined)) => joined.map.end().0,
        _ => 0,
    };
    if end != total {
        let at = Some(file.base().offset());
        issues.push(Code::BadClusters, Some(BAD_CLUSTERS), at, || {
            format!("Found {end} clusters in $BadClus:$Bad, expected {total}")
        });
    }
    Ok(())
}
