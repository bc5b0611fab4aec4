use super::*;
use crate::device::{Fault, FaultySource};
use proptest::prelude::*;

const S: u64 = 512;

fn data(len: u64) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8 | 1).collect()
}

fn rescue(inner: &Arc<FaultySource>, options: RescueOptions) -> RescueSource {
    RescueSource::new(inner.clone(), options, Arc::new(BadMap::new()))
}

fn sectors(first: u64, count: u64) -> ByteRange {
    ByteRange {
        start: first * S,
        end: (first + count) * S,
    }
}

#[test]
fn bad_sectors_become_zeros_and_are_recorded() {
    let d = data(64 * S);
    let inner = Arc::new(
        FaultySource::new(d.clone(), 512)
            .with_bad_sectors(5, 1)
            .with_bad_sectors(40, 3),
    );
    let r = rescue(&inner, RescueOptions::default());
    let mut buf = vec![0xee; 50 * S as usize];
    let bad = r.read_at_marked(100, &mut buf).unwrap();
    assert_eq!(bad, [sectors(5, 1), sectors(40, 3)]);
    for (i, b) in buf.iter().enumerate() {
        let at = 100 + i as u64;
        let lost = bad.iter().any(|r| r.range().contains(&at));
        assert_eq!(*b, if lost { 0 } else { d[at as usize] }, "byte {at}");
    }
    // A second pass does not touch them again.
    let before = inner.reads();
    let again = r.read_at_marked(5 * S + 10, &mut [0; 20]).unwrap();
    assert_eq!(
        again,
        [ByteRange {
            start: 5 * S + 10,
            end: 5 * S + 30
        }]
    );
    assert_eq!(inner.reads(), before);
    assert_eq!(r.map().bytes(), 4 * S);
    let map = r.map().to_map(64 * S);
    assert_eq!(map.bytes(Status::Bad), 4 * S);
    assert_eq!(map.bytes(Status::NonTried), 64 * S - 100 - 50 * S + 100);
    assert_eq!(map.phase, Phase::Copying);
    assert_eq!(BadMap::from_map(&map).within(sectors(0, 10)), {
        let mut want = vec![ByteRange { start: 0, end: 100 }];
        want.push(sectors(5, 1));
        want
    });
}

#[test]
fn a_transient_error_costs_nothing_but_time() {
    let d = data(16 * S);
    let inner = Arc::new(FaultySource::new(d.clone(), 512).with(Fault::Transient {
        range: sectors(3, 1),
        times: 7,
    }));
    let options = RescueOptions {
        retries: 4,
        ..RescueOptions::default()
    };
    let r = rescue(&inner, options);
    let mut buf = vec![0; d.len()];
    assert!(r.read_at_marked(0, &mut buf).unwrap().is_empty());
    assert!(r.map().is_empty() && buf == d);
    let none = RescueOptions {
        retries: 0,
        ..options
    };
    inner.add(Fault::Transient {
        range: sectors(3, 1),
        times: 2,
    });
    let r = rescue(&inner, none);
    assert_eq!(r.read_at_marked(3 * S, &mut [0; 512]).unwrap().len(), 1);
}

#[test]
fn a_truncated_source_is_unreadable_behind_its_end() {
    let d = data(10 * S);
    let inner = Arc::new(FaultySource::new(d.clone(), 512));
    let r = rescue(&inner, RescueOptions::default()).with_expected_len(20 * S);
    assert_eq!(r.len(), 20 * S);
    let mut buf = vec![9; 4 * S as usize];
    assert_eq!(r.read_at_marked(8 * S, &mut buf).unwrap(), [sectors(10, 2)]);
    assert_eq!(buf[..1024], d[8 * 512..]);
    assert!(buf[1024..].iter().all(|&b| b == 0));
    assert!(r.read_at(19 * S, &mut [0; 513]).is_err());

    inner.add(Fault::EndsAt(7 * S + 100));
    let r = rescue(&inner, RescueOptions::default());
    let bad = r.read_at_marked(6 * S, &mut buf).unwrap();
    assert_eq!(bad, [sectors(7, 3)]);
}

#[test]
fn a_device_that_went_away_ends_the_run() {
    let inner = Arc::new(
        FaultySource::new(data(64 * S), 512)
            .with_bad_sectors(20, 8)
            .with(Fault::GoneAfter(6)),
    );
    let r = rescue(&inner, RescueOptions::default());
    let e = r.read_at(0, &mut vec![0; 64 * 512]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io);
}

#[test]
fn a_stop_is_seen_between_attempts() {
    let inner = Arc::new(FaultySource::new(data(64 * S), 512).with_bad_sectors(0, 64));
    let flag = Arc::new(CancelFlag::default());
    flag.cancel();
    let r = rescue(&inner, RescueOptions::default()).with_cancel(flag);
    let e = r.read_at(0, &mut vec![0; 64 * 512]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Interrupted);
}

#[test]
fn a_dead_area_is_crossed_in_steps() {
    let total = 64u64 << 20;
    let d = data(total);
    let dead = sectors(100, (40 << 20) / S);
    let inner = Arc::new(FaultySource::new(d.clone(), 512).with(Fault::Bad(dead)));
    let r = rescue(&inner, RescueOptions::default());
    let mut buf = vec![0; 1 << 20];
    for at in (0..total).step_by(buf.len()) {
        r.read_at(at, &mut buf).unwrap();
    }
    // The end of the area is found to the sector; nothing sound is lost.
    assert_eq!(r.map().ranges(), [dead]);
    assert!(r.map().skipped_bytes() > 38 << 20);
    assert!(inner.reads() < 12_000, "{} reads", inner.reads());
    let map = r.map().to_map(total);
    assert!(map.bytes(Status::NonScraped) > 38 << 20);
    assert_eq!(map.phase, Phase::Scraping);

    let all = RescueOptions {
        skip_after: None,
        ..RescueOptions::default()
    };
    let r = rescue(&inner, all);
    for at in (0..total).step_by(buf.len()) {
        r.read_at(at, &mut buf).unwrap();
    }
    assert_eq!((r.map().bytes(), r.map().skipped_bytes()), (dead.len(), 0));
}

proptest! {
    #[test]
    fn only_bad_sectors_are_lost(
        bad in prop::collection::vec((0u64..200, 1u64..40), 0..6),
        reads in prop::collection::vec((0u64..200 * 512, 0usize..40_000), 1..8),
        retries in 0u32..3, four_k in any::<bool>(),
    ) {
        let sector = if four_k { 4096u32 } else { 512 };
        let len = 200 * 512u64;
        let d = data(len);
        let inner = Arc::new(FaultySource::new(d.clone(), sector));
        let mut is_bad = vec![false; len as usize];
        for (first, count) in bad {
            let start = (first * 512) / u64::from(sector) * u64::from(sector);
            let end = ((first + count) * 512).min(len);
            inner.add(Fault::Bad(ByteRange { start, end }));
            let end = end.div_ceil(u64::from(sector)) * u64::from(sector);
            is_bad[start as usize..end.min(len) as usize].fill(true);
        }
        let r = rescue(&inner, RescueOptions { retries, ..RescueOptions::default() });
        for (at, n) in reads {
            let n = n.min((len - at) as usize);
            let mut buf = vec![0xaa; n];
            let marked: RangeSet = r.read_at_marked(at, &mut buf).unwrap().into_iter().collect();
            for i in 0..n as u64 {
                let p = (at + i) as usize;
                let lost = marked.contains(at + i);
                prop_assert_eq!(buf[i as usize], if lost { 0 } else { d[p] });
                prop_assert!(!lost || is_bad[p], "byte {} is sound", p);
            }
        }
    }
}
