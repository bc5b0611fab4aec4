//! The index file beside a cartridge. Layout: `docs/tape.md` section 7.

use super::runs::{MAX_RUNS, Runs};
use super::word::Object;
use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: &[u8; 8] = b"NTBKTIDX";
const HEADER: usize = 32;
const ENTRY: usize = 24;

/// Runs that are compared with the file when it is opened.
const SAMPLES: usize = 256;

fn u64_at(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*b.get(at..)?.first_chunk()?))
}

fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*b.get(at..)?.first_chunk()?))
}

pub(super) fn encode(runs: &Runs) -> Vec<u8> {
    let list = runs.as_slice();
    let mut out = Vec::with_capacity(HEADER + ENTRY * list.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&1u32.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(list.len() as u64).to_le_bytes());
    out.extend_from_slice(&runs.end().to_le_bytes());
    for r in list {
        out.extend_from_slice(&r.offset.to_le_bytes());
        out.extend_from_slice(&r.count.to_le_bytes());
        out.extend_from_slice(&r.object.word().to_le_bytes());
        out.extend_from_slice(&[0; 4]);
    }
    let crc = crc32c::crc32c(&out);
    out[12..16].copy_from_slice(&crc.to_le_bytes());
    out
}

/// None when anything about it is wrong: then it is made again.
pub(super) fn decode(bytes: &[u8]) -> Option<Runs> {
    if bytes.get(..8)? != MAGIC || u32_at(bytes, 8)? != 1 {
        return None;
    }
    let crc = crc32c::crc32c_append(
        crc32c::crc32c_append(crc32c::crc32c(bytes.get(..12)?), &[0; 4]),
        bytes.get(16..)?,
    );
    let n = usize::try_from(u64_at(bytes, 16)?).ok()?;
    if crc != u32_at(bytes, 12)?
        || n > MAX_RUNS
        || bytes.len() != n.checked_mul(ENTRY)?.checked_add(HEADER)?
    {
        return None;
    }
    let mut runs = Runs::default();
    for e in bytes.get(HEADER..)?.chunks_exact(ENTRY) {
        let count = u64_at(e, 8)?;
        if count == 0 || u32_at(e, 20)? != 0 {
            return None;
        }
        runs.push(u64_at(e, 0)?, Object::of(u32_at(e, 16)?)?, count)
            .ok()?;
    }
    (runs.end() == u64_at(bytes, 24)?).then_some(runs)
}

/// Reads the index of a cartridge. None when there is none, or it does not fit
/// the file.
pub(super) fn load(path: &Path, tap: &File, tap_len: u64) -> Option<Runs> {
    let limit = (HEADER + ENTRY * MAX_RUNS) as u64;
    let file = File::open(path).ok()?;
    if file.metadata().ok()?.len() > limit {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).ok()?;
    let runs = decode(&bytes)?;
    fits(&runs, tap, tap_len).then_some(runs)
}

/// Compares the words of some runs with the file.
fn fits(runs: &Runs, tap: &File, tap_len: u64) -> bool {
    if runs.end() > tap_len {
        return false;
    }
    let list = runs.as_slice();
    let step = list.len().div_ceil(SAMPLES).max(1);
    let word = |at: u64| -> Option<u32> {
        let mut b = [0; 4];
        tap.read_exact_at(&mut b, at).ok()?;
        Some(u32::from_le_bytes(b))
    };
    list.iter().step_by(step).chain(list.last()).all(|r| {
        word(r.offset) == Some(r.object.word()) && word(r.end() - 4) == Some(r.object.word())
    })
}

/// Writes the index of a cartridge as a whole.
pub(super) fn save(path: &Path, runs: &Runs) -> Result<()> {
    replace(path, &encode(runs))
}

/// Removes a small file for good; an index before something it speaks of is
/// changed.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("Cannot remove the file", e).of(path.display().to_string())),
    }
}

/// Replaces a small file as a whole: temporary name, then rename.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let fail = |e| Error::io("Cannot write the file", e).of(path.display().to_string());
    fs::write(&temporary, bytes).map_err(fail)?;
    File::open(&temporary)
        .and_then(|f| f.sync_all())
        .map_err(fail)?;
    fs::rename(&temporary, path).map_err(fail)?;
    sync_folder(path)
}

/// Makes a change of names durable.
fn sync_folder(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(|e| Error::io("Cannot sync the folder", e).of(folder.display().to_string()))
}
