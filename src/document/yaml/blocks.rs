//! Documents, and collections written as indented lines.

use std::ops::Range;

use super::cursor::Cursor;
use super::scalar::{Scalar, Tag, Text};
use super::{Fault, MAX_DEPTH, SyntaxError};

/// Reads a text node by node. Whoever gets a [`Content::Sequence`] or [`Content::Mapping`] reads
/// its entries to the end before anything else. After a [`Fault`] nothing more can be read.
pub(in crate::document) struct Parser<'a> {
    pub(super) cursor: Cursor<'a>,
    /// Whether a document may begin without `---`.
    bare: bool,
}

/// A node of a document.
pub(in crate::document) struct Node<'a> {
    /// The line in which it begins; of an absent one, the line in which it could have begun.
    pub(in crate::document) line: usize,
    /// Its tag.
    pub(in crate::document) tag: Option<Tag>,
    /// The bytes of its tag in the input; where it would stand, if it has none.
    pub(in crate::document) tag_span: Range<usize>,
    /// What it is.
    pub(in crate::document) content: Content<'a>,
}

/// What a node is.
pub(in crate::document) enum Content<'a> {
    /// A text; the empty plain one where nothing stands.
    Scalar(Scalar<'a>),
    /// A list, read with [`Parser::next_item`].
    Sequence(Collection<'a>),
    /// Fields, read with [`Parser::next_field`] and [`Parser::field_value`].
    Mapping(Collection<'a>),
}

/// A collection that is being read.
pub(in crate::document) struct Collection<'a> {
    pub(super) form: Form<'a>,
    /// How many collections it is in, itself counted.
    pub(super) depth: usize,
    /// Whether no entry has been read.
    pub(super) first: bool,
}

impl Collection<'_> {
    /// The column at which its entries begin; none of one in brackets.
    pub(in crate::document) fn block_column(&self) -> Option<usize> {
        match self.form {
            Form::Block { column, .. } => usize::try_from(column).ok(),
            Form::Flow { .. } => None,
        }
    }
}

pub(super) enum Form<'a> {
    /// Indented lines that begin at this column. `key`: the first key of a mapping, which had to be
    /// read to tell that it is one.
    Block { column: isize, key: Option<Scalar<'a>> },
    /// In brackets; the opening one stands at `opening`. `value`: the key just read has a value.
    Flow { opening: Cursor<'a>, value: bool },
}

impl<'a> Parser<'a> {
    /// Begins to read `bytes`.
    ///
    /// # Errors
    /// A character that cannot stand in YAML, or bytes that are no characters.
    pub(in crate::document) fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        Ok(Self { cursor: Cursor::new(bytes)?, bare: true })
    }

    /// The root of the next document, if there is one.
    pub(in crate::document) fn next_document(&mut self) -> Result<Option<Node<'a>>, Fault> {
        loop {
            self.cursor.skip_to_block_content()?;
            if self.cursor.at_end() {
                return Ok(None);
            }
            if !self.cursor.is_fresh() {
                return Err(self.cursor.fault(SyntaxError::UnexpectedText));
            }
            if !self.cursor.at_marker() {
                let error = match self.cursor.byte(0) {
                    b'%' => SyntaxError::Directive,
                    _ if !self.bare => SyntaxError::Indentation,
                    _ => break,
                };
                return Err(self.cursor.fault(error));
            }
            let begins = self.cursor.byte(0) == b'-';
            self.cursor.skip(3);
            self.bare = !begins;
            if begins {
                break;
            }
        }
        self.bare = false;
        self.block_node(-1, false, false, 0).map(Some)
    }

    /// The next entry of a sequence.
    pub(in crate::document) fn next_item(
        &mut self,
        collection: &mut Collection<'a>,
    ) -> Result<Option<Node<'a>>, Fault> {
        let Form::Block { column, .. } = collection.form else {
            return self.next_flow_item(collection);
        };
        if !self.at_entry(collection, column)? || !self.cursor.at_indicator(b'-') {
            return Ok(None);
        }
        self.cursor.skip(1);
        self.block_node(column, true, false, collection.depth).map(Some)
    }

    /// The next key of a mapping. Its value must be read next.
    pub(in crate::document) fn next_field(
        &mut self,
        collection: &mut Collection<'a>,
    ) -> Result<Option<Scalar<'a>>, Fault> {
        let Form::Block { column, key } = &mut collection.form else {
            return self.next_flow_key(collection);
        };
        if let Some(key) = key.take() {
            collection.first = false;
            return Ok(Some(key));
        }
        let column = *column;
        if !self.at_entry(collection, column)? {
            return Ok(None);
        }
        let (line, start) = (self.cursor.line(), self.cursor.position());
        let plain = !matches!(self.cursor.byte(0), b'"' | b'\'');
        let text = self.first_line(column)?;
        let span = start..self.cursor.position();
        if self.cursor.line() != line || !self.skip_colon() {
            let error = if plain { SyntaxError::NotAField } else { SyntaxError::UnexpectedText };
            return Err(Fault { line, error });
        }
        Ok(Some(Scalar { line, plain, text, span }))
    }

    /// The value of the key that was read last.
    pub(in crate::document) fn field_value(
        &mut self,
        collection: &Collection<'a>,
    ) -> Result<Node<'a>, Fault> {
        match collection.form {
            Form::Block { column, .. } => self.block_node(column, false, true, collection.depth),
            Form::Flow { value: true, .. } => self.flow_node(collection.depth),
            Form::Flow { value: false, .. } => {
                let here = self.cursor.position();
                Ok(self.nothing(self.cursor.line(), None, here..here))
            }
        }
    }

    /// Goes to where the next entry of a block collection begins; false if none does.
    fn at_entry(&mut self, collection: &mut Collection<'a>, column: isize) -> Result<bool, Fault> {
        self.cursor.skip_to_block_content()?;
        let first = std::mem::replace(&mut collection.first, false);
        if self.cursor.at_end() || self.cursor.at_marker() {
            return Ok(false);
        }
        if !first && !self.cursor.is_fresh() {
            return Err(self.cursor.fault(SyntaxError::UnexpectedText));
        }
        if self.cursor.column_signed() > column {
            return Err(self.cursor.fault(SyntaxError::Indentation));
        }
        Ok(self.cursor.column_signed() == column)
    }

    /// A node in a block: in lines indented deeper than `parent`, or in the rest of this line. There
    /// a collection may begin only if it is `compact` (after `- `). An `indentless` sequence may stand
    /// at the column of its parent itself.
    fn block_node(
        &mut self,
        parent: isize,
        mut compact: bool,
        indentless: bool,
        depth: usize,
    ) -> Result<Node<'a>, Fault> {
        let mut line = self.cursor.line();
        let mut tag = None;
        let mut tag_span = self.cursor.position()..self.cursor.position();
        loop {
            self.cursor.skip_to_block_content()?;
            let column = self.cursor.column_signed();
            let here =
                column > parent || indentless && column == parent && self.cursor.at_indicator(b'-');
            let fresh = self.cursor.is_fresh();
            if self.cursor.at_end() || self.cursor.at_marker() || fresh && !here {
                return Ok(self.nothing(line, tag, tag_span));
            }
            line = self.cursor.line();
            if self.cursor.byte(0) != b'!' {
                compact |= fresh;
                break;
            }
            if tag.is_some() {
                return Err(self.cursor.fault(SyntaxError::TwoTags));
            }
            let start = self.cursor.position();
            tag = Some(self.tag(false)?);
            tag_span = start..self.cursor.position();
            compact = false;
        }
        let start = self.cursor.position();
        let column = self.cursor.column_signed();
        let after_tab = self.cursor.follows_tab();
        let content = match self.cursor.byte(0) {
            b'-' if self.cursor.at_indicator(b'-') => {
                if !compact {
                    return Err(self.cursor.fault(SyntaxError::UnexpectedDash));
                }
                Content::Sequence(self.open_block(column, None, after_tab, depth)?)
            }
            b'[' | b'{' => self.open_flow(depth)?,
            b'|' | b'>' => {
                let text = self.cursor.block_scalar(parent)?;
                let span = start..self.cursor.position();
                Content::Scalar(Scalar { line, plain: false, text, span })
            }
            first => {
                let plain = !matches!(first, b'"' | b'\'');
                let mut text = self.first_line(parent)?;
                let one_line = self.cursor.line() == line;
                let span = start..self.cursor.position();
                if one_line && compact && self.skip_colon() {
                    let key = Some(Scalar { line, plain, text, span });
                    Content::Mapping(self.open_block(column, key, after_tab, depth)?)
                } else {
                    if plain {
                        self.cursor.plain_rest(&mut text, Some(parent));
                    }
                    let span = start..self.cursor.position();
                    if self.skip_colon() {
                        return Err(self.cursor.fault(SyntaxError::UnexpectedColon));
                    }
                    Content::Scalar(Scalar { line, plain, text, span })
                }
            }
        };
        Ok(Node { line, tag, tag_span, content })
    }

    /// A quoted scalar, or the first line of a plain one.
    fn first_line(&mut self, parent: isize) -> Result<Text<'a>, Fault> {
        match self.cursor.byte(0) {
            b'"' | b'\'' => self.cursor.quoted(Some(parent)),
            _ => self.plain_start(false),
        }
    }

    /// The first line of a plain scalar.
    pub(super) fn plain_start(&mut self, flow: bool) -> Result<Text<'a>, Fault> {
        if self.cursor.can_be_plain(flow) {
            return Ok(Text::Borrowed(self.cursor.plain_line(flow)));
        }
        Err(self.cursor.fault(match self.cursor.byte(0) {
            b'&' | b'*' => SyntaxError::Anchor,
            b'!' => SyntaxError::UnknownTag,
            b'?' => SyntaxError::ComplexKey,
            b'-' => SyntaxError::UnexpectedDash,
            b':' => SyntaxError::UnexpectedColon,
            _ => SyntaxError::Reserved,
        }))
    }

    /// Goes over a colon that ends a key, if one is next in this line.
    fn skip_colon(&mut self) -> bool {
        let mut ahead = self.cursor;
        ahead.skip_blanks();
        let found = ahead.at_indicator(b':');
        if found {
            ahead.skip(1);
            self.cursor = ahead;
        }
        found
    }

    /// Reads a tag from its `!`.
    pub(super) fn tag(&mut self, flow: bool) -> Result<Tag, Fault> {
        use super::cursor::{is_blank_or_end, is_flow_indicator};
        let start = self.cursor.position();
        let line = self.cursor.line();
        while !(is_blank_or_end(self.cursor.byte(0))
            || flow && is_flow_indicator(self.cursor.byte(0)))
        {
            self.cursor.skip(1);
        }
        match self.cursor.slice(start, self.cursor.position()) {
            "!" | "!!str" | "!<tag:yaml.org,2002:str>" => Ok(Tag::Text),
            "!!binary" | "!<tag:yaml.org,2002:binary>" => Ok(Tag::Binary),
            _ => Err(Fault { line, error: SyntaxError::UnknownTag }),
        }
    }

    pub(super) fn nothing(
        &self,
        line: usize,
        tag: Option<Tag>,
        tag_span: Range<usize>,
    ) -> Node<'a> {
        let span = tag_span.end..tag_span.end;
        let scalar = Scalar { line, plain: true, text: Text::Borrowed(""), span };
        Node { line, tag, tag_span, content: Content::Scalar(scalar) }
    }

    fn open_block(
        &self,
        column: isize,
        key: Option<Scalar<'a>>,
        after_tab: bool,
        depth: usize,
    ) -> Result<Collection<'a>, Fault> {
        if after_tab {
            return Err(self.cursor.fault(SyntaxError::Tab));
        }
        self.open(Form::Block { column, key }, depth)
    }

    pub(super) fn open(&self, form: Form<'a>, depth: usize) -> Result<Collection<'a>, Fault> {
        if depth == MAX_DEPTH {
            return Err(self.cursor.fault(SyntaxError::TooDeep));
        }
        Ok(Collection { form, depth: depth + 1, first: true })
    }
}
