//! A source in memory with faults on order: a double for tests, of this crate
//! and of programs that use it. No real source is ever read through it.

use super::{Source, posix};
use crate::error::{Error, Result};
use crate::units::ByteRange;
use rustix::io::Errno;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A fault to be shown by a [`FaultySource`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Every read that touches this range fails as a bad sector does.
    Bad(ByteRange),
    /// As `Bad`, but only for the next `times` reads that touch it.
    Transient {
        /// Where.
        range: ByteRange,
        /// How many reads still fail.
        times: u32,
    },
    /// The content ends here, though `len` says more.
    EndsAt(u64),
    /// After this many more reads the device is gone.
    GoneAfter(u64),
}

/// Bytes in memory, read with the programmed faults.
pub struct FaultySource {
    data: Vec<u8>,
    sector_size: u32,
    faults: Mutex<Vec<Fault>>,
    reads: AtomicU64,
    name: String,
}

impl FaultySource {
    /// A sound source of these bytes.
    pub fn new(data: Vec<u8>, sector_size: u32) -> Self {
        Self {
            data,
            sector_size,
            faults: Mutex::default(),
            reads: AtomicU64::new(0),
            name: "test source".to_owned(),
        }
    }

    /// Adds a fault.
    pub fn with(self, fault: Fault) -> Self {
        self.add(fault);
        self
    }

    /// Marks `count` sectors from `first` on as bad.
    pub fn with_bad_sectors(self, first: u64, count: u64) -> Self {
        let s = u64::from(self.sector_size);
        self.with(Fault::Bad(ByteRange {
            start: first * s,
            end: (first + count) * s,
        }))
    }

    /// Adds a fault to a source that is in use.
    pub fn add(&self, fault: Fault) {
        self.faults().push(fault);
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        self.faults().clear();
    }

    /// How many reads there were, failed ones included.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    fn faults(&self) -> std::sync::MutexGuard<'_, Vec<Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for FaultySource {
    fn len(&self) -> u64 {
        self.data.len() as u64
    }
    fn sector_size(&self) -> u32 {
        self.sector_size
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        posix::check_range(&self.name, self.len(), offset, buf.len(), "read")?;
        let range = ByteRange {
            start: offset,
            end: offset + buf.len() as u64,
        };
        let fail = |n: Errno| {
            let e = io::Error::from_raw_os_error(n.raw_os_error());
            posix::read_error(&self.name, offset, buf.len(), e)
        };
        let mut faults = self.faults();
        for f in faults.iter_mut() {
            if let Fault::GoneAfter(left) = f {
                match left.checked_sub(1) {
                    Some(n) => *left = n,
                    None => return Err(fail(Errno::NODEV)),
                }
            }
        }
        for f in faults.iter_mut() {
            match f {
                Fault::Bad(r) if r.intersect(&range).is_some() => return Err(fail(Errno::IO)),
                Fault::Transient { range: r, times }
                    if *times > 0 && r.intersect(&range).is_some() =>
                {
                    *times -= 1;
                    return Err(fail(Errno::IO));
                }
                Fault::EndsAt(at) if range.end > *at => {
                    let why = "it ends here now, it was longer";
                    return Err(posix::unreadable(&self.name, offset, buf.len(), why));
                }
                _ => {}
            }
        }
        drop(faults);
        match self.data.get(range.start as usize..range.end as usize) {
            Some(d) => {
                buf.copy_from_slice(d);
                Ok(())
            }
            None => Err(Error::damaged("Outside the test source").at(offset)),
        }
    }
    fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn shows_each_fault() {
        let s = FaultySource::new(vec![1; 8192], 512).with_bad_sectors(2, 1);
        let mut b = [0; 512];
        assert!(s.read_at(512, &mut b).is_ok());
        let e = s.read_at(1535, &mut b).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unreadable);
        s.heal();
        s.add(Fault::Transient {
            range: ByteRange { start: 0, end: 1 },
            times: 1,
        });
        assert!(s.read_at(0, &mut b).is_err());
        assert!(s.read_at(0, &mut b).is_ok());
        s.add(Fault::EndsAt(4096));
        assert!(s.read_at(4000, &mut b).is_err());
        s.add(Fault::GoneAfter(1));
        assert!(s.read_at(0, &mut b).is_ok());
        assert_eq!(s.read_at(0, &mut b).unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(s.reads(), 7);
    }
}
