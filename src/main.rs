//! The program: parses its arguments, does one job and exits.

use std::process::ExitCode;

fn main() -> ExitCode {
    ntbak::cli::main()
}
