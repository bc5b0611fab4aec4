//! Image, verify, restore: every used cluster comes back, on every volume.

mod common;

use ntbak::archive::Forward;
use ntbak::device::{
    FileSink, FileSinkOptions, FileSource, OpenOptions, SharedSource, Source, open_source,
};
use ntbak::observe::Silent;
use ntbak::ops::image::{Destination, ImageOptions, ImagePlan, PlanOptions, image, plan};
use ntbak::ops::restore::{RestoreOptions, RestorePlan, restore};
use ntbak::ops::stream::StreamReader;
use ntbak::ops::verify::{VerifyOptions, compare, verify};
use std::path::Path;
use std::sync::Arc;

fn options() -> ImageOptions {
    ImageOptions {
        verify: true,
        ..common::image_options()
    }
}

fn plan_of(path: &Path, options: &PlanOptions) -> ntbak::error::Result<ImagePlan> {
    let opened = open_source(path, OpenOptions::default())?;
    plan(opened.source, &opened.identity, options, &Silent)
}

fn restore_to(archive: &Path, target: &Path) -> ntbak::error::Result<()> {
    let source: SharedSource = Arc::new(FileSource::open(archive, 512)?);
    let mut reader = StreamReader::new(Forward::new(source, 0));
    let (_, disk) = reader.begin()?;
    let disk = disk.expect("a sound archive has its Disk record");
    let plan = RestorePlan::new(&disk, None)?;
    let sink = FileSink::create(
        target,
        plan.bytes,
        FileSinkOptions {
            force: false,
            sector_size: disk.sector_bytes,
        },
    )?;
    let o = RestoreOptions {
        threads: 2,
        zero_free: false,
        partial: false,
        verify: true,
    };
    let summary = restore(reader, &plan, &sink, &o, &Silent)?;
    assert!(summary.complete && summary.verified && summary.damage.is_empty());
    sink.finish()
}

/// Compares what the plan keeps, byte for byte.
fn same_kept(plan: &ImagePlan, a: &Path, b: &Path) -> u64 {
    let a = FileSource::open(a, 512).unwrap();
    let b = FileSource::open(b, 512).unwrap();
    assert_eq!(a.len(), b.len());
    let (mut x, mut y) = (Vec::new(), Vec::new());
    let mut total = 0;
    for r in plan.kept_ranges() {
        let mut at = r.start;
        while at < r.end {
            let n = (r.end - at).min(1 << 20);
            x.resize(n as usize, 0);
            y.resize(n as usize, 1);
            a.read_at(at, &mut x).unwrap();
            b.read_at(at, &mut y).unwrap();
            assert!(x == y, "differs in {at:#x}..{:#x}", at + n);
            at += n;
            total += n;
        }
    }
    total
}

/// A volume of more than 2^32 clusters: a sparse file of 2 TiB.
#[test]
fn huge() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("huge.img");
    common::Sparse::unpack("huge", &path);
    round_trip_of("huge", &path);
}

/// Every volume and disk that a script of the project makes.
#[test]
fn own_volumes() {
    let dir = tempfile::tempdir().unwrap();
    for name in common::testdata_names() {
        let path = dir.path().join(&name);
        std::fs::write(&path, common::testdata(&name)).unwrap();
        round_trip_of(&name, &path);
    }
}

fn round_trip(name: &str) {
    if let Some(path) = common::image(name) {
        round_trip_of(name, &path);
    }
}

fn round_trip_of(name: &str, path: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let (archive, target) = (dir.path().join("a.ntbak"), dir.path().join("r.img"));
    let plan = match plan_of(path, &PlanOptions::default()) {
        Ok(p) => p,
        Err(e) if name == "v14" => {
            assert_eq!(e.kind(), ntbak::error::ErrorKind::Refused);
            assert!(e.to_string().contains("BitLocker"), "{e}");
            assert!(e.advice().unwrap().contains("--raw"));
            return;
        }
        Err(e) => panic!("{name}: {e:?}"),
    };
    let summary = image(
        &plan,
        Destination::File(archive.clone()),
        &options(),
        &Silent,
    )
    .unwrap();
    assert!(summary.verified && summary.unreadable.is_empty());
    let source: SharedSource = Arc::new(FileSource::open(&archive, 512).unwrap());
    let outcome = verify(source.clone(), &VerifyOptions { threads: 2 }, &Silent).unwrap();
    assert!(outcome.is_sound(), "{:?}", outcome.damage);
    let device = FileSource::open(path, 512).unwrap();
    let starts: std::collections::HashMap<u16, u64> = plan
        .disk
        .regions
        .iter()
        .map(|r| (r.number, r.start))
        .collect();
    let (_, comparison) = compare(
        source,
        &device,
        |n| starts.get(&n).copied(),
        &VerifyOptions { threads: 2 },
        &Silent,
    )
    .unwrap();
    assert!(comparison.is_equal(), "{comparison:?}");
    restore_to(&archive, &target).unwrap();
    let total = same_kept(&plan, path, &target);
    assert_eq!(total, plan.bytes_to_read(false));
    eprintln!(
        "{name}: {total} bytes kept, archive {} bytes",
        summary.archive_bytes
    );
}

macro_rules! volumes {
    ($($test:ident $name:literal)*) => {
        $(#[test]
        fn $test() {
            round_trip($name);
        })*
    };
}

volumes! {
    v01 "v01" v02 "v02" v03 "v03" v04 "v04" v05 "v05" v06 "v06" v07 "v07" v08 "v08" v09 "v09"
    v10 "v10" v11 "v11" v12 "v12" v13 "v13" v14 "v14" v15 "v15"
    c01 "c01" c02 "c02" c03 "c03" c04 "c04" c05 "c05" c06 "c06" c07 "c07"
}
