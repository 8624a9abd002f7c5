//! What depends on the terminal: colour, width, notes on standard error.

use std::io::{IsTerminal, Write, stderr, stdout};

/// Writes a line to standard error. A caller that has closed it does not want to know.
pub(super) fn note(line: &str) {
    _ = writeln!(stderr().lock(), "{line}");
}

/// A note that starts with `Warning:`.
pub(super) fn warn(line: &str) {
    note(&format!("{} {line}", paint("Warning:", "1;33", stderr().is_terminal())));
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

/// `text` without what could steer a terminal: control characters and the marks that turn the
/// direction of writing are shown as escapes.
pub(super) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_direction_mark(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

fn is_direction_mark(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
    fn nothing_steers_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r\n\t\u{202e}é/值"), "a\\u{1b}[2Jb\\r\\n\\t\\u{202e}é/值");
    }

    #[test]
    fn no_colour_where_there_is_no_terminal() {
        assert_eq!(paint("x", "1", false), "x");
    }
}
