//! Scalars: plain ones and blocks (`|`, `>`).

use std::ops::Range;

use super::cursor::{Cursor, is_blank, is_blank_or_end, is_break_or_end, is_flow_indicator};
use super::{Fault, SyntaxError};
use crate::model::Plaintext;

/// A scalar as it stands in the text.
pub(in crate::document) struct Scalar<'a> {
    /// The line in which it begins, the first being 1.
    pub(in crate::document) line: usize,
    /// Written without quotes and not as a block: what other readers may take for a number, a truth
    /// value or nothing.
    pub(in crate::document) plain: bool,
    /// Its text.
    pub(in crate::document) text: Text<'a>,
    /// Its bytes in the input, with quotes, without its tag. That of a block ends behind the empty lines after it.
    pub(in crate::document) span: Range<usize>,
}

/// A tag that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::document) enum Tag {
    /// `!!str`, or the bare `!`.
    Text,
    /// `!!binary`.
    Binary,
}

/// The text of a scalar.
pub(in crate::document) enum Text<'a> {
    /// As it stands in the input.
    Borrowed(&'a str),
    /// Put together from several lines or with escapes. Always UTF-8.
    Built(Plaintext),
}

impl<'a> Text<'a> {
    /// The text.
    pub(in crate::document) fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Built(text) => {
                std::str::from_utf8(text.expose()).expect("only `str`s are put into it")
            }
        }
    }

    /// The text as a value of its own.
    pub(in crate::document) fn into_plaintext(self) -> Plaintext {
        match self {
            Self::Borrowed(text) => Plaintext::copy_of(text.as_bytes()),
            Self::Built(text) => text,
        }
    }

    /// Adds text. The first addition to nothing stays borrowed.
    pub(super) fn push(&mut self, more: &'a str) {
        match self {
            Self::Borrowed("") => *self = Self::Borrowed(more),
            Self::Borrowed(text) => {
                let mut built = Plaintext::copy_of(text.as_bytes());
                built.push(more.as_bytes());
                *self = Self::Built(built);
            }
            Self::Built(text) => text.push(more.as_bytes()),
        }
    }

    pub(super) fn push_char(&mut self, c: char) {
        let mut built = match std::mem::replace(self, Self::Borrowed("")) {
            Self::Borrowed(text) => Plaintext::copy_of(text.as_bytes()),
            Self::Built(text) => text,
        };
        let mut buffer = [0; 4];
        built.push(c.encode_utf8(&mut buffer).as_bytes());
        *self = Self::Built(built);
    }

    /// Adds what a line break and `empty` empty lines after it fold to.
    pub(super) fn push_folded(&mut self, empty: usize) {
        if empty == 0 { self.push(" ") } else { self.push_breaks(empty) }
    }

    pub(super) fn push_breaks(&mut self, count: usize) {
        for _ in 0..count {
            self.push("\n");
        }
    }
}

impl<'a> Cursor<'a> {
    /// The part of a plain scalar that stands in this line; empty if none can begin here. Blanks
    /// after it are left.
    pub(super) fn plain_line(&mut self, flow: bool) -> &'a str {
        let start = self.position();
        let (mut length, mut ahead) = (0, 0);
        loop {
            let byte = self.byte(ahead);
            let ends = match byte {
                b':' => {
                    let next = self.byte(ahead + 1);
                    is_blank_or_end(next) || flow && is_flow_indicator(next)
                }
                b'#' => ahead != length,
                _ => is_break_or_end(byte) || flow && is_flow_indicator(byte),
            };
            if ends {
                self.skip(length);
                return self.slice(start, start + length);
            }
            ahead += 1;
            if !is_blank(byte) {
                length = ahead;
            }
        }
    }

    /// Whether a plain scalar can begin here.
    pub(super) fn can_be_plain(&self, flow: bool) -> bool {
        match self.byte(0) {
            b'-' | b'?' | b':' => {
                let next = self.byte(1);
                !(is_blank_or_end(next) || flow && is_flow_indicator(next))
            }
            b'#' | b'&' | b'*' | b'!' | b'|' | b'>' | b'\'' | b'"' | b'%' | b'@' | b'`' => false,
            byte => !is_flow_indicator(byte) && !is_blank_or_end(byte),
        }
    }

    /// Reads on, after the first line of a plain scalar, the lines that belong to it: those that are
    /// indented deeper than `parent` (in a block) or any (in a flow collection: no `parent`).
    pub(super) fn plain_rest(&mut self, text: &mut Text<'a>, parent: Option<isize>) {
        let flow = parent.is_none();
        loop {
            let mut ahead = *self;
            let Some(empty) = ahead.skip_empty_lines() else { return };
            let deep_enough = parent.is_none_or(|parent| ahead.column_signed() > parent);
            if !deep_enough || ahead.at_marker() || ahead.at_end() {
                return;
            }
            ahead.skip_blanks();
            if ahead.byte(0) == b'#' {
                return;
            }
            let line = ahead.plain_line(flow);
            if line.is_empty() {
                return;
            }
            text.push_folded(empty);
            text.push(line);
            *self = ahead;
        }
    }

    /// Goes from the end of a line's content over the break and the empty lines after it, to after
    /// the spaces of the next line that is not empty. Tells how many lines were empty; nothing if
    /// something other than a break follows.
    pub(super) fn skip_empty_lines(&mut self) -> Option<usize> {
        self.skip_blanks();
        if !self.skip_break() {
            return None;
        }
        let mut empty = 0;
        loop {
            let mut ahead = *self;
            ahead.skip_blanks();
            if !ahead.skip_break() {
                while self.byte(0) == b' ' {
                    self.skip(1);
                }
                return Some(empty);
            }
            *self = ahead;
            empty += 1;
        }
    }

    pub(super) fn column_signed(&self) -> isize {
        self.column().cast_signed()
    }

    /// Reads a block scalar from its `|` or `>`; its lines are indented deeper than `parent`.
    pub(super) fn block_scalar(&mut self, parent: isize) -> Result<Text<'a>, Fault> {
        let folded = self.byte(0) == b'>';
        self.skip(1);
        let Header { indentation, chomping } = self.block_header()?;
        let mut text = Text::Borrowed("");
        let Some(indentation) = self.find_indentation(parent, indentation)? else {
            // No content: every line up to here was empty, and only `+` keeps them.
            let mut empty = 0;
            while self.skip_line_of_spaces() {
                empty += 1;
            }
            text.push_breaks(if chomping == Chomping::Keep { empty } else { 0 });
            return Ok(text);
        };
        // The break after the last line, the empty lines after that, and whether that line was
        // indented deeper: all as of the line before the one at hand.
        let (mut last_break, mut empty, mut was_deeper, mut first) = (0, 0, false, true);
        loop {
            let mut ahead = *self;
            while ahead.column() < indentation && ahead.byte(0) == b' ' {
                ahead.skip(1);
            }
            if ahead.skip_break() {
                empty += 1;
                *self = ahead;
                continue;
            }
            if ahead.column() < indentation && ahead.byte(0) == b'\t' {
                return Err(ahead.fault(SyntaxError::Tab));
            }
            if ahead.column() < indentation || ahead.at_end() || ahead.at_marker() {
                break;
            }
            *self = ahead;
            let deeper = is_blank(self.byte(0));
            if folded && !first && !was_deeper && !deeper {
                text.push_folded(empty);
            } else {
                text.push_breaks(last_break + empty);
            }
            let start = self.position();
            self.skip_to_break();
            text.push(self.slice(start, self.position()));
            (was_deeper, first, empty) = (deeper, false, 0);
            last_break = usize::from(self.skip_break());
        }
        match chomping {
            Chomping::Strip => {}
            Chomping::Clip => text.push_breaks(last_break),
            Chomping::Keep => text.push_breaks(last_break + empty),
        }
        Ok(text)
    }

    fn block_header(&mut self) -> Result<Header, Fault> {
        let mut header = Header { indentation: None, chomping: Chomping::Clip };
        for _ in 0..2 {
            match self.byte(0) {
                digit @ b'1'..=b'9' if header.indentation.is_none() => {
                    header.indentation = Some(usize::from(digit - b'0'));
                }
                b'+' if header.chomping == Chomping::Clip => header.chomping = Chomping::Keep,
                b'-' if header.chomping == Chomping::Clip => header.chomping = Chomping::Strip,
                _ => break,
            }
            self.skip(1);
        }
        self.skip_blanks();
        self.skip_comment();
        if self.skip_break() || self.at_end() {
            Ok(header)
        } else {
            Err(self.fault(SyntaxError::BlockHeader))
        }
    }

    /// The column at which the lines of a block scalar begin; none if it has no lines.
    fn find_indentation(
        &self,
        parent: isize,
        given: Option<usize>,
    ) -> Result<Option<usize>, Fault> {
        if let Some(given) = given {
            return Ok(Some(parent.max(0).cast_unsigned() + given));
        }
        let (mut ahead, mut deepest) = (*self, 0);
        while ahead.skip_line_of_spaces_noting(&mut deepest) {}
        let is_content = ahead.column_signed() > parent;
        // After the indentation, a tab is the first character of the text.
        if ahead.byte(0) == b'\t' && !is_content {
            return Err(ahead.fault(SyntaxError::Tab));
        }
        if ahead.at_end() || !is_content || ahead.at_marker() {
            return Ok(None);
        }
        if deepest > ahead.column() {
            return Err(ahead.fault(SyntaxError::Indentation));
        }
        Ok(Some(ahead.column()))
    }

    fn skip_line_of_spaces(&mut self) -> bool {
        let mut ahead = *self;
        let skipped = ahead.skip_line_of_spaces_noting(&mut 0);
        if skipped {
            *self = ahead;
        }
        skipped
    }

    /// Goes over spaces and, if nothing else is in the line, its break.
    fn skip_line_of_spaces_noting(&mut self, deepest: &mut usize) -> bool {
        while self.byte(0) == b' ' {
            self.skip(1);
        }
        let column = self.column();
        let skipped = self.skip_break();
        if skipped {
            *deepest = (*deepest).max(column);
        }
        skipped
    }
}

struct Header {
    indentation: Option<usize>,
    chomping: Chomping,
}

/// What becomes of the line breaks at the end of a block scalar.
#[derive(PartialEq)]
enum Chomping {
    Clip,
    Strip,
    Keep,
}
