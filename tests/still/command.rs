//! `--snapshot command:PROGRAM`.

use super::snapshots::recorded;
use super::*;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

/// A program with these steps, which keeps a log, and the option that names it.
fn program(d: &Path, body: &str) -> String {
    let path = d.join("snap");
    let text = format!(
        "#!/bin/sh\nset -e\necho \"$NTBAK_ACTION $NTBAK_SOURCE $NTBAK_SNAPSHOT $NTBAK_STATE\" >>{0}/log\ncase $NTBAK_ACTION in\n{body}\nesac\n",
        d.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let _ = fs::remove_file(d.join("log"));
    format!("command:{}", path.display())
}

/// A run with a snapshot in this way.
fn image<'a>(archive: &'a str, way: &'a str) -> [&'a str; 7] {
    [
        "image",
        "disk.img",
        archive,
        "--quiet",
        "0",
        "--snapshot",
        way,
    ]
}

fn actions(d: &Path) -> Vec<String> {
    let log = fs::read_to_string(d.join("log")).unwrap_or_default();
    let words = log.lines().filter_map(|l| l.split(' ').next());
    words.map(str::to_owned).collect()
}

/// A signal while the program is at work, in each step.
#[test]
fn an_interrupt_in_each_step() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    disk(&d.join("disk.img"));
    for (body, at, want) in [
        (
            "prepare) sleep 100 ;; *) echo '{}' ;;",
            "prepare",
            &["prepare"][..],
        ),
        (
            "create) cp disk.img copy.img; sleep 100 ;; delete) rm copy.img ;; *) echo '{}' ;;",
            "create",
            &["prepare", "create", "delete"],
        ),
        (
            "create) cp disk.img copy.img; echo '{}' ;; describe) echo '{\"ready\": false}' ;; delete) rm copy.img ;;",
            "describe",
            &["prepare", "create", "describe", "delete"],
        ),
    ] {
        let way = program(d, body);
        let args = image("a.ntbak", &way);
        let mut c = ntbak(d);
        let child = c.args(args).stderr(std::process::Stdio::piped()).spawn();
        let child = child.unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while !actions(d).iter().any(|a| a == at) {
            assert!(Instant::now() < until, "{at} never came");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        let id = child.id().to_string();
        let told = Command::new("kill").args(["-s", "INT", &id]).status();
        assert!(told.unwrap().success());
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(130), "{at}: {}", text(&out.stderr));
        assert!(begun.elapsed() < Duration::from_secs(30), "{at}");
        let mut called = actions(d);
        called.dedup();
        assert_eq!(called, want);
        assert!(!d.join("copy.img").exists() && recorded(d).is_empty());
        nothing_written(&d.join("a.ntbak"));
    }
}

/// What a program may do that is odd and still right.
#[test]
fn a_child_that_is_left_and_a_source_that_grows() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    disk(&d.join("disk.img"));
    let bytes = fs::metadata(d.join("disk.img")).unwrap().len();
    // A child holds the output open; it is not waited for. The source grows as soon as
    // the copy is there: the copy is what counts, and all of it.
    let way = program(
        d,
        "prepare) ;; create) cp disk.img copy.img; truncate -s +1M disk.img; sleep 5 & echo '{}' ;;
describe) echo '{\"place\": \"copy.img\"}' ;; delete) rm copy.img ;;",
    );
    let args = image("a.ntbak", &way);
    expect(d, 0, &args);
    let size = |archive: &str| {
        let info = rows(&expect(d, 0, &["info", archive, "--json"]).stdout);
        of(&info, "archive")[0]["head"]["source"]["bytes"].as_u64()
    };
    assert_eq!(size("a.ntbak"), Some(bytes));
    let said = text(&expect(d, 0, &["info", "a.ntbak"]).stdout);
    assert!(said.contains("Held still   snapshot by command"), "{said}");
    // It shrinks behind the copy's back.
    let way = program(
        d,
        "prepare) ;; create) cp disk.img copy.img; truncate -s 5M disk.img; echo '{}' ;;
describe) echo '{\"place\": \"copy.img\"}' ;; delete) rm copy.img ;;",
    );
    let args = image("b.ntbak", &way);
    expect(d, 0, &args);
    assert_eq!(size("b.ntbak"), Some(bytes + (1 << 20)));
}

/// What is no snapshot, and what must not be told.
#[test]
fn the_source_itself_and_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    disk(&d.join("disk.img"));
    std::os::unix::fs::symlink("disk.img", d.join("link.img")).unwrap();
    fs::hard_link(d.join("disk.img"), d.join("hard.img")).unwrap();
    for (place, code, says) in [
        ("disk.img", 5, "is the source itself"),
        ("link.img", 5, "is the source itself"),
        ("hard.img", 5, "is the source itself"),
        ("", 1, "does not say where"),
        (
            "iscsi://u%averylongsecret@127.0.0.1:1/iqn.x/0",
            1,
            "127.0.0.1",
        ),
    ] {
        let way = program(
            d,
            &format!("describe) echo '{{\"place\": \"{place}\"}}' ;; *) echo '{{}}' ;;"),
        );
        let args = image("a.ntbak", &way);
        let out = expect(d, code, &args);
        let said = text(&out.stderr) + &text(&out.stdout);
        assert!(said.contains(says), "{place}: {said}");
        assert!(!said.contains("averylongsecret"), "{said}");
        assert_eq!(actions(d).last().unwrap(), "delete");
        nothing_written(&d.join("a.ntbak"));
    }
    for part in [
        "[18446744073709551615, 18446744073709551615]",
        "[1, 99999999999]",
    ] {
        let way = program(
            d,
            &format!(
                "create) cp disk.img copy.img; echo '{{}}' ;; describe) echo '{{\"place\": \"copy.img\", \"part\": {part}}}' ;; *) echo '{{}}' ;;"
            ),
        );
        let args = image("a.ntbak", &way);
        let said = text(&expect(d, 5, &args).stderr);
        assert!(said.contains("of the snapshot, which has"), "{said}");
    }
}

/// A program of the user's: the protocol, and what it may do wrong.
#[test]
fn a_command_of_the_users() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    disk(&d.join("disk.img"));
    let script = |body: &str| program(d, body);
    let way = script("*) ;;");
    let args = [
        "image",
        "disk.img",
        "a.ntbak",
        "--snapshot",
        &way,
        "--quiet",
        "0",
        "--json",
        "--force",
    ];
    script(
        "prepare) echo '{\"array\": 7}' ;;
create) cp \"$NTBAK_SOURCE\" copy.img; echo '{\"id\": \"x\\u0041\"}' ;;
describe) test -e asked && ready=true || ready=false; touch asked
  echo '{\"place\": \"'$PWD'/copy.img\", \"label\": \"copy of the array\", \"naa\": \"6000000000000001\", \"ready\": '$ready'}' ;;
delete) rm -f copy.img ;;",
    );
    let rows_ = rows(&expect(d, 0, &args).stdout);
    let still = &of(&rows_, "still")[0]["snapshot"];
    assert_eq!(
        (&still["provider"], &still["label"], &still["naa"]),
        (
            &"command".into(),
            &"copy of the array".into(),
            &"6000000000000001".into()
        )
    );
    let name = still["name"].as_str().unwrap();
    let log = fs::read_to_string(d.join("log")).unwrap();
    let source = d.join("disk.img");
    let source = source.canonicalize().unwrap();
    let want = format!(
        "prepare {0} {1} null\ncreate {0} {1} {{\"array\":7}}\ndescribe {0} {1} {{\"id\":\"xA\"}}\ndescribe {0} {1} {{\"id\":\"xA\"}}\ndelete {0} {1} {{\"id\":\"xA\"}}\n",
        source.display(),
        name
    );
    assert_eq!(log, want);
    assert!(!d.join("copy.img").exists() && recorded(d).is_empty());
    expect(d, 0, &["verify", "a.ntbak", "--against", "disk.img"]);
    fs::remove_file(d.join("a.ntbak")).unwrap();
    for (body, code, says) in [
        ("*) echo no >&2; exit 3 ;;", 1, "ended with status 3: no"),
        (
            "prepare) ;; create) echo '[1]' ;; delete) ;;",
            1,
            "did not print one JSON object",
        ),
        (
            "prepare) ;; create) echo '{} {}' ;; delete) ;;",
            1,
            "did not print one JSON object",
        ),
        (
            "prepare) ;; create) echo '{\"error\": \"no room\"}' ;; delete) ;;",
            1,
            "The program says: no room",
        ),
        (
            "prepare) ;; create) echo '{}' ;; describe) echo '{}' ;; delete) ;;",
            1,
            "does not say where",
        ),
        (
            "prepare) ;; create) echo '{}' ;; describe) echo '{\"place\": 7}' ;; delete) ;;",
            1,
            "not of its kind",
        ),
        (
            "prepare) ;; create) echo '{}' ;; describe) echo '{\"place\": \"x\", \"naa\": \"6000\"}' ;; delete) ;;",
            1,
            "is no designator",
        ),
        (
            "prepare) ;; create) echo \"{\\\"x\\\": \\\"$(head -c 200000 /dev/zero | tr '\\0' x)\\\"}\" ;; delete) ;;",
            1,
            "expected at most 65536",
        ),
        (
            "prepare) ;; create) head -c 3000000 /dev/zero ;; delete) ;;",
            1,
            "more than",
        ),
        // Shorter than the source: not a copy of it.
        (
            "prepare) ;; create) echo '{}' ;; describe) truncate -s 4096 s.img; echo '{\"place\": \"s.img\"}' ;; delete) rm s.img ;;",
            5,
            "fewer than the source's",
        ),
    ] {
        script(body);
        let rows_ = rows(&expect(d, code, &args).stdout);
        let message = rows_.last().unwrap()["message"].to_string();
        assert!(message.contains(says), "{body}: {message}");
        nothing_written(&d.join("a.ntbak"));
        assert!(recorded(d).is_empty(), "{body}");
        let log = fs::read_to_string(d.join("log")).unwrap();
        if log.contains("create") {
            assert!(log.contains("delete"), "{log}");
        }
    }
    // It cannot delete: said, and named from then on.
    script(
        "prepare) ;; create) cp \"$NTBAK_SOURCE\" copy.img; echo '{}' ;;
describe) echo '{\"place\": \"copy.img\"}' ;; delete) exit 1 ;;",
    );
    let rows_ = rows(&expect(d, 0, &args).stdout);
    assert!(
        of(&rows_, "warning")
            .iter()
            .any(|w| w["code"] == "snapshot-left")
    );
    assert_eq!(recorded(d)[0]["state"], "left");
    script("delete) rm copy.img ;;");
    expect(
        d,
        0,
        &[
            "snapshot",
            "delete",
            recorded(d)[0]["name"].as_str().unwrap(),
        ],
    );
    assert!(recorded(d).is_empty());
}
