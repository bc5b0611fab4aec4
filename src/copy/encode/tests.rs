use super::*;

/// The disk and the tape of the worked example of `docs/copy.md`.
fn units() -> [Cscd; 2] {
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

fn bytes(dump: &str) -> Vec<u8> {
    dump.split_whitespace()
        .map(|b| u8::from_str_radix(b, 16).unwrap())
        .collect()
}

fn segment(cat: bool, source: u16, destination: u16, body: Body) -> Segment {
    Segment {
        cat,
        source,
        destination,
        body,
    }
}

const T: u32 = 65_536;

#[test]
fn backup_of_the_worked_example() {
    let out = |cat, blocks, lba| {
        segment(
            cat,
            0,
            1,
            Body::BlockToStream {
                hold: false,
                transfer: T,
                blocks,
                lba,
            },
        )
    };
    let inline = bytes(
        "4e 54 42 41 4b 52 45 43 00 00 00 01 00 00 00 40 00 00 00 00 00 02 e0 00
         00 00 00 00 00 02 e0 00 00 00 00 00 00 00 00 05 5c 64 69 72 5c 66 69 6c 65 2e 64 61 74 00
         00 00 00 00 00 00 00 00 00 00",
    );
    let list = List {
        usage: ListId::Hold,
        cscds: &units(),
        segments: &[
            segment(
                true,
                0,
                1,
                Body::Inline {
                    transfer: T,
                    offset: 0,
                    bytes: 64,
                },
            ),
            out(true, 256, 0x1000),
            out(true, 40, 0x2_4680),
            out(false, 72, 0x1_2345_6780),
            segment(
                false,
                0,
                1,
                Body::Filemarks {
                    immediate: false,
                    count: 1,
                },
            ),
        ],
        inline: &inline,
    };
    let want = bytes(
        "2a 01 00 40 00 00 00 00 00 00 00 68 00 00 00 40
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
         00 00 00 00 00 00 00 00",
    );
    let got = list.encode(0x2a).unwrap();
    assert_eq!(got, want);
    assert_eq!(
        command_block(got.len() as u32)[..],
        bytes("83 00 00 00 00 00 00 00 00 00 00 00 00 f8 00 00")
    );
}

#[test]
fn restore_of_the_worked_example() {
    let back = |cat, blocks, lba| {
        segment(
            cat,
            1,
            0,
            Body::StreamToBlock {
                hold: false,
                transfer: T,
                blocks,
                lba,
            },
        )
    };
    let list = List {
        usage: ListId::Hold,
        cscds: &units(),
        segments: &[
            segment(false, 0, 1, Body::Locate { object: 0 }),
            segment(
                true,
                1,
                0,
                Body::Discard {
                    hold: true,
                    transfer: T,
                    bytes: 64,
                },
            ),
            back(true, 256, 0x1000),
            back(true, 40, 0x2_4680),
            back(false, 72, 0x1_2345_6780),
        ],
        inline: &[],
    };
    let want = bytes(
        "2b 01 00 40 00 00 00 00 00 00 00 64 00 00 00 00
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
         23 45 67 80",
    );
    assert_eq!(list.encode(0x2b).unwrap(), want);
}

#[test]
fn the_rest_stands_where_the_tables_say() {
    let one = |body: Body| {
        let mut out = Vec::new();
        put_segment(&segment(true, 2, 3, body), &mut out).unwrap();
        out
    };
    let cases = [
        (
            Body::BlockToBlock {
                hold: false,
                count_destination: true,
                blocks: 9,
                from: 1,
                to: 2,
            },
            "02 03 00 18 00 02 00 03 00 00 00 09 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 02",
        ),
        (
            Body::StreamToStream {
                hold: true,
                from_transfer: 0x10000,
                to_transfer: 0x8000,
                bytes: 7,
            },
            "0e 01 00 10 00 02 00 03 00 01 00 00 00 00 80 00 00 00 00 07",
        ),
        (
            Body::Embedded {
                transfer: 0x10000,
                data: vec![1, 2, 3, 4, 5],
            },
            "05 01 00 14 00 02 00 03 00 01 00 00 00 05 00 00 01 02 03 04 05 00 00 00",
        ),
        (
            Body::Verify { ready: true },
            "07 01 00 08 00 02 00 03 01 00 00 00",
        ),
        (
            Body::OffsetToStream {
                transfer: 0x10000,
                bytes: 5,
                lba: 6,
                offset: 7,
            },
            "08 01 00 18 00 02 00 03 00 01 00 00 00 00 00 05 00 00 00 00 00 00 00 06 00 00 00 07",
        ),
        (
            Body::OffsetToOffset {
                bytes: 5,
                from: 6,
                to: 8,
                from_offset: 7,
                to_offset: 9,
            },
            "0a 01 00 1c 00 02 00 03 00 00 00 05 00 00 00 00 00 00 00 06 00 00 00 00 00 00 00 08 00 07 00 09",
        ),
        (
            Body::Space { code: 1, count: -2 },
            "11 01 00 08 00 02 00 03 01 ff ff fe",
        ),
        (
            Body::RegisterKey {
                key: 1,
                service_action_key: 2,
            },
            "14 01 00 18 00 02 00 03 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 02 00 00 00 00",
        ),
    ];
    for (body, want) in cases {
        assert_eq!(one(body.clone()), bytes(want), "{body:?}");
    }
    let mut out = Vec::new();
    put_cscd(
        &Cscd::tape(Address::FcName {
            lun: 0x0003_0000_0000_0000,
            name: 0x5001_4380_1234_5678,
        }),
        &mut out,
    )
    .unwrap();
    assert_eq!(
        out,
        bytes(
            "e0 01 00 00 00 03 00 00 00 00 00 00 50 01 43 80 12 34 56 78
             00 00 00 00 00 00 00 00 04 00 00 00"
        )
    );
}

#[test]
fn what_does_not_fit_a_field_is_refused() {
    let refused = |body| put_segment(&segment(false, 0, 0, body), &mut Vec::new()).is_err();
    assert!(refused(Body::Embedded {
        transfer: 1,
        data: vec![0; 65_524]
    }));
    assert!(!refused(Body::Embedded {
        transfer: 1,
        data: vec![0; 65_520]
    }));
    assert!(refused(Body::Filemarks {
        immediate: false,
        count: 1 << 24
    }));
    assert!(refused(Body::Space {
        code: 0,
        count: -0x80_0001
    }));
    let long = Cscd::tape(Address::naa(&[0; 21]));
    assert!(put_cscd(&long, &mut Vec::new()).is_err());
    let none = List {
        usage: ListId::None,
        cscds: &[],
        segments: &[],
        inline: &[],
    };
    assert_eq!(none.encode(7).unwrap()[..2], [0, 0x19]);
}
