//! The units on the command line: `--disk NAME=PATH[,option…]` and its like, in
//! the order in which they were given, whatever their kinds.

use crate::error::{Error, Result};
use crate::target::DiskOptions;
use crate::units::parse_size;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::path::PathBuf;

/// What a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A disk.
    Disk,
}

impl Kind {
    const ALL: [Self; 1] = [Self::Disk];

    /// Its option, and its word in the output.
    pub fn word(self) -> &'static str {
        match self {
            Self::Disk => "disk",
        }
    }

    fn form(self) -> &'static str {
        match self {
            Self::Disk => "NAME=PATH[,ro][,block=N][,physical=N]",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Disk => "A disk unit over a file or block device",
        }
    }

    fn long_help(self) -> &'static str {
        match self {
            Self::Disk => {
                "A disk unit over a file or block device\n\nro refuses writes; block is 512 (when not given) or 4096, the size of a logical block; physical the size of a physical one, 4096 when not given."
            }
        }
    }

    /// True for what may follow the path.
    fn knows(self, setting: &str) -> bool {
        let key = setting.split('=').next().unwrap_or_default();
        match self {
            Self::Disk => matches!(key, "ro" | "block" | "physical"),
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
        let (name, mut rest) = text
            .split_once('=')
            .ok_or_else(|| bad("There is no name"))?;
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
        if rest.is_empty() {
            return Err(bad("There is no path"));
        }
        Ok(Self {
            kind,
            name: name.into(),
            path: rest.into(),
            settings,
        })
    }

    fn bad(&self, setting: &str, expected: &str) -> Error {
        Error::usage(format!(
            "--{} {}: found {setting}, expected {expected}",
            self.kind.word(),
            self.name
        ))
    }

    /// The settings of a disk.
    pub fn disk(&self) -> Result<DiskOptions> {
        let mut o = DiskOptions::default();
        for s in &self.settings {
            let (key, value) = s
                .split_once('=')
                .map_or((&**s, None), |(k, v)| (k, Some(v)));
            let bytes = || {
                value
                    .and_then(parse_size)
                    .and_then(|n| u32::try_from(n).ok())
                    .filter(|n| *n != 0)
                    .ok_or_else(|| self.bad(s, "a number of bytes"))
            };
            match (key, value) {
                ("ro", None) => o.read_only = true,
                ("block", _) => o.block_size = bytes()?,
                ("physical", _) => o.physical = Some(bytes()?),
                _ => return Err(self.bad(s, self.kind.form())),
            }
        }
        Ok(o)
    }
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
        for bad in ["a=b,ro=1", "a=b,block", "a=b,block=0", "a=b,physical=x"] {
            assert!(parse(bad).unwrap().disk().is_err(), "{bad}");
        }
    }
}
