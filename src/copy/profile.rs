//! Copy managers by name: what they announce, and what they do. The planner
//! plans for them without any hardware, and `ntbak target` impersonates them.

use super::limits::Limits;
use crate::error::{Error, Result};
use std::sync::LazyLock;

/// The copy manager of `ntbak target` when nobody says.
pub const DEFAULT: &str = "full-ntbak";

/// A kind of copy manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it stands for, in one sentence.
    pub about: &'static str,
    /// What its operating parameters say.
    pub announced: Limits,
    /// What it really accepts; differs where an engine announces too much.
    pub enforced: Limits,
    /// Service actions of RECEIVE COPY RESULTS (84h) that it answers.
    pub results: &'static [u8],
    /// The list it reads.
    pub dialect: Dialect,
    /// True when it has VPD page 8Fh.
    pub third_party_page: bool,
}

/// Which form of EXTENDED COPY an engine speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SPC-2 and later, LID1.
    Spc,
    /// The draft T10/99-143r1, which has another list header.
    Draft,
}

impl Profile {
    /// Refuses an engine whose lists nobody here writes.
    pub fn check_dialect(&self) -> Result<()> {
        match self.dialect {
            Dialect::Spc => Ok(()),
            Dialect::Draft => Err(Error::unsupported(
                "The copy manager reads lists of the draft T10/99-143r1, which are not written",
            )
            .hint("set it to SPC-2, or let the host move the data: --mover host")),
        }
    }
}

/// The profile of this name.
pub fn find(name: &str) -> Option<&'static Profile> {
    all().iter().find(|p| p.name == name)
}

/// Every profile.
pub fn all() -> &'static [Profile] {
    static ALL: LazyLock<Vec<Profile>> = LazyLock::new(make);
    &ALL
}

/// The numbers of one row; the rest follows from them.
struct Row {
    name: &'static str,
    about: &'static str,
    codes: &'static [u8],
    cscds: u32,
    segments: u32,
    list_bytes: u64,
    segment_bytes: u64,
    command_bytes: u64,
    inline_bytes: u64,
    held_bytes: u64,
    granularity: (u8, u8),
    stream_transfer: u64,
}

const FULL: &[u8] = &[
    0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x07, 0x0a, 0x0b, 0x0c, 0x0f, 0x10, 0x11, 0x12, 0x14, 0xe4,
];

const ROWS: [Row; 12] = [
    Row {
        name: DEFAULT,
        about: "the copy manager of ntbak target",
        codes: FULL,
        cscds: 64,
        segments: 1024,
        list_bytes: 65_536,
        segment_bytes: 0,
        command_bytes: 0,
        inline_bytes: 65_536,
        held_bytes: 65_536,
        granularity: (0, 0),
        stream_transfer: 8_388_607,
    },
    Row {
        name: "full-spc",
        about: "the same with every segment type, also 03h, and with E0h",
        codes: &[
            0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d,
            0x0e, 0x0f, 0x10, 0x11, 0x12, 0x14, 0xe0, 0xe4,
        ],
        cscds: 64,
        segments: 1024,
        list_bytes: 65_536,
        segment_bytes: 0,
        command_bytes: 0,
        inline_bytes: 65_536,
        held_bytes: 65_536,
        granularity: (0, 0),
        stream_transfer: 8_388_607,
    },
    Row {
        name: "xp-dbe",
        about: "disk array engine: backup only, host writes filemarks and restores",
        codes: &[0x00, 0x02, 0x04, 0x07, 0xe0],
        cscds: 64,
        segments: 256,
        list_bytes: 65_536,
        segment_bytes: 64_000_000,
        command_bytes: 64_000_000,
        inline_bytes: 65_536,
        held_bytes: 0,
        granularity: (9, 0),
        stream_transfer: 65_536,
    },
    Row {
        name: "router-spc2",
        about: "storage router with full service",
        codes: &[
            0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x07, 0x08, 0x0f, 0x10, 0x11, 0x12, 0xe0, 0xe4,
        ],
        cscds: 8,
        segments: 128,
        list_bytes: 8192,
        segment_bytes: 0,
        command_bytes: 0,
        inline_bytes: 16_384,
        held_bytes: 4096,
        granularity: (9, 2),
        stream_transfer: 262_144,
    },
    Row {
        name: "atto-143r1",
        about: "bridge of the draft dialect: recognised and refused",
        codes: &[0x00, 0x01, 0x02, 0x04, 0x06, 0xe0, 0xe1, 0xe2],
        cscds: 0,
        segments: 0,
        list_bytes: 0,
        segment_bytes: 0,
        command_bytes: 0,
        inline_bytes: 0,
        held_bytes: 0,
        granularity: (0, 0),
        stream_transfer: 0,
    },
    Row {
        name: "lio",
        about: "Linux target: block to block only, no tape",
        codes: &[0x02, 0xe4],
        cscds: 2,
        segments: 1,
        list_bytes: 1024,
        segment_bytes: 268_435_456,
        command_bytes: 0,
        inline_bytes: 0,
        held_bytes: 0,
        granularity: (9, 9),
        stream_transfer: 0,
    },
    Row {
        name: "scst",
        about: "SCST: block to block only, granularity larger than a cluster",
        codes: &[0x02, 0xe4],
        cscds: 5,
        segments: 60,
        list_bytes: 65_535,
        segment_bytes: 268_435_456,
        command_bytes: 0,
        inline_bytes: 0,
        held_bytes: 0,
        granularity: (16, 0),
        stream_transfer: 0,
    },
    Row {
        name: "ctl",
        about: "FreeBSD CTL: block to block only, announces more segments than it takes",
        codes: &[0x02, 0x07, 0x14, 0xe4],
        cscds: 64,
        segments: 64,
        list_bytes: 8192,
        segment_bytes: 0,
        command_bytes: 0,
        inline_bytes: 0,
        held_bytes: 0,
        granularity: (0, 0),
        stream_transfer: 0,
    },
    Row {
        name: "tiny",
        about: "two segments in a command: splits everywhere",
        codes: &[0x00, 0x01, 0x04, 0x06, 0x10, 0x12, 0xe4],
        cscds: 2,
        segments: 2,
        list_bytes: 160,
        segment_bytes: 65_536,
        command_bytes: 131_072,
        inline_bytes: 512,
        held_bytes: 0,
        granularity: (9, 9),
        stream_transfer: 32_768,
    },
    Row {
        name: "noinline",
        about: "headers by segment type 05h only",
        codes: &[0x00, 0x01, 0x05, 0x06, 0x10, 0x12, 0xe4],
        cscds: 2,
        segments: 32,
        list_bytes: 2048,
        segment_bytes: 0,
        command_bytes: 0,
        inline_bytes: 0,
        held_bytes: 0,
        granularity: (2, 0),
        stream_transfer: 65_536,
    },
    Row {
        name: "nofm",
        about: "host writes filemarks and locates",
        codes: &[0x00, 0x01, 0x04, 0x06, 0xe4],
        cscds: 2,
        segments: 32,
        list_bytes: 2048,
        segment_bytes: 0,
        command_bytes: 0,
        inline_bytes: 4096,
        held_bytes: 0,
        granularity: (9, 2),
        stream_transfer: 65_536,
    },
    Row {
        name: "4kn",
        about: "granularity of 4096 bytes, for disks with such blocks",
        codes: FULL,
        cscds: 4,
        segments: 64,
        list_bytes: 4096,
        segment_bytes: 0,
        command_bytes: 0,
        inline_bytes: 8192,
        held_bytes: 512,
        granularity: (12, 12),
        stream_transfer: 1_048_576,
    },
];

fn make() -> Vec<Profile> {
    ROWS.iter().map(profile).collect()
}

fn profile(r: &Row) -> Profile {
    let (concurrent, total_concurrent, no_list_id) = match r.name {
        "lio" => (1, 1, true),
        "scst" | "ctl" => (255, 255, true),
        _ => (64, 0, false),
    };
    let announced = Limits {
        codes: r.codes.to_vec(),
        cscds: r.cscds,
        segments: r.segments,
        list_bytes: r.list_bytes,
        segment_bytes: r.segment_bytes,
        command_bytes: r.command_bytes,
        inline_bytes: r.inline_bytes,
        held_bytes: r.held_bytes,
        stream_transfer: r.stream_transfer,
        data_granularity: r.granularity.0,
        inline_granularity: r.granularity.1,
        held_granularity: 0,
        concurrent,
        total_concurrent,
        no_list_id,
    };
    let mut enforced = announced.clone();
    if r.name == "ctl" {
        // Its length check compares with 256 bytes: nine segments of 28.
        (enforced.segments, enforced.list_bytes) = (9, u64::from(64 * 32u32) + 256);
    }
    if r.name == "scst" {
        // What it reports it does not enforce.
        enforced.data_granularity = 9;
    }
    Profile {
        name: r.name,
        about: r.about,
        announced,
        enforced,
        results: match r.name {
            "lio" => &[0x03],
            "atto-143r1" => &[0x00],
            "scst" | "xp-dbe" => &[0x00, 0x03, 0x04],
            "ctl" => &[0x00, 0x03, 0x04, 0x05],
            _ => &[0x00, 0x01, 0x03, 0x04],
        },
        dialect: match r.name {
            "atto-143r1" => Dialect::Draft,
            _ => Dialect::Spc,
        },
        third_party_page: matches!(r.name, DEFAULT | "full-spc" | "ctl" | "4kn"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_found_and_sound() {
        for p in all() {
            assert_eq!(find(p.name), Some(p));
            assert!(p.announced.codes.is_sorted(), "{}", p.name);
            assert!(p.enforced.segments <= p.announced.segments);
        }
        assert!(find("nobody").is_none());
        // What libiscsi presumes of a copy manager that it tests.
        let default = find(DEFAULT).unwrap();
        assert!(!default.announced.has(0x03) && !default.announced.has(0xe0));
    }

    #[test]
    fn who_can_do_what_is_said_in_one_sentence() {
        let say = |name: &str, restore: bool| {
            let l = &find(name).unwrap().announced;
            match if restore {
                l.check_restore(512)
            } else {
                l.check_backup(512)
            } {
                Ok(()) => String::new(),
                Err(e) => e.to_string(),
            }
        };
        for name in [
            "full-ntbak",
            "full-spc",
            "router-spc2",
            "tiny",
            "noinline",
            "nofm",
            "4kn",
        ] {
            assert_eq!(say(name, false), "", "{name}");
            assert_eq!(say(name, true), "", "{name}");
        }
        assert_eq!(say("xp-dbe", false), "");
        assert!(say("xp-dbe", true).contains("no segment type 01h"));
        for name in ["lio", "scst", "ctl"] {
            assert!(say(name, false).contains("no segment type 00h"), "{name}");
        }
        // Stream segments alone would not help an engine of such granularity.
        let mut scst = find("scst").unwrap().announced.clone();
        scst.codes = find("full-ntbak").unwrap().announced.codes.clone();
        scst.inline_bytes = 4096;
        let e = scst.check_backup(512).unwrap_err().to_string();
        assert!(e.contains("multiples of 65536 bytes"), "{e}");
        assert!(find("atto-143r1").unwrap().check_dialect().is_err());
        assert!(find("tiny").unwrap().check_dialect().is_ok());
    }
}
