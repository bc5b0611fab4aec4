use super::*;
use crate::device::{BadMap, RescueOptions, RescueSource};
use crate::error::ErrorKind;
use crate::scsi::double::{Double, Reply, Sent};
use crate::scsi::{Sense, op};
use crate::units::ByteRange;
use proptest::prelude::*;
use std::sync::Arc;

/// A disk in memory that answers commands.
struct Ram {
    data: Vec<u8>,
    bad: Vec<u64>,
    write_same: bool,
    only_10: bool,
    aborts: u32,
}

const BLOCK: usize = 512;

impl Ram {
    fn new(blocks: usize) -> Self {
        Self {
            data: (0..blocks * BLOCK).map(|i| (i % 251) as u8).collect(),
            bad: Vec::new(),
            write_same: true,
            only_10: false,
            aborts: 0,
        }
    }

    fn answer(&mut self, s: &Sent) -> Reply {
        let refuse = |asc| Reply::check(Sense::new(SenseKey::IllegalRequest, asc, 0));
        let c = &s.cdb;
        let long = c.len() == 16 && c[0] != op::SERVICE_ACTION_IN_16;
        if long && self.only_10 {
            return refuse(0x20);
        }
        let (lba, n) = match c.len() {
            16 => (
                u64::from_be_bytes(c[2..10].try_into().unwrap()),
                u32::from_be_bytes(c[10..14].try_into().unwrap()) as usize,
            ),
            10 => (
                u32::from_be_bytes(c[2..6].try_into().unwrap()).into(),
                u16::from_be_bytes(c[7..9].try_into().unwrap()).into(),
            ),
            _ => (0, 0),
        };
        let from = lba as usize * BLOCK;
        match c[0] {
            op::TEST_UNIT_READY | op::SYNCHRONIZE_CACHE_16 | op::SYNCHRONIZE_CACHE_10 => {
                Reply::good()
            }
            op::INQUIRY if c[1] == 0 => {
                let mut b = vec![0, 0, 6, 2, 31, 0, 0, 0];
                b.extend(b"NTBAK   RAM             0001");
                Reply::data(b)
            }
            op::SERVICE_ACTION_IN_16 => {
                let mut b = vec![0; 32];
                b[..8].copy_from_slice(&((self.data.len() / BLOCK - 1) as u64).to_be_bytes());
                b[10] = 2;
                Reply::data(b)
            }
            op::READ_16 | op::READ_10 => {
                assert!(s.room == n * BLOCK && n > 0);
                if self.aborts > 0 {
                    self.aborts -= 1;
                    return Reply::check(Sense::new(SenseKey::AbortedCommand, 0x4b, 0));
                }
                if self.bad.iter().any(|b| (lba..lba + n as u64).contains(b)) {
                    return Reply::check(Sense::new(SenseKey::MediumError, 0x11, 0));
                }
                Reply::data(&self.data[from..from + n * BLOCK])
            }
            op::WRITE_16 | op::WRITE_10 => {
                assert_eq!(s.out.len(), n * BLOCK);
                self.data[from..from + n * BLOCK].copy_from_slice(&s.out);
                Reply::good()
            }
            op::WRITE_SAME_16 if self.write_same => {
                for block in self.data[from..from + n * BLOCK].chunks_mut(BLOCK) {
                    block.copy_from_slice(&s.out);
                }
                Reply::good()
            }
            op::INQUIRY => refuse(0x24),
            _ => refuse(0x20),
        }
    }

    /// The disk, moving 4 blocks a command.
    fn open(mut self) -> (ScsiDisk, Arc<Double>) {
        let double = Double::with_max_transfer("ram", 4 * BLOCK + 100);
        double.answer(move |s| Some(self.answer(s)));
        (ScsiDisk::open(Unit::new(double.clone())).unwrap(), double)
    }
}

#[test]
fn identity_for_an_archive() {
    let (disk, _) = Ram::new(10).open();
    let id = disk.identity();
    assert_eq!((id.size, id.sector_size), (5120, 512));
    assert_eq!(id.model.as_deref(), Some("RAM"));
    assert_eq!((id.path.as_str(), id.serial), ("ram", None));
    assert!(disk.check_writable().is_ok());
}

#[test]
fn large_reads_are_cut_and_end_is_checked() {
    let (disk, double) = Ram::new(100).open();
    let mut buf = vec![0; 50 * BLOCK];
    Source::read_at(&disk, 5 * 512, &mut buf).unwrap();
    assert_eq!(buf, Ram::new(100).data[5 * BLOCK..55 * BLOCK]);
    let reads = double
        .sent()
        .iter()
        .filter(|s| s.cdb[0] == op::READ_16)
        .count();
    assert_eq!(reads, 1 + 13);
    let e = Source::read_at(&disk, 60 * 512, &mut buf).unwrap_err();
    assert!(e.to_string().contains("behind the end"), "{e}");
    assert!(disk.write_at(u64::MAX, &[1]).is_err());
    assert!(disk.zero_at(1, u64::MAX).is_err());
}

#[test]
fn a_rescue_loses_one_sector_only() {
    let mut ram = Ram::new(64);
    ram.bad = vec![33];
    let want = ram.data.clone();
    let (disk, _) = ram.open();
    let rescue = RescueSource::new(
        Arc::new(disk),
        RescueOptions::default(),
        Arc::new(BadMap::new()),
    );
    let mut buf = vec![0xff; 64 * BLOCK];
    let bad = rescue.read_at_marked(0, &mut buf).unwrap();
    let (start, end) = (33 * 512, 34 * 512);
    assert_eq!(bad, [ByteRange { start, end }]);
    let (a, b) = (start as usize, end as usize);
    assert!(buf[..a] == want[..a] && buf[b..] == want[b..]);
}

#[test]
fn a_lost_command_is_sent_again_but_not_for_ever() {
    for (aborts, fine) in [(3, true), (4, false)] {
        let mut ram = Ram::new(8);
        // One is used up by the look at the first block.
        ram.aborts = aborts + 1;
        let (disk, _) = ram.open();
        let read = Source::read_at(&disk, 0, &mut [0; 512]);
        assert_eq!(read.is_ok(), fine);
    }
}

#[test]
fn an_old_disk_gets_short_commands() {
    let mut ram = Ram::new(40);
    ram.only_10 = true;
    let (disk, double) = ram.open();
    disk.write_at(700, &[1; 3000]).unwrap();
    disk.zero_at(0, 20 * 512).unwrap();
    disk.sync().unwrap();
    let mut buf = [9; 700];
    Sink::read_at(&disk, 3500, &mut buf).unwrap();
    assert_eq!(buf, [0; 700]);
    let last = double.sent().last().unwrap().cdb[0];
    assert_eq!(last, op::READ_10);
}

#[test]
fn what_is_no_disk_is_refused() {
    let double = Double::new("tape");
    let mut b = vec![1, 0x80, 6, 2, 31, 0, 0, 0];
    b.extend([b' '; 28]);
    double.always(&[0x12, 0, 0, 0, 96, 0], Reply::data(b));
    double.answer(|_| Some(Reply::check(Sense::invalid_field_in_cdb(2, None))));
    let e = ScsiDisk::open(Unit::new(double)).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Usage);
    assert!(e.to_string().contains("a tape"), "{e}");
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, Vec<u8>),
    Zero(usize, usize),
    Read(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0usize..40 * BLOCK;
    let len = 0usize..8 * BLOCK;
    prop_oneof![
        (at.clone(), proptest::collection::vec(any::<u8>(), 0..3000))
            .prop_map(|(a, d)| Step::Write(a, d)),
        (at.clone(), len.clone()).prop_map(|(a, n)| Step::Zero(a, n)),
        (at, len).prop_map(|(a, n)| Step::Read(a, n)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_behaves_like_memory(
        steps in proptest::collection::vec(step(), 1..20),
        write_same: bool,
        only_10: bool,
    ) {
        let mut ram = Ram::new(50);
        (ram.write_same, ram.only_10) = (write_same, only_10);
        let mut model = ram.data.clone();
        let (disk, _) = ram.open();
        for s in steps {
            match s {
                Step::Write(a, d) => {
                    disk.write_at(a as u64, &d).unwrap();
                    model[a..a + d.len()].copy_from_slice(&d);
                }
                Step::Zero(a, n) => {
                    disk.zero_at(a as u64, n as u64).unwrap();
                    model[a..a + n].fill(0);
                }
                Step::Read(a, n) => {
                    let mut b = vec![1; n];
                    Source::read_at(&disk, a as u64, &mut b).unwrap();
                    prop_assert_eq!(&b, &model[a..a + n]);
                }
            }
        }
        let mut all = vec![0; model.len()];
        Sink::read_at(&disk, 0, &mut all).unwrap();
        prop_assert!(all == model);
    }
}

#[test]
fn a_write_whose_end_was_lost_is_done_again() {
    let lost = |q| Reply::check(Sense::new(SenseKey::UnitAttention, 0x29, q));
    let write = [op::WRITE_16, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0];
    let read = [op::READ_16, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0];
    let put = |d: &ScsiDisk| d.write_at(1024, &[5; BLOCK]);
    let (disk, double) = Ram::new(16).open();
    let before = double.sent().len();
    double.expect(&write, Reply::broken());
    double.expect(&write, lost(7));
    put(&disk).unwrap();
    let sent = double.sent().split_off(before);
    assert!(sent.len() == 3 && sent.iter().all(|s| s.cdb == write && s.out == [5; BLOCK]));
    let mut back = [0; BLOCK];
    Sink::read_at(&disk, 1024, &mut back).unwrap();
    assert_eq!(back, [5; BLOCK]);
    disk.sync().unwrap();
    // Not for ever.
    for _ in 0..=AGAIN {
        double.expect(&write, Reply::broken());
    }
    assert!(OutcomeUnknown::is_behind(&put(&disk).unwrap_err()));
    double.finish();

    // A unit that was restarted may have forgotten what it was given before.
    let forgotten = |e: Error| {
        let said = e.to_string();
        assert!(said.contains("was switched on or reset while"), "{said}");
    };
    for q in 0..=4 {
        let (disk, double) = Ram::new(16).open();
        put(&disk).unwrap();
        double.expect(&write, Reply::broken());
        double.expect(&write, lost(q));
        forgotten(put(&disk).unwrap_err());
        forgotten(disk.sync().unwrap_err());
        forgotten(disk.zero_at(0, 4 * BLOCK as u64).unwrap_err());
        // Whoever hears of it first.
        let (disk, double) = Ram::new(16).open();
        put(&disk).unwrap();
        double.expect(&read, lost(q));
        Sink::read_at(&disk, 5 * BLOCK as u64, &mut back).unwrap();
        forgotten(disk.sync().unwrap_err());
        // Before the first write there was nothing to lose.
        let (disk, double) = Ram::new(16).open();
        double.expect(&read, lost(q));
        Sink::read_at(&disk, 5 * BLOCK as u64, &mut back).unwrap();
        put(&disk).unwrap();
        disk.sync().unwrap();
    }
}
