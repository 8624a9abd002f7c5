//! From a text to documents.

use std::sync::Arc;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::conflicts::{self, Place};
use super::reader::{FieldText, Halt, Lines, Reader, is_nothing, narrow};
use super::yaml::{Collection, Content, Node, SyntaxError};
use super::{
    Checksum, ChecksumAlgorithm, DocumentErrors, Field, MAX_DOCUMENTS, MAX_FILE_BYTES, Problem,
};
use crate::model::{AclPatch, Key, MAX_VALUE_BYTES, Plaintext, SecretId};

/// The longest sealed value, in bytes: base64 of the largest value and of 4 KiB around it.
const MAX_SEALED_BYTES: usize = (MAX_VALUE_BYTES + 4_096).div_ceil(3) * 4;

/// One secret as a text describes it. A pointer to it: a file has thousands, and whoever goes through
/// them moves each to somewhere else. What it points to is small for the same reason.
pub struct Document(Box<Parts>);

struct Parts {
    id: Option<SecretId>,
    key: Key,
    value: Option<DocumentValue>,
    checksum: Option<Box<Checksum>>,
    lists: Arc<AclPatch>,
    line: u32,
    lines: Lines,
}

/// The value of a document.
pub enum DocumentValue {
    /// In the clear.
    Plain(Plaintext),
    /// Sealed: the text of the field without blanks and line breaks. Whether it opens is for
    /// whoever has the key.
    Sealed(String),
}

impl Document {
    /// The id, if the document gives one.
    pub fn id(&self) -> Option<&SecretId> {
        self.0.id.as_ref()
    }

    /// The key; the id where the document gives no key.
    pub fn key(&self) -> &Key {
        &self.0.key
    }

    /// The value; none where only lists are to change.
    pub fn value(&self) -> Option<&DocumentValue> {
        self.0.value.as_ref()
    }

    /// Moves the value out.
    pub fn take_value(&mut self) -> Option<DocumentValue> {
        self.0.value.take()
    }

    /// Puts the opened value in the place of the one that the text gave; the checksum, which is of
    /// no more use, goes.
    pub fn opened(&mut self, value: Plaintext) {
        self.0.value = Some(DocumentValue::Plain(value));
        self.0.checksum = None;
    }

    /// The checksum that the plaintext must have. Only a document with a value has one.
    pub fn checksum(&self) -> Option<&Checksum> {
        self.0.checksum.as_deref()
    }

    /// The lists that the document names.
    pub fn lists(&self) -> &AclPatch {
        &self.0.lists
    }

    /// Whether both say the same of the same secret, wherever they stand.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let same_value = match (self.value(), other.value()) {
            (None, None) => true,
            (Some(DocumentValue::Plain(one)), Some(DocumentValue::Plain(other))) => one == other,
            (Some(DocumentValue::Sealed(one)), Some(DocumentValue::Sealed(other))) => one == other,
            _ => false,
        };
        same_value
            && self.id() == other.id()
            && self.key() == other.key()
            && self.checksum() == other.checksum()
            && self.lists() == other.lists()
    }

    /// The line in which the document begins, the first being 1.
    pub fn line(&self) -> usize {
        self.0.line as usize
    }

    /// The line in which a field stands, if the document has it.
    pub fn line_of(&self, field: Field) -> Option<usize> {
        Some(self.0.lines[field.index()] as usize).filter(|&line| line != 0)
    }
}

/// Reads a file of documents: one secret, a list of them, or several YAML documents that are
/// either. Empty YAML documents among others are passed over.
///
/// Scalars are taken as their exact text: `value: 0123` is the four bytes `0123`, `value: true` is
/// `true`. A `value` that YAML reads as null is an error, an entry of a list that it reads as a number
/// or a truth value too.
///
/// # Errors
/// Everything that is wrong, up to [`super::MAX_ERRORS`]; what follows a break of YAML's syntax is
/// not looked at.
pub fn parse(bytes: &[u8]) -> Result<Vec<Document>, DocumentErrors> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(DocumentErrors::whole_text(Problem::FileTooLarge));
    }
    let mut reader = Reader::new(bytes)?;
    let mut file = File::default();
    let read = file.read(&mut reader);
    reader.document = 0;
    // Halted or not: what was read so far may be in conflict as well.
    let File { documents, keys, ids, count } = file;
    if read.is_ok() && count == 0 && reader.error_count() == 0 {
        return Err(DocumentErrors::whole_text(Problem::NoDocument));
    }
    if reader.error_count() < super::MAX_ERRORS {
        // A halt is among the errors.
        let _ = conflicts::report(&mut reader, keys, ids);
    }
    reader.finish().map(|()| documents)
}

#[derive(Default)]
struct File {
    documents: Vec<Document>,
    keys: Vec<(Key, Place)>,
    ids: Vec<(SecretId, Place)>,
    count: usize,
}

impl File {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Halt> {
        while let Some(root) = reader.next_document()? {
            match root {
                Node { tag: None, content: Content::Sequence(mut sequence), .. } => {
                    while let Some(item) = reader.next_item(&mut sequence)? {
                        self.read_secret(reader, item)?;
                    }
                }
                Node { tag, content: Content::Scalar(scalar), .. } if is_nothing(&scalar, tag) => {}
                root => self.read_secret(reader, root)?,
            }
        }
        Ok(())
    }

    fn read_secret<'a>(&mut self, reader: &mut Reader<'a>, node: Node<'a>) -> Result<(), Halt> {
        self.count += 1;
        reader.document = self.count;
        if self.count > MAX_DOCUMENTS {
            reader.report(node.line, Problem::TooManyDocuments)?;
            return Err(Halt);
        }
        let line = node.line;
        match node.content {
            Content::Mapping(mapping) if node.tag.is_none() => {
                self.read_fields(reader, line, mapping)
            }
            _ => {
                let problem = if node.tag.is_some() {
                    SyntaxError::UnknownTag.into()
                } else {
                    Problem::NotADocument
                };
                reader.pass_over(node)?;
                reader.report(line, problem)
            }
        }
    }

    fn read_fields<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        line: usize,
        mut mapping: Collection<'a>,
    ) -> Result<(), Halt> {
        let errors_before = reader.error_count();
        let mut lines = Lines::default();
        let mut draft = Draft::default();
        while let Some((field, node)) = reader.next_field(&mut mapping, Field::all, &mut lines)? {
            draft.read(reader, field, node)?;
        }
        let place =
            |field: Field| Place { line: lines[field.index()] as usize, document: self.count };
        let has = |field: Field| lines[field.index()] != 0;
        if let Some(id) = &draft.id {
            self.ids.push((id.clone(), place(Field::Id)));
        }
        let key = match draft.key.take() {
            Some(key) => Some((key, place(Field::Key))),
            None if has(Field::Key) => None,
            None => match &draft.id {
                Some(id) => match Key::parse(id.as_str()) {
                    Ok(key) => Some((key, place(Field::Id))),
                    Err(error) => {
                        reader.report(place(Field::Id).line, error.into())?;
                        None
                    }
                },
                None if has(Field::Id) => None,
                None => {
                    reader.report(line, Problem::NoKey)?;
                    None
                }
            },
        };
        self.keys.extend(key.clone());
        let checksum = draft.checksum(reader, &lines)?;
        let value = draft.value(reader, &lines)?;
        match key {
            Some((key, _)) if reader.error_count() == errors_before => {
                let Draft { id, lists, .. } = draft;
                let (lists, checksum) = (reader.shared_lists(lists), checksum.map(Box::new));
                let line = narrow(line);
                let parts = Parts { id, key, value, checksum, lists, line, lines };
                self.documents.push(Document(Box::new(parts)));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The fields of a document as they are read, in any order.
#[derive(Default)]
struct Draft<'a> {
    id: Option<SecretId>,
    key: Option<Key>,
    value: Option<FieldText<'a>>,
    encrypted: bool,
    checksum: Option<FieldText<'a>>,
    algorithm: Option<ChecksumAlgorithm>,
    lists: AclPatch,
}

impl<'a> Draft<'a> {
    fn read(&mut self, reader: &mut Reader<'a>, field: Field, node: Node<'a>) -> Result<(), Halt> {
        if let Field::List(list) = field {
            if let Some(slugs) = reader.list(list, node)? {
                self.lists.set(list, slugs);
            }
            return Ok(());
        }
        let line = node.line;
        let tagged = node.tag.is_some();
        let Some(text) = reader.text(field, node)? else { return Ok(()) };
        let written = text.scalar.text.as_str();
        let problem = match field {
            Field::Id => {
                SecretId::parse(written).map(|id| self.id = Some(id)).err().map(Into::into)
            }
            Field::Key => Key::parse(written).map(|key| self.key = Some(key)).err().map(Into::into),
            Field::Encrypted => match written {
                _ if tagged || !text.scalar.plain => Some(Problem::NotTrueOrFalse),
                "true" | "True" | "TRUE" => {
                    self.encrypted = true;
                    None
                }
                "false" | "False" | "FALSE" => None,
                _ => Some(Problem::NotTrueOrFalse),
            },
            Field::ChecksumAlgorithm => {
                self.algorithm = ChecksumAlgorithm::parse(written);
                self.algorithm.is_none().then_some(Problem::UnknownAlgorithm)
            }
            Field::Value => {
                self.value = Some(text);
                None
            }
            Field::Checksum => {
                self.checksum = Some(text);
                None
            }
            Field::List(_) => None,
        };
        problem.map_or(Ok(()), |problem| reader.report(line, problem))
    }

    fn checksum(&self, reader: &mut Reader<'_>, lines: &Lines) -> Result<Option<Checksum>, Halt> {
        let line = |field: Field| lines[field.index()] as usize;
        if line(Field::ChecksumAlgorithm) != 0 && line(Field::Checksum) == 0 {
            reader.report(line(Field::ChecksumAlgorithm), Problem::AlgorithmOfNothing)?;
        }
        let Some(text) = &self.checksum else { return Ok(None) };
        if line(Field::Value) == 0 {
            reader.report(line(Field::Checksum), Problem::ChecksumOfNothing)?;
        }
        if line(Field::ChecksumAlgorithm) != 0 && self.algorithm.is_none() {
            return Ok(None);
        }
        let algorithm = self.algorithm.unwrap_or_default();
        let checksum = Checksum::parse(algorithm, text.scalar.text.as_str());
        if checksum.is_none() {
            reader.report(text.scalar.line, Problem::BadChecksum(algorithm))?;
        }
        Ok(checksum)
    }

    fn value(
        &mut self,
        reader: &mut Reader<'_>,
        lines: &Lines,
    ) -> Result<Option<DocumentValue>, Halt> {
        let Some(FieldText { scalar, binary }) = self.value.take() else {
            if self.encrypted && lines[Field::Value.index()] == 0 {
                let line = lines[Field::Encrypted.index()] as usize;
                reader.report(line, Problem::EncryptedNothing)?;
            }
            return Ok(None);
        };
        let line = scalar.line;
        let value = match (self.encrypted, binary) {
            (true, true) => Err(Problem::Binary(Field::Value)),
            (true, false) => sealed(scalar.text.as_str()),
            (false, true) => decoded(scalar.text.as_str()).and_then(plain),
            (false, false) => plain(scalar.text.into_plaintext()),
        };
        match value {
            Ok(value) => Ok(Some(value)),
            Err(problem) => reader.report(line, problem).map(|()| None),
        }
    }
}

fn sealed(text: &str) -> Result<DocumentValue, Problem> {
    let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    if text.len() > MAX_SEALED_BYTES {
        return Err(Problem::ValueTooLarge);
    }
    Ok(DocumentValue::Sealed(text))
}

fn plain(value: Plaintext) -> Result<DocumentValue, Problem> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(Problem::ValueTooLarge);
    }
    Ok(DocumentValue::Plain(value))
}

/// The bytes of a `!!binary` value.
pub(super) fn decoded(text: &str) -> Result<Plaintext, Problem> {
    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let mut joined = Plaintext::with_capacity(text.len());
    for part in text.split_ascii_whitespace() {
        joined.push(part.as_bytes());
    }
    let mut bytes = Plaintext::default();
    bytes.resize(joined.len().div_ceil(4) * 3);
    let length =
        BASE64.decode_slice(joined.expose(), bytes.expose_mut()).map_err(|_| Problem::NotBase64)?;
    bytes.resize(length);
    Ok(bytes)
}
