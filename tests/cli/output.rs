//! What goes where: results, words, colours, escapes, broken pipes.

use super::*;
use std::io::Read;
use std::process::Stdio;

#[test]
fn json_lines_have_a_type_and_a_schema() {
    let dir = quick();
    let d = dir.path();
    let rows = |args: &[&str], code| super::rows(&expect(d, code, args).stdout);
    let r = rows(
        &[
            "image",
            "quick.img",
            "a.ntbak",
            "--json",
            "--verify",
            "--hash",
            "sha256",
        ],
        0,
    );
    assert_eq!(of(&r, "plan").len(), 1);
    assert_eq!(of(&r, "partition").len(), 2);
    let volume = of(&r, "volume")[0];
    assert!(volume["resident"]["attributes"].as_u64().unwrap() > 0);
    assert!(volume["non_resident"]["bytes"].as_u64().unwrap() > 0);
    assert_eq!(volume["health"]["dirty"], false);
    assert!(of(&r, "status").len() >= 2);
    let summary = r.last().unwrap();
    assert_eq!(
        (&summary["type"], &summary["state"]),
        (&"summary".into(), &"verified".into())
    );
    let size = fs::metadata(d.join("a.ntbak")).unwrap().len();
    assert_eq!(summary["archive_bytes"], size);
    assert_eq!(summary["hashes"][0]["algorithm"], "sha256");

    assert_eq!(
        of(&rows(&["info", "a.ntbak", "--json"], 0), "archive")[0]["complete"],
        true
    );
    let list = rows(&["ls", "-R", "a.ntbak", "--json"], 0);
    assert!(
        of(&list, "entry")
            .iter()
            .any(|e| e["path"] == "/Documents/Table.csv")
    );
    for args in [
        &["verify", "a.ntbak", "--json"][..],
        &["verify", "quick.img", "--json"],
        &["info", "quick.img", "--json"],
        &["diff", "a.ntbak", "quick.img", "--json"],
        &["restore", "a.ntbak", "b.img", "--json"],
        &["extract", "a.ntbak", "/Welcome.txt", "--json"],
    ] {
        let r = rows(args, 0);
        assert_eq!(r.last().unwrap()["type"], "summary", "{args:?}");
    }
    // Where standard output carries data, the lines go to standard error.
    let out = expect(d, 0, &["cat", "a.ntbak", "/Welcome.txt", "--json"]);
    assert!(out.stdout.starts_with(b"This is"));
    assert_eq!(super::rows(&out.stderr).last().unwrap()["type"], "summary");
    let out = expect(d, 0, &["image", "quick.img", "-", "--json"]);
    assert!(out.stdout.starts_with(b"NTBKHEAD"));
    assert_eq!(super::rows(&out.stderr).last().unwrap()["type"], "summary");
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    volume(dir.path(), "bigdir");
    for args in [
        &["ls", "-lR", "bigdir.img"][..],
        &["ls", "-R", "bigdir.img", "--json"],
    ] {
        let mut child = ntbak()
            .current_dir(dir.path())
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 10];
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut first).unwrap();
        drop(stdout);
        let out = child.wait_with_output().unwrap();
        assert_eq!(
            (out.status.code(), text(&out.stderr)),
            (Some(0), String::new()),
            "{args:?}"
        );
    }
}

#[test]
fn a_full_disk_is_a_failure() {
    let dir = quick();
    if !Path::new("/dev/full").exists() {
        return;
    }
    for args in [
        &["ls", "-R", "quick.img"][..],
        &["cat", "quick.img", "/Welcome.txt"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let out = ntbak()
            .current_dir(dir.path())
            .args(args)
            .stdout(full)
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(1), "{args:?}");
        assert!(text(&out.stderr).contains("hint: "), "{args:?}");
    }
}

#[test]
fn colours_follow_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let colour = |vars: &[(&str, &str)]| {
        let mut c = ntbak();
        c.current_dir(dir.path())
            .args(["info", "none"])
            .envs(vars.iter().copied());
        c.output().unwrap().stderr.contains(&0x1b)
    };
    assert!(!colour(&[]), "not a terminal");
    assert!(colour(&[("CLICOLOR_FORCE", "1")]));
    assert!(!colour(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
    assert!(!colour(&[("TERM", "dumb")]));
}

#[test]
fn progress_and_words_stay_off_standard_output() {
    let dir = quick();
    let d = dir.path();
    let out = expect(
        d,
        0,
        &["image", "quick.img", "a.ntbak", "--progress", "always"],
    );
    let err = text(&out.stderr);
    assert!(err.contains("Copy: ") && err.contains("/s"), "{err}");
    assert!(!text(&out.stdout).contains("Copy: "));
    let out = expect(d, 0, &["image", "quick.img", "b.ntbak", "--quiet"]);
    assert!(out.stdout.is_empty() && out.stderr.is_empty());
    let out = expect(d, 0, &["verify", "a.ntbak"]);
    assert!(out.stderr.is_empty(), "no bar where there is no terminal");
    assert!(text(&out.stdout).starts_with("Sound: "));
}

#[test]
fn names_cannot_steer_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    volume(d, "names");
    for args in [
        &["ls", "-R", "names.img"][..],
        &["ls", "-lR", "names.img"],
        &["info", "names.img"],
    ] {
        let out = run(d, args);
        let bad = |b: &&u8| (**b < 0x20 && **b != b'\n') || **b == 0x7f;
        assert_eq!(out.stdout.iter().find(bad), None, "{args:?}");
    }
    let out = run(d, &["ls", "names.img", "/\x1b[2J"]);
    assert!(!out.stderr.contains(&0x1b));
}

#[test]
fn content_without_its_key_is_warned_about() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    volume(d, "efs");
    let out = expect(d, 0, &["cat", "efs.img", "/exact.bin"]);
    assert_eq!(out.stdout.len(), 4096);
    assert!(text(&out.stderr).contains("$EFS"), "{}", text(&out.stderr));
}

#[test]
fn deleted_files_come_from_a_volume_but_not_from_its_backup() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    volume(d, "deleted");
    for to in ["a", "b", "c"] {
        std::fs::create_dir(d.join(to)).unwrap();
    }
    expect(d, 0, &["extract", "deleted.img", "--deleted", "-C", "a"]);
    assert!(d.join("a/dir/inner.txt").is_file());
    expect(d, 0, &["extract", "deleted.img", "--mft", "67", "-C", "b"]);
    assert!(d.join("b/inner.txt").is_file());
    expect(d, 0, &["image", "deleted.img", "d.ntbak"]);
    let out = expect(d, 3, &["extract", "d.ntbak", "--deleted", "-C", "c"]);
    let err = text(&out.stderr);
    assert!(err.contains("not in the backup"), "{err}");
    assert!(d.join("c/resident.txt").is_file());
    let two = ["extract", "deleted.img", "/x", "--mft", "67"];
    expect(d, 2, &two);
    expect(d, 2, &["extract", "deleted.img"]);
    expect(d, 0, &["ls", "--deleted", "deleted.img"]);
}
