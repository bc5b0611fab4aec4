//! Help, man pages, completions, usage errors.

use super::*;

const VERBS: [&str; 12] = [
    "image", "restore", "verify", "info", "ls", "cat", "extract", "diff", "plan", "probe",
    "target", "tape",
];

#[test]
fn every_verb_explains_itself() {
    let dir = tempfile::tempdir().unwrap();
    let all = text(&expect(dir.path(), 0, &["--help"]).stdout);
    assert!(all.contains("130  interrupted"), "{all}");
    assert!(!all.contains("generate"), "{all}");
    for verb in VERBS {
        let help = text(&expect(dir.path(), 0, &[verb, "--help"]).stdout);
        assert!(help.contains("Examples:\n  ntbak "), "{help}");
        assert!(help.contains("130  interrupted"), "{help}");
        assert!(all.contains(verb), "{all}");
    }
    let version = text(&expect(dir.path(), 0, &["--version"]).stdout);
    assert_eq!(version, format!("ntbak {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn man_pages_and_completions_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let man = text(&expect(dir.path(), 0, &["generate", "man"]).stdout);
    assert!(man.contains(".TH ntbak"), "{man}");
    expect(dir.path(), 0, &["generate", "man", "man1"]);
    for verb in VERBS {
        let page = fs::read_to_string(dir.path().join(format!("man1/ntbak-{verb}.1"))).unwrap();
        assert!(page.contains("Exit codes"), "{page}");
        assert!(man.contains(&format!("ntbak-{verb}")), "{verb}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let out = expect(dir.path(), 0, &["generate", "completions", shell]);
        assert!(text(&out.stdout).contains("sector-size"), "{shell}");
    }
}

#[test]
fn usage_errors_end_with_2() {
    let dir = quick();
    for args in [
        &[][..],
        &["frob"],
        &["ls"],
        &["image", "quick.img"],
        &["image", "quick.img", "x", "--level", "99"],
        &["image", "quick.img", "x", "--skip", "everything"],
        &["image", "quick.img", "x", "--sector-size", "1000"],
        &["image", "quick.img", "-", "--resume"],
        &["image", "quick.img", "-", "--verify"],
        &["ls", "quick.img", "--mft", "x"],
        &["cat", "quick.img"],
        &["extract", "quick.img", "/", "-C", "nowhere"],
        &["verify", "quick.img", "--against", "quick.img"],
    ] {
        let out = expect(dir.path(), 2, args);
        assert!(out.stdout.is_empty(), "{args:?}");
        assert!(!out.stderr.is_empty(), "{args:?}");
    }
    let out = expect(dir.path(), 2, &["frob", "--json"]);
    assert_eq!(of(&rows(&out.stdout), "error")[0]["exit_code"], 2);
}
