//! The units on the command line: `--disk NAME=PATH[,option…]` and its like, in
//! the order in which they were given, whatever their kinds.

use crate::error::{Error, Result};
use crate::target::DiskOptions;
use crate::target::changer::MagazineOptions;
use crate::units::parse_size;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::path::PathBuf;

/// A smaller cartridge is a mistake.
const SMALLEST_CARTRIDGE: u64 = 1 << 20;

/// What a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A disk.
    Disk,
    /// A tape drive.
    Tape,
    /// A medium changer.
    Changer,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Disk, Self::Tape, Self::Changer];

    /// Its option, and its word in the output.
    pub fn word(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Tape => "tape",
            Self::Changer => "changer",
        }
    }

    fn form(self) -> &'static str {
        match self {
            Self::Disk => "NAME=PATH[,ro][,block=N][,physical=N][,bad=LBA+N]",
            Self::Tape => "NAME[=CARTRIDGE.tap][,ro][,size=N]",
            Self::Changer => "NAME=FOLDER[,slots=N][,size=N]",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Disk => "A disk over a file or block device",
            Self::Tape => "A tape drive with a cartridge in it, made when there is none",
            Self::Changer => "A medium changer for all the drives, with a folder of cartridges",
        }
    }

    fn long_help(self) -> String {
        let more = match self {
            Self::Disk => {
                "ro refuses writes. block is the size of a logical block, 512 or 4096; physical that of a physical one, 4096 when not given. bad makes N blocks from LBA on unreadable, to try out what then happens."
            }
            Self::Tape => {
                "ro protects the cartridge against writing. size is the capacity of a new one, at least 1M. With a NAME alone the drive is empty."
            }
            Self::Changer => {
                "slots is the number of storage slots, at least 8 when not given; size fills the empty ones with new cartridges of that capacity, at least 1M."
            }
        };
        format!("{}\n\n{more}", self.help())
    }

    /// True for what may follow the path.
    fn knows(self, setting: &str) -> bool {
        let key = setting.split('=').next().unwrap_or_default();
        match self {
            Self::Disk => matches!(key, "ro" | "block" | "physical" | "bad"),
            Self::Tape => matches!(key, "ro" | "size"),
            Self::Changer => matches!(key, "slots" | "size"),
        }
    }
}

/// One unit as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitSpec {
    /// What it is.
    pub kind: Kind,
    /// Its name, part of its identity.
    pub name: String,
    /// What stands behind it.
    pub path: PathBuf,
    /// What follows the path.
    pub settings: Vec<String>,
}

impl UnitSpec {
    /// From `NAME=PATH[,setting…]`. What follows the last comma belongs to the
    /// path unless it is a setting, so that paths may hold commas.
    fn parse(kind: Kind, text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::usage(format!("--{} {text}: {why}", kind.word())).hint(format!(
                "expected --{} {}",
                kind.word(),
                kind.form()
            ))
        };
        let (name, mut rest) = match text.split_once('=') {
            Some(parts) => parts,
            // A drive without a cartridge.
            None if kind == Kind::Tape => (text, ""),
            None => return Err(bad("There is no path")),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
            return Err(bad(
                "A name has 1 to 64 letters, digits, dots, dashes and underscores",
            ));
        }
        let mut settings = Vec::new();
        while let Some((before, last)) = rest.rsplit_once(',') {
            if !kind.knows(last) {
                break;
            }
            settings.insert(0, last.to_owned());
            rest = before;
        }
        if rest.is_empty() && text.contains('=') {
            return Err(bad("There is no path"));
        }
        Ok(Self {
            kind,
            name: name.into(),
            path: rest.into(),
            settings,
        })
    }

    /// A setting that is none counts as a part of the path: says so where nothing is
    /// at such a path.
    pub fn about_commas(&self, e: Error) -> Error {
        let path = self.path.display().to_string();
        match path.rsplit_once(',') {
            Some((_, last)) if !self.path.exists() => e.hint(format!(
                "check the path; {last:?} is no setting of --{0}, which are {1}",
                self.kind.word(),
                self.kind.form()
            )),
            _ => e,
        }
    }

    /// There is room on a cartridge for a record and its filemarks.
    fn room(&self, capacity: Option<u64>) -> Result<()> {
        match capacity {
            Some(n) if n < SMALLEST_CARTRIDGE => Err(Error::usage(format!(
                "--{} {}: found a cartridge of {n} bytes, expected at least {SMALLEST_CARTRIDGE}",
                self.kind.word(),
                self.name
            ))),
            _ => Ok(()),
        }
    }

    fn bad(&self, setting: &str) -> Error {
        Error::usage(format!(
            "--{} {}: found {setting}, expected {}",
            self.kind.word(),
            self.name,
            self.kind.form()
        ))
    }

    /// Hands on each setting with its value, which `take` may refuse.
    fn each(&self, mut take: impl FnMut(&str, Option<&str>) -> Option<()>) -> Result<()> {
        self.settings.iter().try_for_each(|s| {
            let (key, value) = s
                .split_once('=')
                .map_or((&**s, None), |(k, v)| (k, Some(v)));
            take(key, value).ok_or_else(|| self.bad(s))
        })
    }

    /// The settings of a disk.
    pub fn disk(&self) -> Result<DiskOptions> {
        let mut o = DiskOptions::default();
        self.each(|key, value| {
            match (key, value) {
                ("ro", None) => o.read_only = true,
                ("block", v) => o.block_size = size(v)?.try_into().ok()?,
                ("physical", v) => o.physical = Some(size(v)?.try_into().ok()?),
                ("bad", v) => {
                    let (lba, n) = v?.split_once('+')?;
                    o.bad = Some((lba.parse().ok()?, n.parse().ok()?));
                }
                _ => return None,
            }
            Some(())
        })?;
        Ok(o)
    }

    /// The settings of a tape drive: capacity of a new cartridge, and whether it
    /// may be written.
    pub fn tape(&self) -> Result<(Option<u64>, bool)> {
        let (mut capacity, mut writable) = (None, true);
        self.each(|key, value| {
            match (key, value) {
                ("ro", None) => writable = false,
                ("size", v) => capacity = Some(size(v)?),
                _ => return None,
            }
            Some(())
        })?;
        self.room(capacity)?;
        Ok((capacity, writable))
    }

    /// The settings of a changer.
    pub fn changer(&self) -> Result<MagazineOptions> {
        let mut o = MagazineOptions::default();
        self.each(|key, value| {
            match (key, value) {
                ("slots", v) => o.slots = Some(v?.parse().ok()?),
                ("size", v) => o.size = Some(size(v)?),
                _ => return None,
            }
            Some(())
        })?;
        self.room(o.size)?;
        Ok(o)
    }
}

/// A number of bytes that is not zero.
fn size(value: Option<&str>) -> Option<u64> {
    value.and_then(parse_size).filter(|n| *n != 0)
}

/// All units, numbered from 0 in their order.
#[derive(Clone, Debug, Default)]
pub struct UnitArgs(pub Vec<UnitSpec>);

impl clap::FromArgMatches for UnitArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut me = Self::default();
        me.update_from_arg_matches(matches)?;
        Ok(me)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let mut found = Vec::new();
        for kind in Kind::ALL {
            let at = matches.indices_of(kind.word()).into_iter().flatten();
            let texts = matches.get_many::<String>(kind.word());
            for (at, text) in at.zip(texts.into_iter().flatten()) {
                let spec = UnitSpec::parse(kind, text).map_err(|e| {
                    let hint = e.advice().unwrap_or_default();
                    let text = format!("{}; {hint}\n", e.message());
                    clap::Error::raw(clap::error::ErrorKind::ValueValidation, text)
                })?;
                found.push((at, spec));
            }
        }
        found.sort_by_key(|(at, _)| *at);
        self.0 = found.into_iter().map(|(_, s)| s).collect();
        Ok(())
    }
}

impl clap::Args for UnitArgs {
    fn augment_args(command: Command) -> Command {
        Kind::ALL.into_iter().fold(command, |c, kind| {
            c.arg(
                Arg::new(kind.word())
                    .long(kind.word())
                    .value_name(kind.form())
                    .value_parser(value_parser!(String))
                    .action(ArgAction::Append)
                    .help(kind.help())
                    .long_help(kind.long_help()),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_paths_and_settings() {
        let parse = |t| UnitSpec::parse(Kind::Disk, t);
        let s = parse("a=/tmp/x,y.img,ro,block=4K").unwrap();
        assert_eq!(s.path, PathBuf::from("/tmp/x,y.img"));
        let o = s.disk().unwrap();
        assert!(o.read_only);
        assert_eq!((o.block_size, o.physical), (4096, None));
        assert_eq!(parse("a=b=c").unwrap().path, PathBuf::from("b=c"));
        for bad in ["", "a", "=b", "a=", "a b=c", "a/b=c"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let s = UnitSpec::parse(Kind::Tape, "t=x.tap,size=1G").unwrap();
        assert_eq!(s.tape().unwrap(), (Some(1 << 30), true));
        let s = UnitSpec::parse(Kind::Tape, "t").unwrap();
        assert!(s.path.as_os_str().is_empty() && s.tape().is_ok());
        let s = UnitSpec::parse(Kind::Changer, "c=dir,slots=4").unwrap();
        assert_eq!(s.changer().unwrap().slots, Some(4));
        for bad in ["t=x.tap,size=1", "t=x.tap,size=1023K"] {
            let s = UnitSpec::parse(Kind::Tape, bad).unwrap();
            assert!(s.tape().is_err(), "{bad}");
        }
        for bad in ["a=b,ro=1", "a=b,block", "a=b,block=0", "a=b,physical=x"] {
            assert!(parse(bad).unwrap().disk().is_err(), "{bad}");
        }
    }
}
