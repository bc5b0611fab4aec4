//! A volume reworked out of an archive is the one reworked off the disk, and
//! `diff` finds no difference in its files.

mod common;

use ntbak::archive::{Archive, RegionKind, RegionView};
use ntbak::device::{Identity, Rearranged, SharedSource};
use ntbak::observe::Silent;
use ntbak::ops::diff::{DiffOptions, diff};
use ntbak::ops::image::{Destination, PlanOptions, image};
use ntbak::volume::rework::{Wish, plan, survey};
use ntbak::volume::{Tree, Volume};
use std::sync::Arc;

fn archived(name: &str, whole: &SharedSource, dir: &std::path::Path) -> SharedSource {
    let identity = Identity::file(name, whole.len(), whole.sector_size());
    let plan = ntbak::ops::image::plan(whole.clone(), &identity, &PlanOptions::default(), &Silent);
    let path = dir.join(format!("{name}.ntbak"));
    let options = common::image_options();
    image(
        &plan.unwrap(),
        Destination::File(path.clone()),
        &options,
        &Silent,
    )
    .unwrap();
    let archive = Arc::new(Archive::open(common::PlainFile::open(&path)).unwrap());
    let regions = &archive.disk().regions;
    let number = regions
        .iter()
        .find(|r| r.kind == RegionKind::Ntfs)
        .unwrap()
        .number;
    Arc::new(RegionView::new(archive.clone(), number).unwrap())
}

#[test]
fn out_of_an_archive() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "attrlist",
        "mft-attrlist",
        "sparse",
        "lznt1-4k",
        "links",
        "bigdir",
    ] {
        let whole = common::Memory::shared(common::testdata(name));
        let view = archived(name, &whole, dir.path());
        let old = Volume::open(whole.clone()).unwrap();
        let direct = survey(&old, &Silent).unwrap();
        let packed = survey(&Volume::open(view.clone()).unwrap(), &Silent).unwrap();
        assert_eq!(
            direct.smallest().unwrap(),
            packed.smallest().unwrap(),
            "{name}"
        );
        for (new_bytes, defragment) in [
            (Some(direct.smallest().unwrap()), false),
            (Some(whole.len() * 2), false),
            (None, true),
        ] {
            let wish = Wish {
                new_bytes,
                defragment,
                grow_file_system: true,
                ..Wish::default()
            };
            let a = plan(&direct, &wish, &Silent).unwrap();
            let b = plan(&packed, &wish, &Silent).unwrap();
            assert_eq!(a.report(), b.report(), "{name}, {wish:?}");
            let new: SharedSource = Arc::new(Rearranged::new(view.clone(), Arc::new(b)));
            let disk: SharedSource = Arc::new(Rearranged::new(whole.clone(), Arc::new(a)));
            let (mut x, mut y) = (vec![0; new.len() as usize], vec![0; new.len() as usize]);
            new.read_at(0, &mut x).unwrap();
            disk.read_at(0, &mut y).unwrap();
            assert!(x == y, "{name}, {wish:?}");
            let new = Volume::open(new).unwrap();
            let (from, to) = (Tree::new(&old), Tree::new(&new));
            let mut found = Vec::new();
            let summary = diff(&from, &to, DiffOptions::default(), &Silent, |d| {
                found.push(String::from_utf8_lossy(&d.path).into_owned());
                Ok(())
            })
            .unwrap();
            assert!(found.is_empty(), "{name}, {wish:?}: {found:?}");
            assert!(
                summary.same > 0 && summary.damaged == 0,
                "{name}: {summary:?}"
            );
        }
    }
}
