//! Our initiator against Debian's `tgt`, where it is installed and may be run.

use super::{BLOCK, pattern, read, send, write};
use ntbak::iscsi::negotiate::Wish;
use ntbak::iscsi::{Initiator, Options, Url, discover};
use ntbak::scsi::{Data, Status, op};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const NAME: &str = "iqn.2026-11.org.ntbak:tgt";

struct Tgt {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
}

impl Tgt {
    /// A target with a disk as unit 1 and a CHAP account, or none when it cannot
    /// be run here.
    fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = Command::new("tgtd")
            .args(["-f", "-C", &control(port), "--iscsi"])
            .arg(format!("portal=127.0.0.1:{port}"))
            .env("TGT_IPC_SOCKET", dir.path().join("ipc"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let tgt = Self { child, dir, port };
        let ready = (0..50).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            tgt.adm("--op show --mode sys")
        });
        let disk = tgt.dir.path().join("disk");
        std::fs::File::create(&disk)
            .unwrap()
            .set_len(16 << 20)
            .unwrap();
        let disk = Path::to_str(&disk).unwrap();
        let set = ready
            && [
                format!("--lld iscsi --op new --mode target --tid 1 -T {NAME}"),
                format!("--lld iscsi --op new --mode logicalunit --tid 1 --lun 1 -b {disk}"),
                "--lld iscsi --op bind --mode target --tid 1 -I ALL".into(),
                "--lld iscsi --op new --mode account --user me --password 12-letters-long".into(),
            ]
            .iter()
            .all(|a| tgt.adm(a));
        set.then_some(tgt)
    }

    fn adm(&self, args: &str) -> bool {
        Command::new("tgtadm")
            .args(["-C", &control(self.port)])
            .args(args.split(' '))
            .env("TGT_IPC_SOCKET", self.dir.path().join("ipc"))
            .output()
            .is_ok_and(|o| o.status.success())
    }

    fn url(&self, who: &str, query: &str) -> Url {
        Url::parse(&format!(
            "iscsi://{who}127.0.0.1:{}/{NAME}/1{query}",
            self.port
        ))
        .unwrap()
    }
}

impl Drop for Tgt {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn control(port: u16) -> String {
    (port % 32768).to_string()
}

#[test]
fn a_disk_of_tgt_is_written_and_read() {
    let Some(tgt) = Tgt::start() else { return };
    let at = format!("127.0.0.1:{}", tgt.port);
    let found = discover(&at, None, &Options::default()).unwrap();
    assert_eq!(found[0].name, NAME);
    assert_eq!(found[0].addresses, [format!("{at},1")]);
    for (query, wish) in [
        ("", Wish::default()),
        (
            "?header_digest=crc32c&data_digest=crc32c",
            Wish {
                initial_r2t: true,
                immediate_data: false,
                max_burst: 20_000,
                ..Wish::default()
            },
        ),
    ] {
        if !query.is_empty() {
            // Without a word from its administrator it has no digests.
            for d in ["HeaderDigest", "DataDigest"] {
                let set = format!("--lld iscsi --op update --mode target --tid 1 -n {d} -v CRC32C");
                assert!(tgt.adm(&set));
            }
        }
        let options = Options {
            wish,
            ..Options::default()
        };
        let unit = Initiator::open(&tgt.url("", query), &options).unwrap();
        // The new nexus is told of by unit attentions.
        let ready = (0..5).any(|_| {
            send(&unit, &[op::TEST_UNIT_READY, 0, 0, 0, 0, 0], Data::None)
                .unwrap()
                .status
                == Status::Good
        });
        assert!(ready);
        std::thread::scope(|s| {
            for t in 0..4u8 {
                let unit = &unit;
                s.spawn(move || {
                    for n in [1usize, 16, 1000] {
                        let data = pattern(n * BLOCK, t);
                        write(unit, u64::from(t) * 4096, &data);
                        assert!(read(unit, u64::from(t) * 4096, n) == data);
                    }
                });
            }
        });
        unit.ping(Duration::from_secs(5)).unwrap();
        unit.reset_unit().unwrap();
        unit.logout().unwrap();
    }
    // From now on with CHAP.
    assert!(tgt.adm("--lld iscsi --op bind --mode account --tid 1 --user me"));
    assert!(Initiator::open(&tgt.url("", ""), &Options::default()).is_err());
    assert!(Initiator::open(&tgt.url("me%wrong@", ""), &Options::default()).is_err());
    Initiator::open(&tgt.url("me%12-letters-long@", ""), &Options::default()).unwrap();
}
