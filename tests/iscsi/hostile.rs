//! Peers that do not keep to the rules.

use super::{NAME, config, open, read, serve};
use crate::toy::Toy;
use ntbak::iscsi::Initiator;
use ntbak::iscsi::pdu::{Bhs, Header, LoginRequest, LoginResponse, Pdu, Stages};
use ntbak::iscsi::text::Pairs;
use ntbak::iscsi::wire::{Digests, Receiver, Sender, Stamp};
use ntbak::target::{Limits, Server};
use proptest::prelude::*;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub struct Plain;

impl Stamp for Plain {
    fn stamp(&mut self, _: &mut Bhs) {}
}

/// A connection without manners.
pub struct Raw {
    receiver: Receiver<TcpStream>,
    sender: Sender<Plain>,
    stream: TcpStream,
}

impl Raw {
    pub fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        Self {
            receiver: Receiver::new(stream.try_clone().unwrap(), 1 << 20, Arc::default()),
            sender: Sender::new(
                stream.try_clone().unwrap(),
                Digests::default(),
                Plain,
                Arc::default(),
            ),
            stream,
        }
    }

    pub fn send(&self, head: Bhs, data: &[u8]) {
        let _ = self.sender.send(&mut [(head, data)]);
    }

    pub fn receive(&mut self) -> Option<Pdu> {
        let mut tick = || Err(io::ErrorKind::TimedOut.into());
        self.receiver.unit(&mut tick).ok()
    }

    /// Logs in at once; the status.
    pub fn login(&mut self, isid: [u8; 6], change: impl Fn(&mut LoginRequest), text: &[u8]) -> u16 {
        let mut r = LoginRequest {
            immediate: true,
            transit: true,
            stages: Stages::of(Stages::OPERATIONAL, Stages::FULL),
            isid,
            itt: 1,
            cmd_sn: 1,
            ..Default::default()
        };
        change(&mut r);
        self.send(r.encode(), text);
        match self.receive() {
            Some(p) => LoginResponse::decode(&p.bhs).status,
            None => 0xffff,
        }
    }
}

fn names(target: &str) -> Vec<u8> {
    Pairs::new()
        .with("InitiatorName", "iqn.2026-11.org.ntbak:initiator")
        .with("TargetName", target)
        .with("SessionType", "Normal")
        .encode()
}

/// A way to a server that can be cut.
pub struct Wire {
    pub address: SocketAddr,
    ends: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    pub fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (there, ends) = (server.address(), Arc::new(Mutex::new(Vec::new())));
        let kept = Arc::clone(&ends);
        std::thread::spawn(move || {
            while let (Ok((a, _)), Ok(b)) = (listener.accept(), TcpStream::connect(there)) {
                for (mut from, mut to) in [(&a, &b), (&b, &a)]
                    .map(|(x, y)| (x.try_clone().unwrap(), y.try_clone().unwrap()))
                {
                    std::thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                kept.lock().unwrap().extend([a, b]);
            }
        });
        Self { address, ends }
    }

    /// Cuts all connections there are.
    pub fn cut(&self) {
        for s in self.ends.lock().unwrap().drain(..) {
            let _ = s.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn logins_are_refused_with_their_reason() {
    let (server, _toy) = serve(config(), Toy::new(1, 1 << 20));
    let id = [0x80, 0, 0, 0, 0, 9];
    let status = |change: &dyn Fn(&mut LoginRequest), text: &[u8]| {
        Raw::connect(&server).login(id, change, text)
    };
    let good = names(NAME);
    assert_eq!(status(&|_| {}, &good), 0);
    assert_eq!(status(&|r| r.version_min = 1, &good), 0x0205);
    assert_eq!(status(&|_| {}, &names("iqn.other")), 0x0203);
    assert_eq!(status(&|_| {}, b"TargetName=x\0"), 0x0207);
    assert_eq!(status(&|_| {}, b"InitiatorName=x\0"), 0x0207);
    assert_eq!(
        status(&|_| {}, b"InitiatorName=x\0SessionType=Odd\0"),
        0x0209
    );
    assert_eq!(status(&|r| r.tsih = 77, &good), 0x020a);
    assert_eq!(status(&|r| r.stages = Stages::of(3, 3), &good), 0x020b);
    assert_eq!(status(&|r| r.stages = Stages::of(1, 0), &good), 0x020b);
    assert_eq!(status(&|_| {}, b"garbage\0"), 0x0200);
    let twice = [&good[..], b"InitiatorName=y\0"].concat();
    assert_eq!(status(&|_| {}, &twice), 0x0200);
    let wrong = [&good[..], b"MaxBurstLength=1\0"].concat();
    assert_eq!(status(&|_| {}, &wrong), 0x0200);
    let long = [&good[..], &vec![b'x'; 70_000]].concat();
    assert_eq!(status(&|_| {}, &long), 0x0200);
}

#[test]
fn a_session_id_used_again_ends_the_old_session() {
    let (server, _toy) = serve(config(), Toy::new(1, 1 << 20));
    let id = [0x80, 0, 0, 0, 0, 9];
    let mut first = Raw::connect(&server);
    assert_eq!(first.login(id, |_| {}, &names(NAME)), 0);
    let mut second = Raw::connect(&server);
    assert_eq!(second.login(id, |_| {}, &names(NAME)), 0);
    assert!(first.receive().is_none());
    assert_eq!(server.sessions(), 1);
    let mut third = Raw::connect(&server);
    assert_eq!(third.login([0x80, 0, 0, 0, 0, 8], |_| {}, &names(NAME)), 0);
    assert_eq!(server.sessions(), 2);
}

#[test]
fn who_does_not_log_in_is_let_go() {
    let mut c = config();
    c.limits = Limits {
        login_timeout: Duration::from_millis(500),
        connections: 2,
        ..Limits::default()
    };
    let (server, _toy) = serve(c, Toy::new(1, 1 << 20));
    let begun = Instant::now();
    let mut waiting: Vec<_> = (0..4)
        .map(|_| TcpStream::connect(server.address()).unwrap())
        .collect();
    for s in &mut waiting {
        s.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert!(matches!(s.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
    assert!(begun.elapsed() < Duration::from_secs(8));
    read(&open(&server), 0, 1);
}

#[test]
fn a_silent_initiator_is_asked_and_then_let_go() {
    let mut c = config();
    c.limits.keepalive = Duration::from_secs(1);
    let (server, _toy) = serve(c, Toy::new(1, 1 << 20));
    let polite = open(&server);
    let mut raw = Raw::connect(&server);
    assert_eq!(raw.login([0x80, 0, 0, 0, 0, 1], |_| {}, &names(NAME)), 0);
    let ping = raw.receive().unwrap();
    assert_eq!(ping.bhs.opcode(), 0x20);
    assert!(raw.receive().is_none());
    // One that answers stays.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(server.sessions(), 1);
    read(&polite, 0, 1);
}

/// Headers that are nearly right, with any data behind.
fn unit() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let opcode = prop_oneof![
        4 => Just(0x01u8), 2 => Just(0x05), 1 => Just(0x41), 1 => Just(0x00), 1 => Just(0x40),
        1 => Just(0x02), 1 => Just(0x42), 1 => Just(0x04), 1 => Just(0x44), 1 => Just(0x43),
        1 => Just(0x10), 1 => 0u8..64
    ];
    (
        opcode,
        any::<u8>(),
        0u8..4,
        any::<[u8; 8]>(),
        0u32..4,
        prop_oneof![Just(0u32), Just(0xffff_ffff), 0u32..4, any::<u32>()],
        0u32..20,
        any::<[u8; 16]>(),
        proptest::collection::vec(any::<u8>(), 0..600),
        any::<bool>(),
    )
        .prop_map(|(op, flags, ahs, lun, itt, word, sn, tail, data, lie)| {
            let mut b = Bhs([0; 48]);
            b.0[0] = op;
            b.0[1] = flags;
            b.set_ahs_words(ahs);
            // Mostly an existing unit, and no logout.
            b.0[9] = lun[0] & 1;
            b.set_u32(16, itt);
            b.set_u32(20, word);
            b.set_u32(24, sn);
            b.0[32..].copy_from_slice(&tail);
            b.0[32] = [0x28, 0x2a, 0x88, 0x8a, 0x12, 0, 0xa0, tail[0]][usize::from(tail[1] & 7)];
            b.set_data_len(if lie { data.len() + 4 } else { data.len() });
            let mut body = vec![0xab; usize::from(ahs) * 4];
            body.extend(data);
            body.resize(body.len().next_multiple_of(4), 0);
            (b.0.to_vec(), body)
        })
}

#[test]
fn any_units_leave_the_target_and_other_sessions_whole() {
    let (server, _toy) = serve(config(), Toy::new(2, 1 << 20));
    let polite = open(&server);
    let runner = ProptestConfig {
        cases: 150,
        ..ProptestConfig::default()
    };
    proptest!(runner, |(units in proptest::collection::vec(unit(), 1..25), id: u8)| {
        let mut raw = Raw::connect(&server);
        prop_assert_eq!(raw.login([0x80, 0, 0, 0, 1, id], |_| {}, &names(NAME)), 0);
        let mut bytes = Vec::new();
        for (n, (head, body)) in units.into_iter().enumerate() {
            let mut head = head;
            // Every other command number is the right one.
            if n % 2 == 0 {
                head[24..28].copy_from_slice(&(n as u32 / 2 + 1).to_be_bytes());
            }
            bytes.extend(head);
            bytes.extend(body);
        }
        let _ = raw.stream.write_all(&bytes);
        let _ = raw.stream.shutdown(Shutdown::Write);
        while raw.receive().is_some() {}
        prop_assert_eq!(read(&polite, 0, 1).len(), 512);
    });
    polite.ping(Duration::from_secs(5)).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while server.sessions() > 1 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(server.sessions(), 1);
    drop(polite);
    server.shutdown().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// A target that answers anything: the initiator ends in an error, not otherwise.
    #[test]
    fn an_initiator_survives_any_target(
        answers in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..6),
        real in any::<bool>(),
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut s, _) = listener.accept().unwrap();
            for (n, a) in answers.iter().enumerate() {
                let mut request = [0; 48];
                if s.read_exact(&mut request).is_err() { break; }
                let len = Bhs(request).data_len().next_multiple_of(4);
                if s.read_exact(&mut vec![0; len]).is_err() { break; }
                let mut out = a.clone();
                if real && n < 2 {
                    // A login that goes through, and nonsense behind it.
                    let next = if n == 0 { Stages::of(0, 1) } else { Stages::of(1, 3) };
                    let r = LoginResponse { transit: true, stages: next, itt: 1, tsih: 1,
                        max_cmd_sn: 9, ..Default::default() };
                    out = r.encode().0.to_vec();
                } else if out.len() >= 48 {
                    out[0] = [0x21, 0x25, 0x31, 0x3f, 0x32, 0x20, 0x23, 0x24][usize::from(out[0] & 7)];
                    out[4] = 0;
                    out[16..20].copy_from_slice(&0x10u32.to_be_bytes());
                    let len = out.len() - 48;
                    out[5..8].copy_from_slice(&(len as u32).to_be_bytes()[1..]);
                    out.resize(out.len().next_multiple_of(4), 0);
                }
                if s.write_all(&out).is_err() { break; }
            }
        });
        let url = ntbak::iscsi::Url::parse(&format!("iscsi://{at}/x/0")).unwrap();
        let options = ntbak::iscsi::Options {
            login_timeout: Duration::from_millis(1500),
            reconnect_for: Duration::ZERO,
            ..Default::default()
        };
        if let Ok(unit) = Initiator::open(&url, &options) {
            use ntbak::scsi::{Command, Data, Transport};
            let mut buf = [0; 512];
            let mut cdb = [0; 16];
            cdb[0] = 0x8a;
            let _ = unit.execute(Command { cdb: &cdb, data: Data::In(&mut buf), timeout: Duration::from_millis(300) });
        }
        let _ = thread.join();
    }
}
