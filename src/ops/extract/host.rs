//! Files on the host: made so that nothing from a volume can write outside
//! the target directory, over an existing file, or look whole when it is not.
//! Every step opens one name below an open directory, never through a link.

use crate::error::{Error, Result};
use crate::volume::names::Escaped;
use crate::volume::times::{NtTime, Times};
use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

const DIR: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// Longest name of most file systems, bytes.
const NAME_MAX: usize = 255;

/// Why a name could not be made.
pub(super) enum Refused {
    /// Something is there already.
    Exists,
    /// Something that this run made is there: two names are one on this host.
    Ours,
    /// The host cannot do it; the other files can go on.
    Host(Error),
    /// Nothing more can be written.
    Fatal(Error),
}

/// A directory on the host and what was made there and elsewhere.
pub(super) struct Host {
    pub root: OwnedFd,
    /// Device and inode of what this run made.
    made: HashSet<(u64, u64)>,
    force: bool,
    next: u64,
}

/// A file that is being written under a name of its own.
pub(super) struct Pending<'d> {
    dir: &'d OwnedFd,
    file: File,
    name: String,
    done: bool,
}

impl Host {
    /// Opens the target directory, which must exist. Its path may hold links:
    /// it is the user's.
    pub fn open(path: &Path, force: bool) -> Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::open(path, flags, Mode::empty()).map_err(|e| {
            Error::io("Cannot open the target directory", e.into()).of(path.display().to_string())
        })?;
        Ok(Self {
            root,
            made: HashSet::new(),
            force,
            next: 0,
        })
    }

    /// Makes a directory, or opens the one that is there.
    pub fn dir(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Refused> {
        let fresh = match fs::mkdirat(parent, name, Mode::from_raw_mode(0o777)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(e) => return Err(refused("Cannot make a directory", e)),
        };
        let fd = match fs::openat(parent, name, DIR, Mode::empty()) {
            Ok(fd) => fd,
            // A link or a file.
            Err(Errno::LOOP | Errno::NOTDIR) => return Err(Refused::Exists),
            Err(e) => return Err(refused("Cannot open a directory", e)),
        };
        if self.note(&fd) || fresh {
            Ok(fd)
        } else {
            Err(Refused::Ours)
        }
    }

    /// Remembers what this run made; false when it did so before.
    fn note(&mut self, fd: impl AsFd) -> bool {
        match fs::fstat(fd) {
            #[allow(clippy::unnecessary_cast)]
            Ok(s) => self.made.insert((s.st_dev as u64, s.st_ino as u64)),
            Err(_) => true,
        }
    }

    /// Begins a file.
    pub fn begin<'d>(&mut self, dir: &'d OwnedFd) -> Result<Pending<'d>, Refused> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            self.next += 1;
            let name = format!(".ntbak-{}-{}.partial", std::process::id(), self.next);
            match fs::openat(dir, &*name, flags, Mode::from_raw_mode(0o666)) {
                Ok(fd) => {
                    return Ok(Pending {
                        dir,
                        file: File::from(fd),
                        name,
                        done: false,
                    });
                }
                Err(Errno::EXIST) if self.next < 1 << 32 => {}
                Err(e) => return Err(refused("Cannot make a file", e)),
            }
        }
    }

    /// Gives a finished file its name.
    pub fn finish(&mut self, mut p: Pending<'_>, name: &[u8]) -> Result<(), Refused> {
        self.may_replace(p.dir, name)?;
        let moved = if self.force {
            fs::renameat(p.dir, &*p.name, p.dir, name)
        } else {
            match fs::renameat_with(p.dir, &*p.name, p.dir, name, RenameFlags::NOREPLACE) {
                // Not every file system can; a second name then does it.
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                    fs::linkat(p.dir, &*p.name, p.dir, name, AtFlags::empty())
                        .and_then(|()| fs::unlinkat(p.dir, &*p.name, AtFlags::empty()))
                }
                other => other,
            }
        };
        match moved {
            Ok(()) => {
                p.done = true;
                self.note(&p.file);
                Ok(())
            }
            Err(Errno::EXIST | Errno::ISDIR | Errno::NOTEMPTY) => Err(Refused::Exists),
            Err(e) => Err(refused("Cannot name a file", e)),
        }
    }

    /// What this run made is not replaced by what it makes later.
    fn may_replace(&self, dir: &OwnedFd, name: &[u8]) -> Result<(), Refused> {
        match fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(_) => Ok(()),
            #[allow(clippy::unnecessary_cast)]
            Ok(s) if self.made.contains(&(s.st_dev as u64, s.st_ino as u64)) => Err(Refused::Ours),
            Ok(_) if !self.force => Err(Refused::Exists),
            Ok(_) => Ok(()),
        }
    }

    /// True when something that this run made has the name.
    pub fn taken(&self, dir: &OwnedFd, name: &[u8]) -> bool {
        matches!(self.may_replace(dir, name), Err(Refused::Ours))
    }

    /// Opens a directory below the target directory once more.
    pub fn open_dir(&self, names: &[Vec<u8>]) -> Result<OwnedFd, Refused> {
        let open = |parent: &OwnedFd, name: &[u8]| {
            fs::openat(parent, name, DIR, Mode::empty())
                .map_err(|e| refused("Cannot open a directory", e))
        };
        let mut at = open(&self.root, b".")?;
        for name in names {
            at = open(&at, name)?;
        }
        Ok(at)
    }

    /// One more name for a file that this run made; `from` is its path below
    /// the target directory.
    pub fn link(&self, from: &[Vec<u8>], dir: &OwnedFd, name: &[u8]) -> Result<(), Refused> {
        let Some((last, dirs)) = from.split_last() else {
            return Err(Refused::Exists);
        };
        self.may_replace(dir, name)?;
        let parent = self.open_dir(dirs)?;
        if self.force {
            let _ = fs::unlinkat(dir, name, AtFlags::empty());
        }
        fs::linkat(&parent, &last[..], dir, name, AtFlags::empty()).map_err(|e| match e {
            Errno::EXIST => Refused::Exists,
            e => refused("Cannot make a hard link", e),
        })
    }

    /// A symbolic link; it is never followed here.
    pub fn symlink(&mut self, target: &[u8], dir: &OwnedFd, name: &[u8]) -> Result<(), Refused> {
        self.may_replace(dir, name)?;
        if self.force {
            let _ = fs::unlinkat(dir, name, AtFlags::empty());
        }
        fs::symlinkat(target, dir, name).map_err(|e| match e {
            Errno::EXIST => Refused::Exists,
            e => refused("Cannot make a symbolic link", e),
        })
    }
}

impl Pending<'_> {
    /// Writes at a position.
    pub fn write_at(&self, data: &[u8], offset: u64) -> Result<(), Refused> {
        self.file.write_all_at(data, offset).map_err(|e| {
            let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
            refused("Cannot write", errno)
        })
    }

    /// Sets the length; what was not written is a hole.
    pub fn set_len(&self, len: u64) -> Result<(), Refused> {
        fs::ftruncate(&self.file, len).map_err(|e| refused("Cannot set the length of a file", e))
    }

    /// Sets the times that the host lets be set.
    pub fn set_times(&self, times: &Times) {
        set_times(&self.file, times);
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::unlinkat(self.dir, &*self.name, AtFlags::empty());
        }
    }
}

/// Modification and access time; a host that cannot keep them does without.
pub(super) fn set_times(fd: impl AsFd, times: &Times) {
    let spec = |t: NtTime| {
        let (tv_sec, nanos) = t.to_unix();
        Timespec {
            tv_sec,
            tv_nsec: nanos.into(),
        }
    };
    let stamps = Timestamps {
        last_access: spec(times.accessed),
        last_modification: spec(times.modified),
    };
    let _ = fs::futimens(fd, &stamps);
}

/// A failure of the host: does it end everything?
fn refused(what: &str, e: Errno) -> Refused {
    let error = Error::io(what, e.into());
    match e {
        Errno::NOSPC
        | Errno::DQUOT
        | Errno::IO
        | Errno::ROFS
        | Errno::MFILE
        | Errno::NFILE
        | Errno::NOMEM => Refused::Fatal(error),
        _ => Refused::Host(error),
    }
}

/// The name on the host. `/`, NUL, `.`, `..` and the empty name are escaped
/// with `%XX`, a name that is too long is cut and marked with a digest; the
/// second value says that it is another one.
pub(super) fn host_name(name: &[u8]) -> (Vec<u8>, bool) {
    let dots = matches!(name, b"." | b"..");
    let mut out = Vec::with_capacity(name.len());
    for &b in name {
        if b == b'/' || b == 0 || dots {
            out.extend_from_slice(format!("%{b:02X}").as_bytes());
        } else {
            out.push(b);
        }
    }
    if name.is_empty() {
        out.extend_from_slice(b"%");
    }
    if out.len() > NAME_MAX {
        let digest = blake3::hash(&out).to_hex();
        let mut end = NAME_MAX - 18;
        while end > 0 && out[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        out.truncate(end);
        out.push(b'%');
        out.extend_from_slice(&digest.as_bytes()[..16]);
    }
    let changed = out != name;
    (out, changed)
}

/// For messages.
pub(super) fn shown(path: &[u8]) -> String {
    Escaped(path).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn host_names_stay_in_their_directory(name in prop::collection::vec(
            prop_oneof![Just(b'.'), Just(b'/'), Just(0u8), any::<u8>()], 0..300)) {
            let (host, changed) = host_name(&name);
            prop_assert!(!host.is_empty() && host.len() <= 255);
            prop_assert!(!host.contains(&b'/') && !host.contains(&0));
            prop_assert!(host != b"." && host != b"..");
            prop_assert_eq!(changed, host != name);
        }
    }
}
