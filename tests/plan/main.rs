//! Plans for every kind of copy manager, executed on a model of disk and tape:
//! no limit exceeded, the tape exactly as expected, everything comes back, no
//! residue lost, every command ends empty.

mod bench;
mod command_line;
#[path = "../common/mod.rs"]
mod common;
mod fixed;

use bench::{Bench, Maker, cells_of, content, disk_of, read_stream, wanted};
use ntbak::copy::limits::Used;
use ntbak::copy::oracle::Object;
use ntbak::copy::{
    Backup, Cell, Command, Geometry, HeaderWay, Limits, Refusal, TapeFile, backup, profile,
};
use proptest::prelude::*;

/// Profiles that can back up, with a disk block that suits them.
fn profiles() -> Vec<(&'static str, u64)> {
    vec![
        ("full-ntbak", 512),
        ("full-ntbak", 4096),
        ("full-spc", 512),
        ("xp-dbe", 512),
        ("router-spc2", 512),
        ("router-spc2", 4096),
        ("tiny", 512),
        ("noinline", 512),
        ("nofm", 512),
        ("4kn", 4096),
        ("4kn", 512),
    ]
}

fn limits(name: &str) -> Limits {
    profile::find(name).unwrap().announced.clone()
}

/// Blocks of which extents must be a multiple.
fn unit(l: &Limits, block: u64) -> u64 {
    (l.data_unit() / block).max(1)
}

fn shapes() -> impl Strategy<Value = Vec<(u64, u64, u8)>> {
    let blocks = prop_oneof![
        6 => 1u64..9,
        3 => 1u64..200,
        1 => 200u64..700,
    ];
    let gap = prop_oneof![2 => Just(0u64), 3 => 1u64..20, 1 => 20u64..800];
    let kind = prop_oneof![8 => Just(0u8), 1 => 1u8..4];
    prop::collection::vec((gap, blocks, kind), 0..40)
}

fn plan_all(l: &Limits, g: &Geometry, cells: &[Cell], marks: u32) -> Vec<Command> {
    Backup::new(cells.iter().cloned(), Maker, l, g)
        .unwrap()
        .filemarks(marks)
        .map(Result::unwrap)
        .collect()
}

/// The tape after all blocks and marks; its stream.
fn tape_of(bench: &mut Bench, marks: usize) -> Vec<u8> {
    let t = bench.geometry.tape_block as usize;
    let mut shape = bench.tape().shape();
    let tail = shape.split_off(shape.len() - marks);
    assert!(tail.iter().all(|n| *n == 0), "filemarks behind everything");
    assert!(shape.iter().all(|n| *n == t), "uniform blocks");
    bench.tape().stream(0)
}

fn one_file(stream: &[u8]) -> Vec<TapeFile> {
    vec![TapeFile {
        first_object: 0,
        offset: 0,
        bytes: stream.len() as u64,
    }]
}

fn whole_trip(name: &str, block: u64, cells: &[Cell], t: Option<u64>, pick: &[bool]) {
    let l = limits(name);
    let g = Geometry::new(t.unwrap_or(l.choose_block().unwrap()), block);
    let mut bench = Bench::new(&l, g, disk_of(cells, block as u32));
    let mut at = 0;
    for c in plan_all(&l, &g, cells, 2) {
        assert_eq!(c.offset, at);
        at = c.end();
        bench.backup(&c);
    }
    let stream = tape_of(&mut bench, 2);
    assert_eq!(stream.len() as u64, at);
    let records = read_stream(&stream, bench.disk());
    let have = content(records.iter().map(|r| (r.region, r.cell, r.runs.clone())));
    let want = content(cells.iter().map(|c| (c.region, c.cell, c.runs.clone())));
    assert_eq!(have, want);

    let pieces = wanted(&records, block);
    if l.check_restore(block).is_err() {
        assert_eq!(name, "xp-dbe");
        return;
    }
    let source = bench.replace_disk();
    let blocks = bench.run_restore(pieces.clone(), &one_file(&stream));
    assert_eq!(bench.disk().data, source.data);
    assert!(blocks <= 2 * (at / g.tape_block) + pieces.len() as u64);
    // Some pieces: these and nothing else.
    let some: Vec<_> = pieces
        .iter()
        .zip(pick.iter().cycle())
        .filter(|(_, p)| **p)
        .map(|(w, _)| *w)
        .collect();
    bench.replace_disk();
    bench.run_restore(some.clone(), &one_file(&stream));
    let inside = |lba: &u64| {
        some.iter()
            .any(|w| (w.lba..w.lba + w.bytes / block).contains(lba))
    };
    let expected: Vec<_> = source.data.iter().filter(|(lba, _)| inside(lba)).collect();
    assert!(bench.disk().data.iter().eq(expected));
}

/// In multiples of what the copy manager moves, and shorter where blocks are
/// longer: the model is slow.
fn scaled(shape: &[(u64, u64, u8)], unit: u64, block: u64) -> Vec<(u64, u64, u8)> {
    let bytes = unit * block;
    let f = |n: u64| n.div_ceil(bytes / 512) * unit;
    shape.iter().map(|&(g, b, k)| (f(g), f(b), k)).collect()
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        max_shrink_iters: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(4))]

    #[test]
    fn every_profile_backs_up_and_restores(
        shape in shapes(),
        small in any::<bool>(),
        pick in prop::collection::vec(any::<bool>(), 1..9),
    ) {
        for (name, block) in profiles() {
            let u = unit(&limits(name), block);
            let cells = cells_of(&scaled(&shape, u, block), 4096);
            whole_trip(name, block, &cells, small.then_some(4096), &pick);
        }
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn a_copy_goes_on_at_any_boundary(
        shape in shapes(),
        which in 0..profiles().len(),
        place in any::<prop::sample::Index>(),
    ) {
        let (name, block) = profiles()[which];
        let l = limits(name);
        let cells = cells_of(&scaled(&shape, unit(&l, block), block), 4096);
        let g = Geometry::new(l.choose_block().unwrap(), block);
        let t = g.tape_block;
        let mut bench = Bench::new(&l, g, disk_of(&cells, block as u32));
        let all = plan_all(&l, &g, &cells, 1);
        all.iter().for_each(|c| bench.backup(c));
        let whole = bench.tape().objects.clone();
        // The power fails when so many blocks are on the tape.
        let blocks = whole.iter().filter(|o| **o != Object::Mark).count();
        let safe = place.index(blocks + 1) as u64;
        bench.tape().objects.truncate(safe as usize);
        bench.tape().position = safe as usize;
        let plan = Backup::new(cells.iter().cloned(), Maker, &l, &g).unwrap().filemarks(1);
        for c in plan {
            let c = c.unwrap();
            if c.end() < safe * t || (c.end() == safe * t && c.blocks > 0 && c.filemarks + c.host_filemarks == 0) {
                continue;
            }
            if c.offset >= safe * t {
                bench.backup(&c);
                continue;
            }
            let rest = c.rest(safe * t, block).unwrap();
            let marks = c.filemarks + c.host_filemarks;
            for c in backup::pieces(rest, &l, &g, safe * t, marks).unwrap() {
                bench.backup(&c);
            }
        }
        prop_assert!(bench.tape().objects == whole);
    }

    #[test]
    fn a_refused_command_is_planned_smaller(
        shape in shapes(),
        which in 0..profiles().len(),
        at in 0usize..6,
        on in prop_oneof![Just(Refusal::Segments), Just(Refusal::ListLength), Just(Refusal::Inline)],
    ) {
        let (name, block) = profiles()[which];
        let mut l = limits(name);
        let cells = cells_of(&scaled(&shape, unit(&l, block), block), 4096);
        let g = Geometry::new(l.choose_block().unwrap(), block);
        let mut bench = Bench::new(&l, g, disk_of(&cells, block as u32));
        let mut plan = Backup::new(cells.iter().cloned(), Maker, &l, &g).unwrap().filemarks(1);
        let mut n = 0;
        while let Some(c) = plan.next() {
            let c = c.unwrap();
            n += 1;
            let used: Used = c.used();
            let less = l.halved(on, &used).filter(|less| {
                // A list that does not even hold one header is refused, not planned.
                let holds = !matches!(less.header_way(), Some(HeaderWay::Embedded))
                    || less.list_bytes >= 1024;
                n == at + 1 && holds && used.segments > 6 && (used.inline_bytes > 2 * g.header_unit(less) || on != Refusal::Inline)
            });
            match less {
                Some(less) => {
                    plan.replan(c, &less, &g).unwrap();
                    l = less;
                    bench.limits = l.clone();
                }
                None => bench.backup(&c),
            }
        }
        let stream = tape_of(&mut bench, 1);
        let records = read_stream(&stream, bench.disk());
        let have = content(records.into_iter().map(|r| (r.region, r.cell, r.runs)));
        let want = content(cells.into_iter().map(|c| (c.region, c.cell, c.runs)));
        prop_assert_eq!(have, want);
    }
}
