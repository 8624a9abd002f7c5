//! What the readers of documents and of sidecars share: fields and lists, and the errors so far.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::yaml::{Collection, Content, Fault, Node, Parser, Scalar, Tag};
use super::{DocumentError, DocumentErrors, Field, MAX_ERRORS, MAX_LIST_SLUGS, Problem};
use crate::model::{AclPatch, ListName, Slug, SlugList};

/// Reads nodes and collects what is wrong with them.
pub(super) struct Reader<'a> {
    parser: Parser<'a>,
    errors: Vec<DocumentError>,
    /// The slugs of all lists: most are in many of them, and share their memory.
    slugs: HashSet<Slug>,
    /// The lists of all documents, likewise.
    patches: HashSet<InOrder>,
    /// The number of the secret at hand.
    pub(super) document: usize,
}

/// Nothing more can be read; the reason is among the errors.
#[derive(Debug)]
pub(super) struct Halt;

/// Lists that are the same only in the same order, which is what somebody wrote and is kept.
struct InOrder(Arc<AclPatch>);

impl InOrder {
    fn names(&self) -> impl Iterator<Item = (ListName, &[Slug])> {
        self.0.iter().map(|(name, list)| (name, list.iter().as_slice()))
    }
}

impl Hash for InOrder {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.names().for_each(|list| list.hash(state));
    }
}

impl PartialEq for InOrder {
    fn eq(&self, other: &Self) -> bool {
        self.names().eq(other.names())
    }
}

impl Eq for InOrder {}

/// The text of a field, with its tag.
pub(super) struct FieldText<'a> {
    pub(super) scalar: Scalar<'a>,
    pub(super) binary: bool,
}

/// In which line each field of a mapping stands; 0 for one that does not.
pub(super) type Lines = [u32; Field::COUNT];

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, DocumentErrors> {
        let parser = Parser::new(bytes).map_err(|Fault { line, error }| {
            DocumentErrors::new(vec![DocumentError { line, document: 0, problem: error.into() }])
        })?;
        let (slugs, patches) = (HashSet::new(), HashSet::new());
        Ok(Self { parser, errors: Vec::new(), slugs, patches, document: 0 })
    }

    /// The errors, if there are any.
    pub(super) fn finish(self) -> Result<(), DocumentErrors> {
        if self.errors.is_empty() { Ok(()) } else { Err(DocumentErrors::new(self.errors)) }
    }

    /// How many errors there are; a document is good if it added none.
    pub(super) fn error_count(&self) -> usize {
        self.errors.len()
    }

    pub(super) fn report(&mut self, line: usize, problem: Problem) -> Result<(), Halt> {
        let document = self.document;
        self.report_of(document, line, problem)
    }

    /// Reports an error of another document than the one at hand.
    pub(super) fn report_of(
        &mut self,
        document: usize,
        line: usize,
        problem: Problem,
    ) -> Result<(), Halt> {
        self.errors.push(DocumentError { line, document, problem });
        if self.errors.len() < MAX_ERRORS {
            return Ok(());
        }
        self.errors.push(DocumentError { line, document, problem: Problem::TooManyErrors });
        Err(Halt)
    }

    fn or_halt<T>(&mut self, result: Result<T, Fault>) -> Result<T, Halt> {
        result.map_err(|Fault { line, error }| {
            let document = self.document;
            self.errors.push(DocumentError { line, document, problem: error.into() });
            Halt
        })
    }

    pub(super) fn next_document(&mut self) -> Result<Option<Node<'a>>, Halt> {
        let next = self.parser.next_document();
        self.or_halt(next)
    }

    pub(super) fn next_item(
        &mut self,
        sequence: &mut Collection<'a>,
    ) -> Result<Option<Node<'a>>, Halt> {
        let next = self.parser.next_item(sequence);
        self.or_halt(next)
    }

    /// The next field of a mapping that is one of `fields` and stands there for the first time, with
    /// the node that is its value. Others are reported and passed over.
    pub(super) fn next_field<I: Iterator<Item = Field>>(
        &mut self,
        mapping: &mut Collection<'a>,
        fields: fn() -> I,
        lines: &mut Lines,
    ) -> Result<Option<(Field, Node<'a>)>, Halt> {
        loop {
            let next = self.parser.next_field(mapping);
            let Some(name) = self.or_halt(next)? else { return Ok(None) };
            let value = self.parser.field_value(mapping);
            let value = self.or_halt(value)?;
            let written = name.text.as_str();
            let Some(field) = fields().find(|field| field.as_str() == written) else {
                let near = Field::nearest(written, fields());
                let quoted = (near.is_some() || is_harmless(written)).then(|| written.to_owned());
                self.report(name.line, Problem::UnknownField { name: quoted, near })?;
                self.pass_over(value)?;
                continue;
            };
            let first = lines[field.index()] as usize;
            if first != 0 {
                self.report(name.line, Problem::DuplicateField { field, first })?;
                self.pass_over(value)?;
                continue;
            }
            lines[field.index()] = narrow(name.line);
            return Ok(Some((field, value)));
        }
    }

    /// The text of a field; none, and the reason reported, if it has no text.
    pub(super) fn text(
        &mut self,
        field: Field,
        node: Node<'a>,
    ) -> Result<Option<FieldText<'a>>, Halt> {
        let line = node.line;
        let problem = match node.content {
            Content::Scalar(scalar) if is_nothing(&scalar, node.tag) => Problem::Empty(field),
            Content::Scalar(scalar) => {
                let binary = node.tag == Some(Tag::Binary);
                if !binary || field == Field::Value {
                    return Ok(Some(FieldText { scalar, binary }));
                }
                Problem::Binary(field)
            }
            _ => {
                self.pass_over(node)?;
                Problem::NotText(field)
            }
        };
        self.report(line, problem)?;
        Ok(None)
    }

    /// The slugs of a list; none, and the reason reported, if it is no list.
    pub(super) fn list(
        &mut self,
        list: ListName,
        node: Node<'a>,
    ) -> Result<Option<SlugList>, Halt> {
        let line = node.line;
        let problem = match node.content {
            Content::Sequence(mut sequence) if node.tag.is_none() => {
                return self.slugs(list, line, &mut sequence).map(Some);
            }
            Content::Scalar(scalar) if is_nothing(&scalar, node.tag) => {
                Problem::Empty(Field::List(list))
            }
            _ => {
                self.pass_over(node)?;
                Problem::NotAList(list)
            }
        };
        self.report(line, problem)?;
        Ok(None)
    }

    fn slugs(
        &mut self,
        list: ListName,
        line: usize,
        sequence: &mut Collection<'a>,
    ) -> Result<SlugList, Halt> {
        let (mut slugs, mut entries) = (Vec::new(), 0);
        while let Some(node) = self.next_item(sequence)? {
            entries += 1;
            if entries > MAX_LIST_SLUGS {
                self.pass_over(node)?;
            } else if let Some(slug) = self.slug(list, node)? {
                slugs.push(slug);
            }
        }
        if entries > MAX_LIST_SLUGS {
            self.report(line, Problem::ListTooLong(list))?;
        }
        Ok(slugs.into_iter().collect())
    }

    fn slug(&mut self, list: ListName, node: Node<'a>) -> Result<Option<Slug>, Halt> {
        let line = node.line;
        let Content::Scalar(scalar) = &node.content else {
            self.pass_over(node)?;
            return self.report(line, Problem::NotASlug(list)).map(|()| None);
        };
        let text = scalar.text.as_str();
        let problem = match node.tag {
            tag if is_nothing(scalar, tag) => Problem::NotASlug(list),
            Some(Tag::Binary) => Problem::Binary(Field::List(list)),
            None if scalar.plain && is_number_or_truth(text) => Problem::UnquotedSlug(list),
            _ => match Slug::parse(text) {
                Ok(slug) => return Ok(Some(self.shared(slug))),
                Err(_) => Problem::BadSlug(list),
            },
        };
        self.report(line, problem).map(|()| None)
    }

    fn shared(&mut self, slug: Slug) -> Slug {
        if let Some(known) = self.slugs.get(&slug) {
            return known.clone();
        }
        self.slugs.insert(slug.clone());
        slug
    }

    /// The one copy of these lists.
    pub(super) fn shared_lists(&mut self, lists: AclPatch) -> Arc<AclPatch> {
        let lists = InOrder(Arc::new(lists));
        if let Some(known) = self.patches.get(&lists) {
            return Arc::clone(&known.0);
        }
        let shared = Arc::clone(&lists.0);
        self.patches.insert(lists);
        shared
    }

    /// Goes over a node and what is in it. The parser bounds how deep that can be.
    pub(super) fn pass_over(&mut self, node: Node<'a>) -> Result<(), Halt> {
        match node.content {
            Content::Scalar(_) => {}
            Content::Sequence(mut sequence) => {
                while let Some(item) = self.next_item(&mut sequence)? {
                    self.pass_over(item)?;
                }
            }
            Content::Mapping(mut mapping) => loop {
                let key = self.parser.next_field(&mut mapping);
                if self.or_halt(key)?.is_none() {
                    break;
                }
                let value = self.parser.field_value(&mapping);
                let value = self.or_halt(value)?;
                self.pass_over(value)?;
            },
        }
        Ok(())
    }
}

/// A line's number as it is kept: a text has at most 64 MiB.
pub(super) fn narrow(line: usize) -> u32 {
    u32::try_from(line).expect("a text has less than 2^32 lines")
}

/// Whether YAML reads the scalar as null.
pub(super) fn is_nothing(scalar: &Scalar<'_>, tag: Option<Tag>) -> bool {
    let null = matches!(scalar.text.as_str(), "" | "~" | "null" | "Null" | "NULL");
    null && scalar.plain && tag.is_none()
}

/// Whether a name cannot well be a part of a value that lost its indentation.
fn is_harmless(name: &str) -> bool {
    const LONGEST: usize = 32;
    (1..=LONGEST).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-'))
}

/// Whether YAML's core schema reads a plain text that could be a slug as something else than a text.
fn is_number_or_truth(text: &str) -> bool {
    let digits_of = |prefix, radix| {
        text.strip_prefix(prefix).is_some_and(|digits: &str| {
            !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix))
        })
    };
    matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
        || text.starts_with(|first: char| first.is_ascii_digit()) && text.parse::<f64>().is_ok()
        || digits_of("0x", 16)
        || digits_of("0o", 8)
}
