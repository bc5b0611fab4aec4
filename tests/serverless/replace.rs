//! From tape to a disk of another length: by a copy manager, and by the host.

use super::own;
use super::rig::Lab;
use std::fs;

/// The smallest length that a plan names.
fn smallest(lab: &Lab) -> u64 {
    let dry = ["restore", lab.tape(), "none.img", "--dry-run", "--json"];
    let plan = lab.expect(0, &dry).rows("plan").remove(0);
    plan["smallest"]["relocated"].as_u64().unwrap()
}

fn one(name: &str, profile: &str, larger: bool) {
    let source = own(name);
    let what = format!("{name} {profile}");
    let mut lab = Lab::with(&source, profile);
    lab.image(0);
    let len = match larger {
        true => fs::metadata(&source).unwrap().len() * 3 / 2,
        false => smallest(&lab),
    };
    lab.stop();
    lab.replace_disk(len);
    lab.serve(profile, "size=64G");
    let grow: &[&str] = if larger { &["--grow", "1"] } else { &[] };
    let how = [&["--yes", "--zero-free", "--verify", "--json"], grow].concat();
    let args = [&["restore", lab.tape(), lab.new_disk()], &how[..]].concat();
    let made = lab.expect(0, &args).summary();
    assert!(
        made["copied_bytes"].as_u64().unwrap_or(0) > 0,
        "{what}: {made}"
    );
    assert_eq!(made["state"], "verified", "{what}: {made}");
    // The host makes the same of it.
    let size = len.to_string();
    let args = [
        &[
            "restore",
            lab.tape(),
            "host.img",
            "--size",
            &size,
            "--verify",
            "--json",
        ],
        grow,
    ];
    let made = lab.expect(0, &args.concat()).summary();
    assert_eq!(made["state"], "verified", "{what}: {made}");
    let (old, new) = (lab.old_file(), lab.new_file());
    lab.stop();
    let by_host = fs::read(lab.file("host.img")).unwrap();
    let by_manager = fs::read(&new).unwrap();
    assert_eq!(
        (by_host.len(), by_manager.len()),
        (len as usize, len as usize)
    );
    let differs = by_host.iter().zip(&by_manager).position(|(a, b)| a != b);
    assert_eq!(differs, None, "{what}");
    let said = lab.expect(0, &["diff", &old, &new]).said();
    assert!(
        said.contains("0 added, 0 removed, 0 changed"),
        "{what}: {said}"
    );
}

#[test]
fn smaller_and_larger_disks_by_a_copy_manager() {
    for profile in ["full-ntbak", "tiny"] {
        for name in ["quick", "disk-gpt"] {
            for larger in [false, true] {
                one(name, profile, larger);
            }
        }
    }
}
