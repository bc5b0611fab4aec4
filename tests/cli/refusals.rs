//! What safety rules refuse, and how errors are told.

use super::*;

#[test]
fn dangerous_requests_end_with_5() {
    let dir = quick();
    let d = dir.path();
    expect(d, 0, &["image", "quick.img", "a.ntbak", "-q"]);
    fs::write(d.join("there.img"), b"mine").unwrap();
    fs::copy(d.join("quick.img"), d.join("s.ntbak.partial")).unwrap();
    fs::copy(d.join("a.ntbak"), d.join("t.img.partial")).unwrap();
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
        (
            &["image", "s.ntbak.partial", "s.ntbak", "--force"],
            "same storage",
        ),
        (
            &["image", "quick.img", "m.ntbak", "--map", "./m.ntbak"],
            "over the archive",
        ),
        (
            &["image", "quick.img", "m", "--map", "m.partial", "--force"],
            "over the archive",
        ),
        (
            &["image", "quick.img", "m.ntbak", "--map", "there.img"],
            "exists already",
        ),
        (
            &["restore", "t.img.partial", "t.img", "--force"],
            "same storage",
        ),
        (&["restore", "a.ntbak", "there.img", "--dry-run"], "exists"),
        (&["restore", "a.ntbak", "t.img", "--dry-run"], "in the way"),
        (&["restore", "a.ntbak", "there.img"], "exists"),
        (&["restore", "cut.ntbak", "new.img"], "not complete"),
    ] {
        let out = expect(d, 5, args);
        let err = text(&out.stderr);
        assert!(err.contains(words), "{args:?}: {err}");
        assert!(err.contains("\nhint: "), "{args:?}: {err}");
    }
    assert_eq!(fs::read(d.join("there.img")).unwrap(), b"mine");
    assert_eq!(fs::read(d.join("t.img.partial")).unwrap(), whole);
    assert!(!d.join("new.img").exists() && !d.join("m.ntbak").exists());
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
    for args in [
        &["restore", "a.ntbak", "b.img", "--dry-run", "--json"][..],
        &["image", "quick.img", "b.ntbak", "--dry-run", "--json"],
    ] {
        let rows = rows(&expect(d, 0, args).stdout);
        let last = rows.last().unwrap();
        assert_eq!(
            (&last["type"], &last["state"]),
            (&"summary".into(), &"planned".into())
        );
    }
    let mut names: Vec<_> = fs::read_dir(d)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["a.ntbak", "quick.img"]);
}

#[test]
fn an_archive_may_lie_in_shared_memory() {
    let dir = quick();
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    let to = memory.path().join("a.ntbak");
    expect(
        dir.path(),
        0,
        &["image", "quick.img", to.to_str().unwrap(), "-q"],
    );
    assert!(to.exists());
}

/// Detaches and unmounts when it goes.
struct Away(&'static str, Vec<String>);

impl Drop for Away {
    fn drop(&mut self) {
        let _ = Command::new(self.0).args(&self.1).status();
    }
}

#[test]
fn a_loop_device_over_a_mounted_file_is_in_use() {
    let dir = quick();
    let d = dir.path();
    expect(d, 0, &["image", "quick.img", "a.ntbak", "-q"]);
    expect(
        d,
        0,
        &["restore", "a.ntbak", "v.img", "--partition", "1", "-q"],
    );
    fs::create_dir(d.join("m")).unwrap();
    let quiet = |program: &str, args: &[&str]| {
        let out = Command::new(program).current_dir(d).args(args).output();
        out.ok().filter(|o| o.status.success())
    };
    let Some(made) = quiet("losetup", &["-f", "--show", "v.img"]) else {
        eprintln!("skipped: no loop device");
        return;
    };
    let device = text(&made.stdout).trim().to_string();
    let _detach = Away("losetup", vec!["-d".into(), device.clone()]);
    expect(d, 0, &["image", &device, "b.ntbak", "-q"]);
    if quiet("mount.ntfs-3g", &["v.img", "m"]).is_none() {
        eprintln!("skipped: no ntfs-3g");
        return;
    }
    let _unmount = Away("umount", vec![d.join("m").display().to_string()]);
    let before = fs::read(d.join("v.img")).unwrap();
    for args in [
        &["image", &device, "c.ntbak"][..],
        &["restore", "b.ntbak", &device, "--yes"],
        &["restore", "b.ntbak", &device, "--dry-run"],
    ] {
        let err = text(&expect(d, 5, args).stderr);
        assert!(err.contains("mounted writable"), "{err}");
    }
    assert!(fs::read(d.join("v.img")).unwrap() == before);
}
