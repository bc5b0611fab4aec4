//! A parallel look at every file record, in order. Used by everything that
//! needs all of them: the used clusters, a listing, the owners of a range.
//!
//! The MFT is cut into batches. Workers read and parse whole batches into a
//! value of the caller's; the caller's thread gets these values in record
//! order while later batches are parsed. Only a few batches exist at a time.

use super::extents::Spot;
use super::fault::{Fault, FaultKind};
use super::file::Record;
use super::open::Volume;
use super::record::{RecordView, apply_fixups};
use crate::error::{Error, Result};
use crate::observe::Observer;
use crate::units::RecordNo;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

/// Bytes of a batch.
const BATCH: u64 = 1 << 20;
/// The records up to this one, `$UpCase`, are in use on every volume.
const LAST_SURE: RecordNo = RecordNo(10);

/// Why a record cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadWhy {
    /// Its bytes cannot be read.
    Unreadable,
    /// Its bytes break a rule.
    Fault(Fault),
}

impl fmt::Display for BadWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => f.write_str("Cannot be read"),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

/// One record, as a scan meets it.
#[derive(Clone, Copy, Debug)]
pub enum Scanned<'a> {
    /// A sound record, in use or not. Its view holds the bytes in use; what lies
    /// behind them may not have its fixups applied.
    Record(RecordView<'a>),
    /// A place without a record that was ever used, or a torn one not in use.
    Free(RecordNo),
    /// The copy in `$MFTMirr` of a record that was just met as bad.
    Mirror(RecordView<'a>),
    /// A record that cannot be used.
    Bad {
        /// Its number.
        number: RecordNo,
        /// Byte position of its first byte.
        offset: Option<u64>,
        /// Why.
        why: BadWhy,
    },
}

impl Volume {
    /// Looks at every file record. Per batch, `init` makes a value and `each`
    /// puts records into it, both on worker threads; `sink` gets the values in
    /// record order on this thread. A record that cannot be read or is damaged
    /// does not stop the scan. When `sink` fails the scan ends with its error.
    pub fn scan<B: Send>(
        &self,
        observer: &dyn Observer,
        init: impl Fn(RecordNo) -> B + Sync,
        each: impl Fn(&mut B, Scanned<'_>) + Sync,
        mut sink: impl FnMut(B) -> Result<()>,
    ) -> Result<()> {
        let per_batch = (BATCH / u64::from(self.geometry().record_size)).max(1);
        let total = self.mft().record_count;
        let batches = total.div_ceil(per_batch);
        let work = |index: u64, buffer: &mut Vec<u8>| {
            let first = index * per_batch;
            let count = per_batch.min(total - first);
            let mut value = init(RecordNo(first));
            self.scan_batch(first, count, buffer, &mut |r| each(&mut value, r));
            value
        };
        let buffers = Mutex::new(Vec::new());
        let stop = AtomicBool::new(false);
        let ahead = 2 * rayon::current_num_threads() as u64 + 1;
        rayon::in_place_scope(|scope| {
            let (send, receive) = channel();
            let start = |index: u64| {
                self.announce(index * per_batch, per_batch);
                let deliver = Deliver {
                    send: send.clone(),
                    index,
                    value: None,
                };
                let (work, buffers, stop) = (&work, &buffers, &stop);
                scope.spawn(move |_| {
                    let mut deliver = deliver;
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let mut buffer = lock(buffers).pop().unwrap_or_default();
                    deliver.value = Some(work(index, &mut buffer));
                    lock(buffers).push(buffer);
                });
            };
            let mut started = ahead.min(batches);
            (0..started).for_each(start);
            let mut waiting: VecDeque<Option<Option<B>>> = VecDeque::new();
            for done in 0..batches {
                let value = loop {
                    if let Some(Some(_)) = waiting.front() {
                        break waiting.pop_front().flatten().flatten();
                    }
                    let (index, value) = next(&receive);
                    let slot = (index - done) as usize;
                    if waiting.len() <= slot {
                        waiting.resize_with(slot + 1, || None);
                    }
                    waiting[slot] = Some(value);
                };
                // A worker that panicked has no value; the scope passes the panic on.
                let result = match value {
                    Some(value) if !observer.cancelled() => sink(value),
                    Some(_) => Err(Error::interrupted()),
                    None => Err(Error::damaged("A worker of the scan failed")),
                };
                if result.is_err() {
                    stop.store(true, Ordering::Relaxed);
                    return result;
                }
                if started < batches {
                    start(started);
                    started += 1;
                }
                observer.advance(per_batch.min(total - done * per_batch));
            }
            Ok(())
        })
    }

    fn announce(&self, first: u64, count: u64) {
        let size = u64::from(self.geometry().record_size);
        let mft = &self.mft().extents;
        if let Ok((Spot::Byte(at), len)) = self.medium().spot(mft, first * size, count * size) {
            self.source().will_need(at, len);
        }
    }

    fn scan_batch(
        &self,
        first: u64,
        count: u64,
        buffer: &mut Vec<u8>,
        each: &mut dyn FnMut(Scanned<'_>),
    ) {
        let size = self.geometry().record_size as usize;
        let len = count as usize * size;
        let (medium, mft) = (self.medium(), &self.mft().extents);
        let from = first * size as u64;
        if let Ok((Spot::Byte(at), there)) = medium.spot(mft, from, len as u64)
            && there == len as u64
            && let Some(bytes) = medium.memory(at, len)
        {
            buffer.resize(size, 0);
            for (i, raw) in bytes.chunks_exact(size).enumerate() {
                self.scan_mapped(RecordNo(first + i as u64), raw, buffer, each);
            }
            return;
        }
        buffer.resize(len, 0);
        if medium.read_map(mft, from, buffer).is_ok() {
            for (i, raw) in buffer.chunks_exact_mut(size).enumerate() {
                self.scan_owned(RecordNo(first + i as u64), raw, each);
            }
            return;
        }
        for n in first..first + count {
            let raw = &mut buffer[..size];
            match medium.read_map(mft, n * size as u64, raw) {
                Ok(()) => self.scan_owned(RecordNo(n), raw, each),
                Err(_) => self.bad(RecordNo(n), BadWhy::Unreadable, each),
            }
        }
    }

    /// A record in shared memory: seen in place when its bytes in use end before
    /// the first two that a fixup replaces, else copied.
    #[inline]
    fn scan_mapped(
        &self,
        n: RecordNo,
        raw: &[u8],
        copy: &mut [u8],
        each: &mut dyn FnMut(Scanned<'_>),
    ) {
        const FIRST_FIXUP: u32 = 510;
        if let Ok(view) = RecordView::new(raw, n)
            && view.used() <= FIRST_FIXUP
            && super::record::check_fixups(raw).is_ok()
            && self.was_written(n)
        {
            return each(Scanned::Record(view));
        }
        copy.copy_from_slice(raw);
        self.scan_owned(n, copy, each);
    }

    fn scan_owned(&self, n: RecordNo, raw: &mut [u8], each: &mut dyn FnMut(Scanned<'_>)) {
        if !self.was_written(n) {
            return each(Scanned::Free(n));
        }
        let view = apply_fixups(raw).and_then(|()| RecordView::new(raw, n));
        match view {
            Ok(view) => each(Scanned::Record(view)),
            Err(fault) if n <= LAST_SURE => self.bad(n, BadWhy::Fault(fault), each),
            Err(_) if raw.iter().all(|&b| b == 0) => each(Scanned::Free(n)),
            // Torn, but it says of itself that nobody uses it.
            Err(fault) if fault.kind == FaultKind::FixupMismatch && raw[0x16] & 1 == 0 => {
                each(Scanned::Free(n));
            }
            Err(fault) => self.bad(n, BadWhy::Fault(fault), each),
        }
    }

    /// False behind the initialized size: bytes there are what lay on the disk before.
    #[inline]
    fn was_written(&self, n: RecordNo) -> bool {
        n.0 * u64::from(self.geometry().record_size) < self.mft().initialized
    }

    #[cold]
    fn bad(&self, number: RecordNo, why: BadWhy, each: &mut dyn FnMut(Scanned<'_>)) {
        let offset = self.record_offset(number);
        each(Scanned::Bad {
            number,
            offset,
            why,
        });
        if let Some(copy) = self.mirror_record(number) {
            each(Scanned::Mirror(Record::view(&copy)));
        }
    }
}

/// Sends its value when it goes, also when the worker panics: nobody waits for ever.
struct Deliver<B> {
    send: Sender<(u64, Option<B>)>,
    index: u64,
    value: Option<B>,
}

impl<B> Drop for Deliver<B> {
    fn drop(&mut self) {
        let _ = self.send.send((self.index, self.value.take()));
    }
}

/// The next value of any worker. A thread of the pool works while it waits.
fn next<T>(receive: &Receiver<T>) -> T {
    let gone = "this thread keeps a sender";
    if rayon::current_thread_index().is_none() {
        return receive.recv().expect(gone);
    }
    loop {
        match receive.try_recv() {
            Ok(value) => return value,
            Err(TryRecvError::Empty) => {
                if rayon::yield_now() != Some(rayon::Yield::Executed) {
                    std::thread::yield_now();
                }
            }
            Err(TryRecvError::Disconnected) => unreachable!("{gone}"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
