//! Whole jobs, end to end.

use super::*;
use std::process::Stdio;

#[test]
fn image_verify_browse_restore() {
    let dir = quick();
    let d = dir.path();
    let said = text(&expect(d, 0, &["image", "quick.img", "a.ntbak"]).stdout);
    assert!(said.contains("Not verified"), "{said}");
    assert!(
        said.contains("Resident") && said.contains("Non-resident"),
        "{said}"
    );
    let said = text(&expect(d, 0, &["verify", "a.ntbak", "--against", "quick.img"]).stdout);
    assert!(
        said.starts_with("Sound") && said.contains("the same"),
        "{said}"
    );
    let list = text(&expect(d, 0, &["ls", "-R", "a.ntbak"]).stdout);
    assert!(
        list.contains("\n/Documents/Letter.txt:Zone.Identifier\n"),
        "{list}"
    );
    assert_eq!(list, text(&expect(d, 0, &["ls", "-R", "quick.img"]).stdout));
    let said = text(&expect(d, 0, &["restore", "a.ntbak", "b.img", "--verify"]).stdout);
    assert!(said.contains("Verified"), "{said}");
    expect(d, 0, &["diff", "quick.img", "b.img"]);
    expect(d, 0, &["verify", "a.ntbak", "--against", "b.img"]);
    for view in ["quick.img", "a.ntbak", "b.img"] {
        let out = expect(d, 0, &["cat", view, "p1:/Documents/Table.csv"]);
        assert_eq!(out.stdout.len(), 7352, "{view}");
    }
    // Restoring one partition gives the volume itself.
    expect(
        d,
        0,
        &["restore", "a.ntbak", "p1.img", "--partition", "1", "-q"],
    );
    expect(
        d,
        0,
        &[
            "verify",
            "a.ntbak",
            "--against",
            "p1.img",
            "--partition",
            "1",
        ],
    );
    expect(d, 0, &["ls", "p1.img", "/Pictures"]);
}

#[test]
fn through_a_pipe() {
    let dir = quick();
    let d = dir.path();
    let mut image = ntbak()
        .current_dir(d)
        .args(["image", "quick.img", "-", "-q"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let restored = ntbak()
        .current_dir(d)
        .args(["restore", "-", "b.img", "-q", "--verify"])
        .stdin(image.stdout.take().unwrap())
        .status()
        .unwrap();
    assert!(image.wait().unwrap().success() && restored.success());
    expect(d, 0, &["diff", "quick.img", "b.img"]);
}

#[test]
fn a_disk_with_several_volumes() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    volume(d, "disk-mbr");
    let all = text(&expect(d, 0, &["ls", "-R", "disk-mbr.img"]).stdout);
    assert!(
        all.starts_with("p1:/\n") && all.contains("\np5:/\n"),
        "{all}"
    );
    let err = text(&expect(d, 2, &["ls", "disk-mbr.img"]).stderr);
    assert!(err.contains("pN:"), "{err}");
    expect(d, 0, &["ls", "disk-mbr.img", "p5:/"]);
    expect(d, 0, &["image", "disk-mbr.img", "a.ntbak", "-q"]);
    expect(d, 0, &["restore", "a.ntbak", "b.img", "-q"]);
    expect(d, 0, &["diff", "disk-mbr.img", "b.img"]);
    let other = text(&expect(d, 0, &["ls", "-R", "a.ntbak"]).stdout);
    assert_eq!(all, other);
}

#[test]
fn damage_is_found_and_named() {
    let dir = quick();
    let d = dir.path();
    expect(d, 0, &["image", "quick.img", "a.ntbak", "-q"]);
    let mut bytes = fs::read(d.join("a.ntbak")).unwrap();
    bytes[90_000] ^= 1;
    fs::write(d.join("bad.ntbak"), &bytes).unwrap();
    let err = text(&expect(d, 4, &["verify", "bad.ntbak"]).stderr);
    assert!(err.contains("warning: ") && err.contains("hit: /"), "{err}");
    let said = text(&expect(d, 4, &["restore", "bad.ntbak", "b.img"]).stdout);
    assert!(said.contains("Not finished: b.img.partial"), "{said}");
    assert!(!said.contains("Written"), "{said}");
    let args = ["restore", "bad.ntbak", "b.img", "--force", "--json"];
    let r = rows(&expect(d, 4, &args).stdout);
    assert_eq!(r.last().unwrap()["state"], "unfinished");
    assert!(!d.join("b.img").exists() && d.join("b.img.partial").exists());
    expect(
        d,
        4,
        &["restore", "bad.ntbak", "b.img", "--partial", "--force"],
    );
    assert!(d.join("b.img").exists());

    // A source that changed since.
    let mut image = fs::read(d.join("quick.img")).unwrap();
    image[0x10_0003] ^= 1;
    fs::write(d.join("other.img"), &image).unwrap();
    let err = text(&expect(d, 4, &["verify", "a.ntbak", "--against", "other.img"]).stderr);
    assert!(err.contains("0x100000"), "{err}");
}

#[test]
fn health_and_skipping() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    volume(d, "dirty-hibernated");
    let args = [
        "image",
        "dirty-hibernated.img",
        "a.ntbak",
        "--skip",
        "pagefile,hiberfil,vss",
    ];
    let out = expect(d, 0, &args);
    let (said, err) = (text(&out.stdout), text(&out.stderr));
    assert!(
        said.contains("Dirty flag   set") && said.contains("hiberfil.sys begins with"),
        "{said}"
    );
    assert!(said.contains("Left out     /pagefile.sys"), "{said}");
    assert!(
        err.contains("warning: Partition 1: the dirty flag"),
        "{err}"
    );
    expect(d, 0, &["verify", "a.ntbak"]);
    let info = text(&expect(d, 0, &["info", "a.ntbak"]).stdout);
    assert!(info.contains("--skip pagefile,hiberfil,vss"), "{info}");
}

#[test]
fn extract_takes_files_out() {
    let dir = quick();
    let d = dir.path();
    fs::create_dir(d.join("out")).unwrap();
    expect(
        d,
        0,
        &[
            "extract",
            "quick.img",
            "/Documents",
            "/Welcome.txt",
            "-C",
            "out",
        ],
    );
    assert_eq!(
        fs::read(d.join("out/Documents/Table.csv")).unwrap().len(),
        7352
    );
    assert!(d.join("out/Welcome.txt").exists());
}

#[test]
fn verify_of_a_volume_says_what_was_checked() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let path = volume(d, "links");
    let said = text(&expect(d, 0, &["verify", "links.img"]).stdout);
    assert!(
        said.contains("\nFile records and $Bitmap agree; "),
        "{said}"
    );
    assert!(
        !said.contains("Sound") && !said.contains("Besides"),
        "{said}"
    );
    for args in [
        &["verify", "-q", "links.img"][..],
        &["verify", "-q", "a.ntbak"],
    ] {
        if args[2] == "a.ntbak" {
            expect(d, 0, &["image", "links.img", "a.ntbak", "-q"]);
        }
        let out = expect(d, 0, args);
        assert!(out.stdout.is_empty() && out.stderr.is_empty(), "{args:?}");
    }
    let args = ["verify", "links.img", "--second-opinion", "--json"];
    let r = rows(&expect(d, 0, &args).stdout);
    assert_eq!(of(&r, "second_opinion").len(), 1);
    assert_eq!(r.last().unwrap()["type"], "summary");
    for s in of(&r, "status") {
        assert_eq!(s["unit"], "items", "{s}");
    }

    // Without the copy of the boot sector nothing is lost.
    let bytes = fs::read(&path).unwrap();
    let sectors = u64::from_le_bytes(bytes[0x28..0x30].try_into().unwrap()) as usize;
    let at = sectors * usize::from(u16::from_le_bytes([bytes[11], bytes[12]]));
    fs::write(d.join("short.img"), &bytes[..at]).unwrap();
    let said = text(&expect(d, 0, &["verify", "short.img"]).stdout);
    assert!(
        said.contains("Besides") && said.contains("ends before"),
        "{said}"
    );

    // The copy is in use when the first is damaged.
    let mut wrong = bytes.clone();
    wrong[..512].fill(0x5a);
    fs::write(d.join("first.img"), &wrong).unwrap();
    let said = text(&expect(d, 0, &["info", "first.img"]).stdout);
    assert!(
        said.contains("Boot copy    in use, because the first"),
        "{said}"
    );
    assert!(said.contains("$MFTMirr     same"), "{said}");
    expect(d, 4, &["verify", "first.img"]);

    // A digest of everything reads the file records once more.
    let args = [
        "image",
        "links.img",
        "b.ntbak",
        "--hash",
        "md5",
        "--dry-run",
    ];
    let said = text(&expect(d, 0, &args).stdout);
    assert!(said.contains("once more for the digest"), "{said}");
}
