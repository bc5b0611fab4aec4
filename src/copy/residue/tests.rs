use super::*;

const T: u64 = 65_536;

fn side(block: u64, pad: bool) -> Option<Side> {
    Some(Side { block, pad })
}

/// Disk to tape as backups do it: disk PAD 0, tape PAD 1.
fn backup(bytes: u64, cat: bool) -> Shape {
    Shape {
        amount: Amount::Process(bytes),
        source: side(512, false),
        destination: side(T, true),
        cat,
        hold: false,
    }
}

/// Tape to disk as restores do it: tape PAD 1, disk PAD 0.
fn restore(bytes: u64, cat: bool) -> Shape {
    Shape {
        amount: Amount::Write(bytes),
        source: side(T, true),
        destination: side(512, false),
        cat,
        hold: false,
    }
}

fn between(source: u64, destination: u64) -> Residue {
    Residue {
        source,
        destination,
    }
}

#[test]
fn worked_example() {
    let mut r = Residue::default();
    let inline = Shape {
        amount: Amount::Append(64),
        source: None,
        destination: side(T, true),
        cat: true,
        hold: false,
    };
    let e = step(r, &inline);
    assert_eq!((e.written, e.after.destination), (0, 64));
    r = e.after;
    let e = step(r, &backup(131_072, true));
    assert_eq!(
        (e.read, e.written, e.after.destination),
        (131_072, 131_072, 64)
    );
    r = e.after;
    let e = step(r, &backup(20_480, true));
    assert_eq!((e.written, e.after.destination), (0, 20_544));
    r = e.after;
    let e = step(r, &backup(36_864, false));
    assert_eq!((e.written, e.pad), (57_408, 8_128));
    assert_eq!((e.after, e.end), (Residue::default(), End::Settled));
}

#[test]
fn zero_blocks_flush() {
    let e = step(between(0, 100), &backup(0, false));
    assert_eq!(
        (e.read, e.processed, e.written, e.pad),
        (0, 0, 100, T - 100)
    );
    assert!(e.after.is_empty());
    // Whole blocks left by another segment are written too, when CAT is 1.
    let e = step(between(0, 2 * T + 9), &backup(0, true));
    assert_eq!((e.written, e.after.destination), (2 * T, 9));
}

#[test]
fn concatenated_last_segment_keeps_what_the_command_then_loses() {
    let e = step(Residue::default(), &backup(T + 512, true));
    assert_eq!((e.written, e.after, e.end), (T, between(0, 512), End::Kept));
}

#[test]
fn marks_do_not_flush() {
    let mark = Shape {
        amount: Amount::Nothing,
        source: None,
        destination: side(T, true),
        cat: false,
        hold: false,
    };
    let e = step(between(5, 7), &mark);
    assert_eq!((e.written, e.after, e.end), (0, between(5, 7), End::Kept));
}

#[test]
fn table_of_pads() {
    let shape = |source, destination, cat| Shape {
        amount: Amount::Process(100),
        source: side(64, source),
        destination: side(80, destination),
        cat,
        hold: false,
    };
    // 100 bytes from blocks of 64: 28 stay; into blocks of 80: 20 stay.
    for (p, q) in [(true, true), (true, false), (false, true), (false, false)] {
        let e = step(Residue::default(), &shape(p, q, true));
        assert_eq!((e.after, e.end), (between(28, 20), End::Kept), "CAT 1");
    }
    let e = step(Residue::default(), &shape(true, true, false));
    assert_eq!(
        (e.after, e.dropped_source, e.written, e.pad),
        (between(0, 0), 28, 100, 60)
    );
    let e = step(Residue::default(), &shape(false, true, false));
    assert_eq!(
        (e.after, e.dropped_source, e.written, e.pad),
        (between(28, 0), 0, 100, 60)
    );
    let e = step(Residue::default(), &shape(true, false, false));
    assert_eq!(
        (e.after, e.dropped_source, e.dropped_destination),
        (between(0, 0), 28, 20)
    );
    assert_eq!(e.written, 80);
    let e = step(Residue::default(), &shape(false, false, false));
    assert_eq!((e.end, e.written), (End::Inexact, 80));
}

#[test]
fn exact_writes_are_not_padded() {
    let mut shape = restore(512, false);
    shape.destination = side(512, true);
    // More stands in front of the segment than it writes.
    let e = step(between(0, 700), &shape);
    assert_eq!(
        (e.read, e.processed, e.written, e.end),
        (0, 0, 512, End::Inexact)
    );
    shape.amount = Amount::Range(100);
    assert_eq!(step(between(0, 1), &shape).end, End::Inexact);
    assert_eq!(step(between(0, 0), &shape).end, End::Settled);
}

#[test]
fn restore_reads_whole_blocks_and_drops_the_rest_of_the_last() {
    let e = step(Residue::default(), &restore(36_864, true));
    assert_eq!((e.read, e.written, e.after.source), (T, 36_864, T - 36_864));
    let e = step(e.after, &restore(20_480, true));
    assert_eq!((e.read, e.written, e.after.source), (0, 20_480, 8_192));
    let e = step(e.after, &restore(20_480, false));
    assert_eq!((e.read, e.written), (T, 20_480));
    assert_eq!(
        (e.dropped_source, e.after),
        (8_192 + T - 20_480, between(0, 0))
    );
}

#[test]
fn discard_leaves_the_destination_alone_unless_it_settles() {
    let discard = |n, pad, cat| Shape {
        amount: Amount::Process(n),
        source: side(T, pad),
        destination: None,
        cat,
        hold: false,
    };
    let e = step(between(0, 33), &discard(20_544, true, true));
    assert_eq!(
        (e.read, e.processed, e.after),
        (T, 20_544, between(T - 20_544, 33))
    );
    assert_eq!(e.written, 0);
    let e = step(between(12, 33), &discard(0, true, false));
    assert_eq!((e.dropped_source, e.dropped_destination), (12, 33));
    assert!(e.after.is_empty());
    assert_eq!(
        step(between(12, 0), &discard(0, false, false)).end,
        End::Inexact
    );
}

#[test]
fn inline_leaves_the_source_alone() {
    let inline = |pad, cat| Shape {
        amount: Amount::Append(10),
        source: None,
        destination: side(64, pad),
        cat,
        hold: false,
    };
    let e = step(between(3, 60), &inline(true, true));
    assert_eq!((e.read, e.written, e.after), (0, 64, between(3, 6)));
    let e = step(between(3, 60), &inline(true, false));
    assert_eq!((e.written, e.pad, e.after), (70, 58, between(3, 0)));
    assert_eq!(
        step(between(0, 60), &inline(false, false)).end,
        End::Inexact
    );
}

#[test]
fn ranges_pass_behind_old_residue() {
    let shape = Shape {
        amount: Amount::Extract(100),
        source: side(512, false),
        destination: side(64, true),
        cat: true,
        hold: false,
    };
    let e = step(between(7, 0), &shape);
    assert_eq!(
        (e.read, e.processed, e.written, e.after),
        (100, 100, 64, between(7, 36))
    );
}

#[test]
fn held_is_what_is_processed() {
    let mut shape = restore(1024, true);
    shape.hold = true;
    let e = step(between(0, 512), &shape);
    assert_eq!((e.processed, e.held, e.written), (512, 512, 1024));
}

#[test]
fn both_pads_of_a_full_write_are_none() {
    let e = step(Residue::default(), &backup(2 * T, false));
    assert_eq!((e.written, e.pad, e.end), (2 * T, 0, End::Settled));
}

proptest::proptest! {
    /// No byte appears or vanishes, whatever the shape.
    #[test]
    fn bytes_are_conserved(
        s in 0u64..200_000, d in 0u64..200_000,
        kind in 0u8..6, n in 0u64..(1 << 40),
        sb in 0u64..300_000, db in 0u64..300_000,
        sp: bool, dp: bool, has_s: bool, has_d: bool, cat: bool, hold: bool,
    ) {
        let amount = match kind {
            0 => Amount::Nothing,
            1 => Amount::Process(n),
            2 => Amount::Write(n),
            3 => Amount::Append(n),
            4 => Amount::Extract(n),
            _ => Amount::Range(n),
        };
        let appends = kind == 3;
        let shape = Shape {
            amount,
            source: if has_s && !appends { side(sb, sp) } else { None },
            destination: if has_d || kind == 2 || kind == 5 || appends { side(db, dp) } else { None },
            cat,
            hold,
        };
        let e = step(between(s, d), &shape);
        let moved = if shape.destination.is_some() { e.processed } else { 0 };
        proptest::prop_assert_eq!(s + e.read, e.processed + e.dropped_source + e.after.source);
        proptest::prop_assert_eq!(
            d + moved + e.appended,
            e.written + e.dropped_destination + e.after.destination
        );
        if e.pad > 0 {
            proptest::prop_assert_eq!((e.written + e.pad) % db.max(1), 0);
        }
        if cat {
            proptest::prop_assert_eq!(e.dropped_source + e.dropped_destination + e.pad, 0);
        }
    }
}
