//! `ntbak target`: it says where its units are, serves them, and ends well.

use super::*;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

/// A running target, and what it prints.
struct Served {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Served {
    fn start(dir: &Path, args: &[&str]) -> Self {
        let mut child = ntbak()
            .current_dir(dir)
            .args(["target", "--listen", "127.0.0.1:0", "--json"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn row(&mut self) -> serde_json::Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        rows(line.as_bytes()).remove(0)
    }

    /// Ends it as a service manager would.
    fn end(mut self) -> Vec<serde_json::Value> {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", "TERM", &id]).status();
        assert!(sent.unwrap().success());
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut self.lines, &mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
        rows(&rest)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn disk(dir: &Path, name: &str) {
    File::create(dir.join(name))
        .and_then(|f| f.set_len(1 << 20))
        .unwrap();
}

#[test]
fn units_are_numbered_in_the_order_of_the_options() {
    let dir = tempfile::tempdir().unwrap();
    disk(dir.path(), "a.img");
    disk(dir.path(), "b.img");
    let args = [
        "--disk",
        "a=a.img",
        "--tape",
        "t=t.tap,size=1M",
        "--disk",
        "b=b.img,ro,block=4096",
    ];
    let mut served = Served::start(dir.path(), &args);
    let units: Vec<_> = (0..3).map(|_| served.row()).collect();
    for (lun, (unit, name)) in units.iter().zip(["a", "t", "b"]).enumerate() {
        assert_eq!((&unit["lun"], &unit["name"]), (&lun.into(), &name.into()));
        let url = unit["url"].as_str().unwrap();
        assert!(
            url.starts_with("iscsi://127.0.0.1:") && !url.contains(":0/"),
            "{url}"
        );
        assert!(
            url.ends_with(&format!("/iqn.2026-11.org.ntbak:target/{lun}")),
            "{url}"
        );
        assert!(unit["naa"].as_str().unwrap().starts_with('6'));
    }
    assert_eq!(units[1]["kind"], "tape");
    assert_eq!(units[2]["read_only"], true);
    assert_eq!(
        (&units[2]["bytes"], &units[2]["block_size"]),
        (&1048576.into(), &4096.into())
    );
    let port = units[0]["url"].as_str().unwrap();
    let port = port.split(['/', ':']).nth(4).unwrap();
    std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    let end = served.end();
    assert_eq!(of(&end, "served").len(), 3);
}

#[test]
fn what_cannot_be_served_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    disk(d, "a.img");
    for (code, args) in [
        (2, &[][..]),
        (2, &["--disk", "a.img"]),
        (2, &["--disk", "a=a.img,block=520"]),
        (2, &["--disk", "a=a.img,ro", "--disk", "a=a.img,ro"]),
        (2, &["--disk", "a=a.img", "--name", "Disk"]),
        (2, &["--disk", "a=a.img", "--chap", "user:short"]),
        (2, &["--disk", "a=a.img,bad=9999999+1"]),
        (2, &["--disk", "a=a.img", "--listen", "127.0.0.1:iscsi"]),
        (5, &["--disk", "a=a.img", "--disk", "b=a.img"]),
        (1, &["--disk", "a=missing.img"]),
        (1, &["--disk", "a=a.img", "--listen", "192.0.2.1:0"]),
    ] {
        expect(d, code, &[&["target"], args].concat());
    }
}
