//! The tape drive as the host sees it, on the virtual tape unit: whatever is
//! done to both, it is a tape as in memory. And `ntbak tape` over iSCSI.

use ntbak::error::{ErrorKind, Result};
use ntbak::scsi::{Command, Completion, Data, Transport, Unit};
use ntbak::tape::cartridge::Cartridge as File;
use ntbak::tape::{Cartridge, Drive, MemoryDrive, Read, ScsiDrive};
use ntbak::target::common::Device;
use ntbak::target::tape::TapeDrive;
use ntbak::target::{Nexus, Request, Server, ServerConfig, UnitSet, Units};
use proptest::prelude::*;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Straight to the units, without a wire between.
struct Straight {
    units: UnitSet,
    me: Nexus,
}

impl Transport for Straight {
    fn execute(&self, command: Command<'_>) -> Result<Completion> {
        let (out, room): (&[u8], _) = match &command.data {
            Data::None => (&[], 0),
            Data::In(b) => (&[], b.len()),
            Data::Out(b) => (b, 0),
        };
        let reply = self.units.execute(
            0,
            &Request {
                nexus: &self.me,
                cdb: command.cdb,
                data_out: out,
                expected_out: out.len(),
                expected_in: room,
                cancel: &AtomicBool::new(false),
            },
        );
        let transferred = match command.data {
            Data::In(b) => {
                let n = b.len().min(reply.data_in.len());
                b[..n].copy_from_slice(&reply.data_in[..n]);
                n
            }
            _ => out.len(),
        };
        Ok(Completion {
            status: reply.status,
            sense: reply.sense,
            transferred,
        })
    }
    fn name(&self) -> &str {
        "tape"
    }
    fn max_transfer(&self) -> usize {
        1 << 20
    }
    fn abort_all(&self) -> Result<()> {
        Ok(())
    }
}

fn units(dir: &Path) -> UnitSet {
    let c = File::create(&dir.join("a.tap"), 64 << 20, "TAPE01L8").unwrap();
    let device: Arc<dyn Device> = Arc::new(TapeDrive::new(Some(c)).unwrap());
    UnitSet::new("iqn.t", vec![("tape".into(), device)], None).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Rewind,
    Locate(u64),
    End,
    Space(i64),
    Read(usize),
    Write(usize, usize),
    Marks(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Rewind),
        (0u64..24).prop_map(Step::Locate),
        Just(Step::End),
        (-4i64..5).prop_map(Step::Space),
        (0usize..12_000).prop_map(Step::Read),
        // The virtual cartridge takes blocks of even length.
        (0usize..10_000, 350usize..4_500).prop_map(|(n, b)| Step::Write(2 * n, 2 * b)),
        (0u32..3).prop_map(Step::Marks),
    ]
}

/// What a step gives, whoever answers.
fn take(d: &mut dyn Drive, step: &Step) -> Result<String, ErrorKind> {
    let none = |()| String::new();
    let said = match *step {
        Step::Rewind => d.rewind().map(none),
        Step::Locate(n) => d.locate(n).map(none),
        Step::End => d.end_of_data().map(none),
        Step::Space(n) => d.space_filemarks(n).map(none),
        Step::Read(n) => {
            let mut buf = vec![0; n];
            d.read(&mut buf).map(|r| match r {
                Read::Block(n) => format!("{n} {}", blake3::hash(&buf[..n])),
                other => format!("{other:?}"),
            })
        }
        Step::Write(n, block) => {
            let data: Vec<u8> = (0..n).map(|i| (i * 7 + n) as u8).collect();
            d.write(&data, block).map(|w| format!("{w:?}"))
        }
        Step::Marks(n) => d.write_filemarks(n).map(|w| format!("{w:?}")),
    };
    said.map_err(|e| e.kind())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_virtual_tape_is_a_tape(steps in prop::collection::vec(step(), 0..40)) {
        let dir = tempfile::tempdir().unwrap();
        let me = Nexus { initiator: "iqn.h".into(), isid: [0; 6], tsih: 1 };
        let units = units(dir.path());
        units.nexus_began(&me);
        let unit = Unit::new(Arc::new(Straight { units, me }));
        let mut scsi = ScsiDrive::open(unit).unwrap();
        prop_assert!(!scsi.is_blind().unwrap());
        let mut memory = MemoryDrive::new(Cartridge::default());
        for step in &steps {
            prop_assert_eq!(take(&mut memory, step), take(&mut scsi, step), "{:?}", step);
            prop_assert_eq!(memory.position().unwrap(), scsi.position().unwrap(), "{:?}", step);
        }
    }
}

fn ntbak(state: &Path, args: &[&str]) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_ntbak"))
        .args(args)
        .env("XDG_STATE_HOME", state)
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

/// Runs it, expects an exit code, and gives standard output.
fn expect(state: &Path, code: i32, args: &[&str]) -> (String, String) {
    let out = ntbak(state, args);
    let (stdout, stderr) = (
        String::from_utf8(out.stdout).unwrap(),
        String::from_utf8(out.stderr).unwrap(),
    );
    assert_eq!(
        out.status.code(),
        Some(code),
        "{args:?}\n{stdout}\n{stderr}"
    );
    (stdout, stderr)
}

#[test]
fn the_verb_over_iscsi() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path();
    let config = ServerConfig::new("127.0.0.1:0", "iqn.2026-11.org.ntbak:t");
    let server = Server::start(config, Arc::new(units(dir.path()))).unwrap();
    let url = format!("iscsi://{}/iqn.2026-11.org.ntbak:t/0", server.address());
    let tape = |code, verb: &[&str]| expect(state, code, &[&["tape"], verb].concat());

    let (text, _) = tape(0, &["status", &url]);
    for words in [
        "object 0",
        "TAPE01L8",
        "Writing      allowed",
        "TapeAlert    none",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let (text, _) = tape(0, &["scan", &url]);
    assert!(text.contains("nothing was ever written"), "{text}");
    let (text, _) = tape(0, &["inventory"]);
    assert!(text.contains("Nothing is known yet"), "{text}");

    tape(2, &["label", &url, "--name", &"x".repeat(33)]);
    let (text, _) = tape(0, &["label", &url, "--name", "A00017"]);
    assert!(text.contains("\"A00017\" is labelled"), "{text}");
    let (text, _) = tape(0, &["scan", &url]);
    assert!(text.contains("\"A00017\": blank"), "{text}");
    let (json, _) = tape(0, &["inventory", "--json"]);
    let rows: Vec<serde_json::Value> = json
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(rows[0]["type"], "blank");
    assert_eq!(rows[0]["name"], "A00017");
    assert_eq!(rows[1]["type"], "summary");
    tape(1, &["inventory", "--forget", &"00".repeat(16)]);

    // Something else on it.
    let unit = ntbak::ops::unit::open(&url).unwrap();
    let mut drive = ScsiDrive::open(unit).unwrap();
    drive.rewind().unwrap();
    drive.write(&[5; 10240], 10240).unwrap();
    drive.write_filemarks(1).unwrap();
    drop(drive);
    let (_, why) = tape(5, &["label", &url, "--name", "B"]);
    assert!(why.contains("begins with a block of 10240 bytes"), "{why}");
    let (json, _) = tape(0, &["scan", &url, "--json"]);
    let row: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(row["holds"], "foreign");
    tape(0, &["label", &url, "--name", "B", "--force"]);

    tape(0, &["eject", &url]);
    let (text, _) = tape(0, &["status", &url]);
    assert!(text.contains("not ready: no cartridge"), "{text}");
    tape(1, &["eject", &url]);
    server.shutdown().unwrap();
}
