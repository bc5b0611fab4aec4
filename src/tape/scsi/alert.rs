//! TapeAlert flags (log page 2Eh) in words.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Information,
    /// Something should be done soon.
    Warning,
    /// Data is at risk, or the job cannot go on.
    Critical,
}

/// A flag that is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TapeAlert {
    /// Its number, 1 to 64.
    pub flag: u16,
    /// How bad it is.
    pub severity: Severity,
    /// What it means.
    pub meaning: &'static str,
}

impl TapeAlert {
    /// By number; none outside 1 to 64.
    pub fn of(flag: u16) -> Option<Self> {
        if !(1..=64).contains(&flag) {
            return None;
        }
        let (severity, meaning) = FLAGS
            .iter()
            .find(|(n, _, _)| *n == flag)
            .map_or((Severity::Information, "no meaning is known"), |f| {
                (f.1, f.2)
            });
        Some(Self {
            flag,
            severity,
            meaning,
        })
    }
}

use Severity::{Critical as C, Information as I, Warning as W};

const FLAGS: [(u16, Severity, &str); 59] = [
    (1, W, "the drive has trouble reading"),
    (2, W, "the drive has trouble writing"),
    (3, W, "an error could not be corrected"),
    (
        4,
        C,
        "the cartridge fails: copy what is on it to another one",
    ),
    (5, C, "the cartridge or the drive cannot read"),
    (6, C, "the cartridge or the drive cannot write"),
    (7, W, "the cartridge is worn out"),
    (8, W, "the cartridge is not of data grade"),
    (9, C, "a write to a write-protected cartridge was tried"),
    (10, I, "the cartridge cannot come out: removal is prevented"),
    (11, I, "a cleaning cartridge is in the drive"),
    (
        12,
        I,
        "a cartridge of a format that the drive does not know",
    ),
    (
        13,
        C,
        "the tape snapped or the cartridge broke, it can be taken out",
    ),
    (
        14,
        C,
        "the tape snapped or the cartridge broke, it cannot be taken out",
    ),
    (15, W, "the memory of the cartridge fails"),
    (16, C, "the cartridge was taken out by hand while in use"),
    (17, W, "the drive only reads cartridges of this kind"),
    (
        18,
        W,
        "the directory on the cartridge is damaged: searching is slow",
    ),
    (19, I, "the cartridge is near the end of its life"),
    (20, C, "the drive needs cleaning now"),
    (21, W, "the drive is due for cleaning"),
    (22, C, "the cleaning cartridge is used up"),
    (23, C, "a cleaning cartridge of a wrong kind"),
    (24, W, "the tape should be retensioned"),
    (25, W, "one of the drive's interfaces fails"),
    (26, W, "a fan of the drive fails"),
    (27, W, "a power supply fails"),
    (28, W, "the drive takes too much power"),
    (29, W, "the drive is due for maintenance"),
    (30, C, "the drive's hardware fails; a reset may help"),
    (31, C, "the drive's hardware fails"),
    (32, W, "the drive's interface has errors"),
    (33, C, "take the cartridge out and put it in again"),
    (34, W, "loading of firmware failed"),
    (35, W, "it is too humid or too dry"),
    (36, W, "it is too hot or too cold"),
    (37, W, "the supply voltage is wrong"),
    (38, C, "the drive will fail soon"),
    (39, W, "the drive should be tested"),
    (40, C, "the loader's hardware fails; a reset may help"),
    (41, C, "a cartridge was left in the loader"),
    (42, W, "the loader's hardware fails"),
    (43, C, "the loader's door is open"),
    (44, C, "the loader's hardware fails"),
    (45, C, "the loader's magazine is missing"),
    (46, W, "the loader will fail soon"),
    (49, W, "the cartridge holds less than it should"),
    (50, W, "statistics of the drive were lost"),
    (
        51,
        W,
        "the directory was not written when the cartridge was unloaded",
    ),
    (
        52,
        C,
        "the system area of the cartridge could not be written",
    ),
    (53, C, "the system area of the cartridge could not be read"),
    (54, C, "the beginning of the data was not found"),
    (55, C, "the cartridge cannot be loaded and threaded"),
    (56, C, "the cartridge cannot be unloaded"),
    (57, C, "the interface to the library fails"),
    (58, W, "the firmware fails"),
    (59, W, "a write-once cartridge fails its integrity check"),
    (60, W, "a write-once cartridge cannot be overwritten"),
    (61, W, "a rule about encryption was broken"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_words_within_their_range() {
        assert!(FLAGS.is_sorted_by_key(|f| f.0));
        assert_eq!(TapeAlert::of(20).unwrap().severity, Severity::Critical);
        assert_eq!(TapeAlert::of(64).unwrap().flag, 64);
        assert!(TapeAlert::of(0).is_none() && TapeAlert::of(65).is_none());
    }
}
