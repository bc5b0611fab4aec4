//! Volumes made smaller, larger and defragmented: read back as a source before
//! anything is written, then as a file by ntfs-3g's tools.

mod common;

use ntbak::device::{Rearranged, Rearrangement, SharedSource, Source};
use ntbak::observe::Silent;
use ntbak::volume::Volume;
use ntbak::volume::rework::{Rework, Survey, Wish, plan, survey};
use std::path::Path;
use std::sync::Arc;

fn surveyed(source: &SharedSource) -> Survey {
    let volume = Volume::open(source.clone()).unwrap();
    survey(&volume, &Silent).unwrap()
}

fn reworked(source: &SharedSource, rework: Rework) -> SharedSource {
    Arc::new(Rearranged::new(source.clone(), Arc::new(rework)))
}

#[test]
fn try_it() {
    let Ok(name) = std::env::var("REWORK") else {
        return;
    };
    let source: SharedSource = match Path::new(&name).exists() {
        true => common::PlainFile::open(Path::new(&name)),
        false => common::Memory::shared(common::testdata(&name)),
    };
    let s = surveyed(&source);
    println!(
        "len {} in place {} smallest {:?}",
        source.len(),
        s.smallest_in_place(),
        s.smallest()
    );
    let kind = std::env::var("KIND").unwrap_or_default();
    let wish = match kind.as_str() {
        "larger" => Wish {
            new_bytes: Some(source.len() + source.len() / 2),
            grow_file_system: true,
            ..Wish::default()
        },
        "smallest" => Wish {
            new_bytes: Some(s.smallest().unwrap()),
            ..Wish::default()
        },
        "both" => Wish {
            new_bytes: Some(s.smallest().unwrap()),
            defragment: true,
            ..Wish::default()
        },
        _ => Wish {
            defragment: true,
            ..Wish::default()
        },
    };
    let r = plan(&s, &wish, &Silent).unwrap();
    println!("{:#?}", r.report());
    let out = reworked(&source, r);
    let mut bytes = vec![0; out.len() as usize];
    out.read_at(0, &mut bytes).unwrap();
    std::fs::write("/tmp/rw/out.img", &bytes).unwrap();
}
