//! Units on a TCP connection: reading with every length checked before memory is
//! taken, and writing header, data and digests in one system call.

use super::pdu::{BHS, Bhs, Pdu};
use std::collections::VecDeque;
use std::io::{self, BufReader, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Takes a lock, also one that a panicking thread left behind: what it guards here
/// is valid between any two statements.
pub(crate) fn lock<T: ?Sized>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What went over a connection.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes of SCSI data that came in.
    pub data_in: AtomicU64,
    /// Bytes of SCSI data that went out.
    pub data_out: AtomicU64,
    /// All bytes that came in.
    pub wire_in: AtomicU64,
    /// All bytes that went out.
    pub wire_out: AtomicU64,
}

/// What [`Counters`] said at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of SCSI data that came in.
    pub data_in: u64,
    /// Bytes of SCSI data that went out.
    pub data_out: u64,
    /// All bytes that came in.
    pub wire_in: u64,
    /// All bytes that went out.
    pub wire_out: u64,
}

impl Counters {
    /// As numbers.
    pub fn snapshot(&self) -> Traffic {
        Traffic {
            data_in: self.data_in.load(Ordering::Relaxed),
            data_out: self.data_out.load(Ordering::Relaxed),
            wire_in: self.wire_in.load(Ordering::Relaxed),
            wire_out: self.wire_out.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn add(which: &AtomicU64, bytes: usize) {
        which.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Which digests are in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// CRC-32C behind the headers.
    pub header: bool,
    /// CRC-32C behind the data segment.
    pub data: bool,
}

/// Why nothing more can be read from a connection.
#[derive(Debug)]
pub enum Broken {
    /// The peer closed it between two units.
    Closed,
    /// The operating system, or the caller, gave up.
    Io(io::Error),
    /// The header digest does not match.
    HeaderDigest,
    /// The data digest does not match.
    DataDigest,
    /// A data segment is longer than was agreed.
    TooLong {
        /// What the header says.
        found: usize,
        /// What was agreed.
        limit: usize,
    },
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Broken::Closed => f.write_str("the peer closed the connection"),
            Broken::Io(e) => write!(f, "{e}"),
            Broken::HeaderDigest => f.write_str("a header digest does not match"),
            Broken::DataDigest => f.write_str("a data digest does not match"),
            Broken::TooLong { found, limit } => {
                write!(
                    f,
                    "a data segment has {found} bytes, agreed were at most {limit}"
                )
            }
        }
    }
}

/// What is asked when the socket's read timeout passes: an error gives up.
pub type Tick<'a> = &'a mut dyn FnMut() -> io::Result<()>;

/// The reading half.
pub struct Receiver<R> {
    from: BufReader<R>,
    /// Digests in use.
    pub digests: Digests,
    /// Longest data segment taken.
    pub limit: usize,
    counters: Arc<Counters>,
}

impl<R: Read> Receiver<R> {
    /// Reads from a stream. A stream with a read timeout has its ticks.
    pub fn new(stream: R, limit: usize, counters: Arc<Counters>) -> Self {
        Self {
            from: BufReader::with_capacity(16 << 10, stream),
            digests: Digests::default(),
            limit,
            counters,
        }
    }

    fn fill(&mut self, buf: &mut [u8], start: bool, tick: Tick<'_>) -> Result<(), Broken> {
        let mut at = 0;
        while let Some(rest) = buf.get_mut(at..).filter(|r| !r.is_empty()) {
            match self.from.read(rest) {
                Ok(0) if start && at == 0 => return Err(Broken::Closed),
                Ok(0) => return Err(Broken::Io(ErrorKind::UnexpectedEof.into())),
                Ok(n) => at += n,
                Err(e) => again(e, tick)?,
            }
        }
        Counters::add(&self.counters.wire_in, buf.len());
        Ok(())
    }

    /// Reads the header segments of the next unit.
    pub fn header(&mut self, tick: Tick<'_>) -> Result<(Bhs, Vec<u8>), Broken> {
        let mut bhs = Bhs([0; BHS]);
        self.fill(&mut bhs.0, true, tick)?;
        let mut ahs = vec![0; bhs.ahs_len()];
        self.fill(&mut ahs, false, tick)?;
        if self.digests.header {
            let mut found = [0; 4];
            self.fill(&mut found, false, tick)?;
            let crc = crc32c::crc32c_append(crc32c::crc32c(&bhs.0), &ahs);
            if u32::from_le_bytes(found) != crc {
                return Err(Broken::HeaderDigest);
            }
        }
        if bhs.data_len() > self.limit {
            return Err(Broken::TooLong {
                found: bhs.data_len(),
                limit: self.limit,
            });
        }
        Ok((bhs, ahs))
    }

    /// Reads the data segment that belongs to a header, behind what `into` holds.
    pub fn data(&mut self, bhs: &Bhs, into: &mut Vec<u8>, tick: Tick<'_>) -> Result<(), Broken> {
        let len = bhs.data_len();
        if len == 0 {
            return Ok(());
        }
        let before = into.len();
        let end = before + len;
        // What a segment needs is taken at once; growth is by doubling.
        into.reserve(len);
        while into.len() < end {
            let want = (end - into.len()) as u64;
            match (&mut self.from).take(want).read_to_end(into) {
                Ok(_) if into.len() < end => {
                    return Err(Broken::Io(ErrorKind::UnexpectedEof.into()));
                }
                Ok(_) => {}
                Err(e) => again(e, tick)?,
            }
        }
        Counters::add(&self.counters.wire_in, len);
        let mut tail = [0; 8];
        let pad = padding(len);
        let more = pad + if self.digests.data { 4 } else { 0 };
        let tail = &mut tail[..more];
        self.fill(tail, false, tick)?;
        if self.digests.data {
            let (pad, found) = tail.split_at(pad);
            let body = into.get(before..).unwrap_or_default();
            let crc = crc32c::crc32c_append(crc32c::crc32c(body), pad);
            if found != crc.to_le_bytes() {
                return Err(Broken::DataDigest);
            }
        }
        Ok(())
    }

    /// Reads a unit with everything that belongs to it.
    pub fn unit(&mut self, tick: Tick<'_>) -> Result<Pdu, Broken> {
        let (bhs, ahs) = self.header(tick)?;
        let mut data = Vec::new();
        self.data(&bhs, &mut data, tick)?;
        Ok(Pdu { bhs, ahs, data })
    }
}

fn again(e: io::Error, tick: Tick<'_>) -> Result<(), Broken> {
    match e.kind() {
        ErrorKind::Interrupted => Ok(()),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => tick().map_err(Broken::Io),
        _ => Err(Broken::Io(e)),
    }
}

fn padding(len: usize) -> usize {
    len.wrapping_neg() & 3
}

/// Puts the numbers of a session into a header just before it goes out, so that
/// they ascend on the wire.
pub trait Stamp: Send {
    /// Fills in the numbers.
    fn stamp(&mut self, bhs: &mut Bhs);
}

/// The writing half, shared by threads.
pub struct Sender<S> {
    stream: TcpStream,
    out: Mutex<Out<S>>,
    mail: Mutex<VecDeque<Pdu>>,
    counters: Arc<Counters>,
}

/// The writing half, while one thread has it.
pub struct Out<S> {
    /// Digests in use.
    pub digests: Digests,
    /// The numbers.
    pub stamp: S,
    failed: bool,
}

impl<S: Stamp> Sender<S> {
    /// Writes to a stream.
    pub fn new(stream: TcpStream, digests: Digests, stamp: S, counters: Arc<Counters>) -> Self {
        Self {
            stream,
            out: Mutex::new(Out {
                digests,
                stamp,
                failed: false,
            }),
            mail: Mutex::default(),
            counters,
        }
    }

    /// Ends the connection, both ways; whoever waits on it wakes up.
    pub fn close(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Ends reading: the peer's next bytes are not taken.
    pub fn stop_reading(&self) {
        let _ = self.stream.shutdown(Shutdown::Read);
    }

    /// Leaves a unit to be written by whoever writes next, and does so here if
    /// nobody does. Never waits for the peer to read: a thread that reads calls this.
    pub fn post(&self, pdu: Pdu) {
        lock(&self.mail).push_back(pdu);
        self.deliver();
    }

    /// Units that wait to be written.
    pub fn posted(&self) -> usize {
        lock(&self.mail).len()
    }

    /// Writes what was posted, if nobody else is writing.
    pub fn deliver(&self) {
        while !lock(&self.mail).is_empty() {
            let Ok(mut out) = self.out.try_lock() else {
                return;
            };
            self.drain(&mut out);
        }
    }

    fn drain(&self, out: &mut Out<S>) {
        loop {
            let next = lock(&self.mail).pop_front();
            let Some(pdu) = next else { return };
            let _ = self.write(out, &mut [(pdu.bhs, &pdu.data)]);
        }
    }

    /// Writes a command with its additional header segments.
    pub fn with<T>(&self, f: impl FnOnce(&mut Out<S>, &Self) -> T) -> T {
        let mut out = lock(&self.out);
        self.drain(&mut out);
        let t = f(&mut out, self);
        drop(out);
        self.deliver();
        t
    }

    /// Writes units with their data segments; the lengths go into the headers.
    pub fn send(&self, units: &mut [(Bhs, &[u8])]) -> io::Result<()> {
        self.with(|out, s| s.write(out, units))
    }

    /// Writes units in one go, in the hands of whoever has the lock.
    pub fn write(&self, out: &mut Out<S>, units: &mut [(Bhs, &[u8])]) -> io::Result<()> {
        if out.failed {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut heads = Vec::with_capacity(units.len());
        let mut tails = Vec::with_capacity(units.len());
        for (bhs, data) in units.iter_mut() {
            bhs.set_data_len(data.len());
            out.stamp.stamp(bhs);
            let mut head = [0; BHS + 4];
            head[..BHS].copy_from_slice(&bhs.0);
            head[BHS..].copy_from_slice(&crc32c::crc32c(&bhs.0).to_le_bytes());
            heads.push(head);
            let mut tail = [0; 8];
            let mut len = padding(data.len());
            if out.digests.data && !data.is_empty() {
                let crc = crc32c::crc32c_append(crc32c::crc32c(data), &tail[..len]);
                tail[len..len + 4].copy_from_slice(&crc.to_le_bytes());
                len += 4;
            }
            tails.push((tail, len));
        }
        let head_len = if out.digests.header { BHS + 4 } else { BHS };
        let mut slices = Vec::with_capacity(3 * units.len());
        for ((head, (tail, len)), (_, data)) in heads.iter().zip(&tails).zip(units.iter()) {
            slices.push(IoSlice::new(&head[..head_len]));
            if !data.is_empty() {
                slices.push(IoSlice::new(data));
            }
            if *len > 0 {
                slices.push(IoSlice::new(&tail[..*len]));
            }
        }
        let total: usize = slices.iter().map(|s| s.len()).sum();
        let done = write_all(&self.stream, &mut slices);
        match done {
            Ok(()) => Counters::add(&self.counters.wire_out, total),
            // Half a unit is on the wire: nothing may follow it.
            Err(_) => {
                out.failed = true;
                self.close();
            }
        }
        done
    }
}

fn write_all(mut stream: &TcpStream, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        match stream.write_vectored(slices) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut slices, n),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::TcpListener;

    struct Plain;
    impl Stamp for Plain {
        fn stamp(&mut self, _: &mut Bhs) {}
    }

    fn pair() -> (TcpStream, TcpStream) {
        let l = TcpListener::bind("127.0.0.1:0").unwrap();
        let a = TcpStream::connect(l.local_addr().unwrap()).unwrap();
        (a, l.accept().unwrap().0)
    }

    fn no_tick() -> io::Result<()> {
        Err(ErrorKind::TimedOut.into())
    }

    #[test]
    fn units_come_back_with_every_digest() {
        for (header, data) in [(false, false), (true, false), (false, true), (true, true)] {
            let digests = Digests { header, data };
            let (a, b) = pair();
            let counters = Arc::new(Counters::default());
            let s = Sender::new(a, digests, Plain, Arc::clone(&counters));
            let bodies: Vec<Vec<u8>> = (0..9).map(|n| vec![n as u8; n]).collect();
            let mut units: Vec<_> = bodies.iter().map(|d| (Bhs::new(5), &d[..])).collect();
            s.send(&mut units).unwrap();
            s.close();
            let mut r = Receiver::new(b, 8, Arc::clone(&counters));
            r.digests = digests;
            for d in &bodies {
                assert_eq!(&r.unit(&mut no_tick).unwrap().data, d);
            }
            assert!(matches!(r.unit(&mut no_tick), Err(Broken::Closed)));
            assert_eq!(
                counters.wire_in.load(Ordering::Relaxed),
                counters.wire_out.load(Ordering::Relaxed)
            );
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let digests = Digests {
            header: true,
            data: true,
        };
        let (a, mut b) = pair();
        let s = Sender::new(a, digests, Plain, Arc::default());
        s.send(&mut [(Bhs::new(1), b"hello")]).unwrap();
        s.close();
        let mut bytes = Vec::new();
        b.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 48 + 4 + 8 + 4);
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            let mut r = Receiver::new(&bad[..], 1 << 20, Arc::default());
            r.digests = digests;
            assert!(r.unit(&mut no_tick).is_err(), "byte {i}");
        }
    }

    #[test]
    fn a_long_segment_is_refused_before_it_is_read() {
        let mut bhs = Bhs::new(5);
        bhs.set_data_len(513);
        let mut r = Receiver::new(&bhs.0[..], 512, Arc::default());
        assert!(matches!(
            r.unit(&mut no_tick),
            Err(Broken::TooLong {
                found: 513,
                limit: 512
            })
        ));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            header: bool,
            data: bool,
        ) {
            let mut r = Receiver::new(&bytes[..], 256, Arc::default());
            r.digests = Digests { header, data };
            let mut units = 0;
            while let Ok(u) = r.unit(&mut no_tick) {
                prop_assert!(u.data.len() <= 256);
                units += 1;
            }
            prop_assert!(units * 48 <= bytes.len());
        }
    }
}
