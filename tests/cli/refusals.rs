//! What safety rules refuse, and how errors are told.

use super::*;

#[test]
fn dangerous_requests_end_with_5() {
    let dir = quick();
    let d = dir.path();
    expect(d, 0, &["image", "quick.img", "a.ntbak", "-q"]);
    fs::write(d.join("there.img"), b"mine").unwrap();
    let whole = fs::read(d.join("a.ntbak")).unwrap();
    fs::write(d.join("cut.ntbak"), &whole[..whole.len() - 1024]).unwrap();
    for (args, words) in [
        (&["image", "quick.img", "a.ntbak"][..], "exists already"),
        (
            &["image", "quick.img", "quick.img", "--force"],
            "same storage",
        ),
        (
            &["image", "quick.img", "b.ntbak", "--map", "quick.img"],
            "same storage",
        ),
        (
            &["restore", "a.ntbak", "a.ntbak", "--force"],
            "same storage",
        ),
        (&["image", "quick.img", "/dev/nothing"], "where devices are"),
        (&["restore", "a.ntbak", "there.img"], "exists"),
        (&["restore", "cut.ntbak", "new.img"], "not complete"),
    ] {
        let out = expect(d, 5, args);
        let err = text(&out.stderr);
        assert!(err.contains(words), "{args:?}: {err}");
        assert!(err.contains("\nhint: "), "{args:?}: {err}");
    }
    assert_eq!(fs::read(d.join("there.img")).unwrap(), b"mine");
    assert!(!d.join("new.img").exists());
    assert_eq!(fs::read(d.join("a.ntbak")).unwrap(), whole);
}

#[test]
fn every_error_says_what_to_do() {
    let dir = quick();
    let d = dir.path();
    fs::write(d.join("noise"), vec![0x5a; 1 << 20]).unwrap();
    for args in [
        &["image", "none.img", "x"][..],
        &["info", "none.img"],
        &["ls", "quick.img", "/none"],
        &["cat", "quick.img", "/Documents"],
        &["ls", "quick.img", "p9:/"],
        &["restore", "noise", "x"],
        &["restore", "noise", "/dev/nothing"],
        &["image", "/dev/null", "x"],
    ] {
        let out = run(d, args);
        let code = out.status.code().unwrap();
        assert!((1..=5).contains(&code), "{args:?}: {code}");
        let err = text(&out.stderr);
        assert!(
            err.contains("error: ") && err.contains("\nhint: "),
            "{args:?}: {err}"
        );
        assert!(out.stdout.is_empty(), "{args:?}");
        let json = run(d, &[args, &["--json"]].concat());
        // `cat` keeps standard output for the content.
        let lines = if args[0] == "cat" {
            json.stderr
        } else {
            json.stdout
        };
        let rows = rows(&lines);
        let last = rows.last().unwrap();
        assert_eq!(last["type"], "error", "{args:?}");
        assert_eq!(last["exit_code"], code);
        assert!(!last["hint"].as_str().unwrap().is_empty());
    }
}

#[test]
fn a_dry_run_writes_nothing() {
    let dir = quick();
    let d = dir.path();
    let out = expect(d, 0, &["image", "quick.img", "a.ntbak", "--dry-run"]);
    let said = text(&out.stdout);
    assert!(
        said.contains("Partition 1: NTFS") && said.contains("extents"),
        "{said}"
    );
    expect(d, 0, &["image", "quick.img", "a.ntbak", "-q"]);
    expect(d, 0, &["restore", "a.ntbak", "b.img", "--dry-run"]);
    let mut names: Vec<_> = fs::read_dir(d)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["a.ntbak", "quick.img"]);
}
