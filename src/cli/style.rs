//! Colour, where the terminal and the user want it.

use std::env;
use std::io::IsTerminal;

/// Paints words, or leaves them as they are.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    on: bool,
}

impl Style {
    /// For standard error.
    pub fn of_stderr() -> Self {
        let var = |name: &str| env::var(name).ok();
        Self {
            on: wanted(
                var("NO_COLOR").as_deref(),
                var("CLICOLOR_FORCE").as_deref(),
                var("TERM").as_deref(),
                std::io::stderr().is_terminal(),
            ),
        }
    }

    /// `error:`, in bold red.
    pub fn error(self) -> &'static str {
        if self.on {
            "\x1b[1;31merror:\x1b[0m"
        } else {
            "error:"
        }
    }
    /// `warning:`, in yellow.
    pub fn warning(self) -> &'static str {
        if self.on {
            "\x1b[1;33mwarning:\x1b[0m"
        } else {
            "warning:"
        }
    }
    /// `hint:`, in cyan.
    pub fn hint(self) -> &'static str {
        if self.on {
            "\x1b[36mhint:\x1b[0m"
        } else {
            "hint:"
        }
    }
}

/// `NO_COLOR` wins, then `CLICOLOR_FORCE`, then what the terminal can do.
fn wanted(no: Option<&str>, force: Option<&str>, term: Option<&str>, terminal: bool) -> bool {
    if no.is_some_and(|v| !v.is_empty()) {
        return false;
    }
    if force.is_some_and(|v| !v.is_empty() && v != "0") {
        return true;
    }
    terminal && term.is_some_and(|t| t != "dumb")
}

/// True when the terminal can move its cursor.
pub fn can_move() -> bool {
    env::var("TERM").is_ok_and(|t| t != "dumb")
}

#[cfg(test)]
mod tests {
    use super::wanted;

    #[test]
    fn the_environment_decides() {
        let xterm = Some("xterm");
        assert!(wanted(None, None, xterm, true));
        assert!(!wanted(None, None, xterm, false));
        assert!(!wanted(Some("1"), Some("1"), xterm, true));
        assert!(wanted(Some(""), Some("1"), xterm, false));
        assert!(!wanted(None, Some("0"), xterm, false));
        assert!(!wanted(None, None, Some("dumb"), true));
        assert!(wanted(None, Some("1"), Some("dumb"), true));
        assert!(!wanted(None, None, None, true));
    }
}
