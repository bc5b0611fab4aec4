use super::*;
use proptest::prelude::*;

/// What decoding fills in from the bytes, taken out again to compare.
fn without_raw(mut s: Sense) -> Sense {
    s.raw = Box::default();
    s
}

#[test]
fn fixed_sense_of_a_tape_at_early_warning() {
    let bytes = [
        0xf0, 0, 0x40, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x00, 0x02, 0, 0, 0, 0,
    ];
    let s = Sense::decode(&bytes).unwrap();
    assert!(s.is_early_warning() && !s.is_end_of_medium());
    assert_eq!((s.information, &*s.raw), (Some(0), &bytes[..]));
    assert_eq!(without_raw(s).encode_fixed(), bytes);
}

#[test]
fn an_overlong_block_has_a_negative_information() {
    let s = Sense::decode(&[0xf0, 0, 0x20, 0xff, 0xff, 0xfe, 0xf7, 10]).unwrap();
    assert!(s.is_wrong_length());
    assert_eq!(s.information, Some(-265));
    let mut s = s;
    s.raw = vec![0xf0].into();
    assert_eq!(s.lba(), Some(0xffff_fef7));
}

#[test]
fn copy_aborted_in_both_formats() {
    let mut s = Sense::copy_aborted(0x0d, 0x01, 0x1234).with_information(4096);
    s.source = Some(Forwarded {
        status: 0x02,
        sense: Sense::new(SenseKey::MediumError, 0x11, 0)
            .encode_fixed()
            .into(),
    });
    s.destination = Some(Forwarded {
        status: 0x08,
        sense: Box::default(),
    });
    let fixed = s.encode_fixed();
    assert_eq!(fixed[8..12], [18, 18 + 1 + 18, 0x12, 0x34]);
    assert_eq!(fixed[18..20], [0x02, 0x70]);
    assert_eq!(fixed[37..], [0x08]);
    let back = Sense::decode(&fixed).unwrap();
    assert_eq!(back.segment(), Some(0x1234));
    assert!(back.of_source().unwrap().is_medium_error());
    assert_eq!(without_raw(back), s);
    let wide = s.encode_descriptor();
    assert_eq!(wide[8..16], [0x01, 0x0a, 0, 0, 0, 0, 0x12, 0x34]);
    let back = without_raw(Sense::decode(&wide).unwrap());
    assert_eq!(back, s);
    // Right-aligned, as another copy manager does it.
    let mut odd = wide;
    odd[14..20].copy_from_slice(&[0, 0, 0, 0, 0x12, 0x34]);
    assert_eq!(Sense::decode(&odd).unwrap().segment(), Some(0x1234));
}

#[test]
fn a_pointer_one_byte_behind_the_status_is_understood() {
    // Status at 17, sense at 18, pointer 18.
    let mut bytes = vec![
        0x70, 0, 0x0a, 0, 0, 0, 0, 28, 18, 0, 0, 1, 0x0d, 0x01, 0, 0, 0, 2,
    ];
    bytes.extend(Sense::new(SenseKey::NotReady, 0x3a, 0).encode_fixed());
    let s = Sense::decode(&bytes).unwrap();
    assert_eq!(s.source.as_ref().unwrap().status, 2);
    assert!(s.of_source().unwrap().is_no_medium());
}

#[test]
fn the_slips_of_known_units_are_classified() {
    let sense = |key, asc, ascq, eom, info: Option<i64>| Sense {
        eom,
        information: info,
        ..Sense::new(key, asc, ascq)
    };
    use SenseKey::*;
    assert!(sense(BlankCheck, 0, 5, false, None).is_end_of_data());
    assert!(sense(NoSense, 0, 5, false, None).is_end_of_data());
    assert!(sense(BlankCheck, 0, 0, true, None).is_end_of_data());
    assert!(!sense(NoSense, 0, 0, true, None).is_end_of_data());
    assert!(sense(NoSense, 0, 0, true, None).is_early_warning());
    assert!(sense(NoSense, 0, 2, true, Some(0)).is_early_warning());
    let late = sense(NoSense, 0, 2, true, Some(65536));
    assert!(late.is_end_of_medium() && !late.is_early_warning());
    assert!(sense(VolumeOverflow, 0, 2, true, None).is_end_of_medium());
    assert!(sense(NoSense, 0, 7, true, None).is_programmable_early_warning());
    assert!(sense(NoSense, 0, 4, true, Some(3)).is_beginning());
    assert!(sense(NoSense, 0, 1, false, Some(6)).is_filemark());
}

#[test]
fn field_pointers() {
    let s = Sense::invalid_field_in_list(0x1f, None);
    let f = s.field().unwrap();
    assert_eq!(
        (f.place, f.byte, f.bit),
        (FieldPlace::Parameters, 0x1f, None)
    );
    let s = Sense::copy_aborted(0x26, 0x0b, 2).pointing_into_segment(12);
    assert_eq!(s.encode_fixed()[15..18], [0xa0, 0, 12]);
    assert_eq!(s.field().unwrap().place, FieldPlace::Segment);
}

#[test]
fn what_is_no_sense_data_is_none() {
    for bytes in [&[][..], &[0x70], &[0x70, 0], &[0x72], &[0; 18], &[0x7f; 18]] {
        assert_eq!(Sense::decode(bytes), None);
    }
    assert!(Sense::decode(&[0x70, 0, 0x06]).unwrap().is_unit_attention());
    assert!(Sense::decode(&[0x72, 0x06]).unwrap().is_unit_attention());
}

fn any_sense() -> impl Strategy<Value = Sense> {
    let area = || {
        let sense = proptest::collection::vec(any::<u8>(), 0..100);
        // A status that is no response code.
        let status = (0u8..0x48).prop_map(|s| s & 0x7e);
        proptest::option::of((status, sense).prop_map(|(status, sense)| Forwarded {
            status,
            sense: sense.into(),
        }))
    };
    let bits = any::<(u8, u8, u8, bool, bool, bool, bool)>();
    let numbers = (any::<Option<i32>>(), any::<u32>(), any::<Option<[u8; 3]>>());
    (bits, numbers, area(), area()).prop_map(|(b, n, source, destination)| {
        let key = SenseKey::of(b.0);
        let copy = key == SenseKey::CopyAborted;
        Sense {
            key,
            asc: b.1,
            ascq: b.2,
            deferred: b.3,
            filemark: b.4,
            eom: b.5,
            ili: b.6,
            information: n.0.map(i64::from),
            command_specific: if copy { n.1 & 0xffff } else { n.1 }.into(),
            sense_key_specific: n.2.map(|[a, b, c]| [a | 0x80, b, c]),
            source: source.filter(|_| copy),
            destination: destination.filter(|_| copy),
            raw: Box::default(),
        }
    })
}

proptest! {
    #[test]
    fn both_formats_give_back_what_was_put_in(s in any_sense()) {
        let fixed = s.encode_fixed();
        prop_assert!(fixed.len() <= 252);
        prop_assert_eq!(without_raw(Sense::decode(&fixed).unwrap()), s.clone());
        let wide = s.encode_descriptor();
        prop_assert!(wide.len() <= 252);
        prop_assert_eq!(without_raw(Sense::decode(&wide).unwrap()), s);
    }

    #[test]
    fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Some(s) = Sense::decode(&bytes) {
            let _ = (s.to_string(), s.field(), s.lba(), s.segment(), s.is_end_of_data());
            prop_assert!(s.encode_fixed().len() < 256);
        }
        // The same as a body behind each response code.
        for code in 0x70..=0x73 {
            let mut b = bytes.clone();
            if let Some(first) = b.first_mut() {
                *first = code;
            }
            if let Some(s) = Sense::decode(&b) {
                let _ = (s.to_string(), s.encode_descriptor());
            }
        }
    }
}
