//! Floor 4: words for people and lines for scripts. One file per verb:
//! arguments, text, JSON lines, and nothing else.
//!
//! | file | subject |
//! |---|---|
//! | `args` | the command line |
//! | `console`, `out`, `progress`, `style`, `text`, `hint`, `sense` | how anything is said |
//! | `exit` | exit codes |
//! | `signals` | what stops a run |
//! | `view`, `tapes`, `values` | arguments that several verbs have |
//! | `still` | options about quiet period and snapshot |
//! | `facts`, `damage`, `check` | what is known about a volume, and what an archive has lost |
//! | the others | one verb each |

mod args;
mod cat;
mod check;
mod console;
mod damage;
mod diff;
mod exit;
mod extract;
mod facts;
mod generate;
mod hint;
mod image;
mod image_tape;
mod info;
mod ls;
mod out;
mod plan;
mod probe;
mod progress;
mod restore;
mod restore_tape;
mod sense;
mod signals;
mod snapshot;
mod still;
mod style;
mod tape;
mod tapes;
mod target;
mod text;
mod values;
mod verify;
mod view;

use args::{Cli, Verb};
use clap::Parser;
use clap::error::ErrorKind as ClapKind;
use console::Console;
use exit::Exit;
use std::process::ExitCode;
use std::sync::Arc;

pub use args::command;

/// Reads the command line, does one job, and tells how it ended.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(args::silent(std::env::args_os())) {
        Ok(cli) => cli,
        Err(e) => return usage(&e).into(),
    };
    let console = Arc::new(Console::new(&cli.common, cli.verb.takes_stdout()));
    let result = signals::watch(console.clone()).and_then(|()| run(&cli.verb, &console));
    let exit = match result {
        Ok(exit) => exit,
        // Whoever read the result has seen enough.
        Err(_) if console.reader_left() => Exit::Done,
        Err(e) => {
            console.error(&e);
            Exit::of(e.kind())
        }
    };
    match console.finish() {
        Ok(()) => exit,
        Err(e) => {
            console.error(&e);
            exit.max(Exit::Failed)
        }
    }
    .into()
}

fn run(verb: &Verb, console: &Console) -> crate::error::Result<Exit> {
    match verb {
        Verb::Image(a) => image::run(a, console),
        Verb::Plan(a) => plan::run(a, console),
        Verb::Restore(a) => restore::run(a, console),
        Verb::Verify(a) => verify::run(a, console),
        Verb::Info(a) => info::run(a, console),
        Verb::Ls(a) => ls::run(a, console),
        Verb::Cat(a) => cat::run(a, console),
        Verb::Extract(a) => extract::run(a, console),
        Verb::Diff(a) => diff::run(a, console),
        Verb::Probe(a) => probe::run(a, console),
        Verb::Target(a) => target::run(a, console),
        Verb::Tape(a) => tape::run(a, console),
        Verb::Snapshot(a) => snapshot::run(a, console),
        Verb::Generate(a) => generate::run(a, console),
    }
}

/// Help and version, or what is wrong with the command line.
fn usage(e: &clap::Error) -> Exit {
    let asked = matches!(e.kind(), ClapKind::DisplayHelp | ClapKind::DisplayVersion);
    let json = std::env::args_os()
        .take_while(|a| a != "--")
        .any(|a| a == "--json");
    if json && !asked {
        let text = e.render().to_string();
        let first = text
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ");
        let row = serde_json::json!({
            "message": first,
            "hint": "`ntbak help` and `ntbak help VERB` tell how it is used",
            "exit_code": Exit::Usage.code(),
        });
        if let Ok(line) = console::encode("error", &row) {
            let mut out = out::Out::stdout();
            let _ = out.put(&line).and_then(|()| out.flush());
        }
    }
    let _ = e.print();
    if asked { Exit::Done } else { Exit::Usage }
}
