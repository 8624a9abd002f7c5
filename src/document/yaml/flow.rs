//! Collections in brackets.

use super::blocks::{Collection, Content, Form, Node, Parser};
use super::scalar::{Scalar, Text};
use super::{Fault, SyntaxError};

impl<'a> Parser<'a> {
    /// Opens the collection whose bracket is here.
    pub(super) fn open_flow(&mut self, depth: usize) -> Result<Content<'a>, Fault> {
        let opening = self.cursor;
        let collection = self.open(Form::Flow { opening, value: false }, depth)?;
        self.cursor.skip(1);
        Ok(match opening.byte(0) {
            b'[' => Content::Sequence(collection),
            _ => Content::Mapping(collection),
        })
    }

    pub(super) fn next_flow_item(
        &mut self,
        collection: &mut Collection<'a>,
    ) -> Result<Option<Node<'a>>, Fault> {
        if !self.at_flow_entry(collection, b']')? {
            return Ok(None);
        }
        let before = self.cursor.position();
        let node = self.flow_node(collection.depth)?;
        if self.cursor.position() == before {
            return Err(self.cursor.fault(SyntaxError::EmptyEntry));
        }
        Ok(Some(node))
    }

    pub(super) fn next_flow_key(
        &mut self,
        collection: &mut Collection<'a>,
    ) -> Result<Option<Scalar<'a>>, Fault> {
        if !self.at_flow_entry(collection, b'}')? {
            return Ok(None);
        }
        let (line, start) = (self.cursor.line(), self.cursor.position());
        let plain = match self.cursor.byte(0) {
            b'"' | b'\'' => false,
            b'[' | b'{' => return Err(self.cursor.fault(SyntaxError::ComplexKey)),
            b',' => return Err(self.cursor.fault(SyntaxError::EmptyEntry)),
            _ => true,
        };
        let text = self.flow_text(plain)?;
        let span = start..self.cursor.position();
        self.skip_to_flow_content(&collection.form)?;
        let has_value = self.cursor.byte(0) == b':';
        if has_value {
            self.cursor.skip(1);
        }
        if let Form::Flow { value, .. } = &mut collection.form {
            *value = has_value;
        }
        Ok(Some(Scalar { line, plain, text, span }))
    }

    /// A node inside brackets; nothing where the next character ends an entry.
    pub(super) fn flow_node(&mut self, depth: usize) -> Result<Node<'a>, Fault> {
        let mut tag = None;
        let mut tag_span = self.cursor.position()..self.cursor.position();
        let (line, content) = loop {
            self.cursor.skip_to_content();
            let (line, start) = (self.cursor.line(), self.cursor.position());
            if self.cursor.at_marker() {
                return Ok(self.nothing(line, tag, tag_span));
            }
            break match self.cursor.byte(0) {
                b'!' if tag.is_some() => return Err(self.cursor.fault(SyntaxError::TwoTags)),
                b'!' => {
                    tag = Some(self.tag(true)?);
                    tag_span = start..self.cursor.position();
                    continue;
                }
                b',' | b']' | b'}' | 0 => return Ok(self.nothing(line, tag, tag_span)),
                b'[' | b'{' => (line, self.open_flow(depth)?),
                first => {
                    let plain = !matches!(first, b'"' | b'\'');
                    let text = self.flow_text(plain)?;
                    let span = start..self.cursor.position();
                    (line, Content::Scalar(Scalar { line, plain, text, span }))
                }
            };
        };
        Ok(Node { line, tag, tag_span, content })
    }

    fn flow_text(&mut self, plain: bool) -> Result<Text<'a>, Fault> {
        if !plain {
            return self.cursor.quoted(None);
        }
        let mut text = self.plain_start(true)?;
        self.cursor.plain_rest(&mut text, None);
        Ok(text)
    }

    /// Goes to where the next entry begins; false, and after the bracket, if `closing` is next.
    fn at_flow_entry(
        &mut self,
        collection: &mut Collection<'a>,
        closing: u8,
    ) -> Result<bool, Fault> {
        self.skip_to_flow_content(&collection.form)?;
        if !std::mem::replace(&mut collection.first, false) && self.cursor.byte(0) != closing {
            if self.cursor.byte(0) != b',' {
                return Err(self.cursor.fault(SyntaxError::MissingComma));
            }
            self.cursor.skip(1);
            self.skip_to_flow_content(&collection.form)?;
        }
        let ends = self.cursor.byte(0) == closing;
        if ends {
            self.cursor.skip(1);
        }
        Ok(!ends)
    }

    fn skip_to_flow_content(&mut self, form: &Form<'a>) -> Result<(), Fault> {
        self.cursor.skip_to_content();
        match form {
            Form::Flow { opening, .. } if self.cursor.at_end() || self.cursor.at_marker() => {
                Err(opening.fault(SyntaxError::OpenBracket))
            }
            _ => Ok(()),
        }
    }
}
