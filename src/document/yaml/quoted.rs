//! Scalars in quotes.

use super::cursor::{Cursor, is_break_or_end};
use super::scalar::Text;
use super::{Fault, SyntaxError};

impl<'a> Cursor<'a> {
    /// Reads a quoted scalar from its opening quote to after the closing one. In a block its lines
    /// are indented at least as deep as `parent`.
    pub(super) fn quoted(&mut self, parent: Option<isize>) -> Result<Text<'a>, Fault> {
        let opening = *self;
        let quote = self.byte(0);
        self.skip(1);
        let mut text = Text::Borrowed("");
        loop {
            let chunk = self.chunk(quote);
            match self.byte(0) {
                0 => return Err(opening.fault(SyntaxError::OpenQuote)),
                b'\n' | b'\r' => {
                    text.push(chunk.trim_end_matches([' ', '\t']));
                    let empty = self.fold(&opening, parent)?;
                    text.push_folded(empty);
                }
                b'\\' => {
                    text.push(chunk);
                    self.escape(&mut text, &opening, parent)?;
                }
                _ if quote == b'\'' && self.byte(1) == quote => {
                    text.push(chunk);
                    text.push("'");
                    self.skip(2);
                }
                _ => {
                    text.push(chunk);
                    self.skip(1);
                    return Ok(text);
                }
            }
        }
    }

    /// The text up to the next character with a meaning.
    fn chunk(&mut self, quote: u8) -> &'a str {
        let start = self.position();
        loop {
            let byte = self.byte(0);
            if is_break_or_end(byte) || byte == quote || byte == b'\\' && quote == b'"' {
                return self.slice(start, self.position());
            }
            self.skip(1);
        }
    }

    /// Goes over a line break and what indents the next line; tells how many empty lines were
    /// between.
    fn fold(&mut self, opening: &Self, parent: Option<isize>) -> Result<usize, Fault> {
        let empty = self.skip_empty_lines().unwrap_or(0);
        if self.at_end() || self.at_marker() {
            return Err(opening.fault(SyntaxError::OpenQuote));
        }
        if parent.is_some_and(|parent| self.column_signed() < parent) {
            return Err(self.fault(SyntaxError::QuoteIndentation));
        }
        self.skip_blanks();
        Ok(empty)
    }

    fn escape(
        &mut self,
        text: &mut Text<'a>,
        opening: &Self,
        parent: Option<isize>,
    ) -> Result<(), Fault> {
        self.skip(1);
        let escaped = self.byte(0);
        if matches!(escaped, b'\n' | b'\r') {
            let empty = self.fold(opening, parent)?;
            text.push_breaks(empty);
            return Ok(());
        }
        let c = match escaped {
            b'0' => '\0',
            b'a' => '\x07',
            b'b' => '\x08',
            b't' | b'\t' => '\t',
            b'n' => '\n',
            b'v' => '\x0b',
            b'f' => '\x0c',
            b'r' => '\r',
            b'e' => '\x1b',
            b' ' | b'"' | b'/' | b'\\' => char::from(escaped),
            b'N' => '\u{85}',
            b'_' => '\u{a0}',
            b'L' => '\u{2028}',
            b'P' => '\u{2029}',
            b'x' => self.character(2)?,
            b'u' => self.character(4)?,
            b'U' => self.character(8)?,
            _ => return Err(self.fault(SyntaxError::BadEscape)),
        };
        self.skip(1);
        text.push_char(c);
        Ok(())
    }

    /// The character that the `digits` digits after the position stand for. JSON writes one beyond U+FFFF as
    /// two escapes, a surrogate pair (RFC 8259, section 7). The position moves to the last digit.
    fn character(&mut self, digits: usize) -> Result<char, Fault> {
        let mut code = self.hexadecimal(digits)?;
        if digits == 4
            && (0xd800..0xdc00).contains(&code)
            && (self.byte(1), self.byte(2)) == (b'\\', b'u')
        {
            let first = code;
            self.skip(2);
            let second = self.hexadecimal(4)?;
            code = match second {
                0xdc00..0xe000 => 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                _ => first,
            };
        }
        char::from_u32(code).ok_or_else(|| self.fault(SyntaxError::BadEscape))
    }

    fn hexadecimal(&mut self, digits: usize) -> Result<u32, Fault> {
        let mut code = 0;
        for _ in 0..digits {
            self.skip(1);
            let digit = char::from(self.byte(0)).to_digit(16);
            // Eight digits fit.
            code = code << 4 | digit.ok_or_else(|| self.fault(SyntaxError::BadEscape))?;
        }
        Ok(code)
    }
}
