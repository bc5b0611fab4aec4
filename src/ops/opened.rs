//! What opening a volume had to make do with, told before its files are.

use crate::observe::{Observer, warning};
use crate::volume::Volume;

/// Warns of every fallback; returns how many of them mean that file records are
/// damaged or out of reach, and names may be missing.
pub fn tell(volume: &Volume, observer: &dyn Observer) -> u64 {
    let mut damaged = 0;
    for note in volume.notes() {
        match &*note.code {
            // Says nothing about files.
            "no-backup-boot-sector" => continue,
            "boot-sector" | "source-short" | "mft-bitmap" | "volume-record" => {}
            _ => damaged += 1,
        }
        observer.warn(warning("volume", note.to_string()));
    }
    damaged
}
