//! Random layouts and sizes.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Part {
    gap: u64,
    len: u64,
    smallest: u64,
    grow: bool,
    movable: bool,
}

fn part() -> impl Strategy<Value = Part> {
    // In sectors; some on a boundary of 1 MiB, some not.
    let gap = prop_oneof![3 => Just(0u64), 2 => 1u64..5000, 1 => 5000u64..50_000];
    let len = prop_oneof![2 => (1u64..30).prop_map(|m| m * 2048), 1 => 64u64..60_000];
    (gap, len, 0u64..=100, 0u8..5, 0u8..8).prop_map(|(gap, len, percent, grow, movable)| Part {
        gap,
        len,
        smallest: len * percent / 100 * 512,
        grow: grow == 0,
        movable: movable != 0,
    })
}

#[derive(Clone, Debug)]
struct Case {
    gpt: bool,
    aligned: bool,
    before: Vec<Part>,
    /// Inside of an extended partition.
    inside: Vec<Part>,
    after: Vec<Part>,
    tail: u64,
}

fn case() -> impl Strategy<Value = Case> {
    let parts = |n| prop::collection::vec(part(), 0..n);
    (
        any::<bool>(),
        any::<bool>(),
        parts(3),
        parts(4),
        parts(2),
        0u64..60_000,
        part(),
    )
        .prop_map(|(gpt, aligned, mut before, inside, after, tail, first)| {
            before.insert(0, first);
            Case {
                gpt,
                aligned,
                before,
                inside,
                after,
                tail,
            }
        })
}

/// The disk, and the rooms of its partitions.
fn disk(c: &Case) -> (Disk, Vec<Room>) {
    let mut script = format!(
        "label: {}\nfirst-lba: 64\n",
        if c.gpt { "gpt" } else { "dos" }
    );
    if !c.gpt {
        script = "label: dos\nlabel-id: 0x12345678\n".to_owned();
    }
    let (mut at, mut lines, mut rooms) = (64, String::new(), Vec::new());
    let mut add = |number: u32, p: &Part, lead: u64, at: &mut u64, inside: bool| {
        let start = match c.aligned {
            // sfdisk wants a whole grain for a record.
            true => (*at + p.gap).next_multiple_of(2048) + if inside { 2048 } else { 0 },
            false => *at + p.gap + lead,
        };
        let kind = match (c.gpt, inside) {
            (true, _) => {
                "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, name=\"data\", attrs=\"RequiredPartition\""
            }
            _ => "7",
        };
        lines += &format!("{number}: start={start}, size={}, type={kind}\n", p.len);
        *at = start + p.len;
        rooms.push(Room {
            number,
            smallest: p.smallest,
            grow: p.grow,
            movable: p.movable,
        });
        start
    };
    let mut number = 1;
    for p in &c.before {
        add(number, p, 0, &mut at, false);
        number += 1;
    }
    if c.gpt || c.inside.is_empty() {
        for p in c
            .inside
            .iter()
            .chain(&c.after)
            .take((4 - c.before.len()).min(4))
        {
            add(number, p, 0, &mut at, false);
            number += 1;
        }
        script += &lines;
    } else {
        // The length of the container is known behind its last partition.
        let container = number;
        let (mut first, mut inner) = (None, String::new());
        for (i, p) in c.inside.iter().enumerate() {
            let start = add(5 + i as u32, p, 63 + p.gap % 2000, &mut at, true);
            if first.is_none() {
                first = Some(start - if c.aligned { 2048 } else { 63 });
            }
        }
        std::mem::swap(&mut inner, &mut lines);
        let split = inner.find("5: ").unwrap();
        let first = first.unwrap();
        script += &inner[..split];
        script += &format!("{container}: start={first}, size={}, type=5\n", at - first);
        script += &inner[split..];
        number += 1;
        let mut add_last = String::new();
        for p in c
            .after
            .iter()
            .take(4usize.saturating_sub(number as usize - 1))
        {
            let mut start = at + p.gap;
            if c.aligned {
                start = start.next_multiple_of(2048);
            }
            add_last += &format!("{number}: start={start}, size={}, type=7\n", p.len);
            at = start + p.len;
            rooms.push(Room {
                number,
                smallest: p.smallest,
                grow: p.grow,
                movable: p.movable,
            });
            number += 1;
        }
        script += &add_last;
    }
    rooms.sort_by_key(|r| r.number);
    let d = Disk::sfdisk((at + c.tail + 34) * 512, &script);
    d.mark();
    (d, rooms)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_layout_on_any_disk(c in case(), size in 0u64..=1000, new in any::<bool>()) {
        if !here("sfdisk") {
            return Ok(());
        }
        let (old, rooms) = disk(&c);
        let layout = old.layout();
        prop_assert_eq!(layout.partitions.len(), rooms.len(), "{:?}", layout);
        let small = measure(&layout, &old.source(), &rooms).unwrap();
        prop_assert!(small.possible <= small.unchanged && small.unchanged <= old.len);
        let ids = if new { Ids::New } else { Ids::Keep };
        // From the smallest to half as much again.
        let len = small.possible + (old.len * 3 / 2 - small.possible) * size / 1000;
        for len in [small.possible, small.unchanged, len] {
            let a = old.arranged(&rooms, len, ids).unwrap();
            prop_assert_eq!(a.smallest, small);
            check(&old, &rooms, &a).verify();
            let grows = rooms.iter().any(|r| r.grow);
            if len >= small.unchanged && !grows {
                prop_assert!(a.partitions.iter().all(|p| p.old == p.new));
            }
            for p in &a.partitions {
                let r = rooms.iter().find(|r| r.number == p.number).unwrap();
                prop_assert!(r.movable || !p.moved());
                prop_assert!(r.grow || p.new.len() <= p.old.len());
            }
        }
        let e = old.arranged(&rooms, small.possible - 512, ids).unwrap_err();
        prop_assert!(e.to_string().contains(&small.possible.to_string()), "{}", e);
        // In place.
        let keep: Vec<Room> = rooms.iter().map(|r| Room { grow: false, ..*r }).collect();
        let same = old.arranged(&keep, old.len, Ids::Keep).unwrap();
        prop_assert!(same.is_unchanged());
        prop_assert_eq!(&same.kept, &layout.gaps);
        prop_assert!(same.zeroed.is_empty() && same.dropped.is_empty());
    }
}
