//! The position in a text, and what lies between two things in it.

use super::{Fault, SyntaxError};

/// Where in the text the reading is. Every step looks at bytes once and goes forward.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    line_start: usize,
    /// Where the first content of the current line is, if it was looked for.
    content: usize,
}

impl<'a> Cursor<'a> {
    /// The start of a text, its byte order mark skipped.
    ///
    /// # Errors
    /// A character that cannot stand in YAML, or bytes that are no characters.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let fault = |at: usize, error| Fault { line: 1 + count_lines(&bytes[..at]), error };
        let text = std::str::from_utf8(bytes)
            .map_err(|error| fault(error.valid_up_to(), SyntaxError::NotUtf8))?;
        if let Some((at, _)) = text.char_indices().find(|&(at, c)| !is_allowed(c, &bytes[at..])) {
            return Err(fault(at, SyntaxError::Unprintable));
        }
        Ok(Self { text, at: 0, line: 1, line_start: 0, content: usize::MAX })
    }

    pub(super) fn line(&self) -> usize {
        self.line
    }

    pub(super) fn column(&self) -> usize {
        self.at - self.line_start
    }

    /// The byte that comes `ahead` of the position; 0, which no text holds, at the end.
    pub(super) fn byte(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    pub(super) fn at_end(&self) -> bool {
        self.at == self.text.len()
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The text from `start` to `end`, both of them positions.
    pub(super) fn slice(&self, start: usize, end: usize) -> &'a str {
        &self.text[start..end]
    }

    /// Goes forward by `bytes`, none of them a line break.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    pub(super) fn skip_blanks(&mut self) {
        while is_blank(self.byte(0)) {
            self.at += 1;
        }
    }

    /// Goes over one line break, if there is one here.
    pub(super) fn skip_break(&mut self) -> bool {
        let length = match (self.byte(0), self.byte(1)) {
            (b'\n', _) => 1,
            (b'\r', b'\n') => 2,
            _ => return false,
        };
        self.at += length;
        self.line += 1;
        self.line_start = self.at;
        true
    }

    pub(super) fn skip_to_break(&mut self) {
        while !is_break_or_end(self.byte(0)) {
            self.at += 1;
        }
    }

    /// Goes over blanks, comments and line breaks to the next content.
    pub(super) fn skip_to_content(&mut self) {
        loop {
            let line_starts = self.at == self.line_start;
            self.skip_blanks();
            self.skip_comment();
            if line_starts {
                self.content = self.at;
            }
            if !self.skip_break() {
                return;
            }
        }
    }

    /// Goes over a comment, if one can start here: after a blank, or as the first of its line.
    pub(super) fn skip_comment(&mut self) {
        let apart = self.at == self.line_start || is_blank(self.text.as_bytes()[self.at - 1]);
        if self.byte(0) == b'#' && apart {
            self.skip_to_break();
        }
    }

    /// Like [`Cursor::skip_to_content`], where lines are indented by spaces.
    ///
    /// # Errors
    /// The content is indented with a tab.
    pub(super) fn skip_to_block_content(&mut self) -> Result<(), Fault> {
        self.skip_to_content();
        let indentation = &self.text[self.line_start..self.at];
        if self.is_fresh() && !self.at_end() && indentation.contains('\t') {
            return Err(self.fault(SyntaxError::Tab));
        }
        Ok(())
    }

    /// Whether the position is at the first content of its line.
    pub(super) fn is_fresh(&self) -> bool {
        self.at == self.content
    }

    /// Whether a tab is among the blanks before the position.
    pub(super) fn follows_tab(&self) -> bool {
        let before = &self.text.as_bytes()[..self.at];
        before.iter().rev().take_while(|&&byte| is_blank(byte)).any(|&byte| byte == b'\t')
    }

    /// Whether a line `---` or `...` starts here.
    pub(super) fn at_marker(&self) -> bool {
        self.at == self.line_start
            && (self.text[self.at..].starts_with("---") || self.text[self.at..].starts_with("..."))
            && is_blank_or_end(self.byte(3))
    }

    /// Whether `indicator` stands here with a blank or nothing after it.
    pub(super) fn at_indicator(&self, indicator: u8) -> bool {
        self.byte(0) == indicator && is_blank_or_end(self.byte(1))
    }

    pub(super) fn fault(&self, error: SyntaxError) -> Fault {
        Fault { line: self.line, error }
    }
}

pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

pub(super) fn is_break_or_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r' | 0)
}

pub(super) fn is_blank_or_end(byte: u8) -> bool {
    is_blank(byte) || is_break_or_end(byte)
}

pub(super) fn is_flow_indicator(byte: u8) -> bool {
    matches!(byte, b',' | b'[' | b']' | b'{' | b'}')
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte == b'\n').count()
}

/// Whether a character may stand in the text. Those that some YAML readers take for line breaks and
/// others do not may not, nor a carriage return without a line feed.
fn is_allowed(c: char, rest: &[u8]) -> bool {
    match c {
        '\t' | '\n' => true,
        '\r' => rest.get(1) == Some(&b'\n'),
        '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => false,
        _ => !c.is_control(),
    }
}
