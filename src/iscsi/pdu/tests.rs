use super::*;
use proptest::prelude::*;

#[test]
fn a_command_stands_where_the_standard_says() {
    let b = ScsiCommand {
        last: true,
        read: true,
        flags: Attribute(1),
        lun: 0x0001_0000_0000_0000,
        itt: 0x0102_0304,
        expected: 512,
        cmd_sn: 7,
        exp_stat_sn: 9,
        cdb: *b"0123456789abcdef",
        ..Default::default()
    }
    .encode();
    assert_eq!(b.0[..2], [0x01, 0xc1]);
    assert_eq!(b.0[8..10], [0, 1]);
    assert_eq!(b.0[16..24], [1, 2, 3, 4, 0, 0, 2, 0]);
    assert_eq!(b.0[24..32], [0, 0, 0, 7, 0, 0, 0, 9]);
    assert_eq!(&b.0[32..], b"0123456789abcdef");
    assert_eq!(b.itt(), 0x0102_0304);
}

#[test]
fn a_login_stands_where_the_standard_says() {
    let b = LoginRequest {
        immediate: true,
        transit: true,
        stages: Stages::of(Stages::OPERATIONAL, Stages::FULL),
        isid: [0x80, 1, 2, 3, 4, 5],
        tsih: 0x1122,
        cid: 0x3344,
        ..Default::default()
    }
    .encode();
    assert_eq!(b.0[..4], [0x43, 0x87, 0, 0]);
    assert_eq!(b.0[8..16], [0x80, 1, 2, 3, 4, 5, 0x11, 0x22]);
    assert_eq!(b.0[20..22], [0x33, 0x44]);
}

#[test]
fn an_extended_command_block_is_found_behind_another_segment() {
    // Kind 2 (length 5, no padding needed) and kind 1 with 4 bytes.
    let ahs = [
        0, 5, 2, 0, 0, 0, 0, 9, //
        0, 5, 1, 0, 0xa, 0xb, 0xc, 0xd,
    ];
    assert_eq!(extended_cdb(&ahs), Some(&[0xa, 0xb, 0xc, 0xd][..]));
    assert_eq!(extended_cdb(&ahs[..8]), None);
    assert_eq!(extended_cdb(&[0xff, 0xff, 1, 0]), None);
}

proptest! {
    #[test]
    fn every_header_decodes_and_comes_back(opcode in 0u8..64, bytes: [u8; 32], more: [u8; 16]) {
        let mut b = [0; BHS];
        b[..32].copy_from_slice(&bytes);
        b[32..].copy_from_slice(&more);
        b[0] = b[0] & 0xc0 | opcode;
        let bhs = Bhs(b);
        if let Some(again) = recode(&bhs) {
            prop_assert_eq!(again.opcode(), opcode);
            prop_assert_eq!(again.itt(), bhs.itt());
        } else {
            prop_assert_eq!(name_of(opcode), "Unknown");
        }
        prop_assert!(bhs.data_len() < 1 << 24);
    }

    #[test]
    fn additional_headers_never_panic(ahs in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Some(cdb) = extended_cdb(&ahs) {
            prop_assert!(cdb.len() < ahs.len());
        }
    }
}
