//! The map file of GNU ddrescue: which parts of a medium were read and which
//! were not. Written so that ddrescue and ddrescuelog go on with it.
//!
//! Text. Lines that begin with `#`, and what follows a `#`, are comments. The
//! first other line gives the current position, the current phase and the pass;
//! each further one a block: position, size (bytes) and status. Blocks follow
//! each other without a gap. Numbers are hexadecimal with `0x`, octal with `0`,
//! or decimal.

use crate::error::{Error, Result};
use crate::units::ByteRange;
use std::fmt::Write as _;

/// What is known about a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// `?`: not read yet.
    NonTried,
    /// `*`: failed as a whole, its edges not found yet.
    NonTrimmed,
    /// `/`: edges found, the inside not read sector by sector.
    NonScraped,
    /// `-`: bad sectors.
    Bad,
    /// `+`: read.
    Finished,
}

impl Status {
    /// The character in the file.
    pub const fn to_char(self) -> char {
        match self {
            Status::NonTried => '?',
            Status::NonTrimmed => '*',
            Status::NonScraped => '/',
            Status::Bad => '-',
            Status::Finished => '+',
        }
    }

    /// From the character in the file.
    pub const fn from_char(c: char) -> Option<Self> {
        Some(match c {
            '?' => Status::NonTried,
            '*' => Status::NonTrimmed,
            '/' => Status::NonScraped,
            '-' => Status::Bad,
            '+' => Status::Finished,
            _ => return None,
        })
    }
}

/// What a run was doing when the map was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// `?`: reading what was not tried.
    Copying,
    /// `*`: looking for the edges of bad areas.
    Trimming,
    /// `/`: reading bad areas sector by sector.
    Scraping,
    /// `-`: trying bad sectors again.
    Retrying,
    /// `F`: filling blocks with data.
    Filling,
    /// `G`: making an approximate map.
    Generating,
    /// `+`: done.
    Finished,
}

impl Phase {
    const ALL: [(Phase, char); 7] = [
        (Phase::Copying, '?'),
        (Phase::Trimming, '*'),
        (Phase::Scraping, '/'),
        (Phase::Retrying, '-'),
        (Phase::Filling, 'F'),
        (Phase::Generating, 'G'),
        (Phase::Finished, '+'),
    ];

    /// The character in the file.
    pub fn to_char(self) -> char {
        Self::ALL
            .iter()
            .find(|(p, _)| *p == self)
            .map_or('?', |(_, c)| *c)
    }

    /// From the character in the file.
    pub fn from_char(c: char) -> Option<Self> {
        Self::ALL.iter().find(|(_, x)| *x == c).map(|(p, _)| *p)
    }
}

/// A block of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapBlock {
    /// The bytes; never empty.
    pub range: ByteRange,
    /// What is known about them.
    pub status: Status,
}

/// A map file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RescueMap {
    /// Byte position of the run.
    pub current_pos: u64,
    /// What the run was doing.
    pub phase: Phase,
    /// Number of the pass in that phase, from 1.
    pub pass: u32,
    /// Blocks in order, each beginning where the one before ends.
    pub blocks: Vec<MapBlock>,
}

impl RescueMap {
    /// How many bytes have this status.
    pub fn bytes(&self, status: Status) -> u64 {
        self.blocks
            .iter()
            .filter(|b| b.status == status)
            .map(|b| b.range.len())
            .sum()
    }

    /// Appends a block; joins it with the last one of the same status.
    pub fn push(&mut self, range: ByteRange, status: Status) {
        if range.is_empty() {
            return;
        }
        match self.blocks.last_mut() {
            Some(last) if last.status == status && last.range.end == range.start => {
                last.range.end = range.end;
            }
            _ => self.blocks.push(MapBlock { range, status }),
        }
    }

    /// The text of the file; `comments` become lines of the heading.
    pub fn to_text(&self, comments: &[&str]) -> String {
        let mut t = format!(
            "# Mapfile. Created by ntbak version {}\n",
            env!("CARGO_PKG_VERSION")
        );
        for c in comments.iter().flat_map(|c| c.lines()) {
            let _ = writeln!(t, "# {c}");
        }
        t.push_str("# current_pos  current_status  current_pass\n");
        let _ = writeln!(
            t,
            "0x{:08X}     {}               {}",
            self.current_pos,
            self.phase.to_char(),
            self.pass
        );
        t.push_str("#      pos        size  status\n");
        for b in &self.blocks {
            let (pos, len) = (b.range.start, b.range.len());
            let _ = writeln!(t, "0x{pos:08X}  0x{len:08X}  {}", b.status.to_char());
        }
        t
    }

    /// Reads the text of a map file.
    pub fn parse(text: &str) -> Result<Self> {
        let mut map: Option<Self> = None;
        for (i, line) in text.lines().enumerate() {
            let mut words = line
                .split('#')
                .next()
                .unwrap_or_default()
                .split_ascii_whitespace();
            let Some(first) = words.next() else {
                continue;
            };
            let wrong = |what: &str| {
                Error::damaged(format!(
                    "Line {} of the map file is not {what}: {:?}",
                    i + 1,
                    line.chars().take(80).collect::<String>()
                ))
                .hint("is it a map file of GNU ddrescue?")
            };
            match &mut map {
                None => {
                    let what = "a position, a status (?*/-FG+) and a pass";
                    let pos = number(first).ok_or_else(|| wrong(what))?;
                    let phase = words
                        .next()
                        .and_then(single)
                        .and_then(Phase::from_char)
                        .ok_or_else(|| wrong(what))?;
                    let pass = match words.next() {
                        None => 1,
                        Some(w) => w.parse().map_err(|_| wrong(what))?,
                    };
                    map = Some(Self {
                        current_pos: pos,
                        phase,
                        pass,
                        blocks: Vec::new(),
                    });
                }
                Some(map) => {
                    let what = "a position, a size and a status (?*/-+)";
                    let range = number(first)
                        .zip(words.next().and_then(number))
                        .and_then(|(pos, len)| ByteRange::new(pos, len))
                        .filter(|r| !r.is_empty() && r.end <= i64::MAX as u64)
                        .ok_or_else(|| wrong(what))?;
                    let status = words
                        .next()
                        .and_then(single)
                        .and_then(Status::from_char)
                        .ok_or_else(|| wrong(what))?;
                    if map
                        .blocks
                        .last()
                        .is_some_and(|l| l.range.end != range.start)
                    {
                        return Err(wrong("a block that begins where the one before ends"));
                    }
                    map.blocks.push(MapBlock { range, status });
                }
            }
        }
        map.ok_or_else(|| {
            Error::damaged("The map file has no line with the current position")
                .hint("is it a map file of GNU ddrescue?")
        })
    }
}

fn single(word: &str) -> Option<char> {
    let mut c = word.chars();
    c.next().filter(|_| c.next().is_none())
}

fn number(word: &str) -> Option<u64> {
    let digits = |d: &str, radix| {
        // The standard library would take a sign.
        d.chars()
            .all(|c| c.is_digit(radix))
            .then(|| u64::from_str_radix(d, radix).ok())
            .flatten()
    };
    if let Some(hex) = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        digits(hex, 16)
    } else if word.len() > 1 && word.starts_with('0') {
        digits(&word[1..], 8)
    } else {
        digits(word, 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> RescueMap {
        let mut m = RescueMap {
            current_pos: 0x1200,
            phase: Phase::Finished,
            pass: 1,
            blocks: Vec::new(),
        };
        let mut at = 0;
        for (len, status) in [
            (0x1000, Status::Finished),
            (0x200, Status::Bad),
            (0x10000, Status::NonScraped),
            (0x1_0000_0000, Status::NonTried),
            (0x600, Status::NonTrimmed),
        ] {
            m.push(ByteRange::new(at, len).unwrap(), status);
            at += len;
        }
        m
    }

    #[test]
    fn text_has_the_known_form() {
        let t = sample().to_text(&["Source: disk\nsecond line"]);
        let lines: Vec<&str> = t.lines().collect();
        assert!(lines[0].starts_with("# Mapfile. Created by ntbak"));
        assert_eq!(lines[2], "# second line");
        assert_eq!(lines[4], "0x00001200     +               1");
        assert_eq!(lines[6], "0x00000000  0x00001000  +");
        assert_eq!(lines[9], "0x00011200  0x100000000  ?");
        assert_eq!(RescueMap::parse(&t).unwrap(), sample());
    }

    #[test]
    fn reads_other_numbers_and_refuses_what_ddrescue_refuses() {
        let m = RescueMap::parse("0 ? 1 # now\n\n0 010 ?\n# x\n8 8 +\n").unwrap();
        assert_eq!(m.blocks.len(), 2);
        assert_eq!(m.bytes(Status::Finished), 8);
        for bad in [
            "",
            "# only comments\n",
            "0 +\n0x0 0x100 +\n0x200 0x100 -\n",
            "0 +\n0 0 +\n",
            "0 +\n0 -1 ?\n",
            "0 +\n0 5 F\n",
            "0 ++ 1\n",
            "0 + 1\n0 5\n",
            "0 + 1\n0 0x8000000000000000 +\n",
            "0 + 1\n09 5 +\n",
        ] {
            assert!(RescueMap::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ddrescuelog_agrees() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("map");
        std::fs::write(&path, sample().to_text(&[])).unwrap();
        let run = |args: &[&str]| {
            std::process::Command::new("ddrescuelog")
                .args(args)
                .arg(&path)
                .output()
        };
        let Ok(out) = run(&["--list-blocks=-"]) else {
            eprintln!("skipped: ddrescuelog is not installed");
            return;
        };
        assert!(out.status.success(), "{out:?}");
        assert_eq!(String::from_utf8(out.stdout).unwrap().trim(), "8");
        // A list of finished blocks, and the map inverted by the program, read
        // back by us.
        let out = run(&["--invert-mapfile"]).unwrap();
        let inverted = RescueMap::parse(&String::from_utf8(out.stdout).unwrap()).unwrap();
        assert_eq!(inverted.bytes(Status::Bad), 0x1000);
    }

    proptest! {
        #[test]
        fn round_trip(
            first in 0u64..1 << 40,
            blocks in prop::collection::vec((1u64..1 << 40, 0usize..5), 0..30),
            pos in any::<u64>(), phase in 0usize..7, pass in 1u32..9,
        ) {
            let mut m = RescueMap { current_pos: pos, phase: Phase::ALL[phase].0, pass, blocks: vec![] };
            let mut at = first;
            for (len, s) in blocks {
                let status = Status::from_char(['?', '*', '/', '-', '+'][s]).unwrap();
                m.push(ByteRange::new(at, len).unwrap(), status);
                at += len;
            }
            prop_assert_eq!(RescueMap::parse(&m.to_text(&["a", "b # c"])).unwrap(), m);
        }

        #[test]
        fn any_text_is_read_without_panic(text in "(?s).{0,200}", near in "[0-9a-fx?*/+ FG#\n-]{0,200}") {
            let _ = RescueMap::parse(&text);
            let _ = RescueMap::parse(&near);
        }
    }
}
