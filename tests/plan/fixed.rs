//! Single plans whose every byte or number is known.

use super::bench::{Bench, Maker, cells_of, disk_of};
use super::{limits, plan_all, whole_trip};
use ntbak::copy::oracle::{Disk, Object};
use ntbak::copy::{
    Address, Backup, Body, Cscd, Geometry, Piece, Restore, TapeFile, Wanted, backup, profile,
};

const T: u64 = 65_536;

fn example() -> [Cscd; 2] {
    [
        Cscd::disk(
            Address::naa(&[
                0x60, 0x01, 0x40, 0x50, 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99,
                0x0a, 0xab,
            ]),
            512,
        ),
        Cscd::tape(Address::naa(&[
            0x50, 0x01, 0x43, 0x80, 0x12, 0x34, 0x56, 0x78,
        ])),
    ]
}

fn hex(dump: &str) -> Vec<u8> {
    dump.split_whitespace()
        .map(|b| u8::from_str_radix(b, 16).unwrap())
        .collect()
}

const EXTENTS: [(u64, u64); 3] = [(0x1000, 256), (0x2_4680, 40), (0x1_2345_6780, 72)];

#[test]
fn the_worked_example_comes_out_of_the_planner() {
    let header = hex(
        "4e 54 42 41 4b 52 45 43 00 00 00 01 00 00 00 40 00 00 00 00 00 02 e0 00
         00 00 00 00 00 02 e0 00 00 00 00 00 00 00 00 05 5c 64 69 72 5c 66 69 6c 65 2e 64 61 74 00
         00 00 00 00 00 00 00 00 00 00",
    );
    let mut pieces = vec![Piece::Inline(header)];
    pieces.extend(EXTENTS.map(|(lba, blocks)| Piece::Extent { lba, blocks }));
    let l = limits("full-ntbak");
    let g = Geometry::new(T, 512);
    let commands = backup::pieces(pieces, &l, &g, 0, 1).unwrap();
    let [c] = commands.as_slice() else {
        panic!("{} commands", commands.len());
    };
    assert_eq!(
        (c.bytes, c.pad, c.blocks, c.filemarks),
        (188_480, 8_128, 3, 1)
    );
    assert_eq!(
        c.parameter_list(0x2a, &example()).unwrap(),
        hex("2a 01 00 40 00 00 00 00 00 00 00 68 00 00 00 40
             e4 00 00 00 01 03 00 10 60 01 40 50 00 11 22 33
             44 55 66 77 88 99 0a ab 00 00 00 00 00 00 02 00
             e4 01 00 00 01 03 00 08 50 01 43 80 12 34 56 78
             00 00 00 00 00 00 00 00 00 00 00 00 04 00 00 00
             04 01 00 10 00 00 00 01 00 01 00 00 00 00 00 00
             00 00 00 40 00 01 00 14 00 00 00 01 00 01 00 00
             00 00 01 00 00 00 00 00 00 00 10 00 00 01 00 14
             00 00 00 01 00 01 00 00 00 00 00 28 00 00 00 00
             00 02 46 80 00 00 00 14 00 00 00 01 00 01 00 00
             00 00 00 48 00 00 00 01 23 45 67 80 10 00 00 08
             00 00 00 01 00 00 00 01 4e 54 42 41 4b 52 45 43
             00 00 00 01 00 00 00 40 00 00 00 00 00 02 e0 00
             00 00 00 00 00 02 e0 00 00 00 00 00 00 00 00 05
             5c 64 69 72 5c 66 69 6c 65 2e 64 61 74 00 00 00
             00 00 00 00 00 00 00 00")
    );
    let json = serde_json::to_string(c).unwrap();
    assert_eq!(
        serde_json::from_str::<ntbak::copy::Command>(&json).unwrap(),
        *c
    );
}

fn restore(pieces: Vec<Wanted>, name: &str) -> Vec<ntbak::copy::RestoreCommand> {
    let file = TapeFile {
        first_object: 0,
        offset: 0,
        bytes: 3 * T,
    };
    Restore::new(pieces, vec![file], &limits(name), &Geometry::new(T, 512))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn example_pieces() -> Vec<Wanted> {
    let offsets = [64, 131_136, 151_616];
    EXTENTS
        .iter()
        .zip(offsets)
        .map(|(&(lba, blocks), offset)| Wanted {
            offset,
            bytes: blocks * 512,
            lba,
        })
        .collect()
}

#[test]
fn restores_of_the_worked_example() {
    let all = restore(example_pieces(), "full-ntbak");
    assert_eq!(all.len(), 1);
    // As the example, with the header passed over instead of held.
    let mut want = hex("2b 01 00 40 00 00 00 00 00 00 00 64 00 00 00 00
         e4 00 00 00 01 03 00 10 60 01 40 50 00 11 22 33
         44 55 66 77 88 99 0a ab 00 00 00 00 00 00 02 00
         e4 01 00 00 01 03 00 08 50 01 43 80 12 34 56 78
         00 00 00 00 00 00 00 00 00 00 00 00 04 00 00 00
         12 00 00 08 00 00 00 01 00 00 00 00 06 01 00 0c
         00 01 00 00 00 01 00 00 00 00 00 40 01 01 00 14
         00 01 00 00 00 01 00 00 00 00 01 00 00 00 00 00
         00 00 10 00 01 01 00 14 00 01 00 00 00 01 00 00
         00 00 00 28 00 00 00 00 00 02 46 80 01 00 00 14
         00 01 00 00 00 01 00 00 00 00 00 48 00 00 00 01
         23 45 67 80");
    assert_eq!(all[0].parameter_list(0x2b, &example()).unwrap(), want);
    assert_eq!((all[0].object, all[0].blocks, all[0].end_object), (0, 3, 3));

    let one = restore(example_pieces().split_off(2), "full-ntbak");
    let bodies: Vec<_> = one[0]
        .segments
        .iter()
        .map(|s| (s.cat, s.body.clone()))
        .collect();
    assert_eq!(
        bodies,
        [
            (false, Body::Locate { object: 2 }),
            (
                true,
                Body::Discard {
                    hold: false,
                    transfer: 65_536,
                    bytes: 20_544
                }
            ),
            (
                false,
                Body::StreamToBlock {
                    hold: false,
                    transfer: 65_536,
                    blocks: 72,
                    lba: 0x1_2345_6780
                }
            ),
        ]
    );
    want.clear();
    assert_eq!((one[0].object, one[0].blocks), (2, 1));
    // Without LOCATE in the copy manager, the host positions.
    let host = restore(example_pieces().split_off(2), "nofm");
    // 64 bytes are no multiple of its granularity of 512: the host moves.
    assert!(host.iter().all(|c| c.by_host && c.locate == Some(2)));
}

#[test]
fn far_gaps_are_skipped_without_residue() {
    let l = limits("full-ntbak");
    let g = Geometry::new(4096, 512);
    let files = [TapeFile {
        first_object: 3,
        offset: 8192,
        bytes: 4096 * 100,
    }];
    let piece = |offset, lba| Wanted {
        offset,
        bytes: 1024,
        lba,
    };
    let pieces = vec![
        piece(8192 + 512, 5),
        piece(8192 + 4096 * 3, 20),
        piece(8192 + 4096 * 60 + 2048, 40),
    ];
    let plan = Restore::new(pieces.clone(), files.to_vec(), &l, &g).unwrap();
    let commands: Vec<_> = plan.map(Result::unwrap).collect();
    assert_eq!(commands.len(), 1);
    let codes: Vec<_> = commands[0]
        .segments
        .iter()
        .map(|s| (s.body.code(), s.cat))
        .collect();
    assert_eq!(
        codes,
        [
            (0x12, false),
            (0x06, true),
            (0x01, true),
            (0x06, true),
            (0x01, false),
            (0x12, false),
            (0x06, true),
            (0x01, false)
        ]
    );
    assert_eq!(commands[0].blocks, 5);
    // On the model the bytes are right.
    let mut bench = Bench::new(&l, g, Disk::new(512, 100));
    for i in 0..110u8 {
        let object = match i {
            2 => Object::Mark,
            _ => Object::Block((0..4096u32).map(|n| i ^ (n / 512) as u8 ^ 0x80).collect()),
        };
        bench.tape().write(object);
    }
    bench.run_restore(pieces, &files);
    let got: Vec<u8> = [5, 20, 40].map(|lba| bench.disk().bytes(lba, 1)[0]).into();
    assert_eq!(got, [3 ^ 1 ^ 0x80, 6 ^ 0x80, 63 ^ 4 ^ 0x80]);
}

#[test]
fn tape_files_and_cartridges_are_never_read_across() {
    let l = limits("full-ntbak");
    let g = Geometry::new(4096, 512);
    let files = [
        TapeFile {
            first_object: 2,
            offset: 4096,
            bytes: 8192,
        },
        TapeFile {
            first_object: 5,
            offset: 12_288,
            bytes: 4096,
        },
    ];
    // From the cartridge before, over the filemark, into the next cartridge.
    let piece = Wanted {
        offset: 0,
        bytes: 5 * 4096,
        lba: 0,
    };
    let plan = Restore::new(vec![piece], files.to_vec(), &l, &g).unwrap();
    let commands: Vec<_> = plan.map(Result::unwrap).collect();
    let done: Vec<_> = commands
        .iter()
        .flat_map(|c| &c.pieces)
        .map(|w| (w.offset, w.bytes, w.lba))
        .collect();
    assert_eq!(done, [(4096, 8192, 8), (12_288, 4096, 24)]);
    let locates: Vec<_> = commands
        .iter()
        .flat_map(|c| &c.segments)
        .filter_map(|s| match s.body {
            Body::Locate { object } => Some(object),
            _ => None,
        })
        .collect();
    assert_eq!(locates, [2, 5]);
}

#[test]
fn huge_extents_are_split() {
    // More than 65,535 blocks in one run, in a cell of 64 MiB.
    let cells = cells_of(&[(7, 70_000, 0), (9, 1, 0)], 131_072);
    whole_trip("full-ntbak", 512, &cells, None, &[true, false]);
}

#[test]
fn nothing_to_copy_is_a_filemark() {
    for p in profile::all() {
        let l = &p.announced;
        if p.check_dialect().is_err() || l.check_backup(512).is_err() {
            continue;
        }
        let block = if p.name == "4kn" { 4096 } else { 512 };
        let g = Geometry::new(l.choose_block().unwrap(), block);
        let all = plan_all(l, &g, &[], 1);
        assert_eq!(all.len(), 1, "{}", p.name);
        let mut bench = Bench::new(l, g, disk_of(&[], block as u32));
        bench.backup(&all[0]);
        assert_eq!(bench.tape().objects, [Object::Mark]);
        assert!(plan_all(l, &g, &[], 0).is_empty());
    }
}

#[test]
fn long_runs_end_commands_on_tape_blocks_without_waste() {
    let l = limits("router-spc2");
    let mut g = Geometry::new(262_144, 512);
    g.command_bytes = 1 << 20;
    let cells = cells_of(&[(3, 9000, 0), (8, 9000, 0)], 65_536);
    let all = plan_all(&l, &g, &cells, 1);
    let (last, before) = all.split_last().unwrap();
    assert!(before.len() > 5 && before.iter().all(|c| c.pad == 0));
    assert!(last.pad > 0 && last.records.last().unwrap().gap == last.pad);
}

#[test]
fn what_cannot_be_planned_is_refused_in_a_sentence() {
    let refuse = |name: &str, block: u64, shape: &[(u64, u64, u8)]| {
        let l = limits(name);
        let g = Geometry::new(65_536, block);
        let cells = cells_of(shape, 4096).into_iter();
        match Backup::new(cells, Maker, &l, &g) {
            Err(e) => e.to_string(),
            Ok(plan) => plan
                .map(|c| c.map(|_| ()))
                .collect::<Result<Vec<_>, _>>()
                .unwrap_err()
                .to_string(),
        }
    };
    assert!(refuse("lio", 512, &[(0, 1, 0)]).contains("disk to a tape"));
    assert!(refuse("4kn", 512, &[(0, 3, 0)]).contains("multiples of 4096 bytes"));
    assert!(refuse("tiny", 512, &[(0, 1, 0)]).contains("at most 32768"));
    assert!(
        Backup::new(
            std::iter::empty(),
            Maker,
            &limits("tiny"),
            &Geometry::new(4096, 4096)
        )
        .is_err_and(|e| e.to_string().contains("512 bytes of inline data"))
    );
    // Runs that do not ascend come from a mistake, and are told.
    let mut cells = cells_of(&[(0, 2, 0), (4, 2, 0)], 4096);
    cells[0].runs.reverse();
    let l = limits("full-ntbak");
    let mut plan = Backup::new(cells.into_iter(), Maker, &l, &Geometry::new(4096, 512)).unwrap();
    assert!(plan.next().unwrap().is_err() && plan.next().is_none());
    let back = vec![
        Wanted {
            offset: 8192,
            bytes: 512,
            lba: 0,
        },
        Wanted {
            offset: 0,
            bytes: 512,
            lba: 9,
        },
    ];
    let file = TapeFile {
        first_object: 0,
        offset: 0,
        bytes: 65_536,
    };
    let plan = Restore::new(back, vec![file], &l, &Geometry::new(4096, 512)).unwrap();
    assert!(plan.collect::<Result<Vec<_>, _>>().is_err());
}
