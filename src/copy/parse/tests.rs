use super::*;

/// The worked example of a backup: header, three extents, one filemark.
pub(crate) const BACKUP: &str = "
2a 01 00 40 00 00 00 00 00 00 00 68 00 00 00 40
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
00 00 00 00 00 00 00 00";

/// Its restore: locate, header into held data, three extents.
pub(crate) const RESTORE: &str = "
2b 01 00 40 00 00 00 00 00 00 00 64 00 00 00 00
e4 00 00 00 01 03 00 10 60 01 40 50 00 11 22 33
44 55 66 77 88 99 0a ab 00 00 00 00 00 00 02 00
e4 01 00 00 01 03 00 08 50 01 43 80 12 34 56 78
00 00 00 00 00 00 00 00 00 00 00 00 04 00 00 00
12 00 00 08 00 00 00 01 00 00 00 00 0f 01 00 0c
00 01 00 00 00 01 00 00 00 00 00 40 01 01 00 14
00 01 00 00 00 01 00 00 00 00 01 00 00 00 00 00
00 00 10 00 01 01 00 14 00 01 00 00 00 01 00 00
00 00 00 28 00 00 00 00 00 02 46 80 01 00 00 14
00 01 00 00 00 01 00 00 00 00 00 48 00 00 00 01
23 45 67 80";

pub(crate) fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace()
        .map(|b| u8::from_str_radix(b, 16).unwrap())
        .collect()
}

/// Everything there is, with limits that a small list can reach.
pub(crate) fn rules() -> Limits {
    Limits {
        codes: (0x00..=0x12).chain([0x14, 0xe0, 0xe4]).collect(),
        cscds: 3,
        segments: 6,
        list_bytes: 512,
        inline_bytes: 64,
        held_bytes: 65_536,
        stream_transfer: 0x10_0000,
        no_list_id: true,
        ..Limits::default()
    }
}

/// One disk (id 0), one tape (id 1), and these segments.
pub(crate) fn list(segments: &[u8], inline: &[u8]) -> Vec<u8> {
    let mut out = hex(BACKUP)[..HEADER + 64].to_vec();
    out[8..12].copy_from_slice(&(segments.len() as u32).to_be_bytes());
    out[12..16].copy_from_slice(&(inline.len() as u32).to_be_bytes());
    out.extend(segments);
    out.extend(inline);
    out
}

fn refusal(list: &[u8]) -> (u16, Option<u16>) {
    let r = parse(list, &rules()).unwrap_err();
    (r.code, r.field.map(|f| f.byte))
}

#[test]
fn worked_example_of_a_backup() {
    let bytes = hex(BACKUP);
    let list = parse(&bytes, &rules()).unwrap();
    assert_eq!(
        (list.id, list.usage, list.priority),
        (0x2a, ListIdUsage::Hold, 1)
    );
    assert_eq!(list.inline, 184..248);
    assert_eq!(&bytes[list.inline.clone()][..8], b"NTBAKREC");
    let disk = &list.cscds[0];
    assert_eq!(
        disk.parameters,
        Parameters::Block {
            pad: false,
            block: 512
        }
    );
    let CscdId::Designator(d) = &disk.id else {
        panic!()
    };
    assert_eq!(
        (d.code_set, d.association, d.kind, d.value.len()),
        (1, 0, 3, 16)
    );
    let tape = &list.cscds[1];
    assert_eq!(
        tape.parameters,
        Parameters::Stream {
            pad: true,
            fixed: None
        }
    );
    let cats: Vec<_> = list.segments.iter().map(|s| (s.code, s.cat)).collect();
    assert_eq!(
        cats,
        [(4, true), (0, true), (0, true), (0, false), (0x10, false)]
    );
    assert_eq!(
        list.segments[3].body,
        Body::BlockToStream {
            transfer: 65_536,
            blocks: 72,
            lba: 0x1_2345_6780
        }
    );
    assert_eq!(
        list.segments[4].body,
        Body::Filemarks {
            immediate: false,
            count: 1
        }
    );
    assert_eq!(list.segments[4].ends(), (None, Some(1)));
}

#[test]
fn worked_example_of_a_restore() {
    let list = parse(&hex(RESTORE), &rules()).unwrap();
    assert_eq!(list.segments[0].body, Body::Locate { object: 0 });
    assert!(list.segments[1].hold);
    assert_eq!(
        list.segments[1].body,
        Body::Discard {
            transfer: 65_536,
            bytes: 64
        }
    );
    assert_eq!(list.segments[2].ends(), (Some(1), Some(0)));
}

#[test]
fn each_cut_is_a_length_error() {
    let whole = hex(BACKUP);
    for n in 0..whole.len() {
        assert_eq!(refusal(&whole[..n]), (Refusal::LENGTH, None), "{n} bytes");
    }
    // A list that ends inside its last segment, and inside its last CSCD.
    let mut short = whole.clone();
    short[11] -= 1;
    assert_eq!(refusal(&short), (Refusal::LENGTH, None));
    let mut short = whole;
    short[3] -= 1;
    assert_eq!(refusal(&short), (Refusal::LENGTH, None));
}

#[test]
fn counts_and_lengths() {
    let mark = hex("10 00 00 08 00 00 00 01 00 00 00 01");
    assert!(parse(&list(&mark.repeat(6), &[]), &rules()).is_ok());
    assert_eq!(
        refusal(&list(&mark.repeat(7), &[])),
        (Refusal::MANY_SEGMENTS, Some(8))
    );
    assert_eq!(refusal(&list(&[], &[0; 65])), (Refusal::INLINE, Some(12)));
    let mut many = list(&[], &[]);
    let cscd = many[HEADER..HEADER + 32].to_vec();
    many.extend(cscd.repeat(2));
    many[3] = 128;
    assert_eq!(refusal(&many), (Refusal::MANY_CSCDS, Some(2)));
    let mut embedded = hex("05 00 02 00 00 00 00 01 00 00 10 00 00 00 00 00");
    embedded.resize(4 + 512, 0);
    assert_eq!(refusal(&list(&embedded, &[])), (Refusal::LENGTH, None));
}

#[test]
fn types_and_fields() {
    let at = HEADER + 64;
    // Type 13h, type 03h of a copy manager without it, a header alone.
    assert_eq!(
        refusal(&list(&hex("13 00 00 08 00 00 00 01 00 00 00 01"), &[])),
        (Refusal::SEGMENT_TYPE, Some(at as u16))
    );
    let few = Limits {
        codes: vec![2, 0xe4],
        ..rules()
    };
    let r = parse(&list(&hex("03 00 00 10 00 00 00 00"), &[]), &few).unwrap_err();
    assert_eq!(
        (r.code, r.field.unwrap().byte),
        (Refusal::SEGMENT_TYPE, at as u16)
    );
    // What a tool that knows only 02h sends for 00h.
    assert_eq!(
        refusal(&list(&hex("00 00 00 00"), &[])),
        (Refusal::FIELD, Some(at as u16 + 2))
    );
    // Inline offset not a multiple of 4; embedded data longer than its descriptor.
    assert_eq!(
        refusal(&list(
            &hex("04 00 00 10 00 00 00 01 00 01 00 00 00 00 00 02 00 00 00 04"),
            &[0; 8]
        )),
        (Refusal::FIELD, Some(at as u16 + 12))
    );
    assert_eq!(
        refusal(&list(
            &hex("05 00 00 10 00 00 00 01 00 01 00 00 00 05 00 00 00 00 00 00"),
            &[]
        )),
        (Refusal::FIELD, Some(at as u16 + 12))
    );
    // No transfer length, and one beyond the limit.
    for transfer in ["00 00 00", "10 00 01"] {
        let text = format!("06 00 00 0c 00 01 00 00 00 {transfer} 00 00 00 01");
        assert_eq!(
            refusal(&list(&hex(&text), &[])),
            (Refusal::FIELD, Some(at as u16 + 9))
        );
    }
    // An unknown CSCD type; FIXED without a length, and a length without FIXED.
    let mut bad = list(&[], &[]);
    bad[HEADER] = 0xe1;
    assert_eq!(refusal(&bad), (Refusal::CSCD_TYPE, Some(16)));
    for (flags, block) in [(5, 0), (4, 2)] {
        let mut bad = list(&[], &[]);
        bad[HEADER + 60] = flags;
        bad[HEADER + 63] = block;
        assert_eq!(refusal(&bad), (Refusal::FIELD, Some(16 + 32 + 29)));
    }
    let mut bad = list(&[], &[]);
    bad[HEADER + 7] = 21;
    assert_eq!(refusal(&bad), (Refusal::FIELD, Some(16 + 7)));
}

#[test]
fn list_ids() {
    let mut l = list(&[], &[]);
    l[1] = 0x08;
    let r = parse(&l, &rules()).unwrap_err();
    assert_eq!(r.sense().sense_key_specific, Some([0x8c, 0, 1]));
    l[1] = 0x18;
    assert_eq!(refusal(&l), (Refusal::FIELD, Some(0)));
    l[0] = 0;
    assert_eq!(parse(&l, &rules()).unwrap().usage, ListIdUsage::None);
    let strict = Limits {
        no_list_id: false,
        ..rules()
    };
    assert_eq!(parse(&l, &strict).unwrap_err().field.unwrap().byte, 1);
    let mut held = list(&hex("0f 01 00 0c 00 01 00 00 00 01 00 00 00 00 00 40"), &[]);
    held[0] = 0;
    held[1] = 0x18;
    assert_eq!(refusal(&held), (Refusal::FIELD, Some(80)));
}

#[test]
fn counts_of_space_are_signed() {
    let l = list(&hex("11 00 00 08 00 00 00 01 01 ff ff fe"), &[]);
    let l = parse(&l, &rules()).unwrap();
    assert_eq!(l.segments[0].body, Body::Space { code: 1, count: -2 });
}

proptest::proptest! {
    /// Any bytes, and any change of a good list, give a list or a refusal whose
    /// ranges lie inside.
    #[test]
    fn hostile_lists(
        mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400),
        changes in proptest::collection::vec((0usize..248, proptest::num::u8::ANY), 0..6),
        garbled: bool,
    ) {
        if garbled {
            bytes = hex(BACKUP);
            for (at, byte) in changes {
                bytes[at] = byte;
            }
        }
        if let Ok(list) = parse(&bytes, &rules()) {
            proptest::prop_assert!(list.inline.end <= bytes.len());
            for segment in &list.segments {
                let (source, destination) = list.sides(segment, |_| Some(512));
                let e = crate::copy::residue::step(Default::default(), &segment.shape(source, destination));
                proptest::prop_assert!(e.read < 1 << 40);
                if let Body::Embedded { data, .. } = &segment.body {
                    proptest::prop_assert!(data.end <= list.inline.start);
                }
            }
        }
    }
}
