//! What `image` and `restore` do when something goes wrong: bad sectors,
//! interruptions, damage, refusals.

#[path = "../common/mod.rs"]
mod common;
mod damage;

use ntbak::archive::{Archive, BLOCK, Forward, Kind, RegionView};
use ntbak::device::{
    CountingSource, FaultySource, FileSource, Identity, MemorySink, RescueMap, RescueOptions,
    SharedSource, Source, Status,
};
use ntbak::error::{ErrorKind, Result};
use ntbak::observe::{Observer, Silent, Warning};
use ntbak::ops::damage::name_files;
use ntbak::ops::image::{
    Destination, HashKind, ImageOptions, ImagePlan, PlanOptions, Skip, image, plan,
};
use ntbak::ops::report::Report;
use ntbak::ops::restore::{RestoreOptions, RestorePlan, RestoreSummary, restore};
use ntbak::ops::stream::StreamReader;
use ntbak::ops::verify::{VerifyOptions, verify};
use ntbak::units::RecordNo;
use ntbak::volume::{Stream, Tree, Volume, VolumePath};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn plan_of(source: SharedSource, options: &PlanOptions) -> ImagePlan {
    let id = Identity::file("test", source.len(), source.sector_size());
    plan(source, &id, options, &Silent).unwrap()
}

fn memory(bytes: &[u8]) -> SharedSource {
    Arc::new(FaultySource::new(bytes.to_vec(), 512))
}

fn file(path: &Path) -> SharedSource {
    Arc::new(FileSource::open(path, 512).unwrap())
}

fn restored(archive: SharedSource, size: usize, o: &RestoreOptions) -> (Vec<u8>, RestoreSummary) {
    let sink = MemorySink::used(vec![0xEE; size], 512);
    let summary = restore_on(archive, &sink, o).unwrap();
    (sink.bytes(), summary)
}

fn restore_on(
    archive: SharedSource,
    sink: &MemorySink,
    o: &RestoreOptions,
) -> Result<RestoreSummary> {
    let disk = Archive::open(archive.clone())?.disk().clone();
    let mut reader = StreamReader::new(Forward::new(archive, 0));
    reader.begin()?;
    restore(reader, &RestorePlan::new(&disk, None)?, sink, o, &Silent)
}

fn plain() -> RestoreOptions {
    RestoreOptions {
        threads: 2,
        zero_free: false,
        partial: false,
        verify: false,
    }
}

/// An archive with the usual options.
fn archive_of(plan: &ImagePlan) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    image(
        plan,
        Destination::File(path.clone()),
        &common::image_options(),
        &Silent,
    )
    .unwrap();
    std::fs::read(&path).unwrap()
}

fn stream_of(volume: &Volume, path: &str) -> Vec<u8> {
    let tree = Tree::new(volume);
    let found = tree
        .lookup(&VolumePath::parse(path.as_bytes()).unwrap())
        .unwrap();
    let stream: Stream = tree.open(&found).unwrap();
    let mut out = vec![0; stream.len() as usize];
    stream.read_at(0, &mut out).unwrap();
    out
}

/// First cluster of a file's data, in bytes.
fn first_byte(volume: &Volume, path: &str) -> u64 {
    let tree = Tree::new(volume);
    let found = tree
        .lookup(&VolumePath::parse(path.as_bytes()).unwrap())
        .unwrap();
    let file = volume.file(found.file.record).unwrap();
    match file.stream(0x80, &[]) {
        Some(ntbak::volume::FileStream::NonResident(j)) => {
            let lcns = j.map.as_slice().iter().find_map(|e| e.lcns()).unwrap();
            lcns.start * u64::from(volume.geometry().cluster_size)
        }
        _ => panic!("{path} is resident"),
    }
}

#[test]
fn bad_sectors_cost_themselves_only_and_name_their_files() {
    let bytes = common::testdata("attrlist");
    let volume = Volume::open(memory(&bytes)).unwrap();
    let at = first_byte(&volume, "/dir/b");
    let mft = volume.mft().extents.as_slice()[0].lcns().unwrap().start
        * u64::from(volume.geometry().cluster_size);
    let record = mft + 20 * 1024 + 512;
    let faulty = FaultySource::new(bytes.clone(), 512)
        .with_bad_sectors(at / 512, 1)
        .with_bad_sectors(record / 512, 1);
    let o = PlanOptions {
        rescue: RescueOptions {
            retries: 1,
            ..RescueOptions::default()
        },
        ..PlanOptions::default()
    };
    let plan = plan_of(Arc::new(faulty), &o);
    let dir = tempfile::tempdir().unwrap();
    let (archive, map) = (dir.path().join("a"), dir.path().join("map"));
    let how = ImageOptions {
        map: Some(map.clone()),
        verify: true,
        ..common::image_options()
    };
    let summary = image(&plan, Destination::File(archive.clone()), &how, &Silent).unwrap();
    assert_eq!(summary.totals.unreadable_bytes, 1024);
    let all: Vec<_> = summary
        .unreadable
        .iter()
        .map(|u| (u.range.start, u.range.len()))
        .collect();
    let mut want = vec![(at, 512), (record, 512)];
    want.sort();
    assert_eq!(all, want);
    let named = summary
        .unreadable
        .iter()
        .find(|u| u.range.start == at)
        .unwrap();
    assert_eq!(named.files, ["/dir/b"]);
    let named = summary
        .unreadable
        .iter()
        .find(|u| u.range.start == record)
        .unwrap();
    assert!(
        named.files[0].starts_with("/$MFT (file records 20 to 20"),
        "{:?}",
        named.files
    );
    // The map says the same, and other tools can read it.
    let map = RescueMap::parse(&std::fs::read_to_string(map).unwrap()).unwrap();
    assert_eq!(map.bytes(Status::Bad), 1024);
    // The report in the archive, too.
    let opened = Arc::new(Archive::open(file(&archive)).unwrap());
    let report: Report = serde_json::from_slice(&opened.report().unwrap()).unwrap();
    assert_eq!(report.unreadable.len(), 2);
    // Restored: zeros there, everything else as it was.
    let (out, summary) = restored(
        file(&archive),
        bytes.len(),
        &RestoreOptions {
            verify: true,
            ..plain()
        },
    );
    assert_eq!(summary.unreadable_bytes, 1024);
    assert!(summary.verified);
    for r in plan.kept_ranges() {
        for s in (r.start..r.end).step_by(512) {
            let (a, b) = (
                &bytes[s as usize..s as usize + 512],
                &out[s as usize..s as usize + 512],
            );
            if s == at || s == record {
                assert!(b.iter().all(|&x| x == 0));
            } else {
                assert!(a == b, "sector at {s:#x}");
            }
        }
    }
    // Reading the lost bytes out of the archive is an error, not zeros.
    let view = RegionView::new(opened, 1).unwrap();
    let e = view.read_at(at, &mut [0; 4096]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unreadable);
}

#[test]
fn transient_errors_leave_no_trace() {
    let bytes = common::testdata("vdl");
    let faulty = FaultySource::new(bytes.clone(), 512).with(ntbak::device::Fault::Transient {
        range: ntbak::units::ByteRange {
            start: 0,
            end: bytes.len() as u64,
        },
        times: 1,
    });
    let plan = plan_of(Arc::new(faulty), &PlanOptions::default());
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("a");
    let s = image(
        &plan,
        Destination::File(archive),
        &common::image_options(),
        &Silent,
    )
    .unwrap();
    assert_eq!(s.totals.unreadable_bytes, 0);
}

/// Stops the job after some progress.
struct StopAfter(AtomicU64);

impl Observer for StopAfter {
    fn advance(&self, _: u64) {
        let _ = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
    }
    fn cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }
    fn warn(&self, _: Warning) {}
}

#[test]
fn an_interrupted_run_goes_on_and_ends_the_same() {
    let bytes = common::testdata("attrlist");
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let plan_ = plan_of(memory(&bytes), &PlanOptions::default());
    image(
        &plan_,
        Destination::File(whole.clone()),
        &common::image_options(),
        &Silent,
    )
    .unwrap();
    let (want, _) = restored(file(&whole), bytes.len(), &plain());
    for stop in [1, 2, 3, 5] {
        let path = dir.path().join(format!("a{stop}"));
        let partial = ntbak::archive::partial_path(&path);
        let plan_ = plan_of(memory(&bytes), &PlanOptions::default());
        let stopper = StopAfter(AtomicU64::new(stop));
        let e = image(
            &plan_,
            Destination::File(path.clone()),
            &common::image_options(),
            &stopper,
        )
        .unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Interrupted);
        assert!(!path.exists() && partial.exists());
        // It is recognisable as incomplete and not restored without saying so.
        let opened = Archive::open(file(&partial)).unwrap();
        assert!(!opened.is_complete());
        let (_, summary) = restored(file(&partial), bytes.len(), &plain());
        assert!(!summary.complete);
        // The last record is torn, as a power cut would.
        let len = std::fs::metadata(&partial).unwrap().len();
        if stop == 5 {
            let f = std::fs::OpenOptions::new()
                .write(true)
                .open(&partial)
                .unwrap();
            f.set_len(len - 700).unwrap();
        }
        let resume = ImageOptions {
            resume: true,
            verify: true,
            ..common::image_options()
        };
        let s = image(&plan_, Destination::File(path.clone()), &resume, &Silent).unwrap();
        assert!(s.verified && s.resumed_bytes > 0 && path.exists() && !partial.exists());
        let (got, summary) = restored(file(&path), bytes.len(), &plain());
        assert!(summary.complete && got == want, "stopped after {stop}");
    }
}

#[test]
fn a_changed_source_is_not_mixed_into_an_old_archive() {
    let bytes = common::testdata("attrlist");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let plan_ = plan_of(memory(&bytes), &PlanOptions::default());
    let stopper = StopAfter(AtomicU64::new(3));
    image(
        &plan_,
        Destination::File(path.clone()),
        &common::image_options(),
        &stopper,
    )
    .unwrap_err();
    let volume = Volume::open(memory(&bytes)).unwrap();
    let record = volume.record_offset(RecordNo(64)).unwrap() as usize;
    let mut changed = bytes.clone();
    changed[record + 0x58] ^= 1;
    let resume = ImageOptions {
        resume: true,
        ..common::image_options()
    };
    let other = plan_of(memory(&changed), &PlanOptions::default());
    let e = image(&other, Destination::File(path.clone()), &resume, &Silent).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Refused);
    let o = PlanOptions {
        all_clusters: true,
        ..PlanOptions::default()
    };
    let other = plan_of(memory(&bytes), &o);
    assert!(image(&other, Destination::File(path.clone()), &resume, &Silent).is_err());
    image(&plan_, Destination::File(path), &resume, &Silent).unwrap();
}

#[test]
fn digests_of_the_whole_source() {
    for all_clusters in [false, true] {
        let bytes = common::testdata("quick");
        let o = PlanOptions {
            all_clusters,
            hash: vec!["sha256".into(), "md5".into()],
            ..PlanOptions::default()
        };
        let plan_ = plan_of(memory(&bytes), &o);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let how = ImageOptions {
            hash: vec![HashKind::Sha256, HashKind::Md5],
            ..common::image_options()
        };
        let s = image(&plan_, Destination::File(path.clone()), &how, &Silent).unwrap();
        let want: String = Sha256::digest(&bytes)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(s.hashes[0].hex, want);
        let (out, _) = restored(
            file(&path),
            bytes.len(),
            &RestoreOptions {
                zero_free: true,
                ..plain()
            },
        );
        assert_eq!(out == bytes, all_clusters);
    }
}

#[test]
fn free_clusters_of_a_used_target_stay_or_become_zero() {
    let bytes = common::testdata("lznt1-4k");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let plan_ = plan_of(memory(&bytes), &PlanOptions::default());
    image(
        &plan_,
        Destination::File(path.clone()),
        &common::image_options(),
        &Silent,
    )
    .unwrap();
    for zero_free in [false, true] {
        let o = RestoreOptions {
            zero_free,
            ..plain()
        };
        let (out, _) = restored(file(&path), bytes.len() + 8192, &o);
        let mut want = vec![if zero_free { 0 } else { 0xEE }; bytes.len()];
        for r in plan_.kept_ranges() {
            let r = r.start as usize..r.end as usize;
            want[r.clone()].copy_from_slice(&bytes[r]);
        }
        assert!(out[..bytes.len()] == want[..], "zero_free {zero_free}");
        assert!(
            out[bytes.len()..].iter().all(|&b| b == 0xEE),
            "behind the source"
        );
    }
}

#[test]
fn targets_that_do_not_fit_are_refused() {
    let bytes = common::testdata("vdl");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    image(
        &plan_of(memory(&bytes), &PlanOptions::default()),
        Destination::File(path.clone()),
        &common::image_options(),
        &Silent,
    )
    .unwrap();
    let small = MemorySink::new(bytes.len() - 512, 512);
    let e = restore_on(file(&path), &small, &plain()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Refused);
    assert!(e.message().contains(&bytes.len().to_string()));
    assert!(e.message().contains(&(bytes.len() - 512).to_string()));
    let sectors = MemorySink::new(bytes.len(), 4096);
    assert_eq!(
        restore_on(file(&path), &sectors, &plain())
            .unwrap_err()
            .kind(),
        ErrorKind::Refused
    );
}

#[test]
fn skipped_files_read_as_zeros_and_are_listed() {
    let bytes = common::testdata("dirty-hibernated");
    let o = PlanOptions {
        skip: vec![Skip::Pagefile, Skip::Hiberfil, Skip::Swapfile, Skip::Vss],
        ..PlanOptions::default()
    };
    let plan_ = plan_of(memory(&bytes), &o);
    let skipped = &plan_.regions[0].ntfs.as_ref().unwrap().skipped;
    // Two belong to the shadow copies: their catalogue and their storage.
    assert_eq!(skipped.len(), 5, "{skipped:?}");
    assert!(skipped.iter().all(|s| s.bytes > 0));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let s = image(
        &plan_,
        Destination::File(path.clone()),
        &common::image_options(),
        &Silent,
    )
    .unwrap();
    assert_eq!(
        s.totals.skipped_bytes,
        skipped.iter().map(|s| s.bytes).sum::<u64>()
    );
    let (out, _) = restored(file(&path), bytes.len(), &plain());
    let (before, after) = (
        Volume::open(memory(&bytes)).unwrap(),
        Volume::open(memory(&out)).unwrap(),
    );
    for path in ["/pagefile.sys", "/hiberfil.sys", "/swapfile.sys"] {
        assert!(stream_of(&before, path).iter().any(|&b| b != 0), "{path}");
        assert!(stream_of(&after, path).iter().all(|&b| b == 0), "{path}");
    }
    assert_eq!(
        stream_of(&before, "/data/pagefile.sys"),
        stream_of(&after, "/data/pagefile.sys")
    );
}

#[test]
fn one_file_needs_few_bytes_of_a_large_archive() {
    // A volume of some hundred incompressible MiB would be slow to make here; the
    // share matters, and the archive has many records.
    let bytes = common::testdata("attrlist");
    let plan_ = plan_of(
        memory(&bytes),
        &PlanOptions {
            all_clusters: true,
            ..PlanOptions::default()
        },
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    image(
        &plan_,
        Destination::File(path.clone()),
        &common::image_options(),
        &Silent,
    )
    .unwrap();
    let counting = Arc::new(CountingSource::new(file(&path)));
    let shared: SharedSource = counting.clone();
    let archive = Arc::new(Archive::open(shared).unwrap());
    let entries = archive.index().entries.len();
    let volume = Volume::open(Arc::new(RegionView::new(archive, 1).unwrap())).unwrap();
    let tree = Tree::new(&volume);
    let found = tree.lookup(&VolumePath::parse(b"/dir/b").unwrap()).unwrap();
    let stream = tree.open(&found).unwrap();
    let mut first = [0; 1];
    stream.read_at(0, &mut first).unwrap();
    let counts = counting.counts();
    eprintln!("{counts:?} of {} bytes, {entries} records", counting.len());
    assert!(counts.reads < 40);
}

#[test]
fn an_archive_of_one_partition_touches_nothing_else() {
    let bytes = common::testdata("disk-mbr");
    let o = PlanOptions {
        partition: Some(1),
        ..PlanOptions::default()
    };
    let plan_ = plan_of(memory(&bytes), &o);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    image(
        &plan_,
        Destination::File(path.clone()),
        &common::image_options(),
        &Silent,
    )
    .unwrap();
    let disk = Archive::open(file(&path)).unwrap().disk().clone();
    let plan = RestorePlan::new(&disk, None).unwrap();
    assert_eq!((plan.regions.len(), plan.regions[0].base), (1, 0));
    assert_eq!(plan.bytes, disk.regions[0].bytes);
}

#[test]
fn a_cut_off_disk_is_kept_as_far_as_it_is_there() {
    let bytes = common::testdata("disk-mbr");
    let cut = &bytes[..3_000_320];
    let plan_ = plan_of(memory(cut), &PlanOptions::default());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    image(
        &plan_,
        Destination::File(path.clone()),
        &ImageOptions {
            verify: true,
            ..common::image_options()
        },
        &Silent,
    )
    .unwrap();
    let (out, summary) = restored(file(&path), cut.len(), &plain());
    assert!(summary.complete);
    for r in plan_.kept_ranges() {
        let r = r.start as usize..r.end as usize;
        assert!(out[r.clone()] == cut[r]);
    }
    // Half a sector at the end is not dropped in silence.
    let odd: SharedSource = memory(&bytes[..3_000_321]);
    let id = Identity::file("test", odd.len(), 512);
    let Err(e) = plan(odd, &id, &PlanOptions::default(), &Silent) else {
        panic!("an odd source was taken")
    };
    assert_eq!(e.kind(), ErrorKind::Refused);
}
