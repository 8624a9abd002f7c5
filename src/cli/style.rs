//! What depends on the terminal: colour, width, notes on standard error.

use std::io::{IsTerminal, Write, stderr, stdout};

pub(super) use crate::model::printable;

/// Writes lines to standard error, with escapes for what is unprintable. A caller that has closed it
/// does not want to know.
pub(super) fn note(lines: &str) {
    lines.lines().for_each(|line| raw_note(&printable(line)));
}

/// As [`note`], for a text that may be in colours and holds nothing of others.
pub(super) fn raw_note(text: &str) {
    _ = writeln!(stderr().lock(), "{text}");
}

/// A note that starts with `Warning:`.
pub(super) fn warn(line: &str) {
    let prefix = paint("Warning:", "1;33", stderr().is_terminal());
    raw_note(&format!("{prefix} {}", printable(line)));
}

/// Bold red on standard error, where colour is welcome.
pub(super) fn bold_red(text: &str) -> String {
    paint(text, "1;31", stderr().is_terminal())
}

/// Bold on standard output, where colour is welcome.
pub(super) fn bold(text: &str) -> String {
    paint(text, "1", stdout().is_terminal())
}

/// How many columns standard output has; `None` where it is not a terminal and nothing is cut.
pub(super) fn width() -> Option<usize> {
    let (terminal_size::Width(width), _) = terminal_size::terminal_size_of(stdout())?;
    (width > 0).then_some(width.into())
}

/// Whether colour is welcome on standard error.
pub(super) fn is_coloured() -> bool {
    colour_on(stderr().is_terminal())
}

/// `NO_COLOR` (no-color.org): any value but the empty one turns colour off.
fn colour_on(terminal: bool) -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    terminal && !unwanted
}

fn paint(text: &str, code: &str, terminal: bool) -> String {
    if colour_on(terminal) { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_colour_where_there_is_no_terminal() {
        assert_eq!(paint("x", "1", false), "x");
    }
}
