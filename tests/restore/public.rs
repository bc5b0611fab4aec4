//! Volumes that Windows made, onto disks of other sizes. All of them with
//! `NTBAK_LONG`, else a few.

use crate::common;
use crate::disks::sound;
use crate::program::{Dir, ntbak, text};
use std::fs;
use std::path::Path;

fn run(dir: &Path, args: &[&str]) -> (Option<i32>, String) {
    let out = ntbak().current_dir(dir).args(args).output().unwrap();
    (out.status.code(), text(&out.stdout) + &text(&out.stderr))
}

fn one(name: &str, is_sound: bool) {
    let Some(path) = common::image(name) else {
        return;
    };
    let dir = Dir::empty();
    let image = path.to_str().unwrap();
    let (code, said) = run(&dir, &["image", image, "a.ntbak", "-q"]);
    assert!(matches!(code, Some(0 | 3)), "{name}: {said}");
    let (before, _) = run(&dir, &["verify", "--volume", image, "-q"]);
    let len = fs::metadata(&path).unwrap().len();
    let half = (len * 3 / 2).to_string();
    for how in [
        &["--size", "min"][..],
        &["--size", &half],
        &["--size", &half, "--grow", "1"],
        &["--defragment"],
        &["--size", "min", "--defragment", "--new-ids"],
    ] {
        let what = format!("{name} {}", how.join(" "));
        let args = ["restore", "a.ntbak", "r.img", "--force", "--verify", "-q"];
        let (code, said) = run(&dir, &[&args[..], how].concat());
        if !is_sound && matches!(code, Some(1 | 5)) {
            assert!(said.contains("hint:"), "{what}: {said}");
            let _ = fs::remove_file(dir.join("r.img.partial"));
            continue;
        }
        assert!(matches!(code, Some(0 | 3)), "{what}: {code:?}: {said}");
        let new = dir.join("r.img");
        let (after, said) = run(&dir, &["verify", "--volume", "r.img", "-q"]);
        assert!(
            after <= before,
            "{what}: {before:?} before, {after:?} now: {said}"
        );
        if is_sound {
            let (code, said) = run(&dir, &["diff", image, "r.img"]);
            assert_eq!(code, Some(0), "{what}: {said}");
            if fs::metadata(&new).unwrap().len() < 512 << 20 {
                sound(&new, 512);
            }
        }
    }
}

#[test]
fn volumes_of_windows() {
    let all = [
        "v01", "v02", "v03", "v04", "v05", "v06", "v07", "v08", "v09", "v10", "v11", "v12", "v13",
        "v15",
    ];
    let some = ["v04", "v06", "v09", "v10", "v13"];
    let long = std::env::var_os("NTBAK_LONG").is_some();
    for name in if long { &all[..] } else { &some[..] } {
        one(name, true);
    }
}

#[test]
fn damaged_volumes_are_restored_or_refused() {
    let all = ["c01", "c03", "c04", "c05", "c06", "c07"];
    let long = std::env::var_os("NTBAK_LONG").is_some();
    for name in if long { &all[..] } else { &all[..3] } {
        one(name, false);
    }
}
