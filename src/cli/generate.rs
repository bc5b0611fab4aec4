//! `generate`: man pages and shell completions, for packages.

use super::args::command;
use super::console::Console;
use super::exit::{Exit, TABLE};
use crate::error::{Error, Result};
use clap::{Args, Subcommand};
use clap_complete::Shell;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Make man pages and shell completions
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  ntbak generate man /usr/share/man/man1
  ntbak generate completions bash > /usr/share/bash-completion/completions/ntbak

{TABLE}"))]
pub struct GenerateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// One page for the program and one for each verb
    Man {
        /// Directory for the pages; without it all go to standard output
        directory: Option<PathBuf>,
    },
    /// Completions for a shell, to standard output
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// Makes them.
pub fn run(args: &GenerateArgs, console: &Console) -> Result<Exit> {
    let mut stdout = Vec::new();
    match &args.what {
        What::Completions { shell } => {
            clap_complete::generate(*shell, &mut command(), "ntbak", &mut stdout);
        }
        What::Man { directory } => {
            for (name, page) in pages()? {
                match directory {
                    Some(dir) => write(dir, &name, &page)?,
                    None => stdout.extend_from_slice(&page),
                }
            }
        }
    }
    let done = std::io::stdout().lock().write_all(&stdout);
    match done {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            return Err(Error::io("Cannot write to standard output", e));
        }
        _ => {}
    }
    if console.json() {
        let directory = match &args.what {
            What::Man { directory } => directory.as_ref().map(|d| d.display().to_string()),
            What::Completions { .. } => None,
        };
        console.tell("summary", &serde_json::json!({ "directory": directory }));
    }
    Ok(Exit::Done)
}

fn pages() -> Result<Vec<(String, Vec<u8>)>> {
    let mut root = command();
    root.build();
    let mut commands = vec![root.clone()];
    for verb in root.get_subcommands() {
        let name = verb.get_name();
        if !verb.is_hide_set() && name != "help" {
            let full: &'static str = Box::leak(format!("ntbak-{name}").into_boxed_str());
            commands.push(verb.clone().name(full));
        }
    }
    commands
        .into_iter()
        .map(|c| {
            let name = format!("{}.1", c.get_name());
            let mut page = Vec::new();
            clap_mangen::Man::new(c)
                .render(&mut page)
                .map_err(|e| Error::io("Cannot make the man page", e).of(&*name))?;
            Ok((name, page))
        })
        .collect()
}

fn write(dir: &Path, name: &str, page: &[u8]) -> Result<()> {
    let path = dir.join(name);
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(&path, page))
        .map_err(|e| Error::io("Cannot write the man page", e).of(path.display().to_string()))
}
