//! The connection to the disk that is restored to is cut in the middle, with the
//! target going on, and with the target gone.

use crate::own;
use crate::rig::{Ended, Lab};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A way to a target. Each of the first connections is cut when so many bytes
/// have gone to the target; it is told, and the next one waits for a word.
struct Wire {
    url: String,
    cut: Receiver<()>,
    go: Sender<SocketAddr>,
}

fn address(url: &str) -> SocketAddr {
    let rest = url.strip_prefix("iscsi://").unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

impl Wire {
    fn to(url: &str, cuts: u32, after: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (there, here) = (address(url), listener.local_addr().unwrap());
        let (told, cut) = channel();
        let (go, wait) = channel();
        std::thread::spawn(move || {
            let mut there = there;
            for n in 0.. {
                let Ok((a, _)) = listener.accept() else {
                    return;
                };
                let Ok(b) = TcpStream::connect(there) else {
                    return;
                };
                let left = if n < cuts { after } else { usize::MAX };
                let back = (b.try_clone().unwrap(), a.try_clone().unwrap());
                let back = std::thread::spawn(move || pass(back.0, back.1, usize::MAX));
                let was_cut = pass(a, b, left);
                let _ = back.join();
                if was_cut {
                    let _ = told.send(());
                    match wait.recv() {
                        Ok(next) => there = next,
                        Err(_) => return,
                    }
                }
            }
        });
        let url = url.replace(&there.to_string(), &here.to_string());
        Self { url, cut, go }
    }
}

/// Passes bytes on until the end, or until so many have passed: true then.
fn pass(mut from: TcpStream, mut to: TcpStream, most: usize) -> bool {
    let mut buf = vec![0; 64 << 10];
    let mut left = most;
    while left > 0 {
        let room = buf.len().min(left);
        match from.read(&mut buf[..room]) {
            Ok(n) if n > 0 && to.write_all(&buf[..n]).is_ok() => left -= n,
            _ => break,
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    left == 0
}

/// Restores an archive through a wire that is cut so often; `meanwhile` may
/// change the target.
fn restore(lab: &mut Lab, cuts: u32, mut meanwhile: impl FnMut(&mut Lab)) -> Ended {
    let archive = lab.file("a.ntbak").display().to_string();
    lab.expect(0, &["image", &lab.old_file(), &archive]);
    lab.wipe();
    let wire = Wire::to(lab.new_disk(), cuts, 200 << 10);
    let run = lab.start(&["restore", &archive, &wire.url, "--yes"]);
    let ended = Arc::new(Mutex::new(None));
    std::thread::scope(|s| {
        let keep = Arc::clone(&ended);
        s.spawn(move || *keep.lock().unwrap() = Some(run.end()));
        for _ in 0..cuts {
            wire.cut.recv_timeout(Duration::from_secs(120)).unwrap();
            meanwhile(lab);
            wire.go.send(address(lab.new_disk())).unwrap();
        }
    });
    ended.lock().unwrap().take().unwrap()
}

#[test]
fn a_restore_outlives_a_connection_that_is_lost() {
    let mut lab = Lab::with(&own("quick"), "full-ntbak");
    let e = restore(&mut lab, 3, |_| {});
    assert_eq!(e.code, Some(0), "{}", e.said());
    lab.stop();
    lab.assert_same("after three lost connections");
}

#[test]
fn a_restore_ends_when_the_target_was_started_again() {
    let mut lab = Lab::with(&own("quick"), "full-ntbak");
    let e = restore(&mut lab, 1, |lab| {
        lab.kill_target();
        lab.serve("full-ntbak", "size=64G");
    });
    assert_eq!(e.code, Some(1), "{}", e.said());
    let words = "The disk was switched on or reset while it was written";
    assert_eq!(e.err.matches(words).count(), 1, "{}", e.said());
    // What is there does not look like a volume.
    let first = std::fs::read(lab.file("new.img")).unwrap();
    assert!(first[..512].iter().all(|&b| b == 0 || b == 0xa5));
}
