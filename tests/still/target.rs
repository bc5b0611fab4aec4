//! A serverless backup of a disk unit that is written all the time: the target makes a
//! snapshot, and its copy manager reads that one.

use super::*;
use ntbak::device::Sink;
use ntbak::ops::place::Places;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

const AT: u64 = 0x1000;

/// A target with a disk and a tape.
struct Served {
    child: std::process::Child,
    urls: Vec<String>,
    _out: BufReader<std::process::ChildStdout>,
}

impl Served {
    fn new(dir: &Path) -> Self {
        disk(&dir.join("disk.img"));
        let mut child = ntbak(dir)
            .args([
                "target",
                "--listen",
                "127.0.0.1:0",
                "--json",
                "--disk",
                "d=disk.img",
            ])
            .args(["--tape", "t=t.tap,size=1G"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut urls = Vec::new();
        while urls.len() < 2 {
            let mut line = String::new();
            assert!(out.read_line(&mut line).unwrap() > 0, "no target");
            let row: serde_json::Value = serde_json::from_str(&line).unwrap();
            if row["type"] == "unit" {
                urls.push(row["url"].as_str().unwrap().to_owned());
            }
        }
        Self {
            child,
            urls,
            _out: out,
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Another host, which writes to the unit by itself.
struct Other {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Other {
    fn on(url: &str, pause: Duration) -> Self {
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (s, c, url) = (stop.clone(), count.clone(), url.to_owned());
        let thread = std::thread::spawn(move || {
            let mut places = Places::default();
            let (disk, _) = places.disk_to_write(&url).unwrap();
            while !s.load(Ordering::SeqCst) {
                let n = c.fetch_add(1, Ordering::SeqCst) + 1;
                let mut sector = [n as u8 | 1; 4096];
                sector[..8].copy_from_slice(&n.to_le_bytes());
                disk.write_at(AT, &sector).unwrap();
                let end = std::time::Instant::now() + pause;
                while std::time::Instant::now() < end && !s.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(10).min(pause));
                }
            }
        });
        let me = Self {
            stop,
            count,
            thread: Some(thread),
        };
        while me.writes() < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        me
    }

    fn writes(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(t) = self.thread.take() {
            t.join().unwrap();
        }
    }
}

#[test]
fn a_serverless_backup_of_a_disk_that_is_written_all_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let served = Served::new(d);
    let (unit, tape) = (&*served.urls[0], &*served.urls[1]);
    let writer = Other::on(unit, Duration::ZERO);
    let before = writer.writes();
    let args = [
        "image",
        unit,
        tape,
        "--label",
        "A",
        "--snapshot",
        "target",
        "--quiet",
        "0",
        "--mover",
        "copy-manager",
        "--json",
    ];
    let out = rows(&expect(d, 0, &args).stdout);
    let after = writer.writes();
    assert!(after > before);
    let still = &of(&out, "still")[0]["snapshot"];
    assert_eq!(still["provider"], "target");
    assert_eq!(still["naa"].as_str().unwrap().len(), 32);
    let summary = of(&out, "summary")[0];
    assert_eq!(summary["mover"], "copy-manager");
    assert!(summary["copied_bytes"].as_u64().unwrap() > 0);
    // The writer has not stopped, and the snapshot is gone again.
    std::thread::sleep(Duration::from_millis(50));
    assert!(writer.writes() > after);
    let gone = rows(&expect(d, 0, &["snapshot", "list", "--json"]).stdout);
    assert!(of(&gone, "snapshot").is_empty());
    let left = ntbak::scsi::snapshot::list(&ntbak::ops::unit::open(unit).unwrap()).unwrap();
    assert!(left.is_empty(), "{left:?}");
    drop(writer);
    // What was read is of one moment of the backup.
    expect(d, 0, &["restore", tape, "back.img", "-q"]);
    let bytes = fs::read(d.join("back.img")).unwrap();
    let sector = &bytes[AT as usize..AT as usize + 4096];
    let n = u64::from_le_bytes(sector[..8].try_into().unwrap());
    assert!((before..=after).contains(&n), "{before} {n} {after}");
    assert!(
        sector[8..].iter().all(|b| *b == n as u8 | 1),
        "a torn write"
    );
}

/// The unit's own count (log page 19h) has the writes of another host; nothing is
/// written to the tape when it is not quiet.
#[test]
fn the_writes_of_other_hosts_count() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let served = Served::new(d);
    let (unit, tape) = (&*served.urls[0], &*served.urls[1]);
    let args = |more: &[&'static str]| {
        let mut all = vec![
            "image", unit, tape, "--label", "A", "--json", "--quiet", "500ms",
        ];
        all.extend(more);
        all.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |code, more: &[&'static str]| {
        let args = args(more);
        let args: Vec<&str> = args.iter().map(|a| &**a).collect();
        rows(&expect(d, code, &args).stdout)
    };
    let writer = Other::on(unit, Duration::from_millis(100));
    let out = run(6, &["--quiet-timeout", "1500ms", "--snapshot", "auto"]);
    let error = out.last().unwrap();
    assert!(
        error["hint"].as_str().unwrap().contains("the count of"),
        "{error}"
    );
    drop(writer);
    let scan = rows(&expect(d, 0, &["tape", "scan", tape, "--json"]).stdout);
    assert_eq!(of(&scan, "cartridge")[0]["holds"], "nothing");
    let out = run(0, &["--snapshot", "auto"]);
    let still = of(&out, "still")[0];
    assert_eq!(
        (&still["snapshot"]["provider"], &still["late_writes"]),
        (&"target".into(), &0.into())
    );
}

/// A run that was killed leaves its snapshot at the target; it is named, with and
/// without its record, and removed by name.
#[test]
fn a_stale_snapshot_at_the_target_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let served = Served::new(d);
    let (unit, tape) = (&*served.urls[0], &*served.urls[1]);
    let at = ntbak::ops::unit::open(unit).unwrap();
    let tag = 0x0123_4567_89ab_cdef;
    ntbak::scsi::snapshot::create(&at, tag).unwrap();
    let args = [
        "image",
        unit,
        tape,
        "--label",
        "A",
        "--snapshot",
        "target",
        "--quiet",
        "0",
        "--json",
    ];
    let out = rows(&expect(d, 0, &args).stdout);
    let warned: Vec<_> = of(&out, "warning")
        .into_iter()
        .filter(|w| w["code"] == "stale-snapshot")
        .collect();
    let message = warned[0]["message"].as_str().unwrap();
    assert!(
        message.contains("ntbak snapshot delete ntbak-0123456789abcdef --unit"),
        "{message}"
    );
    expect(
        d,
        0,
        &[
            "snapshot",
            "delete",
            "ntbak-0123456789abcdef",
            "--unit",
            unit,
        ],
    );
    assert!(ntbak::scsi::snapshot::list(&at).unwrap().is_empty());
}
