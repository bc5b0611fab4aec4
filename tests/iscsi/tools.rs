//! libiscsi's tools against our target, where they are installed.

use super::{NAME, config, serve};
use crate::toy::Toy;
use std::process::{Command, Stdio};

/// Runs a tool for at most a minute; none when it is not installed.
fn run(tool: &str, args: &[&str]) -> Option<String> {
    let out = Command::new("timeout")
        .args(["60", tool])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    (out.status.code() != Some(127)).then(|| text + &String::from_utf8_lossy(&out.stderr))
}

#[test]
fn libiscsi_lists_and_inquires() {
    let (server, _toy) = serve(config(), Toy::new(2, 1 << 20));
    let at = server.address();
    let Some(list) = run("iscsi-ls", &["-s", &format!("iscsi://{at}")]) else {
        return;
    };
    assert!(
        list.contains(&format!("Target:{NAME} Portal:{at},1")),
        "{list}"
    );
    assert!(list.contains("Lun:1"), "{list}");
    let url = format!("iscsi://{at}/{NAME}/0");
    let inq = run("iscsi-inq", &[&url]).unwrap();
    assert!(inq.contains("Vendor:NTBAK"), "{inq}");
    let crc = run("iscsi-inq", &[&format!("{url}?header_digest=crc32c")]).unwrap();
    assert!(crc.contains("Vendor:NTBAK"), "{crc}");
}

#[test]
fn libiscsi_logs_in_with_chap() {
    let mut c = config();
    c.chap = Some(ntbak::iscsi::chap::Credentials {
        user: "me".into(),
        secret: "a secret of some length".replace(' ', "-"),
    });
    let (server, _toy) = serve(c, Toy::new(1, 1 << 20));
    let at = server.address();
    let Some(inq) = run(
        "iscsi-inq",
        &[&format!("iscsi://me%a-secret-of-some-length@{at}/{NAME}/0")],
    ) else {
        return;
    };
    assert!(inq.contains("Vendor:NTBAK"), "{inq}");
    let wrong = run("iscsi-inq", &[&format!("iscsi://me%wrong@{at}/{NAME}/0")]).unwrap();
    assert!(!wrong.contains("Vendor:NTBAK"), "{wrong}");
}

/// The tests of the session layer that both well-known targets pass, and the one
/// that neither does.
#[test]
fn libiscsi_tests_of_the_session() {
    let (server, _toy) = serve(config(), Toy::new(1, 1 << 20));
    let url = format!("iscsi://{}/{NAME}/0", server.address());
    for suite in [
        "iSCSI.iSCSIcmdsn",
        "iSCSI.iSCSIdatasn",
        "iSCSI.iSCSIResiduals",
        "iSCSI.iSCSITMF",
    ] {
        let Some(text) = run("iscsi-test-cu", &["-d", "-V", "-t", suite, &url]) else {
            return;
        };
        // tests: total, run, passed, failed.
        let line = text.lines().find_map(|l| l.trim().strip_prefix("tests "));
        let counts: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        assert_ne!(counts.get(1), Some(&"0"), "{suite}\n{text}");
        assert_eq!(counts.get(3), Some(&"0"), "{suite}\n{text}");
    }
}
