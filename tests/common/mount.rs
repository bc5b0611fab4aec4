//! Volumes mounted by ntfs-3g.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A mounted volume; unmounted when it goes.
pub struct Mount(pub PathBuf);

impl Mount {
    pub fn new(image: &Path, at: PathBuf) -> Result<Self, String> {
        fs::create_dir_all(&at).unwrap();
        // It stays in the background with whatever it inherits: a pipe would never end.
        let said = at.with_extension("said");
        let status = Command::new("ntfs-3g")
            .args(["-o", "ro,streams_interface=windows,efs_raw"])
            .arg(image)
            .arg(&at)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&said).unwrap())
            .status()
            .map_err(|e| e.to_string())?;
        match status.success() {
            true => Ok(Self(at)),
            false => Err(fs::read_to_string(&said).unwrap_or_default()),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        for _ in 0..50 {
            let done = Command::new("umount").arg(&self.0).output();
            if done.is_ok_and(|o| o.status.success()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        eprintln!("{} stays mounted", self.0.display());
    }
}

/// True where volumes can be mounted; says so when not.
pub fn can_mount() -> bool {
    let there = Command::new("ntfs-3g").arg("--version").output().is_ok();
    let root =
        fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    let can = there && root && Path::new("/dev/fuse").exists();
    if !can {
        eprintln!("skipped: ntfs-3g, /dev/fuse and root are needed");
    }
    can
}
