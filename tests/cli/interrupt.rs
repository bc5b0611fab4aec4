//! A signal stops a run, and what was written is taken up again.

use super::*;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Bytes that do not shrink, so that the work takes its time.
fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    let mut out = Vec::with_capacity(len);
    while out.len() < len {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&x.to_le_bytes());
    }
    out
}

#[test]
fn an_interrupted_image_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let bytes = noise(96 << 20);
    fs::write(d.join("disk.img"), &bytes).unwrap();
    for signal in ["INT", "TERM", "HUP"] {
        let partial = d.join("a.ntbak.partial");
        let _ = fs::remove_file(&partial);
        let slow = [
            "image",
            "disk.img",
            "a.ntbak",
            "--raw",
            "--level",
            "19",
            "--threads",
            "1",
        ];
        let child = ntbak()
            .current_dir(d)
            .args(slow)
            .arg("-q")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while fs::metadata(&partial).map_or(0, |m| m.len()) < 2 << 20 {
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "nothing is written"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let id = child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", signal, &id])
                .status()
                .unwrap()
                .success()
        );
        let out = child.wait_with_output().unwrap();
        let err = text(&out.stderr);
        assert_eq!(out.status.code(), Some(130), "{signal}: {err}");
        assert!(
            err.contains("Interrupted") && err.contains("--resume"),
            "{err}"
        );
        assert!(partial.exists() && !d.join("a.ntbak").exists());
    }
    let go_on = ["image", "disk.img", "a.ntbak", "--raw", "--resume"];
    let said = text(&expect(d, 0, &go_on).stdout);
    assert!(said.contains("Taken over"), "{said}");
    expect(d, 0, &["verify", "a.ntbak", "--against", "disk.img"]);
    expect(d, 0, &["restore", "a.ntbak", "b.img", "-q"]);
    assert!(
        fs::read(d.join("b.img")).unwrap() == bytes,
        "restored bytes differ"
    );
}
