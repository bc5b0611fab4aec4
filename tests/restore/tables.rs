//! No table that a target held is found while it is half restored, and its own
//! comes when all else is there.

use crate::common;
use crate::toy::{Dying, options};
use ntbak::archive::{Archive, Forward};
use ntbak::device::{FileSource, OpenOptions, SharedSource, Sink, Source, open_source};
use ntbak::disk::open_layout;
use ntbak::error::ErrorKind;
use ntbak::observe::Silent;
use ntbak::ops::image::{Destination, PlanOptions, image, plan};
use ntbak::ops::restore::{
    Decided, Frame, Journal, Onto, Replacement, Size, Subject, TargetId, Wishes, replace,
    restore_with,
};
use ntbak::ops::stream::StreamReader;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub fn archived(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let from = dir.join(format!("{name}.img"));
    fs::write(&from, bytes).unwrap();
    let opened = open_source(&from, OpenOptions::default()).unwrap();
    let plan = plan(
        opened.source,
        &opened.identity,
        &PlanOptions::default(),
        &Silent,
    );
    let to = dir.join(format!("{name}.ntbak"));
    let how = common::image_options();
    image(&plan.unwrap(), Destination::File(to.clone()), &how, &Silent).unwrap();
    to
}

pub fn opened(path: &Path) -> Arc<Archive> {
    let source: SharedSource = Arc::new(FileSource::open(path, 512).unwrap());
    Arc::new(Archive::open(source).unwrap())
}

pub fn wishes(frame: Frame) -> Wishes {
    Wishes {
        partition: None,
        frame,
        size: None,
        grow: Vec::new(),
        defragment: false,
        table: None,
        new_ids: false,
        measure: false,
    }
}

/// One life of a restore with a journal.
pub fn run(
    archive: &Path,
    new: &Replacement,
    wishes: &Wishes,
    sink: &dyn Sink,
    journal: &Path,
) -> ntbak::error::Result<()> {
    let source: SharedSource = Arc::new(FileSource::open(archive, 512).unwrap());
    let mut reader = StreamReader::new(Forward::new(source, 0));
    reader.begin().unwrap();
    let what = Subject {
        archive: "1".into(),
        plan: new.plan.digest(false, wishes).unwrap(),
        target: TargetId {
            name: "a dying disk".into(),
            bytes: sink.len(),
            sector_bytes: 512,
            serial: None,
            inode: None,
        },
        decided: new.decided.clone(),
    };
    let kept = match journal.exists() {
        true => Journal::take_up(journal, &what)?,
        false => Journal::create(journal, &what)?,
    };
    let mut kept = kept.every(1, Duration::from_millis(1));
    let how = options(true);
    let s = restore_with(reader, &new.plan, sink, &how, Some(&mut kept), &Silent)?;
    assert!(s.complete && s.verified, "{:?}", s.mismatches);
    kept.remove()
}

/// What could be taken for a table, by whoever looks with sectors of 512 or of
/// 4096 bytes.
fn tables(disk: &[u8]) -> Vec<usize> {
    let n = disk.len();
    let heads = [512, 4096, n - 512, n / 4096 * 4096 - 4096];
    let mut found: Vec<usize> = (heads.into_iter())
        .filter(|&at| disk[at..].starts_with(b"EFI PART"))
        .collect();
    if disk[..512].iter().any(|&b| b != 0) {
        found.push(0);
    }
    found
}

/// Every kind of table wherever it may be, and something else in between.
fn used(len: usize) -> Vec<u8> {
    let mut all = vec![0x5a; len];
    for at in [512, 4096, len - 512, len / 4096 * 4096 - 4096] {
        all[at..at + 8].copy_from_slice(b"EFI PART");
    }
    all[510..512].copy_from_slice(&[0x55, 0xaa]);
    all
}

#[test]
fn a_half_restored_disk_has_neither_its_old_table_nor_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["disk-gpt", "disk-mbr", "links"] {
        let bytes = common::testdata(name);
        let path = archived(dir.path(), name, &bytes);
        let archive = opened(&path);
        let len = bytes.len();
        for (room, size) in [
            (len, None),
            (len + (3 << 20), None),
            (len + (3 << 20), Some(Size::Same)),
        ] {
            let wishes = Wishes {
                size,
                ..wishes(Frame::Device(room as u64))
            };
            let new = replace(&archive, &wishes, None, None, &Silent).unwrap();
            let old = used(room);
            let journal = dir.path().join("j");
            let whole = Dying::new(old.clone(), false);
            run(&path, &new, &wishes, &whole, &journal).unwrap();
            let writes = whole.writes();
            let want = whole.bytes();
            let volumes: Vec<usize> = (new.plan.regions.iter())
                .filter(|l| l.region.number != 0 && l.base > 0)
                .map(|l| l.base as usize)
                .collect();
            if room > len && size.is_some() {
                // That of the target is not found afterwards, either.
                assert!(tables(&want).iter().all(|&at| at < len), "{name}");
            }
            let mut half = 0;
            for n in (0..writes).step_by(1 + writes as usize / 40) {
                let sink = Dying::new(old.clone(), false);
                sink.again(n, 0);
                let e = run(&path, &new, &wishes, &sink, &journal).unwrap_err();
                assert_eq!(e.kind(), ErrorKind::Io);
                sink.again(u64::MAX, n);
                let now = sink.bytes();
                let restored = (0..len).step_by(512).any(|at| {
                    let r = at..at + 512;
                    now[r.clone()] != old[r.clone()] && now[r].iter().any(|&b| b != 0)
                });
                if restored {
                    let found = tables(&now);
                    let ready = volumes.iter().all(|&v| now[v..v + 512] == want[v..v + 512]);
                    assert!(
                        found.is_empty()
                            || ready && now[8192..len - 8192] == want[8192..len - 8192],
                        "{name}, {room}, {n} of {writes}: {found:?}"
                    );
                    half += u32::from(found.is_empty());
                }
                // And it ends as if nothing had been.
                run(&path, &new, &wishes, &sink, &journal).unwrap();
                let bad = (sink.bytes().iter().zip(&want)).position(|(a, b)| a != b);
                assert!(bad.is_none(), "{name}, {room}, {n}: differs at {bad:?}");
            }
            assert!(half > 3, "{name}, {room}: {half}");
        }
    }
}

/// A partition of a disk with others: the table is that of the disk, and is
/// there at any time. The run goes on though the type is the new one by then.
#[test]
fn a_half_restored_partition_leaves_its_disk_alone() {
    let dir = tempfile::tempdir().unwrap();
    let source = common::testdata("disk-mbr");
    let path = archived(dir.path(), "disk-mbr", &source);
    let archive = opened(&path);
    let mut onto = common::testdata("disk-gpt");
    // Linux' type.
    for head in [512, onto.len() - 512] {
        let number = |at: usize| u64::from_le_bytes(onto[at..at + 8].try_into().unwrap());
        let entries = number(head + 0x48) as usize * 512;
        let kind = "0fc63daf-8483-4772-8e79-3d69d8477de4";
        let kind = ntbak::disk::Guid::parse(kind).unwrap().0;
        onto[entries + 3 * 128..][..16].copy_from_slice(&kind);
        let crc = crc32fast::hash(&onto[entries..][..128 * 128]).to_le_bytes();
        onto[head + 0x58..head + 0x5c].copy_from_slice(&crc);
        onto[head + 0x10..head + 0x14].fill(0);
        let crc = crc32fast::hash(&onto[head..head + 92]).to_le_bytes();
        onto[head + 0x10..head + 0x14].copy_from_slice(&crc);
    }
    let slot = 10240 * 512..16384 * 512;
    let wishes = Wishes {
        partition: Some(5),
        ..wishes(Frame::Into { number: 4 })
    };
    let decide = |disk: &dyn Source, before: Option<&Decided>| {
        let layout = open_layout(disk)?;
        let onto = Onto {
            layout: &layout,
            disk,
        };
        replace(&archive, &wishes, Some(onto), before, &Silent)
    };
    let target = common::Memory::shared(onto.clone());
    let new = decide(&*target, None).unwrap();
    let typed = new.differences.iter().any(|d| d.code == "type-changes");
    assert!(typed, "{:?}", new.differences);
    let journal = dir.path().join("j");
    let whole = Dying::new(onto.clone(), false);
    run(&path, &new, &wishes, &whole, &journal).unwrap();
    let (writes, want) = (whole.writes(), whole.bytes());
    assert!(want[..slot.start] != onto[..slot.start]);
    for n in (0..writes).step_by(1 + writes as usize / 40) {
        let sink = Dying::new(onto.clone(), false);
        sink.again(n, 0);
        run(&path, &new, &wishes, &sink, &journal).unwrap_err();
        sink.again(u64::MAX, n);
        let now = sink.bytes();
        for (at, sector) in now.chunks(512).enumerate() {
            let r = at * 512..at * 512 + 512;
            let known = sector == &onto[r.clone()] || sector == &want[r.clone()];
            assert!(known || slot.contains(&r.start), "{n}: {:#x}", r.start);
        }
        // As the program does it: the disk is looked at again.
        let before = Journal::subject(&journal).unwrap().decided;
        let again = decide(&*common::Memory::shared(now), Some(&before)).unwrap();
        run(&path, &again, &wishes, &sink, &journal).unwrap();
        assert!(sink.bytes() == want, "{n}");
    }
}
