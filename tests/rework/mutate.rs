//! Random damage under the fixups of file records, in `$Bitmap` and the boot sector.

use crate::common::{Memory, edit, testdata};
use crate::hold::{hold, in_time};
use ntbak::units::RecordNo;
use ntbak::volume::Volume;
use proptest::prelude::*;
use std::sync::OnceLock;

/// A number that is written, or what it does to the one that is there.
#[derive(Clone, Copy, Debug)]
enum Value {
    Put(u64),
    Add(i64),
    Flip(u8),
}

#[derive(Clone, Debug)]
enum Mutation {
    /// Place and bytes in the boot sector; in the copy as well.
    Boot(usize, usize, Value, bool),
    /// Place in `$Bitmap`.
    Bitmap(usize, u8),
    /// Any byte of a record.
    Byte(usize, usize, Value),
    /// Place and bytes in the header of a record.
    Head(usize, (usize, usize), Value),
    /// Place and bytes in one of its attributes.
    Field(usize, usize, (usize, usize), Value),
    /// A byte of the mapping pairs of one of its attributes.
    Pairs(usize, usize, usize, Value),
}

/// Attributes offset, flags, used and allocated bytes, base record, next number, links.
const HEAD: [(usize, usize); 8] = [
    (0x10, 2),
    (0x12, 2),
    (0x14, 2),
    (0x16, 2),
    (0x18, 4),
    (0x1c, 4),
    (0x20, 8),
    (0x28, 2),
];
/// Type, length, form, name, flags, number; VCNs, mapping pairs, unit and sizes,
/// which are value length and offset of resident ones.
const FIELDS: [(usize, usize); 16] = [
    (0, 4),
    (4, 4),
    (8, 1),
    (9, 1),
    (0xa, 2),
    (0xc, 2),
    (0xe, 2),
    (0x10, 4),
    (0x10, 8),
    (0x14, 2),
    (0x18, 8),
    (0x20, 2),
    (0x22, 1),
    (0x28, 8),
    (0x30, 8),
    (0x38, 8),
];
const BOOT: [(usize, usize); 9] = [
    (0xb, 2),
    (0xd, 1),
    (0x1c, 4),
    (0x28, 8),
    (0x28, 4),
    (0x30, 8),
    (0x38, 8),
    (0x40, 1),
    (0x44, 1),
];

/// A sound volume, and the places of records in use that lie in one piece.
struct Base {
    bytes: Vec<u8>,
    records: Vec<usize>,
    size: usize,
    bitmap: usize,
    boot_copy: usize,
}

fn bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| ["damage-base", "lznt1-512"].map(base).into_iter().collect())
}

fn base(name: &str) -> Base {
    let bytes = testdata(name);
    let volume = Volume::open(Memory::shared(bytes.clone())).unwrap();
    let g = *volume.geometry();
    let size = g.record_size as usize;
    let mut records = Vec::new();
    for n in 0..volume.mft().record_count {
        let Some(at) = volume.record_offset(RecordNo(n)).map(|at| at as usize) else {
            continue;
        };
        let there = &bytes[at..at + size];
        if volume.record(RecordNo(n)).is_ok_and(|r| {
            r.view().in_use()
                && volume
                    .raw_record(RecordNo(n))
                    .is_ok_and(|raw| raw[..] == *there)
        }) {
            records.push(at);
        }
    }
    assert!(records.len() > 16, "{name}");
    let bitmap = edit::stream_at(&bytes, 6, 0x80, &[]).0;
    let boot_copy = g.volume_bytes() as usize;
    Base {
        records,
        size,
        bitmap,
        boot_copy,
        bytes,
    }
}

fn write(bytes: &mut [u8], at: usize, width: usize, value: Value) {
    let Some(place) = bytes.get_mut(at..at + width) else {
        return;
    };
    let mut old = [0; 8];
    old[..width].copy_from_slice(place);
    let old = u64::from_le_bytes(old);
    let new = match value {
        Value::Put(n) => n,
        Value::Add(n) => old.wrapping_add_signed(n),
        Value::Flip(bit) => old ^ 1 << (usize::from(bit) % (width * 8)),
    };
    place.copy_from_slice(&new.to_le_bytes()[..width]);
}

/// Places of the attributes of a record, as far as their lengths can be followed.
fn attributes(record: &[u8]) -> Vec<(usize, usize)> {
    let word = |at: usize| -> Option<usize> {
        let b = record.get(at..at + 4)?;
        Some(u32::from_le_bytes(b.try_into().unwrap()) as usize)
    };
    let mut all = Vec::new();
    let mut at = usize::from(u16::from_le_bytes([record[0x14], record[0x15]]));
    while let (Some(code), Some(len)) = (word(at), word(at + 4)) {
        if code == 0xffff_ffff || len < 0x18 || at + len > record.len() {
            break;
        }
        all.push((at, len));
        at += len;
    }
    all
}

impl Base {
    fn with(&self, mutations: &[Mutation]) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        // Under the fixups of a record, for each record once.
        for &at in &self.records {
            let mine: Vec<&Mutation> = mutations
                .iter()
                .filter(|m| self.record(m) == Some(at))
                .collect();
            if !mine.is_empty() {
                edit::protected(&mut bytes[at..at + self.size], |record| {
                    mine.iter().for_each(|m| in_record(record, m));
                });
            }
        }
        for m in mutations {
            match *m {
                Mutation::Boot(at, width, value, copy) => {
                    write(&mut bytes, at, width, value);
                    if copy {
                        write(&mut bytes, self.boot_copy + at, width, value);
                    }
                }
                Mutation::Bitmap(at, byte) => {
                    let len = self.bytes.len() / 512 / 8;
                    bytes[self.bitmap + at % len] = byte;
                }
                _ => {}
            }
        }
        bytes
    }

    fn record(&self, m: &Mutation) -> Option<usize> {
        match *m {
            Mutation::Byte(n, ..)
            | Mutation::Head(n, ..)
            | Mutation::Field(n, ..)
            | Mutation::Pairs(n, ..) => Some(self.records[n % self.records.len()]),
            _ => None,
        }
    }
}

fn in_record(record: &mut [u8], m: &Mutation) {
    // Signature and update sequence stay, else nothing behind them is looked at.
    let all = attributes(record);
    let nth = |n: usize| (!all.is_empty()).then(|| all[n % all.len()]);
    match *m {
        Mutation::Byte(_, at, value) => {
            let at = 0x10 + at % (record.len() - 0x10);
            if !(0x28..0x38).contains(&at) {
                write(record, at, 1, value);
            }
        }
        Mutation::Head(_, (at, width), value) => write(record, at, width, value),
        Mutation::Field(_, n, (at, width), value) => {
            if let Some((start, _)) = nth(n) {
                write(record, start + at, width, value);
            }
        }
        Mutation::Pairs(_, n, at, value) => {
            let mapped: Vec<(usize, usize)> =
                all.into_iter().filter(|a| record[a.0 + 8] == 1).collect();
            if mapped.is_empty() {
                return;
            }
            let (start, len) = mapped[n % mapped.len()];
            let pairs = usize::from(u16::from_le_bytes([
                record[start + 0x20],
                record[start + 0x21],
            ]));
            if pairs < len {
                write(record, start + pairs + at % (len - pairs).min(12), 1, value);
            }
        }
        Mutation::Boot(..) | Mutation::Bitmap(..) => {}
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::sample::select(vec![
            0,
            1,
            7,
            8,
            0x10,
            0x48,
            0x7f,
            0x80,
            0xff,
            0xffff,
            0x7fff_ffff,
            1 << 31,
            (1 << 32) - 1,
            1 << 47,
            1 << 62,
            1 << 63,
            u64::MAX,
        ])
        .prop_map(Value::Put),
        (0u64..8192).prop_map(Value::Put),
        any::<u64>().prop_map(Value::Put),
        prop::sample::select(vec![
            -4096i64, -512, -64, -8, -2, -1, 1, 2, 8, 64, 512, 4096
        ])
        .prop_map(Value::Add),
        any::<u8>().prop_map(Value::Flip),
    ]
}

/// Records of NTFS itself half of the time.
fn record() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..12, any::<usize>()]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let field = prop::sample::select(FIELDS.to_vec());
    let head = prop::sample::select(HEAD.to_vec());
    let boot = prop::sample::select(BOOT.to_vec());
    prop_oneof![
        1 => (boot, value(), any::<bool>()).prop_map(|(b, v, c)| Mutation::Boot(b.0, b.1, v, c)),
        2 => (any::<usize>(), any::<u8>()).prop_map(|(a, b)| Mutation::Bitmap(a, b)),
        2 => (record(), any::<usize>(), value()).prop_map(|(n, a, v)| Mutation::Byte(n, a, v)),
        2 => (record(), head, value()).prop_map(|(n, h, v)| Mutation::Head(n, h, v)),
        6 => (record(), any::<usize>(), field, value())
            .prop_map(|(n, a, f, v)| Mutation::Field(n, a, f, v)),
        6 => (record(), any::<usize>(), any::<usize>(), value())
            .prop_map(|(n, a, p, v)| Mutation::Pairs(n, a, p, v)),
    ]
}

/// `NTBAK_REWORK_CASES=N` asks for more than a few seconds' worth.
fn cases() -> u32 {
    let asked = std::env::var("NTBAK_REWORK_CASES").ok();
    asked.map_or(24, |n| n.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    })]
    #[test]
    fn random_damage_is_planned_right_or_refused(
        which in 0usize..2, mutations in prop::collection::vec(mutation(), 1..5)
    ) {
        let source = Memory::shared(bases()[which].with(&mutations));
        let what = format!("{which}, {mutations:?}");
        let name = what.clone();
        in_time(&what, move || hold(&name, &source));
    }
}

/// What random damage has found: `$MFT` elsewhere than its records, `$MFTMirr` in the
/// clusters of `$LogFile` or behind the end, a first record that is not in use, a
/// volume that claims more than its source has, a directory behind the end.
#[test]
fn damage_that_was_planned_wrongly() {
    let flags = |n| Mutation::Head(n, (0x16, 2), Value::Put(8));
    let sectors = |n| Mutation::Boot(0x28, 8, Value::Add(n), false);
    for (which, mutation) in [
        (0, Mutation::Pairs(0, 0, 3, Value::Flip(0))),
        (0, Mutation::Pairs(0, 1, 3, Value::Add(1))),
        (0, Mutation::Pairs(1, 0, 3, Value::Add(1))),
        (0, Mutation::Pairs(1, 0, 3, Value::Add(64))),
        (0, flags(0)),
        (1, flags(0)),
        (1, flags(1)),
        (0, sectors(8)),
        (0, sectors(512)),
        (
            1,
            Mutation::Pairs(
                13_727_675_708_277_669_041,
                2_450_618_854_989_822_439,
                14_606_249_234_213_561_400,
                Value::Put(10_197_505_182_777_400_115),
            ),
        ),
    ] {
        let source = Memory::shared(bases()[which].with(std::slice::from_ref(&mutation)));
        let what = format!("{which}, {mutation:?}");
        let name = what.clone();
        let found = in_time(&what, move || hold(&name, &source));
        eprintln!("{what}: {} plans, {:?}", found.planned, found.refused);
        assert!(found.planned > 0, "{what}: as it is at least");
    }
}
