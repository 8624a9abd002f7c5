//! Where the fields of documents stand in a text.

use std::ops::Range;

use super::super::yaml::{Collection, Content, Fault, Node, Parser, Tag};
use super::Field;

/// The places of all documents of a text, in their order.
pub(super) struct Places {
    pub(super) documents: Vec<Place>,
    /// The column of the items, if the last document of YAML is a list in lines.
    pub(super) list_at_end: Option<usize>,
}

/// Where the fields of one document stand.
pub(super) struct Place {
    pub(super) fields: Vec<FieldPlace>,
    /// The column of the fields; none in brackets.
    pub(super) column: Option<usize>,
}

pub(super) struct FieldPlace {
    pub(super) field: Field,
    /// Where its name begins.
    pub(super) name: usize,
    pub(super) tag: Option<(Tag, Range<usize>)>,
    /// The bytes of its text, without the tag; that of a list is of no use.
    pub(super) scalar: Range<usize>,
}

impl Place {
    pub(super) fn field(&self, field: Field) -> Option<&FieldPlace> {
        self.fields.iter().find(|place| place.field == field)
    }
}

impl Places {
    /// The places in a text that was parsed without an error, or that has no document.
    pub(super) fn find(bytes: &[u8]) -> Self {
        let mut found = Self { documents: Vec::new(), list_at_end: None };
        let mark = bytes.len() - bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).len();
        let read = Parser::new(bytes).and_then(|parser| found.read(&mut Walk { parser, mark }));
        assert!(read.is_ok(), "the text was read before");
        found
    }

    fn read(&mut self, walk: &mut Walk<'_>) -> Result<(), Fault> {
        while let Some(root) = walk.parser.next_document()? {
            self.list_at_end = None;
            match root.content {
                Content::Sequence(mut items) => {
                    self.list_at_end = items.block_column();
                    while let Some(item) = walk.parser.next_item(&mut items)? {
                        self.documents.extend(walk.document(item)?);
                    }
                }
                content => self.documents.extend(walk.document(Node { content, ..root })?),
            }
        }
        Ok(())
    }
}

struct Walk<'a> {
    parser: Parser<'a>,
    /// The length of the byte order mark, which the parser does not count.
    mark: usize,
}

impl<'a> Walk<'a> {
    /// A document; nothing for the empty one among others.
    fn document(&mut self, node: Node<'a>) -> Result<Option<Place>, Fault> {
        let Content::Mapping(mut mapping) = node.content else { return Ok(None) };
        let column = mapping.block_column();
        let mut fields = Vec::new();
        while let Some(name) = self.parser.next_field(&mut mapping)? {
            let node = self.parser.field_value(&mapping)?;
            let field = Field::all().find(|field| field.as_str() == name.text.as_str());
            let tag = node.tag.map(|tag| (tag, self.range(&node.tag_span)));
            let scalar = match node.content {
                Content::Scalar(scalar) => self.range(&scalar.span),
                Content::Sequence(items) => self.pass_over(items)?,
                Content::Mapping(_) => unreachable!("no field of a document is a mapping"),
            };
            let (field, name) = (field.expect("it was read before"), name.span.start + self.mark);
            fields.push(FieldPlace { field, name, tag, scalar });
        }
        Ok(Some(Place { fields, column }))
    }

    fn pass_over(&mut self, mut items: Collection<'a>) -> Result<Range<usize>, Fault> {
        while self.parser.next_item(&mut items)?.is_some() {}
        Ok(0..0)
    }

    fn range(&self, span: &Range<usize>) -> Range<usize> {
        span.start + self.mark..span.end + self.mark
    }
}
