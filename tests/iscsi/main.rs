//! Our initiator and our target together over TCP, on a toy unit set; and other
//! people's tools against our target, where they are installed.

mod hostile;
mod tgt;
mod tools;
mod toy;

use ntbak::iscsi::chap::Credentials;
use ntbak::iscsi::negotiate::{Choice, Wish};
use ntbak::iscsi::{Initiator, Options, Url, discover};
use ntbak::scsi::{Command, Completion, Data, Status, Transport, op};
use ntbak::target::{Server, ServerConfig};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use toy::{BLOCK, HOLD, PANIC, Toy};

const NAME: &str = "iqn.2026-11.org.ntbak:test";

fn config() -> ServerConfig {
    ServerConfig::new("127.0.0.1:0", NAME)
}

fn serve(config: ServerConfig, toy: Toy) -> (Server, Arc<Toy>) {
    let toy = Arc::new(toy);
    (Server::start(config, toy.clone()).unwrap(), toy)
}

fn place(server: &Server) -> Url {
    Url::parse(&format!("iscsi://{}/{NAME}/0", server.address())).unwrap()
}

fn open(server: &Server) -> Initiator {
    Initiator::open(&place(server), &Options::default()).unwrap()
}

fn send<T: Transport>(unit: &T, cdb: &[u8], data: Data<'_>) -> ntbak::error::Result<Completion> {
    unit.execute(Command {
        cdb,
        data,
        timeout: Duration::from_secs(20),
    })
}

fn cdb_16(code: u8, lba: u64, blocks: usize) -> [u8; 16] {
    let mut c = [0; 16];
    c[0] = code;
    c[2..10].copy_from_slice(&lba.to_be_bytes());
    c[10..14].copy_from_slice(&(blocks as u32).to_be_bytes());
    c
}

fn write<T: Transport>(unit: &T, lba: u64, data: &[u8]) {
    let done = send(
        unit,
        &cdb_16(op::WRITE_16, lba, data.len() / BLOCK),
        Data::Out(data),
    )
    .unwrap();
    assert_eq!((done.status, done.transferred), (Status::Good, data.len()));
}

fn read<T: Transport>(unit: &T, lba: u64, blocks: usize) -> Vec<u8> {
    let mut buf = vec![0xee; blocks * BLOCK];
    let done = send(unit, &cdb_16(op::READ_16, lba, blocks), Data::In(&mut buf)).unwrap();
    assert_eq!((done.status, done.transferred), (Status::Good, buf.len()));
    buf
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|i| (i / 7) as u8 ^ (i >> 9) as u8 ^ seed)
        .collect()
}

#[test]
fn what_is_written_is_read_and_counted() {
    let (server, toy) = serve(config(), Toy::new(2, 8 << 20));
    let unit = open(&server);
    let data = pattern(3 << 20, 1);
    write(&unit, 5, &data);
    assert!(read(&unit, 5, data.len() / BLOCK) == data);
    let other = unit.unit(1);
    assert!(read(&other, 5, 8) == [0; 8 * BLOCK]);
    let t = unit.traffic();
    assert_eq!(t.data_out, 3 << 20);
    assert_eq!(t.data_in, (3 << 20) + 8 * BLOCK as u64);
    assert!(t.wire_in > t.data_in && t.wire_in < t.data_in + 4096);
    assert!(t.wire_out > t.data_out && t.wire_out < t.data_out + 4096);
    assert_eq!(server.traffic().data_in, t.data_out);
    assert_eq!(server.traffic().data_out, t.data_in);
    assert_eq!(server.sessions(), 1);
    unit.logout().unwrap();
    drop((unit, other));
    server.shutdown().unwrap();
    assert_eq!(toy.began.load(Ordering::SeqCst), 1);
    assert_eq!(toy.lost.load(Ordering::SeqCst), 1);
    assert_eq!(toy.flushes.load(Ordering::SeqCst), 1);
}

#[test]
fn a_status_that_is_not_good_comes_with_its_sense() {
    let (server, _toy) = serve(config(), Toy::new(1, 1 << 20));
    let unit = open(&server);
    let mut buf = [0; BLOCK];
    let done = send(&unit, &cdb_16(op::READ_16, 1 << 40, 1), Data::In(&mut buf)).unwrap();
    assert_eq!(done.status, Status::CheckCondition);
    assert_eq!(done.transferred, 0);
    assert_eq!(done.sense.unwrap().code(), 0x2100);
    let done = send(&unit, &[0xc2, 0, 0, 0, 0, 0], Data::None).unwrap();
    assert_eq!(done.status, Status::Busy);
    let done = send(&unit.unit(9), &[0; 6], Data::None).unwrap();
    assert_eq!(done.sense.unwrap().code(), 0x2500);
    // More buffer than data.
    let mut big = [0; 255];
    let done = send(&unit, &[op::INQUIRY, 0, 0, 0, 255, 0], Data::In(&mut big)).unwrap();
    assert_eq!(done.transferred, 36);
}

#[test]
fn a_fault_in_a_unit_costs_its_command_only() {
    let (server, _toy) = serve(config(), Toy::new(1, 1 << 20));
    let unit = open(&server);
    let done = send(&unit, &[PANIC, 0, 0, 0, 0, 0], Data::None).unwrap();
    assert_eq!(done.sense.unwrap().code(), 0x4400);
    read(&unit, 0, 1);
}

#[test]
fn chap_both_ways() {
    let creds = |user: &str, secret: &str| {
        Some(Credentials {
            user: user.into(),
            secret: secret.into(),
        })
    };
    let mut c = config();
    c.chap = creds("me", "a secret of some length");
    c.mutual = creds("target", "another secret");
    let (server, _toy) = serve(c, Toy::new(1, 1 << 20));
    let mut url = place(&server);
    let fails = |url: &Url, what: &str| {
        let e = match Initiator::open(url, &Options::default()) {
            Ok(_) => panic!("{what} was let in"),
            Err(e) => e,
        };
        assert_eq!(e.kind(), ntbak::error::ErrorKind::Refused, "{what}: {e}");
        assert!(!e.to_string().contains("secret of"), "{e}");
    };
    fails(&url, "nobody");
    url.credentials = creds("me", "wrong");
    fails(&url, "a wrong secret");
    url.credentials = creds("you", "a secret of some length");
    fails(&url, "a wrong name");
    url.credentials = creds("me", "a secret of some length");
    read(&Initiator::open(&url, &Options::default()).unwrap(), 0, 1);
    url.target_credentials = creds("target", "another secret");
    read(&Initiator::open(&url, &Options::default()).unwrap(), 0, 1);
    url.target_credentials = creds("target", "yet another");
    fails(&url, "a target that does not know itself");
    // Discovery has to prove itself too.
    let at = server.address().to_string();
    assert!(discover(&at, None, &Options::default()).is_err());
    let found = discover(
        &at,
        creds("me", "a secret of some length"),
        &Options::default(),
    )
    .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].name, NAME);
    assert_eq!(found[0].addresses, [format!("{at},1")]);
}

#[test]
fn wrong_names_and_places_are_said() {
    let (server, _toy) = serve(config(), Toy::new(1, 1 << 20));
    let mut url = place(&server);
    url.target = "iqn.2026-11.org.ntbak:other".into();
    let e = Initiator::open(&url, &Options::default()).err().unwrap();
    assert_eq!(e.kind(), ntbak::error::ErrorKind::NotFound);
    let at = server.address();
    server.shutdown().unwrap();
    url.port = at.port();
    let e = Initiator::open(&url, &Options::default()).err().unwrap();
    assert!(e.to_string().contains("Cannot connect"), "{e}");
}

#[test]
fn commands_are_outstanding_together() {
    let (server, toy) = serve(config(), Toy::new(1, 4 << 20));
    let unit = open(&server);
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| send(&unit, &[HOLD, 0, 0, 0, 0, 0], Data::None).unwrap());
        }
        toy.await_held(4);
        let data = pattern(1 << 20, 9);
        write(&unit, 0, &data);
        assert!(read(&unit, 0, 2048) == data);
        unit.ping(Duration::from_secs(5)).unwrap();
        toy.release();
    });
    std::thread::scope(|s| {
        for t in 0..4u8 {
            let unit = &unit;
            s.spawn(move || {
                for n in 0..20 {
                    let data = pattern(64 << 10, t ^ n);
                    let lba = u64::from(t) * 2048;
                    write(unit, lba, &data);
                    assert!(read(unit, lba, 128) == data);
                }
            });
        }
    });
}

#[test]
fn a_tape_works_in_order_and_answers_questions_meanwhile() {
    let mut toy = Toy::new(2, 1 << 20);
    toy.second_kind = 1;
    let (server, toy) = serve(config(), toy);
    let unit = open(&server);
    let tape = unit.unit(1);
    std::thread::scope(|s| {
        s.spawn(|| send(&tape, &[HOLD, 0, 0, 0, 0, 0], Data::None).unwrap());
        toy.await_held(1);
        for n in 0..6u64 {
            let tape = &tape;
            s.spawn(move || write(tape, n, &pattern(BLOCK, n as u8)));
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut buf = [0; 12];
        let mut cdb = cdb_16(op::RECEIVE_COPY_RESULTS, 0, 0);
        cdb[13] = 12;
        let done = send(&tape, &cdb, Data::In(&mut buf)).unwrap();
        assert_eq!(done.transferred, 12);
        assert!(toy.writes.lock().unwrap().is_empty());
        toy.release();
    });
    assert_eq!(*toy.writes.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn task_management_ends_what_takes_long() {
    let (server, toy) = serve(config(), Toy::new(2, 1 << 20));
    let unit = open(&server);
    // ABORT TASK, at the end of a command's time.
    let begun = Instant::now();
    let e = unit
        .execute(Command {
            cdb: &[HOLD, 0, 0, 0, 0, 0],
            data: Data::None,
            timeout: Duration::from_millis(300),
        })
        .unwrap_err();
    assert!(e.to_string().contains("was aborted"), "{e}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(*toy.held.lock().unwrap(), 0);

    // LOGICAL UNIT RESET by another session: TASK ABORTED, and the unit hears of it.
    let second = open(&server);
    std::thread::scope(|s| {
        let held = s.spawn(|| send(&unit, &[HOLD, 0, 0, 0, 0, 0], Data::None).unwrap());
        let elsewhere = unit.unit(1);
        s.spawn(move || send(&elsewhere, &[HOLD, 0, 0, 0, 0, 0], Data::None).unwrap());
        toy.await_held(2);
        second.reset_unit().unwrap();
        assert_eq!(held.join().unwrap().status, Status::TaskAborted);
        assert_eq!(toy.resets.load(Ordering::SeqCst), 1);
        // The other unit's command goes on.
        assert_eq!(*toy.held.lock().unwrap(), 1);
        toy.release();
    });
    second.abort_all().unwrap();
    assert!(second.unit(7).reset_unit().is_err());
    read(&unit, 0, 1);
}

#[test]
fn a_lost_connection_is_made_again_and_writes_are_not_repeated() {
    let (server, toy) = serve(config(), Toy::new(1, 1 << 20));
    let wire = hostile::Wire::to(&server);
    let mut url = place(&server);
    url.port = wire.address.port();
    let unit = Initiator::open(&url, &Options::default()).unwrap();
    write(&unit, 0, &pattern(BLOCK, 3));
    std::thread::scope(|s| {
        let held = s.spawn(|| send(&unit, &[HOLD, 0, 0, 0, 0, 0], Data::None));
        toy.await_held(1);
        wire.cut();
        let e = held.join().unwrap().unwrap_err();
        assert!(e.to_string().contains("was outstanding"), "{e}");
        assert!(e.advice().is_some());
    });
    // Nothing was outstanding at this cut: the next command finds out by itself.
    assert_eq!(read(&unit, 0, 1), pattern(BLOCK, 3));
    wire.cut();
    assert_eq!(read(&unit, 0, 1), pattern(BLOCK, 3));
    assert_eq!(toy.writes.lock().unwrap().len(), 1);
    assert_eq!(toy.began.load(Ordering::SeqCst), 3);
    assert_eq!(*toy.held.lock().unwrap(), 0);
}

#[test]
fn a_target_that_comes_back_is_found_again() {
    let (server, _toy) = serve(config(), Toy::new(1, 1 << 20));
    let at = server.address();
    let unit = open(&server);
    read(&unit, 0, 1);
    server.shutdown().unwrap();
    let mut again = config();
    again.listen = at.to_string();
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        serve(again, Toy::new(1, 1 << 20))
    });
    assert_eq!(read(&unit, 0, 1), [0; BLOCK]);
    let (server, _toy) = later.join().unwrap();
    drop(unit);
    server.shutdown().unwrap();
}

#[test]
fn shutdown_lets_a_running_command_end() {
    let (server, toy) = serve(config(), Toy::new(1, 1 << 20));
    let unit = open(&server);
    std::thread::scope(|s| {
        let held = s.spawn(|| send(&unit, &[HOLD, 0, 0, 0, 0, 0], Data::None));
        toy.await_held(1);
        let end = s.spawn(|| server.shutdown().unwrap());
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(toy.flushes.load(Ordering::SeqCst), 0);
        toy.release();
        end.join().unwrap();
        let _ = held.join().unwrap();
    });
    assert_eq!(toy.flushes.load(Ordering::SeqCst), 1);
    assert_eq!(*toy.held.lock().unwrap(), 0);
}

fn wish() -> impl Strategy<Value = Wish> {
    let choice = || prop_oneof![Just(Choice::Avoid), Just(Choice::Prefer)];
    (
        choice(),
        choice(),
        any::<(bool, bool)>(),
        512usize..40_000,
        512usize..40_000,
        512usize..40_000,
        1u32..4,
    )
        .prop_map(
            |(header_digest, data_digest, (initial_r2t, immediate_data), a, b, c, max_r2t)| Wish {
                header_digest,
                data_digest,
                initial_r2t,
                immediate_data,
                max_recv: a,
                max_burst: b,
                first_burst: c,
                max_r2t,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whatever the two ends agree on, data comes through as it is.
    #[test]
    fn every_agreement_moves_data(a in wish(), b in wish(), blocks in 1usize..300) {
        let mut c = config();
        c.wish = b;
        let (server, _toy) = serve(c, Toy::new(1, 1 << 20));
        let options = Options { wish: a, ..Options::default() };
        let unit = Initiator::open(&place(&server), &options).unwrap();
        let data = pattern(blocks * BLOCK, blocks as u8);
        write(&unit, 3, &data);
        prop_assert!(read(&unit, 3, blocks) == data);
        drop(unit);
        server.shutdown().unwrap();
    }
}
