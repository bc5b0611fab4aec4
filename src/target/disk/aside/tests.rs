//! Copy-on-write against copies of the whole disk.

use super::*;
use proptest::prelude::*;
use std::sync::atomic::AtomicBool;
use std::sync::{RwLock, mpsc};

const SMALL: u64 = 4096;

/// A disk with snapshots, each beside a copy of the disk as it was.
struct Bench {
    disk: Arc<File>,
    len: u64,
    snapshots: Snapshots,
    all: Vec<(Arc<Aside>, Vec<u8>)>,
}

impl Bench {
    fn new(len: u64) -> Self {
        let disk = tempfile::tempfile().unwrap();
        let first: Vec<u8> = (0..len).map(|i| (i / 100 % 3) as u8).collect();
        disk.write_all_at(&first, 0).unwrap();
        Self {
            disk: Arc::new(disk),
            len,
            snapshots: Snapshots::default(),
            all: Vec::new(),
        }
    }

    fn content(&self) -> Vec<u8> {
        let mut all = vec![0; self.len as usize];
        self.disk.read_exact_at(&mut all, 0).unwrap();
        all
    }

    fn take(&mut self, file: File, on_loss: OnLoss) -> Arc<Aside> {
        let disk = self.disk.clone();
        let one = Arc::new(Aside::with_cell(disk, self.len, SMALL, file, on_loss));
        self.snapshots.add(one.clone());
        self.all.push((one.clone(), self.content()));
        one
    }

    fn write(&self, at: u64, data: &[u8]) {
        assert!(
            self.snapshots
                .before_change(at, data.len() as u64, &|| true)
        );
        self.disk.write_all_at(data, at).unwrap();
    }
}

fn plain() -> (File, OnLoss) {
    (tempfile::tempfile().unwrap(), Box::new(|e| panic!("{e}")))
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, u64, u8),
    Take,
    Delete(usize),
    Look(usize, u64, u64),
}

fn steps(len: u64) -> impl Strategy<Value = Vec<Step>> {
    let range = move || (0..len, 0..5 * SMALL).prop_map(move |(at, n)| (at, n.min(len - at)));
    let step = prop_oneof![
        5 => (range(), any::<u8>()).prop_map(|((at, n), b)| Step::Write(at, n, b & 3)),
        1 => Just(Step::Take),
        1 => any::<usize>().prop_map(Step::Delete),
        3 => (any::<usize>(), range()).prop_map(|(i, (at, n))| Step::Look(i, at, n)),
    ];
    prop::collection::vec(step, 1..60)
}

/// A length that is no whole number of cells.
const LEN: u64 = 37 * SMALL + 1536;

proptest! {
    #[test]
    fn every_snapshot_stays_what_it_was(steps in steps(LEN)) {
        let mut b = Bench::new(LEN);
        for step in steps {
            let n = b.all.len().max(1);
            match step {
                Step::Write(at, n, byte) => b.write(at, &vec![byte; n as usize]),
                Step::Take if b.all.len() < 4 => {
                    let (file, on_loss) = plain();
                    b.take(file, on_loss);
                }
                Step::Take => {}
                Step::Delete(i) if !b.all.is_empty() => {
                    let (one, _) = b.all.swap_remove(i % n);
                    one.end();
                    b.snapshots.remove(&one);
                    prop_assert!(one.read(0, &mut [0; 512]).is_err());
                }
                Step::Delete(_) => {}
                Step::Look(i, at, len) => {
                    if let Some((one, was)) = b.all.get(i % n) {
                        let mut found = vec![9; len as usize];
                        one.read(at, &mut found).unwrap();
                        prop_assert!(found == was[at as usize..(at + len) as usize]);
                    }
                }
            }
        }
        for (one, was) in &b.all {
            let mut found = vec![9; LEN as usize];
            one.read(0, &mut found).unwrap();
            prop_assert!(&found == was);
        }
    }
}

#[test]
fn nothing_is_put_aside_that_is_zeros_or_there_already() {
    let mut b = Bench::new(64 * SMALL);
    b.write(0, &vec![0; 32 * SMALL as usize]);
    let (file, on_loss) = plain();
    let one = b.take(file, on_loss);
    b.write(0, &vec![1; 32 * SMALL as usize]);
    assert_eq!(one.held(), 0);
    b.write(40 * SMALL + 5, &[7; 10]);
    let held = one.held();
    assert!((1..=2 * SMALL).contains(&held), "{held}");
    b.write(40 * SMALL, &vec![8; SMALL as usize]);
    assert_eq!(one.held(), held);
    let mut found = vec![9; 64 * SMALL as usize];
    one.read(0, &mut found).unwrap();
    assert!(found == b.all[0].1);
}

#[test]
fn without_room_a_snapshot_is_lost_and_the_others_are_not() {
    let mut b = Bench::new(16 * SMALL);
    let full = || {
        let mut how = File::options();
        how.read(true).write(true).open("/dev/full").unwrap()
    };
    let (tell, told) = mpsc::channel();
    let on_loss = Box::new(move |e: &io::Error| tell.send(e.kind()).unwrap());
    let lost = b.take(full(), on_loss);
    let (file, on_loss) = plain();
    let kept = b.take(file, on_loss);
    let mut buf = vec![0; 16 * SMALL as usize];
    lost.read(0, &mut buf).unwrap();
    b.write(100, &[9; 5000]);
    b.write(9000, &[9; 5000]);
    assert!(lost.lost() && lost.read(0, &mut buf).is_err());
    // Also what was not changed: nobody watches over it any more.
    assert!(lost.read(15 * SMALL, &mut buf[..512]).is_err());
    assert_eq!(told.try_iter().count(), 1);
    kept.read(0, &mut buf).unwrap();
    assert!(!kept.lost() && buf == b.all[1].1);
    assert_eq!(b.content()[100..5100], [9; 5000]);
}

#[test]
fn what_the_disk_could_not_read_is_an_error_there_only() {
    let b = Bench::new(16 * SMALL);
    let (file, on_loss) = plain();
    let one = Aside::with_cell(b.disk.clone(), b.len, SMALL, file, on_loss);
    one.put(2, 2 * SMALL, &vec![5; SMALL as usize], &[2 * SMALL + 1024]);
    let mut buf = [0; 512];
    let base = 2 * SMALL;
    for (at, bad) in [
        (512, false),
        (1024, true),
        (1025, true),
        (1535, true),
        (1536, false),
    ] {
        assert_eq!(one.read(base + at, &mut buf[..1]).is_err(), bad, "{at}");
    }
    assert!(one.read(base + 513, &mut buf).is_err());
    one.read(base + 512, &mut buf).unwrap();
    assert_eq!(buf, [5; 512]);
    // A disk that ends early is one that cannot be read there.
    let mut old = vec![1; SMALL as usize];
    let bad = read_old(&b.disk, b.len - SMALL + 512, &mut old);
    assert_eq!(bad, [b.len]);
    assert!(old[SMALL as usize - 512..].iter().all(|b| *b == 0));
}

#[test]
fn an_abort_changes_nothing() {
    let mut b = Bench::new(16 * SMALL);
    let (file, on_loss) = plain();
    let one = b.take(file, on_loss);
    assert!(!b.snapshots.before_change(0, b.len, &|| false));
    assert!(!one.marked(0));
    // Nothing is missing: nobody is asked.
    assert!(b.snapshots.before_change(0, 0, &|| false));
}

#[test]
fn marks_of_the_largest_disk_fit_in_memory() {
    assert_eq!(cell_bytes(1 << 30), CELL);
    for len in [1, 4 << 40, (4 << 40) + 1, i64::MAX as u64] {
        let cell = cell_bytes(len);
        assert!(cell.is_power_of_two() && len.div_ceil(cell) <= MOST_CELLS);
    }
}

/// Writers that never stop, readers that compare all the time, snapshots that come
/// and go.
#[test]
fn writers_and_readers_at_once() {
    const LEN: u64 = 24 * SMALL;
    let bench = Bench::new(LEN);
    let disk = bench.disk.clone();
    let order = RwLock::new(Snapshots::default());
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        for w in 1..=3u64 {
            let (order, disk, stop) = (&order, &disk, &stop);
            s.spawn(move || {
                let mut x = w;
                while !stop.load(Ordering::Relaxed) {
                    x = x
                        .wrapping_mul(6364136223846793005)
                        .wrapping_add(1442695040888963407);
                    let at = (x >> 33) % (LEN - 1);
                    let n = ((x >> 20) % (3 * SMALL)).min(LEN - at);
                    let kept = order.read().unwrap();
                    assert!(kept.before_change(at, n, &|| true));
                    disk.write_all_at(&vec![x as u8; n as usize], at).unwrap();
                }
            });
        }
        for _ in 0..40 {
            let (file, on_loss) = plain();
            let one = Arc::new(Aside::with_cell(disk.clone(), LEN, SMALL, file, on_loss));
            let mut was = vec![0; LEN as usize];
            {
                let mut alone = order.write().unwrap();
                disk.read_exact_at(&mut was, 0).unwrap();
                alone.add(one.clone());
            }
            std::thread::scope(|s| {
                for _ in 0..2 {
                    s.spawn(|| {
                        for _ in 0..15 {
                            let mut found = vec![0; LEN as usize];
                            one.read(0, &mut found).unwrap();
                            assert!(found == was);
                        }
                    });
                }
            });
            one.end();
            order.write().unwrap().remove(&one);
            assert!(one.read(0, &mut was).is_err());
        }
        stop.store(true, Ordering::Relaxed);
    });
}
