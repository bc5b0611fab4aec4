//! The command line as a whole.

use super::exit::TABLE;
use super::progress::When;
use super::{
    cat, diff, extract, generate, image, info, ls, plan, probe, restore, snapshot, still, tape,
    target, verify,
};
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::ffi::OsString;

/// NTFS-aware, image-level backup: image, verify, browse and restore NTFS
/// volumes and disks
///
/// Results go to standard output; progress, warnings and errors to standard
/// error. The source of a backup is opened read-only, always.
#[derive(Debug, Parser)]
#[command(
    name = "ntbak",
    version,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = TABLE
)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of every verb.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// Write JSON lines, one object each, described in docs/json.md
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress and no text about a job that goes well; --quiet without a time is
    /// the same
    #[arg(short = 'q', long = "silent", global = true, overrides_with = "quiet")]
    pub quiet: bool,
    /// More words on standard error
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// When to show progress on standard error
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    pub progress: When,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Image(Box<image::ImageArgs>),
    Plan(plan::PlanArgs),
    Restore(restore::RestoreArgs),
    Verify(verify::VerifyArgs),
    Info(info::InfoArgs),
    Ls(ls::LsArgs),
    Cat(cat::CatArgs),
    Extract(extract::ExtractArgs),
    Diff(diff::DiffArgs),
    Probe(probe::ProbeArgs),
    Target(target::TargetArgs),
    Tape(tape::TapeArgs),
    Snapshot(snapshot::SnapshotArgs),
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
}

impl Verb {
    /// True when standard output carries data, so that words must not go there.
    pub fn takes_stdout(&self) -> bool {
        match self {
            Self::Image(a) => a.to_pipe(),
            Self::Cat(_) | Self::Generate(_) => true,
            _ => false,
        }
    }
}

/// `--quiet` without a time is `--silent`; with one it is the quiet period of `image`.
pub fn silent(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut all: Vec<OsString> = args.collect();
    let end = all.iter().position(|a| a == "--").unwrap_or(all.len());
    let image = all.iter().position(|a| a == "image").unwrap_or(end);
    for i in 1..end {
        let time = |a: &OsString| a.to_str().is_some_and(is_meant_as_time);
        let period = i > image && all.get(i + 1).filter(|_| i + 1 < end).is_some_and(time);
        if all[i] == "--quiet" && !period {
            all[i] = "--silent".into();
        }
    }
    all
}

/// A time, or what somebody took for one: a number with a few letters that is no file.
/// The parser says what is wrong with it.
fn is_meant_as_time(text: &str) -> bool {
    let number = text.strip_prefix('-').unwrap_or(text);
    let letters = number.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let digits = &number[..number.len() - letters.len()];
    let like = number.starts_with(|c: char| c.is_ascii_digit())
        && !digits.ends_with('.')
        && letters.len() <= 7
        && letters.chars().all(|c| c.is_ascii_alphabetic());
    still::time(text).is_ok() || (like && !std::path::Path::new(text).exists())
}

/// The whole command, for help texts, man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_sound() {
        super::command().debug_assert();
    }

    #[test]
    fn one_word_for_two_things() {
        let with = |line: &str| {
            let args = line.split(' ').map(Into::into);
            let out: Vec<_> = super::silent(args)
                .into_iter()
                .map(|a| a.into_string().unwrap())
                .collect();
            out.join(" ")
        };
        for (line, same) in [
            ("ntbak image a b --quiet 3s", true),
            ("ntbak image --quiet 0 a b", true),
            ("ntbak image a b --quiet=500ms", true),
            ("ntbak image a b -- --quiet", true),
            ("ntbak image a b --quiet 1h", true),
            ("ntbak image a b --quiet -1s", true),
            ("ntbak image --quiet 2026-disk.img b", false),
            ("ntbak image --quiet 7.img b", false),
            ("ntbak image a b --quiet", false),
            ("ntbak image --quiet a b", false),
            ("ntbak --quiet image a b", false),
            ("ntbak verify a --quiet", false),
            ("ntbak image a b --quiet -- 3s", false),
        ] {
            let want = match same {
                true => line.to_string(),
                false => line.replace("--quiet", "--silent"),
            };
            assert_eq!(with(line), want);
        }
    }

    #[test]
    fn every_verb_has_an_example_and_the_exit_codes() {
        let mut root = super::command();
        root.build();
        for verb in root
            .get_subcommands_mut()
            .filter(|c| c.get_name() != "help")
        {
            let help = verb.render_long_help().to_string();
            assert!(help.contains("Example"), "{}", verb.get_name());
            assert!(help.contains("Exit codes"), "{}", verb.get_name());
        }
    }
}
