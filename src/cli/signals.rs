//! Signals: the first one asks the job to stop, the second one ends at once.

use super::console::Console;
use super::exit::Exit;
use crate::error::{Error, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Arc;

/// Watches from now on.
pub fn watch(console: Arc<Console>) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|e| Error::io("Cannot watch for signals", e))?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut asked = false;
            for _ in signals.forever() {
                if asked {
                    std::process::exit(Exit::Interrupted.code().into());
                }
                asked = true;
                console.stop();
            }
        })
        .map(drop)
        .map_err(|e| Error::io("Cannot watch for signals", e))
}
