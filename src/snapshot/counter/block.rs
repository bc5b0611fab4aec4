//! The kernel's count of a block device: `stat` and `inflight` in its folder in
//! sysfs, as Documentation/block/stat.rst and the ABI list of the kernel define them.

use super::Count;
use crate::device::guard::{DevNo, Stack, medium_in, partitions_in};
use crate::error::{Error, ErrorKind, Result};
use std::io;
use std::path::{Path, PathBuf};

/// Completed write requests, counted from zero.
const WRITES: usize = 4;
/// Sectors of 512 bytes that they wrote.
const SECTORS: usize = 6;
/// Requests of any kind on their way.
const IN_FLIGHT: usize = 8;
/// Completed discards; kernels before 4.18 have none.
const DISCARDS: usize = 11;

/// Reads the count of a disk, a partition or a stacked device.
pub struct BlockCount {
    dir: PathBuf,
    name: String,
    /// The kernel's number of the medium; a loop device that is attached again has another.
    medium: Option<u64>,
    /// The last look: requests and sectors.
    last: (u64, u64),
    /// Requests without data: a flush of the device's cache is counted as a write.
    empty: u64,
}

impl BlockCount {
    /// `sysfs` is `/sys`. Fails where the kernel does not count.
    pub fn new(sysfs: &Path, dev: DevNo) -> Result<Self> {
        let (dir, name) = folder(sysfs, dev)?;
        // A partition's switch is that of its disk.
        let switch = ["queue/iostats", "../queue/iostats"]
            .iter()
            .find_map(|p| std::fs::read_to_string(dir.join(p)).ok());
        if switch.is_some_and(|s| s.trim() == "0") {
            return Err(Error::unsupported(
                "The kernel does not count the writes to this device (queue/iostats is 0)",
            )
            .of(name)
            .hint("write 1 to queue/iostats in the device's folder in /sys/block, or do not wait (--quiet 0)"));
        }
        let mut me = Self {
            medium: medium_in(&dir),
            dir,
            name,
            last: (0, 0),
            empty: 0,
        };
        let n = me.numbers()?;
        me.last = (n[WRITES], n[SECTORS]);
        Ok(me)
    }

    fn numbers(&self) -> Result<Vec<u64>> {
        if medium_in(&self.dir) != self.medium {
            return Err(gone(&self.name, io::ErrorKind::NotFound.into()));
        }
        numbers(&self.dir, &self.name)
    }
}

/// A device's folder in sysfs, and its short name.
fn folder(sysfs: &Path, dev: DevNo) -> Result<(PathBuf, String)> {
    let stack = Stack::new(sysfs);
    let name = stack.name(dev);
    match stack.dir(dev) {
        Some(dir) => Ok((dir, name)),
        None => Err(gone(&name, io::ErrorKind::NotFound.into())),
    }
}

fn numbers(dir: &Path, name: &str) -> Result<Vec<u64>> {
    let text = std::fs::read_to_string(dir.join("stat")).map_err(|e| gone(name, e))?;
    let numbers = parse(&text);
    if numbers.len() > IN_FLIGHT {
        return Ok(numbers);
    }
    Err(Error::damaged(format!(
        "Found {} numbers in the kernel's statistics, expected at least {}",
        numbers.len(),
        IN_FLIGHT + 1
    ))
    .of(name))
}

impl Count for BlockCount {
    fn writes(&mut self) -> Result<u64> {
        let n = self.numbers()?;
        let (requests, sectors) = (n[WRITES], n[SECTORS]);
        if sectors == self.last.1 {
            self.empty += requests.saturating_sub(self.last.0);
        }
        self.last = (requests, sectors);
        Ok(requests
            .saturating_sub(self.empty)
            .saturating_add(n.get(DISCARDS).copied().unwrap_or(0)))
    }

    /// `inflight` has reads and writes apart; without it reads count too.
    fn in_flight(&mut self) -> Result<u64> {
        match std::fs::read_to_string(self.dir.join("inflight")) {
            Ok(text) => match parse(&text)[..] {
                [_reads, writes] => Ok(writes),
                _ => Ok(self.numbers()?[IN_FLIGHT]),
            },
            Err(_) => Ok(self.numbers()?[IN_FLIGHT]),
        }
    }

    fn name(&self) -> String {
        format!("the kernel's count of {}", self.name)
    }
}

/// Writes to a disk that did not go through one of its partitions, so that the count of
/// a partition lacks them: what the disk has more than all its partitions.
pub struct DirectCount {
    dir: PathBuf,
    name: String,
    partitions: Vec<PathBuf>,
    /// The last look: requests and sectors.
    last: (u64, u64),
    count: u64,
}

impl DirectCount {
    /// Of the disk `dev`.
    pub fn new(sysfs: &Path, dev: DevNo) -> Result<Self> {
        let (dir, name) = folder(sysfs, dev)?;
        let mut me = Self {
            name,
            partitions: Vec::new(),
            dir,
            last: (0, 0),
            count: 0,
        };
        me.look()?;
        me.count = 0;
        Ok(me)
    }

    fn look(&mut self) -> Result<()> {
        let n = numbers(&self.dir, &self.name)?;
        let (mut requests, mut sectors) = (n[WRITES], n[SECTORS]);
        let partitions = partitions_in(&self.dir);
        // The disk was asked first: what a partition completes in between makes the
        // difference smaller, never larger.
        for p in &partitions {
            let n = numbers(p, &self.name)?;
            requests = requests.saturating_sub(n[WRITES]);
            sectors = sectors.saturating_sub(n[SECTORS]);
        }
        if partitions != self.partitions {
            self.partitions = partitions;
            self.last = (requests, sectors);
            self.count += 1;
        } else if sectors > self.last.1 {
            self.count += requests.saturating_sub(self.last.0).max(1);
            self.last = (requests.max(self.last.0), sectors);
        }
        Ok(())
    }
}

impl Count for DirectCount {
    fn writes(&mut self) -> Result<u64> {
        self.look()?;
        Ok(self.count)
    }

    fn name(&self) -> String {
        format!("what {} has beside its partitions", self.name)
    }
}

/// Numbers up to the first word that is none.
fn parse(text: &str) -> Vec<u64> {
    text.split_ascii_whitespace()
        .take(64)
        .map_while(|w| w.parse().ok())
        .collect()
}

fn gone(name: &str, e: io::Error) -> Error {
    let gone = matches!(e.kind(), io::ErrorKind::NotFound) || e.raw_os_error() == Some(19);
    match gone {
        true => Error::new(
            ErrorKind::NotFound,
            "The device went away, or another one came in its place, while it was watched",
        )
        .caused_by(e)
        .of(name)
        .hint("check the cable and the power of the disk, then start again"),
        false => Error::io("Cannot read the kernel's statistics", e).of(name),
    }
}
