//! `--snapshot qmp` against a real `qemu-storage-daemon`.

use super::snapshots::{left, recorded};
use super::*;
use std::io::{BufRead, BufReader, Write};

/// A `qemu-storage-daemon` with one raw image, exported writable.
struct Daemon {
    child: std::process::Child,
    dir: PathBuf,
}

impl Daemon {
    fn over(dir: &Path, image: &Path) -> Option<Self> {
        let (qmp, nbd) = (dir.join("qmp"), dir.join("nbd"));
        let child = Command::new("qemu-storage-daemon")
            .args([
                "--blockdev",
                &format!("file,node-name=f0,filename={}", image.display()),
            ])
            .args(["--blockdev", "raw,node-name=d0,file=f0"])
            .args([
                "--nbd-server",
                &format!("addr.type=unix,addr.path={}", nbd.display()),
            ])
            .args(["--export", "nbd,id=e0,node-name=d0,name=live,writable=on"])
            .args([
                "--chardev",
                &format!("socket,id=q,path={},server=on,wait=off", qmp.display()),
            ])
            .args(["--monitor", "q"])
            .spawn();
        let Ok(child) = child else {
            eprintln!("skipped: no qemu-storage-daemon");
            return None;
        };
        let me = Self {
            child,
            dir: dir.into(),
        };
        let begun = std::time::Instant::now();
        while !qmp.exists() || !nbd.exists() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "the daemon does not start"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(me)
    }

    /// With something written by the guest.
    fn written(dir: &Path, image: &Path) -> Option<Self> {
        let me = Self::over(dir, image)?;
        let wrote = me.io("write -P 0x11 4096 4096");
        if !wrote {
            eprintln!("skipped: no qemu-io that speaks NBD");
        }
        wrote.then_some(me)
    }

    /// A command to the export, as a guest's disk would write.
    fn io(&self, command: &str) -> bool {
        let url = format!("nbd+unix:///live?socket={}/nbd", self.dir.display());
        Command::new("qemu-io")
            .args(["-f", "raw", "-c", command, "-c", "flush", &url])
            .output()
            .unwrap()
            .status
            .success()
    }

    /// Commands by the machine protocol; the answer to the last one.
    fn qmp(&self, commands: &[&str]) -> String {
        let s = std::os::unix::net::UnixStream::connect(self.dir.join("qmp")).unwrap();
        let mut lines = BufReader::new(s.try_clone().unwrap()).lines();
        lines.next().unwrap().unwrap();
        let mut answer = String::new();
        for c in ["{\"execute\":\"qmp_capabilities\"}"]
            .iter()
            .chain(commands)
        {
            (&s).write_all(format!("{c}\n").as_bytes()).unwrap();
            loop {
                answer = lines.next().unwrap().unwrap();
                if !answer.contains("\"event\"") {
                    break;
                }
            }
        }
        answer
    }

    fn nodes(&self) -> String {
        self.qmp(&["{\"execute\":\"query-named-block-nodes\",\"arguments\":{\"flat\":true}}"])
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn qmp_with_a_real_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let image = d.join("disk.img");
    disk(&image);
    let Some(daemon) = Daemon::written(d, &image) else {
        return;
    };
    let socket = d.join("qmp");
    let way = [
        "--snapshot",
        "qmp",
        "--qmp",
        arg(&socket),
        "--quiet",
        "200ms",
    ];
    // The guest writes all the time, from the snapshot on.
    let stop = Arc::<AtomicBool>::default();
    let frozen = |d: &Path| left(d).iter().any(|n| n.ends_with(".overlay"));
    let guest = {
        let (stop, dir, daemon_dir) = (stop.clone(), d.to_path_buf(), daemon.dir.clone());
        std::thread::spawn(move || {
            let url = format!("nbd+unix:///live?socket={}/nbd", daemon_dir.display());
            let mut n = 0;
            while !stop.load(Ordering::SeqCst) {
                // Not before: the wait for a quiet period would not end.
                if !["a.ntbak.partial", "a.ntbak"]
                    .iter()
                    .any(|n| dir.join(n).exists())
                {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                }
                let ok = Command::new("qemu-io")
                    .args(["-f", "raw", "-c", "write -P 0x22 4096 4096", &url])
                    .output()
                    .unwrap()
                    .status
                    .success();
                n += u32::from(ok);
            }
            n
        })
    };
    let args = [
        &["image", "disk.img", "a.ntbak", "--json", "--keep-snapshot"][..],
        &way,
    ]
    .concat();
    let rows_ = rows(&expect(d, 0, &args).stdout);
    assert_eq!(of(&rows_, "still")[0]["snapshot"]["provider"], "qmp");
    // Kept: the guest goes on writing, and the image stands still.
    assert!(frozen(d));
    let begun = std::time::Instant::now();
    while !daemon.io("read -P 0x22 4096 4096") || !daemon.io("write -P 0x33 8192 4096") {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the guest cannot write"
        );
    }
    expect(d, 0, &["verify", "a.ntbak", "--against", "disk.img"]);
    assert!(
        fs::read(&image).unwrap()[4096..8192]
            .iter()
            .all(|b| *b == 0x11)
    );
    // A second one is refused while it is frozen.
    let again = [&["image", "disk.img", "b.ntbak"][..], &way].concat();
    let out = expect(d, 5, &again);
    assert!(
        text(&out.stderr).contains("overlay"),
        "{}",
        text(&out.stderr)
    );
    let name = recorded(d)[0]["name"].as_str().unwrap().to_string();
    expect(d, 0, &["snapshot", "delete", &name]);
    stop.store(true, Ordering::SeqCst);
    assert!(guest.join().unwrap() > 0, "the guest wrote meanwhile");
    // What was written meanwhile is in the image, and nothing is left.
    assert!(left(d).is_empty() && recorded(d).is_empty());
    assert!(!daemon.nodes().contains("ntbak-"));
    let bytes = fs::read(&image).unwrap();
    assert!(bytes[4096..8192].iter().all(|b| *b == 0x22));
    assert!(bytes[8192..12288].iter().all(|b| *b == 0x33));
    assert!(daemon.io("write -P 0x44 4096 4096"));
    assert!(
        fs::read(&image).unwrap()[4096..8192]
            .iter()
            .all(|b| *b == 0x44)
    );
    // And the usual way, deleted at the end.
    let args = [&["image", "disk.img", "c.ntbak", "--verify"][..], &way].concat();
    expect(d, 0, &args);
    assert!(left(d).is_empty() && !daemon.nodes().contains("ntbak-"));
    // A file that this QEMU does not use.
    disk(&d.join("other.img"));
    let out = expect(
        d,
        5,
        &[&["image", "other.img", "d.ntbak"][..], &way].concat(),
    );
    assert!(
        text(&out.stderr).contains("QEMU does not use it"),
        "{}",
        text(&out.stderr)
    );
    // One that is not there.
    let mut none = way;
    none[3] = "no-such-socket";
    let out = expect(
        d,
        1,
        &[&["image", "disk.img", "d.ntbak"][..], &none].concat(),
    );
    assert!(
        text(&out.stderr).contains("No QEMU listens"),
        "{}",
        text(&out.stderr)
    );
}

/// A run that was killed, and a QEMU that does not know the overlay any more: nothing
/// that a guest wrote is thrown away.
#[test]
fn qmp_and_a_daemon_that_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let image = d.join("disk.img");
    disk(&image);
    let Some(daemon) = Daemon::written(d, &image) else {
        return;
    };
    let socket = d.join("qmp");
    let keep = [
        "image",
        "disk.img",
        "a.ntbak",
        "--force",
        "--snapshot",
        "qmp",
        "--qmp",
        arg(&socket),
        "--quiet",
        "0",
        "--keep-snapshot",
    ];
    expect(d, 0, &keep);
    let name = recorded(d)[0]["name"].as_str().unwrap().to_string();
    assert!(daemon.io("write -P 0x22 4096 4096"));
    // A commit that a killed run began, which waits to be completed: it goes on.
    let commit = format!(
        "{{\"execute\":\"block-commit\",\"arguments\":{{\"job-id\":\"{name}-job\",\"device\":\"{name}\",\"base-node\":\"d0\",\"auto-dismiss\":false}}}}"
    );
    assert!(daemon.qmp(&[&commit]).contains("return"));
    expect(d, 0, &["snapshot", "delete", &name]);
    assert!(left(d).is_empty() && !daemon.nodes().contains("ntbak-"));
    assert!(
        fs::read(&image).unwrap()[4096..8192]
            .iter()
            .all(|b| *b == 0x22)
    );

    // Killed with writes in the overlay only, and begun anew over the image.
    expect(d, 0, &keep);
    let name = recorded(d)[0]["name"].as_str().unwrap().to_string();
    assert!(daemon.io("write -P 0x33 4096 4096"));
    drop(daemon);
    let _ = fs::remove_file(d.join("qmp"));
    let _ = fs::remove_file(d.join("nbd"));
    let overlay = d.join(format!("{name}.overlay"));
    let out = expect(d, 1, &["snapshot", "delete", &name]);
    assert!(
        text(&out.stderr).contains("qemu-img commit"),
        "{}",
        text(&out.stderr)
    );
    let daemon = Daemon::over(d, &image).unwrap();
    let out = expect(d, 5, &["snapshot", "delete", &name]);
    assert!(
        text(&out.stderr).contains("does not know the overlay"),
        "{}",
        text(&out.stderr)
    );
    assert!(overlay.exists() && recorded(d).len() == 1);
    // Begun anew on the overlay, as its disk, before anything was written: not removed.
    let empty = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(overlay.with_extension("empty"))
        .arg("64M")
        .status();
    if empty.is_ok_and(|s| s.success()) {
        fs::rename(&overlay, d.join("aside")).unwrap();
        fs::rename(overlay.with_extension("empty"), &overlay).unwrap();
        let node = format!("driver=file,node-name=mine,filename={}", overlay.display());
        let mut other = Command::new("qemu-storage-daemon")
            .args(["--blockdev", &node])
            .args(["--blockdev", "driver=qcow2,node-name=disk,file=mine"])
            .args([
                "--nbd-server",
                &format!("addr.type=unix,addr.path={}", d.join("n").display()),
            ])
            .args(["--export", "nbd,id=e,node-name=disk,writable=on"])
            .spawn()
            .unwrap();
        let begun = std::time::Instant::now();
        while !d.join("n").exists() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "it does not start"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(300));
        let out = ntbak(d)
            .args(["snapshot", "delete", &name])
            .output()
            .unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(out.status.code(), Some(5), "{}", text(&out.stderr));
        assert!(
            text(&out.stderr).contains("has the overlay open"),
            "{}",
            text(&out.stderr)
        );
        fs::rename(d.join("aside"), &overlay).unwrap();
    }
    drop(daemon);
    let _ = fs::remove_file(d.join("qmp"));
    let _ = fs::remove_file(d.join("nbd"));
    let committed = Command::new("qemu-img")
        .arg("commit")
        .arg(&overlay)
        .output();
    if !committed.is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: no qemu-img that commits");
        return;
    }
    assert!(
        fs::read(&image).unwrap()[4096..8192]
            .iter()
            .all(|b| *b == 0x33)
    );
    let _daemon = Daemon::over(d, &image).unwrap();
    expect(d, 0, &["snapshot", "delete", &name]);
    assert!(left(d).is_empty() && recorded(d).is_empty());
}
