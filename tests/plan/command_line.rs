//! `ntbak plan` on real volumes.

use crate::common::testdata;
use ntbak::copy::profile;
use serde_json::Value;
use std::process::Command;

fn lines(args: &[&str]) -> (bool, Vec<Value>) {
    let out = Command::new(env!("CARGO_BIN_EXE_ntbak"))
        .args(args)
        .args(["--json", "--progress", "never"])
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let rows = text.lines().map(|l| serde_json::from_str(l).unwrap());
    (out.status.success(), rows.collect())
}

#[test]
fn a_plan_moves_what_an_image_keeps() {
    let dir = tempfile::tempdir().unwrap();
    let volume = dir.path().join("volume.img");
    std::fs::write(&volume, testdata("attrlist")).unwrap();
    let path = volume.to_str().unwrap();
    let (ok, image) = lines(&["image", path, "-", "--dry-run"]);
    assert!(ok);
    let kept = image.iter().find(|r| r["type"] == "plan").unwrap()["kept_bytes"].as_u64();
    for p in profile::all() {
        let (ok, rows) = lines(&["plan", path, "--to", "-", "--profile", p.name]);
        let last = rows.last().unwrap();
        if p.check_dialect().is_err() || p.announced.check_backup(512).is_err() {
            assert!(!ok && last["type"] == "error", "{}", p.name);
            continue;
        }
        if p.name == "4kn" && !ok {
            // The copy of the boot sector behind the last cluster is one sector.
            let message = last["message"].as_str().unwrap();
            assert!(message.contains("multiples of 4096 bytes"), "{message}");
            continue;
        }
        assert!(ok, "{}: {last}", p.name);
        let n = |field: &str| last[field].as_u64().unwrap();
        assert_eq!(
            Some(n("copied_bytes") + n("host_bytes")),
            kept,
            "{}",
            p.name
        );
        let commands: Vec<_> = rows.iter().filter(|r| r["type"] == "command").collect();
        let sum = |field: &str| {
            commands
                .iter()
                .map(|c| c[field].as_u64().unwrap())
                .sum::<u64>()
        };
        assert_eq!(sum("pad"), n("pad_bytes"));
        assert_eq!(sum("bytes"), n("copied_bytes") + n("header_bytes"));
        let list = commands
            .iter()
            .map(|c| c["list"].as_str().unwrap().len() as u64 / 2);
        assert_eq!(list.sum::<u64>(), n("list_bytes"));
        assert_eq!(n("filemarks") + n("host_filemarks"), 1);
    }
}
