//! Writers that the count of the source alone does not show, and sources that become
//! another one while it is waited.

use super::*;
use std::time::Instant;

/// Waits without a snapshot.
fn waiting<'a>(source: &'a str, quiet: &'a str, timeout: &'a str) -> Vec<&'a str> {
    vec![
        "image",
        source,
        "a.ntbak",
        "--raw",
        "--snapshot",
        "none",
        "--quiet",
        quiet,
        "--quiet-timeout",
        timeout,
    ]
}

/// Writes into the cache of a device or file, without any sync.
struct Buffered(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Buffered {
    fn on(path: &Path, at: u64) -> Self {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        let stop = Arc::<AtomicBool>::default();
        let s = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut n = 0u8;
            while !s.load(Ordering::SeqCst) {
                n = n.wrapping_add(1);
                file.write_all_at(&[n; 4096], at).unwrap();
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        Self(stop, Some(thread))
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
        let _ = self.1.take().map(std::thread::JoinHandle::join);
    }
}

#[test]
fn a_second_loop_device_over_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let image = d.join("disk.img");
    disk(&image);
    let (Some(source), Some(other)) = (Loop::over(&image), Loop::over(&image)) else {
        return;
    };
    let writer = Buffered::on(&other.0, 0x1000);
    let out = expect(d, 6, &waiting(arg(&source.0), "1s", "3s"));
    assert!(text(&out.stderr).contains("writes were seen"));
    // The file itself as the source, too.
    expect(d, 6, &waiting("disk.img", "1s", "3s"));
    drop(writer);
    nothing_written(&d.join("a.ntbak"));
    // One that is attached while it is waited.
    let attached = std::thread::spawn({
        let image = image.clone();
        move || {
            std::thread::sleep(Duration::from_millis(500));
            let lo = Loop::over(&image).unwrap();
            let writer = Buffered::on(&lo.0, 0x1000);
            std::thread::sleep(Duration::from_secs(4));
            drop(writer);
        }
    });
    expect(d, 6, &waiting("disk.img", "1500ms", "3s"));
    attached.join().unwrap();
    expect(d, 0, &waiting(arg(&source.0), "300ms", "8s"));
}

/// A loop device on a loop device: whoever writes to the lower one.
#[test]
fn a_loop_device_on_a_loop_device() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let image = d.join("disk.img");
    disk(&image);
    let Some(lower) = Loop::over(&image) else {
        return;
    };
    let Some(upper) = Loop::over(&lower.0) else {
        return;
    };
    let writer = Buffered::on(&lower.0, 0x1000);
    expect(d, 6, &waiting(arg(&upper.0), "1s", "3s"));
    drop(writer);
    nothing_written(&d.join("a.ntbak"));
    expect(d, 0, &waiting(arg(&upper.0), "300ms", "8s"));
}

/// Writes to the whole disk are not in the count of its partition.
#[test]
fn a_partition_and_who_writes_to_its_disk() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    let image = d.join("disk.img");
    disk(&image);
    let Some(lo) = Loop::over(&image) else { return };
    let part = PathBuf::from(format!("{}p1", lo.0.display()));
    let seen = Command::new("partx").arg("--update").arg(&lo.0).output();
    if !seen.is_ok_and(|o| o.status.success()) || !part.exists() {
        eprintln!("skipped: the kernel does not show partitions of loop devices here");
        return;
    }
    // Quiet by itself.
    expect(d, 0, &waiting(arg(&part), "300ms", "8s"));
    fs::remove_file(d.join("a.ntbak")).unwrap();
    let inside = (1 << 20) + (64 << 10);
    for (what, at) in [(&lo.0, inside), (&image, inside)] {
        let writer = Buffered::on(what, at);
        let out = expect(d, 6, &waiting(arg(&part), "1s", "3s"));
        let said = text(&out.stderr);
        assert!(said.contains("seen"), "{}: {said}", what.display());
        drop(writer);
        nothing_written(&d.join("a.ntbak"));
    }
}

#[test]
fn a_source_that_becomes_another() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    disk(&d.join("disk.img"));
    disk(&d.join("other.img"));
    let link = d.join("link");
    std::os::unix::fs::symlink("disk.img", &link).unwrap();
    let turn = std::thread::spawn({
        let (d, link) = (d.to_path_buf(), link.clone());
        move || {
            std::thread::sleep(Duration::from_millis(500));
            let new = d.join("new link");
            std::os::unix::fs::symlink("other.img", &new).unwrap();
            fs::rename(new, link).unwrap();
        }
    });
    let out = expect(d, 5, &waiting("link", "1500ms", "8s"));
    turn.join().unwrap();
    assert!(text(&out.stderr).contains("leads to another file"));
    nothing_written(&d.join("a.ntbak"));
    // A loop device that is detached, and one that is attached to another file.
    for again in [false, true] {
        let Some(lo) = Loop::over(&d.join("disk.img")) else {
            return;
        };
        let turn = std::thread::spawn({
            let (node, other) = (lo.0.clone(), d.join("other.img"));
            move || {
                std::thread::sleep(Duration::from_millis(500));
                let detach = Command::new("losetup").arg("-d").arg(&node).status();
                assert!(detach.unwrap().success());
                if again {
                    let attach = Command::new("losetup").arg(&node).arg(&other).status();
                    assert!(attach.unwrap().success());
                }
            }
        });
        let begun = Instant::now();
        let out = expect(d, 1, &waiting(arg(&lo.0), "10s", "20s"));
        turn.join().unwrap();
        let said = text(&out.stderr);
        assert!(said.contains("another one came in its place"), "{said}");
        assert!(begun.elapsed() < Duration::from_secs(8), "at once");
        nothing_written(&d.join("a.ntbak"));
    }
}

#[test]
fn what_cannot_be_read_is_said_before_the_wait() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    disk(&d.join("disk.img"));
    let made = Command::new("mkfifo").arg(d.join("pipe")).status();
    assert!(made.unwrap().success());
    fs::write(d.join("empty"), "").unwrap();
    for (source, code) in [("pipe", 2), (".", 2), ("nothing", 1)] {
        let begun = Instant::now();
        expect(d, code, &waiting(source, "60s", "80s"));
        assert!(begun.elapsed() < Duration::from_secs(20), "{source}");
    }
    let begun = Instant::now();
    let mut args = waiting("disk.img", "60s", "80s");
    args[2] = "no such folder/a.ntbak";
    expect(d, 2, &args);
    assert!(begun.elapsed() < Duration::from_secs(20));
}
