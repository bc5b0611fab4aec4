//! A unit set small enough to be seen through: RAM disks, as the sessions see
//! them, and a way to hold commands up.

use ntbak::scsi::{Sense, SenseKey, Status, op};
use ntbak::target::{Nexus, Reply, Request, Units};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

pub const BLOCK: usize = 512;

/// An operation code of our own: waits until it is let go or aborted.
pub const HOLD: u8 = 0xc0;
/// Fails in the unit's code.
pub const PANIC: u8 = 0xc1;

pub struct Toy {
    disks: Vec<Mutex<Vec<u8>>>,
    pub held: Mutex<usize>,
    pub open: Mutex<bool>,
    pub let_go: Condvar,
    pub began: AtomicUsize,
    pub lost: AtomicUsize,
    pub resets: AtomicUsize,
    pub flushes: AtomicUsize,
    /// Writes, in the order of their execution: first block.
    pub writes: Mutex<Vec<u64>>,
    /// What INQUIRY says of unit 1: a disk or a tape.
    pub second_kind: u8,
}

impl Toy {
    pub fn new(units: usize, bytes: usize) -> Self {
        Self {
            disks: (0..units).map(|_| Mutex::new(vec![0; bytes])).collect(),
            held: Mutex::new(0),
            open: Mutex::new(false),
            let_go: Condvar::new(),
            began: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            resets: AtomicUsize::new(0),
            flushes: AtomicUsize::new(0),
            writes: Mutex::default(),
            second_kind: 0,
        }
    }

    /// Waits until so many commands are held.
    pub fn await_held(&self, n: usize) {
        let mut held = self.held.lock().unwrap();
        while *held < n {
            let (h, t) = self
                .let_go
                .wait_timeout(held, Duration::from_secs(20))
                .unwrap();
            assert!(!t.timed_out(), "no {n} commands came");
            held = h;
        }
    }

    pub fn release(&self) {
        *self.open.lock().unwrap() = true;
        self.let_go.notify_all();
    }

    fn hold(&self, r: &Request<'_>) -> Reply {
        *self.held.lock().unwrap() += 1;
        self.let_go.notify_all();
        let mut open = self.open.lock().unwrap();
        while !*open && !r.cancel.load(Ordering::Relaxed) {
            open = self
                .let_go
                .wait_timeout(open, Duration::from_millis(10))
                .unwrap()
                .0;
        }
        drop(open);
        *self.held.lock().unwrap() -= 1;
        Reply::good()
    }
}

fn be(b: &[u8]) -> u64 {
    b.iter().fold(0, |n, x| n << 8 | u64::from(*x))
}

fn illegal(code: u16) -> Reply {
    Reply::check(Sense::new(
        SenseKey::IllegalRequest,
        (code >> 8) as u8,
        code as u8,
    ))
}

impl Units for Toy {
    fn execute(&self, lun: u64, r: &Request<'_>) -> Reply {
        let number = (lun >> 48) as usize;
        let Some(disk) = self.disks.get(number) else {
            return illegal(0x2500);
        };
        let c = r.cdb;
        let blocks = disk.lock().unwrap().len() / BLOCK;
        let allocated = |data: Vec<u8>, len: u64| {
            let mut data = data;
            data.truncate(len as usize);
            Reply::data(data)
        };
        let (lba, count) = match c[0] {
            op::READ_10 | op::WRITE_10 | op::VERIFY_10 => (be(&c[2..6]), be(&c[7..9])),
            op::READ_16 | op::WRITE_16 => (be(&c[2..10]), be(&c[10..14])),
            op::READ_12 | op::WRITE_12 => (be(&c[2..6]), be(&c[6..10])),
            _ => (0, 0),
        };
        let bytes = count as usize * BLOCK;
        match c[0] {
            op::TEST_UNIT_READY | op::SYNCHRONIZE_CACHE_10 => Reply::good(),
            op::INQUIRY if c[1] & 1 != 0 => illegal(0x2400),
            op::INQUIRY => {
                let mut d = vec![0; 36];
                d[0] = if number == 1 { self.second_kind } else { 0 };
                d[2] = 5;
                d[3] = 2;
                d[4] = 31;
                d[7] = 2;
                d[8..36].copy_from_slice(b"NTBAK   TOY             0001");
                allocated(d, be(&c[3..5]))
            }
            op::REPORT_LUNS => {
                let mut d = (self.disks.len() as u32 * 8).to_be_bytes().to_vec();
                d.extend([0; 4]);
                for n in 0..self.disks.len() {
                    d.extend([0, n as u8, 0, 0, 0, 0, 0, 0]);
                }
                allocated(d, be(&c[6..10]))
            }
            op::READ_CAPACITY_10 => {
                let mut d = (blocks as u32 - 1).to_be_bytes().to_vec();
                d.extend((BLOCK as u32).to_be_bytes());
                Reply::data(d)
            }
            op::SERVICE_ACTION_IN_16 if c[1] & 0x1f == 0x10 => {
                let mut d = (blocks as u64 - 1).to_be_bytes().to_vec();
                d.extend((BLOCK as u32).to_be_bytes());
                d.extend([0; 20]);
                allocated(d, be(&c[10..14]))
            }
            op::MODE_SENSE_6 => allocated(vec![3, 0, 0, 0], be(&c[4..5])),
            op::READ_10 | op::READ_12 | op::READ_16 => {
                let disk = disk.lock().unwrap();
                let from = lba as usize * BLOCK;
                match disk.get(from..from + bytes) {
                    Some(d) => Reply::data(d.to_vec()).wanting(bytes as u64),
                    None => illegal(0x2100),
                }
            }
            op::WRITE_10 | op::WRITE_12 | op::WRITE_16 => {
                let mut disk = disk.lock().unwrap();
                let from = lba as usize * BLOCK;
                if from + bytes > disk.len() {
                    return illegal(0x2100);
                }
                self.writes.lock().unwrap().push(lba);
                let len = bytes.min(r.data_out.len());
                disk[from..from + len].copy_from_slice(&r.data_out[..len]);
                Reply::good().wanting(bytes as u64)
            }
            HOLD => self.hold(r),
            PANIC => panic!("a fault in a unit"),
            op::RECEIVE_COPY_RESULTS => Reply::data(vec![1; 12]),
            0xc2 => Reply::status(Status::Busy),
            _ => illegal(0x2000),
        }
    }

    fn nexus_began(&self, _: &Nexus) {
        self.began.fetch_add(1, Ordering::SeqCst);
    }

    fn nexus_lost(&self, _: &Nexus) {
        self.lost.fetch_add(1, Ordering::SeqCst);
    }

    fn reset(&self, _: Option<u64>, _: &Nexus) {
        self.resets.fetch_add(1, Ordering::SeqCst);
    }

    fn has(&self, lun: u64) -> bool {
        ((lun >> 48) as usize) < self.disks.len()
    }

    fn flush(&self) -> ntbak::error::Result<()> {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}
