//! What cartridges hold, and labelling them.

use super::*;
use crate::archive::{
    ArchiveId, DiskInfo, GAP, Head, Kind, Options, Packer, SourceInfo, TableKind, Writer,
};
use crate::error::{Error, ErrorKind};
use crate::observe::Silent;
use crate::tape::{
    Cartridge, Id, LABEL_BYTES, MemoryDrive, NoChange, PartMap, SetOptions, SetWriter,
};
use std::sync::Arc;

const T: u32 = 8192;
const ID: [u8; 16] = [7; 16];

/// Writes a small stream to a cartridge; `records` of some KiB, then its end if
/// `whole`.
fn stream(cartridge: &Cartridge, records: usize, whole: bool) -> Vec<PartMap> {
    let id = ArchiveId(ID);
    let head = Head {
        format: 1,
        program: "ntbak test".into(),
        requires: vec!["zstd".into(), GAP.into()],
        optional: vec![],
        id: id.hex(),
        parent: None,
        created: "2026-01-01T00:00:00Z".into(),
        source: SourceInfo {
            path: "/dev/sdq".into(),
            bytes: 4096,
            ..SourceInfo::default()
        },
        options: Options::default(),
        plan: "p".into(),
        stillness: None,
    };
    let disk = DiskInfo {
        bytes: 4096,
        sector_bytes: 512,
        cell_bytes: 1 << 20,
        table: TableKind::None,
        regions: vec![],
    };
    let set = SetWriter::begin(
        Box::new(MemoryDrive::new(cartridge.clone())),
        Box::new(NoChange),
        SetOptions {
            set: Id(ID),
            block_bytes: T,
            label: Some("A1".into()),
            fresh_id: || Ok(Id([9; 16])),
            time: 5,
        },
    )
    .unwrap();
    let mut w = Writer::create(set, id, &head, &disk).unwrap();
    w.set_block(T);
    let mut packer = Packer::new(1).unwrap();
    for i in 0..records {
        let p = packer.plain(Kind::Pad, &vec![0; 3000 + i], false).unwrap();
        w.append(p).unwrap();
    }
    w.fill_up(0).unwrap();
    w.output().end_file().unwrap();
    match whole {
        true => w.finish(b"{}").unwrap().2.finish().unwrap().0,
        false => w.output().parts().to_vec(),
    }
}

fn look(cartridge: &Cartridge) -> Contents {
    contents(&mut MemoryDrive::new(cartridge.clone()), &Silent).unwrap()
}

fn set(c: Contents) -> SetPartFound {
    match c {
        Contents::Set(s) => *s,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_complete_set_tells_what_it_is() {
    let cartridge = Cartridge::default();
    let parts = stream(&cartridge, 20, true);
    let found = set(look(&cartridge));
    assert_eq!(found.map, parts[0]);
    assert_eq!((found.complete, found.walked), (Some(true), None));
    let facts = found.facts.unwrap();
    assert_eq!(
        (facts.source.as_str(), facts.plan.as_str()),
        ("/dev/sdq", "p")
    );
    let dir = tempfile::tempdir().unwrap();
    let inventory = Inventory::open(Some(dir.path())).unwrap();
    scan(&mut MemoryDrive::new(cartridge), &inventory, &Silent).unwrap();
    let known = inventory.set(Id(ID)).unwrap().unwrap();
    assert_eq!((known.complete, known.facts), (Some(true), Some(facts)));
}

#[test]
fn an_unfinished_set_is_walked() {
    let cartridge = Cartridge::default();
    stream(&cartridge, 21, false);
    let found = set(look(&cartridge));
    assert_eq!(found.complete, Some(false));
    let walked = found.walked.unwrap();
    // Head, Disk, 21, and what fills up.
    assert_eq!(walked.records, 24);
    assert_eq!(
        (walked.whole_until, walked.lost_bytes),
        (found.map.end(), 0)
    );
    // A block less: the last record is not whole.
    let mut objects = cartridge.objects();
    assert!(objects.pop().unwrap().is_none());
    objects.pop();
    cartridge.set_objects(objects);
    let cut = set(look(&cartridge));
    let less = cut.walked.unwrap();
    assert!(less.records < 24 && less.whole_until <= cut.map.end());
    // One in the middle is damaged: it is passed over.
    let mut objects = cartridge.objects();
    objects[4] = Some(vec![0xee; T as usize].into());
    cartridge.set_objects(objects);
    let damaged = set(look(&cartridge)).walked.unwrap();
    assert!(damaged.lost_bytes > 0 && damaged.records > 5, "{damaged:?}");
}

#[test]
fn a_tail_of_another_set_is_no_end() {
    let cartridge = Cartridge::default();
    stream(&cartridge, 3, true);
    let mut objects = cartridge.objects();
    let mut label = match first_block(&mut MemoryDrive::new(cartridge.clone())).unwrap() {
        Ok(l) => l,
        Err(c) => panic!("{c:?}"),
    };
    label.part.as_mut().unwrap().set = Id([8; 16]);
    objects[0] = Some(label.encode().unwrap().to_vec().into());
    cartridge.set_objects(objects);
    let found = set(look(&cartridge));
    assert_eq!((found.complete, found.facts), (Some(false), None));
}

#[test]
fn other_cartridges_are_told_apart() {
    let cartridge = Cartridge::default();
    assert_eq!(look(&cartridge), Contents::Nothing);
    let foreign: [(Option<Arc<[u8]>>, &str); 4] = [
        (None, "a filemark"),
        (Some(vec![1; 10240].into()), "a block of 10240 bytes"),
        (Some(vec![1; 100_000].into()), "a block of 100000 bytes"),
        (Some((*b"NTBKTAPE").into()), "a label that cannot be used"),
    ];
    for (object, words) in foreign {
        cartridge.set_objects(vec![object]);
        match look(&cartridge) {
            Contents::Foreign { first_block } => {
                assert!(first_block.starts_with(words), "{first_block}");
            }
            other => panic!("{other:?}"),
        }
    }
}

fn options(name: &str, force: bool) -> LabelOptions {
    LabelOptions {
        name: name.into(),
        force,
    }
}

#[test]
fn labelling_refuses_what_is_of_use_and_keeps_the_id() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = Inventory::open(Some(dir.path())).unwrap();
    let cartridge = Cartridge::default();
    let mut drive = MemoryDrive::new(cartridge.clone());
    let mut go = |name: &str, force| label(&mut drive, &inventory, &options(name, force));
    let first = go("B1", false).unwrap();
    assert_eq!(first.held, None);
    assert_eq!(cartridge.objects().len(), 2);
    // A blank one may have another name.
    let second = go("B2", false).unwrap();
    assert_eq!(second.label.cartridge, first.label.cartridge);
    assert!(inventory.list().unwrap().blank.contains(&second.label));
    // Not when somebody wrote something behind its label.
    let mut objects = cartridge.objects();
    objects.push(Some(vec![0; 512].into()));
    cartridge.set_objects(objects.clone());
    let e = go("B3", false).unwrap_err();
    assert!(e.message().contains("behind its blank label"), "{e}");
    assert!(cartridge.objects() == objects);
    assert_eq!(
        go("B2", true).unwrap().label.cartridge,
        first.label.cartridge
    );
    stream(&cartridge, 2, true);
    let before = cartridge.objects();
    scan(
        &mut MemoryDrive::new(cartridge.clone()),
        &inventory,
        &Silent,
    )
    .unwrap();
    let refusal = |e: Error| (e.kind(), e.message().to_string());
    let (kind, why) = refusal(go("B3", false).unwrap_err());
    assert_eq!(kind, ErrorKind::Refused);
    assert!(
        why.contains("holds number 1 of set") && why.contains("/dev/sdq"),
        "{why}"
    );
    assert!(cartridge.objects() == before, "nothing was changed");
    let forced = go("B3", true).unwrap();
    assert_eq!(forced.label.cartridge, second.label.cartridge);
    assert!(inventory.list().unwrap().sets.is_empty());
    cartridge.set_objects(vec![Some(vec![0; 512].into()), None]);
    let (kind, why) = refusal(go("B4", false).unwrap_err());
    assert_eq!(kind, ErrorKind::Refused);
    assert!(why.contains("a block of 512 bytes"), "{why}");
    go("B4", true).unwrap();
    cartridge.protect(true);
    assert_eq!(go("B5", true).unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn a_cartridge_without_room_for_a_label_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = Inventory::open(Some(dir.path())).unwrap();
    let tiny = Cartridge::with_capacity(LABEL_BYTES as u64 - 1, 0);
    let e = label(
        &mut MemoryDrive::new(tiny),
        &inventory,
        &options("X", false),
    )
    .unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Scsi);
    assert!(inventory.list().unwrap().blank.is_empty());
}
