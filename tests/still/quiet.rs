//! The quiet period by itself.

use super::*;

#[test]
fn a_file_that_is_written_too_often_and_one_that_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let image = d.join("disk.img");
    disk(&image);
    let archive = d.join("a.ntbak");
    // Pauses of 200 ms hold no period of 600 ms.
    let writer = Writer::on(&image, 0x1000, Duration::from_millis(200));
    let args = [
        "image",
        "disk.img",
        "a.ntbak",
        "--raw",
        "--quiet",
        "600ms",
        "--quiet-timeout",
        "2s",
        "--snapshot",
        "none",
        "--json",
    ];
    let out = expect(d, 6, &args);
    let rows_ = rows(&out.stdout);
    let error = rows_.last().unwrap();
    assert_eq!(
        (&error["type"], &error["exit_code"]),
        (&"error".into(), &6.into())
    );
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("writes were seen, the last one 0."),
        "{message}"
    );
    assert!(
        message.contains("not quiet for 0.6 s within 2.0 s"),
        "{message}"
    );
    let waits: Vec<_> = of(&rows_, "status")
        .into_iter()
        .filter(|r| r["task"] == "quiet period")
        .collect();
    assert!(!waits.is_empty() && waits[0]["total"] == 600 && waits[0]["seconds_left"].is_u64());
    nothing_written(&archive);
    assert!(writer.writes() > 3);
    drop(writer);
    // A writer that merely pauses.
    let writer = Writer::on(&image, 0x1000, Duration::from_secs(20));
    let out = expect(d, 0, &args);
    let rows_ = rows(&out.stdout);
    let still = of(&rows_, "still");
    assert_eq!(still[0]["state"], "none");
    assert!(still[0]["quiet_ms"].as_u64().unwrap() >= 600, "{still:?}");
    assert!(still[0]["counter"].as_str().unwrap().contains("changes to"));
    drop(writer);
    // The archive knows.
    let info = rows(&expect(d, 0, &["info", "a.ntbak", "--json"]).stdout);
    let head = &of(&info, "archive")[0]["head"];
    assert!(
        head["stillness"]["quiet_ms"].as_u64().unwrap() >= 600,
        "{head}"
    );
    assert!(head["stillness"]["snapshot"].is_null());
}

/// Stores through a shared memory map raise no event; the times that each look brings
/// about by writing back tell them.
#[test]
fn a_program_that_stores_through_a_memory_map() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let kind = Command::new("stat")
        .args(["-f", "-c", "%T"])
        .arg(d)
        .output();
    if !kind.is_ok_and(|o| o.status.success() && text(&o.stdout).trim() != "tmpfs") {
        eprintln!("skipped: the temporary directory is a tmpfs, which never writes back");
        return;
    }
    disk(&d.join("disk.img"));
    const STORE: &str = "\
import mmap, sys, time
with open('disk.img', 'r+b') as f:
    m = mmap.mmap(f.fileno(), 8192)
pause, n = float(sys.argv[1]), 0
while True:
    n += 1
    m[0x1000] = n & 255
    if n == 1: print('stored', flush=True)
    time.sleep(pause)
";
    for (pause, code) in [("0.1", 6), ("20", 0)] {
        let child = Command::new("python3")
            .args(["-c", STORE, pause])
            .current_dir(d)
            .stdout(std::process::Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            eprintln!("skipped: no python3");
            return;
        };
        let mut first = [0; 7];
        let ready = std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first);
        let args = [
            "image",
            "disk.img",
            "a.ntbak",
            "--raw",
            "--snapshot",
            "none",
            "--quiet",
            "1s",
            "--quiet-timeout",
            "3s",
        ];
        let out = ready.map(|()| ntbak(d).args(args).output().unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        let out = out.expect("the writer runs");
        assert_eq!(out.status.code(), Some(code), "{}", text(&out.stderr));
        match code {
            0 => assert!(d.join("a.ntbak").exists()),
            _ => nothing_written(&d.join("a.ntbak")),
        }
    }
}

#[test]
fn nothing_is_waited_for_unless_it_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    disk(&d.join("disk.img"));
    let writer = Writer::on(&d.join("disk.img"), 0x1000, Duration::from_millis(20));
    for (name, more) in [
        ("a.ntbak", &[][..]),
        ("b.ntbak", &["--quiet", "0"]),
        ("c.ntbak", &["--quiet"]),
    ] {
        let args = [&["image", "disk.img", name, "--raw", "--json"][..], more].concat();
        let out = expect(d, 0, &args);
        assert!(of(&rows(&out.stdout), "still").is_empty(), "{more:?}");
        let out = rows(&expect(d, 0, &["info", name, "--json"]).stdout);
        assert!(of(&out, "archive")[0]["head"].get("stillness").is_none());
    }
    drop(writer);
    assert!(!d.join("state").exists(), "no snapshot, no record");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    disk(&d.join("disk.img"));
    for more in [
        &["--quiet", "5s", "--quiet-timeout", "3s"][..],
        &["--quiet", "0", "--quiet-strict", "--snapshot", "reflink"],
        &["--resume", "--snapshot", "reflink"],
        &["--keep-snapshot", "--snapshot", "none"],
        &["--snapshot", "vss"],
        &["--quiet=3h"],
    ] {
        let args = [&["image", "disk.img", "a.ntbak"][..], more].concat();
        expect(d, 2, &args);
    }
    nothing_written(&d.join("a.ntbak"));
}

#[test]
fn a_signal_ends_the_wait() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    disk(&d.join("disk.img"));
    let writer = Writer::on(&d.join("disk.img"), 0x1000, Duration::from_millis(50));
    let child = ntbak(d)
        .args([
            "image",
            "disk.img",
            "a.ntbak",
            "--quiet",
            "5s",
            "--progress",
            "always",
        ])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", "TERM", &id])
            .status()
            .unwrap()
            .success()
    );
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130));
    let said = text(&out.stderr);
    assert!(
        said.contains("Quiet period: 5.0 s of 5.0 s to go"),
        "{said}"
    );
    nothing_written(&d.join("a.ntbak"));
    drop(writer);
}

/// With the real numbers: pauses of 2 s fail, pauses of 4 s succeed. A real loop
/// device, written through the page cache.
#[test]
fn a_loop_device_with_pauses_of_two_and_four_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let image = d.join("disk.img");
    disk(&image);
    let Some(lo) = Loop::over(&image) else { return };
    let writer = Writer::on(&lo.0, 0x1000, Duration::from_secs(2));
    let args = |timeout| {
        vec![
            "image",
            arg(&lo.0),
            "a.ntbak",
            "--quiet",
            "3s",
            "--quiet-timeout",
            timeout,
            "--snapshot",
            "none",
        ]
    };
    let out = expect(d, 6, &args("7s"));
    let said = text(&out.stderr);
    assert!(
        said.contains("The source was not quiet for 3.0 s within 7.0 s: "),
        "{said}"
    );
    assert!(said.contains("the kernel's count of loop"), "{said}");
    nothing_written(&d.join("a.ntbak"));
    drop(writer);
    let writer = Writer::on(&lo.0, 0x1000, Duration::from_secs(4));
    let out = expect(d, 0, &args("80s"));
    assert!(
        text(&out.stdout).contains("Quiet for 3."),
        "{}",
        text(&out.stdout)
    );
    drop(writer);
    expect(d, 0, &["verify", "a.ntbak"]);
}

/// Writes that only wait in the cache of a mounted file system are found by
/// flushing it: a loop device with ext4 on it, written without any sync.
#[test]
fn a_mounted_file_system_is_flushed() {
    let Some(mount) = Mount::of("ext4", &["-q", "-F"]) else {
        return;
    };
    let out = Command::new("findmnt")
        .args(["-n", "-o", "SOURCE"])
        .arg(&mount.at)
        .output()
        .unwrap();
    let device = text(&out.stdout).trim().to_string();
    let dir = tempfile::tempdir().unwrap();
    let stop = Arc::<AtomicBool>::default();
    let (s, file) = (stop.clone(), mount.at.join("log"));
    // Into the page cache only, and seldom enough for every look at the counter.
    let thread = std::thread::spawn(move || {
        let mut n = 0u64;
        while !s.load(Ordering::SeqCst) {
            n += 1;
            fs::write(&file, n.to_string()).unwrap();
            std::thread::sleep(Duration::from_millis(300));
        }
    });
    let args = [
        "image",
        &device,
        "a.ntbak",
        "--raw",
        "--live",
        "--quiet",
        "900ms",
        "--quiet-timeout",
        "3s",
    ];
    let out = expect(dir.path(), 6, &args);
    assert!(
        text(&out.stderr).contains("writes were seen"),
        "{}",
        text(&out.stderr)
    );
    stop.store(true, Ordering::SeqCst);
    thread.join().unwrap();
    nothing_written(&dir.path().join("a.ntbak"));
}
